#include "session/message.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

/* For whom OFFER and PLAN are. */
#define TO                           \
    "000d31302e302e302e373a37313137" \
    "9999999999999999999999999999999999999999999999999999999999999999"

/* The wire format, byte for byte. The hex was made from the table in treecast-wire(7), not by the code under test. */
static const struct golden {
    uint8_t type;
    const char *hex;
} golden[] = {
    {TC_MSG_HELLO,
     "5443535400010003000000000411111111111111111111111111111111222222222222222222222222222222223333333333"
     "33333333333333333333334444444444444444444444444444444400076e373a3731313700026e37000000020580"},
    {TC_MSG_OFFER, "3333333333333333333333333333333322222222222222222222222222222222" TO
                   "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b"
                   "0005412e6e7079010203040506070800100000000a7368613235362d36346b00047a737464"
                   "5555555555555555555555555555555555555555555555555555555555555555"
                   "000000010000005a00000e10000000046e756c6c00"},
    {TC_MSG_READY, "00000001"},
    {TC_MSG_REFUSE, "000700086e6f207370616365"},
    {TC_MSG_FAILED, "000700086e6f207370616365"},
    {TC_MSG_ABORT, "000700086e6f207370616365"},
    {TC_MSG_PLAN,
     "3333333333333333333333333333333322222222222222222222222222222222" TO "000000090000000202000000016060606060"
     "606060606060606060606061616161616161616161616161616161616161616161616161616161616161610000076e313a37"
     "3131370002000000056262626262626262626262626262626263636363636363636363636363636363636363636363636363"
     "6363636363636300000000066464646464646464646464646464646465656565656565656565656565656565656565656565"
     "6565656565656565656501000000006666666666666666666666666666666667676767676767676767676767676767676767"
     "67676767676767676767676767000000000000086e343a206c6f737400"},
    {TC_MSG_PROGRESS, "00000009030000004d0000000500000000000000060000000000000007000000000000000800000000"
                      "0302"
                      "000000280000000300000000000000010000000000000000"
                      "000000250000000200000000000000050000000000000bb8"},
    {TC_MSG_DONE, "057777777777777777777777777777777777777777777777777777777777777777"},
    {TC_MSG_BYE, ""},
    {TC_MSG_COMPLAIN, "0000000901000000030005"},
    {TC_MSG_PAGE, "0000000302018181818181818181818181818181818181818181818181818181818181818181828282828282828282828282"
                  "8282828282828282828282828282828282828282cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
                  "cccceeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
                  "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"},
    {TC_MSG_WANT, "000000038000000000000001"},
    {TC_MSG_CANCEL, "000000038000000000000001"},
    {TC_MSG_CHUNK, "00000041000003e80000000128b52ffd"},
};

enum { GOLDEN = sizeof golden / sizeof golden[0] };

static const uint8_t page_bits[] = {0x05, 0x80};
static struct tc_msg_link children[2];

static size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t size = strlen(hex) / 2;
    for (size_t i = 0; i < size; i++) {
        const char digits[] = {hex[2 * i], hex[2 * i + 1], 0};
        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return size;
}

static struct tc_msg_link link_of(uint32_t rank, int byte)
{
    struct tc_msg_link link = {.rank = rank};
    memset(link.id, byte, sizeof link.id);
    memset(link.key, byte + 1, sizeof link.key);
    return link;
}

static void fill_hello(struct tc_msg_hello *hello)
{
    *hello = (struct tc_msg_hello){.version_min = 1,
                                   .version_max = 3,
                                   .role = TC_ROLE_CHILD,
                                   .address = "n7:7117",
                                   .host = "n7",
                                   .page_bytes = 2,
                                   .pages = page_bits};
    memset(hello->instance, 0x11, sizeof hello->instance);
    memset(hello->nonce, 0x22, sizeof hello->nonce);
    memset(hello->session, 0x33, sizeof hello->session);
    memset(hello->link, 0x44, sizeof hello->link);
}

