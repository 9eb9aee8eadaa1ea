/* recv_node.h - this host's agent: sessions' machines on real links, files and threads, and the local API for workers.
 *
 * tc_recv_run blocks in its own event loop until SIGTERM or SIGINT, or with once until the first session has ended. */
#ifndef TC_NODE_RECV_NODE_H
#define TC_NODE_RECV_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "net/key.h"

#define TC_PORT_DEFAULT 7117

struct tc_recv_options {
    const char *dir;       /* NULL: tc_place_default */
    const char *listen;    /* NULL: 127.0.0.1:7117; with join where the way to the coordinator begins, any port */
    const char *join;      /* "HOST:PORT": dial the coordinator there; NULL: wait for one */
    const char *host;      /* with join: which of its hosts this is */
    int listen_fd;         /* a socket that listens already, taken; listen is its address then. 0: none */
    const char *advertise; /* address other agents use for this one, with or without port; NULL: the one the coordinator
                              dialled */
    const char *const *reached_as; /* "ADDR[:PORT]" in numbers: where a port is forwarded to this agent from; without a
                                      port its own. advertise is one, if it is in numbers */
    unsigned reached_count;
    const struct tc_key *key; /* NULL: none; then listen must be loopback (checked before a socket exists) */
    bool once;
    const char *user;           /* whom to become once the port is bound, before the directory is touched; NULL: stay */
    bool unconfined;            /* do not ask Landlock to keep this process in its directory */
    uint64_t max_size;          /* bytes of one array; 0: no limit but space */
    uint64_t max_memory;        /* bytes of memory of all arrays, where dir is on tmpfs; 0: no limit but space */
    uint64_t rate;              /* bytes a second that leave this host at most; 0: no limit */
    unsigned sessions_most;     /* at once; 0: 64 */
    unsigned connections_most;  /* that are not let in yet; 0: 256, and a quarter of it from one address */
    unsigned handshake_seconds; /* from a connection to its first word; 0: 3 */
    uint32_t message_most;      /* bytes of a message that is no chunk; 0: what the protocol allows */
    mode_t mode;                /* of published files; 0: 0444 */
    gid_t group;                /* (gid_t)-1: leave */
    const uid_t *users;         /* may use the local API besides the owner and root */
    unsigned user_count;
    unsigned threads; /* 0: one a core */
    uint64_t ttl;     /* seconds that arrays stay, where the sender says nothing; 0: for good */
    uint32_t owner;   /* the process whose end is the agent's, and that of what it published; 0: none */
    /* Listening and serving the local API: address "127.0.0.1:7117", dir as resolved. */
    void (*ready)(void *arg, const char *address, const char *dir);
    void *arg;
};

/* Returns 0 or -reason with err filled (with once: the session's own). Writes temporary files only inside dir; leaves
 * published arrays. */
int tc_recv_run(const struct tc_recv_options *options, struct tc_err *err);

#endif
