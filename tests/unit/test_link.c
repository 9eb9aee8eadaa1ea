/* Links: the same table of tests over a socket pair, TCP and TLS, then what only dialling or TLS has. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/link.h"
#include "net/listen.h"
#include "net_world.h"

enum transport { PAIR, TCP, TLS, TRANSPORTS };

#define POOLED_SIZE (1024u * 1024)

struct end;
typedef void hook(struct end *end, const struct tc_link_event *event);

struct end {
    struct tc_link *link; /* NULL once it is gone */
    struct end *other;
    hook *hook; /* runs after the counting */
    unsigned up, frames, drained, closed;
    uint64_t bytes;
    uint8_t last_type;
    bool pooled, checked; /* checked: bodies hold their own number and a pattern */
    struct tc_err why;
};

enum { FRAME_MOST = 4 * 1024 * 1024, SHIFTS = 4099 };

static uint8_t noise[FRAME_MOST + SHIFTS];
static struct tc_loop *loop;
static struct tc_listen *listener;
static struct tc_blob_pool *pool;
static struct end a, b; /* a dials, b accepts */
static enum tc_identity answer;
static unsigned lookups, resets;
static uint8_t server_key[TC_KEY_SIZE] = {1, 2, 3};
static const uint8_t client_key[TC_KEY_SIZE] = {1, 2, 3};
static struct tc_link_options options_a, options_b;
static int raw = -1;

static uint32_t limit(uint8_t type)
{
    return type == 9 ? 0 : type == 8 ? 1000 : FRAME_MOST;
}

static enum tc_identity lookup(void *arg, const uint8_t *identity, size_t size, uint8_t key[TC_KEY_SIZE])
{
    (void)arg;
    lookups++;
    if (size != 2 || memcmp(identity, "id", 2) != 0)
        return TC_IDENTITY_UNKNOWN;
    memcpy(key, server_key, TC_KEY_SIZE);
    return answer;
}

/* What frame number of a sender holds: noise, from another byte on for each. Copied and compared at once, for a loop over
 * the bytes takes long under a sanitizer. */
static const uint8_t *pattern(unsigned number)
{
    return noise + number % SHIFTS;
}

static void check_body(const struct end *end, const struct tc_blob *body)
{
    if (memcmp(body->bytes, pattern(end->frames), body->size) != 0)
        ck_abort_msg("frame %u of %zu bytes is another", end->frames, body->size);
}

static void on_event(struct tc_link *link, const struct tc_link_event *event, void *arg)
{
    struct end *end = arg;
    ck_assert_uint_eq(end->closed, 0); /* never anything after CLOSED */
    ck_assert_ptr_eq(link, end->link);
    switch (event->kind) {
    case TC_LINK_UP:
        ck_assert_uint_eq(end->up++, 0);
        break;
    case TC_LINK_FRAME:
        ck_assert_uint_eq(end->up, 1);
        if (end->checked)
            check_body(end, event->body);
        end->frames++;
        end->bytes += event->body->size;
        end->last_type = event->type;
        end->pooled = event->body->capacity == POOLED_SIZE;
        break;
    case TC_LINK_DRAINED:
        ck_assert_uint_eq(end->up, 1);
        end->drained++;
        break;
    case TC_LINK_CLOSED:
        end->closed++;
        end->why = *event->why;
        break;
    }
    if (end->hook)
        end->hook(end, event);
    if (event->kind == TC_LINK_CLOSED)
        end->link = NULL;
}

static struct tc_link *on_accept(void *arg, int fd, const char *peer)
{
    (void)arg;
    ck_assert_int_eq(strncmp(peer, "127.0.0.1:", 10), 0);
    if (resets > 0) { /* as a listener does which has too many */
        struct linger none = {.l_onoff = 1};
        resets--;
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
        close(fd);
        return NULL;
    }
    b.link = tc_link_accept(loop, fd, &options_b, NULL);
    ck_assert_ptr_nonnull(b.link);
    ck_assert_str_eq(tc_link_peer(b.link), peer);
    return b.link;
}

