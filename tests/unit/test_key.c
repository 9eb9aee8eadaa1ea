/* Key files: what is read, what is refused, what keygen writes. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/key.h"
#include "unit.h"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define GROUP "group 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
#define HEAD "treecast key 1\n"

static char dir[64], file[96], origin[112], other[96];
static struct tc_key key;
static struct tc_err err;

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/tc-test-key-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/key", dir);
    snprintf(origin, sizeof origin, "%s/key.origin", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    err = (struct tc_err){0};
}

static void teardown(void)
{
    char other_origin[112];
    snprintf(other_origin, sizeof other_origin, "%s.origin", other);
    unlink(file);
    unlink(origin);
    unlink(other);
    unlink(other_origin);
    rmdir(dir);
}

static void put(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static int read_text(const char *text)
{
    put(file, text, 0600);
    err = (struct tc_err){0};
    return tc_key_read(&key, file, &err);
}

static bool is_there(const char *path)
{
    struct stat facts;
    return lstat(path, &facts) == 0;
}

START_TEST(test_reads_what_keygen_wrote)
{
    struct stat facts;
    umask(0777); /* must not matter */
    ck_assert_int_eq(tc_key_generate(file, false, &err), 0);
    umask(022);
    ck_assert_int_eq(stat(file, &facts), 0);
    ck_assert_uint_eq(facts.st_mode & 07777, 0600);
    ck_assert_int_eq(stat(origin, &facts), 0);
    ck_assert_uint_eq(facts.st_mode & 07777, 0600);
    ck_assert_int_eq(tc_key_read(&key, file, &err), 0);
    ck_assert(key.has_origin && !key.has_secret);
    ck_assert_int_eq(tc_key_read_origin(&key, origin, &err), 0);
    ck_assert(key.has_secret);
    ck_assert_int_ne(memcmp(key.group, key.secret, TC_KEY_SIZE), 0);
    tc_key_clear(&key);
    ck_assert(!key.has_secret && key.secret[0] == 0 && key.group[5] == 0);
}
END_TEST

START_TEST(test_group_only)
{
    ck_assert_int_eq(tc_key_generate(file, true, &err), 0);
    ck_assert(!is_there(origin));
    ck_assert_int_eq(tc_key_read(&key, file, &err), 0);
    ck_assert(!key.has_origin);
    ck_assert_int_eq(tc_key_generate(other, false, &err), 0);
    char other_origin[112];
    snprintf(other_origin, sizeof other_origin, "%s.origin", other);
    ck_assert_int_eq(tc_key_read_origin(&key, other_origin, &err), -TC_E_POLICY);
}
END_TEST

START_TEST(test_content_is_exact)
{
    ck_assert_int_eq(read_text(HEAD GROUP), 0);
    for (unsigned i = 0; i < TC_KEY_SIZE; i++)
        ck_assert_uint_eq(key.group[i], i);
    ck_assert_int_eq(read_text(HEAD GROUP "origin " ZEROS "\n"), 0);
    ck_assert(key.has_origin);
    static const char *const bad[] = {
        "",
        HEAD,
        GROUP,
        HEAD "group " ZEROS,       /* no newline */
        HEAD "group " ZEROS "0\n", /* too long */
        HEAD "group 00\n",         /* too short */
        HEAD "group  " ZEROS "\n", /* two spaces */
        HEAD "group g" ZEROS "\n",
        HEAD GROUP "\n", /* trailing garbage */
        HEAD GROUP "origin " ZEROS "\nx",
        HEAD GROUP "secret " ZEROS "\n",
        "treecast key 2\n" GROUP,
        HEAD GROUP GROUP GROUP GROUP GROUP, /* longer than any key */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(read_text(bad[i]), -TC_E_FORMAT);
        ck_assert(!key.has_origin && key.group[31] == 0); /* nothing half-read stays */
    }
}
END_TEST

START_TEST(test_mode_is_private)
{
    static const mode_t bad[] = {0640, 0604, 0660, 0601, 0644};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put(file, HEAD GROUP, bad[i]);
        err = (struct tc_err){0};
        ck_assert_int_eq(tc_key_read(&key, file, &err), -TC_E_POLICY);
        ck_assert_ptr_nonnull(strstr(err.text, "chmod 600 "));
    }
    put(file, HEAD GROUP, 0400);
    ck_assert_int_eq(tc_key_read(&key, file, NULL), 0);
}
END_TEST

