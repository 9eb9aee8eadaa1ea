#include "data/word.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NATIVE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>')

static const char unknown[] = "unknown dtype";

struct name {
    const char *name;
    char kind;
    unsigned width;
};

/* The names that numpy knows, each for the C type that it stands for. */
static const struct name names[] = {
    {"bool", 'b', 1},
    {"bool_", 'b', 1},
    {"bool8", 'b', 1},
    {"byte", 'i', sizeof(signed char)},
    {"short", 'i', sizeof(short)},
    {"intc", 'i', sizeof(int)},
    {"long", 'i', sizeof(long)},
    {"int", 'i', sizeof(long)},
    {"int_", 'i', sizeof(long)},
    {"longlong", 'i', sizeof(long long)},
    {"intp", 'i', sizeof(void *)},
    {"int0", 'i', sizeof(void *)},
    {"int8", 'i', 1},
    {"int16", 'i', 2},
    {"int32", 'i', 4},
    {"int64", 'i', 8},
    {"ubyte", 'u', sizeof(unsigned char)},
    {"ushort", 'u', sizeof(unsigned short)},
    {"uintc", 'u', sizeof(unsigned)},
    {"ulong", 'u', sizeof(unsigned long)},
    {"uint", 'u', sizeof(unsigned long)},
    {"ulonglong", 'u', sizeof(unsigned long long)},
    {"uintp", 'u', sizeof(void *)},
    {"uint0", 'u', sizeof(void *)},
    {"uint8", 'u', 1},
    {"uint16", 'u', 2},
    {"uint32", 'u', 4},
    {"uint64", 'u', 8},
    {"half", 'f', 2},
    {"single", 'f', sizeof(float)},
    {"double", 'f', sizeof(double)},
    {"float", 'f', sizeof(double)},
    {"float_", 'f', sizeof(double)},
    {"longdouble", 'f', sizeof(long double)},
    {"longfloat", 'f', sizeof(long double)},
    {"float16", 'f', 2},
    {"float32", 'f', 4},
    {"float64", 'f', 8},
    {"float96", 'f', 12},
    {"float128", 'f', 16},
    {"csingle", 'c', 2 * sizeof(float)},
    {"singlecomplex", 'c', 2 * sizeof(float)},
    {"cdouble", 'c', 2 * sizeof(double)},
    {"cfloat", 'c', 2 * sizeof(double)},
    {"complex", 'c', 2 * sizeof(double)},
    {"complex_", 'c', 2 * sizeof(double)},
    {"clongdouble", 'c', 2 * sizeof(long double)},
    {"clongfloat", 'c', 2 * sizeof(long double)},
    {"longcomplex", 'c', 2 * sizeof(long double)},
    {"complex64", 'c', 8},
    {"complex128", 'c', 16},
    {"complex192", 'c', 24},
    {"complex256", 'c', 32},
    {"bytes", 'S', 0},
    {"bytes_", 'S', 0},
    {"bytes0", 'S', 0},
    {"string_", 'S', 0},
    {"str", 'U', 0},
    {"str_", 'U', 0},
    {"str0", 'U', 0},
    {"unicode", 'U', 0},
    {"unicode_", 'U', 0},
    {"void", 'V', 0},
    {"void0", 'V', 0},
    {"object", 'O', sizeof(void *)},
    {"object_", 'O', sizeof(void *)},
    {"object0", 'O', sizeof(void *)},
};

