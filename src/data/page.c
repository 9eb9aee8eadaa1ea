#include "data/page.h"

#include <inttypes.h>
#include <string.h>

static const char page_label[] = "treecast page 1"; /* signed with its NUL, so no label is the head of another */

#define SIGNED_MAX (sizeof page_label + TC_SESSION_ID_SIZE + TC_PAGE_PACKED_MAX - TC_SIGNATURE_SIZE)

static void put_head(const struct tc_page *page, struct tc_buf *buf)
{
    tc_buf_put32(buf, page->index);
    tc_buf_put8(buf, (uint8_t)page->count);
    tc_buf_put8(buf, page->last);
    tc_buf_put(buf, page->chunks, page->count * TC_DIGEST_SIZE);
}

/* The bytes that are signed; returns how many. */
static size_t put_signed(const struct tc_page *page, const uint8_t session[TC_SESSION_ID_SIZE], uint8_t out[SIGNED_MAX])
{
    static const struct tc_digest none;
    struct tc_buf buf = tc_buf_writer(out, SIGNED_MAX);
    tc_buf_put(&buf, page_label, sizeof page_label);
    tc_buf_put(&buf, session, TC_SESSION_ID_SIZE);
    put_head(page, &buf);
    tc_buf_put(&buf, page->last ? &page->content : &none, TC_DIGEST_SIZE);
    return buf.at;
}

/* Only the last page may be short, and only an empty file's one page is empty. */
static bool shape_allowed(uint32_t index, uint32_t count, bool last)
{
    if (!last)
        return count == TC_PAGE_CHUNKS;
    return count <= TC_PAGE_CHUNKS && (count > 0 || index == 0);
}

int tc_page_sign(struct tc_page *page, const uint8_t session[TC_SESSION_ID_SIZE], struct tc_signer *signer,
                 struct tc_err *err)
{
    uint8_t bytes[SIGNED_MAX];
    if (!shape_allowed(page->index, page->count, page->last))
        return tc_fail(err, TC_E_USAGE, "page %" PRIu32 " cannot have %" PRIu32 " chunks", page->index, page->count);
    size_t size = put_signed(page, session, bytes);
    return tc_signer_sign(signer, bytes, size, page->signature, err);
}

int tc_page_check(const struct tc_page *page, const uint8_t session[TC_SESSION_ID_SIZE], struct tc_verifier *verifier,
                  struct tc_err *err)
{
    uint8_t bytes[SIGNED_MAX];
    if (!shape_allowed(page->index, page->count, page->last))
        return tc_fail(err, TC_E_INTEGRITY, "page %" PRIu32 " cannot have %" PRIu32 " chunks", page->index,
                       page->count);
    size_t size = put_signed(page, session, bytes);
    int failed = tc_verifier_check(verifier, bytes, size, page->signature, err);
    if (failed)
        tc_err_prefix(err, "page %" PRIu32, page->index);
    return failed;
}

void tc_page_pack(const struct tc_page *page, struct tc_buf *buf)
{
    if (!shape_allowed(page->index, page->count, page->last)) {
        tc_buf_spoil(buf);
        return;
    }
    put_head(page, buf);
    if (page->last)
        tc_buf_put(buf, &page->content, TC_DIGEST_SIZE);
    tc_buf_put(buf, page->signature, TC_SIGNATURE_SIZE);
}

void tc_page_unpack(struct tc_page *page, struct tc_buf *buf)
{
    memset(page, 0, sizeof *page);
    uint32_t index = tc_buf_get32(buf);
    uint8_t count = tc_buf_get8(buf);
    uint8_t last = tc_buf_get8(buf);
    if (last > 1 || !shape_allowed(index, count, last)) {
        tc_buf_spoil(buf);
        return;
    }
    page->index = index;
    page->count = count;
    page->last = last;
    tc_buf_get(buf, page->chunks, count * TC_DIGEST_SIZE);
    if (last)
        tc_buf_get(buf, &page->content, TC_DIGEST_SIZE);
    tc_buf_get(buf, page->signature, TC_SIGNATURE_SIZE);
}
