/* coordinator_own.h - what the files of the coordinator's machine share. Private to them.
 *
 * coordinator.c         the machine: its links, times, events and end
 * coordinator_limits.c  how long a host may be in a phase, and who does not move
 * coordinator_hosts.c   a host by itself: what it says on its control link, how it joins and ends
 * coordinator_address.c where others reach a host
 * coordinator_plan.c    the plan: ranks and rows, and own children dialled as it says
 * coordinator_replan.c  what hosts say of the plan, and how it changes
 * coordinator_give.c    the source's digests and pages, and own children fed */
#ifndef TC_SESSION_COORDINATOR_OWN_H
#define TC_SESSION_COORDINATOR_OWN_H

#include "session/children.h"
#include "session/coordinator.h"

#define TC_CHARGES_MOST 4u /* one that complains more often than this complains of everybody */

struct tc_host {
    struct tc_host_view view;
    uint32_t control; /* TC_NO_LINK once it is gone */
    bool greeted;
    bool local;          /* it is on this host, and has the source itself */
    bool reserves_later; /* it has a file of that name, and reserves another when it sees that they differ */
    uint8_t instance[16];
    uint8_t nonce[TC_NONCE_SIZE];
    struct tc_destination far;    /* its end of the control link; of one that dialled, where it did so from */
    char address[TC_ADDRESS_MAX]; /* for other agents */
    bool answered;                /* READY has come */
    struct {                      /* where else it says that it is reached; "": nowhere */
        char address[TC_ADDRESS_MAX];
        uint8_t id[TC_LINK_ID_SIZE], key[TC_LINK_KEY_SIZE];
        uint32_t link; /* that tries; 0: none now */
    } proof;
    uint64_t heard;                 /* last control message */
    uint64_t until;                 /* when its phase is to be over, or something to be gained, see limits.h */
    uint64_t slow_at;               /* when it was called slow; 0: never */
    uint64_t compared, compared_at; /* bytes that it has looked for in what it has, and when that last became more */
    uint64_t gained_at, moved_at;   /* when it last held more, and got another parent */
    bool changed;                   /* its row differs from what it was told */
    uint32_t row_epoch;             /* of the last row it was told: older complaints are of no interest */
    uint32_t told[TC_TREES_MAX];    /* its parents by that row, and those before them; TC_NO_RANK: none */
    uint32_t before[TC_TREES_MAX];
    uint64_t received[TC_TREES_MAX];   /* bytes it had from its parents, as it said last */
    uint32_t waiting[TC_TREES_MAX];    /* ms that they have brought nothing, as it said last */
    uint64_t fed_at;                   /* when a child of its last said that it had a byte from it */
    uint32_t charges[TC_CHARGES_MOST]; /* ranks from which it says it had wrong bytes; while it is believed */
    unsigned charge_count;
    bool untrusted;             /* that was two of them: it is not believed any more */
    enum tc_host_end leaves_as; /* LEAVING: how it ends if it says that it has not published, and why */
    struct tc_err leaves_for;
};

struct tc_blocks { /* block digests that came before an earlier chunk's */
    bool full;
    struct tc_digest blocks[TC_CHUNK_BLOCKS_MAX];
};

struct tc_coordinator {
    struct tc_coordinator_config config;
    struct tc_actions actions;
    uint64_t now, tick_due;
    bool aborted, ended; /* in between the last words of hosts are awaited */
    struct tc_err abort_why;

    struct tc_host *hosts; /* as listed */
    uint32_t asked;        /* hosts whose answer is still out */
    uint32_t running;      /* planned hosts that have not ended */
    uint32_t next_link;

