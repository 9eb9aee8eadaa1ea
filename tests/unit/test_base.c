/* The lowest module: cursor, blobs, reasons, escaped text. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/blob.h"
#include "base/bucket.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

/* buf */

START_TEST(numbers_come_back_big_endian)
{
    uint8_t bytes[15];
    struct tc_buf out = tc_buf_writer(bytes, sizeof bytes);
    tc_buf_put8(&out, 0x01);
    tc_buf_put16(&out, 0x0203);
    tc_buf_put32(&out, 0x04050607);
    tc_buf_put64(&out, 0x08090a0b0c0d0e0f);
    ck_assert(tc_buf_done(&out));
    for (unsigned i = 0; i < sizeof bytes; i++)
        ck_assert_uint_eq(bytes[i], i + 1);

    struct tc_buf in = tc_buf_reader(bytes, sizeof bytes);
    ck_assert_uint_eq(tc_buf_get8(&in), 0x01);
    ck_assert_uint_eq(tc_buf_get16(&in), 0x0203);
    ck_assert_uint_eq(tc_buf_get32(&in), 0x04050607);
    ck_assert_uint_eq(tc_buf_get64(&in), 0x08090a0b0c0d0e0f);
    ck_assert(tc_buf_done(&in));
}
END_TEST

static void put(struct tc_buf *buf, int what)
{
    switch (what) {
    case 0:
        tc_buf_put8(buf, 0xff);
        break;
    case 1:
        tc_buf_put16(buf, 0xffff);
        break;
    case 2:
        tc_buf_put32(buf, 0xffffffff);
        break;
    case 3:
        tc_buf_put64(buf, UINT64_MAX);
        break;
    case 4:
        tc_buf_put(buf, "\xff\xff\xff", 3);
        break;
    default:
        tc_buf_put_text(buf, "\xff\xff\xff");
    }
}

static uint64_t get(struct tc_buf *buf, int what)
{
    uint8_t bytes[3];
    char text[4];
    switch (what) {
    case 0:
        return tc_buf_get8(buf);
    case 1:
        return tc_buf_get16(buf);
    case 2:
        return tc_buf_get32(buf);
    case 3:
        return tc_buf_get64(buf);
    case 4:
        tc_buf_get(buf, bytes, sizeof bytes);
        return (uint64_t)(bytes[0] | bytes[1] | bytes[2]);
    default:
        tc_buf_get_text(buf, text, sizeof text);
        return (uint64_t)(unsigned char)text[0];
    }
}

static const size_t sizes[] = {1, 2, 4, 8, 3, 5};

/* Each call with exactly enough space, then with every smaller space: nothing outside is touched, and it stays failed. */
START_TEST(no_call_leaves_the_bounds)
{
    uint8_t bytes[16];
    for (size_t capacity = 0; capacity <= sizes[_i]; capacity++) {
        memset(bytes, 0, sizeof bytes);
        struct tc_buf buf = tc_buf_writer(bytes, capacity);
        put(&buf, _i);
        ck_assert_int_eq(tc_buf_ok(&buf), capacity == sizes[_i]);
        for (size_t i = capacity; i < sizeof bytes; i++)
            ck_assert_uint_eq(bytes[i], 0);
        tc_buf_put(&buf, NULL, 0);
        ck_assert_int_eq(tc_buf_ok(&buf), capacity == sizes[_i]);
    }
}
END_TEST

START_TEST(a_short_read_gives_zero_and_stays_failed)
{
    uint8_t bytes[16];
    for (size_t capacity = 0; capacity < sizes[_i]; capacity++) {
        memset(bytes, 0xff, sizeof bytes);
        struct tc_buf buf = tc_buf_reader(bytes, capacity);
        ck_assert_uint_eq(get(&buf, _i), 0);
        ck_assert(!tc_buf_ok(&buf));
        ck_assert_uint_eq(tc_buf_left(&buf), 0);
        ck_assert_uint_eq(tc_buf_get8(&buf), 0);
        ck_assert_ptr_null(tc_buf_take(&buf, 0));
        ck_assert(!tc_buf_done(&buf));
    }
}
END_TEST

