#include "session/coordinator_own.h"

#include <stdio.h>
#include <string.h>

/* A host's word of where it is decides whom others dial: it is taken where it can only be the host itself, and proven
 * elsewhere. */

/* Bytes of "[fd00::7%eth0]:7117" before its port; *bare: before the zone of a link-local address, too. */
static size_t host_size(const char *address, size_t *bare)
{
    const char *colon = strrchr(address, ':');
    size_t size = colon ? (size_t)(colon - address) : strlen(address);
    *bare = strcspn(address, "%");
    *bare = *bare < size ? *bare : size - (size > 0 && address[size - 1] == ']');
    return size;
}

static bool same_host(const char *address, const char *other)
{
    size_t bare, other_bare;
    host_size(address, &bare);
    host_size(other, &other_bare);
    return bare > 0 && bare == other_bare && strncmp(address, other, bare) == 0;
}

static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]:", 6) == 0 ||
           strncmp(address, "localhost:", 10) == 0;
}

static bool has_port(const char *address)
{
    const char *colon = strrchr(address, ':');
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    return digits > 0 && digits <= 5 && !colon[1 + digits];
}

/* As it was dialled; of one that dialled, where it did so from, at the port that it says. */
static void use_reached(struct tc_coordinator *c, struct tc_host *host, const char *said)
{
    size_t bare, size = host_size(host->far.address, &bare);
    char address[TC_ADDRESS_MAX];
    if (c->config.joins)
        snprintf(address, sizeof address, "%.*s%.6s", (int)size, host->far.address, strrchr(said, ':'));
    else
        snprintf(address, sizeof address, "%s", tc_host_name(c, host));
    memcpy(host->address, address, sizeof address);
}

int tc_coordinator_take_address(struct tc_coordinator *c, struct tc_host *host, const char *said, struct tc_err *err)
{
    if (!said[0] && !c->config.joins) {
        use_reached(c, host, said);
        return 0;
    }
    if (!has_port(said))
        return tc_fail(err, TC_E_PROTOCOL, "says that others reach it at '%s', which is no address", said);
    bool unknown = !host->far.address[0]; /* then the link is gone already, or it is a test's */
    if (unknown || same_host(said, host->far.address) || (!c->config.tls && is_loopback(said))) {
        snprintf(host->address, sizeof host->address, "%s", said);
        return 0;
    }
    use_reached(c, host, said);
    if (!c->config.tls || c->config.flags & TC_OFFER_DRY_RUN) {
        tc_coordinator_trace(c, "%s: %s is not used", tc_host_name(c, host), said);
        return 0;
    }
    int status = c->config.random(c->config.random_arg, host->proof.id, sizeof host->proof.id, err);
    if (status == 0)
        status = c->config.random(c->config.random_arg, host->proof.key, sizeof host->proof.key, err);
    snprintf(host->proof.address, sizeof host->proof.address, "%s", said);
    return status;
}

bool tc_coordinator_prove(struct tc_coordinator *c, struct tc_host *host)
{
    if (!host->proof.address[0])
        return false;
    host->proof.link = c->next_link++;
    struct tc_action *action = tc_actions_add(&c->actions, TC_ACT_DIAL);
    action->link = host->proof.link;
    action->host = (uint32_t)(host - c->hosts);
    action->address = host->proof.address;
    memcpy(action->id, host->proof.id, sizeof action->id);
    memcpy(action->key, host->proof.key, sizeof action->key);
    return true;
}

struct tc_host *tc_coordinator_by_proof(struct tc_coordinator *c, uint32_t link)
{
    for (uint32_t i = 0; link < TC_LINK_ACCEPTED && link >= c->config.host_count && i < c->config.host_count; i++)
        if (c->hosts[i].proof.link == link)
            return &c->hosts[i];
    return NULL;
}

void tc_coordinator_end_proof(struct tc_coordinator *c, struct tc_host *host)
{
    if (host->proof.link != 0)
        tc_coordinator_close_link(c, host->proof.link, 0);
    host->proof.link = 0;
}

void tc_coordinator_on_proof(struct tc_coordinator *c, struct tc_host *host, const struct tc_event *event)
{
    bool proven = event->kind == TC_EV_UP;
    if (event->kind == TC_EV_DOWN)
        host->proof.link = 0; /* it is gone by itself */
    tc_coordinator_end_proof(c, host);
    if (!proven)
        tc_fail(&tc_actions_add(&c->actions, TC_ACT_WARN)->err, TC_E_UNREACHABLE,
                "%.64s: nobody proves to be it at %.64s, where it says that others reach it: they are told %.64s",
                tc_host_name(c, host), host->proof.address, host->address);
    else if (event->far && event->far->address[0] && !strchr(host->proof.address, '%'))
        snprintf(host->address, sizeof host->address, "%s",
                 event->far->address); /* the same for all, whatever a name is */
    else
        snprintf(host->address, sizeof host->address, "%s", host->proof.address);
    tc_coordinator_host_ready(c, host);
}
