#include "file/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/trust.h"
#include "data/chunk.h"
#include "file/inside.h"
#include "file/lock.h"

#define DESCRIPTION_MAX (2 * TC_DTYPE_TEXT_MAX) /* bytes of JSON; the rest of it is small beside the dtype */
#define READ_SIZE TC_CHUNK_SIZE_MAX

struct tc_folder {
    char *path;
    int fd;
    int state;                 /* DIR/.treecast */
    _Atomic uint64_t promised; /* bytes that files being filled may still take */
    uint64_t most;             /* bytes of memory for all files; 0: no bound */
    struct tc_inside_waits waits;
};

int tc_inside_open(int fd, const char *name, int flags, mode_t mode)
{
    flags |= O_CLOEXEC | O_NOFOLLOW;
    struct open_how how = {.flags = (unsigned)flags,
                           .mode = flags & O_CREAT ? mode : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long opened = syscall(SYS_openat2, fd, name, &how, sizeof how);
    /* An old kernel says ENOSYS, an old container's filter EPERM. One component without links is as safe. */
    if (opened < 0 && (errno == ENOSYS || errno == EPERM))
        return openat(fd, name, flags, mode);
    return (int)opened;
}

/* Absolute, without slashes at the end: they would make O_NOFOLLOW follow. */
static char *absolute(const char *path)
{
    char *here = path[0] == '/' ? strdup("") : get_current_dir_name();
    char *whole = NULL;
    if (here && asprintf(&whole, "%s%s%s", here, path[0] == '/' ? "" : "/", path) < 0)
        whole = NULL;
    free(here);
    for (size_t length = whole ? strlen(whole) : 0; length > 1 && whole[length - 1] == '/'; length--)
        whole[length - 1] = '\0';
    return whole;
}

static struct tc_folder *folder_new(const char *path, struct tc_err *err)
{
    struct tc_folder *folder = calloc(1, sizeof *folder);
    if (folder) {
        folder->fd = folder->state = -1;
        folder->path = absolute(path);
    }
    if (folder && folder->path)
        return folder;
    tc_fail(err, TC_E_NOMEM, "out of memory");
    tc_folder_close(folder);
    return NULL;
}

/* Only what nobody else can change is fit for publishing. */
static int check_own(int fd, const char *path, struct tc_err *err)
{
    struct stat status;
    if (fstat(fd, &status))
        return tc_fail_errno(err, errno, "cannot read %s", path);
    if (status.st_mode & S_ISVTX)
        return tc_fail(err, TC_E_POLICY, "%s is shared (sticky): use a directory of your own inside it", path);
    if (status.st_uid != geteuid())
        return tc_fail(err, TC_E_POLICY, "%s belongs to uid %lu: use a directory of your own", path,
                       (unsigned long)status.st_uid);
    if (status.st_mode & (S_IWGRP | S_IWOTH))
        return tc_fail(err, TC_E_POLICY, "others may write to %s: chmod go-w it, or use another directory", path);
    return 0;
}

/* Create name where it is missing, open it, and see that it is one's own. */
static int open_own(int at, const char *name, mode_t mode, const char *shown, struct tc_err *err)
{
    bool made = mkdirat(at, name, mode) == 0;
    if (!made && errno != EEXIST)
        return tc_fail_errno(err, errno, "cannot create %s", shown);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
        return tc_fail(err, TC_E_POLICY, "%s is a link or not a directory: use a directory of your own", shown);
    if (fd < 0)
        return tc_fail_errno(err, errno, "cannot open %s", shown);
    int rc = check_own(fd, shown, err);
    if (rc == 0 && made && fchmod(fd, mode)) /* the umask is no wish about this directory */
        rc = tc_fail_errno(err, errno, "cannot change the mode of %s", shown);
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

struct tc_folder *tc_folder_open(const char *path, struct tc_err *err)
{
    struct tc_folder *folder = folder_new(path, err);
    if (!folder)
        return NULL;
    folder->fd = open_own(AT_FDCWD, folder->path, 0755, folder->path, err);
    if (folder->fd >= 0) {
        char shown[512];
        snprintf(shown, sizeof shown, "%s/%s", folder->path, TC_FOLDER_STATE);
        folder->state = open_own(folder->fd, TC_FOLDER_STATE, 0711, shown, err);
    }
    if (folder->state >= 0)
        return folder;
    tc_folder_close(folder);
    return NULL;
}

struct tc_folder *tc_folder_open_read(const char *path, struct tc_err *err)
{
    struct tc_folder *folder = folder_new(path, err);
    if (!folder)
        return NULL;
    char shown[512];
    struct tc_err none = {0};
    snprintf(shown, sizeof shown, "%s/%s", folder->path, TC_FOLDER_STATE);
    folder->fd = tc_trust_open_dir(folder->path, err);
    folder->state = folder->fd < 0 ? -1 : tc_trust_open_dir_at(folder->fd, TC_FOLDER_STATE, shown, &none);
    if (folder->fd < 0 || none.reason == TC_E_POLICY) {
        if (none.reason)
            tc_fail(err, none.reason, "%s", none.text);
        tc_folder_close(folder);
        return NULL;
    }
    return folder;
}

const char *tc_folder_path(const struct tc_folder *folder)
{
    return folder->path;
}

int tc_folder_fd(const struct tc_folder *folder)
{
    return folder->fd;
}

int tc_folder_state_fd(const struct tc_folder *folder)
{
    return folder->state;
}

/* Bytes of memory that programs can still have. */
static uint64_t memory_available(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
        ;
    if (file)
        fclose(file);
    return kib ? (uint64_t)kib * 1024 : INT64_MAX;
}

uint64_t tc_folder_space(const struct tc_folder *folder)
{
    struct statvfs status;
    if (fstatvfs(folder->fd, &status))
        return 0;
    if (status.f_blocks > 0)
        return (uint64_t)status.f_bavail * status.f_frsize;
    /* A file system that does not say how large it is is not full: ramfs takes memory, others (some of FUSE's) tell when
     * space is reserved. */
    return tc_folder_on_tmpfs(folder) ? memory_available() : INT64_MAX;
}

uint64_t tc_folder_promise(struct tc_folder *folder, uint64_t more, uint64_t less)
{
    return atomic_fetch_add(&folder->promised, more - less) + more - less;
}

void tc_folder_bound(struct tc_folder *folder, uint64_t most)
{
    folder->most = most;
}

static uint64_t taken_in(int fd)
{
    struct stat status;
    uint64_t bytes = 0;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    for (struct dirent *entry; list && (entry = readdir(list));)
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode))
            bytes += (uint64_t)status.st_blocks * 512;
    if (list)
        closedir(list);
    else if (copy >= 0)
        close(copy);
    return bytes;
}

