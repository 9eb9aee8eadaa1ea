/* lease.h - how long an array stays: for a time, until its owner's process has ended, whichever comes first.
 *
 * A time is held by the clock that counts from the start of the system (CLOCK_BOOTTIME), which all processes of a host
 * share, which goes on while it sleeps, and which nobody can set: a clock that jumps ends no lease and lengthens none.
 * What outlives the system, on a disk, goes by the time of day again once the system has been started anew. */
#ifndef TC_DATA_LEASE_H
#define TC_DATA_LEASE_H

#include <stdbool.h>
#include <stdint.h>

enum { TC_BOOT_ID_SIZE = 16 };

struct tc_lease {
    uint64_t expires;              /* seconds since 1970, as it looked when the lease was given; 0: no time is set */
    uint64_t ends;                 /* the same in milliseconds since the start of the system; 0: not known */
    uint8_t boot[TC_BOOT_ID_SIZE]; /* that start's id: ends means nothing after another */
    uint32_t pid;                  /* 0: no owner */
    uint64_t start; /* when that process began, in the kernel's clock ticks since boot: numbers are used again */
};

uint64_t tc_lease_clock(void); /* milliseconds since the start of the system */
/* Let it last for seconds from now; its owner stays as it is. */
void tc_lease_begin(struct tc_lease *lease, double seconds);
/* Milliseconds until its time has come, 0 when it has; UINT64_MAX where none is set. */
uint64_t tc_lease_left(const struct tc_lease *lease);
/* When that is by the time of day as it is now, in seconds since 1970; 0 where none is set. */
uint64_t tc_lease_expires(const struct tc_lease *lease);

#endif
