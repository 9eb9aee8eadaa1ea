/* pending.h - a listening socket and the links that came in by it and have not said yet which session they are of.
 *
 * Who is not known can say one HELLO of at most its length, has seconds for it, and is one of a bounded number. Loop
 * thread only. */
#ifndef TC_NODE_PENDING_H
#define TC_NODE_PENDING_H

#include "net/listen.h"
#include "node/runner.h"

struct tc_pending;

struct tc_pending_options {
    const char *listen; /* "ADDR[:PORT]" */
    int listen_fd;      /* a socket that listens already, taken; 0: none */
    uint16_t port;      /* where listen names none */
    struct tc_listen_options limits;
    uint32_t message_most; /* bytes of one message; 0: what its type allows */
    unsigned seconds;      /* to the first word; 0: 3 */
    uint32_t first_link;   /* number of the first link; they go up from there */
    bool tls;
    tc_tls_lookup *lookup; /* with tls */
    /* The first frame of a link. Returns 0 when the connection was taken over with tc_pending_part; else err is logged and the
     * link closed; with TC_E_LIMIT once what greet has said to it is sent. */
    int (*greet)(void *arg, struct tc_connection *connection, const struct tc_link_event *event, struct tc_err *err);
    void (*deaf)(void *arg, const struct tc_err *why); /* nobody can be let in, see listen.h; NULL allowed */
    void *arg;                                         /* of lookup, greet and deaf */
};

struct tc_pending *tc_pending_open(struct tc_loop *loop, const struct tc_pending_options *options, struct tc_err *err);
const char *tc_pending_address(const struct tc_pending *pending); /* with the real port; borrowed */
/* The connection is identified: its owner adopts it (tc_runner_adopt) at once. With still_pending it counts as one of
 * the connections that are not let in, and is closed when there are too many, until tc_pending_admit. */
void tc_pending_part(struct tc_connection *connection, bool still_pending);
void tc_pending_admit(struct tc_connection *connection); /* no-op for one that does not count */
/* Keys are known now that lookup did not know before. */
void tc_pending_retry(struct tc_pending *pending);
/* Stop listening and drop who is still an outsider. Wires that still count must be gone. NULL allowed. */
void tc_pending_close(struct tc_pending *pending);

#endif
