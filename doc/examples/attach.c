/* attach.c - wait for an array of float64, map it, and print its Euclidean norm.
 *
 *     cc attach.c $(pkg-config --cflags --libs treecast) -lm -o attach
 *     ./attach A.npy [DIR] */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <treecast.h>

int main(int argc, char **argv)
{
    tc_array_handle *array;
    if (argc < 2) {
        fprintf(stderr, "usage: %s NAME [DIR]\n", argv[0]);
        return 2;
    }
    int status = tc_array_attach(argv[1], argc > 2 ? argv[2] : NULL, 60, &array);
    if (status < 0) {
        fprintf(stderr, "%s\n", tc_array_error());
        return -status;
    }
    const char *dtype = tc_array_dtype(array);
    if (!dtype || strcmp(dtype, "<f8") != 0) {
        fprintf(stderr, "%s: float64 wanted, this is %s\n", argv[1], dtype ? dtype : "plain bytes");
        tc_array_detach(array);
        return 2;
    }
    const double *x = tc_array_data(array);
    size_t count = tc_array_size(array) / sizeof *x;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    printf("%zu elements, norm %.17g\n", count, sqrt(sum));
    tc_array_detach(array);
    return 0;
}
