#include "site/jobdir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "site/trash.h"

#define HOOKS ".hooks"
#define TRASH "trash"
#define ACL_NAME "system.posix_acl_access"
#define LOOK_MS 10 /* between two tries at a lock */
#define NOTE_MAX 256

struct tc_jobdir {
    char *path;       /* BASE/NAME */
    const char *name; /* in it */
    int base, hooks, trash, lock;
    int fd, state; /* NAME and NAME/.treecast, once they are made */
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Directories that nobody but root, or who runs this, can exchange or fill. */

static int check(int fd, const char *path, size_t length, bool above, struct tc_err *err)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return tc_fail_errno(err, errno, "cannot read %.*s", (int)length, path);
    if (status.st_uid != geteuid() && status.st_uid != 0)
        return tc_fail(err, TC_E_POLICY,
                       "%.*s belongs to uid %u, who could exchange what is in it: choose a directory "
                       "of root's for [hook] base, or chown root it",
                       (int)length, path, (unsigned)status.st_uid);
    if (status.st_mode & (S_IWOTH | S_IWGRP) && !(above && status.st_mode & S_ISVTX))
        return tc_fail(err, TC_E_POLICY,
                       "others may write to %.*s (mode %04o): choose a directory of root's own for "
                       "[hook] base, or chmod go-w it",
                       (int)length, path, (unsigned)(status.st_mode & 07777));
    return 0;
}

/* A directory in at, which is made with mode where it is missing and make is set. A descriptor. */
static int enter(int at, const char *name, bool make, mode_t mode, const char *path, size_t length, struct tc_err *err)
{
    bool made = make && mkdirat(at, name, mode) == 0;
    if (make && !made && errno != EEXIST)
        return tc_fail_errno(err, errno, "cannot make %.*s", (int)length, path);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
        return tc_fail(err, TC_E_POLICY, "%.*s is a link or not a directory; name the directory itself", (int)length,
                       path);
    if (fd < 0)
        return tc_fail_errno(err, errno, "cannot open %.*s", (int)length, path);
    if (!made || fchmod(fd, mode) == 0) /* the umask may have taken too much */
        return fd;
    int number = errno;
    close(fd);
    return tc_fail_errno(err, number, "cannot change the mode of %.*s", (int)length, path);
}

/* From the root down, so that what was checked above stays above. */
static int open_base(const char *base, bool make, struct tc_err *err)
{
    char name[NAME_MAX + 1];
    int at = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = at < 0 ? tc_fail_errno(err, errno, "/") : check(at, "/", 1, true, err);
    for (const char *word = base + strspn(base, "/"); *word && result == 0;) {
        size_t size = strcspn(word, "/"), length = (size_t)(word - base) + size;
        bool last = !word[size + strspn(word + size, "/")];
        snprintf(name, sizeof name, "%.*s", (int)(size < sizeof name ? size : sizeof name - 1), word);
        int next = enter(at, name, make && last, 0711, base, length, err);
        close(at);
        at = next;
        result = next < 0 ? next : check(next, base, length, !last, err);
        word += size + strspn(word + size, "/");
    }
    if (result == 0)
        return at;
    if (at >= 0)
        close(at);
    return result;
}

static int open_own(int at, const char *name, bool make, const char *base, struct tc_err *err)
{
    char path[512];
    int length = snprintf(path, sizeof path, "%.400s/%s", base, name);
    int fd = enter(at, name, make, 0700, path, (size_t)length, err);
    int result = fd < 0 ? fd : check(fd, path, (size_t)length, false, err);
    if (fd >= 0 && result < 0)
        close(fd);
    return result < 0 ? result : fd;
}

/* The lock. */

