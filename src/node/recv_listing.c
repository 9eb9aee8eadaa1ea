#include "node/recv_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/say.h"

#define ROW_LEAST 48u /* bytes that an array takes in the answer besides its name */

/* What is published in the directory, read in the background: one reading for all who asked before it began. Who asks
 * while it is under way gets the next one, for something may have changed behind it. */
struct tc_recv_listing {
    struct tc_task task;
    struct tc_recv_node *node;
    struct tc_api_request **requests;
    unsigned count;
    bool print; /* on standard error too, and all of it */
    bool running;
    json_t *sessions; /* as they were when it began: what is published meanwhile is told twice rather than not at all */
    json_t *rows;
    size_t bytes;
    struct tc_err err;
};

static int add_row(const struct tc_description *description, void *arg)
{
    struct tc_recv_listing *listing = arg;
    listing->bytes += strlen(description->name) + ROW_LEAST;
    if (!listing->print && listing->bytes > TC_API_ANSWER)
        return tc_fail(&listing->err, TC_E_LIMIT, TC_API_TOO_LONG);
    json_array_append_new(listing->rows, tc_recv_published_row(description));
    return 0;
}

static void list_run(struct tc_task *task, struct tc_worker *worker)
{
    (void)worker;
    struct tc_recv_listing *listing = (struct tc_recv_listing *)task;
    tc_folder_each(listing->node->folder, add_row, listing, &listing->err);
}

static void free_listing(struct tc_recv_listing *listing)
{
    json_decref(listing->sessions);
    json_decref(listing->rows);
    free(listing->requests);
    free(listing);
}

/* As much as its reader takes at once. */
static void print(const char *text)
{
    size_t size = strlen(text);
    if (tc_say(STDERR_FILENO, text, size) == (ptrdiff_t)size)
        tc_say(STDERR_FILENO, "\n", 1);
}

/* text, or with NULL why there is none. */
static void answer_all(struct tc_recv_listing *listing, const char *text, const struct tc_err *why)
{
    struct tc_err err = *why;
    for (unsigned i = 0; i < listing->count; i++) {
        char *copy = text ? strdup(text) : NULL;
        if (text && !copy)
            tc_fail(&err, TC_E_NOMEM, "no memory for a status");
        tc_api_answer(listing->requests[i], copy, &err);
    }
}

static void begin(struct tc_recv_listing *listing);

static void list_done(struct tc_task *task)
{
    struct tc_recv_listing *listing = (struct tc_recv_listing *)task;
    struct tc_recv_node *node = listing->node;
    char *text = NULL;
    if (!listing->err.reason) {
        text = tc_recv_status_text(node, listing->sessions, listing->rows);
        listing->sessions = listing->rows = NULL;
        if (!text)
            tc_fail(&listing->err, TC_E_NOMEM, "no memory for a status");
    }
    if (listing->print && text)
        print(text);
    node->listing = node->next_listing;
    node->next_listing = NULL;
    answer_all(listing, text, &listing->err);
    free(text);
    free_listing(listing);
    if (node->listing)
        begin(node->listing);
}

static void begin(struct tc_recv_listing *listing)
{
    listing->running = true;
    listing->sessions = tc_recv_sessions_status(listing->node, NULL);
    listing->rows = json_array();
    tc_pool_add(listing->node->aside, &listing->task);
}

static struct tc_recv_listing *listing_to_come(struct tc_recv_node *node)
{
    struct tc_recv_listing **at = node->listing ? &node->next_listing : &node->listing;
    if (*at || !(*at = calloc(1, sizeof **at)))
        return *at;
    (*at)->task = (struct tc_task){.run = list_run, .done = list_done};
    (*at)->node = node;
    return *at;
}

static int add_request(struct tc_recv_listing *listing, struct tc_api_request *request)
{
    struct tc_api_request **grown =
        reallocarray(listing->requests, listing->count + 1, sizeof(struct tc_api_request *));
    if (!grown)
        return -TC_E_NOMEM;
    listing->requests = grown;
    grown[listing->count++] = request;
    return 0;
}

void tc_recv_list(struct tc_recv_node *node, struct tc_api_request *request)
{
    struct tc_err err = {0};
    struct tc_recv_listing *listing = listing_to_come(node);
    if (listing && !request)
        listing->print = true;
    if (!listing || (request && add_request(listing, request) < 0)) {
        tc_fail(&err, TC_E_NOMEM, "no memory for a status");
        if (request)
            tc_api_answer(request, NULL, &err);
    }
    if (listing && listing == node->listing && !listing->running)
        begin(listing);
}

void tc_recv_end_listing(struct tc_recv_node *node)
{
    struct tc_err err = {0};
    struct tc_recv_listing *listing = node->next_listing;
    node->next_listing = NULL;
    if (!listing)
        return;
    tc_fail(&err, TC_E_CLOSED, "the agent has ended");
    answer_all(listing, NULL, &err);
    free_listing(listing);
}
