#include "node/recv_node.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/log.h"
#include "base/process.h"
#include "door/server.h"
#include "file/lease.h"
#include "file/partial.h"
#include "file/sink.h"
#include "node/leases.h"
#include "node/privilege.h"
#include "node/runner.h"
#include "node/strain.h"
#include "node/strangers.h"
#include "session/agent.h"

enum {
    HOUR_S = 60 * 60,
    RETRY_MS = 100,
    FIRST_WORD_S = 3,        /* from TCP to a HELLO that belongs to a session */
    CACHE_BYTES = 16 << 20,  /* chunks kept for children */
    BACKLOG_BYTES = 8 << 20, /* arrived and not yet in place: then links stop reading */
    BLOBS_SPARE = 24,
    JOIN_MS = 15000, /* to reach the coordinator: it listens before it launches */
    SESSIONS_MOST = 64,
    PENDING_MOST = 256, /* connections that have not said that word yet; a quarter of it from one address */
    MESSAGE_MOST = TC_CHUNK_HEAD + TC_CHUNK_SIZE_MAX,
    PACE_CHUNKS = 16,
    PACE_SLOW = 32 << 20 /* bytes a second: below this a worker would cost more than the work */
};

struct node;

struct session {
    struct node *node;
    struct session *next;
    struct tc_agent *machine;
    const struct tc_job *offer; /* the machine's, from PREPARE on; does not change, so workers may read it */
    struct tc_runner runner;
    struct tc_blob_pool *blobs; /* CHUNK frames of this session's chunk size */
    struct tc_sink *sink;
    int source;                       /* the sender's file, where it is on this host; -1 */
    unsigned opening;                 /* chunks between link and place */
    unsigned backlog;                 /* most of them before links pause */
    uint64_t arrived_at[PACE_CHUNKS]; /* ms; of the last chunks, a ring */
    unsigned arrivals;
    bool paused;
    struct tc_strain strain;
    bool in_memory;        /* the file is on tmpfs: placing never blocks */
    bool over;             /* the machine has ended */
    bool joined;           /* this side dialled the coordinator */
    bool has_file;         /* or may have, while it is being prepared */
    bool published;        /* its file has its name: what is left of the session is nobody's concern */
    struct job *preparing; /* waits until an earlier session has let go of its file */
    enum { STAYS, MAY_GO, GOES } exit;
    struct tc_err why;
    char peer[TC_ADDRESS_MAX];
    char address[TC_ADDRESS_MAX];
};

struct node {
    struct tc_recv_options options;
    struct tc_loop *loop;
    struct tc_pool *pool;
    struct tc_worker here; /* the loop thread's own, for chunks that are opened on the spot */
    struct tc_folder *folder;
    struct tc_strangers *strangers; /* NULL: not listening yet, or closing */
    struct tc_wire *joining;        /* to the coordinator, before it is up */
    struct tc_door *door;
    struct tc_leases *leases;
    struct tc_lease owned; /* of every array that is published: owner and its start */
    int owner_fd;          /* tells the owner's end; -1: there is none, or the kernel does not tell */
    struct tc_watch *owner_watch;
    struct tc_signal *term, *interrupt, *usr1;
    struct tc_timer *hourly;
    struct tc_verifier *origin;
    struct session *sessions;
    uint8_t instance[16];
    uint8_t control_key[TC_KEY_SIZE];
    uint8_t join_key[TC_KEY_SIZE];
    struct tc_bucket bucket; /* what leaves this host, of all sessions */
    bool stopping;
    bool joined;               /* the coordinator has been reached */
    char way[TC_ADDRESS_HOST]; /* own address on the way to it */
    bool settled;              /* with --once: a session that came to an offer has ended, and result is its */
    struct tc_err result;      /* of the first session with --once */
};

/* Tasks of a session in the pool. */

struct job {
    struct tc_task task;
    struct session *session;
    struct tc_err err;
    uint32_t flags;
    /* open */
    uint32_t link, chunk;
    bool keep;
    struct tc_digest digest;
    struct tc_blob *body;
    uint64_t opened, cpu; /* ns: when it was opened, and what that took of a CPU */
};

static void arrived(struct session *session);

static struct job *new_job(struct session *session, void (*run)(struct tc_task *, struct tc_worker *),
                           void (*done)(struct tc_task *))
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->task.run = run;
    job->task.done = done;
    job->session = session;
    return job;
}

static void finish_job(struct job *job, enum tc_event_kind kind)
{
    struct session *session = job->session;
    struct tc_event event = {
        .kind = kind, .link = job->link, .chunk = job->chunk, .flags = job->flags, .err = &job->err};
    session->runner.tasks--;
    if (!session->over)
        tc_runner_event(&session->runner, &event);
    tc_blob_unref(job->body);
    free(job);
    arrived(session);
}

static void no_memory(struct session *session, enum tc_event_kind kind, const struct tc_action *action)
{
    struct tc_err err = {0};
    tc_fail(&err, TC_E_NOMEM, "no memory for a task");
    struct tc_event event = {.kind = kind, .link = action->link, .chunk = action->chunk, .err = &err};
    tc_runner_event(&session->runner, &event);
}

/* Prepare: is there room, may it be called so; then the file is reserved. */

