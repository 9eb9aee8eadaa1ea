/* A member of the group that asks for more than its share, or in another's name: insider WHAT KEY ARGUMENT...
 *
 *   carry KEY PORT HOW      stand between a sender and the agent at PORT: bytes as they are (pipe), or frames from one TLS
 *                           connection to another (frames). First line: where. PORT 0: standard input
 *                           says it later. Until the agent hangs up
 *   silent KEY PORT COUNT   so many control sessions that greet and offer nothing, until standard input ends; lost ones are
 *                           opened again
 *   greedy KEY TIMES        take part below the sender, and want chunk 0 so many times. First line: where
 *   updates KEY PORT TIMES  a control session that renews its key so many times and says nothing else
 *   elsewhere KEY ADDRESS   take part up to the plan, and say that others reach it at ADDRESS. First line: where
 * Prints one line of figures. */
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

#define CONTROL "treecast control"

static uint8_t group_control[KEY];

static bool find_control(const uint8_t *identity, size_t size, uint8_t key[KEY])
{
    memcpy(key, group_control, KEY);
    return size == sizeof CONTROL - 1 && memcmp(identity, CONTROL, size) == 0;
}

static SSL *control_to(unsigned port, int *fd)
{
    *fd = dial(port);
    return tls_client(*fd, CONTROL, sizeof CONTROL - 1, group_control);
}

static int listen_and_tell(void)
{
    unsigned port;
    int fd = listen_any(&port);
    printf("%u\n", port);
    fflush(stdout);
    return fd;
}

/* --- another's HELLO as one's own --- */

struct way {
    int from, to;
    SSL *from_ssl, *to_ssl; /* with frames */
    unsigned seen[256];     /* frames by type */
};

static void *carry_bytes(void *arg)
{
    struct way *way = arg;
    char bytes[65536];
    for (ssize_t got; (got = read(way->from, bytes, sizeof bytes)) > 0;)
        for (ssize_t at = 0, sent; at < got; at += sent)
            if ((sent = send(way->to, bytes + at, (size_t)(got - at), MSG_NOSIGNAL)) <= 0)
                return NULL;
    shutdown(way->to, SHUT_WR);
    return NULL;
}

static bool carry_frame(struct way *way)
{
    struct bytes out = {0};
    unsigned type;
    uint8_t *body;
    size_t size;
    bool goes_on = receive_frame(way->from_ssl, &type, &body, &size);
    if (goes_on) {
        way->seen[type & 255]++;
        put(&out, body, size);
        goes_on = send_frame(way->to_ssl, type, &out);
    }
    free(out.at);
    return goes_on;
}

/* Both ways in turn: one thread uses both connections. */
static void carry_frames(struct way *down, struct way *up)
{
    for (;;) {
        struct pollfd ends[] = {{.fd = down->from, .events = POLLIN}, {.fd = up->from, .events = POLLIN}};
        if (!SSL_pending(down->from_ssl) && !SSL_pending(up->from_ssl))
            NEED(poll(ends, 2, 60000) > 0);
        if ((ends[0].revents || SSL_pending(down->from_ssl)) && !carry_frame(down))
            break;
        if ((ends[1].revents || SSL_pending(up->from_ssl)) && !carry_frame(up))
            break;
    }
}

static int carry(unsigned port, bool frames)
{
    int listener = listen_and_tell(), sender = accept(listener, NULL, NULL), agent;
    struct way down = {0}, up = {0};
    if (port == 0)
        NEED(scanf("%u", &port) == 1);
    if (frames) {
        SSL *above = tls_server(sender, find_control), *below = control_to(port, &agent);
        NEED(above && below);
        down = (struct way){sender, agent, above, below, {0}};
        up = (struct way){agent, sender, below, above, {0}};
        carry_frames(&down, &up);
        printf("%u offers passed on, %u refused, %u ready\n", down.seen[OFFER], up.seen[REFUSE], up.seen[READY]);
        fflush(stdout);
        _exit(0);
    }
    pthread_t thread;
    agent = dial(port);
    down = (struct way){.from = sender, .to = agent};
    up = (struct way){.from = agent, .to = sender};
    NEED(pthread_create(&thread, NULL, carry_bytes, &down) == 0);
    carry_bytes(&up);
    pthread_join(thread, NULL);
    printf("carried\n");
    return 0;
}

/* --- control sessions that say nothing --- */

struct silent {
    SSL *ssl;
    int fd;
};

static bool greet(struct silent *self, unsigned port)
{
    struct bytes hello = {0};
    unsigned type;
    uint8_t *body;
    size_t size;
    self->ssl = control_to(port, &self->fd);
    if (!self->ssl) {
        close(self->fd);
        self->fd = -1;
        return false;
    }
    put_hello(&hello, AS_COORDINATOR, NULL, NULL);
    bool good = send_frame(self->ssl, HELLO, &hello) && receive_frame(self->ssl, &type, &body, &size) && type == HELLO;
    free(hello.at);
    return good;
}

static int silent(unsigned port, unsigned count)
{
    struct silent *all = calloc(count, sizeof *all);
    struct pollfd *ends = calloc(count + 1, sizeof *ends);
    unsigned opened = 0;
    NEED(all && ends);
    for (unsigned i = 0; i < count; i++)
        opened += greet(&all[i], port);
    printf("%u\n", opened);
    fflush(stdout);
    for (ends[count].events = POLLIN; !ends[count].revents;) {
        for (unsigned i = 0; i < count; i++)
            ends[i] = (struct pollfd){.fd = all[i].fd, .events = POLLIN};
        NEED(poll(ends, count + 1, 60000) > 0);
        for (unsigned i = 0; i < count && !ends[count].revents; i++)
            if (ends[i].revents || all[i].fd < 0) {
                if (all[i].ssl)
                    hang_up(all[i].ssl, all[i].fd);
                opened += greet(&all[i], port);
            }
    }
    printf("%u sessions greeted in all\n", opened);
    return 0;
}

