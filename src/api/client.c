#include "api/client.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/trust.h"
#include "data/describe.h"

#define PING_SECONDS 10.0

/* What looking at a folder tells besides 0 (published) and a negative reason (it is no use to wait). */
enum { NOBODY_SERVES = 1, AGENT_LEFT = 2 };

/* ---- deadlines: absolute, on a clock that never jumps ---- */

struct deadline {
    bool forever;
    double at; /* seconds of CLOCK_MONOTONIC */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct deadline deadline_after(double seconds)
{
    bool forever = !(seconds >= 0) || isinf(seconds);
    return (struct deadline){.forever = forever, .at = forever ? 0 : now() + seconds};
}

static double seconds_left(const struct deadline *end)
{
    double left = end->at - now();
    return left > 0 ? left : 0;
}

/* 1 when one of events (or an error or a hang-up) is there, 0 when the deadline has passed, -1 with errno. */
static int await(int fd, short events, const struct deadline *end)
{
    for (;;) {
        double left = end->forever ? INT_MAX : ceil(seconds_left(end) * 1e3);
        struct pollfd one = {.fd = fd, .events = events};
        int count = poll(&one, 1, end->forever ? -1 : left < INT_MAX ? (int)left : INT_MAX);
        if (count > 0)
            return 1;
        if (count < 0 && errno != EINTR)
            return -1;
        if (!end->forever && seconds_left(end) <= 0)
            return 0;
    }
}

/* ---- one request, one answer ---- */

static int wait_on_api(int api, short events, const struct deadline *end, struct tc_err *err)
{
    int ready = await(api, events, end);
    if (ready < 0)
        return tc_fail_errno(err, errno, "api");
    return ready ? 0 : tc_fail(err, TC_E_TIMEOUT, "the agent did not answer in time");
}

/* An agent that has closed already may have left its answer (a refusal) to be read: that is not an error here. */
static int send_all(int api, const char *bytes, size_t size, const struct deadline *end, struct tc_err *err)
{
    while (size > 0) {
        ssize_t sent = send(api, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            bytes += sent;
            size -= (size_t)sent;
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET)
            return 0;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return tc_fail_errno(err, errno, "api");
        int rc = wait_on_api(api, POLLOUT, end, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The one descriptor that may travel with bytes. */
union one_fd {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int))];
};

/* As recv; where fd is not NULL, a descriptor that comes along is put there in place of the one it holds. */
static ssize_t receive(int api, char *bytes, size_t size, int *fd)
{
    union one_fd control;
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = fd ? control.space : NULL,
                             .msg_controllen = fd ? sizeof control.space : 0};
    ssize_t got = recvmsg(api, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const struct cmsghdr *head = got < 0 ? NULL : CMSG_FIRSTHDR(&message);
    bool passed = fd && head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS;
    for (size_t at = CMSG_LEN(0); passed && at + sizeof(int) <= head->cmsg_len; at += sizeof(int)) {
        if (*fd >= 0)
            close(*fd); /* the last of several, of which alignment leaves capacity for two */
        memcpy(fd, (const uint8_t *)head + at, sizeof(int));
    }
    return got;
}

static int receive_line(int api, char *answer, size_t size, int *fd, const struct deadline *end, struct tc_err *err)
{
    size_t used = 0;
    while (used < size) {
        ssize_t got = receive(api, answer + used, size - used, fd);
        if (got == 0 || (got < 0 && (errno == ECONNRESET || errno == EPIPE)))
            return tc_fail(err, TC_E_CLOSED, "the agent went away");
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno != EAGAIN)
            return tc_fail_errno(err, errno, "api");
        if (got < 0) {
            int rc = wait_on_api(api, POLLIN, end, err);
            if (rc < 0)
                return rc;
            continue;
        }
        char *newline = memchr(answer + used, '\n', (size_t)got);
        used += (size_t)got;
        if (newline && newline != answer + used - 1)
            return tc_fail(err, TC_E_PROTOCOL, "the agent said more than one line");
        if (newline) {
            *newline = '\0';
            return 0;
        }
    }
    return tc_fail(err, TC_E_PROTOCOL, "the agent's answer is longer than %zu bytes", size);
}

