#include "cli/show.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "cli/report.h"
#include "cli/size.h"
#include "plan/hostlist.h"

#define DRAW_SECONDS 0.1  /* between two drawings of the bar */
#define LINE_SECONDS 30.0 /* between two lines where there is no terminal */
#define JSON_SECONDS 1.0

enum { GROUP_TEXT = 256 };

struct tc_show {
    struct tc_show_options options;
    double started; /* the plan stood; 0: not yet */
    double drawn;
    bool bar;   /* a bar is on the screen */
    bool *told; /* by host: its line is out */
    uint64_t bytes_low, bytes_sum;
};

static double monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct tc_show *tc_show_new(const struct tc_show_options *options, struct tc_err *err)
{
    struct tc_show *show = calloc(1, sizeof *show);
    if (show)
        show->told = calloc(options->host_count + 1, sizeof *show->told);
    if (!show || !show->told) {
        tc_show_free(show);
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    show->options = *options;
    if (!show->options.now)
        show->options.now = monotonic;
    return show;
}

void tc_show_free(struct tc_show *show)
{
    if (show)
        free(show->told);
    free(show);
}

/* ---- what there is to say ---- */

static size_t have(const struct tc_send_report *report)
{
    return report->counts[TC_HOST_PUBLISHED] + report->counts[TC_HOST_UNCHANGED];
}

static bool has_failed(enum tc_host_state state)
{
    return state >= TC_HOST_REFUSED;
}

static size_t failed(const struct tc_send_report *report)
{
    size_t count = 0;
    for (int state = TC_HOST_REFUSED; state <= TC_HOST_LOST; state++)
        count += report->counts[state];
    return count;
}

/* Whether a host was asked at all: not when the source could not be read, say. */
static bool begun(const struct tc_send_report *report)
{
    return report->counts[TC_HOST_PENDING] < report->host_count;
}

static const char *host_name(const struct tc_show *show, const struct tc_send_report *report, size_t host)
{
    return host < show->options.host_count ? show->options.hosts[host] : report->hosts[host].host;
}

/* Where host hangs, "row2.rack7"; "" where nothing is known. */
static const char *group_name(const struct tc_show *show, size_t host, char out[GROUP_TEXT])
{
    const struct tc_topology *topology = show->options.topology;
    *out = '\0';
    return topology && host < show->options.host_count
               ? tc_topology_path(topology, tc_topology_group_of(topology, (uint32_t)host + 1), out, GROUP_TEXT)
               : out;
}

static double elapsed(const struct tc_show *show)
{
    return show->started > 0 ? show->options.now() - show->started : 0;
}

/* How far all hosts together are, 0 .. 1: those that failed do not count. */
static double fraction(const struct tc_show *show, const struct tc_send_report *report)
{
    size_t running = report->host_count - failed(report);
    double all = (double)report->size * (double)(running ? running : 1);
    double part = all > 0 ? (double)show->bytes_sum / all : 0;
    return part > 1 ? 1 : part;
}

/* "3.4 GiB of 8 GiB, 1.1 GiB/s, 0:04 left, 12 of 32 hosts, slowest node07". The slowest decides when it is over. */
static void describe(const struct tc_show *show, const struct tc_send_report *report, char *out, size_t size)
{
    char done[TC_AMOUNT_TEXT], all[TC_AMOUNT_TEXT], rate[TC_AMOUNT_TEXT], left[TC_AMOUNT_TEXT];
    double seconds = elapsed(show), bytes = fraction(show, report) * (double)report->size;
    double low = (double)show->bytes_low;
    double remaining = low > 0 ? ((double)report->size - low) * seconds / low : -1;
    int used = snprintf(out, size, "%s of %s, %s, %s left, %zu of %zu hosts", tc_size_print(done, (uint64_t)bytes),
                        tc_size_print(all, report->size), tc_rate_print(rate, seconds > 0 ? bytes / seconds : 0),
                        tc_seconds_print(left, remaining), have(report), report->host_count);
    if (used > 0 && (size_t)used < size && report->slowest < report->host_count)
        snprintf(out + used, size - (size_t)used, ", slowest %s", host_name(show, report, report->slowest));
}

/* ---- people ---- */

static int terminal_width(int fd)
{
    struct winsize window;
    if (ioctl(fd, TIOCGWINSZ, &window) < 0 || window.ws_col < 20)
        return 80;
    return window.ws_col;
}

static void clear_bar(struct tc_show *show)
{
    if (show->bar)
        fputs("\r\033[K", show->options.err);
    show->bar = false;
}

/* The bar takes what the words leave of the line. */
static void draw_bar(struct tc_show *show, const struct tc_send_report *report)
{
    enum { LEAST = 5, MOST = 20 };
    char text[384], bar[MOST + 4] = "";
    describe(show, report, text, sizeof text);
    double part = fraction(show, report);
    int width = terminal_width(show->options.terminal) - 1;
    int cells = width - (int)(strlen(show->options.name) + strlen(text)) - 9;
    cells = cells < LEAST ? 0 : cells > MOST ? MOST : cells;
    for (int i = 0, full = (int)(part * cells); i < cells; i++)
        bar[i + 1] = i < full ? '=' : i == full ? '>' : ' ';
    if (cells > 0) {
        bar[0] = '[';
        memcpy(bar + cells + 1, "] ", 3);
    }
    char line[1024];
    snprintf(line, sizeof line, "%s %s%3d%% %s", show->options.name, bar, (int)(part * 100), text);
    fprintf(show->options.err, "\r%.*s\033[K", width, line);
    fflush(show->options.err);
    show->bar = true;
}

static void print_progress(struct tc_show *show, const struct tc_send_report *report)
{
    char text[512];
    describe(show, report, text, sizeof text);
    clear_bar(show);
    fprintf(show->options.err, "%s: %s\n", show->options.name, text);
}

/* Every host of one state and reason as one line, red where it failed. */
static void print_group(struct tc_show *show, const struct tc_send_report *report, const size_t *hosts, size_t count)
{
    const struct tc_send_host *first = report->hosts + hosts[0];
    struct tc_hostlist *list = tc_hostlist_new(NULL);
    for (size_t i = 0; list && i < count; i++)
        tc_hostlist_add(list, host_name(show, report, hosts[i]), NULL);
    char *folded = list ? tc_hostlist_fold(list, NULL) : NULL;
    const char *state = tc_host_state_name(first->state), *text = first->why.text;
    size_t length = strlen(state);
    if (strncmp(text, state, length) == 0 && text[length] == ':')
        text += length + 1 + (text[length + 1] == ' ');
    bool red = show->options.color && has_failed(first->state);
    fprintf(show->options.err, "%s: %s%s%s%s%s\n", folded ? folded : host_name(show, report, hosts[0]),
            red ? "\033[31m" : "", state, red ? "\033[0m" : "", *text ? ": " : "", text);
    free(folded);
    tc_hostlist_free(list);
}

static int compare(const struct tc_send_host *a, const struct tc_send_host *b)
{
    return a->state != b->state ? (a->state > b->state) - (a->state < b->state) : strcmp(a->why.text, b->why.text);
}

static int by_why(const void *a, const void *b, void *arg)
{
    const struct tc_send_report *report = arg;
    size_t left = *(const size_t *)a, right = *(const size_t *)b;
    int order = compare(report->hosts + left, report->hosts + right);
    return order ? order : (left > right) - (left < right);
}

/* Whether the line of a host is still to be told; from now on it is not. */
static bool first_time(struct tc_show *show, size_t host)
{
    if (host >= show->options.host_count || show->told[host])
        return false;
    return show->told[host] = true;
}

/* The hosts folded, one line for each state and reason: those that failed and were not told when they did, or all. */
static void print_hosts(struct tc_show *show, const struct tc_send_report *report, bool all)
{
    size_t *order = calloc(report->host_count + 1, sizeof *order), count = 0;
    if (!order)
        return;
    for (size_t i = 0; i < report->host_count; i++)
        if (all || (has_failed(report->hosts[i].state) && first_time(show, i)))
            order[count++] = i;
    qsort_r(order, count, sizeof *order, by_why, (void *)(uintptr_t)report);
    for (size_t i = 0, next; i < count; i = next) {
        for (next = i + 1; next < count; next++)
            if (compare(report->hosts + order[i], report->hosts + order[next]) != 0)
                break;
        print_group(show, report, order + i, next - i);
    }
    free(order);
}

/* "node07: slow (network out), a leaf from now on, after 1.4 s; 3 moved". */
static void print_replan(struct tc_show *show, const struct tc_send_report *report, const struct tc_send_replan *replan)
{
    char after[TC_AMOUNT_TEXT], group[GROUP_TEXT];
    if (*replan->group) {
        fprintf(show->options.err, "replanned after %s: %s; %u moved\n", tc_seconds_print(after, replan->seconds),
                replan->text, replan->moves);
        return;
    }
    group_name(show, replan->host, group);
    fprintf(show->options.err, "replanned after %s: %s%s%s%s: %s; %u moved\n", tc_seconds_print(after, replan->seconds),
            host_name(show, report, replan->host), *group ? " (" : "", group, *group ? ")" : "", replan->text,
            replan->moves);
}

/* All changes of the plan; without -v, which told each in its time, the first few. */
static void print_replans(struct tc_show *show, const struct tc_send_report *report)
{
    enum { FEW = 10 };
    if (show->options.verbose > 0)
        return;
    for (size_t i = 0; i < report->replan_count && i < FEW; i++)
        print_replan(show, report, &report->replans[i]);
    if (report->replan_count > FEW)
        fprintf(show->options.err, "replanned %zu more times (-v and --json tell all)\n", report->replan_count - FEW);
}

/* Who gave wrong bytes: they did no harm, but what it has of its own may be wrong too. */
static void print_corrupt(struct tc_show *show, const struct tc_send_report *report)
{
    for (size_t i = 0; i < report->host_count; i++) {
        unsigned times = report->hosts[i].corrupt;
        if (times > 0)
            fprintf(show->options.err,
                    "%s: gave wrong bytes %u time%s; they were refused and sent again, but its memory, disk or network "
                    "is bad: run treecast verify there\n",
                    host_name(show, report, i), times, times == 1 ? "" : "s");
    }
    if (report->corrupt > 0)
        fprintf(show->options.err,
                "the sender gave wrong bytes %u time%s; they were refused, but this host's memory, disk or network is "
                "bad\n",
                report->corrupt, report->corrupt == 1 ? "" : "s");
}

static void print_plan(struct tc_show *show, const struct tc_send_report *report)
{
    char size[TC_AMOUNT_TEXT], chunk[TC_AMOUNT_TEXT], tree[32];
    fprintf(show->options.err, "%s: %s to %zu host%s, tree %s, chunks of %s\n", show->options.name,
            tc_size_print(size, report->size), report->host_count, report->host_count == 1 ? "" : "s",
            tc_tree_print(report->tree, tree), tc_size_print(chunk, report->chunk_size));
}

static void print_summary(const struct tc_show *show, const struct tc_send_report *report)
{
    FILE *out = show->options.out;
    char size[TC_AMOUNT_TEXT], seconds[TC_AMOUNT_TEXT], rate[TC_AMOUNT_TEXT];
    const char *plural = report->host_count == 1 ? "" : "s";
    if (report->counts[TC_HOST_READY] > 0) {
        fprintf(out, "%s: %s, %zu of %zu host%s could take it; nothing was sent (dry run)\n", show->options.name,
                tc_size_print(size, report->size), report->counts[TC_HOST_READY] + have(report), report->host_count,
                plural);
        return;
    }
    fprintf(out, "%s: %s to %zu of %zu host%s in %s", show->options.name, tc_size_print(size, report->size),
            have(report), report->host_count, plural, tc_seconds_print(seconds, report->total));
    if (report->counts[TC_HOST_UNCHANGED] > 0)
        fprintf(out, ", %zu had it already", report->counts[TC_HOST_UNCHANGED]);
    uint64_t whole = report->counts[TC_HOST_UNCHANGED] * report->size;
    if (report->adopted > whole)
        fprintf(out, ", %s were there already", tc_size_print(size, report->adopted - whole));
    if (report->counts[TC_HOST_PUBLISHED] > 0 && report->total > 0)
        fprintf(out, ", %s", tc_rate_print(rate, (double)report->size / report->total));
    if (report->counts[TC_HOST_PUBLISHED] > 0 && report->slowest < report->host_count)
        fprintf(out, "; slowest %s", host_name(show, report, report->slowest));
    fputc('\n', out);
}

/* ---- programs ---- */

static const char *lower(char *out, size_t size, const char *name)
{
    size_t i = 0;
    for (; name[i] && i + 1 < size; i++)
        out[i] = (char)tolower((unsigned char)name[i]);
    out[i] = '\0';
    return out;
}

static void add_reason(json_t *object, const struct tc_err *why)
{
    char name[32];
    if (!why || why->reason == 0)
        return;
    json_object_set_new(object, "reason", json_string(lower(name, sizeof name, tc_reason_name(why->reason))));
    json_object_set_new(object, "text", json_string(why->text));
}

static void json_plan(const struct tc_show *show, const struct tc_send_report *report)
{
    char tree[32];
    tc_report_json(show->options.out,
                   json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:I}", "type", "plan", "name", show->options.name, "size",
                             (json_int_t)report->size, "hosts", (json_int_t)report->host_count, "min_hosts",
                             (json_int_t)report->min_hosts, "tree", tc_tree_print(report->tree, tree), "chunk_size",
                             (json_int_t)report->chunk_size),
                   NULL);
}

