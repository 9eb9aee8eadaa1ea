/* coordinator.h - one broadcast as its sender lives it: ask every host, plan over the ready ones, give, wait, report. A
 * pure state machine.
 *
 * Hosts are numbered as listed; the ready ones get ranks 1.. in that order, one on this host last. Control links of hosts
 * are dialled by the machine (TC_ACT_DIAL with host) or, where agents join, accepted by its owner: the first frame on such
 * a link is the HELLO that says which host it is. Data links to its own children are always dialled. */
#ifndef TC_SESSION_COORDINATOR_H
#define TC_SESSION_COORDINATOR_H

#include "plan/replan.h"
#include "session/machine.h"

struct tc_coordinator_config {
    uint8_t instance[16];
    uint8_t session[TC_SESSION_ID_SIZE];
    const char *name;
    struct tc_layout layout;
    const char *array;        /* JSON; borrowed, like everything below, until the machine ends */
    const char *const *hosts; /* addresses "name:port"; where agents join, names as HELLO says them */
    uint32_t host_count;
    bool joins;                         /* no host is dialled */
    bool tls;                           /* links are authenticated */
    uint64_t join_by;                   /* absolute ms: who has not joined by then is unreachable */
    struct tc_tree_spec tree;           /* auto is decided when the ready hosts are known */
    const struct tc_topology *topology; /* member 0 is the sender, i + 1 host i; NULL: nothing is known */
    struct tc_signer *signer;           /* the session's own key */
    uint8_t public_key[TC_PUBLIC_SIZE];
    struct tc_signer *origin; /* NULL: none */
    uint32_t flags;           /* TC_OFFER_* */
    uint32_t ttl;             /* seconds that the array stays; 0: for good */
    uint32_t min_hosts;       /* enough hosts */
    uint64_t deadline;        /* absolute ms; 0: none */
    uint32_t min_rate;        /* bytes a second that a host has to gain; 0: TC_RATE_MIN */
    uint32_t digest_depth;    /* chunks being digested at once, >= 1 */
    uint64_t ahead; /* bytes that digesting may run ahead of giving (at least four pages' worth are allowed) */
    /* A fresh random id and key for every data link. */
    int (*random)(void *arg, void *bytes, size_t size, struct tc_err *err);
    void *random_arg;
    void (*trace)(void *arg, const char *line);
    void *trace_arg;
};

enum tc_host_phase {
    TC_PHASE_DIALLED, /* not connected, or not greeted */
    TC_PHASE_OFFERED,
    TC_PHASE_READY,
    TC_PHASE_RUNNING,
    TC_PHASE_WHOLE,   /* every chunk verified there */
    TC_PHASE_LEAVING, /* told to end when it might have been publishing: its last word is awaited */
    TC_PHASE_ENDED
};

enum tc_host_end {
    TC_END_NONE,
    TC_END_READY,
    TC_END_PUBLISHED,
    TC_END_UNCHANGED, /* had it already */
    TC_END_REFUSED,
    TC_END_UNREACHABLE,
    TC_END_FAILED,
    TC_END_ABORTED,
    TC_END_LOST
};

struct tc_host_view {
    enum tc_host_phase phase;
    enum tc_host_end end;
    struct tc_err why;
    uint64_t bytes;    /* verified there */
    uint64_t adopted;  /* of these, there before the session */
    uint64_t whole_at; /* ms; 0: not yet */
    uint64_t ended_at;
    uint32_t rank;       /* 0: none */
    bool unfit;          /* to relay: a leaf since then */
    enum tc_cause cause; /* of a slow host */
    unsigned accused;    /* complaints of wrong bytes from it, by hosts that do not complain of everybody */
};

/* One change of the plan. Hosts by their number in the list. */
struct tc_replan_view {
    uint64_t at; /* ms */
    uint32_t epoch;
    enum tc_replan_why why;
    enum tc_cause cause;  /* SLOW */
    uint32_t host, other; /* other: the parent of APART; TC_NO_RANK: the sender, or none */
    unsigned moves;       /* hosts that got another parent */
    double rate;          /* UPLINK: bytes a second */
    char group[TC_WHY_MAX];
    char text[TC_WHY_MAX]; /* what happened to host, for people */
};

struct tc_coordinator;

struct tc_coordinator *tc_coordinator_new(const struct tc_coordinator_config *config, uint64_t now, struct tc_err *err);
void tc_coordinator_free(struct tc_coordinator *coordinator); /* NULL allowed */

void tc_coordinator_event(struct tc_coordinator *coordinator, const struct tc_event *event, uint64_t now);
bool tc_coordinator_take(struct tc_coordinator *coordinator, struct tc_action *action);
uint64_t tc_coordinator_wake(const struct tc_coordinator *coordinator);

/* State of host < host_count; borrowed until the next event. */
const struct tc_host_view *tc_coordinator_host(const struct tc_coordinator *coordinator, uint32_t host);
/* The tree in use; false before the plan. */
bool tc_coordinator_tree(const struct tc_coordinator *coordinator, struct tc_tree_spec *spec);
/* Changes of the plan so far, the oldest first; borrowed until the next event. Returns their number. */
unsigned tc_coordinator_replans(const struct tc_coordinator *coordinator, const struct tc_replan_view **replans);
/* The parent of host in tree t: a host's number, TC_NO_RANK for the sender or when it has none (then *has is false). */
uint32_t tc_coordinator_parent(const struct tc_coordinator *coordinator, unsigned t, uint32_t host, bool *has);
unsigned tc_coordinator_accused(const struct tc_coordinator *coordinator);    /* complaints of the sender's own bytes */
uint64_t tc_coordinator_planned_at(const struct tc_coordinator *coordinator); /* ms; 0: not yet */
/* The content digest; NULL before all of the source was digested and found unchanged. Borrowed. */
const struct tc_digest *tc_coordinator_digest(const struct tc_coordinator *coordinator);

#endif
