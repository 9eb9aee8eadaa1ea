/* TLS with a pre-shared key, against itself and against plain OpenSSL peers that try what must not work. */
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tls.h"
#include "unit.h"

static const uint8_t key[TC_KEY_SIZE] = {7, 7, 7};
static uint8_t server_key[TC_KEY_SIZE];
static const uint8_t name[] = {'h', 'o', 's', 't'};
static enum tc_identity answer;
static unsigned lookups;
static int fds[2];
static struct tc_tls *client, *server;
static struct tc_err client_err, server_err;
static SSL_CTX *raw_context;
static SSL *raw; /* a plain OpenSSL peer on fds[1] */
static unsigned key_updates;

static enum tc_identity lookup(void *arg, const uint8_t *identity, size_t size, uint8_t out[TC_KEY_SIZE])
{
    ck_assert_ptr_eq(arg, fds);
    lookups++;
    if (size != sizeof name || memcmp(identity, name, size) != 0)
        return TC_IDENTITY_UNKNOWN;
    memcpy(out, server_key, TC_KEY_SIZE);
    return answer;
}

static void setup(void)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    memcpy(server_key, key, TC_KEY_SIZE);
    answer = TC_IDENTITY_KNOWN;
    lookups = key_updates = 0;
    client = server = NULL;
    raw = NULL;
    raw_context = NULL;
    client_err = server_err = (struct tc_err){0};
}

static void teardown(void)
{
    tc_tls_free(client);
    tc_tls_free(server);
    SSL_free(raw);
    SSL_CTX_free(raw_context);
    close(fds[0]);
    close(fds[1]);
}

static void make_both(void)
{
    client = tc_tls_client(fds[0], name, sizeof name, key, NULL);
    server = tc_tls_server(fds[1], lookup, fds, NULL);
    ck_assert(client && server);
}

static bool wants(ssize_t said)
{
    return said <= TC_TLS_WANT_READ;
}

/* Turn by turn until both are done or failed. */
static void shake(int *at_client, int *at_server)
{
    *at_client = *at_server = TC_TLS_WANT_READ;
    for (int i = 0; i < 20 && (wants(*at_client) || wants(*at_server)); i++) {
        if (wants(*at_client))
            *at_client = tc_tls_handshake(client, &client_err);
        if (wants(*at_server))
            *at_server = tc_tls_handshake(server, &server_err);
    }
}

static void both_up(void)
{
    int at_client, at_server;
    make_both();
    shake(&at_client, &at_server);
    ck_assert_msg(at_client == 0 && at_server == 0, "%s %s", client_err.text, server_err.text);
}

/* --- plain OpenSSL at fds[1] --- */

static int find_session(SSL *ssl, const unsigned char *identity, size_t size, SSL_SESSION **session)
{
    (void)identity;
    (void)size;
    static const unsigned char suite[] = {0x13, 0x01};
    *session = SSL_SESSION_new();
    SSL_SESSION_set1_master_key(*session, key, TC_KEY_SIZE);
    SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, suite));
    SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION);
    return 1;
}

static int use_session(SSL *ssl, const EVP_MD *digest, const unsigned char **identity, size_t *size,
                       SSL_SESSION **session)
{
    (void)digest;
    *identity = name;
    *size = sizeof name;
    return find_session(ssl, NULL, 0, session);
}

static void count_key_updates(int writing, int version, int type, const void *bytes, size_t size, SSL *ssl, void *arg)
{
    (void)version;
    (void)ssl;
    (void)arg;
    if (!writing && type == SSL3_RT_HANDSHAKE && size > 0 && *(const uint8_t *)bytes == SSL3_MT_KEY_UPDATE)
        key_updates++;
}

static void make_raw(const SSL_METHOD *method)
{
    raw_context = SSL_CTX_new(method);
    SSL_CTX_set_msg_callback(raw_context, count_key_updates);
    SSL_CTX_set_verify(raw_context, SSL_VERIFY_NONE, NULL);
}

