/* cmd_hook_own.h - what the files of treecast hook share. Private to them.
 *
 * cmd_hook.c       options, what the batch system says, the task prolog
 * cmd_hook_life.c  prolog and epilog: a job's directory and agent from their beginning to their end */
#ifndef TC_CLI_CMD_HOOK_OWN_H
#define TC_CLI_CMD_HOOK_OWN_H

#include "cli/cli.h"
#include "site/hook.h"

enum access { BY_USER, BY_GROUP };

struct hook_values {
    const char *system, *cluster, *base, *cluster_key, *listen, *ports, *user, *cgroup, *max_memory;
    unsigned access;
    bool strict;
};

struct hook {
    const struct hook_values *values;
    enum tc_hook_phase phase;
    struct tc_hook_job job;
    char name[TC_HOOK_NAME]; /* of its directory */
    uint16_t least, most;    /* ports */
    const char *cgroup;      /* pattern; NULL: where the system makes it */
    bool no_cgroup;          /* the agent stays where it is */
    uint64_t memory;         /* bytes for the job's arrays here; 0: no bound */
    uid_t agent;             /* whom the agent becomes; our own: nobody */
};

/* Say it to the daemon that runs the hook and to the system's log. */
void tc_hook_tell(const char *job, const char *text);
/* What there is of a text file; "" where there is none. */
void tc_hook_slurp(const char *path, char *text, size_t size);

int tc_hook_prolog(const struct hook *hook, struct tc_err *err);
int tc_hook_epilog(const struct hook *hook, struct tc_err *err);

#endif
