#include "plan/topology.h"

#include <stdlib.h>
#include <string.h>

#include "plan/tree.h"
#include "unit.h"

#define HOSTS_MOST 4096u
#define NESTINGS 3000u

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

static uint32_t log2_up(uint32_t n)
{
    uint32_t bits = 0;
    while ((1u << bits) < n)
        bits++;
    return bits;
}

static struct tc_topology *new_topology(uint32_t members)
{
    struct tc_err err = {0};
    struct tc_topology *topology = tc_topology_new(members, &err);
    ck_assert_msg(topology, "%s", err.text);
    return topology;
}

static uint32_t add(struct tc_topology *topology, uint32_t parent, const char *name)
{
    struct tc_err err = {0};
    uint32_t group = tc_topology_add(topology, parent, name, &err);
    ck_assert_msg(group != TC_NO_GROUP, "%s", err.text);
    return group;
}

/* Groups at random, some empty, some of one, members anywhere. */
static struct tc_topology *any_nesting(void)
{
    uint32_t hosts = 1 + below(below(4) == 0 ? HOSTS_MOST : 200), depth = 1 + below(5);
    struct tc_topology *topology = new_topology(hosts + 1);
    uint32_t groups = 1 + below(below(2) ? 8 : 1 + hosts / 2);
    uint32_t *levels = calloc(groups + 2, sizeof *levels);
    for (uint32_t i = 0; i < groups; i++) {
        uint32_t parent = below(i + 1);
        while (levels[parent] >= depth)
            parent = tc_topology_parent(topology, parent);
        levels[add(topology, parent, "g")] = levels[parent] + 1;
    }
    bool sorted = below(2);
    for (uint32_t rank = 0; rank <= hosts; rank++) {
        uint32_t group = sorted ? (uint32_t)((uint64_t)rank * (groups + 1) / (hosts + 1)) : below(groups + 1);
        tc_topology_put(topology, rank, rank == 0 && below(2) ? TC_GROUP_ALL : group);
    }
    free(levels);
    return topology;
}

/* count racks of size hosts, the coordinator in one of them or outside. */
static struct tc_topology *racks(uint32_t count, uint32_t size, bool inside, bool mixed)
{
    uint32_t hosts = count * size - inside;
    struct tc_topology *topology = new_topology(hosts + 1);
    for (uint32_t i = 0; i < count; i++)
        add(topology, TC_GROUP_ALL, "rack");
    for (uint32_t rank = inside ? 0 : 1; rank <= hosts; rank++) {
        uint32_t place = inside ? rank : rank - 1;
        tc_topology_put(topology, rank, 1 + (mixed ? place % count : place / size));
    }
    return topology;
}

static struct tc_tree *plant(struct tc_tree_spec spec, const struct tc_topology *topology)
{
    struct tc_err err = {0};
    struct tc_tree *tree = tc_tree_new_grouped(spec, topology, &err);
    ck_assert_msg(tree, "%s", err.text);
    return tree;
}

static void check_spanning(const struct tc_tree *tree, unsigned t)
{
    uint32_t hosts = tc_tree_hosts(tree), edges = 0;
    for (uint32_t rank = 0; rank <= hosts; rank++) {
        const uint32_t *children;
        unsigned count = tc_tree_children(tree, t, rank, &children);
        edges += count;
        for (unsigned i = 0; i < count; i++)
            MUST(tc_tree_parent(tree, t, children[i]) == rank);
        uint32_t hops = 0;
        for (uint32_t at = rank; at != 0; at = tc_tree_parent(tree, t, at))
            MUST(hops++ < hosts);
    }
    MUST(edges == hosts);
}

/* Edges of tree t into each group from outside, and out of it. */
static void count_crossings(const struct tc_tree *tree, unsigned t, const struct tc_topology *topology, uint32_t *in,
                            uint32_t *out)
{
    for (uint32_t rank = 1; rank <= tc_tree_hosts(tree); rank++) {
        uint32_t to = tc_topology_group_of(topology, rank);
        uint32_t from = tc_topology_group_of(topology, tc_tree_parent(tree, t, rank));
        for (uint32_t group = to; !tc_topology_inside(topology, from, group);)
            in[group]++, group = tc_topology_parent(topology, group);
        for (uint32_t group = from; !tc_topology_inside(topology, to, group);)
            out[group]++, group = tc_topology_parent(topology, group);
    }
}

