#include "node/recv_own.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "file/origin_fs.h"

enum {
    CACHE_BYTES = 16 << 20,  /* chunks kept for children */
    BACKLOG_BYTES = 8 << 20, /* arrived and not yet in place: then links stop reading */
    BLOBS_SPARE = 24,
    PACE_SLOW = 32 << 20 /* bytes a second: below this a worker would cost more than the work */
};

struct tc_recv_job {
    struct tc_task task;
    struct tc_recv_session *session;
    struct tc_err err;
    uint32_t flags;
    bool placed; /* compare: with what was placed alone */
    /* open */
    uint32_t link, chunk;
    bool keep;
    struct tc_digest digest;
    struct tc_blob *body;
    struct tc_lease lease; /* publish: that it has now */
    uint64_t opened, cpu;  /* ns: when it was opened, and what that took of a CPU */
};

static struct tc_recv_job *new_job(struct tc_recv_session *session, void (*run)(struct tc_task *, struct tc_worker *),
                                   void (*done)(struct tc_task *))
{
    struct tc_recv_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->task.run = run;
    job->task.done = done;
    job->session = session;
    return job;
}

static void finish_job(struct tc_recv_job *job, enum tc_event_kind kind)
{
    struct tc_recv_session *session = job->session;
    struct tc_event event = {
        .kind = kind, .link = job->link, .chunk = job->chunk, .flags = job->flags, .err = &job->err};
    session->runner.tasks--;
    if (!session->over)
        tc_runner_event(&session->runner, &event);
    tc_blob_unref(job->body);
    free(job);
    tc_recv_arrived(session);
}

/* The job of an action that ends in an event of kind. NULL: there is no memory, and the machine has heard so. */
static struct tc_recv_job *job_for(struct tc_recv_session *session, const struct tc_action *action,
                                   enum tc_event_kind kind, void (*run)(struct tc_task *, struct tc_worker *),
                                   void (*done)(struct tc_task *))
{
    struct tc_recv_job *job = new_job(session, run, done);
    if (job)
        return job;
    struct tc_err err = {0};
    tc_fail(&err, TC_E_NOMEM, "no memory for a task");
    struct tc_event event = {.kind = kind, .link = action->link, .chunk = action->chunk, .err = &err};
    tc_runner_event(&session->runner, &event);
    return NULL;
}

/* Prepare: is there space, may it be called so; then the file is reserved. */

static void prepare_run(struct tc_task *task, struct tc_worker *worker)
{
    struct tc_recv_job *job = (struct tc_recv_job *)task;
    struct tc_recv_session *session = job->session;
    struct tc_recv_node *node = session->node;
    const struct tc_job *offer = session->offer;
    (void)worker;
    struct tc_sink_options options = {.mode = node->options.mode ? node->options.mode : 0444,
                                      .group = node->options.group,
                                      .force = offer->flags & TC_OFFER_FORCE,
                                      .array = &offer->array,
                                      .has_source = session->source >= 0,
                                      .source = session->source};
    session->sink = tc_sink_new(node->folder, offer->name, offer->session, offer->layout.size, &options, &job->err);
    if (!session->sink)
        return;
    unsigned found = tc_sink_found(session->sink);
    job->flags |= found & TC_SINK_OLD ? TC_PREPARED_EXISTS : 0;
    job->flags |= found & TC_SINK_COMPARE ? TC_PREPARED_COMPARE : 0;
    job->flags |= tc_sink_allocated(session->sink) ? 0 : TC_PREPARED_LATER;
    job->flags |= options.has_source ? TC_PREPARED_LOCAL : 0;
    if (offer->flags & TC_OFFER_DRY_RUN) {
        tc_sink_free(session->sink);
        session->sink = NULL;
    }
}

static void prepare_done(struct tc_task *task)
{
    struct tc_recv_session *session = ((struct tc_recv_job *)task)->session;
    session->has_file = session->sink != NULL;
    finish_job((struct tc_recv_job *)task, TC_EV_PREPARED);
}