static void prepare_run(struct tc_task *task, struct tc_worker *worker)
{
    struct job *job = (struct job *)task;
    struct session *session = job->session;
    struct node *node = session->node;
    const struct tc_job *offer = session->offer;
    (void)worker;
    struct tc_sink_options options = {.mode = node->options.mode ? node->options.mode : 0444,
                                      .group = node->options.group,
                                      .force = offer->flags & TC_OFFER_FORCE,
                                      .array = &offer->array,
                                      .has_source = session->source >= 0,
                                      .source = session->source};
    tc_partial_expire(node->folder, TC_PARTIAL_SECONDS);
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
    struct session *session = ((struct job *)task)->session;
    session->has_file = session->sink != NULL;
    finish_job((struct job *)task, TC_EV_PREPARED);
}

static int prepare_file(struct session *session, struct tc_err *err)
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
static struct session *predecessor(const struct session *session)
{
    for (struct session *other = session->node->sessions; other; other = other->next)
        if (other != session && other->has_file && !other->published &&
            strcmp(other->offer->name, session->offer->name) == 0 && (other->over || tc_agent_orphaned(other->machine)))
            return other;
    return NULL;
}

/* Begin what waits, as soon as nothing is in its way. */
static void begin_prepare(struct session *session)
{
    struct tc_err why = {0};
    struct session *other = predecessor(session);
    if (other && !other->over) {
        struct tc_event stop = {.kind = TC_EV_STOP, .err = &why};
        tc_fail(&why, TC_E_COORDINATOR_LOST, "coordinator lost, and %s is being sent anew", session->offer->name);
        tc_runner_event(&other->runner, &stop);
    }
    struct job *job = other ? NULL : session->preparing;
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

static void prepare(struct session *session, const struct tc_action *action)
{
    struct tc_err err = {0};
    struct job *job = new_job(session, prepare_run, prepare_done);
    if (!job) {
        no_memory(session, TC_EV_PREPARED, action);
        return;
    }
    if (prepare_file(session, &err) == 0) {
        session->source = tc_door_source(session->node->door, session->offer->session);
        if (session->source >= 0)
            session->source = fcntl(session->source, F_DUPFD_CLOEXEC, 0);
        session->preparing = job;
        begin_prepare(session);
        return;
    }
    free(job);
    tc_runner_event(&session->runner, &(struct tc_event){.kind = TC_EV_PREPARED, .err = &err});
}

/* It is not the file that is here: reserve one. */

static void allocate_run(struct tc_task *task, struct tc_worker *worker)
{
    struct job *job = (struct job *)task;
    (void)worker;
    tc_sink_allocate(job->session->sink, &job->err);
}

static void allocate_done(struct tc_task *task)
{
    finish_job((struct job *)task, TC_EV_ALLOCATED);
}

static void allocate(struct session *session, const struct tc_action *action)
{
    struct job *job = new_job(session, allocate_run, allocate_done);
    if (job)
        tc_runner_add(&session->runner, &job->task);
    else
        no_memory(session, TC_EV_ALLOCATED, action);
}

/* Compare: is the chunk here already? */

static void compare_run(struct tc_task *task, struct tc_worker *worker)
{
    struct job *job = (struct job *)task;
    const struct tc_layout *layout = &job->session->runner.layout;
    uint32_t length = tc_chunk_length(layout, job->chunk);
    uint8_t *scratch = tc_worker_scratch(worker, length, &job->err);
    bool found = false;
    if (scratch)
        tc_sink_compare(job->session->sink, tc_chunk_offset(layout, job->chunk), scratch, length, &job->digest, &found,
                        &job->err);
    job->flags = found;
}

static void compare_done(struct tc_task *task)
{
    finish_job((struct job *)task, TC_EV_COMPARED);
}

static void compare(struct session *session, const struct tc_action *action)
{
    struct job *job = new_job(session, compare_run, compare_done);
    if (!job) {
        no_memory(session, TC_EV_COMPARED, action);
        return;
    }
    job->chunk = action->chunk;
    job->digest = action->digest;
    tc_runner_add(&session->runner, &job->task);
}

/* Open: decode, compare with the digest, place. */

static int open_chunk(struct job *job, struct tc_worker *worker)
{
    struct session *session = job->session;
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
    job->opened = tc_strain_clock();
    job->cpu = tc_strain_cpu() - job->cpu;
    if (status == 0)
        status = tc_sink_place(session->sink, tc_chunk_offset(layout, chunk->index), plain, chunk->length, &job->err);
    return status;
}

static void open_run(struct tc_task *task, struct tc_worker *worker)
{
    struct job *job = (struct job *)task;
    uint64_t began = tc_strain_clock();
    job->opened = began;
    job->cpu = tc_strain_cpu();
    open_chunk(job, worker);
    if (job->opened != began)
        tc_strain_add(&job->session->strain, tc_strain_clock() - job->opened, job->opened - began, job->cpu);
}

static void pause_links(struct session *session, bool paused)
{
    session->paused = paused;
    for (struct tc_wire *wire = session->runner.wires; wire; wire = wire->next)
        if (wire->number != 0) /* the control link is never held up */
            tc_link_pause(wire->link, paused);
}

static void tell_strain(struct session *session)
{
    if (session->over || !tc_strain_look(&session->strain, tc_loop_now(session->node->loop)))
        return;
    struct tc_event event = {.kind = TC_EV_STRAIN, .flags = (uint32_t)session->strain.cause};
    tc_runner_event(&session->runner, &event);
}

static void open_done(struct tc_task *task)
{
    struct job *job = (struct job *)task;
    struct session *session = job->session;
    session->opening--;
    tell_strain(session);
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
static bool open_here(struct session *session)
{
    uint64_t now = tc_loop_now(session->node->loop);
    uint64_t *oldest = &session->arrived_at[session->arrivals++ % PACE_CHUNKS];
    uint64_t took = now - *oldest, bytes = (uint64_t)PACE_CHUNKS * session->runner.layout.chunk_size;
    *oldest = now;
    return session->opening == 0 && session->arrivals > PACE_CHUNKS && session->in_memory &&
           took * PACE_SLOW > bytes * 1000;
}

static void open_action(struct session *session, const struct tc_action *action)
{
    struct job *job = new_job(session, open_run, open_done);
    if (!job) {
        no_memory(session, TC_EV_OPENED, action);
        return;
    }
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
    struct job *job = (struct job *)task;
    struct session *session = job->session;
    const struct tc_job *offer = session->offer;
    uint64_t now = (uint64_t)time(NULL), ttl = offer->ttl ? offer->ttl : session->node->options.ttl;
    struct tc_description description = {.size = offer->layout.size,
                                         .digest = job->digest,
                                         .created = now,
                                         .lease = session->node->owned,
                                         .array = offer->array};
    (void)worker;
    if (ttl)
        description.lease.expires = now + ttl + 1; /* now may be most of a second ago */
    memcpy(description.name, offer->name, sizeof description.name);
    memcpy(description.session, offer->session, sizeof description.session);
    /* The file that stays as it is stays as long as the new one would have. */
    if (tc_sink_publish(session->sink, &description, &job->err) == 0 && !tc_sink_allocated(session->sink))
        tc_lease_set(session->node->folder, offer->name, &description.lease, NULL);
}

static void publish_done(struct tc_task *task)
{
    struct job *job = (struct job *)task;
    struct session *session = job->session;
    session->published = job->err.reason == 0;
    if (session->published && session->node->door) {
        tc_door_published(session->node->door, session->offer->name);
        tc_leases_look(session->node->leases);
    }
    finish_job(job, TC_EV_PUBLISHED);
}

static void publish(struct session *session, const struct tc_action *action)
{
    struct job *job = new_job(session, publish_run, publish_done);
    if (!job) {
        no_memory(session, TC_EV_PUBLISHED, action);
        return;
    }
    job->digest = action->digest;
    tc_runner_add(&session->runner, &job->task);
}

/* The end of a session: links have said their last words, tasks are back, the file is closed by the pool. */

/* What was received stays for the next try, but not where a full or broken disk was the trouble, and not after an end
 * that somebody wished: then nobody may come to use it or to clear it away. */
static bool worth_keeping(const struct session *session)
{
    switch (session->why.reason) {
    case TC_E_NOROOM:
    case TC_E_IO:
    case TC_E_INTERRUPTED:
    case TC_E_ABORTED:
        return false;
    default:
        return !session->node->stopping;
    }
}

static void judge_file(struct session *session)
{
    if (session->sink && !worth_keeping(session))
        tc_sink_drop(session->sink);
}

static void close_file(struct session *session)
{
    tc_sink_free(session->sink);
    session->sink = NULL;
}

static void close_run(struct tc_task *task, struct tc_worker *worker)
{
    (void)worker;
    close_file(((struct job *)task)->session);
}

/* With --once a link that never came to an offer (the same agent listed twice, say) does not end the one that did. */
static bool work_left(const struct node *node)
{
    for (const struct session *session = node->sessions; session; session = session->next)
        if (session->offer || session->joined || !node->settled)
            return true;
    return false;
}

static void free_session(struct session *session)
{
    struct node *node = session->node;
    for (struct session **at = &node->sessions; *at; at = &(*at)->next)
        if (*at == session) {
            *at = session->next;
            break;
        }
    tc_runner_end(&session->runner);
    tc_agent_free(session->machine);
    tc_blob_pool_free(session->blobs);
    free(session->preparing);
    if (session->source >= 0)
        close(session->source);
    free(session);
    for (struct session *other = node->sessions, *next; other && node->strangers; other = next) {
        next = other->next;
        if (other->preparing)
            begin_prepare(other);
    }
    if ((node->options.once || node->stopping) && !work_left(node))
        tc_loop_stop(node->loop);
}

static void close_done(struct tc_task *task)
{
    struct session *session = ((struct job *)task)->session;
    session->runner.tasks--;
    free(task);
    free_session(session);
}

static void retire(struct session *session)
{
    struct job *job = session->sink ? new_job(session, close_run, close_done) : NULL;
    session->exit = GOES;
    judge_file(session);
    if (job) {
        tc_runner_add(&session->runner, &job->task);
        return;
    }
    close_file(session);
    free_session(session);
}

/* Called with the node, not with a session: when the node closes first, there is none left to find. */
static void retire_some(void *arg)
{
    struct node *node = arg;
    for (struct session *session = node->sessions, *next; session; session = next) {
        next = session->next;
        if (session->exit == MAY_GO)
            retire(session);
    }
}

/* Something of the session came to its end: when that was the last of it, it goes. */
static void arrived(struct session *session)
{
    struct node *node = session->node;
    if (!session->over || session->exit != STAYS || !node->strangers || session->runner.tasks > 0 ||
        session->runner.wire_count > 0)
        return;
    if (tc_loop_later(node->loop, retire_some, node, NULL) == 0)
        session->exit = MAY_GO;
    else
        tc_timer_set(node->hourly, RETRY_MS); /* no memory: another look then */
}

/* Whether another session may still bring what this one did not. */
static bool sent_anew(const struct session *session, const char *name)
{
    for (const struct session *other = session->node->sessions; other; other = other->next)
        if (other != session && !other->over && other->offer && strcmp(other->offer->name, name) == 0)
            return true;
    return false;
}

static void on_end(struct session *session, const struct tc_action *action)
{
    struct node *node = session->node;
    const struct tc_job *job = tc_agent_job(session->machine);
    const char *name = job && job->name[0] ? job->name : NULL; /* none: no offer, or none that may be looked at */
    char text[4 * TC_ERR_TEXT];
    session->over = true;
    session->why = action->err;
    if (action->err.reason) {
        tc_log(TC_LOG_WARN, "%s from %s: %s", name ? name : "a session", session->peer,
               tc_escape(text, sizeof text, action->err.text));
        if (name && node->door && !sent_anew(session, name) &&
            !(job->flags & TC_OFFER_DRY_RUN)) /* what nobody was to send has not failed */
            tc_door_failed(node->door, name, &action->err);
    } else if (action->err.text[0]) {
        tc_log(TC_LOG_WARN, "%s from %s: published, but left early: %s", name ? name : "a session", session->peer,
               tc_escape(text, sizeof text, action->err.text));
    } else {
        tc_log(TC_LOG_INFO, "%s from %s: done", name ? name : "a session", session->peer);
    }
    if (!node->settled)
        node->result = action->err;
    node->settled |= session->offer != NULL || session->joined;
    arrived(session);
}

/* What the machine wants done here. */

static void act(void *arg, struct tc_action *action)
{
    struct session *session = arg;
    switch (action->kind) {
    case TC_ACT_EXPECT:
        if (session->node->strangers)
            tc_strangers_retry(session->node->strangers);
        break;
    case TC_ACT_PREPARE:
        prepare(session, action);
        break;
    case TC_ACT_ALLOCATE:
        allocate(session, action);
        break;
    case TC_ACT_COMPARE:
        compare(session, action);
        break;
    case TC_ACT_OPEN:
        open_action(session, action);
        break;
    case TC_ACT_PUBLISH:
        publish(session, action);
        break;
    case TC_ACT_END:
        on_end(session, action);
        break;
    default:
        break;
    }
}

static int read_file(void *arg, uint64_t offset, void *bytes, size_t size, struct tc_err *err)
{
    struct session *session = arg;
    uint64_t began = tc_strain_clock();
    int status = tc_sink_read(session->sink, offset, bytes, size, err);
    tc_strain_add(&session->strain, tc_strain_clock() - began, 0, 0);
    return status;
}

static void machine_event(void *machine, const struct tc_event *event, uint64_t now)
{
    tc_agent_event(machine, event, now);
}

static bool machine_take(void *machine, struct tc_action *action)
{
    return tc_agent_take(machine, action);
}

static uint64_t machine_wake(const void *machine)
{
    return tc_agent_wake(machine);
}

/* A wire of the session is gone: its memory may be too. */
static void wire_gone(void *arg)
{
    arrived(arg);
}

static void trace(void *arg, const char *line)
{
    (void)arg;
    tc_log(TC_LOG_DEBUG, "%s", line);
}

/* Links that came in, and the sessions they are of. */

static struct session *session_by_id(struct node *node, const uint8_t *id)
{
    for (struct session *session = node->sessions; session; session = session->next) {
        const struct tc_job *job = session->over ? NULL : tc_agent_job(session->machine);
        if (job && memcmp(job->session, id, TC_SESSION_ID_SIZE) == 0)
            return session;
    }
    return NULL;
}

/* The address others reach this agent at, as its HELLO says: --advertise with the port, or nothing. An agent that dialled
 * says what it listens at, for nobody else knows. */
static void own_address(const struct node *node, bool joined, char *out, size_t size)
{
    const char *advertise = node->options.advertise;
    const char *listening = tc_strangers_address(node->strangers);
    const char *port = strrchr(listening, ':');
    snprintf(out, size, "%s", joined ? listening : "");
    if (!advertise)
        return;
    bool has_port = advertise[0] == '[' ? strstr(advertise, "]:") != NULL : strchr(advertise, ':') != NULL;
    snprintf(out, size, "%s%s", advertise, has_port ? "" : port);
}

/* A session whose control link is wire: a stranger no more, or the one that this side dialled. */
static int new_session(struct node *node, struct tc_wire *wire, bool joined, struct tc_err *err)
{
    unsigned count = 0;
    for (const struct session *other = node->sessions; other; other = other->next)
        count++;
    if (count >= node->options.sessions_most)
        return tc_fail(err, TC_E_LIMIT, "%u sessions are under way already (--max-sessions)", count);
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return tc_fail(err, TC_E_NOMEM, "no memory for a session");
    struct tc_agent_config config = {.origin = node->origin, .max_size = node->options.max_size, .trace = trace};
    memcpy(config.instance, node->instance, sizeof config.instance);
    own_address(node, joined, session->address, sizeof session->address);
    config.address = session->address;
    config.host = joined ? node->options.host : NULL;
    session->joined = joined;
    session->node = node;
    session->source = -1;
    session->in_memory = tc_folder_on_tmpfs(node->folder);
    snprintf(session->peer, sizeof session->peer, "%s", tc_link_peer(wire->link));
    int status = tc_random(config.nonce, sizeof config.nonce, err);
    if (status == 0)
        session->machine = tc_agent_new(&config, 0, tc_loop_now(node->loop), err);
    struct tc_runner_options options = {.loop = node->loop,
                                        .pool = node->pool,
                                        .tls = node->options.key != NULL,
                                        .machine = session->machine,
                                        .event = machine_event,
                                        .take = machine_take,
                                        .wake = machine_wake,
                                        .act = act,
                                        .read = read_file,
                                        .gone = wire_gone,
                                        .bucket = node->options.rate ? &node->bucket : NULL,
                                        .node = session};
    if (!session->machine || tc_runner_init(&session->runner, &options, err) < 0) {
        tc_agent_free(session->machine);
        free(session);
        return -TC_E_NOMEM;
    }
    session->next = node->sessions;
    node->sessions = session;
    wire->number = 0; /* the control link; machine_take's own links begin at 1 */
    if (!joined)
        tc_strangers_part(wire);
    tc_runner_adopt(&session->runner, wire);
    tc_runner_drain(&session->runner);
    return 0;
}

/* What the link proved to know must be what it asks for. */
static bool identity_fits(const struct tc_wire *wire, const uint8_t *identity, size_t size)
{
    size_t shown_size = 0;
    const uint8_t *shown = tc_link_identity(wire->link, &shown_size);
    return shown && shown_size == size && memcmp(shown, identity, size) == 0;
}

/* To a coordinator for which there is no session that could say it. */
static void refuse(struct tc_wire *wire, const struct tc_err *why)
{
    struct tc_message message = {.type = TC_MSG_REFUSE, .why.reason = (uint16_t)why->reason};
    snprintf(message.why.text, sizeof message.why.text, "%s", why->text);
    struct tc_blob *body = tc_message_pack(&message, NULL, NULL);
    if (body)
        (void)tc_link_send(wire->link, TC_MSG_REFUSE, NULL, 0, body, NULL);
    tc_blob_unref(body);
}

static int greet_stranger(void *arg, struct tc_wire *wire, const struct tc_link_event *event, struct tc_err *err)
{
    struct node *node = arg;
    struct tc_message message;
    uint8_t identity[TC_DATA_IDENTITY_SIZE];
    bool tls = node->options.key != NULL;
    int status = tc_message_unpack(&message, event->type, event->body->bytes, event->body->size, err);
    if (status < 0)
        return status;
    if (message.type != TC_MSG_HELLO)
        return tc_fail(err, TC_E_PROTOCOL, "%s before HELLO", tc_message_name(message.type));
    struct session *session = NULL;
    if (message.hello.role == TC_ROLE_COORDINATOR) {
        if (tls && !identity_fits(wire, (const uint8_t *)TC_CONTROL_IDENTITY, sizeof TC_CONTROL_IDENTITY - 1))
            return tc_fail(err, TC_E_AUTH, "a data link speaks as a control link");
        status = new_session(node, wire, false, err);
        if (status == -TC_E_LIMIT)
            refuse(wire, err);
    } else {
        tc_data_identity(identity, message.hello.session, message.hello.link);
        if (tls && !identity_fits(wire, identity, sizeof identity))
            return tc_fail(err, TC_E_AUTH, "a link names another link than its key");
        session = session_by_id(node, message.hello.session);
        if (!session)
            return tc_fail(err, TC_E_NOTFOUND, "a data link of no session here");
        tc_strangers_part(wire);
        tc_runner_adopt(&session->runner, wire);
    }
    if (status < 0)
        return status;
    struct tc_event out = {.kind = TC_EV_UP, .link = wire->number};
    tc_runner_event(wire->runner, &out);
    out = (struct tc_event){.kind = TC_EV_FRAME, .link = wire->number, .type = event->type, .body = event->body};
    if (wire->runner && !wire->closing)
        tc_runner_event(wire->runner, &out);
    return 0;
}

static enum tc_identity look_up(void *arg, const uint8_t *identity, size_t size, uint8_t key[TC_KEY_SIZE])
{
    struct node *node = arg;
    if (size == sizeof TC_CONTROL_IDENTITY - 1 && memcmp(identity, TC_CONTROL_IDENTITY, size) == 0) {
        memcpy(key, node->control_key, TC_KEY_SIZE);
        return TC_IDENTITY_KNOWN;
    }
    if (size != TC_DATA_IDENTITY_SIZE || identity[0] != 'd')
        return TC_IDENTITY_UNKNOWN;
    struct session *session = session_by_id(node, identity + 1);
    if (!session)
        return TC_IDENTITY_UNKNOWN;
    int known = tc_agent_link_key(session->machine, identity + 1 + TC_SESSION_ID_SIZE, key);
    return known > 0 ? TC_IDENTITY_KNOWN : known < 0 ? TC_IDENTITY_WAIT : TC_IDENTITY_UNKNOWN;
}

/* The door. */

static bool is_published(void *arg, const char *name)
{
    struct node *node = arg;
    int fd = tc_folder_open_array(node->folder, name, NULL, NULL);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static int open_published(void *arg, const char *name, char **description, struct tc_err *err)
{
    struct node *node = arg;
    struct tc_description own = {0};
    int fd = tc_folder_open_array(node->folder, name, &own, err);
    if (fd < 0)
        return fd;
    *description = tc_description_print(&own, err);
    tc_array_free(&own.array);
    if (*description)
        return fd;
    close(fd);
    return -TC_E_NOMEM;
}

static int give_lease(void *arg, const char *name, const struct tc_lease *lease, struct tc_err *err)
{
    struct node *node = arg;
    int status = tc_lease_set(node->folder, name, lease, err);
    if (status == 0)
        tc_leases_look(node->leases);
    return status;
}

static const char *listening(void *arg)
{
    const struct node *node = arg;
    return node->strangers ? tc_strangers_address(node->strangers) : "";
}

static json_t *children_status(const struct tc_agent *machine, unsigned t)
{
    json_t *children = json_array();
    bool last = false;
    uint32_t rank;
    for (unsigned i = 0; (rank = tc_agent_child(machine, t, i, &last)) != TC_NO_RANK; i++)
        json_array_append_new(children, json_pack("{s:I, s:b}", "rank", (json_int_t)rank, "last", (int)last));
    return children;
}

/* The host's places in the trees, and why the plan has changed for it, the latest first. */
static json_t *plan_status(const struct tc_agent *machine)
{
    json_t *trees = json_array(), *replans = json_array();
    const char *why;
    for (unsigned t = 0; t < tc_agent_trees(machine); t++) {
        struct tc_agent_place place = tc_agent_place(machine, t);
        json_t *parent = json_null();
        if (place.parent != TC_NO_RANK)
            parent = json_pack("{s:I, s:s, s:b}", "rank", (json_int_t)place.parent, "address", place.address, "up",
                               (int)place.up);
        json_array_append_new(trees, json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "parent", parent, "children",
                                               children_status(machine, t), "held", (json_int_t)place.held, "received",
                                               (json_int_t)place.received, "sent", (json_int_t)place.given, "waiting",
                                               (json_int_t)place.waiting));
    }
    for (unsigned i = 0; i < TC_AGENT_WHYS; i++) {
        uint32_t epoch = tc_agent_why(machine, i, &why);
        if (epoch > 0)
            json_array_append_new(replans, json_pack("{s:I, s:s}", "epoch", (json_int_t)epoch, "why", why));
    }
    return json_pack("{s:I, s:I, s:o, s:o}", "epoch", (json_int_t)tc_agent_epoch(machine), "rank",
                     (json_int_t)tc_agent_rank(machine), "trees", trees, "replans", replans);
}

static json_t *session_status(const struct session *session)
{
    const struct tc_job *job = tc_agent_job(session->machine);
    if (!job || session->over)
        return NULL;
    uint64_t received = 0, sent = 0;
    json_t *links = json_array();
    for (const struct tc_wire *wire = session->runner.wires; wire; wire = wire->next) {
        tc_link_counts(wire->link, &received, &sent);
        json_array_append_new(links, json_pack("{s:s, s:I, s:I, s:I}", "peer", tc_link_peer(wire->link), "received",
                                               (json_int_t)received, "sent", (json_int_t)sent, "queued",
                                               (json_int_t)tc_link_queued(wire->link)));
    }
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:o, s:o}", "name", job->name, "state",
                     tc_agent_state_name(tc_agent_state(session->machine)), "size", (json_int_t)job->layout.size,
                     "bytes", (json_int_t)tc_agent_bytes(session->machine), "adopted",
                     (json_int_t)tc_agent_adopted(session->machine), "from", session->peer, "links", links, "plan",
                     plan_status(session->machine));
}

