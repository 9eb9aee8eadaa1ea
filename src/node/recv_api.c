#include "node/recv_own.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* What is published here. */

static bool is_published(void *arg, const char *name)
{
    struct tc_recv_node *node = arg;
    int fd = tc_folder_open_array(node->folder, name, NULL, NULL);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static int open_published(void *arg, const char *name, char **description, struct tc_err *err)
{
    struct tc_recv_node *node = arg;
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

static void lease_given(void *request, const struct tc_err *why)
{
    tc_api_answer(request, NULL, why);
}

static void give_lease(void *arg, const char *name, const struct tc_lease *lease, struct tc_api_request *request)
{
    struct tc_recv_node *node = arg;
    struct tc_err err = {0};
    if (tc_leases_give(node->leases, name, lease, lease_given, request, &err) < 0)
        tc_api_answer(request, NULL, &err);
}

static const char *listening(void *arg)
{
    const struct tc_recv_node *node = arg;
    return node->pending ? tc_pending_address(node->pending) : "";
}

/* Status. */

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

static json_t *session_status(const struct tc_recv_session *session)
{
    const struct tc_job *job = tc_agent_job(session->machine);
    if (!job || session->over)
        return NULL;
    uint64_t received = 0, sent = 0;
    json_t *links = json_array();
    for (const struct tc_connection *connection = session->runner.connections; connection;
         connection = connection->next) {
        tc_link_counts(connection->link, &received, &sent);
        json_array_append_new(links, json_pack("{s:s, s:I, s:I, s:I}", "peer", tc_link_peer(connection->link),
                                               "received", (json_int_t)received, "sent", (json_int_t)sent, "queued",
                                               (json_int_t)tc_link_queued(connection->link)));
    }
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:o, s:o}", "name", job->name, "state",
                     tc_agent_state_name(tc_agent_state(session->machine)), "size", (json_int_t)job->layout.size,
                     "bytes", (json_int_t)tc_agent_bytes(session->machine), "adopted",
                     (json_int_t)tc_agent_adopted(session->machine), "from", session->peer, "links", links, "plan",
                     plan_status(session->machine));
}

json_t *tc_recv_published_row(const struct tc_description *description)
{
    const struct tc_lease *lease = &description->lease;
    json_t *row = json_pack("{s:s, s:s, s:I}", "name", description->name, "state", "published", "size",
                            (json_int_t)description->size);
    if (lease->expires)
        json_object_set_new(row, "expires", json_integer((json_int_t)tc_lease_expires(lease)));
    if (lease->pid)
        json_object_set_new(row, "owner_pid", json_integer(lease->pid));
    return row;
}

json_t *tc_recv_sessions_status(const struct tc_recv_node *node, const char *name)
{
    json_t *sessions = json_array();
    for (const struct tc_recv_session *session = node->sessions; session; session = session->next) {
        const struct tc_job *job = tc_agent_job(session->machine);
        if (job && (!name || strcmp(name, job->name) == 0))
            json_array_append_new(sessions, session_status(session));
    }
    return sessions;
}

char *tc_recv_status_text(const struct tc_recv_node *node, json_t *sessions, json_t *published)
{
    json_t *answer = json_pack("{s:b, s:s, s:s, s:o, s:o}", "ok", 1, "dir", tc_folder_path(node->folder), "listen",
                               listening((void *)(uintptr_t)node), "sessions", sessions, "published", published);
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    return text;
}

/* Of one name its own file tells, however many there are. */
static char *status_of(struct tc_recv_node *node, const char *name)
{
    struct tc_description description = {0};
    json_t *published = json_array();
    int fd = tc_folder_open_array(node->folder, name, &description, NULL);
    if (fd >= 0) {
        json_array_append_new(published, tc_recv_published_row(&description));
        tc_array_free(&description.array);
        close(fd);
    }
    return tc_recv_status_text(node, tc_recv_sessions_status(node, name), published);
}

static void status(void *arg, const char *name, struct tc_api_request *request)
{
    struct tc_recv_node *node = arg;
    struct tc_err err = {0};
    char *text = NULL;
    if (!name) {
        tc_recv_list(node, request);
        return;
    }
    if (!(text = status_of(node, name)))
        tc_fail(&err, TC_E_NOMEM, "no memory for a status");
    tc_api_answer(request, text, &err);
}

int tc_recv_open_api(struct tc_recv_node *node, struct tc_err *err)
{
    struct tc_api_options api = {.users = node->options.users,
                                 .user_count = node->options.user_count,
                                 .published = is_published,
                                 .status = status,
                                 .open = open_published,
                                 .lease = give_lease,
                                 .listening = listening,
                                 .arg = node};
    node->api = tc_api_serve(node->loop, tc_folder_path(node->folder), tc_folder_state_fd(node->folder), &api, err);
    return node->api ? 0 : -err->reason;
}
