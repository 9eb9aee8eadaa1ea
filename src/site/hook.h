/* hook.h - which job a batch system starts or ends on this host, and what it makes of a hook's exit code.
 *
 * Batch systems run hooks around each job: a prolog and an epilog as root on its hosts, a task prolog as its user. What
 * they tell of the job differs; what is derived from it must be the same on every host of the job. */
#ifndef TC_SITE_HOOK_H
#define TC_SITE_HOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum tc_hook_system { TC_HOOK_SLURM, TC_HOOK_PBS, TC_HOOK_TORQUE, TC_HOOK_LSF, TC_HOOK_SGE, TC_HOOK_FLUX };
enum tc_hook_phase { TC_HOOK_PROLOG, TC_HOOK_EPILOG, TC_HOOK_TASK_PROLOG };

#define TC_HOOK_SYSTEMS "slurm|pbs|torque|lsf|sge|flux" /* in the order of the enum */

#define TC_HOOK_ID 65        /* bytes of a job's id with NUL */
#define TC_HOOK_CLUSTER 129  /* of a cluster's name */
#define TC_HOOK_LIFE 24      /* of what tells a job's start from another */
#define TC_HOOK_IDENTITY 288 /* of a job's identity */
#define TC_HOOK_NAME 256     /* of its directory's name */
#define TC_HOOK_PORTS 16     /* that a job's agents try */

struct tc_hook_job {
    enum tc_hook_system system;
    char id[TC_HOOK_ID];           /* fit to be a file's name: letters, digits, '.', '_', '-' */
    char cluster[TC_HOOK_CLUSTER]; /* the same characters; "-": the system does not say */
    char life[TC_HOOK_LIFE];       /* when, or how often, it was started under this id; "-": the system does not say */
    bool has_user;                 /* else uid and gid are not known */
    uid_t uid;
    gid_t gid;
};

/* Words of the command line: TC_E_USAGE for others. */
int tc_hook_system_parse(const char *word, enum tc_hook_system *system, struct tc_err *err);
int tc_hook_phase_parse(const char *word, enum tc_hook_phase *phase, struct tc_err *err);

/* The job that the system speaks of: operands (JOBID USER GROUP, as PBS and SGE hand them over; count may be 0) before
 * environment ("NAME=value" strings ended by NULL, borrowed); cluster NULL: as the system calls it. Looks users up, which
 * may block. TC_E_USAGE when there is no job, TC_E_NAME for an id that cannot be a file's name, TC_E_NOTFOUND for a user this host does not know. */
int tc_hook_job_read(struct tc_hook_job *job, enum tc_hook_system system, const char *const *operands, size_t count,
                     const char *cluster, char *const *environment, struct tc_err *err);

/* Whether "NAME=value" is among what a hook knows of any system, and its value has the form that it should have: a
 * number, an id, a path, or text without control characters. All else is not there for tc_hook_job_read either. */
bool tc_hook_keeps(const char *entry);

/* One line that is the same on every host of the job and differs between jobs, clusters, users and starts: what keys are
 * derived for. */
void tc_hook_identity(const struct tc_hook_job *job, char out[TC_HOOK_IDENTITY]);

/* The name of its directory: system, cluster, id and user, which every hook of the job is told. */
void tc_hook_name(const struct tc_hook_job *job, char out[TC_HOOK_NAME]);

/* Where the job's agents listen: the first of these that is free on their host. Least .. most, out of the secret (as many
 * bytes as two for each port), so that the job's hosts agree and nobody else knows; none twice. Returns how many. */
size_t tc_hook_ports(const uint8_t secret[2 * TC_HOOK_PORTS], uint16_t least, uint16_t most,
                     uint16_t out[TC_HOOK_PORTS]);

/* What to exit with when the hook has failed. Not strict: 0, whatever happened. Strict: the code with which the system
 * keeps the job from running here without an agent and does the least harm otherwise. */
int tc_hook_exit(enum tc_hook_system system, enum tc_hook_phase phase, bool strict);

/* A Flux job id in any of its forms (decimal, 0x, dotted hexadecimal, F58 with f or the sign for it) as a number. */
bool tc_hook_flux_id(const char *text, uint64_t *number);

#endif
