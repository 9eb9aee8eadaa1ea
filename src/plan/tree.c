#include "plan/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/hostlist.h"
#include "plan/tree_own.h"

/* A rank's place in one tree. hops, sends and width describe its path from the root; they are what tc_tree_predict
 * needs, kept here so that it allocates nothing. */
struct place {
    uint32_t parent;
    uint32_t first; /* its children: count of them from children[first] */
    uint32_t count;
    uint32_t hops;
    uint32_t sends; /* chunks that leave the senders on the path, one after the other, until the first one is here */
    uint32_t width; /* most sends any sender on the path does for one chunk of each tree */
};

struct tc_tree {
    struct tc_tree_spec spec;
    uint32_t hosts;
    unsigned count;
    struct place *places[TC_TREES_MAX]; /* by rank */
    uint32_t *children[TC_TREES_MAX];   /* of rank 0, of rank 1, ... */
};

/* --- kinds ------------------------------------------------------------------------------------------------------- */

static const char *const kind_names[] = {
    [TC_TREE_AUTO] = "auto",     [TC_TREE_BINOMIAL] = "binomial",
    [TC_TREE_DOUBLE] = "double", [TC_TREE_CATERPILLAR] = "caterpillar",
    [TC_TREE_CHAIN] = "chain",   [TC_TREE_KARY] = "kary",
};

int tc_tree_parse(struct tc_tree_spec *spec, const char *text, struct tc_err *err)
{
    for (unsigned kind = TC_TREE_AUTO; kind < TC_TREE_KARY; kind++) {
        if (strcmp(text, kind_names[kind]) == 0) {
            *spec = (struct tc_tree_spec){.kind = (enum tc_tree_kind)kind};
            return 0;
        }
    }
    const char *digits = strncmp(text, "kary:", 5) == 0 ? text + 5 : text;
    unsigned arity = 0;
    size_t length = strspn(digits, "0123456789");
    if (length > 0 && length < 6 && digits[length] == '\0')
        arity = (unsigned)strtoul(digits, NULL, 10);
    if (arity == 0 || arity > TC_HOSTS_MAX)
        return tc_fail(err, TC_E_USAGE,
                       "tree '%.32s': use auto, binomial, double, caterpillar, chain, kary:N or N (1 to %u)", text,
                       TC_HOSTS_MAX);
    *spec = (struct tc_tree_spec){.kind = TC_TREE_KARY, .arity = arity};
    return 0;
}

const char *tc_tree_print(struct tc_tree_spec spec, char text[32])
{
    if (spec.kind == TC_TREE_KARY)
        snprintf(text, 32, "kary:%u", spec.arity);
    else
        snprintf(text, 32, "%s", kind_names[spec.kind]);
    return text;
}

/* --- the table --------------------------------------------------------------------------------------------------- */

/* The ranks below rank 0 in tree t, parents before children. first of a place is the next child of the same parent here,
 * count the first child of its own; 0: none. */
static void list_from_the_root(struct tc_tree *tree, unsigned t, uint32_t *order)
{
    struct place *places = tree->places[t];
    uint32_t listed = 0;
    for (uint32_t rank = tree->hosts; rank > 0; rank--) {
        places[rank].first = places[places[rank].parent].count;
        places[places[rank].parent].count = rank;
    }
    for (uint32_t parent = 0, next = 0;; parent = order[next++]) {
        for (uint32_t child = places[parent].count; child != 0; child = places[child].first)
            order[listed++] = child;
        if (next == listed)
            break;
    }
}

struct served { /* a child with the hops to the farthest host below it */
    uint32_t rank, parent, height;
};

/* The tallest first: what goes far is to leave soon. */
static int by_parent_and_height(const void *left, const void *right)
{
    const struct served *a = left, *b = right;
    if (a->parent != b->parent)
        return a->parent < b->parent ? -1 : 1;
    if (a->height != b->height)
        return a->height < b->height ? 1 : -1;
    return a->rank < b->rank ? -1 : 1;
}

