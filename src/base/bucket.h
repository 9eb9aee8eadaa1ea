/* bucket.h - a token bucket: how long to wait so that no more than a rate of bytes leaves. Pure arithmetic; the caller
 * brings the time, in milliseconds on a clock that never goes back.
 *
 * What is taken may exceed what is there (a chunk is sent whole): the debt is waited for before the next. Over any longer
 * time no more leaves than rate allows, plus one burst. */
#ifndef TC_BASE_BUCKET_H
#define TC_BASE_BUCKET_H

#include <stdint.h>

struct tc_bucket {
    uint64_t rate; /* bytes a second; 0: no limit */
    int64_t left;  /* thousandths of a byte; below 0: debt */
    uint64_t at;   /* ms: when left was true */
};

#define TC_BUCKET_BURST_MS 125 /* of the rate: what may leave at once after a pause */

struct tc_bucket tc_bucket_new(uint64_t rate, uint64_t now);
uint64_t tc_bucket_wait(struct tc_bucket *bucket, uint64_t now); /* ms until something may be taken; 0: now */
void tc_bucket_take(struct tc_bucket *bucket, uint64_t now, uint64_t bytes);
void tc_bucket_give(struct tc_bucket *bucket, uint64_t bytes); /* of what was taken, not needed after all */

#endif
