#include "cli/port_options.h"

#include <stdlib.h>
#include <string.h>

#include "net/address.h"

int tc_port_options_parse(struct tc_port_options *options, const char *text, struct tc_err *err)
{
    const char *at = text;
    do {
        char *end;
        unsigned long port = strtoul(at, &end, 10);
        if (options->count == TC_PORTS_MOST)
            return tc_fail(err, TC_E_USAGE, "--port: more than %d ports", TC_PORTS_MOST);
        if (*at < '0' || *at > '9' || (*end && *end != ',') || port < 1 || port > UINT16_MAX)
            return tc_fail(err, TC_E_USAGE, "--port: '%s' is not a port (1 .. 65535), or several parted by commas",
                           text);
        options->ports[options->count++] = (uint16_t)port;
        at = end;
    } while (*at++ == ',');
    return 0;
}

static int place(const char **address, uint16_t port, struct tc_err *err)
{
    char host[TC_ADDRESS_HOST], text[TC_ADDRESS_TEXT];
    uint16_t old;
    int result = tc_address_split(*address, host, &old, err);
    if (result == 0)
        result = tc_address_join(text, sizeof text, host, port, err);
    char *copy = result == 0 ? strdup(text) : NULL;
    if (!copy)
        return result < 0 ? result : tc_fail(err, TC_E_NOMEM, "out of memory");
    free((void *)(uintptr_t)*address);
    *address = copy;
    return 0;
}

int tc_port_options_find(const struct tc_port_options *options, const char **addresses, const bool *fixed, size_t count,
                         const struct tc_key *key, struct tc_err *err)
{
    const char **wanted = calloc(count + 1, sizeof *wanted);
    uint16_t *found = calloc(count + 1, sizeof *found);
    const struct tc_finder_options finder = {
        .addresses = wanted, .count = count, .ports = options->ports, .port_count = options->count, .key = key};
    int result = wanted && found ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
    for (size_t i = 0; result == 0 && i < count; i++)
        wanted[i] = fixed[i] ? NULL : addresses[i];
    if (result == 0)
        result = tc_find_ports(&finder, found, err);
    for (size_t i = 0; result == 0 && i < count; i++)
        if (found[i] != 0)
            result = place(&addresses[i], found[i], err);
    free(wanted);
    free(found);
    return result;
}
