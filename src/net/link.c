#include "net/link.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/address.h"
#include "net/peer.h"
#include "net/resolver.h"

#define HEAD_MAX (64u * 1024)      /* of tc_link_send */
#define TURN (256u * 1024)         /* bytes one link may move before the others get their turn */
#define TURN_STEPS 128u            /* reads, each a TLS record at most, and frames before that */
#define POOLED (32u * 1024)        /* smallest body that comes from the pool */
#define IN_SIZE 4096u              /* heads and small bodies; what is left of a larger body is read straight into it */
#define LAST_WORDS_MS 1000         /* for what a peer still said when it no longer listens */
#define FIRST_PAUSE_MS 20u         /* before a peer is dialled again, and twice as long before each next time */
#define PULSE_MS 1000              /* between looks whether the peer's host still acknowledges what it gets */
#define PULSES_MISSED 5            /* in a row, and it is dead */
#define BATCH (48u * 1024)         /* bytes of a body worth waking for */
#define BEHIND (20u * 1024)        /* of what a body still lacks, this much may lie in TLS already: a record and more */
#define REFUSED_MS 200             /* for a peer of another user to see whose socket it has reached */
#define LOOK_MOST_MS 64            /* between looks whether a process has accepted what was dialled */
#define WANT_READ TC_TLS_WANT_READ /* the same words for plain links */
#define WANT_WRITE TC_TLS_WANT_WRITE

enum state { RESOLVING, CONNECTING, ACCEPTED, IDENTIFY, HANDSHAKE, OPEN, LINGER, CLOSING, ENDED };

struct frame {
    struct frame *next;
    struct tc_blob *payload;
    size_t head_size, size, at; /* bytes: frame head and head, all, gone */
    uint8_t head[];
};

struct tc_link {
    struct tc_loop *loop;
    struct tc_link_options options; /* its identity and key are the copies below */
    enum state state;
    bool inside;  /* a callback from the loop runs: do not free */
    bool dropped; /* no more events; freed when not inside */
    bool paused;
    bool broken;   /* the peer takes nothing any more; why says it */
    bool finished; /* LINGER: all is sent and the peer was told */
    bool watching_write;
    bool owed; /* DRAINED for a frame that was queued */
    unsigned handshake_wants;
    int fd;
    struct tc_watch *watch;
    struct tc_timer *deadline; /* of the state */
    struct tc_timer *go;       /* advance without the socket saying so */
    struct tc_timer *pulse;    /* while something is not acknowledged */
    unsigned go_wants;         /* what go is set for; 0: it is not */
    bool pulsing;
    unsigned missed; /* pulses without a word from the peer's host */
    int batch;       /* SO_RCVLOWAT as it is set */
    unsigned looks;  /* for the peer's user, so far */
    struct tc_tls *tls;
    struct tc_err why;

    struct tc_lookup *lookup;
    struct tc_watch *lookup_watch;
    struct addrinfo *numeric;                            /* instead of a lookup */
    const struct addrinfo *first_address, *next_address; /* of either */
    unsigned dialled;                                    /* again */
    uint64_t connect_by;

    struct frame *first, **last;
    size_t queued;
    uint64_t sent, received;

    uint8_t type; /* of body */
    struct tc_blob *body;
    size_t body_at;
    size_t in_at, in_end;
    uint8_t in[IN_SIZE];

    uint8_t identity[TC_IDENTITY_MAX];
    uint8_t key[TC_KEY_SIZE];
    bool loopback;
    char peer[TC_ADDRESS_TEXT], local[TC_ADDRESS_TEXT];
};

static void advance(struct tc_link *link, unsigned ready);

/* Set once only: a timer that is due and is set again goes behind every socket that is ready. */
static void go_soon(struct tc_link *link, unsigned wants)
{
    if (link->go_wants == 0)
        tc_timer_set(link->go, 0);
    link->go_wants |= wants;
}

/* --- ends --- */

static void clear_queue(struct tc_link *link)
{
    while (link->first) {
        struct frame *frame = link->first;
        link->first = frame->next;
        tc_blob_unref(frame->payload);
        free(frame);
    }
    link->last = &link->first;
    link->queued = 0;
}

static void close_socket(struct tc_link *link)
{
    tc_watch_free(link->watch);
    link->watch = NULL;
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
}

static void forget_addresses(struct tc_link *link)
{
    tc_watch_free(link->lookup_watch);
    link->lookup_watch = NULL;
    tc_lookup_end(link->lookup);
    link->lookup = NULL;
    if (link->numeric)
        freeaddrinfo(link->numeric);
    link->numeric = NULL;
    link->first_address = link->next_address = NULL;
}