/* One letter alone. */
static const struct name letters[] = {
    {"?", 'b', 1},
    {"b", 'i', sizeof(signed char)},
    {"h", 'i', sizeof(short)},
    {"i", 'i', sizeof(int)},
    {"l", 'i', sizeof(long)},
    {"q", 'i', sizeof(long long)},
    {"p", 'i', sizeof(void *)},
    {"B", 'u', sizeof(unsigned char)},
    {"H", 'u', sizeof(unsigned short)},
    {"I", 'u', sizeof(unsigned)},
    {"L", 'u', sizeof(unsigned long)},
    {"Q", 'u', sizeof(unsigned long long)},
    {"P", 'u', sizeof(void *)},
    {"e", 'f', 2},
    {"f", 'f', sizeof(float)},
    {"d", 'f', sizeof(double)},
    {"g", 'f', sizeof(long double)},
    {"F", 'c', 2 * sizeof(float)},
    {"D", 'c', 2 * sizeof(double)},
    {"G", 'c', 2 * sizeof(long double)},
    {"c", 'S', 1},
    {"S", 'S', 0},
    {"a", 'S', 0},
    {"U", 'U', 0},
    {"V", 'V', 0},
    {"O", 'O', sizeof(void *)},
    {"M", 'M', 8},
    {"m", 'm', 8},
};

static const struct name *find(const struct name *table, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(table[i].name, text) == 0)
            return &table[i];
    return NULL;
}

#define FIND(table, text) find(table, sizeof table / sizeof table[0], text)

static bool width_exists(char kind, unsigned long width)
{
    switch (kind) {
    case 'b':
        return width == 1;
    case 'i':
    case 'u':
        return width == 1 || width == 2 || width == 4 || width == 8;
    case 'f':
        return width == 2 || width == 4 || width == 8 || width == sizeof(long double);
    case 'c':
        return width == 8 || width == 16 || width == 2 * sizeof(long double);
    case 'm':
    case 'M':
        return width == 8;
    case 'O':
        return width == 4 || width == 8;
    default:
        return width <= (kind == 'U' ? TC_ITEM_SIZE_MAX / 4 : TC_ITEM_SIZE_MAX);
    }
}

/* The word in its one spelling. order: '<', '>', or this machine's. */
static const char *put(struct tc_word *word, char order, char kind, unsigned long width, const char *unit)
{
    if (kind == 'O')
        return "object arrays hold Python pointers; save another dtype";
    if (!strchr("biufcmMSUV", kind) || !width_exists(kind, width))
        return unknown;
    if (kind == 'S' || kind == 'V' || (kind != 'U' && width == 1))
        order = '|';
    else if (order != '<' && order != '>')
        order = NATIVE;
    if (snprintf(word->text, sizeof word->text, "%c%c%lu%s", order, kind, width, unit) >= (int)sizeof word->text)
        return unknown;
    word->size = kind == 'U' ? 4 * (uint64_t)width : width;
    return NULL;
}

/* ---- dates and time spans ---- */

/* From years to attoseconds, and the next smaller ones that each can be divided into. */
static const struct unit {
    const char *name;
    struct {
        unsigned count, unit;
    } parts[3];
} units[] = {
    {"Y", {{12, 1}, {52, 2}, {365, 3}}},
    {"M", {{4, 2}, {30, 3}, {720, 4}}},
    {"W", {{7, 3}, {168, 4}, {10080, 5}}},
    {"D", {{24, 4}, {1440, 5}, {86400, 6}}},
    {"h", {{60, 5}, {3600, 6}}},
    {"m", {{60, 6}, {60000, 7}}},
    {"s", {{1000, 7}, {1000000, 8}}},
    {"ms", {{1000, 8}, {1000000, 9}}},
    {"us", {{1000, 9}, {1000000, 10}}},
    {"ns", {{1000, 10}, {1000000, 11}}},
    {"ps", {{1000, 11}, {1000000, 12}}},
    {"fs", {{1000, 12}}},
    {"as", {{0}}},
};
#define UNITS (sizeof units / sizeof units[0])
#define GENERIC UNITS

/* UNITS: generic; more: no unit. */
static size_t find_unit(const char *text, size_t length)
{
    if (length == 3 && memcmp(text, "\xce\xbcs", 3) == 0) /* a Greek letter */
        return 8;
    if (length == 7 && memcmp(text, "generic", 7) == 0)
        return GENERIC;
    for (size_t i = 0; i < UNITS; i++)
        if (strlen(units[i].name) == length && memcmp(text, units[i].name, length) == 0)
            return i;
    return UNITS + 1;
}

