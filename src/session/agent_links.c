#include "session/agent_own.h"

#include <stdlib.h>
#include <string.h>

static struct tc_message data_hello(const struct tc_agent *agent, enum tc_role role, const uint8_t *id)
{
    struct tc_message message = {.type = TC_MSG_HELLO};
    message.hello.version_min = message.hello.version_max = TC_WIRE_VERSION;
    message.hello.role = role;
    memcpy(message.hello.instance, agent->config.instance, sizeof message.hello.instance);
    memcpy(message.hello.session, agent->job.session, sizeof message.hello.session);
    memcpy(message.hello.link, id, sizeof message.hello.link);
    return message;
}

static int check_version(const struct tc_msg_hello *hello, struct tc_err *err)
{
    if (hello->version_min > TC_WIRE_VERSION || hello->version_max < TC_WIRE_VERSION)
        return tc_fail(err, TC_E_VERSION, "peer speaks versions %u to %u, here is %u", hello->version_min,
                       hello->version_max, TC_WIRE_VERSION);
    return 0;
}

/* To parents. */

int tc_agent_parent_of(const struct tc_agent *agent, uint32_t link)
{
    for (unsigned t = 0; t < agent->trees; t++)
        if (agent->parents[t].state >= TC_PARENT_DIALLED && agent->parents[t].link == link)
            return (int)t;
    return -1;
}

static void complain(struct tc_agent *agent, unsigned t, int reason)
{
    struct tc_message message = {.type = TC_MSG_COMPLAIN};
    message.complaint.epoch = agent->epoch;
    message.complaint.tree = (uint8_t)t;
    message.complaint.rank = agent->parents[t].self.rank;
    message.complaint.reason = (uint16_t)reason;
    tc_agent_send(agent, agent->control, &message);
}

/* The coordinator hears of it and gives another parent in its next plan; until then the other trees help out. */
void tc_agent_lose_parent(struct tc_agent *agent, unsigned t, const struct tc_err *why)
{
    struct tc_parent *parent = &agent->parents[t];
    tc_agent_forget_asked(agent, parent);
    parent->starves = false;
    parent->state = TC_PARENT_NONE;
    if (agent->state != TC_AGENT_FILLING)
        return;
    complain(agent, t, why && why->reason ? why->reason : TC_E_CLOSED);
    tc_agent_ask_elsewhere(agent);
}

int tc_agent_adopt_parent(struct tc_agent *agent, unsigned t, const struct tc_msg_row *row, struct tc_err *err)
{
    struct tc_parent *parent = &agent->parents[t];
    if (agent->epoch > 1 && memcmp(parent->self.id, row->parent.id, TC_LINK_ID_SIZE) == 0) {
        if (parent->state == TC_PARENT_NONE)
            complain(agent, t, TC_E_CLOSED); /* the row was made before the first complaint came, which is stale now */
        return 0;
    }
    if (parent->owed.size == 0) {
        int status = tc_bits_init(&parent->asked, agent->job.layout.chunks, err);
        if (status == 0)
            status = tc_bits_init(&parent->owed, agent->job.layout.pages, err);
        if (status < 0)
            return status;
    }
    if (parent->state >= TC_PARENT_DIALLED)
        tc_agent_close_link(agent, parent->link, 0);
    tc_agent_forget_asked(agent, parent);
    parent->starves = false;
    parent->last_byte = agent->now;
    parent->self = row->parent;
    parent->link = TC_NO_LINK;
    memcpy(parent->address, row->address, sizeof parent->address);
    if (row->parent.rank == 0) {
        parent->state = TC_PARENT_AWAITED; /* the coordinator dials its own children */
        return 0;
    }
    parent->state = TC_PARENT_DIALLED;
    parent->link = agent->next_link++;
    struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_DIAL);
    action->link = parent->link;
    action->address = parent->address;
    memcpy(action->id, parent->self.id, sizeof action->id);
    memcpy(action->key, parent->self.key, sizeof action->key);
    return 0;
}

static void greet_parent(struct tc_agent *agent, unsigned t)
{
    struct tc_parent *parent = &agent->parents[t];
    size_t page_bytes = (agent->job.layout.pages + 7) / 8;
    uint8_t *pages = calloc(1, page_bytes);
    struct tc_message message = data_hello(agent, TC_ROLE_CHILD, parent->self.id);
    for (uint32_t p = 0; pages && p < agent->job.layout.pages; p++)
        if (tc_bits_has(&agent->have_pages, p))
            pages[p / 8] |= (uint8_t)(1 << p % 8);
    if (pages && agent->have_pages.count > 0) {
        message.hello.pages = pages;
        message.hello.page_bytes = (uint32_t)page_bytes;
    }
    tc_agent_send(agent, parent->link, &message);
    free(pages);
}

