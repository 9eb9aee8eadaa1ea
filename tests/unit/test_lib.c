/* The C library: what it maps and says of it, when it wakes, and what it says when it cannot. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "file/sink.h"
#include "treecast.h"
#include "unit.h"

static char dir[64];

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/tc-lib-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chmod(dir, 0755), 0);
}

static void tear_down(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

/* Publish size bytes as an agent does; array is taken. */
static void publish(const char *name, const void *bytes, size_t size, struct tc_array array)
{
    struct tc_err err = {0};
    struct tc_description description = {.size = size, .created = 1700000000, .array = array};
    struct tc_sink_options options = {.mode = 0444, .group = (gid_t)-1, .force = true};
    snprintf(description.name, sizeof description.name, "%s", name);
    struct tc_folder *folder = tc_folder_open(dir, &err);
    ck_assert_msg(folder != NULL, "%s", err.text);
    struct tc_sink *sink = tc_sink_new(folder, name, description.session, size, &options, &err);
    ck_assert_msg(sink != NULL, "%s", err.text);
    ck_assert_int_eq(size ? tc_sink_place(sink, 0, bytes, size, &err) : 0, 0);
    ck_assert_msg(tc_sink_publish(sink, &description, &err) == 0, "%s", err.text);
    tc_sink_free(sink);
    tc_folder_close(folder);
    tc_array_free(&description.array);
}

/* Publish a .npy file with this dictionary and data. */
static void publish_npy(const char *name, const char *dictionary, const void *data, size_t size)
{
    char bytes[4096] = "\x93NUMPY\x01";
    struct tc_err err = {0};
    struct tc_array array = {0};
    bytes[8] = 128 - 10;
    memset(bytes + 10, ' ', 118);
    memcpy(bytes + 10, dictionary, strlen(dictionary));
    bytes[127] = '\n';
    if (size)
        memcpy(bytes + 128, data, size);
    ck_assert_msg(tc_array_read_npy(&array, bytes, 128 + size, 128 + size, &err) == 0, "%s", err.text);
    publish(name, bytes, 128 + size, array);
}

static const double numbers[6] = {0, 1, 2, 3, 4, 5};

static void publish_numbers(const char *name)
{
    publish_npy(name, "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", numbers, sizeof numbers);
}

START_TEST(attach_maps_past_the_header)
{
    tc_array_handle *array;
    char path[128];
    publish_numbers("A.npy");
    ck_assert_int_eq(tc_array_attach("A.npy", dir, -1, &array), TC_STATUS_OK);
    ck_assert_uint_eq(tc_array_size(array), sizeof numbers);
    ck_assert_mem_eq(tc_array_data(array), numbers, sizeof numbers);
    ck_assert_uint_eq((uintptr_t)tc_array_data(array) % 64, 0);
    snprintf(path, sizeof path, "%s/A.npy", dir);
    ck_assert_str_eq(tc_array_path(array), path);
    ck_assert_str_eq(tc_array_dtype(array), "<f8");
    ck_assert_uint_eq(tc_array_item_size(array), 8);
    ck_assert_uint_eq(tc_array_ndim(array), 2);
    ck_assert_uint_eq(tc_array_extent(array, 0), 2);
    ck_assert_uint_eq(tc_array_extent(array, 1), 3);
    ck_assert_uint_eq(tc_array_extent(array, 2), 0);
    ck_assert_uint_eq(tc_array_extent(array, UINT32_MAX), 0);
    ck_assert_int_eq(tc_array_order(array), 'C');
    /* Read-only, and no way back. */
    void *page = (void *)((uintptr_t)tc_array_data(array) & ~(uintptr_t)4095);
    ck_assert_int_eq(mprotect(page, 4096, PROT_READ | PROT_WRITE), -1);
    ck_assert_int_eq(errno, EACCES);
    tc_array_detach(array);
    tc_array_detach(NULL);
}
END_TEST

START_TEST(kinds_of_arrays)
{
    tc_array_handle *array;
    publish_npy("F.npy", "{'descr': [('x', '<f8'), ('n', '<i4')], 'fortran_order': True, 'shape': (2, 2), }", numbers,
                48);
    ck_assert_int_eq(tc_array_attach("F.npy", dir, 0, &array), TC_STATUS_OK);
    ck_assert_int_eq(tc_array_order(array), 'F');
    ck_assert_uint_eq(tc_array_item_size(array), 12);
    ck_assert_int_eq(tc_array_dtype(array)[0], '[');
    tc_array_detach(array);

    publish_npy("scalar.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", numbers + 5, 8);
    ck_assert_int_eq(tc_array_attach("scalar.npy", dir, 0, &array), TC_STATUS_OK);
    ck_assert_uint_eq(tc_array_ndim(array), 0);
    ck_assert(*(const double *)tc_array_data(array) == 5.0);
    tc_array_detach(array);

    publish("plain", "hello", 5, (struct tc_array){0});
    ck_assert_int_eq(tc_array_attach("plain", dir, 0, &array), TC_STATUS_OK);
    ck_assert_ptr_null(tc_array_dtype(array));
    ck_assert_uint_eq(tc_array_item_size(array), 1);
    ck_assert_uint_eq(tc_array_ndim(array), 0);
    ck_assert_int_eq(tc_array_order(array), 'C');
    ck_assert_uint_eq(tc_array_size(array), 5);
    ck_assert_mem_eq(tc_array_data(array), "hello", 5);
    tc_array_detach(array);
}
END_TEST

