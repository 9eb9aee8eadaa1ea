/* A reader sees the old array, none, or the whole new one, whatever happens to the writer; what cannot be published
 * leaves nothing behind. */
#include "file/sink.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "file/partial.h"
#include "file_help.h"

static const uint8_t session[TC_SESSION_ID_SIZE] = {0xab, 1};
static const uint8_t another[TC_SESSION_ID_SIZE] = {0xcd, 2};
static const struct tc_sink_options keep = {.mode = 0444, .group = (gid_t)-1, .force = false};
static const struct tc_sink_options force = {.mode = 0444, .group = (gid_t)-1, .force = true};
static const struct tc_array plain;

static struct tc_sink_options with_array(bool forced)
{
    struct tc_sink_options options = forced ? force : keep;
    options.array = &plain;
    return options;
}

/* Nothing but .treecast and published in DIR, the lock and as many descriptions in .treecast. */
static void expect_tidy(struct tc_folder *folder, unsigned published)
{
    ck_assert_uint_eq(entries(tc_folder_fd(folder)), 1 + published);
    ck_assert_uint_eq(entries(tc_folder_state_fd(folder)), 1 + published);
}

static void expect_version(struct tc_folder *folder, const char *name, unsigned version)
{
    struct tc_description description;
    struct tc_err err = {0};
    ck_assert_msg(tc_folder_verify(folder, name, &description, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(description.created, version);
}

START_TEST(publishes_what_was_placed)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_sink_options options = {.mode = 0440, .group = getegid()};
    struct tc_err err = {0};
    size_t size = 300001;
    uint8_t *bytes = pattern(size, 1), *back = malloc(size);
    struct stat status;
    struct tc_sink *sink = tc_sink_new(folder, "A.npy", session, size, &options, &err);
    ck_assert_msg(sink != NULL, "%s", err.text);
    ck_assert_int_eq(fstatat(tc_folder_state_fd(folder), "A.npy.ab010000000000000000000000000000.part", &status, 0), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
    ck_assert_uint_eq((uint64_t)status.st_size, size);
    ck_assert_uint_ge((uint64_t)status.st_blocks * 512, size); /* reserved, not sparse */

    ck_assert_int_eq(tc_sink_place(sink, 65536, bytes + 65536, size - 65536, &err), 0);
    ck_assert_int_eq(tc_sink_place(sink, 0, bytes, 65536, &err), 0);
    ck_assert_int_eq(tc_sink_place(sink, size - 1, bytes, 2, NULL), -TC_E_FAILED);
    ck_assert_int_eq(tc_sink_place(sink, UINT64_MAX, bytes, 2, NULL), -TC_E_FAILED);
    ck_assert_int_eq(tc_folder_open_array(folder, "A.npy", NULL, NULL), -TC_E_NOTFOUND);
    struct tc_description description = describe("A.npy", bytes, size, 1);
    ck_assert_int_eq(tc_sink_publish(sink, &description, &err), 0);
    ck_assert_int_eq(tc_sink_read(sink, 0, back, size, &err), 0);
    ck_assert_mem_eq(back, bytes, size);
    ck_assert_int_eq(tc_sink_read(sink, size, back, 1, NULL), -TC_E_FAILED);
    tc_sink_free(sink);

    ck_assert_int_eq(fstatat(tc_folder_fd(folder), "A.npy", &status, 0), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0440);
    ck_assert_uint_eq(status.st_gid, getegid());
    expect_version(folder, "A.npy", 1);
    expect_tidy(folder, 1);
    free(bytes);
    free(back);
    tc_folder_close(folder);
}
END_TEST

/* What was changed after it was placed is noticed, and can be placed again. */
START_TEST(what_was_placed_is_read_back)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_sink *sink = tc_sink_new(folder, "A", session, 100000, &keep, NULL);
    uint8_t *bytes = pattern(100000, 3), *back = malloc(65536);
    struct tc_digest digest;
    tc_digest_chunk(bytes, 65536, NULL, &digest, NULL);
    ck_assert_int_eq(tc_sink_place(sink, 0, bytes, 100000, NULL), 0);
    ck_assert(tc_sink_check(sink, 0, back, 65536, &digest));
    ck_assert(!tc_sink_check(sink, 1, back, 65536, &digest) && !tc_sink_check(sink, 65536, back, 65536, &digest));
    int fd = openat(tc_folder_state_fd(folder), "A.ab010000000000000000000000000000.part", O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "other", 5, 1000), 5);
    close(fd);
    ck_assert(!tc_sink_check(sink, 0, back, 65536, &digest));
    ck_assert_int_eq(tc_sink_place(sink, 0, bytes, 65536, NULL), 0);
    ck_assert(tc_sink_check(sink, 0, back, 65536, &digest));
    tc_sink_free(sink);
    free(bytes);
    free(back);
    tc_folder_close(folder);
}
END_TEST

