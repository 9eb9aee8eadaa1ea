/* inside.h - how the file module reaches what lies in DIR and DIR/.treecast. Private to this module. */
#ifndef TC_FILE_INSIDE_H
#define TC_FILE_INSIDE_H

#include <stdatomic.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"
#include "file/folder.h"

/* Open name, one component, in the directory fd: never through a link, close-on-exec. -1 and errno as open(2). */
int tc_inside_open(int fd, const char *name, int flags, mode_t mode);

/* What waiting for the folder's lock has come to; lock.c's. */
struct tc_inside_waits {
    atomic_bool hurried;
    _Atomic uint64_t failed_at; /* ms on a clock that does not go back; 0: never */
};
struct tc_inside_waits *tc_inside_waits(struct tc_folder *folder);

/* Write text as the description of the file of this inode, in place of an older one, in one step; synced off tmpfs.
 * name is for messages. Holding the lock. */
int tc_inside_describe(struct tc_folder *folder, const char *name, ino_t inode, const char *text, struct tc_err *err);

/* Unlink NAME and its description, and add its size to bytes. Holding the lock. */
int tc_inside_remove(struct tc_folder *folder, const char *name, uint64_t *bytes, struct tc_err *err);

#define TC_INSIDE_NAME_MAX 32 /* bytes of the names below, with NUL */

/* "INODE.json" or "INODE.json.tmp". */
static inline const char *tc_inside_name(char text[TC_INSIDE_NAME_MAX], ino_t inode, const char *end)
{
    snprintf(text, TC_INSIDE_NAME_MAX, "%llu%s", (unsigned long long)inode, end);
    return text;
}

#define TC_INSIDE_JSON ".json"
#define TC_INSIDE_TMP ".json.tmp"
#define TC_INSIDE_PART ".part"
#define TC_INSIDE_LINK ".link"

#endif
