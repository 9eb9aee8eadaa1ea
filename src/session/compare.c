#include "session/compare.h"

int tc_compare_init(struct tc_compare *compare, const struct tc_layout *layout, struct tc_err *err)
{
    int status = tc_bits_init(&compare->todo, layout->chunks, err);
    return status == 0 ? tc_bits_init(&compare->out, layout->chunks, err) : status;
}

void tc_compare_free(struct tc_compare *compare)
{
    tc_bits_free(&compare->todo);
    tc_bits_free(&compare->out);
}

void tc_compare_page(struct tc_compare *compare, const struct tc_layout *layout, uint32_t page)
{
    uint32_t first = tc_page_first(page), count = compare->todo.size ? tc_page_count(layout, page) : 0;
    for (uint32_t i = 0; i < count; i++)
        tc_bits_add(&compare->todo, first + i);
    if (first < compare->from)
        compare->from = first;
}

uint32_t tc_compare_take(struct tc_compare *compare)
{
    if (compare->todo.count == 0 || compare->out.count >= TC_COMPARE_MOST)
        return TC_BITS_NONE;
    uint32_t chunk = tc_bits_next(&compare->todo, compare->from);
    compare->from = chunk + 1;
    tc_bits_remove(&compare->todo, chunk);
    tc_bits_add(&compare->out, chunk);
    return chunk;
}

void tc_compare_done(struct tc_compare *compare, uint32_t chunk)
{
    tc_bits_remove(&compare->out, chunk);
}

static bool none_in(const struct tc_bits *bits, uint32_t page)
{
    return bits->count == 0 || tc_bits_page(bits, page) == 0;
}

bool tc_compare_settled(const struct tc_compare *compare, uint32_t page)
{
    return none_in(&compare->todo, page) && none_in(&compare->out, page);
}

bool tc_compare_idle(const struct tc_compare *compare)
{
    return compare->todo.count == 0 && compare->out.count == 0;
}
