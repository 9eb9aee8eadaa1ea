/* Each machine alone: every message in every state, and what a single message can get wrong. */
#include <stdio.h>
#include <string.h>

#include "session/agent.h"
#include "session/coordinator.h"
#include "unit.h"

enum { CONTROL = TC_LINK_ACCEPTED, PARENT, CHILD, HELD, OUTSIDER, TYPES = 40 };

static const uint8_t session[TC_SESSION_ID_SIZE] = "the session", nonce[TC_NONCE_SIZE] = "the nonce";
static const uint8_t parent_id[TC_LINK_ID_SIZE] = "to the parent", child_id[TC_LINK_ID_SIZE] = "to the child",
                     other_id[TC_LINK_ID_SIZE] = "to nobody";

struct rig {
    struct tc_agent *agent;
    struct tc_coordinator *coordinator;
    struct tc_signer *signer, *origin;
    struct tc_verifier *trusted;
    uint8_t public_key[TC_PUBLIC_SIZE];
    struct tc_page page;
    uint64_t now;
    /* Since the last event: */
    unsigned sent[256], closed, dialled, opened, served, compared, allocated, published;
    uint64_t wanted, wanted_next; /* wanted_next: of page 1, from PARENT */
    uint32_t waited;              /* ms, as PROGRESS says of tree 0 */
    uint32_t last_closed;
    /* Ever: */
    bool ended;
    struct tc_err why;
};

/* --- driving --- */

static void drain(struct rig *rig)
{
    struct tc_action action;
    memset(rig->sent, 0, sizeof rig->sent);
    rig->closed = rig->dialled = rig->opened = rig->served = rig->compared = rig->allocated = rig->published = 0;
    rig->wanted = rig->wanted_next = 0;
    while (rig->agent ? tc_agent_take(rig->agent, &action) : tc_coordinator_take(rig->coordinator, &action)) {
        ck_assert(!rig->ended);
        rig->sent[action.type] += action.kind == TC_ACT_SEND;
        rig->dialled += action.kind == TC_ACT_DIAL;
        rig->opened += action.kind == TC_ACT_OPEN;
        rig->served += action.kind == TC_ACT_SERVE;
        rig->compared += action.kind == TC_ACT_COMPARE;
        rig->allocated += action.kind == TC_ACT_ALLOCATE;
        rig->published += action.kind == TC_ACT_PUBLISH;
        struct tc_message message;
        if (action.kind == TC_ACT_SEND && action.type == TC_MSG_WANT &&
            tc_message_unpack(&message, action.type, action.body->bytes, action.body->size, NULL) == 0)
            *(message.want.page == 1 && action.link == PARENT ? &rig->wanted_next : &rig->wanted) |=
                message.want.chunks;
        if (action.kind == TC_ACT_SEND && action.type == TC_MSG_PROGRESS &&
            tc_message_unpack(&message, action.type, action.body->bytes, action.body->size, NULL) == 0)
            rig->waited = message.progress.tree[0].waiting;
        if (action.kind == TC_ACT_CLOSE) {
            rig->closed++;
            rig->last_closed = action.link;
        }
        if (action.kind == TC_ACT_END) {
            rig->ended = true;
            rig->why = action.err;
        }
        tc_blob_unref(action.body);
    }
}

static void tell(struct rig *rig, const struct tc_event *event)
{
    if (rig->agent)
        tc_agent_event(rig->agent, event, rig->now);
    else
        tc_coordinator_event(rig->coordinator, event, rig->now);
    drain(rig);
}

static void frame(struct rig *rig, uint32_t link, const struct tc_message *message, struct tc_signer *signer)
{
    struct tc_blob *body = tc_message_pack(message, signer, NULL);
    ck_assert_ptr_nonnull(body);
    tell(rig, &(struct tc_event){.kind = TC_EV_FRAME, .link = link, .type = message->type, .body = body});
    tc_blob_unref(body);
}

static void garbage(struct rig *rig, uint32_t link, uint8_t type, size_t size)
{
    struct tc_blob *body = tc_blob_new(NULL, size);
    memset(body->bytes, 0xff, size);
    tell(rig, &(struct tc_event){.kind = TC_EV_FRAME, .link = link, .type = type, .body = body});
    tc_blob_unref(body);
}

static void tick(struct rig *rig, uint64_t ms)
{
    rig->now += ms;
    tell(rig, &(struct tc_event){.kind = TC_EV_TICK});
}

/* So long with all the ticks that a machine which runs has in it. */
static void pass(struct rig *rig, uint64_t ms)
{
    for (; ms > 100; ms -= 100)
        tick(rig, 100);
    tick(rig, ms);
}

static struct tc_message hello(enum tc_role role, const uint8_t *id)
{
    struct tc_message message = {.type = TC_MSG_HELLO};
    message.hello.version_min = message.hello.version_max = TC_WIRE_VERSION;
    message.hello.role = role;
    memcpy(message.hello.nonce, nonce, sizeof nonce);
    memcpy(message.hello.session, session, sizeof session);
    if (id)
        memcpy(message.hello.link, id, TC_LINK_ID_SIZE);
    return message;
}

static struct tc_message offer(const struct rig *rig)
{
    struct tc_message message = {.type = TC_MSG_OFFER};
    message.offer = (struct tc_msg_offer){.name = "A",
                                          .size = 2 << 16,
                                          .chunk_size = 1 << 16,
                                          .array = "null",
                                          .array_size = 4,
                                          .digest = TC_DIGEST_NAME,
                                          .codec = TC_CODEC_NAME};
    memcpy(message.offer.session, session, sizeof session);
    memcpy(message.offer.nonce, nonce, sizeof nonce);
    memcpy(message.offer.public_key, rig->public_key, TC_PUBLIC_SIZE);
    return message;
}

static struct tc_message plan(uint32_t epoch)
{
    static struct tc_msg_link child = {.rank = 2};
    struct tc_message message = {.type = TC_MSG_PLAN};
    memcpy(child.id, child_id, sizeof child_id);
    message.plan = (struct tc_msg_plan){.epoch = epoch, .rank = 1, .trees = 1};
    memcpy(message.plan.session, session, sizeof session);
    memcpy(message.plan.nonce, nonce, sizeof nonce);
    memcpy(message.plan.rows[0].parent.id, parent_id, sizeof parent_id);
    message.plan.rows[0].child_count = 1;
    message.plan.rows[0].children = (const uint8_t *)&child;
    return message;
}

/* A well-formed message of each type that may even be right in some state. */
static bool message_of(const struct rig *rig, uint8_t type, const uint8_t *id, struct tc_message *message)
{
    *message = (struct tc_message){.type = type};
    switch (type) {
    case TC_MSG_HELLO:
        *message = hello(rig->coordinator ? TC_ROLE_AGENT : id ? TC_ROLE_CHILD : TC_ROLE_COORDINATOR, id);
        return true;
    case TC_MSG_OFFER:
        *message = offer(rig);
        return true;
    case TC_MSG_PLAN:
        *message = plan(7);
        return true;
    case TC_MSG_PAGE:
        message->page = rig->page;
        return true;
    case TC_MSG_WANT:
    case TC_MSG_CANCEL:
        message->want.chunks = 3;
        return true;
    default:
        return tc_message_limit(type) != 0 && type != TC_MSG_CHUNK;
    }
}

static void send_chunk(struct rig *rig, uint32_t link, uint32_t chunk)
{
    struct tc_blob *body = tc_blob_new(NULL, TC_CHUNK_HEAD + 1);
    tc_chunk_head(body->bytes, chunk, 1 << 16, TC_FORM_ZSTD);
    body->bytes[TC_CHUNK_HEAD] = 0;
    tell(rig, &(struct tc_event){.kind = TC_EV_FRAME, .link = link, .type = TC_MSG_CHUNK, .body = body});
    tc_blob_unref(body);
}

