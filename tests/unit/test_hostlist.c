#include "plan/hostfile.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "unit.h"

static struct tc_hostlist *read_list(const char *text)
{
    struct tc_err err = {0};
    struct tc_hostlist *list = tc_hostlist_new(&err);
    ck_assert_msg(list && tc_hostlist_add(list, text, &err) == 0, "%s", err.text);
    return list;
}

/* The hosts in their order, joined by blanks. Static memory. */
static const char *spell(const struct tc_hostlist *list)
{
    static char text[4096];
    text[0] = '\0';
    for (size_t i = 0; i < tc_hostlist_count(list); i++) {
        strcat(text, i ? " " : "");
        strcat(text, tc_hostlist_at(list, i));
    }
    return text;
}

struct pair {
    const char *text, *want;
};

START_TEST(lists_expand)
{
    static const struct pair pairs[] = {
        {"", ""},
        {"node1", "node1"},
        {"a,b c\t,\n,d", "a b c d"},
        {"node[001-003,200]", "node001 node002 node003 node200"},
        {"node[8-11]", "node8 node9 node10 node11"},
        {"node[08-10]-ib", "node08-ib node09-ib node10-ib"},
        {"node[098-101]", "node098 node099 node100 node101"},
        {"[1-2]x", "1x 2x"},
        {"r[1-2]n[1-2]:[7201-7202]", "r1n1:7201 r1n1:7202 r1n2:7201 r1n2:7202 r2n1:7201 r2n1:7202 r2n2:7201 r2n2:7202"},
        {"node7:7200", "node7:7200"},
        {"127.0.0.1:[7201-7203]", "127.0.0.1:7201 127.0.0.1:7202 127.0.0.1:7203"},
        {"10.0.[0-1].[1-2]", "10.0.0.1 10.0.0.2 10.0.1.1 10.0.1.2"},
        {"[fe80::1]:7117,[::1],[fe80::2%eth0]:1", "[fe80::1]:7117 [::1] [fe80::2%eth0]:1"},
        {"[::1]:[7201-7202]", "[::1]:7201 [::1]:7202"},
        {"b,a,b,a[1-2],a1", "b a a1 a2"},
        {"node[0,00,000]", "node0 node00 node000"},
        {"node[999999999999999999]", "node999999999999999999"},
        {"node01,n[05-07]", "node01 n05 n06 n07"},
        {"n[0-10/2],m[08-20/4]", "n0 n2 n4 n6 n8 n10 m08 m12 m16 m20"},
        {"n[3-5/9]", "n3"},
        {"1a,10.0.0.1,4-5", "1a 10.0.0.1 4-5"},
        {"alice@n[1-2],bob@n2,carol@n3:7200,d.e+f@[::1]:1", "n1 n2 n3:7200 [::1]:1"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct tc_hostlist *list = read_list(pairs[i].text);
        ck_assert_str_eq(spell(list), pairs[i].want);
        tc_hostlist_free(list);
    }
    struct tc_hostlist *list = read_list("n[08-100]");
    ck_assert_str_eq(tc_hostlist_at(list, 0), "n08");
    ck_assert_str_eq(tc_hostlist_at(list, 92), "n100");
    tc_hostlist_free(list);
}
END_TEST

START_TEST(mistakes_are_named_and_change_nothing)
{
    static const struct pair pairs[] = {
        {"node[1-3", "'[' without ']'"},
        {"node1-3]", "']' without '['"},
        {"node[[1-3]]", "'[' inside brackets"},
        {"node[]", "empty range"},
        {"node[1,]", "empty range"},
        {"node[,1]", "empty range"},
        {"node[9-3]", "range '9-3' counts down"},
        {"node[10-9]", "counts down"},
        {"node[1-03]", "changes its width"},
        {"node[1-]", "is not N, N-N or N-N/STEP"},
        {"node[-1]", "is not N, N-N or N-N/STEP"},
        {"node[1-2-3]", "is not N, N-N or N-N/STEP"},
        {"node[a-c]", "is not N, N-N or N-N/STEP"},
        {"node[1-9/]", "is not N, N-N or N-N/STEP"},
        {"node[1/2]", "is not N, N-N or N-N/STEP"},
        {"node[1-9/2/3]", "is not N, N-N or N-N/STEP"},
        {"node[1-9/0]", "a step of 0"},
        {"4", "a number is no host"},
        {"127.1", "a number is no host"},
        {"10.0.0.256", "a number is no host"},
        {"[1-3]", "a number is no host"},
        {"node[1234567890123456789]", "more than 18 digits"},
        {"node[0-999999999]", "more than 65536 hosts"},
        {"node[0-999999999999999999]", "more than 65536 hosts"},
        {"n[1-1000][1-1000]", "more than 65536 hosts"},
        {"n[1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1][1,1]", "more than"},
        {"n[1-65533],m1", "m1: more than 65536 hosts"},
        {"node:0", "port '0'"},
        {"node:65536", "port '65536' is not 1 to 65535"},
        {"node:", "port ''"},
        {"node:07", "port '07'"},
        {"node:7x", "port '7x'"},
        {":7117", "no name"},
        {"fe80::1", "goes in brackets"},
        {"[fe80::zz]", "no IPv6 address"},
        {"[fe80::1]7", "only a port"},
        {"[fe80::1%]", "no IPv6 address"},
        {"-oProxyCommand=x", "begins with a letter"},
        {"a/b", "'/' is in no host's name"},
        {"@host", "before '@' stands no user's name"},
        {"-l@host", "before '@' stands no user's name"},
        {"a b@c@host", "'@' is in no host's name"},
        {"a'b@host", "before '@' stands no user's name"},
        {"user@", "no name"},
        {"n\303\266de", "\\xc3"},
        {"ok1 ok2 bad\033[1]", "bad\\x1b"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct tc_err err = {0};
        struct tc_hostlist *list = read_list("first[1-3]");
        ck_assert_msg(tc_hostlist_add(list, pairs[i].text, &err) == -TC_E_USAGE, "'%s' was taken", pairs[i].text);
        ck_assert_msg(strstr(err.text, pairs[i].want), "%s: %s", pairs[i].text, err.text);
        ck_assert_str_eq(spell(list), "first1 first2 first3");
        ck_assert_int_eq(tc_hostlist_add(list, "first2 m1", NULL), 0);
        ck_assert_str_eq(spell(list), "first1 first2 first3 m1");
        tc_hostlist_free(list);
    }
}
END_TEST

START_TEST(long_words_end_in_an_error)
{
    char text[2000];
    struct tc_err err = {0};
    struct tc_hostlist *list = read_list("");
    memset(text, 'a', sizeof text);
    text[TC_HOST_TEXT_MAX - 1] = '\0';
    ck_assert_int_eq(tc_hostlist_add(list, text, NULL), 0);
    text[TC_HOST_TEXT_MAX - 1] = 'a';
    text[TC_HOST_TEXT_MAX] = '\0';
    ck_assert_int_eq(tc_hostlist_add(list, text, &err), -TC_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "longer than 255 bytes"));
    memcpy(text + TC_HOST_TEXT_MAX - 3, "[1-100]", 8); /* the third digit finds no space */
    ck_assert_int_eq(tc_hostlist_add(list, text, NULL), -TC_E_USAGE);
    ck_assert_uint_eq(tc_hostlist_count(list), 1);
    tc_hostlist_free(list);
}
END_TEST

START_TEST(users_go_with_their_hosts)
{
    struct tc_hostlist *list = read_list("a@n1,n2,b@n[3-4]");
    ck_assert_str_eq(tc_hostlist_user(list, 0), "a");
    ck_assert_ptr_null(tc_hostlist_user(list, 1));
    ck_assert_str_eq(tc_hostlist_user(list, 3), "b");
    ck_assert_int_eq(tc_hostlist_exclude(list, "x@n2,n3", NULL), 0);
    ck_assert_str_eq(spell(list), "n1 n4");
    ck_assert_str_eq(tc_hostlist_user(list, 1), "b");
    char *folded = tc_hostlist_fold(list, NULL);
    ck_assert_str_eq(folded, "n[1,4]");
    free(folded);
    tc_hostlist_free(list);
}
END_TEST

/* Files that include each other: "/d/a" is 1, "/d/b" is 2, and so on; "/d/self" includes itself. */
static int read_test_file(void *arg, const char *path, char **bytes, size_t *size, struct tc_err *err)
{
    static const struct pair files[] = {
        {"/d/more", "m[1-2]\n#include /d/most\n"}, {"/d/most", "m9 # last\n"}, {"/d/self", "s1\n#include self\n"}};
    (void)arg;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(path, files[i].text) == 0) {
            *bytes = strdup(files[i].want);
            *size = strlen(files[i].want);
            return 0;
        }
    return tc_fail(err, TC_E_USAGE, "%s: not here", path);
}

