#include <errno.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/nearest.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

static int complain(const char *verb, const struct tc_err *err)
{
    fprintf(stderr, "treecast%s%s: %s\n", verb ? " " : "", verb ? verb : "", err->text);
    return tc_reason_exit(err->reason);
}

static int unknown(const char *name)
{
    struct tc_nearest nearest = {.word = name};
    const char *meant = tc_verb_meant(name);
    for (size_t i = 0; tc_verbs[i]; i++)
        if (!tc_verbs[i]->hidden)
            tc_nearest_try(&nearest, tc_verbs[i]->name);
    if (meant)
        fprintf(stderr, "treecast: no verb '%s'; here it is '%s' (treecast -h lists all)\n", name, meant);
    else if (nearest.found)
        fprintf(stderr, "treecast: no verb '%s'; did you mean '%s'? (treecast -h lists all)\n", name, nearest.found);
    else
        fprintf(stderr, "treecast: no verb '%s' (treecast -h lists all)\n", name);
    return tc_reason_exit(TC_E_USAGE);
}

/* Output that could not be written is a failure even when everything else went well. */
static int flushed(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno == EPIPE)
        return code ? code : 1;
    fprintf(stderr, "treecast: standard output: %s\n", strerror(errno));
    return code ? code : tc_reason_exit(TC_E_IO);
}

static int help(const char *name)
{
    const struct tc_verb *verb = name ? tc_verb_find(name) : NULL;
    if (name && !verb)
        return unknown(name);
    if (verb)
        tc_help_verb(stdout, verb);
    else
        tc_help_all(stdout);
    return flushed(0);
}

static int gather(struct tc_values *values, bool unattended, struct tc_err *err)
{
    char user[4096];
    int result = tc_values_file(values, TC_CONFIG_SYSTEM, true, err);
    if (result < 0 || unattended)
        return result;
    tc_config_user(user, sizeof user);
    result = tc_values_file(values, user, false, err);
    if (result == 0)
        result = tc_values_environment(values, environ, err);
    return result;
}

static int run_verb(const struct tc_verb *verb, int argc, char **argv)
{
    struct tc_err err = {0};
    struct tc_call call;
    bool wants_help = false;
    struct tc_values *values = tc_values_new(verb, &err);
    int result = values ? tc_values_flags(values, argc, argv, &call, &wants_help, &err) : -err.reason;
    if (result == 0 && !wants_help && verb->options->name)
        result = gather(values, verb->unattended, &err);
    if (result == 0)
        result = wants_help ? help(verb->name) : verb->run(&call, &err);
    int code = flushed(result < 0 ? complain(verb->name, &err) : result);
    if (code && result <= 0 && verb->excuse)
        code = verb->excuse(argc, argv, code);
    tc_values_free(values);
    return code;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    const struct tc_verb *verb = word ? tc_verb_find(word) : NULL;
    if (verb && verb->begin)
        verb->begin(argv);
    setlocale(LC_CTYPE, "");
    if (!word) {
        tc_help_all(stderr);
        return tc_reason_exit(TC_E_USAGE);
    }
    if (strcmp(word, "-V") == 0 || strcmp(word, "--version") == 0) {
        printf("treecast %s\n", PACKAGE_VERSION);
        return flushed(0);
    }
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "help") == 0)
        return help(strcmp(word, "help") == 0 ? argv[2] : NULL);
    if (!verb)
        return unknown(word);
    return run_verb(verb, argc - 1, argv + 1);
}
