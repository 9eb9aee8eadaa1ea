#include "base/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADDED_MAX 16
#define PASSWD_SIZE 65536 /* bytes that the strings of one user may take */

static uid_t added[ADDED_MAX];
static size_t added_count;

/* ---- users ---- */

/* The user that text, a name or a number, means. */
static bool user_of(const char *text, uid_t *uid)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end) {
        *uid = (uid_t)number;
        return !errno && number < UINT32_MAX;
    }
    struct passwd space, *user = NULL;
    char *strings = malloc(PASSWD_SIZE);
    bool found = strings && getpwnam_r(text, &space, strings, PASSWD_SIZE, &user) == 0 && user;
    if (found)
        *uid = user->pw_uid;
    free(strings);
    return found;
}

struct asked {
    uid_t uid;
    bool named;
};

static int on_key(void *arg, const char *section, const char *key, const char *value)
{
    struct asked *asked = arg;
    bool counts = (strcmp(section, "treecast") == 0 && strcmp(key, "trust") == 0) ||
                  (strcmp(section, "hook") == 0 && strcmp(key, "user") == 0);
    char *names = counts && !asked->named ? strdup(value) : NULL, *rest = NULL;
    uid_t uid;
    for (char *name = names ? strtok_r(names, ", \t", &rest) : NULL; name; name = strtok_r(NULL, ", \t", &rest))
        asked->named |= user_of(name, &uid) && uid == asked->uid;
    free(names);
    return 1;
}

bool tc_trust_named(FILE *file, uid_t uid)
{
    struct asked asked = {.uid = uid};
    return ini_parse_file(file, on_key, &asked) == 0 && asked.named;
}

static bool root_names(uid_t uid)
{
    struct stat status;
    FILE *file = fopen(TC_TRUST_FILE, "re");
    if (!file)
        return false;
    bool named = fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 &&
                 !(status.st_mode & (S_IWGRP | S_IWOTH)) && tc_trust_named(file, uid);
    fclose(file);
    return named;
}

bool tc_trusted(uid_t uid)
{
    if (uid == 0 || uid == geteuid())
        return true;
    for (size_t i = 0; i < added_count; i++)
        if (added[i] == uid)
            return true;
    int number = errno;
    bool named = root_names(uid);
    errno = number;
    return named;
}

int tc_trust_add(const char *name, struct tc_err *err)
{
    uid_t uid;
    if (!user_of(name, &uid))
        return tc_fail(err, TC_E_USAGE, "there is no user '%s'", name);
    if (added_count == ADDED_MAX)
        return tc_fail(err, TC_E_LIMIT, "no more than %d users", ADDED_MAX);
    added[added_count++] = uid;
    return 0;
}

/* ---- what belongs to them ---- */

int tc_trust_owner(uid_t uid, const char *shown, struct tc_err *err)
{
    if (tc_trusted(uid))
        return 0;
    return tc_fail(
        err, TC_E_POLICY,
        "%s belongs to uid %lu, whom neither this user nor root trusts: have root remove it or name that user "
        "(trust in " TC_TRUST_FILE "), or choose another directory (-d, TREECAST_DIR)",
        shown, (unsigned long)uid);
}

int tc_trust_fd(int fd, const char *shown, struct tc_err *err)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return tc_fail_errno(err, errno, "cannot read %s", shown);
    int rc = tc_trust_owner(status.st_uid, shown, err);
    if (rc == 0 && S_ISDIR(status.st_mode) && (status.st_mode & (S_IWGRP | S_IWOTH)))
        return tc_fail(err, TC_E_POLICY,
                       "others may write to %s: chmod go-w it, or choose another directory (-d, TREECAST_DIR)", shown);
    return rc;
}

int tc_trust_peer(int fd, const char *shown, struct tc_err *err)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return tc_fail_errno(err, errno, "cannot tell who serves %s", shown);
    return tc_trust_owner(peer.uid, shown, err);
}

/* Takes fd, which may have been opened for its path only, and gives one that can be read where that is allowed. */
static int readable(int fd, const char *shown, struct tc_err *err)
{
    int rc = tc_trust_fd(fd, shown, err);
    int open_fd = rc == 0 ? openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (rc == 0 && open_fd < 0 && errno == EACCES) /* one may pass through it, if not list it */
        return fd;
    if (rc == 0 && open_fd < 0)
        rc = tc_fail_errno(err, errno, "cannot open %s", shown);
    close(fd);
    return rc < 0 ? rc : open_fd;
}

static bool is_link(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISLNK(status.st_mode);
}

int tc_trust_open_dir(const char *path, struct tc_err *err)
{
    char plain[PATH_MAX];
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') /* they would make O_NOFOLLOW follow */
        length--;
    if (length >= sizeof plain)
        return tc_fail(err, TC_E_USAGE, "the directory's name is too long");
    memcpy(plain, path, length);
    plain[length] = '\0';
    int fd = open(plain, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && is_link(fd)) {
        int rc = tc_trust_fd(fd, plain, err);
        close(fd);
        if (rc < 0)
            return rc;
        fd = open(plain, O_PATH | O_CLOEXEC);
    }
    if (fd < 0)
        return tc_fail_errno(err, errno, "cannot open %s", plain);
    return readable(fd, plain, err);
}

int tc_trust_open_dir_at(int fd, const char *name, const char *shown, struct tc_err *err)
{
    int inside = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inside < 0 && (errno == ELOOP || errno == ENOTDIR))
        return tc_fail(err, TC_E_POLICY, "%s is a link or not a directory: choose another directory", shown);
    if (inside < 0)
        return tc_fail_errno(err, errno, "cannot open %s", shown);
    return readable(inside, shown, err);
}
