/* Hooks: whose job it is, what is derived from that, what a batch system is told, and what hides a directory. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "site/hidden.h"
#include "site/hook.h"
#include "unit.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof(table)[0]))

static struct tc_hook_job job;
static struct tc_err err;

struct reading {
    enum tc_hook_system system;
    const char *operands[4], *environment[6];
    int result;
    const char *id, *cluster;
    int uid; /* -1: not known */
};

static const struct reading readings[] = {
    {TC_HOOK_SLURM,
     {NULL},
     {"SLURM_JOB_ID=77", "SLURM_JOB_UID=4000001", "SLURM_CLUSTER_NAME=big"},
     0,
     "77",
     "big",
     4000001},
    {TC_HOOK_SLURM, {NULL}, {"SLURM_JOBID=78", "SLURM_JOB_ID="}, 0, "78", "-", -1},
    {TC_HOOK_SLURM, {NULL}, {"SLURM_JOB_ID=77", "SLURM_JOB_USER=root"}, 0, "77", "-", 0},
    {TC_HOOK_SLURM, {NULL}, {"SLURM_JOB_ID=77", "SLURM_JOB_USER=no-such-user"}, -TC_E_NOTFOUND, "", "", -1},
    {TC_HOOK_SLURM, {NULL}, {"PBS_JOBID=77"}, -TC_E_USAGE, "", "", -1},
    {TC_HOOK_SLURM, {NULL}, {"SLURM_JOB_ID=../77"}, -TC_E_USAGE, "", "", -1},
    {TC_HOOK_SLURM, {NULL}, {"SLURM_JOB_ID=7/7;x", "SLURM_JOBID=8"}, 0, "8", "-", -1},
    {TC_HOOK_SLURM, {"../77"}, {NULL}, -TC_E_NAME, "", "", -1},
    {TC_HOOK_SLURM, {".77"}, {NULL}, -TC_E_NAME, "", "", -1},
    {TC_HOOK_SLURM, {"7/7;x"}, {NULL}, 0, "7_7_x", "-", -1},
    {TC_HOOK_PBS, {NULL}, {"PBS_JOBID=.12"}, -TC_E_NAME, "", "", -1},
    {TC_HOOK_LSF, {NULL}, {"LSB_JOBID=5", "LSB_CLUSTER_NAME=a\nb", "LSFUSER=root"}, 0, "5", "-", 0},
    {TC_HOOK_PBS, {"12[3].server", "root", "0"}, {"PBS_JOBID=1.other", "USER=no-such-user"}, 0, "12_3_.server", "-", 0},
    {TC_HOOK_TORQUE, {NULL}, {"PBS_JOBID=12.server", "LOGNAME=root"}, 0, "12.server", "-", 0},
    {TC_HOOK_LSF, {NULL}, {"LSB_JOBID=5", "LSB_JOBINDEX=0", "LSFUSER=root"}, 0, "5", "-", 0},
    {TC_HOOK_LSF, {NULL}, {"LSB_JOBID=5", "LSB_JOBINDEX=12", "LOGNAME=root"}, 0, "5.12", "-", 0},
    {TC_HOOK_SGE, {"9", "root"}, {"SGE_TASK_ID=undefined", "SGE_CELL=default"}, 0, "9", "default", 0},
    {TC_HOOK_SGE, {NULL}, {"JOB_ID=9", "SGE_TASK_ID=4", "USER=root"}, 0, "9.4", "-", 0},
    {TC_HOOK_FLUX, {NULL}, {"FLUX_JOB_ID=f2", "FLUX_JOB_USERID=4000001"}, 0, "1", "-", 4000001},
    {TC_HOOK_FLUX, {NULL}, {"FLUX_JOB_ID=1"}, 0, "1", "-", -1},
    {TC_HOOK_FLUX, {NULL}, {"FLUX_JOB_ID=f0"}, -TC_E_NAME, "", "", -1},
};

START_TEST(test_reading)
{
    const struct reading *reading = &readings[_i];
    size_t count = 0;
    while (count < 4 && reading->operands[count])
        count++;
    char *environment[7] = {NULL};
    for (size_t i = 0; i < 6 && reading->environment[i]; i++)
        environment[i] = (char *)(uintptr_t)reading->environment[i];
    int result = tc_hook_job_read(&job, reading->system, reading->operands, count, NULL, environment, &err);
    ck_assert_msg(result == reading->result, "%d, not %d: %s", result, reading->result, err.text);
    if (result < 0)
        return;
    ck_assert_str_eq(job.id, reading->id);
    ck_assert_str_eq(job.cluster, reading->cluster);
    ck_assert_int_eq(job.has_user, reading->uid >= 0);
    if (reading->uid >= 0)
        ck_assert_uint_eq(job.uid, (unsigned)reading->uid);
}
END_TEST

