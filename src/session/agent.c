#include "session/agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/children.h"
#include "session/compare.h"

enum {
    HELD_MOST = 64,
    HELP_CHUNKS = 16 /* asked of one tree's parent at once in the place of another's that brings nothing */
};

enum parent_state { PARENT_NONE, PARENT_AWAITED, PARENT_DIALLED, PARENT_UP };

struct parent { /* where one tree's chunks come from */
    enum parent_state state;
    struct tc_msg_link self;
    char address[TC_ADDRESS_MAX];
    uint32_t link;
    struct tc_bits asked; /* chunks wanted from it and not here yet */
    struct tc_bits owed;  /* pages that it has no answer to yet */
    uint64_t last_byte;   /* when it last brought a chunk, or became the parent */
    bool starves;         /* the other tree's parent helps out */
};

struct held { /* a data link that came before its PLAN row */
    uint32_t link;
    uint64_t until;
    struct tc_blob *hello;
};

struct tc_agent {
    struct tc_agent_config config;
    char address[TC_ADDRESS_MAX];
    enum tc_agent_state state;
    struct tc_actions actions;
    uint64_t now;

    uint32_t control; /* TC_NO_LINK once it is gone */
    bool greeted;     /* the coordinator's HELLO has come */
    uint64_t progress_due;
    uint64_t last_byte; /* when a chunk last arrived */
    uint64_t began;
    uint64_t orphan_since;
    uint64_t give_up; /* no parent left: when to fail; 0: not waiting */
    bool publishing;
    bool ends_later; /* when publishing has gone one way or the other */

    struct tc_job job;
    struct tc_verifier *session_key;
    struct tc_page **pages; /* by index, owned */
    struct tc_bits have_pages;
    struct tc_bits have;    /* verified and placed */
    struct tc_bits pending; /* asked for, or being opened */
    uint64_t bytes, sent;
    uint64_t received[TC_TREES_MAX], given[TC_TREES_MAX]; /* bytes by tree: from its parents, to its children */
    enum tc_cause strain;                                 /* what limits this host itself */

    struct tc_compare compare;
    bool allocated;      /* there is a file to place chunks in */
    bool differs;        /* it is not the published one: the file is being reserved */
    struct tc_bits lent; /* of have: in the published file only */
    uint64_t adopted, compared;

    uint32_t epoch; /* of the last PLAN; 0: none */
    struct {
        uint32_t epoch;
        char why[TC_WHY_MAX];
    } whys[TC_AGENT_WHYS]; /* a ring */
    unsigned why_count;    /* ever */
    uint32_t rank;
    unsigned trees;
    uint32_t next_link;
    struct parent parents[TC_TREES_MAX];
    struct tc_children children;
    struct held held[HELD_MOST];
    unsigned held_count;
};

/* State: one writer, one table. */

const char *tc_agent_state_name(enum tc_agent_state state)
{
    static const char *const names[] = {"new",       "offered",   "prepared", "filling", "whole",
                                        "published", "unchanged", "failed",   "ended"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

static void enter(struct tc_agent *agent, enum tc_agent_state state, const char *event)
{
    static const uint16_t allowed[] = {
        [TC_AGENT_NEW] = 1 << TC_AGENT_OFFERED | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_OFFERED] = 1 << TC_AGENT_PREPARED | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_PREPARED] = 1 << TC_AGENT_FILLING | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_FILLING] = 1 << TC_AGENT_WHOLE | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_WHOLE] =
            1 << TC_AGENT_PUBLISHED | 1 << TC_AGENT_UNCHANGED | 1 << TC_AGENT_FAILED | 1 << TC_AGENT_ENDED,
        [TC_AGENT_PUBLISHED] = 1 << TC_AGENT_ENDED,
        [TC_AGENT_UNCHANGED] = 1 << TC_AGENT_ENDED,
        [TC_AGENT_FAILED] = 1 << TC_AGENT_ENDED,
        [TC_AGENT_ENDED] = 0,
    };
    if (agent->config.trace) {
        char line[160];
        bool legal = allowed[agent->state] >> state & 1;
        snprintf(line, sizeof line, "%s: %s -> %s (%s)%s", agent->job.name, tc_agent_state_name(agent->state),
                 tc_agent_state_name(state), event, legal ? "" : " refused");
        agent->config.trace(agent->config.trace_arg, line);
    }
    if (allowed[agent->state] >> state & 1)
        agent->state = state;
}

static struct tc_store store_of(struct tc_agent *agent)
{
    return (struct tc_store){&agent->job.layout, agent->pages, &agent->have_pages, &agent->have};
}

static void send_message(struct tc_agent *agent, uint32_t link, const struct tc_message *message)
{
    struct tc_err err = {0};
    if (link != TC_NO_LINK && tc_actions_send(&agent->actions, link, message, NULL, &err) < 0)
        agent->actions.failed = true;
}

static void close_link(struct tc_agent *agent, uint32_t link, uint32_t linger)
{
    if (link == TC_NO_LINK)
        return;
    struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_CLOSE);
    action->link = link;
    action->linger = linger;
}

static uint32_t held_of(const struct tc_agent *agent, unsigned t)
{
    uint64_t mine = agent->trees == 1 ? UINT64_MAX : t == 0 ? 0x5555555555555555u : 0xaaaaaaaaaaaaaaaau;
    uint32_t held = 0;
    for (uint32_t page = 0; agent->have.count && page < agent->job.layout.pages; page++)
        held += (uint32_t)__builtin_popcountll(tc_bits_page(&agent->have, page) & mine);
    return held;
}

/* How long a tree's parent has brought nothing though it should. */
static uint64_t waiting(const struct tc_agent *agent, unsigned t)
{
    const struct parent *parent = &agent->parents[t];
    bool wants = parent->asked.count > 0 || parent->state != PARENT_UP;
    return agent->state == TC_AGENT_FILLING && wants ? agent->now - parent->last_byte : 0;
}

