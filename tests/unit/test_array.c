/* A .npy header is understood as numpy understands it, or refused; what was typed fits the file or is refused. */
#include "data/array.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

#define DESCR(descr) "{'descr': " descr ", 'fortran_order': False, 'shape': (2,), }"

/* As numpy writes it: padded with spaces to 64 bytes, the last byte a newline. Returns the header's whole size. */
static size_t make(uint8_t bytes[4096], unsigned version, const char *text)
{
    size_t start = version == 1 ? 10 : 12, length = strlen(text);
    size_t whole = (start + length + 1 + 63) / 64 * 64;
    ck_assert_uint_le(whole, 4096);
    memset(bytes, ' ', whole);
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (uint8_t)version;
    bytes[7] = 0;
    for (size_t i = 8; i < start; i++)
        bytes[i] = (uint8_t)((whole - start) >> (8 * (i - 8)));
    memcpy(bytes + start, text, length);
    bytes[whole - 1] = '\n';
    return whole;
}

static const struct good {
    unsigned version;
    const char *header;
    const char *dtype;
    uint64_t item_size, data;
    unsigned ndim;
    uint64_t shape[3];
    bool fortran;
} good[] = {
    {1, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", "<f8", 8, 24, 1, {3}, false},
    {2, "{'descr': '>c16', 'fortran_order': False, 'shape': (), }", ">c16", 16, 16, 0, {0}, false},
    {3, "{'descr': '|b1', 'fortran_order': True, 'shape': (2, 4), }", "|b1", 1, 8, 2, {2, 4}, true},
    {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4, 9), }", "<f4", 4, 0, 3, {0, 4, 9}, false},
    {1, "{'shape': (2L, 3L), 'fortran_order': False, 'descr': \"<U3\"}", "<U3", 12, 72, 2, {2, 3}, false},
    {1, DESCR("'|S0'"), "|S0", 0, 0, 1, {2}, false},
    {1, DESCR("'f8'"), "<f8", 8, 16, 1, {2}, false},
    {1, DESCR("\"uint8\""), "|u1", 1, 2, 1, {2}, false},
    {1, DESCR("u'|i4'"), "<i4", 4, 8, 1, {2}, false},
    {1, "{u'descr': 'd', u'fortran_order': False, u'shape': (2,)}", "<f8", 8, 16, 1, {2}, false},
    {1, DESCR("'<M8[generic]'"), "<M8", 8, 16, 1, {2}, false},
    {1, DESCR("'<M8[D/2]'"), "<M8[12h]", 8, 16, 1, {2}, false},
    {1,
     DESCR("[('a', 'i2', 3), ('b', '|S0', 4), ('c', 'f4', 1), ('', 'V2'), ('', 'V2')]"),
     "[[\"a\",\"<i2\",[3]],[\"b\",\"|S4\"],[\"c\",\"<f4\"],[\"\",\"|V2\"],[\"\",\"|V2\"]]",
     18,
     36,
     1,
     {2},
     false},
    {1,
     DESCR("[('a', ('<f8', (2,)), (3,))]"),
     "[[\"a\",{\"dtype\":\"<f8\",\"shape\":[2]},[3]]]",
     48,
     96,
     1,
     {2},
     false},
    {1, DESCR("'|S7'"), "|S7", 7, 14, 1, {2}, false},
    {1, DESCR("'|V7'"), "|V7", 7, 14, 1, {2}, false},
    {1, DESCR("'<M8[ns]'"), "<M8[ns]", 8, 16, 1, {2}, false},
    {1, DESCR("'>m8[25s]'"), ">m8[25s]", 8, 16, 1, {2}, false},
    {1, DESCR("'<M8'"), "<M8", 8, 16, 1, {2}, false},
    {1, DESCR("'<f16'"), "<f16", 16, 32, 1, {2}, false},
    {1, DESCR("[]"), "[]", 0, 0, 1, {2}, false},
    /* alignment: numpy writes padding as fields without a name */
    {1,
     DESCR("[('f0', '|i1'), ('', '|V3'), ('f1', '<i4')]"),
     "[[\"f0\",\"|i1\"],[\"\",\"|V3\"],[\"f1\",\"<i4\"]]",
     8,
     16,
     1,
     {2},
     false},
    /* a title, sub-arrays, a struct within */
    {1,
     DESCR("[(('T', 'n'), '<f8'), ('s', '|S5', (2, 3)), ('in', [('a', '>u2'), ('b', '|b1', (2,))], (2,))]"),
     "[[[\"T\",\"n\"],\"<f8\"],[\"s\",\"|S5\",[2,3]],[\"in\",[[\"a\",\">u2\"],[\"b\",\"|b1\",[2]]],[2]]]",
     46,
     92,
     1,
     {2},
     false},
    /* Latin-1 before version 3, UTF-8 in it */
    {1, DESCR("[('\xe9', '<f8')]"), "[[\"\xc3\xa9\",\"<f8\"]]", 8, 16, 1, {2}, false},
    {3,
     DESCR("[('\xe6\x95\xb0', '<f8'), ('\xf0\x9f\x98\x80', '<f8')]"),
     "[[\"\xe6\x95\xb0\",\"<f8\"],[\"\xf0\x9f\x98\x80\",\"<f8\"]]",
     16,
     32,
     1,
     {2},
     false},
    {1,
     DESCR("[('q\\'\"\\\\\\n\\x01\\u6570\\U0001f600', '<i2')]"),
     "[[\"q'\\\"\\\\\\u000a\\u0001\xe6\x95\xb0\xf0\x9f\x98\x80\",\"<i2\"]]",
     2,
     4,
     1,
     {2},
     false},
};

