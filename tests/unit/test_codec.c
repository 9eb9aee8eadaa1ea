#include "data/codec.h"

#include <string.h>

#include "data/chunk.h"
#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BLOCK_MAX (128u << 10) /* bytes that one block of a zstd frame may hold */

/* Bytes that compress well (runs and repeats), or not at all. */
static uint8_t *make_bytes(size_t size, bool random)
{
    uint8_t *bytes = malloc(size ? size : 1);
    ck_assert_ptr_nonnull(bytes);
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = random ? (uint8_t)(state >> 24) : (uint8_t)(i / 100);
    }
    return bytes;
}

static struct tc_codec *make_codec(void)
{
    struct tc_codec *codec = tc_codec_new(NULL);
    ck_assert_ptr_nonnull(codec);
    return codec;
}

/* The reason with which decoding into exactly out_size bytes fails, 0 when it does not. The block of memory is exactly
 * as large, so that a sanitizer sees a byte written beyond it. */
static int decode(const void *bytes, size_t size, size_t out_size)
{
    struct tc_codec *codec = make_codec();
    struct tc_err err = {0};
    uint8_t *out = malloc(out_size ? out_size : 1);
    ck_assert_ptr_nonnull(out);
    int result = tc_codec_decode(codec, bytes, size, out, out_size, &err);
    ck_assert_int_eq(result, -err.reason);
    free(out);
    tc_codec_free(codec);
    return err.reason;
}

/* A frame written by hand (RFC 8878): magic, descriptor, what follows it (window, dictionary id, content size), then
 * blocks of zeros of block_size bytes, 4 bytes each however many zeros they stand for. Returns its size. */
static size_t zeros_frame(uint8_t *out, uint8_t descriptor, const uint8_t *head, size_t head_size, size_t blocks,
                          uint32_t block_size)
{
    size_t at = 5 + head_size;
    memcpy(out, (const uint8_t[]){0x28, 0xb5, 0x2f, 0xfd, descriptor}, 5);
    memcpy(out + 5, head, head_size);
    for (size_t i = 0; i < blocks; i++, at += 4) {
        uint32_t header = block_size << 3 | 1u << 1 | (i + 1 == blocks);
        memcpy(out + at, (const uint8_t[]){(uint8_t)header, (uint8_t)(header >> 8), (uint8_t)(header >> 16), 0}, 4);
    }
    return at;
}

/* One segment, so no window; 4 bytes declare the content. */
static size_t single_segment(uint8_t *out, uint32_t declared, size_t blocks, uint32_t block_size)
{
    const uint8_t head[4] = {(uint8_t)declared, (uint8_t)(declared >> 8), (uint8_t)(declared >> 16),
                             (uint8_t)(declared >> 24)};
    return zeros_frame(out, 0xa0, head, sizeof head, blocks, block_size);
}

START_TEST(round_trips)
{
    static const size_t sizes[] = {1, 9, 1000, 65535, 65536, 65537, 1u << 20, TC_CHUNK_SIZE_MAX};
    static const int levels[] = {1, 3, 6, 1};
    struct tc_codec *codec = make_codec(); /* one for all: contexts carry nothing from chunk to chunk */
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t l = 0; l < COUNT(levels); l++) {
            size_t capacity = sizes[i] + 100;
            uint8_t *bytes = make_bytes(sizes[i], false);
            uint8_t *encoded = malloc(capacity);
            uint8_t *decoded = malloc(sizes[i]);
            ck_assert(encoded && decoded);
            size_t size = tc_codec_encode(codec, levels[l], bytes, sizes[i], encoded, capacity);
            ck_assert_uint_gt(size, 0);
            ck_assert_uint_lt(size, capacity);
            ck_assert_int_eq(tc_codec_decode(codec, encoded, size, decoded, sizes[i], NULL), 0);
            ck_assert_mem_eq(bytes, decoded, sizes[i]);
            free(bytes);
            free(encoded);
            free(decoded);
        }
    tc_codec_free(codec);
    tc_codec_free(NULL);
}
END_TEST

