/* cache.h - the most recent chunks in the form they travel in, so that relays pass on what they hold.
 *
 * Bounded by bytes. Chunks come nearly in order, so a chunk's place is its number modulo the number of places, and a
 * newcomer simply takes the place of the one before it. Loop thread only. */
#ifndef TC_NODE_CACHE_H
#define TC_NODE_CACHE_H

#include "base/blob.h"
#include "base/err.h"

struct tc_cache;

/* At most budget bytes of chunks of at most chunk_size bytes, at least four chunks. NULL and TC_E_NOMEM. */
struct tc_cache *tc_cache_new(uint64_t budget, uint32_t chunk_size, struct tc_err *err);
void tc_cache_put(struct tc_cache *cache, uint32_t chunk, struct tc_blob *frame); /* takes one more reference */
struct tc_blob *tc_cache_get(const struct tc_cache *cache, uint32_t chunk);       /* borrowed; NULL: not here */
void tc_cache_drop(struct tc_cache *cache, uint32_t chunk); /* nobody wants it any more; may be absent */
void tc_cache_free(struct tc_cache *cache);

#endif
