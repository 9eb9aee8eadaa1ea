#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#undef tc_fail /* the analyzer's, see err.h */
#undef tc_fail_errno

struct reason {
    const char *name;
    const char *text;
    int code;
};

static const struct reason *find(int reason)
{
    static const struct reason table[] = {
#define TC_REASON(name, word, number, code, text) [number] = {word, text, code},
#include "base/err.def"
#undef TC_REASON
    };
    size_t row = (size_t)reason; /* a negative one becomes a huge one */
    return row < sizeof table / sizeof table[0] && table[row].name ? &table[row] : NULL;
}

__attribute__((format(printf, 3, 0))) static int vfail(struct tc_err *err, int reason, const char *format, va_list args)
{
    if (err && err->reason == 0) {
        err->reason = reason;
        vsnprintf(err->text, sizeof err->text, format, args);
    }
    return -reason;
}

int tc_fail(struct tc_err *err, int reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfail(err, reason, format, args);
    va_end(args);
    return -reason;
}

static int reason_of_errno(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return TC_E_NOSPACE;
    case EACCES:
    case EPERM:
    case EROFS:
        return TC_E_PERMISSION;
    case ENOMEM:
        return TC_E_NOMEM;
    case EMFILE:
    case ENFILE:
    case EFBIG:
        return TC_E_LIMIT;
    case ENOENT:
        return TC_E_NOTFOUND;
    case EEXIST:
        return TC_E_EXISTS;
    case ETIMEDOUT:
        return TC_E_TIMEOUT;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return TC_E_UNREACHABLE;
    case ECONNRESET:
    case EPIPE:
        return TC_E_CLOSED;
    default:
        return TC_E_IO;
    }
}

int tc_fail_errno(struct tc_err *err, int number, const char *format, ...)
{
    int reason = reason_of_errno(number);
    if (err && err->reason == 0) {
        char why[64];
        va_list args;
        va_start(args, format);
        vfail(err, reason, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror_r(number, why, sizeof why));
    }
    return -reason;
}

int tc_err_prefix(struct tc_err *err, const char *format, ...)
{
    if (!err || err->reason == 0)
        return err ? 0 : -TC_E_FAILED;
    char text[TC_ERR_TEXT];
    va_list args;
    va_start(args, format);
    int used = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof text)
        snprintf(text + used, sizeof text - (size_t)used, ": %.*s", (int)(sizeof text - (size_t)used - 3), err->text);
    memcpy(err->text, text, sizeof text);
    return -err->reason;
}

const char *tc_reason_text(int reason)
{
    const struct reason *row = find(reason);
    return row ? row->text : "unknown reason";
}

const char *tc_reason_name(int reason)
{
    const struct reason *row = find(reason);
    return row ? row->name : "unknown";
}

int tc_reason_exit(int reason)
{
    const struct reason *row = find(reason);
    return reason == 0 ? 0 : row ? row->code : 1;
}

int tc_reason_known(int reason)
{
    return find(reason) != NULL;
}
