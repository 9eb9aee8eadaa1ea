#include "file/origin_fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_local(const char *type)
{
    static const char *const local[] = {"tmpfs", "ramfs", "ext2", "ext3",     "ext4",    "xfs",
                                        "btrfs", "f2fs",  "zfs",  "bcachefs", "overlay", "hugetlbfs"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        if (strcmp(type, local[i]) == 0)
            return true;
    return false;
}

/* "36 35 98:0 /root /mount options tags - type device options": whether it is of device, and then its type. */
static bool read_mount(const char *line, unsigned major, unsigned minor, char type[64])
{
    unsigned number[2];
    const char *end = strstr(line, " - ");
    return end && sscanf(line, "%*u %*u %u:%u", &number[0], &number[1]) == 2 && number[0] == major &&
           number[1] == minor && sscanf(end + 3, "%63s", type) == 1;
}

bool tc_file_may_hang(int fd)
{
    struct statx status;
    char *line = NULL, type[64] = "";
    size_t size = 0;
    bool found = false;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) != 0)
        return true;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (mounts && !found && getline(&line, &size, mounts) > 0)
        found = read_mount(line, status.stx_dev_major, status.stx_dev_minor, type);
    free(line);
    if (mounts)
        fclose(mounts);
    return !found || !is_local(type);
}
