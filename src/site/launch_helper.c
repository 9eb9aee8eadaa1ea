#include "site/launch_helper.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "site/launch_request.h"
#include "site/program.h"

enum {
    LINE_SIZE = 512,
    TURN_MS = 250,  /* at most between two looks at deadlines */
    PAUSE_MS = 250, /* before a login is tried again, at first; twice as long each time */
    PAUSE_MOST_MS = 8000,
    LAST_SECONDS = 20, /* for launches to end by themselves once the sender is gone */
    HARD_SECONDS = 2   /* from asking a launch to end to ending it */
};

struct launch { /* one process that was started to reach one host or more */
    struct launch *next;
    struct tc_program process;
    char *request; /* to its standard input */
    size_t size, sent;
    size_t first, count; /* of the launch request's hosts, the one that it reaches first */
    bool up, asked;      /* it has its launch request; it was asked to end */
    uint64_t deadline;   /* ms; 0: none */
    char line[LINE_SIZE], last[LINE_SIZE];
    size_t used;
};

struct group {
    size_t first, count;
};

struct host { /* what is known of the launch request's host of the same place; beside the sender only */
    unsigned tries;
    uint64_t again_at; /* ms; 0: it is not to be tried again */
    char why[LINE_SIZE];
};

struct helper {
    struct tc_launch_request request;
    struct launch *launches;
    unsigned starting; /* launches that are not up yet */
    struct group *waiting;
    size_t waiting_count, waiting_at;
    struct host *hosts;   /* NULL: not beside the sender */
    uint64_t again_until; /* ms */
    bool alone;           /* standard input has ended */
    uint64_t last;        /* ms: when alone, the end */
    int signals;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* word: "failed" or "unreached". */
static void say(const struct helper *helper, const char *word, size_t first, size_t count, const char *why)
{
    for (size_t i = first; i < first + count; i++) {
        char line[LINE_SIZE + 64];
        int size =
            snprintf(line, sizeof line, TC_LAUNCH_HELPER_SAYS "%s %u %s\n", word, helper->request.hosts[i].number, why);
        if (write(STDOUT_FILENO, line, (size_t)size) < 0)
            return; /* nobody listens any more */
    }
}

static void say_failed(const struct helper *helper, size_t first, size_t count, const char *why)
{
    say(helper, "failed", first, count, why);
}

/* Becoming the agent. */

static int key_file(const char *key, struct tc_err *err)
{
    int fd = memfd_create("treecast-key", 0);
    if (fd < 0)
        return tc_fail_errno(err, errno, "memfd_create");
    if (write(fd, key, strlen(key)) != (ssize_t)strlen(key) || lseek(fd, 0, SEEK_SET) < 0)
        return tc_fail_errno(err, errno, "the key");
    return fd;
}

static int become_agent(const struct tc_launch_request *request, const struct tc_launch_request_host *host,
                        struct tc_err *err)
{
    const char **argv = calloc(request->option_count + 16, sizeof *argv);
    char number[16];
    size_t count = 0;
    if (!argv)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    const char *const words[] = {"treecast", "recv", "--join", request->join, "--as", host->name};
    for (; count < sizeof words / sizeof words[0]; count++)
        argv[count] = words[count];
    if (request->key) {
        int fd = key_file(request->key, err);
        if (fd < 0)
            return fd;
        snprintf(number, sizeof number, "%d", fd);
        argv[count++] = "--key-fd";
        argv[count++] = number;
    }
    if (request->dir) {
        argv[count++] = "--dir";
        if (!(argv[count++] = tc_launch_request_fill(request->dir, host, err)))
            return -err->reason;
    }
    argv[count++] = "--quiet";
    for (size_t i = 0; i < request->option_count; i++)
        argv[count++] = request->options[i];
    execv("/proc/self/exe", (char **)(uintptr_t)argv);
    return tc_fail_errno(err, errno, "cannot become the agent");
}

/* Starting launches. */

static bool plain(const char *text)
{
    return text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._+,:=@%-")] == '\0';
}

/* For the shell at the other end of ssh: 'it'\''s'. */
static char *quoted(const char *program, struct tc_err *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out && plain(program)) {
        fprintf(out, "%s launch-helper", program);
    } else if (out) {
        putc('\'', out);
        for (const char *at = program; *at; at++)
            fputs(*at == '\'' ? "'\\''" : (char[]){*at, '\0'}, out);
        fputs("' launch-helper", out);
    }
    if (out && fclose(out) == 0)
        return text;
    tc_fail(err, TC_E_NOMEM, "out of memory");
    return NULL;
}

