#include "plan/tree.h"

#include <math.h>
#include <string.h>

#include "plan/hostlist.h"
#include "unit.h"

#define MOST 1024u /* every number of hosts up to here */

/* As ck_assert, which is too slow to be called for every edge of every tree. */
#define MUST(condition)                           \
    do {                                          \
        if (!(condition))                         \
            ck_abort_msg("%s fails", #condition); \
    } while (0)

static struct tc_tree *make_spec(struct tc_tree_spec spec, unsigned hosts)
{
    struct tc_err err = {0};
    struct tc_tree *tree = tc_tree_new(spec, hosts, &err);
    ck_assert_msg(tree, "%s", err.text);
    MUST(tc_tree_hosts(tree) == hosts);
    return tree;
}

static struct tc_tree *make(enum tc_tree_kind kind, unsigned arity, unsigned hosts)
{
    return make_spec((struct tc_tree_spec){.kind = kind, .arity = arity}, hosts);
}

static unsigned log2_up(unsigned n)
{
    unsigned bits = 0;
    while ((1u << bits) < n)
        bits++;
    return bits;
}

static unsigned children_of(const struct tc_tree *tree, unsigned t, uint32_t rank)
{
    const uint32_t *children;
    return tc_tree_children(tree, t, rank, &children);
}

static unsigned hops_of(const struct tc_tree *tree, unsigned t, uint32_t rank)
{
    unsigned hops = 0;
    for (; rank != 0; rank = tc_tree_parent(tree, t, rank)) {
        MUST(rank <= tc_tree_hosts(tree));
        MUST(hops++ < tc_tree_hosts(tree)); /* more would be a ring */
    }
    return hops;
}

/* Every rank reaches the root, the two directions of an edge agree, depth and load are what the edges say. */
static void check_spanning(const struct tc_tree *tree)
{
    static double load[MOST + 1];
    unsigned hosts = tc_tree_hosts(tree), trees = tc_tree_count(tree);
    memset(load, 0, sizeof load);
    for (unsigned t = 0; t < trees; t++) {
        static unsigned char seen[MOST + 1];
        unsigned deepest = 0, edges = 0;
        memset(seen, 0, sizeof seen);
        MUST(tc_tree_parent(tree, t, 0) == TC_NO_RANK);
        for (uint32_t rank = 0; rank <= hosts; rank++) {
            const uint32_t *children;
            unsigned count = tc_tree_children(tree, t, rank, &children), hops = hops_of(tree, t, rank);
            deepest = hops > deepest ? hops : deepest;
            load[rank] += (double)count / trees;
            edges += count;
            for (unsigned i = 0; i < count; i++) {
                MUST(tc_tree_parent(tree, t, children[i]) == rank);
                MUST(seen[children[i]]++ == 0);
            }
        }
        MUST(edges == hosts);
        MUST(tc_tree_depth(tree, t) == deepest);
    }
    for (uint32_t rank = 0; rank <= hosts; rank++)
        MUST(fabs(tc_tree_load(tree, rank) - load[rank]) < 1e-9);
}

START_TEST(every_kind_spans)
{
    static const struct tc_tree_spec specs[] = {{.kind = TC_TREE_BINOMIAL},
                                                {.kind = TC_TREE_DOUBLE},
                                                {.kind = TC_TREE_DOUBLE, .runs = true},
                                                {.kind = TC_TREE_CATERPILLAR},
                                                {.kind = TC_TREE_KARY, .arity = 2},
                                                {.kind = TC_TREE_KARY, .arity = 3},
                                                {.kind = TC_TREE_KARY, .arity = 7},
                                                {.kind = TC_TREE_KARY, .arity = 5000}};
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        for (unsigned hosts = 0; hosts <= MOST; hosts++) {
            bool two = specs[i].kind == TC_TREE_DOUBLE || specs[i].kind == TC_TREE_CATERPILLAR;
            struct tc_tree *tree = make_spec(specs[i], hosts);
            check_spanning(tree);
            MUST(tc_tree_count(tree) == (two ? 2 : 1));
            tc_tree_free(tree);
        }
    }
}
END_TEST

