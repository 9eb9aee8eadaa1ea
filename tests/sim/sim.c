#include "sim.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/buf.h"
#include "session/feed.h"
#include "hostile.h"
#include "witness.h"

enum { CHECKED = 1 }; /* event.host of a comparison with what was placed */
enum { CHUNK_SIZE = 65536, DEPTH = (512 << 10) / CHUNK_SIZE };
enum { START_US = 1000000, HOLD_US = 5000000, HANDSHAKE_US = 3000000, CONNECT_US = 5000000, LATE_US = 1000000 };
enum { HEARD_US = 500000, LOCK_US = 5000000, MOAN_US = 20000 };
/* A host is dead to the sender after TC_MS_SILENCE without a report. The last one came up to TC_MS_PROGRESS before the
 * silence began, the next needs its way, and the sender looks ten times a second. */
enum { SILENT_MS = TC_MS_SILENCE - 2 * TC_MS_PROGRESS };
enum { PLANTED_AFTER = 200 };

enum item_kind {
    IT_TICK,
    IT_ACCEPT, /* a dial reaches the other host */
    IT_UP,
    IT_FRAME,
    IT_DOWN,
    IT_EVENT,  /* the result of an action */
    IT_EXPIRE, /* a link waited too long for its key */
    IT_AGAIN   /* a fault of node goes on: what is its number */
};

struct item {
    uint64_t at, order;
    enum item_kind kind;
    unsigned node;
    struct conn *conn; /* and the end of it that this happens to */
    unsigned side;
    uint64_t departs; /* FRAME */
    unsigned what;
    bool local; /* DOWN: this end gives up, nothing has travelled */
    struct tc_event event;
    struct tc_err err;
};

struct end { /* one end of a connection */
    unsigned node;
    uint32_t link;
    bool open;
    bool lingers;
    uint64_t closed_at;
    uint64_t last;                   /* when the last thing under way arrives here */
    unsigned serving;                /* chunks handed to the link here that have not left */
    uint64_t given;                  /* bytes of all those ever */
    uint64_t busy, busy_until;       /* us with some of them on the way, the time to come among them */
    struct tc_bits pushed;           /* pages sent from here */
    struct tc_bits answered, wanted; /* by the other end */
};

struct conn {
    bool data, up, waits;
    uint8_t id[TC_LINK_ID_SIZE], key[TC_LINK_KEY_SIZE];
    uint64_t delay;
    struct end ends[2]; /* 0 dialled */
};

struct conns {
    struct conn **items;
    uint32_t count, capacity;
};

struct node {
    struct sim *sim;
    struct tc_agent *agent; /* hosts, once the control link is up */
    char address[32];
    uint64_t tick_at;
    unsigned stuck;
    uint64_t uplink_free, downlink_free;
    uint64_t stopped_until, cut_until; /* UINT64_MAX: for ever */
    bool slow, late, cut_off;          /* cut_off: its control link broke */
    unsigned again, plans;
    bool silent; /* dead or frozen */
    bool frozen;
    bool deaf, refuses, publish_fails, liar;
    struct hostile_host hostile;
    bool mute, hangs; /* mute: a sender that says nothing any more, and closes nothing. hangs: so does its disk */
    uint32_t corrupt, given, opens, news;
    uint32_t arrived;                       /* the sender's: chunks that have come from it */
    struct tc_bits pages;                   /* that have come */
    uint64_t offer_late;                    /* us that its offer was under way */
    struct tc_bits pages_then, chunks_then; /* for see_who_can */
    bool can_complete;                      /* without the sender */
    struct conns dialled, accepted;         /* by link number */
    struct tc_bits got;
    struct tc_bits older, left, in_place; /* chunks that are right in the published file, what was left, the new one */
    struct tc_bits rotten, rotted;        /* of in_place: changed since, ever changed */
    bool rots, warned;                    /* it was told that others doubt it before it was whole */
    bool allocated;
    struct sim_host_report report;
};

struct sim {
    struct sim_options options;
    uint64_t random;
    uint64_t now, orders;
    struct item **heap;
    size_t count, capacity;
    struct tc_coordinator *coordinator;
    struct tc_coordinator_config config;
    const char *hosts[SIM_HOSTS_MAX];
    struct node nodes[SIM_HOSTS_MAX + 1];
    struct conns all;
    struct tc_signer *signer, *origin;
    struct tc_verifier *trusted; /* the origin's key as the agents have it */
    struct tc_digest content;
    struct tc_bits digested;
    bool done[SIM_FAULTS_MAX];
    bool ended, planted;
    unsigned replans;
    uint64_t sender_ended_at;
    uint64_t ended_at; /* the last machine's end */
    struct tc_err why;
};

/* --- the least --- */

uint64_t sim_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t below(struct sim *sim, uint64_t limit)
{
    return limit ? sim_random(&sim->random) % limit : 0;
}

static const char *name_of(enum sim_fault_kind kind)
{
    static const char *const names[SIM_FAULT_KINDS] = {[SIM_NOTHING] = "nothing",
                                                       [SIM_UNREACHABLE] = "unreachable",
                                                       [SIM_DEAF] = "deaf",
                                                       [SIM_REFUSE] = "refuse",
                                                       [SIM_KILL] = "kill",
                                                       [SIM_FREEZE] = "freeze",
                                                       [SIM_CORRUPT] = "corrupt",
                                                       [SIM_LIAR] = "liar",
                                                       [SIM_CUT] = "cut",
                                                       [SIM_PUBLISH_FAILS] = "publish fails",
                                                       [SIM_OPEN_FAILS] = "open fails",
                                                       [SIM_SERVE_FAILS] = "serve fails",
                                                       [SIM_DIGEST_FAILS] = "digest fails",
                                                       [SIM_SOURCE_CHANGED] = "source changed",
                                                       [SIM_STOP] = "stop",
                                                       [SIM_TWIN] = "twin",
                                                       [SIM_PAUSE] = "pause",
                                                       [SIM_ISOLATE] = "isolate",
                                                       [SIM_SLOW] = "slow",
                                                       [SIM_FLAP] = "flap",
                                                       [SIM_LOSS] = "loss",
                                                       [SIM_LATE] = "late",
                                                       [SIM_ROT] = "rot",
                                                       [SIM_DROP] = "drop",
                                                       [SIM_MUTE] = "mute",
                                                       [SIM_RAISE] = "raise",
                                                       [SIM_MOAN] = "moan",
                                                       [SIM_TRICKLE] = "trickle",
                                                       [SIM_LOCKED] = "locked",
                                                       [SIM_STUCK] = "stuck",
                                                       [SIM_CHEAT] = "cheat"};
    return names[kind];
}

/* " kill h3 after 17, pause h5 after 0 for 900 ms" */
static const char *list_faults(const struct sim *sim, char *out, size_t size)
{
    size_t used = 0;
    *out = '\0';
    for (unsigned i = 0; i < SIM_FAULTS_MAX && used < size; i++) {
        const struct sim_fault *fault = &sim->options.faults[i];
        if (fault->kind != SIM_NOTHING)
            used += (size_t)snprintf(out + used, size - used, "%s %s h%u after %u", used ? "," : "",
                                     name_of(fault->kind), fault->host, fault->after);
        if ((fault->kind == SIM_PAUSE || fault->kind == SIM_ISOLATE) && used < size)
            used += (size_t)snprintf(out + used, size - used, " for %u ms", fault->for_ms);
    }
    return out;
}

static void begin_witness(const struct sim *sim)
{
    char line[1024], tree[32], faults[512];
    snprintf(line, sizeof line,
             "# %s, %u hosts, %u chunks, %s; faults:%s\n# again: TRACE=1 CK_RUN_CASE=%s LOOP=%u SEED=%" PRIu64 " %s",
             tcase_name(), sim->options.hosts, sim->options.chunks, tc_tree_print(sim->options.tree, tree),
             list_faults(sim, faults, sizeof faults), tcase_name(), sim->options.loop, sim->options.seed,
             program_invocation_name);
    sim_witness_begin(line);
}

