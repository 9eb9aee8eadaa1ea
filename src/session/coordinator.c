#include "session/coordinator.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/agent.h"
#include "session/children.h"

enum {
    TICK_MS = 250,
    TICK_PLANNED_MS = 100, /* while it is watched who holds up whom */
    SYNC_RATE = 16 << 10   /* bytes a millisecond that a disk takes at least */
};

enum { CHARGES = 4 }; /* one that complains more often than this complains of everybody */

struct host {
    struct tc_host_view view;
    uint32_t control; /* TC_NO_LINK once it is gone */
    bool greeted;
    bool local; /* it is on this host, and has the source itself */
    uint8_t instance[16];
    uint8_t nonce[TC_NONCE_SIZE];
    char address[TC_ADDRESS_MAX];    /* for other agents */
    uint64_t heard;                  /* last control message */
    uint64_t compared;               /* bytes that it has looked for in what it has */
    bool changed;                    /* its row differs from what it was told */
    uint32_t row_epoch;              /* of the last row it was told: older complaints are of no interest */
    uint64_t received[TC_TREES_MAX]; /* bytes it had from its parents, as it said last */
    uint64_t fed_at;                 /* when a child of its last said that it had a byte from it */
    uint32_t charges[CHARGES];       /* ranks from which it says it had wrong bytes; while it is believed */
    unsigned charge_count;
    bool quarrelsome; /* that was two of them: it is not believed any more */
};

struct pending { /* block digests that came before an earlier chunk's */
    bool full;
    struct tc_digest blocks[TC_CHUNK_BLOCKS_MAX];
};

struct tc_coordinator {
    struct tc_coordinator_config config;
    struct tc_actions actions;
    uint64_t now, tick_due;
    bool ended;

    struct host *hosts; /* as listed */
    uint32_t asked;     /* hosts whose answer is still out */
    uint32_t running;   /* planned hosts that have not ended */
    uint32_t next_link;

    bool planned;
    unsigned accused; /* the sender itself, of wrong bytes */
    uint64_t planned_at;
    uint32_t epoch;
    struct tc_tree_spec spec;
    unsigned trees;
    uint32_t ranks;                          /* ready hosts; ranks 1 .. ranks */
    uint32_t *host_of_rank;                  /* ranks + 1 */
    struct tc_msg_link *edges[TC_TREES_MAX]; /* by the child's rank */
    struct tc_replan *replan;
    struct tc_replan_view *replans;
    unsigned replan_count, replan_room;
    struct tc_children children;
    uint64_t bytes_seen, moved_at; /* for the stall */

    struct tc_page **pages;
    struct tc_bits have_pages, have;
    struct tc_content *content;
    struct pending *window; /* ring of digest_depth */
    uint32_t next_digest, digesting, next_content;
    bool checking;
};

__attribute__((format(printf, 2, 3))) static void trace(const struct tc_coordinator *c, const char *format, ...)
{
    if (!c->config.trace)
        return;
    char line[TC_ERR_TEXT + TC_ADDRESS_MAX + 32];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    c->config.trace(c->config.trace_arg, line);
}

static const char *name_of(const struct tc_coordinator *c, const struct host *host)
{
    return c->config.hosts[host - c->hosts];
}

static const char *name_of_rank(const struct tc_coordinator *c, uint32_t rank)
{
    return rank == 0 ? "the sender" : c->config.hosts[c->host_of_rank[rank]];
}

static struct tc_store store_of(struct tc_coordinator *c)
{
    return (struct tc_store){&c->config.layout, c->pages, &c->have_pages, &c->have};
}

static enum tc_signed_by signed_by(const struct tc_coordinator *c)
{
    return c->config.origin ? TC_SIGNED_ORIGIN : TC_SIGNED_SESSION;
}

static void send_message(struct tc_coordinator *c, uint32_t link, const struct tc_message *message)
{
    struct tc_err err = {0};
    struct tc_signer *signer = c->config.origin ? c->config.origin : c->config.signer;
    if (link != TC_NO_LINK && tc_actions_send(&c->actions, link, message, signer, &err) < 0)
        c->actions.failed = true;
}

static void close_link(struct tc_coordinator *c, uint32_t link, uint32_t linger)
{
    if (link == TC_NO_LINK)
        return;
    struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_CLOSE);
    action->link = link;
    action->linger = linger;
}

static void news(struct tc_coordinator *c, uint32_t host)
{
    tc_actions_add(&c->actions, TC_ACT_NEWS)->host = host;
}

/* Ends of hosts. */

static bool alive(const struct host *host)
{
    return host->control != TC_NO_LINK;
}

/* A link's errors begin with its peer's address; the report names the host itself and folds those that say the same. */
static const char *without_name(const char *text, const char *name)
{
    size_t length = strlen(name);
    return strncmp(text, name, length) == 0 && strncmp(text + length, ": ", 2) == 0 ? text + length + 2 : text;
}

static void end_host(struct tc_coordinator *c, struct host *host, enum tc_host_end end, const struct tc_err *why)
{
    struct tc_host_view *view = &host->view;
    if (view->phase == TC_PHASE_ENDED)
        return;
    if (view->phase == TC_PHASE_DIALLED || view->phase == TC_PHASE_OFFERED)
        c->asked--;
    if (view->phase == TC_PHASE_RUNNING || view->phase == TC_PHASE_WHOLE)
        c->running--;
    view->phase = TC_PHASE_ENDED;
    view->end = end;
    view->ended_at = c->now;
    if (why)
        tc_fail(&view->why, why->reason, "%s", without_name(why->text, name_of(c, host)));
    trace(c, "%s: ended (%s)", name_of(c, host), why ? why->text : "well");
    news(c, (uint32_t)(host - c->hosts));
}

static void leave_plan(struct tc_coordinator *c, struct host *host);

/* The control link goes: with it the host leaves every tree, and its children get other parents. */
static void drop_host(struct tc_coordinator *c, struct host *host, enum tc_host_end end, const struct tc_err *why,
                      bool tell)
{
    if (tell && alive(host)) {
        struct tc_message message = {.type = TC_MSG_ABORT};
        message.why.reason = (uint16_t)why->reason;
        snprintf(message.why.text, sizeof message.why.text, "%s", why->text);
        send_message(c, host->control, &message);
    }
    close_link(c, host->control, TC_MS_GOODBYE);
    host->control = TC_NO_LINK;
    end_host(c, host, end, why);
    leave_plan(c, host);
}

