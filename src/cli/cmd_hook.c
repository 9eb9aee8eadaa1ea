#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "base/startup.h"
#include "cli/cli.h"
#include "net/key.h"
#include "net/listen.h"
#include "site/hidden.h"
#include "site/hook.h"
#include "site/jobagent.h"
#include "site/jobdir.h"

#define BASE "/dev/shm/treecast"
#define CLUSTER_KEY "/etc/treecast/cluster.key"

/* Seconds. A prolog returns within one, unless it is strict and the answer matters more; an epilog does, whatever the job's
 * user has left behind. Locks are held by other hooks only. */
#define READY_LENIENT 0.7
#define READY_STRICT 10
#define LOCK_PROLOG 0.2
#define LOCK_EPILOG 15
#define GRACE 0.3
#define KILLED 0.3
#define REMOVAL 0.25
#define WATCHDOG_PROLOG 30
#define WATCHDOG_EPILOG 60

enum access { BY_USER, BY_GROUP };

struct hook_values {
    const char *system, *cluster, *base, *cluster_key, *listen, *ports, *user;
    unsigned access;
    bool strict;
};

struct hook {
    const struct hook_values *values;
    enum tc_hook_phase phase;
    struct tc_hook_job job;
    char name[TC_HOOK_NAME]; /* of its directory */
    uint16_t least, most;    /* ports */
    uid_t agent;             /* whom the agent becomes; our own: nobody */
};

/* What a job's agent is given. */
struct outfit {
    struct tc_key key;
    char ports[8 * (TC_HOOK_PORTS + 1)]; /* "PORT,PORT,...": where it listens, then where others of the job may */
    int listen_fd, key_fd;
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
    if (!tc_hidden_by_slurm(hook->values->base, conf, container))
        return;
    snprintf(
        text, sizeof text,
        "Slurm gives each job a place of its own (JobContainerType in %.1000s) where %.1000s is, so no job can see "
        "what its agent publishes there: set [hook] base to a directory outside of it",
        path, hook->values->base);
    tell(hook->job.id, text);
}

static int derive_key(const struct hook *hook, struct tc_key *key, struct tc_err *err)
{
    struct tc_key cluster;
    char identity[TC_HOOK_IDENTITY];
    int result = tc_key_read(&cluster, hook->values->cluster_key, err);
    if (result < 0)
        return result;
    tc_hook_identity(&hook->job, identity);
    result = tc_key_derive_job(&cluster, identity, key, err);
    tc_key_clear(&cluster);
    return result;
}

/* The first port that nobody has. With all of them taken the kernel chooses: this host's tasks find it, others need not. */
static int listen_somewhere(const struct hook *hook, const uint16_t *ports, size_t count, uint16_t *port,
                            struct tc_err *err)
{
    char where[TC_ADDRESS_TEXT], host[TC_ADDRESS_HOST];
    int fd = -TC_E_BUSY;
    for (size_t i = 0; fd == -TC_E_BUSY && i <= count; i++)
        fd = tc_listen_bind(hook->values->listen, i < count ? ports[i] : 0, where, err);
    return fd < 0 || tc_address_split(where, host, port, err) == 0 ? fd : -err->reason;
}

static int choose_ports(const struct hook *hook, struct outfit *outfit, struct tc_err *err)
{
    uint8_t secret[TC_KEY_SIZE];
    uint16_t ports[TC_HOOK_PORTS], own = 0;
    int result = tc_key_derive(&outfit->key, "ports", secret, err);
    if (result < 0)
        return result;
    size_t count = tc_hook_ports(secret, hook->least, hook->most, ports);
    outfit->listen_fd = listen_somewhere(hook, ports, count, &own, err);
    int used = snprintf(outfit->ports, sizeof outfit->ports, "%u", own);
    for (size_t i = 0; i < count; i++)
        if (ports[i] != own)
            used += snprintf(outfit->ports + used, sizeof outfit->ports - (size_t)used, ",%u", ports[i]);
    return outfit->listen_fd < 0 ? outfit->listen_fd : 0;
}

/* The agent reads its key from a pipe: no file of it need be the agent's. */
static int hand_key(struct outfit *outfit, const char *text, struct tc_err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return tc_fail_errno(err, errno, "pipe");
    outfit->key_fd = ends[0];
    size_t size = strlen(text);
    bool written = write(ends[1], text, size) == (ssize_t)size;
    close(ends[1]);
    return written ? 0 : tc_fail_errno(err, errno, "pipe");
}

static int write_files(const struct hook *hook, struct tc_jobdir *dir, struct outfit *outfit, struct tc_err *err)
{
    char text[TC_KEY_TEXT];
    uid_t uid = hook->job.uid;
    gid_t gid = hook->job.gid;
    tc_key_text(&outfit->key, text);
    int result = tc_jobdir_write(dir, "key", text, strlen(text), uid, gid, 0400, err);
    if (result == 0)
        result = hand_key(outfit, text, err);
    tc_key_origin_text(&outfit->key, text);
    if (result == 0)
        result = tc_jobdir_write(dir, "key.origin", text, strlen(text), uid, gid, 0400, err);
    explicit_bzero(text, sizeof text);
    if (result == 0)
        result = tc_jobdir_write(dir, "ports", outfit->ports, strlen(outfit->ports), geteuid(), getegid(), 0444, err);
    return result;
}

