/* The pool, the cache and the bottleneck of src/node; whole nodes are tested with real processes in tests/scenario and tests/lab. */
#include <pthread.h>
#include <stdatomic.h>

#include "node/cache.h"
#include "node/pool.h"
#include "node/bottleneck.h"
#include "unit.h"

enum { TASKS = 500 };

struct world {
    struct tc_loop *loop;
    struct tc_pool *pool;
    pthread_t loop_thread;
    atomic_uint runs;
    unsigned dones;
    unsigned order[TASKS];
    unsigned stop_at;
};

struct count {
    struct tc_task task;
    struct world *world;
    unsigned number;
    unsigned ran;
    unsigned begun; /* in which place it began */
};

static void count_run(struct tc_task *task, struct tc_worker *worker)
{
    struct count *count = (struct count *)task;
    struct tc_err err = {0};
    ck_assert(!pthread_equal(pthread_self(), count->world->loop_thread));
    uint8_t *scratch = tc_worker_scratch(worker, 1000 + count->number, &err);
    ck_assert_ptr_nonnull(scratch);
    scratch[999 + count->number] = 1;
    count->begun = atomic_fetch_add(&count->world->runs, 1);
    count->ran++;
}

static void count_done(struct tc_task *task)
{
    struct count *count = (struct count *)task;
    ck_assert(pthread_equal(pthread_self(), count->world->loop_thread));
    ck_assert_uint_eq(count->ran, 1);
    count->world->order[count->number] = count->begun;
    if (++count->world->dones == count->world->stop_at)
        tc_loop_stop(count->world->loop);
}

static void open_world(struct world *world, unsigned threads)
{
    struct tc_err err = {0};
    *world = (struct world){.loop_thread = pthread_self(), .stop_at = TASKS};
    world->loop = tc_loop_new(&err);
    ck_assert_ptr_nonnull(world->loop);
    world->pool = tc_pool_new(world->loop, threads, &err);
    ck_assert_ptr_nonnull(world->pool);
}

static void add_all(struct world *world, struct count *counts)
{
    for (unsigned i = 0; i < TASKS; i++) {
        counts[i] = (struct count){.task = {.run = count_run, .done = count_done}, .world = world, .number = i};
        tc_pool_add(world->pool, &counts[i].task);
    }
}

START_TEST(every_task_runs_once_in_a_worker_and_is_done_in_the_loop)
{
    struct world world;
    struct tc_err err = {0};
    static struct count counts[TASKS];
    open_world(&world, 3);
    ck_assert_uint_eq(tc_pool_threads(world.pool), 3);
    add_all(&world, counts);
    ck_assert_int_eq(tc_loop_run(world.loop, &err), 0);
    ck_assert_uint_eq(world.dones, TASKS);
    ck_assert_uint_eq(atomic_load(&world.runs), TASKS);
    tc_pool_free(world.pool);
    tc_loop_free(world.loop);
}
END_TEST

START_TEST(one_worker_takes_tasks_in_the_order_they_came)
{
    struct world world;
    struct tc_err err = {0};
    static struct count counts[TASKS];
    open_world(&world, 1);
    add_all(&world, counts);
    ck_assert_int_eq(tc_loop_run(world.loop, &err), 0);
    for (unsigned i = 0; i < TASKS; i++)
        ck_assert_uint_eq(world.order[i], i);
    tc_pool_free(world.pool);
    tc_loop_free(world.loop);
}
END_TEST

START_TEST(freeing_a_pool_finishes_what_is_in_it)
{
    struct world world;
    static struct count counts[TASKS];
    open_world(&world, 2);
    world.stop_at = 0;
    add_all(&world, counts);
    tc_pool_free(world.pool); /* without the loop ever running */
    ck_assert_uint_eq(world.dones, TASKS);
    tc_loop_free(world.loop);
}
END_TEST

