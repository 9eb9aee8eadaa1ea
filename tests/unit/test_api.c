/* The local API: what goes over the socket, who may come in, and a client that finds its way with and without an agent. */
#include "api_agent.h"

#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "api/client.h"

#define NOBODY 65534
#define FRIEND 65533

static char folder[512];

static void set_up(void)
{
    make_folder(folder, sizeof folder);
}

static void tear_down(void)
{
    remove_folder(folder);
}

/* ---- a plain socket ---- */

static int raw_open(const char *dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/.treecast/api", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void raw_send(int fd, const char *text)
{
    size_t size = strlen(text);
    ck_assert_int_eq(send(fd, text, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* One line without its newline, and nothing of the next; its length, or 0 at the end of file. */
static size_t raw_line(int fd, char *line, size_t size)
{
    for (size_t used = 0; used < size;) {
        ssize_t got = recv(fd, line + used, size - used, MSG_PEEK);
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            return 0;
        ck_assert_msg(got > 0, "no answer in time");
        const char *newline = memchr(line + used, '\n', (size_t)got);
        size_t take = newline ? (size_t)(newline - (line + used)) + 1 : (size_t)got;
        ck_assert_int_eq(recv(fd, line + used, take, 0), (ssize_t)take);
        used += take;
        if (newline) {
            line[used - 1] = '\0';
            return used - 1;
        }
    }
    ck_abort_msg("line too long");
}

static void expect(int fd, const char *wanted)
{
    char line[4096];
    ck_assert_uint_gt(raw_line(fd, line, sizeof line), 0);
    ck_assert_msg(strstr(line, wanted) != NULL, "wanted %s, got %s", wanted, line);
}

static void expect_end(int fd)
{
    char line[4096];
    ck_assert_uint_eq(raw_line(fd, line, sizeof line), 0);
}

/* ---- a waiter in a thread ---- */

struct waiter {
    pthread_t thread;
    const char *dir;
    double timeout;
    int rc;
    struct tc_err err;
};

static void *wait_main(void *arg)
{
    struct waiter *waiter = arg;
    waiter->rc = tc_api_wait(waiter->dir, "A.npy", waiter->timeout, &waiter->err);
    return NULL;
}

static void waiter_start(struct waiter *waiter, const char *dir)
{
    *waiter = (struct waiter){.dir = dir, .timeout = TC_FOREVER};
    ck_assert_int_eq(pthread_create(&waiter->thread, NULL, wait_main, waiter), 0);
}

static void waiter_end(struct waiter *waiter, int rc)
{
    pthread_join(waiter->thread, NULL);
    ck_assert_msg(waiter->rc == rc, "wait answered %d: %s", waiter->rc, waiter->err.text);
}

/* As an agent publishes: made elsewhere, renamed. */
static void publish_file(const char *dir)
{
    char hidden[700], path[700];
    snprintf(hidden, sizeof hidden, "%s/.hidden", dir);
    snprintf(path, sizeof path, "%s/A.npy", dir);
    int fd = open(hidden, O_WRONLY | O_CREAT, 0444);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(rename(hidden, path), 0);
}

/* ---- the protocol ---- */

START_TEST(answers_follow_requests)
{
    struct agent agent;
    agent_start(&agent, folder);
    agent.status = "{\"sessions\":[]}";
    int fd = raw_open(folder);
    raw_send(fd, "{\"op\":\"ping\"}\n{\"op\":\"status\"}\n\n{\"op\":\"dance\"}\n[]\nrubbish\n{\"op\":\"ping\"");
    expect(fd, "{\"ok\":true}");
    expect(fd, "{\"sessions\":[],\"ok\":true}");
    expect(fd, "\"reason\":\"protocol\"");
    expect(fd, "\"reason\":\"usage\"");
    expect(fd, "\"reason\":\"protocol\"");
    expect(fd, "\"reason\":\"protocol\"");
    raw_send(fd, "}\n");
    expect(fd, "{\"ok\":true}");
    raw_send(
        fd,
        "{\"op\":\"wait\"}\n{\"op\":\"wait\",\"name\":\"../x\"}\n{\"op\":\"wait\",\"name\":\"A\",\"timeout\":\"1\"}\n");
    expect(fd, "\"reason\":\"usage\"");
    expect(fd, "\"reason\":\"name\"");
    expect(fd, "\"reason\":\"usage\"");
    raw_send(
        fd,
        "{\"op\":\"status\",\"name\":\"a b\"}\n{\"op\":\"status\",\"name\":7}\n{\"op\":\"ping\",\"op\":\"wait\"}\n");
    expect(fd, "\"reason\":\"name\"");
    expect(fd, "\"reason\":\"usage\"");
    expect(fd, "\"reason\":\"protocol\"");
    agent.status = NULL;
    raw_send(fd, "{\"op\":\"status\",\"name\":\"A\"}\n");
    expect(fd, "\"reason\":\"notfound\"");
    close(fd);
    agent_stop(&agent);
}
END_TEST

START_TEST(a_wait_holds_what_is_behind_it)
{
    struct agent agent;
    agent_start(&agent, folder);
    int fd = raw_open(folder), other = raw_open(folder);
    raw_send(fd, "{\"op\":\"wait\",\"name\":\"A.npy\"}\n{\"op\":\"ping\"}\n{\"op\":\"wait\",\"name\":\"A.npy\","
                 "\"timeout\":null}\n");
    await_asked(&agent, 1);
    raw_send(other, "{\"op\":\"ping\"}\n");
    expect(other, "{\"ok\":true}");
    ck_assert_int_eq(recv(fd, &(char){0}, 1, MSG_DONTWAIT), -1);
    agent_publish(&agent, "A.npy");
    char path[700];
    snprintf(path, sizeof path, "{\"ok\":true,\"name\":\"A.npy\",\"path\":\"%s/A.npy\"}", folder);
    expect(fd, path);
    expect(fd, "{\"ok\":true}");
    expect(fd, path);
    close(fd);
    close(other);
    agent_stop(&agent);
}
END_TEST

START_TEST(a_wait_ends_in_time)
{
    struct agent agent;
    agent_start(&agent, folder);
    int fd = raw_open(folder);
    raw_send(
        fd,
        "{\"op\":\"wait\",\"name\":\"A.npy\",\"timeout\":0.01}\n{\"op\":\"wait\",\"name\":\"A.npy\",\"timeout\":0}\n");
    expect(fd, "\"reason\":\"timeout\"");
    expect(fd, "\"reason\":\"timeout\"");
    /* The timer of a wait that has ended does not end the next one. */
    raw_send(fd, "{\"op\":\"wait\",\"name\":\"A.npy\",\"timeout\":0.3}\n");
    await_asked(&agent, 3);
    agent_publish(&agent, "A.npy");
    expect(fd, "\"ok\":true");
    raw_send(fd, "{\"op\":\"wait\",\"name\":\"B.npy\"}\n{\"op\":\"ping\"}\n");
    await_asked(&agent, 4);
    int other = raw_open(folder);
    raw_send(other, "{\"op\":\"wait\",\"name\":\"C.npy\",\"timeout\":0.5}\n");
    expect(other, "C.npy was not published in time");
    ck_assert_int_eq(recv(fd, &(char){0}, 1, MSG_DONTWAIT), -1);
    close(other);
    close(fd);
    agent_stop(&agent);
}
END_TEST

START_TEST(lines_are_bounded)
{
    struct agent agent;
    agent_start(&agent, folder);
    char *line = malloc(TC_API_LINE + 2);
    memset(line, ' ', TC_API_LINE + 1);
    memcpy(line, "{\"op\":\"ping\"}", 13);
    line[TC_API_LINE - 1] = '\n';
    line[TC_API_LINE] = '\0';
    int fd = raw_open(folder);
    raw_send(fd, line);
    expect(fd, "{\"ok\":true}");
    line[TC_API_LINE - 1] = ' ';
    raw_send(fd, line);
    expect(fd, "\"reason\":\"limit\"");
    expect_end(fd);
    close(fd);
    /* Behind a wait the line is not looked at before its turn. */
    fd = raw_open(folder);
    raw_send(fd, "{\"op\":\"wait\",\"name\":\"A.npy\"}\n");
    raw_send(fd, line);
    raw_send(fd, line);
    await_asked(&agent, 1);
    agent_publish(&agent, "A.npy");
    expect(fd, "\"ok\":true");
    expect(fd, "\"reason\":\"limit\"");
    expect_end(fd);
    close(fd);
    free(line);
    agent_stop(&agent);
}
END_TEST

/* A JSON object of about size bytes. */
static char *big_status(size_t size)
{
    char *text = malloc(size + 32);
    int head = snprintf(text, size, "{\"pad\":\"");
    memset(text + head, 'x', size);
    snprintf(text + (size_t)head + size, 8, "\"}");
    return text;
}

START_TEST(a_slow_reader_gets_every_line)
{
    struct agent agent;
    char *big = big_status(60000), *line = malloc(TC_API_LINE);
    agent_start(&agent, folder);
    agent.status = big;
    int fd = raw_open(folder);
    for (int i = 0; i < 40; i++)
        raw_send(fd, "{\"op\":\"status\"}\n{\"op\":\"ping\"}\n");
    int other = raw_open(folder);
    raw_send(other, "{\"op\":\"ping\"}\n");
    expect(other, "{\"ok\":true}");
    for (int i = 0; i < 40; i++) {
        ck_assert_uint_eq(raw_line(fd, line, TC_API_LINE), strlen(big) + strlen(",\"ok\":true"));
        expect(fd, "{\"ok\":true}");
    }
    close(fd);
    agent_stop(&agent);
    free(big);
    big = big_status(TC_API_ANSWER);
    agent_start(&agent, folder);
    agent.status = big;
    fd = raw_open(folder);
    raw_send(fd, "{\"op\":\"status\"}\n");
    expect(fd, "\"reason\":\"limit\"");
    close(fd);
    close(other);
    agent_stop(&agent);
    free(big);
    free(line);
}
END_TEST

struct bound {
    int fds[64];
};

static bool some_were_closed(void *arg)
{
    const struct bound *bound = arg;
    for (int i = 0; i < 64; i++)
        if (send(bound->fds[i], " ", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EPIPE)
            return true;
    return false;
}

/* Five big answers are more than a socket holds: the agent must keep some for us. */
static bool five_are_kept(void *arg)
{
    char *line = arg;
    int fd = raw_open(folder), count = 0;
    for (int i = 0; i < 5; i++)
        send(fd, "{\"op\":\"status\"}\n", 16, MSG_NOSIGNAL);
    while (count < 5 && raw_line(fd, line, TC_API_LINE) > 60000)
        count++;
    close(fd);
    return count == 5;
}

START_TEST(unread_answers_are_bounded)
{
    struct agent agent;
    struct bound bound;
    char *big = big_status(60000), *line = malloc(TC_API_LINE);
    agent_start(&agent, folder);
    agent.status = big;
    for (int i = 0; i < 64; i++) {
        bound.fds[i] = raw_open(folder);
        for (int k = 0; k < 10; k++)
            send(bound.fds[i], "{\"op\":\"status\"}\n", 16, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    await_true(some_were_closed, &bound, "readers of nothing to be closed");
    int fd = raw_open(folder);
    raw_send(fd, "{\"op\":\"status\"}\n{\"op\":\"ping\"}\n");
    ck_assert_uint_gt(raw_line(fd, line, TC_API_LINE), 60000);
    expect(fd, "{\"ok\":true}");
    for (int i = 0; i < 64; i++)
        close(bound.fds[i]);
    await_true(five_are_kept, line, "the agent to forget them");
    /* What is kept for a slow reader is free again when it has been read, however often that happens. */
    int other = raw_open(folder);
    for (int turn = 0; turn < 100; turn++) {
        for (int i = 0; i < 5; i++)
            raw_send(fd, "{\"op\":\"status\"}\n");
        raw_send(other, "{\"op\":\"ping\"}\n");
        expect(other, "{\"ok\":true}");
        for (int i = 0; i < 5; i++)
            ck_assert_uint_gt(raw_line(fd, line, TC_API_LINE), 60000);
    }
    close(other);
    close(fd);
    agent_stop(&agent);
    free(big);
    free(line);
}
END_TEST

START_TEST(a_thousand_waiters_wake)
{
    enum { WAITERS = 1000 };
    struct agent agent;
    struct rlimit limit;
    int *fds = calloc(WAITERS, sizeof *fds);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    ck_assert_uint_gt(limit.rlim_max, 2 * WAITERS + 50);
    agent_start(&agent, folder);
    for (int i = 0; i < WAITERS; i++) {
        fds[i] = raw_open(folder);
        raw_send(fds[i], i % 2 ? "{\"op\":\"wait\",\"name\":\"A.npy\",\"timeout\":null}\n"
                               : "{\"op\":\"wait\",\"name\":\"B.npy\",\"timeout\":1000}\n");
    }
    await_asked(&agent, WAITERS);
    /* Some give up; the others must not notice. */
    for (int i = 0; i < WAITERS; i += 10)
        close(fds[i]);
    struct tc_err why = {.reason = TC_E_NOSPACE, .text = "no space (needs 8.0 GiB, has 3.1 GiB)"};
    agent_fail(&agent, &why);
    for (int i = 1; i < WAITERS; i += 2)
        expect(fds[i], "{\"ok\":false,\"reason\":\"nospace\",\"text\":\"no space (needs 8.0 GiB, has 3.1 GiB)\"}");
    agent_publish(&agent, "B.npy");
    for (int i = 2; i < WAITERS; i += 2)
        if (i % 10)
            expect(fds[i], "\"name\":\"B.npy\"");
    agent_stop(&agent);
    for (int i = 0; i < WAITERS; i++)
        if (i % 10)
            close(fds[i]);
    free(fds);
}
END_TEST

/* ---- descriptors ---- */

/* One line, and the descriptor that came with it or -1. */
static int raw_line_fd(int fd, char *line, size_t size)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = line, .iov_len = size - 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t got = recvmsg(fd, &message, 0);
    int came = -1;
    ck_assert_int_gt(got, 0);
    line[got] = '\0';
    ck_assert_int_eq(line[got - 1], '\n');
    const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_type == SCM_RIGHTS)
        memcpy(&came, CMSG_DATA(head), sizeof came);
    return came;
}

static void raw_send_fd(int fd, const char *text, int sent)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec part = {.iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    control.head =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&control.head), &sent, sizeof(int));
    ck_assert_int_eq(sendmsg(fd, &message, 0), (ssize_t)strlen(text));
}

static bool same_file(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

START_TEST(the_file_comes_through_the_api)
{
    struct agent agent;
    char line[4096], path[700];
    snprintf(path, sizeof path, "%s/A.npy", folder);
    agent_start(&agent, folder);
    agent.status = "{\"published\":[]}";
    int fd = raw_open(folder), early = raw_open(folder);
    raw_send(early, "{\"op\":\"wait\",\"name\":\"A.npy\",\"fd\":true}\n");
    await_asked(&agent, 1);
    publish_file(folder);
    agent_publish(&agent, "A.npy");
    const char *const requests[] = {"{\"op\":\"wait\",\"name\":\"A.npy\",\"fd\":true}\n",
                                    "{\"op\":\"status\",\"name\":\"A.npy\",\"fd\":true}\n"};
    int got = raw_line_fd(early, line, sizeof line);
    for (int i = 0; i < 3; i++) {
        ck_assert_msg(got >= 0 && same_file(got, path), "%s", line);
        ck_assert_int_eq(fcntl(got, F_GETFL) & O_ACCMODE, O_RDONLY);
        ck_assert_ptr_nonnull(strstr(line, "\"description\":{\"name\":\"A.npy\","));
        ck_assert_ptr_nonnull(strstr(line, "\"fd\":true"));
        close(got);
        got = -1;
        if (i < 2) {
            raw_send(fd, requests[i]);
            got = raw_line_fd(fd, line, sizeof line);
        }
    }
    /* Who did not ask gets none; a file that has gone is not found, and the status says so by leaving it out. */
    raw_send(fd, "{\"op\":\"wait\",\"name\":\"A.npy\"}\n");
    ck_assert_int_eq(raw_line_fd(fd, line, sizeof line), -1);
    ck_assert_int_eq(unlink(path), 0);
    raw_send(fd, requests[0]);
    ck_assert_int_eq(raw_line_fd(fd, line, sizeof line), -1);
    ck_assert_ptr_nonnull(strstr(line, "\"reason\":\"notfound\""));
    raw_send(fd, requests[1]);
    ck_assert_int_eq(raw_line_fd(fd, line, sizeof line), -1);
    ck_assert_ptr_nonnull(strstr(line, "\"ok\":true"));
    close(early);
    close(fd);
    agent_stop(&agent);
}
END_TEST

struct looked {
    const uint8_t *session;
    const char *path;
    bool there;
};

static void look_call(struct agent *agent, void *arg)
{
    struct looked *looked = arg;
    int fd = tc_api_source(agent->api, looked->session);
    looked->there = fd >= 0 && same_file(fd, looked->path);
}

struct offered {
    struct agent *agent;
    struct looked looked;
};

static bool is_withdrawn(void *arg)
{
    struct offered *offered = arg;
    in_loop(offered->agent, look_call, &offered->looked);
    return !offered->looked.there;
}

START_TEST(a_source_is_offered_while_connected)
{
    struct agent agent;
    uint8_t session[TC_SESSION_ID_SIZE], other[TC_SESSION_ID_SIZE] = {0};
    char path[700], listen[64], line[512];
    memset(session, 0xa5, sizeof session);
    snprintf(path, sizeof path, "%s/A.npy", folder);
    publish_file(folder);
    agent_start(&agent, folder);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int api = tc_api_offer(folder, session, file, listen, sizeof listen, NULL);
    ck_assert_int_ge(api, 0);
    ck_assert_str_eq(listen, "127.0.0.1:7117");
    struct offered offered = {&agent, {session, path, false}};
    in_loop(&agent, look_call, &offered.looked);
    ck_assert(offered.looked.there);
    struct looked none = {other, path, true};
    in_loop(&agent, look_call, &none);
    ck_assert(!none.there);
    close(api);
    await_true(is_withdrawn, &offered, "the end of the offer");
    /* Only with a descriptor, and one of a file; what comes with another request is closed and counts for nothing. */
    int fd = raw_open(folder), pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);
    raw_send_fd(fd, "{\"op\":\"ping\"}\n", file);
    ck_assert_int_eq(raw_line_fd(fd, line, sizeof line), -1);
    raw_send(fd, "{\"op\":\"source\",\"session\":\"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\"}\n");
    expect(fd, "\"reason\":\"usage\"");
    raw_send_fd(fd, "{\"op\":\"source\",\"session\":\"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\"}\n", pipes[0]);
    expect(fd, "\"reason\":\"usage\"");
    raw_send_fd(fd, "{\"op\":\"source\",\"session\":\"zz\"}\n", file);
    expect(fd, "\"reason\":\"usage\"");
    close(pipes[0]);
    close(pipes[1]);
    close(fd);
    close(file);
    agent_stop(&agent);
}
END_TEST

static void tell_thread(struct agent *agent, void *arg)
{
    (void)agent;
    *(int *)arg = gettid();
}

static int thread_of(struct agent *agent)
{
    int id = 0;
    in_loop(agent, tell_thread, &id);
    return id;
}

START_TEST(leases_are_given)
{
    struct agent agent;
    char request[256];
    agent_start(&agent, folder);
    agent_publish(&agent, "A.npy");
    int fd = raw_open(folder);
    uint64_t now = (uint64_t)time(NULL);
    raw_send(fd, "{\"op\":\"lease\",\"name\":\"A.npy\",\"ttl\":100}\n");
    expect(fd, "\"ok\":true");
    ck_assert_uint_ge(agent.lease.expires, now + 100);
    ck_assert_uint_le(agent.lease.expires, now + 130);
    ck_assert_uint_eq(agent.lease.pid, 0);
    snprintf(request, sizeof request, "{\"op\":\"lease\",\"name\":\"A.npy\",\"ttl\":null,\"pid\":%d}\n", (int)getpid());
    raw_send(fd, request);
    expect(fd, "\"expires\":null,\"owner_pid\":");
    ck_assert_uint_eq(agent.lease.pid, (unsigned)getpid());
    ck_assert_uint_gt(agent.lease.start, 0);
    raw_send(fd, "{\"op\":\"lease\",\"name\":\"A.npy\"}\n");
    expect(fd, "\"expires\":null,\"owner_pid\":null");
    raw_send(fd,
             "{\"op\":\"lease\",\"name\":\"A.npy\",\"ttl\":-1}\n{\"op\":\"lease\",\"name\":\"A.npy\",\"pid\":1.5}\n");
    expect(fd, "\"reason\":\"usage\"");
    expect(fd, "\"reason\":\"usage\"");
    snprintf(request, sizeof request, "{\"op\":\"lease\",\"name\":\"A.npy\",\"pid\":%d}\n", thread_of(&agent));
    raw_send(fd, request);
    expect(fd, "is it a thread?");
    raw_send(fd, "{\"op\":\"lease\",\"name\":\"A.npy\",\"pid\":2147483647}\n{\"op\":\"lease\",\"name\":\"B.npy\"}\n");
    expect(fd, "there is no process 2147483647");
    expect(fd, "\"reason\":\"notfound\"");
    close(fd);
    agent_stop(&agent);
}
END_TEST

/* ---- who may come in ---- */

/* The result of open and of wait as uid; where owner has DIR and the file, which is shut to others but comes through the
 * local API. Leases are for the owner and root. */
static void as_user(uid_t uid, uid_t owner, int open_rc, int wait_rc)
{
    char path[700];
    snprintf(path, sizeof path, "%s/shut", folder);
    close(open(path, O_WRONLY | O_CREAT, 0400));
    ck_assert_int_eq(chown(path, owner, owner), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid((gid_t)uid) != 0 || setuid(uid) != 0)
            _exit(3);
        struct tc_err err = {0};
        for (int i = 0; i < 50; i++) { /* whichever comes first, our request or the agent's refusal */
            int rc = tc_api_open(folder, NULL);
            if (rc >= 0)
                close(rc);
            if ((rc < 0 ? rc : 0) != open_rc)
                _exit(1);
        }
        if (tc_api_wait(folder, "B.npy", TC_FOREVER, &err) != wait_rc)
            _exit(2);
        struct tc_description description = {0};
        int fd = tc_api_fetch(folder, "B.npy", &description, NULL);
        bool shut_out = open(path, O_RDONLY | O_CLOEXEC) < 0;
        if ((fd < 0 ? fd : 0) != open_rc || shut_out != (uid != 0 && uid != owner))
            _exit(4);
        if (fd < 0)
            _exit(0);
        if (strcmp(description.name, "A.npy") != 0 || !same_file(fd, path))
            _exit(5);
        fd = raw_open(folder);
        bool mine = uid == 0 || uid == owner;
        raw_send(fd, "{\"op\":\"lease\",\"name\":\"B.npy\"}\n");
        expect(fd, mine ? "\"ok\":true" : "\"reason\":\"permission\"");
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "user %d: status %d", (int)uid, status);
}

static void give_shut_file(struct agent *agent, void *arg)
{
    (void)arg;
    agent->file = "shut";
}

START_TEST(outsiders_are_refused)
{
    if (geteuid() != 0) {
        puts("# outsiders_are_refused: skipped, only root can become other users");
        return;
    }
    struct agent agent;
    uid_t users[] = {FRIEND - 1, FRIEND};
    agent_start_for(&agent, folder, users, 2);
    agent_publish(&agent, "B.npy");
    in_loop(&agent, give_shut_file, NULL);
    as_user(NOBODY, 0, -TC_E_PERMISSION, -TC_E_PERMISSION);
    as_user(FRIEND, 0, 0, 0);
    as_user(0, 0, 0, 0);
    agent_stop(&agent);
    char state[600];
    snprintf(state, sizeof state, "%s/.treecast", folder);
    ck_assert_int_eq(chown(state, NOBODY, NOBODY), 0);
    agent_start(&agent, folder);
    agent_publish(&agent, "B.npy");
    in_loop(&agent, give_shut_file, NULL);
    as_user(NOBODY, NOBODY, 0, 0);
    as_user(FRIEND, NOBODY, -TC_E_POLICY, -TC_E_POLICY); /* it does not even ask there */
    agent_stop(&agent);
}
END_TEST

static bool watches(void *arg)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", *(const int *)arg);
    return inotify_in(path);
}

START_TEST(a_friend_sees_an_agent_come)
{
    if (geteuid() != 0) {
        puts("# a_friend_sees_an_agent_come: skipped, only root can become other users");
        return;
    }
    struct agent agent;
    uid_t friend = FRIEND;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(setuid(FRIEND) != 0 || tc_api_wait(folder, "A.npy", TC_FOREVER, NULL) != -TC_E_NOSPACE);
    await_true(watches, &pid, "a watch on the directory");
    agent_start_for(&agent, folder, &friend, 1);
    await_asked(&agent, 1);
    agent_fail(&agent, &(struct tc_err){.reason = TC_E_NOSPACE});
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    agent_stop(&agent);
}
END_TEST

/* ---- the socket ---- */

static bool api_exists(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s/.treecast/api", folder);
    struct stat status;
    return lstat(path, &status) == 0;
}

/* An agent in a process of its own, to be killed. */
static pid_t agent_process(void)
{
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct agent agent;
        agent_start(&agent, folder);
        if (write(ready[1], "r", 1) == 1)
            pthread_join(agent.thread, NULL);
        _exit(1);
    }
    close(ready[1]);
    char byte;
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void kill_process(pid_t pid)
{
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(a_dead_socket_is_replaced_a_living_one_is_not)
{
    struct agent agent, second = {0};
    struct tc_err err = {0};
    pid_t pid = agent_process();
    snprintf(second.dir, sizeof second.dir, "%s", folder);
    second.loop = tc_loop_new(NULL);
    ck_assert_ptr_null(serve_at(&second, NULL, 0, &err));
    ck_assert_int_eq(err.reason, TC_E_BUSY);
    char line[600];
    snprintf(line, sizeof line, "an agent already serves %s", folder);
    ck_assert_str_eq(err.text, line);
    kill_process(pid);
    ck_assert(api_exists());
    ck_assert_int_eq(tc_api_open(folder, NULL), -TC_E_NOTFOUND);
    agent_start(&agent, folder);
    ck_assert_ptr_null(serve_at(&second, NULL, 0, NULL));
    int api = tc_api_open(folder, NULL);
    ck_assert_int_ge(api, 0);
    close(api);
    agent_stop(&agent);
    ck_assert(!api_exists());
    tc_loop_free(second.loop);
}
END_TEST

/* A socket at which nobody listens, as an agent leaves it that is killed. */
static void dead_api(int state, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", state, name);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    close(fd);
}

START_TEST(clean_takes_the_api_of_the_dead)
{
    static const char *const names[] = {"api", "api.new", "mine"};
    char path[600];
    snprintf(path, sizeof path, "%s/.treecast", folder);
    int state = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unsigned files = 0;
    for (unsigned i = 0; i < 3; i++)
        dead_api(state, names[i]);
    int agent = openat(state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(flock(agent, LOCK_EX | LOCK_NB), 0);
    ck_assert_int_eq(tc_api_clean(state, &files, NULL), 0);
    ck_assert_uint_eq(files, 0);
    close(agent);

    ck_assert_int_eq(tc_api_clean(state, &files, NULL), 0);
    ck_assert_uint_eq(files, 2);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(faccessat(state, names[i], F_OK, 0) == 0, i == 2);
    ck_assert_int_eq(unlinkat(state, "mine", 0), 0);
    int file = openat(state, "api", O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* no socket: nobody's */
    close(file);
    ck_assert_int_eq(tc_api_clean(state, &files, NULL), 0);
    ck_assert_uint_eq(files, 2);
    ck_assert_int_eq(unlinkat(state, "api", 0), 0);
    agent = openat(state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(flock(agent, LOCK_EX | LOCK_NB), 0); /* the next agent may come */
    close(agent);
    close(state);
}
END_TEST

/* As treecast clean holds it, while it sees whether a dead agent has left its local API. */
START_TEST(a_lock_that_nobody_serves_is_waited_for)
{
    struct agent agent;
    char state[600];
    snprintf(state, sizeof state, "%s/.treecast", folder);
    int lock = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(flock(lock, LOCK_EX | LOCK_NB), 0);
    pid_t pid = fork();
    if (pid == 0) {
        usleep(50000);
        _exit(0);
    }
    close(lock); /* the child has it until it ends */
    agent_start(&agent, folder);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert(api_exists());
    agent_stop(&agent);
}
END_TEST

START_TEST(a_long_directory_is_served)
{
    struct agent agent;
    char deep[512];
    size_t used = (size_t)snprintf(deep, sizeof deep, "%s", folder);
    for (int i = 0; i < 10; i++) {
        used += (size_t)snprintf(deep + used, sizeof deep - used, "/a-directory-with-a-long-name");
        ck_assert_int_eq(mkdir(deep, 0700), 0);
    }
    char state[600];
    snprintf(state, sizeof state, "%s/.treecast", deep);
    ck_assert_int_eq(mkdir(state, 0700), 0);
    agent_start(&agent, deep);
    agent_publish(&agent, "A.npy");
    ck_assert_int_eq(tc_api_wait(deep, "A.npy", 20, NULL), 0);
    agent_stop(&agent);
}
END_TEST

/* ---- the client ---- */

START_TEST(ask_and_its_errors)
{
    struct agent agent;
    struct tc_err err = {0};
    char answer[64], tiny[8];
    agent_start(&agent, folder);
    int api = tc_api_open(folder, &err);
    ck_assert_int_ge(api, 0);
    ck_assert_int_eq(tc_api_ask(api, "{\"op\":\"ping\"}", answer, sizeof answer, 20, &err), 0);
    ck_assert_str_eq(answer, "{\"ok\":true}");
    ck_assert_int_eq(tc_api_ask(api, "{\"op\":\"wait\",\"name\":\"A\"}", answer, sizeof answer, 0.01, &err),
                     -TC_E_TIMEOUT);
    close(api);
    api = tc_api_open(folder, NULL);
    ck_assert_int_eq(tc_api_ask(api, "{\"op\":\"ping\"}", tiny, sizeof tiny, 20, NULL), -TC_E_PROTOCOL);
    close(api);
    api = tc_api_open(folder, NULL);
    ck_assert_int_eq(tc_api_ask(api, "{\"op\":\"ping\"}", answer, 12, 20, NULL), 0);
    ck_assert_int_eq(tc_api_ask(api, "{}\n{}", answer, sizeof answer, 20, NULL), -TC_E_PROTOCOL);
    close(api);
    api = tc_api_open(folder, NULL);
    agent_stop(&agent);
    ck_assert_int_eq(tc_api_ask(api, "{\"op\":\"ping\"}", answer, sizeof answer, 20, NULL), -TC_E_CLOSED);
    close(api);
    ck_assert_int_eq(tc_api_open(folder, NULL), -TC_E_NOTFOUND);
    ck_assert_int_eq(tc_api_open("/nonexistent/dir", NULL), -TC_E_NOTFOUND);
}
END_TEST

START_TEST(wait_before_and_after)
{
    struct agent agent;
    struct waiter waiter;
    agent_start(&agent, folder);
    waiter_start(&waiter, folder);
    await_asked(&agent, 1);
    ck_assert(!has_inotify(NULL)); /* a living agent is enough */
    agent_publish(&agent, "A.npy");
    waiter_end(&waiter, 0);
    ck_assert_int_eq(tc_api_wait(folder, "A.npy", 20, NULL), 0);
    ck_assert_int_eq(tc_api_wait(folder, "../A.npy", 20, NULL), -TC_E_NAME);
    agent_stop(&agent);
}
END_TEST

START_TEST(wait_fails_with_the_sessions_reason)
{
    struct agent agent;
    struct waiter waiter;
    struct tc_err why = {.reason = TC_E_INTEGRITY, .text = "chunk 812 of A.npy from node07: digest \033differs"};
    agent_start(&agent, folder);
    waiter_start(&waiter, folder);
    await_asked(&agent, 1);
    agent_fail(&agent, &why);
    waiter_end(&waiter, -TC_E_INTEGRITY);
    ck_assert_str_eq(waiter.err.text, "chunk 812 of A.npy from node07: digest \\x1bdiffers");
    waiter_start(&waiter, folder);
    await_asked(&agent, 2);
    why = (struct tc_err){.reason = TC_E_CLOSED, .text = "a link"};
    agent_fail(&agent, &why);
    waiter_end(&waiter, -TC_E_LOST);
    agent_stop(&agent);
}
END_TEST

START_TEST(wait_times_out_everywhere)
{
    struct agent agent;
    struct tc_err err = {0};
    char line[700];
    snprintf(line, sizeof line, "A.npy was not published in %s within 0.05 s", folder);
    ck_assert_int_eq(tc_api_wait(folder, "A.npy", 0.05, &err), -TC_E_TIMEOUT);
    ck_assert_str_eq(err.text, line);
    ck_assert_int_eq(tc_api_wait("/nonexistent/dir", "A.npy", 0, NULL), -TC_E_TIMEOUT);
    agent_start(&agent, folder);
    err = (struct tc_err){0};
    ck_assert_int_eq(tc_api_wait(folder, "A.npy", 0.05, &err), -TC_E_TIMEOUT);
    ck_assert_str_eq(err.text, line);
    agent_stop(&agent);
    /* An agent that is alive and says nothing. */
    pid_t pid = agent_process();
    kill(pid, SIGSTOP);
    ck_assert_int_eq(tc_api_wait(folder, "A.npy", 0.05, NULL), -TC_E_TIMEOUT);
    kill_process(pid);
}
END_TEST

START_TEST(the_agent_dies_and_another_comes)
{
    struct agent agent;
    struct waiter waiter;
    pid_t pid = agent_process();
    waiter_start(&waiter, folder);
    kill_process(pid);
    await_true(has_inotify, NULL, "a watch on the directory");
    agent_start(&agent, folder);
    await_asked(&agent, 1);
    agent_stop(&agent); /* "closed": this one ends in order */
    agent_start(&agent, folder);
    await_asked(&agent, 1);
    agent_publish(&agent, "A.npy");
    waiter_end(&waiter, 0);
    agent_stop(&agent);
    waiter_start(&waiter, folder);
    await_true(has_inotify, NULL, "a watch on the directory");
    publish_file(folder);
    waiter_end(&waiter, 0);
}
END_TEST

START_TEST(the_directory_comes_later)
{
    struct agent agent;
    struct waiter waiter;
    char dir[600], part[600], state[640];
    snprintf(dir, sizeof dir, "%s//x/y/z", folder);
    for (int turn = 0; turn < 2; turn++) {
        waiter_start(&waiter, turn ? "x/y/z/" : dir);
        await_true(has_inotify, NULL, "a watch on the parent");
        for (int depth = 1; depth <= 3; depth++) {
            snprintf(part, sizeof part, "%s/%.*s", folder, 2 * depth - 1, "x/y/z");
            ck_assert_int_eq(mkdir(part, 0700), 0);
        }
        if (turn == 0) {
            publish_file(part);
            waiter_end(&waiter, 0);
            remove_folder(part);
            snprintf(part, sizeof part, "%s/x", folder);
            remove_folder(part);
            ck_assert_int_eq(chdir(folder), 0);
            continue;
        }
        snprintf(state, sizeof state, "%s/.treecast", part);
        ck_assert_int_eq(mkdir(state, 0700), 0);
        agent_start(&agent, part);
        await_asked(&agent, 1);
        agent_publish(&agent, "A.npy");
        waiter_end(&waiter, 0);
        agent_stop(&agent);
    }
}
END_TEST

START_TEST(the_directory_goes_and_comes)
{
    struct waiter waiter;
    waiter_start(&waiter, folder);
    await_true(has_inotify, NULL, "a watch on the directory");
    remove_folder(folder);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    publish_file(folder);
    waiter_end(&waiter, 0);
}
END_TEST

START_TEST(nothing_is_missed_in_between)
{
    struct agent agent;
    struct waiter waiters[4];
    char path[600];
    snprintf(path, sizeof path, "%s/A.npy", folder);
    for (int turn = 0; turn < 150; turn++) {
        for (int i = 0; i < 4; i++)
            waiter_start(&waiters[i], folder);
        if (turn % 3) {
            agent_start(&agent, folder);
            if (turn % 3 == 2)
                agent_publish(&agent, "A.npy");
            agent_stop(&agent);
        }
        publish_file(folder);
        for (int i = 0; i < 4; i++)
            waiter_end(&waiters[i], 0);
        ck_assert_int_eq(unlink(path), 0);
    }
}
END_TEST

/* ---- an agent that means ill ---- */

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *fds = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(fds);
    while (readdir(fds))
        count++;
    closedir(fds);
    return count;
}

/* Answers a ping, and what comes then with a line that carries two descriptors. */
static void serve_two(int listening)
{
    static const char text[] = "{\"ok\":true,\"fd\":true}\n";
    char line[4096];
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {.space = {0}};
    struct iovec part = {.iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    int fd = accept(listening, NULL, NULL), both[2] = {listening, listening};
    control.head =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof both)};
    memcpy(CMSG_DATA(&control.head), both, sizeof both);
    bool served = fd >= 0 && recv(fd, line, sizeof line, 0) > 0 && send(fd, text, strlen(text), MSG_NOSIGNAL) > 0 &&
                  recv(fd, line, sizeof line, 0) > 0 && sendmsg(fd, &message, MSG_NOSIGNAL) > 0;
    _exit(served ? 0 : 1);
}

START_TEST(of_two_descriptors_none_is_left_open)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct tc_description description = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/.treecast", folder);
    (void)mkdir(path, 0755);
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/.treecast/api", folder);
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status = -1;
    ck_assert_int_eq(bind(listening, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listening, 4), 0);
    unsigned before = open_descriptors();
    pid_t agent = fork();
    if (agent == 0)
        serve_two(listening);
    ck_assert_int_gt(agent, 0);
    ck_assert_int_eq(tc_api_fetch(folder, "A.npy", &description, NULL), -TC_E_PROTOCOL);
    ck_assert_int_eq(waitpid(agent, &status, 0), agent);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(open_descriptors(), before);
    close(listening);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api");
    TCase *all = tcase_create("api");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_set_timeout(all, 60);
    tcase_add_test(all, answers_follow_requests);
    tcase_add_test(all, a_wait_holds_what_is_behind_it);
    tcase_add_test(all, a_wait_ends_in_time);
    tcase_add_test(all, lines_are_bounded);
    tcase_add_test(all, a_slow_reader_gets_every_line);
    tcase_add_test(all, unread_answers_are_bounded);
    tcase_add_test(all, a_thousand_waiters_wake);
    tcase_add_test(all, the_file_comes_through_the_api);
    tcase_add_test(all, a_source_is_offered_while_connected);
    tcase_add_test(all, leases_are_given);
    tcase_add_test(all, outsiders_are_refused);
    tcase_add_test(all, a_friend_sees_an_agent_come);
    tcase_add_test(all, a_dead_socket_is_replaced_a_living_one_is_not);
    tcase_add_test(all, clean_takes_the_api_of_the_dead);
    tcase_add_test(all, a_lock_that_nobody_serves_is_waited_for);
    tcase_add_test(all, a_long_directory_is_served);
    tcase_add_test(all, ask_and_its_errors);
    tcase_add_test(all, wait_before_and_after);
    tcase_add_test(all, wait_fails_with_the_sessions_reason);
    tcase_add_test(all, wait_times_out_everywhere);
    tcase_add_test(all, the_agent_dies_and_another_comes);
    tcase_add_test(all, the_directory_comes_later);
    tcase_add_test(all, the_directory_goes_and_comes);
    tcase_add_test(all, nothing_is_missed_in_between);
    tcase_add_test(all, of_two_descriptors_none_is_left_open);
    suite_add_tcase(suite, all);
    return unit_run(suite);
}
