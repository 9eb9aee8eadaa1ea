#include "cli/host_options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_FILE_MAX = 16 << 20 }; /* bytes; far beyond any list of hosts */

static int read_all(int fd, char **bytes, size_t *size, const char *what, struct tc_err *err)
{
    size_t room = 0;
    *bytes = NULL;
    *size = 0;
    for (;;) {
        if (*size == room) {
            char *more = room < HOST_FILE_MAX ? realloc(*bytes, room = room ? 2 * room : 8192) : NULL;
            if (!more)
                return tc_fail(err, TC_E_LIMIT, "%s: too long for a list of hosts", what);
            *bytes = more;
        }
        ssize_t got = read(fd, *bytes + *size, room - *size);
        if (got < 0 && errno != EINTR)
            return tc_fail_errno(err, errno, "%s", what);
        if (got == 0)
            return 0;
        *size += got > 0 ? (size_t)got : 0;
    }
}

static int add_descriptor(struct tc_hostlist *list, int fd, const char *what, struct tc_err *err)
{
    char *bytes;
    size_t size;
    int result = read_all(fd, &bytes, &size, what, err);
    if (result == 0)
        result = tc_hostlist_add_file(list, bytes, size, what, err);
    free(bytes);
    return result;
}

/* A host file that cannot be read is the user's mistake, whatever errno says. */
static int add_file(struct tc_hostlist *list, const char *path, struct tc_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tc_fail(err, TC_E_USAGE, "host file %s: %s", path, strerror(errno));
    int result = add_descriptor(list, fd, path, err);
    close(fd);
    return result;
}

static int gather(struct tc_hostlist *list, const struct tc_host_options *options, struct tc_resource *found,
                  struct tc_err *err)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < options->hosts.count; i++) {
        const char *text = options->hosts.items[i];
        result = strcmp(text, "-") == 0 ? add_descriptor(list, STDIN_FILENO, "standard input", err)
                                        : tc_hostlist_add(list, text, err);
    }
    for (size_t i = 0; result == 0 && i < options->files.count; i++)
        result = add_file(list, options->files.items[i], err);
    if (result == 0 && options->hosts.count + options->files.count == 0) {
        result = tc_resource_find(list, found, &tc_site_world, err);
        if (result == 0 && found->system == TC_SITE_NONE)
            return tc_fail(
                err, TC_E_USAGE,
                "no hosts: name them with -w LIST or --hostfile FILE, in a file that WCOLL names, or run this "
                "in a batch job");
    }
    bool any = tc_hostlist_count(list) > 0;
    for (size_t i = 0; result == 0 && i < options->exclude.count; i++)
        result = tc_hostlist_exclude(list, options->exclude.items[i], err);
    if (result == 0 && tc_hostlist_count(list) == 0)
        result = tc_fail(err, TC_E_USAGE, any ? "no hosts: all of them are excluded" : "no hosts: the list is empty");
    return result;
}

struct tc_hostlist *tc_host_options_gather(const struct tc_host_options *options, struct tc_resource *found,
                                           struct tc_err *err)
{
    struct tc_resource own = {0};
    struct tc_hostlist *list = tc_hostlist_new(err);
    found = found ? found : &own;
    *found = (struct tc_resource){.system = TC_SITE_NONE};
    if (list && gather(list, options, found, err) < 0) {
        tc_hostlist_free(list);
        return NULL;
    }
    return list;
}