START_TEST(huge_counts_do_not_wrap)
{
    uint8_t bytes[8] = {0};
    struct tc_buf buf = tc_buf_reader(bytes, sizeof bytes);
    tc_buf_get32(&buf);
    ck_assert_ptr_null(tc_buf_take(&buf, SIZE_MAX));
    ck_assert(!tc_buf_ok(&buf));
    buf = tc_buf_reader(NULL, 0);
    tc_buf_get(&buf, NULL, 0);
    ck_assert(tc_buf_done(&buf));
}
END_TEST

START_TEST(take_lends_the_bytes_in_place)
{
    const uint8_t bytes[4] = {1, 2, 3, 4};
    struct tc_buf buf = tc_buf_reader(bytes, sizeof bytes);
    tc_buf_get8(&buf);
    ck_assert_ptr_eq(tc_buf_take(&buf, 2), bytes + 1);
    ck_assert_uint_eq(tc_buf_left(&buf), 1);
    ck_assert(!tc_buf_done(&buf));
    tc_buf_spoil(&buf);
    ck_assert(!tc_buf_ok(&buf));
}
END_TEST

START_TEST(text_comes_back)
{
    uint8_t bytes[16];
    char text[8];
    struct tc_buf out = tc_buf_writer(bytes, sizeof bytes);
    tc_buf_put_text(&out, "array");
    tc_buf_put_text(&out, "");
    struct tc_buf in = tc_buf_reader(bytes, out.at);
    tc_buf_get_text(&in, text, sizeof text);
    ck_assert_str_eq(text, "array");
    tc_buf_get_text(&in, text, sizeof text);
    ck_assert_str_eq(text, "");
    ck_assert(tc_buf_done(&in));
}
END_TEST

START_TEST(text_with_nul_or_without_room_is_refused)
{
    char text[4] = "???";
    struct tc_buf in = tc_buf_reader("\0\3a\0b", 5);
    tc_buf_get_text(&in, text, sizeof text);
    ck_assert(!tc_buf_ok(&in));
    ck_assert_str_eq(text, "");

    in = tc_buf_reader("\0\4abcd", 6);
    tc_buf_get_text(&in, text, sizeof text);
    ck_assert(!tc_buf_ok(&in));
    ck_assert_str_eq(text, "");

    static char far[UINT16_MAX + 2];
    static uint8_t capacity[UINT16_MAX + 8];
    memset(far, 'x', sizeof far - 1);
    struct tc_buf out = tc_buf_writer(capacity, sizeof capacity);
    tc_buf_put_text(&out, far);
    ck_assert(!tc_buf_ok(&out));
}
END_TEST

/* blob */

START_TEST(a_pool_lends_the_same_memory_again)
{
    struct tc_blob_pool *pool = tc_blob_pool_new(100, 1);
    struct tc_blob *one = tc_blob_new(pool, 60), *two = tc_blob_new(pool, 100);
    ck_assert(one && two && one != two && one->bytes != two->bytes);
    ck_assert_uint_eq(one->size, 60);
    ck_assert_uint_eq(one->capacity, 100);
    const uint8_t *bytes = one->bytes;
    tc_blob_unref(one);
    tc_blob_unref(two);
    one = tc_blob_new(pool, 7);
    ck_assert_ptr_eq(one->bytes, bytes);
    ck_assert_uint_eq(one->size, 7);
    tc_blob_unref(one);
    tc_blob_pool_free(pool);
    tc_blob_pool_free(NULL);
}
END_TEST

START_TEST(a_blob_outlives_its_pool)
{
    struct tc_blob_pool *pool = tc_blob_pool_new(64, 4);
    struct tc_blob *blobs[3];
    for (int i = 0; i < 3; i++)
        blobs[i] = tc_blob_new(pool, 64);
    tc_blob_unref(blobs[0]);
    tc_blob_pool_free(pool);
    for (int i = 1; i < 3; i++) {
        memset(blobs[i]->bytes, i, 64);
        tc_blob_unref(blobs[i]);
    }
}
END_TEST

