#include "net/loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct call {
    struct call *next;
    tc_loop_call *call;
    void *arg;
};

struct queue {
    struct call *head;
    struct call **tail;
};

struct tc_loop {
    struct event_base *base;
    bool stopped;
    struct queue deferred;
    struct event *deferred_event;
    pthread_mutex_t lock; /* of posted */
    struct queue posted;
    int wake; /* eventfd, written when posted was empty */
    struct event *wake_event;
};

struct tc_timer {
    struct tc_loop *loop;
    struct event *event;
    tc_loop_call *call;
    void *arg;
    uint64_t due;
};

struct tc_watch {
    struct event *read, *write;
    tc_watch_call *call;
    void *arg;
    unsigned wanted;
};

struct tc_signal {
    struct event *event;
    tc_loop_call *call;
    void *arg;
};

static void queue_init(struct queue *queue)
{
    queue->head = NULL;
    queue->tail = &queue->head;
}

static struct call *queue_add(struct queue *queue, tc_loop_call *call, void *arg)
{
    struct call *entry = malloc(sizeof *entry);
    if (!entry)
        return NULL;
    *entry = (struct call){.call = call, .arg = arg};
    *queue->tail = entry;
    queue->tail = &entry->next;
    return entry;
}

static struct call *queue_take(struct queue *queue)
{
    struct call *all = queue->head;
    queue_init(queue);
    return all;
}

static void run_calls(struct call *entry)
{
    while (entry) {
        struct call *next = entry->next;
        entry->call(entry->arg);
        free(entry);
        entry = next;
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct tc_loop *loop = arg;
    uint64_t count;
    pthread_mutex_lock(&loop->lock);
    struct call *all = queue_take(&loop->posted);
    if (read(fd, &count, sizeof count) < 0)
        count = 0; /* nothing to take: the list says all there is to know */
    pthread_mutex_unlock(&loop->lock);
    run_calls(all);
}

static void on_deferred(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tc_loop *loop = arg;
    run_calls(queue_take(&loop->deferred));
}

static int build(struct tc_loop *loop)
{
    struct event_config *config = event_config_new();
    if (!config)
        return -1;
    /* No lock: only this thread calls libevent. No cached time: a timer counts from the call that sets it. */
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!loop->base || loop->wake < 0)
        return -1;
    loop->wake_event = event_new(loop->base, loop->wake, EV_READ | EV_PERSIST, on_wake, loop);
    loop->deferred_event = event_new(loop->base, -1, 0, on_deferred, loop);
    if (!loop->wake_event || !loop->deferred_event)
        return -1;
    return event_add(loop->wake_event, NULL);
}

struct tc_loop *tc_loop_new(struct tc_err *err)
{
    struct tc_loop *loop = calloc(1, sizeof *loop);
    if (!loop) {
        tc_fail(err, TC_E_NOMEM, "event loop: out of memory");
        return NULL;
    }
    loop->wake = -1;
    queue_init(&loop->deferred);
    queue_init(&loop->posted);
    pthread_mutex_init(&loop->lock, NULL);
    if (build(loop) != 0) {
        tc_fail(err, TC_E_NOMEM, "event loop: out of memory or descriptors");
        tc_loop_free(loop);
        return NULL;
    }
    signal(SIGPIPE, SIG_IGN);
    return loop;
}

void tc_loop_free(struct tc_loop *loop)
{
    if (!loop)
        return;
    while (loop->deferred.head)
        run_calls(queue_take(&loop->deferred));
    for (struct call *entry = loop->posted.head; entry;) {
        struct call *next = entry->next;
        free(entry);
        entry = next;
    }
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->deferred_event)
        event_free(loop->deferred_event);
    if (loop->wake >= 0)
        close(loop->wake);
    if (loop->base)
        event_base_free(loop->base);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

int tc_loop_run(struct tc_loop *loop, struct tc_err *err)
{
    int result = loop->stopped ? 0 : event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
    loop->stopped = false;
    return result < 0 ? tc_fail(err, TC_E_FAILED, "event loop failed") : 0;
}

void tc_loop_stop(struct tc_loop *loop)
{
    loop->stopped = true; /* also for a run that has not begun */
    event_base_loopbreak(loop->base);
}