static int start_agent(const struct hook *hook, struct tc_jobdir *dir, const struct outfit *outfit, struct tc_err *err)
{
    char key[16], user[16], group[16];
    snprintf(key, sizeof key, "%d", TC_JOBAGENT_KEY_FD);
    snprintf(user, sizeof user, "%u", (unsigned)hook->job.uid);
    snprintf(group, sizeof group, "%u", (unsigned)hook->job.gid);
    bool by_group = hook->values->access == BY_GROUP;
    /* Errors only: strangers at the port must not fill the memory with lines. */
    /* clang-format off */
    const char *arguments[] = {
        "treecast", "recv", "--dir", tc_jobdir_path(dir), "--key-fd", key, "--quiet", "--quiet",
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
    const struct tc_jobagent_options options = {
        .arguments = arguments, .life = hook->job.life, .listen_fd = outfit->listen_fd, .key_fd = outfit->key_fd};
    return tc_jobagent_start(dir, &options, hook->values->strict ? READY_STRICT : READY_LENIENT, err);
}

/* Root writes all there is to write, then the directory changes hands, then the agent starts. */
static int fill(const struct hook *hook, struct tc_jobdir *dir, struct outfit *outfit, struct tc_err *err)
{
    int result = derive_key(hook, &outfit->key, err);
    if (result == 0)
        result = choose_ports(hook, outfit, err);
    if (result == 0)
        result = tc_jobdir_make(dir, err);
    if (result == 0)
        result = write_files(hook, dir, outfit, err);
    if (result == 0)
        result = tc_jobdir_open_to(dir, hook->job.uid, hook->job.gid, hook->values->access == BY_GROUP, err);
    if (result == 0)
        result = tc_jobdir_give(dir, hook->agent, err);
    if (result == 0)
        result = start_agent(hook, dir, outfit, err);
    return result;
}

/* What is left of an earlier life of the job, or of another one with its id, goes first. */
static int fill_anew(const struct hook *hook, struct tc_jobdir *dir, struct tc_err *err)
{
    struct outfit outfit = {.listen_fd = -1, .key_fd = -1};
    tc_jobagent_stop(dir, GRACE, KILLED, NULL);
    int result = tc_jobdir_discard(dir, REMOVAL, err);
    if (result == 0)
        result = fill(hook, dir, &outfit, err);
    tc_key_clear(&outfit.key);
    if (outfit.listen_fd >= 0)
        close(outfit.listen_fd);
    if (outfit.key_fd >= 0)
        close(outfit.key_fd);
    if (result < 0 && result != -TC_E_TIMEOUT) { /* one that is merely slow may still come; the epilog ends it */
        tc_jobagent_stop(dir, 0, KILLED, NULL);
        tc_jobdir_discard(dir, REMOVAL, NULL);
        tc_jobdir_forget(dir);
    }
    return result;
}

static int prolog(const struct hook *hook, struct tc_err *err)
{
    if (geteuid() != 0)
        return tc_fail(err, TC_E_PERMISSION, "the prolog must run as root: only root reads the cluster's key");
    if (!tc_trusted(hook->agent))
        return tc_fail(err, TC_E_POLICY,
                       "--user %s: jobs would not believe that user's agents; write it as user into [hook] "
                       "of " TC_TRUST_FILE,
                       hook->values->user);
    struct tc_jobdir *dir = tc_jobdir_open(hook->values->base, hook->name, true, LOCK_PROLOG, err);
    if (!dir)
        return -err->reason;
    warn_of_private(hook);
    int result = tc_jobagent_find(dir, hook->job.life) == TC_JOBAGENT_LIVES ? 0 : fill_anew(hook, dir, err);
    tc_jobdir_free(dir);
    return result;
}

/* The epilog. */

/* An agent of a later life of the job, which runs here again, is not this epilog's. One that the kernel has not let go of
 * yet is no reason to take the node away: the job's user could bring it about, and it runs no more. */
static int end(const struct hook *hook, struct tc_jobdir *dir, struct tc_err *err)
{
    struct tc_err slow = {0};
    if (tc_jobagent_find(dir, hook->job.life) == TC_JOBAGENT_OF_ANOTHER_LIFE)
        return 0;
    if (tc_jobagent_stop(dir, GRACE, KILLED, &slow) < 0)
        tell(hook->job.id, slow.text);
    int result = tc_jobdir_discard(dir, REMOVAL, err);
    tc_jobdir_forget(dir);
    return result;
}

static int epilog(const struct hook *hook, struct tc_err *err)
{
    struct tc_err none = {0};
    struct tc_jobdir *dir = tc_jobdir_open(hook->values->base, hook->name, false, LOCK_EPILOG, &none);
    if (!dir && none.reason == TC_E_NOTFOUND)
        return 0;
    if (!dir)
        return tc_fail(err, none.reason, "%s", none.text);
    int result = end(hook, dir, err);
    tc_jobdir_free(dir);
    return result;
}

/* The task prolog. */

/* The job's directory cannot be seen from here: say so where the reason is a mount of the job's own. */
static int explain(const char *base, const char *path, struct tc_err *err)
{
    char text[65536];
    slurp("/proc/self/mountinfo", text, sizeof text);
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
