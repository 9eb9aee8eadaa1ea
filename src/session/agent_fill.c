#include "session/agent_own.h"

#include <stdlib.h>

enum { CHECKS_MOST = 3 };

static bool here(struct tc_agent *agent, uint32_t chunk)
{
    if (!tc_bits_add(&agent->have, chunk))
        return false;
    uint64_t length = tc_chunk_length(&agent->job.layout, chunk);
    agent->bytes += length;
    tc_agent_gained(agent, tc_limit_at(length, TC_RATE_LEAST));
    return true;
}

static const struct tc_digest *digest_of(const struct tc_agent *agent, uint32_t chunk)
{
    return &agent->pages[chunk / TC_PAGE_CHUNKS]->chunks[chunk % TC_PAGE_CHUNKS];
}

static void compare_more(struct tc_agent *agent)
{
    uint32_t chunk;
    while (!agent->differs && (chunk = tc_compare_take(&agent->compare)) != TC_BITS_NONE) {
        struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_COMPARE);
        action->chunk = chunk;
        action->flags = agent->checking ? TC_COMPARE_PLACED : 0;
        action->digest = *digest_of(agent, chunk);
    }
}

static void compare_all(struct tc_agent *agent)
{
    for (uint32_t p = tc_bits_next(&agent->have_pages, 0); p != TC_BITS_NONE;
         p = tc_bits_next(&agent->have_pages, p + 1))
        tc_compare_page(&agent->compare, &agent->job.layout, p);
    compare_more(agent);
}

/* Read the whole file back: what was verified once may have been changed by a bad memory or disk since. */
static void begin_check(struct tc_agent *agent)
{
    struct tc_err err = {0};
    if (agent->checks == CHECKS_MOST) {
        tc_fail(&err, TC_E_INTEGRITY,
                "%u chunks of the file are not what was written, %u times: its disk or memory is bad", agent->wrong,
                agent->checks);
        tc_agent_fail(agent, &err);
        return;
    }
    if (agent->compare.todo.size == 0 && tc_compare_init(&agent->compare, &agent->job.layout, &err) < 0) {
        tc_agent_fail(agent, &err);
        return;
    }
    agent->checking = true;
    agent->checks++;
    agent->wrong = 0;
    compare_all(agent);
}

static void maybe_whole(struct tc_agent *agent)
{
    const struct tc_layout *layout = &agent->job.layout;
    if (agent->state != TC_AGENT_FILLING || agent->have.count < layout->chunks ||
        agent->have_pages.count < layout->pages || !tc_compare_idle(&agent->compare) || agent->differs)
        return;
    if (agent->doubted && agent->allocated && !agent->checked && layout->chunks > 0) {
        begin_check(agent);
        return;
    }
    tc_agent_enter(agent, TC_AGENT_WHOLE, "last chunk");
    tc_agent_send_progress(agent);
    agent->publishing = true;
    tc_actions_add(&agent->actions, TC_ACT_PUBLISH)->digest = agent->pages[layout->pages - 1]->content;
}

/* From parents. */

static int take_page(struct tc_agent *agent, const struct tc_page *page, struct tc_err *err)
{
    const struct tc_layout *layout = &agent->job.layout;
    if (page->index >= layout->pages || page->count != tc_page_count(layout, page->index) ||
        page->last != (page->index == layout->pages - 1))
        return tc_fail(err, TC_E_PROTOCOL, "page %u does not fit the file", page->index);
    if (tc_bits_has(&agent->have_pages, page->index))
        return 0;
    int status = tc_page_check(page, agent->job.session, agent->session_key, err);
    if (status < 0)
        return status;
    struct tc_page *kept = malloc(sizeof *kept);
    if (!kept)
        return tc_fail(err, TC_E_NOMEM, "no memory for page %u", page->index);
    *kept = *page;
    agent->pages[page->index] = kept;
    tc_bits_add(&agent->have_pages, page->index);
    tc_agent_gained(agent, UINT64_MAX);
    tc_compare_page(&agent->compare, &agent->job.layout, page->index);
    return 0;
}

int tc_agent_on_page(struct tc_agent *agent, unsigned t, const struct tc_page *page, struct tc_err *err)
{
    int status = take_page(agent, page, err);
    if (status < 0)
        return status;
    compare_more(agent);
    tc_agent_answer(agent, t, page->index);
    agent->last_byte = agent->now;
    maybe_whole(agent);
    return tc_agent_feed_children(agent, err);
}

int tc_agent_on_chunk(struct tc_agent *agent, unsigned t, const struct tc_msg_chunk *chunk, struct tc_blob *body,
                      struct tc_err *err)
{
    struct tc_parent *parent = &agent->parents[t];
    parent->last_byte = agent->now;
    if (chunk->index >= agent->job.layout.chunks || chunk->length != tc_chunk_length(&agent->job.layout, chunk->index))
        return tc_fail(err, TC_E_PROTOCOL, "chunk %u does not fit the file", chunk->index);
    if (!tc_agent_brought(agent, t, chunk->index))
        return 0; /* a late answer to a want that was met elsewhere */
    agent->last_byte = agent->now;
    agent->received[t] += chunk->length;
    struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_OPEN);
    action->link = parent->link;
    action->chunk = chunk->index;
    action->keep = tc_children_in_tree(&agent->children, chunk->index % agent->trees);
    action->digest = *digest_of(agent, chunk->index);
    action->body = tc_blob_ref(body);
    return 0;
}

