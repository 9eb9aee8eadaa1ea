#include "cli/launch_options.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "site/program.h"

enum {
    FAN = 16,         /* of the ssh tree */
    AT_ONCE = 32,     /* launches of which each reaches one host */
    LINE_MOST = 4096, /* of what ssh -G prints */
    WAYS_TRIED = 8    /* hosts that are looked up to find the way to them */
};

static int keep(char **to, const char *text, struct tc_err *err)
{
    free(*to);
    *to = strdup(text);
    return *to ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
}

/* Which launcher. */

static int use(struct tc_launch_plan *plan, enum tc_launcher launcher, const char *command, struct tc_err *err)
{
    plan->wanted = true;
    plan->request.launcher = launcher;
    return command ? keep(&plan->request.command, command, err) : 0;
}

/* Each system's own way to a host of the job, where it carries standard input; else ssh. */
static int use_own(struct tc_launch_plan *plan, const struct tc_resource *found, bool excluding, struct tc_err *err)
{
    bool slurm = found->system == TC_SITE_SLURM || (found->system == TC_SITE_NONE && getenv("SLURM_JOB_ID"));
    if (slurm && !found->parts)
        return use(plan, TC_LAUNCH_ALL, NULL, err);
    if (found->system == TC_SITE_LSF)
        return use(plan, TC_LAUNCH_EACH, "blaunch %h", err);
    if (found->system == TC_SITE_SGE)
        return use(plan, TC_LAUNCH_EACH, "qrsh -inherit %h", err);
    if (found->system == TC_SITE_FLUX && !getenv("FLUX_JOB_ID") && !excluding) /* its ranks are the list's places */
        return use(plan, TC_LAUNCH_EACH, "flux exec --rank=%i", err);
    return use(plan, TC_LAUNCH_SSH, NULL, err);
}

int tc_launch_options_decide(struct tc_launch_plan *plan, const struct tc_launch_options *options,
                             const struct tc_resource *found, bool keyed, bool excluding, struct tc_err *err)
{
    const char *how = options->launch;
    int result = 0;
    plan->system = found->system;
    if (!how)
        how = tc_site_is_batch(found->system) && !keyed ? "auto" : "none";
    if (strcmp(how, "auto") == 0)
        result = use_own(plan, found, excluding, err);
    else if (strcmp(how, "srun") == 0)
        result = use(plan, TC_LAUNCH_ALL, NULL, err);
    else if (strcmp(how, "ssh") == 0)
        result = use(plan, TC_LAUNCH_SSH, NULL, err);
    else if (strncmp(how, "exec:", 5) == 0 && how[5])
        result = use(plan, TC_LAUNCH_EACH, how + 5, err);
    else if (strcmp(how, "none") != 0)
        result = tc_fail(err, TC_E_USAGE, "--launch: '%s' is none of auto, none, srun, ssh and exec:COMMAND", how);
    if (result == 0 && options->stay && !(plan->wanted && keyed))
        result =
            tc_fail(err, TC_E_USAGE,
                    "--stay: agents that stay must be launched, and with a key file, or nobody could speak to them");
    return result;
}

/* What it is told. */

/* A step beside the job's own: it shares what they have and takes nothing, one agent a node whatever the job asked for;
 * a node or an agent that dies does not take the others along. Variables that would ask for more are kept from it. */
static int srun_command(struct tc_launch_plan *plan, const struct tc_hostlist *hosts, struct tc_err *err)
{
    static const char format[] =
        "env -u SLURM_CPUS_PER_TASK -u SLURM_CPUS_PER_GPU -u SLURM_TRES_PER_TASK -u SLURM_NTASKS_PER_NODE"
        " -u SLURM_NTASKS_PER_CORE -u SLURM_NTASKS_PER_SOCKET -u SLURM_NTASKS_PER_GPU -u SLURM_MEM_PER_CPU"
        " -u SLURM_MEM_PER_GPU -u SLURM_MEM_PER_NODE -u SLURM_GPUS -u SLURM_GPUS_PER_NODE -u SLURM_GPUS_PER_TASK"
        " -u SLURM_GRES -u SLURM_HINT -u SLURM_DISTRIBUTION -u SLURM_HOSTFILE -u SLURM_EXACT -u SLURM_EXCLUSIVE"
        " -u SLURM_THREADS_PER_CORE -u SLURM_CORE_SPEC -u SLURM_EXPORT_ENV"
        " srun --overlap --nodes=%zu --ntasks=%zu --ntasks-per-node=1 --nodelist=%s --cpu-bind=none --mem=0 --gres=none"
        " --mpi=none --input=all --unbuffered --kill-on-bad-exit=0 --no-kill --wait=0 --quiet --job-name=treecast";
    size_t count = tc_hostlist_count(hosts);
    char *list = tc_hostlist_fold(hosts, err), *command = NULL;
    if (!list || asprintf(&command, format, count, count, list) < 0)
        command = NULL;
    free(list);
    free(plan->request.command);
    plan->request.command = command;
    return command ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
}

