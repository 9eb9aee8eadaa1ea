#include "plan/hostfile.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define DEPTH_MAX 8u     /* of files that include others */
#define INCLUDES_MAX 64u /* in all, so that files which include each other twice end soon */
#define SLOTS_MOST 1023u /* after a colon: up to here a number of slots, from here on a port */

static const char include_word[] = "#include";

struct reader {
    struct tc_hostlist *list;
    const struct tc_hostfile_source *source;
    unsigned includes;
};

static bool is_blank(char c)
{
    return isspace((unsigned char)c);
}

/* Blank out "word = word" in a line, whatever blanks stand around '='. */
static void drop_settings(char *line, char *end)
{
    for (char *at = line; (at = memchr(at, '=', (size_t)(end - at)));) {
        char *from = at, *to = at + 1;
        while (from > line && is_blank(from[-1]))
            from--;
        while (from > line && !is_blank(from[-1]) && from[-1] != ',')
            from--;
        while (to < end && is_blank(*to))
            to++;
        while (to < end && !is_blank(*to) && *to != ',')
            to++;
        memset(from, ' ', (size_t)(to - from));
        at = to;
    }
}

/* Where the comment of a line begins, or its end. */
static char *comment_of(char *line, char *end)
{
    for (char *at = line; at < end; at++)
        if (*at == '#' || (*at == '/' && at + 1 < end && at[1] == '/' && (at == line || is_blank(at[-1]))))
            return at;
    return end;
}

/* Where the host's name ends in a word, brackets and all. */
static const char *name_end(const char *word, const char *end)
{
    const char *at = end;
    while (at > word && at[-1] != ']')
        at--;
    const char *colon = memchr(at, ':', (size_t)(end - at));
    return colon ? colon : end;
}

/* Whether digits that are no port follow the word's first colon, or a name does after a second one. */
static bool looks_like_slots(const char *word, const char *end)
{
    unsigned value = 0;
    const char *colon = name_end(word, end), *at = colon < end ? colon + 1 : end;
    for (; at < end && isdigit((unsigned char)*at) && value <= SLOTS_MOST; at++)
        value = 10 * value + (unsigned)(*at - '0');
    if (at <= colon + 1)
        return false;
    return at == end ? value <= SLOTS_MOST : *at == ':' && at + 1 < end && isalpha((unsigned char)at[1]);
}

static const char *word_end(const char *at, const char *end)
{
    bool inside = false;
    for (; at < end && (inside || (!is_blank(*at) && *at != ',')); at++)
        inside = *at == '[' || (inside && *at != ']');
    return at;
}

static int add_lists(struct reader *reader, char *line, char *end, struct tc_err *err)
{
    drop_settings(line, end);
    for (const char *at = line, *stop; at < end; at = stop + 1) {
        stop = word_end(at, end);
        if (looks_like_slots(at, stop)) {
            char raw[48], safe[4 * sizeof raw];
            snprintf(raw, sizeof raw, "%.*s", (int)(stop - at < 47 ? stop - at : 47), at);
            return tc_fail(err, TC_E_USAGE,
                           "'%s' looks like MPICH's host:processes, and here a colon begins a port (from %u): leave it "
                           "out, or name the file in HYDRA_HOST_FILE",
                           tc_escape(safe, sizeof safe, raw), SLOTS_MOST + 1);
        }
    }
    return tc_hostlist_add_bytes(reader->list, line, (size_t)(end - line), err);
}

static int add_slots(struct reader *reader, char *line, char *end, struct tc_err *err)
{
    while (line < end && is_blank(*line))
        line++;
    const char *stop = line;
    while (stop < end && !is_blank(*stop))
        stop++;
    return tc_hostlist_add_bytes(reader->list, line, (size_t)(name_end(line, stop) - line), err);
}

static int add_file(struct reader *reader, char *bytes, size_t size, const char *what, unsigned depth,
                    struct tc_err *err);

/* The file that a line includes, relative to the one that it stands in. */
static int include(struct reader *reader, const char *line, const char *end, const char *what, unsigned depth,
                   struct tc_err *err)
{
    char path[PATH_MAX];
    const char *slash = strrchr(what, '/');
    while (line < end && is_blank(*line))
        line++;
    while (end > line && is_blank(end[-1]))
        end--;
    int dir = line < end && *line != '/' && slash ? (int)(slash + 1 - what) : 0;
    if (line == end || memchr(line, '\0', (size_t)(end - line)))
        return tc_fail(err, TC_E_USAGE, "#include names no file");
    if (snprintf(path, sizeof path, "%.*s%.*s", dir, what, (int)(end - line), line) >= (int)sizeof path)
        return tc_fail(err, TC_E_USAGE, "#include: the path is too long");
    if (!reader->source->read)
        return tc_fail(err, TC_E_USAGE, "#include %s: nothing can be included here", path);
    if (depth + 1 == DEPTH_MAX || ++reader->includes > INCLUDES_MAX)
        return tc_fail(err, TC_E_USAGE, "#include %s: more than %u files, or %u inside each other", path, INCLUDES_MAX,
                       DEPTH_MAX);
    char *bytes = NULL;
    size_t size = 0;
    int result = reader->source->read(reader->source->arg, path, &bytes, &size, err);
    if (result == 0)
        result = add_file(reader, bytes, size, path, depth + 1, err);
    free(bytes);
    return result;
}

static int add_line(struct reader *reader, char *line, char *end, const char *what, unsigned depth, size_t number,
                    struct tc_err *err)
{
    struct tc_err why = {0};
    const size_t word = sizeof include_word - 1;
    bool lists = reader->source->form == TC_HOSTFILE_LISTS;
    int result;
    if (lists && (size_t)(end - line) > word && memcmp(line, include_word, word) == 0 && is_blank(line[word]))
        result = include(reader, line + word, end, what, depth, &why);
    else
        result = (lists ? add_lists : add_slots)(reader, line, comment_of(line, end), &why);
    return result < 0 ? tc_fail(err, why.reason, "%s:%zu: %s", what, number, why.text) : 0;
}

/* Spoils bytes. */
static int add_file(struct reader *reader, char *bytes, size_t size, const char *what, unsigned depth,
                    struct tc_err *err)
{
    int result = 0;
    size_t number = 1;
    for (char *at = bytes, *end = size ? bytes + size : bytes; result == 0 && at < end; number++) {
        char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;
        result = add_line(reader, at, stop, what, depth, number, err);
        at = stop + 1;
    }
    return result;
}

int tc_hostfile_add(struct tc_hostlist *list, const char *bytes, size_t size, const char *what,
                    const struct tc_hostfile_source *source, struct tc_err *err)
{
    struct reader reader = {.list = list, .source = source};
    size_t before = tc_hostlist_count(list);
    char *copy = malloc(size + 1);
    if (!copy)
        return tc_fail(err, TC_E_NOMEM, "no memory for %s", what);
    if (size > 0)
        memcpy(copy, bytes, size);
    int result = add_file(&reader, copy, size, what, 0, err);
    free(copy);
    if (result < 0)
        tc_hostlist_cut(list, before);
    return result;
}