static int ask(int api, const char *request, char *answer, size_t size, const struct deadline *end, struct tc_err *err)
{
    int rc = send_all(api, request, strlen(request), end, err);
    if (rc == 0)
        rc = send_all(api, "\n", 1, end, err);
    if (rc == 0)
        rc = receive_line(api, answer, size, NULL, end, err);
    return rc;
}

/* The first byte of a request, with a descriptor; the socket is empty yet and takes it. */
static int send_with_fd(int api, const char *byte, int fd, struct tc_err *err)
{
    union one_fd control = {.space = {0}};
    struct iovec part = {.iov_base = (char *)(uintptr_t)byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    control.head =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&control.head), &fd, sizeof(int));
    ssize_t sent;
    do
        sent = sendmsg(api, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == 1 ? 0 : tc_fail_errno(err, sent < 0 ? errno : EIO, "api");
}

int tc_api_ask(int api, const char *request, char *answer, size_t size, double timeout, struct tc_err *err)
{
    struct deadline end = deadline_after(timeout);
    return ask(api, request, answer, size, &end, err);
}

static int reason_by_name(const char *name)
{
    for (int reason = 1; name && reason < 256; reason++)
        if (tc_reason_known(reason) && strcmp(tc_reason_name(reason), name) == 0)
            return reason;
    return TC_E_FAILED;
}

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e)
            return false;
    return true;
}

/* What an answer line says: 0, or the reason and the text in it, fit to be printed. */
static int verdict(const char *line, struct tc_err *err)
{
    json_t *answer = json_loads(line, 0, NULL);
    const json_t *ok = json_object_get(answer, "ok");
    int rc = 0;
    if (!json_is_boolean(ok)) {
        rc = tc_fail(err, TC_E_PROTOCOL, "the agent's answer is not a JSON object with \"ok\"");
    } else if (!json_is_true(ok)) {
        int reason = reason_by_name(json_string_value(json_object_get(answer, "reason")));
        const char *text = json_string_value(json_object_get(answer, "text"));
        char safe[TC_ERR_TEXT];
        if (!text)
            text = tc_reason_text(reason);
        rc = tc_fail(err, reason, "%s", is_plain(text) ? text : tc_escape(safe, sizeof safe, text));
    }
    json_decref(answer);
    return rc;
}

/* ---- connecting ---- */

/* Blocking, as a non-blocking connect fails where the backlog is full; its time is bounded by SO_SNDTIMEO. */
static int connect_at(int fd, int state, const struct deadline *end)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* By descriptor: DIR may be longer than a socket's address. */
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" TC_API_NAME, state);
    int rc;
    do {
        double left = end->forever ? 0 : fmin(seconds_left(end), 1e6) + 1e-3;
        struct timeval limit = {.tv_sec = (time_t)left, .tv_usec = (suseconds_t)(fmod(left, 1) * 1e6)};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        rc = connect(fd, (const struct sockaddr *)&address, sizeof address);
    } while (rc < 0 && errno == EINTR);
    return rc;
}

static int fail_connect(const char *dir, int number, struct tc_err *err)
{
    if (number == ENOENT || number == ENOTDIR || number == ELOOP || number == ECONNREFUSED)
        return tc_fail(err, TC_E_NOTFOUND, "no agent serves %s", dir);
    if (number == EAGAIN)
        return tc_fail(err, TC_E_TIMEOUT, "the agent of %s did not answer in time", dir);
    return tc_fail_errno(err, number, "cannot reach the agent of %s", dir);
}

