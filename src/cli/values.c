#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/nearest.h"
#include "cli/size.h"
#include "cli/values.h"

struct text {
    struct text *next;
    char bytes[];
};

struct tc_values {
    const struct tc_verb *verb;
    unsigned char *bytes;    /* the verb's struct */
    enum tc_origin *origins; /* of each option's value */
    struct text *texts;      /* every text a value points to */
    const char **operands;
};

size_t tc_option_count(const struct tc_verb *verb)
{
    size_t count = 0;
    while (verb->options[count].name)
        count++;
    return count;
}

struct tc_values *tc_values_new(const struct tc_verb *verb, struct tc_err *err)
{
    struct tc_values *values = calloc(1, sizeof *values);
    if (values) {
        values->verb = verb;
        values->bytes = calloc(1, verb->size + 1);
        values->origins = calloc(tc_option_count(verb) + 1, sizeof *values->origins);
    }
    if (!values || !values->bytes || !values->origins) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        tc_values_free(values);
        return NULL;
    }
    if (verb->defaults)
        memcpy(values->bytes, verb->defaults, verb->size);
    return values;
}

static void *value_at(const struct tc_values *values, const struct tc_option *option)
{
    return values->bytes + option->offset;
}

void tc_values_free(struct tc_values *values)
{
    if (!values)
        return;
    if (values->bytes)
        for (const struct tc_option *option = values->verb->options; option->name; option++)
            if (option->kind == TC_OPT_LIST)
                free(((struct tc_texts *)value_at(values, option))->items);
    while (values->texts) {
        struct text *text = values->texts;
        values->texts = text->next;
        free(text);
    }
    free(values->operands);
    free(values->origins);
    free(values->bytes);
    free(values);
}

const void *tc_values_struct(const struct tc_values *values)
{
    return values->bytes;
}

const struct tc_verb *tc_values_verb(const struct tc_values *values)
{
    return values->verb;
}

enum tc_origin tc_values_origin(const struct tc_values *values, const struct tc_option *option)
{
    return values->origins[option - values->verb->options];
}

static const char *keep(struct tc_values *values, const char *bytes, struct tc_err *err)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): flags alone need no text */
    size_t size = strlen(bytes) + 1;
    struct text *text = malloc(sizeof *text + size);
    if (!text) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    memcpy(text->bytes, bytes, size);
    text->next = values->texts;
    values->texts = text;
    return text->bytes;
}

static size_t kind_size(enum tc_option_kind kind)
{
    switch (kind) {
    case TC_OPT_FLAG:
        return sizeof(bool);
    case TC_OPT_COUNT:
    case TC_OPT_CHOICE:
        return sizeof(unsigned);
    case TC_OPT_TEXT:
        return sizeof(const char *);
    case TC_OPT_LIST:
        return sizeof(struct tc_texts);
    case TC_OPT_SECONDS:
        return sizeof(double);
    case TC_OPT_NUMBER:
    case TC_OPT_SIZE:
    case TC_OPT_OCTAL:
        break;
    }
    return sizeof(uint64_t);
}

static void reset(struct tc_values *values, const struct tc_option *option)
{
    void *value = value_at(values, option);
    size_t size = kind_size(option->kind);
    if (option->kind == TC_OPT_LIST)
        free(((struct tc_texts *)value)->items);
    if (values->verb->defaults)
        memcpy(value, (const unsigned char *)values->verb->defaults + option->offset, size);
    else
        memset(value, 0, size);
}

/* Make way for a value from origin: what lower sources said about this option and its family goes. False when a higher
 * source has spoken already. */
static bool claim(struct tc_values *values, const struct tc_option *option, enum tc_origin origin)
{
    const struct tc_option *options = values->verb->options;
    for (size_t i = 0; options[i].name; i++) {
        bool kin = options + i == option || (option->family && options[i].family == option->family);
        if (kin && values->origins[i] > origin)
            return false;
    }
    for (size_t i = 0; options[i].name; i++) {
        bool kin = options + i == option || (option->family && options[i].family == option->family);
        if (kin && values->origins[i] < origin) {
            reset(values, options + i);
            values->origins[i] = options + i == option ? origin : TC_FROM_DEFAULT;
        }
    }
    return true;
}

