/* peer.h - a hostile peer's own treecast: TLS with a pre-shared key on plain libssl, frames, and just as much of the
 * messages as it takes to lie well. Nothing of the product is linked: what is wrong there cannot be wrong here too.
 * Blocking; ends the process when something of its own fails. */
#ifndef TC_TESTS_PEER_H
#define TC_TESTS_PEER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { HELLO = 1, OFFER, READY, REFUSE, PLAN, PROGRESS, DONE, FAILED, BYE, ABORT, COMPLAIN };
enum { PAGE = 32, WANT, CANCEL, CHUNK };
enum { AS_COORDINATOR = 1, AS_AGENT, AS_PARENT, AS_CHILD };
enum { ID = 16, KEY = 32, BODY_MOST = 5 << 20 };

#define NEED(holds)                                                     \
    do {                                                                \
        if (!(holds)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #holds); \
            exit(99);                                                   \
        }                                                               \
    } while (0)

struct bytes { /* a growing message */
    uint8_t *at;
    size_t size, capacity;
};
void put(struct bytes *out, const void *bytes, size_t size);
void put8(struct bytes *out, unsigned value);
void put16(struct bytes *out, unsigned value);
void put32(struct bytes *out, uint32_t value);
void put64(struct bytes *out, uint64_t value);
void put_text(struct bytes *out, const char *text);
uint32_t get32(const uint8_t *bytes);

/* The control links' key of a key file, by HKDF. */
void control_key(const char *path, uint8_t out[KEY]);

/* The key that belongs to an identity; false: unknown. */
typedef bool lookup(const uint8_t *identity, size_t size, uint8_t key[KEY]);

int dial(unsigned port); /* at $PEER_ADDRESS, else on loopback */
int listen_any(unsigned *port);
/* NULL when the handshake fails. */
SSL *tls_client(int fd, const void *identity, size_t size, const uint8_t key[KEY]);
SSL *tls_server(int fd, lookup *find);
void hang_up(SSL *ssl, int fd);

/* One frame; false when the peer has gone. The body is one buffer a thread. */
bool send_frame(SSL *ssl, unsigned type, const struct bytes *body);
bool receive_frame(SSL *ssl, unsigned *type, uint8_t **body, size_t *size);

void put_hello(struct bytes *out, unsigned role, const uint8_t *session, const uint8_t *link);

#endif
