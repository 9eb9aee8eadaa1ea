#include "session/coordinator_own.h"

#include <stdio.h>
#include <string.h>

#include "session/agent.h"

/* Ends of hosts. */

/* A link's errors begin with its peer's address; the report names the host itself and folds those that say the same. */
static const char *without_name(const char *text, const char *name)
{
    size_t length = strlen(name);
    return strncmp(text, name, length) == 0 && strncmp(text + length, ": ", 2) == 0 ? text + length + 2 : text;
}

void tc_coordinator_end_host(struct tc_coordinator *c, struct tc_host *host, enum tc_host_end end,
                             const struct tc_err *why)
{
    struct tc_host_view *view = &host->view;
    if (view->phase == TC_PHASE_ENDED)
        return;
    if (view->phase == TC_PHASE_DIALLED || view->phase == TC_PHASE_OFFERED)
        c->asked--;
    if (view->phase >= TC_PHASE_RUNNING)
        c->running--;
    tc_coordinator_end_proof(c, host);
    tc_coordinator_enter(c, host, TC_PHASE_ENDED);
    view->end = end;
    view->ended_at = c->now;
    if (view->unfit)
        tc_coordinator_note_cause(c, host); /* more may be known of it by now */
    if (why)
        tc_fail(&view->why, why->reason, "%s", without_name(why->text, tc_host_name(c, host)));
    tc_coordinator_trace(c, "%s: ended (%s)", tc_host_name(c, host), why ? why->text : "well");
    tc_coordinator_news(c, (uint32_t)(host - c->hosts));
}

static void say_abort(struct tc_coordinator *c, uint32_t link, const struct tc_err *why)
{
    struct tc_message message = {.type = TC_MSG_ABORT};
    message.why.reason = (uint16_t)why->reason;
    snprintf(message.why.text, sizeof message.why.text, "%s", why->text);
    tc_coordinator_send(c, link, &message);
}

/* The control link goes: with it the host leaves every tree, and its children get other parents. */
void tc_coordinator_drop_host(struct tc_coordinator *c, struct tc_host *host, enum tc_host_end end,
                              const struct tc_err *why, bool tell)
{
    if (tell && tc_host_alive(host))
        say_abort(c, host->control, why);
    tc_coordinator_close_link(c, host->control, TC_MS_GOODBYE);
    host->control = TC_NO_LINK;
    tc_coordinator_end_host(c, host, end, why);
    tc_coordinator_leave_plan(c, host);
}

/* A rename is not taken back, and only the host knows whether it had begun when it heard of its end. Before the last page
 * is out nobody can. */
void tc_coordinator_dismiss_host(struct tc_coordinator *c, struct tc_host *host, enum tc_host_end end,
                                 const struct tc_err *why)
{
    enum tc_host_phase phase = host->view.phase;
    if (phase == TC_PHASE_LEAVING) /* its last word is on its way */
        return;
    if ((phase != TC_PHASE_RUNNING && phase != TC_PHASE_WHOLE) || !tc_coordinator_digest(c)) {
        tc_coordinator_drop_host(c, host, end, why, true);
        return;
    }
    say_abort(c, host->control, why);
    tc_coordinator_enter(c, host, TC_PHASE_LEAVING);
    host->leaves_as = end;
    host->leaves_for = *why;
    tc_coordinator_leave_plan(c, host);
}

/* Control links. */

struct tc_host *tc_coordinator_by_control(struct tc_coordinator *c, uint32_t link)
{
    /* Control links are the first that are dialled, in the order of the hosts. Those that came in are few messages' worth
     * of looking. */
    for (uint32_t i = 0; link >= TC_LINK_ACCEPTED && i < c->config.host_count; i++)
        if (c->hosts[i].control == link)
            return &c->hosts[i];
    struct tc_host *host = link < c->config.host_count ? &c->hosts[link] : NULL;
    return host && host->control == link ? host : NULL;
}

void tc_coordinator_say_hello(struct tc_coordinator *c, uint32_t link, enum tc_role role, const uint8_t *id)
{
    struct tc_message message = {.type = TC_MSG_HELLO};
    message.hello.version_min = message.hello.version_max = TC_WIRE_VERSION;
    message.hello.role = role;
    memcpy(message.hello.instance, c->config.instance, sizeof message.hello.instance);
    if (id) {
        memcpy(message.hello.session, c->config.session, sizeof message.hello.session);
        memcpy(message.hello.link, id, sizeof message.hello.link);
    }
    tc_coordinator_send(c, link, &message);
}

