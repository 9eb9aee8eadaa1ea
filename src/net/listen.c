#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#define BACKLOG 512
#define TURN 64         /* connections taken before the others in the loop get their turn */
#define BREATHER_MS 100 /* without descriptors: a readable listening socket would keep the loop spinning */
#define DEAF_TURNS 20   /* breathers in a row */

/* A link that is not up yet. */
struct pending {
    struct pending *next; /* younger */
    struct tc_link *link;
    struct in6_addr from;
};

struct tc_listen {
    struct tc_listen_options options;
    tc_listen_call *call;
    void *arg;
    int fd;
    struct tc_watch *watch;
    struct tc_timer *breather;
    struct pending *oldest;
    bool choked; /* and has said so */
    unsigned deaf_turns;
    char address[TC_ADDRESS_TEXT];
};

static struct in6_addr address_of(const struct sockaddr_storage *storage)
{
    struct in6_addr out = {0};
    if (storage->ss_family == AF_INET6) {
        out = ((const struct sockaddr_in6 *)(const void *)storage)->sin6_addr;
    } else {
        out.s6_addr[10] = out.s6_addr[11] = 0xff; /* as IPv6 writes it */
        memcpy(&out.s6_addr[12], &((const struct sockaddr_in *)(const void *)storage)->sin_addr, 4);
    }
    return out;
}

static void forget(struct tc_listen *self, const struct tc_link *link)
{
    for (struct pending **at = &self->oldest; *at; at = &(*at)->next) {
        struct pending *entry = *at;
        if (entry->link != link)
            continue;
        *at = entry->next;
        free(entry);
        return;
    }
}

static unsigned count_from(const struct tc_listen *self, const struct in6_addr *from)
{
    unsigned count = 0;
    for (const struct pending *entry = self->oldest; entry; entry = entry->next)
        count += memcmp(from, &entry->from, sizeof *from) == 0;
    return count;
}

/* The oldest of those from one address. */
static void end_oldest(struct tc_listen *self, const struct in6_addr *from)
{
    const struct pending *entry = self->oldest;
    while (entry && memcmp(from, &entry->from, sizeof *from) != 0)
        entry = entry->next;
    if (!entry)
        return;
    struct tc_link *link = entry->link;
    forget(self, link);
    tc_link_close(link, 0);
}

/* Room for one more from this address, and in all. There the address that has most gives way: a crowd from a few must
 * not push out a host that is only shaking hands. */
static void make_room(struct tc_listen *self, const struct in6_addr *from)
{
    struct in6_addr worst = *from;
    unsigned all = 0, most = 0;
    if (count_from(self, from) >= self->options.pending_per_address)
        end_oldest(self, from);
    for (const struct pending *entry = self->oldest; entry; entry = entry->next)
        all++;
    if (all < self->options.pending)
        return;
    for (const struct pending *entry = self->oldest; entry; entry = entry->next) {
        unsigned count = count_from(self, &entry->from);
        if (count > most) {
            most = count;
            worst = entry->from;
        }
    }
    end_oldest(self, &worst);
}

static void take(struct tc_listen *self, int fd, const struct sockaddr_storage *storage, socklen_t size)
{
    char peer[TC_ADDRESS_TEXT];
    struct pending *entry = malloc(sizeof *entry), **last = &self->oldest;
    if (!entry) {
        tc_log(TC_LOG_ERROR, "%s: no memory for a connection", self->address);
        close(fd);
        return;
    }
    *entry = (struct pending){.from = address_of(storage)};
    make_room(self, &entry->from);
    tc_address_text(peer, (const struct sockaddr *)(const void *)storage, size);
    entry->link = self->call(self->arg, fd, peer);
    if (!entry->link) {
        free(entry);
        return;
    }
    while (*last)
        last = &(*last)->next;
    *last = entry;
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
    while (self->oldest) {
        struct pending *entry = self->oldest;
        self->oldest = entry->next;
        free(entry);
    }
    free(self);
}