/* The forms of one number, as Flux's RFC 19 has them. */
START_TEST(test_flux_ids)
{
    static const struct {
        const char *text;
        uint64_t number;
    } good[] = {
        {"0", 0},
        {"f1", 0},
        {"1234", 1234},
        {"0x4d2", 1234},
        {"0.0.0.4d2", 1234},
        {"fNH", 1234}, /* 1234 = 21 * 58 + 16 */
        {"\xc6\x92NH", 1234},
        {"18446744073709551615", UINT64_MAX},
        {"0xffffffffffffffff", UINT64_MAX},
        {"fjpXCZedGfVQ", UINT64_MAX},
    };
    static const char *const bad[] = {"",
                                      "f",
                                      "x",
                                      "-1",
                                      "12x",
                                      "fO",
                                      "f0",
                                      "0x",
                                      "0xg",
                                      "18446744073709551616",
                                      "fjpXCZedGfVR",
                                      "0x1ffffffffffffffff"};
    uint64_t number;
    for (int i = 0; i < COUNT(good); i++) {
        ck_assert_msg(tc_hook_flux_id(good[i].text, &number), "%s", good[i].text);
        ck_assert_uint_eq(number, good[i].number);
    }
    for (int i = 0; i < COUNT(bad); i++)
        ck_assert_msg(!tc_hook_flux_id(bad[i], &number), "%s", bad[i]);
}
END_TEST

/* Another system, cluster, job, user or start: other keys; and another directory, but for the start. */
START_TEST(test_identities_differ)
{
    const struct tc_hook_job jobs[] = {
        {.system = TC_HOOK_SLURM, .cluster = "-", .id = "7", .life = "-", .has_user = true, .uid = 1},
        {.system = TC_HOOK_PBS, .cluster = "-", .id = "7", .life = "-", .has_user = true, .uid = 1},
        {.system = TC_HOOK_SLURM, .cluster = "-", .id = "8", .life = "-", .has_user = true, .uid = 1},
        {.system = TC_HOOK_SLURM, .cluster = "-", .id = "7", .life = "-", .has_user = true, .uid = 2},
        {.system = TC_HOOK_SLURM, .cluster = "a", .id = "7", .life = "-", .has_user = true, .uid = 1},
        {.system = TC_HOOK_SLURM, .cluster = "a", .id = "7", .life = "1700000000", .has_user = true, .uid = 1},
    };
    char texts[COUNT(jobs)][TC_HOOK_IDENTITY], names[COUNT(jobs)][TC_HOOK_NAME];
    for (int i = 0; i < COUNT(jobs); i++) {
        tc_hook_identity(&jobs[i], texts[i]);
        tc_hook_name(&jobs[i], names[i]);
        ck_assert_ptr_null(strchr(texts[i], '\n'));
        for (int k = 0; k < i; k++) {
            ck_assert_str_ne(texts[i], texts[k]);
            ck_assert_int_eq(strcmp(names[i], names[k]) == 0, i == 5 && k == 4);
        }
    }
    ck_assert_str_eq(texts[4], "slurm a 7 1 -"); /* every version on every host must say the same */
    ck_assert_str_eq(names[4], "slurm+a+7+1");
}
END_TEST

/* When a job was started, where its system says so; whose it is, where that is told on the command line. */
START_TEST(test_lives)
{
    char *newer[] = {(char[]){"SLURM_JOB_ID=7"}, (char[]){"SLURM_JOB_START_TIME=1700000000"},
                     (char[]){"SLURM_JOB_RESTART_COUNT=2"}, (char[]){"SLURM_CLUSTER_NAME=big/one"}, NULL};
    ck_assert_int_eq(tc_hook_job_read(&job, TC_HOOK_SLURM, NULL, 0, NULL, newer, &err), 0);
    ck_assert_str_eq(job.life, "1700000000");
    ck_assert_str_eq(job.cluster, "big_one");
    ck_assert_int_eq(tc_hook_job_read(&job, TC_HOOK_SLURM, NULL, 0, "mine", newer, &err), 0);
    ck_assert_str_eq(job.cluster, "mine");
    newer[1] = (char[]){"X=y"};
    ck_assert_int_eq(tc_hook_job_read(&job, TC_HOOK_SLURM, NULL, 0, NULL, newer, &err), 0);
    ck_assert_str_eq(job.life, "2");
    newer[2] = NULL;
    ck_assert_int_eq(tc_hook_job_read(&job, TC_HOOK_SLURM, NULL, 0, NULL, newer, &err), 0);
    ck_assert_str_eq(job.life, "-");
}
END_TEST