static void open_raw(void)
{
    raw = SSL_new(raw_context);
    SSL_set_fd(raw, fds[1]);
    if (SSL_is_server(raw))
        SSL_set_accept_state(raw);
    else
        SSL_set_connect_state(raw);
}

/* Returns what our side said in the end; raw's last word in *at_raw. */
static int shake_raw(struct tc_tls *tls, struct tc_err *err, int *at_raw)
{
    int said = TC_TLS_WANT_READ;
    *at_raw = 0;
    for (int i = 0; i < 20 && (wants(said) || *at_raw != 1); i++) {
        if (wants(said))
            said = tc_tls_handshake(tls, err);
        if (*at_raw != 1)
            *at_raw = SSL_do_handshake(raw);
    }
    return said;
}

static void self_signed(SSL_CTX *context)
{
    EVP_PKEY *pair = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, pair);
    X509_sign(certificate, pair, EVP_sha256());
    ck_assert_int_eq(SSL_CTX_use_certificate(context, certificate), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(context, pair), 1);
    X509_free(certificate);
    EVP_PKEY_free(pair);
}

/* --- who is let in --- */

START_TEST(test_same_key)
{
    size_t size;
    char text[8];
    make_both();
    ck_assert_ptr_null(tc_tls_identity(server, &size));
    int at_client, at_server;
    shake(&at_client, &at_server);
    ck_assert_msg(at_client == 0 && at_server == 0, "%s %s", client_err.text, server_err.text);
    ck_assert_mem_eq(tc_tls_identity(server, &size), name, sizeof name);
    ck_assert_uint_eq(size, sizeof name);
    ck_assert_int_eq(tc_tls_write(client, "hello", 5, NULL), 5);
    ck_assert_uint_gt(tc_tls_unsent(client), 5);
    ck_assert_int_eq(tc_tls_flush(client, NULL), 0);
    ck_assert_uint_eq(tc_tls_unsent(client), 0);
    ck_assert_int_eq(tc_tls_read(server, text, sizeof text, NULL), 5);
    ck_assert_mem_eq(text, "hello", 5);
    ck_assert_int_eq(tc_tls_read(server, text, sizeof text, NULL), TC_TLS_WANT_READ);
    ck_assert_int_eq(tc_tls_read(client, text, sizeof text, NULL), TC_TLS_WANT_READ); /* no tickets nor anything else */
}
END_TEST

START_TEST(test_wrong_key)
{
    int at_client, at_server;
    server_key[31] ^= 1;
    make_both();
    shake(&at_client, &at_server);
    ck_assert_int_eq(at_client, -TC_E_AUTH);
    ck_assert_int_eq(at_server, -TC_E_AUTH);
}
END_TEST

START_TEST(test_unknown_identity_is_a_handshake_failure)
{
    int at_client, at_server;
    answer = TC_IDENTITY_UNKNOWN;
    make_both();
    shake(&at_client, &at_server);
    ck_assert_int_eq(at_client, -TC_E_AUTH);
    ck_assert_int_eq(at_server, -TC_E_AUTH);
    /* What the peer is told: not an error of ours. */
    ck_assert_ptr_nonnull(strstr(client_err.text, "alert handshake failure"));
    ck_assert_ptr_null(strstr(client_err.text, "internal"));
}
END_TEST

START_TEST(test_server_with_a_certificate_but_without_the_key)
{
    int at_raw;
    make_raw(TLS_server_method());
    self_signed(raw_context);
    open_raw();
    client = tc_tls_client(fds[0], name, sizeof name, key, NULL);
    ck_assert_int_eq(shake_raw(client, &client_err, &at_raw), -TC_E_NOTAGENT);
    ck_assert_int_ne(at_raw, 1);
}
END_TEST