struct tc_destination tc_coordinator_destination(const struct tc_coordinator *c, const struct tc_host *host)
{
    struct tc_destination to = host->far;
    if (c->config.joins)
        snprintf(to.address, sizeof to.address, "%s", tc_host_name(c, host));
    return to;
}

static void offer(struct tc_coordinator *c, struct tc_host *host)
{
    struct tc_message message = {.type = TC_MSG_OFFER};
    struct tc_msg_offer *o = &message.offer;
    o->signed_by = tc_coordinator_signed_by(c);
    memcpy(o->session, c->config.session, sizeof o->session);
    memcpy(o->nonce, host->nonce, sizeof o->nonce);
    o->to = tc_coordinator_destination(c, host);
    memcpy(o->proof_id, host->proof.id, sizeof o->proof_id);
    memcpy(o->proof_key, host->proof.key, sizeof o->proof_key);
    snprintf(o->name, sizeof o->name, "%s", c->config.name);
    o->size = c->config.layout.size;
    o->chunk_size = c->config.layout.chunk_size;
    snprintf(o->digest, sizeof o->digest, "%s", TC_DIGEST_NAME);
    snprintf(o->codec, sizeof o->codec, "%s", TC_CODEC_NAME);
    memcpy(o->public_key, c->config.public_key, sizeof o->public_key);
    o->flags = c->config.flags;
    o->ttl = c->config.ttl;
    if (c->config.deadline)
        o->seconds_left = c->config.deadline > c->now ? (uint32_t)((c->config.deadline - c->now + 999) / 1000) : 1;
    o->array = c->config.array;
    o->array_size = (uint32_t)strlen(c->config.array);
    tc_coordinator_send(c, host->control, &message);
    tc_coordinator_enter(c, host, TC_PHASE_OFFERED);
}

static int on_hello(struct tc_coordinator *c, struct tc_host *host, const struct tc_msg_hello *hello,
                    struct tc_err *err)
{
    if (host->greeted || hello->role != TC_ROLE_AGENT)
        return tc_fail(err, TC_E_PROTOCOL, "the peer is no agent");
    if (hello->version_min > TC_WIRE_VERSION || hello->version_max < TC_WIRE_VERSION)
        return tc_fail(err, TC_E_VERSION, "the agent speaks versions %u to %u, this program %u", hello->version_min,
                       hello->version_max, TC_WIRE_VERSION);
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (c->hosts[i].greeted && memcmp(c->hosts[i].instance, hello->instance, sizeof hello->instance) == 0)
            return tc_fail(err, TC_E_DUPLICATE, "is the same agent as %s: list it once", c->config.hosts[i]);
    host->greeted = true;
    memcpy(host->instance, hello->instance, sizeof host->instance);
    memcpy(host->nonce, hello->nonce, sizeof host->nonce);
    int status = tc_coordinator_take_address(c, host, hello->address, err);
    if (status == 0)
        offer(c, host);
    return status;
}

static void why_of(const struct tc_msg_why *said, struct tc_err *err)
{
    tc_fail(err, tc_reason_known(said->reason) ? said->reason : TC_E_FAILED, "%s", said->text);
}

static void is_whole(struct tc_coordinator *c, struct tc_host *host)
{
    if (host->view.whole_at == 0)
        host->view.whole_at = c->now;
    if (host->view.rank != 0)
        tc_replan_whole(c->replan, host->view.rank);
}

static int on_done(struct tc_coordinator *c, struct tc_host *host, const struct tc_message *message, struct tc_err *err)
{
    const struct tc_digest *digest = tc_coordinator_digest(c);
    if (!digest || !tc_digest_equal(digest, &message->done.digest))
        return tc_fail(err, TC_E_INTEGRITY, "reports another digest than was sent");
    host->view.bytes = c->config.layout.size;
    is_whole(c, host);
    bool unchanged = message->done.state == TC_AGENT_UNCHANGED, leaves = host->view.phase == TC_PHASE_LEAVING;
    if (unchanged)
        host->view.adopted = c->config.layout.size;
    tc_coordinator_end_host(c, host, unchanged ? TC_END_UNCHANGED : TC_END_PUBLISHED, NULL);
    if (leaves) {
        tc_coordinator_close_link(c, host->control, TC_MS_GOODBYE);
        host->control = TC_NO_LINK;
    }
    return 0;
}

