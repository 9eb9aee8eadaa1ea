/* spank_treecast.c - srun, sbatch and salloc: --treecast=FILE[:NAME]
 *
 * Before a task begins, FILE (as the job's first node sees it) is on every node of the job as NAME (default: its file
 * name), and TREECAST_DIR, TREECAST_KEY_FILE and TREECAST_PORT are in the task's environment. The first task on the
 * first node sends it; all others wait. What the job has already is not sent again, so the steps of a job may all name
 * it, as those of an salloc or sbatch with this option do. The agents are the prolog's (treecast-batch(7)).
 *
 * plugstack.conf: optional LIBDIR/treecast/spank_treecast.so [program=PATH] [timeout=SECONDS]
 *
 * All of it happens in slurm_spank_task_init, as the user and in the task's own process: a failure there ends the task,
 * never the node. It ends it by itself, because what an optional plug-in returns does not keep a task from running. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

SPANK_PLUGIN(treecast, 1)

#ifndef TREECAST_PROGRAM
#define TREECAST_PROGRAM "/usr/bin/treecast"
#endif

enum { TEXT = 4096 };

static char wish[TEXT]; /* FILE[:NAME]; empty: none */
static char program[TEXT] = TREECAST_PROGRAM;
static char timeout[16] = "600";

static int on_option(int value, const char *argument, int remote)
{
    (void)value;
    (void)remote;
    if (!argument || !*argument || strlen(argument) >= sizeof wish) {
        slurm_error("--treecast: give FILE or FILE:NAME");
        return -1;
    }
    snprintf(wish, sizeof wish, "%s", argument);
    return 0;
}

static char option_name[] = "treecast", option_argument[] = "FILE[:NAME]",
            option_usage[] = "before tasks begin, broadcast FILE to all nodes of the job";
static struct spank_option option = {option_name, option_argument, option_usage, 1, 0, on_option};

int slurm_spank_init(spank_t spank, int count, char **words)
{
    for (int i = 0; i < count; i++) {
        if (strncmp(words[i], "program=", 8) == 0)
            snprintf(program, sizeof program, "%s", words[i] + 8);
        else if (strncmp(words[i], "timeout=", 8) == 0 && strlen(words[i] + 8) < sizeof timeout)
            snprintf(timeout, sizeof timeout, "%s", words[i] + 8);
        else
            slurm_error("spank_treecast: '%s' in plugstack.conf is not understood", words[i]);
    }
    return spank_option_register(spank, &option) == ESPANK_SUCCESS ? 0 : -1;
}

/* FILE and NAME out of the wish: NAME is what follows the last colon, if that could be a name. */
static void split(char file[TEXT], char name[TEXT])
{
    snprintf(file, TEXT, "%s", wish);
    char *colon = strrchr(file, ':');
    if (colon && colon > file && colon[1] && !strchr(colon, '/')) {
        snprintf(name, TEXT, "%s", colon + 1);
        *colon = '\0';
        return;
    }
    const char *slash = strrchr(file, '/');
    snprintf(name, TEXT, "%s", slash ? slash + 1 : file);
}

/* Run the program in the job's environment. said: what it prints goes there; quiet: what it complains of goes nowhere.
 * Returns its exit code, 126 when it could not be run. */
static int run(spank_t spank, const char *const *words, bool quiet, char *said, size_t size)
{
    char **environment = NULL;
    int ends[2] = {-1, -1}, status = 0;
    sigset_t none;
    if (spank_get_item(spank, S_JOB_ENV, &environment) != ESPANK_SUCCESS || (said && pipe(ends) < 0))
        return 126;
    pid_t child = fork();
    if (child == 0) {
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGCHLD, SIG_DFL);
        if (said)
            dup2(ends[1], STDOUT_FILENO);
        else if (quiet)
            (void)!freopen("/dev/null", "w", stdout);
        if (quiet)
            (void)!freopen("/dev/null", "w", stderr);
        execve(program, (char *const *)(uintptr_t)words, environment);
        fprintf(stderr, "treecast: %s: %s\n", program, strerror(errno));
        _exit(126);
    }
    if (said) {
        close(ends[1]);
        size_t used = 0;
        for (ssize_t got; used < size - 1 && (got = read(ends[0], said + used, size - 1 - used)) != 0;)
            if (got > 0)
                used += (size_t)got;
            else if (errno != EINTR)
                break;
        said[used] = '\0';
        close(ends[0]);
    }
    if (child < 0)
        return 126;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

