/* Signatures for the simulation: a checksum under a key, a hundredth of the cost of Ed25519, which took half of the time of
 * all sessions. What the machines sign and check, and with whose key, is tried as ever; anybody could forge these. */
#include <stdlib.h>
#include <string.h>

#include "data/digest.h"

struct tc_signer {
    uint8_t public_key[TC_PUBLIC_SIZE];
};

struct tc_verifier {
    uint8_t public_key[TC_PUBLIC_SIZE];
};

struct tc_signer *__wrap_tc_signer_new(const uint8_t *secret, uint8_t *public_key, struct tc_err *err);
int __wrap_tc_signer_sign(struct tc_signer *signer, const void *bytes, size_t size,
                          uint8_t signature[TC_SIGNATURE_SIZE], struct tc_err *err);
void __wrap_tc_signer_free(struct tc_signer *signer);
struct tc_verifier *__wrap_tc_verifier_new(const uint8_t *public_key, struct tc_err *err);
int __wrap_tc_verifier_check(struct tc_verifier *verifier, const void *bytes, size_t size,
                             const uint8_t signature[TC_SIGNATURE_SIZE], struct tc_err *err);
void __wrap_tc_verifier_free(struct tc_verifier *verifier);

/* FNV-1a */
static uint64_t add(uint64_t sum, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static void sum_up(const uint8_t public_key[TC_PUBLIC_SIZE], const void *bytes, size_t size,
                   uint8_t signature[TC_SIGNATURE_SIZE])
{
    uint64_t sum = add(add(UINT64_C(0xcbf29ce484222325), public_key, TC_PUBLIC_SIZE), bytes, size);
    for (size_t i = 0; i < TC_SIGNATURE_SIZE; i += sizeof sum, sum = add(sum, public_key, 1))
        memcpy(signature + i, &sum, sizeof sum);
}

struct tc_signer *__wrap_tc_signer_new(const uint8_t *secret, uint8_t *public_key, struct tc_err *err)
{
    struct tc_signer *signer = calloc(1, sizeof *signer);
    if (!signer) {
        tc_fail(err, TC_E_NOMEM, "no memory for a signer");
        return NULL;
    }
    for (size_t i = 0; i < TC_PUBLIC_SIZE; i++)
        signer->public_key[i] = secret[i] ^ 0x5a;
    if (public_key)
        memcpy(public_key, signer->public_key, TC_PUBLIC_SIZE);
    return signer;
}

int __wrap_tc_signer_sign(struct tc_signer *signer, const void *bytes, size_t size,
                          uint8_t signature[TC_SIGNATURE_SIZE], struct tc_err *err)
{
    (void)err;
    sum_up(signer->public_key, bytes, size, signature);
    return 0;
}

void __wrap_tc_signer_free(struct tc_signer *signer)
{
    free(signer);
}

struct tc_verifier *__wrap_tc_verifier_new(const uint8_t *public_key, struct tc_err *err)
{
    struct tc_verifier *verifier = calloc(1, sizeof *verifier);
    if (verifier)
        memcpy(verifier->public_key, public_key, TC_PUBLIC_SIZE);
    else
        tc_fail(err, TC_E_NOMEM, "no memory for a verifier");
    return verifier;
}

int __wrap_tc_verifier_check(struct tc_verifier *verifier, const void *bytes, size_t size,
                             const uint8_t signature[TC_SIGNATURE_SIZE], struct tc_err *err)
{
    uint8_t expected[TC_SIGNATURE_SIZE];
    sum_up(verifier->public_key, bytes, size, expected);
    return memcmp(expected, signature, sizeof expected) ? tc_fail(err, TC_E_INTEGRITY, "signature does not match") : 0;
}

void __wrap_tc_verifier_free(struct tc_verifier *verifier)
{
    free(verifier);
}