/* Everything but the memory of the link itself, which a caller further up may still look at. */
static void release(struct tc_link *link)
{
    link->state = ENDED;
    forget_addresses(link);
    tc_tls_free(link->tls);
    link->tls = NULL;
    close_socket(link);
    clear_queue(link);
    tc_blob_unref(link->body);
    link->body = NULL;
    tc_timer_free(link->deadline);
    tc_timer_free(link->go);
    tc_timer_free(link->pulse);
    link->deadline = link->go = link->pulse = NULL;
    explicit_bzero(link->key, sizeof link->key);
}

static void emit(struct tc_link *link, const struct tc_link_event *event)
{
    if (!link->dropped)
        link->options.call(link, event, link->options.arg);
}

/* The end, with err NULL for one that was asked for. */
static void finish(struct tc_link *link, struct tc_err *err)
{
    struct tc_err none = {0};
    if (link->state == ENDED)
        return;
    release(link);
    if (err)
        tc_err_prefix(err, "%s", link->peer);
    emit(link, &(struct tc_link_event){.kind = TC_LINK_CLOSED, .why = err ? err : &none});
    link->dropped = true;
}

/* --- frames in --- */

static int begin_body(struct tc_link *link, struct tc_err *err)
{
    const uint8_t *bytes = link->in + link->in_at;
    struct tc_buf buf = tc_buf_reader(bytes, TC_FRAME_HEAD);
    uint32_t length = tc_buf_get32(&buf);
    uint32_t type_and_zero = tc_buf_get32(&buf);
    link->type = (uint8_t)(type_and_zero >> 24);
    if (!link->tls && link->received == 0 && (bytes[0] == 0x15 || bytes[0] == 0x16) && bytes[1] == 0x03)
        return tc_fail(err, TC_E_AUTH, "peer speaks TLS, this side has no key; give both sides the same key file");
    if (type_and_zero & 0xffffff)
        return tc_fail(err, TC_E_PROTOCOL, "not a frame (its reserved bits are set)");
    uint32_t limit = link->options.limit(link->type);
    if (limit == 0)
        return tc_fail(err, TC_E_PROTOCOL, "frame of type %u is not allowed here", link->type);
    if (link->options.most && limit > link->options.most)
        limit = link->options.most;
    if (length > limit)
        return tc_fail(err, TC_E_PROTOCOL, "frame of type %u has %u bytes, at most %u are allowed", link->type, length,
                       limit);
    link->body = tc_blob_new(length >= POOLED ? link->options.blobs : NULL, length);
    if (!link->body)
        return tc_fail(err, TC_E_NOMEM, "no memory for a frame of %u bytes", length);
    link->body_at = 0;
    link->in_at += TC_FRAME_HEAD;
    return 0;
}

static void deliver(struct tc_link *link)
{
    struct tc_blob *body = link->body;
    link->body = NULL;
    link->received += TC_FRAME_HEAD + body->size;
    emit(link, &(struct tc_link_event){.kind = TC_LINK_FRAME, .type = link->type, .body = body});
    tc_blob_unref(body);
}

/* Use what lies in the small buffer. Returns whether a frame or the link ended with it. */
static bool take_buffered(struct tc_link *link)
{
    struct tc_err err = {0};
    if (!link->body) {
        if (link->in_end - link->in_at < TC_FRAME_HEAD)
            return false;
        if (begin_body(link, &err) != 0) {
            finish(link, &err);
            return true;
        }
    }
    size_t left = link->body->size - link->body_at, here = link->in_end - link->in_at;
    size_t count = left < here ? left : here;
    if (count > 0)
        memcpy(link->body->bytes + link->body_at, link->in + link->in_at, count);
    link->body_at += count;
    link->in_at += count;
    if (link->body_at < link->body->size)
        return false;
    deliver(link);
    return true;
}

static ssize_t receive(struct tc_link *link, void *bytes, size_t size, struct tc_err *err)
{
    if (link->tls)
        return tc_tls_read(link->tls, bytes, size, err);
    for (;;) {
        ssize_t got = recv(link->fd, bytes, size, 0);
        if (got > 0)
            return got;
        if (got == 0)
            return tc_fail(err, TC_E_CLOSED, "peer closed the connection%s", link->body ? " within a frame" : "");
        if (errno == EAGAIN)
            return WANT_READ;
        if (errno != EINTR)
            return tc_fail_errno(err, errno, "connection lost");
    }
}

