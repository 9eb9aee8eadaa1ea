#include "site/resource.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plan/hostfile.h"
#include "site/program.h"

enum {
    TEXT_MAX = 4 << 20, /* bytes of a file or an answer; far beyond any list of hosts */
    PATIENCE = 10,      /* seconds for a batch system's program */
    PARTS_MAX = 128     /* components of one job */
};

const char *tc_site_name(enum tc_site_system system)
{
    static const char *const names[] = {"none", "flux", "slurm", "pbs", "lsf", "sge", "oar", "cobalt", "mpi", "wcoll"};
    return (unsigned)system < sizeof names / sizeof names[0] ? names[system] : "unknown";
}

bool tc_site_is_batch(enum tc_site_system system)
{
    return system >= TC_SITE_FLUX && system <= TC_SITE_COBALT;
}

/* The real world. */

static const char *real_variable(void *arg, const char *name)
{
    (void)arg;
    return getenv(name);
}

static int real_file(void *arg, const char *path, char *out, size_t size, struct tc_err *err)
{
    (void)arg;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return tc_fail(err, TC_E_USAGE, "%s: %s", path, strerror(errno));
    size_t used = 0;
    ssize_t got;
    while ((got = read(fd, out + used, size - used)) != 0 && used < size) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            break;
        used += (size_t)got;
    }
    int number = errno;
    close(fd);
    if (got < 0)
        return tc_fail(err, TC_E_USAGE, "%s: %s", path, strerror(number));
    if (used == size)
        return tc_fail(err, TC_E_LIMIT, "%s: too long for a list of hosts", path);
    out[used] = '\0';
    return 0;
}

static int real_command(void *arg, const char *const *argv, char *out, size_t size, struct tc_err *err)
{
    (void)arg;
    return tc_program_ask(argv, PATIENCE, out, size, err);
}

const struct tc_site_world tc_site_world = {.variable = real_variable, .file = real_file, .command = real_command};

/* One search. */

struct search {
    const struct tc_site_world *world;
    struct tc_hostlist *list;
    struct tc_resource *found;
    char *text; /* TEXT_MAX bytes */
};

static const char *variable(const struct search *search, const char *name)
{
    const char *value = search->world->variable(search->world->arg, name);
    return value && *value ? value : NULL;
}

/* The next word of at, cut out of it; NULL at the end. */
static char *next_word(char **at)
{
    char *word = *at + strspn(*at, " \t\r\n");
    if (!*word)
        return NULL;
    *at = word + strcspn(word, " \t\r\n");
    if (**at)
        *(*at)++ = '\0';
    return word;
}

/* The next line without its comment; NULL at the end. */
static char *next_line(char **at)
{
    char *line = *at;
    if (!*line)
        return NULL;
    *at = line + strcspn(line, "\n");
    if (**at)
        *(*at)++ = '\0';
    line[strcspn(line, "#\r")] = '\0';
    return line;
}

static int read_text(struct search *search, const char *path, struct tc_err *err)
{
    return search->world->file(search->world->arg, path, search->text, TEXT_MAX, err);
}

/* Slurm's own way of writing lists is ours, but for "node7*4", which repeats a host where tasks are laid out by hand. */
static int add_slurm(struct search *search, const char *value, struct tc_err *err)
{
    char *copy = strdup(value);
    if (!copy)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    char *to = copy;
    for (const char *from = copy; *from;)
        if (*from == '*')
            from += 1 + strspn(from + 1, "0123456789");
        else
            *to++ = *from++;
    *to = '\0';
    int result = tc_hostlist_add(search->list, copy, err);
    free(copy);
    return result;
}

/* How a heterogeneous job names its components; until 19.05 Slurm called it a pack. */
static const struct {
    const char *count, *list;
} slurm_parts[] = {
    {"SLURM_HET_SIZE", "SLURM_JOB_NODELIST_HET_GROUP_"},
    {"SLURM_PACK_SIZE", "SLURM_JOB_NODELIST_PACK_GROUP_"},
};

