#include "plan/lookout.h"

#include <stdlib.h>

enum {
    SAMPLES = 16,     /* of each host: four seconds of reports */
    WORDS = 12,       /* of these, for what makes a host slow: on a busy machine one word is soon said */
    HELD_UP_MS = 800, /* of waiting for one child, what ran meanwhile taken off twice */
    HELD_UP_MOST = 1600
};

struct sample {
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
    struct sample samples[SAMPLES]; /* a ring */
    unsigned count;                 /* ever */
    struct tc_sighting last;
    struct place places[TC_TREES_MAX];
};

struct tc_lookout {
    unsigned trees;
    uint32_t ranks;
    struct seen *seen; /* by rank */
};

const char *tc_cause_name(enum tc_cause cause)
{
    static const char *const names[] = {"", "network in", "network out", "disk", "CPU"};
    return (unsigned)cause < sizeof names / sizeof names[0] ? names[cause] : "";
}

struct tc_lookout *tc_lookout_new(unsigned trees, uint32_t ranks, struct tc_err *err)
{
    struct tc_lookout *lookout = calloc(1, sizeof *lookout);
    if (lookout)
        lookout->seen = calloc((size_t)ranks + 1, sizeof *lookout->seen);
    if (!lookout || !lookout->seen) {
        free(lookout);
        tc_fail(err, TC_E_NOMEM, "no memory to watch %u hosts", ranks);
        return NULL;
    }
    lookout->trees = trees;
    lookout->ranks = ranks;
    return lookout;
}

void tc_lookout_free(struct tc_lookout *lookout)
{
    if (lookout)
        free(lookout->seen);
    free(lookout);
}

void tc_lookout_report(struct tc_lookout *lookout, uint32_t rank, const struct tc_sighting *sighting, uint64_t now)
{
    struct seen *seen = &lookout->seen[rank];
    bool early = seen->count > 0 && now < seen->samples[(seen->count - 1) % SAMPLES].at + TC_LOOKOUT_APART;
    struct sample *sample = &seen->samples[(early ? seen->count - 1 : seen->count++) % SAMPLES];
    seen->last = *sighting;
    sample->at = early ? sample->at : now;
    sample->cause = sighting->cause;
    for (unsigned t = 0; t < lookout->trees; t++) {
        sample->held[t] = sighting->trees[t].held;
        sample->brought[t] = sighting->trees[t].brought;
    }
}

void tc_lookout_moved(struct tc_lookout *lookout, unsigned t, uint32_t rank, uint64_t now)
{
    lookout->seen[rank].places[t] = (struct place){.since = now, .told_at = now};
}

void tc_lookout_begin_anew(struct tc_lookout *lookout, uint64_t now)
{
    for (uint32_t rank = 1; rank <= lookout->ranks; rank++) {
        lookout->seen[rank].count = 0;
        for (unsigned t = 0; t < lookout->trees; t++)
            tc_lookout_moved(lookout, t, rank, now);
    }
}

void tc_lookout_holds_up(struct tc_lookout *lookout, unsigned t, uint32_t rank, bool holds_up, uint64_t now)
{
    struct place *place = &lookout->seen[rank].places[t];
    uint64_t passed = place->told_at ? now - place->told_at : 0;
    place->told_at = now;
    if (holds_up)
        place->held_up += passed;
    else
        place->held_up -= 2 * passed < place->held_up ? 2 * passed : place->held_up;
    if (place->held_up > HELD_UP_MOST)
        place->held_up = HELD_UP_MOST;
}

bool tc_lookout_held_up(const struct tc_lookout *lookout, unsigned t, uint32_t rank)
{
    return lookout->seen[rank].places[t].held_up >= HELD_UP_MS;
}

enum tc_cause tc_lookout_cause(const struct tc_lookout *lookout, uint32_t rank)
{
    const struct seen *seen = &lookout->seen[rank];
    unsigned words = seen->count < WORDS ? seen->count : WORDS, same = 0;
    for (unsigned back = 1; back <= words; back++)
        same += seen->samples[(seen->count - back) % SAMPLES].cause == seen->last.cause;
    return 2 * same >= words ? seen->last.cause : TC_CAUSE_NONE;
}

