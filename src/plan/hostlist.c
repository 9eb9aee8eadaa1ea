#include "plan/hostlist.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define BRACKETS_MAX 16u /* in one word */
#define DIGITS_MAX 18u   /* of a number in a range: any such number fits 64 bits */
#define NAME_BYTES "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define WRITTEN_MAX (16 * TC_HOSTS_MAX) /* hosts one text may write, doubles included: a bound on the time */

struct tc_hostlist {
    char **hosts;
    size_t count, room;
    uint32_t *slots; /* open addressing; index + 1 of a host, 0 is empty; at most half full */
    size_t slot_count;
};

/* --- the set ----------------------------------------------------------------------------------------------------- */

struct tc_hostlist *tc_hostlist_new(struct tc_err *err)
{
    struct tc_hostlist *list = calloc(1, sizeof *list);
    if (!list)
        tc_fail(err, TC_E_NOMEM, "no memory for a host list");
    return list;
}

void tc_hostlist_free(struct tc_hostlist *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->count; i++)
        free(list->hosts[i]);
    free(list->hosts);
    free(list->slots);
    free(list);
}

size_t tc_hostlist_count(const struct tc_hostlist *list)
{
    return list->count;
}

const char *tc_hostlist_at(const struct tc_hostlist *list, size_t index)
{
    return list->hosts[index];
}

