#!/usr/bin/python3
"""Agents that dial the sender: recv --join. Prints TAP."""

import re
import signal

from agents import SLOW, ensure, main, read, scenario, wait_for

WAITING = re.compile(r"waiting for agents at (\S+)\n")


def start_send(scene, hosts, source, *options):
    """A sender that waits for its hosts, and where."""
    sender = scene.start("send", "--join-at", "127.0.0.1", "-w", hosts, *options, source)

    def said():
        ensure(sender.running(), f"the sender has ended: {sender.err}")
        return WAITING.search(sender.err)
    return sender, wait_for(said, "the sender's address")[1]


def join(scene, address, name, *options):
    agent = scene.start("recv", "-d", scene.path(name), "--join", address, "--as", name, *options)
    agent.folder = scene.path(name)
    return agent


def require(scene, agent, name, source):
    ensure(read(f"{agent.folder}/{name}") == read(source), f"{agent.folder} has other bytes")


@scenario
def hosts_join_in_any_order(scene):
    """Agents dial the sender, say which host they are, get the bytes and exit with the session's code."""
    source = scene.noise("a.bin", 3 << 20)
    sender, address = start_send(scene, "h[1-4]", source, "--json")
    agents = [join(scene, address, f"h{i}") for i in (3, 1, 4, 2)]
    hosts = sender.finish().expect(0).hosts
    ensure(sorted(hosts) == ["h1", "h2", "h3", "h4"], f"{hosts}")
    ensure(all(host["state"] == "published" for host in hosts.values()), f"{hosts}")
    for agent in agents:
        agent.finish().expect(0)
        require(scene, agent, "a.bin", source)


@scenario
def keys_hold_both_ways(scene):
    """With a key: who has it joins, who has another or none is left out and told; the origin's signature counts."""
    source, key, other = scene.noise("a.bin", 1 << 20), scene.key(), scene.key("other")
    sender, address = start_send(scene, "h[1-3]", source, "-k", key, "--join-time", str(3 * SLOW), "--min-hosts", "1",
                                 "--json")
    good = join(scene, address, "h1", "-k", key)
    join(scene, address, "h2", "-k", other).finish().expect(4)
    join(scene, address, "h3").finish()
    hosts = sender.finish().expect(3).hosts
    ensure(hosts["h1"]["state"] == "published", f"{hosts}")
    ensure([hosts[name]["state"] for name in ("h2", "h3")] == ["unreachable"] * 2, f"{hosts}")
    good.finish().expect(0)
    require(scene, good, "a.bin", source)


@scenario
def who_does_not_belong_is_turned_away(scene):
    """A host that is not listed and a second agent for one host hear why; the broadcast goes on."""
    source = scene.noise("a.bin", 1 << 20)
    sender, address = start_send(scene, "h[1-2]", source)
    first = join(scene, address, "h1")
    wait_for(lambda: "listening on" in first.out, "the first agent")
    join(scene, address, "h9").finish().expect(1, err="'h9' is none of the hosts of this broadcast")
    again = scene.start("recv", "-d", scene.path("again"), "--join", address, "--as", "h1").finish()
    again.expect(2, err="h1 has joined already")
    second = join(scene, address, "h2")
    sender.finish().expect(0, out="2 of 2 hosts")
    for agent in (first, second):
        agent.finish().expect(0)
        require(scene, agent, "a.bin", source)


@scenario
def who_does_not_come_is_named(scene):
    """Hosts that have not joined in time are reported together; enough others still get it."""
    source = scene.noise("a.bin", 1 << 20)
    sender, address = start_send(scene, "h[1-4]", source, "--join-time", str(SLOW), "--min-hosts", "1")
    agent = join(scene, address, "h2")
    sender.finish().expect(3, err="h[1,3-4]: unreachable: its agent did not come up in time")
    agent.finish().expect(0)


@scenario
def an_agent_goes_when_its_sender_goes(scene):
    """Killed hard before all have joined, the sender takes its agents with it; nothing lies about."""
    source = scene.noise("a.bin", 1 << 20)
    sender, address = start_send(scene, "h[1-2]", source)
    agent = join(scene, address, "h1")
    wait_for(lambda: "listening on" in agent.out, "the agent")
    sender.kill()
    ensure(agent.finish(20).code != 0, "the agent says that all is well")
    late = join(scene, address, "h2").finish(20)
    ensure(late.code != 0 and address in late.err, f"{late}")


@scenario
def an_agent_may_stay(scene):
    """With --stay it serves on, at the address it printed, with the same key."""
    source, key = scene.noise("a.bin", 1 << 20), scene.key()
    sender, address = start_send(scene, "h1", source, "-k", key)
    agent = join(scene, address, "h1", "--stay", "-k", key)
    sender.finish().expect(0)
    there = wait_for(lambda: re.search(r"listening on (\S+),", agent.out), "the agent's address")[1]
    scene.run("send", "-k", key, "-w", there, source, "again.bin").expect(0)
    require(scene, agent, "again.bin", source)
    agent.signal(signal.SIGTERM)
    agent.finish().expect(0)


@scenario
def one_interface_only(scene):
    """--interface: the agent listens at its address and has others use it."""
    source = scene.noise("a.bin", 1 << 20)
    sender, address = start_send(scene, "h[1-2]", source)
    agents = [join(scene, address, f"h{i}", "--interface", "lo") for i in (1, 2)]
    sender.finish().expect(0)
    for agent in agents:
        agent.finish().expect(0)
        ensure("listening on 127.0.0.1:" in agent.out, agent.out)
        require(scene, agent, "a.bin", source)
    scene.run("recv", "--interface", "no-such0", "-d", scene.path("h3")).expect(2, err="neither an address nor an")


@scenario
def nobody_is_faster_than_the_limit(scene):
    """--bwlimit holds for the sender, and for a relay by itself."""
    size, rate = 3 << 20, 2 << 20
    least = (size - 2 * rate / 8) / rate  # less one burst and one chunk
    source = scene.noise("a.bin", size)
    agent = scene.agent()
    run = scene.send([agent], source, "--bwlimit", "2M", "-C", "none").expect(0)
    ensure(run.seconds > least, f"faster than the limit: {run}")
    relay = scene.agents(1, "--bwlimit", "2M", first=1)[0]
    last = scene.agents(1, first=2)[0]
    run = scene.send([relay, last], source, "-F", "chain", "-C", "none").expect(0)
    ensure(run.seconds > least, f"the relay was faster than its limit: {run}")
    scene.run("send", "--bwlimit", "1K", "-w", agent.address, source).expect(2, err="--bwlimit")


@scenario
def without_a_key_only_loopback(scene):
    """Neither end leaves this machine without a key."""
    source = scene.noise("a.bin", 1)
    scene.run("send", "--join-at", "0.0.0.0", "-w", "h1", source).expect(2, err="only loopback")
    scene.run("recv", "--join", "192.0.2.1:7", "-d", scene.path("h1")).expect(2, err="only loopback")
    scene.run("recv", "--as", "h1", "-d", scene.path("h1")).expect(2, err="only with --join")


if __name__ == "__main__":
    main()
