#include "peer.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/kdf.h>
#include <openssl/core_names.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

void put(struct bytes *out, const void *bytes, size_t size)
{
    if (out->size + size > out->capacity) {
        out->capacity = 2 * (out->size + size) + 256;
        NEED((out->at = realloc(out->at, out->capacity)));
    }
    if (size)
        memcpy(out->at + out->size, bytes, size);
    out->size += size;
}

void put8(struct bytes *out, unsigned value)
{
    put(out, &(uint8_t){(uint8_t)value}, 1);
}

void put16(struct bytes *out, unsigned value)
{
    put(out, &(uint16_t){htons((uint16_t)value)}, 2);
}

void put32(struct bytes *out, uint32_t value)
{
    put(out, &(uint32_t){htonl(value)}, 4);
}

void put64(struct bytes *out, uint64_t value)
{
    put32(out, (uint32_t)(value >> 32));
    put32(out, (uint32_t)value);
}

void put_text(struct bytes *out, const char *text)
{
    put16(out, (unsigned)strlen(text));
    put(out, text, strlen(text));
}

uint32_t get32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, 4);
    return ntohl(value);
}

static void group_key(const char *path, uint8_t out[KEY])
{
    char line[128];
    FILE *file = fopen(path, "r");
    NEED(file && fgets(line, sizeof line, file) && fgets(line, sizeof line, file) && strncmp(line, "group ", 6) == 0);
    for (unsigned i = 0; i < KEY; i++)
        NEED(sscanf(line + 6 + 2 * i, "%2hhx", &out[i]) == 1);
    fclose(file);
}

void control_key(const char *path, uint8_t out[KEY])
{
    uint8_t group[KEY];
    group_key(path, group);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA256"}, 0),
                               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, group, KEY),
                               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (char[]){"treecast 1"}, 10),
                               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (char[]){"control"}, 7),
                               OSSL_PARAM_construct_end()};
    NEED(context && EVP_KDF_derive(context, out, KEY, parameters) == 1);
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
}

static void patience(int fd)
{
    struct timeval limit = {.tv_sec = 40};
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    signal(SIGPIPE, SIG_IGN);
}

int dial(unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(0x7f000001)}};
    const char *other = getenv("PEER_ADDRESS");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    NEED(!other || inet_pton(AF_INET, other, &to.sin_addr) == 1);
    NEED(fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) == 0);
    patience(fd);
    return fd;
}

int listen_any(unsigned *port)
{
    struct sockaddr_in on = {.sin_family = AF_INET, .sin_addr = {htonl(0x7f000001)}};
    socklen_t size = sizeof on;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    NEED(fd >= 0 && bind(fd, (const struct sockaddr *)&on, sizeof on) == 0 && listen(fd, 64) == 0);
    NEED(getsockname(fd, (struct sockaddr *)&on, &size) == 0);
    patience(fd);
    *port = ntohs(on.sin_port);
    return fd;
}

/* --- TLS --- */

struct own { /* of one connection */
    const void *identity;
    size_t size;
    const uint8_t *key;
    lookup *find;
};

static SSL_SESSION *session_of(SSL *ssl, const uint8_t key[KEY])
{
    SSL_SESSION *session = SSL_SESSION_new();
    NEED(session && SSL_SESSION_set1_master_key(session, key, KEY) == 1 &&
         SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, (const uint8_t *)"\x13\x01")) == 1 &&
         SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1);
    return session;
}

static int use_key(SSL *ssl, const EVP_MD *digest, const uint8_t **identity, size_t *size, SSL_SESSION **session)
{
    const struct own *own = SSL_get_app_data(ssl);
    (void)digest;
    *identity = own->identity;
    *size = own->size;
    *session = session_of(ssl, own->key);
    return 1;
}

static int find_key(SSL *ssl, const uint8_t *identity, size_t size, SSL_SESSION **session)
{
    const struct own *own = SSL_get_app_data(ssl);
    uint8_t key[KEY];
    *session = own->find(identity, size, key) ? session_of(ssl, key) : NULL;
    return 1;
}

static SSL *tls_new(int fd, const SSL_METHOD *method, struct own *own)
{
    SSL_CTX *context = SSL_CTX_new(method);
    NEED(context && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1 && SSL_CTX_set_num_tickets(context, 0) == 1);
    SSL_CTX_set_psk_use_session_callback(context, use_key);
    SSL_CTX_set_psk_find_session_callback(context, find_key);
    SSL *ssl = SSL_new(context);
    NEED(ssl && SSL_set_fd(ssl, fd) == 1);
    SSL_CTX_free(context);
    SSL_set_app_data(ssl, own);
    return ssl;
}

SSL *tls_client(int fd, const void *identity, size_t size, const uint8_t key[KEY])
{
    struct own own = {.identity = identity, .size = size, .key = key};
    SSL *ssl = tls_new(fd, TLS_client_method(), &own);
    if (SSL_connect(ssl) == 1)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

SSL *tls_server(int fd, lookup *find)
{
    struct own own = {.find = find};
    patience(fd);
    SSL *ssl = tls_new(fd, TLS_server_method(), &own);
    if (SSL_accept(ssl) == 1)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

void hang_up(SSL *ssl, int fd)
{
    SSL_free(ssl);
    close(fd);
}

/* --- frames --- */

bool send_frame(SSL *ssl, unsigned type, const struct bytes *body)
{
    struct bytes frame = {0};
    size_t size = body ? body->size : 0, sent;
    put32(&frame, (uint32_t)size);
    put32(&frame, (uint32_t)type << 24);
    put(&frame, body ? body->at : NULL, size);
    bool good = SSL_write_ex(ssl, frame.at, frame.size, &sent) == 1;
    free(frame.at);
    return good;
}

static bool read_all(SSL *ssl, uint8_t *bytes, size_t size)
{
    for (size_t at = 0, got; at < size; at += got)
        if (SSL_read_ex(ssl, bytes + at, size - at, &got) != 1)
            return false;
    return true;
}

bool receive_frame(SSL *ssl, unsigned *type, uint8_t **body, size_t *size)
{
    static _Thread_local uint8_t *buffer;
    uint8_t head[8];
    if (!buffer)
        NEED((buffer = malloc(BODY_MOST)));
    if (!read_all(ssl, head, sizeof head))
        return false;
    *size = get32(head);
    *type = head[4];
    *body = buffer;
    NEED(*size <= BODY_MOST);
    return read_all(ssl, buffer, *size);
}

void put_hello(struct bytes *out, unsigned role, const uint8_t *session, const uint8_t *link)
{
    static const uint8_t none[ID];
    static uint8_t instance[ID];
    if (!instance[0])
        memcpy(instance, &(pid_t){getpid()}, sizeof(pid_t));
    instance[ID - 1] = 1;
    put32(out, 0x54435354);
    put16(out, 2); /* the version: from, to */
    put16(out, 2);
    put32(out, 0);
    put8(out, role);
    put(out, instance, ID);
    put(out, "the liar's nonce", ID);
    put(out, session ? session : none, ID);
    put(out, link ? link : none, ID);
    put_text(out, ""); /* where others reach it */
    put_text(out, ""); /* which host it is, for who dialled */
    put32(out, 0);
}
