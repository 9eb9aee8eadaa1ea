#include "api/server_own.h"

#include <stdlib.h>

#define UNREAD_MAX (1u << 20) /* bytes of answers that nobody reads, in all */
#define ROOT_SPARE 64u        /* connections for root beyond the most, so that nobody locks it out */

/* Of what there is one user who is let in besides the owner and root may have a quarter, and all of them three. */
#define FOREIGN_EACH(most) ((most) / 4)
#define FOREIGN_ALL(most) ((most) / 4 * 3)

bool tc_api_may_enter(const struct tc_api *api, uid_t uid)
{
    bool allowed = uid == 0 || uid == api->owner;
    for (unsigned i = 0; i < api->options.user_count && !allowed; i++)
        allowed = api->allowed[i] == uid;
    return allowed;
}

static bool is_foreign(const struct tc_api *api, uid_t uid)
{
    return uid != 0 && uid != api->owner;
}

static struct user *find_or_add(struct tc_api *api, uid_t uid)
{
    struct user *user = api->users;
    while (user && user->uid != uid)
        user = user->next;
    if (user || !(user = calloc(1, sizeof *user)))
        return user;
    *user = (struct user){.next = api->users, .uid = uid};
    api->users = user;
    return user;
}

static void forget(struct tc_api *api, struct user *user)
{
    for (struct user **at = &api->users; *at; at = &(*at)->next)
        if (*at == user) {
            *at = user->next;
            break;
        }
    free(user);
}

static int check_capacity(const struct tc_api *api, const struct user *user, struct tc_err *why)
{
    unsigned most = api->peers_most, each = FOREIGN_EACH(most);
    if (is_foreign(api, user->uid) && user->peers >= each)
        return tc_fail(why, TC_E_LIMIT, "user %lu has %u connections to this agent, as many as one user may have",
                       (unsigned long)user->uid, user->peers);
    if (api->peer_count >= (user->uid == 0 ? most + ROOT_SPARE : most) ||
        (is_foreign(api, user->uid) && api->foreign_peers >= FOREIGN_ALL(most)))
        return tc_fail(why, TC_E_LIMIT, "too many connections to this agent");
    return 0;
}

struct user *tc_api_join(struct tc_api *api, uid_t uid, struct tc_err *why)
{
    struct user *user = find_or_add(api, uid);
    if (!user) {
        tc_fail(why, TC_E_NOMEM, "no memory for a connection");
        return NULL;
    }
    if (check_capacity(api, user, why) < 0) {
        if (user->peers == 0)
            forget(api, user);
        return NULL;
    }
    user->peers++;
    api->peer_count++;
    api->foreign_peers += is_foreign(api, uid);
    return user;
}

void tc_api_part(struct tc_api *api, struct user *user)
{
    api->peer_count--;
    api->foreign_peers -= is_foreign(api, user->uid);
    if (--user->peers == 0)
        forget(api, user);
}

bool tc_api_unread(struct tc_api *api, struct user *user, size_t more)
{
    bool foreign = is_foreign(api, user->uid);
    if (api->unread + more > UNREAD_MAX || (foreign && (user->unread + more > FOREIGN_EACH(UNREAD_MAX) ||
                                                        api->foreign_unread + more > FOREIGN_ALL(UNREAD_MAX))))
        return false;
    api->unread += more;
    api->foreign_unread += foreign ? more : 0;
    user->unread += more;
    return true;
}

void tc_api_read(struct tc_api *api, struct user *user, size_t less)
{
    api->unread -= less;
    api->foreign_unread -= is_foreign(api, user->uid) ? less : 0;
    user->unread -= less;
}
