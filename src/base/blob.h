/* blob.h - a block of bytes with a reference count: what a frame's body, and so a chunk on its way, lives in.
 *
 * A blob is filled by one owner, then only read, so it may be held by several links, caches and worker threads at once
 * (the count is atomic). The bytes of large blobs come from a bounded free list where there is one: fresh pages cost
 * more than the copy into them. */
#ifndef TC_BASE_BLOB_H
#define TC_BASE_BLOB_H

#include <stddef.h>
#include <stdint.h>

struct tc_blob {
    size_t size;     /* bytes in use, at most capacity; the filler may lower it */
    size_t capacity; /* bytes there are */
    uint8_t *bytes;
    /* private */
    _Atomic unsigned references;
    struct tc_blob_pool *pool;
    struct tc_blob *next;
};

/* A free list for blobs of one capacity, thread-safe; keeps at most spare blobs when they are not in use. It lives until
 * tc_blob_pool_free and the end of the last blob made from it. NULL when there is no memory. */
struct tc_blob_pool;
struct tc_blob_pool *tc_blob_pool_new(size_t capacity, unsigned spare);
void tc_blob_pool_free(struct tc_blob_pool *pool);

/* One reference, size bytes in use, uninitialised. With a pool, and size at most its capacity, from the pool; pool may be
 * NULL. NULL when there is no memory. */
struct tc_blob *tc_blob_new(struct tc_blob_pool *pool, size_t size);
struct tc_blob *tc_blob_copy(const void *bytes, size_t size);

/* One more reference; returns blob. */
struct tc_blob *tc_blob_ref(struct tc_blob *blob);

/* One reference less; NULL allowed. */
void tc_blob_unref(struct tc_blob *blob);

#endif
