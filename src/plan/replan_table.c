#include "plan/replan_own.h"

#include <stdlib.h>

bool tc_replan_present(const struct tc_replan *r, unsigned t, uint32_t rank)
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
    if (r->move_count == r->move_capacity) {
        unsigned capacity = r->move_capacity ? 2 * r->move_capacity : 16;
        struct tc_replan_move *moves = realloc(r->moves, capacity * sizeof *moves);
        if (!moves) {
            r->failed = true;
            return;
        }
        r->moves = moves;
        r->move_capacity = capacity;
    }
    r->moves[r->move_count++] = (struct tc_replan_move){.tree = t, .rank = rank, .from = from, .to = to};
    r->members[rank].moved++;
}

void tc_replan_hang(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t to)
{
    struct member *member = &r->members[rank];
    uint32_t from = r->up[t][rank];
    r->up[t][rank] = to;
    if (!member->incomplete)
        return;
    if (from != TC_NO_RANK)
        r->members[from].load--;
    r->members[to].load++;
    member->late_since[t] = 0;
    tc_detector_moved(r->detector, t, rank, r->now);
    record_move(r, t, rank, from, to);
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

bool tc_replan_is_besides(const struct tc_replan *r, unsigned t, uint32_t rank, uint32_t other)
{
    return hops_besides(r, t, rank, other) != UINT32_MAX;
}

bool tc_replan_may_relay(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    const struct member *member = &r->members[rank];
    return member->here && !member->unfit && tc_replan_present(r, t, rank) &&
           !tc_detector_silent(r->detector, rank, r->now);
}

uint32_t tc_replan_shared(const struct tc_replan *r, uint32_t rank, uint32_t other)
{
    const struct tc_topology *topology = r->topology;
    return topology ? tc_topology_shared(topology, tc_topology_group_of(topology, rank),
                                         tc_topology_group_of(topology, other))
                    : 0;
}

bool tc_replan_stands_in(const struct tc_replan *r, uint32_t rank, uint32_t other)
{
    return !r->topology || tc_topology_group_of(r->topology, rank) == tc_topology_group_of(r->topology, other);
}

uint32_t tc_replan_best_parent(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t best = 0, best_load = UINT32_MAX, best_hops = UINT32_MAX, best_shared = 0;
    for (uint32_t other = 1; other <= r->ranks; other++) {
        uint32_t load = r->members[other].load - (r->members[rank].incomplete && r->up[t][rank] == other);
        uint32_t shared = tc_replan_shared(r, rank, other);
        bool nearer = shared > best_shared;
        if (other == rank || shared < best_shared || (load > best_load && !nearer) ||
            !tc_replan_may_relay(r, t, other) || tc_replan_apart(r, rank, other) ||
            tc_replan_is_cut_off(r, rank, other))
            continue;
        uint32_t hops = hops_besides(r, t, other, rank);
        if (hops == UINT32_MAX || (!nearer && load == best_load && hops >= best_hops))
            continue;
        best = other;
        best_load = load;
        best_hops = hops;
        best_shared = shared;
    }
    return best;
}

bool tc_replan_has_children(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    for (uint32_t child = 1; child <= r->ranks; child++)
        if (r->up[t][child] == rank)
            return true;
    return false;
}

/* Who can take rank's place in tree t, with the children listed: a fit host of its group that gives nothing to anybody, one
 * of the children if possible. */
static uint32_t find_heir(const struct tc_replan *r, unsigned t, uint32_t rank, const uint32_t *children,
                          uint32_t count)
{
    uint32_t heir = TC_NO_RANK;
    for (uint32_t other = 1; other <= r->ranks; other++) {
        if (other == rank || r->members[other].load > 0 || !tc_replan_stands_in(r, other, rank) ||
            !tc_replan_may_relay(r, t, other) || tc_replan_has_children(r, t, other) ||
            tc_replan_apart(r, other, r->up[t][rank]))
            continue;
        bool good = true;
        for (uint32_t i = 0; i < count && good; i++)
            good = children[i] == other || !tc_replan_apart(r, children[i], other);
        if (good && r->up[t][other] == rank)
            return other;
        if (good && heir == TC_NO_RANK)
            heir = other;
    }
    return heir;
}

/* rank's incomplete and fit children in tree t get into scratch, first one that shares most groups with it, as that may take its
 * place; what else hung below it hangs elsewhere. */
static uint32_t take_children(struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t count = 0;
    for (uint32_t child = 1; child <= r->ranks; child++) {
        if (r->up[t][child] != rank)
            continue;
        if (!r->members[child].incomplete)
            tc_replan_hang(r, t, child, r->up[t][rank]);
        else if (!r->members[child].unfit)
            r->scratch[count++] = child;
    }
    for (uint32_t i = 1; i < count; i++)
        if (tc_replan_shared(r, r->scratch[i], rank) > tc_replan_shared(r, r->scratch[0], rank)) {
            uint32_t nearest = r->scratch[i];
            r->scratch[i] = r->scratch[0];
            r->scratch[0] = nearest;
        }
    return count;
}

bool tc_replan_vacate(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t *slot)
{
    uint32_t count = take_children(r, t, rank), up = r->up[t][rank];
    uint32_t heir = count >= 2 ? find_heir(r, t, rank, r->scratch, count) : TC_NO_RANK;
    bool from_outside = heir != TC_NO_RANK && r->up[t][heir] != rank;
    *slot = from_outside && r->members[heir].incomplete ? r->up[t][heir] : TC_NO_RANK;
    bool taken = heir != TC_NO_RANK;
    if (taken)
        tc_replan_hang(r, t, heir, up);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t child = r->scratch[i];
        if (child == heir)
            continue;
        bool moves_up = !taken && (up == 0 || !tc_replan_apart(r, child, up));
        tc_replan_hang(r, t, child, heir != TC_NO_RANK ? heir : moves_up ? up : tc_replan_best_parent(r, t, child));
        taken |= moves_up;
    }
    for (uint32_t child = 1; child <= r->ranks; child++) /* the unfit ones */
        if (r->up[t][child] == rank)
            tc_replan_hang(r, t, child, tc_replan_best_parent(r, t, child));
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
        if (!r->members[rank].leaves || !tc_replan_present(r, t, rank))
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
    tc_replan_begin_step(r, TC_REPLAN_LOST, rank, TC_NO_RANK);
    tc_replan_vacate(r, t, rank, &slot);
    if (r->members[rank].incomplete)
        r->members[r->up[t][rank]].load--;
    if (!r->failed)
        r->steps[r->step_count - 1].left[t] = r->up[t][rank];
    r->up[t][rank] = TC_NO_RANK;
    tc_replan_end_step(r);
}

/* First those that give nothing: their parents have capacity for others then. */
void tc_replan_fill_places(struct tc_replan *r)
{
    for (unsigned t = 0; t < r->trees; t++)
        for (uint32_t rank = 1; rank <= r->ranks; rank++)
            if (r->members[rank].leaves && tc_replan_present(r, t, rank) && !tc_replan_has_children(r, t, rank))
                leave(r, t, rank);
    for (unsigned t = 0; t < r->trees; t++)
        for (uint32_t rank; (rank = next_to_leave(r, t)) != TC_NO_RANK;)
            leave(r, t, rank);
    for (uint32_t rank = 1; rank <= r->ranks; rank++)
        r->members[rank].leaves = false;
}
