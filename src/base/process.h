/* process.h - another process of this host, told apart from a later one that was given its number. */
#ifndef TC_BASE_PROCESS_H
#define TC_BASE_PROCESS_H

#include <stdint.h>

/* When process pid began, in the kernel's clock ticks since boot (field 22 of /proc/PID/stat). 0, or -1 when there is
 * none, or none that still runs. */
int tc_process_start(uint32_t pid, uint64_t *start);

enum { TC_PROCESS_TEXT = 128 };

/* "process 4711 (treecast, stopped)" for messages; "another process" for pid 0. */
void tc_process_text(uint32_t pid, char out[TC_PROCESS_TEXT]);

/* A descriptor that becomes readable when the process pid that began at start has ended: the caller's to close. -1 when
 * it has ended already; -2 where its end cannot be told: before Linux 5.3, of a thread, without a
 * descriptor left. */
int tc_process_watch(uint32_t pid, uint64_t start);

#endif