START_TEST(description_must_be_of_the_file)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_sink *sink = tc_sink_new(folder, "A", session, 10, &keep, NULL);
    struct tc_description other = describe("B", (const uint8_t *)"0123456789", 10, 1);
    struct tc_description shorter = describe("A", (const uint8_t *)"0123456789", 9, 1);
    ck_assert_int_eq(tc_sink_publish(sink, &other, NULL), -TC_E_FAILED);
    ck_assert_int_eq(tc_sink_publish(sink, &shorter, NULL), -TC_E_FAILED);
    tc_sink_free(sink);
    expect_tidy(folder, 0);
    tc_folder_close(folder);
}
END_TEST

START_TEST(nothing_is_replaced_without_force)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_err err = {0};
    struct tc_sink *late = tc_sink_new(folder, "A", session, 0, &keep, NULL);
    ck_assert_ptr_nonnull(late);
    ck_assert_ptr_null(tc_sink_new(folder, "A", session, 0, &keep, &err)); /* the same session twice */
    ck_assert_int_eq(err.reason, TC_E_EXISTS);
    ck_assert_int_eq(publish(folder, "A", 100, 1, false, NULL), 0);
    ck_assert_int_eq(publish(folder, "A", 100, 2, false, NULL), -TC_E_FAILED);
    struct tc_description description = describe("A", NULL, 0, 3);
    ck_assert_int_eq(tc_sink_publish(late, &description, NULL), -TC_E_EXISTS);
    tc_sink_free(late);
    expect_version(folder, "A", 1);
    expect_tidy(folder, 1);
    tc_folder_close(folder);
}
END_TEST

START_TEST(only_regular_files_are_replaced)
{
    struct tc_folder *folder = fresh_folder();
    int at = tc_folder_fd(folder);
    ck_assert_int_eq(symlinkat("/etc/passwd", at, "link"), 0);
    ck_assert_int_eq(mkfifoat(at, "fifo", 0600), 0);
    ck_assert_int_eq(mkdirat(at, "dir", 0700), 0);
    static const char *const names[] = {"link", "fifo", "dir"};
    for (unsigned i = 0; i < 3; i++) {
        struct tc_err err = {0};
        ck_assert_ptr_null(tc_sink_new(folder, names[i], session, 10, &force, &err));
        ck_assert_int_eq(err.reason, TC_E_POLICY);
    }
    ck_assert_ptr_null(tc_sink_new(folder, "../A", session, 10, &force, NULL));
    /* One that comes later. */
    struct tc_sink *sink = tc_sink_new(folder, "late", session, 0, &force, NULL);
    ck_assert_int_eq(symlinkat("/etc/passwd", at, "late"), 0);
    struct tc_description description = describe("late", NULL, 0, 3);
    ck_assert_int_eq(tc_sink_publish(sink, &description, NULL), -TC_E_POLICY);
    tc_sink_free(sink);
    /* A link where the temporary file would be leads nowhere. */
    ck_assert_int_eq(symlinkat("../late", tc_folder_state_fd(folder), "A.ab010000000000000000000000000000.part"), 0);
    ck_assert_ptr_null(tc_sink_new(folder, "A", session, 10, &force, NULL));
    ck_assert_uint_eq(entries(tc_folder_state_fd(folder)), 2);
    tc_folder_close(folder);
}
END_TEST

START_TEST(replaced_arrays_stay_with_their_readers)
{
    struct tc_folder *folder = fresh_folder();
    uint8_t *old = pattern(5000, 1), *back = malloc(5000);
    ck_assert_int_eq(publish(folder, "A", 5000, 1, true, NULL), 0);
    int fd = tc_folder_open_array(folder, "A", NULL, NULL);
    for (unsigned version = 2; version < 6; version++) {
        ck_assert_int_eq(publish(folder, "A", 5000 + version, version, true, NULL), 0);
        expect_version(folder, "A", version);
        expect_tidy(folder, 1); /* the old description has gone */
    }
    ck_assert_int_eq(pread(fd, back, 5000, 0), 5000);
    ck_assert_mem_eq(back, old, 5000);
    free(old);
    free(back);
    close(fd);
    tc_folder_close(folder);
}
END_TEST

