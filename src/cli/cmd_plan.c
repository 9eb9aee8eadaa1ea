#include <stdlib.h>

#include "cli/host_options.h"
#include "cli/report.h"
#include "cli/size.h"
#include "cli/topology_options.h"
#include "data/chunk.h"
#include "plan/tree.h"

enum { EDGES_MAX = 32 }; /* hosts up to which every edge is printed */

struct plan_values {
    struct tc_host_options hosts;
    uint64_t size, chunk; /* chunk 0: by size and hosts */
    const char *tree, *topology;
    bool json;
};

struct group {
    uint32_t hosts; /* in it at any depth, the coordinator too */
    double in, out; /* copies */
};

struct plan {
    const struct tc_hostlist *list;
    const struct tc_tree *tree;
    struct tc_topology *topology; /* NULL: nothing is known */
    struct group *groups;         /* by number */
    struct tc_layout layout;
    char kind[32];
};

static const struct {
    const char *name;
    double rate; /* bytes a second */
} links[] = {{"1 Gbit/s", 1.25e8}, {"10 Gbit/s", 1.25e9}};
enum { LINKS = sizeof links / sizeof links[0] };

static const char *name_of(const struct plan *plan, uint32_t rank)
{
    return rank == 0 ? "coordinator" : tc_hostlist_at(plan->list, rank - 1);
}

static double predict(const struct plan *plan, size_t link)
{
    struct tc_network network = TC_NETWORK_DEFAULT;
    network.rate = links[link].rate;
    return tc_tree_predict(plan->tree, plan->layout.size, plan->layout.chunk_size, network);
}

static double one_copy(const struct plan *plan, size_t link)
{
    return (double)plan->layout.size / links[link].rate;
}

static unsigned relays(const struct plan *plan, unsigned t)
{
    const uint32_t *children;
    unsigned count = 0;
    for (uint32_t rank = 1; rank <= tc_tree_hosts(plan->tree); rank++)
        count += tc_tree_children(plan->tree, t, rank, &children) > 0;
    return count;
}

static double most_sent(const struct plan *plan)
{
    double most = 0;
    for (uint32_t rank = 1; rank <= tc_tree_hosts(plan->tree); rank++)
        most = tc_tree_load(plan->tree, rank) > most ? tc_tree_load(plan->tree, rank) : most;
    return most;
}

/* --- groups ------------------------------------------------------------------------------------------------------ */

static int measure_groups(struct plan *plan, struct tc_err *err)
{
    uint32_t count = plan->topology ? tc_topology_groups(plan->topology) : 0;
    double *in = calloc(count + 1, sizeof *in), *out = calloc(count + 1, sizeof *out);
    plan->groups = calloc(count + 1, sizeof *plan->groups);
    bool good = in && out && plan->groups;
    if (good && plan->topology) {
        tc_tree_crossings(plan->tree, plan->topology, in, out);
        for (uint32_t rank = 0; rank < tc_topology_members(plan->topology); rank++)
            for (uint32_t group = tc_topology_group_of(plan->topology, rank); group != TC_NO_GROUP;
                 group = tc_topology_parent(plan->topology, group))
                plan->groups[group].hosts++;
        for (uint32_t group = 0; group < count; group++) {
            plan->groups[group].in = in[group];
            plan->groups[group].out = out[group];
        }
    }
    free(in);
    free(out);
    return good ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
}

/* Groups below outer, each followed by those in it. */
static int add_groups(const struct plan *plan, struct tc_table *table, uint32_t outer, int depth, struct tc_err *err)
{
    int result = 0;
    for (uint32_t group = outer + 1; group < tc_topology_groups(plan->topology) && result == 0; group++) {
        const struct group *row = &plan->groups[group];
        char name[TC_GROUP_NAME_MAX + 2 * TC_GROUP_DEPTH_MAX], hosts[16], in[16], out[16];
        if (row->hosts == 0 || tc_topology_parent(plan->topology, group) != outer)
            continue;
        snprintf(name, sizeof name, "%*s%s", 2 * depth, "", tc_topology_name(plan->topology, group));
        snprintf(hosts, sizeof hosts, "%u", row->hosts);
        snprintf(in, sizeof in, "%.3g", row->in);
        snprintf(out, sizeof out, "%.3g", row->out);
        const char *cells[] = {name, hosts, in, out};
        result = tc_table_row(table, cells, err);
        if (result == 0)
            result = add_groups(plan, table, group, depth + 1, err);
    }
    return result;
}

static int print_groups(const struct plan *plan, struct tc_err *err)
{
    static const char *const heads[] = {"GROUP", ">HOSTS", ">COPIES IN", ">COPIES OUT", NULL};
    if (!plan->topology)
        return 0;
    struct tc_table *table = tc_table_new(heads, err);
    int result = table ? add_groups(plan, table, TC_GROUP_ALL, 0, err) : -TC_E_NOMEM;
    if (result == 0)
        result = tc_table_print(table, stdout, err);
    tc_table_free(table);
    return result;
}

