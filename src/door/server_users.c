#include "door/server_own.h"

#include <stdlib.h>

#define UNREAD_MAX (1u << 20) /* bytes of answers that nobody reads, in all */
#define ROOT_SPARE 64u        /* connections for root beyond the most, so that nobody locks it out */

/* Of what there is one user who is let in besides the owner and root may have a quarter, and all of them three. */
#define FOREIGN_EACH(most) ((most) / 4)
#define FOREIGN_ALL(most) ((most) / 4 * 3)

bool tc_door_may_enter(const struct tc_door *door, uid_t uid)
{
    bool allowed = uid == 0 || uid == door->owner;
    for (unsigned i = 0; i < door->options.user_count && !allowed; i++)
        allowed = door->allowed[i] == uid;
    return allowed;
}

static bool is_foreign(const struct tc_door *door, uid_t uid)
{
    return uid != 0 && uid != door->owner;
}

static struct user *find_or_add(struct tc_door *door, uid_t uid)
{
    struct user *user = door->users;
    while (user && user->uid != uid)
        user = user->next;
    if (user || !(user = calloc(1, sizeof *user)))
        return user;
    *user = (struct user){.next = door->users, .uid = uid};
    door->users = user;
    return user;
}

static void forget(struct tc_door *door, struct user *user)
{
    for (struct user **at = &door->users; *at; at = &(*at)->next)
        if (*at == user) {
            *at = user->next;
            break;
        }
    free(user);
}

static int check_room(const struct tc_door *door, const struct user *user, struct tc_err *why)
{
    unsigned most = door->peers_most, each = FOREIGN_EACH(most);
    if (is_foreign(door, user->uid) && user->peers >= each)
        return tc_fail(why, TC_E_LIMIT, "user %lu has %u connections to this agent, as many as one user may have",
                       (unsigned long)user->uid, user->peers);
    if (door->peer_count >= (user->uid == 0 ? most + ROOT_SPARE : most) ||
        (is_foreign(door, user->uid) && door->foreign_peers >= FOREIGN_ALL(most)))
        return tc_fail(why, TC_E_LIMIT, "too many connections to this agent");
    return 0;
}

struct user *tc_door_join(struct tc_door *door, uid_t uid, struct tc_err *why)
{
    struct user *user = find_or_add(door, uid);
    if (!user) {
        tc_fail(why, TC_E_NOMEM, "no memory for a connection");
        return NULL;
    }
    if (check_room(door, user, why) < 0) {
        if (user->peers == 0)
            forget(door, user);
        return NULL;
    }
    user->peers++;
    door->peer_count++;
    door->foreign_peers += is_foreign(door, uid);
    return user;
}

void tc_door_part(struct tc_door *door, struct user *user)
{
    door->peer_count--;
    door->foreign_peers -= is_foreign(door, user->uid);
    if (--user->peers == 0)
        forget(door, user);
}

bool tc_door_unread(struct tc_door *door, struct user *user, size_t more)
{
    bool foreign = is_foreign(door, user->uid);
    if (door->unread + more > UNREAD_MAX || (foreign && (user->unread + more > FOREIGN_EACH(UNREAD_MAX) ||
                                                         door->foreign_unread + more > FOREIGN_ALL(UNREAD_MAX))))
        return false;
    door->unread += more;
    door->foreign_unread += foreign ? more : 0;
    user->unread += more;
    return true;
}

void tc_door_read(struct tc_door *door, struct user *user, size_t less)
{
    door->unread -= less;
    door->foreign_unread -= is_foreign(door, user->uid) ? less : 0;
    user->unread -= less;
}