static int run_shell(struct launch *launch, const char *command, const char *one, const char *two, struct tc_err *err)
{
    char *script;
    if (asprintf(&script, "%s \"$@\"", command) < 0)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    const char *const argv[] = {"/bin/sh", "-c", script, "treecast-launch", one, two, NULL};
    int result = tc_program_start(&launch->process, argv, false, err);
    free(script);
    return result;
}

static int run_ssh(struct launch *launch, const struct tc_launch_request *request,
                   const struct tc_launch_request_host *host, struct tc_err *err)
{
    char *program = quoted(request->program, err), *target = NULL;
    int result = program ? 0 : -err->reason;
    if (result == 0 && asprintf(&target, "%s%s%s", host->user ? host->user : "", host->user ? "@" : "", host->name) < 0)
        result = tc_fail(err, TC_E_NOMEM, "out of memory");
    if (result == 0) {
        result = run_shell(launch, request->command, target, program, err);
        free(target);
    }
    free(program);
    return result;
}

static int run_launch(const struct helper *helper, struct launch *launch, bool here, struct tc_err *err)
{
    const struct tc_launch_request *request = &helper->request;
    const struct tc_launch_request_host *host = &request->hosts[launch->first];
    const char *const own[] = {"/proc/self/exe", "launch-helper", NULL};
    char *text = NULL;
    int result;
    if (here)
        return tc_program_start(&launch->process, own, false, err);
    if (request->launcher == TC_LAUNCH_ALL)
        return run_shell(launch, request->command, request->program, "launch-helper", err);
    if (request->launcher == TC_LAUNCH_SSH) {
        result = run_ssh(launch, request, host, err);
    } else {
        text = tc_launch_request_fill(request->command, host, err);
        result = text ? run_shell(launch, text, request->program, "launch-helper", err) : -err->reason;
    }
    free(text);
    return result;
}

/* Whether a host as listed is this one. */
static bool is_here(const char *name)
{
    char own[256];
    if (gethostname(own, sizeof own) < 0)
        return false;
    own[sizeof own - 1] = '\0';
    size_t size = strlen(own), size_name = strlen(name);
    if (strcmp(own, name) == 0)
        return true;
    return size < size_name ? strncmp(own, name, size) == 0 && name[size] == '.'
                            : strncmp(own, name, size_name) == 0 && own[size_name] == '.';
}

static void start_group(struct helper *helper, struct group group, bool here)
{
    const struct tc_launch_request *request = &helper->request;
    struct tc_err err = {0};
    struct launch *launch = calloc(1, sizeof *launch);
    bool all = request->launcher == TC_LAUNCH_ALL && !here,
         tree = request->launcher == TC_LAUNCH_SSH && group.count > 1;
    if (launch) {
        launch->first = group.first;
        launch->count = group.count;
        launch->request = tc_launch_request_write(request, group.first, group.count,
                                                  tree ? request->launcher : TC_LAUNCH_NONE, !all, all, &err);
    }
    if (!launch || !launch->request || run_launch(helper, launch, here, &err) < 0) {
        say_failed(helper, group.first, group.count, launch ? err.text : "out of memory");
        if (launch)
            tc_launch_request_text_free(launch->request);
        free(launch);
        return;
    }
    launch->size = strlen(launch->request);
    launch->deadline = request->patience ? now_ms() + request->patience * 1000ull : 0;
    launch->next = helper->launches;
    helper->launches = launch;
    helper->starting++;
}

/* What a login ended with that says nothing about the next one: the other end had too many, or was not ready. */
static bool is_passing(const char *why)
{
    static const char *const words[] = {"onnection closed", "onnection reset", "onnection refused",
                                        "exchange_identification", "anner exchange"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strstr(why, words[i]))
            return true;
    return false;
}

