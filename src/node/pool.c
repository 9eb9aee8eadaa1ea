#include "node/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ASIDE_NICE 10

struct queue { /* first in, first out */
    struct tc_task *first, **last;
};

struct thread {
    pthread_t id;
    struct tc_pool *pool;
    struct tc_worker worker;
};

struct tc_pool {
    struct tc_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct queue todo, done;
    bool posted; /* the loop has been told of done */
    bool closing;
    bool aside;
    struct thread *threads;
    unsigned count;
};

static void put(struct queue *queue, struct tc_task *task)
{
    task->next = NULL;
    *queue->last = task;
    queue->last = &task->next;
}

static struct tc_task *take(struct queue *queue)
{
    struct tc_task *task = queue->first;
    if (task && !(queue->first = task->next))
        queue->last = &queue->first;
    return task;
}

static void finish_tasks(void *arg)
{
    struct tc_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    struct tc_task *task = pool->done.first;
    pool->done = (struct queue){NULL, &pool->done.first};
    pool->posted = false;
    pthread_mutex_unlock(&pool->lock);
    while (task) {
        struct tc_task *next = task->next;
        task->done(task);
        task = next;
    }
}

static void report(struct tc_pool *pool, struct tc_task *task)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    pthread_mutex_lock(&pool->lock);
    put(&pool->done, task);
    /* Nobody else may come to tell of the last task of a session, so want of memory is waited out. */
    while (!pool->posted && !pool->closing) {
        pool->posted = tc_loop_post(pool->loop, finish_tasks, pool, NULL) == 0;
        if (pool->posted)
            break;
        pthread_mutex_unlock(&pool->lock);
        nanosleep(&moment, NULL);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *arg)
{
    struct thread *self = arg;
    struct tc_pool *pool = self->pool;
    if (pool->aside) /* of this thread alone, as Linux has it; without it the work is done as well */
        setpriority(PRIO_PROCESS, (id_t)gettid(), ASIDE_NICE);
    for (;;) {
        pthread_mutex_lock(&pool->lock);
        struct tc_task *task;
        while (!(task = take(&pool->todo)) && !pool->closing)
            pthread_cond_wait(&pool->more, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
        if (!task)
            return NULL;
        task->run(task, &self->worker);
        report(pool, task);
    }
}

static int start(struct tc_pool *pool, struct thread *thread, struct tc_err *err)
{
    thread->pool = pool;
    thread->worker.codec = tc_codec_new(err);
    if (!thread->worker.codec)
        return -TC_E_NOMEM;
    /* Signals are the loop thread's business. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int status = pthread_create(&thread->id, NULL, work, thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (status != 0) {
        tc_codec_free(thread->worker.codec);
        return tc_fail_errno(err, status, "cannot start a worker thread");
    }
    pool->count++;
    return 0;
}

static struct tc_pool *make(struct tc_loop *loop, unsigned threads, bool aside, struct tc_err *err)
{
    struct tc_pool *pool = calloc(1, sizeof *pool);
    if (!pool || !(pool->threads = calloc(threads, sizeof *pool->threads))) {
        free(pool);
        tc_fail(err, TC_E_NOMEM, "no memory for %u worker threads", threads);
        return NULL;
    }
    pool->loop = loop;
    pool->aside = aside;
    pool->todo.last = &pool->todo.first;
    pool->done.last = &pool->done.first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    for (unsigned i = 0; i < threads; i++)
        if (start(pool, &pool->threads[i], err) < 0) {
            tc_pool_free(pool);
            return NULL;
        }
    return pool;
}

struct tc_pool *tc_pool_new(struct tc_loop *loop, unsigned threads, struct tc_err *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (threads == 0)
        threads = cores > 0 ? (unsigned)cores : 1;
    return make(loop, threads, false, err);
}

struct tc_pool *tc_pool_aside(struct tc_loop *loop, struct tc_err *err)
{
    return make(loop, 1, true, err);
}

unsigned tc_pool_threads(const struct tc_pool *pool)
{
    return pool->count;
}

void tc_pool_add(struct tc_pool *pool, struct tc_task *task)
{
    pthread_mutex_lock(&pool->lock);
    put(&pool->todo, task);
    pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
}

void tc_pool_free(struct tc_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->count; i++) {
        pthread_join(pool->threads[i].id, NULL);
        tc_codec_free(pool->threads[i].worker.codec);
        free(pool->threads[i].worker.scratch);
    }
    finish_tasks(pool);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->more);
    free(pool->threads);
    free(pool);
}

uint8_t *tc_worker_scratch(struct tc_worker *worker, size_t size, struct tc_err *err)
{
    if (worker->scratch_size < size) {
        free(worker->scratch);
        worker->scratch = malloc(size);
        worker->scratch_size = worker->scratch ? size : 0;
    }
    if (!worker->scratch)
        tc_fail(err, TC_E_NOMEM, "no memory for %zu bytes of a worker", size);
    return worker->scratch;
}
