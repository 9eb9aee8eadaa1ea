#include "site/jobgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <mntent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/startup.h"
#include "site/hidden.h"

#define LEAF "/treecast"

enum {
    SOON_MS = 50, /* between two looks whether the group is there, */
    LATE_MS = 1000,
    SOON = 1200 /* looks: the first minute */
};

/* Below the memory controller's mount point. Slurm's daemons of several nodes on one machine have their nodes' names in it. */
static const struct {
    enum tc_hook_system system;
    const char *pattern;
} places[] = {
    {TC_HOOK_SLURM, "slurm/uid_%u/job_%j"},
    {TC_HOOK_SLURM, "slurm_*/uid_%u/job_%j"},
    {TC_HOOK_SLURM, "system.slice/slurmstepd.scope/job_%j"},
    {TC_HOOK_SLURM, "system.slice/*_slurmstepd.scope/job_%j"},
    {TC_HOOK_PBS, "pbs_jobs.service/jobid/%j"},
    {TC_HOOK_PBS, "pbspro.service/jobid/%j"},
    {TC_HOOK_TORQUE, "torque/%j"},
    {TC_HOOK_LSF, "lsf/*/job.%j.*"},
};

static bool has_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += length)
        if ((at == text || at[-1] == ' ') && (!at[length] || strchr(" \n", at[length])))
            return true;
    return false;
}

/* Whether memory is counted there: where version 1 has the controller, version 2 has it not. */
static bool counts_memory(const struct mntent *mount)
{
    char path[PATH_MAX], text[512] = "";
    if (strcmp(mount->mnt_type, "cgroup") == 0)
        return hasmntopt(mount, "memory") != NULL;
    if (strcmp(mount->mnt_type, "cgroup2") != 0)
        return false;
    int used = snprintf(path, sizeof path, "%s/cgroup.controllers", mount->mnt_dir);
    int fd = used < 0 || (size_t)used >= sizeof path ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = read(fd, text, sizeof text - 1);
        text[got > 0 ? got : 0] = '\0';
        close(fd);
    }
    return has_word(text, "memory");
}

/* Characters that an id lost when it was made fit for a file's name may be any here. */
static void expand(const char *pattern, const struct tc_hook_job *job, char *out, size_t size)
{
    size_t used = 0;
    for (const char *at = pattern; *at && used + sizeof job->id < size; at++) {
        if (strncmp(at, "%j", 2) == 0) {
            for (const char *id = job->id; *id; id++)
                out[used++] = *id == '_' ? '?' : *id;
            at++;
        } else if (strncmp(at, "%u", 2) == 0) {
            used += (size_t)sprintf(out + used, "%u", (unsigned)job->uid);
            at++;
        } else {
            out[used++] = *at;
        }
    }
    out[used] = '\0';
}

static bool is_roots(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == 0;
}

static bool look(const char *mount, const char *pattern, const struct tc_hook_job *job, char group[PATH_MAX])
{
    char wanted[PATH_MAX], below[1024];
    glob_t found;
    bool any = false;
    expand(pattern, job, below, sizeof below);
    int used = snprintf(wanted, sizeof wanted, "%s/%s", mount, below);
    if (used < 0 || (size_t)used >= sizeof wanted - sizeof LEAF || glob(wanted, 0, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc && !any; i++) {
        int length = snprintf(group, PATH_MAX, "%s", found.gl_pathv[i]);
        any = length > 0 && length < PATH_MAX && is_roots(group);
    }
    globfree(&found);
    return any;
}

static bool look_everywhere(const char *mount, const struct tc_hook_job *job, const char *pattern, char group[PATH_MAX])
{
    if (pattern)
        return look(mount, pattern, job, group);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (places[i].system == job->system && look(mount, places[i].pattern, job, group))
            return true;
    return false;
}

bool tc_jobgroup_find(const struct tc_hook_job *job, const char *pattern, char group[PATH_MAX])
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    bool found = false;
    for (const struct mntent *mount; mounts && !found && (mount = getmntent(mounts));)
        found = counts_memory(mount) && look_everywhere(mount->mnt_dir, job, pattern, group);
    if (mounts)
        endmntent(mounts);
    return found;
}