static void send_progress(struct tc_agent *agent)
{
    struct tc_message message = {.type = TC_MSG_PROGRESS};
    message.progress.cause = (uint8_t)agent->strain;
    message.progress.trees = (uint8_t)agent->trees;
    for (unsigned t = 0; t < agent->trees; t++) {
        message.progress.tree[t].held = held_of(agent, t);
        message.progress.tree[t].received = agent->received[t];
        message.progress.tree[t].sent = agent->given[t];
        message.progress.tree[t].waiting = (uint32_t)waiting(agent, t);
    }
    message.progress.epoch = agent->epoch;
    message.progress.state = (uint8_t)agent->state;
    message.progress.chunks = agent->have.count;
    message.progress.bytes = agent->bytes;
    message.progress.sent = agent->sent;
    message.progress.adopted = agent->adopted;
    message.progress.compared = agent->compared;
    send_message(agent, agent->control, &message);
    agent->progress_due = agent->now + TC_MS_PROGRESS;
}

/* Ends. */

static void close_data_links(struct tc_agent *agent)
{
    for (unsigned t = 0; t < agent->trees; t++) {
        if (agent->parents[t].state >= PARENT_DIALLED)
            close_link(agent, agent->parents[t].link, 0);
        agent->parents[t].state = PARENT_NONE;
    }
    for (unsigned i = 0; i < agent->children.count; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there are items where they are counted */
        close_link(agent, agent->children.items[i].link, 0);
        tc_child_stop(&agent->children.items[i]);
    }
    for (unsigned i = 0; i < agent->held_count; i++) {
        close_link(agent, agent->held[i].link, 0);
        tc_blob_unref(agent->held[i].hello);
    }
    agent->held_count = 0;
}

static void end(struct tc_agent *agent, const struct tc_err *why, const char *event)
{
    if (agent->state == TC_AGENT_ENDED)
        return;
    enter(agent, TC_AGENT_ENDED, event);
    close_data_links(agent);
    close_link(agent, agent->control, TC_MS_GOODBYE);
    agent->control = TC_NO_LINK;
    struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_END);
    if (why)
        action->err = *why;
}

/* Say why, and end: REFUSE until the offer is answered, FAILED after. What is published stays so: then it ends without
 * a word, and the coordinator finds its children another parent. */
static void fail(struct tc_agent *agent, const struct tc_err *why)
{
    if (agent->publishing) { /* a rename is not taken back: it has the file or not, and not both */
        agent->ends_later = true;
        return;
    }
    if (agent->state >= TC_AGENT_PUBLISHED) {
        struct tc_err left = *why; /* words for the log: what was published has not failed */
        left.reason = TC_OK;
        end(agent, &left, tc_reason_name(why->reason));
        return;
    }
    struct tc_message message = {.type = agent->state < TC_AGENT_PREPARED ? TC_MSG_REFUSE : TC_MSG_FAILED};
    message.why.reason = (uint16_t)why->reason;
    snprintf(message.why.text, sizeof message.why.text, "%s", why->text);
    send_message(agent, agent->control, &message);
    enter(agent, TC_AGENT_FAILED, tc_reason_name(why->reason));
    end(agent, why, "said why");
}

/* The offer. */

static int check_nonce(struct tc_agent *agent, const uint8_t nonce[TC_NONCE_SIZE], const char *what, struct tc_err *err)
{
    if (memcmp(nonce, agent->config.nonce, TC_NONCE_SIZE) != 0)
        return tc_fail(err, TC_E_AUTH, "%s carries another session's nonce: a replay?", what);
    return 0;
}

static int take_job(struct tc_agent *agent, const struct tc_msg_offer *offer, struct tc_err *err)
{
    struct tc_job *job = &agent->job;
    int status = tc_name_check(offer->name, err);
    if (status < 0)
        return status;
    memcpy(job->name, offer->name, sizeof job->name); /* first of all: who waits for it is told of a refusal too */
    job->flags = offer->flags;
    job->ttl = offer->ttl;
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
    agent->session_key = tc_verifier_new(offer->public_key, err);
    return agent->session_key ? 0 : -TC_E_NOMEM;
}

static int make_room(struct tc_agent *agent, struct tc_err *err)
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

static int on_offer(struct tc_agent *agent, const struct tc_message *message, const struct tc_blob *body,
                    struct tc_err *err)
{
    int status = check_nonce(agent, message->offer.nonce, "OFFER", err);
    if (status == 0 && agent->config.origin)
        status = tc_message_check_origin(TC_MSG_OFFER, body->bytes, body->size, agent->config.origin, err);
    if (status == 0)
        status = take_job(agent, &message->offer, err);
    if (status == 0)
        status = make_room(agent, err);
    if (status < 0) {
        fail(agent, err);
        return 0;
    }
    enter(agent, TC_AGENT_OFFERED, "OFFER");
    tc_actions_add(&agent->actions, TC_ACT_PREPARE)->flags = agent->job.flags;
    send_progress(agent);
    return 0;
}

static void on_prepared(struct tc_agent *agent, const struct tc_event *event)
{
    if (agent->state != TC_AGENT_OFFERED)
        return;
    if (event->err && event->err->reason) {
        fail(agent, event->err);
        return;
    }
    struct tc_err err = {0};
    const struct tc_layout *layout = &agent->job.layout;
    agent->allocated = !(event->flags & TC_PREPARED_LATER);
    if (event->flags & TC_PREPARED_COMPARE &&
        (tc_compare_init(&agent->compare, layout, &err) < 0 || tc_bits_init(&agent->lent, layout->chunks, &err) < 0)) {
        fail(agent, &err);
        return;
    }
    enter(agent, TC_AGENT_PREPARED, "prepared");
    struct tc_message message = {.type = TC_MSG_READY};
    message.ready.flags = event->flags & (TC_PREPARED_EXISTS | TC_PREPARED_LOCAL);
    send_message(agent, agent->control, &message);
}

/* Pages and wants. */

static bool dead(const struct parent *parent)
{
    return parent->state == PARENT_NONE;
}

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
        if ((tree == t || dead(&agent->parents[tree])) && !tc_bits_has(&agent->have, chunk) &&
            !tc_bits_has(&agent->pending, chunk))
            wanted |= 1ULL << i;
    }
    return wanted;
}

