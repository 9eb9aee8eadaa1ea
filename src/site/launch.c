#include "site/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "site/program.h"
#include "site/launch_helper.h"

struct tc_launch {
    struct tc_program helper;
    char line[1024];
    size_t used;
};

static int write_all(int fd, const char *text, struct tc_err *err)
{
    size_t left = strlen(text);
    fcntl(fd, F_SETFL, 0); /* it reads all of it before it does anything else */
    while (left > 0) {
        ssize_t done = write(fd, text, left);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return tc_fail_errno(err, errno, "the helper that launches agents is gone");
        text += done;
        left -= (size_t)done;
    }
    return 0;
}

struct tc_launch *tc_launch_start(const struct tc_launch_request *request, struct tc_err *err)
{
    static const char *const argv[] = {"/proc/self/exe", "launch-helper", NULL};
    struct tc_launch *launch = calloc(1, sizeof *launch);
    char *text = launch ? tc_launch_request_write(request, 0, request->host_count, request->launcher, request->self,
                                                  request->named, err)
                        : NULL;
    if (!text || tc_program_start(&launch->helper, argv, true, err) < 0) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        tc_launch_request_text_free(text);
        free(launch);
        return NULL;
    }
    int result = write_all(launch->helper.to, text, err);
    tc_launch_request_text_free(text);
    if (result == 0)
        return launch;
    tc_launch_end(launch, 0, false);
    return NULL;
}

int tc_launch_fd(const struct tc_launch *launch)
{
    return launch->helper.from;
}

static void on_line(char *line, void (*failed)(void *arg, unsigned number, const char *why), void *arg)
{
    static const char says[] = TC_LAUNCH_HELPER_SAYS "failed ";
    char *why;
    if (strncmp(line, says, sizeof says - 1) != 0)
        return;
    unsigned long number = strtoul(line + sizeof says - 1, &why, 10);
    failed(arg, (unsigned)number, *why == ' ' ? why + 1 : why);
}

int tc_launch_take(struct tc_launch *launch, void (*failed)(void *arg, unsigned number, const char *why), void *arg)
{
    for (;;) {
        ssize_t got = read(launch->helper.from, launch->line + launch->used, sizeof launch->line - 1 - launch->used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0 || errno != EAGAIN;
        launch->used += (size_t)got;
        launch->line[launch->used] = '\0';
        char *at = launch->line, *end;
        for (; (end = strchr(at, '\n')); at = end + 1) {
            *end = '\0';
            on_line(at, failed, arg);
        }
        launch->used -= (size_t)(at - launch->line);
        memmove(launch->line, at, launch->used + 1);
        if (launch->used == sizeof launch->line - 1)
            launch->used = 0;
    }
}

static bool ends_within(pid_t pid, unsigned ms)
{
    for (unsigned waited = 0;; waited += 10) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return true;
        if (waited >= ms)
            return false;
        poll(NULL, 0, 10);
    }
}

void tc_launch_end(struct tc_launch *launch, unsigned seconds, bool stay)
{
    if (!launch)
        return;
    pid_t pid = launch->helper.pid;
    tc_program_close(&launch->helper);
    if (!stay && !ends_within(pid, seconds * 1000)) {
        kill(pid, SIGTERM);
        if (!ends_within(pid, 3000)) {
            kill(pid, SIGKILL);
            ends_within(pid, 1000);
        }
    }
    free(launch);
}
