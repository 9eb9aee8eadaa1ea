#!/usr/bin/python3
"""Limits: what an agent is told to take at most is all that it takes, and what it took already goes on."""

import json
import signal
import socket

from hostile import MIB, SLOW, ensure, main, note, scenario, wait_for

CONNECTIONS = 16
FROM_ONE = CONNECTIONS // 4
REFUSED = 5


def on_their_way(agent):
    """Names of the arrays that the agent was offered and has not published yet."""
    with socket.socket(socket.AF_UNIX) as api:
        api.settimeout(10 * SLOW)
        api.connect(agent.path(".treecast/api"))
        api.sendall(b'{"op":"status"}\n')
        with api.makefile() as answer:
            return {session["name"] for session in json.loads(answer.readline())["sessions"]}


@scenario
def max_sessions(scene):
    """--max-sessions 2: a third is refused with that line, the two go on, and then there is space again"""
    agent = scene.agent("--max-sessions", "2")
    small, names, senders = scene.noise("small", 1000), ("a", "b"), []
    for seed, name in enumerate(names):
        source = scene.noise(name, 4 * MIB, seed)
        sender = scene.start("send", "-w", agent.address, "--bwlimit", "4M", "-s", "64K", source)
        senders.append(sender)
        wait_for(lambda: name in on_their_way(agent) or not sender.running(), f"the offer of {name}", timeout=20 * SLOW)
        sender.signal(signal.SIGSTOP)  # however fast the machine is, it is not done before the third has been refused
    for number in range(REFUSED):
        answer = scene.run("send", "-w", agent.address, small, f"c{number}")
        answer.expect(6, err="refused: 2 sessions are under way already (--max-sessions)")
        ensure(agent.address in answer.err, str(answer))
    for sender in senders:
        sender.signal(signal.SIGCONT)
    for sender, name in zip(senders, names):
        sender.finish().expect(0)
        scene.require_published([agent], name, scene.path(name))
    scene.send([agent], small).expect(0)
    scene.require_nothing([agent], "a", "b", "small")
    note(f"{REFUSED} sessions beyond 2: {REFUSED} refused")


@scenario
def one_after_another(scene):
    """--max-sessions 1: broadcasts that follow one another at once are all taken, though the last one's links linger"""
    agent = scene.agent("--max-sessions", "1")
    for seed in range(30):
        scene.run("send", "-w", agent.address, scene.noise("a", 1000, seed), "-f").expect(0)
    words = ("-C", "none", "-s", "64K", "--bwlimit", "512K", "-t", "2")
    sender = scene.start("send", "-w", agent.address, *words, scene.noise("slow", 8 * MIB))
    wait_for(lambda: on_their_way(agent) or not sender.running(), "its offer", timeout=20 * SLOW)
    sender.signal(signal.SIGSTOP)  # it does not hear that the agent is done with it
    wait_for(lambda: "deadline passed" in agent.err, "the deadline", timeout=20 * SLOW)
    scene.run("send", "-w", agent.address, scene.path("a"), "b").expect(0)
    sender.signal(signal.SIGCONT)
    sender.finish().expect(7)


@scenario
def max_message(scene):
    """--max-message 64K: larger chunks are refused as more than the limit, and other hosts get them"""
    bounded, other = scene.agent("--max-message", "64K"), scene.agents(1, first=1)[0]
    source = scene.noise("source", MIB)
    refused = 0
    for size in ("128K", "1M", "4M"):
        answer = scene.run("send", "-w", f"{bounded.address},{other.address}", "-s", size, "--json", "--min-hosts", "1",
                           source, f"a{size}")
        ensure(answer.code == 3, str(answer))
        line = answer.hosts[bounded.address]
        ensure("more than --max-message allows (send -s 65536)" in json.dumps(line), str(answer))
        ensure("limit" in json.dumps(line), str(answer))
        scene.require_published([other], f"a{size}", source)
        refused += 1
    scene.require_nothing([bounded])
    scene.send([bounded, other], source, "-s", "64K").expect(0)
    scene.require_published([bounded, other], "source", source)
    note(f"{refused} sizes of chunks beyond 64 KiB: {refused} refused")


def still_open(peers):
    count = 0
    for peer in peers:
        try:
            peer.recv(1)
        except BlockingIOError:
            count += 1
        except ConnectionError:
            pass
    return count


def knock(agent, address, count):
    """Connections from one address of loopback that say nothing."""
    peers = [socket.create_connection(("127.0.0.1", agent.port), timeout=20 * SLOW, source_address=(address, 0))
             for _ in range(count)]
    for peer in peers:
        peer.setblocking(False)
    return peers


@scenario
def max_connections(scene):
    """--max-connections 16: of one address 4 stay, of all 16, the oldest go, and a broadcast gets in between"""
    key = scene.key()
    agent = scene.agent("-k", key, "--max-connections", str(CONNECTIONS), "--handshake-time", "60", "-qq")
    quiet, peers = agent.descriptors(), []
    try:
        peers = knock(agent, "127.0.0.2", 10 * FROM_ONE)
        wait_for(lambda: still_open(peers) <= FROM_ONE, "the end of those beyond the limit of one address")
        ensure(still_open(peers[-FROM_ONE:]) == FROM_ONE, "others than the oldest were closed")
        for number in range(3, 43):
            peers += knock(agent, f"127.0.0.{number}", 2)
        wait_for(lambda: still_open(peers) <= CONNECTIONS, "the end of those beyond the limit")
        left = still_open(peers)
        ensure(left == CONNECTIONS, f"{left} are left")
        most = agent.descriptors() - quiet
        ensure(most <= CONNECTIONS, f"{most} descriptors more")
        source = scene.noise("a", 300000)
        scene.send([agent], source, "-k", key).expect(0)
        scene.require_published([agent], "a", source)
    finally:
        for peer in peers:
            peer.close()
    note(f"{len(peers)} connections from 41 addresses: {left} stayed, {most} descriptors")


if __name__ == "__main__":
    main()
