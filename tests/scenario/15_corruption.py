"""Hardware that gives wrong bytes: they are refused, fetched elsewhere and counted, the host is named, and nobody
publishes one."""

import os
import random
import re

from agents import Between, ensure, hosts_of, main, note, plain_only, same_bytes, scenario, wait_for
from harm import wrong_bytes

MIB = 1 << 20
SIZE = 6 * MIB
SLOWLY = ("-C", "zstd:9", "-s", "64K")


def wrong(scene, what, **how):
    """The environment of a process on hardware that lies."""
    return scene.environment(**wrong_bytes(scene.path(), what, **how))


def broadcast(scene, source, agents, *options):
    """The first of four agents gives to the last two; all that can have it, have it as it is."""
    return scene.send(agents, source, *SLOWLY, "--force", "-F", "kary:2", *options)


def replans(answer, agent):
    return {line["why"] for line in answer.lines if line["type"] == "replan" and line["host"] == agent.address}


def ensure_named(answer, bad):
    """Two children had wrong bytes from bad and said so; of the others nobody says it."""
    ensure(replans(answer, bad) & {"corrupt", "slow"}, str(answer))  # what an unfit host does later changes nothing
    ensure(answer.last.get("corrupt") == {bad.address: 2} and "corrupt_sender" not in answer.last, str(answer))


def with_a_version(scene, environment):
    """A host on bad hardware, and an array of which it has another version: what is the same it gives from its disk."""
    source = scene.crumbs("a", SIZE)
    before = scene.agent()
    scene.send([before], source).expect(0)
    before.stop().expect(0)
    with open(source, "r+b") as file:
        file.write(b"other")
    return source, scene.agent(env=environment)


@scenario
@plain_only
def disk(scene):
    """A relay's disk gives back other bytes than were written: children refuse them, it is named and fails"""
    source, bad = with_a_version(scene, wrong(scene, "disk"))
    good = scene.agents(3, first=1)
    answer = broadcast(scene, source, [bad, *good], "--json", "--min-hosts", "3", "-C", "zstd:19").expect(3)
    ensure_named(answer, bad)
    line = answer.hosts[bad.address]
    ensure((line["state"], line["reason"]) == ("failed", "integrity"), str(answer))
    ensure("its disk or memory is bad" in line["text"], str(answer))
    scene.require_published(good, "a", source)
    scene.run("verify", "-d", bad.folder, "a").expect(0)  # the version that it had


@scenario
@plain_only
def writing(scene):
    """A relay writes wrong bytes: its children complain, it fetches them again and publishes the right ones"""
    source, bad = with_a_version(scene, wrong(scene, "write", most=20))
    good = scene.agents(3, first=1)
    answer = broadcast(scene, source, [bad, *good], "--json", "-C", "zstd:19").expect(0)
    ensure_named(answer, bad)
    scene.require_published([bad, *good], "a", source)
    ensure("is not what was written, and is fetched again" in bad.err, bad.err)


@scenario
@plain_only
def memory(scene):
    """Bits flip in a relay's memory before it sends them, with a key and without: the same"""
    key = scene.key()
    source = scene.crumbs("a", SIZE)
    for number, options in enumerate(((), ("-k", key))):
        bad, = scene.agents(1, *options, first=10 * number, env=wrong(scene, "send"))
        good = scene.agents(3, *options, first=10 * number + 1)
        answer = broadcast(scene, source, [bad, *good], "--json", *options).expect(0)
        ensure_named(answer, bad)
        scene.require_published([bad, *good], "a", source)
        scene.forget([bad, *good], "a")
    answer = broadcast(scene, source, [bad, *good], "-k", key).expect(0)
    ensure(f"{bad.address}: gave wrong bytes 2 times" in answer.err and "treecast verify" in answer.err, str(answer))
    ensure(answer.err.count("gave wrong bytes") == 1, str(answer))


@scenario
@plain_only
def under_the_hand(scene):
    """The file of a relay that is accused already changes while it fills: it is right when it is published"""
    bad, = scene.agents(1, env=wrong(scene, "send"))
    good = scene.agents(3, first=1)
    source = scene.noise("a", SIZE)
    sender = scene.start_send([bad, *good], source, "-s", "64K", "-F", "kary:2", "--bwlimit", "8M", "--json")
    wait_for(lambda: '"why":"corrupt"' in sender.out, "the verdict", timeout=40)
    part, = (name for name in os.listdir(bad.path(".treecast")) if name.endswith(".part"))
    with open(bad.path(".treecast", part), "r+b") as file:
        file.seek(100)
        file.write(b"wrong")
    ensure(sender.running(), "the sender has ended too early")
    answer = sender.finish(60).expect(0)
    ensure_named(answer, bad)
    ensure("chunk 0 is not what was written" in bad.err, bad.err)
    scene.require_published([bad, *good], "a", source)


