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
    char **users; /* of each host; NULL: none was written */
    size_t count, capacity;
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
    for (size_t i = 0; i < list->count; i++) {
        free(list->hosts[i]);
        free(list->users[i]);
    }
    free(list->hosts);
    free(list->users);
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

const char *tc_hostlist_user(const struct tc_hostlist *list, size_t index)
{
    return list->users[index];
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

size_t tc_hostlist_find(const struct tc_hostlist *list, const char *host)
{
    return holds(list, host) ? *slot_of(list, host) - 1 : TC_NO_HOST;
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
    size_t capacity = list->capacity ? 2 * list->capacity : 64;
    char **hosts = realloc(list->hosts, capacity * sizeof *hosts);
    if (hosts)
        list->hosts = hosts;
    char **users = hosts ? realloc(list->users, capacity * sizeof *users) : NULL;
    if (users)
        list->users = users;
    uint32_t *slots = users ? calloc(2 * capacity, sizeof *slots) : NULL;
    if (!slots)
        return tc_fail(err, TC_E_NOMEM, "no memory for %zu hosts", capacity);
    free(list->slots);
    list->slots = slots;
    list->slot_count = 2 * capacity;
    list->capacity = capacity;
    fill_slots(list);
    return 0;
}

/* user: NULL or its name. */
static int insert(struct tc_hostlist *list, const char *host, const char *user, struct tc_err *err)
{
    if (holds(list, host))
        return 0;
    if (list->count == TC_HOSTS_MAX)
        return tc_fail(err, TC_E_USAGE, "more than %u hosts", TC_HOSTS_MAX);
    if (list->count == list->capacity) {
        int rc = grow(list, err);
        if (rc != 0)
            return rc;
    }
    char *copy = strdup(host), *name = user ? strdup(user) : NULL;
    if (!copy || (user && !name)) {
        free(copy);
        free(name);
        return tc_fail(err, TC_E_NOMEM, "no memory for host %s", host);
    }
    *slot_of(list, host) = (uint32_t)list->count + 1;
    list->users[list->count] = name;
    list->hosts[list->count++] = copy;
    return 0;
}

/* Forget what came after the first count hosts. */
static void roll_back(struct tc_hostlist *list, size_t count)
{
    if (list->count == count)
        return;
    while (list->count > count) {
        free(list->hosts[--list->count]);
        free(list->users[list->count]);
    }
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
    struct in_addr address;
    /* What getaddrinfo(3) would take as an address in a short or a decimal form: 4 is 0.0.0.4, 10.1 is 10.0.0.1. */
    if (name[strspn(name, "0123456789.")] == '\0' && inet_pton(AF_INET, name, &address) != 1)
        return tc_fail(err, TC_E_USAGE, "a number is no host: neither a name nor an IPv4 address");
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
    uint64_t first, last, step;
    int width;
};

static size_t digits(const char *text, const char *end, uint64_t *value)
{
    const char *c = text;
    for (*value = 0; c < end && isdigit((unsigned char)*c) && c - text <= (ptrdiff_t)DIGITS_MAX; c++)
        *value = *value * 10 + (uint64_t)(*c - '0');
    return (size_t)(c - text);
}

/* The range at *at (N, N-N or N-N/STEP), which moves behind it and the comma that follows. The first number gives the
 * width. */
static int next_range(const char **at, const char *end, struct range *range, struct tc_err *err)
{
    const char *first = *at, *comma = memchr(first, ',', (size_t)(end - first));
    const char *stop = comma ? comma : end, *last = first;
    size_t width = digits(first, stop, &range->first), last_width = width;
    const char *c = first + width;
    int size = (int)(stop - first < 40 ? stop - first : 40);
    range->last = range->first;
    range->step = 1;
    if (stop == first || (comma && comma + 1 == end))
        return tc_fail(err, TC_E_USAGE, "empty range");
    if (width > 0 && c < stop && *c == '-') {
        last = c + 1;
        last_width = digits(last, stop, &range->last);
        c = last + last_width;
        if (last_width > 0 && c < stop && *c == '/')
            c += 1 + digits(c + 1, stop, &range->step);
    }
    if (width == 0 || last_width == 0 || c != stop || c[-1] == '/')
        return tc_fail(err, TC_E_USAGE, "range '%.*s' is not N, N-N or N-N/STEP", size, first);
    if (range->step == 0)
        return tc_fail(err, TC_E_USAGE, "range '%.*s' has a step of 0", size, first);
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
        *count += (range.last - range.first) / range.step + 1;
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

/* The host that stands in reader: [USER@]NAME[:PORT]. */
static int add_host(struct reader *reader, struct tc_err *err)
{
    char name[TC_HOST_TEXT_MAX], user[TC_HOST_TEXT_MAX];
    const char *at = strchr(reader->host, '@'), *host = at ? at + 1 : reader->host;
    uint16_t port;
    size_t size = at ? (size_t)(at - reader->host) : 0;
    memcpy(user, reader->host, size);
    user[size] = '\0';
    /* It becomes a word of ssh's: no option, nothing that a shell would read otherwise. */
    if (at && (size == 0 || user[0] == '-' || user[strspn(user, NAME_BYTES "+")] != '\0'))
        return tc_fail(err, TC_E_USAGE, "before '@' stands no user's name");
    int rc = tc_host_split(host, name, sizeof name, &port, err);
    return rc == 0 ? insert(reader->list, host, at ? user : NULL, err) : rc;
}

/* Every host of the parts from index on, behind the length bytes that stand already. */
static int expand(struct reader *reader, size_t index, size_t length, struct tc_err *err)
{
    const size_t capacity = sizeof reader->host - length;
    const struct part *part = &reader->parts[index];
    int rc = 0;
    if (index == reader->count) {
        reader->host[length] = '\0';
        return add_host(reader, err);
    }
    if (!part->ranges) {
        if (part->size >= capacity)
            return tc_fail(err, TC_E_USAGE, "a host is longer than %u bytes", TC_HOST_TEXT_MAX - 1);
        memcpy(reader->host + length, part->text, part->size);
        return expand(reader, index + 1, length + part->size, err);
    }
    for (const char *at = part->text, *end = at + part->size; rc == 0 && at < end;) {
        struct range range;
        rc = next_range(&at, end, &range, err);
        for (uint64_t value = range.first; rc == 0 && value <= range.last; value += range.step) {
            int used = snprintf(reader->host + length, capacity, "%0*llu", range.width, (unsigned long long)value);
            if (used < 0 || (size_t)used >= capacity)
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

int tc_hostlist_add_bytes(struct tc_hostlist *list, const char *at, size_t size, struct tc_err *err)
{
    struct reader reader = {.list = list};
    size_t before = list->count;
    int rc = 0;
    for (const char *end = size ? at + size : at; rc == 0 && at < end; at++) {
        const char *word = at;
        at = word_end(word, end);
        if (at > word)
            rc = read_word(&reader, word, at, err);
    }
    if (rc != 0)
        roll_back(list, before);
    return rc;
}

int tc_hostlist_add(struct tc_hostlist *list, const char *text, struct tc_err *err)
{
    return tc_hostlist_add_bytes(list, text, strlen(text), err);
}

void tc_hostlist_cut(struct tc_hostlist *list, size_t count)
{
    roll_back(list, count);
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
        if (excluded(out, list->hosts[i])) {
            free(list->hosts[i]);
            free(list->users[i]);
            continue;
        }
        list->users[kept] = list->users[i];
        list->hosts[kept++] = list->hosts[i];
    }
    if (rc == 0) {
        list->count = kept;
        fill_slots(list);
    }
    tc_hostlist_free(out);
    return rc;
}
