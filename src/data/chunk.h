/* chunk.h - which bytes a chunk is: index <-> offset arithmetic, pages of chunks, and bitmaps over them. Pure.
 *
 * A file of size bytes is cut into chunks of chunk_size bytes (the last may be shorter), a chunk into blocks of 64 KiB,
 * and 64 consecutive chunks make a page. An empty file has no chunk and one page. */
#ifndef TC_DATA_CHUNK_H
#define TC_DATA_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TC_BLOCK_SIZE 65536u         /* bytes; the unit of digests */
#define TC_CHUNK_SIZE_MIN 65536u     /* bytes */
#define TC_CHUNK_SIZE_MAX (4u << 20) /* bytes */
#define TC_CHUNK_BLOCKS_MAX (TC_CHUNK_SIZE_MAX / TC_BLOCK_SIZE)
#define TC_PAGE_CHUNKS 64u /* chunks of a full page */

struct tc_layout {
    uint64_t size;       /* bytes of the file */
    uint32_t chunk_size; /* bytes; a power of two from TC_CHUNK_SIZE_MIN to TC_CHUNK_SIZE_MAX */
    uint32_t chunks;     /* ceil(size / chunk_size) */
    uint32_t pages;      /* max(1, ceil(chunks / 64)) */
};

/* Fill layout. TC_E_USAGE for a chunk size that is not allowed, TC_E_LIMIT for more than 2^31 chunks. */
int tc_layout_init(struct tc_layout *layout, uint64_t size, uint32_t chunk_size, struct tc_err *err);

uint64_t tc_chunk_offset(const struct tc_layout *layout, uint32_t chunk); /* bytes from the file's start */
uint32_t tc_chunk_length(const struct tc_layout *layout, uint32_t chunk); /* bytes, > 0; chunk < chunks */
uint32_t tc_chunk_blocks(const struct tc_layout *layout, uint32_t chunk); /* 64 KiB blocks, 1 .. TC_CHUNK_BLOCKS_MAX */
uint32_t tc_page_first(uint32_t page);                                    /* first chunk of page */
uint32_t tc_page_count(const struct tc_layout *layout, uint32_t page);    /* its chunks, 0 .. 64 (0: empty file only) */

/* The chunk size for size bytes to hosts receivers (>= 1): 256 KiB, more only where there would be over 2^18 chunks, less
 * where that is needed for about 200 log2(hosts + 1) chunks, so that a tree's filling and draining are a small part of
 * the whole. */
uint32_t tc_chunk_size_choose(uint64_t size, unsigned hosts);

/* A set of numbers 0 .. size-1. */
struct tc_bits {
    uint64_t *words; /* owned */
    uint32_t size;   /* numbers it can hold */
    uint32_t count;  /* numbers in it */
};

#define TC_BITS_NONE UINT32_MAX

/* An empty set; words NULL is a set of size 0. TC_E_NOMEM. */
int tc_bits_init(struct tc_bits *bits, uint32_t size, struct tc_err *err);
void tc_bits_free(struct tc_bits *bits); /* leaves an empty set of size 0 */
bool tc_bits_has(const struct tc_bits *bits, uint32_t number);
bool tc_bits_add(struct tc_bits *bits, uint32_t number);    /* true when it was not in the set */
bool tc_bits_remove(struct tc_bits *bits, uint32_t number); /* true when it was */
/* The lowest number >= from in the set, in both sets (same size), or TC_BITS_NONE. */
uint32_t tc_bits_next(const struct tc_bits *bits, uint32_t from);
uint32_t tc_bits_next_both(const struct tc_bits *a, const struct tc_bits *b, uint32_t from);
/* The 64 numbers of one page as a word: bit i is number page * 64 + i. */
uint64_t tc_bits_page(const struct tc_bits *bits, uint32_t page);

#endif
