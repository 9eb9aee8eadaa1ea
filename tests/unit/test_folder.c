/* Only a directory of one's own is published in; what is read from it is described by itself; cleaning takes what is
 * dead and nothing else. */
#include "file/folder.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "file/lease.h"
#include "file/place.h"
#include "file_help.h"

#define NOBODY 65534

static void expect_refused(const char *path, int reason, const char *says)
{
    struct tc_err err = {0};
    ck_assert_msg(tc_folder_open(path, &err) == NULL, "%s was taken", path);
    ck_assert_int_eq(err.reason, reason);
    ck_assert_msg(strstr(err.text, says), "%s", err.text);
}

START_TEST(unsafe_directories_are_refused)
{
    static const struct {
        mode_t mode;
        const char *says;
    } modes[] = {{01777, "sticky"}, {01755, "sticky"}, {0775, "others may write"}, {0757, "others may write"}};
    char dir[128], link[160], state[160];
    fresh(dir, "refused");
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        ck_assert_int_eq(chmod(dir, modes[i].mode), 0);
        expect_refused(dir, TC_E_POLICY, modes[i].says);
    }
    ck_assert_int_eq(chmod(dir, 0755), 0);
    snprintf(link, sizeof link, "%s.link", dir);
    ck_assert_int_eq(symlink(dir, link), 0);
    expect_refused(link, TC_E_POLICY, "link");
    strcat(link, "//"); /* slashes make the kernel follow */
    expect_refused(link, TC_E_POLICY, "link");
    snprintf(state, sizeof state, "%s/missing/deeper", dir);
    expect_refused(state, TC_E_NOTFOUND, "cannot create");
    snprintf(state, sizeof state, "%s/file", dir);
    put_file(AT_FDCWD, state, "");
    expect_refused(state, TC_E_POLICY, "not a directory");

    snprintf(state, sizeof state, "%s/.treecast", dir);
    ck_assert_int_eq(symlink(base, state), 0);
    expect_refused(dir, TC_E_POLICY, "link");
    ck_assert_int_eq(unlink(state), 0);
    ck_assert_int_eq(mkdir(state, 0755) || chmod(state, 0777), 0);
    expect_refused(dir, TC_E_POLICY, "others may write");
    ck_assert_int_eq(chmod(state, 0711), 0);
    struct tc_folder *folder = tc_folder_open(dir, NULL);
    ck_assert_ptr_nonnull(folder);
    tc_folder_close(folder);
}
END_TEST

/* As root only: others cannot give a directory away. */
START_TEST(directories_of_others_are_refused)
{
    char dir[128], state[160];
    ck_assert_int_eq(chown(fresh(dir, "other"), NOBODY, (gid_t)-1), 0);
    expect_refused(dir, TC_E_POLICY, "belongs to uid 65534");
    ck_assert_int_eq(chown(dir, 0, (gid_t)-1), 0);
    snprintf(state, sizeof state, "%s/.treecast", dir);
    ck_assert_int_eq(mkdir(state, 0711) || chown(state, NOBODY, (gid_t)-1), 0);
    expect_refused(dir, TC_E_POLICY, "belongs to uid 65534");
}
END_TEST

