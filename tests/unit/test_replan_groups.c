/* A group that is entered by one host a tree stays so whatever happens to its hosts, as long as one is fit. */
#include <stdlib.h>
#include <string.h>

#include "plan/replan.h"
#include "unit.h"

#define HOSTS_MOST 200u
#define WORLDS 1000u

#define MUST(condition)                                                      \
    do {                                                                     \
        if (!(condition))                                                    \
            ck_abort_msg("%s fails with seed %u", #condition, current_seed); \
    } while (0)

static unsigned current_seed;
static uint64_t state;

static uint32_t below(uint32_t limit)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % limit;
}

struct world {
    struct tc_topology *topology;
    struct tc_replan *replan;
    uint32_t hosts;
    unsigned trees;
    uint64_t now;
    bool gone[HOSTS_MOST + 1];
    bool accuser[HOSTS_MOST + 1]; /* kept apart from hosts of its group: it may have to be served from elsewhere */
};

/* Racks in rows, and some hosts in neither. */
static struct tc_topology *rows_of_racks(uint32_t hosts)
{
    struct tc_topology *topology = tc_topology_new(hosts + 1, NULL);
    uint32_t rows = 1 + below(4), racks = rows + below(12);
    for (uint32_t i = 0; i < rows; i++)
        MUST(tc_topology_add(topology, TC_GROUP_ALL, "row", NULL) == 1 + i);
    for (uint32_t i = 0; i < racks; i++)
        MUST(tc_topology_add(topology, 1 + below(rows), "rack", NULL) == 1 + rows + i);
    for (uint32_t rank = 0; rank <= hosts; rank++) {
        uint32_t dice = below(20);
        tc_topology_put(topology, rank,
                        dice == 0   ? TC_GROUP_ALL
                        : dice == 1 ? 1 + below(rows)
                                    : 1 + rows + below(racks));
    }
    return topology;
}

static struct world begin(struct tc_tree_spec spec, uint32_t hosts, struct tc_topology *topology)
{
    struct world w = {.hosts = hosts, .topology = topology, .now = 10000};
    struct tc_err err = {0};
    struct tc_tree *tree = tc_tree_new_grouped(spec, w.topology, &err);
    ck_assert_msg(tree, "%s", err.text);
    w.trees = tc_tree_count(tree);
    w.replan = tc_replan_new(tree, w.topology, 0, w.now, &err);
    ck_assert_msg(w.replan, "%s", err.text);
    tc_tree_free(tree);
    return w;
}

static void end(struct world *w)
{
    tc_replan_free(w->replan);
    tc_topology_free(w->topology);
}

static bool inside(const struct world *w, uint32_t rank, uint32_t group)
{
    return tc_topology_inside(w->topology, tc_topology_group_of(w->topology, rank), group);
}

/* Whether group is entered by one host in tree t, and for each in it that has accused others by one more at most; or none
 * in it is fit. */
static bool is_entered_once(const struct world *w, unsigned t, uint32_t group)
{
    uint32_t fit = 0, count = 0, accusers = 0;
    for (uint32_t rank = 1; rank <= w->hosts; rank++) {
        if (w->gone[rank] || !inside(w, rank, group))
            continue;
        fit += tc_replan_fit(w->replan, rank);
        count += !inside(w, tc_replan_parent(w->replan, t, rank), group);
        accusers += w->accuser[rank];
    }
    return fit == 0 || (count >= 1 && count <= 1 + accusers);
}

static void check_entries(const struct world *w)
{
    for (uint32_t group = 1; group < tc_topology_groups(w->topology); group++)
        for (unsigned t = 0; t < w->trees && !inside(w, 0, group); t++)
            MUST(is_entered_once(w, t, group));
}

static void decide(struct world *w)
{
    struct tc_err err = {0};
    w->now += TC_REPLAN_GATHER;
    ck_assert_msg(tc_replan_decide(w->replan, w->now, &err) >= 0, "%s", err.text);
}

static void lose(struct world *w, uint32_t rank)
{
    w->gone[rank] = true;
    tc_replan_gone(w->replan, rank, w->now);
}