static const char *ssh_of(const struct tc_launch_options *options)
{
    return options->ssh ? options->ssh : "ssh";
}

/* Banners are no reasons: with ERROR ssh prints what went wrong alone. */
static int ssh_command(struct tc_launch_plan *plan, const struct tc_launch_options *options, struct tc_err *err)
{
    free(plan->request.command);
    int size = asprintf(&plan->request.command, "%s -o BatchMode=yes -o LogLevel=ERROR -o ConnectTimeout=%u",
                        ssh_of(options), plan->request.patience);
    if (size < 0)
        plan->request.command = NULL;
    return size < 0 ? tc_fail(err, TC_E_NOMEM, "out of memory") : 0;
}

static int fill_command(struct tc_launch_plan *plan, const struct tc_launch_options *options,
                        const struct tc_hostlist *hosts, double seconds, struct tc_err *err)
{
    struct tc_launch_request *request = &plan->request;
    double login =
        seconds / 4 < 2 ? 2 : seconds / 4; /* so one that hangs leaves time for others, and for a second try */
    unsigned fan = (unsigned)options->fanout;
    request->patience = (unsigned)(request->launcher == TC_LAUNCH_SSH ? login : seconds);
    request->within = (unsigned)seconds;
    request->flat = fan == 1;
    request->fan = fan > 1 ? fan : request->launcher == TC_LAUNCH_SSH && !request->flat ? FAN : AT_ONCE;
    if (request->launcher == TC_LAUNCH_ALL)
        return srun_command(plan, hosts, err);
    if (request->launcher == TC_LAUNCH_SSH)
        return ssh_command(plan, options, err);
    struct tc_launch_request_host host = {.name = (char[]){"h"}};
    char *tried = tc_launch_request_fill(request->command, &host, err);
    free(tried);
    return tried ? 0 : tc_err_prefix(err, "--launch exec:");
}

static int fill_program(struct tc_launch_request *request, const char *program, struct tc_err *err)
{
    char path[PATH_MAX];
    ssize_t size = program ? 0 : readlink("/proc/self/exe", path, sizeof path - 1);
    if (size < 0)
        return tc_fail(err, TC_E_FAILED, "cannot tell where this program is: give --agent-program PATH");
    path[size] = '\0';
    return keep(&request->program, program ? program : path, err);
}

static int add_option(struct tc_launch_request *request, const char *text, struct tc_err *err)
{
    char **more = realloc(request->options, (request->option_count + 1) * sizeof *more);
    if (!more || !(more[request->option_count] = strdup(text))) {
        request->options = more ? more : request->options;
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    }
    request->options = more;
    request->option_count++;
    return 0;
}

static int fill_stay(struct tc_launch_request *request, uint16_t port, struct tc_err *err)
{
    char text[64];
    snprintf(text, sizeof text, "--listen=0.0.0.0:%u", port);
    int result = add_option(request, "--stay", err);
    return result < 0 ? result : add_option(request, text, err);
}

static int fill_hosts(struct tc_launch_request *request, const struct tc_hostlist *hosts, struct tc_err *err)
{
    size_t count = tc_hostlist_count(hosts);
    request->hosts = calloc(count + 1, sizeof *request->hosts);
    for (size_t i = 0; request->hosts && i < count; i++) {
        request->hosts[i].number = (unsigned)i;
        const char *user = tc_hostlist_user(hosts, i);
        request->hosts[i].name = strdup(tc_hostlist_at(hosts, i));
        request->hosts[i].user = user ? strdup(user) : NULL;
        request->host_count++;
        if (!request->hosts[i].name || (user && !request->hosts[i].user))
            return tc_fail(err, TC_E_NOMEM, "out of memory");
    }
    return request->hosts ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
}

/* The network that Slurm has sbcast use, where this host is a node with one. */
static bool slurm_address(char out[TC_ADDRESS_HOST])
{
    char own[TC_ADDRESS_HOST];
    struct tc_slurm_node *nodes = NULL;
    size_t count = 0;
    const char *name = getenv("SLURMD_NODENAME");
    if (!name && gethostname(own, sizeof own) == 0) {
        own[sizeof own - 1] = '\0';
        own[strcspn(own, ".")] = '\0';
        name = own;
    }
    bool found = name && tc_slurm_nodes(name, &nodes, &count, &tc_site_world, NULL) == 0 && count == 1 &&
                 nodes[0].bcast[0] && tc_address_towards(nodes[0].bcast, out, NULL) == 0;
    free(nodes);
    return found;
}