START_TEST(highest_level_round_trips)
{
    struct tc_codec *codec = make_codec();
    uint8_t *bytes = make_bytes(200000, false);
    uint8_t *encoded = malloc(200000);
    ck_assert_ptr_nonnull(encoded);
    size_t size = tc_codec_encode(codec, 19, bytes, 200000, encoded, 200000);
    ck_assert_uint_gt(size, 0);
    ck_assert_int_eq(decode(encoded, size, 200000), 0);
    free(encoded);
    free(bytes);
    tc_codec_free(codec);
}
END_TEST

START_TEST(encodes_only_into_less_than_capacity)
{
    struct tc_codec *codec = make_codec();
    uint8_t *plain = make_bytes(65536, false);
    uint8_t *random = make_bytes(65536, true);
    uint8_t *out = malloc(65536);
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(tc_codec_encode(codec, 1, random, 65536, out, 65536), 0);
    size_t size = tc_codec_encode(codec, 1, plain, 65536, out, 65536);
    ck_assert_uint_gt(size, 0);
    for (size_t capacity = 0; capacity <= size; capacity++)
        ck_assert_uint_eq(tc_codec_encode(codec, 1, plain, 65536, out, capacity), 0);
    size_t stored =
        tc_codec_encode(codec, 1, random, 1000, out, 65536); /* not compressed: needs no memory to work in */
    ck_assert_uint_gt(stored, 1000);
    ck_assert_uint_eq(tc_codec_encode(codec, 1, random, 1000, out, stored), 0);
    ck_assert_uint_eq(tc_codec_encode(codec, 1, plain, 65536, out, 65536), size); /* a failure leaves no trace */
    ck_assert_uint_eq(tc_codec_encode(codec, 1, plain, TC_CHUNK_SIZE_MAX + 1, out, 65536), 0);
    ck_assert_uint_eq(out[4] & 0x07, 0); /* neither checksum nor dictionary */
    free(plain);
    free(random);
    free(out);
    tc_codec_free(codec);
}
END_TEST

START_TEST(frames_by_hand_decode)
{
    uint8_t frame[256];
    ck_assert_int_eq(decode(frame, single_segment(frame, 1, 1, 1), 1), 0);
    ck_assert_int_eq(decode(frame, single_segment(frame, 3 * BLOCK_MAX, 3, BLOCK_MAX), 3 * BLOCK_MAX), 0);
    ck_assert_int_eq(decode(frame, single_segment(frame, TC_CHUNK_SIZE_MAX, 32, BLOCK_MAX), TC_CHUNK_SIZE_MAX), 0);
}
END_TEST

START_TEST(bombs_are_refused)
{
    static uint8_t frame[4096];
    /* 64 MiB of zeros in 2 KiB: declared honestly, declared as the size that is expected, and not declared. */
    size_t size = single_segment(frame, 64u << 20, 512, BLOCK_MAX);
    ck_assert_uint_le(size, 2100);
    ck_assert_int_eq(decode(frame, size, TC_CHUNK_SIZE_MAX), TC_E_INTEGRITY);
    size = single_segment(frame, TC_CHUNK_SIZE_MAX, 512, BLOCK_MAX);
    ck_assert_int_eq(decode(frame, size, TC_CHUNK_SIZE_MAX), TC_E_INTEGRITY);
    size = zeros_frame(frame, 0, (const uint8_t[]){0x60}, 1, 512, BLOCK_MAX);
    ck_assert_int_eq(decode(frame, size, TC_CHUNK_SIZE_MAX), TC_E_INTEGRITY);
    size = zeros_frame(frame, 0, (const uint8_t[]){0x60}, 1, 1, BLOCK_MAX);
    ck_assert_int_eq(decode(frame, size, BLOCK_MAX), TC_E_INTEGRITY);
    size = single_segment(frame, BLOCK_MAX, 1, BLOCK_MAX + 1); /* more in a block than a block may hold */
    ck_assert_int_eq(decode(frame, size, BLOCK_MAX), TC_E_INTEGRITY);
}
END_TEST