void sim_fail(const struct sim *sim, const char *format, ...)
{
    char text[512], faults[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim_witness_tell();
    ck_abort_msg("seed %" PRIu64 " at %" PRIu64 " us: %s; faults:%s", sim->options.seed, sim->now, text,
                 list_faults(sim, faults, sizeof faults));
    abort();
}

/* Each ck_assert writes to a file; this is asked too often for that. */
static void *need(void *memory)
{
    if (!memory) {
        sim_witness_tell();
        ck_abort_msg("no memory");
    }
    return memory;
}

static bool earlier(const struct item *a, const struct item *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static struct item *push(struct sim *sim, uint64_t at, enum item_kind kind)
{
    if (sim->count == sim->capacity) {
        sim->capacity = sim->capacity ? 2 * sim->capacity : 1024;
        sim->heap = need(realloc(sim->heap, sim->capacity * sizeof(struct item *)));
    }
    struct item *item = need(calloc(1, sizeof *item));
    item->at = at;
    item->order = sim->orders++;
    item->kind = kind;
    size_t i = sim->count++;
    for (; i > 0 && earlier(item, sim->heap[(i - 1) / 2]); i = (i - 1) / 2)
        sim->heap[i] = sim->heap[(i - 1) / 2];
    return sim->heap[i] = item;
}

/* The earliest; the caller frees it. */
static struct item *pop(struct sim *sim)
{
    struct item *first = sim->heap[0], *item = sim->heap[--sim->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < sim->count; i = child) {
        if (child + 1 < sim->count && earlier(sim->heap[child + 1], sim->heap[child]))
            child++;
        if (!earlier(sim->heap[child], item))
            break;
        sim->heap[i] = sim->heap[child];
    }
    sim->heap[i] = item;
    return first;
}

/* --- content: nothing is hashed but what the machines hash themselves --- */

static struct tc_digest digest_of(const struct sim *sim, uint32_t chunk, uint8_t what)
{
    struct tc_digest digest;
    uint64_t state = sim->options.seed ^ (uint64_t)chunk << 8 ^ what;
    for (unsigned i = 0; i < TC_DIGEST_SIZE; i += 8) {
        uint64_t word = sim_random(&state);
        memcpy(digest.bytes + i, &word, 8);
    }
    return digest;
}

static void digest_content(struct sim *sim)
{
    struct tc_content *content = need(tc_content_new(NULL));
    for (uint32_t i = 0; i < sim->options.chunks; i++) {
        struct tc_digest block = digest_of(sim, i, 1);
        sim_assert(sim, tc_content_add(content, &block, 1, NULL) == 0);
    }
    sim_assert(sim, tc_content_end(content, &sim->content, NULL) == 0);
    tc_content_free(content);
}

/* What the machines say about themselves. */
static void show(void *arg, const char *line)
{
    const struct node *n = arg;
    sim_witness_note("# %9" PRIu64 " us %-8s %s", n->sim->now, n->address, line);
}

static int machine_random(void *arg, void *bytes, size_t size, struct tc_err *err)
{
    struct sim *sim = arg;
    (void)err;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)sim_random(&sim->random);
    return 0;
}

/* --- connections --- */

static void keep(struct conns *conns, uint32_t at, struct conn *conn)
{
    while (at >= conns->capacity) {
        uint32_t capacity = conns->capacity ? 2 * conns->capacity : 8;
        conns->items = need(realloc(conns->items, capacity * sizeof(struct conn *)));
        memset(conns->items + conns->capacity, 0, (capacity - conns->capacity) * sizeof(struct conn *));
        conns->capacity = capacity;
    }
    conns->items[at] = conn;
    if (at >= conns->count)
        conns->count = at + 1;
}

static struct end *find(struct sim *sim, unsigned node, uint32_t link, struct conn **conn, unsigned *side)
{
    struct node *n = &sim->nodes[node];
    *side = link >= TC_LINK_ACCEPTED;
    const struct conns *conns = *side ? &n->accepted : &n->dialled;
    uint32_t at = *side ? link - TC_LINK_ACCEPTED : link;
    *conn = at < conns->count ? conns->items[at] : NULL;
    if (!*conn)
        sim_fail(sim, "node %u names link %#x, which never was", node, link);
    return &(*conn)->ends[*side];
}

static uint64_t travel(struct sim *sim, const struct conn *conn)
{
    if (sim->nodes[conn->ends[0].node].late || sim->nodes[conn->ends[1].node].late)
        return conn->delay + below(sim, LATE_US) + 1;
    return conn->delay + below(sim, sim->options.delay_us) + 1;
}

/* Something arrives at side of conn, after all that is under way to it. */
static struct item *arrive(struct sim *sim, struct conn *conn, unsigned side, uint64_t at, enum item_kind kind)
{
    struct end *end = &conn->ends[side];
    if (at <= end->last)
        at = end->last + 1;
    end->last = at;
    struct item *item = push(sim, at, kind);
    item->node = end->node;
    item->conn = conn;
    item->side = side;
    return item;
}

static void bring_down_after(struct sim *sim, struct conn *conn, unsigned side, uint64_t after, int reason)
{
    struct item *item = arrive(sim, conn, side, sim->now + after + travel(sim, conn), IT_DOWN);
    item->err.reason = reason;
    snprintf(item->err.text, sizeof item->err.text, "%s", tc_reason_text(reason));
}

static void bring_down(struct sim *sim, struct conn *conn, unsigned side, int reason)
{
    bring_down_after(sim, conn, side, 0, reason);
}

/* This end is gone; the other hears of it in its turn. */
static void shut(struct sim *sim, struct conn *conn, unsigned side, bool lingers)
{
    struct end *end = &conn->ends[side];
    if (!end->open)
        return;
    end->open = false;
    end->lingers = lingers;
    end->closed_at = sim->now;
    if (conn->ends[!side].open)
        bring_down(sim, conn, !side, TC_E_CLOSED);
}

static unsigned node_at(const struct sim *sim, const char *address)
{
    for (unsigned i = 1; i <= sim->options.hosts; i++)
        if (strcmp(sim->nodes[i].address, address) == 0)
            return i;
    sim_fail(sim, "dials %s, which is nobody", address);
}

static void dial(struct sim *sim, unsigned from, const struct tc_action *action)
{
    unsigned to = node_at(sim, action->address);
    struct conn *conn = need(calloc(1, sizeof *conn));
    keep(&sim->all, sim->all.count, conn);
    conn->data = from != 0 || action->link >= sim->options.hosts;
    conn->delay = below(sim, sim->options.delay_us / 2 + 1);
    memcpy(conn->id, action->id, sizeof conn->id);
    memcpy(conn->key, action->key, sizeof conn->key);
    conn->ends[0] = (struct end){.node = from, .link = action->link, .open = true};
    conn->ends[1] = (struct end){.node = to};
    for (unsigned i = 0; i < 2; i++) {
        tc_bits_init(&conn->ends[i].pushed, sim->config.layout.pages, NULL);
        tc_bits_init(&conn->ends[i].answered, sim->config.layout.pages, NULL);
        tc_bits_init(&conn->ends[i].wanted, sim->config.layout.chunks, NULL);
    }
    struct conns *dialled = &sim->nodes[from].dialled;
    sim_assert(sim, action->link >= dialled->count || !dialled->items[action->link]);
    keep(dialled, action->link, conn);
    if (conn->data && sim->nodes[to].deaf)
        bring_down(sim, conn, 0, TC_E_UNREACHABLE);
    else
        arrive(sim, conn, 1, sim->now + travel(sim, conn), IT_ACCEPT);
}

/* --- the world carries actions out --- */

static void result(struct sim *sim, unsigned node, uint64_t after, enum tc_event_kind kind, uint32_t link,
                   uint32_t chunk, int reason)
{
    struct item *item = push(sim, sim->now + after, IT_EVENT);
    item->node = node;
    item->event = (struct tc_event){.kind = kind, .link = link, .chunk = chunk};
    item->err.reason = reason;
    snprintf(item->err.text, sizeof item->err.text, "%s", tc_reason_text(reason));
}

static const struct sim_fault *fault_of(const struct sim *sim, unsigned node, enum sim_fault_kind kind)
{
    for (unsigned i = 0; i < SIM_FAULTS_MAX; i++)
        if (sim->options.faults[i].kind == kind && sim->options.faults[i].host == node)
            return &sim->options.faults[i];
    return NULL;
}

static bool failing(const struct sim *sim, unsigned node, enum sim_fault_kind kind, uint32_t count)
{
    const struct sim_fault *fault = fault_of(sim, node, kind);
    return fault && count >= fault->after;
}

/* A pushed page is open until the child has answered it and has all that it wants of it. After a loss a child may want
 * more of pages that were settled; then only the answers count. */
static void check_window(struct sim *sim, struct end *end, const struct tc_blob *body)
{
    struct tc_message message;
    unsigned open = 0;
    bool perfect = sim->options.faults[0].kind == SIM_NOTHING;
    sim_assert(sim, tc_message_unpack(&message, TC_MSG_PAGE, body->bytes, body->size, NULL) == 0);
    sim_assert(sim, tc_bits_add(&end->pushed, message.page.index));
    for (uint32_t page = 0; page <= message.page.index; page++) {
        bool wanted = perfect && end->wanted.size && tc_bits_page(&end->wanted, page);
        open += tc_bits_has(&end->pushed, page) && (wanted || !tc_bits_has(&end->answered, page));
    }
    if (open > TC_FEED_WINDOW)
        sim_fail(sim, "node %u has %u pages open on link %#x", end->node, open, end->link);
}

/* A wire has changed its number: it arrives, and means nothing to anybody. */
static bool dropped(struct sim *sim, const struct conn *conn, uint8_t type)
{
    bool flaky = fault_of(sim, conn->ends[0].node, SIM_DROP) || fault_of(sim, conn->ends[1].node, SIM_DROP);
    return flaky && (type == TC_MSG_WANT || type == TC_MSG_CHUNK) && below(sim, 8) == 0;
}

/* What a host or sender that means harm makes of the message. */
static struct tc_blob *misused(struct sim *sim, unsigned node, bool control, const struct tc_action *action)
{
    struct node *n = &sim->nodes[node];
    const struct sim_fault *cheat = node == 0 ? fault_of(sim, 0, SIM_CHEAT) : NULL;
    n->mute |= cheat && hostile_silent_from((enum hostile_cheat)cheat->after, action->type, action->body);
    if (!n->mute)
        return hostile_say(&n->hostile, control, action->type, action->body);
    tc_blob_unref(action->body);
    return NULL;
}

static void send_frame(struct sim *sim, unsigned node, const struct tc_action *action)
{
    struct conn *conn;
    unsigned side;
    struct end *end = find(sim, node, action->link, &conn, &side);
    if (!end->open)
        sim_fail(sim, "node %u sends a %s on a link that is gone", node, tc_message_name(action->type));
    if (!conn->up && side == 0) { /* last words to a host that was not reached yet */
        sim_assert(sim, !conn->data);
        tc_blob_unref(action->body);
        return;
    }
    if (action->type == TC_MSG_PAGE)
        check_window(sim, end, action->body);
    if (dropped(sim, conn, action->type)) {
        tc_blob_unref(action->body);
        return;
    }
    struct tc_blob *body = misused(sim, node, !conn->data, action);
    if (!body)
        return;
    struct item *item = arrive(sim, conn, !side, sim->now + travel(sim, conn), IT_FRAME);
    item->departs = sim->now;
    item->event = (struct tc_event){.kind = TC_EV_FRAME, .type = action->type, .body = body};
}

static bool verified(const struct sim *sim, unsigned node, uint32_t chunk)
{
    return node == 0 ? tc_bits_has(&sim->digested, chunk) : tc_agent_has(sim->nodes[node].agent, chunk);
}

static struct tc_blob *chunk_body(struct sim *sim, unsigned node, uint32_t chunk)
{
    struct node *n = &sim->nodes[node];
    bool good = !n->liar && n->corrupt == 0 && !(n->rots && tc_bits_has(&n->rotten, chunk));
    if (n->corrupt > 0)
        n->corrupt--;
    uint32_t length = tc_chunk_length(&sim->config.layout, chunk);
    struct tc_blob *body = need(tc_blob_new(NULL, TC_CHUNK_HEAD + 5));
    struct tc_buf buf = tc_buf_writer(body->bytes + TC_CHUNK_HEAD, 5);
    tc_chunk_head(body->bytes, chunk, length, TC_FORM_ZSTD);
    tc_buf_put32(&buf, chunk);
    tc_buf_put8(&buf, good);
    return body;
}

static uint64_t rate_of(const struct sim *sim, const struct node *n)
{
    return n->slow ? sim->options.rate / 10 + 1 : sim->options.rate;
}

static void serve(struct sim *sim, unsigned node, const struct tc_action *action)
{
    struct node *n = &sim->nodes[node];
    struct conn *conn;
    unsigned side;
    struct end *end = find(sim, node, action->link, &conn, &side);
    if (!verified(sim, node, action->chunk))
        sim_fail(sim, "node %u serves chunk %u before it is verified", node, action->chunk);
    sim_assert(sim, end->open && conn->data);
    sim_assert(sim, tc_bits_remove(&end->wanted, action->chunk));
    sim_assert(sim, ++end->serving <= DEPTH);
    if (failing(sim, node, SIM_SERVE_FAILS, n->given)) {
        result(sim, node, 1, TC_EV_SERVED, action->link, action->chunk, TC_E_IO);
        return;
    }
    n->given++;
    uint64_t start = n->uplink_free > sim->now ? n->uplink_free : sim->now;
    uint32_t length = tc_chunk_length(&sim->config.layout, action->chunk);
    const struct sim_fault *trickle = fault_of(sim, node, SIM_TRICKLE);
    n->uplink_free = start + length * UINT64_C(1000000) / rate_of(sim, n) + 1;
    n->uplink_free += trickle ? trickle->for_ms * UINT64_C(1000) : 0;
    uint64_t there = n->uplink_free;
    struct node *to = &sim->nodes[conn->ends[!side].node];
    if (to->slow) { /* the sender feels it: what it hands over next waits for this */
        there = there > to->downlink_free ? there : to->downlink_free;
        there = to->downlink_free = there + length * UINT64_C(1000000) / rate_of(sim, to);
    }
    if (!n->mute && !dropped(sim, conn, TC_MSG_CHUNK)) {
        struct item *item = arrive(sim, conn, !side, there + travel(sim, conn), IT_FRAME);
        item->departs = n->uplink_free;
        item->event = (struct tc_event){.kind = TC_EV_FRAME, .type = TC_MSG_CHUNK};
        item->event.body = chunk_body(sim, node, action->chunk);
    }
    uint64_t idle_until = end->busy_until > sim->now ? end->busy_until : sim->now;
    if (there > idle_until) {
        end->busy += there - idle_until;
        end->busy_until = there;
    }
    end->given += length;
    result(sim, node, there - sim->now, TC_EV_SERVED, action->link, action->chunk, 0);
}

static void open_chunk(struct sim *sim, unsigned node, const struct tc_action *action)
{
    struct tc_message message;
    struct tc_err err = {0};
    int status = tc_message_unpack(&message, TC_MSG_CHUNK, action->body->bytes, action->body->size, &err);
    sim_assert(sim, status == 0 && message.chunk.index == action->chunk && message.chunk.payload_size == 5);
    struct tc_buf buf = tc_buf_reader(message.chunk.payload, 5);
    struct tc_digest digest = digest_of(sim, tc_buf_get32(&buf), 0);
    bool good = tc_digest_equal(&digest, &action->digest) && tc_buf_get8(&buf) == 1;
    int reason = good ? 0 : TC_E_INTEGRITY;
    if (failing(sim, node, SIM_OPEN_FAILS, sim->nodes[node].opens++))
        reason = TC_E_NOSPACE;
    sim_assert(sim, reason || !tc_agent_has(sim->nodes[node].agent, action->chunk));
    result(sim, node, 50 + below(sim, 1000), TC_EV_OPENED, action->link, action->chunk, reason);
    tc_blob_unref(action->body);
}

/* Data links that wait for their key: let in those that it is known of now. */
static void admit(struct sim *sim, struct conn *conn)
{
    struct node *n = &sim->nodes[conn->ends[1].node];
    uint8_t key[TC_LINK_KEY_SIZE];
    int known = sim->options.tls ? tc_agent_link_key(n->agent, conn->id, key) : 1;
    conn->waits = known < 0;
    if (known < 0)
        return;
    if (known == 0) {
        bring_down(sim, conn, 0, TC_E_AUTH);
        return;
    }
    sim_assert(sim, !sim->options.tls || memcmp(key, conn->key, sizeof key) == 0);
    conn->ends[1].open = true;
    arrive(sim, conn, 0, sim->now + travel(sim, conn), IT_UP);
}

static void expect(struct sim *sim, unsigned node)
{
    for (uint32_t i = 0; i < sim->nodes[node].accepted.count; i++) {
        struct conn *conn = sim->nodes[node].accepted.items[i];
        if (conn->waits && conn->ends[0].open)
            admit(sim, conn);
    }
}

static bool has_old(enum sim_here here)
{
    return here == SIM_HERE_SAME || here == SIM_HERE_OLDER || here == SIM_HERE_BOTH || here == SIM_HERE_ALTERED;
}

static bool has_left(enum sim_here here)
{
    return here == SIM_HERE_LEFT || here == SIM_HERE_BOTH;
}

static void prepare(struct sim *sim, unsigned node)
{
    struct node *n = &sim->nodes[node];
    bool old = has_old(n->report.here);
    n->allocated = !old;
    struct item *item = push(sim, sim->now + 100 + below(sim, 20000), IT_EVENT);
    item->node = node;
    item->event = (struct tc_event){.kind = TC_EV_PREPARED};
    item->event.flags = (old ? TC_PREPARED_EXISTS | TC_PREPARED_LATER : 0) |
                        (n->report.here != SIM_HERE_NOTHING ? TC_PREPARED_COMPARE : 0);
    item->err.reason = n->refuses ? TC_E_NOSPACE : 0;
}

static void allocate(struct sim *sim, unsigned node)
{
    struct node *n = &sim->nodes[node];
    sim_assert(sim, !n->allocated && sim->options.flags & TC_OFFER_FORCE);
    if (n->report.here == SIM_HERE_ALTERED)
        tc_bits_remove(&n->older, (uint32_t)below(sim, sim->options.chunks));
    n->report.found = 0;
    n->report.chunks = 0;
    n->allocated = true;
    result(sim, node, 100 + below(sim, 20000), TC_EV_ALLOCATED, 0, 0, 0);
}

/* What was placed is read back. */
static void check_placed(struct sim *sim, unsigned node, uint32_t chunk)
{
    struct node *n = &sim->nodes[node];
    sim_assert(sim, n->warned && n->allocated && tc_bits_has(&n->in_place, chunk));
    struct item *item = push(sim, sim->now + 50 + below(sim, 1000), IT_EVENT);
    item->node = node;
    item->event = (struct tc_event){.kind = TC_EV_COMPARED, .chunk = chunk, .host = CHECKED};
    item->event.flags = !(n->rots && tc_bits_has(&n->rotten, chunk));
}

static void compare(struct sim *sim, unsigned node, const struct tc_action *action)
{
    struct node *n = &sim->nodes[node];
    struct tc_digest digest = digest_of(sim, action->chunk, 0);
    sim_assert(sim, tc_digest_equal(&digest, &action->digest));
    if (action->flags & TC_COMPARE_PLACED) {
        check_placed(sim, node, action->chunk);
        return;
    }
    bool found = tc_bits_has(&n->older, action->chunk) || (n->allocated && tc_bits_has(&n->left, action->chunk));
    if (found && n->allocated)
        tc_bits_add(&n->in_place, action->chunk);
    struct item *item = push(sim, sim->now + 50 + below(sim, 1000), IT_EVENT);
    item->node = node;
    item->event = (struct tc_event){.kind = TC_EV_COMPARED, .chunk = action->chunk, .flags = found};
}

static void publish(struct sim *sim, unsigned node, const struct tc_action *action)
{
    struct node *n = &sim->nodes[node];
    sim_assert(sim, (n->allocated ? &n->in_place : &n->older)->count == sim->options.chunks && !n->report.published);
    sim_assert(sim, tc_digest_equal(&action->digest, &sim->content));
    /* The accepted limit (treecast-replan(7), what it does not do): a host whose memory or disk changes bytes after they
     * were verified, and of which nobody has complained until it is whole, publishes them. */
    sim_assert(sim, !n->warned || n->rotten.count == 0);
    if (fault_of(sim, node, SIM_LOCKED))
        result(sim, node, LOCK_US, TC_EV_PUBLISHED, 0, 0, TC_E_BUSY);
    else if (fault_of(sim, node, SIM_STUCK))
        n->hangs = true;
    else
        result(sim, node, 100 + below(sim, 5000), TC_EV_PUBLISHED, 0, 0, n->publish_fails ? TC_E_EXISTS : 0);
}

static void close_end(struct sim *sim, unsigned node, const struct tc_action *action)
{
    struct conn *conn;
    unsigned side;
    struct end *end = find(sim, node, action->link, &conn, &side);
    if (!end->open)
        sim_fail(sim, "node %u closes link %#x twice", node, action->link);
    if (sim->nodes[node].mute) {
        end->open = false; /* and nobody hears of it */
        return;
    }
    shut(sim, conn, side, action->linger > 0);
}

static void end_node(struct sim *sim, unsigned node, const struct tc_action *action)
{
    struct node *n = &sim->nodes[node];
    sim_assert(sim, !n->report.ended);
    n->report.ended = true;
    n->report.why = action->err;
    n->report.ended_at = sim->now;
    sim->ended_at = sim->now;
    if (node != 0)
        return;
    sim->ended = true;
    sim->sender_ended_at = sim->now;
    sim->why = action->err;
    for (unsigned i = 0; i < sim->options.hosts; i++) {
        sim_assert(sim, tc_coordinator_host(sim->coordinator, i)->phase == TC_PHASE_ENDED);
        sim_assert(sim, sim->nodes[i + 1].news == 1);
    }
}

static void act(struct sim *sim, unsigned node, const struct tc_action *action)
{
    int changed;
    switch (action->kind) {
    case TC_ACT_DIAL:
        dial(sim, node, action);
        break;
    case TC_ACT_SEND:
        send_frame(sim, node, action);
        break;
    case TC_ACT_SERVE:
        serve(sim, node, action);
        break;
    case TC_ACT_CLOSE:
        close_end(sim, node, action);
        break;
    case TC_ACT_EXPECT:
        expect(sim, node);
        break;
    case TC_ACT_PREPARE:
        prepare(sim, node);
        break;
    case TC_ACT_ALLOCATE:
        allocate(sim, node);
        break;
    case TC_ACT_COMPARE:
        compare(sim, node, action);
        break;
    case TC_ACT_OPEN:
        open_chunk(sim, node, action);
        break;
    case TC_ACT_PUBLISH:
        publish(sim, node, action);
        break;
    case TC_ACT_DIGEST:
        result(sim, node, 20 + below(sim, 500), TC_EV_DIGESTED, 0, action->chunk,
               failing(sim, 0, SIM_DIGEST_FAILS, action->chunk) ? TC_E_SOURCE : 0);
        break;
    case TC_ACT_CHECK:
        changed = fault_of(sim, 0, SIM_SOURCE_CHANGED) ? TC_E_SOURCE : 0;
        result(sim, node, 100, TC_EV_CHECKED, 0, 0, changed);
        break;
    case TC_ACT_NEWS:
        if (action->host != TC_NO_RANK)
            sim->nodes[action->host + 1].news++;
        break;
    case TC_ACT_REPLAN:
        sim->replans++;
        break;
    case TC_ACT_WARN:
        sim_assert(sim, false); /* all of them are honest: nobody asks for more than its share, or is elsewhere */
        break;
    case TC_ACT_END:
        end_node(sim, node, action);
        break;
    }
}

/* --- the machines --- */

static bool take(struct sim *sim, unsigned node, struct tc_action *action)
{
    return node == 0 ? tc_coordinator_take(sim->coordinator, action) : tc_agent_take(sim->nodes[node].agent, action);
}

static void set_tick(struct sim *sim, unsigned node)
{
    struct node *n = &sim->nodes[node];
    uint64_t wake = node == 0 ? tc_coordinator_wake(sim->coordinator) : tc_agent_wake(n->agent);
    if (wake == UINT64_MAX) {
        n->tick_at = 0;
        return;
    }
    uint64_t at = wake * 1000 > sim->now ? wake * 1000 : sim->now;
    if (n->tick_at == at)
        return;
    n->stuck = at == sim->now ? n->stuck + 1 : 0;
    sim_assert(sim, n->stuck < 1000);
    n->tick_at = at;
    push(sim, at, IT_TICK)->node = node;
}

static void pump(struct sim *sim, unsigned node)
{
    struct tc_action action;
    unsigned count = 0;
    while (take(sim, node, &action)) {
        if (sim->nodes[node].report.ended)
            sim_fail(sim, "node %u has action %d after its end", node, action.kind);
        act(sim, node, &action);
        count++;
    }
    sim_assert(sim, count < 512 + 16 * sim->options.hosts + sim->options.chunks);
    set_tick(sim, node);
}

static void cut(struct sim *sim, unsigned node, bool all)
{
    for (uint32_t i = 0; i < sim->all.count; i++) {
        struct conn *conn = sim->all.items[i];
        for (unsigned side = 0; side < 2; side++) {
            if (conn->ends[side].node != node || !(all || conn->data) || !conn->up)
                continue;
            if (all)
                shut(sim, conn, side, false);
            else if (conn->ends[0].open && conn->ends[1].open) {
                bring_down(sim, conn, 0, TC_E_CLOSED);
                bring_down(sim, conn, 1, TC_E_CLOSED);
            }
        }
    }
}

static void happen(struct sim *sim, unsigned node, const struct sim_fault *fault);

/* What is to happen to this node once it has so many chunks. */
static void watch(struct sim *sim, unsigned node)
{
    struct node *n = &sim->nodes[node];
    bool begun =
        node == 0 ? tc_coordinator_planned_at(sim->coordinator) != 0 : tc_agent_state(n->agent) >= TC_AGENT_FILLING;
    for (unsigned i = 0; i < SIM_FAULTS_MAX; i++) {
        const struct sim_fault *fault = &sim->options.faults[i];
        if (fault->kind == SIM_NOTHING || fault->host != node || sim->done[i] || !begun)
            continue;
        if ((node ? n->report.chunks : n->arrived) < fault->after)
            continue;
        sim->done[i] = true;
        happen(sim, node, fault);
    }
}

/* As the sender's sockets would have it. */
static void tell_flows(struct sim *sim)
{
    const struct conns *dialled = &sim->nodes[0].dialled;
    for (uint32_t i = 0; i < dialled->count; i++) {
        const struct conn *conn = dialled->items[i];
        const struct end *end = conn && conn->data ? &conn->ends[0] : NULL;
        if (!end || !end->open || !conn->up)
            continue;
        struct tc_event event = {.kind = TC_EV_FLOW, .link = end->link};
        uint64_t left = (uint64_t)end->serving * CHUNK_SIZE; /* the last one may be shorter */
        event.arrived = end->given > left ? end->given - left : 0;
        event.busy = end->busy - (end->busy_until > sim->now ? end->busy_until - sim->now : 0);
        tc_coordinator_event(sim->coordinator, &event, sim->now / 1000);
    }
}

static void tell(struct sim *sim, unsigned node, const struct tc_event *event)
{
    struct node *n = &sim->nodes[node];
    if (n->silent || (node != 0 && !n->agent))
        return;
    if (node == 0 && event->kind == TC_EV_TICK)
        tell_flows(sim);
    if (node == 0)
        tc_coordinator_event(sim->coordinator, event, sim->now / 1000);
    else
        tc_agent_event(n->agent, event, sim->now / 1000);
    pump(sim, node);
    if (event->kind != TC_EV_STOP)
        watch(sim, node);
}

/* One of the node's links breaks. A host without its control link is lost to the sender. */
static void break_one(struct sim *sim, unsigned node)
{
    uint32_t first = (uint32_t)below(sim, sim->all.count);
    for (uint32_t i = 0; i < sim->all.count; i++) {
        struct conn *conn = sim->all.items[(first + i) % sim->all.count];
        bool its = conn->ends[0].node == node || conn->ends[1].node == node;
        if (!its || !conn->up || !conn->ends[0].open || !conn->ends[1].open)
            continue;
        sim->nodes[conn->ends[1].node].cut_off |= !conn->data;
        sim_witness_note("# %9" PRIu64 " us a %s link of h%u and h%u breaks", sim->now, conn->data ? "data" : "control",
                         conn->ends[0].node, conn->ends[1].node);
        bring_down(sim, conn, 0, TC_E_CLOSED);
        bring_down(sim, conn, 1, TC_E_CLOSED);
        return;
    }
}

/* Links outlast a short silence; after five seconds both ends give up, each for itself. */
static void isolate(struct sim *sim, unsigned node, uint64_t ms)
{
    sim->nodes[node].cut_until = ms ? sim->now + ms * 1000 : UINT64_MAX;
    for (uint32_t i = 0; i < sim->all.count && (ms == 0 || ms >= 5000); i++) {
        struct conn *conn = sim->all.items[i];
        if (conn->ends[0].node != node && conn->ends[1].node != node)
            continue;
        for (unsigned side = 0; side < 2; side++) {
            struct item *item = push(sim, sim->now + CONNECT_US + below(sim, 500000), IT_DOWN);
            item->node = conn->ends[side].node;
            item->conn = conn;
            item->side = side;
            item->local = true;
            item->err.reason = TC_E_TIMEOUT;
            snprintf(item->err.text, sizeof item->err.text, "timed out");
        }
    }
}

/* --- hosts without a sender --- */

/* The pages that a parent gives in tree t, or in all (TC_TREES_MAX): its window stands at a chunk that neither has. */
static uint32_t pages_given(const struct sim *sim, const struct node *child, const struct node *parent, unsigned t)
{
    unsigned trees = tc_agent_trees(child->agent);
    uint32_t chunk = 0;
    while (chunk < sim->options.chunks &&
           (tc_bits_has(&parent->chunks_then, chunk) || tc_bits_has(&child->chunks_then, chunk) ||
            (t < trees && chunk % trees != t)))
        chunk++;
    return chunk < sim->options.chunks ? chunk / TC_PAGE_CHUNKS + TC_FEED_WINDOW : UINT32_MAX;
}

/* What parent has its child gets, in time. */
static bool inherit(const struct sim *sim, struct node *child, const struct node *parent, unsigned t)
{
    bool more = false;
    uint32_t given = pages_given(sim, child, parent, t);
    for (uint32_t page = 0; page < sim->config.layout.pages && page < given; page++)
        more |= tc_bits_has(&parent->pages_then, page) && tc_bits_add(&child->pages_then, page);
    for (uint32_t chunk = 0; chunk < sim->options.chunks && chunk / TC_PAGE_CHUNKS < given; chunk++)
        more |= tc_bits_has(&parent->chunks_then, chunk) && tc_bits_add(&child->chunks_then, chunk);
    return more;
}

static struct node *node_of_rank(struct sim *sim, uint32_t rank)
{
    for (unsigned i = 1; i <= sim->options.hosts; i++)
        if (sim_view(sim, i)->rank == rank && rank != 0)
            return &sim->nodes[i];
    return NULL;
}

static bool lives(const struct node *n)
{
    return n->agent && !n->silent && !n->report.ended;
}

static const struct node *living_parent(struct sim *sim, const struct node *n, unsigned t)
{
    struct tc_agent_place place = tc_agent_place(n->agent, t);
    const struct node *parent = place.up ? node_of_rank(sim, place.parent) : NULL;
    return parent && lives(parent) ? parent : NULL;
}

static bool ask_parents(struct sim *sim, struct node *n)
{
    const struct node *parents[TC_TREES_MAX] = {0};
    unsigned trees = lives(n) ? tc_agent_trees(n->agent) : 0, count = 0;
    bool more = false;
    for (unsigned t = 0; t < trees; t++)
        count += (parents[t] = living_parent(sim, n, t)) != NULL;
    for (unsigned t = 0; t < trees; t++)
        more |= parents[t] && inherit(sim, n, parents[t], count == trees ? t : TC_TREES_MAX);
    return more;
}

/* The sender is dead, and nothing else happens to anybody from now on: who can complete, by what hosts have and by the
 * links that stand? */
static void see_who_can(struct sim *sim)
{
    bool more = true;
    for (unsigned i = 1; i <= sim->options.hosts; i++) {
        struct node *n = &sim->nodes[i];
        /* what is changed under its hands it may lose */
        bool keeps = lives(n) && (n->report.here != SIM_HERE_ALTERED || n->report.published);
        for (uint32_t chunk = 0; keeps && chunk < sim->options.chunks; chunk++)
            if (tc_agent_state(n->agent) >= TC_AGENT_FILLING && tc_agent_has(n->agent, chunk))
                tc_bits_add(&n->chunks_then, chunk);
        for (uint32_t page = 0; page < sim->config.layout.pages; page++)
            if (tc_bits_has(&n->pages, page))
                tc_bits_add(&n->pages_then, page);
    }
    while (more) {
        more = false;
        for (unsigned i = 1; i <= sim->options.hosts; i++)
            more |= ask_parents(sim, &sim->nodes[i]);
    }
    for (unsigned i = 1; i <= sim->options.hosts; i++) {
        struct node *n = &sim->nodes[i];
        n->can_complete =
            lives(n) && n->chunks_then.count == sim->options.chunks && n->pages_then.count == sim->config.layout.pages;
        tc_bits_free(&n->chunks_then);
        tc_bits_free(&n->pages_then);
        tc_bits_init(&n->chunks_then, sim->options.chunks, NULL);
        tc_bits_init(&n->pages_then, sim->config.layout.pages, NULL);
    }
}

static void again(struct sim *sim, unsigned node, enum sim_fault_kind what)
{
    struct item *item = push(sim, sim->now + 100000 + below(sim, 3000000), IT_AGAIN);
    item->node = node;
    item->what = what;
}

/* It complains of whoever is its parent now, and of what it once had. */
static void moan(struct sim *sim, unsigned node)
{
    struct node *n = &sim->nodes[node];
    struct tc_message message = {.type = TC_MSG_COMPLAIN};
    struct end *control = &n->accepted.items[0]->ends[1];
    if (sim->ended || n->report.ended)
        return;
    unsigned t = (unsigned)below(sim, tc_agent_trees(n->agent));
    message.complaint = (struct tc_msg_complaint){.epoch = tc_agent_epoch(n->agent), .tree = (uint8_t)t};
    message.complaint.rank = tc_agent_place(n->agent, t).parent;
    message.complaint.reason = below(sim, 2) ? TC_E_INTEGRITY : TC_E_CLOSED;
    if (below(sim, 4) == 0)
        message.complaint.rank = (uint32_t)below(sim, sim->options.hosts + 1);
    struct tc_action action = {.kind = TC_ACT_SEND, .link = control->link, .type = message.type};
    action.body = control->open ? need(tc_message_pack(&message, NULL, NULL)) : NULL;
    if (action.body)
        send_frame(sim, node, &action);
    struct item *item = push(sim, sim->now + MOAN_US, IT_AGAIN);
    item->node = node;
    item->what = SIM_MOAN;
}

static void on_again(struct sim *sim, const struct item *item)
{
    struct node *n = &sim->nodes[item->node];
    if (item->what == SIM_MOAN) {
        moan(sim, item->node);
        return;
    }
    unsigned most = item->what == SIM_FLAP ? 201 : 1; /* fast in the end */
    if (item->what == SIM_KILL) {
        see_who_can(sim);
        return;
    }
    if (n->again++ >= most || sim->ended)
        return;
    if (item->what == SIM_FLAP)
        n->slow = !n->slow;
    else
        break_one(sim, item->node);
    again(sim, item->node, (enum sim_fault_kind)item->what);
}

static void happen(struct sim *sim, unsigned node, const struct sim_fault *fault)
{
    struct tc_err why = {.reason = TC_E_INTERRUPTED, .text = "stopped"};
    struct tc_event stop = {.kind = TC_EV_STOP, .err = &why};
    sim_witness_note("# %9" PRIu64 " us %-8s fault: %s", sim->now, sim->nodes[node].address, name_of(fault->kind));
    switch (fault->kind) {
    case SIM_PAUSE:
        sim->nodes[node].stopped_until = sim->now + fault->for_ms * UINT64_C(1000);
        break;
    case SIM_ISOLATE:
        isolate(sim, node, fault->for_ms);
        break;
    case SIM_SLOW:
        sim->nodes[node].slow = true;
        break;
    case SIM_LATE:
        sim->nodes[node].late = true;
        break;
    case SIM_LOSS:
        break_one(sim, node);
        again(sim, node, SIM_LOSS);
        break;
    case SIM_FLAP:
        sim->nodes[node].slow = true;
        again(sim, node, SIM_FLAP);
        break;
    case SIM_KILL:
        sim->nodes[node].silent = sim->nodes[node].report.dead = true;
        cut(sim, node, true);
        break;
    case SIM_FREEZE:
        sim->nodes[node].silent = sim->nodes[node].frozen = sim->nodes[node].report.dead = true;
        break;
    case SIM_CUT:
        cut(sim, node, false);
        break;
    case SIM_MOAN:
        moan(sim, node);
        break;
    case SIM_STOP:
        tell(sim, node, &stop);
        break;
    default:
        break;
    }
    if (sim->nodes[0].report.dead) { /* once all have heard of it */
        struct item *item = push(sim, sim->now + HEARD_US, IT_AGAIN);
        item->what = SIM_KILL;
    }
}

/* --- what happens --- */

/* A node's end of its control link. */
static struct tc_destination destination_of(const struct sim *sim, unsigned node)
{
    struct tc_destination to = {0};
    snprintf(to.address, sizeof to.address, "%s", sim->nodes[node].address);
    memcpy(to.channel, &node, sizeof node);
    return to;
}

static void make_agent(struct sim *sim, unsigned node, uint32_t link)
{
    struct node *n = &sim->nodes[node];
    const struct sim_fault *twin = fault_of(sim, node, SIM_TWIN);
    struct tc_agent_config config = {.origin = sim->trusted, .here = destination_of(sim, node)};
    uint32_t who = twin ? twin->after : node;
    config.trace = show;
    config.trace_arg = n;
    if (node % 2)
        config.address = n->address; /* the others are reached where the coordinator dialled */
    memcpy(config.instance, &who, sizeof who);
    machine_random(sim, config.nonce, sizeof config.nonce, NULL);
    n->agent = need(tc_agent_new(&config, link, sim->now / 1000, NULL));
}

static void on_accept(struct sim *sim, struct conn *conn)
{
    unsigned node = conn->ends[1].node;
    struct node *n = &sim->nodes[node];
    if (!conn->ends[0].open)
        return;
    if (n->frozen) {
        bring_down_after(sim, conn, 0, HANDSHAKE_US, TC_E_TIMEOUT);
        return;
    }
    if (n->silent || n->report.ended || (conn->data && !n->agent)) {
        bring_down(sim, conn, 0, TC_E_UNREACHABLE);
        return;
    }
    conn->ends[1].link = TC_LINK_ACCEPTED + n->accepted.count;
    keep(&n->accepted, n->accepted.count, conn);
    if (conn->data) {
        admit(sim, conn);
        if (conn->waits)
            push(sim, sim->now + HOLD_US, IT_EXPIRE)->conn = conn;
        return;
    }
    conn->ends[1].open = true;
    arrive(sim, conn, 0, sim->now + travel(sim, conn), IT_UP);
    make_agent(sim, node, conn->ends[1].link);
    pump(sim, node);
}

static void note(struct sim *sim, struct conn *conn, unsigned side, const struct tc_event *event)
{
    struct node *n = &sim->nodes[conn->ends[side].node];
    n->plans += event->type == TC_MSG_PLAN;
    sim->nodes[0].arrived += event->type == TC_MSG_CHUNK && conn->ends[!side].node == 0;
    struct end *end = &conn->ends[side];
    struct tc_message message;
    if (tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, NULL) < 0)
        sim_fail(sim, "a malformed %s", tc_message_name(event->type));
    if (event->type == TC_MSG_PLAN && tc_agent_state(n->agent) <= TC_AGENT_FILLING)
        n->warned |= message.plan.rows[0].parent.flags & TC_LINK_DOUBTED;
    if (event->type == TC_MSG_PAGE)
        tc_bits_add(&n->pages, message.page.index);
    if (event->type == TC_MSG_CHUNK) {
        n->report.received++;
        n->report.duplicates += !tc_bits_add(&n->got, message.chunk.index);
    }
    if (event->type != TC_MSG_WANT && event->type != TC_MSG_CANCEL)
        return;
    if (event->type == TC_MSG_WANT)
        tc_bits_add(&end->answered, message.want.page);
    for (uint64_t left = message.want.chunks; left; left &= left - 1) {
        uint32_t chunk = tc_page_first(message.want.page) + (uint32_t)__builtin_ctzll(left);
        if (event->type == TC_MSG_WANT)
            tc_bits_add(&end->wanted, chunk);
        else
            tc_bits_remove(&end->wanted, chunk);
    }
}

