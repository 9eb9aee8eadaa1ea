"""Sent again: what hosts have is not sent to them, whether it is all of the array, most of it, or what a kill left."""

import mmap
import os
import time

from agents import ensure, hosts_of, main, same_bytes, scenario, wait_for

MIB = 1 << 20
CHUNK = 65536
FAST = ("-s", "64K", "-C", "none", "--json")
SLOWLY = (*FAST, "--bwlimit", "3M")


def received(answer, agent):
    """Bytes of the array that the network brought to agent."""
    line = answer.hosts[agent.address]
    ensure(line["state"] in ("published", "unchanged"), str(answer))
    return line["bytes"] - line["adopted"]


def edit(path, *places):
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place)
            file.write(b"another")


@scenario
def unchanged(scene):
    """Who has the array keeps its file, inode and readers, is reported unchanged, and serves those who have it not."""
    agents = scene.agents(4)
    source = scene.noise("a", 5 * MIB + 12345)
    scene.send(agents[:2], source).expect(0)
    before = [os.stat(agent.path("a")) for agent in agents[:2]]
    answer = scene.send(agents, source, "-F", "chain", *FAST).expect(0)
    states = [answer.hosts[agent.address]["state"] for agent in agents]
    ensure(states == ["unchanged", "unchanged", "published", "published"], str(answer))
    ensure(answer.last["sent"] == 0 and answer.last["unchanged"] == 2, str(answer))  # the second host gave it all
    ensure(received(answer, agents[0]) == 0 and received(answer, agents[2]) == 5 * MIB + 12345, str(answer))
    after = [os.stat(agent.path("a")) for agent in agents[:2]]
    ensure([(s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for s in before] ==
           [(s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for s in after], f"touched: {before} {after}")
    scene.require_published(agents, "a", source)
    for options in ((), ("--force",), ("-F", "double")):
        scene.send(agents, source, *options).expect(0, out="4 of 4 hosts in ").expect(0, out=", 4 had it already")


@scenario
def unchanged_with_key(scene):
    """The same with a key, for an empty array, and with other chunks than it was sent in."""
    key = scene.key()
    agents = scene.agents(3, "-k", key)
    for name, size in (("empty", 0), ("a", 3 * MIB + 1)):
        source = scene.noise(name, size)
        scene.send(agents[:2], source, "-k", key, "-s", "64K").expect(0)
        answer = scene.send(agents, source, "-k", key, "-s", "1M", "--json").expect(0)
        ensure(answer.last["unchanged"] == 2 and answer.last["published"] == 1, str(answer))
        scene.require_published(agents, name, source)


@scenario
def other_content(scene):
    """Another array of the same size is no reason to replace what is there: exit 1 and a hint, and nothing changes."""
    agents = scene.agents(3)
    old = scene.noise("a", MIB)
    scene.send(agents[:2], old).expect(0)
    new = scene.noise("b", MIB, seed=2)
    answer = scene.run("send", "-w", hosts_of(agents), "--min-hosts", "1", new, "a").expect(3, err="--force")
    ensure("failed: a is already here with other content: use --force to replace it" in answer.err, str(answer))
    scene.require_published(agents[:2], "a", old)
    scene.require_published(agents[2:], "a", new)


@scenario
def delta(scene):
    """With --force, 1% of the chunks changed moves 1%; who has the old file mapped keeps the old bytes."""
    agents = scene.agents(4)
    source, size = scene.noise("a", 200 * CHUNK), 200 * CHUNK
    scene.send(agents, source).expect(0)
    with open(agents[0].path("a"), "rb") as file, open(source, "rb") as original:
        held, old = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), original.read()
    edit(source, 70 * CHUNK + 5, 150 * CHUNK)
    answer = scene.send(agents, source, "--force", *FAST).expect(0)
    for agent in agents:
        ensure(received(answer, agent) == 2 * CHUNK, str(answer))
    ensure(answer.last["sent"] == 2 * CHUNK and answer.last["adopted"] == 4 * (size - 2 * CHUNK), str(answer))
    scene.require_published(agents, "a", source)
    ensure(held[:] == old, "a mapping has changed under its reader")
    for agent in agents:
        scene.run("verify", "-d", agent.folder, "a").expect(0)
    with open(agents[0].path("a"), "rb") as file, open(source, "rb") as original:
        held, new = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), original.read()
    scene.forget(agents, "a")
    ensure(agents[0].published() == [] and held[:] == new, "rm has taken the bytes from a reader")