START_TEST(wrong_sizes_are_refused)
{
    uint8_t frame[64];
    size_t size = single_segment(frame, 1000, 1, 1000);
    ck_assert_int_eq(decode(frame, size, 1000), 0);
    ck_assert_int_eq(decode(frame, size, 999), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(frame, size, 1001), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(frame, size, 0), TC_E_INTEGRITY);
    size = single_segment(frame, 1000, 1, 999); /* holds less than it declares */
    ck_assert_int_eq(decode(frame, size, 1000), TC_E_INTEGRITY);
    size = single_segment(frame, 1000, 1, 1001); /* and more */
    ck_assert_int_eq(decode(frame, size, 1000), TC_E_INTEGRITY);
}
END_TEST

START_TEST(only_one_frame_is_accepted)
{
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
    uint8_t bytes[128];
    size_t size = single_segment(bytes, 1000, 1, 1000);
    memcpy(bytes + size, bytes, size); /* two, either of the declared size */
    ck_assert_int_eq(decode(bytes, 2 * size, 1000), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(bytes, 2 * size, 2000), TC_E_INTEGRITY);
    memset(bytes + size, 0, 1);
    ck_assert_int_eq(decode(bytes, size + 1, 1000), TC_E_INTEGRITY);
    memcpy(bytes + size, skippable, sizeof skippable); /* one and a skippable frame behind it */
    ck_assert_int_eq(decode(bytes, size + sizeof skippable, 1000), TC_E_INTEGRITY);
    memcpy(bytes, skippable, sizeof skippable); /* before it, and alone */
    size = single_segment(bytes + sizeof skippable, 1000, 1, 1000) + sizeof skippable;
    ck_assert_int_eq(decode(bytes, size, 1000), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(bytes, sizeof skippable, 0), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(bytes, sizeof skippable, 4), TC_E_INTEGRITY);
}
END_TEST

START_TEST(window_limit_holds)
{
    /* Descriptor 0x80: a window byte (exponent << 3 | mantissa over 2^10), then 4 bytes of content size. */
    const uint8_t four_mib[] = {12 << 3, 0xe8, 3, 0, 0};
    const uint8_t beyond[] = {12 << 3 | 1, 0xe8, 3, 0, 0};
    const uint8_t eight_mib[] = {13 << 3, 0xe8, 3, 0, 0};
    const uint8_t largest[] = {0xff, 0xe8, 3, 0, 0};
    uint8_t frame[64];
    ck_assert_int_eq(decode(frame, zeros_frame(frame, 0x80, four_mib, 5, 1, 1000), 1000), 0);
    ck_assert_int_eq(decode(frame, zeros_frame(frame, 0x80, beyond, 5, 1, 1000), 1000), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(frame, zeros_frame(frame, 0x80, eight_mib, 5, 1, 1000), 1000), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(frame, zeros_frame(frame, 0x80, largest, 5, 1, 1000), 1000), TC_E_INTEGRITY);
}
END_TEST

START_TEST(other_kinds_of_frame_are_refused)
{
    const uint8_t dictionary[] = {7, 0xe8, 3, 0, 0}; /* one byte of dictionary id, then the content size */
    const uint8_t plain[] = {0xe8, 3, 0, 0};
    uint8_t frame[64] = {0};
    ck_assert_int_eq(decode(frame, 0, 0), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(frame, sizeof frame, 64), TC_E_INTEGRITY);
    ck_assert_int_eq(decode(frame, zeros_frame(frame, 0xa1, dictionary, 5, 1, 1000), 1000), TC_E_INTEGRITY);
    /* A reserved bit is set. */
    ck_assert_int_eq(decode(frame, zeros_frame(frame, 0xa8, plain, 4, 1, 1000), 1000), TC_E_INTEGRITY);
    size_t size = single_segment(frame, 1000, 1, 1000);
    for (unsigned version = 0x22; version <= 0x27; version++) { /* zstd before 0.8 */
        frame[0] = (uint8_t)version;
        ck_assert_int_eq(decode(frame, size, 1000), TC_E_INTEGRITY);
    }
}
END_TEST