/* A host that this process could not reach; elsewhere: one of its helpers could not. */
static void not_reached(struct helper *helper, size_t index, const char *why, bool elsewhere)
{
    if (!helper->hosts) {
        say(helper, "unreached", index, 1, why);
        return;
    }
    struct host *host = &helper->hosts[index];
    uint64_t now = now_ms(), pause = elsewhere ? 1 : (uint64_t)PAUSE_MS << (host->tries < 5 ? host->tries : 5);
    pause += elsewhere
                 ? 0
                 : (now * 2654435761u + index * 97) % (pause / 2); /* those that were refused together come apart */
    snprintf(host->why, sizeof host->why, "%s", why);
    host->tries += !elsewhere;
    bool again = !helper->alone && (elsewhere || is_passing(why)) && now + pause < helper->again_until;
    host->again_at = again ? now + (pause < PAUSE_MOST_MS ? pause : PAUSE_MOST_MS) : 0;
    if (!again)
        say_failed(helper, index, 1, why);
}

static void not_reached_number(struct helper *helper, const char *words)
{
    char *why;
    unsigned long number = strtoul(words, &why, 10);
    for (size_t i = 0; i < helper->request.host_count; i++)
        if (helper->request.hosts[i].number == number) {
            not_reached(helper, i, *why == ' ' ? why + 1 : why, true);
            return;
        }
}

/* When the next host is to be tried again; 0: none is. */
static uint64_t next_again(const struct helper *helper)
{
    uint64_t next = 0;
    for (size_t i = 0; helper->hosts && i < helper->request.host_count; i++)
        if (helper->hosts[i].again_at && (next == 0 || helper->hosts[i].again_at < next))
            next = helper->hosts[i].again_at;
    return next;
}

static void start_more(struct helper *helper)
{
    while (!helper->alone && helper->waiting_at < helper->waiting_count && helper->starting < helper->request.fan)
        start_group(helper, helper->waiting[helper->waiting_at++], false);
    uint64_t now = now_ms();
    for (size_t i = 0; helper->hosts && i < helper->request.host_count; i++) {
        struct host *host = &helper->hosts[i];
        if (!host->again_at || host->again_at > now || (!helper->alone && helper->starting >= helper->request.fan))
            continue;
        host->again_at = 0;
        if (helper->alone)
            say_failed(helper, i, 1, host->why);
        else
            start_group(helper, (struct group){i, 1}, false);
    }
}

/* Who is reached from here, in which groups: neighbours stay together. */
static int divide(struct helper *helper, struct tc_err *err)
{
    const struct tc_launch_request *request = &helper->request;
    size_t first = request->self ? 1 : 0, left = request->host_count - first, groups = left;
    if (request->launcher == TC_LAUNCH_ALL)
        groups = left ? 1 : 0;
    else if (request->launcher == TC_LAUNCH_SSH && !request->flat && groups > request->fan)
        groups = request->fan;
    helper->waiting = calloc(groups + 1, sizeof *helper->waiting);
    if (!helper->waiting)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    for (; groups > 0; groups--) {
        size_t count = left / groups;
        helper->waiting[helper->waiting_count++] = (struct group){first, count};
        first += count;
        left -= count;
    }
    return 0;
}

/* The sender's own host needs no login: it goes to the front of the list and is started from here. */
static void start_here(struct helper *helper)
{
    struct tc_launch_request *request = &helper->request;
    for (size_t i = 0; request->launcher == TC_LAUNCH_SSH && !request->self && i < request->host_count; i++)
        if (is_here(request->hosts[i].name)) {
            struct tc_launch_request_host own = request->hosts[i];
            memmove(request->hosts + 1, request->hosts, i * sizeof *request->hosts);
            request->hosts[0] = own;
            request->self = true;
        }
    if (request->self)
        start_group(helper, (struct group){0, 1}, true);
}

/* What launches say, and how they end. */

/* Whether a line says anything: not a frame of stars around a banner. */
static bool tells(const char *line)
{
    for (; *line; line++)
        if (isalnum((unsigned char)*line))
            return true;
    return false;
}

static void on_line(struct helper *helper, struct launch *launch, char *line)
{
    static const char says[] = TC_LAUNCH_HELPER_SAYS;
    line[strcspn(line, "\r")] = '\0';
    if (strncmp(line, says, sizeof says - 1) != 0) {
        /* What an agent said of its end tells more than what its launcher says of it afterwards. */
        bool own = strncmp(line, "treecast ", 9) == 0, had = strncmp(launch->last, "treecast ", 9) == 0;
        if (tells(line) && (own || !had))
            snprintf(launch->last, sizeof launch->last, "%s", line);
        return;
    }
    const char *words = line + sizeof says - 1;
    if (strncmp(words, "failed ", 7) == 0) {
        dprintf(STDOUT_FILENO, "%s\n", line);
    } else if (strncmp(words, "unreached ", 10) == 0) {
        if (helper->hosts)
            not_reached_number(helper, words + 10);
        else
            dprintf(STDOUT_FILENO, "%s\n", line);
    } else if (!launch->up) {
        launch->up = true;
        launch->deadline = 0;
        launch->last[0] = '\0'; /* a banner, the message of the day */
        helper->starting--;
    }
}

