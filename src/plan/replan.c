#include "plan/replan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LATE_MS = 250,         /* starving for so long counts */
    LATE_APART_MS = 1000,  /* of one parent only, with no second word: these two are parted */
    GAIN_LEAST = 12,       /* chunks in a span, for a word about gains */
    SLOW_APART_MOST = 3,   /* times that a host is moved for it */
    SLOW_MEMORY_MS = 30000 /* an older word about slowness is forgotten */
};

struct member { /* rank 0 too */
    bool here, hungry, unfit;
    bool leaves; /* gone, and its places not filled yet */
    enum tc_cause cause;
    uint64_t late_since[TC_TREES_MAX]; /* 0: not late */
    uint32_t load, moved;              /* hungry children in all trees */
    unsigned root_tries, slow_moves;
    uint32_t held_then; /* chunks, at the last of root_tries */
};

struct quarrel { /* rank complained of a parent */
    uint32_t rank, of;
    unsigned tree;
    enum tc_complaint kind;
    bool open;   /* rank waits for another parent */
    bool silent; /* the parent was: then it says nothing about rank */
    uint64_t at;
};

struct tc_replan {
    unsigned trees;
    uint32_t ranks;
    uint32_t *up[TC_TREES_MAX]; /* by rank */
    struct member *members;     /* by rank */
    struct tc_lookout *lookout;
    struct quarrel *quarrels;
    size_t quarrel_count, quarrel_room;
    uint64_t now, due;
    uint32_t *scratch; /* ranks + 1: children */
    struct tc_replan_step *steps;
    struct tc_replan_move *moves;
    unsigned step_count, step_room, move_count, move_room;
    bool failed; /* out of memory */
};

const char *tc_replan_why_name(enum tc_replan_why why)
{
    static const char *const names[] = {"lost", "slow", "corrupt", "unreached", "complains", "apart", "given up"};
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
    };
    if (step->why == TC_REPLAN_SLOW && step->cause != TC_CAUSE_NONE)
        snprintf(out, size, "slow (%s), a leaf from now on", tc_cause_name(step->cause));
    else if (step->why == TC_REPLAN_APART)
        snprintf(out, size, "%s %s%s", words[step->why], other, step->corrupt ? ", for wrong bytes" : "");
    else
        snprintf(out, size, "%s", words[step->why]);
    return out;
}

/* --- notes --- */

struct tc_replan *tc_replan_new(const struct tc_tree *tree, uint32_t leaves, uint64_t now, struct tc_err *err)
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
    bool good = r->members && r->scratch && r->lookout;
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

static bool add_quarrel(struct tc_replan *r, const struct quarrel *quarrel)
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

int tc_replan_complain(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t of, enum tc_complaint complaint,
                       uint64_t now, struct tc_err *err)
{
    struct quarrel quarrel = {.rank = rank, .of = of, .tree = t, .kind = complaint, .open = true, .at = now};
    if (!r->members[rank].here)
        return 0;
    if (!add_quarrel(r, &quarrel))
        return tc_fail(err, TC_E_NOMEM, "no memory for a complaint");
    gather(r, now);
    return 0;
}

static void sated(struct tc_replan *r, uint32_t rank)
{
    if (!r->members[rank].hungry)
        return;
    r->members[rank].hungry = false;
    for (unsigned t = 0; t < r->trees; t++)
        if (r->up[t][rank] != TC_NO_RANK)
            r->members[r->up[t][rank]].load--;
}

