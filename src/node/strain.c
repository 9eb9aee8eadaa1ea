#include "node/strain.h"

#include <time.h>

enum { LOOK_MS = 200, STARVED_MS = 20, STAYS_MS = 1000 };

void tc_strain_add(struct tc_strain *strain, uint64_t disk, uint64_t work, uint64_t cpu)
{
    atomic_fetch_add_explicit(&strain->disk, disk, memory_order_relaxed);
    atomic_fetch_add_explicit(&strain->work, work, memory_order_relaxed);
    atomic_fetch_add_explicit(&strain->cpu, cpu, memory_order_relaxed);
}

/* Busy with one thing for most of the time. Or it does not get the CPU: its timers come late for a quarter of the time, or
 * it is busy for long with what a CPU does in a third of it. */
static enum tc_cause judge(uint64_t passed, uint64_t late, uint64_t disk, uint64_t work, uint64_t cpu)
{
    if (late >= passed / 4)
        return TC_CAUSE_CPU;
    if (disk + work >= passed / 2)
        return disk >= work ? TC_CAUSE_DISK : TC_CAUSE_CPU;
    if (work >= STARVED_MS * UINT64_C(1000000) && work > 3 * cpu)
        return TC_CAUSE_CPU;
    return TC_CAUSE_NONE;
}

bool tc_strain_look(struct tc_strain *strain, uint64_t now, uint64_t late)
{
    if (strain->since == 0) {
        strain->since = now;
        strain->late = late;
    }
    if (now - strain->since < LOOK_MS)
        return false;
    uint64_t ms = UINT64_C(1000000), passed = (now - strain->since) * ms;
    enum tc_cause before = strain->cause;
    enum tc_cause cause = judge(passed, (late - strain->late) * ms, atomic_exchange(&strain->disk, 0),
                                atomic_exchange(&strain->work, 0), atomic_exchange(&strain->cpu, 0));
    strain->since = now;
    strain->late = late;
    if (cause != TC_CAUSE_NONE)
        strain->seen_at = now;
    if (cause != TC_CAUSE_NONE || now - strain->seen_at >= STAYS_MS)
        strain->cause = cause;
    return strain->cause != before;
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
