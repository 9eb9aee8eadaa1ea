#include "site/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

static int start(const char *const *argv, int out, pid_t *child, struct tc_err *err)
{
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    int number = posix_spawnp(child, argv[0], &files, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    if (number == ENOENT)
        return tc_fail(err, TC_E_NOTFOUND, "%s: no such program", argv[0]);
    return number ? tc_fail_errno(err, number, "cannot start %s", argv[0]) : 0;
}

/* Until the end of what it says. */
static int read_answer(int fd, long until, char *out, size_t size, const char *name, struct tc_err *err)
{
    size_t used = 0;
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        long left = until - now_ms();
        int ready = left > 0 ? poll(&wait, 1, (int)left) : 0;
        if (ready == 0)
            return tc_fail(err, TC_E_TIMEOUT, "%s does not answer", name);
        ssize_t got = ready > 0 ? read(fd, out + used, size - used) : -1;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tc_fail_errno(err, errno, "%s", name);
        used += (size_t)got;
        if (used == size)
            return tc_fail(err, TC_E_LIMIT, "%s says more than %zu bytes", name, size - 1);
        out[used] = '\0';
        if (got == 0)
            return 0;
    }
}

/* It may have closed its output and go on. Without pidfds, before Linux 5.3, it is looked at from time to time. */
static int await_end(pid_t child, long until, const char *name, struct tc_err *err)
{
    enum { LOOK_MS = 20 };
    siginfo_t ended = {0};
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    long left;
    while ((left = until - now_ms()) > 0 && waitid(P_PID, (id_t)child, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           ended.si_pid == 0) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        poll(&wait, 1, (int)(fd >= 0 || left < LOOK_MS ? left : LOOK_MS));
    }
    if (fd >= 0)
        close(fd);
    return left > 0 ? 0 : tc_fail(err, TC_E_TIMEOUT, "%s has answered, and does not end", name);
}

static int reap(pid_t child, const char *name, struct tc_err *err)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return tc_fail_errno(err, errno, "%s", name);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return WIFEXITED(status) ? tc_fail(err, TC_E_FAILED, "%s failed (exit %d)", name, WEXITSTATUS(status))
                             : tc_fail(err, TC_E_FAILED, "%s was ended by signal %d", name, WTERMSIG(status));
}

static int spawn(pid_t *pid, const char *const *argv, int in, int out, bool session, struct tc_err *err)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
    posix_spawnattr_setflags(&attributes, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                  (session ? POSIX_SPAWN_SETSID : POSIX_SPAWN_SETPGROUP)));
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    int number = posix_spawnp(pid, argv[0], &files, &attributes, (char **)(uintptr_t)argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return number ? tc_fail_errno(err, number, "cannot start %s", argv[0]) : 0;
}

int tc_program_start(struct tc_program *process, const char *const *argv, bool session, struct tc_err *err)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) < 0)
        return tc_fail_errno(err, errno, "pipe");
    if (pipe2(out, O_CLOEXEC) < 0) {
        int number = errno;
        close(in[0]);
        close(in[1]);
        return tc_fail_errno(err, number, "pipe");
    }
    *process = (struct tc_program){.to = in[1], .from = out[0]};
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    int result = spawn(&process->pid, argv, in[0], out[1], session, err);
    close(in[0]);
    close(out[1]);
    if (result < 0)
        tc_program_close(process);
    return result;
}

void tc_program_close(struct tc_program *process)
{
    if (process->to >= 0)
        close(process->to);
    if (process->from >= 0)
        close(process->from);
    process->to = process->from = -1;
}

int tc_program_ask(const char *const *argv, unsigned seconds, char *out, size_t size, struct tc_err *err)
{
    int ends[2];
    pid_t child;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return tc_fail_errno(err, errno, "pipe");
    int result = start(argv, ends[1], &child, err);
    close(ends[1]);
    if (result == 0) {
        long until = now_ms() + seconds * 1000L;
        result = read_answer(ends[0], until, out, size, argv[0], err);
        if (result == 0)
            result = await_end(child, until, argv[0], err);
        if (result < 0)
            kill(child, SIGKILL);
        int ended = reap(child, argv[0], result < 0 ? NULL : err);
        result = result < 0 ? result : ended;
    }
    close(ends[0]);
    return result;
}
