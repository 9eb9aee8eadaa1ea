#include "api/server_own.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/process.h"

#define SECONDS_MAX 1e9 /* a longer timeout is none */

/* ---- the file itself ---- */

/* Open published NAME for the peer: the descriptor goes with the answer, and object gets "fd" and "description". */
static int add_file(struct peer *peer, const char *name, json_t *object, struct tc_err *err)
{
    const struct tc_api_options *options = &peer->api->options;
    char *text = NULL;
    int fd = options->open(options->arg, name, &text, err);
    if (fd < 0)
        return fd;
    tc_api_drop(&peer->out_fd);
    peer->out_fd = fd;
    json_t *description = json_loads(text, 0, NULL);
    free(text);
    if (!description || json_object_set_new(object, "description", description) < 0 ||
        json_object_set_new(object, "fd", json_true()) < 0) {
        tc_api_drop(&peer->out_fd);
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    }
    return 0;
}

static void answer_published(struct peer *peer, const char *name, bool with_file)
{
    char *path = NULL;
    struct tc_err err = {0};
    if (asprintf(&path, "%s/%s", peer->api->dir, name) < 0)
        path = NULL;
    json_t *value = path ? json_string(path) : NULL;
    json_t *object = json_pack("{s:b,s:s,s:o}", "ok", 1, "name", name, "path", value ? value : json_null());
    free(path);
    if (object && with_file && add_file(peer, name, object, &err) < 0) {
        json_decref(object);
        tc_api_refuse(peer, err.reason, err.text);
        return;
    }
    tc_api_reply(peer, object);
}

/* ---- waits ---- */

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
    tc_api_refuse(peer, TC_E_TIMEOUT, text);
    tc_api_go_on(peer);
}

void tc_api_published_to(struct peer *peer)
{
    char name[TC_NAME_MAX + 1];
    memcpy(name, peer->waiting, sizeof name);
    end_wait(peer);
    answer_published(peer, name, peer->wants_fd);
    tc_api_go_on(peer);
}

void tc_api_failed_to(struct peer *peer, const struct tc_err *why)
{
    end_wait(peer);
    tc_api_refuse(peer, why->reason == TC_E_CLOSED ? TC_E_LOST : why->reason, why->text);
    tc_api_go_on(peer);
}

static int set_timer(struct peer *peer, double seconds)
{
    if (!peer->timer)
        peer->timer = tc_timer_new(peer->api->loop, on_timeout, peer, NULL);
    if (!peer->timer)
        return -TC_E_NOMEM;
    tc_timer_set(peer->timer, (uint64_t)(seconds * 1e3));
    return 0;
}

static void do_wait(struct peer *peer, const json_t *request)
{
    const struct tc_api_options *options = &peer->api->options;
    const char *name = json_string_value(json_object_get(request, "name"));
    const json_t *timeout = json_object_get(request, "timeout");
    double seconds = json_number_value(timeout);
    struct tc_err err = {0};

    peer->wants_fd = json_is_true(json_object_get(request, "fd"));
    if (!name)
        tc_api_refuse(peer, TC_E_USAGE, "wait needs a name");
    else if (tc_name_check(name, &err) < 0)
        tc_api_refuse(peer, err.reason, err.text);
    else if (timeout && !json_is_null(timeout) && (!json_is_number(timeout) || seconds < 0))
        tc_api_refuse(peer, TC_E_USAGE, "timeout is a number of seconds, or null");
    else if (options->published(options->arg, name))
        answer_published(peer, name, peer->wants_fd);
    else if (json_is_number(timeout) && seconds <= SECONDS_MAX && set_timer(peer, seconds) < 0)
        peer->gone = true;
    else
        snprintf(peer->waiting, sizeof peer->waiting, "%s", name);
}

/* ---- answered later ---- */

static struct tc_api_request *new_request(struct peer *peer, const char *name)
{
    struct tc_api_request *request = calloc(1, sizeof *request);
    if (!request) {
        peer->gone = true;
        return NULL;
    }
    request->peer = peer;
    if (name)
        snprintf(request->name, sizeof request->name, "%s", name);
    peer->request = request;
    return request;
}

static void answer_status(struct peer *peer, const struct tc_api_request *request, const char *text)
{
    json_t *object = json_loads(text, 0, NULL);
    if (!json_is_object(object)) {
        tc_api_refuse(peer, TC_E_FAILED, "no status");
    } else if (!json_object_get(object, "ok") && json_object_set_new(object, "ok", json_true()) < 0) {
        peer->gone = true;
    } else {
        /* Not being there is what the rest of the answer says. */
        if (request->wants_fd)
            add_file(peer, request->name, object, NULL);
        tc_api_reply(peer, json_incref(object));
    }
    json_decref(object);
}

static void answer_lease(struct peer *peer, const struct tc_api_request *request)
{
    const struct tc_lease *lease = &request->lease;
    tc_api_reply(peer, json_pack("{s:b, s:s, s:o, s:o}", "ok", 1, "name", request->name, "expires",
                                 lease->expires ? json_integer((json_int_t)lease->expires) : json_null(), "owner_pid",
                                 lease->pid ? json_integer(lease->pid) : json_null()));
}