START_TEST(made_for_readers_whatever_the_umask)
{
    char parent[128], path[160];
    struct stat status;
    snprintf(path, sizeof path, "%s/new/", fresh(parent, "made"));
    mode_t old = umask(0077);
    struct tc_folder *folder = tc_folder_open(path, NULL);
    umask(old);
    ck_assert_ptr_nonnull(folder);
    path[strlen(path) - 1] = '\0';
    ck_assert_str_eq(tc_folder_path(folder), path);
    ck_assert_int_eq(fstat(tc_folder_fd(folder), &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0755);
    ck_assert_int_eq(fstat(tc_folder_state_fd(folder), &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0711);
    ck_assert_uint_gt(tc_folder_space(folder), 0);
    tc_folder_close(folder);

    ck_assert_int_eq(chdir(parent), 0);
    folder = tc_folder_open_read("new", NULL);
    ck_assert_ptr_nonnull(folder);
    ck_assert_str_eq(tc_folder_path(folder), path);
    tc_folder_close(folder);
    ck_assert_int_eq(chdir("/"), 0);
    struct tc_err err = {0};
    ck_assert_ptr_null(tc_folder_open_read("/nowhere/at/all", &err));
    ck_assert_int_eq(err.reason, TC_E_NOTFOUND);
    ck_assert_ptr_null(tc_folder_open_read("/dev/null", NULL));
}
END_TEST

START_TEST(default_directory)
{
    char path[64], own[64];
    setenv("TREECAST_DIR", "/x/y", 1);
    ck_assert_int_eq(tc_place_default(path, sizeof path, NULL), 0);
    ck_assert_str_eq(path, "/x/y");
    unsetenv("TREECAST_DIR");
    ck_assert_int_eq(tc_place_default(path, sizeof path, NULL), 0);
    snprintf(own, sizeof own, "/dev/shm/treecast-%lu", (unsigned long)getuid());
    ck_assert_str_eq(path, own);
}
END_TEST

static void expect_unreadable(struct tc_folder *folder, const char *name, int reason)
{
    struct tc_description description;
    struct tc_err err = {0};
    int rc = tc_folder_open_array(folder, name, &description, &err);
    ck_assert_msg(rc == -reason, "%s: %d %s", name, rc, err.text);
    ck_assert(err.text[0] != '\0');
}

START_TEST(only_described_files_are_arrays)
{
    struct tc_folder *folder = fresh_folder();
    int at = tc_folder_fd(folder), state = tc_folder_state_fd(folder);
    struct tc_description description;
    struct stat status;
    char file[64];
    ck_assert_int_eq(publish(folder, "A", 100000, 1, false, NULL), 0);
    int fd = tc_folder_open_array(folder, "A", &description, NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    ck_assert_uint_eq(description.size, 100000);
    ck_assert_int_eq(fstat(fd, &status), 0);
    close(fd);

    expect_unreadable(folder, "B", TC_E_NOTFOUND);
    expect_unreadable(folder, "../A", TC_E_NAME);
    put_file(at, "bare", "x");
    expect_unreadable(folder, "bare", TC_E_FORMAT);
    ck_assert_int_eq(symlinkat("A", at, "link"), 0);
    expect_unreadable(folder, "link", TC_E_FORMAT);
    ck_assert_int_eq(mkfifoat(at, "fifo", 0600), 0);
    expect_unreadable(folder, "fifo", TC_E_FORMAT);
    ck_assert_int_eq(mkdirat(at, "dir", 0700), 0);
    expect_unreadable(folder, "dir", TC_E_FORMAT);
    ck_assert_int_eq(linkat(at, "A", at, "other-name", 0), 0);
    expect_unreadable(folder, "other-name", TC_E_FORMAT);

    snprintf(file, sizeof file, "%llu.json", (unsigned long long)status.st_ino);
    ck_assert_int_eq(fchmodat(at, "A", 0644, 0), 0);
    fd = openat(at, "A", O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    expect_unreadable(folder, "A", TC_E_FORMAT);
    ck_assert_int_eq(ftruncate(fd, 100000), 0);
    close(fd);
    ck_assert_int_eq(renameat(state, file, state, "away"), 0);
    ck_assert_int_eq(symlinkat("away", state, file), 0);
    ck_assert_int_lt(tc_folder_open_array(folder, "A", NULL, NULL), 0); /* nor through a link */
    put_file(state, "away", "not JSON");
    ck_assert_int_eq(renameat(state, "away", state, file), 0);
    expect_unreadable(folder, "A", TC_E_FORMAT);
    tc_folder_close(folder);
}
END_TEST

static int collect(const struct tc_description *description, void *arg)
{
    strcat(arg, description->name);
    return strcmp(description->name, "c") == 0 ? 7 : 0;
}

START_TEST(each_goes_by_name)
{
    struct tc_folder *folder = fresh_folder();
    char seen[64] = "";
    static const char *const names[] = {"b", "d", "a"};
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(publish(folder, names[i], 10 * i, i, false, NULL), 0);
    put_file(tc_folder_fd(folder), "bare", "");
    ck_assert_int_eq(tc_folder_each(folder, collect, seen, NULL), 0);
    ck_assert_str_eq(seen, "abd");
    ck_assert_int_eq(publish(folder, "c", 10, 9, false, NULL), 0);
    seen[0] = '\0';
    ck_assert_int_eq(tc_folder_each(folder, collect, seen, NULL), 7);
    ck_assert_str_eq(seen, "abc");
    tc_folder_close(folder);
}
END_TEST

START_TEST(removed_arrays_stay_with_their_readers)
{
    struct tc_folder *folder = fresh_folder();
    ck_assert_int_eq(publish(folder, "A", 70000, 3, false, NULL), 0);
    int fd = tc_folder_open_array(folder, "A", NULL, NULL);
    uint8_t *map = mmap(NULL, 70000, PROT_READ, MAP_SHARED, fd, 0), *bytes = pattern(70000, 3);
    ck_assert(map != MAP_FAILED);
    ck_assert_int_eq(tc_folder_remove(folder, "A", NULL), 0);
    ck_assert_mem_eq(map, bytes, 70000);
    ck_assert_uint_eq(entries(tc_folder_fd(folder)), 1);
    ck_assert_uint_eq(entries(tc_folder_state_fd(folder)), 1);
    ck_assert_int_eq(tc_folder_remove(folder, "A", NULL), -TC_E_NOTFOUND);
    ck_assert_int_eq(mkdirat(tc_folder_fd(folder), "dir", 0700), 0);
    ck_assert_int_eq(tc_folder_remove(folder, "dir", NULL), -TC_E_FORMAT);
    munmap(map, 70000);
    free(bytes);
    close(fd);
    tc_folder_close(folder);
}
END_TEST

static void dead_part(struct tc_folder *folder)
{
    pid_t child = fork();
    if (child == 0) {
        static const uint8_t session[TC_SESSION_ID_SIZE] = {1};
        struct tc_sink_options options = {.mode = 0444, .group = (gid_t)-1};
        _exit(tc_sink_new(folder, "dead", session, 5000, &options, NULL) ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}

START_TEST(clean_takes_the_dead_alone)
{
    struct tc_folder *folder = fresh_folder();
    int at = tc_folder_fd(folder), state = tc_folder_state_fd(folder);
    uint8_t session[TC_SESSION_ID_SIZE] = {2};
    struct tc_sink_options options = {.mode = 0444, .group = (gid_t)-1};
    unsigned files;
    uint64_t bytes;
    ck_assert_int_eq(publish(folder, "A", 1000, 1, false, NULL), 0);
    struct tc_sink *alive = tc_sink_new(folder, "alive", session, 3000, &options, NULL);
    ck_assert_ptr_nonnull(alive);
    dead_part(folder);
    put_file(state, "999999999.json", "{}");
    put_file(state, "999999999.json.tmp", "{");
    put_file(state, "api", ""); /* no business of the folder's */
    put_file(state, "mine.json", "{}");
    put_file(at, "bare", "x");
    ck_assert_int_eq(tc_folder_clean(folder, false, &files, &bytes, NULL), 0);
    ck_assert_uint_eq(files, 3);
    ck_assert_uint_eq(bytes, 5003);
    ck_assert_uint_eq(entries(state), 5); /* lock, A's description, alive, local API, mine.json */
    ck_assert_int_eq(tc_folder_verify(folder, "A", NULL, NULL), 0);

    ck_assert_int_eq(tc_folder_clean(folder, true, &files, &bytes, NULL), 0);
    ck_assert_uint_eq(files, 1);
    ck_assert_uint_eq(bytes, 1000);
    ck_assert_uint_eq(entries(state), 4);
    ck_assert_uint_eq(entries(at), 2); /* .treecast, bare */
    tc_sink_free(alive);
    ck_assert_uint_eq(entries(state), 3);
    tc_folder_close(folder);
}
END_TEST

START_TEST(verify_reads_every_byte)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_description description;
    struct tc_err err = {0};
    static const size_t sizes[] = {0, 1, 65536, 65537, 4u << 20, (9u << 20) + 1};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ck_assert_int_eq(publish(folder, "A", sizes[i], i, true, NULL), 0);
        ck_assert_msg(tc_folder_verify(folder, "A", &description, &err) == 0, "%s", err.text);
        ck_assert_uint_eq(description.size, sizes[i]);
    }
    ck_assert_int_eq(fchmodat(tc_folder_fd(folder), "A", 0644, 0), 0);
    int fd = openat(tc_folder_fd(folder), "A", O_RDWR);
    uint8_t last;
    ck_assert_int_eq(pread(fd, &last, 1, 9 << 20), 1);
    last ^= 1;
    ck_assert_int_eq(pwrite(fd, &last, 1, 9 << 20), 1);
    close(fd);
    ck_assert_int_eq(tc_folder_verify(folder, "A", NULL, &err), -TC_E_INTEGRITY);
    ck_assert_int_eq(tc_folder_verify(folder, "B", NULL, NULL), -TC_E_NOTFOUND);
    tc_folder_close(folder);
}
END_TEST

/* As root only. */
START_TEST(others_may_read_and_no_more)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_description description;
    char seen[64] = "";
    unsigned files;
    uint64_t bytes;
    ck_assert_int_eq(publish(folder, "A", 1000, 1, false, NULL), 0);
    ck_assert_int_eq(seteuid(NOBODY), 0);
    struct tc_folder *reader = tc_folder_open_read(tc_folder_path(folder), NULL);
    ck_assert_ptr_nonnull(reader);
    ck_assert_int_eq(tc_folder_verify(reader, "A", &description, NULL), 0);
    ck_assert_int_eq(tc_folder_each(reader, collect, seen, NULL), 0);
    ck_assert_str_eq(seen, "A");
    ck_assert_int_eq(tc_folder_remove(reader, "A", NULL), -TC_E_PERMISSION);
    ck_assert_int_eq(tc_folder_clean(reader, true, &files, &bytes, NULL), -TC_E_PERMISSION);
    ck_assert_int_eq(publish(reader, "B", 10, 1, false, NULL), -TC_E_FAILED);
    expect_refused(tc_folder_path(folder), TC_E_POLICY, "belongs to uid 0");
    ck_assert_int_eq(seteuid(0), 0);
    tc_folder_close(reader);
    tc_folder_close(folder);
}
END_TEST

/* A process that holds the folder's lock: stopped, or not. */
static pid_t hold_lock(struct tc_folder *folder, bool stopped)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        int fd = openat(tc_folder_state_fd(folder), "lock", O_RDWR | O_CREAT, 0600);
        if (fd < 0 || flock(fd, LOCK_EX))
            _exit(1);
        raise(SIGSTOP);
        for (;;)
            pause();
    }
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    if (!stopped)
        ck_assert_int_eq(kill(child, SIGCONT), 0);
    return child;
}

static void release(pid_t child)
{
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Whoever holds the lock for ever is named, and costs everybody a bounded time and nothing else. */
START_TEST(a_stopped_holder_is_waited_for_in_vain)
{
    struct tc_folder *folder = fresh_folder();
    struct tc_err err = {0};
    char holder[64];
    unsigned files;
    uint64_t bytes;
    ck_assert_int_eq(publish(folder, "A", 1000, 1, false, &err), 0);
    pid_t child = hold_lock(folder, true);
    double began = seconds();
    ck_assert_int_eq(tc_folder_remove(folder, "A", &err), -TC_E_BUSY);
    double took = seconds() - began;
    ck_assert_msg(took >= 4.9 && took < 8, "%g s", took);
    snprintf(holder, sizeof holder, "process %d (test_folder, stopped)", (int)child);
    ck_assert_msg(strstr(err.text, "busy: ") && strstr(err.text, holder) && strstr(err.text, "/.treecast/lock"), "%s",
                  err.text);
    began = seconds();
    ck_assert_int_eq(tc_folder_remove(folder, "A", &err), -TC_E_BUSY); /* who has just waited does not wait again */
    ck_assert_msg(seconds() - began < 2, "%g s", seconds() - began);
    tc_folder_hurry(folder); /* nobody waits any more */
    began = seconds();
    ck_assert_int_eq(publish(folder, "B", 10, 1, false, &err), -TC_E_BUSY);
    ck_assert_int_eq(tc_folder_clean(folder, true, &files, &bytes, &err), -TC_E_BUSY);
    ck_assert_int_eq(tc_lease_set(folder, "A", &(struct tc_lease){.expires = 1}, &err), -TC_E_BUSY);
    ck_assert_int_eq(tc_lease_sweep(folder, NULL, NULL, NULL, NULL), 0);
    ck_assert_msg(seconds() - began < 2, "%g s", seconds() - began);
    release(child);
    ck_assert_int_eq(tc_folder_verify(folder, "A", NULL, &err), 0);
    ck_assert_int_eq(publish(folder, "B", 10, 1, false, &err), 0);
    ck_assert_int_eq(tc_folder_remove(folder, "A", &err), 0);
    tc_folder_close(folder);
}
END_TEST

/* What was received when publishing failed for the lock is there for the next session. */
START_TEST(a_held_lock_loses_nothing)
{
    enum { SIZE = 3 * TC_CHUNK_SIZE_MIN };
    struct tc_folder *folder = fresh_folder();
    uint8_t session[TC_SESSION_ID_SIZE] = {7}, *bytes = pattern(SIZE, 3);
    struct tc_description description = describe("A", bytes, SIZE, 3);
    struct tc_sink_options options = {.mode = 0444, .group = (gid_t)-1};
    struct tc_err err = {0};
    struct tc_sink *sink = tc_sink_new(folder, "A", session, SIZE, &options, &err);
    ck_assert_msg(sink != NULL, "%s", err.text);
    ck_assert_int_eq(tc_sink_place(sink, 0, bytes, SIZE, &err), 0);
    pid_t child = hold_lock(folder, false);
    tc_folder_hurry(folder);
    ck_assert_int_eq(tc_sink_publish(sink, &description, &err), -TC_E_BUSY);
    tc_sink_free(sink);
    release(child);
    ck_assert_int_eq(tc_folder_open_array(folder, "A", NULL, NULL), -TC_E_NOTFOUND);
    session[0] = 8;
    sink = tc_sink_new(folder, "A", session, SIZE, &options, &err);
    ck_assert_msg(sink != NULL, "%s", err.text);
    ck_assert_uint_eq(tc_sink_found(sink), TC_SINK_COMPARE);
    ck_assert_int_eq(tc_sink_publish(sink, &description, &err), 0);
    tc_sink_free(sink);
    ck_assert_int_eq(tc_folder_verify(folder, "A", NULL, &err), 0);
    free(bytes);
    tc_folder_close(folder);
}
END_TEST

/* Those that go on are waited for, however many they are. */
START_TEST(a_contended_lock_is_got_by_everybody)
{
    enum { PROCESSES = 8, ROUNDS = 50 };
    struct tc_folder *folder = fresh_folder();
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (fork() > 0)
            continue;
        char name[16];
        int rc = 0;
        snprintf(name, sizeof name, "a%u", i);
        for (unsigned round = 0; rc == 0 && round < ROUNDS; round++)
            rc = publish(folder, name, 100, round + 1, true, NULL);
        _exit(rc ? 1 : 0);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status;
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
    }
    tc_folder_close(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("folder");
    TCase *tcase = add_file_case(suite, "folder");
    tcase_add_test(tcase, unsafe_directories_are_refused);
    tcase_add_test(tcase, made_for_readers_whatever_the_umask);
    tcase_add_test(tcase, default_directory);
    tcase_add_test(tcase, only_described_files_are_arrays);
    tcase_add_test(tcase, each_goes_by_name);
    tcase_add_test(tcase, removed_arrays_stay_with_their_readers);
    tcase_add_test(tcase, clean_takes_the_dead_alone);
    tcase_add_test(tcase, verify_reads_every_byte);
    tcase_add_test(tcase, a_stopped_holder_is_waited_for_in_vain);
    tcase_add_test(tcase, a_held_lock_loses_nothing);
    tcase_add_test(tcase, a_contended_lock_is_got_by_everybody);
    if (geteuid() == 0) {
        tcase_add_test(tcase, directories_of_others_are_refused);
        tcase_add_test(tcase, others_may_read_and_no_more);
    } else {
        printf("# not root: nothing is tried with a second user\n");
        fflush(stdout);
    }
    return unit_run(suite);
}
