/* The source is read exactly, and a source that changes is noticed. */
#include "file/source.h"

#include "file_help.h"

static char path[128];

static struct tc_source *open_sample(const char *text)
{
    char dir[128];
    snprintf(path, sizeof path, "%.100s/A.npy", fresh(dir, "source"));
    put_file(AT_FDCWD, path, text);
    struct tc_err err = {0};
    struct tc_source *source = tc_source_open(path, &err);
    ck_assert_msg(source != NULL, "%s", err.text);
    return source;
}

START_TEST(reads_what_is_there)
{
    char bytes[16];
    struct tc_err err = {0};
    struct tc_source *source = open_sample("0123456789");
    ck_assert_uint_eq(tc_source_size(source), 10);
    ck_assert_int_eq(tc_source_read(source, 3, bytes, 7, &err), 0);
    ck_assert_mem_eq(bytes, "3456789", 7);
    ck_assert_int_eq(tc_source_read(source, 10, bytes, 0, &err), 0);
    ck_assert_int_eq(tc_source_check(source, &err), 0);
    ck_assert_int_eq(tc_source_read(source, 3, bytes, 8, &err), -TC_E_SOURCE);
    ck_assert(strstr(err.text, path));
    tc_source_close(source);
}
END_TEST

START_TEST(changes_are_noticed)
{
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    for (unsigned i = 0; i < 3; i++) {
        struct tc_err err = {0};
        struct tc_source *source = open_sample("0123456789");
        if (i == 0)
            ck_assert_int_eq(truncate(path, 9), 0);
        else if (i == 1)
            ck_assert_int_eq(truncate(path, 11), 0);
        else
            ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
        ck_assert_int_eq(tc_source_check(source, &err), -TC_E_SOURCE);
        ck_assert(strstr(err.text, "changed while it was read"));
        tc_source_close(source);
    }
}
END_TEST

START_TEST(only_regular_files)
{
    char dir[128], fifo[160];
    struct tc_err err = {0};
    ck_assert_ptr_null(tc_source_open(fresh(dir, "source"), &err));
    ck_assert_int_eq(err.reason, TC_E_SOURCE);
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    ck_assert_ptr_null(tc_source_open(fifo, NULL));
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_ptr_null(tc_source_open(fifo, NULL)); /* and does not wait for a writer */
    ck_assert_ptr_null(tc_source_open("/dev/zero", NULL));
    tc_source_close(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("source");
    TCase *tcase = add_file_case(suite, "source");
    tcase_add_test(tcase, reads_what_is_there);
    tcase_add_test(tcase, changes_are_noticed);
    tcase_add_test(tcase, only_regular_files);
    return unit_run(suite);
}
