#include "node/recv_own.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "file/partial.h"
#include "file/place.h"
#include "node/privilege.h"

enum {
    HOUR_S = 60 * 60,
    FIRST_WORD_S = 3, /* from TCP to a HELLO that belongs to a session */
    SESSIONS_MOST = 64,
    PENDING_MOST = 256, /* connections that have not said that word yet; a quarter of it from one address */
    MESSAGE_MOST = TC_CHUNK_HEAD + TC_CHUNK_SIZE_MAX
};

static void on_stop(void *arg)
{
    struct tc_recv_node *node = arg;
    struct tc_err why = {0};
    tc_fail(&why, TC_E_ABORTED, "the agent is being stopped");
    if (!node->sessions || node->stopping)
        tc_loop_stop(node->loop);
    node->stopping = true;
    tc_folder_hurry(node->folder);
    struct tc_event event = {.kind = TC_EV_STOP, .err = &why};
    for (struct tc_recv_session *session = node->sessions; session; session = session->next)
        tc_runner_event(&session->runner, &event);
}

static void on_usr1(void *arg)
{
    tc_recv_list(arg, NULL);
}

/* Left-overs of interrupted sessions have their time. */

struct expiry {
    struct tc_task task;
    struct tc_recv_node *node;
};

static void expire_run(struct tc_task *task, struct tc_worker *worker)
{
    (void)worker;
    tc_partial_expire(((struct expiry *)task)->node->folder, TC_PARTIAL_SECONDS);
}

static void expire_done(struct tc_task *task)
{
    free(task);
}

static void on_hour(void *arg)
{
    struct tc_recv_node *node = arg;
    struct expiry *expiry = calloc(1, sizeof *expiry);
    tc_timer_set(node->hourly, HOUR_S * 1000);
    for (struct tc_recv_session *session = node->sessions; session; session = session->next)
        tc_recv_arrived(session);
    if (!expiry)
        return;
    expiry->task.run = expire_run;
    expiry->task.done = expire_done;
    expiry->node = node;
    tc_pool_add(node->locks, &expiry->task);
}

/* The process that this agent belongs to. */

/* What was published for the owner goes with it, as every lease that names it. */
static void on_owner_gone(void *arg, unsigned ready)
{
    struct tc_recv_node *node = arg;
    (void)ready;
    tc_log(TC_LOG_INFO, "process %u has ended, and so does its agent", node->owned.pid);
    tc_watch_want(node->owner_watch, 0, NULL);
    on_stop(node);
}

static int watch_owner(struct tc_recv_node *node, struct tc_err *err)
{
    uint32_t pid = node->owned.pid = node->options.owner;
    if (pid == 0)
        return 0;
    if (tc_process_start(pid, &node->owned.start) < 0)
        return tc_fail(err, TC_E_NOTFOUND, "--owner: there is no process %u here", pid);
    node->owner_fd = tc_process_watch(pid, node->owned.start);
    if (node->owner_fd < 0)
        return tc_fail(err, TC_E_USAGE, "--owner: process %u has ended, or this kernel cannot tell when it does", pid);
    node->owner_watch = tc_watch_new(node->loop, node->owner_fd, on_owner_gone, node, err);
    return node->owner_watch ? tc_watch_want(node->owner_watch, TC_WATCH_READ, err) : -TC_E_NOMEM;
}

/* The node as a whole. */

static int check_policy(const struct tc_recv_options *options, const char *what, const char *address,
                        struct tc_err *err)
{
    if (options->key || tc_address_is_loopback(address))
        return 0;
    return tc_fail(err, TC_E_POLICY,
                   "%s: without a key only loopback may be %s; make one with 'treecast keygen FILE' "
                   "and give -k FILE",
                   address, what);
}

static int open_key(struct tc_recv_node *node, struct tc_err *err)
{
    if (!node->options.key)
        return 0;
    if (node->options.key->has_origin && !(node->origin = tc_verifier_new(node->options.key->origin, err)))
        return -TC_E_NOMEM;
    int status = tc_key_derive(node->options.key, "control", node->control_key, err);
    return status == 0 ? tc_key_derive(node->options.key, "join", node->join_key, err) : status;
}

/* What takes root comes first, then the rights go, and only what is left of them touches the directory. */
static int open_listen(struct tc_recv_node *node, const char *listen, struct tc_err *err)
{
    if (!(node->loop = tc_loop_new(err)))
        return -err->reason;
    node->bucket = tc_bucket_new(node->options.rate, tc_loop_now(node->loop));
    if (!node->options.join && tc_recv_listen(node, listen, err) < 0)
        return -err->reason;
    return tc_privilege_become(node->options.user, node->options.group, err);
}

static int confine(struct tc_recv_node *node, bool was_root, struct tc_err *err)
{
    int version = tc_privilege_confine(node->options.unconfined ? -1 : tc_folder_fd(node->folder), was_root, err);
    if (version > 0)
        tc_log(TC_LOG_DEBUG, "confined to %s (Landlock %d)", tc_folder_path(node->folder), version);
    return version < 0 ? version : 0;
}