/* Nothing is said before it is known that the directory and who serves it are believed. */
static int connect_in(const char *dir, int state, const struct deadline *end, struct tc_err *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 || connect_at(fd, state, end) < 0 ? fail_connect(dir, errno, err) : tc_trust_peer(fd, dir, err);
    if (rc == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return rc;
}

static int connect_api(const char *dir, const struct deadline *end, struct tc_err *err)
{
    struct tc_err why = {0};
    char shown[PATH_MAX];
    snprintf(shown, sizeof shown, "%s/" TC_API_STATE, dir);
    int above = tc_trust_open_dir(dir, &why);
    int state = above < 0 ? above : tc_trust_open_dir_at(above, TC_API_STATE, shown, &why);
    int rc = state < 0 ? state : connect_in(dir, state, end, &why);
    if (above >= 0)
        close(above);
    if (state >= 0)
        close(state);
    if (rc == -TC_E_NOTFOUND)
        return tc_fail(err, TC_E_NOTFOUND, "no agent serves %s", dir);
    return rc < 0 ? tc_fail(err, -rc, "%s", why.text) : rc;
}

int tc_api_open(const char *dir, struct tc_err *err)
{
    struct deadline end = deadline_after(PING_SECONDS);
    int api = connect_api(dir, &end, err);
    if (api < 0)
        return api;
    /* Whether it lets us in shows in its first answer only. */
    char answer[1024];
    int rc = ask(api, "{\"op\":\"ping\"}", answer, sizeof answer, &end, err);
    if (rc == 0)
        rc = verdict(answer, err);
    if (rc == 0)
        return api;
    close(api);
    return rc;
}

/* ---- descriptors ---- */

/* The "description" of an answer. */
static int read_description(const char *line, struct tc_description *description, struct tc_err *err)
{
    json_t *answer = json_loads(line, 0, NULL);
    char *text = json_dumps(json_object_get(answer, "description"), JSON_COMPACT);
    int rc = text ? tc_description_parse(description, text, strlen(text), err)
                  : tc_fail(err, TC_E_PROTOCOL, "the agent's answer has no description");
    free(text);
    json_decref(answer);
    return rc;
}

/* A wait that has no time: what is published is answered at once. */
static int fetch(int api, const char *name, char *answer, struct tc_description *description, struct tc_err *err)
{
    char request[TC_NAME_MAX + 64];
    struct deadline end = deadline_after(PING_SECONDS);
    int fd = -1;
    snprintf(request, sizeof request, "{\"op\":\"wait\",\"name\":\"%s\",\"timeout\":0,\"fd\":true}\n", name);
    int rc = send_all(api, request, strlen(request), &end, err);
    if (rc == 0)
        rc = receive_line(api, answer, TC_API_ANSWER, &fd, &end, err);
    if (rc == 0)
        rc = verdict(answer, err);
    if (rc == 0)
        rc = read_description(answer, description, err);
    if (rc == 0 && fd < 0) {
        tc_array_free(&description->array);
        rc = tc_fail(err, TC_E_PROTOCOL, "the agent sent no descriptor");
    }
    if (rc == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return rc;
}

int tc_api_fetch(const char *dir, const char *name, struct tc_description *description, struct tc_err *err)
{
    struct tc_err why = {0};
    int rc = tc_name_check(name, err);
    int api = rc < 0 ? rc : tc_api_open(dir, err);
    if (api < 0)
        return api;
    char *answer = malloc(TC_API_ANSWER);
    rc = answer ? fetch(api, name, answer, description, &why) : tc_fail(&why, TC_E_NOMEM, "out of memory");
    free(answer);
    close(api);
    if (rc == -TC_E_TIMEOUT)
        return tc_fail(err, TC_E_NOTFOUND, "%s is not in %s", name, dir);
    return rc < 0 ? tc_fail(err, -rc, "%s", why.text) : rc;
}

/* The first session of name in a status answer. */
static int read_progress(const char *line, const char *name, uint64_t *bytes, uint64_t *size, struct tc_err *err)
{
    json_t *answer = json_loads(line, 0, NULL), *session;
    size_t index;
    int rc = -TC_E_NOTFOUND;
    json_array_foreach(json_object_get(answer, "sessions"), index, session)
    {
        const char *own = json_string_value(json_object_get(session, "name"));
        if (rc == 0 || !own || strcmp(own, name) != 0)
            continue;
        *bytes = (uint64_t)json_integer_value(json_object_get(session, "bytes"));
        *size = (uint64_t)json_integer_value(json_object_get(session, "size"));
        rc = 0;
    }
    json_decref(answer);
    return rc < 0 ? tc_fail(err, TC_E_NOTFOUND, "%s is not on its way", name) : 0;
}

int tc_api_progress(const char *dir, const char *name, uint64_t *bytes, uint64_t *size, struct tc_err *err)
{
    char request[TC_NAME_MAX + 64];
    int rc = tc_name_check(name, err);
    int api = rc < 0 ? rc : tc_api_open(dir, err);
    if (api < 0)
        return api;
    snprintf(request, sizeof request, "{\"op\":\"status\",\"name\":\"%s\"}", name);
    char *answer = malloc(TC_API_ANSWER);
    rc = answer ? tc_api_ask(api, request, answer, TC_API_ANSWER, PING_SECONDS, err)
                : tc_fail(err, TC_E_NOMEM, "out of memory");
    if (rc == 0)
        rc = verdict(answer, err);
    if (rc == 0)
        rc = read_progress(answer, name, bytes, size, err);
    free(answer);
    close(api);
    return rc;
}

static int offer(int api, const uint8_t *session, int fd, char *listen, size_t size, struct tc_err *err)
{
    char hex[2 * TC_SESSION_ID_SIZE + 1], request[128], answer[4096];
    struct deadline end = deadline_after(PING_SECONDS);
    tc_session_hex(session, hex);
    snprintf(request, sizeof request, "{\"op\":\"source\",\"session\":\"%s\"}", hex);
    int rc = send_with_fd(api, request, fd, err);
    if (rc == 0)
        rc = ask(api, request + 1, answer, sizeof answer, &end, err);
    if (rc == 0)
        rc = verdict(answer, err);
    if (rc < 0)
        return rc;
    json_t *object = json_loads(answer, 0, NULL);
    const char *address = json_string_value(json_object_get(object, "listen"));
    snprintf(listen, size, "%s", address ? address : "");
    json_decref(object);
    return 0;
}

int tc_api_offer(const char *dir, const uint8_t session[TC_SESSION_ID_SIZE], int fd, char *listen, size_t size,
                 struct tc_err *err)
{
    int api = tc_api_open(dir, err);
    int rc = api < 0 ? api : offer(api, session, fd, listen, size, err);
    if (rc == 0)
        return api;
    if (api >= 0)
        close(api);
    return rc;
}

/* ---- waiting ---- */

/* 1, 0, or a negative reason: what is there is not to be believed. */
static int is_published(const char *dir, const char *name, struct tc_err *err)
{
    struct stat status;
    struct tc_err why = {0};
    int fd = tc_trust_open_dir(dir, &why);
    if (fd < 0)
        return why.reason == TC_E_POLICY ? tc_fail(err, TC_E_POLICY, "%s", why.text) : 0;
    int there = fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode);
    int rc = there ? tc_trust_owner(status.st_uid, name, err) : 0;
    close(fd);
    return rc < 0 ? rc : there;
}

/* 0, a negative reason, NOBODY_SERVES or AGENT_LEFT. */
static int wait_through_api(const char *dir, const char *name, const struct deadline *end, struct tc_err *err)
{
    struct tc_err why = {0};
    int api = connect_api(dir, end, &why);
    if (api == -TC_E_NOTFOUND)
        return NOBODY_SERVES;
    if (api < 0)
        return tc_fail(err, -api, "%s", why.text);
    char request[TC_NAME_MAX + 64], answer[4096];
    snprintf(request, sizeof request, "{\"op\":\"wait\",\"name\":\"%s\",\"timeout\":null}", name);
    int rc = ask(api, request, answer, sizeof answer, end, &why);
    if (rc == 0)
        rc = verdict(answer, &why);
    close(api);
    /* The agent's own end is told with this reason too; a failed session never is. */
    if (rc == -TC_E_CLOSED)
        return AGENT_LEFT;
    return rc == 0 ? 0 : tc_fail(err, -rc, "%s", why.text);
}

static int look(const char *dir, const char *name, const struct deadline *end, struct tc_err *err)
{
    int there = is_published(dir, name, err);
    return there == 0 ? wait_through_api(dir, name, end, err) : there < 0 ? there : 0;
}

/* 1 watched, 0 not there, -1 with errno. */
static int watch_one(int notify, const char *path)
{
    const uint32_t events = IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
    if (inotify_add_watch(notify, path, events) >= 0)
        return 1;
    return errno == ENOENT ? 0 : -1;
}

/* The length of path without its last component: 0 where only "." is left. */
static size_t parent_length(const char *path, size_t length)
{
    while (length > 0 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length;
}

/* Watch the deepest part of path that is there. Each directory is watched before the next is found missing, so nothing
 * can be made unseen in between. 0, or -1 with errno. */
static int watch_path(int notify, const char *path)
{
    char part[PATH_MAX];
    size_t whole = strlen(path), length = whole;
    int found = 0;
    while (found == 0) {
        snprintf(part, sizeof part, "%.*s", length ? (int)length : 1, length ? path : ".");
        found = watch_one(notify, part);
        if (found == 0 && (length == 0 || strcmp(part, "/") == 0))
            return -1;
        if (found == 0)
            length = parent_length(path, length);
    }
    while (found > 0 && length < whole) {
        while (path[length] == '/')
            length++;
        length += strcspn(path + length, "/");
        snprintf(part, sizeof part, "%.*s", (int)length, path);
        found = watch_one(notify, part);
    }
    return found < 0 ? -1 : 0;
}

/* A descriptor that becomes readable when something is made in DIR, or DIR is made, or an agent opens its local API and
 * touches DIR to say so (.treecast itself can be watched by its owner only). */
static int watch_folder(const char *dir, struct tc_err *err)
{
    int notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (notify < 0 && errno == EMFILE)
        return tc_fail(err, TC_E_LIMIT,
                       "cannot watch %s: no file or inotify instance left (ulimit -n, "
                       "fs.inotify.max_user_instances), and no agent serves it",
                       dir);
    if (notify < 0)
        return tc_fail_errno(err, errno, "cannot watch %s", dir);
    if (watch_path(notify, dir) == 0)
        return notify;
    int number = errno;
    close(notify);
    if (number == ENOSPC)
        return tc_fail(err, TC_E_LIMIT, "cannot watch %s: fs.inotify.max_user_watches reached", dir);
    return tc_fail_errno(err, number, "no agent serves %s, and it cannot be watched", dir);
}

static int wait_for_change(int notify, const struct deadline *end, struct tc_err *err)
{
    int ready = await(notify, POLLIN, end);
    if (ready < 0)
        return tc_fail_errno(err, errno, "inotify");
    return ready ? 0 : tc_fail(err, TC_E_TIMEOUT, "no change in time");
}

/* An agent that is alive is asked without a watch. Where there is none: watch, then look again, and only then sleep; so
 * what came between two looks is always seen. Every turn watches afresh, as directories come and go too. */
static int wait_anyhow(const char *dir, const char *name, const struct deadline *end, struct tc_err *err)
{
    int notify = -1;
    int rc = look(dir, name, end, err);
    while (rc > 0) {
        if (rc == NOBODY_SERVES && notify >= 0 && (rc = wait_for_change(notify, end, err)) < 0)
            break;
        if (notify >= 0)
            close(notify);
        notify = watch_folder(dir, err);
        rc = notify < 0 ? notify : look(dir, name, end, err);
    }
    if (notify >= 0)
        close(notify);
    return rc;
}

int tc_api_wait(const char *dir, const char *name, double timeout, struct tc_err *err)
{
    struct deadline end = deadline_after(timeout);
    struct tc_err why = {0};
    int rc = tc_name_check(name, err);
    if (rc < 0)
        return rc;
    rc = wait_anyhow(dir, name, &end, &why);
    if (rc == -TC_E_TIMEOUT && !end.forever && seconds_left(&end) <= 0)
        return tc_fail(err, TC_E_TIMEOUT, "%s was not published in %s within %g s", name, dir, timeout);
    return rc < 0 ? tc_fail(err, -rc, "%s", why.text) : 0;
}
