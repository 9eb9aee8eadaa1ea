#include "file/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct tc_source {
    int fd;
    struct stat opened;
    char *path;
    uint8_t *head; /* comes first; NULL: nothing does */
    size_t head_size;
    uint64_t offset, size; /* the range of fd that follows */
    bool links;            /* ctime tells nothing */
};

static struct tc_source *new_source(const char *path, struct tc_err *err)
{
    struct tc_source *source = calloc(1, sizeof *source);
    if (source) {
        source->fd = -1;
        source->path = strdup(path);
    }
    if (source && source->path)
        return source;
    tc_fail(err, TC_E_NOMEM, "out of memory");
    tc_source_close(source);
    return NULL;
}

static int open_regular(struct tc_source *source, struct tc_err *err)
{
    /* Not to wait for the other end of a FIFO that was given by mistake. */
    source->fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (source->fd < 0 || fstat(source->fd, &source->opened))
        return tc_fail(err, TC_E_SOURCE, "cannot read %s: %s", source->path, strerror(errno));
    if (!S_ISREG(source->opened.st_mode))
        return tc_fail(err, TC_E_SOURCE, "%s is not a regular file", source->path);
    source->size = (uint64_t)source->opened.st_size;
    return 0;
}

struct tc_source *tc_source_open(const char *path, struct tc_err *err)
{
    struct tc_source *source = new_source(path, err);
    if (source && open_regular(source, err) == 0)
        return source;
    tc_source_close(source);
    return NULL;
}

/* A copy of the descriptor shares its offset with the caller, which is why everything is read with pread. */
static int take_range(struct tc_source *source, const struct tc_source_range *range, struct tc_err *err)
{
    source->fd = fcntl(range->fd, F_DUPFD_CLOEXEC, 0);
    if (source->fd < 0 || fstat(source->fd, &source->opened))
        return tc_fail(err, TC_E_SOURCE, "cannot read %s from descriptor %d: %s", source->path, range->fd,
                       strerror(errno));
    if (!S_ISREG(source->opened.st_mode))
        return tc_fail(err, TC_E_SOURCE, "%s: descriptor %d is not a regular file", source->path, range->fd);
    uint64_t whole = (uint64_t)source->opened.st_size;
    source->offset = range->offset;
    source->size = range->size != UINT64_MAX ? range->size : whole > range->offset ? whole - range->offset : 0;
    if (source->offset > INT64_MAX || source->size > INT64_MAX - source->offset)
        return tc_fail(err, TC_E_SOURCE, "%s: no file has this range", source->path);
    if (whole > 0 && source->offset + source->size > whole)
        return tc_fail(err, TC_E_SOURCE, "%s: the range ends beyond the file, which has %ju bytes", source->path,
                       (uintmax_t)whole);
    return 0;
}

static int take_head(struct tc_source *source, int fd, struct tc_err *err)
{
    size_t space = TC_SOURCE_HEAD_MAX + 1;
    if (fd < 0)
        return 0;
    if (!(source->head = malloc(space)))
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    while (source->head_size < space) {
        ssize_t got = read(fd, source->head + source->head_size, space - source->head_size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tc_fail(err, TC_E_SOURCE, "cannot read the head of %s from descriptor %d: %s", source->path, fd,
                           strerror(errno));
        if (got == 0)
            return 0;
        source->head_size += (size_t)got;
    }
    return tc_fail(err, TC_E_LIMIT, "the head of %s is longer than %u bytes", source->path, TC_SOURCE_HEAD_MAX);
}

struct tc_source *tc_source_open_range(const struct tc_source_range *range, const char *label, struct tc_err *err)
{
    struct tc_source *source = new_source(label, err);
    if (source && take_range(source, range, err) == 0 && take_head(source, range->head_fd, err) == 0)
        return source;
    tc_source_close(source);
    return NULL;
}

int tc_source_fd(const struct tc_source *source)
{
    bool whole = S_ISREG(source->opened.st_mode) && !source->head && source->offset == 0 &&
                 source->size == (uint64_t)source->opened.st_size;
    return whole ? source->fd : -1;
}

uint64_t tc_source_size(const struct tc_source *source)
{
    return source->head_size + source->size;
}

/* What of the bytes at *offset lies in the head; moves on past it. */
static size_t copy_head(const struct tc_source *source, uint64_t *offset, uint8_t *bytes, size_t size)
{
    if (*offset >= source->head_size)
        return 0;
    size_t left = source->head_size - (size_t)*offset, count = size < left ? size : left;
    memcpy(bytes, source->head + *offset, count);
    *offset += count;
    return count;
}

int tc_source_read(struct tc_source *source, uint64_t offset, void *bytes, size_t size, struct tc_err *err)
{
    size_t done = copy_head(source, &offset, bytes, size);
    uint8_t *at = (uint8_t *)bytes + done;
    uint64_t place = source->offset + (offset - source->head_size);
    for (size -= done; size > 0;) {
        ssize_t got = pread(source->fd, at, size, (off_t)place);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tc_fail(err, TC_E_SOURCE, "cannot read %s: %s", source->path, strerror(errno));
        if (got == 0)
            return tc_fail(err, TC_E_SOURCE, "%s became shorter while it was read", source->path);
        at += got;
        place += (uint64_t)got;
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
        (!source->links && !same_time(now.st_ctim, source->opened.st_ctim)))
        return tc_fail(err, TC_E_SOURCE, "%s changed while it was read", source->path);
    return 0;
}

void tc_source_expect_link(struct tc_source *source)
{
    source->links = true;
}

void tc_source_close(struct tc_source *source)
{
    if (!source)
        return;
    if (source->fd >= 0)
        close(source->fd);
    free(source->head);
    free(source->path);
    free(source);
}
