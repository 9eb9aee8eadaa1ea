#include "cli/topology_options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "plan/switches.h"
#include "site/resource.h"

enum { TEXT_MAX = 16 << 20 }; /* bytes; far beyond any network */

/* A file that cannot be read is the user's mistake, whatever errno says. */
static int read_file(const char *path, char *text, size_t *size, struct tc_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = 0;
    *size = 0;
    if (fd < 0)
        return tc_fail(err, TC_E_USAGE, "--topology: %s: %s", path, strerror(errno));
    do {
        got = read(fd, text + *size, TEXT_MAX - *size);
        *size += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && *size < TEXT_MAX) || (got < 0 && errno == EINTR));
    int result = 0;
    if (got < 0)
        result = tc_fail(err, TC_E_USAGE, "--topology: %s: %s", path, strerror(errno));
    else if (*size == TEXT_MAX)
        result = tc_fail(err, TC_E_USAGE, "--topology: %s: more than %d MiB", path, TEXT_MAX >> 20);
    close(fd);
    return result;
}

/* How Slurm calls this host, else how it calls itself. */
static const char *own_name(char *out, size_t size)
{
    const char *node = getenv("SLURMD_NODENAME");
    if (node && *node)
        return node;
    if (gethostname(out, size) < 0)
        return NULL;
    out[size - 1] = '\0';
    return out;
}

/* Hosts that are on no switch, in a group of their own, and told; nothing is known where that is all of them. */
static int group_unknown(struct tc_topology **topology, const struct tc_hostlist *unknown, const char *what,
                         struct tc_err *err)
{
    uint32_t count = tc_topology_members(*topology), left = (uint32_t)tc_hostlist_count(unknown);
    if (left == 0)
        return 0;
    if (left + 1 == count) {
        tc_log(TC_LOG_WARN, "%s names none of the hosts: the plan goes by the order of the list", what);
        tc_topology_free(*topology);
        *topology = NULL;
        return 0;
    }
    uint32_t group = tc_topology_add(*topology, TC_GROUP_ALL, "unknown", err);
    char *folded = tc_hostlist_fold(unknown, err);
    if (group == TC_NO_GROUP || !folded) {
        free(folded);
        return -err->reason;
    }
    for (uint32_t i = 1; i < count; i++)
        if (tc_topology_group_of(*topology, i) == TC_GROUP_ALL)
            tc_topology_put(*topology, i, group);
    tc_log(TC_LOG_WARN, "%s names no switch for %s: taken as a group of their own", what, folded);
    free(folded);
    return 0;
}

static int place_hosts(const char *text, size_t size, const char *what, const char *const *hosts, size_t count,
                       struct tc_topology **topology, struct tc_err *err)
{
    char own[256];
    const char **members = calloc(count + 1, sizeof *members);
    struct tc_hostlist *unknown = tc_hostlist_new(err);
    int result = members && unknown ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
    if (result == 0) {
        members[0] = own_name(own, sizeof own);
        memcpy(members + 1, hosts, count * sizeof *members);
        *topology = tc_switches_read(text, size, what, members, (uint32_t)count + 1, unknown, err);
        result = *topology ? group_unknown(topology, unknown, what, err) : -err->reason;
    }
    tc_hostlist_free(unknown);
    free(members);
    return result;
}

/* What Slurm says is help that nobody has asked for: where it says nothing that can be used, there is none. */
static int ask_slurm(char *text, const char *const *hosts, size_t count, struct tc_topology **topology)
{
    static const char what[] = "scontrol show topology";
    struct tc_err why = {0};
    if (!getenv("SLURM_JOB_ID"))
        return 0;
    int result = tc_slurm_topology(text, TEXT_MAX, &tc_site_world, &why);
    if (result == 0)
        result = place_hosts(text, strlen(text), what, hosts, count, topology, &why);
    if (result < 0) {
        tc_topology_free(*topology);
        *topology = NULL;
        tc_log(TC_LOG_INFO, "switches are not known: %s", why.text);
    }
    return 0;
}

int tc_topology_options_find(const char *option, const char *const *hosts, size_t count, struct tc_topology **topology,
                             struct tc_err *err)
{
    size_t size;
    *topology = NULL;
    if (strcmp(option, "none") == 0)
        return 0;
    char *text = malloc(TEXT_MAX);
    int result = text ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
    if (result == 0 && strcmp(option, "auto") == 0) {
        result = ask_slurm(text, hosts, count, topology);
    } else if (result == 0) {
        result = read_file(option, text, &size, err);
        if (result == 0)
            result = place_hosts(text, size, option, hosts, count, topology, err);
    }
    if (result < 0) {
        tc_topology_free(*topology);
        *topology = NULL;
    }
    free(text);
    return result;
}