START_TEST(double_relays_in_one_tree_only)
{
    for (unsigned hosts = 0; hosts <= MOST; hosts++) {
        struct tc_tree *tree = make(TC_TREE_DOUBLE, 0, hosts);
        for (unsigned t = 0; t < 2; t++) {
            MUST(children_of(tree, t, 0) == (hosts ? 1 : 0));
            MUST(tc_tree_depth(tree, t) <= log2_up(hosts) + 1);
        }
        for (uint32_t rank = 1; rank <= hosts; rank++) {
            unsigned one = children_of(tree, 0, rank), two = children_of(tree, 1, rank);
            MUST(one == 0 || two == 0);
            MUST(one + two <= 2);
            MUST(tc_tree_load(tree, rank) <= 1);
        }
        ck_assert_double_eq_tol(tc_tree_load(tree, 0), hosts ? 1 : 0, 1e-9);
        tc_tree_free(tree);
    }
}
END_TEST

/* Copies that enter the hosts first .. first + count - 1 from elsewhere, and that leave them. */
static double copies_into(const struct tc_tree *tree, uint32_t first, uint32_t count)
{
    unsigned edges = 0;
    for (unsigned t = 0; t < tc_tree_count(tree); t++)
        for (uint32_t rank = first; rank < first + count; rank++)
            edges += tc_tree_parent(tree, t, rank) - first >= count;
    return (double)edges / tc_tree_count(tree);
}

/* Wherever neighbours of the list are cut out of it, as a rack is: caterpillars enter them twice at most, runs a few
 * times, and a heap as often as there are hosts. */
START_TEST(neighbours_keep_together)
{
    static const struct {
        struct tc_tree_spec spec;
        unsigned rack;
        double most;
    } cases[] = {{{.kind = TC_TREE_CATERPILLAR}, 8, 2},
                 {{.kind = TC_TREE_CATERPILLAR}, 40, 2},
                 {{.kind = TC_TREE_DOUBLE, .runs = true}, 8, 4},
                 {{.kind = TC_TREE_DOUBLE, .runs = true}, 40, 7}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (unsigned hosts = 64; hosts <= MOST; hosts *= 2) {
            struct tc_tree *tree = make_spec(cases[i].spec, hosts);
            for (uint32_t first = 1; first + cases[i].rack <= hosts + 1; first++)
                MUST(copies_into(tree, first, cases[i].rack) <= cases[i].most);
            for (uint32_t rank = 0; rank <= hosts; rank++)
                MUST(tc_tree_load(tree, rank) <= 1);
            for (uint32_t rank = 1; rank <= hosts; rank++)
                MUST(children_of(tree, 0, rank) == 0 || children_of(tree, 1, rank) == 0);
            tc_tree_free(tree);
        }
    }
}
END_TEST

START_TEST(runs_stay_shallow)
{
    for (unsigned hosts = 1; hosts <= 4096; hosts = hosts * 5 / 4 + 1) {
        struct tc_tree *tree = make_spec((struct tc_tree_spec){.kind = TC_TREE_DOUBLE, .runs = true}, hosts);
        for (unsigned t = 0; t < 2; t++)
            MUST(tc_tree_depth(tree, t) <= 2 * log2_up(hosts) + 4);
        tc_tree_free(tree);
    }
}
END_TEST

static unsigned subtree(const struct tc_tree *tree, uint32_t rank)
{
    const uint32_t *children;
    unsigned count = tc_tree_children(tree, 0, rank, &children), size = 1;
    for (unsigned i = 0; i < count; i++)
        size += subtree(tree, children[i]);
    return size;
}

/* Rounds until all have one chunk, when a sender serves one child a round in the order of its children. */
static unsigned rounds(const struct tc_tree *tree, uint32_t rank)
{
    const uint32_t *children;
    unsigned count = tc_tree_children(tree, 0, rank, &children), most = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned end = i + 1 + rounds(tree, children[i]);
        most = end > most ? end : most;
    }
    return most;
}

