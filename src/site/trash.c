#include "site/trash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/startup.h"

#define LARGE (INT64_C(256) << 20) /* bytes: freeing them takes the kernel some hundredths of a second */
#define LATER_SECONDS 600.0
#define PAUSE_MS 20 /* before another try at what somebody still writes to */

struct sweep {
    int trash;
    double until;
    bool large; /* those too */
    bool left;  /* there was something that is still there, or has come up */
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Under a name that nothing else there has: of this process, and counted. */
static int move(int trash, int at, const char *name)
{
    static unsigned count;
    char unique[64];
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    snprintf(unique, sizeof unique, "%lld.%09ld.%d.%u", (long long)time.tv_sec, time.tv_nsec, (int)getpid(), count++);
    return renameat(at, name, trash, unique);
}

int tc_trash_take(int trash, int at, const char *name, struct tc_err *err)
{
    if (move(trash, at, name) == 0 || errno == ENOENT)
        return 0;
    return tc_fail_errno(err, errno, "cannot move %s aside", name);
}

static bool too_large(const struct sweep *sweep, int at, const char *name)
{
    struct stat status;
    return !sweep->large && fstatat(at, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode) &&
           status.st_nlink == 1 && (int64_t)status.st_blocks * 512 > LARGE;
}

/* Each name in the directory: what is no folder goes, a folder comes up into the trash. */
static void empty_folder(struct sweep *sweep, int at)
{
    int copy = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    if (!list) {
        sweep->left = true;
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *entry; now() < sweep->until && (entry = readdir(list));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (too_large(sweep, at, name))
            sweep->left = true;
        else if (unlinkat(at, name, 0) < 0 && errno != ENOENT && unlinkat(at, name, AT_REMOVEDIR) < 0 &&
                 move(sweep->trash, at, name) < 0)
            sweep->left = true;
    }
    closedir(list);
}

static void remove_one(struct sweep *sweep, const char *name)
{
    int fd = openat(sweep->trash, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        empty_folder(sweep, fd);
        close(fd);
    }
    if (unlinkat(sweep->trash, name, fd >= 0 ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
        sweep->left = true;
}

/* One look at all that is in the trash. Folders that come up meanwhile may be met, or be found by the next look. */
static bool look(struct sweep *sweep)
{
    int copy = openat(sweep->trash, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    bool any = false;
    for (struct dirent *entry; list && now() < sweep->until && (entry = readdir(list));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        any = true;
        remove_one(sweep, entry->d_name);
    }
    if (list)
        closedir(list);
    else if (copy >= 0)
        close(copy);
    return any;
}

static bool empty(int trash, double seconds, bool large)
{
    struct sweep sweep = {.trash = trash, .until = now() + seconds, .large = large};
    while (now() < sweep.until) {
        sweep.left = false;
        if (!look(&sweep))
            return true;
        if (sweep.left && !large)
            return false; /* it takes somebody with more time */
        if (sweep.left)
            poll(NULL, 0, PAUSE_MS);
    }
    return false;
}

bool tc_trash_empty(int trash, double seconds)
{
    return empty(trash, seconds, false);
}

static _Noreturn void go_on(int trash)
{
    enum { STANDARD = 3 };
    setsid();
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; null >= 0 && fd < STANDARD; fd++)
        dup2(null, fd);
    if (dup2(trash, STANDARD) < 0)
        _exit(1);
    tc_startup_close((const int[]){STANDARD}, 1);
    if (chdir("/") < 0 || fork() != 0)
        _exit(0);
    empty(STANDARD, LATER_SECONDS, true);
    _exit(0);
}

void tc_trash_empty_later(int trash)
{
    pid_t child = fork();
    if (child == 0)
        go_on(trash);
    if (child > 0)
        waitpid(child, NULL, 0);
}