static int add_published(const struct tc_description *description, void *arg)
{
    const struct tc_lease *lease = &description->lease;
    json_t *row = json_pack("{s:s, s:s, s:I}", "name", description->name, "state", "published", "size",
                            (json_int_t)description->size);
    if (lease->expires)
        json_object_set_new(row, "expires", json_integer((json_int_t)lease->expires));
    if (lease->pid)
        json_object_set_new(row, "owner_pid", json_integer(lease->pid));
    json_array_append_new(arg, row);
    return 0;
}

static char *status_text(void *arg, const char *name)
{
    struct node *node = arg;
    json_t *sessions = json_array(), *published = json_array();
    for (const struct session *session = node->sessions; session; session = session->next) {
        const struct tc_job *job = tc_agent_job(session->machine);
        if (job && (!name || strcmp(name, job->name) == 0))
            json_array_append_new(sessions, session_status(session));
    }
    tc_folder_each(node->folder, add_published, published, NULL);
    for (size_t i = json_array_size(published); name && i-- > 0;) {
        const char *other = json_string_value(json_object_get(json_array_get(published, i), "name"));
        if (!other || strcmp(other, name) != 0)
            json_array_remove(published, i);
    }
    json_t *answer = json_pack("{s:b, s:s, s:s, s:o, s:o}", "ok", 1, "dir", tc_folder_path(node->folder), "listen",
                               node->strangers ? tc_strangers_address(node->strangers) : "", "sessions", sessions,
                               "published", published);
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    return text;
}

