#include "site/launch_request.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"

#define TEXT(text) ((char *)(uintptr_t)(text)) /* nothing writes to it */

static struct tc_err err;

static struct tc_launch_request sample(void)
{
    static struct tc_launch_request_host hosts[] = {
        {TEXT("n1"), NULL, 0}, {TEXT("n2"), NULL, 1}, {TEXT("n3.cluster"), TEXT("alice"), 5}};
    static char *options[] = {TEXT("--stay"), TEXT("--listen=0.0.0.0:7117")};
    return (struct tc_launch_request){.key = TEXT("treecast key 1\ngroup 00ff\norigin 11\n"),
                                      .join = TEXT("10.0.0.1:4242"),
                                      .launcher = TC_LAUNCH_SSH,
                                      .command = TEXT("ssh -o BatchMode=yes"),
                                      .program = TEXT("/opt/a b/treecast"),
                                      .dir = TEXT("/dev/shm/%h"),
                                      .options = options,
                                      .option_count = 2,
                                      .fan = 16,
                                      .patience = 9,
                                      .hosts = hosts,
                                      .host_count = 3};
}

/* Through a pipe that stays open behind it, as a launcher leaves it. */
static int read_back(struct tc_launch_request *request, const char *text, bool ended)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
    if (ended)
        close(ends[1]);
    err = (struct tc_err){0};
    int result = tc_launch_request_read(request, ends[0], &err);
    close(ends[0]);
    if (!ended)
        close(ends[1]);
    return result;
}

START_TEST(a_launch_request_arrives_as_it_was_written)
{
    struct tc_launch_request want = sample(), got;
    char *text = tc_launch_request_write(&want, 1, 2, TC_LAUNCH_SSH, true, false, &err);
    ck_assert_msg(read_back(&got, text, false) == 0, "%s", err.text);
    ck_assert_str_eq(got.key, want.key);
    ck_assert_str_eq(got.join, want.join);
    ck_assert_str_eq(got.command, want.command);
    ck_assert_str_eq(got.program, want.program);
    ck_assert_str_eq(got.dir, want.dir);
    ck_assert(got.launcher == TC_LAUNCH_SSH && got.fan == 16 && got.patience == 9 && got.self && !got.named);
    ck_assert_uint_eq(got.option_count, 2);
    ck_assert_str_eq(got.options[1], want.options[1]);
    ck_assert_uint_eq(got.host_count, 2);
    ck_assert_str_eq(got.hosts[1].name, "n3.cluster");
    ck_assert_str_eq(got.hosts[1].user, "alice");
    ck_assert_ptr_null(got.hosts[0].user);
    ck_assert_uint_eq(got.hosts[1].number, 5);
    tc_launch_request_free(&got);
    tc_launch_request_text_free(text);
    want.key = want.dir = NULL;
    text = tc_launch_request_write(&want, 0, 1, TC_LAUNCH_NONE, false, true, &err);
    ck_assert_ptr_null(strstr(text, "command"));
    ck_assert_int_eq(read_back(&got, text, false), 0);
    ck_assert(!got.key && !got.dir && !got.command && got.named && !got.self);
    tc_launch_request_free(&got);
    tc_launch_request_text_free(text);
}
END_TEST

START_TEST(what_is_no_launch_request_is_refused)
{
    static const char *const bad[] = {
        "hello\nend\n",
        "treecast launch-request 1\nend\n",
        "treecast launch-request 2\njoin a:1\nprogram p\nhost 0 a\nend\n",
        "treecast launch-request 1\njoin a:1\nprogram p\nend\n",
        "treecast launch-request 1\njoin a:1\nprogram p\nhost 0\nend\n",
        "treecast launch-request 1\njoin a:1\nprogram p\nhost 0 \nend\n",
        "treecast launch-request 1\njoin a:1\nprogram p\nhost 0 alice@\nend\n",
        "treecast launch-request 1\nprogram p\nhost 0 a\nend\n",
        "treecast launch-request 1\njoin a:1\nprogram p\nlauncher 1\nhost 0 a\nend\n",
        "treecast launch-request 1\njoin a:1\nprogram p\nsurprise x\nhost 0 a\nend\n",
        "treecast launch-request 1\njoin\nprogram p\nhost 0 a\nend\n",
    };
    struct tc_launch_request request;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(read_back(&request, bad[i], false) == -TC_E_FORMAT, "%s", bad[i]);
    ck_assert_int_eq(read_back(&request, "treecast launch-request 1\njoin a:1\n", true), -TC_E_CLOSED);
    ck_assert_int_eq(read_back(&request, "treecast launch-request 1\njoin a:1\nprogram p\nhost 7 a\nend\n", false), 0);
    ck_assert_uint_eq(request.hosts[0].number, 7);
    tc_launch_request_free(&request);
}
END_TEST

START_TEST(commands_are_filled_in)
{
    struct tc_launch_request_host host = {TEXT("n7"), NULL, 6};
    char *text = tc_launch_request_fill("ssh %h -n %n %i 100%%", &host, &err);
    ck_assert_str_eq(text, "ssh n7 -n 7 6 100%");
    free(text);
    ck_assert_ptr_null(tc_launch_request_fill("%x", &host, &err));
    ck_assert_int_eq(err.reason, TC_E_USAGE);
    ck_assert_ptr_null(tc_launch_request_fill("50%", &host, NULL));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("launch request");
    TCase *test = tcase_create("launch request");
    tcase_add_test(test, a_launch_request_arrives_as_it_was_written);
    tcase_add_test(test, what_is_no_launch_request_is_refused);
    tcase_add_test(test, commands_are_filled_in);
    suite_add_tcase(suite, test);
    return unit_run(suite);
}
