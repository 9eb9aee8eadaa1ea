/* hidden.h - whether jobs can see a directory of the node at all: many sites give each job a /tmp and a /dev/shm of its own.
 * Pure. */
#ifndef TC_SITE_HIDDEN_H
#define TC_SITE_HIDDEN_H

#include <stdbool.h>
#include <stddef.h>

/* Whether path lies below a mount that hides another one, as a job's private /tmp and /dev/shm do: mountinfo (text of
 * /proc/self/mountinfo) has the same mount point twice. Returns its length within path, 0 when not. */
size_t tc_hidden_by_mount(const char *path, const char *mountinfo);

/* Whether Slurm gives each job a private directory that path lies in: conf is the text of slurm.conf, container that of
 * job_container.conf ("" where there is none). */
bool tc_hidden_by_slurm(const char *path, const char *conf, const char *container);

/* The value of key in "key=value" words of a configuration, as Slurm reads one; its length, 0 when it is not there. */
size_t tc_slurm_setting(const char *text, const char *key, const char **value);

#endif