/* Both HELLOs have passed. Earlier wants could reach a parent that holds the link until its own plan comes. */
static void parent_up(struct tc_agent *agent, unsigned t)
{
    struct tc_parent *parent = &agent->parents[t];
    parent->state = TC_PARENT_UP;
    if (parent->asked.size)
        tc_agent_take_back(agent, t);
    for (uint32_t p = 0; p < agent->job.layout.pages; p++)
        if (tc_bits_has(&agent->have_pages, p))
            tc_agent_answer(agent, t, p); /* the parent does not push these, so they are wanted unasked */
}

/* To children. */

static struct tc_store store_of(struct tc_agent *agent)
{
    return (struct tc_store){&agent->job.layout, agent->pages, &agent->have_pages, &agent->have};
}

int tc_agent_feed_children(struct tc_agent *agent, struct tc_err *err)
{
    struct tc_store store = store_of(agent);
    return tc_children_poll(&agent->children, &store, &agent->actions, err);
}

void tc_agent_on_served(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_child *child = tc_children_by_link(&agent->children, event->link);
    if (!child || !child->fed)
        return;
    if (event->err && event->err->reason) {
        tc_agent_fail(agent, event->err);
        return;
    }
    if (child->feed.on_way > 0)
        child->feed.on_way--;
    agent->sent += tc_chunk_length(&agent->job.layout, event->chunk);
    agent->given[child->tree] += tc_chunk_length(&agent->job.layout, event->chunk);
    agent->last_byte = agent->now;
    if (tc_agent_feed_children(agent, &err) < 0)
        tc_agent_fail(agent, &err);
}

/* Links that came before their PLAN row. */

static int hold(struct tc_agent *agent, uint32_t link, struct tc_blob *body, struct tc_err *err)
{
    if (agent->held_count == TC_HELD_MOST)
        return tc_fail(err, TC_E_LIMIT, "too many data links before the plan");
    agent->held[agent->held_count++] = (struct tc_held_link){link, agent->now + TC_MS_HOLD, tc_blob_ref(body)};
    return 0;
}

static bool is_held(const struct tc_agent *agent, uint32_t link)
{
    for (unsigned i = 0; i < agent->held_count; i++)
        if (agent->held[i].link == link)
            return true;
    return false;
}

static void let_go(struct tc_agent *agent, uint32_t link)
{
    for (unsigned i = 0; i < agent->held_count; i++)
        if (agent->held[i].link == link) {
            tc_blob_unref(agent->held[i].hello);
            agent->held[i--] = agent->held[--agent->held_count];
        }
}

void tc_agent_expire_held(struct tc_agent *agent)
{
    for (unsigned i = 0; i < agent->held_count; i++)
        if (agent->now >= agent->held[i].until) {
            tc_agent_close_link(agent, agent->held[i].link, 0);
            tc_blob_unref(agent->held[i].hello);
            agent->held[i--] = agent->held[--agent->held_count];
        }
}

uint64_t tc_agent_held_until(const struct tc_agent *agent)
{
    uint64_t until = UINT64_MAX;
    for (unsigned i = 0; i < agent->held_count; i++)
        if (agent->held[i].until < until)
            until = agent->held[i].until;
    return until;
}

/* What passes on them. */

static int on_data_hello(struct tc_agent *agent, uint32_t link, const struct tc_msg_hello *hello, struct tc_blob *body,
                         struct tc_err *err)
{
    int status = check_version(hello, err);
    if (status < 0)
        return status;
    struct tc_child *child = tc_children_by_id(&agent->children, hello->link);
    if (child && hello->role == TC_ROLE_CHILD && !child->fed) {
        struct tc_store store = store_of(agent);
        status = tc_child_start(child, link, &store, hello, err);
        if (status < 0)
            return status;
        struct tc_message message = data_hello(agent, TC_ROLE_PARENT, child->self.id);
        tc_agent_send(agent, link, &message);
        return tc_agent_feed_children(agent, err);
    }
    for (unsigned t = 0; t < agent->trees && hello->role == TC_ROLE_PARENT; t++) {
        struct tc_parent *parent = &agent->parents[t];
        if (parent->state != TC_PARENT_AWAITED || memcmp(parent->self.id, hello->link, TC_LINK_ID_SIZE) != 0)
            continue;
        parent->link = link;
        greet_parent(agent, t);
        parent_up(agent, t);
        return 0;
    }
    return hold(agent, link, body, err);
}

/* Links that came before their row are looked at again. */
int tc_agent_retry_held(struct tc_agent *agent, struct tc_err *err)
{
    unsigned count = agent->held_count;
    struct tc_held_link held[TC_HELD_MOST];
    memcpy(held, agent->held, sizeof held);
    agent->held_count = 0;
    int status = 0;
    for (unsigned i = 0; i < count; i++) {
        struct tc_message message;
        status = tc_message_unpack(&message, TC_MSG_HELLO, held[i].hello->bytes, held[i].hello->size, err);
        if (status == 0)
            status = on_data_hello(agent, held[i].link, &message.hello, held[i].hello, err);
        tc_blob_unref(held[i].hello);
        if (status < 0)
            tc_agent_close_link(agent, held[i].link, 0);
    }
    return 0;
}