/* [{"group": "row2.rack7", "hosts":, "in":, "out":}] */
static json_t *pack_groups(const struct plan *plan)
{
    json_t *groups = json_array();
    int bad = groups == NULL;
    for (uint32_t group = 1; plan->topology && group < tc_topology_groups(plan->topology); group++) {
        const struct group *row = &plan->groups[group];
        char path[TC_GROUP_NAME_MAX * TC_GROUP_DEPTH_MAX];
        if (row->hosts > 0)
            bad |= json_array_append_new(groups, json_pack("{s:s, s:i, s:f, s:f}", "group",
                                                           tc_topology_path(plan->topology, group, path, sizeof path),
                                                           "hosts", (int)row->hosts, "in", row->in, "out", row->out));
    }
    if (!bad)
        return groups;
    json_decref(groups);
    return NULL;
}

/* --- for people -------------------------------------------------------------------------------------------------- */

static int print_edges(const struct plan *plan, unsigned t, uint32_t rank, struct tc_err *err)
{
    const uint32_t *children;
    unsigned count = tc_tree_children(plan->tree, t, rank, &children);
    if (count == 0)
        return 0;
    struct tc_hostlist *list = tc_hostlist_new(err);
    int result = list ? 0 : -TC_E_NOMEM;
    for (unsigned i = 0; result == 0 && i < count; i++)
        result = tc_hostlist_add(list, name_of(plan, children[i]), err);
    char *folded = result == 0 ? tc_hostlist_fold(list, err) : NULL;
    if (folded)
        printf("  %s -> %s\n", name_of(plan, rank), folded);
    else if (result == 0)
        result = -TC_E_NOMEM;
    free(folded);
    tc_hostlist_free(list);
    for (unsigned i = 0; result == 0 && i < count; i++)
        result = print_edges(plan, t, children[i], err);
    return result;
}

/* Trees over few bytes differ by less than tc_seconds_print shows. */
static char *print_time(char out[TC_AMOUNT_TEXT], double seconds)
{
    if (seconds >= 1)
        return tc_seconds_print(out, seconds);
    snprintf(out, TC_AMOUNT_TEXT, "%.3g ms", seconds * 1e3);
    return out;
}

static int print_plan(const struct plan *plan, struct tc_err *err)
{
    char size[TC_AMOUNT_TEXT], chunk[TC_AMOUNT_TEXT], time[TC_AMOUNT_TEXT], copy[TC_AMOUNT_TEXT];
    unsigned hosts = tc_tree_hosts(plan->tree), trees = tc_tree_count(plan->tree);
    int result = 0;
    printf("%s: %s to %u host%s in %u chunk%s of %s\n", plan->kind, tc_size_print(size, plan->layout.size), hosts,
           hosts == 1 ? "" : "s", plan->layout.chunks, plan->layout.chunks == 1 ? "" : "s",
           tc_size_print(chunk, plan->layout.chunk_size));
    for (unsigned t = 0; result == 0 && t < trees; t++) {
        unsigned relaying = relays(plan, t);
        printf("tree %u of %u: depth %u, %u host%s relay%s\n", t + 1, trees, tc_tree_depth(plan->tree, t), relaying,
               relaying == 1 ? "" : "s", relaying == 1 ? "s" : "");
        if (hosts <= EDGES_MAX)
            result = print_edges(plan, t, 0, err);
    }
    if (result == 0)
        result = print_groups(plan, err);
    printf("copies sent: coordinator %.3g, a host at most %.3g\n", tc_tree_load(plan->tree, 0), most_sent(plan));
    for (size_t i = 0; i < LINKS; i++)
        printf("predicted at %s: %s (one copy: %s)\n", links[i].name, print_time(time, predict(plan, i)),
               print_time(copy, one_copy(plan, i)));
    return result;
}

/* --- for programs ------------------------------------------------------------------------------------------------ */

/* {"depth":, "relays":, "parents":{HOST: HOST or null for the coordinator}} */
static json_t *pack_tree(const struct plan *plan, unsigned t)
{
    json_t *parents = json_object();
    int bad = 0;
    for (uint32_t rank = 1; rank <= tc_tree_hosts(plan->tree); rank++) {
        uint32_t parent = tc_tree_parent(plan->tree, t, rank);
        json_t *value = parent ? json_string(name_of(plan, parent)) : json_null();
        bad |= json_object_set_new(parents, name_of(plan, rank), value);
    }
    if (bad) {
        json_decref(parents);
        return NULL;
    }
    return json_pack("{s:i, s:i, s:o}", "depth", (int)tc_tree_depth(plan->tree, t), "relays", (int)relays(plan, t),
                     "parents", parents);
}

