#include "file/memory.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What differs between the two versions of cgroups. Cached files and slabs go before the kernel kills; pages of tmpfs
 * stay, and count as anonymous memory there. Swap is not counted: an array in it would be none in memory. */
struct version {
    const char *type, *limit, *usage;
    const char *reclaimable[3];
};

static const struct version versions[] = {{.type = "cgroup",
                                           .limit = "memory.limit_in_bytes",
                                           .usage = "memory.usage_in_bytes",
                                           .reclaimable = {"total_inactive_file", "total_active_file"}},
                                          {.type = "cgroup2",
                                           .limit = "memory.max",
                                           .usage = "memory.current",
                                           .reclaimable = {"inactive_file", "active_file", "slab_reclaimable"}}};

enum { V1, V2, VERSIONS };

struct tc_memory {
    char *own[VERSIONS];  /* directory of the cgroup in each hierarchy; NULL: in none */
    size_t top[VERSIONS]; /* length of the part of it that is the hierarchy's mount point */
};

/* word is one of those that commas part. */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

/* Blanks and such are in octal there. */
static void unescape(char *text)
{
    char *out = text;
    for (const char *at = text; *at; out++) {
        unsigned code;
        if (at[0] == '\\' && sscanf(at + 1, "%3o", &code) == 1 && code > 0) {
            *out = (char)code;
            at += 4;
        } else {
            *out = *at++;
        }
    }
    *out = '\0';
}

/* The next line without its end; false after the last. */
static bool next_line(FILE *file, char **line, size_t *size)
{
    ssize_t length = getline(line, size, file);
    if (length > 0 && (*line)[length - 1] == '\n')
        (*line)[length - 1] = '\0';
    return length >= 0;
}

static FILE *open_file(const char *directory, const char *name)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    return length < 0 || (size_t)length >= sizeof path ? NULL : fopen(path, "re");
}

/* The paths of this process's cgroups within their hierarchies, to be freed. */
static void read_paths(const char *root, char *paths[VERSIONS])
{
    FILE *file = open_file(root, "proc/self/cgroup");
    char *line = NULL;
    size_t size = 0;
    while (file && next_line(file, &line, &size)) {
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(++controllers, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        int version = has_word(controllers, "memory") ? V1 : *controllers == '\0' ? V2 : VERSIONS;
        if (version < VERSIONS && !paths[version])
            paths[version] = strdup(path);
    }
    free(line);
    if (file)
        fclose(file);
}

/* What of path is to be seen where the part within of the hierarchy is mounted; NULL: nothing. */
static const char *beneath(const char *path, const char *within)
{
    size_t length = strcmp(within, "/") == 0 ? 0 : strlen(within);
    if (strncmp(path, within, length) != 0 || (path[length] != '/' && path[length] != '\0') || strstr(path, "/.."))
        return NULL;
    return strcmp(path + length, "/") == 0 ? "" : path + length;
}

/* Whether a line of mountinfo is of a memory hierarchy, and of which version. Its parts are cut in place. */
static int read_mount(char *line, char **within, char **place)
{
    char *rest = strstr(line, " - "), *type, *options, *at = NULL;
    if (!rest)
        return VERSIONS;
    *rest = '\0';
    type = strtok_r(rest + 3, " ", &at);
    strtok_r(NULL, " ", &at);
    options = strtok_r(NULL, " ", &at);
    at = NULL;
    strtok_r(line, " ", &at);
    strtok_r(NULL, " ", &at);
    strtok_r(NULL, " ", &at);
    *within = strtok_r(NULL, " ", &at);
    *place = strtok_r(NULL, " ", &at);
    if (!type || !*within || !*place)
        return VERSIONS;
    unescape(*within);
    unescape(*place);
    if (strcmp(type, versions[V2].type) == 0)
        return V2;
    return strcmp(type, versions[V1].type) == 0 && options && has_word(options, "memory") ? V1 : VERSIONS;
}

static void find(struct tc_memory *memory, const char *root, char *paths[VERSIONS])
{
    FILE *file = open_file(root, "proc/self/mountinfo");
    char *line = NULL, *within, *place;
    size_t size = 0;
    while (file && next_line(file, &line, &size)) {
        int version = read_mount(line, &within, &place);
        const char *rest = version < VERSIONS && paths[version] ? beneath(paths[version], within) : NULL;
        char *own;
        if (!rest || memory->own[version] || asprintf(&own, "%s%s%s", root, place, rest) < 0)
            continue;
        memory->own[version] = own;
        memory->top[version] = strlen(root) + strlen(place);
    }
    free(line);
    if (file)
        fclose(file);
}

struct tc_memory *tc_memory_open(const char *root)
{
    struct tc_memory *memory = calloc(1, sizeof *memory);
    char *paths[VERSIONS] = {NULL};
    if (!memory)
        return NULL;
    read_paths(root, paths);
    find(memory, root, paths);
    for (int i = 0; i < VERSIONS; i++)
        free(paths[i]);
    if (memory->own[V1] || memory->own[V2])
        return memory;
    tc_memory_close(memory);
    return NULL;
}

/* A file with one number; where there is none, no limit ("max"). */
static uint64_t number_in(const char *directory, const char *name)
{
    uint64_t number = UINT64_MAX;
    FILE *file = open_file(directory, name);
    if (file && fscanf(file, "%" SCNu64, &number) != 1)
        number = UINT64_MAX;
    if (file)
        fclose(file);
    return number;
}

static uint64_t reclaimable(const char *directory, const struct version *version)
{
    char name[64];
    uint64_t number, sum = 0;
    FILE *file = open_file(directory, "memory.stat");
    while (file && fscanf(file, "%63s %" SCNu64, name, &number) == 2)
        for (size_t i = 0; i < 3 && version->reclaimable[i]; i++)
            sum += strcmp(name, version->reclaimable[i]) == 0 ? number : 0;
    if (file)
        fclose(file);
    return sum;
}

static uint64_t space_in(const char *directory, const struct version *version, uint64_t enough)
{
    uint64_t limit = number_in(directory, version->limit), used = number_in(directory, version->usage);
    if (limit == UINT64_MAX || used == UINT64_MAX)
        return UINT64_MAX;
    if (used <= limit && limit - used >= enough)
        return limit - used;
    uint64_t cached = reclaimable(directory, version);
    used -= cached < used ? cached : used;
    return used < limit ? limit - used : 0;
}

/* The least of what directory and those above it have, up to the one whose path has length top. */
static uint64_t space_up_to(char *directory, size_t top, const struct version *version, uint64_t enough)
{
    uint64_t least = space_in(directory, version, enough);
    while (strlen(directory) > top) {
        *strrchr(directory, '/') = '\0';
        uint64_t space = space_in(directory, version, enough);
        least = space < least ? space : least;
    }
    return least;
}

uint64_t tc_memory_space(const struct tc_memory *memory, uint64_t enough)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; memory && i < VERSIONS; i++) {
        char *directory = memory->own[i] ? strdup(memory->own[i]) : NULL;
        uint64_t space = directory ? space_up_to(directory, memory->top[i], &versions[i], enough) : UINT64_MAX;
        least = space < least ? space : least;
        free(directory);
    }
    return least;
}

void tc_memory_close(struct tc_memory *memory)
{
    for (int i = 0; memory && i < VERSIONS; i++)
        free(memory->own[i]);
    free(memory);
}
