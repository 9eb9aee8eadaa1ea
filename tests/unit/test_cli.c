#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/host_options.h"
#include "cli/key_options.h"
#include "cli/show.h"
#include "cli/size.h"
#include "unit.h"

/* ---- a verb of our own with one option of each kind ---- */

struct all {
    bool flag;
    unsigned count, choice;
    const char *text;
    struct tc_texts list;
    uint64_t number, size, octal;
    double seconds;
    const char *left, *right; /* a family */
};

/* clang-format off */
static const struct tc_option all_options[] = {
    {.letter = 'f', .name = "force", .kind = TC_OPT_FLAG, TC_AT(struct all, flag), .help = "x"},
    {.letter = 'v', .name = "verbose", .kind = TC_OPT_COUNT, TC_AT(struct all, count), .help = "x"},
    {.letter = 'd', .name = "dir", .argument = "T", .kind = TC_OPT_TEXT, TC_AT(struct all, text), .help = "x"},
    {.letter = 'x', .name = "exclude", .argument = "L", .kind = TC_OPT_LIST, TC_AT(struct all, list), .help = "x"},
    {.name = "format", .argument = "C", .kind = TC_OPT_CHOICE, TC_AT(struct all, choice), .choices = "path|json|sh"},
    {.letter = 'p', .name = "port", .argument = "N", .kind = TC_OPT_NUMBER, .least = 1, .most = 65535,
     TC_AT(struct all, number), .help = "x"},
    {.letter = 's', .name = "chunk", .argument = "S", .kind = TC_OPT_SIZE, TC_AT(struct all, size), .help = "x"},
    {.name = "mode", .argument = "O", .kind = TC_OPT_OCTAL, .least = 0, .most = 0777, TC_AT(struct all, octal)},
    {.letter = 't', .name = "deadline", .argument = "S", .kind = TC_OPT_SECONDS, TC_AT(struct all, seconds)},
    {.name = "key-file", .argument = "F", .kind = TC_OPT_TEXT, .family = 1, TC_AT(struct all, left)},
    {.name = "key-fd", .argument = "N", .kind = TC_OPT_TEXT, .family = 1, TC_AT(struct all, right)},
    {.name = NULL},
};
/* clang-format on */

/* It is called send so that the sections of the configuration files know it. */
static const struct tc_verb all_verb = {
    .name = "send",
    .arguments = "SOURCE",
    .summary = "x",
    .options = all_options,
    .size = sizeof(struct all),
    .defaults = &(const struct all){.number = 7117, .octal = 0444},
    .most = 4,
};

static struct tc_values *values;
static const struct all *all;
static struct tc_err err;
static struct tc_call call;
static char folder[64], file[96];

static void set_up(void)
{
    err = (struct tc_err){0};
    values = tc_values_new(&all_verb, &err);
    all = tc_values_struct(values);
    snprintf(folder, sizeof folder, "/tmp/tc-cli-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/treecast.conf", folder);
}

static void tear_down(void)
{
    tc_values_free(values);
    unlink(file);
    rmdir(folder);
}

static int flags(const char *const *words)
{
    char *argv[16];
    int argc = 0;
    bool help;
    for (; words[argc]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc];
    argv[argc] = NULL;
    return tc_values_flags(values, argc, argv, &call, &help, &err);
}
#define FLAGS(...) flags((const char *const[]){"send", __VA_ARGS__, NULL})

static int environment(const char *entry)
{
    char *entries[] = {(char *)(uintptr_t) "PATH=/bin", (char *)(uintptr_t)entry, NULL};
    return tc_values_environment(values, entries, &err);
}

static int config(const char *text, bool system)
{
    FILE *out = fopen(file, "w");
    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    fclose(out);
    return tc_values_file(values, file, system, &err);
}

/* ---- the tables ---- */

