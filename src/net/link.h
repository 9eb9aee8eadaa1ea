/* link.h - one connection that carries frames, plain or TLS: dialled or accepted, connected, frames, drained, closed.
 *
 * A frame is an 8-byte head (32-bit body length, 8-bit type, 24 bits zero) and a body. A body arrives in one blob,
 * read straight into its memory. All calls in the loop thread. The callback may call anything here, also
 * tc_link_close; nothing is freed under it.
 *
 * Events, in this order: UP once (connected and, with TLS, authenticated), then FRAME and DRAINED, then CLOSED once,
 * and never anything after it; the link frees itself after the CLOSED callback. tc_link_close says CLOSED too (later,
 * with reason 0), tc_link_drop does not: after it the callback is never called again. */
#ifndef TC_NET_LINK_H
#define TC_NET_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/err.h"
#include "net/address.h"
#include "net/flow.h"
#include "net/loop.h"
#include "net/tls.h"

#define TC_FRAME_HEAD 8u

struct tc_link;

enum tc_link_kind { TC_LINK_UP, TC_LINK_FRAME, TC_LINK_DRAINED, TC_LINK_CLOSED };

struct tc_link_event {
    enum tc_link_kind kind;
    uint8_t type;             /* FRAME */
    struct tc_blob *body;     /* FRAME: borrowed for the call (tc_blob_ref to keep it) */
    const struct tc_err *why; /* CLOSED: reason 0 for an end that this side asked for; TC_E_CLOSED when the peer closed
                                 or went away (whether within a frame says the line), TC_E_AUTH, TC_E_TIMEOUT,
                                 TC_E_PROTOCOL, TC_E_INTEGRITY ... The line begins with the peer. Borrowed */
};

typedef void tc_link_call(struct tc_link *link, const struct tc_link_event *event, void *arg);

struct tc_link_options {
    tc_link_call *call;
    void *arg;
    /* The longest body of a frame of this type; a longer one, or a type with 0, closes the link (TC_E_PROTOCOL). */
    uint32_t (*limit)(uint8_t type);
    uint32_t most;              /* bytes of any body, whatever limit says; 0: no such bound */
    struct tc_blob_pool *blobs; /* bodies of 32 KiB and more come from here; NULL: from the heap. Borrowed */
    uint32_t low_water;         /* bytes: DRAINED comes when the queue falls to this or below (0: when it is empty),
                                   once for all that was queued since the last one, also if it never rose above */
    uint32_t handshake_ms;      /* whole time to UP, absolute; 0: 3000 */
    uint32_t connect_ms;        /* dial only, until TCP is connected; 0: 5000 */
    unsigned again; /* dial with TLS only: so often a peer is dialled again, within connect_ms, that resets the
                                   connection before the handshake is done: it has too many from outsiders */
    bool tls;
    /* Without TLS: UP only if a process of this one's user has the other end (peer.h), else TC_E_AUTH. accepted: and has it
     * already; else what waits at a socket that this user made counts too. */
    bool same_user, accepted;
    const uint8_t *identity; /* dial: copied */
    size_t identity_size;
    const uint8_t *key;    /* dial: TC_KEY_SIZE bytes, copied */
    tc_tls_lookup *lookup; /* accept; must not call the link */
    void *lookup_arg;
};

/* Connect to "name:port", "1.2.3.4:port" or "[v6]:port"; names are resolved beside the loop (resolver.h), all
 * addresses are tried in turn within connect_ms. Failure comes as CLOSED (TC_E_UNREACHABLE, TC_E_TIMEOUT). NULL
 * only for a malformed address or no memory. */
struct tc_link *tc_link_dial(struct tc_loop *loop, const char *address, const struct tc_link_options *options,
                             struct tc_err *err);
/* Take over a connected socket, always: closed on failure too. */
struct tc_link *tc_link_accept(struct tc_loop *loop, int fd, const struct tc_link_options *options, struct tc_err *err);

/* Queue a frame: head_size bytes (copied, at most 64 KiB) and then payload (one more reference taken, NULL allowed).
 * Allowed before UP. TC_E_NOMEM; TC_E_CLOSED on a link that is ending. */
int tc_link_send(struct tc_link *link, uint8_t type, const void *head, size_t head_size, struct tc_blob *payload,
                 struct tc_err *err);
size_t tc_link_queued(const struct tc_link *link); /* bytes not yet given to the socket */
/* What became of the bytes sent so far; those not yet given to the socket are part of the backlog. */
struct tc_flow tc_link_flow(const struct tc_link *link);

/* Another answer to "how long may a frame be" from the next frame on. */
void tc_link_set_limit(struct tc_link *link, uint32_t (*limit)(uint8_t type));
/* Stop reading (TCP pushes back) and go on; counted calls are not: the last one holds. */
void tc_link_pause(struct tc_link *link, bool paused);
/* The server's lookup may answer now what it did not know before. */
void tc_link_retry(struct tc_link *link);

/* Send what is queued for at most linger_ms, then close; 0, or not up yet: at once. What comes in meanwhile is thrown
 * away; CLOSED comes as soon as the peer has closed too, so that it can still read all. */
void tc_link_close(struct tc_link *link, uint32_t linger_ms);
/* Close at once by a reset, which tells a peer that it may come again (options.again). CLOSED comes as with close. */
void tc_link_reset(struct tc_link *link);
/* Close at once and never call back. NULL allowed. */
void tc_link_drop(struct tc_link *link);

bool tc_link_up(const struct tc_link *link);
/* Whether the peer has shown to be one of ours: that it holds the key, or without TLS by a frame. */
bool tc_link_proven(const struct tc_link *link);
bool tc_link_is_loopback(const struct tc_link *link);
const char *tc_link_peer(const struct tc_link *link);  /* "10.0.0.7:41234" or the address that was dialled; borrowed */
const char *tc_link_local(const struct tc_link *link); /* own address of the connection, "" before it is up */
/* Both ends in numbers, "10.0.0.7:41234", as either side sees them: without the zone of a link-local address. "" where
 * there is none. */
void tc_link_ends(const struct tc_link *link, char own[TC_ADDRESS_TEXT], char far[TC_ADDRESS_TEXT]);
/* What tells this connection from all others, the same at both ends; zero without TLS, or before it is up. */
void tc_link_channel(const struct tc_link *link, uint8_t out[TC_TLS_CHANNEL]);
const uint8_t *tc_link_identity(const struct tc_link *link, size_t *size); /* accepted with TLS: what the peer used */
void tc_link_counts(const struct tc_link *link, uint64_t *received, uint64_t *sent); /* bytes of frames */

#endif
