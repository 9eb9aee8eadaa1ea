/* bottleneck.h - whether a host works at a limit of its own, its disk or its CPU, and not at the network's. Pure.
 *
 * Workers add what their work took, from any thread; the loop thread asks four times a second. A host whose line is the
 * limit shows nothing: it waits, and does each piece of work in the time that this takes of a CPU. */
#ifndef TC_NODE_BOTTLENECK_H
#define TC_NODE_BOTTLENECK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "plan/detector.h"

struct tc_bottleneck { /* zeroed: nothing seen */
    atomic_ullong disk, work,
        cpu;          /* ns since the last answer: reading and placing, all else by the clock, and by the CPU */
    uint64_t since;   /* ms */
    uint64_t late;    /* ms, as told at the last look */
    uint64_t seen_at; /* ms: when cause was seen last */
    enum tc_cause cause;
};

/* A piece of work took so many ns: disk of it for the file, work for the rest, of that cpu on a CPU. */
void tc_bottleneck_add(struct tc_bottleneck *bottleneck, uint64_t disk, uint64_t work, uint64_t cpu);

/* Look at what was added, at now (ms), and at late, the ms that timers of the loop have come late in all: it waited for a
 * CPU. Returns whether bottleneck->cause has changed. Says nothing new before 200 ms; what was seen stands for a second. */
bool tc_bottleneck_look(struct tc_bottleneck *bottleneck, uint64_t now, uint64_t late);

/* Nanoseconds by the clock, and of CPU time of the calling thread. */
uint64_t tc_bottleneck_clock(void);
uint64_t tc_bottleneck_cpu(void);

#endif
