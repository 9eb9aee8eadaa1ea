/* launch_request.h - what a launched process is told over its standard input: the secrets, whom to join, and which hosts to go on
 * to. Text, a word and its value a line; "end" ends it, so that the pipe can stay open behind it. */
#ifndef TC_SITE_LAUNCH_REQUEST_H
#define TC_SITE_LAUNCH_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum tc_launcher {
    TC_LAUNCH_NONE, /* no further hosts */
    TC_LAUNCH_SSH,  /* command HOST 'PROGRAM spread', as a tree */
    TC_LAUNCH_EACH, /* command with %h and %n filled in, then PROGRAM spread; one for each host */
    TC_LAUNCH_ALL   /* command PROGRAM spread; one for all hosts, each of which finds its name itself */
};

struct tc_launch_request_host {
    char *name;
    char *user;      /* to log in as; NULL: whom ssh chooses */
    unsigned number; /* the sender's */
};

/* Texts hold no line breaks, but for key. */
struct tc_launch_request {
    char *key;  /* what a key file holds; NULL: none */
    char *join; /* "ADDR:PORT" of the sender */
    enum tc_launcher launcher;
    char *command;  /* words for a shell; NULL with NONE */
    char *program;  /* treecast on the hosts */
    char *dir;      /* of the agents, %h and %n are filled in; NULL: as they have it */
    char **options; /* more words for their recv */
    size_t option_count;
    unsigned fan;      /* of the tree, and how many launches are under way at once */
    bool flat;         /* no tree: each host is reached from here */
    unsigned patience; /* seconds until a login counts as hanging */
    unsigned within;   /* seconds in which refused logins are tried again; 0: never */
    bool self;         /* the reader is on the first host and becomes its agent too */
    bool named;        /* the reader is on the host of its name (SLURMD_NODENAME, else its own) and becomes its agent */
    struct tc_launch_request_host *hosts;
    size_t host_count;
};

/* The launch request for hosts first .. first + count - 1 of request, with these flags and this launcher, as text to be freed with
 * tc_launch_request_text_free (which wipes it). NULL and TC_E_NOMEM. */
char *tc_launch_request_write(const struct tc_launch_request *request, size_t first, size_t count,
                              enum tc_launcher launcher, bool self, bool named, struct tc_err *err);
void tc_launch_request_text_free(char *text);

/* Read one from fd, blocking until it is whole, at most 16 MiB. TC_E_CLOSED when it ends before, TC_E_FORMAT. */
int tc_launch_request_read(struct tc_launch_request *request, int fd, struct tc_err *err);
void tc_launch_request_free(struct tc_launch_request *request); /* wipes the key */

/* text with %h, %n (its rank, the sender being 0), %i (its place, from 0) and %% replaced; to be freed. NULL and TC_E_NOMEM, TC_E_USAGE for another % or none behind it. */
char *tc_launch_request_fill(const char *text, const struct tc_launch_request_host *host, struct tc_err *err);

#endif
