/* file_help.h - what the tests of the file module share: a directory of their own, and arrays to publish in it. */
#ifndef TC_TESTS_FILE_HELP_H
#define TC_TESTS_FILE_HELP_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/sink.h"
#include "unit.h"

/* Made before the tests and removed after them by the process that forks them, so also when one fails. */
static char base[64];

static inline void base_setup(void)
{
    strcpy(base, "/tmp/treecast-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    ck_assert_int_eq(chmod(base, 0755), 0);
}

static inline int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

static inline void base_teardown(void)
{
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* base/WHAT.XXXXXX, made. */
static inline char *fresh(char path[128], const char *what)
{
    snprintf(path, 128, "%s/%s.XXXXXX", base, what);
    ck_assert_ptr_nonnull(mkdtemp(path));
    return path;
}

static inline struct tc_folder *fresh_folder(void)
{
    char path[128];
    struct tc_err err = {0};
    struct tc_folder *folder = tc_folder_open(fresh(path, "dir"), &err);
    ck_assert_msg(folder != NULL, "%s", err.text);
    ck_assert_int_eq(fchmod(tc_folder_fd(folder), 0755), 0); /* mkdtemp made it 0700 */
    return folder;
}

static inline void put_file(int at, const char *name, const char *text)
{
    int fd = openat(at, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* Entries of a directory without . and .. */
static inline unsigned entries(int at)
{
    unsigned count = 0;
    DIR *dir = fdopendir(openat(at, ".", O_RDONLY | O_DIRECTORY));
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 2;
}

/* Bytes that tell their version. */
static inline uint8_t *pattern(size_t size, unsigned version)
{
    uint8_t *bytes = malloc(size + 1);
    for (size_t i = 0; bytes && i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251 + version * 31);
    return bytes;
}

/* Of plain bytes; the version is its time of creation. */
static inline struct tc_description describe(const char *name, const uint8_t *bytes, size_t size, unsigned version)
{
    struct tc_description description = {.size = size, .created = version};
    struct tc_digest blocks[TC_CHUNK_BLOCKS_MAX], whole;
    struct tc_content *content = tc_content_new(NULL);
    snprintf(description.name, sizeof description.name, "%s", name);
    for (size_t at = 0, part; at < size; at += part) {
        part = size - at < TC_CHUNK_SIZE_MAX ? size - at : TC_CHUNK_SIZE_MAX;
        if (tc_digest_chunk(bytes + at, part, blocks, &whole, NULL) ||
            tc_content_add(content, blocks, (part + TC_BLOCK_SIZE - 1) / TC_BLOCK_SIZE, NULL))
            abort();
    }
    if (tc_content_end(content, &description.digest, NULL))
        abort();
    tc_content_free(content);
    return description;
}

/* A whole session of plain bytes: reserve, place, publish. No assertion inside: children call it too. */
static inline int publish(struct tc_folder *folder, const char *name, size_t size, unsigned version, bool force,
                          struct tc_err *err)
{
    uint8_t session[TC_SESSION_ID_SIZE] = {0};
    memcpy(session, &version, sizeof version);
    struct tc_sink_options options = {.mode = 0444, .group = (gid_t)-1, .force = force};
    struct tc_sink *sink = tc_sink_new(folder, name, session, size, &options, err);
    if (!sink)
        return err ? -err->reason : -TC_E_FAILED;
    uint8_t *bytes = pattern(size, version);
    struct tc_description description = describe(name, bytes, size, version);
    int rc = tc_sink_place(sink, 0, bytes, size, err);
    if (rc == 0)
        rc = tc_sink_publish(sink, &description, err);
    free(bytes);
    tc_sink_free(sink);
    return rc;
}

static inline TCase *add_file_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 120);
    tcase_add_unchecked_fixture(tcase, base_setup, base_teardown);
    suite_add_tcase(suite, tcase);
    return tcase;
}

#endif