/* The newest sample of at or before; NULL: none. */
static const struct sample *sample_at(const struct seen *seen, uint64_t at)
{
    for (unsigned back = 1; back <= seen->count && back <= SAMPLES; back++) {
        const struct sample *sample = &seen->samples[(seen->count - back) % SAMPLES];
        if (sample->at <= at)
            return sample;
    }
    return NULL;
}

static const struct sample *newest(const struct seen *seen)
{
    return sample_at(seen, UINT64_MAX);
}

uint32_t tc_lookout_held(const struct tc_lookout *lookout, unsigned t, uint32_t rank)
{
    const struct sample *last = newest(&lookout->seen[rank]);
    return last ? last->held[t] : 0;
}

bool tc_lookout_silent(const struct tc_lookout *lookout, uint32_t rank, uint64_t now)
{
    const struct sample *last = newest(&lookout->seen[rank]);
    return last && now >= last->at + TC_LOOKOUT_SILENT;
}

/* What rank said a span before its last word; NULL: nothing, or it has not been below its parent in tree t for so long. */
static const struct sample *span_ago(const struct tc_lookout *lookout, unsigned t, uint32_t rank, uint64_t now)
{
    const struct seen *seen = &lookout->seen[rank];
    const struct sample *last = newest(seen);
    const struct sample *then =
        last && last->at >= TC_LOOKOUT_SPAN ? sample_at(seen, last->at - TC_LOOKOUT_SPAN) : NULL;
    bool settled = then && now >= seen->places[t].since + TC_LOOKOUT_SETTLE && then->at >= seen->places[t].since;
    return settled ? then : NULL;
}

static int64_t more(uint32_t now, uint32_t then)
{
    return now > then ? now - then : 0;
}

int64_t tc_lookout_gain(const struct tc_lookout *lookout, unsigned t, uint32_t rank, uint64_t now)
{
    const struct sample *then = span_ago(lookout, t, rank, now);
    return then ? more(newest(&lookout->seen[rank])->held[t], then->held[t]) : -1;
}

int64_t tc_lookout_brought(const struct tc_lookout *lookout, unsigned t, uint32_t rank, uint64_t now)
{
    const struct sample *then = span_ago(lookout, t, rank, now), *last = newest(&lookout->seen[rank]);
    int64_t found = 0;
    if (!then)
        return -1;
    for (unsigned tree = 0; tree < lookout->trees; tree++)
        found += more(last->held[tree], then->held[tree]) - more(last->brought[tree], then->brought[tree]);
    return more(last->brought[t], then->brought[t]) + (found > 0 ? found : 0);
}

/* A parent that has fallen silent, as one that is frozen or cut off, and a child without a byte since. */
static bool forsaken(const struct tc_lookout *lookout, unsigned t, uint32_t rank, uint32_t up, uint64_t now)
{
    return tc_lookout_silent(lookout, up, now) && lookout->seen[rank].last.trees[t].waiting >= TC_LOOKOUT_SILENT;
}

bool tc_lookout_starves(const struct tc_lookout *lookout, unsigned t, uint32_t rank, uint32_t up, double load,
                        int64_t reference, uint64_t now)
{
    const struct seen *seen = &lookout->seen[rank];
    const struct sample *last = newest(seen);
    if (!last || tc_lookout_silent(lookout, rank, now) || now < seen->places[t].since + TC_LOOKOUT_SETTLE)
        return false;
    if (forsaken(lookout, t, rank, up, now))
        return true;
    const struct sample *then =
        last->at >= TC_LOOKOUT_SPAN ? sample_at(&lookout->seen[up], last->at - TC_LOOKOUT_SPAN) : NULL;
    int64_t brought = tc_lookout_brought(lookout, t, rank, now), up_gain = tc_lookout_gain(lookout, t, up, now);
    if (!then || brought < 0 || then->held[t] <= last->held[t])
        return false;
    if (up_gain < reference)
        up_gain = reference;
    return up_gain >= TC_LOOKOUT_GAIN_LEAST && 2.0 * (double)brought * (load > 1 ? load : 1) < (double)up_gain;
}