START_TEST(test_tables_are_whole)
{
    for (size_t v = 0; tc_verbs[v]; v++) {
        const struct tc_verb *verb = tc_verbs[v];
        ck_assert_ptr_eq(tc_verb_find(verb->name), verb);
        ck_assert_ptr_nonnull(verb->run);
        for (const struct tc_option *option = verb->options; option->name; option++) {
            bool valueless = option->kind == TC_OPT_FLAG || option->kind == TC_OPT_COUNT;
            ck_assert_msg(valueless == !option->argument, "%s --%s", verb->name, option->name);
            ck_assert_msg(option->help && *option->help, "%s --%s has no help", verb->name, option->name);
            ck_assert_msg(option->offset < verb->size, "%s --%s lies outside", verb->name, option->name);
            ck_assert_msg(option->kind != TC_OPT_CHOICE || option->choices, "%s --%s", verb->name, option->name);
            ck_assert_msg(option->letter != 'h' && strcmp(option->name, "help") != 0, "%s: h is help's", verb->name);
            for (const struct tc_option *other = verb->options; other < option; other++) {
                ck_assert_msg(!option->letter || option->letter != other->letter, "%s -%c", verb->name, option->letter);
                ck_assert_msg(strcmp(option->name, other->name) != 0, "%s --%s", verb->name, option->name);
                ck_assert_msg(option->offset != other->offset, "%s --%s: same place", verb->name, option->name);
            }
        }
    }
}
END_TEST

/* One long option means one thing: the environment and [treecast] give it to every verb that has it. */
START_TEST(test_one_name_one_kind)
{
    for (size_t v = 0; tc_verbs[v]; v++)
        for (size_t w = 0; w < v; w++)
            for (const struct tc_option *a = tc_verbs[v]->options; a->name; a++)
                for (const struct tc_option *b = tc_verbs[w]->options; b->name; b++)
                    if (strcmp(a->name, b->name) == 0)
                        ck_assert_msg(a->kind == b->kind, "--%s of %s and %s", a->name, tc_verbs[v]->name,
                                      tc_verbs[w]->name);
}
END_TEST

START_TEST(test_help_has_every_option)
{
    for (size_t v = 0; tc_verbs[v]; v++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        tc_help_verb(out, tc_verbs[v]);
        fclose(out);
        for (const struct tc_option *option = tc_verbs[v]->options; option->name; option++) {
            char wanted[64], variable[64];
            snprintf(wanted, sizeof wanted, "--%s", option->name);
            tc_environment_name(option->name, variable, sizeof variable);
            ck_assert_ptr_nonnull(strstr(text, wanted));
            bool heard = !tc_verbs[v]->unattended && !option->spoken; /* in the environment */
            ck_assert_int_eq(strstr(text, variable) != NULL, heard);
        }
        free(text);
    }
}
END_TEST

/* ---- one value of each kind ---- */

START_TEST(test_every_kind)
{
    ck_assert_int_eq(
        FLAGS("-f", "-vv", "A", "--dir=/x", "-x", "a", "--exclude", "b,c", "--format", "sh", "-p", "80", "-s64K"), 0);
    ck_assert(all->flag);
    ck_assert_uint_eq(all->count, 2);
    ck_assert_str_eq(all->text, "/x");
    ck_assert_uint_eq(all->list.count, 2);
    ck_assert_str_eq(all->list.items[1], "b,c");
    ck_assert_uint_eq(all->choice, 2);
    ck_assert_uint_eq(all->number, 80);
    ck_assert_uint_eq(all->size, 65536);
    ck_assert_uint_eq(all->octal, 0444);
    ck_assert_uint_eq(call.count, 1);
    ck_assert_str_eq(call.operands[0], "A");
    ck_assert_ptr_null(call.operands[1]);
}
END_TEST

START_TEST(test_the_last_flag_counts)
{
    ck_assert_int_eq(FLAGS("-p", "1", "-p", "2", "--mode", "440"), 0);
    ck_assert_uint_eq(all->number, 2);
    ck_assert_uint_eq(all->octal, 0440);
}
END_TEST

START_TEST(test_operands_after_dashes)
{
    ck_assert_int_eq(FLAGS("A", "-f", "--", "-p", "x"), 0);
    ck_assert(all->flag);
    ck_assert_uint_eq(call.count, 3);
    ck_assert_uint_eq(call.after, 1);
    ck_assert_str_eq(call.operands[1], "-p");
    ck_assert_uint_eq(all->number, 7117);
}
END_TEST