static int list_children(struct tc_tree *tree, unsigned t, uint32_t *order)
{
    struct place *places = tree->places[t];
    struct served *served = calloc((size_t)tree->hosts + 1, sizeof *served); /* by rank, then sorted */
    if (!served)
        return -TC_E_NOMEM;
    for (uint32_t i = tree->hosts; i-- > 0;) {
        struct served *child = &served[order[i]], *parent = &served[places[order[i]].parent];
        child->rank = order[i];
        child->parent = places[order[i]].parent;
        if (parent->height < child->height + 1)
            parent->height = child->height + 1;
    }
    qsort(served + 1, tree->hosts, sizeof *served, by_parent_and_height);
    for (uint32_t rank = 0; rank <= tree->hosts; rank++)
        places[rank].first = places[rank].count = 0;
    for (uint32_t i = 0; i < tree->hosts; i++) {
        struct place *parent = &places[served[i + 1].parent];
        if (parent->count++ == 0)
            parent->first = i;
        tree->children[t][i] = served[i + 1].rank;
    }
    free(served);
    return 0;
}

/* Children of rank in all trees: what it sends for one chunk of each tree. */
static uint32_t width_of(const struct tc_tree *tree, uint32_t rank)
{
    uint32_t sum = 0;
    for (unsigned t = 0; t < tree->count; t++)
        sum += tree->places[t][rank].count;
    return sum;
}

static void measure_children(struct tc_tree *tree, unsigned t, uint32_t rank)
{
    const struct place *parent = &tree->places[t][rank];
    uint32_t width = width_of(tree, rank);
    for (uint32_t i = 0; i < parent->count; i++) {
        struct place *child = &tree->places[t][tree->children[t][parent->first + i]];
        child->hops = parent->hops + 1;
        child->sends = parent->sends + i + 1;
        child->width = width > parent->width ? width : parent->width;
    }
}

/* From the parents: the rest of the table. */
static int fill_table(struct tc_tree *tree, uint32_t *const *parents)
{
    size_t ranks = (size_t)tree->hosts + 1;
    uint32_t *order = calloc(tree->count * ranks, sizeof *order);
    int status = order ? 0 : -TC_E_NOMEM;
    for (unsigned t = 0; t < tree->count && status == 0; t++) {
        for (uint32_t rank = 0; rank <= tree->hosts; rank++)
            tree->places[t][rank].parent = rank == 0 ? TC_NO_RANK : parents[t][rank];
        list_from_the_root(tree, t, order + t * ranks);
        status = list_children(tree, t, order + t * ranks);
    }
    for (unsigned t = 0; t < tree->count && status == 0; t++) {
        measure_children(tree, t, 0);
        for (uint32_t i = 0; i < tree->hosts; i++)
            measure_children(tree, t, order[t * ranks + i]);
    }
    free(order);
    return status;
}

static int check_spec(struct tc_tree_spec spec, uint32_t hosts, struct tc_err *err)
{
    if (spec.kind == TC_TREE_AUTO || spec.kind > TC_TREE_KARY || (spec.kind == TC_TREE_KARY && spec.arity == 0))
        return tc_fail(err, TC_E_USAGE, "tree kind %d (arity %u) has no table", (int)spec.kind, spec.arity);
    if (hosts > TC_HOSTS_MAX)
        return tc_fail(err, TC_E_USAGE, "%u hosts are too many: at most %u", hosts, TC_HOSTS_MAX);
    return 0;
}

static struct tc_tree *empty_table(struct tc_tree_spec spec, uint32_t hosts)
{
    struct tc_tree *tree = calloc(1, sizeof *tree);
    if (!tree)
        return NULL;
    *tree = (struct tc_tree){.spec = spec, .hosts = hosts, .count = tc_tree_kind_count(spec.kind)};
    for (unsigned t = 0; t < tree->count; t++) {
        tree->places[t] = calloc((size_t)hosts + 1, sizeof *tree->places[t]);
        tree->children[t] = calloc((size_t)hosts + 1, sizeof *tree->children[t]);
        if (!tree->places[t] || !tree->children[t]) {
            tc_tree_free(tree);
            return NULL;
        }
    }
    return tree;
}

