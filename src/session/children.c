#include "session/children.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of chunks handed to one link at once: enough to keep a fast socket busy, little enough that a slow child's late
 * CANCEL or a sibling's turn does not wait for it. At least two chunks. */
#define DEPTH_BYTES (512u << 10)
/* Bytes of the file that one tree may run ahead of another. At least eight chunks. */
#define LEAD_BYTES (1u << 20)
/* Times the array, and chunks besides, that one child may ask for. */
#define GIVEN_TIMES 3u
#define GIVEN_BESIDES 64u
/* And each time that it may ask for what has not come. */
#define AGAIN_CHUNKS (TC_FEED_WINDOW * TC_PAGE_CHUNKS)
/* The same of its words, by chunks and pages. It may cancel each chunk, and ask for all of them again every few seconds. */
#define WORDS_TIMES 8u
#define WORDS_BESIDES 1024u
/* Of what was seen of a link's speed, at each new look. */
#define FADE 0.75

struct tc_child *tc_children_add(struct tc_children *children, unsigned tree, const struct tc_msg_link *self,
                                 struct tc_err *err)
{
    if (children->count == children->capacity) {
        unsigned capacity = children->capacity ? 2 * children->capacity : 4;
        struct tc_child *items = realloc(children->items, capacity * sizeof *items);
        if (!items) {
            tc_fail(err, TC_E_NOMEM, "no memory for %u children", capacity);
            return NULL;
        }
        children->items = items;
        children->capacity = capacity;
    }
    struct tc_child *child = &children->items[children->count++];
    *child = (struct tc_child){.self = *self, .tree = tree, .link = TC_NO_LINK};
    return child;
}

struct tc_child *tc_children_by_id(struct tc_children *children, const uint8_t id[TC_LINK_ID_SIZE])
{
    for (unsigned i = 0; i < children->count; i++)
        if (memcmp(children->items[i].self.id, id, TC_LINK_ID_SIZE) == 0)
            return &children->items[i];
    return NULL;
}

struct tc_child *tc_children_by_link(struct tc_children *children, uint32_t link)
{
    for (unsigned i = 0; i < children->count; i++)
        if (children->items[i].link == link)
            return &children->items[i];
    return NULL;
}

void tc_children_remove(struct tc_children *children, struct tc_child *child)
{
    tc_child_stop(child);
    *child = children->items[--children->count];
}

bool tc_children_in_tree(const struct tc_children *children, unsigned tree)
{
    for (unsigned i = 0; i < children->count; i++)
        if (children->items[i].tree == tree)
            return true;
    return false;
}

void tc_children_free(struct tc_children *children)
{
    for (unsigned i = 0; i < children->count; i++)
        tc_child_stop(&children->items[i]);
    free(children->items);
    *children = (struct tc_children){0};
}

int tc_child_start(struct tc_child *child, uint32_t link, const struct tc_store *store,
                   const struct tc_msg_hello *hello, struct tc_err *err)
{
    int status = tc_feed_init(&child->feed, store->layout, err);
    if (status < 0)
        return status;
    child->link = link;
    child->backlog = 0;
    memset(&child->flow, 0, sizeof child->flow);
    child->fed = true;
    for (uint32_t page = 0; page < store->layout->pages && page / 8 < hello->page_bytes; page++)
        if (hello->pages[page / 8] >> page % 8 & 1)
            tc_feed_skip(&child->feed, page);
    return 0;
}

void tc_child_stop(struct tc_child *child)
{
    if (child->fed)
        tc_feed_free(&child->feed);
    child->fed = false;
    child->link = TC_NO_LINK;
}

static int check_share(struct tc_child *child, const struct tc_layout *layout, uint64_t now, struct tc_err *err)
{
    uint64_t pieces = (uint64_t)layout->chunks + layout->pages;
    if (child->words == 0)
        child->first = now;
    uint64_t times = (now - child->first) / TC_MS_AGAIN;
    uint64_t again = layout->chunks < AGAIN_CHUNKS ? layout->chunks : AGAIN_CHUNKS;
    if (child->given < GIVEN_TIMES * (uint64_t)layout->chunks + GIVEN_BESIDES + times * again &&
        child->words++ < WORDS_TIMES * pieces + WORDS_BESIDES + times * layout->pages)
        return 0;
    return tc_fail(err, TC_E_LIMIT, "asks again and again: had %llu chunks of an array of %u, with %llu questions",
                   (unsigned long long)child->given, layout->chunks, (unsigned long long)child->words);
}

