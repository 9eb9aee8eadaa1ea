#include "session/coordinator_own.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TICK_MS = 250,
    TICK_PLANNED_MS = 100, /* while it is watched who holds up whom */
    SLEPT_MS = 1000        /* a tick that is late by so much: this process stood still */
};

void tc_coordinator_trace(const struct tc_coordinator *c, const char *format, ...)
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

void tc_coordinator_send(struct tc_coordinator *c, uint32_t link, const struct tc_message *message)
{
    struct tc_err err = {0};
    struct tc_signer *signer = c->config.origin ? c->config.origin : c->config.signer;
    if (link != TC_NO_LINK && tc_actions_send(&c->actions, link, message, signer, &err) < 0)
        c->actions.failed = true;
}

void tc_coordinator_close_link(struct tc_coordinator *c, uint32_t link, uint32_t linger)
{
    if (link == TC_NO_LINK)
        return;
    struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_CLOSE);
    action->link = link;
    action->linger = linger;
}

void tc_coordinator_news(struct tc_coordinator *c, uint32_t host)
{
    tc_actions_add(&c->actions, TC_ACT_NEWS)->host = host;
}

/* Ends. */

static void close_children(struct tc_coordinator *c)
{
    for (unsigned i = 0; i < c->children.count; i++) {
        tc_coordinator_close_link(c, c->children.items[i].link, TC_MS_GOODBYE);
        tc_child_stop(&c->children.items[i]);
    }
}

void tc_coordinator_finish(struct tc_coordinator *c, const struct tc_err *why)
{
    if (c->ended)
        return;
    c->ended = true;
    close_children(c);
    for (uint32_t i = 0; i < c->config.host_count; i++) {
        struct tc_host *host = &c->hosts[i];
        if (!tc_host_alive(host))
            continue;
        struct tc_message message = {.type = TC_MSG_BYE};
        tc_coordinator_send(c, host->control, &message);
        tc_coordinator_close_link(c, host->control, TC_MS_GOODBYE);
        host->control = TC_NO_LINK;
    }
    struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_END);
    if (why)
        action->err = *why;
}

/* The whole session ends: who has not ended is told, and is reported as aborted unless it says that it has published. */
void tc_coordinator_abort(struct tc_coordinator *c, const struct tc_err *why)
{
    if (c->aborted || c->ended)
        return;
    c->aborted = true;
    c->abort_why = *why;
    c->planned = false; /* nobody gets a new parent any more */
    close_children(c);
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (c->hosts[i].view.phase < TC_PHASE_LEAVING)
            tc_coordinator_dismiss_host(c, &c->hosts[i], TC_END_ABORTED, why);
    if (c->running == 0)
        tc_coordinator_finish(c, why);
}

/* The user ends it; once more, and no last word is awaited either. */
static void on_stop(struct tc_coordinator *c, const struct tc_err *why)
{
    for (uint32_t i = 0; i < c->config.host_count && c->aborted; i++) {
        c->hosts[i].until = c->hosts[i].view.phase == TC_PHASE_LEAVING ? c->now : c->hosts[i].until;
        tc_coordinator_check_silence(c, &c->hosts[i]);
    }
    tc_coordinator_abort(c, why);
}

/* Links. */

static void on_frame(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_host *host = tc_coordinator_by_control(c, event->link);
    struct tc_child *child = tc_children_by_link(&c->children, event->link);
    if (host)
        tc_coordinator_on_control_frame(c, host, event);
    else if (child)
        tc_coordinator_on_data_frame(c, child, event);
    else if (c->config.joins && event->link >= TC_LINK_ACCEPTED)
        tc_coordinator_on_join(c, event);
}

static void on_up(struct tc_coordinator *c, const struct tc_event *event)
{
    uint32_t link = event->link;
    struct tc_host *host = tc_coordinator_by_control(c, link);
    struct tc_child *child = tc_children_by_link(&c->children, link);
    struct tc_host *proves = tc_coordinator_by_proof(c, link);
    if (proves) {
        tc_coordinator_on_proof(c, proves, event);
    } else if (host) {
        host->heard = c->now;
        if (host->view.phase == TC_PHASE_DIALLED)
            tc_coordinator_enter(c, host, TC_PHASE_DIALLED); /* its time begins */
        if (event->far)
            host->far = *event->far;
        tc_coordinator_say_hello(c, link, TC_ROLE_COORDINATOR, NULL);
    } else if (child) {
        tc_coordinator_say_hello(c, link, TC_ROLE_PARENT, child->self.id);
    }
}

static void on_down(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_host *host = tc_coordinator_by_control(c, event->link);
    struct tc_child *child = tc_children_by_link(&c->children, event->link);
    struct tc_host *proves = tc_coordinator_by_proof(c, event->link);
    if (proves)
        tc_coordinator_on_proof(c, proves, event);
    else if (host)
        tc_coordinator_on_control_down(c, host, event->err);
    else if (child)
        tc_coordinator_on_data_down(c, child, event->err);
}

