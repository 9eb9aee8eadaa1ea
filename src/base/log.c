#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
    /* A log that cannot be written must not end a session. */
    if (write(STDERR_FILENO, line, used) < 0)
        errno = saved;
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