uint64_t tc_folder_bound_left(const struct tc_folder *folder)
{
    if (folder->most == 0 || !tc_folder_on_tmpfs(folder))
        return UINT64_MAX;
    uint64_t taken = taken_in(folder->fd) + taken_in(folder->state);
    return taken < folder->most ? folder->most - taken : 0;
}

void tc_folder_hurry(struct tc_folder *folder)
{
    atomic_store(&folder->waits.hurried, true);
}

struct tc_inside_waits *tc_inside_waits(struct tc_folder *folder)
{
    return &folder->waits;
}

bool tc_folder_on_tmpfs(const struct tc_folder *folder)
{
    struct statfs status;
    return fstatfs(folder->fd, &status) == 0 && (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC);
}

void tc_folder_close(struct tc_folder *folder)
{
    if (!folder)
        return;
    if (folder->fd >= 0)
        close(folder->fd);
    if (folder->state >= 0)
        close(folder->state);
    free(folder->path);
    free(folder);
}

/* The whole of a small file as text to be freed; NULL and errno. */
static char *slurp(int fd, size_t *size)
{
    char *text = malloc(DESCRIPTION_MAX);
    ssize_t got = 1;
    for (*size = 0; text && got > 0 && *size < DESCRIPTION_MAX; *size += (size_t)(got > 0 ? got : 0))
        do
            got = read(fd, text + *size, DESCRIPTION_MAX - *size);
        while (got < 0 && errno == EINTR);
    if (text && got < 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* The description of the file that status is of, which NAME led to. TC_E_NOTFOUND when there is none. */
static int read_description(struct tc_folder *folder, const char *name, const struct stat *status,
                            struct tc_description *description, struct tc_err *err)
{
    char file[TC_INSIDE_NAME_MAX];
    int fd =
        tc_inside_open(folder->state, tc_inside_name(file, status->st_ino, TC_INSIDE_JSON), O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0 && (errno == ENOENT || errno == EBADF))
        return -TC_E_NOTFOUND;
    if (fd < 0)
        return tc_fail_errno(err, errno, "cannot open the description of %s", name);
    int rc = tc_trust_fd(fd, name, err);
    size_t size;
    char *text = rc == 0 ? slurp(fd, &size) : NULL;
    int number = errno;
    close(fd);
    if (rc < 0)
        return rc;
    if (!text)
        return tc_fail_errno(err, number, "cannot read the description of %s", name);
    rc = tc_description_parse(description, text, size, err);
    free(text);
    if (rc) {
        tc_err_prefix(err, "%s", name);
        return rc;
    }
    if (strcmp(description->name, name) == 0 && description->size == (uint64_t)status->st_size)
        return 0;
    tc_array_free(&description->array);
    return tc_fail(err, TC_E_FORMAT, "%s differs from its description", name);
}

static int open_name(struct tc_folder *folder, const char *name, struct stat *status, struct tc_err *err)
{
    int fd = tc_inside_open(folder->fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0 && errno == ENOENT)
        return tc_fail(err, TC_E_NOTFOUND, "%s is not in %s", name, folder->path);
    if (fd < 0 && (errno == ELOOP || errno == ENXIO))
        return tc_fail(err, TC_E_FORMAT, "%s in %s is not a regular file", name, folder->path);
    if (fd < 0)
        return tc_fail_errno(err, errno, "cannot open %s in %s", name, folder->path);
    int rc = 0;
    if (fstat(fd, status))
        rc = tc_fail_errno(err, errno, "cannot read %s", name);
    else if (!S_ISREG(status->st_mode))
        rc = tc_fail(err, TC_E_FORMAT, "%s in %s is not a regular file", name, folder->path);
    else
        rc = tc_trust_owner(status->st_uid, name, err);
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

/* A replaced file loses its description after its name, so a file without one is opened anew. The last one stays open
 * meanwhile, which keeps its inode from being given to another: the same inode again is the same bare file. */
static int open_described(struct tc_folder *folder, const char *name, struct tc_description *description,
                          struct tc_err *err)
{
    int held = -1;
    ino_t bare = 0;
    for (;;) {
        struct stat status = {0};
        int fd = open_name(folder, name, &status, err);
        int rc = fd < 0 ? fd : read_description(folder, name, &status, description, err);
        bool same = held >= 0 && status.st_ino == bare;
        if (held >= 0)
            close(held);
        if (fd < 0 || rc == 0)
            return fd;
        if (rc == -TC_E_NOTFOUND && !same) {
            held = fd;
            bare = status.st_ino;
            continue;
        }
        close(fd);
        return rc != -TC_E_NOTFOUND
                   ? rc
                   : tc_fail(err, TC_E_FORMAT, "%s in %s has no description: treecast did not publish it", name,
                             folder->path);
    }
}

int tc_folder_open_array(struct tc_folder *folder, const char *name, struct tc_description *description,
                         struct tc_err *err)
{
    struct tc_description own = {0};
    int rc = tc_name_check(name, err);
    if (rc)
        return rc;
    int fd = open_described(folder, name, &own, err);
    if (fd >= 0 && description)
        *description = own;
    else
        tc_array_free(&own.array);
    return fd;
}

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static int add_name(char ***names, size_t *count, const char *name, struct tc_err *err)
{
    char **grown = *names;
    if ((*count & (*count - 1)) == 0) /* capacity doubles at powers of two */
        grown = reallocarray(*names, *count ? 2 * *count : 1, sizeof *grown);
    if (grown)
        *names = grown;
    char *copy = grown ? strdup(name) : NULL;
    if (!copy)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    grown[(*count)++] = copy;
    return 0;
}

/* The names in a directory, sorted; for free_names. */
static int list(int at, char ***names, size_t *count, struct tc_err *err)
{
    *names = NULL;
    *count = 0;
    int fd = tc_inside_open(at, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int number = errno;
        if (fd >= 0)
            close(fd);
        return tc_fail_errno(err, number, "cannot list the directory");
    }
    struct dirent *entry;
    int rc = 0;
    while (rc == 0 && (errno = 0, entry = readdir(dir)))
        rc = add_name(names, count, entry->d_name, err);
    if (rc == 0 && errno)
        rc = tc_fail_errno(err, errno, "cannot list the directory");
    closedir(dir);
    if (rc) {
        free_names(*names, *count);
        return rc;
    }
    if (*count)
        qsort(*names, *count, sizeof **names, by_text);
    return 0;
}

int tc_folder_each(struct tc_folder *folder, int (*each)(const struct tc_description *description, void *arg),
                   void *arg, struct tc_err *err)
{
    char **names;
    size_t count;
    int rc = list(folder->fd, &names, &count, err);
    if (rc) {
        tc_err_prefix(err, "%s", folder->path);
        return rc;
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct tc_description description;
        int fd = tc_folder_open_array(folder, names[i], &description, NULL);
        if (fd < 0) /* something else, or gone since */
            continue;
        close(fd);
        rc = each(&description, arg);
        tc_array_free(&description.array);
    }
    free_names(names, count);
    return rc;
}

/* NAME and its description, in this order: a description alone does no harm. Holding the lock. */
int tc_inside_remove(struct tc_folder *folder, const char *name, uint64_t *bytes, struct tc_err *err)
{
    struct stat status;
    if (fstatat(folder->fd, name, &status, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? tc_fail(err, TC_E_NOTFOUND, "%s is not in %s", name, folder->path)
                               : tc_fail_errno(err, errno, "cannot read %s in %s", name, folder->path);
    if (!S_ISREG(status.st_mode))
        return tc_fail(err, TC_E_FORMAT, "%s in %s is not a regular file", name, folder->path);
    if (unlinkat(folder->fd, name, 0))
        return tc_fail_errno(err, errno, "cannot remove %s in %s", name, folder->path);
    char file[TC_INSIDE_NAME_MAX];
    unlinkat(folder->state, tc_inside_name(file, status.st_ino, TC_INSIDE_JSON), 0);
    *bytes += (uint64_t)status.st_size;
    return 0;
}

/* By itself, so that others get the lock in between; the bytes go when it is free again, for that takes its time. */
static int remove_array(struct tc_folder *folder, const char *name, uint64_t *bytes, struct tc_err *err)
{
    int lock = tc_lock_take(folder, err);
    if (lock < 0)
        return lock;
    int file = tc_inside_open(folder->fd, name, O_PATH, 0);
    int rc = tc_inside_remove(folder, name, bytes, err);
    close(lock);
    if (file >= 0)
        close(file);
    return rc;
}

int tc_folder_remove(struct tc_folder *folder, const char *name, struct tc_err *err)
{
    uint64_t bytes = 0;
    int rc = tc_name_check(name, err);
    return rc ? rc : remove_array(folder, name, &bytes, err);
}

static bool is_part(const char *name)
{
    size_t length = strlen(name), tail = strlen(TC_INSIDE_PART);
    return length > tail && strcmp(name + length - tail, TC_INSIDE_PART) == 0;
}

/* A source that a sender linked for a session that never took it; the sender removes it itself while it lives. */
static bool is_link(const char *name)
{
    size_t length = strlen(name), tail = strlen(TC_INSIDE_LINK);
    return length > tail && strcmp(name + length - tail, TC_INSIDE_LINK) == 0;
}

/* A temporary file whose writer is gone. */
static bool left_over(int state, const char *name, struct stat *status)
{
    int fd = tc_inside_open(state, name, O_RDONLY | O_NONBLOCK, 0);
    bool dead = fd >= 0 && fstat(fd, status) == 0 && S_ISREG(status->st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0)
        close(fd);
    return dead;
}

static int by_number(const void *a, const void *b)
{
    ino_t x = *(const ino_t *)a, y = *(const ino_t *)b;
    return (x > y) - (x < y);
}

/* A description, finished or not, of a file that has no name in DIR; inodes, of those that have one, are sorted. */
static bool orphan(int state, const char *name, const ino_t *inodes, size_t count, struct stat *status)
{
    char *end;
    ino_t inode = (ino_t)strtoull(name, &end, 10);
    if (name[0] < '0' || name[0] > '9' || (strcmp(end, TC_INSIDE_JSON) != 0 && strcmp(end, TC_INSIDE_TMP) != 0))
        return false;
    if (bsearch(&inode, inodes, count, sizeof *inodes, by_number))
        return false;
    return fstatat(state, name, status, AT_SYMLINK_NOFOLLOW) == 0;
}

static int clean_arrays(struct tc_folder *folder, unsigned *files, uint64_t *bytes, struct tc_err *err)
{
    char **names;
    size_t count;
    int rc = list(folder->fd, &names, &count, err);
    if (rc)
        return rc;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        int fd = tc_folder_open_array(folder, names[i], NULL, NULL);
        if (fd < 0) /* not ours */
            continue;
        close(fd);
        rc = remove_array(folder, names[i], bytes, err);
        *files += rc == 0;
        rc = rc == -TC_E_NOTFOUND ? 0 : rc; /* somebody else was quicker */
    }
    free_names(names, count);
    return rc;
}

enum { KEPT_MOST = 64 };

/* Files that have lost their name: their bytes go when the lock is free again. */
struct kept {
    int files[KEPT_MOST];
    unsigned count;
};

static void keep(struct kept *kept, int state, const char *name)
{
    int fd = kept->count < KEPT_MOST ? tc_inside_open(state, name, O_PATH, 0) : -1;
    if (fd >= 0)
        kept->files[kept->count++] = fd;
}

static void let_go(struct kept *kept)
{
    while (kept->count > 0)
        close(kept->files[--kept->count]);
}

/* Whether a later one of these left-overs is of the same NAME: NAME.SESSION.part. */
static bool newest_of_name(int state, char **names, size_t count, const char *name, const struct stat *status)
{
    size_t tail = 2 * TC_SESSION_ID_SIZE + strlen("." TC_INSIDE_PART), length = strlen(name);
    for (size_t i = 0; i < count && length > tail; i++) {
        struct stat other;
        if (strcmp(names[i], name) != 0 && is_part(names[i]) && strlen(names[i]) == length &&
            memcmp(names[i], name, length - tail) == 0 && left_over(state, names[i], &other) &&
            (other.st_mtim.tv_sec > status->st_mtim.tv_sec ||
             (other.st_mtim.tv_sec == status->st_mtim.tv_sec && other.st_mtim.tv_nsec > status->st_mtim.tv_nsec)))
            return false;
    }
    return true;
}

static int clean_state(struct tc_folder *folder, const ino_t *inodes, size_t count, bool keep_newest, unsigned *files,
                       uint64_t *bytes, struct kept *kept, struct tc_err *err)
{
    char **names;
    size_t all;
    int rc = list(folder->state, &names, &all, err);
    if (rc)
        return rc;
    for (size_t i = 0; rc == 0 && i < all; i++) {
        struct stat status;
        /* Anything else is the lock, or the local API's. */
        if (is_part(names[i]) || is_link(names[i]) ? !left_over(folder->state, names[i], &status)
                                                   : !orphan(folder->state, names[i], inodes, count, &status))
            continue;
        if (keep_newest && is_part(names[i]) && newest_of_name(folder->state, names, all, names[i], &status))
            continue;
        keep(kept, folder->state, names[i]);
        if (unlinkat(folder->state, names[i], 0)) {
            rc = tc_fail_errno(err, errno, "cannot remove %s/%s/%s", folder->path, TC_FOLDER_STATE, names[i]);
            break;
        }
        ++*files;
        *bytes += (uint64_t)status.st_size;
    }
    free_names(names, all);
    return rc;
}

/* Holding the lock, so nothing is between its description and its name. */
static int clean_rest(struct tc_folder *folder, bool keep_newest, unsigned *files, uint64_t *bytes, struct kept *kept,
                      struct tc_err *err)
{
    char **names;
    size_t count, used = 0;
    int rc = list(folder->fd, &names, &count, err);
    if (rc)
        return rc;
    ino_t *inodes = calloc(count + 1, sizeof *inodes);
    if (!inodes)
        rc = tc_fail(err, TC_E_NOMEM, "out of memory");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct stat status;
        if (fstatat(folder->fd, names[i], &status, AT_SYMLINK_NOFOLLOW) == 0)
            inodes[used++] = status.st_ino;
    }
    if (used > 0)
        qsort(inodes, used, sizeof *inodes, by_number);
    if (rc == 0)
        rc = clean_state(folder, inodes, used, keep_newest, files, bytes, kept, err);
    free(inodes);
    free_names(names, count);
    return rc;
}

static int lock_and_clean(struct tc_folder *folder, bool keep_newest, unsigned *files, uint64_t *bytes,
                          struct tc_err *err)
{
    struct kept kept = {.count = 0};
    int lock = tc_lock_take(folder, err);
    if (lock < 0)
        return lock;
    int rc = clean_rest(folder, keep_newest, files, bytes, &kept, err);
    close(lock);
    let_go(&kept);
    return rc;
}

int tc_folder_clean(struct tc_folder *folder, bool all, unsigned *files, uint64_t *bytes, struct tc_err *err)
{
    *files = 0;
    *bytes = 0;
    int rc = all ? clean_arrays(folder, files, bytes, err) : 0;
    return rc ? rc : lock_and_clean(folder, false, files, bytes, err);
}

int tc_folder_tidy(struct tc_folder *folder, struct tc_err *err)
{
    unsigned files = 0;
    uint64_t bytes = 0;
    return lock_and_clean(folder, true, &files, &bytes, err);
}

/* Exactly size bytes, or what there is; -1 and errno. */
static ssize_t read_full(int fd, uint8_t *bytes, size_t size, uint64_t offset)
{
    size_t used = 0;
    while (used < size) {
        ssize_t got = pread(fd, bytes + used, size - used, (off_t)(offset + used));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

static int digest_file(int fd, uint64_t size, uint8_t *bytes, struct tc_content *content, struct tc_err *err)
{
    struct tc_digest blocks[TC_CHUNK_BLOCKS_MAX], whole;
    for (uint64_t offset = 0; offset < size; offset += READ_SIZE) {
        size_t part = size - offset < READ_SIZE ? (size_t)(size - offset) : READ_SIZE;
        ssize_t got = read_full(fd, bytes, part, offset);
        if (got < 0)
            return tc_fail_errno(err, errno, "cannot read at %llu", (unsigned long long)offset);
        if ((size_t)got != part)
            return tc_fail(err, TC_E_INTEGRITY, "it became shorter while it was read");
        int rc = tc_digest_chunk(bytes, part, blocks, &whole, err);
        if (rc == 0)
            rc = tc_content_add(content, blocks, (part + TC_BLOCK_SIZE - 1) / TC_BLOCK_SIZE, err);
        if (rc)
            return rc;
    }
    return 0;
}

int tc_folder_verify(struct tc_folder *folder, const char *name, struct tc_description *description, struct tc_err *err)
{
    struct tc_description own = {0};
    struct tc_digest found;
    int fd = tc_folder_open_array(folder, name, &own, err);
    if (fd < 0)
        return fd;
    uint8_t *bytes = malloc(READ_SIZE);
    struct tc_content *content = bytes ? tc_content_new(err) : NULL;
    int rc = content ? digest_file(fd, own.size, bytes, content, err) : tc_fail(err, TC_E_NOMEM, "out of memory");
    if (rc == 0)
        rc = tc_content_end(content, &found, err);
    if (rc == 0 && !tc_digest_equal(&found, &own.digest))
        rc = tc_fail(err, TC_E_INTEGRITY, "its bytes are not those that were sent");
    if (rc)
        tc_err_prefix(err, "%s in %s", name, folder->path);
    tc_content_free(content);
    free(bytes);
    close(fd);
    if (rc == 0 && description)
        *description = own;
    else
        tc_array_free(&own.array);
    return rc;
}
