/* A member of the group that asks for more than its share, or in another's name: insider WHAT KEY ARGUMENT...
 *
 *   carry KEY PORT HOW      stand between a sender and the agent at PORT: bytes as they are (pipe), or frames from one TLS
 *                           connection to another (frames). First line: where. PORT 0: standard input
 *                           says it later. Until the agent hangs up
 *   silent KEY PORT COUNT   so many control sessions that greet and offer nothing, until standard input ends; lost ones are
 *                           opened again
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

int main(int argc, char **argv)
{
    NEED(argc >= 5);
    control_key(argv[2], group_control);
    if (strcmp(argv[1], "carry") == 0)
        return carry((unsigned)atoi(argv[3]), strcmp(argv[4], "frames") == 0);
    if (strcmp(argv[1], "silent") == 0)
        return silent((unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
    return 99;
}