int tc_child_message(struct tc_child *child, const struct tc_store *store, const struct tc_message *message,
                     uint64_t now, struct tc_err *err)
{
    const struct tc_msg_want *want = &message->want;
    if (!child->fed)
        return tc_fail(err, TC_E_PROTOCOL, "%s before HELLO", tc_message_name(message->type));
    int status = check_share(child, store->layout, now, err);
    if (status < 0)
        return status;
    if (message->type == TC_MSG_WANT)
        return tc_feed_want(&child->feed, store->layout, want->page, want->chunks, err);
    if (message->type == TC_MSG_CANCEL)
        return tc_feed_cancel(&child->feed, store->layout, want->page, want->chunks, err);
    return tc_fail(err, TC_E_PROTOCOL, "%s from a child", tc_message_name(message->type));
}

static int push_pages(struct tc_child *child, const struct tc_store *store, struct tc_actions *actions,
                      struct tc_err *err)
{
    uint32_t page;
    while ((page = tc_feed_page(&child->feed, store->have_pages)) != TC_BITS_NONE) {
        struct tc_message message = {.type = TC_MSG_PAGE};
        message.page = *store->pages[page];
        int status = tc_actions_send(actions, child->link, &message, NULL, err);
        if (status < 0)
            return status;
    }
    return 0;
}

/* Where a child's tree stands: the lowest chunk that is still to go down it. */
static uint32_t position(const struct tc_child *child, const struct tc_store *store)
{
    uint32_t wanted = tc_bits_next(&child->feed.wants, tc_feed_from(&child->feed));
    uint32_t unanswered = child->feed.next < store->layout->pages ? tc_page_first(child->feed.next) : UINT32_MAX;
    return wanted < unanswered ? wanted : unanswered;
}

static bool is_last(const struct tc_child *child)
{
    return child->self.flags & TC_LINK_LAST;
}

static uint32_t lead_of(const struct tc_store *store)
{
    uint32_t lead = LEAD_BYTES / store->layout->chunk_size;
    return lead > 8 ? lead : 8;
}

/* Where the children stand, who go before those that are served last. */
struct stand {
    uint32_t at[TC_TREES_MAX]; /* the lowest position in each tree */
    bool incomplete;           /* one wants what is at hand; not looked for where nobody is served last */
};

static struct stand stand_of(const struct tc_children *children, const struct tc_store *store)
{
    struct stand stand = {.incomplete = false};
    bool any_last = false;
    for (unsigned t = 0; t < TC_TREES_MAX; t++)
        stand.at[t] = UINT32_MAX;
    for (unsigned i = 0; i < children->count && !any_last; i++)
        any_last = children->items[i].fed && is_last(&children->items[i]);
    for (unsigned i = 0; i < children->count; i++) {
        const struct tc_child *child = &children->items[i];
        if (!child->fed || is_last(child))
            continue;
        uint32_t at = position(child, store);
        if (at < stand.at[child->tree])
            stand.at[child->tree] = at;
        if (any_last && !stand.incomplete)
            stand.incomplete = tc_feed_peek(&child->feed, store->have) != TC_BITS_NONE;
    }
    return stand;
}

/* The chunk that child may not reach yet. A sender has everything at hand, and two streams from one uplink never share it
 * evenly by themselves. A tree that runs ahead gains nothing, for the other ends late, and relays cannot make up for it:
 * their uplinks have no more than the trees' even share. */
static uint32_t limit_of(const struct stand *stand, const struct tc_child *child, const struct tc_store *store)
{
    uint32_t lead = lead_of(store), limit = UINT32_MAX;
    for (unsigned t = 0; t < TC_TREES_MAX && !is_last(child); t++)
        if (t != child->tree && stand->at[t] < UINT32_MAX - lead && stand->at[t] + lead < limit)
            limit = stand->at[t] + lead;
    return limit;
}

/* Whether a brother of child will want chunk: has said so, or may still say so of its page. */
static bool wanted_elsewhere(const struct tc_children *children, const struct tc_child *child, uint32_t chunk)
{
    for (unsigned i = 0; i < children->count; i++) {
        const struct tc_child *other = &children->items[i];
        if (other == child || other->tree != child->tree)
            continue;
        if (!other->fed || tc_bits_has(&other->feed.wants, chunk) ||
            !tc_bits_has(&other->feed.answered, chunk / TC_PAGE_CHUNKS))
            return true;
    }
    return false;
}

