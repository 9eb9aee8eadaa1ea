#!/usr/bin/python3
"""Squatters: on a host that several users share nobody is believed who took another one's place first: not his directory,
socket, lock, files, nor his agent on loopback. The tests have a /dev/shm and a /run of their own."""

import array
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

from hostile import (CLONE_NEWNS, SLOW, Skip, ensure, main, need_root, note, root_configuration, same_bytes, scenario,
                     wait_for)

VICTIM, ATTACKER, FRIEND = 4000011, 4000012, 4000013
PLACE = f"/dev/shm/treecast-{VICTIM}"
PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "contrib", "python")


def user(uid):
    """Options of a process that is another user's."""
    return {"user": uid, "group": uid, "extra_groups": []}


def ground(scene):
    need_root()
    os.chmod(scene.folder, 0o711)
    subprocess.run(["rm", "-rf", PLACE, "/dev/shm/treecast-0", "/run/user"], check=True)


def agent_of(scene, uid, folder, *options):
    """A user's agent in a folder that is made for it, or in its default one (None)."""
    where = ["-d", folder] if folder else []
    process = scene.start("recv", *where, "-l", "127.0.0.1:0", *options, **user(uid))
    wait_for(lambda: "listening on" in process.out or not process.running(), "an agent", timeout=15 * SLOW)
    ensure(process.running(), f"no agent: {process.err}")
    process.address = process.out.split()[2].rstrip(",")
    process.folder = process.out.split()[-1]
    return process


def folder_of(scene, name, uid, mode=0o755):
    path = scene.path(name)
    os.mkdir(path)
    os.chmod(path, mode)
    os.chown(path, uid, uid)
    return path


def source_of(scene, name, uid, seed=1, mode=0o600):
    path = scene.noise(name, 100000, seed)
    os.chown(path, uid, uid)
    os.chmod(path, mode)
    return path