START_TEST(test_client_without_a_key)
{
    int at_raw;
    make_raw(TLS_client_method());
    if (_i == 1)
        SSL_CTX_set_max_proto_version(raw_context, TLS1_2_VERSION);
    open_raw();
    server = tc_tls_server(fds[0], lookup, fds, NULL);
    ck_assert_int_eq(shake_raw(server, &server_err, &at_raw), -TC_E_AUTH);
    ck_assert_int_ne(at_raw, 1);
    ck_assert_uint_eq(lookups, 0);
}
END_TEST

START_TEST(test_default_suites_of_the_peer)
{
    /* SHA-384 suites come first by default and do not go with a SHA-256 key. */
    int at_raw;
    make_raw(_i == 0 ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_psk_find_session_callback(raw_context, find_session);
    SSL_CTX_set_psk_use_session_callback(raw_context, use_session);
    open_raw();
    struct tc_tls *tls =
        _i == 0 ? tc_tls_client(fds[0], name, sizeof name, key, NULL) : tc_tls_server(fds[0], lookup, fds, NULL);
    int said = shake_raw(tls, &client_err, &at_raw);
    ck_assert_msg(said == 0 && at_raw == 1, "%s", client_err.text);
    ck_assert_str_eq(SSL_get_cipher_name(raw), "TLS_AES_128_GCM_SHA256");
    tc_tls_free(tls);
}
END_TEST

START_TEST(test_identity_that_comes_late)
{
    int at_client, at_server;
    answer = TC_IDENTITY_WAIT;
    make_both();
    ck_assert_int_eq(tc_tls_handshake(client, NULL), TC_TLS_WANT_READ);
    for (unsigned i = 1; i < 4; i++) {
        ck_assert_int_eq(tc_tls_handshake(server, NULL), TC_TLS_WANT_IDENTITY);
        ck_assert_uint_eq(lookups, i);
    }
    answer = _i == 0 ? TC_IDENTITY_KNOWN : TC_IDENTITY_UNKNOWN;
    shake(&at_client, &at_server);
    ck_assert_int_eq(at_server, _i == 0 ? 0 : -TC_E_AUTH);
    ck_assert_int_eq(at_client, at_server);
}
END_TEST

START_TEST(test_identity_of_wrong_length)
{
    uint8_t longest[TC_IDENTITY_MAX + 1] = {0};
    struct tc_err err = {0};
    ck_assert_ptr_null(tc_tls_client(fds[0], longest, sizeof longest, key, &err));
    ck_assert_int_eq(err.reason, TC_E_USAGE);
    ck_assert_ptr_null(tc_tls_client(fds[0], longest, 0, key, NULL));
    client = tc_tls_client(fds[0], longest, TC_IDENTITY_MAX, key, NULL);
    ck_assert_ptr_nonnull(client);
}
END_TEST

/* --- ends --- */

START_TEST(test_end_with_and_without_notice)
{
    char byte;
    both_up();
    if (_i == 0) {
        tc_tls_end(client);
        ck_assert_int_eq(tc_tls_flush(client, NULL), 0);
    }
    shutdown(fds[0], SHUT_WR);
    ck_assert_int_eq(tc_tls_read(server, &byte, 1, &server_err), -TC_E_CLOSED);
    ck_assert_int_eq(strstr(server_err.text, "without saying so") == NULL, _i == 0);
}
END_TEST

START_TEST(test_garbage_and_altered_records)
{
    uint8_t bytes[4096];
    both_up();
    tc_tls_write(client, "some text", 9, NULL);
    tc_tls_flush(client, NULL);
    ssize_t size = recv(fds[1], bytes, sizeof bytes, 0); /* off the wire, and on again */
    ck_assert_int_gt(size, 9);
    bytes[_i == 0 ? size - 1 : 0] ^= 0x80;
    ck_assert_int_eq(send(fds[0], bytes, (size_t)size, 0), size);
    ck_assert_int_eq(tc_tls_read(server, bytes, sizeof bytes, &server_err), _i == 0 ? -TC_E_INTEGRITY : -TC_E_PROTOCOL);
}
END_TEST

START_TEST(test_send_to_a_closed_peer)
{
    both_up();
    tc_tls_write(client, "x", 1, NULL);
    close(fds[1]);
    fds[1] = -1;
    ck_assert_int_eq(tc_tls_flush(client, &client_err), -TC_E_CLOSED);
    ck_assert_int_eq(tc_tls_write(client, "x", 1, NULL), -TC_E_CLOSED);
}
END_TEST

/* --- bytes --- */

START_TEST(test_nothing_stays_behind_in_the_library)
{
    /* The whole record leaves the socket with the first small read; the rest must come though the socket is silent. */
    uint8_t bytes[16384], back[16384];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 13);
    both_up();
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(tc_tls_write(client, bytes, sizeof bytes, NULL), sizeof bytes);
    ck_assert_int_eq(tc_tls_flush(client, NULL), 0);
    for (int i = 0; i < 3; i++) {
        for (size_t at = 0; at < sizeof back;) {
            ssize_t got = tc_tls_read(server, back + at, sizeof back - at < 100 ? sizeof back - at : 100, NULL);
            ck_assert_int_gt(got, 0);
            at += (size_t)got;
            struct pollfd silent = {.fd = fds[1], .events = POLLIN};
            ck_assert_int_eq(poll(&silent, 1, 0), 0);
        }
        ck_assert_mem_eq(bytes, back, sizeof back);
    }
    ck_assert_int_eq(tc_tls_read(server, back, sizeof back, NULL), TC_TLS_WANT_READ);
}
END_TEST

