#include "file/lease.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/process.h"
#include "file/inside.h"
#include "file/lock.h"

/* Holding the lock: NAME stays the file that was opened. */
static int set(struct tc_folder *folder, const char *name, const struct tc_lease *lease, struct tc_err *err)
{
    struct tc_description description = {0};
    struct stat status;
    int fd = tc_folder_open_array(folder, name, &description, err);
    if (fd < 0)
        return fd;
    description.lease = *lease;
    char *text = tc_description_print(&description, err);
    int rc = text ? 0 : -TC_E_NOMEM;
    if (rc == 0 && fstat(fd, &status) < 0)
        rc = tc_fail_errno(err, errno, "cannot read %s", name);
    if (rc == 0)
        rc = tc_inside_describe(folder, name, status.st_ino, text, err);
    free(text);
    tc_array_free(&description.array);
    close(fd);
    return rc;
}

int tc_lease_set(struct tc_folder *folder, const char *name, const struct tc_lease *lease, struct tc_err *err)
{
    int lock = tc_lock_take(folder, err);
    if (lock < 0)
        return lock;
    int rc = set(folder, name, lease, err);
    close(lock);
    return rc;
}

bool tc_lease_over(const struct tc_lease *lease, uint64_t now)
{
    uint64_t start;
    if (lease->expires && lease->expires <= now)
        return true;
    return lease->pid && (tc_process_start(lease->pid, &start) < 0 || start != lease->start);
}

struct sweep {
    struct tc_folder *folder;
    uint64_t now;
    void (*gone)(void *arg, const char *name);
    void (*stays)(void *arg, const struct tc_lease *lease);
    void *arg;
    struct tc_err *err;
};

/* The lease is read again under the lock: it may have been renewed, or NAME be another file by now. TC_E_BUSY, or 0. */
static int end_one(const struct sweep *sweep, const char *name)
{
    struct tc_description description = {0};
    uint64_t bytes = 0;
    int lock = tc_lock_take(sweep->folder, sweep->err);
    if (lock == -TC_E_BUSY)
        return lock;
    int fd = lock < 0 ? -1 : tc_folder_open_array(sweep->folder, name, &description, NULL);
    bool removed = fd >= 0 && tc_lease_over(&description.lease, sweep->now) &&
                   tc_inside_remove(sweep->folder, name, &bytes, NULL) == 0;
    if (lock >= 0)
        close(lock);
    if (fd >= 0) /* after the lock: the end of a large file takes its time */
        close(fd);
    tc_array_free(&description.array);
    if (removed && sweep->gone)
        sweep->gone(sweep->arg, name);
    return 0;
}

static int look(const struct tc_description *description, void *arg)
{
    const struct sweep *sweep = arg;
    const struct tc_lease *lease = &description->lease;
    if (tc_lease_over(lease, sweep->now))
        return end_one(sweep, description->name);
    if (sweep->stays && (lease->expires || lease->pid))
        sweep->stays(sweep->arg, lease);
    return 0;
}

int tc_lease_sweep(struct tc_folder *folder, uint64_t now, void (*gone)(void *arg, const char *name),
                   void (*stays)(void *arg, const struct tc_lease *lease), void *arg, struct tc_err *err)
{
    struct sweep sweep = {.folder = folder, .now = now, .gone = gone, .stays = stays, .arg = arg, .err = err};
    return tc_folder_each(folder, look, &sweep, err);
}
