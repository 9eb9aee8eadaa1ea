/* log.h - lines for the people who run an agent: time, level, text; one write(2) a line, on standard error.
 *
 * The one thing of the process as a whole: where lines go and how many. Text that came from a peer passes tc_escape
 * before it is printed anywhere. */
#ifndef TC_BASE_LOG_H
#define TC_BASE_LOG_H

#include <stddef.h>

enum tc_log_level { TC_LOG_ERROR, TC_LOG_WARN, TC_LOG_INFO, TC_LOG_DEBUG };

/* program stands at the head of each line (borrowed for ever); lines above level are not written. */
void tc_log_open(const char *program, enum tc_log_level level);
enum tc_log_level tc_log_level(void);

void tc_log(enum tc_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Copy text so that a terminal shows it and obeys none of it: control bytes, DEL, bytes outside ASCII and the backslash
 * become \xNN. Always terminated; cut to size (at least 1). Returns out. */
char *tc_escape(char *out, size_t size, const char *text);

#endif
