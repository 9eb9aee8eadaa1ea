#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/host_options.h"
#include "cli/key_options.h"
#include "cli/launch_options.h"
#include "cli/outlet.h"
#include "cli/port_options.h"
#include "cli/report.h"
#include "cli/show.h"
#include "cli/topology_options.h"
#include "data/chunk.h"
#include "data/describe.h"
#include "net/listen.h"
#include "node/recv_node.h"
#include "node/send_node.h"
#include "session/limits.h"

struct send_values {
    struct tc_host_options hosts;
    const char *port;
    struct tc_key_options key;
    const char *origin_key;
    uint64_t chunk;
    const char *compress, *tree, *topology, *min_hosts, *dtype, *shape;
    const char *join_at;
    uint64_t bwlimit, min_rate;
    struct tc_launch_options launch;
    double deadline, ttl, join_time;
    uint64_t source_fd, head_fd; /* TC_NO_FD: not given */
    const char *source_range;
    unsigned local;
    bool link;
    bool force, dry_run, raw, json;
    unsigned quiet, verbose;
};

#define TC_NO_FD UINT64_MAX

struct job { /* everything a broadcast needs, in the order it is gathered */
    const struct send_values *values;
    struct tc_send_options send;
    struct tc_key key;
    struct tc_hostlist *listed;  /* as people wrote them */
    struct tc_resource found;    /* where the environment named them */
    struct tc_slurm_node *nodes; /* what Slurm says of them; may be none */
    size_t node_count;
    struct tc_topology *topology; /* of this host and those shown; NULL: nothing is known */
    struct tc_launch_plan launch;
    const char **shown;     /* of these, the ones that are not another one's double */
    const char **addresses; /* with their ports; owned, and each text in it */
    size_t count;
    struct tc_port_options ports; /* the first is this host's */
    struct tc_source_range range;
    char name[PATH_MAX];
};

/* "50%" of 7 hosts are 4. */
static int parse_min_hosts(const char *text, size_t hosts, size_t *out, struct tc_err *err)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    bool percent = strcmp(end, "%") == 0;
    if (*text < '0' || *text > '9' || (*end && !percent) || number == 0 || (percent && number > 100))
        return tc_fail(err, TC_E_USAGE, "--min-hosts: '%s' is neither a number of hosts nor 1%% .. 100%%", text);
    if (!percent && number > hosts)
        return tc_fail(err, TC_E_USAGE, "--min-hosts: %lu is more than the %zu hosts listed", number, hosts);
    *out = percent ? (hosts * number + 99) / 100 : number;
    return 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), size = strlen(end);
    return length >= size && strcmp(text + length - size, end) == 0;
}

static bool parse_count(const char **text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(*text, &end, 10);
    bool good = **text >= '0' && **text <= '9' && errno == 0;
    *text = end;
    return good;
}

/* "OFFSET:SIZE" */
static int parse_range(const char *text, struct tc_source_range *range, struct tc_err *err)
{
    const char *at = text;
    if (!text || (parse_count(&at, &range->offset) && *at++ == ':' && parse_count(&at, &range->size) && !*at))
        return 0;
    return tc_fail(err, TC_E_USAGE, "--source-range: '%s' is not OFFSET:SIZE in bytes", text);
}

/* With a descriptor the operand is what to publish it as, and what to call it. */
static int take_descriptor(struct job *job, const char *second, struct tc_err *err)
{
    const struct send_values *values = job->values;
    if (values->source_fd == TC_NO_FD && (values->head_fd != TC_NO_FD || values->source_range))
        return tc_fail(err, TC_E_USAGE, "--source-range and --head-fd need --source-fd");
    if (values->source_fd == TC_NO_FD)
        return 0;
    if (second)
        return tc_fail(err, TC_E_USAGE, "--source-fd is the source, so NAME is the only operand");
    job->range = (struct tc_source_range){.fd = (int)values->source_fd,
                                          .head_fd = values->head_fd == TC_NO_FD ? -1 : (int)values->head_fd,
                                          .size = UINT64_MAX};
    job->send.range = &job->range;
    return parse_range(values->source_range, &job->range, err);
}