class FakeApi(threading.Thread):
    """A local API of the attacker's that says yes to everything; heard is every byte, fds how many descriptors came."""

    def __init__(self, folder, listen):
        super().__init__(daemon=True)
        self.heard, self.fds, self.calls, self.listen = b"", 0, 0, listen
        read_end, write_end = os.pipe()
        child = os.fork()  # the socket must be the attacker's: whoever listens is whom SO_PEERCRED names
        if child == 0:
            os.setgroups([])
            os.setgid(ATTACKER)
            os.setuid(ATTACKER)
            self._serve(folder, write_end)
        os.close(write_end)
        self.child, self.report = child, os.fdopen(read_end, "r", encoding="ascii")
        ensure(self.report.readline() == "ready\n", "no false local API")
        self.start()

    def run(self):
        for line in self.report:
            said = json.loads(line)
            self.calls += 1
            self.heard += said["bytes"].encode()
            self.fds += said["fds"]

    def _serve(self, folder, report):
        try:
            with socket.socket(socket.AF_UNIX) as api:
                api.bind(os.path.join(folder, "api"))
                os.chmod(os.path.join(folder, "api"), 0o666)
                api.listen()
                os.write(report, b"ready\n")
                while True:
                    peer, _ = api.accept()
                    self._answer(peer, report)
        finally:
            os._exit(0)

    def _answer(self, peer, report):
        heard, count = b"", 0
        peer.settimeout(2)
        try:
            while True:
                data, control, _, _ = peer.recvmsg(65536, 1024)
                count += sum(len(array.array("i", part[:len(part) // 4 * 4])) for _, _, part in control)
                if not data:
                    break
                heard += data
                if data.endswith(b"\n"):
                    peer.sendall(json.dumps({"ok": True, "listen": self.listen}).encode() + b"\n")
        except OSError:
            pass
        peer.close()
        os.write(report, json.dumps({"bytes": heard.decode("latin-1"), "fds": count}).encode() + b"\n")

    def end(self):
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        self.join(10 * SLOW)


def squat():
    """The victim's place as the attacker makes it first."""
    for path in (PLACE, f"{PLACE}/.treecast"):
        os.mkdir(path)
        os.chown(path, ATTACKER, ATTACKER)


def require_refusal(answer, uid=ATTACKER, code=2):
    """One line that names the owner and says what to do."""
    ensure(answer.code == code and answer.err.count("\n") == 1, str(answer))
    ensure(f"belongs to uid {uid}, whom neither this user nor root trusts" in answer.err, str(answer))
    ensure("have root remove it" in answer.err and "-d, TREECAST_DIR" in answer.err, str(answer))


IN_PYTHON = """
import sys, treecast
try:
    print(eval(sys.argv[1]))
except treecast.UsageError as error:
    print("refused:", error)
"""


def in_python(scene, expression, uid=VICTIM, **more):
    package = scene.path("package")  # where every user can read it
    if not os.path.exists(package):
        shutil.copytree(os.path.join(PACKAGE, "treecast"), os.path.join(package, "treecast"))
    env = scene.environment(PYTHONPATH=package, PYTHONDONTWRITEBYTECODE="1", TREECAST=scene.treecast, **more)
    return scene.start_program(sys.executable, "-c", IN_PYTHON, expression, env=env, **user(uid)).finish()


IN_LIBRARY = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.tc_array_error.restype = ctypes.c_char_p
library.tc_array_attach.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_double, ctypes.POINTER(ctypes.c_void_p)]
library.tc_array_wait.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_double]
handle = ctypes.c_void_p()
print(library.tc_array_attach(b"a", None, 5.0, ctypes.byref(handle)), library.tc_array_error().decode())
print(library.tc_array_wait(b"a", None, 5.0), library.tc_array_published(b"a", None),
      library.tc_array_status(b"a", None, None, None))
"""


@scenario
def readers(scene):
    """An agent of the attacker's in the victim's place: no verb, library or package takes its array; each says whose it is"""
    ground(scene)
    agent = agent_of(scene, ATTACKER, PLACE)
    lie = source_of(scene, "a", ATTACKER)
    scene.run("send", "-w", agent.address, lie, **user(ATTACKER)).expect(0)
    scene.run("attach", "-d", PLACE, "a", **user(ATTACKER)).expect(0)
    tries = 0
    for words in (("attach", "-t", "5", "a"), ("attach", "a", "--", "true"), ("wait", "-t", "5", "a"), ("wait", "-t", "5", "b"),
                  ("list",), ("list", "a"), ("verify", "a"), ("status",), ("status", "a"), ("rm", "a"), ("clean",),
                  ("clean", "--all"), ("recv", "-l", "127.0.0.1:0")):
        for where in ((), ("-d", PLACE)):
            answer = scene.run(words[0], *where, *words[1:], **user(VICTIM)).within(3)
            if words[0] == "recv" and where:  # it says what an agent needs
                answer.expect(2, err="use a directory of your own")
            else:
                require_refusal(answer)
            ensure(answer.out == "", str(answer))
            tries += 1
    for expression in ("treecast.attach('a', timeout=5)", "treecast.wait('a', timeout=5)", "treecast.wait('b', timeout=5)",
                       "treecast.status()", "treecast.status('a')", "treecast.Ref('a').attach(5)", "treecast.Ref('a').remove()",
                       f"treecast.attach('a', {PLACE!r}, timeout=5)", f"treecast.status(dir={PLACE!r})"):
        answer = in_python(scene, expression).expect(0)
        ensure(answer.out.startswith("refused: ") and f"belongs to uid {ATTACKER}" in answer.out, str(answer))
        tries += 1
    library = os.path.join(os.environ.get("TREECAST_LIB") or "", "libtreecast.so")
    if os.path.exists(library) and not os.environ.get("TC_SANITIZER"):
        answer = scene.start_program(sys.executable, "-c", IN_LIBRARY, library, **user(VICTIM)).finish().expect(0)
        first, second = answer.out.splitlines()
        ensure(not first.startswith("0 ") and f"belongs to uid {ATTACKER}" in first, str(answer))
        ensure(all(int(word) not in (0, 1, 2) for word in second.split()), str(answer))
        tries += 4
    ensure(agent.running() and "a" in os.listdir(PLACE), "the attacker's array is gone")
    note(f"{tries} tries, {tries} refused")


@scenario
def offers(scene):
    """A false local API in the victim's place: send, with its source open to itself alone, says nothing there, and Python too"""
    ground(scene)
    folder = folder_of(scene, "own", VICTIM)
    agent = agent_of(scene, VICTIM, folder)
    source = source_of(scene, "secret", VICTIM)
    squat()
    port = agent.address.rpartition(":")[2]
    api = FakeApi(f"{PLACE}/.treecast", agent.address)
    try:
        answer = scene.run("send", "-p", port, "-w", "127.0.0.1", source, **user(VICTIM)).expect(0)
        ensure(f"belongs to uid {ATTACKER}" in answer.err, f"nothing is said of it: {answer}")
        scene.run("send", "-p", port, "-w", "127.0.0.1", "--local", "copy", "-f", source,
                  **user(VICTIM)).expect(2, err="belongs to uid")
        scene.run("send", "-p", port, "-w", "127.0.0.1", "--link", "-f", source,
                  **user(VICTIM)).expect(2, err="belongs to uid")
        for words in (("wait", "-t", "1", "x"), ("status",), ("attach", "-t", "1", "x")):
            require_refusal(scene.run(*words, **user(VICTIM)))
        sent = in_python(scene, f"treecast.send({source!r}, hosts='127.0.0.1', port={port}, force=True)").expect(0)
        ensure("Ref(" in sent.out, str(sent))
        # Somewhere else, where the directory is the victim's own and only who listens is not.
        os.unlink(f"{PLACE}/.treecast/api")
        for path in (PLACE, f"{PLACE}/.treecast"):
            os.chown(path, VICTIM, VICTIM)
        os.chmod(f"{PLACE}/.treecast", 0o777)
        other = FakeApi(f"{PLACE}/.treecast", agent.address)
        os.chmod(f"{PLACE}/.treecast", 0o711)
        try:
            scene.run("send", "-p", port, "-w", "127.0.0.1", "--local", "copy", "-f", source,
                      **user(VICTIM)).expect(2, err=f"belongs to uid {ATTACKER}")
            require_refusal(scene.run("status", **user(VICTIM)))
            answer = in_python(scene, "treecast.wait('x', timeout=5)").expect(0)
            ensure(answer.out.startswith("refused: "), str(answer))
        finally:
            other.end()
    finally:
        api.end()
    ensure((api.heard, api.fds) == (b"", 0), f"the false local API heard {api.heard} and got {api.fds} descriptors")
    ensure((other.heard, other.fds) == (b"", 0), f"the false agent heard {other.heard}, {other.fds} descriptors")
    ensure(other.calls > 0, "this test could not fail: nobody has called")
    note(f"{other.calls} calls, 0 bytes and 0 descriptors")


@scenario
def shapes(scene):
    """A file, a FIFO, links, a directory that others may write, in the victim's place: refused, each with what to do"""
    ground(scene)
    own = folder_of(scene, "own", VICTIM)
    theirs = folder_of(scene, "theirs", ATTACKER)
    made = {
        "file": (lambda: os.close(os.open(PLACE, os.O_CREAT | os.O_WRONLY)), ATTACKER, "belongs to uid"),
        "own file": (lambda: os.close(os.open(PLACE, os.O_CREAT | os.O_WRONLY)), VICTIM, "is not a directory"),
        "FIFO": (lambda: os.mkfifo(PLACE), ATTACKER, "belongs to uid"),
        "link to theirs": (lambda: os.symlink(theirs, PLACE), ATTACKER, "belongs to uid"),
        "link to ours": (lambda: os.symlink(own, PLACE), ATTACKER, "belongs to uid"),
        "own link to theirs": (lambda: os.symlink(theirs, PLACE), VICTIM, "belongs to uid"),
        "writable by all": (lambda: (os.mkdir(PLACE), os.chmod(PLACE, 0o777)), VICTIM, "others may write"),
        "writable by a group": (lambda: (os.mkdir(PLACE), os.chmod(PLACE, 0o775)), VICTIM, "others may write"),
    }
    for what, (make, owner, says) in made.items():
        make()
        os.lchown(PLACE, owner, owner)
        for words in (("list",), ("attach", "-t", "5", "a"), ("wait", "-t", "5", "a"), ("clean",), ("status",),
                      ("recv", "-l", "127.0.0.1:0")):
            answer = scene.run(*words, **user(VICTIM)).within(3)
            ensure(answer.code == 2 and answer.err.count("\n") == 1, f"{what}: {answer}")
            ensure(says in answer.err or (words[0] == "recv" and "directory of your own" in answer.err), f"{what}: {answer}")
        answer = in_python(scene, "treecast.wait('a', timeout=5)").expect(0)
        ensure(answer.out.startswith("refused: ") and says in answer.out, f"{what}: {answer}")
        subprocess.run(["rm", "-rf", PLACE], check=True)
    os.symlink(own, PLACE)
    os.lchown(PLACE, VICTIM, VICTIM)
    scene.run("list", **user(VICTIM)).expect(0)  # a link of its own to a directory of its own
    note(f"{len(made)} shapes refused")


@scenario
def locks(scene):
    """Root's rm and clean do not even try an outsider's lock, wherever it is"""
    ground(scene)
    for path in ("/dev/shm/treecast-0", "/dev/shm/treecast-0/.treecast"):
        os.mkdir(path)
        os.chown(path, ATTACKER, ATTACKER)
    with open("/dev/shm/treecast-0/.treecast/lock", "w", encoding="ascii") as lock:
        os.chown(lock.fileno(), ATTACKER, ATTACKER)
        os.chmod(lock.fileno(), 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in (("rm", "a"), ("clean",), ("clean", "--all")):
            require_refusal(scene.run(*words).within(2))
        # The same below root's own directory: such a lock is not even tried.
        for path in ("/dev/shm/treecast-0", "/dev/shm/treecast-0/.treecast"):
            os.chown(path, 0, 0)
        for words in (("rm", "a"), ("clean",)):
            ensure(f"belongs to uid {ATTACKER}" in scene.run(*words).within(2).expect(2).err, "believed")
    subprocess.run(["rm", "-rf", "/dev/shm/treecast-0"], check=True)
    # Root in another user's directory, if it is told to believe that one, leaves a lock that the user can take.
    with root_configuration(scene, f"[treecast]\ntrust = {VICTIM}\n"):
        os.mkdir(PLACE)
        os.mkdir(f"{PLACE}/.treecast")
        for path in (PLACE, f"{PLACE}/.treecast"):
            os.chown(path, VICTIM, VICTIM)
        scene.run("clean", "-d", PLACE).expect(0)
        ensure(os.stat(f"{PLACE}/.treecast/lock").st_uid == VICTIM, "root's lock")
        scene.run("clean", **user(VICTIM)).expect(0)


@scenario
def task_prolog(scene):
    """A base, a job's directory, its key or ports that somebody else has made: the task prolog tells the job nothing of it"""
    ground(scene)
    base = scene.path("jobs")
    job = f"{base}/slurm+big+7+{VICTIM}"
    env = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": str(VICTIM), "SLURM_CLUSTER_NAME": "big"}
    parts = [base, job, f"{job}/.treecast", f"{job}/.treecast/key", f"{job}/.treecast/ports"]

    def told(*options):
        return scene.run("hook", "--system=slurm", "--base", base, *options, "task-prolog", env=env, **user(VICTIM))

    for path in parts[:3]:
        os.mkdir(path)
    for path in parts[3:]:
        with open(path, "w", encoding="ascii") as file:
            file.write("20000,20001\n")
            os.fchmod(file.fileno(), 0o644)
    with open(parts[4], "w", encoding="ascii") as file:
        file.write("20000,20001")
    os.chown(parts[3], VICTIM, VICTIM)
    told().expect(0, out="export TREECAST_PORT=20000,20001")
    for theirs in parts:
        before = os.stat(theirs)
        os.chown(theirs, ATTACKER, ATTACKER)
        answer = told().expect(0, err="belongs to uid" if theirs != parts[4] else "not what a prolog has written")
        ensure(answer.out == "", f"{theirs}: {answer}")
        ensure(told("--strict").code != 0, f"{theirs}: strict")
        os.chown(theirs, before.st_uid, before.st_gid)
    for path in parts[:3]:
        os.chmod(path, 0o777)
        answer = told().expect(0, err="others may write")
        ensure(answer.out == "", f"{path}: {answer}")
        os.chmod(path, 0o755)
    told().expect(0, out="export TREECAST_PORT=20000,20001")
    note(f"{len(parts) + 3} tries, 0 told")


@scenario
def legitimate(scene):
    """Readers of root's agent, of their own, of a user whom root names or they themselves do, get what they got; of others
    by no environment"""
    ground(scene)
    source = source_of(scene, "a", FRIEND, mode=0o644)
    own = agent_of(scene, VICTIM, None)
    ensure(own.folder == PLACE, own.folder)
    roots = agent_of(scene, 0, folder_of(scene, "roots", 0), "--allow-user", str(VICTIM), "--mode", "0400")
    friends = agent_of(scene, FRIEND, folder_of(scene, "friends", FRIEND), "--allow-user", str(VICTIM))
    for agent, uid in ((own, VICTIM), (roots, 0), (friends, FRIEND)):
        scene.run("send", "-w", agent.address, source, **user(uid)).expect(0)
    for words in (("attach", "a"), ("list",), ("verify", "a"), ("status",), ("wait", "a")):
        scene.run(words[0], *words[1:], **user(VICTIM)).expect(0)
        if words[0] not in ("attach", "verify", "list"):  # the file itself is root's alone
            scene.run(words[0], "-d", roots.folder, *words[1:], **user(VICTIM)).expect(0)
        require_refusal(scene.run(words[0], "-d", friends.folder, *words[1:], **user(VICTIM)), FRIEND)
    answer = in_python(scene, f"len(treecast.attach('a', {roots.folder!r}, timeout=5))").expect(0)
    ensure(answer.out == "100000\n", str(answer))
    answer = in_python(scene, f"treecast.attach('a', {friends.folder!r}, timeout=5)").expect(0)
    ensure(answer.out.startswith("refused: "), str(answer))
    # The user's own words do not count, root's do.
    home = folder_of(scene, "victims-home", VICTIM)
    os.makedirs(f"{home}/.config/treecast")
    with open(f"{home}/.config/treecast/treecast.conf", "w", encoding="ascii") as file:
        file.write(f"[treecast]\ntrust = {FRIEND}\n")
    own_words = scene.environment(HOME=home)
    scene.run("list", "-d", friends.folder, env=own_words, **user(VICTIM)).expect(2, err="'trust' counts in root's")
    for words in (("attach", "a"), ("list",), ("verify", "a"), ("status",), ("wait", "a")):
        scene.run(words[0], "-d", friends.folder, "--trust", str(FRIEND), *words[1:], **user(VICTIM)).expect(0)
        require_refusal(scene.run(words[0], "-d", friends.folder, "--trust", str(ATTACKER), *words[1:], **user(VICTIM)),
                        FRIEND)
    scene.run("list", "--trust", "no-such-user", **user(VICTIM)).expect(2, err="--trust: there is no user 'no-such-user'")
    hopeful = scene.environment(TREECAST_TRUST=str(FRIEND), TREECAST_DIR=friends.folder)
    require_refusal(scene.run("list", env=hopeful, **user(VICTIM)), FRIEND)
    with root_configuration(scene, f"[treecast]\ntrust = root, {FRIEND}\n[recv]\nttl = 9h\n"):
        for words in (("attach", "a"), ("list",), ("verify", "a"), ("status",), ("wait", "a")):
            scene.run(words[0], "-d", friends.folder, *words[1:], **user(VICTIM)).expect(0)
        answer = in_python(scene, f"len(treecast.attach('a', {friends.folder!r}, timeout=5))").expect(0)
        ensure(answer.out == "100000\n", str(answer))
        for spoil in (lambda path: os.chmod(path, 0o666), lambda path: os.chmod(path, 0o664),
                      lambda path: os.chown(path, FRIEND, FRIEND)):
            path = "/etc/treecast/treecast.conf"
            spoil(path)
            answer = scene.run("list", "-d", friends.folder, **user(VICTIM))
            ensure(answer.code == 2 and answer.out == "", f"root's words as others may write them: {answer}")
            answer = in_python(scene, f"treecast.attach('a', {friends.folder!r}, timeout=5)").expect(0)
            ensure(answer.out.startswith("refused: "), str(answer))
            os.chown(path, 0, 0)
            os.chmod(path, 0o644)


@scenario
def another_place(scene):
    """Where the default place is taken, agents and readers agree on the runtime directory, whatever they are told of it,
    and go on with it when the place is free again; one that is no memory or not private is not used"""
    ground(scene)
    runtime = f"/run/user/{VICTIM}"
    os.makedirs(runtime)
    os.chown(runtime, VICTIM, VICTIM)
    os.chmod(runtime, 0o755)
    squat()
    require_refusal(scene.run("list", **user(VICTIM)))  # others may look into it
    os.chmod(runtime, 0o700)
    source = source_of(scene, "a", VICTIM)
    agent = agent_of(scene, VICTIM, None)
    ensure(agent.folder == f"{runtime}/treecast", agent.folder)
    scene.run("send", "-p", agent.address.rpartition(":")[2], "-w", "127.0.0.1", "--local", "copy", source,
              **user(VICTIM)).expect(0)

    def found():
        for more in ({}, {"XDG_RUNTIME_DIR": runtime}, {"XDG_RUNTIME_DIR": ""}):
            answer = scene.run("wait", "-t", "5", "a", env=scene.environment(**more), **user(VICTIM)).expect(0)
            ensure(answer.out == f"{runtime}/treecast/a\n", str(answer))
            answer = in_python(scene, "treecast.wait('a', timeout=5)", **more).expect(0)
            ensure(answer.out == f"{runtime}/treecast/a\n", str(answer))
        scene.run("verify", "a", **user(VICTIM)).expect(0)

    found()
    subprocess.run(["rm", "-rf", PLACE], check=True)
    found()
    agent.signal(signal.SIGTERM)
    agent.finish().expect(0)
    subprocess.run(["rm", "-rf", f"{runtime}/treecast"], check=True)
    ensure(agent_of(scene, VICTIM, None).folder == PLACE, "the place is free again")


@scenario
def made_at_boot(scene):
    """What is shipped for systemd-tmpfiles makes root's places before others can, and takes a squatted one back"""
    ground(scene)
    if not shutil.which("systemd-tmpfiles"):
        raise Skip("no systemd-tmpfiles here")
    top = os.environ.get("top_srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    words = ["systemd-tmpfiles", "--create", f"{top}/contrib/systemd/treecast-tmpfiles.conf"]
    subprocess.run(words, check=True, capture_output=True)
    for path, mode in (("/dev/shm/treecast-0", 0o755), ("/dev/shm/treecast", 0o711)):
        facts = os.lstat(path)
        ensure((facts.st_uid, facts.st_mode) == (0, stat.S_IFDIR | mode), f"{path}: {facts}")
    answer = scene.run("list", **user(VICTIM), env=scene.environment(TREECAST_DIR="/dev/shm/treecast-0")).expect(0)
    ensure(answer.out == "", str(answer))
    ensure(agent_of(scene, 0, None).folder == "/dev/shm/treecast-0", "another place")
    # A line as the file tells to add, for a user whose place is taken.
    squat()
    os.rmdir(f"{PLACE}/.treecast")
    with open(scene.path("more.conf"), "w", encoding="ascii") as file:
        file.write(f"d {PLACE} 0755 {VICTIM} {VICTIM} -\n")
    subprocess.run([*words[:2], scene.path("more.conf")], check=True, capture_output=True)
    ensure(agent_of(scene, VICTIM, None).folder == PLACE, "another place")


def raw(address, uid, what):
    """What an agent says to a connection of a user's: bytes until it closes, and after how long it did."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        heard = b""
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10 * SLOW) as peer:
                peer.sendall(what)
                while piece := peer.recv(65536):
                    heard += piece
        except OSError as error:
            heard += b"" if isinstance(error, ConnectionError) else repr(error).encode()
        finally:
            os.write(write_end, heard or b"-")
            os._exit(0)
    os.close(write_end)
    began = time.monotonic()
    with os.fdopen(read_end, "rb") as pipe:
        heard = pipe.read()
    os.waitpid(child, 0)
    return heard, time.monotonic() - began


@scenario
def without_a_key(scene):
    """Without a key an agent on loopback serves its own user, not others, not root; nothing it holds can be replaced"""
    ground(scene)
    agent = agent_of(scene, VICTIM, folder_of(scene, "own", VICTIM))
    mine, theirs = source_of(scene, "mine", VICTIM), source_of(scene, "theirs", ATTACKER, seed=2)
    roots = source_of(scene, "roots", 0, seed=3)
    scene.run("send", "-w", agent.address, mine, "a", **user(VICTIM)).expect(0)
    tries = 0
    for options in (("-f",), ("-f", "--ttl", "1"), ("-n",)):
        for uid, source in ((ATTACKER, theirs), (0, roots)):
            answer = scene.run("send", "-w", agent.address, *options, source, "a", **user(uid)).within(5).expect(4)
            ensure(f"the other end is uid {VICTIM}'s: use a key" in answer.err, str(answer))
            tries += 1
    hello = b"\0\0\0\x10\x01\0\0\0" + bytes(16)
    for uid in (ATTACKER, 0):
        for what in (hello, b"", b"GET / HTTP/1.0\r\n\r\n"):
            heard, seconds = raw(agent.address, uid, what)
            ensure(heard == b"-" and seconds < 3 * SLOW, f"uid {uid} heard {heard} after {seconds:.1f} s")
            tries += 1
    wait_for(lambda: f"the other end is uid {ATTACKER}'s" in agent.err, "a line in the log")
    scene.run("attach", "-d", agent.folder, "a", **user(VICTIM)).expect(0)
    ensure(same_bytes(f"{agent.folder}/a", mine), "replaced")
    listed = scene.run("list", "-d", agent.folder, "--json", **user(VICTIM)).lines
    ensure(len(listed) == 1 and "expires" not in listed[0], f"{listed}")
    scene.run("send", "-w", agent.address, "-f", mine, "a", **user(VICTIM)).expect(0)
    note(f"{tries} tries, 0 served")


class Silent(threading.Thread):
    """A listener of the attacker's on loopback that writes down what it hears."""

    def __init__(self):
        super().__init__(daemon=True)
        self.heard, self.calls = b"", 0
        numbers, report = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.setgroups([])
            os.setgid(ATTACKER)
            os.setuid(ATTACKER)
            with socket.create_server(("127.0.0.1", 0)) as server:
                os.write(report, b"%d\n" % server.getsockname()[1])
                while True:
                    peer, _ = server.accept()
                    peer.settimeout(3 * SLOW)
                    said = b"+"
                    try:
                        while piece := peer.recv(65536):
                            said += piece
                    except OSError:
                        pass
                    os.write(report, said[:4000] + b"\n")
        os.close(report)
        self.report = os.fdopen(numbers, "rb")
        self.address = f"127.0.0.1:{int(self.report.readline())}"
        self.start()

    def run(self):
        for line in self.report:
            self.calls += 1
            self.heard += line.strip(b"+\n")

    def end(self):
        wait_for(lambda: self.calls > 0, "a call", timeout=20 * SLOW)
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        self.join(10 * SLOW)


@scenario
def false_agents(scene):
    """Without a key send and join say nothing to whoever listens where their own agent or sender should be"""
    ground(scene)
    source = source_of(scene, "secret", VICTIM)
    listener = Silent()
    try:
        answer = scene.run("send", "-w", listener.address, source, **user(VICTIM)).within(5).expect(4)
        ensure(f"the other end is uid {ATTACKER}'s" in answer.err, str(answer))
        folder = folder_of(scene, "own", VICTIM)
        answer = scene.run("recv", "-d", folder, "--join", listener.address, "--as", "x", **user(VICTIM)).within(5).expect(4)
        ensure(f"the other end is uid {ATTACKER}'s" in answer.err, str(answer))
    finally:
        listener.end()
    ensure(listener.heard == b"", f"it heard {listener.heard}")
    real = agent_of(scene, ATTACKER, folder_of(scene, "theirs", ATTACKER))
    scene.run("send", "-w", real.address, source, **user(VICTIM)).within(5).expect(4)
    ensure(os.listdir(real.folder) == [".treecast"], f"it has {os.listdir(real.folder)}")
    # And a sender that waits for agents to join lets in no other user's.
    sender = scene.start("send", "--join-at", "127.0.0.1:0", "-w", "x", "--join-time", "20", source, **user(VICTIM))
    wait_for(lambda: "127.0.0.1:" in sender.err or not sender.running(), "its address", timeout=15 * SLOW)
    address = next(word for word in sender.err.split() if word.startswith("127.0.0.1:")).rstrip(",;:")
    answer = scene.run("recv", "-d", folder_of(scene, "more", ATTACKER), "--join", address, "--as", "x", **user(ATTACKER))
    answer.within(5).expect(4)
    scene.run("recv", "-d", folder, "--join", address, "--as", "x", **user(VICTIM)).expect(0)
    sender.finish().expect(0)
    ensure(same_bytes(os.path.join(folder, "secret"), source), "the victim's own agent has it not")


def private_places():
    """A /dev/shm and a /run of our own: nobody's default place is touched."""
    if os.geteuid() != 0:
        return
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        print("1..0 # SKIP no mount namespace here")
        sys.exit(0)
    for words in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"],
                  ["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]):
        subprocess.run(["mount", *words], check=True)


if __name__ == "__main__":
    private_places()
    main()
