/* 100,000 lies of members at the message boundary, in one process: to an agent that knows its origin, to one that is being
 * filled, and to a coordinator. None may be acted on. The lies are true messages with something changed. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../unit/unit.h"
#include "session/coordinator.h"
#include "victim.h"

static unsigned tried;

enum { OFFERS = 40000, PLANS = 4000, PAGES = 16000, DATA = 25000, WORDS = 15000 };

/* Change what is signed, or the signature, or both. */
static void falsify_offer(struct tc_message *message, struct tc_signer **by)
{
    struct tc_msg_offer *lie = &message->offer;
    *by = number(4) == 0 ? liar : NULL;
    switch (number(6)) {
    case 0:
        lie->name[0] = (char)('B' + number(20));
        break;
    case 1:
        lie->size += number(1 << 20) - (1u << 19);
        break;
    case 2:
        memcpy(lie->public_key, liars_key, sizeof liars_key);
        break;
    case 3:
        lie->nonce[number(TC_NONCE_SIZE)] ^= (uint8_t)(1 + number(255));
        break;
    case 4:
        lie->flags ^= 1 + number(7);
        break;
    default:
        lie->session[number(TC_SESSION_ID_SIZE)] ^= (uint8_t)(1 + number(255));
    }
}

/* One to three bits, anywhere: the signature too. */
static void bend(struct tc_blob *body)
{
    uint32_t last = UINT32_MAX;
    for (unsigned left = 1 + number(3); left > 0; left--) {
        uint32_t at = number((uint32_t)body->size);
        if (at != last)
            body->bytes[at] ^= (uint8_t)(1 << number(8));
        last = at;
    }
}

START_TEST(offers_and_plans)
{
    struct tc_message message = offer(), a_plan = plan();
    struct tc_blob *true_offer = pack(&message, origin), *true_plan = pack(&a_plan, origin);
    struct victim honest = victim_new(trusted);
    tell(&honest, CONTROL, TC_MSG_OFFER, true_offer); /* or this test could not fail */
    tell(&honest, CONTROL, 0, NULL);
    tell(&honest, CONTROL, TC_MSG_PLAN, true_plan);
    ck_assert(honest.prepared == 1 && honest.planned > 0);
    tc_agent_free(honest.agent);
    for (unsigned i = 0; i < OFFERS + PLANS; i++, tried++) {
        bool about_plan = i >= OFFERS;
        struct victim victim = victim_new(trusted);
        struct tc_blob *lie = NULL;
        struct tc_signer *by = NULL;
        if (about_plan) {
            tell(&victim, CONTROL, TC_MSG_OFFER, true_offer);
            tell(&victim, CONTROL, 0, NULL);
            lie = number(3) ? tc_blob_copy(true_plan->bytes, true_plan->size) : pack(&a_plan, number(2) ? liar : NULL);
            if (lie->size == true_plan->size)
                bend(lie);
        } else if (number(5) == 0) {
            lie = tc_blob_copy(true_offer->bytes, true_offer->size);
            bend(lie);
        } else {
            struct tc_message changed = message;
            falsify_offer(&changed, &by);
            lie = pack(&changed, by);
        }
        tell(&victim, CONTROL, about_plan ? TC_MSG_PLAN : TC_MSG_OFFER, lie);
        ck_assert_uint_eq(victim.planned, 0);
        ck_assert_uint_eq(victim.prepared, about_plan);
        ck_assert_int_eq(tc_agent_state(victim.agent), TC_AGENT_ENDED);
        tc_blob_unref(lie);
        tc_agent_free(victim.agent);
    }
    tc_blob_unref(true_offer);
    tc_blob_unref(true_plan);
    printf("# %u offers and plans: 0 accepted\n", tried);
}
END_TEST

/* --- what the origin has said to another, passed on --- */

