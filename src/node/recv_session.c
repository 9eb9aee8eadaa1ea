#include "node/recv_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "net/tls.h"

enum {
    RETRY_MS = 100,
    OFFER_S =
        10 /* from a coordinator's HELLO to its OFFER, unless --handshake-time is more: it signs one for each host */
};

struct tc_recv_session *tc_recv_session_by_id(struct tc_recv_node *node, const uint8_t *id)
{
    for (struct tc_recv_session *session = node->sessions; session; session = session->next) {
        const struct tc_job *job = session->over ? NULL : tc_agent_job(session->machine);
        if (job && memcmp(job->session, id, TC_SESSION_ID_SIZE) == 0)
            return session;
    }
    return NULL;
}

/* Its end: links have said their last words, tasks are back, the file is closed by the pool. */

/* With --once a link that never came to an offer (the same agent listed twice, say) does not end the one that did. */
static bool work_left(const struct tc_recv_node *node)
{
    for (const struct tc_recv_session *session = node->sessions; session; session = session->next)
        if (session->offer || session->joined || !node->settled)
            return true;
    return false;
}

void tc_recv_free_session(struct tc_recv_session *session)
{
    struct tc_recv_node *node = session->node;
    for (struct tc_recv_session **at = &node->sessions; *at; at = &(*at)->next)
        if (*at == session) {
            *at = session->next;
            break;
        }
    tc_runner_end(&session->runner);
    tc_agent_free(session->machine);
    tc_blob_pool_free(session->blobs);
    free(session->preparing);
    if (session->source >= 0)
        close(session->source);
    free(session);
    for (struct tc_recv_session *other = node->sessions, *next; other && node->pending; other = next) {
        next = other->next;
        if (other->preparing)
            tc_recv_begin_prepare(other);
    }
    if ((node->options.once || node->stopping) && !work_left(node))
        tc_loop_stop(node->loop);
}

/* Called with the node, not with a session: when the node closes first, there is none left to find. */
static void retire_some(void *arg)
{
    struct tc_recv_node *node = arg;
    for (struct tc_recv_session *session = node->sessions, *next; session; session = next) {
        next = session->next;
        if (session->exit == TC_RECV_MAY_GO)
            tc_recv_retire(session);
    }
}

/* Something of the session came to its end: when that was the last of it, it goes. */
void tc_recv_arrived(struct tc_recv_session *session)
{
    struct tc_recv_node *node = session->node;
    if (!session->over || session->exit != TC_RECV_STAYS || !node->pending || session->runner.tasks > 0 ||
        session->runner.connection_count > 0)
        return;
    if (tc_loop_later(node->loop, retire_some, node, NULL) == 0)
        session->exit = TC_RECV_MAY_GO;
    else
        tc_timer_set(node->hourly, RETRY_MS); /* no memory: another look then */
}

/* Whether another session may still bring what this one did not. */
static bool sent_anew(const struct tc_recv_session *session, const char *name)
{
    for (const struct tc_recv_session *other = session->node->sessions; other; other = other->next)
        if (other != session && !other->over && other->offer && strcmp(other->offer->name, name) == 0)
            return true;
    return false;
}

static void on_end(struct tc_recv_session *session, const struct tc_action *action)
{
    struct tc_recv_node *node = session->node;
    const struct tc_job *job = tc_agent_job(session->machine);
    const char *name = job && job->name[0] ? job->name : NULL; /* none: no offer, or none that may be looked at */
    char text[4 * TC_ERR_TEXT];
    session->over = true;
    session->why = action->err;
    if (action->err.reason) {
        tc_log(TC_LOG_WARN, "%s from %s: %s", name ? name : "a session", session->peer,
               tc_escape(text, sizeof text, action->err.text));
        if (name && node->api && !sent_anew(session, name) &&
            !(job->flags & TC_OFFER_DRY_RUN)) /* what nobody was to send has not failed */
            tc_api_failed(node->api, name, &action->err);
    } else if (action->err.text[0]) {
        tc_log(TC_LOG_WARN, "%s from %s: published, but left early: %s", name ? name : "a session", session->peer,
               tc_escape(text, sizeof text, action->err.text));
    } else {
        tc_log(TC_LOG_INFO, "%s from %s: done", name ? name : "a session", session->peer);
    }
    if (!node->settled)
        node->result = action->err;
    node->settled |= session->offer != NULL || session->joined;
    tc_recv_arrived(session);
}

/* An offer that may be taken makes it a session that counts: until then its connection was a pending one. */
static void on_offer(struct tc_recv_session *session, const struct tc_action *action)
{
    const struct tc_recv_node *node = session->node;
    struct tc_err why = {0};
    unsigned count = 0;
    for (const struct tc_recv_session *other = node->sessions; other; other = other->next)
        count += other->offer && (!other->over || other->runner.tasks > 0); /* else it is only put away */
    if (count < node->options.sessions_most) {
        if (session->control)
            tc_pending_admit(session->control);
        session->control = NULL;
        tc_recv_prepare(session, action);
        return;
    }
    tc_fail(&why, TC_E_LIMIT, "%u sessions are under way already (--max-sessions)", count);
    tc_runner_event(&session->runner, &(struct tc_event){.kind = TC_EV_PREPARED, .err = &why});
}

/* What its machine wants done here. */

