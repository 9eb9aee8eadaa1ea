#include "site/resource.h"

#include <stdio.h>
#include <string.h>

#include "site/program.h"
#include "unit.h"

/* A job as its batch system shows it: variables and files by name, and what programs answer. */
struct world {
    const char *variables[8][2];
    const char *files[2][2];
    const char *commands[2][2];
};

static const char *find(const char *const (*rows)[2], size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i][0] && strcmp(rows[i][0], name) == 0)
            return rows[i][1];
    return NULL;
}

static const char *variable(void *arg, const char *name)
{
    const struct world *world = arg;
    return find(world->variables, 8, name);
}

static int answer(const char *text, const char *what, char *out, size_t size, struct tc_err *err)
{
    if (!text)
        return tc_fail(err, TC_E_NOTFOUND, "%s: not here", what);
    snprintf(out, size, "%s", text);
    return 0;
}

static int file(void *arg, const char *path, char *out, size_t size, struct tc_err *err)
{
    const struct world *world = arg;
    return answer(find(world->files, 2, path), path, out, size, err);
}

static int command(void *arg, const char *const *argv, char *out, size_t size, struct tc_err *err)
{
    const struct world *world = arg;
    char line[256] = "";
    for (size_t i = 0; argv[i]; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? " " : "", argv[i]);
    return answer(find(world->commands, 2, line), line, out, size, err);
}

static struct tc_err err;
static struct tc_resource found;

/* The hosts of a world, joined by blanks, or NULL with err. Static memory. */
static const char *hosts_of(const struct world *world)
{
    static char text[4096];
    struct tc_site_world asked = {variable, file, command, (void *)(uintptr_t)world};
    struct tc_hostlist *list = tc_hostlist_new(NULL);
    err = (struct tc_err){0};
    int result = tc_resource_find(list, &found, &asked, &err);
    text[0] = '\0';
    for (size_t i = 0; i < tc_hostlist_count(list); i++) {
        strcat(text, i ? " " : "");
        strcat(text, tc_hostlist_at(list, i));
    }
    tc_hostlist_free(list);
    ck_assert_int_eq(result, -err.reason);
    return result < 0 ? NULL : text;
}

