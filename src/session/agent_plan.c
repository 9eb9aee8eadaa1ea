#include "session/agent_own.h"

#include <stdlib.h>
#include <string.h>

static int check_plan(struct tc_agent *agent, const struct tc_msg_plan *plan, const struct tc_blob *body,
                      struct tc_err *err)
{
    int status = tc_agent_check_signed(agent, TC_MSG_PLAN, plan->signed_by, plan->nonce, &plan->to, body, err);
    if (status < 0)
        return status;
    if (memcmp(plan->session, agent->job.session, TC_SESSION_ID_SIZE) != 0)
        return tc_fail(err, TC_E_PROTOCOL, "PLAN of another session");
    if (plan->epoch <= agent->epoch || (agent->epoch && plan->trees != agent->trees))
        return tc_fail(err, TC_E_PROTOCOL, "PLAN of epoch %u after epoch %u", plan->epoch, agent->epoch);
    return 0;
}

static void note_why(struct tc_agent *agent, const struct tc_msg_plan *plan)
{
    unsigned at = agent->why_count++ % TC_AGENT_WHYS;
    agent->whys[at].epoch = plan->epoch;
    memcpy(agent->whys[at].why, plan->why, sizeof plan->why);
}

/* The children of a row, to be found by id: a row may have thousands. */
struct named {
    uint8_t id[TC_LINK_ID_SIZE];
    unsigned tree, at; /* in the row */
    bool known;        /* it is a child already */
};

struct names {
    struct named *items; /* by id; where one came twice, the first */
    unsigned count;
};

static int by_id(const void *left, const void *right)
{
    return memcmp(((const struct named *)left)->id, ((const struct named *)right)->id, TC_LINK_ID_SIZE);
}

static int in_order(const void *left, const void *right)
{
    const struct named *a = left, *b = right;
    int order = by_id(a, b);
    if (order != 0)
        return order;
    return a->tree != b->tree ? (a->tree < b->tree ? -1 : 1) : a->at < b->at ? -1 : 1;
}

static int take_names(struct names *names, const struct tc_msg_plan *plan, struct tc_err *err)
{
    size_t capacity = 1;
    for (unsigned t = 0; t < plan->trees; t++)
        capacity += plan->rows[t].child_count;
    names->items = calloc(capacity, sizeof *names->items);
    if (!names->items)
        return tc_fail(err, TC_E_NOMEM, "no memory for %zu children", capacity - 1);
    for (unsigned t = 0; t < plan->trees; t++)
        for (unsigned i = 0; i < plan->rows[t].child_count; i++) {
            struct named *named = &names->items[names->count++];
            *named = (struct named){.tree = t, .at = i};
            memcpy(named->id, tc_msg_row_child(&plan->rows[t], i).id, TC_LINK_ID_SIZE);
        }
    unsigned all = names->count;
    qsort(names->items, all, sizeof *names->items, in_order);
    names->count = 0;
    for (unsigned i = 0; i < all; i++)
        if (i == 0 || by_id(&names->items[names->count - 1], &names->items[i]) != 0)
            names->items[names->count++] = names->items[i];
    return 0;
}

/* NULL: it is not in the row. */
static struct named *find(const struct names *names, const uint8_t id[TC_LINK_ID_SIZE])
{
    struct named key = {0};
    memcpy(key.id, id, sizeof key.id);
    return bsearch(&key, names->items, names->count, sizeof key, by_id);
}

static void drop_others(struct tc_agent *agent, const struct tc_msg_plan *plan, const struct names *names)
{
    for (unsigned i = agent->children.count; i-- > 0;) {
        struct tc_child *child = &agent->children.items[i];
        struct named *named = find(names, child->self.id);
        if (named && named->tree == child->tree) {
            child->self.flags = tc_msg_row_child(&plan->rows[named->tree], named->at).flags;
            named->known = true;
            continue;
        }
        tc_agent_close_link(agent, child->link, 0);
        tc_children_remove(&agent->children, child);
    }
}

static int adopt_children(struct tc_agent *agent, const struct tc_msg_plan *plan, struct tc_err *err)
{
    struct names names = {0};
    int status = take_names(&names, plan, err);
    if (status == 0)
        drop_others(agent, plan, &names);
    for (unsigned t = 0; t < plan->trees && status == 0; t++)
        for (unsigned i = 0; i < plan->rows[t].child_count && status == 0; i++) {
            struct tc_msg_link link = tc_msg_row_child(&plan->rows[t], i);
            struct named *named = find(&names, link.id);
            if (named->known)
                continue;
            named->known = true;
            status = tc_children_add(&agent->children, t, &link, err) ? 0 : -TC_E_NOMEM;
        }
    free(names.items);
    return status;
}

int tc_agent_on_plan(struct tc_agent *agent, const struct tc_msg_plan *plan, const struct tc_blob *body,
                     struct tc_err *err)
{
    int status = check_plan(agent, plan, body, err);
    if (status < 0)
        return status;
    bool first = agent->epoch == 0;
    agent->epoch = plan->epoch;
    agent->rank = plan->rank;
    agent->trees = plan->trees;
    agent->last_byte = agent->now;
    if (first)
        tc_agent_enter(agent, TC_AGENT_FILLING, "PLAN");
    else
        note_why(agent, plan);
    status = adopt_children(agent, plan, err);
    for (unsigned t = 0; t < plan->trees && status == 0; t++) {
        agent->doubted |= plan->rows[t].parent.flags & TC_LINK_DOUBTED;
        if (agent->state == TC_AGENT_FILLING)
            status = tc_agent_adopt_parent(agent, t, &plan->rows[t], err);
    }
    if (status < 0)
        return status;
    tc_actions_add(&agent->actions, TC_ACT_EXPECT);
    return tc_agent_retry_held(agent, err);
}

int tc_agent_link_key(const struct tc_agent *agent, const uint8_t id[TC_LINK_ID_SIZE], uint8_t key[TC_LINK_KEY_SIZE])
{
    for (unsigned i = 0; i < agent->children.count; i++)
        if (memcmp(agent->children.items[i].self.id, id, TC_LINK_ID_SIZE) == 0) {
            memcpy(key, agent->children.items[i].self.key, TC_LINK_KEY_SIZE);
            return 1;
        }
    for (unsigned t = 0; t < agent->trees; t++)
        if (agent->parents[t].state == TC_PARENT_AWAITED &&
            memcmp(agent->parents[t].self.id, id, TC_LINK_ID_SIZE) == 0) {
            memcpy(key, agent->parents[t].self.key, TC_LINK_KEY_SIZE);
            return 1;
        }
    static const uint8_t none[TC_LINK_ID_SIZE];
    if (agent->state <= TC_AGENT_PREPARED && memcmp(id, none, sizeof none) != 0 &&
        memcmp(agent->proof_id, id, sizeof agent->proof_id) == 0) {
        memcpy(key, agent->proof_key, TC_LINK_KEY_SIZE);
        return 1;
    }
    return agent->state >= TC_AGENT_FAILED ? 0 : -1;
}
