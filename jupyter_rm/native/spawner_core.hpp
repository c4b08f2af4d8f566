// The spawner: threads that start processes, wait for their ends and hand allocations on to queued launches.
//
// All threads wait on one epoll set that holds a pidfd per process, so whichever thread is idle takes the next end,
// reaps it and starts the successor itself. While successors are queued, a thread stays with its process instead: it
// moves to that allocation's CPUs, waits for the end and starts the next there, which costs short tasks a tenth less.
// Nothing here knows Python or the wire: spawner_host.hpp feeds it.
// One mutex guards all state. It is never held across clone, wait4 or a sweep.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <queue>
#include <thread>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "spawner_events.hpp"

namespace jrm {

class Core : public std::enable_shared_from_this<Core> {
public:
    // Events are written to `out`, a pipe that does not block.
    Core(int out, bool sweep) : events_(out), sweep_(sweep) {
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
        stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        ok_ = epoll_ >= 0 && wake_ >= 0 && stop_ >= 0 && timer_ >= 0;
        watch(wake_, TAG_WAKE);
        watch(stop_, TAG_STOP);
        watch(timer_, TAG_TIMER);
        // An empty range closes nothing: this only asks whether the call exists and is allowed.
        close_range_ = syscall(SYS_close_range, ~0u, ~0u, 0) == 0;
        // A parent may have left SIGCHLD ignored (batch systems, nohup-like wrappers): the kernel would then
        // reap our children and their status would be lost.
        struct sigaction a;
        if (sigaction(SIGCHLD, nullptr, &a) == 0 && (a.sa_handler == SIG_IGN || (a.sa_flags & SA_NOCLDWAIT))) {
            a.sa_flags &= ~SA_NOCLDWAIT;
            if (a.sa_handler == SIG_IGN) a.sa_handler = SIG_DFL;
            sigaction(SIGCHLD, &a, nullptr);
        }
    }
    ~Core() {
        for (auto &pool : pools_)
            for (Task *t : pool.second)
                if (t->state == State::DROPPED) delete t;
        for (auto &entry : tasks_) delete entry.second;
        for (int fd : {epoll_, wake_, stop_, timer_})
            if (fd >= 0) close(fd);
    }

    bool ok() const { return ok_; }

    // The limit on open files that tasks get back, when this program has raised its own.
    void give_back_nofile(const rlimit &original) { nofile_ = original; }

    void run_threads(int n) {
        // Two threads serve everybody else, so that one hung start holds up nothing.
        stay_most_ = std::max(1, n - 2);
        for (int i = 0; i < n; i++) {
            alive_++;
            // Signals belong to the program's own threads, and a child born here starts with everything blocked.
            sigset_t all, before;
            sigfillset(&all);
            pthread_sigmask(SIG_SETMASK, &all, &before);
            threads_.emplace_back([self = shared_from_this()] { self->thread_main(); });
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
        }
    }

    // Every launch gets an allocation and starts as soon as a thread is free. False: a token is in use, or closed.
    bool start(uint64_t pool, std::vector<std::pair<uint64_t, std::unique_ptr<Launch>>> &given, uint64_t &bad) {
        std::unique_lock lock(mutex_);
        if (!accept(given, bad)) return false;
        for (auto &[alloc, launch] : given) {
            Task *t = add(pool, std::move(launch));
            t->alloc = alloc;
            t->cpus = t->launch.cpus;
            make_ready(t);
        }
        lock.unlock();
        wake(given.size());
        return true;
    }

    bool queue(uint64_t pool, std::vector<std::pair<uint64_t, std::unique_ptr<Launch>>> &given, uint64_t &bad) {
        std::lock_guard lock(mutex_);
        if (!accept(given, bad)) return false;
        auto &line = pools_[pool];
        for (auto &item : given) line.push_back(add(pool, std::move(item.second)));
        return true;
    }

    // Give one more allocation to the first queued launch of a pool; its token, or 0 when none is queued.
    uint64_t feed(uint64_t pool, uint64_t alloc, CpuMask cpus) {
        std::unique_lock lock(mutex_);
        Task *t = closed_ ? nullptr : next_of(pool);
        if (!t) return 0;
        t->alloc = alloc;
        t->cpus = std::move(cpus);
        make_ready(t);
        const uint64_t token = t->launch.token;
        lock.unlock();
        wake(1);
        return token;
    }

