#include "node/leases.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "file/lease.h"

enum {
    LOOK_MS = 60000,  /* the loop's clock stops while the system sleeps, a lease does not */
    AGAIN_MS = 10000, /* when another process held the folder's lock */
    BATCH = 64        /* arrays looked at by one task, so that others get their turn */
};

struct owner {
    struct owner *next;
    struct tc_leases *leases;
    uint32_t pid;
    uint64_t start;
    int fd;
    struct tc_watch *watch;
    unsigned items; /* leases that name it */
    bool gone;
};

/* An array that has a lease: in the tree by name, and in the heap by when it is to be looked at unless a task does. */
struct item {
    char name[TC_NAME_MAX + 1]; /* first: a name is compared with it */
    uint64_t due;               /* by tc_lease_clock */
    size_t at;                  /* in the heap; NOWHERE */
    struct owner *owner;
};

#define NOWHERE SIZE_MAX

struct tc_leases {
    struct tc_loop *loop;
    struct tc_pool *pool;
    struct tc_folder *folder;
    struct tc_timer *timer;
    struct owner *owners;
    void *names;         /* of items */
    struct item **heap;  /* the one that is due first at 0 */
    size_t count, space; /* of heap */
    bool looking;        /* a task is */
    bool stopped;
};

/* The heap. */

static void place(struct tc_leases *leases, size_t at, struct item *item)
{
    leases->heap[at] = item;
    item->at = at;
}

static void sift(struct tc_leases *leases, struct item *item)
{
    size_t at = item->at;
    for (; at > 0 && item->due < leases->heap[(at - 1) / 2]->due; at = (at - 1) / 2)
        place(leases, at, leases->heap[(at - 1) / 2]);
    for (size_t child; (child = 2 * at + 1) < leases->count; at = child) {
        child += child + 1 < leases->count && leases->heap[child + 1]->due < leases->heap[child]->due;
        if (leases->heap[child]->due >= item->due)
            break;
        place(leases, at, leases->heap[child]);
    }
    place(leases, at, item);
}

static int push(struct tc_leases *leases, struct item *item)
{
    if (leases->count == leases->space) {
        size_t space = leases->space ? 2 * leases->space : 64;
        struct item **grown = reallocarray(leases->heap, space, sizeof(struct item *));
        if (!grown)
            return -1;
        leases->heap = grown;
        leases->space = space;
    }
    place(leases, leases->count++, item);
    sift(leases, item);
    return 0;
}

static void pull(struct tc_leases *leases, struct item *item)
{
    if (item->at == NOWHERE)
        return;
    struct item *last = leases->heap[--leases->count];
    if (last != item) {
        last->at = item->at;
        sift(leases, last);
    }
    item->at = NOWHERE;
}

/* Owners. */

static void free_owner(struct owner *owner)
{
    tc_watch_free(owner->watch);
    if (owner->fd >= 0)
        close(owner->fd);
    free(owner);
}

static void let_go(struct tc_leases *leases, struct owner *owner)
{
    if (!owner || --owner->items > 0)
        return;
    for (struct owner **at = &leases->owners; *at; at = &(*at)->next)
        if (*at == owner) {
            *at = owner->next;
            break;
        }
    free_owner(owner);
}

static void look(struct tc_leases *leases);

static void on_owner_gone(void *arg, unsigned ready)
{
    (void)ready;
    struct owner *owner = arg;
    struct tc_leases *leases = owner->leases;
    tc_watch_want(owner->watch, 0, NULL);
    owner->gone = true;
    for (size_t i = 0; i < leases->count; i++) /* what has come up to an earlier place was due before what is there */
        if (leases->heap[i]->owner == owner && leases->heap[i]->due > 0) {
            leases->heap[i]->due = 0;
            sift(leases, leases->heap[i]);
        }
    look(leases);
}

static struct owner *find_owner(const struct tc_leases *leases, const struct tc_lease *lease)
{
    struct owner *owner = leases->owners;
    while (owner && (owner->pid != lease->pid || owner->start != lease->start))
        owner = owner->next;
    return owner;
}