/* With TRACE=2 every message: what, from whom to whom. */
static void show_frame(const struct sim *sim, const struct item *item)
{
    const struct end *to = &item->conn->ends[item->side], *from = &item->conn->ends[!item->side];
    struct tc_message message;
    char what[64] = "";
    const char *level = getenv("TRACE");
    if (!level || *level < '2' || (item->event.type == TC_MSG_PROGRESS && *level < '3'))
        return;
    tc_message_unpack(&message, item->event.type, item->event.body->bytes, item->event.body->size, NULL);
    if (message.type == TC_MSG_CHUNK)
        snprintf(what, sizeof what, "%u", message.chunk.index);
    else if (message.type == TC_MSG_PAGE)
        snprintf(what, sizeof what, "%u", message.page.index);
    else if (message.type == TC_MSG_WANT || message.type == TC_MSG_CANCEL)
        snprintf(what, sizeof what, "%u: %016" PRIx64, message.want.page, message.want.chunks);
    else if (message.type == TC_MSG_COMPLAIN)
        snprintf(what, sizeof what, "of %u in tree %u: %s", message.complaint.rank, message.complaint.tree,
                 tc_reason_text(message.complaint.reason));
    fprintf(stderr, "# %9" PRIu64 " us h%u -> h%u %s %s\n", sim->now, from->node, to->node,
            tc_message_name(item->event.type), what);
}

