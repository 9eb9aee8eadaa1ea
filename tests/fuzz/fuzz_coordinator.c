/* Four agents' whole conversation with a coordinator's machine, as in fuzz_agent.c. */
#include <string.h>

#include "fuzz.h"
#include "session/agent.h"
#include "session/coordinator.h"

enum { HOSTS = 4, LINKS = 64, DUE = 512, CHUNKS = 70, DEPTH = 8 };

static const uint8_t session[TC_SESSION_ID_SIZE] = "the session";
static const char *const names[HOSTS] = {"a:1", "b:2", "c:3", "d:4"};
static struct tc_signer *signer;
static uint8_t public_key[TC_PUBLIC_SIZE];

struct link {
    bool open;
    bool data;
    uint32_t host;
    uint8_t id[TC_LINK_ID_SIZE];
};

struct world {
    struct script script;
    struct tc_coordinator *coordinator;
    uint64_t now;
    uint32_t random;
    bool ended, tls;
    bool said_done[HOSTS];
    struct link links[LINKS];
    struct tc_event due[DUE];
    unsigned due_count;
    bool digested[CHUNKS];
};

static int machine_random(void *arg, void *bytes, size_t size, struct tc_err *err)
{
    struct world *w = arg;
    (void)err;
    for (size_t i = 0; i < size; i++) {
        w->random = w->random * 1103515245u + 12345u;
        ((uint8_t *)bytes)[i] = (uint8_t)(w->random >> 16);
    }
    return 0;
}

static void owe(struct world *w, enum tc_event_kind kind, const struct tc_action *action)
{
    if (w->due_count < DUE)
        w->due[w->due_count++] = (struct tc_event){.kind = kind, .link = action->link, .chunk = action->chunk};
}

static void dialled(struct world *w, const struct tc_action *action)
{
    MUST(action->host < HOSTS);
    /* Where else a host says that it is, the coordinator tries by itself. */
    MUST(strcmp(action->address, names[action->host]) == 0 || (w->tls && action->link >= HOSTS));
    if (action->link >= LINKS)
        return;
    MUST(!w->links[action->link].open);
    w->links[action->link] = (struct link){.open = true, .data = action->link >= HOSTS, .host = action->host};
    memcpy(w->links[action->link].id, action->id, TC_LINK_ID_SIZE);
}

static void carry_out(struct world *w, const struct tc_action *action)
{
    switch (action->kind) {
    case TC_ACT_DIAL:
        dialled(w, action);
        break;
    case TC_ACT_CLOSE:
        if (action->link < LINKS)
            w->links[action->link].open = false;
        break;
    case TC_ACT_SEND:
        MUST(action->body && action->body->size <= tc_message_limit(action->type));
        break;
    case TC_ACT_SERVE:
        MUST(action->chunk < CHUNKS && w->digested[action->chunk]);
        owe(w, TC_EV_SERVED, action);
        break;
    case TC_ACT_DIGEST:
        MUST(action->chunk < CHUNKS);
        owe(w, TC_EV_DIGESTED, action);
        break;
    case TC_ACT_CHECK:
        owe(w, TC_EV_CHECKED, action);
        break;
    case TC_ACT_NEWS:
        MUST(action->host < HOSTS || action->host == TC_NO_RANK);
        break;
    case TC_ACT_END:
        w->ended = true;
        break;
    default:
        break;
    }
}

static void must_hold(const struct world *w)
{
    for (uint32_t i = 0; i < HOSTS; i++) {
        const struct tc_host_view *view = tc_coordinator_host(w->coordinator, i);
        MUST(view->end != TC_END_PUBLISHED || w->said_done[i]);
        MUST(view->bytes <= (uint64_t)CHUNKS * TC_CHUNK_SIZE_MIN);
        MUST(!w->ended || view->phase == TC_PHASE_ENDED);
    }
}

static void tell(struct world *w, const struct tc_event *event)
{
    struct tc_action action;
    tc_coordinator_event(w->coordinator, event, w->now);
    while (tc_coordinator_take(w->coordinator, &action)) {
        MUST(!w->ended);
        carry_out(w, &action);
        tc_blob_unref(action.body);
    }
    must_hold(w);
}