START_TEST(stale_description_of_a_reused_inode)
{
    struct tc_folder *folder = fresh_folder();
    struct stat status;
    char file[64];
    struct tc_sink *sink = tc_sink_new(folder, "A", session, 0, &keep, NULL);
    fstatat(tc_folder_state_fd(folder), "A.ab010000000000000000000000000000.part", &status, 0);
    snprintf(file, sizeof file, "%llu.json", (unsigned long long)status.st_ino);
    put_file(tc_folder_state_fd(folder), file, "of another file that had this inode");
    strcat(file, ".tmp");
    put_file(tc_folder_state_fd(folder), file, "of one that was killed");
    struct tc_description description = describe("A", NULL, 0, 3);
    ck_assert_int_eq(tc_sink_publish(sink, &description, NULL), 0);
    tc_sink_free(sink);
    expect_version(folder, "A", 3);
    expect_tidy(folder, 1);
    tc_folder_close(folder);
}
END_TEST

START_TEST(too_large_is_refused_at_once)
{
    struct tc_folder *folder = fresh_folder();
    struct rlimit limit, small = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
    struct tc_err err = {0};
    ck_assert_ptr_null(tc_sink_new(folder, "A", session, (uint64_t)1 << 60, &keep, &err));
    ck_assert_int_eq(err.reason, TC_E_NOSPACE);
    ck_assert_msg(strncmp(err.text, "no space (needs 1.0 EiB, has ", 28) == 0, "%s", err.text);
    memset(&err, 0, sizeof err);
    ck_assert_ptr_null(tc_sink_new(folder, "A", session, UINT64_MAX, &keep, &err));
    ck_assert_int_eq(err.reason, TC_E_LIMIT);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small.rlim_max = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    memset(&err, 0, sizeof err);
    ck_assert_ptr_null(tc_sink_new(folder, "A", session, 2 << 20, &keep, &err)); /* no SIGXFSZ */
    ck_assert_int_eq(err.reason, TC_E_LIMIT);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_uint_eq(entries(tc_folder_state_fd(folder)), 1); /* the lock */
    tc_folder_close(folder);
}
END_TEST

/* As root only, in a mount namespace of this test's own process. */
START_TEST(space_on_tmpfs_is_promised_once_and_reserved_ahead)
{
    enum { SIZE = 40 << 20, PLACED = 9 << 20 };
    char path[128];
    struct tc_err err = {0};
    fresh(path, "promise");
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", path, "tmpfs", 0, "size=64m,mode=755")) {
        fprintf(stderr, "# no mount namespace here: space on tmpfs is not tried\n");
        return;
    }
    struct tc_folder *folder = tc_folder_open(path, &err);
    ck_assert_msg(folder != NULL, "%s", err.text);
    struct tc_sink *first = tc_sink_new(folder, "A", session, SIZE, &keep, &err);
    ck_assert_msg(first != NULL, "%s", err.text);
    ck_assert_uint_gt(tc_folder_space(folder), SIZE); /* most of it is promised, not taken */
    ck_assert_ptr_null(tc_sink_new(folder, "B", session, SIZE, &keep, &err));
    ck_assert_int_eq(err.reason, TC_E_NOSPACE);

    uint8_t *bytes = pattern(1 << 20, 1);
    ck_assert_int_eq(tc_sink_place(first, PLACED, bytes, 1 << 20, NULL), 0);
    ck_assert_uint_lt(tc_folder_space(folder), (64 << 20) - PLACED); /* what lies before it is reserved, hole or not */
    tc_sink_free(first);
    ck_assert_uint_eq(tc_folder_promise(folder, 0, 0), 0);
    struct tc_sink *second = tc_sink_new(folder, "B", session, SIZE, &keep, NULL);
    ck_assert_ptr_nonnull(second);
    tc_sink_free(second);
    ck_assert_uint_eq(tc_folder_promise(folder, 0, 0), 0);
    free(bytes);
    tc_folder_close(folder);
}
END_TEST

