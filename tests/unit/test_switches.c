#include "plan/switches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

static struct tc_hostlist *unknown;

static void begin(void)
{
    unknown = tc_hostlist_new(NULL);
    ck_assert_ptr_nonnull(unknown);
}

static void end(void)
{
    tc_hostlist_free(unknown);
}

static struct tc_topology *reads(const char *text, const char *const *members, uint32_t count)
{
    struct tc_err err = {0};
    struct tc_topology *topology = tc_switches_read(text, strlen(text), "topology.conf", members, count, unknown, &err);
    ck_assert_msg(topology, "%s", err.text);
    return topology;
}

static const char *place(const struct tc_topology *topology, uint32_t member)
{
    static char path[200];
    return tc_topology_path(topology, tc_topology_group_of(topology, member), path, sizeof path);
}

#define IS_AT(topology, member, path) ck_assert_str_eq(place(topology, member), path)

START_TEST(switches_of_switches)
{
    static const char *const members[] = {"n1", "n9", "n16:7200", "n3.cluster.example", NULL, "login"};
    struct tc_topology *topology = reads("# racks\n"
                                         "SwitchName=s0 Switches=s[1-2] LinkSpeed=100 # the spine\n"
                                         "switchname=s1 nodes=n[1-4,5-8]\n\n"
                                         "SwitchName=s2 \\\n  Nodes=n[9-16]",
                                         members, 6);
    IS_AT(topology, 0, "s0.s1");
    IS_AT(topology, 1, "s0.s2");
    IS_AT(topology, 2, "s0.s2");
    IS_AT(topology, 3, "s0.s1");
    IS_AT(topology, 4, "");
    IS_AT(topology, 5, "");
    ck_assert_uint_eq(tc_hostlist_count(unknown), 1);
    ck_assert_str_eq(tc_hostlist_at(unknown, 0), "login");
    tc_topology_free(topology);
}
END_TEST

/* As scontrol prints it: a switch lists what hangs on those below it again. */
START_TEST(what_scontrol_says)
{
    static const char *const members[] = {"tux0", "tux5", "b7"};
    struct tc_topology *topology = reads("SwitchName=s0 Level=0 LinkSpeed=1 Nodes=tux[0-3]\n"
                                         "SwitchName=s1 Level=0 LinkSpeed=1 Nodes=tux[4-7] Switches=(null)\n"
                                         "SwitchName=s2 Level=1 LinkSpeed=1 Nodes=tux[0-7] Switches=s[0-1]\n",
                                         members, 2);
    IS_AT(topology, 0, "s2.s0");
    IS_AT(topology, 1, "s2.s1");
    tc_topology_free(topology);
    topology = reads("BlockName=k1 BlockIndex=0 Nodes=b[1-4] BlockSize=4\n"
                     "BlockName=k2 BlockIndex=1 Nodes=b[5-8] BlockSize=4\n"
                     "AggregatedBlock=k[1-2] BlockIndex=2 BlockSize=8 Nodes=b[1-8]\n"
                     "BlockSizes=4,8\n",
                     members + 2, 1);
    IS_AT(topology, 0, "k[1-2].k2");
    tc_topology_free(topology);
}
END_TEST

/* Agents on one host have ports that are part of their names. */
START_TEST(hosts_with_ports)
{
    static const char *const members[] = {"127.0.0.1:7201", "127.0.0.1:7203", "127.0.0.1:7209", "10.0.0.7:7117"};
    struct tc_topology *topology = reads("SwitchName=a Nodes=127.0.0.1:[7201-7202]\n"
                                         "SwitchName=b Nodes=127.0.0.1:[7203-7204],10.0.0.7\n",
                                         members, 4);
    IS_AT(topology, 0, "a");
    IS_AT(topology, 1, "b");
    IS_AT(topology, 2, "");
    IS_AT(topology, 3, "b");
    tc_topology_free(topology);
}
END_TEST