/* Read more: the rest of a large body into its own memory, all else into the small buffer. */
static ssize_t fill(struct tc_link *link, struct tc_err *err)
{
    if (link->body && link->body->size - link->body_at >= IN_SIZE) {
        ssize_t got = receive(link, link->body->bytes + link->body_at, link->body->size - link->body_at, err);
        if (got > 0)
            link->body_at += (size_t)got;
        return got;
    }
    size_t here = link->in_end - link->in_at;
    memmove(link->in, link->in + link->in_at, here);
    link->in_at = 0;
    link->in_end = here;
    ssize_t got = receive(link, link->in + here, IN_SIZE - here, err);
    if (got > 0)
        link->in_end += (size_t)got;
    return got;
}

/* Of a large body the rest is worth waking for only in larger parts. Never more than what is sure to come: some of what
 * the body lacks may have been read from the socket already. */
static void wait_for_more(struct tc_link *link)
{
    size_t lacks = link->body ? link->body->size - link->body_at : 0;
    int batch = lacks <= BEHIND ? 1 : lacks - BEHIND > BATCH ? (int)BATCH : (int)(lacks - BEHIND);
    if (batch == link->batch)
        return;
    link->batch = batch;
    setsockopt(link->fd, SOL_SOCKET, SO_RCVLOWAT, &batch, sizeof batch);
}

static void read_some(struct tc_link *link)
{
    struct tc_err err = {0};
    size_t moved = 0;
    unsigned steps = 0;
    while (link->state == OPEN && !link->paused) {
        bool late = moved >= TURN || steps++ >= TURN_STEPS;
        if (!late && take_buffered(link))
            continue;
        if (late) {
            go_soon(link, TC_WATCH_READ); /* not the socket: the rest may lie inside TLS */
            return;
        }
        ssize_t got = fill(link, &err);
        if (got == WANT_READ) {
            wait_for_more(link);
            return;
        }
        if (got < 0) {
            finish(link, link->broken ? &link->why : &err);
            return;
        }
        moved += (size_t)got;
    }
}

/* --- frames out --- */

static size_t unsent(const struct tc_link *link)
{
    return link->queued + (link->tls ? tc_tls_unsent(link->tls) : 0);
}

/* The part of frame that starts at its byte at: within the head or within the payload. */
static struct iovec part_of(const struct frame *frame, size_t at)
{
    if (at < frame->head_size)
        return (struct iovec){(void *)(uintptr_t)(frame->head + at), frame->head_size - at};
    return (struct iovec){frame->payload->bytes + (at - frame->head_size), frame->size - at};
}

static void consume(struct tc_link *link, size_t count)
{
    link->queued -= count;
    while (link->first && count >= link->first->size - link->first->at) {
        struct frame *frame = link->first;
        count -= frame->size - frame->at;
        link->sent += frame->size;
        link->first = frame->next;
        if (!link->first)
            link->last = &link->first;
        tc_blob_unref(frame->payload);
        free(frame);
    }
    if (link->first)
        link->first->at += count;
}

static ssize_t write_plain(struct tc_link *link, struct tc_err *err)
{
    struct iovec parts[64];
    struct msghdr message = {.msg_iov = parts};
    size_t total = 0, limit = sizeof parts / sizeof parts[0];
    for (const struct frame *frame = link->first; frame && total < TURN; frame = frame->next) {
        for (size_t at = frame->at; at < frame->size && message.msg_iovlen < limit;) {
            struct iovec part = part_of(frame, at);
            parts[message.msg_iovlen++] = part;
            at += part.iov_len;
            total += part.iov_len;
        }
    }
    for (;;) {
        ssize_t done = sendmsg(link->fd, &message, MSG_NOSIGNAL);
        if (done >= 0)
            return done;
        if (errno == EAGAIN)
            return WANT_WRITE;
        if (errno != EINTR)
            return tc_fail_errno(err, errno, "connection lost");
    }
}

/* Small parts of the queue, the heads of frames above all, gathered until a TLS record is full: each record costs some
 * microseconds at both ends, however little it carries. */
static ssize_t write_gathered(struct tc_link *link, struct tc_err *err)
{
    uint8_t record[TC_TLS_RECORD];
    size_t count = 0;
    for (const struct frame *frame = link->first; frame && count < sizeof record; frame = frame->next)
        for (size_t at = frame->at; at < frame->size && count < sizeof record;) {
            struct iovec part = part_of(frame, at);
            size_t taken = part.iov_len < sizeof record - count ? part.iov_len : sizeof record - count;
            memcpy(record + count, part.iov_base, taken);
            count += taken;
            at += taken;
        }
    return tc_tls_write(link->tls, record, count, err);
}

static ssize_t write_tls(struct tc_link *link, struct tc_err *err)
{
    if (!link->first)
        return tc_tls_flush(link->tls, err);
    struct iovec part = part_of(link->first, link->first->at);
    if (part.iov_len < TC_TLS_RECORD)
        return write_gathered(link, err);
    return tc_tls_write(link->tls, part.iov_base, part.iov_len / TC_TLS_RECORD * TC_TLS_RECORD, err);
}

