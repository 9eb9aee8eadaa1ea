/* loop.h - the event loop of one node: timers, descriptors, signals and calls from other threads.
 *
 * The only module that sees libevent. One thread runs the loop and makes every call here, except tc_loop_post. */
#ifndef TC_NET_LOOP_H
#define TC_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct tc_loop;
struct tc_timer;
struct tc_watch;

typedef void tc_loop_call(void *arg);

struct tc_loop *tc_loop_new(struct tc_err *err); /* NULL and TC_E_NOMEM */
/* Timers and watches made from it must be gone. Calls put off by tc_loop_later still run here; posted ones that have
 * not run are forgotten. NULL allowed. */
void tc_loop_free(struct tc_loop *loop);

/* Run until tc_loop_stop; stop may come from any callback. */
int tc_loop_run(struct tc_loop *loop, struct tc_err *err);
void tc_loop_stop(struct tc_loop *loop);

/* Milliseconds on a clock that never jumps; the same value during one round of callbacks is fine. */
uint64_t tc_loop_now(const struct tc_loop *loop);

/* Run call(arg) in the loop thread, in order; from any thread, any time before tc_loop_free. Wakes the loop once for
 * many. TC_E_NOMEM. */
int tc_loop_post(struct tc_loop *loop, tc_loop_call *call, void *arg, struct tc_err *err);
/* Run call(arg) in this thread after the callback that runs now: where things are freed. */
int tc_loop_later(struct tc_loop *loop, tc_loop_call *call, void *arg, struct tc_err *err);

/* One-shot timers: set again moves it; clear is always allowed. free: NULL allowed, also from its own callback. */
struct tc_timer *tc_timer_new(struct tc_loop *loop, tc_loop_call *call, void *arg, struct tc_err *err);
void tc_timer_set(struct tc_timer *timer, uint64_t milliseconds);
void tc_timer_clear(struct tc_timer *timer);
void tc_timer_free(struct tc_timer *timer);

/* Readiness of a descriptor (borrowed), level-triggered: call(arg) while wanted. */
enum { TC_WATCH_READ = 1, TC_WATCH_WRITE = 2 };
typedef void tc_watch_call(void *arg, unsigned ready);
struct tc_watch *tc_watch_new(struct tc_loop *loop, int fd, tc_watch_call *call, void *arg, struct tc_err *err);
int tc_watch_want(struct tc_watch *watch, unsigned events, struct tc_err *err);
void tc_watch_free(struct tc_watch *watch); /* NULL allowed, also from its own callback */

/* Call call(arg) in the loop thread for signal number; one watcher a signal. SIGPIPE is ignored by tc_loop_new. */
struct tc_signal;
struct tc_signal *tc_signal_new(struct tc_loop *loop, int number, tc_loop_call *call, void *arg, struct tc_err *err);
void tc_signal_free(struct tc_signal *signal);

#endif
