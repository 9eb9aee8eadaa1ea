/* Names and directories: 200 attacks and more, as root and as a user. Whatever is refused or not, nothing outside the
 * directory is written, made, removed or changed, and nothing outside is read as if it were an array. */
#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../unit/file_help.h"

enum { USER = 65534, SIZE = 1000 };

static const uint8_t session[TC_SESSION_ID_SIZE] = "the session", other[TC_SESSION_ID_SIZE] = "another one";
static unsigned attacks;
static char ground[128]; /* holds dir, where the agent publishes, and outside, which must stay as it is */

/* --- the ground, and what must not change on it --- */

__attribute__((format(printf, 1, 2))) static char *at(const char *format, ...)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    int used = snprintf(path, 512, "%s/", ground);
    va_list args;
    va_start(args, format);
    vsnprintf(path + used, 512 - (size_t)used, format, args);
    va_end(args);
    return path;
}

static void lay(const char *what)
{
    fresh(ground, what);
    ck_assert_int_eq(chmod(ground, 0755), 0);
    ck_assert_int_eq(mkdir(at("outside"), 0755), 0);
    ck_assert_int_eq(mkdir(at("outside/folder"), 0755), 0);
    put_file(AT_FDCWD, at("outside/file"), "precious");
}

static int count_all(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void must_be_untouched(const char *attack)
{
    char text[32] = "";
    struct stat facts;
    int fd = open(at("outside/file"), O_RDONLY);
    ck_assert_msg(fd >= 0 && read(fd, text, sizeof text - 1) == 8 && strcmp(text, "precious") == 0, "%s: written",
                  attack);
    ck_assert_int_eq(fstat(fd, &facts), 0);
    ck_assert_msg((facts.st_mode & 07777) == 0644, "%s: its mode is %o", attack, facts.st_mode);
    close(fd);
    ck_assert_msg(count_all(at("outside")) == 4 && count_all(at("outside/folder")) == 2, "%s: made or removed", attack);
    ck_assert_int_eq(stat(at("outside"), &facts), 0);
    ck_assert_msg((facts.st_mode & 07777) == 0755, "%s: the folder's mode is %o", attack, facts.st_mode);
}

/* --- what an agent does with a name --- */

struct moment { /* called between the steps of a session */
    void (*before_place)(void), (*before_publish)(void);
};

static int receive(struct tc_folder *folder, const char *name, bool force, const struct moment *moment,
                   struct tc_err *err)
{
    static uint8_t bytes[SIZE];
    struct tc_sink_options options = {.mode = 0444, .group = (gid_t)-1, .force = force};
    struct tc_description description = {.size = SIZE};
    struct tc_sink *sink = tc_sink_new(folder, name, session, SIZE, &options, err);
    if (!sink)
        return -err->reason;
    snprintf(description.name, sizeof description.name, "%s", name);
    if (moment && moment->before_place)
        moment->before_place();
    int status = tc_sink_place(sink, 0, bytes, SIZE, err);
    if (moment && moment->before_publish)
        moment->before_publish();
    if (status == 0)
        status = tc_sink_publish(sink, &description, err);
    tc_sink_free(sink);
    return status;
}

/* --- names --- */

static void must_refuse(struct tc_folder *folder, const char *name)
{
    struct tc_err err[4] = {0};
    ck_assert_int_eq(receive(folder, name, true, NULL, &err[0]), -TC_E_NAME);
    ck_assert_int_eq(tc_folder_open_array(folder, name, NULL, &err[1]), -TC_E_NAME);
    ck_assert_int_eq(tc_folder_remove(folder, name, &err[2]), -TC_E_NAME);
    for (const char *c = err[0].text; *c; c++)
        ck_assert_msg(*c >= ' ' && *c < 127, "a name's byte %d reaches the log", *c);
    must_be_untouched(name);
    attacks++;
}

START_TEST(names)
{
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      "...",
                                      "../outside/file",
                                      "../outside/new",
                                      "/etc/passwd",
                                      "a/b",
                                      "a/",
                                      "/a",
                                      "a/../b",
                                      "./a",
                                      "a/./b",
                                      "..a",
                                      ".a",
                                      ".treecast",
                                      ".treecast/api",
                                      ".treecast/lock",
                                      "-",
                                      "-a",
                                      "--force",
                                      "_a",
                                      "~",
                                      "~root",
                                      "a b",
                                      " a",
                                      "a ",
                                      "a\tb",
                                      "a\nb",
                                      "a\\b",
                                      "a:b",
                                      "a;b",
                                      "a|b",
                                      "a&b",
                                      "a$b",
                                      "$(id)",
                                      "`id`",
                                      "a*",
                                      "?",
                                      "[a]",
                                      "{a}",
                                      "a'b",
                                      "a\"b",
                                      "a<b",
                                      "a>b",
                                      "a=b",
                                      "a,b",
                                      "a+b",
                                      "a@b",
                                      "a!b",
                                      "a#b",
                                      "a%b",
                                      "%s%n",
                                      "a^b",
                                      "(a)",
                                      "\xc3\xa4",
                                      "a\xcc\x88",
                                      "\xe2\x80\xae"
                                      "a",
                                      "\xff",
                                      "a\x7f",
                                      "\033[2J",
                                      "a\033]0;x\007",
                                      "\xc0\xae\xc0\xae/",
                                      "a\xe2\x88\x95"
                                      "b"};
    char text[5000], dir[512];
    struct tc_err err = {0};
    lay("names");
    strcpy(dir, at("dir"));
    struct tc_folder *folder = tc_folder_open(dir, &err);
    ck_assert_msg(folder != NULL, "%s", err.text);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        must_refuse(folder, bad[i]);
    for (int c = 1; c < 256; c++) { /* every byte that is not for names, first and later */
        bool letter = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        snprintf(text, sizeof text, "%cx", c);
        if (!letter)
            must_refuse(folder, text);
        snprintf(text, sizeof text, "x%c", c);
        if (!letter && !strchr("._-", c))
            must_refuse(folder, text);
    }
    for (size_t length = 129; length < sizeof text; length = length * 2 + 1) {
        memset(text, 'n', length);
        text[length] = '\0';
        must_refuse(folder, text);
    }
    ck_assert_int_eq(count_all(dir), 3);
    ck_assert_int_eq(receive(folder, "A-good.name_1", false, NULL, &err), 0); /* or this test could not fail */
    tc_folder_close(folder);
    printf("# %u names, as uid %u: 0 bytes outside\n", attacks, (unsigned)geteuid());
    attacks = 0;
}
END_TEST