START_TEST(test_no_dashes)
{
    ck_assert_int_eq(FLAGS("A", "B", "-f"), 0);
    ck_assert_uint_eq(call.after, 2);
}
END_TEST

static const struct {
    const char *words[3];
    const char *says;
} bad_flags[] = {
    {{"--frobnicate"}, "--frobnicate"},
    {{"-Z"}, "-Z"},
    {{"-fZ"}, "-Z"},
    {{"--force=yes"}, "--force takes no value"},
    {{"A", "--dir"}, "--dir needs a value"},
    {{"-p"}, "-p needs a value"},
    {{"-p", "0"}, "-p: '0' is not within 1 .. 65535"},
    {{"-p", "65536"}, "65535"},
    {{"-p", "-1"}, "is not a number"},
    {{"-p", "99999999999999999999999"}, "is not a number"},
    {{"--port", "80x"}, "--port: '80x' is not a number"},
    {{"--mode", "888"}, "is not an octal number"},
    {{"--mode", "1777"}, "0000 .. 0777"},
    {{"--format", "xml"}, "path|json|sh"},
    {{"--format", "pat"}, "path|json|sh"},
    {{"-s", "lots"}, "is not a size"},
    {{"-t", "-3"}, "is not a time"},
};

START_TEST(test_bad_flags)
{
    int result = FLAGS(bad_flags[_i].words[0], bad_flags[_i].words[1], bad_flags[_i].words[2]);
    ck_assert_int_eq(result, -TC_E_USAGE);
    ck_assert_msg(strstr(err.text, bad_flags[_i].says) != NULL, "%s", err.text);
}
END_TEST

START_TEST(test_too_many_operands)
{
    ck_assert_int_eq(FLAGS("1", "2", "3", "4", "five"), -TC_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "'five'"));
}
END_TEST

/* ---- who wins ---- */

START_TEST(test_precedence_downward)
{
    ck_assert_int_eq(FLAGS("-p", "6"), 0);
    ck_assert_int_eq(environment("TREECAST_PORT=5"), 0);
    ck_assert_int_eq(config("[send]\nport=4\n", false), 0);
    ck_assert_uint_eq(all->number, 6);
}
END_TEST

START_TEST(test_precedence_upward)
{
    ck_assert_int_eq(config("[send]\nport=2\n[treecast]\nport=1\n", true), 0);
    ck_assert_uint_eq(all->number, 2);
    ck_assert_int_eq(config("[treecast]\nport=3\n", false), 0);
    ck_assert_uint_eq(all->number, 3);
    ck_assert_int_eq(config("[send]\nport=4\n", false), 0);
    ck_assert_uint_eq(all->number, 4);
    ck_assert_int_eq(environment("TREECAST_PORT=5"), 0);
    ck_assert_uint_eq(all->number, 5);
    ck_assert_int_eq(FLAGS("-p", "6"), 0);
    ck_assert_uint_eq(all->number, 6);
}
END_TEST

START_TEST(test_lists_and_counts_are_replaced)
{
    ck_assert_int_eq(config("[send]\nexclude=a\nexclude=b\nverbose=2\n", false), 0);
    ck_assert_uint_eq(all->list.count, 2);
    ck_assert_uint_eq(all->count, 2);
    ck_assert_int_eq(FLAGS("-x", "c", "-v"), 0);
    ck_assert_uint_eq(all->list.count, 1);
    ck_assert_str_eq(all->list.items[0], "c");
    ck_assert_uint_eq(all->count, 1);
}
END_TEST

START_TEST(test_family)
{
    ck_assert_int_eq(environment("TREECAST_KEY_FILE=/k"), 0);
    ck_assert_str_eq(all->left, "/k");
    ck_assert_int_eq(FLAGS("--key-fd", "3"), 0);
    ck_assert_ptr_null(all->left);
    ck_assert_str_eq(all->right, "3");
    ck_assert_int_eq(config("[treecast]\nkey-file=/other\n", false), 0);
    ck_assert_ptr_null(all->left);
}
END_TEST

