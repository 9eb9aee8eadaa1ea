/* A description survives JSON unchanged, and JSON that does not describe its file is refused. */
#include "data/describe.h"

#include <jansson.h>
#include <string.h>

#include "unit.h"

START_TEST(names)
{
    static const char *const yes[] = {"A.npy", "0", "x_y-z.1"};
    static const char *const no[] = {"", ".", "..", ".treecast", "-x", "_x", "a/b", "a b", "a\n", "\xc3\xa9", "a\\b"};
    char longest[TC_NAME_MAX + 2];
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        ck_assert_int_eq(tc_name_check(yes[i], NULL), 0);
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        ck_assert_int_eq(tc_name_check(no[i], NULL), -TC_E_NAME);
    memset(longest, 'a', sizeof longest);
    longest[TC_NAME_MAX + 1] = '\0';
    ck_assert_int_eq(tc_name_check(longest, NULL), -TC_E_NAME);
    longest[TC_NAME_MAX] = '\0';
    ck_assert_int_eq(tc_name_check(longest, NULL), 0);
    struct tc_err err = {0};
    tc_name_check("\033[2J", &err);
    ck_assert(!strchr(err.text, '\033') && strstr(err.text, "\\x1b"));
}
END_TEST

static const struct kind {
    const char *dtype, *shape;
    uint64_t size;
} kinds[] = {
    {NULL, NULL, 12345},
    {"f8", "10,10", 800},
    {"f8", "()", 8},
    {"f8", "0,3", 0},
    {"[(('title','x'),'f8'),('','V4'),('\xe6\x95\xb0\\\\\"\\n\\x7f','i4',(3,)),('in',[('a','S3')],(2,))]", "2", 60},
};

static struct tc_description sample(const struct kind *kind)
{
    struct tc_description description = {.name = "A.npy", .size = kind->size, .created = 1700000000};
    for (unsigned i = 0; i < TC_DIGEST_SIZE; i++)
        description.digest.bytes[i] = (uint8_t)(i * 37);
    for (unsigned i = 0; i < TC_SESSION_ID_SIZE; i++)
        description.session[i] = (uint8_t)(255 - i * 17);
    struct tc_err err = {0};
    if (kind->dtype)
        ck_assert_msg(!tc_array_describe_raw(&description.array, kind->dtype, kind->shape, kind->size, &err), "%s",
                      err.text);
    return description;
}

static void check_equal_arrays(const struct tc_array *a, const struct tc_array *b)
{
    ck_assert(a->described == b->described);
    ck_assert_pstr_eq(a->dtype, b->dtype);
    ck_assert_uint_eq(a->ndim, b->ndim);
    ck_assert_mem_eq(a->shape, b->shape, a->ndim * sizeof a->shape[0]);
    ck_assert(a->fortran == b->fortran && a->offset == b->offset && a->item_size == b->item_size);
}

START_TEST(round_trip)
{
    struct tc_description one = sample(&kinds[_i]), two;
    one.array.fortran = one.array.described;
    one.lease.expires = _i & 1 ? 1700003600 : 0;
    one.lease.pid = _i & 2 ? 4711 : 0;
    one.lease.start = _i & 2 ? 1ull << 40 : 0;
    struct tc_err err = {0};
    char *text = tc_description_print(&one, &err);
    ck_assert_ptr_nonnull(text);
    ck_assert(!strchr(text, '\n'));
    ck_assert_msg(tc_description_parse(&two, text, strlen(text), &err) == 0, "%s", err.text);
    ck_assert_str_eq(two.name, one.name);
    ck_assert(two.size == one.size && two.created == one.created && tc_digest_equal(&two.digest, &one.digest));
    ck_assert_mem_eq(two.session, one.session, sizeof one.session);
    ck_assert(two.lease.expires == one.lease.expires && two.lease.pid == one.lease.pid);
    ck_assert(two.lease.start == one.lease.start && !strstr(text, "owner") == (one.lease.pid == 0));
    check_equal_arrays(&one.array, &two.array);
    tc_array_free(&two.array);
    for (size_t cut = 0; cut < strlen(text); cut++)
        ck_assert_int_eq(tc_description_parse(&two, text, cut, NULL), -TC_E_FORMAT);
    free(text);
    text = tc_array_print(&one.array, &err);
    ck_assert_int_eq(tc_array_parse(&two.array, text, strlen(text), one.size, &err), 0);
    check_equal_arrays(&one.array, &two.array);
    tc_array_free(&two.array);
    free(text);
    tc_array_free(&one.array);
}
END_TEST