void tc_replan_whole(struct tc_replan *r, uint32_t rank)
{
    sated(r, rank);
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

uint64_t tc_replan_due(const struct tc_replan *r)
{
    return r->due;
}

/* --- the table --- */

static bool present(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    return rank == 0 || r->up[t][rank] != TC_NO_RANK;
}

static void record_move(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t from, uint32_t to)
{
    for (unsigned i = 0; i < r->move_count; i++)
        if (r->moves[i].tree == t && r->moves[i].rank == rank) {
            r->moves[i].to = to;
            return;
        }
    if (r->move_count == r->move_room) {
        unsigned room = r->move_room ? 2 * r->move_room : 16;
        struct tc_replan_move *moves = realloc(r->moves, room * sizeof *moves);
        if (!moves) {
            r->failed = true;
            return;
        }
        r->moves = moves;
        r->move_room = room;
    }
    r->moves[r->move_count++] = (struct tc_replan_move){.tree = t, .rank = rank, .from = from, .to = to};
    r->members[rank].moved++;
}

/* rank hangs below to. One that has everything needs no parent: for it this is only the table's business. */
static void hang(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t to)
{
    struct member *member = &r->members[rank];
    uint32_t from = r->up[t][rank];
    r->up[t][rank] = to;
    if (!member->hungry)
        return;
    if (from != TC_NO_RANK)
        r->members[from].load--;
    r->members[to].load++;
    member->late_since[t] = 0;
    tc_lookout_moved(r->lookout, t, rank, r->now);
    record_move(r, t, rank, from, to);
}

static void begin_step(struct tc_replan *r, enum tc_replan_why why, uint32_t rank, uint32_t other)
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
    *step = (struct tc_replan_step){.why = why, .rank = rank, .other = other, .moves = r->move_count};
    for (unsigned t = 0; t < TC_TREES_MAX; t++)
        step->left[t] = TC_NO_RANK;
}

static void end_step(struct tc_replan *r)
{
    if (r->step_count > 0 && !r->failed)
        r->steps[r->step_count - 1].moves = r->move_count - r->steps[r->step_count - 1].moves;
}

static bool counts(const struct tc_replan *r, const struct quarrel *quarrel)
{
    return quarrel->kind != TC_COMPLAINT_SLOW || r->now < quarrel->at + SLOW_MEMORY_MS;
}

static bool apart(const struct tc_replan *r, uint32_t rank, uint32_t of)
{
    for (size_t i = 0; i < r->quarrel_count; i++)
        if (r->quarrels[i].rank == rank && r->quarrels[i].of == of && counts(r, &r->quarrels[i]))
            return true;
    return false;
}

/* Hops from the root to rank in tree t; UINT32_MAX when the way leads through below (or rank is below). */
static uint32_t hops_besides(const struct tc_replan *r, unsigned t, uint32_t rank, uint32_t below)
{
    uint32_t hops = 0;
    for (; rank != 0; rank = r->up[t][rank], hops++)
        if (rank == below || rank == TC_NO_RANK || hops > r->ranks)
            return UINT32_MAX;
    return hops;
}

static bool may_relay(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    const struct member *member = &r->members[rank];
    return member->here && !member->unfit && present(r, t, rank) && !tc_lookout_silent(r->lookout, rank, r->now);
}

/* The fit host that rank, with all that is below it, can hang under in tree t: the least loaded, of these the nearest to
 * the root, of these the first. Rank 0 where there is none. */
static uint32_t best_parent(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t best = 0, best_load = UINT32_MAX, best_hops = UINT32_MAX;
    for (uint32_t other = 1; other <= r->ranks; other++) {
        uint32_t load = r->members[other].load - (r->members[rank].hungry && r->up[t][rank] == other);
        if (other == rank || load > best_load || !may_relay(r, t, other) || apart(r, rank, other))
            continue;
        uint32_t hops = hops_besides(r, t, other, rank);
        if (hops == UINT32_MAX || (load == best_load && hops >= best_hops))
            continue;
        best = other;
        best_load = load;
        best_hops = hops;
    }
    return best;
}

static bool has_children(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    for (uint32_t child = 1; child <= r->ranks; child++)
        if (r->up[t][child] == rank)
            return true;
    return false;
}

/* Who can take rank's place in tree t, with the children listed: a fit host that gives nothing to anybody, one of the
 * children if possible. */
static uint32_t find_heir(const struct tc_replan *r, unsigned t, uint32_t rank, const uint32_t *children,
                          uint32_t count)
{
    uint32_t heir = TC_NO_RANK;
    for (uint32_t other = 1; other <= r->ranks; other++) {
        if (other == rank || r->members[other].load > 0 || !may_relay(r, t, other) || has_children(r, t, other) ||
            apart(r, other, r->up[t][rank]))
            continue;
        bool good = true;
        for (uint32_t i = 0; i < count && good; i++)
            good = children[i] == other || !apart(r, children[i], other);
        if (good && r->up[t][other] == rank)
            return other;
        if (good && heir == TC_NO_RANK)
            heir = other;
    }
    return heir;
}

/* rank's hungry and fit children in tree t get into scratch; what else hung below it hangs elsewhere. */
static uint32_t take_children(struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t count = 0;
    for (uint32_t child = 1; child <= r->ranks; child++) {
        if (r->up[t][child] != rank)
            continue;
        if (!r->members[child].hungry)
            hang(r, t, child, r->up[t][rank]);
        else if (!r->members[child].unfit)
            r->scratch[count++] = child;
    }
    return count;
}

