/* The loop: timers, calls from other threads and put-off ones, descriptors, signals. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_world.h"

static struct tc_loop *loop;
static char trace[64];
static struct tc_timer *timers[4];
static unsigned count;

static void setup(void)
{
    loop = tc_loop_new(NULL);
    ck_assert_ptr_nonnull(loop);
    trace[0] = '\0';
    count = 0;
}

static void teardown(void)
{
    tc_loop_free(loop);
}

static void note(void *arg)
{
    ck_assert_uint_lt(strlen(trace), sizeof trace - 1);
    strcat(trace, arg);
}

static void stop(void *arg)
{
    (void)arg;
    tc_loop_stop(loop);
}

static char request_a[] = "a", request_b[] = "b", request_c[] = "c";

START_TEST(test_timers_fire_in_order_of_time)
{
    timers[0] = tc_timer_new(loop, note, request_b, NULL);
    timers[1] = tc_timer_new(loop, note, request_a, NULL);
    timers[2] = tc_timer_new(loop, note, request_c, NULL);
    timers[3] = tc_timer_new(loop, stop, NULL, NULL);
    tc_timer_set(timers[0], 1);
    tc_timer_set(timers[1], 10);
    tc_timer_set(timers[2], 20);
    tc_timer_set(timers[3], 60);
    tc_timer_set(timers[0], 30); /* moved */
    tc_timer_clear(timers[2]);
    uint64_t begin = tc_loop_now(loop);
    tc_loop_run(loop, NULL);
    ck_assert_uint_ge(tc_loop_now(loop) - begin, 59); /* never early, but for the rounding of begin */
    ck_assert_str_eq(trace, "ab");
    for (int i = 0; i < 4; i++)
        tc_timer_free(timers[i]);
    tc_timer_free(NULL);
}
END_TEST

static void free_self_and_stop(void *arg)
{
    (void)arg;
    tc_timer_free(timers[0]);
    tc_loop_stop(loop);
}

START_TEST(test_timer_frees_itself)
{
    timers[0] = tc_timer_new(loop, free_self_and_stop, NULL, NULL);
    tc_timer_set(timers[0], 0);
    ck_assert_int_eq(tc_loop_run(loop, NULL), 0);
}
END_TEST

START_TEST(test_stop_before_run_counts_once)
{
    tc_loop_stop(loop);
    ck_assert_int_eq(tc_loop_run(loop, NULL), 0);
    timers[0] = tc_timer_new(loop, free_self_and_stop, NULL, NULL);
    tc_timer_set(timers[0], 1); /* a second run would end at once if the stop still held, and leak the timer */
    ck_assert_int_eq(tc_loop_run(loop, NULL), 0);
}
END_TEST

static void later_twice(void *arg)
{
    (void)arg;
    tc_loop_later(loop, note, request_b, NULL);
    tc_loop_later(loop, note, request_c, NULL);
    tc_loop_later(loop, stop, NULL, NULL);
    note(request_a); /* this callback ends first */
}

START_TEST(test_later_runs_after_the_callback)
{
    tc_loop_later(loop, later_twice, NULL, NULL);
    tc_loop_run(loop, NULL);
    ck_assert_str_eq(trace, "abc");
}
END_TEST

START_TEST(test_later_still_runs_when_the_loop_is_freed)
{
    struct tc_loop *other = tc_loop_new(NULL);
    tc_loop_later(other, note, request_a, NULL);
    tc_loop_post(other, note, request_b, NULL); /* forgotten, not leaked */
    tc_loop_free(other);
    ck_assert_str_eq(trace, "a");
}
END_TEST

enum { POSTERS = 4, POSTS = 5000 };

struct poster {
    unsigned next; /* what the loop expects from it */
    struct post {
        struct poster *poster;
        unsigned number;
    } posts[POSTS];
};

static void on_post(void *arg)
{
    struct post *post = arg;
    ck_assert_uint_eq(post->number, post->poster->next++); /* in order */
    count++;
}

static void *post_many(void *arg)
{
    struct poster *poster = arg;
    for (unsigned i = 0; i < POSTS; i++) {
        poster->posts[i] = (struct post){poster, i};
        if (tc_loop_post(loop, on_post, &poster->posts[i], NULL) != 0)
            abort();
    }
    return NULL;
}

static bool all_posted(void *arg)
{
    (void)arg;
    return count == POSTERS * POSTS;
}

START_TEST(test_posts_from_threads_arrive_in_order)
{
    pthread_t threads[POSTERS];
    struct poster *posters = calloc(POSTERS, sizeof *posters);
    for (int i = 0; i < POSTERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    ck_assert(wait_until(loop, all_posted, NULL));
    for (int i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    free(posters);
}
END_TEST

static void *post_stop(void *arg)
{
    (void)arg;
    tc_loop_post(loop, stop, NULL, NULL);
    return NULL;
}

START_TEST(test_post_wakes_a_loop_that_waits)
{
    pthread_t thread;
    pthread_create(&thread, NULL, post_stop, NULL);
    ck_assert_int_eq(tc_loop_run(loop, NULL), 0);
    pthread_join(thread, NULL);
}
END_TEST

static struct tc_watch *watch;
static int pair[2];

static void on_ready(void *arg, unsigned ready)
{
    (void)arg;
    char byte;
    if (ready & TC_WATCH_WRITE) {
        note(request_b);
        ck_assert_int_eq(write(pair[1], "x", 1), 1);
        tc_watch_want(watch, TC_WATCH_READ, NULL); /* else writable would come for ever */
    } else {
        note(request_c);
        ck_assert_int_eq(read(pair[0], &byte, 1), 1);
        tc_watch_free(watch);
        tc_loop_stop(loop);
    }
}

START_TEST(test_watch_tells_what_is_wanted)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    watch = tc_watch_new(loop, pair[0], on_ready, NULL, NULL);
    ck_assert_int_eq(tc_watch_want(watch, TC_WATCH_WRITE, NULL), 0);
    tc_loop_run(loop, NULL);
    ck_assert_str_eq(trace, "bc");
    close(pair[0]);
    close(pair[1]);
    tc_watch_free(NULL);
}
END_TEST

static void raise_usr1(void *arg)
{
    (void)arg;
    raise(SIGUSR1);
}

START_TEST(test_signal_comes_as_a_call)
{
    struct tc_signal *watcher = tc_signal_new(loop, SIGUSR1, stop, NULL, NULL);
    ck_assert_ptr_nonnull(watcher);
    tc_loop_later(loop, raise_usr1, NULL, NULL);
    ck_assert_int_eq(tc_loop_run(loop, NULL), 0);
    tc_signal_free(watcher);
    tc_signal_free(NULL);
    raise(SIGPIPE); /* ignored since tc_loop_new */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop");
    TCase *tests = tcase_create("loop");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_timers_fire_in_order_of_time);
    tcase_add_test(tests, test_timer_frees_itself);
    tcase_add_test(tests, test_stop_before_run_counts_once);
    tcase_add_test(tests, test_later_runs_after_the_callback);
    tcase_add_test(tests, test_later_still_runs_when_the_loop_is_freed);
    tcase_add_test(tests, test_posts_from_threads_arrive_in_order);
    tcase_add_test(tests, test_post_wakes_a_loop_that_waits);
    tcase_add_test(tests, test_watch_tells_what_is_wanted);
    tcase_add_test(tests, test_signal_comes_as_a_call);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
