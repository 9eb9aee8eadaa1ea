#include "hostile.h"

#include <stdlib.h>

#include "session/agent.h"
#include "session/limits.h"

static bool is_last_word(uint8_t type)
{
    return type == TC_MSG_DONE || type == TC_MSG_FAILED;
}

static bool left_out(struct hostile_host *host, uint8_t type)
{
    switch (host->mute) {
    case MUTE_AT_ONCE:
        return true;
    case MUTE_AFTER_HELLO:
        return type != TC_MSG_HELLO;
    case MUTE_NEVER_READY:
        return type == TC_MSG_READY || is_last_word(type);
    case MUTE_AFTER_READY:
        if (host->silent)
            return true;
        host->silent = type == TC_MSG_READY;
        return false;
    case MUTE_NEVER_DONE:
        return is_last_word(type);
    default:
        return false;
    }
}

static void raise_bytes(struct hostile_host *host, struct tc_msg_progress *p, uint64_t step)
{
    uint64_t bytes = host->reports * step;
    p->bytes = bytes < host->size ? bytes : host->size;
}

static void raise_trees(struct hostile_host *host, struct tc_msg_progress *p, bool received, bool held)
{
    for (unsigned t = 0; t < p->trees; t++) {
        if (received)
            p->tree[t].received = host->reports;
        if (held)
            p->tree[t].held = (uint32_t)host->reports;
    }
}

static void raise_others(struct hostile_host *host, struct tc_msg_progress *p)
{
    p->chunks = (uint32_t)host->reports;
    p->sent = p->adopted = host->reports;
    for (unsigned t = 0; t < p->trees; t++)
        p->tree[t].waiting = (uint32_t)host->reports;
}

/* A little more than what a report's time is worth. */
static uint64_t just_enough(uint64_t rate)
{
    return rate * (TC_MS_PROGRESS + 20) / 1000 + 1;
}

static void change(struct hostile_host *host, struct tc_msg_progress *p)
{
    host->reports++;
    switch (host->raise) {
    case RAISE_BYTES:
        raise_bytes(host, p, 1);
        break;
    case RAISE_COMPARED:
        p->compared = host->reports;
        break;
    case RAISE_RECEIVED:
        raise_trees(host, p, true, false);
        break;
    case RAISE_HELD:
        raise_trees(host, p, false, true);
        break;
    case RAISE_OTHERS:
        raise_others(host, p);
        break;
    case RAISE_FLOOR:
        raise_bytes(host, p, just_enough(host->min_rate));
        break;
    case RAISE_LOOKS:
        p->compared = host->reports * just_enough(TC_RATE_COMPARE);
        break;
    case RAISE_TOO_MUCH:
        p->bytes = host->reports % 2 ? UINT64_MAX - host->reports : 0;
        p->compared = host->reports % 3 ? host->size * host->reports : UINT64_MAX;
        break;
    case RAISE_WHOLE:
        p->bytes = host->size;
        p->state = TC_AGENT_WHOLE;
        break;
    case RAISE_ALL:
        raise_others(host, p);
        raise_trees(host, p, true, true);
        raise_bytes(host, p, just_enough(host->min_rate));
        p->compared = host->reports * just_enough(TC_RATE_COMPARE);
        break;
    default:
        break;
    }
}

static struct tc_blob *report(struct hostile_host *host, struct tc_blob *body)
{
    struct tc_message message;
    struct tc_blob *changed = NULL;
    if (tc_message_unpack(&message, TC_MSG_PROGRESS, body->bytes, body->size, NULL) == 0 && message.progress.epoch) {
        change(host, &message.progress);
        changed = tc_message_pack(&message, NULL, NULL);
    }
    if (!changed)
        return body;
    tc_blob_unref(body);
    return changed;
}

struct tc_blob *hostile_say(struct hostile_host *host, bool control, uint8_t type, struct tc_blob *body)
{
    bool raises = host->raise < RAISES;
    if ((control && left_out(host, type)) || (raises && ((control && is_last_word(type)) || type == TC_MSG_WANT))) {
        tc_blob_unref(body);
        return NULL;
    }
    return raises && control && type == TC_MSG_PROGRESS ? report(host, body) : body;
}

bool hostile_silent_from(enum hostile_cheat cheat, uint8_t type, const struct tc_blob *body)
{
    struct tc_message message;
    switch (cheat) {
    case CHEAT_NO_OFFER:
        return type == TC_MSG_OFFER;
    case CHEAT_NO_PLAN:
        return type == TC_MSG_PLAN;
    case CHEAT_NO_DATA:
        return type == TC_MSG_PAGE;
    case CHEAT_NO_LAST_PAGE:
        return type == TC_MSG_PAGE && tc_message_unpack(&message, type, body->bytes, body->size, NULL) == 0 &&
               message.page.last;
    case CHEAT_NO_BYE:
        return type == TC_MSG_BYE;
    default:
        return false;
    }
}
