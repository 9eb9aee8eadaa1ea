/* A member of the group that is not the origin: member WHAT ARGUMENT...
 *
 *   offers KEY PORT COUNT RECORDED   sessions of its own at an agent: forged, altered and replayed OFFERs and PLANs
 *   record KEY FILE                  take part in a session up to its plan; FILE.offer and FILE.plan are what was said
 *   relay KEY ATTACK                 take part, and then give the children something else (see attacks below)
 * Prints one line of figures; record and relay first print the port that they listen on. */
#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include "peer.h"

#define CONTROL "treecast control"

static uint8_t group_control[KEY];

static void write_file(const char *path, const char *end, const uint8_t *bytes, size_t size)
{
    char name[4096];
    snprintf(name, sizeof name, "%s%s", path, end);
    FILE *file = fopen(name, "wb");
    NEED(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
}

static struct bytes read_file(const char *path, const char *end)
{
    char name[4096];
    struct bytes out = {0};
    uint8_t part[4096];
    snprintf(name, sizeof name, "%s%s", path, end);
    FILE *file = fopen(name, "rb");
    NEED(file);
    for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;)
        put(&out, part, got);
    fclose(file);
    return out;
}

/* --- offers --- */

static EVP_PKEY *own_key(uint8_t public_key[KEY])
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    size_t size = KEY;
    NEED(key && EVP_PKEY_get_raw_public_key(key, public_key, &size) == 1);
    return key;
}

static void sign(struct bytes *body, unsigned type, EVP_PKEY *key)
{
    struct bytes what = {0};
    uint8_t signature[64];
    size_t size = sizeof signature;
    put(&what, "treecast msg 1", 15);
    put8(&what, type);
    put(&what, body->at, body->size);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    NEED(EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
         EVP_DigestSign(context, signature, &size, what.at, what.size) == 1);
    EVP_MD_CTX_free(context);
    free(what.at);
    put8(body, 1);
    put(body, signature, size);
}

static struct bytes own_offer(const uint8_t *nonce, const uint8_t *public_key, const char *name)
{
    static const uint8_t none[ID + KEY];
    struct bytes out = {0};
    uint8_t session[ID];
    RAND_bytes(session, ID);
    put(&out, session, ID);
    put(&out, nonce, ID);
    put_text(&out, "127.0.0.1:7117"); /* whom it is for: that, the channel, and no proof of an address */
    put(&out, none, KEY);
    put(&out, none, ID + KEY);
    put_text(&out, name);
    put64(&out, 100);
    put32(&out, 65536);
    put_text(&out, "sha256-64k");
    put_text(&out, "zstd");
    put(&out, public_key, KEY);
    put32(&out, 1);
    put32(&out, 0);
    put32(&out, 0);
    put32(&out, 4);
    put(&out, "null", 4);
    return out;
}

/* Where the fields of a recorded OFFER lie: session, nonce, address, channel, proof, name, size ... */
enum { AT_NONCE = ID, AT_ADDRESS = 2 * ID + 2 };

static size_t text_size(const uint8_t *text)
{
    return (size_t)text[-2] << 8 | text[-1];
}

/* The next lie: its type; body is new. */
static unsigned lie(unsigned number, const uint8_t *nonce, const struct bytes *recorded, const struct bytes *plan,
                    struct bytes *body)
{
    uint8_t public_key[KEY], random[64];
    EVP_PKEY *key = own_key(public_key);
    size_t at_name = AT_ADDRESS + text_size(recorded->at + AT_ADDRESS) + KEY + ID + KEY + 2;
    size_t name_size = text_size(recorded->at + at_name);
    unsigned kind = number % 12, type = OFFER;
    RAND_bytes(random, sizeof random);
    if (kind >= 4 && kind <= 9) {
        put(body, recorded->at, recorded->size);
        if (kind != 4)
            memcpy(body->at + AT_NONCE, nonce, ID);
    } else if (kind != 10) {
        *body = own_offer(nonce, public_key, "planted");
    }
    switch (kind) {
    case 0: /* unsigned */
        put8(body, 0);
        break;
    case 1: /* with a signature that is none */
        put8(body, 1);
        put(body, random, 64);
        break;
    case 2: /* with one of somebody else */
        sign(body, OFFER, key);
        break;
    case 3: /* with the origin's for something else */
        put8(body, 1);
        put(body, recorded->at + recorded->size - 64, 64);
        break;
    case 5: /* recorded (4), for this nonce (5), and then another name, size, key or one bit (9) */
        break;
    case 6:
        body->at[at_name] = 'X';
        break;
    case 7:
        body->at[at_name + name_size + random[0] % 8] ^= 1;
        break;
    case 8:
        memcpy(body->at + at_name + name_size + 8 + 4 + 2 + 10 + 2 + 4, public_key, KEY);
        break;
    case 9:
        body->at[(random[0] << 8 | random[1]) % body->size] ^= (uint8_t)(1 << random[2] % 8);
        break;
    case 10: /* a plan without an offer */
        put(body, plan->at, plan->size);
        type = PLAN;
        break;
    default:
        break;
    }
    if (kind == 11) { /* no flag, no signature */
        body->size -= random[0] % 40;
    }
    EVP_PKEY_free(key);
    return type;
}

