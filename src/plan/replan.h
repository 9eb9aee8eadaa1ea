/* replan.h - how the trees change while they are used: who is gone, who is unfit to relay, who gets which parent.
 *
 * The coordinator notes what it hears: reports, complaints, deaths. tc_replan_decide looks at these and the table and
 * edits the table. The edit follows from what was noted and from nothing else. Pure: no clock, no I/O, no locks.
 * doc/treecast-replan.7 tells what it decides, and why that settles.
 *
 * Ranks and trees as in tree.h. */
#ifndef TC_PLAN_REPLAN_H
#define TC_PLAN_REPLAN_H

#include <stddef.h>

#include "plan/detector.h"

enum {
    TC_REPLAN_GATHER = 100,  /* ms from news to the decision, so that what belongs together is decided together */
    TC_REPLAN_ROOT_TRIES = 3 /* fresh links below rank 0 before a host is given up */
};

/* Why something was changed. */
enum tc_replan_why {
    TC_REPLAN_LOST,      /* rank is gone: its places in the trees are filled */
    TC_REPLAN_SLOW,      /* rank is unfit to relay: slow, with a cause */
    TC_REPLAN_CORRUPT,   /* rank is unfit: two hosts had wrong bytes from it */
    TC_REPLAN_UNREACHED, /* rank is unfit: two hosts could not get at it, or lost it */
    TC_REPLAN_COMPLAINS, /* rank is unfit: it complains of two parents, or of rank 0's bytes again and again */
    TC_REPLAN_APART,     /* rank cannot do with the parent other: these two are kept apart */
    TC_REPLAN_GIVEN_UP,  /* rank cannot be served even by rank 0; the caller takes it out */
    TC_REPLAN_STUCK,     /* rank is unfit: it gains nothing below rank 0, and its children with it */
    TC_REPLAN_UPLINK     /* all that crosses the uplink of group lags: nobody outside is served through it any more */
};
const char *tc_replan_why_name(enum tc_replan_why why); /* "lost", "slow" ... */

struct tc_replan_step {
    enum tc_replan_why why;
    enum tc_cause cause;         /* SLOW */
    uint32_t rank, other;        /* other: APART; TC_NO_RANK else */
    bool corrupt;                /* APART: for wrong bytes */
    unsigned moves;              /* hosts that got another parent by it */
    uint32_t left[TC_TREES_MAX]; /* LOST: the parents that it had; TC_NO_RANK: none */
    uint32_t group;              /* UPLINK; rank is a host behind it then. Else TC_NO_GROUP */
    uint32_t rate;               /* chunks that crossed it in the last second */
};

/* What happened to rank, for people: "slow (network out), a leaf from now on". other is the name of the other host, or of the
 * group. */
const char *tc_replan_say(const struct tc_replan_step *step, const char *other, char *out, size_t size);

struct tc_replan_move {
    unsigned tree;
    uint32_t rank, from, to; /* to may be the parent that it had: then it needs a fresh link */
};

enum tc_complaint { TC_COMPLAINT_LINK, TC_COMPLAINT_CORRUPT, TC_COMPLAINT_SLOW };

struct tc_replan;

/* Begins with tree's table (copied), all hosts there, incomplete and fit. leaves more hosts, the last ranks, hang below rank
 * 0 in each tree and relay nothing: agents on the sender's own host. topology (copied; NULL: nothing is known) has the
 * tree's ranks as members: places are filled from the group that they are in, so that a group that is entered by one host
 * a tree stays so as long as it has a fit one. */
struct tc_replan *tc_replan_new(const struct tc_tree *tree, const struct tc_topology *topology, uint32_t leaves,
                                uint64_t now, struct tc_err *err);
void tc_replan_free(struct tc_replan *replan); /* NULL allowed */

/* Notes. Ranks are 1 .. hosts; of hosts that are gone nothing is noted. */
void tc_replan_report(struct tc_replan *replan, uint32_t rank, const struct tc_sample *sample, uint64_t now);
void tc_replan_holds_up(struct tc_replan *replan, unsigned t, uint32_t rank, bool holds_up, uint64_t now);
/* rank's parent of (0 too) in tree t does not serve it. The caller has made sure that it is of the parent rank has now.
 * TC_E_NOMEM. */
int tc_replan_complain(struct tc_replan *replan, unsigned t, uint32_t rank, uint32_t of, enum tc_complaint complaint,
                       uint64_t now, struct tc_err *err);
/* rank gains nothing to speak of below its parent in tree t, which is not stuck itself, and others do: it goes
 * below rank 0; there it is its own fault. TC_E_NOMEM. */
int tc_replan_stuck(struct tc_replan *replan, unsigned t, uint32_t rank, uint64_t now, struct tc_err *err);
void tc_replan_whole(struct tc_replan *replan, uint32_t rank); /* needs no parent any more, may still be one */
void tc_replan_gone(struct tc_replan *replan, uint32_t rank, uint64_t now);

/* The caller itself stood still until now: what it did not hear meanwhile is nobody's fault. */
void tc_replan_slept(struct tc_replan *replan, uint64_t now);

/* When to decide next, for sure: UINT64_MAX when nothing was noted that waits for a decision. Slowness is looked for at
 * every decision, so the caller decides from time to time anyway. */
uint64_t tc_replan_due(const struct tc_replan *replan);
/* Decide; returns whether anything changed. What and why stands in steps and moves until the next decision. TC_E_NOMEM
 * leaves the rest for the next time. */
int tc_replan_decide(struct tc_replan *replan, uint64_t now, struct tc_err *err);
unsigned tc_replan_steps(const struct tc_replan *replan, const struct tc_replan_step **steps);
unsigned tc_replan_moves(const struct tc_replan *replan, const struct tc_replan_move **moves);

/* The table: TC_NO_RANK for the root and for a rank that is gone. */
uint32_t tc_replan_parent(const struct tc_replan *replan, unsigned t, uint32_t rank);
bool tc_replan_is_last(const struct tc_replan *replan, unsigned t, uint32_t rank); /* unfit, or behind a slow uplink */
bool tc_replan_fit(const struct tc_replan *replan, uint32_t rank);
enum tc_cause tc_replan_cause(const struct tc_replan *replan, uint32_t rank); /* of a slow host; else none */
uint32_t tc_replan_load(const struct tc_replan *replan, uint32_t rank);  /* incomplete children in all trees together */
uint32_t tc_replan_moved(const struct tc_replan *replan, uint32_t rank); /* how often it got another parent */

#endif