/* Others take over what rank gives in tree t. One child moves up into rank's place. Two or more keep together below an
 * heir in that place; without an heir the first moves up, and the others go where there is room. *slot becomes the place
 * that an heir has left, else TC_NO_RANK. Returns whether rank's place was taken. */
static bool vacate(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t *slot)
{
    uint32_t count = take_children(r, t, rank), up = r->up[t][rank];
    uint32_t heir = count >= 2 ? find_heir(r, t, rank, r->scratch, count) : TC_NO_RANK;
    bool from_outside = heir != TC_NO_RANK && r->up[t][heir] != rank;
    *slot = from_outside && r->members[heir].hungry ? r->up[t][heir] : TC_NO_RANK;
    bool taken = heir != TC_NO_RANK;
    if (taken)
        hang(r, t, heir, up);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t child = r->scratch[i];
        if (child == heir)
            continue;
        bool moves_up = !taken && (up == 0 || !apart(r, child, up));
        hang(r, t, child, heir != TC_NO_RANK ? heir : moves_up ? up : best_parent(r, t, child));
        taken |= moves_up;
    }
    for (uint32_t child = 1; child <= r->ranks; child++) /* the unfit ones */
        if (r->up[t][child] == rank)
            hang(r, t, child, best_parent(r, t, child));
    return taken;
}

/* --- who is gone --- */

static uint32_t depth_of(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t hops = 0;
    for (; rank != 0 && rank != TC_NO_RANK && hops <= r->ranks; rank = r->up[t][rank])
        hops++;
    return hops;
}

/* The farthest from the root in tree t of those whose places are to be filled: a parent that is gone too follows later. */
static uint32_t next_to_leave(const struct tc_replan *r, unsigned t)
{
    uint32_t found = TC_NO_RANK, depth = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        if (!r->members[rank].leaves || !present(r, t, rank))
            continue;
        uint32_t hops = depth_of(r, t, rank);
        if (found == TC_NO_RANK || hops > depth) {
            found = rank;
            depth = hops;
        }
    }
    return found;
}

static void leave(struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t slot;
    begin_step(r, TC_REPLAN_LOST, rank, TC_NO_RANK);
    vacate(r, t, rank, &slot);
    if (r->members[rank].hungry)
        r->members[r->up[t][rank]].load--;
    if (!r->failed)
        r->steps[r->step_count - 1].left[t] = r->up[t][rank];
    r->up[t][rank] = TC_NO_RANK;
    end_step(r);
}

/* First those that give nothing: their parents have room for others then. */
static void fill_places(struct tc_replan *r)
{
    for (unsigned t = 0; t < r->trees; t++)
        for (uint32_t rank = 1; rank <= r->ranks; rank++)
            if (r->members[rank].leaves && present(r, t, rank) && !has_children(r, t, rank))
                leave(r, t, rank);
    for (unsigned t = 0; t < r->trees; t++)
        for (uint32_t rank; (rank = next_to_leave(r, t)) != TC_NO_RANK;)
            leave(r, t, rank);
    for (uint32_t rank = 1; rank <= r->ranks; rank++)
        r->members[rank].leaves = false;
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
        if (r->members[r->quarrels[i].rank].here && r->members[r->quarrels[i].of].here && counts(r, &r->quarrels[i]))
            r->quarrels[kept++] = r->quarrels[i];
    r->quarrel_count = kept;
}

/* --- who is slow --- */

/* Whether most hosts are silent: then it is this end that hears nothing. */
static bool deaf(const struct tc_replan *r)
{
    uint32_t here = 0, silent = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++)
        if (r->members[rank].here) {
            here++;
            silent += tc_lookout_silent(r->lookout, rank, r->now);
        }
    return 2 * silent > here;
}

static bool is_hungry(const struct tc_replan *r, uint32_t rank)
{
    return r->members[rank].here && r->members[rank].hungry;
}

/* The best gain of a hungry host in tree t. */
static int64_t best_gain(const struct tc_replan *r, unsigned t)
{
    int64_t best = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        int64_t gain = is_hungry(r, rank) ? tc_lookout_gain(r->lookout, t, rank, r->now) : -1;
        best = gain > best ? gain : best;
    }
    return best;
}

