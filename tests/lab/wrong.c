/* wrong.c - hardware that lies, preloaded into one program. Of what WRONG says, every WRONG_EVERY-th large piece has one
 * bit flipped, WRONG_MOST times at most: disk (what is read of a file that this process wrote itself), send (what it
 * hands to a socket or to TLS, in its own memory), receive (what came from there), write (what it writes). Small pieces,
 * and with them the heads of frames, are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGE = 16384, LARGE_IN = 8192, FILES = 1024 };

static bool written[FILES]; /* by descriptor */
static bool tls;            /* is used: what passes through sockets is not plain */

static unsigned long setting(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void perhaps_flip(const char *where, const void *bytes, size_t size)
{
    static unsigned long pieces;
    const char *wrong = getenv("WRONG");
    if (!wrong || strcmp(wrong, where) != 0)
        return;
    unsigned long piece = __atomic_add_fetch(&pieces, 1, __ATOMIC_RELAXED), every = setting("WRONG_EVERY", 1);
    if (piece % every == 0 && piece / every <= setting("WRONG_MOST", -1UL))
        ((uint8_t *)(uintptr_t)bytes)[size / 2 + piece % 64] ^= 4; /* another byte when it is sent again */
}

int close(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < FILES)
        written[fd] = false;
    return real(fd);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
    if (fd >= 0 && fd < FILES)
        written[fd] = true;
    void *copy = size >= LARGE ? malloc(size) : NULL;
    if (!copy)
        return real(fd, bytes, size, offset);
    memcpy(copy, bytes, size);
    perhaps_flip("write", copy, size);
    ssize_t put = real(fd, copy, size, offset);
    free(copy);
    return put;
}

ssize_t pread(int fd, void *bytes, size_t size, off_t offset)
{
    ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread");
    ssize_t got = real(fd, bytes, size, offset);
    if (fd >= 0 && fd < FILES && written[fd] && got >= LARGE)
        perhaps_flip("disk", bytes, (size_t)got);
    return got;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
    for (size_t i = 0; i < message->msg_iovlen && !tls; i++)
        if (message->msg_iov[i].iov_len >= LARGE)
            perhaps_flip("send", message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
    return real(fd, message, flags);
}

int SSL_write_ex(void *ssl, const void *bytes, size_t size, size_t *done)
{
    int (*real)(void *, const void *, size_t, size_t *) = dlsym(RTLD_NEXT, "SSL_write_ex");
    tls = true;
    if (size >= LARGE)
        perhaps_flip("send", bytes, size);
    return real(ssl, bytes, size, done);
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    ssize_t (*real)(int, void *, size_t, int) = dlsym(RTLD_NEXT, "recv");
    ssize_t got = real(fd, bytes, size, flags);
    if (got >= LARGE_IN && !tls)
        perhaps_flip("receive", bytes, (size_t)got);
    return got;
}

int SSL_read_ex(void *ssl, void *bytes, size_t size, size_t *got)
{
    int (*real)(void *, void *, size_t, size_t *) = dlsym(RTLD_NEXT, "SSL_read_ex");
    tls = true;
    int rc = real(ssl, bytes, size, got);
    if (rc == 1 && *got >= LARGE_IN)
        perhaps_flip("receive", bytes, *got);
    return rc;
}
