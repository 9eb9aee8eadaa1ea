#!/usr/bin/python3
"""Outsiders: who has no key exchanges no byte, holds nobody up and costs next to nothing."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

from hostile import MIB, SLOW, compile_helper, ensure, main, note, resident, scenario, wait_for

STALLED = 1000
ELSEWHERE = "192.0.2.1"  # an address for documentation: nobody has it


@scenario
def no_key_no_network(scene):
    """Without a key recv and send leave loopback alone: exit 2, no socket, within 100 ms"""
    source = scene.noise("a", 10)
    nothing = max(scene.run("-V").seconds for _ in range(3))
    slowest = 0
    for words in (["recv", "-d", scene.path("d"), "-l", "0.0.0.0:0"], ["send", "-w", ELSEWHERE, source]):
        taken = min(scene.run(*words).expect(2, err="keygen").seconds for _ in range(3))
        slowest = max(slowest, taken)
        ensure(taken < nothing + 0.1 * SLOW, f"{words}: {taken:.3f} s")
        if shutil.which("strace") and SLOW == 1:
            trace = subprocess.run(["strace", "-f", "-qq", "-e", "trace=socket,bind", scene.treecast, *words],
                                   check=False, capture_output=True, text=True, env=scene.environment())
            ensure("AF_INET" not in trace.stderr, trace.stderr)
    note(f"{slowest * 1000:.0f} ms, of which {nothing * 1000:.0f} ms are to start")


class Outsider:
    def __init__(self, how):
        self.process = subprocess.Popen([compile_helper("outsider"), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.address = f"127.0.0.1:{int(self.process.stdout.readline())}"

    def end(self):
        """Application bytes in and out, one pair a connection."""
        self.process.stdin.close()
        with self.process.stdout as out:
            text = out.read()
        self.process.wait(60)
        return [(int(found[1]), int(found[2])) for found in re.finditer(r"(\d+) in (\d+) out", text)]


@scenario
def false_agents(scene):
    """send to a server with a certificate, with TLS 1.2, without TLS: exit 11; with another key: exit 4; 0 application bytes"""
    key = scene.key()
    source = scene.noise("a", 1000)
    connections = 0
    for how in ("certificate", "tls12", "wrong-key", "plain"):
        outsider = Outsider(how)
        answer = scene.send([outsider.address], source, "-k", key)
        counted = outsider.end()
        ensure(answer.code == (4 if how == "wrong-key" else 11), f"{how}: {answer}")
        ensure(counted, f"{how}: it was not dialled")
        if how != "plain":  # there the bytes that came are the handshake's
            ensure(all(pair == (0, 0) for pair in counted), f"{how}: {counted} bytes in and out")
        connections += len(counted)
    note(f"{connections} connections to 4 false agents: 0 application bytes")


def false_client(agent, how):
    """What a client without the key gets to read."""
    with socket.create_connection(("127.0.0.1", agent.port), timeout=20 * SLOW) as peer:
        try:
            if how == "plain":
                peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
                answer = b""
                while part := peer.recv(4096):
                    answer += part
                return b"" if answer[:1] == b"\x15" and len(answer) <= 16 else answer  # a TLS alert says nothing
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            version = ssl.TLSVersion.TLSv1_2 if how == "tls12" else ssl.TLSVersion.TLSv1_3
            context.minimum_version = context.maximum_version = version
            with context.wrap_socket(peer) as secured:
                return secured.recv(4096) or b"let in"
        except (ssl.SSLError, ConnectionError):
            return b""


@scenario
def false_clients(scene):
    """To an agent: no key, TLS 1.2, plain text: 0 application bytes, one line each in its log, and it stays"""
    key = scene.key()
    agent = scene.agent("-k", key, "--once")
    ways = ("no-key", "tls12", "plain")
    for how in ways:
        before = len(agent.err.splitlines())
        ensure(false_client(agent, how) == b"", f"{how}: it was told something")
        wait_for(lambda: len(agent.err.splitlines()) > before, "a line in the log")
        lines = agent.err.splitlines()[before:]
        ensure(len(lines) == 1 and lines[0].isprintable(), f"{how}: {lines}")
        ensure(agent.running(), "the agent is gone")
    wrong = scene.key("wrong")
    scene.send([agent], scene.noise("a", 1000), "-k", wrong).expect(4)
    ensure(agent.running(), "the agent is gone")
    note(f"{len(ways) + 1} kinds of false clients: 0 application bytes")


@scenario
def key_files(scene):
    """A key file of another owner, mode, length or kind is refused with one clear line"""
    good = scene.key()
    with open(good, encoding="ascii") as file:
        text = file.read()
    def made(name, content=text, mode=0o600):
        with open(scene.path(name), "w", encoding="ascii") as out:
            os.fchmod(out.fileno(), mode)
            out.write(content)
        return scene.path(name)
    bad = [made(f"mode{mode:o}", mode=mode) for mode in (0o601, 0o604, 0o620, 0o640, 0o666, 0o777)]
    bad += [made("empty", ""), made("short", text[:-1]), made("cut", text[:50]), made("long", text + text),
            made("zeros", "\0" * len(text)), made("blank", text.replace("group ", "group  ")), scene.folder, "/dev/null"]
    os.symlink(good, scene.path("link"))
    os.link(made("twice"), scene.path("again"))
    os.mkfifo(scene.path("fifo"), 0o600)
    bad += [scene.path("link"), scene.path("fifo")]
    if os.geteuid() == 0:
        os.chown(made("owner"), 12345, 12345)
        bad.append(scene.path("owner"))
    slowest = 0
    for path in bad:
        answer = scene.run("recv", "-d", scene.path("d"), "-l", "127.0.0.1:0", "-k", path, timeout=10)
        slowest = max(slowest, answer.seconds)
        ensure(answer.code in (2, 6) and answer.err.count("\n") == 1 and path in answer.err, str(answer))
    note(f"{len(bad)} key files refused, each within {slowest * 1000:.0f} ms")


class Stalled:
    """Connections that never get in: silent, with half a TLS record, or a byte now and then."""

    def __init__(self, port, count):
        self.began, self.sockets = time.monotonic(), []
        for number in range(count):
            peer = socket.socket()
            peer.setblocking(False)
            peer.connect_ex(("127.0.0.1", port))
            self.sockets.append((number % 4, peer))
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.dribble)
        self.thread.start()

    def dribble(self):
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500
        for at in range(0, 400):
            for kind, peer in self.sockets:
                try:
                    if kind == 1 and at == 0:
                        peer.send(hello[:200])
                    elif kind == 2:
                        peer.send(hello[at:at + 1])
                    elif kind == 3 and at < 4:
                        peer.send(b"\x16\x03\x01\x40\x00")
                except OSError:
                    pass
            if self.over.wait(0.25):
                return

    def end(self):
        self.over.set()
        self.thread.join()
        for _, peer in self.sockets:
            peer.close()


@scenario
def stalled(scene):
    """1,000 stalled or dribbling connections: the agent grows by at most 16 MiB, and all are gone in 3 s"""
    key = scene.key()
    agent = scene.agent("-k", key, "-qq")
    source = scene.noise("a", 4 * MIB)
    scene.send([agent], source, "-k", key, "-f").expect(0)
    usual = min(scene.send([agent], source, "-k", key, "-f").expect(0).seconds for _ in range(3))
    wait_for(lambda: agent.descriptors() < 24, "closed descriptors")
    quiet, before = agent.descriptors(), resident(agent.pid)
    crowd = Stalled(agent.port, STALLED)
    try:
        most = 0
        answer = scene.send([agent], source, "-k", key, "-f").expect(0)
        most = max(most, agent.descriptors() - quiet)
        wait_for(lambda: agent.descriptors() <= quiet, "the end of all of them", timeout=20 * SLOW)
        gone = time.monotonic() - crowd.began
        grown = resident(agent.pid) - before
    finally:
        crowd.end()
    note(f"{STALLED} connections, {most} at once seen in the agent; a broadcast took {answer.seconds:.2f} s instead of "
         f"{usual:.2f}; {grown / MIB:.1f} MiB more; all gone after {gone:.1f} s")
    ensure(grown <= 16 * MIB or SLOW > 1, f"grew by {grown / MIB:.1f} MiB")
    ensure(gone < 3 + 2.5 * SLOW, f"gone after {gone:.1f} s")  # the bound is 3 s from when the agent took them
    ensure(answer.seconds < 3 * usual + 3 * SLOW, f"{answer.seconds:.2f} s instead of {usual:.2f}")
    scene.require_published([agent], "a", source)


@scenario
def half_open(scene):
    """A handshake that never ends, and one that ends and says nothing, are closed after --handshake-time"""
    key = scene.key()
    agent = scene.agent("-k", key, "--handshake-time", "1")
    peers = [socket.create_connection(("127.0.0.1", agent.port), timeout=20 * SLOW) for _ in range(40)]
    began = time.monotonic()
    for number, peer in enumerate(peers):
        peer.sendall((b"", b"\x16\x03\x01\x02\x00\x01")[number % 2])
    for peer in peers:
        try:
            while peer.recv(4096):
                pass
        except ConnectionError:
            pass
        peer.close()
    taken = time.monotonic() - began
    note(f"{len(peers)} half-open handshakes closed after {taken:.2f} s")
    ensure(0.5 < taken < 1 + 1.5 * SLOW, f"after {taken:.2f} s")


if __name__ == "__main__":
    main()