START_TEST(truncated_at_every_length_is_refused)
{
    struct tc_codec *codec = make_codec();
    uint8_t *bytes = make_bytes(20000, false);
    uint8_t *encoded = malloc(20000);
    ck_assert_ptr_nonnull(encoded);
    size_t size = tc_codec_encode(codec, 1, bytes, 20000, encoded, 20000);
    ck_assert_uint_gt(size, 20);
    for (size_t shorter = 0; shorter < size; shorter++) {
        uint8_t *exact = malloc(shorter ? shorter : 1);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, encoded, shorter);
        ck_assert_int_eq(decode(exact, shorter, 20000), TC_E_INTEGRITY);
        free(exact);
    }
    ck_assert_int_eq(decode(encoded, size, 20000), 0);
    free(encoded);
    free(bytes);
    tc_codec_free(codec);
}
END_TEST

/* Without a checksum an altered frame may decode to other bytes (the chunk's digest catches that), but only to as many,
 * and the codec serves the next chunk as if nothing had been. */
START_TEST(altered_bytes_do_no_harm)
{
    struct tc_codec *codec = make_codec();
    uint8_t *bytes = make_bytes(20000, false);
    uint8_t *encoded = malloc(20000);
    uint8_t *decoded = malloc(20000);
    ck_assert(encoded && decoded);
    size_t size = tc_codec_encode(codec, 1, bytes, 20000, encoded, 20000);
    for (size_t i = 0; i < size; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            encoded[i] ^= (uint8_t)(1u << bit);
            int result = tc_codec_decode(codec, encoded, size, decoded, 20000, NULL);
            ck_assert(result == 0 || result == -TC_E_INTEGRITY);
            encoded[i] ^= (uint8_t)(1u << bit);
        }
    ck_assert_int_eq(tc_codec_decode(codec, encoded, size, decoded, 20000, NULL), 0);
    ck_assert_mem_eq(bytes, decoded, 20000);
    free(bytes);
    free(encoded);
    free(decoded);
    tc_codec_free(codec);
}
END_TEST

START_TEST(parses_modes)
{
    static const struct {
        const char *text;
        enum tc_compress_mode mode;
        int level;
    } good[] = {{"auto", TC_COMPRESS_AUTO, TC_COMPRESS_LEVEL},
                {"none", TC_COMPRESS_NONE, TC_COMPRESS_LEVEL},
                {"zstd", TC_COMPRESS_ZSTD, TC_COMPRESS_LEVEL},
                {"zstd:1", TC_COMPRESS_ZSTD, 1},
                {"zstd:19", TC_COMPRESS_ZSTD, 19}};
    static const char *const bad[] = {"",
                                      "Auto",
                                      "auto:1",
                                      "none ",
                                      "zstd:",
                                      "zstd:0",
                                      "zstd:20",
                                      "zstd:-1",
                                      "zstd:1x",
                                      "zstd: 1",
                                      "zstd:99999999999999999999",
                                      "zstd:4294967297",
                                      "zstdx",
                                      "gzip"};
    for (size_t i = 0; i < COUNT(good); i++) {
        struct tc_compress compress;
        ck_assert_int_eq(tc_compress_parse(&compress, good[i].text, NULL), 0);
        ck_assert_int_eq(compress.mode, good[i].mode);
        ck_assert_int_eq(compress.level, good[i].level);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct tc_compress compress;
        struct tc_err err = {0};
        ck_assert_int_eq(tc_compress_parse(&compress, bad[i], &err), -TC_E_USAGE);
        ck_assert_ptr_nonnull(strstr(err.text, "auto, none, zstd"));
    }
}
END_TEST

/* How many of count chunks are tried when each encodes to the given part of 1000 bytes. */
static unsigned tries(struct tc_compress_choice *choice, unsigned count, size_t encoded)
{
    unsigned tried = 0;
    for (unsigned i = 0; i < count; i++)
        if (tc_compress_choice_try(choice)) {
            tried++;
            tc_compress_choice_result(choice, 1000, encoded);
        }
    return tried;
}

static struct tc_compress_choice make_choice(enum tc_compress_mode mode)
{
    struct tc_compress_choice choice;
    tc_compress_choice_init(&choice, (struct tc_compress){.mode = mode, .level = 1});
    return choice;
}

