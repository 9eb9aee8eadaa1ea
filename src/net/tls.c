#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"

#define SLACK (64u * 1024)       /* over TC_TLS_GATHER: a last record, alerts, key updates */
#define AHEAD (64u * 1024)       /* bytes one recv may take */
#define REKEY_RECORDS (1u << 23) /* AES-GCM allows 2^24.5 under one key (RFC 8446, 5.5); OpenSSL does not count */
/* Handshake messages after the handshake (key updates, tickets) that a peer may send: so many, and one more for so many
 * bytes that it has sent. Each costs about as much as a record of 16 KiB and takes 27 bytes. Honest ones send one in at
 * least 8 MiB. */
#define MESSAGES_FREE 32u
#define MESSAGE_EVERY (64u * 1024)

struct tc_tls {
    SSL *ssl;
    int fd;
    bool up, ended, at_eof;
    uint64_t messages, received; /* such messages, plain bytes */
    int error;                   /* errno of the send or recv that failed; 0: none */
    uint8_t *gather;             /* there only while something is in it: idle links stay small */
    size_t gather_at, gather_end;
    uint8_t *ahead; /* records that have come, for OpenSSL to take; there only while something is in it */
    size_t ahead_at, ahead_end;
    uint64_t records, rekey_after;
    tc_tls_lookup *lookup; /* server */
    void *lookup_arg;
    bool known; /* identity and key hold */
    uint8_t identity[TC_IDENTITY_MAX];
    size_t identity_size;
    uint8_t key[TC_KEY_SIZE];
};

/* --- records to and from the socket: a BIO that sends many records with one call --- */

static void send_gathered(struct tc_tls *tls)
{
    while (!tls->error && tls->gather_at < tls->gather_end) {
        ssize_t sent = send(tls->fd, tls->gather + tls->gather_at, tls->gather_end - tls->gather_at, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            tls->error = errno == EAGAIN ? 0 : errno;
            return;
        }
        tls->gather_at += (size_t)sent;
    }
    tls->gather_at = tls->gather_end = 0;
}

static bool gather_capacity(struct tc_tls *tls, size_t size, size_t most)
{
    if (tls->gather_end + size <= most)
        return true;
    send_gathered(tls); /* all or none makes space: a full socket has work enough */
    return tls->gather_end + size <= most;
}

static int bio_write(BIO *bio, const char *bytes, int size)
{
    struct tc_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!tls->gather && !(tls->gather = malloc(TC_TLS_GATHER + SLACK)))
        tls->error = ENOMEM;
    /* A failed send shows in tc_tls_flush; for OpenSSL it is "later", or it would stop reading what still comes in. */
    if (!tls->gather || !gather_capacity(tls, (size_t)size, TC_TLS_GATHER + SLACK)) {
        BIO_set_retry_write(bio);
        return -1;
    }
    memcpy(tls->gather + tls->gather_end, bytes, (size_t)size);
    tls->gather_end += (size_t)size;
    return size;
}

static ssize_t receive(struct tc_tls *tls, void *bytes, size_t size)
{
    ssize_t got;
    do
        got = recv(tls->fd, bytes, size, 0);
    while (got < 0 && errno == EINTR);
    tls->at_eof = got == 0;
    if (got < 0 && errno != EAGAIN)
        tls->error = errno;
    return got;
}

static bool too_many_messages(const struct tc_tls *tls)
{
    return tls->messages > MESSAGES_FREE + tls->received / MESSAGE_EVERY;
}

static void count_message(int sent, int version, int kind, const void *bytes, size_t size, SSL *ssl, void *arg)
{
    (void)version, (void)bytes, (void)size, (void)arg;
    struct tc_tls *tls = SSL_get_app_data(ssl);
    tls->messages += !sent && kind == SSL3_RT_HANDSHAKE && tls->up;
}

/* OpenSSL asks for 5 bytes and then for the rest of one record. Its own read-ahead moves all that it holds to the front
 * of its buffer for every record, which costs as much as the decryption; hence this one. An outsider gets none. */