static void finish(struct tc_coordinator *c, const struct tc_err *why)
{
    if (c->ended)
        return;
    c->ended = true;
    for (unsigned i = 0; i < c->children.count; i++)
        close_link(c, c->children.items[i].link, TC_MS_GOODBYE);
    for (uint32_t i = 0; i < c->config.host_count; i++) {
        struct host *host = &c->hosts[i];
        if (!alive(host))
            continue;
        struct tc_message message = {.type = TC_MSG_BYE};
        send_message(c, host->control, &message);
        close_link(c, host->control, TC_MS_GOODBYE);
        host->control = TC_NO_LINK;
    }
    struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_END);
    if (why)
        action->err = *why;
}

/* The whole session ends now: who has not ended is told and reported as aborted. */
static void abort_all(struct tc_coordinator *c, const struct tc_err *why)
{
    if (c->ended)
        return;
    c->planned = false; /* nobody gets a new parent any more */
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (c->hosts[i].view.phase != TC_PHASE_ENDED)
            drop_host(c, &c->hosts[i], TC_END_ABORTED, why, true);
    finish(c, why);
}

/* The plan. */

static int fresh_edge(struct tc_coordinator *c, unsigned t, uint32_t rank, struct tc_err *err)
{
    struct tc_msg_link *edge = &c->edges[t][rank];
    edge->rank = rank;
    int status = c->config.random(c->config.random_arg, edge->id, sizeof edge->id, err);
    if (status == 0)
        status = c->config.random(c->config.random_arg, edge->key, sizeof edge->key, err);
    return status;
}

static struct host *host_of(const struct tc_coordinator *c, uint32_t rank)
{
    return &c->hosts[c->host_of_rank[rank]];
}

/* The link of rank below its parent as it stands in the parent's row. */
static struct tc_msg_link link_below(const struct tc_coordinator *c, unsigned t, uint32_t rank)
{
    struct tc_msg_link link = c->edges[t][rank];
    link.flags = tc_replan_fit(c->replan, rank) ? 0 : TC_LINK_LAST;
    return link;
}

static int fill_row(struct tc_coordinator *c, uint32_t rank, unsigned t, struct tc_msg_row *row,
                    struct tc_msg_link *children)
{
    uint32_t up = tc_replan_parent(c->replan, t, rank);
    *row = (struct tc_msg_row){.parent = c->edges[t][rank], .children = (const uint8_t *)children};
    row->parent.rank = up;
    if (up != 0 && up != TC_NO_RANK)
        memcpy(row->address, host_of(c, up)->address, sizeof row->address);
    for (uint32_t child = 1; child <= c->ranks; child++)
        if (tc_replan_parent(c->replan, t, child) == rank && alive(host_of(c, child)))
            children[row->child_count++] = link_below(c, t, child);
    return 0;
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

static void send_row(struct tc_coordinator *c, uint32_t rank, struct tc_msg_link *scratch)
{
    struct host *host = &c->hosts[c->host_of_rank[rank]];
    struct tc_message message = {.type = TC_MSG_PLAN};
    struct tc_msg_plan *plan = &message.plan;
    plan->signed_by = signed_by(c);
    memcpy(plan->session, c->config.session, sizeof plan->session);
    memcpy(plan->nonce, host->nonce, sizeof plan->nonce);
    plan->epoch = c->epoch;
    plan->rank = rank;
    plan->trees = (uint8_t)c->trees;
    say_why(c, plan->why, sizeof plan->why);
    for (unsigned t = 0; t < c->trees; t++)
        fill_row(c, rank, t, &plan->rows[t], scratch + (size_t)t * c->ranks);
    send_message(c, host->control, &message);
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
        bool ours = tc_replan_parent(c->replan, child->tree, rank) == 0 && alive(host_of(c, rank)) &&
                    memcmp(edge.id, child->self.id, TC_LINK_ID_SIZE) == 0;
        child->self.flags = edge.flags;
        if (!ours) {
            close_link(c, child->link, 0);
            tc_children_remove(&c->children, child);
        }
    }
    for (unsigned t = 0; t < c->trees; t++)
        for (uint32_t rank = 1; rank <= c->ranks; rank++) {
            struct tc_msg_link edge = link_below(c, t, rank);
            if (tc_replan_parent(c->replan, t, rank) != 0 || !alive(host_of(c, rank)) ||
                tc_children_by_id(&c->children, edge.id))
                continue;
            struct tc_child *child = tc_children_add(&c->children, t, &edge, err);
            if (!child)
                return -TC_E_NOMEM;
            child->link = c->next_link++;
            struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_DIAL);
            action->link = child->link;
            action->host = c->host_of_rank[rank];
            action->address = c->config.joins ? host_of(c, rank)->address : c->config.hosts[action->host];
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
    for (uint32_t rank = 1; rank <= c->ranks; rank++)
        if (c->hosts[c->host_of_rank[rank]].changed && alive(&c->hosts[c->host_of_rank[rank]]))
            send_row(c, rank, scratch);
    free(scratch);
    if (dial_children(c, &err) < 0)
        c->actions.failed = true;
}

static void mark_changed(struct tc_coordinator *c, uint32_t rank)
{
    if (rank != 0 && rank != TC_NO_RANK)
        host_of(c, rank)->changed = true;
}

static bool needs_data(const struct host *host)
{
    return alive(host) && host->view.phase == TC_PHASE_RUNNING;
}

/* The host is gone: others fill its places. */
static void leave_plan(struct tc_coordinator *c, struct host *host)
{
    if (c->planned && host->view.rank != 0)
        tc_replan_gone(c->replan, host->view.rank, c->now);
}

static bool any_changed(const struct tc_coordinator *c)
{
    for (uint32_t i = 0; c->planned && i < c->config.host_count; i++)
        if (c->hosts[i].changed && alive(&c->hosts[i]))
            return true;
    return false;
}