/* All children of rank say that they had wrong bytes from it. */
static void accuse(struct world *w, uint32_t rank)
{
    for (unsigned t = 0; t < w->trees; t++)
        for (uint32_t child = 1; child <= w->hosts; child++)
            if (!w->gone[child] && tc_replan_parent(w->replan, t, child) == rank) {
                tc_replan_complain(w->replan, t, child, rank, TC_COMPLAINT_CORRUPT, w->now, NULL);
                w->accuser[child] = true;
            }
}

static const struct tc_tree_spec specs[] = {
    {.kind = TC_TREE_DOUBLE}, {.kind = TC_TREE_BINOMIAL}, {.kind = TC_TREE_CHAIN}, {.kind = TC_TREE_KARY, .arity = 3}};

START_TEST(deaths_leave_one_entry)
{
    for (current_seed = 1; current_seed <= WORLDS; current_seed++) {
        state = current_seed;
        uint32_t hosts = 2 + below(HOSTS_MOST - 1);
        struct world w = begin(specs[_i], hosts, rows_of_racks(hosts));
        for (unsigned turn = 0; turn < 8; turn++) {
            for (uint32_t count = 1 + below(1 + hosts / 12); count > 0; count--)
                lose(&w, 1 + below(hosts));
            decide(&w);
            check_entries(&w);
        }
        end(&w);
    }
}
END_TEST

START_TEST(demotions_leave_one_entry)
{
    for (current_seed = 1; current_seed <= WORLDS; current_seed++) {
        state = current_seed;
        uint32_t hosts = 2 + below(HOSTS_MOST - 1);
        struct world w = begin(specs[_i], hosts, rows_of_racks(hosts));
        for (unsigned turn = 0; turn < 8; turn++) {
            if (below(2))
                lose(&w, 1 + below(hosts));
            uint32_t rank = 1 + below(hosts), children = 0;
            for (unsigned t = 0; t < w.trees; t++)
                for (uint32_t child = 1; child <= hosts; child++)
                    children += !w.gone[child] && tc_replan_parent(w.replan, t, child) == rank;
            if (!w.gone[rank] && children >= 2) /* one word alone only parts the two */
                accuse(&w, rank);
            decide(&w);
            check_entries(&w);
        }
        end(&w);
    }
}
END_TEST

/* Of a rack all but one die or are leaves: the one that is left serves them. */
START_TEST(the_last_fit_host_serves_its_rack)
{
    struct tc_topology *topology = tc_topology_new(25, NULL);
    for (uint32_t rack = 0; rack < 3; rack++)
        tc_topology_add(topology, TC_GROUP_ALL, "rack", NULL);
    for (uint32_t rank = 1; rank <= 24; rank++)
        tc_topology_put(topology, rank, 1 + (rank - 1) / 8);
    struct world w = begin(specs[0], 24, topology);
    for (uint32_t rank = 9; rank <= 15; rank++) {
        lose(&w, rank);
        decide(&w);
        check_entries(&w);
    }
    for (unsigned t = 0; t < 2; t++)
        ck_assert(!inside(&w, tc_replan_parent(w.replan, t, 16), 2));
    end(&w);
}
END_TEST

/* --- uplinks --- */

static struct world four_racks(void)
{
    struct tc_topology *topology = tc_topology_new(33, NULL);
    for (uint32_t rack = 0; rack < 4; rack++)
        tc_topology_add(topology, TC_GROUP_ALL, "rack", NULL);
    for (uint32_t rank = 1; rank <= 32; rank++)
        tc_topology_put(topology, rank, 1 + (rank - 1) / 8);
    return begin(specs[0], 32, topology);
}

struct line { /* of hosts that report four times a second */
    uint32_t held[2][33], brought[2][33];
    unsigned uplinks, others; /* verdicts */
    uint32_t group, rate;
};

