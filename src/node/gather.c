#include "node/gather.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/pending.h"
#include "site/launch.h"

enum {
    WORD_SECONDS = 15, /* to the first word: hundreds come at once, and start while they dial */
    GONE_SECONDS = 5   /* for launched agents, when the session is over */
};

struct tc_gather {
    struct tc_runner *runner;
    struct tc_pending *pending;
    struct tc_launch *launch;
    struct tc_watch *watch;
    void (*joined)(void *arg, const struct tc_msg_hello *hello);
    void *arg;
    uint32_t hosts;
    bool stay;
    uint8_t key[TC_KEY_SIZE];
};

static enum tc_identity look_up(void *arg, const uint8_t *identity, size_t size, uint8_t key[TC_KEY_SIZE])
{
    const struct tc_gather *gather = arg;
    if (size != sizeof TC_JOIN_IDENTITY - 1 || memcmp(identity, TC_JOIN_IDENTITY, size) != 0)
        return TC_IDENTITY_UNKNOWN;
    memcpy(key, gather->key, TC_KEY_SIZE);
    return TC_IDENTITY_KNOWN;
}

/* What it says is the machine's business. */
static int greet(void *arg, struct tc_connection *connection, const struct tc_link_event *event, struct tc_err *err)
{
    struct tc_gather *gather = arg;
    struct tc_message message;
    (void)err;
    if (tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, NULL) == 0 &&
        message.type == TC_MSG_HELLO)
        gather->joined(gather->arg, &message.hello);
    tc_pending_part(connection, false);
    tc_runner_adopt(gather->runner, connection);
    struct tc_destination own, far;
    tc_connection_ends(connection, &own, &far);
    struct tc_event out = {
        .kind = TC_EV_FRAME, .link = connection->number, .type = event->type, .body = event->body, .far = &far};
    tc_runner_event(gather->runner, &out);
    return 0;
}

/* Launching. */

static void tell_absent(struct tc_gather *gather, uint32_t host, const char *why)
{
    struct tc_err err = {0};
    tc_fail(&err, TC_E_UNREACHABLE, "%s", why);
    struct tc_event event = {.kind = TC_EV_ABSENT, .host = host, .err = &err};
    tc_runner_event(gather->runner, &event);
}

static void on_failed(void *arg, unsigned number, const char *why)
{
    tell_absent(arg, number, why);
}

static void on_launch(void *arg, unsigned ready)
{
    struct tc_gather *gather = arg;
    (void)ready;
    if (tc_launch_take(gather->launch, on_failed, gather) == 0)
        return;
    tc_watch_free(gather->watch);
    gather->watch = NULL;
    for (uint32_t i = 0; i < gather->hosts; i++) /* who has joined is not absent */
        tell_absent(gather, i, "its launcher has ended");
}

static int start(struct tc_gather *gather, const struct tc_gather_options *options, struct tc_err *err)
{
    free(options->request->join);
    options->request->join = strdup(tc_gather_address(gather));
    if (!options->request->join)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    gather->launch = tc_launch_start(options->request, err);
    if (!gather->launch)
        return -err->reason;
    gather->watch = tc_watch_new(options->loop, tc_launch_fd(gather->launch), on_launch, gather, err);
    return gather->watch ? tc_watch_want(gather->watch, TC_WATCH_READ, err) : -err->reason;
}

struct tc_gather *tc_gather_open(const struct tc_gather_options *options, struct tc_err *err)
{
    struct tc_gather *gather = calloc(1, sizeof *gather);
    unsigned most = 64 + 2 * options->hosts;
    struct tc_pending_options pending = {
        .listen = options->listen,
        .limits = {.pending = most > 256 ? most : 256, .pending_per_address = most},
        .seconds = WORD_SECONDS,
        .first_link = TC_LINK_ACCEPTED,
        .tls = options->key != NULL,
        .lookup = look_up,
        .greet = greet,
        .arg = gather,
    };
    if (!gather) {
        tc_fail(err, TC_E_NOMEM, "no memory to gather hosts");
        return NULL;
    }
    gather->runner = options->runner;
    gather->hosts = options->hosts;
    gather->stay = options->stay;
    gather->joined = options->joined;
    gather->arg = options->arg;
    if (!options->key || tc_key_derive(options->key, "join", gather->key, err) == 0)
        gather->pending = tc_pending_open(options->loop, &pending, err);
    if (gather->pending && (!options->request || start(gather, options, err) == 0))
        return gather;
    tc_gather_close(gather);
    return NULL;
}

const char *tc_gather_address(const struct tc_gather *gather)
{
    return tc_pending_address(gather->pending);
}

void tc_gather_close(struct tc_gather *gather)
{
    if (!gather)
        return;
    tc_pending_close(gather->pending);
    tc_watch_free(gather->watch);
    tc_launch_end(gather->launch, GONE_SECONDS, gather->stay);
    explicit_bzero(gather->key, sizeof gather->key);
    free(gather);
}
