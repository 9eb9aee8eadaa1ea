#!/usr/bin/python3
"""Members that pass on what is not theirs, or ask for more than their share: others lose nothing by it."""

import contextlib
import os
import re
import socket
import subprocess
import threading

from hostile import MIB, SLOW, compile_helper, ensure, main, note, scenario

SILENT = (64, 1000)
TIMES = 142314
UPDATES = 200000


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Insider:
    """insider.c; its first line, where it prints one before it is done."""

    def __init__(self, what, key, *arguments):
        self.process = subprocess.Popen([compile_helper("insider"), what, key, *map(str, arguments)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = self.process.stdout.readline()
        ensure(line.strip().isdigit(), f"insider {what}: {line}")
        self.number = int(line)
        self.address = f"127.0.0.1:{self.number}"

    def tell(self, what):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def end(self, seconds=60):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(seconds * SLOW)
        finally:
            self.process.kill()
        with self.process.stdout as stdout:  # not communicate: some of it may have come with the first line
            out = stdout.read()
        ensure(self.process.returncode == 0, f"insider: {self.process.returncode}: {out}")
        return out.strip()


@scenario
def in_anothers_name(scene):
    """A member shows an agent's HELLO as its own: what was offered to the member is refused there, by pipe and by frames"""
    key = scene.key()
    agent = scene.agent("-k", key)
    own, planted = scene.noise("a", 300000), scene.noise("planted", 200000, 7)
    scene.send([agent], own, "-k", key).expect(0)
    inode = os.stat(agent.path("a")).st_ino
    said = []
    for how, words in (("pipe", "OFFER is for"), ("frames", "OFFER is for")):
        carrier = Insider("carry", key, agent.port, how)
        answer = scene.run("send", "-k", key, "-w", carrier.address, "-f", "--ttl", "1", planted, "a")
        said.append(carrier.end())
        ensure(answer.code == 4, f"{how}: {answer}")
        ensure(words in answer.err and carrier.address in answer.err and "--reached-as" in answer.err, f"{how}: {answer}")
    ensure(said[1] == "1 offers passed on, 1 refused, 0 ready", said[1])
    ensure(os.stat(agent.path("a")).st_ino == inode, "the array was replaced")
    scene.require_published([agent], "a", own)
    note("2 ways to pass an agent's HELLO on: 2 offers refused, the agent's array stays")


@scenario
def in_anothers_name_forwarded(scene):
    """The same where the sender reaches the agent through that very port: bytes may pass, another TLS connection may not"""
    key = scene.key()
    source = scene.noise("a", 300000)
    for how in ("pipe", "frames"):
        carrier = Insider("carry", key, 0, how)
        agent, = scene.agents(1, "-k", key, "--reached-as", carrier.address, first=how == "frames")
        carrier.tell(agent.port)
        answer = scene.run("send", "-k", key, "-w", carrier.address, "--dry-run", source, "a")
        ensure(answer.code == (0 if how == "pipe" else 4), f"{how}: {answer}")
        ensure(how == "pipe" or "another connection than it came on" in answer.err, f"{how}: {answer}")
        carrier.end()
    note("a forwarded port that is named: the bytes pass, 1 offer over another TLS connection refused")


@scenario
def silent_sessions(scene):
    """64 and 1,000 control sessions that offer nothing: they are no sessions, and every send gets in"""
    key = scene.key()
    agent = scene.agent("-k", key, "-qq", "--max-sessions", "2")
    source = scene.noise("a", 300000)
    scene.send([agent], source, "-k", key, "-f").expect(0)
    quiet = agent.descriptors()
    for count in SILENT:
        crowd = Insider("silent", key, agent.port, count)
        try:
            slowest = max(scene.send([agent], source, "-k", key, "-f").expect(0).seconds for _ in range(3))
            kept = agent.descriptors() - quiet
        finally:
            figures = crowd.end()
        note(f"{count} silent sessions, {kept} of them kept ({figures}): 3 of 3 sent, {slowest:.2f} s at most")
        ensure(kept <= 64 + 8, f"{kept} connections of one address are kept")
    scene.require_published([agent], "a", source)


@scenario
def greedy(scene):
    """A member wants one chunk of 1 MiB 142,314 times: it gets the array a few times, is named, and the others have it"""
    key = scene.key()
    agent = scene.agent("-k", key)
    source = scene.noise("a", MIB)
    member = Insider("greedy", key, TIMES)
    answer = scene.run("send", "-k", key, "-w", f"{member.address},{agent.address}", "-F", "binomial", "-s", "64K",
                       "--min-hosts", "1", source)
    figures = re.fullmatch(r"asked (\d+) times, given (\d+) chunks, (\d+) bytes; (.*)", member.end())
    ensure(figures, "the member printed something else")
    note(f"chunk 0 of a MiB wanted {figures[1]} times: {int(figures[3]) / MIB:.1f} MiB sent; {figures[4]}")
    ensure(answer.code == 3 and "asks again and again" in answer.err and member.address in answer.err, str(answer))
    ensure(int(figures[3]) < 8 * MIB, figures[0])
    scene.require_published([agent], "a", source)


class Bystander:
    """Somebody else's service; what it hears from whom."""

    def __init__(self):
        self.listening, self.heard = socket.create_server(("127.0.0.2", 0)), []
        self.address = f"127.0.0.2:{self.listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listening.accept()
                peer.settimeout(10 * SLOW)
                with peer, contextlib.suppress(OSError):
                    self.heard.append(peer.recv(65536))
                    peer.sendall(b"this is no agent\n")

    def end(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.thread.join(20 * SLOW)
        self.listening.close()
        return self.heard


@scenario
def elsewhere(scene):
    """A member says that others reach it at somebody else's address: only the sender knocks there, once, and no agent does"""
    key = scene.key()
    agents, source = scene.agents(3, "-k", key), scene.noise("a", 300000)
    bystander = Bystander()
    member = Insider("elsewhere", key, bystander.address)
    hosts = ",".join([member.address, *(agent.address for agent in agents)])
    answer = scene.run("send", "-k", key, "-w", hosts, "-F", "chain", "--min-hosts", "3", source).expect(3)
    ensure(member.end() == "planned", "the member was refused")
    heard = bystander.end()
    ensure(f"nobody proves to be it at {bystander.address}, where it says that others reach it: they are told "
           f"{member.address}" in answer.err, str(answer))
    ensure(len(heard) == 1 and heard[0][:1] == b"\x16", f"{len(heard)} connections: {heard}")
    scene.require_published(agents, "a", source)
    note(f"1 connection to {bystander.address}, of {len(heard[0])} bytes of a TLS greeting; 3 agents have the array")


@scenario
def its_own_elsewhere(scene):
    """An agent that does listen at the other address that it names is found there; one that does not is reached as before"""
    key, source = scene.key(), scene.noise("a", 300000)
    true, = scene.agents(1, "-k", key, "-l", "0.0.0.0:0", "--advertise", "127.0.0.2")
    false, last = scene.agents(2, "-k", key, "--advertise", "127.0.0.3", first=1)
    hosts = [f"127.0.0.1:{true.port}", false.address, last.address]
    answer = scene.run("send", "-k", key, "-w", ",".join(hosts), "-F", "chain", source).expect(0)
    found = re.findall(r"(\S+): nobody proves to be it at 127.0.0.3:\d+, .*: they are told (\S+)", answer.err)
    ensure(found == [(one, one) for one in hosts[1:]] or found == [(one, one) for one in hosts[:0:-1]], str(answer))
    scene.require_published([true, false, last], "a", source)
    note("1 of 3 named addresses proven, 2 not: 3 of 3 published")


@scenario
def key_updates(scene):
    """A member renews its key 200,000 times: it is let go after some, and no send waits for it"""
    key = scene.key()
    agent = scene.agent("-k", key)
    source = scene.noise("a", 300000)
    scene.send([agent], source, "-k", key).expect(0)
    usual = cpu_seconds(agent.pid)
    said = [Insider("updates", key, agent.port, UPDATES) for _ in range(4)]
    answer = scene.send([agent], source, "-k", key, "-f").expect(0)
    said = [member.end() for member in said]
    spent = cpu_seconds(agent.pid) - usual
    note(f"4 members: {'; '.join(said)}; the agent's {spent:.2f} s of CPU; a send meanwhile took {answer.seconds:.2f} s")
    ensure(all("hung up on" in one for one in said), str(said))
    ensure("too many" in agent.err, agent.err)
    ensure(spent < 0.5 * SLOW, f"{spent:.2f} s of CPU")


if __name__ == "__main__":
    main()
