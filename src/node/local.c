#include "node/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/log.h"
#include "api/client.h"
#include "file/local.h"
#include "file/place.h"

static uint16_t port_of(const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
}

/* Why no offer was made that could have been. A place that somebody else has taken is worth a word, though the array
 * reaches this host by the network as well. */
static void tell(int fd, uint16_t port, const struct tc_err *why)
{
    bool taken = why->reason == TC_E_POLICY && fd >= 0 && port != 0;
    tc_log(taken ? TC_LOG_WARN : TC_LOG_INFO, "no agent on this host takes the source itself: %s", why->text);
}

/* A connection that holds the offer. */
static int offer(const struct tc_local *local, uint16_t port, int fd, struct tc_err *err)
{
    char listen[128];
    if (fd < 0)
        return tc_fail(err, TC_E_POLICY, "what is sent is not a whole file");
    if (port == 0)
        return tc_fail(err, TC_E_POLICY, "every host is listed with a port, which means the network");
    int api = tc_api_offer(local->dir, local->session, fd, listen, sizeof listen, err);
    if (api < 0 || port_of(listen) == port)
        return api;
    close(api);
    return tc_fail(err, TC_E_NOTFOUND, "the agent of %s does not listen on port %u", local->dir, port);
}

int tc_local_offer(struct tc_local *local, const struct tc_send_options *options, struct tc_source *source,
                   const uint8_t session[16], struct tc_err *err)
{
    struct tc_err why = {0};
    local->api = -1;
    bool later = options->join_at && options->local == TC_LOCAL_AUTO && !options->link;
    if (options->local == TC_LOCAL_NET || options->dry_run || later)
        return 0;
    memcpy(local->session, session, sizeof local->session);
    int fd = tc_source_fd(source);
    if (tc_place_default(local->dir, sizeof local->dir, &why) == 0)
        local->api = offer(local, options->local_port, fd, &why);
    if (local->api < 0 && options->local == TC_LOCAL_AUTO && !options->link) {
        tell(fd, options->local_port, &why);
        return 0;
    }
    if (local->api < 0)
        return tc_fail(err, why.reason, "%s: %s", options->link ? "--link" : "--local copy", why.text);
    if (!options->link)
        return 0;
    tc_source_expect_link(source);
    int rc = tc_local_link(local->dir, session, fd, err);
    local->linked = rc == 0;
    return rc;
}

/* "node7" and "node7.cluster" are one. */
static bool is_this_host(const char *host)
{
    char own[256] = "";
    size_t size = strcspn(host, ".");
    if (size == 0 || gethostname(own, sizeof own - 1) < 0)
        return false;
    return strcspn(own, ".") == size && strncasecmp(own, host, size) == 0;
}

/* Where the agent of this host publishes, as its launcher was told. */
static int find_dir(struct tc_local *local, const struct tc_launch_request *request, const char *host,
                    struct tc_err *err)
{
    char *dir = NULL;
    if (!request || !request->dir)
        return tc_place_default(local->dir, sizeof local->dir, err);
    for (size_t i = 0; i < request->host_count && !dir; i++)
        if (strcmp(request->hosts[i].name, host) == 0)
            dir = tc_launch_request_fill(request->dir, &request->hosts[i], err);
    if (!dir)
        return tc_fail(err, TC_E_NOTFOUND, "%s was not launched", host);
    snprintf(local->dir, sizeof local->dir, "%s", dir);
    free(dir);
    return 0;
}

void tc_local_joined(struct tc_local *local, const struct tc_send_options *options, struct tc_source *source,
                     const uint8_t session[16], const char *host, const char *address)
{
    struct tc_err why = {0};
    if (local->api >= 0 || options->local == TC_LOCAL_NET || options->dry_run || !is_this_host(host))
        return;
    memcpy(local->session, session, sizeof local->session);
    if (find_dir(local, options->request, host, &why) == 0)
        local->api = offer(local, port_of(address), tc_source_fd(source), &why);
    if (local->api < 0)
        tell(tc_source_fd(source), port_of(address), &why);
}

void tc_local_withdraw(struct tc_local *local)
{
    if (local->linked)
        tc_local_unlink(local->dir, local->session);
    if (local->api >= 0)
        close(local->api);
    local->api = -1;
    local->linked = false;
}
