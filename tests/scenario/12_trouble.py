"""Trouble on one host: its agent says what is wrong in one clean line, shows nothing false, lives on, and costs the
others nothing."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

from agents import Agent, Process, Skip, ensure, hosts_of, inject, main, plain_only, same_bytes, scenario, wait_for
from memory_cgroup import MemoryCgroup

MIB = 1 << 20


def fails(call, error, first=1):
    """A prefix with which call fails from its first-th time on, as a kernel would have it."""
    return inject(call, f"error={error}:when={first}+")


def troubled(scene, state, reason, text, prefix=(), name="a", size=4 * MIB, options=(), folder=None, kept=None):
    """Broadcast to a host in trouble and one without: the first ends in state with reason and text, the other has it."""
    if folder is None:
        bad, = scene.agents(1, prefix=prefix)
    else:
        bad = Agent(scene, folder, (), prefix=prefix)
        bad.folder = f"/proc/{bad.pid}/root{folder}"  # as it is seen from here
        scene.processes.append(bad)
    good, = scene.agents(1, first=1)
    source = scene.noise(name, size)
    answer = scene.send([bad, good], source, "--json", "--min-hosts", "1", *options).expect(3)
    line = answer.hosts[bad.address]
    ensure((line["state"], line["reason"]) == (state, reason) and text in line["text"], str(answer))
    scene.require_published([good], name, source)
    ensure(bad.running() and name not in bad.published(), f"{bad.published()} {bad.err}")
    scene.require_clean(bad, kept)
    scene.run("send", "-w", bad.address, source, name).expect(6, err=text)  # alone its reason is the exit code
    ensure(bad.err.count(text) == 2, f"not one line for each session: {bad.err}")
    return bad


@scenario
@plain_only
def write_fails(scene):
    """A disk that fails to write (EIO, or full without warning) is exit 6 for that host, and leaves nothing there."""
    troubled(scene, "failed", "io", "cannot write a: Input/output error", fails("pwrite64", "EIO", 9))


@scenario
@plain_only
def write_finds_no_space(scene):
    """A write that finds no space after all is told as no space."""
    troubled(scene, "failed", "nospace", "cannot write a: No space left", fails("pwrite64", "ENOSPC", 9))


@scenario
@plain_only
def rename_fails(scene):
    """A file system that became read-only at the last moment publishes nothing."""
    bad = troubled(scene, "failed", "permission", "cannot publish a: Read-only file system",
                   fails("renameat2", "EROFS"), kept="a")
    wait_for(lambda: bad.partials() == ["a"], "the end of the session")  # it is whole: the next try needs no byte


@scenario
@plain_only
def source_fails(scene):
    """A source that cannot be read is exit 10, and nothing of it is published."""
    agents = scene.agents(2)
    source = scene.noise("a", 4 * MIB)
    sender = Process(scene, [*fails("pread64", "EIO", 12), scene.treecast, "send", "-w", hosts_of(agents), source])
    scene.processes.append(sender)
    sender.finish(30).expect(10, err=f"cannot read {source}: Input/output error")
    scene.require_nothing(agents, kept="a")


MAPPED = """
import ctypes, mmap, os, subprocess, sys
path, *words = sys.argv[1:]
with open(path, "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
place = f"{ctypes.addressof(ctypes.c_char.from_buffer(memory))}:{len(memory)}"
os.truncate(path, len(memory) // 2)
own = os.open("/proc/self/mem", os.O_RDONLY)
sys.exit(subprocess.run([*words, "--source-fd", str(own), "--source-range", place, "a"], pass_fds=[own]).returncode)
"""


@scenario
def source_cut_short(scene):
    """A source that somebody cuts short, a file or the mapping of one, is exit 10 with the reason, never a SIGBUS."""
    agents = scene.agents(2)
    source = scene.crumbs("a", 8 * MIB)
    sender = scene.start_send(agents, source, "-C", "zstd:19", "-s", "64K")
    scene.under_way(sender, agents)
    os.truncate(source, 5 * MIB)
    sender.finish(30).expect(10, err=" while it was read\n")  # it became shorter or, where all was read, changed
    mapped = scene.start_program(sys.executable, "-c", MAPPED, scene.noise("b", 4 * MIB), scene.treecast, "send", "-w",
                                 hosts_of(agents))
    mapped.finish(30).expect(10, err="\ntreecast send: cannot read a: Input/output error\n")
    scene.require_nothing(agents, kept="a")


def prepared(script):
    """A prefix that runs script, with mounts of its own, before the program."""
    if os.getuid() != 0:
        raise Skip("needs root to mount")
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0:
        raise Skip("no mount namespace here")
    return ("unshare", "-m", "sh", "-c", f'mount --make-rprivate / && {script} && exec "$@"', "sh")


def mounted(*mounts):
    """A prefix that makes mounts of its own, each a command of mount's, before the program runs."""
    return prepared(" && ".join(f"mount {words}" for words in mounts))


def disk(scene, size, *make):
    """An image with a file system, and where to mount it."""
    if not shutil.which(make[0]):
        raise Skip(f"no {make[0]}: contrib/install-deps has its package")
    image, place = scene.path("image"), scene.path("place")
    with open(image, "wb") as file:
        file.truncate(size)
    os.mkdir(place)
    made = subprocess.run([*make, image], check=False, capture_output=True, text=True)
    ensure(made.returncode == 0, made.stderr)
    return image, place


@scenario
def quota(scene):
    """A quota is told as a quota, before any byte moves; what it has space for is taken"""
    image, place = disk(scene, 128 * MIB, "mkfs.btrfs", "-q", "-m", "single")
    prefix = prepared(f"mount -o loop {image} {place} && btrfs quota enable {place} && "
                      f"btrfs -q subvolume create {place}/host && chmod 700 {place}/host && "
                      f"btrfs qgroup limit 3M {place}/host")
    bad = troubled(scene, "refused", "nospace", "the disk quota is used up", prefix, folder=f"{place}/host")
    small = scene.noise("small", MIB)
    scene.send([bad], small).expect(0)
    scene.require_published([bad], "small", small)


@scenario
def sync_fails(scene):
    """A disk that cannot keep what was written to it (it has become shorter) publishes nothing."""
    image, place = disk(scene, 64 * MIB, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=0")
    prefix = prepared(f"mount -o loop {image} {place} && mkdir -m 700 {place}/host && sync -f {place} && "
                      f"truncate -s 4096 {image} && losetup -c $(losetup -n -O NAME -j {image})")
    troubled(scene, "failed", "io", "cannot sync a: Input/output error", prefix, folder=f"{place}/host")


@scenario
def read_only(scene):
    """On a read-only file system an agent does not start; where it becomes one later, it refuses."""
    folder = scene.path("host1")
    os.mkdir(folder)
    prefix = mounted(f"--bind {folder} {folder}", f"-o remount,ro,bind {folder}")
    answer = Process(scene, [*prefix, scene.treecast, "recv", "-d", folder, "-l", "127.0.0.1:0"]).finish(20)
    answer.expect(6, err="Read-only file system")
    ensure(answer.err.count("\n") == 1, str(answer))

    agent, = scene.agents(1, prefix=mounted(f"--bind {folder} {folder}"))
    subprocess.run(["nsenter", "-m", "-t", str(agent.pid), "mount", "-o", "remount,ro,bind", folder], check=True)
    source = scene.noise("a", MIB)
    scene.send([agent], source).expect(6, err="Read-only file system")
    subprocess.run(["nsenter", "-m", "-t", str(agent.pid), "mount", "-o", "remount,rw,bind", folder], check=True)
    scene.send([agent], source).expect(0)
    scene.require_published([agent], "a", source)


@scenario
def no_permission(scene):
    """A directory that the agent may not write any more: it refuses, and says which."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        raise Skip("needs root to be somebody else")
    os.chmod(scene.folder, 0o711)
    os.mkdir(scene.path("host1"))
    os.chown(scene.path("host1"), 65534, 65534)
    agent, = scene.agents(1, prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    same = {"user": 65534, "group": 65534, "extra_groups": []}  # without a key an agent serves its own user
    os.chmod(agent.path(".treecast"), 0o500)
    source = scene.noise("a", MIB)
    scene.send([agent], source, **same).expect(6, err="Permission denied")
    os.chmod(agent.path(".treecast"), 0o711)
    scene.send([agent], source, **same).expect(0)
    scene.require_published([agent], "a", source)


@scenario
def no_descriptors(scene):
    """With too few descriptors a host refuses or fails with that reason, or logs that nobody can reach it."""
    first = scene.agent()
    idle = min(first.descriptors() for _ in range(20) if not time.sleep(0.01))  # it tidies up when it begins
    source = scene.noise("a", 4 * MIB)
    ends = []
    for spare in (1, 2, 3, 5, 12):
        limit = idle + spare
        agent, = scene.agents(1, first=spare, prefix=("prlimit", f"--nofile={limit}:{limit}", "--"))
        answer = scene.send([agent], source, "--json", "-F", "double").within(10)
        line = answer.hosts[agent.address]
        ends.append(line["state"])
        if line["state"] == "published":
            scene.require_published([agent], "a", source)
            continue
        ensure(line["reason"] == "limit" and "Too many open files" in line["text"] and answer.code == 6, str(answer))
        ensure(agent.running() and agent.published() == [], f"{agent.published()}")
    ensure(ends[-1] == "published" and ("failed" in ends or "refused" in ends), f"{ends}")
    deaf, = scene.agents(1, first=20, prefix=("prlimit", f"--nofile={idle}:{idle}", "--"))
    sender = scene.start_send([deaf], source)
    wait_for(lambda: "cannot accept connections: Too many open files" in deaf.err, "a line in the log", timeout=20)
    sender.kill()


@scenario
@plain_only
def no_memory(scene):
    """With too little memory an agent does not start, or fails with that reason, until there is enough."""
    source = scene.noise("a", 24 * MIB)
    ends = []
    for limit in range(20, 256, 8):
        words = ("prlimit", f"--as={limit * MIB}", "--")
        probe = Process(scene, [*words, scene.treecast, "recv", "-d", scene.path("probe"), "-l", "nowhere:x"]).finish(20)
        if probe.code == 127:  # not even its libraries
            continue
        try:
            agent, = scene.agents(1, first=limit, prefix=words)
        except Exception as error:  # it has ended, and says why
            ensure("ended with 6" in str(error), f"{error}")
            ends.append("not started")
            continue
        answer = scene.send([agent], source, "-s", "4M", "--json", timeout=40)
        line = answer.hosts[agent.address]
        ends.append(line["state"])
        if line["state"] == "published":
            scene.require_published([agent], "a", source)
            break
        ensure(line["reason"] == "nomem" and answer.code == 6, str(answer))
        ensure(agent.running() and agent.published() == [], f"{agent.published()} {agent.err}")
        agent.stop()
    ensure(ends[-1] == "published" and len(ends) > 1, f"{ends}")


@scenario
def ramfs_says_no_size(scene):
    """A file system that says 0 blocks (ramfs, the root of diskless nodes) is of unknown size and not full."""
    folder = scene.path("host1")
    os.mkdir(folder)
    agent, = scene.agents(1, prefix=mounted(f"-t ramfs -o mode=700 ramfs {folder}"))
    agent.folder = f"/proc/{agent.pid}/root{folder}"
    source = scene.noise("a", 3 * MIB)
    scene.send([agent], source).expect(0)
    ensure(same_bytes(agent.path("a"), source), "other bytes")
    scene.send([agent], source).expect(0, out="1 had it already")
    huge = scene.path("huge")
    with open(huge, "wb") as file:
        file.truncate(1 << 44)
    scene.send([agent], huge, "-n").expect(6, err="no space (needs 16.0 TiB, has ")


@scenario
def space_for_the_living(scene):
    """What a killed session left goes when another array needs its space."""
    folder = scene.path("host1")
    os.mkdir(folder)
    agent, = scene.agents(1, prefix=mounted(f"-t tmpfs -o size=20m,mode=700 tmpfs {folder}"))
    agent.folder = f"/proc/{agent.pid}/root{folder}"  # as it is seen from here
    big, small = scene.crumbs("big", 12 * MIB), scene.noise("small", MIB)
    sender = scene.start_send([agent], big, "-C", "zstd:19", "-s", "64K")
    scene.under_way(sender, [agent], least=6 * MIB)
    sender.kill()
    wait_for(lambda: agent.partials() == ["big"], "the end of the orphan", timeout=60)
    scene.send([agent], small).expect(0)
    ensure(agent.partials() == ["big"], "it went too early")
    other = scene.noise("other", 16 * MIB)
    scene.send([agent], other).expect(0)
    ensure(agent.partials() == [], "it is still there")
    ensure(same_bytes(agent.path("other"), other), "other bytes")
    scene.send([agent], scene.noise("huge", 30 * MIB)).expect(6, err="no space (needs 30.1 MiB, has ")


@scenario
def space_goes(scene):
    """Space in memory that others take while the data comes: that host fails and its waiters hear why."""
    folder = scene.path("host1")
    os.mkdir(folder)
    bad, = scene.agents(1, prefix=mounted(f"-t tmpfs -o size=28m,mode=700 tmpfs {folder}"))
    bad.folder = f"/proc/{bad.pid}/root{folder}"
    good, = scene.agents(1, first=1)
    source = scene.noise("a", 24 * MIB)
    waiting = scene.start_wait(bad, "a")
    sender = scene.start_send([bad, good], source, "--json", "--min-hosts", "1", "--bwlimit", "8M")
    scene.under_way(sender, [bad], least=MIB)
    with open(bad.path(".filled"), "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(MIB)):
            pass
    line = sender.finish(30).expect(3).hosts[bad.address]
    ensure((line["state"], line["reason"]) == ("failed", "nospace"), f"{line}")
    ensure(line["text"].startswith("no space (needs 24.1 MiB, has "), f"{line}")
    waiting.finish(10).expect(6, err="no space (needs 24.1 MiB, has ")
    scene.require_published([good], "a", source)
    ensure(bad.running() and bad.published() == [], f"{bad.published()} {bad.err}")
    scene.require_clean(bad)
    os.unlink(bad.path(".filled"))
    scene.send([bad], source).expect(0)
    scene.require_published([bad], "a", source)


@scenario
@plain_only
def memory_limit(scene):
    """Memory that the agent's cgroup does not have is refused before any byte; left-overs go before that."""
    with MemoryCgroup(scene, 48 * MIB) as cgroup:
        bad = troubled(scene, "refused", "nospace", "no space (needs 40.1 MiB, the memory cgroup has ", cgroup.inside(),
                       size=40 * MIB)
        scene.send([bad], scene.noise("left", 16 * MIB), "--bwlimit", "4M", "-t", "2").expect(7)
        wait_for(lambda: bad.partials() == ["left"], "what the deadline left")
        scene.send([bad], scene.noise("small", MIB)).expect(0)
        ensure(bad.partials() == ["left"], "it went too early")
        large = scene.noise("large", 20 * MIB)
        scene.send([bad], large).expect(0)
        scene.require_published([bad], "large", large)


@scenario
@plain_only
def memory_goes(scene):
    """Memory of the cgroup that others take meanwhile: the host fails, or is lost if they take all."""
    source = scene.noise("a", 24 * MIB)
    with MemoryCgroup(scene, 80 * MIB) as cgroup:
        bad, = scene.agents(1, prefix=cgroup.inside(badness=1000))
        good, = scene.agents(1, first=1)
        for end, left in (("failed", 6 * MIB), ("lost", -MIB)):
            sender = scene.start_send([bad, good], source, "--json", "--min-hosts", "1", "--bwlimit", "4M")
            scene.under_way(sender, [bad], least=MIB)
            ensure(cgroup.take(cgroup.space() - left) or left < 0, f"no {cgroup.space()} bytes left for somebody else")
            line = sender.finish(30).expect(3).hosts[bad.address]
            ensure(line["state"] == end, f"{line}")
            scene.require_published([good], "a", source)
            if end == "failed":
                ensure(line["reason"] == "nospace" and "the memory cgroup has " in line["text"], f"{line}")
                ensure(bad.running() and bad.published() == [], f"{bad.published()} {bad.err}")
                scene.require_clean(bad)
            scene.forget([good], "a")
            os.unlink(scene.path("taken"))
        ensure(bad.popen.wait() == -signal.SIGKILL, f"{bad.popen.returncode}")


@scenario
def cut_short(scene):
    """A published file that somebody cut short is an error to every reader, never a SIGBUS."""
    agent = scene.agent()
    source = scene.noise("a", MIB)
    scene.send([agent], source, "--raw", "--dtype", "<f8").expect(0)
    os.chmod(agent.path("a"), 0o644)
    os.truncate(agent.path("a"), 1000)
    for words in (("attach", "-t", "1", "a"), ("verify", "a"), ("attach", "-t", "1", "a", "--", "true")):
        answer = scene.run(words[0], "-d", agent.folder, *words[1:])
        ensure(answer.code > 0 and answer.code < 126 and answer.err.count("\n") == 1, str(answer))
    scene.send([agent], source, "--raw", "--dtype", "<f8").expect(1, err="--force")
    scene.send([agent], source, "--raw", "--dtype", "<f8", "--force").expect(0)
    scene.run("verify", "-d", agent.folder, "a").expect(0)


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
/* The time of day jumps a month back or forth at every look. */
static long jump(void)
{
    static unsigned looks;
    return (long)(__atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED) % 3 - 1) * 30 * 86400;
}
int clock_gettime(clockid_t id, struct timespec *out)
{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, out);
    if (rc == 0 && id == CLOCK_REALTIME)
        out->tv_sec += jump();
    return rc;
}
time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return out ? (*out = now.tv_sec) : now.tv_sec;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


@scenario
@plain_only
def clock_jumps(scene):
    """A time of day that jumps by months harms no broadcast, no deadline and no waiter."""
    with open(scene.path("clock.c"), "w", encoding="ascii") as file:
        file.write(CLOCK)
    compiler = (os.environ.get("CC") or "cc").split()
    built = subprocess.run([*compiler, "-shared", "-fPIC", "-o", scene.path("clock.so"), scene.path("clock.c")],
                           check=False, capture_output=True, text=True)
    ensure(built.returncode == 0, built.stderr)
    environment = scene.environment(LD_PRELOAD=scene.path("clock.so"))
    agents = scene.agents(3, env=environment)
    waiting = scene.start("wait", "-d", agents[0].folder, "-t", "50", "a", env=environment)
    source = scene.crumbs("a", 8 * MIB)
    scene.send(agents, source, "-C", "zstd:9", "-s", "64K", "-t", "60", env=environment).expect(0)
    scene.require_published(agents, "a", source)
    waiting.finish(10).expect(0)
    slow = scene.crumbs("b", 32 * MIB)
    answer = scene.send(agents, slow, "-C", "zstd:19", "-s", "64K", "-t", "1", env=environment)
    answer.expect(7).within(5)
    sender = scene.start_send(agents, slow, "-C", "zstd:19", "-s", "64K", env=environment)
    scene.under_way(sender, agents)
    sender.signal(signal.SIGINT)
    sender.finish(10).expect(130)


if __name__ == "__main__":
    main()
