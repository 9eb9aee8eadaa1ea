/* client.h - a worker's end of the local API. Blocking with a deadline, no libevent, thread-safe on distinct local APIs. */
#ifndef TC_API_CLIENT_H
#define TC_API_CLIENT_H

#include <stddef.h>

#include "base/err.h"
#include "data/describe.h"
#include "api/api.h"

/* Wait for ever. */
#define TC_FOREVER (-1.0)

/* Connect to DIR's local API: a descriptor, or -TC_E_NOTFOUND when no agent is alive there, -TC_E_PERMISSION when it refused
 * us, -TC_E_POLICY when DIR or who serves it is not believed (base/trust.h): then no byte and no descriptor has left. The
 * same holds for all calls below. */
int tc_api_open(const char *dir, struct tc_err *err);

/* Send one request line and read one answer line into answer (without the newline, terminated). timeout in seconds.
 * TC_E_TIMEOUT, TC_E_CLOSED (the agent went away), TC_E_PROTOCOL. */
int tc_api_ask(int api, const char *request, char *answer, size_t size, double timeout, struct tc_err *err);

/* The agent's own descriptor of published NAME, read-only, for who may not open DIR/NAME: the caller's, with the
 * description of that very file (its array to be freed). TC_E_NOTFOUND where no agent is alive or NAME is not published,
 * TC_E_PERMISSION, TC_E_NAME. */
int tc_api_fetch(const char *dir, const char *name, struct tc_description *description, struct tc_err *err);

/* How far NAME's session is: *bytes of *size verified and in place. TC_E_NOTFOUND where no agent is alive or NAME is
 * not on its way. */
int tc_api_progress(const char *dir, const char *name, uint64_t *bytes, uint64_t *size, struct tc_err *err);

/* Offer fd (borrowed) to DIR's agent as the source of a session: a connection that holds the offer until it is closed.
 * listen gets the agent's address. What tc_api_open returns, and TC_E_USAGE where the agent knows no such request. */
int tc_api_offer(const char *dir, const uint8_t session[TC_SESSION_ID_SIZE], int fd, char *listen, size_t size,
                 struct tc_err *err);

/* Wait until NAME is published in DIR, its session failed, or timeout passed: through the local API, and where no agent is
 * alive by inotify on the directory; goes over from one to the other as agents come and go. No polling. A name whose
 * session has not begun is waited for too. TC_E_TIMEOUT, the session's reason, TC_E_NAME. */
int tc_api_wait(const char *dir, const char *name, double timeout, struct tc_err *err);

#endif
