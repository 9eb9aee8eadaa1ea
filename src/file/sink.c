/* Why a hard kill, a full disk or lost power at any point is safe:
 *
 *   1  NAME.SESSION.part is created under the folder's lock and flock'ed before that lock is given back. Until step 5
 *      it has no other name. Killed: its flock is gone, so tc_folder_clean knows it for a left-over.
 *   2  every byte is placed; group and mode are set; off tmpfs the file is synced.
 *   3  INODE.json.tmp is written, synced off tmpfs, and renamed to INODE.json; .treecast is synced off tmpfs. INODE is
 *      our own file's, which exists, so no published file can have this number: a description left by an earlier
 *      owner of the number is replaced here, before anybody can come to it through NAME. Killed: a description without
 *      a file.
 *   4  (with force) the file that has the name now is noted.
 *   5  one rename gives our file the name: from here a reader finds file and description, and before it neither. DIR is
 *      synced off tmpfs.
 *   6  the noted file's description is removed, and only now, so lost power cannot bring back a file that has lost its
 *      description. Its number cannot have been reused: whoever would write a description of that number waits for the
 *      folder's lock, which is held from 3 to 6. Killed: a description without a file.
 *
 * A reader takes no lock. It opens NAME, and the open file keeps its inode from being reused; so the description of
 * that number is this file's, or has been removed in 6 because NAME is another file by now: then the reader begins
 * again. */
#include "file/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/inside.h"

#define SLICE ((uint64_t)256 << 20) /* bytes reserved by one call: what a signal can undo */
#define STRIDE ((uint64_t)8 << 20)  /* bytes reserved ahead of the data where that takes memory */
#define SPARE 65536u                /* bytes that must be left for the description and the directories */

struct tc_sink {
    struct tc_folder *folder;
    struct tc_sink_options options;
    uint64_t size;
    _Atomic uint64_t reserved; /* bytes from the start that are the file's for good */
    pthread_mutex_t reserving;
    int fd;
    bool published;
    char name[TC_NAME_MAX + 1];
    char part[TC_NAME_MAX + 2 * TC_SESSION_ID_SIZE + sizeof "." TC_INSIDE_PART];
};

