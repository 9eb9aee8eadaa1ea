#include "plan/replan_own.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLOW_MEMORY_MS = 30000 }; /* an older word about slowness is forgotten */

const char *tc_replan_why_name(enum tc_replan_why why)
{
    static const char *const names[] = {"lost",  "slow",     "corrupt", "unreached", "complains",
                                        "apart", "given up", "stuck",   "uplink"};
    return (unsigned)why < sizeof names / sizeof names[0] ? names[why] : "unknown";
}

const char *tc_replan_say(const struct tc_replan_step *step, const char *other, char *out, size_t size)
{
    static const char *const words[] = {
        [TC_REPLAN_LOST] = "lost, others take its places",
        [TC_REPLAN_SLOW] = "slow, a leaf from now on",
        [TC_REPLAN_CORRUPT] = "gave two hosts wrong bytes, a leaf from now on",
        [TC_REPLAN_UNREACHED] = "others do not get at it, a leaf from now on",
        [TC_REPLAN_COMPLAINS] = "complains of its parents, a leaf from now on",
        [TC_REPLAN_APART] = "kept apart from",
        [TC_REPLAN_GIVEN_UP] = "not even the sender can serve it",
        [TC_REPLAN_STUCK] = "gains nothing, a leaf from now on",
        [TC_REPLAN_UPLINK] = "is behind the slow uplink of",
    };
    if (step->why == TC_REPLAN_SLOW && step->cause != TC_CAUSE_NONE)
        snprintf(out, size, "slow (%s), a leaf from now on", tc_cause_name(step->cause));
    else if (step->why == TC_REPLAN_APART)
        snprintf(out, size, "%s %s%s", words[step->why], other, step->corrupt ? ", for wrong bytes" : "");
    else if (step->why == TC_REPLAN_UPLINK)
        snprintf(out, size, "%s %s", words[step->why], other);
    else
        snprintf(out, size, "%s", words[step->why]);
    return out;
}

/* --- notes --- */

/* The same groups for all ranks: those that the tree does not have are on the sender's own host. */
static struct tc_topology *all_ranks(const struct tc_topology *topology, uint32_t ranks, struct tc_err *err)
{
    uint32_t planted = tc_topology_members(topology) - 1, *members = calloc((size_t)ranks + 1, sizeof *members);
    if (!members)
        return NULL;
    for (uint32_t rank = 1; rank <= planted; rank++)
        members[rank] = rank;
    struct tc_topology *all = tc_topology_pick(topology, members, ranks + 1, err);
    free(members);
    return all;
}

struct tc_replan *tc_replan_new(const struct tc_tree *tree, const struct tc_topology *topology, uint32_t leaves,
                                uint64_t now, struct tc_err *err)
{
    uint32_t planted = tc_tree_hosts(tree);
    struct tc_replan *r = calloc(1, sizeof *r);
    if (!r) {
        tc_fail(err, TC_E_NOMEM, "no memory for a plan");
        return NULL;
    }
    r->trees = tc_tree_count(tree);
    r->ranks = planted + leaves;
    r->due = UINT64_MAX;
    r->members = calloc((size_t)r->ranks + 1, sizeof *r->members);
    r->scratch = calloc((size_t)r->ranks + 1, sizeof *r->scratch);
    r->detector = tc_detector_new(r->trees, r->ranks, err);
    r->topology = topology ? all_ranks(topology, r->ranks, err) : NULL;
    r->uplinks = topology ? calloc(tc_topology_groups(topology), sizeof *r->uplinks) : NULL;
    bool good = r->members && r->scratch && r->detector && (!topology || (r->topology && r->uplinks));
    for (unsigned t = 0; t < r->trees; t++) {
        r->up[t] = calloc((size_t)r->ranks + 1, sizeof *r->up[t]);
        good &= r->up[t] != NULL;
    }
    if (!good) {
        tc_replan_free(r);
        tc_fail(err, TC_E_NOMEM, "no memory for a plan of %u hosts", planted + leaves);
        return NULL;
    }
    r->members[0].here = true;
    for (unsigned t = 0; t < r->trees; t++)
        for (uint32_t rank = 0; rank <= r->ranks; rank++) {
            uint32_t up = r->up[t][rank] = rank <= planted ? tc_tree_parent(tree, t, rank) : 0;
            r->members[rank].here = true;
            if (rank == 0)
                continue;
            r->members[rank].incomplete = true;
            r->members[rank].unfit = rank > planted;
            r->members[up].load++;
            tc_detector_moved(r->detector, t, rank, now);
        }
    return r;
}

