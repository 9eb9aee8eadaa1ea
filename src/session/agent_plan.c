#include "session/agent_own.h"

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

static bool row_has_child(const struct tc_msg_plan *plan, const struct tc_child *child)
{
    const struct tc_msg_row *row = &plan->rows[child->tree];
    for (unsigned i = 0; i < row->child_count; i++) {
        struct tc_msg_link link = tc_msg_row_child(row, i);
        if (memcmp(link.id, child->self.id, TC_LINK_ID_SIZE) == 0)
            return true;
    }
    return false;
}

static int adopt_children(struct tc_agent *agent, const struct tc_msg_plan *plan, struct tc_err *err)
{
    for (unsigned i = agent->children.count; i-- > 0;) {
        struct tc_child *child = &agent->children.items[i];
        if (!row_has_child(plan, child)) {
            tc_agent_close_link(agent, child->link, 0);
            tc_children_remove(&agent->children, child);
        }
    }
    for (unsigned t = 0; t < plan->trees; t++)
        for (unsigned i = 0; i < plan->rows[t].child_count; i++) {
            struct tc_msg_link link = tc_msg_row_child(&plan->rows[t], i);
            struct tc_child *child = tc_children_by_id(&agent->children, link.id);
            if (child)
                child->self.flags = link.flags;
            else if (!tc_children_add(&agent->children, t, &link, err))
                return -TC_E_NOMEM;
        }
    return 0;
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
    return agent->state >= TC_AGENT_FAILED ? 0 : -1;
}
