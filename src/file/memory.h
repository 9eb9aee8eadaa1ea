/* memory.h - what the memory cgroups of this process still allow.
 *
 * Pages of a file on tmpfs count against the memory cgroup of whoever fills it, as in the cgroup of a batch job, and the
 * kernel kills where they come to its limit. Version 1 and 2, the cgroup and all above it. Private to this module. */
#ifndef TC_FILE_MEMORY_H
#define TC_FILE_MEMORY_H

#include <stdint.h>

struct tc_memory;

/* The cgroups this process is in now. root goes before every path: "" but in tests. NULL where none can be found. */
struct tc_memory *tc_memory_open(const char *root);

/* Bytes that may still be taken, as far as enough: what can be reclaimed is looked for only when there is less than that
 * without it. UINT64_MAX without a limit, and for NULL. Reads files each time: limits may change. Thread-safe. */
uint64_t tc_memory_space(const struct tc_memory *memory, uint64_t enough);
void tc_memory_close(struct tc_memory *memory); /* NULL allowed */

#endif