    bool planned;
    unsigned accused; /* the sender itself, of wrong bytes */
    uint64_t planned_at;
    uint32_t epoch;
    struct tc_tree_spec spec;
    unsigned trees;
    uint32_t ranks;                          /* ready hosts; ranks 1 .. ranks */
    uint32_t *host_of_rank;                  /* ranks + 1 */
    struct tc_topology *topology;            /* of the ranks that may relay; NULL: nothing is known */
    struct tc_msg_link *edges[TC_TREES_MAX]; /* by the child's rank */
    struct tc_replan *replan;
    struct tc_replan_view *replans;
    unsigned replan_count, replan_capacity;
    struct tc_children children;
    bool children_changed; /* they are not what the plan says */
    uint64_t moved_at;     /* when a host last gained something */
    uint64_t steady_since; /* since when some host does all the time */

    struct tc_page **pages;
    struct tc_bits have_pages, have;
    struct tc_content *content;
    struct tc_blocks *window; /* ring of digest_depth */
    uint32_t next_digest, next_content;
    bool checking;
};

static inline bool tc_host_alive(const struct tc_host *host)
{
    return host->control != TC_NO_LINK;
}

static inline bool tc_host_planned(const struct tc_host *host)
{
    return tc_host_alive(host) && host->view.phase != TC_PHASE_LEAVING;
}

static inline bool tc_host_needs_data(const struct tc_host *host)
{
    return tc_host_alive(host) && host->view.phase == TC_PHASE_RUNNING;
}

/* Its memory, disk or network seems to be bad: it is to look at its own file. */
static inline bool tc_host_doubted(const struct tc_host *host)
{
    return host->view.accused > 0 || host->untrusted;
}

static inline const char *tc_host_name(const struct tc_coordinator *c, const struct tc_host *host)
{
    return c->config.hosts[host - c->hosts];
}

static inline const char *tc_rank_name(const struct tc_coordinator *c, uint32_t rank)
{
    return rank == 0 ? "the sender" : c->config.hosts[c->host_of_rank[rank]];
}

static inline struct tc_host *tc_rank_host(const struct tc_coordinator *c, uint32_t rank)
{
    return &c->hosts[c->host_of_rank[rank]];
}

static inline enum tc_signed_by tc_coordinator_signed_by(const struct tc_coordinator *c)
{
    return c->config.origin ? TC_SIGNED_ORIGIN : TC_SIGNED_SESSION;
}

/* coordinator.c; to TC_NO_LINK nothing is sent, and it is closed already. */
__attribute__((format(printf, 2, 3))) void tc_coordinator_trace(const struct tc_coordinator *c, const char *format,
                                                                ...);
void tc_coordinator_send(struct tc_coordinator *c, uint32_t link, const struct tc_message *message);
void tc_coordinator_close_link(struct tc_coordinator *c, uint32_t link, uint32_t linger);
void tc_coordinator_news(struct tc_coordinator *c, uint32_t host);
void tc_coordinator_finish(struct tc_coordinator *c, const struct tc_err *why); /* everybody is let go */
void tc_coordinator_abort(struct tc_coordinator *c, const struct tc_err *why);  /* who has not ended, is told why */

/* coordinator_limits.c */
void tc_coordinator_enter(struct tc_coordinator *c, struct tc_host *host, enum tc_host_phase phase);
/* It has gained what takes so many ms at the least rate. */
void tc_coordinator_moved(struct tc_coordinator *c, struct tc_host *host, uint64_t ms);
void tc_coordinator_check_silence(struct tc_coordinator *c, struct tc_host *host);
bool tc_coordinator_stands_still(const struct tc_coordinator *c); /* as a whole, for too long */
void tc_coordinator_look_for_stuck(struct tc_coordinator *c);     /* they are not to relay */

/* coordinator_hosts.c */
void tc_coordinator_end_host(struct tc_coordinator *c, struct tc_host *host, enum tc_host_end end,
                             const struct tc_err *why); /* noted, and news; its links stay */
void tc_coordinator_drop_host(struct tc_coordinator *c, struct tc_host *host, enum tc_host_end end,
                              const struct tc_err *why, bool tell); /* its links go, it leaves the plan */
/* The same, and it is told; but one that may be publishing says first whether it has. */
void tc_coordinator_dismiss_host(struct tc_coordinator *c, struct tc_host *host, enum tc_host_end end,
                                 const struct tc_err *why);