static int from_slurm(struct search *search, const char *value, struct tc_err *err)
{
    const size_t kind = !variable(search, slurm_parts[0].count) && variable(search, slurm_parts[1].count);
    const char *parts = variable(search, slurm_parts[kind].count);
    unsigned long count = parts ? strtoul(parts, NULL, 10) : 0;
    int result = 0;
    search->found->parts = count > 1;
    if (count < 2)
        return add_slurm(search, value, err);
    for (unsigned long i = 0; i < count && i < PARTS_MAX && result == 0; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%lu", slurm_parts[kind].list, i);
        value = variable(search, name);
        result = value ? add_slurm(search, value, err)
                       : tc_fail(err, TC_E_USAGE, "%s is %lu and %s is not set", slurm_parts[kind].count, count, name);
    }
    return result;
}

static int from_flux(struct search *search, const char *value, struct tc_err *err)
{
    const char *job = variable(search, "FLUX_JOB_ID");
    const char *const of_job[] = {"flux", "jobs", "--no-header", "--format={nodelist}", job, NULL};
    static const char *const of_instance[] = {"flux", "getattr", "hostlist", NULL};
    (void)value;
    int result = search->world->command(search->world->arg, job ? of_job : of_instance, search->text, TEXT_MAX, err);
    return result < 0 ? result : tc_hostlist_add(search->list, search->text, err);
}

/* Every word is a host: PBS_NODEFILE, LSB_DJOB_HOSTFILE, LSB_HOSTS. */
static int add_words(struct search *search, char *at, struct tc_err *err)
{
    int result = 0;
    for (char *word; result == 0 && (word = next_word(&at));)
        result = tc_hostlist_add(search->list, word, err);
    return result;
}

static int from_lines(struct search *search, const char *path, struct tc_err *err)
{
    int result = read_text(search, path, err);
    return result < 0 ? result : add_words(search, search->text, err);
}

static int from_words(struct search *search, const char *value, struct tc_err *err)
{
    snprintf(search->text, TEXT_MAX, "%s", value);
    return add_words(search, search->text, err);
}

/* "hostA 16 hostB 8" */
static int from_pairs(struct search *search, const char *value, struct tc_err *err)
{
    snprintf(search->text, TEXT_MAX, "%s", value);
    char *at = search->text;
    int result = 0;
    for (char *host; result == 0 && (host = next_word(&at));) {
        const char *slots = next_word(&at);
        if (!slots || slots[strspn(slots, "0123456789")])
            return tc_fail(err, TC_E_USAGE, "after '%s' stands no number of slots", host);
        result = tc_hostlist_add(search->list, host, err);
    }
    return result;
}

/* A file that is included, or the one that a variable names, into memory of its own. */
static int read_file(void *arg, const char *path, char **bytes, size_t *size, struct tc_err *err)
{
    struct search *search = arg;
    int result = read_text(search, path, err);
    if (result < 0)
        return result;
    *bytes = strdup(search->text);
    *size = strlen(search->text);
    return *bytes ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
}

static int from_file(struct search *search, const char *path, enum tc_hostfile_form form, struct tc_err *err)
{
    const struct tc_hostfile_source source = {.form = form, .read = read_file, .arg = search};
    char *bytes = NULL;
    size_t size = 0;
    int result = read_file(search, path, &bytes, &size, err);
    if (result == 0)
        result = tc_hostfile_add(search->list, bytes, size, path, &source, err);
    free(bytes);
    return result;
}

static int from_slots(struct search *search, const char *path, struct tc_err *err)
{
    return from_file(search, path, TC_HOSTFILE_SLOTS, err);
}

static int from_host_file(struct search *search, const char *path, struct tc_err *err)
{
    return from_file(search, path, TC_HOSTFILE_LISTS, err);
}