static int parse_bool(bool *value, const char *text, struct tc_err *err)
{
    static const char *const words[][2] = {{"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        for (int is = 0; is < 2; is++)
            if (strcasecmp(text, words[i][is]) == 0) {
                *value = is;
                return 0;
            }
    return tc_fail(err, TC_E_USAGE, "'%s' is neither yes nor no", text);
}

static int parse_whole(uint64_t *value, const char *text, int base, struct tc_err *err)
{
    char *end;
    errno = 0;
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): flags alone need no text */
    *value = strtoull(text, &end, base);
    if (!isdigit((unsigned char)*text) || *end || errno)
        return tc_fail(err, TC_E_USAGE, "'%s' is not %s", text, base == 8 ? "an octal number" : "a number");
    return 0;
}

static int parse_choice(unsigned *value, const char *text, const char *choices, struct tc_err *err)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): flags alone need no text */
    size_t size = strlen(text);
    unsigned index = 0;
    for (const char *at = choices; at; index++) {
        size_t length = strcspn(at, "|");
        if (length == size && memcmp(at, text, size) == 0) {
            *value = index;
            return 0;
        }
        at = at[length] ? at + length + 1 : NULL;
    }
    return tc_fail(err, TC_E_USAGE, "'%s' is not one of %s", text, choices);
}

static int add_text(struct tc_values *values, struct tc_texts *list, const char *text, struct tc_err *err)
{
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    list->items = items;
    items[list->count] = keep(values, text, err);
    if (!items[list->count])
        return -TC_E_NOMEM;
    list->count++;
    return 0;
}

/* The bounds in the words of the option's kind. */
static int out_of_bounds(const struct tc_option *option, const char *text, struct tc_err *err)
{
    char least[TC_AMOUNT_TEXT], most[TC_AMOUNT_TEXT];
    if (option->kind == TC_OPT_SIZE) {
        tc_size_print(least, option->least);
        tc_size_print(most, option->most);
    } else {
        snprintf(least, sizeof least, option->kind == TC_OPT_OCTAL ? "%04jo" : "%ju", (uintmax_t)option->least);
        snprintf(most, sizeof most, option->kind == TC_OPT_OCTAL ? "%04jo" : "%ju", (uintmax_t)option->most);
    }
    if (option->most == 0)
        return tc_fail(err, TC_E_USAGE, "'%s' is less than %s", text, least);
    return tc_fail(err, TC_E_USAGE, "'%s' is not within %s .. %s", text, least, most);
}

static int convert(struct tc_values *values, const struct tc_option *option, const char *text, struct tc_err *err)
{
    void *value = value_at(values, option);
    int result = 0;
    switch (option->kind) {
    case TC_OPT_FLAG:
        return text ? parse_bool(value, text, err) : (*(bool *)value = true, 0);
    case TC_OPT_COUNT: {
        uint64_t count = *(unsigned *)value + 1;
        if (text && (result = parse_whole(&count, text, 10, err)) < 0)
            return result;
        *(unsigned *)value = count > 9 ? 9 : (unsigned)count;
        return 0;
    }
    case TC_OPT_TEXT: {
        const char *kept = keep(values, text, err);
        *(const char **)value = kept;
        return kept ? 0 : -TC_E_NOMEM;
    }
    case TC_OPT_LIST:
        return add_text(values, value, text, err);
    case TC_OPT_CHOICE:
        return parse_choice(value, text, option->choices, err);
    case TC_OPT_SECONDS:
        return tc_seconds_parse(value, text, err);
    case TC_OPT_SIZE:
        result = tc_size_parse(value, text, err);
        break;
    case TC_OPT_NUMBER:
    case TC_OPT_OCTAL:
        result = parse_whole(value, text, option->kind == TC_OPT_OCTAL ? 8 : 10, err);
        break;
    }
    uint64_t whole = *(uint64_t *)value;
    if (result == 0 && (whole < option->least || (option->most && whole > option->most)))
        return out_of_bounds(option, text, err);
    return result;
}

int tc_values_set(struct tc_values *values, const struct tc_option *option, enum tc_origin origin, const char *where,
                  const char *text, struct tc_err *err)
{
    if (!claim(values, option, origin))
        return 0;
    struct tc_err why = {0};
    int result = convert(values, option, text, &why);
    return result < 0 ? tc_fail(err, why.reason, "%s: %s", where, why.text) : 0;
}