START_TEST(binomial_takes_log2_rounds)
{
    for (unsigned hosts = 0; hosts <= MOST; hosts++) {
        struct tc_tree *tree = make(TC_TREE_BINOMIAL, 0, hosts);
        unsigned limit = log2_up(hosts + 1);
        MUST(children_of(tree, 0, 0) == limit);
        MUST(tc_tree_depth(tree, 0) <= limit);
        MUST(rounds(tree, 0) == limit);
        if (hosts + 1 == 1u << limit)
            MUST(tc_tree_depth(tree, 0) == limit);
        for (uint32_t rank = 0; rank <= hosts; rank++) {
            const uint32_t *children;
            unsigned count = tc_tree_children(tree, 0, rank, &children);
            for (unsigned i = 1; i < count; i++)
                MUST(subtree(tree, children[i - 1]) >= subtree(tree, children[i]));
        }
        tc_tree_free(tree);
    }
}
END_TEST

START_TEST(chain_is_a_line)
{
    for (unsigned hosts = 0; hosts <= MOST; hosts++) {
        struct tc_tree *tree = make(TC_TREE_CHAIN, 0, hosts);
        MUST(tc_tree_depth(tree, 0) == hosts);
        for (uint32_t rank = 0; rank <= hosts; rank++) {
            MUST(tc_tree_parent(tree, 0, rank) == (rank ? rank - 1 : TC_NO_RANK));
            MUST(children_of(tree, 0, rank) == (rank < hosts));
        }
        tc_tree_free(tree);
    }
}
END_TEST

START_TEST(kary_is_a_heap)
{
    for (unsigned arity = 1; arity <= 9; arity++) {
        for (unsigned hosts = 0; hosts <= MOST; hosts += 7) {
            struct tc_tree *tree = make(TC_TREE_KARY, arity, hosts);
            for (uint32_t rank = 1; rank <= hosts; rank++)
                MUST(tc_tree_parent(tree, 0, rank) == (rank - 1) / arity);
            tc_tree_free(tree);
        }
    }
}
END_TEST

START_TEST(as_many_hosts_as_a_list_holds)
{
    struct tc_err err = {0};
    for (unsigned kind = TC_TREE_BINOMIAL; kind <= TC_TREE_KARY; kind++) {
        struct tc_tree *tree = make((enum tc_tree_kind)kind, TC_HOSTS_MAX, TC_HOSTS_MAX);
        ck_assert_uint_gt(tc_tree_depth(tree, 0), 0);
        tc_tree_free(tree);
    }
    ck_assert_ptr_null(tc_tree_new((struct tc_tree_spec){.kind = TC_TREE_CHAIN}, TC_HOSTS_MAX + 1, &err));
    ck_assert_int_eq(err.reason, TC_E_USAGE);
    err.reason = 0;
    ck_assert_ptr_null(tc_tree_new((struct tc_tree_spec){.kind = TC_TREE_AUTO}, 4, &err));
    ck_assert_int_eq(err.reason, TC_E_USAGE);
}
END_TEST

START_TEST(kinds_print_as_they_parse)
{
    static const char *const good[] = {"auto",  "binomial", "double", "caterpillar",
                                       "chain", "kary:1",   "kary:4", "kary:65536"};
    static const char *const bad[] = {
        "",        "Double",  "kary",    "kary:", "kary:0",     "0",       "kary:x",
        "kary:-1", "kary:+1", "kary: 2", "2x",    "kary:65537", "double ", "999999999999999999999"};
    struct tc_tree_spec spec;
    char text[32];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_int_eq(tc_tree_parse(&spec, good[i], NULL), 0);
        ck_assert_str_eq(tc_tree_print(spec, text), good[i]);
    }
    ck_assert_int_eq(tc_tree_parse(&spec, "16", NULL), 0);
    ck_assert_str_eq(tc_tree_print(spec, text), "kary:16");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tc_err err = {0};
        ck_assert_msg(tc_tree_parse(&spec, bad[i], &err) == -TC_E_USAGE, "'%s' was taken", bad[i]);
        ck_assert_ptr_nonnull(strstr(err.text, "kary:N"));
    }
}
END_TEST

static double predict(enum tc_tree_kind kind, unsigned hosts, uint64_t size, uint32_t chunk, double latency)
{
    struct tc_tree *tree = make(kind, 0, hosts);
    double time = tc_tree_predict(tree, size, chunk, (struct tc_network){.rate = 1e6, .latency = latency});
    tc_tree_free(tree);
    return time;
}

