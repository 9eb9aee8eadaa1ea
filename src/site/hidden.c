#include "site/hidden.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

size_t tc_hidden_by_mount(const char *path, const char *mountinfo)
{
    size_t best = 0, counted = 0;
    for (const char *line = mountinfo; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char point[512];
        if (sscanf(line, "%*d %*d %*s %*s %511s", point) != 1)
            continue;
        size_t length = strlen(point);
        bool above = length > 1 && strncmp(path, point, length) == 0 && (!path[length] || path[length] == '/');
        if (!above || length < best)
            continue;
        counted = length == best ? counted + 1 : 1;
        best = length;
    }
    return counted > 1 ? best : 0;
}

size_t tc_slurm_setting(const char *text, const char *key, const char **value)
{
    size_t length = strlen(key);
    *value = "";
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        for (const char *at = line; *at && *at != '\n' && *at != '#'; at++) {
            bool begins = at == line || at[-1] == ' ' || at[-1] == '\t';
            if (!begins || strncasecmp(at, key, length) != 0 || at[length] != '=')
                continue;
            *value = at + length + 1;
            return strcspn(*value, " \t\n#");
        }
    }
    return 0;
}

bool tc_hidden_by_slurm(const char *path, const char *conf, const char *container)
{
    const char *type, *dirs;
    size_t length = tc_slurm_setting(conf, "JobContainerType", &type);
    if (length < 6 || strncasecmp(type + length - 6, "/tmpfs", 6) != 0)
        return false;
    length = tc_slurm_setting(container, "Dirs", &dirs);
    if (length == 0) { /* Slurm's own default */
        dirs = "/tmp,/dev/shm";
        length = strlen(dirs);
    }
    for (size_t at = 0, word; at < length; at += word + 1) {
        word = strcspn(dirs + at, ", \t\n");
        word = at + word > length ? length - at : word;
        if (word > 1 && strncmp(path, dirs + at, word) == 0 && (!path[word] || path[word] == '/'))
            return true;
    }
    return false;
}