START_TEST(test_wrong_owner)
{
    if (geteuid() != 0)
        return; /* only root can give a file away */
    put(file, HEAD GROUP, 0600);
    ck_assert_int_eq(chown(file, 12345, (gid_t)-1), 0);
    ck_assert_int_eq(tc_key_read(&key, file, &err), -TC_E_POLICY);
    ck_assert_ptr_nonnull(strstr(err.text, "12345"));
}
END_TEST

START_TEST(test_only_regular_files)
{
    put(other, HEAD GROUP, 0600);
    ck_assert_int_eq(symlink(other, file), 0);
    ck_assert_int_eq(tc_key_read(&key, file, &err), -TC_E_POLICY);
    unlink(file);
    ck_assert_int_eq(mkfifo(file, 0600), 0); /* nobody writes: an open that waits would never return */
    ck_assert_int_eq(tc_key_read(&key, file, NULL), -TC_E_POLICY);
    unlink(file);
    ck_assert_int_eq(tc_key_read(&key, dir, NULL), -TC_E_POLICY);
    ck_assert_int_eq(tc_key_read(&key, file, NULL), -TC_E_NOTFOUND);
}
END_TEST

START_TEST(test_descriptor)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], HEAD GROUP, strlen(HEAD GROUP)), (ssize_t)strlen(HEAD GROUP));
    close(ends[1]);
    ck_assert_int_eq(tc_key_read_fd(&key, ends[0], &err), 0);
    ck_assert_uint_eq(key.group[31], 31);
    ck_assert_int_eq(tc_key_read_fd(&key, ends[0], &err), -TC_E_FORMAT); /* used up */
    close(ends[0]);
}
END_TEST

START_TEST(test_origin_of_another_key)
{
    char other_origin[112];
    snprintf(other_origin, sizeof other_origin, "%s.origin", other);
    ck_assert_int_eq(tc_key_generate(file, false, &err), 0);
    ck_assert_int_eq(tc_key_generate(other, false, &err), 0);
    ck_assert_int_eq(tc_key_read(&key, file, &err), 0);
    ck_assert_int_eq(tc_key_read_origin(&key, other_origin, &err), -TC_E_POLICY);
    ck_assert(!key.has_secret);
    ck_assert_int_eq(tc_key_read_origin(&key, file, NULL), -TC_E_FORMAT);
    chmod(origin, 0644);
    ck_assert_int_eq(tc_key_read_origin(&key, origin, NULL), -TC_E_POLICY);
}
END_TEST

START_TEST(test_generate_never_overwrites)
{
    put(file, "precious", 0600);
    ck_assert_int_eq(tc_key_generate(file, false, &err), -TC_E_EXISTS);
    ck_assert(!is_there(origin));
    ck_assert_int_eq(tc_key_read(&key, file, NULL), -TC_E_FORMAT); /* still what it was */
    unlink(file);
    put(origin, "precious", 0600);
    ck_assert_int_eq(tc_key_generate(file, false, NULL), -TC_E_EXISTS);
    ck_assert(!is_there(file)); /* the half that was made is gone */
    ck_assert(is_there(origin));
    ck_assert_int_eq(tc_key_generate("/nonexistent/key", false, NULL), -TC_E_NOTFOUND);
}
END_TEST