/* Type as well as it can be made, on link; what has no form of its own goes as bytes. */
static void any_message(struct rig *rig, uint32_t link, uint8_t type, const uint8_t *id)
{
    struct tc_message message;
    if (type == TC_MSG_CHUNK)
        send_chunk(rig, link, 0);
    else if (message_of(rig, type, id, &message))
        frame(rig, link, &message, NULL);
    else
        garbage(rig, link, type, 4);
}

/* --- an agent in each state --- */

static struct rig make_agent(bool with_origin)
{
    static const uint8_t secret[TC_SECRET_SIZE] = {1}, origin_secret[TC_SECRET_SIZE] = {2};
    uint8_t origin_key[TC_PUBLIC_SIZE];
    struct rig rig = {.now = 1000};
    rig.signer = tc_signer_new(secret, rig.public_key, NULL);
    rig.origin = tc_signer_new(origin_secret, origin_key, NULL);
    rig.trusted = tc_verifier_new(origin_key, NULL);
    rig.page = (struct tc_page){.count = 2, .last = true};
    memset(rig.page.content.bytes, 9, TC_DIGEST_SIZE);
    ck_assert_int_eq(tc_page_sign(&rig.page, session, rig.signer, NULL), 0);
    struct tc_agent_config config = {.origin = with_origin ? rig.trusted : NULL, .max_size = 1 << 24};
    memcpy(config.nonce, nonce, sizeof nonce);
    rig.agent = tc_agent_new(&config, CONTROL, rig.now, NULL);
    drain(&rig);
    ck_assert_uint_eq(rig.sent[TC_MSG_HELLO], 1);
    return rig;
}

static void free_rig(struct rig *rig)
{
    tc_agent_free(rig->agent);
    tc_coordinator_free(rig->coordinator);
    tc_signer_free(rig->signer);
    tc_signer_free(rig->origin);
    tc_verifier_free(rig->trusted);
}

static void compared(struct rig *rig, uint32_t chunk, bool found)
{
    tell(rig, &(struct tc_event){.kind = TC_EV_COMPARED, .chunk = chunk, .flags = found});
}

static void fill(struct rig *rig, bool unchanged)
{
    struct tc_message page = {.type = TC_MSG_PAGE, .page = rig->page};
    frame(rig, PARENT, &page, NULL);
    ck_assert_uint_eq(rig->sent[TC_MSG_WANT], !unchanged);
    if (unchanged) {
        ck_assert_uint_eq(rig->compared, 2);
        compared(rig, 0, true);
        ck_assert_uint_eq(rig->sent[TC_MSG_WANT], 0);
        compared(rig, 1, true);
        ck_assert(rig->sent[TC_MSG_WANT] == 1 && rig->wanted == 0 && rig->published == 1);
        return;
    }
    for (uint32_t chunk = 0; chunk < 2; chunk++) {
        send_chunk(rig, PARENT, chunk);
        ck_assert_uint_eq(rig->opened, 1);
        tell(rig, &(struct tc_event){.kind = TC_EV_OPENED, .link = PARENT, .chunk = chunk});
    }
}

static void connect_links(struct rig *rig)
{
    struct tc_message message = plan(1);
    frame(rig, CONTROL, &message, rig->origin);
    message = hello(TC_ROLE_PARENT, parent_id);
    frame(rig, PARENT, &message, NULL);
    ck_assert_uint_eq(rig->sent[TC_MSG_HELLO], 1);
    message = hello(TC_ROLE_CHILD, child_id);
    frame(rig, CHILD, &message, NULL);
    ck_assert_uint_eq(rig->sent[TC_MSG_HELLO], 1);
    message = hello(TC_ROLE_CHILD, other_id);
    frame(rig, HELD, &message, NULL);
    ck_assert_uint_eq(rig->closed, 0);
}

static struct rig agent_in(enum tc_agent_state state)
{
    struct rig rig = make_agent(false);
    struct tc_message message = hello(TC_ROLE_COORDINATOR, NULL);
    frame(&rig, CONTROL, &message, NULL);
    message = offer(&rig);
    if (state >= TC_AGENT_OFFERED)
        frame(&rig, CONTROL, &message, NULL);
    bool unchanged = state == TC_AGENT_UNCHANGED;
    uint32_t flags = unchanged ? TC_PREPARED_EXISTS | TC_PREPARED_COMPARE | TC_PREPARED_LATER : 0;
    if (state >= TC_AGENT_PREPARED)
        tell(&rig, &(struct tc_event){.kind = TC_EV_PREPARED, .flags = flags});
    if (state >= TC_AGENT_FILLING)
        connect_links(&rig);
    if (state >= TC_AGENT_WHOLE)
        fill(&rig, unchanged);
    if (state >= TC_AGENT_PUBLISHED)
        tell(&rig, &(struct tc_event){.kind = TC_EV_PUBLISHED});
    if (state == TC_AGENT_ENDED)
        frame(&rig, CONTROL, &(struct tc_message){.type = TC_MSG_BYE}, NULL);
    ck_assert_int_eq(tc_agent_state(rig.agent), state);
    return rig;
}

static const enum tc_agent_state states[] = {TC_AGENT_NEW,   TC_AGENT_OFFERED,   TC_AGENT_PREPARED,  TC_AGENT_FILLING,
                                             TC_AGENT_WHOLE, TC_AGENT_PUBLISHED, TC_AGENT_UNCHANGED, TC_AGENT_ENDED};
enum { STATES = sizeof states / sizeof states[0] };

enum verdict { REFUSED, GOES_ON, ENDS_WELL, ENDS_ILL };

static bool has_published(enum tc_agent_state state)
{
    return state == TC_AGENT_PUBLISHED || state == TC_AGENT_UNCHANGED;
}

static enum verdict control_verdict(enum tc_agent_state state, uint8_t type)
{
    if (type == TC_MSG_OFFER && state == TC_AGENT_NEW)
        return GOES_ON;
    if (type == TC_MSG_PLAN && state >= TC_AGENT_PREPARED)
        return GOES_ON;
    if (type == TC_MSG_ABORT)
        return has_published(state) ? ENDS_WELL : ENDS_ILL;
    if (type == TC_MSG_BYE && (state == TC_AGENT_PREPARED || has_published(state)))
        return ENDS_WELL;
    return REFUSED;
}

/* An agent that publishes comes to an end when that is through; it has the file then. */
static bool ends_when_published(struct rig *rig, enum tc_agent_state state)
{
    if (state != TC_AGENT_WHOLE)
        return false;
    ck_assert(!rig->ended && rig->sent[TC_MSG_FAILED] == 0);
    tell(rig, &(struct tc_event){.kind = TC_EV_PUBLISHED});
    ck_assert(rig->ended && rig->why.reason == 0 && rig->sent[TC_MSG_DONE] == 1);
    return true;
}

static void check_control(struct rig *rig, enum tc_agent_state state, uint8_t type, enum verdict verdict)
{
    bool published = has_published(state);
    if (verdict != GOES_ON && ends_when_published(rig, state))
        return;
    ck_assert_msg(rig->ended == (verdict != GOES_ON), "%s in state %s", tc_message_name(type),
                  tc_agent_state_name(state));
    if (verdict == GOES_ON)
        return;
    ck_assert_int_eq(rig->why.reason != 0, verdict == ENDS_ILL || (verdict == REFUSED && !published));
    ck_assert_uint_eq(rig->sent[TC_MSG_REFUSE], verdict == REFUSED && state < TC_AGENT_PREPARED);
    bool answers =
        verdict == ENDS_ILL && state == TC_AGENT_FILLING; /* ABORT: the coordinator waits for its last word */
    ck_assert_uint_eq(rig->sent[TC_MSG_FAILED],
                      answers || (verdict == REFUSED && state >= TC_AGENT_PREPARED && !published));
    ck_assert_uint_eq(tc_agent_wake(rig->agent), UINT64_MAX);
}