struct tc_tree *tc_tree_new_grouped(struct tc_tree_spec spec, const struct tc_topology *topology, struct tc_err *err)
{
    uint32_t hosts = tc_topology_members(topology) - 1;
    if (check_spec(spec, hosts, err) < 0)
        return NULL;
    uint32_t *all = calloc(TC_TREES_MAX * ((size_t)hosts + 1), sizeof *all);
    uint32_t *const parents[TC_TREES_MAX] = {all, all ? all + hosts + 1 : NULL};
    struct tc_tree *tree = all ? empty_table(spec, hosts) : NULL;
    bool good = tree && tc_tree_plant(spec, topology, parents) == 0 && fill_table(tree, parents) == 0;
    free(all);
    if (good)
        return tree;
    tc_tree_free(tree);
    tc_fail(err, TC_E_NOMEM, "no memory for a tree of %u hosts", hosts);
    return NULL;
}

struct tc_tree *tc_tree_new(struct tc_tree_spec spec, unsigned hosts, struct tc_err *err)
{
    if (check_spec(spec, hosts, err) < 0)
        return NULL;
    struct tc_topology *flat = spec.runs ? tc_tree_runs(hosts, err) : tc_topology_new(hosts + 1, err);
    struct tc_tree *tree = flat ? tc_tree_new_grouped(spec, flat, err) : NULL;
    tc_topology_free(flat);
    return tree;
}

void tc_tree_free(struct tc_tree *tree)
{
    if (!tree)
        return;
    for (unsigned t = 0; t < tree->count; t++) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): each tree has arrays of its own */
        free(tree->places[t]);
        free(tree->children[t]);
    }
    free(tree);
}

unsigned tc_tree_hosts(const struct tc_tree *tree)
{
    return tree->hosts;
}

unsigned tc_tree_count(const struct tc_tree *tree)
{
    return tree->count;
}

struct tc_tree_spec tc_tree_spec(const struct tc_tree *tree)
{
    return tree->spec;
}

uint32_t tc_tree_parent(const struct tc_tree *tree, unsigned t, uint32_t rank)
{
    return tree->places[t][rank].parent;
}

unsigned tc_tree_children(const struct tc_tree *tree, unsigned t, uint32_t rank, const uint32_t **children)
{
    const struct place *place = &tree->places[t][rank];
    *children = tree->children[t] + place->first;
    return place->count;
}

unsigned tc_tree_depth(const struct tc_tree *tree, unsigned t)
{
    unsigned depth = 0;
    for (uint32_t rank = 1; rank <= tree->hosts; rank++)
        depth = tree->places[t][rank].hops > depth ? tree->places[t][rank].hops : depth;
    return depth;
}

double tc_tree_load(const struct tc_tree *tree, uint32_t rank)
{
    return (double)width_of(tree, rank) / tree->count;
}

static void cross(const struct tc_topology *topology, uint32_t inside, uint32_t outside, double part, double *copies)
{
    for (uint32_t group = inside; !tc_topology_inside(topology, outside, group);) {
        copies[group] += part;
        group = tc_topology_parent(topology, group);
    }
}

void tc_tree_crossings(const struct tc_tree *tree, const struct tc_topology *topology, double *in, double *out)
{
    for (uint32_t group = 0; group < tc_topology_groups(topology); group++)
        in[group] = out[group] = 0;
    for (unsigned t = 0; t < tree->count; t++)
        for (uint32_t rank = 1; rank <= tree->hosts; rank++) {
            uint32_t to = tc_topology_group_of(topology, rank);
            uint32_t from = tc_topology_group_of(topology, tree->places[t][rank].parent);
            cross(topology, to, from, 1.0 / tree->count, in);
            cross(topology, from, to, 1.0 / tree->count, out);
        }
}

