#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "base/startup.h"
#include "cli/cmd_hook_own.h"
#include "cli/size.h"
#include "net/key.h"
#include "site/hidden.h"
#include "site/jobdir.h"
#include "site/jobgroup.h"

#define BASE "/dev/shm/treecast"
#define CLUSTER_KEY "/etc/treecast/cluster.key"

#define WATCHDOG_PROLOG 30
#define WATCHDOG_EPILOG 60
#define JOIN_LOOK_MS 10 /* a task prolog looks whether the agent has joined the job's cgroup, */
#define JOIN_LOOKS 100

static volatile sig_atomic_t watchdog_code; /* what the watchdog exits with: a handler has no argument */

static void on_watchdog(int number)
{
    (void)number;
    _exit(watchdog_code);
}

/* A look-up or a file system that hangs must not hang the batch system. */
static void watch(unsigned seconds, int code)
{
    watchdog_code = code;
    signal(SIGALRM, on_watchdog);
    alarm(seconds);
}

/* Nothing of the surroundings counts, which may be of the job's making, but what the batch system says of the job. */
static void begin(char *const *argv)
{
    tc_startup_surroundings();
    tc_startup_environment(argv, tc_hook_keeps);
    tc_key_no_configuration();
    signal(SIGPIPE, SIG_IGN);
}

void tc_hook_tell(const char *job, const char *text)
{
    fprintf(stderr, "treecast hook: %s%s%s\n", job, *job ? ": " : "", text);
    openlog("treecast-hook", LOG_PID, LOG_DAEMON);
    syslog(LOG_WARNING, "%s%s%s", job, *job ? ": " : "", text);
}

/* "20000-29999" */
static int take_ports(struct hook *hook, struct tc_err *err)
{
    unsigned least = 0, most = 0;
    char rest;
    if (sscanf(hook->values->ports, "%5u-%5u%c", &least, &most, &rest) != 2 || least < 1 || most < least ||
        most > 65535)
        return tc_fail(err, TC_E_USAGE, "--ports: '%s' is not LEAST-MOST", hook->values->ports);
    hook->least = (uint16_t)least;
    hook->most = (uint16_t)most;
    return 0;
}

static int take_agent(struct hook *hook, struct tc_err *err)
{
    const char *name = hook->values->user;
    const struct passwd *user = name ? getpwnam(name) : NULL;
    if (name && !user)
        return tc_fail(err, TC_E_NOTFOUND, "--user: this host knows no user '%s'", name);
    hook->agent = user ? user->pw_uid : geteuid();
    return 0;
}

/* The task prolog prints it for a shell, and for Slurm, which takes every byte literally. */
static int check_paths(const struct hook_values *values, struct tc_err *err)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+";
    const char *base = values->base;
    if (*values->cluster_key != '/')
        return tc_fail(err, TC_E_USAGE, "--cluster-key: '%s' is not an absolute path", values->cluster_key);
    if (*base != '/' || !base[1] || base[strspn(base, plain)])
        return tc_fail(err, TC_E_USAGE, "--base: '%s' is not a plain absolute path", base);
    return 0;
}

static int take_memory(struct hook *hook, struct tc_err *err)
{
    const char *text = hook->values->max_memory;
    return text && tc_memory_parse(&hook->memory, text, err) < 0 ? tc_err_prefix(err, "--max-memory") : 0;
}

static int take_cgroup(struct hook *hook, struct tc_err *err)
{
    const char *pattern = hook->values->cgroup;
    hook->no_cgroup = pattern && strcmp(pattern, "none") == 0;
    hook->cgroup = pattern && !hook->no_cgroup ? pattern : NULL;
    return hook->cgroup ? tc_jobgroup_check(hook->cgroup, err) : 0;
}

void tc_hook_slurp(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    for (ssize_t got; fd >= 0 && used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0;)
        used += (size_t)got;
    if (fd >= 0)
        close(fd);
    text[used] = '\0';
}

/* The task prolog. */

/* The job's directory cannot be seen from here: say so where the reason is a mount of the job's own. */
static int explain(const char *base, const char *path, struct tc_err *err)
{
    char text[65536];
    tc_hook_slurp("/proc/self/mountinfo", text, sizeof text);
    size_t hidden = tc_hidden_by_mount(path, text);
    if (hidden > 0 && access(base, F_OK) < 0) /* a prolog leaves base itself where it is */
        return tc_fail(err, TC_E_NOTFOUND,
                       "%.*s is private to this job (as job_container/tmpfs makes it), so %s cannot be seen: set "
                       "[hook] base to a directory outside of it",
                       (int)hidden, path, path);
    return tc_fail(err, TC_E_NOTFOUND, "no agent was started for this job on this host: %s is not there", path);
}

