#include <string.h>

#include "cli/cli.h"

/* The words a shell may offer are all in the tables, so the scripts are lists of cases and nothing else. */

static bool is_file(const struct tc_option *option)
{
    return option->argument && (strcmp(option->argument, "FILE") == 0 || strcmp(option->argument, "DIR") == 0);
}

static void print_choices(const char *choices, char between)
{
    for (; *choices; choices++)
        putchar(*choices == '|' ? between : *choices);
}

static void bash_values(const struct tc_verb *verb)
{
    for (const struct tc_option *option = verb->options; option->name; option++) {
        if (!option->argument)
            continue;
        printf("        %s:--%s", verb->name, option->name);
        if (option->letter)
            printf("|%s:-%c", verb->name, option->letter);
        if (is_file(option)) {
            printf(") compopt -o default; return ;;\n");
        } else if (option->choices) {
            printf(") words=\"");
            print_choices(option->choices, ' ');
            printf("\" ;;\n");
        } else {
            printf(") return ;;\n");
        }
    }
}

static void bash_words(const struct tc_verb *verb)
{
    printf("        %s:-*) words=\"", verb->name);
    for (const struct tc_option *option = verb->options; option->name; option++)
        printf("--%s ", option->name);
    printf("--help\" ;;\n");
    if (verb->operands_are_files)
        printf("        %s:*) compopt -o default; return ;;\n", verb->name);
    if (verb->operands_are_names)
        printf("        %s:*) words=$(_treecast_names \"${COMP_WORDS[@]}\") ;;\n", verb->name);
}

/* The names that are published in the directory of the command line, or in the default one. Names hold no blanks. */
static const char names_function[] = "_treecast_names()\n{\n"
                                     "    local program=$1 dir=() word last=\n"
                                     "    for word; do\n"
                                     "        [[ $last != -d && $last != --dir ]] || dir=(-d \"$word\")\n"
                                     "        [[ $word != --dir=* ]] || dir=(-d \"${word#--dir=}\")\n"
                                     "        last=$word\n"
                                     "    done\n"
                                     "    \"$program\" list --names \"${dir[@]}\" 2>/dev/null\n}\n";

static void bash(void)
{
    printf("# bash completion of treecast, made by `treecast completion bash`\n");
    fputs(names_function, stdout);
    printf("_treecast()\n{\n"
           "    local verb=${COMP_WORDS[1]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
           "    COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
           "        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; tc_verbs[i]; i++)
        if (!tc_verbs[i]->hidden)
            printf("%s ", tc_verbs[i]->name);
    printf("help\" -- \"$cur\"))\n        return\n    fi\n"
           "    case $verb:$prev in\n");
    for (size_t i = 0; tc_verbs[i]; i++)
        if (!tc_verbs[i]->hidden)
            bash_values(tc_verbs[i]);
    printf("        *)\n        case $verb:$cur in\n");
    for (size_t i = 0; tc_verbs[i]; i++)
        if (!tc_verbs[i]->hidden)
            bash_words(tc_verbs[i]);
    printf("        esac ;;\n    esac\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
           "complete -F _treecast treecast\n");
}

/* Text inside a single-quoted _arguments specification. */
static void zsh_quoted(const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            printf("'\\''");
        else if (strchr("[]:\\", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void zsh_option(const struct tc_option *option, const char *dashes, const char *name)
{
    bool repeats = option->kind == TC_OPT_LIST || option->kind == TC_OPT_COUNT;
    printf(" \\\n            '%s%s%s%s[", repeats ? "*" : "", dashes, name, option->argument && dashes[1] ? "=" : "");
    zsh_quoted(option->help);
    printf("]");
    if (is_file(option)) {
        printf(":%s:_files", option->argument);
    } else if (option->choices) {
        printf(":%s:(", option->argument);
        print_choices(option->choices, ' ');
        printf(")");
    } else if (option->argument) {
        printf(":");
        zsh_quoted(option->argument);
        printf(": ");
    }
    printf("'");
}

static void zsh(void)
{
    printf("#compdef treecast\n# zsh completion of treecast, made by `treecast completion zsh`\n");
    fputs(names_function, stdout);
    printf("if (( CURRENT == 2 )); then\n    local -a verbs=(");
    for (size_t i = 0; tc_verbs[i]; i++)
        if (!tc_verbs[i]->hidden) {
            printf("\n        '%s:", tc_verbs[i]->name);
            zsh_quoted(tc_verbs[i]->summary);
            printf("'");
        }
    printf("\n        'help:show help')\n    _describe verb verbs\n    return\nfi\n"
           "local verb=$words[2]\nshift words\n(( CURRENT-- ))\ncase $verb in\n");
    for (size_t i = 0; tc_verbs[i]; i++) {
        if (tc_verbs[i]->hidden)
            continue;
        printf("    %s)\n        _arguments", tc_verbs[i]->name);
        for (const struct tc_option *option = tc_verbs[i]->options; option->name; option++) {
            if (option->letter)
                zsh_option(option, "-", (char[2]){option->letter, '\0'});
            zsh_option(option, "--", option->name);
        }
        printf(" \\\n            '--help[show help]'%s ;;\n",
               tc_verbs[i]->operands_are_files   ? " '*:file:_files'"
               : tc_verbs[i]->operands_are_names ? " '*:name:{compadd -- $(_treecast_names treecast $words)}'"
                                                 : "");
    }
    printf("esac\n");
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    if (strcmp(call->operands[0], "bash") == 0)
        bash();
    else if (strcmp(call->operands[0], "zsh") == 0)
        zsh();
    else
        return tc_fail(err, TC_E_USAGE, "'%s' is neither bash nor zsh", call->operands[0]);
    return 0;
}

static const struct tc_option options[] = {{.name = NULL}};

const struct tc_verb tc_verb_completion = {
    .name = "completion",
    .arguments = "bash|zsh",
    .summary = "print a completion script for a shell",
    .options = options,
    .least = 1,
    .most = 1,
    .hidden = true,
    .run = run,
};