/* Ranks from rank on for the hosts that are ready; the next one. */
static uint32_t give_ranks(struct tc_coordinator *c, bool local, uint32_t rank)
{
    for (uint32_t i = 0; i < c->config.host_count; i++) {
        struct host *host = &c->hosts[i];
        if (host->view.phase != TC_PHASE_READY || host->local != local)
            continue;
        host->view.rank = rank;
        host->view.phase = TC_PHASE_RUNNING;
        host->changed = true;
        host->heard = c->now;
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

static int plan(struct tc_coordinator *c, struct tc_err *err)
{
    const struct tc_layout *layout = &c->config.layout;
    c->spec = tc_tree_choose(c->config.tree, c->ranks, layout->size, layout->chunk_size, TC_NETWORK_DEFAULT);
    uint32_t local = 0;
    for (uint32_t i = 0; i < c->config.host_count; i++)
        local += c->hosts[i].view.phase == TC_PHASE_READY && c->hosts[i].local;
    struct tc_tree *tree = tc_tree_new(c->spec, c->ranks - local, err);
    if (!tree)
        return -TC_E_NOMEM;
    c->trees = tc_tree_count(tree);
    int status = make_tables(c, err);
    for (unsigned t = 0; t < c->trees && status == 0; t++)
        for (uint32_t rank = 1; rank <= c->ranks && status == 0; rank++)
            status = fresh_edge(c, t, rank, err);
    c->replan = status == 0 ? tc_replan_new(tree, local, c->now, err) : NULL;
    tc_tree_free(tree);
    if (!c->replan)
        return -TC_E_NOMEM;
    c->planned = true;
    c->planned_at = c->moved_at = c->now;
    publish_plan(c);
    news(c, TC_NO_RANK);
    return 0;
}

/* The plan changes. */

static void tell_replan(struct tc_coordinator *c, const struct tc_replan_step *step)
{
    if (c->replan_count == c->replan_room) {
        unsigned room = c->replan_room ? 2 * c->replan_room : 8;
        struct tc_replan_view *replans = realloc(c->replans, room * sizeof *replans);
        if (!replans) {
            c->actions.failed = true;
            return;
        }
        c->replans = replans;
        c->replan_room = room;
    }
    struct tc_replan_view *view = &c->replans[c->replan_count++];
    *view = (struct tc_replan_view){.at = c->now,
                                    .epoch = c->epoch + 1,
                                    .why = step->why,
                                    .cause = step->cause,
                                    .host = c->host_of_rank[step->rank],
                                    .other = TC_NO_RANK,
                                    .moves = step->moves};
    if (step->other != TC_NO_RANK && step->other != 0)
        view->other = c->host_of_rank[step->other];
    tc_replan_say(step, step->other == TC_NO_RANK ? "" : name_of_rank(c, step->other), view->text, sizeof view->text);
    trace(c, "%s: %s, %u moved", name_of_rank(c, step->rank), view->text, step->moves);
    tc_actions_add(&c->actions, TC_ACT_REPLAN)->chunk = c->replan_count - 1;
}

/* Complaints of wrong bytes are counted for the parent, the sender too. */
static unsigned *accusations(struct tc_coordinator *c, uint32_t rank)
{
    return rank == 0 ? &c->accused : &host_of(c, rank)->view.accused;
}

static void charge(struct tc_coordinator *c, struct host *host, uint32_t rank)
{
    if (host->quarrelsome || host->charge_count == CHARGES)
        return;
    host->charges[host->charge_count++] = rank;
    ++*accusations(c, rank);
}

/* A host that had wrong bytes from two has a bad memory or network itself: what it said of others is taken back. */
static void doubt_charges(struct tc_coordinator *c, struct host *host)
{
    for (unsigned i = 1; i < host->charge_count; i++)
        host->quarrelsome |= host->charges[i] != host->charges[0];
    for (unsigned i = 0; i < host->charge_count && host->quarrelsome; i++)
        --*accusations(c, host->charges[i]);
    host->charge_count = host->quarrelsome ? 0 : host->charge_count;
}

static void give_up(struct tc_coordinator *c, struct host *host)
{
    struct tc_err why = {0};
    if (host->quarrelsome || host->charge_count > 0)
        tc_fail(&why, TC_E_INTEGRITY, "gets wrong bytes from everybody, the sender too: %s",
                c->accused > 0 ? "is the sender's memory or network bad?" : "is its memory or network bad?");
    else
        tc_fail(&why, TC_E_UNREACHABLE, "cannot be given chunks, not even by the sender");
    drop_host(c, host, TC_END_FAILED, &why, true);
}

static void on_step(struct tc_coordinator *c, const struct tc_replan_step *step)
{
    struct host *host = host_of(c, step->rank);
    host->view.unfit = !tc_replan_fit(c->replan, step->rank);
    host->view.cause = tc_replan_cause(c->replan, step->rank);
    for (unsigned t = 0; t < c->trees && host->view.unfit; t++)
        mark_changed(c, tc_replan_parent(c->replan, t, step->rank)); /* it serves this one last from now on */
    tell_replan(c, step);
    if (step->why == TC_REPLAN_COMPLAINS)
        doubt_charges(c, host);
    if (step->why == TC_REPLAN_GIVEN_UP)
        give_up(c, host);
}

static void decide(struct tc_coordinator *c)
{
    struct tc_err err = {0};
    const struct tc_replan_step *steps;
    const struct tc_replan_move *moves;
    int changed = tc_replan_decide(c->replan, c->now, &err);
    if (changed < 0)
        c->actions.failed = true;
    if (changed <= 0)
        return;
    unsigned count = tc_replan_moves(c->replan, &moves);
    for (unsigned i = 0; i < count; i++) {
        trace(c, "%s: moves below %s in tree %u", name_of_rank(c, moves[i].rank), name_of_rank(c, moves[i].to),
              moves[i].tree);
        if (fresh_edge(c, moves[i].tree, moves[i].rank, &err) < 0)
            c->actions.failed = true;
        mark_changed(c, moves[i].rank);
        mark_changed(c, moves[i].from);
        mark_changed(c, moves[i].to);
    }
    count = tc_replan_steps(c->replan, &steps);
    for (unsigned i = 0; i < count; i++)
        on_step(c, &steps[i]);
}

/* Every host has answered: is it worth it, and then who gets what from whom. */
static void all_answered(struct tc_coordinator *c)
{
    struct tc_err err = {0};
    for (uint32_t i = 0; i < c->config.host_count; i++)
        c->ranks += c->hosts[i].view.phase == TC_PHASE_READY;
    if (c->ranks < c->config.min_hosts || c->ranks == 0) {
        tc_fail(&err, TC_E_ABORTED, "only %u of %u hosts can take it (needed: %u); nothing was sent", c->ranks,
                c->config.host_count, c->config.min_hosts);
        abort_all(c, &err);
        return;
    }
    if (c->config.flags & TC_OFFER_DRY_RUN) {
        c->spec = tc_tree_choose(c->config.tree, c->ranks, c->config.layout.size, c->config.layout.chunk_size,
                                 TC_NETWORK_DEFAULT);
        news(c, TC_NO_RANK);
        for (uint32_t i = 0; i < c->config.host_count; i++)
            if (c->hosts[i].view.phase == TC_PHASE_READY)
                end_host(c, &c->hosts[i], TC_END_READY, NULL);
        finish(c, NULL);
        return;
    }
    if (plan(c, &err) < 0)
        abort_all(c, &err);
}

/* Digests run ahead of the giving. */

static uint64_t lead(const struct tc_coordinator *c)
{
    uint64_t first = 0;
    for (unsigned i = 0; i < c->children.count; i++) {
        const struct tc_child *child = &c->children.items[i];
        uint64_t at = child->fed ? (uint64_t)tc_page_first(child->feed.base) * c->config.layout.chunk_size : 0;
        if (at > first)
            first = at;
    }
    return first;
}

static void digest_more(struct tc_coordinator *c)
{
    const struct tc_layout *layout = &c->config.layout;
    uint64_t pages = (uint64_t)TC_FEED_WINDOW * TC_PAGE_CHUNKS * layout->chunk_size;
    uint64_t limit = lead(c) + (c->config.ahead > pages ? c->config.ahead : pages);
    if (c->config.flags & TC_OFFER_DRY_RUN || c->ended)
        return;
    while (c->next_digest < layout->chunks && c->next_digest - c->next_content < c->config.digest_depth &&
           tc_chunk_offset(layout, c->next_digest) < limit)
        tc_actions_add(&c->actions, TC_ACT_DIGEST)->chunk = c->next_digest++;
    if (c->next_content == layout->chunks && !c->checking) {
        c->checking = true;
        tc_actions_add(&c->actions, TC_ACT_CHECK);
    }
}

static int open_page(struct tc_coordinator *c, uint32_t index, struct tc_err *err)
{
    if (c->pages[index])
        return 0;
    struct tc_page *page = calloc(1, sizeof *page);
    if (!page)
        return tc_fail(err, TC_E_NOMEM, "no memory for page %u", index);
    page->index = index;
    page->count = tc_page_count(&c->config.layout, index);
    page->last = index == c->config.layout.pages - 1;
    c->pages[index] = page;
    return 0;
}

static int give_page(struct tc_coordinator *c, uint32_t index, struct tc_err *err)
{
    int status = tc_page_sign(c->pages[index], c->config.session, c->config.signer, err);
    if (status < 0)
        return status;
    tc_bits_add(&c->have_pages, index);
    struct tc_store store = store_of(c);
    return tc_children_poll(&c->children, &store, &c->actions, err);
}

/* Content digests and pages are made in order; chunks come in any order within the window. */
static int advance_content(struct tc_coordinator *c, struct tc_err *err)
{
    const struct tc_layout *layout = &c->config.layout;
    int status = 0;
    while (status == 0 && c->next_content < c->next_digest) {
        struct pending *slot = &c->window[c->next_content % c->config.digest_depth];
        if (!slot->full)
            break;
        slot->full = false;
        status = tc_content_add(c->content, slot->blocks, tc_chunk_blocks(layout, c->next_content), err);
        tc_bits_add(&c->have, c->next_content);
        c->next_content++;
        uint32_t page = (c->next_content - 1) / TC_PAGE_CHUNKS;
        bool complete = c->next_content % TC_PAGE_CHUNKS == 0;
        if (status == 0 && complete && page != layout->pages - 1)
            status = give_page(c, page, err);
    }
    return status;
}

static void on_digested(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_err err = {0};
    if (event->err && event->err->reason) {
        abort_all(c, event->err);
        return;
    }
    uint32_t index = event->chunk / TC_PAGE_CHUNKS;
    struct pending *slot = &c->window[event->chunk % c->config.digest_depth];
    memcpy(slot->blocks, event->blocks, tc_chunk_blocks(&c->config.layout, event->chunk) * sizeof slot->blocks[0]);
    slot->full = true;
    int status = open_page(c, index, &err);
    if (status == 0) {
        c->pages[index]->chunks[event->chunk % TC_PAGE_CHUNKS] = *event->digest;
        status = advance_content(c, &err);
    }
    if (status < 0)
        abort_all(c, &err);
}

/* The source is what it was when it was opened: only now the last page may go. */
static void on_checked(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_err err = {0};
    uint32_t last = c->config.layout.pages - 1;
    if (event->err && event->err->reason) {
        abort_all(c, event->err);
        return;
    }
    if (!c->checking || tc_bits_has(&c->have_pages, last))
        return; /* it was asked for because of a complaint */
    int status = open_page(c, last, &err);
    if (status == 0)
        status = tc_content_end(c->content, &c->pages[last]->content, &err);
    if (status == 0)
        status = give_page(c, last, &err);
    if (status < 0)
        abort_all(c, &err);
}

/* Control links. */

static struct host *host_of_control(struct tc_coordinator *c, uint32_t link)
{
    /* Control links are the first that are dialled, in the order of the hosts. Those that came in are few messages' worth
     * of looking. */
    for (uint32_t i = 0; link >= TC_LINK_ACCEPTED && i < c->config.host_count; i++)
        if (c->hosts[i].control == link)
            return &c->hosts[i];
    struct host *host = link < c->config.host_count ? &c->hosts[link] : NULL;
    return host && host->control == link ? host : NULL;
}

static void say_hello(struct tc_coordinator *c, uint32_t link, enum tc_role role, const uint8_t *id)
{
    struct tc_message message = {.type = TC_MSG_HELLO};
    message.hello.version_min = message.hello.version_max = TC_WIRE_VERSION;
    message.hello.role = role;
    memcpy(message.hello.instance, c->config.instance, sizeof message.hello.instance);
    if (id) {
        memcpy(message.hello.session, c->config.session, sizeof message.hello.session);
        memcpy(message.hello.link, id, sizeof message.hello.link);
    }
    send_message(c, link, &message);
}

static void offer(struct tc_coordinator *c, struct host *host)
{
    struct tc_message message = {.type = TC_MSG_OFFER};
    struct tc_msg_offer *o = &message.offer;
    o->signed_by = signed_by(c);
    memcpy(o->session, c->config.session, sizeof o->session);
    memcpy(o->nonce, host->nonce, sizeof o->nonce);
    snprintf(o->name, sizeof o->name, "%s", c->config.name);
    o->size = c->config.layout.size;
    o->chunk_size = c->config.layout.chunk_size;
    snprintf(o->digest, sizeof o->digest, "%s", TC_DIGEST_NAME);
    snprintf(o->codec, sizeof o->codec, "%s", TC_CODEC_NAME);
    memcpy(o->public_key, c->config.public_key, sizeof o->public_key);
    o->flags = c->config.flags;
    o->ttl = c->config.ttl;
    if (c->config.deadline)
        o->seconds_left = c->config.deadline > c->now ? (uint32_t)((c->config.deadline - c->now + 999) / 1000) : 1;
    o->array = c->config.array;
    o->array_size = (uint32_t)strlen(c->config.array);
    send_message(c, host->control, &message);
    host->view.phase = TC_PHASE_OFFERED;
}

static int on_hello(struct tc_coordinator *c, struct host *host, const struct tc_msg_hello *hello, struct tc_err *err)
{
    if (host->greeted || hello->role != TC_ROLE_AGENT)
        return tc_fail(err, TC_E_PROTOCOL, "the peer is no agent");
    if (hello->version_min > TC_WIRE_VERSION || hello->version_max < TC_WIRE_VERSION)
        return tc_fail(err, TC_E_VERSION, "the agent speaks versions %u to %u, this program %u", hello->version_min,
                       hello->version_max, TC_WIRE_VERSION);
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (c->hosts[i].greeted && memcmp(c->hosts[i].instance, hello->instance, sizeof hello->instance) == 0)
            return tc_fail(err, TC_E_DUPLICATE, "is the same agent as %s: list it once", c->config.hosts[i]);
    host->greeted = true;
    memcpy(host->instance, hello->instance, sizeof host->instance);
    memcpy(host->nonce, hello->nonce, sizeof host->nonce);
    snprintf(host->address, sizeof host->address, "%s", hello->address[0] ? hello->address : name_of(c, host));
    offer(c, host);
    return 0;
}

static void why_of(const struct tc_msg_why *said, struct tc_err *err)
{
    tc_fail(err, tc_reason_known(said->reason) ? said->reason : TC_E_FAILED, "%s", said->text);
}

static void is_whole(struct tc_coordinator *c, struct host *host)
{
    if (host->view.whole_at == 0)
        host->view.whole_at = c->now;
    if (host->view.rank != 0)
        tc_replan_whole(c->replan, host->view.rank);
}

static int on_done(struct tc_coordinator *c, struct host *host, const struct tc_message *message, struct tc_err *err)
{
    const struct tc_digest *digest = tc_coordinator_digest(c);
    if (!digest || !tc_digest_equal(digest, &message->done.digest))
        return tc_fail(err, TC_E_INTEGRITY, "reports another digest than was sent");
    host->view.bytes = c->config.layout.size;
    is_whole(c, host);
    bool unchanged = message->done.state == TC_AGENT_UNCHANGED;
    if (unchanged)
        host->view.adopted = c->config.layout.size;
    end_host(c, host, unchanged ? TC_END_UNCHANGED : TC_END_PUBLISHED, NULL);
    return 0;
}

/* What a report says of the plan it was made in; one of an older plan is a sign of life only. */
static void on_sighting(struct tc_coordinator *c, struct host *host, const struct tc_msg_progress *progress)
{
    struct tc_sighting sighting = {.cause = (enum tc_cause)progress->cause};
    if (host->view.rank == 0 || progress->epoch < host->row_epoch || progress->trees != c->trees)
        return;
    for (unsigned t = 0; t < c->trees; t++) {
        uint32_t up = tc_replan_parent(c->replan, t, host->view.rank);
        sighting.trees[t].held = progress->tree[t].held;
        sighting.trees[t].waiting = progress->tree[t].waiting;
        if (progress->tree[t].received > host->received[t] && up != 0 && up != TC_NO_RANK)
            host_of(c, up)->fed_at = c->now;
        host->received[t] = progress->tree[t].received;
    }
    tc_replan_report(c->replan, host->view.rank, &sighting, c->now);
}

static void on_progress(struct tc_coordinator *c, struct host *host, const struct tc_msg_progress *progress)
{
    struct tc_host_view *view = &host->view;
    uint64_t size = c->config.layout.size;
    on_sighting(c, host, progress);
    if (view->phase != TC_PHASE_RUNNING)
        return;
    if (progress->bytes > view->bytes && progress->bytes <= size) {
        view->bytes = progress->bytes;
        c->moved_at = c->now;
    }
    if (progress->compared > host->compared) {
        host->compared = progress->compared;
        c->moved_at = c->now;
    }
    if (progress->adopted <= size)
        view->adopted = progress->adopted;
    if (progress->state == TC_AGENT_WHOLE && progress->bytes == size) {
        view->phase = TC_PHASE_WHOLE;
        c->moved_at = c->now;
        is_whole(c, host);
    }
}

/* A parent does not deliver: what is to be done follows with the next decision. */
static void on_complaint(struct tc_coordinator *c, struct host *host, const struct tc_msg_complaint *complaint)
{
    struct tc_err err = {0};
    uint32_t rank = host->view.rank;
    if (complaint->tree >= c->trees || complaint->epoch < host->row_epoch || !needs_data(host) ||
        tc_replan_parent(c->replan, complaint->tree, rank) != complaint->rank)
        return; /* has been moved since */
    trace(c, "%s complains of %s: %s", name_of(c, host), name_of_rank(c, complaint->rank),
          tc_reason_text(complaint->reason));
    bool corrupt = complaint->reason == TC_E_INTEGRITY;
    if (corrupt)
        charge(c, host, complaint->rank);
    if (corrupt && complaint->rank == 0) /* read again for a slow child, it may be another file by now */
        tc_actions_add(&c->actions, TC_ACT_CHECK);
    if (tc_replan_complain(c->replan, complaint->tree, rank, complaint->rank,
                           corrupt ? TC_COMPLAINT_CORRUPT : TC_COMPLAINT_LINK, c->now, &err) < 0)
        c->actions.failed = true;
}

static int on_control_message(struct tc_coordinator *c, struct host *host, const struct tc_message *message,
                              struct tc_err *err)
{
    struct tc_err why = {0};
    bool serving = host->view.rank != 0;
    switch (message->type) {
    case TC_MSG_HELLO:
        return on_hello(c, host, &message->hello, err);
    case TC_MSG_READY:
        if (host->view.phase != TC_PHASE_OFFERED)
            break;
        host->view.phase = TC_PHASE_READY;
        host->local = message->ready.flags & TC_PREPARED_LOCAL;
        c->asked--;
        return 0;
    case TC_MSG_REFUSE:
        if (host->view.phase > TC_PHASE_OFFERED)
            break;
        why_of(&message->why, &why);
        drop_host(c, host, TC_END_REFUSED, &why, false);
        return 0;
    case TC_MSG_PROGRESS:
        if (host->view.phase < TC_PHASE_OFFERED)
            break;
        on_progress(c, host, &message->progress);
        return 0;
    case TC_MSG_DONE:
        if (host->view.phase != TC_PHASE_RUNNING && host->view.phase != TC_PHASE_WHOLE)
            break;
        return on_done(c, host, message, err);
    case TC_MSG_FAILED:
        if (host->view.phase < TC_PHASE_READY)
            break;
        why_of(&message->why, &why);
        drop_host(c, host, TC_END_FAILED, &why, false);
        return 0;
    case TC_MSG_COMPLAIN:
        if (!serving)
            break;
        on_complaint(c, host, &message->complaint);
        return 0;
    default:
        break;
    }
    return tc_fail(err, TC_E_PROTOCOL, "%s out of turn", tc_message_name(message->type));
}

static void on_control_frame(struct tc_coordinator *c, struct host *host, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    host->heard = c->now;
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err);
    if (status == 0)
        status = on_control_message(c, host, &message, &err);
    if (status < 0) {
        bool refused = err.reason == TC_E_DUPLICATE || err.reason == TC_E_VERSION;
        drop_host(c, host, refused ? TC_END_REFUSED : TC_END_FAILED, &err, true);
    }
}

static void on_control_down(struct tc_coordinator *c, struct host *host, const struct tc_err *err)
{
    struct tc_err why = {0};
    host->control = TC_NO_LINK;
    int reason = err && err->reason ? err->reason : TC_E_CLOSED;
    const char *text = err && err->reason ? without_name(err->text, name_of(c, host)) : "connection closed";
    /* It answered and hung up without a greeting: that is what an agent does with whom it does not trust. */
    if (reason == TC_E_CLOSED && !host->greeted)
        tc_fail(&why, TC_E_AUTH, "%s before a greeting: do both sides have the same key (-k FILE)?", text);
    else
        tc_fail(&why, reason, "%s", text);
    bool begun = host->view.phase >= TC_PHASE_OFFERED;
    if (begun) {
        why.reason = TC_E_LOST;
        tc_err_prefix(&why, "lost");
    }
    end_host(c, host, begun ? TC_END_LOST : TC_END_UNREACHABLE, &why);
    leave_plan(c, host);
}

/* Data links to own children. */

static void on_data_frame(struct tc_coordinator *c, struct tc_child *child, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    struct tc_store store = store_of(c);
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err);
    if (status == 0 && message.type == TC_MSG_HELLO && !child->fed)
        status = tc_child_start(child, event->link, &store, &message.hello, &err);
    else if (status == 0)
        status = tc_child_message(child, &store, &message, &err);
    if (status == 0)
        status = tc_children_poll(&c->children, &store, &c->actions, &err);
    if (status < 0) {
        trace(c, "%s: data link dropped: %s", name_of_rank(c, child->self.rank), err.text);
        close_link(c, event->link, 0);
        tc_child_stop(child);
    }
}