static int offers(char **words)
{
    unsigned port = (unsigned)atoi(words[1]), count = (unsigned)atoi(words[2]);
    struct bytes recorded = read_file(words[3], ".offer"), plan = read_file(words[3], ".plan");
    unsigned accepted = 0, refused = 0, closed = 0, type;
    uint8_t *body;
    size_t size;
    for (unsigned i = 0; i < count; i++) {
        int fd = dial(port);
        SSL *ssl = tls_client(fd, CONTROL, sizeof CONTROL - 1, group_control);
        NEED(ssl);
        struct bytes hello = {0}, told = {0};
        put_hello(&hello, AS_COORDINATOR, NULL, NULL);
        NEED(send_frame(ssl, HELLO, &hello) && receive_frame(ssl, &type, &body, &size) && type == HELLO);
        type = lie(i, body + 4 + 2 + 2 + 4 + 1 + ID, &recorded, &plan, &told);
        NEED(send_frame(ssl, type, &told));
        bool was_accepted = false, was_refused = false;
        while (receive_frame(ssl, &type, &body, &size)) {
            was_accepted |= type == READY || type == DONE;
            was_refused |= type == REFUSE || type == FAILED;
        }
        accepted += was_accepted;
        refused += was_refused && !was_accepted;
        closed += !was_refused && !was_accepted;
        hang_up(ssl, fd);
        free(hello.at);
        free(told.at);
    }
    printf("%u tries: %u accepted, %u refused, %u closed\n", count, accepted, refused, closed);
    return 0;
}

/* --- taking part --- */

static struct link {
    uint8_t id[ID], key[KEY];
    bool child;
} links[64];
static unsigned link_count, attack;
static uint8_t session_id[ID];
static struct bytes true_page, true_chunk; /* as the coordinator gave them */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static bool planned, over;
static unsigned attacked, dropped;

static bool find_control(const uint8_t *identity, size_t size, uint8_t key[KEY])
{
    memcpy(key, group_control, KEY);
    return size == sizeof CONTROL - 1 && memcmp(identity, CONTROL, size) == 0;
}

static const struct link *link_of(const uint8_t *id)
{
    for (unsigned i = 0; i < link_count; i++)
        if (memcmp(links[i].id, id, ID) == 0)
            return &links[i];
    return NULL;
}

static bool find_link(const uint8_t *identity, size_t size, uint8_t key[KEY])
{
    if (find_control(identity, size, key))
        return true;
    pthread_mutex_lock(&lock);
    while (!planned && !over)
        pthread_cond_wait(&news, &lock);
    const struct link *link = size == 1 + 2 * ID ? link_of(identity + 1 + ID) : NULL;
    if (link)
        memcpy(key, link->key, KEY);
    pthread_mutex_unlock(&lock);
    return link != NULL;
}

static size_t take_link(const uint8_t *at, bool child)
{
    struct link *link = &links[link_count++];
    NEED(link_count < 64);
    memcpy(link->id, at + 4, ID);
    memcpy(link->key, at + 4 + ID, KEY);
    link->child = child;
    return 4 + ID + KEY + 1; /* rank, id, key, flags */
}

static void take_plan(const uint8_t *body)
{
    pthread_mutex_lock(&lock);
    size_t at = AT_ADDRESS + text_size(body + AT_ADDRESS) + KEY + 4 + 4;
    unsigned trees = body[at++];
    for (unsigned t = 0; t < trees; t++) {
        at += take_link(body + at, false);
        at += 2 + ((size_t)body[at] << 8 | body[at + 1]);
        unsigned children = (unsigned)body[at] << 8 | body[at + 1];
        at += 2;
        while (children-- > 0)
            at += take_link(body + at, true);
    }
    planned = true;
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
}

