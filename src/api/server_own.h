/* server_own.h - what the files of the local API's server share. Private to them.
 *
 * server.c          the server: connections come in, waiters are told, all end
 * server_users.c    how much of it each user may have
 * server_peer.c     one connection: bytes in, lines in turn, answers out
 * server_request.c  what a line asks for, and its answer
 * server_socket.c   the socket file: made, claimed, cleaned away */
#ifndef TC_API_SERVER_OWN_H
#define TC_API_SERVER_OWN_H

#include <jansson.h>

#include "api/server.h"

/* What the connections of one user have of the server. */
struct user {
    struct user *next;
    uid_t uid;
    unsigned peers;
    size_t unread; /* bytes of answers that its connections do not read */
};

/* A request that is answered later. */
struct tc_api_request {
    struct peer *peer; /* NULL: it has gone, and nobody listens to the answer */
    bool is_lease;
    bool wants_fd;
    char name[TC_NAME_MAX + 1]; /* empty: none was given */
    struct tc_lease lease;
};

/* One connection. A request is acted on when the answer to the one before it has gone to the socket, and when it is this
 * connection's turn: each has one request a turn. */
struct peer {
    struct tc_api *api;
    struct user *user;
    struct peer *prev, *next;
    struct peer *turn_next, **turn_prev; /* turn_prev NULL: it has nothing to act on */
    int fd;
    struct tc_watch *watch;
    struct tc_timer *timer; /* of a wait with a timeout; made with the first */
    char *in;               /* in_at .. in_size: requests not acted on */
    size_t in_at, in_size, in_capacity;
    char *out; /* what the socket did not take of an answer; NULL when nothing waits */
    size_t out_size, out_sent;
    int out_fd; /* goes with the first byte of out; -1: none */
    int in_fd;  /* came with what is in; -1: none */
    int source; /* offered for session as long as the connection is open; -1: none */
    uint8_t session[TC_SESSION_ID_SIZE];
    struct tc_api_request *request; /* that it waits for the answer of */
    bool wants_fd;                  /* the wait's answer is to bring the file */
    char waiting[TC_NAME_MAX + 1];  /* the name it waits for; empty when it does not */
    bool acting;                    /* on a line, now */
    bool ending;                    /* close when out has gone */
    bool gone;                      /* close now */
};

struct tc_api {
    struct tc_loop *loop;
    char *dir;
    int state_fd; /* our own, flock'ed as long as we serve */
    int listener;
    struct tc_watch *watch;
    struct tc_timer *pause;
    struct tc_api_options options;
    uid_t *allowed; /* of options, our own */
    uid_t owner;
    struct peer *peers;
    struct peer *turn_first, **turn_last; /* in the order of their turns */
    struct tc_timer *turn;
    struct user *users;                             /* who have connections now */
    unsigned peer_count, peers_most, foreign_peers; /* foreign: of others than root and the owner */
    size_t unread, foreign_unread;
};

/* server_users.c */
bool tc_api_may_enter(const struct tc_api *api, uid_t uid);
/* Who has one connection more now; NULL and why: there are too many, of all or of this user (TC_E_LIMIT), or no memory. */
struct user *tc_api_join(struct tc_api *api, uid_t uid, struct tc_err *why);
void tc_api_part(struct tc_api *api, struct user *user);
/* Keep count of answers that user does not read; false: they would be too many. */
bool tc_api_unread(struct tc_api *api, struct user *user, size_t more);
void tc_api_read(struct tc_api *api, struct user *user, size_t less);

/* server_peer.c */
int tc_api_admit(struct tc_api *api, int fd, struct user *user); /* fd is taken, unless it fails */
void tc_api_free_peer(struct peer *peer);
void tc_api_on_turn(void *api);
/* The end of what holds a connection up: its next request has its turn. The connection may be gone after this. */
void tc_api_go_on(struct peer *peer);
void tc_api_drop(int *fd);
void tc_api_reply(struct peer *peer, json_t *object); /* takes object; NULL: there was no memory for it */
void tc_api_refuse(struct peer *peer, int reason, const char *text);
json_t *tc_api_text(const char *text); /* what is not UTF-8 (a path, a cut line) goes out escaped */

/* server_request.c */
void tc_api_act(struct peer *peer, const char *line, size_t size);
void tc_api_published_to(struct peer *peer); /* that waits */
void tc_api_failed_to(struct peer *peer, const struct tc_err *why);

/* server_socket.c */
int tc_api_claim(struct tc_api *api, int state_fd, struct tc_err *err);
int tc_api_bind(struct tc_api *api, struct tc_err *err);

#endif
