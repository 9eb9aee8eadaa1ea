/* source.h - what is sent: a file, or a range of an open descriptor with some bytes put before it (a .npy header before
 * an array in another process's memory, /proc/PID/mem). Opened once, read by offset, watched for changes as far as the
 * file system tells. Reads block; thread-safe. */
#ifndef TC_FILE_SOURCE_H
#define TC_FILE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tc_source;

/* Open a regular file for reading. TC_E_SOURCE (missing, not regular, not readable), TC_E_NOMEM. */
struct tc_source *tc_source_open(const char *path, struct tc_err *err);

#define TC_SOURCE_HEAD_MAX (1u << 20) /* bytes put before a range */

/* Bytes offset .. offset + size - 1 of fd, after all of head_fd (-1: nothing). fd stays the caller's; head_fd is read at
 * once. label names the source in errors. What has no size of its own, as memory has not, is not asked for it.
 * TC_E_SOURCE (not a kind that can be read by offset, range outside of it), TC_E_LIMIT, TC_E_NOMEM. */
struct tc_source_range {
    int fd, head_fd;
    uint64_t offset, size; /* size UINT64_MAX: to the end of the file */
};
struct tc_source *tc_source_open_range(const struct tc_source_range *range, const char *label, struct tc_err *err);

/* The descriptor of a file that is sent from its first byte to its last, borrowed; -1 for any other range: it would show
 * more than is sent. */
int tc_source_fd(const struct tc_source *source);
uint64_t tc_source_size(const struct tc_source *source); /* bytes at opening */

/* Exactly size bytes from offset; a file that has become shorter or cannot be read is TC_E_SOURCE. */
int tc_source_read(struct tc_source *source, uint64_t offset, void *bytes, size_t size, struct tc_err *err);

/* 0 while the opened file is what it was (size, mtime, ctime by fstat), else TC_E_SOURCE "PATH changed while it was
 * read". */
int tc_source_check(struct tc_source *source, struct tc_err *err);

/* The file gets another name and mode meanwhile, by our own hand: from now on ctime is no sign of a change. */
void tc_source_expect_link(struct tc_source *source);

void tc_source_close(struct tc_source *source);

#endif
