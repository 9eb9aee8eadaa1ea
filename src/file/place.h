/* place.h - where a user's arrays are published when nobody says where.
 *
 * $TREECAST_DIR, where it is set. Else a place that agents and readers of one user find alike, whatever their environment:
 * /dev/shm/treecast-UID; and where somebody else has put something there, treecast in the user's runtime directory
 * ($XDG_RUNTIME_DIR, else /run/user/UID), if that is memory and the user's alone. Once that is in use it stays so until it is
 * removed, also when /dev/shm/treecast-UID has become free. */
#ifndef TC_FILE_PLACE_H
#define TC_FILE_PLACE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* The default of this process, as tc_trusted sees it. TC_E_POLICY: the place is somebody else's and there is no other; the
 * line says whose and what to do. */
int tc_place_default(char *path, size_t size, struct tc_err *err);
/* The default of a user whom this process is about to become. */
int tc_place_of(uid_t uid, char *path, size_t size, struct tc_err *err);

#endif
