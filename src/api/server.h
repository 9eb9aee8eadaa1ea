/* server.h - the agent's end of the local API: who may come in, waiters by name, status on request.
 *
 * Peers are checked by SO_PEERCRED: the directory's owner, root, the users of --allow-user; others get one line and go.
 * At most 4096 connections (a quarter of the process's descriptors, where that is less) and 1 MiB of unread answers in
 * all; of both, one of the other users has a quarter at most and all of them three, and root has 64 connections more.
 * Requests are acted on in turn, one of each connection, and for half a millisecond at a time. Loop thread only. */
#ifndef TC_API_SERVER_H
#define TC_API_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "data/describe.h"
#include "api/api.h"
#include "net/loop.h"

struct tc_api;
struct tc_api_request; /* one that is answered by tc_api_answer, once, within the call or later */

#define TC_API_TOO_LONG "the answer is longer than a line may be; ask for one name" /* TC_E_LIMIT */

struct tc_api_options {
    const uid_t *users; /* may come in besides the owner and root; copied */
    unsigned user_count;
    /* Whether NAME is published now (asked when a wait comes in). */
    bool (*published)(void *arg, const char *name);
    /* Say what is known of NAME, or of all where it is NULL: a JSON object as text, to which "ok":true is added where it
     * has no "ok". name is borrowed until the answer. */
    void (*status)(void *arg, const char *name, struct tc_api_request *request);
    /* A read-only descriptor of published NAME, taken by the local API, and in *description its description as JSON, freed by
     * the local API; or a negative reason. */
    int (*open)(void *arg, const char *name, char **description, struct tc_err *err);
    /* Give published NAME this lease. Asked by the owner or root. Both are borrowed until the answer. */
    void (*lease)(void *arg, const char *name, const struct tc_lease *lease, struct tc_api_request *request);
    const char *(*listening)(void *arg); /* the agent's address; borrowed for the call */
    void *arg;
};

/* Bind DIR/.treecast/api (state_fd is that directory; a dead agent's socket is replaced, a living one is TC_E_BUSY
 * "an agent already serves DIR") with mode 0666: the check is by credentials. loop is borrowed until tc_api_close,
 * state_fd and dir for the call. */
struct tc_api *tc_api_serve(struct tc_loop *loop, const char *dir, int state_fd, const struct tc_api_options *options,
                            struct tc_err *err);
/* NAME was published / its session failed: wake its waiters with the truth. Waiters take "closed" for the end of the
 * agent, so a session that failed with TC_E_CLOSED is told as "lost". */
void tc_api_published(struct tc_api *api, const char *name);
void tc_api_failed(struct tc_api *api, const char *name, const struct tc_err *why);
/* The file that a connected sender offers for this session: a descriptor borrowed until the loop goes on, or -1. */
int tc_api_source(const struct tc_api *api, const uint8_t session[TC_SESSION_ID_SIZE]);
/* The answer to request, which is gone then: why it failed, or with why NULL or its reason 0, text (of a status), which is
 * taken; NULL for a lease that was given. Before the server is closed. */
void tc_api_answer(struct tc_api_request *request, char *text, const struct tc_err *why);
/* Waiters get {"ok":false,"reason":"closed"}; the socket file goes. NULL allowed. Not from the local API's own callbacks. */
void tc_api_close(struct tc_api *api);

/* Remove the socket that a killed agent has left in .treecast (state_fd), finished or not; nothing while an agent serves
 * there, and one that starts meanwhile waits. files grows by what went. */
int tc_api_clean(int state_fd, unsigned *files, struct tc_err *err);

#endif
