/* local.h - a sender's hard link of its source for the agent of its own host.
 *
 * The agent may not reach outside its directory, so the sender makes the link: DIR/.treecast/SESSION.link, which the
 * agent takes as the file of that session (tc_sink_options.source). */
#ifndef TC_FILE_LOCAL_H
#define TC_FILE_LOCAL_H

#include "data/page.h"
#include "base/err.h"

/* Link the file that fd is of (borrowed). TC_E_POLICY: another owner's file or directory, another file system; also no
 * file with a name. */
int tc_local_link(const char *dir, const uint8_t session[TC_SESSION_ID_SIZE], int fd, struct tc_err *err);
/* Remove the link if the agent has not taken it. */
void tc_local_unlink(const char *dir, const uint8_t session[TC_SESSION_ID_SIZE]);

#endif
