// One launch: what is to be started, and the few system calls between vfork and exec that start it.
//
// Knows: argv/environment blocks, the child's side of clone(), how a failure comes back.
// Does not know: pools, queues, threads, Python.  Read next: spawner_core.hpp.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif
#ifndef __WALL
#define __WALL 0x40000000
#endif

namespace jrm {

// Which step of a start failed; the numbers are part of the public event record.
enum Step : uint8_t { STEP_NONE = 0, STEP_CWD, STEP_STDIN, STEP_STDOUT, STEP_STDERR, STEP_EXEC, STEP_LIMITS, STEP_FORK };

// An environment registered once and shared by all launches that name it.
struct Env {
    std::vector<std::string> items;
    std::unordered_map<std::string_view, size_t> keys;  // views into items

    static std::string_view key_of(std::string_view item) { return item.substr(0, item.find('=')); }
    explicit Env(std::vector<std::string> given) {
        std::unordered_map<std::string_view, size_t> last;  // of a name given twice the last value counts
        for (size_t i = 0; i < given.size(); i++) last[key_of(given[i])] = i;
        items.reserve(last.size());
        for (size_t i = 0; i < given.size(); i++)
            if (last[key_of(given[i])] == i) items.push_back(given[i]);
        for (size_t i = 0; i < items.size(); i++) keys[key_of(items[i])] = i;
    }
    Env(const Env &) = delete;  // keys point into items
    Env &operator=(const Env &) = delete;
};

struct Limit {
    int resource;
    rlim_t soft, hard;
};

// A set of CPUs as sched_setaffinity wants it; empty means: leave as it is.
using CpuMask = std::vector<unsigned long>;

struct Launch {
    uint64_t token = 0;
    std::string text;  // cwd, stdin, stdout, stderr, argv..., extra_env...: each ended by a NUL, one allocation for all
    uint32_t argc = 0, extras = 0;
    std::shared_ptr<const Env> env;
    CpuMask cpus;
    std::vector<Limit> limits;
    double timeout = 0, grace = 5;
};

// What the calling thread hands to the child it is suspended for, and how the child answers.
struct ChildCall {
    const char *cwd, *in, *out, *err;
    char **argv, **envp;
    const CpuMask *cpus;
    const std::vector<Limit> *limits;
    const std::vector<int> *handled;  // signals whose action is not the default in this process
    const struct rlimit *nofile;  // to give back, or null
    pid_t parent;
    bool shared_files;  // the descriptor table is still the parent's: nothing may be closed before it is unshared
    Step step;
    int error;
};

// Like mkdir -p for `path`; 0 or an errno. Uses only the stack: it runs in the vfork child.
inline int make_dirs(const char *path) {
    if (mkdir(path, 0700) == 0 || errno == EEXIST) return 0;
    if (errno != ENOENT) return errno;
    char part[4096];
    size_t n = strlen(path);
    if (n >= sizeof part) return ENAMETOOLONG;
    memcpy(part, path, n + 1);
    for (size_t i = 1; i < n; i++) {
        if (part[i] != '/') continue;
        part[i] = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST) return errno;
        part[i] = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : errno;
}

// Kernels before 5.9 have no close_range: close what /proc lists. The table is the child's own here.
inline void close_all_by_hand() {
    struct Entry { uint64_t ino; int64_t off; unsigned short len; unsigned char type; char name[1]; };
    alignas(8) char buffer[4096];
    for (bool again = true; again;) {  // closing while listing may skip entries: repeat until a pass closes nothing
        again = false;
        int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0) {
            for (int fd = 0; fd < 65536; fd++) close(fd);
            return;
        }
        for (long n; (n = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0;) {
            for (long at = 0; at < n;) {
                auto *e = reinterpret_cast<Entry *>(buffer + at);
                at += e->len;
                if (e->name[0] < '0' || e->name[0] > '9') continue;
                int fd = 0;
                for (const char *c = e->name; *c; c++) fd = fd * 10 + (*c - '0');
                if (fd != dir && close(fd) == 0) again = true;
            }
        }
        close(dir);
    }
}

// The child between clone and exec. It shares the parent's memory while the calling thread is suspended, so: no
// allocation, no locks, only plain system calls. A failure is written into the call and the child leaves.
inline int child_main(void *p) {
    auto &c = *static_cast<ChildCall *>(p);
    auto fail = [&c](Step step, int error) {
        c.step = step;
        c.error = error;
        _exit(127);
    };
    // A group, not a session: a session of its own would make a scheduling group for every task (autogroup), which costs
    // a twentieth of a short one and lets swarms of them starve the agent that feeds them.
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != c.parent) _exit(127);  // the parent died before the line above could take effect
    umask(077);
    struct sigaction def = {};
    def.sa_handler = SIG_DFL;
    for (int s : *c.handled) sigaction(s, &def, nullptr);