static int bio_read(BIO *bio, char *bytes, int size)
{
    struct tc_tls *tls = BIO_get_data(bio);
    ssize_t got;
    BIO_clear_retry_flags(bio);
    if (too_many_messages(tls)) { /* OpenSSL would go on with the next for as long as they come; tc_tls_read says why */
        BIO_set_retry_read(bio);
        return -1;
    }
    if (tls->up && !tls->ahead)
        tls->ahead = malloc(AHEAD);
    if (!tls->ahead) {
        got = receive(tls, bytes, (size_t)size);
    } else if (tls->ahead_at < tls->ahead_end) {
        got = 1;
    } else {
        got = receive(tls, tls->ahead, AHEAD);
        tls->ahead_at = 0;
        tls->ahead_end = got > 0 ? (size_t)got : 0;
    }
    if (got <= 0) {
        if (got < 0 && !tls->error)
            BIO_set_retry_read(bio);
        free(tls->ahead);
        tls->ahead = NULL;
        return (int)got;
    }
    if (!tls->ahead)
        return (int)got;
    size_t here = tls->ahead_end - tls->ahead_at, count = here < (size_t)size ? here : (size_t)size;
    memcpy(bytes, tls->ahead + tls->ahead_at, count);
    tls->ahead_at += count;
    return (int)count;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    struct tc_tls *tls = BIO_get_data(bio);
    if (command == BIO_CTRL_EOF)
        return tls->at_eof;
    return command == BIO_CTRL_FLUSH;
}

/* --- who may come in --- */

static SSL_SESSION *session_of(SSL *ssl, const uint8_t key[TC_KEY_SIZE])
{
    static const unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
    SSL_SESSION *session = SSL_SESSION_new();
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
    if (session && cipher && SSL_SESSION_set1_master_key(session, key, TC_KEY_SIZE) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

static int client_key(SSL *ssl, const EVP_MD *digest, const unsigned char **id, size_t *size, SSL_SESSION **session)
{
    struct tc_tls *tls = SSL_get_app_data(ssl);
    (void)digest; /* the key's hash is the one suite's; after a retry request it is the same */
    *session = session_of(ssl, tls->key);
    *id = tls->identity;
    *size = tls->identity_size;
    return *session != NULL;
}

/* The first identity that the ClientHello offers, with the owner's answer. Runs again when the handshake goes on. */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
    (void)arg;
    struct tc_tls *tls = SSL_get_app_data(ssl);
    const unsigned char *bytes;
    size_t size;
    *alert = SSL_AD_HANDSHAKE_FAILURE;
    tls->known = false;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk, &bytes, &size) != 1)
        return SSL_CLIENT_HELLO_SUCCESS; /* no key: fails for want of a certificate */
    struct tc_buf buf = tc_buf_reader(bytes, size);
    tc_buf_get16(&buf); /* length of the list; OpenSSL checks the extension as a whole */
    size_t length = tc_buf_get16(&buf);
    const uint8_t *identity = tc_buf_take(&buf, length);
    if (!identity || length == 0 || length > TC_IDENTITY_MAX)
        return SSL_CLIENT_HELLO_SUCCESS;
    switch (tls->lookup(tls->lookup_arg, identity, length, tls->key)) {
    case TC_IDENTITY_WAIT:
        return SSL_CLIENT_HELLO_RETRY;
    case TC_IDENTITY_KNOWN:
        memcpy(tls->identity, identity, length);
        tls->identity_size = length;
        tls->known = true;
        return SSL_CLIENT_HELLO_SUCCESS;
    default:
        return SSL_CLIENT_HELLO_SUCCESS;
    }
}

/* An unknown identity is success without a session: 0 would be an internal error, which OpenSSL tells the peer. */
static int server_key(SSL *ssl, const unsigned char *identity, size_t size, SSL_SESSION **session)
{
    struct tc_tls *tls = SSL_get_app_data(ssl);
    *session = NULL;
    if (!tls->known || size != tls->identity_size || memcmp(identity, tls->identity, size) != 0)
        return 1;
    *session = session_of(ssl, tls->key);
    return *session != NULL;
}

/* --- contexts: made once, never changed afterwards, so all threads and nodes of a process may share them; one costs
 * about a millisecond, too much for each link --- */

static struct {
    pthread_once_t once;
    SSL_CTX *client, *server;
    BIO_METHOD *method;
} shared = {.once = PTHREAD_ONCE_INIT};

