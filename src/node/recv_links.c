#include "node/recv_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"

enum { JOIN_MS = 15000 /* to reach the coordinator: it listens before it launches, and hundreds come at once */ };

/* Links that came in. */

/* What the link proved to know must be what it asks for. */
static bool identity_fits(const struct tc_connection *connection, const uint8_t *identity, size_t size)
{
    size_t shown_size = 0;
    const uint8_t *shown = tc_link_identity(connection->link, &shown_size);
    return shown && shown_size == size && memcmp(shown, identity, size) == 0;
}

static int greet_pending(void *arg, struct tc_connection *connection, const struct tc_link_event *event,
                         struct tc_err *err)
{
    struct tc_recv_node *node = arg;
    struct tc_message message;
    uint8_t identity[TC_DATA_IDENTITY_SIZE];
    bool tls = node->options.key != NULL;
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, err);
    if (status < 0)
        return status;
    if (message.type != TC_MSG_HELLO)
        return tc_fail(err, TC_E_PROTOCOL, "%s before HELLO", tc_message_name(message.type));
    struct tc_recv_session *session = NULL;
    if (message.hello.role == TC_ROLE_COORDINATOR) {
        if (tls && !identity_fits(connection, (const uint8_t *)TC_CONTROL_IDENTITY, sizeof TC_CONTROL_IDENTITY - 1))
            return tc_fail(err, TC_E_AUTH, "a data link speaks as a control link");
        status = tc_recv_new_session(node, connection, false, err);
    } else {
        tc_data_identity(identity, message.hello.session, message.hello.link);
        if (tls && !identity_fits(connection, identity, sizeof identity))
            return tc_fail(err, TC_E_AUTH, "a link names another link than its key");
        session = tc_recv_session_by_id(node, message.hello.session);
        if (!session)
            return tc_fail(err, TC_E_NOTFOUND, "a data link of no session here");
        tc_pending_part(connection, false);
        tc_runner_adopt(&session->runner, connection);
    }
    if (status < 0)
        return status;
    struct tc_event out = {.kind = TC_EV_UP, .link = connection->number};
    tc_runner_event(connection->runner, &out);
    out = (struct tc_event){.kind = TC_EV_FRAME, .link = connection->number, .type = event->type, .body = event->body};
    if (connection->runner && !connection->closing)
        tc_runner_event(connection->runner, &out);
    return 0;
}

static enum tc_identity look_up(void *arg, const uint8_t *identity, size_t size, uint8_t key[TC_KEY_SIZE])
{
    struct tc_recv_node *node = arg;
    if (size == sizeof TC_CONTROL_IDENTITY - 1 && memcmp(identity, TC_CONTROL_IDENTITY, size) == 0) {
        memcpy(key, node->control_key, TC_KEY_SIZE);
        return TC_IDENTITY_KNOWN;
    }
    if (size != TC_DATA_IDENTITY_SIZE || identity[0] != 'd')
        return TC_IDENTITY_UNKNOWN;
    struct tc_recv_session *session = tc_recv_session_by_id(node, identity + 1);
    if (!session)
        return TC_IDENTITY_UNKNOWN;
    int known = tc_agent_link_key(session->machine, identity + 1 + TC_SESSION_ID_SIZE, key);
    return known > 0 ? TC_IDENTITY_KNOWN : known < 0 ? TC_IDENTITY_WAIT : TC_IDENTITY_UNKNOWN;
}

/* A session that waits for somebody to dial would wait for ever. */
static void on_deaf(void *arg, const struct tc_err *why)
{
    struct tc_recv_node *node = arg;
    struct tc_event event = {.kind = TC_EV_DEAF, .err = why};
    for (struct tc_recv_session *session = node->sessions; session; session = session->next)
        tc_runner_event(&session->runner, &event);
}

/* Where senders may have reached this agent though its end of their connection has another address. */
static int take_reached_as(struct tc_recv_node *node, struct tc_err *err)
{
    const struct tc_recv_options *options = &node->options;
    char host[TC_ADDRESS_HOST], text[TC_ADDRESS_TEXT];
    uint16_t port = 0;
    int status = tc_address_split(tc_pending_address(node->pending), host, &port, err);
    node->reached_as = calloc(options->reached_count + 1u, sizeof(char *));
    if (!node->reached_as)
        return tc_fail(err, TC_E_NOMEM, "no memory for addresses");
    for (unsigned i = 0; i <= options->reached_count && status == 0; i++) {
        bool last = i == options->reached_count; /* other agents' way here may be a sender's too; it may be a name */
        const char *address = last ? options->advertise : options->reached_as[i];
        if (last && (!address || tc_address_numeric(text, address, port, NULL) < 0))
            break;
        status = last ? 0 : tc_address_numeric(text, address, port, err);
        if (status == 0 && !(node->reached_as[node->reached_count++] = strdup(text)))
            status = tc_fail(err, TC_E_NOMEM, "no memory for addresses");
    }
    return status;
}

