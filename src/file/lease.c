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

bool tc_lease_over(const struct tc_lease *lease)
{
    uint64_t start;
    if (tc_lease_left(lease) == 0)
        return true;
    return lease->pid && (tc_process_start(lease->pid, &start) < 0 || start != lease->start);
}

/* The lease is read under the lock: it may have been renewed, or NAME be another file by now. */
int tc_lease_end(struct tc_folder *folder, const char *name, struct tc_lease *lease, struct tc_err *err)
{
    struct tc_description description = {0};
    uint64_t bytes = 0;
    int lock = tc_lock_take(folder, err);
    if (lock == -TC_E_BUSY)
        return lock;
    int fd = lock < 0 ? -1 : tc_folder_open_array(folder, name, &description, NULL);
    bool removed = fd >= 0 && tc_lease_over(&description.lease) && tc_inside_remove(folder, name, &bytes, NULL) == 0;
    if (lock >= 0)
        close(lock);
    if (fd >= 0) /* after the lock: the end of a large file takes its time */
        close(fd);
    *lease = fd >= 0 ? description.lease : (struct tc_lease){0};
    tc_array_free(&description.array);
    return removed;
}

struct sweep {
    struct tc_folder *folder;
    void (*gone)(void *arg, const char *name);
    void (*stays)(void *arg, const char *name, const struct tc_lease *lease);
    void *arg;
    struct tc_err *err;
    int status; /* TC_E_BUSY: nobody waits for the lock again */
};

static int look(const struct tc_description *description, void *arg)
{
    struct sweep *sweep = arg;
    struct tc_lease lease = description->lease;
    int ended = 0;
    if (sweep->status == 0 && tc_lease_over(&lease))
        ended = tc_lease_end(sweep->folder, description->name, &lease, sweep->err);
    if (ended < 0) {
        sweep->status = ended;
        lease = description->lease;
    }
    if (ended > 0 && sweep->gone)
        sweep->gone(sweep->arg, description->name);
    if (ended <= 0 && sweep->stays && (lease.expires || lease.pid))
        sweep->stays(sweep->arg, description->name, &lease);
    return 0;
}

int tc_lease_sweep(struct tc_folder *folder, void (*gone)(void *arg, const char *name),
                   void (*stays)(void *arg, const char *name, const struct tc_lease *lease), void *arg,
                   struct tc_err *err)
{
    struct sweep sweep = {.folder = folder, .gone = gone, .stays = stays, .arg = arg, .err = err};
    int rc = tc_folder_each(folder, look, &sweep, err);
    return rc < 0 ? rc : sweep.status;
}