START_TEST(passed_on)
{
    static const char *const others[] = {"10.0.0.8:7117",   "10.0.0.7:7118", "10.0.0.7", "",
                                         "[10.0.0.7]:7117", "node7:7117"};
    unsigned refused = 0;
    for (unsigned i = 0; i < 2 * (sizeof others / sizeof others[0] + 1); i++) {
        bool about_plan = i % 2;
        struct victim victim = victim_new(trusted);
        struct tc_message an_offer = offer(), a_plan = plan();
        struct tc_destination *to = about_plan ? &a_plan.plan.to : &an_offer.offer.to;
        if (i / 2 < sizeof others / sizeof others[0])
            snprintf(to->address, sizeof to->address, "%s", others[i / 2]);
        else
            to->channel[number(TC_CHANNEL_SIZE)] ^= 1;
        tell_new(&victim, CONTROL, &an_offer, origin);
        if (about_plan) {
            tell(&victim, CONTROL, 0, NULL);
            tell_new(&victim, CONTROL, &a_plan, origin);
        }
        ck_assert(victim.prepared == about_plan && victim.planned == 0);
        ck_assert_int_eq(tc_agent_state(victim.agent), TC_AGENT_ENDED);
        refused++;
        tc_agent_free(victim.agent);
    }
    struct tc_message forwarded = offer(); /* the operator has named where it comes from */
    struct victim victim = victim_new(trusted);
    forwarded.offer.to = destination("192.0.2.1:80");
    tell_new(&victim, CONTROL, &forwarded, origin);
    ck_assert_uint_eq(victim.prepared, 1);
    tc_agent_free(victim.agent);
    printf("# %u offers and plans for others, well signed: 0 accepted\n", refused);
}
END_TEST

/* --- pages and chunks --- */

static struct victim filling(void)
{
    struct victim victim = victim_new(NULL);
    struct tc_message message = offer();
    tell_new(&victim, CONTROL, &message, NULL);
    tell(&victim, CONTROL, 0, NULL);
    message = plan();
    tell_new(&victim, CONTROL, &message, NULL);
    message = hello(TC_ROLE_PARENT);
    tell_new(&victim, PARENT, &message, NULL);
    ck_assert_int_eq(tc_agent_state(victim.agent), TC_AGENT_FILLING);
    return victim;
}

START_TEST(pages)
{
    struct tc_message message = {.type = TC_MSG_PAGE, .page = page()};
    struct tc_blob *true_page = pack(&message, NULL);
    struct victim honest = filling();
    tell(&honest, PARENT, TC_MSG_PAGE, true_page);
    ck_assert_uint_eq(honest.wanted, 1);
    tc_agent_free(honest.agent);
    for (unsigned i = 0; i < PAGES; i++, tried++) {
        struct victim victim = filling();
        struct tc_blob *lie = tc_blob_copy(true_page->bytes, true_page->size);
        if (number(4) == 0) { /* well signed, by somebody else */
            struct tc_page other = page();
            other.chunks[number(CHUNKS)].bytes[number(TC_DIGEST_SIZE)] ^= 1;
            ck_assert_int_eq(tc_page_sign(&other, session, liar, NULL), 0);
            tc_blob_unref(lie);
            lie = pack(&(struct tc_message){.type = TC_MSG_PAGE, .page = other}, NULL);
        } else {
            bend(lie);
        }
        tell(&victim, PARENT, TC_MSG_PAGE, lie);
        ck_assert(victim.wanted == 0 && victim.opened == 0 && victim.published == 0);
        tc_blob_unref(lie);
        tc_agent_free(victim.agent);
    }
    tc_blob_unref(true_page);
    printf("# %d pages: 0 accepted\n", PAGES);
}
END_TEST

/* A chunk is opened against the digest of its page; here nothing may be opened that is not a wanted chunk in full. */
START_TEST(chunks)
{
    struct tc_message message = {.type = TC_MSG_PAGE, .page = page()};
    struct tc_blob *true_page = pack(&message, NULL);
    for (unsigned i = 0; i < DATA; i++, tried++) {
        struct victim victim = filling();
        uint8_t bytes[TC_CHUNK_HEAD + 8] = {0};
        bool early = number(4) == 0;
        uint32_t index = number(CHUNKS), length = 1 << 16, form = TC_FORM_ZSTD, bent = number(3);
        if (!early) {
            tell(&victim, PARENT, TC_MSG_PAGE, true_page);
            index = bent == 0 ? CHUNKS + number(UINT32_MAX - CHUNKS) : index;
            length = bent == 1 ? length + 1 + number(1 << 30) : length;
            form = bent == 2 ? 2 + number(1000) : form;
        }
        tc_chunk_head(bytes, index, length, form);
        struct tc_blob *body = tc_blob_copy(bytes, sizeof bytes);
        tell(&victim, PARENT, TC_MSG_CHUNK, body);
        ck_assert(victim.opened == 0 && victim.published == 0);
        tc_blob_unref(body);
        tc_agent_free(victim.agent);
    }
    tc_blob_unref(true_page);
    printf("# %d chunks: 0 accepted\n", DATA);
}
END_TEST