/* FILLING, with flags from what was found here. */
static struct rig agent_with(uint32_t offered, uint32_t found)
{
    struct rig rig = make_agent(false);
    struct tc_message message = hello(TC_ROLE_COORDINATOR, NULL);
    frame(&rig, CONTROL, &message, NULL);
    message = offer(&rig);
    message.offer.flags = offered;
    frame(&rig, CONTROL, &message, NULL);
    tell(&rig, &(struct tc_event){.kind = TC_EV_PREPARED, .flags = found});
    connect_links(&rig);
    message = (struct tc_message){.type = TC_MSG_PAGE, .page = rig.page};
    frame(&rig, PARENT, &message, NULL);
    ck_assert(rig.compared == 2 && rig.sent[TC_MSG_WANT] == 0);
    return rig;
}

/* Others had wrong bytes from it: it reads its own file back before it publishes. */
static struct rig doubted(void)
{
    struct rig rig = agent_in(TC_AGENT_FILLING);
    struct tc_message row = plan(2);
    row.plan.rows[0].parent.flags = TC_LINK_DOUBTED;
    frame(&rig, CONTROL, &row, NULL);
    fill(&rig, false);
    return rig;
}

static void bring_again(struct rig *rig, uint32_t chunk)
{
    send_chunk(rig, PARENT, chunk);
    ck_assert_uint_eq(rig->opened, 1);
    tell(rig, &(struct tc_event){.kind = TC_EV_OPENED, .link = PARENT, .chunk = chunk});
}

START_TEST(a_doubted_agent_reads_its_file_back)
{
    struct rig rig = doubted();
    ck_assert(rig.compared == 2 && rig.published == 0 && tc_agent_bytes(rig.agent) == 2 << 16);
    compared(&rig, 1, false);
    ck_assert(rig.published == 0 && tc_agent_bytes(rig.agent) == 1 << 16 && !tc_agent_has(rig.agent, 1));
    compared(&rig, 0, true);
    ck_assert(rig.published == 0 && rig.sent[TC_MSG_WANT] == 1 && rig.wanted == 2);
    bring_again(&rig, 1);
    ck_assert(rig.compared == 2 && rig.published == 0);
    compared(&rig, 0, true);
    compared(&rig, 1, true);
    ck_assert(rig.published == 1 && rig.compared == 0);
    tell(&rig, &(struct tc_event){.kind = TC_EV_PUBLISHED});
    ck_assert_int_eq(tc_agent_state(rig.agent), TC_AGENT_PUBLISHED);
    free_rig(&rig);
}
END_TEST

START_TEST(a_file_that_stays_wrong_is_not_published)
{
    struct rig rig = doubted();
    for (unsigned round = 0; round < 3; round++) {
        ck_assert(!rig.ended && rig.compared == 2);
        compared(&rig, 0, true);
        compared(&rig, 1, false);
        bring_again(&rig, 1);
    }
    ck_assert(rig.ended && rig.why.reason == TC_E_INTEGRITY && rig.sent[TC_MSG_FAILED] == 1 && rig.published == 0);
    free_rig(&rig);
}
END_TEST

START_TEST(what_is_here_is_not_wanted)
{
    struct rig rig = agent_with(0, TC_PREPARED_COMPARE);
    compared(&rig, 1, true);
    ck_assert_uint_eq(rig.sent[TC_MSG_WANT], 0); /* chunk 0 is not known yet */
    compared(&rig, 0, false);
    ck_assert(rig.sent[TC_MSG_WANT] == 1 && rig.wanted == 1 && !rig.allocated);
    ck_assert(tc_agent_has(rig.agent, 1) && tc_agent_adopted(rig.agent) == 1 << 16);
    send_chunk(&rig, PARENT, 0);
    tell(&rig, &(struct tc_event){.kind = TC_EV_OPENED, .link = PARENT, .chunk = 0});
    ck_assert(rig.published == 1 && tc_agent_adopted(rig.agent) == 1 << 16);
    tell(&rig, &(struct tc_event){.kind = TC_EV_PUBLISHED});
    ck_assert_int_eq(tc_agent_state(rig.agent), TC_AGENT_PUBLISHED);
    free_rig(&rig);
}
END_TEST

/* Looking for chunks here may take long; it is not the parent that is slow. */
START_TEST(comparing_is_not_waiting)
{
    struct rig rig = agent_with(0, TC_PREPARED_COMPARE);
    tick(&rig, 30000);
    ck_assert(rig.sent[TC_MSG_PROGRESS] == 1 && rig.waited == 0);
    compared(&rig, 0, false);
    compared(&rig, 1, false);
    tick(&rig, 300);
    ck_assert(rig.sent[TC_MSG_PROGRESS] == 1 && rig.waited == 300);
    free_rig(&rig);
}
END_TEST

static void send_page(struct rig *rig, uint32_t link, uint32_t index)
{
    struct tc_message message = {.type = TC_MSG_PAGE, .page = {.index = index, .count = 64}};
    ck_assert_int_eq(tc_page_sign(&message.page, session, rig->signer, NULL), 0);
    frame(rig, link, &message, NULL);
}

/* FILLING below two parents that dialled: PARENT of tree 0, HELD of tree 1. */
static struct rig agent_in_two_trees(uint64_t size)
{
    struct rig rig = make_agent(false);
    struct tc_message message = hello(TC_ROLE_COORDINATOR, NULL);
    frame(&rig, CONTROL, &message, NULL);
    message = offer(&rig);
    message.offer.size = size;
    frame(&rig, CONTROL, &message, rig.signer);
    tell(&rig, &(struct tc_event){.kind = TC_EV_PREPARED});
    message = plan(1);
    message.plan.trees = 2;
    memcpy(message.plan.rows[1].parent.id, other_id, sizeof other_id);
    frame(&rig, CONTROL, &message, rig.signer);
    message = hello(TC_ROLE_PARENT, parent_id);
    frame(&rig, PARENT, &message, NULL);
    message = hello(TC_ROLE_PARENT, other_id);
    frame(&rig, HELD, &message, NULL);
    return rig;
}

/* A parent that is asked for help before it has pushed the page will not push it any more: it is asked for its own
 * chunks of the page then. */
START_TEST(help_does_not_make_a_parent_forget_its_own_chunks)
{
    struct rig rig = agent_in_two_trees(192u << 16);
    send_page(&rig, PARENT, 0);
    send_page(&rig, HELD, 0);
    send_page(&rig, HELD, 1);
    ck_assert_uint_eq(rig.wanted, 0xaaaaaaaaaaaaaaaau);
    for (uint32_t chunk = 1; chunk < 64; chunk += 2)
        send_chunk(&rig, HELD, chunk);
    for (uint32_t chunk = 0; chunk < 12; chunk += 2) { /* tree 0 runs, tree 1 brings nothing */
        ck_assert_uint_eq(rig.wanted_next, 0);
        send_chunk(&rig, PARENT, chunk);
        tick(&rig, 250);
        if (rig.wanted_next)
            break;
    }
    ck_assert_uint_ne(rig.wanted_next & 0xaaaaaaaaaaaaaaaau, 0);
    ck_assert_uint_eq(rig.wanted_next & 0x5555555555555555u, 0x5555555555555555u);
    free_rig(&rig);
}
END_TEST