static void json_progress(const struct tc_show *show, const struct tc_send_report *report)
{
    json_t *line =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:f}", "type", "progress", "bytes_low", (json_int_t)show->bytes_low,
                  "bytes_sum", (json_int_t)show->bytes_sum, "done", (json_int_t)have(report), "hosts",
                  (json_int_t)report->host_count, "seconds", elapsed(show));
    if (line && report->slowest < report->host_count)
        json_object_set_new(line, "slowest", json_string(host_name(show, report, report->slowest)));
    tc_report_json(show->options.out, line, NULL);
}

static void json_host(struct tc_show *show, const struct tc_send_report *report, size_t host)
{
    const struct tc_send_host *row = report->hosts + host;
    if (!first_time(show, host))
        return;
    json_t *line = json_pack("{s:s, s:s, s:s, s:I, s:I, s:f}", "type", "host", "host", host_name(show, report, host),
                             "state", tc_host_state_name(row->state), "bytes", (json_int_t)row->bytes, "adopted",
                             (json_int_t)row->adopted, "seconds", row->seconds);
    char group[GROUP_TEXT];
    if (line && *group_name(show, host, group))
        json_object_set_new(line, "group", json_string(group));
    if (line && has_failed(row->state))
        add_reason(line, &row->why);
    if (line && row->slow && *row->slow)
        json_object_set_new(line, "slow", json_string(row->slow));
    if (line && row->leaf)
        json_object_set_new(line, "leaf", json_true());
    if (line && row->corrupt > 0)
        json_object_set_new(line, "corrupt", json_integer(row->corrupt));
    tc_report_json(show->options.out, line, NULL);
}

