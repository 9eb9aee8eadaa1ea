/* net_world.h - bounded waiting on a loop, for the tests of src/net: run until a condition holds, fail after 20 s. */
#ifndef TC_TESTS_NET_WORLD_H
#define TC_TESTS_NET_WORLD_H

#include "net/loop.h"
#include "unit.h"

#define WAIT_MS 20000

struct waiting {
    struct tc_loop *loop;
    struct tc_timer *tick;
    bool (*done)(void *arg);
    void *arg;
    uint64_t until;
    bool met;
};

static inline void waiting_tick(void *arg)
{
    struct waiting *waiting = arg;
    waiting->met = waiting->done(waiting->arg);
    if (waiting->met || tc_loop_now(waiting->loop) >= waiting->until)
        tc_loop_stop(waiting->loop);
    else
        tc_timer_set(waiting->tick, 1);
}

static inline bool wait_until(struct tc_loop *loop, bool (*done)(void *arg), void *arg)
{
    struct waiting waiting = {.loop = loop, .done = done, .arg = arg, .until = tc_loop_now(loop) + WAIT_MS};
    waiting.tick = tc_timer_new(loop, waiting_tick, &waiting, NULL);
    ck_assert_ptr_nonnull(waiting.tick);
    tc_timer_set(waiting.tick, 0);
    ck_assert_int_eq(tc_loop_run(loop, NULL), 0);
    tc_timer_free(waiting.tick);
    return waiting.met;
}

#endif
