/* A peer's whole conversation with an agent's machine: messages that could be right, bent and out of order, between
 * the results of what the machine asks for. The bytes are a script. */
#include <string.h>

#include "fuzz.h"
#include "session/agent.h"

enum { CONTROL = TC_LINK_ACCEPTED, LINKS = 16, ACCEPTED = 8, DUE = 512, CHUNKS = 130, PAGES = 3, TREES = 2 };

static const uint8_t session[TC_SESSION_ID_SIZE] = "the session", nonce[TC_NONCE_SIZE] = "the nonce";
static struct tc_signer *signer;
static struct tc_verifier *outsider;
static uint8_t public_key[TC_PUBLIC_SIZE];
static struct tc_page pages[PAGES];

struct world {
    struct script script;
    struct tc_agent *agent;
    uint64_t now;
    bool origin, ended, published;
    bool open[LINKS]; /* accepted ones first, then those that were dialled */
    unsigned dialled;
    struct tc_event due[DUE]; /* results that the machine waits for, the oldest first */
    unsigned due_count;
    struct tc_bits opened;
};

static void make_shared(void)
{
    static const uint8_t secret[TC_SECRET_SIZE] = {1}, other[TC_SECRET_SIZE] = {2};
    uint8_t other_key[TC_PUBLIC_SIZE];
    if (signer)
        return;
    signer = tc_signer_new(secret, public_key, NULL);
    tc_signer_free(tc_signer_new(other, other_key, NULL));
    outsider = tc_verifier_new(other_key, NULL);
    for (uint32_t i = 0; i < PAGES; i++) {
        pages[i] = (struct tc_page){.index = i, .count = i < PAGES - 1 ? 64 : 2, .last = i == PAGES - 1};
        MUST(tc_page_sign(&pages[i], session, signer, NULL) == 0);
    }
}

static uint32_t number_of(unsigned place)
{
    return place < ACCEPTED ? CONTROL + place : place - ACCEPTED + 1;
}

static unsigned place_of(uint32_t link)
{
    return link >= TC_LINK_ACCEPTED ? link - CONTROL : link + ACCEPTED - 1;
}

static void owe(struct world *w, enum tc_event_kind kind, const struct tc_action *action)
{
    if (w->due_count < DUE)
        w->due[w->due_count++] = (struct tc_event){.kind = kind, .link = action->link, .chunk = action->chunk};
}

static void carry_out(struct world *w, struct tc_action *action)
{
    unsigned place = place_of(action->link);
    switch (action->kind) {
    case TC_ACT_DIAL:
        MUST(!w->origin && place >= ACCEPTED);
        if (place < LINKS)
            w->open[place] = true;
        break;
    case TC_ACT_CLOSE:
        if (place < LINKS)
            w->open[place] = false;
        break;
    case TC_ACT_SEND:
        MUST(action->body && action->body->size <= tc_message_limit(action->type));
        break;
    case TC_ACT_SERVE:
        MUST(tc_agent_has(w->agent, action->chunk));
        owe(w, TC_EV_SERVED, action);
        break;
    case TC_ACT_PREPARE:
        MUST(!w->origin);
        owe(w, TC_EV_PREPARED, action);
        break;
    case TC_ACT_OPEN:
        MUST(action->chunk < CHUNKS && action->body);
        owe(w, TC_EV_OPENED, action);
        break;
    case TC_ACT_PUBLISH: /* not before every chunk was found good */
        MUST(!w->published && tc_agent_bytes(w->agent) == tc_agent_job(w->agent)->layout.size);
        w->published = true;
        owe(w, TC_EV_PUBLISHED, action);
        break;
    case TC_ACT_END:
        w->ended = true;
        MUST(tc_agent_state(w->agent) == TC_AGENT_ENDED);
        break;
    default:
        break;
    }
}

static void tell(struct world *w, const struct tc_event *event)
{
    struct tc_action action;
    tc_agent_event(w->agent, event, w->now);
    while (tc_agent_take(w->agent, &action)) {
        MUST(!w->ended);
        carry_out(w, &action);
        tc_blob_unref(action.body);
    }
    MUST(!w->origin || tc_agent_state(w->agent) == TC_AGENT_NEW || tc_agent_state(w->agent) == TC_AGENT_ENDED);
}

