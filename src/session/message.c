#include "session/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

const char *tc_message_name(uint8_t type)
{
    switch (type) {
#define TC_MESSAGE(name, number, size) \
    case number:                       \
        return #name;
#include "session/message.def"
#undef TC_MESSAGE
    default:
        return "unknown";
    }
}

uint32_t tc_message_limit(uint8_t type)
{
    switch (type) {
#define TC_MESSAGE(name, number, size) \
    case number:                       \
        return size;
#include "session/message.def"
#undef TC_MESSAGE
    default:
        return 0;
    }
}

/* Every body is written by one pack_ and read by one unpack_ function; they stand side by side. */

static void pack_hello(struct tc_buf *buf, const struct tc_msg_hello *hello)
{
    tc_buf_put32(buf, TC_WIRE_MAGIC);
    tc_buf_put16(buf, hello->version_min);
    tc_buf_put16(buf, hello->version_max);
    tc_buf_put32(buf, hello->features);
    tc_buf_put8(buf, (uint8_t)hello->role);
    tc_buf_put(buf, hello->instance, sizeof hello->instance);
    tc_buf_put(buf, hello->nonce, sizeof hello->nonce);
    tc_buf_put(buf, hello->session, sizeof hello->session);
    tc_buf_put(buf, hello->link, sizeof hello->link);
    tc_buf_put_text(buf, hello->address);
    tc_buf_put_text(buf, hello->host);
    tc_buf_put32(buf, hello->page_bytes);
    tc_buf_put(buf, hello->pages, hello->page_bytes);
}

static void unpack_hello(struct tc_buf *buf, struct tc_msg_hello *hello)
{
    if (tc_buf_get32(buf) != TC_WIRE_MAGIC)
        tc_buf_spoil(buf);
    hello->version_min = tc_buf_get16(buf);
    hello->version_max = tc_buf_get16(buf);
    hello->features = tc_buf_get32(buf);
    hello->role = tc_buf_get8(buf);
    tc_buf_get(buf, hello->instance, sizeof hello->instance);
    tc_buf_get(buf, hello->nonce, sizeof hello->nonce);
    tc_buf_get(buf, hello->session, sizeof hello->session);
    tc_buf_get(buf, hello->link, sizeof hello->link);
    tc_buf_get_text(buf, hello->address, sizeof hello->address);
    tc_buf_get_text(buf, hello->host, sizeof hello->host);
    hello->page_bytes = tc_buf_get32(buf);
    hello->pages = tc_buf_take(buf, hello->page_bytes);
    if (hello->role < TC_ROLE_COORDINATOR || hello->role > TC_ROLE_CHILD || hello->version_min > hello->version_max)
        tc_buf_spoil(buf);
}

static void pack_destination(struct tc_buf *buf, const struct tc_destination *to)
{
    tc_buf_put_text(buf, to->address);
    tc_buf_put(buf, to->channel, sizeof to->channel);
}

static void unpack_destination(struct tc_buf *buf, struct tc_destination *to)
{
    tc_buf_get_text(buf, to->address, sizeof to->address);
    tc_buf_get(buf, to->channel, sizeof to->channel);
}

static void pack_offer(struct tc_buf *buf, const struct tc_msg_offer *offer)
{
    tc_buf_put(buf, offer->session, sizeof offer->session);
    tc_buf_put(buf, offer->nonce, sizeof offer->nonce);
    pack_destination(buf, &offer->to);
    tc_buf_put(buf, offer->proof_id, sizeof offer->proof_id);
    tc_buf_put(buf, offer->proof_key, sizeof offer->proof_key);
    tc_buf_put_text(buf, offer->name);
    tc_buf_put64(buf, offer->size);
    tc_buf_put32(buf, offer->chunk_size);
    tc_buf_put_text(buf, offer->digest);
    tc_buf_put_text(buf, offer->codec);
    tc_buf_put(buf, offer->public_key, sizeof offer->public_key);
    tc_buf_put32(buf, offer->flags);
    tc_buf_put32(buf, offer->seconds_left);
    tc_buf_put32(buf, offer->ttl);
    tc_buf_put32(buf, offer->array_size);
    tc_buf_put(buf, offer->array, offer->array_size);
}

