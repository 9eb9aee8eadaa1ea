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
    bool force;  /* replace a published NAME */
    /* What the file is to be described as: a published NAME of the same size and description may be the same file, and
     * nothing is reserved before tc_sink_allocate. NULL: it cannot be the same. Borrowed for tc_sink_new. */
    const struct tc_array *array;
    /* The sender's file itself, on this host: another place to look for chunks in. It is cloned where the file system
     * can (nothing is copied then), and taken as it is where the sender has made DIR/.treecast/SESSION.link of it. */
    bool has_source;
    int source; /* borrowed until free; nothing in it is believed */
};

/* Make DIR/.treecast/NAME.SESSION.part (0600, flock'ed), or adopt what an interrupted session left of NAME, and reserve
 * size bytes with posix_fallocate: on a disk at once, on tmpfs (where that takes as long as writing them) the space is
 * promised and reserved a stride ahead of the data, so that place can still say TC_E_NOSPACE when others take it.
 * Left-overs of other files go first when space is short. folder is borrowed until free, options are copied.
 * TC_E_NOSPACE "no space (needs 8.0 GiB, has 3.1 GiB)", with who has no more where that is not the file system, TC_E_PERMISSION, TC_E_LIMIT, TC_E_NAME, TC_E_POLICY (NAME is no
 * regular file), TC_E_EXISTS (without force, another file is already here: before any byte moves; or this session
 * already fills NAME here). Nothing is left behind on error. */
struct tc_sink *tc_sink_new(struct tc_folder *folder, const char *name, const uint8_t session[TC_SESSION_ID_SIZE],
                            uint64_t size, const struct tc_sink_options *options, struct tc_err *err);

enum {
    TC_SINK_OLD = 1,    /* NAME is published */
    TC_SINK_COMPARE = 2 /* compare may find something: in that file, or in what a session left */
};
unsigned tc_sink_found(const struct tc_sink *sink);             /* TC_SINK_* */
bool tc_sink_allocated(const struct tc_sink *sink);             /* there is a file to place in */
int tc_sink_allocate(struct tc_sink *sink, struct tc_err *err); /* reserve it now; errors as above */

/* Look for the bytes of a chunk, by their digest, in what was adopted and at the same place of the published NAME.
 * found: they are here and, once allocated, in place and verified there (copied through memory, since only what was
 * digested may be placed). bytes has space for size bytes. Something that cannot be read is not found; errors as place. */
int tc_sink_compare(struct tc_sink *sink, uint64_t offset, void *bytes, size_t size, const struct tc_digest *digest,
                    bool *found, struct tc_err *err);

/* Whether the chunk that was placed there reads back as it was: off tmpfs from the disk, not from what the kernel has
 * kept. What cannot be read is not. */
bool tc_sink_check(struct tc_sink *sink, uint64_t offset, void *bytes, size_t size, const struct tc_digest *digest);

/* Before allocation, and for what has not been placed since, read gives the published file's bytes. */
int tc_sink_place(struct tc_sink *sink, uint64_t offset, const void *bytes, size_t size, struct tc_err *err);
int tc_sink_read(struct tc_sink *sink, uint64_t offset, void *bytes, size_t size, struct tc_err *err);

/* Every byte is in place: set mode and group, write the description (description->name and size must be the sink's),
 * sync both off tmpfs, rename. Without allocation every byte was found in the published NAME: it only has to be there
 * still (else TC_E_NOTFOUND). After success the sink still reads (children are served from it). TC_E_EXISTS and
 * TC_E_POLICY as above; nothing is visible after an error, except that the last sync, of DIR, may fail: then NAME is
 * there, but may not survive lost power. */
int tc_sink_publish(struct tc_sink *sink, const struct tc_description *description, struct tc_err *err);

/* Close. An unpublished file into which something was placed, or that was adopted, stays for a session to come, the only
 * one of its NAME; drop: it does not. NULL allowed. */
void tc_sink_drop(struct tc_sink *sink);
void tc_sink_free(struct tc_sink *sink);

#endif
