/* local.h - a sender's side of the agent on its own host: the source reaches it as an open descriptor, not over the
 * network.
 *
 * Local is an agent whose local API is in the default directory, which lets this user in, and which listens on the port of
 * the hosts that were listed without one. It takes part in the session like every other, and finds all chunks in the
 * source; an offer to an agent that is not in the session does nothing. Of agents that join (recv --join), local is the one
 * that names this host and whose local API is where launched agents publish. */
#ifndef TC_NODE_LOCAL_H
#define TC_NODE_LOCAL_H

#include "file/source.h"
#include "node/send_node.h"

struct tc_local {
    int api; /* holds the offer; -1: none was made */
    char dir[4096];
    uint8_t session[16];
    bool linked;
};

/* Offer the source, and link it where options->link is set. 0 also where there is no local agent, unless
 * options->local is TC_LOCAL_COPY or options->link: then why it cannot be (TC_E_NOTFOUND, TC_E_POLICY, ...). May block
 * for as long as an agent takes to answer. */
int tc_local_offer(struct tc_local *local, const struct tc_send_options *options, struct tc_source *source,
                   const uint8_t session[16], struct tc_err *err);
/* An agent has joined as host and listens on address: offer it the source when it is local, and as far as options->local
 * allows; it is not waited for otherwise. Blocks as above. */
void tc_local_joined(struct tc_local *local, const struct tc_send_options *options, struct tc_source *source,
                     const uint8_t session[16], const char *host, const char *address);
void tc_local_withdraw(struct tc_local *local);

#endif
