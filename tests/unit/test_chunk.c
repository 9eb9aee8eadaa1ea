#include "data/chunk.h"

#include "unit.h"

#define K UINT64_C(1024)
#define M (K * K)
#define G (K * M)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

START_TEST(layout_of_known_sizes)
{
    static const struct {
        uint64_t size;
        uint32_t chunk_size;
        uint32_t chunks;
        uint32_t pages;
        uint32_t last_length; /* of the last chunk, when there is one */
        uint32_t last_count;  /* of the last page */
    } rows[] = {
        {0, 64 * K, 0, 1, 0, 0},
        {1, 64 * K, 1, 1, 1, 1},
        {64 * K - 1, 64 * K, 1, 1, 64 * K - 1, 1},
        {64 * K, 64 * K, 1, 1, 64 * K, 1},
        {64 * K + 1, 64 * K, 2, 1, 1, 2},
        {64 * 64 * K, 64 * K, 64, 1, 64 * K, 64},
        {64 * 64 * K + 1, 64 * K, 65, 2, 1, 1},
        {5 * G, 64 * K, 81920, 1280, 64 * K, 64},
        {5 * G, 4 * M, 1280, 20, 4 * M, 64},
        {5 * G + 1, 4 * M, 1281, 21, 1, 1},
        {(UINT64_C(1) << 31) * 64 * K, 64 * K, UINT32_C(1) << 31, UINT32_C(1) << 25, 64 * K, 64},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct tc_layout layout;
        ck_assert_int_eq(tc_layout_init(&layout, rows[i].size, rows[i].chunk_size, NULL), 0);
        ck_assert_uint_eq(layout.chunks, rows[i].chunks);
        ck_assert_uint_eq(layout.pages, rows[i].pages);
        ck_assert_uint_eq(tc_page_count(&layout, layout.pages - 1), rows[i].last_count);
        ck_assert_uint_eq(tc_page_count(&layout, layout.pages), 0);
        if (layout.chunks == 0)
            continue;
        uint32_t last = layout.chunks - 1;
        ck_assert_uint_eq(tc_chunk_length(&layout, last), rows[i].last_length);
        ck_assert_uint_eq(tc_chunk_offset(&layout, last) + tc_chunk_length(&layout, last), rows[i].size);
    }
}
END_TEST

START_TEST(chunks_and_pages_cover_the_file_once)
{
    static const uint64_t sizes[] = {1, 64 * K - 1, 64 * K + 1, 9 * M + 70000, 64 * 256 * K, 64 * 256 * K + 1};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct tc_layout layout;
        uint64_t at = 0;
        uint64_t blocks = 0;
        uint32_t chunk = 0;
        ck_assert_int_eq(tc_layout_init(&layout, sizes[i], 256 * K, NULL), 0);
        for (uint32_t page = 0; page < layout.pages; page++) {
            ck_assert_uint_eq(tc_page_first(page), chunk);
            for (uint32_t left = tc_page_count(&layout, page); left > 0; left--, chunk++) {
                ck_assert_uint_eq(tc_chunk_offset(&layout, chunk), at);
                at += tc_chunk_length(&layout, chunk);
                blocks += tc_chunk_blocks(&layout, chunk);
            }
        }
        ck_assert_uint_eq(chunk, layout.chunks);
        ck_assert_uint_eq(at, sizes[i]);
        ck_assert_uint_eq(blocks, (sizes[i] + TC_BLOCK_SIZE - 1) / TC_BLOCK_SIZE);
    }
}
END_TEST

START_TEST(layout_limits)
{
    static const uint32_t refused[] = {0, 1, 32 * K, 64 * K - 1, 64 * K + 1, 96 * K, 8 * M, UINT32_C(1) << 31};
    struct tc_layout layout;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct tc_err err = {0};
        ck_assert_int_eq(tc_layout_init(&layout, M, refused[i], &err), -TC_E_USAGE);
        ck_assert_int_eq(err.reason, TC_E_USAGE);
    }
    for (uint32_t chunk_size = TC_CHUNK_SIZE_MIN; chunk_size <= TC_CHUNK_SIZE_MAX; chunk_size *= 2) {
        uint64_t most = (UINT64_C(1) << 31) * chunk_size;
        ck_assert_int_eq(tc_layout_init(&layout, most, chunk_size, NULL), 0);
        ck_assert_int_eq(tc_layout_init(&layout, most + 1, chunk_size, NULL), -TC_E_LIMIT);
        ck_assert_int_eq(tc_layout_init(&layout, UINT64_MAX, chunk_size, NULL), -TC_E_LIMIT);
    }
}
END_TEST