/* Agents that dialled. */

static struct host *host_of_name(struct tc_coordinator *c, const char *name)
{
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (strcmp(c->config.hosts[i], name) == 0)
            return &c->hosts[i];
    return NULL;
}

static struct host *admit(struct tc_coordinator *c, const struct tc_message *message, struct tc_err *err)
{
    if (message->type != TC_MSG_HELLO || message->hello.role != TC_ROLE_AGENT) {
        tc_fail(err, TC_E_PROTOCOL, "the peer is no agent");
        return NULL;
    }
    const struct tc_msg_hello *hello = &message->hello;
    struct host *host = host_of_name(c, hello->host);
    if (!host)
        tc_fail(err, TC_E_NOTFOUND, "'%s' is none of the hosts of this broadcast", hello->host);
    else if (alive(host) || host->greeted)
        tc_fail(err, TC_E_DUPLICATE, "%s has joined already", hello->host);
    else if (host->view.phase == TC_PHASE_ENDED)
        tc_fail(err, TC_E_TIMEOUT, "%s joins too late", hello->host);
    else if (!hello->address[0])
        tc_fail(err, TC_E_PROTOCOL, "%s does not say where others reach it", hello->host);
    else
        return host;
    return NULL;
}

/* Who cannot be one of the hosts hears why. */
static void turn_away(struct tc_coordinator *c, uint32_t link, const struct tc_err *why)
{
    struct tc_message message = {.type = TC_MSG_ABORT};
    trace(c, "a joiner is turned away: %s", why->text);
    message.why.reason = (uint16_t)why->reason;
    snprintf(message.why.text, sizeof message.why.text, "%s", why->text);
    say_hello(c, link, TC_ROLE_COORDINATOR, NULL);
    send_message(c, link, &message);
    close_link(c, link, TC_MS_GOODBYE);
}