START_TEST(a_blob_lives_until_its_last_reference)
{
    struct tc_blob *blob = tc_blob_copy("chunk", 5);
    ck_assert_ptr_eq(tc_blob_ref(blob), blob);
    tc_blob_unref(blob);
    ck_assert_mem_eq(blob->bytes, "chunk", 5);
    tc_blob_unref(blob);
    tc_blob_unref(NULL);

    struct tc_blob *empty = tc_blob_copy(NULL, 0);
    ck_assert_uint_eq(empty->size, 0);
    tc_blob_unref(empty);
}
END_TEST

START_TEST(a_size_beyond_the_pool_is_served_from_the_heap)
{
    struct tc_blob_pool *pool = tc_blob_pool_new(16, 2);
    struct tc_blob *blob = tc_blob_new(pool, 17);
    ck_assert_ptr_null(blob->pool);
    memset(blob->bytes, 1, 17);
    tc_blob_pool_free(pool);
    tc_blob_unref(blob);
}
END_TEST

enum { SHARERS = 4, ROUNDS = 2000 };

struct shared {
    struct tc_blob_pool *pool;
    struct tc_blob *common; /* one reference for each thread */
};

static void *use_and_drop(void *arg)
{
    struct shared *shared = arg;
    uintptr_t wrong = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct tc_blob *blob = tc_blob_new(shared->pool, sizeof i);
        if (!blob)
            return (void *)(uintptr_t)1;
        memcpy(blob->bytes, &i, sizeof i);
        tc_blob_unref(tc_blob_ref(blob));
        wrong |= memcmp(blob->bytes, &i, sizeof i) != 0;
        tc_blob_unref(blob);
    }
    tc_blob_unref(shared->common);
    return (void *)wrong;
}

START_TEST(threads_share_a_pool_and_a_blob)
{
    struct shared shared = {.pool = tc_blob_pool_new(64, 2)};
    shared.common = tc_blob_new(shared.pool, 64);
    pthread_t threads[SHARERS];
    for (int i = 0; i < SHARERS; i++) {
        tc_blob_ref(shared.common);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, use_and_drop, &shared), 0);
    }
    tc_blob_unref(shared.common);
    for (int i = 0; i < SHARERS; i++) {
        void *wrong;
        ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
        ck_assert_ptr_null(wrong);
    }
    tc_blob_pool_free(shared.pool);
}
END_TEST

/* Every blob goes back in a thread of its own, while and after the owner ends the pool. */
static void *drop(void *blob)
{
    tc_blob_unref(blob);
    return NULL;
}

START_TEST(threads_give_back_while_the_pool_ends)
{
    for (int round = 0; round < 100; round++) {
        struct tc_blob_pool *pool = tc_blob_pool_new(64, 2);
        pthread_t threads[SHARERS];
        for (int i = 0; i < SHARERS; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, drop, tc_blob_new(pool, 64)), 0);
        tc_blob_pool_free(pool);
        for (int i = 0; i < SHARERS; i++)
            pthread_join(threads[i], NULL);
    }
}
END_TEST

/* err */

static const struct {
    const char *name, *word, *text;
    int number, code;
} reasons[] = {
#define TC_REASON(name, word, number, code, text) {#name, word, text, number, code},
#include "base/err.def"
#undef TC_REASON
};
enum { REASONS = sizeof reasons / sizeof reasons[0] };

START_TEST(every_reason_is_its_own)
{
    for (int i = 0; i < REASONS; i++) {
        for (int j = 0; j < i; j++) {
            ck_assert_int_ne(reasons[i].number, reasons[j].number);
            ck_assert_str_ne(reasons[i].word, reasons[j].word);
            ck_assert_str_ne(reasons[i].text, reasons[j].text);
        }
        ck_assert(tc_reason_known(reasons[i].number));
        ck_assert_str_eq(tc_reason_text(reasons[i].number), reasons[i].text);
        ck_assert_str_eq(tc_reason_name(reasons[i].number), reasons[i].word);
        ck_assert_int_eq(tc_reason_exit(reasons[i].number), reasons[i].code);
        ck_assert_int_ne(reasons[i].code, 0);
        /* The word is the name in lower case with '-' for '_'. */
        for (size_t c = 0; c <= strlen(reasons[i].name); c++) {
            char from = reasons[i].name[c];
            char to = from == '_' ? '-' : from >= 'A' && from <= 'Z' ? (char)(from - 'A' + 'a') : from;
            ck_assert_int_eq(reasons[i].word[c], to);
        }
    }
}
END_TEST

