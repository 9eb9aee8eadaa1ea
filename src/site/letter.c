#include "site/letter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD "treecast letter 1"
#define KEY_BREAK '/' /* stands for a line break in a key, which has none of its own */

enum { LETTER_MAX = 16 << 20 };

/* Writing. */

static void write_key(FILE *out, const char *key)
{
    fputs("key ", out);
    for (; *key; key++)
        putc(*key == '\n' ? KEY_BREAK : *key, out);
    putc('\n', out);
}

static void write_line(FILE *out, const char *word, const char *value)
{
    if (value)
        fprintf(out, "%s %s\n", word, value);
}

char *tc_letter_write(const struct tc_letter *letter, size_t first, size_t count, enum tc_launcher launcher, bool self,
                      bool named, struct tc_err *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    fprintf(out, HEAD "\nlauncher %d\nfan %u\nflat %d\npatience %u\nwithin %u\nself %d\nnamed %d\n", launcher,
            letter->fan, letter->flat, letter->patience, letter->within, self, named);
    if (letter->key)
        write_key(out, letter->key);
    write_line(out, "join", letter->join);
    write_line(out, "command", launcher == TC_LAUNCH_NONE ? NULL : letter->command);
    write_line(out, "program", letter->program);
    write_line(out, "dir", letter->dir);
    for (size_t i = 0; i < letter->option_count; i++)
        write_line(out, "option", letter->options[i]);
    for (size_t i = first; i < first + count; i++)
        fprintf(out, "host %u %s%s%s\n", letter->hosts[i].number, letter->hosts[i].user ? letter->hosts[i].user : "",
                letter->hosts[i].user ? "@" : "", letter->hosts[i].name);
    fputs("end\n", out);
    if (fclose(out) == 0)
        return text;
    tc_letter_text_free(text);
    tc_fail(err, TC_E_NOMEM, "out of memory");
    return NULL;
}

