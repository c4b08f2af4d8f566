// jrm-guard: runs one program and lets nothing of it survive.
//
//   jrm-guard [-r RESTARTS] [-o RECORDFILE] -- PROGRAM ARG...
//   jrm-guard --spawn THREADS SWEEP        (the spawner's host program, see spawner_host.hpp)
//
// It becomes child subreaper in a session of its own, starts PROGRAM with TERM as parent-death signal, and passes
// TERM, INT, HUP, USR1 and USR2 on to it. When PROGRAM is dead, whatever the reason, all that is left below is ended
// (TERM, after 2 s KILL, until nothing is left) and one line of JSON is appended to RECORDFILE. If it died by a signal
// and restarts are left it is started again, with JRM_EPOCH=0, 1, 2... saying which life it is; a guard that was told to end does not restart.
// Exit code: the program's, 128 + signal, 127/126 if it could not be executed, 2 for wrong usage.
#include <cerrno>
#include <cstdint>
#include <string>

#include <fcntl.h>
#include <sys/prctl.h>

#include "process_tree.hpp"
#include "spawner_host.hpp"

namespace {

const int PASSED_ON[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
sigset_t handled, before;

double real_s() {
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

pid_t start(char **argv, int epoch) {
    setenv("JRM_EPOCH", std::to_string(epoch).c_str(), 1);
    const pid_t guard = getpid();
    const pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != guard) _exit(127);  // the guard died before the line above could take effect
    sigprocmask(SIG_SETMASK, &before, nullptr);
    execvp(argv[0], argv);
    const int code = errno == ENOENT ? 127 : 126;
    fprintf(stderr, "jrm-guard: %s: %s\n", argv[0], strerror(errno));
    _exit(code);
}

// Wait for a signal until `until` (monotonic s, < 0: without end); 0 when the time is over.
int next_signal(double until) {
    if (until < 0) return sigwaitinfo(&handled, nullptr);
    const double left = until - jrm::monotonic_s();
    if (left <= 0) return 0;
    timespec t;
    t.tv_sec = static_cast<time_t>(left);
    t.tv_nsec = static_cast<long>((left - static_cast<double>(t.tv_sec)) * 1e9);
    const int s = sigtimedwait(&handled, nullptr, &t);
    return s < 0 && errno == EAGAIN ? 0 : s;
}

void record(const char *file, pid_t pid, int status, double started, int epoch, int survivors) {
    if (!file) return;
    char line[512];
    const int n = snprintf(line, sizeof line,
                           "{\"pid\": %d, \"status\": %d, \"signal\": %d, \"started\": %.3f, \"time\": %.3f, "
                           "\"restarts\": %d, \"survivors\": %d}\n",
                           pid, WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                           started, real_s(), epoch, survivors);
    const int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, static_cast<size_t>(n)) != n) perror("jrm-guard: record");
    if (fd >= 0) close(fd);
}

int usage() {
    fprintf(stderr, "usage: jrm-guard [-r RESTARTS] [-o RECORDFILE] -- PROGRAM ARG...\n");
    return 2;
}

}  // namespace

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--spawn") == 0) return jrm::host_main(argc, argv);
    int restarts = 0, option;
    const char *file = nullptr;
    while ((option = getopt(argc, argv, "+r:o:")) != -1) {
        if (option == 'r')
            restarts = atoi(optarg);
        else if (option == 'o')
            file = optarg;
        else
            return usage();
    }
    if (optind >= argc) return usage();

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setsid();  // fails when this is a group leader already, which is as good
    signal(SIGCHLD, SIG_DFL);  // an ignored one would make the kernel reap our children
    sigemptyset(&handled);
    sigaddset(&handled, SIGCHLD);
    for (int s : PASSED_ON) sigaddset(&handled, s);
    sigprocmask(SIG_BLOCK, &handled, &before);
    sigset_t clean = before;
    for (int s : PASSED_ON) sigdelset(&clean, s);
    sigdelset(&clean, SIGCHLD);
    before = clean;

    bool told = false;
    for (int epoch = 0;; epoch++) {
        const double started = real_s();
        const pid_t child = start(argv + optind, epoch);
        if (child < 0) {
            perror("jrm-guard: fork");
            return 126;
        }
        int status = 0;
        for (bool alive = true; alive;) {
            const int s = next_signal(-1);
            if (s > 0 && s != SIGCHLD) {
                told = told || s == SIGTERM || s == SIGINT || s == SIGHUP;
                kill(child, s);
            }
            int st;
            for (pid_t p; (p = waitpid(-1, &st, WNOHANG)) > 0;)
                if (p == child) {
                    status = st;
                    alive = false;
                }
        }
        const int survivors = jrm::end_descendants(2.0, 30.0);
        record(file, child, status, started, epoch, survivors);
        const double pauses[] = {0.1, 0.5, 1.0};
        const double until = jrm::monotonic_s() + pauses[epoch < 2 ? epoch : 2];
        const bool again = WIFSIGNALED(status) && epoch < restarts;
        while (again && !told) {
            const int s = next_signal(until);
            if (s == 0) break;
            told = s == SIGTERM || s == SIGINT || s == SIGHUP;
        }
        if (!again || told) return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
}
