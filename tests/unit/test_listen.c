/* Listening: addresses, what outsiders may cost, and which addresses are this machine. */
#include <errno.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/listen.h"
#include "net_world.h"

#define GUESTS 16

struct guest {
    struct tc_link *link;
    unsigned up, closed;
};

static struct tc_loop *loop;
static struct tc_listen *listener;
static struct guest guests[GUESTS];
static unsigned guest_count, closed_count;
static bool refuse, tls;
static int pending[GUESTS];

static enum tc_identity lookup(void *arg, const uint8_t *identity, size_t size, uint8_t key[TC_KEY_SIZE])
{
    (void)arg;
    (void)identity;
    (void)size;
    memset(key, 1, TC_KEY_SIZE);
    return TC_IDENTITY_KNOWN;
}

static uint32_t limit(uint8_t type)
{
    return type;
}

static void on_event(struct tc_link *link, const struct tc_link_event *event, void *arg)
{
    struct guest *guest = arg;
    if (event->kind == TC_LINK_UP) {
        guest->up++;
        tc_listen_up(listener, link);
    }
    if (event->kind == TC_LINK_CLOSED) {
        guest->closed++;
        closed_count++;
        if (!guest->up && listener)
            tc_listen_gone(listener, link);
        guest->link = NULL;
    }
}

static struct tc_link *on_accept(void *arg, int fd, const char *peer)
{
    ck_assert_ptr_eq(arg, guests);
    ck_assert_ptr_nonnull(strchr(peer, ':'));
    if (refuse) {
        close(fd);
        guest_count++;
        return NULL;
    }
    ck_assert_uint_lt(guest_count, GUESTS);
    struct guest *guest = &guests[guest_count++];
    struct tc_link_options options = {.call = on_event, .arg = guest, .limit = limit, .tls = tls, .lookup = lookup};
    guest->link = tc_link_accept(loop, fd, &options, NULL);
    return guest->link;
}

static void setup(void)
{
    loop = tc_loop_new(NULL);
    listener = NULL;
    memset(guests, 0, sizeof guests);
    guest_count = closed_count = 0;
    refuse = false;
    tls = true;
    for (int i = 0; i < GUESTS; i++)
        pending[i] = -1;
}

static void teardown(void)
{
    for (int i = 0; i < GUESTS; i++) {
        tc_link_drop(guests[i].link);
        if (pending[i] >= 0)
            close(pending[i]);
    }
    tc_listen_close(listener);
    tc_loop_free(loop);
}

static void open_at(const char *address, const struct tc_listen_options *options)
{
    struct tc_err err = {0};
    listener = tc_listen_open(loop, address, 0, options, on_accept, guests, &err);
    ck_assert_msg(listener != NULL, "%s", err.text);
}

static uint16_t port(void)
{
    uint16_t number = 0;
    char host[TC_ADDRESS_HOST];
    ck_assert_int_eq(tc_address_split(tc_listen_address(listener), host, &number, NULL), 0);
    ck_assert_uint_ne(number, 0);
    return number;
}

/* Outsider i connects from 127.0.0.last. */
static void come(int i, unsigned last)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000 | last)};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port())};
    pending[i] = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(pending[i], (struct sockaddr *)(void *)&from, sizeof from), 0);
    ck_assert_int_eq(connect(pending[i], (struct sockaddr *)(void *)&to, sizeof to), 0);
}

static bool guests_are(void *arg)
{
    return guest_count == *(unsigned *)arg;
}

static bool guests_at_least(void *arg)
{
    return guest_count >= *(unsigned *)arg;
}

static bool closed_are(void *arg)
{
    return closed_count == *(unsigned *)arg;
}

START_TEST(test_oldest_of_an_address_goes_first)
{
    struct tc_listen_options options = {.pending = 100, .pending_per_address = 3};
    unsigned all = 7, gone = 2;
    open_at("127.0.0.1", &options);
    come(0, 2); /* another address: no concern of the others */
    come(1, 1);
    come(2, 1);
    come(3, 3);
    come(4, 1);
    come(5, 1);
    come(6, 1);
    ck_assert(wait_until(loop, guests_are, &all));
    ck_assert(wait_until(loop, closed_are, &gone));
    for (unsigned i = 0; i < all; i++)
        ck_assert_uint_eq(guests[i].closed, i == 1 || i == 2);
    char byte;
    ck_assert(recv(pending[1], &byte, 1, 0) == -1 && errno == ECONNRESET);
}
END_TEST