static void a_hello(struct world *w, const struct link *link, struct tc_message *message)
{
    struct tc_msg_hello *hello = &message->hello;
    uint8_t what = script_byte(&w->script);
    hello->version_min = hello->version_max = TC_WIRE_VERSION;
    hello->role = link->data ? TC_ROLE_CHILD : TC_ROLE_AGENT;
    memcpy(hello->session, session, sizeof session);
    memcpy(hello->link, link->id, sizeof hello->link);
    hello->instance[0] = what & 1 ? 0 : (uint8_t)link->host + 1;
    if (what & 8)
        snprintf(hello->address, sizeof hello->address, "10.0.0.%u:80", link->host);
    else if (what & 2)
        snprintf(hello->address, sizeof hello->address, "host%u:7", what);
    if (what & 4) {
        hello->page_bytes = 1;
        hello->pages = (const uint8_t *)"\1";
    }
}

static void a_message(struct world *w, const struct link *link, struct tc_message *message)
{
    switch (message->type) {
    case TC_MSG_HELLO:
        a_hello(w, link, message);
        break;
    case TC_MSG_READY:
        message->ready.flags = script_byte(&w->script) & 1;
        break;
    case TC_MSG_REFUSE:
    case TC_MSG_FAILED:
        message->why.reason = script_byte(&w->script);
        snprintf(message->why.text, sizeof message->why.text, "why");
        break;
    case TC_MSG_PROGRESS:
        message->progress.epoch = script_byte(&w->script);
        message->progress.state = script_byte(&w->script) % 9;
        message->progress.chunks = script_number(&w->script);
        message->progress.bytes = message->progress.chunks * UINT64_C(65536);
        message->progress.sent = script_number(&w->script);
        break;
    case TC_MSG_COMPLAIN:
        message->complaint.epoch = script_byte(&w->script);
        message->complaint.tree = script_byte(&w->script);
        message->complaint.rank = script_byte(&w->script) % 8;
        message->complaint.reason = script_byte(&w->script) % 32;
        break;
    case TC_MSG_DONE:
        message->done.state = TC_AGENT_PUBLISHED;
        break;
    case TC_MSG_WANT:
    case TC_MSG_CANCEL:
        message->want.page = script_byte(&w->script) % 3;
        message->want.chunks = script_number(&w->script) * 0x100000001u;
        break;
    default:
        break;
    }
}

static void a_frame(struct world *w, uint32_t number)
{
    static const uint8_t types[] = {TC_MSG_HELLO,    TC_MSG_READY,  TC_MSG_REFUSE, TC_MSG_PROGRESS, TC_MSG_DONE,
                                    TC_MSG_COMPLAIN, TC_MSG_FAILED, TC_MSG_WANT,   TC_MSG_CANCEL};
    struct tc_message message = {.type = types[script_byte(&w->script) % sizeof types]};
    a_message(w, &w->links[number], &message);
    struct tc_blob *body = tc_message_pack(&message, NULL, NULL);
    MUST(body);
    for (unsigned left = script_byte(&w->script) % 4; left > 0 && body->size > 0; left--) {
        size_t at = script_number(&w->script) % body->size;
        body->bytes[at] = script_byte(&w->script);
    }
    w->said_done[w->links[number].host] |= message.type == TC_MSG_DONE && !w->links[number].data;
    tell(w, &(struct tc_event){.kind = TC_EV_FRAME, .link = number, .type = message.type, .body = body});
    tc_blob_unref(body);
}

static void raw_frame(struct world *w, uint32_t number)
{
    uint8_t type = script_byte(&w->script);
    size_t size = script_number(&w->script);
    if (size > tc_message_limit(type))
        size = tc_message_limit(type);
    const uint8_t *bytes = script_run(&w->script, &size);
    struct tc_blob *body = tc_blob_copy(bytes, size);
    MUST(body);
    w->said_done[w->links[number].host] |= type == TC_MSG_DONE && !w->links[number].data;
    tell(w, &(struct tc_event){.kind = TC_EV_FRAME, .link = number, .type = type, .body = body});
    tc_blob_unref(body);
}

static void settle(struct world *w, bool well)
{
    static const struct tc_err bad = {.reason = TC_E_SOURCE, .text = "cannot read"};
    static const struct tc_digest digests[TC_CHUNK_BLOCKS_MAX];
    if (w->due_count == 0)
        return;
    struct tc_event event = w->due[0];
    memmove(w->due, w->due + 1, --w->due_count * sizeof *w->due);
    event.err = well ? NULL : &bad;
    if (event.kind == TC_EV_SERVED && (event.link >= LINKS || !w->links[event.link].open))
        return;
    if (event.kind == TC_EV_DIGESTED && well) {
        w->digested[event.chunk] = true;
        event.digest = event.blocks = digests;
    }
    tell(w, &event);
}

