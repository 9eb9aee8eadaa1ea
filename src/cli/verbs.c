#include <string.h>

#include "cli/cli.h"

const struct tc_verb *const tc_verbs[] = {
    &tc_verb_send,  &tc_verb_recv,       &tc_verb_wait,   &tc_verb_attach,
    &tc_verb_list,  &tc_verb_status,     &tc_verb_verify, &tc_verb_rm,
    &tc_verb_clean, &tc_verb_keygen,     &tc_verb_plan,   &tc_verb_hosts,
    &tc_verb_hook,  &tc_verb_completion, &tc_verb_spread, NULL,
};

const struct tc_verb *tc_verb_find(const char *name)
{
    for (size_t i = 0; tc_verbs[i]; i++)
        if (strcmp(tc_verbs[i]->name, name) == 0)
            return tc_verbs[i];
    return NULL;
}