static void act(void *arg, struct tc_action *action)
{
    struct tc_recv_session *session = arg;
    char text[4 * TC_ERR_TEXT];
    switch (action->kind) {
    case TC_ACT_EXPECT:
        if (session->node->pending)
            tc_pending_retry(session->node->pending);
        break;
    case TC_ACT_PREPARE:
        on_offer(session, action);
        break;
    case TC_ACT_ALLOCATE:
        tc_recv_allocate(session, action);
        break;
    case TC_ACT_COMPARE:
        tc_recv_compare(session, action);
        break;
    case TC_ACT_OPEN:
        tc_recv_open(session, action);
        break;
    case TC_ACT_PUBLISH:
        tc_recv_publish(session, action);
        break;
    case TC_ACT_WARN:
        tc_log(TC_LOG_WARN, "%s", tc_escape(text, sizeof text, action->err.text));
        break;
    case TC_ACT_END:
        on_end(session, action);
        break;
    default:
        break;
    }
}

static int read_file(void *arg, uint64_t offset, void *bytes, size_t size, struct tc_err *err)
{
    struct tc_recv_session *session = arg;
    uint64_t began = tc_bottleneck_clock();
    int status = tc_sink_read(session->sink, offset, bytes, size, err);
    if (!session->in_memory)
        tc_bottleneck_add(&session->bottleneck, tc_bottleneck_clock() - began, 0, 0);
    return status;
}

/* Before its next report the machine hears what keeps this host. */
static void machine_event(void *arg, const struct tc_event *event, uint64_t now)
{
    struct tc_recv_session *session = arg;
    if (event->kind == TC_EV_TICK && tc_bottleneck_look(&session->bottleneck, now, session->runner.late)) {
        struct tc_event bottleneck = {.kind = TC_EV_BOTTLENECK, .flags = (uint32_t)session->bottleneck.cause};
        tc_agent_event(session->machine, &bottleneck, now);
    }
    tc_agent_event(session->machine, event, now);
}

static bool machine_take(void *arg, struct tc_action *action)
{
    struct tc_recv_session *session = arg;
    return tc_agent_take(session->machine, action);
}

static uint64_t machine_wake(const void *arg)
{
    const struct tc_recv_session *session = arg;
    return tc_agent_wake(session->machine);
}

/* A connection of the session is gone: its memory may be too. */
static void connection_gone(void *arg)
{
    tc_recv_arrived(arg);
}

static void trace(void *arg, const char *line)
{
    (void)arg;
    tc_log(TC_LOG_DEBUG, "%s", line);
}

/* Its beginning. */

/* The address others reach this agent at, as its HELLO says: --advertise with the port, or nothing. An agent that dialled
 * says what it listens at, for nobody else knows. */
static void own_address(const struct tc_recv_node *node, bool joined, char *out, size_t size)
{
    const char *advertise = node->options.advertise;
    const char *listening = tc_pending_address(node->pending);
    const char *port = strrchr(listening, ':');
    snprintf(out, size, "%s", joined ? listening : "");
    if (!advertise)
        return;
    bool has_port = advertise[0] == '[' ? strstr(advertise, "]:") != NULL : strchr(advertise, ':') != NULL;
    snprintf(out, size, "%s%s", advertise, has_port ? "" : port);
}

static uint32_t offer_ms(const struct tc_recv_node *node)
{
    return node->options.handshake_seconds > OFFER_S ? node->options.handshake_seconds * 1000 : OFFER_S * 1000;
}

/* A session whose control link is connection: identified, or the one that this side dialled. */
int tc_recv_new_session(struct tc_recv_node *node, struct tc_connection *connection, bool joined, struct tc_err *err)
{
    struct tc_recv_session *session = calloc(1, sizeof *session);
    if (!session)
        return tc_fail(err, TC_E_NOMEM, "no memory for a session");
    struct tc_agent_config config = {.origin = node->origin, .max_size = node->options.max_size, .trace = trace};
    memcpy(config.instance, node->instance, sizeof config.instance);
    own_address(node, joined, session->address, sizeof session->address);
    config.address = session->address;
    config.host = joined ? node->options.host : NULL;
    struct tc_destination far;
    tc_connection_ends(connection, &config.here, &far);
    if (joined) /* it was not reached anywhere: it dialled, as this host */
        snprintf(config.here.address, sizeof config.here.address, "%s", node->options.host);
    config.reached_as = joined ? NULL : (const char *const *)node->reached_as;
    config.reached_count = joined ? 0 : node->reached_count;
    config.offer_ms = joined ? 0 : offer_ms(node);
    session->joined = joined;
    session->node = node;
    session->control = joined ? NULL : connection;
    session->source = -1;
    session->in_memory = tc_folder_on_tmpfs(node->folder);
    snprintf(session->peer, sizeof session->peer, "%s", tc_link_peer(connection->link));
    int status = tc_random(config.nonce, sizeof config.nonce, err);
    if (status == 0)
        session->machine = tc_agent_new(&config, 0, tc_loop_now(node->loop), err);
    struct tc_runner_options options = {.loop = node->loop,
                                        .pool = node->pool,
                                        .tls = node->options.key != NULL,
                                        .machine = session,
                                        .event = machine_event,
                                        .take = machine_take,
                                        .wake = machine_wake,
                                        .act = act,
                                        .read = read_file,
                                        .gone = connection_gone,
                                        .bucket = node->options.rate ? &node->bucket : NULL,
                                        .node = session};
    if (!session->machine || tc_runner_init(&session->runner, &options, err) < 0) {
        tc_agent_free(session->machine);
        free(session);
        return -TC_E_NOMEM;
    }
    session->next = node->sessions;
    node->sessions = session;
    connection->number = 0; /* the control link; machine_take's own links begin at 1 */
    if (!joined)            /* what it says of itself is not worth a session yet */
        tc_pending_part(connection, true);
    tc_runner_adopt(&session->runner, connection);
    tc_runner_drain(&session->runner);
    return 0;
}