START_TEST(a_cache_keeps_the_latest_within_its_budget)
{
    enum { CHUNK = 65536, PLACES = 16 };
    struct tc_err err = {0};
    struct tc_cache *cache = tc_cache_new((uint64_t)PLACES * CHUNK, CHUNK, &err);
    ck_assert_ptr_nonnull(cache);
    for (uint32_t i = 0; i < 3 * PLACES; i++) {
        struct tc_blob *blob = tc_blob_copy(&i, sizeof i);
        tc_cache_put(cache, i, blob);
        ck_assert_ptr_eq(tc_cache_get(cache, i), blob);
        tc_blob_unref(blob);
    }
    for (uint32_t i = 0; i < 3 * PLACES; i++)
        ck_assert((tc_cache_get(cache, i) != NULL) == (i >= 2 * PLACES));
    ck_assert_ptr_null(tc_cache_get(cache, 1000000));
    tc_cache_free(cache); /* the references go with it: the sanitizer's leak check says so */
}
END_TEST

START_TEST(a_small_cache_still_holds_four_chunks)
{
    struct tc_err err = {0};
    struct tc_cache *cache = tc_cache_new(1, 4u << 20, &err);
    ck_assert_ptr_nonnull(cache);
    for (uint32_t i = 0; i < 4; i++) {
        struct tc_blob *blob = tc_blob_copy(&i, sizeof i);
        tc_cache_put(cache, i, blob);
        tc_blob_unref(blob);
    }
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_ptr_nonnull(tc_cache_get(cache, i));
    tc_cache_free(cache);
}
END_TEST

/* What a host says of itself after a second with timers late for so many ms, in which disk, work and cpu took so many. */
static enum tc_cause bottleneck_of(uint64_t late, uint64_t disk, uint64_t work, uint64_t cpu)
{
    struct tc_bottleneck bottleneck = {0};
    tc_bottleneck_look(&bottleneck, 5000, 77);
    tc_bottleneck_add(&bottleneck, disk * 1000000, work * 1000000, cpu * 1000000);
    bool changed = tc_bottleneck_look(&bottleneck, 6000, 77 + late);
    ck_assert(changed == (bottleneck.cause != TC_CAUSE_NONE));
    return bottleneck.cause;
}

START_TEST(a_host_knows_what_keeps_it)
{
    ck_assert_int_eq(bottleneck_of(0, 0, 0, 0), TC_CAUSE_NONE);
    ck_assert_int_eq(bottleneck_of(40, 100, 100, 100), TC_CAUSE_NONE); /* a line that is slower than the host */
    ck_assert_int_eq(bottleneck_of(40, 700, 50, 50), TC_CAUSE_DISK);
    ck_assert_int_eq(bottleneck_of(0, 100, 900, 900), TC_CAUSE_CPU);
    ck_assert_int_eq(bottleneck_of(0, 10, 200, 40), TC_CAUSE_CPU); /* it waits for a CPU */
    ck_assert_int_eq(bottleneck_of(0, 1, 10, 1), TC_CAUSE_NONE);   /* too little to say so */
    ck_assert_int_eq(bottleneck_of(300, 1, 10, 10), TC_CAUSE_CPU); /* it hardly runs */
}
END_TEST

START_TEST(what_keeps_a_host_passes)
{
    struct tc_bottleneck bottleneck = {0};
    tc_bottleneck_look(&bottleneck, 5000, 0);
    tc_bottleneck_add(&bottleneck, 1000000000, 0, 0);
    ck_assert(!tc_bottleneck_look(&bottleneck, 5199, 0)); /* too early to say */
    ck_assert(tc_bottleneck_look(&bottleneck, 5250, 0));
    ck_assert_int_eq(bottleneck.cause, TC_CAUSE_DISK);
    for (uint64_t now = 5500; now < 6250; now += 250)
        ck_assert(!tc_bottleneck_look(&bottleneck, now, 0)); /* it stands for a second */
    ck_assert(tc_bottleneck_look(&bottleneck, 6250, 0));
    ck_assert_int_eq(bottleneck.cause, TC_CAUSE_NONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("node");
    TCase *tests = tcase_create("pool, cache, bottleneck");
    tcase_add_test(tests, every_task_runs_once_in_a_worker_and_is_done_in_the_loop);
    tcase_add_test(tests, one_worker_takes_tasks_in_the_order_they_came);
    tcase_add_test(tests, freeing_a_pool_finishes_what_is_in_it);
    tcase_add_test(tests, a_cache_keeps_the_latest_within_its_budget);
    tcase_add_test(tests, a_small_cache_still_holds_four_chunks);
    tcase_add_test(tests, a_host_knows_what_keeps_it);
    tcase_add_test(tests, what_keeps_a_host_passes);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
