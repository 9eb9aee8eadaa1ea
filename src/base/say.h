/* say.h - words for whoever reads a terminal, a pipe or a socket, by a process that does not wait for a reader. */
#ifndef TC_BASE_SAY_H
#define TC_BASE_SAY_H

#include <stddef.h>

/* Write as much of text as fd takes at once: a pipe that nobody reads, or a terminal that was stopped, takes none. Returns
 * how much that was, or -1 and errno for what will never take anything. What fd is shared with stays as it is: nothing is
 * made non-blocking. Another process that fills the same pipe in the same moment may still hold up the caller. */
ptrdiff_t tc_say(int fd, const char *text, size_t size);

#endif