START_TEST(test_environment)
{
    ck_assert_int_eq(environment("TREECAST_FORCE=off"), 0);
    ck_assert(!all->flag);
    ck_assert_int_eq(environment("TREECAST_FORCE=Yes"), 0);
    ck_assert(all->flag);
    ck_assert_int_eq(environment("TREECAST_PORT="), 0);
    ck_assert_uint_eq(all->number, 7117);
    ck_assert_int_eq(environment("TREECAST_FORCE=perhaps"), -TC_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "TREECAST_FORCE: 'perhaps'"));
}
END_TEST

static const struct {
    const char *text, *says;
} bad_files[] = {
    {"[send]\nport=1\nprot=2\n", ":3: unknown key 'prot' in [send]"},
    {"# fine\n[treecast]\nnonsense=1\n", ":3: unknown key 'nonsense' in [treecast]"},
    {"[sned]\nport=1\n", ":2: unknown section [sned]"},
    {"[completion]\nport=1\n", ":2: unknown section"},
    {"port=1\n", ":1: 'port' stands before the first section"},
    {"[recv]\nmin-hosts=3\n", ":2: unknown key 'min-hosts' in [recv]"},
    {"[send]\nport=many\n", ":2: port: 'many' is not a number"},
    {"[send]\nport=1\nport=2\n", ":3: port: given twice"},
    {"[send]\nport=1\n  dir=/x\n", ":3: port: given twice"},
    {"[send]\nforce\nprot=1\n", ":2: neither [SECTION] nor KEY = VALUE"},
};

START_TEST(test_bad_files)
{
    ck_assert_int_eq(config(bad_files[_i].text, false), -TC_E_USAGE);
    ck_assert_msg(strstr(err.text, bad_files[_i].says) != NULL, "%s", err.text);
    ck_assert_msg(strstr(err.text, file) != NULL, "%s", err.text);
}
END_TEST

START_TEST(test_a_long_line)
{
    char text[1200] = "[send]\ndir=";
    memset(text + strlen(text), 'x', 1000);
    ck_assert_int_eq(config(text, false), -TC_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, ":2: longer than"));
}
END_TEST

START_TEST(test_file_that_others_write)
{
    ck_assert_int_eq(config("[send]\nport=1\n", false), 0);
    ck_assert_int_eq(chmod(file, 0666), 0);
    ck_assert_int_eq(tc_values_file(values, file, false, &err), -TC_E_POLICY);
    ck_assert_int_eq(tc_values_file(values, "/nowhere/at/all", false, NULL), 0);
}
END_TEST

START_TEST(test_hosts_from_everywhere)
{
    const char *lists[] = {"a[1-3]"}, *files[] = {file}, *out[] = {"a2"};
    config("b1 slots=4\n# none\n", false);
    struct tc_host_options options = {{lists, 1}, {files, 1}, {out, 1}};
    struct tc_hostlist *hosts = tc_host_options_gather(&options, NULL, &err);
    ck_assert_uint_eq(tc_hostlist_count(hosts), 3);
    ck_assert_str_eq(tc_hostlist_at(hosts, 2), "b1");
    tc_hostlist_free(hosts);
    setenv("WCOLL", file, 1);
    hosts = tc_host_options_gather(&(struct tc_host_options){.exclude = {out, 1}}, NULL, &err);
    ck_assert_uint_eq(tc_hostlist_count(hosts), 1);
    tc_hostlist_free(hosts);
    unsetenv("WCOLL");
    err = (struct tc_err){0};
    ck_assert_ptr_null(tc_host_options_gather(&(struct tc_host_options){.exclude = {out, 1}}, NULL, &err));
    ck_assert_int_eq(err.reason, TC_E_USAGE);
}
END_TEST

START_TEST(test_no_key_no_network)
{
    ck_assert_int_eq(tc_key_policy("send to", "127.0.0.1:7117", &err), 0);
    ck_assert_int_eq(tc_key_policy("send to", "[::1]:7117", &err), 0);
    ck_assert_int_eq(tc_key_policy("listen on", "0.0.0.0:7117", &err), -TC_E_POLICY);
    ck_assert_ptr_nonnull(strstr(err.text, "treecast keygen"));
    ck_assert_int_eq(tc_reason_exit(err.reason), 2);
}
END_TEST