START_TEST(numbers_outside_the_table_are_harmless)
{
    static const int outside[] = {-1, 0, 255, 1 << 20};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        ck_assert(!tc_reason_known(outside[i]));
        ck_assert_str_eq(tc_reason_text(outside[i]), "unknown reason");
        ck_assert_int_eq(tc_reason_exit(outside[i]), outside[i] == 0 ? 0 : 1);
    }
}
END_TEST

START_TEST(the_first_reason_stays)
{
    struct tc_err err = {0};
    ck_assert_int_eq(tc_fail(&err, TC_E_INTEGRITY, "chunk %d", 812), -TC_E_INTEGRITY);
    ck_assert_int_eq(tc_fail(&err, TC_E_IO, "later"), -TC_E_IO);
    ck_assert_int_eq(tc_fail_errno(&err, EIO, "later"), -TC_E_IO);
    ck_assert_int_eq(err.reason, TC_E_INTEGRITY);
    ck_assert_str_eq(err.text, "chunk 812");
    ck_assert_int_eq(tc_fail(NULL, TC_E_IO, "nobody asks"), -TC_E_IO);
    ck_assert_int_eq(tc_fail_errno(NULL, ENOSPC, "nobody asks"), -TC_E_NOSPACE);
}
END_TEST

START_TEST(errno_chooses_the_reason)
{
    static const int pairs[][2] = {
        {ENOSPC, TC_E_NOSPACE},           {EDQUOT, TC_E_NOSPACE},    {EACCES, TC_E_PERMISSION},
        {EPERM, TC_E_PERMISSION},         {ENOMEM, TC_E_NOMEM},      {EMFILE, TC_E_LIMIT},
        {ENOENT, TC_E_NOTFOUND},          {EEXIST, TC_E_EXISTS},     {ETIMEDOUT, TC_E_TIMEOUT},
        {ECONNREFUSED, TC_E_UNREACHABLE}, {ECONNRESET, TC_E_CLOSED}, {EIO, TC_E_IO}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct tc_err err = {0};
        char expected[128];
        snprintf(expected, sizeof expected, "write A: %s", strerror(pairs[i][0]));
        ck_assert_int_eq(tc_fail_errno(&err, pairs[i][0], "write %s", "A"), -pairs[i][1]);
        ck_assert_int_eq(err.reason, pairs[i][1]);
        ck_assert_str_eq(err.text, expected);
    }
}
END_TEST

START_TEST(a_prefix_says_where)
{
    struct tc_err err = {0};
    ck_assert_int_eq(tc_err_prefix(&err, "node%d", 7), 0);
    ck_assert_str_eq(err.text, "");
    tc_fail(&err, TC_E_NOSPACE, "no space");
    ck_assert_int_eq(tc_err_prefix(&err, "node%d", 7), -TC_E_NOSPACE);
    ck_assert_str_eq(err.text, "node7: no space");
}
END_TEST