/* A coordinator that stands still ends nothing, and its agents do not wait for it for ever. */
START_TEST(an_agent_ends_by_itself_when_its_coordinator_stands_still)
{
    struct rig rig = make_agent(false);
    struct tc_message message = hello(TC_ROLE_COORDINATOR, NULL);
    frame(&rig, CONTROL, &message, NULL);
    message = offer(&rig);
    message.offer.seconds_left = 3;
    frame(&rig, CONTROL, &message, rig.signer);
    tell(&rig, &(struct tc_event){.kind = TC_EV_PREPARED});
    tick(&rig, 3900); /* it has a second to say so itself */
    ck_assert(!rig.ended && tc_agent_wake(rig.agent) <= rig.now + 100);
    tick(&rig, 100);
    ck_assert(rig.ended && rig.why.reason == TC_E_DEADLINE);
    free_rig(&rig);

    static const struct {
        enum tc_agent_state state;
        uint64_t limit;
        unsigned failed;
    } limits[] = {{TC_AGENT_NEW, TC_MS_ANSWER, 0},
                  {TC_AGENT_PREPARED, TC_MS_PLAN + TC_MS_ANSWER + 1, 1},
                  {TC_AGENT_FILLING, TC_MS_STALL + TC_MS_DESERTED + 4000, 1},
                  {TC_AGENT_PUBLISHED, TC_MS_SERVE + 8000, 0},
                  {TC_AGENT_UNCHANGED, TC_MS_SERVE + 8000, 0}};
    for (unsigned i = 0; i < sizeof limits / sizeof limits[0]; i++) { /* without a deadline */
        rig = agent_in(limits[i].state);
        bool published = has_published(limits[i].state);
        tick(&rig, limits[i].limit - 1);
        ck_assert_msg(!rig.ended, "%s ends early", tc_agent_state_name(limits[i].state));
        ck_assert_uint_le(tc_agent_wake(rig.agent), rig.now + 1);
        tick(&rig, 1);
        ck_assert_msg(rig.ended, "%s does not end", tc_agent_state_name(limits[i].state));
        ck_assert_int_eq(rig.why.reason, published ? TC_OK : TC_E_TIMEOUT);
        ck_assert(rig.why.text[0] && rig.sent[TC_MSG_FAILED] == limits[i].failed);
        free_rig(&rig);
    }
}
END_TEST

/* What its sender, parents and children say without bringing anything new keeps no agent. */
START_TEST(an_agent_lives_on_new_bytes_alone)
{
    struct tc_message again = plan(1), page = {.type = TC_MSG_PAGE};
    for (unsigned what = 0; what < 3; what++) {
        struct rig rig = agent_in(TC_AGENT_FILLING);
        page.page = rig.page;
        frame(&rig, PARENT, &page, NULL);
        for (uint32_t i = 2; i < 500 && !rig.ended; i++) {
            again = plan(i);
            if (what == 0)
                frame(&rig, CONTROL, &again, NULL);
            else if (what == 1)
                frame(&rig, PARENT, &page, NULL);
            else
                frame(&rig, CHILD, &(struct tc_message){.type = TC_MSG_WANT, .want = {0, 0}}, NULL);
            ck_assert(!rig.ended);
            tick(&rig, 1000);
        }
        ck_assert_msg(rig.ended && rig.why.reason == TC_E_TIMEOUT, "%u: %s", what, rig.why.text);
        ck_assert_uint_le(rig.now, 1000 + tc_limit_still(1 << 16) + TC_MS_DESERTED + 1000);
        free_rig(&rig);
    }
}
END_TEST

START_TEST(another_file_is_not_replaced_without_force)
{
    struct rig rig = agent_with(0, TC_PREPARED_EXISTS | TC_PREPARED_COMPARE | TC_PREPARED_LATER);
    compared(&rig, 0, false);
    ck_assert(rig.ended && rig.why.reason == TC_E_EXISTS && rig.sent[TC_MSG_FAILED] == 1 && !rig.allocated);
    compared(&rig, 1, true);
    free_rig(&rig);
}
END_TEST

START_TEST(a_file_is_reserved_at_the_first_difference)
{
    struct rig rig = agent_with(TC_OFFER_FORCE, TC_PREPARED_EXISTS | TC_PREPARED_COMPARE | TC_PREPARED_LATER);
    compared(&rig, 0, false);
    ck_assert(!rig.allocated && !rig.ended); /* the other comparison is under way */
    compared(&rig, 1, true);
    ck_assert(rig.allocated == 1 && rig.sent[TC_MSG_WANT] == 0 && tc_agent_has(rig.agent, 1));
    tell(&rig, &(struct tc_event){.kind = TC_EV_ALLOCATED});
    ck_assert(rig.compared == 2 && rig.sent[TC_MSG_WANT] == 0);
    compared(&rig, 0, false);
    compared(&rig, 1, _i == 0);
    ck_assert(rig.sent[TC_MSG_WANT] == 1 && rig.wanted == (_i == 0 ? 1 : 3)); /* once it was changed under our hands */
    ck_assert(tc_agent_has(rig.agent, 1) == (_i == 0) && tc_agent_adopted(rig.agent) == (_i == 0 ? 1 << 16 : 0));
    for (uint32_t chunk = 0; chunk < 2 - (unsigned)(_i == 0); chunk++) {
        send_chunk(&rig, PARENT, chunk);
        tell(&rig, &(struct tc_event){.kind = TC_EV_OPENED, .link = PARENT, .chunk = chunk});
    }
    ck_assert_uint_eq(rig.published, 1);
    free_rig(&rig);
}
END_TEST

START_TEST(no_room_for_the_difference_fails)
{
    struct tc_err full = {.reason = TC_E_NOSPACE, .text = "no space"};
    struct rig rig = agent_with(TC_OFFER_FORCE, TC_PREPARED_EXISTS | TC_PREPARED_COMPARE | TC_PREPARED_LATER);
    compared(&rig, 1, false);
    compared(&rig, 0, false);
    tell(&rig, &(struct tc_event){.kind = TC_EV_ALLOCATED, .err = &full});
    ck_assert(rig.ended && rig.why.reason == TC_E_NOSPACE && rig.sent[TC_MSG_FAILED] == 1);
    free_rig(&rig);
    rig = agent_with(0, TC_PREPARED_COMPARE);
    tell(&rig, &(struct tc_event){.kind = TC_EV_COMPARED, .chunk = 0, .err = &full});
    ck_assert(rig.ended && rig.why.reason == TC_E_NOSPACE);
    free_rig(&rig);
}
END_TEST

START_TEST(an_agent_takes_control_messages_in_their_state_only)
{
    enum tc_agent_state state = states[_i];
    for (unsigned type = 0; type < TYPES; type++) {
        struct rig rig = agent_in(state);
        any_message(&rig, CONTROL, (uint8_t)type, NULL);
        if (state != TC_AGENT_ENDED)
            check_control(&rig, state, (uint8_t)type, control_verdict(state, (uint8_t)type));
        free_rig(&rig);
        rig = agent_in(state);
        garbage(&rig, CONTROL, (uint8_t)type, 77);
        ck_assert(rig.ended || ends_when_published(&rig, state));
        free_rig(&rig);
    }
}
END_TEST

static bool data_allowed(uint32_t link, uint8_t type)
{
    if (link == PARENT)
        return type == TC_MSG_PAGE || type == TC_MSG_CHUNK;
    if (link == CHILD)
        return type == TC_MSG_WANT || type == TC_MSG_CANCEL;
    return link == OUTSIDER && type == TC_MSG_HELLO;
}

