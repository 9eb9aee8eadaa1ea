#include "treecast.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/client.h"
#include "file/folder.h"
#include "file/place.h"

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
    case TC_E_NOSPACE:
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
        int rc = tc_place_default(buffer, PATH_MAX, &last);
        if (rc < 0)
            return rc;
        *dir = buffer;
    }
    return tc_name_check(name, &last);
}

static int wait_for(const char *name, const char *dir, double timeout)
{
    if (isnan(timeout))
        return tc_fail(&last, TC_E_USAGE, "timeout is not a number");
    return tc_api_wait(dir, name, timeout, &last);
}

int tc_array_wait(const char *name, const char *dir, double timeout)
{
    char buffer[PATH_MAX];
    if (begin(name, &dir, buffer) < 0 || wait_for(name, dir, timeout) < 0)
        return fail();
    return TC_STATUS_OK;
}

/* A file whose mode shuts this user out may still be had from the agent, which checks who asks. What it says is of no
 * interest when it does not help. */
static int open_through_api(const char *name, const char *dir, struct tc_description *description)
{
    int fd = tc_api_fetch(dir, name, description, NULL);
    if (fd >= 0)
        last = (struct tc_err){0};
    return fd >= 0 ? fd : -last.reason;
}

/* A descriptor of the published file, its description (the caller's to free), and its path where one is wanted. */
static int open_published(const char *name, const char *dir, struct tc_description *description, char **path)
{
    struct tc_folder *folder = tc_folder_open_read(dir, &last);
    if (!folder)
        return -last.reason;
    int fd = tc_folder_open_array(folder, name, description, &last);
    if (fd == -TC_E_PERMISSION)
        fd = open_through_api(name, dir, description);
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

/* Whether NAME is there, and its size: 1, 0, or a negative reason. */
static int look_for(const char *name, const char *dir, uint64_t *size)
{
    struct tc_description description = {0};
    int fd = open_published(name, dir, &description, NULL);
    if (fd == -TC_E_NOTFOUND) {
        last = (struct tc_err){0}; /* an answer, not an error */
        return 0;
    }
    if (fd < 0)
        return fd;
    *size = description.size;
    tc_array_free(&description.array);
    close(fd);
    return 1;
}

int tc_array_published(const char *name, const char *dir)
{
    char buffer[PATH_MAX];
    uint64_t size;
    int there = begin(name, &dir, buffer);
    if (there == 0)
        there = look_for(name, dir, &size);
    return there < 0 ? fail() : there;
}

/* Where no agent is alive nothing is on its way. */
static int ask_how_far(const char *name, const char *dir, uint64_t *bytes, uint64_t *size)
{
    struct tc_err why = {0};
    int rc = tc_api_progress(dir, name, bytes, size, &why);
    if (rc == -TC_E_NOTFOUND)
        return TC_ARRAY_ABSENT;
    return rc < 0 ? tc_fail(&last, -rc, "%s", why.text) : TC_ARRAY_COMING;
}

int tc_array_status(const char *name, const char *dir, uint64_t *bytes, uint64_t *size)
{
    char buffer[PATH_MAX];
    uint64_t here = 0, whole = 0;
    int state = begin(name, &dir, buffer);
    if (state == 0)
        state = look_for(name, dir, &whole);
    if (state == 1) {
        here = whole;
        state = TC_ARRAY_PUBLISHED;
    } else if (state == 0) {
        state = ask_how_far(name, dir, &here, &whole);
    }
    if (bytes)
        *bytes = here;
    if (size)
        *size = whole;
    return state < 0 ? fail() : state;
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
