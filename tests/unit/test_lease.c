/* Leases: by which clock they end, and what they are in a description. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/describe.h"
#include "unit.h"

static struct tc_lease lease_of(double seconds)
{
    struct tc_lease lease = {.pid = 4711, .start = 7};
    tc_lease_begin(&lease, seconds);
    return lease;
}

START_TEST(test_a_lease_ends_in_time)
{
    struct tc_lease lease = lease_of(100);
    uint64_t left = tc_lease_left(&lease), now = (uint64_t)time(NULL);
    ck_assert(left > 99000 && left <= 100001);
    ck_assert(lease.expires >= now + 99 && lease.expires <= now + 102);
    ck_assert_uint_eq(tc_lease_expires(&lease), lease.expires);
    ck_assert(lease.pid == 4711 && lease.start == 7);
    lease = lease_of(0);
    for (int i = 0; i < 1000 && tc_lease_left(&lease) > 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    ck_assert_uint_eq(tc_lease_left(&lease), 0);
    ck_assert_uint_eq(tc_lease_left(&(struct tc_lease){.pid = 1}), UINT64_MAX);
    ck_assert_uint_eq(tc_lease_expires(&(struct tc_lease){.pid = 1}), 0);
    lease = lease_of(1e300); /* as long as it can be told */
    ck_assert_uint_gt(tc_lease_left(&lease), 1ull << 40);
}
END_TEST

/* As if the time of day had been set forward or back by so much since the lease was given. */
START_TEST(test_a_clock_that_jumps_ends_nothing)
{
    static const int64_t jumps[] = {-1000000000, -3600, 3600, 1000000000};
    uint64_t now = (uint64_t)time(NULL);
    for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        struct tc_lease lease = lease_of(100), over = lease_of(100);
        lease.expires = (uint64_t)((int64_t)lease.expires - jumps[i]);
        over.expires = (uint64_t)((int64_t)over.expires - jumps[i]);
        over.ends = tc_lease_clock();
        ck_assert_uint_gt(tc_lease_left(&lease), 99000);
        ck_assert_uint_eq(tc_lease_left(&over), 0);
        uint64_t shown = tc_lease_expires(&lease);
        ck_assert(shown >= now + 99 && shown <= now + 102);
    }
}
END_TEST

START_TEST(test_after_another_start_the_time_of_day_counts)
{
    struct tc_lease lease = lease_of(100), old = {.expires = (uint64_t)time(NULL) + 50};
    lease.boot[3] ^= 1;
    lease.ends = 1; /* long ago, of a system that is gone */
    uint64_t left = tc_lease_left(&lease);
    ck_assert(left > 98000 && left <= 102000);
    lease.expires = (uint64_t)time(NULL) - 1;
    ck_assert_uint_eq(tc_lease_left(&lease), 0);
    left = tc_lease_left(&old); /* of an earlier treecast */
    ck_assert(left > 48000 && left <= 50000);
    old.expires = UINT64_MAX;
    ck_assert_uint_gt(tc_lease_left(&old), 1ull << 40);
}
END_TEST

START_TEST(test_a_description_carries_it)
{
    struct tc_description one = {.name = "A", .size = 1, .lease = lease_of(100)}, two = {0};
    char *text = tc_description_print(&one, NULL);
    ck_assert_ptr_nonnull(text);
    ck_assert_int_eq(tc_description_parse(&two, text, strlen(text), NULL), 0);
    ck_assert_int_eq(memcmp(&one.lease, &two.lease, sizeof one.lease), 0);
    char *boot = strstr(text, "\"boot\":\"");
    ck_assert_ptr_nonnull(boot);
    boot[9] = 'x';
    ck_assert_int_eq(tc_description_parse(&two, text, strlen(text), NULL), -TC_E_FORMAT);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lease");
    TCase *tests = tcase_create("lease");
    tcase_add_test(tests, test_a_lease_ends_in_time);
    tcase_add_test(tests, test_a_clock_that_jumps_ends_nothing);
    tcase_add_test(tests, test_after_another_start_the_time_of_day_counts);
    tcase_add_test(tests, test_a_description_carries_it);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