/* One second is one chunk on one link. */
START_TEST(model_agrees_with_counting)
{
    ck_assert_double_eq_tol(predict(TC_TREE_CHAIN, 10, 5000000, 1000000, 0), 10 + 4, 1e-9);
    ck_assert_double_eq_tol(predict(TC_TREE_CHAIN, 10, 5000000, 1000000, 0.5), 10 + 4 + 5, 1e-9);
    for (unsigned hosts = 1; hosts <= 64; hosts++) {
        unsigned round = log2_up(hosts + 1);
        double time = predict(TC_TREE_BINOMIAL, hosts, 3000000, 1000000, 0);
        ck_assert_double_eq_tol(predict(TC_TREE_BINOMIAL, hosts, 1000000, 1000000, 0), round, 1e-9);
        ck_assert_double_eq_tol(time, 3 * round, 1e-9);
    }
    /* No kind beats one copy, and double comes close to it with many chunks. */
    ck_assert_double_ge(predict(TC_TREE_DOUBLE, 64, 1000000000, 1000000, 0), 1000);
    ck_assert_double_le(predict(TC_TREE_DOUBLE, 64, 1000000000, 1000000, 0), 1020);
    ck_assert_double_eq_tol(predict(TC_TREE_DOUBLE, 0, 1000000, 1000000, 1), 0, 1e-9);
    ck_assert(isfinite(predict(TC_TREE_DOUBLE, 9, 0, 0, 1)));
    ck_assert(isfinite(predict(TC_TREE_DOUBLE, 9, UINT64_MAX, 1, 1)));
}
END_TEST

static struct tc_tree_spec choice(unsigned hosts, uint64_t size, uint32_t chunk)
{
    return tc_tree_choose((struct tc_tree_spec){.kind = TC_TREE_AUTO}, NULL, hosts, size, chunk, TC_NETWORK_DEFAULT);
}

START_TEST(auto_is_binomial_when_small_double_when_large)
{
    for (unsigned hosts = 0; hosts <= 1; hosts++)
        ck_assert_int_eq(choice(hosts, 1ull << 36, 1u << 20).kind, TC_TREE_BINOMIAL);
    for (unsigned hosts = 2; hosts <= MOST; hosts += hosts < 40 ? 1 : 41) {
        ck_assert_int_eq(choice(hosts, 0, 1u << 20).kind, TC_TREE_BINOMIAL);
        ck_assert_int_eq(choice(hosts, 65536, 1u << 20).kind, TC_TREE_BINOMIAL);
        enum tc_tree_kind large = choice(hosts, 1ull << 36, 1u << 20).kind;
        ck_assert(hosts <= 4 ? large == TC_TREE_DOUBLE || large == TC_TREE_CHAIN : large == TC_TREE_DOUBLE);
    }
    struct tc_tree_spec spec = {.kind = TC_TREE_KARY, .arity = 3};
    spec = tc_tree_choose(spec, NULL, 100, 1, 65536, TC_NETWORK_DEFAULT);
    ck_assert(spec.kind == TC_TREE_KARY && spec.arity == 3);
}
END_TEST

/* What locality costs is time to fill, and that weighs the less the more chunks there are. */
START_TEST(auto_weighs_depth_against_locality)
{
    struct tc_tree_spec few = choice(64, 2u << 20, 65536), many = choice(64, 64u << 20, 65536);
    struct tc_tree_spec wide = choice(2048, 1u << 30, 65536);
    ck_assert(!few.runs);
    ck_assert(many.kind == TC_TREE_DOUBLE && many.runs);
    ck_assert(wide.kind == TC_TREE_DOUBLE && wide.runs);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tree");
    TCase *tc = tcase_create("tree");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, every_kind_spans);
    tcase_add_test(tc, double_relays_in_one_tree_only);
    tcase_add_test(tc, binomial_takes_log2_rounds);
    tcase_add_test(tc, chain_is_a_line);
    tcase_add_test(tc, kary_is_a_heap);
    tcase_add_test(tc, as_many_hosts_as_a_list_holds);
    tcase_add_test(tc, kinds_print_as_they_parse);
    tcase_add_test(tc, model_agrees_with_counting);
    tcase_add_test(tc, auto_is_binomial_when_small_double_when_large);
    tcase_add_test(tc, auto_weighs_depth_against_locality);
    tcase_add_test(tc, neighbours_keep_together);
    tcase_add_test(tc, runs_stay_shallow);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
