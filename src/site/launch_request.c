#include "site/launch_request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD "treecast launch-request 1"
#define KEY_BREAK '/' /* stands for a line break in a key, which has none of its own */

enum { REQUEST_MAX = 16 << 20 };

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

char *tc_launch_request_write(const struct tc_launch_request *request, size_t first, size_t count,
                              enum tc_launcher launcher, bool self, bool named, struct tc_err *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    fprintf(out, HEAD "\nlauncher %d\nfan %u\nflat %d\npatience %u\nwithin %u\nself %d\nnamed %d\n", launcher,
            request->fan, request->flat, request->patience, request->within, self, named);
    if (request->key)
        write_key(out, request->key);
    write_line(out, "join", request->join);
    write_line(out, "command", launcher == TC_LAUNCH_NONE ? NULL : request->command);
    write_line(out, "program", request->program);
    write_line(out, "dir", request->dir);
    for (size_t i = 0; i < request->option_count; i++)
        write_line(out, "option", request->options[i]);
    for (size_t i = first; i < first + count; i++)
        fprintf(out, "host %u %s%s%s\n", request->hosts[i].number, request->hosts[i].user ? request->hosts[i].user : "",
                request->hosts[i].user ? "@" : "", request->hosts[i].name);
    fputs("end\n", out);
    if (fclose(out) == 0)
        return text;
    tc_launch_request_text_free(text);
    tc_fail(err, TC_E_NOMEM, "out of memory");
    return NULL;
}

void tc_launch_request_text_free(char *text)
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

static bool add_option(struct tc_launch_request *request, const char *value)
{
    char **more = realloc(request->options, (request->option_count + 1) * sizeof *more);
    if (!more)
        return false;
    request->options = more;
    more[request->option_count] = strdup(value);
    return more[request->option_count] && ++request->option_count;
}

static bool add_host(struct tc_launch_request *request, const char *value)
{
    char *name;
    unsigned long number = strtoul(value, &name, 10);
    if ((request->host_count & (request->host_count - 1)) == 0) { /* capacity doubles */
        size_t capacity = request->host_count ? 2 * request->host_count : 1;
        struct tc_launch_request_host *more = realloc(request->hosts, capacity * sizeof *more);
        if (!more)
            return false;
        request->hosts = more;
    }
    char *at = *name == ' ' ? strchr(++name, '@') : NULL;
    struct tc_launch_request_host *host = &request->hosts[request->host_count];
    *host = (struct tc_launch_request_host){.number = (unsigned)number};
    if (at) {
        host->user = strndup(name, (size_t)(at - name));
        name = at + 1;
    }
    host->name = *name ? strdup(name) : NULL;
    if (host->name && (!at || host->user))
        return ++request->host_count;
    free(host->name);
    free(host->user);
    return false;
}

static bool set_key(struct tc_launch_request *request, char *value)
{
    for (char *at = value; *at; at++)
        if (*at == KEY_BREAK)
            *at = '\n';
    return set_text(&request->key, value);
}

static bool take_line(struct tc_launch_request *request, char *line)
{
    char *value = strchr(line, ' ');
    if (!value)
        return false;
    *value++ = '\0';
    if (strcmp(line, "host") == 0)
        return add_host(request, value);
    if (strcmp(line, "option") == 0)
        return add_option(request, value);
    if (strcmp(line, "key") == 0)
        return set_key(request, value);
    if (strcmp(line, "join") == 0)
        return set_text(&request->join, value);
    if (strcmp(line, "command") == 0)
        return set_text(&request->command, value);
    if (strcmp(line, "program") == 0)
        return set_text(&request->program, value);
    if (strcmp(line, "dir") == 0)
        return set_text(&request->dir, value);
    unsigned number = (unsigned)strtoul(value, NULL, 10);
    if (strcmp(line, "launcher") == 0)
        request->launcher = number <= TC_LAUNCH_ALL ? number : TC_LAUNCH_NONE;
    else if (strcmp(line, "fan") == 0)
        request->fan = number ? number : 1;
    else if (strcmp(line, "flat") == 0)
        request->flat = number;
    else if (strcmp(line, "patience") == 0)
        request->patience = number;
    else if (strcmp(line, "within") == 0)
        request->within = number;
    else if (strcmp(line, "self") == 0)
        request->self = number;
    else if (strcmp(line, "named") == 0)
        request->named = number;
    else
        return false;
    return true;
}

static bool whole(const struct tc_launch_request *request)
{
    return request->join && request->program && request->host_count > 0 &&
           (request->launcher == TC_LAUNCH_NONE || request->command);
}

/* The bytes up to and with "end\n"; nothing follows it. */
static int read_text(int fd, char *text, struct tc_err *err)
{
    size_t used = 0;
    while (used < 5 || memcmp(text + used - 5, "\nend\n", 5) != 0) {
        ssize_t got = used < REQUEST_MAX ? read(fd, text + used, REQUEST_MAX - used) : 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tc_fail_errno(err, errno, "the launch request of the launcher");
        if (got == 0)
            return tc_fail(err, TC_E_CLOSED, "the launcher is gone before it said what to do");
        used += (size_t)got;
    }
    text[used] = '\0';
    return memchr(text, '\0', used) ? tc_fail(err, TC_E_FORMAT, "not a launch request of treecast send") : 0;
}

int tc_launch_request_read(struct tc_launch_request *request, int fd, struct tc_err *err)
{
    *request = (struct tc_launch_request){.fan = 1};
    char *text = malloc(REQUEST_MAX + 1);
    if (!text)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    int result = read_text(fd, text, err);
    bool good = result == 0 && strncmp(text, HEAD "\n", sizeof HEAD) == 0;
    for (char *line = text + sizeof HEAD, *next; good && strcmp(line, "end\n") != 0; line = next) {
        next = strchr(line, '\n');
        *next++ = '\0';
        good = take_line(request, line);
    }
    if (result == 0 && !(good && whole(request)))
        result = tc_fail(err, TC_E_FORMAT, "not a launch request of treecast send (the same version on every host?)");
    tc_launch_request_text_free(text);
    if (result < 0)
        tc_launch_request_free(request);
    return result;
}

void tc_launch_request_free(struct tc_launch_request *request)
{
    tc_launch_request_text_free(request->key);
    free(request->join);
    free(request->command);
    free(request->program);
    free(request->dir);
    for (size_t i = 0; i < request->option_count; i++)
        free(request->options[i]);
    free(request->options);
    for (size_t i = 0; i < request->host_count; i++) {
        free(request->hosts[i].name);
        free(request->hosts[i].user);
    }
    free(request->hosts);
    *request = (struct tc_launch_request){0};
}

char *tc_launch_request_fill(const char *text, const struct tc_launch_request_host *host, struct tc_err *err)
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
