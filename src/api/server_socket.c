#include "api/server_own.h"

#include <errno.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLAIM_TRIES 50
#define CLAIM_PAUSE_MS 10
#define NEW_NAME TC_API_NAME ".new"

static struct sockaddr_un address_in(int state_fd, const char *name)
{
    /* By descriptor: DIR may be longer than a socket's address, and nothing on the way can be swapped. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", state_fd, name);
    return address;
}

static bool answers(int state_fd)
{
    struct sockaddr_un address = address_in(state_fd, TC_API_NAME);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return alive;
}

/* Two agents that start together must not both find a dead socket: the lock decides, connecting only on file systems
 * that have no locks. Who tidies up takes the lock for a moment too, so one that does not answer is given time. */
static bool is_served(int state_fd)
{
    for (int tries = 0; tries < CLAIM_TRIES; tries++) {
        if (flock(state_fd, LOCK_EX | LOCK_NB) == 0)
            return false;
        if (errno != EWOULDBLOCK)
            return answers(state_fd);
        if (answers(state_fd))
            break;
        nanosleep(&(struct timespec){.tv_nsec = CLAIM_PAUSE_MS * 1000000L}, NULL);
    }
    return true;
}

int tc_api_claim(struct tc_api *api, int state_fd, struct tc_err *err)
{
    struct stat status;
    api->state_fd = openat(state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (api->state_fd < 0 || fstat(api->state_fd, &status) < 0)
        return tc_fail_errno(err, errno, "%s/.treecast", api->dir);
    api->owner = status.st_uid;
    if (is_served(api->state_fd))
        return tc_fail(err, TC_E_BUSY, "an agent already serves %s", api->dir);
    return 0;
}

/* An agent holds the lock from before it makes its local API until its end: while it is ours, a local API is a dead one's. */
int tc_api_clean(int state_fd, unsigned *files, struct tc_err *err)
{
    static const char *const names[] = {TC_API_NAME, NEW_NAME};
    struct stat status;
    int rc = 0, lock = openat(state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ours = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0;
    for (unsigned i = 0; i < 2 && ours && rc == 0; i++) {
        if (fstatat(state_fd, names[i], &status, AT_SYMLINK_NOFOLLOW) || !S_ISSOCK(status.st_mode))
            continue;
        if (unlinkat(state_fd, names[i], 0))
            rc = tc_fail_errno(err, errno, "cannot remove .treecast/%s", names[i]);
        else
            ++*files;
    }
    if (lock >= 0)
        close(lock);
    return rc;
}

/* The socket gets its name when it listens, so whoever sees the name can connect. Touching DIR then wakes those who
 * watch it and may not watch .treecast. */
int tc_api_bind(struct tc_api *api, struct tc_err *err)
{
    int state = api->state_fd;
    struct sockaddr_un address = address_in(state, NEW_NAME);
    api->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (api->listener < 0)
        return tc_fail_errno(err, errno, "api");
    unlinkat(state, NEW_NAME, 0);
    if (bind(api->listener, (const struct sockaddr *)&address, sizeof address) == 0 &&
        fchmodat(state, NEW_NAME, 0666, 0) == 0 && listen(api->listener, SOMAXCONN) == 0 &&
        renameat(state, NEW_NAME, state, TC_API_NAME) == 0 && utimensat(state, "..", NULL, 0) == 0)
        return 0;
    int number = errno;
    unlinkat(state, NEW_NAME, 0);
    close(api->listener);
    api->listener = -1;
    return tc_fail_errno(err, number, "cannot make %s/.treecast/" TC_API_NAME, api->dir);
}
