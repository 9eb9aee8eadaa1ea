#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#define BACKLOG 4096    /* those of a flood fill it, and who finds it full comes again after a second */
#define TURN 16         /* connections taken before those that were taken are heard, and the rest of the loop */
#define BREATHER_MS 100 /* without descriptors: a readable listening socket would keep the loop spinning */
#define DEAF_TURNS 20   /* breathers in a row */

/* A link that is not up yet. */
struct pending {
    struct pending *next; /* younger, of the same source */
    struct tc_link *link;
};

/* All from one address, or of IPv6 from one network: whoever has one address there has 2^64. */
struct source {
    struct source *next;
    struct in6_addr from;
    struct pending *oldest, **youngest;
};

struct tc_listen {
    struct tc_listen_options options;
    tc_listen_call *call;
    void *arg;
    int fd;
    struct tc_watch *watch;
    struct tc_timer *breather;
    struct source *sources;
    bool choked; /* and has said so */
    unsigned deaf_turns;
    char address[TC_ADDRESS_TEXT];
};

static struct in6_addr address_of(const struct sockaddr_storage *storage)
{
    struct in6_addr out = {0};
    if (storage->ss_family == AF_INET6) {
        out = ((const struct sockaddr_in6 *)(const void *)storage)->sin6_addr;
        if (!IN6_IS_ADDR_V4MAPPED(&out))
            memset(&out.s6_addr[8], 0, 8);
    } else {
        out.s6_addr[10] = out.s6_addr[11] = 0xff; /* as IPv6 writes it */
        memcpy(&out.s6_addr[12], &((const struct sockaddr_in *)(const void *)storage)->sin_addr, 4);
    }
    return out;
}

static struct source *find(const struct tc_listen *self, const struct in6_addr *from)
{
    struct source *source = self->sources;
    while (source && memcmp(from, &source->from, sizeof *from) != 0)
        source = source->next;
    return source;
}

static struct source *find_or_add(struct tc_listen *self, const struct in6_addr *from)
{
    struct source *source = find(self, from);
    if (source || !(source = calloc(1, sizeof *source)))
        return source;
    source->next = self->sources;
    source->from = *from;
    source->youngest = &source->oldest;
    self->sources = source;
    return source;
}

static void forget_source(struct tc_listen *self, struct source *source)
{
    for (struct source **at = &self->sources; *at; at = &(*at)->next)
        if (*at == source) {
            *at = source->next;
            break;
        }
    free(source);
}

static bool remove_from(struct source *source, const struct tc_link *link)
{
    for (struct pending **at = &source->oldest; *at; at = &(*at)->next) {
        struct pending *entry = *at;
        if (entry->link != link)
            continue;
        *at = entry->next;
        if (!entry->next)
            source->youngest = at;
        free(entry);
        return true;
    }
    return false;
}

static void forget(struct tc_listen *self, const struct tc_link *link)
{
    for (struct source *source = self->sources; source; source = source->next)
        if (remove_from(source, link)) {
            if (!source->oldest)
                forget_source(self, source);
            return;
        }
}

static unsigned count(const struct source *source, bool proven)
{
    unsigned found = 0;
    for (const struct pending *entry = source->oldest; entry; entry = entry->next)
        found += tc_link_proven(entry->link) == proven;
    return found;
}

/* The oldest of a source that have shown who they are, or of those that have not. */
static void end_oldest(struct tc_listen *self, const struct source *source, bool proven)
{
    const struct pending *entry = source->oldest;
    while (entry && tc_link_proven(entry->link) != proven)
        entry = entry->next;
    if (!entry)
        return;
    struct tc_link *link = entry->link;
    forget(self, link);
    tc_link_reset(link);
}

/* Whether so many are too many: one of the unproven is to come yet. */
static bool too_many(unsigned count, bool proven, unsigned most)
{
    return proven ? count > most : count >= most;
}

/* Space for one more, from this address and in all. There the source that has most gives way: a crowd from a few must not
 * push out a host that is only shaking hands. Who has shown to be one of ours counts apart, and gives way to his like
 * only: a flood of outsiders from his own address does not push him out. */