/* --- what lies in the directory already --- */

static const char *place; /* where, within ground */

static void a_link_to_file(void)
{
    ck_assert_int_eq(symlink("../outside/file", at("%s", place)), 0);
}

static void a_deep_link(void)
{
    ck_assert_int_eq(symlink(at("outside/file"), at("%s", place)), 0);
}

static void a_link_to_nothing(void)
{
    ck_assert_int_eq(symlink(at("outside/new"), at("%s", place)), 0);
}

static void a_link_to_folder(void)
{
    ck_assert_int_eq(symlink(at("outside/folder"), at("%s", place)), 0);
}

static void a_link_to_itself(void)
{
    ck_assert_int_eq(symlink(strrchr(place, '/') + 1, at("%s", place)), 0);
}

static void a_hard_link(void)
{
    ck_assert_int_eq(link(at("outside/file"), at("%s", place)), 0);
}

static void a_fifo(void)
{
    ck_assert_int_eq(mkfifo(at("%s", place), 0666), 0);
}

static void a_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", at("%s", place));
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    close(fd);
}

static void a_folder(void)
{
    ck_assert_int_eq(mkdir(at("%s", place), 0755), 0);
}

static void a_device(void)
{
    if (geteuid() == 0)
        ck_assert_int_eq(mknod(at("%s", place), S_IFCHR | 0666, makedev(1, 3)), 0);
    else
        a_fifo();
}

static void a_closed_file(void)
{
    put_file(AT_FDCWD, at("%s", place), "old");
    ck_assert_int_eq(chmod(at("%s", place), 0), 0);
}

static void (*const things[])(void) = {
    a_link_to_file, a_deep_link, a_link_to_nothing, a_link_to_folder, a_link_to_itself, a_hard_link,
    a_fifo,         a_socket,    a_folder,          a_device,         a_closed_file};

static void part_name(char *out, size_t size, const uint8_t *id)
{
    int used = snprintf(out, size, "dir/.treecast/A.");
    for (size_t i = 0; i < TC_SESSION_ID_SIZE; i++)
        used += snprintf(out + used, size - (size_t)used, "%02x", id[i]);
    snprintf(out + used, size - (size_t)used, ".part");
}

/* The description is named by the inode that the file will have: all that come next. */
static void plant_descriptions(void)
{
    struct stat facts;
    put_file(AT_FDCWD, at("dir/probe"), "x");
    ck_assert_int_eq(stat(at("dir/probe"), &facts), 0);
    for (unsigned i = 1; i < 300; i++)
        for (unsigned tmp = 0; tmp < 2; tmp++)
            ck_assert_int_eq(symlink(at("outside/new"), at("dir/.treecast/%llu.json%s",
                                                           (unsigned long long)facts.st_ino + i, tmp ? ".tmp" : "")),
                             0);
}