/* The most that rank 0 brings to a hungry child of its own in tree t. */
static int64_t best_brought(const struct tc_replan *r, unsigned t)
{
    int64_t best = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        bool child = is_hungry(r, rank) && r->up[t][rank] == 0;
        int64_t brought = child ? tc_lookout_brought(r->lookout, t, rank, r->now) : -1;
        best = brought > best ? brought : best;
    }
    return best;
}

/* A hungry brother of rank, below rank 0, has more than rank: that it had before, too. */
static bool is_behind(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    for (uint32_t other = 1; other <= r->ranks; other++)
        if (is_hungry(r, other) && r->up[t][other] == 0 &&
            tc_lookout_held(r->lookout, t, other) > tc_lookout_held(r->lookout, t, rank))
            return true;
    return false;
}

static uint32_t hungry_children(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t count = 0;
    for (uint32_t child = 1; child <= r->ranks; child++)
        count += r->up[t][child] == rank && r->members[child].hungry;
    return count;
}

/* How many bytes up has to give for each that it gets. Trees do not always run evenly: after an outage one of them may
 * catch up alone, and then all that comes in goes out to its children. */
static double copies_given(const struct tc_replan *r, uint32_t up)
{
    double gained = 0, given = 0;
    for (unsigned t = 0; t < r->trees; t++) {
        int64_t gain = r->members[up].hungry ? tc_lookout_gain(r->lookout, t, up, r->now) : 0;
        gained += gain > 0 ? (double)gain : 0;
        given += gain > 0 ? (double)gain * hungry_children(r, t, up) : 0;
    }
    return gained > 0 ? given / gained : (double)r->members[up].load / r->trees;
}

static bool is_late(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t up = r->up[t][rank];
    if (up == 0) {
        int64_t brought = tc_lookout_brought(r->lookout, t, rank, r->now), best = best_brought(r, t);
        bool lags = brought >= 0 && best >= GAIN_LEAST && 4 * brought < best && is_behind(r, t, rank);
        return tc_lookout_held_up(r->lookout, t, rank) || lags;
    }
    if (!r->members[up].here || r->members[up].unfit)
        return false;
    int64_t reference = r->members[up].hungry ? 0 : best_gain(r, t);
    return tc_lookout_starves(r->lookout, t, rank, up, 1, reference, r->now) &&
           tc_lookout_starves(r->lookout, t, rank, up, copies_given(r, up), reference, r->now);
}

static bool is_candidate(const struct tc_replan *r, uint32_t rank)
{
    return is_hungry(r, rank) && !r->members[rank].unfit;
}

static void look_at(struct tc_replan *r, unsigned t, uint32_t rank)
{
    struct member *member = &r->members[rank];
    uint64_t *since = &member->late_since[t];
    struct quarrel quarrel = {.rank = rank, .of = r->up[t][rank], .tree = t, .kind = TC_COMPLAINT_SLOW, .at = r->now};
    if (!is_late(r, t, rank)) {
        *since = 0;
        return;
    }
    if (*since == 0)
        *since = r->now;
    if (r->now - *since < LATE_MS && quarrel.of != 0)
        return;
    quarrel.silent = quarrel.of != 0 && tc_lookout_silent(r->lookout, quarrel.of, r->now);
    quarrel.open = r->now - *since >= LATE_APART_MS && quarrel.of != 0 && member->slow_moves < SLOW_APART_MOST;
    r->failed |= !add_quarrel(r, &quarrel);
}

/* A host that was called slow on the way in may know better. Or, as a full uplink holds up the acknowledgements of what
 * comes in too, one that is as fast as others now that it gives nothing was slow on the way out. */
static void look_again(struct tc_replan *r, uint32_t rank)
{
    struct member *member = &r->members[rank];
    if (member->cause == TC_CAUSE_NETWORK_IN && tc_lookout_cause(r->lookout, rank) != TC_CAUSE_NONE)
        member->cause = tc_lookout_cause(r->lookout, rank);
    for (unsigned t = 0; t < r->trees && member->cause == TC_CAUSE_NETWORK_IN; t++) {
        int64_t gain = tc_lookout_gain(r->lookout, t, rank, r->now), best = best_gain(r, t);
        if (gain < GAIN_LEAST || 2 * gain < best)
            return;
    }
    if (member->cause == TC_CAUSE_NETWORK_IN)
        member->cause = TC_CAUSE_NETWORK_OUT;
}