/* Text and prefix of every length around the limit: cut, terminated, and the prefix comes first. */
START_TEST(long_lines_are_cut)
{
    char longest[TC_ERR_TEXT + 8];
    memset(longest, 'x', sizeof longest);
    for (int length = TC_ERR_TEXT - 6; length < TC_ERR_TEXT + 6; length++) {
        struct tc_err err = {0};
        tc_fail(&err, TC_E_IO, "%.*s", length, longest);
        size_t expected = length < TC_ERR_TEXT ? (size_t)length : TC_ERR_TEXT - 1;
        ck_assert_uint_eq(strlen(err.text), expected);
        ck_assert_int_eq(tc_err_prefix(&err, "p"), -TC_E_IO);
        ck_assert_uint_eq(strlen(err.text), expected + 3 < TC_ERR_TEXT ? expected + 3 : TC_ERR_TEXT - 1);
        ck_assert_int_eq(strncmp(err.text, "p: xxx", 6), 0);
        tc_err_prefix(&err, "%.*s", length, longest);
        ck_assert_uint_le(strlen(err.text), TC_ERR_TEXT - 1);
        ck_assert_int_eq(strncmp(err.text, "xxx", 3), 0);
        struct tc_err number = {0};
        tc_fail_errno(&number, EIO, "%.*s", length, longest);
        ck_assert_uint_le(strlen(number.text), TC_ERR_TEXT - 1);
    }
}
END_TEST

/* log */

START_TEST(escape_leaves_nothing_for_a_terminal_to_obey)
{
    char out[64];
    ck_assert_str_eq(tc_escape(out, sizeof out, "node07: ok"), "node07: ok");
    ck_assert_str_eq(tc_escape(out, sizeof out, "\x1b[2J\r\n\x7f\\\xc3"), "\\x1b[2J\\x0d\\x0a\\x7f\\x5c\\xc3");
    ck_assert_str_eq(tc_escape(out, sizeof out, ""), "");
    for (size_t size = 1; size <= 10; size++) {
        memset(out, '!', sizeof out);
        tc_escape(out, size,
                  "a\x1b"
                  "b\x1b");
        ck_assert_uint_lt(strlen(out), size);
        ck_assert_int_eq(strncmp(out, "a\\x1bb\\x1b", strlen(out)), 0);
        ck_assert_int_ne(out[strlen(out) ? strlen(out) - 1 : 0], '\\');
        ck_assert_int_eq(out[size], '!');
    }
}
END_TEST

