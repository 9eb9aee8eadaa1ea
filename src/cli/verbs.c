#include <string.h>

#include "cli/cli.h"

const struct tc_verb *const tc_verbs[] = {
    &tc_verb_send,  &tc_verb_recv,       &tc_verb_wait,          &tc_verb_attach,
    &tc_verb_list,  &tc_verb_status,     &tc_verb_verify,        &tc_verb_rm,
    &tc_verb_clean, &tc_verb_keygen,     &tc_verb_plan,          &tc_verb_hosts,
    &tc_verb_hook,  &tc_verb_completion, &tc_verb_launch_helper, NULL,
};

const struct tc_verb *tc_verb_find(const char *name)
{
    for (size_t i = 0; tc_verbs[i]; i++)
        if (strcmp(tc_verbs[i]->name, name) == 0)
            return tc_verbs[i];
    return NULL;
}

const char *tc_verb_meant(const char *name)
{
    static const char *const words[][2] = {
        {"ls", "list"},         {"dir", "list"},       {"remove", "rm"},         {"delete", "rm"},
        {"del", "rm"},          {"unpublish", "rm"},   {"version", "--version"}, {"get", "attach"},
        {"open", "attach"},     {"map", "attach"},     {"fetch", "attach"},      {"put", "send"},
        {"push", "send"},       {"cp", "send"},        {"copy", "send"},         {"bcast", "send"},
        {"broadcast", "send"},  {"sbcast", "send"},    {"publish", "send"},      {"agent", "recv"},
        {"daemon", "recv"},     {"serve", "recv"},     {"server", "recv"},       {"receive", "recv"},
        {"check", "verify"},    {"ps", "status"},      {"info", "status"},       {"top", "status"},
        {"progress", "status"}, {"genkey", "keygen"},  {"key", "keygen"},        {"cleanup", "clean"},
        {"gc", "clean"},        {"tree", "plan"},      {"prolog", "hook"},       {"epilog", "hook"},
        {"nodeset", "hosts"},   {"hostlist", "hosts"},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i][0], name) == 0)
            return words[i][1];
    return NULL;
}
