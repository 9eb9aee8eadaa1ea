#!/usr/bin/python3
"""A job's directory: neither its user, nor who its agent runs as, nor an outsider can hold a hook off, send it after somebody
else's files or processes, or take the job's agent away."""

import os
import pwd
import signal
import socket
import subprocess
import threading
import time

from hostile import SLOW, ensure, main, note, scenario, wait_for
from hook_site import ALICE, BOB, EXPORT, Site, agents_of_nobody, alive


def as_user(uid, gid=None):
    """What a child runs to become nobody else any more."""
    def become():
        os.setgroups([])
        os.setgid(uid if gid is None else gid)
        os.setuid(uid)
    return become


def timed_epilog(site, what, *options, job=7, uid=ALICE, code=0):
    """The epilog waits for nothing that others can hold: what it takes is its own work, and the machine's load."""
    began = time.monotonic()
    site.hook("epilog", job, uid, "slurm", *options, code=code)
    seconds = time.monotonic() - began
    note(f"{what}: the epilog took {seconds:.2f} s")
    ensure(seconds < 1.0 * SLOW + 1.0, f"{what}: the epilog took {seconds:.2f} s")


@scenario
def locks(scene):
    """The job's user locks all that can be opened, and stays in the directory: the epilog is done in a second"""
    site = Site(scene)
    site.prolog()
    folder = site.folder()
    script = """
import fcntl, os, sys
held = []
for path in sys.argv[1:]:
    for flags in (os.O_RDONLY, os.O_RDWR):
        try:
            held.append(os.open(path, flags))
        except OSError as error:
            print(path, flags, error.strerror, file=sys.stderr)
            continue
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
os.chdir(sys.argv[1])
print(len(held), flush=True)
sys.stdin.read()
"""
    name = os.path.basename(folder)
    places = [name, f"{name}/.treecast", f"{name}/.treecast/key", f"{name}/.treecast/ports", f"{name}/.treecast/lock",
              f".hooks/{name}.lock", f".hooks/{name}.agent", ".hooks", "."]
    with subprocess.Popen(["/usr/bin/python3", "-c", script, *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, preexec_fn=as_user(ALICE), text=True, cwd=site.base) as holder:
        held = int(holder.stdout.readline())
        ensure(held >= 2, f"the job's user could open {held} places only: {holder.stderr}")
        timed_epilog(site, f"{held} locks held", "--strict")
        site.require_nothing()
        site.prolog()  # and the next one finds nothing in its way
        timed_epilog(site, "again", "--strict")
        holder.stdin.close()
        holder.wait()
        said = holder.stderr.read()
    ensure(f".hooks/{name}.lock" in said, f"the job's user can open the hooks' lock: {said}")


# Who the agent runs as, at work in the job's directory all the time: with names that root may be about to use. A byte for each
# exchange.
SWAPPER = """
import os, sys
folder, victim = sys.argv[1:]
while True:
    for name in ("key", "key.origin", "ports", "agent", "log", "api"):
        path = f"{folder}/.treecast/{name}"
        for made in (os.symlink, os.link):
            try:
                made(victim, path + ".mine")
                os.rename(path + ".mine", path)
                os.write(1, b"x")
            except OSError:
                pass
    for name in (".treecast", ".treecast/key"):
        try:
            os.rename(f"{folder}/{name}", f"{folder}/aside")
            os.symlink(os.path.dirname(victim), f"{folder}/{name}")
            os.write(1, b"x")
        except OSError:
            pass
"""


@scenario
@agents_of_nobody
def swaps(scene):
    """[hook] user: 40 prologs while that user exchanges all names in the directory: root gives away, writes and removes
    nothing elsewhere"""
    site = Site(scene)
    nobody = pwd.getpwnam("nobody").pw_uid
    os.mkdir(scene.path("roots"), 0o755)
    victim = scene.path("roots", "secret")
    with open(victim, "w", encoding="ascii") as file:
        file.write("root's own\n")
    os.chmod(victim, 0o640)
    facts = os.stat(victim)
    folder = f"{site.base}/slurm+big+7+{ALICE}"
    with open(scene.path("swaps"), "wb") as count, \
            subprocess.Popen(["/usr/bin/python3", "-c", SWAPPER, folder, victim], stdout=count,
                             preexec_fn=as_user(nobody)) as swapper:
        try:
            for _ in range(40):
                site.hook("prolog", 7, ALICE, "slurm", "--user", "nobody")
                site.hook("epilog", 7, ALICE, "slurm", "--user", "nobody")
                now = os.stat(victim)
                ensure((now.st_uid, now.st_gid, now.st_mode, now.st_ino) ==
                       (facts.st_uid, facts.st_gid, facts.st_mode, facts.st_ino), f"root has changed {now}")
                ensure(os.listdir(scene.path("roots")) == ["secret"], f"made: {os.listdir(scene.path('roots'))}")
        finally:
            swapper.kill()
    swaps = os.stat(scene.path("swaps")).st_size
    with open(victim, encoding="ascii") as file:
        ensure(file.read() == "root's own\n", "root has written elsewhere")
    note(f"{swaps} swaps while root was at work in 40 prologs and epilogs; none led it elsewhere")
    ensure(swaps > 0, "nothing was tried")
    wait_for(lambda: not os.listdir(f"{site.base}/.hooks/trash"), "an empty trash", timeout=30 * SLOW)
    site.require_nothing()


@scenario
@agents_of_nobody
def processes(scene):
    """[hook] user: that user cannot send the epilog after another process, whatever it writes, nor keep its agent alive"""
    site = Site(scene)
    nobody = pwd.getpwnam("nobody").pw_uid
    site.prolog(7, ALICE, "slurm", "--user", "nobody")
    agent, folder = site.agent(), site.folder()
    with subprocess.Popen(["/bin/sleep", "60"], preexec_fn=as_user(nobody)) as outsider:
        with open(f"/proc/{outsider.pid}/stat", encoding="ascii") as file:
            start = file.read().rpartition(")")[2].split()[19]
        script = """
import os, socket, sys
folder, text = sys.argv[1:]
open(f"{folder}/.treecast/agent", "w").write(text)
os.unlink(f"{folder}/.treecast/api")
api = socket.socket(socket.AF_UNIX)
api.bind(f"{folder}/.treecast/api")
api.listen()
print(flush=True)
sys.stdin.read()
"""
        with subprocess.Popen(["/usr/bin/python3", "-c", script, folder, f"{outsider.pid} {start} -\n"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=as_user(nobody)) as liar:
            liar.stdout.readline()
            os.kill(agent, signal.SIGSTOP)
            timed_epilog(site, "a stopped agent and a false local API", "--user", "nobody", "--strict")
            ensure(outsider.poll() is None, "the epilog ended an outsider")
            ensure(liar.poll() is None, "the epilog ended who listens through the local API")
            liar.stdin.close()
        outsider.kill()
    ensure(not alive(agent), "the agent lives on")
    site.require_nothing()


@scenario
@agents_of_nobody
def leftovers(scene):
    """[hook] user: a deep and crowded directory that its owner goes on filling, and a large file: the epilog is done in a
    second, and in the end all is gone"""
    site = Site(scene)
    nobody = pwd.getpwnam("nobody").pw_uid
    site.prolog(7, ALICE, "slurm", "--user", "nobody")
    script = """
import os, sys
os.chdir(sys.argv[1])
for i in range(5000):
    open(f"many-{i}", "w").close()
top = os.open(".", os.O_RDONLY)
for i in range(200):
    os.mkdir("deep", 0o700)
    os.chdir("deep")
    open("file", "w").close()
    os.symlink("/", "link")
print(flush=True)
n = 0
while True:
    n += 1
    for at in (top, None):
        try:
            os.mkdir(f"more-{n}", dir_fd=at)
            os.close(os.open(f"again-{n}", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        except FileNotFoundError:  # removed under our feet
            if at is None:
                sys.exit(0)
"""
    with open(f"{site.folder()}/large", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 300 << 20)
    with subprocess.Popen(["/usr/bin/python3", "-c", script, site.folder()], stdout=subprocess.PIPE,
                          preexec_fn=as_user(nobody)) as writer:
        writer.stdout.readline()
        timed_epilog(site, "leftovers", "--user", "nobody", "--strict")
        ensure(not site.folder(), "the directory is still there")
        writer.kill()
    wait_for(lambda: not os.listdir(f"{site.base}/.hooks/trash"), "an empty trash", timeout=30 * SLOW)
    site.require_nothing()


@scenario
def two_clusters(scene):
    """Two clusters' jobs of one id, and one whose id is 10000 more: each has its agent, and each epilog ends its own"""
    site = Site(scene)
    jobs = [("big", 7), ("small", 7), ("big", 10007), ("", 7)]

    def told(cluster, job):
        return {"SLURM_JOB_ID": str(job), "SLURM_JOB_UID": str(ALICE), "SLURM_CLUSTER_NAME": cluster}

    def agents():
        found = {}
        for name in os.listdir(f"{site.base}/.hooks"):
            if name.endswith(".agent"):
                with open(f"{site.base}/.hooks/{name}", encoding="ascii") as file:
                    found[name[:-6]] = int(file.read().split()[0])
        return found

    source = scene.noise("a.bin", 1000)
    os.chmod(source, 0o644)
    for cluster, job in jobs:
        site.hook("prolog", job, ALICE, "slurm", env=told(cluster, job), code=0)
    names = [f"slurm+{cluster or '-'}+{job}+{ALICE}" for cluster, job in jobs]
    ensure(sorted(agents()) == sorted(names), f"agents: {agents()}")
    ensure(all(alive(pid) for pid in agents().values()) and len(set(agents().values())) == 4, f"{agents()}")
    for number, (cluster, job) in enumerate(jobs):
        said = site.hook("task-prolog", job, ALICE, "slurm", env=told(cluster, job), user=ALICE, group=ALICE,
                         extra_groups=[])
        words = dict(EXPORT.findall(said.out))
        ensure(words["TREECAST_DIR"] == f"{site.base}/{names[number]}", f"{words}")
        site.as_user(ALICE, words, "send", "-w", "127.0.0.1", source).expect(0)
        ensure(os.path.exists(f"{site.base}/{names[number]}/a.bin"), "it is elsewhere")
    before = agents()
    for number, (cluster, job) in enumerate(jobs):
        site.hook("epilog", job, ALICE, "slurm", env=told(cluster, job))
        ensure(sorted(agents()) == sorted(names[number + 1:]), f"after {cluster} {job}: {agents()}")
        ensure(all(alive(before[name]) == (name in names[number + 1:]) for name in names), f"{agents()}")
    site.require_nothing()


def squat(address, ports):
    taken = []
    for port in ports:
        taken.append(socket.socket())
        taken[-1].bind((address, port))
        taken[-1].listen()
    return taken


@scenario
def outsiders_on_ports(scene):
    """Outsiders on the ports that a job would use, silent ones and such as answer: strict prologs succeed, send finds the
    agents of all hosts, and what outsiders hear is no data"""
    site = Site(scene)
    bases = {f"127.0.0.{i}": scene.path(f"host{i}") for i in (1, 2, 3)}

    def prolog(address, *options):
        site.base = bases[address]
        site.hook("prolog", 7, ALICE, "slurm", "--listen", address, "--strict", *options)
        wait_for(site.ready, "the agent", timeout=15 * SLOW)
        return site.ports()

    def everywhere(phase):
        for site.base in bases.values():
            site.hook(phase, 7, ALICE, "slurm")

    wanted = prolog("127.0.0.1")
    site.hook("epilog")
    ensure(12 <= len(set(wanted)) == len(wanted) <= 16 and all(20000 <= port <= 29999 for port in wanted), f"{wanted}")
    heard = []

    def listen(listening):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            heard.append(connection.recv(4096))
            connection.sendall(b"\0\0\0\5\1\0\0\0hello")  # neither TLS nor sense

    silent, loud = squat("127.0.0.2", wanted[:3]), squat("127.0.0.3", wanted[:5])
    for each in loud:
        threading.Thread(target=listen, args=(each,), daemon=True).start()
    ensure(prolog("127.0.0.1")[0] == wanted[0], "another port than before")
    ensure(prolog("127.0.0.2")[0] == wanted[3], "not the first that is free")
    ensure(prolog("127.0.0.3")[0] == wanted[5], "not the first that is free")
    site.base = bases["127.0.0.1"]
    told = site.task()
    source = scene.noise("a.bin", 300000)
    os.chmod(source, 0o644)
    site.as_user(ALICE, told, "send", "-w", ",".join(bases), source).expect(0).within(5)
    for site.base in bases.values():
        with open(source, "rb") as sent, open(f"{site.folder()}/a.bin", "rb") as got:
            ensure(sent.read() == got.read(), "not what was sent")
    with open(source, "rb") as file:
        piece = file.read(64)
    ensure(heard and not any(piece in bytes for bytes in heard), f"outsiders heard {len(heard)}")
    everywhere("epilog")
    for each in (*silent, *loud):
        each.close()

    taken = squat("127.0.0.1", range(29990, 30000))  # all there are: the kernel's choice, for this host's tasks
    ports = prolog("127.0.0.1", "--ports", "29990-29999")
    ensure(ports[0] not in range(29990, 30000) and sorted(set(ports[1:])) == sorted(ports[1:]), f"{ports}")
    site.as_user(ALICE, site.task(), "send", "-w", "127.0.0.1", source).expect(0)
    for each in taken:
        each.close()
    everywhere("epilog")
    site.require_nothing()


@scenario
def places(scene):
    """A base, or a directory above it, that somebody else could write or exchange is refused in one line"""
    site = Site(scene)
    os.makedirs(scene.path("above", "jobs"))
    site.base = scene.path("above", "jobs")
    for path in (scene.path("above", "jobs"), scene.path("above")):
        for uid, gid, mode in ((0, 0, 0o775), (0, BOB, 0o770), (0, 0, 0o757), (BOB, 0, 0o711)):
            os.chown(path, uid, gid)
            os.chmod(path, mode)
            for phase in ("prolog", "epilog"):
                done = site.hook(phase, 7, ALICE, "slurm", "--strict", code=1)
                ensure(len(done.err.splitlines()) == 1 and path in done.err and "[hook] base" in done.err, f"{done}")
            ensure(os.listdir(scene.path("above", "jobs")) == [], "something was made there")
        os.chown(path, 0, 0)
        os.chmod(path, 0o711)
    site.prolog()
    site.hook("epilog")
    site.require_nothing()


if __name__ == "__main__":
    main()