static void want(struct tc_agent *agent, unsigned t, uint32_t page)
{
    struct parent *parent = &agent->parents[t];
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
    send_message(agent, parent->link, &message);
}

/* A page is answered once to each parent, and only when it is known what is wanted of it. */
static void answer(struct tc_agent *agent, unsigned t, uint32_t page)
{
    if (settled(agent, page))
        want(agent, t, page);
    else
        tc_bits_add(&agent->parents[t].owed, page);
}

static void answer_all(struct tc_agent *agent, uint32_t page)
{
    for (unsigned t = 0; t < agent->trees; t++) {
        struct parent *parent = &agent->parents[t];
        if (parent->state == PARENT_UP && (tc_bits_remove(&parent->owed, page) || wish(agent, t, page) != 0))
            want(agent, t, page);
    }
}

static int poll_children(struct tc_agent *agent, struct tc_err *err)
{
    struct tc_store store = store_of(agent);
    return tc_children_poll(&agent->children, &store, &agent->actions, err);
}

static void maybe_whole(struct tc_agent *agent)
{
    const struct tc_layout *layout = &agent->job.layout;
    if (agent->state != TC_AGENT_FILLING || agent->have.count < layout->chunks ||
        agent->have_pages.count < layout->pages || !tc_compare_idle(&agent->compare) || agent->differs)
        return;
    enter(agent, TC_AGENT_WHOLE, "last chunk");
    send_progress(agent);
    agent->publishing = true;
    tc_actions_add(&agent->actions, TC_ACT_PUBLISH)->digest = agent->pages[layout->pages - 1]->content;
}

static int take_page(struct tc_agent *agent, const struct tc_page *page, struct tc_err *err)
{
    const struct tc_layout *layout = &agent->job.layout;
    if (page->index >= layout->pages || page->count != tc_page_count(layout, page->index) ||
        page->last != (page->index == layout->pages - 1))
        return tc_fail(err, TC_E_PROTOCOL, "page %u does not fit the file", page->index);
    if (tc_bits_has(&agent->have_pages, page->index))
        return 0;
    int status = tc_page_check(page, agent->job.session, agent->session_key, err);
    if (status < 0)
        return status;
    struct tc_page *kept = malloc(sizeof *kept);
    if (!kept)
        return tc_fail(err, TC_E_NOMEM, "no memory for page %u", page->index);
    *kept = *page;
    agent->pages[page->index] = kept;
    tc_bits_add(&agent->have_pages, page->index);
    tc_compare_page(&agent->compare, &agent->job.layout, page->index);
    return 0;
}

static const struct tc_digest *digest_of(const struct tc_agent *agent, uint32_t chunk)
{
    return &agent->pages[chunk / TC_PAGE_CHUNKS]->chunks[chunk % TC_PAGE_CHUNKS];
}

static void compare_more(struct tc_agent *agent)
{
    uint32_t chunk;
    while (!agent->differs && (chunk = tc_compare_take(&agent->compare)) != TC_BITS_NONE) {
        struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_COMPARE);
        action->chunk = chunk;
        action->digest = *digest_of(agent, chunk);
    }
}

static int on_page(struct tc_agent *agent, unsigned t, const struct tc_page *page, struct tc_err *err)
{
    int status = take_page(agent, page, err);
    if (status < 0)
        return status;
    compare_more(agent);
    answer(agent, t, page->index);
    agent->last_byte = agent->now;
    maybe_whole(agent);
    return poll_children(agent, err);
}

static void runs_again(struct tc_agent *agent, unsigned t);

/* It has come: who else was asked for it need not send it. */
static void cancel_elsewhere(struct tc_agent *agent, uint32_t chunk)
{
    struct tc_message message = {.type = TC_MSG_CANCEL};
    message.want.page = chunk / TC_PAGE_CHUNKS;
    message.want.chunks = 1ULL << chunk % TC_PAGE_CHUNKS;
    for (unsigned t = 0; t < agent->trees; t++)
        if (agent->parents[t].asked.size && tc_bits_remove(&agent->parents[t].asked, chunk) &&
            agent->parents[t].state == PARENT_UP)
            send_message(agent, agent->parents[t].link, &message);
}

static int on_chunk(struct tc_agent *agent, unsigned t, const struct tc_msg_chunk *chunk, struct tc_blob *body,
                    struct tc_err *err)
{
    struct parent *parent = &agent->parents[t];
    parent->last_byte = agent->now;
    if (chunk->index >= agent->job.layout.chunks || chunk->length != tc_chunk_length(&agent->job.layout, chunk->index))
        return tc_fail(err, TC_E_PROTOCOL, "chunk %u does not fit the file", chunk->index);
    if (parent->starves)
        runs_again(agent, t);
    if (!tc_bits_remove(&parent->asked, chunk->index))
        return 0; /* a late answer to a want that was met elsewhere */
    cancel_elsewhere(agent, chunk->index);
    agent->last_byte = agent->now;
    agent->received[t] += chunk->length;
    struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_OPEN);
    action->link = parent->link;
    action->chunk = chunk->index;
    action->keep = tc_children_in_tree(&agent->children, chunk->index % agent->trees);
    action->digest = *digest_of(agent, chunk->index);
    action->body = tc_blob_ref(body);
    return 0;
}

/* Parents come and go. */

static void ask_elsewhere(struct tc_agent *agent)
{
    for (unsigned t = 0; t < agent->trees; t++) {
        if (agent->parents[t].state != PARENT_UP)
            continue;
        for (uint32_t p = tc_bits_next(&agent->have_pages, 0); p != TC_BITS_NONE;
             p = tc_bits_next(&agent->have_pages, p + 1))
            if (wish(agent, t, p) != 0)
                want(agent, t, p);
    }
}

