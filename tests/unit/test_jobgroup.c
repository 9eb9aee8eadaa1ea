/* A job's cgroup: joined for real in each version that is mounted here, as root; where Slurm makes one; patterns. */
#include <errno.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "site/jobgroup.h"
#include "unit.h"

static struct tc_err err;

/* Where a hierarchy of this type is mounted; of version 1 the memory controller's. */
static bool mounted(const char *type, char out[PATH_MAX])
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    bool found = false;
    for (const struct mntent *mount; mounts && !found && (mount = getmntent(mounts));) {
        found = strcmp(mount->mnt_type, type) == 0 && (strcmp(type, "cgroup") != 0 || hasmntopt(mount, "memory"));
        if (found)
            snprintf(out, PATH_MAX, "%s", mount->mnt_dir);
    }
    if (mounts)
        endmntent(mounts);
    return found;
}

static bool write_to(const char *folder, const char *name, const char *text)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    return file && fputs(text, file) >= 0 && fclose(file) == 0;
}

static bool has(const char *folder, const char *name, const char *word)
{
    char path[PATH_MAX + 32], text[32];
    bool found = false;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    while (file && fscanf(file, "%31s", text) == 1)
        found |= strcmp(text, word) == 0;
    if (file)
        fclose(file);
    return found;
}

/* One that this hierarchy has; NULL: none of these. */
static const char *first_controller(const char *top)
{
    static const char *const names[] = {"memory", "hugetlb", "pids", "misc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (has(top, "cgroup.controllers", names[i]))
            return names[i];
    return NULL;
}

static bool turn(const char *folder, char sign, const char *controller)
{
    char text[32];
    snprintf(text, sizeof text, "%c%s", sign, controller);
    return write_to(folder, "cgroup.subtree_control", text);
}

/* The cgroup of a process, as the kernel says it for version 1 (memory) or 2. */
static bool is_in(pid_t pid, bool second, const char *leaf)
{
    char path[64], line[4096];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        bool right = second ? strncmp(line, "0::", 3) == 0 : strstr(line, "memory:") != NULL;
        line[strcspn(line, "\n")] = '\0';
        size_t length = strlen(line), end = strlen(leaf);
        found |= right && length >= end && strcmp(line + length - end, leaf) == 0;
    }
    if (file)
        fclose(file);
    return found;
}

/* The job's cgroup has others below it, with a controller where there is one: then version 2 lets no process into it. */
static void join_in(const char *type, bool second)
{
    char top[PATH_MAX], site[PATH_MAX + 64], job[PATH_MAX + 80], step[PATH_MAX + 96], leaf[PATH_MAX + 96],
        group[PATH_MAX];
    if (geteuid() != 0 || !mounted(type, top))
        return;
    snprintf(site, sizeof site, "%s/treecast-test-%d", top, (int)getpid());
    snprintf(job, sizeof job, "%s/job_7", site);
    snprintf(step, sizeof step, "%s/step_0", job);
    snprintf(leaf, sizeof leaf, "%s/treecast", job);
    if (mkdir(site, 0755) < 0) /* not ours to write: a container's */
        return;
    ck_assert(mkdir(job, 0755) == 0 && mkdir(step, 0755) == 0);
    const char *controller = second ? first_controller(top) : NULL;
    bool was_on = controller && has(top, "cgroup.subtree_control", controller);
    bool strict = controller && turn(top, '+', controller) && turn(site, '+', controller) && turn(job, '+', controller);
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    char number[16];
    snprintf(number, sizeof number, "%d", (int)child);
    if (strict) /* what the leaf is for */
        ck_assert(!write_to(job, "cgroup.procs", number) && errno == EBUSY);
    snprintf(group, sizeof group, "%.4000s", job);
    ck_assert(!tc_jobgroup_joined(group));
    ck_assert_msg(tc_jobgroup_join(group, (uint32_t)child, &err) == 0, "%s", err.text);
    ck_assert(is_in(child, second, "/job_7/treecast"));
    ck_assert(tc_jobgroup_joined(group));
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert(!tc_jobgroup_joined(group));
    ck_assert(rmdir(leaf) == 0 && rmdir(step) == 0 && rmdir(job) == 0 && rmdir(site) == 0);
    if (strict && !was_on)
        turn(top, '-', controller);
    ck_assert_int_lt(tc_jobgroup_join(group, (uint32_t)getpid(), &err), 0);
}

START_TEST(test_version_1)
{
    join_in("cgroup", false);
}
END_TEST

START_TEST(test_version_2)
{
    join_in("cgroup2", true);
}
END_TEST

START_TEST(test_patterns)
{
    ck_assert_int_eq(tc_jobgroup_check("UGE/%j*", &err), 0);
    static const char *const wrong[] = {"", "/sys/%j", "jobs/all", "../%j", "a/../%j"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(tc_jobgroup_check(wrong[i], &err), -TC_E_USAGE);
    char group[PATH_MAX];
    const struct tc_hook_job job = {.system = TC_HOOK_SLURM, .id = "no-such-job", .uid = 4000001};
    ck_assert(!tc_jobgroup_find(&job, NULL, group));
    ck_assert(!tc_jobgroup_find(&job, "no/such/%j/%u", group));
}
END_TEST

START_TEST(test_slurm)
{
    ck_assert(tc_jobgroup_of_slurm("ClusterName=a\nTaskPlugin=task/affinity,task/cgroup\n"));
    ck_assert(tc_jobgroup_of_slurm("taskplugin=task/cgroup"));
    ck_assert(!tc_jobgroup_of_slurm("TaskPlugin=task/none\nProctrackType=proctrack/cgroup\n"));
    ck_assert(!tc_jobgroup_of_slurm("#TaskPlugin=task/cgroup\n"));
    ck_assert(!tc_jobgroup_of_slurm(""));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("jobgroup");
    TCase *tests = tcase_create("jobgroup");
    tcase_add_test(tests, test_version_1);
    tcase_add_test(tests, test_version_2);
    tcase_add_test(tests, test_patterns);
    tcase_add_test(tests, test_slurm);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
