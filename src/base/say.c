#include "base/say.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

ptrdiff_t tc_say(int fd, const char *text, size_t size)
{
    size_t said = 0;
    while (said < size) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        if (poll(&ready, 1, 0) <= 0 || !(ready.revents & (POLLOUT | POLLERR | POLLHUP | POLLNVAL)))
            break;
        /* What is ready takes so much without waiting, as POSIX has it of pipes. */
        size_t part = size - said < PIPE_BUF ? size - said : PIPE_BUF;
        ssize_t put = write(fd, text + said, part);
        if (put < 0 && errno != EINTR && errno != EAGAIN)
            return said > 0 ? (ptrdiff_t)said : -1;
        if (put <= 0)
            break;
        said += (size_t)put;
    }
    return (ptrdiff_t)said;
}
