#include "plan/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct group {
    uint32_t parent, depth;
    char name[TC_GROUP_NAME_MAX];
};

struct tc_topology {
    uint32_t members, groups, capacity;
    uint32_t *group_of; /* by member */
    struct group *list;
};

static int grow(struct tc_topology *topology, uint32_t capacity, struct tc_err *err)
{
    struct group *list = realloc(topology->list, capacity * sizeof *list);
    if (!list)
        return tc_fail(err, TC_E_NOMEM, "no memory for %u groups of hosts", capacity);
    topology->list = list;
    topology->capacity = capacity;
    return 0;
}

struct tc_topology *tc_topology_new(uint32_t members, struct tc_err *err)
{
    struct tc_topology *topology = calloc(1, sizeof *topology);
    if (topology) {
        topology->members = members;
        topology->group_of = calloc((size_t)members + 1, sizeof *topology->group_of);
    }
    if (!topology || !topology->group_of || grow(topology, 8, err) < 0) {
        tc_topology_free(topology);
        tc_fail(err, TC_E_NOMEM, "no memory for the groups of %u hosts", members);
        return NULL;
    }
    topology->list[topology->groups++] = (struct group){.parent = TC_NO_GROUP};
    return topology;
}

void tc_topology_free(struct tc_topology *topology)
{
    if (!topology)
        return;
    free(topology->group_of);
    free(topology->list);
    free(topology);
}

uint32_t tc_topology_add(struct tc_topology *topology, uint32_t parent, const char *name, struct tc_err *err)
{
    uint32_t depth = topology->list[parent].depth + 1, group = topology->groups;
    if (depth > TC_GROUP_DEPTH_MAX) {
        tc_fail(err, TC_E_LIMIT, "group %.63s: more than %u groups in each other", name, TC_GROUP_DEPTH_MAX);
        return TC_NO_GROUP;
    }
    if (group == TC_GROUPS_MAX) {
        tc_fail(err, TC_E_LIMIT, "more than %u groups of hosts", TC_GROUPS_MAX);
        return TC_NO_GROUP;
    }
    if (group == topology->capacity && grow(topology, 2 * topology->capacity, err) < 0)
        return TC_NO_GROUP;
    struct group *added = &topology->list[topology->groups++];
    *added = (struct group){.parent = parent, .depth = depth};
    snprintf(added->name, sizeof added->name, "%s", name);
    return group;
}

void tc_topology_put(struct tc_topology *topology, uint32_t member, uint32_t group)
{
    topology->group_of[member] = group;
}

struct tc_topology *tc_topology_pick(const struct tc_topology *topology, const uint32_t *members, uint32_t count,
                                     struct tc_err *err)
{
    struct tc_topology *picked = tc_topology_new(count, err);
    if (!picked || grow(picked, topology->groups + 1, err) < 0) {
        tc_topology_free(picked);
        return NULL;
    }
    memcpy(picked->list, topology->list, topology->groups * sizeof *picked->list);
    picked->groups = topology->groups;
    for (uint32_t i = 0; i < count; i++)
        picked->group_of[i] = topology->group_of[members[i]];
    return picked;
}

uint32_t tc_topology_members(const struct tc_topology *topology)
{
    return topology->members;
}

uint32_t tc_topology_groups(const struct tc_topology *topology)
{
    return topology->groups;
}

uint32_t tc_topology_group_of(const struct tc_topology *topology, uint32_t member)
{
    return topology->group_of[member];
}

uint32_t tc_topology_parent(const struct tc_topology *topology, uint32_t group)
{
    return topology->list[group].parent;
}

const char *tc_topology_name(const struct tc_topology *topology, uint32_t group)
{
    return topology->list[group].name;
}

const char *tc_topology_path(const struct tc_topology *topology, uint32_t group, char *out, size_t size)
{
    uint32_t way[TC_GROUP_DEPTH_MAX + 1], steps = 0;
    size_t used = 0;
    *out = '\0';
    for (; group != TC_GROUP_ALL; group = topology->list[group].parent)
        way[steps++] = group;
    while (steps > 0 && used < size)
        used += (size_t)snprintf(out + used, size - used, "%s%s", used ? "." : "", topology->list[way[--steps]].name);
    return out;
}

bool tc_topology_inside(const struct tc_topology *topology, uint32_t group, uint32_t outer)
{
    while (group > outer) /* a group's number is greater than its parent's */
        group = topology->list[group].parent;
    return group == outer;
}

uint32_t tc_topology_shared(const struct tc_topology *topology, uint32_t one, uint32_t other)
{
    while (one != other) { /* a group's number is greater than its parent's */
        if (one > other)
            one = topology->list[one].parent;
        else
            other = topology->list[other].parent;
    }
    return topology->list[one].depth;
}

bool tc_topology_known(const struct tc_topology *topology)
{
    for (uint32_t member = 0; member < topology->members; member++)
        if (topology->group_of[member] != TC_GROUP_ALL)
            return true;
    return false;
}