static void setup(void)
{
    loop = tc_loop_new(NULL);
    pool = tc_blob_pool_new(POOLED_SIZE, 4);
    listener = tc_listen_open(loop, "127.0.0.1:0", 7117, NULL, on_accept, NULL, NULL);
    ck_assert_ptr_nonnull(listener);
    a = (struct end){.other = &b, .checked = true};
    b = (struct end){.other = &a, .checked = true};
    answer = TC_IDENTITY_KNOWN;
    lookups = resets = 0;
    static const uint8_t identity[] = {'i', 'd'};
    options_a = (struct tc_link_options){.call = on_event,
                                         .arg = &a,
                                         .limit = limit,
                                         .blobs = pool,
                                         .identity = identity,
                                         .identity_size = 2,
                                         .key = client_key};
    options_b = (struct tc_link_options){.call = on_event, .arg = &b, .limit = limit, .blobs = pool, .lookup = lookup};
    raw = -1;
}

static void teardown(void)
{
    tc_link_drop(a.link);
    tc_link_drop(b.link);
    if (raw >= 0)
        close(raw);
    tc_listen_close(listener);
    tc_loop_free(loop);
    tc_blob_pool_free(pool);
}

static void join(int transport)
{
    struct tc_err err = {0};
    int ends[2];
    options_a.tls = options_b.tls = transport == TLS;
    if (transport == PAIR) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        a.link = tc_link_accept(loop, ends[0], &options_a, &err);
        b.link = tc_link_accept(loop, ends[1], &options_b, &err);
    } else {
        a.link = tc_link_dial(loop, tc_listen_address(listener), &options_a, &err);
    }
    ck_assert_msg(a.link != NULL, "%s", err.text);
}

static bool both_up(void *arg)
{
    (void)arg;
    return a.up && b.up;
}

static bool both_closed(void *arg)
{
    (void)arg;
    return a.closed && b.closed;
}

static bool a_closed(void *arg)
{
    (void)arg;
    return a.closed;
}

static bool b_closed(void *arg)
{
    (void)arg;
    return b.closed;
}

static bool b_has(void *arg)
{
    return b.frames >= *(unsigned *)arg;
}

static void join_up(int transport)
{
    join(transport);
    ck_assert(wait_until(loop, both_up, NULL));
}

/* Frame number of this sender, size bytes of its pattern, the first head_size of them as head. */
static void send_numbered(struct end *end, unsigned number, size_t head_size, size_t size)
{
    const uint8_t *bytes = pattern(number);
    struct tc_blob *payload = size > head_size ? tc_blob_new(NULL, size - head_size) : NULL;
    if (payload)
        memcpy(payload->bytes, bytes + head_size, payload->size);
    ck_assert_int_eq(tc_link_send(end->link, 1, bytes, head_size, payload, NULL), 0);
    tc_blob_unref(payload);
}

/* --- over every transport --- */

START_TEST(test_order_of_events)
{
    join(_i);
    send_numbered(&a, 0, 5, 100); /* before it is up */
    send_numbered(&a, 1, 5, 5);
    ck_assert(!tc_link_up(a.link));
    unsigned two = 2;
    ck_assert(wait_until(loop, b_has, &two));
    ck_assert(tc_link_up(a.link) && tc_link_up(b.link));
    ck_assert(tc_link_is_loopback(a.link) && tc_link_is_loopback(b.link));
    uint64_t received, sent;
    tc_link_counts(b.link, &received, &sent);
    ck_assert_uint_eq(received, 105 + 2 * TC_FRAME_HEAD);
    ck_assert_uint_eq(sent, 0);
    tc_link_counts(a.link, &received, &sent);
    ck_assert_uint_eq(sent, 105 + 2 * TC_FRAME_HEAD);
    ck_assert_uint_eq(tc_link_queued(a.link), 0);
    ck_assert_uint_ge(a.drained, 1);
    tc_link_close(a.link, 0);
    ck_assert_uint_eq(a.closed, 0); /* later, not from within the call */
    ck_assert_int_eq(tc_link_send(a.link, 1, NULL, 0, NULL, NULL), -TC_E_CLOSED);
    ck_assert(wait_until(loop, both_closed, NULL));
    ck_assert_int_eq(a.why.reason, 0);
    ck_assert_int_eq(b.why.reason, TC_E_CLOSED);
}
END_TEST

START_TEST(test_names_and_identity)
{
    size_t size;
    join_up(_i);
    const uint8_t *identity = tc_link_identity(b.link, &size);
    if (_i == PAIR) {
        ck_assert_str_eq(tc_link_peer(a.link), "local");
        return;
    }
    ck_assert_str_eq(tc_link_peer(a.link), tc_listen_address(listener));
    ck_assert_str_eq(tc_link_local(b.link), tc_listen_address(listener));
    ck_assert_str_eq(tc_link_local(a.link), tc_link_peer(b.link));
    if (_i == TLS)
        ck_assert(size == 2 && memcmp(identity, "id", 2) == 0);
    else
        ck_assert(size == 0 && !identity);
}
END_TEST