void tc_api_answer(struct tc_api_request *request, char *text, const struct tc_err *why)
{
    struct peer *peer = request->peer;
    if (peer) {
        peer->request = NULL;
        if (why && why->reason)
            tc_api_refuse(peer, why->reason, why->text);
        else if (request->is_lease)
            answer_lease(peer, request);
        else
            answer_status(peer, request, text);
        tc_api_go_on(peer);
    }
    free(request);
    free(text);
}

static void do_status(struct peer *peer, const json_t *object)
{
    const struct tc_api_options *options = &peer->api->options;
    const json_t *member = json_object_get(object, "name");
    const char *name = json_string_value(member);
    struct tc_err err = {0};
    if (member && !json_is_null(member) && !name) {
        tc_api_refuse(peer, TC_E_USAGE, "name is a string");
        return;
    }
    if (name && tc_name_check(name, &err) < 0) {
        tc_api_refuse(peer, err.reason, err.text);
        return;
    }
    struct tc_api_request *request = new_request(peer, name);
    if (!request)
        return;
    request->wants_fd = name && json_is_true(json_object_get(object, "fd"));
    options->status(options->arg, name ? request->name : NULL, request);
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
    if (json_is_number(ttl))
        tc_lease_begin(lease, json_number_value(ttl));
    if (json_is_integer(pid))
        lease->pid = (uint32_t)json_integer_value(pid);
    if (lease->pid && tc_process_start(lease->pid, &lease->start) < 0)
        return tc_fail(err, TC_E_NOTFOUND, "there is no process %u here", lease->pid);
    int watch = lease->pid ? tc_process_watch(lease->pid, lease->start) : -1;
    if (watch == -2)
        return tc_fail(err, TC_E_USAGE, "the end of %u cannot be told: is it a thread?", lease->pid);
    tc_api_drop(&watch);
    return 0;
}

static void do_lease(struct peer *peer, const json_t *object)
{
    const struct tc_api_options *options = &peer->api->options;
    const char *name = json_string_value(json_object_get(object, "name"));
    struct tc_lease lease = {0};
    struct tc_err err = {0};
    int rc;

    if (peer->user->uid != 0 && peer->user->uid != peer->api->owner)
        rc = tc_fail(&err, TC_E_PERMISSION, "leases are given by the owner and root only");
    else if (!name)
        rc = tc_fail(&err, TC_E_USAGE, "lease needs a name");
    else
        rc = tc_name_check(name, &err);
    if (rc == 0)
        rc = read_lease(object, &lease, &err);
    if (rc < 0) {
        tc_api_refuse(peer, err.reason, err.text);
        return;
    }
    struct tc_api_request *request = new_request(peer, name);
    if (!request)
        return;
    request->is_lease = true;
    request->lease = lease;
    options->lease(options->arg, request->name, &request->lease, request);
}

/* ---- all requests ---- */

/* Whoever passes it can read it: a root-only file can be named by anybody with O_PATH. What the kernel has of it has to do:
 * the file system may be the peer's own (FUSE), and never answer. */
static bool is_source(int fd)
{
    struct statx status;
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    return flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_WRONLY &&
           statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) == 0 && S_ISREG(status.stx_mode);
}

static void do_source(struct peer *peer, const json_t *request)
{
    const struct tc_api_options *options = &peer->api->options;
    const char *session = json_string_value(json_object_get(request, "session"));
    if (!session || tc_session_parse(peer->session, session) < 0) {
        tc_api_refuse(peer, TC_E_USAGE, "source needs a session, 32 hex digits");
    } else if (!is_source(peer->in_fd)) {
        tc_api_refuse(peer, TC_E_USAGE,
                      "source needs a descriptor that a regular file can be read from, with its first byte");
    } else {
        tc_api_drop(&peer->source);
        peer->source = peer->in_fd;
        peer->in_fd = -1;
        tc_api_reply(peer, json_pack("{s:b, s:s}", "ok", 1, "listen", options->listening(options->arg)));
    }
}

void tc_api_act(struct peer *peer, const char *line, size_t size)
{
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *op = json_string_value(json_object_get(request, "op"));
    if (!op)
        tc_api_refuse(peer, TC_E_PROTOCOL, "a request is one JSON object with \"op\" on one line");
    else if (strcmp(op, "wait") == 0)
        do_wait(peer, request);
    else if (strcmp(op, "status") == 0)
        do_status(peer, request);
    else if (strcmp(op, "ping") == 0)
        tc_api_reply(peer, json_pack("{s:b}", "ok", 1));
    else if (strcmp(op, "lease") == 0)
        do_lease(peer, request);
    else if (strcmp(op, "source") == 0)
        do_source(peer, request);
    else
        tc_api_refuse(peer, TC_E_USAGE, "op is wait, status, ping, lease or source");
    tc_api_drop(&peer->in_fd);
    json_decref(request);
}