static int prepare_file(struct tc_recv_session *session, struct tc_err *err)
{
    const struct tc_job *offer = session->offer = tc_agent_job(session->machine);
    uint32_t chunk_size = offer->layout.chunk_size, most = session->node->options.message_most - TC_CHUNK_HEAD;
    if (chunk_size > most)
        return tc_fail(err, TC_E_LIMIT, "chunks of %u bytes are more than --max-message allows (send -s %u)",
                       chunk_size, most & ~(TC_CHUNK_SIZE_MIN - 1));
    session->backlog = BACKLOG_BYTES / chunk_size > 2 ? BACKLOG_BYTES / chunk_size : 2;
    session->blobs = tc_blob_pool_new(TC_CHUNK_HEAD + (size_t)chunk_size, BLOBS_SPARE);
    if (!session->blobs)
        return tc_fail(err, TC_E_NOMEM, "no memory for a session");
    session->runner.options.blobs = session->blobs;
    /* A relay that no longer holds a compressed form reads plain bytes from its file and compresses them again only while
     * it pays, like a sender with auto. */
    struct tc_compress compress = {.mode = TC_COMPRESS_AUTO, .level = TC_COMPRESS_LEVEL};
    return tc_runner_file(&session->runner, &offer->layout, offer->session, CACHE_BYTES, compress, err);
}

/* An earlier session of the same name that has ended, or has lost its sender, and still holds what it left. */
static struct tc_recv_session *predecessor(const struct tc_recv_session *session)
{
    for (struct tc_recv_session *other = session->node->sessions; other; other = other->next)
        if (other != session && other->has_file && !other->published &&
            strcmp(other->offer->name, session->offer->name) == 0 && (other->over || tc_agent_orphaned(other->machine)))
            return other;
    return NULL;
}

/* Begin what waits, as soon as nothing is in its way. */
void tc_recv_begin_prepare(struct tc_recv_session *session)
{
    struct tc_err why = {0};
    struct tc_recv_session *other = predecessor(session);
    if (other && !other->over) {
        struct tc_event stop = {.kind = TC_EV_STOP, .err = &why};
        tc_fail(&why, TC_E_COORDINATOR_LOST, "coordinator lost, and %s is being sent anew", session->offer->name);
        tc_runner_event(&other->runner, &stop);
    }
    struct tc_recv_job *job = other ? NULL : session->preparing;
    if (!job)
        return;
    session->preparing = NULL;
    if (session->over) {
        free(job);
        return;
    }
    session->has_file = true;
    tc_runner_add(&session->runner, &job->task);
}

void tc_recv_prepare(struct tc_recv_session *session, const struct tc_action *action)
{
    struct tc_err err = {0};
    struct tc_recv_job *job = job_for(session, action, TC_EV_PREPARED, prepare_run, prepare_done);
    if (!job)
        return;
    if (prepare_file(session, &err) == 0) {
        session->source = tc_api_source(session->node->api, session->offer->session);
        if (session->source >= 0)
            session->source = fcntl(session->source, F_DUPFD_CLOEXEC, 0);
        session->source_hangs = session->source >= 0 && tc_file_may_hang(session->source);
        session->preparing = job;
        tc_recv_begin_prepare(session);
        return;
    }
    free(job);
    tc_runner_event(&session->runner, &(struct tc_event){.kind = TC_EV_PREPARED, .err = &err});
}

/* It is not the file that is here: reserve one. */

static void allocate_run(struct tc_task *task, struct tc_worker *worker)
{
    struct tc_recv_job *job = (struct tc_recv_job *)task;
    (void)worker;
    tc_sink_allocate(job->session->sink, &job->err);
}

static void allocate_done(struct tc_task *task)
{
    finish_job((struct tc_recv_job *)task, TC_EV_ALLOCATED);
}

void tc_recv_allocate(struct tc_recv_session *session, const struct tc_action *action)
{
    struct tc_recv_job *job = job_for(session, action, TC_EV_ALLOCATED, allocate_run, allocate_done);
    if (job)
        tc_runner_add(&session->runner, &job->task);
}

/* Compare: is the chunk here already?. */

static void compare_run(struct tc_task *task, struct tc_worker *worker)
{
    struct tc_recv_job *job = (struct tc_recv_job *)task;
    const struct tc_layout *layout = &job->session->runner.layout;
    uint32_t length = tc_chunk_length(layout, job->chunk);
    uint8_t *scratch = tc_worker_scratch(worker, length, &job->err);
    uint64_t offset = tc_chunk_offset(layout, job->chunk);
    bool found = false;
    if (scratch && job->placed)
        found = tc_sink_check(job->session->sink, offset, scratch, length, &job->digest);
    else if (scratch)
        tc_sink_compare(job->session->sink, offset, scratch, length, &job->digest, &found, &job->err);
    job->flags = found;
}

static void compare_done(struct tc_task *task)
{
    struct tc_recv_job *job = (struct tc_recv_job *)task;
    struct tc_recv_session *session = job->session;
    if (job->placed && !job->flags && !job->err.reason) {
        tc_log(TC_LOG_WARN, "%s: chunk %u is not what was written, and is fetched again: is the disk or memory bad?",
               session->offer->name, job->chunk);
        tc_cache_drop(session->runner.cache, job->chunk);
    }
    finish_job(job, TC_EV_COMPARED);
}

