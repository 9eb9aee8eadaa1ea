#include "witness.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINES = 200, LINE = 160, HANG_SECONDS = 200 };

static char lines[LINES][LINE]; /* a ring */
static volatile unsigned long line_count;
static char again[1024];
static volatile sig_atomic_t begun;
static bool shown; /* all of it, as it comes */

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM, SIGTERM};
enum { SIGNALS = sizeof signals / sizeof signals[0] };
static struct sigaction before[SIGNALS];

/* Only where a sanitizer is linked in; its reports end the program without a signal. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void say(const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t wrote = write(STDERR_FILENO, text, size);
        if (wrote <= 0)
            return;
        text += wrote;
        size -= (size_t)wrote;
    }
}

void sim_witness_tell(void)
{
    if (!begun)
        return;
    begun = 0;
    for (unsigned long i = line_count > LINES ? line_count - LINES : 0; i < line_count && !shown; i++)
        say(lines[i % LINES]);
    say(again);
}

/* What would have happened without us happens then: a faulty instruction runs again. */
static void on_signal(int signal)
{
    sim_witness_tell();
    for (unsigned i = 0; i < SIGNALS; i++)
        if (signals[i] == signal)
            sigaction(signal, &before[i], NULL);
    raise(signal);
}

static void watch_signals(void)
{
    static pid_t watched;
    struct sigaction action = {.sa_handler = on_signal};
    if (watched == getpid())
        return;
    watched = getpid();
    for (unsigned i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &action, &before[i]);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(sim_witness_tell);
}

void sim_witness_begin(const char *how)
{
    watch_signals();
    snprintf(again, sizeof again, "%s\n", how);
    shown = getenv("TRACE");
    line_count = 0;
    begun = 1;
    alarm(HANG_SECONDS);
}

void sim_witness_end(void)
{
    alarm(0);
    begun = 0;
}

void sim_witness_note(const char *format, ...)
{
    char *line = lines[line_count % LINES];
    va_list args;
    va_start(args, format);
    int used = vsnprintf(line, LINE - 1, format, args);
    va_end(args);
    if (used > LINE - 2)
        used = LINE - 2;
    memcpy(line + (used > 0 ? used : 0), "\n", 2);
    line_count++;
    if (shown)
        fputs(line, stderr);
}