uint64_t tc_loop_now(const struct tc_loop *loop)
{
    (void)loop;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int tc_loop_post(struct tc_loop *loop, tc_loop_call *call, void *arg, struct tc_err *err)
{
    pthread_mutex_lock(&loop->lock);
    bool was_empty = !loop->posted.head;
    bool added = queue_add(&loop->posted, call, arg) != NULL;
    /* Within the lock: after it the loop may run the call, and the call may free what the caller holds. */
    if (added && was_empty)
        eventfd_write(loop->wake, 1);
    pthread_mutex_unlock(&loop->lock);
    return added ? 0 : tc_fail(err, TC_E_NOMEM, "event loop: out of memory");
}

static struct timeval timeval_of(uint64_t milliseconds)
{
    return (struct timeval){.tv_sec = (time_t)(milliseconds / 1000),
                            .tv_usec = (suseconds_t)(milliseconds % 1000 * 1000)};
}

int tc_loop_later(struct tc_loop *loop, tc_loop_call *call, void *arg, struct tc_err *err)
{
    struct timeval now = {0};
    bool was_empty = !loop->deferred.head;
    if (!queue_add(&loop->deferred, call, arg))
        return tc_fail(err, TC_E_NOMEM, "event loop: out of memory");
    if (was_empty)
        event_add(loop->deferred_event, &now);
    return 0;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tc_timer *timer = arg;
    uint64_t now = tc_loop_now(timer->loop);
    /* libevent reads a coarse clock and may be some milliseconds early. */
    if (now < timer->due)
        tc_timer_set(timer, timer->due - now);
    else
        timer->call(timer->arg);
}

struct tc_timer *tc_timer_new(struct tc_loop *loop, tc_loop_call *call, void *arg, struct tc_err *err)
{
    struct tc_timer *timer = calloc(1, sizeof *timer);
    if (timer)
        timer->event = event_new(loop->base, -1, 0, on_timer, timer);
    if (!timer || !timer->event) {
        free(timer);
        tc_fail(err, TC_E_NOMEM, "timer: out of memory");
        return NULL;
    }
    timer->loop = loop;
    timer->call = call;
    timer->arg = arg;
    return timer;
}

void tc_timer_set(struct tc_timer *timer, uint64_t milliseconds)
{
    struct timeval wait = timeval_of(milliseconds);
    timer->due = tc_loop_now(timer->loop) + milliseconds;
    event_add(timer->event, &wait);
}

void tc_timer_clear(struct tc_timer *timer)
{
    event_del(timer->event);
}

void tc_timer_free(struct tc_timer *timer)
{
    if (!timer)
        return;
    event_free(timer->event);
    free(timer);
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct tc_watch *watch = arg;
    watch->call(watch->arg, what & EV_READ ? TC_WATCH_READ : TC_WATCH_WRITE);
}

struct tc_watch *tc_watch_new(struct tc_loop *loop, int fd, tc_watch_call *call, void *arg, struct tc_err *err)
{
    struct tc_watch *watch = calloc(1, sizeof *watch);
    if (watch) {
        watch->read = event_new(loop->base, fd, EV_READ | EV_PERSIST, on_watch, watch);
        watch->write = event_new(loop->base, fd, EV_WRITE | EV_PERSIST, on_watch, watch);
    }
    if (!watch || !watch->read || !watch->write) {
        tc_watch_free(watch);
        tc_fail(err, TC_E_NOMEM, "watch of a descriptor: out of memory");
        return NULL;
    }
    watch->call = call;
    watch->arg = arg;
    return watch;
}

static int toggle(struct tc_watch *watch, struct event *event, unsigned bit, unsigned events)
{
    if ((watch->wanted & bit) == (events & bit))
        return 0;
    if ((events & bit ? event_add(event, NULL) : event_del(event)) != 0)
        return -1;
    watch->wanted ^= bit;
    return 0;
}

int tc_watch_want(struct tc_watch *watch, unsigned events, struct tc_err *err)
{
    if (toggle(watch, watch->read, TC_WATCH_READ, events) != 0 ||
        toggle(watch, watch->write, TC_WATCH_WRITE, events) != 0)
        return tc_fail(err, TC_E_NOMEM, "descriptor cannot be watched");
    return 0;
}

void tc_watch_free(struct tc_watch *watch)
{
    if (!watch)
        return;
    if (watch->read)
        event_free(watch->read);
    if (watch->write)
        event_free(watch->write);
    free(watch);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tc_signal *watcher = arg;
    watcher->call(watcher->arg);
}

struct tc_signal *tc_signal_new(struct tc_loop *loop, int number, tc_loop_call *call, void *arg, struct tc_err *err)
{
    struct tc_signal *watcher = calloc(1, sizeof *watcher);
    if (watcher)
        watcher->event = evsignal_new(loop->base, number, on_signal, watcher);
    if (!watcher || !watcher->event || event_add(watcher->event, NULL) != 0) {
        tc_signal_free(watcher);
        tc_fail(err, TC_E_NOMEM, "signal %d cannot be watched: out of memory", number);
        return NULL;
    }
    watcher->call = call;
    watcher->arg = arg;
    return watcher;
}

void tc_signal_free(struct tc_signal *watcher)
{
    if (!watcher)
        return;
    if (watcher->event)
        event_free(watcher->event);
    free(watcher);
}
