/* message.h - the grammar: what the two kinds of links carry, packed and unpacked in one place. Pure.
 *
 * Unpacking checks form only (lengths, ranges of a field by itself, no byte left over); whether a message is admitted in
 * a state, and whether its content is true, is the machines' business. */
#ifndef TC_SESSION_MESSAGE_H
#define TC_SESSION_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/blob.h"
#include "data/describe.h"
#include "plan/detector.h"

#define TC_WIRE_MAGIC 0x54435354u /* "TCST" */
#define TC_WIRE_VERSION 2u
#define TC_NONCE_SIZE 16u
#define TC_CHANNEL_SIZE 32u
#define TC_LINK_ID_SIZE 16u
#define TC_LINK_KEY_SIZE 32u
#define TC_ADDRESS_MAX 272u /* bytes of "name:port" with NUL */
#define TC_JOINER_MAX 256u  /* bytes of a listed host with NUL */
#define TC_CHUNK_HEAD 12u   /* bytes before a chunk's payload */
#define TC_WHY_MAX 160u     /* bytes of why a plan has changed, with NUL */
#define TC_DIGEST_NAME "sha256-64k"
#define TC_CODEC_NAME "zstd"

enum tc_message_type {
#define TC_MESSAGE(name, number, size) TC_MSG_##name = number,
#include "session/message.def"
#undef TC_MESSAGE
};

/* What a link is for and which end speaks. */
enum tc_role { TC_ROLE_COORDINATOR = 1, TC_ROLE_AGENT, TC_ROLE_PARENT, TC_ROLE_CHILD };

struct tc_msg_hello {
    uint16_t version_min, version_max;
    uint32_t features; /* none defined yet: sent as 0, ignored */
    enum tc_role role;
    uint8_t instance[16];                /* of the process that speaks */
    uint8_t nonce[TC_NONCE_SIZE];        /* agents on control links */
    uint8_t session[TC_SESSION_ID_SIZE]; /* data links */
    uint8_t link[TC_LINK_ID_SIZE];       /* data links: which one of PLAN's */
    char address[TC_ADDRESS_MAX]; /* agents on control links: where other agents reach it; "" the dialled address */
    char host[TC_JOINER_MAX];     /* agents that dialled: which of the coordinator's listed hosts this is */
    uint32_t page_bytes;  /* children on data links: bitmap of the pages it has, page p is bit p % 8 of byte p / 8 */
    const uint8_t *pages; /* borrowed from the body; NULL when page_bytes is 0 */
};

/* Whom an OFFER or PLAN is for: the far end of the control link that the coordinator says it on, as either end of that
 * link knows it by itself. Who passes what was said to it on to another has another address or another channel. */
struct tc_destination {
    char address[TC_ADDRESS_MAX]; /* numeric, where the coordinator reached it; of an agent that dialled, its host */
    uint8_t channel[TC_CHANNEL_SIZE]; /* TLS exporter value of the link (RFC 8446, 7.5); zero without TLS */
};

enum { TC_OFFER_FORCE = 1, TC_OFFER_DRY_RUN = 2 };

/* Whose signature an OFFER or PLAN ends with, over everything before it. */
enum tc_signed_by {
    TC_SIGNED_NOT,
    TC_SIGNED_ORIGIN,
    TC_SIGNED_SESSION /* by the key in OFFER: damage on the way shows, deceit does not */
};

struct tc_msg_offer {
    uint8_t session[TC_SESSION_ID_SIZE];
    uint8_t nonce[TC_NONCE_SIZE]; /* the agent's own, from its HELLO */
    struct tc_destination to;
    uint8_t
        proof_id[TC_LINK_ID_SIZE]; /* who dials HELLO's address as this link has found this very agent there; zero: */
    uint8_t proof_key[TC_LINK_KEY_SIZE]; /* nobody will */
    char name[TC_NAME_MAX + 1];
    uint64_t size;
    uint32_t chunk_size;
    char digest[32], codec[32];
    uint8_t public_key[TC_PUBLIC_SIZE]; /* the session's, signs its pages */
    uint32_t flags;
    uint32_t seconds_left; /* to the deadline; 0: none */
    uint32_t ttl;          /* seconds that the array stays once it is published; 0: for good */
    uint32_t array_size;
    const char *array; /* JSON, not terminated; borrowed */
    enum tc_signed_by signed_by;
    uint8_t signature[TC_SIGNATURE_SIZE];
};

enum { TC_LINK_LAST = 1, TC_LINK_DOUBTED = 2 };

struct tc_msg_link { /* one data link of a PLAN row */
    uint32_t rank;   /* the other end */
    uint8_t id[TC_LINK_ID_SIZE];
    uint8_t key[TC_LINK_KEY_SIZE];
    /* Of the child, a byte on the wire. LAST, in its parent's row: it is served when no other has a pending want.
     * DOUBTED, in its own: others say that it gives wrong bytes, or it says so of everybody. */
    uint32_t flags;
};

