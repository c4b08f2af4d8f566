// The host program of the spawner: a small process of its own that reads requests from descriptor 0 and writes event
// records to descriptor 1.
//
// Why not threads inside the Python program? A vfork child counts its parent's memory as its own peak until it execs,
// and the kernel keeps that number: every task would be reported as large as the whole agent. Here the floor is the
// few MB of this program. It also keeps the agent's memory map out of every start.
//
// When descriptor 0 ends, the agent is gone: everything started here is ended, and so is this program. As a subreaper
// it adopts what tasks leave behind, even in sessions of their own, and ends that too.
#pragma once

#include <cstdio>
#include <cstdlib>

#include <sys/socket.h>

#include "process_tree.hpp"
#include "spawner_core.hpp"
#include "spawner_wire.hpp"

namespace jrm {

class Host {
public:
    Host(int threads, bool sweep) : core_(std::make_shared<Core>(1, sweep)), threads_(threads) {}

    int run() {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        prctl(PR_SET_NAME, "jrm-spawner");
        // The agent's end, seen on descriptor 0, is what ends this program; a TERM to all of a job comes too early.
        for (int s : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2}) signal(s, SIG_IGN);
        fcntl(1, F_SETFL, O_NONBLOCK);
        rlimit files{};
        if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
            core_->give_back_nofile(files);  // one descriptor per running task is needed here, not in the tasks
            files.rlim_cur = files.rlim_max;
            setrlimit(RLIMIT_NOFILE, &files);
        }
        if (!core_->ok()) return 1;
        // More threads than CPUs cost nothing while they wait, and keep one hung start from holding up the rest.
        const int cpus = static_cast<int>(std::thread::hardware_concurrency());
        core_->run_threads(threads_ > 0 ? threads_ : std::clamp(cpus + 2, 4, 66));

        bool closing = false;
        double grace = 2.0;
        for (;;) {
            pollfd p{0, POLLIN, 0};
            const int n = poll(&p, 1, closing ? 20 : 5000);
            // Orphans are adopted by this thread, tasks are children of the others: this reaps orphans only.
            while (waitpid(-1, nullptr, WNOHANG | __WNOTHREAD | __WALL) > 0) {}
            if (closing && core_->stopped()) break;
            if (n <= 0) continue;
            Request q{};
            if (!read_fully(&q, sizeof q) || q.version != WIRE_VERSION) break;
            body_.resize(q.length);
            if (!read_fully(body_.data(), body_.size())) break;
            if (q.op == OP_CLOSE) {
                grace = static_cast<double>(q.b) / 1000;
                if (q.a) break;
                core_->close_down(false, grace);
                closing = true;
            } else if (!serve(q)) {
                break;
            }
            if (body_.capacity() > 1 << 20) std::vector<char>().swap(body_);
        }
        core_->close_down(true, grace);
        end_descendants(grace, 5.0);
        core_->flush_all(1.0);
        // Without waiting for a thread that may hang in the kernel.
        fflush(nullptr);
        _exit(0);
    }

private:
    bool serve(const Request &q) {
        const char *p = body_.data(), *end = p + body_.size();
        std::vector<uint64_t> answer;
        switch (q.op) {
        case OP_ENV: {
            std::vector<std::string> items;
            while (p < end) {
                items.emplace_back(p, strnlen(p, static_cast<size_t>(end - p)));
                p += items.back().size() + 1;
            }
            envs_.push_back(std::make_shared<const Env>(std::move(items)));
            return true;
        }
        case OP_START:
        case OP_QUEUE: {
            std::vector<std::pair<uint64_t, std::unique_ptr<Launch>>> given;
            while (p < end)
                if (!read_launch(p, end, given)) return false;
            uint64_t bad;
            return q.op == OP_START ? core_->start(q.a, given, bad) : core_->queue(q.a, given, bad);
        }
        case OP_FEED: {
            CpuMask cpus(body_.size() / sizeof(unsigned long));
            std::copy(p, p + cpus.size() * sizeof(unsigned long), reinterpret_cast<char *>(cpus.data()));
            return reply({core_->feed(q.a, q.b, std::move(cpus))});
        }
        case OP_RETRACT:
            answer = core_->retract(q.a, static_cast<int64_t>(q.b));
            answer.insert(answer.begin(), answer.size());
            return reply(answer);
        case OP_CANCEL: {
            std::vector<uint64_t> tokens(body_.size() / 8);
            std::copy(p, p + tokens.size() * 8, reinterpret_cast<char *>(tokens.data()));
            core_->cancel(tokens);
            return true;
        }
        case OP_SIGNAL:
            return reply({core_->signal(q.a, static_cast<int>(q.b))});
        case OP_STATS:
            return reply({core_->running(), core_->queued()});
        default:
            return false;
        }
    }

    bool read_launch(const char *&p, const char *end,
                     std::vector<std::pair<uint64_t, std::unique_ptr<Launch>>> &given) {
        LaunchHead h;
        if (end - p < static_cast<std::ptrdiff_t>(sizeof h)) return false;
        memcpy(&h, p, sizeof h);
        p += sizeof h;
        const size_t rest = h.text + 8ull * h.cpus + 24ull * h.limits;
        if (static_cast<size_t>(end - p) < rest || h.env == 0 || h.env > envs_.size()) return false;
        auto l = std::make_unique<Launch>();
        l->token = h.token;
        l->env = envs_[h.env - 1];
        l->timeout = h.timeout, l->grace = h.grace;
        l->argc = h.argc, l->extras = h.extras;
        l->text.assign(p, h.text);
        p += h.text;
        l->cpus.resize(h.cpus);
        std::copy(p, p + 8ull * h.cpus, reinterpret_cast<char *>(l->cpus.data()));
        p += 8ull * h.cpus;
        for (uint32_t i = 0; i < h.limits; i++, p += 24) {
            int64_t x[3];
            memcpy(x, p, sizeof x);
            l->limits.push_back({static_cast<int>(x[0]), static_cast<rlim_t>(x[1]), static_cast<rlim_t>(x[2])});
        }
        given.emplace_back(h.alloc, std::move(l));
        return true;
    }

    static bool read_fully(void *to, size_t n) {
        char *p = static_cast<char *>(to);
        while (n) {
            const ssize_t got = recv(0, p, n, MSG_WAITALL);
            if (got == 0 || (got < 0 && errno != EINTR)) return false;
            if (got > 0) p += got, n -= static_cast<size_t>(got);
        }
        return true;
    }

    static bool reply(const std::vector<uint64_t> &words) {
        const char *p = reinterpret_cast<const char *>(words.data());
        for (size_t left = words.size() * 8; left;) {
            const ssize_t n = send(0, p, left, MSG_NOSIGNAL);
            if (n < 0 && errno != EINTR) return false;
            if (n > 0) p += n, left -= static_cast<size_t>(n);
        }
        return true;
    }

    std::shared_ptr<Core> core_;
    int threads_;
    std::vector<std::shared_ptr<const Env>> envs_;
    std::vector<char> body_;
};

// usage: jrm-guard --spawn THREADS SWEEP, with a stream socket as 0 and a pipe as 1.
inline int host_main(int argc, char **argv) {
    if (argc != 4) return 2;
    return Host(atoi(argv[2]), atoi(argv[3]) != 0).run();
}

}  // namespace jrm
