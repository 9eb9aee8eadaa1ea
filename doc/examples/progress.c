/* progress.c - show how far an array is until it can be attached, then its type and shape.
 *
 *     cc progress.c $(pkg-config --cflags --libs treecast) -o progress
 *     ./progress A.npy [DIR]
 *
 * A line four times a second while it is on its way; tc_array_wait sleeps in between, and wakes when it is there. */
#include <inttypes.h>
#include <stdio.h>

#include <treecast.h>

static int follow(const char *name, const char *dir)
{
    uint64_t bytes, size;
    int status;
    while ((status = tc_array_wait(name, dir, 0.25)) == TC_STATUS_TIMEOUT) {
        int state = tc_array_status(name, dir, &bytes, &size);
        if (state < 0)
            return state;
        if (state == TC_ARRAY_COMING)
            printf("%s: %" PRIu64 " of %" PRIu64 " bytes\n", name, bytes, size);
    }
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s NAME [DIR]\n", argv[0]);
        return 2;
    }
    const char *dir = argc > 2 ? argv[2] : NULL;
    tc_array_handle *array = NULL;
    int status = follow(argv[1], dir);
    if (status == 0)
        status = tc_array_attach(argv[1], dir, 0, &array);
    if (status < 0) {
        fprintf(stderr, "%s\n", tc_array_error());
        return -status;
    }
    printf("%s: %s", argv[1], tc_array_dtype(array) ? tc_array_dtype(array) : "bytes");
    for (unsigned i = 0; i < tc_array_ndim(array); i++)
        printf("%s%" PRIu64, i ? " x " : ", ", tc_array_extent(array, i));
    printf(", order %c\n", tc_array_order(array));
    tc_array_detach(array);
    return 0;
}