START_TEST(things_in_the_way)
{
    char own_part[128], other_part[128];
    part_name(own_part, sizeof own_part, session);
    part_name(other_part, sizeof other_part, other);
    const char *const places[] = {"dir/A",        own_part, other_part, "dir/.treecast/lock", "dir/.treecast/new",
                                  "dir/.treecast"};
    for (unsigned p = 0; p < sizeof places / sizeof places[0]; p++)
        for (unsigned t = 0; t < sizeof things / sizeof things[0]; t++)
            for (unsigned force = 0; force < 2; force++) {
                char dir[512], what[64];
                struct tc_err err = {0};
                struct stat facts;
                lay("way");
                strcpy(dir, at("dir"));
                snprintf(what, sizeof what, "%s, thing %u, force %u", places[p], t, force);
                ck_assert_int_eq(mkdir(dir, 0755), 0);
                if (p < 5)
                    ck_assert_int_eq(mkdir(at("dir/.treecast"), 0711), 0);
                place = places[p];
                things[t]();
                struct tc_folder *folder = tc_folder_open(dir, &err);
                int status = folder ? receive(folder, "A", force, NULL, &err) : -err.reason;
                ck_assert_msg(status == 0 || err.text[0], "%s: no reason", what);
                must_be_untouched(what);
                int fd = folder ? tc_folder_open_array(folder, "A", NULL, NULL) : -1;
                if (fd >= 0)
                    ck_assert_msg(lstat(at("dir/A"), &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size == SIZE,
                                  "%s: read something else", what);
                if (fd >= 0)
                    close(fd);
                unsigned files;
                uint64_t bytes;
                if (folder)
                    tc_folder_clean(folder, true, &files, &bytes, NULL);
                must_be_untouched(what);
                tc_folder_close(folder);
                attacks++;
            }
    lay("descriptions");
    ck_assert_int_eq(mkdir(at("dir"), 0755), 0);
    struct tc_folder *folder = tc_folder_open(at("dir"), NULL);
    ck_assert_ptr_nonnull(folder);
    plant_descriptions();
    receive(folder, "A", false, NULL, &(struct tc_err){0});
    must_be_untouched("planted descriptions");
    tc_folder_close(folder);
    attacks++;
    printf("# %u things in the way, as uid %u: 0 bytes outside\n", attacks, (unsigned)geteuid());
    attacks = 0;
}
END_TEST

/* --- directories that are no place to publish --- */

static void must_not_open(const char *path, const char *why)
{
    struct tc_err err = {0};
    struct tc_folder *folder = tc_folder_open(path, &err);
    ck_assert_msg(folder == NULL && err.text[0], "%s was taken", why);
    must_be_untouched(why);
    attacks++;
}

START_TEST(directories)
{
    static const mode_t modes[] = {01777, 01755, 0777, 0775, 0757, 01700, 0772, 0720, 0702};
    lay("directories");
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "mode%04o", modes[i]);
        ck_assert_int_eq(mkdir(at("%s", name), 0700), 0);
        ck_assert_int_eq(chmod(at("%s", name), modes[i]), 0);
        must_not_open(at("%s", name), name);
        snprintf(name, sizeof name, "state%04o", modes[i]); /* and the same of .treecast in it */
        ck_assert_int_eq(mkdir(at("%s", name), 0755), 0);
        ck_assert_int_eq(mkdir(at("%s/.treecast", name), 0711), 0);
        ck_assert_int_eq(chmod(at("%s/.treecast", name), modes[i]), 0);
        must_not_open(at("%s", name), name);
    }
    must_not_open("/dev/shm", "/dev/shm");
    must_not_open("/tmp", "/tmp");
    must_not_open("/proc", "/proc");
    must_not_open("/proc/self/fd", "/proc/self/fd");
    must_not_open(at("missing/dir"), "a missing parent");
    must_not_open(at("outside/file"), "a file");
    must_not_open(at("outside/file/dir"), "below a file");
    for (size_t t = 0; t < 5; t++) { /* links of all kinds, with slashes behind them too */
        char name[32];
        snprintf(name, sizeof name, "here/link%zu", t);
        mkdir(at("here"), 0755);
        place = name;
        things[t]();
        must_not_open(at("%s", name), name);
        must_not_open(at("%s/", name), name);
        must_not_open(at("%s//", name), name);
    }
    if (geteuid() == 0) {
        ck_assert_int_eq(mkdir(at("theirs"), 0755), 0);
        ck_assert_int_eq(chown(at("theirs"), 12345, 12345), 0);
        must_not_open(at("theirs"), "another user's");
        ck_assert_int_eq(mkdir(at("ours"), 0755), 0);
        ck_assert_int_eq(mkdir(at("ours/.treecast"), 0711), 0);
        ck_assert_int_eq(chown(at("ours/.treecast"), 12345, 12345), 0);
        must_not_open(at("ours"), "another user's .treecast");
    } else {
        must_not_open("/root", "root's home");
        must_not_open("/", "the root directory");
    }
    printf("# %u directories, as uid %u: 0 taken\n", attacks, (unsigned)geteuid());
    attacks = 0;
}
END_TEST

