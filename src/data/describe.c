#include "data/describe.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define SCHEMA 1

int tc_name_check(const char *name, struct tc_err *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strspn(name, allowed);
    if (length > 0 && length <= TC_NAME_MAX && !name[length] && !strchr("._-", name[0]))
        return 0;
    char shown[80];
    return tc_fail(err, TC_E_NAME, "name '%s' is not allowed: letters, digits and ._- only, up to %u, not ._- first",
                   tc_escape(shown, sizeof shown, name), TC_NAME_MAX);
}

static int out_of_memory(struct tc_err *err)
{
    return tc_fail(err, TC_E_NOMEM, "out of memory");
}

static int wrong(struct tc_err *err, const char *member)
{
    return tc_fail(err, TC_E_FORMAT, "description: \"%s\" is missing or wrong", member);
}

/* A structured dtype is JSON already, one in a word is not. */
static json_t *dtype_json(const char *dtype)
{
    return dtype[0] == '[' ? json_loads(dtype, 0, NULL) : json_string(dtype);
}

/* NULL when there is no memory: json_pack takes that for an error of its own. */
static json_t *array_json(const struct tc_array *array)
{
    if (!array->described)
        return json_null();
    json_t *shape = json_array();
    for (unsigned i = 0; i < array->ndim; i++)
        if (json_array_append_new(shape, json_integer((json_int_t)array->shape[i]))) {
            json_decref(shape);
            return NULL;
        }
    return json_pack("{s:o, s:o, s:s, s:I, s:I}", "dtype", dtype_json(array->dtype), "shape", shape, "order",
                     array->fortran ? "F" : "C", "offset", (json_int_t)array->offset, "item_size",
                     (json_int_t)array->item_size);
}

/* Takes root. */
static char *print(json_t *root, struct tc_err *err)
{
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(root);
    if (!text)
        out_of_memory(err);
    return text;
}

char *tc_array_print(const struct tc_array *array, struct tc_err *err)
{
    return print(array_json(array), err);
}

void tc_session_hex(const uint8_t session[TC_SESSION_ID_SIZE], char text[2 * TC_SESSION_ID_SIZE + 1])
{
    for (size_t i = 0; i < TC_SESSION_ID_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", session[i]);
}

int tc_session_parse(uint8_t session[TC_SESSION_ID_SIZE], const char *text)
{
    static const char digits[] = "0123456789abcdef";
    if (strlen(text) != 2 * TC_SESSION_ID_SIZE || strspn(text, digits) != 2 * TC_SESSION_ID_SIZE)
        return -1;
    for (size_t i = 0; i < TC_SESSION_ID_SIZE; i++)
        session[i] =
            (uint8_t)((strchr(digits, text[2 * i]) - digits) << 4 | (strchr(digits, text[2 * i + 1]) - digits));
    return 0;
}

_Static_assert(TC_BOOT_ID_SIZE == TC_SESSION_ID_SIZE, "both ids are written alike");

static int add_lease(json_t *root, const struct tc_lease *lease)
{
    char boot[2 * TC_BOOT_ID_SIZE + 1];
    if (lease->expires && json_object_set_new(root, "expires", json_integer((json_int_t)lease->expires)) < 0)
        return -1;
    tc_session_hex(lease->boot, boot);
    if (lease->ends && (json_object_set_new(root, "ends", json_integer((json_int_t)lease->ends)) < 0 ||
                        json_object_set_new(root, "boot", json_string(boot)) < 0))
        return -1;
    if (lease->pid && (json_object_set_new(root, "owner_pid", json_integer(lease->pid)) < 0 ||
                       json_object_set_new(root, "owner_start", json_integer((json_int_t)lease->start)) < 0))
        return -1;
    return 0;
}

char *tc_description_print(const struct tc_description *description, struct tc_err *err)
{
    char digest[2 * TC_DIGEST_SIZE + 1], session[2 * TC_SESSION_ID_SIZE + 1];
    tc_digest_hex(&description->digest, digest);
    tc_session_hex(description->session, session);
    json_t *root = json_pack("{s:i, s:s, s:I, s:s, s:s, s:I, s:o}", "schema", SCHEMA, "name", description->name, "size",
                             (json_int_t)description->size, "digest", digest, "session", session, "created",
                             (json_int_t)description->created, "array", array_json(&description->array));
    if (root && add_lease(root, &description->lease) < 0) {
        json_decref(root);
        root = NULL;
    }
    return print(root, err);
}

static int get_number(json_t *object, const char *member, uint64_t *value, struct tc_err *err)
{
    json_t *number = json_object_get(object, member);
    if (!json_is_integer(number) || json_integer_value(number) < 0)
        return wrong(err, member);
    *value = (uint64_t)json_integer_value(number);
    return 0;
}

/* Absent: no lease. */
static int get_lease(json_t *root, struct tc_lease *lease, struct tc_err *err)
{
    uint64_t pid = 0;
    const char *boot = json_string_value(json_object_get(root, "boot"));
    int rc = json_object_get(root, "expires") ? get_number(root, "expires", &lease->expires, err) : 0;
    if (rc == 0 && json_object_get(root, "ends")) {
        rc = get_number(root, "ends", &lease->ends, err);
        if (rc == 0 && (!boot || tc_session_parse(lease->boot, boot) < 0))
            rc = wrong(err, "boot");
    }
    if (rc == 0 && json_object_get(root, "owner_pid")) {
        rc = get_number(root, "owner_pid", &pid, err);
        if (rc == 0)
            rc = get_number(root, "owner_start", &lease->start, err);
        if (rc == 0 && (pid == 0 || pid > INT32_MAX))
            rc = wrong(err, "owner_pid");
        lease->pid = (uint32_t)pid;
    }
    return rc;
}

static int get_shape(json_t *object, struct tc_array *array, struct tc_err *err)
{
    json_t *shape = json_object_get(object, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > TC_DIMENSIONS_MAX)
        return wrong(err, "shape");
    array->ndim = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < array->ndim; i++) {
        json_t *extent = json_array_get(shape, i);
        if (!json_is_integer(extent) || json_integer_value(extent) < 0)
            return wrong(err, "shape");
        array->shape[i] = (uint64_t)json_integer_value(extent);
    }
    return 0;
}

