/* tree_own.h - what the files of a table share. Private to them.
 *
 * tree.c         the table: kinds, children, what a path costs
 * tree_plant.c   who is whose parent, by the kind and the groups */
#ifndef TC_PLAN_TREE_OWN_H
#define TC_PLAN_TREE_OWN_H

#include "plan/topology.h"
#include "plan/tree.h"

unsigned tc_tree_kind_count(enum tc_tree_kind kind); /* trees that it has */
/* Fill parents[t][rank] for the ranks 1 .. members - 1 of topology and each of the kind's trees. TC_E_NOMEM. */
int tc_tree_plant(struct tc_tree_spec spec, const struct tc_topology *topology, uint32_t *const *parents);

/* Neighbours of the list in runs, and these in runs, and so on: as groups, for hosts without known ones. A run has an odd
 * number of units, so that no host relays in both trees. NULL and TC_E_NOMEM. */
struct tc_topology *tc_tree_runs(uint32_t hosts, struct tc_err *err);

#endif
