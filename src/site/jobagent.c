#include "site/jobagent.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/process.h"
#include "base/startup.h"

#define LOOK_MS 10 /* between two looks at what gives no event */
#define FAR 64     /* descriptors are moved from here on, out of the way of those that the agent is given */

enum { GIVEN = TC_JOBAGENT_KEY_FD + 1 }; /* descriptors that the agent is given: 0 .. GIVEN - 1 */

struct process {
    uint32_t pid;
    uint64_t start;
    char life[TC_JOBAGENT_LIFE];
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static bool lives(const struct process *process)
{
    uint64_t start;
    return tc_process_start(process->pid, &start) == 0 && start == process->start;
}

/* Whom the record names, if that lives. */
static bool recorded(const struct tc_jobdir *dir, struct process *process)
{
    char text[128];
    int fd = tc_jobdir_note(dir, "agent", O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    return sscanf(text, "%" SCNu32 " %" SCNu64 " %23s", &process->pid, &process->start, process->life) == 3 &&
           process->pid > 1 && lives(process);
}

enum tc_jobagent_found tc_jobagent_find(const struct tc_jobdir *dir, const char *life, uint32_t *pid, uint64_t *start)
{
    struct process process;
    if (!recorded(dir, &process))
        return TC_JOBAGENT_NONE;
    if (pid)
        *pid = process.pid;
    if (start)
        *start = process.start;
    bool same = strcmp(life, "-") == 0 || strcmp(process.life, "-") == 0 || strcmp(life, process.life) == 0;
    return same ? TC_JOBAGENT_LIVES : TC_JOBAGENT_OF_ANOTHER_LIFE;
}

/* Its end. */

/* What the descriptor holds cannot become another process. Linux before 5.3 has none (-2). */
static void send_signal(const struct process *process, int fd, int number)
{
    if (fd >= 0)
        syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
    else if (fd == -2 && lives(process))
        kill((pid_t)process->pid, number);
}

static bool ends_within(const struct process *process, int fd, double seconds)
{
    double until = now() + seconds;
    for (;;) {
        double left = until - now();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int ms = left > 0 ? (int)(left * 1e3) + 1 : 0;
        int polled = poll(fd >= 0 ? &ready : NULL, fd >= 0, fd >= 0 || ms < LOOK_MS ? ms : LOOK_MS);
        if (polled > 0 || (fd < 0 && !lives(process)))
            return true;
        if (left <= 0)
            return false;
    }
}

int tc_jobagent_stop(struct tc_jobdir *dir, double grace, double seconds, struct tc_err *err)
{
    struct process process;
    int fd = recorded(dir, &process) ? tc_process_watch(process.pid, process.start) : -1;
    if (fd == -1)
        return 0;
    send_signal(&process, fd, SIGTERM);
    bool ended = ends_within(&process, fd, grace);
    if (!ended) {
        send_signal(&process, fd, SIGKILL);
        ended = ends_within(&process, fd, seconds);
    }
    if (fd >= 0)
        close(fd);
    return ended ? 0
                 : tc_fail(err, TC_E_TIMEOUT, "%s: its agent, process %u, was killed and has not ended yet",
                           tc_jobdir_path(dir), (unsigned)process.pid);
}

/* Its start. */

/* In the child. Written down before the program begins, so that no agent is without a record. */
static bool write_down(int record, const char *life)
{
    char text[128];
    uint64_t start;
    if (tc_process_start((uint32_t)getpid(), &start) < 0)
        return false;
    int used = snprintf(text, sizeof text, "%d %" PRIu64 " %s\n", (int)getpid(), start, life);
    return write(record, text, (size_t)used) == used;
}

/* Nothing of what a batch system's daemon has set for itself and the hook has not left behind when it began: the badness
 * that the kernel kills by, groups (by which SGE finds what it ends with a job); and none of the hook's own signals. */
static void forget_parent(void)
{
    tc_startup_signals();
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, "0", 1) < 0)
            fprintf(stderr, "oom_score_adj stays: %s\n", strerror(errno));
        close(fd);
    }
    if (geteuid() == 0 && setgroups(0, NULL) < 0)
        fprintf(stderr, "groups stay: %s\n", strerror(errno));
}