/* As root only, in a mount namespace of this test's own process. */
START_TEST(full_tmpfs_leaves_nothing)
{
    char path[128];
    struct tc_err err = {0};
    fresh(path, "tmpfs");
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", path, "tmpfs", 0, "size=1m,nr_inodes=8,mode=755")) {
        fprintf(stderr, "# no mount namespace here: a full tmpfs is not tried\n");
        return;
    }
    struct tc_folder *folder = tc_folder_open(path, &err);
    ck_assert_msg(folder != NULL, "%s", err.text);
    ck_assert(tc_folder_on_tmpfs(folder));
    ck_assert_int_eq(publish(folder, "A", 400000, 1, false, &err), 0);
    ck_assert_ptr_null(tc_sink_new(folder, "A", session, 800000, &force, &err));
    ck_assert_int_eq(err.reason, TC_E_NOSPACE);
    ck_assert_msg(strncmp(err.text, "no space (needs 845.2 KiB, has 6", 31) == 0, "%s", err.text);
    expect_tidy(folder, 1);

    /* It may be the same file, and is not: nothing is left already while the session lives. */
    struct tc_sink_options options = with_array(true);
    ck_assert_int_eq(publish(folder, "B", 330000, 1, false, &err), 0);
    struct tc_sink *other = tc_sink_new(folder, "B", another, 330000, &options, NULL);
    ck_assert(other && !tc_sink_allocated(other));
    ck_assert_int_eq(tc_sink_allocate(other, &err), -TC_E_NOSPACE);
    ck_assert(!tc_sink_allocated(other));
    expect_tidy(folder, 2);
    ck_assert_uint_eq(tc_folder_promise(folder, 0, 0), 0);
    tc_sink_free(other);
    ck_assert_int_eq(tc_folder_remove(folder, "B", NULL), 0);

    /* Somebody takes the rest before the description is written. */
    struct tc_sink *sink = tc_sink_new(folder, "A", session, 400000, &force, NULL);
    ck_assert_ptr_nonnull(sink);
    uint8_t *bytes = pattern(400000, 2);
    ck_assert_int_eq(tc_sink_place(sink, 0, bytes, 400000, NULL), 0);
    put_file(tc_folder_fd(folder), "filler", "");
    int fd = openat(tc_folder_fd(folder), "filler", O_WRONLY);
    ck_assert_int_eq(posix_fallocate(fd, 0, (off_t)tc_folder_space(folder)), 0);
    struct tc_description description = describe("A", bytes, 400000, 2);
    ck_assert_int_eq(tc_sink_publish(sink, &description, NULL), -TC_E_NOSPACE);
    expect_version(folder, "A", 1);
    close(fd);
    ck_assert_int_eq(unlinkat(tc_folder_fd(folder), "filler", 0), 0);
    ck_assert_int_eq(tc_sink_publish(sink, &description, NULL), 0); /* there is space again */
    tc_sink_free(sink);
    expect_version(folder, "A", 2);
    expect_tidy(folder, 1);

    /* No inode for the temporary file. */
    char name[8];
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "f%u", i);
        close(openat(tc_folder_fd(folder), name, O_CREAT | O_WRONLY, 0600));
    }
    memset(&err, 0, sizeof err);
    ck_assert_ptr_null(tc_sink_new(folder, "B", session, 10, &keep, &err));
    ck_assert_int_eq(err.reason, TC_E_NOSPACE);
    ck_assert_uint_eq(entries(tc_folder_state_fd(folder)), 2);
    free(bytes);
    tc_folder_close(folder);
    umount2(path, MNT_DETACH);
}
END_TEST

/* --- what is here already --- */

enum { CHUNK = TC_BLOCK_SIZE, FOUR = 4 * CHUNK };

/* Whether chunk i of what these bytes are is found, and no error. */
static bool found(struct tc_sink *sink, const uint8_t *bytes, unsigned i)
{
    struct tc_digest digest;
    struct tc_err err = {0};
    uint8_t *scratch = malloc(CHUNK);
    bool is = false;
    ck_assert_int_eq(tc_digest_chunk(bytes + i * CHUNK, CHUNK, NULL, &digest, NULL), 0);
    ck_assert_msg(tc_sink_compare(sink, i * CHUNK, scratch, CHUNK, &digest, &is, &err) == 0, "%s", err.text);
    free(scratch);
    return is;
}

static void place(struct tc_sink *sink, const uint8_t *bytes, unsigned i)
{
    ck_assert_int_eq(tc_sink_place(sink, i * CHUNK, bytes + i * CHUNK, CHUNK, NULL), 0);
}

/* The one partial in .treecast; the empty text where there is none. */
static const char *partial(struct tc_folder *folder, struct stat *status)
{
    static char name[256];
    DIR *dir = fdopendir(openat(tc_folder_state_fd(folder), ".", O_RDONLY | O_DIRECTORY));
    unsigned count = 0;
    name[0] = '\0';
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strstr(entry->d_name, ".part")) {
            snprintf(name, sizeof name, "%s", entry->d_name);
            count++;
        }
    closedir(dir);
    ck_assert_uint_le(count, 1);
    if (count && status)
        ck_assert_int_eq(fstatat(tc_folder_state_fd(folder), name, status, 0), 0);
    return name;
}

/* A session that had the first chunks when it ended. */
static void interrupted(struct tc_folder *folder, const uint8_t *bytes, unsigned chunks)
{
    struct tc_sink *sink = tc_sink_new(folder, "A", session, FOUR, &keep, NULL);
    ck_assert_ptr_nonnull(sink);
    for (unsigned i = 0; i < chunks; i++)
        place(sink, bytes, i);
    tc_sink_free(sink);
}

