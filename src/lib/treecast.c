#include "treecast.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "door/client.h"
#include "file/folder.h"

struct tc_array_handle {
    struct tc_description description;
    char *path;
    void *map; /* the whole file; NULL for an empty one, which cannot be mapped */
};

static _Thread_local struct tc_err last;

/* The reason in last as a status of the public header. */
static int fail(void)
{
    switch (last.reason) {
    case TC_E_USAGE:
    case TC_E_NAME:
        return TC_STATUS_USAGE;
    case TC_E_INTEGRITY:
    case TC_E_FORMAT:
        return TC_STATUS_INTEGRITY;
    case TC_E_NOMEM:
    case TC_E_NOROOM:
    case TC_E_PERMISSION:
    case TC_E_LIMIT:
    case TC_E_IO:
        return TC_STATUS_RESOURCE;
    case TC_E_TIMEOUT:
    case TC_E_DEADLINE:
        return TC_STATUS_TIMEOUT;
    case TC_E_NOTFOUND:
        return TC_STATUS_NOTFOUND;
    default:
        return TC_STATUS_FAILED;
    }
}

/* Every call begins here: forget the last error, check the name, and find the directory (in buffer where it is the
 * default). */
static int begin(const char *name, const char **dir, char buffer[PATH_MAX])
{
    last = (struct tc_err){0};
    if (!name || (*dir && !**dir))
        return tc_fail(&last, TC_E_USAGE, "no name, or an empty directory name");
    if (!*dir) {
        tc_folder_default(buffer, PATH_MAX);
        *dir = buffer;
    }
    return tc_name_check(name, &last);
}

static int wait_for(const char *name, const char *dir, double timeout)
{
    if (isnan(timeout))
        return tc_fail(&last, TC_E_USAGE, "timeout is not a number");
    return tc_door_wait(dir, name, timeout, &last);
}

int tc_array_wait(const char *name, const char *dir, double timeout)
{
    char buffer[PATH_MAX];
    if (begin(name, &dir, buffer) < 0 || wait_for(name, dir, timeout) < 0)
        return fail();
    return TC_STATUS_OK;
}

/* A descriptor of the published file, its description where one is wanted, and its path. */
static int open_published(const char *name, const char *dir, struct tc_description *description, char **path)
{
    struct tc_folder *folder = tc_folder_open_read(dir, &last);
    if (!folder)
        return -last.reason;
    int fd = tc_folder_open_array(folder, name, description, &last);
    if (fd >= 0 && path && asprintf(path, "%s/%s", tc_folder_path(folder), name) < 0) {
        *path = NULL;
        close(fd);
        fd = tc_fail(&last, TC_E_NOMEM, "out of memory");
    }
    tc_folder_close(folder);
    return fd;
}

static int map(struct tc_array_handle *handle, int fd)
{
    const struct tc_description *description = &handle->description;
    if (description->size > SIZE_MAX)
        return tc_fail(&last, TC_E_LIMIT, "%s is larger than this process can map", handle->path);
    if (description->size == 0)
        return 0;
    void *place = mmap(NULL, (size_t)description->size, PROT_READ, MAP_SHARED, fd, 0);
    if (place == MAP_FAILED)
        return tc_fail_errno(&last, errno, "cannot map %s", handle->path);
    handle->map = place;
    return 0;
}

static int open_and_map(struct tc_array_handle *handle, const char *name, const char *dir)
{
    int fd = open_published(name, dir, &handle->description, &handle->path);
    if (fd < 0)
        return fd;
    int rc = map(handle, fd);
    close(fd);
    return rc;
}

static int attach(const char *name, const char *dir, double timeout, tc_array_handle **handle)
{
    char buffer[PATH_MAX];
    int rc = begin(name, &dir, buffer);
    if (rc == 0)
        rc = wait_for(name, dir, timeout);
    if (rc < 0)
        return rc;
    struct tc_array_handle *made = calloc(1, sizeof *made);
    if (!made)
        return tc_fail(&last, TC_E_NOMEM, "out of memory");
    rc = open_and_map(made, name, dir);
    if (rc < 0)
        tc_array_detach(made);
    else
        *handle = made;
    return rc;
}

int tc_array_attach(const char *name, const char *dir, double timeout, tc_array_handle **handle)
{
    *handle = NULL;
    return attach(name, dir, timeout, handle) < 0 ? fail() : TC_STATUS_OK;
}

const void *tc_array_data(const tc_array_handle *handle)
{
    static const char nothing[1];
    return handle->map ? (const char *)handle->map + handle->description.array.offset : nothing;
}

size_t tc_array_size(const tc_array_handle *handle)
{
    return (size_t)(handle->description.size - handle->description.array.offset);
}

const char *tc_array_path(const tc_array_handle *handle)
{
    return handle->path;
}

const char *tc_array_dtype(const tc_array_handle *handle)
{
    return handle->description.array.dtype;
}

size_t tc_array_item_size(const tc_array_handle *handle)
{
    return handle->description.array.described ? (size_t)handle->description.array.item_size : 1;
}

unsigned tc_array_ndim(const tc_array_handle *handle)
{
    return handle->description.array.ndim;
}

uint64_t tc_array_extent(const tc_array_handle *handle, unsigned dimension)
{
    const struct tc_array *array = &handle->description.array;
    return dimension < array->ndim ? array->shape[dimension] : 0;
}

char tc_array_order(const tc_array_handle *handle)
{
    return handle->description.array.fortran ? 'F' : 'C';
}

int tc_array_published(const char *name, const char *dir)
{
    char buffer[PATH_MAX];
    if (begin(name, &dir, buffer) < 0)
        return fail();
    int fd = open_published(name, dir, NULL, NULL);
    if (fd == -TC_E_NOTFOUND) {
        last = (struct tc_err){0}; /* an answer, not an error */
        return 0;
    }
    if (fd < 0)
        return fail();
    close(fd);
    return 1;
}

void tc_array_detach(tc_array_handle *handle)
{
    if (!handle)
        return;
    if (handle->map)
        munmap(handle->map, (size_t)handle->description.size);
    tc_array_free(&handle->description.array);
    free(handle->path);
    free(handle);
}

const char *tc_array_error(void)
{
    return last.text;
}