START_TEST(chunk_size_table)
{
    static const struct {
        uint64_t size;
        unsigned hosts;
        uint32_t chunk_size;
    } rows[] = {
        {0, 1, 64 * K},           {1, 1, 64 * K},           {64 * M, 31, 64 * K},    /* 1024 chunks, wants 1000 */
        {64 * M, 63, 64 * K},     {128 * M, 31, 128 * K},   {G, 1, 256 * K},         /* no larger than a core's cache */
        {50 * M, 1, 256 * K},     {49 * M, 1, 128 * K},     {G, 3, 256 * K},         /* 200 chunks, 196 */
        {G, 100, 256 * K},        {G, UINT32_MAX, 128 * K}, {64 * G, 1000, 256 * K}, /* 2^18 chunks */
        {64 * G + 1, 1, 512 * K}, {512 * G, 1, 2 * M},      {UINT64_MAX, 500, 4 * M}, /* never above the limit */
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_msg(tc_chunk_size_choose(rows[i].size, rows[i].hosts) == rows[i].chunk_size, "row %zu: %u", i,
                      tc_chunk_size_choose(rows[i].size, rows[i].hosts));
}
END_TEST

START_TEST(chunk_size_is_always_allowed)
{
    for (uint64_t size = 1; size < UINT64_C(1) << 50; size = size * 3 + 1)
        for (unsigned hosts = 1; hosts < 5000; hosts = hosts * 2 + 1) {
            struct tc_layout layout;
            uint32_t chosen = tc_chunk_size_choose(size, hosts);
            ck_assert_int_eq(tc_layout_init(&layout, size, chosen, NULL), 0);
            ck_assert_uint_ge(chosen, tc_chunk_size_choose(size, 2 * hosts)); /* more hosts never want larger chunks */
        }
}
END_TEST

START_TEST(set_counts_and_keeps)
{
    struct tc_bits bits;
    ck_assert_int_eq(tc_bits_init(&bits, 200, NULL), 0);
    ck_assert(tc_bits_add(&bits, 0));
    ck_assert(tc_bits_add(&bits, 63));
    ck_assert(tc_bits_add(&bits, 64));
    ck_assert(tc_bits_add(&bits, 199));
    ck_assert(!tc_bits_add(&bits, 64));
    ck_assert_uint_eq(bits.count, 4);
    ck_assert(tc_bits_has(&bits, 63) && !tc_bits_has(&bits, 62) && !tc_bits_has(&bits, 65));
    ck_assert(tc_bits_remove(&bits, 64));
    ck_assert(!tc_bits_remove(&bits, 64));
    ck_assert_uint_eq(bits.count, 3);
    tc_bits_free(&bits);
    ck_assert_uint_eq(bits.size, 0);
    ck_assert_ptr_null(bits.words);
}
END_TEST

START_TEST(set_ignores_numbers_it_cannot_hold)
{
    struct tc_bits bits;
    struct tc_bits empty;
    ck_assert_int_eq(tc_bits_init(&bits, 65, NULL), 0);
    ck_assert_int_eq(tc_bits_init(&empty, 0, NULL), 0);
    ck_assert(!tc_bits_add(&bits, 65) && !tc_bits_add(&bits, 127) && !tc_bits_add(&bits, TC_BITS_NONE));
    ck_assert(!tc_bits_has(&bits, 65) && !tc_bits_remove(&bits, TC_BITS_NONE));
    ck_assert_uint_eq(bits.count, 0);
    ck_assert_uint_eq(tc_bits_page(&bits, 2), 0);
    ck_assert_ptr_null(empty.words);
    ck_assert(!tc_bits_add(&empty, 0) && !tc_bits_has(&empty, 0));
    ck_assert_uint_eq(tc_bits_next(&empty, 0), TC_BITS_NONE);
    ck_assert_uint_eq(tc_bits_page(&empty, 0), 0);
    tc_bits_free(&bits);
    tc_bits_free(&empty);
}
END_TEST

/* Every answer of next, next_both and page against the plain search number by number. */
START_TEST(search_agrees_with_plain_search)
{
    static const uint32_t sizes[] = {1, 63, 64, 65, 128, 1000};
    uint32_t seed = 1;
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (uint32_t sparse = 1; sparse <= 256; sparse *= 16) {
            struct tc_bits a;
            struct tc_bits b;
            ck_assert(!tc_bits_init(&a, sizes[i], NULL) && !tc_bits_init(&b, sizes[i], NULL));
            for (uint32_t n = 0; n < sizes[i]; n++) {
                seed = seed * 1664525u + 1013904223u;
                if ((seed >> 16) % sparse == 0)
                    tc_bits_add(&a, n);
                if ((seed >> 8) % sparse == 0)
                    tc_bits_add(&b, n);
            }
            uint32_t next = TC_BITS_NONE;
            uint32_t next_both = TC_BITS_NONE;
            for (uint32_t n = sizes[i]; n-- > 0;) {
                next = tc_bits_has(&a, n) ? n : next;
                next_both = tc_bits_has(&a, n) && tc_bits_has(&b, n) ? n : next_both;
                ck_assert_uint_eq(tc_bits_next(&a, n), next);
                ck_assert_uint_eq(tc_bits_next_both(&a, &b, n), next_both);
                ck_assert_uint_eq(tc_bits_page(&a, n / 64) >> (n % 64) & 1, tc_bits_has(&a, n));
            }
            ck_assert_uint_eq(tc_bits_next(&a, sizes[i]), TC_BITS_NONE);
            ck_assert_uint_eq(tc_bits_next_both(&a, &b, TC_BITS_NONE), TC_BITS_NONE);
            tc_bits_free(&a);
            tc_bits_free(&b);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chunk");
    TCase *tests = tcase_create("chunk");
    tcase_add_test(tests, layout_of_known_sizes);
    tcase_add_test(tests, chunks_and_pages_cover_the_file_once);
    tcase_add_test(tests, layout_limits);
    tcase_add_test(tests, chunk_size_table);
    tcase_add_test(tests, chunk_size_is_always_allowed);
    tcase_add_test(tests, set_counts_and_keeps);
    tcase_add_test(tests, set_ignores_numbers_it_cannot_hold);
    tcase_add_test(tests, search_agrees_with_plain_search);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