@scenario
@plain_only
def receiving(scene):
    """Bits flip in a relay's memory as they come in, now and then: it is a leaf soon, and whole in the end"""
    bad, = scene.agents(1, env=wrong(scene, "receive", every=20))
    good = scene.agents(3, first=1)
    source = scene.crumbs("a", SIZE)
    answer = broadcast(scene, source, [bad, *good], "--json").expect(0)
    ensure("complains" in replans(answer, bad) and answer.hosts[bad.address]["leaf"], str(answer))
    ensure("corrupt" not in answer.last and "corrupt_sender" not in answer.last, str(answer))
    scene.require_published([bad, *good], "a", source)


@scenario
@plain_only
def receiving_always(scene):
    """The same with every piece: that host fails and says why, the others have it"""
    bad, = scene.agents(1, env=wrong(scene, "receive", every=1))
    good = scene.agents(3, first=1)
    source = scene.crumbs("a", SIZE)
    answer = broadcast(scene, source, [bad, *good], "--json", "--min-hosts", "3").expect(3)
    line = answer.hosts[bad.address]
    ensure((line["state"], line["reason"]) == ("failed", "integrity"), str(answer))
    ensure("is its memory or network bad?" in line["text"] and "corrupt" not in answer.last, str(answer))
    scene.require_published(good, "a", source)
    scene.require_nothing([bad])


@scenario
@plain_only
def sending(scene):
    """The sender's own memory flips bits, now and then or always: it is named, and no host publishes them"""
    agents = scene.agents(4)
    source = scene.crumbs("a", SIZE)
    for every in (20, 1):
        answer = scene.send(agents, source, *SLOWLY, "--json", "-t", "20", env=wrong(scene, "send", every=every))
        for agent in agents:
            state = answer.hosts[agent.address]["state"]
            ensure(state in ("published", "failed", "aborted"), str(answer))
            ensure((state == "published") == (agent.published() == ["a"]), str(answer))
            if state == "published":
                scene.require_published([agent], "a", source)
                scene.forget([agent], "a")
        ensure(answer.last["corrupt_sender"] >= 2 and (every > 1 or answer.last["failed"] == 4), str(answer))


FIRST_DATA, CHUNK = 32, 35  # types of frames, see treecast-wire(7)
HEAD = 8


class Flaky(Between):
    """Each frame is shown to harm(connection, up, number, kind, frame), which may damage it; connection 0 is the sender's
    control link."""

    def __init__(self, agent, harm):
        self.harm = harm
        super().__init__(agent)

    def pump(self, source, sink, up, connection):
        number = 0
        with source.makefile("rb") as stream:
            while len(head := stream.read(HEAD)) == HEAD:
                frame = bytearray(head + stream.read(int.from_bytes(head[:4], "big")))
                self.harm(connection, up, number, frame[4], frame)
                sink.sendall(frame)
                number += 1