START_TEST(a_session_takes_up_what_another_left)
{
    struct tc_folder *folder = fresh_folder();
    struct stat before, after;
    uint8_t *bytes = pattern(FOUR, 1), *other = pattern(FOUR, 2);
    interrupted(folder, bytes, 0);
    ck_assert_str_eq(partial(folder, NULL), ""); /* nothing was placed */
    interrupted(folder, bytes, 2);
    ck_assert_str_ne(partial(folder, &before), "");
    struct tc_sink *sink = tc_sink_new(folder, "A", another, FOUR, &keep, NULL);
    ck_assert(tc_sink_allocated(sink) && tc_sink_found(sink) == TC_SINK_COMPARE);
    ck_assert_str_eq(partial(folder, &after), "A.cd020000000000000000000000000000.part");
    ck_assert(before.st_ino == after.st_ino && (after.st_mode & 07777) == 0600);
    ck_assert(found(sink, bytes, 0) && found(sink, bytes, 1) && !found(sink, bytes, 2) && !found(sink, other, 0));
    place(sink, bytes, 2);
    place(sink, bytes, 3);
    struct tc_description description = describe("A", bytes, FOUR, 5);
    ck_assert_int_eq(tc_sink_publish(sink, &description, NULL), 0);
    tc_sink_free(sink);
    expect_version(folder, "A", 5);
    expect_tidy(folder, 1);
    free(bytes);
    free(other);
    tc_folder_close(folder);
}
END_TEST

START_TEST(a_partial_fits_a_file_of_another_size)
{
    struct tc_folder *folder = fresh_folder();
    struct stat status;
    uint8_t *bytes = pattern(FOUR, 1);
    interrupted(folder, bytes, 3);
    struct tc_sink *shorter = tc_sink_new(folder, "A", another, 2 * CHUNK, &keep, NULL);
    ck_assert(found(shorter, bytes, 0) && found(shorter, bytes, 1));
    partial(folder, &status);
    ck_assert_int_eq(status.st_size, 2 * CHUNK);
    tc_sink_free(shorter);
    struct tc_sink *longer = tc_sink_new(folder, "A", session, FOUR, &keep, NULL);
    ck_assert(found(longer, bytes, 1) && !found(longer, bytes, 2)); /* it was cut */
    place(longer, bytes, 2);
    place(longer, bytes, 3);
    struct tc_description description = describe("A", bytes, FOUR, 5);
    ck_assert_int_eq(tc_sink_publish(longer, &description, NULL), 0);
    tc_sink_free(longer);
    ck_assert_uint_eq(tc_folder_promise(folder, 0, 0), 0);
    expect_version(folder, "A", 5);
    expect_tidy(folder, 1);
    free(bytes);
    tc_folder_close(folder);
}
END_TEST

/* Zeros that are not there are right, and must be there before they count. */
START_TEST(a_hole_is_filled_before_it_counts)
{
    struct tc_folder *folder = fresh_folder();
    struct stat status;
    uint8_t *zeros = calloc(1, FOUR);
    int fd = openat(tc_folder_state_fd(folder), "A.ab010000000000000000000000000000.part", O_CREAT | O_RDWR, 0444);
    ck_assert_int_eq(ftruncate(fd, FOUR), 0);
    close(fd);
    struct tc_sink *sink = tc_sink_new(folder, "A", another, FOUR, &keep, NULL);
    for (unsigned i = 0; i < 4; i++)
        ck_assert(found(sink, zeros, i));
    partial(folder, &status);
    ck_assert_uint_ge((uint64_t)status.st_blocks * 512, FOUR);
    tc_sink_free(sink);
    free(zeros);
    tc_folder_close(folder);
}
END_TEST

/* A writer that was killed between link and unlink has left a partial that is the published file. */
START_TEST(a_published_file_is_never_adopted)
{
    struct tc_folder *folder = fresh_folder();
    struct stat status;
    uint8_t *bytes = pattern(FOUR, 2);
    ck_assert_int_eq(publish(folder, "A", FOUR, 1, false, NULL), 0);
    ck_assert_int_eq(
        linkat(tc_folder_fd(folder), "A", tc_folder_state_fd(folder), "A.ab010000000000000000000000000000.part", 0), 0);
    struct tc_sink *sink = tc_sink_new(folder, "A", another, FOUR, &force, NULL);
    ck_assert_ptr_nonnull(sink);
    for (unsigned i = 0; i < 4; i++)
        place(sink, bytes, i);
    tc_sink_drop(sink);
    tc_sink_free(sink);
    ck_assert_int_eq(fstatat(tc_folder_fd(folder), "A", &status, 0), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0444);
    expect_version(folder, "A", 1);
    free(bytes);
    tc_folder_close(folder);
}
END_TEST

