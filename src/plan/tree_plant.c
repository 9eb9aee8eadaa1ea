/* How two trees enter each group once.
 *
 * A unit is a host or a group. For either the same holds, so it composes: a unit has one entry in each tree (what comes in
 * is two halves, one copy), and two free slots for children over both trees: two in tree 0, two in tree 1, or one in each.
 * A group of m units needs m - 1 edges in each tree and owns 2 m slots; the two that are left are the group's own. So no
 * host sends more than one copy, and no group takes in or lets out more than one, at any depth.
 *
 * The coordinator is a unit with one slot in each tree and no entry; so are the groups it is in.
 *
 * The other kinds have one tree: the units of a group form a tree of that kind over the hosts they are entered by. */
#include "plan/tree_own.h"

#include <stdlib.h>
#include <string.h>

#include "plan/hostlist.h"

enum { RUN = 7 }; /* neighbours kept together: more deepen the tree less, fewer part a rack in fewer pieces */

struct slot {
    uint32_t host, depth; /* hops below the entry of the unit whose it is */
    uint32_t serial;      /* among the free ones: of two that are equally deep the older one is taken */
};

struct face { /* of a unit in one tree */
    uint32_t entry, height;
    struct slot slots[2];
    uint32_t slot_count;
};

struct unit {
    bool has_root;              /* the coordinator, or it is in it: then it is the first unit of its group */
    uint32_t first, last, next; /* units in it, and the next one in the same group; NO_UNIT */
    uint32_t count;             /* units in it; 0: a host */
    uint32_t slots[2];          /* wanted in each tree */
    struct face faces[2];
};

#define NO_UNIT UINT32_MAX

struct candidate {
    uint32_t unit, slots, height;
};

struct nursery {
    struct tc_tree_spec spec;
    uint32_t hosts; /* units 0 .. hosts are ranks, the groups follow */
    struct unit *units;
    uint32_t *const *parents; /* by tree and rank */
    struct candidate *order;  /* scratch, of one group at a time: its units as they are placed */
    struct slot *heap;        /* free slots, the nearest first */
    uint32_t heap_count, serial;
    struct slot next; /* of a run: kept for the next relay, which makes a chain of them; host NO_UNIT: none */
};

/* --- units ------------------------------------------------------------------------------------------------------- */

static void append(struct nursery *n, uint32_t group, uint32_t unit)
{
    struct unit *outer = &n->units[group];
    if (outer->count++ == 0)
        outer->first = unit;
    else
        n->units[outer->last].next = unit;
    outer->last = unit;
}

/* Each group's units in the order of their first ranks; the coordinator's own come first. */
static void collect(struct nursery *n, const struct tc_topology *topology)
{
    uint32_t groups = tc_topology_groups(topology);
    for (uint32_t unit = 0; unit <= n->hosts + groups; unit++) /* group g is unit hosts + 1 + g */
        n->units[unit] = (struct unit){.first = NO_UNIT, .last = NO_UNIT, .next = NO_UNIT};
    for (uint32_t rank = 0; rank <= n->hosts; rank++) {
        uint32_t group = tc_topology_group_of(topology, rank), unit = rank;
        n->units[rank].has_root = rank == 0;
        for (;;) {
            uint32_t outer = n->hosts + 1 + group;
            bool is_new = n->units[outer].count == 0;
            append(n, outer, unit);
            n->units[outer].has_root |= rank == 0;
            if (!is_new || group == TC_GROUP_ALL)
                break;
            unit = outer;
            group = tc_topology_parent(topology, group);
        }
    }
}

/* --- free slots: a heap by depth --------------------------------------------------------------------------------- */

static bool comes_before(struct slot a, struct slot b)
{
    return a.depth != b.depth ? a.depth < b.depth : a.serial < b.serial;
}

static void push(struct nursery *n, struct slot slot)
{
    uint32_t at = n->heap_count++;
    slot.serial = n->serial++;
    for (; at > 0 && comes_before(slot, n->heap[(at - 1) / 2]); at = (at - 1) / 2)
        n->heap[at] = n->heap[(at - 1) / 2];
    n->heap[at] = slot;
}

static struct slot pop(struct nursery *n)
{
    struct slot top = n->heap[0], last = n->heap[--n->heap_count];
    uint32_t at = 0;
    for (uint32_t child = 1; child < n->heap_count; child = 2 * at + 1) {
        child += child + 1 < n->heap_count && comes_before(n->heap[child + 1], n->heap[child]);
        if (!comes_before(n->heap[child], last))
            break;
        n->heap[at] = n->heap[child];
        at = child;
    }
    n->heap[at] = last;
    return top;
}

/* --- two trees --------------------------------------------------------------------------------------------------- */

/* Which units of group give where. In tree 0 they need an edge for each unit but one and the group's own slots there; where
 * that is an odd number, one unit gives in both. */