void tc_replan_free(struct tc_replan *r)
{
    if (!r)
        return;
    for (unsigned t = 0; t < TC_TREES_MAX; t++)
        free(r->up[t]);
    tc_detector_free(r->detector);
    tc_topology_free(r->topology);
    free(r->uplinks);
    free(r->members);
    free(r->scratch);
    free(r->complaints);
    free(r->steps);
    free(r->moves);
    free(r);
}

static void gather(struct tc_replan *r, uint64_t now)
{
    if (r->due == UINT64_MAX)
        r->due = now + TC_REPLAN_GATHER;
}

void tc_replan_report(struct tc_replan *r, uint32_t rank, const struct tc_sample *sample, uint64_t now)
{
    if (r->members[rank].here)
        tc_detector_report(r->detector, rank, sample, now);
}

void tc_replan_holds_up(struct tc_replan *r, unsigned t, uint32_t rank, bool holds_up, uint64_t now)
{
    if (r->members[rank].here && r->up[t][rank] == 0)
        tc_detector_holds_up(r->detector, t, rank, holds_up, now);
}

bool tc_replan_add_complaint(struct tc_replan *r, const struct complaint *complaint)
{
    for (size_t i = 0; i < r->complaint_count; i++) {
        struct complaint *old = &r->complaints[i];
        if (old->rank != complaint->rank || old->of != complaint->of || old->tree != complaint->tree ||
            old->kind != complaint->kind)
            continue;
        old->open |= complaint->open;
        old->silent |= complaint->silent;
        old->at = complaint->at;
        return true;
    }
    if (r->complaint_count == r->complaint_capacity) {
        size_t capacity = r->complaint_capacity ? 2 * r->complaint_capacity : 16;
        struct complaint *complaints = realloc(r->complaints, capacity * sizeof *complaints);
        if (!complaints)
            return false;
        r->complaints = complaints;
        r->complaint_capacity = capacity;
    }
    r->complaints[r->complaint_count++] = *complaint;
    return true;
}

bool tc_replan_counts(const struct tc_replan *r, const struct complaint *complaint)
{
    return complaint->kind != TC_COMPLAINT_SLOW ||
           (!r->members[complaint->rank].unfit && r->now < complaint->at + SLOW_MEMORY_MS);
}

bool tc_replan_apart(const struct tc_replan *r, uint32_t rank, uint32_t of)
{
    for (size_t i = 0; i < r->complaint_count; i++)
        if (r->complaints[i].rank == rank && r->complaints[i].of == of && tc_replan_counts(r, &r->complaints[i]))
            return true;
    return false;
}

int tc_replan_complain(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t of, enum tc_complaint kind,
                       uint64_t now, struct tc_err *err)
{
    struct complaint complaint = {.rank = rank, .of = of, .tree = t, .kind = kind, .open = true, .at = now};
    if (!r->members[rank].here)
        return 0;
    if (!tc_replan_add_complaint(r, &complaint))
        return tc_fail(err, TC_E_NOMEM, "no memory for a complaint");
    gather(r, now);
    return 0;
}

bool tc_replan_is_incomplete(const struct tc_replan *r, uint32_t rank)
{
    return r->members[rank].here && r->members[rank].incomplete;
}

int tc_replan_stuck(struct tc_replan *r, unsigned t, uint32_t rank, uint64_t now, struct tc_err *err)
{
    uint32_t up = r->up[t][rank];
    struct complaint complaint = {.rank = rank, .of = up, .tree = t, .kind = TC_COMPLAINT_SLOW, .at = now};
    if (!tc_replan_is_incomplete(r, rank) || up == TC_NO_RANK)
        return 0;
    if (up != 0 && !tc_replan_add_complaint(r, &complaint))
        return tc_fail(err, TC_E_NOMEM, "no memory for a complaint");
    r->members[rank].stuck[t].is = true;
    r->members[rank].stuck[t].below = up;
    gather(r, now);
    return 0;
}

void tc_replan_whole(struct tc_replan *r, uint32_t rank)
{
    if (!r->members[rank].incomplete)
        return;
    r->members[rank].incomplete = false;
    for (unsigned t = 0; t < r->trees; t++)
        if (r->up[t][rank] != TC_NO_RANK)
            r->members[r->up[t][rank]].load--;
}