/* ---- amounts ---- */

static const struct {
    const char *text;
    uint64_t bytes;
} sizes[] = {
    {"0", 0},         {"4096", 4096},     {"64K", 65536},        {"64kb", 65536},
    {"64KiB", 65536}, {"1.5g", 3u << 29}, {"2 GiB", 2ull << 30}, {"1T", 1ull << 40},
    {"0.5", 0},       {".5K", 512},       {"512B", 512},         {"3p", 3ull << 50},
};
static const char *const bad_sizes[] = {"",     "K",   "-1",    "1KK",    "1iB",   "1e3",
                                        "0x10", "nan", "1.2.3", "99999P", "1 K x", " 1"};

START_TEST(test_sizes)
{
    uint64_t bytes;
    ck_assert_int_eq(tc_size_parse(&bytes, sizes[_i].text, &err), 0);
    ck_assert_uint_eq(bytes, sizes[_i].bytes);
}
END_TEST

START_TEST(test_bad_sizes)
{
    uint64_t bytes;
    ck_assert_int_eq(tc_size_parse(&bytes, bad_sizes[_i], &err), -TC_E_USAGE);
}
END_TEST

START_TEST(test_amounts)
{
    char text[TC_AMOUNT_TEXT];
    double seconds;
    ck_assert_str_eq(tc_size_print(text, 0), "0 B");
    ck_assert_str_eq(tc_size_print(text, 1023), "1023 B");
    ck_assert_str_eq(tc_size_print(text, 65536), "64 KiB");
    ck_assert_str_eq(tc_size_print(text, 3328599654), "3.1 GiB");
    ck_assert_str_eq(tc_size_print(text, (1ull << 30) - 1), "1 GiB");
    ck_assert_str_eq(tc_size_print(text, UINT64_MAX), "16 EiB");
    ck_assert_str_eq(tc_rate_print(text, 0.0 / 1), "0 B/s");
    ck_assert_str_eq(tc_seconds_print(text, 0.421), "0.42 s");
    ck_assert_str_eq(tc_seconds_print(text, 59.96), "1:00");
    ck_assert_str_eq(tc_seconds_print(text, 3725), "1:02:05");
    ck_assert_str_eq(tc_seconds_print(text, -1), "-");
    ck_assert_int_eq(tc_seconds_parse(&seconds, "1.5m", &err), 0);
    ck_assert(seconds > 89.9 && seconds < 90.1);
    ck_assert_int_eq(tc_seconds_parse(&seconds, "5 m", &err), -TC_E_USAGE);
    err = (struct tc_err){0};
    ck_assert_int_eq(tc_seconds_parse(&seconds, "5mm", &err), -TC_E_USAGE);
}
END_TEST

/* ---- what a broadcast shows ---- */

static double clock_now;

static double fake_clock(void)
{
    return clock_now;
}

static const char *const names[] = {"n1", "n2", "n3", "n4"};

struct stage {
    struct tc_show *show;
    struct tc_send_host rows[4];
    struct tc_send_report report;
    char *out, *shown;
    size_t out_size, shown_size;
    struct tc_show_options options;
};

static void stage_open(struct stage *stage, bool json, bool tty, unsigned quiet)
{
    *stage = (struct stage){.report = {.host_count = 4, .size = 1 << 30, .slowest = 4, .min_hosts = 4}};
    stage->report.hosts = stage->rows;
    stage->report.tree = (struct tc_tree_spec){.kind = TC_TREE_DOUBLE};
    stage->options = (struct tc_show_options){.terminal = -1,
                                              .json = json,
                                              .tty = tty,
                                              .quiet = quiet,
                                              .name = "A.npy",
                                              .hosts = names,
                                              .host_count = 4,
                                              .now = fake_clock};
    stage->options.out = open_memstream(&stage->out, &stage->out_size);
    stage->options.err = open_memstream(&stage->shown, &stage->shown_size);
    clock_now = 100;
    stage->show = tc_show_new(&stage->options, NULL);
    for (size_t i = 0; i < 4; i++)
        stage->rows[i].host = names[i];
}