static void unpack_signature(struct tc_buf *buf, enum tc_signed_by *by, uint8_t signature[TC_SIGNATURE_SIZE])
{
    uint8_t said = tc_buf_get8(buf);
    *by = (enum tc_signed_by)said;
    if (said > TC_SIGNED_SESSION)
        tc_buf_spoil(buf);
    else if (said != TC_SIGNED_NOT)
        tc_buf_get(buf, signature, TC_SIGNATURE_SIZE);
}

static void unpack_offer(struct tc_buf *buf, struct tc_msg_offer *offer)
{
    tc_buf_get(buf, offer->session, sizeof offer->session);
    tc_buf_get(buf, offer->nonce, sizeof offer->nonce);
    unpack_destination(buf, &offer->to);
    tc_buf_get(buf, offer->proof_id, sizeof offer->proof_id);
    tc_buf_get(buf, offer->proof_key, sizeof offer->proof_key);
    tc_buf_get_text(buf, offer->name, sizeof offer->name);
    offer->size = tc_buf_get64(buf);
    offer->chunk_size = tc_buf_get32(buf);
    tc_buf_get_text(buf, offer->digest, sizeof offer->digest);
    tc_buf_get_text(buf, offer->codec, sizeof offer->codec);
    tc_buf_get(buf, offer->public_key, sizeof offer->public_key);
    offer->flags = tc_buf_get32(buf);
    offer->seconds_left = tc_buf_get32(buf);
    offer->ttl = tc_buf_get32(buf);
    offer->array_size = tc_buf_get32(buf);
    offer->array = (const char *)tc_buf_take(buf, offer->array_size);
    unpack_signature(buf, &offer->signed_by, offer->signature);
}

#define LINK_PACKED (4u + TC_LINK_ID_SIZE + TC_LINK_KEY_SIZE + 1u)

static void pack_link(struct tc_buf *buf, const struct tc_msg_link *link)
{
    tc_buf_put32(buf, link->rank);
    tc_buf_put(buf, link->id, sizeof link->id);
    tc_buf_put(buf, link->key, sizeof link->key);
    tc_buf_put8(buf, (uint8_t)link->flags);
}

static void unpack_link(struct tc_buf *buf, struct tc_msg_link *link)
{
    link->rank = tc_buf_get32(buf);
    tc_buf_get(buf, link->id, sizeof link->id);
    tc_buf_get(buf, link->key, sizeof link->key);
    link->flags = tc_buf_get8(buf);
}

struct tc_msg_link tc_msg_row_child(const struct tc_msg_row *row, unsigned i)
{
    struct tc_msg_link link;
    struct tc_buf buf = tc_buf_reader(row->children + (size_t)i * LINK_PACKED, LINK_PACKED);
    unpack_link(&buf, &link);
    return link;
}

static void pack_plan(struct tc_buf *buf, const struct tc_msg_plan *plan)
{
    tc_buf_put(buf, plan->session, sizeof plan->session);
    tc_buf_put(buf, plan->nonce, sizeof plan->nonce);
    pack_destination(buf, &plan->to);
    tc_buf_put32(buf, plan->epoch);
    tc_buf_put32(buf, plan->rank);
    tc_buf_put8(buf, plan->trees);
    for (unsigned t = 0; t < plan->trees; t++) {
        const struct tc_msg_row *row = &plan->rows[t];
        pack_link(buf, &row->parent);
        tc_buf_put_text(buf, row->address);
        tc_buf_put16(buf, row->child_count);
        for (unsigned i = 0; i < row->child_count; i++)
            pack_link(buf, (const struct tc_msg_link *)(const void *)row->children + i);
    }
    tc_buf_put_text(buf, plan->why);
}

static void unpack_plan(struct tc_buf *buf, struct tc_msg_plan *plan)
{
    tc_buf_get(buf, plan->session, sizeof plan->session);
    tc_buf_get(buf, plan->nonce, sizeof plan->nonce);
    unpack_destination(buf, &plan->to);
    plan->epoch = tc_buf_get32(buf);
    plan->rank = tc_buf_get32(buf);
    plan->trees = tc_buf_get8(buf);
    if (plan->trees < 1 || plan->trees > TC_TREES_MAX) {
        tc_buf_spoil(buf);
        return;
    }
    for (unsigned t = 0; t < plan->trees; t++) {
        struct tc_msg_row *row = &plan->rows[t];
        unpack_link(buf, &row->parent);
        tc_buf_get_text(buf, row->address, sizeof row->address);
        row->child_count = tc_buf_get16(buf);
        row->children = tc_buf_take(buf, (size_t)row->child_count * LINK_PACKED);
    }
    tc_buf_get_text(buf, plan->why, sizeof plan->why);
    unpack_signature(buf, &plan->signed_by, plan->signature);
}

