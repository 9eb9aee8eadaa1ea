/* The table stays a set of spanning trees whatever is noted, unfit hosts are leaves, few hosts move, and it settles. */
#include "plan/replan.h"

#include <string.h>

#include "unit.h"

#define MOST 1024u

/* As ck_assert, which is too slow to be called for every edge of every tree. */
#define MUST(condition)                           \
    do {                                          \
        if (!(condition))                         \
            ck_abort_msg("%s fails", #condition); \
    } while (0)

static uint64_t any(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

struct world {
    struct tc_replan *replan;
    unsigned trees, hosts;
    uint64_t now;
    bool gone[MOST + 1], whole[MOST + 1];
    bool silent[MOST + 1];                  /* stands still, and reports nothing */
    unsigned again[MOST + 1];               /* reports more, each time */
    bool helped[MOST + 1];                  /* the last tree's parent brings the first tree's chunks instead */
    enum tc_cause cause[MOST + 1];          /* as the host says itself */
    uint32_t waits[TC_TREES_MAX][MOST + 1]; /* ms without a chunk */
    uint32_t before[TC_TREES_MAX][MOST + 1];
    uint32_t held[TC_TREES_MAX][MOST + 1];
    uint32_t brought[TC_TREES_MAX][MOST + 1];
};

static struct world *make(enum tc_tree_kind kind, unsigned arity, unsigned hosts)
{
    static struct world world;
    struct tc_err err = {0};
    struct tc_tree *tree = tc_tree_new((struct tc_tree_spec){.kind = kind, .arity = arity}, hosts, &err);
    ck_assert_msg(tree, "%s", err.text);
    world = (struct world){.trees = tc_tree_count(tree), .hosts = hosts, .now = 10000};
    world.replan = tc_replan_new(tree, NULL, 0, world.now, &err);
    ck_assert_msg(world.replan, "%s", err.text);
    tc_tree_free(tree);
    return &world;
}

static uint32_t up(const struct world *w, unsigned t, uint32_t rank)
{
    return tc_replan_parent(w->replan, t, rank);
}

static bool here(const struct world *w, uint32_t rank)
{
    return rank == 0 || !w->gone[rank];
}

static uint32_t fit_hosts(const struct world *w)
{
    uint32_t fit = 0;
    for (uint32_t rank = 1; rank <= w->hosts; rank++)
        fit += here(w, rank) && tc_replan_fit(w->replan, rank);
    return fit;
}

/* Who is gone is out of the table, everybody else reaches the root over such as are there; loads are what the edges say;
 * the unfit give nothing to the incomplete. */
static void check_table(const struct world *w)
{
    static uint32_t load[MOST + 1];
    memset(load, 0, sizeof load);
    for (unsigned t = 0; t < w->trees; t++)
        for (uint32_t rank = 1; rank <= w->hosts; rank++) {
            uint32_t parent = up(w, t, rank), hops = 0;
            MUST((parent == TC_NO_RANK) == w->gone[rank]);
            if (w->gone[rank])
                continue;
            MUST(here(w, parent));
            if (!w->whole[rank]) {
                load[parent]++;
                MUST(parent == 0 || tc_replan_fit(w->replan, parent));
            }
            for (uint32_t at = rank; at != 0; at = up(w, t, at))
                MUST(at <= w->hosts && hops++ <= w->hosts);
        }
    for (uint32_t rank = 0; rank <= w->hosts; rank++)
        MUST(w->gone[rank] || load[rank] == tc_replan_load(w->replan, rank));
}

static void remember(struct world *w)
{
    for (unsigned t = 0; t < w->trees; t++)
        for (uint32_t rank = 0; rank <= w->hosts; rank++)
            w->before[t][rank] = up(w, t, rank);
}

/* What changed in the table is what is told; a told move may only be a fresh link. */
static void check_moves(const struct world *w)
{
    const struct tc_replan_move *moves;
    unsigned count = tc_replan_moves(w->replan, &moves), changed = 0, told = 0;
    for (unsigned t = 0; t < w->trees; t++)
        for (uint32_t rank = 1; rank <= w->hosts; rank++)
            changed += up(w, t, rank) != w->before[t][rank] && !w->gone[rank] && !w->whole[rank];
    for (unsigned i = 0; i < count; i++)
        if (!w->gone[moves[i].rank]) {
            MUST(up(w, moves[i].tree, moves[i].rank) == moves[i].to);
            told += moves[i].to != w->before[moves[i].tree][moves[i].rank];
        }
    MUST(changed == told);
}

static bool decide(struct world *w)
{
    struct tc_err err = {0};
    remember(w);
    int changed = tc_replan_decide(w->replan, w->now, &err);
    ck_assert_msg(changed >= 0, "%s", err.text);
    if (tc_replan_due(w->replan) != UINT64_MAX)
        return false; /* it gathers yet */
    check_table(w);
    check_moves(w);
    return changed > 0;
}

static void lose(struct world *w, uint32_t rank)
{
    w->gone[rank] = true;
    tc_replan_gone(w->replan, rank, w->now);
}

static void gather(struct world *w)
{
    w->now += TC_REPLAN_GATHER;
}

static const struct {
    enum tc_tree_kind kind;
    unsigned arity;
} kinds[] = {{TC_TREE_DOUBLE, 0}, {TC_TREE_BINOMIAL, 0}, {TC_TREE_CHAIN, 0}, {TC_TREE_KARY, 3}};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static uint32_t children_of(const struct world *w, unsigned t, uint32_t rank)
{
    uint32_t count = 0;
    for (uint32_t child = 1; child <= w->hosts; child++)
        count += up(w, t, child) == rank;
    return count;
}

static uint32_t most_load(const struct world *w)
{
    uint32_t most = 0;
    for (uint32_t rank = 1; rank <= w->hosts; rank++)
        if (!w->gone[rank] && tc_replan_load(w->replan, rank) > most)
            most = tc_replan_load(w->replan, rank);
    return most;
}

/* One host of any place dies: in each tree its children move, and one host at most besides; nobody gives more than
 * before. */
START_TEST(one_death_moves_its_children_and_an_heir)
{
    for (unsigned hosts = 2; hosts <= 64; hosts++)
        for (uint32_t dead = 1; dead <= hosts; dead++) {
            struct world *w = make(kinds[_i].kind, kinds[_i].arity, hosts);
            uint32_t children = 0, most = most_load(w);
            for (unsigned t = 0; t < w->trees; t++)
                children += children_of(w, t, dead);
            lose(w, dead);
            MUST(!decide(w)); /* it is gathered first */
            gather(w);
            MUST(decide(w));
            const struct tc_replan_move *moves;
            const struct tc_replan_step *steps;
            MUST(tc_replan_moves(w->replan, &moves) <= children + w->trees);
            MUST(tc_replan_steps(w->replan, &steps) == 1 && steps[0].why == TC_REPLAN_LOST && steps[0].rank == dead);
            MUST(tc_replan_load(w->replan, 0) <= (w->trees == 2 ? 2 : most + 1 > 11 ? most + 1 : 11));
            MUST(most_load(w) <= (most > 2 ? most : 2));
            tc_replan_free(w->replan);
        }
}
END_TEST

/* A quarter of all dies at once, parents with their parents: as long as the trees are double nobody relays more than
 * three halves of the array. */
START_TEST(a_quarter_dies_at_once)
{
    static const unsigned sizes[] = {4, 7, 23, 64, 255, 1024};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        unsigned hosts = sizes[(unsigned)_i % 6];
        uint64_t state = seed * 97;
        struct world *w = make(kinds[(unsigned)_i / 6].kind, kinds[(unsigned)_i / 6].arity, hosts);
        for (unsigned i = 0; i < hosts / 4; i++)
            lose(w, 1 + (uint32_t)(any(&state) % hosts));
        gather(w);
        MUST(decide(w));
        if (w->trees == 2) {
            MUST(most_load(w) <= 3);
            MUST(tc_replan_load(w->replan, 0) <= 3);
        }
        gather(w);
        MUST(!decide(w)); /* it settles */
        tc_replan_free(w->replan);
    }
}
END_TEST

/* --- reports --- */

/* All hosts from first on say what they have. */
static void report(struct world *w, uint32_t first)
{
    for (uint32_t rank = first; rank <= w->hosts; rank++) {
        struct tc_sample sample = {.cause = w->cause[rank]};
        for (unsigned t = 0; t < w->trees; t++) {
            sample.trees[t].held = w->held[t][rank];
            sample.trees[t].brought = w->brought[t][rank];
            sample.trees[t].waiting = w->waits[t][rank];
        }
        for (unsigned times = w->gone[rank] || w->silent[rank] ? 0 : 1 + w->again[rank]; times > 0; times--)
            tc_replan_report(w->replan, rank, &sample, w->now);
    }
}

/* All hosts report every 250 ms. A tree's chunks come at rate (a quarter second's worth) times the share of the slowest
 * on the way, down included; a host cannot hold more than its parent does. */
static void live(struct world *w, unsigned quarters, uint32_t rate, const double *down, const double *out)
{
    for (unsigned q = 0; q < quarters; q++) {
        w->now += 250;
        for (unsigned t = 0; t < w->trees; t++)
            for (uint32_t hops = 0; hops <= w->hosts; hops++)
                for (uint32_t rank = 1; rank <= w->hosts; rank++) {
                    uint32_t depth = 0;
                    for (uint32_t at = rank; at != 0 && at != TC_NO_RANK && depth <= w->hosts; at = up(w, t, at))
                        depth++;
                    if (depth != hops + 1 || w->gone[rank])
                        continue;
                    uint32_t parent = up(w, t, rank);
                    double share = down[rank] * (parent ? out[parent] : 1);
                    unsigned of = w->helped[rank] ? 0 : t;
                    uint32_t next = w->held[of][rank] + (uint32_t)(rate * share);
                    uint32_t limit = parent ? w->held[of][parent] : UINT32_MAX;
                    bool stands = w->silent[rank] || w->silent[parent] || (w->helped[rank] && t == 0);
                    next = stands ? w->held[of][rank] : next < limit ? next : limit;
                    w->brought[t][rank] += next - w->held[of][rank];
                    w->held[of][rank] = next;
                    w->waits[t][rank] = stands ? w->waits[t][rank] + 250 : 0;
                }
        report(w, 1);
        decide(w);
    }
}

static uint32_t unfit_hosts(const struct world *w)
{
    uint32_t unfit = 0;
    for (uint32_t rank = 1; rank <= w->hosts; rank++)
        unfit += !tc_replan_fit(w->replan, rank);
    return unfit;
}

static void even(double *share, unsigned hosts)
{
    for (unsigned i = 0; i <= hosts; i++)
        share[i] = 1;
}

START_TEST(hosts_alike_stay_where_they_are)
{
    static double one[MOST + 1];
    even(one, 24);
    struct world *w = make(kinds[_i].kind, kinds[_i].arity, 24);
    live(w, 80, 20, one, one);
    MUST(unfit_hosts(w) == 0);
    for (uint32_t rank = 1; rank <= 24; rank++)
        MUST(tc_replan_moved(w->replan, rank) == 0);
    tc_replan_free(w->replan);
}
END_TEST

/* A slow uplink below the first row starves two: it is found within two seconds, becomes a leaf and is named. */
START_TEST(a_slow_uplink_is_found)
{
    static double down[MOST + 1], out[MOST + 1];
    even(down, 24);
    even(out, 24);
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    uint32_t slow = up(w, 0, up(w, 0, up(w, 0, 24)));
    MUST(slow != 0 && children_of(w, 0, slow) == 2);
    w->again[slow] = 40 * (unsigned)_i; /* it may say so all the time: that wipes nothing out */
    live(w, 12, 20, down, out);
    out[slow] = 0.1;
    live(w, 8, 20, down, out);
    MUST(unfit_hosts(w) == 1 && !tc_replan_fit(w->replan, slow));
    MUST(tc_replan_cause(w->replan, slow) == TC_CAUSE_NETWORK_OUT);
    MUST(tc_replan_load(w->replan, slow) == 0);
    tc_replan_free(w->replan);
}
END_TEST

static double chain_down[MOST + 1], chain_out[MOST + 1];

/* A chain of eight that has run for a while when the third becomes slow on the way in. It has one parent only. */
static struct world *slow_third(void)
{
    even(chain_down, 8);
    even(chain_out, 8);
    struct world *w = make(TC_TREE_CHAIN, 0, 8);
    live(w, 12, 20, chain_down, chain_out);
    chain_down[3] = 0.1;
    return w;
}

/* One that works at its CPU's limit and says so: its own word is the second one. */
START_TEST(who_admits_to_be_slow_needs_no_second_witness)
{
    struct world *w = slow_third();
    w->cause[3] = TC_CAUSE_CPU;
    live(w, 9, 20, chain_down, chain_out);
    MUST(unfit_hosts(w) == 1 && !tc_replan_fit(w->replan, 3) && tc_replan_cause(w->replan, 3) == TC_CAUSE_CPU);
    tc_replan_free(w->replan);
}
END_TEST

/* On a busy machine that is soon said: twice is not enough, nor that others say so too, nor a child's complaint, which may
 * be slow itself. */
START_TEST(who_admits_to_be_slow_may_be_wrong)
{
    for (unsigned way = 0; way < 3; way++) {
        struct world *w = slow_third();
        for (uint32_t rank = 1; rank <= 8; rank++)
            w->cause[rank] = way == 1 || (way == 2 && rank == 2) ? TC_CAUSE_CPU : TC_CAUSE_NONE;
        live(w, 7, 20, chain_down, chain_out);
        w->cause[3] = way == 0 ? TC_CAUSE_CPU : w->cause[3];
        live(w, 2, 20, chain_down, chain_out);
        MUST(unfit_hosts(w) == 0);
        tc_replan_free(w->replan);
    }
}
END_TEST

/* Two hosts have nothing from a parent in the first tree and ask the other's for its chunks: that parent gives all it
 * can, and is not slow. */
START_TEST(who_helps_out_is_not_slow)
{
    static double one[MOST + 1];
    even(one, 24);
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    uint32_t helper = up(w, 1, 8);
    MUST(helper != 0 && children_of(w, 1, helper) == 2);
    live(w, 12, 20, one, one);
    for (uint32_t child = 1; child <= 24; child++)
        w->helped[child] = up(w, 1, child) == helper;
    live(w, 20, 20, one, one);
    MUST(tc_replan_fit(w->replan, helper));
    for (uint32_t child = 1; child <= 24; child++)
        MUST(!w->helped[child] || up(w, 1, child) == helper);
    tc_replan_free(w->replan);
}
END_TEST

/* Both parents fall silent: that is no word about their child. */
START_TEST(whose_parents_stand_still_is_not_slow)
{
    static double one[MOST + 1];
    even(one, 24);
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    uint32_t first = up(w, 0, 24), second = up(w, 1, 24);
    MUST(first != 0 && second != 0 && first != second);
    live(w, 12, 20, one, one);
    w->silent[first] = w->silent[second] = true;
    live(w, 16, 20, one, one);
    MUST(tc_replan_fit(w->replan, 24) && up(w, 0, 24) != first && up(w, 1, 24) != second);
    tc_replan_free(w->replan);
}
END_TEST

/* One that had most of the array before, and waits for the others' pages. */
START_TEST(who_is_ahead_of_its_brothers_is_not_slow)
{
    static double down[MOST + 1], out[MOST + 1];
    even(down, 2);
    even(out, 2);
    struct world *w = make(TC_TREE_KARY, 2, 2);
    MUST(up(w, 0, 1) == 0 && up(w, 0, 2) == 0);
    w->held[0][1] = 1000;
    down[1] = 0;
    live(w, 40, 20, down, out);
    MUST(w->held[0][2] == 800 && unfit_hosts(w) == 0 && tc_replan_moved(w->replan, 1) == 0);
    live(w, 30, 20, down, out); /* and behind them it is */
    MUST(unfit_hosts(w) == 1 && !tc_replan_fit(w->replan, 1));
    tc_replan_free(w->replan);
}
END_TEST

START_TEST(a_slow_downlink_is_found)
{
    static double down[MOST + 1], out[MOST + 1];
    even(down, 24);
    even(out, 24);
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    uint32_t slow = up(w, 0, 24);
    live(w, 12, 20, down, out);
    down[slow] = 0.1;
    live(w, 8, 20, down, out);
    MUST(unfit_hosts(w) == 1 && !tc_replan_fit(w->replan, slow));
    MUST(tc_replan_cause(w->replan, slow) == TC_CAUSE_NETWORK_IN);
    tc_replan_free(w->replan);
}
END_TEST

/* The last of the first tree's hosts below rank 0. */
static uint32_t head_of(const struct world *w)
{
    uint32_t head = 0;
    for (uint32_t rank = 1; rank <= w->hosts; rank++)
        head = up(w, 0, rank) == 0 ? rank : head;
    return head;
}

/* The first host of a tree: what rank 0 sees of its own children says it. */
START_TEST(a_slow_head_is_found)
{
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    uint32_t head = head_of(w);
    for (unsigned i = 0; i < 24; i++) {
        w->now += 50;
        tc_replan_holds_up(w->replan, 0, head, i % 10 != 0, w->now);
        decide(w);
    }
    MUST(!tc_replan_fit(w->replan, head) && up(w, 0, head) != 0 && tc_replan_load(w->replan, 0) == 2);
    tc_replan_free(w->replan);
}
END_TEST

/* A host is parted from one slow parent, and slow itself below the next, in either tree: space is used so that nobody gives
 * more than before. */
START_TEST(nobody_gives_more_for_one_that_is_moved)
{
    static double one[MOST + 1];
    even(one, 23);
    unsigned first = (unsigned)_i;
    struct world *w = make(TC_TREE_DOUBLE, 0, 23);
    live(w, 8, 20, one, one);
    for (unsigned i = 0; i < 2; i++) {
        unsigned t = i == 0 ? first : !first;
        w->now += 100;
        MUST(tc_replan_complain(w->replan, t, 5, up(w, t, 5), TC_COMPLAINT_SLOW, w->now, NULL) == 0);
        gather(w);
        MUST(decide(w) && tc_replan_fit(w->replan, 5) == (i == 0));
        for (uint32_t rank = 0; rank <= 23; rank++)
            MUST(tc_replan_load(w->replan, rank) <= 2);
    }
    tc_replan_free(w->replan);
}
END_TEST

/* Rank 0 stood still for a minute. Then it hears from some hosts sooner than from others, and finds a head that it waited
 * for before. */
START_TEST(what_rank_0_slept_through_is_nobodys_fault)
{
    static double one[MOST + 1];
    even(one, 24);
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    uint32_t head = head_of(w);
    live(w, 12, 20, one, one);
    tc_replan_holds_up(w->replan, 0, head, false, w->now);
    w->now += 60000;
    tc_replan_slept(w->replan, w->now);
    tc_replan_holds_up(w->replan, 0, head, true, w->now);
    for (uint32_t rank = 1; rank <= 24; rank++)
        w->waits[0][rank] = w->waits[1][rank] = 60000;
    for (unsigned i = 0; i < 20; i++) {
        w->now += 100;
        report(w, 12);
        decide(w);
    }
    live(w, 40, 20, one, one);
    MUST(unfit_hosts(w) == 0);
    for (uint32_t rank = 1; rank <= 24; rank++)
        MUST(tc_replan_moved(w->replan, rank) == 0);
    tc_replan_free(w->replan);
}
END_TEST

/* A link that flips between good and bad for ten minutes moves nobody more than a few times. */
START_TEST(a_flipping_link_moves_nobody_often)
{
    static double down[MOST + 1], out[MOST + 1];
    for (uint64_t seed = 1; seed <= 4; seed++) {
        uint64_t state = seed;
        even(down, 15);
        even(out, 15);
        struct world *w = make(kinds[_i].kind, kinds[_i].arity, 15);
        uint32_t flips = 1 + (uint32_t)(any(&state) % 15);
        for (unsigned i = 0; i < 150; i++) {
            double *share = any(&state) % 2 ? down : out;
            share[flips] = share[flips] < 1 ? 1 : 0.05;
            live(w, 4 + (unsigned)(any(&state) % 24), 20, down, out);
        }
        for (uint32_t rank = 1; rank <= 15; rank++)
            MUST(tc_replan_moved(w->replan, rank) <= 2 * w->trees + 3);
        tc_replan_free(w->replan);
    }
}
END_TEST

/* --- complaints --- */

static void complain(struct world *w, unsigned t, uint32_t rank, enum tc_complaint complaint)
{
    MUST(tc_replan_complain(w->replan, t, rank, up(w, t, rank), complaint, w->now, NULL) == 0);
    gather(w);
}

START_TEST(one_complaint_keeps_a_pair_apart)
{
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    uint32_t child = 24, parent = up(w, 0, child);
    complain(w, 0, child, TC_COMPLAINT_LINK);
    MUST(decide(w) && up(w, 0, child) != parent && unfit_hosts(w) == 0);
    const struct tc_replan_move *moves;
    MUST(tc_replan_moves(w->replan, &moves) == 1);
    tc_replan_free(w->replan);
}
END_TEST

START_TEST(two_who_get_wrong_bytes_make_their_parent_a_leaf)
{
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    uint32_t parent = up(w, 0, 21), count = 0;
    for (uint32_t child = 1; child <= 24; child++)
        if (up(w, 0, child) == parent) {
            complain(w, 0, child, TC_COMPLAINT_CORRUPT);
            count++;
        }
    MUST(count == 2 && decide(w));
    MUST(unfit_hosts(w) == 1 && !tc_replan_fit(w->replan, parent) && tc_replan_load(w->replan, parent) == 0);
    tc_replan_free(w->replan);
}
END_TEST

START_TEST(who_complains_of_two_is_unfit_itself)
{
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    complain(w, 0, 5, TC_COMPLAINT_CORRUPT);
    MUST(decide(w));
    complain(w, 0, 5, TC_COMPLAINT_CORRUPT);
    MUST(decide(w) && unfit_hosts(w) == 1 && !tc_replan_fit(w->replan, 5));
    complain(w, 0, 5, TC_COMPLAINT_CORRUPT); /* three: below rank 0 */
    MUST(decide(w) && up(w, 0, 5) == 0);
    const struct tc_replan_step *steps;
    for (unsigned i = 0; i < TC_REPLAN_ROOT_TRIES; i++) {
        complain(w, 0, 5, TC_COMPLAINT_CORRUPT);
        MUST(decide(w) && tc_replan_steps(w->replan, &steps) == 1 && steps[0].why == TC_REPLAN_APART);
    }
    complain(w, 0, 5, TC_COMPLAINT_CORRUPT);
    MUST(decide(w) && tc_replan_steps(w->replan, &steps) == 1 && steps[0].why == TC_REPLAN_GIVEN_UP);
    tc_replan_free(w->replan);
}
END_TEST

static void gains_nothing(struct world *w, uint32_t rank)
{
    MUST(tc_replan_stuck(w->replan, 0, rank, w->now, NULL) == 0);
    gather(w);
}

/* One that gains nothing goes below rank 0, and when it gains nothing there, its children go. */
START_TEST(who_gains_nothing_holds_up_nobody)
{
    struct world *w = make(TC_TREE_CHAIN, 0, 6);
    const struct tc_replan_step *steps;
    gains_nothing(w, 3);
    MUST(decide(w) && up(w, 0, 3) == 0 && up(w, 0, 4) == 3 && unfit_hosts(w) == 0);
    MUST(tc_replan_steps(w->replan, &steps) == 1 && steps[0].why == TC_REPLAN_APART && steps[0].other == 2);
    gains_nothing(w, 3);
    MUST(decide(w) && up(w, 0, 4) != 3 && unfit_hosts(w) == 1 && !tc_replan_fit(w->replan, 3));
    MUST(tc_replan_steps(w->replan, &steps) == 1 && steps[0].why == TC_REPLAN_STUCK);
    gains_nothing(w, 3);
    MUST(decide(w) && up(w, 0, 3) == 0);
    gains_nothing(w, 3);
    MUST(!decide(w)); /* nothing more follows */
    gains_nothing(w, 2);
    lose(w, 1); /* it has another parent by then, which is to be tried */
    MUST(decide(w) && tc_replan_fit(w->replan, 2));
    tc_replan_free(w->replan);
}
END_TEST

/* A complaint of a parent that turns out to be dead says nothing about the child. */
START_TEST(complaints_of_the_dead_are_forgotten)
{
    struct world *w = make(TC_TREE_DOUBLE, 0, 24);
    for (unsigned i = 0; i < 5; i++) {
        uint32_t parent = up(w, 0, 24);
        MUST(parent != 0);
        complain(w, 0, 24, TC_COMPLAINT_LINK);
        lose(w, parent);
        MUST(decide(w));
        gather(w);
        decide(w);
    }
    MUST(unfit_hosts(w) == 0);
    tc_replan_free(w->replan);
}
END_TEST

/* Anything, in any order: what check_table says holds after every decision, and it settles. */
START_TEST(anything_settles)
{
    static double down[MOST + 1], out[MOST + 1];
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint64_t state = seed * 1009 + (uint64_t)_i;
        unsigned hosts = 1 + (unsigned)(any(&state) % (seed % 20 ? 40 : MOST));
        struct world *w = make(kinds[_i].kind, kinds[_i].arity, hosts);
        even(down, hosts);
        even(out, hosts);
        unsigned events = hosts < 100 ? 3 * hosts : 60;
        bool slow = seed % 2 && hosts < 100;
        for (unsigned i = 0; i < events; i++) {
            uint32_t rank = 1 + (uint32_t)(any(&state) % hosts);
            unsigned t = (unsigned)(any(&state) % w->trees);
            unsigned what = (unsigned)(any(&state) % 8);
            if (w->gone[rank])
                continue;
            if (what < 2) {
                lose(w, rank);
            } else if (what == 2 && !w->whole[rank]) {
                w->whole[rank] = true;
                tc_replan_whole(w->replan, rank);
            } else if (what < 6 && !w->whole[rank]) {
                MUST(tc_replan_complain(w->replan, t, rank, up(w, t, rank), any(&state) % 2, w->now, NULL) == 0);
            } else if (what == 6 && !w->whole[rank]) {
                MUST(tc_replan_stuck(w->replan, t, rank, w->now, NULL) == 0);
            } else if (slow) {
                (any(&state) % 2 ? down : out)[rank] = 0.05;
                live(w, (unsigned)(any(&state) % 10), 20, down, out);
            }
            if (any(&state) % 2) {
                gather(w);
                decide(w);
            }
        }
        gather(w);
        decide(w);
        gather(w);
        MUST(slow || (!decide(w) && tc_replan_due(w->replan) == UINT64_MAX));
        MUST(fit_hosts(w) <= hosts);
        tc_replan_free(w->replan);
    }
}
END_TEST