START_TEST(an_agent_closes_a_data_link_for_a_wrong_message_and_lives)
{
    enum tc_agent_state state = states[_i];
    for (unsigned type = 0; type < TYPES; type++)
        for (uint32_t link = PARENT; link <= OUTSIDER; link++) {
            struct rig rig = agent_in(state);
            bool known = state >= TC_AGENT_FILLING;
            any_message(&rig, link, (uint8_t)type, other_id);
            if (state >= TC_AGENT_OFFERED && state <= TC_AGENT_UNCHANGED)
                ck_assert_msg(rig.closed == !data_allowed(known ? link : OUTSIDER, (uint8_t)type),
                              "%s on link %u in state %s", tc_message_name((uint8_t)type), link - CONTROL,
                              tc_agent_state_name(state));
            ck_assert(!rig.closed || rig.last_closed == link);
            ck_assert_int_eq(tc_agent_state(rig.agent), state);
            if (rig.closed && known) {
                tick(&rig, TC_MS_HOLD);
                ck_assert(rig.closed == (link != HELD)); /* closed once only */
            }
            free_rig(&rig);
            rig = agent_in(state);
            garbage(&rig, link, (uint8_t)type, 77);
            ck_assert_int_eq(tc_agent_state(rig.agent), state);
            free_rig(&rig);
        }
}
END_TEST

/* Results that nobody waits for, and links that never were. */
START_TEST(an_agent_bears_any_event_in_any_state)
{
    struct tc_err err = {.reason = TC_E_IO, .text = "broken"};
    for (int kind = TC_EV_TICK; kind <= TC_EV_STOP; kind++)
        for (uint32_t link = CONTROL; link <= OUTSIDER; link++)
            for (int good = 0; good < 2 && kind != TC_EV_FRAME; good++) {
                struct rig rig = agent_in(states[_i]);
                struct tc_event event = {.kind = (enum tc_event_kind)kind, .link = link};
                event.err = good && kind != TC_EV_STOP ? NULL : &err;
                tell(&rig, &event);
                tell(&rig, &event);
                free_rig(&rig);
            }
}
END_TEST

/* --- what an agent refuses --- */

static struct rig offered(const struct tc_message *message, bool with_origin, bool is_signed)
{
    struct rig rig = make_agent(with_origin);
    struct tc_message greeting = hello(TC_ROLE_COORDINATOR, NULL);
    frame(&rig, CONTROL, &greeting, NULL);
    frame(&rig, CONTROL, message, is_signed ? rig.origin : NULL);
    return rig;
}

static void refuse_offer(const struct tc_message *message, int reason)
{
    struct rig rig = offered(message, false, false);
    ck_assert(rig.ended && rig.sent[TC_MSG_REFUSE] == 1);
    ck_assert_int_eq(rig.why.reason, reason);
    free_rig(&rig);
}

START_TEST(an_offer_is_checked)
{
    struct rig rig = make_agent(false);
    struct tc_message good = offer(&rig), bad = good;
    free_rig(&rig);
    rig = offered(&good, false, false);
    ck_assert(!rig.ended && tc_agent_state(rig.agent) == TC_AGENT_OFFERED);
    free_rig(&rig);
    bad.offer.nonce[0] ^= 1;
    refuse_offer(&bad, TC_E_AUTH);
    bad = good;
    strcpy(bad.offer.name, "../A");
    refuse_offer(&bad, TC_E_NAME);
    bad = good;
    strcpy(bad.offer.codec, "rot13");
    refuse_offer(&bad, TC_E_VERSION);
    bad = good;
    bad.offer.size = (1 << 24) + 1;
    refuse_offer(&bad, TC_E_LIMIT);
    bad = good;
    bad.offer.chunk_size = 100000;
    refuse_offer(&bad, TC_E_USAGE);
    bad = good;
    bad.offer.array = "nul";
    bad.offer.array_size = 3;
    refuse_offer(&bad, TC_E_FORMAT);
}
END_TEST

START_TEST(with_an_origin_both_offer_and_plan_are_signed)
{
    struct rig rig = make_agent(true);
    struct tc_message message = offer(&rig);
    free_rig(&rig);
    rig = offered(&message, true, false);
    ck_assert(rig.ended && rig.why.reason == TC_E_AUTH);
    free_rig(&rig);
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        rig = offered(&message, true, true);
        tell(&rig, &(struct tc_event){.kind = TC_EV_PREPARED});
        struct tc_message row = plan(1);
        frame(&rig, CONTROL, &row, is_signed ? rig.origin : rig.signer);
        ck_assert_int_eq(rig.ended, !is_signed);
        ck_assert_int_eq(rig.why.reason, is_signed ? 0 : TC_E_AUTH);
        free_rig(&rig);
    }
}
END_TEST

/* Without an origin the session's own key signs both, and damage on the way shows. */
static void frame_damaged(struct rig *rig, const struct tc_message *message, size_t at)
{
    struct tc_blob *body = tc_message_pack(message, rig->signer, NULL);
    body->bytes[at] ^= 1;
    tell(rig, &(struct tc_event){.kind = TC_EV_FRAME, .link = CONTROL, .type = message->type, .body = body});
    tc_blob_unref(body);
}

START_TEST(what_was_damaged_on_the_way_is_not_taken)
{
    struct tc_message greeting = hello(TC_ROLE_COORDINATOR, NULL), row = plan(1);
    struct rig rig = make_agent(false);
    struct tc_message message = offer(&rig);
    message.offer.signed_by = row.plan.signed_by = TC_SIGNED_SESSION;
    frame(&rig, CONTROL, &greeting, NULL);
    frame_damaged(&rig, &message, sizeof session + sizeof nonce + 2); /* the name's first letter */
    ck_assert(rig.ended && rig.why.reason == TC_E_INTEGRITY && rig.sent[TC_MSG_REFUSE] == 1);
    free_rig(&rig);
    rig = make_agent(false);
    frame(&rig, CONTROL, &greeting, NULL);
    frame(&rig, CONTROL, &message, rig.signer);
    tell(&rig, &(struct tc_event){.kind = TC_EV_PREPARED});
    ck_assert(!rig.ended && rig.sent[TC_MSG_READY] == 1);
    frame_damaged(&rig, &row, sizeof session + sizeof nonce + 7); /* its rank */
    ck_assert(rig.ended && rig.why.reason == TC_E_INTEGRITY && rig.sent[TC_MSG_FAILED] == 1);
    free_rig(&rig);
}
END_TEST

static void refuse_plan(const struct tc_message *message, int reason)
{
    struct rig rig = agent_in(TC_AGENT_FILLING);
    frame(&rig, CONTROL, message, NULL);
    ck_assert(rig.ended && rig.sent[TC_MSG_FAILED] == 1);
    ck_assert_int_eq(rig.why.reason, reason);
    free_rig(&rig);
}

START_TEST(a_plan_is_checked)
{
    struct tc_message bad = plan(1);
    refuse_plan(&bad, TC_E_PROTOCOL); /* the same epoch again */
    bad = plan(2);
    bad.plan.nonce[0] ^= 1;
    refuse_plan(&bad, TC_E_AUTH);
    bad = plan(2);
    bad.plan.session[0] ^= 1;
    refuse_plan(&bad, TC_E_PROTOCOL);
    bad = plan(2);
    bad.plan.trees = 2;
    refuse_plan(&bad, TC_E_PROTOCOL);
}
END_TEST

START_TEST(a_forged_page_costs_the_parent_its_link)
{
    struct rig rig = agent_in(TC_AGENT_FILLING);
    struct tc_message page = {.type = TC_MSG_PAGE, .page = rig.page};
    page.page.content.bytes[0] ^= 1;
    frame(&rig, PARENT, &page, NULL);
    ck_assert(rig.closed == 1 && rig.last_closed == PARENT && rig.sent[TC_MSG_COMPLAIN] == 1);
    /* A row that was made before the complaint came keeps the parent: it is complained of again. */
    struct tc_message row = plan(2);
    frame(&rig, CONTROL, &row, NULL);
    ck_assert(!rig.ended && rig.sent[TC_MSG_COMPLAIN] == 1);
    free_rig(&rig);
}
END_TEST