START_TEST(one_partial_a_name_is_kept)
{
    struct tc_folder *folder = fresh_folder();
    uint8_t *bytes = pattern(FOUR, 1);
    struct tc_sink *one = tc_sink_new(folder, "A", session, FOUR, &keep, NULL);
    struct tc_sink *two = tc_sink_new(folder, "A", another, FOUR, &keep, NULL);
    ck_assert_uint_eq(tc_sink_found(two), 0); /* the first is in use */
    place(one, bytes, 0);
    place(two, bytes, 0);
    tc_sink_free(one);
    tc_sink_free(two);
    ck_assert_str_eq(partial(folder, NULL), "A.cd020000000000000000000000000000.part");
    struct tc_sink *three = tc_sink_new(folder, "A", session, FOUR, &keep, NULL);
    tc_sink_drop(three);
    tc_sink_free(three);
    ck_assert_str_eq(partial(folder, NULL), "");
    free(bytes);
    tc_folder_close(folder);
}
END_TEST

START_TEST(partials_have_their_time)
{
    static const struct {
        int hours;
        bool stays;
    } ages[] = {{23, true}, {25, false}, {-23, true}, {-25, false}};
    struct tc_folder *folder = fresh_folder();
    uint8_t *bytes = pattern(FOUR, 1);
    for (unsigned i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        interrupted(folder, bytes, 1);
        const struct timespec then = {.tv_sec = time(NULL) - ages[i].hours * 3600};
        const char *name = partial(folder, NULL);
        ck_assert_int_eq(utimensat(tc_folder_state_fd(folder), name, (const struct timespec[]){then, then}, 0), 0);
        tc_partial_expire(folder, TC_PARTIAL_SECONDS);
        ck_assert_int_eq(partial(folder, NULL)[0] != '\0', ages[i].stays);
    }
    free(bytes);
    tc_folder_close(folder);
}
END_TEST

START_TEST(old_partials_are_not_taken_up)
{
    static const struct {
        int hours;
        bool taken;
    } ages[] = {{0, true}, {23, true}, {25, false}, {-25, false}};
    struct tc_folder *folder = fresh_folder();
    uint8_t *bytes = pattern(FOUR, 1);
    for (unsigned i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        interrupted(folder, bytes, 1);
        const struct timespec then = {.tv_sec = time(NULL) - ages[i].hours * 3600};
        const char *file = partial(folder, NULL);
        char name[TC_NAME_MAX + 1] = "";
        memcpy(name, file, strcspn(file, "."));
        ck_assert_int_eq(utimensat(tc_folder_state_fd(folder), file, (const struct timespec[]){then, then}, 0), 0);
        int fd = tc_partial_adopt(folder, name, "own", FOUR);
        ck_assert_int_eq(fd >= 0, ages[i].taken);
        if (fd >= 0)
            close(fd);
        unlinkat(tc_folder_state_fd(folder), "own", 0);
        tc_partial_drop(folder, name, NULL);
    }
    free(bytes);
    tc_folder_close(folder);
}
END_TEST

