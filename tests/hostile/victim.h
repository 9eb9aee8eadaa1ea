/* victim.h - an agent's machine in a test's hands, and true messages to be changed into lies. For one program each. */
#ifndef TC_TESTS_VICTIM_H
#define TC_TESTS_VICTIM_H

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "session/agent.h"

enum { CONTROL = TC_LINK_ACCEPTED, PARENT, CHUNKS = 3 };

static const uint8_t session[TC_SESSION_ID_SIZE] = "the session", nonce[TC_NONCE_SIZE] = "the nonce";
static const uint8_t link_id[TC_LINK_ID_SIZE] = "to the parent";

static struct tc_signer *origin, *liar, *signer;
static struct tc_verifier *trusted;
static uint8_t public_key[TC_PUBLIC_SIZE], liars_key[TC_PUBLIC_SIZE];
static uint64_t state = 1;

static inline uint32_t number(uint32_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % below);
}

static inline void make_keys(void)
{
    static const uint8_t secrets[3][TC_SECRET_SIZE] = {{1}, {2}, {3}};
    uint8_t origin_key[TC_PUBLIC_SIZE];
    origin = tc_signer_new(secrets[0], origin_key, NULL);
    liar = tc_signer_new(secrets[1], liars_key, NULL);
    signer = tc_signer_new(secrets[2], public_key, NULL);
    trusted = tc_verifier_new(origin_key, NULL);
    ck_assert(origin && liar && signer && trusted);
}

static inline void free_keys(void)
{
    tc_signer_free(origin);
    tc_signer_free(liar);
    tc_signer_free(signer);
    tc_verifier_free(trusted);
}

/* --- true messages --- */

static inline struct tc_message hello(enum tc_role role)
{
    struct tc_message message = {.type = TC_MSG_HELLO};
    message.hello.version_min = message.hello.version_max = TC_WIRE_VERSION;
    message.hello.role = role;
    memcpy(message.hello.session, session, sizeof session);
    memcpy(message.hello.link, link_id, sizeof link_id);
    return message;
}

static inline struct tc_destination destination(const char *address)
{
    struct tc_destination to = {.channel = "the control link"};
    snprintf(to.address, sizeof to.address, "%s", address);
    return to;
}

static inline struct tc_message offer(void)
{
    struct tc_message message = {.type = TC_MSG_OFFER};
    message.offer = (struct tc_msg_offer){.name = "A",
                                          .size = CHUNKS << 16,
                                          .chunk_size = 1 << 16,
                                          .array = "null",
                                          .array_size = 4,
                                          .digest = TC_DIGEST_NAME,
                                          .codec = TC_CODEC_NAME,
                                          .to = destination("10.0.0.7:7117")};
    memcpy(message.offer.session, session, sizeof session);
    memcpy(message.offer.nonce, nonce, sizeof nonce);
    memcpy(message.offer.public_key, public_key, sizeof public_key);
    return message;
}

static inline struct tc_message plan(void)
{
    struct tc_message message = {.type = TC_MSG_PLAN};
    message.plan = (struct tc_msg_plan){.epoch = 1, .rank = 1, .trees = 1, .to = destination("10.0.0.7:7117")};
    memcpy(message.plan.session, session, sizeof session);
    memcpy(message.plan.nonce, nonce, sizeof nonce);
    memcpy(message.plan.rows[0].parent.id, link_id, sizeof link_id);
    return message;
}

static inline struct tc_page page(void)
{
    struct tc_page page = {.count = CHUNKS, .last = true};
    ck_assert_int_eq(tc_page_sign(&page, session, signer, NULL), 0);
    return page;
}

static inline struct tc_blob *pack(const struct tc_message *message, struct tc_signer *by)
{
    struct tc_blob *body = tc_message_pack(message, by, NULL);
    ck_assert_ptr_nonnull(body);
    return body;
}

/* --- an agent and what it did --- */

struct victim {
    struct tc_agent *agent;
    unsigned prepared, planned, opened, wanted, published;
};

static inline void tell(struct victim *victim, uint32_t link, uint8_t type, struct tc_blob *body)
{
    struct tc_event event = {.kind = body ? TC_EV_FRAME : TC_EV_PREPARED, .link = link, .type = type, .body = body};
    struct tc_action action;
    tc_agent_event(victim->agent, &event, 1000);
    while (tc_agent_take(victim->agent, &action)) {
        victim->prepared += action.kind == TC_ACT_PREPARE;
        victim->planned += action.kind == TC_ACT_EXPECT || action.kind == TC_ACT_DIAL;
        victim->opened += action.kind == TC_ACT_OPEN;
        victim->wanted += action.kind == TC_ACT_SEND && action.type == TC_MSG_WANT;
        victim->published += action.kind == TC_ACT_PUBLISH;
        tc_blob_unref(action.body);
    }
}

static inline void tell_new(struct victim *victim, uint32_t link, const struct tc_message *message,
                            struct tc_signer *by)
{
    struct tc_blob *body = pack(message, by);
    tell(victim, link, message->type, body);
    tc_blob_unref(body);
}

static inline struct victim victim_new(struct tc_verifier *knows)
{
    static const char *const forwarded[] = {"192.0.2.1:80"};
    struct tc_agent_config config = {
        .origin = knows, .here = destination("10.0.0.7:7117"), .reached_as = forwarded, .reached_count = 1};
    struct victim victim = {0};
    struct tc_message message = hello(TC_ROLE_COORDINATOR);
    memcpy(config.nonce, nonce, sizeof nonce);
    victim.agent = tc_agent_new(&config, CONTROL, 1000, NULL);
    ck_assert_ptr_nonnull(victim.agent);
    tell_new(&victim, CONTROL, &message, NULL);
    return victim;
}

#endif