void tc_environment_name(const char *option, char *out, size_t size)
{
    snprintf(out, size, "TREECAST_%s", option);
    for (char *c = out; *c; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

int tc_values_environment(struct tc_values *values, char *const *environment, struct tc_err *err)
{
    for (const struct tc_option *option = values->verb->options; option->name; option++) {
        char name[64];
        if (option->spoken)
            continue;
        tc_environment_name(option->name, name, sizeof name);
        size_t length = strlen(name);
        for (char *const *entry = environment; *entry; entry++) {
            if (strncmp(*entry, name, length) != 0 || (*entry)[length] != '=' || !(*entry)[length + 1])
                continue;
            int result = tc_values_set(values, option, TC_FROM_ENVIRONMENT, name, *entry + length + 1, err);
            if (result < 0)
                return result;
            break;
        }
    }
    return 0;
}

enum { LONG_BASE = 256, HELP = 255, OPERAND = 1 };

struct parse { /* what getopt_long needs */
    struct option *longs;
    char *shorts;
};

/* A leading '-' hands operands over in their order, so that "--" keeps its place among them; ':' tells a missing
 * argument from an unknown option. */
static int parse_init(struct parse *parse, const struct tc_verb *verb, struct tc_err *err)
{
    size_t count = tc_option_count(verb);
    parse->longs = calloc(count + 2, sizeof *parse->longs);
    parse->shorts = calloc(count + 4, 2);
    if (!parse->longs || !parse->shorts)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    char *s = parse->shorts;
    s += sprintf(s, "-:h");
    for (size_t i = 0; i < count; i++) {
        const struct tc_option *option = verb->options + i;
        parse->longs[i] =
            (struct option){option->name, option->argument ? required_argument : no_argument, NULL, LONG_BASE + (int)i};
        if (option->letter)
            s += sprintf(s, "%c%s", option->letter, option->argument ? ":" : "");
    }
    parse->longs[count] = (struct option){"help", no_argument, NULL, HELP};
    return 0;
}

static const struct tc_option *option_of(const struct tc_verb *verb, int code)
{
    if (code >= LONG_BASE)
        return verb->options + (code - LONG_BASE);
    for (const struct tc_option *option = verb->options; option->name; option++)
        if (option->letter == code)
            return option;
    return NULL;
}

/* getopt's own words, with what to do. word is the argument it stopped at. */
static int refuse(const struct tc_verb *verb, int code, const char *word, struct tc_err *err)
{
    char letter[3] = {'-', (char)optopt, '\0'};
    const char *shown = optopt > 0 && optopt < HELP && strncmp(word, "--", 2) != 0 ? letter : word;
    int length = (int)strcspn(shown, "=");
    if (code == ':')
        return tc_fail(err, TC_E_USAGE, "%.*s needs a value (see treecast %s -h)", length, shown, verb->name);
    if (optopt >= HELP)
        return tc_fail(err, TC_E_USAGE, "%.*s takes no value (see treecast %s -h)", length, shown, verb->name);
    struct tc_nearest nearest = {.word = shown + 2, .size = length > 2 ? (size_t)length - 2 : 0};
    for (const struct tc_option *option = verb->options; nearest.size && option->name; option++)
        tc_nearest_try(&nearest, option->name);
    if (nearest.found)
        return tc_fail(err, TC_E_USAGE, "unknown option %.*s; did you mean --%s? (see treecast %s -h)", length, shown,
                       nearest.found, verb->name);
    return tc_fail(err, TC_E_USAGE, "unknown option %.*s (see treecast %s -h)", length, shown, verb->name);
}

static int take_flag(struct tc_values *values, int code, struct tc_err *err)
{
    const struct tc_option *option = option_of(values->verb, code);
    char where[64];
    if (code >= LONG_BASE)
        snprintf(where, sizeof where, "--%s", option->name);
    else
        snprintf(where, sizeof where, "-%c", option->letter);
    return tc_values_set(values, option, TC_FROM_FLAG, where, option->argument ? optarg : NULL, err);
}

static int check_operands(const struct tc_verb *verb, const struct tc_call *call, struct tc_err *err)
{
    if (call->count < verb->least)
        return tc_fail(err, TC_E_USAGE, "usage: treecast %s [options] %s (see treecast %s -h)", verb->name,
                       verb->arguments, verb->name);
    if (call->count > verb->most)
        return tc_fail(err, TC_E_USAGE, "unexpected '%s' (see treecast %s -h)", call->operands[verb->most], verb->name);
    return 0;
}

int tc_values_flags(struct tc_values *values, int argc, char **argv, struct tc_call *call, bool *help,
                    struct tc_err *err)
{
    const struct tc_verb *verb = values->verb;
    struct parse parse = {0};
    size_t count = 0, before = SIZE_MAX;
    int result = parse_init(&parse, verb, err);
    values->operands = calloc((size_t)argc + 1, sizeof *values->operands);
    if (result == 0 && !values->operands)
        result = tc_fail(err, TC_E_NOMEM, "out of memory");
    *help = false;
    optind = 0; /* GNU's way to start anew */
    opterr = 0;
    while (result == 0 && !*help) {
        int next = optind ? optind : 1;
        int code = getopt_long(argc, argv, parse.shorts, parse.longs, NULL);
        if (code == -1)
            break;
        if (code == OPERAND)
            values->operands[count++] = optarg;
        else if (code == HELP || code == 'h')
            *help = true;
        else if (code == '?' || code == ':')
            result = refuse(verb, code, argv[next < argc ? next : argc - 1], err);
        else
            result = take_flag(values, code, err);
    }
    if (result == 0 && !*help) {
        before = count;
        for (int i = optind; i < argc; i++)
            values->operands[count++] = argv[i];
        *call = (struct tc_call){verb, values->bytes, values->operands, count, before};
        result = check_operands(verb, call, err);
    }
    free(parse.longs);
    free(parse.shorts);
    return result;
}
