#include "session/agent_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tc_agent_say_hello(struct tc_agent *agent)
{
    struct tc_message message = {.type = TC_MSG_HELLO};
    message.hello.version_min = message.hello.version_max = TC_WIRE_VERSION;
    message.hello.role = TC_ROLE_AGENT;
    memcpy(message.hello.instance, agent->config.instance, sizeof message.hello.instance);
    memcpy(message.hello.nonce, agent->config.nonce, sizeof message.hello.nonce);
    memcpy(message.hello.address, agent->address, sizeof message.hello.address);
    if (agent->config.host)
        snprintf(message.hello.host, sizeof message.hello.host, "%s", agent->config.host);
    tc_agent_send(agent, agent->control, &message);
}

static bool is_here(const struct tc_agent *agent, const char *address)
{
    for (unsigned i = 0; i < agent->config.reached_count; i++)
        if (strcmp(address, agent->config.reached_as[i]) == 0)
            return true;
    return strcmp(address, agent->config.here.address) == 0;
}

/* The origin has signed whom it speaks to. Else a member could show another agent's HELLO as its own, and that agent would
 * take what was offered to the member: in the place of its own array, with a time to live. */
static int check_destination(const struct tc_agent *agent, uint8_t type, const struct tc_destination *to,
                             struct tc_err *err)
{
    const char *what = tc_message_name(type);
    if (!is_here(agent, to->address))
        return tc_fail(err, TC_E_AUTH,
                       "%s is for %s, and this agent was reached as %s: somebody passed it on, or a port is forwarded "
                       "(then recv --reached-as %s)",
                       what, to->address, agent->config.here.address, to->address);
    if (memcmp(to->channel, agent->config.here.channel, TC_CHANNEL_SIZE) != 0)
        return tc_fail(err, TC_E_AUTH, "%s was said on another connection than it came on: somebody passed it on",
                       what);
    return 0;
}

int tc_agent_check_signed(struct tc_agent *agent, uint8_t type, enum tc_signed_by by,
                          const uint8_t nonce[TC_NONCE_SIZE], const struct tc_destination *to,
                          const struct tc_blob *body, struct tc_err *err)
{
    int status = 0;
    if (by == TC_SIGNED_SESSION)
        status = tc_message_check_session(type, body->bytes, body->size, agent->session_key, err);
    if (status < 0)
        return status;
    if (memcmp(nonce, agent->config.nonce, TC_NONCE_SIZE) != 0)
        return tc_fail(err, TC_E_AUTH, "%s carries another session's nonce: a replay?", tc_message_name(type));
    if (!agent->config.origin)
        return 0;
    status = tc_message_check_origin(type, body->bytes, body->size, agent->config.origin, err);
    return status == 0 ? check_destination(agent, type, to, err) : status;
}

/* The offer. */

static int take_job(struct tc_agent *agent, const struct tc_msg_offer *offer, struct tc_err *err)
{
    struct tc_job *job = &agent->job;
    int status = tc_name_check(offer->name, err);
    if (status < 0)
        return status;
    memcpy(job->name, offer->name, sizeof job->name); /* first of all: who waits for it is told of a refusal too */
    job->flags = offer->flags;
    job->ttl = offer->ttl;
    if (offer->seconds_left)
        agent->deadline = agent->now + offer->seconds_left * UINT64_C(1000) + TC_MS_GOODBYE;
    if (strcmp(offer->digest, TC_DIGEST_NAME) != 0 || strcmp(offer->codec, TC_CODEC_NAME) != 0)
        return tc_fail(err, TC_E_VERSION, "digest or codec is not known here");
    if (agent->config.max_size && offer->size > agent->config.max_size)
        return tc_fail(err, TC_E_LIMIT, "%llu bytes are more than --max-size %llu", (unsigned long long)offer->size,
                       (unsigned long long)agent->config.max_size);
    status = tc_layout_init(&job->layout, offer->size, offer->chunk_size, err);
    if (status == 0)
        status = tc_array_parse(&job->array, offer->array, offer->array_size, offer->size, err);
    if (status < 0)
        return status;
    memcpy(job->session, offer->session, sizeof job->session);
    return 0;
}

/* For what will come, only once there is space for the file: an offer of 2^31 chunks is a few bytes, and this is not. */
static int make_capacity(struct tc_agent *agent, struct tc_err *err)
{
    const struct tc_layout *layout = &agent->job.layout;
    agent->pages = calloc(layout->pages, sizeof(struct tc_page *));
    if (!agent->pages)
        return tc_fail(err, TC_E_NOMEM, "no memory for %u pages", layout->pages);
    int status = tc_bits_init(&agent->have_pages, layout->pages, err);
    if (status == 0)
        status = tc_bits_init(&agent->have, layout->chunks, err);
    if (status == 0)
        status = tc_bits_init(&agent->pending, layout->chunks, err);
    return status;
}

