#include <string.h>

#include "cli/cli.h"

enum { HELP_COLUMN = 28, WIDTH = 100 };

/* text from column on, wrapped at spaces. */
static void wrap(FILE *out, const char *text, int column)
{
    int at = column;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (at > column && at + 1 + word > WIDTH) {
            fprintf(out, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            at += fprintf(out, " ");
        }
        at += fprintf(out, "%.*s", word, text);
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void help_option(FILE *out, const struct tc_option *option)
{
    char left[80], letter[5] = "    ";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    int used = snprintf(left, sizeof left, "  %s--%s%s%s", letter, option->name, option->argument ? " " : "",
                        option->argument ? option->argument : "");
    if (used + 2 > HELP_COLUMN)
        fprintf(out, "%s\n%*s", left, HELP_COLUMN, "");
    else
        fprintf(out, "%-*s", HELP_COLUMN, left);
    wrap(out, option->help, HELP_COLUMN);
}

static void help_environment(FILE *out, const struct tc_verb *verb)
{
    int at = fprintf(out, " ");
    for (const struct tc_option *option = verb->options; option->name; option++) {
        char name[64];
        if (option->spoken)
            continue;
        tc_environment_name(option->name, name, sizeof name);
        if (at + (int)strlen(name) + 1 > WIDTH) {
            fputc('\n', out);
            at = fprintf(out, " ");
        }
        at += fprintf(out, " %s", name);
    }
    fputc('\n', out);
}

void tc_help_verb(FILE *out, const struct tc_verb *verb)
{
    fprintf(out, "Usage: treecast %s%s%s%s\n%c%s.\n", verb->name, verb->options->name ? " [options]" : "",
            *verb->arguments ? " " : "", verb->arguments, verb->summary[0] & ~0x20, verb->summary + 1);
    if (verb->more)
        fprintf(out, "\n%s", verb->more);
    fprintf(out, "\nOptions:\n");
    for (const struct tc_option *option = verb->options; option->name; option++)
        help_option(out, option);
    help_option(out, &(struct tc_option){.letter = 'h', .name = "help", .help = "this text"});
    if (!verb->options->name)
        return;
    if (verb->unattended) {
        fprintf(out, "\nConfiguration: %s: [treecast] or [%s], keys are the long options\n", TC_CONFIG_SYSTEM,
                verb->name);
        return;
    }
    fprintf(out, "\nEnvironment (a flag wins over it, it wins over the configuration files):\n");
    help_environment(out, verb);
    fprintf(out,
            "\nConfiguration: ~/.config/treecast/treecast.conf, %s: [treecast] or [%s], keys are the long options\n",
            TC_CONFIG_SYSTEM, verb->name);
}

void tc_help_all(FILE *out)
{
    fprintf(out, "Usage: treecast VERB [options] ...\n"
                 "Broadcast one big array to many hosts and map it there.\n\nVerbs:\n");
    for (size_t i = 0; tc_verbs[i]; i++)
        if (!tc_verbs[i]->hidden)
            fprintf(out, "  %-10s%s\n", tc_verbs[i]->name, tc_verbs[i]->summary);
    fprintf(out, "  %-10s%s\n", "help", "this text, or the help of a verb");
    fprintf(out, "\ntreecast VERB -h shows a verb's options, treecast -V the version. Manual: treecast(1).\n");
}
