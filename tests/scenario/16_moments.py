#!/usr/bin/python3
"""Deaths at awkward moments: in the handshake, before and after READY, while linking up, before, in and after publishing.
The others get their array, the dead host shows all of it or nothing, and the report says once what is so of each."""

import os
import re
import signal
import socket
import struct
import threading

from agents import Agent, ensure, inject, main, plain_only, read, require_in_time, same_bytes, scenario, wait_for

MIB = 1 << 20
HELD = "30000000"  # microseconds: a call that is held up for longer than the test needs
CHAIN = ("-F", "chain", "-s", "64K")


def check(scene, answer, states, source):
    """Every host is named once, in its state; what is published is whole, and so is what any other host shows."""
    ensure({host: line["state"] for host, line in answer.hosts.items()} ==
           {agent if isinstance(agent, str) else agent.address: state for agent, state in states.items()}, str(answer))
    for state in ("published", "unreachable", "lost"):
        ensure(answer.last[state] == list(states.values()).count(state), f"{state}: {answer}")
    for agent, state in states.items():
        if state == "published":
            scene.require_published([agent], "a", source)
        elif not isinstance(agent, str) and "a" in agent.published():
            ensure(same_bytes(agent.path("a"), source), f"{agent.address} shows other bytes")


def kill(agent):
    """kill -9. Its tracer goes too, if there is one: the end would wait until the call may go on."""
    tracer = int(re.search(r"^TracerPid:\s*(\d+)", read(f"/proc/{agent.pid}/status"), re.MULTILINE)[1])
    agent.signal(signal.SIGKILL)
    if tracer:
        os.kill(tracer, signal.SIGKILL)
    agent.kill()


def comes_back(scene, agent, source, whole):
    """An agent is started again where one was killed: the array is there or not, and can be sent again."""
    again = Agent(scene, agent.folder, ())
    scene.processes.append(again)
    ensure(again.published() == ["a"] * whole, f"{again.published()}")
    answer = scene.send([again], source, "--json").expect(0)
    ensure(answer.hosts[again.address]["state"] == ("unchanged" if whole else "published"), str(answer))
    scene.require_published([again], "a", source)


def wait_for_state(agent, state):
    wait_for(lambda: [session["state"] for session in agent.sessions()] == [state], f"an agent that is {state}", timeout=20)


