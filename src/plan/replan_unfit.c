#include "plan/replan_own.h"

enum { LATE_OWN_MS = 500 }; /* starving for so long counts for one that says why */

/* --- who is unfit --- */

/* What was said: parents that rank complains of, or hosts that complain of it, each counted once. */
struct tally {
    uint32_t first; /* of those counted */
    unsigned count; /* 2 is many */
    bool slow, corrupt;
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
}

static struct tally complaints_by(const struct tc_replan *r, uint32_t rank)
{
    struct tally tally = {0};
    for (size_t i = 0; i < r->complaint_count; i++) {
        const struct complaint *complaint = &r->complaints[i];
        if (complaint->rank != rank || complaint->silent)
            continue;
        add_word(&tally, complaint->of, complaint->kind);
        tally.slow_below_root |= complaint->of == 0 && complaint->kind == TC_COMPLAINT_SLOW;
    }
    return tally;
}

/* The word of one that complains of everybody does not count. */
static struct tally complaints_of(const struct tc_replan *r, uint32_t rank)
{
    struct tally tally = {0};
    for (size_t i = 0; i < r->complaint_count; i++) {
        const struct complaint *complaint = &r->complaints[i];
        if (complaint->of == rank && !r->members[complaint->rank].unfit)
            add_word(&tally, complaint->rank, complaint->kind);
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
        if (!tc_replan_present(r, t, rank) || !tc_replan_has_children(r, t, rank) ||
            !tc_replan_vacate(r, t, rank, &slot) || !r->members[rank].incomplete)
            continue;
        bool swap = slot != TC_NO_RANK && slot != 0 && slot != rank && tc_replan_may_relay(r, t, slot) &&
                    !tc_replan_apart(r, rank, slot);
        tc_replan_hang(r, t, rank, swap ? slot : tc_replan_best_parent(r, t, rank));
    }
}

static void declare_unfit(struct tc_replan *r, uint32_t rank, enum tc_replan_why why, enum tc_cause cause)
{
    struct member *member = &r->members[rank];
    if (member->unfit || (why == TC_REPLAN_SLOW && !most_stay_fit(r)))
        return;
    if (why == TC_REPLAN_SLOW)
        member->cause = tc_detector_cause(r->detector, rank) ? tc_detector_cause(r->detector, rank) : cause;
    tc_replan_begin_step(r, why, rank, TC_NO_RANK);
    if (!r->failed)
        r->steps[r->step_count - 1].cause = member->cause;
    demote(r, rank);
    tc_replan_end_step(r);
}

/* Whether few say that their disk or CPU is at its limit: on a busy machine many do, and it means nothing. */
static bool few_admit_it(const struct tc_replan *r)
{
    uint32_t incomplete = 0, admit = 0;
    for (uint32_t rank = 1; rank <= r->ranks; rank++)
        if (tc_replan_is_incomplete(r, rank)) {
            incomplete++;
            admit += tc_detector_cause(r->detector, rank) != TC_CAUSE_NONE;
        }
    return admit <= 1 + incomplete / 16;
}

/* rank starves below a parent that reports, and so long that another child would have spoken against that parent too. */
static bool starves_alone(const struct tc_replan *r, uint32_t rank)
{
    for (unsigned t = 0; t < r->trees; t++) {
        uint64_t since = r->members[rank].late_since[t];
        uint32_t up = r->up[t][rank];
        if (since > 0 && r->now - since >= LATE_OWN_MS && up != 0 && !tc_detector_silent(r->detector, up, r->now))
            return true;
    }
    return false;
}

void tc_replan_judge(struct tc_replan *r)
{
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        struct tally by = complaints_by(r, rank);
        if (!r->members[rank].here || (by.count < 2 && !by.slow_below_root))
            continue;
        declare_unfit(r, rank, by.slow ? TC_REPLAN_SLOW : TC_REPLAN_COMPLAINS, TC_CAUSE_NETWORK_IN);
    }
    for (uint32_t rank = 1; rank <= r->ranks; rank++) {
        struct tally of = complaints_of(r, rank);
        if (!r->members[rank].here || of.count < 2)
            continue;
        enum tc_replan_why why = of.corrupt ? TC_REPLAN_CORRUPT : of.slow ? TC_REPLAN_SLOW : TC_REPLAN_UNREACHED;
        declare_unfit(r, rank, why, TC_CAUSE_NETWORK_OUT);
    }
    for (uint32_t rank = 1; rank <= r->ranks; rank++) /* its own word is the second one */
        if (tc_replan_is_incomplete(r, rank) && tc_detector_cause(r->detector, rank) != TC_CAUSE_NONE &&
            starves_alone(r, rank) && few_admit_it(r))
            declare_unfit(r, rank, TC_REPLAN_SLOW, TC_CAUSE_NONE);
}

