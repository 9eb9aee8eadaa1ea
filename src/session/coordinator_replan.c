#include "session/coordinator_own.h"

#include <stdio.h>
#include <stdlib.h>

/* The host is gone: others fill its places. */
void tc_coordinator_leave_plan(struct tc_coordinator *c, struct tc_host *host)
{
    if (c->planned && host->view.rank != 0)
        tc_replan_gone(c->replan, host->view.rank, c->now);
}

/* What hosts say of the plan. */

/* What a report says of the plan it was made in; one of an older plan is a sign of life only. */
void tc_coordinator_on_sample(struct tc_coordinator *c, struct tc_host *host, const struct tc_msg_progress *progress)
{
    struct tc_sample sample = {.cause = (enum tc_cause)progress->cause};
    if (host->view.rank == 0 || progress->epoch < host->row_epoch || progress->trees != c->trees)
        return;
    for (unsigned t = 0; t < c->trees; t++) {
        uint32_t up = tc_replan_parent(c->replan, t, host->view.rank);
        sample.trees[t].held = progress->tree[t].held;
        sample.trees[t].brought = (uint32_t)(progress->tree[t].received / c->config.layout.chunk_size);
        sample.trees[t].waiting = host->waiting[t] = progress->tree[t].waiting;
        if (progress->tree[t].received > host->received[t] && up != 0 && up != TC_NO_RANK)
            tc_rank_host(c, up)->fed_at = c->now;
        host->received[t] = progress->tree[t].received;
    }
    tc_replan_report(c->replan, host->view.rank, &sample, c->now);
}

/* Complaints of wrong bytes are counted for the parent, the sender too. */
static unsigned *accusations(struct tc_coordinator *c, uint32_t rank)
{
    return rank == 0 ? &c->accused : &tc_rank_host(c, rank)->view.accused;
}

static void charge(struct tc_coordinator *c, struct tc_host *host, uint32_t rank)
{
    if (host->untrusted || host->charge_count == TC_CHARGES_MOST)
        return;
    host->charges[host->charge_count++] = rank;
    if (++*accusations(c, rank) == 1)
        tc_coordinator_mark_changed(c, rank); /* it is told at once, for it may be about to publish */
}

/* A host that had wrong bytes from two has a bad memory or network itself: what it said of others is taken back. */
static void doubt_charges(struct tc_coordinator *c, struct tc_host *host)
{
    for (unsigned i = 1; i < host->charge_count; i++)
        host->untrusted |= host->charges[i] != host->charges[0];
    for (unsigned i = 0; i < host->charge_count && host->untrusted; i++)
        --*accusations(c, host->charges[i]);
    host->charge_count = host->untrusted ? 0 : host->charge_count;
}

/* What a parent gave was wrong, though another may have taken its place since. */
static void on_wrong_bytes(struct tc_coordinator *c, struct tc_host *host, const struct tc_msg_complaint *complaint)
{
    uint32_t rank = complaint->rank;
    if (rank > c->ranks || (host->told[complaint->tree] != rank && host->before[complaint->tree] != rank))
        return;
    charge(c, host, rank);
    if (rank == 0) /* read again for a slow child, it may be another file by now */
        tc_actions_add(&c->actions, TC_ACT_CHECK);
}

/* A parent does not deliver: what is to be done follows with the next decision. */
void tc_coordinator_on_complaint(struct tc_coordinator *c, struct tc_host *host,
                                 const struct tc_msg_complaint *complaint)
{
    struct tc_err err = {0};
    uint32_t rank = host->view.rank;
    bool corrupt = complaint->reason == TC_E_INTEGRITY;
    if (complaint->tree >= c->trees || !tc_host_needs_data(host))
        return;
    if (corrupt)
        on_wrong_bytes(c, host, complaint);
    if (complaint->epoch < host->row_epoch || tc_replan_parent(c->replan, complaint->tree, rank) != complaint->rank)
        return; /* has been moved since */
    tc_coordinator_trace(c, "%s complains of %s: %s", tc_host_name(c, host), tc_rank_name(c, complaint->rank),
                         tc_reason_text(complaint->reason));
    if (tc_replan_complain(c->replan, complaint->tree, rank, complaint->rank,
                           corrupt ? TC_COMPLAINT_CORRUPT : TC_COMPLAINT_LINK, c->now, &err) < 0)
        c->actions.failed = true;
}

/* What follows. */

