/* sink.h - the file an agent fills: preallocated under a hidden name, placed by chunk, published by one rename.
 *
 * A reader sees the old file, no file, or the whole new file, whatever happens between any two calls. place and read
 * are thread-safe with one another; all calls may block, none is for the loop thread. */
#ifndef TC_FILE_SINK_H
#define TC_FILE_SINK_H

#include "file/folder.h"

struct tc_sink;

struct tc_sink_options {
    mode_t mode; /* of the published file; 0444 by default */
    gid_t group; /* (gid_t)-1: leave it */
    bool force;  /* replace a published NAME; else publishing over one is TC_E_EXISTS */
};

/* Make DIR/.treecast/NAME.SESSION.part (0600, flock'ed) and reserve size bytes with posix_fallocate: on a disk at once,
 * on tmpfs (where that takes as long as writing them) the room is promised and reserved a stride ahead of the data, so
 * that place can still say TC_E_NOROOM when others take it. folder is borrowed until free, options are copied. TC_E_NOROOM "no room (needs 8.0 GiB, has 3.1 GiB)", TC_E_PERMISSION, TC_E_LIMIT,
 * TC_E_NAME, TC_E_POLICY (NAME is no regular file), TC_E_EXISTS (without force, already here: before any byte moves;
 * or this session already fills NAME here). Nothing is left behind on error. */
struct tc_sink *tc_sink_new(struct tc_folder *folder, const char *name, const uint8_t session[TC_SESSION_ID_SIZE],
                            uint64_t size, const struct tc_sink_options *options, struct tc_err *err);

int tc_sink_place(struct tc_sink *sink, uint64_t offset, const void *bytes, size_t size, struct tc_err *err);
int tc_sink_read(struct tc_sink *sink, uint64_t offset, void *bytes, size_t size, struct tc_err *err);

/* Every byte is in place: set mode and group, write the description (description->name and size must be the sink's),
 * sync both off tmpfs, rename. After success the sink still reads (children are served from it). TC_E_EXISTS and
 * TC_E_POLICY as above; nothing is visible after an error, except that the last sync, of DIR, may fail: then NAME is
 * there, but may not survive lost power. */
int tc_sink_publish(struct tc_sink *sink, const struct tc_description *description, struct tc_err *err);

/* Close; an unpublished file is removed. NULL allowed. */
void tc_sink_free(struct tc_sink *sink);

#endif