/* What the bytes are: a .npy file tells it itself, unless it is to be raw. */
static int take_source(struct job *job, const char *source, const char *name, struct tc_err *err)
{
    const struct send_values *values = job->values;
    bool raw = values->raw || !ends_with(source, ".npy");
    char copy[PATH_MAX];
    if (values->shape && !values->dtype)
        return tc_fail(err, TC_E_USAGE, "--shape needs --dtype");
    if (values->dtype && !raw)
        return tc_fail(err, TC_E_USAGE, "%s tells its type itself; give --raw too to describe it by hand", source);
    if (take_descriptor(job, name, err) < 0)
        return -err->reason;
    snprintf(copy, sizeof copy, "%s", source);
    snprintf(job->name, sizeof job->name, "%s", name ? name : job->send.range ? source : basename(copy));
    if (tc_name_check(job->name, err) < 0)
        return -err->reason;
    job->send.source = source;
    job->send.name = job->name;
    job->send.raw = raw;
    job->send.dtype = values->dtype;
    job->send.shape = values->shape;
    return 0;
}

static int take_texts(struct job *job, struct tc_err *err)
{
    const struct send_values *values = job->values;
    if (values->chunk & (values->chunk - 1))
        return tc_fail(err, TC_E_USAGE, "--chunk: must be a power of two: 64K, 128K, ... 4M");
    int result = tc_compress_parse(&job->send.compress, values->compress, err);
    if (result == 0)
        result = tc_tree_parse(&job->send.tree, values->tree, err);
    job->send.chunk_size = (uint32_t)values->chunk;
    job->send.force = values->force;
    job->send.dry_run = values->dry_run;
    job->send.local = (enum tc_local_mode)values->local;
    job->send.link = values->link;
    if (result == 0 && values->link && values->local == TC_LOCAL_NET)
        return tc_fail(err, TC_E_USAGE, "--link and --local net contradict each other");
    job->send.deadline = values->deadline;
    if (result == 0 && values->join_time > TC_MS_PLAN / 1000)
        return tc_fail(err, TC_E_USAGE, "--join-time: agents that have joined wait for the others for an hour at most");
    if (result == 0 && values->ttl > UINT32_MAX)
        return tc_fail(err, TC_E_USAGE, "--ttl: more than 136 years; leave it out for good");
    job->send.ttl = (uint32_t)ceil(values->ttl);
    job->send.rate = values->bwlimit;
    job->send.min_rate = (uint32_t)values->min_rate;
    job->send.join_at = values->join_at;
    job->send.join_seconds = values->join_time;
    return result;
}

static int address_of(const char *host, uint16_t port, char *out, size_t size, struct tc_err *err)
{
    char name[TC_HOST_TEXT_MAX];
    uint16_t own;
    int result = tc_host_split(host, name, sizeof name, &own, err);
    return result < 0 ? result : tc_address_join(out, size, name, own ? own : port, err);
}

/* A listed port always means the network. */
static bool has_port(const char *host)
{
    char name[TC_HOST_TEXT_MAX];
    uint16_t port = 0;
    return tc_host_split(host, name, sizeof name, &port, NULL) == 0 && port != 0;
}

/* In Slurm a node may be reached by another name than its own; the network that sbcast is to use comes first. Without a
 * scontrol that answers, the name has to do. */
static void ask_slurm(struct job *job)
{
    struct tc_err why = {0};
    char *list = tc_hostlist_fold(job->listed, NULL);
    if (!list || tc_slurm_nodes(list, &job->nodes, &job->node_count, &tc_site_world, &why) < 0)
        tc_log(TC_LOG_INFO, "hosts are taken by their names: %s", why.text);
    free(list);
}

