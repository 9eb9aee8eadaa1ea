#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/report.h"
#include "cli/size.h"
#include "api/client.h"

struct status_values {
    struct tc_dir_options place;
    bool json;
    bool tree;
};

enum { ANSWER_SECONDS = 10 };

static int refused(const json_t *answer, struct tc_err *err)
{
    const char *name = json_string_value(json_object_get(answer, "reason"));
    const char *text = json_string_value(json_object_get(answer, "text"));
    int reason = TC_E_FAILED;
    for (int i = 1; name && i < 256; i++)
        if (tc_reason_known(i) && strcasecmp(tc_reason_name(i), name) == 0)
            reason = i;
    char shown[TC_ERR_TEXT];
    return tc_fail(err, reason, "%s", tc_escape(shown, sizeof shown, text ? text : tc_reason_text(reason)));
}

static int ask(const char *dir, const char *name, json_t **answer, struct tc_err *err)
{
    json_t *request = json_pack("{s:s, s:s*}", "op", "status", "name", name);
    char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
    char *text = malloc(TC_API_ANSWER);
    json_decref(request);
    int api = line && text ? tc_api_open(dir, err) : tc_fail(err, TC_E_NOMEM, "out of memory");
    int result = api < 0 ? api : tc_api_ask(api, line, text, TC_API_ANSWER, ANSWER_SECONDS, err);
    if (api >= 0)
        close(api);
    if (result == 0) {
        *answer = json_loads(text, 0, NULL);
        if (!json_is_object(*answer))
            result = tc_fail(err, TC_E_PROTOCOL, "the agent's answer is not a JSON object");
    }
    free(line);
    free(text);
    return result;
}

/* A member as one cell: numbers are bytes, texts came from elsewhere and are escaped. */
enum { CELL = 256 };
static const char *cell(char *out, const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    char amount[TC_AMOUNT_TEXT];
    if (json_is_string(value))
        return tc_escape(out, CELL, json_string_value(value));
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        snprintf(out, CELL, "%s", tc_size_print(amount, (uint64_t)json_integer_value(value)));
    else
        snprintf(out, CELL, "-");
    return out;
}

static int add_arrays(struct tc_table *table, const json_t *rows, struct tc_err *err)
{
    char name[CELL], state[CELL], size[CELL], bytes[CELL], from[CELL];
    size_t index;
    json_t *row;
    int result = 0;
    json_array_foreach(rows, index, row)
    {
        const char *cells[] = {cell(name, row, "name"), cell(state, row, "state"), cell(size, row, "size"),
                               cell(bytes, row, "bytes"), cell(from, row, "from")};
        if (result == 0)
            result = tc_table_row(table, cells, err);
    }
    return result;
}

static int add_links(struct tc_table *table, const json_t *session, struct tc_err *err)
{
    char name[CELL], peer[CELL], received[CELL], sent[CELL], queued[CELL];
    size_t index;
    json_t *row;
    int result = 0;
    json_array_foreach(json_object_get(session, "links"), index, row)
    {
        const char *cells[] = {cell(name, session, "name"), cell(peer, row, "peer"), cell(received, row, "received"),
                               cell(sent, row, "sent"), cell(queued, row, "queued")};
        if (result == 0)
            result = tc_table_row(table, cells, err);
    }
    return result;
}

static int print_arrays(const json_t *answer, struct tc_err *err)
{
    static const char *const heads[] = {"NAME", "STATE", ">SIZE", ">DONE", "FROM", NULL};
    struct tc_table *table = tc_table_new(heads, err);
    int result = table ? add_arrays(table, json_object_get(answer, "sessions"), err) : -TC_E_NOMEM;
    if (result == 0)
        result = add_arrays(table, json_object_get(answer, "published"), err);
    if (result == 0)
        result = tc_table_print(table, stdout, err);
    tc_table_free(table);
    return result;
}

static int print_links(const json_t *answer, struct tc_err *err)
{
    static const char *const heads[] = {"LINKS OF", "PEER", ">RECEIVED", ">SENT", ">QUEUED", NULL};
    struct tc_table *table = tc_table_new(heads, err);
    size_t index;
    json_t *session;
    int result = table ? 0 : -TC_E_NOMEM;
    json_array_foreach(json_object_get(answer, "sessions"), index, session) if (result == 0) result =
        add_links(table, session, err);
    if (result == 0)
        result = tc_table_print(table, stdout, err);
    tc_table_free(table);
    return result;
}

