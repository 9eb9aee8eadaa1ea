/* resolver.h - names looked up beside the loop, by a few threads for all that is dialled.
 *
 * getaddrinfo blocks and cannot be stopped. Up to TC_RESOLVER_THREADS threads, made when there is work and gone when there
 * is none, look names up in the order they were asked for. Where the system gives fewer threads (RLIMIT_NPROC), those that
 * it gives do all of the work; where it gives none, the caller does, and blocks. A name server that does not answer holds
 * these threads and nobody else: a lookup can be given up at any time, and one that a thread is stuck in is shared by all
 * who ask for the same name meanwhile. Thread-safe. */
#ifndef TC_NET_RESOLVER_H
#define TC_NET_RESOLVER_H

#include "net/address.h"

enum { TC_RESOLVER_THREADS = 64 };

struct tc_lookup;

/* Begin to look host up. NULL: no memory or no descriptor. */
struct tc_lookup *tc_lookup_begin(const char *host, uint16_t port, struct tc_err *err);
int tc_lookup_fd(const struct tc_lookup *lookup); /* readable, and left so, once the lookup is done; borrowed */
/* What it found: addresses in *list, borrowed until end; or TC_E_UNREACHABLE. TC_E_BUSY: it is not done yet. */
int tc_lookup_result(const struct tc_lookup *lookup, const struct addrinfo **list, struct tc_err *err);
void tc_lookup_end(struct tc_lookup *lookup); /* at any time; NULL allowed */

#endif