struct tc_msg_row { /* one tree of a PLAN row */
    struct tc_msg_link parent;
    char address[TC_ADDRESS_MAX]; /* the parent's; "" when the parent dials (rank 0) */
    uint16_t child_count;
    const uint8_t *children; /* borrowed; tc_msg_row_child reads it; when packing, an array of struct tc_msg_link */
};

struct tc_msg_plan {
    uint8_t session[TC_SESSION_ID_SIZE];
    uint8_t nonce[TC_NONCE_SIZE];
    struct tc_destination to;
    uint32_t epoch;
    uint32_t rank; /* the receiver's own */
    uint8_t trees; /* 1 .. TC_TREES_MAX */
    struct tc_msg_row rows[TC_TREES_MAX];
    char why[TC_WHY_MAX]; /* it has changed, for people; "" in the first */
    enum tc_signed_by signed_by;
    uint8_t signature[TC_SIGNATURE_SIZE];
};

struct tc_msg_progress {
    uint32_t epoch;
    uint8_t state;     /* enum tc_agent_state */
    uint32_t chunks;   /* verified and in place */
    uint64_t bytes;    /* the same in bytes */
    uint64_t sent;     /* chunk bytes given to children */
    uint64_t adopted;  /* of bytes, those that were here before the session */
    uint64_t compared; /* bytes looked for in what is here: rises while nothing else may */
    uint8_t cause;     /* enum tc_cause: the limit of its own that it works at, if any */
    uint8_t trees;     /* 0 before PLAN */
    struct {
        uint32_t held;     /* chunks of this tree, verified and in place */
        uint64_t received; /* chunk bytes that this tree's parents have brought */
        uint64_t sent;     /* chunk bytes given to children in this tree */
        uint32_t waiting;  /* ms since its parent brought a byte, or came; 0: nothing is wanted of it */
    } tree[TC_TREES_MAX];
};

struct tc_msg_why { /* REFUSE, FAILED, ABORT */
    uint16_t reason;
    char text[TC_ERR_TEXT];
};

struct tc_msg_complaint { /* an agent's parent does not deliver */
    uint32_t epoch;       /* of the plan that it was made in */
    uint8_t tree;
    uint32_t rank;   /* the parent */
    uint16_t reason; /* enum tc_reason */
};

struct tc_msg_want { /* WANT, CANCEL: chunk page * 64 + i is bit i */
    uint32_t page;
    uint64_t chunks;
};

enum tc_form { TC_FORM_PLAIN, TC_FORM_ZSTD };

struct tc_msg_chunk {
    uint32_t index;
    uint32_t length; /* plain bytes */
    enum tc_form form;
    const uint8_t *payload; /* borrowed */
    size_t payload_size;
};

struct tc_message {
    uint8_t type;
    union {
        struct tc_msg_hello hello;
        struct tc_msg_offer offer;
        struct {
            uint32_t flags;
        } ready;
        struct tc_msg_why why;
        struct tc_msg_plan plan;
        struct tc_msg_progress progress;
        struct tc_msg_complaint complaint;
        struct {
            uint8_t state;
            struct tc_digest digest;
        } done;
        struct tc_page page;
        struct tc_msg_want want;
        struct tc_msg_chunk chunk;
    };
};

/* "PAGE"; "message 77" is "unknown". */
const char *tc_message_name(uint8_t type);

/* The longest body of this type; 0 for a type that does not exist. */
uint32_t tc_message_limit(uint8_t type);

/* The body as one new blob (not for CHUNK: its head is tc_chunk_head). signer signs OFFER and PLAN when not NULL, as
 * what their signed_by says (TC_SIGNED_NOT: the origin). NULL and TC_E_NOMEM, or TC_E_LIMIT for a body beyond its limit. */
struct tc_blob *tc_message_pack(const struct tc_message *message, struct tc_signer *signer, struct tc_err *err);

/* Fill message from a body; what it borrows lives as long as body. TC_E_PROTOCOL names the message. */
int tc_message_unpack(struct tc_message *message, uint8_t type, const void *body, size_t size, struct tc_err *err);

/* Check the signature of an OFFER or PLAN body: the origin's, TC_E_AUTH; or the session's own, which need not be there,
 * TC_E_INTEGRITY. */
int tc_message_check_origin(uint8_t type, const void *body, size_t size, struct tc_verifier *origin,
                            struct tc_err *err);
int tc_message_check_session(uint8_t type, const void *body, size_t size, struct tc_verifier *session,
                             struct tc_err *err);

/* Child i < child_count of an unpacked row. */
struct tc_msg_link tc_msg_row_child(const struct tc_msg_row *row, unsigned i);

/* The 12 bytes before a chunk's payload. */
void tc_chunk_head(uint8_t head[TC_CHUNK_HEAD], uint32_t index, uint32_t length, enum tc_form form);

#endif
