#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "data/describe.h"

#define PEERS_MAX 4096u
#define UNREAD_MAX (1u << 20) /* bytes of answers that nobody reads, in all */
#define READ_SIZE 4096u       /* bytes taken at once, so that one busy peer leaves room for the others */
#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE_MS 200u /* when the process has no descriptor left */
#define SECONDS_MAX 1e9      /* a longer timeout is none */
#define CLAIM_TRIES 50
#define CLAIM_PAUSE_MS 10
#define NEW_NAME TC_DOOR_NAME ".new"

/* One connection. A request is acted on when the answer to the one before it has gone to the socket. */
struct peer {
    struct tc_door *door;
    struct peer *prev, *next;
    int fd;
    struct tc_watch *watch;
    struct tc_timer *timer; /* of a wait with a timeout; made with the first */
    char *in;               /* requests not acted on */
    size_t in_size, in_capacity;
    char *out; /* what the socket did not take of an answer; NULL when nothing waits */
    size_t out_size, out_sent;
    int out_fd; /* goes with the first byte of out; -1: none */
    int in_fd;  /* came with what is in; -1: none */
    int source; /* offered for session as long as the connection is open; -1: none */
    uint8_t session[TC_SESSION_ID_SIZE];
    uid_t uid;
    bool wants_fd;                 /* the wait's answer is to bring the file */
    char waiting[TC_NAME_MAX + 1]; /* the name it waits for; empty when it does not */
    bool ending;                   /* close when out has gone */
    bool gone;                     /* close now */
};

struct tc_door {
    struct tc_loop *loop;
    char *dir;
    int state_fd; /* our own, flock'ed as long as we serve */
    int listener;
    struct tc_watch *watch;
    struct tc_timer *pause;
    struct tc_door_options options;
    uid_t *users;
    uid_t owner;
    struct peer *peers;
    unsigned peer_count;
    size_t unread;
};

/* ---- answers ---- */

