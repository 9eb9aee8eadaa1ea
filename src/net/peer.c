#include "net/peer.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* What a look-up found of the other end. It returns 1, 0 (there is none) or -1 (this way does not work here). */
struct found {
    unsigned uid;
    unsigned long long inode; /* 0: no process has it, so the user means nothing */
};

/* An end of a connection. IPv4 inside IPv6 is IPv4. */
struct end {
    int family;
    uint32_t address[4]; /* as in packets */
    uint16_t port;       /* the same */
};

static bool take_end(const struct sockaddr_storage *storage, struct end *end)
{
    *end = (struct end){.family = storage->ss_family};
    if (storage->ss_family == AF_INET) {
        const struct sockaddr_in *four = (const void *)storage;
        end->address[0] = four->sin_addr.s_addr;
        end->port = four->sin_port;
        return true;
    }
    const struct sockaddr_in6 *six = (const void *)storage;
    if (storage->ss_family != AF_INET6)
        return false;
    end->port = six->sin6_port;
    memcpy(end->address, &six->sin6_addr, sizeof end->address);
    if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        *end = (struct end){.family = AF_INET, .address = {end->address[3]}, .port = six->sin6_port};
    return true;
}

/* ---- sock_diag ---- */

/* The process's own, kept so that look-ups work where no descriptor is left; -1: not open. */
static int diag = -1;
static uint32_t diag_number; /* of the last request */

int tc_peer_prepare(void)
{
    if (diag < 0)
        diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    return diag < 0 ? -1 : 0;
}

static int take_answer(const char *bytes, size_t size, const struct end *there, const struct end *here,
                       struct found *found)
{
    struct nlmsghdr head;
    struct inet_diag_msg message;
    int32_t error;
    memcpy(&head, bytes, sizeof head);
    if (head.nlmsg_type == NLMSG_ERROR && size >= NLMSG_HDRLEN + sizeof error) {
        memcpy(&error, bytes + NLMSG_HDRLEN, sizeof error);
        return error == -ENOENT ? 0 : -1;
    }
    if (head.nlmsg_type != SOCK_DIAG_BY_FAMILY || size < NLMSG_HDRLEN + sizeof message)
        return -1;
    memcpy(&message, bytes + NLMSG_HDRLEN, sizeof message);
    /* Without a connection like this the kernel answers with who listens there. */
    if (message.id.idiag_sport != there->port || message.id.idiag_dport != here->port)
        return 0; /* with port 0 that is who is looked for */
    *found = (struct found){message.idiag_uid, message.idiag_inode};
    return 1;
}

/* The answer to the last request: the kernel has given it when send returns. Its size, or -1. */
static ssize_t receive(char *answer, size_t size)
{
    struct nlmsghdr head;
    for (;;) {
        ssize_t got = recv(diag, answer, size, MSG_DONTWAIT);
        if (got < (ssize_t)sizeof head)
            return -1;
        memcpy(&head, answer, sizeof head);
        if (head.nlmsg_seq == diag_number) /* else of an earlier one, which was given up */
            return got;
    }
}

static int by_diag(const struct end *there, const struct end *here, struct found *found)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 body;
    } request = {.head = {.nlmsg_len = sizeof request,
                          .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                          .nlmsg_flags = NLM_F_REQUEST,
                          .nlmsg_seq = ++diag_number},
                 .body = {.sdiag_family = (uint8_t)there->family,
                          .sdiag_protocol = IPPROTO_TCP,
                          .idiag_states = UINT32_MAX,
                          .id = {.idiag_sport = there->port,
                                 .idiag_dport = here->port,
                                 .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}}};
    char answer[4096];
    memcpy(request.body.id.idiag_src, there->address, sizeof there->address);
    memcpy(request.body.id.idiag_dst, here->address, sizeof here->address);
    if (tc_peer_prepare() < 0 || send(diag, &request, sizeof request, 0) != sizeof request)
        return -1;
    ssize_t got = receive(answer, sizeof answer);
    return got < 0 ? -1 : take_answer(answer, (size_t)got, there, here, found);
}

