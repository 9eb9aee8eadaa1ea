#include "plan/detector.h"

#include <stdlib.h>

enum {
    ENTRIES = 16,     /* of each host: four seconds of reports */
    WORDS = 12,       /* of these, for what makes a host slow: on a busy machine one word is soon said */
    HELD_UP_MS = 800, /* of waiting for one child, what ran meanwhile taken off twice */
    HELD_UP_MOST = 1600
};

struct entry {
    uint64_t at;
    enum tc_cause cause;
    uint32_t held[TC_TREES_MAX], brought[TC_TREES_MAX];
};

struct place {        /* of one rank in one tree */
    uint64_t since;   /* below its parent */
    uint64_t told_at; /* of holding up others */
    uint64_t held_up; /* ms */
};

struct seen {
    struct entry entries[ENTRIES]; /* a ring */
    unsigned count;                /* ever */
    struct tc_sample last;
    struct place places[TC_TREES_MAX];
};

struct tc_detector {
    unsigned trees;
    uint32_t ranks;
    struct seen *seen; /* by rank */
};

const char *tc_cause_name(enum tc_cause cause)
{
    static const char *const names[] = {"", "network in", "network out", "disk", "CPU"};
    return (unsigned)cause < sizeof names / sizeof names[0] ? names[cause] : "";
}

struct tc_detector *tc_detector_new(unsigned trees, uint32_t ranks, struct tc_err *err)
{
    struct tc_detector *detector = calloc(1, sizeof *detector);
    if (detector)
        detector->seen = calloc((size_t)ranks + 1, sizeof *detector->seen);
    if (!detector || !detector->seen) {
        free(detector);
        tc_fail(err, TC_E_NOMEM, "no memory to watch %u hosts", ranks);
        return NULL;
    }
    detector->trees = trees;
    detector->ranks = ranks;
    return detector;
}

void tc_detector_free(struct tc_detector *detector)
{
    if (detector)
        free(detector->seen);
    free(detector);
}

void tc_detector_report(struct tc_detector *detector, uint32_t rank, const struct tc_sample *sample, uint64_t now)
{
    struct seen *seen = &detector->seen[rank];
    bool early = seen->count > 0 && now < seen->entries[(seen->count - 1) % ENTRIES].at + TC_DETECTOR_APART;
    struct entry *entry = &seen->entries[(early ? seen->count - 1 : seen->count++) % ENTRIES];
    seen->last = *sample;
    entry->at = early ? entry->at : now;
    entry->cause = sample->cause;
    for (unsigned t = 0; t < detector->trees; t++) {
        entry->held[t] = sample->trees[t].held;
        entry->brought[t] = sample->trees[t].brought;
    }
}

void tc_detector_moved(struct tc_detector *detector, unsigned t, uint32_t rank, uint64_t now)
{
    detector->seen[rank].places[t] = (struct place){.since = now, .told_at = now};
}

void tc_detector_begin_anew(struct tc_detector *detector, uint64_t now)
{
    for (uint32_t rank = 1; rank <= detector->ranks; rank++) {
        detector->seen[rank].count = 0;
        for (unsigned t = 0; t < detector->trees; t++)
            tc_detector_moved(detector, t, rank, now);
    }
}

void tc_detector_holds_up(struct tc_detector *detector, unsigned t, uint32_t rank, bool holds_up, uint64_t now)
{
    struct place *place = &detector->seen[rank].places[t];
    uint64_t passed = place->told_at ? now - place->told_at : 0;
    place->told_at = now;
    if (holds_up)
        place->held_up += passed;
    else
        place->held_up -= 2 * passed < place->held_up ? 2 * passed : place->held_up;
    if (place->held_up > HELD_UP_MOST)
        place->held_up = HELD_UP_MOST;
}

bool tc_detector_held_up(const struct tc_detector *detector, unsigned t, uint32_t rank)
{
    return detector->seen[rank].places[t].held_up >= HELD_UP_MS;
}

enum tc_cause tc_detector_cause(const struct tc_detector *detector, uint32_t rank)
{
    const struct seen *seen = &detector->seen[rank];
    unsigned words = seen->count < WORDS ? seen->count : WORDS, same = 0;
    for (unsigned back = 1; back <= words; back++)
        same += seen->entries[(seen->count - back) % ENTRIES].cause == seen->last.cause;
    return 2 * same >= words ? seen->last.cause : TC_CAUSE_NONE;
}

