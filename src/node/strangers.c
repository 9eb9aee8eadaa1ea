#include "node/strangers.h"

#include <stdlib.h>

#include "base/log.h"
#include "net/peer.h"
#include "session/message.h"

enum {
    FIRST_WORD_S = 3, /* from TCP to a HELLO that belongs to a session */
    REFUSAL_MS = 1000 /* for a refusal to get to who is one too many */
};

struct tc_strangers {
    struct tc_strangers_options options; /* listen is not kept */
    struct tc_loop *loop;
    struct tc_listen *listen;
    struct tc_wire *wires; /* listed through next and prev as in a runner */
    uint32_t next_link;
};

static void list(struct tc_strangers *self, struct tc_wire *wire)
{
    wire->next = self->wires;
    wire->prev = &self->wires;
    if (wire->next)
        wire->next->prev = &wire->next;
    self->wires = wire;
}

static void unlist(struct tc_wire *wire)
{
    *wire->prev = wire->next;
    if (wire->next)
        wire->next->prev = wire->prev;
}

static void on_frame(struct tc_strangers *self, struct tc_wire *wire, const struct tc_link_event *event)
{
    struct tc_err err = {0};
    char text[4 * TC_ERR_TEXT];
    int status = wire->closing ? 0 : self->options.greet(self->options.arg, wire, event, &err);
    if (status == 0)
        return;
    tc_log(TC_LOG_WARN, "%s: %s", tc_link_peer(wire->link), tc_escape(text, sizeof text, err.text));
    wire->closing = true;
    tc_timer_clear(wire->timer);
    tc_link_close(wire->link, status == -TC_E_LIMIT ? REFUSAL_MS : 0);
}

static void on_event(struct tc_wire *wire, const struct tc_link_event *event)
{
    struct tc_strangers *self = wire->owner;
    char text[4 * TC_ERR_TEXT];
    switch (event->kind) {
    case TC_LINK_FRAME:
        on_frame(self, wire, event);
        break;
    case TC_LINK_CLOSED:
        if (event->why->reason && event->why->reason != TC_E_CLOSED)
            tc_log(TC_LOG_WARN, "%s: %s", tc_link_peer(wire->link), tc_escape(text, sizeof text, event->why->text));
        tc_listen_gone(self->listen, wire->link);
        unlist(wire);
        tc_timer_free(wire->timer);
        free(wire);
        break;
    default:
        break;
    }
}

static void on_late(void *arg)
{
    struct tc_wire *wire = arg;
    const struct tc_strangers *self = wire->owner;
    tc_log(TC_LOG_WARN, "%s: connected and said nothing for %u s", tc_link_peer(wire->link), self->options.seconds);
    wire->closing = true;
    tc_link_close(wire->link, 0);
}

/* Who has not said which session it is of can say nothing else, and nothing long. */
static uint32_t stranger_limit(uint8_t type)
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
    struct tc_strangers *self = arg;
    struct tc_err err = {0};
    struct tc_wire *wire = calloc(1, sizeof *wire);
    struct tc_link_options options = {.call = tc_wire_call,
                                      .arg = wire,
                                      .limit = stranger_limit,
                                      .most = self->options.message_most,
                                      .handshake_ms = self->options.seconds * 1000,
                                      .low_water = TC_RUNNER_LOW_WATER,
                                      .tls = self->options.tls,
                                      .same_user = true,
                                      .lookup = self->options.lookup,
                                      .lookup_arg = self->options.arg};
    if (wire) {
        wire->stranger = on_event;
        wire->owner = self;
        wire->number = self->next_link++;
        wire->timer = tc_timer_new(self->loop, on_late, wire, &err);
    }
    if (!wire || !wire->timer) {
        tc_log(TC_LOG_ERROR, "%s: no memory for a connection", peer);
        free(wire);
        /* The socket is the link's, and there is none. */
        struct tc_link *none = tc_link_accept(self->loop, fd, &options, &err);
        tc_link_drop(none);
        return NULL;
    }
    wire->link = tc_link_accept(self->loop, fd, &options, &err);
    if (!wire->link) {
        tc_log(TC_LOG_ERROR, "%s: %s", peer, err.text);
        tc_timer_free(wire->timer);
        free(wire);
        return NULL;
    }
    tc_timer_set(wire->timer, (uint64_t)self->options.seconds * 1000);
    list(self, wire);
    return wire->link;
}

static void on_deaf(void *arg, const struct tc_err *why)
{
    struct tc_strangers *self = arg;
    if (self->options.deaf)
        self->options.deaf(self->options.arg, why);
}

static void on_lost(struct tc_wire *wire)
{
    const struct tc_strangers *self = wire->owner;
    tc_listen_gone(self->listen, wire->link);
}

void tc_strangers_admit(struct tc_wire *wire)
{
    const struct tc_strangers *self = wire->owner;
    if (!wire->lost)
        return;
    tc_listen_up(self->listen, wire->link);
    tc_link_set_limit(wire->link, tc_message_limit);
    wire->lost = NULL;
}

void tc_strangers_part(struct tc_wire *wire, bool still_pending)
{
    wire->lost = on_lost;
    if (still_pending)
        tc_link_set_limit(wire->link, pending_limit);
    else
        tc_strangers_admit(wire);
    tc_timer_clear(wire->timer);
    unlist(wire);
}

void tc_strangers_retry(struct tc_strangers *self)
{
    for (struct tc_wire *wire = self->wires; wire; wire = wire->next)
        tc_link_retry(wire->link);
}

struct tc_strangers *tc_strangers_open(struct tc_loop *loop, const struct tc_strangers_options *options,
                                       struct tc_err *err)
{
    struct tc_strangers *self = calloc(1, sizeof *self);
    if (!self) {
        tc_fail(err, TC_E_NOMEM, "%s: out of memory", options->listen);
        return NULL;
    }
    *self = (struct tc_strangers){.options = *options, .loop = loop, .next_link = options->first_link};
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

const char *tc_strangers_address(const struct tc_strangers *self)
{
    return tc_listen_address(self->listen);
}

void tc_strangers_close(struct tc_strangers *self)
{
    if (!self)
        return;
    tc_listen_close(self->listen);
    while (self->wires) {
        struct tc_wire *wire = self->wires;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it went from the list by *prev */
        tc_link_drop(wire->link);
        unlist(wire);
        tc_timer_free(wire->timer);
        free(wire);
    }
    free(self);
}