static void drop(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* What the socket does not take now is kept, within what all unread answers may use. */
static void keep_rest(struct peer *peer, const char *line, size_t size, size_t sent)
{
    struct tc_door *door = peer->door;
    size_t rest = size + 1 - sent;
    if (door->unread + rest > UNREAD_MAX || !(peer->out = malloc(rest))) {
        peer->gone = true;
        return;
    }
    if (sent < size)
        memcpy(peer->out, line + sent, size - sent);
    peer->out[rest - 1] = '\n';
    peer->out_size = rest;
    peer->out_sent = 0;
    door->unread += rest;
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
        drop(&peer->out_fd);
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

/* Text that is not UTF-8 (a path, a cut line) goes out escaped. */
static json_t *text_value(const char *text)
{
    char safe[4 * TC_ERR_TEXT];
    json_t *value = json_string(text);
    return value ? value : json_string(tc_escape(safe, sizeof safe, text));
}

static void answer(struct peer *peer, json_t *object);

static void refuse(struct peer *peer, int reason, const char *text)
{
    answer(peer, json_pack("{s:b,s:s,s:o}", "ok", 0, "reason", tc_reason_name(reason), "text", text_value(text)));
}

/* Takes object, which may be NULL where there was no memory for it. */
static void answer(struct peer *peer, json_t *object)
{
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!line)
        peer->gone = true;
    else if (strlen(line) >= TC_DOOR_ANSWER)
        refuse(peer, TC_E_LIMIT, "the answer is longer than a line may be; ask for one name");
    else
        send_line(peer, line);
    free(line);
}

/* Open published NAME for the peer: the descriptor goes with the answer, and object gets "fd" and "description". */
static int add_file(struct peer *peer, const char *name, json_t *object, struct tc_err *err)
{
    const struct tc_door_options *options = &peer->door->options;
    char *text = NULL;
    int fd = options->open(options->arg, name, &text, err);
    if (fd < 0)
        return fd;
    drop(&peer->out_fd);
    peer->out_fd = fd;
    json_t *description = json_loads(text, 0, NULL);
    free(text);
    if (!description || json_object_set_new(object, "description", description) < 0 ||
        json_object_set_new(object, "fd", json_true()) < 0) {
        drop(&peer->out_fd);
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    }
    return 0;
}

static void answer_published(struct peer *peer, const char *name, bool with_file)
{
    char *path = NULL;
    struct tc_err err = {0};
    if (asprintf(&path, "%s/%s", peer->door->dir, name) < 0)
        path = NULL;
    json_t *value = path ? json_string(path) : NULL;
    json_t *object = json_pack("{s:b,s:s,s:o}", "ok", 1, "name", name, "path", value ? value : json_null());
    free(path);
    if (object && with_file && add_file(peer, name, object, &err) < 0) {
        json_decref(object);
        refuse(peer, err.reason, err.text);
        return;
    }
    answer(peer, object);
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
    if (peer->out_sent < peer->out_size)
        return;
    peer->door->unread -= peer->out_size;
    free(peer->out);
    peer->out = NULL;
}

/* ---- requests ---- */

static void on_timeout(void *arg);

static int set_timer(struct peer *peer, double seconds)
{
    if (!peer->timer)
        peer->timer = tc_timer_new(peer->door->loop, on_timeout, peer, NULL);
    if (!peer->timer)
        return -TC_E_NOMEM;
    tc_timer_set(peer->timer, (uint64_t)(seconds * 1e3));
    return 0;
}

static void do_wait(struct peer *peer, const json_t *request)
{
    const struct tc_door_options *options = &peer->door->options;
    const char *name = json_string_value(json_object_get(request, "name"));
    const json_t *timeout = json_object_get(request, "timeout");
    double seconds = json_number_value(timeout);
    struct tc_err err = {0};

    peer->wants_fd = json_is_true(json_object_get(request, "fd"));
    if (!name)
        refuse(peer, TC_E_USAGE, "wait needs a name");
    else if (tc_name_check(name, &err) < 0)
        refuse(peer, err.reason, err.text);
    else if (timeout && !json_is_null(timeout) && (!json_is_number(timeout) || seconds < 0))
        refuse(peer, TC_E_USAGE, "timeout is a number of seconds, or null");
    else if (options->published(options->arg, name))
        answer_published(peer, name, peer->wants_fd);
    else if (json_is_number(timeout) && seconds <= SECONDS_MAX && set_timer(peer, seconds) < 0)
        peer->gone = true;
    else
        snprintf(peer->waiting, sizeof peer->waiting, "%s", name);
}

static void do_status(struct peer *peer, const json_t *request)
{
    const struct tc_door_options *options = &peer->door->options;
    const json_t *member = json_object_get(request, "name");
    const char *name = json_string_value(member);
    struct tc_err err = {0};

    if (member && !json_is_null(member) && !name) {
        refuse(peer, TC_E_USAGE, "name is a string");
        return;
    }
    if (name && tc_name_check(name, &err) < 0) {
        refuse(peer, err.reason, err.text);
        return;
    }
    char *text = options->status(options->arg, name);
    json_t *object = text ? json_loads(text, 0, NULL) : NULL;
    if (!text)
        refuse(peer, TC_E_NOTFOUND, name ? "nothing is known of this name" : "no status");
    else if (!json_is_object(object))
        refuse(peer, TC_E_FAILED, "no status");
    else if (!json_object_get(object, "ok") && json_object_set_new(object, "ok", json_true()) < 0)
        peer->gone = true;
    else {
        /* Not being there is what the rest of the answer says. */
        if (name && json_is_true(json_object_get(request, "fd")))
            add_file(peer, name, object, NULL);
        answer(peer, json_incref(object));
    }
    json_decref(object);
    free(text);
}

/* Absent and null are one. */
static bool number_or_null(const json_t *value, double most)
{
    return !value || json_is_null(value) ||
           (json_is_number(value) && json_number_value(value) >= 0 && json_number_value(value) <= most);
}

static int read_lease(const json_t *request, struct tc_lease *lease, struct tc_err *err)
{
    const json_t *ttl = json_object_get(request, "ttl"), *pid = json_object_get(request, "pid");
    if (!number_or_null(ttl, SECONDS_MAX))
        return tc_fail(err, TC_E_USAGE, "ttl is a number of seconds, or null");
    if (!number_or_null(pid, INT32_MAX) || json_is_real(pid))
        return tc_fail(err, TC_E_USAGE, "pid is the number of a process, or null");
    if (json_is_number(ttl)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        lease->expires = (uint64_t)now.tv_sec + (uint64_t)ceil(json_number_value(ttl) + (double)now.tv_nsec / 1e9);
    }
    if (json_is_integer(pid))
        lease->pid = (uint32_t)json_integer_value(pid);
    if (lease->pid && tc_process_start(lease->pid, &lease->start) < 0)
        return tc_fail(err, TC_E_NOTFOUND, "there is no process %u here", lease->pid);
    int watch = lease->pid ? tc_process_watch(lease->pid, lease->start) : -1;
    if (watch == -2)
        return tc_fail(err, TC_E_USAGE, "the end of %u cannot be told: is it a thread?", lease->pid);
    drop(&watch);
    return 0;
}

static void do_lease(struct peer *peer, const json_t *request)
{
    const struct tc_door_options *options = &peer->door->options;
    const char *name = json_string_value(json_object_get(request, "name"));
    struct tc_lease lease = {0};
    struct tc_err err = {0};
    int rc;

    if (peer->uid != 0 && peer->uid != peer->door->owner)
        rc = tc_fail(&err, TC_E_PERMISSION, "leases are given by the owner and root only");
    else if (!name)
        rc = tc_fail(&err, TC_E_USAGE, "lease needs a name");
    else
        rc = tc_name_check(name, &err);
    if (rc == 0)
        rc = read_lease(request, &lease, &err);
    if (rc == 0)
        rc = options->lease(options->arg, name, &lease, &err);
    if (rc < 0)
        refuse(peer, err.reason, err.text);
    else
        answer(peer, json_pack("{s:b, s:s, s:o, s:o}", "ok", 1, "name", name, "expires",
                               lease.expires ? json_integer((json_int_t)lease.expires) : json_null(), "owner_pid",
                               lease.pid ? json_integer(lease.pid) : json_null()));
}

/* Whoever passes it can read it: a root-only file can be named by anybody with O_PATH. */
static bool is_source(int fd)
{
    struct stat status;
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    return flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_WRONLY && fstat(fd, &status) == 0 &&
           S_ISREG(status.st_mode);
}

static void do_source(struct peer *peer, const json_t *request)
{
    const struct tc_door_options *options = &peer->door->options;
    const char *session = json_string_value(json_object_get(request, "session"));
    if (!session || tc_session_parse(peer->session, session) < 0) {
        refuse(peer, TC_E_USAGE, "source needs a session, 32 hex digits");
    } else if (!is_source(peer->in_fd)) {
        refuse(peer, TC_E_USAGE, "source needs a descriptor that a regular file can be read from, with its first byte");
    } else {
        drop(&peer->source);
        peer->source = peer->in_fd;
        peer->in_fd = -1;
        answer(peer, json_pack("{s:b, s:s}", "ok", 1, "listen", options->listening(options->arg)));
    }
}

static void act(struct peer *peer, const char *line, size_t size)
{
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *op = json_string_value(json_object_get(request, "op"));
    if (!op)
        refuse(peer, TC_E_PROTOCOL, "a request is one JSON object with \"op\" on one line");
    else if (strcmp(op, "wait") == 0)
        do_wait(peer, request);
    else if (strcmp(op, "status") == 0)
        do_status(peer, request);
    else if (strcmp(op, "ping") == 0)
        answer(peer, json_pack("{s:b}", "ok", 1));
    else if (strcmp(op, "lease") == 0)
        do_lease(peer, request);
    else if (strcmp(op, "source") == 0)
        do_source(peer, request);
    else
        refuse(peer, TC_E_USAGE, "op is wait, status, ping, lease or source");
    drop(&peer->in_fd);
    json_decref(request);
}

static bool may_act(const struct peer *peer)
{
    return !peer->waiting[0] && !peer->out && !peer->ending && !peer->gone;
}

/* Act on the lines that are here, up to one whose answer must wait. */
static void serve(struct peer *peer)
{
    size_t at = 0;
    while (may_act(peer) && at < peer->in_size) {
        const char *newline = memchr(peer->in + at, '\n', peer->in_size - at);
        if (!newline)
            break;
        size_t size = (size_t)(newline - (peer->in + at));
        act(peer, peer->in + at, size);
        at += size + 1;
    }
    if (at > 0) {
        peer->in_size -= at;
        memmove(peer->in, peer->in + at, peer->in_size);
    }
    if (may_act(peer) && peer->in_size >= TC_DOOR_LINE) {
        peer->ending = true;
        refuse(peer, TC_E_LIMIT, "a request is at most 65536 bytes");
    }
}

/* ---- connections ---- */

static void free_peer(struct peer *peer)
{
    struct tc_door *door = peer->door;
    if (peer->prev)
        peer->prev->next = peer->next;
    else
        door->peers = peer->next;
    if (peer->next)
        peer->next->prev = peer->prev;
    door->peer_count--;
    if (peer->out)
        door->unread -= peer->out_size;
    tc_watch_free(peer->watch);
    tc_timer_free(peer->timer);
    drop(&peer->out_fd);
    drop(&peer->in_fd);
    drop(&peer->source);
    close(peer->fd);
    free(peer->in);
    free(peer->out);
    free(peer);
}

/* After every event: close what has ended, else want what can be used. */
static void settle(struct peer *peer)
{
    unsigned want = 0;
    if (peer->out)
        want = TC_WATCH_WRITE;
    else if (peer->in_size < TC_DOOR_LINE)
        want = TC_WATCH_READ;
    if (peer->gone || (peer->ending && !peer->out) || tc_watch_want(peer->watch, want, NULL) < 0)
        free_peer(peer);
}

/* Answered: what came behind the wait has its turn. */
static void end_wait(struct peer *peer)
{
    peer->waiting[0] = '\0';
    if (peer->timer)
        tc_timer_clear(peer->timer);
}

static void on_timeout(void *arg)
{
    struct peer *peer = arg;
    char text[TC_NAME_MAX + 64];
    snprintf(text, sizeof text, "%s was not published in time", peer->waiting);
    end_wait(peer);
    refuse(peer, TC_E_TIMEOUT, text);
    serve(peer);
    settle(peer);
}

static bool grow(struct peer *peer)
{
    if (peer->in_size < peer->in_capacity)
        return true;
    size_t capacity = peer->in_capacity ? 2 * peer->in_capacity : 256;
    char *in = capacity <= TC_DOOR_LINE ? realloc(peer->in, capacity) : NULL;
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
        drop(&peer->in_fd); /* the last of several */
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
    size_t room = peer->in_capacity - peer->in_size;
    ssize_t got = receive(peer, peer->in + peer->in_size, room < READ_SIZE ? room : READ_SIZE);
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
    serve(peer);
    settle(peer);
}

static bool may_enter(const struct tc_door *door, int fd, uid_t *uid)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    *uid = (uid_t)-1;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return false;
    *uid = peer.uid;
    bool allowed = peer.uid == 0 || peer.uid == door->owner;
    for (unsigned i = 0; i < door->options.user_count && !allowed; i++)
        allowed = door->users[i] == peer.uid;
    return allowed;
}