struct crossings {
    uint32_t *in[2], *out[2], *members, groups;
};

static struct crossings cross(const struct tc_tree *tree, const struct tc_topology *topology)
{
    struct crossings found = {.groups = tc_topology_groups(topology)};
    found.members = calloc(found.groups, sizeof *found.members);
    for (uint32_t rank = 0; rank < tc_topology_members(topology); rank++)
        for (uint32_t group = tc_topology_group_of(topology, rank); group != TC_NO_GROUP;
             group = tc_topology_parent(topology, group))
            found.members[group]++;
    for (unsigned t = 0; t < 2; t++) {
        found.in[t] = calloc(found.groups, sizeof *found.in[t]);
        found.out[t] = calloc(found.groups, sizeof *found.out[t]);
        if (t < tc_tree_count(tree))
            count_crossings(tree, t, topology, found.in[t], found.out[t]);
    }
    return found;
}

static void crossings_free(struct crossings *found)
{
    for (unsigned t = 0; t < 2; t++) {
        free(found->in[t]);
        free(found->out[t]);
    }
    free(found->members);
}

/* Each group is entered once in each tree, but not that of the coordinator; of two trees it is left twice at most. */
static void check_crossings(const struct tc_tree *tree, const struct tc_topology *topology, bool bounded)
{
    struct crossings found = cross(tree, topology);
    for (uint32_t group = 1; group < found.groups; group++) {
        bool own = tc_topology_inside(topology, tc_topology_group_of(topology, 0), group);
        for (unsigned t = 0; t < tc_tree_count(tree); t++)
            MUST(found.in[t][group] == (found.members[group] > 0 && !own));
        MUST(!bounded || found.out[0][group] + found.out[1][group] <= 2);
    }
    crossings_free(&found);
}

static void check_loads(const struct tc_tree *tree, const struct tc_topology *topology)
{
    uint32_t *in_both = calloc(tc_topology_groups(topology), sizeof *in_both);
    for (uint32_t rank = 0; rank <= tc_tree_hosts(tree); rank++) {
        const uint32_t *children;
        MUST(tc_tree_load(tree, rank) <= 1);
        bool relays = tc_tree_children(tree, 0, rank, &children) > 0 && tc_tree_children(tree, 1, rank, &children) > 0;
        if (rank > 0 && relays)
            in_both[tc_topology_group_of(topology, rank)]++;
    }
    for (uint32_t group = 0; group < tc_topology_groups(topology); group++)
        MUST(in_both[group] <= 1);
    free(in_both);
}

START_TEST(two_trees_enter_each_group_once)
{
    for (current_seed = 1; current_seed <= NESTINGS; current_seed++) {
        state = current_seed;
        struct tc_topology *topology = any_nesting();
        struct tc_tree *tree = plant((struct tc_tree_spec){.kind = TC_TREE_DOUBLE}, topology);
        check_spanning(tree, 0);
        check_spanning(tree, 1);
        check_crossings(tree, topology, true);
        check_loads(tree, topology);
        tc_tree_free(tree);
        tc_topology_free(topology);
    }
}
END_TEST

START_TEST(other_kinds_enter_each_group_once)
{
    static const struct tc_tree_spec specs[] = {{.kind = TC_TREE_BINOMIAL},
                                                {.kind = TC_TREE_CHAIN},
                                                {.kind = TC_TREE_KARY, .arity = 1},
                                                {.kind = TC_TREE_KARY, .arity = 3}};
    for (current_seed = 1; current_seed <= NESTINGS / 4; current_seed++) {
        for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
            state = current_seed;
            struct tc_topology *topology = any_nesting();
            struct tc_tree *tree = plant(specs[i], topology);
            MUST(tc_tree_count(tree) == 1);
            if (specs[i].kind != TC_TREE_CHAIN || tc_tree_hosts(tree) < 300)
                check_spanning(tree, 0);
            check_crossings(tree, topology, false);
            tc_tree_free(tree);
            tc_topology_free(topology);
        }
    }
}
END_TEST