/* Time. */

static void on_tick(struct tc_coordinator *c)
{
    struct tc_err why = {0};
    c->tick_due = c->now + (c->planned ? TICK_PLANNED_MS : TICK_MS);
    if (c->config.deadline && c->now >= c->config.deadline && !c->aborted) {
        tc_fail(&why, TC_E_DEADLINE, "deadline passed");
        tc_coordinator_abort(c, &why);
        return;
    }
    for (uint32_t i = 0; i < c->config.host_count && !c->ended; i++)
        tc_coordinator_check_silence(c, &c->hosts[i]);
    if (c->planned && !c->ended)
        tc_coordinator_watch_children(c);
    if (c->planned && !c->ended)
        tc_coordinator_look_for_stuck(c);
    if (c->planned && !c->ended && !c->aborted && tc_coordinator_stands_still(c)) {
        tc_fail(&why, TC_E_TIMEOUT, "no host accepted a byte for %u s", (unsigned)((c->now - c->moved_at) / 1000));
        tc_coordinator_abort(c, &why);
    }
}

/* A process that was stopped, or whose machine was, has heard nobody meanwhile: all are given as long again. */
static void forgive(struct tc_coordinator *c, uint64_t slept)
{
    for (uint32_t i = 0; i < c->config.host_count; i++) {
        struct tc_host *host = &c->hosts[i];
        host->heard += host->heard ? slept : 0; /* 0: it is not connected yet */
        host->until += host->until < UINT64_MAX - slept ? slept : 0;
    }
    c->moved_at += slept;
    c->steady_since = c->now;
    if (c->planned)
        tc_replan_slept(c->replan, c->now);
}

uint64_t tc_coordinator_wake(const struct tc_coordinator *c)
{
    if (c->ended)
        return UINT64_MAX;
    uint64_t due = c->planned && tc_replan_due(c->replan) < c->tick_due ? tc_replan_due(c->replan) : c->tick_due;
    return c->config.deadline && c->config.deadline < due && !c->aborted ? c->config.deadline : due;
}

/* The machine as a whole. */

static int make_capacity(struct tc_coordinator *c, struct tc_err *err)
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
    if (c->config.min_rate == 0)
        c->config.min_rate = TC_RATE_MIN;
    c->now = now;
    c->tick_due = now + TICK_MS;
    if (make_capacity(c, err) < 0) {
        tc_coordinator_free(c);
        return NULL;
    }
    c->asked = config->host_count;
    c->next_link = config->host_count;
    for (uint32_t i = 0; i < config->host_count; i++) {
        c->hosts[i].control = config->joins ? TC_NO_LINK : i;
        c->hosts[i].until = UINT64_MAX; /* the link has its own limit, or there is one for joining */
        if (config->joins)
            continue;
        struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_DIAL);
        action->link = c->hosts[i].control;
        action->host = i;
        action->address = config->hosts[i];
    }
    tc_coordinator_digest_more(c);
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
    tc_topology_free(c->topology);
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
        on_up(c, event);
        break;
    case TC_EV_FRAME:
        on_frame(c, event);
        break;
    case TC_EV_DOWN:
        on_down(c, event);
        break;
    case TC_EV_SERVED:
        tc_coordinator_on_served(c, event);
        break;
    case TC_EV_DIGESTED:
        tc_coordinator_on_digested(c, event);
        break;
    case TC_EV_CHECKED:
        tc_coordinator_on_checked(c, event);
        break;
    case TC_EV_ABSENT:
        tc_coordinator_on_absent(c, event);
        break;
    case TC_EV_FLOW:
        tc_coordinator_on_flow(c, event);
        break;
    case TC_EV_STOP:
        on_stop(c, event->err);
        break;
    default:
        break;
    }
}

void tc_coordinator_event(struct tc_coordinator *c, const struct tc_event *event, uint64_t now)
{
    uint64_t passed = now - c->now;
    c->now = now;
    if (c->ended)
        return;
    if (now >= c->tick_due + SLEPT_MS) {
        forgive(c, passed);
        c->tick_due = now;
    }
    bool due = event->kind == TC_EV_TICK;
    bool asking = c->asked > 0;
    dispatch(c, event);
    if (!c->ended && asking && c->asked == 0)
        tc_coordinator_all_answered(c);
    if (!c->ended && c->planned && (due || tc_replan_due(c->replan) <= now))
        tc_coordinator_decide(c);
    if (!c->ended)
        tc_coordinator_publish_changes(c);
    if (!c->ended && (c->planned || c->aborted) && c->running == 0)
        tc_coordinator_finish(c, c->aborted ? &c->abort_why : NULL);
    tc_coordinator_digest_more(c);
    if (c->actions.failed) {
        struct tc_err why = {0};
        c->actions.failed = false;
        tc_fail(&why, TC_E_NOMEM, "out of memory in the session");
        tc_coordinator_abort(c, &why);
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