/* Chunk is not asked of parent any more, and of nobody then unless another was asked too. */
static void unask(struct tc_agent *agent, struct parent *parent, uint32_t chunk)
{
    bool asked = false;
    tc_bits_remove(&parent->asked, chunk);
    for (unsigned t = 0; t < agent->trees; t++)
        asked |= agent->parents[t].asked.size && tc_bits_has(&agent->parents[t].asked, chunk);
    if (!asked)
        tc_bits_remove(&agent->pending, chunk);
}

/* What was asked of a parent that is gone is to be asked again. */
static void forget_asked(struct tc_agent *agent, struct parent *parent)
{
    for (uint32_t chunk = tc_bits_next(&parent->asked, 0); chunk != TC_BITS_NONE;
         chunk = tc_bits_next(&parent->asked, chunk + 1))
        unask(agent, parent, chunk);
}

static void complain(struct tc_agent *agent, unsigned t, int reason)
{
    struct tc_message message = {.type = TC_MSG_COMPLAIN};
    message.complaint.epoch = agent->epoch;
    message.complaint.tree = (uint8_t)t;
    message.complaint.rank = agent->parents[t].self.rank;
    message.complaint.reason = (uint16_t)reason;
    send_message(agent, agent->control, &message);
}

/* The coordinator hears of it and gives another parent in its next plan; until then the other trees help out. */
static void lose_parent(struct tc_agent *agent, unsigned t, const struct tc_err *why)
{
    struct parent *parent = &agent->parents[t];
    forget_asked(agent, parent);
    parent->starves = false;
    parent->state = PARENT_NONE;
    if (agent->state != TC_AGENT_FILLING)
        return;
    complain(agent, t, why && why->reason ? why->reason : TC_E_CLOSED);
    ask_elsewhere(agent);
}

/* Tree t has a parent again: what the other trees' parents were asked for in its place is asked of it. Left there, two
 * hosts could wait for each other for ever. */
static void take_back(struct tc_agent *agent, unsigned t)
{
    for (unsigned other = 0; other < agent->trees; other++) {
        struct parent *parent = &agent->parents[other];
        if (other == t || parent->state != PARENT_UP)
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
                send_message(agent, parent->link, &message);
        }
    }
}

/* Tree t brings something again, and all of it is asked of its own parent. */
static void runs_again(struct tc_agent *agent, unsigned t)
{
    agent->parents[t].starves = false;
    take_back(agent, t);
    for (uint32_t p = tc_bits_next(&agent->have_pages, 0); p != TC_BITS_NONE;
         p = tc_bits_next(&agent->have_pages, p + 1))
        if (wish(agent, t, p) != 0)
            want(agent, t, p);
}

/* Up to most chunks of tree t and page are asked of helper too. What its own parent was asked for stays asked: two hosts
 * that helped each other out could else wait for each other for ever. Returns how many. */
static unsigned want_besides(struct tc_agent *agent, unsigned t, struct parent *helper, uint32_t page, unsigned most)
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
        send_message(agent, helper->link, &message);
    return count;
}

static unsigned asked_for(const struct tc_agent *agent, unsigned t, const struct parent *helper)
{
    unsigned count = 0;
    for (uint32_t chunk = tc_bits_next(&helper->asked, 0); chunk != TC_BITS_NONE && count < HELP_CHUNKS;
         chunk = tc_bits_next(&helper->asked, chunk + 1))
        count += chunk % agent->trees == t;
    return count;
}

/* Nothing has come in tree t for a while, and the other tree runs: its parent is asked for the next few chunks of t. Few,
 * because its uplink is full already. */
static void look_for_help(struct tc_agent *agent, unsigned t)
{
    struct parent *parent = &agent->parents[t], *helper = &agent->parents[agent->trees - 1 - t];
    if (agent->state != TC_AGENT_FILLING || helper == parent || dead(parent) || helper->state != PARENT_UP ||
        waiting(agent, t) < TC_MS_STARVE || agent->now - helper->last_byte >= TC_MS_STARVE)
        return;
    parent->starves = true;
    unsigned asked = asked_for(agent, t, helper);
    for (uint32_t p = tc_bits_next(&agent->have_pages, 0); p != TC_BITS_NONE && asked < HELP_CHUNKS;
         p = tc_bits_next(&agent->have_pages, p + 1))
        asked += want_besides(agent, t, helper, p, HELP_CHUNKS - asked);
}

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

static void greet_parent(struct tc_agent *agent, unsigned t)
{
    struct parent *parent = &agent->parents[t];
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
    send_message(agent, parent->link, &message);
    free(pages);
}

/* Both HELLOs have passed. Earlier wants could reach a parent that holds the link until its own plan comes. */
static void parent_up(struct tc_agent *agent, unsigned t)
{
    struct parent *parent = &agent->parents[t];
    parent->state = PARENT_UP;
    if (parent->asked.size)
        take_back(agent, t);
    for (uint32_t p = 0; p < agent->job.layout.pages; p++)
        if (tc_bits_has(&agent->have_pages, p))
            answer(agent, t, p); /* the parent does not push these, so they are wanted unasked */
}

/* The plan. */

