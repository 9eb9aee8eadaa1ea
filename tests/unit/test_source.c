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

/* A range of a file with a head before it is read as one. */
START_TEST(head_and_range)
{
    char bytes[16];
    struct tc_err err = {0};
    tc_source_close(open_sample("0123456789"));
    int fd = open(path, O_RDONLY), head[2];
    ck_assert_int_eq(pipe(head), 0);
    ck_assert_int_eq(write(head[1], "HEAD", 4), 4);
    close(head[1]);
    struct tc_source_range range = {.fd = fd, .head_fd = head[0], .offset = 2, .size = 5};
    struct tc_source *source = tc_source_open_range(&range, "range.npy", &err);
    ck_assert_msg(source != NULL, "%s", err.text);
    close(fd); /* the source has its own */
    close(head[0]);
    ck_assert_uint_eq(tc_source_size(source), 9);
    for (unsigned from = 0; from <= 9; from++)
        for (unsigned size = 0; from + size <= 9; size++) {
            ck_assert_int_eq(tc_source_read(source, from, bytes, size, &err), 0);
            ck_assert_mem_eq(bytes, &"HEAD23456"[from], size);
        }
    ck_assert_int_eq(tc_source_check(source, &err), 0);
    tc_source_close(source);
}
END_TEST

/* What another process has in memory is read from there, without a copy in a file. */
START_TEST(memory_is_a_source)
{
    static const char words[] = "somewhere in memory";
    char bytes[sizeof words];
    struct tc_err err = {0};
    int fd = open("/proc/self/mem", O_RDONLY);
    struct tc_source_range range = {.fd = fd, .head_fd = -1, .offset = (uintptr_t)words, .size = sizeof words};
    struct tc_source *source = tc_source_open_range(&range, "memory", &err);
    ck_assert_msg(source != NULL, "%s", err.text);
    close(fd);
    ck_assert_uint_eq(tc_source_size(source), sizeof words);
    ck_assert_int_eq(tc_source_read(source, 0, bytes, sizeof words, &err), 0);
    ck_assert_str_eq(bytes, words);
    ck_assert_int_eq(tc_source_check(source, &err), 0);
    tc_source_close(source);
}
END_TEST

START_TEST(ranges_that_are_not_there)
{
    struct tc_err err = {0};
    tc_source_close(open_sample("0123456789"));
    int fd = open(path, O_RDONLY), head[2];
    struct tc_source_range beyond = {.fd = fd, .head_fd = -1, .offset = 6, .size = 5};
    ck_assert_ptr_null(tc_source_open_range(&beyond, "A", &err));
    ck_assert_int_eq(err.reason, TC_E_SOURCE);
    struct tc_source_range huge = {.fd = fd, .head_fd = -1, .offset = 6, .size = UINT64_MAX - 1};
    ck_assert_ptr_null(tc_source_open_range(&huge, "A", NULL));
    struct tc_source_range rest = {.fd = fd, .head_fd = -1, .offset = 6, .size = UINT64_MAX};
    struct tc_source *source = tc_source_open_range(&rest, "A", &err);
    ck_assert_uint_eq(tc_source_size(source), 4);
    tc_source_close(source);
    ck_assert_int_eq(pipe(head), 0);
    struct tc_source_range stream = {.fd = head[0], .head_fd = -1, .size = UINT64_MAX};
    ck_assert_ptr_null(tc_source_open_range(&stream, "A", NULL)); /* cannot be read by offset */
    struct tc_source_range closed = {.fd = 65000, .head_fd = -1, .size = UINT64_MAX};
    ck_assert_ptr_null(tc_source_open_range(&closed, "A", NULL));
    close(head[0]);
    close(head[1]);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("source");
    TCase *tcase = add_file_case(suite, "source");
    tcase_add_test(tcase, reads_what_is_there);
    tcase_add_test(tcase, changes_are_noticed);
    tcase_add_test(tcase, only_regular_files);
    tcase_add_test(tcase, head_and_range);
    tcase_add_test(tcase, memory_is_a_source);
    tcase_add_test(tcase, ranges_that_are_not_there);
    return unit_run(suite);
}
