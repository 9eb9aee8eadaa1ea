#include "api/server_own.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define READ_SIZE 4096u /* bytes taken at once, so that one busy peer leaves capacity for the others */
#define TURN_NS 500000u /* for the requests of all peers before the rest of the loop has its turn */

void tc_api_drop(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- answers ---- */

/* What the socket does not take now is kept, within what unread answers may use. */
static void keep_rest(struct peer *peer, const char *line, size_t size, size_t sent)
{
    size_t rest = size + 1 - sent;
    if (!tc_api_unread(peer->api, peer->user, rest)) {
        peer->gone = true;
        return;
    }
    peer->out_size = rest;
    peer->out_sent = 0;
    if (!(peer->out = malloc(rest))) {
        tc_api_read(peer->api, peer->user, rest);
        peer->gone = true;
        return;
    }
    if (sent < size)
        memcpy(peer->out, line + sent, size - sent);
    peer->out[rest - 1] = '\n';
}

static void forget_rest(struct peer *peer)
{
    if (!peer->out)
        return;
    tc_api_read(peer->api, peer->user, peer->out_size);
    free(peer->out);
    peer->out = NULL;
}

/* Send what the socket takes of these bytes, and with the first of them the peer's out_fd. */
static ssize_t push(struct peer *peer, struct iovec *parts, size_t count)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    if (peer->out_fd >= 0) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        control.head =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(&control.head), &peer->out_fd, sizeof(int));
    }
    ssize_t sent = sendmsg(peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0)
        tc_api_drop(&peer->out_fd);
    return sent;
}

static void send_line(struct peer *peer, char *line)
{
    static char newline[] = "\n";
    size_t size = strlen(line);
    struct iovec parts[2] = {{.iov_base = line, .iov_len = size}, {.iov_base = newline, .iov_len = 1}};
    ssize_t sent = push(peer, parts, 2);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        peer->gone = true;
    else if (sent < 0 || (size_t)sent < size + 1)
        keep_rest(peer, line, size, sent < 0 ? 0 : (size_t)sent);
}

json_t *tc_api_text(const char *text)
{
    char safe[4 * TC_ERR_TEXT];
    json_t *value = json_string(text);
    return value ? value : json_string(tc_escape(safe, sizeof safe, text));
}

void tc_api_refuse(struct peer *peer, int reason, const char *text)
{
    tc_api_reply(peer,
                 json_pack("{s:b,s:s,s:o}", "ok", 0, "reason", tc_reason_name(reason), "text", tc_api_text(text)));
}

void tc_api_reply(struct peer *peer, json_t *object)
{
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!line)
        peer->gone = true;
    else if (strlen(line) >= TC_API_ANSWER)
        tc_api_refuse(peer, TC_E_LIMIT, TC_API_TOO_LONG);
    else
        send_line(peer, line);
    free(line);
}

static void flush(struct peer *peer)
{
    struct iovec rest = {.iov_base = peer->out + peer->out_sent, .iov_len = peer->out_size - peer->out_sent};
    ssize_t sent = push(peer, &rest, 1);
    if (sent < 0) {
        peer->gone = errno != EAGAIN && errno != EINTR;
        return;
    }
    peer->out_sent += (size_t)sent;
    if (peer->out_sent == peer->out_size)
        forget_rest(peer);
}

/* ---- turns ---- */

static void leave_turns(struct peer *peer)
{
    if (!peer->turn_prev)
        return;
    *peer->turn_prev = peer->turn_next;
    if (peer->turn_next)
        peer->turn_next->turn_prev = peer->turn_prev;
    else
        peer->api->turn_last = peer->turn_prev;
    peer->turn_prev = NULL;
}

static void await_turn(struct peer *peer)
{
    struct tc_api *api = peer->api;
    if (peer->turn_prev)
        return;
    if (!api->turn_first)
        tc_timer_set(api->turn, 0);
    peer->turn_next = NULL;
    peer->turn_prev = api->turn_last;
    *api->turn_last = peer;
    api->turn_last = &peer->turn_next;
}

static bool may_act(const struct peer *peer)
{
    return !peer->waiting[0] && !peer->request && !peer->out && !peer->ending && !peer->gone;
}

static const char *end_of_line(const struct peer *peer)
{
    size_t size = peer->in_size - peer->in_at;
    return size > 0 ? memchr(peer->in + peer->in_at, '\n', size) : NULL;
}

/* After every event: close what has ended, else want what can be used. */
static void settle(struct peer *peer)
{
    unsigned want = 0;
    if (may_act(peer) && end_of_line(peer)) {
        await_turn(peer);
    } else if (may_act(peer) && peer->in_size - peer->in_at >= TC_API_LINE) {
        peer->ending = true;
        tc_api_refuse(peer, TC_E_LIMIT, "a request is at most 65536 bytes");
    }
    if (peer->out)
        want = TC_WATCH_WRITE;
    else if (!peer->turn_prev && peer->in_size - peer->in_at < TC_API_LINE)
        want = TC_WATCH_READ;
    if (peer->gone || (peer->ending && !peer->out) || tc_watch_want(peer->watch, want, NULL) < 0)
        tc_api_free_peer(peer);
}