static SSL_CTX *make_context(const SSL_METHOD *method)
{
    int groups[] = {NID_X25519};
    SSL_CTX *context = SSL_CTX_new(method);
    if (!context)
        return NULL;
    if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups(context, groups, 1) != 1 || SSL_CTX_set_num_tickets(context, 0) != 1) {
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_clear_options(context, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
    SSL_CTX_set_msg_callback(context, count_message);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    return context;
}

static void make_shared(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "treecast");
    if (method && BIO_meth_set_write(method, bio_write) == 1 && BIO_meth_set_read(method, bio_read) == 1 &&
        BIO_meth_set_ctrl(method, bio_ctrl) == 1)
        shared.method = method;
    else
        BIO_meth_free(method);
    shared.client = make_context(TLS_client_method());
    if (shared.client) {
        /* With the empty store of a new context no certificate passes. Without this a server that lacks the key could
         * show any certificate and be taken for the peer. */
        SSL_CTX_set_verify(shared.client, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_psk_use_session_callback(shared.client, client_key);
    }
    shared.server = make_context(TLS_server_method());
    if (shared.server) {
        SSL_CTX_set_client_hello_cb(shared.server, on_client_hello, NULL);
        SSL_CTX_set_psk_find_session_callback(shared.server, server_key);
    }
}

static struct tc_tls *make(int fd, bool server, struct tc_err *err)
{
    pthread_once(&shared.once, make_shared);
    SSL_CTX *context = server ? shared.server : shared.client;
    struct tc_tls *tls = calloc(1, sizeof *tls);
    BIO *bio = shared.method ? BIO_new(shared.method) : NULL;
    if (tls && context && bio)
        tls->ssl = SSL_new(context);
    if (!tls || !tls->ssl) {
        BIO_free(bio);
        free(tls);
        tc_fail(err, TC_E_NOMEM, "TLS: out of memory");
        return NULL;
    }
    tls->fd = fd;
    tls->rekey_after = REKEY_RECORDS;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    if (server)
        SSL_set_accept_state(tls->ssl);
    else
        SSL_set_connect_state(tls->ssl);
    return tls;
}

struct tc_tls *tc_tls_client(int fd, const uint8_t *identity, size_t size, const uint8_t key[TC_KEY_SIZE],
                             struct tc_err *err)
{
    if (size == 0 || size > TC_IDENTITY_MAX) {
        tc_fail(err, TC_E_USAGE, "TLS identity of %zu bytes; 1 to %u are allowed", size, TC_IDENTITY_MAX);
        return NULL;
    }
    struct tc_tls *tls = make(fd, false, err);
    if (!tls)
        return NULL;
    memcpy(tls->identity, identity, size);
    tls->identity_size = size;
    memcpy(tls->key, key, TC_KEY_SIZE);
    return tls;
}

struct tc_tls *tc_tls_server(int fd, tc_tls_lookup *lookup, void *arg, struct tc_err *err)
{
    struct tc_tls *tls = make(fd, true, err);
    if (!tls)
        return NULL;
    tls->lookup = lookup;
    tls->lookup_arg = arg;
    return tls;
}

void tc_tls_free(struct tc_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    free(tls->gather);
    free(tls->ahead);
    OPENSSL_cleanse(tls->key, sizeof tls->key);
    free(tls);
}

/* --- what OpenSSL said, in our words --- */

static int closed(const struct tc_tls *tls, struct tc_err *err)
{
    if (tls->error)
        return tc_fail_errno(err, tls->error, "connection lost");
    return tc_fail(err, TC_E_CLOSED, "peer closed the connection%s",
                   tls->up ? " without saying so" : " in the handshake");
}

/* To a client: what tells that there is another program at the other end, and not an agent with another key: bytes that are no TLS (a
 * web server's or an ssh server's), older TLS, a certificate. */
static const char *another_program(unsigned long code)
{
    switch (ERR_GET_REASON(code)) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_PACKET_LENGTH:
        return "not a treecast agent, or one without a key: what it says is not TLS";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        return "not a treecast agent: it speaks an older TLS";
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return "not a treecast agent: a TLS server with a certificate";
    default:
        return NULL;
    }
}

static int translate(struct tc_tls *tls, int result, struct tc_err *err)
{
    int kind = SSL_get_error(tls->ssl, result);
    unsigned long code = ERR_peek_error();
    const char *words = ERR_reason_error_string(code);
    ERR_clear_error();
    switch (kind) {
    case SSL_ERROR_WANT_READ:
        return TC_TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TC_TLS_WANT_WRITE;
    case SSL_ERROR_WANT_CLIENT_HELLO_CB:
        return TC_TLS_WANT_IDENTITY;
    case SSL_ERROR_ZERO_RETURN:
        return tc_fail(err, TC_E_CLOSED, "peer closed the connection");
    case SSL_ERROR_SYSCALL:
        return closed(tls, err);
    default:
        break;
    }
    if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return closed(tls, err);
    if (!words)
        words = "no reason given";
    const char *other = tls->up || SSL_is_server(tls->ssl) ? NULL : another_program(code);
    if (other)
        return tc_fail(err, TC_E_NOTAGENT, "%s", other);
    if (!tls->up)
        return tc_fail(err, TC_E_AUTH, "peer does not hold the same key (%s)", words);
    if (ERR_GET_REASON(code) == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC)
        return tc_fail(err, TC_E_INTEGRITY, "bytes were altered on their way (%s)", words);
    return tc_fail(err, TC_E_PROTOCOL, "TLS: %s", words);
}

/* --- handshake, read, write --- */

static bool failed(int said)
{
    return said < 0 && said > TC_TLS_WANT_READ; /* a reason, not one of the wants */
}