static void on_join(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    struct host *host = NULL;
    if (tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err) == 0)
        host = admit(c, &message, &err);
    if (!host) {
        turn_away(c, event->link, &err);
        return;
    }
    host->control = event->link;
    host->heard = c->now;
    say_hello(c, event->link, TC_ROLE_COORDINATOR, NULL);
    on_control_frame(c, host, event);
}

/* Whoever was to start its agent could not. */
static void on_absent(struct tc_coordinator *c, const struct tc_event *event)
{
    struct host *host = event->host < c->config.host_count ? &c->hosts[event->host] : NULL;
    if (host && !alive(host) && host->view.phase == TC_PHASE_DIALLED)
        end_host(c, host, TC_END_UNREACHABLE, event->err);
}

static void on_frame(struct tc_coordinator *c, const struct tc_event *event)
{
    struct host *host = host_of_control(c, event->link);
    struct tc_child *child = tc_children_by_link(&c->children, event->link);
    if (host)
        on_control_frame(c, host, event);
    else if (child)
        on_data_frame(c, child, event);
    else if (c->config.joins && event->link >= TC_LINK_ACCEPTED)
        on_join(c, event);
}

static void on_up(struct tc_coordinator *c, uint32_t link)
{
    struct host *host = host_of_control(c, link);
    struct tc_child *child = tc_children_by_link(&c->children, link);
    if (host) {
        host->heard = c->now;
        say_hello(c, link, TC_ROLE_COORDINATOR, NULL);
    } else if (child) {
        say_hello(c, link, TC_ROLE_PARENT, child->self.id);
    }
}

