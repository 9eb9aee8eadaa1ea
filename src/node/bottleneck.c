#include "node/bottleneck.h"

#include <time.h>

enum { LOOK_MS = 200, STARVED_MS = 20, STAYS_MS = 1000 };

void tc_bottleneck_add(struct tc_bottleneck *bottleneck, uint64_t disk, uint64_t work, uint64_t cpu)
{
    atomic_fetch_add_explicit(&bottleneck->disk, disk, memory_order_relaxed);
    atomic_fetch_add_explicit(&bottleneck->work, work, memory_order_relaxed);
    atomic_fetch_add_explicit(&bottleneck->cpu, cpu, memory_order_relaxed);
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

bool tc_bottleneck_look(struct tc_bottleneck *bottleneck, uint64_t now, uint64_t late)
{
    if (bottleneck->since == 0) {
        bottleneck->since = now;
        bottleneck->late = late;
    }
    if (now - bottleneck->since < LOOK_MS)
        return false;
    uint64_t ms = UINT64_C(1000000), passed = (now - bottleneck->since) * ms;
    enum tc_cause before = bottleneck->cause;
    enum tc_cause cause = judge(passed, (late - bottleneck->late) * ms, atomic_exchange(&bottleneck->disk, 0),
                                atomic_exchange(&bottleneck->work, 0), atomic_exchange(&bottleneck->cpu, 0));
    bottleneck->since = now;
    bottleneck->late = late;
    if (cause != TC_CAUSE_NONE)
        bottleneck->seen_at = now;
    if (cause != TC_CAUSE_NONE || now - bottleneck->seen_at >= STAYS_MS)
        bottleneck->cause = cause;
    return bottleneck->cause != before;
}

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

uint64_t tc_bottleneck_clock(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t tc_bottleneck_cpu(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}