START_TEST(the_same_file_stays_as_it_is)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_sink_options options = with_array(_i == 1);
    struct stat before, after;
    uint8_t *bytes = pattern(FOUR, 1), *back = malloc(CHUNK);
    ck_assert_int_eq(publish(folder, "A", FOUR, 1, false, NULL), 0);
    ck_assert_int_eq(fstatat(tc_folder_fd(folder), "A", &before, 0), 0);
    struct tc_sink *sink = tc_sink_new(folder, "A", another, FOUR, &options, NULL);
    ck_assert(!tc_sink_allocated(sink) && tc_sink_found(sink) == (TC_SINK_OLD | TC_SINK_COMPARE));
    for (unsigned i = 0; i < 4; i++)
        ck_assert(found(sink, bytes, i));
    ck_assert_int_eq(tc_sink_read(sink, CHUNK, back, CHUNK, NULL), 0);
    ck_assert_mem_eq(back, bytes + CHUNK, CHUNK);
    struct tc_description description = describe("A", bytes, FOUR, 2);
    ck_assert_int_eq(tc_sink_publish(sink, &description, NULL), 0);
    ck_assert_int_eq(fstatat(tc_folder_fd(folder), "A", &after, 0), 0);
    ck_assert_int_eq(memcmp(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
    expect_version(folder, "A", 1); /* described as before */
    expect_tidy(folder, 1);
    ck_assert_int_eq(tc_folder_remove(folder, "A", NULL), 0);
    ck_assert_int_eq(tc_sink_publish(sink, &description, NULL), -TC_E_NOTFOUND);
    tc_sink_free(sink);
    free(bytes);
    free(back);
    tc_folder_close(folder);
}
END_TEST

START_TEST(another_version_takes_what_is_the_same)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_sink_options options = with_array(true);
    uint8_t *old = pattern(FOUR, 1), *new = pattern(FOUR, 1), *back = malloc(CHUNK);
    new[CHUNK + 5] ^= 1;
    ck_assert_int_eq(publish(folder, "A", FOUR, 1, false, NULL), 0);
    struct tc_sink *sink = tc_sink_new(folder, "A", another, FOUR, &options, NULL);
    ck_assert(found(sink, new, 0) && !found(sink, new, 1));
    ck_assert_int_eq(tc_sink_allocate(sink, NULL), 0);
    ck_assert_int_eq(tc_sink_read(sink, 0, back, CHUNK, NULL), 0); /* not copied yet: from the old one */
    ck_assert_mem_eq(back, old, CHUNK);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(found(sink, new, i), i != 1);
    place(sink, new, 1);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(tc_sink_read(sink, i * CHUNK, back, CHUNK, NULL), 0);
        ck_assert_mem_eq(back, new + i *CHUNK, CHUNK);
    }
    int reader = tc_folder_open_array(folder, "A", NULL, NULL);
    struct tc_description description = describe("A", new, FOUR, 2);
    ck_assert_int_eq(tc_sink_publish(sink, &description, NULL), 0);
    ck_assert_int_eq(pread(reader, back, CHUNK, CHUNK), CHUNK);
    ck_assert_mem_eq(back, old + CHUNK, CHUNK); /* whoever has the old file keeps its bytes */
    close(reader);
    tc_sink_free(sink);
    expect_version(folder, "A", 2);
    expect_tidy(folder, 1);
    free(old);
    free(new);
    free(back);
    tc_folder_close(folder);
}
END_TEST

#define ROUNDS 150u

START_TEST(readers_never_see_a_mixture)
{
    struct tc_folder *folder = fresh_folder();
    ck_assert_int_eq(publish(folder, "A", 1000, 1, true, NULL), 0);
    pid_t child = fork();
    if (child == 0) {
        for (unsigned version = 2; version < ROUNDS; version++)
            if (publish(folder, "A", 1000 * (version % 90), version, true, NULL))
                _exit(1);
        _exit(0);
    }
    int status;
    uint64_t seen = 1;
    while (waitpid(child, &status, WNOHANG) == 0) {
        struct tc_description description;
        struct tc_err err = {0};
        unsigned files;
        uint64_t bytes;
        ck_assert_msg(tc_folder_verify(folder, "A", &description, &err) == 0, "%s", err.text);
        ck_assert_uint_ge(description.created, seen);
        seen = description.created;
        ck_assert_uint_eq(description.size, 1000 * (seen % 90));
        ck_assert_int_eq(tc_folder_clean(folder, false, &files, &bytes, &err), 0);
        ck_assert_uint_eq(files, 0); /* all of it is alive */
    }
    ck_assert_int_eq(status, 0);
    expect_version(folder, "A", ROUNDS - 1);
    expect_tidy(folder, 1);
    tc_folder_close(folder);
}
END_TEST

/* Publish version 2 of A in a child that dies at its step-th system call boundary. 1 when it lived to its end, 0 when
 * it was killed, -1 when this process may not trace. */
static int die_at(struct tc_folder *folder, unsigned step)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
            _exit(2);
        raise(SIGSTOP);
        _exit(publish(folder, "A", 70000, 2, true, NULL) ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    for (unsigned i = 0; WIFSTOPPED(status) && i < step; i++) {
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
    }
    if (WIFSTOPPED(status)) {
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        return 0;
    }
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) != 1);
    return WEXITSTATUS(status) == 0 ? 1 : -1;
}

static void leave_partial(struct tc_folder *folder)
{
    struct tc_sink *sink = tc_sink_new(folder, "A", another, 70000, &force, NULL);
    ck_assert_ptr_nonnull(sink);
    ck_assert_int_eq(tc_sink_place(sink, 0, "something", 9, NULL), 0);
    tc_sink_free(sink);
    ck_assert_str_ne(partial(folder, NULL), "");
}

/* Killed before and after every system call in turn: the old array or the new one, and clean takes the rest. _i: there
 * is an old one; 2: and a partial to take up. */
