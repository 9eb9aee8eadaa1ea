#include "node/runner.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "net/address.h"

void tc_data_identity(uint8_t out[TC_DATA_IDENTITY_SIZE], const uint8_t *session, const uint8_t *id)
{
    out[0] = 'd';
    memcpy(out + 1, session, TC_SESSION_ID_SIZE);
    memcpy(out + 1 + TC_SESSION_ID_SIZE, id, TC_LINK_ID_SIZE);
}

/* Wires. */

static void unlist(struct tc_wire *wire)
{
    if (!wire->runner)
        return;
    *wire->prev = wire->next;
    if (wire->next)
        wire->next->prev = wire->prev;
    wire->runner->wire_count--;
    wire->runner = NULL;
}

static void lose(struct tc_wire *wire)
{
    if (wire->lost)
        wire->lost(wire);
    wire->lost = NULL;
}

static struct tc_wire *find(struct tc_runner *runner, uint32_t number)
{
    for (struct tc_wire *wire = runner->wires; wire; wire = wire->next)
        if (wire->number == number && !wire->closing)
            return wire;
    return NULL;
}

void tc_runner_adopt(struct tc_runner *runner, struct tc_wire *wire)
{
    wire->runner = runner;
    wire->next = runner->wires;
    wire->prev = &runner->wires;
    if (wire->next)
        wire->next->prev = &wire->next;
    runner->wires = wire;
    runner->wire_count++;
}

void tc_wire_ends(const struct tc_wire *wire, struct tc_destination *own, struct tc_destination *far)
{
    _Static_assert(TC_CHANNEL_SIZE == TC_TLS_CHANNEL, "what TLS says of a channel fits a message");
    char texts[2][TC_ADDRESS_TEXT];
    tc_link_ends(wire->link, texts[0], texts[1]);
    snprintf(own->address, sizeof own->address, "%.*s", (int)sizeof own->address - 1, texts[0]);
    snprintf(far->address, sizeof far->address, "%.*s", (int)sizeof far->address - 1, texts[1]);
    tc_link_channel(wire->link, own->channel);
    memcpy(far->channel, own->channel, sizeof far->channel);
}

static void report_served(struct tc_wire *wire)
{
    struct tc_event event = {.kind = TC_EV_SERVED, .link = wire->number};
    uint32_t handed[8];
    unsigned count = wire->handed_count;
    memcpy(handed, wire->handed, sizeof handed);
    wire->handed_count = 0;
    for (unsigned i = 0; i < count && !wire->closing; i++) {
        event.chunk = handed[i];
        tc_runner_event(wire->runner, &event);
    }
}

static void on_session_event(struct tc_wire *wire, const struct tc_link_event *event)
{
    struct tc_event out = {.link = wire->number};
    struct tc_destination own, far;
    if (wire->closing && event->kind != TC_LINK_CLOSED)
        return;
    switch (event->kind) {
    case TC_LINK_UP:
        out.kind = TC_EV_UP;
        tc_wire_ends(wire, &own, &far);
        out.far = &far;
        tc_runner_event(wire->runner, &out);
        break;
    case TC_LINK_FRAME:
        out.kind = TC_EV_FRAME;
        out.type = event->type;
        out.body = event->body;
        tc_runner_event(wire->runner, &out);
        break;
    case TC_LINK_DRAINED:
        report_served(wire);
        break;
    case TC_LINK_CLOSED: {
        struct tc_runner *runner = wire->runner;
        bool tell = !wire->closing;
        if (event->why->reason == TC_E_NOMEM) /* the machine may go on without this link, and nobody would know why */
            tc_log(TC_LOG_WARN, "%s", event->why->text);
        lose(wire);
        unlist(wire);
        out.kind = TC_EV_DOWN;
        out.err = event->why;
        tc_timer_free(wire->timer);
        free(wire);
        if (tell)
            tc_runner_event(runner, &out);
        if (runner->options.gone)
            runner->options.gone(runner->options.node);
        break;
    }
    }
}

void tc_wire_call(struct tc_link *link, const struct tc_link_event *event, void *arg)
{
    struct tc_wire *wire = arg;
    (void)link;
    if (wire->runner)
        on_session_event(wire, event);
    else
        wire->stranger(wire, event);
}

/* With a limit chunks wait here, in order, until the bucket lets one go. */

static int hold(struct tc_runner *runner, const struct tc_held *chunk)
{
    if (runner->held_count == runner->held_room) {
        unsigned room = runner->held_room ? 2 * runner->held_room : 16;
        struct tc_held *more = calloc(room, sizeof *more);
        if (!more)
            return -TC_E_NOMEM;
        for (unsigned i = 0; i < runner->held_count; i++)
            more[i] = runner->held[(runner->held_first + i) % runner->held_room];
        free(runner->held);
        runner->held = more;
        runner->held_room = room;
        runner->held_first = 0;
    }
    runner->held[(runner->held_first + runner->held_count++) % runner->held_room] = *chunk;
    return 0;
}

