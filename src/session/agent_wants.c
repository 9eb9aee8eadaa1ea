#include "session/agent_own.h"

enum {
    HELP_CHUNKS = 16, /* asked of one tree's parent at once in the place of another's that brings nothing */
    AGAIN_RATE = 100  /* bytes a millisecond that the slowest link has */
};

/* What is wanted of page is known: each of its chunks has been looked for here, and there is a file to put them in. */
static bool settled(const struct tc_agent *agent, uint32_t page)
{
    return !agent->differs && tc_compare_settled(&agent->compare, page);
}

/* Chunks of page to want from the parent of tree t: those of its tree, and those of trees that have no parent now. */
static uint64_t wish(const struct tc_agent *agent, unsigned t, uint32_t page)
{
    uint32_t first = tc_page_first(page), count = tc_page_count(&agent->job.layout, page);
    uint64_t wanted = 0;
    if (!settled(agent, page))
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t chunk = first + i;
        unsigned tree = chunk % agent->trees;
        if ((tree == t || agent->parents[tree].state == TC_PARENT_NONE) && !tc_bits_has(&agent->have, chunk) &&
            !tc_bits_has(&agent->pending, chunk))
            wanted |= 1ULL << i;
    }
    return wanted;
}

static void want(struct tc_agent *agent, unsigned t, uint32_t page)
{
    struct tc_parent *parent = &agent->parents[t];
    struct tc_message message = {.type = TC_MSG_WANT};
    message.want.page = page;
    message.want.chunks = wish(agent, t, page);
    if (parent->asked.count == 0)
        parent->last_byte = agent->now; /* it was asked for nothing: what is here was looked for, and that takes long */
    for (uint64_t left = message.want.chunks; left; left &= left - 1) {
        uint32_t chunk = tc_page_first(page) + (uint32_t)__builtin_ctzll(left);
        tc_bits_add(&parent->asked, chunk);
        tc_bits_add(&agent->pending, chunk);
    }
    tc_agent_send(agent, parent->link, &message);
}

/* All that is to be asked of the parent of tree t, of every page that has come. */
static void want_all(struct tc_agent *agent, unsigned t)
{
    for (uint32_t p = tc_bits_next(&agent->have_pages, 0); p != TC_BITS_NONE;
         p = tc_bits_next(&agent->have_pages, p + 1))
        if (wish(agent, t, p) != 0)
            want(agent, t, p);
}

/* A page is answered once to each parent, and only when it is known what is wanted of it. */
void tc_agent_answer(struct tc_agent *agent, unsigned t, uint32_t page)
{
    if (settled(agent, page))
        want(agent, t, page);
    else
        tc_bits_add(&agent->parents[t].owed, page);
}

void tc_agent_answer_all(struct tc_agent *agent, uint32_t page)
{
    if (!settled(agent, page))
        return;
    for (unsigned t = 0; t < agent->trees; t++) {
        struct tc_parent *parent = &agent->parents[t];
        if (parent->state == TC_PARENT_UP && (tc_bits_remove(&parent->owed, page) || wish(agent, t, page) != 0))
            want(agent, t, page);
    }
}

void tc_agent_ask_elsewhere(struct tc_agent *agent)
{
    for (unsigned t = 0; t < agent->trees; t++)
        if (agent->parents[t].state == TC_PARENT_UP)
            want_all(agent, t);
}

/* Chunk is not asked of parent any more, and of nobody then unless another was asked too. */
static void unask(struct tc_agent *agent, struct tc_parent *parent, uint32_t chunk)
{
    bool asked = false;
    tc_bits_remove(&parent->asked, chunk);
    for (unsigned t = 0; t < agent->trees; t++)
        asked |= agent->parents[t].asked.size && tc_bits_has(&agent->parents[t].asked, chunk);
    if (!asked)
        tc_bits_remove(&agent->pending, chunk);
}

/* What was asked of a parent that is gone is to be asked again. */
void tc_agent_forget_asked(struct tc_agent *agent, struct tc_parent *parent)
{
    for (uint32_t chunk = tc_bits_next(&parent->asked, 0); chunk != TC_BITS_NONE;
         chunk = tc_bits_next(&parent->asked, chunk + 1))
        unask(agent, parent, chunk);
}

/* Tree t has a parent again: what the other trees' parents were asked for in its place is asked of it. Left there, two
 * hosts could wait for each other for ever. */
void tc_agent_take_back(struct tc_agent *agent, unsigned t)
{
    for (unsigned other = 0; other < agent->trees; other++) {
        struct tc_parent *parent = &agent->parents[other];
        if (other == t || parent->state != TC_PARENT_UP)
            continue;
        for (uint32_t page = 0; page < agent->job.layout.pages; page++) {
            struct tc_message message = {.type = TC_MSG_CANCEL};
            message.want.page = page;
            for (uint64_t left = tc_bits_page(&parent->asked, page); left; left &= left - 1) {
                uint32_t chunk = tc_page_first(page) + (uint32_t)__builtin_ctzll(left);
                if (chunk % agent->trees != t)
                    continue;
                message.want.chunks |= left & -left;
                unask(agent, parent, chunk);
            }
            if (message.want.chunks)
                tc_agent_send(agent, parent->link, &message);
        }
    }
}

/* What comes. */

