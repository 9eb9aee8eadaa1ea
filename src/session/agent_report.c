#include "session/agent_own.h"

static uint32_t held_of(const struct tc_agent *agent, unsigned t)
{
    uint64_t mine = agent->trees == 1 ? UINT64_MAX : t == 0 ? 0x5555555555555555u : 0xaaaaaaaaaaaaaaaau;
    uint32_t held = 0;
    for (uint32_t page = 0; agent->have.count && page < agent->job.layout.pages; page++)
        held += (uint32_t)__builtin_popcountll(tc_bits_page(&agent->have, page) & mine);
    return held;
}

/* How long a tree's parent has brought nothing though it should. */
uint64_t tc_agent_waiting(const struct tc_agent *agent, unsigned t)
{
    const struct tc_parent *parent = &agent->parents[t];
    bool wants = parent->asked.count > 0 || parent->state != TC_PARENT_UP;
    return agent->state == TC_AGENT_FILLING && wants ? agent->now - parent->last_byte : 0;
}

void tc_agent_send_progress(struct tc_agent *agent)
{
    struct tc_message message = {.type = TC_MSG_PROGRESS};
    message.progress.cause = (uint8_t)agent->bottleneck;
    message.progress.trees = (uint8_t)agent->trees;
    for (unsigned t = 0; t < agent->trees; t++) {
        message.progress.tree[t].held = held_of(agent, t);
        message.progress.tree[t].received = agent->received[t];
        message.progress.tree[t].sent = agent->given[t];
        message.progress.tree[t].waiting = (uint32_t)tc_agent_waiting(agent, t);
    }
    message.progress.epoch = agent->epoch;
    message.progress.state = (uint8_t)agent->state;
    message.progress.chunks = agent->have.count;
    message.progress.bytes = agent->bytes;
    message.progress.sent = agent->sent;
    message.progress.adopted = agent->adopted;
    message.progress.compared = agent->compared;
    tc_agent_send(agent, agent->control, &message);
    agent->progress_due = agent->now + TC_MS_PROGRESS;
}

enum tc_agent_state tc_agent_state(const struct tc_agent *agent)
{
    return agent->state;
}

const struct tc_job *tc_agent_job(const struct tc_agent *agent)
{
    return agent->state == TC_AGENT_NEW ? NULL : &agent->job;
}

uint64_t tc_agent_bytes(const struct tc_agent *agent)
{
    return agent->bytes;
}

uint64_t tc_agent_adopted(const struct tc_agent *agent)
{
    return agent->adopted;
}

bool tc_agent_orphaned(const struct tc_agent *agent)
{
    return agent->control == TC_NO_LINK && agent->state == TC_AGENT_FILLING;
}

bool tc_agent_has(const struct tc_agent *agent, uint32_t chunk)
{
    return tc_bits_has(&agent->have, chunk);
}

unsigned tc_agent_trees(const struct tc_agent *agent)
{
    return agent->trees;
}

uint32_t tc_agent_rank(const struct tc_agent *agent)
{
    return agent->rank;
}

uint32_t tc_agent_epoch(const struct tc_agent *agent)
{
    return agent->epoch;
}

struct tc_agent_place tc_agent_place(const struct tc_agent *agent, unsigned t)
{
    const struct tc_parent *parent = &agent->parents[t];
    return (struct tc_agent_place){.parent = parent->state == TC_PARENT_NONE ? TC_NO_RANK : parent->self.rank,
                                   .address = parent->address,
                                   .up = parent->state == TC_PARENT_UP,
                                   .held = held_of(agent, t),
                                   .received = agent->received[t],
                                   .given = agent->given[t],
                                   .waiting = tc_agent_waiting(agent, t)};
}

uint32_t tc_agent_child(const struct tc_agent *agent, unsigned t, unsigned i, bool *last)
{
    for (unsigned at = 0; at < agent->children.count; at++) {
        const struct tc_child *child = &agent->children.items[at];
        if (child->tree != t || i-- > 0)
            continue;
        *last = child->self.flags & TC_LINK_LAST;
        return child->self.rank;
    }
    return TC_NO_RANK;
}

uint32_t tc_agent_why(const struct tc_agent *agent, unsigned i, const char **why)
{
    if (i >= agent->why_count || i >= TC_AGENT_WHYS)
        return 0;
    unsigned at = (agent->why_count - 1 - i) % TC_AGENT_WHYS;
    *why = agent->whys[at].why;
    return agent->whys[at].epoch;
}