/* --- one chunk, again and again --- */

static struct link {
    uint8_t id[ID], key[KEY];
} parent; /* by the plan: one tree, below the sender */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static bool planned;

static bool find_any(const uint8_t *identity, size_t size, uint8_t key[KEY])
{
    if (find_control(identity, size, key))
        return true;
    pthread_mutex_lock(&lock);
    while (!planned)
        pthread_cond_wait(&news, &lock);
    memcpy(key, parent.key, KEY);
    pthread_mutex_unlock(&lock);
    return size == 1 + 2 * ID && memcmp(identity + 1 + ID, parent.id, ID) == 0;
}

static uint8_t session_id[ID];

static void take_plan(const uint8_t *body)
{
    size_t at = 2 * ID;
    at += 2 + ((size_t)body[at] << 8 | body[at + 1]) + KEY + 4 + 4 + 1 + 4; /* to the parent's id */
    pthread_mutex_lock(&lock);
    memcpy(session_id, body, ID);
    memcpy(parent.id, body + at, ID);
    memcpy(parent.key, body + at + ID, KEY);
    planned = true;
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
}

/* The control link. Returns what it was told at the end. */
static void *take_part(void *arg)
{
    static char told[512] = "hung up on";
    struct bytes hello = {0}, ready = {0};
    unsigned type;
    uint8_t *body;
    size_t size;
    SSL *ssl = arg;
    put_hello(&hello, AS_AGENT, NULL, NULL);
    put32(&ready, 0);
    NEED(send_frame(ssl, HELLO, &hello));
    while (receive_frame(ssl, &type, &body, &size)) {
        if (type == OFFER)
            NEED(send_frame(ssl, READY, &ready));
        if (type == PLAN)
            take_plan(body);
        if (type == ABORT)
            snprintf(told, sizeof told, "told: %.*s", (int)(size - 4), (const char *)body + 4);
    }
    return told;
}

static int greedy(unsigned times)
{
    int listener = listen_and_tell(), fd = accept(listener, NULL, NULL);
    struct bytes hello = {0}, want = {0};
    unsigned type, chunks = 0, asked = 0;
    uint64_t bytes = 0;
    uint8_t *body;
    size_t size;
    void *told;
    pthread_t thread;
    SSL *control = tls_server(fd, find_control);
    NEED(control && pthread_create(&thread, NULL, take_part, control) == 0);
    fd = accept(listener, NULL, NULL);
    SSL *data = tls_server(fd, find_any);
    put_hello(&hello, AS_CHILD, session_id, parent.id);
    put32(&want, 0);
    put64(&want, 1);
    bool goes_on = data && send_frame(data, HELLO, &hello);
    while (goes_on && chunks < times && receive_frame(data, &type, &body, &size)) {
        chunks += type == CHUNK;
        bytes += size;
        if (type == PAGE || type == CHUNK)
            goes_on = send_frame(data, WANT, &want) && ++asked;
    }
    hang_up(data, fd);
    pthread_join(thread, &told);
    printf("asked %u times, given %u chunks, %llu bytes; %s\n", asked, chunks, (unsigned long long)bytes, (char *)told);
    return 0;
}

/* --- an address that is another's --- */

static int elsewhere(const char *address)
{
    int listener = listen_and_tell(), fd = accept(listener, NULL, NULL);
    struct bytes hello = {0}, ready = {0};
    unsigned type = 0;
    uint8_t *body;
    size_t size;
    SSL *ssl = tls_server(fd, find_control);
    NEED(ssl);
    put_hello(&hello, AS_AGENT, NULL, NULL);
    hello.size -= 2 + 2 + 4; /* where others reach it, which host it is, and pages */
    put_text(&hello, address);
    put_text(&hello, "");
    put32(&hello, 0);
    put32(&ready, 0);
    NEED(send_frame(ssl, HELLO, &hello));
    while (type != PLAN && receive_frame(ssl, &type, &body, &size))
        if (type == OFFER)
            NEED(send_frame(ssl, READY, &ready));
    printf(type == PLAN ? "planned\n" : "not planned\n");
    return 0;
}

/* --- key updates --- */

static int updates(unsigned port, unsigned times)
{
    struct silent self = {0};
    unsigned sent = 0;
    char byte;
    NEED(greet(&self, port));
    printf("1\n");
    fflush(stdout);
    while (sent < times && SSL_key_update(self.ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 &&
           SSL_do_handshake(self.ssl) == 1)
        sent++;
    int got = SSL_read(self.ssl, &byte, 1);
    printf("%u key updates sent, %s\n", sent, got > 0 ? "answered" : "hung up on");
    return 0;
}

int main(int argc, char **argv)
{
    NEED(argc >= 4);
    control_key(argv[2], group_control);
    if (strcmp(argv[1], "greedy") == 0)
        return greedy((unsigned)atoi(argv[3]));
    if (strcmp(argv[1], "elsewhere") == 0)
        return elsewhere(argv[3]);
    NEED(argc >= 5);
    if (strcmp(argv[1], "updates") == 0)
        return updates((unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
    if (strcmp(argv[1], "carry") == 0)
        return carry((unsigned)atoi(argv[3]), strcmp(argv[4], "frames") == 0);
    if (strcmp(argv[1], "silent") == 0)
        return silent((unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
    return 99;
}
