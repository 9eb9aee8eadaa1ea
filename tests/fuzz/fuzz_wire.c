/* What comes off a link: messages, pages, chunks. */
#include <string.h>

#include "data/codec.h"
#include "fuzz.h"
#include "session/message.h"

/* A message with children has them packed in one way and unpacked in another. */
static void unpack_children(struct tc_message *message, struct tc_msg_link **links)
{
    for (unsigned t = 0; t < message->plan.trees; t++) {
        struct tc_msg_row *row = &message->plan.rows[t];
        links[t] = calloc(row->child_count + 1u, sizeof **links);
        MUST(links[t]);
        for (unsigned i = 0; i < row->child_count; i++)
            links[t][i] = tc_msg_row_child(row, i);
        row->children = (const uint8_t *)links[t];
    }
}

/* First byte the type. What is taken is packed again to the same bytes: there is one form for one meaning. */
void fuzz_message(const uint8_t *bytes, size_t size)
{
    struct tc_message message;
    struct tc_msg_link *links[TC_TREES_MAX] = {0};
    struct tc_err err = {0};
    if (size < 1)
        return;
    uint8_t type = bytes[0];
    int status = tc_message_unpack(&message, type, bytes + 1, size - 1, &err);
    MUST(status == 0 || (status == -TC_E_PROTOCOL && err.reason == TC_E_PROTOCOL && err.text[0]));
    if (status < 0 || type == TC_MSG_CHUNK)
        return;
    MUST(size - 1 <= tc_message_limit(type));
    if (type == TC_MSG_PLAN)
        unpack_children(&message, links);
    struct tc_blob *again = tc_message_pack(&message, NULL, NULL);
    bool is_signed =
        (type == TC_MSG_OFFER && message.offer.signed_by) || (type == TC_MSG_PLAN && message.plan.signed_by);
    MUST(again);
    if (is_signed) /* all but flag and signature, which we cannot make */
        MUST(again->size == size - 1 - TC_SIGNATURE_SIZE && memcmp(again->bytes, bytes + 1, again->size - 1) == 0);
    else
        MUST(again->size == size - 1 && memcmp(again->bytes, bytes + 1, size - 1) == 0);
    tc_blob_unref(again);
    for (unsigned t = 0; t < TC_TREES_MAX; t++)
        free(links[t]);
}

/* No page is taken but the one that was signed, whatever is done to its bytes. */
void fuzz_page(const uint8_t *bytes, size_t size)
{
    static const uint8_t secret[TC_SECRET_SIZE] = {7}, session[TC_SESSION_ID_SIZE] = "the session";
    static struct tc_verifier *verifier;
    static uint8_t good[TC_PAGE_PACKED_MAX];
    static size_t good_size;
    struct tc_page page = {.count = 2, .last = true, .index = 3};
    uint8_t public_key[TC_PUBLIC_SIZE];
    if (!verifier) {
        struct tc_signer *signer = tc_signer_new(secret, public_key, NULL);
        MUST(signer && tc_page_sign(&page, session, signer, NULL) == 0);
        verifier = tc_verifier_new(public_key, NULL);
        struct tc_buf out = tc_buf_writer(good, sizeof good);
        tc_page_pack(&page, &out);
        good_size = out.at;
        tc_signer_free(signer);
    }
    struct tc_buf buf = tc_buf_reader(bytes, size);
    tc_page_unpack(&page, &buf);
    if (!tc_buf_done(&buf))
        return;
    MUST(page.count <= TC_PAGE_CHUNKS);
    if (tc_page_check(&page, session, verifier, NULL) == 0)
        MUST(size == good_size && memcmp(bytes, good, size) == 0);
}

/* First byte: the length that is expected, in steps of 512 bytes; the rest is the payload. Never a byte beyond. */
void fuzz_chunk(const uint8_t *bytes, size_t size)
{
    static struct tc_codec *codec;
    struct tc_err err = {0};
    if (size < 1)
        return;
    if (!codec)
        codec = tc_codec_new(NULL);
    size_t length = (size_t)bytes[0] * 512 + 1;
    uint8_t *out = malloc(length), *again = malloc(2 * length + 1024), *back = malloc(length);
    MUST(out && again && back);
    int status = tc_codec_decode(codec, bytes + 1, size - 1, out, length, &err);
    MUST(status == 0 || status == -TC_E_INTEGRITY);
    if (status == 0) {
        size_t encoded = tc_codec_encode(codec, 1, out, length, again, 2 * length + 1024);
        MUST(encoded > 0 && tc_codec_decode(codec, again, encoded, back, length, NULL) == 0);
        MUST(memcmp(out, back, length) == 0);
    }
    free(out);
    free(again);
    free(back);
}
