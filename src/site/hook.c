#include "site/hook.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where each system says what. Names are tried in turn. */
struct dialect {
    const char *word;
    const char *id[2], *index, *cluster[2], *life[2], *uid[2], *user[3], *gid;
    int prolog, epilog, task_prolog; /* exit codes of a strict hook that failed */
};

/* Exit codes. Slurm: any but 0 drains the node and requeues the job (prolog), drains (epilog), ends the task. PBS and
 * Torque: 1 would delete the job, others requeue it; of an epilogue's they only write it down. LSF: the job pends
 * again. SGE: 99 reschedules the job, which an epilog must not; 100 puts the job, others the queue in error. Flux: the job
 * gets an exception, the ranks are drained. */
static const struct dialect dialects[] = {
    [TC_HOOK_SLURM] = {.word = "slurm",
                       .id = {"SLURM_JOB_ID", "SLURM_JOBID"},
                       .cluster = {"SLURM_CLUSTER_NAME"},
                       .life = {"SLURM_JOB_START_TIME", "SLURM_JOB_RESTART_COUNT"},
                       .uid = {"SLURM_JOB_UID"},
                       .user = {"SLURM_JOB_USER"},
                       .gid = "SLURM_JOB_GID",
                       .prolog = 1,
                       .epilog = 1,
                       .task_prolog = 1},
    [TC_HOOK_PBS] =
        {.word = "pbs", .id = {"PBS_JOBID"}, .user = {"LOGNAME", "USER"}, .prolog = 2, .epilog = 1, .task_prolog = 1},
    [TC_HOOK_TORQUE] = {.word = "torque",
                        .id = {"PBS_JOBID"},
                        .user = {"LOGNAME", "USER"},
                        .prolog = 2,
                        .epilog = 1,
                        .task_prolog = 1},
    [TC_HOOK_LSF] = {.word = "lsf",
                     .id = {"LSB_JOBID"},
                     .index = "LSB_JOBINDEX",
                     .cluster = {"LSB_CLUSTER_NAME", "LSF_CLUSTER_NAME"},
                     .user = {"LSFUSER", "LOGNAME", "USER"},
                     .prolog = 1,
                     .epilog = 1,
                     .task_prolog = 1},
    [TC_HOOK_SGE] = {.word = "sge",
                     .id = {"JOB_ID"},
                     .index = "SGE_TASK_ID",
                     .cluster = {"SGE_CLUSTER_NAME", "SGE_CELL"},
                     .user = {"LOGNAME", "USER"},
                     .prolog = 99,
                     .epilog = 100,
                     .task_prolog = 100},
    [TC_HOOK_FLUX] =
        {.word = "flux", .id = {"FLUX_JOB_ID"}, .uid = {"FLUX_JOB_USERID"}, .prolog = 1, .epilog = 1, .task_prolog = 1},
};

int tc_hook_system_parse(const char *word, enum tc_hook_system *system, struct tc_err *err)
{
    for (unsigned i = 0; i < sizeof dialects / sizeof *dialects; i++) {
        if (strcmp(dialects[i].word, word) != 0)
            continue;
        *system = (enum tc_hook_system)i;
        return 0;
    }
    return tc_fail(err, TC_E_USAGE, "--system: no such batch system '%s'; there are %s", word, TC_HOOK_SYSTEMS);
}

int tc_hook_phase_parse(const char *word, enum tc_hook_phase *phase, struct tc_err *err)
{
    static const char *const words[][2] = {
        {"prolog", "prologue"}, {"epilog", "epilogue"}, {"task-prolog", "task-prologue"}};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i][0], word) != 0 && strcmp(words[i][1], word) != 0)
            continue;
        *phase = (enum tc_hook_phase)i;
        return 0;
    }
    return tc_fail(err, TC_E_USAGE, "no such phase '%s'; there are prolog, epilog and task-prolog", word);
}

/* What the values of variables look like. */

enum form { NUMBER, TASK, ID, TEXT, FILE_PATH };

static const struct {
    const char *name;
    enum form form;
} variables[] = {
    {"SLURM_JOB_ID", NUMBER},
    {"SLURM_JOBID", NUMBER},
    {"SLURM_JOB_UID", NUMBER},
    {"SLURM_JOB_USER", TEXT},
    {"SLURM_JOB_GID", NUMBER},
    {"SLURM_LOCALID", NUMBER},
    {"SLURM_CLUSTER_NAME", TEXT},
    {"SLURM_CONF", FILE_PATH},
    {"SLURM_JOB_START_TIME", NUMBER},
    {"SLURM_JOB_RESTART_COUNT", NUMBER},
    {"PBS_JOBID", ID},
    {"LSB_JOBID", NUMBER},
    {"LSB_JOBINDEX", NUMBER},
    {"LSB_CLUSTER_NAME", TEXT},
    {"LSF_CLUSTER_NAME", TEXT},
    {"LSFUSER", TEXT},
    {"JOB_ID", NUMBER},
    {"SGE_TASK_ID", TASK},
    {"SGE_CLUSTER_NAME", TEXT},
    {"SGE_CELL", TEXT},
    {"FLUX_JOB_ID", ID},
    {"FLUX_JOB_USERID", NUMBER},
    {"LOGNAME", TEXT},
    {"USER", TEXT},
};

