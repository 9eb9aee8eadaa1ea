/* report.h - what several verbs print alike: JSON lines, tables, colour, and the rows of options they share. */
#ifndef TC_CLI_REPORT_H
#define TC_CLI_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "cli/cli.h"
#include "data/describe.h"

/* Print {"schema":1, ...} as one line and flush; object is taken (also on failure). TC_E_NOMEM, TC_E_IO. */
int tc_report_json(FILE *out, json_t *object, struct tc_err *err);

/* An array as JSON: name, path (NULL: left out), size, digest, created, and dtype, shape, order, offset, item_size
 * (null for plain bytes); expires and owner_pid where there is a lease. A new reference, or NULL and TC_E_NOMEM. */
json_t *tc_report_array(const struct tc_description *description, const char *path, struct tc_err *err);

/* "1000,1000" for people and for TREECAST_ARRAY_SHAPE; "" for a scalar or plain bytes. Returns out. */
char *tc_shape_print(char *out, size_t size, const struct tc_array *array);

/* Aligned columns under a heading, plain text. heads ends with NULL; a head that begins with '>' is flush right. new:
 * NULL and TC_E_NOMEM. row takes as many cells as there are heads (copied). A table without rows prints nothing. */
struct tc_table;
struct tc_table *tc_table_new(const char *const *heads, struct tc_err *err);
int tc_table_row(struct tc_table *table, const char *const *cells, struct tc_err *err);
int tc_table_print(struct tc_table *table, FILE *out, struct tc_err *err);
void tc_table_free(struct tc_table *table); /* NULL allowed */

/* Whether to use colour on out: a terminal, not a dumb one, and NO_COLOR unset or empty. */
bool tc_report_color(FILE *out);

/* -d, --dir and --trust for verbs that look into the directory of published arrays: one member of theirs. */
struct tc_dir_options {
    const char *dir;       /* NULL: tc_place_default */
    struct tc_texts trust; /* users whom this run believes besides those of base/trust.h */
};
/* clang-format off */
#define TC_DIR_ROWS(type, member) \
    {.letter = 'd', .name = "dir", .argument = "DIR", .kind = TC_OPT_TEXT, TC_AT(type, member.dir), \
     .help = "the directory of published arrays (default /dev/shm/treecast-UID)"}, \
    {.name = "trust", .argument = "NAME", .kind = TC_OPT_LIST, TC_AT(type, member.trust), .spoken = true, \
     .help = "believe this user's directory and agent too, besides your own and root's; repeatable"}
/* -t, --timeout for verbs that wait; the default of member is TC_FOREVER. */
#define TC_TIMEOUT_ROW(type, member) \
    {.letter = 't', .name = "timeout", .argument = "SEC", .kind = TC_OPT_SECONDS, TC_AT(type, member), \
     .help = "give up after SEC seconds with exit code 7 (default: wait for ever)"}
#define TC_JSON_ROW(type, member) \
    {.name = "json", .kind = TC_OPT_FLAG, TC_AT(type, member), .help = "JSON Lines on standard output"}
/* clang-format on */

/* Believe whom --trust says, and find the directory as below. */
int tc_dir_find(char *path, size_t size, const struct tc_dir_options *options, struct tc_err *err);
/* The directory that -d says, or the default one (dir NULL), as an absolute path (it need not exist). */
int tc_dir_resolve(char *path, size_t size, const char *dir, struct tc_err *err);

#endif
