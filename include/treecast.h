/* treecast.h - attach arrays that treecast brought to this host.
 *
 * An array is published by this host's agent (`treecast recv`) as a read-only file; every process that attaches it maps
 * the same physical copy. Thread-safe: handles may be used from any thread, one handle by one thread at a time except
 * for the accessors, which only read. Functions return 0 or a negative tc_status; nothing is printed. Timeouts are
 * seconds; negative waits for ever. dir NULL means $TREECAST_DIR, else /dev/shm/treecast-UID. */
#ifndef TREECAST_H
#define TREECAST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Status numbers; the text of the last error of this thread is in tc_array_error(). */
enum tc_status {
    TC_STATUS_OK = 0,
    TC_STATUS_FAILED = -1,
    TC_STATUS_USAGE = -2,     /* a name or argument that is not allowed */
    TC_STATUS_INTEGRITY = -5, /* the file is not what its description says */
    TC_STATUS_RESOURCE = -6,  /* memory, permission, limit */
    TC_STATUS_TIMEOUT = -7,
    TC_STATUS_NOTFOUND = -11
};

/* An attached array. */
typedef struct tc_array_handle tc_array_handle;

/* Block until NAME is published in dir (or its session failed, or timeout passed). */
int tc_array_wait(const char *name, const char *dir, double timeout);

/* Wait, map read-only, and set *handle (to be given to tc_array_detach). On failure *handle is NULL. */
int tc_array_attach(const char *name, const char *dir, double timeout, tc_array_handle **handle);

/* The first element (past any header), the bytes from there to the end, the whole file's path: borrowed until detach. */
const void *tc_array_data(const tc_array_handle *handle);
size_t tc_array_size(const tc_array_handle *handle);
const char *tc_array_path(const tc_array_handle *handle);

/* numpy's dtype ("<f8"; JSON for a structured one), or NULL for plain bytes. */
const char *tc_array_dtype(const tc_array_handle *handle);
size_t tc_array_item_size(const tc_array_handle *handle); /* bytes of one element; 1 for plain bytes */
unsigned tc_array_ndim(const tc_array_handle *handle);    /* 0 for plain bytes and scalars */
uint64_t tc_array_extent(const tc_array_handle *handle, unsigned dimension); /* 0 beyond ndim */
char tc_array_order(const tc_array_handle *handle);                          /* 'C' or 'F' */

/* Whether NAME is published now: 1, 0, or a negative status. */
int tc_array_published(const char *name, const char *dir);

/* How far NAME is: a tc_array_state, or a negative status. *bytes of *size are here and verified (0 of 0 when it is
 * absent); either may be NULL. A name that is published and on its way again in a new version counts as published. */
enum tc_array_state {
    TC_ARRAY_ABSENT = 0,   /* neither here nor on its way; it may still come */
    TC_ARRAY_COMING = 1,   /* this host's agent receives it */
    TC_ARRAY_PUBLISHED = 2 /* can be attached */
};
int tc_array_status(const char *name, const char *dir, uint64_t *bytes, uint64_t *size);

/* Unmap and free. NULL allowed. */
void tc_array_detach(tc_array_handle *handle);

/* What went wrong last in this thread; never NULL; borrowed until the next call in this thread. */
const char *tc_array_error(void);

#ifdef __cplusplus
}
#endif

#endif