/* NULL: it has ended (then *gone), or its end cannot be told. */
static struct owner *watch_owner(struct tc_leases *leases, const struct tc_lease *lease, bool *gone)
{
    struct owner *owner = lease->pid ? find_owner(leases, lease) : NULL;
    *gone = owner && owner->gone;
    if (owner || !lease->pid)
        return owner;
    int fd = tc_process_watch(lease->pid, lease->start);
    *gone = fd == -1;
    owner = fd < 0 ? NULL : calloc(1, sizeof *owner);
    if (!owner) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    *owner =
        (struct owner){.next = leases->owners, .leases = leases, .pid = lease->pid, .start = lease->start, .fd = fd};
    leases->owners = owner;
    owner->watch = tc_watch_new(leases->loop, fd, on_owner_gone, owner, NULL);
    if (owner->watch)
        tc_watch_want(owner->watch, TC_WATCH_READ, NULL);
    return owner;
}

/* Items. */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static struct item *find(struct tc_leases *leases, const char *name)
{
    void *node = tfind(name, &leases->names, by_name);
    return node ? *(struct item **)node : NULL;
}

static struct item *find_or_add(struct tc_leases *leases, const char *name)
{
    struct item *item = find(leases, name);
    if (item || !(item = calloc(1, sizeof *item)))
        return item;
    memcpy(item->name, name, strnlen(name, TC_NAME_MAX));
    item->at = NOWHERE;
    if (tsearch(item, &leases->names, by_name))
        return item;
    free(item);
    return NULL;
}

static void forget(struct tc_leases *leases, struct item *item)
{
    pull(leases, item);
    let_go(leases, item->owner);
    tdelete(item, &leases->names, by_name);
    free(item);
}

static void note(struct tc_leases *leases, const char *name, const struct tc_lease *lease)
{
    bool gone = false;
    struct item *item = lease->expires || lease->pid ? find_or_add(leases, name) : find(leases, name);
    if (!item)
        return;
    if (!lease->expires && !lease->pid) {
        forget(leases, item);
        return;
    }
    struct owner *owner = watch_owner(leases, lease, &gone), *before = item->owner;
    if (owner)
        owner->items++;
    item->owner = owner;
    let_go(leases, before);
    uint64_t now = tc_lease_clock(), left = gone ? 0 : tc_lease_left(lease);
    item->due = left < UINT64_MAX - now ? now + left : UINT64_MAX;
    if (item->at != NOWHERE)
        sift(leases, item);
    else if (push(leases, item) < 0)
        forget(leases, item); /* no memory: it ends when the next agent starts */
}

/* Ends. */

struct ending {
    struct tc_task task;
    struct tc_leases *leases;
    size_t count;
    struct {
        char name[TC_NAME_MAX + 1];
        int result; /* of tc_lease_end */
        struct tc_lease lease;
    } rows[BATCH];
    struct tc_err err;
};

static void end_run(struct tc_task *task, struct tc_worker *worker)
{
    (void)worker;
    struct ending *ending = (struct ending *)task;
    int result = 0;
    for (size_t i = 0; i < ending->count; i++) { /* the lock is waited for once */
        if (result != -TC_E_BUSY)
            result = tc_lease_end(ending->leases->folder, ending->rows[i].name, &ending->rows[i].lease, &ending->err);
        ending->rows[i].result = result;
    }
}

static void log_end(const char *name)
{
    tc_log(TC_LOG_INFO, "%s: its lease has ended, removed", name);
}

static void end_done(struct tc_task *task)
{
    struct ending *ending = (struct ending *)task;
    struct tc_leases *leases = ending->leases;
    uint64_t again = 0;
    if (ending->err.reason == TC_E_BUSY) {
        tc_log(TC_LOG_WARN, "arrays whose lease has ended stay for now: %s", ending->err.text);
        again = tc_lease_clock() + AGAIN_MS;
    }
    for (size_t i = 0; i < ending->count; i++) {
        struct item *item = find(leases, ending->rows[i].name);
        if (ending->rows[i].result > 0)
            log_end(ending->rows[i].name);
        if (!item || item->at != NOWHERE) /* it got another lease meanwhile */
            continue;
        item->due = again;
        if (ending->rows[i].result >= 0)
            note(leases, item->name, &ending->rows[i].lease);
        else if (push(leases, item) < 0)
            forget(leases, item);
    }
    leases->looking = false;
    free(ending);
    look(leases);
}