static int on_offer(struct tc_agent *agent, const struct tc_msg_offer *offer, const struct tc_blob *body,
                    struct tc_err *err)
{
    agent->session_key = tc_verifier_new(offer->public_key, err);
    int status = agent->session_key ? 0 : -TC_E_NOMEM;
    if (status == 0)
        status = tc_agent_check_signed(agent, TC_MSG_OFFER, offer->signed_by, offer->nonce, &offer->to, body, err);
    if (status == 0)
        status = take_job(agent, offer, err);
    if (status < 0) {
        tc_agent_fail(agent, err);
        return 0;
    }
    memcpy(agent->proof_id, offer->proof_id, sizeof agent->proof_id);
    memcpy(agent->proof_key, offer->proof_key, sizeof agent->proof_key);
    tc_agent_enter(agent, TC_AGENT_OFFERED, "OFFER");
    tc_actions_add(&agent->actions, TC_ACT_PREPARE)->flags = agent->job.flags;
    tc_agent_send_progress(agent);
    return 0;
}

void tc_agent_on_prepared(struct tc_agent *agent, const struct tc_event *event)
{
    if (agent->state != TC_AGENT_OFFERED)
        return;
    if (event->err && event->err->reason) {
        tc_agent_fail(agent, event->err);
        return;
    }
    struct tc_err err = {0};
    const struct tc_layout *layout = &agent->job.layout;
    agent->allocated = !(event->flags & TC_PREPARED_LATER);
    if (make_capacity(agent, &err) < 0) {
        tc_agent_fail(agent, &err);
        return;
    }
    if (event->flags & TC_PREPARED_COMPARE &&
        (tc_compare_init(&agent->compare, layout, &err) < 0 || tc_bits_init(&agent->lent, layout->chunks, &err) < 0)) {
        tc_agent_fail(agent, &err);
        return;
    }
    tc_agent_enter(agent, TC_AGENT_PREPARED, "prepared");
    struct tc_message message = {.type = TC_MSG_READY};
    message.ready.flags = event->flags & (TC_PREPARED_EXISTS | TC_PREPARED_LOCAL);
    tc_agent_send(agent, agent->control, &message);
}

/* What the coordinator says. */

static int on_control_hello(struct tc_agent *agent, const struct tc_msg_hello *hello, struct tc_err *err)
{
    if (hello->role != TC_ROLE_COORDINATOR)
        return tc_fail(err, TC_E_PROTOCOL, "the peer is no coordinator");
    if (hello->version_min > TC_WIRE_VERSION || hello->version_max < TC_WIRE_VERSION)
        return tc_fail(err, TC_E_VERSION, "the coordinator speaks versions %u to %u, this agent %u", hello->version_min,
                       hello->version_max, TC_WIRE_VERSION);
    agent->greeted = true;
    return 0;
}

static bool done(const struct tc_agent *agent)
{
    return agent->state == TC_AGENT_PUBLISHED || agent->state == TC_AGENT_UNCHANGED;
}

static int on_control_message(struct tc_agent *agent, const struct tc_message *message, struct tc_blob *body,
                              struct tc_err *err)
{
    if (message->type == TC_MSG_HELLO && agent->state == TC_AGENT_NEW && !agent->greeted)
        return on_control_hello(agent, &message->hello, err);
    if (message->type == TC_MSG_OFFER && agent->state == TC_AGENT_NEW && agent->greeted)
        return on_offer(agent, &message->offer, body, err);
    /* Not after a dry run: then there is no file to fill. */
    if (message->type == TC_MSG_PLAN && agent->state >= TC_AGENT_PREPARED && agent->state <= TC_AGENT_UNCHANGED &&
        !(agent->job.flags & TC_OFFER_DRY_RUN))
        return tc_agent_on_plan(agent, &message->plan, body, err);
    if (message->type == TC_MSG_ABORT && agent->greeted) {
        struct tc_err why = {.reason = tc_reason_known(message->why.reason) ? message->why.reason : TC_E_ABORTED};
        snprintf(why.text, sizeof why.text, "%s", message->why.text);
        if (agent->state == TC_AGENT_FILLING || agent->publishing) /* the coordinator waits for DONE or FAILED */
            tc_agent_fail(agent, &why);
        else
            tc_agent_end(agent, done(agent) ? NULL : &why, "ABORT");
        return 0;
    }
    if (message->type == TC_MSG_BYE && (done(agent) || agent->state == TC_AGENT_PREPARED)) {
        tc_agent_end(agent, NULL, "BYE");
        return 0;
    }
    return tc_fail(err, TC_E_PROTOCOL, "%s in state %s", tc_message_name(message->type),
                   tc_agent_state_name(agent->state));
}

void tc_agent_on_control_frame(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err);
    if (status == 0)
        status = on_control_message(agent, &message, event->body, &err);
    if (status == 0)
        return;
    tc_agent_fail(agent, &err);
}

void tc_agent_on_control_down(struct tc_agent *agent, const struct tc_event *event)
{
    agent->control = TC_NO_LINK;
    struct tc_err why = {0};
    tc_fail(&why, TC_E_COORDINATOR_LOST, "coordinator lost: %s",
            event->err && event->err->reason ? event->err->text : "connection closed");
    if (agent->state < TC_AGENT_FILLING) {
        tc_agent_end(agent, &why, "control link down");
        return;
    }
    agent->orphan_since = agent->now;
    agent->last_byte = agent->now;
}
