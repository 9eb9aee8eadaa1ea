/* sim.h - whole sessions in one process: one coordinator and many agents in a simulated world.
 *
 * A heap of events with virtual microseconds drives the machines. Links keep order, each message has a random delay, a
 * host's uplink carries one chunk at a time. Everything follows from one seed. What fails tells the command that runs
 * the same session again and the last of what the machines said (witness.h); TRACE=1 shows all of it, 2 the messages. */
#ifndef TC_TESTS_SIM_H
#define TC_TESTS_SIM_H

#include "session/agent.h"
#include "session/coordinator.h"

enum { SIM_HOSTS_MAX = 512, SIM_FAULTS_MAX = 8 };

enum sim_fault_kind {
    SIM_NOTHING,
    SIM_UNREACHABLE, /* nobody answers a dial */
    SIM_DEAF,        /* data links to the host cannot be made, control links can */
    SIM_REFUSE,      /* no space for the file */
    SIM_KILL,        /* the host dies once it has `after` chunks; its peers see their links go down */
    SIM_FREEZE,      /* the same, but it only falls silent */
    SIM_CORRUPT,     /* the first `after` chunks that the host gives away are wrong */
    SIM_LIAR,        /* every chunk that it gives away is wrong */
    SIM_CUT,         /* all its data links break once when it has `after` chunks */
    SIM_PUBLISH_FAILS,
    SIM_OPEN_FAILS,     /* no space left after `after` chunks */
    SIM_SERVE_FAILS,    /* a chunk cannot be read, after `after` chunks */
    SIM_DIGEST_FAILS,   /* host 0 */
    SIM_SOURCE_CHANGED, /* host 0 */
    SIM_STOP,           /* the user ends the node once it has `after` chunks */
    SIM_TWIN,           /* the host is host `after` under another name */
    SIM_PAUSE,          /* the process stops for for_ms once it has `after` chunks, and goes on */
    SIM_ISOLATE,        /* no packet comes or goes for for_ms (0: for ever); links last 5 s of it */
    SIM_SLOW,           /* its link has a tenth of the speed from then on */
    SIM_FLAP,           /* its link is slow and fast in turns, for minutes */
    SIM_LOSS,           /* one of its links breaks, of data or control, now and once more */
    SIM_LATE,           /* messages to it take up to a second more */
    SIM_ROT,            /* a chunk of four is another soon after it was placed, until it is placed again */
    SIM_DROP,           /* now and then a WANT or a chunk on one of its data links is not understood */
    SIM_MUTE,           /* says no more than hostile.h has for `after` */
    SIM_RAISE,          /* takes no chunk, and reports what hostile.h has for `after` */
    SIM_MOAN,           /* complains of its parents all the time */
    SIM_TRICKLE,        /* gives a chunk each for_ms */
    SIM_LOCKED,         /* another process holds the lock that publishing takes */
    SIM_STUCK,          /* publishing never comes to an end */
    SIM_CHEAT,          /* host 0: a sender that falls silent as hostile.h has it for `after` */
    SIM_FAULT_KINDS
};

struct sim_fault {
    enum sim_fault_kind kind;
    unsigned host; /* 0: the sender; host i >= 1 is number i - 1 of the list */
    uint32_t after;
    uint32_t for_ms;
};

enum sim_origin { SIM_NO_ORIGIN, SIM_ORIGIN, SIM_ORIGIN_MISSING, SIM_ORIGIN_WRONG };

/* What hosts have before the session. */
enum sim_here {
    SIM_HERE_NOTHING,
    SIM_HERE_SAME,    /* the file itself, published */
    SIM_HERE_OLDER,   /* another version of it: some chunks are the same */
    SIM_HERE_LEFT,    /* what an interrupted session left: some chunks */
    SIM_HERE_BOTH,    /* OLDER and LEFT */
    SIM_HERE_ALTERED, /* OLDER, of which a chunk is changed while the session runs */
    SIM_HERE_MIXED    /* every host one of the others, by the seed */
};

struct sim_options {
    enum sim_here here;
    unsigned here_percent; /* chunks that are the same, or were left; 0: any number, by the seed */
    uint64_t seed;
    unsigned loop; /* of a case that loops: to replay it */
    unsigned hosts;
    uint32_t chunks;
    struct tc_tree_spec tree;
    uint32_t min_hosts;
    uint32_t flags;       /* TC_OFFER_* */
    uint64_t deadline_ms; /* from the start; 0: none */
    uint32_t min_rate;    /* bytes a second that a host has to gain; 0: as users have it */
    uint64_t delay_us;    /* a message takes up to this and half as much again */
    uint64_t rate;        /* bytes a second of an uplink */
    bool tls;             /* data links are let in by their key only, as with TLS */
    enum sim_origin origin;
    struct sim_fault faults[SIM_FAULTS_MAX];
};

struct sim_host_report {
    bool dead;  /* killed or frozen */
    bool ended; /* its machine said END */
    bool published, unchanged;
    struct tc_err why;
    uint64_t ended_at; /* us */
    enum sim_here here;
    uint32_t found;                        /* chunks that were here and are in place, or in the published file */
    uint32_t chunks, received, duplicates; /* verified; CHUNK frames that came; of these such as had come before */
};

struct sim;

struct sim *sim_new(const struct sim_options *options);
void sim_free(struct sim *sim);

/* Run until every machine has ended; fails the test when that takes more than limit_ms of virtual time. */
void sim_run(struct sim *sim, uint64_t limit_ms);

/* Every host is published and every chunk came once. */
void sim_check_perfect(struct sim *sim);
/* The same where hosts have something: what they have came not at all, the rest once; unchanged is who had it all. */
void sim_check_here(struct sim *sim);
/* Every host but the faulty ones has been published, and is reported so. */
void sim_check_survivors(struct sim *sim);
/* Whatever has happened: all have ended, every host is reported once, and who is reported published has published. */
void sim_check_safe(struct sim *sim);
/* The sender has died, and every host that could complete from the others has published; how many these are. */
unsigned sim_check_orphans(struct sim *sim);
/* With a deadline every machine has ended 2 s after it. */
void sim_check_deadline(struct sim *sim);
/* Every machine has ended when the sum of its limits was over. */
void sim_check_limits(struct sim *sim);
/* No host has published. */
void sim_check_nobody(struct sim *sim);

uint64_t sim_sender_took_ms(const struct sim *sim);          /* until its end; 0: it was killed or stopped for ever */
uint64_t sim_whole_ms(const struct sim *sim, unsigned host); /* from the plan until it was whole; 0: never */
unsigned sim_moves(const struct sim *sim, unsigned host);    /* plans that the agent got */
uint64_t sim_took_ms(const struct sim *sim);                 /* until the last machine's end */
bool sim_sender_ended(const struct sim *sim, struct tc_err *why);             /* why is filled */
const struct sim_host_report *sim_host(const struct sim *sim, unsigned host); /* 1 .. hosts */
const struct tc_host_view *sim_view(const struct sim *sim, unsigned host);    /* the coordinator's, 1 .. hosts */
unsigned sim_count(const struct sim *sim, enum tc_host_end end);

/* Fail the test, with the command that replays the session. */
void sim_fail(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
#define sim_assert(sim, condition)                                              \
    do {                                                                        \
        if (!(condition))                                                       \
            sim_fail(sim, "%s:%d: not so: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* A small random generator (splitmix64). */
uint64_t sim_random(uint64_t *state);

#endif