static void a_hello(struct world *w, struct tc_message *message)
{
    struct tc_msg_hello *hello = &message->hello;
    uint8_t what = script_byte(&w->script);
    hello->version_min = hello->version_max = TC_WIRE_VERSION;
    hello->role = 1 + what % 4;
    memcpy(hello->session, session, sizeof session);
    hello->link[0] = what / 4 % 8;
    if (what & 128) {
        hello->page_bytes = 1 + what % 3;
        hello->pages = (const uint8_t *)"\1\2\3";
    }
}

static void an_offer(struct world *w, struct tc_message *message)
{
    struct tc_msg_offer *offer = &message->offer;
    *offer = (struct tc_msg_offer){.name = "A",
                                   .size = (uint64_t)(CHUNKS - 1) * TC_CHUNK_SIZE_MIN + 7,
                                   .chunk_size = TC_CHUNK_SIZE_MIN,
                                   .array = "null",
                                   .array_size = 4,
                                   .digest = TC_DIGEST_NAME,
                                   .codec = TC_CODEC_NAME,
                                   .flags = script_byte(&w->script) % 8};
    memcpy(offer->session, session, sizeof session);
    memcpy(offer->nonce, nonce, sizeof nonce);
    memcpy(offer->public_key, public_key, sizeof public_key);
}

static void a_plan(struct world *w, struct tc_message *message)
{
    static struct tc_msg_link children[TREES][4];
    struct tc_msg_plan *plan = &message->plan;
    plan->epoch = script_byte(&w->script);
    plan->rank = 1;
    plan->trees = 1 + script_byte(&w->script) % TREES;
    memcpy(plan->session, session, sizeof session);
    memcpy(plan->nonce, nonce, sizeof nonce);
    for (unsigned t = 0; t < plan->trees; t++) {
        struct tc_msg_row *row = &plan->rows[t];
        uint8_t what = script_byte(&w->script);
        row->parent.rank = what % 4;
        row->parent.id[0] = what / 4 % 8;
        snprintf(row->address, sizeof row->address, "127.0.0.1:%u", what);
        row->child_count = script_byte(&w->script) % 5;
        row->children = (const uint8_t *)children[t];
        for (unsigned i = 0; i < row->child_count; i++)
            children[t][i] = (struct tc_msg_link){.rank = i, .id = {script_byte(&w->script) % 8}};
    }
}

static struct tc_blob *a_chunk(struct world *w)
{
    uint32_t index = script_byte(&w->script);
    struct tc_blob *body = tc_blob_new(NULL, TC_CHUNK_HEAD + 3);
    MUST(body);
    tc_chunk_head(body->bytes, index, index < CHUNKS - 1 ? TC_CHUNK_SIZE_MIN : 7, TC_FORM_ZSTD);
    memcpy(body->bytes + TC_CHUNK_HEAD, "abc", 3);
    return body;
}

/* A message as it should be; bent afterwards. */
static struct tc_blob *a_message(struct world *w, uint8_t type)
{
    struct tc_message message = {.type = type};
    switch (type) {
    case TC_MSG_HELLO:
        a_hello(w, &message);
        break;
    case TC_MSG_OFFER:
        an_offer(w, &message);
        break;
    case TC_MSG_PLAN:
        a_plan(w, &message);
        break;
    case TC_MSG_PAGE:
        message.page = pages[script_byte(&w->script) % PAGES];
        break;
    case TC_MSG_WANT:
    case TC_MSG_CANCEL:
        message.want.page = script_byte(&w->script) % 4;
        message.want.chunks = script_number(&w->script) * 0x100000001u;
        break;
    case TC_MSG_CHUNK:
        return a_chunk(w);
    default:
        break;
    }
    return tc_message_pack(&message, script_byte(&w->script) & 1 ? signer : NULL, NULL);
}

static void bend(struct world *w, struct tc_blob *body)
{
    for (unsigned left = script_byte(&w->script) % 4; left > 0 && body->size > 0; left--) {
        size_t at = script_number(&w->script) % body->size;
        body->bytes[at] = script_byte(&w->script);
    }
}

static void a_frame(struct world *w, uint32_t link)
{
    static const uint8_t types[] = {TC_MSG_HELLO, TC_MSG_OFFER,  TC_MSG_PLAN,  TC_MSG_PAGE, TC_MSG_CHUNK,
                                    TC_MSG_WANT,  TC_MSG_CANCEL, TC_MSG_ABORT, TC_MSG_BYE};
    uint8_t type = types[script_byte(&w->script) % sizeof types];
    struct tc_blob *body = a_message(w, type);
    MUST(body);
    bend(w, body);
    tell(w, &(struct tc_event){.kind = TC_EV_FRAME, .link = link, .type = type, .body = body});
    tc_blob_unref(body);
}