/* The node as a whole. */

static void on_stop(void *arg)
{
    struct node *node = arg;
    struct tc_err why = {0};
    tc_fail(&why, TC_E_ABORTED, "the agent is being stopped");
    if (!node->sessions || node->stopping)
        tc_loop_stop(node->loop);
    node->stopping = true;
    struct tc_event event = {.kind = TC_EV_STOP, .err = &why};
    for (struct session *session = node->sessions; session; session = session->next)
        tc_runner_event(&session->runner, &event);
}

/* Left-overs of interrupted sessions have their time. */

struct expiry {
    struct tc_task task;
    struct node *node;
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
    struct node *node = arg;
    struct expiry *expiry = calloc(1, sizeof *expiry);
    tc_timer_set(node->hourly, HOUR_S * 1000);
    for (struct session *session = node->sessions; session; session = session->next)
        arrived(session);
    if (!expiry)
        return;
    expiry->task.run = expire_run;
    expiry->task.done = expire_done;
    expiry->node = node;
    tc_pool_add(node->pool, &expiry->task);
}

/* What was published for the owner goes with it. */
static void on_owner_gone(void *arg, unsigned ready)
{
    struct node *node = arg;
    (void)ready;
    tc_log(TC_LOG_INFO, "process %u has ended, and so does its agent", node->owned.pid);
    tc_watch_want(node->owner_watch, 0, NULL);
    tc_leases_look(node->leases);
    on_stop(node);
}