/* All in the range, none twice, as the secret has them: hosts of all versions must agree. */
START_TEST(test_ports)
{
    uint8_t secret[2 * TC_HOOK_PORTS] = {0, 0, 0x80, 0, 0xff, 0xff, 0x80, 0};
    uint16_t ports[TC_HOOK_PORTS];
    ck_assert_uint_eq(tc_hook_ports(secret, 20000, 29999, ports), 3);
    ck_assert_uint_eq(ports[0], 20000);
    ck_assert_uint_eq(ports[1], 25000);
    ck_assert_uint_eq(ports[2], 29999);
    ck_assert_uint_eq(tc_hook_ports(secret, 7, 7, ports), 1);
    ck_assert_uint_eq(ports[0], 7);
    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] = (uint8_t)(i * 37);
    size_t count = tc_hook_ports(secret, 1, 65535, ports);
    ck_assert_uint_eq(count, TC_HOOK_PORTS);
    for (size_t i = 0; i < count; i++)
        ck_assert_uint_ge(ports[i], 1);
}
END_TEST

/* A hook that is not strict never fails; a strict prolog keeps the job away without deleting it or closing a queue. */
START_TEST(test_exits)
{
    static const int strict[] = {1, 2, 2, 1, 99, 1};
    for (int system = TC_HOOK_SLURM; system <= TC_HOOK_FLUX; system++) {
        for (int phase = TC_HOOK_PROLOG; phase <= TC_HOOK_TASK_PROLOG; phase++) {
            ck_assert_int_eq(tc_hook_exit((enum tc_hook_system)system, (enum tc_hook_phase)phase, false), 0);
            ck_assert_int_gt(tc_hook_exit((enum tc_hook_system)system, (enum tc_hook_phase)phase, true), 0);
        }
        ck_assert_int_eq(tc_hook_exit((enum tc_hook_system)system, TC_HOOK_PROLOG, true), strict[system]);
    }
    ck_assert_int_ne(tc_hook_exit(TC_HOOK_SGE, TC_HOOK_EPILOG, true), 99); /* would run the job again */
}
END_TEST

START_TEST(test_words)
{
    enum tc_hook_system system;
    enum tc_hook_phase phase;
    ck_assert_int_eq(tc_hook_system_parse("sge", &system, &err), 0);
    ck_assert_int_eq(system, TC_HOOK_SGE);
    ck_assert_int_eq(tc_hook_system_parse("moab", &system, &err), -TC_E_USAGE);
    ck_assert_int_eq(tc_hook_phase_parse("epilogue", &phase, &err), 0);
    ck_assert_int_eq(phase, TC_HOOK_EPILOG);
    ck_assert_int_eq(tc_hook_phase_parse("", &phase, &err), -TC_E_USAGE);
}
END_TEST

START_TEST(test_hidden)
{
    static const char plain[] = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
                                "25 22 0:23 / /dev rw,nosuid - devtmpfs udev rw\n"
                                "30 25 0:26 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw\n";
    static const char twice[] = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
                                "30 25 0:26 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw\n"
                                "31 25 8:1 /jobs/7/.7 /tmp rw - ext4 /dev/sda1 rw\n"
                                "90 30 0:60 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw";
    ck_assert_uint_eq(tc_hidden_by_mount("/dev/shm/treecast/7", plain), 0);
    ck_assert_uint_eq(tc_hidden_by_mount("/dev/shm/treecast/7", twice), strlen("/dev/shm"));
    ck_assert_uint_eq(tc_hidden_by_mount("/dev/shmtreecast/7", twice), 0);
    ck_assert_uint_eq(tc_hidden_by_mount("/run/treecast/7", twice), 0);
    ck_assert_uint_eq(tc_hidden_by_mount("/run", ""), 0);
}
END_TEST

START_TEST(test_private)
{
    static const char on[] = "ClusterName=a\n jobcontainertype=job_container/tmpfs # each job\n";
    static const char none[] = "# JobContainerType=job_container/tmpfs\nJobContainerType=job_container/none\n";
    ck_assert(tc_hidden_by_slurm("/dev/shm/treecast", on, ""));
    ck_assert(tc_hidden_by_slurm("/tmp/treecast", on, "BasePath=/jobs\n"));
    ck_assert(!tc_hidden_by_slurm("/treecast", on, ""));
    ck_assert(!tc_hidden_by_slurm("/dev/shmtreecast", on, ""));
    ck_assert(!tc_hidden_by_slurm("/dev/shm/treecast", on, "AutoBasePath=true BasePath=/jobs Dirs=/tmp,/var/tmp\n"));
    ck_assert(tc_hidden_by_slurm("/var/tmp/treecast", on, "AutoBasePath=true\nDirs=/tmp,/var/tmp\n"));
    ck_assert(!tc_hidden_by_slurm("/dev/shm/treecast", none, ""));
    ck_assert(!tc_hidden_by_slurm("/dev/shm/treecast", "", "Dirs=/dev/shm"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hook");
    TCase *tests = tcase_create("hook");
    tcase_add_loop_test(tests, test_reading, 0, COUNT(readings));
    tcase_add_test(tests, test_flux_ids);
    tcase_add_test(tests, test_identities_differ);
    tcase_add_test(tests, test_lives);
    tcase_add_test(tests, test_ports);
    tcase_add_test(tests, test_exits);
    tcase_add_test(tests, test_words);
    tcase_add_test(tests, test_hidden);
    tcase_add_test(tests, test_private);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