static const struct {
    size_t head, size;
} shapes[] = {{0, 0},       {1, 1},         {0, 1},        {7, 8},           {8, 4087},  {8, 4088},
              {8, 4089},    {0, 4096},      {200, 16384},  {16, 16385},      {0, 32767}, {0, 32768},
              {9, 1 << 20}, {0, (1 << 20)}, {3, 0x100003}, {0, 4 * 1 << 20}, {0, 0},     {12, 300}};

START_TEST(test_every_size_arrives_whole)
{
    unsigned count = sizeof shapes / sizeof shapes[0];
    join_up(_i);
    for (unsigned i = 0; i < count; i++)
        send_numbered(&a, i, shapes[i].head < shapes[i].size ? shapes[i].head : shapes[i].size, shapes[i].size);
    for (unsigned i = 0; i < count; i++) /* both ways at once */
        send_numbered(&b, i, 0, shapes[i].size);
    ck_assert(wait_until(loop, b_has, &count));
    send_numbered(&a, count, 0, 40000);
    count++;
    ck_assert(wait_until(loop, b_has, &count));
    ck_assert(b.pooled);
}
END_TEST

static void echo(struct end *end, const struct tc_link_event *event)
{
    if (event->kind == TC_LINK_FRAME)
        ck_assert_int_eq(tc_link_send(end->link, event->type, NULL, 0, event->body, NULL), 0);
}

static bool a_has(void *arg)
{
    return a.frames >= *(unsigned *)arg;
}

START_TEST(test_many_small_frames_and_their_echo)
{
    unsigned count = 20000;
    b.hook = echo;
    join_up(_i);
    for (unsigned i = 0; i < count; i++)
        send_numbered(&a, i, i % 64, i % 64);
    ck_assert(wait_until(loop, a_has, &count));
    ck_assert_uint_eq(b.frames, count);
}
END_TEST

/* A queue that does not shrink for 100 turns of the loop: the peer takes no more. */
static bool a_is_stuck(void *arg)
{
    size_t *before = arg;
    static unsigned same;
    size_t queued = tc_link_queued(a.link);
    same = queued == *before && queued > 0 ? same + 1 : 0;
    *before = queued;
    return same >= 100;
}

static void drained_at_low_water(struct end *end, const struct tc_link_event *event)
{
    if (event->kind == TC_LINK_DRAINED)
        ck_assert_uint_le(tc_link_queued(end->link), options_a.low_water);
}

START_TEST(test_paused_reader_pushes_back)
{
    unsigned count = 64;
    size_t before = 0;
    options_a.low_water = 1 << 20;
    a.hook = drained_at_low_water;
    join_up(_i);
    tc_link_pause(b.link, true);
    for (unsigned i = 0; i < count; i++)
        send_numbered(&a, i, 0, 1 << 20);
    ck_assert(wait_until(loop, a_is_stuck, &before));
    ck_assert_uint_gt(before, 32u << 20);
    ck_assert_uint_eq(b.frames, 0);
    ck_assert_uint_eq(a.drained, 0);
    tc_link_pause(b.link, false);
    ck_assert(wait_until(loop, b_has, &count));
    ck_assert_uint_ge(a.drained, 1);
    ck_assert_uint_eq(tc_link_queued(a.link), 0);
}
END_TEST

static struct tc_timer *resume_timer;

static void resume(void *arg)
{
    struct end *end = arg;
    tc_link_pause(end->link, false);
}

static void pause_at_each(struct end *end, const struct tc_link_event *event)
{
    if (event->kind != TC_LINK_FRAME)
        return;
    tc_link_pause(end->link, true);
    tc_timer_set(resume_timer, 0);
}

START_TEST(test_pause_within_a_frame_holds_at_once)
{
    unsigned count = 300; /* several to a segment and to a TLS record's worth of input */
    resume_timer = tc_timer_new(loop, resume, &b, NULL);
    b.hook = pause_at_each;
    join_up(_i);
    for (unsigned i = 0; i < count; i++)
        send_numbered(&a, i, 0, i * 37 % 9000);
    ck_assert(wait_until(loop, b_has, &count));
    tc_timer_free(resume_timer);
}
END_TEST