static int watch_owner(struct node *node, struct tc_err *err)
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

static void on_usr1(void *arg)
{
    struct node *node = arg;
    char *text = status_text(node, NULL);
    if (text)
        dprintf(STDERR_FILENO, "%s\n", text);
    free(text);
}

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

static int open_key(struct node *node, struct tc_err *err)
{
    if (!node->options.key)
        return 0;
    if (node->options.key->has_origin && !(node->origin = tc_verifier_new(node->options.key->origin, err)))
        return -TC_E_NOMEM;
    int status = tc_key_derive(node->options.key, "control", node->control_key, err);
    return status == 0 ? tc_key_derive(node->options.key, "join", node->join_key, err) : status;
}

/* A session that waits for somebody to dial would wait for ever. */
static void on_deaf(void *arg, const struct tc_err *why)
{
    struct node *node = arg;
    struct tc_event event = {.kind = TC_EV_DEAF, .err = why};
    for (struct session *session = node->sessions; session; session = session->next)
        tc_runner_event(&session->runner, &event);
}

static int open_strangers(struct node *node, const char *listen, struct tc_err *err)
{
    struct tc_strangers_options options = {.listen = listen,
                                           .listen_fd = node->options.listen_fd,
                                           .port = TC_PORT_DEFAULT,
                                           .limits = {.pending = node->options.connections_most,
                                                      .pending_per_address = (node->options.connections_most + 3) / 4},
                                           .message_most = node->options.message_most,
                                           .seconds = node->options.handshake_seconds,
                                           .first_link = TC_LINK_ACCEPTED,
                                           .tls = node->options.key != NULL,
                                           .lookup = look_up,
                                           .greet = greet_stranger,
                                           .deaf = on_deaf,
                                           .arg = node};
    node->strangers = tc_strangers_open(node->loop, &options, err);
    return node->strangers ? 0 : -err->reason;
}