static void share_slots(struct nursery *n, uint32_t group)
{
    const struct unit *outer = &n->units[group];
    uint32_t others = outer->count - outer->has_root;
    uint32_t needed = outer->count - 1 + outer->slots[0] - outer->has_root;
    uint32_t in_both = needed % 2, in_first = needed / 2;
    if (group == n->hosts + 1) { /* what is left over out here is of no use to anybody */
        in_both = 0;
        in_first = (others + 1) / 2;
    }
    uint32_t in_second = others - in_first - in_both;
    bool first = false;
    for (uint32_t at = outer->first; at != NO_UNIT; at = n->units[at].next) {
        struct unit *unit = &n->units[at];
        unit->slots[0] = unit->slots[1] = 1;
        if (unit->has_root)
            continue;
        first = in_first > 0 && (!first || in_second == 0);
        if (first) {
            in_first--;
            unit->slots[0] = 2;
            unit->slots[1] = 0;
        } else if (in_second > 0) {
            in_second--;
            unit->slots[0] = 0;
            unit->slots[1] = 2;
        }
    }
}

static int by_slots_and_height(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    if (a->slots != b->slots)
        return a->slots < b->slots ? 1 : -1;
    if (a->height != b->height)
        return a->height < b->height ? 1 : -1;
    return a->unit < b->unit ? -1 : 1;
}

/* The units of group as they are placed in tree t: the coordinator's, those that give most there, the tallest of these. */
static void sort_units(struct nursery *n, uint32_t group, unsigned t)
{
    uint32_t count = 0;
    for (uint32_t at = n->units[group].first; at != NO_UNIT; at = n->units[at].next) {
        const struct unit *unit = &n->units[at];
        n->order[count++] = (struct candidate){at, unit->has_root ? UINT32_MAX : unit->slots[t], unit->faces[t].height};
    }
    qsort(n->order, count, sizeof *n->order, by_slots_and_height);
}

/* Neighbours of the list in a run: its relays form a chain, so that wherever it is cut few edges are. */
static bool is_chain(const struct nursery *n, uint32_t group)
{
    return n->spec.runs && n->units[group].first <= n->hosts && group != n->hosts + 1;
}

static struct slot take_slot(struct nursery *n, bool for_relay)
{
    struct slot next = n->next;
    n->next.host = NO_UNIT;
    if (next.host != NO_UNIT && for_relay)
        return next;
    if (next.host != NO_UNIT)
        push(n, next);
    return pop(n);
}

/* A unit with the slots of face is placed depth hops below the entry of group. What the group wants for itself it gets from
 * the first units, as long as a slot is left for those that are still to come; the others are free. */
static void share_out(struct nursery *n, uint32_t wanted, struct face *own, const struct face *face, uint32_t depth,
                      bool chain)
{
    bool kept = false;
    for (uint32_t i = 0; i < face->slot_count; i++) {
        struct slot slot = {.host = face->slots[i].host, .depth = face->slots[i].depth + depth};
        bool other_left = face->slot_count - i > 1 || n->heap_count > 0;
        if (!kept && own->slot_count < wanted && own->slot_count < 2 && other_left) {
            own->slots[own->slot_count++] = slot;
            kept = true;
        } else if (chain && n->next.host == NO_UNIT) {
            n->next = slot;
        } else {
            push(n, slot);
        }
    }
}

/* The units of group, whose faces are known, get their parents in tree t, and the group a face of its own: its slots are
 * kept near the entry, or depth would grow by much with every level. */
static void join_units(struct nursery *n, uint32_t group, unsigned t)
{
    const struct unit *outer = &n->units[group];
    uint32_t wanted = group == n->hosts + 1 ? 0 : outer->slots[t];
    struct face own = {0};
    sort_units(n, group, t);
    n->heap_count = 0;
    n->next.host = NO_UNIT;
    for (uint32_t i = 0; i < outer->count; i++) {
        const struct face *face = &n->units[n->order[i].unit].faces[t];
        uint32_t depth = 0;
        if (i == 0) {
            own.entry = face->entry;
        } else {
            struct slot above = take_slot(n, face->slot_count > 0);
            n->parents[t][face->entry] = above.host;
            depth = above.depth + 1;
        }
        own.height = depth + face->height > own.height ? depth + face->height : own.height;
        share_out(n, wanted, &own, face, depth, is_chain(n, group));
    }
    while (own.slot_count < wanted && own.slot_count < 2)
        own.slots[own.slot_count++] = take_slot(n, true);
    n->units[group].faces[t] = own;
}

static void plant_double(struct nursery *n, uint32_t unit)
{
    struct unit *self = &n->units[unit];
    if (unit <= n->hosts) {
        for (unsigned t = 0; t < TC_TREES_MAX; t++)
            self->faces[t] =
                (struct face){.entry = unit, .slots = {{.host = unit}, {.host = unit}}, .slot_count = self->slots[t]};
        return;
    }
    share_slots(n, unit);
    for (uint32_t at = self->first; at != NO_UNIT; at = n->units[at].next)
        plant_double(n, at);
    for (unsigned t = 0; t < TC_TREES_MAX; t++)
        join_units(n, unit, t);
}

/* --- one tree ---------------------------------------------------------------------------------------------------- */

/* The host that a unit is entered by: the first one in it. */
static uint32_t entry_of(const struct nursery *n, uint32_t unit)
{
    while (unit > n->hosts)
        unit = n->units[unit].first;
    return unit;
}

