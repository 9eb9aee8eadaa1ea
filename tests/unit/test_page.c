#include "data/page.h"

#include <string.h>

#include "unit.h"

static const uint8_t session[TC_SESSION_ID_SIZE] = {'o', 'n', 'e', ' ', 's', 'e', 's', 's',
                                                    'i', 'o', 'n', ' ', 'o', 'n', 'l', 'y'};

struct keys {
    struct tc_signer *signer;
    struct tc_verifier *verifier;
};

static struct keys make_keys(void)
{
    static const uint8_t secret[TC_SECRET_SIZE] = {1, 2, 3};
    uint8_t public_key[TC_PUBLIC_SIZE];
    struct keys keys = {.signer = tc_signer_new(secret, public_key, NULL)};
    ck_assert_ptr_nonnull(keys.signer);
    keys.verifier = tc_verifier_new(public_key, NULL);
    ck_assert_ptr_nonnull(keys.verifier);
    return keys;
}

static void free_keys(struct keys *keys)
{
    tc_signer_free(keys->signer);
    tc_verifier_free(keys->verifier);
}

static struct tc_page make_page(uint32_t index, uint32_t count, bool last)
{
    struct tc_page page = {.index = index, .count = count, .last = last};
    for (uint32_t i = 0; i < count; i++)
        memset(&page.chunks[i], (int)(i + 1), sizeof page.chunks[i]);
    if (last)
        memset(&page.content, 0xcc, sizeof page.content);
    return page;
}

static struct tc_page signed_page(struct keys *keys, uint32_t index, uint32_t count, bool last)
{
    struct tc_page page = make_page(index, count, last);
    ck_assert_int_eq(tc_page_sign(&page, session, keys->signer, NULL), 0);
    ck_assert_int_eq(tc_page_check(&page, session, keys->verifier, NULL), 0);
    return page;
}

static void refused(const struct tc_page *page, struct keys *keys)
{
    struct tc_err err = {0};
    ck_assert_int_eq(tc_page_check(page, session, keys->verifier, &err), -TC_E_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.text, "page "));
}

/* Packs page into bytes (TC_PAGE_PACKED_MAX of them) and returns the size. */
static size_t packed(const struct tc_page *page, uint8_t *bytes)
{
    struct tc_buf buf = tc_buf_writer(bytes, TC_PAGE_PACKED_MAX);
    tc_page_pack(page, &buf);
    ck_assert(tc_buf_ok(&buf));
    return buf.at;
}

/* True when size bytes are exactly one page. */
static bool unpacks(struct tc_page *page, const uint8_t *bytes, size_t size)
{
    struct tc_buf buf = tc_buf_reader(bytes, size);
    tc_page_unpack(page, &buf);
    return tc_buf_done(&buf);
}

/* The signed bytes, laid out here by hand: another implementation must come to the same ones. */
START_TEST(signed_bytes_are_as_documented)
{
    struct keys keys = make_keys();
    struct tc_page page = signed_page(&keys, 0x01020304, 2, true);
    uint8_t bytes[16 + 16 + 4 + 1 + 1 + 2 * 32 + 32];
    memcpy(bytes, "treecast page 1", 16);
    memcpy(bytes + 16, session, 16);
    memcpy(bytes + 32, (const uint8_t[]){1, 2, 3, 4, 2, 1}, 6);
    memset(bytes + 38, 1, 32);
    memset(bytes + 70, 2, 32);
    memset(bytes + 102, 0xcc, 32);
    ck_assert_int_eq(tc_verifier_check(keys.verifier, bytes, sizeof bytes, page.signature, NULL), 0);
    free_keys(&keys);
}
END_TEST

START_TEST(every_changed_field_is_refused)
{
    struct keys keys = make_keys();
    const struct tc_page good = signed_page(&keys, 7, 63, true);
    struct tc_page page = good;
    page.index ^= 1;
    refused(&page, &keys);
    page = good;
    page.count = 64; /* the 64th digest is all zero */
    refused(&page, &keys);
    page = good;
    page.count = 62;
    refused(&page, &keys);
    page = good;
    page.last = false;
    refused(&page, &keys);
    page = good;
    page.content.bytes[31] ^= 1;
    refused(&page, &keys);
    for (uint32_t i = 0; i < good.count; i++) {
        page = good;
        page.chunks[i].bytes[i % TC_DIGEST_SIZE] ^= 0x80;
        refused(&page, &keys);
    }
    for (uint32_t i = 0; i < TC_SIGNATURE_SIZE; i++) {
        page = good;
        page.signature[i] ^= 1;
        refused(&page, &keys);
    }
    page = good;
    page.chunks[0] = good.chunks[1];
    page.chunks[1] = good.chunks[0];
    refused(&page, &keys);
    ck_assert_int_eq(tc_page_check(&good, session, keys.verifier, NULL), 0);
    free_keys(&keys);
}
END_TEST

