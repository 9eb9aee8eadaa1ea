"""Workers through the local API: a thousand at once, descriptors instead of paths, and how long arrays stay."""

import array
import contextlib
import json
import mmap
import os
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))

import api  # noqa: E402
from agents import SLOW, ensure, main, scenario, wait_for

MIB = 1 << 20
WAITERS = 1000
FRIEND, OUTSIDER = 65533, 65532


class Api:
    """A connection to an agent's local API, as a program in any language would make it."""

    def __init__(self, agent):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20 * SLOW)
        self.socket.connect(agent.path(".treecast/api"))

    def say(self, **request):
        with contextlib.suppress(BrokenPipeError):  # hung up on already: what it said can still be read
            self.socket.sendall(json.dumps(request).encode() + b"\n")

    def hear(self):
        """One answer, and the descriptor that came with it or None."""
        line, fds = b"", array.array("i")
        while not line.endswith(b"\n"):
            more, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(4))
            ensure(more, "the agent has hung up")
            line += more
            for _, _, data in ancillary:
                fds.frombytes(data)
        return json.loads(line), fds[0] if fds else None

    def ask(self, **request):
        self.say(**request)
        return self.hear()

    def close(self):
        self.socket.close()


@scenario
def a_thousand_waiters(scene):
    """1,000 workers wait at once on one host and are awake 50 ms after the array is there (3 times that is let pass)"""
    agent = scene.agent()
    took = []
    for name in ("a", "b", "c"):  # the quickest counts: others use this machine too
        source, sends = scene.noise(name, 100000), []
        took.append(api.wake_milliseconds(agent.folder, name, WAITERS,
                                           lambda: sends.append(scene.start_send([agent], source))))
        sends[0].finish().expect(0)
    ensure(min(took) < 3 * 50 * SLOW, f"{took} ms")


@scenario
def many_waits(scene):
    """An agent answers 10,000 waits a second (a third of that is let pass), each over a connection of its own"""
    agent = scene.agent()
    scene.send([agent], scene.noise("a", 100000)).expect(0)
    rate = max(api.waits_per_second(agent.folder, "a", 2000) for _ in range(3))
    ensure(rate > 10000 / 3 / SLOW, f"{rate:.0f} waits a second")


def send_as(scene, agent, source, name, *options):
    scene.run("send", "-w", agent.address, *options, source, name).expect(0)