START_TEST(test_oldest_of_all_goes_first)
{
    struct tc_listen_options options = {.pending = 4};
    unsigned all = 6, gone = 2;
    open_at("127.0.0.1:0", &options);
    for (int i = 0; i < 6; i++)
        come(i, (unsigned)i + 1);
    ck_assert(wait_until(loop, guests_are, &all));
    ck_assert(wait_until(loop, closed_are, &gone));
    ck_assert(guests[0].closed && guests[1].closed && !guests[2].closed);
}
END_TEST

START_TEST(test_links_that_are_up_or_gone_do_not_count)
{
    struct tc_listen_options options = {.pending = 2, .pending_per_address = 2};
    tls = false; /* up at once */
    open_at("127.0.0.1:0", &options);
    for (unsigned i = 0, count = 1; i < 8; i++, count++) {
        come((int)i, 1);
        ck_assert(wait_until(loop, guests_are, &count));
    }
    ck_assert_uint_eq(closed_count, 0);
    tls = true; /* now pending ones, which leave by themselves */
    for (unsigned i = 8, count = 9, gone = 1; i < 12; i++, count++, gone++) {
        come((int)i, 1);
        ck_assert(wait_until(loop, guests_are, &count));
        close(pending[i]);
        pending[i] = -1;
        ck_assert(wait_until(loop, closed_are, &gone));
    }
}
END_TEST

START_TEST(test_callee_may_refuse)
{
    unsigned one = 1;
    char byte;
    refuse = true;
    open_at("127.0.0.1:0", NULL);
    come(0, 1);
    ck_assert(wait_until(loop, guests_are, &one));
    ck_assert_int_eq(recv(pending[0], &byte, 1, 0), 0);
}
END_TEST

static void stop(void *arg)
{
    (void)arg;
    tc_loop_stop(loop);
}

static unsigned deaf_count;

static void on_deaf(void *arg, const struct tc_err *why)
{
    ck_assert_ptr_eq(arg, guests);
    ck_assert_int_eq(why->reason, TC_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(why->text, "cannot accept connections: Too many open files"));
    deaf_count++;
}

static bool deaf_is(void *arg)
{
    return deaf_count == *(unsigned *)arg;
}

START_TEST(test_no_descriptors_left_is_waited_out)
{
    struct rlimit old, low;
    unsigned one = 1;
    struct tc_listen_options options = {.deaf = on_deaf};
    open_at("127.0.0.1:0", &options);
    come(0, 1);
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    low.rlim_cur = (rlim_t)pending[0] + 1; /* none is free */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct tc_timer *timer = tc_timer_new(loop, stop, NULL, NULL);
    tc_timer_set(timer, 20);
    tc_loop_run(loop, NULL);
    tc_timer_free(timer);
    ck_assert_uint_eq(guest_count + deaf_count, 0);
    ck_assert(wait_until(loop, deaf_is, &one));
    ck_assert_uint_eq(guest_count, 0);
    setrlimit(RLIMIT_NOFILE, &old);
    come(1, 1); /* valgrind's accept closes what it has no number for; the second one comes through there too */
    ck_assert(wait_until(loop, guests_at_least, &one));
}
END_TEST

START_TEST(test_close_leaves_links_alive)
{
    unsigned one = 1;
    open_at("127.0.0.1:0", NULL);
    come(0, 1);
    ck_assert(wait_until(loop, guests_are, &one));
    tc_listen_close(listener);
    listener = NULL;
    ck_assert_uint_eq(guests[0].closed, 0);
    close(pending[0]);
    pending[0] = -1;
    ck_assert(wait_until(loop, closed_are, &one));
}
END_TEST

START_TEST(test_addresses)
{
    struct tc_err err = {0};
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    open_at("127.0.0.1:0", NULL);
    ck_assert_int_eq(strncmp(tc_listen_address(listener), "127.0.0.1:", 10), 0);
    ck_assert_ptr_null(tc_listen_open(loop, tc_listen_address(listener), 0, NULL, on_accept, guests, &err));
    ck_assert_int_eq(err.reason, TC_E_BUSY);
    ck_assert_ptr_nonnull(strstr(err.text, "in use"));
    struct tc_listen *second = tc_listen_open(loop, "127.0.0.2", port(), NULL, on_accept, guests, NULL);
    ck_assert_ptr_nonnull(second); /* default port, other address */
    tc_listen_close(second);
    second = tc_listen_open(loop, "localhost:0", 1, NULL, on_accept, guests, NULL);
    ck_assert_ptr_nonnull(second);
    ck_assert(tc_address_is_loopback(tc_listen_address(second)));
    tc_listen_close(second);
    static const char *const bad[] = {"",          ":1", "127.0.0.1:", "127.0.0.1:65536", "[::1", "127.0.0.1:7117x",
                                      "300.0.0.1 "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err = (struct tc_err){0};
        ck_assert_ptr_null(tc_listen_open(loop, bad[i], 1, NULL, on_accept, guests, &err));
        ck_assert_int_eq(err.reason, TC_E_USAGE);
    }
    err = (struct tc_err){0};
    ck_assert_ptr_null(tc_listen_open(loop, "192.0.2.1:0", 1, NULL, on_accept, guests, &err));
    ck_assert_int_eq(err.reason, TC_E_USAGE);
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    if (probe >= 0 && bind(probe, (struct sockaddr *)(void *)&any, sizeof any) == 0) {
        second = tc_listen_open(loop, "[::1]:0", 1, NULL, on_accept, guests, NULL);
        ck_assert_ptr_nonnull(second);
        ck_assert_int_eq(strncmp(tc_listen_address(second), "[::1]:", 6), 0);
        tc_listen_close(second);
    }
    if (probe >= 0)
        close(probe);
}
END_TEST