static void json_replan(const struct tc_show *show, const struct tc_send_report *report,
                        const struct tc_send_replan *replan)
{
    json_t *line = json_pack("{s:s, s:f, s:I, s:s, s:s, s:I, s:s}", "type", "replan", "seconds", replan->seconds,
                             "epoch", (json_int_t)replan->epoch, "host", host_name(show, report, replan->host), "why",
                             replan->why, "moves", (json_int_t)replan->moves, "text", replan->text);
    if (line && *replan->group) {
        json_object_del(line, "host"); /* nobody is to blame */
        json_object_set_new(line, "group", json_string(replan->group));
        json_object_set_new(line, "rate", json_real(replan->rate));
    }
    if (line && *replan->cause)
        json_object_set_new(line, "cause", json_string(replan->cause));
    if (line && replan->other < report->host_count)
        json_object_set_new(line, "other", json_string(host_name(show, report, replan->other)));
    tc_report_json(show->options.out, line, NULL);
}

/* A host may end before others complain of it, so its own line may not have all. */
static void json_corrupt(const struct tc_show *show, const struct tc_send_report *report, json_t *line)
{
    json_t *hosts = json_object();
    for (size_t i = 0; i < report->host_count; i++)
        if (report->hosts[i].corrupt > 0)
            json_object_set_new(hosts, host_name(show, report, i), json_integer(report->hosts[i].corrupt));
    if (json_object_size(hosts) > 0)
        json_object_set(line, "corrupt", hosts);
    json_decref(hosts);
    if (report->corrupt > 0)
        json_object_set_new(line, "corrupt_sender", json_integer(report->corrupt));
}