/* What ssh calls a host that only its configuration knows: `ssh -G ALIAS` prints the settings and connects to nobody. */
static bool ssh_name(const struct tc_launch_options *options, const char *alias, char *out, size_t size)
{
    char *script, text[LINE_MOST * 4], *rest = NULL;
    if (asprintf(&script, "%s -G \"$1\"", ssh_of(options)) < 0)
        return false;
    const char *const argv[] = {"/bin/sh", "-c", script, "treecast-launch", alias, NULL};
    bool found = false;
    if (tc_program_ask(argv, 5, text, sizeof text, NULL) == 0)
        for (char *line = strtok_r(text, "\n", &rest); line && !found; line = strtok_r(NULL, "\n", &rest))
            if (strncmp(line, "hostname ", 9) == 0 && strcmp(line + 9, alias) != 0)
                found = snprintf(out, size, "%s", line + 9) > 0;
    free(script);
    return found;
}

/* The address that the way to a host begins at. */
static bool way_to(const struct tc_launch_plan *plan, const struct tc_launch_options *options, const char *host,
                   char out[TC_ADDRESS_HOST])
{
    char name[TC_ADDRESS_HOST];
    if (tc_address_towards(host, out, NULL) == 0)
        return true;
    return plan->request.launcher == TC_LAUNCH_SSH && ssh_name(options, host, name, sizeof name) &&
           tc_address_towards(name, out, NULL) == 0;
}

/* Where agents dial this process: the address that the way to the hosts begins at. With all of them here, that of the
 * loopback. */
static int choose_address(struct tc_launch_plan *plan, const struct tc_launch_options *options,
                          const struct tc_hostlist *hosts, struct tc_err *err)
{
    char address[TC_ADDRESS_HOST] = "127.0.0.1", tried[TC_ADDRESS_HOST];
    if (options->interface) {
        int result = tc_address_of_interface(options->interface, address, err);
        return result < 0 ? tc_err_prefix(err, "--interface")
                          : tc_address_join(plan->listen, sizeof plan->listen, address, 0, err);
    }
    size_t count = tc_hostlist_count(hosts), most = count < WAYS_TRIED ? count : WAYS_TRIED, known = 0;
    bool away = plan->system == TC_SITE_SLURM && slurm_address(address);
    for (size_t i = 0; i < most && !away; i++) {
        if (!way_to(plan, options, tc_hostlist_at(hosts, i), tried))
            continue;
        known++;
        away = !tc_address_is_loopback(tried);
        if (away)
            strcpy(address, tried);
    }
    if (!away && known == 0 && count > 0 && plan->request.launcher == TC_LAUNCH_SSH)
        return tc_fail(err, TC_E_USAGE,
                       "%s: no address is known for it here, so neither is the way that its agent can take back: say "
                       "--interface IF",
                       tc_hostlist_at(hosts, 0));
    return tc_address_join(plan->listen, sizeof plan->listen, address, 0, err);
}

int tc_launch_options_fill(struct tc_launch_plan *plan, const struct tc_launch_options *options,
                           const struct tc_hostlist *hosts, const struct tc_key *key, double seconds, uint16_t port,
                           uint64_t rate, struct tc_err *err)
{
    struct tc_launch_request *request = &plan->request;
    char text[TC_KEY_TEXT];
    const char *dir = options->dir ? options->dir : getenv("TREECAST_DIR");
    tc_key_text(key, text);
    int result = keep(&request->key, text, err);
    explicit_bzero(text, sizeof text);
    if (result == 0)
        result = fill_hosts(request, hosts, err);
    if (result == 0)
        result = fill_command(plan, options, hosts, seconds, err);
    if (result == 0)
        result = fill_program(request, options->program, err);
    if (result == 0 && dir && *dir)
        result = keep(&request->dir, dir, err);
    if (result == 0 && options->stay)
        result = fill_stay(request, port, err);
    snprintf(text, sizeof text, "--bwlimit=%" PRIu64, rate);
    if (result == 0 && rate)
        result = add_option(request, text, err);
    return result == 0 ? choose_address(plan, options, hosts, err) : result;
}

void tc_launch_plan_end(struct tc_launch_plan *plan)
{
    tc_launch_request_free(&plan->request);
}
