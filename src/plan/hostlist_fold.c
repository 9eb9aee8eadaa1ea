#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/hostlist.h"

#define DIGITS_MAX 18u /* of a number in a range: any such number fits 64 bits */

/* A word on its way to the folded form, and the field that the current pass folds: digits at field .. field + size. A
 * word without such a field has size 0 and field at its end. */
struct word {
    char *text;
    size_t field, size;
    uint64_t value;
};

/* The field-th run of digits from the end that may be folded (0 is the last); a bracket, be it of an earlier pass
 * or of an IPv6 address, counts as one and is left alone. */
static void find_field(struct word *word, unsigned field)
{
    const char *text = word->text;
    size_t at = strlen(text);
    *word = (struct word){.text = word->text, .field = at};
    while (at > 0) {
        size_t end = at;
        if (text[at - 1] == ']') {
            while (text[--at] != '[')
                ;
        } else if (isdigit((unsigned char)text[at - 1])) {
            while (at > 0 && isdigit((unsigned char)text[at - 1]))
                at--;
        } else {
            at--;
            continue;
        }
        if (field-- > 0)
            continue;
        if (isdigit((unsigned char)text[at]) && end - at <= DIGITS_MAX) {
            word->field = at;
            word->size = end - at;
            word->value = strtoull(text + at, NULL, 10);
        }
        return;
    }
}

/* Words that differ in the field only stand together, by width and number. */
static int by_field(const void *one, const void *two)
{
    const struct word *a = one, *b = two;
    size_t common = a->field < b->field ? a->field : b->field;
    int order = memcmp(a->text, b->text, common);
    if (order == 0 && a->field != b->field)
        order = a->field < b->field ? -1 : 1;
    if (order == 0)
        order = strcmp(a->text + a->field + a->size, b->text + b->field + b->size);
    if (order == 0 && a->size != b->size)
        order = a->size < b->size ? -1 : 1;
    return order != 0 ? order : a->value < b->value ? -1 : a->value > b->value;
}

static bool same_group(const struct word *a, const struct word *b)
{
    return a->size > 0 && b->size > 0 && a->field == b->field && memcmp(a->text, b->text, a->field) == 0 &&
           strcmp(a->text + a->field + a->size, b->text + b->field + b->size) == 0;
}

/* b is written by a range that goes on from a: 8-9, 08-09, and 9-10 where the number outgrows its width. */
static bool follows(const struct word *a, const struct word *b)
{
    return b->value == a->value + 1 && (b->size == a->size || b->text[b->field] != '0');
}

/* One word for the count words of a group. NULL: no memory. */
static char *join(const struct word *words, size_t count)
{
    size_t capacity = strlen(words[0].text) + 3 + count * (DIGITS_MAX + 1), used;
    for (size_t i = 0; i < count; i++)
        capacity += words[i].size;
    char *text = malloc(capacity);
    if (!text)
        return NULL;
    used = (size_t)snprintf(text, capacity, "%.*s[", (int)words[0].field, words[0].text);
    for (size_t i = 0, j; i < count; i = j) {
        for (j = i + 1; j < count && follows(&words[j - 1], &words[j]); j++)
            ;
        used += (size_t)snprintf(text + used, capacity - used, "%s%.*s", i ? "," : "", (int)words[i].size,
                                 words[i].text + words[i].field);
        if (j - i > 1)
            used += (size_t)snprintf(text + used, capacity - used, "-%.*s", (int)words[j - 1].size,
                                     words[j - 1].text + words[j - 1].field);
    }
    snprintf(text + used, capacity - used, "]%s", words[0].text + words[0].field + words[0].size);
    return text;
}

/* Fold one field in all words. Returns how many are left, 0 when there is no memory (then none is). */
static size_t fold_field(struct word *words, size_t count, unsigned field)
{
    size_t kept = 0;
    bool failed = false;
    for (size_t i = 0; i < count; i++)
        find_field(&words[i], field);
    qsort(words, count, sizeof *words, by_field);
    for (size_t i = 0, j; i < count; i = j) {
        for (j = i + 1; j < count && same_group(&words[i], &words[j]); j++)
            ;
        char *text = j - i > 1 ? join(&words[i], j - i) : words[i].text;
        failed = failed || !text;
        for (size_t k = i; k < j; k++)
            if (words[k].text != text)
                free(words[k].text);
        words[kept++].text = text;
    }
    for (size_t i = 0; failed && i < kept; i++)
        free(words[i].text);
    return failed ? 0 : kept;
}

/* As people would sort: numbers by width, then value. */
static int by_nature(const void *one, const void *two)
{
    const char *a = ((const struct word *)one)->text, *b = ((const struct word *)two)->text;
    for (;; a++, b++) {
        a += *a == '[';
        b += *b == '[';
        size_t width = strspn(a, "0123456789"), other = strspn(b, "0123456789");
        if (width > 0 && other > 0 && width != other)
            return width < other ? -1 : 1;
        if (*a != *b || *a == '\0')
            return (unsigned char)*a - (unsigned char)*b;
    }
}

static char *join_words(const struct word *words, size_t count)
{
    size_t capacity = 1, used = 0;
    for (size_t i = 0; i < count; i++)
        capacity += strlen(words[i].text) + 1;
    char *text = malloc(capacity);
    if (!text)
        return NULL;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, capacity - used, "%s%s", i ? "," : "", words[i].text);
    return text;
}

/* Field by field from the last to the first: ports, then nodes, then racks. What a pass has folded is, for the next,
 * part of what must be equal: so rack[1-3]node[1-4]:[7201-7202] comes out whole. */
char *tc_hostlist_fold(const struct tc_hostlist *list, struct tc_err *err)
{
    enum { FIELDS = 6 };
    const size_t hosts = tc_hostlist_count(list);
    size_t count = hosts;
    struct word *words = calloc(count + 1, sizeof *words);
    bool failed = !words;
    for (size_t i = 0; !failed && i < hosts; i++) {
        words[i].text = strdup(tc_hostlist_at(list, i));
        failed = !words[i].text;
    }
    char *text = NULL;
    if (!failed) {
        for (unsigned field = 0; field < FIELDS && (count > 0 || hosts == 0); field++)
            count = fold_field(words, count, field);
        failed = count == 0 && hosts > 0;
        qsort(words, count, sizeof *words, by_nature);
        text = failed ? NULL : join_words(words, count);
    }
    for (size_t i = 0; words && i < count; i++)
        free(words[i].text);
    free(words);
    if (!text)
        tc_fail(err, TC_E_NOMEM, "no memory to fold %zu hosts", hosts);
    return text;
}