static void refill(struct end *end, const struct tc_link_event *event)
{
    static unsigned number;
    if (event->kind == TC_LINK_UP)
        number = 0;
    if (event->kind == TC_LINK_UP || event->kind == TC_LINK_DRAINED)
        send_numbered(end, number++, 0, 1000);
}

START_TEST(test_drained_asks_for_each_next_frame)
{
    unsigned count = 500;
    options_a.low_water = 1 << 20; /* never exceeded: DRAINED must come all the same */
    a.hook = refill;
    join_up(_i);
    ck_assert(wait_until(loop, b_has, &count));
}
END_TEST

static enum tc_link_kind when;
static bool drops, the_other;

static void end_in_callback(struct end *end, const struct tc_link_event *event)
{
    struct end *victim = the_other ? end->other : end;
    if (event->kind != when || !victim->link)
        return;
    if (!drops) {
        tc_link_close(victim->link, 0);
        return;
    }
    tc_link_drop(victim->link);
    if (victim == end)
        ck_assert_uint_le(end->closed, 1);
    victim->link = NULL;
    victim->closed = 1; /* any later event fails */
}

START_TEST(test_ends_within_callbacks)
{
    int transport = _i % TRANSPORTS, choice = _i / TRANSPORTS;
    when = (enum tc_link_kind)(choice % 4);
    drops = choice / 4 % 2;
    the_other = choice / 8 % 2;
    b.hook = end_in_callback;
    if (when == TC_LINK_DRAINED)
        b.hook = NULL, a.hook = end_in_callback;
    join(transport);
    for (unsigned i = 0; i < 50; i++) /* more than one in the buffer when the end comes */
        send_numbered(&a, i, 0, 500);
    if (when == TC_LINK_CLOSED) {
        ck_assert(wait_until(loop, both_up, NULL));
        tc_link_close(a.link, 0);
    }
    ck_assert(wait_until(loop, both_closed, NULL));
}
END_TEST

START_TEST(test_limits_close_the_link)
{
    uint8_t type = _i >= TRANSPORTS ? 8 : 9; /* 8: at most 1000 bytes; 9: not at all */
    struct tc_blob *body = tc_blob_new(NULL, 1001);
    memset(body->bytes, 0, 1001);
    join_up(_i % TRANSPORTS);
    tc_link_send(a.link, type, NULL, 0, body, NULL);
    tc_blob_unref(body);
    ck_assert(wait_until(loop, both_closed, NULL));
    ck_assert_int_eq(b.why.reason, TC_E_PROTOCOL);
    ck_assert_int_eq(a.why.reason, TC_E_CLOSED);
    ck_assert_uint_eq(b.frames, 0);
    ck_assert_int_eq(strncmp(b.why.text, _i % TRANSPORTS == PAIR ? "local: " : "127.0.0.1:", 7), 0);
}
END_TEST

static void talk_on(struct end *end, const struct tc_link_event *event)
{
    if (event->kind == TC_LINK_DRAINED || event->kind == TC_LINK_UP)
        send_numbered(end, 0, 0, 20000);
}

START_TEST(test_linger_sends_all_to_a_peer_that_talks)
{
    unsigned count = 40;
    a.checked = false;
    b.hook = talk_on; /* unread bytes at a's close would be a reset, and take the queue with them */
    join_up(_i);
    for (unsigned i = 0; i < count; i++)
        send_numbered(&a, i, 0, 700000);
    tc_link_close(a.link, 3 * WAIT_MS);
    ck_assert(wait_until(loop, both_closed, NULL));
    ck_assert_uint_eq(b.frames, count);
    ck_assert_int_eq(a.why.reason, 0);
    ck_assert_int_eq(b.why.reason, TC_E_CLOSED);
    if (_i == TLS)
        ck_assert_ptr_null(strstr(b.why.text, "without saying so"));
}
END_TEST

START_TEST(test_linger_ends_though_nobody_reads)
{
    join_up(_i);
    tc_link_pause(b.link, true);
    for (unsigned i = 0; i < 32; i++)
        send_numbered(&a, i, 0, 1 << 20);
    tc_link_close(a.link, 50);
    ck_assert(wait_until(loop, a_closed, NULL));
    ck_assert_int_eq(a.why.reason, 0);
    ck_assert_uint_eq(b.closed, 0);
}
END_TEST

