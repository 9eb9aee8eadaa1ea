#include "file/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/process.h"
#include "base/trust.h"
#include "file/inside.h"

enum { FIRST_PAUSE_US = 500, LONGEST_PAUSE_US = 20000 }; /* between two tries */

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The process that took the flock on this file, as /proc/locks tells; 0: it does not, where the process is of another
 * PID namespace say. A line of one that waits has an arrow where the others have the kind. */
static uint32_t holder(int fd)
{
    struct stat status;
    FILE *locks = fstat(fd, &status) == 0 ? fopen("/proc/locks", "re") : NULL;
    char line[256];
    uint32_t found = 0;
    while (locks && found == 0 && fgets(line, sizeof line, locks)) {
        unsigned pid, high, low;
        unsigned long long inode;
        if (sscanf(line, "%*u: FLOCK %*s %*s %u %x:%x:%llu", &pid, &high, &low, &inode) == 4 &&
            inode == status.st_ino && high == major(status.st_dev) && low == minor(status.st_dev))
            found = pid;
    }
    if (locks)
        fclose(locks);
    return found;
}

static int busy(const struct tc_folder *folder, int fd, uint64_t waited, struct tc_err *err)
{
    char who[TC_PROCESS_TEXT];
    uint32_t pid = holder(fd);
    tc_process_text(pid, who);
    return tc_fail(err, TC_E_BUSY, "busy: %s has held %s/%s/lock for %.1f s: %s", who, tc_folder_path(folder),
                   TC_FOLDER_STATE, (double)waited / 1000,
                   pid ? "let it go on or end it" : "let it go on or end it ('fuser' may find it)");
}

/* Try until the time is over, and once after: this process may have been the one that stood still. Who has waited in vain
 * does not do so again at once, so that a session, which needs the lock more than once, waits once. */
static int wait_for(struct tc_folder *folder, int fd, struct tc_err *err)
{
    struct timespec pause = {.tv_nsec = FIRST_PAUSE_US * 1000};
    struct tc_inside_waits *waits = tc_inside_waits(folder);
    uint64_t began = now_ms(), failed_at = atomic_load(&waits->failed_at);
    bool again = failed_at > 0 && began < failed_at + TC_LOCK_AGAIN_MS;
    for (;;) {
        uint64_t waited = now_ms() - began;
        bool over = waited >= (again || atomic_load(&waits->hurried) ? TC_LOCK_SHORT_MS : TC_LOCK_MS);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return tc_fail_errno(err, errno, "cannot lock %s/%s/lock", tc_folder_path(folder), TC_FOLDER_STATE);
        if (over) {
            atomic_store(&waits->failed_at, now_ms());
            return busy(folder, fd, waited, err);
        }
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < LONGEST_PAUSE_US * 1000)
            pause.tv_nsec *= 2;
    }
}

/* Whether the lock file is what it should be. One that root has made here is the owner's of the directory: root that
 * cleans up must not shut out the agent. */
static int check(int state, int fd, const char *shown, struct tc_err *err)
{
    struct stat above, status;
    int rc = tc_trust_fd(fd, shown, err);
    if (rc < 0)
        return rc;
    if (fstat(state, &above) || fstat(fd, &status))
        return tc_fail_errno(err, errno, "cannot read %s", shown);
    if (!S_ISREG(status.st_mode))
        return tc_fail(err, TC_E_POLICY, "%s is not a regular file: remove it", shown);
    if (status.st_uid != above.st_uid && geteuid() == 0 && fchown(fd, above.st_uid, above.st_gid))
        return tc_fail_errno(err, errno, "cannot give %s to its directory's owner", shown);
    return 0;
}

int tc_lock_take(struct tc_folder *folder, struct tc_err *err)
{
    int state = tc_folder_state_fd(folder);
    char shown[512];
    if (state < 0)
        return tc_fail(err, TC_E_NOTFOUND, "there is no directory %s/%s: no agent has used this one",
                       tc_folder_path(folder), TC_FOLDER_STATE);
    snprintf(shown, sizeof shown, "%s/%s/lock", tc_folder_path(folder), TC_FOLDER_STATE);
    int fd = tc_inside_open(state, "lock", O_RDWR | O_CREAT | O_NONBLOCK, 0600);
    if (fd < 0)
        return tc_fail_errno(err, errno, "cannot open %s", shown);
    int rc = check(state, fd, shown, err);
    if (rc == 0)
        rc = wait_for(folder, fd, err);
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}