int tc_jobdir_note(const struct tc_jobdir *dir, const char *suffix, int flags)
{
    char file[NOTE_MAX];
    snprintf(file, sizeof file, "%s.%s", dir->name, suffix);
    return openat(dir->hooks, file, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static bool is_removed(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_nlink == 0;
}

/* An epilog removes the file that it holds: then it locks nothing any more. */
static int lock(struct tc_jobdir *dir, double until, struct tc_err *err)
{
    for (;;) {
        if (dir->lock < 0 && (dir->lock = tc_jobdir_note(dir, "lock", O_RDWR | O_CREAT)) < 0)
            return tc_fail_errno(err, errno, "cannot make the lock of %s", dir->path);
        bool got = flock(dir->lock, LOCK_EX | LOCK_NB) == 0;
        if (got && !is_removed(dir->lock))
            return 0;
        if (!got && errno != EWOULDBLOCK && errno != EINTR)
            return tc_fail_errno(err, errno, "cannot lock %s", dir->path);
        if (now() > until)
            return tc_fail(err, TC_E_BUSY, "%s: another hook is at work on it", dir->path);
        if (!got)
            poll(NULL, 0, LOOK_MS);
        if (is_removed(dir->lock)) {
            close(dir->lock);
            dir->lock = -1;
        }
    }
}

static int open_all(struct tc_jobdir *dir, const char *base, bool make, double until, struct tc_err *err)
{
    if ((dir->base = open_base(base, make, err)) < 0)
        return dir->base;
    if ((dir->hooks = open_own(dir->base, HOOKS, make, base, err)) < 0)
        return dir->hooks;
    if ((dir->trash = open_own(dir->hooks, TRASH, make, base, err)) < 0)
        return dir->trash;
    return lock(dir, until, err);
}

struct tc_jobdir *tc_jobdir_open(const char *base, const char *name, bool make, double seconds, struct tc_err *err)
{
    struct tc_jobdir *dir = calloc(1, sizeof *dir);
    if (!dir || asprintf(&dir->path, "%s/%s", base, name) < 0) {
        free(dir);
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    dir->name = dir->path + strlen(base) + 1;
    dir->base = dir->hooks = dir->trash = dir->lock = dir->fd = dir->state = -1;
    if (open_all(dir, base, make, now() + seconds, err) == 0)
        return dir;
    tc_jobdir_free(dir);
    return NULL;
}

void tc_jobdir_free(struct tc_jobdir *dir)
{
    if (!dir)
        return;
    const int fds[] = {dir->fd, dir->state, dir->trash, dir->hooks, dir->base, dir->lock};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(dir->path);
    free(dir);
}

const char *tc_jobdir_path(const struct tc_jobdir *dir)
{
    return dir->path;
}

/* Filling it. */

int tc_jobdir_make(struct tc_jobdir *dir, struct tc_err *err)
{
    if (mkdirat(dir->base, dir->name, 0700) < 0)
        return tc_fail_errno(err, errno, "cannot make %s", dir->path);
    dir->fd = enter(dir->base, dir->name, false, 0, dir->path, strlen(dir->path), err);
    if (dir->fd < 0)
        return dir->fd;
    dir->state = enter(dir->fd, TC_JOBDIR_STATE, true, 0711, dir->path, strlen(dir->path), err);
    return dir->state < 0 ? dir->state : 0;
}

int tc_jobdir_write(struct tc_jobdir *dir, const char *file, const void *bytes, size_t size, uid_t uid, gid_t gid,
                    mode_t mode, struct tc_err *err)
{
    int fd = openat(dir->state, file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    ssize_t written = fd < 0 ? -1 : write(fd, bytes, size);
    int result = 0;
    if (written >= 0 && (size_t)written < size)
        result = tc_fail_errno(err, ENOSPC, "cannot write %s/" TC_JOBDIR_STATE "/%s", dir->path, file);
    else if (written < 0 || fchmod(fd, mode) < 0 || fchown(fd, uid, gid) < 0)
        result = tc_fail_errno(err, errno, "cannot write %s/" TC_JOBDIR_STATE "/%s", dir->path, file);
    if (fd >= 0)
        close(fd);
    return result;
}

/* Owner rwx, uid r-x, group none, all others none. */
static bool let_in(int fd, uid_t uid)
{
    struct {
        struct posix_acl_xattr_header head;
        struct posix_acl_xattr_entry entries[5];
    } list = {
        .head = {.a_version = htole32(POSIX_ACL_XATTR_VERSION)},
        .entries = {{htole16(ACL_USER_OBJ), htole16(7), htole32((uint32_t)ACL_UNDEFINED_ID)},
                    {htole16(ACL_USER), htole16(5), htole32(uid)},
                    {htole16(ACL_GROUP_OBJ), htole16(0), htole32((uint32_t)ACL_UNDEFINED_ID)},
                    {htole16(ACL_MASK), htole16(5), htole32((uint32_t)ACL_UNDEFINED_ID)},
                    {htole16(ACL_OTHER), htole16(0), htole32((uint32_t)ACL_UNDEFINED_ID)}},
    };
    return fsetxattr(fd, ACL_NAME, &list, sizeof list, 0) == 0;
}

int tc_jobdir_open_to(struct tc_jobdir *dir, uid_t uid, gid_t gid, bool by_group, struct tc_err *err)
{
    if (!by_group && let_in(dir->fd, uid))
        return 0;
    if (!by_group && errno != EOPNOTSUPP && errno != ENOTSUP)
        return tc_fail_errno(err, errno, "%s: cannot let uid %u in", dir->path, (unsigned)uid);
    if (fchown(dir->fd, (uid_t)-1, gid) < 0 || fchmod(dir->fd, 0750) < 0)
        return tc_fail_errno(err, errno, "%s: cannot let group %u in", dir->path, (unsigned)gid);
    return 0;
}

int tc_jobdir_give(struct tc_jobdir *dir, uid_t owner, struct tc_err *err)
{
    if (fchown(dir->state, owner, (gid_t)-1) < 0 || fchown(dir->fd, owner, (gid_t)-1) < 0)
        return tc_fail_errno(err, errno, "%s: cannot give it to uid %u", dir->path, (unsigned)owner);
    return 0;
}

/* Removing it. */

int tc_jobdir_discard(struct tc_jobdir *dir, double seconds, struct tc_err *err)
{
    if (dir->state >= 0)
        close(dir->state);
    if (dir->fd >= 0)
        close(dir->fd);
    dir->fd = dir->state = -1;
    int result = tc_trash_take(dir->trash, dir->base, dir->name, err);
    if (!tc_trash_empty(dir->trash, seconds))
        tc_trash_empty_later(dir->trash);
    return result < 0 ? tc_err_prefix(err, "%s", dir->path) : 0;
}

void tc_jobdir_forget(struct tc_jobdir *dir)
{
    static const char *const suffixes[] = {"agent", "log", "lock"};
    char file[NOTE_MAX];
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(file, sizeof file, "%s.%s", dir->name, suffixes[i]);
        unlinkat(dir->hooks, file, 0);
    }
}
