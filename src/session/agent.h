/* agent.h - one session as an agent lives it: offered, prepared, filling, whole, published. A pure state machine.
 *
 * One machine for each control link, made when the link is up. It speaks HELLO at once; after TC_ACT_END nothing more
 * comes from it and it may be freed. */
#ifndef TC_SESSION_AGENT_H
#define TC_SESSION_AGENT_H

#include "session/machine.h"

enum tc_agent_state {
    TC_AGENT_NEW,       /* HELLO said, no offer yet */
    TC_AGENT_OFFERED,   /* the file is being prepared */
    TC_AGENT_PREPARED,  /* READY said */
    TC_AGENT_FILLING,   /* planned; chunks arrive */
    TC_AGENT_WHOLE,     /* every chunk verified; publishing */
    TC_AGENT_PUBLISHED, /* DONE said; serves its children until BYE */
    TC_AGENT_UNCHANGED, /* the same: NAME had these bytes already, and keeps its file */
    TC_AGENT_FAILED,    /* reason said; ends */
    TC_AGENT_ENDED
};
const char *tc_agent_state_name(enum tc_agent_state state); /* "filling" */

struct tc_agent_config {
    uint8_t instance[16];
    uint8_t nonce[TC_NONCE_SIZE]; /* fresh for this session */
    const char *address; /* where other agents reach this one; copied; "" or NULL: as the coordinator dialled */
    const char
        *host; /* which of the coordinator's hosts this is, when the agent dialled; used at once; NULL: it did not */
    struct tc_verifier *origin; /* OFFER and PLAN must be signed by it; NULL: no origin. Borrowed */
    /* Whom they must be for where there is an origin: this end of the control link, or at one of these addresses besides
     * ("10.0.0.7:7117"; borrowed). */
    struct tc_destination here;
    const char *const *reached_as;
    unsigned reached_count;
    uint32_t offer_ms;                          /* to the offer; 0: TC_MS_ANSWER */
    uint64_t max_size;                          /* bytes; 0: no limit */
    void (*trace)(void *arg, const char *line); /* every change of state; NULL: none */
    void *trace_arg;
};

/* What is being received; filled from TC_ACT_PREPARE on. */
struct tc_job {
    uint8_t session[TC_SESSION_ID_SIZE];
    char name[TC_NAME_MAX + 1];
    struct tc_layout layout;
    struct tc_array array;
    uint32_t flags; /* TC_OFFER_* */
    uint32_t ttl;   /* seconds; 0: stays */
};

struct tc_agent;

struct tc_agent *tc_agent_new(const struct tc_agent_config *config, uint32_t control, uint64_t now, struct tc_err *err);
void tc_agent_free(struct tc_agent *agent); /* NULL allowed */

void tc_agent_event(struct tc_agent *agent, const struct tc_event *event, uint64_t now);
bool tc_agent_take(struct tc_agent *agent, struct tc_action *action); /* until false, after every event */
uint64_t tc_agent_wake(const struct tc_agent *agent);                 /* when TC_EV_TICK is due; UINT64_MAX: never */

enum tc_agent_state tc_agent_state(const struct tc_agent *agent);
const struct tc_job *tc_agent_job(const struct tc_agent *agent); /* NULL before an offer was accepted. Borrowed */
uint64_t tc_agent_bytes(const struct tc_agent *agent);           /* verified and in place */
uint64_t tc_agent_adopted(const struct tc_agent *agent);         /* of these, here before the session */
bool tc_agent_orphaned(const struct tc_agent *agent);            /* its coordinator is gone, it is not whole */
bool tc_agent_has(const struct tc_agent *agent, uint32_t chunk); /* may be served */

/* This host's place in one tree, and what has passed there. */
struct tc_agent_place {
    uint32_t parent;     /* rank; TC_NO_RANK: none now */
    const char *address; /* the parent's, "" for the sender's; borrowed until the next event */
    bool up;
    uint32_t held;            /* chunks of the tree */
    uint64_t received, given; /* bytes */
    uint64_t waiting;         /* ms without a byte that is wanted */
};
enum { TC_AGENT_WHYS = 8 };

unsigned tc_agent_trees(const struct tc_agent *agent); /* 0 before PLAN */
uint32_t tc_agent_rank(const struct tc_agent *agent);
uint32_t tc_agent_epoch(const struct tc_agent *agent);
struct tc_agent_place tc_agent_place(const struct tc_agent *agent, unsigned t);
/* Child i in tree t: its rank, TC_NO_RANK when there are no more; *last: it is served last. */
uint32_t tc_agent_child(const struct tc_agent *agent, unsigned t, unsigned i, bool *last);
/* Of the changes of the plan that came to this host, the i-th last: its epoch, *why it came; 0: no more. */
uint32_t tc_agent_why(const struct tc_agent *agent, unsigned i, const char **why);

/* The key of data link id: 1 known (copied to key), 0 unknown, -1 not yet (no plan has come, or it may be of the next). */
int tc_agent_link_key(const struct tc_agent *agent, const uint8_t id[TC_LINK_ID_SIZE], uint8_t key[TC_LINK_KEY_SIZE]);

#endif
