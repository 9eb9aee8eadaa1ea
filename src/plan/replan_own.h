/* replan_own.h - what the files of the decision share. Private to them.
 *
 * replan.c         notes of what is seen, and the decision as a whole
 * replan_table.c   the table, and how places in it are filled
 * replan_slow.c    who is slow, by the reports
 * replan_uplink.c  which group's uplink is slow
 * replan_unfit.c   what words against a host lead to: who is a leaf, who is kept apart from whom */
#ifndef TC_PLAN_REPLAN_OWN_H
#define TC_PLAN_REPLAN_OWN_H

#include "plan/replan.h"

struct member { /* rank 0 too */
    bool here, incomplete, unfit;
    struct {
        bool is;
        uint32_t below;
    } stuck[TC_TREES_MAX]; /* gains nothing below that parent, and nothing has followed from that yet */
    bool leaves;           /* gone, and its places not filled yet */
    enum tc_cause cause;
    uint64_t late_since[TC_TREES_MAX]; /* 0: not late */
    uint32_t load, moved;              /* incomplete children in all trees */
    unsigned root_tries, slow_moves;
    uint32_t held_then[TC_TREES_MAX]; /* chunks, when it was tried last there */
};

struct complaint { /* rank complained of a parent */
    uint32_t rank, of;
    unsigned tree;
    enum tc_complaint kind;
    bool open;   /* rank waits for another parent */
    bool silent; /* the parent was: then it says nothing about rank */
    uint64_t at;
};

struct uplink {     /* of a group; what comes in: [true], what goes out: [false] */
    uint64_t since; /* all of it lags; 0: not */
    bool is_slow;   /* it was called so */
    uint32_t edges[2], late[2], hosts[2];
    uint32_t last[2]; /* the last of these hosts */
    uint32_t rate[2]; /* chunks in the last second, of those that lag */
};

struct tc_replan {
    unsigned trees;
    uint32_t ranks;
    uint32_t *up[TC_TREES_MAX];   /* by rank */
    struct tc_topology *topology; /* of all ranks; NULL: nothing is known */
    struct uplink *uplinks;       /* by group */
    struct member *members;       /* by rank */
    struct tc_detector *detector;
    struct complaint *complaints;
    size_t complaint_count, complaint_capacity;
    uint64_t now, due;
    uint32_t *scratch; /* ranks + 1: children */
    struct tc_replan_step *steps;
    struct tc_replan_move *moves;
    unsigned step_count, step_capacity, move_count, move_capacity;
    bool failed; /* out of memory */
};

/* Notes. */
bool tc_replan_add_complaint(struct tc_replan *r, const struct complaint *complaint); /* false: no memory */
/* Not a word about slowness that is too old, or whose speaker is unfit: then it may have been its own. */
bool tc_replan_counts(const struct tc_replan *r, const struct complaint *complaint);
bool tc_replan_apart(const struct tc_replan *r, uint32_t rank, uint32_t of); /* rank has complained of the other */
bool tc_replan_is_incomplete(const struct tc_replan *r, uint32_t rank);      /* is here, and wants more */
/* What follows is told as one step. */
void tc_replan_begin_step(struct tc_replan *r, enum tc_replan_why why, uint32_t rank, uint32_t other);
void tc_replan_end_step(struct tc_replan *r);

/* The table. */
bool tc_replan_present(const struct tc_replan *r, unsigned t, uint32_t rank);
bool tc_replan_may_relay(const struct tc_replan *r, unsigned t, uint32_t rank);
bool tc_replan_has_children(const struct tc_replan *r, unsigned t, uint32_t rank);
/* rank hangs below to. One that has everything needs no parent: for it this is only the table's business. */
void tc_replan_hang(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t to);
/* rank is not below the other, nor is it the other. */
bool tc_replan_is_besides(const struct tc_replan *r, unsigned t, uint32_t rank, uint32_t other);
/* How many groups hold both. */
uint32_t tc_replan_shared(const struct tc_replan *r, uint32_t rank, uint32_t other);
/* In the same group as the other: one may take the other's place without a link more between groups. */
bool tc_replan_stands_in(const struct tc_replan *r, uint32_t rank, uint32_t other);
/* The fit host that rank, with all that is below it, can hang under in tree t: of those that share most groups with it the
 * least loaded, of these the nearest to the root, of these the first. Rank 0 where there is none. */
uint32_t tc_replan_best_parent(const struct tc_replan *r, unsigned t, uint32_t rank);
/* Others take over what rank gives in tree t. One child moves up into rank's place. Two or more keep together below an
 * heir in that place; without an heir the first moves up, and the others go where there is capacity. *slot becomes the place
 * that an heir has left, else TC_NO_RANK. Returns whether rank's place was taken. */
bool tc_replan_vacate(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t *slot);
void tc_replan_fill_places(struct tc_replan *r); /* of those who have gone */

/* Uplinks. */
void tc_replan_look_at_uplinks(struct tc_replan *r);
/* That rank lags in tree t is no host's fault, or it is not known yet whether it is. */
bool tc_replan_blames_uplink(const struct tc_replan *r, unsigned t, uint32_t rank);
bool tc_replan_is_cut_off(const struct tc_replan *r, uint32_t rank, uint32_t other); /* a slow uplink is between them */

/* Words. */
void tc_replan_look_for_slow(struct tc_replan *r); /* complaints that the reports tell of */
void tc_replan_judge(struct tc_replan *r);         /* who becomes a leaf */
void tc_replan_free_stuck(struct tc_replan *r);    /* they get other parents */
void tc_replan_part_all(struct tc_replan *r);      /* pairs of which no more is known */

#endif
