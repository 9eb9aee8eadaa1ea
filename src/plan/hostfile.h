/* hostfile.h - files of hosts, as the tools that people have around write them. Pure: bytes in, hosts out.
 *
 * Two forms:
 *
 *   LISTS  --hostfile, WCOLL: any number of hosts and lists a line, as tc_hostlist_add reads them. What an MPI adds is
 *          skipped: slots=4, slots = 4, max-slots=8. "#include FILE" (pdsh) takes in another file, relative to the one
 *          that says so. name:4 and name:4:ib0, MPICH's forms, are refused by name: here a colon begins a port.
 *   SLOTS  the files of an MPI or a batch system: the first word of a line is a host, perhaps with a user and a number of
 *          slots: u@n1 slots=2, n1:4, n1:4:ib0, n1 4 all.q.
 *
 * In both a comment goes from '#', or from "//" that begins a word, to the end of the line. */
#ifndef TC_PLAN_HOSTFILE_H
#define TC_PLAN_HOSTFILE_H

#include "plan/hostlist.h"

enum tc_hostfile_form { TC_HOSTFILE_LISTS, TC_HOSTFILE_SLOTS };

struct tc_hostfile_source {
    enum tc_hostfile_form form;
    /* Read the file at path into new memory, which the caller frees; NULL: no file can be included. A negative reason
     * with its line in err. */
    int (*read)(void *arg, const char *path, char **bytes, size_t *size, struct tc_err *err);
    void *arg;
};

/* Add the hosts of a file's bytes. what names it in errors ("hosts.txt:3: ...") and is where its includes begin. A file
 * may include others 8 deep. TC_E_USAGE, TC_E_NOMEM, and what source's read fails with; on error the list is as
 * before. */
int tc_hostfile_add(struct tc_hostlist *list, const char *bytes, size_t size, const char *what,
                    const struct tc_hostfile_source *source, struct tc_err *err);

#endif
