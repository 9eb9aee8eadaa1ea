#include "site/jobdir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/startup.h"

#define STATE ".treecast"
#define ACL_NAME "system.posix_acl_access"
#define LOOK_MS 10     /* between two looks at what gives no event */
#define KILL_SECONDS 2 /* for a process to end that was killed */
#define DEPTH 16       /* of folders that are removed */
#define FAR 64         /* descriptors are moved from here on, out of the way of those that the agent is given */
#define KEY_FD 3

struct tc_jobdir {
    char *path;
    int fd, state; /* BASE/ID, which is locked, and BASE/ID/.treecast */
    uid_t agent;   /* whose it may be besides ours */
};

struct process {
    pid_t pid;
    unsigned long long start; /* clock ticks after boot; with pid it names one process for ever */
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Directories. */

static int check_own(int fd, const char *path, uid_t agent, struct tc_err *err)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return tc_fail_errno(err, errno, "cannot read %s", path);
    if (status.st_uid != geteuid() && status.st_uid != agent)
        return tc_fail(err, TC_E_POLICY, "%s belongs to uid %u and not to the hook's user; remove it", path,
                       (unsigned)status.st_uid);
    if (status.st_mode & (S_ISVTX | S_IWOTH))
        return tc_fail(err, TC_E_POLICY, "others may write to %s: choose a directory of root's own", path);
    return 0;
}

/* A descriptor; made: the directory is made with mode where it is missing. */
static int open_own(int at, const char *name, bool make, mode_t mode, uid_t agent, const char *shown,
                    struct tc_err *err)
{
    bool made = make && mkdirat(at, name, mode) == 0;
    if (make && !made && errno != EEXIST)
        return tc_fail_errno(err, errno, "cannot make %s", shown);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
        return tc_fail(err, TC_E_POLICY, "%s is a link or not a directory; remove it", shown);
    if (fd < 0)
        return tc_fail_errno(err, errno, "cannot open %s", shown);
    int result = check_own(fd, shown, agent, err);
    if (result == 0 && made && fchmod(fd, mode) < 0) /* the umask may have taken too much */
        result = tc_fail_errno(err, errno, "cannot change the mode of %s", shown);
    if (result == 0)
        return fd;
    close(fd);
    return result;
}