void tc_letter_text_free(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

/* Reading. */

static bool set_text(char **to, const char *value)
{
    free(*to);
    *to = strdup(value);
    return *to;
}

static bool add_option(struct tc_letter *letter, const char *value)
{
    char **more = realloc(letter->options, (letter->option_count + 1) * sizeof *more);
    if (!more)
        return false;
    letter->options = more;
    more[letter->option_count] = strdup(value);
    return more[letter->option_count] && ++letter->option_count;
}

static bool add_host(struct tc_letter *letter, const char *value)
{
    char *name;
    unsigned long number = strtoul(value, &name, 10);
    if ((letter->host_count & (letter->host_count - 1)) == 0) { /* room doubles */
        size_t room = letter->host_count ? 2 * letter->host_count : 1;
        struct tc_letter_host *more = realloc(letter->hosts, room * sizeof *more);
        if (!more)
            return false;
        letter->hosts = more;
    }
    char *at = *name == ' ' ? strchr(++name, '@') : NULL;
    struct tc_letter_host *host = &letter->hosts[letter->host_count];
    *host = (struct tc_letter_host){.number = (unsigned)number};
    if (at) {
        host->user = strndup(name, (size_t)(at - name));
        name = at + 1;
    }
    host->name = *name ? strdup(name) : NULL;
    if (host->name && (!at || host->user))
        return ++letter->host_count;
    free(host->name);
    free(host->user);
    return false;
}

static bool set_key(struct tc_letter *letter, char *value)
{
    for (char *at = value; *at; at++)
        if (*at == KEY_BREAK)
            *at = '\n';
    return set_text(&letter->key, value);
}

static bool take_line(struct tc_letter *letter, char *line)
{
    char *value = strchr(line, ' ');
    if (!value)
        return false;
    *value++ = '\0';
    if (strcmp(line, "host") == 0)
        return add_host(letter, value);
    if (strcmp(line, "option") == 0)
        return add_option(letter, value);
    if (strcmp(line, "key") == 0)
        return set_key(letter, value);
    if (strcmp(line, "join") == 0)
        return set_text(&letter->join, value);
    if (strcmp(line, "command") == 0)
        return set_text(&letter->command, value);
    if (strcmp(line, "program") == 0)
        return set_text(&letter->program, value);
    if (strcmp(line, "dir") == 0)
        return set_text(&letter->dir, value);
    unsigned number = (unsigned)strtoul(value, NULL, 10);
    if (strcmp(line, "launcher") == 0)
        letter->launcher = number <= TC_LAUNCH_ALL ? number : TC_LAUNCH_NONE;
    else if (strcmp(line, "fan") == 0)
        letter->fan = number ? number : 1;
    else if (strcmp(line, "flat") == 0)
        letter->flat = number;
    else if (strcmp(line, "patience") == 0)
        letter->patience = number;
    else if (strcmp(line, "within") == 0)
        letter->within = number;
    else if (strcmp(line, "self") == 0)
        letter->self = number;
    else if (strcmp(line, "named") == 0)
        letter->named = number;
    else
        return false;
    return true;
}

static bool whole(const struct tc_letter *letter)
{
    return letter->join && letter->program && letter->host_count > 0 &&
           (letter->launcher == TC_LAUNCH_NONE || letter->command);
}

/* The bytes up to and with "end\n"; nothing follows it. */
static int read_text(int fd, char *text, struct tc_err *err)
{
    size_t used = 0;
    while (used < 5 || memcmp(text + used - 5, "\nend\n", 5) != 0) {
        ssize_t got = used < LETTER_MAX ? read(fd, text + used, LETTER_MAX - used) : 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tc_fail_errno(err, errno, "the letter of the launcher");
        if (got == 0)
            return tc_fail(err, TC_E_CLOSED, "the launcher is gone before it said what to do");
        used += (size_t)got;
    }
    text[used] = '\0';
    return memchr(text, '\0', used) ? tc_fail(err, TC_E_FORMAT, "not a letter of treecast send") : 0;
}

int tc_letter_read(struct tc_letter *letter, int fd, struct tc_err *err)
{
    *letter = (struct tc_letter){.fan = 1};
    char *text = malloc(LETTER_MAX + 1);
    if (!text)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    int result = read_text(fd, text, err);
    bool good = result == 0 && strncmp(text, HEAD "\n", sizeof HEAD) == 0;
    for (char *line = text + sizeof HEAD, *next; good && strcmp(line, "end\n") != 0; line = next) {
        next = strchr(line, '\n');
        *next++ = '\0';
        good = take_line(letter, line);
    }
    if (result == 0 && !(good && whole(letter)))
        result = tc_fail(err, TC_E_FORMAT, "not a letter of treecast send (the same version on every host?)");
    tc_letter_text_free(text);
    if (result < 0)
        tc_letter_free(letter);
    return result;
}

void tc_letter_free(struct tc_letter *letter)
{
    tc_letter_text_free(letter->key);
    free(letter->join);
    free(letter->command);
    free(letter->program);
    free(letter->dir);
    for (size_t i = 0; i < letter->option_count; i++)
        free(letter->options[i]);
    free(letter->options);
    for (size_t i = 0; i < letter->host_count; i++) {
        free(letter->hosts[i].name);
        free(letter->hosts[i].user);
    }
    free(letter->hosts);
    *letter = (struct tc_letter){0};
}

char *tc_letter_fill(const char *text, const struct tc_letter_host *host, struct tc_err *err)
{
    char *filled = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&filled, &size);
    bool good = true;
    for (const char *at = text; out && good && *at; at++) {
        if (*at != '%')
            putc(*at, out);
        else if (*++at == 'h')
            fputs(host->name, out);
        else if (*at == 'n')
            fprintf(out, "%u", host->number + 1);
        else if (*at == 'i')
            fprintf(out, "%u", host->number);
        else if (*at == '%')
            putc('%', out);
        else
            good = false;
    }
    if (out && fclose(out) == 0 && good)
        return filled;
    free(filled);
    if (good)
        tc_fail(err, TC_E_NOMEM, "out of memory");
    else
        tc_fail(err, TC_E_USAGE, "'%s': %%h is the host, %%n its rank, %%i its place, %%%% a percent sign", text);
    return NULL;
}
