/* tree.h - which host gives which chunks to which.
 *
 * A plan is a table of T spanning trees over ranks 0..hosts; rank 0 is the coordinator and the root of each. Chunk c
 * travels down tree c mod T. Pure: no clock, no I/O, no locks.
 *
 * Source of the double tree: Sanders, Speck, Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and
 * scan", Parallel Computing 35 (2009). */
#ifndef TC_PLAN_TREE_H
#define TC_PLAN_TREE_H

#include <stdint.h>

#include "base/err.h"
#include "plan/topology.h"

enum tc_tree_kind {
    TC_TREE_AUTO,
    TC_TREE_BINOMIAL,
    TC_TREE_DOUBLE,
    TC_TREE_CATERPILLAR, /* two chains, of every other host, each of which gives to the host beside it too */
    TC_TREE_CHAIN,
    TC_TREE_KARY
};

struct tc_tree_spec {
    enum tc_tree_kind kind;
    unsigned arity; /* kary only, >= 1 */
    bool runs;      /* double without groups: neighbours of the list keep together */
};

#define TC_NO_RANK UINT32_MAX
#define TC_TREES_MAX 2u

/* "auto", "binomial", "double", "caterpillar", "chain", "kary:N", "N". TC_E_USAGE names the kinds. print is the inverse. */
int tc_tree_parse(struct tc_tree_spec *spec, const char *text, struct tc_err *err);
const char *tc_tree_print(struct tc_tree_spec spec, char text[32]);

struct tc_tree;

/* The first table for hosts receivers (>= 0), all fit to relay, ranks 1..hosts in the order of the host list. AUTO is
 * not a table's kind (TC_E_USAGE): tc_tree_choose first. NULL on error. */
struct tc_tree *tc_tree_new(struct tc_tree_spec spec, unsigned hosts, struct tc_err *err);
/* The same for the members of topology: rank 0 and the hosts. Each group is entered by one host a tree; of the double tree
 * no group takes in or lets out more than one copy either, and at most one of the hosts and groups that a group consists
 * of relays in both trees. */
struct tc_tree *tc_tree_new_grouped(struct tc_tree_spec spec, const struct tc_topology *topology, struct tc_err *err);
void tc_tree_free(struct tc_tree *tree);

unsigned tc_tree_hosts(const struct tc_tree *tree);
unsigned tc_tree_count(const struct tc_tree *tree); /* T */
struct tc_tree_spec tc_tree_spec(const struct tc_tree *tree);
/* TC_NO_RANK for the root. */
uint32_t tc_tree_parent(const struct tc_tree *tree, unsigned t, uint32_t rank);
/* Children in the order they are served; borrowed until the table ends. Returns their number. */
unsigned tc_tree_children(const struct tc_tree *tree, unsigned t, uint32_t rank, const uint32_t **children);
unsigned tc_tree_depth(const struct tc_tree *tree, unsigned t); /* hops from the root to the farthest host */
/* How many times the array's bytes rank sends in all trees: children in tree t count 1/T each. */
double tc_tree_load(const struct tc_tree *tree, uint32_t rank);

/* How many copies of the array enter each group of topology, whose members are the tree's ranks, and leave it: in and out
 * by group. */
void tc_tree_crossings(const struct tc_tree *tree, const struct tc_topology *topology, double *in, double *out);

/* The model behind auto and the predicted time of `treecast plan`: seconds until the last host has everything, when
 * every host's uplink and downlink carry rate bytes/s, a hop costs latency seconds, and chunks are stored and
 * forwarded, to one child after the other. */
struct tc_network {
    double rate;    /* bytes a second of one link, one way */
    double latency; /* seconds from one host to the next, message to action */
};
#define TC_NETWORK_DEFAULT ((struct tc_network){.rate = 1.25e9, .latency = 2e-4})
double tc_tree_predict(const struct tc_tree *tree, uint64_t size, uint32_t chunk_size, struct tc_network network);

/* What auto becomes for this job; a spec of another kind is returned as it is. Where no groups are known (topology NULL or
 * with none), a plan that keeps neighbours together is taken as long as it costs little time. */
struct tc_tree_spec tc_tree_choose(struct tc_tree_spec spec, const struct tc_topology *topology, unsigned hosts,
                                   uint64_t size, uint32_t chunk_size, struct tc_network network);

#endif
