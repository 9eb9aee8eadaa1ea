#include "data/digest.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "data/chunk.h"

_Static_assert(sizeof(struct tc_digest) == TC_DIGEST_SIZE, "arrays of digests are hashed as they lie in memory");

/* libssl takes an entry left in this thread's error queue for one of its own, so none is left. */
static int fail_crypto(struct tc_err *err, int reason, const char *text)
{
    ERR_clear_error();
    return tc_fail(err, reason, "%s", text);
}

bool tc_digest_equal(const struct tc_digest *a, const struct tc_digest *b)
{
    return memcmp(a->bytes, b->bytes, TC_DIGEST_SIZE) == 0;
}

void tc_digest_hex(const struct tc_digest *digest, char text[2 * TC_DIGEST_SIZE + 1])
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < TC_DIGEST_SIZE; i++) {
        text[2 * i] = hex[digest->bytes[i] >> 4];
        text[2 * i + 1] = hex[digest->bytes[i] & 15];
    }
    text[2 * TC_DIGEST_SIZE] = '\0';
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int tc_digest_parse(struct tc_digest *digest, const char *hex, struct tc_err *err)
{
    if (strlen(hex) != 2 * TC_DIGEST_SIZE)
        return tc_fail(err, TC_E_FORMAT, "a digest has 64 hexadecimal digits, not %zu", strlen(hex));
    for (size_t i = 0; i < TC_DIGEST_SIZE; i++) {
        int high = nibble(hex[2 * i]);
        int low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return tc_fail(err, TC_E_FORMAT, "a digest has only hexadecimal digits");
        digest->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

/* A context for any number of SHA-256s. Making one, which looks the algorithm up, costs as much as hashing about 1 KB:
 * little beside a chunk, so it is made for each and nothing has to be kept for a thread or the process. */
static EVP_MD_CTX *sha256_new(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx && EVP_DigestInit_ex2(ctx, EVP_sha256(), NULL) == 1)
        return ctx;
    EVP_MD_CTX_free(ctx);
    return NULL;
}

static bool sha256(EVP_MD_CTX *ctx, const void *bytes, size_t size, struct tc_digest *out)
{
    return EVP_DigestInit_ex2(ctx, NULL, NULL) == 1 && EVP_DigestUpdate(ctx, bytes, size) == 1 &&
           EVP_DigestFinal_ex(ctx, out->bytes, NULL) == 1;
}

static bool sha256_blocks(EVP_MD_CTX *ctx, const uint8_t *bytes, size_t size, struct tc_digest *blocks)
{
    for (size_t at = 0; at < size; at += TC_BLOCK_SIZE) {
        size_t length = size - at < TC_BLOCK_SIZE ? size - at : TC_BLOCK_SIZE;
        if (!sha256(ctx, bytes + at, length, &blocks[at / TC_BLOCK_SIZE]))
            return false;
    }
    return true;
}

int tc_digest_chunk(const void *bytes, size_t size, struct tc_digest *blocks, struct tc_digest *out, struct tc_err *err)
{
    struct tc_digest own[TC_CHUNK_BLOCKS_MAX];
    if (size == 0 || size > TC_CHUNK_SIZE_MAX)
        return tc_fail(err, TC_E_USAGE, "a chunk cannot have %zu bytes", size);
    if (!blocks)
        blocks = own;
    size_t count = (size + TC_BLOCK_SIZE - 1) / TC_BLOCK_SIZE;
    EVP_MD_CTX *ctx = sha256_new();
    bool done = ctx && sha256_blocks(ctx, bytes, size, blocks) && sha256(ctx, blocks, count * TC_DIGEST_SIZE, out);
    EVP_MD_CTX_free(ctx);
    return done ? 0 : fail_crypto(err, TC_E_NOMEM, "no memory to digest a chunk");
}

struct tc_content {
    EVP_MD_CTX *ctx;
};

struct tc_content *tc_content_new(struct tc_err *err)
{
    struct tc_content *content = calloc(1, sizeof *content);
    if (content && (content->ctx = sha256_new()))
        return content;
    free(content);
    fail_crypto(err, TC_E_NOMEM, "no memory for a content digest");
    return NULL;
}

int tc_content_add(struct tc_content *content, const struct tc_digest *blocks, size_t count, struct tc_err *err)
{
    if (EVP_DigestUpdate(content->ctx, blocks, count * TC_DIGEST_SIZE) != 1)
        return fail_crypto(err, TC_E_FAILED, "cannot go on with a content digest");
    return 0;
}

int tc_content_end(struct tc_content *content, struct tc_digest *out, struct tc_err *err)
{
    if (EVP_DigestFinal_ex(content->ctx, out->bytes, NULL) != 1)
        return fail_crypto(err, TC_E_FAILED, "cannot end a content digest");
    return 0;
}

void tc_content_free(struct tc_content *content)
{
    if (!content)
        return;
    EVP_MD_CTX_free(content->ctx);
    free(content);
}

struct tc_signer {
    EVP_PKEY *key; /* libcrypto clears the secret when it frees it; there is no copy of ours */
    EVP_MD_CTX *ctx;
};

struct tc_signer *tc_signer_new(const uint8_t *secret, uint8_t *public_key, struct tc_err *err)
{
    size_t size = TC_PUBLIC_SIZE;
    struct tc_signer *signer = calloc(1, sizeof *signer);
    if (!signer || !(signer->ctx = EVP_MD_CTX_new())) {
        fail_crypto(err, TC_E_NOMEM, "no memory for a signer");
        tc_signer_free(signer);
        return NULL;
    }
    signer->key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, TC_SECRET_SIZE);
    if (!signer->key || (public_key && EVP_PKEY_get_raw_public_key(signer->key, public_key, &size) != 1)) {
        fail_crypto(err, TC_E_FAILED, "libcrypto takes no Ed25519 secret key");
        tc_signer_free(signer);
        return NULL;
    }
    return signer;
}