static void on_frame(struct sim *sim, struct item *item)
{
    struct end *to = &item->conn->ends[item->side], *from = &item->conn->ends[!item->side];
    bool left = from->open || from->lingers || item->departs <= from->closed_at;
    if (to->open && left && sim->nodes[to->node].report.ended)
        shut(sim, item->conn, item->side, false);
    if (to->open && left) {
        show_frame(sim, item);
        note(sim, item->conn, item->side, &item->event);
        if (item->event.type == TC_MSG_OFFER)
            sim->nodes[to->node].offer_late = sim->now - item->departs;
        item->event.link = to->link;
        tell(sim, to->node, &item->event);
        if (from->node == 0 && item->event.type == TC_MSG_CHUNK && !sim->nodes[0].silent)
            watch(sim, 0);
        bool may = sim->nodes[to->node].report.ended || sim->nodes[to->node].silent || sim->nodes[to->node].mute;
        if (item->conn->data && !to->open && !may) /* a sender that cheats is asked for the same for ever */
            sim_fail(sim, "node %u closes link %#x for a %s", to->node, to->link, tc_message_name(item->event.type));
    }
    tc_blob_unref(item->event.body);
}

static void on_down(struct sim *sim, struct item *item)
{
    struct end *end = &item->conn->ends[item->side];
    if (!end->open)
        return;
    end->open = false;
    end->closed_at = sim->now;
    struct tc_event event = {.kind = TC_EV_DOWN, .link = end->link, .err = &item->err};
    tell(sim, end->node, &event);
}