static void pace(struct tc_runner *runner)
{
    if (runner->held_count > 0)
        tc_timer_set(runner->pace, tc_bucket_wait(runner->options.bucket, tc_loop_now(runner->options.loop)));
}

/* Serving a chunk: from the cache, or read (and encoded) again in the pool. */

struct load {
    struct tc_task task;
    struct tc_runner *runner;
    uint32_t link, chunk;
    bool encode, keep;
    int level;
    struct tc_blob *frame;
    struct tc_err err;
};

/* What could not be queued is missing for good, so the link goes with it, as if it had been cut. One that is ending says so
 * itself. */
static void send_failed(struct tc_runner *runner, struct tc_wire *wire, const struct tc_err *why)
{
    if (why->reason == TC_E_CLOSED || wire->closing)
        return;
    tc_log(TC_LOG_WARN, "%s", why->text);
    struct tc_event event = {.kind = TC_EV_DOWN, .link = wire->number, .err = why};
    wire->closing = true;
    tc_link_close(wire->link, 0);
    tc_runner_event(runner, &event);
}

static void hand_over(struct tc_runner *runner, struct tc_wire *wire, uint32_t chunk, struct tc_blob *frame)
{
    struct tc_err err = {0};
    if (tc_link_send(wire->link, TC_MSG_CHUNK, NULL, 0, frame, &err) < 0) {
        send_failed(runner, wire, &err);
        return;
    }
    size_t payload = frame->size - TC_CHUNK_HEAD;
    runner->chunk_bytes_sent += payload;
    uint32_t length = tc_chunk_length(&runner->layout, chunk);
    if (payload < length)
        runner->encoded_sent += payload;
    if (payload < length && runner->options.bucket) /* it was charged for all of them */
        tc_bucket_give(runner->options.bucket, length - payload);
    if (wire->handed_count < sizeof wire->handed / sizeof wire->handed[0])
        wire->handed[wire->handed_count++] = chunk;
    if (tc_link_queued(wire->link) <= TC_RUNNER_LOW_WATER)
        report_served(wire);
}

static void load_run(struct tc_task *task, struct tc_worker *worker)
{
    struct load *load = (struct load *)task;
    struct tc_runner *runner = load->runner;
    uint32_t length = tc_chunk_length(&runner->layout, load->chunk);
    struct tc_blob *plain = tc_blob_new(runner->options.blobs, TC_CHUNK_HEAD + length);
    if (!plain) {
        tc_fail(&load->err, TC_E_NOMEM, "no memory for chunk %u", load->chunk);
        return;
    }
    load->frame = plain;
    tc_chunk_head(plain->bytes, load->chunk, length, TC_FORM_PLAIN);
    uint64_t offset = tc_chunk_offset(&runner->layout, load->chunk);
    if (runner->options.read(runner->options.node, offset, plain->bytes + TC_CHUNK_HEAD, length, &load->err) < 0)
        return;
    if (load->encode)
        load->frame = tc_frame_encode(worker, runner->options.blobs, plain, load->chunk, load->level);
}

struct tc_blob *tc_frame_encode(struct tc_worker *worker, struct tc_blob_pool *blobs, struct tc_blob *plain,
                                uint32_t chunk, int level)
{
    size_t length = plain->size - TC_CHUNK_HEAD;
    struct tc_blob *frame = tc_blob_new(blobs, plain->size);
    if (!frame)
        return plain;
    /* Less than an eighth saved is not worth the receivers' work. */
    size_t size = tc_codec_encode(worker->codec, level, plain->bytes + TC_CHUNK_HEAD, length,
                                  frame->bytes + TC_CHUNK_HEAD, length - length / 8);
    if (size == 0) {
        tc_blob_unref(frame);
        return plain;
    }
    tc_chunk_head(frame->bytes, chunk, (uint32_t)length, TC_FORM_ZSTD);
    frame->size = TC_CHUNK_HEAD + size;
    tc_blob_unref(plain);
    return frame;
}