static int print_json(const struct plan *plan, struct tc_err *err)
{
    json_t *trees = json_array(), *predictions = json_array();
    int bad = 0;
    for (unsigned t = 0; t < tc_tree_count(plan->tree); t++)
        bad |= json_array_append_new(trees, pack_tree(plan, t));
    for (size_t i = 0; i < LINKS; i++)
        bad |= json_array_append_new(predictions, json_pack("{s:f, s:f, s:f}", "rate", links[i].rate, "seconds",
                                                            predict(plan, i), "one_copy", one_copy(plan, i)));
    if (bad) {
        json_decref(trees);
        json_decref(predictions);
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    }
    json_int_t size = (json_int_t)plan->layout.size;
    json_t *object = json_pack("{s:s, s:s, s:i, s:I, s:i, s:i, s:f, s:f, s:o, s:o, s:o*}", "type", "plan", "tree",
                               plan->kind, "hosts", (int)tc_tree_hosts(plan->tree), "size", size, "chunk",
                               (int)plan->layout.chunk_size, "chunks", (int)plan->layout.chunks, "copies_coordinator",
                               tc_tree_load(plan->tree, 0), "copies_host", most_sent(plan), "trees", trees,
                               "predictions", predictions, "groups", plan->topology ? pack_groups(plan) : NULL);
    return tc_report_json(stdout, object, err);
}

/* --- the verb ---------------------------------------------------------------------------------------------------- */

static int take_topology(struct plan *plan, const char *option, struct tc_err *err)
{
    size_t count = tc_hostlist_count(plan->list);
    const char **hosts = calloc(count + 1, sizeof *hosts);
    if (!hosts)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        hosts[i] = tc_hostlist_at(plan->list, i);
    int result = tc_topology_options_find(option, hosts, count, &plan->topology, err);
    free(hosts);
    return result;
}

static int plan_for(const struct tc_hostlist *list, const struct plan_values *values, struct tc_err *err)
{
    struct plan plan = {.list = list};
    struct tc_tree_spec spec;
    unsigned hosts = (unsigned)tc_hostlist_count(list);
    uint32_t chunk = values->chunk ? (uint32_t)values->chunk : tc_chunk_size_choose(values->size, hosts);
    int result = tc_tree_parse(&spec, values->tree, err);
    if (result == 0)
        result = tc_layout_init(&plan.layout, values->size, chunk, err);
    if (result < 0)
        return result;
    result = take_topology(&plan, values->topology, err);
    if (result < 0)
        return result;
    spec = tc_tree_choose(spec, plan.topology, hosts, values->size, chunk, TC_NETWORK_DEFAULT);
    tc_tree_print(spec, plan.kind);
    struct tc_tree *tree =
        plan.topology ? tc_tree_new_grouped(spec, plan.topology, err) : tc_tree_new(spec, hosts, err);
    plan.tree = tree;
    result = tree ? measure_groups(&plan, err) : -TC_E_NOMEM;
    if (result == 0)
        result = values->json ? print_json(&plan, err) : print_plan(&plan, err);
    tc_tree_free(tree);
    tc_topology_free(plan.topology);
    free(plan.groups);
    return result;
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct plan_values *values = call->values;
    struct tc_hostlist *list = tc_host_options_gather(&values->hosts, NULL, err);
    if (!list)
        return err->reason ? -err->reason : -TC_E_NOMEM;
    int result = plan_for(list, values, err);
    tc_hostlist_free(list);
    return result;
}

static const struct plan_values defaults = {.size = 1 << 30, .tree = "auto", .topology = "auto"};

static const struct tc_option options[] = {
    TC_HOST_ROWS(struct plan_values, hosts),
    {.name = "size",
     .argument = "SIZE",
     .kind = TC_OPT_SIZE,
     TC_AT(struct plan_values, size),
     .most = INT64_MAX,
     .help = "bytes of the array (default 1G)"},
    {.letter = 's',
     .name = "chunk",
     .argument = "SIZE",
     .kind = TC_OPT_SIZE,
     TC_AT(struct plan_values, chunk),
     .least = TC_CHUNK_SIZE_MIN,
     .most = TC_CHUNK_SIZE_MAX,
     .choices = "64K|128K|256K|512K|1M|2M|4M",
     .help = "bytes of a chunk, a power of two, 64K .. 4M (default: by size and hosts)"},
    {.letter = 'F',
     .name = "tree",
     .argument = "KIND",
     .kind = TC_OPT_TEXT,
     TC_AT(struct plan_values, tree),
     .choices = "auto|binomial|double|caterpillar|chain|kary:2",
     .help = "auto (default), binomial, double, caterpillar, chain, kary:N or N"},
    TC_TOPOLOGY_ROW(struct plan_values, topology),
    TC_JSON_ROW(struct plan_values, json),
    {.name = NULL},
};

const struct tc_verb tc_verb_plan = {
    .name = "plan",
    .arguments = "",
    .summary = "show the trees that a broadcast would take, and the time it should need; contacts no host",
    .options = options,
    .size = sizeof(struct plan_values),
    .defaults = &defaults,
    .run = run,
};