    std::vector<uint64_t> retract(uint64_t pool, int64_t n) {
        std::lock_guard lock(mutex_);
        std::vector<uint64_t> out;
        auto it = pools_.find(pool);
        if (it == pools_.end()) return out;
        auto &line = it->second;
        while (!line.empty() && (n < 0 || static_cast<int64_t>(out.size()) < n)) {
            Task *t = line.back();
            line.pop_back();
            if (t->state != State::DROPPED) {
                out.push_back(t->launch.token);
                tasks_.erase(t->launch.token);
            }
            delete t;
        }
        if (line.empty()) pools_.erase(it);
        return out;
    }

    void cancel(const std::vector<uint64_t> &tokens) {
        std::lock_guard lock(mutex_);
        for (uint64_t token : tokens) {
            auto it = tasks_.find(token);
            if (it != tasks_.end()) cancel_one(it->second, WAS_CANCELLED, it->second->launch.grace);
        }
    }

    // Send a signal to the whole process group of a running task. False: it is not running.
    bool signal(uint64_t token, int sig) {
        std::lock_guard lock(mutex_);
        auto it = tasks_.find(token);
        if (it == tasks_.end()) return false;
        Task *t = it->second;
        const bool there = t->state == State::RUNNING || (t->state == State::SWEEPING && group_lives(t->pid));
        return there && kill(-t->pid, sig) == 0;
    }

    bool stopped() {
        std::lock_guard lock(mutex_);
        return stopping_;
    }
    size_t running() {
        std::lock_guard lock(mutex_);
        return live_;
    }
    size_t queued() {
        std::lock_guard lock(mutex_);
        return tasks_.size() - live_;
    }

    // Drop all queues; then end what runs (kill) or let it run on. Bounded: about `grace` + 3 s at worst.
    void close_down(bool kill_all, double grace) {
        {
            std::unique_lock lock(mutex_);
            if (closed_ && (stopping_ || !kill_all)) return;
            closed_ = true;
            close_grace_ = grace;
            std::vector<Task *> all;
            for (auto &entry : tasks_) all.push_back(entry.second);
            for (Task *t : all)
                if (kill_all || t->state == State::QUEUED) cancel_one(t, WAS_CANCELLED, std::min(grace, t->launch.grace));
            if (!kill_all && live_ > 0) {
                // Their lifetime is tied to the threads (PDEATHSIG), so the threads stay until the last has ended.
                for (auto &thread : threads_) thread.detach();
                threads_.clear();
                return;
            }
            idle_.wait_for(lock, std::chrono::duration<double>(grace + 2.0), [this] { return live_ == 0; });
            stop();
            // A thread can hang in its vfork when the child hangs in the kernel (a dead NFS server): leave it behind.
            const bool gone = idle_.wait_for(lock, std::chrono::seconds(1), [this] { return alive_ == 0; });
            if (!gone)
                for (auto &thread : threads_) thread.detach();
        }
        for (auto &thread : threads_)
            if (thread.joinable()) thread.join();
        threads_.clear();
    }

    void flush_all(double patience) {
        std::lock_guard lock(mutex_);
        events_.flush_all(patience);
    }

private:
    static constexpr uint64_t TAG_WAKE = 1, TAG_STOP = 2, TAG_TIMER = 3;  // anything above is a Task*

    enum class Alarm : uint8_t { TIMEOUT, KILL, SWEEP };
    struct Due {
        double at;
        uint64_t token, serial;  // the serial tells a later task with the same token apart
        Alarm what;
        bool operator<(const Due &o) const { return at > o.at; }
    };

    void watch(int fd, uint64_t tag) {
        epoll_event ev{};
        ev.events = EPOLLIN;
        ev.data.u64 = tag;
        epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &ev);
    }

    void wake(uint64_t n) {
        if (n && write(wake_, &n, sizeof n) < 0) {}
    }

    bool accept(const std::vector<std::pair<uint64_t, std::unique_ptr<Launch>>> &given, uint64_t &bad) {
        bad = 0;
        if (closed_) return false;
        for (auto &item : given)
            if (!tasks_.emplace(bad = item.second->token, nullptr).second) {
                for (auto &other : given) {
                    auto it = tasks_.find(other.second->token);
                    if (it != tasks_.end() && !it->second) tasks_.erase(it);
                }
                return false;
            }
        return true;
    }