static int lock(struct tc_jobdir *dir, double until, struct tc_err *err)
{
    while (flock(dir->fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return tc_fail_errno(err, errno, "cannot lock %s", dir->path);
        if (now() > until)
            return tc_fail(err, TC_E_BUSY, "%s: another hook is at work on it", dir->path);
        poll(NULL, 0, LOOK_MS);
    }
    return 0;
}

static bool is_removed(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_nlink == 0;
}

static int open_job(struct tc_jobdir *dir, const char *base, const char *id, bool make, double until,
                    struct tc_err *err)
{
    int above = open_own(AT_FDCWD, base, make, 0711, geteuid(), base, err);
    if (above < 0)
        return above;
    int result;
    do { /* an epilog may remove it before we have the lock */
        if (dir->fd >= 0)
            close(dir->fd);
        dir->fd = open_own(above, id, make, 0700, dir->agent, dir->path, err);
        result = dir->fd < 0 ? dir->fd : lock(dir, until, err);
    } while (result == 0 && is_removed(dir->fd));
    close(above);
    if (result == 0)
        dir->state = open_own(dir->fd, STATE, make, 0711, dir->agent, STATE, make ? err : NULL);
    return result < 0 || !make || dir->state >= 0 ? result : dir->state; /* what has no .treecast can be purged */
}

static struct tc_jobdir *jobdir_open(const char *base, const char *id, uid_t agent, bool make, double seconds,
                                     struct tc_err *err)
{
    struct tc_jobdir *dir = calloc(1, sizeof *dir);
    if (!dir || asprintf(&dir->path, "%s/%s", base, id) < 0) {
        free(dir);
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    dir->fd = dir->state = -1;
    dir->agent = agent;
    if (open_job(dir, base, id, make, now() + seconds, err) == 0)
        return dir;
    tc_jobdir_free(dir);
    return NULL;
}

struct tc_jobdir *tc_jobdir_make(const char *base, const char *id, uid_t agent, double seconds, struct tc_err *err)
{
    return jobdir_open(base, id, agent, true, seconds, err);
}

struct tc_jobdir *tc_jobdir_find(const char *base, const char *id, uid_t agent, double seconds, struct tc_err *err)
{
    return jobdir_open(base, id, agent, false, seconds, err);
}

void tc_jobdir_free(struct tc_jobdir *dir)
{
    if (!dir)
        return;
    if (dir->fd >= 0)
        close(dir->fd);
    if (dir->state >= 0)
        close(dir->state);
    free(dir->path);
    free(dir);
}

const char *tc_jobdir_path(const struct tc_jobdir *dir)
{
    return dir->path;
}

int tc_jobdir_own(struct tc_jobdir *dir, uid_t owner, gid_t group, struct tc_err *err)
{
    if (fchown(dir->fd, owner, group) < 0 || fchown(dir->state, owner, group) < 0)
        return tc_fail_errno(err, errno, "%s: cannot give it to uid %u", dir->path, (unsigned)owner);
    return 0;
}

int tc_jobdir_give(struct tc_jobdir *dir, const char *file, uid_t uid, gid_t gid, struct tc_err *err)
{
    int fd = openat(dir->fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int result = 0;
    if (fd < 0 || fchmod(fd, 0400) < 0 || fchown(fd, uid, gid) < 0)
        result = tc_fail_errno(err, errno, "cannot give %s/%s to uid %u", dir->path, file, (unsigned)uid);
    if (fd >= 0)
        close(fd);
    return result;
}

/* Owner rwx, uid r-x, group none, all others none. */
static bool let_in(int fd, uid_t uid)
{
    struct {
        struct posix_acl_xattr_header head;
        struct posix_acl_xattr_entry entries[5];
    } list = {
        .head = {.a_version = htole32(POSIX_ACL_XATTR_VERSION)},
        .entries = {{htole16(ACL_USER_OBJ), htole16(7), htole32((uint32_t)ACL_UNDEFINED_ID)},
                    {htole16(ACL_USER), htole16(5), htole32(uid)},
                    {htole16(ACL_GROUP_OBJ), htole16(0), htole32((uint32_t)ACL_UNDEFINED_ID)},
                    {htole16(ACL_MASK), htole16(5), htole32((uint32_t)ACL_UNDEFINED_ID)},
                    {htole16(ACL_OTHER), htole16(0), htole32((uint32_t)ACL_UNDEFINED_ID)}},
    };
    return fsetxattr(fd, ACL_NAME, &list, sizeof list, 0) == 0;
}

int tc_jobdir_open_to(struct tc_jobdir *dir, uid_t uid, gid_t gid, bool by_group, struct tc_err *err)
{
    if (!by_group && let_in(dir->fd, uid))
        return 0;
    if (!by_group && errno != EOPNOTSUPP && errno != ENOTSUP)
        return tc_fail_errno(err, errno, "%s: cannot let uid %u in", dir->path, (unsigned)uid);
    if (fchown(dir->fd, (uid_t)-1, gid) < 0 || fchmod(dir->fd, 0750) < 0)
        return tc_fail_errno(err, errno, "%s: cannot let group %u in", dir->path, (unsigned)gid);
    return 0;
}

/* The agent. */

/* Whether the process lives (and is no zombie), and when it began. */
static bool look(pid_t pid, unsigned long long *start)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return false;
    text[got] = '\0';
    const char *at = strrchr(text, ')'); /* the name before it may hold anything */
    char state;
    return at &&
           sscanf(at + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &state,
                  start) == 2 &&
           state != 'Z' && state != 'X';
}

static bool lives(const struct process *process)
{
    unsigned long long start;
    return look(process->pid, &start) && start == process->start;
}

/* Whether the process is of the directory's owner, so that an agent which has lost root can send a hook after nobody
 * else: it may write in the directory. */
static bool is_of_owner(const struct tc_jobdir *dir, pid_t pid)
{
    struct stat status;
    char path[32], text[2048];
    unsigned uid;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    const char *at = strstr(text, "\nUid:");
    return at && sscanf(at, "\nUid: %u", &uid) == 1 && fstat(dir->fd, &status) == 0 && status.st_uid == uid;
}

/* Whom the file names. */
static bool from_file(const struct tc_jobdir *dir, struct process *process)
{
    char text[64];
    int pid;
    int fd = openat(dir->state, "agent", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return false;
    text[got] = '\0';
    bool valid = sscanf(text, "%d %llu", &pid, &process->start) == 2 && pid > 1;
    process->pid = valid ? (pid_t)pid : 0;
    return valid && lives(process);
}

/* Who holds the listening socket: an agent that went to the background by itself is not whom the file names. */
static bool from_door(const struct tc_jobdir *dir, struct process *process)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t size = sizeof peer;
    int used = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/door", dir->state);
    int fd = used > 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
    bool found = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                 getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 1 &&
                 look(peer.pid, &process->start);
    if (found)
        process->pid = peer.pid;
    if (fd >= 0)
        close(fd);
    return found;
}

static bool agent_of(const struct tc_jobdir *dir, struct process *process)
{
    return dir->state >= 0 && ((from_file(dir, process) && is_of_owner(dir, process->pid)) ||
                               (from_door(dir, process) && is_of_owner(dir, process->pid)));
}

bool tc_jobdir_agent_lives(struct tc_jobdir *dir)
{
    struct process process;
    return agent_of(dir, &process);
}

/* Signal that very process: what the descriptor holds cannot become another one. Linux before 5.3 has none. */
static void send_signal(const struct process *process, int number)
{
    int pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (!lives(process))
        number = 0;
    if (pidfd >= 0)
        syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
    else if (errno == ENOSYS)
        kill(process->pid, number);
    if (pidfd >= 0)
        close(pidfd);
}

static bool ends_within(const struct process *process, double seconds)
{
    double until = now() + seconds;
    while (lives(process)) {
        if (now() > until)
            return false;
        poll(NULL, 0, LOOK_MS);
    }
    return true;
}

int tc_jobdir_stop(struct tc_jobdir *dir, double seconds, struct tc_err *err)
{
    struct process process;
    if (!agent_of(dir, &process))
        return 0;
    send_signal(&process, SIGTERM);
    if (ends_within(&process, seconds))
        return 0;
    send_signal(&process, SIGKILL);
    if (ends_within(&process, KILL_SECONDS))
        return 0;
    return tc_fail(err, TC_E_FAILED, "%s: its agent, process %d, does not end", dir->path, (int)process.pid);
}

/* In the child. The pid is written down before the program begins, so that no agent is without a file. */
static bool write_down(int state)
{
    struct process self = {.pid = getpid()};
    char text[64];
    int fd = openat(state, "agent", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || !look(self.pid, &self.start))
        return false;
    int used = snprintf(text, sizeof text, "%d %llu\n", (int)self.pid, self.start);
    bool written = write(fd, text, (size_t)used) == used;
    close(fd);
    return written;
}

/* Nothing of what a batch system's daemon has set for itself and the hook has not left behind when it began: the badness
 * that the kernel kills by, groups (by which SGE finds what it ends with a job); and none of the hook's own signals. */
static void forget_parent(void)
{
    tc_startup_signals();
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, "0", 1) < 0)
            fprintf(stderr, "oom_score_adj stays: %s\n", strerror(errno));
        close(fd);
    }
    if (geteuid() == 0 && setgroups(0, NULL) < 0)
        fprintf(stderr, "groups stay: %s\n", strerror(errno));
}

