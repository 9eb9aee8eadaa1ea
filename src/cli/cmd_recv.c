#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <math.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/startup.h"
#include "cli/key_options.h"
#include "cli/report.h"
#include "cli/size.h"
#include "file/place.h"
#include "net/address.h"
#include "net/listen.h"
#include "node/recv_node.h"
#include "session/message.h"

struct recv_values {
    const char *dir, *listen, *advertise, *interface, *group, *user, *join, *as, *max_memory;
    uint64_t bwlimit;
    struct tc_key_options key;
    bool once, detach, stay, no_sandbox;
    uint64_t max_size, max_message, max_sessions, max_connections, handshake_time, mode, threads, owner;
    double ttl;
    struct tc_texts users, reached_as;
    unsigned quiet, verbose;
};

struct agent {
    const struct recv_values *values;
    struct tc_recv_options recv;
    struct tc_key key;
    uid_t *users;
    char dir[PATH_MAX], host[TC_ADDRESS_HOST];
    char own[TC_ADDRESS_HOST], own_listen[TC_ADDRESS_TEXT]; /* with --interface */
    char inherited[TC_ADDRESS_TEXT];                        /* address of a socket that was handed over */
    int ready_fd; /* detached: where the parent waits for the line; -1: standard output */
};

/* A name, or a number that need not have one. */
static bool number_of(const char *text, uint32_t *number)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    *number = (uint32_t)value;
    return *text >= '0' && *text <= '9' && !*end && !errno && value < UINT32_MAX;
}

static int take_users(struct agent *agent, struct tc_err *err)
{
    const struct tc_texts *names = &agent->values->users;
    agent->users = calloc(names->count + 1, sizeof *agent->users);
    if (!agent->users)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    for (size_t i = 0; i < names->count; i++) {
        const struct passwd *user = getpwnam(names->items[i]);
        if (user)
            agent->users[i] = user->pw_uid;
        else if (!number_of(names->items[i], &agent->users[i]))
            return tc_fail(err, TC_E_USAGE, "--allow-user: there is no user '%s'", names->items[i]);
    }
    agent->recv.users = agent->users;
    agent->recv.user_count = (unsigned)names->count;
    return 0;
}

static int take_group(struct agent *agent, struct tc_err *err)
{
    const char *name = agent->values->group;
    const struct group *group = name ? getgrnam(name) : NULL;
    agent->recv.group = (gid_t)-1;
    if (group)
        agent->recv.group = group->gr_gid;
    else if (name && !number_of(name, &agent->recv.group))
        return tc_fail(err, TC_E_USAGE, "--group: there is no group '%s'", name);
    return 0;
}

/* Which of the sender's hosts this is: what it is told, else what the host is called. */
static int take_name(struct agent *agent, struct tc_err *err)
{
    const struct recv_values *values = agent->values;
    if ((values->as || values->stay) && !values->join)
        return tc_fail(err, TC_E_USAGE, "--%s: only with --join", values->as ? "as" : "stay");
    if (values->once && values->stay)
        return tc_fail(err, TC_E_USAGE, "--once or --stay, not both");
    if (gethostname(agent->host, sizeof agent->host) < 0)
        return tc_fail_errno(err, errno, "the host's name");
    agent->host[sizeof agent->host - 1] = '\0';
    agent->recv.host = values->as ? values->as : agent->host;
    return 0;
}

/* One of this host's networks only: it listens there, and says so. */
static int take_interface(struct agent *agent, struct tc_err *err)
{
    const struct recv_values *values = agent->values;
    agent->recv.advertise = values->advertise;
    if (!values->interface)
        return 0;
    int result = tc_address_of_interface(values->interface, agent->own, err);
    if (result < 0)
        return tc_err_prefix(err, "--interface");
    result = tc_address_join(agent->own_listen, sizeof agent->own_listen, agent->own,
                             values->join ? 0 : TC_PORT_DEFAULT, err);
    if (!agent->recv.listen)
        agent->recv.listen = agent->own_listen;
    if (!values->advertise) {
        bool six = strchr(agent->own, ':');
        char copy[TC_ADDRESS_HOST];
        snprintf(copy, sizeof copy, "%s", agent->own);
        snprintf(agent->own, sizeof agent->own, six ? "[%.253s]" : "%.253s", copy);
        agent->recv.advertise = agent->own;
    }
    return result;
}

