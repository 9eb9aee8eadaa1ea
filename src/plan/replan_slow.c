#include "plan/replan_own.h"

enum {
    LATE_MS = 250,        /* starving for so long counts */
    LATE_APART_MS = 1000, /* of one parent only, with no second word: these two are parted */
    SLOW_APART_MOST = 3   /* times that a host is moved for it */
};

/* Whether most hosts are silent: then it is this end that hears nothing. */
static bool deaf(const struct tc_replan *r)
{
    uint32_t here = 0, silent = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++)
        if (r->members[rank].here) {
            here++;
            silent += tc_detector_silent(r->detector, rank, r->now);
        }
    return 2 * silent > here;
}

/* The best gain of a incomplete host in tree t. */
static int64_t best_gain(const struct tc_replan *r, unsigned t)
{
    int64_t best = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        int64_t gain = tc_replan_is_incomplete(r, rank) ? tc_detector_gain(r->detector, t, rank, r->now) : -1;
        best = gain > best ? gain : best;
    }
    return best;
}

/* The most that rank 0 brings to a incomplete child of its own in tree t. */
static int64_t best_brought(const struct tc_replan *r, unsigned t)
{
    int64_t best = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        bool child = tc_replan_is_incomplete(r, rank) && r->up[t][rank] == 0;
        int64_t brought = child ? tc_detector_brought(r->detector, t, rank, r->now) : -1;
        best = brought > best ? brought : best;
    }
    return best;
}

/* A incomplete brother of rank, below rank 0, has more than rank: that it had before, too. */
static bool is_behind(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    for (uint32_t other = 1; other <= r->ranks; other++)
        if (tc_replan_is_incomplete(r, other) && r->up[t][other] == 0 &&
            tc_detector_held(r->detector, t, other) > tc_detector_held(r->detector, t, rank))
            return true;
    return false;
}

static uint32_t incomplete_children(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t count = 0;
    for (uint32_t child = 1; child <= r->ranks; child++)
        count += r->up[t][child] == rank && r->members[child].incomplete;
    return count;
}

/* How many bytes up has to give for each that it gets. Trees do not always run evenly: after an outage one of them may
 * catch up alone, and then all that comes in goes out to its children. */
static double copies_given(const struct tc_replan *r, uint32_t up)
{
    double gained = 0, given = 0;
    for (unsigned t = 0; t < r->trees; t++) {
        int64_t gain = r->members[up].incomplete ? tc_detector_gain(r->detector, t, up, r->now) : 0;
        gained += gain > 0 ? (double)gain : 0;
        given += gain > 0 ? (double)gain * incomplete_children(r, t, up) : 0;
    }
    return gained > 0 ? given / gained : (double)r->members[up].load / r->trees;
}

static bool is_late(const struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t up = r->up[t][rank];
    if (up == 0) {
        int64_t brought = tc_detector_brought(r->detector, t, rank, r->now), best = best_brought(r, t);
        bool lags = brought >= 0 && best >= TC_DETECTOR_GAIN_LEAST && 4 * brought < best && is_behind(r, t, rank);
        return tc_detector_held_up(r->detector, t, rank) || lags;
    }
    if (!r->members[up].here || r->members[up].unfit)
        return false;
    int64_t reference = r->members[up].incomplete ? 0 : best_gain(r, t);
    return tc_detector_starves(r->detector, t, rank, up, 1, reference, r->now) &&
           tc_detector_starves(r->detector, t, rank, up, copies_given(r, up), reference, r->now);
}

static bool is_candidate(const struct tc_replan *r, uint32_t rank)
{
    return tc_replan_is_incomplete(r, rank) && !r->members[rank].unfit;
}

static void look_at(struct tc_replan *r, unsigned t, uint32_t rank)
{
    struct member *member = &r->members[rank];
    uint64_t *since = &member->late_since[t];
    struct complaint complaint = {
        .rank = rank, .of = r->up[t][rank], .tree = t, .kind = TC_COMPLAINT_SLOW, .at = r->now};
    if (tc_replan_blames_uplink(r, t, rank) || !is_late(r, t, rank)) {
        *since = 0;
        return;
    }
    if (*since == 0)
        *since = r->now;
    if (r->now - *since < LATE_MS && complaint.of != 0)
        return;
    complaint.silent = complaint.of != 0 && tc_detector_silent(r->detector, complaint.of, r->now);
    complaint.open = r->now - *since >= LATE_APART_MS && complaint.of != 0 && member->slow_moves < SLOW_APART_MOST;
    r->failed |= !tc_replan_add_complaint(r, &complaint);
}

/* A host that was called slow on the way in may know better. Or, as a full uplink holds up the acknowledgements of what
 * comes in too, one that is as fast as others now that it gives nothing was slow on the way out. */
static void look_again(struct tc_replan *r, uint32_t rank)
{
    struct member *member = &r->members[rank];
    if (member->cause == TC_CAUSE_NETWORK_IN && tc_detector_cause(r->detector, rank) != TC_CAUSE_NONE)
        member->cause = tc_detector_cause(r->detector, rank);
    for (unsigned t = 0; t < r->trees && member->cause == TC_CAUSE_NETWORK_IN; t++) {
        int64_t gain = tc_detector_gain(r->detector, t, rank, r->now), best = best_gain(r, t);
        if (gain < TC_DETECTOR_GAIN_LEAST || 2 * gain < best)
            return;
    }
    if (member->cause == TC_CAUSE_NETWORK_IN)
        member->cause = TC_CAUSE_NETWORK_OUT;
}

void tc_replan_look_for_slow(struct tc_replan *r)
{
    bool nothing_heard = deaf(r);
    if (!nothing_heard)
        tc_replan_look_at_uplinks(r);
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        if (r->members[rank].unfit && r->members[rank].incomplete)
            look_again(r, rank);
        for (unsigned t = 0; t < r->trees; t++) {
            if (nothing_heard || !is_candidate(r, rank))
                r->members[rank].late_since[t] = 0;
            else
                look_at(r, t, rank);
        }
    }
}