START_TEST(npy_is_read)
{
    const struct good *row = &good[_i];
    uint8_t bytes[4096];
    struct tc_array array;
    struct tc_err err = {0};
    size_t head = make(bytes, row->version, row->header);
    ck_assert_msg(tc_array_read_npy(&array, bytes, head, head + row->data, &err) == 0, "%s", err.text);
    ck_assert(array.described);
    ck_assert_str_eq(array.dtype, row->dtype);
    ck_assert_uint_eq(array.item_size, row->item_size);
    ck_assert_uint_eq(array.offset, head);
    ck_assert_uint_eq(array.ndim, row->ndim);
    ck_assert_mem_eq(array.shape, row->shape, row->ndim * sizeof array.shape[0]);
    ck_assert(array.fortran == row->fortran);
    /* What was read is in its one spelling, and checks again. */
    ck_assert_int_eq(tc_array_check(&array, head + row->data, &err), 0);
    ck_assert_str_eq(array.dtype, row->dtype);
    struct tc_array copy;
    ck_assert_int_eq(tc_array_copy(&copy, &array, &err), 0);
    ck_assert(copy.dtype != array.dtype);
    ck_assert_str_eq(copy.dtype, row->dtype);
    tc_array_free(&copy);
    tc_array_free(&array);
    ck_assert(!array.described && !array.dtype);
    /* One byte less or more is another file. */
    ck_assert_int_eq(tc_array_read_npy(&array, bytes, head, head + row->data - 1, NULL), -TC_E_FORMAT);
    ck_assert_int_eq(tc_array_read_npy(&array, bytes, head, head + row->data + 1, NULL), -TC_E_FORMAT);
    ck_assert(!array.dtype);
}
END_TEST

static const struct bad {
    const char *header;
    const char *says;
} bad[] = {
    {DESCR("'|O'"), "Python pointers"},
    {DESCR("'|O8'"), "Python pointers"},
    {DESCR("[('a', '<f8'), ('o', [('p', '|O')])]"), "Python pointers"},
    {DESCR("'<f3'"), "unknown dtype"},
    {DESCR("'<q8'"), "unknown dtype"},
    {DESCR("'<M8[parsec]'"), "unknown dtype"},
    {DESCR("'<f8x'"), "unknown dtype"},
    {DESCR("'|S99999999999999999999'"), "unknown dtype"},
    {DESCR("''"), "unknown dtype"},
    {DESCR("'f8,i4'"), "as fields"},
    {DESCR("[('a', '<f8'), ('b', '<f8'), ('a', '<i4')]"), "field name \"a\" occurs twice"},
    {DESCR("[(('a', 'b'), '<f8'), ('a', '<i4')]"), "occurs twice"},
    {DESCR("[('s', [('x', '<f8'), ('x', '<f8')])]"), "occurs twice"},
    {DESCR("[('a', '|S0', (3,))]"), "no width"},
    {DESCR("('<f8', (2,))"), "expected a string"},
    {DESCR("[('a',)]"), "expected a string"},
    {DESCR("[('a', '<f8', x)]"), "expected a number"},
    {DESCR("[('a', ('<f8',))]"), "expected a number"},
    {DESCR("[('a', '<f8', (3,), 1)]"), "end of a field"},
    {DESCR("[('a', '<f8', (2000000000, 2000000000))]"), "2 GiB"},
    {DESCR("[('a\\ud800', '<f8')]"), "cannot be"},
    {DESCR("[('a\\x00', '<f8')]"), "cannot be"},
    {DESCR("[('a\\q', '<f8')]"), "cannot be"},
    {DESCR("[('\xff', '<f8')]"), "cannot be"},
    {DESCR("[('\xc0\x80', '<f8')]"), "cannot be"},
    {DESCR("[('a', '<f8')"), "expected a field"},
    {DESCR("'<f8"), "as fields"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, -1)}", "number"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (2.5,)}", "comma"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': 2}", "shape"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (2)}", "comma"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': [2,]}", "shape"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}", "too large"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "overflows"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 0, 4294967296)}", "overflows"},
    {"{'descr': '<f8', 'fortran_order': 0, 'shape': (2,)}", "True or False"},
    {"{'descr': '<f8', 'fortran_order': False}", "missing"},
    {"{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", "repeated"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'more': 1}", "unknown"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (2,)} 1", "after the header"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (2,)", "comma"},
    {"[]", "'{'"},
    {"", "'{'"},
};