static void act_on_line(struct peer *peer)
{
    const char *line = peer->in + peer->in_at, *end = may_act(peer) ? end_of_line(peer) : NULL;
    if (end) {
        peer->in_at += (size_t)(end - line) + 1;
        peer->acting = true;
        tc_api_act(peer, line, (size_t)(end - line));
        peer->acting = false;
    }
    settle(peer);
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* One request of each that has any, the next one behind those of all others; data has its turn in between. */
void tc_api_on_turn(void *arg)
{
    struct tc_api *api = arg;
    uint64_t until = nanoseconds() + TURN_NS;
    while (api->turn_first) {
        struct peer *peer = api->turn_first;
        leave_turns(peer);
        act_on_line(peer);
        if (nanoseconds() >= until)
            break;
    }
    if (api->turn_first)
        tc_timer_set(api->turn, 0);
}

void tc_api_go_on(struct peer *peer)
{
    if (!peer->acting) /* else it is settled when that is through */
        settle(peer);
}

/* ---- bytes in ---- */

static bool grow(struct peer *peer)
{
    if (peer->in_at > 0) {
        peer->in_size -= peer->in_at;
        memmove(peer->in, peer->in + peer->in_at, peer->in_size);
        peer->in_at = 0;
    }
    if (peer->in_size < peer->in_capacity)
        return true;
    size_t capacity = peer->in_capacity ? 2 * peer->in_capacity : 256;
    char *in = capacity <= TC_API_LINE ? realloc(peer->in, capacity) : NULL;
    if (!in)
        return false;
    peer->in = in;
    peer->in_capacity = capacity;
    return true;
}

/* Bytes, and a descriptor that came with them; the kernel ends what is read at once at the next one. */
static ssize_t receive(struct peer *peer, char *bytes, size_t size)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))]; /* two fit, for alignment; the kernel closes the others */
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t got = recvmsg(peer->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const struct cmsghdr *head = got < 0 ? NULL : CMSG_FIRSTHDR(&message);
    bool passed = head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS;
    for (size_t at = CMSG_LEN(0); passed && at + sizeof(int) <= head->cmsg_len; at += sizeof(int)) {
        tc_api_drop(&peer->in_fd); /* the last of several */
        memcpy(&peer->in_fd, (const uint8_t *)head + at, sizeof(int));
    }
    return got;
}

static void take(struct peer *peer)
{
    if (!grow(peer)) {
        peer->gone = true;
        return;
    }
    size_t capacity = peer->in_capacity - peer->in_size;
    ssize_t got = receive(peer, peer->in + peer->in_size, capacity < READ_SIZE ? capacity : READ_SIZE);
    if (got < 0) {
        peer->gone = errno != EAGAIN && errno != EINTR;
        return;
    }
    peer->gone = got == 0; /* nobody listens to the answer of a wait any more */
    peer->in_size += (size_t)got;
}

static void on_peer(void *arg, unsigned ready)
{
    struct peer *peer = arg;
    if ((ready & TC_WATCH_WRITE) && peer->out)
        flush(peer);
    if ((ready & TC_WATCH_READ) && !peer->out && !peer->gone)
        take(peer);
    settle(peer);
}

/* ---- connections ---- */

int tc_api_admit(struct tc_api *api, int fd, struct user *user)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return -TC_E_NOMEM;
    *peer = (struct peer){.api = api, .user = user, .fd = fd, .out_fd = -1, .in_fd = -1, .source = -1};
    peer->watch = tc_watch_new(api->loop, fd, on_peer, peer, NULL);
    if (!peer->watch) {
        free(peer);
        return -TC_E_NOMEM;
    }
    peer->next = api->peers;
    if (peer->next)
        peer->next->prev = peer;
    api->peers = peer;
    settle(peer);
    return 0;
}

void tc_api_free_peer(struct peer *peer)
{
    struct tc_api *api = peer->api;
    if (peer->prev)
        peer->prev->next = peer->next;
    else
        api->peers = peer->next;
    if (peer->next)
        peer->next->prev = peer->prev;
    leave_turns(peer);
    if (peer->request)
        peer->request->peer = NULL;
    forget_rest(peer);
    tc_api_part(api, peer->user);
    tc_watch_free(peer->watch);
    tc_timer_free(peer->timer);
    tc_api_drop(&peer->out_fd);
    tc_api_drop(&peer->in_fd);
    tc_api_drop(&peer->source);
    close(peer->fd);
    free(peer->in);
    free(peer);
}