enum { VALUE_MOST = 255 }; /* bytes */

static bool is_number(const char *value)
{
    return value[strspn(value, "0123456789")] == '\0';
}

/* Letters, digits, and what ids of PBS have besides; Flux's may begin with a launch request that ASCII has not. */
static bool is_id(const char *value)
{
    if (strncmp(value, "\xc6\x92", 2) == 0)
        value += 2;
    for (; *value; value++)
        if (!isalnum((unsigned char)*value) && !strchr(".-_[]", *value))
            return false;
    return true;
}

static bool is_text(const char *value)
{
    for (; *value; value++)
        if ((unsigned char)*value < ' ' || *value == 0x7f)
            return false;
    return true;
}

static bool has_form(const char *value, enum form form)
{
    size_t length = strnlen(value, VALUE_MOST + 1);
    if (length == 0 || length > VALUE_MOST)
        return false;
    return form == NUMBER ? is_number(value)
           : form == TASK ? is_number(value) || strcmp(value, "undefined") == 0
           : form == ID   ? is_id(value)
                          : is_text(value) && (form != FILE_PATH || *value == '/');
}

bool tc_hook_keeps(const char *entry)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        size_t length = strlen(variables[i].name);
        if (strncmp(entry, variables[i].name, length) == 0 && entry[length] == '=')
            return has_form(entry + length + 1, variables[i].form);
    }
    return false;
}

/* Borrowed; NULL where it is missing or has not its form. */
static const char *variable(char *const *environment, const char *name)
{
    size_t length = name ? strlen(name) : 0;
    for (; length > 0 && *environment; environment++)
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=' && tc_hook_keeps(*environment))
            return *environment + length + 1;
    return NULL;
}

static const char *first_variable(char *const *environment, const char *const *names, size_t count)
{
    const char *value = NULL;
    for (size_t i = 0; i < count && !value; i++)
        value = variable(environment, names[i]);
    return value;
}

#define FIRST(environment, names) first_variable(environment, names, sizeof(names) / sizeof(names)[0])

/* Characters that a file's name should not have become '_': 12[3].server is 12_3_.server. */
static void make_plain(char *text)
{
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("._-", *text))
            *text = '_';
}

static int take_id(struct tc_hook_job *job, const char *text, const char *index, struct tc_err *err)
{
    int used =
        index ? snprintf(job->id, sizeof job->id, "%s.%s", text, index) : snprintf(job->id, sizeof job->id, "%s", text);
    if (used < 1 || (size_t)used >= sizeof job->id || !isalnum((unsigned char)job->id[0]))
        return tc_fail(err, TC_E_NAME, "'%.80s' cannot be a job's id", text);
    make_plain(job->id);
    return 0;
}

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 0x12ab, 0000.0012.ab00.0000: the dots say nothing. */
static bool flux_hexadecimal(const char *text, uint64_t *number)
{
    unsigned digits = 0;
    for (*number = 0; *text; text++) {
        if (*text == '.')
            continue;
        int value = nibble(*text);
        if (value < 0 || ++digits > 16)
            return false;
        *number = *number << 4 | (uint64_t)value;
    }
    return digits > 0;
}

static bool flux_f58(const char *text, uint64_t *number)
{
    static const char digits[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    if (!*text)
        return false;
    for (*number = 0; *text; text++) {
        const char *at = strchr(digits, *text);
        if (!at || __builtin_mul_overflow(*number, 58u, number) ||
            __builtin_add_overflow(*number, (uint64_t)(at - digits), number))
            return false;
    }
    return true;
}

bool tc_hook_flux_id(const char *text, uint64_t *number)
{
    static const char sign[] = "\xc6\x92"; /* U+0192 */
    char *end;
    if (strncmp(text, sign, 2) == 0)
        return flux_f58(text + 2, number);
    if (strncmp(text, "0x", 2) == 0)
        return flux_hexadecimal(text + 2, number);
    if (strchr(text, '.'))
        return flux_hexadecimal(text, number);
    if (*text == 'f')
        return flux_f58(text + 1, number);
    errno = 0;
    *number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno;
}

static int take_flux_id(struct tc_hook_job *job, const char *text, struct tc_err *err)
{
    uint64_t number;
    if (!tc_hook_flux_id(text, &number))
        return tc_fail(err, TC_E_NAME, "'%.80s' is no Flux job id", text);
    snprintf(job->id, sizeof job->id, "%llu", (unsigned long long)number);
    return 0;
}

static bool number_of(const char *text, uint32_t *number)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    *number = (uint32_t)value;
    return *text >= '0' && *text <= '9' && !*end && !errno && value < UINT32_MAX;
}