static int adopt_parent(struct tc_agent *agent, unsigned t, const struct tc_msg_row *row, struct tc_err *err)
{
    struct parent *parent = &agent->parents[t];
    if (agent->epoch > 1 && memcmp(parent->self.id, row->parent.id, TC_LINK_ID_SIZE) == 0) {
        if (parent->state == PARENT_NONE)
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
    if (parent->state >= PARENT_DIALLED)
        close_link(agent, parent->link, 0);
    forget_asked(agent, parent);
    parent->starves = false;
    parent->last_byte = agent->now;
    parent->self = row->parent;
    parent->link = TC_NO_LINK;
    memcpy(parent->address, row->address, sizeof parent->address);
    if (row->parent.rank == 0) {
        parent->state = PARENT_AWAITED; /* the coordinator dials its own children */
        return 0;
    }
    parent->state = PARENT_DIALLED;
    parent->link = agent->next_link++;
    struct tc_action *action = tc_actions_add(&agent->actions, TC_ACT_DIAL);
    action->link = parent->link;
    action->address = parent->address;
    memcpy(action->id, parent->self.id, sizeof action->id);
    memcpy(action->key, parent->self.key, sizeof action->key);
    return 0;
}

static bool row_has_child(const struct tc_msg_plan *plan, const struct tc_child *child)
{
    const struct tc_msg_row *row = &plan->rows[child->tree];
    for (unsigned i = 0; i < row->child_count; i++) {
        struct tc_msg_link link = tc_msg_row_child(row, i);
        if (memcmp(link.id, child->self.id, TC_LINK_ID_SIZE) == 0)
            return true;
    }
    return false;
}

static int adopt_children(struct tc_agent *agent, const struct tc_msg_plan *plan, struct tc_err *err)
{
    for (unsigned i = agent->children.count; i-- > 0;) {
        struct tc_child *child = &agent->children.items[i];
        if (!row_has_child(plan, child)) {
            close_link(agent, child->link, 0);
            tc_children_remove(&agent->children, child);
        }
    }
    for (unsigned t = 0; t < plan->trees; t++)
        for (unsigned i = 0; i < plan->rows[t].child_count; i++) {
            struct tc_msg_link link = tc_msg_row_child(&plan->rows[t], i);
            struct tc_child *child = tc_children_by_id(&agent->children, link.id);
            if (child)
                child->self.flags = link.flags;
            else if (!tc_children_add(&agent->children, t, &link, err))
                return -TC_E_NOMEM;
        }
    return 0;
}

static int on_data_hello(struct tc_agent *agent, uint32_t link, const struct tc_msg_hello *hello, struct tc_blob *body,
                         struct tc_err *err);

/* Links that came before their row are looked at again. */
static int retry_held(struct tc_agent *agent, struct tc_err *err)
{
    unsigned count = agent->held_count;
    struct held held[HELD_MOST];
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
            close_link(agent, held[i].link, 0);
    }
    return 0;
}

static int check_plan(struct tc_agent *agent, const struct tc_msg_plan *plan, const struct tc_blob *body,
                      struct tc_err *err)
{
    int status = check_nonce(agent, plan->nonce, "PLAN", err);
    if (status == 0 && agent->config.origin)
        status = tc_message_check_origin(TC_MSG_PLAN, body->bytes, body->size, agent->config.origin, err);
    if (status < 0)
        return status;
    if (memcmp(plan->session, agent->job.session, TC_SESSION_ID_SIZE) != 0)
        return tc_fail(err, TC_E_PROTOCOL, "PLAN of another session");
    if (plan->epoch <= agent->epoch || (agent->epoch && plan->trees != agent->trees))
        return tc_fail(err, TC_E_PROTOCOL, "PLAN of epoch %u after epoch %u", plan->epoch, agent->epoch);
    return 0;
}

static void note_why(struct tc_agent *agent, const struct tc_msg_plan *plan)
{
    unsigned at = agent->why_count++ % TC_AGENT_WHYS;
    agent->whys[at].epoch = plan->epoch;
    memcpy(agent->whys[at].why, plan->why, sizeof plan->why);
}

static int on_plan(struct tc_agent *agent, const struct tc_message *message, const struct tc_blob *body,
                   struct tc_err *err)
{
    const struct tc_msg_plan *plan = &message->plan;
    int status = check_plan(agent, plan, body, err);
    if (status < 0)
        return status;
    bool first = agent->epoch == 0;
    agent->epoch = plan->epoch;
    agent->rank = plan->rank;
    agent->trees = plan->trees;
    agent->last_byte = agent->now;
    if (first)
        enter(agent, TC_AGENT_FILLING, "PLAN");
    else
        note_why(agent, plan);
    status = adopt_children(agent, plan, err);
    for (unsigned t = 0; t < plan->trees && status == 0; t++)
        if (agent->state == TC_AGENT_FILLING)
            status = adopt_parent(agent, t, &plan->rows[t], err);
    if (status < 0)
        return status;
    tc_actions_add(&agent->actions, TC_ACT_EXPECT);
    return retry_held(agent, err);
}

int tc_agent_link_key(const struct tc_agent *agent, const uint8_t id[TC_LINK_ID_SIZE], uint8_t key[TC_LINK_KEY_SIZE])
{
    for (unsigned i = 0; i < agent->children.count; i++)
        if (memcmp(agent->children.items[i].self.id, id, TC_LINK_ID_SIZE) == 0) {
            memcpy(key, agent->children.items[i].self.key, TC_LINK_KEY_SIZE);
            return 1;
        }
    for (unsigned t = 0; t < agent->trees; t++)
        if (agent->parents[t].state == PARENT_AWAITED && memcmp(agent->parents[t].self.id, id, TC_LINK_ID_SIZE) == 0) {
            memcpy(key, agent->parents[t].self.key, TC_LINK_KEY_SIZE);
            return 1;
        }
    return agent->state >= TC_AGENT_FAILED ? 0 : -1;
}

/* Data links that others dialled. */

