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

/* Connections. */

static void unlist(struct tc_connection *connection)
{
    if (!connection->runner)
        return;
    *connection->prev = connection->next;
    if (connection->next)
        connection->next->prev = connection->prev;
    connection->runner->connection_count--;
    connection->runner = NULL;
}

static void lose(struct tc_connection *connection)
{
    if (connection->lost)
        connection->lost(connection);
    connection->lost = NULL;
}

static struct tc_connection *find(struct tc_runner *runner, uint32_t number)
{
    for (struct tc_connection *connection = runner->connections; connection; connection = connection->next)
        if (connection->number == number && !connection->closing)
            return connection;
    return NULL;
}

void tc_runner_adopt(struct tc_runner *runner, struct tc_connection *connection)
{
    connection->runner = runner;
    connection->next = runner->connections;
    connection->prev = &runner->connections;
    if (connection->next)
        connection->next->prev = &connection->next;
    runner->connections = connection;
    runner->connection_count++;
}

void tc_connection_ends(const struct tc_connection *connection, struct tc_destination *own, struct tc_destination *far)
{
    _Static_assert(TC_CHANNEL_SIZE == TC_TLS_CHANNEL, "what TLS says of a channel fits a message");
    char texts[2][TC_ADDRESS_TEXT];
    tc_link_ends(connection->link, texts[0], texts[1]);
    snprintf(own->address, sizeof own->address, "%.*s", (int)sizeof own->address - 1, texts[0]);
    snprintf(far->address, sizeof far->address, "%.*s", (int)sizeof far->address - 1, texts[1]);
    tc_link_channel(connection->link, own->channel);
    memcpy(far->channel, own->channel, sizeof far->channel);
}

static void report_served(struct tc_connection *connection)
{
    struct tc_event event = {.kind = TC_EV_SERVED, .link = connection->number};
    uint32_t handed[8];
    unsigned count = connection->handed_count;
    memcpy(handed, connection->handed, sizeof handed);
    connection->handed_count = 0;
    for (unsigned i = 0; i < count && !connection->closing; i++) {
        event.chunk = handed[i];
        tc_runner_event(connection->runner, &event);
    }
}

static void on_session_event(struct tc_connection *connection, const struct tc_link_event *event)
{
    struct tc_event out = {.link = connection->number};
    struct tc_destination own, far;
    if (connection->closing && event->kind != TC_LINK_CLOSED)
        return;
    switch (event->kind) {
    case TC_LINK_UP:
        out.kind = TC_EV_UP;
        tc_connection_ends(connection, &own, &far);
        out.far = &far;
        tc_runner_event(connection->runner, &out);
        break;
    case TC_LINK_FRAME:
        out.kind = TC_EV_FRAME;
        out.type = event->type;
        out.body = event->body;
        tc_runner_event(connection->runner, &out);
        break;
    case TC_LINK_DRAINED:
        report_served(connection);
        break;
    case TC_LINK_CLOSED: {
        struct tc_runner *runner = connection->runner;
        bool tell = !connection->closing;
        if (event->why->reason == TC_E_NOMEM) /* the machine may go on without this link, and nobody would know why */
            tc_log(TC_LOG_WARN, "%s", event->why->text);
        lose(connection);
        unlist(connection);
        out.kind = TC_EV_DOWN;
        out.err = event->why;
        tc_timer_free(connection->timer);
        free(connection);
        if (tell)
            tc_runner_event(runner, &out);
        if (runner->options.gone)
            runner->options.gone(runner->options.node);
        break;
    }
    }
}

void tc_connection_call(struct tc_link *link, const struct tc_link_event *event, void *arg)
{
    struct tc_connection *connection = arg;
    (void)link;
    if (connection->runner)
        on_session_event(connection, event);
    else
        connection->pending(connection, event);
}

/* With a limit chunks wait here, in order, until the bucket lets one go. */

