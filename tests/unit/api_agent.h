/* api_agent.h - for the tests of the local API: an agent's local API on a loop thread, and waiting for a condition. */
#ifndef TC_TESTS_API_AGENT_H
#define TC_TESTS_API_AGENT_H

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/server.h"
#include "unit.h"

struct agent {
    struct tc_loop *loop;
    struct tc_api *api;
    pthread_t thread;
    char dir[512];
    char published[129];   /* one name; used in the loop thread only */
    const char *file;      /* what stands for every name; NULL: the file of that name */
    const char *status;    /* text of the answer, or NULL */
    atomic_uint asked;     /* waits that came in */
    struct tc_lease lease; /* that was given last */
};

static inline void await_true(bool (*condition)(void *), void *arg, const char *what)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    for (int i = 0; i < 20000; i++) {
        if (condition(arg))
            return;
        nanosleep(&moment, NULL);
    }
    ck_abort_msg("waited in vain for: %s", what);
}

/* Whether a process watches a directory: path is its /proc/PID/fd. */
static inline bool inotify_in(const char *path)
{
    bool found = false;
    DIR *fds = opendir(path);
    for (struct dirent *entry; fds && !found && (entry = readdir(fds));) {
        char target[64] = "";
        found = readlinkat(dirfd(fds), entry->d_name, target, sizeof target - 1) > 0 && strstr(target, "inotify");
    }
    if (fds)
        closedir(fds);
    return found;
}

static inline bool has_inotify(void *arg)
{
    (void)arg;
    return inotify_in("/proc/self/fd");
}

struct asked {
    struct agent *agent;
    unsigned count;
};

static inline bool was_asked(void *arg)
{
    const struct asked *asked = arg;
    return atomic_load(&asked->agent->asked) >= asked->count;
}

static inline void await_asked(struct agent *agent, unsigned count)
{
    await_true(was_asked, &(struct asked){agent, count}, "a wait through the local API");
}

static inline bool agent_published(void *arg, const char *name)
{
    struct agent *agent = arg;
    atomic_fetch_add(&agent->asked, 1);
    return strcmp(agent->published, name) == 0;
}

static inline void agent_status(void *arg, const char *name, struct tc_api_request *request)
{
    const struct agent *agent = arg;
    struct tc_err err = {0};
    if (!agent->status)
        tc_fail(&err, TC_E_NOTFOUND, name ? "nothing is known of this name" : "no status");
    tc_api_answer(request, agent->status ? strdup(agent->status) : NULL, &err);
}

/* The file itself where there is one, and how it is described. */
static inline int agent_open(void *arg, const char *name, char **description, struct tc_err *err)
{
    struct agent *agent = arg;
    char path[700];
    snprintf(path, sizeof path, "%s/%s", agent->dir, agent->file ? agent->file : name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tc_fail(err, TC_E_NOTFOUND, "%s is not here", name);
    *description = strdup("{\"name\":\"A.npy\",\"schema\":1,\"size\":0,\"digest\":\""
                          "a3ffeae02f35219946f865932f207e1cd7eb9f29b41995dce845fb733a6813c5\",\"session\":\""
                          "3e1e023f1c4c0766ac1a2d112d5e8e08\",\"created\":1700000000,\"array\":null}");
    return fd;
}

static inline void agent_lease(void *arg, const char *name, const struct tc_lease *lease,
                               struct tc_api_request *request)
{
    struct agent *agent = arg;
    struct tc_err err = {0};
    if (strcmp(agent->published, name) != 0)
        tc_fail(&err, TC_E_NOTFOUND, "%s is not here", name);
    else
        agent->lease = *lease;
    tc_api_answer(request, NULL, &err);
}

static inline const char *agent_listening(void *arg)
{
    (void)arg;
    return "127.0.0.1:7117";
}

/* A fresh directory with .treecast in it. */
static inline void make_folder(char *dir, size_t size)
{
    char state[600];
    snprintf(dir, size, "/tmp/tc-api-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(state, sizeof state, "%s/.treecast", dir);
    ck_assert_int_eq(mkdir(state, 0711), 0);
    ck_assert_int_eq(chmod(dir, 0755), 0);
}

static inline void remove_folder(const char *dir)
{
    char command[700];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static inline struct tc_api *serve_at(struct agent *agent, const uid_t *users, unsigned user_count, struct tc_err *err)
{
    char state[600];
    snprintf(state, sizeof state, "%s/.treecast", agent->dir);
    int fd = open(state, O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    struct tc_api_options options = {.users = users,
                                     .user_count = user_count,
                                     .published = agent_published,
                                     .status = agent_status,
                                     .open = agent_open,
                                     .lease = agent_lease,
                                     .listening = agent_listening,
                                     .arg = agent};
    struct tc_api *api = tc_api_serve(agent->loop, agent->dir, fd, &options, err);
    close(fd);
    return api;
}

static inline void *agent_main(void *arg)
{
    struct agent *agent = arg;
    tc_loop_run(agent->loop, NULL);
    return NULL;
}

/* Serve dir (made already) from a thread of its own. */
static inline void agent_start_for(struct agent *agent, const char *dir, const uid_t *users, unsigned user_count)
{
    struct tc_err err = {0};
    memset(agent, 0, sizeof *agent);
    snprintf(agent->dir, sizeof agent->dir, "%s", dir);
    agent->loop = tc_loop_new(NULL);
    ck_assert_ptr_nonnull(agent->loop);
    agent->api = serve_at(agent, users, user_count, &err);
    ck_assert_msg(agent->api != NULL, "%s", err.text);
    ck_assert_int_eq(pthread_create(&agent->thread, NULL, agent_main, agent), 0);
}

static inline void agent_start(struct agent *agent, const char *dir)
{
    agent_start_for(agent, dir, NULL, 0);
}

/* Run call in the loop thread and wait for its end. */
struct errand {
    struct agent *agent;
    void (*call)(struct agent *agent, void *arg);
    void *arg;
    sem_t done;
};

static inline void run_errand(void *arg)
{
    struct errand *errand = arg;
    errand->call(errand->agent, errand->arg);
    sem_post(&errand->done);
}

static inline void in_loop(struct agent *agent, void (*call)(struct agent *agent, void *arg), void *arg)
{
    struct errand errand = {.agent = agent, .call = call, .arg = arg};
    sem_init(&errand.done, 0, 0);
    ck_assert_int_eq(tc_loop_post(agent->loop, run_errand, &errand, NULL), 0);
    while (sem_wait(&errand.done) != 0)
        ;
    sem_destroy(&errand.done);
}

static inline void publish_call(struct agent *agent, void *arg)
{
    const char *name = arg;
    snprintf(agent->published, sizeof agent->published, "%s", name);
    tc_api_published(agent->api, name);
}

static inline void agent_publish(struct agent *agent, const char *name)
{
    in_loop(agent, publish_call, (void *)(uintptr_t)name);
}

static inline void fail_call(struct agent *agent, void *arg)
{
    tc_api_failed(agent->api, "A.npy", arg);
}

static inline void agent_fail(struct agent *agent, struct tc_err *why)
{
    in_loop(agent, fail_call, why);
}

static inline void stop_call(struct agent *agent, void *arg)
{
    (void)arg;
    tc_api_close(agent->api);
    tc_loop_stop(agent->loop);
}

static inline void agent_stop(struct agent *agent)
{
    in_loop(agent, stop_call, NULL);
    pthread_join(agent->thread, NULL);
    tc_loop_free(agent->loop);
}

#endif
