#include "plan/lookout.h"

#include <stdlib.h>

enum {
    SAMPLES = 16,     /* of each host: four seconds of reports */
    GAIN_LEAST = 12,  /* chunks that must pass in a span before it says anything */
    HELD_UP_MS = 800, /* of waiting for one child, what ran meanwhile taken off twice */
    HELD_UP_MOST = 1600
};

struct sample {
    uint64_t at;
    uint32_t held[TC_TREES_MAX];
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
    struct sample *sample = &seen->samples[seen->count++ % SAMPLES];
    seen->last = *sighting;
    sample->at = now;
    for (unsigned t = 0; t < lookout->trees; t++)
        sample->held[t] = sighting->trees[t].held;
}

void tc_lookout_moved(struct tc_lookout *lookout, unsigned t, uint32_t rank, uint64_t now)
{
    lookout->seen[rank].places[t] = (struct place){.since = now, .told_at = now};
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
    return lookout->seen[rank].last.cause;
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

int64_t tc_lookout_gain(const struct tc_lookout *lookout, unsigned t, uint32_t rank, uint64_t now)
{
    const struct seen *seen = &lookout->seen[rank];
    const struct sample *last = newest(seen);
    const struct sample *first =
        last && last->at >= TC_LOOKOUT_SPAN ? sample_at(seen, last->at - TC_LOOKOUT_SPAN) : NULL;
    if (!first || now < seen->places[t].since + TC_LOOKOUT_SETTLE || first->at < seen->places[t].since)
        return -1;
    return last->held[t] > first->held[t] ? last->held[t] - first->held[t] : 0;
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
    int64_t gain = tc_lookout_gain(lookout, t, rank, now), up_gain = tc_lookout_gain(lookout, t, up, now);
    if (!then || gain < 0 || then->held[t] <= last->held[t])
        return false;
    if (up_gain < reference)
        up_gain = reference;
    return up_gain >= GAIN_LEAST && 2.0 * (double)gain * (load > 1 ? load : 1) < (double)up_gain;
}
