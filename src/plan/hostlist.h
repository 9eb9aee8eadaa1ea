/* hostlist.h - the hosts of a cluster as people write them: node[001-128,200] node7:7200 127.0.0.1:[7201-7208].
 *
 * Brackets may stand anywhere in a word and several times; leading zeros give the width, node[0-10/2] counts in steps;
 * words are separated by commas or white space outside brackets. A bracket that holds ':' is an IPv6 literal:
 * [fe80::1]:7117. user@ before a host is whom a login there is for, and no part of the host. Order is kept, duplicates
 * are dropped (the first stays). Pure. */
#ifndef TC_PLAN_HOSTLIST_H
#define TC_PLAN_HOSTLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TC_HOSTS_MAX 65536u
#define TC_HOST_TEXT_MAX 256u /* bytes of one host with its NUL */

struct tc_hostlist; /* an ordered set of hosts "name", "name:port", "[v6]:port" */

struct tc_hostlist *tc_hostlist_new(struct tc_err *err);
void tc_hostlist_free(struct tc_hostlist *list);

/* Add what text says. TC_E_USAGE names the word and what is wrong (open bracket, empty range, 9-3, too many hosts, a
 * port beyond 65535, a character that no host name has). On error the list is as before. */
int tc_hostlist_add(struct tc_hostlist *list, const char *text, struct tc_err *err);
/* The same for bytes that no NUL ends. */
int tc_hostlist_add_bytes(struct tc_hostlist *list, const char *bytes, size_t size, struct tc_err *err);
/* Forget what came after the first count hosts. */
void tc_hostlist_cut(struct tc_hostlist *list, size_t count);
/* Take out what text says (-x): host by host as written, and "name" also takes out "name:port". */
int tc_hostlist_exclude(struct tc_hostlist *list, const char *text, struct tc_err *err);

size_t tc_hostlist_count(const struct tc_hostlist *list);
const char *tc_hostlist_at(const struct tc_hostlist *list, size_t index);   /* borrowed until the list changes */
const char *tc_hostlist_user(const struct tc_hostlist *list, size_t index); /* as at; NULL: none was written */

#define TC_NO_HOST SIZE_MAX
size_t tc_hostlist_find(const struct tc_hostlist *list, const char *host); /* its index; TC_NO_HOST: it is not in it */

/* The folded form, the shortest that the same parser reads back to the same hosts: "node[7,001-003]". Hosts are sorted
 * by prefix, width and number; users are left out. To be freed with free(); NULL and TC_E_NOMEM. */
char *tc_hostlist_fold(const struct tc_hostlist *list, struct tc_err *err);

/* One host taken apart. port 0: none was written. IPv6 loses its brackets. TC_E_USAGE. */
int tc_host_split(const char *host, char *name, size_t name_size, uint16_t *port, struct tc_err *err);

#endif
