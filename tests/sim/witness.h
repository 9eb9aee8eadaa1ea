/* witness.h - what a session that fails leaves behind, however it fails: the command that runs it again and the last
 * lines of what its machines said. An assertion, a crash, a sanitizer's report and a hang all tell it. */
#ifndef TC_TESTS_WITNESS_H
#define TC_TESTS_WITNESS_H

#include <stdbool.h>

/* A session begins; again is copied. It hangs after some minutes (of the machine's time, not its own). */
void sim_witness_begin(const char *again);
void sim_witness_end(void);

/* A line of the trace: kept, and shown at once when TRACE is set. */
void sim_witness_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* To standard error, once for a session. Async-signal-safe. */
void sim_witness_tell(void);

#endif
