#!/usr/bin/python3
"""Crowds: many names, many requests, many connections, of one user or one address, cost the others a share at most."""

import contextlib
import json
import os
import pwd
import socket
import subprocess
import threading
import time

from hostile import MIB, SLOW, Skip, ensure, main, need_root, note, scenario, wait_for  # first: it knows where the next one is
from fuse import SlowFile
from names import fill

NAMES = int(os.environ.get("CROWD_NAMES", "20000"))
PIPELINED = 1900
USER = "nobody"
FLOODED = 10
BURST = 50  # of connections, after which the flood takes breath: the machine has other work too


class Client:
    """One connection to an agent's local API."""

    def __init__(self, agent, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout * SLOW)
        self.socket.connect(agent.path(".treecast/api"))
        self.lines = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def ask(self, **request):
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(self.lines.readline())

    def took(self, **request):
        began = time.monotonic()
        answer = self.ask(**request)
        return time.monotonic() - began, answer


def worst(client, times, **request):
    slowest = 0
    for _ in range(times):
        seconds, answer = client.took(**request)
        ensure(answer["ok"], answer)
        slowest = max(slowest, seconds)
    return slowest


@scenario
def many_names(scene):
    """Status of a name, a lease and a small send take as long in a directory of 20,000 names as in one of few"""
    small, agent = scene.noise("small", 100), scene.agent("-qq")

    def send_small(name):
        return scene.run("send", "-w", agent.address, small, name).expect(0).seconds
    usual = min(send_small(f"usual{number}") for number in range(3))
    fill(agent.folder, NAMES)
    with Client(agent) as client, Client(agent) as other:
        figures = {"status": worst(client, 20, op="status", name="crowd7"),
                   "lease": worst(client, 20, op="lease", name="crowd7", ttl=1000)}
        answer = client.ask(op="status", name=f"crowd{NAMES - 1}")
        ensure(answer["published"] and answer["published"][0]["size"] == 1, answer)
        ensure(client.ask(op="status")["reason"] == "limit", "a list of all names came")
        # What another process has removed is gone at once, and what it has put there is there.
        os.unlink(agent.path("crowd8"))
        ensure(not client.ask(op="status", name="crowd8")["published"], "an array that was removed")
        # Nobody waits while the directory is read for somebody.
        other.socket.sendall(b'{"op":"status"}\n' * 20)
        figures["ping beside 20 lists"] = worst(client, 50, op="ping")
        for _ in range(20):
            ensure(b"limit" in other.lines.readline(), "no answer")
        figures["send"] = min(send_small(f"more{number}") for number in range(3)) - usual
        # Leases end though so many names are there, and only those.
        ensure(client.ask(op="lease", name="crowd9", ttl=0.01)["ok"], "no lease")
        wait_for(lambda: not os.path.exists(agent.path("crowd9")), "the end of a lease")
        ensure(os.path.exists(agent.path("crowd7")), "a lease that has not ended")
    note(f"{NAMES} names: " + ", ".join(f"{what} {seconds * 1000:.1f} ms" for what, seconds in figures.items()) +
         " (send: more than in an empty directory)")
    ensure(all(seconds < 0.2 * SLOW for seconds in figures.values()), str(figures))


@scenario
def pipelined(scene):
    """1,900 requests of one client at once: an array and other clients' requests have their turn in between"""
    agent = scene.agent("-qq")
    fill(agent.folder, 200)
    source = scene.noise("a", 16 * MIB)
    scene.send([agent], source, "-f").expect(0)
    usual = min(scene.send([agent], source, "-f").expect(0).seconds for _ in range(3))
    slowest = taken = 0
    for request in (b'{"op":"status"}\n', b'{"op":"status","name":"crowd1"}\n', b'{"op":"lease","name":"crowd1"}\n'):
        with Client(agent, 120) as greedy, Client(agent) as other:
            answers = []
            reader = threading.Thread(target=lambda: answers.extend(greedy.lines.readline() for _ in range(PIPELINED)))
            writer = threading.Thread(target=greedy.socket.sendall, args=(request * PIPELINED,))
            reader.start()
            writer.start()
            taken = max(taken, scene.send([agent], source, "-f").expect(0).seconds)
            slowest = max(slowest, worst(other, 20, op="status", name="a"))
            writer.join()
            reader.join()
            ensure(len(answers) == PIPELINED and all(answers), f"{len(answers)} answers")
    note(f"{PIPELINED} requests at once: an array took {taken:.2f} s instead of {usual:.2f}, another client's request "
         f"{slowest * 1000:.1f} ms")
    ensure(taken < 2 * usual + SLOW, f"{taken:.2f} s instead of {usual:.2f}")
    ensure(slowest < 0.2 * SLOW, f"{slowest:.2f} s")