START_TEST(test_ipv6_wildcard_takes_ipv4_and_names_it_so)
{
    unsigned one = 1;
    tls = false;
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    if (probe < 0)
        return; /* no IPv6 here */
    close(probe);
    open_at("[::]:0", NULL);
    come(0, 9);
    ck_assert(wait_until(loop, guests_are, &one));
    ck_assert_int_eq(strncmp(tc_link_peer(guests[0].link), "127.0.0.9:", 10), 0);
    ck_assert(tc_link_is_loopback(guests[0].link));
}
END_TEST

START_TEST(test_loopback_table)
{
    static const char *const yes[] = {"127.0.0.1", "127.0.0.1:7117",  "127.1.2.3", "127.255.255.255:1",
                                      "localhost", "LocalHost:7117",  "::1",       "[::1]:7",
                                      "[::1]",     "::ffff:127.0.0.1"};
    static const char *const no[] = {"127.evil.com",
                                     "127.0.0.1.evil.com",
                                     "localhost.evil.com",
                                     "0.0.0.0",
                                     "[::]:7117",
                                     "128.0.0.1",
                                     "10.0.0.1:7117",
                                     "node7",
                                     "",
                                     "[::1",
                                     "127.0.0.1:bad",
                                     "::2",
                                     "localhost127",
                                     "1",
                                     "[::ffff:10.0.0.1]:1"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        ck_assert_msg(tc_address_is_loopback(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        ck_assert_msg(!tc_address_is_loopback(no[i]), "%s", no[i]);
}
END_TEST

START_TEST(test_own_addresses)
{
    char out[TC_ADDRESS_HOST];
    struct tc_err why = {0};
    ck_assert_int_eq(tc_address_of_interface("lo", out, NULL), 0);
    ck_assert_str_eq(out, "127.0.0.1");
    ck_assert_int_eq(tc_address_of_interface("10.1.2.3", out, NULL), 0);
    ck_assert_str_eq(out, "10.1.2.3");
    ck_assert_int_eq(tc_address_of_interface("no-such0", out, &why), -TC_E_USAGE);
    ck_assert_int_eq(tc_address_towards("127.0.0.9", out, NULL), 0);
    ck_assert_str_eq(out, "127.0.0.1");
    ck_assert_int_eq(tc_address_towards("localhost", out, NULL), 0);
    ck_assert(tc_address_is_loopback(out));
    ck_assert_int_eq(tc_address_towards("no such host", out, NULL), -TC_E_UNREACHABLE);
}
END_TEST

START_TEST(test_join)
{
    char out[16];
    ck_assert_int_eq(tc_address_join(out, sizeof out, "node7", 7117, NULL), 0);
    ck_assert_str_eq(out, "node7:7117");
    ck_assert_int_eq(tc_address_join(out, sizeof out, "fe80::1", 80, NULL), 0);
    ck_assert_str_eq(out, "[fe80::1]:80");
    ck_assert_int_eq(tc_address_join(out, sizeof out, "a-long-name", 7117, NULL), -TC_E_USAGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("listen");
    TCase *tests = tcase_create("listen");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_oldest_of_an_address_goes_first);
    tcase_add_test(tests, test_oldest_of_all_goes_first);
    tcase_add_test(tests, test_links_that_are_up_or_gone_do_not_count);
    tcase_add_test(tests, test_callee_may_refuse);
    tcase_add_test(tests, test_no_descriptors_left_is_waited_out);
    tcase_add_test(tests, test_close_leaves_links_alive);
    tcase_add_test(tests, test_addresses);
    tcase_add_test(tests, test_ipv6_wildcard_takes_ipv4_and_names_it_so);
    tcase_add_test(tests, test_loopback_table);
    tcase_add_test(tests, test_join);
    tcase_add_test(tests, test_own_addresses);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
