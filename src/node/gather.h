/* gather.h - the sender's side of agents that join: where they dial, and who starts them.
 *
 * A link that comes in with the key for joining becomes a control link of the session; its HELLO goes to the coordinator's
 * machine, which knows the hosts. Loop thread only. */
#ifndef TC_NODE_GATHER_H
#define TC_NODE_GATHER_H

#include "net/key.h"
#include "node/runner.h"
#include "site/launch_request.h"

struct tc_gather;

struct tc_gather_options {
    struct tc_loop *loop;
    struct tc_runner *runner;          /* the session's; outlives the gathering */
    const char *listen;                /* "ADDR[:PORT]", port 0 where none is written */
    const struct tc_key *key;          /* NULL: none */
    uint32_t hosts;                    /* that many may come at once, also from one address */
    struct tc_launch_request *request; /* launch them so; its join is filled in. NULL: others start them */
    bool stay;                         /* they are to serve on afterwards */
    void (*joined)(void *arg, const struct tc_msg_hello *hello); /* before the machine hears of it; borrowed */
    void *arg;
};

/* Listen. NULL and err as tc_listen_open has it. */
struct tc_gather *tc_gather_open(const struct tc_gather_options *options, struct tc_err *err);
const char *tc_gather_address(const struct tc_gather *gather); /* with the real port; borrowed */
/* Links that joined live on; launched agents have some seconds to go. NULL allowed. */
void tc_gather_close(struct tc_gather *gather);

#endif
