#include "cli/host_options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plan/hostfile.h"

enum { HOST_FILE_MAX = 16 << 20 }; /* bytes; far beyond any list of hosts */

static int read_all(int fd, char **bytes, size_t *size, const char *what, struct tc_err *err)
{
    size_t capacity = 0;
    *bytes = NULL;
    *size = 0;
    for (;;) {
        if (*size == capacity) {
            char *more = capacity < HOST_FILE_MAX ? realloc(*bytes, capacity = capacity ? 2 * capacity : 8192) : NULL;
            if (!more)
                return tc_fail(err, TC_E_LIMIT, "%s: too long for a list of hosts", what);
            *bytes = more;
        }
        ssize_t got = read(fd, *bytes + *size, capacity - *size);
        if (got < 0 && errno != EINTR)
            return tc_fail_errno(err, errno, "%s", what);
        if (got == 0)
            return 0;
        *size += got > 0 ? (size_t)got : 0;
    }
}

/* A host file that cannot be read is the user's mistake, whatever errno says. */
static int read_path(void *arg, const char *path, char **bytes, size_t *size, struct tc_err *err)
{
    (void)arg;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tc_fail(err, TC_E_USAGE, "host file %s: %s", path, strerror(errno));
    int result = read_all(fd, bytes, size, path, err);
    close(fd);
    return result;
}

/* path NULL: standard input. */
static int add_file(struct tc_hostlist *list, const char *path, struct tc_err *err)
{
    const struct tc_hostfile_source source = {.form = TC_HOSTFILE_LISTS, .read = read_path};
    const char *what = path ? path : "standard input";
    char *bytes = NULL;
    size_t size = 0;
    int result = path ? read_path(NULL, path, &bytes, &size, err) : read_all(STDIN_FILENO, &bytes, &size, what, err);
    if (result == 0)
        result = tc_hostfile_add(list, bytes, size, what, &source, err);
    free(bytes);
    return result;
}

static int gather(struct tc_hostlist *list, const struct tc_host_options *options, struct tc_resource *found,
                  struct tc_err *err)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < options->hosts.count; i++) {
        const char *text = options->hosts.items[i];
        result = strcmp(text, "-") == 0 ? add_file(list, NULL, err) : tc_hostlist_add(list, text, err);
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
