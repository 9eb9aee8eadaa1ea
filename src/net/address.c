#include "net/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static bool loopback4(const struct in_addr *address)
{
    return ntohl(address->s_addr) >> 24 == 127;
}

static bool loopback6(const struct in6_addr *address)
{
    return IN6_IS_ADDR_LOOPBACK(address) || (IN6_IS_ADDR_V4MAPPED(address) && address->s6_addr[12] == 127);
}

bool tc_address_is_loopback(const char *address)
{
    char host[TC_ADDRESS_HOST];
    uint16_t port;
    struct in_addr four;
    struct in6_addr six;
    if (tc_address_split(address, host, &port, NULL) != 0)
        return false;
    if (inet_pton(AF_INET, host, &four) == 1)
        return loopback4(&four);
    if (inet_pton(AF_INET6, host, &six) == 1)
        return loopback6(&six);
    return strcasecmp(host, "localhost") == 0;
}

bool tc_address_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return loopback4(&((const struct sockaddr_in *)(const void *)address)->sin_addr);
    if (address->sa_family == AF_INET6)
        return loopback6(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
    return address->sa_family == AF_UNIX;
}

int tc_address_join(char *out, size_t size, const char *name, uint16_t port, struct tc_err *err)
{
    int used = snprintf(out, size, strchr(name, ':') ? "[%s]:%u" : "%s:%u", name, (unsigned)port);
    return used >= 0 && (size_t)used < size ? 0 : tc_fail(err, TC_E_USAGE, "%.64s...: address too long", name);
}

static bool parse_port(const char *text, uint16_t *port)
{
    unsigned value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (unsigned)(text[i] - '0');
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

int tc_address_split(const char *address, char host[TC_ADDRESS_HOST], uint16_t *port, struct tc_err *err)
{
    const char *begin = address, *end, *rest;
    if (address[0] == '[') {
        begin++;
        end = strchr(begin, ']');
        rest = end ? end + 1 : NULL;
    } else {
        const char *colon = strchr(address, ':');
        bool bare6 = colon && strchr(colon + 1, ':'); /* "::1": two colons leave no place for a port */
        end = colon && !bare6 ? colon : address + strlen(address);
        rest = end;
    }
    if (!end || end == begin || (size_t)(end - begin) >= TC_ADDRESS_HOST || strpbrk(begin, " \t\r\n/"))
        return tc_fail(err, TC_E_USAGE, "%.128s: not an address; write HOST:PORT or [IPV6]:PORT", address);
    if (*rest != '\0' && (*rest != ':' || !parse_port(rest + 1, port)))
        return tc_fail(err, TC_E_USAGE, "%.128s: not a port (0 to 65535) after the address", address);
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = '\0';
    return 0;
}

static struct addrinfo *keep_loopback(struct addrinfo *list)
{
    struct addrinfo *kept = NULL, **tail = &kept;
    while (list) {
        struct addrinfo *entry = list;
        list = list->ai_next;
        entry->ai_next = NULL;
        if (tc_address_loopback(entry->ai_addr)) {
            *tail = entry;
            tail = &entry->ai_next;
        } else {
            freeaddrinfo(entry);
        }
    }
    return kept;
}

int tc_address_resolve(const char *host, uint16_t port, bool numeric, struct addrinfo **list)
{
    char service[8];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    hints.ai_flags = AI_NUMERICSERV | (numeric ? AI_NUMERICHOST : 0);
    snprintf(service, sizeof service, "%u", (unsigned)port);
    int result = getaddrinfo(host, service, &hints, list);
    if (result != 0)
        return result;
    if (strcasecmp(host, "localhost") == 0)
        *list = keep_loopback(*list);
    return *list ? 0 : EAI_NONAME;
}

void tc_address_text(char out[TC_ADDRESS_TEXT], const struct sockaddr *address, socklen_t size)
{
    char host[TC_ADDRESS_HOST], service[8];
    struct sockaddr_in four = {.sin_family = AF_INET};
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)address;
        if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
            memcpy(&four.sin_addr, &six->sin6_addr.s6_addr[12], 4);
            four.sin_port = six->sin6_port;
            address = (const struct sockaddr *)(const void *)&four;
            size = sizeof four;
        }
    }
    if (address->sa_family == AF_UNIX ||
        getnameinfo(address, size, host, sizeof host, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(out, TC_ADDRESS_TEXT, "local");
    else
        snprintf(out, TC_ADDRESS_TEXT, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, service);
}

int tc_address_numeric(char out[TC_ADDRESS_TEXT], const char *address, uint16_t port, struct tc_err *err)
{
    char host[TC_ADDRESS_HOST];
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    int status = tc_address_split(address, host, &port, err);
    if (status < 0)
        return status;
    host[strcspn(host, "%")] = '\0';
    four.sin_port = six.sin6_port = htons(port);
    if (inet_pton(AF_INET, host, &four.sin_addr) == 1)
        tc_address_text(out, (const struct sockaddr *)(const void *)&four, sizeof four);
    else if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1)
        tc_address_text(out, (const struct sockaddr *)(const void *)&six, sizeof six);
    else
        return tc_fail(err, TC_E_USAGE, "%.128s: not an address in numbers, such as 10.0.0.7:7117", address);
    return 0;
}

static bool numeric(const struct sockaddr *address, char out[TC_ADDRESS_HOST])
{
    socklen_t size = address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    return getnameinfo(address, size, out, TC_ADDRESS_HOST, NULL, 0, NI_NUMERICHOST) == 0;
}

static bool first_of(const struct ifaddrs *list, const char *name, int family, char out[TC_ADDRESS_HOST])
{
    for (; list; list = list->ifa_next)
        if (list->ifa_addr && list->ifa_addr->sa_family == family && strcmp(list->ifa_name, name) == 0)
            return numeric(list->ifa_addr, out);
    return false;
}

int tc_address_of_interface(const char *text, char out[TC_ADDRESS_HOST], struct tc_err *err)
{
    struct in_addr four;
    struct in6_addr six;
    struct ifaddrs *list = NULL;
    if (strlen(text) < TC_ADDRESS_HOST &&
        (inet_pton(AF_INET, text, &four) == 1 || inet_pton(AF_INET6, text, &six) == 1)) {
        strcpy(out, text);
        return 0;
    }
    bool found = getifaddrs(&list) == 0 && (first_of(list, text, AF_INET, out) || first_of(list, text, AF_INET6, out));
    freeifaddrs(list);
    return found ? 0 : tc_fail(err, TC_E_USAGE, "%.64s: neither an address nor an interface that has one", text);
}

int tc_address_towards(const char *host, char out[TC_ADDRESS_HOST], struct tc_err *err)
{
    struct addrinfo *list = NULL;
    bool found = false;
    int result = tc_address_resolve(host, 7, false, &list);
    if (result != 0)
        return tc_fail(err, TC_E_UNREACHABLE, "%.64s: %s", host, gai_strerror(result));
    for (const struct addrinfo *info = list; info && !found; info = info->ai_next) {
        struct sockaddr_storage own = {0};
        socklen_t size = sizeof own;
        int fd = socket(info->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* connecting it sends nothing */
        found = fd >= 0 && connect(fd, info->ai_addr, info->ai_addrlen) == 0 &&
                getsockname(fd, (struct sockaddr *)(void *)&own, &size) == 0 &&
                numeric((const struct sockaddr *)(const void *)&own, out);
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(list);
    return found ? 0 : tc_fail(err, TC_E_UNREACHABLE, "%.64s: no way there", host);
}
