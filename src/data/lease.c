#include "data/lease.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX 1e11 /* a longer lease is this long: three thousand years */
#define SETTLED_S 2      /* seconds by which two ways to reckon the same moment may differ while no clock was set */

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t tc_lease_clock(void)
{
    return clock_ms(CLOCK_BOOTTIME);
}

static uint8_t boot_id[TC_BOOT_ID_SIZE]; /* zero: the kernel does not tell */

static void read_boot_id(void)
{
    char text[64];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text);
    unsigned digits = 0;
    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < got && digits < 2 * sizeof boot_id; i++) {
        static const char hex[] = "0123456789abcdef";
        const char *digit = memchr(hex, text[i], sizeof hex - 1);
        if (!digit)
            continue;
        boot_id[digits / 2] = (uint8_t)(boot_id[digits / 2] << 4 | (digit - hex));
        digits++;
    }
}

static const uint8_t *this_boot(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_boot_id);
    return boot_id;
}

static bool of_this_boot(const struct tc_lease *lease)
{
    return lease->ends > 0 && memcmp(lease->boot, this_boot(), sizeof lease->boot) == 0;
}

void tc_lease_begin(struct tc_lease *lease, double seconds)
{
    uint64_t wait = (uint64_t)((seconds < SECONDS_MAX ? seconds : SECONDS_MAX) * 1e3) + 1;
    lease->expires = (clock_ms(CLOCK_REALTIME) + wait + 999) / 1000;
    lease->ends = tc_lease_clock() + wait;
    memcpy(lease->boot, this_boot(), sizeof lease->boot);
}

uint64_t tc_lease_left(const struct tc_lease *lease)
{
    if (!lease->expires)
        return UINT64_MAX;
    bool same = of_this_boot(lease);
    uint64_t end = same ? lease->ends : lease->expires < UINT64_MAX / 1000 ? lease->expires * 1000 : UINT64_MAX;
    uint64_t now = same ? tc_lease_clock() : clock_ms(CLOCK_REALTIME);
    return end > now ? end - now : 0;
}

uint64_t tc_lease_expires(const struct tc_lease *lease)
{
    if (!lease->expires || !of_this_boot(lease))
        return lease->expires;
    int64_t until = (int64_t)lease->ends - (int64_t)tc_lease_clock();
    int64_t then = ((int64_t)clock_ms(CLOCK_REALTIME) + until + 999) / 1000;
    int64_t apart = then - (int64_t)lease->expires;
    return apart >= -SETTLED_S && apart <= SETTLED_S ? lease->expires : (uint64_t)then;
}