static void fill_destination(struct tc_destination *to)
{
    snprintf(to->address, sizeof to->address, "10.0.0.7:7117");
    memset(to->channel, 0x99, sizeof to->channel);
}

static void fill_offer(struct tc_msg_offer *offer)
{
    *offer = (struct tc_msg_offer){.name = "A.npy",
                                   .size = 0x0102030405060708,
                                   .chunk_size = 1 << 20,
                                   .digest = TC_DIGEST_NAME,
                                   .codec = TC_CODEC_NAME,
                                   .flags = TC_OFFER_FORCE,
                                   .seconds_left = 90,
                                   .ttl = 3600,
                                   .array_size = 4,
                                   .array = "null"};
    memset(offer->session, 0x33, sizeof offer->session);
    memset(offer->nonce, 0x22, sizeof offer->nonce);
    memset(offer->public_key, 0x55, sizeof offer->public_key);
    memset(offer->proof_id, 0x5a, sizeof offer->proof_id);
    memset(offer->proof_key, 0x5b, sizeof offer->proof_key);
    fill_destination(&offer->to);
}

static void fill_plan(struct tc_msg_plan *plan)
{
    *plan = (struct tc_msg_plan){.epoch = 9, .rank = 2, .trees = 2, .why = "n4: lost"};
    memset(plan->session, 0x33, sizeof plan->session);
    memset(plan->nonce, 0x22, sizeof plan->nonce);
    fill_destination(&plan->to);
    children[0] = link_of(5, 0x62);
    children[1] = link_of(6, 0x64);
    children[1].flags = TC_LINK_LAST;
    plan->rows[0] = (struct tc_msg_row){
        .parent = link_of(1, 0x60), .address = "n1:7117", .child_count = 2, .children = (const uint8_t *)children};
    plan->rows[1] = (struct tc_msg_row){.parent = link_of(0, 0x66)};
}

static void fill_page(struct tc_page *page)
{
    *page = (struct tc_page){.index = 3, .count = 2, .last = true};
    memset(&page->chunks[0], 0x81, TC_DIGEST_SIZE);
    memset(&page->chunks[1], 0x82, TC_DIGEST_SIZE);
    memset(&page->content, 0xcc, TC_DIGEST_SIZE);
    memset(page->signature, 0xee, sizeof page->signature);
}

/* The message that the golden bytes of its type say. */
static struct tc_message message_of(uint8_t type)
{
    struct tc_message message;
    memset(&message, 0, sizeof message);
    message.type = type;
    switch (type) {
    case TC_MSG_HELLO:
        fill_hello(&message.hello);
        break;
    case TC_MSG_OFFER:
        fill_offer(&message.offer);
        break;
    case TC_MSG_READY:
        message.ready.flags = 1;
        break;
    case TC_MSG_REFUSE:
    case TC_MSG_FAILED:
    case TC_MSG_ABORT:
        message.why = (struct tc_msg_why){.reason = TC_E_NOSPACE, .text = "no space"};
        break;
    case TC_MSG_PLAN:
        fill_plan(&message.plan);
        break;
    case TC_MSG_PROGRESS:
        message.progress =
            (struct tc_msg_progress){.epoch = 9,
                                     .state = 3,
                                     .chunks = 77,
                                     .bytes = 0x500000000,
                                     .sent = 0x600000000,
                                     .adopted = 0x700000000,
                                     .compared = 0x800000000,
                                     .cause = TC_CAUSE_DISK,
                                     .trees = 2,
                                     .tree = {{40, 0x300000000, 0x100000000, 0}, {37, 0x200000000, 0x500000000, 3000}}};
        break;
    case TC_MSG_DONE:
        message.done.state = 5;
        memset(&message.done.digest, 0x77, TC_DIGEST_SIZE);
        break;
    case TC_MSG_COMPLAIN:
        message.complaint = (struct tc_msg_complaint){9, 1, 3, TC_E_INTEGRITY};
        break;
    case TC_MSG_PAGE:
        fill_page(&message.page);
        break;
    case TC_MSG_WANT:
    case TC_MSG_CANCEL:
        message.want = (struct tc_msg_want){3, 0x8000000000000001};
        break;
    default:
        break;
    }
    return message;
}

