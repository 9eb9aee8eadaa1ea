#include "node/privilege.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Later than the headers of some systems; what they mean never changes. */
#define REFER (UINT64_C(1) << 13)     /* version 2 */
#define TRUNCATE (UINT64_C(1) << 14)  /* version 3 */
#define IOCTL_DEV (UINT64_C(1) << 15) /* version 5 */
#define FIRST ((UINT64_C(1) << 13) - 1)

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define OF_DIR                                                                                           \
    (READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | REFER | TRUNCATE)

/* --- capabilities --- */

#define FOR_GOOD                                                                                    \
    (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | \
     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

/* What this process has still can be had by no program that it executes, root's neither. A container may not grant the
 * right to give that up; then nothing new can be had by no_new_privs alone. */
static int lock_capabilities(struct tc_err *err)
{
    capng_get_caps_process();
    if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
        return 0;
    capng_clear(CAPNG_SELECT_BOUNDS);
    if (prctl(PR_SET_SECUREBITS, FOR_GOOD, 0, 0, 0) < 0 || capng_apply(CAPNG_SELECT_BOUNDS) < 0)
        return tc_fail_errno(err, errno, "cannot empty the bounding set of capabilities");
    return 0;
}

static int drop_capabilities(struct tc_err *err)
{
    int result = lock_capabilities(err);
    if (result < 0)
        return result;
    capng_get_caps_process();
    if (capng_have_capabilities(CAPNG_SELECT_CAPS) == CAPNG_NONE) /* a service manager's filter may forbid the calls */
        return 0;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* goes with the others anyway */
    capng_clear(CAPNG_SELECT_CAPS);
    if (capng_apply(CAPNG_SELECT_CAPS) < 0)
        return tc_fail_errno(err, errno, "cannot give up capabilities");
    return 0;
}

/* --- become --- */

/* Root needs no group but the one that files are given to. */
static int leave_groups(gid_t group, struct tc_err *err)
{
    bool given = group != (gid_t)-1;
    if (geteuid() != 0 || setgroups(given ? 1 : 0, &group) == 0 || !given || group_member(group))
        return 0;
    return tc_fail_errno(err, errno, "--group %u", (unsigned)group);
}

static int take_groups(const struct passwd *user, gid_t group, struct tc_err *err)
{
    int count = 0;
    getgrouplist(user->pw_name, user->pw_gid, NULL, &count);
    gid_t *groups = calloc((size_t)count + 1, sizeof *groups);
    if (!groups)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    if (getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
        count = 0; /* they have changed just now: without them, then */
    if (group != (gid_t)-1)
        groups[count++] = group;
    int result = setgroups((size_t)count, groups) == 0 ? 0 : tc_fail_errno(err, errno, "--user %s", user->pw_name);
    free(groups);
    return result;
}

int tc_privilege_become(const char *name, gid_t group, struct tc_err *err)
{
    if (!name)
        return leave_groups(group, err);
    errno = 0;
    const struct passwd *user = getpwnam(name);
    if (!user)
        return tc_fail(err, TC_E_NOTFOUND, "--user: there is no user '%s'", name);
    uid_t uid = user->pw_uid;
    gid_t gid = user->pw_gid;
    if (uid == geteuid() && uid == getuid())
        return leave_groups(group, err);
    if (geteuid() != 0)
        return tc_fail(err, TC_E_PERMISSION, "--user %s: only root can become another user", name);
    int result = take_groups(user, group, err);
    if (result == 0)
        result = lock_capabilities(err);
    if (result < 0)
        return result;
    if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return tc_fail_errno(err, errno, "--user %s", name);
    if (setuid(0) == 0 || geteuid() != uid || getuid() != uid)
        return tc_fail(err, TC_E_PERMISSION, "--user %s: root could be had again", name);
    return 0;
}

/* --- confine --- */

/* A place that is not here needs no right. Of a file only the rights that files have. */
static int allow_fd(int ruleset, int fd, uint64_t rights)
{
    struct stat status;
    struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
    if (fstat(fd, &status) < 0)
        return -1;
    if (!S_ISDIR(status.st_mode))
        rule.allowed_access &= OF_FILES;
    return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

static int allow(int ruleset, const char *path, uint64_t rights)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int result = allow_fd(ruleset, fd, rights);
    close(fd);
    return result;
}

/* What resolving a name, loading its libraries and looking at this host take. A user who is not root may read no secrets
 * in /etc anyway; root may read only these of its files, and after one of them was replaced it needs a new start. */
static int allow_reading(int ruleset)
{
    static const char *const places[] = {"/usr/lib",
                                         "/usr/lib64",
                                         "/usr/share/zoneinfo",
                                         "/usr/local/lib",
                                         "/lib",
                                         "/lib64",
                                         "/proc",
                                         "/sys",
                                         "/run/systemd/resolve",
                                         "/run/resolvconf",
                                         "/run/NetworkManager",
                                         "/etc/hosts",
                                         "/etc/resolv.conf",
                                         "/etc/nsswitch.conf",
                                         "/etc/host.conf",
                                         "/etc/gai.conf",
                                         "/etc/services",
                                         "/etc/ld.so.cache",
                                         "/etc/localtime",
                                         "/etc/ssl/openssl.cnf",
                                         "/dev/urandom"};
    int result = geteuid() == 0 ? 0 : allow(ruleset, "/etc", READ);
    for (size_t i = 0; i < sizeof places / sizeof places[0] && result == 0; i++)
        result = allow(ruleset, places[i], READ);
    return result ? result : allow(ruleset, "/dev/null", OF_FILES);
}

static int landlock(int dir_fd)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 0) /* not built in, or not switched on */
        return 0;
    uint64_t known =
        FIRST | (version >= 2 ? REFER : 0) | (version >= 3 ? TRUNCATE : 0) | (version >= 5 ? IOCTL_DEV : 0);
    struct landlock_ruleset_attr attributes = {.handled_access_fs = known};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
    if (ruleset < 0)
        return -1;
    int result = allow_fd(ruleset, dir_fd, OF_DIR & known);
    if (result == 0)
        result = allow_reading(ruleset);
    if (result == 0)
        result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
    int number = errno;
    close(ruleset);
    errno = number;
    return result < 0 ? -1 : (int)version;
}

int tc_privilege_confine(int dir_fd, bool was_root, struct tc_err *err)
{
    const struct rlimit none = {0, 0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ||
        (was_root && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
        return tc_fail_errno(err, errno, "cannot give up privileges");
    int version = dir_fd < 0 ? 0 : landlock(dir_fd);
    if (version < 0)
        return tc_fail_errno(err, errno, "cannot confine itself to its directory (Landlock)");
    int result = drop_capabilities(err);
    return result < 0 ? result : version;
}