static int hold(struct tc_agent *agent, uint32_t link, struct tc_blob *body, struct tc_err *err)
{
    if (agent->held_count == HELD_MOST)
        return tc_fail(err, TC_E_LIMIT, "too many data links before the plan");
    agent->held[agent->held_count++] = (struct held){link, agent->now + TC_MS_HOLD, tc_blob_ref(body)};
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

static int on_data_hello(struct tc_agent *agent, uint32_t link, const struct tc_msg_hello *hello, struct tc_blob *body,
                         struct tc_err *err)
{
    if (hello->version_min > TC_WIRE_VERSION || hello->version_max < TC_WIRE_VERSION)
        return tc_fail(err, TC_E_VERSION, "peer speaks versions %u to %u, here is %u", hello->version_min,
                       hello->version_max, TC_WIRE_VERSION);
    struct tc_child *child = tc_children_by_id(&agent->children, hello->link);
    if (child && hello->role == TC_ROLE_CHILD && !child->fed) {
        struct tc_store store = store_of(agent);
        int status = tc_child_start(child, link, &store, hello, err);
        if (status < 0)
            return status;
        struct tc_message message = data_hello(agent, TC_ROLE_PARENT, child->self.id);
        send_message(agent, link, &message);
        return tc_children_poll(&agent->children, &store, &agent->actions, err);
    }
    for (unsigned t = 0; t < agent->trees && hello->role == TC_ROLE_PARENT; t++) {
        struct parent *parent = &agent->parents[t];
        if (parent->state != PARENT_AWAITED || memcmp(parent->self.id, hello->link, TC_LINK_ID_SIZE) != 0)
            continue;
        parent->link = link;
        greet_parent(agent, t);
        parent_up(agent, t);
        return 0;
    }
    return hold(agent, link, body, err);
}

/* Which of a node's links an event is of. */

static int parent_of_link(const struct tc_agent *agent, uint32_t link)
{
    for (unsigned t = 0; t < agent->trees; t++)
        if (agent->parents[t].state >= PARENT_DIALLED && agent->parents[t].link == link)
            return (int)t;
    return -1;
}

static int on_parent_hello(struct tc_agent *agent, unsigned t, const struct tc_msg_hello *hello, struct tc_err *err)
{
    if (agent->parents[t].state != PARENT_DIALLED || hello->role != TC_ROLE_PARENT)
        return tc_fail(err, TC_E_PROTOCOL, "a HELLO too many");
    if (hello->version_min > TC_WIRE_VERSION || hello->version_max < TC_WIRE_VERSION)
        return tc_fail(err, TC_E_VERSION, "peer speaks versions %u to %u, here is %u", hello->version_min,
                       hello->version_max, TC_WIRE_VERSION);
    parent_up(agent, t);
    return 0;
}

static int on_parent_message(struct tc_agent *agent, unsigned t, const struct tc_message *message, struct tc_blob *body,
                             struct tc_err *err)
{
    switch (message->type) {
    case TC_MSG_HELLO:
        return on_parent_hello(agent, t, &message->hello, err);
    case TC_MSG_PAGE:
        return on_page(agent, t, &message->page, err);
    case TC_MSG_CHUNK:
        return on_chunk(agent, t, &message->chunk, body, err);
    default:
        return tc_fail(err, TC_E_PROTOCOL, "%s from a parent", tc_message_name(message->type));
    }
}

static void on_data_frame(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    struct tc_child *child = tc_children_by_link(&agent->children, event->link);
    int t = parent_of_link(agent, event->link);
    if (agent->state < TC_AGENT_OFFERED || agent->state > TC_AGENT_UNCHANGED)
        return;
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err);
    if (status == 0 && t >= 0)
        status = on_parent_message(agent, (unsigned)t, &message, event->body, &err);
    else if (status == 0 && child) {
        struct tc_store store = store_of(agent);
        status = tc_child_message(child, &store, &message, &err);
        if (status == 0)
            status = tc_children_poll(&agent->children, &store, &agent->actions, &err);
    } else if (status == 0 && message.type == TC_MSG_HELLO && !is_held(agent, event->link))
        status = on_data_hello(agent, event->link, &message.hello, event->body, &err);
    else if (status == 0)
        status = tc_fail(&err, TC_E_PROTOCOL, "%s on a link without HELLO", tc_message_name(message.type));
    if (status == 0)
        return;
    close_link(agent, event->link, 0);
    if (t >= 0)
        lose_parent(agent, (unsigned)t, &err);
    if (child)
        tc_child_stop(child);
    let_go(agent, event->link);
}

/* The control link. */

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
        return on_offer(agent, message, body, err);
    /* Not after a dry run: then there is no file to fill. */
    if (message->type == TC_MSG_PLAN && agent->state >= TC_AGENT_PREPARED && agent->state <= TC_AGENT_UNCHANGED &&
        !(agent->job.flags & TC_OFFER_DRY_RUN))
        return on_plan(agent, message, body, err);
    if (message->type == TC_MSG_ABORT && agent->greeted) {
        struct tc_err why = {.reason = tc_reason_known(message->why.reason) ? message->why.reason : TC_E_ABORTED};
        snprintf(why.text, sizeof why.text, "%s", message->why.text);
        if (agent->publishing)
            agent->ends_later = true;
        else
            end(agent, done(agent) ? NULL : &why, "ABORT");
        return 0;
    }
    if (message->type == TC_MSG_BYE && (done(agent) || agent->state == TC_AGENT_PREPARED)) {
        end(agent, NULL, "BYE");
        return 0;
    }
    return tc_fail(err, TC_E_PROTOCOL, "%s in state %s", tc_message_name(message->type),
                   tc_agent_state_name(agent->state));
}

static void on_control_frame(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_message message;
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, &err);
    if (status == 0)
        status = on_control_message(agent, &message, event->body, &err);
    if (status == 0)
        return;
    fail(agent, &err);
}

static void on_control_down(struct tc_agent *agent, const struct tc_event *event)
{
    agent->control = TC_NO_LINK;
    struct tc_err why = {0};
    tc_fail(&why, TC_E_COORDINATOR_LOST, "coordinator lost: %s",
            event->err && event->err->reason ? event->err->text : "connection closed");
    if (agent->state < TC_AGENT_FILLING) {
        end(agent, &why, "control link down");
        return;
    }
    agent->orphan_since = agent->now;
    agent->last_byte = agent->now;
}

static void on_down(struct tc_agent *agent, const struct tc_event *event)
{
    if (event->link == agent->control) {
        on_control_down(agent, event);
        return;
    }
    int t = parent_of_link(agent, event->link);
    if (t >= 0 && event->err && event->err->reason == TC_E_NOMEM) {
        fail(agent, event->err); /* our own trouble: another parent would not help */
        return;
    }
    if (t >= 0)
        lose_parent(agent, (unsigned)t, event->err);
    struct tc_child *child = tc_children_by_link(&agent->children, event->link);
    if (child)
        tc_child_stop(child);
    let_go(agent, event->link);
}

/* Results of actions. */

static bool here(struct tc_agent *agent, uint32_t chunk)
{
    if (!tc_bits_add(&agent->have, chunk))
        return false;
    agent->bytes += tc_chunk_length(&agent->job.layout, chunk);
    return true;
}