static bool divide(size_t *unit, long *count, long divisor)
{
    if (divisor == 1)
        return true;
    if (*unit == GENERIC || divisor < 1)
        return false;
    for (size_t i = 0; i < 3 && units[*unit].parts[i].count; i++) {
        long whole = units[*unit].parts[i].count;
        if (whole % divisor)
            continue;
        *unit = units[*unit].parts[i].unit;
        return !__builtin_mul_overflow(*count, whole / divisor, count) && *count <= INT_MAX;
    }
    return false;
}

/* "[ns]", "[25s]", "[D/2]", "[generic]" or nothing, to the end of text; the one spelling of it. */
static bool read_unit(const char *text, char out[TC_WORD_MAX])
{
    out[0] = '\0';
    if (!*text)
        return true;
    if (*text++ != '[')
        return false;
    char *after;
    errno = 0;
    long count = strtol(text, &after, 10), divisor = 1;
    if (after == text)
        count = 1;
    size_t length = strcspn(after, "/]"), unit = find_unit(after, length);
    if (errno || count < 0 || count > INT_MAX || unit > UNITS)
        return false;
    const char *end = after + length;
    if (*end == '/') {
        divisor = strtol(end + 1, &after, 10);
        if (after == end + 1 || errno)
            return false;
        end = after;
    }
    if (strcmp(end, "]") != 0 || !divide(&unit, &count, divisor))
        return false;
    if (unit == GENERIC)
        return true;
    char number[24] = "";
    if (count != 1)
        snprintf(number, sizeof number, "%ld", count);
    snprintf(out, TC_WORD_MAX, "[%s%s]", number, units[unit].name);
    return true;
}

/* What follows "M8", "m8", "datetime64" or "timedelta64"; NULL where none of them begins text. */
static const char *time_unit(const char *text)
{
    static const char *const heads[] = {"M8", "m8", "datetime64", "timedelta64"};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (strncmp(text, heads[i], strlen(heads[i])) == 0)
            return text + strlen(heads[i]);
    return NULL;
}

/* ---- words ---- */

static bool is_order(char c)
{
    return c && strchr("<>|=", c);
}

/* Of several types, or of one several times: numpy reads a list in such a word. */
static bool has_several(const char *text)
{
    const char *at = is_order(*text) ? text + 1 : text;
    if (isdigit((unsigned char)*at) || (at[0] == '(' && at[1] == ')'))
        return true;
    bool within = false;
    for (at = *text ? text + 1 : text; *at; at++) {
        if (*at == ',' && !within)
            return true;
        within = *at == '[' || (within && *at != ']');
    }
    return false;
}

const char *tc_word_read(struct tc_word *word, const char *text)
{
    if (has_several(text))
        return "several types in a word; write them as fields: [('f0', '<f8'), ('f1', '<i4', (3,))]";
    const struct name *name = FIND(names, text);
    if (name)
        return put(word, '=', name->kind, name->width, "");
    char order = is_order(*text) ? *text++ : '=', unit[TC_WORD_MAX];
    const char *after = time_unit(text);
    if (after)
        return read_unit(after, unit) ? put(word, order, *text == 'M' || *text == 'd' ? 'M' : 'm', 8, unit) : unknown;
    name = FIND(letters, text);
    if (name)
        return put(word, order, name->kind, name->width, "");
    if (strlen(text) < 2)
        return unknown;
    char *end, kind = *text == 'a' ? 'S' : *text;
    errno = 0;
    long width = strtol(text + 1, &end, 10);
    if (end == text + 1 || *end || errno || width < 0 || width > TC_ITEM_SIZE_MAX)
        return unknown;
    return put(word, order, kind, (unsigned long)width, "");
}

const char *tc_word_resize(struct tc_word *word, uint64_t count)
{
    return count > TC_ITEM_SIZE_MAX ? unknown : put(word, word->text[0], word->text[1], (unsigned long)count, "");
}