START_TEST(test_free_with_everything_under_way)
{
    join(_i);
    for (unsigned i = 0; i < 8; i++)
        send_numbered(&a, i, 10, 3 << 20);
    unsigned one = 1;
    ck_assert(wait_until(loop, b_has, &one)); /* teardown drops both ends in the middle of a frame */
}
END_TEST

/* --- a peer that is not one of ours --- */

static void raw_pair(bool tls)
{
    int ends[2];
    options_b.tls = tls;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    raw = ends[0];
    b.link = tc_link_accept(loop, ends[1], &options_b, NULL);
    a.up = 1;
}

static void raw_send(const void *bytes, size_t size)
{
    ck_assert_int_eq(send(raw, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

START_TEST(test_garbage)
{
    static const struct {
        const char bytes[9];
        bool tls;
        int reason;
    } table[] = {{{0, 0, 0, 0, 1, 0, 0, 1}, false, TC_E_PROTOCOL}, /* reserved bits */
                 {{127, 1, 1, 1, 1, 0, 0, 0}, false, TC_E_PROTOCOL}, {"GET / HT", false, TC_E_PROTOCOL},
                 {{0x16, 3, 1, 1, 0, 1, 0, 0}, false, TC_E_AUTH}, /* a ClientHello: this side lacks the key */
                 {{0, 0, 0, 0, 1, 0, 0, 0}, true, TC_E_AUTH},        {"GET / HT", true, TC_E_AUTH}};
    raw_pair(table[_i].tls);
    raw_send(table[_i].bytes, 8);
    ck_assert(wait_until(loop, b_closed, NULL));
    ck_assert_int_eq(b.why.reason, table[_i].reason);
    ck_assert_uint_eq(b.frames, 0);
}
END_TEST

START_TEST(test_frame_byte_by_byte_then_half_a_frame)
{
    uint8_t bytes[] = {0, 0, 0, 2, 7, 0, 0, 0, pattern(0)[0], pattern(0)[1]};
    unsigned one = 1;
    raw_pair(false);
    ck_assert(wait_until(loop, both_up, NULL));
    for (unsigned i = 0; i < sizeof bytes; i++)
        raw_send(&bytes[i], 1);
    ck_assert(wait_until(loop, b_has, &one));
    ck_assert_uint_eq(b.last_type, 7);
    raw_send(bytes, 9);
    close(raw);
    raw = -1;
    ck_assert(wait_until(loop, b_closed, NULL));
    ck_assert_int_eq(b.why.reason, TC_E_CLOSED);
    ck_assert_ptr_nonnull(strstr(b.why.text, "within a frame"));
}
END_TEST

START_TEST(test_last_words_come_before_closed)
{
    uint8_t frame[] = {0, 0, 0, 0, 7, 0, 0, 0};
    raw_pair(false);
    send_numbered(&b, 0, 0, 100); /* written first, and fails */
    raw_send(frame, sizeof frame);
    close(raw);
    raw = -1;
    ck_assert(wait_until(loop, b_closed, NULL));
    ck_assert_uint_eq(b.frames, 1);
    ck_assert_int_eq(b.why.reason, TC_E_CLOSED);
}
END_TEST

static struct tc_timer *dribble_timer;

static void dribble(void *arg)
{
    size_t *at = arg;
    static const uint8_t hello[] = {0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3};
    uint8_t byte = *at < sizeof hello ? hello[*at] : 0;
    (*at)++;
    if (send(raw, &byte, 1, MSG_NOSIGNAL) == 1)
        tc_timer_set(dribble_timer, 5);
}

START_TEST(test_handshake_time_is_absolute)
{
    size_t at = 0;
    options_b.handshake_ms = 150;
    raw_pair(true);
    dribble_timer = tc_timer_new(loop, dribble, &at, NULL);
    tc_timer_set(dribble_timer, 5);
    ck_assert(wait_until(loop, b_closed, NULL));
    ck_assert_int_eq(b.why.reason, TC_E_TIMEOUT);
    ck_assert_uint_gt(at, 3); /* the peer was never silent for as long as that */
    tc_timer_free(dribble_timer);
}
END_TEST

START_TEST(test_half_open_ends_the_handshake)
{
    raw_pair(true);
    raw_send("\x16\x03\x01", 3);
    close(raw);
    raw = -1;
    ck_assert(wait_until(loop, b_closed, NULL));
    ck_assert_int_eq(b.why.reason, TC_E_CLOSED);
}
END_TEST

/* --- TLS --- */

START_TEST(test_wrong_key)
{
    server_key[0] ^= 1;
    join(TLS);
    ck_assert(wait_until(loop, both_closed, NULL));
    server_key[0] ^= 1;
    ck_assert(!a.up && !b.up);
    ck_assert_int_eq(a.why.reason, TC_E_AUTH);
    ck_assert_int_eq(b.why.reason, TC_E_AUTH);
}
END_TEST

START_TEST(test_who_is_reset_comes_again)
{
    options_a.again = 3;
    resets = 3;
    join(TLS);
    ck_assert(wait_until(loop, both_up, NULL));
    ck_assert_uint_eq(resets + a.closed + b.closed, 0);
}
END_TEST

START_TEST(test_who_is_reset_too_often_gives_up)
{
    options_a.again = (unsigned)_i;
    resets = 5;
    options_a.tls = options_b.tls = true;
    a.link = tc_link_dial(loop, tc_listen_address(listener), &options_a, NULL);
    ck_assert(wait_until(loop, a_closed, NULL));
    ck_assert_uint_eq(resets, 5u - 1 - (unsigned)_i);
    ck_assert(a.why.reason == TC_E_CLOSED || a.why.reason == TC_E_UNREACHABLE); /* whether connect saw it first */
}
END_TEST

START_TEST(test_unknown_identity)
{
    options_a.identity_size = 1;
    join(TLS);
    ck_assert(wait_until(loop, both_closed, NULL));
    ck_assert_int_eq(a.why.reason, TC_E_AUTH);
    ck_assert_int_eq(b.why.reason, TC_E_AUTH);
}
END_TEST

START_TEST(test_only_one_side_has_tls)
{
    options_a.tls = _i == 0;
    options_b.tls = _i == 1;
    a.link = tc_link_dial(loop, tc_listen_address(listener), &options_a, NULL);
    send_numbered(&a, 0, 0, 100);
    ck_assert(wait_until(loop, both_closed, NULL));
    ck_assert_int_eq(b.why.reason, TC_E_AUTH);
    ck_assert_uint_eq(b.frames, 0);
}
END_TEST

/* A client on the raw end, by hand: link b is its server. */
static struct tc_tls *hand_client(void)
{
    raw_pair(true);
    fcntl(raw, F_SETFL, O_NONBLOCK);
    struct tc_tls *tls = tc_tls_client(raw, options_a.identity, 2, client_key, NULL);
    ck_assert_int_eq(tc_tls_handshake(tls, NULL), TC_TLS_WANT_READ);
    return tls;
}

static bool asked_a_while_ago(void *arg)
{
    uint64_t *begin = arg;
    if (*begin == 0 && lookups > 0)
        *begin = tc_loop_now(loop);
    return *begin > 0 && tc_loop_now(loop) >= *begin + 30;
}

START_TEST(test_bytes_behind_the_hello_do_not_spin_the_loop)
{
    uint64_t begin = 0;
    answer = TC_IDENTITY_WAIT;
    struct tc_tls *tls = hand_client();
    raw_send("too early", 9);
    ck_assert(wait_until(loop, asked_a_while_ago, &begin));
    ck_assert_uint_eq(lookups, 1);
    tc_tls_free(tls);
}
END_TEST

static bool hand_shaken(void *arg)
{
    return tc_tls_handshake(arg, NULL) == 0 && b.up;
}

START_TEST(test_a_turn_ends_with_bytes_inside_tls)
{
    /* More than a link reads in one turn, all of it in the socket before: the last of it is inside TLS when the socket
     * falls silent. */
    unsigned count = 19;
    int capacity = 1 << 20;
    uint8_t frame[16384] = {0, 0, 16384 / 256 - 1, 256 - TC_FRAME_HEAD, 1, 0, 0, 0};
    struct tc_tls *tls = hand_client();
    setsockopt(raw, SOL_SOCKET, SO_SNDBUF, &capacity, sizeof capacity);
    ck_assert(wait_until(loop, hand_shaken, tls));
    b.checked = false;
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(tc_tls_write(tls, frame, sizeof frame, NULL), sizeof frame);
        ck_assert_int_eq(tc_tls_flush(tls, NULL), 0);
    }
    ck_assert(wait_until(loop, b_has, &count));
    tc_tls_free(tls);
}
END_TEST

struct patience {
    uint64_t begin;
    bool retried;
};

static bool up_after_retry(void *arg)
{
    struct patience *patience = arg;
    if (!patience->retried && lookups > 0 && tc_loop_now(loop) >= patience->begin + 50) {
        ck_assert(!b.up);
        ck_assert_uint_eq(lookups, 1); /* the wait is quiet */
        answer = TC_IDENTITY_KNOWN;
        tc_link_retry(b.link);
        patience->retried = true;
    }
    return both_up(NULL);
}

START_TEST(test_identity_known_late)
{
    struct patience patience = {.begin = tc_loop_now(loop)};
    unsigned one = 1;
    answer = TC_IDENTITY_WAIT;
    join(TLS);
    send_numbered(&a, 0, 0, 100000);
    ck_assert(wait_until(loop, up_after_retry, &patience));
    ck_assert(wait_until(loop, b_has, &one));
}
END_TEST

static bool retry_until_closed(void *arg)
{
    (void)arg;
    if (b.link)
        tc_link_retry(b.link); /* in vain */
    return both_closed(NULL);
}

START_TEST(test_identity_known_never)
{
    answer = TC_IDENTITY_WAIT;
    options_b.handshake_ms = 100;
    join(TLS);
    ck_assert(wait_until(loop, retry_until_closed, NULL));
    ck_assert_int_eq(b.why.reason, TC_E_TIMEOUT);
    ck_assert_uint_eq(b.up, 0);
}
END_TEST

/* --- dialling --- */

static void dial(const char *address)
{
    a.link = tc_link_dial(loop, address, &options_a, NULL);
    ck_assert_ptr_nonnull(a.link);
}

/* A port where connections are never answered: a listening socket whose queue is full. */
static uint16_t silent_port(int *fd, int fillers[4])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(*fd, (struct sockaddr *)(void *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(*fd, 0), 0);
    ck_assert_int_eq(getsockname(*fd, (struct sockaddr *)(void *)&address, &size), 0);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fillers[i], (struct sockaddr *)(void *)&address, sizeof address);
    }
    return ntohs(address.sin_port);
}

