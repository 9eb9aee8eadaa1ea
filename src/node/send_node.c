#include "node/send_node.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "file/source.h"
#include "net/listen.h"
#include "node/gather.h"
#include "node/local.h"
#include "node/runner.h"
#include "session/coordinator.h"

enum {
    CACHE_BYTES = 64 << 20, /* chunks digested and encoded, for the children to come */
    AHEAD_BYTES = 48 << 20, /* digesting runs this far ahead of giving: less than the cache holds */
    BLOBS_SPARE = 32,
    NEWS_MS = 200,
    LAST_WORDS_MS = TC_MS_GOODBYE + 500
};
static const double JOIN_SECONDS = 60;

struct node {
    const struct tc_send_options *options;
    struct tc_send_report *report;
    struct tc_loop *loop;
    struct tc_pool *pool;
    struct tc_blob_pool *blobs;
    struct tc_source *source;
    struct tc_local local;
    struct tc_array array;
    char *array_json;
    char name[TC_NAME_MAX + 1];
    struct tc_signer *signer, *origin;
    struct tc_coordinator *machine;
    struct tc_coordinator_config config;
    struct tc_runner runner;
    struct tc_gather *gather;
    struct tc_bucket bucket;
    bool running;
    struct tc_timer *news, *last_words;
    struct tc_signal *term, *interrupt, *usr1;
    uint64_t began;
    bool over;
    struct tc_err result;
};

