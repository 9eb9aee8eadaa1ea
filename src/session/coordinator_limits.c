#include "session/coordinator_own.h"

enum { STEADY_MS = 2000 }; /* without a gain of anybody: it does not run steadily */

/* Phases, and how long they may last. */

static uint64_t limit_of(const struct tc_coordinator *c, const struct tc_host *host, enum tc_host_phase phase)
{
    const struct tc_layout *layout = &c->config.layout;
    switch (phase) {
    case TC_PHASE_DIALLED:
        return c->config.tls ? TC_MS_ANSWER : TC_MS_GREET;
    case TC_PHASE_OFFERED:
        return tc_limit_prepare(layout->size);
    case TC_PHASE_RUNNING:
        return tc_limit_still(layout->chunk_size) + (host->reserves_later ? tc_limit_prepare(layout->size) : 0);
    case TC_PHASE_WHOLE:
        return tc_limit_publish(layout->size);
    case TC_PHASE_LEAVING:
        return TC_MS_GOODBYE;
    default: /* READY waits for others, ENDED for nothing */
        return UINT64_MAX;
    }
}

void tc_coordinator_enter(struct tc_coordinator *c, struct tc_host *host, enum tc_host_phase phase)
{
    uint64_t limit = limit_of(c, host, phase);
    host->view.phase = phase;
    host->until = limit == UINT64_MAX ? limit : c->now + limit;
}

/* Its phase has lasted as long as it may. */
static void on_over(struct tc_coordinator *c, struct tc_host *host)
{
    struct tc_err why = {0};
    unsigned publish = (unsigned)(tc_limit_publish(c->config.layout.size) / 1000);
    switch (host->view.phase) {
    case TC_PHASE_DIALLED:
        if (c->config.tls) /* it has the key, so it is an agent */
            tc_fail(&why, TC_E_TIMEOUT, "no greeting for %d s", TC_MS_ANSWER / 1000);
        else
            tc_fail(&why, TC_E_NOTAGENT, "not a treecast agent, or one that stands still: no greeting for %d s",
                    TC_MS_GREET / 1000);
        tc_coordinator_drop_host(c, host, TC_END_UNREACHABLE, &why, true);
        break;
    case TC_PHASE_OFFERED:
        tc_fail(&why, TC_E_TIMEOUT, "no answer for %u s", (unsigned)(tc_limit_prepare(c->config.layout.size) / 1000));
        tc_coordinator_drop_host(c, host, TC_END_UNREACHABLE, &why, true);
        break;
    case TC_PHASE_RUNNING:
        tc_fail(&why, TC_E_TIMEOUT, "too slow: it gained less than %u bytes a second (--min-rate), or nothing for %u s",
                c->config.min_rate, (unsigned)(tc_limit_still(c->config.layout.chunk_size) / 1000));
        tc_coordinator_dismiss_host(c, host, TC_END_FAILED, &why);
        break;
    case TC_PHASE_WHOLE:
        tc_fail(&why, TC_E_TIMEOUT, "it has every byte, and has not published for %u s", publish);
        tc_coordinator_dismiss_host(c, host, TC_END_FAILED, &why);
        break;
    case TC_PHASE_LEAVING:
        tc_fail(&why, TC_E_LOST, "lost: no answer when it was to end (%.160s)", host->leaves_for.text);
        tc_coordinator_drop_host(c, host, TC_END_LOST, &why, false);
        break;
    default:
        break;
    }
}

void tc_coordinator_check_silence(struct tc_coordinator *c, struct tc_host *host)
{
    struct tc_err why = {0};
    uint64_t quiet = c->now - host->heard;
    if (!tc_host_alive(host) && c->config.joins && host->view.phase == TC_PHASE_DIALLED &&
        c->now >= c->config.join_by) {
        tc_fail(&why, TC_E_TIMEOUT, "its agent did not come up in time");
        tc_coordinator_end_host(c, host, TC_END_UNREACHABLE, &why);
    }
    if (!tc_host_alive(host))
        return;
    if (c->now >= host->until) {
        on_over(c, host);
    } else if (host->view.rank != 0 && host->view.phase != TC_PHASE_LEAVING && quiet >= TC_MS_SILENCE &&
               c->now - host->fed_at >= TC_MS_SILENCE) {
        tc_fail(&why, TC_E_LOST, "lost: silent for %d s", TC_MS_SILENCE / 1000);
        tc_coordinator_drop_host(c, host, TC_END_LOST, &why, true);
    }
}

/* Who moves. */

/* It has gained what takes so many ms at the least rate. Each byte counts once, so words alone keep nobody for ever. */
void tc_coordinator_moved(struct tc_coordinator *c, struct tc_host *host, uint64_t ms)
{
    host->until = tc_limit_moved(host->until, c->now, ms, c->config.layout.chunk_size);
    if (c->now - c->moved_at > STEADY_MS)
        c->steady_since = c->now;
    c->moved_at = c->now;
}

/* Nobody accepts a byte, nor ever did so to the end: then the fault is not the hosts'. Else each has its own limit, and so
 * has one that has every byte and writes them to a disk. */
bool tc_coordinator_stands_still(const struct tc_coordinator *c)
{
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (c->hosts[i].view.whole_at)
            return false;
    return c->now - c->moved_at >= TC_MS_STALL;
}

/* Who holds up others by taking nothing. */

/* It gains nothing while others do, or so little that half of its time is gone. */
static bool is_stuck(const struct tc_coordinator *c, const struct tc_host *host)
{
    uint64_t since = host->gained_at > c->steady_since ? host->gained_at : c->steady_since;
    bool nothing = c->now - since >= TC_MS_LOOKS && c->now - c->moved_at <= STEADY_MS;
    uint64_t half = tc_limit_still(c->config.layout.chunk_size) / 2;
    bool little = c->now + half > host->until || c->now - host->gained_at > half;
    return tc_host_needs_data(host) && (nothing || little);
}

/* Its parent in tree t has something to give, as far as is known. */
static bool could_gain(const struct tc_coordinator *c, const struct tc_host *host, unsigned t)
{
    uint32_t up = tc_replan_parent(c->replan, t, host->view.rank);
    return up != TC_NO_RANK && (up == 0 || !is_stuck(c, tc_rank_host(c, up)));
}

/* In the tree that has brought nothing for longest, by the host's word. */
static void blame(struct tc_coordinator *c, struct tc_host *host)
{
    struct tc_err err = {0};
    int status = 0;
    for (unsigned t = 0; t < c->trees && status == 0; t++) {
        unsigned other = c->trees - 1 - t;
        if (!could_gain(c, host, t) || (host->waiting[t] < host->waiting[other] && could_gain(c, host, other)))
            continue;
        status = tc_replan_stuck(c->replan, t, host->view.rank, c->now, &err);
        host->moved_at = c->now; /* what follows takes its time */
    }
    c->actions.failed |= status < 0;
}

void tc_coordinator_look_for_stuck(struct tc_coordinator *c)
{
    uint64_t at_hand = (uint64_t)c->next_content * c->config.layout.chunk_size;
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (c->hosts[i].view.bytes < at_hand && is_stuck(c, &c->hosts[i]) &&
            c->now - c->hosts[i].moved_at >= TC_MS_LOOKS) /* its parent has had the time */
            blame(c, &c->hosts[i]);
}
