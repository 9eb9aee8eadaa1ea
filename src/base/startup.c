#include "base/startup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define FIRST 3             /* after the standard descriptors */
#define DESCRIPTORS 65536   /* that an agent may open, where the system allows as many */
#define STACK (8ul << 20)   /* bytes */
#define ONE_BY_ONE 1048576u /* descriptors that are tried where nothing tells which are open */

/* --- descriptors --- */

static void stand_on_feet(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
    for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        fcntl(fd, F_SETFD, 0);
}

static bool is_kept(int fd, const int *keep, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (keep[i] == fd)
            return true;
    return false;
}

/* The lowest of those to keep that is not below from; -1: none. */
static int next_kept(int from, const int *keep, size_t count)
{
    int least = -1;
    for (size_t i = 0; i < count; i++)
        if (keep[i] >= from && (least < 0 || keep[i] < least))
            least = keep[i];
    return least;
}

/* Linux 5.9; a container's filter may forbid it. */
static bool close_ranges(const int *keep, size_t count)
{
    int from = FIRST;
    for (int kept; (kept = next_kept(from, keep, count)) >= 0; from = kept + 1)
        if (kept > from && syscall(SYS_close_range, (unsigned)from, (unsigned)kept - 1, 0) < 0)
            return false;
    return syscall(SYS_close_range, (unsigned)from, ~0u, 0) == 0;
}

/* Closing one while the list is read may hide others from it: read again until nothing is left. */
static bool close_listed(const int *keep, size_t count)
{
    bool closed = true;
    while (closed) {
        DIR *list = opendir("/proc/self/fd");
        if (!list)
            return false;
        closed = false;
        for (struct dirent *entry; (entry = readdir(list));) {
            char *end;
            long fd = strtol(entry->d_name, &end, 10);
            if (*end || end == entry->d_name || fd < FIRST || fd == dirfd(list) || is_kept((int)fd, keep, count))
                continue;
            close((int)fd);
            closed = true;
        }
        closedir(list);
    }
    return true;
}

static void close_each(const int *keep, size_t count)
{
    struct rlimit limit;
    unsigned most = ONE_BY_ONE; /* some may be over a limit that was lowered later */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max != RLIM_INFINITY && limit.rlim_max > most)
        most = (unsigned)limit.rlim_max;
    for (unsigned fd = FIRST; fd < most; fd++)
        if (!is_kept((int)fd, keep, count))
            close((int)fd);
}

void tc_startup_close(const int *keep, size_t count)
{
    if (!close_ranges(keep, count) && !close_listed(keep, count))
        close_each(keep, count);
}

/* --- signals, timers, limits --- */

void tc_startup_unblock(void)
{
    sigset_t empty;
    sigemptyset(&empty);
    sigprocmask(SIG_SETMASK, &empty, NULL);
}

void tc_startup_signals(void)
{
    static const struct itimerval none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* that of SIGKILL and of a few others cannot be set */
    tc_startup_unblock();
    setitimer(ITIMER_REAL, &none, NULL);
    setitimer(ITIMER_VIRTUAL, &none, NULL);
    setitimer(ITIMER_PROF, &none, NULL);
}

/* As much as wished for, as hard limits allow it to those who may not raise them. */
static void raise_limit(int resource, rlim_t wish)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) < 0 || limit.rlim_cur >= wish)
        return;
    struct rlimit more = {wish, limit.rlim_max > wish ? limit.rlim_max : wish};
    if (setrlimit((__rlimit_resource_t)resource, &more) == 0)
        return;
    limit.rlim_cur = limit.rlim_max < wish ? limit.rlim_max : wish;
    setrlimit((__rlimit_resource_t)resource, &limit);
}

static void set_limits(void)
{
    static const struct {
        int resource;
        rlim_t wish;
    } limits[] = {{RLIMIT_FSIZE, RLIM_INFINITY}, {RLIMIT_AS, RLIM_INFINITY},    {RLIMIT_DATA, RLIM_INFINITY},
                  {RLIMIT_CPU, RLIM_INFINITY},   {RLIMIT_NPROC, RLIM_INFINITY}, {RLIMIT_STACK, STACK},
                  {RLIMIT_NOFILE, DESCRIPTORS}};
    static const struct rlimit none = {0, 0};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        raise_limit(limits[i].resource, limits[i].wish);
    setrlimit(RLIMIT_CORE, &none);
}

void tc_startup_surroundings(void)
{
    tc_startup_signals();
    set_limits(); /* first: of descriptors there may be too few to open one */
    stand_on_feet();
    tc_startup_close(NULL, 0);
    umask(022);
    if (chdir("/") < 0)
        return; /* by relative names nothing is opened anyway */
}

/* --- environment --- */

static bool is_named(char *const *list, size_t count, const char *entry)
{
    size_t length = strcspn(entry, "=") + 1;
    for (size_t i = 0; i < count; i++)
        if (strncmp(list[i], entry, length) == 0)
            return true;
    return false;
}

void tc_startup_environment(char *const *argv, bool (*keep)(const char *entry))
{
    size_t count = 0, kept = 0;
    while (environ && environ[count])
        count++;
    static char *nothing[] = {NULL};
    char **cut = calloc(count + 1, sizeof *cut);
    for (size_t i = 0; cut && i < count; i++)
        if (strchr(environ[i], '=') && keep(environ[i]) && !is_named(cut, kept, environ[i]))
            cut[kept++] = environ[i];
    environ = cut ? cut : nothing;
    if (kept < count)
        execve("/proc/self/exe", argv, environ);
}