static int on_parent_hello(struct tc_agent *agent, unsigned t, const struct tc_msg_hello *hello, struct tc_err *err)
{
    if (agent->parents[t].state != TC_PARENT_DIALLED || hello->role != TC_ROLE_PARENT)
        return tc_fail(err, TC_E_PROTOCOL, "a HELLO too many");
    int status = check_version(hello, err);
    if (status == 0)
        parent_up(agent, t);
    return status;
}

static int on_parent_message(struct tc_agent *agent, unsigned t, const struct tc_message *message, struct tc_blob *body,
                             struct tc_err *err)
{
    switch (message->type) {
    case TC_MSG_HELLO:
        return on_parent_hello(agent, t, &message->hello, err);
    case TC_MSG_PAGE:
        return tc_agent_on_page(agent, t, &message->page, err);
    case TC_MSG_CHUNK:
        return tc_agent_on_chunk(agent, t, &message->chunk, body, err);
    default:
        return tc_fail(err, TC_E_PROTOCOL, "%s from a parent", tc_message_name(message->type));
    }
}

/* One that asks for more than its share is known by its rank in the sender's list. */
static void warn_of_child(struct tc_agent *agent, const struct tc_child *child, const struct tc_err *why)
{
    if (why->reason == TC_E_LIMIT)
        tc_fail(&tc_actions_add(&agent->actions, TC_ACT_WARN)->err, why->reason, "%s: child of rank %u dropped: %.120s",
                agent->job.name, child->self.rank, why->text);
}

void tc_agent_on_data_frame(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    struct tc_child *child = tc_children_by_link(&agent->children, event->link);
    int t = tc_agent_parent_of(agent, event->link);
    if (agent->state < TC_AGENT_OFFERED || agent->state > TC_AGENT_UNCHANGED)
        return;
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err);
    if (status == 0 && t >= 0)
        status = on_parent_message(agent, (unsigned)t, &message, event->body, &err);
    else if (status == 0 && child) {
        struct tc_store store = store_of(agent);
        status = tc_child_message(child, &store, &message, agent->now, &err);
        if (status == 0)
            status = tc_agent_feed_children(agent, &err);
    } else if (status == 0 && message.type == TC_MSG_HELLO && !is_held(agent, event->link))
        status = on_data_hello(agent, event->link, &message.hello, event->body, &err);
    else if (status == 0)
        status = tc_fail(&err, TC_E_PROTOCOL, "%s on a link without HELLO", tc_message_name(message.type));
    if (status == 0)
        return;
    tc_agent_close_link(agent, event->link, 0);
    if (t >= 0)
        tc_agent_lose_parent(agent, (unsigned)t, &err);
    if (child) {
        warn_of_child(agent, child, &err);
        tc_child_stop(child);
    }
    let_go(agent, event->link);
}

void tc_agent_on_data_up(struct tc_agent *agent, uint32_t link)
{
    int t = tc_agent_parent_of(agent, link);
    if (t >= 0)
        greet_parent(agent, (unsigned)t);
}

void tc_agent_on_data_down(struct tc_agent *agent, const struct tc_event *event)
{
    int t = tc_agent_parent_of(agent, event->link), why = event->err ? event->err->reason : TC_OK;
    if (t >= 0 && (why == TC_E_NOMEM || why == TC_E_LIMIT)) {
        tc_agent_fail(agent, event->err); /* no memory or no descriptor here: another parent would not help */
        return;
    }
    if (t >= 0)
        tc_agent_lose_parent(agent, (unsigned)t, event->err);
    struct tc_child *child = tc_children_by_link(&agent->children, event->link);
    if (child)
        tc_child_stop(child);
    let_go(agent, event->link);
}

/* The coordinator cannot come in as a parent, and nothing shows it that the fault is here. */
void tc_agent_on_deaf(struct tc_agent *agent, const struct tc_err *why)
{
    bool awaits = false;
    for (unsigned t = 0; t < agent->trees; t++)
        awaits |= agent->parents[t].state == TC_PARENT_AWAITED;
    if (agent->state == TC_AGENT_FILLING && awaits && why)
        tc_agent_fail(agent, why);
}

void tc_agent_close_data_links(struct tc_agent *agent)
{
    for (unsigned t = 0; t < agent->trees; t++) {
        if (agent->parents[t].state >= TC_PARENT_DIALLED)
            tc_agent_close_link(agent, agent->parents[t].link, 0);
        agent->parents[t].state = TC_PARENT_NONE;
    }
    for (unsigned i = 0; i < agent->children.count; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there are items where they are counted */
        tc_agent_close_link(agent, agent->children.items[i].link, 0);
        tc_child_stop(&agent->children.items[i]);
    }
    for (unsigned i = 0; i < agent->held_count; i++) {
        tc_agent_close_link(agent, agent->held[i].link, 0);
        tc_blob_unref(agent->held[i].hello);
    }
    agent->held_count = 0;
}