const char *tc_host_state_name(enum tc_host_state state)
{
    static const char *const names[] = {"pending",     "ready",  "published", "unchanged", "refused",
                                        "unreachable", "failed", "aborted",   "lost"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

/* The report follows the machine's view. */

static enum tc_host_state state_of(enum tc_host_end end)
{
    static const enum tc_host_state states[] = {
        [TC_END_NONE] = TC_HOST_PENDING,        [TC_END_READY] = TC_HOST_READY,
        [TC_END_PUBLISHED] = TC_HOST_PUBLISHED, [TC_END_UNCHANGED] = TC_HOST_UNCHANGED,
        [TC_END_REFUSED] = TC_HOST_REFUSED,     [TC_END_UNREACHABLE] = TC_HOST_UNREACHABLE,
        [TC_END_FAILED] = TC_HOST_FAILED,       [TC_END_ABORTED] = TC_HOST_ABORTED,
        [TC_END_LOST] = TC_HOST_LOST,
    };
    return states[end];
}

static struct tc_send_host *row(struct node *node, size_t i)
{
    return (struct tc_send_host *)(uintptr_t)&node->report->hosts[i];
}

static double seconds(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) / 1000.0 : 0.0;
}

static void update_times(struct node *node, uint64_t now)
{
    struct tc_send_report *report = node->report;
    uint64_t planned = tc_coordinator_planned_at(node->machine), whole = 0;
    bool all_whole = true;
    for (size_t i = 0; i < report->host_count; i++) {
        const struct tc_host_view *view = tc_coordinator_host(node->machine, (uint32_t)i);
        if (view->whole_at > whole)
            whole = view->whole_at;
        all_whole &= view->whole_at != 0 || view->phase == TC_PHASE_ENDED;
    }
    report->total = seconds(node->began, now);
    report->preflight = seconds(node->began, planned ? planned : now);
    if (planned) {
        uint64_t end = all_whole && whole ? whole : now;
        report->transfer = seconds(planned, end);
        report->publish = seconds(end, now);
    }
}

/* Short of memory the report lacks them; the session does not end for that. */
static void update_replans(struct node *node)
{
    struct tc_send_report *report = node->report;
    const struct tc_replan_view *views;
    uint64_t planned = tc_coordinator_planned_at(node->machine);
    unsigned count = tc_coordinator_replans(node->machine, &views);
    if (count == report->replan_count)
        return;
    struct tc_send_replan *replans = realloc(report->replans, count * sizeof *replans);
    if (!replans)
        return;
    report->replans = replans;
    for (; report->replan_count < count; report->replan_count++) {
        const struct tc_replan_view *view = &views[report->replan_count];
        struct tc_send_replan *replan = &replans[report->replan_count];
        *replan = (struct tc_send_replan){.seconds = seconds(planned, view->at),
                                          .epoch = view->epoch,
                                          .host = view->host,
                                          .other = view->other == TC_NO_RANK ? report->host_count : view->other,
                                          .why = tc_replan_why_name(view->why),
                                          .cause = tc_cause_name(view->cause),
                                          .moves = view->moves,
                                          .rate = view->rate};
        snprintf(replan->group, sizeof replan->group, "%s", view->group);
        tc_escape(replan->text, sizeof replan->text, view->text);
    }
}

static void update_report(struct node *node)
{
    struct tc_send_report *report = node->report;
    update_replans(node);
    uint64_t planned = tc_coordinator_planned_at(node->machine), worst = 0, least = UINT64_MAX;
    memset(report->counts, 0, sizeof report->counts);
    report->adopted = 0;
    report->slowest = report->host_count;
    for (size_t i = 0; i < report->host_count; i++) {
        const struct tc_host_view *view = tc_coordinator_host(node->machine, (uint32_t)i);
        struct tc_send_host *host = row(node, i);
        host->state = state_of(view->end);
        host->bytes = view->bytes;
        host->adopted = view->adopted;
        report->adopted += view->adopted;
        host->why.reason = view->why.reason;
        tc_escape(host->why.text, sizeof host->why.text, view->why.text);
        host->seconds = view->whole_at ? seconds(planned, view->whole_at) : 0.0;
        host->slow = tc_cause_name(view->cause);
        host->leaf = view->unfit;
        host->corrupt = view->accused;
        report->counts[host->state]++;
        bool under_way = view->rank != 0 && view->phase == TC_PHASE_RUNNING;
        if (under_way && view->bytes < least) {
            least = view->bytes;
            report->slowest = i;
        } else if (least == UINT64_MAX && view->whole_at > worst) {
            worst = view->whole_at;
            report->slowest = i;
        }
    }
    report->corrupt = tc_coordinator_accused(node->machine);
    report->sent = node->runner.chunk_bytes_sent;
    report->encoded = node->runner.encoded_sent;
    report->planned = tc_coordinator_tree(node->machine, &report->tree);
    const struct tc_digest *digest = tc_coordinator_digest(node->machine);
    report->digested = digest != NULL;
    if (digest)
        report->digest = *digest;
    update_times(node, tc_loop_now(node->loop));
}

static void tell(struct node *node, enum tc_news_kind kind, size_t host)
{
    if (!node->options->news)
        return;
    struct tc_send_news news = {.kind = kind, .report = node->report, .host = host};
    update_report(node);
    bool first = true;
    for (size_t i = 0; i < node->report->host_count; i++) {
        const struct tc_host_view *view = tc_coordinator_host(node->machine, (uint32_t)i);
        if (view->rank == 0)
            continue;
        news.bytes_sum += view->bytes;
        if (view->phase == TC_PHASE_RUNNING && (first || view->bytes < news.bytes_low)) {
            news.bytes_low = view->bytes;
            first = false;
        }
    }
    if (first && node->report->planned)
        news.bytes_low = node->report->size;
    node->options->news(node->options->arg, &news);
}

static void on_news_timer(void *arg)
{
    struct node *node = arg;
    if (tc_coordinator_planned_at(node->machine))
        tell(node, TC_NEWS_PROGRESS, node->report->host_count);
    tc_timer_set(node->news, NEWS_MS);
}

/* Digest, and encode for the children in the same pass. */

struct digest_job {
    struct tc_task task;
    struct node *node;
    uint32_t chunk;
    bool encode;
    int level;
    struct tc_blob *frame;
    struct tc_digest digest, blocks[TC_CHUNK_BLOCKS_MAX];
    struct tc_err err;
};

static void digest_run(struct tc_task *task, struct tc_worker *worker)
{
    struct digest_job *job = (struct digest_job *)task;
    struct node *node = job->node;
    const struct tc_layout *layout = &node->config.layout;
    uint32_t length = tc_chunk_length(layout, job->chunk);
    job->frame = tc_blob_new(node->blobs, TC_CHUNK_HEAD + length);
    if (!job->frame) {
        tc_fail(&job->err, TC_E_NOMEM, "no memory for chunk %u", job->chunk);
        return;
    }
    uint8_t *plain = job->frame->bytes + TC_CHUNK_HEAD;
    tc_chunk_head(job->frame->bytes, job->chunk, length, TC_FORM_PLAIN);
    if (tc_source_read(node->source, tc_chunk_offset(layout, job->chunk), plain, length, &job->err) < 0 ||
        tc_digest_chunk(plain, length, job->blocks, &job->digest, &job->err) < 0)
        return;
    if (job->encode)
        job->frame = tc_frame_encode(worker, node->blobs, job->frame, job->chunk, job->level);
}

static void digest_done(struct tc_task *task)
{
    struct digest_job *job = (struct digest_job *)task;
    struct node *node = job->node;
    node->runner.tasks--;
    if (job->err.reason == 0) {
        size_t plain = tc_chunk_length(&node->config.layout, job->chunk), payload = job->frame->size - TC_CHUNK_HEAD;
        if (job->encode)
            tc_compress_choice_result(&node->runner.choice, plain, payload < plain ? payload : 0);
        tc_cache_put(node->runner.cache, job->chunk, job->frame);
    }
    struct tc_event event = {
        .kind = TC_EV_DIGESTED, .chunk = job->chunk, .digest = &job->digest, .blocks = job->blocks, .err = &job->err};
    if (node->running)
        tc_runner_event(&node->runner, &event);
    tc_blob_unref(job->frame);
    free(job);
}

static void digest(struct node *node, uint32_t chunk)
{
    struct digest_job *job = calloc(1, sizeof *job);
    if (!job) {
        struct tc_err err = {0};
        tc_fail(&err, TC_E_NOMEM, "no memory to digest chunk %u", chunk);
        struct tc_event event = {.kind = TC_EV_DIGESTED, .chunk = chunk, .err = &err};
        tc_runner_event(&node->runner, &event);
        return;
    }
    job->task.run = digest_run;
    job->task.done = digest_done;
    job->node = node;
    job->chunk = chunk;
    job->encode = tc_compress_choice_try(&node->runner.choice);
    job->level = node->runner.choice.compress.level;
    tc_runner_add(&node->runner, &job->task);
    /* cppcheck-suppress memleak ; digest_done frees it */
}

/* Actions. */

static void on_end(struct node *node, const struct tc_action *action)
{
    node->over = true;
    node->result = action->err;
    tc_timer_set(node->last_words, LAST_WORDS_MS);
    if (node->runner.connection_count == 0)
        tc_loop_stop(node->loop);
}

static void act(void *arg, struct tc_action *action)
{
    struct node *node = arg;
    char text[4 * TC_ERR_TEXT];
    switch (action->kind) {
    case TC_ACT_DIGEST:
        digest(node, action->chunk);
        break;
    case TC_ACT_CHECK: {
        struct tc_err err = {0};
        tc_source_check(node->source, &err);
        struct tc_event event = {.kind = TC_EV_CHECKED, .err = &err};
        tc_runner_event(&node->runner, &event);
        break;
    }
    case TC_ACT_NEWS:
        tell(node, action->host == TC_NO_RANK ? TC_NEWS_PLAN : TC_NEWS_HOST,
             action->host == TC_NO_RANK ? node->report->host_count : action->host);
        break;
    case TC_ACT_REPLAN:
        update_report(node);
        if (action->chunk < node->report->replan_count)
            tell(node, TC_NEWS_REPLAN, action->chunk);
        break;
    case TC_ACT_WARN:
        tc_log(TC_LOG_WARN, "%s", tc_escape(text, sizeof text, action->err.text));
        break;
    case TC_ACT_END:
        on_end(node, action);
        break;
    default:
        break;
    }
}

static int read_file(void *arg, uint64_t offset, void *bytes, size_t size, struct tc_err *err)
{
    struct node *node = arg;
    return tc_source_read(node->source, offset, bytes, size, err);
}

/* What has arrived of what a link was given, and how fast, only its socket knows. */
static void tell_flows(struct node *node, uint64_t now)
{
    for (const struct tc_connection *connection = node->runner.connections; connection; connection = connection->next) {
        if (connection->closing || connection->number < node->options->host_count) /* control links come first */
            continue;
        struct tc_flow flow = tc_link_flow(connection->link);
        struct tc_event event = {.kind = TC_EV_FLOW, .link = connection->number};
        event.flags = flow.backlog < UINT32_MAX ? (uint32_t)flow.backlog : UINT32_MAX;
        event.arrived = flow.arrived;
        event.busy = flow.busy;
        tc_coordinator_event(node->machine, &event, now);
    }
}

static void machine_event(void *machine, const struct tc_event *event, uint64_t now)
{
    struct node *node = machine;
    if (event->kind == TC_EV_TICK)
        tell_flows(node, now);
    tc_coordinator_event(node->machine, event, now);
}

static bool machine_take(void *machine, struct tc_action *action)
{
    return tc_coordinator_take(((struct node *)machine)->machine, action);
}

static uint64_t machine_wake(const void *machine)
{
    return tc_coordinator_wake(((const struct node *)machine)->machine);
}

static void connection_gone(void *arg)
{
    struct node *node = arg;
    if (node->over && node->runner.connection_count == 0)
        tc_loop_stop(node->loop);
}

static void on_last_words(void *arg)
{
    tc_loop_stop(((struct node *)arg)->loop);
}

static void on_interrupt(void *arg)
{
    struct node *node = arg;
    struct tc_err why = {0};
    if (node->over) { /* only last words are left: the result stands */
        tc_loop_stop(node->loop);
        return;
    }
    tc_fail(&why, TC_E_INTERRUPTED, "interrupted by the user");
    struct tc_event event = {.kind = TC_EV_STOP, .err = &why};
    tc_runner_event(&node->runner, &event);
}

static void on_usr1(void *arg)
{
    struct node *node = arg;
    tell(node, TC_NEWS_STATE, node->report->host_count);
}

static void trace(void *arg, const char *line)
{
    char text[1024];
    (void)arg;
    tc_log(TC_LOG_DEBUG, "%s", tc_escape(text, sizeof text, line));
}

static int random_bytes(void *arg, void *bytes, size_t size, struct tc_err *err)
{
    (void)arg;
    return tc_random(bytes, size, err);
}

/* Opening, step by step. */

static int check_hosts(const struct tc_send_options *options, struct tc_err *err)
{
    if (options->host_count == 0)
        return tc_fail(err, TC_E_USAGE, "no hosts to send to");
    if (options->join_at && !options->key && !tc_address_is_loopback(options->join_at))
        return tc_fail(err, TC_E_POLICY,
                       "%s: without a key agents may join at loopback only; make one with 'treecast keygen FILE' and "
                       "give -k FILE",
                       options->join_at);
    for (size_t i = 0; !options->key && !options->join_at && i < options->host_count; i++)
        if (!tc_address_is_loopback(options->hosts[i]))
            return tc_fail(err, TC_E_POLICY,
                           "%s: without a key only loopback may be dialled; make one with 'treecast "
                           "keygen FILE' and give -k FILE",
                           options->hosts[i]);
    return 0;
}

static int take_name(struct node *node, struct tc_err *err)
{
    const char *slash = strrchr(node->options->source, '/');
    const char *name = node->options->name ? node->options->name : slash ? slash + 1 : node->options->source;
    int status = tc_name_check(name, err);
    if (status < 0)
        return status;
    snprintf(node->name, sizeof node->name, "%s", name);
    return 0;
}

static bool ends_with(const char *text, const char *tail)
{
    size_t text_size = strlen(text), tail_size = strlen(tail);
    return text_size >= tail_size && strcmp(text + text_size - tail_size, tail) == 0;
}

static int describe_npy(struct node *node, struct tc_err *err)
{
    uint64_t size = tc_source_size(node->source);
    size_t head_size = size < TC_NPY_HEAD_MAX ? (size_t)size : TC_NPY_HEAD_MAX;
    uint8_t *head = malloc(head_size ? head_size : 1);
    if (!head)
        return tc_fail(err, TC_E_NOMEM, "no memory for the header of %s", node->options->source);
    int status = tc_source_read(node->source, 0, head, head_size, err);
    if (status == 0 && (status = tc_array_read_npy(&node->array, head, head_size, size, err)) < 0)
        tc_err_prefix(err, "%s (--raw sends it as plain bytes)", node->options->source);
    free(head);
    return status;
}

static int describe_raw(struct node *node, struct tc_err *err)
{
    const struct tc_send_options *options = node->options;
    const char *dtype = options->dtype ? options->dtype : "u1", *shape = options->shape;
    int status = tc_array_describe_raw(&node->array, dtype, shape, tc_source_size(node->source), err);
    if (status < 0)
        tc_err_prefix(err, "%s as %s%s%s", options->source, dtype, shape ? " of shape " : "", shape ? shape : "");
    return status;
}

static int describe(struct node *node, struct tc_err *err)
{
    const struct tc_send_options *options = node->options;
    int status = 0;
    if (options->dtype || options->shape)
        status = describe_raw(node, err);
    else if (!options->raw && ends_with(options->source, ".npy"))
        status = describe_npy(node, err);
    if (status < 0)
        return status;
    node->array_json = tc_array_print(&node->array, err);
    return node->array_json ? 0 : -TC_E_NOMEM;
}

static int make_keys(struct node *node, struct tc_err *err)
{
    uint8_t secret[TC_SECRET_SIZE];
    const struct tc_key *key = node->options->key;
    int status = tc_random(secret, sizeof secret, err);
    if (status == 0)
        status = tc_random(node->config.session, sizeof node->config.session, err);
    if (status == 0)
        status = tc_random(node->config.instance, sizeof node->config.instance, err);
    if (status < 0)
        return status;
    node->signer = tc_signer_new(secret, node->config.public_key, err);
    explicit_bzero(secret, sizeof secret);
    if (!node->signer)
        return -err->reason;
    if (key && key->has_secret && !(node->origin = tc_signer_new(key->secret, NULL, err)))
        return -err->reason;
    return 0;
}

static int make_machine(struct node *node, struct tc_err *err)
{
    const struct tc_send_options *options = node->options;
    struct tc_coordinator_config *config = &node->config;
    uint64_t size = tc_source_size(node->source);
    uint32_t chunk =
        options->chunk_size ? options->chunk_size : tc_chunk_size_choose(size, (unsigned)options->host_count);
    /* Below a limit a chunk should not keep a child waiting for long. */
    while (options->rate && !options->chunk_size && chunk > TC_CHUNK_SIZE_MIN && chunk > options->rate / 16)
        chunk /= 2;
    int status = tc_layout_init(&config->layout, size, chunk, err);
    if (status < 0)
        return status;
    config->name = node->name;
    config->array = node->array_json;
    config->hosts = options->hosts;
    config->host_count = (uint32_t)options->host_count;
    config->tree = options->tree;
    config->topology = options->topology;
    config->signer = node->signer;
    config->origin = node->origin;
    config->flags = (options->force ? TC_OFFER_FORCE : 0) | (options->dry_run ? TC_OFFER_DRY_RUN : 0);
    config->ttl = options->ttl;
    config->min_hosts = (uint32_t)(options->min_hosts ? options->min_hosts : options->host_count);
    config->deadline = options->deadline > 0 ? tc_loop_now(node->loop) + (uint64_t)(options->deadline * 1000.0) : 0;
    config->min_rate = options->min_rate;
    config->digest_depth = tc_pool_threads(node->pool) + 2;
    config->ahead = AHEAD_BYTES;
    config->joins = options->join_at != NULL;
    config->tls = options->key != NULL;
    double patience = options->join_seconds > 0 ? options->join_seconds : JOIN_SECONDS;
    config->join_by = tc_loop_now(node->loop) + (uint64_t)(patience * 1000.0);
    config->random = random_bytes;
    config->trace = tc_log_level() >= TC_LOG_DEBUG ? trace : NULL;
    node->machine = tc_coordinator_new(config, tc_loop_now(node->loop), err);
    return node->machine ? 0 : -err->reason;
}

static int make_runner(struct node *node, struct tc_err *err)
{
    struct tc_runner_options options = {.loop = node->loop,
                                        .pool = node->pool,
                                        .tls = node->options->key != NULL,
                                        .machine = node,
                                        .event = machine_event,
                                        .take = machine_take,
                                        .wake = machine_wake,
                                        .act = act,
                                        .read = read_file,
                                        .gone = connection_gone,
                                        .bucket = node->options->rate ? &node->bucket : NULL,
                                        .node = node};
    node->bucket = tc_bucket_new(node->options->rate, tc_loop_now(node->loop));
    uint32_t chunk_size = node->config.layout.chunk_size;
    node->blobs = tc_blob_pool_new(TC_CHUNK_HEAD + (size_t)chunk_size, BLOBS_SPARE);
    if (!node->blobs)
        return tc_fail(err, TC_E_NOMEM, "no memory for a session");
    options.blobs = node->blobs;
    if (node->options->key && tc_key_derive(node->options->key, "control", options.control_key, err) < 0)
        return -err->reason;
    int status = tc_runner_init(&node->runner, &options, err);
    explicit_bzero(options.control_key, sizeof options.control_key);
    if (status == 0)
        status = tc_runner_file(&node->runner, &node->config.layout, node->config.session, CACHE_BYTES,
                                node->options->compress, err);
    node->running = status == 0;
    return status;
}

static void on_joined(void *arg, const struct tc_msg_hello *hello)
{
    struct node *node = arg;
    tc_local_joined(&node->local, node->options, node->source, node->config.session, hello->host, hello->address);
}

static int gather(struct node *node, struct tc_err *err)
{
    const struct tc_send_options *options = node->options;
    struct tc_gather_options gather = {.loop = node->loop,
                                       .runner = &node->runner,
                                       .listen = options->join_at,
                                       .key = options->key,
                                       .hosts = (uint32_t)options->host_count,
                                       .request = options->request,
                                       .stay = options->stay,
                                       .joined = on_joined,
                                       .arg = node};
    if (!options->join_at)
        return 0;
    node->gather = tc_gather_open(&gather, err);
    if (!node->gather)
        return -err->reason;
    if (options->joinable && !options->request)
        options->joinable(options->arg, tc_gather_address(node->gather));
    return 0;
}

static int make_report(struct node *node, struct tc_err *err)
{
    struct tc_send_report *report = node->report;
    struct tc_send_host *hosts = calloc(node->options->host_count, sizeof *hosts);
    if (!hosts)
        return tc_fail(err, TC_E_NOMEM, "no memory for a report");
    for (size_t i = 0; i < node->options->host_count; i++)
        hosts[i] = (struct tc_send_host){.host = node->options->hosts[i], .slow = ""};
    report->hosts = hosts;
    report->host_count = report->slowest = node->options->host_count;
    report->min_hosts = node->options->min_hosts ? node->options->min_hosts : report->host_count;
    report->counts[TC_HOST_PENDING] = report->host_count;
    return 0;
}

static int open_node(struct node *node, struct tc_err *err)
{
    int status = take_name(node, err);
    if (status < 0)
        return status;
    const struct tc_send_options *options = node->options;
    node->source = options->range ? tc_source_open_range(options->range, options->source, err)
                                  : tc_source_open(options->source, err);
    if (!node->source)
        return -err->reason;
    node->report->size = tc_source_size(node->source);
    status = describe(node, err);
    if (status == 0)
        status = make_keys(node, err);
    if (status < 0)
        return status;
    status = tc_local_offer(&node->local, node->options, node->source, node->config.session, err);
    if (status < 0)
        return status;
    if (!(node->loop = tc_loop_new(err)) || !(node->pool = tc_pool_new(node->loop, node->options->threads, err)))
        return -err->reason;
    node->began = tc_loop_now(node->loop);
    status = make_machine(node, err);
    if (status == 0)
        status = make_runner(node, err);
    if (status == 0)
        status = gather(node, err);
    if (status < 0)
        return status;
    node->report->chunk_size = node->config.layout.chunk_size;
    node->news = tc_timer_new(node->loop, on_news_timer, node, err);
    node->last_words = tc_timer_new(node->loop, on_last_words, node, err);
    node->term = tc_signal_new(node->loop, SIGTERM, on_interrupt, node, err);
    node->interrupt = tc_signal_new(node->loop, SIGINT, on_interrupt, node, err);
    node->usr1 = tc_signal_new(node->loop, SIGUSR1, on_usr1, node, err);
    return node->news && node->last_words && node->term && node->interrupt && node->usr1 ? 0 : -err->reason;
}

static void close_node(struct node *node)
{
    node->running = false;
    tc_pool_free(node->pool);
    tc_gather_close(node->gather);
    if (node->loop && node->runner.timer)
        tc_runner_end(&node->runner);
    tc_coordinator_free(node->machine);
    tc_timer_free(node->news);
    tc_timer_free(node->last_words);
    tc_signal_free(node->term);
    tc_signal_free(node->interrupt);
    tc_signal_free(node->usr1);
    if (node->loop)
        tc_loop_free(node->loop);
    tc_blob_pool_free(node->blobs);
    tc_signer_free(node->signer);
    tc_signer_free(node->origin);
    tc_local_withdraw(&node->local);
    if (node->source)
        tc_source_close(node->source);
    tc_array_free(&node->array);
    free(node->array_json);
}

/* Fewer than asked for: the failed hosts' common reason if they share one. */
static int judge(const struct tc_send_report *report, bool dry_run, struct tc_err *err)
{
    size_t good = report->counts[TC_HOST_PUBLISHED] + report->counts[TC_HOST_UNCHANGED] +
                  (dry_run ? report->counts[TC_HOST_READY] : 0);
    int reason = 0;
    if (good >= report->min_hosts)
        return 0;
    for (size_t i = 0; i < report->host_count; i++) {
        const struct tc_send_host *host = &report->hosts[i];
        if (host->why.reason == 0 || host->why.reason == TC_E_ABORTED)
            continue;
        if (reason != 0 && reason != host->why.reason)
            reason = TC_E_FAILED;
        else if (reason == 0)
            reason = host->why.reason;
    }
    return tc_fail(err, reason ? reason : TC_E_FAILED, "%zu of %zu hosts have it (needed: %zu)", good,
                   report->host_count, report->min_hosts);
}

int tc_send_run(const struct tc_send_options *options, struct tc_send_report *report, struct tc_err *err)
{
    struct tc_err own = {0};
    struct node node = {.options = options, .report = report, .local = {.api = -1}};
    *report = (struct tc_send_report){0};
    if (!err)
        err = &own;
    int status = check_hosts(options, err);
    if (status == 0)
        status = make_report(&node, err);
    if (status < 0)
        return status;
    tc_prepare_process();
    status = open_node(&node, err);
    if (status == 0) {
        tc_timer_set(node.news, NEWS_MS);
        tc_runner_drain(&node.runner);
        status = tc_loop_run(node.loop, err);
        update_report(&node);
    }
    close_node(&node);
    if (status < 0)
        return status;
    /* A session that ended early may still have brought the array to enough hosts. */
    if (judge(report, options->dry_run, NULL) == 0 && node.result.reason != TC_E_INTERRUPTED)
        return 0;
    if (node.result.reason && node.result.reason != TC_E_ABORTED)
        return tc_fail(err, node.result.reason, "%s", node.result.text);
    status = judge(report, options->dry_run, err);
    if (node.result.reason == TC_E_ABORTED) /* the session knows better what it lacked; the exit code is the hosts' */
        snprintf(err->text, sizeof err->text, "%s", node.result.text);
    return status;
}

void tc_send_report_free(struct tc_send_report *report)
{
    free((void *)(uintptr_t)report->hosts);
    free(report->replans);
    *report = (struct tc_send_report){0};
}

int tc_send_exit(const struct tc_send_report *report, int result)
{
    size_t good = report->counts[TC_HOST_PUBLISHED] + report->counts[TC_HOST_UNCHANGED] + report->counts[TC_HOST_READY];
    if (result < 0)
        return tc_reason_exit(-result);
    return good == report->host_count ? 0 : 3;
}