int tc_recv_listen(struct tc_recv_node *node, const char *listen, struct tc_err *err)
{
    struct tc_pending_options options = {.listen = listen,
                                         .listen_fd = node->options.listen_fd,
                                         .port = TC_PORT_DEFAULT,
                                         .limits = {.pending = node->options.connections_most,
                                                    .pending_per_address = (node->options.connections_most + 3) / 4},
                                         .message_most = node->options.message_most,
                                         .seconds = node->options.handshake_seconds,
                                         .first_link = TC_LINK_ACCEPTED,
                                         .tls = node->options.key != NULL,
                                         .lookup = look_up,
                                         .greet = greet_pending,
                                         .deaf = on_deaf,
                                         .arg = node};
    node->pending = tc_pending_open(node->loop, &options, err);
    return node->pending ? take_reached_as(node, err) : -err->reason;
}

void tc_recv_say_ready(const struct tc_recv_node *node)
{
    if (node->options.ready)
        node->options.ready(node->options.arg, tc_pending_address(node->pending), tc_folder_path(node->folder));
}

/* Joining: this side dials the coordinator. Where it listens for other agents follows from the address that the way there
 * begins at, unless it is told. */

static bool listens_everywhere(const struct tc_recv_node *node)
{
    const char *address = tc_pending_address(node->pending);
    return strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0;
}

static int joined(struct tc_recv_node *node, struct tc_connection *connection, struct tc_err *err)
{
    char host[TC_ADDRESS_HOST], local[TC_ADDRESS_TEXT];
    uint16_t port = 0;
    int status = tc_address_split(tc_link_local(connection->link), host, &port, err);
    if (status == 0)
        status = tc_address_join(local, sizeof local, host, 0, err);
    if (status == 0)
        status = tc_recv_listen(node, node->options.listen ? node->options.listen : local, err);
    if (status == 0 && !node->options.advertise && node->options.listen && listens_everywhere(node)) {
        snprintf(node->way, sizeof node->way, "%s", host);
        node->options.advertise = node->way;
    }
    if (status == 0)
        tc_recv_say_ready(node);
    if (status == 0)
        status = tc_recv_new_session(node, connection, true, err);
    return status;
}

static void on_joining(struct tc_connection *connection, const struct tc_link_event *event)
{
    struct tc_recv_node *node = connection->owner;
    struct tc_err err = {0};
    if (event->kind == TC_LINK_UP && joined(node, connection, &err) == 0) {
        node->joining = NULL;
        node->joined = true;
        return;
    }
    if (event->kind != TC_LINK_UP && event->kind != TC_LINK_CLOSED)
        return;
    if (!node->settled)
        node->result = event->kind == TC_LINK_CLOSED ? *event->why : err;
    node->settled = true;
    tc_loop_stop(node->loop);
    if (event->kind == TC_LINK_CLOSED) {
        node->joining = NULL;
        free(connection);
    }
}

int tc_recv_join(struct tc_recv_node *node, struct tc_err *err)
{
    struct tc_connection *connection = calloc(1, sizeof *connection);
    struct tc_link_options options = {.call = tc_connection_call,
                                      .arg = connection,
                                      .limit = tc_message_limit,
                                      .most = node->options.message_most,
                                      .low_water = TC_RUNNER_LOW_WATER,
                                      .connect_ms = JOIN_MS,
                                      .again = TC_RUNNER_AGAIN,
                                      .handshake_ms = JOIN_MS,
                                      .tls = node->options.key != NULL,
                                      .same_user = true,
                                      .identity = (const uint8_t *)TC_JOIN_IDENTITY,
                                      .identity_size = sizeof TC_JOIN_IDENTITY - 1,
                                      .key = node->join_key};
    if (!connection)
        return tc_fail(err, TC_E_NOMEM, "no memory for a link");
    connection->pending = on_joining;
    connection->owner = node;
    connection->link = tc_link_dial(node->loop, node->options.join, &options, err);
    if (!connection->link) {
        free(connection);
        return -err->reason;
    }
    node->joining = connection;
    return 0;
}

void tc_recv_leave(struct tc_recv_node *node)
{
    if (!node->joining)
        return;
    tc_link_drop(node->joining->link);
    free(node->joining);
    node->joining = NULL;
}