START_TEST(nonsense_is_refused_with_its_line)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "topology.conf:1: names no switch"},
        {"# nothing\n\n", "topology.conf:1: names no switch"},
        {"SwitchName=s1 Nodes=n1\nnonsense\n", "topology.conf:2: 'nonsense' is not KEY=VALUE"},
        {"SwitchName=s1 Node=n1\n", "topology.conf:1: unknown key 'Node'"},
        {"\n\nNodes=n1\n", "topology.conf:3: neither SwitchName="},
        {"SwitchName=s1\n", "topology.conf:1: s1 has neither Nodes="},
        {"SwitchName=s1 SwitchName=s2 Nodes=n1\n", "topology.conf:1: SwitchName is said twice"},
        {"SwitchName=s1 Nodes=n[1-\n", "topology.conf:1: host list: n[1-"},
        {"SwitchName=s1 Nodes=n[9-3]\n", "topology.conf:1: host list: n[9-3]"},
        {"SwitchName=s[1-2] Nodes=n1\n", "'s[1-2]' is not the name of one switch"},
        {"SwitchName=s1 Nodes=n1\nSwitchName=s1 Nodes=n2\n", "topology.conf:2: s1 is named in line 1 already"},
        {"SwitchName=s1 Nodes=n1\nSwitchName=s2 Nodes=n[1-2]\n", "topology.conf:2: n1 hangs on s1 already (line 1)"},
        {"SwitchName=s1 Nodes=n1\nSwitchName=s0 Switches=s[1-2]\n", "topology.conf:2: no line names the switch 's2'"},
        {"SwitchName=a Nodes=n1\nSwitchName=b Switches=a\nSwitchName=c Switches=a\n", "topology.conf:3: a is below b"},
        {"SwitchName=a Switches=b\nSwitchName=b Switches=a\n", "below itself"},
        {"SwitchName=a Switches=a\n", "below itself"},
        {"SwitchName=a\\\nNodes=n1 \\\nx\n", "topology.conf:1: 'x' is not"},
        {"SwitchName=\033[1m Nodes=n1\n", "topology.conf:1: "},
    };
    static const char *const members[] = {"n1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tc_err err = {0};
        ck_assert_msg(!tc_switches_read(bad[i].text, strlen(bad[i].text), "topology.conf", members, 1, unknown, &err),
                      "taken: %s", bad[i].text);
        ck_assert_msg(err.reason == TC_E_USAGE && strstr(err.text, bad[i].why), "%s: %s", bad[i].text, err.text);
        ck_assert_msg(!strpbrk(err.text, "\n\033"), "%s", err.text);
    }
}
END_TEST

START_TEST(bytes_that_are_no_text)
{
    static const char *const members[] = {"n1"};
    struct tc_err err = {0};
    ck_assert_ptr_null(tc_switches_read("SwitchName=a\0Nodes=n1", 21, "t", members, 1, unknown, &err));
    ck_assert_str_eq(err.text, "t:1: a zero byte is no text");
}
END_TEST

START_TEST(deep_and_wide)
{
    static const char *const members[] = {"n1"};
    char text[4000] = "SwitchName=s0 Nodes=n1\n";
    struct tc_err err = {0};
    for (unsigned i = 1; i < TC_GROUP_DEPTH_MAX; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "SwitchName=s%u Switches=s%u\n", i, i - 1);
    }
    tc_topology_free(reads(text, members, 1));
    strcat(text, "SwitchName=top Switches=s15\n");
    ck_assert_ptr_null(tc_switches_read(text, strlen(text), "t", members, 1, unknown, &err));
    ck_assert_msg(strstr(err.text, "more than 16 switches deep"), "%s", err.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("switches");
    TCase *tc = tcase_create("switches");
    tcase_add_checked_fixture(tc, begin, end);
    tcase_add_test(tc, switches_of_switches);
    tcase_add_test(tc, what_scontrol_says);
    tcase_add_test(tc, hosts_with_ports);
    tcase_add_test(tc, nonsense_is_refused_with_its_line);
    tcase_add_test(tc, bytes_that_are_no_text);
    tcase_add_test(tc, deep_and_wide);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
