/* tls.h - TLS 1.3 with an external pre-shared key over a non-blocking socket. The only module that sees libssl.
 *
 * TLS_AES_128_GCM_SHA256, X25519 (psk_dhe_ke), no certificates, no tickets, no cache. Both ends require that the
 * handshake used the key; the client checks its peer against an empty store. Used by link.c only. */
#ifndef TC_NET_TLS_H
#define TC_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "net/key.h"

#define TC_TLS_CHANNEL 32u  /* bytes of tc_tls_channel */
#define TC_IDENTITY_MAX 64u /* bytes of a PSK identity */

/* What a server knows of an identity. */
enum tc_identity { TC_IDENTITY_UNKNOWN, TC_IDENTITY_KNOWN, TC_IDENTITY_WAIT };
/* Fill key for identity; WAIT: not known yet but may be soon (asked again by tc_link_retry). */
typedef enum tc_identity tc_tls_lookup(void *arg, const uint8_t *identity, size_t size, uint8_t key[TC_KEY_SIZE]);

struct tc_tls;

/* One end of a connection over fd (borrowed). The key is copied. NULL on error: TC_E_NOMEM, TC_E_USAGE for an identity
 * that is empty or longer than TC_IDENTITY_MAX. */
struct tc_tls *tc_tls_client(int fd, const uint8_t *identity, size_t size, const uint8_t key[TC_KEY_SIZE],
                             struct tc_err *err);
struct tc_tls *tc_tls_server(int fd, tc_tls_lookup *lookup, void *arg, struct tc_err *err);
void tc_tls_free(struct tc_tls *tls); /* NULL allowed; clears the key */

/* Each returns bytes (> 0) or 0 done for handshake and flush, or one of these, or a negative reason with err filled:
 * TC_E_AUTH when the peer does not hold the key, TC_E_CLOSED at the end (the line says whether the peer announced it),
 * TC_E_INTEGRITY for an altered record, TC_E_PROTOCOL. A read leaves nothing behind unseen: there is more until it says
 * WANT_READ, whatever the descriptor says. A peer that renews its key, or sends tickets, far more often than there is
 * reason to fails too (TC_E_PROTOCOL): that costs it little, and much here. */
enum { TC_TLS_WANT_READ = -1001, TC_TLS_WANT_WRITE = -1002, TC_TLS_WANT_IDENTITY = -1003 };
int tc_tls_handshake(struct tc_tls *tls, struct tc_err *err);
ssize_t tc_tls_read(struct tc_tls *tls, void *bytes, size_t size, struct tc_err *err);
/* Takes bytes into TLS records and gathers these for few, large sends: what has not left stays inside (at most
 * TC_TLS_GATHER and a little) and goes with tc_tls_flush. WANT_WRITE when there is no space. */
#define TC_TLS_RECORD 16384u /* plain bytes of a full record */
#define TC_TLS_GATHER (64u * 1024)
ssize_t tc_tls_write(struct tc_tls *tls, const void *bytes, size_t size, struct tc_err *err);
int tc_tls_flush(struct tc_tls *tls, struct tc_err *err);
size_t tc_tls_unsent(const struct tc_tls *tls); /* bytes of records that wait for tc_tls_flush */
/* Announce the end of what this side sends (close_notify); goes with tc_tls_flush. */
void tc_tls_end(struct tc_tls *tls);

/* Whether the peer has shown that it holds the key, by its first message already; anybody could repeat that message, so
 * it is let in only when the handshake is done. */
bool tc_tls_proven(const struct tc_tls *tls);
/* Whether the connection was cut by a reset before the handshake was done. */
bool tc_tls_reset(const struct tc_tls *tls);
/* The identity that the handshake used: NULL before. */
const uint8_t *tc_tls_identity(const struct tc_tls *tls, size_t *size);

/* A value that only the two ends of this connection know (RFC 8446, 7.5), the same at both. TC_E_FAILED before it is up. */
int tc_tls_channel(struct tc_tls *tls, uint8_t out[TC_TLS_CHANNEL], struct tc_err *err);

/* The sending key is renewed after this many records; 2^23 (at most 128 GiB) unless set. */
void tc_tls_set_rekey(struct tc_tls *tls, uint64_t records);

#endif
