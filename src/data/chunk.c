#include "data/chunk.h"

#include <inttypes.h>
#include <stdlib.h>

#define CHUNKS_MAX (UINT64_C(1) << 31)

static uint64_t divide_up(uint64_t count, uint32_t by)
{
    return count / by + (count % by != 0);
}

int tc_layout_init(struct tc_layout *layout, uint64_t size, uint32_t chunk_size, struct tc_err *err)
{
    bool power_of_two = (chunk_size & (chunk_size - 1)) == 0;
    if (chunk_size < TC_CHUNK_SIZE_MIN || chunk_size > TC_CHUNK_SIZE_MAX || !power_of_two)
        return tc_fail(err, TC_E_USAGE, "chunk size %" PRIu32 ": give a power of two from 64K to 4M", chunk_size);
    uint64_t chunks = divide_up(size, chunk_size);
    if (chunks > CHUNKS_MAX)
        return tc_fail(err, TC_E_LIMIT, "%" PRIu64 " bytes are too many chunks of %" PRIu32 " bytes (limit 2^31)", size,
                       chunk_size);
    uint64_t pages = divide_up(chunks, TC_PAGE_CHUNKS);
    *layout = (struct tc_layout){
        .size = size,
        .chunk_size = chunk_size,
        .chunks = (uint32_t)chunks,
        .pages = pages ? (uint32_t)pages : 1,
    };
    return 0;
}

uint64_t tc_chunk_offset(const struct tc_layout *layout, uint32_t chunk)
{
    return (uint64_t)chunk * layout->chunk_size;
}

uint32_t tc_chunk_length(const struct tc_layout *layout, uint32_t chunk)
{
    uint64_t left = layout->size - tc_chunk_offset(layout, chunk);
    return left < layout->chunk_size ? (uint32_t)left : layout->chunk_size;
}

uint32_t tc_chunk_blocks(const struct tc_layout *layout, uint32_t chunk)
{
    return (uint32_t)divide_up(tc_chunk_length(layout, chunk), TC_BLOCK_SIZE);
}

uint32_t tc_page_first(uint32_t page)
{
    return page * TC_PAGE_CHUNKS;
}

uint32_t tc_page_count(const struct tc_layout *layout, uint32_t page)
{
    if (page >= layout->pages)
        return 0;
    uint32_t left = layout->chunks - tc_page_first(page);
    return left < TC_PAGE_CHUNKS ? left : TC_PAGE_CHUNKS;
}

/* 200 log2(number), number > 0, with a straight line between powers of two: at most 18 too few. */
static uint64_t log2_times_200(uint64_t number)
{
    unsigned whole = 63u - (unsigned)__builtin_clzll(number);
    uint64_t power = UINT64_C(1) << whole;
    return 200u * whole + 200u * (number - power) / power;
}

/* A chunk that stays in a core's cache from the read to the digest and the cipher: 1 MiB costs twice the system time. */
#define CHUNK_SIZE_CACHED (256u << 10)
/* More chunks than this cost more memory (34 bytes each) than larger ones cost time. */
#define CHUNKS_PREFERRED (1u << 18)

uint32_t tc_chunk_size_choose(uint64_t size, unsigned hosts)
{
    uint64_t wanted = log2_times_200((uint64_t)hosts + 1);
    uint32_t chunk_size = CHUNK_SIZE_CACHED;
    while (chunk_size < TC_CHUNK_SIZE_MAX && divide_up(size, chunk_size) > CHUNKS_PREFERRED)
        chunk_size *= 2;
    while (chunk_size > TC_CHUNK_SIZE_MIN && divide_up(size, chunk_size) < wanted)
        chunk_size /= 2;
    return chunk_size;
}

static uint64_t mask_of(uint32_t number)
{
    return UINT64_C(1) << (number % 64);
}

int tc_bits_init(struct tc_bits *bits, uint32_t size, struct tc_err *err)
{
    *bits = (struct tc_bits){0};
    if (size == 0)
        return 0;
    bits->words = calloc(divide_up(size, 64), sizeof *bits->words);
    if (!bits->words)
        return tc_fail(err, TC_E_NOMEM, "no memory for a set of %" PRIu32 " numbers", size);
    bits->size = size;
    return 0;
}

void tc_bits_free(struct tc_bits *bits)
{
    free(bits->words);
    *bits = (struct tc_bits){0};
}

bool tc_bits_has(const struct tc_bits *bits, uint32_t number)
{
    return number < bits->size && (bits->words[number / 64] & mask_of(number));
}

bool tc_bits_add(struct tc_bits *bits, uint32_t number)
{
    if (number >= bits->size || tc_bits_has(bits, number))
        return false;
    bits->words[number / 64] |= mask_of(number);
    bits->count++;
    return true;
}

bool tc_bits_remove(struct tc_bits *bits, uint32_t number)
{
    if (!tc_bits_has(bits, number))
        return false;
    bits->words[number / 64] &= ~mask_of(number);
    bits->count--;
    return true;
}

uint32_t tc_bits_next(const struct tc_bits *bits, uint32_t from)
{
    return tc_bits_next_both(bits, bits, from);
}

uint32_t tc_bits_next_both(const struct tc_bits *a, const struct tc_bits *b, uint32_t from)
{
    if (from >= a->size || a->count == 0 || b->count == 0)
        return TC_BITS_NONE;
    uint32_t words = (uint32_t)divide_up(a->size, 64);
    uint64_t not_before = ~UINT64_C(0) << (from % 64);
    for (uint32_t at = from / 64; at < words; at++) {
        uint64_t both = a->words[at] & b->words[at] & not_before;
        if (both)
            return at * 64 + (uint32_t)__builtin_ctzll(both);
        not_before = ~UINT64_C(0);
    }
    return TC_BITS_NONE;
}

uint64_t tc_bits_page(const struct tc_bits *bits, uint32_t page)
{
    return page < divide_up(bits->size, 64) ? bits->words[page] : 0;
}
