#include "session/feed.h"

#include "unit.h"

/* A feed over pages full pages, all of them and all chunks at hand. */
struct world {
    struct tc_layout layout;
    struct tc_bits pages, chunks;
    struct tc_feed feed;
};

static struct world make_world(uint32_t chunks)
{
    struct world w;
    ck_assert_int_eq(tc_layout_init(&w.layout, (uint64_t)chunks << 16, 1 << 16, NULL), 0);
    ck_assert_int_eq(tc_bits_init(&w.pages, w.layout.pages, NULL), 0);
    ck_assert_int_eq(tc_bits_init(&w.chunks, w.layout.chunks, NULL), 0);
    for (uint32_t i = 0; i < w.layout.pages; i++)
        tc_bits_add(&w.pages, i);
    for (uint32_t i = 0; i < w.layout.chunks; i++)
        tc_bits_add(&w.chunks, i);
    ck_assert_int_eq(tc_feed_init(&w.feed, &w.layout, NULL), 0);
    return w;
}

static void free_world(struct world *w)
{
    tc_feed_free(&w->feed);
    tc_bits_free(&w->pages);
    tc_bits_free(&w->chunks);
}

static uint32_t next_page(struct world *w)
{
    return tc_feed_page(&w->feed, &w->pages);
}

static uint32_t next_chunk(struct world *w)
{
    return tc_feed_chunk(&w->feed, &w->chunks, UINT32_MAX);
}

static void want(struct world *w, uint32_t page, uint64_t chunks)
{
    ck_assert_int_eq(tc_feed_want(&w->feed, &w->layout, page, chunks, NULL), 0);
}

static void push(struct world *w, uint32_t first, uint32_t last)
{
    for (uint32_t page = first; page <= last; page++)
        ck_assert_uint_eq(next_page(w), page);
}

START_TEST(pages_stop_at_the_window)
{
    struct world w = make_world(640);
    push(&w, 0, TC_FEED_WINDOW - 1);
    ck_assert_uint_eq(next_page(&w), TC_BITS_NONE);
    want(&w, 1, 0); /* out of order: page 0 is still open */
    ck_assert_uint_eq(next_page(&w), TC_BITS_NONE);
    want(&w, 0, 0);
    push(&w, TC_FEED_WINDOW, TC_FEED_WINDOW + 1);
    ck_assert_uint_eq(next_page(&w), TC_BITS_NONE);
    free_world(&w);
}
END_TEST

START_TEST(a_page_is_open_until_its_chunks_are_sent)
{
    struct world w = make_world(640);
    push(&w, 0, TC_FEED_WINDOW - 1);
    want(&w, 0, 0x6);
    ck_assert_uint_eq(next_page(&w), TC_BITS_NONE);
    ck_assert_uint_eq(next_chunk(&w), 1);
    ck_assert_uint_eq(next_page(&w), TC_BITS_NONE);
    ck_assert_uint_eq(next_chunk(&w), 2);
    ck_assert_uint_eq(next_page(&w), TC_FEED_WINDOW);
    free_world(&w);
}
END_TEST

START_TEST(pages_wait_until_they_are_here)
{
    struct world w = make_world(640);
    tc_bits_remove(&w.pages, 1);
    push(&w, 0, 0);
    ck_assert_uint_eq(next_page(&w), TC_BITS_NONE);
    tc_bits_add(&w.pages, 1);
    push(&w, 1, 1);
    free_world(&w);
}
END_TEST

START_TEST(chunks_go_in_order_as_far_as_they_are_here)
{
    struct world w = make_world(640);
    push(&w, 0, 1);
    ck_assert_uint_eq(next_chunk(&w), TC_BITS_NONE);
    want(&w, 1, 1);
    want(&w, 0, 0x8000000000000003);
    tc_bits_remove(&w.chunks, 1);
    ck_assert_uint_eq(next_chunk(&w), 0);
    ck_assert_uint_eq(next_chunk(&w), 63);
    ck_assert_uint_eq(next_chunk(&w), 64);
    ck_assert_uint_eq(next_chunk(&w), TC_BITS_NONE);
    tc_bits_add(&w.chunks, 1);
    ck_assert_uint_eq(next_chunk(&w), 1);
    ck_assert_uint_eq(next_chunk(&w), TC_BITS_NONE); /* each once */
    free_world(&w);
}
END_TEST