/* --- a coordinator hears that all is well from a host that has nothing --- */

static int no_random(void *arg, void *bytes, size_t size, struct tc_err *err)
{
    (void)arg;
    (void)err;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)number(256);
    return 0;
}

static void say(struct tc_coordinator *coordinator, uint32_t host, const struct tc_message *message)
{
    struct tc_blob *body = pack(message, NULL);
    struct tc_action action;
    tc_coordinator_event(
        coordinator, &(struct tc_event){.kind = TC_EV_FRAME, .link = host, .type = message->type, .body = body}, 1000);
    while (tc_coordinator_take(coordinator, &action))
        tc_blob_unref(action.body);
    tc_blob_unref(body);
}

static struct tc_message false_word(void)
{
    static const uint8_t types[] = {TC_MSG_PROGRESS, TC_MSG_DONE, TC_MSG_DONE, TC_MSG_READY, TC_MSG_COMPLAIN};
    struct tc_message message = {.type = types[number(sizeof types)]};
    if (message.type == TC_MSG_PROGRESS) {
        message.progress.epoch = number(3);
        message.progress.state = (uint8_t)number(8);
        message.progress.chunks = number(10);
        message.progress.bytes = (uint64_t)number(UINT32_MAX) * number(UINT32_MAX);
    } else if (message.type == TC_MSG_DONE) {
        message.done.state = (uint8_t)number(8);
        message.done.digest.bytes[0] = (uint8_t)number(256);
    } else if (message.type == TC_MSG_COMPLAIN) {
        message.complaint.epoch = number(3);
        message.complaint.rank = number(6);
        message.complaint.reason = (uint16_t)number(40);
    }
    return message;
}

START_TEST(words)
{
    static const char *const names[] = {"liar:1", "honest:2"};
    struct tc_coordinator_config config = {.name = "A",
                                           .array = "null",
                                           .hosts = names,
                                           .host_count = 2,
                                           .signer = signer,
                                           .min_hosts = 1,
                                           .digest_depth = 4,
                                           .random = no_random};
    ck_assert_int_eq(tc_layout_init(&config.layout, CHUNKS << 16, 1 << 16, NULL), 0);
    memcpy(config.session, session, sizeof session);
    for (unsigned i = 0; i < WORDS; tried += 5, i += 5) {
        struct tc_coordinator *coordinator = tc_coordinator_new(&config, 1000, NULL);
        ck_assert_ptr_nonnull(coordinator);
        for (uint32_t host = 0; host < 2; host++) {
            struct tc_message message = hello(TC_ROLE_AGENT);
            message.hello.instance[0] = (uint8_t)(host + 1);
            say(coordinator, host, &message);
            say(coordinator, host, &(struct tc_message){.type = TC_MSG_READY});
        }
        for (unsigned word = 0; word < 5; word++) {
            struct tc_message message = false_word();
            say(coordinator, 0, &message);
            ck_assert_int_ne(tc_coordinator_host(coordinator, 0)->end, TC_END_PUBLISHED);
            ck_assert_int_eq(tc_coordinator_host(coordinator, 1)->end, TC_END_NONE);
        }
        tc_coordinator_free(coordinator);
    }
    printf("# %d words to a coordinator: 0 believed\n", WORDS);
}
END_TEST

/* --- a liar complains: of everybody, in every tree, for every reason, in every epoch, for as long as it lasts --- */

enum { HOSTS = 8, COMPLAINTS = 4000 };

struct court {
    struct tc_coordinator *coordinator;
    uint64_t now;
    uint32_t epoch;
    unsigned plans, to_honest;
};