void tc_replan_gone(struct tc_replan *r, uint32_t rank, uint64_t now)
{
    struct member *member = &r->members[rank];
    if (!member->here)
        return;
    member->here = false;
    member->leaves = true; /* incomplete as before: its place at its parent is kept for who will fill it */
    gather(r, now);
}

void tc_replan_slept(struct tc_replan *r, uint64_t now)
{
    tc_detector_begin_anew(r->detector, now);
}

uint64_t tc_replan_due(const struct tc_replan *r)
{
    return r->due;
}

/* --- the decision --- */

void tc_replan_begin_step(struct tc_replan *r, enum tc_replan_why why, uint32_t rank, uint32_t other)
{
    if (r->step_count == r->step_capacity) {
        unsigned capacity = r->step_capacity ? 2 * r->step_capacity : 8;
        struct tc_replan_step *steps = realloc(r->steps, capacity * sizeof *steps);
        if (!steps) {
            r->failed = true;
            return;
        }
        r->steps = steps;
        r->step_capacity = capacity;
    }
    struct tc_replan_step *step = &r->steps[r->step_count++];
    *step =
        (struct tc_replan_step){.why = why, .rank = rank, .other = other, .moves = r->move_count, .group = TC_NO_GROUP};
    for (unsigned t = 0; t < TC_TREES_MAX; t++)
        step->left[t] = TC_NO_RANK;
}

void tc_replan_end_step(struct tc_replan *r)
{
    if (r->step_count > 0 && !r->failed)
        r->steps[r->step_count - 1].moves = r->move_count - r->steps[r->step_count - 1].moves;
}

/* One step for a host that is gone, whatever the number of trees. */
static void merge_steps(struct tc_replan *r)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < r->step_count; i++) {
        unsigned j = 0;
        while (j < kept && (r->steps[j].why != r->steps[i].why || r->steps[j].rank != r->steps[i].rank))
            j++;
        if (j == kept) {
            r->steps[kept++] = r->steps[i];
            continue;
        }
        r->steps[j].moves += r->steps[i].moves;
        for (unsigned t = 0; t < r->trees; t++)
            if (r->steps[i].left[t] != TC_NO_RANK)
                r->steps[j].left[t] = r->steps[i].left[t];
    }
    r->step_count = kept;
}

static void drop_complaints_of_the_gone(struct tc_replan *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->complaint_count; i++)
        if (r->members[r->complaints[i].rank].here && r->members[r->complaints[i].of].here &&
            tc_replan_counts(r, &r->complaints[i]))
            r->complaints[kept++] = r->complaints[i];
    r->complaint_count = kept;
}

int tc_replan_decide(struct tc_replan *r, uint64_t now, struct tc_err *err)
{
    r->now = now;
    r->step_count = r->move_count = 0;
    if (r->due != UINT64_MAX && r->due > now)
        return 0;
    r->due = UINT64_MAX;
    tc_replan_look_for_slow(r);
    tc_replan_fill_places(r);
    merge_steps(r);
    drop_complaints_of_the_gone(r);
    tc_replan_judge(r);
    tc_replan_free_stuck(r);
    tc_replan_part_all(r);
    if (r->failed)
        return tc_fail(err, TC_E_NOMEM, "no memory to plan anew");
    return r->step_count > 0;
}

unsigned tc_replan_steps(const struct tc_replan *r, const struct tc_replan_step **steps)
{
    *steps = r->steps;
    return r->step_count;
}

unsigned tc_replan_moves(const struct tc_replan *r, const struct tc_replan_move **moves)
{
    *moves = r->moves;
    return r->move_count;
}

uint32_t tc_replan_parent(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    return r->up[t][rank];
}

bool tc_replan_fit(const struct tc_replan *r, uint32_t rank)
{
    return !r->members[rank].unfit;
}

enum tc_cause tc_replan_cause(const struct tc_replan *r, uint32_t rank)
{
    return r->members[rank].cause;
}

uint32_t tc_replan_load(const struct tc_replan *r, uint32_t rank)
{
    return r->members[rank].load;
}

uint32_t tc_replan_moved(const struct tc_replan *r, uint32_t rank)
{
    return r->members[rank].moved;
}
