#include "base/blob.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct tc_blob_pool {
    pthread_mutex_t lock;
    struct tc_blob *free;
    size_t capacity;
    unsigned spare; /* most blobs kept */
    unsigned kept;
    unsigned lent;
    bool closed; /* freed by its owner; goes with the last blob */
};

struct tc_blob_pool *tc_blob_pool_new(size_t capacity, unsigned spare)
{
    struct tc_blob_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return NULL;
    }
    pool->capacity = capacity;
    pool->spare = spare;
    return pool;
}

static void destroy_pool(struct tc_blob_pool *pool)
{
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void tc_blob_pool_free(struct tc_blob_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    struct tc_blob *blob = pool->free;
    pool->free = NULL;
    pool->closed = true;
    bool last = pool->lent == 0;
    pthread_mutex_unlock(&pool->lock);
    while (blob) {
        struct tc_blob *next = blob->next;
        free(blob->bytes);
        free(blob);
        blob = next;
    }
    if (last)
        destroy_pool(pool);
}

static struct tc_blob *make(size_t capacity)
{
    struct tc_blob *blob = calloc(1, sizeof *blob);
    if (!blob)
        return NULL;
    blob->bytes = malloc(capacity ? capacity : 1);
    if (!blob->bytes) {
        free(blob);
        return NULL;
    }
    blob->capacity = capacity;
    return blob;
}

static struct tc_blob *borrow(struct tc_blob_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct tc_blob *blob = pool->free;
    if (blob) {
        pool->free = blob->next;
        pool->kept--;
    }
    pool->lent++;
    pthread_mutex_unlock(&pool->lock);
    if (blob)
        return blob;
    blob = make(pool->capacity);
    if (!blob) {
        pthread_mutex_lock(&pool->lock);
        pool->lent--;
        pthread_mutex_unlock(&pool->lock);
        return NULL;
    }
    blob->pool = pool;
    return blob;
}

static void give_back(struct tc_blob *blob)
{
    struct tc_blob_pool *pool = blob->pool;
    pthread_mutex_lock(&pool->lock);
    pool->lent--;
    bool keep = !pool->closed && pool->kept < pool->spare;
    if (keep) {
        blob->next = pool->free;
        pool->free = blob;
        pool->kept++;
    }
    bool last = pool->closed && pool->lent == 0;
    pthread_mutex_unlock(&pool->lock);
    if (!keep) {
        free(blob->bytes);
        free(blob);
    }
    if (last)
        destroy_pool(pool);
}

struct tc_blob *tc_blob_new(struct tc_blob_pool *pool, size_t size)
{
    struct tc_blob *blob = pool && size <= pool->capacity ? borrow(pool) : make(size);
    if (!blob)
        return NULL;
    blob->size = size;
    atomic_store(&blob->references, 1);
    return blob;
}

struct tc_blob *tc_blob_copy(const void *bytes, size_t size)
{
    struct tc_blob *blob = tc_blob_new(NULL, size);
    if (blob && size)
        memcpy(blob->bytes, bytes, size);
    return blob;
}

struct tc_blob *tc_blob_ref(struct tc_blob *blob)
{
    atomic_fetch_add_explicit(&blob->references, 1, memory_order_relaxed);
    return blob;
}

void tc_blob_unref(struct tc_blob *blob)
{
    if (!blob || atomic_fetch_sub_explicit(&blob->references, 1, memory_order_acq_rel) != 1)
        return;
    if (blob->pool) {
        give_back(blob);
        return;
    }
    free(blob->bytes);
    free(blob);
}