/* A data link that could not be dialled, or broke: the child cannot complain of what it never had. */
static void on_data_down(struct tc_coordinator *c, struct tc_child *child, const struct tc_err *err)
{
    struct host *host = &c->hosts[c->host_of_rank[child->self.rank]];
    bool fed = child->fed;
    unsigned tree = child->tree;
    tc_child_stop(child);
    if (fed || !needs_data(host))
        return;
    struct tc_msg_complaint complaint = {.epoch = c->epoch, .tree = (uint8_t)tree};
    complaint.reason = (uint16_t)(err && err->reason ? err->reason : TC_E_CLOSED);
    on_complaint(c, host, &complaint);
}

static void on_down(struct tc_coordinator *c, const struct tc_event *event)
{
    struct host *host = host_of_control(c, event->link);
    struct tc_child *child = tc_children_by_link(&c->children, event->link);
    if (host)
        on_control_down(c, host, event->err);
    else if (child)
        on_data_down(c, child, event->err);
}

static void on_served(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_child *child = tc_children_by_link(&c->children, event->link);
    if (event->err && event->err->reason) {
        abort_all(c, event->err);
        return;
    }
    if (!child || !child->fed)
        return;
    if (child->feed.on_way > 0)
        child->feed.on_way--;
    struct tc_store store = store_of(c);
    if (tc_children_poll(&c->children, &store, &c->actions, &err) < 0)
        abort_all(c, &err);
}

