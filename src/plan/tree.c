#include "plan/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/hostlist.h"

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
    [TC_TREE_AUTO] = "auto",   [TC_TREE_BINOMIAL] = "binomial", [TC_TREE_DOUBLE] = "double",
    [TC_TREE_CHAIN] = "chain", [TC_TREE_KARY] = "kary",
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
        return tc_fail(err, TC_E_USAGE, "tree '%.32s': use auto, binomial, double, chain, kary:N or N (1 to %u)", text,
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

/* Ranks root .. root + size - 1: root hands half of them to its first child, half of the rest to the next, and so on.
 * A subtree is a run of neighbours, and the largest comes first. */
static void plant_binomial(struct place *places, uint32_t root, uint32_t size)
{
    uint32_t child = root + 1;
    while (size > 1) {
        uint32_t half = size / 2;
        places[child].parent = root;
        plant_binomial(places, child, half);
        child += half;
        size -= half;
    }
}

/* Parents before children; children of one parent in the order they are served. position 0 .. hosts - 1. */
static uint32_t rank_at(const struct tc_tree *tree, unsigned t, uint32_t position)
{
    if (tree->spec.kind != TC_TREE_DOUBLE)
        return position + 1;
    /* First the hosts whose turn it is to relay in this tree, then the others. */
    uint32_t relays = (tree->hosts + 1 - t) / 2;
    uint32_t index = position < relays ? 2 * position + t : 2 * (position - relays) + 1 - t;
    return index + 1;
}

static void plant(struct tc_tree *tree, unsigned t)
{
    struct place *places = tree->places[t];
    uint32_t arity = tree->spec.kind == TC_TREE_KARY ? tree->spec.arity : 1;
    places[0].parent = TC_NO_RANK;
    if (tree->spec.kind == TC_TREE_BINOMIAL) {
        plant_binomial(places, 0, tree->hosts + 1);
        return;
    }
    for (uint32_t i = 0; i < tree->hosts; i++) {
        uint32_t parent = i / arity; /* kary and chain: the root is position 0 of the heap */
        if (tree->spec.kind == TC_TREE_DOUBLE)
            parent = i == 0 ? 0 : rank_at(tree, t, (i - 1) / 2);
        places[rank_at(tree, t, i)].parent = parent;
    }
}

static void list_children(struct tc_tree *tree, unsigned t)
{
    struct place *places = tree->places[t];
    for (uint32_t rank = 1; rank <= tree->hosts; rank++)
        places[places[rank].parent].count++;
    for (uint32_t rank = 1; rank <= tree->hosts; rank++)
        places[rank].first = places[rank - 1].first + places[rank - 1].count;
    for (uint32_t rank = 0; rank <= tree->hosts; rank++)
        places[rank].count = 0;
    for (uint32_t i = 0; i < tree->hosts; i++) {
        uint32_t rank = rank_at(tree, t, i);
        struct place *parent = &places[places[rank].parent];
        tree->children[t][parent->first + parent->count++] = rank;
    }
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

static void measure_paths(struct tc_tree *tree, unsigned t)
{
    measure_children(tree, t, 0);
    for (uint32_t i = 0; i < tree->hosts; i++)
        measure_children(tree, t, rank_at(tree, t, i));
}

struct tc_tree *tc_tree_new(struct tc_tree_spec spec, unsigned hosts, struct tc_err *err)
{
    if (spec.kind == TC_TREE_AUTO || spec.kind > TC_TREE_KARY || (spec.kind == TC_TREE_KARY && spec.arity == 0)) {
        tc_fail(err, TC_E_USAGE, "tree kind %d (arity %u) has no table", (int)spec.kind, spec.arity);
        return NULL;
    }
    if (hosts > TC_HOSTS_MAX) {
        tc_fail(err, TC_E_USAGE, "%u hosts are too many: at most %u", hosts, TC_HOSTS_MAX);
        return NULL;
    }
    struct tc_tree *tree = calloc(1, sizeof *tree);
    if (!tree) {
        tc_fail(err, TC_E_NOMEM, "no memory for a tree");
        return NULL;
    }
    *tree = (struct tc_tree){.spec = spec, .hosts = hosts, .count = spec.kind == TC_TREE_DOUBLE ? 2 : 1};
    for (unsigned t = 0; t < tree->count; t++) {
        tree->places[t] = calloc(hosts + 1, sizeof *tree->places[t]);
        tree->children[t] = calloc(hosts + 1, sizeof *tree->children[t]);
        if (!tree->places[t] || !tree->children[t]) {
            tc_tree_free(tree);
            tc_fail(err, TC_E_NOMEM, "no memory for a tree of %u hosts", hosts);
            return NULL;
        }
        plant(tree, t);
        list_children(tree, t);
    }
    for (unsigned t = 0; t < tree->count; t++)
        measure_paths(tree, t);
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

struct tc_tree_spec tc_tree_choose(struct tc_tree_spec spec, unsigned hosts, uint64_t size, uint32_t chunk_size,
                                   struct tc_network network)
{
    static const enum tc_tree_kind candidates[] = {TC_TREE_BINOMIAL, TC_TREE_DOUBLE, TC_TREE_CHAIN};
    if (spec.kind != TC_TREE_AUTO)
        return spec;
    struct tc_tree_spec best = {.kind = TC_TREE_BINOMIAL};
    double least = 0;
    for (unsigned i = 0; i < 3 && hosts > 1; i++) {
        struct tc_tree_spec candidate = {.kind = candidates[i]};
        if (candidate.kind == TC_TREE_CHAIN && hosts > 4)
            continue; /* one slow host holds up all behind it */
        struct tc_tree *tree = tc_tree_new(candidate, hosts, NULL);
        if (!tree)
            continue;
        double time = tc_tree_predict(tree, size, chunk_size, network);
        tc_tree_free(tree);
        /* The margin keeps rounding out of the choice: equals stay with the earlier kind. */
        if (i == 0 || time < least * (1 - 1e-6)) {
            best = candidate;
            least = time;
        }
    }
    return best;
}
