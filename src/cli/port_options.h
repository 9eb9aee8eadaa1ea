/* port_options.h - send's --port: one port, or several of which each host's agent listens on one. */
#ifndef TC_CLI_PORT_OPTIONS_H
#define TC_CLI_PORT_OPTIONS_H

#include <stdbool.h>

#include "node/finder.h"

struct tc_port_options {
    uint16_t ports[TC_PORTS_MOST];
    size_t count; /* at least 1 */
};

/* "7117" or "20417,23101,...". TC_E_USAGE. */
int tc_port_options_parse(struct tc_port_options *options, const char *text, struct tc_err *err);

/* Put into each of count addresses ("HOST:PORT", texts of malloc, exchanged), but the fixed ones, the port that its agent is
 * found at. One that is not found stays as it is: dialling it says why. May block for seconds. */
int tc_port_options_find(const struct tc_port_options *options, const char **addresses, const bool *fixed, size_t count,
                         const struct tc_key *key, struct tc_err *err);

#endif
