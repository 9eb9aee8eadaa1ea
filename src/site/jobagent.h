/* jobagent.h - the agent that publishes in a job's directory: who it is, its start and its end.
 *
 * NAME.agent in BASE/.hooks is "PID START LIFE\n": its number, when it began (field 22 of /proc/PID/stat; the two name one
 * process for ever) and which life of the job it belongs to, "-" where the batch system tells none. Nobody but root can write
 * it, so no hook ends a process that is not the agent. All calls may block. */
#ifndef TC_SITE_JOBAGENT_H
#define TC_SITE_JOBAGENT_H

#include <stdint.h>

#include "base/err.h"
#include "site/jobdir.h"

#define TC_JOBAGENT_LIFE 24 /* bytes with NUL */

/* What the agent finds open. */
#define TC_JOBAGENT_LISTEN_FD 3 /* as sd_listen_fds(3) has it */
#define TC_JOBAGENT_KEY_FD 4

enum tc_jobagent_found { TC_JOBAGENT_NONE, TC_JOBAGENT_LIVES, TC_JOBAGENT_OF_ANOTHER_LIFE };

/* Whether one runs, and who it is (pid and start, which may be NULL). An agent whose life is not known, or a hook that is told none, is of this life. */
enum tc_jobagent_found tc_jobagent_find(const struct tc_jobdir *dir, const char *life, uint32_t *pid, uint64_t *start);

struct tc_jobagent_options {
    const char *const *arguments; /* ended by NULL; argv[0] too */
    const char *life;
    int listen_fd, key_fd; /* borrowed */
};
/* Start this program (/proc/self/exe) on its own: no terminal, no environment but LISTEN_FDS, no groups, standard error into
 * the log. Waits for a line on its standard output for at most seconds. TC_E_TIMEOUT: it lives but has not said it;
 * TC_E_FAILED: it ended, with the last line of its log. */
int tc_jobagent_start(struct tc_jobdir *dir, const struct tc_jobagent_options *options, double seconds,
                      struct tc_err *err);

/* End the agent if it lives: SIGTERM, after grace SIGKILL, and wait for its end for at most seconds. TC_E_TIMEOUT: the kernel
 * has not let go of it yet; it runs no more instruction of its own and ends with what holds it up. */
int tc_jobagent_stop(struct tc_jobdir *dir, double grace, double seconds, struct tc_err *err);

#endif