static void load_done(struct tc_task *task)
{
    struct load *load = (struct load *)task;
    struct tc_runner *runner = load->runner;
    struct tc_wire *wire = find(runner, load->link);
    runner->tasks--;
    if (load->err.reason) {
        struct tc_event event = {.kind = TC_EV_SERVED, .link = load->link, .chunk = load->chunk, .err = &load->err};
        tc_runner_event(runner, &event);
    } else {
        uint32_t length = tc_chunk_length(&runner->layout, load->chunk);
        size_t payload = load->frame->size - TC_CHUNK_HEAD;
        if (load->encode)
            tc_compress_choice_result(&runner->choice, length, payload < length ? payload : 0);
        if (load->keep)
            tc_cache_put(runner->cache, load->chunk, load->frame);
        if (wire)
            hand_over(runner, wire, load->chunk, load->frame);
        tc_runner_drain(runner);
    }
    tc_blob_unref(load->frame);
    free(load);
    if (runner->options.gone) /* nothing but this read may have kept the session */
        runner->options.gone(runner->options.node);
}

static void tell_unserved(struct tc_runner *runner, uint32_t link, uint32_t chunk)
{
    struct tc_err err = {0};
    tc_fail(&err, TC_E_NOMEM, "no memory to read chunk %u", chunk);
    struct tc_event event = {.kind = TC_EV_SERVED, .link = link, .chunk = chunk, .err = &err};
    tc_runner_event(runner, &event);
}

static void serve(struct tc_runner *runner, const struct tc_held *action)
{
    struct tc_wire *wire = find(runner, action->link);
    struct tc_blob *frame = tc_cache_get(runner->cache, action->chunk);
    if (!wire)
        return;
    if (frame) {
        tc_blob_ref(frame);
        if (!action->keep)
            tc_cache_drop(runner->cache, action->chunk);
        hand_over(runner, wire, action->chunk, frame);
        tc_blob_unref(frame);
        return;
    }
    struct load *load = calloc(1, sizeof *load);
    if (!load) {
        tell_unserved(runner, action->link, action->chunk);
        return;
    }
    *load = (struct load){.task = {.run = load_run, .done = load_done},
                          .runner = runner,
                          .link = action->link,
                          .chunk = action->chunk,
                          .keep = action->keep,
                          .encode = tc_compress_choice_try(&runner->choice),
                          .level = runner->choice.compress.level};
    tc_runner_add(runner, &load->task);
}

static void serve_in_time(struct tc_runner *runner, const struct tc_held *chunk)
{
    struct tc_bucket *bucket = runner->options.bucket;
    if (!bucket) {
        serve(runner, chunk);
    } else if (hold(runner, chunk) < 0) {
        tell_unserved(runner, chunk->link, chunk->chunk);
    } else if (runner->held_count == 1) {
        pace(runner);
    }
}

static void on_pace(void *arg)
{
    struct tc_runner *runner = arg;
    uint64_t now = tc_loop_now(runner->options.loop);
    while (runner->held_count > 0 && tc_bucket_wait(runner->options.bucket, now) == 0) {
        struct tc_held chunk = runner->held[runner->held_first];
        runner->held_first = (runner->held_first + 1) % runner->held_room;
        runner->held_count--;
        if (find(runner, chunk.link)) /* charged before it is read, so that no other takes the same place */
            tc_bucket_take(runner->options.bucket, now, tc_chunk_length(&runner->layout, chunk.chunk));
        serve(runner, &chunk);
    }
    pace(runner);
}

/* The other actions. */

static void dial(struct tc_runner *runner, const struct tc_action *action)
{
    struct tc_err err = {0};
    uint8_t identity[TC_DATA_IDENTITY_SIZE];
    static const uint8_t none[TC_LINK_ID_SIZE];
    bool control = memcmp(action->id, none, sizeof none) == 0;
    struct tc_link_options options = {.call = tc_wire_call,
                                      .limit = tc_message_limit,
                                      .blobs = runner->options.blobs,
                                      .low_water = TC_RUNNER_LOW_WATER,
                                      .again = TC_RUNNER_AGAIN,
                                      .tls = runner->options.tls,
                                      .same_user = true};
    tc_data_identity(identity, runner->session, action->id);
    options.identity = control ? (const uint8_t *)TC_CONTROL_IDENTITY : identity;
    options.identity_size = control ? sizeof TC_CONTROL_IDENTITY - 1 : sizeof identity;
    options.key = control ? runner->options.control_key : action->key;
    /* What a plan names is a peer's word. */
    bool allowed = runner->options.tls || tc_address_is_loopback(action->address);
    struct tc_wire *wire = allowed ? calloc(1, sizeof *wire) : NULL;
    if (!allowed) {
        tc_fail(&err, TC_E_POLICY, "%s: without a key only loopback may be dialled", action->address);
    } else if (wire) {
        wire->number = action->link;
        options.arg = wire;
        wire->link = tc_link_dial(runner->options.loop, action->address, &options, &err);
    } else {
        tc_fail(&err, TC_E_NOMEM, "no memory for a link");
    }
    if (wire && wire->link) {
        tc_runner_adopt(runner, wire);
        return;
    }
    free(wire);
    struct tc_event event = {.kind = TC_EV_DOWN, .link = action->link, .err = &err};
    tc_runner_event(runner, &event);
}

