#include "node/finder.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"
#include "net/link.h"
#include "node/runner.h"

enum {
    AT_ONCE = 128,      /* hosts */
    MOMENT_MS = 250,    /* before the next port is tried beside the last one */
    HANDSHAKE_MS = 3000 /* for each port */
};

struct search;

struct attempt {
    struct search *search;
    struct tc_link *link; /* NULL: not begun, or over */
    uint16_t port;
};

/* The ports of one host. */
struct search {
    struct finder *finder;
    size_t host;
    struct tc_timer *timer;
    size_t begun, open;
    struct attempt attempts[TC_PORTS_MOST];
};

struct finder {
    const struct tc_finder_options *options;
    uint16_t *found;
    struct tc_loop *loop;
    size_t next; /* host */
    size_t searches;
    uint8_t control_key[TC_KEY_SIZE];
};

static void begin_hosts(struct finder *finder);

static void end(struct search *search)
{
    struct finder *finder = search->finder;
    for (size_t i = 0; i < search->begun; i++)
        tc_link_drop(search->attempts[i].link);
    tc_timer_free(search->timer);
    free(search);
    finder->searches--;
    begin_hosts(finder);
    if (finder->searches == 0)
        tc_loop_stop(finder->loop);
}

static void on_event(struct tc_link *link, const struct tc_link_event *event, void *arg);

/* No frame is expected: whoever sends one is no agent. */
static uint32_t no_frame(uint8_t type)
{
    (void)type;
    return 0;
}

/* Whether one was begun. */
static bool begin_next(struct search *search)
{
    const struct finder *finder = search->finder;
    const struct tc_finder_options *options = finder->options;
    struct attempt *attempt = &search->attempts[search->begun];
    struct tc_link_options link = {.call = on_event,
                                   .arg = attempt,
                                   .limit = no_frame,
                                   .handshake_ms = HANDSHAKE_MS,
                                   .again = TC_RUNNER_AGAIN,
                                   .tls = options->key != NULL,
                                   .same_user = true,
                                   .accepted = true,
                                   .identity = (const uint8_t *)TC_CONTROL_IDENTITY,
                                   .identity_size = sizeof TC_CONTROL_IDENTITY - 1,
                                   .key = finder->control_key};
    char host[TC_ADDRESS_HOST], address[TC_ADDRESS_TEXT];
    uint16_t any;
    if (search->begun == options->port_count)
        return false;
    attempt->search = search;
    attempt->port = options->ports[search->begun++];
    if (tc_address_split(options->addresses[search->host], host, &any, NULL) == 0 &&
        tc_address_join(address, sizeof address, host, attempt->port, NULL) == 0)
        attempt->link = tc_link_dial(finder->loop, address, &link, NULL);
    search->open += attempt->link != NULL;
    tc_timer_set(search->timer, MOMENT_MS);
    return true;
}

static void go_on(struct search *search)
{
    while (begin_next(search) && search->open == 0)
        ;
    if (search->open == 0)
        end(search);
}

static void on_moment(void *arg)
{
    go_on(arg);
}

static void on_event(struct tc_link *link, const struct tc_link_event *event, void *arg)
{
    struct attempt *attempt = arg;
    struct search *search = attempt->search;
    (void)link;
    if (event->kind == TC_LINK_UP) {
        search->finder->found[search->host] = attempt->port;
        end(search);
    } else if (event->kind == TC_LINK_CLOSED) {
        attempt->link = NULL;
        search->open--;
        go_on(search);
    }
}

static void begin_hosts(struct finder *finder)
{
    const struct tc_finder_options *options = finder->options;
    while (finder->searches < AT_ONCE && finder->next < options->count) {
        size_t host = finder->next++;
        struct search *search = options->addresses[host] ? calloc(1, sizeof *search) : NULL;
        if (!search)
            continue;
        search->finder = finder;
        search->host = host;
        search->timer = tc_timer_new(finder->loop, on_moment, search, NULL);
        if (!search->timer) {
            free(search);
            continue;
        }
        finder->searches++;
        tc_timer_set(search->timer, 0);
    }
}

int tc_find_ports(const struct tc_finder_options *options, uint16_t *found, struct tc_err *err)
{
    struct finder finder = {.options = options, .found = found};
    memset(found, 0, options->count * sizeof *found);
    int result = options->key ? tc_key_derive(options->key, "control", finder.control_key, err) : 0;
    if (result < 0)
        return result;
    tc_prepare_process();
    finder.loop = tc_loop_new(err);
    if (finder.loop) {
        begin_hosts(&finder);
        result = finder.searches > 0 ? tc_loop_run(finder.loop, err) : 0;
        tc_loop_free(finder.loop);
    } else {
        result = -err->reason;
    }
    explicit_bzero(finder.control_key, sizeof finder.control_key);
    return result;
}