static const struct sample {
    const char *what;
    enum tc_site_system system;
    struct world world;
    const char *hosts;
} samples[] = {
    {"no job", TC_SITE_NONE, {.variables = {{"HOME", "/root"}, {"WCOLL", ""}}}, ""},
    {"slurm",
     TC_SITE_SLURM,
     {.variables = {{"SLURM_JOB_NODELIST", "node[001-003,010],login2"}}},
     "node001 node002 node003 node010 login2"},
    {"slurm, the older name", TC_SITE_SLURM, {.variables = {{"SLURM_NODELIST", "tux[1-2]"}}}, "tux1 tux2"},
    {"slurm, racks",
     TC_SITE_SLURM,
     {.variables = {{"SLURM_JOB_NODELIST", "rack[0-1]node[8-9],x1000c0s[2,4]b0n0"}}},
     "rack0node8 rack0node9 rack1node8 rack1node9 x1000c0s2b0n0 x1000c0s4b0n0"},
    {"slurm, laid out by hand",
     TC_SITE_SLURM,
     {.variables = {{"SLURM_JOB_NODELIST", "node1*2,node2,node1,node3*16"}}},
     "node1 node2 node3"},
    {"slurm, several components",
     TC_SITE_SLURM,
     {.variables = {{"SLURM_JOB_NODELIST", "cpu[1-2]"},
                    {"SLURM_HET_SIZE", "2"},
                    {"SLURM_JOB_NODELIST_HET_GROUP_0", "cpu[1-2]"},
                    {"SLURM_JOB_NODELIST_HET_GROUP_1", "gpu1,cpu2"}}},
     "cpu1 cpu2 gpu1"},
    {"slurm, several components as they were called until 19.05",
     TC_SITE_SLURM,
     {.variables = {{"SLURM_JOB_NODELIST", "cpu[1-2]"},
                    {"SLURM_PACK_SIZE", "2"},
                    {"SLURM_JOB_NODELIST_PACK_GROUP_0", "cpu[1-2]"},
                    {"SLURM_JOB_NODELIST_PACK_GROUP_1", "gpu1,cpu2"}}},
     "cpu1 cpu2 gpu1"},
    {"oar repeats a node for each core",
     TC_SITE_OAR,
     {.variables = {{"OAR_NODEFILE", "/f"}}, .files = {{"/f", "n-1.site\nn-1.site\nn-2.site\n"}}},
     "n-1.site n-2.site"},
    {"cobalt",
     TC_SITE_COBALT,
     {.variables = {{"COBALT_NODEFILE", "/f"}}, .files = {{"/f", "thetagpu01\nthetagpu02\n"}}},
     "thetagpu01 thetagpu02"},
    {"open mpi, with users and comments",
     TC_SITE_MPI,
     {.variables = {{"OMPI_MCA_orte_default_hostfile", "/f"}},
      .files = {{"/f", "// ours\nu@n1 slots=2\nn2 slots = 4 # two\n"}}},
     "n1 n2"},
    {"mpich, with an interface",
     TC_SITE_MPI,
     {.variables = {{"HYDRA_HOST_FILE", "/f"}}, .files = {{"/f", "n1:4:ib0\nn2:4\n"}}},
     "n1 n2"},
    {"pdsh's file that includes another",
     TC_SITE_WCOLL,
     {.variables = {{"WCOLL", "/g/all"}}, .files = {{"/g/all", "n1\n#include more\n"}, {"/g/more", "n[2-3]\n"}}},
     "n1 n2 n3"},
    {"pbs repeats a node for each slot",
     TC_SITE_PBS,
     {.variables = {{"PBS_NODEFILE", "/aux/12.pbs"}, {"PBS_JOBID", "12.pbs"}},
      .files = {{"/aux/12.pbs", "r1i0n1.cluster\nr1i0n1.cluster\nr1i0n0.cluster\nr1i0n1.cluster\n"}}},
     "r1i0n1.cluster r1i0n0.cluster"},
    {"lsf, a host file",
     TC_SITE_LSF,
     {.variables = {{"LSB_DJOB_HOSTFILE", "/f"}, {"LSB_MCPU_HOSTS", "x 1"}}, .files = {{"/f", "b\nb\na\n"}}},
     "b a"},
    {"lsf, pairs",
     TC_SITE_LSF,
     {.variables = {{"LSB_MCPU_HOSTS", "hostA 20 hostB 10 "}, {"LSB_HOSTS", "hostC"}}},
     "hostA hostB"},
    {"lsf, a word for each slot", TC_SITE_LSF, {.variables = {{"LSB_HOSTS", "hostA hostA hostB"}}}, "hostA hostB"},
    {"sge",
     TC_SITE_SGE,
     {.variables = {{"PE_HOSTFILE", "/spool/pe_hostfile"}},
      .files = {{"/spool/pe_hostfile", "n12.local 4 all.q@n12.local UNDEFINED\nn7.local 2 all.q@n7.local 0,0:0,1\n"}}},
     "n12.local n7.local"},
    {"flux, a batch script in Slurm",
     TC_SITE_FLUX,
     {.variables = {{"FLUX_URI", "local:///run/flux/local"}, {"SLURM_JOB_NODELIST", "wrong"}},
      .commands = {{"flux getattr hostlist", "corona[171,173]\n"}}},
     "corona171 corona173"},
    {"flux, a task of a job in a larger instance",
     TC_SITE_FLUX,
     {.variables = {{"FLUX_URI", "local:///run/flux/local"}, {"FLUX_JOB_ID", "f2Ax"}},
      .commands = {{"flux getattr hostlist", "all[1-900]\n"},
                   {"flux jobs --no-header --format={nodelist} f2Ax", "all[7-8]\n"}}},
     "all7 all8"},
    {"hydra's file: slots behind a colon",
     TC_SITE_MPI,
     {.variables = {{"HYDRA_HOST_FILE", "/h"}}, .files = {{"/h", "# two\nnode1:4 binding=user:0\nnode2:2\nnode1\n"}}},
     "node1 node2"},
    {"Open MPI's file",
     TC_SITE_MPI,
     {.variables = {{"OMPI_MCA_orte_default_hostfile", "/h"}, {"WCOLL", "/w"}},
      .files = {{"/h", "node1 slots=4\n\nnode2 slots=2 max_slots=2 # old\n"}}},
     "node1 node2"},
    {"pdsh's file",
     TC_SITE_WCOLL,
     {.variables = {{"WCOLL", "/w"}}, .files = {{"/w", "a[1-2]\nb:7200\n"}}},
     "a1 a2 b:7200"},
};

START_TEST(every_system_as_documented)
{
    const struct sample *sample = &samples[_i];
    const char *hosts = hosts_of(&sample->world);
    ck_assert_msg(hosts, "%s: %s", sample->what, err.text);
    ck_assert_msg(strcmp(hosts, sample->hosts) == 0, "%s: '%s'", sample->what, hosts);
    ck_assert_str_eq(tc_site_name(found.system), tc_site_name(sample->system));
    ck_assert_int_eq(found.parts, strstr(sample->what, "components") != NULL);
}
END_TEST

