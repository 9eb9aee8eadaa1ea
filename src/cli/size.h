/* size.h - amounts as people write and read them. */
#ifndef TC_CLI_SIZE_H
#define TC_CLI_SIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TC_AMOUNT_TEXT 32 /* bytes that hold any text made here */

/* "4096", "64K", "64KiB", "1.5g", "2 GiB": K M G T P are powers of 1024, with or without "B" or "iB", in any case; "kB"
 * is 1024 too. TC_E_USAGE. */
int tc_size_parse(uint64_t *bytes, const char *text, struct tc_err *err);
/* The same, or "50%" of this host's memory: 1% .. 100%. */
int tc_memory_parse(uint64_t *bytes, const char *text, struct tc_err *err);
/* "90", "1.5", "10s", "5m", "2h", "1d" in seconds. TC_E_USAGE. */
int tc_seconds_parse(double *seconds, const char *text, struct tc_err *err);

/* "0 B", "512 B", "3.1 GiB", "64 KiB": three digits. Returns out. */
char *tc_size_print(char out[TC_AMOUNT_TEXT], uint64_t bytes);
/* The same with "/s". */
char *tc_rate_print(char out[TC_AMOUNT_TEXT], double bytes_per_second);
/* "0.42 s", "12.3 s", "2:05", "1:02:05". */
char *tc_seconds_print(char out[TC_AMOUNT_TEXT], double seconds);

#endif
