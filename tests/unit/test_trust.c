/* Whom a process believes: itself, root, and whom root's configuration names; and nothing that only looks like theirs. */
#include "base/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#define OUTSIDER 4000003

static char base[64];

static void setup(void)
{
    strcpy(base, "/tmp/treecast-trust-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    ck_assert_int_eq(chmod(base, 0755), 0);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

static void teardown(void)
{
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char *at(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", base, name);
    return path;
}

static bool named(const char *text, uid_t uid)
{
    FILE *file = fmemopen((char *)(uintptr_t)text, strlen(text), "r");
    ck_assert_ptr_nonnull(file);
    bool answer = tc_trust_named(file, uid);
    fclose(file);
    return answer;
}

START_TEST(root_names_users)
{
    ck_assert(named("[treecast]\ntrust = 7\n", 7));
    ck_assert(named("[treecast]\ntrust: 7\n", 7));
    ck_assert(named("[treecast]\ntrust = 6,\n  7\n", 7));
    ck_assert(!named("[treecast]\ntrust = 6 ; 7\n", 7));
    ck_assert(!named("[treecast]\nkey-file = a\n  trust = 7\n", 7));
    ck_assert(named("[treecast]\ntrust = nobody, 7 8\ntrust = 9\n", 7));
    ck_assert(named("[treecast]\ntrust = nobody, 7 8\ntrust = 9\n", 8));
    ck_assert(named("[treecast]\ntrust = nobody, 7 8\ntrust = 9\n", 9));
    ck_assert(named("[treecast]\ntrust = nobody ; the agents' user\n", 65534));
    ck_assert(named("[hook]\nuser = nobody\n", 65534));
    ck_assert(!named("[treecast]\ntrust = 77\n", 7));
    ck_assert(!named("[treecast]\ntrust = 7x, -7, +7, 0x7, 4294967295, no-such-user\n", 7));
    ck_assert(!named("[treecast]\ntrust = 4294967295\n", (uid_t)-1));
    ck_assert(!named("[treecast]\ntrust = 4294967303\n", 7));
    ck_assert(!named("[recv]\ntrust = 7\nuser = 7\n", 7));
    ck_assert(!named("[treecast]\nuser = 7\n#trust = 7\n; trust = 7\n", 7));
    ck_assert(!named("trust = 7\n", 7));
    ck_assert(!named("[treecast]\ntrust = 7\nwhat is this\n", 7)); /* not understood: nobody */
    ck_assert(!named("\n", 7));
}
END_TEST

START_TEST(users)
{
    struct tc_err err = {0};
    ck_assert(tc_trusted(0) && tc_trusted(geteuid()));
    ck_assert(!tc_trusted(OUTSIDER));
    setenv("TREECAST_TRUST", "4000003", 1);
    ck_assert(!tc_trusted(OUTSIDER));
    ck_assert_int_eq(tc_trust_add("no-such-user", &err), -TC_E_USAGE);
    ck_assert_int_eq(tc_trust_add("4000003", NULL), 0);
    ck_assert(tc_trusted(OUTSIDER) && !tc_trusted(OUTSIDER + 1));
    for (int i = 1; i < 16; i++)
        ck_assert_int_eq(tc_trust_add("4000003", NULL), 0);
    ck_assert_int_eq(tc_trust_add("4000003", NULL), -TC_E_LIMIT);
}
END_TEST

static void expect(const char *path, int reason, const char *says)
{
    struct tc_err err = {0};
    int fd = tc_trust_open_dir(path, &err);
    ck_assert_msg(reason ? fd == -reason && strstr(err.text, says) : fd >= 0, "%s: %d %s", path, fd, err.text);
    ck_assert(!strchr(err.text, '\n') && strlen(err.text) < TC_ERR_TEXT - 1);
    if (fd >= 0)
        close(fd);
}

START_TEST(directories)
{
    char dir[128], link[128], file[128];
    ck_assert_int_eq(mkdir(at(dir, "dir"), 0755), 0);
    expect(dir, 0, NULL);
    ck_assert_int_eq(symlink("dir", at(link, "link")), 0);
    expect(link, 0, NULL);
    expect(at(file, "absent"), TC_E_NOTFOUND, "cannot open");
    for (mode_t mode = 0700; mode <= 0777; mode++) {
        ck_assert_int_eq(chmod(dir, mode), 0);
        expect(dir, mode & 022 ? TC_E_POLICY : 0, "others may write");
        expect(link, mode & 022 ? TC_E_POLICY : 0, "others may write");
    }
    expect("/dev/shm", TC_E_POLICY, "others may write");
    int fd = open(at(file, "file"), O_WRONLY | O_CREAT, 0644);
    ck_assert_int_ge(fd, 0);
    close(fd);
    expect(file, TC_E_IO, "Not a directory");
}
END_TEST

/* As root only: others cannot give anything away. */
START_TEST(directories_of_outsiders)
{
    char dir[128], link[128], own[128], slash[160];
    ck_assert_int_eq(mkdir(at(dir, "theirs"), 0755) || chown(dir, OUTSIDER, OUTSIDER), 0);
    expect(dir, TC_E_POLICY, "belongs to uid 4000003");
    snprintf(slash, sizeof slash, "%s//", dir);
    expect(slash, TC_E_POLICY, "belongs to uid 4000003");
    ck_assert_int_eq(symlink("theirs", at(link, "to-theirs")), 0);
    expect(link, TC_E_POLICY, "belongs to uid 4000003");
    ck_assert_int_eq(mkdir(at(own, "ours"), 0755), 0);
    ck_assert_int_eq(symlink("ours", at(link, "their-link")) || lchown(link, OUTSIDER, OUTSIDER), 0);
    expect(link, TC_E_POLICY, "belongs to uid 4000003");
    snprintf(slash, sizeof slash, "%s/", link);
    expect(slash, TC_E_POLICY, "belongs to uid 4000003");
    /* Below it: .treecast is looked at on its own. */
    ck_assert_int_eq(mkdir(at(dir, "ours/.treecast"), 0711), 0);
    int fd = tc_trust_open_dir(own, NULL), state = tc_trust_open_dir_at(fd, ".treecast", "it", NULL);
    ck_assert(fd >= 0 && state >= 0);
    close(state);
    ck_assert_int_eq(chown(dir, OUTSIDER, OUTSIDER), 0);
    ck_assert_int_eq(tc_trust_open_dir_at(fd, ".treecast", "it", NULL), -TC_E_POLICY);
    ck_assert_int_eq(rmdir(dir) || symlink("../theirs", dir), 0);
    ck_assert_int_eq(tc_trust_open_dir_at(fd, ".treecast", "it", NULL), -TC_E_POLICY);
    ck_assert_int_eq(unlink(dir), 0);
    ck_assert_int_eq(tc_trust_open_dir_at(fd, ".treecast", "it", NULL), -TC_E_NOTFOUND);
    /* Who names that user trusts it. */
    ck_assert_int_eq(tc_trust_add("4000003", NULL), 0);
    expect(at(dir, "theirs"), 0, NULL);
    expect(link, 0, NULL);
}
END_TEST

/* A user believes root and itself, and another user's socket wherever it lies. */
START_TEST(sockets)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", base);
    for (int theirs = 0; theirs < 2; theirs++) {
        int ready[2], status = 0;
        char word;
        ck_assert_int_eq(pipe(ready), 0);
        unlink(address.sun_path);
        ck_assert_int_eq(chmod(base, 0777), 0);
        pid_t child = fork();
        if (child == 0) {
            int listener = socket(AF_UNIX, SOCK_STREAM, 0);
            close(ready[0]);
            bool good = (!theirs || setuid(OUTSIDER) == 0) &&
                        bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0 &&
                        write(ready[1], "x", 1) == 1;
            _exit(good && read(accept(listener, NULL, NULL), &word, 1) == 0 ? 0 : 1);
        }
        close(ready[1]);
        ck_assert_int_eq(read(ready[0], &word, 1), 1);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        struct tc_err err = {0};
        ck_assert_int_eq(tc_trust_peer(fd, "it", &err), theirs ? -TC_E_POLICY : 0);
        close(fd);
        close(ready[0]);
        ck_assert(waitpid(child, &status, 0) == child && status == 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trust");
    TCase *tcase = tcase_create("trust");
    tcase_add_unchecked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, root_names_users);
    tcase_add_test(tcase, users);
    tcase_add_test(tcase, directories);
    if (geteuid() == 0) {
        tcase_add_test(tcase, directories_of_outsiders);
        tcase_add_test(tcase, sockets);
    }
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