static int open_node(struct tc_recv_node *node, const char *listen, struct tc_err *err)
{
    bool was_root = geteuid() == 0;
    char dir[4096];
    int status = open_key(node, err);
    if (status == 0)
        status = tc_random(node->instance, sizeof node->instance, err);
    if (status == 0)
        status = open_listen(node, listen, err);
    if (status < 0)
        return status;
    if (!node->options.dir && tc_place_default(dir, sizeof dir, err) < 0)
        return -err->reason;
    node->folder = tc_folder_open(node->options.dir ? node->options.dir : dir, err);
    if (!node->folder)
        return -err->reason;
    tc_folder_bound(node->folder, node->options.max_memory);
    status = confine(node, was_root, err);
    if (status < 0)
        return status;
    if (!(node->pool = tc_pool_new(node->loop, node->options.threads, err)) || !(node->here.codec = tc_codec_new(err)))
        return -err->reason;
    if (!(node->aside = tc_pool_aside(node->loop, err)) || !(node->locks = tc_pool_aside(node->loop, err)))
        return -err->reason;
    if (tc_recv_open_api(node, err) < 0)
        return -err->reason;
    tc_folder_tidy(node->folder, NULL); /* not needed to serve */
    if (!(node->leases = tc_leases_new(node->loop, node->locks, node->folder, err)))
        return -err->reason;
    status = watch_owner(node, err);
    if (status < 0)
        return status;
    if (node->options.join && tc_recv_join(node, err) < 0)
        return -err->reason;
    node->term = tc_signal_new(node->loop, SIGTERM, on_stop, node, err);
    node->interrupt = tc_signal_new(node->loop, SIGINT, on_stop, node, err);
    node->usr1 = tc_signal_new(node->loop, SIGUSR1, on_usr1, node, err);
    node->hourly = tc_timer_new(node->loop, on_hour, node, err);
    if (!node->term || !node->interrupt || !node->usr1 || !node->hourly)
        return -err->reason;
    on_hour(node); /* what earlier agents left */
    return 0;
}

static void close_node(struct tc_recv_node *node)
{
    tc_signal_free(node->term);
    tc_signal_free(node->interrupt);
    tc_signal_free(node->usr1);
    tc_timer_free(node->hourly);
    struct tc_pending *pending = node->pending;
    node->pending = NULL; /* closed last: the control links of sessions may count there */
    tc_recv_leave(node);
    for (struct tc_recv_session *session = node->sessions; session; session = session->next)
        session->over = true; /* what comes back from the pool is only freed */
    tc_pool_free(node->pool);
    tc_pool_free(node->hanging);
    tc_leases_stop(node->leases);
    tc_recv_end_listing(node);
    tc_pool_free(node->aside);
    tc_pool_free(node->locks);
    while (node->sessions) {
        tc_recv_close_file(node->sessions);
        tc_recv_free_session(node->sessions);
    }
    tc_pending_close(pending);
    tc_api_close(node->api);
    tc_leases_free(node->leases);
    tc_watch_free(node->owner_watch);
    if (node->owner_fd >= 0)
        close(node->owner_fd);
    tc_codec_free(node->here.codec);
    free(node->here.scratch);
    if (node->loop)
        tc_loop_free(node->loop);
    tc_folder_close(node->folder);
    tc_verifier_free(node->origin);
    for (unsigned i = 0; i < node->reached_count; i++)
        free(node->reached_as[i]);
    free(node->reached_as);
    explicit_bzero(node->control_key, sizeof node->control_key);
    explicit_bzero(node->join_key, sizeof node->join_key);
}

static void fill_limits(struct tc_recv_options *options)
{
    if (options->sessions_most == 0)
        options->sessions_most = SESSIONS_MOST;
    if (options->connections_most == 0)
        options->connections_most = PENDING_MOST;
    if (options->handshake_seconds == 0)
        options->handshake_seconds = FIRST_WORD_S;
    if (options->message_most == 0)
        options->message_most = MESSAGE_MOST;
}

int tc_recv_run(const struct tc_recv_options *options, struct tc_err *err)
{
    struct tc_recv_node node = {.options = *options, .owner_fd = -1};
    fill_limits(&node.options);
    const char *listen = options->listen ? options->listen : "127.0.0.1";
    struct tc_err own = {0};
    if (!err)
        err = &own;
    int status = check_policy(options, "served", listen, err);
    if (status == 0 && options->join)
        status = check_policy(options, "dialled", options->join, err);
    if (status < 0)
        return status;
    tc_prepare_process();
    status = open_node(&node, listen, err);
    if (status == 0) {
        if (node.pending)
            tc_recv_say_ready(&node);
        status = tc_loop_run(node.loop, err);
    }
    close_node(&node);
    if (status == 0 && (options->once || (options->join && !node.joined)) && node.result.reason) {
        *err = node.result;
        status = -err->reason;
    }
    return status;
}
