/* Why a hard kill, a full disk or lost power at any point is safe:
 *
 *   1  NAME.SESSION.part is created, or adopted, under the folder's lock and flock'ed before that lock is given back.
 *      Until step 5 it has no other name. Killed: its flock is gone, so it is known for a left-over.
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
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/inside.h"
#include "file/lock.h"
#include "file/memory.h"
#include "file/partial.h"

#define SLICE ((uint64_t)256 << 20) /* bytes reserved by one call: what a signal can undo */
#define STRIDE ((uint64_t)8 << 20)  /* bytes reserved ahead of the data where that takes memory */
#define SPARE 65536u                /* bytes that must be left for the description and the directories */
/* Bytes of a memory cgroup that the agent itself may come to take in a session, and when it has taken most of them. */
#define WORKING ((uint64_t)32 << 20)
#define WORKING_ON ((uint64_t)1 << 20)

struct tc_sink {
    struct tc_folder *folder;
    struct tc_sink_options options;
    uint64_t size;
    _Atomic uint64_t reserved; /* bytes from the start that are the file's for good */
    pthread_mutex_t reserving;
    struct tc_memory *memory; /* what its pages count against; NULL: nothing that has a limit */
    int fd;
    bool published, adopted, drop;
    bool linked;         /* it is the sender's own file: nothing is written to it */
    _Atomic bool placed; /* something was */
    _Atomic bool dirty;  /* since it was synced last */
    uint64_t held;       /* bytes that the adopted file had already */
    int old;             /* the published NAME, while it may be read; or -1 */
    struct stat old_status;
    _Atomic uint64_t *in_place; /* blocks of TC_BLOCK_SIZE that are to be read from fd; NULL: all */
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

/* Bytes that may still be allocated, and who has no more. */
struct space {
    uint64_t bytes;
    const char *owner;
};

/* working: what the agent may come to take for itself, where that counts too. */
static struct space space_for(const struct tc_sink *sink, uint64_t bytes, uint64_t working)
{
    struct space space = {tc_folder_space(sink->folder), ""};
    uint64_t allowed = tc_memory_space(sink->memory, bytes + working);
    allowed -= working < allowed ? working : allowed;
    return allowed < space.bytes ? (struct space){allowed, "the memory cgroup "} : space;
}

static int no_space(const struct tc_sink *sink, struct space space, struct tc_err *err)
{
    char needs[16], has[16];
    return tc_fail(err, TC_E_NOSPACE, "no space (needs %s, %shas %s)", human(needs, sink->size + SPARE), space.owner,
                   human(has, space.bytes));
}

static int exists(const struct tc_sink *sink, struct tc_err *err)
{
    return tc_fail(err, TC_E_EXISTS, "%s is already in %s: use --force to replace it", sink->name,
                   tc_folder_path(sink->folder));
}

/* NAME must be free, or with force a file that may go. */
static int check_name(const struct tc_sink *sink, struct stat *old, bool force, struct tc_err *err)
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
    return force ? 0 : exists(sink, err);
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

/* Of the first end bytes, those that reserving takes: what was adopted has its own. */
static uint64_t beyond(const struct tc_sink *sink, uint64_t end)
{
    return end > sink->held ? end - sink->held : 0;
}

/* Space for all of it beside what other files of this agent have been promised: promised to this one then. */
static int promise(struct tc_sink *sink, struct tc_err *err)
{
    uint64_t needed = beyond(sink, sink->size), working = sink->size < WORKING ? sink->size : WORKING;
    for (bool again = true;; again = false) {
        uint64_t promised = tc_folder_promise(sink->folder, needed, 0) - needed;
        struct space space = space_for(sink, promised + needed + SPARE, working);
        uint64_t left = tc_folder_bound_left(sink->folder);
        if (left < space.bytes)
            space = (struct space){left, "--max-memory "};
        space.bytes -= promised < space.bytes ? promised : space.bytes;
        if (space.bytes >= SPARE && needed <= space.bytes - SPARE) {
            atomic_store(&sink->reserved, 0);
            return 0;
        }
        tc_folder_promise(sink->folder, 0, needed);
        if (!again || !tc_partial_make_space(sink->folder, space.bytes, needed + SPARE)) {
            space.bytes += sink->held;
            return no_space(sink, space, err);
        }
    }
}

/* What the sender has linked becomes the file, if it is the source and of the same owner. True with sink->fd. */
static bool take_link(struct tc_sink *sink)
{
    struct stat link, source;
    int state = tc_folder_state_fd(sink->folder);
    char name[2 * TC_SESSION_ID_SIZE + sizeof TC_INSIDE_LINK];
    const char *id = sink->part + strlen(sink->name) + 1;
    snprintf(name, sizeof name, "%.*s" TC_INSIDE_LINK, 2 * TC_SESSION_ID_SIZE, id);
    int fd = sink->options.has_source ? tc_inside_open(state, name, O_RDONLY | O_NONBLOCK, 0) : -1;
    if (fd < 0)
        return false;
    if (fstat(fd, &link) == 0 && fstat(sink->options.source, &source) == 0 && link.st_ino == source.st_ino &&
        link.st_dev == source.st_dev && link.st_uid == geteuid() && (uint64_t)link.st_size == sink->size &&
        flock(fd, LOCK_EX | LOCK_NB) == 0 && renameat2(state, name, state, sink->part, RENAME_NOREPLACE) == 0) {
        sink->fd = fd;
        sink->linked = sink->adopted = sink->drop = true;
        sink->held = sink->size;
        return true;
    }
    close(fd);
    return false;
}

/* Share the source's blocks where the file system can: then nothing is copied. */
static void clone_source(struct tc_sink *sink)
{
    if (!sink->options.has_source || sink->size == 0 || ioctl(sink->fd, FICLONE, sink->options.source) ||
        ftruncate(sink->fd, (off_t)sink->size))
        return;
    sink->adopted = true;
    sink->held = sink->size;
}

/* Holding the folder's lock. */
static int create_locked(struct tc_sink *sink, struct tc_err *err)
{
    struct stat status;
    int state = tc_folder_state_fd(sink->folder);
    const char *path = tc_folder_path(sink->folder);
    if (take_link(sink))
        return 0;
    sink->fd = tc_partial_adopt(sink->folder, sink->name, sink->part, sink->size);
    sink->adopted = sink->fd >= 0;
    if (sink->adopted) {
        uint64_t held = fstat(sink->fd, &status) == 0 ? (uint64_t)status.st_blocks * 512 : 0;
        sink->held = held < sink->size ? held : sink->size;
        return 0;
    }
    sink->fd = tc_inside_open(state, sink->part, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (sink->fd < 0 && errno == EEXIST)
        return tc_fail(err, TC_E_EXISTS, "%s is being received here already", sink->name);
    if (sink->fd < 0)
        return tc_fail_errno(err, errno, "cannot create a file in %s/%s", path, TC_FOLDER_STATE);
    if (flock(sink->fd, LOCK_EX | LOCK_NB)) /* from here on tc_sink_free unlinks it */
        return tc_fail_errno(err, errno, "cannot lock a file in %s/%s", path, TC_FOLDER_STATE);
    clone_source(sink);
    return 0;
}

static int create(struct tc_sink *sink, struct tc_err *err)
{
    int lock = tc_lock_take(sink->folder, err);
    if (lock < 0)
        return lock;
    int rc = create_locked(sink, err);
    close(lock);
    return rc;
}

/* Where the memory cgroup is full the kernel does not say so, but kills. */
static int allocate(const struct tc_sink *sink, uint64_t at, uint64_t part, struct space space)
{
    if (sink->memory && *space.owner && space.bytes < beyond(sink, at + part) - beyond(sink, at))
        return ENOSPC;
    return posix_fallocate(sink->fd, (off_t)at, (off_t)part);
}

/* posix_fallocate writes every block where the file system cannot reserve. Left-overs go before it is said that there is
 * no space. */
static int allocate_part(struct tc_sink *sink, uint64_t at, uint64_t part, struct tc_err *err)
{
    for (bool again = true;;) {
        struct space space = space_for(sink, part, WORKING_ON);
        int number = allocate(sink, at, part, space);
        if (number == 0)
            return 0;
        if (number == EINTR)
            continue;
        bool full = number == ENOSPC || number == EDQUOT;
        if (full && again && tc_partial_make_space(sink->folder, number == EDQUOT ? 0 : space.bytes, part)) {
            again = false;
            continue;
        }
        if (number == EDQUOT)
            return tc_fail(err, TC_E_NOSPACE, "no space: %s in %s: the disk quota is used up", sink->name,
                           tc_folder_path(sink->folder));
        return full ? no_space(sink, space, err)
                    : tc_fail_errno(err, number, "cannot reserve space in %s", tc_folder_path(sink->folder));
    }
}

/* Make the first end bytes the file's own. */
static int reserve(struct tc_sink *sink, uint64_t end, struct tc_err *err)
{
    if (sink->linked) { /* never written to, by us */
        atomic_store(&sink->reserved, sink->size);
        return 0;
    }
    for (uint64_t at = atomic_load(&sink->reserved); at < end;) {
        uint64_t part = end - at < SLICE ? end - at : SLICE;
        int rc = allocate_part(sink, at, part, err);
        if (rc)
            return rc;
        tc_folder_promise(sink->folder, 0, beyond(sink, at + part) - beyond(sink, at));
        at += part;
        atomic_store(&sink->reserved, at);
    }
    return 0;
}

/* A disk reserves terabytes in no time, so all of it is reserved before the first byte moves. On tmpfs to reserve is to
 * allocate and clear memory, 0.5 s and more for each GB, in which nothing would travel: there the space is promised at
 * first and reserved a stride ahead of the data. Either way data is placed in reserved space alone, never sparsely: a
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

/* The end of a file that was not published: it stays for the next session if it is worth something. */
static void leave(struct tc_sink *sink)
{
    if (sink->fd < 0)
        return;
    int state = tc_folder_state_fd(sink->folder);
    bool keep = sink->adopted || atomic_load(&sink->placed);
    if (!keep || sink->drop) {
        unlinkat(state, sink->part, 0);
    } else {
        int lock = tc_lock_take(sink->folder, NULL);
        if (lock >= 0) { /* else older ones stay until the next session of this NAME, or their time is over */
            tc_partial_drop(sink->folder, sink->name, sink->part);
            close(lock);
        }
    }
    close(sink->fd);
    sink->fd = -1;
}

/* What it was promised and has not reserved is for others. */
static void forgo(struct tc_sink *sink)
{
    tc_folder_promise(sink->folder, 0, beyond(sink, sink->size) - beyond(sink, atomic_load(&sink->reserved)));
    atomic_store(&sink->reserved, sink->size);
}

int tc_sink_allocate(struct tc_sink *sink, struct tc_err *err)
{
    int rc = create(sink, err);
    if (!sink->memory && tc_folder_on_tmpfs(sink->folder))
        sink->memory = tc_memory_open("");
    if (rc == 0)
        rc = promise(sink, err);
    if (rc == 0)
        rc = reserve_first(sink, err);
    if (rc) { /* at once, not when the session ends: whoever hears of it finds the folder as it was */
        forgo(sink);
        leave(sink);
    }
    return rc;
}

static bool same_array(const struct tc_array *one, const struct tc_array *other)
{
    char *a = tc_array_print(one, NULL), *b = tc_array_print(other, NULL);
    bool same = a && b && strcmp(a, b) == 0;
    free(a);
    free(b);
    return same;
}

/* Whether the published NAME, open as sink->old, may be the file offered; else it must be one that may go. */
static int look_at_old(struct tc_sink *sink, bool *may_be, struct tc_err *err)
{
    struct tc_description description;
    struct stat again;
    *may_be = false;
    if (sink->options.array && (uint64_t)sink->old_status.st_size == sink->size) {
        int fd = tc_folder_open_array(sink->folder, sink->name, &description, NULL);
        if (fd >= 0) {
            *may_be = fstat(fd, &again) == 0 && again.st_ino == sink->old_status.st_ino &&
                      same_array(&description.array, sink->options.array);
            tc_array_free(&description.array);
            close(fd);
        }
    }
    return *may_be || sink->options.force ? 0 : exists(sink, err);
}

/* The published NAME, if there is one, to compare with. */
static int open_old(struct tc_sink *sink, bool *may_be, struct tc_err *err)
{
    *may_be = false;
    int rc = check_name(sink, &sink->old_status, true, err);
    if (rc || sink->old_status.st_ino == 0)
        return rc;
    sink->old = tc_inside_open(tc_folder_fd(sink->folder), sink->name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (sink->old >= 0 && (fstat(sink->old, &sink->old_status) || !S_ISREG(sink->old_status.st_mode))) {
        close(sink->old);
        sink->old = -1;
    }
    if (sink->old < 0) /* one that cannot be read may still go */
        return sink->options.force ? 0 : exists(sink, err);
    rc = look_at_old(sink, may_be, err);
    if (rc || !*may_be)
        return rc;
    sink->in_place = calloc(sink->size / TC_BLOCK_SIZE / 64 + 1, sizeof *sink->in_place);
    return sink->in_place ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
}

static void name_part(struct tc_sink *sink, const char *name, const uint8_t session[TC_SESSION_ID_SIZE])
{
    strcpy(sink->name, name);
    int used = sprintf(sink->part, "%s.", name);
    for (size_t i = 0; i < TC_SESSION_ID_SIZE; i++)
        used += sprintf(sink->part + used, "%02x", session[i]);
    strcpy(sink->part + used, TC_INSIDE_PART);
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
    *sink = (struct tc_sink){.folder = folder, .options = *options, .size = size, .fd = -1, .old = -1};
    atomic_init(&sink->reserved, size); /* until it is promised something */
    pthread_mutex_init(&sink->reserving, NULL);
    name_part(sink, name, session);

    bool may_be;
    if (open_old(sink, &may_be, err) == 0 && check_limits(sink, err) == 0 &&
        (may_be || tc_sink_allocate(sink, err) == 0)) {
        sink->options.array = NULL;
        return sink;
    }
    tc_sink_free(sink);
    return NULL;
}

unsigned tc_sink_found(const struct tc_sink *sink)
{
    return (sink->old_status.st_ino ? TC_SINK_OLD : 0) |
           (sink->old >= 0 || sink->adopted || sink->options.has_source ? TC_SINK_COMPARE : 0);
}

bool tc_sink_allocated(const struct tc_sink *sink)
{
    return sink->fd >= 0;
}

/* Where the block at offset is to be read. */
static bool is_in_place(const struct tc_sink *sink, uint64_t offset)
{
    uint64_t block = offset / TC_BLOCK_SIZE;
    return !sink->in_place || (atomic_load(&sink->in_place[block / 64]) >> block % 64 & 1);
}

static void note_in_place(struct tc_sink *sink, uint64_t offset, size_t size)
{
    atomic_store(&sink->placed, true);
    atomic_store(&sink->dirty, true);
    for (uint64_t block = offset / TC_BLOCK_SIZE; sink->in_place && size > 0; block++) {
        atomic_fetch_or(&sink->in_place[block / 64], UINT64_C(1) << block % 64);
        size -= size < TC_BLOCK_SIZE ? size : TC_BLOCK_SIZE;
    }
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
    if (rc == 0 && sink->linked)
        return tc_fail(err, TC_E_SOURCE, "the linked source of %s has changed", sink->name);
    if (rc == 0)
        rc = reserve_until(sink, offset + size, err);
    for (size_t done = 0; rc == 0 && done < size;) {
        ssize_t put = pwrite(sink->fd, at + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return tc_fail_errno(err, put ? errno : EIO, "cannot write %s", sink->name);
        done += (size_t)put;
    }
    if (rc == 0)
        note_in_place(sink, offset, size);
    return rc;
}

/* Exactly size bytes; -1 and errno. */
static int read_exactly(int fd, uint64_t offset, void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(fd, (uint8_t *)bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO;
        if (got <= 0)
            return -1;
        done += (size_t)got;
    }
    return 0;
}

int tc_sink_read(struct tc_sink *sink, uint64_t offset, void *bytes, size_t size, struct tc_err *err)
{
    int rc = check_range(sink, offset, size, err);
    if (rc == 0 && read_exactly(is_in_place(sink, offset) ? sink->fd : sink->old, offset, bytes, size))
        rc = tc_fail_errno(err, errno, "cannot read %s", sink->name);
    return rc;
}

/* The bytes at offset of fd are those. */
static bool matches(int fd, uint64_t offset, void *bytes, size_t size, const struct tc_digest *digest)
{
    struct tc_digest found;
    return fd >= 0 && read_exactly(fd, offset, bytes, size) == 0 &&
           tc_digest_chunk(bytes, size, NULL, &found, NULL) == 0 && tc_digest_equal(&found, digest);
}

/* A hole reads as zeros, and may be just what is looked for: the range is reserved before it counts as placed. */
int tc_sink_compare(struct tc_sink *sink, uint64_t offset, void *bytes, size_t size, const struct tc_digest *digest,
                    bool *found, struct tc_err *err)
{
    int rc = check_range(sink, offset, size, err);
    *found = false;
    if (rc == 0 && sink->adopted && matches(sink->fd, offset, bytes, size, digest)) {
        *found = true;
        rc = reserve_until(sink, offset + size, err);
        if (rc == 0)
            note_in_place(sink, offset, size);
    } else if (rc == 0 && matches(sink->old, offset, bytes, size, digest)) {
        *found = true;
        if (sink->fd >= 0)
            rc = tc_sink_place(sink, offset, bytes, size, err);
    } else if (rc == 0 && sink->fd >= 0 && sink->options.has_source &&
               matches(sink->options.source, offset, bytes, size, digest)) {
        *found = true;
        rc = tc_sink_place(sink, offset, bytes, size, err);
    }
    return rc;
}

bool tc_sink_check(struct tc_sink *sink, uint64_t offset, void *bytes, size_t size, const struct tc_digest *digest)
{
    bool disk = !tc_folder_on_tmpfs(sink->folder);
    if (disk && atomic_exchange(&sink->dirty, false))
        fdatasync(sink->fd);
    if (disk) /* what is clean now; an error shows when it is published */
        posix_fadvise(sink->fd, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
    return check_range(sink, offset, size, NULL) == 0 && matches(sink->fd, offset, bytes, size, digest);
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
        return exists(sink, err);
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
    int rc = check_name(sink, &old, sink->options.force, err);
    if (rc == 0)
        rc = tc_inside_describe(sink->folder, sink->name, own.st_ino, text, err);
    if (rc == 0)
        rc = rename_data(sink, err);
    if (rc) {
        unlinkat(state, tc_inside_name(file, own.st_ino, TC_INSIDE_JSON), 0);
        return rc;
    }
    sink->published = true;
    tc_partial_drop(sink->folder, sink->name, NULL);
    rc = sync_directory(sink->folder, tc_folder_fd(sink->folder), err);
    if (rc == 0 && old.st_ino)
        unlinkat(state, tc_inside_name(file, old.st_ino, TC_INSIDE_JSON), 0);
    return rc;
}

/* NAME must be the file that was compared. Whatever was left of another version is of no use then. */
static int confirm(const struct tc_sink *sink, struct tc_err *err)
{
    struct stat now;
    int lock = tc_lock_take(sink->folder, err);
    if (lock < 0)
        return lock;
    bool there = fstatat(tc_folder_fd(sink->folder), sink->name, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
                 now.st_ino == sink->old_status.st_ino && now.st_dev == sink->old_status.st_dev;
    if (there)
        tc_partial_drop(sink->folder, sink->name, NULL);
    close(lock);
    return there ? 0
                 : tc_fail(err, TC_E_NOTFOUND, "%s was removed or replaced while it was compared: send it again",
                           sink->name);
}

int tc_sink_publish(struct tc_sink *sink, const struct tc_description *description, struct tc_err *err)
{
    if (strcmp(description->name, sink->name) != 0 || description->size != sink->size)
        return tc_fail(err, TC_E_FAILED, "the description of %s is not of the file received", sink->name);
    if (sink->fd < 0)
        return confirm(sink, err);
    int rc = finish_data(sink, err);
    if (rc)
        return rc;
    char *text = tc_description_print(description, err);
    if (!text)
        return -TC_E_NOMEM;
    int lock = tc_lock_take(sink->folder, err);
    if (lock < 0) {
        free(text);
        return lock;
    }
    rc = publish(sink, text, err);
    close(lock);
    free(text);
    return rc;
}

void tc_sink_drop(struct tc_sink *sink)
{
    sink->drop = true;
}

void tc_sink_free(struct tc_sink *sink)
{
    if (!sink)
        return;
    if (!sink->published)
        leave(sink);
    if (sink->fd >= 0)
        close(sink->fd);
    if (sink->old >= 0)
        close(sink->old);
    forgo(sink);
    tc_memory_close(sink->memory);
    pthread_mutex_destroy(&sink->reserving);
    free(sink->in_place);
    free(sink);
}