/* --- swaps under way --- */

static void swap_dir(void)
{
    ck_assert_int_eq(rename(at("dir"), at("moved")), 0);
    ck_assert_int_eq(symlink("outside", at("dir")), 0);
}

static void swap_state(void)
{
    ck_assert_int_eq(rename(at("dir/.treecast"), at("dir/moved")), 0);
    ck_assert_int_eq(symlink("../outside", at("dir/.treecast")), 0);
}

static void swap_part(void)
{
    char part[128];
    part_name(part, sizeof part, session);
    ck_assert_int_eq(unlink(at("%s", part)), 0);
    ck_assert_int_eq(symlink(at("outside/file"), at("%s", part)), 0);
}

static void remove_part(void)
{
    char part[128];
    part_name(part, sizeof part, session);
    ck_assert_int_eq(unlink(at("%s", part)), 0);
}

static void link_name(void)
{
    place = "dir/A";
    a_link_to_file();
}

static void hard_link_name(void)
{
    place = "dir/A";
    a_hard_link();
}

static void folder_name(void)
{
    place = "dir/A";
    a_folder();
}

static void swap_lock(void)
{
    unlink(at("dir/.treecast/lock"));
    place = "dir/.treecast/lock";
    a_link_to_file();
}

START_TEST(swaps)
{
    static void (*const swap[])(void) = {swap_dir,  swap_state,     swap_part,   remove_part,
                                         link_name, hard_link_name, folder_name, swap_lock};
    for (unsigned i = 0; i < sizeof swap / sizeof swap[0]; i++)
        for (unsigned when = 0; when < 2; when++)
            for (unsigned force = 0; force < 2; force++) {
                char what[64];
                struct tc_err err = {0};
                struct moment moment = {when ? NULL : swap[i], when ? swap[i] : NULL};
                lay("swaps");
                snprintf(what, sizeof what, "swap %u, moment %u, force %u", i, when, force);
                struct tc_folder *folder = tc_folder_open(at("dir"), &err);
                ck_assert_msg(folder != NULL, "%s", err.text);
                receive(folder, "A", force, &moment, &err);
                must_be_untouched(what);
                int fd = tc_folder_open_array(folder, "A", NULL, NULL);
                struct stat facts;
                ck_assert_msg(fd < 0 || (fstat(fd, &facts) == 0 && facts.st_size == SIZE), "%s: read something else",
                              what);
                if (fd >= 0)
                    close(fd);
                tc_folder_close(folder);
                attacks++;
            }
    printf("# %u swaps under way, as uid %u: 0 bytes outside\n", attacks, (unsigned)geteuid());
}
END_TEST

/* --- as a user: the same in a process that is not root --- */

static void become_user(void)
{
    base_setup();
    if (geteuid() != 0)
        return;
    ck_assert_int_eq(chown(base, USER, USER), 0);
}

static void drop(void)
{
    if (geteuid() == 0)
        ck_assert(setgroups(0, NULL) == 0 && setgid(USER) == 0 && setuid(USER) == 0);
}

static void add_all(TCase *tcase)
{
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, names);
    tcase_add_test(tcase, things_in_the_way);
    tcase_add_test(tcase, directories);
    tcase_add_test(tcase, swaps);
}

int main(void)
{
    Suite *suite = suite_create("names");
    TCase *root = tcase_create("as whoever runs this"), *user = tcase_create("as a user");
    tcase_add_unchecked_fixture(root, base_setup, base_teardown);
    add_all(root);
    suite_add_tcase(suite, root);
    if (geteuid() == 0) {
        tcase_add_unchecked_fixture(user, become_user, base_teardown);
        tcase_add_checked_fixture(user, drop, NULL);
        add_all(user);
        suite_add_tcase(suite, user);
    }
    return unit_run(suite);
}
