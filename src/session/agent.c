#include "session/agent_own.h"

#include <stdio.h>
#include <stdlib.h>

/* State: one writer, one table. */

const char *tc_agent_state_name(enum tc_agent_state state)
{
    static const char *const names[] = {"new",       "offered",   "prepared", "filling", "whole",
                                        "published", "unchanged", "failed",   "ended"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

/* How long it may be in a state, from limits.h; longer than any coordinator would have it. */
static uint64_t limit_of(const struct tc_agent *agent, enum tc_agent_state state)
{
    switch (state) {
    case TC_AGENT_PREPARED:
        return tc_limit_plan(agent->job.layout.size);
    case TC_AGENT_FILLING:
        return tc_limit_still(agent->job.layout.chunk_size) + TC_MS_DESERTED;
    case TC_AGENT_PUBLISHED:
    case TC_AGENT_UNCHANGED:
        return tc_limit_serve(agent->job.layout.size);
    default: /* its own disk takes what it takes; NEW has a limit that its owner gives */
        return UINT32_MAX;
    }
}

void tc_agent_enter(struct tc_agent *agent, enum tc_agent_state state, const char *event)
{
    static const uint16_t allowed[] = {
        [TC_AGENT_NEW] = 1 << TC_AGENT_OFFERED | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_OFFERED] = 1 << TC_AGENT_PREPARED | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_PREPARED] = 1 << TC_AGENT_FILLING | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_FILLING] = 1 << TC_AGENT_WHOLE | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_WHOLE] =
            1 << TC_AGENT_PUBLISHED | 1 << TC_AGENT_UNCHANGED | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_PUBLISHED] = 1 << TC_AGENT_ENDED,
        [TC_AGENT_UNCHANGED] = 1 << TC_AGENT_ENDED,
        [TC_AGENT_FAILED] = 1 << TC_AGENT_ENDED,
        [TC_AGENT_ENDED] = 0,
    };
    if (agent->config.trace) {
        char line[160];
        bool legal = allowed[agent->state] >> state & 1;
        snprintf(line, sizeof line, "%s: %s -> %s (%s)%s", agent->job.name, tc_agent_state_name(agent->state),
                 tc_agent_state_name(state), event, legal ? "" : " refused");
        agent->config.trace(agent->config.trace_arg, line);
    }
    if (!(allowed[agent->state] >> state & 1))
        return;
    agent->state = state;
    agent->until = agent->now + limit_of(agent, state);
}

/* While the file that is to be filled is being reserved, nothing can be gained. */
void tc_agent_gained(struct tc_agent *agent, uint64_t ms)
{
    uint64_t most = agent->now + limit_of(agent, TC_AGENT_FILLING), more = agent->until + ms;
    if (agent->state == TC_AGENT_FILLING)
        agent->until = ms < most && more < most ? more : most;
}

void tc_agent_send(struct tc_agent *agent, uint32_t link, const struct tc_message *message)
{
    struct tc_err err = {0};
    if (link != TC_NO_LINK && tc_actions_send(&agent->actions, link, message, NULL, &err) < 0)
        agent->actions.failed = true;
}

void tc_agent_close_link(struct tc_agent *agent, uint32_t link, uint32_t linger)
{
    if (link == TC_NO_LINK)
        return;
    struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_CLOSE);
    action->link = link;
    action->linger = linger;
}

/* Ends. */

void tc_agent_end(struct tc_agent *agent, const struct tc_err *why, const char *event)
{
    if (agent->state == TC_AGENT_ENDED)
        return;
    tc_agent_enter(agent, TC_AGENT_ENDED, event);
    tc_agent_close_data_links(agent);
    tc_agent_close_link(agent, agent->control, TC_MS_GOODBYE);
    agent->control = TC_NO_LINK;
    struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_END);
    if (why)
        action->err = *why;
}

/* Say why, and end: REFUSE until the offer is answered, FAILED after. What is published stays so: then it ends without
 * a word, and the coordinator finds its children another parent. */