/* The peer takes no more; what it said before may still lie here and comes first. */
static void on_broken(struct tc_link *link, struct tc_err *err)
{
    if (err->reason != TC_E_CLOSED || link->paused || link->state != OPEN) {
        finish(link, link->state == LINGER ? NULL : err);
        return;
    }
    link->why = *err;
    link->broken = true;
    clear_queue(link);
    tc_timer_set(link->deadline, LAST_WORDS_MS);
    read_some(link);
}

static void tell_drained(struct tc_link *link)
{
    if (link->state != OPEN || !link->owed || unsent(link) > link->options.low_water)
        return;
    link->owed = false;
    emit(link, &(struct tc_link_event){.kind = TC_LINK_DRAINED});
}

static void set_pulse(struct tc_link *link)
{
    link->pulsing = true;
    tc_timer_set(link->pulse, PULSE_MS);
}

static void write_some(struct tc_link *link)
{
    struct tc_err err = {0};
    size_t moved = 0;
    while ((link->state == OPEN || link->state == LINGER) && !link->broken && unsent(link) > 0 && moved < TURN) {
        ssize_t done = link->tls ? write_tls(link, &err) : write_plain(link, &err);
        if (done == WANT_WRITE)
            break;
        if (done < 0) {
            on_broken(link, &err);
            return;
        }
        consume(link, (size_t)done);
        moved += (size_t)done;
        tell_drained(link);
    }
    tell_drained(link);
    if (moved > 0 && link->state == OPEN && !link->pulsing)
        set_pulse(link);
}

/* --- ladder to UP --- */