START_TEST(early_links_are_held_a_while_and_not_too_many)
{
    struct rig rig = agent_in(TC_AGENT_OFFERED);
    struct tc_message message = hello(TC_ROLE_CHILD, other_id);
    for (uint32_t i = 0; i < 64; i++) {
        frame(&rig, OUTSIDER + i, &message, NULL);
        ck_assert_uint_eq(rig.closed, 0);
    }
    frame(&rig, OUTSIDER + 64, &message, NULL);
    ck_assert(rig.closed == 1 && rig.last_closed == OUTSIDER + 64);
    tick(&rig, TC_MS_HOLD - 1);
    ck_assert_uint_eq(rig.closed, 0);
    tick(&rig, 1);
    ck_assert_uint_eq(rig.closed, 64);
    free_rig(&rig);
}
END_TEST

START_TEST(a_link_that_came_before_its_plan_is_served_after_it)
{
    struct rig rig = agent_in(TC_AGENT_PREPARED);
    uint8_t key[TC_LINK_KEY_SIZE];
    struct tc_message message = hello(TC_ROLE_CHILD, child_id), row = plan(1);
    ck_assert_int_eq(tc_agent_link_key(rig.agent, child_id, key), -1);
    frame(&rig, CHILD, &message, NULL);
    ck_assert_uint_eq(rig.sent[TC_MSG_HELLO], 0);
    frame(&rig, CONTROL, &row, NULL);
    ck_assert_uint_eq(rig.sent[TC_MSG_HELLO], 1);
    ck_assert_int_eq(tc_agent_link_key(rig.agent, child_id, key), 1);
    free_rig(&rig);
}
END_TEST

/* Without descriptors: nobody else is to blame, and another parent would be no better. */
START_TEST(an_agent_that_cannot_be_reached_or_dial_fails)
{
    struct tc_err err = {.reason = TC_E_LIMIT, .text = "too many"};
    struct tc_event deaf = {.kind = TC_EV_DEAF, .err = &err}, down = {.kind = TC_EV_DOWN, .err = &err};
    struct tc_message row = plan(1);
    struct rig rig = agent_in(TC_AGENT_FILLING);
    tell(&rig, &deaf);
    ck_assert(!rig.ended); /* all its links are there */
    free_rig(&rig);
    rig = agent_in(TC_AGENT_PREPARED);
    frame(&rig, CONTROL, &row, NULL); /* its parent is the coordinator, which dials */
    tell(&rig, &deaf);
    ck_assert(rig.ended && rig.why.reason == TC_E_LIMIT && rig.sent[TC_MSG_FAILED] == 1);
    free_rig(&rig);
    rig = agent_in(TC_AGENT_PREPARED);
    row.plan.rows[0].parent.rank = 3;
    strcpy(row.plan.rows[0].address, "127.0.0.1:9");
    frame(&rig, CONTROL, &row, NULL);
    tell(&rig, &deaf);
    ck_assert(!rig.ended); /* it dials itself */
    down.link = 1;
    tell(&rig, &down);
    ck_assert(rig.ended && rig.why.reason == TC_E_LIMIT && rig.sent[TC_MSG_COMPLAIN] == 0);
    free_rig(&rig);
}
END_TEST

START_TEST(a_published_agent_that_cannot_read_goes_quietly)
{
    struct rig rig = agent_in(TC_AGENT_PUBLISHED);
    struct tc_err err = {.reason = TC_E_IO};
    frame(&rig, CHILD, &(struct tc_message){.type = TC_MSG_WANT, .want = {0, 1}}, NULL);
    ck_assert_uint_eq(rig.served, 1);
    tell(&rig, &(struct tc_event){.kind = TC_EV_SERVED, .link = CHILD, .err = &err});
    ck_assert(rig.ended && rig.why.reason == 0 && rig.sent[TC_MSG_FAILED] == 0);
    free_rig(&rig);
}
END_TEST

/* --- a coordinator with two hosts; the first is tried, the second only keeps the session going --- */

static int no_random(void *arg, void *bytes, size_t size, struct tc_err *err)
{
    uint8_t *next = arg;
    (void)err;
    memset(bytes, ++*next, size);
    return 0;
}

static void answer(struct rig *rig, uint32_t host)
{
    struct tc_message message = hello(TC_ROLE_AGENT, NULL);
    message.hello.instance[0] = (uint8_t)(host + 1);
    frame(rig, host, &message, NULL);
    ck_assert_uint_eq(rig->sent[TC_MSG_OFFER], 1);
}

static struct rig make_coordinator(bool joins)
{
    static const char *const hosts[] = {"a:1", "b:1"};
    static const uint8_t secret[TC_SECRET_SIZE] = {1};
    static uint8_t random;
    struct rig rig = {.now = 1000};
    struct tc_coordinator_config config = {.name = "A",
                                           .tls = true,
                                           .array = "null",
                                           .hosts = hosts,
                                           .host_count = 2,
                                           .tree = {.kind = TC_TREE_CHAIN},
                                           .min_hosts = 1,
                                           .joins = joins,
                                           .join_by = 6000,
                                           .digest_depth = 2,
                                           .random = no_random,
                                           .random_arg = &random};
    tc_layout_init(&config.layout, 2 << 16, 1 << 16, NULL);
    rig.signer = tc_signer_new(secret, config.public_key, NULL);
    rig.page = (struct tc_page){.count = 2, .last = true};
    config.signer = rig.signer;
    rig.coordinator = tc_coordinator_new(&config, rig.now, NULL);
    drain(&rig);
    return rig;
}

static struct rig coordinator_in(enum tc_host_phase phase)
{
    struct rig rig = make_coordinator(false);
    ck_assert_uint_eq(rig.dialled, 2);
    for (uint32_t i = 0; i < 2; i++)
        tell(&rig, &(struct tc_event){.kind = TC_EV_UP, .link = i});
    if (phase >= TC_PHASE_OFFERED)
        answer(&rig, 0);
    if (phase >= TC_PHASE_READY)
        frame(&rig, 0, &(struct tc_message){.type = TC_MSG_READY}, NULL);
    if (phase >= TC_PHASE_RUNNING) {
        answer(&rig, 1);
        frame(&rig, 1, &(struct tc_message){.type = TC_MSG_READY}, NULL);
        ck_assert(rig.sent[TC_MSG_PLAN] == 2 && rig.dialled == 1);
    }
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->phase, phase);
    return rig;
}

static bool host_may_say(enum tc_host_phase phase, uint8_t type)
{
    switch (type) {
    case TC_MSG_HELLO:
        return phase == TC_PHASE_DIALLED;
    case TC_MSG_READY:
        return phase == TC_PHASE_OFFERED;
    case TC_MSG_PROGRESS:
        return phase >= TC_PHASE_OFFERED;
    case TC_MSG_COMPLAIN:
        return phase >= TC_PHASE_RUNNING;
    default: /* REFUSE and FAILED end it too, DONE carries a wrong digest here */
        return false;
    }
}