static void make_capacity(struct tc_listen *self, const struct in6_addr *from, bool proven)
{
    const struct source *own = find(self, from), *worst = NULL;
    unsigned all = 0, most = 0;
    if (own && too_many(count(own, proven), proven, self->options.pending_per_address))
        end_oldest(self, own, proven);
    for (const struct source *source = self->sources; source; source = source->next) {
        unsigned here = count(source, proven);
        all += here;
        if (here >= most) { /* of several the one that has been here longest */
            most = here;
            worst = source;
        }
    }
    if (worst && too_many(all, proven, self->options.pending))
        end_oldest(self, worst, proven);
}

static void take(struct tc_listen *self, int fd, const struct sockaddr_storage *storage, socklen_t size)
{
    char peer[TC_ADDRESS_TEXT];
    struct in6_addr from = address_of(storage);
    struct pending *entry = calloc(1, sizeof *entry);
    if (!entry) {
        tc_log(TC_LOG_ERROR, "%s: no memory for a connection", self->address);
        close(fd);
        return;
    }
    make_capacity(self, &from, true);
    make_capacity(self, &from, false);
    tc_address_text(peer, (const struct sockaddr *)(const void *)storage, size);
    entry->link = self->call(self->arg, fd, peer);
    struct source *source = entry->link ? find_or_add(self, &from) : NULL;
    if (source) {
        *source->youngest = entry;
        source->youngest = &entry->next;
        return;
    }
    if (entry->link) { /* what is not counted is not kept */
        tc_log(TC_LOG_ERROR, "%s: no memory for a connection", self->address);
        tc_link_close(entry->link, 0);
    }
    free(entry);
}

static void on_breather(void *arg)
{
    struct tc_listen *self = arg;
    if (tc_watch_want(self->watch, TC_WATCH_READ, NULL) != 0)
        tc_timer_set(self->breather, BREATHER_MS);
}

static void choke(struct tc_listen *self, int number)
{
    struct tc_err why = {0};
    tc_fail_errno(&why, number, "%s: cannot accept connections", self->address);
    if (!self->choked)
        tc_log(TC_LOG_WARN, "%s", why.text);
    self->choked = true;
    tc_watch_want(self->watch, 0, NULL);
    tc_timer_set(self->breather, BREATHER_MS);
    if (++self->deaf_turns < DEAF_TURNS)
        return;
    self->deaf_turns = 0;
    if (self->options.deaf)
        self->options.deaf(self->arg, &why);
}

static void on_connection(void *arg, unsigned ready)
{
    (void)ready;
    struct tc_listen *self = arg;
    for (unsigned i = 0; i < TURN; i++) {
        struct sockaddr_storage storage = {0};
        socklen_t size = sizeof storage;
        int fd = accept4(self->fd, (struct sockaddr *)(void *)&storage, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            self->choked = false;
            self->deaf_turns = 0;
            take(self, fd, &storage, size);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            choke(self, errno);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            self->deaf_turns = 0; /* who could not be let in has gone */
            return;
        }
    }
}

static int fail_bind(const char *address, int number, struct tc_err *err)
{
    if (number == EADDRINUSE)
        return tc_fail(err, TC_E_BUSY, "%s: address in use; choose another port, or port 0 for any", address);
    if (number == EADDRNOTAVAIL)
        return tc_fail(err, TC_E_USAGE, "%s: not an address of this host", address);
    return tc_fail_errno(err, number, "%s: cannot listen", address);
}

static int open_socket(const struct addrinfo *info, const char *address, char where[TC_ADDRESS_TEXT],
                       struct tc_err *err)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr *own = (struct sockaddr *)(void *)&storage;
    socklen_t size = sizeof storage;
    int on = 1, off = 0;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return tc_fail_errno(err, errno, "%s: cannot listen", address);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) /* [::] is every address, IPv4 too, whatever the host's default */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, own, &size) != 0) {
        int number = errno;
        close(fd);
        return fail_bind(address, number, err);
    }
    tc_address_text(where, own, size);
    return fd;
}

int tc_listen_bind(const char *address, uint16_t port, char where[TC_ADDRESS_TEXT], struct tc_err *err)
{
    char host[TC_ADDRESS_HOST];
    struct addrinfo *list;
    int result = tc_address_split(address, host, &port, err);
    if (result != 0)
        return result;
    result = tc_address_resolve(host, port, false, &list);
    if (result != 0)
        return tc_fail(err, TC_E_USAGE, "%s: cannot listen: %s", address, gai_strerror(result));
    result = open_socket(list, address, where, err);
    freeaddrinfo(list);
    return result;
}

