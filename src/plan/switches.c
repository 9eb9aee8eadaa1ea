#include "plan/switches.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"

struct entry { /* of a line */
    unsigned line;
    const char *name, *nodes, *below; /* of NUL-terminated words of the text; NULL: not said */
    uint32_t above;                   /* entry that names it among its switches; NO_ENTRY */
    uint32_t group;                   /* TC_NO_GROUP: none yet */
};

#define NO_ENTRY UINT32_MAX

struct reader {
    const char *what;
    char *text; /* a copy that is cut into words */
    struct entry *entries;
    uint32_t count, capacity;
    struct tc_hostlist *names; /* of the entries */
    uint32_t *entry_of_name;
    struct tc_hostlist *nodes; /* and of the nodes, as they are found */
    uint32_t *entry_of;        /* by node */
    size_t node_capacity;
};

__attribute__((format(printf, 4, 5))) static int refuse(const struct reader *reader, unsigned line, struct tc_err *err,
                                                        const char *format, ...)
{
    char said[TC_ERR_TEXT], shown[TC_ERR_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(said, sizeof said, format, arguments);
    va_end(arguments);
    return tc_fail(err, TC_E_USAGE, "%s:%u: %s", reader->what, line, tc_escape(shown, sizeof shown, said));
}

/* --- words ------------------------------------------------------------------------------------------------------- */

static bool is_key(const char *word, const char *key)
{
    return strcasecmp(word, key) == 0;
}

/* A value that scontrol prints for nothing. */
static bool is_nothing(const char *value)
{
    return *value == '\0' || strcmp(value, "(null)") == 0 || strcmp(value, "(none)") == 0;
}

static int take_word(const struct reader *reader, struct entry *entry, char *word, struct tc_err *err)
{
    static const char *const ignored[] = {"LinkSpeed", "Level", "BlockSize", "BlockSizes", "BlockLevels", "BlockIndex"};
    char *value = strchr(word, '=');
    const char **place = NULL;
    if (!value)
        return refuse(reader, entry->line, err, "'%.40s' is not KEY=VALUE", word);
    *value++ = '\0';
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        if (is_key(word, ignored[i]))
            return 0;
    if (is_key(word, "SwitchName") || is_key(word, "BlockName"))
        place = &entry->name;
    else if (is_key(word, "AggregatedBlock")) /* of several, and that is its name too */
        place = entry->name ? &entry->name : &entry->below;
    else if (is_key(word, "Nodes"))
        place = &entry->nodes;
    else if (is_key(word, "Switches"))
        place = &entry->below;
    else
        return refuse(reader, entry->line, err, "unknown key '%.40s': use SwitchName, BlockName, Nodes, Switches",
                      word);
    if (*place)
        return refuse(reader, entry->line, err, "%.40s is said twice", word);
    if (is_nothing(value))
        return 0;
    *place = value;
    if (is_key(word, "AggregatedBlock"))
        entry->name = value;
    return 0;
}

static int add_entry(struct reader *reader, const struct entry *entry, struct tc_err *err)
{
    if (!entry->name && !entry->nodes && !entry->below)
        return 0; /* BlockSizes=8,16 */
    if (!entry->name)
        return refuse(reader, entry->line, err, "neither SwitchName= nor BlockName= stands here");
    if (!entry->nodes && !entry->below)
        return refuse(reader, entry->line, err, "%.40s has neither Nodes= nor Switches=", entry->name);
    if (reader->count == reader->capacity) {
        uint32_t capacity = reader->capacity ? 2 * reader->capacity : 64;
        struct entry *entries = realloc(reader->entries, capacity * sizeof *entries);
        if (!entries)
            return tc_fail(err, TC_E_NOMEM, "no memory for %u switches", capacity);
        reader->entries = entries;
        reader->capacity = capacity;
    }
    reader->entries[reader->count++] = *entry;
    return 0;
}

/* A line's end, behind lines that '\' joins to it. */
static char *line_end(char *at, unsigned *lines)
{
    for (char *end = at;; end++) {
        end += strcspn(end, "\n");
        if (*end == '\0')
            return end;
        ++*lines;
        if (end == at || end[-1] != '\\')
            return end;
        end[-1] = end[0] = ' ';
    }
}

static int read_lines(struct reader *reader, struct tc_err *err)
{
    unsigned line = 1;
    int status = 0;
    for (char *at = reader->text; *at && status == 0;) {
        struct entry entry = {.line = line, .above = NO_ENTRY, .group = TC_NO_GROUP};
        char *end = line_end(at, &line), *next = *end ? end + 1 : end;
        *end = '\0';
        at[strcspn(at, "#")] = '\0';
        for (char *rest = at, *word; status == 0 && (word = strtok_r(rest, " \t\r\v\f", &rest)) != NULL;)
            status = take_word(reader, &entry, word, err);
        if (status == 0)
            status = add_entry(reader, &entry, err);
        at = next;
    }
    return status;
}

/* --- switches ---------------------------------------------------------------------------------------------------- */

/* The names of a list in text become names; what is wrong with it, with the line. */
static struct tc_hostlist *expand(const struct reader *reader, const struct entry *entry, const char *text,
                                  struct tc_err *err)
{
    struct tc_err why = {0};
    struct tc_hostlist *list = tc_hostlist_new(err);
    if (!list || tc_hostlist_add(list, text, &why) == 0)
        return list;
    tc_hostlist_free(list);
    if (why.reason == TC_E_NOMEM)
        tc_fail(err, why.reason, "%s", why.text);
    else
        refuse(reader, entry->line, err, "%s", why.text);
    return NULL;
}

static int add_name(const struct reader *reader, const struct entry *entry, struct tc_hostlist *list, const char *name,
                    struct tc_err *err)
{
    struct tc_err why = {0};
    if (tc_hostlist_add(list, name, &why) == 0)
        return 0;
    return why.reason == TC_E_NOMEM ? tc_fail(err, why.reason, "%s", why.text)
                                    : refuse(reader, entry->line, err, "%s", why.text);
}

/* An entry's name is one, and its own; that of several blocks together is their list. */
static int name_entry(struct reader *reader, uint32_t index, struct tc_err *err)
{
    const struct entry *entry = &reader->entries[index];
    struct tc_hostlist *own = expand(reader, entry, entry->name, err);
    if (!own)
        return -TC_E_USAGE;
    bool several = tc_hostlist_count(own) != 1;
    tc_hostlist_free(own);
    if (several && entry->name != entry->below)
        return refuse(reader, entry->line, err, "'%.40s' is not the name of one switch", entry->name);
    if (several)
        return 0;
    size_t found = tc_hostlist_find(reader->names, entry->name), next = tc_hostlist_count(reader->names);
    if (found != TC_NO_HOST)
        return refuse(reader, entry->line, err, "%.40s is named in line %u already", entry->name,
                      reader->entries[reader->entry_of_name[found]].line);
    reader->entry_of_name[next] = index;
    return add_name(reader, entry, reader->names, entry->name, err);
}

static int name_entries(struct reader *reader, struct tc_err *err)
{
    int status = 0;
    reader->entry_of_name = calloc((size_t)reader->count + 1, sizeof *reader->entry_of_name);
    if (!reader->entry_of_name)
        return tc_fail(err, TC_E_NOMEM, "no memory for %u switches", reader->count);
    for (uint32_t i = 0; i < reader->count && status == 0; i++)
        status = name_entry(reader, i, err);
    return status;
}

/* The switch called name hangs below entry index. */
static int hang(struct reader *reader, uint32_t index, const char *name, struct tc_err *err)
{
    size_t found = tc_hostlist_find(reader->names, name);
    unsigned line = reader->entries[index].line;
    if (found == TC_NO_HOST)
        return refuse(reader, line, err, "no line names the switch '%.40s'", name);
    struct entry *lower = &reader->entries[reader->entry_of_name[found]];
    if (lower->above != NO_ENTRY && lower->above != index)
        return refuse(reader, line, err, "%.40s is below %.40s already (line %u)", name,
                      reader->entries[lower->above].name, reader->entries[lower->above].line);
    lower->above = index;
    return 0;
}

static int hang_entries(struct reader *reader, struct tc_err *err)
{
    int status = 0;
    for (uint32_t i = 0; i < reader->count && status == 0; i++) {
        const struct entry *entry = &reader->entries[i];
        struct tc_hostlist *below = entry->below ? expand(reader, entry, entry->below, err) : NULL;
        if (entry->below && !below)
            return -TC_E_USAGE;
        for (size_t j = 0; below && j < tc_hostlist_count(below) && status == 0; j++)
            status = hang(reader, i, tc_hostlist_at(below, j), err);
        tc_hostlist_free(below);
    }
    return status;
}

/* The group of an entry, and of those above it first. */
static int make_group(struct reader *reader, struct tc_topology *topology, uint32_t index, struct tc_err *err)
{
    uint32_t way[TC_GROUP_DEPTH_MAX] = {0}, steps = 0;
    struct tc_err why = {0};
    for (uint32_t at = index; at != NO_ENTRY && reader->entries[at].group == TC_NO_GROUP;
         at = reader->entries[at].above) {
        if (steps == TC_GROUP_DEPTH_MAX)
            return refuse(reader, reader->entries[index].line, err,
                          "%.40s is below itself, or more than %u switches deep", reader->entries[index].name,
                          TC_GROUP_DEPTH_MAX);
        way[steps++] = at;
    }
    while (steps > 0) {
        struct entry *entry = &reader->entries[way[--steps]];
        uint32_t above = entry->above == NO_ENTRY ? TC_GROUP_ALL : reader->entries[entry->above].group;
        entry->group = tc_topology_add(topology, above, entry->name, &why);
        if (entry->group == TC_NO_GROUP)
            return refuse(reader, entry->line, err, "%s", why.text);
    }
    return 0;
}

/* --- hosts ------------------------------------------------------------------------------------------------------- */

static int take_node(struct reader *reader, uint32_t index, const char *node, bool again, struct tc_err *err)
{
    size_t found = tc_hostlist_find(reader->nodes, node);
    if (found != TC_NO_HOST && again)
        return 0;
    if (found != TC_NO_HOST && reader->entry_of[found] != index)
        return refuse(reader, reader->entries[index].line, err, "%.40s hangs on %.40s already (line %u)", node,
                      reader->entries[reader->entry_of[found]].name, reader->entries[reader->entry_of[found]].line);
    found = tc_hostlist_count(reader->nodes);
    if (found == reader->node_capacity) {
        size_t capacity = reader->node_capacity ? 2 * reader->node_capacity : 256;
        uint32_t *entry_of = realloc(reader->entry_of, capacity * sizeof *entry_of);
        if (!entry_of)
            return tc_fail(err, TC_E_NOMEM, "no memory for %zu hosts", capacity);
        reader->entry_of = entry_of;
        reader->node_capacity = capacity;
    }
    reader->entry_of[found] = index;
    return add_name(reader, &reader->entries[index], reader->nodes, node, err);
}

/* First what hangs on switches without others below; what they list as well is listed again above. */
static int take_nodes(struct reader *reader, bool of_switches, struct tc_err *err)
{
    int status = 0;
    for (uint32_t i = 0; i < reader->count && status == 0; i++) {
        const struct entry *entry = &reader->entries[i];
        if (!entry->nodes || (entry->below != NULL) != of_switches)
            continue;
        struct tc_hostlist *list = expand(reader, entry, entry->nodes, err);
        if (!list)
            return -TC_E_USAGE;
        for (size_t j = 0; j < tc_hostlist_count(list) && status == 0; j++)
            status = take_node(reader, i, tc_hostlist_at(list, j), of_switches, err);
        tc_hostlist_free(list);
    }
    return status;
}

static uint32_t group_of(const struct reader *reader, const char *member)
{
    char name[TC_HOST_TEXT_MAX];
    uint16_t port;
    size_t found = tc_hostlist_find(reader->nodes, member);
    if (found == TC_NO_HOST && tc_host_split(member, name, sizeof name, &port, NULL) == 0) {
        found = tc_hostlist_find(reader->nodes, name);
        char *dot = strchr(name, '.');
        if (found == TC_NO_HOST && dot && dot[strspn(dot, ".0123456789")] != '\0') {
            *dot = '\0';
            found = tc_hostlist_find(reader->nodes, name);
        }
    }
    return found == TC_NO_HOST || !reader->entry_of ? TC_NO_GROUP : reader->entries[reader->entry_of[found]].group;
}

static int place_members(struct reader *reader, struct tc_topology *topology, const char *const *members,
                         struct tc_hostlist *unknown, struct tc_err *err)
{
    for (uint32_t i = 0; i < tc_topology_members(topology); i++) {
        uint32_t group = members[i] ? group_of(reader, members[i]) : TC_GROUP_ALL;
        if (group != TC_NO_GROUP)
            tc_topology_put(topology, i, group);
        else if (i > 0 && tc_hostlist_add(unknown, members[i], err) < 0)
            return -TC_E_USAGE;
    }
    return 0;
}

static int read_all(struct reader *reader, struct tc_topology *topology, struct tc_err *err)
{
    int status = read_lines(reader, err);
    if (status == 0 && reader->count == 0)
        status = refuse(reader, 1, err, "names no switch and no block");
    if (status == 0)
        status = name_entries(reader, err);
    if (status == 0)
        status = hang_entries(reader, err);
    for (uint32_t i = 0; i < reader->count && status == 0; i++)
        status = make_group(reader, topology, i, err);
    if (status == 0)
        status = take_nodes(reader, false, err);
    return status == 0 ? take_nodes(reader, true, err) : status;
}

struct tc_topology *tc_switches_read(const char *bytes, size_t size, const char *what, const char *const *members,
                                     uint32_t count, struct tc_hostlist *unknown, struct tc_err *err)
{
    struct reader reader = {.what = what, .text = malloc(size + 1)};
    struct tc_topology *topology = tc_topology_new(count, err);
    reader.names = tc_hostlist_new(err);
    reader.nodes = tc_hostlist_new(err);
    int status = 0;
    if (!reader.text || !topology || !reader.names || !reader.nodes)
        status = tc_fail(err, TC_E_NOMEM, "no memory for %s", what);
    if (status == 0 && memchr(bytes, '\0', size))
        status = refuse(&reader, 1, err, "a zero byte is no text");
    if (status == 0) {
        memcpy(reader.text, bytes, size);
        reader.text[size] = '\0';
        status = read_all(&reader, topology, err);
    }
    if (status == 0)
        status = place_members(&reader, topology, members, unknown, err);
    if (status < 0) {
        tc_topology_free(topology);
        topology = NULL;
    }
    tc_hostlist_free(reader.names);
    tc_hostlist_free(reader.nodes);
    free(reader.entries);
    free(reader.entry_of_name);
    free(reader.entry_of);
    free(reader.text);
    return topology;
}