/* A standard descriptor stays open, but not on what it was. */
static void put_away(int fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd > STDERR_FILENO)
        close(fd);
    else if (null >= 0)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
}

/* Before any socket exists: without a key nothing but loopback. */
static int take_key(struct agent *agent, struct tc_err *err)
{
    bool have;
    int result = tc_key_options_read(&agent->values->key, &agent->key, &have, err);
    if (result < 0)
        return result;
    agent->recv.key = have ? &agent->key : NULL;
    if (agent->values->key.fd != TC_NO_KEY_FD)
        put_away((int)agent->values->key.fd);
    if (!have && agent->values->join)
        result = tc_key_policy("join", agent->values->join, err);
    return result < 0 || have || !agent->recv.listen ? result : tc_key_policy("listen on", agent->recv.listen, err);
}

/* Where to listen: the socket that systemd has for us is there already, whatever --listen says. */
static int take_listen(struct agent *agent, struct tc_err *err)
{
    int fd = tc_listen_inherited(agent->inherited, err);
    agent->recv.listen_fd = fd > 0 ? fd : 0;
    agent->recv.listen = fd > 0 ? agent->inherited : agent->values->listen;
    return fd < 0 ? fd : 0;
}

/* Leave the terminal and everything that was inherited behind. */
static void let_go(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
    if (chdir("/") < 0)
        tc_log(TC_LOG_WARN, "chdir /: %s", strerror(errno));
}

static void on_ready(void *arg, const char *address, const char *dir)
{
    struct agent *agent = arg;
    if (agent->ready_fd < 0) {
        printf("listening on %s, publishing in %s\n", address, dir);
        fflush(stdout);
        return;
    }
    dprintf(agent->ready_fd, "listening on %s, publishing in %s\n", address, dir);
    let_go();
    close(agent->ready_fd);
    agent->ready_fd = -1;
}