START_TEST(test_connect_refused)
{
    char address[64];
    snprintf(address, sizeof address, "%s", tc_listen_address(listener));
    tc_listen_close(listener);
    listener = NULL;
    dial(address);
    ck_assert(wait_until(loop, a_closed, NULL));
    ck_assert_int_eq(a.why.reason, TC_E_UNREACHABLE);
    ck_assert_int_eq(strncmp(a.why.text, address, strlen(address)), 0);
}
END_TEST

START_TEST(test_connect_without_an_answer)
{
    char address[64];
    int fd, fillers[4];
    ck_assert_int_eq(tc_address_join(address, sizeof address, "127.0.0.1", silent_port(&fd, fillers), NULL), 0);
    options_a.connect_ms = 100;
    dial(address);
    ck_assert(wait_until(loop, a_closed, NULL));
    ck_assert_int_eq(a.why.reason, TC_E_TIMEOUT);
    close(fd);
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
}
END_TEST

START_TEST(test_dial_by_name)
{
    char address[64];
    snprintf(address, sizeof address, "localhost%s", strchr(tc_listen_address(listener), ':'));
    dial(address);
    ck_assert(wait_until(loop, both_up, NULL));
    ck_assert_str_eq(tc_link_peer(a.link), address);
}
END_TEST

