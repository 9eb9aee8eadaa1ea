#include "cli/outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/say.h"

struct tc_outlet {
    FILE *file;
    int fd;
    bool waits;
    char *kept;
    size_t size;
};

static bool keep(struct tc_outlet *outlet, const char *text, size_t size)
{
    char *more = size ? realloc(outlet->kept, outlet->size + size) : NULL;
    if (more) {
        memcpy(more + outlet->size, text, size);
        outlet->kept = more;
        outlet->size += size;
    }
    return more || size == 0;
}

static void forget(struct tc_outlet *outlet)
{
    free(outlet->kept);
    outlet->kept = NULL;
    outlet->size = 0;
}

/* What was kept goes before anything else. False: the reader is gone. */
static bool say_kept(struct tc_outlet *outlet)
{
    ptrdiff_t said = outlet->size ? tc_say(outlet->fd, outlet->kept, outlet->size) : 0;
    if (said < 0 || (size_t)said == outlet->size)
        forget(outlet);
    if (outlet->size == 0)
        return said >= 0;
    memmove(outlet->kept, outlet->kept + said, outlet->size - (size_t)said);
    outlet->size -= (size_t)said;
    return true;
}

static bool write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t put = write(fd, text, size);
        if (put < 0 && errno != EINTR)
            return false;
        text += put > 0 ? put : 0;
        size -= put > 0 ? (size_t)put : 0;
    }
    return true;
}

static ssize_t on_write(void *cookie, const char *text, size_t size)
{
    struct tc_outlet *outlet = cookie;
    if (outlet->waits)
        return write_all(outlet->fd, text, size) ? (ssize_t)size : 0;
    bool good = say_kept(outlet);
    ptrdiff_t said = good && outlet->size == 0 ? tc_say(outlet->fd, text, size) : 0;
    good &= said >= 0;
    return good && keep(outlet, text + said, size - (size_t)said) ? (ssize_t)size : 0;
}

struct tc_outlet *tc_outlet_new(int fd, struct tc_err *err)
{
    struct tc_outlet *outlet = calloc(1, sizeof *outlet);
    if (outlet) {
        outlet->fd = fd;
        outlet->file = fopencookie(outlet, "w", (cookie_io_functions_t){.write = on_write});
    }
    if (outlet && outlet->file)
        return outlet;
    free(outlet);
    tc_fail(err, TC_E_NOMEM, "out of memory");
    return NULL;
}

FILE *tc_outlet_file(const struct tc_outlet *outlet)
{
    return outlet->file;
}

bool tc_outlet_behind(struct tc_outlet *outlet)
{
    say_kept(outlet);
    return outlet->size > 0;
}

void tc_outlet_wait(struct tc_outlet *outlet)
{
    outlet->waits = true;
    write_all(outlet->fd, outlet->kept, outlet->size);
    forget(outlet);
}

void tc_outlet_free(struct tc_outlet *outlet)
{
    if (!outlet)
        return;
    fclose(outlet->file);
    free(outlet->kept);
    free(outlet);
}
