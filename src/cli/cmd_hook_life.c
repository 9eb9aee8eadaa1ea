#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/trust.h"
#include "cli/cmd_hook_own.h"
#include "net/key.h"
#include "net/listen.h"
#include "site/hidden.h"
#include "site/jobagent.h"
#include "site/jobdir.h"
#include "site/jobgroup.h"

/* Seconds. A prolog returns within one, unless it is strict and the answer matters more; an epilog does, whatever the job's
 * user has left behind. Locks are held by other hooks only. */
#define READY_LENIENT 0.7
#define READY_STRICT 10
#define LOCK_LENIENT 0.2
#define LOCK_STRICT 15
#define GRACE 0.3
#define KILLED 0.3
#define REMOVAL 0.25

/* What a job's agent is given. */
struct outfit {
    struct tc_key key;
    char ports[8 * (TC_HOOK_PORTS + 1)]; /* "PORT,PORT,...": where it listens, then where others of the job may */
    int listen_fd, key_fd;
};

/* The prolog. */

struct slurm_conf {
    const char *path;
    char text[65536], container[16384]; /* slurm.conf, job_container.conf; "" where there is none */
};

static void read_slurm(struct slurm_conf *conf)
{
    char beside[PATH_MAX];
    const char *path = getenv("SLURM_CONF");
    conf->path = path ? path : "/etc/slurm/slurm.conf";
    const char *slash = strrchr(conf->path, '/');
    int used =
        snprintf(beside, sizeof beside, "%.*s/job_container.conf", slash ? (int)(slash - conf->path) : 0, conf->path);
    tc_hook_slurp(conf->path, conf->text, sizeof conf->text);
    tc_hook_slurp(used > 0 && (size_t)used < sizeof beside ? beside : "/nonexistent", conf->container,
                  sizeof conf->container);
}

/* An agent would publish where no job looks: who runs the cluster has to know. */
static void warn_of_private(const struct hook *hook)
{
    struct slurm_conf conf;
    char text[PATH_MAX];
    if (hook->job.system != TC_HOOK_SLURM)
        return;
    read_slurm(&conf);
    if (!tc_hidden_by_slurm(hook->values->base, conf.text, conf.container))
        return;
    snprintf(
        text, sizeof text,
        "Slurm gives each job a place of its own (JobContainerType in %.1000s) where %.1000s is, so no job can see "
        "what its agent publishes there: set [hook] base to a directory outside of it",
        conf.path, hook->values->base);
    tc_hook_tell(hook->job.id, text);
}

/* Slurm makes the job's cgroup with the first step, after the prolog. */
static bool comes_later(const struct hook *hook)
{
    struct slurm_conf conf;
    if (hook->job.system != TC_HOOK_SLURM)
        return false;
    read_slurm(&conf);
    return tc_jobgroup_of_slurm(conf.text);
}

/* What the agent will fill is to count as the job's. That it cannot is no reason to keep the job away. */
static void join_group(const struct hook *hook, const struct tc_jobdir *dir)
{
    char group[PATH_MAX];
    uint32_t pid;
    uint64_t start;
    struct tc_err err = {0};
    if (hook->no_cgroup || tc_jobagent_find(dir, hook->job.life, &pid, &start) != TC_JOBAGENT_LIVES)
        return;
    if (!tc_jobgroup_find(&hook->job, hook->cgroup, group)) {
        if (comes_later(hook))
            tc_jobgroup_join_later(&hook->job, hook->cgroup, pid, start);
    } else if (tc_jobgroup_join(group, pid, &err) < 0) {
        tc_hook_tell(hook->job.id, err.text);
    }
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
    char key[16], user[16], group[16], most[24];
    snprintf(key, sizeof key, "%d", TC_JOBAGENT_KEY_FD);
    snprintf(user, sizeof user, "%u", (unsigned)hook->job.uid);
    snprintf(group, sizeof group, "%u", (unsigned)hook->job.gid);
    snprintf(most, sizeof most, "%" PRIu64, hook->memory);
    bool by_group = hook->values->access == BY_GROUP;
    /* Errors only: outsiders at the port must not fill the memory with lines. */
    /* clang-format off */
    const char *arguments[] = {
        "treecast", "recv", "--dir", tc_jobdir_path(dir), "--key-fd", key, "--quiet", "--quiet",
        "--allow-user", user, "--mode", by_group ? "0440" : "0444", NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    };
    size_t count = sizeof arguments / sizeof *arguments - 7;
    if (by_group) {
        arguments[count++] = "--group";
        arguments[count++] = group;
    }
    if (hook->values->user) {
        arguments[count++] = "--user";
        arguments[count++] = hook->values->user;
    }
    if (hook->memory > 0) {
        arguments[count++] = "--max-memory";
        arguments[count++] = most;
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

int tc_hook_prolog(const struct hook *hook, struct tc_err *err)
{
    if (geteuid() != 0)
        return tc_fail(err, TC_E_PERMISSION, "the prolog must run as root: only root reads the cluster's key");
    if (!tc_trusted(hook->agent))
        return tc_fail(err, TC_E_POLICY,
                       "--user %s: jobs would not believe that user's agents; write it as user into [hook] "
                       "of " TC_TRUST_FILE,
                       hook->values->user);
    double patience = hook->values->strict ? LOCK_STRICT : LOCK_LENIENT;
    struct tc_jobdir *dir = tc_jobdir_open(hook->values->base, hook->name, true, patience, err);
    if (!dir)
        return -err->reason;
    warn_of_private(hook);
    bool runs = tc_jobagent_find(dir, hook->job.life, NULL, NULL) == TC_JOBAGENT_LIVES;
    int result = runs ? 0 : fill_anew(hook, dir, err);
    if (!runs)
        join_group(hook, dir);
    tc_jobdir_free(dir);
    return result;
}

/* The epilog. */

/* An agent of a later life of the job, which runs here again, is not this epilog's. One that the kernel has not let go of
 * yet is no reason to take the node away: the job's user could bring it about, and it runs no more. */
static int end(const struct hook *hook, struct tc_jobdir *dir, struct tc_err *err)
{
    struct tc_err slow = {0};
    if (tc_jobagent_find(dir, hook->job.life, NULL, NULL) == TC_JOBAGENT_OF_ANOTHER_LIFE)
        return 0;
    if (tc_jobagent_stop(dir, GRACE, KILLED, &slow) < 0)
        tc_hook_tell(hook->job.id, slow.text);
    int result = tc_jobdir_discard(dir, REMOVAL, err);
    if (!hook->no_cgroup)
        tc_jobgroup_leave(&hook->job, hook->cgroup);
    tc_jobdir_forget(dir);
    return result;
}

int tc_hook_epilog(const struct hook *hook, struct tc_err *err)
{
    struct tc_err none = {0};
    struct tc_jobdir *dir = tc_jobdir_open(hook->values->base, hook->name, false, LOCK_STRICT, &none);
    if (!dir && none.reason == TC_E_NOTFOUND)
        return 0;
    if (!dir)
        return tc_fail(err, none.reason, "%s", none.text);
    int result = end(hook, dir, err);
    tc_jobdir_free(dir);
    return result;
}