int tc_jobgroup_check(const char *pattern, struct tc_err *err)
{
    if (*pattern && *pattern != '/' && strstr(pattern, "%j") && !strstr(pattern, ".."))
        return 0;
    return tc_fail(err, TC_E_USAGE,
                   "--cgroup: '%s' is not a path below the memory controller's mount point with %%j in it", pattern);
}

int tc_jobgroup_join(const char *group, uint32_t pid, struct tc_err *err)
{
    char leaf[PATH_MAX], procs[PATH_MAX], text[16];
    int used = snprintf(leaf, sizeof leaf, "%s" LEAF, group);
    int more = snprintf(procs, sizeof procs, "%s" LEAF "/cgroup.procs", group);
    if (used < 0 || more < 0 || (size_t)more >= sizeof procs)
        return tc_fail(err, TC_E_LIMIT, "%s: too long", group);
    int length = snprintf(text, sizeof text, "%u", (unsigned)pid);
    int fd = mkdir(leaf, 0755) == 0 || errno == EEXIST ? open(procs, O_WRONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    ssize_t written = fd < 0 ? -1 : write(fd, text, (size_t)length);
    int number = errno;
    if (fd >= 0)
        close(fd);
    return written == length
               ? 0
               : tc_fail_errno(err, number, "the agent cannot join %s, its arrays will not count as the job's", leaf);
}

bool tc_jobgroup_joined(const char *group)
{
    char path[PATH_MAX], byte;
    int used = snprintf(path, sizeof path, "%s" LEAF "/cgroup.procs", group);
    int fd = used < 0 || (size_t)used >= sizeof path ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    bool any = fd >= 0 && read(fd, &byte, 1) == 1;
    if (fd >= 0)
        close(fd);
    return any;
}

static _Noreturn void wait_and_join(const struct tc_hook_job *job, const char *pattern, uint32_t pid, uint64_t start)
{
    char group[PATH_MAX];
    setsid();
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    tc_startup_close(NULL, 0);
    tc_startup_signals();
    if (chdir("/") < 0 || fork() != 0)
        _exit(0);
    int agent = tc_process_watch(pid, start);
    struct pollfd ended = {.fd = agent, .events = POLLIN};
    for (unsigned looks = 0; agent >= 0 && poll(&ended, 1, looks < SOON ? SOON_MS : LATE_MS) == 0; looks++)
        if (tc_jobgroup_find(job, pattern, group) && tc_jobgroup_join(group, pid, NULL) == 0)
            break;
    _exit(0);
}

void tc_jobgroup_join_later(const struct tc_hook_job *job, const char *pattern, uint32_t pid, uint64_t start)
{
    pid_t child = fork();
    if (child == 0)
        wait_and_join(job, pattern, pid, start);
    if (child > 0)
        waitpid(child, NULL, 0);
}

/* Slurm removes the job's group and the user's with the last step, and cannot while the leaf is there. */
void tc_jobgroup_leave(const struct tc_hook_job *job, const char *pattern)
{
    char group[PATH_MAX], leaf[PATH_MAX];
    if (!tc_jobgroup_find(job, pattern, group) || snprintf(leaf, sizeof leaf, "%s" LEAF, group) >= (int)sizeof leaf ||
        rmdir(leaf) < 0 || job->system != TC_HOOK_SLURM || rmdir(group) < 0)
        return;
    *strrchr(group, '/') = '\0';
    const char *above = strrchr(group, '/');
    if (above && strncmp(above, "/uid_", 5) == 0)
        rmdir(group);
}

bool tc_jobgroup_of_slurm(const char *conf)
{
    const char *plugins;
    size_t length = tc_slurm_setting(conf, "TaskPlugin", &plugins);
    return memmem(plugins, length, "cgroup", strlen("cgroup")) != NULL;
}