int tc_signer_sign(struct tc_signer *signer, const void *bytes, size_t size, uint8_t signature[TC_SIGNATURE_SIZE],
                   struct tc_err *err)
{
    size_t written = TC_SIGNATURE_SIZE;
    if (EVP_DigestSignInit(signer->ctx, NULL, NULL, NULL, signer->key) != 1 ||
        EVP_DigestSign(signer->ctx, signature, &written, bytes, size) != 1)
        return fail_crypto(err, TC_E_FAILED, "libcrypto cannot sign");
    return 0;
}

void tc_signer_free(struct tc_signer *signer)
{
    if (!signer)
        return;
    EVP_MD_CTX_free(signer->ctx);
    EVP_PKEY_free(signer->key);
    free(signer);
}

struct tc_verifier {
    EVP_PKEY *key;
    EVP_MD_CTX *ctx;
};

struct tc_verifier *tc_verifier_new(const uint8_t *public_key, struct tc_err *err)
{
    struct tc_verifier *verifier = calloc(1, sizeof *verifier);
    if (!verifier || !(verifier->ctx = EVP_MD_CTX_new())) {
        fail_crypto(err, TC_E_NOMEM, "no memory for a verifier");
        tc_verifier_free(verifier);
        return NULL;
    }
    verifier->key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, TC_PUBLIC_SIZE);
    if (!verifier->key) {
        fail_crypto(err, TC_E_FAILED, "libcrypto takes no Ed25519 public key");
        tc_verifier_free(verifier);
        return NULL;
    }
    return verifier;
}

int tc_verifier_check(struct tc_verifier *verifier, const void *bytes, size_t size,
                      const uint8_t signature[TC_SIGNATURE_SIZE], struct tc_err *err)
{
    if (EVP_DigestVerifyInit(verifier->ctx, NULL, NULL, NULL, verifier->key) != 1)
        return fail_crypto(err, TC_E_FAILED, "libcrypto cannot verify signatures");
    if (EVP_DigestVerify(verifier->ctx, signature, TC_SIGNATURE_SIZE, bytes, size) != 1)
        return fail_crypto(err, TC_E_INTEGRITY, "signature does not match");
    return 0;
}

void tc_verifier_free(struct tc_verifier *verifier)
{
    if (!verifier)
        return;
    EVP_MD_CTX_free(verifier->ctx);
    EVP_PKEY_free(verifier->key);
    free(verifier);
}

int tc_random(void *bytes, size_t size, struct tc_err *err)
{
    if (RAND_priv_bytes_ex(NULL, bytes, size, 0) != 1)
        return fail_crypto(err, TC_E_FAILED, "libcrypto has no random bytes");
    return 0;
}