static void look_for_slow(struct tc_replan *r)
{
    bool nothing_heard = deaf(r);
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        if (r->members[rank].unfit && r->members[rank].hungry)
            look_again(r, rank);
        for (unsigned t = 0; t < r->trees; t++) {
            if (nothing_heard || !is_candidate(r, rank))
                r->members[rank].late_since[t] = 0;
            else
                look_at(r, t, rank);
        }
    }
}

/* --- who is unfit --- */

/* What was said: parents that rank complains of, or hosts that complain of it, each counted once. */
struct tally {
    uint32_t first; /* of those counted */
    unsigned count; /* 2 is many */
    bool slow, corrupt, link;
    bool slow_below_root;
};

static void add_word(struct tally *tally, uint32_t who, enum tc_complaint kind)
{
    if (tally->count == 0)
        tally->first = who;
    if (tally->count == 0 || (tally->count == 1 && who != tally->first))
        tally->count++;
    tally->slow |= kind == TC_COMPLAINT_SLOW;
    tally->corrupt |= kind == TC_COMPLAINT_CORRUPT;
    tally->link |= kind == TC_COMPLAINT_LINK;
}

static struct tally complaints_by(const struct tc_replan *r, uint32_t rank)
{
    struct tally tally = {0};
    for (size_t i = 0; i < r->quarrel_count; i++) {
        const struct quarrel *quarrel = &r->quarrels[i];
        if (quarrel->rank != rank || quarrel->silent)
            continue;
        add_word(&tally, quarrel->of, quarrel->kind);
        tally.slow_below_root |= quarrel->of == 0 && quarrel->kind == TC_COMPLAINT_SLOW;
    }
    return tally;
}

/* The word of one that complains of everybody does not count. */
static struct tally complaints_of(const struct tc_replan *r, uint32_t rank)
{
    struct tally tally = {0};
    for (size_t i = 0; i < r->quarrel_count; i++) {
        const struct quarrel *quarrel = &r->quarrels[i];
        if (quarrel->of == rank && !r->members[quarrel->rank].unfit)
            add_word(&tally, quarrel->rank, quarrel->kind);
    }
    return tally;
}

/* Where most are slow, slow means nothing. */
static bool most_stay_fit(const struct tc_replan *r)
{
    uint32_t here = 0, fit = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++)
        if (r->members[rank].here) {
            here++;
            fit += !r->members[rank].unfit;
        }
    return 2 * (fit - 1) >= here || (here == 2 && fit == 2);
}

/* From here on rank is a leaf: others take over what it gives, and where it did it goes below the least loaded. */
static void demote(struct tc_replan *r, uint32_t rank)
{
    uint32_t slot;
    r->members[rank].unfit = true;
    for (unsigned t = 0; t < r->trees; t++) {
        if (!present(r, t, rank) || !has_children(r, t, rank) || !vacate(r, t, rank, &slot) || !r->members[rank].hungry)
            continue;
        bool swap = slot != TC_NO_RANK && slot != 0 && slot != rank && may_relay(r, t, slot) && !apart(r, rank, slot);
        hang(r, t, rank, swap ? slot : best_parent(r, t, rank));
    }
}

static void declare_unfit(struct tc_replan *r, uint32_t rank, enum tc_replan_why why, enum tc_cause cause)
{
    struct member *member = &r->members[rank];
    if (member->unfit || (why == TC_REPLAN_SLOW && !most_stay_fit(r)))
        return;
    if (why == TC_REPLAN_SLOW)
        member->cause = tc_lookout_cause(r->lookout, rank) ? tc_lookout_cause(r->lookout, rank) : cause;
    begin_step(r, why, rank, TC_NO_RANK);
    if (!r->failed)
        r->steps[r->step_count - 1].cause = member->cause;
    demote(r, rank);
    end_step(r);
}

/* A host that says itself that its disk or CPU is at its limit is a witness too, unless most say so. */
static bool admits_it(const struct tc_replan *r, uint32_t rank)
{
    uint32_t hungry = 0, admit = 0;
    for (uint32_t other = 1; other <= r->ranks; other++)
        if (is_hungry(r, other)) {
            hungry++;
            admit += tc_lookout_cause(r->lookout, other) != TC_CAUSE_NONE;
        }
    return tc_lookout_cause(r->lookout, rank) != TC_CAUSE_NONE && 2 * admit <= hungry;
}

