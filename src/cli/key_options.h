/* key_options.h - the keys of send and recv, and the rule that without one nothing but loopback is touched. */
#ifndef TC_CLI_KEY_OPTIONS_H
#define TC_CLI_KEY_OPTIONS_H

#include "cli/cli.h"
#include "net/key.h"

#define TC_NO_KEY_FD UINT64_MAX

struct tc_key_options {
    const char *file;
    uint64_t fd; /* TC_NO_KEY_FD by default: say so in the verb's defaults */
};

/* clang-format off */
#define TC_KEY_ROWS(type, member) \
    {.letter = 'k', .name = "key-file", .argument = "FILE", .kind = TC_OPT_TEXT, .family = 2, \
     TC_AT(type, member.file), \
     .help = "the group's key, made by treecast keygen; without a key only loopback is used"}, \
    {.name = "key-fd", .argument = "N", .kind = TC_OPT_NUMBER, .most = 65535, .family = 2, TC_AT(type, member.fd), \
     .help = "read the key from open descriptor N"}
/* clang-format on */

/* Read the key that was asked for; *have: there is one. origin_file is for senders: the origin's secret; NULL: the one
 * beside the key file, FILE.origin, which must be there when the key names an origin (TC_E_AUTH: agents would
 * refuse). */
int tc_key_options_read(const struct tc_key_options *options, struct tc_key *key, bool *have, struct tc_err *err);
int tc_key_options_read_origin(const struct tc_key_options *options, const char *origin_file, struct tc_key *key,
                               struct tc_err *err);

/* TC_E_POLICY unless address can only be this machine. what: "listen on", "send to". */
int tc_key_policy(const char *what, const char *address, struct tc_err *err);

#endif