/* ---- /proc/net/tcp ---- */

/* An end as the file writes it: words of the address as this machine reads them, the port as people do. */
static void print_end(char out[64], const struct end *end)
{
    int used = 0;
    for (unsigned i = 0; i < (end->family == AF_INET ? 1u : 4u); i++)
        used += snprintf(out + used, 64 - (size_t)used, "%08" PRIX32, end->address[i]);
    snprintf(out + used, 64 - (size_t)used, ":%04X", ntohs(end->port));
}

static int in_file(const char *path, const struct end *there, const struct end *here, struct found *found)
{
    char line[512], from[64], to[64], wanted_from[64], wanted_to[64];
    FILE *file = fopen(path, "re");
    int rc = file ? 0 : -1;
    print_end(wanted_from, there);
    print_end(wanted_to, here);
    while (rc == 0 && fgets(line, sizeof line, file))
        if (sscanf(line, " %*u: %63s %63s %*s %*s %*s %*s %u %*s %llu", from, to, &found->uid, &found->inode) == 4 &&
            strcmp(from, wanted_from) == 0 && strcmp(to, wanted_to) == 0)
            rc = 1;
    if (file)
        fclose(file);
    return rc;
}

/* An IPv4 connection of an IPv6 socket stands in the other file. */
static struct end mapped(const struct end *end)
{
    return (struct end){.family = AF_INET6, .address = {0, 0, htonl(0xffff), end->address[0]}, .port = end->port};
}

static int by_proc(const struct end *there, const struct end *here, struct found *found)
{
    if (there->family != AF_INET)
        return in_file("/proc/net/tcp6", there, here, found);
    struct end there6 = mapped(there), here6 = mapped(here);
    int rc = in_file("/proc/net/tcp", there, here, found);
    return rc != 0 ? rc : in_file("/proc/net/tcp6", &there6, &here6, found);
}

/* ---- both ---- */

int tc_peer_listener(int fd, uid_t *uid)
{
    struct sockaddr_storage other = {0};
    socklen_t size = sizeof other;
    struct end there;
    struct found found = {0};
    if (getpeername(fd, (struct sockaddr *)(void *)&other, &size) < 0 || !take_end(&other, &there))
        return 0;
    struct end nobody = {.family = there.family};
    if (by_diag(&there, &nobody, &found) != 1 || found.inode == 0)
        return 0;
    *uid = found.uid;
    return 1;
}

int tc_peer_user(int fd, uid_t *uid, struct tc_err *err)
{
    struct sockaddr_storage own = {0}, other = {0};
    socklen_t own_size = sizeof own, other_size = sizeof other;
    struct end here, there;
    struct found found = {0};
    if (getsockname(fd, (struct sockaddr *)(void *)&own, &own_size) < 0 ||
        getpeername(fd, (struct sockaddr *)(void *)&other, &other_size) < 0)
        return errno == ENOTCONN ? 0 : tc_fail_errno(err, errno, "cannot tell whose connection this is");
    if (own.ss_family == AF_UNIX) {
        struct ucred peer;
        socklen_t size = sizeof peer;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
            return tc_fail_errno(err, errno, "cannot tell whose connection this is");
        *uid = peer.uid;
        return 1;
    }
    if (!take_end(&own, &here) || !take_end(&other, &there))
        return tc_fail(err, TC_E_AUTH, "not a connection within this host");
    int rc = by_diag(&there, &here, &found);
    if (rc < 0)
        rc = by_proc(&there, &here, &found);
    if (rc < 0)
        return tc_fail(err, TC_E_POLICY,
                       "this system does not tell whose connection this is: use a key "
                       "('treecast keygen FILE', -k FILE)");
    if (rc == 0 || found.inode == 0)
        return 0;
    *uid = found.uid;
    return 1;
}
