#include "cli/nearest.h"

#include <string.h>

#define LENGTH_MAX 24u
#define EDITS_MAX 2u

static unsigned distance(const char *a, size_t n, const char *b, size_t m)
{
    unsigned d[LENGTH_MAX + 1][LENGTH_MAX + 1];
    if (n > LENGTH_MAX || m > LENGTH_MAX)
        return LENGTH_MAX;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

void tc_nearest_try(struct tc_nearest *nearest, const char *candidate)
{
    size_t size = nearest->size ? nearest->size : strlen(nearest->word);
    unsigned edits = distance(nearest->word, size, candidate, strlen(candidate));
    if (edits > EDITS_MAX || edits >= size || (nearest->found && edits >= nearest->edits))
        return;
    nearest->found = candidate;
    nearest->edits = edits;
}