static struct tc_listen *listen_new(const struct tc_listen_options *options, tc_listen_call *call, void *arg)
{
    struct tc_listen *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = (struct tc_listen){.fd = -1, .call = call, .arg = arg};
    self->options.pending = options && options->pending ? options->pending : 256;
    self->options.deaf = options ? options->deaf : NULL;
    self->options.pending_per_address = options && options->pending_per_address ? options->pending_per_address : 64;
    return self;
}

/* Begin to accept; on failure self is gone. */
static struct tc_listen *listen_watch(struct tc_listen *self, struct tc_loop *loop, struct tc_err *err)
{
    self->breather = tc_timer_new(loop, on_breather, self, err);
    self->watch = tc_watch_new(loop, self->fd, on_connection, self, err);
    if (self->breather && self->watch && tc_watch_want(self->watch, TC_WATCH_READ, err) == 0)
        return self;
    tc_listen_close(self);
    return NULL;
}

struct tc_listen *tc_listen_open(struct tc_loop *loop, const char *address, uint16_t default_port,
                                 const struct tc_listen_options *options, tc_listen_call *call, void *arg,
                                 struct tc_err *err)
{
    struct tc_listen *self = listen_new(options, call, arg);
    if (!self) {
        tc_fail(err, TC_E_NOMEM, "%s: out of memory", address);
        return NULL;
    }
    self->fd = tc_listen_bind(address, default_port, self->address, err);
    if (self->fd < 0) {
        tc_listen_close(self);
        return NULL;
    }
    return listen_watch(self, loop, err);
}

struct tc_listen *tc_listen_adopt(struct tc_loop *loop, int fd, const struct tc_listen_options *options,
                                  tc_listen_call *call, void *arg, struct tc_err *err)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr *own = (struct sockaddr *)(void *)&storage;
    socklen_t size = sizeof storage;
    struct tc_listen *self = listen_new(options, call, arg);
    if (!self) {
        close(fd);
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    self->fd = fd;
    if (getsockname(fd, own, &size) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        tc_fail_errno(err, errno, "the socket that was handed over");
        tc_listen_close(self);
        return NULL;
    }
    tc_address_text(self->address, own, size);
    return listen_watch(self, loop, err);
}

/* A variable that is a number, -1 when it is not there. */
static long number_of(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    long number = text && *text ? strtol(text, &end, 10) : -1;
    return end && !*end ? number : -1;
}

int tc_listen_inherited(char address[TC_ADDRESS_TEXT], struct tc_err *err)
{
    enum { FIRST = 3 };
    struct sockaddr_storage storage = {0};
    socklen_t size = sizeof storage, length = sizeof(int);
    int listens = 0;
    long count = number_of("LISTEN_PID") == (long)getpid() ? number_of("LISTEN_FDS") : 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (count <= 0)
        return 0;
    if (count > 1)
        return tc_fail(err, TC_E_USAGE, "%ld sockets were handed over (LISTEN_FDS): an agent listens on one", count);
    if (getsockopt(FIRST, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0 || !listens ||
        getsockname(FIRST, (struct sockaddr *)(void *)&storage, &size) < 0 ||
        (storage.ss_family != AF_INET && storage.ss_family != AF_INET6))
        return tc_fail(err, TC_E_USAGE, "descriptor 3, handed over by LISTEN_FDS, is no listening TCP socket");
    tc_address_text(address, (const struct sockaddr *)(void *)&storage, size);
    return FIRST;
}

const char *tc_listen_address(const struct tc_listen *self)
{
    return self->address;
}

void tc_listen_up(struct tc_listen *self, struct tc_link *link)
{
    forget(self, link);
}

void tc_listen_gone(struct tc_listen *self, struct tc_link *link)
{
    forget(self, link);
}

void tc_listen_close(struct tc_listen *self)
{
    if (!self)
        return;
    tc_watch_free(self->watch);
    tc_timer_free(self->breather);
    if (self->fd >= 0)
        close(self->fd);
    while (self->sources) {
        struct source *source = self->sources;
        while (source->oldest)
            remove_from(source, source->oldest->link);
        forget_source(self, source);
    }
    free(self);
}