int tc_tls_handshake(struct tc_tls *tls, struct tc_err *err)
{
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    int said = result == 1 ? 0 : translate(tls, result, err);
    int flushed = tc_tls_flush(tls, err); /* an alert too */
    if (failed(said))
        return said;
    if (failed(flushed) || (said == TC_TLS_WANT_READ && flushed == TC_TLS_WANT_WRITE))
        return flushed;
    if (said != 0)
        return said;
    if (!SSL_session_reused(tls->ssl)) /* the one proof that the key was used; a certificate is no substitute */
        return tc_fail(err, TC_E_NOTAGENT,
                       "not a treecast agent: a TLS server with a certificate and without this key");
    /* Outsiders' buffers go after every record; one that is let in keeps its 34 KiB, or each record would allocate anew. */
    SSL_clear_mode(tls->ssl, SSL_MODE_RELEASE_BUFFERS);
    tls->up = true;
    return 0;
}

ssize_t tc_tls_read(struct tc_tls *tls, void *bytes, size_t size, struct tc_err *err)
{
    size_t got;
    ERR_clear_error();
    if (SSL_read_ex(tls->ssl, bytes, size, &got) == 1) {
        tls->received += got;
        return (ssize_t)got;
    }
    if (too_many_messages(tls)) {
        ERR_clear_error();
        return tc_fail(err, TC_E_PROTOCOL, "TLS: %llu key updates or tickets for %llu bytes: too many",
                       (unsigned long long)tls->messages, (unsigned long long)tls->received);
    }
    return translate(tls, 0, err);
}

/* Each direction has its own key and its sender renews it; nothing is asked of the peer. */
static bool rekey_when_due(struct tc_tls *tls)
{
    if (tls->records < tls->rekey_after)
        return true;
    if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
        return false;
    tls->records = 0;
    return true;
}

ssize_t tc_tls_write(struct tc_tls *tls, const void *bytes, size_t size, struct tc_err *err)
{
    size_t done = 0, taken;
    ERR_clear_error();
    while (done < size && gather_capacity(tls, TC_TLS_RECORD, TC_TLS_GATHER) && !tls->error) {
        if (!rekey_when_due(tls))
            return tc_fail(err, TC_E_FAILED, "TLS: the sending key cannot be renewed");
        size_t part = size - done < TC_TLS_RECORD ? size - done : TC_TLS_RECORD;
        if (SSL_write_ex(tls->ssl, (const uint8_t *)bytes + done, part, &taken) != 1) {
            int said = translate(tls, 0, done ? NULL : err);
            return done ? (ssize_t)done : said;
        }
        tls->records++;
        done += taken;
    }
    if (tls->error)
        return tc_fail_errno(err, tls->error, "connection lost");
    return done ? (ssize_t)done : TC_TLS_WANT_WRITE;
}

int tc_tls_flush(struct tc_tls *tls, struct tc_err *err)
{
    if (tls->gather_end > 0)
        send_gathered(tls);
    if (tls->error)
        return tc_fail_errno(err, tls->error, "connection lost");
    if (tls->gather_end > 0)
        return TC_TLS_WANT_WRITE;
    free(tls->gather);
    tls->gather = NULL;
    return 0;
}

size_t tc_tls_unsent(const struct tc_tls *tls)
{
    return tls->gather_end - tls->gather_at;
}

void tc_tls_end(struct tc_tls *tls)
{
    if (!tls->up || tls->ended)
        return;
    tls->ended = true;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

bool tc_tls_reset(const struct tc_tls *tls)
{
    return !tls->up && (tls->error == ECONNRESET || tls->error == EPIPE);
}

/* OpenSSL has compared the binder of a key that is known when it goes on from the ClientHello. */
bool tc_tls_proven(const struct tc_tls *tls)
{
    OSSL_HANDSHAKE_STATE state = SSL_get_state(tls->ssl);
    return tls->up || (tls->known && state != TLS_ST_BEFORE && state != TLS_ST_SR_CLNT_HELLO);
}

const uint8_t *tc_tls_identity(const struct tc_tls *tls, size_t *size)
{
    *size = tls->up ? tls->identity_size : 0;
    return tls->up ? tls->identity : NULL;
}

int tc_tls_channel(struct tc_tls *tls, uint8_t out[TC_TLS_CHANNEL], struct tc_err *err)
{
    static const char label[] = "EXPORTER-treecast-channel";
    ERR_clear_error();
    if (tls->up && SSL_export_keying_material(tls->ssl, out, TC_TLS_CHANNEL, label, sizeof label - 1, NULL, 0, 0) == 1)
        return 0;
    ERR_clear_error();
    return tc_fail(err, TC_E_FAILED, "TLS: no name for the channel");
}

void tc_tls_set_rekey(struct tc_tls *tls, uint64_t records)
{
    tls->rekey_after = records;
}