static void on_progress(struct tc_coordinator *c, struct tc_host *host, const struct tc_msg_progress *progress)
{
    struct tc_host_view *view = &host->view;
    uint64_t size = c->config.layout.size;
    tc_coordinator_on_sample(c, host, progress);
    if (view->phase != TC_PHASE_RUNNING)
        return;
    if (progress->bytes > view->bytes && progress->bytes <= size) {
        tc_coordinator_moved(c, host, tc_limit_at(progress->bytes - view->bytes, c->config.min_rate));
        view->bytes = progress->bytes;
        host->gained_at = c->now;
    }
    if (progress->compared > host->compared && progress->compared <= TC_COMPARED_MOST * size) {
        tc_coordinator_moved(c, host, tc_limit_at(progress->compared - host->compared, TC_RATE_COMPARE));
        host->compared = progress->compared;
        host->compared_at = c->now;
    }
    if (progress->adopted <= size)
        view->adopted = progress->adopted;
    if (progress->state == TC_AGENT_WHOLE && progress->bytes == size) {
        tc_coordinator_enter(c, host, TC_PHASE_WHOLE);
        c->moved_at = c->now;
        is_whole(c, host);
    }
}

void tc_coordinator_host_ready(struct tc_coordinator *c, struct tc_host *host)
{
    tc_coordinator_enter(c, host, TC_PHASE_READY);
    c->asked--;
}

static int on_control_message(struct tc_coordinator *c, struct tc_host *host, const struct tc_message *message,
                              struct tc_err *err)
{
    struct tc_err why = {0};
    bool serving = host->view.rank != 0;
    switch (message->type) {
    case TC_MSG_HELLO:
        return on_hello(c, host, &message->hello, err);
    case TC_MSG_READY:
        if (host->view.phase != TC_PHASE_OFFERED || host->answered)
            break;
        host->answered = true;
        host->until = c->now + TC_MS_ANSWER; /* for the proof of its address, which has the limits of a link */
        host->reserves_later = message->ready.flags & TC_PREPARED_EXISTS;
        host->local = message->ready.flags & TC_PREPARED_LOCAL;
        if (!tc_coordinator_prove(c, host))
            tc_coordinator_host_ready(c, host);
        return 0;
    case TC_MSG_REFUSE:
        if (host->view.phase > TC_PHASE_OFFERED || host->answered)
            break;
        why_of(&message->why, &why);
        tc_coordinator_drop_host(c, host, TC_END_REFUSED, &why, false);
        return 0;
    case TC_MSG_PROGRESS:
        if (host->view.phase < TC_PHASE_OFFERED)
            break;
        on_progress(c, host, &message->progress);
        return 0;
    case TC_MSG_DONE:
        if (host->view.phase < TC_PHASE_RUNNING || host->view.phase > TC_PHASE_LEAVING)
            break;
        return on_done(c, host, message, err);
    case TC_MSG_FAILED:
        if (!host->answered)
            break;
        why_of(&message->why, &why);
        if (host->view.phase == TC_PHASE_LEAVING)
            tc_coordinator_drop_host(c, host, host->leaves_as, &host->leaves_for, false);
        else
            tc_coordinator_drop_host(c, host, TC_END_FAILED, &why, false);
        return 0;
    case TC_MSG_COMPLAIN:
        if (!serving)
            break;
        tc_coordinator_on_complaint(c, host, &message->complaint);
        return 0;
    default:
        break;
    }
    return tc_fail(err, TC_E_PROTOCOL, "%s out of turn", tc_message_name(message->type));
}

void tc_coordinator_on_control_frame(struct tc_coordinator *c, struct tc_host *host, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    host->heard = c->now;
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err);
    if (status == 0)
        status = on_control_message(c, host, &message, &err);
    if (status < 0) {
        if (err.reason == TC_E_PROTOCOL && !host->greeted) {
            struct tc_err words = err;
            tc_fail(&err, TC_E_NOTAGENT, "not a treecast agent: %s", words.text);
        }
        bool refused = err.reason == TC_E_DUPLICATE || err.reason == TC_E_VERSION;
        tc_coordinator_drop_host(c, host, refused ? TC_END_REFUSED : TC_END_FAILED, &err, true);
    }
}

