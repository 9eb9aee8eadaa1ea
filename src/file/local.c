#include "file/local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/trust.h"
#include "data/describe.h"
#include "file/inside.h"

#define LINK_NAME_MAX (2 * TC_SESSION_ID_SIZE + sizeof TC_INSIDE_LINK)

static void link_name(char name[LINK_NAME_MAX], const uint8_t session[TC_SESSION_ID_SIZE])
{
    tc_session_hex(session, name);
    snprintf(name + 2 * TC_SESSION_ID_SIZE, sizeof TC_INSIDE_LINK, "%s", TC_INSIDE_LINK);
}

static int open_state(const char *dir, struct tc_err *err)
{
    char shown[4096];
    snprintf(shown, sizeof shown, "%s/" TC_FOLDER_STATE, dir);
    int above = tc_trust_open_dir(dir, err);
    int state = above < 0 ? above : tc_trust_open_dir_at(above, TC_FOLDER_STATE, shown, err);
    if (above >= 0)
        close(above);
    return state;
}

/* A link makes one file of two: only its owner may wish that. */
static int check_owner(int state, int fd, struct tc_err *err)
{
    struct stat folder, source;
    if (fstat(state, &folder) < 0 || fstat(fd, &source) < 0)
        return tc_fail_errno(err, errno, "--link");
    if (folder.st_uid != source.st_uid)
        return tc_fail(err, TC_E_POLICY, "--link: the source and the agent's directory have different owners");
    if (folder.st_dev != source.st_dev)
        return tc_fail(err, TC_E_POLICY, "--link: the source is on another file system than the agent's directory");
    return 0;
}

int tc_local_link(const char *dir, const uint8_t session[TC_SESSION_ID_SIZE], int fd, struct tc_err *err)
{
    char name[LINK_NAME_MAX], path[64];
    int state = open_state(dir, err);
    if (state < 0)
        return tc_err_prefix(err, "--link");
    link_name(name, session);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int rc = check_owner(state, fd, err);
    if (rc == 0 && linkat(AT_FDCWD, path, state, name, AT_SYMLINK_FOLLOW) < 0)
        rc = tc_fail_errno(err, errno, "--link: cannot link the source into %s", dir);
    close(state);
    return rc;
}

void tc_local_unlink(const char *dir, const uint8_t session[TC_SESSION_ID_SIZE])
{
    char name[LINK_NAME_MAX];
    int state = open_state(dir, NULL);
    if (state < 0)
        return;
    link_name(name, session);
    unlinkat(state, name, 0);
    close(state);
}
