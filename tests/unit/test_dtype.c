/* A word means what it means to numpy: the table beside, which numpy itself has made (tests/python/words.py --table).
 *
 * With "-" for an argument it answers tests/python/words.py instead: a line "w HEX" asks for a word, "h HEX" for the
 * head of a .npy file whose array is empty; the answer is "DTYPE<TAB>BYTES" or "-<TAB>why". */
#include "data/dtype.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/array.h"
#include "unit.h"

#define TABLE "/tests/unit/numpy-words.txt"

/* The first line: which numpy it was. A table of another kind of machine says nothing here. */
static FILE *open_table(void)
{
    char path[4096], head[256];
    int bytes = 0;
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s" TABLE, top ? top : ".");
    FILE *table = fopen(path, "r");
    ck_assert_msg(table && fgets(head, sizeof head, table), "cannot read %s", path);
    const char *width = strstr(head, "long double of ");
    ck_assert(strncmp(head, "# numpy ", 8) == 0 && width && sscanf(width, "long double of %d", &bytes) == 1);
    bool here = strstr(head, "little-endian") && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(long) == 8 &&
                bytes == (int)sizeof(long double);
    if (!here) {
        fclose(table);
        return NULL;
    }
    return table;
}

START_TEST(words_are_numpys)
{
    char line[256];
    unsigned count = 0, refused = 0;
    FILE *table = open_table();
    for (; table && fgets(line, sizeof line, table); count++) {
        char *said = strchr(line, '\t');
        ck_assert_ptr_nonnull(said);
        *said++ = '\0';
        said[strcspn(said, "\n")] = '\0';
        char *size = strchr(said, '\t'), *tab = strstr(line, "\\t");
        if (tab)
            strcpy(tab, "\t");
        struct tc_word word;
        const char *why = tc_word_read(&word, line);
        if (!size) {
            ck_assert_msg(why != NULL, "'%s' is '%s', and nothing to numpy", line, word.text);
            refused++;
            continue;
        }
        *size++ = '\0';
        ck_assert_msg(!why, "'%s' is refused (%s), and '%s' to numpy", line, why, said);
        ck_assert_msg(strcmp(word.text, said) == 0, "'%s' is '%s', and '%s' to numpy", line, word.text, said);
        ck_assert_uint_eq(word.size, strtoull(size, NULL, 10));
    }
    ck_assert(!table || (count > 1000 && refused > 100 && count - refused > 500));
    if (table)
        fclose(table);
}
END_TEST

START_TEST(refusals_say_what_to_do)
{
    struct tc_word word;
    ck_assert(strstr(tc_word_read(&word, "O"), "Python pointers"));
    ck_assert(strstr(tc_word_read(&word, "object"), "Python pointers"));
    ck_assert(strstr(tc_word_read(&word, "3f8"), "as fields"));
    ck_assert(strstr(tc_word_read(&word, "f8,i4"), "as fields"));
    ck_assert(!tc_word_read(&word, "<U0") && !tc_word_resize(&word, 7));
    ck_assert_str_eq(word.text, "<U7");
    ck_assert_uint_eq(word.size, 28);
    ck_assert_ptr_nonnull(tc_word_resize(&word, UINT64_C(1) << 32));
    /* what numpy cannot read back */
    ck_assert_ptr_nonnull(tc_word_read(&word, "M8[2147483647s/2]"));
}
END_TEST

static size_t from_hex(char *text)
{
    size_t size = strlen(text) / 2;
    for (size_t i = 0; i < size; i++) {
        unsigned byte = 0;
        sscanf(text + 2 * i, "%2x", &byte);
        text[i] = (char)byte;
    }
    text[size] = '\0';
    return size;
}

static int answer(void)
{
    static char line[1 << 18];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        char *text = line + 2;
        size_t size = from_hex(text);
        struct tc_array array = {0};
        struct tc_err err = {0};
        struct tc_word word;
        if (line[0] == 'h') {
            if (tc_array_read_npy(&array, text, size, size, &err) == 0)
                printf("%s\t%llu\n", array.dtype, (unsigned long long)array.item_size);
            else
                printf("-\t%s\n", err.text);
            tc_array_free(&array);
        } else {
            const char *why = strlen(text) == size ? tc_word_read(&word, text) : "NUL";
            printf("%s\t%s", why ? "-" : word.text, why ? why : "");
            printf(why ? "\n" : "%llu\n", (unsigned long long)(why ? 0 : word.size));
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "-") == 0)
        return answer();
    Suite *suite = suite_create("dtype");
    TCase *tcase = tcase_create("dtype");
    tcase_add_test(tcase, words_are_numpys);
    tcase_add_test(tcase, refusals_say_what_to_do);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