/* A number stands for itself, known here or not: its group is the number's own user's, or else the same number. */
static int take_user(struct tc_hook_job *job, const char *text, struct tc_err *err)
{
    uint32_t number = 0;
    bool numeric = number_of(text, &number);
    const struct passwd *user = numeric ? getpwuid(number) : getpwnam(text);
    if (!user && !numeric)
        return tc_fail(err, TC_E_NOTFOUND, "this host knows no user '%.80s'", text);
    job->has_user = true;
    job->uid = user ? user->pw_uid : number;
    job->gid = user ? user->pw_gid : number;
    return 0;
}

static void take_group(struct tc_hook_job *job, const char *text)
{
    uint32_t number = 0;
    const struct group *group = text && *text ? getgrnam(text) : NULL;
    if (group)
        job->gid = group->gr_gid;
    else if (text && number_of(text, &number))
        job->gid = number;
}

/* An array's task: SGE says "undefined", LSF 0 for a job that is no array. */
static const char *index_of(const struct dialect *dialect, char *const *environment)
{
    const char *index = variable(environment, dialect->index);
    return index && strcmp(index, "undefined") != 0 && strcmp(index, "0") != 0 ? index : NULL;
}

int tc_hook_job_read(struct tc_hook_job *job, enum tc_hook_system system, const char *const *operands, size_t count,
                     const char *cluster, char *const *environment, struct tc_err *err)
{
    const struct dialect *dialect = &dialects[system];
    *job = (struct tc_hook_job){.system = system};
    const char *id = count > 0 && *operands[0] ? operands[0] : FIRST(environment, dialect->id);
    const char *user = count > 1 && *operands[1] ? operands[1] : FIRST(environment, dialect->uid);
    if (!cluster || !*cluster)
        cluster = FIRST(environment, dialect->cluster);
    if (!user)
        user = FIRST(environment, dialect->user);
    if (!id)
        return tc_fail(err, TC_E_USAGE, "no job: neither JOBID nor %s (%s) in the environment", dialect->id[0],
                       system == TC_HOOK_FLUX || strncmp(dialect->id[0], "PBS", 3) == 0 ? "an id" : "a number");
    snprintf(job->cluster, sizeof job->cluster, "%s", cluster ? cluster : "-");
    make_plain(job->cluster);
    const char *life = FIRST(environment, dialect->life);
    snprintf(job->life, sizeof job->life, "%s", life ? life : "-");
    make_plain(job->life);
    int result =
        system == TC_HOOK_FLUX ? take_flux_id(job, id, err) : take_id(job, id, index_of(dialect, environment), err);
    if (result == 0 && user)
        result = take_user(job, user, err);
    if (result == 0 && job->has_user)
        take_group(job, count > 2 ? operands[2] : variable(environment, dialect->gid));
    return result;
}

void tc_hook_identity(const struct tc_hook_job *job, char out[TC_HOOK_IDENTITY])
{
    snprintf(out, TC_HOOK_IDENTITY, "%s %s %s %u %s", dialects[job->system].word, job->cluster, job->id,
             (unsigned)job->uid, job->life);
}

/* '+' is in none of its parts. */
void tc_hook_name(const struct tc_hook_job *job, char out[TC_HOOK_NAME])
{
    snprintf(out, TC_HOOK_NAME, "%s+%s+%s+%u", dialects[job->system].word, job->cluster, job->id, (unsigned)job->uid);
}

size_t tc_hook_ports(const uint8_t secret[2 * TC_HOOK_PORTS], uint16_t least, uint16_t most,
                     uint16_t out[TC_HOOK_PORTS])
{
    size_t count = 0;
    for (size_t i = 0; i < TC_HOOK_PORTS; i++) {
        uint32_t number = (uint32_t)secret[2 * i] << 8 | secret[2 * i + 1];
        uint16_t port = (uint16_t)(least + (number * (most - least + 1u) >> 16));
        bool seen = false;
        for (size_t k = 0; k < count; k++)
            seen |= out[k] == port;
        if (!seen)
            out[count++] = port;
    }
    return count;
}

int tc_hook_exit(enum tc_hook_system system, enum tc_hook_phase phase, bool strict)
{
    const struct dialect *dialect = &dialects[system];
    if (!strict)
        return 0;
    return phase == TC_HOOK_PROLOG ? dialect->prolog : phase == TC_HOOK_EPILOG ? dialect->epilog : dialect->task_prolog;
}