START_TEST(killed_at_every_step)
{
    struct tc_folder *folder = fresh_folder();
    unsigned files, step = 0, olds = 0, news = 0;
    uint64_t bytes;
    int end = 0;
    ck_assert_int_eq(publish(folder, "A", 1, 1, false, NULL),
                     0); /* so that a child's calls are not libcrypto's first */
    for (; end == 0; step++) {
        tc_folder_clean(folder, true, &files, &bytes, NULL);
        expect_tidy(folder, 0);
        if (_i)
            ck_assert_int_eq(publish(folder, "A", 50000, 1, false, NULL), 0);
        if (_i == 2)
            leave_partial(folder);
        end = die_at(folder, step);
        if (end < 0) {
            fprintf(stderr, "# tracing is not allowed here: death at every step is not tried\n");
            break;
        }
        struct tc_description description = {.created = 0};
        struct tc_err err = {0};
        int rc = tc_folder_verify(folder, "A", &description, &err);
        ck_assert_msg(rc == 0 || (!_i && rc == -TC_E_NOTFOUND), "step %u: %s", step, err.text);
        ck_assert(description.created == 2 || description.created == (uint64_t)(_i > 0));
        olds += description.created != 2;
        news += description.created == 2;
        ck_assert_int_eq(tc_folder_clean(folder, false, &files, &bytes, NULL), 0);
        expect_tidy(folder, rc == 0 ? 1 : 0);
    }
    ck_assert_msg(end < 0 || (olds > 10 && news > 2), "%u steps, %u before, %u after", step, olds, news);
    tc_folder_close(folder);
}
END_TEST

/* The same at random moments, while the child publishes on and on. */
START_TEST(killed_at_any_moment)
{
    struct tc_folder *folder = fresh_folder();
    unsigned files;
    uint64_t bytes, seen = 1;
    ck_assert_int_eq(publish(folder, "A", 1000, 1, true, NULL), 0);
    srand(1);
    for (unsigned round = 0; round < 25; round++) {
        int ready[2], status;
        char byte;
        ck_assert_int_eq(pipe(ready), 0);
        pid_t child = fork();
        if (child == 0) {
            for (unsigned version = (unsigned)seen + 1;; version++)
                if (publish(folder, "A", 1000 * (version % 90), version, true, NULL) || write(ready[1], "", 1) != 1)
                    _exit(1);
        }
        close(ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        for (volatile int spin = rand() % 3000000; spin > 0;)
            spin--;
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status));
        close(ready[0]);
        struct tc_description description;
        struct tc_err err = {0};
        ck_assert_msg(tc_folder_verify(folder, "A", &description, &err) == 0, "%s", err.text);
        ck_assert_uint_gt(description.created, seen);
        seen = description.created;
        ck_assert_int_eq(tc_folder_clean(folder, false, &files, &bytes, NULL), 0);
        expect_tidy(folder, 1);
    }
    tc_folder_close(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sink");
    TCase *tcase = add_file_case(suite, "sink");
    tcase_add_test(tcase, publishes_what_was_placed);
    tcase_add_test(tcase, what_was_placed_is_read_back);
    tcase_add_test(tcase, description_must_be_of_the_file);
    tcase_add_test(tcase, nothing_is_replaced_without_force);
    tcase_add_test(tcase, only_regular_files_are_replaced);
    tcase_add_test(tcase, replaced_arrays_stay_with_their_readers);
    tcase_add_test(tcase, stale_description_of_a_reused_inode);
    tcase_add_test(tcase, too_large_is_refused_at_once);
    tcase_add_test(tcase, readers_never_see_a_mixture);
    tcase_add_loop_test(tcase, killed_at_every_step, 0, 3);
    tcase_add_test(tcase, killed_at_any_moment);
    tcase_add_test(tcase, a_session_takes_up_what_another_left);
    tcase_add_test(tcase, a_partial_fits_a_file_of_another_size);
    tcase_add_test(tcase, a_hole_is_filled_before_it_counts);
    tcase_add_test(tcase, a_published_file_is_never_adopted);
    tcase_add_test(tcase, one_partial_a_name_is_kept);
    tcase_add_test(tcase, partials_have_their_time);
    tcase_add_test(tcase, old_partials_are_not_taken_up);
    tcase_add_loop_test(tcase, the_same_file_stays_as_it_is, 0, 2);
    tcase_add_test(tcase, another_version_takes_what_is_the_same);
    if (geteuid() == 0) {
        tcase_add_test(tcase, full_tmpfs_leaves_nothing);
        tcase_add_test(tcase, space_on_tmpfs_is_promised_once_and_reserved_ahead);
    } else {
        printf("# not root: a full tmpfs is not tried\n");
        fflush(stdout);
    }
    return unit_run(suite);
}
