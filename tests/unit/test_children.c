/* What a sender with one child in each of two trees gives to whom, and whom it calls late. */
#include "session/children.h"

#include "unit.h"

struct world {
    struct tc_layout layout;
    struct tc_page *pages[5], page[5];
    struct tc_bits have_pages, have;
    struct tc_children children;
    struct tc_actions actions;
    unsigned given[2]; /* chunks, at the last poll */
};

static struct tc_store store_of(struct world *w)
{
    return (struct tc_store){&w->layout, w->pages, &w->have_pages, &w->have};
}

/* A file of five pages, all at hand; child i is of tree i, on link i. */
static struct world *make_world(void)
{
    struct world *w = calloc(1, sizeof *w);
    ck_assert_int_eq(tc_layout_init(&w->layout, UINT64_C(320) << 16, 1 << 16, NULL), 0);
    ck_assert_int_eq(tc_bits_init(&w->have_pages, 5, NULL), 0);
    ck_assert_int_eq(tc_bits_init(&w->have, 320, NULL), 0);
    for (uint32_t page = 0; page < 5; page++) {
        w->page[page] = (struct tc_page){.index = page, .count = 64, .last = page == 4};
        w->pages[page] = &w->page[page];
        tc_bits_add(&w->have_pages, page);
    }
    for (uint32_t chunk = 0; chunk < 320; chunk++)
        tc_bits_add(&w->have, chunk);
    struct tc_store store = store_of(w);
    struct tc_msg_hello hello = {0};
    for (unsigned t = 0; t < 2; t++) {
        struct tc_child *child = tc_children_add(&w->children, t, &(struct tc_msg_link){.rank = t + 1}, NULL);
        ck_assert_int_eq(tc_child_start(child, t, &store, &hello, NULL), 0);
    }
    return w;
}

static void free_world(struct world *w)
{
    tc_children_free(&w->children);
    tc_actions_free(&w->actions);
    tc_bits_free(&w->have_pages);
    tc_bits_free(&w->have);
    free(w);
}

static void poll(struct world *w)
{
    struct tc_store store = store_of(w);
    struct tc_action action;
    ck_assert_int_eq(tc_children_poll(&w->children, &store, &w->actions, NULL), 0);
    w->given[0] = w->given[1] = 0;
    while (tc_actions_take(&w->actions, &action)) {
        w->given[action.link] += action.kind == TC_ACT_SERVE;
        tc_blob_unref(action.body);
    }
}

/* Child t wants its half of page. */
static void answer(struct world *w, unsigned t, uint32_t page)
{
    struct tc_store store = store_of(w);
    struct tc_message message = {.type = TC_MSG_WANT};
    message.want.page = page;
    message.want.chunks = UINT64_C(0x5555555555555555) << t;
    ck_assert_int_eq(tc_child_message(&w->children.items[t], &store, &message, 1000, NULL), 0);
}

/* So many chunks that child t was handed have left; returns how many that were. */
static unsigned leave(struct world *w, unsigned t, unsigned most)
{
    struct tc_feed *feed = &w->children.items[t].feed;
    unsigned count = feed->on_way < most ? feed->on_way : most;
    feed->on_way -= count;
    return count;
}

static enum tc_hold hold(struct world *w, unsigned t)
{
    struct tc_store store = store_of(w);
    return tc_child_holds_up(&w->children, &w->children.items[t], &store);
}

static bool holds_up(struct world *w, unsigned t)
{
    return hold(w, t) == TC_HOLD_UP;
}

/* Both trees run until child slow takes nothing more, and the other has what it may have. */
static void run_until_held_up(struct world *w, unsigned slow)
{
    poll(w);
    for (unsigned t = 0; t < 2; t++)
        for (uint32_t page = 0; page < 4; page++)
            answer(w, t, page);
    poll(w);
    for (unsigned i = 0; i < 100 && leave(w, !slow, 1) > 0; i++)
        poll(w);
    ck_assert_uint_eq(w->children.items[!slow].feed.on_way, 0);
    ck_assert_uint_gt(w->children.items[slow].feed.on_way, 0);
}

