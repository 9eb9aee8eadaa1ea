#include "door/server_own.h"

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

static void take(struct tc_door *door, int fd)
{
    uid_t uid = user_behind(fd);
    struct tc_err why = {0};
    if (!tc_door_may_enter(door, uid)) {
        tc_log(TC_LOG_INFO, "door: refused user %ld", (long)uid);
        tc_fail(&why, TC_E_PERMISSION, "this agent serves its owner and --allow-user only");
        turn_away(fd, &why);
        return;
    }
    struct user *user = tc_door_join(door, uid, &why);
    if (user && tc_door_admit(door, fd, user) == 0)
        return;
    if (user) {
        tc_fail(&why, TC_E_NOMEM, "no memory for a connection");
        tc_door_part(door, user);
    }
    turn_away(fd, &why);
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
        take(door, fd);
    }
}

static void on_pause_over(void *arg)
{
    struct tc_door *door = arg;
    tc_watch_want(door->watch, TC_WATCH_READ, NULL);
}

/* ---- from its beginning to its end ---- */

static int start_watching(struct tc_door *door, struct tc_err *err)
{
    door->pause = tc_timer_new(door->loop, on_pause_over, door, err);
    door->turn = tc_timer_new(door->loop, tc_door_on_turn, door, err);
    if (!door->pause || !door->turn)
        return -TC_E_NOMEM;
    door->watch = tc_watch_new(door->loop, door->listener, on_listener, door, err);
    if (!door->watch)
        return -TC_E_NOMEM;
    return tc_watch_want(door->watch, TC_WATCH_READ, err);
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

static struct tc_door *make_door(struct tc_loop *loop, const char *dir, const struct tc_door_options *options)
{
    struct tc_door *door = calloc(1, sizeof *door);
    if (!door)
        return NULL;
    door->loop = loop;
    door->state_fd = door->listener = -1;
    door->turn_last = &door->turn_first;
    door->peers_most = peers_most();
    door->options = *options;
    door->dir = strdup(dir);
    door->allowed = calloc(options->user_count ? options->user_count : 1, sizeof *door->allowed);
    if (!door->dir || !door->allowed) {
        tc_door_close(door);
        return NULL;
    }
    for (unsigned i = 0; i < options->user_count; i++)
        door->allowed[i] = options->users[i];
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
    if (tc_door_claim(door, state_fd, err) == 0 && tc_door_bind(door, err) == 0 && start_watching(door, err) == 0)
        return door;
    tc_door_close(door);
    return NULL;
}

void tc_door_published(struct tc_door *door, const char *name)
{
    for (struct peer *peer = door->peers, *next; peer; peer = next) {
        next = peer->next;
        if (strcmp(peer->waiting, name) == 0)
            tc_door_published_to(peer);
    }
}

void tc_door_failed(struct tc_door *door, const char *name, const struct tc_err *why)
{
    for (struct peer *peer = door->peers, *next; peer; peer = next) {
        next = peer->next;
        if (strcmp(peer->waiting, name) == 0)
            tc_door_failed_to(peer, why);
    }
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
    tc_timer_free(door->turn);
    if (door->listener >= 0) {
        unlinkat(door->state_fd, TC_DOOR_NAME, 0);
        close(door->listener);
    }
    while (door->peers) {
        struct peer *peer = door->peers;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it went from the list by *prev */
        if (peer->waiting[0])
            tc_door_refuse(peer, TC_E_CLOSED, "the agent has ended");
        tc_door_free_peer(peer);
    }
    if (door->state_fd >= 0)
        close(door->state_fd);
    free(door->allowed);
    free(door->dir);
    free(door);
}
