/* peer.h - which user a connection's other end belongs to, as the kernel knows it.
 *
 * A Unix socket's is told by SO_PEERCRED. TCP has no such thing, but where both ends are on this host the other end is a
 * socket of this kernel too: it is looked up by its addresses (sock_diag(7), else /proc/net/tcp) and belongs to the user
 * who made it or accepted it. Never blocks. For one thread of a process. */
#ifndef TC_NET_PEER_H
#define TC_NET_PEER_H

#include <sys/types.h>

#include "base/err.h"

/* 1: *uid is whose it is. 0: no process has it: it waits to be accepted, was closed, or is not of this host and network
 * namespace. TC_E_POLICY: this system does not tell; TC_E_AUTH: no such connection. */
int tc_peer_user(int fd, uid_t *uid, struct tc_err *err);

/* Of a dialled connection that is nobody's yet: 1, and *uid is who made the socket that listens there, so that whoever accepts
 * it has that socket from this user. 0: nobody listens, or this system does not tell. */
int tc_peer_listener(int fd, uid_t *uid);

/* Open now the descriptor that look-ups need, so that they work when there is none left. 0, or -1 and errno: then they may
 * still work. */
int tc_peer_prepare(void);

#endif