static void json_end(struct tc_show *show, const struct tc_send_report *report, int code, const struct tc_err *why)
{
    char tree[32];
    for (size_t i = 0; begun(report) && i < report->host_count; i++)
        json_host(show, report, i);
    json_t *line =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:i}", "type",
                  why && why->reason ? "error" : "summary", "name", show->options.name, "size",
                  (json_int_t)report->size, "hosts", (json_int_t)report->host_count, "min_hosts",
                  (json_int_t)report->min_hosts, "adopted", (json_int_t)report->adopted, "sent",
                  (json_int_t)report->sent, "encoded", (json_int_t)report->encoded, "total", report->total, "preflight",
                  report->preflight, "transfer", report->transfer, "publish", report->publish, "exit", code);
    for (int state = TC_HOST_READY; line && state <= TC_HOST_LOST; state++)
        json_object_set_new(line, tc_host_state_name((enum tc_host_state)state),
                            json_integer((json_int_t)report->counts[state]));
    if (line && report->digested) {
        char digest[2 * TC_DIGEST_SIZE + 1];
        tc_digest_hex(&report->digest, digest);
        json_object_set_new(line, "digest", json_string(digest));
    }
    if (line && report->planned) {
        json_object_set_new(line, "tree", json_string(tc_tree_print(report->tree, tree)));
        json_object_set_new(line, "chunk_size", json_integer(report->chunk_size));
    }
    if (line && report->slowest < report->host_count)
        json_object_set_new(line, "slowest", json_string(host_name(show, report, report->slowest)));
    if (line) {
        json_corrupt(show, report, line);
        add_reason(line, why);
    }
    tc_report_json(show->options.out, line, NULL);
}

