/* cli.h - the verbs of the program and their options: one table a verb, from which everything else follows.
 *
 * The table of a verb feeds parsing (getopt_long), help, completion, the environment (--key-file is TREECAST_KEY_FILE)
 * and the configuration files (key-file = PATH, in [treecast] for all verbs or in the verb's own section). A flag wins
 * over the environment, that over the user's file, that over the system's; in a file the verb's own section wins. */
#ifndef TC_CLI_CLI_H
#define TC_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/trust.h"

/* What an option's value is and the C type it is stored as. */
enum tc_option_kind {
    TC_OPT_FLAG,    /* bool; takes no argument. Elsewhere: yes no, true false, on off, 1 0 */
    TC_OPT_COUNT,   /* unsigned: how often it was given; takes no argument. Elsewhere: a number */
    TC_OPT_TEXT,    /* const char *, NULL when not given */
    TC_OPT_LIST,    /* struct tc_texts: every value given, in order */
    TC_OPT_CHOICE,  /* unsigned: index of the value among choices */
    TC_OPT_NUMBER,  /* uint64_t, least .. most */
    TC_OPT_SIZE,    /* uint64_t, bytes, least .. most; 64K, 1.5GiB */
    TC_OPT_SECONDS, /* double, >= 0; 90, 1.5, 10m, 2h */
    TC_OPT_OCTAL    /* uint64_t, a file mode, least .. most */
};

/* Texts live until the verb has returned. */
struct tc_texts {
    const char **items;
    size_t count;
};

struct tc_option {
    char letter;          /* 0: none */
    const char *name;     /* of the long option, without dashes */
    const char *argument; /* what help calls the value (FILE and DIR complete as such); NULL for FLAG and COUNT */
    enum tc_option_kind kind;
    size_t offset;        /* of the value in the verb's struct: TC_AT */
    const char *help;     /* half a sentence, with the default where there is one */
    const char *choices;  /* "path|json|sh": the values of a CHOICE; for a TEXT what completion offers. NULL: none */
    uint64_t least, most; /* bounds of NUMBER, SIZE, OCTAL; most 0: none */
    unsigned family;      /* options of one family (not 0) are one choice: a value from a higher source, a flag over the
                             environment say, drops the lower ones of the whole family */
    bool spoken;          /* counts on the command line only: neither the environment nor a file may say it */
};

#define TC_AT(type, member) .offset = offsetof(type, member)

/* A verb being run. */
struct tc_call {
    const struct tc_verb *verb;
    const void *values;          /* the verb's struct, filled */
    const char *const *operands; /* ends with NULL */
    size_t count;                /* operands */
    size_t after;                /* index of the first operand that stood after "--"; count where there was none */
};

struct tc_verb {
    const char *name;
    const char *arguments;           /* "SOURCE [NAME]"; "" for none */
    const char *summary;             /* one line, lower case */
    const char *more;                /* further lines of help; NULL: none */
    const struct tc_option *options; /* ends with a row whose name is NULL; -h, --help is added by itself */
    size_t size;                     /* of the verb's struct */
    const void *defaults;            /* a struct to start from; NULL: zero bytes */
    size_t least, most;              /* operands; most SIZE_MAX: any number */
    bool operands_are_files;         /* for completion */
    bool operands_are_names;         /* for completion: of published arrays */
    bool hidden;                     /* neither in help nor in completion */
    bool unattended; /* run by a daemon in others' environments: only flags and the system's file count */
    /* Called before anything else in the process, with main's argv; NULL: nothing. */
    void (*begin)(char *const *argv);
    /* What to exit with instead of code, which is not 0, when it failed outside of run; NULL: code. */
    int (*excuse)(int argc, char *const *argv, int code);
    /* Do it. Returns the exit code (>= 0), or -reason with err filled: then main prints "treecast VERB: TEXT" on
     * standard error and exits with the reason's code. Standard output is flushed and checked by main. */
    int (*run)(const struct tc_call *call, struct tc_err *err);
};

/* One in each cmd_VERB.c. */
extern const struct tc_verb tc_verb_send, tc_verb_recv, tc_verb_wait, tc_verb_attach, tc_verb_list, tc_verb_status,
    tc_verb_verify, tc_verb_hook, tc_verb_rm, tc_verb_clean, tc_verb_keygen, tc_verb_plan, tc_verb_hosts,
    tc_verb_completion, tc_verb_launch_helper;

/* All verbs in the order of help, ended by NULL; and one by name or NULL. */
extern const struct tc_verb *const tc_verbs[];
const struct tc_verb *tc_verb_find(const char *name);
/* What other tools' word for a verb is called here: "ls" is "list". NULL: nothing that is known. */
const char *tc_verb_meant(const char *name);

/* Where values come from. Later ones win. */
enum tc_origin {
    TC_FROM_DEFAULT,
    TC_FROM_SYSTEM_ALL, /* /etc/treecast/treecast.conf [treecast], then [VERB] */
    TC_FROM_SYSTEM_VERB,
    TC_FROM_USER_ALL, /* ~/.config/treecast/treecast.conf */
    TC_FROM_USER_VERB,
    TC_FROM_ENVIRONMENT,
    TC_FROM_FLAG
};

/* The values of one verb while they are gathered. */
struct tc_values;
struct tc_values *tc_values_new(const struct tc_verb *verb, struct tc_err *err);
void tc_values_free(struct tc_values *values); /* and every text and list in it; NULL allowed */
const void *tc_values_struct(const struct tc_values *values);

/* Each from its source, in any order. TC_E_USAGE names the option and the source ("TREECAST_PORT: ...", "FILE:3: ...").
 * environment: "NAME=value" strings ended by NULL, borrowed; an empty value is no value. file: a missing one is no
 * error; one that others may write is TC_E_POLICY; a key or section that no verb knows is an error, whichever verb
 * runs. */
int tc_values_environment(struct tc_values *values, char *const *environment, struct tc_err *err);
int tc_values_file(struct tc_values *values, const char *path, bool system, struct tc_err *err);
/* argv[0] is the verb. Fills call (operands live as long as values); *help: -h was among them, the rest is not read. */
int tc_values_flags(struct tc_values *values, int argc, char **argv, struct tc_call *call, bool *help,
                    struct tc_err *err);

/* "TREECAST_KEY_FILE" for "key-file". */
void tc_environment_name(const char *option, char *out, size_t size);

/* Help of one verb; the overview. */
void tc_help_verb(FILE *out, const struct tc_verb *verb);
void tc_help_all(FILE *out);

/* Where the two configuration files are; user: empty when there is no home directory. */
#define TC_CONFIG_SYSTEM TC_TRUST_FILE
void tc_config_user(char *path, size_t size);

#endif