/* A source on a server that does not answer holds one worker, which is not one of those that all sessions share. Without
 * memory for it the source is not looked at. */
static void add_hanging(struct tc_recv_session *session, struct tc_recv_job *job)
{
    struct tc_recv_node *node = session->node;
    session->runner.tasks++;
    if (!node->hanging && !(node->hanging = tc_pool_new(node->loop, 1, NULL)))
        compare_done(&job->task);
    else
        tc_pool_add(node->hanging, &job->task);
}

void tc_recv_compare(struct tc_recv_session *session, const struct tc_action *action)
{
    struct tc_recv_job *job = job_for(session, action, TC_EV_COMPARED, compare_run, compare_done);
    if (!job)
        return;
    job->chunk = action->chunk;
    job->digest = action->digest;
    job->placed = action->flags & TC_COMPARE_PLACED;
    if (session->source_hangs && !job->placed)
        add_hanging(session, job);
    else
        tc_runner_add(&session->runner, &job->task);
}

/* Open: decode, compare with the digest, place. */

static int open_chunk(struct tc_recv_job *job, struct tc_worker *worker)
{
    struct tc_recv_session *session = job->session;
    const struct tc_layout *layout = &session->runner.layout;
    struct tc_message message;
    struct tc_digest digest;
    int status = tc_message_unpack(&message, TC_MSG_CHUNK, job->body->bytes, job->body->size, &job->err);
    if (status < 0)
        return status;
    const struct tc_msg_chunk *chunk = &message.chunk;
    const uint8_t *plain = chunk->payload;
    if (chunk->form == TC_FORM_ZSTD) {
        uint8_t *scratch = tc_worker_scratch(worker, chunk->length, &job->err);
        if (!scratch)
            return -TC_E_NOMEM;
        status = tc_codec_decode(worker->codec, chunk->payload, chunk->payload_size, scratch, chunk->length, &job->err);
        plain = scratch;
    }
    if (status == 0)
        status = tc_digest_chunk(plain, chunk->length, NULL, &digest, &job->err);
    if (status == 0 && !tc_digest_equal(&digest, &job->digest))
        status = tc_fail(&job->err, TC_E_INTEGRITY, "chunk %u: digest differs", chunk->index);
    if (!session->in_memory) {
        job->opened = tc_bottleneck_clock();
        job->cpu = tc_bottleneck_cpu() - job->cpu;
    }
    if (status == 0)
        status = tc_sink_place(session->sink, tc_chunk_offset(layout, chunk->index), plain, chunk->length, &job->err);
    return status;
}

static void open_run(struct tc_task *task, struct tc_worker *worker)
{
    struct tc_recv_job *job = (struct tc_recv_job *)task;
    uint64_t began = tc_bottleneck_clock();
    job->opened = 0;
    job->cpu = tc_bottleneck_cpu();
    open_chunk(job, worker);
    uint64_t ended = tc_bottleneck_clock();
    if (job->opened == 0) { /* in memory, placing is work like any other */
        job->opened = ended;
        job->cpu = tc_bottleneck_cpu() - job->cpu;
    }
    tc_bottleneck_add(&job->session->bottleneck, ended - job->opened, job->opened - began, job->cpu);
}

static void pause_links(struct tc_recv_session *session, bool paused)
{
    session->paused = paused;
    for (struct tc_connection *connection = session->runner.connections; connection; connection = connection->next)
        if (connection->number != 0) /* the control link is never held up */
            tc_link_pause(connection->link, paused);
}

static void open_done(struct tc_task *task)
{
    struct tc_recv_job *job = (struct tc_recv_job *)task;
    struct tc_recv_session *session = job->session;
    session->opening--;
    if (job->err.reason == TC_E_INTEGRITY)
        tc_log(TC_LOG_WARN, "%s: %s", session->offer->name, job->err.text);
    else if (job->err.reason == 0 && job->keep && !session->over)
        tc_cache_put(session->runner.cache, job->chunk, job->body);
    if (session->paused && session->opening <= session->backlog / 2)
        pause_links(session, false);
    finish_job(job, TC_EV_OPENED);
}

/* On a line that brings a chunk now and then, waking a worker and being woken by it costs as much as opening the chunk,
 * and the loop has nothing else to do. A file on disk may block: never there. */
