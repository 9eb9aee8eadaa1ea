#include "node/strain.h"

#include <time.h>

enum { LOOK_MS = 250, STARVED_MS = 20 };

void tc_strain_add(struct tc_strain *strain, uint64_t disk, uint64_t work, uint64_t cpu)
{
    atomic_fetch_add_explicit(&strain->disk, disk, memory_order_relaxed);
    atomic_fetch_add_explicit(&strain->work, work, memory_order_relaxed);
    atomic_fetch_add_explicit(&strain->cpu, cpu, memory_order_relaxed);
}

/* Busy with one thing for most of the time, or for long with what a CPU does in a third of it: it does not get the CPU. */
static enum tc_cause judge(uint64_t passed, uint64_t disk, uint64_t work, uint64_t cpu)
{
    if (disk + work >= passed / 2)
        return disk >= work ? TC_CAUSE_DISK : TC_CAUSE_CPU;
    if (work >= STARVED_MS * UINT64_C(1000000) && work > 3 * cpu)
        return TC_CAUSE_CPU;
    return TC_CAUSE_NONE;
}

bool tc_strain_look(struct tc_strain *strain, uint64_t now)
{
    if (strain->since == 0)
        strain->since = now;
    if (now - strain->since < LOOK_MS)
        return false;
    uint64_t passed = (now - strain->since) * UINT64_C(1000000);
    enum tc_cause cause = judge(passed, atomic_exchange(&strain->disk, 0), atomic_exchange(&strain->work, 0),
                                atomic_exchange(&strain->cpu, 0));
    bool changed = cause != strain->cause;
    strain->since = now;
    strain->cause = cause;
    return changed;
}

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

uint64_t tc_strain_clock(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t tc_strain_cpu(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}
