/* listen.h - a listening socket that bounds what outsiders may cost: connections that are not up yet, in all and for
 * each address (of IPv6 each network of 64 bits). When there are too many in all, the address that has most gives way, its
 * oldest first. Those that have shown to be of ours (tc_link_proven) are counted apart from those that have not, by the
 * same limits: a flood does not push out who shares the address it comes from. */
#ifndef TC_NET_LISTEN_H
#define TC_NET_LISTEN_H

#include "net/address.h"
#include "net/link.h"

struct tc_listen;

struct tc_listen_options {
    unsigned pending;             /* links not UP yet, in all; 0: 256 */
    unsigned pending_per_address; /* 0: 64 */
    /* For 2 s nobody could be let in, for want of descriptors or memory; and again after the next 2 s. NULL allowed. */
    void (*deaf)(void *arg, const struct tc_err *why);
};

/* A socket accepted and within limits: the callee takes fd, makes it a link with tc_link_accept and returns that, or
 * NULL (fd is closed then). peer is borrowed for the call. The oldest link goes by tc_link_reset: CLOSED with reason 0.
 * The listener forgets the link when it is up (the callee calls tc_listen_up from its UP event) or closed
 * (tc_listen_gone from CLOSED, when it never came up). */
typedef struct tc_link *tc_listen_call(void *arg, int fd, const char *peer);

/* Listen on "ADDR", "ADDR:PORT", "[V6]:PORT" (default_port where none is written; port 0: the system picks). Numeric
 * addresses, and names, whose look-up blocks. TC_E_USAGE for a malformed one; TC_E_PERMISSION; TC_E_BUSY (address in
 * use; the line says so). */
struct tc_listen *tc_listen_open(struct tc_loop *loop, const char *address, uint16_t default_port,
                                 const struct tc_listen_options *options, tc_listen_call *call, void *arg,
                                 struct tc_err *err);
/* Only the socket, for a process that is still to be started: a descriptor, and where it listens in where. */
int tc_listen_bind(const char *address, uint16_t default_port, char where[TC_ADDRESS_TEXT], struct tc_err *err);
/* The same as tc_listen_open on a socket that listens already, which is taken, also on failure. */
struct tc_listen *tc_listen_adopt(struct tc_loop *loop, int fd, const struct tc_listen_options *options,
                                  tc_listen_call *call, void *arg, struct tc_err *err);
/* The socket that a service manager hands over, as sd_listen_fds(3) has it (LISTEN_PID, LISTEN_FDS; forgotten
 * afterwards): its descriptor, with its address in address; 0 when there is none. TC_E_USAGE: several, or one that is
 * not a listening stream socket. */
int tc_listen_inherited(char address[TC_ADDRESS_TEXT], struct tc_err *err);
const char *tc_listen_address(const struct tc_listen *listen); /* "127.0.0.1:7117" with the real port; borrowed */
void tc_listen_up(struct tc_listen *listen, struct tc_link *link);
void tc_listen_gone(struct tc_listen *listen, struct tc_link *link);
void tc_listen_close(struct tc_listen *listen); /* the links it made live on; NULL allowed */

#endif
