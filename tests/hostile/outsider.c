/* Peers without the key, at the far end of a dial: outsider HOW, where HOW is certificate (a TLS 1.3 server with a
 * certificate of its own), tls12 (the same with TLS 1.2), wrong-key (TLS 1.3 with a pre-shared key that is another), plain
 * (frames without TLS). Prints its port, then for each connection until its standard input ends how many application
 * bytes came in and went out. */
#include <openssl/x509.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

static bool any_key(const uint8_t *identity, size_t size, uint8_t key[KEY])
{
    (void)identity;
    (void)size;
    memset(key, 0x5a, KEY);
    return true;
}

static SSL *certified(int fd, int version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    X509 *certificate = X509_new();
    NEED(context && key && certificate);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const uint8_t *)"localhost", -1,
                               -1, 0);
    NEED(X509_sign(certificate, key, EVP_sha256()) > 0 && SSL_CTX_use_certificate(context, certificate) == 1 &&
         SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_set_min_proto_version(context, version) == 1 &&
         SSL_CTX_set_max_proto_version(context, version) == 1);
    SSL *ssl = SSL_new(context);
    NEED(ssl && SSL_set_fd(ssl, fd) == 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    SSL_CTX_free(context);
    if (SSL_accept(ssl) == 1)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

/* Talk as an agent would, and hear what the other says. */
static void talk_tls(SSL *ssl, size_t *in, size_t *out)
{
    struct bytes hello = {0};
    unsigned type;
    uint8_t *body;
    size_t size;
    put_hello(&hello, AS_AGENT, NULL, NULL);
    *out += send_frame(ssl, HELLO, &hello) ? hello.size : 0;
    while (receive_frame(ssl, &type, &body, &size))
        *in += 8 + size;
    free(hello.at);
}

static void talk_plain(int fd, size_t *in)
{
    uint8_t bytes[4096];
    send(fd, "\0\0\0\0\1\0\0\0", 8, MSG_NOSIGNAL);
    for (ssize_t got; (got = recv(fd, bytes, sizeof bytes, 0)) > 0;)
        *in += (size_t)got;
}

int main(int argc, char **argv)
{
    unsigned port;
    int listener = listen_any(&port);
    NEED(argc == 2);
    printf("%u\n", port);
    fflush(stdout);
    for (;;) {
        struct pollfd ready[2] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
        NEED(poll(ready, 2, 60000) > 0);
        if (!ready[1].revents)
            return 0;
        int fd = accept(listener, NULL, NULL);
        size_t in = 0, out = 0;
        SSL *ssl = NULL;
        if (strcmp(argv[1], "wrong-key") == 0)
            ssl = tls_server(fd, any_key);
        else if (strcmp(argv[1], "plain") != 0)
            ssl = certified(fd, strcmp(argv[1], "tls12") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION);
        else
            talk_plain(fd, &in);
        if (ssl)
            talk_tls(ssl, &in, &out);
        printf("%zu in %zu out\n", in, out);
        fflush(stdout);
        hang_up(ssl, fd);
    }
}