@scenario
def longer_and_shorter(scene):
    """A version of another length moves what is not at the same place of the old one."""
    agent = scene.agent()
    source = scene.noise("a", 50 * CHUNK)
    scene.send([agent], source).expect(0)
    for size in (70 * CHUNK + 100, 20 * CHUNK + 7):
        before = os.path.getsize(source)
        with open(source, "r+b") as file:
            file.truncate(min(size, before))
            file.seek(0, os.SEEK_END)
            file.write(os.urandom(size - min(size, before)))
        scene.send([agent], source).expect(1, err="--force")
        answer = scene.send([agent], source, "--force", *FAST).expect(0)
        same = min(size, before) // CHUNK * CHUNK  # a chunk that was cut is another one
        ensure(received(answer, agent) <= size - same + CHUNK, str(answer))
        scene.require_published([agent], "a", source)


@scenario
def described_otherwise(scene):
    """The same bytes with another dtype are another array: refused without --force, with it only described anew."""
    agent = scene.agent()
    source = scene.noise("a", 10 * CHUNK)
    scene.send([agent], source, "--raw", "--dtype", "<f8").expect(0)
    scene.send([agent], source, "--raw", "--dtype", "<i4").expect(1, err="--force")
    answer = scene.send([agent], source, "--raw", "--dtype", "<i4", "--force", *FAST).expect(0)
    ensure(answer.last["published"] == 1 and answer.last["sent"] == 0, str(answer))
    ensure(scene.run("list", "--json", "-d", agent.folder, "a").last["dtype"] == "<i4", "the old description")
    answer = scene.send([agent], source, "--raw", "--dtype", "<i4", *FAST).expect(0)
    ensure(answer.last["unchanged"] == 1, str(answer))