static void say_ready(const struct node *node)
{
    if (node->options.ready)
        node->options.ready(node->options.arg, tc_strangers_address(node->strangers), tc_folder_path(node->folder));
}

/* Joining: this side dials the coordinator. Where it listens for other agents follows from the address that the way there
 * begins at, unless it is told. */

static bool listens_everywhere(const struct node *node)
{
    const char *address = tc_strangers_address(node->strangers);
    return strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0;
}

static int joined(struct node *node, struct tc_wire *wire, struct tc_err *err)
{
    char host[TC_ADDRESS_HOST], local[TC_ADDRESS_TEXT];
    uint16_t port = 0;
    int status = tc_address_split(tc_link_local(wire->link), host, &port, err);
    if (status == 0)
        status = tc_address_join(local, sizeof local, host, 0, err);
    if (status == 0)
        status = open_strangers(node, node->options.listen ? node->options.listen : local, err);
    if (status == 0 && !node->options.advertise && node->options.listen && listens_everywhere(node)) {
        snprintf(node->way, sizeof node->way, "%s", host);
        node->options.advertise = node->way;
    }
    if (status == 0)
        say_ready(node);
    if (status == 0)
        status = new_session(node, wire, true, err);
    return status;
}

static void on_joining(struct tc_wire *wire, const struct tc_link_event *event)
{
    struct node *node = wire->owner;
    struct tc_err err = {0};
    if (event->kind == TC_LINK_UP && joined(node, wire, &err) == 0) {
        node->joining = NULL;
        node->joined = true;
        return;
    }
    if (event->kind != TC_LINK_UP && event->kind != TC_LINK_CLOSED)
        return;
    if (!node->settled)
        node->result = event->kind == TC_LINK_CLOSED ? *event->why : err;
    node->settled = true;
    tc_loop_stop(node->loop);
    if (event->kind == TC_LINK_CLOSED) {
        node->joining = NULL;
        free(wire);
    }
}

