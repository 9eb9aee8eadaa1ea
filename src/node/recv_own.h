/* recv_own.h - what the files of a host's agent share. Private to them.
 *
 * recv_node.c     the node: opened, run, stopped and closed
 * recv_links.c    links that came in, or the one that it dials to join; which session each is of
 * recv_session.c  a session: its machine, from the control link to the end of the last task
 * recv_tasks.c    what a session does in the pool: its file, and the chunks in it
 * recv_api.c     what workers and `treecast status` are told
 * recv_listing.c  what they are told of everything at once */
#ifndef TC_NODE_RECV_OWN_H
#define TC_NODE_RECV_OWN_H

#include <jansson.h>

#include "api/server.h"
#include "file/lease.h"
#include "file/sink.h"
#include "node/leases.h"
#include "node/recv_node.h"
#include "node/runner.h"
#include "node/bottleneck.h"
#include "node/pending.h"
#include "session/agent.h"

#define TC_RECV_PACE 16u /* chunks */

struct tc_recv_listing;
struct tc_recv_job; /* a task of a session in the pool */
struct tc_recv_node;

struct tc_recv_session {
    struct tc_recv_node *node;
    struct tc_recv_session *next;
    struct tc_agent *machine;
    const struct tc_job *offer; /* the machine's, from PREPARE on; does not change, so workers may read it */
    struct tc_runner runner;
    struct tc_connection *control; /* until an offer is taken: it counts as a pending connection. NULL: it does not */
    struct tc_blob_pool *blobs;    /* CHUNK frames of this session's chunk size */
    struct tc_sink *sink;
    int source;                        /* the sender's file, where it is on this host; -1 */
    bool source_hangs;                 /* or may: its file system is a server's */
    unsigned opening;                  /* chunks between link and place */
    unsigned backlog;                  /* most of them before links pause */
    uint64_t arrived_at[TC_RECV_PACE]; /* ms; of the last chunks, a ring */
    unsigned arrivals;
    bool paused;
    struct tc_bottleneck bottleneck;
    bool in_memory;                /* the file is on tmpfs: placing never blocks */
    bool over;                     /* the machine has ended */
    bool joined;                   /* this side dialled the coordinator */
    bool has_file;                 /* or may have, while it is being prepared */
    bool published;                /* its file has its name: what is left of the session is nobody's concern */
    struct tc_recv_job *preparing; /* waits until an earlier session has let go of its file */
    enum { TC_RECV_STAYS, TC_RECV_MAY_GO, TC_RECV_GOES } exit;
    struct tc_err why;
    char peer[TC_ADDRESS_MAX];
    char address[TC_ADDRESS_MAX];
};

struct tc_recv_node {
    struct tc_recv_options options;
    struct tc_loop *loop;
    struct tc_pool *pool;
    struct tc_pool *hanging; /* one worker, for all sources that may hang; NULL: there was none yet */
    struct tc_pool *aside;   /* for what local users ask for: no data waits behind it */
    struct tc_pool *locks;   /* the same, where the folder's lock may have to be waited for */
    struct tc_worker here;   /* the loop thread's own, for chunks that are opened on the spot */
    struct tc_folder *folder;
    struct tc_pending *pending;    /* NULL: not listening yet, or closing */
    struct tc_connection *joining; /* to the coordinator, before it is up */
    struct tc_api *api;
    struct tc_leases *leases;
    struct tc_recv_listing *listing, *next_listing; /* under way, and to come; NULL: none */
    struct tc_lease owned;                          /* of every array that is published: owner and its start */
    int owner_fd; /* tells the owner's end; -1: there is none, or the kernel does not tell */
    struct tc_watch *owner_watch;
    struct tc_signal *term, *interrupt, *usr1;
    struct tc_timer *hourly;
    struct tc_verifier *origin;
    struct tc_recv_session *sessions;
    uint8_t instance[16];
    uint8_t control_key[TC_KEY_SIZE];
    uint8_t join_key[TC_KEY_SIZE];
    struct tc_bucket bucket; /* what leaves this host, of all sessions */
    char **reached_as;       /* numeric addresses besides its own under which senders reach it: owned */
    unsigned reached_count;
    bool stopping;
    bool joined;               /* the coordinator has been reached */
    char way[TC_ADDRESS_HOST]; /* own address on the way to it */
    bool settled;              /* with --once: a session that came to an offer has ended, and result is its */
    struct tc_err result;      /* of the first session with --once */
};

/* recv_links.c */
int tc_recv_listen(struct tc_recv_node *node, const char *listen, struct tc_err *err);
void tc_recv_say_ready(const struct tc_recv_node *node);
int tc_recv_join(struct tc_recv_node *node, struct tc_err *err); /* dial the coordinator; what follows, follows later */
void tc_recv_leave(struct tc_recv_node *node);                   /* while it is being dialled */

/* recv_session.c */
/* connection is its control link: identified, or the one that this side dialled. */
int tc_recv_new_session(struct tc_recv_node *node, struct tc_connection *connection, bool joined, struct tc_err *err);
void tc_recv_free_session(struct tc_recv_session *session);
struct tc_recv_session *tc_recv_session_by_id(struct tc_recv_node *node, const uint8_t *id); /* one that is not over */
/* Something of the session came to its end: when that was the last of it, it goes. */
void tc_recv_arrived(struct tc_recv_session *session);

/* recv_tasks.c: actions of the machine; each ends in an event */
void tc_recv_prepare(struct tc_recv_session *session, const struct tc_action *action);
void tc_recv_allocate(struct tc_recv_session *session, const struct tc_action *action);
void tc_recv_compare(struct tc_recv_session *session, const struct tc_action *action);
void tc_recv_open(struct tc_recv_session *session, const struct tc_action *action);
void tc_recv_publish(struct tc_recv_session *session, const struct tc_action *action);
void tc_recv_begin_prepare(struct tc_recv_session *session); /* what waits, once nothing is in its way */
void tc_recv_close_file(struct tc_recv_session *session);    /* it stays for the next try where it is worth that */
void tc_recv_retire(struct tc_recv_session *session);        /* the same in the pool, then the session is freed */

/* recv_api.c */
int tc_recv_open_api(struct tc_recv_node *node, struct tc_err *err);
json_t *tc_recv_published_row(const struct tc_description *description);            /* new; thread-safe */
json_t *tc_recv_sessions_status(const struct tc_recv_node *node, const char *name); /* new; name NULL: all */
/* Takes both; to be freed. NULL: no memory. */
char *tc_recv_status_text(const struct tc_recv_node *node, json_t *sessions, json_t *published);

/* recv_listing.c */
/* The status of everything, as the answer to request; NULL: on standard error. Read in the background. */
void tc_recv_list(struct tc_recv_node *node, struct tc_api_request *request);
void tc_recv_end_listing(struct tc_recv_node *node); /* before the pool goes: what has not begun does not begin */

#endif
