/* Preloaded into an agent: when its loop waits for the first time, it tries what $PROBE says, with the agent's own rights,
 * and tells on standard error. $PROBE is words parted by spaces: r/PATH opens for reading, w/PATH makes a file, l/PATH
 * lists, x/PATH is whether it may be executed, s is setuid(0). */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

static int try(char what, const char *path)
{
    int fd = -1;
    DIR *dir;
    switch (what) {
    case 'r':
        fd = open(path, O_RDONLY | O_CLOEXEC);
        break;
    case 'w':
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        break;
    case 'l':
        dir = opendir(path);
        return dir ? closedir(dir) : errno;
    case 'x': {
        pid_t child = fork();
        char *words[] = {(char *)(size_t)path, NULL}, *none[] = {NULL};
        if (child == 0) {
            execve(path, words, none);
            _exit(errno);
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        return WEXITSTATUS(status);
    }
    default:
        return setuid(0) < 0 ? errno : 0;
    }
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int count, int timeout)
{
    static int (*real)(int, struct epoll_event *, int, int);
    if (!real) {
        real = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
        char *list = strdup(getenv("PROBE") ? getenv("PROBE") : "");
        for (char *word = strtok(list, " "); word; word = strtok(NULL, " "))
            dprintf(2, "probe %s: %d\n", word, try(word[0], word + 1));
        free(list);
        dprintf(2, "probe end\n");
    }
    return real(fd, events, count, timeout);
}