START_TEST(broken_npy_is_refused)
{
    uint8_t bytes[4096];
    struct tc_array array;
    struct tc_err err = {0};
    size_t head = make(bytes, 3, bad[_i].header);
    ck_assert_int_eq(tc_array_read_npy(&array, bytes, head, head + 16, &err), -TC_E_FORMAT);
    ck_assert_msg(strstr(err.text, bad[_i].says), "%s: %s", bad[_i].header, err.text);
    ck_assert(!array.described && !array.dtype);
}
END_TEST

START_TEST(cut_or_foreign_head_is_refused)
{
    uint8_t bytes[4096];
    struct tc_array array;
    for (unsigned version = 1; version <= 3; version++) {
        size_t head = make(bytes, version, good[0].header);
        for (size_t size = 0; size < head; size++)
            ck_assert_int_eq(tc_array_read_npy(&array, bytes, size, head + 24, NULL), -TC_E_FORMAT);
    }
    make(bytes, 4, good[0].header);
    ck_assert_int_eq(tc_array_read_npy(&array, bytes, sizeof bytes, 152, NULL), -TC_E_FORMAT);
    make(bytes, 3, good[0].header);
    bytes[11] = 1; /* 16 MiB of header */
    struct tc_err err = {0};
    ck_assert_int_eq(tc_array_read_npy(&array, bytes, sizeof bytes, 1u << 30, &err), -TC_E_FORMAT);
    ck_assert(strstr(err.text, "longer than"));
}
END_TEST

START_TEST(deep_and_long_dtypes_are_bounded)
{
    static char text[200000];
    struct tc_array array;
    struct tc_err err = {0};
    size_t used = 0;
    for (unsigned i = 0; i < 40; i++)
        used += (size_t)sprintf(text + used, "[('a',");
    ck_assert_int_eq(tc_array_describe_raw(&array, text, "", 8, &err), -TC_E_USAGE);
    ck_assert(strstr(err.text, "too deep"));
    used = (size_t)sprintf(text, "[");
    for (unsigned i = 0; i < 1000; i++)
        used += (size_t)sprintf(text + used, "('field%u','f8'),", i);
    sprintf(text + used, "]");
    ck_assert_int_eq(tc_array_describe_raw(&array, text, "", 8000, &err), 0);
    tc_array_free(&array);
    used = (size_t)sprintf(text, "[");
    for (unsigned i = 0; i < 10000; i++)
        used += (size_t)sprintf(text + used, "('field%u','f8'),", i);
    sprintf(text + used, "]");
    memset(&err, 0, sizeof err);
    ck_assert_int_eq(tc_array_describe_raw(&array, text, "", 8000, &err), -TC_E_USAGE);
    ck_assert(strstr(err.text, "longer than 128 KiB"));
}
END_TEST