def flip(frame, generator, first, end):
    bit = generator.randrange(8 * first, 8 * min(end, len(frame)))
    frame[bit // 8] ^= 1 << bit % 8


def one_flip(seed):
    """One bit of one of the first frames on a control link, in one direction, is flipped."""
    generator, done = random.Random(seed), []
    up, chosen = generator.random() < 0.5, generator.randrange(5)

    def harm(connection, toward, number, kind, frame):
        if connection == 0 and toward == up and number == chosen and not done:
            # A greeting that seems to be longer is waited for, for half a minute.
            flip(frame, generator, 4 if number == 0 else 0, len(frame))
            done.append(kind)
    return harm, done


def ensure_true(answer, hosts, source, name):
    """Who is said to have the array has it, whole and right; nobody has another."""
    for address, agent in hosts.items():
        line, there = answer.hosts[address], name in agent.published()
        ensure(not there or same_bytes(agent.path(name), source), f"{name}: other bytes {answer}")
        ensure(there or line["state"] not in ("published", "unchanged"), f"{name}: it is not there {answer}")
        ensure(line["state"] == "published" or line["text"], f"{name}: no reason {answer}")


@scenario
def control_links(scene):
    """Without TLS one bit of a control link flips, in 80 sessions: nothing wrong is published anywhere"""
    agents = scene.agents(2)
    source = scene.noise("source", 300000)
    kinds, refusals = set(), 0
    for first in range(0, 80, 20):
        runs = []
        for seed in range(first, first + 20):
            harm, done = one_flip(seed)
            wires = [Flaky(agents[0], harm), Flaky(agents[1], lambda *_: None)]
            words = ("--json", "-s", "64K", "-F", "kary:2", "--min-hosts", "1", "-t", "20", "--dtype", "<f4", "--raw")
            sender = scene.start("send", "-w", hosts_of([wire.address for wire in wires]), *words, source, f"a{seed}")
            runs.append((f"a{seed}", wires, done, sender))
        for name, wires, done, sender in runs:
            answer = sender.finish(30)
            ensure_true(answer, {wire.address: agent for wire, agent in zip(wires, agents)}, source, name)
            ensure(answer.hosts[wires[1].address]["state"] == "published" and answer.code in (0, 3), str(answer))
            refusals += answer.hosts[wires[0].address]["state"] != "published"
            kinds.update(done)
            for wire in wires:
                wire.close()
    ensure(refusals > 0, "nothing that was damaged was refused")
    note(f"frames of types {sorted(kinds)} were damaged, the host had no array in {refusals} of 80 sessions")
    for agent in agents:
        ensure(set(agent.published()) <= {f"a{seed}" for seed in range(80)}, f"odd names: {agent.published()}")
        for line in scene.run("list", "--json", "-d", agent.folder).expect(0).lines:
            ensure(line["dtype"] == "<f4" and line["shape"] == [75000] and "expires" not in line, f"{line}")
        scene.require_clean(agent)


REFUSED = re.compile(r"warning: (\S+): chunk \d+: digest differs")


def refused(agents):
    """The names of arrays of which one of agents refused a chunk, as often as it did."""
    return [name for agent in agents for name in REFUSED.findall(agent.err)]


def some_flips(seed):
    """One bit of one of the first frames with data in each connection, either way, is flipped: in its head or not."""
    generator, done = random.Random(seed), []
    chosen = generator.randrange(6)

    def harm(connection, _up, number, kind, frame):
        if connection > 0 and number == chosen and kind >= FIRST_DATA and connection not in done:
            # A chunk seems to be another, or anything; a page that seems to be longer is waited for to the end.
            first, end = (11, 12) if kind == CHUNK and seed % 4 == 0 else (0 if kind == CHUNK else 4, len(frame))
            flip(frame, generator, first, end if generator.random() < 0.5 else 24)
            done.append(connection)
    return harm, done


@scenario
def data_links(scene):
    """Without TLS bits of one relay's data links flip, in heads of frames too, in 24 sessions: all get it"""
    agents = scene.agents(4)
    source = scene.noise("source", 800000)
    runs, damaged, blamed = [], 0, set()
    for seed in range(24):
        harm, done = some_flips(seed)
        wires = [Flaky(agent, harm if agent is agents[0] else lambda *_: None) for agent in agents]
        words = ("--json", "-s", "64K", "-F", ("kary:2", "double", "chain")[seed % 3], "-t", "40")
        sender = scene.start("send", "-w", hosts_of([wire.address for wire in wires]), *words, source, f"a{seed}")
        runs.append((f"a{seed}", wires, done, sender))
    for name, wires, done, sender in runs:
        answer = sender.finish(60).expect(0)
        ensure_true(answer, {wire.address: agent for wire, agent in zip(wires, agents)}, source, name)
        damaged += len(done)
        corrupt = answer.last.get("corrupt", {})
        ensure(set(corrupt) <= {wires[0].address} and (done or not corrupt), f"another host is named: {answer}")
        blamed |= {name} if corrupt else set()
        for wire in wires:
            wire.close()
    bad = set(refused(agents[1:]))  # the first itself may have them from the sender
    note(f"{damaged} connections with damage, {len(refused(agents))} chunks refused, by children in {len(bad)} sessions; "
         f"{len(bad & blamed)} of these name the first host, {len(blamed)} of all")
    ensure(damaged >= 24, f"{damaged} connections with damage")
    # Who is taken out of the trees for something else before the complaint comes is not named for it.
    ensure(bad and 2 * len(bad & blamed) >= len(bad), f"{bad} were refused, but it is named for {blamed}")


if __name__ == "__main__":
    main()
