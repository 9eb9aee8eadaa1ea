/* children.h - the links on which a node gives chunks away: the coordinator's and every relaying agent's. Pure.
 *
 * A child is named by its link id, which PLAN told to the two ends alone. It may be known before its link stands, and
 * links may come and go; what it holds it says in HELLO. */
#ifndef TC_SESSION_CHILDREN_H
#define TC_SESSION_CHILDREN_H

#include "session/feed.h"
#include "session/machine.h"

#define TC_NO_LINK UINT32_MAX

struct tc_child {
    struct tc_msg_link self; /* rank, id, key, flags */
    unsigned tree;
    uint32_t link;    /* TC_NO_LINK: not connected */
    bool fed;         /* its HELLO has come, feed is alive */
    uint64_t since;   /* ms: when it was dialled; kept by who dials */
    uint64_t given;   /* chunks, on all the links that it had */
    uint64_t words;   /* WANTs and CANCELs, the same */
    uint64_t first;   /* ms: when the first of them came */
    uint32_t backlog; /* bytes that have left feed and not arrived, as far as is known */
    struct {
        uint64_t arrived, busy; /* ever, as told last */
        double bytes, us;       /* lately: older ones fade */
    } flow;
    struct tc_feed feed;
};

struct tc_children {
    struct tc_child *items; /* owned */
    unsigned count, capacity;
    bool ration; /* those served last may have a chunk each all the same, see tc_children_ration */
};

/* What there is to give: pages by index (NULL: not here yet), sets of the pages and chunks at hand. Borrowed for a call. */
struct tc_store {
    const struct tc_layout *layout;
    struct tc_page **pages;
    const struct tc_bits *have_pages;
    const struct tc_bits *have;
};

struct tc_child *tc_children_add(struct tc_children *children, unsigned tree, const struct tc_msg_link *self,
                                 struct tc_err *err);
struct tc_child *tc_children_by_id(struct tc_children *children, const uint8_t id[TC_LINK_ID_SIZE]);
struct tc_child *tc_children_by_link(struct tc_children *children, uint32_t link);
void tc_children_remove(struct tc_children *children, struct tc_child *child);
bool tc_children_in_tree(const struct tc_children *children, unsigned tree);
void tc_children_free(struct tc_children *children);

/* The child's HELLO: start feeding it on link. pages may name more than the file has (ignored). TC_E_NOMEM. */
int tc_child_start(struct tc_child *child, uint32_t link, const struct tc_store *store,
                   const struct tc_msg_hello *hello, struct tc_err *err);
void tc_child_stop(struct tc_child *child); /* its link is gone */

/* WANT or CANCEL from it. TC_E_PROTOCOL; TC_E_LIMIT when it asks for the same again and again: a link that damages some
 * or a host that loses some needs little more than one of each, and what does not come at all is asked for again every
 * TC_MS_AGAIN. A child may cost its parent's uplink no more than that. */
int tc_child_message(struct tc_child *child, const struct tc_store *store, const struct tc_message *message,
                     uint64_t now, struct tc_err *err);

/* Queue what the children can take now: pages within their windows, chunks within their depths, no tree far ahead of
 * another. A child with TC_LINK_LAST gets chunks while no other has a pending want. */
int tc_children_poll(struct tc_children *children, const struct tc_store *store, struct tc_actions *actions,
                     struct tc_err *err);

/* To be called a few times a second: at the next poll a child that is served last gets one chunk though others have
 * wants, so that it starves below nobody. */
void tc_children_ration(struct tc_children *children);

/* What became of the bytes on the child's link: those on the way now, those that have arrived ever, and for how many us
 * ever some were on the way (0: not known). */
void tc_child_flow(struct tc_child *child, uint32_t backlog, uint64_t arrived, uint64_t busy);

/* Whether child has not said what it wants of a page that another tree's child has had all of. */
bool tc_child_answers_late(const struct tc_children *children, const struct tc_child *child);

/* Whether child holds up the others. */
enum tc_hold {
    TC_HOLD_NOT,
    TC_HOLD_OPEN, /* what the others were given by its last step has not arrived yet: the next look will tell */
    TC_HOLD_UP
};
/* Whether all that children of other trees want lies too far ahead of what child has been given, all that these have been
 * given has arrived, and took less than half of the time for each byte: they wait for it, and not because it has more to
 * catch up with. */
enum tc_hold tc_child_holds_up(const struct tc_children *children, const struct tc_child *child,
                               const struct tc_store *store);

#endif
