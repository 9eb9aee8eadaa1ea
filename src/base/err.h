/* err.h - why something failed: a reason from one table and one line for people.
 *
 * A function that can fail returns 0 or a negative reason (-TC_E_...) and fills a struct tc_err once, where the fact is
 * known ("chunk 812 of A from node07: digest differs"); callers forward both. The line says what, where and, for the
 * user's own mistakes, what to do. Every err argument may be NULL: then only the reason is returned. */
#ifndef TC_BASE_ERR_H
#define TC_BASE_ERR_H

#include <stdarg.h>

enum tc_reason {
    TC_OK = 0,
#define TC_REASON(name, word, number, code, text) TC_E_##name = number,
#include "base/err.def"
#undef TC_REASON
};

#define TC_ERR_TEXT 256 /* bytes of a line with its NUL; longer lines are cut */

struct tc_err {
    int reason; /* enum tc_reason; 0 when nothing failed */
    char text[TC_ERR_TEXT];
};

/* Fill err (the first reason stays: a filled err is left alone) and return -reason. */
int tc_fail(struct tc_err *err, int reason, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: appends ": " and strerror(number); ENOSPC, EDQUOT, EACCES, EPERM, ENOMEM and such
 * choose a reason of their own, anything else is TC_E_IO. */
int tc_fail_errno(struct tc_err *err, int number, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the text of a filled err and return its negative reason; for callers that know where. */
int tc_err_prefix(struct tc_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__ /* which sees one file at a time, and would take these for functions that may return 0 */
#define tc_fail(err, reason, ...) ((void)tc_fail(err, reason, __VA_ARGS__), -(reason))
#define tc_fail_errno(err, number, ...) ((void)tc_fail_errno(err, number, __VA_ARGS__), -TC_E_IO)
#endif

/* The table: text never NULL, also for numbers that are not in it ("unknown reason"; exit code 1); known says which. */
const char *tc_reason_text(int reason);
const char *tc_reason_name(int reason); /* "nospace", "coordinator-lost": as JSON has it */
int tc_reason_exit(int reason);
int tc_reason_known(int reason);

#endif
