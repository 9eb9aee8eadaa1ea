/* mpi_norm.c - an array in every rank of an MPI program: attached with treecast, and with MPI_Bcast beside it.
 *
 *     mpicc mpi_norm.c $(pkg-config --cflags --libs treecast) -lm -o mpi_norm
 *     treecast send -w node[01-16] A.npy
 *     mpiexec -n 512 ./mpi_norm A.npy [DIR]
 *
 * An agent has to run on each host (treecast recv). Each rank attaches a float64 array and computes its norm, then rank 0
 * gives a copy of the array to all ranks with MPI_Bcast and each computes the norm of that. The norms must be equal to
 * the last bit. For each host it prints what both take of its memory (proportional set size: a page that n processes
 * share counts 1/n in each, so that the sum over a host's ranks is what it really holds). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <mpi.h>
#include <treecast.h>

#define MESSAGE_MAX ((size_t)1 << 30) /* MPI_Bcast counts with int */

struct result {
    double norm, seconds;
    double memory; /* bytes of this host, all its ranks together */
};

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static double norm(const double *x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* Proportional set size of the mapping that holds address, in bytes. */
static double mapped_memory(const void *address)
{
    char line[512];
    uintptr_t from, to;
    unsigned long kib = 0;
    int inside = 0;
    FILE *maps = fopen("/proc/self/smaps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
            inside = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (inside && sscanf(line, "Pss: %lu kB", &kib) == 1)
            break;
    }
    if (maps)
        fclose(maps);
    return (double)kib * 1024;
}

/* Once every rank has looked at all of it. */
static double host_memory(const void *address, MPI_Comm host)
{
    double sum = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    double own = mapped_memory(address);
    MPI_Allreduce(&own, &sum, 1, MPI_DOUBLE, MPI_SUM, host);
    return sum;
}

static void attach(const char *name, const char *dir, tc_array_handle **array)
{
    if (tc_array_attach(name, dir, 60, array) < 0)
        die(tc_array_error());
    const char *dtype = tc_array_dtype(*array);
    if (!dtype || strcmp(dtype, "<f8") != 0)
        die("a float64 array is wanted");
}

static struct result with_treecast(const char *name, const char *dir, MPI_Comm host, tc_array_handle **array)
{
    struct result result;
    double began = MPI_Wtime();
    attach(name, dir, array);
    result.seconds = MPI_Wtime() - began;
    result.norm = norm(tc_array_data(*array), tc_array_size(*array) / sizeof(double));
    result.memory = host_memory(tc_array_data(*array), host);
    return result;
}

static struct result with_bcast(const tc_array_handle *array, int rank, MPI_Comm host)
{
    struct result result;
    size_t size = tc_array_size(array);
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        die("out of memory");
    if (rank == 0)
        memcpy(copy, tc_array_data(array), size);
    MPI_Barrier(MPI_COMM_WORLD);
    double began = MPI_Wtime();
    for (size_t at = 0; at < size; at += MESSAGE_MAX)
        MPI_Bcast((char *)copy + at, (int)(size - at < MESSAGE_MAX ? size - at : MESSAGE_MAX), MPI_BYTE, 0,
                  MPI_COMM_WORLD);
    result.seconds = MPI_Wtime() - began;
    mprotect(copy, size, PROT_READ); /* also makes it a mapping of its own, apart from its neighbours */
    result.norm = norm(copy, size / sizeof(double));
    result.memory = host_memory(copy, host);
    munmap(copy, size);
    return result;
}

/* Whether all ranks have the same number. */
static int agreed(double value)
{
    double least, most;
    MPI_Allreduce(&value, &least, 1, MPI_DOUBLE, MPI_MIN, MPI_COMM_WORLD);
    MPI_Allreduce(&value, &most, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return least == most;
}

static void report(const struct result *treecast, const struct result *bcast, size_t size, MPI_Comm host)
{
    char name[MPI_MAX_PROCESSOR_NAME];
    int length, rank, ranks;
    MPI_Get_processor_name(name, &length);
    MPI_Comm_rank(host, &rank);
    MPI_Comm_size(host, &ranks);
    double bytes = size > 0 ? (double)size : 1, mib = 1 << 20;
    if (rank == 0)
        printf("%s: %d ranks, treecast %.1f MiB (%.2f copies), MPI_Bcast %.1f MiB (%.2f copies)\n", name, ranks,
               treecast->memory / mib, treecast->memory / bytes, bcast->memory / mib, bcast->memory / bytes);
    fflush(stdout);
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    int rank;
    MPI_Comm host;
    tc_array_handle *array = NULL;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &host);
    if (argc < 2)
        die("usage: mpi_norm NAME [DIR]");
    struct result treecast = with_treecast(argv[1], argc > 2 ? argv[2] : NULL, host, &array);
    struct result bcast = with_bcast(array, rank, host);
    report(&treecast, &bcast, tc_array_size(array), host);
    int equal = agreed(treecast.norm) && agreed(bcast.norm) && treecast.norm == bcast.norm;
    if (rank == 0)
        printf("norm %.17g, %s; attached in %.3f s, MPI_Bcast %.3f s\n", treecast.norm,
               equal ? "equal in all ranks and both ways" : "DIFFERENT", treecast.seconds, bcast.seconds);
    tc_array_detach(array);
    MPI_Comm_free(&host);
    MPI_Finalize();
    return equal ? 0 : 1;
}