static int join(struct node *node, struct tc_err *err)
{
    struct tc_wire *wire = calloc(1, sizeof *wire);
    struct tc_link_options options = {.call = tc_wire_call,
                                      .arg = wire,
                                      .limit = tc_message_limit,
                                      .most = node->options.message_most,
                                      .low_water = TC_RUNNER_LOW_WATER,
                                      .connect_ms = JOIN_MS,
                                      .tls = node->options.key != NULL,
                                      .identity = (const uint8_t *)TC_JOIN_IDENTITY,
                                      .identity_size = sizeof TC_JOIN_IDENTITY - 1,
                                      .key = node->join_key};
    if (!wire)
        return tc_fail(err, TC_E_NOMEM, "no memory for a link");
    wire->stranger = on_joining;
    wire->owner = node;
    wire->link = tc_link_dial(node->loop, node->options.join, &options, err);
    if (!wire->link) {
        free(wire);
        return -err->reason;
    }
    node->joining = wire;
    return 0;
}

static void leave(struct node *node)
{
    if (!node->joining)
        return;
    tc_link_drop(node->joining->link);
    free(node->joining);
    node->joining = NULL;
}

/* What takes root comes first, then the rights go, and only what is left of them touches the directory. */
static int open_listen(struct node *node, const char *listen, struct tc_err *err)
{
    if (!(node->loop = tc_loop_new(err)))
        return -err->reason;
    node->bucket = tc_bucket_new(node->options.rate, tc_loop_now(node->loop));
    if (!node->options.join && open_strangers(node, listen, err) < 0)
        return -err->reason;
    return node->options.user ? tc_privilege_become(node->options.user, node->options.group, err) : 0;
}