static size_t fill(uint8_t *bytes, size_t size)
{
    size_t sent = 0;
    for (;;) {
        ssize_t done = tc_tls_write(client, bytes, size, NULL);
        if (done == TC_TLS_WANT_WRITE)
            return sent;
        ck_assert_int_gt(done, 0);
        sent += (size_t)done;
    }
}

START_TEST(test_a_peer_that_does_not_read_bounds_what_is_gathered)
{
    static uint8_t bytes[300000], back[300000];
    memset(bytes, 5, sizeof bytes);
    both_up();
    size_t sent = fill(bytes, sizeof bytes);
    ck_assert_uint_gt(tc_tls_unsent(client), 0);
    ck_assert_uint_le(tc_tls_unsent(client), TC_TLS_GATHER + 1024);
    ck_assert_int_eq(tc_tls_flush(client, NULL), TC_TLS_WANT_WRITE);
    size_t received = 0;
    while (received < sent) {
        ssize_t got = tc_tls_read(server, back, sizeof back, NULL);
        if (got == TC_TLS_WANT_READ)
            tc_tls_flush(client, NULL);
        else
            received += (size_t)got;
        ck_assert(got > 0 || got == TC_TLS_WANT_READ);
    }
    ck_assert_uint_eq(received, sent);
    ck_assert_int_eq(tc_tls_flush(client, NULL), 0);
}
END_TEST

START_TEST(test_sending_key_is_renewed)
{
    static uint8_t bytes[50000], back[50000];
    int at_raw;
    unsigned rounds = 20, records = 0;
    make_raw(TLS_server_method());
    SSL_CTX_set_psk_find_session_callback(raw_context, find_session);
    open_raw();
    client = tc_tls_client(fds[0], name, sizeof name, key, NULL);
    ck_assert_int_eq(shake_raw(client, &client_err, &at_raw), 0);
    tc_tls_set_rekey(client, 3);
    for (unsigned i = 0; i < rounds; i++) {
        memset(bytes, (int)i, sizeof bytes);
        ck_assert_int_eq(tc_tls_write(client, bytes, sizeof bytes, NULL), sizeof bytes);
        ck_assert_int_eq(tc_tls_flush(client, NULL), 0);
        records += (sizeof bytes + 16383) / 16384;
        for (size_t at = 0, got; at < sizeof back; at += got)
            ck_assert_int_eq(SSL_read_ex(raw, back + at, sizeof back - at, &got), 1);
        ck_assert_mem_eq(bytes, back, sizeof back);
    }
    ck_assert_uint_eq(key_updates, (records - 1) / 3);
    SSL_write(raw, "fine", 4); /* the other direction has its own key and was asked for nothing */
    ck_assert_int_eq(tc_tls_read(client, back, sizeof back, NULL), 4);
}
END_TEST