START_TEST(cancelled_chunks_do_not_go_and_the_window_moves)
{
    struct world w = make_world(640);
    push(&w, 0, TC_FEED_WINDOW - 1);
    want(&w, 0, 0x7);
    ck_assert_int_eq(tc_feed_cancel(&w.feed, &w.layout, 0, 0xfe, NULL), 0); /* more than wanted is harmless */
    ck_assert_uint_eq(next_chunk(&w), 0);
    ck_assert_uint_eq(next_chunk(&w), TC_BITS_NONE);
    ck_assert_uint_eq(next_page(&w), TC_FEED_WINDOW);
    free_world(&w);
}
END_TEST

START_TEST(a_settled_page_may_be_wanted_of_again)
{
    struct world w = make_world(640);
    push(&w, 0, 3);
    for (uint32_t page = 0; page < 4; page++)
        want(&w, page, 0);
    push(&w, 4, 4);
    want(&w, 1, 1 << 5);
    ck_assert_uint_eq(next_chunk(&w), 64 + 5);
    push(&w, 5, 7);
    free_world(&w);
}
END_TEST

START_TEST(pages_that_the_child_has_are_skipped)
{
    struct world w = make_world(640);
    tc_feed_skip(&w.feed, 0);
    tc_feed_skip(&w.feed, 2);
    tc_feed_skip(&w.feed, 9);
    push(&w, 1, 1);
    push(&w, 3, 4);
    want(&w, 0, 2); /* but its chunks may be wanted */
    ck_assert_uint_eq(next_chunk(&w), 1);
    want(&w, 9, 1);
    ck_assert_uint_eq(next_chunk(&w), 9 * 64);
    free_world(&w);
}
END_TEST

START_TEST(a_want_ahead_of_its_page_says_that_the_child_has_it)
{
    struct world w = make_world(640);
    want(&w, 1, 1);
    ck_assert_uint_eq(next_chunk(&w), 64);
    push(&w, 0, 0);
    push(&w, 2, 3);
    free_world(&w);
}
END_TEST

START_TEST(nothing_beyond_the_file)
{
    struct world w = make_world(65);
    ck_assert_int_eq(tc_feed_want(&w.feed, &w.layout, 2, 0, NULL), -TC_E_PROTOCOL);
    ck_assert_int_eq(tc_feed_want(&w.feed, &w.layout, UINT32_MAX, 1, NULL), -TC_E_PROTOCOL);
    ck_assert_int_eq(tc_feed_want(&w.feed, &w.layout, 1, 2, NULL), -TC_E_PROTOCOL);
    ck_assert_int_eq(tc_feed_cancel(&w.feed, &w.layout, 1, 2, NULL), -TC_E_PROTOCOL);
    ck_assert_int_eq(tc_feed_cancel(&w.feed, &w.layout, 2, 0, NULL), -TC_E_PROTOCOL);
    want(&w, 1, 1);
    ck_assert_uint_eq(next_chunk(&w), 64);
    push(&w, 0, 0);
    ck_assert_uint_eq(next_page(&w), TC_BITS_NONE);
    free_world(&w);
}
END_TEST

START_TEST(an_empty_file_has_one_page_and_no_chunk)
{
    struct world w = make_world(0);
    push(&w, 0, 0);
    want(&w, 0, 0);
    ck_assert_int_eq(tc_feed_want(&w.feed, &w.layout, 0, 1, NULL), -TC_E_PROTOCOL);
    ck_assert_uint_eq(next_chunk(&w), TC_BITS_NONE);
    ck_assert_uint_eq(next_page(&w), TC_BITS_NONE);
    free_world(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("feed");
    TCase *tcase = tcase_create("feed");
    tcase_add_test(tcase, pages_stop_at_the_window);
    tcase_add_test(tcase, a_page_is_open_until_its_chunks_are_sent);
    tcase_add_test(tcase, pages_wait_until_they_are_here);
    tcase_add_test(tcase, chunks_go_in_order_as_far_as_they_are_here);
    tcase_add_test(tcase, cancelled_chunks_do_not_go_and_the_window_moves);
    tcase_add_test(tcase, a_settled_page_may_be_wanted_of_again);
    tcase_add_test(tcase, pages_that_the_child_has_are_skipped);
    tcase_add_test(tcase, a_want_ahead_of_its_page_says_that_the_child_has_it);
    tcase_add_test(tcase, nothing_beyond_the_file);
    tcase_add_test(tcase, an_empty_file_has_one_page_and_no_chunk);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