/* What tc_log writes while standard error is a pipe. */
static void log_into(char *text, size_t size, enum tc_log_level level, const char *message)
{
    int ends[2], saved = dup(STDERR_FILENO);
    ck_assert_int_eq(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    tc_log(level, "%s", message);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t got = read(ends[0], text, size - 1);
    close(ends[0]);
    ck_assert_int_ge(got, 0);
    text[got] = '\0';
}

START_TEST(a_log_line_is_one_line_at_its_level)
{
    char text[4096], message[3000];
    tc_log_open("agent", TC_LOG_INFO);
    ck_assert_int_eq(tc_log_level(), TC_LOG_INFO);
    log_into(text, sizeof text, TC_LOG_DEBUG, "quiet");
    ck_assert_str_eq(text, "");
    errno = EXDEV;
    log_into(text, sizeof text, TC_LOG_WARN, "link closed");
    ck_assert_int_eq(errno, EXDEV);
    ck_assert_ptr_nonnull(strstr(text, " agent["));
    ck_assert_ptr_nonnull(strstr(text, "] warning: link closed\n"));
    memset(message, 'x', sizeof message);
    message[sizeof message - 1] = '\0';
    log_into(text, sizeof text, TC_LOG_ERROR, message);
    ck_assert_uint_le(strlen(text), 1024);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
}
END_TEST

/* Over a simulated minute: no more leaves than the rate and one burst allow, and nothing is lost to rounding. */
START_TEST(bucket_keeps_a_rate)
{
    static const uint64_t rates[] = {1, 999, 262144, 10000000, 1ull << 40};
    static const uint64_t pieces[] = {1, 65536, 4194304};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        for (size_t j = 0; j < sizeof pieces / sizeof pieces[0]; j++) {
            uint64_t now = 77, sent = 0, end = now + 60000, rounds = 0;
            struct tc_bucket bucket = tc_bucket_new(rates[i], now);
            for (; now < end && rounds < 100000; rounds++) {
                uint64_t wait = tc_bucket_wait(&bucket, now);
                now += wait;
                /* No ck_assert: each of them writes to a file, and this is asked a million times. */
                if (tc_bucket_wait(&bucket, now) != 0)
                    ck_abort_msg("a wait of %lu ms was too short", (unsigned long)wait);
                if (now >= end)
                    break;
                tc_bucket_take(&bucket, now, pieces[j]);
                sent += pieces[j];
            }
            uint64_t allowed = rates[i] * 60 + rates[i] * TC_BUCKET_BURST_MS / 1000 + pieces[j];
            ck_assert_msg(sent <= allowed, "%lu of %lu", (unsigned long)sent, (unsigned long)allowed);
            if (now >= end) /* and no less, but for the last piece and the milliseconds that waits are rounded to */
                ck_assert_msg(sent + pieces[j] >= rates[i] * 59 || rates[i] < 1000, "%lu", (unsigned long)sent);
        }
}
END_TEST

START_TEST(bucket_bounds)
{
    struct tc_bucket bucket = tc_bucket_new(0, 5);
    tc_bucket_take(&bucket, 5, UINT64_MAX);
    ck_assert_uint_eq(tc_bucket_wait(&bucket, 5), 0);
    bucket = tc_bucket_new(1000, 5);
    ck_assert_uint_eq(tc_bucket_wait(&bucket, UINT64_MAX / 2), 0); /* a long pause saves up one burst only */
    tc_bucket_take(&bucket, UINT64_MAX / 2, 125);
    ck_assert_uint_eq(tc_bucket_wait(&bucket, UINT64_MAX / 2), 0);
    tc_bucket_take(&bucket, UINT64_MAX / 2, 500);
    ck_assert_uint_eq(tc_bucket_wait(&bucket, UINT64_MAX / 2), 500);
    ck_assert_uint_eq(tc_bucket_wait(&bucket, 7), 500); /* a clock that goes back gives nothing */
    tc_bucket_give(&bucket, 200);
    ck_assert_uint_eq(tc_bucket_wait(&bucket, UINT64_MAX / 2), 300);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *buf = tcase_create("buf");
    tcase_add_test(buf, numbers_come_back_big_endian);
    tcase_add_loop_test(buf, no_call_leaves_the_bounds, 0, 6);
    tcase_add_loop_test(buf, a_short_read_gives_zero_and_stays_failed, 0, 6);
    tcase_add_test(buf, huge_counts_do_not_wrap);
    tcase_add_test(buf, take_lends_the_bytes_in_place);
    tcase_add_test(buf, text_comes_back);
    tcase_add_test(buf, text_with_nul_or_without_room_is_refused);
    suite_add_tcase(suite, buf);
    TCase *blob = tcase_create("blob");
    tcase_set_timeout(blob, 60);
    tcase_add_test(blob, a_pool_lends_the_same_memory_again);
    tcase_add_test(blob, a_blob_outlives_its_pool);
    tcase_add_test(blob, a_blob_lives_until_its_last_reference);
    tcase_add_test(blob, a_size_beyond_the_pool_is_served_from_the_heap);
    tcase_add_test(blob, threads_share_a_pool_and_a_blob);
    tcase_add_test(blob, threads_give_back_while_the_pool_ends);
    suite_add_tcase(suite, blob);
    TCase *bucket = tcase_create("bucket");
    tcase_add_test(bucket, bucket_keeps_a_rate);
    tcase_add_test(bucket, bucket_bounds);
    suite_add_tcase(suite, bucket);
    TCase *err = tcase_create("err");
    tcase_add_test(err, every_reason_is_its_own);
    tcase_add_test(err, numbers_outside_the_table_are_harmless);
    tcase_add_test(err, the_first_reason_stays);
    tcase_add_test(err, errno_chooses_the_reason);
    tcase_add_test(err, a_prefix_says_where);
    tcase_add_test(err, long_lines_are_cut);
    suite_add_tcase(suite, err);
    TCase *log = tcase_create("log");
    tcase_add_test(log, escape_leaves_nothing_for_a_terminal_to_obey);
    tcase_add_test(log, a_log_line_is_one_line_at_its_level);
    suite_add_tcase(suite, log);
    return unit_run(suite);
}