void tc_agent_fail(struct tc_agent *agent, const struct tc_err *why)
{
    if (agent->publishing) { /* a rename is not taken back: it has the file or not, and not both */
        agent->ends_later = true;
        return;
    }
    if (agent->state >= TC_AGENT_PUBLISHED) {
        struct tc_err left = *why; /* words for the log: what was published has not failed */
        left.reason = TC_OK;
        tc_agent_end(agent, &left, tc_reason_name(why->reason));
        return;
    }
    struct tc_message message = {.type = agent->state < TC_AGENT_PREPARED ? TC_MSG_REFUSE : TC_MSG_FAILED};
    message.why.reason = (uint16_t)why->reason;
    snprintf(message.why.text, sizeof message.why.text, "%s", why->text);
    tc_agent_send(agent, agent->control, &message);
    tc_agent_enter(agent, TC_AGENT_FAILED, tc_reason_name(why->reason));
    tc_agent_end(agent, why, "said why");
}

/* Time. */

/* An agent without its coordinator goes on while a parent delivers, and serves while a child takes. */
static uint64_t orphan_deadline(const struct tc_agent *agent)
{
    uint64_t idle = agent->last_byte + TC_MS_ORPHAN, most = agent->orphan_since + TC_MS_ORPHAN_MOST;
    if (agent->state == TC_AGENT_FILLING || agent->state == TC_AGENT_WHOLE)
        return idle < most ? idle : most;
    return idle;
}

/* Four times a second, with a coordinator or without. */
static void on_interval(struct tc_agent *agent)
{
    struct tc_err err = {0};
    tc_agent_send_progress(agent);
    for (unsigned t = 0; t < agent->trees; t++) {
        tc_agent_look_for_help(agent, t);
        tc_agent_ask_again(agent, t);
    }
    tc_children_ration(&agent->children);
    if (tc_agent_feed_children(agent, &err) < 0)
        tc_agent_fail(agent, &err);
}

static void say_over(enum tc_agent_state state, struct tc_err *why)
{
    if (state == TC_AGENT_PREPARED)
        tc_fail(why, TC_E_TIMEOUT, "no plan for %d s", TC_MS_PLAN / 1000);
    else if (state == TC_AGENT_FILLING)
        tc_fail(why, TC_E_TIMEOUT, "for more than %d s no byte, or hardly any", TC_MS_STALL / 1000);
    else
        tc_fail(why, TC_E_TIMEOUT, "its sender has not ended the session for %d s", TC_MS_SERVE / 1000);
}

/* A coordinator that stands still keeps its connections, and ends nothing: then the agent does, by itself. */
static void check_end(struct tc_agent *agent)
{
    struct tc_err why = {0};
    if (agent->deadline && agent->now >= agent->deadline) {
        agent->deadline = 0;
        tc_fail(&why, TC_E_DEADLINE, "deadline passed");
        tc_agent_fail(agent, &why);
    } else if (agent->now >= agent->until && !agent->differs) {
        agent->until = UINT64_MAX;
        say_over(agent->state, &why);
        tc_agent_fail(agent, &why);
    }
}

static void on_tick(struct tc_agent *agent)
{
    if (agent->state == TC_AGENT_NEW && agent->now >= agent->began + agent->config.offer_ms) {
        struct tc_err late = {0};
        tc_fail(&late, TC_E_TIMEOUT, "no offer for %u s", agent->config.offer_ms / 1000);
        tc_agent_end(agent, &late, "no offer");
        return;
    }
    if (agent->state >= TC_AGENT_OFFERED && agent->now >= agent->progress_due)
        on_interval(agent);
    if (agent->control == TC_NO_LINK && agent->now >= orphan_deadline(agent)) {
        struct tc_err why = {0};
        tc_fail(&why, TC_E_COORDINATOR_LOST, "coordinator lost and no byte for %d s", TC_MS_ORPHAN / 1000);
        if (agent->state != TC_AGENT_WHOLE)
            tc_agent_fail(agent, &why);
    }
    tc_agent_expire_held(agent);
    check_end(agent);
}

uint64_t tc_agent_wake(const struct tc_agent *agent)
{
    uint64_t wake = UINT64_MAX;
    if (agent->state == TC_AGENT_ENDED)
        return wake;
    if (agent->state == TC_AGENT_NEW)
        return agent->began + agent->config.offer_ms;
    if (agent->state >= TC_AGENT_OFFERED)
        wake = agent->progress_due;
    if (agent->control == TC_NO_LINK && agent->state != TC_AGENT_WHOLE && orphan_deadline(agent) < wake)
        wake = orphan_deadline(agent);
    if (agent->deadline && agent->deadline < wake)
        wake = agent->deadline;
    if (agent->until < wake && !agent->differs)
        wake = agent->until;
    uint64_t until = tc_agent_held_until(agent);
    return until < wake ? until : wake;
}

