/* What memory cgroups allow, as made-up kernels tell it. */
#include "file/memory.h"

#include <errno.h>

#include "file_help.h"

#define NONE UINT64_MAX
#define MIB ((uint64_t)1 << 20)

/* path in base, with the directories it takes. */
static void put(const char *path, const char *text)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    for (char *at = whole + strlen(base); (at = strchr(at + 1, '/'));) {
        *at = '\0';
        ck_assert(mkdir(whole, 0755) == 0 || errno == EEXIST);
        *at = '/';
    }
    put_file(AT_FDCWD, whole, text);
}

static uint64_t space(uint64_t enough)
{
    struct tc_memory *memory = tc_memory_open(base);
    uint64_t bytes = tc_memory_space(memory, enough);
    tc_memory_close(memory);
    return bytes;
}

/* Each test begins with an empty base. */
static void empty(void)
{
    base_teardown();
    ck_assert_int_eq(mkdir(base, 0755), 0);
}

#define SHM "30 25 0:26 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw\n"
#define ONE "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
#define TWO "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"

START_TEST(version_2)
{
    put("proc/self/cgroup", "0::/system.slice/slurmstepd.scope/job_7/step_0\n");
    put("proc/self/mountinfo", SHM "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n");
#define JOB "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/"
    put(JOB "step_0/memory.max", "max\n");
    put(JOB "step_0/memory.current", "9000000\n");
    ck_assert_uint_eq(space(0), NONE);
    put(JOB "memory.max", "104857600\n");
    put(JOB "memory.current", "73400320\n");
    ck_assert_uint_eq(space(NONE), 30 * MIB);
    put(JOB "memory.stat", "anon 5\nfile 41943040\nshmem 20971520\ninactive_anon 20971520\nactive_file 1048576\n"
                           "inactive_file 4194304\nslab_reclaimable 2097152\nworkingset_refault_file 99999\n");
    ck_assert_uint_eq(space(30 * MIB), 30 * MIB); /* enough: no closer look */
    ck_assert_uint_eq(space(30 * MIB + 1), 37 * MIB);
    put("sys/fs/cgroup/system.slice/memory.max", "73400321\n"); /* one above has less */
    put("sys/fs/cgroup/system.slice/memory.current", "73400320\n");
    ck_assert_uint_eq(space(NONE), 1);
    put("sys/fs/cgroup/system.slice/memory.max", "10\n");
    ck_assert_uint_eq(space(NONE), 0);
}
END_TEST

START_TEST(version_1)
{
    put("proc/self/cgroup", "12:cpuset:/\n11:memory,hugetlb:/slurm/uid_5/job_7\n0::/init.scope\n");
    put("proc/self/mountinfo", SHM "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" ONE TWO);
    put("sys/fs/cgroup/cpu/slurm/uid_5/job_7/memory.limit_in_bytes", "1\n");
#define MEMORY "sys/fs/cgroup/memory/"
    put(MEMORY "memory.limit_in_bytes", "9223372036854771712\n");
    put(MEMORY "memory.usage_in_bytes", "1048576\n");
    ck_assert_uint_gt(space(NONE), NONE / 4);
    put(MEMORY "slurm/uid_5/job_7/memory.limit_in_bytes", "67108864\n");
    put(MEMORY "slurm/uid_5/job_7/memory.usage_in_bytes", "67108864\n");
    put(MEMORY "slurm/uid_5/job_7/memory.stat", "cache 4096\ninactive_file 4096\ntotal_cache 67000000\n"
                                                "total_shmem 60000000\ntotal_inactive_file 1048576\n"
                                                "total_active_file 2097152\n");
    ck_assert_uint_eq(space(NONE), 3 * MIB);
    put(MEMORY "slurm/uid_5/job_7/memory.stat", "total_inactive_file 99999999\n"); /* it changes while it is read */
    ck_assert_uint_eq(space(NONE), 64 * MIB);
}
END_TEST

/* A container sees a part of the hierarchy, under the path that others know or as its root. */
START_TEST(containers)
{
    put("proc/self/cgroup", "4:memory:/docker/abc/deep\n0::/\n");
    put("proc/self/mountinfo", "35 31 0:32 /docker/ab /other ro - cgroup cgroup rw,memory\n"
                               "36 31 0:32 /docker/abc /cg\\040roups/memory ro master:3 - cgroup cgroup rw,memory\n"
                               "41 31 0:38 / /unified ro - cgroup2 cgroup rw\n");
    put("cg roups/memory/memory.limit_in_bytes", "20\n");
    put("cg roups/memory/memory.usage_in_bytes", "5\n");
    ck_assert_uint_eq(space(NONE), 15);
    put("cg roups/memory/deep/memory.limit_in_bytes", "4\n");
    put("cg roups/memory/deep/memory.usage_in_bytes", "1\n");
    ck_assert_uint_eq(space(NONE), 3);
    put("unified/memory.max", "9\n");
    put("unified/memory.current", "7\n");
    ck_assert_uint_eq(space(NONE), 2);
}
END_TEST

START_TEST(nothing_to_be_found)
{
    ck_assert_uint_eq(space(NONE), NONE);
    ck_assert_uint_eq(tc_memory_space(NULL, 1), NONE);
    put("proc/self/cgroup", "0::/a\n");
    ck_assert_uint_eq(space(NONE), NONE);
    put("proc/self/mountinfo", SHM ONE "\n - \nx - cgroup2\n1 2 - cgroup2 x y\n");
    ck_assert_uint_eq(space(NONE), NONE);
    put("proc/self/mountinfo", TWO);
    ck_assert_uint_eq(space(NONE), NONE);
    put("sys/fs/cgroup/unified/a/memory.max", "5\n");
    ck_assert_uint_eq(space(NONE), NONE); /* nobody says how much is used */
    put("sys/fs/cgroup/unified/a/memory.current", "");
    ck_assert_uint_eq(space(NONE), NONE);
    put("sys/fs/cgroup/unified/a/memory.current", "0\n");
    ck_assert_uint_eq(space(NONE), 5);
    put("proc/self/cgroup", "0::/../a\n"); /* outside of what is to be seen here */
    ck_assert_uint_eq(space(NONE), NONE);
    put("proc/self/cgroup", "0\n0:\n:memory:/a\n");
    ck_assert_uint_eq(space(NONE), NONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tcase = add_file_case(suite, "memory");
    tcase_add_checked_fixture(tcase, empty, NULL);
    tcase_add_test(tcase, version_2);
    tcase_add_test(tcase, version_1);
    tcase_add_test(tcase, containers);
    tcase_add_test(tcase, nothing_to_be_found);
    return unit_run(suite);
}
