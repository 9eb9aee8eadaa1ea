#include "node/leases.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "file/lease.h"

enum {
    LOOK_MOST = 3600, /* seconds: the clock that leases are written in may be set anew meanwhile */
    LOOK_AGAIN = 10   /* when another process held the folder's lock */
};

struct owner {
    struct owner *next;
    struct tc_leases *leases;
    uint32_t pid;
    uint64_t start;
    int fd; /* -1: the kernel cannot tell its end */
    struct tc_watch *watch;
    bool named; /* by a lease that was seen in this round */
};

struct tc_leases {
    struct tc_loop *loop;
    struct tc_folder *folder;
    struct tc_timer *timer;
    struct owner *owners;
    uint64_t next; /* the earliest end that was seen in this round; 0: none */
    bool again;    /* an owner ended while it was about to be watched */
};

static void free_owner(struct owner *owner)
{
    tc_watch_free(owner->watch);
    if (owner->fd >= 0)
        close(owner->fd);
    free(owner);
}

static void on_owner_gone(void *arg, unsigned ready)
{
    (void)ready;
    tc_leases_look(((struct owner *)arg)->leases);
}

static void on_timer(void *arg)
{
    tc_leases_look(arg);
}

static void watch_owner(struct tc_leases *leases, const struct tc_lease *lease)
{
    for (struct owner *owner = leases->owners; owner; owner = owner->next)
        if (owner->pid == lease->pid && owner->start == lease->start) {
            owner->named = true;
            return;
        }
    int fd = tc_process_watch(lease->pid, lease->start);
    if (fd == -1)
        leases->again = true;
    struct owner *owner = fd < 0 ? NULL : calloc(1, sizeof *owner);
    if (!owner) {
        if (fd >= 0)
            close(fd);
        return;
    }
    *owner = (struct owner){
        .next = leases->owners, .leases = leases, .pid = lease->pid, .start = lease->start, .fd = fd, .named = true};
    leases->owners = owner;
    owner->watch = tc_watch_new(leases->loop, fd, on_owner_gone, owner, NULL);
    if (owner->watch)
        tc_watch_want(owner->watch, TC_WATCH_READ, NULL);
}

static void on_gone(void *arg, const char *name)
{
    (void)arg;
    tc_log(TC_LOG_INFO, "%s: its lease has ended, removed", name);
}

static void on_stays(void *arg, const struct tc_lease *lease)
{
    struct tc_leases *leases = arg;
    if (lease->expires && (!leases->next || lease->expires < leases->next))
        leases->next = lease->expires;
    if (lease->pid)
        watch_owner(leases, lease);
}

static void forget_unnamed(struct tc_leases *leases)
{
    for (struct owner **at = &leases->owners; *at;) {
        struct owner *owner = *at;
        if (owner->named) {
            at = &owner->next;
            continue;
        }
        *at = owner->next;
        free_owner(owner);
    }
}

static void set_timer(struct tc_leases *leases, uint64_t now)
{
    uint64_t left = leases->next > now ? leases->next - now : 0;
    if (!leases->next)
        tc_timer_clear(leases->timer);
    else
        tc_timer_set(leases->timer, (left < LOOK_MOST ? left : LOOK_MOST) * 1000);
}

void tc_leases_look(struct tc_leases *leases)
{
    uint64_t now;
    do {
        now = (uint64_t)time(NULL);
        leases->next = 0;
        leases->again = false;
        for (struct owner *owner = leases->owners; owner; owner = owner->next)
            owner->named = false;
        struct tc_err err = {0};
        if (tc_lease_sweep(leases->folder, now, on_gone, on_stays, leases, &err) == -TC_E_BUSY) {
            tc_log(TC_LOG_WARN, "arrays whose lease has ended stay for now: %s", err.text);
            leases->next = now + LOOK_AGAIN;
            break;
        }
    } while (leases->again);
    forget_unnamed(leases);
    set_timer(leases, now);
}

struct tc_leases *tc_leases_new(struct tc_loop *loop, struct tc_folder *folder, struct tc_err *err)
{
    struct tc_leases *leases = calloc(1, sizeof *leases);
    if (!leases) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    leases->loop = loop;
    leases->folder = folder;
    leases->timer = tc_timer_new(loop, on_timer, leases, err);
    if (!leases->timer) {
        free(leases);
        return NULL;
    }
    tc_leases_look(leases);
    return leases;
}

void tc_leases_free(struct tc_leases *leases)
{
    if (!leases)
        return;
    tc_timer_free(leases->timer);
    while (leases->owners) {
        struct owner *owner = leases->owners;
        leases->owners = owner->next;
        free_owner(owner);
    }
    free(leases);
}
