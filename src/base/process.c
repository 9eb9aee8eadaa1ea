#include "base/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STATE_FIELD = 3, START_FIELD = 22 };

int tc_process_start(uint32_t pid, uint64_t *start)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return -1;
    text[got] = '\0';
    /* The second field is the program's name in parentheses, and may hold anything. */
    char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
        return -1;
    for (int field = STATE_FIELD - 1; at && field < START_FIELD; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return -1;
    *start = strtoull(at + 1, NULL, 10);
    return 0;
}

int tc_process_watch(uint32_t pid, uint64_t start)
{
    uint64_t now;
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (fd < 0)
        return tc_process_start(pid, &now) == 0 && now == start ? -2 : -1;
    /* Looked at after the descriptor is there: it is of the process that began then, or of none. */
    if (fd >= 0 && tc_process_start(pid, &now) == 0 && now == start)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}
