/* compare.h - what of a file an agent need not be sent: the chunks it looks for in what is here already. Pure.
 *
 * Here means an older version of the file, or what an interrupted session left of it. When a page has come, each of its
 * chunks is compared with what is here, a few at a time; what is wanted of the page is known when all have been. */
#ifndef TC_SESSION_COMPARE_H
#define TC_SESSION_COMPARE_H

#include "data/chunk.h"

#define TC_COMPARE_MOST 16u /* chunks being compared at once: enough to keep every worker busy */

struct tc_compare {
    struct tc_bits todo; /* chunks still to be compared */
    struct tc_bits out;  /* chunks being compared */
    uint32_t from;       /* there is nothing to do below */
};

/* An empty one, {0}, settles everything at once. TC_E_NOMEM. */
int tc_compare_init(struct tc_compare *compare, const struct tc_layout *layout, struct tc_err *err);
void tc_compare_free(struct tc_compare *compare);

void tc_compare_page(struct tc_compare *compare, const struct tc_layout *layout, uint32_t page); /* it has come */

/* The next chunk to compare, or TC_BITS_NONE while enough are being compared. */
uint32_t tc_compare_take(struct tc_compare *compare);
void tc_compare_done(struct tc_compare *compare, uint32_t chunk); /* its result is here */

/* Every chunk of page has been compared; of all pages that have come. */
bool tc_compare_settled(const struct tc_compare *compare, uint32_t page);
bool tc_compare_idle(const struct tc_compare *compare);

#endif