START_TEST(empty_arrays)
{
    tc_array_handle *array;
    publish_npy("none.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 3), }", NULL, 0);
    ck_assert_int_eq(tc_array_attach("none.npy", dir, 0, &array), TC_STATUS_OK);
    ck_assert_uint_eq(tc_array_size(array), 0);
    ck_assert_ptr_nonnull(tc_array_data(array));
    ck_assert_uint_eq(tc_array_extent(array, 0), 0);
    ck_assert_uint_eq(tc_array_extent(array, 1), 3);
    tc_array_detach(array);

    publish("nothing", NULL, 0, (struct tc_array){0});
    ck_assert_int_eq(tc_array_attach("nothing", dir, 0, &array), TC_STATUS_OK);
    ck_assert_uint_eq(tc_array_size(array), 0);
    ck_assert_ptr_nonnull(tc_array_data(array));
    tc_array_detach(array);
}
END_TEST

START_TEST(a_replaced_array_stays_mapped)
{
    tc_array_handle *before, *after;
    publish("A", "before", 6, (struct tc_array){0});
    ck_assert_int_eq(tc_array_attach("A", dir, 0, &before), TC_STATUS_OK);
    publish("A", "then", 4, (struct tc_array){0});
    ck_assert_int_eq(tc_array_attach("A", dir, 0, &after), TC_STATUS_OK);
    ck_assert_uint_eq(tc_array_size(before), 6);
    ck_assert_mem_eq(tc_array_data(before), "before", 6);
    ck_assert_uint_eq(tc_array_size(after), 4);
    ck_assert_mem_eq(tc_array_data(after), "then", 4);
    tc_array_detach(before);
    tc_array_detach(after);
}
END_TEST

/* ---- threads ---- */

static atomic_uint started;

static void *attach_many_times(void *arg)
{
    tc_array_handle *array;
    atomic_fetch_add(&started, 1);
    for (int i = 0; i < 50; i++) {
        if (tc_array_attach("A.npy", dir, 30, &array) != TC_STATUS_OK)
            return arg;
        bool same = memcmp(tc_array_data(array), numbers, sizeof numbers) == 0;
        tc_array_detach(array);
        if (!same || tc_array_published("A.npy", dir) != 1)
            return arg;
    }
    return NULL;
}

START_TEST(threads_wait_for_and_attach_the_same_array)
{
    pthread_t threads[8];
    void *failed;
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, attach_many_times, dir), 0);
    while (atomic_load(&started) < 8)
        sched_yield();
    publish_numbers("A.npy");
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
}
END_TEST

static void *fail_elsewhere(void *arg)
{
    bool right = tc_array_error()[0] == '\0' && tc_array_wait("../x", dir, 0) == TC_STATUS_USAGE &&
                 strstr(tc_array_error(), "../x");
    return right ? NULL : arg;
}

START_TEST(errors_belong_to_their_thread)
{
    pthread_t thread;
    void *failed;
    ck_assert_str_eq(tc_array_error(), "");
    ck_assert_int_eq(tc_array_wait("B.npy", dir, 0.01), TC_STATUS_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(tc_array_error(), "B.npy was not published"));
    ck_assert_int_eq(pthread_create(&thread, NULL, fail_elsewhere, dir), 0);
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    ck_assert_ptr_nonnull(strstr(tc_array_error(), "B.npy was not published"));
}
END_TEST