/* The published file is another one. Everything is looked for again once there is a file to put it in: what was found,
 * to be copied, and what was not, for a session may have left that. */
static void on_difference(struct tc_agent *agent)
{
    struct tc_err why = {0};
    agent->differs = true;
    if (!(agent->job.flags & TC_OFFER_FORCE)) {
        tc_fail(&why, TC_E_EXISTS, "%s is already here with other content: use --force to replace it", agent->job.name);
        fail(agent, &why);
    } else if (agent->compare.out.count == 0) {
        tc_actions_add(&agent->actions, TC_ACT_ALLOCATE);
    }
}

static void on_allocated(struct tc_agent *agent, const struct tc_event *event)
{
    if (agent->state != TC_AGENT_FILLING)
        return;
    if (event->err && event->err->reason) {
        fail(agent, event->err);
        return;
    }
    agent->allocated = true;
    agent->differs = false;
    for (uint32_t p = tc_bits_next(&agent->have_pages, 0); p != TC_BITS_NONE;
         p = tc_bits_next(&agent->have_pages, p + 1))
        tc_compare_page(&agent->compare, &agent->job.layout, p);
    compare_more(agent);
}

/* One chunk was looked for: found, it is here and, with a file, in place; else it is to be wanted. */
static void take_comparison(struct tc_agent *agent, uint32_t chunk, bool found)
{
    uint64_t length = tc_chunk_length(&agent->job.layout, chunk);
    agent->compared += length;
    if (found) {
        agent->adopted += here(agent, chunk) ? length : 0;
        if (agent->allocated)
            tc_bits_remove(&agent->lent, chunk);
        else
            tc_bits_add(&agent->lent, chunk);
    } else if (tc_bits_remove(&agent->lent, chunk)) { /* the published file was changed between two looks */
        tc_bits_remove(&agent->have, chunk);
        agent->bytes -= length;
        agent->adopted -= length;
    }
}

static void on_compared(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    if (agent->state != TC_AGENT_FILLING)
        return;
    if (event->err && event->err->reason) {
        fail(agent, event->err);
        return;
    }
    bool found = event->flags & 1;
    tc_compare_done(&agent->compare, event->chunk);
    take_comparison(agent, event->chunk, found);
    agent->last_byte = agent->now;
    if (!agent->allocated && (!found || agent->differs)) {
        on_difference(agent);
        return;
    }
    compare_more(agent);
    if (settled(agent, event->chunk / TC_PAGE_CHUNKS))
        answer_all(agent, event->chunk / TC_PAGE_CHUNKS);
    maybe_whole(agent);
    if (poll_children(agent, &err) < 0)
        fail(agent, &err);
}

static void on_opened(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    if (agent->state != TC_AGENT_FILLING)
        return;
    int t = parent_of_link(agent, event->link);
    if (event->err && event->err->reason == TC_E_INTEGRITY) {
        tc_bits_remove(&agent->pending, event->chunk);
        if (t >= 0) { /* never from this parent again: its link is closed and the coordinator told */
            close_link(agent, event->link, 0);
            lose_parent(agent, (unsigned)t, event->err);
        } else {
            ask_elsewhere(agent);
        }
        return;
    }
    if (event->err && event->err->reason) {
        fail(agent, event->err);
        return;
    }
    tc_bits_remove(&agent->pending, event->chunk);
    here(agent, event->chunk);
    maybe_whole(agent);
    if (poll_children(agent, &err) < 0)
        fail(agent, &err);
}

static void on_served(struct tc_agent *agent, const struct tc_event *event)
{
    struct tc_err err = {0};
    struct tc_child *child = tc_children_by_link(&agent->children, event->link);
    if (!child || !child->fed)
        return;
    if (event->err && event->err->reason) {
        fail(agent, event->err);
        return;
    }
    if (child->feed.on_way > 0)
        child->feed.on_way--;
    agent->sent += tc_chunk_length(&agent->job.layout, event->chunk);
    agent->given[child->tree] += tc_chunk_length(&agent->job.layout, event->chunk);
    agent->last_byte = agent->now;
    struct tc_store store = store_of(agent);
    if (tc_children_poll(&agent->children, &store, &agent->actions, &err) < 0)
        fail(agent, &err);
}

static void on_published(struct tc_agent *agent, const struct tc_event *event)
{
    agent->publishing = false;
    if (agent->state != TC_AGENT_WHOLE)
        return;
    if (event->err && event->err->reason) {
        fail(agent, event->err);
        return;
    }
    enter(agent, agent->allocated ? TC_AGENT_PUBLISHED : TC_AGENT_UNCHANGED, "published");
    struct tc_message message = {.type = TC_MSG_DONE};
    message.done.state = (uint8_t)agent->state;
    message.done.digest = agent->pages[agent->job.layout.pages - 1]->content;
    send_message(agent, agent->control, &message);
    if (agent->ends_later)
        end(agent, NULL, "published");
}

/* An agent without its coordinator goes on while a parent delivers, and serves while a child takes. */
static uint64_t orphan_deadline(const struct tc_agent *agent)
{
    uint64_t idle = agent->last_byte + TC_MS_ORPHAN, most = agent->orphan_since + TC_MS_ORPHAN_MOST;
    if (agent->state == TC_AGENT_FILLING || agent->state == TC_AGENT_WHOLE)
        return idle < most ? idle : most;
    return idle;
}

/* Four times a second, with a coordinator or without. */
static void on_interval(struct tc_agent *agent)
{
    struct tc_err err = {0};
    send_progress(agent);
    for (unsigned t = 0; t < agent->trees; t++)
        look_for_help(agent, t);
    tc_children_ration(&agent->children);
    if (poll_children(agent, &err) < 0)
        fail(agent, &err);
}

