#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/startup.h"
#include "cli/cli.h"
#include "net/key.h"
#include "site/hook.h"
#include "site/jobdir.h"

#define BASE "/dev/shm/treecast"
#define CLUSTER_KEY "/etc/treecast/cluster.key"

/* Seconds: a prolog returns within one, unless it is strict and the answer matters more. */
#define READY_LENIENT 0.7
#define READY_STRICT 10
#define LOCK_PROLOG 0.2
#define LOCK_EPILOG 15
#define STOP 3
#define WATCHDOG_PROLOG 30
#define WATCHDOG_EPILOG 60

enum access { BY_USER, BY_GROUP };

struct hook_values {
    const char *system, *base, *cluster_key, *listen, *ports, *user;
    unsigned access;
    bool strict;
};

struct hook {
    const struct hook_values *values;
    enum tc_hook_phase phase;
    struct tc_hook_job job;
    uint16_t least, most; /* ports */
    uid_t agent;          /* whom the agent becomes; our own: nobody */
    gid_t agent_group;
};

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

static void tell(const char *job, const char *text)
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
    hook->agent_group = user ? user->pw_gid : getegid();
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

/* What there is of a text file; "" where there is none. */
static void slurp(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    for (ssize_t got; fd >= 0 && used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0;)
        used += (size_t)got;
    if (fd >= 0)
        close(fd);
    text[used] = '\0';
}

/* The prolog. */

/* An agent would publish where no job looks: who runs the cluster has to know. */
static void warn_of_private(const struct hook *hook)
{
    char conf[65536], container[16384], beside[PATH_MAX], text[PATH_MAX];
    const char *path = getenv("SLURM_CONF");
    if (!path)
        path = "/etc/slurm/slurm.conf";
    const char *slash = strrchr(path, '/');
    int used = snprintf(beside, sizeof beside, "%.*s/job_container.conf", slash ? (int)(slash - path) : 0, path);
    if (hook->job.system != TC_HOOK_SLURM || used < 0 || (size_t)used >= sizeof beside)
        return;
    slurp(path, conf, sizeof conf);
    slurp(beside, container, sizeof container);
    if (!tc_jobdir_private(hook->values->base, conf, container))
        return;
    snprintf(
        text, sizeof text,
        "Slurm gives each job a place of its own (JobContainerType in %.1000s) where %.1000s is, so no job can see "
        "what its agent publishes there: set [hook] base to a directory outside of it",
        path, hook->values->base);
    tell(hook->job.id, text);
}

static int write_keys(const struct hook *hook, struct tc_jobdir *dir, struct tc_err *err)
{
    struct tc_key cluster, job;
    char identity[TC_HOOK_IDENTITY], path[PATH_MAX];
    int result = tc_key_read(&cluster, hook->values->cluster_key, err);
    if (result < 0)
        return result;
    tc_hook_identity(&hook->job, identity);
    result = tc_key_derive_job(&cluster, identity, &job, err);
    tc_key_clear(&cluster);
    snprintf(path, sizeof path, "%s/%s", tc_jobdir_path(dir), TC_JOBDIR_KEY);
    if (result == 0)
        result = tc_key_write(&job, path, err);
    tc_key_clear(&job);
    if (result == 0)
        result = tc_jobdir_give(dir, TC_JOBDIR_KEY, hook->job.uid, hook->job.gid, err);
    if (result == 0)
        result = tc_jobdir_give(dir, TC_JOBDIR_KEY ".origin", hook->job.uid, hook->job.gid, err);
    return result;
}

static int start_agent(const struct hook *hook, struct tc_jobdir *dir, struct tc_err *err)
{
    char listen[320], user[16], group[16], path[PATH_MAX];
    snprintf(listen, sizeof listen, "%s:%u", hook->values->listen, tc_hook_port(&hook->job, hook->least, hook->most));
    snprintf(user, sizeof user, "%u", (unsigned)hook->job.uid);
    snprintf(group, sizeof group, "%u", (unsigned)hook->job.gid);
    snprintf(path, sizeof path, "%s", tc_jobdir_path(dir));
    bool by_group = hook->values->access == BY_GROUP;
    /* Errors only: strangers at the port must not fill the memory with lines. */
    /* clang-format off */
    const char *arguments[] = {
        "treecast", "recv", "--dir", path, "--listen", listen, "--key-fd", "3", "--quiet", "--quiet",
        "--allow-user", user, "--mode", by_group ? "0440" : "0444", NULL, NULL, NULL, NULL, NULL,
    };
    size_t count = sizeof arguments / sizeof *arguments - 5;
    if (by_group) {
        arguments[count++] = "--group";
        arguments[count++] = group;
    }
    if (hook->values->user) {
        arguments[count++] = "--user";
        arguments[count++] = hook->values->user;
    }
    /* clang-format on */
    return tc_jobdir_start(dir, arguments, hook->values->strict ? READY_STRICT : READY_LENIENT, err);
}

static int fill(const struct hook *hook, struct tc_jobdir *dir, struct tc_err *err)
{
    int result = tc_jobdir_purge(dir, false, err); /* of an earlier life of the job, or of another one with its id */
    if (result == 0)
        result = tc_jobdir_own(dir, hook->agent, hook->agent_group, err);
    if (result == 0)
        result = write_keys(hook, dir, err);
    if (result == 0)
        result = tc_jobdir_open_to(dir, hook->job.uid, hook->job.gid, hook->values->access == BY_GROUP, err);
    if (result == 0)
        result = start_agent(hook, dir, err);
    return result;
}

