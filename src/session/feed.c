#include "session/feed.h"

int tc_feed_init(struct tc_feed *feed, const struct tc_layout *layout, struct tc_err *err)
{
    *feed = (struct tc_feed){0};
    int status = tc_bits_init(&feed->wants, layout->chunks, err);
    if (status == 0)
        status = tc_bits_init(&feed->answered, layout->pages, err);
    if (status == 0)
        status = tc_bits_init(&feed->skip, layout->pages, err);
    if (status < 0)
        tc_feed_free(feed);
    return status;
}

void tc_feed_free(struct tc_feed *feed)
{
    tc_bits_free(&feed->wants);
    tc_bits_free(&feed->answered);
    tc_bits_free(&feed->skip);
}

void tc_feed_skip(struct tc_feed *feed, uint32_t page)
{
    tc_bits_add(&feed->skip, page);
}

static uint64_t wanted(const struct tc_feed *feed, uint32_t page)
{
    return feed->wants.size ? tc_bits_page(&feed->wants, page) : 0;
}

static void settle(struct tc_feed *feed)
{
    while (feed->base < feed->next && tc_bits_has(&feed->answered, feed->base) && wanted(feed, feed->base) == 0)
        feed->base++;
}

uint32_t tc_feed_page(struct tc_feed *feed, const struct tc_bits *pages)
{
    settle(feed);
    while (feed->next < pages->size && tc_bits_has(&feed->skip, feed->next)) {
        tc_bits_add(&feed->answered, feed->next++);
        settle(feed);
    }
    if (feed->next >= pages->size || feed->next - feed->base >= TC_FEED_WINDOW || !tc_bits_has(pages, feed->next))
        return TC_BITS_NONE;
    return feed->next++;
}

static int check(const struct tc_layout *layout, uint32_t page, uint64_t chunks, struct tc_err *err)
{
    if (page >= layout->pages)
        return tc_fail(err, TC_E_PROTOCOL, "chunks of page %u wanted, there are %u pages", page, layout->pages);
    uint32_t count = tc_page_count(layout, page);
    if (count < TC_PAGE_CHUNKS && chunks >> count != 0)
        return tc_fail(err, TC_E_PROTOCOL, "chunks beyond the end of the file wanted in page %u", page);
    return 0;
}

int tc_feed_want(struct tc_feed *feed, const struct tc_layout *layout, uint32_t page, uint64_t chunks,
                 struct tc_err *err)
{
    int status = check(layout, page, chunks, err);
    if (status < 0)
        return status;
    tc_bits_add(&feed->answered, page);
    if (page >= feed->next)
        tc_feed_skip(feed, page); /* it has the page from elsewhere */
    if (page < feed->base && chunks && (feed->again == 0 || page < feed->low))
        feed->low = page;
    for (; chunks; chunks &= chunks - 1)
        if (tc_bits_add(&feed->wants, tc_page_first(page) + (uint32_t)__builtin_ctzll(chunks)) && page < feed->base)
            feed->again++;
    return 0;
}

static void want_no_more(struct tc_feed *feed, uint32_t chunk)
{
    if (tc_bits_remove(&feed->wants, chunk) && chunk / TC_PAGE_CHUNKS < feed->base)
        feed->again--;
}

int tc_feed_cancel(struct tc_feed *feed, const struct tc_layout *layout, uint32_t page, uint64_t chunks,
                   struct tc_err *err)
{
    int status = check(layout, page, chunks, err);
    if (status < 0)
        return status;
    for (; chunks; chunks &= chunks - 1)
        want_no_more(feed, tc_page_first(page) + (uint32_t)__builtin_ctzll(chunks));
    return 0;
}

uint32_t tc_feed_from(const struct tc_feed *feed)
{
    return tc_page_first(feed->again ? feed->low : feed->base);
}

uint32_t tc_feed_peek(const struct tc_feed *feed, const struct tc_bits *chunks)
{
    return feed->wants.count ? tc_bits_next_both(&feed->wants, chunks, tc_feed_from(feed)) : TC_BITS_NONE;
}

uint32_t tc_feed_chunk(struct tc_feed *feed, const struct tc_bits *chunks, uint32_t limit)
{
    if (feed->wants.count == 0)
        return TC_BITS_NONE;
    settle(feed);
    uint32_t chunk = tc_bits_next_both(&feed->wants, chunks, tc_feed_from(feed));
    if (chunk >= limit) /* TC_BITS_NONE too */
        return TC_BITS_NONE;
    want_no_more(feed, chunk);
    return chunk;
}