void tc_show_error(FILE *out, int code, const struct tc_err *why)
{
    json_t *line = json_pack("{s:s, s:i}", "type", "error", "exit", code);
    if (line)
        add_reason(line, why);
    tc_report_json(out, line, NULL);
}

/* ---- when ---- */

static void on_plan(struct tc_show *show, const struct tc_send_report *report)
{
    show->started = show->drawn = show->options.now();
    if (show->options.json)
        json_plan(show, report);
    else if (show->options.verbose > 0)
        print_plan(show, report);
}

static void on_progress(struct tc_show *show, const struct tc_send_news *news)
{
    bool tty = show->options.tty && !show->options.json;
    double pause = show->options.json ? JSON_SECONDS : tty ? DRAW_SECONDS : LINE_SECONDS;
    double now = show->options.now();
    show->bytes_low = news->bytes_low;
    show->bytes_sum = news->bytes_sum;
    if (now - show->drawn < pause || (show->options.quiet > 0 && !show->options.json))
        return;
    show->drawn = now;
    if (show->options.behind && show->options.behind(show->options.arg))
        return;
    if (show->options.json)
        json_progress(show, news->report);
    else if (tty)
        draw_bar(show, news->report);
    else
        print_progress(show, news->report);
}

static void on_host(struct tc_show *show, const struct tc_send_news *news)
{
    if (show->options.json) {
        json_host(show, news->report, news->host);
    } else if (show->options.verbose > 0 && first_time(show, news->host)) {
        clear_bar(show);
        print_group(show, news->report, &news->host, 1);
    }
}

static void on_replan(struct tc_show *show, const struct tc_send_news *news)
{
    const struct tc_send_replan *replan = &news->report->replans[news->host];
    if (show->options.json) {
        json_replan(show, news->report, replan);
    } else if (show->options.verbose > 0) {
        clear_bar(show);
        print_replan(show, news->report, replan);
    }
}

void tc_show_joinable(void *arg, const char *address)
{
    const struct tc_show *show = arg;
    if (!show->options.quiet)
        fprintf(show->options.err, "waiting for agents at %s\n", address);
    fflush(show->options.err);
}

void tc_show_news(void *arg, const struct tc_send_news *news)
{
    struct tc_show *show = arg;
    switch (news->kind) {
    case TC_NEWS_PLAN:
        on_plan(show, news->report);
        break;
    case TC_NEWS_PROGRESS:
        on_progress(show, news);
        break;
    case TC_NEWS_HOST:
        on_host(show, news);
        break;
    case TC_NEWS_REPLAN:
        on_replan(show, news);
        break;
    case TC_NEWS_STATE:
        print_progress(show, news->report);
        print_replans(show, news->report);
        print_hosts(show, news->report, true);
        fflush(show->options.err);
        break;
    }
}

/* Hosts that could have it do without because of others: how to go on. */
static const char *advice(const struct tc_send_report *report, char *out, size_t size)
{
    size_t able = have(report) + report->counts[TC_HOST_ABORTED], missing = failed(report);
    *out = '\0';
    if (!report->planned && report->counts[TC_HOST_ABORTED] > 0 && able < report->host_count && missing > 0)
        snprintf(out, size, "; --min-hosts %zu goes on without the others, -x LIST leaves them out", able);
    return out;
}

void tc_show_end(struct tc_show *show, const struct tc_send_report *report, int code, const struct tc_err *why)
{
    char text[128];
    clear_bar(show);
    if (show->options.quiet == 0 && !show->options.json)
        print_replans(show, report);
    if (show->options.quiet < 2 && !show->options.json) {
        print_hosts(show, report, false);
        print_corrupt(show, report);
    }
    if (show->options.json)
        json_end(show, report, code, why);
    else if (show->options.quiet == 0 && begun(report))
        print_summary(show, report);
    fflush(show->options.out);
    if (why && why->reason)
        fprintf(show->options.err, "treecast send: %s%s\n", why->text, advice(report, text, sizeof text));
    fflush(show->options.err);
}