static unsigned witnesses(const struct tc_replan *r, uint32_t rank, const struct tally *tally)
{
    return tally->count + (tally->slow && admits_it(r, rank));
}

static void judge(struct tc_replan *r)
{
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        struct tally by = complaints_by(r, rank);
        if (!r->members[rank].here || (witnesses(r, rank, &by) < 2 && !by.slow_below_root))
            continue;
        declare_unfit(r, rank, by.slow ? TC_REPLAN_SLOW : TC_REPLAN_COMPLAINS, TC_CAUSE_NETWORK_IN);
    }
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        struct tally of = complaints_of(r, rank);
        if (!r->members[rank].here || witnesses(r, rank, &of) < 2)
            continue;
        enum tc_replan_why why = of.corrupt ? TC_REPLAN_CORRUPT : of.slow ? TC_REPLAN_SLOW : TC_REPLAN_UNREACHED;
        declare_unfit(r, rank, why, TC_CAUSE_NETWORK_OUT);
    }
}

/* --- who cannot do with whom --- */

static unsigned parents_lost(const struct tc_replan *r, uint32_t rank)
{
    unsigned count = 0;
    for (size_t i = 0; i < r->quarrel_count; i++) {
        const struct quarrel *quarrel = &r->quarrels[i];
        bool again = false;
        for (size_t j = 0; j < i && !again; j++)
            again = r->quarrels[j].rank == rank && r->quarrels[j].of == quarrel->of;
        count += quarrel->rank == rank && quarrel->kind != TC_COMPLAINT_SLOW && !again;
    }
    return count;
}

/* Below rank 0 there is nothing left but to try again. A host that relays may do better as a leaf that dials. */
static void try_again(struct tc_replan *r, unsigned t, uint32_t rank, bool corrupt)
{
    struct member *member = &r->members[rank];
    uint32_t held = tc_lookout_held(r->lookout, t, rank);
    if (held > member->held_then)
        member->root_tries = 0; /* a link that breaks now and then gets on all the same */
    member->held_then = held;
    member->root_tries++;
    if (member->root_tries > TC_REPLAN_ROOT_TRIES) {
        r->steps[r->step_count - 1].why = TC_REPLAN_GIVEN_UP;
        return;
    }
    if (member->root_tries > 1 && !member->unfit) {
        r->steps[r->step_count - 1].why = corrupt ? TC_REPLAN_COMPLAINS : TC_REPLAN_UNREACHED;
        demote(r, rank);
    }
    if (r->up[t][rank] == 0)
        hang(r, t, rank, 0);
}

static void part(struct tc_replan *r, const struct quarrel *quarrel)
{
    uint32_t rank = quarrel->rank, t = quarrel->tree;
    begin_step(r, TC_REPLAN_APART, rank, quarrel->of);
    if (r->failed)
        return;
    uint32_t to = parents_lost(r, rank) >= 3 ? 0 : best_parent(r, t, rank);
    bool corrupt = r->steps[r->step_count - 1].corrupt = quarrel->kind == TC_COMPLAINT_CORRUPT;
    r->members[rank].slow_moves += quarrel->kind == TC_COMPLAINT_SLOW;
    if (to == 0 && quarrel->of == 0)
        try_again(r, t, rank, corrupt);
    else
        hang(r, t, rank, to);
    end_step(r);
}

static void part_all(struct tc_replan *r)
{
    for (size_t i = 0; i < r->quarrel_count; i++) {
        struct quarrel quarrel = r->quarrels[i];
        bool waits = quarrel.open && r->members[quarrel.rank].hungry &&
                     r->up[quarrel.tree][quarrel.rank] == quarrel.of &&
                     (quarrel.kind != TC_COMPLAINT_SLOW || !r->members[quarrel.rank].unfit);
        r->quarrels[i].open = false;
        if (waits && !r->failed)
            part(r, &quarrel);
    }
}

/* --- the decision --- */

int tc_replan_decide(struct tc_replan *r, uint64_t now, struct tc_err *err)
{
    r->now = now;
    r->step_count = r->move_count = 0;
    if (r->due != UINT64_MAX && r->due > now)
        return 0;
    r->due = UINT64_MAX;
    look_for_slow(r);
    fill_places(r);
    merge_steps(r);
    drop_quarrels_of_the_gone(r);
    judge(r);
    part_all(r);
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