/* Only what has rotted is placed again. */
static void placed(struct sim *sim, struct node *n, uint32_t chunk)
{
    bool again = n->rots && tc_bits_remove(&n->rotten, chunk);
    sim_assert(sim, n->allocated && tc_bits_add(&n->in_place, chunk) != again);
    n->report.chunks += !again;
    if (n->rots && below(sim, 4) == 0 && tc_bits_add(&n->rotted, chunk))
        tc_bits_add(&n->rotten, chunk);
}

static void on_result(struct sim *sim, struct item *item)
{
    struct node *n = &sim->nodes[item->node];
    struct tc_event event = item->event;
    struct tc_digest digest = digest_of(sim, event.chunk, 0), block = digest_of(sim, event.chunk, 1);
    struct conn *conn;
    unsigned side;
    event.err = item->err.reason ? &item->err : NULL;
    event.digest = &digest;
    event.blocks = &block;
    if (event.kind == TC_EV_SERVED) {
        struct end *end = find(sim, item->node, event.link, &conn, &side);
        end->serving--;
        if (!end->open)
            return;
    }
    if (n->silent)
        return;
    if (event.kind == TC_EV_DIGESTED && !event.err)
        tc_bits_add(&sim->digested, event.chunk);
    if (event.kind == TC_EV_OPENED && !event.err)
        placed(sim, n, event.chunk);
    if (event.kind == TC_EV_COMPARED && event.flags && event.host != CHECKED) {
        n->report.chunks++;
        n->report.found++;
    }
    if (event.kind == TC_EV_PUBLISHED && !event.err) {
        n->report.published = true;
        n->report.unchanged = !n->allocated;
    }
    tell(sim, item->node, &event);
}

