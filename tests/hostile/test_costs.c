/* What members can make others do for few bytes of their own: time, memory and bytes, in one process. */
#include <string.h>
#include <time.h>

#include "../unit/unit.h"
#include "session/children.h"
#include "session/coordinator.h"
#include "victim.h"

enum { CHILDREN = 18000, DESCRIPTION = 250000, MANY_CHUNKS = 1 << 20, QUESTIONS = 100000 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 20
#else
#define SLOWER 1
#endif

static double seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* Seconds that the processor takes for one message. */
static double time_to_hear(struct victim *victim, uint32_t link, const struct tc_message *message)
{
    struct tc_blob *body = pack(message, NULL);
    double began = seconds();
    tell(victim, link, message->type, body);
    double taken = seconds() - began;
    tc_blob_unref(body);
    return taken;
}

START_TEST(huge_offers)
{
    static char text[DESCRIPTION];
    static const char *const shapes[] = {"[", "{", "[1,", "\"a\"", " "};
    double most = 0;
    for (unsigned i = 0; i <= sizeof shapes / sizeof shapes[0]; i++) {
        struct victim victim = victim_new(NULL);
        struct tc_message message = offer();
        message.offer.chunk_size = 1 << 16;
        message.offer.size = (uint64_t)UINT32_C(0x80000000) << 16;
        for (size_t at = 0; i > 0 && at < sizeof text; at++)
            text[at] = shapes[i - 1][at % strlen(shapes[i - 1])];
        message.offer.array = i > 0 ? text : "null";
        message.offer.array_size = i > 0 ? sizeof text : 4;
        double taken = time_to_hear(&victim, CONTROL, &message);
        ck_assert(victim.prepared == (i == 0)); /* whether there is space for 128 TiB is asked next */
        double began = seconds();
        tc_agent_free(victim.agent);
        taken += seconds() - began;
        most = taken > most ? taken : most;
    }
    printf("# an offer of 2^31 chunks, or of %d bytes of JSON: %.1f ms at most\n", DESCRIPTION, 1000 * most);
    ck_assert_double_lt(most, 0.02 * SLOWER);
}
END_TEST

static double time_of_plans(unsigned same, unsigned *children)
{
    static struct tc_msg_link links[CHILDREN];
    struct victim victim = victim_new(NULL);
    struct tc_message message = offer();
    double most = 0;
    tell_new(&victim, CONTROL, &message, NULL);
    tell(&victim, CONTROL, 0, NULL);
    for (unsigned epoch = 1; epoch <= 3; epoch++) { /* the second is the first's, the third another */
        for (unsigned i = 0; i < CHILDREN; i++) {
            uint32_t id = epoch == 3 ? CHILDREN + i : i;
            links[i] = (struct tc_msg_link){.rank = i + 2};
            memcpy(links[i].id, &(uint32_t){same ? id % same : id * 2654435761u}, sizeof id);
        }
        message = plan();
        message.plan.epoch = epoch;
        message.plan.rows[0].child_count = CHILDREN;
        message.plan.rows[0].children = (const uint8_t *)links;
        double taken = time_to_hear(&victim, CONTROL, &message);
        most = taken > most ? taken : most;
    }
    ck_assert_int_eq(tc_agent_state(victim.agent), TC_AGENT_FILLING);
    *children = 0;
    for (bool last; tc_agent_child(victim.agent, 0, *children, &last) != TC_NO_RANK && *children < 4;)
        ++*children;
    tc_agent_free(victim.agent);
    return most;
}

START_TEST(wide_plans)
{
    unsigned children;
    double most = time_of_plans(0, &children), same = time_of_plans(1, &children);
    ck_assert_uint_eq(children, 1);
    printf("# a plan with %d children: %.0f ms at most, %.0f with one id for all\n", CHILDREN, 1000 * most,
           1000 * same);
    ck_assert_double_lt(most, 0.2 * SLOWER);
    ck_assert_double_lt(same, 0.2 * SLOWER);
}
END_TEST

/* A parent and one child, with all chunks of a large array at hand. */
struct table {
    struct tc_layout layout;
    struct tc_bits have_pages, have;
    struct tc_children children;
    struct tc_child *child;
    struct tc_actions actions;
    uint64_t served, now;
};

static struct tc_store store_of(const struct table *table)
{
    static struct tc_page one = {.count = TC_PAGE_CHUNKS};
    static struct tc_page *pages[MANY_CHUNKS / TC_PAGE_CHUNKS];
    for (uint32_t i = 0; i < table->layout.pages && !pages[i]; i++)
        pages[i] = &one;
    return (struct tc_store){&table->layout, pages, &table->have_pages, &table->have};
}

static void lay(struct table *table, uint32_t chunks)
{
    struct tc_msg_link link = {.rank = 1};
    struct tc_message message = hello(TC_ROLE_CHILD);
    *table = (struct table){.served = 0};
    ck_assert_int_eq(tc_layout_init(&table->layout, (uint64_t)chunks << 16, 1 << 16, NULL), 0);
    ck_assert_int_eq(tc_bits_init(&table->have_pages, table->layout.pages, NULL), 0);
    ck_assert_int_eq(tc_bits_init(&table->have, chunks, NULL), 0);
    for (uint32_t i = 0; i < chunks; i++) {
        tc_bits_add(&table->have, i);
        tc_bits_add(&table->have_pages, i / TC_PAGE_CHUNKS);
    }
    struct tc_store store = store_of(table);
    table->child = tc_children_add(&table->children, 0, &link, NULL);
    ck_assert_int_eq(tc_child_start(table->child, 1, &store, &message.hello, NULL), 0);
}

static int ask(struct table *table, uint8_t type, uint32_t page, uint64_t chunks)
{
    struct tc_store store = store_of(table);
    struct tc_message message = {.type = type, .want = {page, chunks}};
    struct tc_action action;
    struct tc_err err = {0};
    int status = tc_child_message(table->child, &store, &message, table->now, &err);
    for (uint64_t before = UINT64_MAX; status == 0 && before != table->served;) {
        before = table->served;
        status = tc_children_poll(&table->children, &store, &table->actions, &err);
        while (tc_actions_take(&table->actions, &action)) {
            table->served += action.kind == TC_ACT_SERVE;
            table->child->feed.on_way -= action.kind == TC_ACT_SERVE; /* it has left already */
            tc_blob_unref(action.body);
        }
    }
    return status;
}

static void clear(struct table *table)
{
    tc_children_free(&table->children);
    tc_actions_free(&table->actions);
    tc_bits_free(&table->have_pages);
    tc_bits_free(&table->have);
}

/* One chunk of an array of 16, again and again; and on new links. */
START_TEST(the_same_again)
{
    struct table table;
    unsigned asked = 0;
    int status = 0;
    lay(&table, 16);
    while (status == 0 && asked < 142314) {
        asked++;
        status = ask(&table, TC_MSG_WANT, 0, 1);
    }
    ck_assert_int_eq(status, -TC_E_LIMIT);
    struct tc_store store = store_of(&table);
    struct tc_message again = hello(TC_ROLE_CHILD);
    tc_child_stop(table.child);
    ck_assert_int_eq(tc_child_start(table.child, 2, &store, &again.hello, NULL), 0);
    ck_assert_int_eq(ask(&table, TC_MSG_WANT, 0, 1), -TC_E_LIMIT);
    printf("# chunk 0 of 16 wanted %u times: given %llu times\n", asked, (unsigned long long)table.served);
    ck_assert_uint_eq(table.served, 3 * 16 + 64);
    table.now += TC_MS_AGAIN; /* it may have lost all of it, meanwhile */
    for (unsigned i = 0; i < 16; i++)
        ck_assert_int_eq(ask(&table, TC_MSG_WANT, 0, 1), 0);
    ck_assert_int_eq(ask(&table, TC_MSG_WANT, 0, 1), -TC_E_LIMIT);
    clear(&table);
}
END_TEST

/* All of it twice is nobody's fault. */
START_TEST(all_of_it_twice)
{
    struct table table;
    lay(&table, 6400);
    for (unsigned round = 0; round < 2; round++)
        for (uint32_t page = 0; page < table.layout.pages; page++)
            ck_assert_int_eq(ask(&table, TC_MSG_WANT, page, UINT64_MAX), 0);
    ck_assert_uint_eq(table.served, 2 * 6400);
    clear(&table);
}
END_TEST

/* Wants that are taken back, or ask for what is not here: time, and in the end a limit. */
START_TEST(questions)
{
    struct table table;
    uint32_t far;
    lay(&table, MANY_CHUNKS);
    far = table.layout.pages - 1;
    for (uint32_t page = 0; page < table.layout.pages; page++)
        ck_assert_int_eq(ask(&table, TC_MSG_WANT, page, 0), 0); /* it has all of it */
    for (uint32_t i = 0; i < MANY_CHUNKS; i++)
        tc_bits_remove(&table.have, i);
    tc_bits_add(&table.have, MANY_CHUNKS - 1);
    double began = seconds();
    for (unsigned i = 0; i < QUESTIONS / 4; i++) {
        ck_assert_int_eq(ask(&table, TC_MSG_WANT, 0, 1), 0);
        ck_assert_int_eq(ask(&table, TC_MSG_WANT, far, 1), 0);
        ck_assert_int_eq(ask(&table, TC_MSG_CANCEL, 0, 1), 0);
        ck_assert_int_eq(ask(&table, TC_MSG_CANCEL, far, 1), 0);
    }
    double each = (seconds() - began) / QUESTIONS;
    printf("# %d questions about an array of %d chunks: %.1f us each\n", QUESTIONS, MANY_CHUNKS, 1e6 * each);
    ck_assert_double_lt(each, 50e-6 * SLOWER);
    clear(&table);
}
END_TEST

/* --- a sender with many hosts hears one of them all the time --- */

enum { CROWD = 1000, WORDS = 20000 };

static int some_random(void *arg, void *bytes, size_t size, struct tc_err *err)
{
    (void)arg;
    (void)err;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)number(256);
    return 0;
}

