#include "api/server_own.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#define PEERS_MAX 4096u
#define PEERS_LEAST 64u
#define DESCRIPTORS_EACH 4u /* that a connection may hold; files and links of sessions need some too */
#define ACCEPT_BATCH 32
#define ACCEPT_PAUSE_MS 200u /* when the process has no descriptor left */

/* ---- connections ---- */

static uid_t user_behind(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ? (uid_t)-1 : peer.uid;
}

/* One line, which an empty socket takes, and go. */
static void turn_away(int fd, const struct tc_err *why)
{
    json_t *object = json_pack("{s:b,s:s,s:s}", "ok", 0, "reason", tc_reason_name(why->reason), "text", why->text);
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (line && send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE) > 0)
        send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    free(line);
    close(fd);
}

static void take(struct tc_api *api, int fd)
{
    uid_t uid = user_behind(fd);
    struct tc_err why = {0};
    if (!tc_api_may_enter(api, uid)) {
        tc_log(TC_LOG_INFO, "local API: refused user %ld", (long)uid);
        tc_fail(&why, TC_E_PERMISSION, "this agent serves its owner and --allow-user only");
        turn_away(fd, &why);
        return;
    }
    struct user *user = tc_api_join(api, uid, &why);
    if (user && tc_api_admit(api, fd, user) == 0)
        return;
    if (user) {
        tc_fail(&why, TC_E_NOMEM, "no memory for a connection");
        tc_api_part(api, user);
    }
    turn_away(fd, &why);
}

static void on_listener(void *arg, unsigned ready)
{
    struct tc_api *api = arg;
    (void)ready;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(api->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            /* The connection stays in the queue, so the listener would be ready again at once and for ever. */
            tc_watch_want(api->watch, 0, NULL);
            tc_timer_set(api->pause, ACCEPT_PAUSE_MS);
        }
        if (fd < 0)
            return;
        take(api, fd);
    }
}

static void on_pause_over(void *arg)
{
    struct tc_api *api = arg;
    tc_watch_want(api->watch, TC_WATCH_READ, NULL);
}

/* ---- from its beginning to its end ---- */

static int start_watching(struct tc_api *api, struct tc_err *err)
{
    api->pause = tc_timer_new(api->loop, on_pause_over, api, err);
    api->turn = tc_timer_new(api->loop, tc_api_on_turn, api, err);
    if (!api->pause || !api->turn)
        return -TC_E_NOMEM;
    api->watch = tc_watch_new(api->loop, api->listener, on_listener, api, err);
    if (!api->watch)
        return -TC_E_NOMEM;
    return tc_watch_want(api->watch, TC_WATCH_READ, err);
}

/* At most a part of the descriptors that the process may have. */
static unsigned peers_most(void)
{
    struct rlimit files;
    rlim_t most = PEERS_MAX;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur / DESCRIPTORS_EACH < most)
        most = files.rlim_cur / DESCRIPTORS_EACH;
    return most > PEERS_LEAST ? (unsigned)most : PEERS_LEAST;
}

static struct tc_api *make_api(struct tc_loop *loop, const char *dir, const struct tc_api_options *options)
{
    struct tc_api *api = calloc(1, sizeof *api);
    if (!api)
        return NULL;
    api->loop = loop;
    api->state_fd = api->listener = -1;
    api->turn_last = &api->turn_first;
    api->peers_most = peers_most();
    api->options = *options;
    api->dir = strdup(dir);
    api->allowed = calloc(options->user_count ? options->user_count : 1, sizeof *api->allowed);
    if (!api->dir || !api->allowed) {
        tc_api_close(api);
        return NULL;
    }
    for (unsigned i = 0; i < options->user_count; i++)
        api->allowed[i] = options->users[i];
    return api;
}

struct tc_api *tc_api_serve(struct tc_loop *loop, const char *dir, int state_fd, const struct tc_api_options *options,
                            struct tc_err *err)
{
    struct tc_api *api = make_api(loop, dir, options);
    if (!api) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    if (tc_api_claim(api, state_fd, err) == 0 && tc_api_bind(api, err) == 0 && start_watching(api, err) == 0)
        return api;
    tc_api_close(api);
    return NULL;
}

void tc_api_published(struct tc_api *api, const char *name)
{
    for (struct peer *peer = api->peers, *next; peer; peer = next) {
        next = peer->next;
        if (strcmp(peer->waiting, name) == 0)
            tc_api_published_to(peer);
    }
}

void tc_api_failed(struct tc_api *api, const char *name, const struct tc_err *why)
{
    for (struct peer *peer = api->peers, *next; peer; peer = next) {
        next = peer->next;
        if (strcmp(peer->waiting, name) == 0)
            tc_api_failed_to(peer, why);
    }
}

int tc_api_source(const struct tc_api *api, const uint8_t session[TC_SESSION_ID_SIZE])
{
    for (const struct peer *peer = api->peers; peer; peer = peer->next)
        if (peer->source >= 0 && memcmp(peer->session, session, TC_SESSION_ID_SIZE) == 0)
            return peer->source;
    return -1;
}

void tc_api_close(struct tc_api *api)
{
    if (!api)
        return;
    /* First the listener: who is told "closed" and comes back at once must not find this local API again. */
    tc_watch_free(api->watch);
    tc_timer_free(api->pause);
    tc_timer_free(api->turn);
    if (api->listener >= 0) {
        unlinkat(api->state_fd, TC_API_NAME, 0);
        close(api->listener);
    }
    while (api->peers) {
        struct peer *peer = api->peers;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it went from the list by *prev */
        if (peer->waiting[0])
            tc_api_refuse(peer, TC_E_CLOSED, "the agent has ended");
        tc_api_free_peer(peer);
    }
    if (api->state_fd >= 0)
        close(api->state_fd);
    free(api->allowed);
    free(api->dir);
    free(api);
}