static bool open_here(struct tc_recv_session *session)
{
    uint64_t now = tc_loop_now(session->node->loop);
    uint64_t *oldest = &session->arrived_at[session->arrivals++ % TC_RECV_PACE];
    uint64_t took = now - *oldest, bytes = (uint64_t)TC_RECV_PACE * session->runner.layout.chunk_size;
    *oldest = now;
    return session->opening == 0 && session->arrivals > TC_RECV_PACE && session->in_memory &&
           took * PACE_SLOW > bytes * 1000;
}

void tc_recv_open(struct tc_recv_session *session, const struct tc_action *action)
{
    struct tc_recv_job *job = job_for(session, action, TC_EV_OPENED, open_run, open_done);
    if (!job)
        return;
    job->link = action->link;
    job->chunk = action->chunk;
    job->keep = action->keep;
    job->digest = action->digest;
    job->body = tc_blob_ref(action->body);
    if (open_here(session)) {
        open_run(&job->task, &session->node->here);
        session->opening++;
        session->runner.tasks++;
        open_done(&job->task);
        return;
    }
    if (++session->opening >= session->backlog && !session->paused)
        pause_links(session, true);
    tc_runner_add(&session->runner, &job->task);
}

/* Publish. */

static void publish_run(struct tc_task *task, struct tc_worker *worker)
{
    struct tc_recv_job *job = (struct tc_recv_job *)task;
    struct tc_recv_session *session = job->session;
    const struct tc_job *offer = session->offer;
    uint64_t ttl = offer->ttl ? offer->ttl : session->node->options.ttl;
    struct tc_description description = {.size = offer->layout.size,
                                         .digest = job->digest,
                                         .created = (uint64_t)time(NULL),
                                         .lease = session->node->owned,
                                         .array = offer->array};
    (void)worker;
    if (ttl)
        tc_lease_begin(&description.lease, (double)ttl);
    memcpy(description.name, offer->name, sizeof description.name);
    memcpy(description.session, offer->session, sizeof description.session);
    /* The file that stays as it is stays as long as the new one would have. */
    if (tc_sink_publish(session->sink, &description, &job->err) == 0 && !tc_sink_allocated(session->sink))
        tc_lease_set(session->node->folder, offer->name, &description.lease, NULL);
    job->lease = description.lease;
}

static void publish_done(struct tc_task *task)
{
    struct tc_recv_job *job = (struct tc_recv_job *)task;
    struct tc_recv_session *session = job->session;
    session->published = job->err.reason == 0;
    if (session->published && session->node->api) {
        tc_api_published(session->node->api, session->offer->name);
        tc_leases_note(session->node->leases, session->offer->name, &job->lease);
    }
    finish_job(job, TC_EV_PUBLISHED);
}

void tc_recv_publish(struct tc_recv_session *session, const struct tc_action *action)
{
    struct tc_recv_job *job = job_for(session, action, TC_EV_PUBLISHED, publish_run, publish_done);
    if (!job)
        return;
    job->digest = action->digest;
    tc_runner_add(&session->runner, &job->task);
}

/* Close. */

/* What was received stays for the next try, but not where a full or broken disk was the trouble, and not after an end
 * that somebody wished: then nobody may come to use it or to clear it away. */
static bool worth_keeping(const struct tc_recv_session *session)
{
    switch (session->why.reason) {
    case TC_E_NOSPACE:
    case TC_E_IO:
    case TC_E_INTERRUPTED:
    case TC_E_ABORTED:
        return false;
    default:
        return !session->node->stopping;
    }
}

static void judge_file(struct tc_recv_session *session)
{
    if (session->sink && !worth_keeping(session))
        tc_sink_drop(session->sink);
}

static void close_file(struct tc_recv_session *session)
{
    tc_sink_free(session->sink);
    session->sink = NULL;
}

void tc_recv_close_file(struct tc_recv_session *session)
{
    judge_file(session);
    close_file(session);
}

static void close_run(struct tc_task *task, struct tc_worker *worker)
{
    (void)worker;
    close_file(((struct tc_recv_job *)task)->session);
}

static void close_done(struct tc_task *task)
{
    struct tc_recv_session *session = ((struct tc_recv_job *)task)->session;
    session->runner.tasks--;
    free(task);
    tc_recv_free_session(session);
}

void tc_recv_retire(struct tc_recv_session *session)
{
    struct tc_recv_job *job = session->sink ? new_job(session, close_run, close_done) : NULL;
    session->exit = TC_RECV_GOES;
    if (job) {
        judge_file(session);
        tc_runner_add(&session->runner, &job->task);
        return;
    }
    tc_recv_close_file(session);
    tc_recv_free_session(session);
}