static const char *reached_at(const struct job *job, const char *host)
{
    for (size_t i = 0; i < job->node_count; i++) {
        const struct tc_slurm_node *node = &job->nodes[i];
        if (strcmp(node->name, host) == 0)
            return node->bcast[0] ? node->bcast : node->address[0] ? node->address : host;
    }
    return host;
}

/* Launched agents take any free port. */
static int name_alone(const char *host, struct tc_err *err)
{
    char name[TC_HOST_TEXT_MAX];
    uint16_t port;
    int result = tc_host_split(host, name, sizeof name, &port, err);
    return result == 0 && port
               ? tc_fail(err, TC_E_USAGE, "%s: agents that are launched take any free port; leave it out", host)
               : result;
}

/* Give every host its port; "node7" and "node7:7117" are then one, and the first stays. */
static int take_addresses(struct job *job, struct tc_hostlist *seen, struct tc_err *err)
{
    size_t listed = tc_hostlist_count(job->listed);
    job->shown = calloc(listed + 1, sizeof *job->shown);
    job->addresses = calloc(listed + 1, sizeof *job->addresses);
    if (!job->shown || !job->addresses)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    for (size_t i = 0; i < listed; i++) {
        char address[TC_HOST_TEXT_MAX + 8];
        const char *host = tc_hostlist_at(job->listed, i);
        int result = 0;
        if (job->launch.wanted)
            result = name_alone(host, err);
        if (job->send.join_at || job->launch.wanted) /* its agent says where it is */
            snprintf(address, sizeof address, "%s", host);
        else
            result = address_of(reached_at(job, host), job->ports.ports[0], address, sizeof address, err);
        if (result == 0)
            result = tc_hostlist_add(seen, address, err);
        if (result < 0)
            return result;
        if (result == 0 && !has_port(host))
            job->send.local_port = job->ports.ports[0];
        if (tc_hostlist_count(seen) == job->count)
            continue;
        job->shown[job->count] = host;
        job->addresses[job->count] = strdup(address);
        if (!job->addresses[job->count])
            return tc_fail(err, TC_E_NOMEM, "out of memory");
        job->count++;
    }
    return 0;
}

static int take_hosts(struct job *job, struct tc_err *err)
{
    const struct send_values *values = job->values;
    bool keyed = values->key.file || values->key.fd != TC_NO_KEY_FD;
    job->listed = tc_host_options_gather(&values->hosts, &job->found, err);
    if (!job->listed)
        return err->reason ? -err->reason : -TC_E_NOMEM;
    int result = tc_launch_options_decide(&job->launch, &values->launch, &job->found, keyed,
                                          values->hosts.exclude.count > 0, err);
    if (result < 0)
        return result;
    if (job->found.system == TC_SITE_SLURM && !job->launch.wanted && !values->join_at)
        ask_slurm(job);
    struct tc_hostlist *seen = tc_hostlist_new(err);
    result = seen ? take_addresses(job, seen, err) : -TC_E_NOMEM;
    tc_hostlist_free(seen);
    job->send.hosts = job->addresses;
    job->send.host_count = job->count;
    if (result == 0)
        result = tc_topology_options_find(values->topology, job->shown, job->count, &job->topology, err);
    job->send.topology = job->topology;
    if (result == 0 && job->values->min_hosts)
        result = parse_min_hosts(job->values->min_hosts, job->count, &job->send.min_hosts, err);
    return result;
}

/* Before any socket exists: without a key nothing but loopback. */
static int take_key(struct job *job, struct tc_err *err)
{
    bool have;
    int result = tc_key_options_read(&job->values->key, &job->key, &have, err);
    if (result == 0 && have)
        result = tc_key_options_read_origin(&job->values->key, job->values->origin_key, &job->key, err);
    if (result == 0 && !have && job->launch.wanted) { /* made for this broadcast; the agents get it from the launcher */
        result = tc_key_make(&job->key, false, err);
        have = true;
    }
    if (have)
        job->send.key = &job->key;
    if (result == 0 && !have && job->values->join_at)
        return tc_key_policy("let agents join at", job->values->join_at, err);
    for (size_t i = 0; result == 0 && !have && i < job->count; i++)
        result = tc_key_policy("send to", job->addresses[i], err);
    return result;
}