START_TEST(two_levels_stay_shallow)
{
    for (uint32_t count = 1; count <= 140; count += count < 20 ? 1 : 13) {
        for (uint32_t size = 1; count * size <= HOSTS_MOST && size <= 140; size += size < 20 ? 1 : 13) {
            for (unsigned how = 0; how < 4; how++) {
                struct tc_topology *topology = racks(count, size, how & 1, how & 2);
                struct tc_tree *tree = plant((struct tc_tree_spec){.kind = TC_TREE_DOUBLE}, topology);
                uint32_t most = 2 * log2_up(count) + log2_up(size) + 4;
                for (unsigned t = 0; t < 2; t++)
                    ck_assert_msg(tc_tree_depth(tree, t) <= most, "%u racks of %u: depth %u, more than %u", count, size,
                                  tc_tree_depth(tree, t), most);
                check_crossings(tree, topology, true);
                check_loads(tree, topology);
                tc_tree_free(tree);
                tc_topology_free(topology);
            }
        }
    }
}
END_TEST

/* The order of the list does not matter where groups are known. */
START_TEST(groups_of_one_change_nothing)
{
    struct tc_topology *topology = new_topology(101);
    struct tc_tree *flat = tc_tree_new((struct tc_tree_spec){.kind = TC_TREE_DOUBLE}, 100, NULL);
    for (uint32_t rank = 1; rank <= 100; rank++)
        tc_topology_put(topology, rank, add(topology, TC_GROUP_ALL, "alone"));
    struct tc_tree *tree = plant((struct tc_tree_spec){.kind = TC_TREE_DOUBLE}, topology);
    for (unsigned t = 0; t < 2; t++)
        for (uint32_t rank = 1; rank <= 100; rank++)
            ck_assert_uint_eq(tc_tree_parent(tree, t, rank), tc_tree_parent(flat, t, rank));
    tc_tree_free(flat);
    tc_tree_free(tree);
    tc_topology_free(topology);
}
END_TEST

START_TEST(groups_are_a_value)
{
    static const uint32_t chosen[] = {0, 3, 1};
    char path[200];
    struct tc_topology *topology = new_topology(4);
    uint32_t row = add(topology, TC_GROUP_ALL, "row2"), rack = add(topology, row, "rack7");
    ck_assert(!tc_topology_known(topology));
    tc_topology_put(topology, 3, rack);
    tc_topology_put(topology, 1, row);
    ck_assert(tc_topology_known(topology));
    struct tc_topology *picked = tc_topology_pick(topology, chosen, 3, NULL);
    tc_topology_free(topology);
    ck_assert_uint_eq(tc_topology_members(picked), 3);
    ck_assert_uint_eq(tc_topology_groups(picked), 3);
    ck_assert_uint_eq(tc_topology_group_of(picked, 1), rack);
    ck_assert_uint_eq(tc_topology_group_of(picked, 2), row);
    ck_assert_str_eq(tc_topology_path(picked, rack, path, sizeof path), "row2.rack7");
    ck_assert_str_eq(tc_topology_path(picked, rack, path, 7), "row2.r");
    ck_assert_str_eq(tc_topology_path(picked, TC_GROUP_ALL, path, sizeof path), "");
    ck_assert(tc_topology_inside(picked, rack, row) && tc_topology_inside(picked, rack, TC_GROUP_ALL));
    ck_assert(tc_topology_inside(picked, row, row) && !tc_topology_inside(picked, row, rack));
    tc_topology_free(picked);
}
END_TEST

START_TEST(groups_have_limits)
{
    struct tc_err err = {0};
    struct tc_topology *topology = new_topology(2);
    uint32_t group = TC_GROUP_ALL;
    for (unsigned depth = 0; depth < TC_GROUP_DEPTH_MAX; depth++)
        group = add(topology, group, "deep");
    ck_assert_uint_eq(tc_topology_add(topology, group, "deeper", &err), TC_NO_GROUP);
    ck_assert_int_eq(err.reason, TC_E_LIMIT);
    for (unsigned i = TC_GROUP_DEPTH_MAX + 1; i < TC_GROUPS_MAX; i++)
        add(topology, TC_GROUP_ALL, "wide");
    ck_assert_uint_eq(tc_topology_add(topology, TC_GROUP_ALL, "wider", &err), TC_NO_GROUP);
    tc_topology_free(topology);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("topology");
    TCase *tc = tcase_create("topology");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, two_trees_enter_each_group_once);
    tcase_add_test(tc, other_kinds_enter_each_group_once);
    tcase_add_test(tc, two_levels_stay_shallow);
    tcase_add_test(tc, groups_of_one_change_nothing);
    tcase_add_test(tc, groups_are_a_value);
    tcase_add_test(tc, groups_have_limits);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