static void stage_host(struct stage *stage, size_t host, enum tc_host_state state, const char *why)
{
    stage->rows[host].state = state;
    if (why)
        tc_fail(&stage->rows[host].why, TC_E_NOSPACE, "%s", why);
    stage->report.counts[state]++;
    tc_show_news(stage->show, &(struct tc_send_news){.kind = TC_NEWS_HOST, .report = &stage->report, .host = host});
}

static void stage_progress(struct stage *stage, double seconds, uint64_t low, uint64_t sum)
{
    clock_now += seconds;
    tc_show_news(
        stage->show,
        &(struct tc_send_news){.kind = TC_NEWS_PROGRESS, .report = &stage->report, .bytes_low = low, .bytes_sum = sum});
    fflush(stage->options.err);
    fflush(stage->options.out);
}

static void stage_close(struct stage *stage)
{
    fclose(stage->options.out);
    fclose(stage->options.err);
    tc_show_free(stage->show);
    free(stage->out);
    free(stage->shown);
}

static void stage_end(struct stage *stage, int code, const struct tc_err *why)
{
    stage->report.total = 12.3;
    tc_show_end(stage->show, &stage->report, code, why);
}

START_TEST(test_failed_hosts_are_folded)
{
    struct stage stage;
    stage_open(&stage, false, false, 0);
    stage_host(&stage, 1, TC_HOST_REFUSED, "no space (needs 8 GiB, has 3.1 GiB)");
    stage_host(&stage, 2, TC_HOST_REFUSED, "no space (needs 8 GiB, has 3.1 GiB)");
    stage_host(&stage, 0, TC_HOST_PUBLISHED, NULL);
    stage_host(&stage, 3, TC_HOST_UNCHANGED, NULL);
    struct tc_err why = {0};
    tc_fail(&why, TC_E_NOSPACE, "2 of 4 hosts failed");
    stage_end(&stage, 6, &why);
    ck_assert_str_eq(stage.shown,
                     "n[2-3]: refused: no space (needs 8 GiB, has 3.1 GiB)\ntreecast send: 2 of 4 hosts failed\n");
    ck_assert_str_eq(stage.out, "A.npy: 1 GiB to 2 of 4 hosts in 12.3 s, 1 had it already, 83.3 MiB/s\n");
    stage_close(&stage);
}
END_TEST

START_TEST(test_progress_off_a_terminal)
{
    struct stage stage;
    stage_open(&stage, false, false, 0);
    tc_show_news(stage.show, &(struct tc_send_news){.kind = TC_NEWS_PLAN, .report = &stage.report});
    stage_progress(&stage, 29, 1 << 20, 4 << 20);
    ck_assert_uint_eq(stage.shown_size, 0);
    stage.report.slowest = 2;
    stage_progress(&stage, 2, 1 << 28, 1ull << 31);
    ck_assert_str_eq(stage.shown, "A.npy: 512 MiB of 1 GiB, 16.5 MiB/s, 1:33 left, 0 of 4 hosts, slowest n3\n");
    stage_close(&stage);
}
END_TEST

START_TEST(test_bar_goes)
{
    struct stage stage;
    stage_open(&stage, false, true, 0);
    tc_show_news(stage.show, &(struct tc_send_news){.kind = TC_NEWS_PLAN, .report = &stage.report});
    stage_progress(&stage, 1, 1 << 28, 1ull << 31);
    ck_assert_ptr_nonnull(strstr(stage.shown, "A.npy [=====>     ]  50% 512 MiB of 1 GiB"));
    stage_end(&stage, 0, NULL);
    ck_assert_str_eq(stage.shown + stage.shown_size - 4, "\r\033[K");
    stage_close(&stage);
}
END_TEST

START_TEST(test_quiet)
{
    struct stage stage;
    stage_open(&stage, false, true, 1);
    stage_progress(&stage, 100, 1, 1);
    stage_host(&stage, 1, TC_HOST_LOST, "gone");
    stage_end(&stage, 3, NULL);
    ck_assert_str_eq(stage.shown, "n2: lost: gone\n");
    ck_assert_str_eq(stage.out, "");
    stage_close(&stage);
}
END_TEST

