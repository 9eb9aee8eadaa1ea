#include "data/codec.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "data/chunk.h"

#define LEVEL_MAX 19u

#define FAILURES_ALLOWED 4u /* chunks in a row that may fail before the first pause */
#define PAUSE_MIN 8u        /* chunks */
#define PAUSE_MAX 1024u     /* chunks */

/* 1 .. LEVEL_MAX written in decimal and nothing else; 0 for anything else. */
static int parse_level(const char *text)
{
    unsigned level = 0;
    for (; *text >= '0' && *text <= '9' && level <= LEVEL_MAX; text++)
        level = level * 10 + (unsigned)(*text - '0');
    return *text == '\0' && level <= LEVEL_MAX ? (int)level : 0;
}

int tc_compress_parse(struct tc_compress *out, const char *text, struct tc_err *err)
{
    struct tc_compress parsed = {.mode = TC_COMPRESS_ZSTD, .level = TC_COMPRESS_LEVEL};
    if (strcmp(text, "auto") == 0)
        parsed.mode = TC_COMPRESS_AUTO;
    else if (strcmp(text, "none") == 0)
        parsed.mode = TC_COMPRESS_NONE;
    else if (strncmp(text, "zstd:", 5) == 0)
        parsed.level = parse_level(text + 5);
    else if (strcmp(text, "zstd") != 0)
        parsed.level = 0;
    if (parsed.level == 0)
        return tc_fail(err, TC_E_USAGE, "compression '%.40s': give auto, none, zstd or zstd:LEVEL (1 to %u)", text,
                       LEVEL_MAX);
    *out = parsed;
    return 0;
}

struct tc_codec {
    ZSTD_CCtx *encoder;
    ZSTD_DCtx *decoder;
};

struct tc_codec *tc_codec_new(struct tc_err *err)
{
    struct tc_codec *codec = calloc(1, sizeof *codec);
    if (codec && (codec->encoder = ZSTD_createCCtx()) && (codec->decoder = ZSTD_createDCtx()))
        return codec;
    tc_codec_free(codec);
    tc_fail(err, TC_E_NOMEM, "no memory for a codec");
    return NULL;
}

void tc_codec_free(struct tc_codec *codec)
{
    if (!codec)
        return;
    ZSTD_freeCCtx(codec->encoder);
    ZSTD_freeDCtx(codec->decoder);
    free(codec);
}

/* ZSTD_compress2 knows the whole size, so the frame declares it and the window is no larger than the chunk. */
size_t tc_codec_encode(struct tc_codec *codec, int level, const void *bytes, size_t size, void *out, size_t capacity)
{
    if (capacity == 0 || size > TC_CHUNK_SIZE_MAX)
        return 0;
    if (ZSTD_isError(ZSTD_CCtx_setParameter(codec->encoder, ZSTD_c_compressionLevel, level)))
        return 0;
    size_t encoded = ZSTD_compress2(codec->encoder, out, capacity - 1, bytes, size);
    return ZSTD_isError(encoded) ? 0 : encoded;
}

/* The window in bytes that a frame's head declares (RFC 8878, 3.1.1.1), 0 when this is not a frame's head. Read here
 * because decoding in one step needs no window, so libzstd sets it no limit. */
static uint64_t frame_window(const uint8_t *bytes, size_t size, size_t content_size)
{
    static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd}; /* skippable and old frames have others */
    if (size < sizeof magic + 2 || memcmp(bytes, magic, sizeof magic) != 0)
        return 0;
    bool single_segment = bytes[4] & 0x20;
    if (single_segment)
        return content_size;
    unsigned exponent = bytes[5] >> 3;
    uint64_t mantissa = bytes[5] & 7u;
    return (8 + mantissa) << (7 + exponent);
}

int tc_codec_decode(struct tc_codec *codec, const void *bytes, size_t size, void *out, size_t out_size,
                    struct tc_err *err)
{
    uint64_t window = frame_window(bytes, size, out_size);
    if (window == 0)
        return tc_fail(err, TC_E_INTEGRITY, "encoded chunk of %zu bytes is not a zstd frame", size);
    if (window > TC_CHUNK_SIZE_MAX)
        return tc_fail(err, TC_E_INTEGRITY, "encoded chunk has a window of %" PRIu64 " bytes", window);
    if (ZSTD_getFrameContentSize(bytes, size) != out_size)
        return tc_fail(err, TC_E_INTEGRITY, "encoded chunk does not declare the %zu bytes it must have", out_size);
    if (ZSTD_findFrameCompressedSize(bytes, size) != size)
        return tc_fail(err, TC_E_INTEGRITY, "encoded chunk of %zu bytes is not exactly one zstd frame", size);
    size_t decoded = ZSTD_decompressDCtx(codec->decoder, out, out_size, bytes, size);
    if (ZSTD_isError(decoded))
        return tc_fail(err, TC_E_INTEGRITY, "encoded chunk is damaged: %s", ZSTD_getErrorName(decoded));
    if (decoded != out_size)
        return tc_fail(err, TC_E_INTEGRITY, "encoded chunk holds %zu bytes instead of %zu", decoded, out_size);
    return 0;
}

void tc_compress_choice_init(struct tc_compress_choice *choice, struct tc_compress compress)
{
    *choice = (struct tc_compress_choice){.compress = compress};
}

bool tc_compress_choice_try(struct tc_compress_choice *choice)
{
    if (choice->compress.mode != TC_COMPRESS_AUTO)
        return choice->compress.mode == TC_COMPRESS_ZSTD;
    if (choice->skip == 0)
        return true;
    choice->skip--;
    return false;
}

void tc_compress_choice_result(struct tc_compress_choice *choice, size_t plain, size_t encoded)
{
    if (encoded != 0 && encoded <= plain - plain / 8) {
        choice->failures = 0;
        choice->skip = 0;
        return;
    }
    if (choice->skip > 0)
        return; /* the late result of a try from before this pause says nothing new */
    choice->failures++;
    if (choice->failures < FAILURES_ALLOWED)
        return;
    unsigned pause = PAUSE_MIN;
    for (unsigned i = FAILURES_ALLOWED; i < choice->failures && pause < PAUSE_MAX; i++)
        pause *= 2;
    choice->skip = pause;
}