def connected(agent):
    """Whether somebody has a connection to agent's port, accepted by it or not."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    return any(int(line[1].rpartition(":")[2], 16) == agent.port and line[3] == "01" for line in lines)


class Peer(threading.Thread):
    """Listens in a host's place, takes one connection, and dies in the handshake: with RST or FIN, after so many bytes of
    an answer."""

    def __init__(self, answer, reset):
        super().__init__(daemon=True)
        self.answer, self.reset = answer, reset
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self):
        connection, _ = self.listener.accept()
        self.listener.close()
        if self.answer is not None:
            connection.recv(4096)
            connection.sendall(self.answer)
        if self.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


@scenario
def peers_die_in_the_handshake(scene):
    """Peers that accept and die before TLS is through are unreachable, with RST or FIN, at once or half way."""
    key = scene.key()
    agents = scene.agents(3, "-k", key)
    source = scene.noise("a", MIB)
    peers = [Peer(None, True), Peer(b"", False), Peer(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03", True)]
    hosts = [agents[0], peers[0].address, agents[1], peers[1].address, peers[2].address, agents[2]]
    answer = scene.send(hosts, source, "-k", key, "--json", "--min-hosts", "3").expect(3).within(10)
    check(scene, answer, dict.fromkeys(agents, "published") | {peer.address: "unreachable" for peer in peers}, source)


@scenario
def frozen_agent_dies_in_the_handshake(scene):
    """An agent that was stopped before the sender came, and is killed while the sender waits for its first word."""
    agents = scene.agents(4, "-k", scene.key())
    source = scene.noise("a", MIB)
    agents[1].signal(signal.SIGSTOP)
    sender = scene.start_send(agents, source, "-k", scene.path("key"), "--json", "--min-hosts", "3")
    wait_for(lambda: connected(agents[1]), "the sender's connection")
    for agent in agents[:1] + agents[2:]:
        wait_for_state(agent, "prepared")
    agents[1].kill()
    answer = sender.finish(30).expect(3)
    check(scene, answer, dict.fromkeys(agents, "published") | {agents[1]: "unreachable"}, source)


@scenario
def frozen_agent_and_deadline(scene):
    """An agent that is stopped and never says a word: the deadline ends it in time, for all, and nothing is published."""
    agents = scene.agents(3)
    source = scene.noise("a", MIB)
    agents[1].signal(signal.SIGSTOP)
    answer = scene.send(agents, source, "--json", "--min-hosts", "2", "--deadline", "2").expect(7)
    require_in_time(answer, 2)
    check(scene, answer, dict.fromkeys(agents, "aborted"), source)
    agents[1].signal(signal.SIGCONT)
    scene.require_nothing(agents)


@scenario
@plain_only
def killed_before_ready(scene):
    """An agent dies between the offer and its answer, while it reserves space."""
    bad, = scene.agents(1, prefix=inject("fallocate", f"delay_enter={HELD}:when=1"))
    good = scene.agents(3, first=1)
    source = scene.noise("a", MIB)
    sender = scene.start_send([good[0], bad, *good[1:]], source, "--json", "--min-hosts", "3")
    wait_for(bad.left_overs, "the file that is being reserved")
    kill(bad)
    check(scene, sender.finish(30).expect(3), dict.fromkeys(good, "published") | {bad: "lost"}, source)
    comes_back(scene, bad, source, whole=False)


@scenario
@plain_only
def killed_after_ready(scene):
    """An agent dies when it is ready and another is not: it is in no plan, and the text report names it once."""
    slow, = scene.agents(1, prefix=inject("fallocate", "delay_enter=1500000:when=1"))
    good = scene.agents(2, first=1)
    bad, = scene.agents(1, first=3)
    source = scene.noise("a", MIB)
    sender = scene.start_send([bad, slow, *good], source, "--min-hosts", "3")
    wait_for_state(slow, "offered")
    wait_for_state(bad, "prepared")
    kill(bad)
    answer = sender.finish(30).expect(3, out="a: 1 MiB to 3 of 4 hosts")
    ensure(scene.named(answer) == [(bad.address, "lost")], str(answer))
    scene.require_published([slow, *good], "a", source)
    comes_back(scene, bad, source, whole=False)


@scenario
@plain_only
def killed_while_linking_up(scene):
    """A relay dies while it dials its parent and its own child waits for it to answer."""
    bad, = scene.agents(1, prefix=inject("connect", f"delay_enter={HELD}"))
    good = scene.agents(3, first=1)
    source = scene.noise("a", 4 * MIB)
    sender = scene.start_send([good[0], bad, *good[1:]], source, *CHAIN, "--json", "--min-hosts", "3")
    wait_for(lambda: good[0].published() and connected(bad), "the links of the others")
    ensure(not good[1].published() and not good[2].published(), "a relay that cannot dial has passed on")
    kill(bad)
    check(scene, sender.finish(30).expect(3), dict.fromkeys(good, "published") | {bad: "lost"}, source)


@scenario
@plain_only
def killed_in_publishing(scene):
    """A relay that is whole dies before its file has its name, while its children lack most: it shows nothing."""
    bad, = scene.agents(1, "--bwlimit", "256K", prefix=inject("renameat2", f"delay_enter={HELD}"))
    good = scene.agents(3, first=1)
    source = scene.noise("a", 4 * MIB)
    sender = scene.start_send([bad, *good], source, *CHAIN, "--json", "--min-hosts", "3")
    wait_for(lambda: any(name.endswith(".json") for name in os.listdir(bad.path(".treecast"))), "the description")
    ensure(all(agent.under_way() < 2 * MIB for agent in good), "the children have most of it")
    ensure(not any(agent.published() for agent in good), "the children have all of it")
    kill(bad)
    check(scene, sender.finish(30).expect(3), dict.fromkeys(good, "published") | {bad: "lost"}, source)
    ensure(bad.published() == [] and bad.partials() == ["a"], f"{bad.published()} {bad.partials()}")
    comes_back(scene, bad, source, whole=False)


@scenario
@plain_only
def killed_before_done(scene):
    """A relay dies when its file has its name and nobody knows: it is lost, and has the whole array."""
    bad, = scene.agents(1, prefix=inject("renameat2", f"delay_exit={HELD}"))
    good = scene.agents(3, first=1)
    source = scene.noise("a", 4 * MIB)
    sender = scene.start_send([bad, *good], source, *CHAIN, "--json", "--min-hosts", "3")
    wait_for(lambda: all(agent.published() for agent in (bad, *good)), "the names")
    kill(bad)
    answer = sender.finish(30).expect(3)
    check(scene, answer, dict.fromkeys(good, "published") | {bad: "lost"}, source)
    scene.run("verify", "-d", bad.folder, "a").expect(0)
    comes_back(scene, bad, source, whole=True)


@scenario
def killed_after_done(scene):
    """A relay dies when it has said DONE and its children lack most: it is published, and they get the rest."""
    bad, = scene.agents(1, "--bwlimit", "256K")
    good = scene.agents(3, first=1)
    source = scene.noise("a", 4 * MIB)
    sender = scene.start_send([bad, *good], source, *CHAIN, "--json")
    wait_for(lambda: '"state":"published"' in sender.out, "the first host's end")
    ensure(bad.published() == ["a"] and not any(agent.published() for agent in good), sender.out)
    kill(bad)
    answer = sender.finish(30).expect(0)
    check(scene, answer, dict.fromkeys([bad, *good], "published"), source)
    comes_back(scene, bad, source, whole=True)


if __name__ == "__main__":
    main()
