/* show.h - what people and programs see of a broadcast: bar, lines, folded hosts, summary, JSON Lines. */
#ifndef TC_CLI_SHOW_H
#define TC_CLI_SHOW_H

#include <stdio.h>

#include "node/send_node.h"

struct tc_show_options {
    FILE *out;       /* the summary, or JSON Lines */
    FILE *err;       /* progress, failed hosts, errors */
    bool tty, color; /* of err */
    int terminal;    /* err's descriptor, for its width */
    /* Whether out or err has a reader that does not read: then what is only of this moment is left out. NULL: never. */
    bool (*behind)(void *arg);
    void *arg;
    bool json;
    unsigned quiet, verbose;  /* quiet 1: no progress, no summary; 2: no failed hosts either */
    const char *name;         /* of the array; borrowed */
    const char *const *hosts; /* in the order of the session's, as people wrote them; borrowed */
    size_t host_count;
    const struct tc_topology *topology; /* member i + 1 is hosts[i]; NULL: nothing is known; borrowed */
    double (*now)(void);                /* seconds on a clock that never jumps; NULL: the system's */
};

struct tc_show;
struct tc_show *tc_show_new(const struct tc_show_options *options, struct tc_err *err); /* NULL and TC_E_NOMEM */
void tc_show_free(struct tc_show *show);                                                /* NULL allowed */

/* For tc_send_options: arg is the struct tc_show. */
void tc_show_news(void *arg, const struct tc_send_news *news);
void tc_show_joinable(void *arg, const char *address); /* said at once on standard error, unless quiet */

/* The end: hosts that failed, the summary, and why it failed (code: the exit code; why NULL: it did not). */
void tc_show_end(struct tc_show *show, const struct tc_send_report *report, int code, const struct tc_err *why);

/* The last JSON line when there was no session at all. */
void tc_show_error(FILE *out, int code, const struct tc_err *why);

#endif
