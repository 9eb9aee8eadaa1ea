#include "node/pending.h"

#include <stdlib.h>

#include "base/log.h"
#include "net/peer.h"
#include "session/message.h"

enum {
    FIRST_WORD_S = 3, /* from TCP to a HELLO that belongs to a session */
    REFUSAL_MS = 1000 /* for a refusal to get to who is one too many */
};

struct tc_pending {
    struct tc_pending_options options; /* listen is not kept */
    struct tc_loop *loop;
    struct tc_listen *listen;
    struct tc_connection *connections; /* listed through next and prev as in a runner */
    uint32_t next_link;
};

static void list(struct tc_pending *self, struct tc_connection *connection)
{
    connection->next = self->connections;
    connection->prev = &self->connections;
    if (connection->next)
        connection->next->prev = &connection->next;
    self->connections = connection;
}

static void unlist(struct tc_connection *connection)
{
    *connection->prev = connection->next;
    if (connection->next)
        connection->next->prev = connection->prev;
}

static void on_frame(struct tc_pending *self, struct tc_connection *connection, const struct tc_link_event *event)
{
    struct tc_err err = {0};
    char text[4 * TC_ERR_TEXT];
    int status = connection->closing ? 0 : self->options.greet(self->options.arg, connection, event, &err);
    if (status == 0)
        return;
    tc_log(TC_LOG_WARN, "%s: %s", tc_link_peer(connection->link), tc_escape(text, sizeof text, err.text));
    connection->closing = true;
    tc_timer_clear(connection->timer);
    tc_link_close(connection->link, status == -TC_E_LIMIT ? REFUSAL_MS : 0);
}

static void on_event(struct tc_connection *connection, const struct tc_link_event *event)
{
    struct tc_pending *self = connection->owner;
    char text[4 * TC_ERR_TEXT];
    switch (event->kind) {
    case TC_LINK_FRAME:
        on_frame(self, connection, event);
        break;
    case TC_LINK_CLOSED:
        if (event->why->reason && event->why->reason != TC_E_CLOSED)
            tc_log(TC_LOG_WARN, "%s: %s", tc_link_peer(connection->link),
                   tc_escape(text, sizeof text, event->why->text));
        tc_listen_gone(self->listen, connection->link);
        unlist(connection);
        tc_timer_free(connection->timer);
        free(connection);
        break;
    default:
        break;
    }
}

static void on_late(void *arg)
{
    struct tc_connection *connection = arg;
    const struct tc_pending *self = connection->owner;
    tc_log(TC_LOG_WARN, "%s: connected and said nothing for %u s", tc_link_peer(connection->link),
           self->options.seconds);
    connection->closing = true;
    tc_link_close(connection->link, 0);
}

/* Who has not said which session it is of can say nothing else, and nothing long. */
static uint32_t first_frame_limit(uint8_t type)
{
    return type == TC_MSG_HELLO ? tc_message_limit(type) : 0;
}

/* Nor much more, who has said so and is not let in yet. */
static uint32_t pending_limit(uint8_t type)
{
    return type == TC_MSG_OFFER || type == TC_MSG_ABORT || type == TC_MSG_BYE ? tc_message_limit(type) : 0;
}

static struct tc_link *on_accept(void *arg, int fd, const char *peer)
{
    struct tc_pending *self = arg;
    struct tc_err err = {0};
    struct tc_connection *connection = calloc(1, sizeof *connection);
    struct tc_link_options options = {.call = tc_connection_call,
                                      .arg = connection,
                                      .limit = first_frame_limit,
                                      .most = self->options.message_most,
                                      .handshake_ms = self->options.seconds * 1000,
                                      .low_water = TC_RUNNER_LOW_WATER,
                                      .tls = self->options.tls,
                                      .same_user = true,
                                      .lookup = self->options.lookup,
                                      .lookup_arg = self->options.arg};
    if (connection) {
        connection->pending = on_event;
        connection->owner = self;
        connection->number = self->next_link++;
        connection->timer = tc_timer_new(self->loop, on_late, connection, &err);
    }
    if (!connection || !connection->timer) {
        tc_log(TC_LOG_ERROR, "%s: no memory for a connection", peer);
        free(connection);
        /* The socket is the link's, and there is none. */
        struct tc_link *none = tc_link_accept(self->loop, fd, &options, &err);
        tc_link_drop(none);
        return NULL;
    }
    connection->link = tc_link_accept(self->loop, fd, &options, &err);
    if (!connection->link) {
        tc_log(TC_LOG_ERROR, "%s: %s", peer, err.text);
        tc_timer_free(connection->timer);
        free(connection);
        return NULL;
    }
    tc_timer_set(connection->timer, (uint64_t)self->options.seconds * 1000);
    list(self, connection);
    return connection->link;
}

static void on_deaf(void *arg, const struct tc_err *why)
{
    struct tc_pending *self = arg;
    if (self->options.deaf)
        self->options.deaf(self->options.arg, why);
}

static void on_lost(struct tc_connection *connection)
{
    const struct tc_pending *self = connection->owner;
    tc_listen_gone(self->listen, connection->link);
}

void tc_pending_admit(struct tc_connection *connection)
{
    const struct tc_pending *self = connection->owner;
    if (!connection->lost)
        return;
    tc_listen_up(self->listen, connection->link);
    tc_link_set_limit(connection->link, tc_message_limit);
    connection->lost = NULL;
}

void tc_pending_part(struct tc_connection *connection, bool still_pending)
{
    connection->lost = on_lost;
    if (still_pending)
        tc_link_set_limit(connection->link, pending_limit);
    else
        tc_pending_admit(connection);
    tc_timer_clear(connection->timer);
    unlist(connection);
}

void tc_pending_retry(struct tc_pending *self)
{
    for (struct tc_connection *connection = self->connections; connection; connection = connection->next)
        tc_link_retry(connection->link);
}

struct tc_pending *tc_pending_open(struct tc_loop *loop, const struct tc_pending_options *options, struct tc_err *err)
{
    struct tc_pending *self = calloc(1, sizeof *self);
    if (!self) {
        tc_fail(err, TC_E_NOMEM, "%s: out of memory", options->listen);
        return NULL;
    }
    *self = (struct tc_pending){.options = *options, .loop = loop, .next_link = options->first_link};
    if (self->options.seconds == 0)
        self->options.seconds = FIRST_WORD_S;
    if (!self->options.tls)
        (void)tc_peer_prepare();
    struct tc_listen_options *limits = &self->options.limits;
    limits->deaf = on_deaf;
    self->listen = options->listen_fd > 0
                       ? tc_listen_adopt(loop, options->listen_fd, limits, on_accept, self, err)
                       : tc_listen_open(loop, options->listen, options->port, limits, on_accept, self, err);
    if (!self->listen) {
        free(self);
        return NULL;
    }
    return self;
}

const char *tc_pending_address(const struct tc_pending *self)
{
    return tc_listen_address(self->listen);
}

void tc_pending_close(struct tc_pending *self)
{
    if (!self)
        return;
    tc_listen_close(self->listen);
    while (self->connections) {
        struct tc_connection *connection = self->connections;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it went from the list by *prev */
        tc_link_drop(connection->link);
        unlist(connection);
        tc_timer_free(connection->timer);
        free(connection);
    }
    free(self);
}