/* From the coordinator: everything it gives. */
static void as_child(SSL *ssl, const uint8_t *id)
{
    struct bytes hello = {0};
    unsigned type;
    uint8_t *body;
    size_t size;
    put_hello(&hello, AS_CHILD, session_id, id);
    NEED(send_frame(ssl, HELLO, &hello));
    while (receive_frame(ssl, &type, &body, &size)) {
        pthread_mutex_lock(&lock);
        if (type == PAGE && !true_page.size)
            put(&true_page, body, size);
        if (type == CHUNK && !true_chunk.size && get32(body) == 0)
            put(&true_chunk, body, size);
        pthread_cond_broadcast(&news);
        pthread_mutex_unlock(&lock);
        struct bytes want = {0};
        if (type == PAGE) {
            put(&want, body, 4);
            put64(&want, UINT64_MAX);
            body[4] < 64 ? (void)(want.size = 4, put64(&want, (UINT64_C(1) << body[4]) - 1)) : (void)0;
            send_frame(ssl, WANT, &want);
        }
        free(want.at);
    }
}

/* --- attacks: what a child gets in place of the page, or after it in place of chunk 0 --- */

static void a_chunk(struct bytes *out, uint32_t index, uint32_t length, uint32_t form, const void *payload, size_t size)
{
    put32(out, index);
    put32(out, length);
    put32(out, form);
    put(out, payload, size);
}

static void zeros(struct bytes *out, size_t plain)
{
    size_t capacity = ZSTD_compressBound(plain);
    uint8_t *from = calloc(1, plain), *to = malloc(capacity);
    NEED(from && to);
    size_t size = ZSTD_compress(to, capacity, from, plain, 19);
    NEED(!ZSTD_isError(size));
    put(out, to, size);
    free(from);
    free(to);
}

static bool altered_page(struct bytes *out)
{
    put(out, true_page.at, true_page.size);
    uint8_t count = true_page.at[4];
    switch (attack) {
    case 0:
        out->at[6] ^= 1; /* a digest */
        return true;
    case 1:
        out->at[out->size - 1] ^= 1; /* the signature */
        return true;
    case 2:
        out->at[0] = 0x7f; /* the index */
        return true;
    case 3:
        out->at[4] = 65; /* the count */
        return true;
    case 4:
        out->at[4] = count - 1;
        return true;
    case 5:
        out->at[5] ^= 1; /* whether it is the last */
        return true;
    case 6:
        out->size /= 2;
        return true;
    default:
        return false;
    }
}

static unsigned altered_chunk(struct bytes *out)
{
    uint32_t length = get32(true_chunk.at + 4);
    struct bytes payload = {0};
    unsigned type = CHUNK;
    put(out, true_chunk.at, true_chunk.size);
    if (attack >= 8)
        out->size = 0;
    switch (attack) {
    case 7:
        out->at[out->size - 1] ^= 1;
        break;
    case 8: /* 64 MiB of zeros in a few KiB */
        zeros(&payload, 64 << 20);
        a_chunk(out, 0, length, 1, payload.at, payload.size);
        break;
    case 9: /* two frames */
        zeros(&payload, length / 2);
        zeros(&payload, length / 2);
        a_chunk(out, 0, length, 1, payload.at, payload.size);
        break;
    case 10: /* a frame that is skipped, and one */
        put(&payload, "\x50\x2a\x4d\x18\4\0\0\0abcd", 12);
        zeros(&payload, length);
        a_chunk(out, 0, length, 1, payload.at, payload.size);
        break;
    case 11: /* half of what it must be, as it says */
        zeros(&payload, length / 2);
        a_chunk(out, 0, length, 1, payload.at, payload.size);
        break;
    case 12: /* right in size, wrong in content */
        zeros(&payload, length);
        a_chunk(out, 0, length, 1, payload.at, payload.size);
        break;
    case 13:
        a_chunk(out, 0x7fffffff, length, 0, true_chunk.at, length);
        break;
    case 14:
        a_chunk(out, 0, length - 1, 0, true_chunk.at, length - 1);
        break;
    case 15:
        a_chunk(out, 0, 0xffffffff, 1, true_chunk.at, 100);
        break;
    case 16: /* what a parent never says */
        put32(out, 0);
        put64(out, 1);
        type = WANT;
        break;
    case 17:
        put(out, true_chunk.at, 300);
        type = PLAN;
        break;
    default:
        type = 200;
    }
    free(payload.at);
    return type;
}