static int get_dtype(json_t *object, struct tc_array *array, struct tc_err *err)
{
    json_t *dtype = json_object_get(object, "dtype");
    if (!json_is_string(dtype) && !json_is_array(dtype))
        return wrong(err, "dtype");
    array->dtype = json_is_string(dtype) ? strdup(json_string_value(dtype)) : json_dumps(dtype, JSON_COMPACT);
    return array->dtype ? 0 : out_of_memory(err);
}

static int get_array(json_t *object, struct tc_array *array, uint64_t file_size, struct tc_err *err)
{
    if (json_is_null(object))
        return 0;
    if (!json_is_object(object))
        return wrong(err, "array");
    const char *order = json_string_value(json_object_get(object, "order"));
    if (!order || (strcmp(order, "C") != 0 && strcmp(order, "F") != 0))
        return wrong(err, "order");
    array->fortran = order[0] == 'F';
    int rc = get_number(object, "offset", &array->offset, err);
    if (rc == 0)
        rc = get_number(object, "item_size", &array->item_size, err);
    if (rc == 0)
        rc = get_shape(object, array, err);
    if (rc == 0)
        rc = get_dtype(object, array, err);
    if (rc == 0)
        rc = tc_array_check(array, file_size, err);
    array->described = true;
    return rc;
}

static json_t *load(const char *json, size_t size, struct tc_err *err)
{
    json_error_t why;
    json_t *root = json_loadb(json, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    char shown[sizeof why.text];
    if (!root)
        tc_fail(err, TC_E_FORMAT, "description: %s", tc_escape(shown, sizeof shown, why.text));
    return root;
}

int tc_array_parse(struct tc_array *array, const char *json, size_t size, uint64_t file_size, struct tc_err *err)
{
    memset(array, 0, sizeof *array);
    json_t *root = load(json, size, err);
    if (!root)
        return -TC_E_FORMAT;
    int rc = get_array(root, array, file_size, err);
    json_decref(root);
    if (rc)
        tc_array_free(array);
    return rc;
}

static int get_all(json_t *root, struct tc_description *description, struct tc_err *err)
{
    uint64_t schema;
    int rc = get_number(root, "schema", &schema, err);
    if (rc)
        return rc;
    if (schema != SCHEMA)
        return tc_fail(err, TC_E_FORMAT, "description: schema %llu is not known", (unsigned long long)schema);
    const char *name = json_string_value(json_object_get(root, "name"));
    if (!name || strlen(name) > TC_NAME_MAX)
        return wrong(err, "name");
    strcpy(description->name, name);
    const char *digest = json_string_value(json_object_get(root, "digest"));
    if (!digest || tc_digest_parse(&description->digest, digest, NULL))
        return wrong(err, "digest");
    const char *session = json_string_value(json_object_get(root, "session"));
    if (!session || tc_session_parse(description->session, session))
        return wrong(err, "session");
    rc = get_number(root, "size", &description->size, err);
    if (rc == 0)
        rc = get_number(root, "created", &description->created, err);
    if (rc == 0)
        rc = get_lease(root, &description->lease, err);
    return rc ? rc : get_array(json_object_get(root, "array"), &description->array, description->size, err);
}

int tc_description_parse(struct tc_description *description, const char *json, size_t size, struct tc_err *err)
{
    memset(description, 0, sizeof *description);
    json_t *root = load(json, size, err);
    if (!root)
        return -TC_E_FORMAT;
    int rc = get_all(root, description, err);
    json_decref(root);
    if (rc)
        tc_array_free(&description->array);
    return rc;
}