/* Have looked at what is due, and set the timer for what is not. */
static void look(struct tc_leases *leases)
{
    uint64_t now = tc_lease_clock();
    if (leases->looking || leases->stopped)
        return;
    tc_timer_clear(leases->timer);
    if (leases->count == 0)
        return;
    uint64_t left = leases->heap[0]->due > now ? leases->heap[0]->due - now : 0;
    struct ending *ending = left == 0 ? calloc(1, sizeof *ending) : NULL;
    if (!ending) {
        tc_timer_set(leases->timer, left == 0 ? AGAIN_MS : left < LOOK_MS ? left : LOOK_MS);
        return;
    }
    ending->task = (struct tc_task){.run = end_run, .done = end_done};
    ending->leases = leases;
    while (leases->count > 0 && leases->heap[0]->due <= now && ending->count < BATCH) {
        struct item *item = leases->heap[0];
        memcpy(ending->rows[ending->count++].name, item->name, sizeof item->name);
        pull(leases, item);
    }
    leases->looking = true;
    tc_pool_add(leases->pool, &ending->task);
}

static void on_timer(void *arg)
{
    look(arg);
}

/* Leases on request. */

struct giving {
    struct tc_task task;
    struct tc_leases *leases;
    char name[TC_NAME_MAX + 1];
    struct tc_lease lease;
    tc_leases_done *done;
    void *arg;
    struct tc_err err;
};

static void give_run(struct tc_task *task, struct tc_worker *worker)
{
    (void)worker;
    struct giving *giving = (struct giving *)task;
    tc_lease_set(giving->leases->folder, giving->name, &giving->lease, &giving->err);
}

static void give_done(struct tc_task *task)
{
    struct giving *giving = (struct giving *)task;
    if (giving->err.reason == 0)
        tc_leases_note(giving->leases, giving->name, &giving->lease);
    giving->done(giving->arg, &giving->err);
    free(giving);
}

int tc_leases_give(struct tc_leases *leases, const char *name, const struct tc_lease *lease, tc_leases_done *done,
                   void *arg, struct tc_err *err)
{
    struct giving *giving = leases->stopped ? NULL : calloc(1, sizeof *giving);
    if (!giving)
        return tc_fail(err, TC_E_NOMEM, "no memory for a lease");
    *giving = (struct giving){
        .task = {.run = give_run, .done = give_done}, .leases = leases, .lease = *lease, .done = done, .arg = arg};
    memcpy(giving->name, name, strnlen(name, TC_NAME_MAX));
    tc_pool_add(leases->pool, &giving->task);
    return 0;
}

void tc_leases_note(struct tc_leases *leases, const char *name, const struct tc_lease *lease)
{
    note(leases, name, lease);
    look(leases);
}

/* The beginning and the end. */

static void on_gone(void *arg, const char *name)
{
    (void)arg;
    log_end(name);
}

static void on_stays(void *arg, const char *name, const struct tc_lease *lease)
{
    note(arg, name, lease);
}

struct tc_leases *tc_leases_new(struct tc_loop *loop, struct tc_pool *pool, struct tc_folder *folder,
                                struct tc_err *err)
{
    struct tc_leases *leases = calloc(1, sizeof *leases);
    if (!leases) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    leases->loop = loop;
    leases->pool = pool;
    leases->folder = folder;
    leases->timer = tc_timer_new(loop, on_timer, leases, err);
    if (!leases->timer) {
        free(leases);
        return NULL;
    }
    struct tc_err why = {0};
    if (tc_lease_sweep(folder, on_gone, on_stays, leases, &why) == -TC_E_BUSY)
        tc_log(TC_LOG_WARN, "arrays whose lease has ended stay for now: %s", why.text);
    look(leases);
    return leases;
}

void tc_leases_stop(struct tc_leases *leases)
{
    if (leases)
        leases->stopped = true;
}

void tc_leases_free(struct tc_leases *leases)
{
    if (!leases)
        return;
    tc_leases_stop(leases);
    for (int ended = 0; leases->count > 0;) {
        struct item *item = leases->heap[0];
        struct tc_lease lease;
        if (ended >= 0 && item->due <= tc_lease_clock())
            ended = tc_lease_end(leases->folder, item->name, &lease, NULL);
        else
            ended = -TC_E_BUSY; /* or nothing more is due */
        if (ended > 0)
            log_end(item->name);
        forget(leases, item);
    }
    while (leases->owners) {
        struct owner *owner = leases->owners;
        leases->owners = owner->next;
        free_owner(owner);
    }
    tc_timer_free(leases->timer);
    tdestroy(leases->names, free);
    free(leases->heap);
    free(leases);
}