static void as_parent(SSL *ssl, const uint8_t *id)
{
    struct bytes hello = {0}, page = {0}, chunk = {0};
    unsigned type = 0, kind;
    uint8_t *body;
    size_t size;
    put_hello(&hello, AS_PARENT, session_id, id);
    pthread_mutex_lock(&lock);
    while ((!true_page.size || !true_chunk.size) && !over)
        pthread_cond_wait(&news, &lock);
    bool page_is_wrong = altered_page(&page);
    kind = altered_chunk(&chunk);
    attacked++;
    pthread_mutex_unlock(&lock);
    if (attack == 18) { /* a frame of 4 GiB */
        size_t sent;
        SSL_write_ex(ssl, "\xff\xff\xff\xff\x23\0\0\0", 8, &sent);
    }
    bool goes_on = send_frame(ssl, HELLO, &hello) && send_frame(ssl, PAGE, &page);
    while (goes_on && !page_is_wrong && type != WANT)
        goes_on = receive_frame(ssl, &type, &body, &size);
    if (goes_on && !page_is_wrong)
        goes_on = send_frame(ssl, kind, &chunk);
    while (goes_on && receive_frame(ssl, &type, &body, &size))
        ;
    pthread_mutex_lock(&lock);
    dropped++;
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    unsigned type;
    uint8_t *body, id[ID];
    size_t size;
    SSL *ssl = tls_server(fd, find_link);
    if (!ssl || !receive_frame(ssl, &type, &body, &size) || type != HELLO)
        return NULL;
    memcpy(id, body + 4 + 2 + 2 + 4 + 1 + 3 * ID, ID);
    const struct link *link = link_of(id);
    NEED(link);
    if (link->child)
        as_parent(ssl, id);
    else
        as_child(ssl, id);
    hang_up(ssl, fd);
    return NULL;
}

static void *accept_all(void *arg)
{
    for (;;) {
        pthread_t thread;
        int fd = accept((int)(intptr_t)arg, NULL, NULL);
        if (fd >= 0)
            NEED(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0);
    }
    return NULL;
}

/* The control link up to the plan. */
static SSL *join_session(int listener, const char *record)
{
    struct bytes hello = {0}, ready = {0};
    unsigned type;
    uint8_t *body;
    size_t size;
    SSL *ssl = tls_server(accept(listener, NULL, NULL), find_control);
    NEED(ssl);
    put_hello(&hello, AS_AGENT, NULL, NULL);
    NEED(send_frame(ssl, HELLO, &hello));
    put32(&ready, 0);
    while (receive_frame(ssl, &type, &body, &size)) {
        if (type == OFFER) {
            memcpy(session_id, body, ID);
            if (record)
                write_file(record, ".offer", body, size);
            NEED(send_frame(ssl, READY, &ready));
        }
        if (type == PLAN) {
            if (record)
                write_file(record, ".plan", body, size);
            take_plan(body);
            return ssl;
        }
    }
    NEED(!"a plan");
    return NULL;
}

/* Once its child was taken from it, where it had one. */
static void give_up(SSL *ssl, const char *why, bool has_children)
{
    struct bytes failed = {0};
    unsigned type = 0;
    uint8_t *body;
    size_t size;
    while (has_children && type != PLAN && receive_frame(ssl, &type, &body, &size))
        ;
    put16(&failed, 1);
    put_text(&failed, why);
    send_frame(ssl, FAILED, &failed);
    while (receive_frame(ssl, &type, &body, &size))
        ;
}

static int take_part(const char *record)
{
    unsigned port;
    int listener = listen_any(&port);
    pthread_t thread;
    printf("%u\n", port);
    fflush(stdout);
    SSL *control = join_session(listener, record);
    NEED(pthread_create(&thread, NULL, accept_all, (void *)(intptr_t)listener) == 0);
    if (!record) {
        pthread_mutex_lock(&lock);
        while (dropped == 0)
            pthread_cond_wait(&news, &lock);
        pthread_mutex_unlock(&lock);
    }
    give_up(control, "\033[31mliar\033[0m\r\n\007", !record);
    printf("%u attacked, %u dropped\n", attacked, dropped);
    fflush(stdout);
    _exit(0); /* other threads are inside OpenSSL still, which an ordinary end would take apart under them */
}

int main(int argc, char **argv)
{
    NEED(argc >= 4);
    control_key(argv[2], group_control);
    if (strcmp(argv[1], "offers") == 0)
        return offers(argv + 2);
    if (strcmp(argv[1], "record") == 0)
        return take_part(argv[3]);
    attack = (unsigned)atoi(argv[3]);
    return take_part(NULL);
}