/* Set what a task prolog exports, for the task and for what we run. Whether there was anything. */
static bool set_environment(spank_t spank)
{
    const char *words[] = {"treecast", "hook", "--system=slurm", "task-prolog", NULL};
    char said[3 * TEXT], *rest = NULL;
    bool any = false;
    run(spank, words, false, said, sizeof said);
    for (char *line = strtok_r(said, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *value = strchr(line, '=');
        if (strncmp(line, "export ", 7) != 0 || !value)
            continue;
        *value = '\0';
        any = spank_setenv(spank, line + 7, value + 1, 1) == ESPANK_SUCCESS;
    }
    return any;
}

/* The first task of the job's first node (of the step's first one). */
static int broadcast(spank_t spank, char *file, char *name)
{
    const char *there[] = {"treecast", "attach", "-t", "0.01", name, NULL};
    char hosts[16 * TEXT];
    if (run(spank, there, true, NULL, 0) == 0)
        return 0;
    if (spank_getenv(spank, "SLURM_JOB_NODELIST", hosts, sizeof hosts) != ESPANK_SUCCESS) {
        fprintf(stderr, "treecast: SLURM_JOB_NODELIST is not set\n");
        return 1;
    }
    const char *send[] = {"treecast", "send", "-q", "-w", hosts, file, name, NULL};
    return run(spank, send, false, NULL, 0);
}

static void kill_step(uint32_t job, uint32_t step)
{
#if SLURM_KILL_STEP == 1
    slurm_kill_job_step(job, step, SIGKILL);
#elif SLURM_KILL_STEP == 2
    slurm_kill_job_step(job, step, SIGKILL, 0);
#else
    slurm_step_id_t id = SLURM_STEP_ID_INITIALIZER;
    id.job_id = job;
    id.step_id = step;
    slurm_kill_job_step(&id, SIGKILL, 0);
#endif
}

/* The others would wait for what never comes. */
static void end_step(spank_t spank)
{
    uint32_t job, step;
    if (spank_get_item(spank, S_JOB_ID, &job) == ESPANK_SUCCESS &&
        spank_get_item(spank, S_JOB_STEPID, &step) == ESPANK_SUCCESS && step < SLURM_MAX_NORMAL_STEP_ID)
        kill_step(job, step);
}

int slurm_spank_task_init(spank_t spank, int count, char **words)
{
    (void)count;
    (void)words;
    char file[TEXT], name[TEXT];
    uint32_t node = 0;
    int task = 0;
    if (!*wish || spank_context() != S_CTX_REMOTE)
        return 0;
    split(file, name);
    spank_get_item(spank, S_JOB_NODEID, &node);
    spank_get_item(spank, S_TASK_ID, &task);
    if (!set_environment(spank)) {
        fprintf(stderr, "treecast: --treecast: no agent was started for this job here; see treecast-batch(7)\n");
        _exit(EXIT_FAILURE);
    }
    const char *wait[] = {"treecast", "wait", "-t", timeout, name, NULL};
    int code = node == 0 && task == 0 ? broadcast(spank, file, name) : run(spank, wait, false, NULL, 0);
    if (code == 0)
        return 0;
    fprintf(stderr, "treecast: --treecast=%s: not here (exit code %d)\n", wish, code);
    end_step(spank);
    _exit(EXIT_FAILURE);
}