static void down(struct world *w, uint32_t number)
{
    static const struct tc_err gone = {.reason = TC_E_CLOSED, .text = "gone"};
    w->links[number].open = false;
    tell(w, &(struct tc_event){.kind = TC_EV_DOWN, .link = number, .err = &gone});
}

/* All that an obedient host says until it is ready: the way in for everything else. */
static void say_hello(struct world *w, uint32_t number)
{
    static const uint8_t words[] = {0, 0, 0};
    struct script kept = w->script;
    w->script = (struct script){words, sizeof words, 0};
    struct tc_destination far = {.channel = {(uint8_t)number}};
    snprintf(far.address, sizeof far.address, "10.0.0.%u:7", w->links[number].host);
    tell(w, &(struct tc_event){.kind = TC_EV_UP, .link = number, .far = &far});
    if (!w->ended && w->links[number].open)
        a_frame(w, number);
    w->script = kept;
}

static void step(struct world *w)
{
    static const struct tc_err stop = {.reason = TC_E_INTERRUPTED, .text = "stopped"};
    uint8_t what = script_byte(&w->script);
    uint32_t number = what / 8 + (script_byte(&w->script) & 1) * 32u;
    if (what % 8 < 5 && !w->links[number].open)
        number %= HOSTS;
    if (what % 8 < 5 && !w->links[number].open)
        return;
    switch (what % 8) {
    case 0:
    case 1:
        a_frame(w, number);
        break;
    case 2:
        raw_frame(w, number);
        break;
    case 3:
        say_hello(w, number);
        break;
    case 4:
        if (script_byte(&w->script) % 8 == 0)
            down(w, number);
        break;
    case 5:
        w->now += script_number(&w->script);
        tell(w, &(struct tc_event){.kind = TC_EV_TICK});
        break;
    case 6:
        for (unsigned count = script_byte(&w->script), well = script_byte(&w->script); count > 0; count--)
            settle(w, well % 8 != 0);
        break;
    default:
        if (script_byte(&w->script) == 7)
            tell(w, &(struct tc_event){.kind = TC_EV_STOP, .err = &stop});
    }
}

/* When every link is gone it ends; who is not published is told so in the report. */
static void must_end(struct world *w)
{
    for (unsigned i = 0; i < 4000 && !w->ended; i++) {
        for (uint32_t number = 0; number < LINKS && !w->ended; number++)
            if (w->links[number].open)
                down(w, number);
        while (w->due_count > 0 && !w->ended)
            settle(w, true);
        if (w->ended)
            break;
        uint64_t wake = tc_coordinator_wake(w->coordinator);
        MUST(wake != UINT64_MAX);
        w->now = wake > w->now ? wake : w->now;
        tell(w, &(struct tc_event){.kind = TC_EV_TICK});
    }
    MUST(w->ended);
}

static struct tc_coordinator *new_machine(struct world *w)
{
    static const uint8_t secret[TC_SECRET_SIZE] = {1};
    if (!signer)
        signer = tc_signer_new(secret, public_key, NULL);
    uint8_t how = script_byte(&w->script);
    struct tc_coordinator_config config = {.name = "A",
                                           .array = "null",
                                           .hosts = names,
                                           .host_count = HOSTS,
                                           .signer = signer,
                                           .flags = how & 1 ? TC_OFFER_DRY_RUN : 0,
                                           .min_hosts = 1 + how / 2 % HOSTS,
                                           .deadline = how & 16 ? 60000 : 0,
                                           .digest_depth = DEPTH,
                                           .random = machine_random,
                                           .random_arg = w};
    config.tree.kind = how & 32 ? TC_TREE_DOUBLE : TC_TREE_AUTO;
    config.tls = w->tls = how & 64;
    memcpy(config.session, session, sizeof session);
    memcpy(config.public_key, public_key, sizeof public_key);
    MUST(tc_layout_init(&config.layout, (uint64_t)CHUNKS * TC_CHUNK_SIZE_MIN, TC_CHUNK_SIZE_MIN, NULL) == 0);
    return tc_coordinator_new(&config, w->now, NULL);
}

void fuzz_coordinator(const uint8_t *bytes, size_t size)
{
    struct world w = {.script = {bytes, size, 0}, .now = 1000};
    w.coordinator = new_machine(&w);
    MUST(w.coordinator);
    tell(&w, &(struct tc_event){.kind = TC_EV_TICK});
    while (w.script.at < size && !w.ended)
        step(&w);
    must_end(&w);
    tc_coordinator_free(w.coordinator);
}
