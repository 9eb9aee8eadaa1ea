/* flow.h - what the kernel knows of a TCP connection's sending side. */
#ifndef TC_NET_FLOW_H
#define TC_NET_FLOW_H

#include <stddef.h>
#include <stdint.h>

struct tc_flow {
    size_t backlog;   /* bytes that the peer's host has not acknowledged yet */
    uint64_t arrived; /* bytes that it has */
    uint64_t busy;    /* us for which there were bytes on the way; 0: this system does not tell */
    uint32_t waits;   /* ms since it acknowledged anything, while some bytes are on the way; else 0 */
};

/* All 0 for what is no TCP connection. */
struct tc_flow tc_flow_of(int fd);

#endif