/* The machine as a whole. */

struct tc_agent *tc_agent_new(const struct tc_agent_config *config, uint32_t control, uint64_t now, struct tc_err *err)
{
    struct tc_agent *agent = calloc(1, sizeof *agent);
    if (!agent) {
        tc_fail(err, TC_E_NOMEM, "no memory for a session");
        return NULL;
    }
    agent->config = *config;
    if (agent->config.offer_ms == 0)
        agent->config.offer_ms = TC_MS_ANSWER;
    snprintf(agent->address, sizeof agent->address, "%s", config->address ? config->address : "");
    agent->control = control;
    agent->now = agent->began = now;
    agent->until = UINT64_MAX;
    agent->next_link = 1;
    tc_agent_say_hello(agent);
    agent->config.host = NULL;
    return agent;
}

void tc_agent_free(struct tc_agent *agent)
{
    if (!agent)
        return;
    tc_actions_free(&agent->actions);
    for (uint32_t p = tc_bits_next(&agent->have_pages, 0); p != TC_BITS_NONE;
         p = tc_bits_next(&agent->have_pages, p + 1))
        free(agent->pages[p]);
    free(agent->pages);
    for (unsigned i = 0; i < agent->held_count; i++)
        tc_blob_unref(agent->held[i].hello);
    for (unsigned t = 0; t < TC_TREES_MAX; t++) {
        tc_bits_free(&agent->parents[t].asked);
        tc_bits_free(&agent->parents[t].owed);
    }
    tc_compare_free(&agent->compare);
    tc_bits_free(&agent->lent);
    tc_bits_free(&agent->have_pages);
    tc_bits_free(&agent->have);
    tc_bits_free(&agent->pending);
    tc_children_free(&agent->children);
    tc_verifier_free(agent->session_key);
    tc_array_free(&agent->job.array);
    free(agent);
}

void tc_agent_event(struct tc_agent *agent, const struct tc_event *event, uint64_t now)
{
    agent->now = now;
    if (agent->state == TC_AGENT_ENDED)
        return;
    switch (event->kind) {
    case TC_EV_TICK:
        on_tick(agent);
        break;
    case TC_EV_UP:
        tc_agent_on_data_up(agent, event->link);
        break;
    case TC_EV_FRAME:
        if (event->link == agent->control)
            tc_agent_on_control_frame(agent, event);
        else
            tc_agent_on_data_frame(agent, event);
        break;
    case TC_EV_DOWN:
        if (event->link == agent->control)
            tc_agent_on_control_down(agent, event);
        else
            tc_agent_on_data_down(agent, event);
        break;
    case TC_EV_PREPARED:
        tc_agent_on_prepared(agent, event);
        break;
    case TC_EV_ALLOCATED:
        tc_agent_on_allocated(agent, event);
        break;
    case TC_EV_COMPARED:
        tc_agent_on_compared(agent, event);
        break;
    case TC_EV_OPENED:
        tc_agent_on_opened(agent, event);
        break;
    case TC_EV_SERVED:
        tc_agent_on_served(agent, event);
        break;
    case TC_EV_PUBLISHED:
        tc_agent_on_published(agent, event);
        break;
    case TC_EV_BOTTLENECK:
        agent->bottleneck = (enum tc_cause)event->flags;
        break;
    case TC_EV_DEAF:
        tc_agent_on_deaf(agent, event->err);
        break;
    case TC_EV_STOP:
        tc_agent_fail(agent, event->err);
        break;
    default:
        break;
    }
    if (agent->actions.failed) {
        struct tc_err why = {0};
        agent->actions.failed = false;
        tc_fail(&why, TC_E_NOMEM, "out of memory in the session");
        tc_agent_end(agent, &why, "out of memory");
    }
}

bool tc_agent_take(struct tc_agent *agent, struct tc_action *action)
{
    return tc_actions_take(&agent->actions, action);
}
