/* What a process begins with: descriptors, signals, timers, limits and variables of the one who started it are gone. What is
 * tried spoils a process for Check, so each trial has one of its own. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/startup.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { LOWEST = 100, FAR = 3000, KEPT = 110, KEPT_TOO = 1500 };

static int *line; /* that does not hold; shared with the trial's process */

static void require(bool holds, int at)
{
    if (holds)
        return;
    *line = at;
    _exit(1);
}

#define REQUIRE(condition) require(condition, __LINE__)

static void try(void (*trial)(int which), int which)
{
    int status = 0;
    line = mmap(NULL, sizeof *line, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(line, MAP_FAILED);
    pid_t child = fork();
    if (child == 0) {
        trial(which);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "status %x, line %d", (unsigned)status, *line);
    munmap(line, sizeof *line);
}

/* From now on this process's kernel is one before Linux 5.9. */
static void without_close_range(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    REQUIRE(syscall(SYS_close_range, 1000000u, 1000001u, 0) < 0 && errno == ENOSYS);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void open_many(void)
{
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int fd = open("/dev/null", O_RDONLY);
    REQUIRE(fd >= 0);
    for (int at = LOWEST; at < LOWEST + 50; at++)
        REQUIRE(dup2(fd, at) == at);
    REQUIRE(dup2(fd, KEPT_TOO) == KEPT_TOO);
    REQUIRE(dup2(fd, FAR) == FAR);
    limit.rlim_cur = 64; /* what is open beyond a limit stays open */
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void require_only_kept(void)
{
    for (int fd = 3; fd < 2 * FAR; fd++)
        REQUIRE(is_open(fd) == (fd == KEPT || fd == KEPT_TOO));
    REQUIRE(is_open(0) && is_open(1) && is_open(2));
}

/* 0: close_range; 1: the list in /proc/self/fd; 2: neither, as in a chroot without /proc. */
static void descriptors_are_closed(int which)
{
    static const int keep[] = {KEPT_TOO, 1, -1, KEPT};
    if (which > 0)
        without_close_range();
    open_many();
    if (which == 2 && chroot("/usr") < 0)
        return; /* only root can have no /proc */
    tc_startup_close(keep, 4);
    require_only_kept();
}

static void all_are_closed(int which)
{
    (void)which;
    open_many();
    tc_startup_close(NULL, 0);
    for (int fd = 3; fd < 2 * FAR; fd++)
        REQUIRE(!is_open(fd));
}

static void on_signal(int number)
{
    (void)number;
}

static void signals_and_timers_are_as_at_first(int which)
{
    (void)which;
    static const int ignored[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGCHLD, SIGALRM, SIGXFSZ};
    struct itimerval soon = {.it_value.tv_sec = 1000}, now;
    struct sigaction action;
    sigset_t all;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], i % 2 ? on_signal : SIG_IGN);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    REQUIRE(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    REQUIRE(setitimer(ITIMER_PROF, &soon, NULL) == 0);
    tc_startup_signals();
    for (int number = 1; number < NSIG; number++)
        if (sigaction(number, NULL, &action) == 0)
            REQUIRE(action.sa_handler == SIG_DFL);
    sigprocmask(SIG_SETMASK, NULL, &all);
    for (int number = 1; number < NSIG; number++)
        REQUIRE(sigismember(&all, number) != 1);
    for (int timer = ITIMER_REAL; timer <= ITIMER_PROF; timer++) {
        REQUIRE(getitimer((__itimer_which_t)timer, &now) == 0);
        REQUIRE(now.it_value.tv_sec == 0 && now.it_value.tv_usec == 0);
    }
}

static void surroundings_are_set(int which)
{
    (void)which;
    static const struct rlimit tiny = {4096, RLIM_INFINITY}, less = {1 << 20, 1 << 30}, few = {8, 1024};
    struct rlimit limit;
    struct stat here, root, null, zero;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &tiny) == 0);
    REQUIRE(setrlimit(RLIMIT_DATA, &less) == 0);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
    REQUIRE(chdir("/tmp") == 0);
    umask(0);
    close(0);
    tc_startup_surroundings();
    REQUIRE(umask(0) == 022);
    REQUIRE(stat(".", &here) == 0 && stat("/", &root) == 0 && here.st_ino == root.st_ino);
    REQUIRE(fstat(0, &zero) == 0 && stat("/dev/null", &null) == 0 && zero.st_rdev == null.st_rdev);
    REQUIRE(fcntl(0, F_GETFD) == 0);
    REQUIRE(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY);
    /* A hard limit gives way to CAP_SYS_RESOURCE only. */
    REQUIRE(getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur == limit.rlim_max);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= 1024);
}

static bool keep_good(const char *entry)
{
    return strncmp(entry, "GOOD", 4) == 0;
}

/* Where there is no /proc this process goes on with what is left. */
static void variables_are_cut(int which)
{
    (void)which;
    static char good[] = "GOOD=1", bad[] = "OPENSSL_CONF=x", again[] = "GOOD=2", more[] = "GOOD_TOO=", none[] = "GOOD";
    static char *mixed[] = {bad, good, again, none, more, NULL}, *argv[] = {NULL};
    if (chroot("/usr") < 0)
        return;
    environ = mixed;
    tc_startup_environment(argv, keep_good);
    REQUIRE(environ[0] == good);
    REQUIRE(environ[1] == more);
    REQUIRE(!environ[2]);
}

static void nothing_to_cut_is_no_new_start(int which)
{
    (void)which;
    static char good[] = "GOOD=1", *all[] = {good, NULL}, *argv[] = {NULL};
    environ = all;
    tc_startup_environment(argv, keep_good);
    REQUIRE(environ[0] == good);
    REQUIRE(!environ[1]);
}

static void (*const trials[])(int which) = {all_are_closed, signals_and_timers_are_as_at_first, surroundings_are_set,
                                            variables_are_cut, nothing_to_cut_is_no_new_start};

START_TEST(trial)
{
    try(_i < 3 ? descriptors_are_closed : trials[_i - 3], _i);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("startup");
    TCase *all = tcase_create("startup");
    tcase_add_loop_test(all, trial, 0, 3 + sizeof trials / sizeof *trials);
    suite_add_tcase(suite, all);
    return unit_run(suite);
}