CROWD = r"""
import socket, sys
peers, refused = [], 0
for _ in range(int(sys.argv[2])):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(30)
    try:
        peer.connect(sys.argv[1])
        peer.sendall(b'{"op":"ping"}\n')
        answer = peer.recv(4096)
    except ConnectionError:
        answer = peer.recv(4096)
    if b'"ok":true' in answer:
        peers.append(peer)
    elif b'"reason":"limit"' in answer:
        refused += 1
        text = answer
print(len(peers), refused, text.decode().strip() if refused else "", flush=True)
sys.stdin.read()
"""


@scenario
def connections_of_one_user(scene):
    """One user who is let in opens all connections that he can: he has a quarter, others and root come in"""
    need_root()
    user = pwd.getpwnam(USER)
    os.chmod(scene.folder, 0o755)
    agent = scene.agent("--allow-user", USER, "-qq")

    def become():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)

    crowd = subprocess.Popen(["/usr/bin/python3", "-c", CROWD, agent.path(".treecast/api"), "1100"], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=become)
    try:
        taken, refused, text = crowd.stdout.readline().split(" ", 2)
        ensure((int(taken), int(refused)) == (1024, 76), f"{taken} connections, {refused} refused: {text}")
        ensure(f"user {user.pw_uid} has 1024 connections to this agent, as many as one user may have" in text, text)
        with Client(agent) as root:
            ensure(root.ask(op="ping")["ok"], "root is locked out")
        source = scene.noise("a", MIB)
        scene.send([agent], source).expect(0)
        scene.require_published([agent], "a", source)
    finally:
        crowd.communicate("")
    note(f"{int(taken) + int(refused)} connections of one user: {taken} taken, {refused} refused with their reason")


class Flood:
    """Connections to a port from the sender's own address, one after another: silent ones, and some that begin a
    handshake."""

    def __init__(self, port, keep=1000):
        self.port, self.keep, self.count, self.over = port, keep, 0, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(2)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        peers = []
        while not self.over.wait(0.01 if self.count % BURST == 0 else 0):
            peer = socket.socket()
            peer.setblocking(False)
            peer.connect_ex(("127.0.0.1", self.port))
            peers.append(peer)
            if self.count % 4 == number:
                with contextlib.suppress(OSError):
                    peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40)
            self.count += 1
            if len(peers) > self.keep:
                peers.pop(0).close()
        for peer in peers:
            peer.close()

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


@scenario
def flood_from_the_senders_address(scene):
    """A flood of connections from the sender's own address: every send comes through, with and without a key"""
    source = scene.noise("a", MIB)
    figures = []
    for options in ((), ("-k", scene.key())):
        agent = scene.agents(1, *options, "-qq", first=len(figures))[0]
        flood = Flood(agent.port)
        began = time.monotonic()
        try:
            slowest = 0
            for number in range(FLOODED):
                answer = scene.run("send", "-w", agent.address, *options, source, f"a{number}")
                ensure(answer.code == 0, f"send {number + 1} of {FLOODED} beside {flood.count} connections: {answer}")
                slowest = max(slowest, answer.seconds)
        finally:
            flood.end()
        figures.append(f"{flood.count / (time.monotonic() - began):.0f} connections a second, slowest send {slowest:.2f} s")
    note(f"{FLOODED} of {FLOODED} sends without a key ({figures[0]}) and with one ({figures[1]})")


@scenario
def a_source_that_hangs(scene):
    """The local source is on a file system that does not answer: other arrays come as ever, and it once it answers"""
    need_root()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise Skip("there is no FUSE here")
    agent = scene.agent("--threads", "2", "-qq")
    other = scene.noise("other", 4 * MIB)
    usual = min(scene.send([agent], other, "-f").expect(0).seconds for _ in range(3))
    with open(scene.noise("source", 4 * MIB, 2), "rb") as file:
        data = file.read()
    try:
        slow = SlowFile(scene.path("fuse"), "source", data, lambda tid: os.path.exists(f"/proc/{agent.pid}/task/{tid}"))
    except OSError as error:
        raise Skip(str(error)) from None
    try:
        sender = scene.start("send", "-p", agent.port, "-w", "127.0.0.1", "--local", "copy", slow.path, "late",
                             env=scene.environment(TREECAST_DIR=agent.folder))
        wait_for(lambda: slow.held or not sender.running(), "the agent to read the source", timeout=20 * SLOW)
        ensure(sender.running(), "the sender has ended")
        slowest = max(scene.send([agent], other, "-f").expect(0).seconds for _ in range(5))
        ensure(len(slow.held) == 1, f"{len(slow.held)} workers read from it")
        with Client(agent) as client:
            ensure(worst(client, 20, op="status", name="other") < SLOW, "the local API waits too")
        ensure(sender.running() and "late" not in agent.published(), "it came from elsewhere")
        slow.let_go()
        sender.finish().expect(0)
        scene.require_published([agent], "late", scene.path("source"))
    finally:
        slow.close()
    note(f"beside a source that does not answer 4 MiB took {slowest:.2f} s at most instead of {usual:.2f}")
    ensure(slowest < 2 * usual + SLOW, f"{slowest:.2f} s instead of {usual:.2f}")


if __name__ == "__main__":
    main()
