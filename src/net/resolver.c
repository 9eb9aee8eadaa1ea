#include "net/resolver.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A lookup belongs to those who asked for it and, while it runs, to its thread. */
struct tc_lookup {
    struct tc_lookup *next, **prev; /* in one of the lists below; prev NULL: in none */
    unsigned holders;
    bool done;
    int ready; /* eventfd */
    uint16_t port;
    int result; /* of getaddrinfo */
    struct addrinfo *list;
    char host[TC_ADDRESS_HOST];
};

/* Guards all lookups and what follows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tc_lookup *waiting, **waiting_tail = &waiting; /* oldest first */
static struct tc_lookup *running;
static unsigned threads;

static void append_waiting(struct tc_lookup *lookup)
{
    lookup->next = NULL;
    lookup->prev = waiting_tail;
    *waiting_tail = lookup;
    waiting_tail = &lookup->next;
}

static void unlist(struct tc_lookup *lookup)
{
    if (!lookup->prev)
        return;
    *lookup->prev = lookup->next;
    if (lookup->next)
        lookup->next->prev = lookup->prev;
    else if (waiting_tail == &lookup->next)
        waiting_tail = lookup->prev;
    lookup->prev = NULL;
}

static void insert_running(struct tc_lookup *lookup)
{
    lookup->next = running;
    lookup->prev = &running;
    if (running)
        running->prev = &lookup->next;
    running = lookup;
}

static void release(struct tc_lookup *lookup)
{
    if (--lookup->holders > 0)
        return;
    unlist(lookup);
    if (lookup->list)
        freeaddrinfo(lookup->list);
    close(lookup->ready);
    free(lookup);
}

/* Take the oldest lookup through getaddrinfo; called and left with the lock held, which is free meanwhile. */
static void run_oldest(void)
{
    struct tc_lookup *lookup = waiting;
    struct addrinfo *list = NULL;
    unlist(lookup);
    insert_running(lookup);
    lookup->holders++;
    pthread_mutex_unlock(&lock);
    int result = tc_address_resolve(lookup->host, lookup->port, false, &list);
    pthread_mutex_lock(&lock);
    unlist(lookup);
    lookup->result = result;
    lookup->list = result == 0 ? list : NULL;
    lookup->done = true;
    eventfd_write(lookup->ready, 1);
    release(lookup);
}

static void *work(void *arg)
{
    pthread_mutex_lock(&lock);
    while (waiting)
        run_oldest();
    threads--;
    pthread_mutex_unlock(&lock);
    return arg;
}

/* One more thread for what waits, unless there are enough. Holding the lock. */
static void add_thread(void)
{
    pthread_t thread;
    sigset_t all, old;
    if (threads >= TC_RESOLVER_THREADS)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
    if (pthread_create(&thread, NULL, work, NULL) == 0) {
        threads++;
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (threads == 0)
        run_oldest();
}

static struct tc_lookup *new_lookup(const char *host, uint16_t port, struct tc_err *err)
{
    struct tc_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup) {
        tc_fail(err, TC_E_NOMEM, "%s: out of memory", host);
        return NULL;
    }
    lookup->holders = 1;
    lookup->port = port;
    snprintf(lookup->host, sizeof lookup->host, "%s", host);
    lookup->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lookup->ready >= 0)
        return lookup;
    tc_fail_errno(err, errno, "%s: no descriptor", host);
    free(lookup);
    return NULL;
}

static struct tc_lookup *find_running(const char *host, uint16_t port)
{
    for (struct tc_lookup *lookup = running; lookup; lookup = lookup->next)
        if (lookup->port == port && strcmp(lookup->host, host) == 0)
            return lookup;
    return NULL;
}

struct tc_lookup *tc_lookup_begin(const char *host, uint16_t port, struct tc_err *err)
{
    pthread_mutex_lock(&lock);
    struct tc_lookup *lookup = find_running(host, port);
    if (lookup) {
        lookup->holders++;
    } else if ((lookup = new_lookup(host, port, err))) {
        append_waiting(lookup);
        add_thread();
    }
    pthread_mutex_unlock(&lock);
    return lookup;
}

int tc_lookup_fd(const struct tc_lookup *lookup)
{
    return lookup->ready;
}

int tc_lookup_result(const struct tc_lookup *lookup, const struct addrinfo **list, struct tc_err *err)
{
    pthread_mutex_lock(&lock);
    bool done = lookup->done;
    pthread_mutex_unlock(&lock);
    if (!done)
        return tc_fail(err, TC_E_BUSY, "%s is being looked up", lookup->host);
    if (lookup->result != 0)
        return tc_fail(err, TC_E_UNREACHABLE, "unknown host: %s", gai_strerror(lookup->result));
    *list = lookup->list;
    return 0;
}

void tc_lookup_end(struct tc_lookup *lookup)
{
    if (!lookup)
        return;
    pthread_mutex_lock(&lock);
    release(lookup);
    pthread_mutex_unlock(&lock);
}