static void hear(struct court *court, uint32_t host, const struct tc_message *message)
{
    struct tc_blob *body = message ? pack(message, NULL) : NULL;
    struct tc_event event = {.kind = body ? TC_EV_FRAME : TC_EV_TICK, .link = host, .body = body};
    struct tc_action action;
    event.type = message ? message->type : 0;
    tc_coordinator_event(court->coordinator, &event, court->now);
    while (tc_coordinator_take(court->coordinator, &action)) {
        struct tc_message said;
        if (action.kind == TC_ACT_SEND && action.type == TC_MSG_PLAN) {
            court->plans++;
            court->to_honest += action.link != 0;
            ck_assert_int_eq(tc_message_unpack(&said, TC_MSG_PLAN, action.body->bytes, action.body->size, NULL), 0);
            court->epoch = said.plan.epoch;
        }
        tc_blob_unref(action.body);
    }
    tc_blob_unref(body);
}

static struct tc_message progress(const struct court *court)
{
    struct tc_message message = {.type = TC_MSG_PROGRESS};
    message.progress.epoch = court->epoch;
    message.progress.state = TC_AGENT_FILLING;
    return message;
}

/* HOSTS hosts, the liar first, with an array of so many chunks, filled by a double tree. */
static void convened(uint32_t length, struct court *court)
{
    static const char *const names[HOSTS] = {"liar:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "h:1"};
    struct tc_coordinator_config config = {.name = "A",
                                           .array = "null",
                                           .hosts = names,
                                           .host_count = HOSTS,
                                           .signer = signer,
                                           .min_hosts = 1,
                                           .digest_depth = 4,
                                           .tree.kind = TC_TREE_DOUBLE,
                                           .random = no_random};
    ck_assert_int_eq(tc_layout_init(&config.layout, (uint64_t)length << 16, 1 << 16, NULL), 0);
    memcpy(config.session, session, sizeof session);
    court->coordinator = tc_coordinator_new(&config, court->now, NULL);
    ck_assert_ptr_nonnull(court->coordinator);
    for (uint32_t host = 0; host < HOSTS; host++) {
        struct tc_message message = hello(TC_ROLE_AGENT);
        message.hello.instance[0] = (uint8_t)(host + 1);
        hear(court, host, &message);
        hear(court, host, &(struct tc_message){.type = TC_MSG_READY});
    }
    ck_assert_uint_eq(court->plans, HOSTS);
    court->plans = court->to_honest = 0;
}

START_TEST(complaints)
{
    struct court court = {.now = 1000};
    unsigned honest_early = 0;
    convened(2000, &court);
    for (unsigned i = 0; i < COMPLAINTS; i++, court.now += 10) {
        struct tc_message message = {.type = TC_MSG_COMPLAIN};
        message.complaint.epoch = number(3) ? court.epoch : number(20);
        message.complaint.tree = (uint8_t)number(2);
        message.complaint.rank = number(HOSTS + 1);
        message.complaint.reason = (uint16_t)(number(2) ? TC_E_INTEGRITY : number(40));
        if (tc_coordinator_host(court.coordinator, 0)->phase != TC_PHASE_ENDED)
            hear(&court, 0, &message);
        struct tc_message alive = progress(&court);
        for (uint32_t host = 0; host < HOSTS && i % 20 == 0; host++)
            if (tc_coordinator_host(court.coordinator, host)->phase != TC_PHASE_ENDED)
                hear(&court, host, &alive);
        hear(&court, 0, NULL);
        if (i == COMPLAINTS / 4)
            honest_early = court.to_honest;
    }
    printf("# %d false complaints: %u rows told, %u of them to %d honest hosts (%u after a quarter of the time)\n",
           COMPLAINTS, court.plans, court.to_honest, HOSTS - 1, honest_early);
    for (uint32_t host = 1; host < HOSTS; host++)
        ck_assert_int_eq(tc_coordinator_host(court.coordinator, host)->end, TC_END_NONE);
    ck_assert_uint_le(court.to_honest, 4 * HOSTS);
    tc_coordinator_free(court.coordinator);
}
END_TEST

/* --- a liar reports: that it starves, is held up, holds all or nothing, is slow for a cause, in every epoch --- */

enum { REPORTS = 4000, REPORT_MS = 125, STEP = 4 };

static struct tc_message false_progress(const struct court *court)
{
    struct tc_message message = progress(court);
    struct tc_msg_progress *lie = &message.progress;
    lie->epoch = number(8) ? court->epoch : number(20);
    lie->state = (uint8_t)(number(8) ? TC_AGENT_FILLING : number(8));
    lie->cause = (uint8_t)number(TC_CAUSE_CPU + 1);
    lie->trees = (uint8_t)(number(8) ? 2 : number(TC_TREES_MAX + 1));
    lie->chunks = number(4000);
    lie->bytes = (uint64_t)number(UINT32_MAX) << number(20);
    lie->sent = (uint64_t)number(UINT32_MAX) << number(20);
    lie->adopted = number(UINT32_MAX);
    lie->compared = number(UINT32_MAX);
    for (unsigned t = 0; t < lie->trees; t++) {
        lie->tree[t].held = number(3) ? number(2000) : number(2) * UINT32_MAX;
        lie->tree[t].received = (uint64_t)number(UINT32_MAX) << number(20);
        lie->tree[t].sent = (uint64_t)number(UINT32_MAX) << number(20);
        lie->tree[t].waiting = number(2) ? number(100000) : 0;
    }
    return message;
}

/* Honest hosts run at one speed. */
static struct tc_message true_progress(const struct court *court, unsigned held)
{
    struct tc_message message = progress(court);
    struct tc_msg_progress *word = &message.progress;
    word->trees = 2;
    for (unsigned t = 0; t < 2; t++) {
        word->tree[t].held = held;
        word->tree[t].received = (uint64_t)held << 16;
        word->tree[t].sent = (uint64_t)held << 16;
    }
    word->chunks = 2 * held;
    word->bytes = (uint64_t)word->chunks << 16;
    return message;
}

enum lie { AT_RANDOM, STARVES, HOLDS, LIES };

static struct tc_message lie_about(enum lie kind, const struct court *court, unsigned held)
{
    if (kind == AT_RANDOM)
        return false_progress(court);
    struct tc_message message = true_progress(court, kind == HOLDS ? 10 * held : 0);
    message.progress.cause = (uint8_t)number(TC_CAUSE_CPU + 1);
    for (unsigned t = 0; t < 2 && kind == STARVES; t++)
        message.progress.tree[t].waiting = 100000;
    return message;
}

static void report_falsely(enum lie kind)
{
    static const char *const claims[LIES] = {"at random", "that it starves",
                                             "that it has far more than its children get"};
    struct court court = {.now = 1000};
    unsigned honest_early = 0, unfit = 0;
    convened(2 * STEP * (REPORTS + 1), &court);
    for (unsigned i = 1; i <= REPORTS; i++, court.now += REPORT_MS) {
        struct tc_message lie = lie_about(kind, &court, STEP * i), word = true_progress(&court, STEP * i);
        if (tc_coordinator_host(court.coordinator, 0)->phase != TC_PHASE_ENDED)
            hear(&court, 0, &lie);
        for (uint32_t host = 1; host < HOSTS; host++) {
            word.progress.epoch = court.epoch;
            hear(&court, host, &word);
        }
        hear(&court, 0, NULL);
        if (i == REPORTS / 4)
            honest_early = court.to_honest;
    }
    for (uint32_t host = 1; host < HOSTS; host++) {
        unfit += tc_coordinator_host(court.coordinator, host)->unfit;
        ck_assert_int_eq(tc_coordinator_host(court.coordinator, host)->end, TC_END_NONE);
    }
    printf("# %d false reports, %s: %u rows told, %u of them to %d honest hosts (%u after a quarter of the time), "
           "%u of these demoted\n",
           REPORTS, claims[kind], court.plans, court.to_honest, HOSTS - 1, honest_early, unfit);
    ck_assert(kind == AT_RANDOM || court.plans > 0); /* it is heard, or this test could not fail */
    ck_assert_uint_le(unfit, 1);
    ck_assert_uint_le(court.to_honest, 4 * HOSTS);
    tc_coordinator_free(court.coordinator);
}

START_TEST(reports)
{
    for (enum lie kind = AT_RANDOM; kind < LIES; kind++)
        report_falsely(kind);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("members");
    TCase *tcase = tcase_create("100,000 lies");
    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, make_keys, free_keys);
    tcase_add_test(tcase, offers_and_plans);
    tcase_add_test(tcase, passed_on);
    tcase_add_test(tcase, pages);
    tcase_add_test(tcase, chunks);
    tcase_add_test(tcase, words);
    tcase_add_test(tcase, complaints);
    tcase_add_test(tcase, reports);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