/* Until when an item has to wait, because a node stands still or nothing passes between two: 0 for not at all. */
static uint64_t waits_until(struct sim *sim, const struct item *item)
{
    uint64_t until = item->kind == IT_AGAIN || item->kind == IT_EXPIRE ? 0 : sim->nodes[item->node].stopped_until;
    struct conn *conn = item->conn;
    unsigned side;
    bool served = item->kind == IT_EVENT && item->event.kind == TC_EV_SERVED;
    if (served)
        find(sim, item->node, item->event.link, &conn, &side);
    if (conn && !item->local && item->kind != IT_EXPIRE && (served || item->kind != IT_EVENT))
        for (unsigned i = 0; i < 2; i++) {
            const struct node *n = &sim->nodes[conn->ends[i].node];
            until = n->cut_until > until ? n->cut_until : until;
            if (served && n->stopped_until > until)
                until = n->stopped_until;
            if (served && n->frozen)
                until = UINT64_MAX; /* its window is shut, and the link stays */
        }
    return until > sim->now ? until : 0;
}

static void put_off(struct sim *sim, const struct item *item, uint64_t until)
{
    struct conn *conn = item->conn;
    if (item->kind == IT_ACCEPT && until >= sim->now + CONNECT_US) {
        struct item *down = push(sim, sim->now + CONNECT_US, IT_DOWN);
        *down = (struct item){.at = down->at,
                              .order = down->order,
                              .kind = IT_DOWN,
                              .node = conn->ends[0].node,
                              .conn = conn,
                              .local = true,
                              .err = {.reason = TC_E_TIMEOUT, .text = "timed out"}};
        return;
    }
    if (until == UINT64_MAX) {
        tc_blob_unref(item->event.body);
        return;
    }
    struct item *later = push(sim, until, item->kind);
    uint64_t at = later->at, order = later->order;
    *later = *item;
    later->at = at;
    later->order = order;
    if (item->kind == IT_TICK)
        sim->nodes[item->node].tick_at =
            sim->nodes[item->node].tick_at == item->at ? at : sim->nodes[item->node].tick_at;
}

static void on_item(struct sim *sim, struct item *item)
{
    struct tc_event event = {.kind = TC_EV_TICK};
    struct tc_destination far;
    struct conn *conn = item->conn;
    uint64_t until = waits_until(sim, item);
    if (until > 0) {
        put_off(sim, item, until);
        return;
    }
    switch (item->kind) {
    case IT_AGAIN:
        on_again(sim, item);
        break;
    case IT_TICK:
        if (sim->nodes[item->node].tick_at != item->at || (sim->nodes[item->node].hangs && sim->ended))
            return;
        sim->nodes[item->node].tick_at = 0;
        tell(sim, item->node, &event);
        break;
    case IT_ACCEPT:
        on_accept(sim, conn);
        break;
    case IT_UP:
        if (!conn->ends[0].open)
            return;
        conn->up = true;
        far = destination_of(sim, conn->ends[1].node);
        event = (struct tc_event){.kind = TC_EV_UP, .link = conn->ends[0].link, .far = &far};
        tell(sim, conn->ends[0].node, &event);
        break;
    case IT_FRAME:
        on_frame(sim, item);
        break;
    case IT_DOWN:
        on_down(sim, item);
        break;
    case IT_EVENT:
        on_result(sim, item);
        break;
    case IT_EXPIRE:
        if (conn->waits && conn->ends[0].open)
            bring_down(sim, conn, 0, TC_E_TIMEOUT);
        conn->waits = false;
        break;
    }
}

/* --- a session --- */

/* PLANT='crash 7' in the environment: a failure in the session with seed 7, to see what comes of it. */
static bool is_planted(const struct sim *sim)
{
    const char *what = getenv("PLANT"), *seed = what ? strchr(what, ' ') : NULL;
    return seed && strtoull(seed, NULL, 10) == sim->options.seed;
}