START_TEST(who_waits_for_the_other_tree_goes_on_at_once)
{
    for (unsigned slow = 0; slow < 2; slow++) {
        struct world *w = make_world();
        run_until_held_up(w, slow);
        for (unsigned i = 0; i < 8;
             i++) { /* each chunk that one takes lets the other take one, in whatever order they stand */
            leave(w, slow, 1);
            poll(w);
            ck_assert_uint_eq(w->given[slow], 1);
            ck_assert_uint_eq(w->given[!slow], 1);
            leave(w, !slow, 1);
        }
        free_world(w);
    }
}
END_TEST

START_TEST(who_holds_up_the_others_is_slow_and_not_busy_catching_up)
{
    for (unsigned slow = 0; slow < 2; slow++) {
        struct world *w = make_world();
        struct tc_child *child = &w->children.items[slow], *other = &w->children.items[!slow];
        run_until_held_up(w, slow);
        ck_assert(holds_up(w, slow) && !holds_up(w, !slow)); /* where nothing is known of speeds */
        tc_child_flow(other, 0, 1000000, 100000);
        tc_child_flow(child, 500000, 1000000, 100000);
        ck_assert_int_eq(hold(w, slow),
                         TC_HOLD_NOT); /* it runs as fast as the line, there is only more to catch up with */
        tc_child_flow(other, 1, 1000000, 100000);
        for (unsigned i = 1; i <= 10; i++)
            tc_child_flow(child, 500000, 1000000 + i * 10000, 100000 + i * 100000);
        ck_assert_int_eq(hold(w, slow), TC_HOLD_OPEN); /* what the other was given has not arrived yet */
        tc_child_flow(other, 0, 1000000, 100000);
        ck_assert(holds_up(w, slow));
        free_world(w);
    }
}
END_TEST

START_TEST(who_does_not_answer_what_others_have_is_late)
{
    struct world *w = make_world();
    poll(w);
    ck_assert(!tc_child_answers_late(&w->children, &w->children.items[1])); /* nobody has */
    for (uint32_t page = 0; page < 4; page++)
        answer(w, 0, page);
    for (unsigned i = 0; i < 10; i++, leave(w, 0, 8))
        poll(w);
    ck_assert_uint_gt(w->children.items[0].feed.base, 0);
    ck_assert(tc_child_answers_late(&w->children, &w->children.items[1]));
    ck_assert(!tc_child_answers_late(&w->children, &w->children.items[0]));
    answer(w, 1, 0);
    ck_assert(!tc_child_answers_late(&w->children, &w->children.items[1]));
    free_world(w);
}
END_TEST

/* A child that is unfit to relay costs the others what it draws alone: a chunk for each ration while they want something. */
START_TEST(who_is_served_last_waits_for_the_others)
{
    struct world *w = make_world();
    struct tc_child *last = &w->children.items[1];
    last->self.flags = TC_LINK_LAST;
    poll(w);
    for (unsigned t = 0; t < 2; t++)
        for (uint32_t page = 0; page < 4; page++)
            answer(w, t, page);
    for (unsigned i = 0; i < 10; i++, leave(w, 0, 8)) { /* 80 of 128 chunks that the first one wants */
        poll(w);
        ck_assert_uint_eq(w->given[0], 8);
        ck_assert_uint_eq(w->given[1], 0);
    }
    for (unsigned i = 0; i < 4; i++, leave(w, 0, 4)) {
        tc_children_ration(&w->children);
        poll(w);
        ck_assert_uint_gt(w->given[0], 0);
        ck_assert_uint_eq(w->given[1], i % 2 == 0); /* one, and no second before that has left */
        poll(w);
        ck_assert_uint_eq(w->given[1], 0);
        if (i % 2)
            ck_assert_uint_eq(leave(w, 1, 8), 1);
    }
    for (unsigned i = 0; i < 10 && w->children.items[0].feed.wants.count > 0; i++, leave(w, 0, 8))
        poll(w);
    ck_assert_uint_eq(w->children.items[0].feed.wants.count, 0);
    ck_assert_uint_eq(last->feed.on_way, 8); /* nobody wants more: it has all there is */
    free_world(w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("children");
    TCase *tcase = tcase_create("children");
    tcase_add_test(tcase, who_waits_for_the_other_tree_goes_on_at_once);
    tcase_add_test(tcase, who_holds_up_the_others_is_slow_and_not_busy_catching_up);
    tcase_add_test(tcase, who_does_not_answer_what_others_have_is_late);
    tcase_add_test(tcase, who_is_served_last_waits_for_the_others);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
