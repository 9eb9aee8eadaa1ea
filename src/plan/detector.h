/* detector.h - what the hosts' reports say about who holds up whom. Pure: a few seconds of each host's word, no clock.
 *
 * A host reports how many chunks of each tree it holds, how many each tree's parents have brought, and how long it has
 * waited for one. From that follows of a pair, parent and child in one tree, whether the child starves: a second ago the
 * parent held more than the child has even now, and the child gets far less from it than the parent gains. Far behind
 * alone is nothing: after an outage a child runs at full speed, seconds behind. Nor is a gain that is small because the
 * parent brings the other tree's chunks instead, having been asked to help out.
 *
 * Rank 0 holds all from the beginning, so of its own children it says itself who holds up the others. */
#ifndef TC_PLAN_DETECTOR_H
#define TC_PLAN_DETECTOR_H

#include <stdbool.h>

#include "plan/tree.h"

/* What makes a host slow, as best it can be told; numbers are the wire's. */
enum tc_cause { TC_CAUSE_NONE, TC_CAUSE_NETWORK_IN, TC_CAUSE_NETWORK_OUT, TC_CAUSE_DISK, TC_CAUSE_CPU };
const char *tc_cause_name(enum tc_cause cause); /* "network in"; "" for none */

/* One host's report. */
struct tc_sample {
    enum tc_cause cause; /* disk or CPU where the host is at its own limit, else none */
    struct {
        uint32_t held;    /* chunks verified and in place */
        uint32_t brought; /* chunks of any tree that this one's parents have brought */
        uint32_t waiting; /* ms without a byte while something is wanted; 0: nothing is, or it runs */
    } trees[TC_TREES_MAX];
};

/* Times, in milliseconds. */
enum {
    TC_DETECTOR_SPAN = 1000,   /* that gains are measured over, and that a host may be behind */
    TC_DETECTOR_APART = 100,   /* between two reports; more of them are one, or who reports all the time has no past */
    TC_DETECTOR_SETTLE = 1250, /* after a move nothing is said of the pair */
    TC_DETECTOR_SILENT = 1000  /* a host that has not reported for so long gives nothing either */
};
enum { TC_DETECTOR_GAIN_LEAST = 12 }; /* chunks that must pass in a span before it says anything */

struct tc_detector;

struct tc_detector *tc_detector_new(unsigned trees, uint32_t ranks, struct tc_err *err);
void tc_detector_free(struct tc_detector *detector); /* NULL allowed */

/* rank (>= 1) has reported at now. */
void tc_detector_report(struct tc_detector *detector, uint32_t rank, const struct tc_sample *sample, uint64_t now);
/* rank has got another parent in tree t. */
void tc_detector_moved(struct tc_detector *detector, unsigned t, uint32_t rank, uint64_t now);
/* Nobody was listened to for a while, up to now: what was seen before leads to nothing that is seen from now on. */
void tc_detector_begin_anew(struct tc_detector *detector, uint64_t now);
/* For a child of rank 0, as often as one likes: whether all of rank 0's children wait for this one now. */
void tc_detector_holds_up(struct tc_detector *detector, unsigned t, uint32_t rank, bool holds_up, uint64_t now);

/* What makes rank slow, as it says itself: now, and in half of its last three seconds' reports. */
enum tc_cause tc_detector_cause(const struct tc_detector *detector, uint32_t rank);
/* Chunks of tree t that rank holds, as it last said. */
uint32_t tc_detector_held(const struct tc_detector *detector, unsigned t, uint32_t rank);
/* Whether rank, heard before, has been silent for TC_DETECTOR_SILENT. */
bool tc_detector_silent(const struct tc_detector *detector, uint32_t rank, uint64_t now);
/* Chunks of tree t that rank has gained in the last TC_DETECTOR_SPAN of its reports; -1: not known yet. */
int64_t tc_detector_gain(const struct tc_detector *detector, unsigned t, uint32_t rank, uint64_t now);
/* Chunks of any tree that the parent in tree t has brought to rank in that time, and what rank has found at home; -1: not
 * known yet. */
int64_t tc_detector_brought(const struct tc_detector *detector, unsigned t, uint32_t rank, uint64_t now);
/* Whether rank starves in tree t below up (>= 1), which gives its bytes to load copies' worth of children; reference is
 * the gain that a host in up's place may be expected to pass on, at least (0: up's own). */
bool tc_detector_starves(const struct tc_detector *detector, unsigned t, uint32_t rank, uint32_t up, double load,
                         int64_t reference, uint64_t now);
/* Whether rank, a child of rank 0, has held up the others for most of the last second. */
bool tc_detector_held_up(const struct tc_detector *detector, unsigned t, uint32_t rank);

#endif