def as_user(uid, work):
    """work() in a process of uid: what it returns, as JSON can say it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:  # pylint: disable=broad-except
            os.write(writing, json.dumps(repr(error)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(said)


@scenario
def a_descriptor_for_a_friend(scene):
    """A user of --allow-user maps by descriptor what its mode shuts out, read-only; an outsider is refused"""
    if os.geteuid() != 0:
        print("# skipped: only root can become other users")
        return
    os.chmod(scene.folder, 0o711)
    agent = scene.agent("--mode", "0400", "--allow-user", str(FRIEND))
    source = scene.noise("a", 3 * MIB)
    scene.send([agent], source).expect(0)

    def work():
        friend = Api(agent)
        answer, fd = friend.ask(op="wait", name="a", fd=True)
        if fd is None:
            return answer["reason"]
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped, open(source, "rb") as want:
            same = mapped[:] == want.read()
        refused = []
        for way in (agent.path("a"), f"/proc/self/fd/{fd}"):
            try:
                os.close(os.open(way, os.O_RDWR))
            except PermissionError:
                refused.append(way)
        return [same, len(refused), answer["description"]["size"], friend.ask(op="lease", name="a")[0]["reason"]]

    said = as_user(FRIEND, work)
    ensure(said == [True, 2, 3 * MIB, "permission"], said)
    said = as_user(OUTSIDER, work)
    ensure(said == "permission", said)


def gone(agent, name="a"):
    wait_for(lambda: name not in agent.published(), f"the end of {name}", timeout=20 * SLOW)
    wait_for(lambda: not [f for f in os.listdir(agent.path(".treecast")) if f.endswith(".json")], "its description")


@scenario
def times_to_live(scene):
    """--ttl of the sender, else of the agent, ends an array; a later lease renews it, none keeps it"""
    agent = scene.agent("--ttl", "1h")
    source = scene.noise("a", 100000)
    scene.send([agent], source).expect(0)
    listed = scene.run("list", "-d", agent.folder, "--json").lines[0]
    ensure(3500 < listed["expires"] - time.time() <= 3602, listed)
    send_as(scene, agent, source, "b", "--ttl", "1")
    wait_for(lambda: agent.published() == ["a"], "the end of b", timeout=20 * SLOW)
    scene.run("send", "-w", agent.address, "--ttl", "2h", source).expect(0)  # unchanged, for longer
    listed = scene.run("list", "-d", agent.folder, "--json").lines[0]
    ensure(7100 < listed["expires"] - time.time() <= 7202, listed)
    local = Api(agent)
    ensure(local.ask(op="lease", name="a")[0] == {"ok": True, "name": "a", "expires": None, "owner_pid": None}, "no lease")
    ensure("expires" not in scene.run("list", "-d", agent.folder, "--json").lines[0], "it stays")
    with open(agent.path("a"), "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        ensure(local.ask(op="lease", name="a", ttl=0.2)[0]["ok"], "a short lease")
        gone(agent)
        with open(source, "rb") as want:
            ensure(mapped[:] == want.read(), "who has it mapped keeps it")


@scenario
def an_owner(scene):
    """An array goes with the process that owns it; recv --owner ends with its process and takes its arrays along"""
    agent = scene.agent()
    source = scene.noise("a", 100000)
    scene.send([agent], source).expect(0)
    with subprocess.Popen(["sleep", "600"]) as owner:
        answer = Api(agent).ask(op="lease", name="a", pid=owner.pid)[0]
        ensure(answer["owner_pid"] == owner.pid, answer)
        ensure(agent.published() == ["a"], "as long as it lives")
        owner.kill()
    gone(agent)
    with subprocess.Popen(["sleep", "600"]) as owner:
        [owned] = scene.agents(1, "--owner", str(owner.pid), first=1)
        scene.send([owned], source).expect(0)
        scene.send([agent], source).expect(0)
        owner.kill()
        owner.wait()
        owned.finish(20 * SLOW)
    ensure(owned.published() == [] and agent.published() == ["a"], "what is of others stays")
    scene.run("recv", "-l", "127.0.0.1:0", "-d", agent.path("x"), "--owner", "2147483647").expect(1, err="no process")


@scenario
def removal_while_mapped(scene):
    """rm of a mapped array is safe: the mapping stays whole, the name is free for another"""
    agent = scene.agent()
    source, other = scene.noise("a", 5 * MIB), scene.noise("other", 100000, seed=2)
    scene.send([agent], source).expect(0)
    with open(agent.path("a"), "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        scene.run("rm", "-d", agent.folder, "a").expect(0)
        send_as(scene, agent, other, "a")
        with open(source, "rb") as want:
            ensure(mapped[:] == want.read(), "the mapping has changed")
    scene.require_published([agent], "a", other)


@scenario
def a_crash(scene):
    """A killed agent's arrays stay attachable; the next one finds them, ends their leases and clears what was half done"""
    agent = scene.agent()
    source = scene.noise("a", 100000)
    for name in ("a", "b", "c"):
        send_as(scene, agent, source, name)
    with subprocess.Popen(["sleep", "600"]) as owner:
        ensure(Api(agent).ask(op="lease", name="b", pid=owner.pid)[0]["ok"], "b is owned")
        expires = Api(agent).ask(op="lease", name="c", ttl=1)[0]["expires"]
        agent.kill()
        owner.kill()
    hidden = agent.path(".treecast")
    for number, end in ((1, "json"), (2, "json.tmp")):
        with open(f"{hidden}/99999999999{number}.{end}", "w", encoding="ascii") as file:
            file.write("{}")
    parts = [f"{hidden}/z.{letter * 32}.part" for letter in "0123"]
    for age, part in enumerate(parts):
        with open(part, "w", encoding="ascii") as file:
            file.write("half")
        os.utime(part, (time.time() - age, time.time() - age))
    scene.run("wait", "-d", agent.folder, "-t", "5", "a").expect(0, out=agent.path("a"))
    scene.run("attach", "-d", agent.folder, "-t", "5", "a").expect(0, out=agent.path("a"))
    wait_for(lambda: time.time() > expires, "the end of c's lease")
    [again] = scene.agents(1)
    ensure(again.folder == agent.folder and again.published() == ["a"], again.published())
    ensure([line["name"] for line in scene.run("list", "-d", again.folder, "--json").lines] == ["a"], "list")
    ensure(Api(again).ask(op="wait", name="a", timeout=0)[0]["ok"], "the new agent knows it")
    left = sorted(name for name in os.listdir(hidden) if name not in ("api", "lock"))
    ensure(len(left) == 2 and left[1] == os.path.basename(parts[0]) and left[0].endswith(".json"), left)
    scene.run("verify", "-d", again.folder, "a").expect(0)


if __name__ == "__main__":
    main()
