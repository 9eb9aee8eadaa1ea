/* strain.h - whether a host works at a limit of its own, its disk or its CPU, and not at the network's. Pure.
 *
 * Workers add what their work took, from any thread; the loop thread asks four times a second. */
#ifndef TC_NODE_STRAIN_H
#define TC_NODE_STRAIN_H

#include <stdatomic.h>
#include <stdbool.h>

#include "plan/lookout.h"

struct tc_strain { /* zeroed: nothing seen */
    atomic_ullong disk, work,
        cpu;        /* ns since the last answer: reading and placing, all else by the clock, and by the CPU */
    uint64_t since; /* ms */
    enum tc_cause cause;
};

/* A piece of work took so many ns: disk of it for the file, work for the rest, of that cpu on a CPU. */
void tc_strain_add(struct tc_strain *strain, uint64_t disk, uint64_t work, uint64_t cpu);

/* Look at what was added, at now (ms): returns whether strain->cause has changed. Says nothing new before 250 ms. */
bool tc_strain_look(struct tc_strain *strain, uint64_t now);

/* Nanoseconds by the clock, and of CPU time of the calling thread. */
uint64_t tc_strain_clock(void);
uint64_t tc_strain_cpu(void);

#endif
