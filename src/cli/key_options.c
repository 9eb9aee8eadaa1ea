#include "cli/key_options.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "net/listen.h"

int tc_key_options_read(const struct tc_key_options *options, struct tc_key *key, bool *have, struct tc_err *err)
{
    *have = options->file || options->fd != TC_NO_KEY_FD;
    if (options->file && options->fd != TC_NO_KEY_FD)
        return tc_fail(err, TC_E_USAGE, "give --key-file or --key-fd, not both");
    if (options->file)
        return tc_key_read(key, options->file, err);
    return *have ? tc_key_read_fd(key, (int)options->fd, err) : 0;
}

int tc_key_options_read_origin(const struct tc_key_options *options, const char *origin_file, struct tc_key *key,
                               struct tc_err *err)
{
    char beside[PATH_MAX];
    if (origin_file)
        return tc_key_read_origin(key, origin_file, err);
    if (!key->has_origin)
        return 0;
    if (!options->file)
        return tc_fail(err, TC_E_AUTH,
                       "the key names an origin, so agents take arrays from it alone: give --origin-key FILE");
    int used = snprintf(beside, sizeof beside, "%s.origin", options->file);
    if (used < 0 || (size_t)used >= sizeof beside || (access(beside, F_OK) < 0 && errno == ENOENT))
        return tc_fail(err, TC_E_AUTH,
                       "%s names an origin, so agents take arrays from it alone, and %s.origin is not here:"
                       " give --origin-key FILE",
                       options->file, options->file);
    return tc_key_read_origin(key, beside, err);
}

int tc_key_policy(const char *what, const char *address, struct tc_err *err)
{
    if (tc_address_is_loopback(address))
        return 0;
    return tc_fail(err, TC_E_POLICY,
                   "without a key only loopback is allowed, so cannot %s %s: make a key with"
                   " 'treecast keygen FILE' and give --key-file FILE",
                   what, address);
}