void tc_coordinator_on_control_down(struct tc_coordinator *c, struct tc_host *host, const struct tc_err *err)
{
    struct tc_err why = {0};
    host->control = TC_NO_LINK;
    int reason = err && err->reason ? err->reason : TC_E_CLOSED;
    const char *text = err && err->reason ? without_name(err->text, tc_host_name(c, host)) : "connection closed";
    /* It answered and hung up without a greeting: that is what an agent does with whom it does not trust. */
    if (reason == TC_E_CLOSED && !host->greeted)
        tc_fail(&why, TC_E_AUTH,
                "%s before a greeting: is it a treecast agent, and do both sides have the same key (-k FILE)?", text);
    else if (reason == TC_E_PROTOCOL && !host->greeted)
        tc_fail(&why, TC_E_NOTAGENT, "not a treecast agent: %s", text);
    else
        tc_fail(&why, reason, "%s", text);
    bool begun = host->view.phase >= TC_PHASE_OFFERED;
    if (begun) {
        why.reason = TC_E_LOST;
        tc_err_prefix(&why, "lost");
    }
    tc_coordinator_end_host(c, host, begun ? TC_END_LOST : TC_END_UNREACHABLE, &why);
    tc_coordinator_leave_plan(c, host);
}

/* Agents that dialled. */

static struct tc_host *host_of_name(struct tc_coordinator *c, const char *name)
{
    for (uint32_t i = 0; i < c->config.host_count; i++)
        if (strcmp(c->config.hosts[i], name) == 0)
            return &c->hosts[i];
    return NULL;
}

static struct tc_host *admit(struct tc_coordinator *c, const struct tc_message *message, struct tc_err *err)
{
    if (message->type != TC_MSG_HELLO || message->hello.role != TC_ROLE_AGENT) {
        tc_fail(err, TC_E_PROTOCOL, "the peer is no agent");
        return NULL;
    }
    const struct tc_msg_hello *hello = &message->hello;
    struct tc_host *host = host_of_name(c, hello->host);
    if (!host)
        tc_fail(err, TC_E_NOTFOUND, "'%s' is none of the hosts of this broadcast", hello->host);
    else if (tc_host_alive(host) || host->greeted)
        tc_fail(err, TC_E_DUPLICATE, "%s has joined already", hello->host);
    else if (host->view.phase == TC_PHASE_ENDED)
        tc_fail(err, TC_E_TIMEOUT, "%s joins too late", hello->host);
    else if (!hello->address[0])
        tc_fail(err, TC_E_PROTOCOL, "%s does not say where others reach it", hello->host);
    else
        return host;
    return NULL;
}

/* Who cannot be one of the hosts hears why. */
static void turn_away(struct tc_coordinator *c, uint32_t link, const struct tc_err *why)
{
    tc_coordinator_trace(c, "a joiner is turned away: %s", why->text);
    tc_coordinator_say_hello(c, link, TC_ROLE_COORDINATOR, NULL);
    say_abort(c, link, why);
    tc_coordinator_close_link(c, link, TC_MS_GOODBYE);
}

void tc_coordinator_on_join(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    struct tc_host *host = NULL;
    if (tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err) == 0)
        host = admit(c, &message, &err);
    if (!host) {
        turn_away(c, event->link, &err);
        return;
    }
    host->control = event->link;
    host->heard = c->now;
    if (event->far)
        host->far = *event->far;
    tc_coordinator_say_hello(c, event->link, TC_ROLE_COORDINATOR, NULL);
    tc_coordinator_on_control_frame(c, host, event);
}

/* Whoever was to start its agent could not. */
void tc_coordinator_on_absent(struct tc_coordinator *c, const struct tc_event *event)
{
    struct tc_host *host = event->host < c->config.host_count ? &c->hosts[event->host] : NULL;
    if (host && !tc_host_alive(host) && host->view.phase == TC_PHASE_DIALLED)
        tc_coordinator_end_host(c, host, TC_END_UNREACHABLE, event->err);
}