START_TEST(full_page_cannot_become_the_last)
{
    struct keys keys = make_keys();
    struct tc_page page = signed_page(&keys, 0, 64, false);
    memset(&page.content, 0x11, sizeof page.content); /* has no meaning here */
    ck_assert_int_eq(tc_page_check(&page, session, keys.verifier, NULL), 0);
    page.last = true;
    refused(&page, &keys);
    memset(&page.content, 0, sizeof page.content);
    refused(&page, &keys);
    free_keys(&keys);
}
END_TEST

START_TEST(bound_to_session_and_key)
{
    struct keys keys = make_keys();
    struct tc_page page = signed_page(&keys, 0, 1, true);
    for (size_t i = 0; i < TC_SESSION_ID_SIZE; i++) {
        uint8_t other[TC_SESSION_ID_SIZE];
        memcpy(other, session, sizeof other);
        other[i] ^= 1;
        ck_assert_int_eq(tc_page_check(&page, other, keys.verifier, NULL), -TC_E_INTEGRITY);
    }
    static const uint8_t secret[TC_SECRET_SIZE] = {9};
    struct tc_signer *pending = tc_signer_new(secret, NULL, NULL);
    ck_assert_ptr_nonnull(pending);
    ck_assert_int_eq(tc_page_sign(&page, session, pending, NULL), 0);
    refused(&page, &keys);
    tc_signer_free(pending);
    free_keys(&keys);
}
END_TEST

START_TEST(impossible_shapes_are_refused)
{
    static const struct {
        uint32_t index;
        uint32_t count;
        bool last;
    } rows[] = {{0, 65, false}, {0, 65, true},        {0, 0, false},        {1, 0, true},
                {3, 63, false}, {0, 256 + 64, false}, {0, UINT32_MAX, true}};
    struct keys keys = make_keys();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[TC_PAGE_PACKED_MAX];
        struct tc_page page = {.index = rows[i].index, .count = rows[i].count, .last = rows[i].last};
        struct tc_buf buf = tc_buf_writer(bytes, sizeof bytes);
        ck_assert_int_eq(tc_page_sign(&page, session, keys.signer, NULL), -TC_E_USAGE);
        refused(&page, &keys);
        tc_page_pack(&page, &buf);
        ck_assert(!tc_buf_ok(&buf));
    }
    free_keys(&keys);
}
END_TEST

START_TEST(pack_and_unpack)
{
    static const struct {
        uint32_t index;
        uint32_t count;
        bool last;
        size_t size;
    } rows[] = {{0, 0, true, 6 + 32 + 64},
                {0, 1, true, 6 + 2 * 32 + 64},
                {9, 64, false, 6 + 64 * 32 + 64},
                {UINT32_MAX, 64, true, TC_PAGE_PACKED_MAX}};
    struct keys keys = make_keys();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[TC_PAGE_PACKED_MAX];
        struct tc_page page = signed_page(&keys, rows[i].index, rows[i].count, rows[i].last);
        struct tc_page other;
        size_t size = packed(&page, bytes);
        ck_assert_uint_eq(size, rows[i].size);
        ck_assert(unpacks(&other, bytes, size));
        ck_assert_int_eq(tc_page_check(&other, session, keys.verifier, NULL), 0);
        ck_assert_uint_eq(other.index, page.index);
        ck_assert_uint_eq(other.count, page.count);
        ck_assert_uint_eq(other.last, page.last);
        ck_assert_mem_eq(other.chunks, page.chunks, sizeof page.chunks);
        ck_assert_mem_eq(&other.content, &page.content, sizeof page.content);
    }
    free_keys(&keys);
}
END_TEST

START_TEST(malformed_bytes_are_refused)
{
    uint8_t bytes[TC_PAGE_PACKED_MAX + 1] = {0};
    struct keys keys = make_keys();
    struct tc_page page = signed_page(&keys, 0, 3, true);
    struct tc_page other;
    size_t size = packed(&page, bytes);
    for (size_t shorter = 0; shorter < size; shorter++)
        ck_assert(!unpacks(&other, bytes, shorter));
    ck_assert(!unpacks(&other, bytes, size + 1));
    bytes[5] = 2; /* a flag is 0 or 1 */
    ck_assert(!unpacks(&other, bytes, size));
    bytes[5] = 0; /* a short page is the last */
    ck_assert(!unpacks(&other, bytes, size));
    bytes[5] = 1;
    for (unsigned count = 0; count < 256; count++) {
        bytes[4] = (uint8_t)count;
        ck_assert(unpacks(&other, bytes, size) == (count == 3));
        ck_assert_uint_le(other.count, TC_PAGE_CHUNKS);
    }
    free_keys(&keys);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("page");
    TCase *tests = tcase_create("page");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, signed_bytes_are_as_documented);
    tcase_add_test(tests, every_changed_field_is_refused);
    tcase_add_test(tests, full_page_cannot_become_the_last);
    tcase_add_test(tests, bound_to_session_and_key);
    tcase_add_test(tests, impossible_shapes_are_refused);
    tcase_add_test(tests, pack_and_unpack);
    tcase_add_test(tests, malformed_bytes_are_refused);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
