/* fuzz.h - what a fuzz target is: a function that takes any bytes, and ends the process if a promise is broken.
 *
 * The same functions run in two programs: under libFuzzer with new bytes (fuzz_main.c, tests/fuzz/fuzz.py), and with the
 * bytes of tests/fuzz/corpus in any build (replay.c, in make check). A target leaves nothing behind: no memory, no
 * file, no state that the next call could see. */
#ifndef TC_TESTS_FUZZ_H
#define TC_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define TARGET(name, longest) void fuzz_##name(const uint8_t *bytes, size_t size);
#include "targets.def"
#undef TARGET

/* Holds in every build, NDEBUG or not. */
#define MUST(holds)                                                             \
    do {                                                                        \
        if (!(holds)) {                                                         \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #holds); \
            abort();                                                            \
        }                                                                       \
    } while (0)

/* The bytes as a file that is gone when its descriptor is closed. */
int fuzz_file(const uint8_t *bytes, size_t size);

/* A cursor for targets that read a script: the next byte, number, or run of bytes; zeros when there is no more. */
struct script {
    const uint8_t *bytes;
    size_t size, at;
};
uint8_t script_byte(struct script *script);
uint32_t script_number(struct script *script);                  /* one byte below 0xf0, else four more bytes */
const uint8_t *script_run(struct script *script, size_t *size); /* *size: at most; what there was */

#endif