    Task *add(uint64_t pool, std::unique_ptr<Launch> launch) {
        Task *t = new Task;
        t->launch = std::move(*launch);
        t->pool = pool;
        t->serial = ++serial_;
        tasks_[t->launch.token] = t;
        return t;
    }

    void make_ready(Task *t) {
        t->state = State::READY;
        live_++;
        ready_.push_back(t);
    }

    Task *next_of(uint64_t pool) {
        auto it = pools_.find(pool);
        if (it == pools_.end()) return nullptr;
        auto &line = it->second;
        Task *found = nullptr;
        while (!line.empty() && !found) {
            Task *t = line.front();
            line.pop_front();
            if (t->state == State::DROPPED)
                delete t;
            else
                found = t;
        }
        if (line.empty()) pools_.erase(it);
        return found;
    }

    void push(Task *t, Kind kind, Step step = STEP_NONE, int error = 0, uint64_t successor = 0) {
        const bool last = live_ <= 1 && !successor && t->state != State::DROPPED;
        events_.push(t, kind, step, error, successor, last);
        if (events_.due_at() != 0) arm();
    }

    void stop() {
        stopping_ = true;
        const uint64_t one = 1;
        if (write(stop_, &one, sizeof one) < 0) {}  // never read back: every thread sees it
    }

    // ---- time --------------------------------------------------------------------------------------------------

    void schedule(Task *t, Alarm what, double at) {
        due_.push({at, t->launch.token, t->serial, what});
        arm();
    }

    void arm() {
        double at = events_.due_at();
        if (!due_.empty() && (at == 0 || due_.top().at < at)) at = due_.top().at;
        if (at == 0 || (armed_ != 0 && armed_ <= at)) return;
        armed_ = at;
        itimerspec spec{};
        spec.it_value.tv_sec = static_cast<time_t>(at);
        spec.it_value.tv_nsec = static_cast<long>((at - static_cast<double>(spec.it_value.tv_sec)) * 1e9);
        timerfd_settime(timer_, TFD_TIMER_ABSTIME, &spec, nullptr);
    }

    void timers() {
        uint64_t n;
        if (read(timer_, &n, sizeof n) < 0) return;  // another thread took it
        std::vector<Task *> sweeping;
        {
            std::lock_guard lock(mutex_);
            const double now = clock_s(CLOCK_MONOTONIC);
            armed_ = 0;
            if (events_.due_at() != 0 && events_.due_at() <= now) events_.flush();
            while (!due_.empty() && due_.top().at <= now) {
                const Due d = due_.top();
                due_.pop();
                auto it = tasks_.find(d.token);
                if (it == tasks_.end() || it->second->serial != d.serial) continue;
                Task *t = it->second;
                if (d.what == Alarm::SWEEP)
                    sweeping.push_back(t);
                else if (d.what == Alarm::TIMEOUT)
                    cancel_one(t, TIMED_OUT, t->launch.grace);
                else if (t->state == State::RUNNING || (t->state == State::SWEEPING && group_lives(t->pid)))
                    kill(-t->pid, SIGKILL);
                else if (t->state == State::REAPING)
                    schedule(t, Alarm::KILL, now + 0.01);  // decided in a moment whether anything is left to kill
            }
            arm();
        }
        for (Task *t : sweeping) sweep(t);
    }

    // ---- ends --------------------------------------------------------------------------------------------------

    // TERM now, KILL after `grace`; a launch that has not begun is only marked.
    void cancel_one(Task *t, uint8_t flag, double grace) {
        switch (t->state) {
        case State::QUEUED:
            t->flags |= flag;
            t->state = State::DROPPED;  // its pool's line still points to it and frees it in passing
            tasks_.erase(t->launch.token);
            push(t, CANCELLED);
            break;
        case State::READY:
        case State::STARTING:
            t->flags |= flag;
            break;
        case State::REAPING:
            // The number may be free already. Whoever reaps looks at this and sweeps the group.
            t->term_late = true;
            break;
        case State::RUNNING:
        case State::SWEEPING:
            if (t->state == State::RUNNING) t->flags |= flag;
            term(t, grace);
            break;
        case State::DROPPED:
            break;
        }
    }