START_TEST(test_dial_a_name_that_nobody_has)
{
    char address[128]; /* a label of more than 63 bytes is refused before any server is asked */
    memset(address, 'x', 80);
    snprintf(address + 80, sizeof address - 80, ".invalid:1");
    dial(address);
    ck_assert(wait_until(loop, a_closed, NULL));
    ck_assert_int_eq(a.why.reason, TC_E_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(a.why.text, "unknown host"));
}
END_TEST

START_TEST(test_drop_and_close_while_the_name_is_looked_up)
{
    for (int i = 0; i < 20; i++) {
        dial("localhost:1");
        tc_link_drop(a.link);
    }
    dial("localhost:1");
    tc_link_close(a.link, 1000);
    ck_assert(wait_until(loop, a_closed, NULL));
    ck_assert_int_eq(a.why.reason, 0);
}
END_TEST

START_TEST(test_malformed_addresses)
{
    static const char *const bad[] = {"",      ":1",     "host", "host:", "host:0", "host:65536", "host:1x",
                                      "[::1]", "[::1:7", "::1",  "[]:1",  "a b:1",  "[::1]x:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_ptr_null(tc_link_dial(loop, bad[i], &options_a, NULL));
    options_a.tls = true;
    options_a.identity_size = TC_IDENTITY_MAX + 1;
    ck_assert_ptr_null(tc_link_dial(loop, "127.0.0.1:1", &options_a, NULL));
}
END_TEST

START_TEST(test_accept_takes_the_socket_also_when_it_is_dead)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    close(ends[1]);
    b.link = tc_link_accept(loop, ends[0], &options_b, NULL);
    ck_assert(wait_until(loop, b_closed, NULL));
    ck_assert_int_eq(fcntl(ends[0], F_GETFD), -1);
    tc_link_drop(NULL);
}
END_TEST

