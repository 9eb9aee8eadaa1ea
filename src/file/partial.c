#include "file/partial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file/inside.h"
#include "file/lock.h"

#define ID_TEXT (2 * TC_SESSION_ID_SIZE)

struct left_over {
    char file[TC_NAME_MAX + ID_TEXT + sizeof "." TC_INSIDE_PART];
    struct stat status;
};

struct left_overs {
    struct left_over *items; /* owned; oldest first */
    size_t count;
};

/* NAME.SESSION.part; name NULL: of any NAME. */
static bool is_part(const char *file, const char *name)
{
    size_t length = strlen(file), tail = 1 + ID_TEXT + strlen(TC_INSIDE_PART);
    if (length <= tail || length - tail > TC_NAME_MAX || strcmp(file + length - strlen(TC_INSIDE_PART), TC_INSIDE_PART))
        return false;
    const char *id = file + length - tail;
    return *id == '.' && strspn(id + 1, "0123456789abcdef") == ID_TEXT &&
           (!name || (strlen(name) == length - tail && memcmp(file, name, length - tail) == 0));
}

/* Open one that no live process holds and that has no other name, and hold it. */
static int take(int state, const char *file, struct stat *status)
{
    int fd = tc_inside_open(state, file, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (fstat(fd, status) == 0 && S_ISREG(status->st_mode) && status->st_nlink == 1 &&
        flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    close(fd);
    return -1;
}

static int by_age(const void *a, const void *b)
{
    const struct timespec *x = &((const struct left_over *)a)->status.st_mtim;
    const struct timespec *y = &((const struct left_over *)b)->status.st_mtim;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

static void add(struct left_overs *found, const char *file, int state)
{
    struct stat status;
    int fd = take(state, file, &status);
    if (fd < 0)
        return;
    close(fd);
    struct left_over *grown = reallocarray(found->items, found->count + 1, sizeof *grown);
    if (!grown)
        return;
    found->items = grown;
    memcpy(grown[found->count].file, file, strlen(file) + 1); /* is_part has seen its length */
    grown[found->count++].status = status;
}

/* Those that cannot be looked at are left out. The folder's lock is held. */
static struct left_overs list(struct tc_folder *folder, const char *name)
{
    struct left_overs found = {0};
    int state = tc_folder_state_fd(folder), fd = tc_inside_open(state, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return found;
    }
    for (struct dirent *entry; (entry = readdir(dir));)
        if (is_part(entry->d_name, name))
            add(&found, entry->d_name, state);
    closedir(dir);
    if (found.count > 1)
        qsort(found.items, found.count, sizeof *found.items, by_age);
    return found;
}

/* A killed writer may have given the file its last mode already. */
static int open_to_write(int state, const char *file)
{
    int fd = tc_inside_open(state, file, O_RDWR | O_NONBLOCK, 0);
    if (fd < 0 && errno == EACCES && fchmodat(state, file, 0600, 0) == 0)
        fd = tc_inside_open(state, file, O_RDWR | O_NONBLOCK, 0);
    return fd;
}

static int adopt(int state, const char *file, const char *own, uint64_t size)
{
    struct stat status;
    int fd = open_to_write(state, file);
    /* With a second name it may be a published file, whose writer was killed between link and unlink. */
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1 &&
        flock(fd, LOCK_EX | LOCK_NB) == 0 && fchmod(fd, 0600) == 0 &&
        ((uint64_t)status.st_size <= size || ftruncate(fd, (off_t)size) == 0) && renameat(state, file, state, own) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -TC_E_NOTFOUND;
}

/* It was last written more than seconds ago, or that long after now: the clock was set back. */
static bool is_old(const struct stat *status, uint64_t seconds)
{
    int64_t age = (int64_t)time(NULL) - (int64_t)status->st_mtim.tv_sec, most = (int64_t)seconds;
    return age > most || age < -most;
}

int tc_partial_adopt(struct tc_folder *folder, const char *name, const char *own, uint64_t size)
{
    struct left_overs found = list(folder, name);
    int fd = -TC_E_NOTFOUND, state = tc_folder_state_fd(folder);
    for (size_t i = found.count; i-- > 0 && fd < 0;)
        if (!is_old(&found.items[i].status, TC_PARTIAL_SECONDS))
            fd = adopt(state, found.items[i].file, own, size);
    free(found.items);
    return fd;
}

void tc_partial_drop(struct tc_folder *folder, const char *name, const char *but)
{
    struct left_overs found = list(folder, name);
    for (size_t i = 0; i < found.count; i++)
        if (!but || strcmp(found.items[i].file, but) != 0)
            unlinkat(tc_folder_state_fd(folder), found.items[i].file, 0);
    free(found.items);
}

static uint64_t bytes_of(const struct stat *status)
{
    return (uint64_t)status->st_blocks * 512;
}

bool tc_partial_make_space(struct tc_folder *folder, uint64_t space, uint64_t bytes)
{
    int lock = tc_lock_take(folder, NULL);
    if (lock < 0)
        return false;
    struct left_overs found = list(folder, NULL);
    uint64_t most = 0;
    for (size_t i = 0; i < found.count; i++)
        most += bytes_of(&found.items[i].status);
    size_t gone = 0;
    while (space + most >= bytes && space < bytes && gone < found.count) {
        const struct left_over *oldest = &found.items[gone++];
        most -= bytes_of(&oldest->status);
        if (unlinkat(tc_folder_state_fd(folder), oldest->file, 0) == 0)
            space += bytes_of(&oldest->status);
    }
    free(found.items);
    close(lock);
    return gone > 0;
}

void tc_partial_expire(struct tc_folder *folder, uint64_t seconds)
{
    int lock = tc_lock_take(folder, NULL);
    if (lock < 0)
        return;
    struct left_overs found = list(folder, NULL);
    for (size_t i = 0; i < found.count; i++)
        if (is_old(&found.items[i].status, seconds))
            unlinkat(tc_folder_state_fd(folder), found.items[i].file, 0);
    free(found.items);
    close(lock);
}
