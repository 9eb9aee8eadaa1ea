/* address.h - addresses as people write them ("node7", "node7:7117", "10.0.0.7:7117", "[fe80::1%eth0]:7117") and as
 * sockets have them. Pure, but for tc_address_resolve. */
#ifndef TC_NET_ADDRESS_H
#define TC_NET_ADDRESS_H

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

#define TC_ADDRESS_HOST 256 /* bytes of a host's name with NUL */
#define TC_ADDRESS_TEXT 320 /* bytes of "[host]:port" with NUL */

/* Whether address can only be this machine: a loopback literal (127.0.0.0/8, ::1) or "localhost"; a port may follow. */
bool tc_address_is_loopback(const char *address);
/* Put name and port together: "name:port", "[v6]:port". TC_E_USAGE when it does not fit. */
int tc_address_join(char *out, size_t size, const char *name, uint16_t port, struct tc_err *err);

/* Take address apart; port is left alone where none is written. TC_E_USAGE for a malformed one. */
int tc_address_split(const char *address, char host[TC_ADDRESS_HOST], uint16_t *port, struct tc_err *err);

/* An address in numbers as tc_address_text writes it, with port where none is written, without the zone of a link-local
 * one. TC_E_USAGE for anything else, names too. */
int tc_address_numeric(char out[TC_ADDRESS_TEXT], const char *address, uint16_t port, struct tc_err *err);

/* getaddrinfo for a stream socket; numeric: only literals, never blocks. "localhost" yields loopback addresses only,
 * whatever a resolver says. Returns 0 or an EAI_ number (gai_strerror); free with freeaddrinfo. */
int tc_address_resolve(const char *host, uint16_t port, bool numeric, struct addrinfo **list);

/* The address of an interface ("ib0"), IPv4 before IPv6, or text itself when it is an address already. TC_E_USAGE when there
 * is none such. */
int tc_address_of_interface(const char *text, char out[TC_ADDRESS_HOST], struct tc_err *err);
/* This host's own address on the way to host, which is resolved and not contacted. TC_E_UNREACHABLE. Blocks. */
int tc_address_towards(const char *host, char out[TC_ADDRESS_HOST], struct tc_err *err);

/* "10.0.0.7:41234"; an IPv4 address inside IPv6 is shown as IPv4; "local" for a Unix socket. */
void tc_address_text(char out[TC_ADDRESS_TEXT], const struct sockaddr *address, socklen_t size);
bool tc_address_loopback(const struct sockaddr *address); /* a Unix socket is one too */

#endif
