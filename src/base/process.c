#include "base/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

enum { STATE_FIELD = 3, START_FIELD = 22 };

/* /proc/PID/stat as text, "" when there is none. Returns the parenthesis after the program's name, which may hold
 * anything itself; NULL. */
static char *read_stat(uint32_t pid, char text[1024])
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, 1023);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    char *at = strrchr(text, ')');
    return at && at[1] == ' ' ? at : NULL;
}

int tc_process_start(uint32_t pid, uint64_t *start)
{
    char text[1024];
    char *at = read_stat(pid, text);
    if (!at || at[2] == 'Z' || at[2] == 'X')
        return -1;
    for (int field = STATE_FIELD - 1; at && field < START_FIELD; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return -1;
    *start = strtoull(at + 1, NULL, 10);
    return 0;
}

void tc_process_text(uint32_t pid, char out[TC_PROCESS_TEXT])
{
    char text[1024], name[64];
    char *end = pid ? read_stat(pid, text) : NULL;
    char *begin = end ? strchr(text, '(') : NULL;
    if (pid == 0) {
        snprintf(out, TC_PROCESS_TEXT, "another process");
    } else if (!begin) {
        snprintf(out, TC_PROCESS_TEXT, "process %u", pid);
    } else {
        *end = '\0';
        snprintf(out, TC_PROCESS_TEXT, "process %u (%s%s)", pid, tc_escape(name, sizeof name, begin + 1),
                 end[2] == 'T' || end[2] == 't' ? ", stopped" : "");
    }
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
