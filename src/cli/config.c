#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/values.h"

struct reading {
    FILE *file;
    const char *path;
    struct tc_values *values;
    bool system;
    unsigned line;
    struct tc_err err;
};

void tc_config_user(char *path, size_t size)
{
    const char *base = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    if (base && *base == '/')
        snprintf(path, size, "%s/treecast/treecast.conf", base);
    else if (home && *home == '/')
        snprintf(path, size, "%s/.config/treecast/treecast.conf", home);
    else if (size > 0)
        *path = '\0';
}

static const struct tc_option *option_named(const struct tc_verb *verb, const char *name)
{
    for (const struct tc_option *option = verb->options; option->name; option++)
        if (!option->spoken && strcmp(option->name, name) == 0)
            return option;
    return NULL;
}

static bool any_verb_knows(const char *name)
{
    for (size_t i = 0; tc_verbs[i]; i++)
        if (!tc_verbs[i]->hidden && option_named(tc_verbs[i], name))
            return true;
    return false;
}

/* Whether section and name mean something at all, whichever verb runs: a slip of the pen shows at once. */
static int check_key(struct reading *reading, const char *section, const char *name)
{
    const struct tc_verb *verb = tc_verb_find(section);
    bool all = strcmp(section, "treecast") == 0;
    if (!*section)
        return tc_fail(&reading->err, TC_E_USAGE,
                       "%s:%u: '%s' stands before the first section (write [treecast] above it)", reading->path,
                       reading->line, name);
    if (!all && (!verb || verb->hidden))
        return tc_fail(&reading->err, TC_E_USAGE, "%s:%u: unknown section [%s] (write [treecast] or a verb's name)",
                       reading->path, reading->line, section);
    if (all && strcmp(name, "trust") == 0) /* no option, but whom all believe: base/trust.h reads it for itself */
        return reading->system
                   ? 0
                   : tc_fail(&reading->err, TC_E_POLICY, "%s:%u: 'trust' counts in root's " TC_CONFIG_SYSTEM " only",
                             reading->path, reading->line);
    if (all ? !any_verb_knows(name) : !option_named(verb, name))
        return tc_fail(&reading->err, TC_E_USAGE, "%s:%u: unknown key '%s' in [%s] (keys are the long options)",
                       reading->path, reading->line, name, section);
    return 0;
}

static int on_key(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;
    const struct tc_verb *verb = tc_values_verb(reading->values);
    if (reading->err.reason || check_key(reading, section, name) < 0)
        return 0;
    bool own = strcmp(section, verb->name) == 0;
    const struct tc_option *option = option_named(verb, name);
    if (!option || (!own && strcmp(section, "treecast") != 0))
        return 1;
    enum tc_origin origin = reading->system ? (own ? TC_FROM_SYSTEM_VERB : TC_FROM_SYSTEM_ALL)
                                            : (own ? TC_FROM_USER_VERB : TC_FROM_USER_ALL);
    char where[256];
    snprintf(where, sizeof where, "%s:%u: %s", reading->path, reading->line, name);
    /* An indented line goes on with the key above it, so this also catches a key that was indented by mistake. */
    if (option->kind != TC_OPT_LIST && tc_values_origin(reading->values, option) == origin)
        return tc_fail(&reading->err, TC_E_USAGE, "%s: given twice in [%s]", where, section) == 0;
    return tc_values_set(reading->values, option, origin, where, value, &reading->err) == 0;
}

/* fgets that counts lines and does not let a long one pass for two. */
static char *read_line(char *bytes, int size, void *stream)
{
    struct reading *reading = stream;
    char *line = reading->err.reason ? NULL : fgets(bytes, size, reading->file);
    if (!line)
        return NULL;
    reading->line++;
    size_t length = strlen(line);
    if (length + 1 == (size_t)size && line[length - 1] != '\n' && !feof(reading->file)) {
        tc_fail(&reading->err, TC_E_USAGE, "%s:%u: longer than %d bytes", reading->path, reading->line, size - 2);
        return NULL;
    }
    return line;
}

static int check_owner(const struct reading *reading, struct tc_err *err)
{
    struct stat st;
    if (fstat(fileno(reading->file), &st) < 0)
        return tc_fail_errno(err, errno, "%s", reading->path);
    if (!S_ISREG(st.st_mode))
        return tc_fail(err, TC_E_POLICY, "%s is not a regular file", reading->path);
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return tc_fail(err, TC_E_POLICY, "%s belongs to another user (uid %u)", reading->path, (unsigned)st.st_uid);
    if (st.st_mode & S_IWOTH)
        return tc_fail(err, TC_E_POLICY, "%s may be written by everyone (chmod o-w %s)", reading->path, reading->path);
    return 0;
}

/* A home directory that is closed to us is somebody else's: HOME often survives a change of user. */
static bool absent(int number, bool system)
{
    return number == ENOENT || number == ENOTDIR || (number == EACCES && !system);
}

int tc_values_file(struct tc_values *values, const char *path, bool system, struct tc_err *err)
{
    struct reading reading = {.path = path, .values = values, .system = system};
    if (!*path)
        return 0;
    reading.file = fopen(path, "re");
    if (!reading.file)
        return absent(errno, system) ? 0 : tc_fail_errno(err, errno, "%s", path);
    int result = check_owner(&reading, err);
    if (result == 0) {
        int first = ini_parse_stream(read_line, &reading, on_key, &reading);
        if (reading.err.reason && !(first > 0 && (unsigned)first < reading.line))
            result = tc_fail(err, reading.err.reason, "%s", reading.err.text);
        else if (first != 0)
            result = tc_fail(err, TC_E_USAGE, "%s:%d: neither [SECTION] nor KEY = VALUE", path, first);
    }
    fclose(reading.file);
    return result;
}