static const struct raw {
    const char *dtype, *shape;
    uint64_t size;
    const char *result; /* NULL: refused */
    unsigned ndim;
    uint64_t extent[3];
} raw[] = {
    {"<f8", "3,4", 96, "<f8", 2, {3, 4}},
    {"f8", "(3, 4)", 96, "<f8", 2, {3, 4}},
    {"=f8", "3,4,", 96, "<f8", 2, {3, 4}},
    {"float64", "-1", 96, "<f8", 1, {12}},
    {"float64", "", 96, "<f8", 1, {12}},
    {"int32", NULL, 0, "<i4", 1, {0}},
    {">i2", "2,-1,3", 96, ">i2", 3, {2, 8, 3}},
    {"uint8", "()", 1, "|u1", 0, {0}},
    {"<u1", "1", 1, "|u1", 1, {1}},
    {"bool", "5", 5, "|b1", 1, {5}},
    {"complex128", "0,7", 0, "<c16", 2, {0, 7}},
    {"M8[ns]", "2", 16, "<M8[ns]", 1, {2}},
    {"U4", "2", 32, "<U4", 1, {2}},
    {"S10", "2", 20, "|S10", 1, {2}},
    {"[('x', 'f8'), ('v', 'int32', (3,))]", "2", 40, "[[\"x\",\"<f8\"],[\"v\",\"<i4\",[3]]]", 1, {2}},
    {"[[\"x\",\"<f8\"]]", "2", 16, "[[\"x\",\"<f8\"]]", 1, {2}},
    {"f8", "3,4", 95, NULL, 0, {0}},
    {"f8", "-1", 95, NULL, 0, {0}},
    {"f8", "-1,-1", 96, NULL, 0, {0}},
    {"f8", "0,-1", 0, NULL, 0, {0}},
    {"S0", "-1", 0, NULL, 0, {0}},
    {"f8", "-2", 96, NULL, 0, {0}},
    {"f8", "3;4", 96, NULL, 0, {0}},
    {"f8", "(3,4", 96, NULL, 0, {0}},
    {"f8", "3,4)", 96, NULL, 0, {0}},
    {"f8", "12 1", 96, NULL, 0, {0}},
    {"O", "12", 96, NULL, 0, {0}},
    {"float65", "12", 96, NULL, 0, {0}},
    {"", "12", 96, NULL, 0, {0}},
    {"[('x', 'S0', (-1,))]", "0", 0, NULL, 0, {0}},
    {"timedelta64[s]", "2", 16, "<m8[s]", 1, {2}},
    {"bool_", "5", 5, "|b1", 1, {5}},
    {"str", "5", 5, NULL, 0, {0}},
    {"f8,i4", "1", 12, NULL, 0, {0}},
};

START_TEST(raw_is_described)
{
    const struct raw *row = &raw[_i];
    struct tc_array array;
    struct tc_err err = {0};
    int rc = tc_array_describe_raw(&array, row->dtype, row->shape, row->size, &err);
    if (!row->result) {
        ck_assert_int_eq(rc, -TC_E_USAGE);
        ck_assert(err.text[0] && !array.dtype);
        return;
    }
    ck_assert_msg(rc == 0, "%s", err.text);
    ck_assert_str_eq(array.dtype, row->result);
    ck_assert_uint_eq(array.ndim, row->ndim);
    ck_assert_mem_eq(array.shape, row->extent, row->ndim * sizeof array.shape[0]);
    ck_assert(!array.fortran && array.offset == 0);
    tc_array_free(&array);
}
END_TEST

START_TEST(check_finds_what_does_not_fit)
{
    struct tc_array array;
    ck_assert_int_eq(tc_array_describe_raw(&array, "f8", "3", 24, NULL), 0);
    ck_assert_int_eq(tc_array_check(&array, 24, NULL), 0);
    ck_assert_int_eq(tc_array_check(&array, 25, NULL), -TC_E_FORMAT);
    array.offset = UINT64_MAX;
    ck_assert_int_eq(tc_array_check(&array, 24, NULL), -TC_E_FORMAT);
    array.offset = 0;
    array.item_size = 4;
    ck_assert_int_eq(tc_array_check(&array, 12, NULL), -TC_E_FORMAT);
    array.item_size = 8;
    strcpy(array.dtype, "f8"); /* put into its one spelling */
    ck_assert_int_eq(tc_array_check(&array, 24, NULL), 0);
    ck_assert_str_eq(array.dtype, "<f8");
    strcpy(array.dtype, "f7");
    ck_assert_int_eq(tc_array_check(&array, 24, NULL), -TC_E_FORMAT);
    tc_array_free(&array);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("array");
    TCase *tcase = tcase_create("array");
    tcase_add_loop_test(tcase, npy_is_read, 0, sizeof good / sizeof good[0]);
    tcase_add_loop_test(tcase, broken_npy_is_refused, 0, sizeof bad / sizeof bad[0]);
    tcase_add_test(tcase, cut_or_foreign_head_is_refused);
    tcase_add_test(tcase, deep_and_long_dtypes_are_bounded);
    tcase_add_loop_test(tcase, raw_is_described, 0, sizeof raw / sizeof raw[0]);
    tcase_add_test(tcase, check_finds_what_does_not_fit);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
