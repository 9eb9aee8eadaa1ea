/* agent_own.h - what the files of the agent's machine share. Private to them.
 *
 * agent.c          the machine: its states, ends, times and events
 * agent_control.c  what it hears on the control link: the offer, and how it ends
 * agent_plan.c     PLAN: this host's place in the trees
 * agent_links.c    data links: to parents, to children, and those that came before their row
 * agent_wants.c    which chunks are asked of which parent
 * agent_fill.c     pages and chunks come, or are found here; the file fills, is whole and published
 * agent_report.c   what it tells of itself, to the coordinator and to its owner */
#ifndef TC_SESSION_AGENT_OWN_H
#define TC_SESSION_AGENT_OWN_H

#include "session/agent.h"
#include "session/children.h"
#include "session/compare.h"

#define TC_HELD_MOST 64u

enum tc_parent_state { TC_PARENT_NONE, TC_PARENT_AWAITED, TC_PARENT_DIALLED, TC_PARENT_UP };

struct tc_parent { /* where one tree's chunks come from */
    enum tc_parent_state state;
    struct tc_msg_link self;
    char address[TC_ADDRESS_MAX];
    uint32_t link;
    struct tc_bits asked; /* chunks wanted from it and not here yet */
    struct tc_bits owed;  /* pages that it has no answer to yet */
    uint64_t last_byte;   /* when it last brought a chunk, or became the parent */
    uint64_t asked_again; /* when it last was */
    bool starves;         /* the other tree's parent helps out */
};

struct tc_held_link { /* a data link that came before its PLAN row */
    uint32_t link;
    uint64_t until;
    struct tc_blob *hello;
};

struct tc_agent {
    struct tc_agent_config config;
    char address[TC_ADDRESS_MAX];
    enum tc_agent_state state;
    struct tc_actions actions;
    uint64_t now;

    uint32_t control; /* TC_NO_LINK once it is gone */
    bool greeted;     /* the coordinator's HELLO has come */
    uint64_t progress_due;
    uint64_t last_byte; /* when a chunk last arrived */
    uint64_t began;
    uint64_t until;    /* when the state is to be over, or while FILLING something to be gained; see limits.h */
    uint64_t deadline; /* of the session, once the coordinator should have ended it; 0: none, or passed */
    uint64_t orphan_since;
    bool publishing;
    bool ends_later; /* when publishing has gone one way or the other */

    struct tc_job job;
    uint8_t proof_id[TC_LINK_ID_SIZE],
        proof_key[TC_LINK_KEY_SIZE]; /* who dials with them is to find this agent; zero: none */
    struct tc_verifier *session_key;
    struct tc_page **pages; /* by index, owned */
    struct tc_bits have_pages;
    struct tc_bits have;    /* verified and placed */
    struct tc_bits pending; /* asked for, or being opened */
    uint64_t bytes, sent;
    uint64_t received[TC_TREES_MAX], given[TC_TREES_MAX]; /* bytes by tree: from its parents, to its children */
    enum tc_cause bottleneck;                             /* what limits this host itself */

    struct tc_compare compare;
    bool allocated;      /* there is a file to place chunks in */
    bool differs;        /* it is not the published one: the file is being reserved */
    struct tc_bits lent; /* of have: in the published file only */
    bool doubted;    /* this host seems to have a bad memory or disk: its file is read back before it is published */
    bool checking;   /* compare does that */
    bool checked;    /* every chunk was what it should be */
    unsigned checks; /* how often it was done */
    uint32_t wrong;  /* chunks that were not, the last time */
    uint64_t adopted, compared;

    uint32_t epoch; /* of the last PLAN; 0: none */
    struct {
        uint32_t epoch;
        char why[TC_WHY_MAX];
    } whys[TC_AGENT_WHYS]; /* a ring */
    unsigned why_count;    /* ever */
    uint32_t rank;
    unsigned trees;
    uint32_t next_link;
    struct tc_parent parents[TC_TREES_MAX];
    struct tc_children children;
    struct tc_held_link held[TC_HELD_MOST];
    unsigned held_count;
};

/* agent.c */
void tc_agent_gained(struct tc_agent *agent, uint64_t ms); /* what takes so long at the least rate; UINT64_MAX: all */
void tc_agent_enter(struct tc_agent *agent, enum tc_agent_state state, const char *event);
void tc_agent_send(struct tc_agent *agent, uint32_t link, const struct tc_message *message); /* TC_NO_LINK: to nobody */
void tc_agent_close_link(struct tc_agent *agent, uint32_t link, uint32_t linger);            /* the same */
void tc_agent_end(struct tc_agent *agent, const struct tc_err *why, const char *event);      /* without a word */
void tc_agent_fail(struct tc_agent *agent, const struct tc_err *why); /* say why, and end: unless it is published */