/* Open the job's .treecast as what root's prolog has left, and nobody else: BASE may be in a place where everybody makes
 * directories. */
static int open_state(const struct hook *hook, const char *path, struct tc_err *err)
{
    const char *names[] = {hook->name, ".treecast"};
    int fd = tc_trust_open_dir(hook->values->base, err);
    for (size_t i = 0; i < sizeof names / sizeof *names && fd >= 0; i++) {
        int next = tc_trust_open_dir_at(fd, names[i], path, err);
        close(fd);
        fd = next;
    }
    return fd;
}

/* That the key is there for us, and nobody's whom we do not believe. */
static int check_key(int state, const char *path, struct tc_err *err)
{
    int fd = openat(state, "key", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int result = fd < 0 ? tc_fail_errno(err, errno, "%s", path) : tc_trust_fd(fd, path, err);
    if (fd >= 0)
        close(fd);
    return result;
}

/* The hook's own words: digits and commas, in a file that only root can have written. */
static int read_ports(int state, const char *path, char *text, size_t size, struct tc_err *err)
{
    struct stat status;
    int fd = openat(state, "ports", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t got = fd < 0 || fstat(fd, &status) < 0 ? -1 : read(fd, text, size - 1);
    int number = errno;
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return tc_fail_errno(err, number, "%s", path);
    text[got] = '\0';
    if (status.st_uid != 0 || !S_ISREG(status.st_mode) || got == 0 || text[strspn(text, "0123456789,")])
        return tc_fail(err, TC_E_POLICY, "%s: not what a prolog has written", path);
    return 0;
}

/* The first task of a job may come before its agent counts as the job's: before tasks run, nobody can have it fill anything. */
static void await_group(const struct hook *hook)
{
    char group[PATH_MAX];
    for (unsigned looks = 0; !hook->no_cgroup && looks < JOIN_LOOKS; looks++) {
        if (!tc_jobgroup_find(&hook->job, hook->cgroup, group) || tc_jobgroup_joined(group))
            return;
        poll(NULL, 0, JOIN_LOOK_MS);
    }
}

static int task_prolog(const struct hook *hook, struct tc_err *err)
{
    char path[PATH_MAX], key[PATH_MAX], file[PATH_MAX], ports[256];
    struct tc_err why = {0};
    int used = snprintf(path, sizeof path, "%s/%s", hook->values->base, hook->name);
    int more = snprintf(key, sizeof key, "%s/%s/%s", hook->values->base, hook->name, TC_JOBDIR_KEY);
    int most = snprintf(file, sizeof file, "%s/%s/%s", hook->values->base, hook->name, TC_JOBDIR_PORTS);
    if (used < 0 || more < 0 || most < 0 || (size_t)most >= sizeof file)
        return tc_fail(err, TC_E_LIMIT, "%s: too long", hook->values->base);
    int state = open_state(hook, path, &why);
    int result = state < 0 ? state : check_key(state, key, &why);
    if (result == 0)
        result = read_ports(state, file, ports, sizeof ports, &why);
    if (state >= 0)
        close(state);
    if (result == -TC_E_NOTFOUND)
        return explain(hook->values->base, path, err);
    if (result < 0)
        return tc_fail(err, why.reason, "%s", why.text);
    await_group(hook);
    printf("export TREECAST_DIR=%s\nexport TREECAST_KEY_FILE=%s\nexport TREECAST_PORT=%s\n", path, key, ports);
    return 0;
}

/* The directory's name has the user in it; a task's is who runs it. */
static int take_job(struct hook *hook, const struct tc_call *call, enum tc_hook_system system, struct tc_err *err)
{
    int result =
        tc_hook_job_read(&hook->job, system, call->operands + 1, call->count - 1, hook->values->cluster, environ, err);
    if (result < 0)
        return result;
    if (hook->phase == TC_HOOK_TASK_PROLOG && geteuid() != 0)
        hook->job.uid = geteuid();
    else if (!hook->job.has_user)
        return tc_fail(err, TC_E_USAGE, "the batch system does not say whose job it is: give JOBID USER");
    tc_hook_name(&hook->job, hook->name);
    return 0;
}

static int work(struct hook *hook, const struct tc_call *call, struct tc_err *err)
{
    enum tc_hook_system system = TC_HOOK_SLURM;
    int result = tc_hook_system_parse(hook->values->system ? hook->values->system : "", &system, err);
    if (result == 0)
        result = tc_hook_phase_parse(call->operands[0], &hook->phase, err);
    if (result < 0)
        return result;
    watch(hook->phase == TC_HOOK_EPILOG ? WATCHDOG_EPILOG : WATCHDOG_PROLOG,
          tc_hook_exit(system, hook->phase, hook->values->strict));
    result = take_job(hook, call, system, err);
    if (result == 0)
        result = take_ports(hook, err);
    if (result == 0)
        result = take_memory(hook, err);
    if (result == 0)
        result = take_cgroup(hook, err);
    if (result == 0 && hook->phase != TC_HOOK_TASK_PROLOG)
        result = take_agent(hook, err);
    if (result == 0)
        result = check_paths(hook->values, err);
    if (result < 0)
        return result;
    return hook->phase == TC_HOOK_PROLOG   ? tc_hook_prolog(hook, err)
           : hook->phase == TC_HOOK_EPILOG ? tc_hook_epilog(hook, err)
                                           : task_prolog(hook, err);
}

/* Whatever fails before the options are known: lenient unless --strict stands there. */
static int excuse(int argc, char *const *argv, int code)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--strict") == 0)
            return code;
    return 0;
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct hook_values *values = call->values;
    struct hook hook = {.values = values};
    char name[TC_HOOK_ID + 8] = "";
    int result = work(&hook, call, err);
    alarm(0);
    if (result == 0)
        return 0;
    const char *local = getenv("SLURM_LOCALID");
    bool said = hook.phase == TC_HOOK_TASK_PROLOG && local && strcmp(local, "0") != 0; /* once a host is enough */
    if (*hook.job.id)
        snprintf(name, sizeof name, "job %s", hook.job.id);
    if (!said)
        tc_hook_tell(name, err->text);
    return tc_hook_exit(hook.job.system, hook.phase, values->strict);
}

#define AT(member) TC_AT(struct hook_values, member)

/* clang-format off */
static const struct tc_option options[] = {
    {.name = "system", .argument = "NAME", .kind = TC_OPT_TEXT, AT(system), .choices = TC_HOOK_SYSTEMS,
     .help = "the batch system: slurm, pbs, torque, lsf, sge or flux"},
    {.name = "cluster", .argument = "NAME", .kind = TC_OPT_TEXT, AT(cluster),
     .help = "whose jobs these are, where nodes serve several clusters (default: what the system says)"},
    {.name = "strict", .kind = TC_OPT_FLAG, AT(strict),
     .help = "fail when there is no agent, so that the job does not run here; the system may take the node away"},
    {.name = "base", .argument = "DIR", .kind = TC_OPT_TEXT, AT(base),
     .help = "jobs' directories are made in DIR (default " BASE ")"},
    {.name = "cluster-key", .argument = "FILE", .kind = TC_OPT_TEXT, AT(cluster_key),
     .help = "the key that jobs' keys are derived from, root's alone (default " CLUSTER_KEY ")"},
    {.name = "listen", .argument = "ADDR", .kind = TC_OPT_TEXT, AT(listen),
     .help = "address that agents listen on, without a port (default 0.0.0.0)"},
    {.name = "ports", .argument = "LEAST-MOST", .kind = TC_OPT_TEXT, AT(ports),
     .help = "ports of jobs' agents; a job's key chooses 16, the first that is free is used (default 20000-29999)"},
    {.name = "user", .argument = "NAME", .kind = TC_OPT_TEXT, AT(user),
     .help = "agents become NAME, who owns the jobs' directories then; not a user of jobs (default: they stay root)"},
    {.name = "cgroup", .argument = "PATTERN", .kind = TC_OPT_TEXT, AT(cgroup),
     .help = "the job's memory cgroup, which agents join: a path below its mount point with %j for the job's id and %u\n"
             "for the user's number; none: stay outside (default: where the batch system is known to make it)"},
    {.name = "max-memory", .argument = "SIZE|P%", .kind = TC_OPT_TEXT, AT(max_memory),
     .help = "memory for all arrays of a job on this node, or a share of the node's (default: what there is space for)"},
    {.name = "access", .argument = "WHOM", .kind = TC_OPT_CHOICE, AT(access), .choices = "user|group",
     .help = "who may read a job's arrays: its user (default), or all of its group"},
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_hook = {
    .name = "hook",
    .arguments = "prolog|epilog|task-prolog [JOBID [USER [GROUP]]]",
    .summary = "run in a batch system's prologue and epilogue: start and end the job's agent on this host",
    .more =
        "Exits with 0 whatever happens, unless --strict. Reads no environment but what the batch system says of the\n"
        "job, and no user's configuration.\n",
    .options = options,
    .size = sizeof(struct hook_values),
    .defaults =
        &(const struct hook_values){
            .base = BASE, .cluster_key = CLUSTER_KEY, .listen = "0.0.0.0", .ports = "20000-29999"},
    .least = 1,
    .most = SIZE_MAX, /* PBS and Torque hand over more than is needed */
    .unattended = true,
    .begin = begin,
    .excuse = excuse,
    .run = run,
};