def half(scene, agents, source):
    """A broadcast in which every one of agents has half of source."""
    sender = scene.start_send(agents, source, *SLOWLY)
    scene.under_way(sender, agents, least=os.path.getsize(source) // 2)
    return sender


def check_resumed(scene, agents, source, *options):
    size = os.path.getsize(source)
    answer = scene.send(agents, source, *FAST, *options).expect(0)
    for agent in agents:
        ensure(received(answer, agent) <= 0.51 * size, f"{received(answer, agent)} of {size} bytes came again: {answer}")
    ensure(answer.last["sent"] <= 0.51 * size, str(answer))
    scene.require_published(agents, "a", source)
    for agent in agents:
        scene.run("clean", "-d", agent.folder).expect(0, out="removed 0 files")


def start_again(scene, agents):
    return [scene.agents(1, first=int(agent.folder[-1]) - 1)[0] for agent in agents]


@scenario
def agent_killed_half_way(scene):
    """kill -9 of an agent that has half: run again, at most 51% is sent to it, and nothing to those that have it."""
    agents = scene.agents(3)
    source = scene.crumbs("a", 6 * MIB)
    sender = half(scene, agents, source)
    agents[1].kill()
    sender.finish().expect(1)
    agents[1], = start_again(scene, [agents[1]])
    check_resumed(scene, agents, source)


@scenario
def all_agents_killed_half_way(scene):
    """The same after kill -9 of every agent."""
    agents = scene.agents(3)
    source = scene.crumbs("a", 6 * MIB)
    sender = half(scene, agents, source)
    for agent in agents:
        agent.kill()
    sender.finish().expect(1)
    check_resumed(scene, start_again(scene, agents), source)


@scenario
def sender_killed_half_way(scene):
    """The same after kill -9 of the sender: at once, while agents and workers still wait, and after they gave up."""
    agents = scene.agents(3)
    source = scene.crumbs("a", 6 * MIB)
    waiting = scene.start_wait(agents[0], "a")
    half(scene, agents, source).kill()
    check_resumed(scene, agents, source)
    waiting.finish(10).expect(0)
    scene.forget(agents, "a")
    half(scene, agents, source).kill()
    wait_for(lambda: all(agent.partials() == ["a"] for agent in agents), "agents that give up", timeout=60)
    check_resumed(scene, agents, source)


@scenario
def another_version_half_way(scene):
    """What an interrupted --force left counts too, beside the published version."""
    agent = scene.agent()
    source = scene.crumbs("a", 6 * MIB)
    scene.send([agent], source).expect(0)
    with open(source, "r+b") as file:  # the first three quarters are new
        file.write(os.urandom(4 * MIB + MIB // 2))
    sender = scene.start_send([agent], source, *SLOWLY, "--force")
    scene.under_way(sender, [agent], least=4 * MIB)
    agent.kill()
    sender.finish().expect(1)
    agent, = start_again(scene, [agent])
    answer = scene.send([agent], source, *FAST, "--force").expect(0)
    ensure(received(answer, agent) <= 2.1 * MIB, str(answer))  # 6, less what was published (1.5) and came (2.5)
    scene.require_published([agent], "a", source)


@scenario
def spoilt_partial(scene):
    """Nothing in a partial is believed: holes, zeros and wrong bytes in it are fetched anew."""
    agents = scene.agents(2)
    source = scene.crumbs("a", 6 * MIB)
    sender = half(scene, agents, source)
    for agent in agents:
        agent.kill()
    sender.finish().expect(1)
    for agent, spoil in zip(agents, (lambda file: edit(file, 100, MIB), lambda file: os.truncate(file, MIB + 1))):
        name, = (name for name in os.listdir(agent.path(".treecast")) if name.endswith(".part"))
        spoil(agent.path(".treecast", name))
    agents = start_again(scene, agents)
    answer = scene.send(agents, source, *FAST).expect(0)
    size = 6 * MIB
    ensure(received(answer, agents[0]) <= 0.51 * size + 2 * CHUNK, str(answer))
    ensure(received(answer, agents[1]) >= size - MIB - CHUNK, str(answer))
    scene.require_published(agents, "a", source)


@scenario
def partials_go(scene):
    """One partial a name, for 24 hours; clean takes it, and so does an agent that finds one older."""
    agents = scene.agents(2)
    source = scene.crumbs("a", 6 * MIB)
    for _ in range(2):
        sender = half(scene, agents, source)
        for agent in agents:
            agent.kill()
        sender.finish().expect(1)
        for agent in agents:
            ensure(agent.partials() == ["a"], f"{agent.partials()}")
        agents = start_again(scene, agents)
        source = scene.crumbs("a", 6 * MIB, seed=7)
    for agent in agents:
        agent.stop().expect(0)
        ensure(agent.partials() == ["a"], f"{agent.partials()}")
    scene.run("clean", "-d", agents[0].folder).expect(0, out="removed 1 file, ")
    ensure(agents[0].partials() == [], f"{agents[0].partials()}")
    name, = (name for name in os.listdir(agents[1].path(".treecast")) if name.endswith(".part"))
    for hours, kept in ((23, ["a"]), (25, [])):
        then = time.time() - hours * 3600
        os.utime(agents[1].path(".treecast", name), (then, then))
        agent, = start_again(scene, [agents[1]])
        wait_for(lambda: agent.partials() == kept, "the end of what is too old", timeout=30)
        scene.send([agent], scene.noise("small", 10), "-f").expect(0)
        ensure(agent.partials() == kept, f"{agent.partials()}")
        agent.stop().expect(0)


if __name__ == "__main__":
    main()
