/* The floor under every process launcher: N times vfork, own stdout and stderr files, exec, wait; P processes do it
 * side by side.  usage: vfork_limit N P DIRECTORY PROGRAM   prints: seconds */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void work(int first, int n, const char *dir, char *program) {
    char out[4096], err[4096];
    char *argv[] = {program, NULL};
    for (int i = first; i < first + n; i++) {
        snprintf(out, sizeof out, "%s/%d.out", dir, i);
        snprintf(err, sizeof err, "%s/%d.err", dir, i);
        pid_t pid = vfork();
        if (pid == 0) {
            int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
            int fe = open(err, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
            if (fd < 0 || fe < 0 || dup2(fd, 1) < 0 || dup2(fe, 2) < 0) _exit(126);
            execve(program, argv, environ);
            _exit(127);
        }
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) _exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int n = atoi(argv[1]), p = atoi(argv[2]), bad = 0;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < p; i++)
        if (fork() == 0) {
            work(i * (n / p), n / p, argv[3], argv[4]);
            _exit(0);
        }
    for (int i = 0; i < p; i++) {
        int status;
        wait(&status);
        bad |= status;
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.6f\n", (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec));
    return bad != 0;
}