START_TEST(a_coordinator_drops_a_host_for_a_wrong_message_and_goes_on)
{
    static const enum tc_host_phase phases[] = {TC_PHASE_DIALLED, TC_PHASE_OFFERED, TC_PHASE_READY, TC_PHASE_RUNNING};
    enum tc_host_phase phase = phases[_i];
    for (unsigned type = 0; type < TYPES; type++) {
        struct rig rig = coordinator_in(phase);
        any_message(&rig, 0, (uint8_t)type, NULL);
        bool dropped = tc_coordinator_host(rig.coordinator, 0)->phase == TC_PHASE_ENDED;
        ck_assert_msg(dropped == !host_may_say(phase, (uint8_t)type), "%s in phase %d", tc_message_name((uint8_t)type),
                      phase);
        ck_assert(!rig.ended && tc_coordinator_host(rig.coordinator, 1)->phase != TC_PHASE_ENDED);
        any_message(&rig, 2, (uint8_t)type, NULL); /* the data link of its own child, or none */
        any_message(&rig, 99, (uint8_t)type, NULL);
        garbage(&rig, 1, (uint8_t)type, 77);
        ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 1)->phase, TC_PHASE_ENDED);
        free_rig(&rig);
    }
}
END_TEST

START_TEST(a_dead_host_does_not_change_the_plan_for_ever)
{
    struct rig rig = coordinator_in(TC_PHASE_RUNNING);
    tell(&rig, &(struct tc_event){.kind = TC_EV_DOWN, .link = 0});
    ck_assert(rig.sent[TC_MSG_PLAN] == 0 && rig.dialled == 0);
    tick(&rig, TC_REPLAN_GATHER);
    ck_assert(rig.sent[TC_MSG_PLAN] == 1 && rig.dialled == 1); /* host 1 hangs below the sender now */
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->end, TC_END_LOST);
    tick(&rig, 250);
    ck_assert(rig.sent[TC_MSG_PLAN] == 0 && rig.dialled == 0);
    free_rig(&rig);
}
END_TEST

/* What host 1 says of a parent of the plan with that epoch. */
static void complain(struct rig *rig, uint32_t epoch, uint32_t parent, int reason)
{
    struct tc_message message = {.type = TC_MSG_COMPLAIN};
    message.complaint = (struct tc_msg_complaint){.epoch = epoch, .rank = parent, .reason = (uint16_t)reason};
    frame(rig, 1, &message, NULL);
}

START_TEST(wrong_bytes_of_an_earlier_parent_count)
{
    struct rig rig = coordinator_in(TC_PHASE_RUNNING);
    const struct tc_host_view *parent = tc_coordinator_host(rig.coordinator, 0);
    complain(&rig, 1, 1, TC_E_CLOSED);
    tick(&rig, TC_REPLAN_GATHER);
    ck_assert_uint_eq(rig.dialled, 1); /* host 1 hangs below the sender now */
    complain(&rig, 1, 1, TC_E_CLOSED);
    complain(&rig, 1, 2, TC_E_INTEGRITY); /* itself */
    complain(&rig, 1, 3, TC_E_INTEGRITY); /* nobody */
    complain(&rig, 1, TC_NO_RANK, TC_E_INTEGRITY);
    ck_assert_uint_eq(parent->accused, 0);
    tick(&rig, TC_REPLAN_GATHER);
    ck_assert_uint_eq(rig.sent[TC_MSG_PLAN], 0);
    complain(&rig, 1, 1, TC_E_INTEGRITY);
    ck_assert_uint_eq(parent->accused, 1);
    ck_assert(!rig.ended && parent->phase == TC_PHASE_RUNNING);
    free_rig(&rig);
}
END_TEST

START_TEST(silence_is_death)
{
    struct rig rig = coordinator_in(TC_PHASE_RUNNING);
    pass(&rig, TC_MS_SILENCE - 1);
    frame(&rig, 1, &(struct tc_message){.type = TC_MSG_PROGRESS}, NULL);
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->end, TC_END_NONE);
    tick(&rig, 1);
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->end, TC_END_LOST);
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 1)->end, TC_END_NONE);
    pass(&rig, TC_MS_SILENCE);
    ck_assert(rig.ended);
    free_rig(&rig);
}
END_TEST

/* What the coordinator itself slept through is no silence of others, nor is it patience of its own. */
START_TEST(sleep_is_not_silence)
{
    static const enum tc_host_phase phases[] = {TC_PHASE_OFFERED, TC_PHASE_RUNNING};
    struct rig rig = coordinator_in(phases[_i]);
    enum tc_host_phase phase = tc_coordinator_host(rig.coordinator, 0)->phase;
    pass(&rig, TC_MS_SILENCE - 1000);
    tick(&rig, 2 * TC_MS_STALL);
    ck_assert(!rig.ended);
    for (uint32_t host = 0; host < 2; host++)
        ck_assert_int_eq(tc_coordinator_host(rig.coordinator, host)->end, TC_END_NONE);
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->phase, phase);
    pass(&rig, TC_MS_ANSWER);
    ck_assert_int_ne(tc_coordinator_host(rig.coordinator, 0)->end, TC_END_NONE);
    free_rig(&rig);
}
END_TEST

/* A report four times a second, with one counter that goes up: what it is worth is bounded. */
START_TEST(a_host_that_only_says_so_is_given_up)
{
    static const struct {
        const char *what;
        enum tc_host_phase phase;
        uint64_t bytes, compared; /* more in each report */
        enum tc_agent_state state;
        uint64_t limit;
        int reason;
    } cases[] = {
        {"prepares", TC_PHASE_OFFERED, 0, 0, TC_AGENT_OFFERED, TC_MS_ANSWER + 1, TC_E_TIMEOUT},
        {"says nothing new", TC_PHASE_RUNNING, 0, 0, TC_AGENT_FILLING, TC_MS_STALL + 4000, TC_E_TIMEOUT},
        {"has a byte more", TC_PHASE_RUNNING, 1, 0, TC_AGENT_FILLING, TC_MS_STALL + 4000, TC_E_TIMEOUT},
        {"has what is too much", TC_PHASE_RUNNING, 3 << 16, 0, TC_AGENT_FILLING, TC_MS_STALL + 4000, TC_E_TIMEOUT},
        {"has compared one more", TC_PHASE_RUNNING, 0, 1, TC_AGENT_FILLING, TC_MS_STALL + 4000, TC_E_TIMEOUT},
        {"has compared a lot", TC_PHASE_RUNNING, 0, 1 << 16, TC_AGENT_FILLING, TC_MS_STALL + 5000, TC_E_TIMEOUT},
        {"is just fast enough", TC_PHASE_RUNNING, 4096, 0, TC_AGENT_FILLING, TC_MS_STALL + 13000, TC_E_TIMEOUT},
        {"never publishes", TC_PHASE_RUNNING, 2 << 16, 0, TC_AGENT_WHOLE, TC_MS_STALL + 1000, TC_E_TIMEOUT}};
    struct rig rig = coordinator_in(cases[_i].phase);
    const struct tc_host_view *view = tc_coordinator_host(rig.coordinator, 0);
    struct tc_message message = {.type = TC_MSG_PROGRESS}, alive = {.type = TC_MSG_PROGRESS};
    bool other = cases[_i].phase == TC_PHASE_RUNNING;
    uint64_t began = rig.now;
    message.progress = (struct tc_msg_progress){.state = (uint8_t)cases[_i].state, .trees = 1, .epoch = 1};
    for (unsigned i = 1; i < 4000 && view->end == TC_END_NONE; i++) {
        if (cases[_i].state != TC_AGENT_WHOLE || i == 1) {
            message.progress.bytes += cases[_i].bytes;
            message.progress.compared += cases[_i].compared;
        }
        frame(&rig, 0, &message, NULL);
        alive.progress.bytes += 4096; /* or all would stand still */
        if (other)
            frame(&rig, 1, &alive, NULL);
        pass(&rig, TC_MS_PROGRESS);
    }
    ck_assert_msg(view->end != TC_END_NONE, "%s: goes on", cases[_i].what);
    ck_assert_msg(view->why.reason == cases[_i].reason, "%s: %s", cases[_i].what, view->why.text);
    ck_assert_msg(rig.now - began <= cases[_i].limit + TC_MS_PROGRESS, "%s: %u ms", cases[_i].what,
                  (unsigned)(rig.now - began));
    free_rig(&rig);
}
END_TEST