static const char *human(char text[16], uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    if (bytes < 1024) {
        snprintf(text, 16, "%u B", (unsigned)bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    unsigned unit = 0;
    for (; value >= 1023.95; value /= 1024)
        unit++;
    snprintf(text, 16, "%.1f %ciB", value, units[unit]);
    return text;
}

static int no_room(const struct tc_sink *sink, uint64_t room, struct tc_err *err)
{
    char needs[16], has[16];
    return tc_fail(err, TC_E_NOROOM, "no room (needs %s, has %s)", human(needs, sink->size + SPARE), human(has, room));
}

/* NAME must be free, or with force a file that may go. */
static int check_name(const struct tc_sink *sink, struct stat *old, struct tc_err *err)
{
    const char *path = tc_folder_path(sink->folder);
    old->st_ino = 0;
    if (fstatat(tc_folder_fd(sink->folder), sink->name, old, AT_SYMLINK_NOFOLLOW)) {
        old->st_ino = 0;
        return errno == ENOENT ? 0 : tc_fail_errno(err, errno, "cannot look for %s in %s", sink->name, path);
    }
    if (!S_ISREG(old->st_mode))
        return tc_fail(err, TC_E_POLICY, "%s in %s is not a regular file: remove it or choose another name", sink->name,
                       path);
    if (!sink->options.force)
        return tc_fail(err, TC_E_EXISTS, "%s is already in %s: use --force to replace it", sink->name, path);
    return 0;
}

static int check_limits(const struct tc_sink *sink, struct tc_err *err)
{
    struct rlimit limit;
    /* The kernel would send SIGXFSZ. */
    if (sink->size > INT64_MAX ||
        (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && sink->size > limit.rlim_cur))
        return tc_fail(err, TC_E_LIMIT, "%s is larger than files may be here (ulimit -f)", sink->name);
    return 0;
}

/* Room for all of it beside what other files of this agent have been promised: promised to this one then. */
static int promise(struct tc_sink *sink, struct tc_err *err)
{
    uint64_t room = tc_folder_room(sink->folder),
             promised = tc_folder_promise(sink->folder, sink->size, 0) - sink->size;
    room -= promised < room ? promised : room;
    if (room >= SPARE && sink->size <= room - SPARE) {
        atomic_store(&sink->reserved, 0);
        return 0;
    }
    tc_folder_promise(sink->folder, 0, sink->size);
    return no_room(sink, room, err);
}

static int create(struct tc_sink *sink, struct tc_err *err)
{
    int lock = tc_inside_lock(tc_folder_state_fd(sink->folder), err);
    if (lock < 0)
        return lock;
    int rc = 0;
    int fd = tc_inside_open(tc_folder_state_fd(sink->folder), sink->part, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 && errno == EEXIST)
        rc = tc_fail(err, TC_E_EXISTS, "%s is being received here already", sink->name);
    else if (fd < 0)
        rc = tc_fail_errno(err, errno, "cannot create a file in %s/%s", tc_folder_path(sink->folder), TC_FOLDER_STATE);
    else if (flock(fd, LOCK_EX | LOCK_NB))
        rc = tc_fail_errno(err, errno, "cannot lock a file in %s/%s", tc_folder_path(sink->folder), TC_FOLDER_STATE);
    sink->fd = fd; /* from here on tc_sink_free unlinks it */
    close(lock);
    return rc;
}

/* Make the first end bytes the file's own. posix_fallocate writes every block where the file system cannot reserve. */
static int reserve(struct tc_sink *sink, uint64_t end, struct tc_err *err)
{
    uint64_t room = tc_folder_room(sink->folder);
    for (uint64_t at = atomic_load(&sink->reserved); at < end;) {
        uint64_t part = end - at < SLICE ? end - at : SLICE;
        int number = posix_fallocate(sink->fd, (off_t)at, (off_t)part);
        if (number == EINTR)
            continue;
        if (number == ENOSPC || number == EDQUOT)
            return no_room(sink, room, err);
        if (number)
            return tc_fail_errno(err, number, "cannot reserve room in %s", tc_folder_path(sink->folder));
        at += part;
        atomic_store(&sink->reserved, at);
        tc_folder_promise(sink->folder, 0, part);
    }
    return 0;
}

/* A disk reserves terabytes in no time, so all of it is reserved before the first byte moves. On tmpfs to reserve is to
 * allocate and clear memory, 0.5 s and more for each GB, in which nothing would travel: there the room is promised at
 * first and reserved a stride ahead of the data. Either way data is placed in reserved room alone, never sparsely: a
 * full disk found later would be found by a reader's SIGBUS. */
static int reserve_first(struct tc_sink *sink, struct tc_err *err)
{
    bool memory = tc_folder_on_tmpfs(sink->folder);
    return reserve(sink, memory && sink->size > STRIDE ? STRIDE : sink->size, err);
}

static int reserve_until(struct tc_sink *sink, uint64_t end, struct tc_err *err)
{
    if (end <= atomic_load(&sink->reserved))
        return 0;
    uint64_t rounded = (end + STRIDE - 1) / STRIDE * STRIDE;
    pthread_mutex_lock(&sink->reserving);
    int rc = reserve(sink, rounded < sink->size ? rounded : sink->size, err);
    pthread_mutex_unlock(&sink->reserving);
    return rc;
}

struct tc_sink *tc_sink_new(struct tc_folder *folder, const char *name, const uint8_t session[TC_SESSION_ID_SIZE],
                            uint64_t size, const struct tc_sink_options *options, struct tc_err *err)
{
    if (tc_name_check(name, err))
        return NULL;
    struct tc_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    *sink = (struct tc_sink){.folder = folder, .options = *options, .size = size, .fd = -1};
    atomic_init(&sink->reserved, size); /* until it is promised something */
    pthread_mutex_init(&sink->reserving, NULL);
    strcpy(sink->name, name);
    int used = sprintf(sink->part, "%s.", name);
    for (size_t i = 0; i < TC_SESSION_ID_SIZE; i++)
        used += sprintf(sink->part + used, "%02x", session[i]);
    strcpy(sink->part + used, TC_INSIDE_PART);

    struct stat old;
    if (check_name(sink, &old, err) == 0 && check_limits(sink, err) == 0 && promise(sink, err) == 0 &&
        create(sink, err) == 0 && reserve_first(sink, err) == 0)
        return sink;
    tc_sink_free(sink);
    return NULL;
}

static int check_range(const struct tc_sink *sink, uint64_t offset, size_t size, struct tc_err *err)
{
    if (offset <= sink->size && size <= sink->size - offset)
        return 0;
    return tc_fail(err, TC_E_FAILED, "%zu bytes at %llu are outside %s", size, (unsigned long long)offset, sink->name);
}

int tc_sink_place(struct tc_sink *sink, uint64_t offset, const void *bytes, size_t size, struct tc_err *err)
{
    const uint8_t *at = bytes;
    int rc = check_range(sink, offset, size, err);
    if (rc == 0)
        rc = reserve_until(sink, offset + size, err);
    while (rc == 0 && size > 0) {
        ssize_t put = pwrite(sink->fd, at, size, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return tc_fail_errno(err, put ? errno : EIO, "cannot write %s", sink->name);
        at += put;
        offset += (uint64_t)put;
        size -= (size_t)put;
    }
    return rc;
}

int tc_sink_read(struct tc_sink *sink, uint64_t offset, void *bytes, size_t size, struct tc_err *err)
{
    uint8_t *at = bytes;
    int rc = check_range(sink, offset, size, err);
    while (rc == 0 && size > 0) {
        ssize_t got = pread(sink->fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return tc_fail_errno(err, got ? errno : EIO, "cannot read %s", sink->name);
        at += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return rc;
}

static int sync_directory(const struct tc_folder *folder, int fd, struct tc_err *err)
{
    /* Some file systems have nothing to sync there, and say EINVAL. */
    if (tc_folder_on_tmpfs(folder) || fsync(fd) == 0 || errno == EINVAL)
        return 0;
    return tc_fail_errno(err, errno, "cannot sync %s", tc_folder_path(folder));
}

static int finish_data(const struct tc_sink *sink, struct tc_err *err)
{
    /* The group first: the mode may open the file for it. */
    if (sink->options.group != (gid_t)-1 && fchown(sink->fd, (uid_t)-1, sink->options.group))
        return tc_fail_errno(err, errno, "cannot give %s to group %lu", sink->name, (unsigned long)sink->options.group);
    if (fchmod(sink->fd, sink->options.mode))
        return tc_fail_errno(err, errno, "cannot set the mode of %s", sink->name);
    if (!tc_folder_on_tmpfs(sink->folder) && fsync(sink->fd)) /* not fdatasync: the mode too */
        return tc_fail_errno(err, errno, "cannot sync %s", sink->name);
    return 0;
}

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t put = write(fd, text, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        text += put;
        size -= (size_t)put;
    }
    return 0;
}

/* Step 3 above. */
int tc_inside_describe(struct tc_folder *folder, const char *name, ino_t inode, const char *text, struct tc_err *err)
{
    int state = tc_folder_state_fd(folder);
    char temporary[TC_INSIDE_NAME_MAX], final[TC_INSIDE_NAME_MAX];
    tc_inside_name(temporary, inode, TC_INSIDE_TMP);
    tc_inside_name(final, inode, TC_INSIDE_JSON);
    unlinkat(state, temporary, 0); /* of a process that was killed right here */
    int fd = tc_inside_open(state, temporary, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return tc_fail_errno(err, errno, "cannot create the description of %s", name);
    int rc = 0;
    if (write_all(fd, text, strlen(text)) || fchmod(fd, 0644) || (!tc_folder_on_tmpfs(folder) && fsync(fd)) ||
        renameat(state, temporary, state, final)) {
        rc = tc_fail_errno(err, errno, "cannot write the description of %s", name);
        unlinkat(state, temporary, 0);
    }
    close(fd);
    return rc ? rc : sync_directory(folder, state, err);
}

/* Step 5. Where a file system has no RENAME_NOREPLACE, a second name and the end of the first do the same. */
static int rename_data(const struct tc_sink *sink, struct tc_err *err)
{
    int from = tc_folder_state_fd(sink->folder), to = tc_folder_fd(sink->folder);
    int rc = renameat2(from, sink->part, to, sink->name, sink->options.force ? 0 : RENAME_NOREPLACE);
    if (rc && (errno == EINVAL || errno == ENOSYS) && !sink->options.force) {
        rc = linkat(from, sink->part, to, sink->name, 0);
        if (rc == 0)
            unlinkat(from, sink->part, 0);
    }
    if (rc && errno == EEXIST)
        return tc_fail(err, TC_E_EXISTS, "%s is already in %s: use --force to replace it", sink->name,
                       tc_folder_path(sink->folder));
    return rc ? tc_fail_errno(err, errno, "cannot publish %s", sink->name) : 0;
}

/* Steps 3 to 6, under the folder's lock. */
static int publish(struct tc_sink *sink, const char *text, struct tc_err *err)
{
    int state = tc_folder_state_fd(sink->folder);
    char file[TC_INSIDE_NAME_MAX];
    struct stat own, old;
    if (fstat(sink->fd, &own))
        return tc_fail_errno(err, errno, "cannot read %s", sink->name);
    int rc = check_name(sink, &old, err);
    if (rc == 0)
        rc = tc_inside_describe(sink->folder, sink->name, own.st_ino, text, err);
    if (rc == 0)
        rc = rename_data(sink, err);
    if (rc) {
        unlinkat(state, tc_inside_name(file, own.st_ino, TC_INSIDE_JSON), 0);
        return rc;
    }
    sink->published = true;
    rc = sync_directory(sink->folder, tc_folder_fd(sink->folder), err);
    if (rc == 0 && old.st_ino)
        unlinkat(state, tc_inside_name(file, old.st_ino, TC_INSIDE_JSON), 0);
    return rc;
}

int tc_sink_publish(struct tc_sink *sink, const struct tc_description *description, struct tc_err *err)
{
    if (strcmp(description->name, sink->name) != 0 || description->size != sink->size)
        return tc_fail(err, TC_E_FAILED, "the description of %s is not of the file received", sink->name);
    int rc = finish_data(sink, err);
    if (rc)
        return rc;
    char *text = tc_description_print(description, err);
    if (!text)
        return -TC_E_NOMEM;
    int lock = tc_inside_lock(tc_folder_state_fd(sink->folder), err);
    if (lock < 0) {
        free(text);
        return lock;
    }
    rc = publish(sink, text, err);
    close(lock);
    free(text);
    return rc;
}

void tc_sink_free(struct tc_sink *sink)
{
    if (!sink)
        return;
    if (sink->fd >= 0) {
        if (!sink->published)
            unlinkat(tc_folder_state_fd(sink->folder), sink->part, 0);
        close(sink->fd);
    }
    tc_folder_promise(sink->folder, 0, sink->size - atomic_load(&sink->reserved));
    pthread_mutex_destroy(&sink->reserving);
    free(sink);
}
