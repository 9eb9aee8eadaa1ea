/* Where a member says that others reach it: nobody is sent to dial what the coordinator has not seen to be its own. */
#include <stdio.h>
#include <string.h>

#include "../unit/unit.h"
#include "session/coordinator.h"

enum { HOSTS = 2, LIAR = 0, HONEST = 1 };

static const char *const names[HOSTS] = {"liar:7117", "node7:7117"};

struct sender {
    struct tc_signer *signer;
    struct tc_coordinator *coordinator;
    uint64_t now;
    unsigned dials, closes;
    uint32_t dialled;             /* the last link that was, */
    char address[TC_ADDRESS_MAX]; /* there */
    struct tc_msg_offer offers[HOSTS];
    char parent[TC_ADDRESS_MAX]; /* the liar's, as its child is told */
    unsigned plans, aborted;
};

static int some_random(void *arg, void *bytes, size_t size, struct tc_err *err)
{
    static uint8_t next;
    (void)arg;
    (void)err;
    memset(bytes, ++next ? next : ++next, size);
    return 0;
}

static void drain(struct sender *sender)
{
    struct tc_action action;
    struct tc_message said;
    while (tc_coordinator_take(sender->coordinator, &action)) {
        if (action.kind == TC_ACT_DIAL && action.link >= HOSTS &&
            sender->plans == 0) { /* after it they are the trees' */
            sender->dials++;
            sender->dialled = action.link;
            snprintf(sender->address, sizeof sender->address, "%s", action.address);
            ck_assert_mem_eq(action.id, sender->offers[LIAR].proof_id, TC_LINK_ID_SIZE);
            ck_assert_mem_eq(action.key, sender->offers[LIAR].proof_key, TC_LINK_KEY_SIZE);
        }
        sender->closes += action.kind == TC_ACT_CLOSE && action.link >= HOSTS;
        if (action.kind == TC_ACT_SEND && (action.type == TC_MSG_OFFER || action.type == TC_MSG_PLAN)) {
            ck_assert_int_eq(tc_message_unpack(&said, action.type, action.body->bytes, action.body->size, NULL), 0);
            if (action.type == TC_MSG_OFFER)
                sender->offers[action.link % TC_LINK_ACCEPTED] = said.offer;
            sender->plans += action.type == TC_MSG_PLAN;
            if (action.type == TC_MSG_PLAN && action.link % TC_LINK_ACCEPTED == HONEST)
                snprintf(sender->parent, sizeof sender->parent, "%s", said.plan.rows[0].address);
        }
        sender->aborted += action.kind == TC_ACT_SEND && action.type == TC_MSG_ABORT;
        tc_blob_unref(action.body);
    }
}

static void tell(struct sender *sender, const struct tc_event *event)
{
    tc_coordinator_event(sender->coordinator, event, sender->now);
    drain(sender);
}

static void say(struct sender *sender, uint32_t host, bool joins, const struct tc_message *message)
{
    struct tc_destination far = {.channel = {0}};
    struct tc_blob *body = tc_message_pack(message, NULL, NULL);
    ck_assert_ptr_nonnull(body);
    snprintf(far.address, sizeof far.address, host == LIAR ? "10.0.0.6:40000" : "10.0.0.7:40000");
    tell(sender, &(struct tc_event){.kind = TC_EV_FRAME,
                                    .link = (joins ? TC_LINK_ACCEPTED : 0) + host,
                                    .type = message->type,
                                    .body = body,
                                    .far = &far});
    tc_blob_unref(body);
}

/* Both hosts have said HELLO, the liar with said, and that they are ready. */
static struct sender sender_with(const char *said, bool tls, bool joins, uint32_t flags)
{
    static const uint8_t secret[TC_SECRET_SIZE] = {1};
    struct sender sender = {.now = 1000};
    struct tc_coordinator_config config = {.name = "A",
                                           .array = "null",
                                           .hosts = names,
                                           .host_count = HOSTS,
                                           .joins = joins,
                                           .join_by = 60000,
                                           .tls = tls,
                                           .flags = flags,
                                           .tree.kind = TC_TREE_CHAIN,
                                           .min_hosts = 1,
                                           .digest_depth = 1,
                                           .random = some_random};
    sender.signer = config.signer = tc_signer_new(secret, config.public_key, NULL);
    ck_assert_int_eq(tc_layout_init(&config.layout, 100, 1 << 16, NULL), 0);
    sender.coordinator = tc_coordinator_new(&config, sender.now, NULL);
    ck_assert_ptr_nonnull(sender.coordinator);
    for (uint32_t host = 0; host < HOSTS; host++) {
        struct tc_destination far = {.channel = {0}};
        struct tc_message hello = {
            .type = TC_MSG_HELLO, .hello.role = TC_ROLE_AGENT, .hello.instance[0] = (uint8_t)(host + 1)};
        hello.hello.version_min = hello.hello.version_max = TC_WIRE_VERSION;
        snprintf(hello.hello.address, sizeof hello.hello.address, "%s",
                 host == LIAR ? said
                 : joins      ? "10.0.0.7:1"
                              : "");
        snprintf(hello.hello.host, sizeof hello.hello.host, "%s", joins ? names[host] : "");
        snprintf(far.address, sizeof far.address, host == LIAR ? "10.0.0.6:7117" : "10.0.0.7:7117");
        if (!joins)
            tell(&sender, &(struct tc_event){.kind = TC_EV_UP, .link = host, .far = &far});
        say(&sender, host, joins, &hello);
    }
    for (uint32_t host = HOSTS; host-- > 0;)
        say(&sender, host, joins, &(struct tc_message){.type = TC_MSG_READY});
    return sender;
}

