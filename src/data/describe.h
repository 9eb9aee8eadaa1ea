/* describe.h - the description of a published array as JSON: .treecast/INODE.json, and what OFFER carries of it.
 *
 * {"schema":1,"name":"A.npy","size":8000128,"digest":"<64 hex>","session":"<32 hex>","created":1700000000,
 *  "array":{"dtype":"<f8","shape":[1000,1000],"order":"C","offset":128,"item_size":8}}
 * "array" is null for plain bytes; dtype is a string, or a JSON array for structured types. Unknown members are ignored.
 * Where the array has a lease: "expires":1700003600,"ends":123456789,"boot":"<32 hex>" and/or
 * "owner_pid":4711,"owner_start":123456.
 * Names are checked by the reader (tc_name_check). The only module that sees jansson below the local API. */
#ifndef TC_DATA_DESCRIBE_H
#define TC_DATA_DESCRIBE_H

#include "data/array.h"
#include "data/digest.h"
#include "data/lease.h"
#include "data/page.h"

#define TC_NAME_MAX 128u /* bytes without NUL */

struct tc_description {
    char name[TC_NAME_MAX + 1];
    uint64_t size; /* bytes of the file */
    struct tc_digest digest;
    uint8_t session[TC_SESSION_ID_SIZE];
    uint64_t created; /* seconds since 1970 */
    struct tc_lease lease;
    struct tc_array array;
};

/* [A-Za-z0-9][A-Za-z0-9._-]{0,127}; TC_E_NAME. The line shows the name escaped. */
int tc_name_check(const char *name, struct tc_err *err);

/* JSON text, one line without newline, to be freed with free(); NULL and TC_E_NOMEM. */
char *tc_description_print(const struct tc_description *description, struct tc_err *err);
/* size bytes of JSON; fills description (array to be freed). TC_E_FORMAT. */
int tc_description_parse(struct tc_description *description, const char *json, size_t size, struct tc_err *err);

/* The session id in hex; tc_session_parse says -1 for what is none. */
void tc_session_hex(const uint8_t session[TC_SESSION_ID_SIZE], char text[2 * TC_SESSION_ID_SIZE + 1]);
int tc_session_parse(uint8_t session[TC_SESSION_ID_SIZE], const char *text);

/* The array part alone, as OFFER carries it: "null" or an object. */
char *tc_array_print(const struct tc_array *array, struct tc_err *err);
/* Checks too that header, shape and element size fit file_size. */
int tc_array_parse(struct tc_array *array, const char *json, size_t size, uint64_t file_size, struct tc_err *err);

#endif