static void plant(struct sim *sim)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    const char *what = getenv("PLANT");
    sim_witness_note("# planted at %" PRIu64 " us, %" PRIu64 " orders", sim->now, sim->orders);
    if (strncmp(what, "crash", 5) == 0)
        raise(SIGSEGV);
    else if (strncmp(what, "hang", 4) == 0)
        for (setitimer(ITIMER_REAL, &soon, NULL);;)
            pause();
    sim_fail(sim, "planted");
}

static void make_origin(struct sim *sim)
{
    uint8_t secret[TC_SECRET_SIZE] = {7}, public_key[TC_PUBLIC_SIZE];
    if (sim->options.origin == SIM_NO_ORIGIN)
        return;
    struct tc_signer *signer = need(tc_signer_new(secret, public_key, NULL));
    sim->trusted = need(tc_verifier_new(public_key, NULL));
    if (sim->options.origin == SIM_ORIGIN)
        sim->origin = signer;
    else
        tc_signer_free(signer);
    secret[0] = 8;
    if (sim->options.origin == SIM_ORIGIN_WRONG)
        sim->origin = need(tc_signer_new(secret, NULL, NULL));
}

static void some_chunks(struct sim *sim, struct tc_bits *bits)
{
    uint64_t percent = sim->options.here_percent ? sim->options.here_percent : below(sim, 101);
    for (uint32_t i = 0; i < sim->options.chunks; i++)
        if (below(sim, 100) < percent)
            tc_bits_add(bits, i);
}

/* What the host has already. */
static void make_here(struct sim *sim, struct node *n)
{
    uint32_t chunks = sim->options.chunks;
    n->report.here =
        sim->options.here != SIM_HERE_MIXED ? sim->options.here : (enum sim_here)below(sim, SIM_HERE_MIXED);
    tc_bits_init(&n->older, chunks, NULL);
    tc_bits_init(&n->left, chunks, NULL);
    tc_bits_init(&n->in_place, chunks, NULL);
    if (n->report.here == SIM_HERE_SAME)
        for (uint32_t i = 0; i < chunks; i++)
            tc_bits_add(&n->older, i);
    else if (has_old(n->report.here))
        some_chunks(sim, &n->older);
    if (has_left(n->report.here))
        some_chunks(sim, &n->left);
    if (n->report.here == SIM_HERE_ALTERED && chunks) /* it is noticed only where a file is reserved */
        tc_bits_remove(&n->older, (uint32_t)below(sim, chunks));
}

static void make_hosts(struct sim *sim)
{
    for (unsigned i = 0; i <= sim->options.hosts; i++) {
        struct node *n = &sim->nodes[i];
        n->sim = sim;
        tc_bits_init(&n->got, sim->options.chunks, NULL);
        tc_bits_init(&n->pages, sim->config.layout.pages, NULL);
        tc_bits_init(&n->pages_then, sim->config.layout.pages, NULL);
        tc_bits_init(&n->chunks_then, sim->options.chunks, NULL);
        snprintf(n->address, sizeof n->address, "h%u:7117", i);
        n->silent = fault_of(sim, i, SIM_UNREACHABLE);
        n->deaf = fault_of(sim, i, SIM_DEAF);
        n->refuses = fault_of(sim, i, SIM_REFUSE);
        n->publish_fails = fault_of(sim, i, SIM_PUBLISH_FAILS);
        n->liar = fault_of(sim, i, SIM_LIAR);
        n->rots = fault_of(sim, i, SIM_ROT);
        tc_bits_init(&n->rotten, sim->options.chunks, NULL);
        tc_bits_init(&n->rotted, sim->options.chunks, NULL);
        n->corrupt = fault_of(sim, i, SIM_CORRUPT) ? fault_of(sim, i, SIM_CORRUPT)->after : 0;
        n->hostile = (struct hostile_host){.mute = MUTES, .raise = RAISES, .size = sim->config.layout.size};
        n->hostile.min_rate = sim->options.min_rate ? sim->options.min_rate : TC_RATE_MIN;
        if (fault_of(sim, i, SIM_MUTE))
            n->hostile.mute = (enum hostile_mute)(fault_of(sim, i, SIM_MUTE)->after % MUTES);
        if (fault_of(sim, i, SIM_RAISE))
            n->hostile.raise = (enum hostile_raise)(fault_of(sim, i, SIM_RAISE)->after % RAISES);
        if (i == 0)
            continue;
        sim->hosts[i - 1] = n->address;
        if (sim->options.here)
            make_here(sim, n);
        else
            tc_bits_init(&n->in_place, sim->options.chunks, NULL);
    }
}

struct sim *sim_new(const struct sim_options *options)
{
    static const uint8_t secret[TC_SECRET_SIZE] = {42};
    struct sim *sim = need(calloc(1, sizeof *sim));
    struct tc_coordinator_config *config = &sim->config;
    sim->options = *options;
    sim->random = options->seed;
    sim->now = START_US;
    begin_witness(sim);
    sim->planted = is_planted(sim);
    uint64_t tail = 16 + below(sim, CHUNK_SIZE - 15);
    uint64_t size = options->chunks ? (options->chunks - 1) * (uint64_t)CHUNK_SIZE + tail : 0;
    sim_assert(sim, tc_layout_init(&config->layout, size, CHUNK_SIZE, NULL) == 0);
    tc_bits_init(&sim->digested, options->chunks, NULL);
    digest_content(sim);
    make_origin(sim);
    make_hosts(sim);
    sim->signer = need(tc_signer_new(secret, config->public_key, NULL));
    machine_random(sim, config->instance, sizeof config->instance, NULL);
    machine_random(sim, config->session, sizeof config->session, NULL);
    config->name = "A.npy";
    config->array = "null";
    config->hosts = sim->hosts;
    config->host_count = options->hosts;
    config->tree = options->tree;
    config->signer = sim->signer;
    config->origin = sim->origin;
    config->flags = options->flags;
    config->min_hosts = options->min_hosts;
    config->deadline = options->deadline_ms ? START_US / 1000 + options->deadline_ms : 0;
    config->min_rate = options->min_rate;
    config->digest_depth = 1 + (uint32_t)below(sim, 8);
    config->random = machine_random;
    config->random_arg = sim;
    config->trace = show;
    config->trace_arg = &sim->nodes[0];
    sim->coordinator = need(tc_coordinator_new(config, sim->now / 1000, NULL));
    pump(sim, 0);
    return sim;
}

static bool running(const struct sim *sim, unsigned node)
{
    const struct node *n = &sim->nodes[node];
    return !n->report.ended && !n->silent && !n->hangs && (node == 0 || n->agent);
}

void sim_run(struct sim *sim, uint64_t limit_ms)
{
    while (sim->count > 0) {
        if (sim->planted && sim->orders > PLANTED_AFTER)
            plant(sim);
        struct item *item = pop(sim);
        sim->now = item->at;
        on_item(sim, item);
        free(item);
        if (sim->now <= START_US + limit_ms * 1000)
            continue;
        for (unsigned i = 0; i <= sim->options.hosts; i++)
            if (running(sim, i))
                sim_fail(sim, "node %u is still running after %" PRIu64 " ms", i, limit_ms);
    }
    for (unsigned i = 0; i <= sim->options.hosts; i++)
        if (running(sim, i))
            sim_fail(sim, "node %u never ends, %s with %u chunks", i,
                     i ? tc_agent_state_name(tc_agent_state(sim->nodes[i].agent)) : "coordinator",
                     sim->nodes[i].report.chunks);
}

void sim_free(struct sim *sim)
{
    sim_witness_end();
    for (size_t i = 0; i < sim->count; i++) {
        tc_blob_unref(sim->heap[i]->event.body);
        free(sim->heap[i]);
    }
    for (uint32_t i = 0; i < sim->all.count; i++) {
        struct conn *conn = sim->all.items[i];
        for (unsigned side = 0; side < 2; side++) {
            tc_bits_free(&conn->ends[side].pushed);
            tc_bits_free(&conn->ends[side].answered);
            tc_bits_free(&conn->ends[side].wanted);
        }
        free(conn);
    }
    for (unsigned i = 0; i <= sim->options.hosts; i++) {
        tc_agent_free(sim->nodes[i].agent);
        tc_bits_free(&sim->nodes[i].got);
        tc_bits_free(&sim->nodes[i].pages);
        tc_bits_free(&sim->nodes[i].pages_then);
        tc_bits_free(&sim->nodes[i].chunks_then);
        tc_bits_free(&sim->nodes[i].older);
        tc_bits_free(&sim->nodes[i].left);
        tc_bits_free(&sim->nodes[i].in_place);
        tc_bits_free(&sim->nodes[i].rotten);
        tc_bits_free(&sim->nodes[i].rotted);
        free(sim->nodes[i].dialled.items);
        free(sim->nodes[i].accepted.items);
    }
    tc_coordinator_free(sim->coordinator);
    tc_signer_free(sim->signer);
    tc_signer_free(sim->origin);
    tc_verifier_free(sim->trusted);
    tc_bits_free(&sim->digested);
    free(sim->all.items);
    free(sim->heap);
    free(sim);
}

/* --- what has come of it --- */

uint64_t sim_took_ms(const struct sim *sim)
{
    return (sim->ended_at - START_US) / 1000;
}

bool sim_sender_ended(const struct sim *sim, struct tc_err *why)
{
    *why = sim->why;
    return sim->ended;
}

const struct sim_host_report *sim_host(const struct sim *sim, unsigned host)
{
    return &sim->nodes[host].report;
}

const struct tc_host_view *sim_view(const struct sim *sim, unsigned host)
{
    return tc_coordinator_host(sim->coordinator, host - 1);
}

unsigned sim_count(const struct sim *sim, enum tc_host_end end)
{
    unsigned count = 0;
    for (unsigned i = 1; i <= sim->options.hosts; i++)
        count += sim_view(sim, i)->end == end;
    return count;
}