/* The slot that holds host, or the empty one where it belongs. FNV-1a. */
static uint32_t *slot_of(const struct tc_hostlist *list, const char *host)
{
    uint64_t hash = 14695981039346656037u;
    for (const char *c = host; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    size_t at = (size_t)(hash ^ hash >> 32) & (list->slot_count - 1);
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there are slots as soon as there is a list */
    while (list->slots[at] != 0 && strcmp(list->hosts[list->slots[at] - 1], host) != 0)
        at = (at + 1) & (list->slot_count - 1);
    return &list->slots[at];
}

static bool holds(const struct tc_hostlist *list, const char *host)
{
    return list->count > 0 && *slot_of(list, host) != 0;
}

static void fill_slots(struct tc_hostlist *list)
{
    if (list->slots)
        memset(list->slots, 0, list->slot_count * sizeof *list->slots);
    for (size_t i = 0; i < list->count; i++)
        *slot_of(list, list->hosts[i]) = (uint32_t)i + 1;
}

static int grow(struct tc_hostlist *list, struct tc_err *err)
{
    size_t room = list->room ? 2 * list->room : 64;
    char **hosts = realloc(list->hosts, room * sizeof *hosts);
    if (hosts)
        list->hosts = hosts;
    uint32_t *slots = hosts ? calloc(2 * room, sizeof *slots) : NULL;
    if (!slots)
        return tc_fail(err, TC_E_NOMEM, "no memory for %zu hosts", room);
    free(list->slots);
    list->slots = slots;
    list->slot_count = 2 * room;
    list->room = room;
    fill_slots(list);
    return 0;
}

static int insert(struct tc_hostlist *list, const char *host, struct tc_err *err)
{
    if (holds(list, host))
        return 0;
    if (list->count == TC_HOSTS_MAX)
        return tc_fail(err, TC_E_USAGE, "more than %u hosts", TC_HOSTS_MAX);
    if (list->count == list->room) {
        int rc = grow(list, err);
        if (rc != 0)
            return rc;
    }
    char *copy = strdup(host);
    if (!copy)
        return tc_fail(err, TC_E_NOMEM, "no memory for host %s", host);
    *slot_of(list, host) = (uint32_t)list->count + 1;
    list->hosts[list->count++] = copy;
    return 0;
}

/* Forget what came after the first count hosts. */
static void roll_back(struct tc_hostlist *list, size_t count)
{
    if (list->count == count)
        return;
    while (list->count > count)
        free(list->hosts[--list->count]);
    fill_slots(list);
}

/* --- one host ---------------------------------------------------------------------------------------------------- */

static int split_port(const char *text, uint16_t *port, struct tc_err *err)
{
    size_t length = strspn(text, "0123456789");
    unsigned long value = strtoul(text, NULL, 10);
    if (length == 0 || length > 5 || text[length] != '\0' || text[0] == '0' || value > UINT16_MAX)
        return tc_fail(err, TC_E_USAGE, "port '%.16s' is not 1 to 65535", text);
    *port = (uint16_t)value;
    return 0;
}

/* An address as inet_pton reads it, perhaps with the zone of a link-local one: fe80::1%eth0. */
static bool is_ipv6(const char *text)
{
    struct in6_addr address;
    char bare[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, "%");
    if (length >= sizeof bare)
        return false;
    memcpy(bare, text, length);
    bare[length] = '\0';
    const char *zone = text[length] == '%' ? text + length + 1 : "-";
    return inet_pton(AF_INET6, bare, &address) == 1 && zone[0] != '\0' && zone[strspn(zone, NAME_BYTES)] == '\0';
}

static int check_name(const char *name, struct tc_err *err)
{
    if (name[0] == '\0')
        return tc_fail(err, TC_E_USAGE, "no name");
    /* A dash would be an option to the programs that get the name. */
    if (name[0] == '-' || name[0] == '.')
        return tc_fail(err, TC_E_USAGE, "a host begins with a letter or a digit");
    unsigned char odd = (unsigned char)name[strspn(name, NAME_BYTES)];
    if (odd > ' ' && odd < 127)
        return tc_fail(err, TC_E_USAGE, "'%c' is in no host's name", odd);
    return odd == 0 ? 0 : tc_fail(err, TC_E_USAGE, "byte \\x%02x is in no host's name", odd);
}

int tc_host_split(const char *host, char *name, size_t name_size, uint16_t *port, struct tc_err *err)
{
    const bool ipv6 = host[0] == '[';
    const char *start = ipv6 ? host + 1 : host;
    size_t length = strcspn(start, ipv6 ? "]" : ":");
    const char *rest = start + length;
    *port = 0;
    if (length >= name_size)
        return tc_fail(err, TC_E_USAGE, "a host is longer than %zu bytes", name_size - 1);
    memcpy(name, start, length);
    name[length] = '\0';
    if (ipv6 && (*rest++ != ']' || !is_ipv6(name)))
        return tc_fail(err, TC_E_USAGE, "no IPv6 address in brackets");
    if (!ipv6 && *rest == ':' && strchr(rest + 1, ':'))
        return tc_fail(err, TC_E_USAGE, "an IPv6 address goes in brackets: [fe80::1]:7117");
    int rc = ipv6 ? 0 : check_name(name, err);
    if (rc != 0)
        return rc;
    if (*rest == '\0')
        return 0;
    if (*rest != ':')
        return tc_fail(err, TC_E_USAGE, "only a port may follow an IPv6 address");
    return split_port(rest + 1, port, err);
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

/* A word in parts: text as it is, or a bracket with ranges. */
struct part {
    const char *text; /* without the brackets of a range */
    size_t size;
    bool ranges;
};

struct reader {
    struct tc_hostlist *list;
    uint64_t written; /* hosts the text has asked for, doubles included */
    struct part parts[2 * BRACKETS_MAX + 1];
    size_t count;
    char host[TC_HOST_TEXT_MAX]; /* the one being put together */
};

struct range {
    uint64_t first, last;
    int width;
};

static size_t digits(const char *text, const char *end, uint64_t *value)
{
    const char *c = text;
    for (*value = 0; c < end && isdigit((unsigned char)*c) && c - text <= (ptrdiff_t)DIGITS_MAX; c++)
        *value = *value * 10 + (uint64_t)(*c - '0');
    return (size_t)(c - text);
}

/* The range at *at, which moves behind it and the comma that follows. The first number gives the width. */
static int next_range(const char **at, const char *end, struct range *range, struct tc_err *err)
{
    const char *first = *at, *comma = memchr(first, ',', (size_t)(end - first));
    const char *stop = comma ? comma : end, *last = first;
    size_t width = digits(first, stop, &range->first), last_width = width;
    const char *c = first + width;
    int size = (int)(stop - first < 40 ? stop - first : 40);
    range->last = range->first;
    if (stop == first || (comma && comma + 1 == end))
        return tc_fail(err, TC_E_USAGE, "empty range");
    if (width > 0 && c < stop && *c == '-') {
        last = c + 1;
        last_width = digits(last, stop, &range->last);
        c = last + last_width;
    }
    if (width == 0 || last_width == 0 || c != stop)
        return tc_fail(err, TC_E_USAGE, "range '%.*s' is not N or N-N", size, first);
    if (width > DIGITS_MAX || last_width > DIGITS_MAX)
        return tc_fail(err, TC_E_USAGE, "range '%.*s' has more than %u digits", size, first, DIGITS_MAX);
    if (last_width < width || (last_width > width && *last == '0'))
        return tc_fail(err, TC_E_USAGE, "range '%.*s' counts down or changes its width", size, first);
    if (range->last < range->first)
        return tc_fail(err, TC_E_USAGE, "range '%.*s' counts down", size, first);
    range->width = (int)width;
    *at = comma ? comma + 1 : end;
    return 0;
}

/* How many values the ranges of a bracket have; never much more than TC_HOSTS_MAX. */
static int count_ranges(const struct part *part, uint64_t *count, struct tc_err *err)
{
    const char *at = part->text, *end = at + part->size;
    *count = 0;
    do {
        struct range range;
        int rc = next_range(&at, end, &range, err);
        if (rc != 0)
            return rc;
        *count += range.last - range.first + 1;
        if (*count > TC_HOSTS_MAX)
            return tc_fail(err, TC_E_USAGE, "more than %u hosts", TC_HOSTS_MAX);
    } while (at < end);
    return 0;
}

static int add_part(struct reader *reader, const char *text, size_t size, bool ranges, struct tc_err *err)
{
    if (size == 0 && !ranges)
        return 0;
    if (reader->count == sizeof reader->parts / sizeof reader->parts[0])
        return tc_fail(err, TC_E_USAGE, "more than %u brackets", BRACKETS_MAX);
    reader->parts[reader->count++] = (struct part){.text = text, .size = size, .ranges = ranges};
    return 0;
}

static int take_apart(struct reader *reader, const char *word, const char *end, struct tc_err *err)
{
    uint64_t hosts = 1;
    int rc = 0;
    reader->count = 0;
    for (const char *at = word; rc == 0 && at < end;) {
        const char *open = memchr(at, '[', (size_t)(end - at));
        size_t plain = (size_t)((open ? open : end) - at);
        if (memchr(at, ']', plain))
            return tc_fail(err, TC_E_USAGE, "']' without '['");
        rc = add_part(reader, at, plain, false, err);
        if (rc != 0 || !open)
            break;
        const char *close = memchr(open, ']', (size_t)(end - open));
        if (!close)
            return tc_fail(err, TC_E_USAGE, "'[' without ']'");
        if (memchr(open + 1, '[', (size_t)(close - open - 1)))
            return tc_fail(err, TC_E_USAGE, "'[' inside brackets");
        bool ipv6 = memchr(open, ':', (size_t)(close - open)) != NULL;
        at = close + 1;
        if (ipv6) {
            rc = add_part(reader, open, (size_t)(at - open), false, err);
            continue;
        }
        uint64_t values = 0;
        rc = add_part(reader, open + 1, (size_t)(close - open - 1), true, err);
        if (rc == 0)
            rc = count_ranges(&reader->parts[reader->count - 1], &values, err);
        hosts *= values;
        if (rc == 0 && hosts > TC_HOSTS_MAX)
            rc = tc_fail(err, TC_E_USAGE, "more than %u hosts", TC_HOSTS_MAX);
    }
    reader->written += hosts;
    if (rc == 0 && reader->written > WRITTEN_MAX)
        rc = tc_fail(err, TC_E_USAGE, "the list writes more than %u hosts, doubles included", WRITTEN_MAX);
    return rc;
}

/* Every host of the parts from index on, behind the length bytes that stand already. */
static int expand(struct reader *reader, size_t index, size_t length, struct tc_err *err)
{
    const size_t room = sizeof reader->host - length;
    const struct part *part = &reader->parts[index];
    int rc = 0;
    if (index == reader->count) {
        char name[TC_HOST_TEXT_MAX];
        uint16_t port;
        reader->host[length] = '\0';
        rc = tc_host_split(reader->host, name, sizeof name, &port, err);
        return rc == 0 ? insert(reader->list, reader->host, err) : rc;
    }
    if (!part->ranges) {
        if (part->size >= room)
            return tc_fail(err, TC_E_USAGE, "a host is longer than %u bytes", TC_HOST_TEXT_MAX - 1);
        memcpy(reader->host + length, part->text, part->size);
        return expand(reader, index + 1, length + part->size, err);
    }
    for (const char *at = part->text, *end = at + part->size; rc == 0 && at < end;) {
        struct range range;
        rc = next_range(&at, end, &range, err);
        for (uint64_t value = range.first; rc == 0 && value <= range.last; value++) {
            int used = snprintf(reader->host + length, room, "%0*llu", range.width, (unsigned long long)value);
            if (used < 0 || (size_t)used >= room)
                return tc_fail(err, TC_E_USAGE, "a host is longer than %u bytes", TC_HOST_TEXT_MAX - 1);
            rc = expand(reader, index + 1, length + (size_t)used, err);
        }
    }
    return rc;
}

static const char *word_end(const char *at, const char *end)
{
    bool inside = false;
    for (; at < end; at++) {
        if (*at == '[' || *at == ']')
            inside = *at == '[';
        else if (!inside && (*at == ',' || isspace((unsigned char)*at)))
            break;
    }
    return at;
}

static int read_word(struct reader *reader, const char *word, const char *end, struct tc_err *err)
{
    struct tc_err why = {0};
    int rc = memchr(word, '\0', (size_t)(end - word)) ? tc_fail(&why, TC_E_USAGE, "a zero byte is in no host's name")
                                                      : take_apart(reader, word, end, &why);
    if (rc == 0)
        rc = expand(reader, 0, 0, &why);
    if (rc == 0)
        return 0;
    char raw[49], shown[4 * sizeof raw];
    snprintf(raw, sizeof raw, "%.*s", (int)(end - word < 48 ? end - word : 48), word);
    const char *more = strlen(raw) < (size_t)(end - word) ? "..." : "";
    return tc_fail(err, why.reason, "host list: %s%s: %s", tc_escape(shown, sizeof shown, raw), more, why.text);
}

/* Words of a file that hold '=' belong to MPI: slots=4. */
static int read_text(struct reader *reader, const char *at, const char *end, bool file, struct tc_err *err)
{
    int rc = 0;
    while (rc == 0 && at < end) {
        const char *word = at;
        at = word_end(word, end);
        if (at > word && !(file && memchr(word, '=', (size_t)(at - word))))
            rc = read_word(reader, word, at, err);
        at++;
    }
    return rc;
}

int tc_hostlist_add(struct tc_hostlist *list, const char *text, struct tc_err *err)
{
    struct reader reader = {.list = list};
    size_t before = list->count;
    int rc = read_text(&reader, text, text + strlen(text), false, err);
    if (rc != 0)
        roll_back(list, before);
    return rc;
}

int tc_hostlist_add_file(struct tc_hostlist *list, const char *bytes, size_t size, const char *what, struct tc_err *err)
{
    struct reader reader = {.list = list};
    size_t before = list->count, line = 1;
    int rc = 0;
    for (const char *at = bytes, *end = size ? bytes + size : bytes; rc == 0 && at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end, *comment = memchr(at, '#', (size_t)(stop - at));
        struct tc_err why = {0};
        rc = read_text(&reader, at, comment ? comment : stop, true, &why);
        if (rc != 0)
            tc_fail(err, why.reason, "%s:%zu: %s", what, line, why.text);
        at = stop + 1;
    }
    if (rc != 0)
        roll_back(list, before);
    return rc;
}

static bool excluded(const struct tc_hostlist *out, const char *host)
{
    char name[TC_HOST_TEXT_MAX];
    const char *bracket = host[0] == '[' ? strchr(host, ']') : NULL;
    snprintf(name, sizeof name, "%s", host);
    name[bracket ? (size_t)(bracket + 1 - host) : strcspn(host, ":")] = '\0';
    return holds(out, host) || holds(out, name);
}

int tc_hostlist_exclude(struct tc_hostlist *list, const char *text, struct tc_err *err)
{
    struct tc_hostlist *out = tc_hostlist_new(err);
    if (!out)
        return -TC_E_NOMEM;
    int rc = tc_hostlist_add(out, text, err);
    size_t kept = 0;
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        if (excluded(out, list->hosts[i]))
            free(list->hosts[i]);
        else
            list->hosts[kept++] = list->hosts[i];
    }
    if (rc == 0) {
        list->count = kept;
        fill_slots(list);
    }
    tc_hostlist_free(out);
    return rc;
}

/* --- folding ----------------------------------------------------------------------------------------------------- */

/* A word on its way to the folded form, and the field that the current pass folds: digits at field .. field + size. A
 * word without such a field has size 0 and field at its end. */
struct word {
    char *text;
    size_t field, size;
    uint64_t value;
};

/* The field-th run of digits from the end that may be folded (0 is the last); a bracket, be it of an earlier pass
 * or of an IPv6 address, counts as one and is left alone. */
static void find_field(struct word *word, unsigned field)
{
    const char *text = word->text;
    size_t at = strlen(text);
    *word = (struct word){.text = word->text, .field = at};
    while (at > 0) {
        size_t end = at;
        if (text[at - 1] == ']') {
            while (text[--at] != '[')
                ;
        } else if (isdigit((unsigned char)text[at - 1])) {
            while (at > 0 && isdigit((unsigned char)text[at - 1]))
                at--;
        } else {
            at--;
            continue;
        }
        if (field-- > 0)
            continue;
        if (isdigit((unsigned char)text[at]) && end - at <= DIGITS_MAX) {
            word->field = at;
            word->size = digits(text + at, text + end, &word->value);
        }
        return;
    }
}

/* Words that differ in the field only stand together, by width and number. */
static int by_field(const void *one, const void *two)
{
    const struct word *a = one, *b = two;
    size_t common = a->field < b->field ? a->field : b->field;
    int order = memcmp(a->text, b->text, common);
    if (order == 0 && a->field != b->field)
        order = a->field < b->field ? -1 : 1;
    if (order == 0)
        order = strcmp(a->text + a->field + a->size, b->text + b->field + b->size);
    if (order == 0 && a->size != b->size)
        order = a->size < b->size ? -1 : 1;
    return order != 0 ? order : a->value < b->value ? -1 : a->value > b->value;
}

static bool same_group(const struct word *a, const struct word *b)
{
    return a->size > 0 && b->size > 0 && a->field == b->field && memcmp(a->text, b->text, a->field) == 0 &&
           strcmp(a->text + a->field + a->size, b->text + b->field + b->size) == 0;
}

/* b is written by a range that goes on from a: 8-9, 08-09, and 9-10 where the number outgrows its width. */
static bool follows(const struct word *a, const struct word *b)
{
    return b->value == a->value + 1 && (b->size == a->size || b->text[b->field] != '0');
}

/* One word for the count words of a group. NULL: no memory. */
static char *join(const struct word *words, size_t count)
{
    size_t room = strlen(words[0].text) + 3 + count * (DIGITS_MAX + 1), used;
    for (size_t i = 0; i < count; i++)
        room += words[i].size;
    char *text = malloc(room);
    if (!text)
        return NULL;
    used = (size_t)snprintf(text, room, "%.*s[", (int)words[0].field, words[0].text);
    for (size_t i = 0, j; i < count; i = j) {
        for (j = i + 1; j < count && follows(&words[j - 1], &words[j]); j++)
            ;
        used += (size_t)snprintf(text + used, room - used, "%s%.*s", i ? "," : "", (int)words[i].size,
                                 words[i].text + words[i].field);
        if (j - i > 1)
            used += (size_t)snprintf(text + used, room - used, "-%.*s", (int)words[j - 1].size,
                                     words[j - 1].text + words[j - 1].field);
    }
    snprintf(text + used, room - used, "]%s", words[0].text + words[0].field + words[0].size);
    return text;
}

/* Fold one field in all words. Returns how many are left, 0 when there is no memory (then none is). */
static size_t fold_field(struct word *words, size_t count, unsigned field)
{
    size_t kept = 0;
    bool failed = false;
    for (size_t i = 0; i < count; i++)
        find_field(&words[i], field);
    qsort(words, count, sizeof *words, by_field);
    for (size_t i = 0, j; i < count; i = j) {
        for (j = i + 1; j < count && same_group(&words[i], &words[j]); j++)
            ;
        char *text = j - i > 1 ? join(&words[i], j - i) : words[i].text;
        failed = failed || !text;
        for (size_t k = i; k < j; k++)
            if (words[k].text != text)
                free(words[k].text);
        words[kept++].text = text;
    }
    for (size_t i = 0; failed && i < kept; i++)
        free(words[i].text);
    return failed ? 0 : kept;
}

/* As people would sort: numbers by width, then value. */
static int by_nature(const void *one, const void *two)
{
    const char *a = ((const struct word *)one)->text, *b = ((const struct word *)two)->text;
    for (;; a++, b++) {
        a += *a == '[';
        b += *b == '[';
        size_t width = strspn(a, "0123456789"), other = strspn(b, "0123456789");
        if (width > 0 && other > 0 && width != other)
            return width < other ? -1 : 1;
        if (*a != *b || *a == '\0')
            return (unsigned char)*a - (unsigned char)*b;
    }
}

static char *join_words(const struct word *words, size_t count)
{
    size_t room = 1, used = 0;
    for (size_t i = 0; i < count; i++)
        room += strlen(words[i].text) + 1;
    char *text = malloc(room);
    if (!text)
        return NULL;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%s", i ? "," : "", words[i].text);
    return text;
}

/* Field by field from the last to the first: ports, then nodes, then racks. What a pass has folded is, for the next,
 * part of what must be equal: so rack[1-3]node[1-4]:[7201-7202] comes out whole. */
char *tc_hostlist_fold(const struct tc_hostlist *list, struct tc_err *err)
{
    enum { FIELDS = 6 };
    size_t count = list->count;
    struct word *words = calloc(count + 1, sizeof *words);
    bool failed = !words;
    for (size_t i = 0; !failed && i < list->count; i++) {
        words[i].text = strdup(list->hosts[i]);
        failed = !words[i].text;
    }
    char *text = NULL;
    if (!failed) {
        for (unsigned field = 0; field < FIELDS && (count > 0 || list->count == 0); field++)
            count = fold_field(words, count, field);
        failed = count == 0 && list->count > 0;
        qsort(words, count, sizeof *words, by_nature);
        text = failed ? NULL : join_words(words, count);
    }
    for (size_t i = 0; words && i < count; i++)
        free(words[i].text);
    free(words);
    if (!text)
        tc_fail(err, TC_E_NOMEM, "no memory to fold %zu hosts", list->count);
    return text;
}
