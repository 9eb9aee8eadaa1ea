#include "session/coordinator_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int tc_coordinator_fresh_edge(struct tc_coordinator *c, unsigned t, uint32_t rank, struct tc_err *err)
{
    struct tc_msg_link *edge = &c->edges[t][rank];
    edge->rank = rank;
    int status = c->config.random(c->config.random_arg, edge->id, sizeof edge->id, err);
    if (status == 0)
        status = c->config.random(c->config.random_arg, edge->key, sizeof edge->key, err);
    return status;
}

void tc_coordinator_mark_changed(struct tc_coordinator *c, uint32_t rank)
{
    if (rank == 0)
        c->children_changed = true;
    else if (rank != TC_NO_RANK)
        tc_rank_host(c, rank)->changed = true;
}

/* Rows. */

/* The link of rank below its parent as it stands in the parent's row. */
static struct tc_msg_link link_below(const struct tc_coordinator *c, unsigned t, uint32_t rank)
{
    struct tc_msg_link link = c->edges[t][rank];
    link.flags = tc_replan_is_last(c->replan, t, rank) ? TC_LINK_LAST : 0;
    return link;
}

static void fill_row(struct tc_coordinator *c, uint32_t rank, unsigned t, struct tc_msg_row *row,
                     struct tc_msg_link *children)
{
    uint32_t up = tc_replan_parent(c->replan, t, rank);
    *row = (struct tc_msg_row){.parent = c->edges[t][rank], .children = (const uint8_t *)children};
    row->parent.rank = up;
    row->parent.flags = tc_host_doubted(tc_rank_host(c, rank)) ? TC_LINK_DOUBTED : 0;
    if (up != 0 && up != TC_NO_RANK)
        memcpy(row->address, tc_rank_host(c, up)->address, sizeof row->address);
    for (uint32_t child = 1; child <= c->ranks; child++)
        if (tc_replan_parent(c->replan, t, child) == rank && tc_host_planned(tc_rank_host(c, child)))
            children[row->child_count++] = link_below(c, t, child);
}

/* Why the plan of this epoch differs from the one before, by its first reason. */
static void say_why(const struct tc_coordinator *c, char *out, size_t size)
{
    unsigned first = c->replan_count;
    while (first > 0 && c->replans[first - 1].epoch == c->epoch)
        first--;
    if (first == c->replan_count)
        return;
    const struct tc_replan_view *view = &c->replans[first];
    unsigned more = c->replan_count - first - 1;
    int used = snprintf(out, size, "%.80s: %.60s", c->config.hosts[view->host], view->text);
    if (more > 0 && used > 0 && (size_t)used < size)
        snprintf(out + used, size - (size_t)used, " (and %u more)", more);
}

static void note_parent(struct tc_host *host, unsigned t, uint32_t up)
{
    if (host->told[t] != up)
        host->before[t] = host->told[t];
    host->told[t] = up;
}

static void send_row(struct tc_coordinator *c, uint32_t rank, struct tc_msg_link *scratch)
{
    struct tc_host *host = tc_rank_host(c, rank);
    struct tc_message message = {.type = TC_MSG_PLAN};
    struct tc_msg_plan *plan = &message.plan;
    plan->signed_by = tc_coordinator_signed_by(c);
    memcpy(plan->session, c->config.session, sizeof plan->session);
    memcpy(plan->nonce, host->nonce, sizeof plan->nonce);
    plan->to = tc_coordinator_destination(c, host);
    plan->epoch = c->epoch;
    plan->rank = rank;
    plan->trees = (uint8_t)c->trees;
    say_why(c, plan->why, sizeof plan->why);
    if (!plan->why[0] && tc_host_doubted(host))
        snprintf(plan->why, sizeof plan->why, "%.80s: gave wrong bytes", tc_host_name(c, host));
    for (unsigned t = 0; t < c->trees; t++) {
        fill_row(c, rank, t, &plan->rows[t], scratch + (size_t)t * c->ranks);
        note_parent(host, t, plan->rows[t].parent.rank);
    }
    tc_coordinator_send(c, host->control, &message);
    host->changed = false;
    host->row_epoch = c->epoch;
}