/* Pass the ready line on; without one the child has failed and has said why. Returns the exit code. */
static int await_child(pid_t child, int fd)
{
    char line[PATH_MAX + 256];
    size_t used = 0;
    for (;;) {
        ssize_t got = read(fd, line + used, sizeof line - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || (used += (size_t)got) == sizeof line)
            break;
    }
    if (used > 0) {
        fwrite(line, 1, used, stdout);
        return 0;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

/* In the child: 0, ready_fd is set. In the parent, which waits until the agent accepts: 1 with the exit code. */
static int detach(struct agent *agent, int *code, struct tc_err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return tc_fail_errno(err, errno, "pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        int result = tc_fail_errno(err, errno, "fork");
        close(ends[0]);
        close(ends[1]);
        return result;
    }
    close(ends[child ? 1 : 0]);
    if (child > 0) {
        *code = await_child(child, ends[0]);
        close(ends[0]);
        return 1;
    }
    setsid();
    agent->ready_fd = ends[1];
    return 0;
}

/* The default is the directory of whom the agent will be. */
static int take_dir(struct agent *agent, struct tc_err *err)
{
    const struct passwd *user = agent->values->user && !agent->values->dir ? getpwnam(agent->values->user) : NULL;
    if (!user)
        return tc_dir_resolve(agent->dir, sizeof agent->dir, agent->values->dir, err);
    return tc_place_of(user->pw_uid, agent->dir, sizeof agent->dir, err);
}

static int take_reached_as(struct agent *agent, struct tc_err *err)
{
    const struct tc_texts *texts = &agent->values->reached_as;
    char text[TC_ADDRESS_TEXT];
    for (size_t i = 0; i < texts->count; i++)
        if (tc_address_numeric(text, texts->items[i], 0, err) < 0)
            return tc_err_prefix(err, "--reached-as");
    agent->recv.reached_as = (const char *const *)texts->items;
    agent->recv.reached_count = (unsigned)texts->count;
    return 0;
}

static int take_limits(struct agent *agent, struct tc_err *err)
{
    const struct recv_values *values = agent->values;
    agent->recv.max_size = values->max_size;
    agent->recv.message_most = values->max_message ? (uint32_t)values->max_message + TC_CHUNK_HEAD : 0;
    agent->recv.sessions_most = (unsigned)values->max_sessions;
    agent->recv.connections_most = (unsigned)values->max_connections;
    agent->recv.handshake_seconds = (unsigned)values->handshake_time;
    if (values->max_memory && tc_memory_parse(&agent->recv.max_memory, values->max_memory, err) < 0)
        return tc_err_prefix(err, "--max-memory");
    return 0;
}

/* What this process was started with open is nobody's here but these two. */
static void leave_descriptors(const struct agent *agent)
{
    const struct tc_key_options *key = &agent->values->key;
    const int keep[] = {agent->recv.listen_fd, key->fd == TC_NO_KEY_FD ? -1 : (int)key->fd};
    tc_startup_close(keep, sizeof keep / sizeof *keep);
}

static int prepare(struct agent *agent, struct tc_err *err)
{
    const struct recv_values *values = agent->values;
    if (values->mode & 0222)
        return tc_fail(err, TC_E_USAGE, "--mode: %04jo would let readers change an array; leave the write bits out",
                       (uintmax_t)values->mode);
    int result = take_dir(agent, err);
    if (result == 0)
        result = take_group(agent, err);
    if (result == 0)
        result = take_users(agent, err);
    if (result == 0)
        result = take_interface(agent, err);
    if (result == 0)
        result = take_reached_as(agent, err);
    if (result == 0)
        result = take_key(agent, err);
    if (result == 0)
        result = take_name(agent, err);
    if (result == 0)
        result = take_limits(agent, err);
    agent->recv.dir = agent->dir;
    agent->recv.rate = values->bwlimit;
    agent->recv.join = values->join;
    agent->recv.once = values->once || (values->join && !values->stay);
    agent->recv.user = values->user;
    agent->recv.unconfined = values->no_sandbox;
    agent->recv.mode = (mode_t)values->mode;
    agent->recv.threads = (unsigned)values->threads;
    agent->recv.ttl = (uint64_t)ceil(fmin(values->ttl, 1e15));
    agent->recv.owner = (uint32_t)values->owner;
    agent->recv.ready = on_ready;
    agent->recv.arg = agent;
    return result;
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct recv_values *values = call->values;
    struct agent agent = {.values = values, .ready_fd = -1};
    int code = 0;
    tc_log_open("treecast recv", values->verbose     ? TC_LOG_DEBUG
                                 : values->quiet > 1 ? TC_LOG_ERROR
                                 : values->quiet     ? TC_LOG_WARN
                                                     : TC_LOG_INFO);
    int result = take_listen(&agent, err);
    leave_descriptors(&agent);
    if (result == 0)
        result = prepare(&agent, err);
    if (result == 0 && values->detach)
        result = detach(&agent, &code, err);
    if (result == 0)
        result = tc_recv_run(&agent.recv, err);
    else if (result == 1)
        result = code;
    free(agent.users);
    tc_key_clear(&agent.key);
    return result;
}

#define AT(member) TC_AT(struct recv_values, member)

/* clang-format off */
static const struct tc_option options[] = {
    {.letter = 'd', .name = "dir", .argument = "DIR", .kind = TC_OPT_TEXT, AT(dir),
     .help = "publish arrays in DIR, made when missing (default /dev/shm/treecast-UID)"},
    {.letter = 'l', .name = "listen", .argument = "ADDR[:PORT]", .kind = TC_OPT_TEXT, AT(listen),
     .help = "accept connections there (default 127.0.0.1:7117); [::]:7117 for IPv6; port 0 picks one and prints it"},
    {.name = "advertise", .argument = "ADDR[:PORT]", .kind = TC_OPT_TEXT, AT(advertise),
     .help = "address that other agents use for this one (default: the one that the sender used)"},
    {.name = "reached-as", .argument = "ADDR[:PORT]", .kind = TC_OPT_LIST, AT(reached_as),
     .help = "take offers for this address too: where a port is forwarded to this agent from; repeatable"},
    {.name = "interface", .argument = "IF", .kind = TC_OPT_TEXT, AT(interface),
     .help = "listen at this interface's address and have other agents use it (ib0, or the address itself)"},
    {.name = "bwlimit", .argument = "RATE", .kind = TC_OPT_SIZE, .least = 256 << 10, AT(bwlimit),
     .help = "bytes a second that leave this host at most, 100M say (default: no limit)"},
    {.name = "join", .argument = "HOST:PORT", .kind = TC_OPT_TEXT, AT(join),
     .help = "dial the sender that waits there (send --join-at) instead of waiting for one"},
    {.name = "as", .argument = "NAME", .kind = TC_OPT_TEXT, AT(as),
     .help = "with --join: which of the sender's hosts this is (default: this host's name)"},
    {.name = "stay", .kind = TC_OPT_FLAG, AT(stay),
     .help = "with --join: serve on when that session has ended, instead of exiting with its code"},
    TC_KEY_ROWS(struct recv_values, key),
    {.name = "once", .kind = TC_OPT_FLAG, AT(once), .help = "exit when the first session ends, with its exit code"},
    {.name = "detach", .kind = TC_OPT_FLAG, AT(detach),
     .help = "go to the background once ready to accept; the agent then logs nothing"},
    {.name = "max-size", .argument = "SIZE", .kind = TC_OPT_SIZE, .least = 1, AT(max_size),
     .help = "refuse arrays of more bytes (default: what there is space for)"},
    {.name = "max-memory", .argument = "SIZE|P%", .kind = TC_OPT_TEXT, AT(max_memory),
     .help = "what all arrays here may take of a memory file system, or of this host's memory (default: all there is)"},
    {.name = "max-message", .argument = "SIZE", .kind = TC_OPT_SIZE, .least = TC_CHUNK_SIZE_MIN,
     .most = TC_CHUNK_SIZE_MAX, AT(max_message),
     .help = "take no longer message, so no larger chunks either (default 4M)"},
    {.name = "max-sessions", .argument = "N", .kind = TC_OPT_NUMBER, .least = 1, .most = 4096, AT(max_sessions),
     .help = "sessions at once (default 64)"},
    {.name = "max-connections", .argument = "N", .kind = TC_OPT_NUMBER, .least = 4, .most = 65536, AT(max_connections),
     .help = "connections that are not let in yet, a quarter of it from one address (default 256)"},
    {.name = "handshake-time", .argument = "SEC", .kind = TC_OPT_NUMBER, .least = 1, .most = 600, AT(handshake_time),
     .help = "close a connection that has not got in after this time (default 3)"},
    {.name = "user", .argument = "NAME", .kind = TC_OPT_TEXT, AT(user),
     .help = "as root: become this user once the port is bound and the key is read"},
    {.name = "no-sandbox", .kind = TC_OPT_FLAG, AT(no_sandbox),
     .help = "do not let the kernel (Landlock) keep the agent in its directory"},
    {.name = "mode", .argument = "OCTAL", .kind = TC_OPT_OCTAL, .least = 0400, .most = 0777, AT(mode),
     .help = "mode of published files (default 0444)"},
    {.name = "group", .argument = "NAME", .kind = TC_OPT_TEXT, AT(group), .help = "group of published files"},
    {.name = "allow-user", .argument = "NAME", .kind = TC_OPT_LIST, AT(users),
     .help = "a user who may ask this agent, besides its own and root; repeatable"},
    {.name = "threads", .argument = "N", .kind = TC_OPT_NUMBER, .least = 1, .most = 1024, AT(threads),
     .help = "threads that verify and write (default: one a core)"},
    {.name = "ttl", .argument = "SEC", .kind = TC_OPT_SECONDS, AT(ttl),
     .help = "remove arrays SEC seconds after they were published, where the sender says no time (default: never)"},
    {.name = "owner", .argument = "PID", .kind = TC_OPT_NUMBER, .least = 1, .most = INT32_MAX, AT(owner),
     .help = "end with this process, and remove what was published"},
    {.letter = 'q', .name = "quiet", .kind = TC_OPT_COUNT, AT(quiet), .help = "log warnings only; twice: errors only"},
    {.letter = 'v', .name = "verbose", .kind = TC_OPT_COUNT, AT(verbose), .help = "log more"},
    {.name = NULL},
};
/* clang-format on */

static void begin(char *const *argv)
{
    (void)argv;
    tc_startup_unblock(); /* what is ignored stays so: nohup(1) */
    tc_key_no_configuration();
}

const struct tc_verb tc_verb_recv = {
    .name = "recv",
    .arguments = "",
    .summary = "be this host's agent: receive arrays, pass them on, publish them",
    .more = "When it accepts connections it prints one line: listening on ADDR:PORT, publishing in DIR\n",
    .options = options,
    .size = sizeof(struct recv_values),
    .defaults = &(const struct recv_values){.key = {.fd = TC_NO_KEY_FD}, .mode = 0444},
    .begin = begin,
    .run = run,
};