static void pack_progress(struct tc_buf *buf, const struct tc_msg_progress *progress)
{
    tc_buf_put32(buf, progress->epoch);
    tc_buf_put8(buf, progress->state);
    tc_buf_put32(buf, progress->chunks);
    tc_buf_put64(buf, progress->bytes);
    tc_buf_put64(buf, progress->sent);
    tc_buf_put64(buf, progress->adopted);
    tc_buf_put64(buf, progress->compared);
    tc_buf_put8(buf, progress->cause);
    tc_buf_put8(buf, progress->trees);
    for (unsigned t = 0; t < progress->trees; t++) {
        tc_buf_put32(buf, progress->tree[t].held);
        tc_buf_put64(buf, progress->tree[t].received);
        tc_buf_put64(buf, progress->tree[t].sent);
        tc_buf_put32(buf, progress->tree[t].waiting);
    }
}

static void unpack_progress(struct tc_buf *buf, struct tc_msg_progress *progress)
{
    progress->epoch = tc_buf_get32(buf);
    progress->state = tc_buf_get8(buf);
    progress->chunks = tc_buf_get32(buf);
    progress->bytes = tc_buf_get64(buf);
    progress->sent = tc_buf_get64(buf);
    progress->adopted = tc_buf_get64(buf);
    progress->compared = tc_buf_get64(buf);
    progress->cause = tc_buf_get8(buf);
    progress->trees = tc_buf_get8(buf);
    if (progress->cause > TC_CAUSE_CPU || progress->trees > TC_TREES_MAX) {
        tc_buf_spoil(buf);
        return;
    }
    for (unsigned t = 0; t < progress->trees; t++) {
        progress->tree[t].held = tc_buf_get32(buf);
        progress->tree[t].received = tc_buf_get64(buf);
        progress->tree[t].sent = tc_buf_get64(buf);
        progress->tree[t].waiting = tc_buf_get32(buf);
    }
}

static void pack_body(struct tc_buf *buf, const struct tc_message *message)
{
    switch (message->type) {
    case TC_MSG_HELLO:
        pack_hello(buf, &message->hello);
        break;
    case TC_MSG_OFFER:
        pack_offer(buf, &message->offer);
        break;
    case TC_MSG_READY:
        tc_buf_put32(buf, message->ready.flags);
        break;
    case TC_MSG_REFUSE:
    case TC_MSG_FAILED:
    case TC_MSG_ABORT:
        tc_buf_put16(buf, message->why.reason);
        tc_buf_put_text(buf, message->why.text);
        break;
    case TC_MSG_PLAN:
        pack_plan(buf, &message->plan);
        break;
    case TC_MSG_PROGRESS:
        pack_progress(buf, &message->progress);
        break;
    case TC_MSG_COMPLAIN:
        tc_buf_put32(buf, message->complaint.epoch);
        tc_buf_put8(buf, message->complaint.tree);
        tc_buf_put32(buf, message->complaint.rank);
        tc_buf_put16(buf, message->complaint.reason);
        break;
    case TC_MSG_DONE:
        tc_buf_put8(buf, message->done.state);
        tc_buf_put(buf, message->done.digest.bytes, TC_DIGEST_SIZE);
        break;
    case TC_MSG_BYE:
        break;
    case TC_MSG_PAGE:
        tc_page_pack(&message->page, buf);
        break;
    case TC_MSG_WANT:
    case TC_MSG_CANCEL:
        tc_buf_put32(buf, message->want.page);
        tc_buf_put64(buf, message->want.chunks);
        break;
    default:
        tc_buf_spoil(buf);
    }
}

