/* trash.h - directories that are removed, whatever their owners do meanwhile.
 *
 * A directory goes into the trash, which only root can enter, by one rename; what is in it is removed without recursion:
 * folders within it are moved up into the trash. Links are removed, never followed. */
#ifndef TC_SITE_TRASH_H
#define TC_SITE_TRASH_H

#include <stdbool.h>

#include "base/err.h"

/* Move name in the directory at into the trash (a directory of the same file system). 0, also where it is not there. */
int tc_trash_take(int trash, int at, const char *name, struct tc_err *err);
/* Remove what is in the trash, for seconds at most; files that take the kernel long to free are left. Whether it is empty. */
bool tc_trash_empty(int trash, double seconds);
/* The same in a process of its own that is nobody's child and holds nothing else open; for minutes at most. */
void tc_trash_empty_later(int trash);

#endif