/* Which of several ports each host's agent has, where the host's own is not written. */
static int find_ports(struct job *job, struct tc_err *err)
{
    if (job->ports.count < 2 || job->launch.wanted || job->send.join_at)
        return 0;
    bool *fixed = calloc(job->count + 1, sizeof *fixed);
    if (!fixed)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    for (size_t i = 0; i < job->count; i++)
        fixed[i] = has_port(job->shown[i]);
    int result = tc_port_options_find(&job->ports, job->addresses, fixed, job->count, job->send.key, err);
    free(fixed);
    return result;
}

static int take_launch(struct job *job, struct tc_err *err)
{
    const struct send_values *values = job->values;
    double seconds = values->join_time > 0 ? values->join_time : 60;
    if (!job->launch.wanted)
        return 0;
    int result = tc_launch_options_fill(&job->launch, &values->launch, job->listed, &job->key, seconds,
                                        job->ports.ports[0], values->bwlimit, err);
    if (!job->send.join_at)
        job->send.join_at = job->launch.listen;
    job->send.request = &job->launch.request;
    job->send.stay = values->launch.stay;
    return result;
}

static int prepare(struct job *job, const struct tc_call *call, struct tc_err *err)
{
    int result = take_source(job, call->operands[0], call->operands[1], err);
    if (result == 0)
        result = tc_port_options_parse(&job->ports, job->values->port, err);
    if (result == 0)
        result = take_texts(job, err);
    if (result == 0)
        result = take_hosts(job, err);
    if (result == 0)
        result = take_key(job, err);
    if (result == 0)
        result = find_ports(job, err);
    if (result == 0)
        result = take_launch(job, err);
    return result;
}

/* A reader that does not read holds up no session. */
struct outlets {
    struct tc_outlet *out, *err;
};

static bool are_behind(void *arg)
{
    const struct outlets *outlets = arg;
    bool out = tc_outlet_behind(outlets->out), err = tc_outlet_behind(outlets->err);
    return out || err;
}

static int open_outlets(struct outlets *outlets, struct tc_err *err)
{
    fflush(NULL);
    outlets->out = tc_outlet_new(STDOUT_FILENO, err);
    outlets->err = tc_outlet_new(STDERR_FILENO, err);
    if (!outlets->out || !outlets->err)
        return -TC_E_NOMEM;
    setvbuf(tc_outlet_file(outlets->err), NULL, _IOLBF, 0);
    return 0;
}

static void close_outlets(struct outlets *outlets)
{
    tc_outlet_free(outlets->out);
    tc_outlet_free(outlets->err);
}

static int broadcast(struct job *job, struct tc_err *err)
{
    const struct send_values *values = job->values;
    struct outlets outlets = {0};
    if (open_outlets(&outlets, err) < 0) {
        close_outlets(&outlets);
        return -TC_E_NOMEM;
    }
    struct tc_show_options options = {
        .out = tc_outlet_file(outlets.out),
        .err = tc_outlet_file(outlets.err),
        .terminal = STDERR_FILENO,
        .behind = are_behind,
        .arg = &outlets,
        .tty = isatty(STDERR_FILENO),
        .color = tc_report_color(stderr),
        .json = values->json,
        .quiet = values->quiet,
        .verbose = values->verbose,
        .name = job->name,
        .hosts = job->shown,
        .host_count = job->count,
        .topology = job->topology,
    };
    struct tc_send_report report = {0};
    struct tc_show *show = tc_show_new(&options, err);
    if (!show) {
        close_outlets(&outlets);
        return -TC_E_NOMEM;
    }
    job->send.news = tc_show_news;
    job->send.joinable = tc_show_joinable;
    job->send.arg = show;
    struct tc_err why = {0};
    int result = tc_send_run(&job->send, &report, &why);
    int code = tc_send_exit(&report, result);
    tc_outlet_wait(outlets.err);
    tc_outlet_wait(outlets.out);
    tc_show_end(show, &report, code, result < 0 ? &why : NULL);
    tc_send_report_free(&report);
    tc_show_free(show);
    close_outlets(&outlets);
    return code;
}

