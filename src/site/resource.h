/* resource.h - the hosts of the batch job that this process runs in, as its batch system documents them.
 *
 * Asked in this order; the first that says anything decides, and what it says and cannot be read is an error: another
 * list would be another set of hosts.
 *
 *   flux   FLUX_URI: `flux jobs` for FLUX_JOB_ID where that is set (a task: the instance may be the whole cluster), else
 *          `flux getattr hostlist` (a batch script has an instance of its own). Before Slurm, which may have started it
 *   slurm  SLURM_JOB_NODELIST, of every component where SLURM_HET_SIZE says that there are some
 *          (SLURM_PACK_SIZE until 19.05); SLURM_NODELIST
 *   pbs    PBS_NODEFILE (PBS and Torque): a line for each slot
 *   lsf    LSB_DJOB_HOSTFILE: a line for each slot; LSB_MCPU_HOSTS: pairs of host and slots; LSB_HOSTS: a word for each
 *          slot, missing in large jobs
 *   sge    PE_HOSTFILE: host, slots, queue, processors
 *   oar    OAR_NODEFILE, cobalt COBALT_NODEFILE: a line for each slot
 *   mpi    a host file that an MPI was told of: I_MPI_HYDRA_HOST_FILE, HYDRA_HOST_FILE (host, host:slots),
 *          OMPI_MCA_orte_default_hostfile, PRTE_MCA_prte_default_hostfile (user@host slots=N); see plan/hostfile.h
 *   wcoll  WCOLL: pdsh's, a host or list a line, and #include
 *
 * Order is kept and a host is named once, however many slots it has. */
#ifndef TC_SITE_RESOURCE_H
#define TC_SITE_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "plan/hostlist.h"

enum tc_site_system {
    TC_SITE_NONE,
    TC_SITE_FLUX,
    TC_SITE_SLURM,
    TC_SITE_PBS,
    TC_SITE_LSF,
    TC_SITE_SGE,
    TC_SITE_OAR,
    TC_SITE_COBALT,
    TC_SITE_MPI,
    TC_SITE_WCOLL
};
const char *tc_site_name(enum tc_site_system system); /* "slurm" */
bool tc_site_is_batch(enum tc_site_system system);    /* a job, not a mere file with names */

struct tc_resource {
    enum tc_site_system system;
    const char *source; /* "SLURM_JOB_NODELIST": where it says so; a constant */
    bool parts;         /* a job of several components (Slurm's heterogeneous ones) */
};

/* The world as far as it is asked, so that tests can bring their own. Texts are terminated; file and command fill out
 * (size bytes) or fail. */
struct tc_site_world {
    const char *(*variable)(void *arg, const char *name); /* NULL: not set */
    int (*file)(void *arg, const char *path, char *out, size_t size, struct tc_err *err);
    int (*command)(void *arg, const char *const *argv, char *out, size_t size, struct tc_err *err);
    void *arg;
};
/* The real one: environment, files, programs (10 s at most). */
extern const struct tc_site_world tc_site_world;

/* Add the job's hosts to list. found->system TC_SITE_NONE: there is nothing that says any; not an error. TC_E_USAGE for a
 * list that cannot be understood, with the variable's name before the line; else what file and command fail with. */
int tc_resource_find(struct tc_hostlist *list, struct tc_resource *found, const struct tc_site_world *world,
                     struct tc_err *err);

/* How Slurm says its nodes are reached: `scontrol show node`. */
struct tc_slurm_node {
    char name[TC_HOST_TEXT_MAX];
    char address[TC_HOST_TEXT_MAX]; /* NodeAddr, "" where it is the name itself */
    char bcast[TC_HOST_TEXT_MAX];   /* BcastAddr: the network that sbcast is to use; "" where none is set */
};

/* Ask about nodes ("node[1-3]"); *found is to be freed. TC_E_NOTFOUND without a scontrol; what it does not say is left
 * out. */
int tc_slurm_nodes(const char *nodes, struct tc_slurm_node **found, size_t *count, const struct tc_site_world *world,
                   struct tc_err *err);

/* What `scontrol show topology` prints: which nodes hang on which switch, for plan/switches.h. TC_E_NOTFOUND without a
 * scontrol, and where no plug-in knows switches. */
int tc_slurm_topology(char *out, size_t size, const struct tc_site_world *world, struct tc_err *err);

#endif