START_TEST(packs_the_golden_bytes)
{
    uint8_t bytes[2048];
    size_t size = from_hex(golden[_i].hex, bytes);
    struct tc_message message = message_of(golden[_i].type);
    if (message.type == TC_MSG_CHUNK) {
        uint8_t head[TC_CHUNK_HEAD];
        tc_chunk_head(head, 65, 1000, TC_FORM_ZSTD);
        ck_assert_mem_eq(head, bytes, sizeof head);
        return;
    }
    struct tc_blob *blob = tc_message_pack(&message, NULL, NULL);
    ck_assert_ptr_nonnull(blob);
    ck_assert_uint_eq(blob->size, size);
    ck_assert_mem_eq(blob->bytes, bytes, size);
    tc_blob_unref(blob);
}
END_TEST

static struct tc_message unpacked(uint8_t type, const uint8_t *bytes, size_t size)
{
    struct tc_message message;
    struct tc_err err = {0};
    ck_assert_msg(tc_message_unpack(&message, type, bytes, size, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(message.type, type);
    return message;
}

START_TEST(unpacks_the_golden_bytes)
{
    uint8_t bytes[2048];
    size_t size = from_hex(golden[_i].hex, bytes);
    struct tc_message got = unpacked(golden[_i].type, bytes, size), want = message_of(golden[_i].type);
    switch (got.type) {
    case TC_MSG_HELLO:
        ck_assert_uint_eq(got.hello.page_bytes, 2);
        ck_assert_mem_eq(got.hello.pages, page_bits, 2);
        got.hello.pages = page_bits;
        ck_assert_str_eq(got.hello.address, want.hello.address);
        ck_assert_str_eq(got.hello.host, want.hello.host);
        ck_assert_mem_eq(got.hello.instance, want.hello.instance, 16);
        ck_assert_mem_eq(got.hello.nonce, want.hello.nonce, TC_NONCE_SIZE);
        ck_assert_mem_eq(got.hello.session, want.hello.session, TC_SESSION_ID_SIZE);
        ck_assert_mem_eq(got.hello.link, want.hello.link, TC_LINK_ID_SIZE);
        ck_assert(got.hello.version_min == 1 && got.hello.version_max == 3 && got.hello.role == TC_ROLE_CHILD);
        break;
    case TC_MSG_OFFER:
        ck_assert_str_eq(got.offer.name, "A.npy");
        ck_assert(got.offer.size == want.offer.size && got.offer.chunk_size == want.offer.chunk_size);
        ck_assert_str_eq(got.offer.digest, TC_DIGEST_NAME);
        ck_assert_str_eq(got.offer.codec, TC_CODEC_NAME);
        ck_assert_str_eq(got.offer.to.address, "10.0.0.7:7117");
        ck_assert_mem_eq(got.offer.to.channel, want.offer.to.channel, TC_CHANNEL_SIZE);
        ck_assert_mem_eq(got.offer.proof_id, want.offer.proof_id, TC_LINK_ID_SIZE);
        ck_assert_mem_eq(got.offer.proof_key, want.offer.proof_key, TC_LINK_KEY_SIZE);
        ck_assert_mem_eq(got.offer.public_key, want.offer.public_key, TC_PUBLIC_SIZE);
        ck_assert(got.offer.flags == TC_OFFER_FORCE && got.offer.seconds_left == 90 && got.offer.ttl == 3600 &&
                  !got.offer.signed_by);
        ck_assert_uint_eq(got.offer.array_size, 4);
        ck_assert_mem_eq(got.offer.array, "null", 4);
        break;
    case TC_MSG_READY:
        ck_assert_uint_eq(got.ready.flags, 1);
        break;
    case TC_MSG_REFUSE:
    case TC_MSG_FAILED:
    case TC_MSG_ABORT:
        ck_assert_uint_eq(got.why.reason, TC_E_NOSPACE);
        ck_assert_str_eq(got.why.text, "no space");
        break;
    case TC_MSG_PLAN:
        ck_assert(got.plan.epoch == 9 && got.plan.rank == 2 && got.plan.trees == 2 && !got.plan.signed_by);
        ck_assert_str_eq(got.plan.to.address, "10.0.0.7:7117");
        ck_assert_mem_eq(got.plan.to.channel, want.plan.to.channel, TC_CHANNEL_SIZE);
        ck_assert_str_eq(got.plan.rows[0].address, "n1:7117");
        ck_assert_str_eq(got.plan.why, "n4: lost");
        ck_assert_uint_eq(got.plan.rows[0].child_count, 2);
        for (unsigned i = 0; i < 2; i++) {
            struct tc_msg_link child = tc_msg_row_child(&got.plan.rows[0], i);
            ck_assert_mem_eq(&child, &children[i], sizeof child);
        }
        ck_assert_mem_eq(&got.plan.rows[0].parent, &want.plan.rows[0].parent, sizeof(struct tc_msg_link));
        ck_assert_mem_eq(&got.plan.rows[1].parent, &want.plan.rows[1].parent, sizeof(struct tc_msg_link));
        ck_assert_uint_eq(got.plan.rows[1].child_count, 0);
        break;
    case TC_MSG_PROGRESS:
        ck_assert(got.progress.epoch == 9 && got.progress.state == 3 && got.progress.chunks == 77);
        ck_assert(got.progress.bytes == 0x500000000 && got.progress.sent == 0x600000000);
        ck_assert(got.progress.adopted == 0x700000000 && got.progress.compared == 0x800000000);
        ck_assert(got.progress.cause == TC_CAUSE_DISK && got.progress.trees == 2);
        ck_assert(got.progress.tree[0].held == 40 && got.progress.tree[0].sent == 0x100000000);
        ck_assert(got.progress.tree[1].held == 37 && got.progress.tree[1].received == 0x200000000);
        ck_assert(got.progress.tree[1].sent == 0x500000000 && got.progress.tree[1].waiting == 3000);
        break;
    case TC_MSG_DONE:
        ck_assert_uint_eq(got.done.state, 5);
        ck_assert_mem_eq(&got.done.digest, &want.done.digest, TC_DIGEST_SIZE);
        break;
    case TC_MSG_COMPLAIN:
        ck_assert(got.complaint.epoch == 9 && got.complaint.tree == 1 && got.complaint.rank == 3);
        ck_assert_uint_eq(got.complaint.reason, TC_E_INTEGRITY);
        break;
    case TC_MSG_PAGE:
        ck_assert(got.page.index == 3 && got.page.count == 2 && got.page.last);
        ck_assert_mem_eq(got.page.chunks, want.page.chunks, 2 * TC_DIGEST_SIZE);
        ck_assert_mem_eq(&got.page.content, &want.page.content, TC_DIGEST_SIZE);
        ck_assert_mem_eq(got.page.signature, want.page.signature, TC_SIGNATURE_SIZE);
        break;
    case TC_MSG_WANT:
    case TC_MSG_CANCEL:
        ck_assert(got.want.page == 3 && got.want.chunks == 0x8000000000000001);
        break;
    case TC_MSG_CHUNK:
        ck_assert(got.chunk.index == 65 && got.chunk.length == 1000 && got.chunk.form == TC_FORM_ZSTD);
        ck_assert_uint_eq(got.chunk.payload_size, 4);
        ck_assert_mem_eq(got.chunk.payload, "\x28\xb5\x2f\xfd", 4);
        break;
    default:
        break;
    }
}
END_TEST

static void refuse(uint8_t type, const uint8_t *bytes, size_t size)
{
    struct tc_message message;
    struct tc_err err = {0};
    uint8_t *exact = malloc(size ? size : 1); /* so that the address sanitizer sees a byte too far */
    memcpy(exact, bytes, size);
    ck_assert_msg(tc_message_unpack(&message, type, exact, size, &err) == -TC_E_PROTOCOL, "%s of %zu bytes passes",
                  tc_message_name(type), size);
    ck_assert_int_eq(err.reason, TC_E_PROTOCOL);
    ck_assert_msg(strstr(err.text, tc_message_name(type)) || strstr(err.text, "unknown"), "%s", err.text);
    free(exact);
}

START_TEST(refuses_every_other_length)
{
    uint8_t bytes[2048] = {0};
    uint8_t type = golden[_i].type;
    size_t size = from_hex(golden[_i].hex, bytes);
    size_t least = type == TC_MSG_CHUNK ? TC_CHUNK_HEAD + 1 : size; /* a chunk's payload may have any length */
    for (size_t cut = 0; cut < least; cut++)
        refuse(type, bytes, cut);
    if (type != TC_MSG_CHUNK)
        refuse(type, bytes, size + 1);
}
END_TEST

START_TEST(any_one_byte_changed_is_harmless)
{
    uint8_t bytes[2048];
    struct tc_message message;
    size_t size = from_hex(golden[_i].hex, bytes);
    for (size_t at = 0; at < size; at++)
        for (unsigned value = 0; value < 256; value++) {
            uint8_t *exact = malloc(size);
            memcpy(exact, bytes, size);
            exact[at] = (uint8_t)value;
            if (tc_message_unpack(&message, golden[_i].type, exact, size, NULL) == 0 && message.type == TC_MSG_PLAN)
                for (unsigned t = 0; t < message.plan.trees; t++)
                    for (unsigned i = 0; i < message.plan.rows[t].child_count; i++)
                        tc_msg_row_child(&message.plan.rows[t], i);
            free(exact);
        }
}
END_TEST

START_TEST(every_type_has_a_golden_message_and_a_limit)
{
    uint8_t bytes[2048];
    for (unsigned type = 0; type < 256; type++) {
        unsigned found = 0;
        for (unsigned i = 0; i < GOLDEN; i++)
            if (golden[i].type == type) {
                found++;
                ck_assert_uint_le(from_hex(golden[i].hex, bytes), tc_message_limit((uint8_t)type));
            }
        ck_assert_uint_eq(found, tc_message_limit((uint8_t)type) != 0);
        ck_assert_int_eq(strcmp(tc_message_name((uint8_t)type), "unknown") != 0, found == 1);
        if (!found)
            refuse((uint8_t)type, bytes, 0);
    }
}
END_TEST

START_TEST(nothing_beyond_its_limit)
{
    uint8_t type = golden[_i].type;
    size_t size = (size_t)tc_message_limit(type) + 1;
    uint8_t *bytes = calloc(1, size);
    refuse(type, bytes, size);
    free(bytes);
}
END_TEST

static void refuse_with(uint8_t type, size_t at, uint8_t value)
{
    uint8_t bytes[2048];
    for (unsigned i = 0; i < GOLDEN; i++)
        if (golden[i].type == type) {
            size_t size = from_hex(golden[i].hex, bytes);
            bytes[at] = value;
            refuse(type, bytes, size);
        }
}

START_TEST(fields_have_ranges)
{
    refuse_with(TC_MSG_HELLO, 0, 0x55); /* magic */
    refuse_with(TC_MSG_HELLO, 5, 4);    /* version 4 to 3 */
    refuse_with(TC_MSG_HELLO, 12, 0);   /* role */
    refuse_with(TC_MSG_HELLO, 12, 5);
    refuse_with(TC_MSG_HELLO, 79, 0); /* NUL in the address */
    refuse_with(TC_MSG_PLAN, 87, 0);  /* trees */
    refuse_with(TC_MSG_PLAN, 87, 3);
    refuse_with(TC_MSG_PLAN, 40, 0);     /* NUL in whom it is for */
    refuse_with(TC_MSG_PROGRESS, 41, 5); /* cause */
    refuse_with(TC_MSG_PROGRESS, 42, 3); /* trees */
    refuse_with(TC_MSG_PAGE, 4, 65);     /* chunks */
    refuse_with(TC_MSG_PAGE, 5, 2);      /* last */
    refuse_with(TC_MSG_CHUNK, 11, 2);    /* form */
    refuse_with(TC_MSG_CHUNK, 11, 0);    /* plain, and shorter than the chunk */
    const uint8_t empty[TC_CHUNK_HEAD + 1] = {0};
    refuse(TC_MSG_CHUNK, empty, sizeof empty);
    const uint8_t swollen[TC_CHUNK_HEAD + 4] = {0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1};
    refuse(TC_MSG_CHUNK, swollen, sizeof swollen); /* compressed, and not smaller */
}
END_TEST

START_TEST(texts_end_where_their_fields_do)
{
    struct tc_message message = message_of(TC_MSG_REFUSE);
    memset(message.why.text, 'x', sizeof message.why.text - 1);
    struct tc_blob *blob = tc_message_pack(&message, NULL, NULL);
    struct tc_message got = unpacked(TC_MSG_REFUSE, blob->bytes, blob->size);
    ck_assert_str_eq(got.why.text, message.why.text);
    uint8_t longer[600] = {0, 7, 1, 0};
    memset(longer + 4, 'x', 256);
    refuse(TC_MSG_REFUSE, longer, 4 + 256);
    tc_blob_unref(blob);
}
END_TEST

START_TEST(too_long_is_not_packed)
{
    struct tc_err err = {0};
    char *array = calloc(1, 300000);
    struct tc_message message = message_of(TC_MSG_OFFER);
    message.offer.array = array;
    message.offer.array_size = 300000;
    ck_assert_ptr_null(tc_message_pack(&message, NULL, &err));
    ck_assert_int_eq(err.reason, TC_E_LIMIT);
    free(array);
}
END_TEST

static struct tc_blob *signed_message(uint8_t type, uint8_t seed, struct tc_verifier **verifier)
{
    uint8_t secret[TC_SECRET_SIZE] = {seed}, public_key[TC_PUBLIC_SIZE];
    struct tc_signer *signer = tc_signer_new(secret, public_key, NULL);
    struct tc_message message = message_of(type);
    struct tc_blob *blob = tc_message_pack(&message, signer, NULL);
    ck_assert_ptr_nonnull(blob);
    *verifier = tc_verifier_new(public_key, NULL);
    tc_signer_free(signer);
    return blob;
}

START_TEST(a_signature_covers_every_byte)
{
    static const uint8_t types[] = {TC_MSG_OFFER, TC_MSG_PLAN};
    uint8_t type = types[_i];
    struct tc_verifier *origin, *pending;
    struct tc_blob *blob = signed_message(type, 1, &origin), *other = signed_message(type, 2, &pending);
    struct tc_message message = unpacked(type, blob->bytes, blob->size);
    ck_assert(type == TC_MSG_OFFER ? message.offer.signed_by : message.plan.signed_by);
    ck_assert_int_eq(tc_message_check_origin(type, blob->bytes, blob->size, origin, NULL), 0);
    ck_assert_int_eq(tc_message_check_origin(type, blob->bytes, blob->size, pending, NULL), -TC_E_AUTH);
    ck_assert_int_eq(tc_message_check_origin(types[!_i], blob->bytes, blob->size, origin, NULL), -TC_E_AUTH);
    for (size_t at = 0; at < blob->size; at++) {
        blob->bytes[at] ^= 1;
        ck_assert_int_eq(tc_message_check_origin(type, blob->bytes, blob->size, origin, NULL), -TC_E_AUTH);
        blob->bytes[at] ^= 1;
    }
    for (size_t size = 0; size < blob->size; size++)
        ck_assert_int_eq(tc_message_check_origin(type, blob->bytes, size, origin, NULL), -TC_E_AUTH);
    tc_blob_unref(blob);
    tc_blob_unref(other);
    tc_verifier_free(origin);
    tc_verifier_free(pending);
}
END_TEST

/* What the session's own key signs: any damage shows, and it is no word of the origin. */
START_TEST(the_session_signs_where_there_is_no_origin)
{
    uint8_t secret[TC_SECRET_SIZE] = {3}, public_key[TC_PUBLIC_SIZE];
    uint8_t type = _i ? TC_MSG_PLAN : TC_MSG_OFFER;
    struct tc_signer *signer = tc_signer_new(secret, public_key, NULL);
    struct tc_verifier *session = tc_verifier_new(public_key, NULL);
    struct tc_message message = message_of(type);
    *(type == TC_MSG_OFFER ? &message.offer.signed_by : &message.plan.signed_by) = TC_SIGNED_SESSION;
    struct tc_blob *blob = tc_message_pack(&message, signer, NULL);
    struct tc_message got = unpacked(type, blob->bytes, blob->size);
    ck_assert_int_eq(type == TC_MSG_OFFER ? got.offer.signed_by : got.plan.signed_by, TC_SIGNED_SESSION);
    ck_assert_int_eq(tc_message_check_session(type, blob->bytes, blob->size, session, NULL), 0);
    ck_assert_int_eq(tc_message_check_origin(type, blob->bytes, blob->size, session, NULL), -TC_E_AUTH);
    for (size_t bit = 0; bit < 8 * blob->size; bit++) {
        blob->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        bool taken = tc_message_unpack(&got, type, blob->bytes, blob->size, NULL) == 0;
        if (taken) /* and what says now that another has signed it, or nobody, is not taken at all */
            ck_assert_int_eq(type == TC_MSG_OFFER ? got.offer.signed_by : got.plan.signed_by, TC_SIGNED_SESSION);
        ck_assert_int_eq(tc_message_check_session(type, blob->bytes, blob->size, session, NULL), -TC_E_INTEGRITY);
        blob->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    tc_blob_unref(blob);
    tc_signer_free(signer);
    tc_verifier_free(session);
}
END_TEST

START_TEST(an_unsigned_message_says_so)
{
    struct tc_err err = {0};
    struct tc_verifier *origin;
    struct tc_message message = message_of(TC_MSG_OFFER);
    struct tc_blob *blob = tc_message_pack(&message, NULL, NULL), *other = signed_message(TC_MSG_OFFER, 1, &origin);
    ck_assert_int_eq(tc_message_check_origin(TC_MSG_OFFER, blob->bytes, blob->size, origin, &err), -TC_E_AUTH);
    ck_assert_ptr_nonnull(strstr(err.text, "not signed"));
    tc_blob_unref(blob);
    tc_blob_unref(other);
    tc_verifier_free(origin);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("message");
    TCase *tcase = tcase_create("message");
    tcase_add_loop_test(tcase, packs_the_golden_bytes, 0, GOLDEN);
    tcase_add_loop_test(tcase, unpacks_the_golden_bytes, 0, GOLDEN);
    tcase_add_loop_test(tcase, refuses_every_other_length, 0, GOLDEN);
    tcase_add_loop_test(tcase, any_one_byte_changed_is_harmless, 0, GOLDEN);
    tcase_add_loop_test(tcase, nothing_beyond_its_limit, 0, GOLDEN);
    tcase_add_test(tcase, every_type_has_a_golden_message_and_a_limit);
    tcase_add_test(tcase, fields_have_ranges);
    tcase_add_test(tcase, texts_end_where_their_fields_do);
    tcase_add_test(tcase, too_long_is_not_packed);
    tcase_add_loop_test(tcase, a_signature_covers_every_byte, 0, 2);
    tcase_add_loop_test(tcase, the_session_signs_where_there_is_no_origin, 0, 2);
    tcase_add_test(tcase, an_unsigned_message_says_so);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