/* --- the model --------------------------------------------------------------------------------------------------- */

/* A sender serves its children one after the other, chunk by chunk. So a tree's first chunk reaches a host after the
 * hops and the sends on its path, and each further chunk of that tree follows after as many sends as the busiest sender
 * on the path does for one chunk of every tree. The trees start one chunk apart. */
double tc_tree_predict(const struct tc_tree *tree, uint64_t size, uint32_t chunk_size, struct tc_network network)
{
    uint64_t chunks = chunk_size && size ? (size - 1) / chunk_size + 1 : 1;
    double send = (double)size / (double)chunks / network.rate; /* seconds of one chunk on one link */
    double last = 0;
    for (unsigned t = 0; t < tree->count && t < chunks; t++) {
        double further = (double)((chunks - 1 - t) / tree->count);
        for (uint32_t rank = 1; rank <= tree->hosts; rank++) {
            const struct place *place = &tree->places[t][rank];
            double time = place->hops * network.latency + (t + place->sends + further * place->width) * send;
            last = time > last ? time : last;
        }
    }
    return last;
}

/* Predicted seconds, or less than 0 without memory. */
static double time_of(struct tc_tree_spec spec, const struct tc_topology *topology, unsigned hosts, uint64_t size,
                      uint32_t chunk_size, struct tc_network network)
{
    struct tc_tree *tree = topology ? tc_tree_new_grouped(spec, topology, NULL) : tc_tree_new(spec, hosts, NULL);
    double time = tree ? tc_tree_predict(tree, size, chunk_size, network) : -1;
    tc_tree_free(tree);
    return time;
}

/* What kinds there are to choose from, the most local ones last. Where nothing says whether there are racks, keeping
 * neighbours together may cost a part of the predicted time; where there are racks, it saves several copies. Not the
 * caterpillars: half of all hosts would be behind one. */
static const struct {
    struct tc_tree_spec spec;
    unsigned hosts_most;
    double cost; /* 0: it has to be the fastest; else for hosts without known groups */
} candidates[] = {
    {{.kind = TC_TREE_BINOMIAL}, TC_HOSTS_MAX, 0},
    {{.kind = TC_TREE_DOUBLE}, TC_HOSTS_MAX, 0},
    {{.kind = TC_TREE_CHAIN}, 4, 0}, /* one slow host holds up all behind it */
    {{.kind = TC_TREE_DOUBLE, .runs = true}, TC_HOSTS_MAX, 0.10},
};
enum { CANDIDATES = sizeof candidates / sizeof candidates[0] };

struct tc_tree_spec tc_tree_choose(struct tc_tree_spec spec, const struct tc_topology *topology, unsigned hosts,
                                   uint64_t size, uint32_t chunk_size, struct tc_network network)
{
    bool known = topology && tc_topology_known(topology);
    double times[CANDIDATES], least = 0;
    unsigned best = 0;
    if (spec.kind != TC_TREE_AUTO)
        return spec;
    for (unsigned i = 0; i < CANDIDATES && hosts > 1; i++) {
        bool fits = hosts <= candidates[i].hosts_most && !(candidates[i].cost > 0 && known);
        times[i] = fits ? time_of(candidates[i].spec, known ? topology : NULL, hosts, size, chunk_size, network) : -1;
        /* The margin keeps rounding out of the choice: equals stay with the earlier kind. */
        if (times[i] >= 0 && candidates[i].cost == 0 && (i == 0 || times[i] < least * (1 - 1e-6))) {
            best = i;
            least = times[i];
        }
    }
    if (hosts <= 4 || candidates[best].spec.kind != TC_TREE_DOUBLE)
        return candidates[best].spec;
    for (unsigned i = best + 1; i < CANDIDATES; i++)
        if (times[i] >= 0 && times[i] <= least * (1 + candidates[i].cost))
            best = i;
    return candidates[best].spec;
}