static void raw_frame(struct world *w, uint32_t link)
{
    uint8_t type = script_byte(&w->script);
    size_t size = script_number(&w->script);
    if (size > tc_message_limit(type)) /* the link's business */
        size = tc_message_limit(type);
    const uint8_t *bytes = script_run(&w->script, &size);
    struct tc_blob *body = tc_blob_copy(bytes, size);
    MUST(body);
    tell(w, &(struct tc_event){.kind = TC_EV_FRAME, .link = link, .type = type, .body = body});
    tc_blob_unref(body);
}

/* The oldest result that is owed: good, or not. */
static void settle(struct world *w, uint8_t how)
{
    static const int reasons[] = {0, 0, 0, TC_E_INTEGRITY, TC_E_NOSPACE};
    struct tc_err err = {.reason = reasons[how % 5], .text = "so it went"};
    if (w->due_count == 0)
        return;
    struct tc_event event = w->due[0];
    memmove(w->due, w->due + 1, --w->due_count * sizeof *w->due);
    event.err = err.reason ? &err : NULL;
    if (event.kind == TC_EV_SERVED && (place_of(event.link) >= LINKS || !w->open[place_of(event.link)]))
        return;
    tell(w, &event);
}

static void down(struct world *w, unsigned place)
{
    static const struct tc_err gone = {.reason = TC_E_CLOSED, .text = "gone"};
    w->open[place] = false;
    tell(w, &(struct tc_event){.kind = TC_EV_DOWN, .link = number_of(place), .err = &gone});
}

static void step(struct world *w)
{
    static const struct tc_err stop = {.reason = TC_E_ABORTED, .text = "stopped"};
    uint8_t what = script_byte(&w->script);
    unsigned place = what / 8 % LINKS;
    if (what % 8 < 4 && !w->open[place])
        place = 0;
    if (what % 8 < 4 && !w->open[place])
        return;
    switch (what % 8) {
    case 0:
    case 1:
        a_frame(w, number_of(place));
        break;
    case 2:
        raw_frame(w, number_of(place));
        break;
    case 3:
        if (script_byte(&w->script) % 8 == 0)
            down(w, place);
        break;
    case 4:
        w->now += script_number(&w->script);
        tell(w, &(struct tc_event){.kind = TC_EV_TICK});
        break;
    case 5:
        if (place >= ACCEPTED && w->open[place])
            tell(w, &(struct tc_event){.kind = TC_EV_UP, .link = number_of(place)});
        break;
    case 6:
        for (unsigned count = script_byte(&w->script), how = script_byte(&w->script); count > 0; count--)
            settle(w, (uint8_t)how);
        break;
    default:
        if (script_byte(&w->script) == 7)
            tell(w, &(struct tc_event){.kind = TC_EV_STOP, .err = &stop});
    }
}

/* When everybody has gone, it ends by itself. */
static void must_end(struct world *w)
{
    uint64_t began = w->now;
    for (unsigned place = 0; place < LINKS; place++)
        if (w->open[place])
            down(w, place);
    for (unsigned i = 0; i < 1000 && !w->ended; i++) {
        while (w->due_count > 0)
            settle(w, 0);
        uint64_t wake = tc_agent_wake(w->agent);
        MUST(w->ended || wake != UINT64_MAX);
        w->now = wake > w->now ? wake : w->now;
        tell(w, &(struct tc_event){.kind = TC_EV_TICK});
    }
    MUST(w->ended && w->now - began <= 2 * TC_MS_ORPHAN_MOST);
}

void fuzz_agent(const uint8_t *bytes, size_t size)
{
    make_shared();
    struct world w = {.script = {bytes, size, 0}, .now = 1000};
    w.origin = script_byte(&w.script) & 1;
    struct tc_agent_config config = {.origin = w.origin ? outsider : NULL, .max_size = 1 << 30};
    memcpy(config.nonce, nonce, sizeof nonce);
    w.agent = tc_agent_new(&config, CONTROL, w.now, NULL);
    MUST(w.agent);
    for (unsigned i = 0; i < ACCEPTED; i++)
        w.open[i] = true;
    while (w.script.at < size && !w.ended)
        step(&w);
    must_end(&w);
    tc_agent_free(w.agent);
}