static void tell_uplink(const struct tc_coordinator *c, const struct tc_replan_step *step, struct tc_replan_view *view)
{
    tc_topology_path(c->topology, step->group, view->group, sizeof view->group);
    view->rate = (double)step->rate * c->config.layout.chunk_size;
    snprintf(view->text, sizeof view->text, "uplink of %.80s: %.3g Mbit/s, others are not served through it any more",
             view->group, view->rate * 8 / 1e6);
}

static void tell_replan(struct tc_coordinator *c, const struct tc_replan_step *step)
{
    if (c->replan_count == c->replan_capacity) {
        unsigned capacity = c->replan_capacity ? 2 * c->replan_capacity : 8;
        struct tc_replan_view *replans = realloc(c->replans, capacity * sizeof *replans);
        if (!replans) {
            c->actions.failed = true;
            return;
        }
        c->replans = replans;
        c->replan_capacity = capacity;
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
    if (step->why == TC_REPLAN_UPLINK)
        tell_uplink(c, step, view);
    else
        tc_replan_say(step, step->other == TC_NO_RANK ? "" : tc_rank_name(c, step->other), view->text,
                      sizeof view->text);
    tc_coordinator_trace(c, "%s: %s, %u moved", tc_rank_name(c, step->rank), view->text, step->moves);
    tc_actions_add(&c->actions, TC_ACT_REPLAN)->chunk = c->replan_count - 1;
}

static void give_up(struct tc_coordinator *c, struct tc_host *host)
{
    struct tc_err why = {0};
    if (host->untrusted || host->charge_count > 0)
        tc_fail(&why, TC_E_INTEGRITY, "gets wrong bytes from everybody, the sender too: %s",
                c->accused > 0 ? "is the sender's memory or network bad?" : "is its memory or network bad?");
    else
        tc_fail(&why, TC_E_UNREACHABLE, "cannot be given chunks, not even by the sender");
    tc_coordinator_dismiss_host(c, host, TC_END_FAILED, &why);
}

/* A host that is lost, and was not heard again after it was called slow, was not slow: that was its dying. */
void tc_coordinator_note_cause(struct tc_coordinator *c, struct tc_host *host)
{
    bool was_dying = host->view.end == TC_END_LOST && host->heard <= host->slow_at;
    host->view.cause = was_dying ? TC_CAUSE_NONE : tc_replan_cause(c->replan, host->view.rank);
}

/* What crosses a slow uplink is served last from now on. */
static void on_slow_uplink(struct tc_coordinator *c, const struct tc_replan_step *step)
{
    for (unsigned t = 0; t < c->trees; t++)
        for (uint32_t rank = 1; rank <= c->ranks; rank++)
            if (tc_replan_is_last(c->replan, t, rank))
                tc_coordinator_mark_changed(c, tc_replan_parent(c->replan, t, rank));
    tell_replan(c, step);
}

static void on_step(struct tc_coordinator *c, const struct tc_replan_step *step)
{
    struct tc_host *host = tc_rank_host(c, step->rank);
    if (step->why == TC_REPLAN_UPLINK) {
        on_slow_uplink(c, step);
        return;
    }
    if (step->why == TC_REPLAN_SLOW)
        host->slow_at = c->now;
    host->view.unfit = !tc_replan_fit(c->replan, step->rank);
    tc_coordinator_note_cause(c, host);
    for (unsigned t = 0; t < c->trees && host->view.unfit; t++) /* its parents serve it last from now on */
        tc_coordinator_mark_changed(c, tc_replan_parent(c->replan, t, step->rank));
    for (unsigned t = 0; t < c->trees; t++) /* or their other children would wait for one that takes nothing */
        tc_coordinator_mark_changed(c, step->left[t]);
    tell_replan(c, step);
    if (step->why == TC_REPLAN_COMPLAINS)
        doubt_charges(c, host);
    if (step->why == TC_REPLAN_GIVEN_UP)
        give_up(c, host);
}

void tc_coordinator_decide(struct tc_coordinator *c)
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
        tc_coordinator_trace(c, "%s: moves below %s in tree %u", tc_rank_name(c, moves[i].rank),
                             tc_rank_name(c, moves[i].to), moves[i].tree);
        if (tc_coordinator_fresh_edge(c, moves[i].tree, moves[i].rank, &err) < 0)
            c->actions.failed = true;
        tc_rank_host(c, moves[i].rank)->moved_at = c->now;
        tc_coordinator_mark_changed(c, moves[i].rank);
        tc_coordinator_mark_changed(c, moves[i].from);
        tc_coordinator_mark_changed(c, moves[i].to);
    }
    count = tc_replan_steps(c->replan, &steps);
    for (unsigned i = 0; i < count; i++)
        on_step(c, &steps[i]);
}
