/* Every file of the corpus through its target, in the build at hand. One TAP line a target.
 * With arguments TARGET FILE...: only these, as when a fuzzer has found something. */
#include "fuzz.h"

#include <dirent.h>
#include <stdbool.h>
#include <string.h>

static const struct target {
    const char *name;
    void (*run)(const uint8_t *bytes, size_t size);
} targets[] = {
#define TARGET(name, longest) {#name, fuzz_##name},
#include "targets.def"
#undef TARGET
};
enum { TARGETS = sizeof targets / sizeof targets[0], LONGEST = 1 << 20 };

static bool replay(const struct target *target, const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = file ? malloc(LONGEST) : NULL;
    size_t size = bytes ? fread(bytes, 1, LONGEST, file) : 0;
    bool whole = bytes && !ferror(file);
    if (whole) {
        uint8_t *exact = malloc(size + !size); /* so that a sanitizer sees a step beyond the end */
        MUST(exact);
        memcpy(exact, bytes, size);
        target->run(exact, size);
        free(exact);
    }
    free(bytes);
    if (file)
        fclose(file);
    return whole;
}

static unsigned replay_folder(const struct target *target, const char *folder)
{
    unsigned count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        count += replay(target, path);
    }
    if (dir)
        closedir(dir);
    return count;
}

static int replay_some(int count, char **words)
{
    for (unsigned i = 0; i < TARGETS; i++) {
        if (strcmp(targets[i].name, words[0]) != 0)
            continue;
        for (int file = 1; file < count; file++)
            if (!replay(&targets[i], words[file])) {
                perror(words[file]);
                return 1;
            }
        return 0;
    }
    fprintf(stderr, "no target %s\n", words[0]);
    return 2;
}

int main(int argc, char **argv)
{
    const char *top = getenv("top_srcdir");
    unsigned failed = 0;
    if (argc > 1)
        return replay_some(argc - 1, argv + 1);
    printf("1..%d\n", TARGETS);
    for (unsigned i = 0; i < TARGETS; i++) {
        char folder[2048];
        snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", top ? top : ".", targets[i].name);
        printf("# %s\n", targets[i].name); /* if the next line is missing, this one crashed */
        fflush(stdout);
        targets[i].run((const uint8_t *)"", 0);
        unsigned count = replay_folder(&targets[i], folder);
        printf("%s %u - %s: %u inputs replayed\n", count ? "ok" : "not ok", i + 1, targets[i].name, count);
        failed += count == 0;
    }
    return failed > 0;
}
