/* Whose the other end of a connection is: of both families, also mixed, before it is accepted and after it was closed, and
 * without sock_diag. */
#include "net/peer.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#define OTHER 4000004

enum kind { IPV4, IPV6, MIXED, KINDS }; /* mixed: IPv4 to an IPv6 socket */

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static socklen_t loopback(union address *out, bool six, in_port_t port)
{
    memset(out, 0, sizeof *out);
    if (six)
        out->six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback, .sin6_port = port};
    else
        out->four =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = port};
    return six ? sizeof out->six : sizeof out->four;
}

/* A listener on loopback, and in port where. */
static int listening(enum kind kind, in_port_t *port)
{
    union address own;
    socklen_t size = loopback(&own, kind != IPV4, 0);
    int off = 0, fd = socket(own.any.sa_family, SOCK_STREAM, 0);
    if (kind == MIXED) {
        own.six.sin6_addr = in6addr_any;
        ck_assert_int_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), 0);
    }
    ck_assert_int_eq(bind(fd, &own.any, size), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    ck_assert_int_eq(getsockname(fd, &own.any, &size), 0);
    *port = kind == IPV4 ? own.four.sin_port : own.six.sin6_port;
    return fd;
}

static int dial(enum kind kind, in_port_t port)
{
    union address there;
    socklen_t size = loopback(&there, kind == IPV6, port);
    int fd = socket(there.any.sa_family, SOCK_STREAM, 0);
    return connect(fd, &there.any, size) == 0 ? fd : -1;
}

static void expect(int fd, int answer, uid_t uid)
{
    struct tc_err err = {0};
    uid_t found = (uid_t)-1;
    int rc = tc_peer_user(fd, &found, &err);
    ck_assert_msg(rc == answer && (rc != 1 || found == uid), "%d, uid %d: %s", rc, (int)found, err.text);
}

/* A child that dials as uid, and lives until its standard input ends. */
static pid_t dial_as(uid_t uid, enum kind kind, in_port_t port, int alive[2])
{
    ck_assert_int_eq(pipe(alive), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(alive[1]);
        _exit(setuid(uid) == 0 && dial(kind, port) >= 0 && read(alive[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(alive[0]);
    return child;
}

/* diag: there is sock_diag, which knows who listens. */
static void both_ends(enum kind kind, bool diag)
{
    in_port_t port;
    int listener = listening(kind, &port), there = dial(kind, port), alive[2], status;
    uid_t uid = OTHER;
    ck_assert_int_ge(there, 0);
    expect(there, 0, 0); /* not accepted yet */
    ck_assert_int_eq(tc_peer_listener(there, &uid), diag);
    ck_assert_uint_eq(uid, diag ? geteuid() : OTHER);
    int here = accept(listener, NULL, NULL);
    expect(there, 1, geteuid());
    expect(here, 1, geteuid());
    close(there);
    expect(here, 0, 0);
    close(here);
    there = dial(kind, port);
    here = accept(listener, NULL, NULL);
    close(here);
    expect(there, 0, 0); /* accepted, and let go */
    close(there);
    if (geteuid() == 0) {
        pid_t child = dial_as(OTHER, kind, port, alive);
        here = accept(listener, NULL, NULL);
        expect(here, 1, OTHER);
        close(alive[1]);
        ck_assert(waitpid(child, &status, 0) == child && status == 0);
        close(here);
    }
    there = dial(kind, port);
    close(listener);
    ck_assert_int_eq(tc_peer_listener(there, &uid), 0); /* nor when it was closed before it accepted */
    close(there);
}

START_TEST(each_family)
{
    both_ends((enum kind)_i, true);
}
END_TEST

/* As on a kernel without sock_diag, or in a sandbox that forbids it. */
static void forbid_netlink(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    ck_assert_int_eq(tc_peer_prepare(), -1);
}

START_TEST(each_family_without_sock_diag)
{
    forbid_netlink();
    both_ends((enum kind)_i, false);
}
END_TEST

START_TEST(others)
{
    int pair[2], fd = socket(AF_INET, SOCK_STREAM, 0);
    expect(fd, 0, 0); /* not connected */
    close(fd);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    expect(pair[0], 1, geteuid());
    close(pair[0]);
    close(pair[1]);
    struct tc_err err = {0};
    uid_t uid;
    ck_assert_int_lt(tc_peer_user(-1, &uid, &err), 0);
    ck_assert(err.text[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peer");
    TCase *tcase = tcase_create("peer");
    tcase_add_loop_test(tcase, each_family, 0, KINDS);
    tcase_add_loop_test(tcase, each_family_without_sock_diag, 0, KINDS);
    tcase_add_test(tcase, others);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
