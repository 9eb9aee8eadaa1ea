#include "base/bucket.h"

#define RATE_MOST (1ull << 40) /* a TiB a second is no limit either */
#define TAKE_MOST (1ull << 40)

struct tc_bucket tc_bucket_new(uint64_t rate, uint64_t now)
{
    struct tc_bucket bucket = {.rate = rate < RATE_MOST ? rate : RATE_MOST, .at = now};
    bucket.left = (int64_t)(bucket.rate * TC_BUCKET_BURST_MS);
    return bucket;
}

static void refill(struct tc_bucket *bucket, uint64_t now)
{
    uint64_t pause = now > bucket->at ? now - bucket->at : 0;
    int64_t full = (int64_t)(bucket->rate * TC_BUCKET_BURST_MS);
    uint64_t most = (uint64_t)(INT64_MAX / 2) / bucket->rate; /* keeps the product and the sum within 63 bits */
    int64_t more = (int64_t)((pause < most ? pause : most) * bucket->rate);
    bucket->left = bucket->left + more < full ? bucket->left + more : full;
    bucket->at = now > bucket->at ? now : bucket->at;
}

uint64_t tc_bucket_wait(struct tc_bucket *bucket, uint64_t now)
{
    if (bucket->rate == 0)
        return 0;
    refill(bucket, now);
    return bucket->left >= 0 ? 0 : ((uint64_t)-bucket->left + bucket->rate - 1) / bucket->rate;
}

void tc_bucket_take(struct tc_bucket *bucket, uint64_t now, uint64_t bytes)
{
    if (bucket->rate == 0)
        return;
    refill(bucket, now);
    bucket->left -= (int64_t)((bytes < TAKE_MOST ? bytes : TAKE_MOST) * 1000);
}

void tc_bucket_give(struct tc_bucket *bucket, uint64_t bytes)
{
    if (bucket->rate)
        bucket->left += (int64_t)((bytes < TAKE_MOST ? bytes : TAKE_MOST) * 1000); /* the next refill bounds it */
}
