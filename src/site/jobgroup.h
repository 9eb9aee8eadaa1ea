/* jobgroup.h - the cgroup that a batch system has made for a job, where the job's memory is counted: arrays that its agent
 * fills are to count there too.
 *
 * The agent gets a leaf of its own, GROUP/treecast: version 2 allows no process in a cgroup that has others below it, and in a
 * step's it would end with the step. Both versions, wherever the memory controller is mounted. All calls may block. */
#ifndef TC_SITE_JOBGROUP_H
#define TC_SITE_JOBGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "site/hook.h"

/* GROUP of the job. pattern: where it is below the mount point, with %j for the job's id, %u for the user's number and what
 * glob(7) has; NULL: where the job's system is known to make it. False: there is none (yet), or it is not root's. */
bool tc_jobgroup_find(const struct tc_hook_job *job, const char *pattern, char group[PATH_MAX]);

/* TC_E_USAGE for a pattern that leads elsewhere. */
int tc_jobgroup_check(const char *pattern, struct tc_err *err);

/* Put process pid into its leaf. */
int tc_jobgroup_join(const char *group, uint32_t pid, struct tc_err *err);
bool tc_jobgroup_joined(const char *group); /* whether somebody is in it */

/* For systems that make the group after the prolog: join once it is there, in a process of its own that is nobody's child and
 * ends with the process pid that began at start, at the latest. */
void tc_jobgroup_join_later(const struct tc_hook_job *job, const char *pattern, uint32_t pid, uint64_t start);

/* Nobody is in the leaf any more: remove it, and what the batch system could not remove because of it. */
void tc_jobgroup_leave(const struct tc_hook_job *job, const char *pattern);

/* Whether Slurm makes such groups: conf is the text of slurm.conf. Pure. */
bool tc_jobgroup_of_slurm(const char *conf);

#endif