/* One line, and go: a connection that never becomes a peer of the list. */
static void turn_away(struct tc_door *door, int fd, int reason, const char *text)
{
    struct peer stranger = {.door = door, .fd = fd, .out_fd = -1, .in_fd = -1, .source = -1};
    refuse(&stranger, reason, text);
    if (stranger.out)
        door->unread -= stranger.out_size;
    free(stranger.out);
    close(fd);
}

static void admit(struct tc_door *door, int fd, uid_t uid)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer) {
        close(fd);
        return;
    }
    *peer = (struct peer){.door = door, .fd = fd, .out_fd = -1, .in_fd = -1, .source = -1, .uid = uid};
    peer->next = door->peers;
    if (peer->next)
        peer->next->prev = peer;
    door->peers = peer;
    door->peer_count++;
    peer->watch = tc_watch_new(door->loop, fd, on_peer, peer, NULL);
    if (peer->watch)
        settle(peer);
    else
        free_peer(peer);
}

static void on_listener(void *arg, unsigned ready)
{
    struct tc_door *door = arg;
    (void)ready;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(door->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            /* The connection stays in the queue, so the listener would be ready again at once and for ever. */
            tc_watch_want(door->watch, 0, NULL);
            tc_timer_set(door->pause, ACCEPT_PAUSE_MS);
        }
        if (fd < 0)
            return;
        uid_t uid;
        if (!may_enter(door, fd, &uid)) {
            tc_log(TC_LOG_INFO, "door: refused user %ld", (long)uid);
            turn_away(door, fd, TC_E_PERMISSION, "this agent serves its owner and --allow-user only");
        } else if (door->peer_count >= PEERS_MAX) {
            turn_away(door, fd, TC_E_LIMIT, "too many connections to this agent");
        } else {
            admit(door, fd, uid);
        }
    }
}

