/* A group that is entered by one host a tree stays so whatever happens to its hosts, as long as one is fit. */
#include <stdlib.h>
#include <string.h>

#include "plan/replan.h"
#include "unit.h"

#define HOSTS_MOST 200u
#define WORLDS 1000u

#define MUST(condition)                                                     \
    do {                                                                    \
        if (!(condition))                                                   \
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
        tc_topology_put(topology, rank, dice == 0 ? TC_GROUP_ALL : dice == 1 ? 1 + below(rows) : 1 + rows + below(racks));
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

int main(void)
{
    Suite *suite = suite_create("replan_groups");
    TCase *tc = tcase_create("replan_groups");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, deaths_leave_one_entry, 0, sizeof specs / sizeof specs[0]);
    tcase_add_loop_test(tc, demotions_leave_one_entry, 0, sizeof specs / sizeof specs[0]);
    tcase_add_test(tc, the_last_fit_host_serves_its_rack);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