static void on_tick(struct tc_agent *agent)
{
    if (agent->state == TC_AGENT_NEW && agent->now >= agent->began + TC_MS_ANSWER) {
        struct tc_err late = {0};
        tc_fail(&late, TC_E_TIMEOUT, "no offer for %d s", TC_MS_ANSWER / 1000);
        end(agent, &late, "no offer");
        return;
    }
    if (agent->state >= TC_AGENT_OFFERED && agent->now >= agent->progress_due)
        on_interval(agent);
    if (agent->control == TC_NO_LINK && agent->now >= orphan_deadline(agent)) {
        struct tc_err why = {0};
        tc_fail(&why, TC_E_COORDINATOR_LOST, "coordinator lost and no byte for %d s", TC_MS_ORPHAN / 1000);
        if (agent->state != TC_AGENT_WHOLE)
            fail(agent, &why);
    }
    for (unsigned i = 0; i < agent->held_count; i++)
        if (agent->now >= agent->held[i].until) {
            close_link(agent, agent->held[i].link, 0);
            tc_blob_unref(agent->held[i].hello);
            agent->held[i--] = agent->held[--agent->held_count];
        }
}

uint64_t tc_agent_wake(const struct tc_agent *agent)
{
    uint64_t wake = UINT64_MAX;
    if (agent->state == TC_AGENT_ENDED)
        return wake;
    if (agent->state == TC_AGENT_NEW)
        return agent->began + TC_MS_ANSWER;
    if (agent->state >= TC_AGENT_OFFERED)
        wake = agent->progress_due;
    if (agent->control == TC_NO_LINK && agent->state != TC_AGENT_WHOLE && orphan_deadline(agent) < wake)
        wake = orphan_deadline(agent);
    for (unsigned i = 0; i < agent->held_count; i++)
        if (agent->held[i].until < wake)
            wake = agent->held[i].until;
    return wake;
}

/* The machine as a whole. */

static void say_hello(struct tc_agent *agent)
{
    struct tc_message message = {.type = TC_MSG_HELLO};
    message.hello.version_min = message.hello.version_max = TC_WIRE_VERSION;
    message.hello.role = TC_ROLE_AGENT;
    memcpy(message.hello.instance, agent->config.instance, sizeof message.hello.instance);
    memcpy(message.hello.nonce, agent->config.nonce, sizeof message.hello.nonce);
    memcpy(message.hello.address, agent->address, sizeof message.hello.address);
    if (agent->config.host)
        snprintf(message.hello.host, sizeof message.hello.host, "%s", agent->config.host);
    send_message(agent, agent->control, &message);
}

struct tc_agent *tc_agent_new(const struct tc_agent_config *config, uint32_t control, uint64_t now, struct tc_err *err)
{
    struct tc_agent *agent = calloc(1, sizeof *agent);
    if (!agent) {
        tc_fail(err, TC_E_NOMEM, "no memory for a session");
        return NULL;
    }
    agent->config = *config;
    snprintf(agent->address, sizeof agent->address, "%s", config->address ? config->address : "");
    agent->control = control;
    agent->now = agent->began = now;
    agent->next_link = 1;
    say_hello(agent);
    agent->config.host = NULL;
    return agent;
}

void tc_agent_free(struct tc_agent *agent)
{
    if (!agent)
        return;
    tc_actions_free(&agent->actions);
    for (uint32_t i = 0; agent->pages && i < agent->job.layout.pages; i++)
        free(agent->pages[i]);
    free(agent->pages);
    for (unsigned i = 0; i < agent->held_count; i++)
        tc_blob_unref(agent->held[i].hello);
    for (unsigned t = 0; t < TC_TREES_MAX; t++) {
        tc_bits_free(&agent->parents[t].asked);
        tc_bits_free(&agent->parents[t].owed);
    }
    tc_compare_free(&agent->compare);
    tc_bits_free(&agent->lent);
    tc_bits_free(&agent->have_pages);
    tc_bits_free(&agent->have);
    tc_bits_free(&agent->pending);
    tc_children_free(&agent->children);
    tc_verifier_free(agent->session_key);
    tc_array_free(&agent->job.array);
    free(agent);
}

void tc_agent_event(struct tc_agent *agent, const struct tc_event *event, uint64_t now)
{
    int t;
    agent->now = now;
    if (agent->state == TC_AGENT_ENDED)
        return;
    switch (event->kind) {
    case TC_EV_TICK:
        on_tick(agent);
        break;
    case TC_EV_UP:
        t = parent_of_link(agent, event->link);
        if (t >= 0)
            greet_parent(agent, (unsigned)t);
        break;
    case TC_EV_FRAME:
        if (event->link == agent->control)
            on_control_frame(agent, event);
        else
            on_data_frame(agent, event);
        break;
    case TC_EV_DOWN:
        on_down(agent, event);
        break;
    case TC_EV_PREPARED:
        on_prepared(agent, event);
        break;
    case TC_EV_ALLOCATED:
        on_allocated(agent, event);
        break;
    case TC_EV_COMPARED:
        on_compared(agent, event);
        break;
    case TC_EV_OPENED:
        on_opened(agent, event);
        break;
    case TC_EV_SERVED:
        on_served(agent, event);
        break;
    case TC_EV_PUBLISHED:
        on_published(agent, event);
        break;
    case TC_EV_STRAIN:
        agent->strain = (enum tc_cause)event->flags;
        break;
    case TC_EV_STOP:
        fail(agent, event->err);
        break;
    default:
        break;
    }
    if (agent->actions.failed) {
        struct tc_err why = {0};
        agent->actions.failed = false;
        tc_fail(&why, TC_E_NOMEM, "out of memory in the session");
        end(agent, &why, "out of memory");
    }
}

bool tc_agent_take(struct tc_agent *agent, struct tc_action *action)
{
    return tc_actions_take(&agent->actions, action);
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
    const struct parent *parent = &agent->parents[t];
    return (struct tc_agent_place){.parent = dead(parent) ? TC_NO_RANK : parent->self.rank,
                                   .address = parent->address,
                                   .up = parent->state == PARENT_UP,
                                   .held = held_of(agent, t),
                                   .received = agent->received[t],
                                   .given = agent->given[t],
                                   .waiting = waiting(agent, t)};
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
