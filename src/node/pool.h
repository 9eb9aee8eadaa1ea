/* pool.h - worker threads for what costs CPU or blocks: digest, encode, decode, read, place, publish.
 *
 * A task is a value handed over and back: run() in some worker, then done() in the loop thread. Workers share nothing
 * else. Tasks begin in the order they were added. */
#ifndef TC_NODE_POOL_H
#define TC_NODE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "data/codec.h"
#include "net/loop.h"

/* What one worker has of its own. */
struct tc_worker {
    struct tc_codec *codec;
    uint8_t *scratch; /* private: see tc_worker_scratch */
    size_t scratch_size;
};

struct tc_task {
    void (*run)(struct tc_task *task, struct tc_worker *worker);
    void (*done)(struct tc_task *task); /* owns the task again; may free it */
    struct tc_task *next;               /* private */
};

struct tc_pool;

/* threads 0: one a core. NULL on error. */
struct tc_pool *tc_pool_new(struct tc_loop *loop, unsigned threads, struct tc_err *err);
/* One worker for what may take long and nobody's data waits for: it gives way to other threads. */
struct tc_pool *tc_pool_aside(struct tc_loop *loop, struct tc_err *err);
unsigned tc_pool_threads(const struct tc_pool *pool);
void tc_pool_add(struct tc_pool *pool, struct tc_task *task); /* taken until done() */
/* Waits for every task, calls what done() is left, ends the threads. NULL allowed. */
void tc_pool_free(struct tc_pool *pool);

/* The worker's scratch memory of at least size bytes; NULL and err when there is none. Contents are not kept. */
uint8_t *tc_worker_scratch(struct tc_worker *worker, size_t size, struct tc_err *err);

#endif