static int add_file(struct tc_hostlist *list, const char *bytes, size_t size, const char *what,
                    enum tc_hostfile_form form, struct tc_err *err)
{
    struct tc_hostfile_source source = {.form = form, .read = read_test_file};
    return tc_hostfile_add(list, bytes, size, what, &source, err);
}

START_TEST(host_files)
{
    static const struct {
        enum tc_hostfile_form form;
        const char *text, *want;
    } files[] = {
        {TC_HOSTFILE_LISTS, "# the cluster\nnode1 slots=4 # first\n\nnode[2-3] max_slots=8\r\n  node4:7200,node1\nlast",
         "node1 node2 node3 node4:7200 last"},
        {TC_HOSTFILE_LISTS, "node1 slots = 4\nnode2 slots= 4 max-slots =8\nnode3 =\n", "node1 node2"},
        {TC_HOSTFILE_LISTS, "// ours\nu@n1 slots=2 // two\nn2\n", "n1 n2"},
        {TC_HOSTFILE_LISTS, "n[0-4/2]\n#include more\n#included is a comment\nz\n", "n0 n2 n4 m1 m2 m9 z"},
        {TC_HOSTFILE_LISTS, "n1:1024 127.0.0.1:[7201-7202] [::1]:7117",
         "n1:1024 127.0.0.1:7201 127.0.0.1:7202 [::1]:7117"},
        {TC_HOSTFILE_LISTS, "", ""},
        {TC_HOSTFILE_SLOTS, "n1:4\nn2:4:ib0\nu@n3 slots=2\n// no\n  n4 16 all.q@n4 UNDEFINED\n#no\n\nn1:1\n[::1]:3",
         "n1 n2 n3 n4 [::1]"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct tc_err err = {0};
        struct tc_hostlist *list = read_list("");
        int result = add_file(list, files[i].text, strlen(files[i].text), "/d/hosts", files[i].form, &err);
        ck_assert_msg(result == 0, "%s", err.text);
        ck_assert_str_eq(spell(list), files[i].want);
        tc_hostlist_free(list);
    }
}
END_TEST

START_TEST(mistakes_in_files_are_named_by_line)
{
    static const struct {
        enum tc_hostfile_form form;
        const char *text, *want;
    } files[] = {
        {TC_HOSTFILE_LISTS, "a\n\nb[1-\n", "/d/hosts:3: "},
        {TC_HOSTFILE_LISTS, "a\nn1:4\n", "/d/hosts:2: 'n1:4' looks like MPICH's host:processes"},
        {TC_HOSTFILE_LISTS, "n[1,2]:4:ib0\n", "/d/hosts:1: 'n[1,2]:4:ib0' looks like MPICH's"},
        {TC_HOSTFILE_LISTS, "a\n4\n", "/d/hosts:2: host list: 4: a number is no host"},
        {TC_HOSTFILE_LISTS, "#include\t\n", "/d/hosts:1: #include names no file"},
        {TC_HOSTFILE_LISTS, "#include nowhere\n", "/d/hosts:1: /d/nowhere: not here"},
        {TC_HOSTFILE_LISTS, "#include self\n", "8 inside each other"},
        {TC_HOSTFILE_SLOTS, "a\n-x\n", "/d/hosts:2: "},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct tc_err err = {0};
        struct tc_hostlist *list = read_list("first");
        int result = add_file(list, files[i].text, strlen(files[i].text), "/d/hosts", files[i].form, &err);
        ck_assert_int_eq(result, -TC_E_USAGE);
        ck_assert_msg(strstr(err.text, files[i].want), "%s", err.text);
        ck_assert_str_eq(spell(list), "first");
        tc_hostlist_free(list);
    }
    static const char zero[] = "a\nb\0c\n";
    struct tc_hostlist *list = read_list("first");
    ck_assert_int_eq(add_file(list, zero, sizeof zero - 1, "zero", TC_HOSTFILE_LISTS, NULL), -TC_E_USAGE);
    ck_assert_int_eq(add_file(list, NULL, 0, "empty", TC_HOSTFILE_LISTS, NULL), 0);
    ck_assert_str_eq(spell(list), "first");
    tc_hostlist_free(list);
}
END_TEST

START_TEST(exclusion)
{
    struct tc_hostlist *list = read_list("n[1-6],n7:[1-2],n8:[1-2],[::1]:5,[::2]:5");
    ck_assert_int_eq(tc_hostlist_exclude(list, "n[2-4],n7,n8:2,[::1],n6:9,other", NULL), 0);
    ck_assert_str_eq(spell(list), "n1 n5 n6 n8:1 [::2]:5");
    ck_assert_int_eq(tc_hostlist_exclude(list, "n[", NULL), -TC_E_USAGE);
    ck_assert_int_eq(tc_hostlist_add(list, "n1,n2", NULL), 0); /* the set knows who went and who stayed */
    ck_assert_str_eq(spell(list), "n1 n5 n6 n8:1 [::2]:5 n2");
    ck_assert_int_eq(tc_hostlist_exclude(list, "n[1-9] [::2]", NULL), 0);
    ck_assert_uint_eq(tc_hostlist_count(list), 0);
    tc_hostlist_free(list);
}
END_TEST

START_TEST(folded_forms)
{
    static const struct pair pairs[] = {
        {"", ""},
        {"node7", "node7"},
        {"node3,node1,node2", "node[1-3]"},
        {"node[001-128,200]", "node[001-128,200]"},
        {"node7,node[001-003]", "node[7,001-003]"},
        {"n[8-11]", "n[8-11]"},
        {"n[08-11]", "n[08-11]"},
        {"n[098-101]", "n[098-101]"},
        {"n9,n09,n10", "n[9,09-10]"},
        {"127.0.0.1:[7201-7208]", "127.0.0.1:[7201-7208]"},
        {"node[1-3]:7117", "node[1-3]:7117"},
        {"10.0.0.[1-9]", "10.0.0.[1-9]"},
        {"rack[1-3]node[01-04]:[7201-7202]", "rack[1-3]node[01-04]:[7201-7202]"},
        {"[fe80::1]:[7201-7202],[fe80::2]", "[fe80::1]:[7201-7202],[fe80::2]"},
        {"[1-3]a,[5-6]a:8", "[1-3]a,[5-6]a:8"},
        {"node10,node9,login,node2-ib,node1-ib", "login,node[1-2]-ib,node[9-10]"},
        {"a1,a3,a5", "a[1,3,5]"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct tc_hostlist *list = read_list(pairs[i].text);
        char *folded = tc_hostlist_fold(list, NULL);
        ck_assert_str_eq(folded, pairs[i].want);
        free(folded);
        tc_hostlist_free(list);
    }
}
END_TEST

/* Both lists hold the same hosts. */
static void check_same(struct tc_hostlist *one, const struct tc_hostlist *two, const char *folded)
{
    size_t count = tc_hostlist_count(one);
    ck_assert_msg(count == tc_hostlist_count(two), "%s", folded);
    for (size_t i = 0; i < count; i++)
        if (tc_hostlist_add(one, tc_hostlist_at(two, i), NULL) != 0)
            ck_abort_msg("%s: %s", folded, tc_hostlist_at(two, i));
    ck_assert_msg(count == tc_hostlist_count(one), "%s", folded);
}

/* A host of few letters and few numbers, so that sets of them have neighbours, gaps, widths and doubles. */
static const char *random_host(char *text, size_t size)
{
    static const char *const forms[] = {
        "n%d",   "n%02d",   "n%03d-ib",       "r%dn%02d",   "10.0.%d.%d", "h%d:72%02d",
        "%da",   "%d.x%d",  "[fe80::1]:%d%d", "[fe80::%d]", "a%db%dc%d",  "n%d00000000000000000%d",
        "login", "x%d:7117"};
    int numbers[3];
    for (int i = 0; i < 3; i++)
        numbers[i] = rand() % (rand() % 2 ? 13 : 3) + (i == 0);
    if (rand() % 8 == 0)
        numbers[0] += 95;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, size, forms[(size_t)rand() % (sizeof forms / sizeof forms[0])], numbers[0], numbers[1], numbers[2]);
#pragma GCC diagnostic pop
    return text;
}

START_TEST(fold_reads_back)
{
    srand(1);
    for (int round = 0; round < 3000; round++) {
        struct tc_hostlist *list = read_list("");
        int count = rand() % 60;
        for (int i = 0; i < count; i++) {
            char host[64];
            struct tc_err err = {0};
            ck_assert_msg(tc_hostlist_add(list, random_host(host, sizeof host), &err) == 0, "%s", err.text);
        }
        char *folded = tc_hostlist_fold(list, NULL);
        struct tc_hostlist *again = read_list(folded);
        check_same(list, again, folded);
        char *twice = tc_hostlist_fold(again, NULL);
        ck_assert_str_eq(folded, twice); /* the folded form depends on the set, not on its order */
        free(twice);
        tc_hostlist_free(again);
        free(folded);
        tc_hostlist_free(list);
    }
}
END_TEST

START_TEST(the_largest_list_is_quick)
{
    clock_t start = clock();
    struct tc_hostlist *list = read_list("rack[1-64]node[0001-1024],rack[1-64]node[0001-1024]");
    ck_assert_uint_eq(tc_hostlist_count(list), TC_HOSTS_MAX);
    char *folded = tc_hostlist_fold(list, NULL);
    ck_assert_str_eq(folded, "rack[1-64]node[0001-1024]");
    free(folded);
    ck_assert_int_eq(tc_hostlist_exclude(list, "rack[2-64]node[0001-1024]", NULL), 0);
    ck_assert_uint_eq(tc_hostlist_count(list), 1024);
    tc_hostlist_free(list);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    ck_assert_msg(seconds < 5, "%.1f s of CPU", seconds); /* a fraction of a second; sanitizers are slower */
}
END_TEST

START_TEST(hosts_come_apart)
{
    char name[TC_HOST_TEXT_MAX], small[4];
    uint16_t port = 1;
    ck_assert_int_eq(tc_host_split("node7", name, sizeof name, &port, NULL), 0);
    ck_assert_str_eq(name, "node7");
    ck_assert_uint_eq(port, 0);
    ck_assert_int_eq(tc_host_split("node7:65535", name, sizeof name, &port, NULL), 0);
    ck_assert_str_eq(name, "node7");
    ck_assert_uint_eq(port, 65535);
    ck_assert_int_eq(tc_host_split("[fe80::1%eth0]:7117", name, sizeof name, &port, NULL), 0);
    ck_assert_str_eq(name, "fe80::1%eth0");
    ck_assert_uint_eq(port, 7117);
    ck_assert_int_eq(tc_host_split("[::1]", name, sizeof name, &port, NULL), 0);
    ck_assert_uint_eq(port, 0);
    ck_assert_int_eq(tc_host_split("node", small, sizeof small, &port, NULL), -TC_E_USAGE);
    static const char *const bad[] = {
        "", "[", "[]", "[]:1", "[::1", "[::1]:", "[::1]:x", "a b", "a:1:2", "a[1]", "[a]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(tc_host_split(bad[i], name, sizeof name, &port, NULL) == -TC_E_USAGE, "'%s' was taken", bad[i]);
}
END_TEST

/* Any bytes end in a list or an error, and what is in the list then folds and reads back. */
START_TEST(noise_is_survived)
{
    static const char bytes[] = "n0123459[[]],,--::. \t\n#=x%\001\377";
    srand(2);
    for (int round = 0; round < 100000; round++) {
        char text[24];
        size_t size = (size_t)rand() % sizeof text;
        for (size_t i = 0; i < size; i++)
            text[i] = bytes[(size_t)rand() % (sizeof bytes - 1)];
        text[size] = '\0';
        struct tc_hostlist *list = tc_hostlist_new(NULL);
        if (tc_hostlist_add(list, text, NULL) == 0 && tc_hostlist_count(list) < 2000) {
            char *folded = tc_hostlist_fold(list, NULL);
            struct tc_hostlist *again = read_list(folded);
            check_same(list, again, folded);
            tc_hostlist_free(again);
            free(folded);
        }
        add_file(list, text, size, "noise", round % 2 ? TC_HOSTFILE_LISTS : TC_HOSTFILE_SLOTS, NULL);
        tc_hostlist_free(list);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hostlist");
    TCase *tc = tcase_create("hostlist");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, lists_expand);
    tcase_add_test(tc, mistakes_are_named_and_change_nothing);
    tcase_add_test(tc, long_words_end_in_an_error);
    tcase_add_test(tc, users_go_with_their_hosts);
    tcase_add_test(tc, host_files);
    tcase_add_test(tc, mistakes_in_files_are_named_by_line);
    tcase_add_test(tc, exclusion);
    tcase_add_test(tc, folded_forms);
    tcase_add_test(tc, fold_reads_back);
    tcase_add_test(tc, the_largest_list_is_quick);
    tcase_add_test(tc, hosts_come_apart);
    tcase_add_test(tc, noise_is_survived);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