static int hold(struct tc_runner *runner, const struct tc_held *chunk)
{
    if (runner->held_count == runner->held_capacity) {
        unsigned capacity = runner->held_capacity ? 2 * runner->held_capacity : 16;
        struct tc_held *more = calloc(capacity, sizeof *more);
        if (!more)
            return -TC_E_NOMEM;
        for (unsigned i = 0; i < runner->held_count; i++)
            more[i] = runner->held[(runner->held_first + i) % runner->held_capacity];
        free(runner->held);
        runner->held = more;
        runner->held_capacity = capacity;
        runner->held_first = 0;
    }
    runner->held[(runner->held_first + runner->held_count++) % runner->held_capacity] = *chunk;
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
static void send_failed(struct tc_runner *runner, struct tc_connection *connection, const struct tc_err *why)
{
    if (why->reason == TC_E_CLOSED || connection->closing)
        return;
    tc_log(TC_LOG_WARN, "%s", why->text);
    struct tc_event event = {.kind = TC_EV_DOWN, .link = connection->number, .err = why};
    connection->closing = true;
    tc_link_close(connection->link, 0);
    tc_runner_event(runner, &event);
}

static void hand_over(struct tc_runner *runner, struct tc_connection *connection, uint32_t chunk, struct tc_blob *frame)
{
    struct tc_err err = {0};
    if (tc_link_send(connection->link, TC_MSG_CHUNK, NULL, 0, frame, &err) < 0) {
        send_failed(runner, connection, &err);
        return;
    }
    size_t payload = frame->size - TC_CHUNK_HEAD;
    runner->chunk_bytes_sent += payload;
    uint32_t length = tc_chunk_length(&runner->layout, chunk);
    if (payload < length)
        runner->encoded_sent += payload;
    if (payload < length && runner->options.bucket) /* it was charged for all of them */
        tc_bucket_give(runner->options.bucket, length - payload);
    if (connection->handed_count < sizeof connection->handed / sizeof connection->handed[0])
        connection->handed[connection->handed_count++] = chunk;
    if (tc_link_queued(connection->link) <= TC_RUNNER_LOW_WATER)
        report_served(connection);
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
    struct tc_connection *connection = find(runner, load->link);
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
        if (connection)
            hand_over(runner, connection, load->chunk, load->frame);
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
    struct tc_connection *connection = find(runner, action->link);
    struct tc_blob *frame = tc_cache_get(runner->cache, action->chunk);
    if (!connection)
        return;
    if (frame) {
        tc_blob_ref(frame);
        if (!action->keep)
            tc_cache_drop(runner->cache, action->chunk);
        hand_over(runner, connection, action->chunk, frame);
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
        runner->held_first = (runner->held_first + 1) % runner->held_capacity;
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
    struct tc_link_options options = {.call = tc_connection_call,
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
    struct tc_connection *connection = allowed ? calloc(1, sizeof *connection) : NULL;
    if (!allowed) {
        tc_fail(&err, TC_E_POLICY, "%s: without a key only loopback may be dialled", action->address);
    } else if (connection) {
        connection->number = action->link;
        options.arg = connection;
        connection->link = tc_link_dial(runner->options.loop, action->address, &options, &err);
    } else {
        tc_fail(&err, TC_E_NOMEM, "no memory for a link");
    }
    if (connection && connection->link) {
        tc_runner_adopt(runner, connection);
        return;
    }
    free(connection);
    struct tc_event event = {.kind = TC_EV_DOWN, .link = action->link, .err = &err};
    tc_runner_event(runner, &event);
}

static void carry_out(struct tc_runner *runner, struct tc_action *action)
{
    struct tc_connection *connection;
    struct tc_err err = {0};
    switch (action->kind) {
    case TC_ACT_DIAL:
        dial(runner, action);
        break;
    case TC_ACT_SEND:
        connection = find(runner, action->link);
        if (connection && tc_link_send(connection->link, action->type, NULL, 0, action->body, &err) < 0)
            send_failed(runner, connection, &err);
        break;
    case TC_ACT_SERVE:
        serve_in_time(runner, &(struct tc_held){action->link, action->chunk, action->keep});
        break;
    case TC_ACT_CLOSE:
        connection = find(runner, action->link);
        if (connection) {
            connection->closing = true;
            tc_link_close(connection->link, action->linger);
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
    struct tc_connection *connection = find(runner, link);
    if (connection)
        tc_link_pause(connection->link, paused);
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
    while (runner->connections) {
        struct tc_connection *connection = runner->connections;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it went from the list by *prev */
        lose(connection);
        tc_link_drop(connection->link);
        unlist(connection);
        tc_timer_free(connection->timer);
        free(connection);
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