static const struct source {
    enum tc_site_system system;
    const char *variable;
    int (*read)(struct search *search, const char *value, struct tc_err *err);
} sources[] = {
    {TC_SITE_FLUX, "FLUX_URI", from_flux},
    {TC_SITE_SLURM, "SLURM_JOB_NODELIST", from_slurm},
    {TC_SITE_SLURM, "SLURM_NODELIST", from_slurm},
    {TC_SITE_PBS, "PBS_NODEFILE", from_lines},
    {TC_SITE_LSF, "LSB_DJOB_HOSTFILE", from_lines},
    {TC_SITE_LSF, "LSB_MCPU_HOSTS", from_pairs},
    {TC_SITE_LSF, "LSB_HOSTS", from_words},
    {TC_SITE_SGE, "PE_HOSTFILE", from_slots},
    {TC_SITE_OAR, "OAR_NODEFILE", from_lines},
    {TC_SITE_COBALT, "COBALT_NODEFILE", from_lines},
    {TC_SITE_MPI, "I_MPI_HYDRA_HOST_FILE", from_slots},
    {TC_SITE_MPI, "HYDRA_HOST_FILE", from_slots},
    {TC_SITE_MPI, "OMPI_MCA_orte_default_hostfile", from_slots},
    {TC_SITE_MPI, "PRTE_MCA_prte_default_hostfile", from_slots},
    {TC_SITE_WCOLL, "WCOLL", from_host_file},
};

static int read_source(struct search *search, const struct source *source, const char *value, struct tc_err *err)
{
    size_t before = tc_hostlist_count(search->list);
    search->found->system = source->system;
    search->found->source = source->variable;
    search->text = malloc(TEXT_MAX);
    if (!search->text)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    int result = source->read(search, value, err);
    free(search->text);
    if (result == 0 && tc_hostlist_count(search->list) == before)
        result = tc_fail(err, TC_E_USAGE, "names no host");
    return result < 0 ? tc_err_prefix(err, "%s", source->variable) : 0;
}

int tc_resource_find(struct tc_hostlist *list, struct tc_resource *found, const struct tc_site_world *world,
                     struct tc_err *err)
{
    struct search search = {.world = world, .list = list, .found = found};
    *found = (struct tc_resource){.system = TC_SITE_NONE};
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        const char *value = variable(&search, sources[i].variable);
        if (value)
            return read_source(&search, &sources[i], value, err);
    }
    return 0;
}

/* scontrol show node --oneliner: words "Name=value", a line a node. */

static void take_word(struct tc_slurm_node *node, const char *word)
{
    static const char *const names[] = {"NodeName=", "NodeAddr=", "BcastAddr="};
    char *const places[] = {node->name, node->address, node->bcast};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(word, names[i], strlen(names[i])) == 0)
            snprintf(places[i], TC_HOST_TEXT_MAX, "%s", word + strlen(names[i]));
}

static int take_nodes(struct tc_slurm_node **found, size_t *count, char *at, struct tc_err *err)
{
    for (char *line; (line = next_line(&at));) {
        struct tc_slurm_node node = {.name = ""};
        for (char *word; (word = next_word(&line));)
            take_word(&node, word);
        if (!node.name[0])
            continue;
        if (strcmp(node.address, node.name) == 0)
            node.address[0] = '\0';
        struct tc_slurm_node *more = realloc(*found, (*count + 1) * sizeof node);
        if (!more)
            return tc_fail(err, TC_E_NOMEM, "out of memory");
        *found = more;
        more[(*count)++] = node;
    }
    return 0;
}

int tc_slurm_nodes(const char *nodes, struct tc_slurm_node **found, size_t *count, const struct tc_site_world *world,
                   struct tc_err *err)
{
    const char *const argv[] = {"scontrol", "show", "node", nodes, "--oneliner", NULL};
    char *text = malloc(TEXT_MAX);
    *found = NULL;
    *count = 0;
    if (!text)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    int result = world->command(world->arg, argv, text, TEXT_MAX, err);
    if (result == 0)
        result = take_nodes(found, count, text, err);
    free(text);
    if (result < 0) {
        free(*found);
        *found = NULL;
    }
    return result;
}

int tc_slurm_topology(char *out, size_t size, const struct tc_site_world *world, struct tc_err *err)
{
    static const char *const argv[] = {"scontrol", "show", "topology", NULL};
    int result = world->command(world->arg, argv, out, size, err);
    if (result == 0 && !strchr(out, '=')) /* "No topology information available" */
        result = tc_fail(err, TC_E_NOTFOUND, "Slurm has no topology plug-in");
    return result;
}
