/* origin_fs.h - whether reading a file may take for ever: its file system is a server's (NFS, FUSE), and not a disk or memory
 * of this host. Found without asking the file system, which may hang already. */
#ifndef TC_FILE_ORIGIN_FS_H
#define TC_FILE_ORIGIN_FS_H

#include <stdbool.h>

/* False for what is known to be of this host; true for all else, also what is not known. */
bool tc_file_may_hang(int fd);

#endif