static void check_published(struct sim *sim, unsigned host)
{
    const struct sim_host_report *report = sim_host(sim, host);
    const struct tc_host_view *view = sim_view(sim, host);
    enum tc_host_end end = report->unchanged ? TC_END_UNCHANGED : TC_END_PUBLISHED;
    if (!report->published || report->why.reason || view->end != end)
        sim_fail(sim, "host %u is not published (%u chunks, end %d): '%s', the sender says '%s'", host, report->chunks,
                 view->end, report->why.text, view->why.text);
    sim_assert(sim, view->bytes == sim->config.layout.size);
    sim_assert(sim, view->whole_at && view->ended_at >= view->whole_at);
}

void sim_check_perfect(struct sim *sim)
{
    sim_assert(sim, sim->ended && sim->why.reason == 0);
    for (unsigned i = 1; i <= sim->options.hosts; i++) {
        const struct sim_host_report *report = sim_host(sim, i);
        check_published(sim, i);
        if (report->duplicates || report->received != sim->options.chunks)
            sim_fail(sim, "host %u got %u chunks, %u of them twice", i, report->received, report->duplicates);
    }
}

void sim_check_here(struct sim *sim)
{
    sim_assert(sim, sim->ended && sim->why.reason == 0);
    for (unsigned i = 1; i <= sim->options.hosts; i++) {
        const struct sim_host_report *report = sim_host(sim, i);
        const struct node *n = &sim->nodes[i];
        bool differs = has_old(report->here) && n->older.count < sim->options.chunks;
        if (differs && !(sim->options.flags & TC_OFFER_FORCE)) {
            sim_assert(sim, !report->published && report->received == 0 && sim_view(sim, i)->end == TC_END_FAILED);
            sim_assert(sim, sim_view(sim, i)->why.reason == TC_E_EXISTS && report->why.reason == TC_E_EXISTS);
            continue;
        }
        check_published(sim, i);
        uint32_t have = 0;
        for (uint32_t c = 0; c < sim->options.chunks; c++)
            have += tc_bits_has(&n->older, c) || (n->allocated && tc_bits_has(&n->left, c));
        sim_assert(sim, report->unchanged == (has_old(report->here) && !differs) && report->found == have);
        bool exact =
            sim_count(sim, TC_END_FAILED) == 0; /* else hosts were moved, and asked twice for what was under way */
        sim_assert(sim, report->received - report->duplicates == sim->options.chunks - have);
        sim_assert(sim, report->duplicates == 0 || !exact);
        uint64_t adopted = sim_view(sim, i)->adopted, whole = (uint64_t)have * CHUNK_SIZE;
        sim_assert(sim, adopted <= whole && adopted + CHUNK_SIZE > whole); /* the last chunk is shorter */
    }
}

static bool doomed(const struct sim *sim, unsigned host)
{
    static const enum sim_fault_kind kinds[] = {SIM_UNREACHABLE, SIM_DEAF,          SIM_REFUSE,     SIM_KILL,
                                                SIM_FREEZE,      SIM_PUBLISH_FAILS, SIM_OPEN_FAILS, SIM_SERVE_FAILS,
                                                SIM_STOP,        SIM_TWIN,          SIM_MUTE,       SIM_RAISE,
                                                SIM_MOAN,        SIM_LOCKED,        SIM_STUCK};
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (fault_of(sim, host, kinds[i]))
            return true;
    uint64_t silent_ms = fault_of(sim, host, SIM_LATE) ? LATE_US / 1000 : 0; /* its next word takes that long */
    for (unsigned i = 0; i < SIM_FAULTS_MAX; i++) {
        const struct sim_fault *fault = &sim->options.faults[i];
        bool silent = fault->kind == SIM_PAUSE || fault->kind == SIM_ISOLATE;
        if (silent && fault->host == host)
            silent_ms += fault->for_ms ? fault->for_ms : SILENT_MS;
    }
    return sim->nodes[host].cut_off || silent_ms >= SILENT_MS;
}

void sim_check_survivors(struct sim *sim)
{
    sim_assert(sim, sim->ended && sim->why.reason == 0);
    for (unsigned i = 1; i <= sim->options.hosts; i++)
        if (!doomed(sim, i))
            check_published(sim, i);
}

void sim_check_nobody(struct sim *sim)
{
    sim_assert(sim, sim_count(sim, TC_END_PUBLISHED) == 0);
    for (unsigned i = 1; i <= sim->options.hosts; i++)
        sim_assert(sim, !sim_host(sim, i)->published);
}

uint64_t sim_whole_ms(const struct sim *sim, unsigned host)
{
    uint64_t whole_at = sim_view(sim, host)->whole_at;
    return whole_at ? whole_at - tc_coordinator_planned_at(sim->coordinator) + 1 : 0;
}

uint64_t sim_sender_took_ms(const struct sim *sim)
{
    return sim->ended ? (sim->sender_ended_at - START_US) / 1000 : 0;
}

unsigned sim_moves(const struct sim *sim, unsigned host)
{
    return sim->nodes[host].plans > 0 ? sim->nodes[host].plans - 1 : 0;
}

void sim_check_safe(struct sim *sim)
{
    for (unsigned i = 1; i <= sim->options.hosts; i++) {
        const struct sim_host_report *report = sim_host(sim, i);
        const struct tc_host_view *view = sim_view(sim, i);
        const struct node *n = &sim->nodes[i];
        if (report->ended && (report->published || report->unchanged) != (report->why.reason == 0))
            sim_fail(sim, "host %u ends published %d, unchanged %d, with '%s'", i, report->published, report->unchanged,
                     report->why.text);
        bool none = view->end == TC_END_REFUSED || view->end == TC_END_UNREACHABLE || view->end == TC_END_FAILED ||
                    view->end == TC_END_ABORTED;
        if (none && report->published && !report->unchanged)
            sim_fail(sim, "host %u has published and is reported as %d: '%s'", i, view->end, view->why.text);
        if (report->published && (report->unchanged ? &n->older : &n->in_place)->count != sim->options.chunks)
            sim_fail(sim, "host %u has published and is not whole", i);
        if (view->end == TC_END_PUBLISHED && (!report->published || report->unchanged))
            sim_fail(sim, "host %u is reported published and has not", i);
        if (view->end == TC_END_UNCHANGED && !report->unchanged)
            sim_fail(sim, "host %u is reported unchanged and is not", i);
        if (sim->ended && (view->phase != TC_PHASE_ENDED || sim->nodes[i].news != 1))
            sim_fail(sim, "host %u is reported %u times", i, sim->nodes[i].news);
    }
}

unsigned sim_check_orphans(struct sim *sim)
{
    unsigned count = 0;
    for (unsigned i = 1; i <= sim->options.hosts; i++) {
        const struct node *n = &sim->nodes[i];
        if (n->can_complete && !n->report.published)
            sim_fail(sim, "host %u has %u chunks, others had the rest, and it ends with '%s'", i, n->report.chunks,
                     n->report.why.text);
        count += n->can_complete;
    }
    return count;
}

/* Without an offer an agent knows of no deadline; one that stands still when it passes sees it later. */
void sim_check_deadline(struct sim *sim)
{
    for (unsigned i = 0; sim->options.deadline_ms && i <= sim->options.hosts; i++) {
        const struct node *n = &sim->nodes[i];
        uint64_t due = START_US + sim->options.deadline_ms * 1000 + n->offer_late;
        if (!n->report.ended || (i > 0 && !tc_agent_job(n->agent)))
            continue;
        due = (n->stopped_until > due ? n->stopped_until : due) + 2000000;
        if (n->report.ended_at > due)
            sim_fail(sim, "node %u ends %" PRIu64 " us after deadline and 2 s", i, n->report.ended_at - due);
    }
}

/* How long a sender may take from its start, in the worst case: every host a bit later than the one before would still
 * be within the same limits. */
static uint64_t sender_limit_ms(const struct sim *sim)
{
    const struct tc_layout *layout = &sim->config.layout;
    uint32_t rate = sim->options.min_rate ? sim->options.min_rate : TC_RATE_MIN;
    uint64_t plan = (CONNECT_US + HANDSHAKE_US) / 1000 + TC_MS_ANSWER + tc_limit_prepare(layout->size);
    return plan + tc_limit_planned(layout->size, layout->chunk_size, rate);
}

/* And an agent, whose sender has gone by then or says nothing. */
static uint64_t agent_limit_ms(const struct sim *sim)
{
    const struct tc_layout *layout = &sim->config.layout;
    const struct sim_fault *cheat = fault_of(sim, 0, SIM_CHEAT);
    uint64_t silent = 0;
    if (cheat && cheat->after == CHEAT_NO_PLAN)
        silent = tc_limit_plan(layout->size);
    else if (cheat && cheat->after == CHEAT_NO_BYE)
        silent = tc_limit_serve(layout->size);
    else if (cheat)
        silent = tc_limit_fill(layout->size, layout->chunk_size, TC_RATE_LEAST) + TC_MS_DESERTED;
    return sender_limit_ms(sim) + silent + TC_MS_ORPHAN_MOST + TC_MS_GOODBYE;
}

void sim_check_limits(struct sim *sim)
{
    enum { SLACK_MS = 2000 }; /* messages under way, and ticks */
    for (unsigned i = 0; i <= sim->options.hosts; i++) {
        const struct node *n = &sim->nodes[i];
        uint64_t most = START_US + ((i ? agent_limit_ms(sim) : sender_limit_ms(sim)) + SLACK_MS) * 1000;
        if (!n->silent && !n->hangs && (i == 0 || n->agent) && (!n->report.ended || n->report.ended_at > most))
            sim_fail(sim, "node %u is over after %" PRIu64 " ms, and its limit is %" PRIu64 " ms", i,
                     (n->report.ended_at - START_US) / 1000, (most - START_US) / 1000);
    }
}