START_TEST(test_key_updates_of_the_peer)
{
    char text[8];
    int at_raw;
    make_raw(TLS_client_method());
    SSL_CTX_set_psk_use_session_callback(raw_context, use_session);
    open_raw();
    server = tc_tls_server(fds[0], lookup, fds, NULL);
    ck_assert_int_eq(shake_raw(server, &server_err, &at_raw), 0);
    for (int i = 0; i < 10; i++) {
        SSL_key_update(raw, SSL_KEY_UPDATE_REQUESTED); /* asks us to renew too */
        ck_assert_int_eq(SSL_write(raw, "hello", 5), 5);
        ck_assert_int_eq(tc_tls_read(server, text, sizeof text, NULL), 5);
        ck_assert_int_eq(tc_tls_write(server, "there", 5, NULL), 5);
        ck_assert_int_eq(tc_tls_flush(server, NULL), 0);
        ck_assert_int_eq(SSL_read(raw, text, sizeof text), 5);
    }
    ck_assert_uint_eq(key_updates, 10);
}
END_TEST

/* Each takes 27 bytes and costs as much as a full record: a peer that sends nothing else is let go. */
START_TEST(test_too_many_key_updates)
{
    char text[8];
    struct tc_err err = {0};
    int at_raw;
    unsigned sent = 0;
    make_raw(TLS_client_method());
    SSL_CTX_set_psk_use_session_callback(raw_context, use_session);
    open_raw();
    server = tc_tls_server(fds[0], lookup, fds, NULL);
    ck_assert_int_eq(shake_raw(server, &server_err, &at_raw), 0);
    while (sent < 2000 && SSL_key_update(raw, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(raw) == 1)
        sent++;
    ck_assert_uint_ge(sent, 100);
    ssize_t got = TC_TLS_WANT_READ;
    for (unsigned i = 0; i < 10 && got == TC_TLS_WANT_READ; i++)
        got = tc_tls_read(server, text, sizeof text, &err);
    ck_assert_int_eq(got, -TC_E_PROTOCOL);
    ck_assert_msg(strstr(err.text, "TLS: 33 key updates or tickets for 0 bytes") != NULL, "%s", err.text);
    printf("# %u key updates: let go after 33\n", sent);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls");
    TCase *tests = tcase_create("tls");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_same_key);
    tcase_add_test(tests, test_wrong_key);
    tcase_add_test(tests, test_unknown_identity_is_a_handshake_failure);
    tcase_add_test(tests, test_server_with_a_certificate_but_without_the_key);
    tcase_add_loop_test(tests, test_client_without_a_key, 0, 2);
    tcase_add_loop_test(tests, test_default_suites_of_the_peer, 0, 2);
    tcase_add_loop_test(tests, test_identity_that_comes_late, 0, 2);
    tcase_add_test(tests, test_identity_of_wrong_length);
    tcase_add_loop_test(tests, test_end_with_and_without_notice, 0, 2);
    tcase_add_loop_test(tests, test_garbage_and_altered_records, 0, 2);
    tcase_add_test(tests, test_send_to_a_closed_peer);
    tcase_add_test(tests, test_nothing_stays_behind_in_the_library);
    tcase_add_test(tests, test_a_peer_that_does_not_read_bounds_what_is_gathered);
    tcase_add_test(tests, test_sending_key_is_renewed);
    tcase_add_test(tests, test_key_updates_of_the_peer);
    tcase_add_test(tests, test_too_many_key_updates);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
