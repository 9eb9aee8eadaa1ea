/* codec.h - compression of one chunk with zstd, and the choice whether it is worth it. The only module that sees zstd.
 *
 * An encoded chunk is exactly one zstd frame that declares its size; nothing else is decoded: no skippable frame, no
 * second frame, no other size than the expected one, and no window beyond TC_CHUNK_SIZE_MAX. */
#ifndef TC_DATA_CODEC_H
#define TC_DATA_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum tc_compress_mode { TC_COMPRESS_AUTO, TC_COMPRESS_NONE, TC_COMPRESS_ZSTD };

struct tc_compress {
    enum tc_compress_mode mode;
    int level; /* zstd's; TC_COMPRESS_LEVEL where the user gave none */
};

#define TC_COMPRESS_LEVEL 1

/* "auto", "none", "zstd", "zstd:LEVEL" (1..19). TC_E_USAGE. */
int tc_compress_parse(struct tc_compress *out, const char *text, struct tc_err *err);

/* Contexts of one thread. A new one, or NULL and TC_E_NOMEM. */
struct tc_codec;
struct tc_codec *tc_codec_new(struct tc_err *err);
void tc_codec_free(struct tc_codec *codec);

/* Encode size bytes into out (capacity bytes). Returns the encoded size, or 0 when it would not be smaller than
 * capacity: then the chunk travels plain. */
size_t tc_codec_encode(struct tc_codec *codec, int level, const void *bytes, size_t size, void *out, size_t capacity);

/* Decode exactly out_size bytes. TC_E_INTEGRITY for anything that is not one frame of that size. */
int tc_codec_decode(struct tc_codec *codec, const void *bytes, size_t size, void *out, size_t out_size,
                    struct tc_err *err);

/* Whether the next chunk should be tried: always for zstd, never for none; auto stops trying after a run of chunks that
 * did not shrink by an eighth and probes again now and then (each run of failures doubles the pause, up to 1024
 * chunks). One per session, used by one thread; a value, no heap. */
struct tc_compress_choice {
    struct tc_compress compress;
    unsigned failures; /* consecutive probes that were not worth it */
    unsigned skip;     /* chunks to let pass before the next probe */
};
void tc_compress_choice_init(struct tc_compress_choice *choice, struct tc_compress compress);
bool tc_compress_choice_try(struct tc_compress_choice *choice);
void tc_compress_choice_result(struct tc_compress_choice *choice, size_t plain, size_t encoded); /* encoded 0: plain */

#endif