/* A quarter of a second: each tree brings 20 chunks, less where share says so, and nobody gets what its parent has not. */
static void live(struct world *w, struct line *line, double (*share)(const struct world *w, uint32_t rank, uint32_t up))
{
    const struct tc_replan_step *steps;
    uint32_t had[2][33];
    memcpy(had, line->held, sizeof had);
    for (uint32_t rank = 1; rank <= 32; rank++) {
        struct tc_sample sample = {.cause = TC_CAUSE_NONE};
        for (unsigned t = 0; t < 2; t++) {
            uint32_t up = tc_replan_parent(w->replan, t, rank);
            uint32_t next = line->held[t][rank] + (uint32_t)(20 * share(w, rank, up));
            next = up != 0 && next > had[t][up] ? had[t][up] : next;
            next = next < line->held[t][rank] ? line->held[t][rank] : next;
            line->brought[t][rank] += next - line->held[t][rank];
            sample.trees[t].held = line->held[t][rank] = next;
            sample.trees[t].brought = line->brought[t][rank];
        }
        tc_replan_report(w->replan, rank, &sample, w->now);
    }
    w->now += 150;
    decide(w);
    unsigned count = tc_replan_steps(w->replan, &steps);
    for (unsigned i = 0; i < count; i++) {
        line->uplinks += steps[i].why == TC_REPLAN_UPLINK;
        line->others += steps[i].why != TC_REPLAN_UPLINK;
        line->group = steps[i].group;
        line->rate = steps[i].rate;
    }
}

static double slow_third_rack(const struct world *w, uint32_t rank, uint32_t up)
{
    return inside(w, rank, 3) != inside(w, up, 3) ? 0.4 : 1;
}

/* All that crosses one uplink lags: it is named with what it carries, nobody is a leaf for it, and nobody elsewhere is
 * served through it any more. */
START_TEST(a_slow_uplink_is_nobodys_fault)
{
    static struct line line;
    struct world w = four_racks();
    memset(&line, 0, sizeof line);
    for (unsigned quarter = 0; quarter < 60; quarter++)
        live(&w, &line, slow_third_rack);
    ck_assert_uint_eq(line.uplinks, 1);
    ck_assert_uint_eq(line.others, 0);
    ck_assert_uint_eq(line.group, 3);
    ck_assert(line.rate >= 50 && line.rate <= 80); /* two trees of four times 8 */
    for (uint32_t rank = 1; rank <= 32; rank++) {
        ck_assert(tc_replan_fit(w.replan, rank));
        for (unsigned t = 0; t < 2 && !inside(&w, rank, 3); t++)
            ck_assert(!inside(&w, tc_replan_parent(w.replan, t, rank), 3));
    }
    check_entries(&w);
    end(&w);
}
END_TEST

static double slow_link(const struct world *w, uint32_t rank, uint32_t up)
{
    (void)w;
    return rank == 9 || up == 9 ? 0.1 : 1;
}

/* But a host that enters a rack and is slow itself is told from the uplink: what else comes in is as fast as ever. */
START_TEST(a_slow_host_is_not_taken_for_its_uplink)
{
    static struct line line;
    struct world w = four_racks();
    memset(&line, 0, sizeof line);
    for (unsigned quarter = 0; quarter < 60; quarter++)
        live(&w, &line, slow_link);
    ck_assert_uint_eq(line.uplinks, 0);
    ck_assert(!tc_replan_fit(w.replan, 9));
    check_entries(&w);
    end(&w);
}
END_TEST

static double even(const struct world *w, uint32_t rank, uint32_t up)
{
    (void)w, (void)rank, (void)up;
    return 1;
}

START_TEST(racks_alike_stay_as_they_are)
{
    static struct line line;
    struct world w = four_racks();
    memset(&line, 0, sizeof line);
    for (unsigned quarter = 0; quarter < 60; quarter++)
        live(&w, &line, even);
    ck_assert_uint_eq(line.uplinks + line.others, 0);
    end(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replan_groups");
    TCase *tc = tcase_create("replan_groups");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, deaths_leave_one_entry, 0, sizeof specs / sizeof specs[0]);
    tcase_add_loop_test(tc, demotions_leave_one_entry, 0, sizeof specs / sizeof specs[0]);
    tcase_add_test(tc, the_last_fit_host_serves_its_rack);
    tcase_add_test(tc, a_slow_uplink_is_nobodys_fault);
    tcase_add_test(tc, a_slow_host_is_not_taken_for_its_uplink);
    tcase_add_test(tc, racks_alike_stay_as_they_are);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