/* --- who gains nothing --- */

/* Another host below which it is put may be no better off: rank 0 has everything. */
static void free_stuck(struct tc_replan *r, unsigned t, uint32_t rank)
{
    uint32_t up = r->up[t][rank];
    r->members[rank].stuck[t].is = false;
    if (!tc_replan_is_incomplete(r, rank) || up != r->members[rank].stuck[t].below || r->failed)
        return;
    if (up == 0) {
        declare_unfit(r, rank, TC_REPLAN_STUCK, TC_CAUSE_NONE);
        return;
    }
    tc_replan_begin_step(r, TC_REPLAN_APART, rank, up);
    tc_replan_hang(r, t, rank, 0);
    tc_replan_end_step(r);
}

void tc_replan_free_stuck(struct tc_replan *r)
{
    for (uint32_t rank = 1; rank <= r->ranks; rank++)
        for (unsigned t = 0; t < r->trees; t++)
            if (r->members[rank].stuck[t].is)
                free_stuck(r, t, rank);
}

/* --- who cannot do with whom --- */

static unsigned parents_lost(const struct tc_replan *r, uint32_t rank)
{
    unsigned count = 0;
    for (size_t i = 0; i < r->complaint_count; i++) {
        const struct complaint *complaint = &r->complaints[i];
        bool again = false;
        for (size_t j = 0; j < i && !again; j++)
            again = r->complaints[j].rank == rank && r->complaints[j].of == complaint->of;
        count += complaint->rank == rank && complaint->kind != TC_COMPLAINT_SLOW && !again;
    }
    return count;
}

/* Below rank 0 there is nothing left but to try again. A host that relays may do better as a leaf that dials. */
static void try_again(struct tc_replan *r, unsigned t, uint32_t rank, bool corrupt)
{
    struct member *member = &r->members[rank];
    uint32_t held = tc_detector_held(r->detector, t, rank);
    if (held > member->held_then[t])
        member->root_tries = 0; /* a link that breaks now and then gets on all the same */
    member->held_then[t] = held;
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
        tc_replan_hang(r, t, rank, 0);
}

/* rank has gone from below of to below to. Where that had no capacity for it, a child of to takes its place. */
static void change_places(struct tc_replan *r, unsigned t, uint32_t rank, uint32_t of, uint32_t to)
{
    bool may = tc_replan_may_relay(r, t, of);
    for (uint32_t child = 1; may && child <= r->ranks && r->members[to].load > r->members[of].load + 1; child++)
        if (child != rank && tc_replan_stands_in(r, child, rank) && r->up[t][child] == to &&
            r->members[child].incomplete && !tc_replan_apart(r, child, of) && tc_replan_is_besides(r, t, of, child))
            tc_replan_hang(r, t, child, of);
}

static void part(struct tc_replan *r, const struct complaint *complaint)
{
    uint32_t rank = complaint->rank, t = complaint->tree;
    tc_replan_begin_step(r, TC_REPLAN_APART, rank, complaint->of);
    if (r->failed)
        return;
    uint32_t to = parents_lost(r, rank) >= 3 ? 0 : tc_replan_best_parent(r, t, rank);
    bool corrupt = r->steps[r->step_count - 1].corrupt = complaint->kind == TC_COMPLAINT_CORRUPT;
    r->members[rank].slow_moves += complaint->kind == TC_COMPLAINT_SLOW;
    if (to == 0 && complaint->of == 0)
        try_again(r, t, rank, corrupt);
    else
        tc_replan_hang(r, t, rank, to);
    if (complaint->kind == TC_COMPLAINT_SLOW && to != 0)
        change_places(r, t, rank, complaint->of, to);
    tc_replan_end_step(r);
}

void tc_replan_part_all(struct tc_replan *r)
{
    for (size_t i = 0; i < r->complaint_count; i++) {
        struct complaint complaint = r->complaints[i];
        bool waits = complaint.open && r->members[complaint.rank].incomplete &&
                     r->up[complaint.tree][complaint.rank] == complaint.of &&
                     (complaint.kind != TC_COMPLAINT_SLOW || !r->members[complaint.rank].unfit);
        r->complaints[i].open = false;
        if (waits && !r->failed)
            part(r, &complaint);
    }
}