static void unpack_chunk(struct tc_buf *buf, struct tc_msg_chunk *chunk)
{
    chunk->index = tc_buf_get32(buf);
    chunk->length = tc_buf_get32(buf);
    uint32_t form = tc_buf_get32(buf);
    chunk->form = form;
    chunk->payload_size = tc_buf_left(buf);
    chunk->payload = tc_buf_take(buf, chunk->payload_size);
    bool fits = form == TC_FORM_PLAIN ? chunk->payload_size == chunk->length : chunk->payload_size < chunk->length;
    if (form > TC_FORM_ZSTD || chunk->length == 0 || chunk->payload_size == 0 || !fits)
        tc_buf_spoil(buf);
}

static void unpack_body(struct tc_buf *buf, struct tc_message *message)
{
    switch (message->type) {
    case TC_MSG_HELLO:
        unpack_hello(buf, &message->hello);
        break;
    case TC_MSG_OFFER:
        unpack_offer(buf, &message->offer);
        break;
    case TC_MSG_READY:
        message->ready.flags = tc_buf_get32(buf);
        break;
    case TC_MSG_REFUSE:
    case TC_MSG_FAILED:
    case TC_MSG_ABORT:
        message->why.reason = tc_buf_get16(buf);
        tc_buf_get_text(buf, message->why.text, sizeof message->why.text);
        break;
    case TC_MSG_PLAN:
        unpack_plan(buf, &message->plan);
        break;
    case TC_MSG_PROGRESS:
        unpack_progress(buf, &message->progress);
        break;
    case TC_MSG_COMPLAIN:
        message->complaint.epoch = tc_buf_get32(buf);
        message->complaint.tree = tc_buf_get8(buf);
        message->complaint.rank = tc_buf_get32(buf);
        message->complaint.reason = tc_buf_get16(buf);
        break;
    case TC_MSG_DONE:
        message->done.state = tc_buf_get8(buf);
        tc_buf_get(buf, message->done.digest.bytes, TC_DIGEST_SIZE);
        break;
    case TC_MSG_BYE:
        break;
    case TC_MSG_PAGE:
        tc_page_unpack(&message->page, buf);
        break;
    case TC_MSG_WANT:
    case TC_MSG_CANCEL:
        message->want.page = tc_buf_get32(buf);
        message->want.chunks = tc_buf_get64(buf);
        break;
    case TC_MSG_CHUNK:
        unpack_chunk(buf, &message->chunk);
        break;
    default:
        tc_buf_spoil(buf);
    }
}

/* A domain for each signed message, so that a signature of one kind never passes for another. */
static int sign(uint8_t type, const uint8_t *body, size_t size, struct tc_signer *signer,
                uint8_t signature[TC_SIGNATURE_SIZE], struct tc_err *err)
{
    uint8_t *bytes = malloc(size + 16);
    if (!bytes)
        return tc_fail(err, TC_E_NOMEM, "no memory for a signature");
    memcpy(bytes, "treecast msg 1", 15);
    bytes[15] = type;
    memcpy(bytes + 16, body, size);
    int status = tc_signer_sign(signer, bytes, size + 16, signature, err);
    free(bytes);
    return status;
}

static int put_signature(struct tc_buf *buf, const struct tc_message *message, struct tc_signer *signer,
                         struct tc_err *err)
{
    uint8_t signature[TC_SIGNATURE_SIZE];
    if (message->type != TC_MSG_OFFER && message->type != TC_MSG_PLAN)
        return 0;
    if (!signer) {
        tc_buf_put8(buf, TC_SIGNED_NOT);
        return 0;
    }
    int status = sign(message->type, buf->bytes, buf->at, signer, signature, err);
    if (status < 0)
        return status;
    enum tc_signed_by by = message->type == TC_MSG_OFFER ? message->offer.signed_by : message->plan.signed_by;
    tc_buf_put8(buf, by == TC_SIGNED_SESSION ? TC_SIGNED_SESSION : TC_SIGNED_ORIGIN);
    tc_buf_put(buf, signature, sizeof signature);
    return 0;
}

/* Space for this body; unlike the limit it follows the content, so that small messages stay small. */
static size_t capacity(const struct tc_message *message)
{
    size_t size = 1024;
    switch (message->type) {
    case TC_MSG_HELLO:
        return size + message->hello.page_bytes;
    case TC_MSG_OFFER:
        return size + message->offer.array_size;
    case TC_MSG_PAGE:
        return TC_PAGE_PACKED_MAX;
    case TC_MSG_PLAN:
        for (unsigned t = 0; t < message->plan.trees; t++)
            size += 512 + (size_t)message->plan.rows[t].child_count * LINK_PACKED;
        return size;
    default:
        return size;
    }
}

