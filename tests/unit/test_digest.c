#include "data/digest.h"

#include <openssl/err.h>
#include <pthread.h>
#include <string.h>

#include "data/chunk.h"
#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Byte i of the test data; blocks differ from each other. Expected digests were made from the same bytes with Python:
 *   data = bytes((i * 7 + (i >> 8) + 3 * (i >> 16)) & 255 for i in range(size))
 *   H = lambda b: hashlib.sha256(b).digest()
 *   H(b"".join(H(data[i:i + 65536]) for i in range(0, size, 65536))).hex() */
static uint8_t *make_data(size_t size)
{
    uint8_t *data = malloc(size);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8) + 3 * (i >> 16));
    return data;
}

static void equals(const struct tc_digest *digest, const char *hex)
{
    char text[2 * TC_DIGEST_SIZE + 1];
    tc_digest_hex(digest, text);
    ck_assert_str_eq(text, hex);
}

static void from_hex(uint8_t *out, size_t size, const char *hex)
{
    ck_assert_uint_eq(strlen(hex), 2 * size);
    for (size_t i = 0; i < size; i++) {
        const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

START_TEST(chunks_have_known_digests)
{
    static const struct {
        size_t size;
        const char *hex;
    } rows[] = {
        {1, "1406e05881e299367766d313e26c05564ec91bf721d31726bd6e46e60689539a"},
        {65535, "b384dd4fd36073d1694bdc308cadacfa9ddca265595510d87c48ea6680f4ddf1"},
        {65536, "721db4245c84247e0a1ea3f3a471d59b0986097b5fcb764ab8e1220baad71532"},
        {65537, "1bad714bf94a8e7653b676db6656bb308c139ff93b514366ef3abd56d7755779"},
        {1048576, "931affc67e7c40f638020064a0dd99ad083372361f28276c17265f3d156108cb"},
        {4194304, "23d272522269a382abfeed3c1a5e97e39bb25af89ca4681cd2483a1ec1248f8f"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t *data = make_data(rows[i].size);
        struct tc_digest digest;
        struct tc_digest again;
        struct tc_digest blocks[TC_CHUNK_BLOCKS_MAX];
        ck_assert_int_eq(tc_digest_chunk(data, rows[i].size, NULL, &digest, NULL), 0);
        equals(&digest, rows[i].hex);
        ck_assert_int_eq(tc_digest_chunk(data, rows[i].size, blocks, &again, NULL), 0);
        ck_assert(tc_digest_equal(&digest, &again));
        data[rows[i].size - 1] ^= 1;
        ck_assert_int_eq(tc_digest_chunk(data, rows[i].size, NULL, &again, NULL), 0);
        ck_assert(!tc_digest_equal(&digest, &again));
        free(data);
    }
}
END_TEST

START_TEST(block_digests_are_plain_sha256)
{
    uint8_t *data = make_data(65537);
    struct tc_digest blocks[3];
    struct tc_digest digest;
    memset(blocks, 0xee, sizeof blocks);
    ck_assert_int_eq(tc_digest_chunk(data, 65537, blocks, &digest, NULL), 0);
    equals(&blocks[0], "5fce37f3129150ce7ec3939b54016d9c1fd01364e27b0a788dc634064aec76b1");
    equals(&blocks[1], "084fed08b978af4d7d196a7446a86b58009e636b611db16211b65a9aadff29c5");
    ck_assert_uint_eq(blocks[2].bytes[0], 0xee);
    free(data);
}
END_TEST

START_TEST(chunk_of_no_or_too_many_bytes_is_refused)
{
    static const uint8_t byte;
    struct tc_digest digest;
    struct tc_err err = {0};
    ck_assert_int_eq(tc_digest_chunk(&byte, 0, NULL, &digest, &err), -TC_E_USAGE);
    ck_assert_int_eq(tc_digest_chunk(&byte, TC_CHUNK_SIZE_MAX + 1, NULL, &digest, NULL), -TC_E_USAGE);
    ck_assert_int_eq(err.reason, TC_E_USAGE);
}
END_TEST

START_TEST(content_digest_does_not_depend_on_chunk_size)
{
    const size_t size = (3u << 20) + 5;
    uint8_t *data = make_data(size);
    for (uint32_t chunk_size = TC_CHUNK_SIZE_MIN; chunk_size <= TC_CHUNK_SIZE_MAX; chunk_size *= 2) {
        struct tc_layout layout;
        struct tc_digest digest;
        struct tc_content *content = tc_content_new(NULL);
        ck_assert_ptr_nonnull(content);
        ck_assert_int_eq(tc_layout_init(&layout, size, chunk_size, NULL), 0);
        for (uint32_t chunk = 0; chunk < layout.chunks; chunk++) {
            struct tc_digest blocks[TC_CHUNK_BLOCKS_MAX];
            ck_assert_int_eq(tc_digest_chunk(data + tc_chunk_offset(&layout, chunk), tc_chunk_length(&layout, chunk),
                                             blocks, &digest, NULL),
                             0);
            ck_assert_int_eq(tc_content_add(content, blocks, tc_chunk_blocks(&layout, chunk), NULL), 0);
        }
        ck_assert_int_eq(tc_content_end(content, &digest, NULL), 0);
        equals(&digest, "bb6af8816d6efa711771fbb6b66c9ae23f1e78dd56f008ee448536e9a538247d");
        tc_content_free(content);
    }
    free(data);
}
END_TEST

START_TEST(content_of_an_empty_array)
{
    struct tc_digest digest;
    struct tc_content *content = tc_content_new(NULL);
    ck_assert_ptr_nonnull(content);
    ck_assert_int_eq(tc_content_end(content, &digest, NULL), 0);
    equals(&digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"); /* SHA-256 of nothing */
    tc_content_free(content);
    tc_content_free(NULL);
}
END_TEST

START_TEST(hex_there_and_back)
{
    static const char good[] = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    static const char *const bad[] = {"",
                                      "00",
                                      "00112233445566778899aabbccddeeff00112233445566778899aabbccddeef",
                                      "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff0",
                                      "00112233445566778899aabbccddeeff00112233445566778899aabbccddeefg",
                                      " 0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"};
    struct tc_digest digest;
    ck_assert_int_eq(tc_digest_parse(&digest, good, NULL), 0);
    equals(&digest, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_int_eq(tc_digest_parse(&digest, bad[i], NULL), -TC_E_FORMAT);
}
END_TEST

/* RFC 8032, section 7.1, tests 1 to 3. */
static const struct {
    const char *secret;
    const char *public_key;
    const char *message; /* hex, at most 2 bytes */
    const char *signature;
} rfc8032[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
     "d25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
     "387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
     "4a7c15e9716ed28dc027beceea1ec40a"},
};

START_TEST(ed25519_gives_the_published_signatures)
{
    for (size_t i = 0; i < COUNT(rfc8032); i++) {
        uint8_t secret[TC_SECRET_SIZE];
        uint8_t expected_key[TC_PUBLIC_SIZE];
        uint8_t public_key[TC_PUBLIC_SIZE];
        uint8_t message[2];
        uint8_t expected[TC_SIGNATURE_SIZE];
        uint8_t signature[TC_SIGNATURE_SIZE];
        size_t size = strlen(rfc8032[i].message) / 2;
        from_hex(secret, sizeof secret, rfc8032[i].secret);
        from_hex(expected_key, sizeof expected_key, rfc8032[i].public_key);
        from_hex(message, size, rfc8032[i].message);
        from_hex(expected, sizeof expected, rfc8032[i].signature);
        struct tc_signer *signer = tc_signer_new(secret, public_key, NULL);
        struct tc_verifier *verifier = tc_verifier_new(expected_key, NULL);
        ck_assert(signer && verifier);
        ck_assert_mem_eq(public_key, expected_key, TC_PUBLIC_SIZE);
        for (int use = 0; use < 3; use++) { /* one signer and one verifier serve many times */
            memset(signature, 0, sizeof signature);
            ck_assert_int_eq(tc_signer_sign(signer, message, size, signature, NULL), 0);
            ck_assert_mem_eq(signature, expected, TC_SIGNATURE_SIZE);
            ck_assert_int_eq(tc_verifier_check(verifier, message, size, signature, NULL), 0);
        }
        tc_signer_free(signer);
        tc_verifier_free(verifier);
    }
}
END_TEST

START_TEST(altered_message_signature_or_key_is_refused)
{
    uint8_t secret[TC_SECRET_SIZE];
    uint8_t public_key[TC_PUBLIC_SIZE];
    uint8_t message[100] = "any message";
    uint8_t signature[TC_SIGNATURE_SIZE];
    ck_assert_int_eq(tc_random(secret, sizeof secret, NULL), 0);
    struct tc_signer *signer = tc_signer_new(secret, public_key, NULL);
    ck_assert_ptr_nonnull(signer);
    ck_assert_int_eq(tc_signer_sign(signer, message, sizeof message, signature, NULL), 0);
    struct tc_verifier *verifier = tc_verifier_new(public_key, NULL);
    ck_assert_ptr_nonnull(verifier);
    for (size_t i = 0; i < TC_SIGNATURE_SIZE; i++) {
        struct tc_err err = {0};
        signature[i] ^= 4;
        ERR_raise(ERR_LIB_USER, 1); /* as libcrypto may: nothing is left that libssl would take for its own */
        ck_assert_int_eq(tc_verifier_check(verifier, message, sizeof message, signature, &err), -TC_E_INTEGRITY);
        ck_assert_int_eq(err.reason, TC_E_INTEGRITY);
        ck_assert_uint_eq(ERR_peek_error(), 0);
        signature[i] ^= 4;
    }
    for (size_t i = 0; i < sizeof message; i++) {
        message[i] ^= 1;
        ck_assert_int_eq(tc_verifier_check(verifier, message, sizeof message, signature, NULL), -TC_E_INTEGRITY);
        message[i] ^= 1;
    }
    ck_assert_int_eq(tc_verifier_check(verifier, message, sizeof message - 1, signature, NULL), -TC_E_INTEGRITY);
    ck_assert_int_eq(tc_verifier_check(verifier, message, sizeof message, signature, NULL), 0);
    tc_verifier_free(verifier);
    public_key[0] ^= 1;
    verifier = tc_verifier_new(public_key, NULL);
    if (verifier) /* a key that is no point of the curve may be refused at once */
        ck_assert_int_eq(tc_verifier_check(verifier, message, sizeof message, signature, NULL), -TC_E_INTEGRITY);
    tc_verifier_free(verifier);
    tc_signer_free(signer);
    tc_signer_free(NULL);
    tc_verifier_free(NULL);
}
END_TEST

START_TEST(random_bytes_differ)
{
    uint8_t a[32] = {0};
    uint8_t b[32] = {0};
    ck_assert_int_eq(tc_random(a, sizeof a, NULL), 0);
    ck_assert_int_eq(tc_random(b, sizeof b, NULL), 0);
    ck_assert_mem_ne(a, b, sizeof a);
}
END_TEST

static void *digest_many(void *data)
{
    struct tc_digest digest = {0};
    bool same = true;
    for (int i = 0; i < 50 && same; i++) {
        char text[2 * TC_DIGEST_SIZE + 1] = "";
        if (tc_digest_chunk(data, 65537, NULL, &digest, NULL) == 0)
            tc_digest_hex(&digest, text);
        same = strcmp(text, "1bad714bf94a8e7653b676db6656bb308c139ff93b514366ef3abd56d7755779") == 0;
    }
    return same ? data : NULL;
}

START_TEST(threads_digest_the_same_bytes_alike)
{
    uint8_t *data = make_data(65537);
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, digest_many, data), 0);
    for (size_t i = 0; i < COUNT(threads); i++) {
        void *result = NULL;
        ck_assert_int_eq(pthread_join(threads[i], &result), 0);
        ck_assert_ptr_eq(result, data);
    }
    free(data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("digest");
    TCase *tests = tcase_create("digest");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, chunks_have_known_digests);
    tcase_add_test(tests, block_digests_are_plain_sha256);
    tcase_add_test(tests, chunk_of_no_or_too_many_bytes_is_refused);
    tcase_add_test(tests, content_digest_does_not_depend_on_chunk_size);
    tcase_add_test(tests, content_of_an_empty_array);
    tcase_add_test(tests, hex_there_and_back);
    tcase_add_test(tests, ed25519_gives_the_published_signatures);
    tcase_add_test(tests, altered_message_signature_or_key_is_refused);
    tcase_add_test(tests, random_bytes_differ);
    tcase_add_test(tests, threads_digest_the_same_bytes_alike);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