static void end(struct sender *sender)
{
    tc_coordinator_free(sender->coordinator);
    tc_signer_free(sender->signer);
}

static const struct {
    const char *said;
    bool tls, joins, proven; /* by a dial */
    const char *others;      /* are told, without a proof */
} cases[] = {
    {"", true, false, false, "liar:7117"}, /* as it was dialled */
    {"10.0.0.6:22", true, false, false, "10.0.0.6:22"},
    {"10.0.0.60:7117", true, false, true, "liar:7117"}, /* not the same host */
    {"10.0.0.7:22", true, false, true, "liar:7117"},
    {"192.0.2.1:5432", true, false, true, "liar:7117"},
    {"node7:22", true, false, true, "liar:7117"},
    {"[::ffff:10.0.0.6]:7117", true, false, true, "liar:7117"},
    {"10.0.0.6:4000", true, true, false, "10.0.0.6:4000"},
    {"192.0.2.1:5432", true, true, true, "10.0.0.6:5432"},
    {"127.0.0.1:4000", false, false, false, "127.0.0.1:4000"},
    {"192.0.2.1:5432", false, false, false, "liar:7117"}, /* without TLS there is no proof */
};

START_TEST(addresses)
{
    struct sender sender = sender_with(cases[_i].said, cases[_i].tls, cases[_i].joins, 0);
    static const uint8_t none[TC_LINK_ID_SIZE];
    ck_assert_uint_eq(sender.plans, cases[_i].proven ? 0 : HOSTS);
    ck_assert_int_eq(memcmp(sender.offers[LIAR].proof_id, none, sizeof none) != 0, cases[_i].proven);
    ck_assert_mem_eq(sender.offers[HONEST].proof_id, none, sizeof none);
    if (cases[_i].proven) {
        struct tc_err gone = {.reason = TC_E_AUTH};
        ck_assert_uint_eq(sender.dials, 1);
        ck_assert_str_eq(sender.address, cases[_i].said);
        tell(&sender, &(struct tc_event){.kind = TC_EV_DOWN, .link = sender.dialled, .err = &gone});
    }
    ck_assert_uint_eq(sender.plans, HOSTS);
    ck_assert_str_eq(sender.parent, cases[_i].others);
    end(&sender);
}
END_TEST

/* Where the agent is found, the number that was reached is what others dial, whatever the name becomes. */
START_TEST(a_proven_address)
{
    static const char *const told[] = {"192.0.2.1:5432", "node7-ib:5432"};
    struct sender sender = sender_with(told[_i], true, false, 0);
    struct tc_destination far = {.address = "192.0.2.1:5432"};
    ck_assert(sender.dials == 1 && sender.plans == 0);
    tell(&sender, &(struct tc_event){.kind = TC_EV_UP, .link = sender.dialled, .far = &far});
    ck_assert(sender.closes == 1 && sender.plans == HOSTS);
    ck_assert_str_eq(sender.parent, "192.0.2.1:5432");
    end(&sender);
}
END_TEST

START_TEST(no_address)
{
    static const char *const said[] = {"192.0.2.1", "192.0.2.1:", ":", "192.0.2.1:port", "192.0.2.1:123456", "x"};
    struct sender sender = sender_with(said[_i], true, _i % 2, 0);
    ck_assert(sender.dials == 0 && sender.aborted > 0);
    ck_assert_int_eq(tc_coordinator_host(sender.coordinator, LIAR)->end, TC_END_FAILED);
    end(&sender);
}
END_TEST

/* One that ends while it is being looked for; and a dry run looks for nobody. */
START_TEST(it_ends_meanwhile)
{
    struct sender sender = sender_with("192.0.2.1:5432", true, false, 0);
    struct tc_err gone = {.reason = TC_E_CLOSED};
    tell(&sender, &(struct tc_event){.kind = TC_EV_DOWN, .link = LIAR, .err = &gone});
    ck_assert(sender.closes == 1 && sender.plans == 1);
    tell(&sender, &(struct tc_event){.kind = TC_EV_UP, .link = sender.dialled});
    ck_assert_uint_eq(sender.plans, 1);
    end(&sender);
    sender = sender_with("192.0.2.1:5432", true, false, TC_OFFER_DRY_RUN);
    ck_assert_uint_eq(sender.dials, 0);
    ck_assert_int_eq(tc_coordinator_host(sender.coordinator, LIAR)->end, TC_END_READY);
    end(&sender);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("addresses");
    TCase *tcase = tcase_create("addresses");
    tcase_add_loop_test(tcase, addresses, 0, (int)(sizeof cases / sizeof cases[0]));
    tcase_add_loop_test(tcase, a_proven_address, 0, 2);
    tcase_add_loop_test(tcase, no_address, 0, 6);
    tcase_add_test(tcase, it_ends_meanwhile);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
