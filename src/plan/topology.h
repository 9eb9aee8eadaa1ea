/* topology.h - which hosts sit behind which uplink: groups of hosts (a rack, a row of racks), nested.
 *
 * A value: members 0 .. n - 1, each in one group, and groups in groups. Group TC_GROUP_ALL holds everything. In a plan the
 * members are ranks, 0 the coordinator. A group may be empty. Pure. */
#ifndef TC_PLAN_TOPOLOGY_H
#define TC_PLAN_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TC_GROUP_ALL 0u
#define TC_NO_GROUP UINT32_MAX
#define TC_GROUPS_MAX 65536u
#define TC_GROUP_DEPTH_MAX 16u /* groups in groups */
#define TC_GROUP_NAME_MAX 64u  /* bytes with the NUL */

struct tc_topology;

/* members of TC_GROUP_ALL. NULL and TC_E_NOMEM. */
struct tc_topology *tc_topology_new(uint32_t members, struct tc_err *err);
void tc_topology_free(struct tc_topology *topology); /* NULL allowed */

/* A new group in parent; a longer name is cut. Its number, greater than parent's; TC_NO_GROUP, and TC_E_LIMIT (too many,
 * too deep) or TC_E_NOMEM. */
uint32_t tc_topology_add(struct tc_topology *topology, uint32_t parent, const char *name, struct tc_err *err);
void tc_topology_put(struct tc_topology *topology, uint32_t member, uint32_t group);

/* The same groups with count other members: number i is member members[i] of topology. */
struct tc_topology *tc_topology_pick(const struct tc_topology *topology, const uint32_t *members, uint32_t count,
                                     struct tc_err *err);

uint32_t tc_topology_members(const struct tc_topology *topology);
uint32_t tc_topology_groups(const struct tc_topology *topology); /* TC_GROUP_ALL too */
uint32_t tc_topology_group_of(const struct tc_topology *topology, uint32_t member);
uint32_t tc_topology_parent(const struct tc_topology *topology, uint32_t group);  /* TC_NO_GROUP of TC_GROUP_ALL */
const char *tc_topology_name(const struct tc_topology *topology, uint32_t group); /* borrowed; "" of TC_GROUP_ALL */
/* "row2.rack7", the outermost first; "" of TC_GROUP_ALL. Returns out. */
const char *tc_topology_path(const struct tc_topology *topology, uint32_t group, char *out, size_t size);
/* Whether group is outer, or in it at any depth. */
bool tc_topology_inside(const struct tc_topology *topology, uint32_t group, uint32_t outer);
/* How many groups, TC_GROUP_ALL not counted, hold both of these groups. */
uint32_t tc_topology_shared(const struct tc_topology *topology, uint32_t one, uint32_t other);
/* Whether any member is in another group than TC_GROUP_ALL. */
bool tc_topology_known(const struct tc_topology *topology);

#endif
