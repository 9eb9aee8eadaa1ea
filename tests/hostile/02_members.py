#!/usr/bin/python3
"""Members: they hold the group's key and not the origin's secret. They get in, and can do no more than refuse to help."""

import os
import re
import socket
import subprocess

from hostile import (MIB, SLOW, Between, compile_helper, ensure, main, note, resident, scenario, wait_for)

OFFERS = 1000  # over TLS
REPLAYS = 8  # of each recorded connection, to each agent
# What member.c does to the page (0-6) or to the first chunk (from 7) that it passes on.
ATTACKS = {0: "a digest in a page", 1: "a page's signature", 2: "a page's number", 3: "a page of 65 chunks",
           4: "a page of fewer chunks", 5: "another last page", 6: "half a page", 7: "a bit of a chunk",
           8: "64 MiB of zeros in a few KiB", 9: "two frames in one", 10: "a skippable frame", 11: "half a chunk, as declared",
           12: "a chunk of zeros", 13: "chunk number 2147483647", 14: "a chunk one byte short", 15: "a chunk of 4 GiB",
           16: "WANT from a parent", 17: "PLAN on a data link", 18: "a frame of 4 GiB", 19: "a type that is none"}
BOMBS = {8, 9, 10, 11, 13, 14, 15, 18}


class Member:
    """A member that takes part; its first line is its port."""

    def __init__(self, program, what, key, argument):
        self.process = subprocess.Popen([program, what, key, str(argument)], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        line = self.process.stdout.readline()
        ensure(line.strip().isdigit(), f"member {what}: {line}{self.process.stdout.read() if not line else ''}")
        self.address = f"127.0.0.1:{int(line)}"

    def end(self, seconds=60):
        try:
            out, _ = self.process.communicate(timeout=seconds * SLOW)
        finally:
            self.process.kill()
        ensure(self.process.returncode == 0, f"member: {self.process.returncode}: {out}")
        return out.strip()


def recorded(scene, program, key):
    """What the origin said to a member in a session, as files."""
    member = Member(program, "record", key, scene.path("said"))
    scene.send([member.address], scene.noise("recorded", 1000), "-k", key).expect(1)
    member.end()
    ensure(os.path.getsize(scene.path("said.offer")) > 64, "nothing was recorded")
    return scene.path("said")


@scenario
def own_sessions(scene):
    """1,000 sessions of a member's own over TLS, forged, altered and replayed: none is taken, nothing is published"""
    program, key = compile_helper("member"), scene.key()
    said = recorded(scene, program, key)
    agent, other = scene.agents(2, "-k", key)
    for target, count in ((agent, OFFERS), (other, 120)):
        done = subprocess.run([program, "offers", key, str(target.port), str(count), said], capture_output=True,
                              text=True, check=False, timeout=120 * SLOW)
        figures = re.fullmatch(r"(\d+) tries: (\d+) accepted, (\d+) refused, (\d+) closed\n", done.stdout)
        ensure(figures, f"{done}")
        note(f"{target.address}: {done.stdout.strip()}")
        ensure((int(figures[1]), int(figures[2])) == (count, 0), done.stdout)
        ensure(target.running(), "the agent is gone")
    scene.require_nothing([agent, other])
    wait_for(lambda: agent.descriptors() < 24, "closed descriptors")
    ensure(max(map(len, agent.err.splitlines())) < 400 and agent.err.replace("\n", "").isprintable(), "a raw log")
    source = scene.noise("a", 300000)
    scene.send([agent, other], source, "-k", key).expect(0)
    scene.require_published([agent, other], "a", source)


@scenario
def replay(scene):
    """A recorded session said again, to the same agent and to another: nothing happens"""
    program, key = compile_helper("member"), scene.key()
    agents = scene.agents(2, "-k", key)
    source = scene.noise("a", 1000)
    scene.send(agents, source, "-k", key).expect(0)
    said = recorded(scene, program, key)
    before = [(os.stat(agent.path("a")).st_ino, os.stat(agent.path("a")).st_mtime_ns) for agent in agents]
    for agent in agents:
        done = subprocess.run([program, "offers", key, str(agent.port), "48", said], capture_output=True, text=True,
                              check=False, timeout=60 * SLOW)
        ensure(" 0 accepted" in done.stdout, f"{done}")
    after = [(os.stat(agent.path("a")).st_ino, os.stat(agent.path("a")).st_mtime_ns) for agent in agents]
    ensure(before == after, "the array was touched")
    scene.require_nothing(agents, "a")
    note(f"{len(agents)} agents, 96 replays, 0 accepted")


class Recorder(Between):
    """Keeps what the client said in each connection."""

    def __init__(self):
        self.said = {}
        super().__init__()

    def pump(self, source, sink, up, number):
        kept = bytearray()
        if up:
            self.said[number] = kept
        while part := source.recv(65536):
            kept += part
            sink.sendall(part)

    def end(self):
        """What was said, a connection each."""
        super().end()
        return [bytes(self.said[number]) for number in sorted(self.said)]


def say_again(agent, said):
    """All at once; what the agent answers is read and let go, until it closes."""
    with socket.create_connection(("127.0.0.1", agent.port), timeout=30 * SLOW) as peer:
        try:
            peer.sendall(said)
            while peer.recv(65536):
                pass
        except ConnectionError:
            pass


@scenario
def replay_bytes(scene):
    """The TLS bytes of a true session said again, to the same agent and to another: nothing is published, both stay"""
    key = scene.key()
    source, between = scene.noise("a", 300000), Recorder()
    same = between.be_for(scene.agent("-k", key, "--reached-as", between.address))
    other, = scene.agents(1, "-k", key, first=1)
    scene.send([between.address], source, "-k", key).expect(0)
    said = between.end()
    ensure(sum(map(len, said)) > 300000, f"recorded {[len(one) for one in said]} bytes")
    scene.require_published([same], "a", source)
    scene.forget([same], "a")
    replays = 0
    for agent in (same, other):
        for _ in range(REPLAYS):
            for connection in said:
                say_again(agent, connection)
                replays += 1
        ensure(agent.running(), "the agent is gone")
    scene.require_nothing([same, other])
    wait_for(lambda: max(same.descriptors(), other.descriptors()) < 24, "closed descriptors")
    note(f"{len(said)} connections of {sum(map(len, said))} bytes, {replays} replays to 2 agents: 0 published")
    scene.send([same, other], source, "-k", key).expect(0)
    scene.require_published([same, other], "a", source)


def attack_all(scene, numbers, victims, key, source):
    """Every attack in a broadcast of its own, some at once: the liar relays to the first victim in a chain."""
    program, runs = compile_helper("member"), []
    for number in numbers:
        liar = Member(program, "relay", key, number)
        hosts = [liar.address, *(victim.address for victim in victims)]
        runs.append((number, liar, scene.start("send", "-k", key, "-w", ",".join(hosts), "-F", "chain", "--min-hosts",
                                               str(len(victims)), "-s", "64K", source, f"a{number}")))
    for number, liar, sender in runs:
        yield number, liar, sender.finish(60)


@scenario
def lying_relays(scene):
    """20 ways to give children something else: each link is dropped, the others get the true bytes, the liar is named"""
    key = scene.key()
    victims = scene.agents(2, "-k", key, "-v")
    source = scene.noise("source", 300000)
    for batch in range(0, len(ATTACKS), 5):
        for number, liar, answer in attack_all(scene, list(ATTACKS)[batch:batch + 5], victims, key, source):
            figures = re.fullmatch(r"(\d+) attacked, (\d+) dropped", liar.end())
            ensure(figures and int(figures[1]) >= 1 and int(figures[2]) >= 1, f"{ATTACKS[number]}: {figures}")
            ensure(answer.code == 3, f"{ATTACKS[number]}: {answer}")
            ensure(f"{liar.address}: failed" in answer.err and "\033" not in answer.err, f"{ATTACKS[number]}: {answer}")
            named = (f"kept apart from {liar.address}", f"{liar.address}: gave wrong bytes 1 time;")
            ensure(any(words in answer.err for words in named), f"{ATTACKS[number]}: {answer}")
            scene.require_published(victims, f"a{number}", source)
    note(f"{len(ATTACKS)} lies, 0 accepted, {len(ATTACKS)} links dropped, {2 * len(ATTACKS)} files with the true bytes")
    for victim in victims:
        ensure("\033" not in victim.err and "\007" not in victim.err, "a terminal escape in the log")


@scenario
def bombs(scene):
    """What would grow when it is opened is refused, and memory grows by less than one chunk"""
    key = scene.key()
    victims = scene.agents(2, "-k", key)
    source = scene.noise("source", 300000)
    for number, liar, answer in attack_all(scene, [12], victims, key, source):  # what any session costs
        liar.end()
        ensure(answer.code == 3, str(answer))
    before = [resident(victim.pid) for victim in victims]
    for number in sorted(BOMBS):
        for _, liar, answer in attack_all(scene, [number], victims, key, source):
            liar.end()
            ensure(answer.code == 3, f"{ATTACKS[number]}: {answer}")
    grown = max(resident(victim.pid) - was for victim, was in zip(victims, before))
    note(f"{len(BOMBS)} bombs: {grown / MIB:.2f} MiB at most")
    # A sanitizer keeps what was freed for a while, so there it says nothing.
    ensure(grown <= 4 * MIB or SLOW > 1, f"grew by {grown} bytes")


if __name__ == "__main__":
    main()
