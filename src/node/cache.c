#include "node/cache.h"

#include <stdlib.h>

struct place {
    uint32_t chunk;
    struct tc_blob *frame; /* NULL: empty */
};

struct tc_cache {
    uint32_t count;
    struct place places[];
};

struct tc_cache *tc_cache_new(uint64_t budget, uint32_t chunk_size, struct tc_err *err)
{
    uint64_t count = budget / chunk_size;
    if (count < 4)
        count = 4;
    struct tc_cache *cache = calloc(1, sizeof *cache + count * sizeof cache->places[0]);
    if (!cache) {
        tc_fail(err, TC_E_NOMEM, "no memory for a cache of %llu chunks", (unsigned long long)count);
        return NULL;
    }
    cache->count = (uint32_t)count;
    return cache;
}

void tc_cache_put(struct tc_cache *cache, uint32_t chunk, struct tc_blob *frame)
{
    struct place *place = &cache->places[chunk % cache->count];
    tc_blob_unref(place->frame);
    place->chunk = chunk;
    place->frame = tc_blob_ref(frame);
}

struct tc_blob *tc_cache_get(const struct tc_cache *cache, uint32_t chunk)
{
    const struct place *place = &cache->places[chunk % cache->count];
    return place->frame && place->chunk == chunk ? place->frame : NULL;
}

void tc_cache_drop(struct tc_cache *cache, uint32_t chunk)
{
    struct place *place = &cache->places[chunk % cache->count];
    if (!place->frame || place->chunk != chunk)
        return;
    tc_blob_unref(place->frame);
    place->frame = NULL;
}

void tc_cache_free(struct tc_cache *cache)
{
    if (!cache)
        return;
    for (uint32_t i = 0; i < cache->count; i++)
        tc_blob_unref(cache->places[i].frame);
    free(cache);
}