static int poll_child(const struct tc_children *children, struct tc_child *child, const struct stand *stand,
                      const struct tc_store *store, struct tc_actions *actions, struct tc_err *err)
{
    if (!child->fed)
        return 0;
    int status = push_pages(child, store, actions, err);
    uint32_t depth = DEPTH_BYTES / store->layout->chunk_size, limit = limit_of(stand, child, store);
    depth = depth > 2 ? depth : 2;
    if (is_last(child) && stand->incomplete)
        depth = children->ration ? 1 : 0;
    while (status == 0 && child->feed.on_way < depth) {
        uint32_t chunk = tc_feed_chunk(&child->feed, store->have, limit);
        if (chunk == TC_BITS_NONE)
            break;
        child->feed.on_way++;
        child->given++;
        struct tc_action *action = tc_actions_add(actions, TC_ACT_SERVE);
        action->link = child->link;
        action->chunk = chunk;
        action->keep = wanted_elsewhere(children, child, chunk);
        status = push_pages(child, store, actions, err);
    }
    return status;
}

int tc_children_poll(struct tc_children *children, const struct tc_store *store, struct tc_actions *actions,
                     struct tc_err *err)
{
    int status = 0;
    size_t before = SIZE_MAX;
    while (status == 0 && actions->count != before) { /* what one takes may let one before it go on */
        struct stand stand = stand_of(children, store);
        before = actions->count;
        for (unsigned i = 0; i < children->count && status == 0; i++)
            status = poll_child(children, &children->items[i], &stand, store, actions, err);
    }
    children->ration = false;
    return status;
}

void tc_children_ration(struct tc_children *children)
{
    children->ration = true;
}

void tc_child_flow(struct tc_child *child, uint32_t backlog, uint64_t arrived, uint64_t busy)
{
    child->backlog = backlog;
    if (arrived < child->flow.arrived || busy <= child->flow.busy)
        return; /* nothing was on the way, and what it said before still holds */
    child->flow.bytes = child->flow.bytes * FADE + (double)(arrived - child->flow.arrived);
    child->flow.us = child->flow.us * FADE + (double)(busy - child->flow.busy);
    child->flow.arrived = arrived;
    child->flow.busy = busy;
}

/* Bytes in a microsecond in which some are on the way; 0: not known. */
static double speed(const struct tc_child *child)
{
    return child->flow.us > 0 ? child->flow.bytes / child->flow.us : 0;
}

bool tc_child_answers_late(const struct tc_children *children, const struct tc_child *child)
{
    const struct tc_feed *feed = &child->feed;
    if (!child->fed || is_last(child) || feed->on_way > 0 || feed->wants.count > 0 || feed->base >= feed->next ||
        tc_bits_has(&feed->answered, feed->base))
        return false;
    for (unsigned i = 0; i < children->count; i++) {
        const struct tc_child *other = &children->items[i];
        if (other->fed && !is_last(other) && other->tree != child->tree && other->feed.base > feed->base)
            return true;
    }
    return false;
}

enum tc_hold tc_child_holds_up(const struct tc_children *children, const struct tc_child *child,
                               const struct tc_store *store)
{
    bool any = false, on_way = false;
    double best = 0;
    if (!child->fed || is_last(child) || child->feed.on_way == 0)
        return TC_HOLD_NOT;
    uint64_t limit = (uint64_t)position(child, store) + lead_of(store);
    for (unsigned i = 0; i < children->count; i++) {
        const struct tc_child *other = &children->items[i];
        if (!other->fed || is_last(other) || other->tree == child->tree)
            continue;
        uint32_t next = tc_feed_peek(&other->feed, store->have);
        if (next == TC_BITS_NONE || next < limit)
            return TC_HOLD_NOT;
        any = true;
        on_way |= other->feed.on_way > 0 || other->backlog > 0;
        best = speed(other) > best ? speed(other) : best;
    }
    if (!any || (best == 0 && on_way) || (best > 0 && 2 * speed(child) >= best))
        return TC_HOLD_NOT;
    return on_way ? TC_HOLD_OPEN : TC_HOLD_UP;
}