/* Returns whether there may be more. */
static bool read_lines(struct helper *helper, struct launch *launch)
{
    ssize_t got = read(launch->process.from, launch->line + launch->used, sizeof launch->line - 1 - launch->used);
    if (got <= 0)
        return got < 0 && errno == EINTR;
    launch->used += (size_t)got;
    launch->line[launch->used] = '\0';
    char *at = launch->line, *end;
    while ((end = strchr(at, '\n'))) {
        *end = '\0';
        on_line(helper, launch, at);
        at = end + 1;
    }
    launch->used -= (size_t)(at - launch->line);
    memmove(launch->line, at, launch->used + 1);
    if (launch->used == sizeof launch->line - 1) /* longer than any line of ours */
        launch->used = 0;
    return true;
}

static void write_request(struct launch *launch)
{
    ssize_t done = write(launch->process.to, launch->request + launch->sent, launch->size - launch->sent);
    if (done < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    launch->sent = done < 0 ? launch->size : launch->sent + (size_t)done; /* who does not read will say why, or end */
}

static void ask_to_end(struct launch *launch)
{
    kill(-launch->process.pid, launch->asked ? SIGKILL : SIGTERM);
    launch->asked = true;
    launch->deadline = now_ms() + HARD_SECONDS * 1000;
}

static void describe_end(const struct launch *launch, int status, char *why, size_t size)
{
    if (launch->asked && strncmp(launch->last, "treecast ", 9) != 0) /* else it has said a banner, say, and hangs */
        snprintf(why, size, "not up in time");
    else if (launch->last[0])
        snprintf(why, size, "%s", launch->last);
    else if (WIFSIGNALED(status))
        snprintf(why, size, "its launch was ended by signal %d", WTERMSIG(status));
    else
        snprintf(why, size, "its launch ended (exit %d)", WEXITSTATUS(status));
}

/* A host that could not be reached leaves those behind it to the next of them. A login that failed (ssh ends with 255) or
 * hangs may be one from the wrong place; a program that is not there, or an agent that ends, is so from everywhere. */
static void on_end(struct helper *helper, struct launch *launch, int status)
{
    char why[LINE_SIZE];
    bool tree = helper->request.launcher == TC_LAUNCH_SSH;
    describe_end(launch, status, why, sizeof why);
    if (!launch->up) {
        helper->starting--;
        if (tree && (launch->asked || (WIFEXITED(status) && WEXITSTATUS(status) == 255)))
            not_reached(helper, launch->first, why, false);
        else
            say_failed(helper, launch->first, tree ? 1 : launch->count, why);
        if (tree && launch->count > 1 && !helper->alone)
            start_group(helper, (struct group){launch->first + 1, launch->count - 1}, false);
    } else if (status != 0) {
        say_failed(helper, launch->first, launch->count, why);
    }
}

static void reap(struct helper *helper)
{
    int status;
    for (struct launch **at = &helper->launches; *at;) {
        struct launch *launch = *at;
        if (waitpid(launch->process.pid, &status, WNOHANG) != launch->process.pid) {
            at = &launch->next;
            continue;
        }
        *at = launch->next;
        while (read_lines(helper, launch))
            ;
        on_end(helper, launch, status);
        tc_program_close(&launch->process);
        tc_launch_request_text_free(launch->request);
        free(launch);
        at = &helper->launches; /* the list may have grown at its head */
    }
}

/* Whoever started this is gone or done. */
static void end_alone(struct helper *helper, bool hard)
{
    if (!helper->alone)
        helper->last = now_ms() + LAST_SECONDS * 1000;
    helper->alone = true;
    for (struct launch *launch = helper->launches; launch; launch = launch->next) {
        if ((!launch->up || hard) && !launch->asked)
            ask_to_end(launch);
        else if (launch->process.to >= 0)
            close(launch->process.to);
        if (launch->up)
            launch->process.to = -1;
    }
}

static void check_deadlines(struct helper *helper)
{
    uint64_t now = now_ms();
    for (struct launch *launch = helper->launches; launch; launch = launch->next)
        if (launch->deadline && now >= launch->deadline)
            ask_to_end(launch);
    if (helper->alone && now >= helper->last) {
        helper->last = UINT64_MAX;
        end_alone(helper, true);
    }
}

static void on_signal(struct helper *helper)
{
    struct signalfd_siginfo info;
    if (read(helper->signals, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo != SIGCHLD)
        end_alone(helper, true);
}

static void on_input(struct helper *helper)
{
    char byte;
    ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
        end_alone(helper, false);
}

/* One round of waiting. */
static int turn(struct helper *helper, struct tc_err *err)
{
    size_t count = 2, at = 2;
    for (const struct launch *launch = helper->launches; launch; launch = launch->next)
        count += 2;
    struct pollfd *fds = calloc(count, sizeof *fds);
    if (!fds)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    fds[0] = (struct pollfd){.fd = helper->signals, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = helper->alone ? -1 : STDIN_FILENO, .events = POLLIN};
    for (const struct launch *launch = helper->launches; launch; launch = launch->next) {
        fds[at++] = (struct pollfd){.fd = launch->process.from, .events = POLLIN};
        fds[at++] = (struct pollfd){.fd = launch->sent < launch->size ? launch->process.to : -1, .events = POLLOUT};
    }
    uint64_t next = next_again(helper), now = now_ms();
    poll(fds, count, next == 0 || next >= now + TURN_MS ? TURN_MS : next > now ? (int)(next - now) : 0);
    at = 2;
    for (struct launch *launch = helper->launches; launch; launch = launch->next, at += 2) {
        if (fds[at].revents && !read_lines(helper, launch)) {
            close(launch->process.from);
            launch->process.from = -1;
        }
        if (fds[at + 1].revents)
            write_request(launch);
    }
    if (fds[0].revents)
        on_signal(helper);
    if (fds[1].revents)
        on_input(helper);
    free(fds);
    reap(helper);
    check_deadlines(helper);
    start_more(helper);
    return 0;
}

static int watch_signals(struct helper *helper, struct tc_err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    helper->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return helper->signals < 0 ? tc_fail_errno(err, errno, "signalfd") : 0;
}

static const struct tc_launch_request_host *own_host(const struct tc_launch_request *request)
{
    const char *name = getenv("SLURMD_NODENAME");
    for (size_t i = 0; i < request->host_count; i++)
        if (name ? strcmp(request->hosts[i].name, name) == 0 : is_here(request->hosts[i].name))
            return &request->hosts[i];
    return NULL;
}

static int launch_all(struct helper *helper, struct tc_err *err)
{
    const struct tc_launch_request *request = &helper->request;
    int result = watch_signals(helper, err);
    if (result < 0)
        return result;
    if (request->launcher == TC_LAUNCH_SSH && !request->self) {
        helper->again_until = now_ms() + request->within * 1000ull;
        helper->hosts = calloc(request->host_count, sizeof *helper->hosts);
        if (!helper->hosts)
            return tc_fail(err, TC_E_NOMEM, "out of memory");
    }
    start_here(helper);
    result = divide(helper, err);
    if (result == 0)
        start_more(helper);
    while (result == 0 &&
           (helper->launches || next_again(helper) || (!helper->alone && helper->waiting_at < helper->waiting_count)))
        result = turn(helper, err);
    free(helper->waiting);
    free(helper->hosts);
    close(helper->signals);
    return result;
}

int tc_launch_helper_run(struct tc_err *err)
{
    struct helper helper = {0};
    const struct tc_launch_request *request = &helper.request;
    int result = tc_launch_request_read(&helper.request, STDIN_FILENO, err);
    if (result < 0)
        return result;
    dprintf(STDOUT_FILENO, TC_LAUNCH_HELPER_SAYS "up\n");
    if (request->named) {
        const struct tc_launch_request_host *own = own_host(request);
        result = own ? become_agent(request, own, err)
                     : tc_fail(err, TC_E_NOTFOUND, "this host is none of those that were to be started");
    } else if (request->self && request->launcher == TC_LAUNCH_NONE) {
        result = become_agent(request, &request->hosts[0], err);
    } else {
        result = launch_all(&helper, err);
    }
    tc_launch_request_free(&helper.request);
    return result;
}
