#include "file/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/trust.h"

enum fitness { ABSENT, FIT, UNFIT };

/* Whether the user can publish or read at path, where nothing, a link or anything may be. */
static enum fitness look(const char *path, uid_t uid, struct tc_err *err)
{
    struct stat status;
    if (lstat(path, &status) < 0)
        return ABSENT; /* or out of reach, which whoever opens it is told */
    if (status.st_uid != uid && tc_trust_owner(status.st_uid, path, err) < 0)
        return UNFIT;
    if (S_ISLNK(status.st_mode)) /* the user's own */
        return FIT;
    if (!S_ISDIR(status.st_mode))
        tc_fail(err, TC_E_POLICY, "%s is not a directory: remove it, or choose another (-d, TREECAST_DIR)", path);
    else if (status.st_mode & (S_IWGRP | S_IWOTH))
        tc_fail(err, TC_E_POLICY,
                "others may write to %s: chmod go-w it, or choose another directory (-d, TREECAST_DIR)", path);
    else
        return FIT;
    return UNFIT;
}

/* In memory, and nobody else may look into it. */
static bool is_private_memory(const char *path, uid_t uid)
{
    struct stat status;
    struct statfs system;
    int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool fit = fd >= 0 && fstat(fd, &status) == 0 && status.st_uid == uid && !(status.st_mode & 077) &&
               fstatfs(fd, &system) == 0 && (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
    if (fd >= 0)
        close(fd);
    return fit;
}

static bool runtime_place(uid_t uid, char *path, size_t size)
{
    char standard[64];
    const char *wish = uid == geteuid() ? getenv("XDG_RUNTIME_DIR") : NULL;
    snprintf(standard, sizeof standard, "/run/user/%lu", (unsigned long)uid);
    const char *base = wish && *wish == '/' ? wish : standard;
    return is_private_memory(base, uid) && (size_t)snprintf(path, size, "%s/treecast", base) < size;
}

int tc_place_of(uid_t uid, char *path, size_t size, struct tc_err *err)
{
    char runtime[PATH_MAX];
    struct tc_err why = {0};
    snprintf(path, size, "/dev/shm/treecast-%lu", (unsigned long)uid);
    enum fitness shared = look(path, uid, &why);
    if (shared == FIT || !runtime_place(uid, runtime, sizeof runtime))
        return shared == UNFIT ? tc_fail(err, why.reason, "%s", why.text) : 0;
    enum fitness own = look(runtime, uid, NULL);
    if (own == FIT || (own == ABSENT && shared == UNFIT))
        snprintf(path, size, "%s", runtime);
    else if (shared == UNFIT)
        return tc_fail(err, why.reason, "%s", why.text);
    return 0;
}

int tc_place_default(char *path, size_t size, struct tc_err *err)
{
    const char *wish = getenv("TREECAST_DIR");
    if (!wish || !*wish)
        return tc_place_of(geteuid(), path, size, err);
    snprintf(path, size, "%s", wish);
    return 0;
}