static void on_backlog(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_child *child = tc_children_by_link(&c->children, event->link);
    if (child)
        child->backlog = event->flags;
}

/* Time. */

static void check_silence(struct tc_coordinator *c, struct host *host)
{
    struct tc_err why = {0};
    uint64_t quiet = c->now - host->heard;
    enum tc_host_phase phase = host->view.phase;
    if (!alive(host) && c->config.joins && phase == TC_PHASE_DIALLED && c->now >= c->config.join_by) {
        tc_fail(&why, TC_E_TIMEOUT, "its agent did not come up in time");
        end_host(c, host, TC_END_UNREACHABLE, &why);
    }
    if (!alive(host))
        return;
    if (phase == TC_PHASE_OFFERED && quiet >= TC_MS_ANSWER) {
        tc_fail(&why, TC_E_TIMEOUT, "no answer for %d s", TC_MS_ANSWER / 1000);
        drop_host(c, host, TC_END_UNREACHABLE, &why, true);
    } else if (phase == TC_PHASE_DIALLED && host->heard && quiet >= TC_MS_ANSWER) {
        tc_fail(&why, TC_E_TIMEOUT, "no greeting for %d s", TC_MS_ANSWER / 1000);
        drop_host(c, host, TC_END_UNREACHABLE, &why, true);
    } else if (host->view.rank != 0 && quiet >= TC_MS_SILENCE && c->now - host->fed_at >= TC_MS_SILENCE) {
        tc_fail(&why, TC_E_LOST, "lost: silent for %d s", TC_MS_SILENCE / 1000);
        drop_host(c, host, TC_END_LOST, &why, true);
    }
}

/* How long no host may accept a byte. One that has every byte may still be writing them to a disk, slowly. */
static uint64_t patience(const struct tc_coordinator *c)
{
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (c->hosts[i].view.phase == TC_PHASE_WHOLE)
            return TC_MS_STALL + c->config.layout.size / SYNC_RATE;
    return TC_MS_STALL;
}

/* Who of rank 0's own children holds up the others, and a little for those that are served last. */
static void watch_children(struct tc_coordinator *c)
{
    struct tc_err err = {0};
    struct tc_store store = store_of(c);
    for (unsigned i = 0; i < c->children.count; i++) {
        const struct tc_child *child = &c->children.items[i];
        bool holds_up = tc_child_holds_up(&c->children, child, &store);
        tc_replan_holds_up(c->replan, child->tree, child->self.rank, holds_up, c->now);
    }
    tc_children_ration(&c->children);
    if (tc_children_poll(&c->children, &store, &c->actions, &err) < 0)
        abort_all(c, &err);
}

static void on_tick(struct tc_coordinator *c)
{
    struct tc_err why = {0};
    c->tick_due = c->now + (c->planned ? TICK_PLANNED_MS : TICK_MS);
    if (c->config.deadline && c->now >= c->config.deadline) {
        tc_fail(&why, TC_E_DEADLINE, "deadline passed");
        abort_all(c, &why);
        return;
    }
    for (uint32_t i = 0; i < c->config.host_count && !c->ended; i++)
        check_silence(c, &c->hosts[i]);
    if (c->planned && !c->ended)
        watch_children(c);
    if (c->planned && !c->ended && c->now - c->moved_at >= patience(c)) {
        tc_fail(&why, TC_E_TIMEOUT, "no host accepted a byte for %u s", (unsigned)((c->now - c->moved_at) / 1000));
        abort_all(c, &why);
    }
}