    void term(Task *t, double grace) {
        if (t->termed && grace >= t->launch.grace) return;
        t->termed = true;
        if (t->state == State::SWEEPING && !group_lives(t->pid)) return;  // the next look finds it over
        kill(-t->pid, SIGTERM);
        kill(-t->pid, SIGCONT);  // a stopped process cannot act on TERM
        schedule(t, Alarm::KILL, clock_s(CLOCK_MONOTONIC) + std::max(0.0, grace));
    }

    // The task is over: report it, hand its allocation on, free it. Returns the heir, which the caller starts.
    Task *finish(Task *t, Kind kind, Step step = STEP_NONE, int error = 0) {
        Task *heir = !closed_ ? next_of(t->pool) : nullptr;
        push(t, kind, step, error, heir ? heir->launch.token : 0);
        if (heir) {
            heir->alloc = t->alloc;
            heir->cpus = std::move(t->cpus);
            heir->state = State::STARTING;
            live_++;
        }
        tasks_.erase(t->launch.token);
        delete t;
        if (--live_ == 0) {
            idle_.notify_all();
            if (closed_) stop();
        }
        return heir;
    }

    // A process has ended: reap it and, unless its group lives on, report it. Returns the heir, which the caller starts.
    Task *reap(Task *t) {
        {
            std::lock_guard lock(mutex_);
            t->state = State::REAPING;  // from here on its number must not be signalled by others
        }
        rusage ru{};
        int status = 0;
        pid_t got;
        while ((got = wait4(t->pid, &status, WNOHANG | __WALL, &ru)) < 0 && errno == EINTR) {}
        if (got == 0) {  // a traced leader can look dead for a moment
            {
                std::lock_guard lock(mutex_);
                t->state = State::RUNNING;
            }
            const bool armed = t->pidfd >= 0;
            if (!armed) t->pidfd = static_cast<int>(syscall(SYS_pidfd_open, t->pid, 0));
            arm_process(t, armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
            return nullptr;
        }
        if (t->pidfd >= 0) close(t->pidfd);
        t->pidfd = -1;
        t->status = got < 0 ? -1 : status;
        t->ended = clock_s(CLOCK_REALTIME);
        add_usage(t, ru);
        const bool remain = group_lives(t->pid);
        std::lock_guard lock(mutex_);
        if (!remain || !(sweep_ || t->termed || t->term_late)) return finish(t, ENDED);
        t->state = State::SWEEPING;
        if (!t->termed) term(t, t->launch.grace);
        schedule(t, Alarm::SWEEP, clock_s(CLOCK_MONOTONIC) + 0.001);
        return nullptr;
    }

    // Whether the group of a reaped leader has members. The kernel gives no number of a group in use to a new process:
    // when there is one with this number, our group is over and the one of that name is somebody else's.
    static bool group_lives(pid_t leader) {
        if (kill(-leader, 0) != 0) return false;
        return kill(leader, 0) != 0 && errno == ESRCH;
    }

    static void add_usage(Task *t, const rusage &ru) {
        t->user += static_cast<double>(ru.ru_utime.tv_sec) + 1e-6 * static_cast<double>(ru.ru_utime.tv_usec);
        t->sys += static_cast<double>(ru.ru_stime.tv_sec) + 1e-6 * static_cast<double>(ru.ru_stime.tv_usec);
        t->maxrss = std::max(t->maxrss, ru.ru_maxrss);
    }

    // Look whether the group of an ended leader is empty by now; orphans that came to us (subreaper) are reaped.
    void sweep(Task *t) {
        rusage ru{};
        while (wait4(-t->pid, nullptr, WNOHANG | __WALL, &ru) > 0) add_usage(t, ru);
        const bool remain = group_lives(t->pid);
        std::unique_lock lock(mutex_);
        if (remain) {
            const double pause = std::min(0.05, 0.001 * static_cast<double>(1 << std::min(t->sweeps++, 10)));
            schedule(t, Alarm::SWEEP, clock_s(CLOCK_MONOTONIC) + pause);
            return;
        }
        if (Task *heir = finish(t, ENDED)) {
            heir->state = State::READY;
            ready_.push_back(heir);
            lock.unlock();
            wake(1);
        }
    }

    // ---- starts ------------------------------------------------------------------------------------------------

    void start_ready(Starter &starter) {
        uint64_t n;
        if (read(wake_, &n, sizeof n) < 0) return;
        Task *t = nullptr;
        {
            std::lock_guard lock(mutex_);
            if (ready_.empty()) return;
            t = ready_.front();
            ready_.pop_front();
            t->state = State::STARTING;
        }
        chain(t, starter);
    }

    // Start t; when that fails its allocation goes to the next in line, and so on. While there is a line, stay with it.
    void chain(Task *t, Starter &starter) {
        while (t) {
            bool stay = false;
            {
                std::lock_guard lock(mutex_);
                if (t->flags & WAS_CANCELLED) {
                    t = finish(t, CANCELLED);
                    continue;
                }
                stay = staying_ < stay_most_ && pools_.count(t->pool) != 0;
                if (stay) staying_++;
            }
            starter.settle(stay ? t->cpus : CpuMask());
            t->started = clock_s(CLOCK_REALTIME);
            const Starter::Result r = starter.start(t->launch, t->cpus, clock_s(CLOCK_MONOTONIC), !stay);
            {
                std::lock_guard lock(mutex_);
                if (r.step != STEP_NONE) {
                    if (stay) staying_--;
                    t->ended = clock_s(CLOCK_REALTIME);
                    t = finish(t, FAILED, r.step, r.error);
                    continue;
                }
                t->pid = r.pid;
                t->pidfd = r.pidfd;
                t->state = State::RUNNING;
                push(t, STARTED);
                if (t->flags & WAS_CANCELLED) term(t, closed_ ? std::min(close_grace_, t->launch.grace) : t->launch.grace);
                if (t->launch.timeout > 0) schedule(t, Alarm::TIMEOUT, clock_s(CLOCK_MONOTONIC) + t->launch.timeout);
            }
            if (!stay) {
                arm_process(t, EPOLL_CTL_ADD);
                return;
            }
            siginfo_t info;
            while (waitid(P_PID, static_cast<id_t>(r.pid), &info, WEXITED | WNOWAIT | __WALL) < 0 && errno == EINTR) {}
            {
                std::lock_guard lock(mutex_);
                staying_--;
            }
            t = reap(t);
        }
        starter.settle(CpuMask());
    }

    // One report per arming: exactly one thread sees the end of a process.
    void arm_process(Task *t, int op) {
        epoll_event ev{};
        ev.events = EPOLLIN | EPOLLONESHOT;
        ev.data.ptr = t;
        epoll_ctl(epoll_, op, t->pidfd, &ev);
    }

    void thread_main() {
        {
            Starter starter(close_range_, nofile_);
            for (;;) {
                epoll_event ev{};
                // One at a time: a start takes long enough that the other ends are better left to other threads.
                if (epoll_wait(epoll_, &ev, 1, -1) != 1) continue;
                if (ev.data.u64 == TAG_STOP) break;
                if (ev.data.u64 == TAG_WAKE)
                    start_ready(starter);
                else if (ev.data.u64 == TAG_TIMER)
                    timers();
                else
                    chain(reap(static_cast<Task *>(ev.data.ptr)), starter);
            }
        }
        std::lock_guard lock(mutex_);
        alive_--;
        idle_.notify_all();
    }

    EventWriter events_;
    const bool sweep_;
    bool ok_ = false, close_range_ = false;
    int epoll_ = -1, wake_ = -1, stop_ = -1, timer_ = -1;
    rlimit nofile_{0, 0};  // 0: nothing to give back

    std::mutex mutex_;
    std::condition_variable idle_;
    std::unordered_map<uint64_t, Task *> tasks_;            // all that are not over, by token
    std::unordered_map<uint64_t, std::deque<Task *>> pools_;  // queued ones; may hold DROPPED ones, which it owns
    std::deque<Task *> ready_;                              // have an allocation, wait for a thread
    std::priority_queue<Due> due_;
    uint64_t serial_ = 0;
    size_t live_ = 0;  // ready, starting, running or being swept
    int alive_ = 0;    // threads
    int staying_ = 0, stay_most_ = 1;  // threads that wait for one process each
    bool closed_ = false, stopping_ = false;
    double armed_ = 0, close_grace_ = 2;
    std::vector<std::thread> threads_;
};

}  // namespace jrm
