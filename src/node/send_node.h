/* send_node.h - one broadcast from this process: the coordinator's machine on real links, files and threads.
 *
 * tc_send_run blocks in its own event loop until the session has ended. While it runs it takes SIGINT and SIGTERM (the
 * first aborts the session cleanly, the second ends at once) and SIGUSR1 (tells the state as TC_NEWS_STATE). */
#ifndef TC_NODE_SEND_NODE_H
#define TC_NODE_SEND_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "data/codec.h"
#include "data/digest.h"
#include "file/source.h"
#include "net/key.h"
#include "plan/tree.h"
#include "site/launch_request.h"

/* What became of a host; tc_host_state_name: "published" ... as JSON has it. */
enum tc_host_state {
    TC_HOST_PENDING, /* not ended yet; never in a finished report */
    TC_HOST_READY,   /* dry run: could take the array */
    TC_HOST_PUBLISHED,
    TC_HOST_UNCHANGED, /* had the same array already */
    TC_HOST_REFUSED,
    TC_HOST_UNREACHABLE,
    TC_HOST_FAILED,
    TC_HOST_ABORTED,
    TC_HOST_LOST
};
const char *tc_host_state_name(enum tc_host_state state);

struct tc_send_host {
    const char *host; /* as listed */
    enum tc_host_state state;
    struct tc_err why; /* refused, unreachable, failed, aborted, lost; text may hold a peer's words, escaped already */
    uint64_t bytes;    /* of the array that it holds, verified */
    uint64_t adopted;  /* of these, bytes that it held before the broadcast */
    double seconds;    /* from the start of the transfer until it was whole; 0 before */
    const char *slow;  /* what made it slow; "" for a host that was not */
    bool leaf;         /* it was found unfit to relay */
    unsigned corrupt;  /* times that others had wrong bytes from it */
};

/* One change of the plan while it ran. */
struct tc_send_replan {
    double seconds; /* from the start of the transfer */
    uint32_t epoch;
    size_t host, other; /* whom it is about, and of "apart" its parent; host_count: the sender, or none */
    const char *why;    /* "lost", "slow", "corrupt", "unreached", "complains", "apart", "given up" */
    const char *cause;  /* of "slow": "network in", "network out", "disk", "CPU"; else "" */
    unsigned moves;     /* hosts that got another parent */
    double rate;        /* of "uplink": bytes a second; host is one behind it */
    char group[160];    /* whose uplink, else "" */
    char text[160];     /* the same for people, without host */
};

struct tc_send_report {
    const struct tc_send_host *hosts; /* in the order of the list */
    size_t host_count;
    size_t counts[TC_HOST_LOST + 1]; /* hosts by state */
    uint64_t size;                   /* bytes of the array */
    uint64_t adopted;                /* bytes that hosts held before, of all */
    uint64_t sent, encoded;          /* payload bytes that left this host, and of these in compressed form */
    uint32_t chunk_size;
    struct tc_tree_spec tree; /* never auto once planned */
    bool planned;
    bool digested; /* digest is known: all of the source was read, and found unchanged */
    struct tc_digest digest;
    double total, preflight, transfer, publish; /* seconds */
    size_t slowest;   /* index of the host that was whole last (or, under way, has least); host_count: none */
    size_t min_hosts; /* what counts as success */
    unsigned corrupt; /* times that hosts had wrong bytes from this program itself */
    struct tc_send_replan *replans; /* the oldest first; ended by tc_send_report_free */
    size_t replan_count;
};

enum tc_news_kind { TC_NEWS_PLAN, TC_NEWS_PROGRESS, TC_NEWS_HOST, TC_NEWS_STATE, TC_NEWS_REPLAN };

struct tc_send_news {
    enum tc_news_kind kind;
    const struct tc_send_report *report; /* as of now */
    size_t host;                         /* HOST: who ended; REPLAN: which of the report's replans */
    uint64_t bytes_low, bytes_sum;       /* PROGRESS: verified bytes of the slowest running host, and of all */
};

enum tc_local_mode { TC_LOCAL_AUTO, TC_LOCAL_COPY, TC_LOCAL_NET };

struct tc_send_options {
    const char *source;                  /* path, or with range what to call it */
    const struct tc_source_range *range; /* NULL: source is opened by its path */
    const char *name;                    /* NULL: source's file name */
    const char *const *hosts;            /* "name:port" each; with join_at names as joining agents say them */
    size_t host_count;
    const struct tc_key *key; /* NULL: none; then every host must be loopback (checked before a socket exists) */
    bool raw;                 /* do not read a .npy header */
    const char *dtype;        /* describe a raw file; NULL: not */
    const char *shape;
    uint32_t chunk_size; /* 0: by size and hosts */
    struct tc_compress compress;
    struct tc_tree_spec tree;
    const struct tc_topology *topology; /* member 0 is this host, i + 1 hosts[i]; NULL: nothing is known */
    bool force;
    bool dry_run;
    uint32_t ttl;             /* seconds that the array stays; 0: for good */
    size_t min_hosts;         /* 0: all */
    enum tc_local_mode local; /* the agent of this host gets the source itself: if it can, must, never */
    uint16_t local_port;      /* of hosts listed without a port; 0: there are none, so none is local */
    bool link;                /* and as a hard link */
    double deadline;          /* seconds; 0: none */
    uint64_t rate;            /* bytes a second that leave this host at most; 0: no limit */
    uint32_t min_rate;        /* bytes a second that a host has to gain; 0: TC_RATE_MIN */
    unsigned threads;         /* 0: one a core */
    const char *join_at; /* "ADDR[:PORT]": dial no host, wait there for agents that join (recv --join); NULL: dial */
    double join_seconds; /* who has not joined by then is unreachable; 0: 60 */
    struct tc_launch_request
        *request; /* with join_at: launch the agents so; its join is filled in. NULL: others start them */
    bool stay;    /* they serve on afterwards */
    void (*joinable)(void *arg, const char *address);         /* listening there, with the real port; NULL allowed */
    void (*news)(void *arg, const struct tc_send_news *news); /* several PROGRESS a second; NULL allowed */
    void *arg;
};

/* Run one broadcast. report (borrowed strings and rows live until tc_send_report_free) is filled as far as things got,
 * also on failure. Returns 0 when at least min_hosts have the array, and -reason with err filled otherwise. */
int tc_send_run(const struct tc_send_options *options, struct tc_send_report *report, struct tc_err *err);
void tc_send_report_free(struct tc_send_report *report);

/* The exit code of the program for a run that returned result (0 or -reason): 0 all, 3 enough but not all; below
 * min_hosts the failed hosts' common reason's code where they share one, else 1. */
int tc_send_exit(const struct tc_send_report *report, int result);

#endif
