/* digest.h - SHA-256 digests of blocks, chunks and arrays, and Ed25519 signatures. libcrypto behind plain functions.
 *
 * chunk digest   = SHA-256 over the SHA-256s of the chunk's 64 KiB blocks
 * content digest = SHA-256 over the SHA-256s of all blocks of the array, so it does not depend on the chunk size
 * Both are over plain (uncompressed) bytes. All functions are thread-safe on distinct objects. */
#ifndef TC_DATA_DIGEST_H
#define TC_DATA_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TC_DIGEST_SIZE 32u
#define TC_PUBLIC_SIZE 32u /* Ed25519 public key */
#define TC_SECRET_SIZE 32u /* Ed25519 secret key (seed) */
#define TC_SIGNATURE_SIZE 64u

struct tc_digest {
    uint8_t bytes[TC_DIGEST_SIZE];
};

bool tc_digest_equal(const struct tc_digest *a, const struct tc_digest *b);
void tc_digest_hex(const struct tc_digest *digest, char text[2 * TC_DIGEST_SIZE + 1]);
int tc_digest_parse(struct tc_digest *digest, const char *hex, struct tc_err *err); /* TC_E_FORMAT */

/* The digest of one chunk of size bytes, 1 .. TC_CHUNK_SIZE_MAX. blocks takes the ceil(size / 64 KiB) block digests;
 * NULL when they are not wanted. */
int tc_digest_chunk(const void *bytes, size_t size, struct tc_digest *blocks, struct tc_digest *out,
                    struct tc_err *err);

/* The content digest, fed with block digests in file order. A new one, or NULL and TC_E_NOMEM. */
struct tc_content;
struct tc_content *tc_content_new(struct tc_err *err);
int tc_content_add(struct tc_content *content, const struct tc_digest *blocks, size_t count, struct tc_err *err);
int tc_content_end(struct tc_content *content, struct tc_digest *out, struct tc_err *err); /* no add afterwards */
void tc_content_free(struct tc_content *content);

/* Ed25519. A signer holds a secret, a verifier a public key; both are kept for many uses. */
struct tc_signer;
struct tc_verifier;
/* secret: TC_SECRET_SIZE bytes, copied; public_key is filled when not NULL. */
struct tc_signer *tc_signer_new(const uint8_t *secret, uint8_t *public_key, struct tc_err *err);
int tc_signer_sign(struct tc_signer *signer, const void *bytes, size_t size, uint8_t signature[TC_SIGNATURE_SIZE],
                   struct tc_err *err);
void tc_signer_free(struct tc_signer *signer); /* clears the secret; NULL allowed */
struct tc_verifier *tc_verifier_new(const uint8_t *public_key, struct tc_err *err);
/* 0, or TC_E_INTEGRITY when the signature is not of these bytes by this key. */
int tc_verifier_check(struct tc_verifier *verifier, const void *bytes, size_t size,
                      const uint8_t signature[TC_SIGNATURE_SIZE], struct tc_err *err);
void tc_verifier_free(struct tc_verifier *verifier);

/* Random bytes for keys and nonces (RAND_priv_bytes). */
int tc_random(void *bytes, size_t size, struct tc_err *err);

#endif
