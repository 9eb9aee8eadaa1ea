/* treecast with its fallible calls wrapped by the linker: the call number $TORTURE fails once, as it would for a reason of
 * its own, and is named on standard error ("torture: malloc memory ..."). At the end $TORTURE_COUNT gets the number of
 * calls that there were; with $TORTURE_TRACE set, where it was is told too. */
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <execinfo.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

static atomic_ulong calls;
static unsigned long chosen;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("TORTURE");
    chosen = text ? strtoul(text, NULL, 10) : 0;
    atomic_store(&calls, 0);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("TORTURE_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "%lu\n", atomic_load(&calls));
    fclose(file);
}

/* Whether this call is the one; word is what a true reason says. */
static bool fails(const char *name, int number, const char *word)
{
    char line[128];
    if (atomic_fetch_add(&calls, 1) + 1 != chosen)
        return false;
    int size = snprintf(line, sizeof line, "torture: %s: %s\n", name, word ? word : strerror(number));
    if (write(STDERR_FILENO, line, (size_t)size) < 0)
        abort();
    if (getenv("TORTURE_TRACE")) {
        void *frames[16];
        backtrace_symbols_fd(frames, backtrace(frames, 16), STDERR_FILENO);
    }
    errno = number;
    return true;
}

#define WRAP(type, failure, number, word, name, parameters, arguments)         \
    type __real_##name parameters;                                             \
    type __wrap_##name parameters;                                             \
    type __wrap_##name parameters                                              \
    {                                                                          \
        return fails(#name, number, word) ? failure : __real_##name arguments; \
    }

/* clang-format off */
WRAP(void *, NULL, ENOMEM, "memory", malloc, (size_t size), (size))
WRAP(void *, NULL, ENOMEM, "memory", calloc, (size_t count, size_t size), (count, size))
WRAP(void *, NULL, ENOMEM, "memory", realloc, (void *old, size_t size), (old, size))
WRAP(void *, NULL, ENOMEM, "memory", reallocarray, (void *old, size_t count, size_t size), (old, count, size))
WRAP(char *, NULL, ENOMEM, "memory", strdup, (const char *text), (text))
WRAP(char *, NULL, ENOMEM, "memory", strndup, (const char *text, size_t size), (text, size))

WRAP(int, -1, EIO, NULL, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode))
WRAP(int, -1, EIO, NULL, fstat, (int fd, struct stat *out), (fd, out))
WRAP(int, -1, EIO, NULL, fstatat, (int fd, const char *path, struct stat *out, int flags), (fd, path, out, flags))
WRAP(int, -1, EIO, NULL, flock, (int fd, int what), (fd, what))
WRAP(int, ENOSPC, ENOSPC, "space", posix_fallocate, (int fd, off_t at, off_t size), (fd, at, size))
WRAP(ssize_t, -1, ENOSPC, NULL, write, (int fd, const void *bytes, size_t size), (fd, bytes, size))
WRAP(ssize_t, -1, EIO, NULL, pwrite, (int fd, const void *bytes, size_t size, off_t at), (fd, bytes, size, at))
WRAP(ssize_t, -1, EIO, NULL, read, (int fd, void *bytes, size_t size), (fd, bytes, size))
WRAP(ssize_t, -1, EIO, NULL, pread, (int fd, void *bytes, size_t size, off_t at), (fd, bytes, size, at))
WRAP(int, -1, EIO, NULL, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(int, -1, EIO, NULL, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
WRAP(int, -1, EIO, NULL, fsync, (int fd), (fd))
WRAP(int, -1, EIO, NULL, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
WRAP(int, -1, EIO, NULL, renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
WRAP(int, -1, EIO, NULL, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
WRAP(DIR *, NULL, ENOMEM, NULL, fdopendir, (int fd), (fd))
WRAP(FILE *, NULL, EMFILE, NULL, fopen, (const char *path, const char *mode), (path, mode))

WRAP(int, -1, EMFILE, NULL, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, -1, EADDRINUSE, "in use", bind, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
WRAP(int, -1, EADDRINUSE, "in use", listen, (int fd, int backlog), (fd, backlog))
WRAP(int, -1, EMFILE, NULL, accept4, (int fd, struct sockaddr *from, socklen_t *size, int flags), (fd, from, size, flags))
WRAP(int, -1, ECONNREFUSED, NULL, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
WRAP(int, -1, EIO, NULL, getsockname, (int fd, struct sockaddr *out, socklen_t *size), (fd, out, size))
WRAP(int, -1, EIO, NULL, getsockopt, (int fd, int level, int what, void *out, socklen_t *size), (fd, level, what, out, size))
WRAP(int, -1, EIO, NULL, setsockopt, (int fd, int level, int what, const void *in, socklen_t size), (fd, level, what, in, size))
WRAP(ssize_t, -1, ECONNRESET, "reset|closed", send, (int fd, const void *bytes, size_t size, int flags), (fd, bytes, size, flags))
WRAP(ssize_t, -1, ECONNRESET, "reset|closed", sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP(ssize_t, -1, ECONNRESET, "reset|closed", recv, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags))
WRAP(int, -1, EMFILE, "descriptors", eventfd, (unsigned start, int flags), (start, flags))
WRAP(int, EAI_MEMORY, ENOMEM, "emory", getaddrinfo, (const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out), (host, port, hints, out))
WRAP(int, EAGAIN, EAGAIN, "thread", pthread_create, (pthread_t *id, const pthread_attr_t *how, void *(*run)(void *), void *arg), (id, how, run, arg))

WRAP(struct event_base *, NULL, ENOMEM, "loop|memory", event_base_new_with_config, (const struct event_config *config), (config))
WRAP(struct event *, NULL, ENOMEM, "memory|loop", event_new, (struct event_base *base, evutil_socket_t fd, short what, event_callback_fn call, void *arg), (base, fd, what, call, arg))

WRAP(SSL_CTX *, NULL, ENOMEM, "TLS", SSL_CTX_new, (const SSL_METHOD *method), (method))
WRAP(SSL *, NULL, ENOMEM, "TLS", SSL_new, (SSL_CTX *context), (context))
WRAP(SSL_SESSION *, NULL, ENOMEM, "TLS|key|memory", SSL_SESSION_new, (void), ())
WRAP(BIO *, NULL, ENOMEM, "TLS", BIO_new, (const BIO_METHOD *method), (method))
WRAP(BIO_METHOD *, NULL, ENOMEM, "TLS", BIO_meth_new, (int type, const char *name), (type, name))
WRAP(int, 0, ENOMEM, "TLS", SSL_CTX_set_ciphersuites, (SSL_CTX *context, const char *names), (context, names))
WRAP(EVP_MD_CTX *, NULL, ENOMEM, "memory", EVP_MD_CTX_new, (void), ())
WRAP(int, 0, ENOMEM, "digest|memory", EVP_DigestInit_ex2, (EVP_MD_CTX *context, const EVP_MD *type, const OSSL_PARAM *parameters), (context, type, parameters))
WRAP(EVP_PKEY *, NULL, ENOMEM, "memory|key", EVP_PKEY_new_raw_private_key, (int type, ENGINE *engine, const unsigned char *bytes, size_t size), (type, engine, bytes, size))
WRAP(EVP_PKEY *, NULL, ENOMEM, "memory|key", EVP_PKEY_new_raw_public_key, (int type, ENGINE *engine, const unsigned char *bytes, size_t size), (type, engine, bytes, size))
WRAP(EVP_KDF *, NULL, ENOMEM, "key", EVP_KDF_fetch, (OSSL_LIB_CTX *library, const char *name, const char *properties), (library, name, properties))
WRAP(EVP_KDF_CTX *, NULL, ENOMEM, "key", EVP_KDF_CTX_new, (EVP_KDF *kdf), (kdf))
WRAP(int, 0, EIO, "random", RAND_priv_bytes, (unsigned char *bytes, int size), (bytes, size))
WRAP(ZSTD_CCtx *, NULL, ENOMEM, "codec", ZSTD_createCCtx, (void), ())
WRAP(ZSTD_DCtx *, NULL, ENOMEM, "codec", ZSTD_createDCtx, (void), ())
/* clang-format on */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return fails("open", EMFILE, NULL) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int fd, const char *path, int flags, ...);
int __wrap_openat(int fd, const char *path, int flags, ...);
int __wrap_openat(int fd, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return fails("openat", EMFILE, NULL) ? -1 : __real_openat(fd, path, flags, mode);
}

/* openat2 and Landlock. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    long words[6];
    va_list more;
    va_start(more, number);
    for (unsigned i = 0; i < 6; i++)
        words[i] = va_arg(more, long);
    va_end(more);
    if (fails("syscall", EMFILE, NULL))
        return -1;
    return __real_syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