static int confine(struct node *node, bool was_root, struct tc_err *err)
{
    int version = tc_privilege_confine(node->options.unconfined ? -1 : tc_folder_fd(node->folder), was_root, err);
    if (version > 0)
        tc_log(TC_LOG_DEBUG, "confined to %s (Landlock %d)", tc_folder_path(node->folder), version);
    return version < 0 ? version : 0;
}

static int open_node(struct node *node, const char *listen, struct tc_err *err)
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
    tc_folder_default(dir, sizeof dir);
    node->folder = tc_folder_open(node->options.dir ? node->options.dir : dir, err);
    if (!node->folder)
        return -err->reason;
    status = confine(node, was_root, err);
    if (status < 0)
        return status;
    if (!(node->pool = tc_pool_new(node->loop, node->options.threads, err)) || !(node->here.codec = tc_codec_new(err)))
        return -err->reason;
    struct tc_door_options door = {.users = node->options.users,
                                   .user_count = node->options.user_count,
                                   .published = is_published,
                                   .status = status_text,
                                   .open = open_published,
                                   .lease = give_lease,
                                   .listening = listening,
                                   .arg = node};
    node->door = tc_door_serve(node->loop, tc_folder_path(node->folder), tc_folder_state_fd(node->folder), &door, err);
    if (!node->door)
        return -err->reason;
    tc_folder_tidy(node->folder, NULL); /* not needed to serve */
    if (!(node->leases = tc_leases_new(node->loop, node->folder, err)))
        return -err->reason;
    status = watch_owner(node, err);
    if (status < 0)
        return status;
    if (node->options.join && join(node, err) < 0)
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

static void close_node(struct node *node)
{
    tc_signal_free(node->term);
    tc_signal_free(node->interrupt);
    tc_signal_free(node->usr1);
    tc_timer_free(node->hourly);
    tc_strangers_close(node->strangers);
    node->strangers = NULL;
    leave(node);
    for (struct session *session = node->sessions; session; session = session->next)
        session->over = true; /* what comes back from the pool is only freed */
    tc_pool_free(node->pool);
    while (node->sessions) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it went from the list by *prev */
        judge_file(node->sessions);
        close_file(node->sessions);
        free_session(node->sessions);
    }
    tc_door_close(node->door);
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
    struct node node = {.options = *options, .owner_fd = -1};
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
        if (node.strangers)
            say_ready(&node);
        status = tc_loop_run(node.loop, err);
    }
    close_node(&node);
    if (status == 0 && (options->once || (options->join && !node.joined)) && node.result.reason) {
        *err = node.result;
        status = -err->reason;
    }
    return status;
}