/* What a system says and cannot be read is an error that names it; the next system's list would be other hosts. */
START_TEST(what_cannot_be_read_is_said)
{
    static const struct {
        struct world world;
        const char *said;
    } bad[] = {
        {{.variables = {{"SLURM_JOB_NODELIST", "node[1-"}, {"WCOLL", "/w"}}, .files = {{"/w", "a"}}},
         "SLURM_JOB_NODELIST: host list: node[1-"},
        {{.variables = {{"SLURM_JOB_NODELIST", "a"}, {"SLURM_HET_SIZE", "2"}}},
         "SLURM_JOB_NODELIST_HET_GROUP_0 is not set"},
        {{.variables = {{"PBS_NODEFILE", "/gone"}}}, "PBS_NODEFILE: /gone: not here"},
        {{.variables = {{"PBS_NODEFILE", "/empty"}}, .files = {{"/empty", "\n"}}}, "PBS_NODEFILE: names no host"},
        {{.variables = {{"LSB_MCPU_HOSTS", "hostA hostB 4"}}}, "after 'hostA' stands no number"},
        {{.variables = {{"LSB_MCPU_HOSTS", "hostA"}}}, "after 'hostA' stands no number"},
        {{.variables = {{"FLUX_URI", "local:///x"}, {"SLURM_JOB_NODELIST", "a"}}},
         "FLUX_URI: flux getattr hostlist: not"},
        {{.variables = {{"PE_HOSTFILE", "/p"}}, .files = {{"/p", "a;b 4 q UNDEFINED\n"}}},
         "PE_HOSTFILE: /p:1: host list: a;b"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_ptr_null(hosts_of(&bad[i].world));
        ck_assert_msg(strstr(err.text, bad[i].said), "%s", err.text);
    }
}
END_TEST

START_TEST(slurm_tells_how_its_nodes_are_reached)
{
    static const struct world world = {
        .commands = {
            {"scontrol show node n[1-3] --oneliner",
             "NodeName=n1 Arch=x86_64 CoresPerSocket=1 NodeAddr=n1 NodeHostName=n1 Version=22.05 Comment=a=b \n"
             "NodeName=n2 NodeAddr=10.0.0.2 NodeHostName=h2 BcastAddr=ib2.cluster Port=7002\n"
             "\nNodeName=n3 NodeAddr=10.0.0.3 NodeHostName=h3\n"}}};
    struct tc_site_world asked = {variable, file, command, (void *)(uintptr_t)&world};
    struct tc_slurm_node *nodes;
    size_t count;
    ck_assert_int_eq(tc_slurm_nodes("n[1-3]", &nodes, &count, &asked, &err), 0);
    ck_assert_uint_eq(count, 3);
    ck_assert(strcmp(nodes[0].name, "n1") == 0 && !nodes[0].address[0] && !nodes[0].bcast[0]);
    ck_assert_str_eq(nodes[1].address, "10.0.0.2");
    ck_assert_str_eq(nodes[1].bcast, "ib2.cluster");
    ck_assert(strcmp(nodes[2].address, "10.0.0.3") == 0 && !nodes[2].bcast[0]);
    free(nodes);
    ck_assert_int_eq(tc_slurm_nodes("n4", &nodes, &count, &asked, NULL), -TC_E_NOTFOUND);
    ck_assert(!nodes && count == 0);
}
END_TEST

START_TEST(batch_systems_and_mere_files)
{
    ck_assert(tc_site_is_batch(TC_SITE_FLUX) && tc_site_is_batch(TC_SITE_SGE));
    ck_assert(!tc_site_is_batch(TC_SITE_NONE) && !tc_site_is_batch(TC_SITE_MPI) && !tc_site_is_batch(TC_SITE_WCOLL));
}
END_TEST

START_TEST(programs_are_asked)
{
    static const char *const echo[] = {"echo", "a", "b", NULL}, *const fail[] = {"false", NULL},
                             *const none[] = {"/no/such/program", NULL}, *const slow[] = {"sleep", "60", NULL},
                             *const input[] = {"cat", NULL},
                             *const stays[] = {"sh", "-c", "echo a; exec >&-; sleep 60", NULL};
    char out[6];
    ck_assert_int_eq(tc_program_ask(echo, 10, out, sizeof out, &err), 0);
    ck_assert_str_eq(out, "a b\n");
    ck_assert_int_eq(tc_program_ask(echo, 10, out, 4, NULL), -TC_E_LIMIT);
    ck_assert_int_eq(tc_program_ask(input, 10, out, sizeof out, NULL), 0);
    ck_assert_str_eq(out, "");
    ck_assert_int_eq(tc_program_ask(fail, 10, out, sizeof out, NULL), -TC_E_FAILED);
    ck_assert_int_eq(tc_program_ask(none, 10, out, sizeof out, NULL), -TC_E_NOTFOUND);
    ck_assert_int_eq(tc_program_ask(slow, 1, out, sizeof out, NULL), -TC_E_TIMEOUT);
    ck_assert_int_eq(tc_program_ask(stays, 1, out, sizeof out, NULL), -TC_E_TIMEOUT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resource");
    TCase *test = tcase_create("resource");
    tcase_add_loop_test(test, every_system_as_documented, 0, sizeof samples / sizeof samples[0]);
    tcase_add_test(test, what_cannot_be_read_is_said);
    tcase_add_test(test, slurm_tells_how_its_nodes_are_reached);
    tcase_add_test(test, batch_systems_and_mere_files);
    tcase_add_test(test, programs_are_asked);
    suite_add_tcase(suite, test);
    return unit_run(suite);
}
