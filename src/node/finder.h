/* finder.h - on which of several ports each host's agent listens, where its hosts have not had the same ones free.
 *
 * A host's ports are dialled one after the other, the next one as soon as one has failed or has said nothing for a moment; the
 * first whose other side proves to have the key is it. Without a key (loopback) it is the first that is this user's. Whoever else
 * sits on such a port can delay that by the moment, and learns nothing. */
#ifndef TC_NODE_FINDER_H
#define TC_NODE_FINDER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/key.h"

#define TC_PORTS_MOST 32

struct tc_finder_options {
    const char *const *addresses; /* "HOST:PORT", whatever the port; NULL: one that is not looked for */
    size_t count;
    const uint16_t *ports; /* in the order of trying; at most TC_PORTS_MOST */
    size_t port_count;
    const struct tc_key *key; /* NULL: none */
};

/* found[i]: the port of the agent at address i, 0 where none of them answered. Blocks for some seconds at most where hosts are silent. Negative
 * only where nothing could be tried at all. */
int tc_find_ports(const struct tc_finder_options *options, uint16_t *found, struct tc_err *err);

#endif
