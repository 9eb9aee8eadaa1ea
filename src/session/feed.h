/* feed.h - a parent's side of one data link: which pages to push, which wanted chunk to send next. Pure.
 *
 * Pages run ahead of the data within a window: a page is open from when it is pushed until the child has answered it
 * and every chunk it wanted of it has been sent; at most TC_FEED_WINDOW pages are open. Chunks go in index order as far
 * as they are at hand, and a few may be on their way at once. What is wanted again of a page that was settled does not
 * open it again: who asks has no work for us but that chunk. */
#ifndef TC_SESSION_FEED_H
#define TC_SESSION_FEED_H

#include "data/chunk.h"

#define TC_FEED_WINDOW 4u /* pages */

struct tc_feed {
    struct tc_bits wants;    /* chunks */
    struct tc_bits answered; /* pages */
    struct tc_bits skip;     /* pages that the child has already */
    uint32_t base;           /* all pages below were settled once */
    uint32_t again;          /* wants below base, */
    uint32_t low;            /* in no page below this one */
    uint32_t next;           /* the next page to push */
    uint32_t on_way;         /* chunks handed to the link and not yet gone */
};

int tc_feed_init(struct tc_feed *feed, const struct tc_layout *layout, struct tc_err *err);
void tc_feed_free(struct tc_feed *feed);

/* The child has this page: it is not pushed, but the child may want chunks of it. */
void tc_feed_skip(struct tc_feed *feed, uint32_t page);

/* The next page to push among those in pages, or TC_BITS_NONE; the caller pushes what it gets. */
uint32_t tc_feed_page(struct tc_feed *feed, const struct tc_bits *pages);

/* An answer or an addition; a page that was not pushed yet, the child has from elsewhere, and it is skipped.
 * TC_E_PROTOCOL for pages or chunks beyond the file. */
int tc_feed_want(struct tc_feed *feed, const struct tc_layout *layout, uint32_t page, uint64_t chunks,
                 struct tc_err *err);
int tc_feed_cancel(struct tc_feed *feed, const struct tc_layout *layout, uint32_t page, uint64_t chunks,
                   struct tc_err *err);

/* The next chunk below limit to send among those in chunks, or TC_BITS_NONE; it is no longer wanted then. */
uint32_t tc_feed_chunk(struct tc_feed *feed, const struct tc_bits *chunks, uint32_t limit);
/* Where the lowest chunk that is wanted can be at the earliest. */
uint32_t tc_feed_from(const struct tc_feed *feed);
/* The same as tc_feed_chunk without a limit, and it stays wanted. */
uint32_t tc_feed_peek(const struct tc_feed *feed, const struct tc_bits *chunks);

#endif
