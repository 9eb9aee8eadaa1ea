/* What people write: host lists, host files, key files, configuration. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "fuzz.h"
#include "net/key.h"
#include "plan/hostfile.h"
#include "plan/switches.h"
#include "plan/tree.h"

#define GROUPS_SEEN 512 /* switches that the longest input can name */

static char *text_of(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);
    MUST(text);
    memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

/* What was read folds to a text that reads as the same hosts. */
struct piece {
    const uint8_t *bytes;
    size_t size;
};

static void must_fold(const struct tc_hostlist *list)
{
    struct tc_hostlist *again = tc_hostlist_new(NULL);
    char *folded = tc_hostlist_fold(list, NULL);
    struct tc_err err = {0};
    MUST(folded && again);
    MUST(tc_hostlist_add(again, folded, &err) == 0 || tc_hostlist_count(list) == 0);
    MUST(tc_hostlist_count(again) == tc_hostlist_count(list));
    for (size_t i = 0; i < tc_hostlist_count(list); i++) {
        char name[TC_HOST_TEXT_MAX];
        uint16_t port;
        MUST(tc_host_split(tc_hostlist_at(list, i), name, sizeof name, &port, NULL) == 0 && name[0]);
        MUST(!strpbrk(tc_hostlist_at(list, i), " ,\n\033"));
    }
    free(folded);
    MUST(tc_hostlist_count(list) == 0 || tc_hostlist_exclude(again, tc_hostlist_at(list, 0), NULL) == 0);
    tc_hostlist_free(again);
}

void fuzz_hostlist(const uint8_t *bytes, size_t size)
{
    struct tc_hostlist *list = tc_hostlist_new(NULL);
    char *text = text_of(bytes, size);
    struct tc_err err = {0};
    MUST(list);
    int status = tc_hostlist_add(list, text, &err);
    MUST(status == 0 || (tc_hostlist_count(list) == 0 && err.text[0]));
    if (status == 0)
        must_fold(list);
    free(text);
    tc_hostlist_free(list);
}

/* Every file that is included holds the bytes again: depth and number are what ends that. */
static int include_again(void *arg, const char *path, char **bytes, size_t *size, struct tc_err *err)
{
    const struct piece *piece = arg;
    (void)path;
    (void)err;
    MUST(*bytes = malloc(piece->size + 1));
    memcpy(*bytes, piece->bytes, piece->size);
    *size = piece->size;
    return 0;
}

void fuzz_hostfile(const uint8_t *bytes, size_t size)
{
    struct piece piece = {bytes, size};
    for (enum tc_hostfile_form form = TC_HOSTFILE_LISTS; form <= TC_HOSTFILE_SLOTS; form++) {
        const struct tc_hostfile_source source = {.form = form, .read = include_again, .arg = &piece};
        struct tc_hostlist *list = tc_hostlist_new(NULL);
        struct tc_err err = {0};
        MUST(list);
        int status = tc_hostfile_add(list, (const char *)bytes, size, "hosts", &source, &err);
        MUST(status == 0 || (tc_hostlist_count(list) == 0 && strncmp(err.text, "hosts", 5) == 0));
        if (status == 0)
            must_fold(list);
        tc_hostlist_free(list);
    }
}

/* A topology that was read can be planned over, and none of its groups is entered twice. */
static void must_plan(const struct tc_topology *topology)
{
    double in[GROUPS_SEEN], out[GROUPS_SEEN];
    struct tc_tree *tree = tc_tree_new_grouped((struct tc_tree_spec){.kind = TC_TREE_DOUBLE}, topology, NULL);
    MUST(tree);
    MUST(tc_topology_groups(topology) <= GROUPS_SEEN);
    tc_tree_crossings(tree, topology, in, out);
    for (uint32_t group = 0; group < tc_topology_groups(topology); group++)
        MUST(in[group] <= 1 && out[group] <= 1);
    tc_tree_free(tree);
}

void fuzz_switches(const uint8_t *bytes, size_t size)
{
    static const char *const members[] = {"n1", "n2", "n3:7", "n4.a", "a", "b", "n11", NULL};
    struct tc_hostlist *unknown = tc_hostlist_new(NULL);
    struct tc_err err = {0};
    MUST(unknown);
    struct tc_topology *topology = tc_switches_read((const char *)bytes, size, "t", members, 8, unknown, &err);
    MUST(topology || (err.reason == TC_E_USAGE && strncmp(err.text, "t:", 2) == 0 && !strpbrk(err.text, "\n\033")));
    if (topology)
        must_plan(topology);
    tc_topology_free(topology);
    tc_hostlist_free(unknown);
}

void fuzz_key(const uint8_t *bytes, size_t size)
{
    struct tc_key key = {0};
    struct tc_err err = {0};
    int fd = fuzz_file(bytes, size);
    int status = tc_key_read_fd(&key, fd, &err);
    MUST(status == 0 || (err.reason && err.text[0] && !strpbrk(err.text, "\n\033")));
    if (status == 0) {
        uint8_t derived[TC_KEY_SIZE];
        MUST(size == 86 || size == 158);
        MUST(tc_key_derive(&key, "control", derived, NULL) == 0);
    }
    tc_key_clear(&key);
    close(fd);
}

/* First byte: for which verb. */
void fuzz_config(const uint8_t *bytes, size_t size)
{
    static const struct tc_verb *const verbs[] = {&tc_verb_send, &tc_verb_recv, &tc_verb_attach, &tc_verb_plan};
    struct tc_err err = {0};
    char path[64];
    if (size < 1)
        return;
    struct tc_values *values = tc_values_new(verbs[bytes[0] % 4], NULL);
    int fd = fuzz_file(bytes + 1, size - 1);
    MUST(values);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fchmod(fd, 0600);
    int status = tc_values_file(values, path, bytes[0] & 4, &err);
    FILE *file = fopen(path, "r");
    MUST(file && !(tc_trust_named(file, 1) && tc_trust_named(file, 1))); /* the first has read it to its end */
    fclose(file);
    MUST(status == 0 || err.text[0]);
    tc_values_free(values);
    close(fd);
}
