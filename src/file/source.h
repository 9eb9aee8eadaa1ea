/* source.h - the file that is sent: opened once, read by offset, watched for changes. Reads block; thread-safe. */
#ifndef TC_FILE_SOURCE_H
#define TC_FILE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tc_source;

/* Open a regular file for reading. TC_E_SOURCE (missing, not regular, not readable), TC_E_NOMEM. */
struct tc_source *tc_source_open(const char *path, struct tc_err *err);
uint64_t tc_source_size(const struct tc_source *source); /* bytes at opening */

/* Exactly size bytes from offset; a file that has become shorter or cannot be read is TC_E_SOURCE. */
int tc_source_read(struct tc_source *source, uint64_t offset, void *bytes, size_t size, struct tc_err *err);

/* 0 while the opened file is what it was (size, mtime, ctime by fstat), else TC_E_SOURCE "PATH changed while it was
 * read". */
int tc_source_check(struct tc_source *source, struct tc_err *err);

void tc_source_close(struct tc_source *source);

#endif
