/* hostile.h - what hosts and senders say that mean harm, or are broken in a way that looks like it: the messages of an
 * honest machine with some left out and some changed. */
#ifndef TC_TESTS_HOSTILE_H
#define TC_TESTS_HOSTILE_H

#include "session/message.h"

/* SIM_MUTE: what a host still says on its control link. */
enum hostile_mute {
    MUTE_AT_ONCE,     /* nothing */
    MUTE_AFTER_HELLO, /* no answer to the offer */
    MUTE_NEVER_READY, /* reports, but no answer */
    MUTE_AFTER_READY, /* nothing any more */
    MUTE_NEVER_DONE,  /* everything but the end */
    MUTES
};

/* SIM_RAISE: takes no chunk, and has this to say of it. */
enum hostile_raise {
    RAISE_NOTHING,
    RAISE_BYTES,    /* by one */
    RAISE_COMPARED, /* by one */
    RAISE_RECEIVED, /* by one, from all its parents */
    RAISE_HELD,     /* by one, in all trees */
    RAISE_OTHERS,   /* chunks, sent, adopted, waiting */
    RAISE_FLOOR,    /* bytes, by a little more than it has to */
    RAISE_LOOKS,    /* compared, the same */
    RAISE_TOO_MUCH, /* bytes and compared beyond all bounds, up and down */
    RAISE_WHOLE,    /* it has every byte, and never publishes */
    RAISE_ALL,      /* all of the above at once */
    RAISES
};

/* SIM_CHEAT: from when on the sender says nothing, and keeps its links. */
enum hostile_cheat { CHEAT_NO_OFFER, CHEAT_NO_PLAN, CHEAT_NO_DATA, CHEAT_NO_LAST_PAGE, CHEAT_NO_BYE, CHEATS };

struct hostile_host {
    enum hostile_mute mute;   /* MUTES: not */
    enum hostile_raise raise; /* RAISES: not */
    uint64_t size;
    uint32_t min_rate;
    uint64_t reports; /* so far */
    bool silent;
};

/* What becomes of a message from such a host, on its control link or not. Takes body, returns one, or NULL: nothing. */
struct tc_blob *hostile_say(struct hostile_host *host, bool control, uint8_t type, struct tc_blob *body);

/* Whether a sender that cheats falls silent with this message. */
bool hostile_silent_from(enum hostile_cheat cheat, uint8_t type, const struct tc_blob *body);

#endif