START_TEST(statuses_and_texts)
{
    tc_array_handle *array = (tc_array_handle *)dir;
    char path[128];
    ck_assert_int_eq(tc_array_attach("A/B", dir, 0, &array), TC_STATUS_USAGE);
    ck_assert_ptr_null(array);
    ck_assert_int_eq(tc_array_attach(NULL, dir, 0, &array), TC_STATUS_USAGE);
    ck_assert_int_eq(tc_array_wait("A", "", 0), TC_STATUS_USAGE);
    ck_assert_int_eq(tc_array_wait("A", dir, NAN), TC_STATUS_USAGE);
    ck_assert_int_eq(tc_array_published("A", dir), 0);
    ck_assert_int_eq(tc_array_published("A", "/nonexistent/dir"), 0);
    ck_assert_str_eq(tc_array_error(), "");
    ck_assert_int_eq(tc_array_published(".A", dir), TC_STATUS_USAGE);
    uint64_t bytes = 7, size = 7;
    ck_assert_int_eq(tc_array_status("A.npy", "/nonexistent/dir", &bytes, &size), TC_ARRAY_ABSENT);
    ck_assert(bytes == 0 && size == 0);
    ck_assert_int_eq(tc_array_status(".A", dir, NULL, NULL), TC_STATUS_USAGE);
    publish_numbers("A.npy");
    ck_assert_int_eq(tc_array_status("A.npy", dir, &bytes, &size), TC_ARRAY_PUBLISHED);
    ck_assert(bytes == 128 + sizeof numbers && size == bytes);
    ck_assert_int_eq(tc_array_status("A.npy", dir, NULL, NULL), TC_ARRAY_PUBLISHED);
    ck_assert_int_eq(tc_array_published("A.npy", dir), 1);
    ck_assert_int_eq(tc_array_wait("A.npy", dir, 0), TC_STATUS_OK);

    /* A file that treecast did not publish. */
    snprintf(path, sizeof path, "%s/stray", dir);
    int fd = open(path, O_WRONLY | O_CREAT, 0444);
    close(fd);
    ck_assert_int_eq(tc_array_attach("stray", dir, 0, &array), TC_STATUS_INTEGRITY);
    ck_assert_int_gt((int)strlen(tc_array_error()), 0);
    ck_assert_int_eq(tc_array_published("stray", dir), TC_STATUS_INTEGRITY);
}
END_TEST

START_TEST(the_default_directory)
{
    tc_array_handle *array;
    publish_numbers("A.npy");
    setenv("TREECAST_DIR", dir, 1);
    ck_assert_int_eq(tc_array_published("A.npy", NULL), 1);
    ck_assert_int_eq(tc_array_wait("A.npy", NULL, 0), TC_STATUS_OK);
    ck_assert_int_eq(tc_array_attach("A.npy", NULL, 0, &array), TC_STATUS_OK);
    tc_array_detach(array);
}
END_TEST

/* ---- the library as it is built ---- */

START_TEST(only_the_header_is_exported)
{
    static const char *const ours[] = {"attach", "data",  "detach", "dtype", "error",     "extent", "item_size",
                                       "ndim",   "order", "path",   "size",  "published", "wait",   "status"};
    static const char *const hidden[] = {"tc_array_read_npy", "tc_array_copy", "tc_array_free", "tc_api_wait",
                                         "tc_fail"};
    const char *place = getenv("TREECAST_LIB");
    char path[4096];
    snprintf(path, sizeof path, "%s/libtreecast.so.0", place ? place : ".");
    if (access(path, R_OK) != 0) {
        puts("# only_the_header_is_exported: skipped, there is no libtreecast.so.0 in TREECAST_LIB");
        return;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(library != NULL, "%s", dlerror());
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        snprintf(path, sizeof path, "tc_array_%s", ours[i]);
        ck_assert_msg(dlsym(library, path) != NULL, "%s is missing", path);
    }
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++)
        ck_assert_msg(dlsym(library, hidden[i]) == NULL, "%s is exported", hidden[i]);
    dlclose(library);
}
END_TEST

START_TEST(the_example_prints_the_norm)
{
    const char *top = getenv("top_builddir");
    char command[4096], line[128] = "";
    snprintf(command, sizeof command, "%s/doc/examples/attach", top ? top : ".");
    if (access(command, X_OK) != 0) {
        puts("# the_example_prints_the_norm: skipped, doc/examples/attach is not built");
        return;
    }
    publish_numbers("A.npy");
    publish("plain", "hello", 5, (struct tc_array){0});
    snprintf(command, sizeof command, "%s/doc/examples/attach A.npy %s", top ? top : ".", dir);
    FILE *out = popen(command, "r");
    ck_assert_ptr_nonnull(out);
    ck_assert_ptr_nonnull(fgets(line, sizeof line, out));
    ck_assert_int_eq(pclose(out), 0);
    snprintf(command, sizeof command, "6 elements, norm %.17g\n", sqrt(55));
    ck_assert_str_eq(line, command);
    snprintf(command, sizeof command, "%s/doc/examples/attach plain %s 2>&1", top ? top : ".", dir);
    out = popen(command, "r");
    ck_assert_ptr_nonnull(fgets(line, sizeof line, out));
    ck_assert_str_eq(line, "plain: float64 wanted, this is plain bytes\n");
    ck_assert_int_eq(WEXITSTATUS(pclose(out)), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lib");
    TCase *all = tcase_create("lib");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_set_timeout(all, 60);
    tcase_add_test(all, attach_maps_past_the_header);
    tcase_add_test(all, kinds_of_arrays);
    tcase_add_test(all, empty_arrays);
    tcase_add_test(all, a_replaced_array_stays_mapped);
    tcase_add_test(all, threads_wait_for_and_attach_the_same_array);
    tcase_add_test(all, errors_belong_to_their_thread);
    tcase_add_test(all, statuses_and_texts);
    tcase_add_test(all, the_default_directory);
    tcase_add_test(all, only_the_header_is_exported);
    tcase_add_test(all, the_example_prints_the_norm);
    suite_add_tcase(suite, all);
    return unit_run(suite);
}
