// The event records: what is told of a task, and how records reach the reader without waking it too often.
//
// Knows: the record's layout, the pipe. Does not know what a task goes through: that is spawner_core.hpp, whose lock
// also guards what is here.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "spawner_launch.hpp"

namespace jrm {

enum Kind : uint8_t { STARTED = 1, ENDED = 2, FAILED = 3, CANCELLED = 4 };
enum Flag : uint8_t { TIMED_OUT = 1, WAS_CANCELLED = 2, PASSED_ON = 4 };

// One record for Python; runtime/process.py describes the same layout as a numpy dtype.
struct Event {
    uint64_t token, alloc, successor;
    double started, ended;  // CLOCK_REALTIME, s
    int32_t pid, status, error;
    float user, sys;  // s
    uint32_t maxrss;  // KiB
    uint8_t kind, step, flags, pad[5];
};
static_assert(sizeof(Event) == 72, "the dtype in runtime/process.py relies on this");

enum class State : uint8_t { QUEUED, READY, STARTING, RUNNING, REAPING, SWEEPING, DROPPED };

struct Task {
    Launch launch;
    uint64_t pool = 0, alloc = 0, serial = 0;
    CpuMask cpus;  // of the allocation, once there is one
    State state = State::QUEUED;
    uint8_t flags = 0;
    bool termed = false;     // TERM was sent on our behalf, so the group is swept whatever `sweep` says
    bool term_late = false;  // TERM was asked for while the leader was being reaped
    pid_t pid = -1;
    int pidfd = -1, status = 0, sweeps = 0;
    double started = 0, ended = 0, user = 0, sys = 0;
    long maxrss = 0;
    uint64_t batch = 0;  // where its STARTED stands, if that batch is still here
    size_t slot = 0;
};

inline double clock_s(clockid_t id) {
    timespec t;
    clock_gettime(id, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

class EventWriter {
public:
    // `out` is a pipe that does not block.
    explicit EventWriter(int out) : out_(out) {}

    double due_at() const { return due_at_; }  // when to call flush (monotonic s), 0: never

    // Take a record in. A few writes at once are free; under load the reader is woken 200 times a second (1000 when
    // allocations fall idle), not once per process. `last`: nothing runs any more, tell it at once.
    void push(Task *t, Kind kind, Step step, int error, uint64_t successor, bool last) {
        Event e{};
        e.token = t->launch.token, e.alloc = t->alloc, e.successor = successor;
        e.started = t->started, e.ended = t->ended;
        e.pid = t->pid, e.status = t->status, e.error = error;
        e.user = static_cast<float>(t->user), e.sys = static_cast<float>(t->sys);
        e.maxrss = static_cast<uint32_t>(t->maxrss);
        e.kind = kind, e.step = step;
        e.flags = static_cast<uint8_t>(t->flags | (successor ? PASSED_ON : 0));
        if (kind == ENDED && t->batch == batch_) {
            events_[t->slot] = e;  // nobody has seen the start yet: the end says it all
        } else {
            if (kind == STARTED) t->batch = batch_, t->slot = events_.size();
            events_.push_back(e);
        }
        const double now = clock_s(CLOCK_MONOTONIC);
        if (kind != STARTED && backlog_.empty()) {
            budget_ = std::min(BURST, budget_ + (now - budget_at_) / PACE);
            budget_at_ = now;
            if (budget_ >= 1 || last) {
                budget_ = std::max(0.0, budget_ - 1);
                flush();
                return;
            }
        }
        // An allocation that comes back idle is worth a sooner word than one that works on.
        const double at = now + (kind == ENDED && !successor ? PACE / 5 : PACE);
        if (due_at_ == 0 || at < due_at_) due_at_ = at;
    }

    // Write what waits; true when some is left because the reader is slow (due_at says when to try again).
    bool flush() {
        const char *p = reinterpret_cast<const char *>(events_.data());
        backlog_.insert(backlog_.end(), p, p + events_.size() * sizeof(Event));
        events_.clear();
        batch_++;
        due_at_ = 0;
        size_t done = 0;
        while (done < backlog_.size()) {
            const ssize_t n = write(out_, backlog_.data() + done, backlog_.size() - done);
            if (n > 0) {
                done += static_cast<size_t>(n);
            } else if (errno == EAGAIN) {
                break;
            } else if (errno != EINTR) {
                done = backlog_.size();  // nobody reads any more
            }
        }
        backlog_.erase(backlog_.begin(), backlog_.begin() + static_cast<std::ptrdiff_t>(done));
        if (backlog_.empty()) return false;
        due_at_ = clock_s(CLOCK_MONOTONIC) + PACE;
        return true;
    }

    // Write what is left; waits for the reader, but not longer than `patience` seconds.
    void flush_all(double patience) {
        const double end = clock_s(CLOCK_MONOTONIC) + patience;
        while (flush() && clock_s(CLOCK_MONOTONIC) < end) {
            pollfd p{out_, POLLOUT, 0};
            poll(&p, 1, 50);
        }
    }

private:
    static constexpr double BURST = 16, PACE = 0.005;
    const int out_;
    std::vector<Event> events_;  // not written yet, and open to change
    std::vector<char> backlog_;  // not written yet because the pipe is full
    uint64_t batch_ = 1;
    double due_at_ = 0, budget_ = BURST, budget_at_ = 0;
};

}  // namespace jrm