struct tc_blob *tc_message_pack(const struct tc_message *message, struct tc_signer *signer, struct tc_err *err)
{
    struct tc_blob *blob = tc_blob_new(NULL, capacity(message));
    if (!blob) {
        tc_fail(err, TC_E_NOMEM, "no memory for a %s", tc_message_name(message->type));
        return NULL;
    }
    struct tc_buf buf = tc_buf_writer(blob->bytes, blob->size);
    pack_body(&buf, message);
    int status = put_signature(&buf, message, signer, err);
    if (status < 0 || !tc_buf_ok(&buf) || buf.at > tc_message_limit(message->type)) {
        tc_fail(err, TC_E_LIMIT, "a %s would be too long", tc_message_name(message->type));
        tc_blob_unref(blob);
        return NULL;
    }
    blob->size = buf.at;
    return blob;
}

int tc_message_unpack(struct tc_message *message, uint8_t type, const void *body, size_t size, struct tc_err *err)
{
    uint32_t limit = tc_message_limit(type);
    if (limit == 0)
        return tc_fail(err, TC_E_PROTOCOL, "message of unknown type %u", type);
    if (size > limit)
        return tc_fail(err, TC_E_PROTOCOL, "%s of %zu bytes is too long", tc_message_name(type), size);
    struct tc_buf buf = tc_buf_reader(body, size);
    *message = (struct tc_message){.type = type};
    unpack_body(&buf, message);
    if (!tc_buf_done(&buf))
        return tc_fail(err, TC_E_PROTOCOL, "malformed %s of %zu bytes", tc_message_name(type), size);
    return 0;
}

/* The body ends with a signature of that kind, and it is verifier's. -TC_E_AUTH without a word where not. */
static int check_signature(uint8_t type, const uint8_t *body, size_t size, enum tc_signed_by by,
                           struct tc_verifier *verifier, struct tc_err *err)
{
    const size_t tail = 1 + TC_SIGNATURE_SIZE;
    if (size < tail || body[size - tail] != by)
        return -TC_E_AUTH;
    size_t content = size - tail;
    uint8_t *input = malloc(content + 16);
    if (!input)
        return tc_fail(err, TC_E_NOMEM, "no memory to check a signature");
    memcpy(input, "treecast msg 1", 15);
    input[15] = type;
    memcpy(input + 16, body, content);
    int status = tc_verifier_check(verifier, input, content + 16, body + size - TC_SIGNATURE_SIZE, NULL);
    free(input);
    return status < 0 ? -TC_E_AUTH : 0;
}

int tc_message_check_origin(uint8_t type, const void *body, size_t size, struct tc_verifier *origin, struct tc_err *err)
{
    const size_t tail = 1 + TC_SIGNATURE_SIZE;
    if (size < tail || ((const uint8_t *)body)[size - tail] != TC_SIGNED_ORIGIN)
        return tc_fail(err, TC_E_AUTH, "%s is not signed; the key file here names an origin: send with its FILE.origin",
                       tc_message_name(type));
    int status = check_signature(type, body, size, TC_SIGNED_ORIGIN, origin, err);
    if (status == -TC_E_AUTH)
        return tc_fail(err, TC_E_AUTH, "%s has a wrong signature: not from the origin in the key file",
                       tc_message_name(type));
    return status;
}

int tc_message_check_session(uint8_t type, const void *body, size_t size, struct tc_verifier *session,
                             struct tc_err *err)
{
    int status = check_signature(type, body, size, TC_SIGNED_SESSION, session, err);
    if (status == -TC_E_AUTH)
        return tc_fail(err, TC_E_INTEGRITY, "%s was damaged on its way: its signature does not fit",
                       tc_message_name(type));
    return status;
}

void tc_chunk_head(uint8_t head[TC_CHUNK_HEAD], uint32_t index, uint32_t length, enum tc_form form)
{
    struct tc_buf buf = tc_buf_writer(head, TC_CHUNK_HEAD);
    tc_buf_put32(&buf, index);
    tc_buf_put32(&buf, length);
    tc_buf_put32(&buf, form);
}
