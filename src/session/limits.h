/* limits.h - how long a session may last: every phase of both machines, each with an absolute limit. Pure.
 *
 *   phase                                  limit                              after it
 *   sender: a host is dialled              the link's own (net/link.h)        unreachable
 *   sender: agents that dial are awaited   --join-time                        unreachable
 *   sender: connected, no greeting         TC_MS_ANSWER, without TLS          unreachable
 *                                          TC_MS_GREET: anybody may be there
 *   sender: offered, the file is prepared  tc_limit_prepare                   unreachable
 *   sender: a host fills its file          tc_limit_still, then min_rate      failed (timeout)
 *   sender: a host is whole, publishes     tc_limit_publish                   failed (timeout)
 *   sender: told to end                    TC_MS_GOODBYE                      lost
 *   sender: nobody moves, nobody has it    TC_MS_STALL                        the session ends (timeout)
 *   agent: no offer                        TC_MS_ANSWER, or its owner's       ends
 *   agent: offered, no plan                tc_limit_plan                      failed (timeout)
 *   agent: fills its file                  tc_limit_still, then TC_RATE_LEAST failed (timeout)
 *   agent: the same without a sender       TC_MS_ORPHAN, TC_MS_ORPHAN_MOST    failed (coordinator lost)
 *   agent: published, serves its children  tc_limit_serve                     ends, its file stays
 *   both: links that close                 TC_MS_GOODBYE                      cut
 *
 * A host that fills its file has to move. It has a time left; what it gains adds to that, as much as it would take at the
 * least rate, up to tc_limit_still. So it cannot live on words: bytes that it holds count up to the size of the file, and
 * bytes that it has looked for in what it has up to TC_COMPARED_MOST times that, each once. The sum is tc_limit_fill. */
#ifndef TC_SESSION_LIMITS_H
#define TC_SESSION_LIMITS_H

#include <stdint.h>

/* Times, in milliseconds. */
enum {
    TC_MS_PROGRESS = 250, /* between an agent's reports */
    TC_MS_GREET = 2000,   /* with the goodbye: as long as a TLS handshake may take */
    TC_MS_ANSWER = 30000, /* for a greeting, or an offer: a machine that swaps still manages that */
    TC_MS_SILENCE = 5000, /* without a control message: dead */
    TC_MS_STALL = 60000,  /* no host accepted a byte: longer than a switch takes to restart, or a mount to come back */
    TC_MS_LOOKS =
        10000, /* a host looks for what it has, and finds or wants nothing: its children need another parent */
    TC_MS_STARVE = 1000, /* without a byte in one tree while the other runs: its other parent is asked */
    TC_MS_AGAIN = 5000,  /* without a byte of what was asked for: it is asked for again */
    TC_MS_HOLD = 5000,   /* a data link that came before its PLAN row */
    TC_MS_ORPHAN = 5000, /* coordinator gone: after the last byte */
    TC_MS_ORPHAN_MOST = 60000,
    TC_MS_DESERTED = 10000, /* that an agent waits longer than its coordinator would */
    TC_MS_PLAN = 3600000,   /* for the other hosts of a batch job to come up */
    TC_MS_SERVE = 3600000,  /* the same, and for those that are slow */
    TC_MS_GOODBYE = 1000    /* for last words */
};

/* Rates that anything in use has, in bytes a second. */
enum {
    TC_RATE_PREPARE = 64 << 20, /* reserving a file where the file system has to write it */
    TC_RATE_PUBLISH = 16 << 20, /* a disk that is synced */
    TC_RATE_COMPARE = 1 << 20,  /* reading a file beside other work */
    TC_RATE_MIN = 16 << 10,     /* a host's share of the slowest network, unless the user says otherwise (--min-rate) */
    TC_RATE_LEAST = 1 << 10     /* the least that may be said */
};

/* Passes over the file: what is here once before and once after a file is reserved, and three times what was placed. */
enum { TC_COMPARED_MOST = 5 };

/* Milliseconds that so many bytes take at a rate. */
static inline uint64_t tc_limit_at(uint64_t bytes, uint64_t rate)
{
    return bytes / rate * 1000 + bytes % rate * 1000 / rate;
}

static inline uint64_t tc_limit_prepare(uint64_t size)
{
    return TC_MS_ANSWER + tc_limit_at(size, TC_RATE_PREPARE);
}

static inline uint64_t tc_limit_plan(uint64_t size)
{
    return TC_MS_PLAN + tc_limit_prepare(size);
}

static inline uint64_t tc_limit_publish(uint64_t size)
{
    return TC_MS_STALL + tc_limit_at(size, TC_RATE_PUBLISH);
}

/* Without a chunk or a comparison: a chunk moves as one, and may share a slow link with others. */
static inline uint64_t tc_limit_still(uint32_t chunk_size)
{
    return TC_MS_STALL + tc_limit_at(chunk_size, TC_RATE_MIN);
}

/* The least time that filling may take at most: gains at the least rate, and one standstill. */
static inline uint64_t tc_limit_fill(uint64_t size, uint32_t chunk_size, uint64_t rate)
{
    return tc_limit_still(chunk_size) + tc_limit_at(size, rate) + tc_limit_at(TC_COMPARED_MOST * size, TC_RATE_COMPARE);
}

static inline uint64_t tc_limit_serve(uint64_t size)
{
    return TC_MS_SERVE + tc_limit_at(size, TC_RATE_MIN);
}

/* From the plan to the end of whichever host is last, as its sender ends it. */
static inline uint64_t tc_limit_planned(uint64_t size, uint32_t chunk_size, uint64_t rate)
{
    return tc_limit_fill(size, chunk_size, rate) + tc_limit_prepare(size) + tc_limit_publish(size) + TC_MS_GOODBYE;
}

/* When standing still ends that was to end at until, for one who gained what takes gained ms at the least rate. */
static inline uint64_t tc_limit_moved(uint64_t until, uint64_t now, uint64_t gained, uint32_t chunk_size)
{
    uint64_t most = now + tc_limit_still(chunk_size), more = until + gained;
    return more < most ? more : until > most ? until : most;
}

#endif
