#include "cli/size.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* A plain decimal number, so neither "0x10", "1e3", "inf" nor a sign, which strtod would all take. */
static const char *number(double *value, const char *text)
{
    size_t digits = strspn(text, "0123456789");
    size_t length = digits;
    if (text[length] == '.') {
        size_t fraction = strspn(text + length + 1, "0123456789");
        digits += fraction;
        length += 1 + fraction;
    }
    if (digits == 0 || length >= TC_AMOUNT_TEXT)
        return NULL;
    char copy[TC_AMOUNT_TEXT];
    memcpy(copy, text, length);
    copy[length] = '\0';
    *value = strtod(copy, NULL);
    return text + length;
}

int tc_size_parse(uint64_t *bytes, const char *text, struct tc_err *err)
{
    static const char powers[] = "KMGTP";
    double value;
    const char *unit = number(&value, text);
    if (!unit)
        return tc_fail(err, TC_E_USAGE, "'%s' is not a size (write 4096, 64K or 1.5GiB)", text);
    unit += strspn(unit, " ");
    int power = 0;
    const char *at = *unit ? strchr(powers, toupper((unsigned char)*unit)) : NULL;
    if (at) {
        power = (int)(at - powers) + 1;
        unit++;
    }
    if (*unit && strcasecmp(unit, "B") != 0 && !(at && strcasecmp(unit, "iB") == 0))
        return tc_fail(err, TC_E_USAGE, "'%s' is not a size (write 4096, 64K or 1.5GiB)", text);
    value = ldexp(value, 10 * power);
    if (value > 0x1p62)
        return tc_fail(err, TC_E_USAGE, "'%s' is too large", text);
    *bytes = (uint64_t)value;
    return 0;
}

int tc_memory_parse(uint64_t *bytes, const char *text, struct tc_err *err)
{
    char *end;
    unsigned long percent = strtoul(text, &end, 10);
    if (!strchr(text, '%'))
        return tc_size_parse(bytes, text, err);
    if (*text < '0' || *text > '9' || strcmp(end, "%") != 0 || percent < 1 || percent > 100)
        return tc_fail(err, TC_E_USAGE, "'%s' is neither a size nor 1%% .. 100%%", text);
    *bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) / 100 * percent * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

int tc_seconds_parse(double *seconds, const char *text, struct tc_err *err)
{
    static const char units[] = "smhd";
    static const double factors[] = {1, 60, 3600, 86400};
    double value;
    const char *unit = number(&value, text);
    const char *at = unit && *unit ? strchr(units, *unit) : NULL;
    if (!unit || (*unit && (!at || unit[1])))
        return tc_fail(err, TC_E_USAGE, "'%s' is not a time (write 90, 1.5, 10m or 2h)", text);
    *seconds = value * (at ? factors[at - units] : 1);
    return 0;
}

/* Three digits: 1.23 GiB, 12.3 GiB, 123 GiB; up to 1023 of a unit are shown whole. */
static void print(char out[TC_AMOUNT_TEXT], double value, const char *after)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    while (value >= 1023.5 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    char digits[TC_AMOUNT_TEXT / 2];
    int length = snprintf(digits, sizeof digits, "%.*f", decimals, value);
    while (decimals > 0 && digits[length - 1] == '0') {
        digits[--length] = '\0';
        decimals--;
    }
    if (digits[length - 1] == '.')
        digits[length - 1] = '\0';
    snprintf(out, TC_AMOUNT_TEXT, "%s %s%s", digits, units[unit], after);
}

char *tc_size_print(char out[TC_AMOUNT_TEXT], uint64_t bytes)
{
    print(out, (double)bytes, "");
    return out;
}

char *tc_rate_print(char out[TC_AMOUNT_TEXT], double bytes_per_second)
{
    print(out, bytes_per_second > 0 && isfinite(bytes_per_second) ? bytes_per_second : 0, "/s");
    return out;
}

char *tc_seconds_print(char out[TC_AMOUNT_TEXT], double seconds)
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e7) {
        snprintf(out, TC_AMOUNT_TEXT, "-");
    } else if (seconds < 59.95) {
        snprintf(out, TC_AMOUNT_TEXT, "%.*f s", seconds < 9.995 ? 2 : 1, seconds);
    } else {
        unsigned whole = (unsigned)(seconds + 0.5);
        if (whole < 3600)
            snprintf(out, TC_AMOUNT_TEXT, "%u:%02u", whole / 60, whole % 60);
        else
            snprintf(out, TC_AMOUNT_TEXT, "%u:%02u:%02u", whole / 3600, whole / 60 % 60, whole % 60);
    }
    return out;
}