START_TEST(a_host_that_never_answers_is_left_out)
{
    struct rig rig = coordinator_in(TC_PHASE_READY);
    pass(&rig, tc_limit_prepare(2 << 16));
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 1)->end, TC_END_UNREACHABLE);
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->phase, TC_PHASE_RUNNING);
    free_rig(&rig);
}
END_TEST

static void join(struct rig *rig, uint32_t link, const char *host, uint8_t instance)
{
    struct tc_message message = hello(TC_ROLE_AGENT, NULL);
    memset(message.hello.instance, instance, sizeof message.hello.instance);
    snprintf(message.hello.host, sizeof message.hello.host, "%s", host);
    snprintf(message.hello.address, sizeof message.hello.address, "10.0.0.%u:7", instance);
    frame(rig, link, &message, NULL);
}

/* Links that came in are control links once HELLO says of which host; then all is as if they had been dialled. */
START_TEST(hosts_that_join_are_offered_and_planned)
{
    struct rig rig = make_coordinator(true);
    ck_assert_uint_eq(rig.dialled, 0);
    join(&rig, CONTROL + 5, "b:1", 2);
    ck_assert(rig.sent[TC_MSG_HELLO] == 1 && rig.sent[TC_MSG_OFFER] == 1);
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 1)->phase, TC_PHASE_OFFERED);
    frame(&rig, CONTROL + 5, &(struct tc_message){.type = TC_MSG_READY}, NULL);
    join(&rig, CONTROL + 7, "a:1", 1);
    frame(&rig, CONTROL + 7, &(struct tc_message){.type = TC_MSG_READY}, NULL);
    ck_assert(rig.sent[TC_MSG_PLAN] == 2 && rig.dialled == 1);
    tell(&rig, &(struct tc_event){.kind = TC_EV_DOWN, .link = CONTROL + 7});
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->end, TC_END_LOST);
    tick(&rig, TC_REPLAN_GATHER);
    ck_assert(rig.sent[TC_MSG_PLAN] == 1 && rig.dialled == 1);
    free_rig(&rig);
}
END_TEST

START_TEST(joiners_that_do_not_belong_are_turned_away)
{
    struct rig rig = make_coordinator(true);
    join(&rig, CONTROL, "a:1", 1);
    join(&rig, CHILD, "c:1", 2);
    ck_assert(rig.closed == 1 && rig.last_closed == CHILD && rig.sent[TC_MSG_ABORT] == 1 && !rig.sent[TC_MSG_OFFER]);
    join(&rig, CHILD, "a:1", 2);
    ck_assert(rig.closed == 1 && rig.sent[TC_MSG_ABORT] == 1 && !rig.sent[TC_MSG_OFFER]);
    for (unsigned type = 0; type < TYPES; type++) {
        garbage(&rig, CHILD, (uint8_t)type, 77);
        ck_assert(rig.closed == 1 && rig.last_closed == CHILD);
    }
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->phase, TC_PHASE_OFFERED);
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 1)->phase, TC_PHASE_DIALLED);
    join(&rig, CHILD, "b:1", 1); /* one agent for both */
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 1)->end, TC_END_REFUSED);
    free_rig(&rig);
}
END_TEST

/* Who was reported absent, or has not come in time, is left out, and comes too late afterwards. */
START_TEST(hosts_that_do_not_join_are_left_out)
{
    struct rig rig = make_coordinator(true);
    struct tc_err why = {0};
    tc_fail(&why, TC_E_UNREACHABLE, "no route");
    join(&rig, CONTROL, "a:1", 1);
    tell(&rig, &(struct tc_event){.kind = TC_EV_ABSENT, .host = 0, .err = &why}); /* it is here */
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 0)->phase, TC_PHASE_OFFERED);
    frame(&rig, CONTROL, &(struct tc_message){.type = TC_MSG_READY}, NULL);
    tell(&rig, &(struct tc_event){.kind = TC_EV_ABSENT, .host = 1, .err = &why});
    ck_assert_int_eq(tc_coordinator_host(rig.coordinator, 1)->end, TC_END_UNREACHABLE);
    ck_assert(rig.sent[TC_MSG_PLAN] == 1);
    join(&rig, CHILD, "b:1", 2);
    ck_assert(rig.closed == 1 && rig.sent[TC_MSG_ABORT] == 1);
    free_rig(&rig);
    rig = make_coordinator(true);
    tick(&rig, 4999);
    ck_assert(!rig.ended);
    tick(&rig, 1);
    ck_assert(rig.ended);
    ck_assert_str_eq(tc_coordinator_host(rig.coordinator, 1)->why.text, "its agent did not come up in time");
    free_rig(&rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *agent = tcase_create("agent");
    tcase_set_timeout(agent, 60);
    tcase_add_loop_test(agent, an_agent_takes_control_messages_in_their_state_only, 0, STATES);
    tcase_add_loop_test(agent, an_agent_closes_a_data_link_for_a_wrong_message_and_lives, 0, STATES);
    tcase_add_loop_test(agent, an_agent_bears_any_event_in_any_state, 0, STATES);
    tcase_add_test(agent, an_offer_is_checked);
    tcase_add_test(agent, with_an_origin_both_offer_and_plan_are_signed);
    tcase_add_test(agent, what_was_damaged_on_the_way_is_not_taken);
    tcase_add_test(agent, a_plan_is_checked);
    tcase_add_test(agent, a_forged_page_costs_the_parent_its_link);
    tcase_add_test(agent, early_links_are_held_a_while_and_not_too_many);
    tcase_add_test(agent, a_link_that_came_before_its_plan_is_served_after_it);
    tcase_add_test(agent, an_agent_that_cannot_be_reached_or_dial_fails);
    tcase_add_test(agent, a_published_agent_that_cannot_read_goes_quietly);
    tcase_add_test(agent, a_doubted_agent_reads_its_file_back);
    tcase_add_test(agent, a_file_that_stays_wrong_is_not_published);
    tcase_add_test(agent, what_is_here_is_not_wanted);
    tcase_add_test(agent, comparing_is_not_waiting);
    tcase_add_test(agent, an_agent_ends_by_itself_when_its_coordinator_stands_still);
    tcase_add_test(agent, an_agent_lives_on_new_bytes_alone);
    tcase_add_test(agent, help_does_not_make_a_parent_forget_its_own_chunks);
    tcase_add_test(agent, another_file_is_not_replaced_without_force);
    tcase_add_loop_test(agent, a_file_is_reserved_at_the_first_difference, 0, 2);
    tcase_add_test(agent, no_room_for_the_difference_fails);
    suite_add_tcase(suite, agent);
    TCase *coordinator = tcase_create("coordinator");
    tcase_add_loop_test(coordinator, a_coordinator_drops_a_host_for_a_wrong_message_and_goes_on, 0, 4);
    tcase_add_test(coordinator, a_dead_host_does_not_change_the_plan_for_ever);
    tcase_add_test(coordinator, wrong_bytes_of_an_earlier_parent_count);
    tcase_add_test(coordinator, silence_is_death);
    tcase_add_loop_test(coordinator, sleep_is_not_silence, 0, 2);
    tcase_add_loop_test(coordinator, a_host_that_only_says_so_is_given_up, 0, 8);
    tcase_add_test(coordinator, a_host_that_never_answers_is_left_out);
    tcase_add_test(coordinator, hosts_that_join_are_offered_and_planned);
    tcase_add_test(coordinator, joiners_that_do_not_belong_are_turned_away);
    tcase_add_test(coordinator, hosts_that_do_not_join_are_left_out);
    suite_add_tcase(suite, coordinator);
    return unit_run(suite);
}