START_TEST(structured_dtype_is_json)
{
    struct tc_description one = sample(&kinds[4]);
    char *text = tc_array_print(&one.array, NULL);
    json_t *root = json_loads(text, 0, NULL);
    json_t *fields = json_object_get(root, "dtype");
    ck_assert_uint_eq(json_array_size(fields), 4);
    ck_assert_str_eq(json_string_value(json_array_get(json_array_get(json_array_get(fields, 0), 0), 1)), "x");
    ck_assert_str_eq(json_string_value(json_array_get(json_array_get(fields, 1), 1)), "|V4");
    ck_assert_int_eq(json_integer_value(json_object_get(root, "item_size")), 30);
    json_decref(root);
    free(text);
    tc_array_free(&one.array);
}
END_TEST

static const char good_text[] = "{\"schema\":1,\"name\":\"A\",\"size\":16,\"digest\":"
                                "\"0000000000000000000000000000000000000000000000000000000000000000\",\"session\":"
                                "\"00000000000000000000000000000000\",\"created\":1,\"extra\":[],\"array\":{\"dtype\":"
                                "\"<f8\",\"shape\":[2],\"order\":\"C\",\"offset\":0,\"item_size\":8}}";

/* Each puts one text in the place of another in a good description. */
static const char *const spoilt[][2] = {
    {"\"schema\":1", "\"schema\":2"},
    {"\"name\":\"A\"", "\"name\":7"},
    {"\"size\":16", "\"size\":-16"},
    {"\"size\":16", "\"size\":99999999999999999999"},
    {"\"size\":16", "\"size\":17"},
    {"\"size\":16", "\"size\":16,\"size\":16"},
    {"\"digest\":\"0", "\"digest\":\"x"},
    {"\"session\":\"0", "\"session\":\""},
    {"\"created\":1", "\"made\":1"},
    {"\"created\":1", "\"created\":1,\"expires\":-1"},
    {"\"created\":1", "\"created\":1,\"owner_pid\":7"},
    {"\"created\":1", "\"created\":1,\"owner_pid\":0,\"owner_start\":1"},
    {"\"created\":1", "\"created\":1,\"owner_pid\":2147483648,\"owner_start\":1"},
    {"\"array\":", "\"arrow\":"},
    {"\"<f8\"", "\"|O\""},
    {"\"<f8\"", "\"<f4\""},
    {"\"<f8\"", "[[\"a\",\"<f8\"],[\"b\"]]"},
    {"\"<f8\"", "null"},
    {"[2]", "[2.0]"},
    {"[2]", "[-2]"},
    {"[2]", "2"},
    {"\"C\"", "\"K\""},
    {"\"offset\":0", "\"offset\":8"},
    {"\"item_size\":8", "\"item_size\":4"},
};

START_TEST(spoilt_is_refused)
{
    struct tc_description description;
    struct tc_err err = {0};
    ck_assert_msg(!tc_description_parse(&description, good_text, sizeof good_text - 1, &err), "%s", err.text);
    tc_array_free(&description.array);
    char text[1024];
    const char *place = strstr(good_text, spoilt[_i][0]);
    ck_assert_ptr_nonnull(place);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(place - good_text), good_text, spoilt[_i][1],
             place + strlen(spoilt[_i][0]));
    ck_assert_int_eq(tc_description_parse(&description, text, strlen(text), &err), -TC_E_FORMAT);
    ck_assert(err.text[0] && !description.array.dtype);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("describe");
    TCase *tcase = tcase_create("describe");
    tcase_add_test(tcase, names);
    tcase_add_loop_test(tcase, round_trip, 0, sizeof kinds / sizeof kinds[0]);
    tcase_add_test(tcase, structured_dtype_is_json);
    tcase_add_loop_test(tcase, spoilt_is_refused, 0, sizeof spoilt / sizeof spoilt[0]);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