/* Make rank 0's own links what the plan says: dial children that are new, close those that are not ours any more. */
static int dial_children(struct tc_coordinator *c, struct tc_err *err)
{
    for (unsigned i = c->children.count; i-- > 0;) {
        struct tc_child *child = &c->children.items[i];
        uint32_t rank = child->self.rank;
        struct tc_msg_link edge = link_below(c, child->tree, rank);
        bool ours = tc_replan_parent(c->replan, child->tree, rank) == 0 && tc_host_planned(tc_rank_host(c, rank)) &&
                    memcmp(edge.id, child->self.id, TC_LINK_ID_SIZE) == 0;
        child->self.flags = edge.flags;
        if (!ours) {
            tc_coordinator_close_link(c, child->link, 0);
            tc_children_remove(&c->children, child);
        }
    }
    for (unsigned t = 0; t < c->trees; t++)
        for (uint32_t rank = 1; rank <= c->ranks; rank++) {
            struct tc_msg_link edge = link_below(c, t, rank);
            if (tc_replan_parent(c->replan, t, rank) != 0 || !tc_host_planned(tc_rank_host(c, rank)) ||
                tc_children_by_id(&c->children, edge.id))
                continue;
            struct tc_child *child = tc_children_add(&c->children, t, &edge, err);
            if (!child)
                return -TC_E_NOMEM;
            child->link = c->next_link++;
            child->since = c->now;
            struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_DIAL);
            action->link = child->link;
            action->host = c->host_of_rank[rank];
            action->address = c->config.joins ? tc_rank_host(c, rank)->address : c->config.hosts[action->host];
            memcpy(action->id, edge.id, sizeof action->id);
            memcpy(action->key, edge.key, sizeof action->key);
        }
    return 0;
}

/* Tell every host whose row has changed, in a new epoch. */
static void publish_plan(struct tc_coordinator *c)
{
    struct tc_err err = {0};
    struct tc_msg_link *scratch = calloc((size_t)c->trees * c->ranks + 1, sizeof *scratch);
    if (!scratch) {
        c->actions.failed = true;
        return;
    }
    c->epoch++;
    c->children_changed = false;
    for (uint32_t rank = 1; rank <= c->ranks; rank++)
        if (tc_rank_host(c, rank)->changed && tc_host_planned(tc_rank_host(c, rank)))
            send_row(c, rank, scratch);
    free(scratch);
    if (dial_children(c, &err) < 0)
        c->actions.failed = true;
}

static bool any_changed(const struct tc_coordinator *c)
{
    for (uint32_t i = 0; c->planned && i < c->config.host_count; i++)
        if (c->hosts[i].changed && tc_host_planned(&c->hosts[i]))
            return true;
    return c->planned && c->children_changed;
}

void tc_coordinator_publish_changes(struct tc_coordinator *c)
{
    if (any_changed(c))
        publish_plan(c);
}

/* The first plan. */

/* Ranks from rank on for the hosts that are ready; the next one. */
static uint32_t give_ranks(struct tc_coordinator *c, bool local, uint32_t rank)
{
    for (uint32_t i = 0; i < c->config.host_count; i++) {
        struct tc_host *host = &c->hosts[i];
        if (host->view.phase != TC_PHASE_READY || host->local != local)
            continue;
        host->view.rank = rank;
        tc_coordinator_enter(c, host, TC_PHASE_RUNNING);
        host->changed = true;
        for (unsigned t = 0; t < TC_TREES_MAX; t++)
            host->told[t] = host->before[t] = TC_NO_RANK;
        host->heard = host->gained_at = c->now;
        c->host_of_rank[rank++] = i;
        c->running++;
    }
    return rank;
}

/* An agent on the sender's host comes last and relays nothing: what it sends would go over the link that the sender
 * itself needs. */
