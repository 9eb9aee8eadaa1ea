/* page.h - the signed digests of up to 64 consecutive chunks.
 *
 * A page is bound to its session, its place and the shape of the file, so a page cannot serve in the place of another:
 * signed bytes = "treecast page 1\0", session id, page index, number of chunks, last flag, chunk digests, and for the
 * last page the content digest (all zero bytes otherwise). */
#ifndef TC_DATA_PAGE_H
#define TC_DATA_PAGE_H

#include "base/buf.h"
#include "data/chunk.h"
#include "data/digest.h"

#define TC_SESSION_ID_SIZE 16u

struct tc_page {
    uint32_t index;
    uint32_t count; /* chunks, 0 .. 64 */
    bool last;
    struct tc_digest chunks[TC_PAGE_CHUNKS];
    struct tc_digest content; /* of the whole array; meaningful in the last page only */
    uint8_t signature[TC_SIGNATURE_SIZE];
};

#define TC_PAGE_PACKED_MAX (4u + 1u + 1u + TC_PAGE_CHUNKS * TC_DIGEST_SIZE + TC_DIGEST_SIZE + TC_SIGNATURE_SIZE)

int tc_page_sign(struct tc_page *page, const uint8_t session[TC_SESSION_ID_SIZE], struct tc_signer *signer,
                 struct tc_err *err);
int tc_page_check(const struct tc_page *page, const uint8_t session[TC_SESSION_ID_SIZE], struct tc_verifier *verifier,
                  struct tc_err *err); /* TC_E_INTEGRITY */

/* index 32, count 8, last 8, digests, content digest (last page only), signature. */
void tc_page_pack(const struct tc_page *page, struct tc_buf *buf);
void tc_page_unpack(struct tc_page *page, struct tc_buf *buf); /* spoils buf for a count above 64 and the like */

#endif