    if (c.cwd[0]) {
        if (int e = make_dirs(c.cwd)) fail(STEP_CWD, e);
        if (chdir(c.cwd) != 0) fail(STEP_CWD, errno);
    }
    if (c.shared_files) {
        // Unsharing an empty range of survivors costs the same whether the parent has 10 or 10 000 descriptors open.
        if (syscall(SYS_close_range, 0u, ~0u, CLOSE_RANGE_UNSHARE) != 0) fail(STEP_FORK, errno);
    } else {
        close_all_by_hand();
    }
    // The table is empty, so these three become 0, 1 and 2 without any dup.
    // O_NONBLOCK: opening a FIFO must not wait for its other end, for a whole thread would wait with us.
    if (open(c.in[0] ? c.in : "/dev/null", O_RDONLY | O_NONBLOCK) < 0) fail(STEP_STDIN, errno);
    const int create = O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK;
    if (open(c.out[0] ? c.out : "/dev/null", c.out[0] ? create : O_WRONLY, 0600) < 0) fail(STEP_STDOUT, errno);
    if (strcmp(c.out, c.err) == 0) {
        if (fcntl(1, F_DUPFD, 2) < 0) fail(STEP_STDERR, errno);
    } else if (open(c.err[0] ? c.err : "/dev/null", c.err[0] ? create : O_WRONLY, 0600) < 0) {
        fail(STEP_STDERR, errno);
    }
    for (int fd = 0; fd < 3; fd++) fcntl(fd, F_SETFL, 0);
    if (!c.cpus->empty() &&
        syscall(SYS_sched_setaffinity, 0, c.cpus->size() * sizeof(unsigned long), c.cpus->data()) < 0)
        fail(STEP_LIMITS, errno);
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    if (c.nofile) setrlimit(RLIMIT_NOFILE, c.nofile);
    for (const Limit &l : *c.limits) {
        if (l.resource == RLIMIT_CORE) continue;
        const struct rlimit want = {l.soft, l.hard};
        if (setrlimit(static_cast<__rlimit_resource>(l.resource), &want) != 0) fail(STEP_LIMITS, errno);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execve(c.argv[0], c.argv, c.envp);
    fail(STEP_EXEC, errno);
    return 127;
}

// What each spawner thread keeps between starts: a stack for its one vfork child and room for the pointer blocks.
class Starter {
public:
    struct Result {
        pid_t pid = -1;
        int pidfd = -1;
        Step step = STEP_NONE;
        int error = 0;
    };

    Starter(bool close_range_works, const rlimit &nofile) : shared_files_(close_range_works), nofile_(nofile) {
        home_.resize(1024 / (8 * sizeof(unsigned long)));
        const long n = syscall(SYS_sched_getaffinity, 0, home_.size() * sizeof(unsigned long), home_.data());
        home_.resize(n > 0 ? static_cast<size_t>(n) / sizeof(unsigned long) : 0);
        stack_ = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    }
    ~Starter() {
        if (stack_ != MAP_FAILED) munmap(stack_, STACK);
    }
    Starter(const Starter &) = delete;
    Starter &operator=(const Starter &) = delete;

