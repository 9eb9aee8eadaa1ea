/* lock.h - the one lock of DIR/.treecast: an flock on its file "lock". Private to the file module and libtreecast.
 *
 * It is held while names change there and in DIR, never while data is written, so it is free within milliseconds; the
 * kernel gives it back when its holder dies. A holder that is stopped, or hangs in the kernel, would hold up all others
 * for ever: so nobody waits for it for longer than TC_LOCK_MS. It must be a believed user's (base/trust.h), and only the
 * directory's owner and root can open it. Readers do not need it. All calls may block for as long:
 * none is for a loop thread. */
#ifndef TC_FILE_LOCK_H
#define TC_FILE_LOCK_H

#include "base/err.h"
#include "file/folder.h"

enum {
    TC_LOCK_MS = 5000,      /* a holder that works is done long before; a session can spare it */
    TC_LOCK_SHORT_MS = 250, /* once this process is to end (tc_folder_hurry), or when it has just waited in vain */
    TC_LOCK_AGAIN_MS = 2000 /* so long ago at most */
};

/* A descriptor whose close unlocks, or a negative reason. TC_E_BUSY names the process that holds the lock, where the
 * kernel tells. */
int tc_lock_take(struct tc_folder *folder, struct tc_err *err);

#endif
