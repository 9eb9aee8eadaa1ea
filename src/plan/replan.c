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
    r->lookout = tc_lookout_new(r->trees, r->ranks, err);
    r->topology = topology ? all_ranks(topology, r->ranks, err) : NULL;
    r->uplinks = topology ? calloc(tc_topology_groups(topology), sizeof *r->uplinks) : NULL;
    bool good = r->members && r->scratch && r->lookout && (!topology || (r->topology && r->uplinks));
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
            r->members[rank].hungry = true;
            r->members[rank].unfit = rank > planted;
            r->members[up].load++;
            tc_lookout_moved(r->lookout, t, rank, now);
        }
    return r;
}

void tc_replan_free(struct tc_replan *r)
{
    if (!r)
        return;
    for (unsigned t = 0; t < TC_TREES_MAX; t++)
        free(r->up[t]);
    tc_lookout_free(r->lookout);
    tc_topology_free(r->topology);
    free(r->uplinks);
    free(r->members);
    free(r->scratch);
    free(r->quarrels);
    free(r->steps);
    free(r->moves);
    free(r);
}

static void gather(struct tc_replan *r, uint64_t now)
{
    if (r->due == UINT64_MAX)
        r->due = now + TC_REPLAN_GATHER;
}

void tc_replan_report(struct tc_replan *r, uint32_t rank, const struct tc_sighting *sighting, uint64_t now)
{
    if (r->members[rank].here)
        tc_lookout_report(r->lookout, rank, sighting, now);
}

void tc_replan_holds_up(struct tc_replan *r, unsigned t, uint32_t rank, bool holds_up, uint64_t now)
{
    if (r->members[rank].here && r->up[t][rank] == 0)
        tc_lookout_holds_up(r->lookout, t, rank, holds_up, now);
}

bool tc_replan_add_quarrel(struct tc_replan *r, const struct quarrel *quarrel)
{
    for (size_t i = 0; i < r->quarrel_count; i++) {
        struct quarrel *old = &r->quarrels[i];
        if (old->rank != quarrel->rank || old->of != quarrel->of || old->tree != quarrel->tree ||
            old->kind != quarrel->kind)
            continue;
        old->open |= quarrel->open;
        old->silent |= quarrel->silent;
        old->at = quarrel->at;
        return true;
    }
    if (r->quarrel_count == r->quarrel_room) {
        size_t room = r->quarrel_room ? 2 * r->quarrel_room : 16;
        struct quarrel *quarrels = realloc(r->quarrels, room * sizeof *quarrels);
        if (!quarrels)
            return false;
        r->quarrels = quarrels;
        r->quarrel_room = room;
    }
    r->quarrels[r->quarrel_count++] = *quarrel;
    return true;
}

bool tc_replan_counts(const struct tc_replan *r, const struct quarrel *quarrel)
{
    return quarrel->kind != TC_COMPLAINT_SLOW ||
           (!r->members[quarrel->rank].unfit && r->now < quarrel->at + SLOW_MEMORY_MS);
}

bool tc_replan_apart(const struct tc_replan *r, uint32_t rank, uint32_t of)
{
    for (size_t i = 0; i < r->quarrel_count; i++)
        if (r->quarrels[i].rank == rank && r->quarrels[i].of == of && tc_replan_counts(r, &r->quarrels[i]))
            return true;
    return false;
}

int tc_replan_complain(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t of, enum tc_complaint complaint,
                       uint64_t now, struct tc_err *err)
{
    struct quarrel quarrel = {.rank = rank, .of = of, .tree = t, .kind = complaint, .open = true, .at = now};
    if (!r->members[rank].here)
        return 0;
    if (!tc_replan_add_quarrel(r, &quarrel))
        return tc_fail(err, TC_E_NOMEM, "no memory for a complaint");
    gather(r, now);
    return 0;
}

bool tc_replan_is_hungry(const struct tc_replan *r, uint32_t rank)
{
    return r->members[rank].here && r->members[rank].hungry;
}

int tc_replan_stuck(struct tc_replan *r, unsigned t, uint32_t rank, uint64_t now, struct tc_err *err)
{
    uint32_t up = r->up[t][rank];
    struct quarrel quarrel = {.rank = rank, .of = up, .tree = t, .kind = TC_COMPLAINT_SLOW, .at = now};
    if (!tc_replan_is_hungry(r, rank) || up == TC_NO_RANK)
        return 0;
    if (up != 0 && !tc_replan_add_quarrel(r, &quarrel))
        return tc_fail(err, TC_E_NOMEM, "no memory for a complaint");
    r->members[rank].stuck[t].is = true;
    r->members[rank].stuck[t].below = up;
    gather(r, now);
    return 0;
}

void tc_replan_whole(struct tc_replan *r, uint32_t rank)
{
    if (!r->members[rank].hungry)
        return;
    r->members[rank].hungry = false;
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
    member->leaves = true; /* hungry as before: its place at its parent is kept for who will fill it */
    gather(r, now);
}

void tc_replan_slept(struct tc_replan *r, uint64_t now)
{
    tc_lookout_begin_anew(r->lookout, now);
}

uint64_t tc_replan_due(const struct tc_replan *r)
{
    return r->due;
}

/* --- the decision --- */

void tc_replan_begin_step(struct tc_replan *r, enum tc_replan_why why, uint32_t rank, uint32_t other)
{
    if (r->step_count == r->step_room) {
        unsigned room = r->step_room ? 2 * r->step_room : 8;
        struct tc_replan_step *steps = realloc(r->steps, room * sizeof *steps);
        if (!steps) {
            r->failed = true;
            return;
        }
        r->steps = steps;
        r->step_room = room;
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

static void drop_quarrels_of_the_gone(struct tc_replan *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->quarrel_count; i++)
        if (r->members[r->quarrels[i].rank].here && r->members[r->quarrels[i].of].here &&
            tc_replan_counts(r, &r->quarrels[i]))
            r->quarrels[kept++] = r->quarrels[i];
    r->quarrel_count = kept;
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
    drop_quarrels_of_the_gone(r);
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
