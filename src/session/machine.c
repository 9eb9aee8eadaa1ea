#include "session/machine.h"

#include <stdlib.h>
#include <string.h>

static bool grow(struct tc_actions *actions)
{
    size_t capacity = actions->capacity ? 2 * actions->capacity : 32;
    struct tc_action *items = malloc(capacity * sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < actions->count; i++)
        /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): none is counted without space */
        items[i] = actions->items[(actions->head + i) % actions->capacity];
    free(actions->items);
    actions->items = items;
    actions->capacity = capacity;
    actions->head = 0;
    return true;
}

struct tc_action *tc_actions_add(struct tc_actions *actions, enum tc_action_kind kind)
{
    static _Thread_local struct tc_action nowhere; /* takes what there is no space for */
    struct tc_action *action = &nowhere;
    if (actions->count < actions->capacity || grow(actions))
        action = &actions->items[(actions->head + actions->count++) % actions->capacity];
    else
        actions->failed = true;
    *action = (struct tc_action){.kind = kind};
    return action;
}

bool tc_actions_take(struct tc_actions *actions, struct tc_action *out)
{
    if (actions->count == 0)
        return false;
    *out = actions->items[actions->head];
    actions->head = (actions->head + 1) % actions->capacity;
    actions->count--;
    return true;
}

void tc_actions_free(struct tc_actions *actions)
{
    struct tc_action action;
    while (tc_actions_take(actions, &action))
        tc_blob_unref(action.body);
    free(actions->items);
    *actions = (struct tc_actions){0};
}

int tc_actions_send(struct tc_actions *actions, uint32_t link, const struct tc_message *message,
                    struct tc_signer *signer, struct tc_err *err)
{
    struct tc_blob *body = tc_message_pack(message, signer, err);
    if (!body)
        return err ? -err->reason : -TC_E_NOMEM;
    struct tc_action *action = tc_actions_add(actions, TC_ACT_SEND);
    action->link = link;
    action->type = message->type;
    action->body = body;
    if (actions->failed) {
        tc_blob_unref(body);
        action->body = NULL;
        return tc_fail(err, TC_E_NOMEM, "no memory for an action");
    }
    return 0;
}