/* Every line is an object with schema 1 and a type; every host has one line; the last is the only end. */
START_TEST(test_json_lines)
{
    struct stage stage;
    struct tc_err why = {0};
    size_t hosts = 0, ends = 0;
    stage_open(&stage, true, true, 0);
    tc_show_news(stage.show, &(struct tc_send_news){.kind = TC_NEWS_PLAN, .report = &stage.report});
    stage_progress(&stage, 2, 1 << 28, 1ull << 31);
    stage_host(&stage, 0, TC_HOST_PUBLISHED, NULL);
    stage_host(&stage, 1, TC_HOST_REFUSED, "no space");
    stage.rows[2].state = stage.rows[3].state = TC_HOST_ABORTED; /* nobody told of these */
    tc_fail(&why, TC_E_FAILED, "3 of 4 hosts failed");
    stage_end(&stage, _i ? 1 : 3, _i ? &why : NULL);
    for (char *line = strtok(stage.out, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *object = json_loads(line, 0, NULL);
        const char *type = json_string_value(json_object_get(object, "type"));
        ck_assert_int_eq(json_integer_value(json_object_get(object, "schema")), 1);
        ck_assert_uint_eq(ends, 0);
        hosts += strcmp(type, "host") == 0;
        if (strcmp(type, _i ? "error" : "summary") == 0) {
            ends++;
            ck_assert_int_eq(json_integer_value(json_object_get(object, "exit")), _i ? 1 : 3);
        }
        json_decref(object);
    }
    ck_assert_uint_eq(hosts, 4);
    ck_assert_uint_eq(ends, 1);
    ck_assert_ptr_null(strstr(stage.shown, "\033"));
    stage_close(&stage);
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(table)[0]))

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *tables = tcase_create("tables");
    tcase_add_test(tables, test_tables_are_whole);
    tcase_add_test(tables, test_one_name_one_kind);
    tcase_add_test(tables, test_help_has_every_option);
    suite_add_tcase(suite, tables);
    TCase *sources = tcase_create("sources");
    tcase_add_checked_fixture(sources, set_up, tear_down);
    tcase_add_test(sources, test_every_kind);
    tcase_add_test(sources, test_the_last_flag_counts);
    tcase_add_test(sources, test_operands_after_dashes);
    tcase_add_test(sources, test_no_dashes);
    tcase_add_loop_test(sources, test_bad_flags, 0, COUNT(bad_flags));
    tcase_add_test(sources, test_too_many_operands);
    tcase_add_test(sources, test_precedence_downward);
    tcase_add_test(sources, test_precedence_upward);
    tcase_add_test(sources, test_lists_and_counts_are_replaced);
    tcase_add_test(sources, test_family);
    tcase_add_test(sources, test_environment);
    tcase_add_loop_test(sources, test_bad_files, 0, COUNT(bad_files));
    tcase_add_test(sources, test_a_long_line);
    tcase_add_test(sources, test_file_that_others_write);
    tcase_add_test(sources, test_hosts_from_everywhere);
    tcase_add_test(sources, test_no_key_no_network);
    suite_add_tcase(suite, sources);
    TCase *amounts = tcase_create("amounts");
    tcase_add_checked_fixture(amounts, set_up, tear_down);
    tcase_add_loop_test(amounts, test_sizes, 0, COUNT(sizes));
    tcase_add_loop_test(amounts, test_bad_sizes, 0, COUNT(bad_sizes));
    tcase_add_test(amounts, test_amounts);
    suite_add_tcase(suite, amounts);
    TCase *show = tcase_create("show");
    tcase_add_test(show, test_failed_hosts_are_folded);
    tcase_add_test(show, test_progress_off_a_terminal);
    tcase_add_test(show, test_bar_goes);
    tcase_add_test(show, test_quiet);
    tcase_add_loop_test(show, test_json_lines, 0, 2);
    suite_add_tcase(suite, show);
    return unit_run(suite);
}