static int make_tables(struct tc_coordinator *c, struct tc_err *err)
{
    c->host_of_rank = calloc(c->ranks + 1, sizeof *c->host_of_rank);
    for (unsigned t = 0; t < c->trees; t++)
        c->edges[t] = calloc(c->ranks + 1, sizeof(struct tc_msg_link));
    if (!c->host_of_rank || !c->edges[0] || !c->edges[c->trees - 1])
        return tc_fail(err, TC_E_NOMEM, "no memory for a plan of %u hosts", c->ranks);
    uint32_t rank = give_ranks(c, false, 1);
    give_ranks(c, true, rank);
    return 0;
}

/* Where the hosts hang that get ranks in give_ranks' first turn; *count of them. */
static int take_topology(struct tc_coordinator *c, uint32_t *count, struct tc_err *err)
{
    uint32_t *members = calloc(c->ranks + 1, sizeof *members);
    *count = 0;
    if (!members)
        return tc_fail(err, TC_E_NOMEM, "no memory for a plan of %u hosts", c->ranks);
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (c->hosts[i].view.phase == TC_PHASE_READY && !c->hosts[i].local)
            members[++*count] = i + 1;
    if (c->config.topology)
        c->topology = tc_topology_pick(c->config.topology, members, *count + 1, err);
    free(members);
    return c->config.topology && !c->topology ? -TC_E_NOMEM : 0;
}

static void choose_tree(struct tc_coordinator *c, uint32_t hosts)
{
    const struct tc_layout *layout = &c->config.layout;
    c->spec = tc_tree_choose(c->config.tree, c->topology, hosts, layout->size, layout->chunk_size, TC_NETWORK_DEFAULT);
}

static int plan(struct tc_coordinator *c, struct tc_err *err)
{
    uint32_t planted;
    if (take_topology(c, &planted, err) < 0)
        return -TC_E_NOMEM;
    choose_tree(c, planted);
    struct tc_tree *tree =
        c->topology ? tc_tree_new_grouped(c->spec, c->topology, err) : tc_tree_new(c->spec, planted, err);
    if (!tree)
        return -TC_E_NOMEM;
    c->trees = tc_tree_count(tree);
    int status = make_tables(c, err);
    for (unsigned t = 0; t < c->trees && status == 0; t++)
        for (uint32_t rank = 1; rank <= c->ranks && status == 0; rank++)
            status = tc_coordinator_fresh_edge(c, t, rank, err);
    c->replan = status == 0 ? tc_replan_new(tree, c->topology, c->ranks - planted, c->now, err) : NULL;
    tc_tree_free(tree);
    if (!c->replan)
        return -TC_E_NOMEM;
    c->planned = true;
    c->planned_at = c->moved_at = c->steady_since = c->now;
    publish_plan(c);
    tc_coordinator_news(c, TC_NO_RANK);
    return 0;
}

/* Every host has answered: is it worth it, and then who gets what from whom. */
void tc_coordinator_all_answered(struct tc_coordinator *c)
{
    struct tc_err err = {0};
    for (uint32_t i = 0; i < c->config.host_count; i++)
        c->ranks += c->hosts[i].view.phase == TC_PHASE_READY;
    if (c->ranks < c->config.min_hosts || c->ranks == 0) {
        tc_fail(&err, TC_E_ABORTED, "only %u of %u hosts can take it (needed: %u); nothing was sent", c->ranks,
                c->config.host_count, c->config.min_hosts);
        tc_coordinator_abort(c, &err);
        return;
    }
    if (c->config.flags & TC_OFFER_DRY_RUN) {
        uint32_t planted;
        if (take_topology(c, &planted, &err) == 0)
            choose_tree(c, planted);
        tc_coordinator_news(c, TC_NO_RANK);
        for (uint32_t i = 0; i < c->config.host_count; i++)
            if (c->hosts[i].view.phase == TC_PHASE_READY)
                tc_coordinator_end_host(c, &c->hosts[i], TC_END_READY, NULL);
        tc_coordinator_finish(c, NULL);
        return;
    }
    if (plan(c, &err) < 0)
        tc_coordinator_abort(c, &err);
}