static double time_to_tell(struct tc_coordinator *coordinator, uint32_t host, const struct tc_message *message,
                           uint64_t now)
{
    struct tc_blob *body = pack(message, NULL);
    struct tc_event event = {.kind = TC_EV_FRAME, .link = host, .type = message->type, .body = body};
    struct tc_action action;
    double began = seconds();
    tc_coordinator_event(coordinator, &event, now);
    double taken = seconds() - began;
    while (tc_coordinator_take(coordinator, &action))
        tc_blob_unref(action.body);
    tc_blob_unref(body);
    return taken;
}

START_TEST(words_to_a_sender)
{
    static char text[CROWD][16];
    static const char *names[CROWD];
    struct tc_coordinator_config config = {.name = "A",
                                           .array = "null",
                                           .hosts = names,
                                           .host_count = CROWD,
                                           .signer = signer,
                                           .min_hosts = 1,
                                           .digest_depth = 4,
                                           .tree.kind = TC_TREE_DOUBLE,
                                           .random = some_random};
    double taken = 0;
    uint64_t now = 1000;
    for (uint32_t i = 0; i < CROWD; i++) {
        snprintf(text[i], sizeof text[i], "host%u:7117", i);
        names[i] = text[i];
    }
    ck_assert_int_eq(tc_layout_init(&config.layout, (uint64_t)MANY_CHUNKS << 16, 1 << 16, NULL), 0);
    struct tc_coordinator *coordinator = tc_coordinator_new(&config, now, NULL);
    ck_assert_ptr_nonnull(coordinator);
    for (uint32_t host = 0; host < CROWD; host++) {
        struct tc_message message = hello(TC_ROLE_AGENT);
        memcpy(message.hello.instance, &(uint32_t){host + 1}, sizeof host);
        time_to_tell(coordinator, host, &message, now);
    }
    for (uint32_t host = 0; host < CROWD; host++)
        time_to_tell(coordinator, host, &(struct tc_message){.type = TC_MSG_READY}, now);
    ck_assert_int_eq(tc_coordinator_host(coordinator, 0)->phase, TC_PHASE_RUNNING);
    for (unsigned i = 0; i < WORDS; i++) {
        struct tc_message message = {.type = i % 2 ? TC_MSG_PROGRESS : TC_MSG_COMPLAIN};
        if (message.type == TC_MSG_PROGRESS)
            message.progress =
                (struct tc_msg_progress){.epoch = 1, .state = TC_AGENT_FILLING, .trees = 2, .compared = i};
        else
            message.complaint = (struct tc_msg_complaint){1, (uint8_t)(i / 2 % 2), number(CROWD), TC_E_INTEGRITY};
        now += i % 20 == 0; /* 20 in a millisecond */
        taken += time_to_tell(coordinator, 0, &message, now);
    }
    ck_assert_int_ne(tc_coordinator_host(coordinator, 1)->phase, TC_PHASE_ENDED);
    printf("# %d words of one of %d hosts to its sender: %.1f us each\n", WORDS, CROWD, 1e6 * taken / WORDS);
    ck_assert_double_lt(taken / WORDS, 50e-6 * SLOWER);
    tc_coordinator_free(coordinator);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("costs");
    TCase *tcase = tcase_create("costs");
    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, make_keys, free_keys);
    tcase_add_test(tcase, huge_offers);
    tcase_add_test(tcase, wide_plans);
    tcase_add_test(tcase, the_same_again);
    tcase_add_test(tcase, all_of_it_twice);
    tcase_add_test(tcase, questions);
    tcase_add_test(tcase, words_to_a_sender);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