uint64_t tc_coordinator_wake(const struct tc_coordinator *c)
{
    if (c->ended)
        return UINT64_MAX;
    uint64_t due = c->planned && tc_replan_due(c->replan) < c->tick_due ? tc_replan_due(c->replan) : c->tick_due;
    return c->config.deadline && c->config.deadline < due ? c->config.deadline : due;
}

/* The machine as a whole. */

static int make_room(struct tc_coordinator *c, struct tc_err *err)
{
    const struct tc_layout *layout = &c->config.layout;
    c->hosts = calloc(c->config.host_count ? c->config.host_count : 1, sizeof *c->hosts);
    c->pages = calloc(layout->pages, sizeof(struct tc_page *));
    c->window = calloc(c->config.digest_depth, sizeof *c->window);
    if (!c->hosts || !c->pages || !c->window)
        return tc_fail(err, TC_E_NOMEM, "no memory for a session with %u hosts", c->config.host_count);
    c->content = tc_content_new(err);
    int status = c->content ? 0 : -TC_E_NOMEM;
    if (status == 0)
        status = tc_bits_init(&c->have_pages, layout->pages, err);
    if (status == 0)
        status = tc_bits_init(&c->have, layout->chunks, err);
    return status;
}

struct tc_coordinator *tc_coordinator_new(const struct tc_coordinator_config *config, uint64_t now, struct tc_err *err)
{
    struct tc_coordinator *c = calloc(1, sizeof *c);
    if (!c) {
        tc_fail(err, TC_E_NOMEM, "no memory for a session");
        return NULL;
    }
    c->config = *config;
    c->now = now;
    c->tick_due = now + TICK_MS;
    if (make_room(c, err) < 0) {
        tc_coordinator_free(c);
        return NULL;
    }
    c->asked = config->host_count;
    c->next_link = config->host_count;
    for (uint32_t i = 0; i < config->host_count; i++) {
        c->hosts[i].control = config->joins ? TC_NO_LINK : i;
        if (config->joins)
            continue;
        struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_DIAL);
        action->link = c->hosts[i].control;
        action->host = i;
        action->address = config->hosts[i];
    }
    digest_more(c);
    return c;
}

void tc_coordinator_free(struct tc_coordinator *c)
{
    if (!c)
        return;
    tc_actions_free(&c->actions);
    for (uint32_t i = 0; c->pages && i < c->config.layout.pages; i++)
        free(c->pages[i]);
    free(c->pages);
    for (unsigned t = 0; t < TC_TREES_MAX; t++)
        free(c->edges[t]);
    tc_children_free(&c->children);
    tc_bits_free(&c->have_pages);
    tc_bits_free(&c->have);
    tc_content_free(c->content);
    free(c->window);
    tc_replan_free(c->replan);
    free(c->replans);
    free(c->host_of_rank);
    free(c->hosts);
    free(c);
}

static void dispatch(struct tc_coordinator *c, const struct tc_event *event)
{
    switch (event->kind) {
    case TC_EV_TICK:
        on_tick(c);
        break;
    case TC_EV_UP:
        on_up(c, event->link);
        break;
    case TC_EV_FRAME:
        on_frame(c, event);
        break;
    case TC_EV_DOWN:
        on_down(c, event);
        break;
    case TC_EV_SERVED:
        on_served(c, event);
        break;
    case TC_EV_DIGESTED:
        on_digested(c, event);
        break;
    case TC_EV_CHECKED:
        on_checked(c, event);
        break;
    case TC_EV_ABSENT:
        on_absent(c, event);
        break;
    case TC_EV_BACKLOG:
        on_backlog(c, event);
        break;
    case TC_EV_STOP:
        abort_all(c, event->err);
        break;
    default:
        break;
    }
}

void tc_coordinator_event(struct tc_coordinator *c, const struct tc_event *event, uint64_t now)
{
    c->now = now;
    if (c->ended)
        return;
    bool due = event->kind == TC_EV_TICK;
    bool asking = c->asked > 0;
    dispatch(c, event);
    if (!c->ended && asking && c->asked == 0)
        all_answered(c);
    if (!c->ended && c->planned && (due || tc_replan_due(c->replan) <= now))
        decide(c);
    if (!c->ended && any_changed(c))
        publish_plan(c);
    if (!c->ended && c->planned && c->running == 0)
        finish(c, NULL);
    digest_more(c);
    if (c->actions.failed) {
        struct tc_err why = {0};
        c->actions.failed = false;
        tc_fail(&why, TC_E_NOMEM, "out of memory in the session");
        abort_all(c, &why);
    }
}

bool tc_coordinator_take(struct tc_coordinator *c, struct tc_action *action)
{
    return tc_actions_take(&c->actions, action);
}

const struct tc_host_view *tc_coordinator_host(const struct tc_coordinator *c, uint32_t host)
{
    return &c->hosts[host].view;
}

bool tc_coordinator_tree(const struct tc_coordinator *c, struct tc_tree_spec *spec)
{
    *spec = c->spec;
    return c->spec.kind != TC_TREE_AUTO;
}

unsigned tc_coordinator_replans(const struct tc_coordinator *c, const struct tc_replan_view **replans)
{
    *replans = c->replans;
    return c->replan_count;
}

uint32_t tc_coordinator_parent(const struct tc_coordinator *c, unsigned t, uint32_t host, bool *has)
{
    uint32_t rank = c->hosts[host].view.rank;
    uint32_t up = rank != 0 && c->replan && t < c->trees ? tc_replan_parent(c->replan, t, rank) : TC_NO_RANK;
    *has = up != TC_NO_RANK;
    return up == 0 || up == TC_NO_RANK ? TC_NO_RANK : c->host_of_rank[up];
}

unsigned tc_coordinator_accused(const struct tc_coordinator *c)
{
    return c->accused;
}

uint64_t tc_coordinator_planned_at(const struct tc_coordinator *c)
{
    return c->planned_at;
}

const struct tc_digest *tc_coordinator_digest(const struct tc_coordinator *c)
{
    const struct tc_page *last = c->pages[c->config.layout.pages - 1];
    return last && tc_bits_has(&c->have_pages, last->index) ? &last->content : NULL;
}