/* A key that was made and handed on as text is the one that an agent reads. */
START_TEST(test_made_keys_travel_as_text)
{
    struct tc_key made, second, read;
    char text[TC_KEY_TEXT];
    for (int group_only = 0; group_only < 2; group_only++) {
        int ends[2];
        ck_assert_int_eq(tc_key_make(&made, group_only, NULL), 0);
        ck_assert_int_eq(tc_key_make(&second, group_only, NULL), 0);
        ck_assert(made.has_origin == !group_only && memcmp(made.group, second.group, TC_KEY_SIZE) != 0);
        tc_key_text(&made, text);
        ck_assert_int_eq(pipe(ends), 0);
        ck_assert_int_eq(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
        close(ends[1]);
        ck_assert_int_eq(tc_key_read_fd(&read, ends[0], NULL), 0);
        close(ends[0]);
        ck_assert_mem_eq(read.group, made.group, TC_KEY_SIZE);
        ck_assert(read.has_origin == !group_only && !read.has_secret);
        ck_assert_mem_eq(read.origin, made.origin, TC_KEY_SIZE);
    }
}
END_TEST

START_TEST(test_derive_parts_purposes)
{
    uint8_t one[TC_KEY_SIZE], same[TC_KEY_SIZE], two[TC_KEY_SIZE];
    ck_assert_int_eq(read_text(HEAD GROUP), 0);
    ck_assert_int_eq(tc_key_derive(&key, "control", one, &err), 0);
    ck_assert_int_eq(tc_key_derive(&key, "control", same, &err), 0);
    ck_assert_int_eq(tc_key_derive(&key, "other", two, &err), 0);
    ck_assert_mem_eq(one, same, TC_KEY_SIZE);
    ck_assert_mem_ne(one, two, TC_KEY_SIZE);
    /* HKDF of RFC 5869, computed apart from this program: part of the wire format. */
    static const uint8_t expected[] = {
        0x6c, 0xb4, 0x0a, 0x39, 0x12, 0xeb, 0x23, 0xce, 0x5b, 0x21, 0xe8, 0x39, 0x33, 0xe9, 0xe6, 0xfd,
        0x3e, 0x81, 0xce, 0x50, 0x7d, 0x1e, 0x09, 0xe8, 0x63, 0xcf, 0x6d, 0x9e, 0xca, 0xf4, 0x0a, 0xf2,
    };
    ck_assert_mem_eq(one, expected, TC_KEY_SIZE);
}
END_TEST

/* Every host of a job must come to the same keys, whatever its version: HKDF, computed apart from this program. */
START_TEST(test_job_keys)
{
    static const uint8_t group[] = {
        0x66, 0x46, 0xc3, 0x15, 0xac, 0xb9, 0x90, 0x3f, 0xc3, 0xd4, 0xca, 0xf8, 0x1c, 0x97, 0xb1, 0x30,
        0xbe, 0x3b, 0xbf, 0x9a, 0xea, 0x7d, 0x13, 0x52, 0x6d, 0xa7, 0xb6, 0x93, 0xf7, 0x8f, 0x8c, 0x7f,
    };
    static const uint8_t secret[] = {
        0x15, 0xc0, 0xbd, 0xe2, 0x52, 0x91, 0x34, 0xc2, 0x0a, 0xe6, 0xa1, 0xc8, 0xc0, 0xd9, 0x41, 0x2d,
        0xfd, 0x2b, 0x85, 0x57, 0x21, 0x0e, 0xd6, 0xf2, 0xd6, 0x96, 0xc1, 0x5b, 0xf0, 0x2d, 0xbe, 0x9d,
    };
    struct tc_key cluster, job, again, another;
    ck_assert_int_eq(read_text(HEAD GROUP), 0);
    cluster = key;
    ck_assert_int_eq(tc_key_derive_job(&cluster, "slurm big 77 1000", &job, &err), 0);
    ck_assert_mem_eq(job.group, group, TC_KEY_SIZE);
    ck_assert_mem_eq(job.secret, secret, TC_KEY_SIZE);
    ck_assert_int_eq(tc_key_derive_job(&cluster, "slurm big 78 1000", &another, &err), 0);
    ck_assert_mem_ne(job.group, another.group, TC_KEY_SIZE);
    ck_assert_mem_ne(job.origin, another.origin, TC_KEY_SIZE);
    /* A pair of files, as keygen makes one. */
    char text[TC_KEY_TEXT], origin_text[TC_KEY_TEXT];
    tc_key_text(&job, text);
    tc_key_origin_text(&job, origin_text);
    ck_assert_int_eq(read_text(text), 0);
    again = key;
    FILE *out = fopen(origin, "w");
    ck_assert(out && fchmod(fileno(out), 0600) == 0 && fputs(origin_text, out) >= 0 && fclose(out) == 0);
    ck_assert_int_eq(tc_key_read_origin(&again, origin, &err), 0);
    ck_assert_mem_eq(again.secret, secret, TC_KEY_SIZE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("key");
    TCase *tests = tcase_create("key");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, test_reads_what_keygen_wrote);
    tcase_add_test(tests, test_group_only);
    tcase_add_test(tests, test_content_is_exact);
    tcase_add_test(tests, test_mode_is_private);
    tcase_add_test(tests, test_wrong_owner);
    tcase_add_test(tests, test_only_regular_files);
    tcase_add_test(tests, test_descriptor);
    tcase_add_test(tests, test_origin_of_another_key);
    tcase_add_test(tests, test_generate_never_overwrites);
    tcase_add_test(tests, test_derive_parts_purposes);
    tcase_add_test(tests, test_job_keys);
    tcase_add_test(tests, test_made_keys_travel_as_text);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