START_TEST(zstd_always_tries_and_none_never)
{
    struct tc_compress_choice always = make_choice(TC_COMPRESS_ZSTD);
    struct tc_compress_choice never = make_choice(TC_COMPRESS_NONE);
    ck_assert_uint_eq(tries(&always, 10000, 0), 10000);
    ck_assert_uint_eq(tries(&never, 10000, 1), 0);
}
END_TEST

START_TEST(auto_asks_for_an_eighth)
{
    struct tc_compress_choice worth = make_choice(TC_COMPRESS_AUTO);
    struct tc_compress_choice not_worth = make_choice(TC_COMPRESS_AUTO);
    ck_assert_uint_eq(tries(&worth, 10000, 875), 10000);
    ck_assert_uint_lt(tries(&not_worth, 10000, 876), 50);
}
END_TEST

START_TEST(auto_stops_on_random_data_and_finds_compressible_data_again)
{
    struct tc_compress_choice choice = make_choice(TC_COMPRESS_AUTO);
    ck_assert_uint_eq(tries(&choice, 3, 0), 3);
    ck_assert_uint_le(tries(&choice, 100000, 0), 120); /* about one in 1024 in the long run */
    unsigned passed = 0;
    while (!tc_compress_choice_try(&choice))
        ck_assert_uint_le(++passed, 1024);
    tc_compress_choice_result(&choice, 1000, 500);
    ck_assert_uint_eq(tries(&choice, 1000, 500), 1000);
    ck_assert_uint_eq(tries(&choice, 2, 0), 2); /* a few bad chunks change nothing */
    ck_assert_uint_eq(tries(&choice, 100, 500), 100);
}
END_TEST

START_TEST(pauses_double_up_to_1024)
{
    struct tc_compress_choice choice = make_choice(TC_COMPRESS_AUTO);
    unsigned before = 0;
    for (int probe = 0; probe < 40; probe++) {
        unsigned pause = 0;
        for (; !tc_compress_choice_try(&choice); pause++)
            ck_assert_uint_lt(pause, 1024);
        ck_assert(before == 0 || pause == (before < 1024 ? 2 * before : 1024));
        before = pause;
        tc_compress_choice_result(&choice, 1000, 0);
    }
    ck_assert_uint_eq(before, 1024);
}
END_TEST

/* Worker threads hand back several results at once: failures of one burst make one pause, not a series. */
START_TEST(late_results_do_not_lengthen_a_pause)
{
    struct tc_compress_choice choice = make_choice(TC_COMPRESS_AUTO);
    for (int i = 0; i < 64; i++)
        ck_assert(tc_compress_choice_try(&choice));
    for (int i = 0; i < 64; i++)
        tc_compress_choice_result(&choice, 1000, 0);
    unsigned passed = 0;
    while (!tc_compress_choice_try(&choice))
        ck_assert_uint_le(++passed, 16);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec");
    TCase *tests = tcase_create("codec");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, round_trips);
    tcase_add_test(tests, highest_level_round_trips);
    tcase_add_test(tests, encodes_only_into_less_than_capacity);
    tcase_add_test(tests, frames_by_hand_decode);
    tcase_add_test(tests, bombs_are_refused);
    tcase_add_test(tests, wrong_sizes_are_refused);
    tcase_add_test(tests, only_one_frame_is_accepted);
    tcase_add_test(tests, window_limit_holds);
    tcase_add_test(tests, other_kinds_of_frame_are_refused);
    tcase_add_test(tests, truncated_at_every_length_is_refused);
    tcase_add_test(tests, altered_bytes_do_no_harm);
    tcase_add_test(tests, parses_modes);
    tcase_add_test(tests, zstd_always_tries_and_none_never);
    tcase_add_test(tests, auto_asks_for_an_eighth);
    tcase_add_test(tests, auto_stops_on_random_data_and_finds_compressible_data_again);
    tcase_add_test(tests, pauses_double_up_to_1024);
    tcase_add_test(tests, late_results_do_not_lengthen_a_pause);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
