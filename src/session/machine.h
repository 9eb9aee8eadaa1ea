/* machine.h - what both state machines of a session say to the world and hear from it. Pure: no socket, clock or file.
 *
 * A machine is fed events, each with the time (milliseconds on any clock that never goes back), and answers with actions
 * that its owner takes one by one and carries out. Nothing is done inside a machine that could block or fail for
 * reasons of the world. Links are numbers: the machine picks those it dials (below TC_LINK_ACCEPTED), the owner those it
 * accepts (from there up).
 *
 * Ownership: a blob in an action passes to the taker (one reference); a body in an event is borrowed for the call. */
#ifndef TC_SESSION_MACHINE_H
#define TC_SESSION_MACHINE_H

#include "session/limits.h"
#include "session/message.h"

#define TC_LINK_ACCEPTED 0x40000000u

enum tc_event_kind {
    TC_EV_TICK,      /* the time that wake() asked for has come (early is harmless) */
    TC_EV_UP,        /* link: connected, and authenticated where there is a key */
    TC_EV_FRAME,     /* link, type, body */
    TC_EV_DOWN,      /* link, err: gone; no further event of it */
    TC_EV_SERVED,    /* link: one chunk handed to it has left; it takes another. err when the chunk could not be read */
    TC_EV_PREPARED,  /* agent: the offer can be taken (flags: enum tc_prepared), or err */
    TC_EV_ALLOCATED, /* agent: the file is there, or err */
    TC_EV_COMPARED, /* agent: chunk is here already (flags: 1) and in place if there is a file; or it is not (0), or err */
    TC_EV_OPENED,     /* agent: chunk is verified and in place, or err */
    TC_EV_PUBLISHED,  /* agent: done, or err */
    TC_EV_DIGESTED,   /* coordinator: chunk, digest, blocks; or err */
    TC_EV_CHECKED,    /* coordinator: the source is unchanged, or err */
    TC_EV_FLOW,       /* coordinator, before a tick: link, flags is the bytes handed to it that have not arrived yet;
                        arrived, busy */
    TC_EV_BOTTLENECK, /* agent: flags is the enum tc_cause of this host's own limit that it works at now, or none */
    TC_EV_DEAF,       /* agent: for a while nobody could be let in who dialled, err says why */
    TC_EV_ABSENT,     /* coordinator: host will not join, err says why */
    TC_EV_STOP        /* the user ends it: err says why */
};

enum tc_prepared {
    TC_PREPARED_EXISTS = 1,  /* a file of that name is published here */
    TC_PREPARED_COMPARE = 2, /* something is here to compare chunks with: that file, or what a session left */
    TC_PREPARED_LATER = 4,   /* that file may be the one offered: nothing is reserved before TC_ACT_ALLOCATE */
    TC_PREPARED_LOCAL = 8    /* the sender's own file is at hand, on the sender's host; with COMPARE */
};

enum { TC_COMPARE_PLACED = 1 };

struct tc_event {
    enum tc_event_kind kind;
    uint32_t link;
    uint8_t type;
    struct tc_blob *body;
    uint32_t chunk;
    uint32_t flags;
    uint32_t host;
    uint64_t arrived, busy; /* bytes on link ever, and in how many us on the way (0: not known) */
    const struct tc_digest *digest;
    const struct tc_digest *blocks; /* of the chunk, tc_chunk_blocks of them */
    const struct tc_err *err;       /* NULL or reason 0: success */
    const struct tc_destination
        *far; /* coordinator: the link's far end, with UP and the first frame of who dialled; NULL:
                                         not known, as an empty one */
};

enum tc_action_kind {
    TC_ACT_DIAL,     /* link, address; control links: host; data links: id and key */
    TC_ACT_SEND,     /* link, type, body (taken) */
    TC_ACT_SERVE,    /* link, chunk: send it when it is at hand, then TC_EV_SERVED; keep: another child will want it */
    TC_ACT_CLOSE,    /* link, linger: send what is queued for so many ms, close; no TC_EV_DOWN follows */
    TC_ACT_EXPECT,   /* agent: the key of data link id is known now (tc_agent_link_key answers) */
    TC_ACT_PREPARE,  /* agent: look for what is here, reserve the file of the offer (flags: TC_OFFER_*) */
    TC_ACT_ALLOCATE, /* agent: it is not the file that is published here: reserve it now */
    TC_ACT_COMPARE,  /* agent: look for chunk, by its digest, in what is here; put it in place. flags:
                       TC_COMPARE_PLACED: read back what was placed, and nothing else */
    TC_ACT_OPEN,     /* agent: chunk from body (taken: a CHUNK frame's body): decode, compare with digest, place;
                       keep: children will want it soon */
    TC_ACT_PUBLISH,  /* agent: give the file its name; digest is the content's. Without a file (PREPARED_LATER) the
                       published one was compared in full, and stays */
    TC_ACT_DIGEST,   /* coordinator: read and digest chunk (and encode it for its children) */
    TC_ACT_CHECK,    /* coordinator: is the source what it was? */
    TC_ACT_NEWS,     /* coordinator: host has ended, or the plan is made (host TC_NO_RANK) */
    TC_ACT_REPLAN,   /* coordinator: the plan has changed, chunk is the index in tc_coordinator_replans */
    TC_ACT_WARN,     /* err is for the log; it may hold a peer's words */
    TC_ACT_END       /* the session is over: err; the last action */
};

struct tc_action {
    enum tc_action_kind kind;
    uint32_t link;
    uint8_t type;
    struct tc_blob *body;
    uint32_t chunk;
    uint32_t flags;
    uint32_t host;
    uint32_t linger; /* ms */
    bool keep;
    struct tc_digest digest;
    const char *address; /* borrowed until the next event */
    uint8_t id[TC_LINK_ID_SIZE];
    uint8_t key[TC_LINK_KEY_SIZE];
    struct tc_err err;
};

/* A queue of actions; the oldest first. A machine that cannot queue for want of memory is broken: it ends with
 * TC_E_NOMEM, which always fits. */
struct tc_actions {
    struct tc_action *items; /* owned ring */
    size_t capacity, head, count;
    bool failed;
};

/* A zeroed action at the tail to fill in; never NULL: when memory is short the last place is used again, failed is set
 * and what is put there is dropped. */
struct tc_action *tc_actions_add(struct tc_actions *actions, enum tc_action_kind kind);
bool tc_actions_take(struct tc_actions *actions, struct tc_action *out);
void tc_actions_free(struct tc_actions *actions); /* releases what was not taken */

/* Pack and queue one message for link. */
int tc_actions_send(struct tc_actions *actions, uint32_t link, const struct tc_message *message,
                    struct tc_signer *signer, struct tc_err *err);

#endif