/* agent_control.c */
void tc_agent_say_hello(struct tc_agent *agent);
/* body, which carries nonce and to, is as it was sent, meant for this session, and where there is an origin signed by it
 * for this agent on this very link. */
int tc_agent_check_signed(struct tc_agent *agent, uint8_t type, enum tc_signed_by by,
                          const uint8_t nonce[TC_NONCE_SIZE], const struct tc_destination *to,
                          const struct tc_blob *body, struct tc_err *err);
void tc_agent_on_prepared(struct tc_agent *agent, const struct tc_event *event);
void tc_agent_on_control_frame(struct tc_agent *agent, const struct tc_event *event);
void tc_agent_on_control_down(struct tc_agent *agent, const struct tc_event *event);

/* agent_plan.c */
int tc_agent_on_plan(struct tc_agent *agent, const struct tc_msg_plan *plan, const struct tc_blob *body,
                     struct tc_err *err);

/* agent_links.c */
int tc_agent_parent_of(const struct tc_agent *agent, uint32_t link); /* the tree whose parent link leads to; -1: none */
/* The parent that row names for tree t, unless it is the one that it had: dialled, or awaited. */
int tc_agent_adopt_parent(struct tc_agent *agent, unsigned t, const struct tc_msg_row *row, struct tc_err *err);
void tc_agent_lose_parent(struct tc_agent *agent, unsigned t, const struct tc_err *why); /* the coordinator hears why */
int tc_agent_feed_children(struct tc_agent *agent, struct tc_err *err); /* all that they can take now */
int tc_agent_retry_held(struct tc_agent *agent, struct tc_err *err);    /* a row has come */
void tc_agent_expire_held(struct tc_agent *agent);                      /* no row has, in time */
uint64_t tc_agent_held_until(const struct tc_agent *agent);             /* when the first is to expire; UINT64_MAX */
void tc_agent_on_data_up(struct tc_agent *agent, uint32_t link);
void tc_agent_on_data_frame(struct tc_agent *agent, const struct tc_event *event);
void tc_agent_on_data_down(struct tc_agent *agent, const struct tc_event *event);
void tc_agent_on_deaf(struct tc_agent *agent, const struct tc_err *why);
void tc_agent_on_served(struct tc_agent *agent, const struct tc_event *event);
void tc_agent_close_data_links(struct tc_agent *agent);

/* agent_wants.c */
void tc_agent_answer(struct tc_agent *agent, unsigned t, uint32_t page); /* once it is known what is wanted of page */
void tc_agent_answer_all(struct tc_agent *agent, uint32_t page);         /* it may be known now */
void tc_agent_ask_elsewhere(struct tc_agent *agent);                     /* what is asked of nobody now */
void tc_agent_forget_asked(struct tc_agent *agent, struct tc_parent *parent);
void tc_agent_take_back(struct tc_agent *agent, unsigned t); /* what other trees' parents were asked for in its place */
/* Tree t's parent has brought chunk: nobody else need. False: it was not asked for it any more. */
bool tc_agent_brought(struct tc_agent *agent, unsigned t, uint32_t chunk);
void tc_agent_look_for_help(struct tc_agent *agent, unsigned t); /* when its parent brings nothing */
void tc_agent_ask_again(struct tc_agent *agent, unsigned t);     /* the same, for longer */

/* agent_fill.c */
int tc_agent_on_page(struct tc_agent *agent, unsigned t, const struct tc_page *page, struct tc_err *err);
int tc_agent_on_chunk(struct tc_agent *agent, unsigned t, const struct tc_msg_chunk *chunk, struct tc_blob *body,
                      struct tc_err *err);
void tc_agent_on_allocated(struct tc_agent *agent, const struct tc_event *event);
void tc_agent_on_compared(struct tc_agent *agent, const struct tc_event *event);
void tc_agent_on_opened(struct tc_agent *agent, const struct tc_event *event);
void tc_agent_on_published(struct tc_agent *agent, const struct tc_event *event);

/* agent_report.c */
uint64_t tc_agent_waiting(const struct tc_agent *agent, unsigned t); /* ms that tree t's parent brings nothing */
void tc_agent_send_progress(struct tc_agent *agent);

#endif