static _Noreturn void become_agent(const struct tc_jobagent_options *options, const int fds[GIVEN], int record)
{
    char pid[32], count[] = "LISTEN_FDS=1";
    char *environment[] = {pid, count, NULL};
    snprintf(pid, sizeof pid, "LISTEN_PID=%d", (int)getpid());
    setsid();
    for (int fd = 0; fd < GIVEN; fd++)
        if (dup2(fds[fd], fd) < 0)
            _exit(126);
    forget_parent();
    if (chdir("/") < 0 || !write_down(record, options->life)) {
        fprintf(stderr, "cannot write down the process: %s\n", strerror(errno));
        _exit(126);
    }
    tc_startup_close((const int[]){TC_JOBAGENT_LISTEN_FD, TC_JOBAGENT_KEY_FD}, 2); /* the lock goes with the others */
    execve("/proc/self/exe", (char *const *)(uintptr_t)options->arguments, environment);
    fprintf(stderr, "/proc/self/exe: %s\n", strerror(errno));
    _exit(126);
}

/* fd, or a copy of it, out of the way of those that the agent is given. */
static int far(int fd)
{
    int moved = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, FAR);
    if (fd >= 0)
        close(fd);
    return moved;
}

/* What the agent is given, our end of its standard output, and where it is written down. */
static int open_all(struct tc_jobdir *dir, const struct tc_jobagent_options *options, int fds[GIVEN], int *ready,
                    int *record, struct tc_err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return tc_fail_errno(err, errno, "pipe");
    *ready = ends[0];
    fds[0] = far(open("/dev/null", O_RDWR | O_CLOEXEC));
    fds[1] = far(ends[1]);
    fds[2] = far(tc_jobdir_note(dir, "log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND));
    fds[TC_JOBAGENT_LISTEN_FD] = fcntl(options->listen_fd, F_DUPFD_CLOEXEC, FAR);
    fds[TC_JOBAGENT_KEY_FD] = fcntl(options->key_fd, F_DUPFD_CLOEXEC, FAR);
    *record = far(tc_jobdir_note(dir, "agent", O_WRONLY | O_CREAT | O_TRUNC));
    bool all = *record >= 0;
    for (int i = 0; i < GIVEN; i++)
        all &= fds[i] >= 0;
    return all ? 0 : tc_fail_errno(err, errno, "%s: cannot open what the agent needs", tc_jobdir_path(dir));
}

/* The last line of the agent's log, or what there is to say without. */
static void last_words(const struct tc_jobdir *dir, char *out, size_t size)
{
    char text[1024];
    ssize_t got = -1;
    int fd = tc_jobdir_note(dir, "log", O_RDONLY);
    if (fd >= 0) {
        off_t end = lseek(fd, 0, SEEK_END);
        got = pread(fd, text, sizeof text - 1, end > (off_t)sizeof text - 1 ? end - (off_t)sizeof text + 1 : 0);
        close(fd);
    }
    while (got > 0 && text[got - 1] == '\n')
        got--;
    text[got > 0 ? got : 0] = '\0';
    const char *line = strrchr(text, '\n');
    snprintf(out, size, "%.160s", got > 0 ? (line ? line + 1 : text) : "it said nothing (is the file system full?)");
}

/* 1: a line came; 0: end of file; -1: neither within seconds. */
static int await_line(int fd, double seconds)
{
    double until = now() + seconds;
    char bytes[512];
    for (;;) {
        double left = until - now();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int polled = poll(&ready, 1, left > 0 ? (int)(left * 1e3) + 1 : 0);
        if (polled < 0 && errno == EINTR)
            continue;
        if (polled <= 0)
            return -1;
        ssize_t got = read(fd, bytes, sizeof bytes);
        if (got <= 0)
            return 0;
        if (memchr(bytes, '\n', (size_t)got))
            return 1;
    }
}

static int await_agent(struct tc_jobdir *dir, int ready, double seconds, struct tc_err *err)
{
    char words[200];
    int said = await_line(ready, seconds);
    if (said > 0)
        return 0;
    if (said < 0)
        return tc_fail(err, TC_E_TIMEOUT, "%s: its agent was not ready within %g s", tc_jobdir_path(dir), seconds);
    last_words(dir, words, sizeof words);
    return tc_fail(err, TC_E_FAILED, "%s: its agent has ended: %s", tc_jobdir_path(dir), words);
}

int tc_jobagent_start(struct tc_jobdir *dir, const struct tc_jobagent_options *options, double seconds,
                      struct tc_err *err)
{
    int fds[GIVEN] = {-1, -1, -1, -1, -1}, ready = -1, record = -1;
    int result = open_all(dir, options, fds, &ready, &record, err);
    pid_t child = result == 0 ? fork() : 0;
    if (result == 0 && child == 0)
        become_agent(options, fds, record);
    if (child < 0)
        result = tc_fail_errno(err, errno, "fork");
    for (int i = 0; i < GIVEN; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (record >= 0)
        close(record);
    if (result == 0)
        result = await_agent(dir, ready, seconds, err);
    if (ready >= 0)
        close(ready);
    if (child > 0)
        waitpid(child, NULL, WNOHANG); /* one that has ended already */
    return result;
}