static int prolog(const struct hook *hook, struct tc_err *err)
{
    if (geteuid() != 0)
        return tc_fail(err, TC_E_PERMISSION, "the prolog must run as root: only root reads the cluster's key");
    if (!hook->job.has_user)
        return tc_fail(err, TC_E_USAGE, "the batch system does not say whose job it is: give JOBID USER");
    struct tc_jobdir *dir = tc_jobdir_make(hook->values->base, hook->job.id, hook->agent, LOCK_PROLOG, err);
    if (!dir)
        return -err->reason;
    warn_of_private(hook);
    int result = tc_jobdir_agent_lives(dir) ? 0 : fill(hook, dir, err);
    if (result < 0 && result != -TC_E_TIMEOUT) /* one that is merely slow may still come; the epilog ends it */
        tc_jobdir_purge(dir, true, NULL);
    tc_jobdir_free(dir);
    return result;
}

/* The epilog. */

static int epilog(const struct hook *hook, struct tc_err *err)
{
    struct tc_err none = {0};
    struct tc_jobdir *dir = tc_jobdir_find(hook->values->base, hook->job.id, hook->agent, LOCK_EPILOG, &none);
    if (!dir && none.reason == TC_E_NOTFOUND)
        return 0;
    if (!dir)
        return tc_fail(err, none.reason, "%s", none.text);
    int result = tc_jobdir_stop(dir, STOP, err);
    int removed = tc_jobdir_purge(dir, true, result < 0 ? NULL : err);
    tc_jobdir_free(dir);
    return result < 0 ? result : removed;
}

/* The task prolog. */

/* The job's directory cannot be seen from here: say so where the reason is a mount of the job's own. */
static int explain(const char *base, const char *path, struct tc_err *err)
{
    char text[65536];
    slurp("/proc/self/mountinfo", text, sizeof text);
    size_t hidden = tc_jobdir_hidden(path, text);
    if (hidden > 0 && access(base, F_OK) < 0) /* a prolog leaves base itself where it is */
        return tc_fail(err, TC_E_NOTFOUND,
                       "%.*s is private to this job (as job_container/tmpfs makes it), so %s cannot be seen: set "
                       "[hook] base to a directory outside of it",
                       (int)hidden, path, path);
    return tc_fail(err, TC_E_NOTFOUND, "no agent was started for this job on this host: %s is not there", path);
}

static int task_prolog(const struct hook *hook, struct tc_err *err)
{
    char path[PATH_MAX], key[PATH_MAX];
    int used = snprintf(path, sizeof path, "%s/%s", hook->values->base, hook->job.id);
    int more = snprintf(key, sizeof key, "%s/%s/%s", hook->values->base, hook->job.id, TC_JOBDIR_KEY);
    if (used < 0 || more < 0 || (size_t)more >= sizeof key)
        return tc_fail(err, TC_E_LIMIT, "%s: too long", hook->values->base);
    if (access(key, R_OK) < 0 && errno == ENOENT)
        return explain(hook->values->base, path, err);
    if (access(key, R_OK) < 0)
        return tc_fail_errno(err, errno, "%s", key);
    printf("export TREECAST_DIR=%s\nexport TREECAST_KEY_FILE=%s\nexport TREECAST_PORT=%u\n", path, key,
           tc_hook_port(&hook->job, hook->least, hook->most));
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
    result = tc_hook_job_read(&hook->job, system, call->operands + 1, call->count - 1, environ, err);
    if (result == 0)
        result = take_ports(hook, err);
    if (result == 0 && hook->phase != TC_HOOK_TASK_PROLOG)
        result = take_agent(hook, err);
    if (result == 0)
        result = check_paths(hook->values, err);
    if (result < 0)
        return result;
    return hook->phase == TC_HOOK_PROLOG   ? prolog(hook, err)
           : hook->phase == TC_HOOK_EPILOG ? epilog(hook, err)
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
        tell(name, err->text);
    return tc_hook_exit(hook.job.system, hook.phase, values->strict);
}

#define AT(member) TC_AT(struct hook_values, member)

/* clang-format off */
static const struct tc_option options[] = {
    {.name = "system", .argument = "NAME", .kind = TC_OPT_TEXT, AT(system), .choices = TC_HOOK_SYSTEMS,
     .help = "the batch system: slurm, pbs, torque, lsf, sge or flux"},
    {.name = "strict", .kind = TC_OPT_FLAG, AT(strict),
     .help = "fail when there is no agent, so that the job does not run here; the system may take the node away"},
    {.name = "base", .argument = "DIR", .kind = TC_OPT_TEXT, AT(base),
     .help = "jobs' directories are made in DIR (default " BASE ")"},
    {.name = "cluster-key", .argument = "FILE", .kind = TC_OPT_TEXT, AT(cluster_key),
     .help = "the key that jobs' keys are derived from, root's alone (default " CLUSTER_KEY ")"},
    {.name = "listen", .argument = "ADDR", .kind = TC_OPT_TEXT, AT(listen),
     .help = "address that agents listen on, without a port (default 0.0.0.0)"},
    {.name = "ports", .argument = "LEAST-MOST", .kind = TC_OPT_TEXT, AT(ports),
     .help = "ports of jobs' agents; a job's id chooses one (default 20000-29999)"},
    {.name = "user", .argument = "NAME", .kind = TC_OPT_TEXT, AT(user),
     .help = "agents become NAME, who owns the jobs' directories then; not a user of jobs (default: they stay root)"},
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