/* Agents on the sender's host hang below it and relay nothing, also when all others are gone. */
START_TEST(test_leaves)
{
    struct tc_err err = {0};
    const struct tc_tree_spec spec = {.kind = TC_TREE_DOUBLE};
    for (unsigned hosts = 0; hosts < 9; hosts++) {
        struct tc_tree *tree = tc_tree_new(spec, hosts, &err);
        struct tc_replan *replan = tc_replan_new(tree, NULL, 2, 1000, &err);
        ck_assert_msg(replan, "%s", err.text);
        for (unsigned t = 0; t < tc_tree_count(tree); t++) {
            for (uint32_t rank = 1; rank <= hosts; rank++)
                ck_assert_uint_eq(tc_replan_parent(replan, t, rank), tc_tree_parent(tree, t, rank));
            ck_assert_uint_eq(tc_replan_parent(replan, t, hosts + 1), 0);
            ck_assert_uint_eq(tc_replan_parent(replan, t, hosts + 2), 0);
        }
        ck_assert(!tc_replan_fit(replan, hosts + 1) && !tc_replan_fit(replan, hosts + 2));
        for (uint32_t rank = 1; rank < hosts; rank++) {
            tc_replan_gone(replan, rank, 1000);
            tc_replan_decide(replan, 1200 + rank * 200, &err);
            for (unsigned t = 0; t < tc_tree_count(tree); t++)
                for (uint32_t other = rank + 1; other <= hosts + 2; other++)
                    ck_assert_uint_le(tc_replan_parent(replan, t, other), hosts);
        }
        tc_replan_free(replan);
        tc_tree_free(tree);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replan");
    TCase *tcase = tcase_create("replan");
    tcase_set_timeout(tcase, 120);
    suite_add_tcase(suite, tcase);
    tcase_add_loop_test(tcase, one_death_moves_its_children_and_an_heir, 0, KINDS);
    tcase_add_loop_test(tcase, a_quarter_dies_at_once, 0, 6 * KINDS);
    tcase_add_loop_test(tcase, hosts_alike_stay_where_they_are, 0, KINDS);
    tcase_add_loop_test(tcase, a_slow_uplink_is_found, 0, 2);
    tcase_add_test(tcase, who_admits_to_be_slow_needs_no_second_witness);
    tcase_add_test(tcase, who_admits_to_be_slow_may_be_wrong);
    tcase_add_test(tcase, who_helps_out_is_not_slow);
    tcase_add_test(tcase, test_leaves);
    tcase_add_test(tcase, whose_parents_stand_still_is_not_slow);
    tcase_add_test(tcase, who_is_ahead_of_its_brothers_is_not_slow);
    tcase_add_test(tcase, a_slow_downlink_is_found);
    tcase_add_test(tcase, a_slow_head_is_found);
    tcase_add_loop_test(tcase, nobody_gives_more_for_one_that_is_moved, 0, 2);
    tcase_add_test(tcase, what_rank_0_slept_through_is_nobodys_fault);
    tcase_add_loop_test(tcase, a_flipping_link_moves_nobody_often, 0, KINDS);
    tcase_add_test(tcase, one_complaint_keeps_a_pair_apart);
    tcase_add_test(tcase, two_who_get_wrong_bytes_make_their_parent_a_leaf);
    tcase_add_test(tcase, who_complains_of_two_is_unfit_itself);
    tcase_add_test(tcase, who_gains_nothing_holds_up_nobody);
    tcase_add_test(tcase, complaints_of_the_dead_are_forgotten);
    tcase_add_loop_test(tcase, anything_settles, 0, KINDS);
    return unit_run(suite);
}