START_TEST(test_up_links_are_watched_by_keepalive)
{
    int on = 0, idle = 0, nodelay = 0;
    unsigned user_timeout = 1;
    socklen_t size = sizeof on;
    join_up(TCP);
    for (int fd = 3; fd < 64; fd++) { /* whichever of them is connected: both ends are in this process */
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)(void *)&peer, &length) != 0 || peer.sin_family != AF_INET)
            continue;
        getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size);
        getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &size);
        getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &size);
        getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, &size);
        ck_assert(on && idle == 2 && nodelay && user_timeout == 0);
    }
    ck_assert_int_eq(idle, 2);
}
END_TEST

/* Before the tests, each of which is a process of its own. */
static void fill_noise(void)
{
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof noise; i++) {
        state = state * 1664525 + 1013904223;
        noise[i] = (uint8_t)(state >> 24);
    }
}

int main(void)
{
    fill_noise();
    Suite *suite = suite_create("link");
    TCase *all = tcase_create("every transport"), *one = tcase_create("one transport");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_checked_fixture(one, setup, teardown);
    tcase_set_timeout(all, 120);
    tcase_set_timeout(one, 120);
    tcase_add_loop_test(all, test_order_of_events, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_names_and_identity, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_every_size_arrives_whole, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_many_small_frames_and_their_echo, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_paused_reader_pushes_back, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_pause_within_a_frame_holds_at_once, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_drained_asks_for_each_next_frame, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_ends_within_callbacks, 0, 16 * TRANSPORTS);
    tcase_add_loop_test(all, test_limits_close_the_link, 0, 2 * TRANSPORTS);
    tcase_add_loop_test(all, test_linger_sends_all_to_a_peer_that_talks, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_linger_ends_though_nobody_reads, 0, TRANSPORTS);
    tcase_add_loop_test(all, test_free_with_everything_under_way, 0, TRANSPORTS);
    tcase_add_loop_test(one, test_garbage, 0, 6);
    tcase_add_test(one, test_frame_byte_by_byte_then_half_a_frame);
    tcase_add_test(one, test_last_words_come_before_closed);
    tcase_add_test(one, test_handshake_time_is_absolute);
    tcase_add_test(one, test_half_open_ends_the_handshake);
    tcase_add_test(one, test_wrong_key);
    tcase_add_test(one, test_who_is_reset_comes_again);
    tcase_add_loop_test(one, test_who_is_reset_too_often_gives_up, 0, 3);
    tcase_add_test(one, test_unknown_identity);
    tcase_add_loop_test(one, test_only_one_side_has_tls, 0, 2);
    tcase_add_test(one, test_bytes_behind_the_hello_do_not_spin_the_loop);
    tcase_add_test(one, test_a_turn_ends_with_bytes_inside_tls);
    tcase_add_test(one, test_identity_known_late);
    tcase_add_test(one, test_identity_known_never);
    tcase_add_test(one, test_connect_refused);
    tcase_add_test(one, test_connect_without_an_answer);
    tcase_add_test(one, test_dial_by_name);
    tcase_add_test(one, test_dial_a_name_that_nobody_has);
    tcase_add_test(one, test_drop_and_close_while_the_name_is_looked_up);
    tcase_add_test(one, test_malformed_addresses);
    tcase_add_test(one, test_accept_takes_the_socket_also_when_it_is_dead);
    tcase_add_test(one, test_up_links_are_watched_by_keepalive);
    suite_add_tcase(suite, all);
    suite_add_tcase(suite, one);
    return unit_run(suite);
}