    // Move the calling thread to `cpus`, from which its children inherit it; empty: back to where it came from.
    // A process that has to move between its birth and its program starts on a cold cache.
    void settle(const CpuMask &cpus) {
        if (cpus == at_ || home_.empty()) return;
        const CpuMask &mask = cpus.empty() ? home_ : cpus;
        if (syscall(SYS_sched_setaffinity, 0, mask.size() * sizeof(unsigned long), mask.data()) == 0) at_ = cpus;
    }

    // Start `l` on `cpus`; returns when the child has execed (or failed, and is reaped). With `watch` the result has a
    // descriptor that tells of its end.
    Result start(const Launch &l, const CpuMask &cpus, double now, bool watch) {
        Result r;
        if (stack_ == MAP_FAILED) {
            r.step = STEP_FORK;
            r.error = ENOMEM;
            return r;
        }
        if (now - looked_ > 0.02) look_at_signals(now);
        const char *p = l.text.data();
        auto next = [&p] {
            const char *s = p;
            p += strlen(p) + 1;
            return s;
        };
        ChildCall c{};
        c.cwd = next(), c.in = next(), c.out = next(), c.err = next();
        pointers_.clear();
        for (uint32_t i = 0; i < l.argc; i++) pointers_.push_back(const_cast<char *>(next()));
        pointers_.push_back(nullptr);
        const size_t env_at = pointers_.size();
        for (auto &item : l.env->items) pointers_.push_back(const_cast<char *>(item.c_str()));
        for (uint32_t i = 0; i < l.extras; i++) {
            char *item = const_cast<char *>(next());
            auto old = l.env->keys.find(Env::key_of(item));
            if (old != l.env->keys.end())
                pointers_[env_at + old->second] = item;
            else
                pointers_.push_back(item);
        }
        pointers_.push_back(nullptr);
        c.argv = pointers_.data();
        c.envp = pointers_.data() + env_at;
        c.cpus = cpus == at_ ? &nowhere_ : &cpus;
        c.limits = &l.limits;
        c.handled = &handled_;
        c.parent = getpid();
        c.shared_files = shared_files_;
        c.nofile = nofile_.rlim_max ? &nofile_ : nullptr;

        const int flags =
            CLONE_VM | CLONE_VFORK | (watch ? CLONE_PIDFD : 0) | (shared_files_ ? CLONE_FILES : 0) | SIGCHLD;
        r.pid = clone(child_main, static_cast<char *>(stack_) + STACK, flags, &c, &r.pidfd);
        if (r.pid < 0) {
            r.step = STEP_FORK;
            r.error = errno;
            r.pidfd = -1;
        } else if (c.error) {
            r.step = c.step;
            r.error = c.error;
            while (waitpid(r.pid, nullptr, __WALL) < 0 && errno == EINTR) {}
            if (watch) close(r.pidfd);
            r.pid = r.pidfd = -1;
        }
        return r;
    }

private:
    static constexpr size_t STACK = 64 * 1024;

    // Exec resets caught signals but keeps ignored ones (Python ignores SIGPIPE), and a caught one must not run its
    // handler in the child's borrowed memory. Looking costs 64 calls, so it is done every 20 ms, not for every child.
    void look_at_signals(double now) {
        looked_ = now;
        handled_.clear();
        for (int s = 1; s < NSIG; s++) {
            struct sigaction a;
            if (sigaction(s, nullptr, &a) == 0 && a.sa_handler != SIG_DFL) handled_.push_back(s);
        }
    }

    const bool shared_files_;
    const rlimit nofile_;
    void *stack_;
    double looked_ = -1;
    std::vector<int> handled_;
    std::vector<char *> pointers_;
    const CpuMask nowhere_;
    CpuMask home_, at_;  // where the thread may run by itself; where it was moved to
};

}  // namespace jrm