static void hang_binomial(struct nursery *n, uint32_t root, uint32_t count)
{
    uint32_t child = root + 1;
    while (count > 1) {
        uint32_t half = count / 2;
        n->parents[0][n->order[child].unit] = n->order[root].unit;
        hang_binomial(n, child, half);
        child += half;
        count -= half;
    }
}

static void plant_kind(struct nursery *n, uint32_t unit)
{
    uint32_t count = 0;
    for (uint32_t at = n->units[unit].first; at != NO_UNIT; at = n->units[at].next)
        n->order[count++].unit = entry_of(n, at);
    if (n->spec.kind == TC_TREE_BINOMIAL)
        hang_binomial(n, 0, count);
    for (uint32_t i = 1; i < count && n->spec.kind == TC_TREE_KARY; i++)
        n->parents[0][n->order[i].unit] = n->order[(i - 1) / n->spec.arity].unit;
    for (uint32_t at = n->units[unit].first; at != NO_UNIT; at = n->units[at].next)
        if (at > n->hosts)
            plant_kind(n, at);
}

/* The hosts in the order of a walk through the groups: those of one follow each other. */
static uint32_t walk(const struct nursery *n, uint32_t unit, uint32_t *order, uint32_t count)
{
    if (unit <= n->hosts) {
        order[count++] = unit;
        return count;
    }
    for (uint32_t at = n->units[unit].first; at != NO_UNIT; at = n->units[at].next)
        count = walk(n, at, order, count);
    return count;
}

static void plant_chain(struct nursery *n, const uint32_t *order)
{
    for (uint32_t i = 1; i <= n->hosts; i++)
        n->parents[0][order[i]] = order[i - 1];
}

/* In tree 0 every other host from the first on is in the chain, in tree 1 the others; the rest gets from beside. */
static void plant_caterpillars(struct nursery *n, const uint32_t *order)
{
    for (uint32_t i = 1; i <= n->hosts; i++) {
        bool odd = i % 2;
        n->parents[0][order[i]] = order[odd && i > 1 ? i - 2 : i - 1];
        uint32_t beside = i < n->hosts ? i + 1 : i - 1;
        n->parents[1][order[i]] = order[odd ? beside : i - 2];
    }
}

static void plant(struct nursery *n, uint32_t *order)
{
    uint32_t all = n->hosts + 1;
    walk(n, all, order, 0);
    if (n->spec.kind == TC_TREE_DOUBLE)
        plant_double(n, all);
    else if (n->spec.kind == TC_TREE_CATERPILLAR)
        plant_caterpillars(n, order);
    else if (n->spec.kind == TC_TREE_CHAIN)
        plant_chain(n, order);
    else
        plant_kind(n, all);
}

int tc_tree_plant(struct tc_tree_spec spec, const struct tc_topology *topology, uint32_t *const *parents)
{
    uint32_t hosts = tc_topology_members(topology) - 1;
    size_t count = (size_t)hosts + 1 + tc_topology_groups(topology);
    struct unit *units = calloc(count, sizeof *units);
    struct candidate *candidates = calloc(count, sizeof *candidates);
    struct slot *heap = calloc(2 * count, sizeof *heap);
    uint32_t *order = calloc((size_t)hosts + 1, sizeof *order);
    bool good = units && candidates && heap && order;
    if (good) {
        struct nursery n = {
            .spec = spec, .hosts = hosts, .units = units, .parents = parents, .order = candidates, .heap = heap};
        collect(&n, topology);
        plant(&n, order);
    }
    free(units);
    free(candidates);
    free(heap);
    free(order);
    return good ? 0 : -TC_E_NOMEM;
}

unsigned tc_tree_kind_count(enum tc_tree_kind kind)
{
    return kind == TC_TREE_DOUBLE || kind == TC_TREE_CATERPILLAR ? 2 : 1;
}

/* --- runs -------------------------------------------------------------------------------------------------------- */

/* Put count ranks from first on into group: RUN runs where count is a power of it, else as few as there can be. */
static int cut_runs(struct tc_topology *topology, uint32_t group, uint32_t first, uint32_t count, struct tc_err *err)
{
    uint32_t span = 1;
    int status = 0;
    while (span * RUN < count)
        span *= RUN;
    while (count > 0 && status == 0) {
        while (span > count)
            span /= RUN;
        uint32_t run = span > 1 ? tc_topology_add(topology, group, "", err) : group;
        if (run == TC_NO_GROUP)
            return -TC_E_NOMEM;
        if (span > 1)
            status = cut_runs(topology, run, first, span, err);
        else
            tc_topology_put(topology, first, group);
        first += span;
        count -= span;
    }
    return status;
}

struct tc_topology *tc_tree_runs(uint32_t hosts, struct tc_err *err)
{
    struct tc_topology *topology = tc_topology_new(hosts + 1, err);
    if (topology && cut_runs(topology, TC_GROUP_ALL, 1, hosts, err) == 0)
        return topology;
    tc_topology_free(topology);
    return NULL;
}
