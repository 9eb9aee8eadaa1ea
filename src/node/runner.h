/* runner.h - what both kinds of node do alike: feed one session's machine and carry out the actions that are not their
 * own: dial, send, serve, close.
 *
 * A runner belongs to one session. Links have numbers (see session/machine.h); one that was accepted and has not said yet
 * which session it is of belongs to no runner. Loop thread only, except where a task runs in the pool. */
#ifndef TC_NODE_RUNNER_H
#define TC_NODE_RUNNER_H

#include "base/bucket.h"
#include "net/link.h"
#include "node/cache.h"
#include "node/pool.h"
#include "session/machine.h"

/* PSK identities: control links have one for each way they are dialled, so that neither end can be taken for the other;
 * data links name session and link. */
#define TC_CONTROL_IDENTITY "treecast control"
#define TC_JOIN_IDENTITY "treecast join"
#define TC_DATA_IDENTITY_SIZE (1u + TC_SESSION_ID_SIZE + TC_LINK_ID_SIZE)
void tc_data_identity(uint8_t out[TC_DATA_IDENTITY_SIZE], const uint8_t *session, const uint8_t *id);

struct tc_runner;

/* One connection; freed by its CLOSED event. */
struct tc_connection {
    struct tc_link *link;
    uint32_t number;
    struct tc_runner *runner;           /* NULL: its session is not known yet, pending is called */
    struct tc_connection *next, **prev; /* in the runner's list */
    uint32_t handed[8];                 /* chunks given to the link and not yet reported as served */
    unsigned handed_count;
    bool closing; /* the machine has asked for its end and hears no more of it */
    void (*pending)(struct tc_connection *connection, const struct tc_link_event *event);
    void *owner; /* for pending */
    /* Its link is gone, or about to be; of a connection that whoever let it in still counts. NULL: nobody does. */
    void (*lost)(struct tc_connection *connection);
    struct tc_timer *timer; /* for pending; freed with the connection */
};
void tc_connection_call(struct tc_link *link, const struct tc_link_event *event,
                        void *arg); /* a link's callback; arg: connection */

struct tc_runner_options {
    struct tc_loop *loop;
    struct tc_pool *pool;
    struct tc_blob_pool *blobs; /* for bodies; owned by the caller, outlives the runner */
    bool tls;
    uint8_t control_key[TC_KEY_SIZE];
    struct tc_bucket *bucket; /* chunks leave no faster; shared by the runners of a node. NULL: no limit. Borrowed */
    /* The machine. */
    void *machine;
    void (*event)(void *machine, const struct tc_event *event, uint64_t now);
    bool (*take)(void *machine, struct tc_action *action);
    uint64_t (*wake)(const void *machine);
    /* The actions that are the node's own. */
    void (*act)(void *node, struct tc_action *action);
    /* Read plain bytes of the file at hand, in a worker: source or sink. */
    int (*read)(void *node, uint64_t offset, void *bytes, size_t size, struct tc_err *err);
    /* One of its links, or a read for one, is gone for good, and every word about it was said. NULL allowed. */
    void (*gone)(void *node);
    void *node;
};

#define TC_RUNNER_AGAIN 5u               /* times to dial a peer that may be crowded: 0.6 s of pauses in all */
#define TC_RUNNER_LOW_WATER (128u << 10) /* bytes: a link with less than this left to send takes its next chunks */

/* A chunk that may not leave yet. */
struct tc_held {
    uint32_t link, chunk;
    bool keep;
};

struct tc_runner {
    struct tc_runner_options options;
    struct tc_timer *pace; /* for held, with a limit only */
    struct tc_held *held;  /* a ring, in the order they were to be served */
    unsigned held_first, held_count, held_capacity;
    struct tc_timer *timer;
    uint64_t armed; /* the time that timer is set to; UINT64_MAX: not set */
    uint64_t late;  /* ms that it came late, in all: the loop did not get to it */
    struct tc_connection *connections;
    unsigned connection_count;
    unsigned tasks; /* in the pool: the session's memory must stay */
    bool draining;
    struct tc_layout layout; /* set with tc_runner_file */
    uint8_t session[TC_SESSION_ID_SIZE];
    struct tc_cache *cache;
    struct tc_compress_choice choice;        /* for chunks that are read again */
    uint64_t chunk_bytes_sent, encoded_sent; /* payload bytes that left, and of these in compressed form */
};

int tc_runner_init(struct tc_runner *runner, const struct tc_runner_options *options, struct tc_err *err);
/* The session's file is known: what SERVE reads, and a cache for it. */
int tc_runner_file(struct tc_runner *runner, const struct tc_layout *layout, const uint8_t session[TC_SESSION_ID_SIZE],
                   uint64_t cache_budget, struct tc_compress compress, struct tc_err *err);
/* Give an event to the machine and carry out what it answers. */
void tc_runner_event(struct tc_runner *runner, const struct tc_event *event);
/* Carry out what the machine has queued (after it was made). */
void tc_runner_drain(struct tc_runner *runner);
/* Make an accepted link one of this session's. */
void tc_runner_adopt(struct tc_runner *runner, struct tc_connection *connection);
/* Both ends of a control link, as OFFER and PLAN name the agent's. */
void tc_connection_ends(const struct tc_connection *connection, struct tc_destination *own, struct tc_destination *far);
/* Put a task of this session into the pool; its done() says runner->tasks-- first. */
void tc_runner_add(struct tc_runner *runner, struct tc_task *task);
/* A plain CHUNK frame in compressed form, in a worker: a new blob in exchange for plain's reference, or plain itself where
 * compression saves less than an eighth. */
struct tc_blob *tc_frame_encode(struct tc_worker *worker, struct tc_blob_pool *blobs, struct tc_blob *plain,
                                uint32_t chunk, int level);
/* Stop or go on reading from one link (flow control). */
void tc_runner_pause(struct tc_runner *runner, uint32_t link, bool paused);
/* Drop every link, free timer and cache. No task may be left. */
void tc_runner_end(struct tc_runner *runner);

/* Once, before threads start: as many descriptors as the system allows, an allocator that keeps what is used again. */
void tc_prepare_process(void);

#endif
