#include "file/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct tc_source {
    int fd;
    struct stat opened;
    char *path;
};

static int open_regular(struct tc_source *source, struct tc_err *err)
{
    /* Not to wait for the other end of a FIFO that was given by mistake. */
    source->fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (source->fd < 0 || fstat(source->fd, &source->opened))
        return tc_fail(err, TC_E_SOURCE, "cannot read %s: %s", source->path, strerror(errno));
    if (!S_ISREG(source->opened.st_mode))
        return tc_fail(err, TC_E_SOURCE, "%s is not a regular file", source->path);
    return 0;
}

struct tc_source *tc_source_open(const char *path, struct tc_err *err)
{
    struct tc_source *source = calloc(1, sizeof *source);
    if (source) {
        source->fd = -1;
        source->path = strdup(path);
    }
    if (!source || !source->path)
        tc_fail(err, TC_E_NOMEM, "out of memory");
    else if (open_regular(source, err) == 0)
        return source;
    tc_source_close(source);
    return NULL;
}

uint64_t tc_source_size(const struct tc_source *source)
{
    return (uint64_t)source->opened.st_size;
}

int tc_source_read(struct tc_source *source, uint64_t offset, void *bytes, size_t size, struct tc_err *err)
{
    uint8_t *at = bytes;
    while (size > 0) {
        ssize_t got = pread(source->fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tc_fail(err, TC_E_SOURCE, "cannot read %s: %s", source->path, strerror(errno));
        if (got == 0)
            return tc_fail(err, TC_E_SOURCE, "%s became shorter while it was read", source->path);
        at += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

static int same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

int tc_source_check(struct tc_source *source, struct tc_err *err)
{
    struct stat now;
    if (fstat(source->fd, &now))
        return tc_fail(err, TC_E_SOURCE, "cannot read %s: %s", source->path, strerror(errno));
    if (now.st_size != source->opened.st_size || !same_time(now.st_mtim, source->opened.st_mtim) ||
        !same_time(now.st_ctim, source->opened.st_ctim))
        return tc_fail(err, TC_E_SOURCE, "%s changed while it was read", source->path);
    return 0;
}

void tc_source_close(struct tc_source *source)
{
    if (!source)
        return;
    if (source->fd >= 0)
        close(source->fd);
    free(source->path);
    free(source);
}
