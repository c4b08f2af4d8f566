// Ending everything below this process. It must be a child subreaper: then whatever is orphaned comes to it, and
// the tree below it is complete however often the processes forked, detached or changed their session.
#pragma once

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <dirent.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __WALL
#define __WALL 0x40000000
#endif

namespace jrm {

inline double monotonic_s() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// All living processes below this one, from the parent numbers in /proc; zombies do not count.
inline std::vector<pid_t> descendants() {
    std::unordered_map<pid_t, std::vector<pid_t>> children;
    std::set<pid_t> dead;
    DIR *proc = opendir("/proc");
    if (!proc) return {};
    while (dirent *e = readdir(proc)) {
        if (!isdigit(static_cast<unsigned char>(e->d_name[0]))) continue;
        char text[1024];
        FILE *f = fopen((std::string("/proc/") + e->d_name + "/stat").c_str(), "re");
        if (!f) continue;
        const size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = 0;
        const char *after = strrchr(text, ')');  // the name before it may hold anything
        char state;
        int parent;
        if (!after || sscanf(after + 1, " %c %d", &state, &parent) != 2) continue;
        const pid_t pid = atoi(e->d_name);
        children[parent].push_back(pid);
        if (state == 'Z' || state == 'X') dead.insert(pid);
    }
    closedir(proc);
    std::vector<pid_t> all{getpid()};
    for (size_t i = 0; i < all.size(); i++) {
        auto it = children.find(all[i]);
        if (it != children.end()) all.insert(all.end(), it->second.begin(), it->second.end());
    }
    all.erase(all.begin());
    all.erase(std::remove_if(all.begin(), all.end(), [&](pid_t p) { return dead.count(p) > 0; }), all.end());
    return all;
}

// TERM to everything below, KILL after `grace` s, again and again until nothing is left or `patience` s more are over.
// Returns how many different processes were signalled.
inline int end_descendants(double grace, double patience) {
    std::set<pid_t> seen;
    const double begin = monotonic_s();
    for (;;) {
        while (waitpid(-1, nullptr, WNOHANG | __WALL) > 0) {}
        const std::vector<pid_t> now = descendants();
        if (now.empty()) break;
        const double age = monotonic_s() - begin;
        for (pid_t p : now) {
            const bool fresh = seen.insert(p).second;
            if (age >= grace) {
                kill(p, SIGKILL);
            } else if (fresh) {
                kill(p, SIGTERM);
                kill(p, SIGCONT);
            }
        }
        if (age > grace + patience) break;
        const timespec pause = {0, age < 0.05 ? 2'000'000 : 20'000'000};
        nanosleep(&pause, nullptr);
    }
    return static_cast<int>(seen.size());
}

}  // namespace jrm
