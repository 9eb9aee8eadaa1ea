#include "session/coordinator_own.h"

#include <stdlib.h>
#include <string.h>

static struct tc_store store_of(struct tc_coordinator *c)
{
    return (struct tc_store){&c->config.layout, c->pages, &c->have_pages, &c->have};
}

static int feed_children(struct tc_coordinator *c, struct tc_err *err)
{
    struct tc_store store = store_of(c);
    return tc_children_poll(&c->children, &store, &c->actions, err);
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

void tc_coordinator_digest_more(struct tc_coordinator *c)
{
    const struct tc_layout *layout = &c->config.layout;
    uint64_t pages = (uint64_t)TC_FEED_WINDOW * TC_PAGE_CHUNKS * layout->chunk_size;
    uint64_t limit = lead(c) + (c->config.ahead > pages ? c->config.ahead : pages);
    if (c->config.flags & TC_OFFER_DRY_RUN || c->aborted || c->ended)
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
    return feed_children(c, err);
}

/* Content digests and pages are made in order; chunks come in any order within the window. */
static int advance_content(struct tc_coordinator *c, struct tc_err *err)
{
    const struct tc_layout *layout = &c->config.layout;
    int status = 0;
    while (status == 0 && c->next_content < c->next_digest) {
        struct tc_blocks *slot = &c->window[c->next_content % c->config.digest_depth];
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

void tc_coordinator_on_digested(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_err err = {0};
    if (event->err && event->err->reason) {
        tc_coordinator_abort(c, event->err);
        return;
    }
    uint32_t index = event->chunk / TC_PAGE_CHUNKS;
    struct tc_blocks *slot = &c->window[event->chunk % c->config.digest_depth];
    memcpy(slot->blocks, event->blocks, tc_chunk_blocks(&c->config.layout, event->chunk) * sizeof slot->blocks[0]);
    slot->full = true;
    int status = open_page(c, index, &err);
    if (status == 0) {
        c->pages[index]->chunks[event->chunk % TC_PAGE_CHUNKS] = *event->digest;
        status = advance_content(c, &err);
    }
    if (status < 0)
        tc_coordinator_abort(c, &err);
}

/* The source is what it was when it was opened: only now the last page may go. */
void tc_coordinator_on_checked(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_err err = {0};
    uint32_t last = c->config.layout.pages - 1;
    if (event->err && event->err->reason) {
        tc_coordinator_abort(c, event->err);
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
        tc_coordinator_abort(c, &err);
}

/* Data links to own children. */

void tc_coordinator_on_data_frame(struct tc_coordinator *c, struct tc_child *child, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    struct tc_store store = store_of(c);
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err);
    if (status == 0 && message.type == TC_MSG_HELLO && !child->fed)
        status = tc_child_start(child, event->link, &store, &message.hello, &err);
    else if (status == 0)
        status = tc_child_message(child, &store, &message, c->now, &err);
    if (status == 0)
        status = feed_children(c, &err);
    if (status == 0)
        return;
    struct tc_host *host = tc_rank_host(c, child->self.rank);
    tc_coordinator_trace(c, "%s: data link dropped: %s", tc_host_name(c, host), err.text);
    tc_coordinator_close_link(c, event->link, 0);
    tc_child_stop(child);
    if (status == -TC_E_LIMIT) /* another link would cost the same again */
        tc_coordinator_drop_host(c, host, TC_END_FAILED, &err, true);
}

/* A data link that could not be dialled, or broke: the child cannot complain of what it never had. */
void tc_coordinator_on_data_down(struct tc_coordinator *c, struct tc_child *child, const struct tc_err *err)
{
    struct tc_host *host = tc_rank_host(c, child->self.rank);
    bool fed = child->fed;
    unsigned tree = child->tree;
    tc_child_stop(child);
    if (fed || !tc_host_needs_data(host))
        return;
    struct tc_msg_complaint complaint = {.epoch = c->epoch, .tree = (uint8_t)tree};
    complaint.reason = (uint16_t)(err && err->reason ? err->reason : TC_E_CLOSED);
    tc_coordinator_on_complaint(c, host, &complaint);
}

void tc_coordinator_on_served(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_child *child = tc_children_by_link(&c->children, event->link);
    if (event->err && event->err->reason) {
        tc_coordinator_abort(c, event->err);
        return;
    }
    if (!child || !child->fed)
        return;
    if (child->feed.on_way > 0)
        child->feed.on_way--;
    if (feed_children(c, &err) < 0)
        tc_coordinator_abort(c, &err);
}

void tc_coordinator_on_flow(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_child *child = tc_children_by_link(&c->children, event->link);
    if (child)
        tc_child_flow(child, event->flags, event->arrived, event->busy);
}

/* A link that is not up long after it was dialled, while others are; or no answer to a page, of a host that does not look
 * for its chunks in what it has. */
static bool is_late(const struct tc_coordinator *c, const struct tc_child *child)
{
    const struct tc_host *host = tc_rank_host(c, child->self.rank);
    bool others = false, looks = c->now < host->compared_at + TC_MS_STARVE && c->now < host->gained_at + TC_MS_LOOKS;
    if (child->fed)
        return tc_child_answers_late(&c->children, child) && !looks;
    for (unsigned i = 0; i < c->children.count; i++)
        others |= c->children.items[i].fed;
    return others && child->link != TC_NO_LINK && c->now >= child->since + TC_MS_STARVE;
}

/* Who of rank 0's own children holds up the others, and a little for those that are served last. */
void tc_coordinator_watch_children(struct tc_coordinator *c)
{
    struct tc_err err = {0};
    struct tc_store store = store_of(c);
    for (unsigned i = 0; i < c->children.count; i++) {
        const struct tc_child *child = &c->children.items[i];
        enum tc_hold hold = is_late(c, child) ? TC_HOLD_UP : tc_child_holds_up(&c->children, child, &store);
        if (hold != TC_HOLD_OPEN)
            tc_replan_holds_up(c->replan, child->tree, child->self.rank, hold == TC_HOLD_UP, c->now);
    }
    tc_children_ration(&c->children);
    if (feed_children(c, &err) < 0)
        tc_coordinator_abort(c, &err);
}