/* The newest sample of at or before; NULL: none. */
static const struct entry *entry_at(const struct seen *seen, uint64_t at)
{
    for (unsigned back = 1; back <= seen->count && back <= ENTRIES; back++) {
        const struct entry *entry = &seen->entries[(seen->count - back) % ENTRIES];
        if (entry->at <= at)
            return entry;
    }
    return NULL;
}

static const struct entry *newest(const struct seen *seen)
{
    return entry_at(seen, UINT64_MAX);
}

uint32_t tc_detector_held(const struct tc_detector *detector, unsigned t, uint32_t rank)
{
    const struct entry *last = newest(&detector->seen[rank]);
    return last ? last->held[t] : 0;
}

bool tc_detector_silent(const struct tc_detector *detector, uint32_t rank, uint64_t now)
{
    const struct entry *last = newest(&detector->seen[rank]);
    return last && now >= last->at + TC_DETECTOR_SILENT;
}

/* What rank said a span before its last word; NULL: nothing, or it has not been below its parent in tree t for so long. */
static const struct entry *span_ago(const struct tc_detector *detector, unsigned t, uint32_t rank, uint64_t now)
{
    const struct seen *seen = &detector->seen[rank];
    const struct entry *last = newest(seen);
    const struct entry *then =
        last && last->at >= TC_DETECTOR_SPAN ? entry_at(seen, last->at - TC_DETECTOR_SPAN) : NULL;
    bool settled = then && now >= seen->places[t].since + TC_DETECTOR_SETTLE && then->at >= seen->places[t].since;
    return settled ? then : NULL;
}

static int64_t more(uint32_t now, uint32_t then)
{
    return now > then ? now - then : 0;
}

int64_t tc_detector_gain(const struct tc_detector *detector, unsigned t, uint32_t rank, uint64_t now)
{
    const struct entry *then = span_ago(detector, t, rank, now);
    return then ? more(newest(&detector->seen[rank])->held[t], then->held[t]) : -1;
}

int64_t tc_detector_brought(const struct tc_detector *detector, unsigned t, uint32_t rank, uint64_t now)
{
    const struct entry *then = span_ago(detector, t, rank, now), *last = newest(&detector->seen[rank]);
    int64_t found = 0;
    if (!then)
        return -1;
    for (unsigned tree = 0; tree < detector->trees; tree++)
        found += more(last->held[tree], then->held[tree]) - more(last->brought[tree], then->brought[tree]);
    return more(last->brought[t], then->brought[t]) + (found > 0 ? found : 0);
}

/* A parent that has fallen silent, as one that is frozen or cut off, and a child without a byte since. */
static bool forsaken(const struct tc_detector *detector, unsigned t, uint32_t rank, uint32_t up, uint64_t now)
{
    return tc_detector_silent(detector, up, now) && detector->seen[rank].last.trees[t].waiting >= TC_DETECTOR_SILENT;
}

bool tc_detector_starves(const struct tc_detector *detector, unsigned t, uint32_t rank, uint32_t up, double load,
                         int64_t reference, uint64_t now)
{
    const struct seen *seen = &detector->seen[rank];
    const struct entry *last = newest(seen);
    if (!last || tc_detector_silent(detector, rank, now) || now < seen->places[t].since + TC_DETECTOR_SETTLE)
        return false;
    if (forsaken(detector, t, rank, up, now))
        return true;
    const struct entry *then =
        last->at >= TC_DETECTOR_SPAN ? entry_at(&detector->seen[up], last->at - TC_DETECTOR_SPAN) : NULL;
    int64_t brought = tc_detector_brought(detector, t, rank, now), up_gain = tc_detector_gain(detector, t, up, now);
    if (!then || brought < 0 || then->held[t] <= last->held[t])
        return false;
    if (up_gain < reference)
        up_gain = reference;
    return up_gain >= TC_DETECTOR_GAIN_LEAST && 2.0 * (double)brought * (load > 1 ? load : 1) < (double)up_gain;
}