void tc_agent_on_opened(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    if (agent->state != TC_AGENT_FILLING)
        return;
    int t = tc_agent_parent_of(agent, event->link);
    if (event->err && event->err->reason == TC_E_INTEGRITY) {
        tc_bits_remove(&agent->pending, event->chunk);
        if (t >= 0) { /* never from this parent again: its link is closed and the coordinator told */
            tc_agent_close_link(agent, event->link, 0);
            tc_agent_lose_parent(agent, (unsigned)t, event->err);
        } else {
            tc_agent_ask_elsewhere(agent);
        }
        return;
    }
    if (event->err && event->err->reason) {
        tc_agent_fail(agent, event->err);
        return;
    }
    tc_bits_remove(&agent->pending, event->chunk);
    here(agent, event->chunk);
    maybe_whole(agent);
    if (tc_agent_feed_children(agent, &err) < 0)
        tc_agent_fail(agent, &err);
}

/* From what is here already. */

/* The published file is another one. Everything is looked for again once there is a file to put it in: what was found,
 * to be copied, and what was not, for a session may have left that. */
static void on_difference(struct tc_agent *agent)
{
    struct tc_err why = {0};
    agent->differs = true;
    if (!(agent->job.flags & TC_OFFER_FORCE)) {
        tc_fail(&why, TC_E_EXISTS, "%s is already here with other content: use --force to replace it", agent->job.name);
        tc_agent_fail(agent, &why);
    } else if (agent->compare.out.count == 0) {
        tc_actions_add(&agent->actions, TC_ACT_ALLOCATE);
    }
}

void tc_agent_on_allocated(struct tc_agent *agent, const struct tc_event *event)
{
    if (agent->state != TC_AGENT_FILLING)
        return;
    if (event->err && event->err->reason) {
        tc_agent_fail(agent, event->err);
        return;
    }
    agent->allocated = true;
    agent->differs = false;
    tc_agent_gained(agent, UINT64_MAX);
    compare_all(agent);
}

/* One chunk was looked for: found, it is here and, with a file, in place; else it is to be wanted. */
static void take_comparison(struct tc_agent *agent, uint32_t chunk, bool found)
{
    uint64_t length = tc_chunk_length(&agent->job.layout, chunk);
    agent->compared += length;
    if (found) {
        agent->adopted += here(agent, chunk) ? length : 0;
        if (agent->allocated)
            tc_bits_remove(&agent->lent, chunk);
        else
            tc_bits_add(&agent->lent, chunk);
    } else if (tc_bits_remove(&agent->lent, chunk)) { /* the published file was changed between two looks */
        tc_bits_remove(&agent->have, chunk);
        agent->bytes -= length;
        agent->adopted -= length;
    }
}

/* One chunk of the file was read back: a wrong one is fetched again, and then all are read once more. */
static void take_check(struct tc_agent *agent, uint32_t chunk, bool right)
{
    uint64_t length = tc_chunk_length(&agent->job.layout, chunk);
    agent->compared += length;
    if (!right && tc_bits_remove(&agent->have, chunk)) {
        agent->bytes -= length;
        agent->adopted = agent->adopted < agent->bytes ? agent->adopted : agent->bytes;
        agent->wrong++;
    }
    if (!tc_compare_idle(&agent->compare))
        return;
    agent->checking = false;
    agent->checked = agent->wrong == 0;
}

void tc_agent_on_compared(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    if (agent->state != TC_AGENT_FILLING)
        return;
    if (event->err && event->err->reason) {
        tc_agent_fail(agent, event->err);
        return;
    }
    bool found = event->flags & 1;
    tc_agent_gained(agent, tc_limit_at(tc_chunk_length(&agent->job.layout, event->chunk), TC_RATE_COMPARE));
    tc_compare_done(&agent->compare, event->chunk);
    if (agent->checking)
        take_check(agent, event->chunk, found);
    else
        take_comparison(agent, event->chunk, found);
    agent->last_byte = agent->now;
    if (!agent->allocated && (!found || agent->differs)) {
        on_difference(agent);
        return;
    }
    compare_more(agent);
    tc_agent_answer_all(agent, event->chunk / TC_PAGE_CHUNKS);
    maybe_whole(agent);
    if (tc_agent_feed_children(agent, &err) < 0)
        tc_agent_fail(agent, &err);
}

/* Published. */

void tc_agent_on_published(struct tc_agent *agent, const struct tc_event *event)
{
    agent->publishing = false;
    if (agent->state != TC_AGENT_WHOLE)
        return;
    if (event->err && event->err->reason) {
        tc_agent_fail(agent, event->err);
        return;
    }
    tc_agent_enter(agent, agent->allocated ? TC_AGENT_PUBLISHED : TC_AGENT_UNCHANGED, "published");
    struct tc_message message = {.type = TC_MSG_DONE};
    message.done.state = (uint8_t)agent->state;
    message.done.digest = agent->pages[agent->job.layout.pages - 1]->content;
    tc_agent_send(agent, agent->control, &message);
    if (agent->ends_later)
        tc_agent_end(agent, NULL, "published");
}
