/* Uplinks of groups: where all that crosses one lags, it is slow and no host is. */
#include "plan/replan_own.h"

enum { SHORT_MS = 500 }; /* lagging for so long counts */

/* The outermost group that holds inside and not outside; TC_NO_GROUP: none. */
static uint32_t crossed(const struct tc_replan *r, uint32_t inside, uint32_t outside)
{
    uint32_t group = tc_topology_group_of(r->topology, inside), out = tc_topology_group_of(r->topology, outside);
    uint32_t found = TC_NO_GROUP;
    for (; !tc_topology_inside(r->topology, out, group); group = tc_topology_parent(r->topology, group))
        found = group;
    return found;
}

static bool is_in(const struct tc_replan *r, uint32_t rank, uint32_t group)
{
    return tc_topology_inside(r->topology, tc_topology_group_of(r->topology, rank), group);
}

/* What a host gains that is as well off as one can be: the best one's chunks of a tree. */
static int64_t best_off(const struct tc_replan *r)
{
    int64_t best = 0;
    for (unsigned t = 0; t < r->trees; t++)
        for (uint32_t rank = 1; rank <= r->ranks; rank++) {
            int64_t gain = tc_replan_is_incomplete(r, rank) ? tc_detector_gain(r->detector, t, rank, r->now) : -1;
            best = gain > best ? gain : best;
        }
    return best;
}

/* rank gets less than two thirds of what others gain, though its parent has more for it. */
static bool lags(const struct tc_replan *r, unsigned t, uint32_t rank, int64_t best, int64_t *brought)
{
    uint32_t up = r->up[t][rank];
    *brought = tc_detector_brought(r->detector, t, rank, r->now);
    if (*brought < 0 || best < TC_DETECTOR_GAIN_LEAST || 3 * *brought >= 2 * best)
        return false;
    return up == 0 || !r->members[up].incomplete ||
           tc_detector_held(r->detector, t, up) > tc_detector_held(r->detector, t, rank) + (uint32_t)*brought / 4;
}

static void count_edge(struct uplink *uplink, bool in, uint32_t rank, bool late, int64_t brought)
{
    uplink->edges[in]++;
    uplink->late[in] += late;
    uplink->rate[in] += brought > 0 ? (uint32_t)brought : 0;
    uplink->hosts[in] += uplink->last[in] != rank;
    uplink->last[in] = rank;
}

/* All that comes in lags, or all that goes out, and these are several hosts' links: one alone may be its own fault. */
static bool is_short(const struct uplink *uplink, bool in)
{
    return uplink->hosts[in] >= 2 && uplink->late[in] == uplink->edges[in];
}

/* What crosses which uplink on its way in, or out, and how much of it lags. What lags on its way in as a whole says nothing
 * of the uplinks that it has left by. */
static void count_edges(struct tc_replan *r, bool in)
{
    int64_t best = best_off(r), brought;
    for (uint32_t rank = 1; rank <= r->ranks; rank++)
        for (unsigned t = 0; t < r->trees && tc_replan_is_incomplete(r, rank) && !r->members[rank].unfit; t++) {
            uint32_t up = r->up[t][rank], entered = crossed(r, rank, up), left = crossed(r, up, rank);
            if ((in ? entered : left) == TC_NO_GROUP)
                continue;
            if (!in && entered != TC_NO_GROUP && is_short(&r->uplinks[entered], true))
                continue;
            bool late = lags(r, t, rank, best, &brought);
            count_edge(&r->uplinks[in ? entered : left], in, rank, late, brought);
        }
}

bool tc_replan_blames_uplink(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t up = r->up[t][rank];
    if (!r->topology || up == TC_NO_RANK)
        return false;
    uint32_t in = crossed(r, rank, up), out = crossed(r, up, rank);
    return (in != TC_NO_GROUP && r->uplinks[in].since > 0) || (out != TC_NO_GROUP && r->uplinks[out].since > 0);
}

bool tc_replan_is_last(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t group = r->topology && r->up[t][rank] != TC_NO_RANK ? crossed(r, rank, r->up[t][rank]) : TC_NO_GROUP;
    return r->members[rank].unfit || (group != TC_NO_GROUP && r->uplinks[group].is_slow);
}

bool tc_replan_is_cut_off(const struct tc_replan *r, uint32_t rank, uint32_t other)
{
    if (!r->topology)
        return false;
    for (uint32_t group = tc_topology_group_of(r->topology, other); group != TC_NO_GROUP && !is_in(r, rank, group);
         group = tc_topology_parent(r->topology, group))
        if (r->uplinks[group].is_slow)
            return true;
    return false;
}

/* Nobody outside of group is served from it any more in tree t: the first such host takes the place of the group's entry,
 * the others hang where there is capacity; so does the entry then. */
static void cut_off(struct tc_replan *r, unsigned t, uint32_t group)
{
    uint32_t entry = TC_NO_RANK, count = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        uint32_t up = r->up[t][rank];
        if (up == TC_NO_RANK)
            continue;
        if (is_in(r, up, group) && !is_in(r, rank, group) && tc_replan_is_incomplete(r, rank))
            r->scratch[count++] = rank;
        if (is_in(r, rank, group) && !is_in(r, up, group) && tc_replan_is_incomplete(r, rank))
            entry = rank;
    }
    bool moves_up = entry != TC_NO_RANK && count > 0 &&
                    (r->up[t][entry] == 0 || !tc_replan_apart(r, r->scratch[0], r->up[t][entry]));
    for (uint32_t i = 0; i < count; i++)
        tc_replan_hang(r, t, r->scratch[i],
                       i == 0 && moves_up ? r->up[t][entry] : tc_replan_best_parent(r, t, r->scratch[i]));
    if (moves_up)
        tc_replan_hang(r, t, entry, tc_replan_best_parent(r, t, entry));
}

static void call_slow(struct tc_replan *r, uint32_t group, bool in)
{
    struct uplink *uplink = &r->uplinks[group];
    tc_replan_begin_step(r, TC_REPLAN_UPLINK, uplink->last[in], TC_NO_RANK);
    if (r->failed)
        return;
    uplink->is_slow = true;
    r->steps[r->step_count - 1].group = group;
    r->steps[r->step_count - 1].rate = uplink->rate[in];
    for (unsigned t = 0; t < r->trees && !is_in(r, 0, group); t++)
        cut_off(r, t, group);
    tc_replan_end_step(r);
}

void tc_replan_look_at_uplinks(struct tc_replan *r)
{
    if (!r->topology)
        return;
    for (uint32_t group = 0; group < tc_topology_groups(r->topology); group++)
        r->uplinks[group] = (struct uplink){.since = r->uplinks[group].since, .is_slow = r->uplinks[group].is_slow};
    count_edges(r, true);
    count_edges(r, false);
    for (uint32_t group = 1; group < tc_topology_groups(r->topology); group++) {
        struct uplink *uplink = &r->uplinks[group];
        bool in = is_short(uplink, true);
        if (!in && !is_short(uplink, false))
            uplink->since = 0;
        else if (uplink->since == 0)
            uplink->since = r->now;
        else if (!uplink->is_slow && r->now - uplink->since >= SHORT_MS && !r->failed)
            call_slow(r, group, in);
    }
}
