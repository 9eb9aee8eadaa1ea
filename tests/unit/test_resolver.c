/* The resolver, with a getaddrinfo of the test's own: how many threads it takes for how many names, with how few it does,
 * and what a name server that does not answer holds up. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net/resolver.h"
#include "unit.h"

enum { NAMES = 3000, WAIT_MS = 20000, OTHER_USER = 54321 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static unsigned calls, inside, most_inside;
static bool hanging; /* "hangs" has no answer yet */

/* In the place of libc's: "hangs..." waits for the test, "nobody..." does not exist, all else takes a millisecond. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    (void)service;
    if (hints->ai_flags & AI_NUMERICHOST)
        return EAI_NONAME;
    pthread_mutex_lock(&lock);
    calls++;
    if (++inside > most_inside)
        most_inside = inside;
    pthread_cond_broadcast(&change);
    while (hanging && strncmp(host, "hangs", 5) == 0)
        pthread_cond_wait(&change, &lock);
    pthread_mutex_unlock(&lock);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    pthread_mutex_lock(&lock);
    inside--;
    pthread_cond_broadcast(&change);
    pthread_mutex_unlock(&lock);
    if (strncmp(host, "nobody", 6) == 0)
        return EAI_NONAME;
    struct addrinfo *info = calloc(1, sizeof *info + sizeof(struct sockaddr_in));
    struct sockaddr_in *address = (struct sockaddr_in *)(void *)(info + 1);
    address->sin_family = AF_INET;
    info->ai_family = AF_INET;
    info->ai_addr = (struct sockaddr *)(void *)address;
    info->ai_addrlen = sizeof *address;
    *list = info;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    free(list);
}

static void hang(bool on)
{
    pthread_mutex_lock(&lock);
    hanging = on;
    pthread_cond_broadcast(&change);
    pthread_mutex_unlock(&lock);
}

/* Until that many are in getaddrinfo. */
static void await_inside(unsigned count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&lock);
    while (inside != count)
        ck_assert_int_eq(pthread_cond_timedwait(&change, &lock, &until), 0);
    pthread_mutex_unlock(&lock);
}

static struct tc_lookup *begin(const char *word, unsigned number)
{
    char name[32];
    snprintf(name, sizeof name, "%s%u", word, number);
    struct tc_lookup *lookup = tc_lookup_begin(name, 7117, NULL);
    ck_assert_ptr_nonnull(lookup);
    return lookup;
}

static int result_of(struct tc_lookup *lookup)
{
    struct pollfd ready = {.fd = tc_lookup_fd(lookup), .events = POLLIN};
    const struct addrinfo *list = NULL;
    struct tc_err err = {0};
    ck_assert_int_eq(poll(&ready, 1, WAIT_MS), 1);
    int result = tc_lookup_result(lookup, &list, &err);
    ck_assert_int_eq(result == 0, list != NULL);
    if (result != 0)
        ck_assert_ptr_nonnull(strstr(err.text, "unknown host"));
    tc_lookup_end(lookup);
    return result;
}

static void look_all_up(unsigned names)
{
    static struct tc_lookup *lookups[NAMES];
    for (unsigned i = 0; i < names; i++)
        lookups[i] = begin(i % 100 == 99 ? "nobody" : "node", i);
    for (unsigned i = 0; i < names; i++)
        ck_assert_int_eq(result_of(lookups[i]), i % 100 == 99 ? -TC_E_UNREACHABLE : 0);
}

static void setup(void)
{
    struct rlimit files;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    calls = most_inside = 0;
}

START_TEST(test_many_names_take_few_threads)
{
    look_all_up(NAMES);
    ck_assert_uint_eq(calls, NAMES);
    ck_assert_uint_le(most_inside, TC_RESOLVER_THREADS);
    ck_assert_uint_gt(most_inside, 1);
}
END_TEST

/* As a user who may have no more than so many processes, threads among them: this one, and threads beside it. */
static void within_limit(rlim_t processes, unsigned names, unsigned most)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        alarm(WAIT_MS / 1000);
        if (geteuid() == 0 && setuid(OTHER_USER) != 0)
            _exit(1);
        if (setrlimit(RLIMIT_NPROC, &(struct rlimit){processes, processes}) != 0)
            _exit(2);
        look_all_up(names);
        _exit(calls != names ? 3 : most_inside > most ? 4 : 0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}

START_TEST(test_few_threads_do_for_all)
{
    within_limit(1, 100, 1); /* none: the caller looks up itself */
    if (geteuid() == 0)      /* else this user's other processes count */
        within_limit(4, NAMES / 10, 3);
}
END_TEST

START_TEST(test_who_hangs_holds_no_more_than_the_threads)
{
    static struct tc_lookup *stuck[TC_RESOLVER_THREADS];
    const struct addrinfo *list;
    hang(true);
    for (unsigned i = 0; i < TC_RESOLVER_THREADS; i++)
        stuck[i] = begin("hangs", i);
    await_inside(TC_RESOLVER_THREADS);
    struct tc_lookup *shared = begin("hangs", 0), *late = begin("node", 0), *given_up = begin("node", 1);
    ck_assert_ptr_eq(shared, stuck[0]);
    ck_assert_int_eq(tc_lookup_result(late, &list, NULL), -TC_E_BUSY);
    tc_lookup_end(given_up); /* at the end of the list, and what is asked for next follows the one before */
    struct tc_lookup *last = begin("node", 2);
    for (unsigned i = 1; i < TC_RESOLVER_THREADS; i++)
        tc_lookup_end(stuck[i]); /* given up while a thread is in it */
    ck_assert_uint_eq(calls, TC_RESOLVER_THREADS);
    hang(false);
    ck_assert_int_eq(result_of(late), 0);
    ck_assert_int_eq(result_of(last), 0);
    tc_lookup_end(shared);
    ck_assert_int_eq(result_of(stuck[0]), 0);
    await_inside(0);
    ck_assert_uint_eq(calls, TC_RESOLVER_THREADS + 2); /* none for who gave up, one for both who shared */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resolver");
    TCase *tests = tcase_create("resolver");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_many_names_take_few_threads);
    tcase_add_test(tests, test_few_threads_do_for_all);
    tcase_add_test(tests, test_who_hangs_holds_no_more_than_the_threads);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