static void on_pause_over(void *arg)
{
    struct tc_door *door = arg;
    tc_watch_want(door->watch, TC_WATCH_READ, NULL);
}

/* ---- the socket ---- */

static struct sockaddr_un address_in(int state_fd, const char *name)
{
    /* By descriptor: DIR may be longer than a socket's address, and nothing on the way can be swapped. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", state_fd, name);
    return address;
}

static bool answers(int state_fd)
{
    struct sockaddr_un address = address_in(state_fd, TC_DOOR_NAME);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return alive;
}

/* Two agents that start together must not both find a dead socket: the lock decides, connecting only on file systems
 * that have no locks. Who tidies up takes the lock for a moment too, so one that does not answer is given time. */
static bool is_served(int state_fd)
{
    for (int tries = 0; tries < CLAIM_TRIES; tries++) {
        if (flock(state_fd, LOCK_EX | LOCK_NB) == 0)
            return false;
        if (errno != EWOULDBLOCK)
            return answers(state_fd);
        if (answers(state_fd))
            break;
        nanosleep(&(struct timespec){.tv_nsec = CLAIM_PAUSE_MS * 1000000L}, NULL);
    }
    return true;
}

static int claim(struct tc_door *door, int state_fd, struct tc_err *err)
{
    struct stat status;
    door->state_fd = openat(state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (door->state_fd < 0 || fstat(door->state_fd, &status) < 0)
        return tc_fail_errno(err, errno, "%s/.treecast", door->dir);
    door->owner = status.st_uid;
    if (is_served(door->state_fd))
        return tc_fail(err, TC_E_BUSY, "an agent already serves %s", door->dir);
    return 0;
}

/* An agent holds the lock from before it makes its door until its end: while it is ours, a door is a dead one's. */
int tc_door_clean(int state_fd, unsigned *files, struct tc_err *err)
{
    static const char *const names[] = {TC_DOOR_NAME, NEW_NAME};
    struct stat status;
    int rc = 0, lock = openat(state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ours = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0;
    for (unsigned i = 0; i < 2 && ours && rc == 0; i++) {
        if (fstatat(state_fd, names[i], &status, AT_SYMLINK_NOFOLLOW) || !S_ISSOCK(status.st_mode))
            continue;
        if (unlinkat(state_fd, names[i], 0))
            rc = tc_fail_errno(err, errno, "cannot remove .treecast/%s", names[i]);
        else
            ++*files;
    }
    if (lock >= 0)
        close(lock);
    return rc;
}

/* The socket gets its name when it listens, so whoever sees the name can connect. Touching DIR then wakes those who
 * watch it and may not watch .treecast. */
static int bind_socket(struct tc_door *door, struct tc_err *err)
{
    int state = door->state_fd;
    struct sockaddr_un address = address_in(state, NEW_NAME);
    door->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (door->listener < 0)
        return tc_fail_errno(err, errno, "door");
    unlinkat(state, NEW_NAME, 0);
    if (bind(door->listener, (const struct sockaddr *)&address, sizeof address) == 0 &&
        fchmodat(state, NEW_NAME, 0666, 0) == 0 && listen(door->listener, SOMAXCONN) == 0 &&
        renameat(state, NEW_NAME, state, TC_DOOR_NAME) == 0 && utimensat(state, "..", NULL, 0) == 0)
        return 0;
    int number = errno;
    unlinkat(state, NEW_NAME, 0);
    close(door->listener);
    door->listener = -1;
    return tc_fail_errno(err, number, "cannot make %s/.treecast/" TC_DOOR_NAME, door->dir);
}

static int start_watching(struct tc_door *door, struct tc_err *err)
{
    door->pause = tc_timer_new(door->loop, on_pause_over, door, err);
    if (!door->pause)
        return -TC_E_NOMEM;
    door->watch = tc_watch_new(door->loop, door->listener, on_listener, door, err);
    if (!door->watch)
        return -TC_E_NOMEM;
    return tc_watch_want(door->watch, TC_WATCH_READ, err);
}

static struct tc_door *make_door(struct tc_loop *loop, const char *dir, const struct tc_door_options *options)
{
    struct tc_door *door = calloc(1, sizeof *door);
    if (!door)
        return NULL;
    door->loop = loop;
    door->state_fd = door->listener = -1;
    door->options = *options;
    door->dir = strdup(dir);
    door->users = calloc(options->user_count ? options->user_count : 1, sizeof *door->users);
    if (!door->dir || !door->users) {
        tc_door_close(door);
        return NULL;
    }
    for (unsigned i = 0; i < options->user_count; i++)
        door->users[i] = options->users[i];
    return door;
}

struct tc_door *tc_door_serve(struct tc_loop *loop, const char *dir, int state_fd,
                              const struct tc_door_options *options, struct tc_err *err)
{
    struct tc_door *door = make_door(loop, dir, options);
    if (!door) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    if (claim(door, state_fd, err) == 0 && bind_socket(door, err) == 0 && start_watching(door, err) == 0)
        return door;
    tc_door_close(door);
    return NULL;
}

/* A session's end, told to those who wait for name; why NULL: it was published. */
static void tell(struct tc_door *door, const char *name, const struct tc_err *why)
{
    for (struct peer *peer = door->peers, *next; peer; peer = next) {
        next = peer->next;
        if (strcmp(peer->waiting, name) != 0)
            continue;
        end_wait(peer);
        if (why)
            refuse(peer, why->reason == TC_E_CLOSED ? TC_E_LOST : why->reason, why->text);
        else
            answer_published(peer, name, peer->wants_fd);
        serve(peer);
        settle(peer);
    }
}

void tc_door_published(struct tc_door *door, const char *name)
{
    tell(door, name, NULL);
}

void tc_door_failed(struct tc_door *door, const char *name, const struct tc_err *why)
{
    tell(door, name, why);
}

int tc_door_source(const struct tc_door *door, const uint8_t session[TC_SESSION_ID_SIZE])
{
    for (const struct peer *peer = door->peers; peer; peer = peer->next)
        if (peer->source >= 0 && memcmp(peer->session, session, TC_SESSION_ID_SIZE) == 0)
            return peer->source;
    return -1;
}

void tc_door_close(struct tc_door *door)
{
    if (!door)
        return;
    /* First the listener: who is told "closed" and comes back at once must not find this door again. */
    tc_watch_free(door->watch);
    tc_timer_free(door->pause);
    if (door->listener >= 0) {
        unlinkat(door->state_fd, TC_DOOR_NAME, 0);
        close(door->listener);
    }
    while (door->peers) {
        struct peer *peer = door->peers;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it went from the list by *prev */
        if (peer->waiting[0])
            refuse(peer, TC_E_CLOSED, "the agent has ended");
        free_peer(peer);
    }
    if (door->state_fd >= 0)
        close(door->state_fd);
    free(door->users);
    free(door->dir);
    free(door);
}
