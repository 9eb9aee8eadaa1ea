/* partial.h - what an interrupted session left of a file: .treecast/NAME.SESSION.part that nobody holds.
 *
 * One a NAME is kept, for 24 hours, and goes first when space is short. Nothing in it is believed: whoever adopts it
 * compares every chunk with its signed digest, so no record of what is right in it is kept, and a kill at any point or
 * lost power can spoil nothing. All calls may block. Private to this module but for expire. */
#ifndef TC_FILE_PARTIAL_H
#define TC_FILE_PARTIAL_H

#include "file/folder.h"

#define TC_PARTIAL_SECONDS (24u * 60 * 60)

/* Take over the newest left-over of NAME, written in the last 24 hours, as the file own in DIR/.treecast: a descriptor,
 * flock'ed, of a file of at most size bytes with no other name. -TC_E_NOTFOUND without err when there is none. The folder's
 * lock is held. */
int tc_partial_adopt(struct tc_folder *folder, const char *name, const char *own, uint64_t size);

/* Remove every left-over of NAME but the file but (NULL: all). The folder's lock is held. */
void tc_partial_drop(struct tc_folder *folder, const char *name, const char *but);

/* Remove left-overs, oldest first, until bytes are free of which space are now. Nothing is removed when all of them would
 * not be enough. The folder's lock is not held. True when something was removed. */
bool tc_partial_make_space(struct tc_folder *folder, uint64_t space, uint64_t bytes);

/* Remove left-overs that were last written more than seconds ago (or that long after now: the clock was set back). */
void tc_partial_expire(struct tc_folder *folder, uint64_t seconds);

#endif