static json_int_t number(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

/* "3 12(last)": ranks of children, "-" for none. */
static const char *children_cell(char *out, const json_t *tree)
{
    size_t index, used = 0;
    json_t *child;
    snprintf(out, CELL, "-");
    json_array_foreach(json_object_get(tree, "children"), index, child) if (used < CELL) used +=
        (size_t)snprintf(out + used, CELL - used, "%s%lld%s", index ? " " : "", (long long)number(child, "rank"),
                         json_is_true(json_object_get(child, "last")) ? "(last)" : "");
    return out;
}

static int add_places(struct tc_table *table, const json_t *session, struct tc_err *err)
{
    char name[CELL], t[CELL], parent[CELL], address[CELL / 2], children[CELL], received[CELL], sent[CELL], waits[CELL];
    const json_t *plan = json_object_get(session, "plan");
    size_t index;
    json_t *tree;
    int result = 0;
    json_array_foreach(json_object_get(plan, "trees"), index, tree)
    {
        const json_t *up = json_object_get(tree, "parent");
        const char *where = json_string_value(json_object_get(up, "address"));
        snprintf(t, sizeof t, "%zu", index);
        tc_escape(address, sizeof address, where && *where ? where : "the sender");
        if (json_is_object(up))
            snprintf(parent, sizeof parent, "%lld %s%s", (long long)number(up, "rank"), address,
                     json_is_true(json_object_get(up, "up")) ? "" : " (not yet)");
        else
            snprintf(parent, sizeof parent, "-");
        snprintf(waits, sizeof waits, "%.1f s", (double)number(tree, "waiting") / 1000.0);
        const char *cells[] = {
            cell(name, session, "name"), t,    parent, children_cell(children, tree), cell(received, tree, "received"),
            cell(sent, tree, "sent"),    waits};
        if (result == 0)
            result = tc_table_row(table, cells, err);
    }
    return result;
}

static void print_replans(const json_t *session)
{
    char name[CELL], why[CELL];
    const json_t *replans = json_object_get(json_object_get(session, "plan"), "replans");
    for (size_t i = json_array_size(replans); i-- > 0;) {
        const json_t *replan = json_array_get(replans, i);
        printf("%s: plan %lld: %s\n", cell(name, session, "name"), (long long)number(replan, "epoch"),
               cell(why, replan, "why"));
    }
}

static int print_trees(const json_t *answer, struct tc_err *err)
{
    static const char *const heads[] = {"NAME", ">TREE", "PARENT", "CHILDREN", ">RECEIVED", ">SENT", ">WAITS", NULL};
    struct tc_table *table = tc_table_new(heads, err);
    const json_t *sessions = json_object_get(answer, "sessions");
    size_t index;
    json_t *session;
    int result = table ? 0 : -TC_E_NOMEM;
    json_array_foreach(sessions, index, session) if (result == 0) result = add_places(table, session, err);
    if (result == 0)
        result = tc_table_print(table, stdout, err);
    tc_table_free(table);
    json_array_foreach(sessions, index, session) print_replans(session);
    return result;
}

static int print(const json_t *answer, struct tc_err *err)
{
    char listen[CELL], dir[CELL];
    printf("listening on %s, publishing in %s\n", cell(listen, answer, "listen"), cell(dir, answer, "dir"));
    int result = print_arrays(answer, err);
    return result < 0 ? result : print_links(answer, err);
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct status_values *values = call->values;
    const char *name = call->operands[0];
    char dir[PATH_MAX];
    json_t *answer = NULL;
    int result = name ? tc_name_check(name, err) : 0;
    if (result == 0)
        result = tc_dir_find(dir, sizeof dir, &values->place, err);
    if (result == 0)
        result = ask(dir, name, &answer, err);
    if (result == 0 && !json_is_true(json_object_get(answer, "ok"))) {
        result = refused(answer, err);
    } else if (result == 0 && values->json) {
        json_object_set_new(answer, "type", json_string("status"));
        json_object_del(answer, "ok");
        result = tc_report_json(stdout, json_incref(answer), err);
    } else if (result == 0) {
        result = values->tree ? print_trees(answer, err) : print(answer, err);
    }
    json_decref(answer);
    return result;
}

/* clang-format off */
static const struct tc_option options[] = {
    TC_DIR_ROWS(struct status_values, place),
    {.name = "trees", .kind = TC_OPT_FLAG, TC_AT(struct status_values, tree),
     .help = "this host's places in the trees of each session, and why they have changed"},
    TC_JSON_ROW(struct status_values, json),
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_status = {
    .name = "status",
    .arguments = "[NAME]",
    .summary = "ask this host's agent what is here, what is on its way, and over which links",
    .options = options,
    .operands_are_names = true,
    .size = sizeof(struct status_values),
    .most = 1,
    .run = run,
};
