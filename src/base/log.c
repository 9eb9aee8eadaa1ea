#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/say.h"

enum { READER_MS = 200 };

static const char *log_program = "treecast";
static enum tc_log_level log_level = TC_LOG_WARN;

void tc_log_open(const char *program, enum tc_log_level level)
{
    log_program = program;
    log_level = level;
}

enum tc_log_level tc_log_level(void)
{
    return log_level;
}

/* A line that nobody takes is lost, and counted. */
static void say_line(const char *line, size_t size)
{
    static _Atomic unsigned lost;
    char note[64];
    unsigned before = lost;
    if (before > 0) {
        int length = snprintf(note, sizeof note, "(%u lines of the log were not read)\n", before);
        if (tc_say(STDERR_FILENO, note, (size_t)length) < length) {
            lost++;
            return;
        }
        lost -= before;
    }
    ptrdiff_t said = tc_say(STDERR_FILENO, line, size);
    struct pollfd reader = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (said == 0 && before == 0 && poll(&reader, 1, READER_MS) > 0) /* one that is only slow is waited for, once */
        said = tc_say(STDERR_FILENO, line, size);
    if (said < (ptrdiff_t)size)
        lost++;
}

void tc_log(enum tc_log_level level, const char *format, ...)
{
    static const char *const words[] = {"error", "warning", "info", "debug"};
    if (level > log_level)
        return;
    int saved = errno;
    char line[1024];
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &parts);
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &parts);
    used += (size_t)snprintf(line + used, sizeof line - used, ".%03ld %.64s[%ld] %s: ", now.tv_nsec / 1000000,
                             log_program, (long)getpid(), words[level]);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    if (more > 0)
        used = used + (size_t)more < sizeof line - 2 ? used + (size_t)more : sizeof line - 2;
    line[used++] = '\n';
    /* A log that cannot be written must not end a session, nor hold it up. */
    say_line(line, used);
    errno = saved;
}

char *tc_escape(char *out, size_t size, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        int plain = *c >= 0x20 && *c < 0x7f && *c != '\\';
        size_t need = plain ? 1 : 4;
        if (at + need >= size)
            break;
        if (plain) {
            out[at++] = (char)*c;
            continue;
        }
        out[at++] = '\\';
        out[at++] = 'x';
        out[at++] = hex[*c >> 4];
        out[at++] = hex[*c & 15];
    }
    out[at] = '\0';
    return out;
}