static void names_of(struct tc_link *link)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr *address = (struct sockaddr *)(void *)&storage;
    socklen_t size = sizeof storage;
    int on = 1, idle = 2, interval = 1, probes = 3;
    if (getsockname(link->fd, address, &size) == 0)
        tc_address_text(link->local, address, size);
    size = sizeof storage;
    if (getpeername(link->fd, address, &size) == 0) {
        link->loopback = tc_address_loopback(address);
        if (link->peer[0] == '\0') /* else the address as it was dialled */
            tc_address_text(link->peer, address, size);
    }
    if (storage.ss_family == AF_UNIX)
        return;
    /* An idle dead peer shows within 5 s; one that was sent something, by on_pulse. Not TCP_USER_TIMEOUT: it also ends a
     * live peer whose window is shut. */
    setsockopt(link->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(link->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(link->fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(link->fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void go_up(struct tc_link *link)
{
    link->state = OPEN;
    forget_addresses(link);
    explicit_bzero(link->key, sizeof link->key);
    tc_timer_clear(link->deadline);
    emit(link, &(struct tc_link_event){.kind = TC_LINK_UP});
    if (link->state == OPEN)
        go_soon(link, TC_WATCH_READ | TC_WATCH_WRITE); /* frames may have come with the handshake */
}

/* After a reset before the handshake was done: the peer had to choose among many that it does not know. */
static bool dial_again(struct tc_link *link)
{
    uint64_t pause = FIRST_PAUSE_MS << link->dialled;
    if (!link->first_address || link->dialled >= link->options.again ||
        tc_loop_now(link->loop) + pause >= link->connect_by)
        return false;
    link->dialled++;
    tc_tls_free(link->tls);
    link->tls = NULL;
    close_socket(link);
    link->next_address = link->first_address;
    link->state = CONNECTING;
    tc_timer_set(link->deadline, pause);
    return true;
}

static void shake_hands(struct tc_link *link)
{
    struct tc_err err = {0};
    int said = tc_tls_handshake(link->tls, &err);
    if (said == 0)
        go_up(link);
    else if (said == TC_TLS_WANT_IDENTITY)
        link->handshake_wants = 0; /* bytes that wait there must not wake the loop again and again */
    else if (said == WANT_READ)
        link->handshake_wants = TC_WATCH_READ;
    else if (said == WANT_WRITE)
        link->handshake_wants = TC_WATCH_WRITE;
    else if (!tc_tls_reset(link->tls) || !dial_again(link))
        finish(link, &err);
}

static bool has_ended(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

/* Nothing is read or sent before the peer is known to be of this user. What was dialled is nobody's until it is accepted,
 * which no event tells: till then it counts as of who listens, if that is this user; an agent whose port root has bound for
 * it has to accept first. */
static void identify(struct tc_link *link)
{
    struct tc_err err = {0};
    uid_t uid = 0;
    bool dialled = link->connect_by != 0;
    if (link->why.reason) /* refused, and waiting for its end */
        return;
    int found = tc_peer_user(link->fd, &uid, &err);
    bool own = found > 0 && uid == geteuid();
    if (found == 0 && dialled && !link->options.accepted && !has_ended(link->fd)) /* a host with a crowd at its port is told HELLO at once */
        own = tc_peer_listener(link->fd, &uid) > 0 && uid == geteuid();
    if (own) {
        go_up(link);
    } else if (found > 0) {
        tc_fail(&link->why, TC_E_AUTH,
                "without a key only processes of one user serve each other, and the other end is uid %lu's: use a key "
                "('treecast keygen FILE', -k FILE)",
                (unsigned long)uid);
        tc_timer_set(link->deadline, dialled ? 0 : REFUSED_MS);
    } else if (found == 0 && dialled && !has_ended(link->fd)) {
        link->go_wants = TC_WATCH_READ;
        tc_timer_set(link->go, 1u << link->looks < LOOK_MOST_MS ? 1u << link->looks++ : LOOK_MOST_MS);
    } else if (!dialled || !dial_again(link)) {
        tc_fail(&err, TC_E_CLOSED, "peer closed the connection");
        finish(link, &err);
    }
}

static void connected(struct tc_link *link)
{
    const struct tc_link_options *options = &link->options;
    struct tc_err err = {0};
    names_of(link);
    if (!options->tls && options->same_user) {
        link->state = IDENTIFY;
        link->why = (struct tc_err){0};
        tc_timer_set(link->deadline, options->connect_ms);
        identify(link);
        return;
    }
    if (!options->tls) {
        go_up(link);
        return;
    }
    if (options->lookup)
        link->tls = tc_tls_server(link->fd, options->lookup, options->lookup_arg, &err);
    else
        link->tls = tc_tls_client(link->fd, link->identity, options->identity_size, link->key, &err);
    if (!link->tls) {
        finish(link, &err);
        return;
    }
    link->state = HANDSHAKE;
    tc_timer_set(link->deadline, options->handshake_ms);
    shake_hands(link);
}

static void on_ready(void *arg, unsigned ready)
{
    advance(arg, ready);
}

/* 1 when connected, 0 when under way, negative when this address is no use. */
static int try_address(struct tc_link *link, const struct addrinfo *address)
{
    link->why = (struct tc_err){0};
    link->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0)
        return tc_fail_errno(&link->why, errno, "no socket");
    link->watch = tc_watch_new(link->loop, link->fd, on_ready, link, &link->why);
    if (!link->watch)
        return -TC_E_NOMEM;
    if (connect(link->fd, address->ai_addr, address->ai_addrlen) == 0)
        return 1;
    if (errno != EINPROGRESS)
        return tc_fail(&link->why, TC_E_UNREACHABLE, "cannot connect: %s", strerror(errno));
    return 0;
}

static void connect_next(struct tc_link *link)
{
    while (link->next_address) {
        const struct addrinfo *address = link->next_address;
        uint64_t now = tc_loop_now(link->loop), left = now < link->connect_by ? link->connect_by - now : 0, count = 0;
        for (const struct addrinfo *other = address; other; other = other->ai_next)
            count++;
        link->next_address = address->ai_next;
        int result = try_address(link, address);
        if (result == 1) {
            connected(link);
            return;
        }
        if (result == 0) {
            tc_timer_set(link->deadline, left / count); /* one silent address must not use up the time of the others */
            return;
        }
        close_socket(link);
    }
    finish(link, &link->why);
}

static void on_connect(struct tc_link *link)
{
    int number = 0;
    socklen_t size = sizeof number;
    if (link->fd >= 0) {
        getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &number, &size);
        if (number == 0) {
            connected(link);
            return;
        }
        if (number == ECONNRESET && dial_again(link))
            return;
        link->why = (struct tc_err){0};
        tc_fail(&link->why, TC_E_UNREACHABLE, "cannot connect: %s", strerror(number));
        close_socket(link);
    }
    connect_next(link);
}

/* --- names --- */

static void on_resolved(void *arg, unsigned ready)
{
    (void)ready;
    struct tc_link *link = arg;
    if (tc_lookup_result(link->lookup, &link->first_address, &link->why) == -TC_E_BUSY)
        return;
    link->next_address = link->first_address;
    tc_watch_free(link->lookup_watch);
    link->lookup_watch = NULL;
    link->state = CONNECTING;
    advance(link, 0);
}

static int start_lookup(struct tc_link *link, const char *host, uint16_t port, struct tc_err *err)
{
    link->lookup = tc_lookup_begin(host, port, err);
    if (!link->lookup)
        return -TC_E_NOMEM;
    link->lookup_watch = tc_watch_new(link->loop, tc_lookup_fd(link->lookup), on_resolved, link, err);
    return link->lookup_watch ? tc_watch_want(link->lookup_watch, TC_WATCH_READ, err) : -TC_E_NOMEM;
}

/* --- the loop's callbacks --- */

static void linger_some(struct tc_link *link)
{
    uint8_t waste[16384];
    write_some(link);
    if (link->state == LINGER && !link->finished && unsent(link) == 0) {
        link->finished = true;
        if (link->tls) {
            tc_tls_end(link->tls);
            tc_tls_flush(link->tls, NULL); /* a few bytes into an empty socket, and only a courtesy */
        }
        shutdown(link->fd, SHUT_WR);
    }
    /* Until the peer has closed too: a close with unread bytes is a reset, and that takes what was sent with it. */
    for (size_t moved = 0; link->state == LINGER && moved < TURN; moved += sizeof waste) {
        ssize_t got = recv(link->fd, waste, sizeof waste, 0);
        if (got > 0 || (got < 0 && errno == EINTR))
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        finish(link, NULL);
    }
}

static int settle(struct tc_link *link, struct tc_err *err)
{
    unsigned wants = 0;
    if (!link->watch)
        return 0;
    if (link->state == CONNECTING)
        wants = TC_WATCH_WRITE;
    if (link->state == HANDSHAKE)
        wants = link->handshake_wants;
    if ((link->state == OPEN && !link->paused) || link->state == LINGER)
        wants = TC_WATCH_READ;
    bool tried = !(link->go_wants & TC_WATCH_WRITE); /* else the socket may well take it all at once */
    if ((link->state == OPEN || link->state == LINGER) && !link->broken && tried && unsent(link) > 0)
        wants |= TC_WATCH_WRITE;
    link->watching_write = wants & TC_WATCH_WRITE;
    return tc_watch_want(link->watch, wants, err);
}

static void enter(struct tc_link *link)
{
    link->inside = true;
}

static void leave(struct tc_link *link)
{
    struct tc_err err = {0};
    if (link->state != ENDED && settle(link, &err) != 0)
        finish(link, &err);
    link->inside = false;
    if (link->dropped)
        free(link);
}

static void advance(struct tc_link *link, unsigned ready)
{
    enter(link);
    switch (link->state) {
    case CONNECTING:
        on_connect(link);
        break;
    case ACCEPTED:
        connected(link);
        break;
    case IDENTIFY:
        identify(link);
        break;
    case HANDSHAKE:
        shake_hands(link);
        break;
    case OPEN:
        if (ready & TC_WATCH_WRITE)
            write_some(link);
        if (ready & TC_WATCH_READ)
            read_some(link);
        break;
    case LINGER:
        linger_some(link);
        break;
    default:
        break;
    }
    leave(link);
}

static void on_go(void *arg)
{
    struct tc_link *link = arg;
    unsigned wants = link->go_wants;
    link->go_wants = 0;
    advance(link, wants);
}

/* Keepalive rests while anything is not acknowledged, and the kernel goes on repeating that for a quarter of an hour. A
 * shut window is acknowledged too, so a peer that is only slow, or stopped, is not taken for dead. */
static void on_pulse(void *arg)
{
    struct tc_link *link = arg;
    struct tc_err err = {0};
    link->pulsing = false;
    if (link->state != OPEN || link->broken)
        return;
    enter(link);
    struct tc_flow flow = tc_link_flow(link);
    link->missed = flow.waits >= PULSE_MS ? link->missed + 1 : 0;
    if (link->missed >= PULSES_MISSED) {
        tc_fail(&err, TC_E_CLOSED, "connection lost: nothing was acknowledged for %d s", PULSES_MISSED);
        on_broken(link, &err);
    } else if (flow.backlog > 0) {
        set_pulse(link);
    }
    leave(link);
}

static void on_deadline(void *arg)
{
    struct tc_link *link = arg;
    struct tc_err err = {0};
    enter(link);
    switch (link->state) {
    case RESOLVING:
        tc_fail(&err, TC_E_TIMEOUT, "the name was not resolved within %u ms", link->options.connect_ms);
        finish(link, &err);
        break;
    case CONNECTING:
        link->why = (struct tc_err){0};
        tc_fail(&link->why, TC_E_TIMEOUT, "no answer within %u ms", link->options.connect_ms);
        close_socket(link);
        connect_next(link);
        break;
    case IDENTIFY:
        if (!link->why.reason)
            tc_fail(&link->why, TC_E_TIMEOUT, "nobody accepted the connection within %u ms", link->options.connect_ms);
        finish(link, &link->why);
        break;
    case HANDSHAKE:
        if (link->connect_by) /* it was dialled */
            tc_fail(&err, TC_E_NOTAGENT,
                    "not a treecast agent, or one that stands still: no TLS handshake within %u ms",
                    link->options.handshake_ms);
        else
            tc_fail(&err, TC_E_TIMEOUT, "TLS handshake not finished within %u ms", link->options.handshake_ms);
        finish(link, &err);
        break;
    case OPEN:
        finish(link, &link->why);
        break;
    default:
        finish(link, NULL);
    }
    leave(link);
}

/* --- contract --- */

static struct tc_link *make(struct tc_loop *loop, const struct tc_link_options *options, struct tc_err *err)
{
    if (options->identity_size > TC_IDENTITY_MAX) {
        tc_fail(err, TC_E_USAGE, "TLS identity of %zu bytes; at most %u are allowed", options->identity_size,
                TC_IDENTITY_MAX);
        return NULL;
    }
    struct tc_link *link = calloc(1, sizeof *link);
    if (!link) {
        tc_fail(err, TC_E_NOMEM, "link: out of memory");
        return NULL;
    }
    link->loop = loop;
    link->fd = -1;
    link->batch = 1;
    link->last = &link->first;
    link->options = *options;
    link->options.handshake_ms = options->handshake_ms ? options->handshake_ms : 3000;
    link->options.connect_ms = options->connect_ms ? options->connect_ms : 5000;
    link->options.identity = link->options.key = NULL;
    if (options->identity)
        memcpy(link->identity, options->identity, options->identity_size);
    if (options->key)
        memcpy(link->key, options->key, TC_KEY_SIZE);
    link->deadline = tc_timer_new(loop, on_deadline, link, err);
    link->go = tc_timer_new(loop, on_go, link, err);
    link->pulse = tc_timer_new(loop, on_pulse, link, err);
    if (!link->deadline || !link->go || !link->pulse) {
        tc_link_drop(link);
        return NULL;
    }
    return link;
}

struct tc_link *tc_link_dial(struct tc_loop *loop, const char *address, const struct tc_link_options *options,
                             struct tc_err *err)
{
    char host[TC_ADDRESS_HOST];
    uint16_t port = 0;
    if (tc_address_split(address, host, &port, err) != 0)
        return NULL;
    if (port == 0) {
        tc_fail(err, TC_E_USAGE, "%s: no port to connect to", address);
        return NULL;
    }
    struct tc_link *link = make(loop, options, err);
    if (!link)
        return NULL;
    link->options.lookup = NULL;
    snprintf(link->peer, sizeof link->peer, "%s", address);
    link->connect_by = tc_loop_now(loop) + link->options.connect_ms;
    tc_timer_set(link->deadline, link->options.connect_ms);
    if (tc_address_resolve(host, port, true, &link->numeric) == 0) {
        link->first_address = link->next_address = link->numeric;
        link->state = CONNECTING;
        go_soon(link, TC_WATCH_READ);
    } else {
        link->state = RESOLVING;
        if (start_lookup(link, host, port, err) != 0) {
            tc_link_drop(link);
            return NULL;
        }
    }
    return link;
}

struct tc_link *tc_link_accept(struct tc_loop *loop, int fd, const struct tc_link_options *options, struct tc_err *err)
{
    struct tc_link *link = make(loop, options, err);
    if (!link) {
        close(fd);
        return NULL;
    }
    link->fd = fd;
    link->watch = tc_watch_new(loop, fd, on_ready, link, err);
    if (!link->watch) {
        tc_link_drop(link);
        return NULL;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    names_of(link);
    link->local[0] = '\0';
    if (link->peer[0] == '\0')
        snprintf(link->peer, sizeof link->peer, "unknown peer"); /* it has gone already */
    link->state = ACCEPTED;
    go_soon(link, TC_WATCH_READ);
    return link;
}

int tc_link_send(struct tc_link *link, uint8_t type, const void *head, size_t head_size, struct tc_blob *payload,
                 struct tc_err *err)
{
    size_t payload_size = payload ? payload->size : 0;
    if (link->state >= LINGER || link->broken)
        return tc_fail(err, TC_E_CLOSED, "%s: connection is closing", link->peer);
    if (head_size > HEAD_MAX || payload_size > UINT32_MAX - HEAD_MAX)
        return tc_fail(err, TC_E_LIMIT, "%s: frame too large to send", link->peer);
    struct frame *frame = malloc(sizeof *frame + TC_FRAME_HEAD + head_size);
    if (!frame)
        return tc_fail(err, TC_E_NOMEM, "%s: out of memory", link->peer);
    *frame = (struct frame){.head_size = TC_FRAME_HEAD + head_size};
    frame->size = frame->head_size + payload_size;
    struct tc_buf buf = tc_buf_writer(frame->head, frame->head_size);
    tc_buf_put32(&buf, (uint32_t)(head_size + payload_size));
    tc_buf_put32(&buf, (uint32_t)type << 24);
    tc_buf_put(&buf, head, head_size);
    frame->payload = payload ? tc_blob_ref(payload) : NULL;
    *link->last = frame;
    link->last = &frame->next;
    link->queued += frame->size;
    link->owed = true;
    /* Leaves after this round of callbacks, so that small frames go together and no event comes from here. */
    if (link->state == OPEN && !link->watching_write)
        go_soon(link, TC_WATCH_WRITE);
    return link->inside ? 0 : settle(link, err);
}

size_t tc_link_queued(const struct tc_link *link)
{
    return unsent(link);
}

struct tc_flow tc_link_flow(const struct tc_link *link)
{
    struct tc_flow flow = tc_flow_of(link->fd);
    flow.backlog += unsent(link);
    return flow;
}

void tc_link_set_limit(struct tc_link *link, uint32_t (*limit)(uint8_t type))
{
    link->options.limit = limit;
}

void tc_link_pause(struct tc_link *link, bool paused)
{
    if (link->paused == paused || link->state == ENDED)
        return;
    link->paused = paused;
    if (link->state != OPEN)
        return;
    if (!paused)
        go_soon(link, TC_WATCH_READ);
    else if (!link->inside)
        settle(link, NULL); /* only takes a watch away, which cannot fail */
}

void tc_link_retry(struct tc_link *link)
{
    if (link->state == HANDSHAKE && link->handshake_wants == 0) /* the others lack bytes, not a key */
        go_soon(link, TC_WATCH_READ);
}

void tc_link_close(struct tc_link *link, uint32_t linger_ms)
{
    if (link->state == ENDED)
        return;
    if (linger_ms > 0 && (link->state == OPEN || link->state == LINGER) && !link->broken) {
        link->state = LINGER;
        tc_timer_set(link->deadline, linger_ms);
        go_soon(link, TC_WATCH_READ);
        return;
    }
    link->state = CLOSING; /* only CLOSED is left to say */
    forget_addresses(link);
    close_socket(link);
    tc_timer_clear(link->go);
    link->go_wants = 0;
    tc_timer_set(link->deadline, 0);
}

void tc_link_reset(struct tc_link *link)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    if (link->fd >= 0)
        setsockopt(link->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    tc_link_close(link, 0);
}

void tc_link_drop(struct tc_link *link)
{
    if (!link || link->dropped)
        return;
    link->dropped = true;
    if (link->state != ENDED)
        release(link);
    if (!link->inside)
        free(link);
}

bool tc_link_up(const struct tc_link *link)
{
    return link->state == OPEN;
}

bool tc_link_proven(const struct tc_link *link)
{
    return link->tls ? tc_tls_proven(link->tls) : link->received > 0;
}

bool tc_link_is_loopback(const struct tc_link *link)
{
    return link->loopback;
}

const char *tc_link_peer(const struct tc_link *link)
{
    return link->peer;
}

const char *tc_link_local(const struct tc_link *link)
{
    return link->local;
}

static void end_of(int result, struct sockaddr_storage *storage, socklen_t size, char out[TC_ADDRESS_TEXT])
{
    out[0] = '\0';
    if (result != 0)
        return;
    if (storage->ss_family == AF_INET6) /* each side has its own name for the network between them */
        ((struct sockaddr_in6 *)(void *)storage)->sin6_scope_id = 0;
    tc_address_text(out, (const struct sockaddr *)(const void *)storage, size);
}

void tc_link_ends(const struct tc_link *link, char own[TC_ADDRESS_TEXT], char far[TC_ADDRESS_TEXT])
{
    struct sockaddr_storage storage = {0};
    struct sockaddr *address = (struct sockaddr *)(void *)&storage;
    socklen_t size = sizeof storage;
    end_of(getsockname(link->fd, address, &size), &storage, size, own);
    size = sizeof storage;
    end_of(getpeername(link->fd, address, &size), &storage, size, far);
}

void tc_link_channel(const struct tc_link *link, uint8_t out[TC_TLS_CHANNEL])
{
    if (!link->tls || tc_tls_channel(link->tls, out, NULL) < 0)
        memset(out, 0, TC_TLS_CHANNEL);
}

const uint8_t *tc_link_identity(const struct tc_link *link, size_t *size)
{
    *size = 0;
    return link->tls ? tc_tls_identity(link->tls, size) : NULL;
}

void tc_link_counts(const struct tc_link *link, uint64_t *received, uint64_t *sent)
{
    *received = link->received;
    *sent = link->sent;
}