static void job_end(struct job *job)
{
    for (size_t i = 0; i < job->count; i++)
        free((void *)(uintptr_t)job->addresses[i]);
    free(job->addresses);
    free(job->shown);
    tc_hostlist_free(job->listed);
    tc_topology_free(job->topology);
    tc_launch_plan_end(&job->launch);
    free(job->nodes);
    tc_key_clear(&job->key);
}

static enum tc_log_level level(const struct send_values *values)
{
    if (values->quiet > 0)
        return TC_LOG_ERROR;
    return values->verbose > 1 ? TC_LOG_DEBUG : values->verbose ? TC_LOG_INFO : TC_LOG_WARN;
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    struct job job = {.values = call->values};
    tc_log_open("treecast send", level(job.values));
    int result = prepare(&job, call, err);
    if (result == 0)
        result = broadcast(&job, err);
    if (result < 0 && job.values->json)
        tc_show_error(stdout, tc_reason_exit(-result), err);
    job_end(&job);
    return result;
}

#define AT(member) TC_AT(struct send_values, member)

/* clang-format off */
static const struct tc_option options[] = {
    TC_HOST_ROWS(struct send_values, hosts),
    {.letter = 'p', .name = "port", .argument = "PORT[,PORT...]", .kind = TC_OPT_TEXT, AT(port),
     .help = "the agents' port, where a host names none (default 7117); of several each agent listens on one"},
    TC_KEY_ROWS(struct send_values, key),
    {.name = "origin-key", .argument = "FILE", .kind = TC_OPT_TEXT, AT(origin_key),
     .help = "the origin's secret key that signs (default: the key file's name with .origin)"},
    {.name = "source-fd", .argument = "N", .kind = TC_OPT_NUMBER, .most = 65535, AT(source_fd),
     .help = "send what open descriptor N holds, as NAME, which is the only operand then"},
    {.name = "source-range", .argument = "OFFSET:SIZE", .kind = TC_OPT_TEXT, AT(source_range),
     .help = "these bytes of it only; memory (/proc/PID/mem) has no size of its own and needs this"},
    {.name = "head-fd", .argument = "N", .kind = TC_OPT_NUMBER, .most = 65535, AT(head_fd),
     .help = "put what descriptor N holds before them, as a .npy header (1 MiB at most)"},
    {.letter = 's', .name = "chunk", .argument = "SIZE", .kind = TC_OPT_SIZE, .least = TC_CHUNK_SIZE_MIN,
     .most = TC_CHUNK_SIZE_MAX, AT(chunk), .choices = "64K|128K|256K|512K|1M|2M|4M",
     .help = "bytes of a chunk, a power of two, 64K .. 4M (default: by size and hosts)"},
    {.letter = 'C', .name = "compress", .argument = "SPEC", .kind = TC_OPT_TEXT, AT(compress),
     .choices = "auto|none|zstd", .help = "auto (default), none, zstd or zstd:LEVEL"},
    {.letter = 'F', .name = "tree", .argument = "KIND", .kind = TC_OPT_TEXT, AT(tree),
     .choices = "auto|binomial|double|caterpillar|chain|kary:2",
     .help = "auto (default), binomial, double, caterpillar, chain, kary:N or N"},
    TC_TOPOLOGY_ROW(struct send_values, topology),
    {.letter = 'f', .name = "force", .kind = TC_OPT_FLAG, AT(force), .help = "replace a published NAME"},
    {.name = "min-hosts", .argument = "N|P%", .kind = TC_OPT_TEXT, AT(min_hosts),
     .help = "this many hosts, or this share of them, are enough to succeed (default: all)"},
    {.letter = 't', .name = "deadline", .argument = "SEC", .kind = TC_OPT_SECONDS, AT(deadline),
     .help = "abort what is not done after SEC seconds (default: none)"},
    {.name = "ttl", .argument = "SEC", .kind = TC_OPT_SECONDS, AT(ttl),
     .help = "the hosts remove the array SEC seconds after it was published (default: never)"},
    {.name = "bwlimit", .argument = "RATE", .kind = TC_OPT_SIZE, .least = 256 << 10, AT(bwlimit),
     .help = "bytes a second that leave this host at most, 100M say, and each launched agent's (default: no limit)"},
    {.name = "min-rate", .argument = "RATE", .kind = TC_OPT_SIZE, .least = TC_RATE_LEAST, .most = 1 << 30,
     AT(min_rate), .help = "give up a host that gains fewer bytes a second for a minute (default 16K)"},
    TC_LAUNCH_ROWS(struct send_values, launch),
    {.name = "join-at", .argument = "ADDR[:PORT]", .kind = TC_OPT_TEXT, AT(join_at),
     .help = "dial no host: wait there for the agents of the hosts, which are started with recv --join"},
    {.name = "join-time", .argument = "SEC", .kind = TC_OPT_SECONDS, AT(join_time),
     .help = "go on without hosts whose agents have not joined after SEC seconds (default 60)"},
    {.letter = 'n', .name = "dry-run", .kind = TC_OPT_FLAG, AT(dry_run),
     .help = "check hosts, space and plan; move nothing"},
    {.name = "local", .argument = "HOW", .kind = TC_OPT_CHOICE, AT(local), .choices = "auto|copy|net",
     .help = "this host's own agent gets the source itself if it can (auto), must (copy), never (net)"},
    {.name = "link", .kind = TC_OPT_FLAG, AT(link),
     .help = "give it as a hard link; then both share mode and every later write"},
    {.name = "raw", .kind = TC_OPT_FLAG, AT(raw),
     .help = "any bytes: do not read a .npy header (without that suffix a SOURCE is raw by itself)"},
    {.name = "dtype", .argument = "T", .kind = TC_OPT_TEXT, AT(dtype),
     .help = "elements of a raw SOURCE as numpy writes them, float64 or <f8"},
    {.name = "shape", .argument = "S", .kind = TC_OPT_TEXT, AT(shape),
     .help = "shape of a raw SOURCE: 1000,1000 (one may be -1; default: one dimension)"},
    TC_JSON_ROW(struct send_values, json),
    {.letter = 'q', .name = "quiet", .kind = TC_OPT_COUNT, AT(quiet),
     .help = "no progress and no summary; twice: no list of failed hosts either"},
    {.letter = 'v', .name = "verbose", .kind = TC_OPT_COUNT, AT(verbose), .help = "more talkative; repeatable"},
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_send = {
    .name = "send",
    .arguments = "SOURCE [NAME]",
    .summary = "broadcast a file to the agents of many hosts",
    .more = "NAME is what the hosts publish it as (default: SOURCE's file name). Hosts come from -w and --hostfile,\n"
            "else from the batch job (Slurm, PBS, LSF, SGE, Flux), an MPI's host file or the file that WCOLL names.\n"
            "SIGUSR1 prints the state, Ctrl-C aborts cleanly.\n",
    .options = options,
    .size = sizeof(struct send_values),
    .defaults = &(const struct send_values){.port = "7117", /* TC_PORT_DEFAULT */
                                            .key = {.fd = TC_NO_KEY_FD},
                                            .source_fd = TC_NO_FD,
                                            .head_fd = TC_NO_FD,
                                            .compress = "auto",
                                            .topology = "auto",
                                            .tree = "auto"},
    .least = 1,
    .most = 2,
    .operands_are_files = true,
    .run = run,
};