struct tc_host *tc_coordinator_by_control(struct tc_coordinator *c, uint32_t link); /* NULL: no control link */
void tc_coordinator_say_hello(struct tc_coordinator *c, uint32_t link, enum tc_role role, const uint8_t *id);
/* Whom OFFER and PLAN to this host are for. */
struct tc_destination tc_coordinator_destination(const struct tc_coordinator *c, const struct tc_host *host);
void tc_coordinator_on_control_frame(struct tc_coordinator *c, struct tc_host *host, const struct tc_event *event);
void tc_coordinator_on_control_down(struct tc_coordinator *c, struct tc_host *host, const struct tc_err *err);
void tc_coordinator_on_join(struct tc_coordinator *c, const struct tc_event *event); /* the first frame of a link */
void tc_coordinator_on_absent(struct tc_coordinator *c, const struct tc_event *event);

void tc_coordinator_host_ready(struct tc_coordinator *c, struct tc_host *host); /* it has answered, it may be planned */

/* coordinator_address.c */
/* What HELLO says of where others reach host ("": as it was dialled): address is filled, and proof where that may be
 * another's. */
int tc_coordinator_take_address(struct tc_coordinator *c, struct tc_host *host, const char *said, struct tc_err *err);
/* Once host knows its proof (OFFER has it): true when it is being tried, and tc_coordinator_host_ready follows. */
bool tc_coordinator_prove(struct tc_coordinator *c, struct tc_host *host);
struct tc_host *tc_coordinator_by_proof(struct tc_coordinator *c, uint32_t link); /* NULL: no such link */
void tc_coordinator_on_proof(struct tc_coordinator *c, struct tc_host *host,
                             const struct tc_event *event);                    /* UP, DOWN */
void tc_coordinator_end_proof(struct tc_coordinator *c, struct tc_host *host); /* host has ended */

/* coordinator_plan.c */
void tc_coordinator_all_answered(struct tc_coordinator *c); /* make the first plan, if there are hosts for one */
void tc_coordinator_mark_changed(struct tc_coordinator *c, uint32_t rank); /* its row, or own children */
void tc_coordinator_publish_changes(struct tc_coordinator *c);             /* of the rows that are marked */
/* The link of rank to its parent in tree t gets another id and key. */
int tc_coordinator_fresh_edge(struct tc_coordinator *c, unsigned t, uint32_t rank, struct tc_err *err);

/* coordinator_replan.c */
void tc_coordinator_leave_plan(struct tc_coordinator *c, struct tc_host *host);
void tc_coordinator_on_sample(struct tc_coordinator *c, struct tc_host *host, const struct tc_msg_progress *progress);
void tc_coordinator_on_complaint(struct tc_coordinator *c, struct tc_host *host,
                                 const struct tc_msg_complaint *complaint);
void tc_coordinator_note_cause(struct tc_coordinator *c, struct tc_host *host); /* of its slowness, for the report */
void tc_coordinator_decide(struct tc_coordinator *c); /* by what has been said since: is anybody to be moved? */

/* coordinator_give.c */
void tc_coordinator_digest_more(struct tc_coordinator *c); /* as far as it may run ahead of the children */
void tc_coordinator_on_digested(struct tc_coordinator *c, const struct tc_event *event);
void tc_coordinator_on_checked(struct tc_coordinator *c, const struct tc_event *event);
void tc_coordinator_on_data_frame(struct tc_coordinator *c, struct tc_child *child, const struct tc_event *event);
void tc_coordinator_on_data_down(struct tc_coordinator *c, struct tc_child *child, const struct tc_err *err);
void tc_coordinator_on_served(struct tc_coordinator *c, const struct tc_event *event);
void tc_coordinator_on_flow(struct tc_coordinator *c, const struct tc_event *event);
void tc_coordinator_watch_children(struct tc_coordinator *c); /* a few times a second */

#endif