static void carry_out(struct tc_runner *runner, struct tc_action *action)
{
    struct tc_wire *wire;
    struct tc_err err = {0};
    switch (action->kind) {
    case TC_ACT_DIAL:
        dial(runner, action);
        break;
    case TC_ACT_SEND:
        wire = find(runner, action->link);
        if (wire && tc_link_send(wire->link, action->type, NULL, 0, action->body, &err) < 0)
            send_failed(runner, wire, &err);
        break;
    case TC_ACT_SERVE:
        serve_in_time(runner, &(struct tc_held){action->link, action->chunk, action->keep});
        break;
    case TC_ACT_CLOSE:
        wire = find(runner, action->link);
        if (wire) {
            wire->closing = true;
            tc_link_close(wire->link, action->linger);
        }
        break;
    default:
        runner->options.act(runner->options.node, action);
        break;
    }
    tc_blob_unref(action->body);
}

/* Setting a timer again that is due already would put it behind every descriptor that is ready, for ever on a busy link:
 * so it is set only when the time has changed. */
static void set_timer(struct tc_runner *runner)
{
    uint64_t wake = runner->options.wake(runner->options.machine), now = tc_loop_now(runner->options.loop);
    if (wake == runner->armed)
        return;
    runner->armed = wake;
    if (wake == UINT64_MAX)
        tc_timer_clear(runner->timer);
    else
        tc_timer_set(runner->timer, wake > now ? wake - now : 0);
}

void tc_runner_drain(struct tc_runner *runner)
{
    struct tc_action action;
    if (runner->draining)
        return;
    runner->draining = true;
    while (runner->options.take(runner->options.machine, &action))
        carry_out(runner, &action);
    runner->draining = false;
    set_timer(runner);
}

void tc_runner_event(struct tc_runner *runner, const struct tc_event *event)
{
    runner->options.event(runner->options.machine, event, tc_loop_now(runner->options.loop));
    tc_runner_drain(runner);
}

static void on_timer(void *arg)
{
    struct tc_runner *runner = arg;
    struct tc_event event = {.kind = TC_EV_TICK};
    uint64_t now = tc_loop_now(runner->options.loop);
    runner->late += now > runner->armed ? now - runner->armed : 0;
    runner->armed = UINT64_MAX;
    tc_runner_event(runner, &event);
}

void tc_runner_add(struct tc_runner *runner, struct tc_task *task)
{
    runner->tasks++;
    tc_pool_add(runner->options.pool, task);
}

void tc_runner_pause(struct tc_runner *runner, uint32_t link, bool paused)
{
    struct tc_wire *wire = find(runner, link);
    if (wire)
        tc_link_pause(wire->link, paused);
}

int tc_runner_init(struct tc_runner *runner, const struct tc_runner_options *options, struct tc_err *err)
{
    *runner = (struct tc_runner){.options = *options, .armed = UINT64_MAX};
    runner->timer = tc_timer_new(options->loop, on_timer, runner, err);
    if (options->bucket && runner->timer && !(runner->pace = tc_timer_new(options->loop, on_pace, runner, err))) {
        tc_timer_free(runner->timer);
        runner->timer = NULL;
    }
    return runner->timer ? 0 : -TC_E_NOMEM;
}

int tc_runner_file(struct tc_runner *runner, const struct tc_layout *layout, const uint8_t session[TC_SESSION_ID_SIZE],
                   uint64_t cache_budget, struct tc_compress compress, struct tc_err *err)
{
    runner->layout = *layout;
    memcpy(runner->session, session, TC_SESSION_ID_SIZE);
    tc_compress_choice_init(&runner->choice, compress);
    runner->cache = tc_cache_new(cache_budget, layout->chunk_size, err);
    return runner->cache ? 0 : -TC_E_NOMEM;
}

void tc_runner_end(struct tc_runner *runner)
{
    while (runner->wires) {
        struct tc_wire *wire = runner->wires;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it went from the list by *prev */
        lose(wire);
        tc_link_drop(wire->link);
        unlist(wire);
        tc_timer_free(wire->timer);
        free(wire);
    }
    tc_timer_free(runner->timer);
    tc_timer_free(runner->pace);
    free(runner->held);
    tc_cache_free(runner->cache);
    runner->timer = runner->pace = NULL;
    runner->held = NULL;
    runner->cache = NULL;
}

void tc_prepare_process(void)
{
    struct rlimit limit;
    /* Buffers of 100 KiB and more come and go with every chunk: given back to the system each time they would cost
     * page faults, and every thread's own arena keeps its own spare memory. */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
    mallopt(M_ARENA_MAX, 2);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