static _Noreturn void become_agent(const struct tc_jobdir *dir, const char *const *arguments, const int fds[4])
{
    char *nothing[] = {NULL};
    int state = fcntl(dir->state, F_DUPFD_CLOEXEC, FAR);
    setsid();
    for (int fd = 0; fd < 4; fd++)
        if (dup2(fds[fd], fd) < 0)
            _exit(126);
    forget_parent();
    tc_startup_close((const int[]){KEY_FD, state}, 2); /* the lock goes with the others */
    if (chdir("/") < 0 || state < 0 || !write_down(state)) {
        fprintf(stderr, "cannot write down the process: %s\n", strerror(errno));
        _exit(126);
    }
    execve("/proc/self/exe", (char *const *)(uintptr_t)arguments, nothing);
    fprintf(stderr, "/proc/self/exe: %s\n", strerror(errno));
    _exit(126);
}

/* Move fd out of the way of 0..3. */
static int far(int fd)
{
    int moved = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, FAR);
    if (fd >= 0)
        close(fd);
    return moved;
}

/* What the agent is given as 0..3, and in ready our end of its standard output. */
static int open_all(struct tc_jobdir *dir, int fds[4], int *ready, struct tc_err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return tc_fail_errno(err, errno, "pipe");
    *ready = ends[0];
    fds[0] = far(open("/dev/null", O_RDWR | O_CLOEXEC));
    fds[1] = far(ends[1]);
    fds[2] = far(openat(dir->state, "log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (fds[2] < 0)
        return tc_fail_errno(err, errno, "%s: cannot make the agent's log", dir->path);
    fds[3] = far(openat(dir->fd, TC_JOBDIR_KEY, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (fds[0] < 0 || fds[1] < 0 || fds[3] < 0)
        return tc_fail_errno(err, errno, "%s: cannot open what the agent needs", dir->path);
    return 0;
}

/* The last line of the agent's log, or what there is to say without. */
static void last_words(const struct tc_jobdir *dir, char *out, size_t size)
{
    char text[1024];
    ssize_t got = -1;
    int fd = openat(dir->state, "log", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        off_t end = lseek(fd, 0, SEEK_END);
        got = pread(fd, text, sizeof text - 1, end > (off_t)sizeof text - 1 ? end - (off_t)sizeof text + 1 : 0);
        close(fd);
    }
    while (got > 0 && text[got - 1] == '\n')
        got--;
    text[got > 0 ? got : 0] = '\0';
    const char *line = strrchr(text, '\n');
    snprintf(out, size, "%.160s", got > 0 ? (line ? line + 1 : text) : "it said nothing (is the file system full?)");
}

/* 1: a line came; 0: end of file; -1: neither within seconds. */
static int await_line(int fd, double seconds)
{
    double until = now() + seconds;
    char bytes[512];
    for (;;) {
        double left = until - now();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int polled = poll(&ready, 1, left > 0 ? (int)(left * 1e3) + 1 : 0);
        if (polled < 0 && errno == EINTR)
            continue;
        if (polled <= 0)
            return -1;
        ssize_t got = read(fd, bytes, sizeof bytes);
        if (got <= 0)
            return 0;
        if (memchr(bytes, '\n', (size_t)got))
            return 1;
    }
}

static int await_agent(struct tc_jobdir *dir, int ready, double seconds, struct tc_err *err)
{
    char words[200];
    int said = await_line(ready, seconds);
    if (said > 0)
        return 0;
    if (said < 0)
        return tc_fail(err, TC_E_TIMEOUT, "%s: its agent was not ready within %g s", dir->path, seconds);
    last_words(dir, words, sizeof words);
    return tc_fail(err, TC_E_FAILED, "%s: its agent has ended: %s", dir->path, words);
}

int tc_jobdir_start(struct tc_jobdir *dir, const char *const *arguments, double seconds, struct tc_err *err)
{
    int fds[4] = {-1, -1, -1, -1}, ready = -1;
    int result = open_all(dir, fds, &ready, err);
    pid_t child = result == 0 ? fork() : 0;
    if (result == 0 && child == 0)
        become_agent(dir, arguments, fds);
    if (child < 0)
        result = tc_fail_errno(err, errno, "fork");
    for (int i = 0; i < 4; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (result == 0)
        result = await_agent(dir, ready, seconds, err);
    if (ready >= 0)
        close(ready);
    if (child > 0)
        waitpid(child, NULL, WNOHANG); /* one that has ended already */
    return result;
}

/* Removal. */

static int remove_inside(int at, unsigned depth);

static int remove_entry(int at, const char *name, unsigned depth)
{
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int result = fd < 0 ? -errno : depth == 0 ? -ELOOP : remove_inside(fd, depth - 1);
    if (fd >= 0)
        close(fd);
    return result < 0 ? result : unlinkat(at, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* Everything is tried; the first failure is returned. */
static int remove_inside(int at, unsigned depth)
{
    int copy = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    if (!list) {
        result = -errno;
        if (copy >= 0)
            close(copy);
        return result;
    }
    for (struct dirent *entry; (entry = readdir(list));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int one = remove_entry(at, entry->d_name, depth);
        result = result < 0 ? result : one;
    }
    closedir(list);
    return result;
}

int tc_jobdir_purge(struct tc_jobdir *dir, bool remove, struct tc_err *err)
{
    int result = remove_inside(dir->fd, DEPTH);
    if (result == 0 && remove && rmdir(dir->path) < 0 && errno != ENOENT)
        result = -errno;
    if (result < 0)
        return tc_fail_errno(err, -result, "cannot empty %s", dir->path);
    if (remove)
        return 0;
    if (dir->state >= 0)
        close(dir->state);
    fremovexattr(dir->fd, ACL_NAME);
    if (fchmod(dir->fd, 0700) < 0)
        return tc_fail_errno(err, errno, "cannot change the mode of %s", dir->path);
    dir->state = open_own(dir->fd, STATE, true, 0711, dir->agent, STATE, err);
    return dir->state < 0 ? dir->state : 0;
}

size_t tc_jobdir_hidden(const char *path, const char *mountinfo)
{
    size_t best = 0, counted = 0;
    for (const char *line = mountinfo; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char point[512];
        if (sscanf(line, "%*d %*d %*s %*s %511s", point) != 1)
            continue;
        size_t length = strlen(point);
        bool above = length > 1 && strncmp(path, point, length) == 0 && (!path[length] || path[length] == '/');
        if (!above || length < best)
            continue;
        counted = length == best ? counted + 1 : 1;
        best = length;
    }
    return counted > 1 ? best : 0;
}

/* The value of key in "key=value" words of a configuration, as Slurm reads one; its length, 0 when it is not there. */
static size_t setting(const char *text, const char *key, const char **value)
{
    size_t length = strlen(key);
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        for (const char *at = line; *at && *at != '\n' && *at != '#'; at++) {
            bool begins = at == line || at[-1] == ' ' || at[-1] == '\t';
            if (!begins || strncasecmp(at, key, length) != 0 || at[length] != '=')
                continue;
            *value = at + length + 1;
            return strcspn(*value, " \t\n#");
        }
    }
    return 0;
}

bool tc_jobdir_private(const char *path, const char *conf, const char *container)
{
    const char *type, *dirs;
    size_t length = setting(conf, "JobContainerType", &type);
    if (length < 6 || strncasecmp(type + length - 6, "/tmpfs", 6) != 0)
        return false;
    length = setting(container, "Dirs", &dirs);
    if (length == 0) { /* Slurm's own default */
        dirs = "/tmp,/dev/shm";
        length = strlen(dirs);
    }
    for (size_t at = 0, word; at < length; at += word + 1) {
        word = strcspn(dirs + at, ", \t\n");
        word = at + word > length ? length - at : word;
        if (word > 1 && strncmp(path, dirs + at, word) == 0 && (!path[word] || path[word] == '/'))
            return true;
    }
    return false;
}