/* It has come: who else was asked for it need not send it. */
static void cancel_elsewhere(struct tc_agent *agent, uint32_t chunk)
{
    struct tc_message message = {.type = TC_MSG_CANCEL};
    message.want.page = chunk / TC_PAGE_CHUNKS;
    message.want.chunks = 1ULL << chunk % TC_PAGE_CHUNKS;
    for (unsigned t = 0; t < agent->trees; t++)
        if (agent->parents[t].asked.size && tc_bits_remove(&agent->parents[t].asked, chunk) &&
            agent->parents[t].state == TC_PARENT_UP)
            tc_agent_send(agent, agent->parents[t].link, &message);
}

/* Tree t brings something again, and all of it is asked of its own parent. */
static void runs_again(struct tc_agent *agent, unsigned t)
{
    agent->parents[t].starves = false;
    tc_agent_take_back(agent, t);
    want_all(agent, t);
}

bool tc_agent_brought(struct tc_agent *agent, unsigned t, uint32_t chunk)
{
    struct tc_parent *parent = &agent->parents[t];
    if (parent->starves)
        runs_again(agent, t);
    if (!tc_bits_remove(&parent->asked, chunk))
        return false;
    cancel_elsewhere(agent, chunk);
    return true;
}

/* Help from the other tree. */

/* Up to most chunks of tree t and page are asked of helper too. What its own parent was asked for stays asked: two hosts
 * that helped each other out could else wait for each other for ever. Returns how many. */
static unsigned want_besides(struct tc_agent *agent, unsigned t, struct tc_parent *helper, uint32_t page, unsigned most)
{
    struct tc_message message = {.type = TC_MSG_WANT};
    uint64_t left =
        (tc_bits_page(&agent->parents[t].asked, page) | wish(agent, t, page)) & ~tc_bits_page(&helper->asked, page);
    unsigned count = 0;
    message.want.page = page;
    for (; left && count < most; left &= left - 1) {
        uint32_t chunk = tc_page_first(page) + (uint32_t)__builtin_ctzll(left);
        if (chunk % agent->trees != t)
            continue;
        tc_bits_add(&agent->pending, chunk);
        tc_bits_add(&helper->asked, chunk);
        message.want.chunks |= left & -left;
        count++;
    }
    if (count > 0)
        tc_agent_send(agent, helper->link, &message);
    return count;
}

static unsigned asked_for(const struct tc_agent *agent, unsigned t, const struct tc_parent *helper)
{
    unsigned count = 0;
    for (uint32_t chunk = tc_bits_next(&helper->asked, 0); chunk != TC_BITS_NONE && count < HELP_CHUNKS;
         chunk = tc_bits_next(&helper->asked, chunk + 1))
        count += chunk % agent->trees == t;
    return count;
}

/* Nothing has come in tree t for a while, and the other tree runs: its parent is asked for the next few chunks of t. Few,
 * because its uplink is full already. Without a coordinator nobody gets another parent, and the other tree may have run
 * to its end: then its parent is asked all the same. It takes that for an answer to the page, and does not push it if it
 * has not yet: so it is asked for what it is to bring of it anyway. */
void tc_agent_look_for_help(struct tc_agent *agent, unsigned t)
{
    unsigned other = agent->trees - 1 - t;
    struct tc_parent *parent = &agent->parents[t], *helper = &agent->parents[other];
    if (agent->state != TC_AGENT_FILLING || helper == parent || parent->state == TC_PARENT_NONE ||
        helper->state != TC_PARENT_UP || tc_agent_waiting(agent, t) < TC_MS_STARVE ||
        (agent->now - helper->last_byte >= TC_MS_STARVE && agent->control != TC_NO_LINK))
        return;
    parent->starves = true;
    unsigned asked = asked_for(agent, t, helper);
    for (uint32_t p = tc_bits_next(&agent->have_pages, 0); p != TC_BITS_NONE && asked < HELP_CHUNKS;
         p = tc_bits_next(&agent->have_pages, p + 1)) {
        unsigned more = want_besides(agent, t, helper, p, HELP_CHUNKS - asked);
        if (more > 0 && wish(agent, other, p) != 0)
            want(agent, other, p);
        asked += more;
    }
}

/* A network that flips bits, where there is no TLS, may have changed the number of a page that was asked for or of a chunk
 * that came, and then each end waits for the other. What is only slow comes twice by this, so it takes its time. A parent
 * that lacks the answer to a page pushes no more: the last few are answered again, and of those that came elsewhere what
 * is lacking is asked for at once. */
void tc_agent_ask_again(struct tc_agent *agent, unsigned t)
{
    struct tc_parent *parent = &agent->parents[t];
    uint64_t since = parent->last_byte > parent->asked_again ? parent->last_byte : parent->asked_again;
    uint64_t patience = TC_MS_AGAIN + agent->job.layout.chunk_size / AGAIN_RATE;
    uint32_t known = agent->job.layout.pages;
    if (agent->state != TC_AGENT_FILLING || parent->state != TC_PARENT_UP || agent->now - since < patience)
        return;
    parent->asked_again = agent->now;
    while (known > 0 && !tc_bits_has(&agent->have_pages, known - 1))
        known--;
    for (uint32_t page = 0; page < known; page++) {
        struct tc_message message = {.type = TC_MSG_WANT};
        message.want.page = page;
        message.want.chunks = tc_bits_page(&parent->asked, page);
        bool last = page + TC_FEED_WINDOW >= known && known < agent->job.layout.pages;
        if (message.want.chunks || (last && tc_bits_has(&agent->have_pages, page) && settled(agent, page)))
            tc_agent_send(agent, parent->link, &message);
    }
    want_all(agent, t);
}
