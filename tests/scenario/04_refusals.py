"""Refusals and reports: what cannot be done is said in one line for each reason, and before a byte has moved."""

import os
import signal
import time

from agents import Process, Skip, ensure, free_port, main, require_in_time, same_bytes, scenario, temporary, wait_for

MIB = 1 << 20


@scenario
def names(scene):
    """A name that is not allowed is a usage error before anybody is dialled."""
    source = scene.noise("a", 10)
    for name in (".hidden", "-x", "a/b", "..", "a b", "a\nb", "\u00e4", "x" * 129, ""):
        answer = scene.run("send", "-w", "127.0.0.1:9", "--", source, name).expect(2)
        ensure(answer.err.count("\n") == 1 and "name" in answer.err, str(answer))
    agent = scene.agent()
    scene.run("send", "-w", agent.address, source, "x" * 128).expect(0)


@scenario
def exists(scene):
    """A published name is kept without --force; with it the new array is there and old mappings keep the old bytes."""
    agent = scene.agent()
    old, new = scene.noise("old", 200000, seed=1), scene.noise("new", 300000, seed=2)
    scene.run("send", "-w", agent.address, old, "a").expect(0)
    with open(agent.path("a"), "rb") as held, open(old, "rb") as file:
        answer = scene.run("send", "-w", agent.address, new, "a").expect(1, err="--force")
        ensure("refused" in answer.err, str(answer))
        scene.require_published([agent], "a", old)
        scene.run("send", "-w", agent.address, new, "a", "--force").expect(0)
        scene.require_published([agent], "a", new)
        ensure(held.read() == file.read(), "an open file has changed")
    scene.run("verify", "-d", agent.folder, "a").expect(0)


@scenario
def foreign_file(scene):
    """What treecast did not publish under that name is not replaced by something else in silence."""
    agent = scene.agent()
    os.mkdir(agent.path("a"))
    os.symlink("/etc/passwd", agent.path("b"))
    source = scene.noise("source", 10)
    for name in "ab":
        scene.run("send", "-w", agent.address, "-f", source, name).expect(2, err="not a regular file")
    ensure(os.path.islink(agent.path("b")) and os.path.isdir(agent.path("a")), "replaced")
    scene.require_clean(agent)


@scenario
def max_size(scene):
    """An array over an agent's --max-size is refused by that host, with both sizes."""
    small, large = scene.agents(1, "--max-size", "1M") + scene.agents(1, first=1)
    source = scene.noise("a", MIB + 1)
    answer = scene.send([small, large], source).expect(6)
    ensure(f"{small.address}: refused: 1048577 bytes" in answer.err and "1048576" in answer.err, str(answer))
    ensure("only 1 of 2 hosts can take it (needed: 2); nothing was sent; --min-hosts 1 goes on without the others, "
           "-x LIST leaves them out" in answer.err, str(answer))
    scene.require_nothing([small, large])
    scene.send([small, large], source, "--min-hosts", "1").expect(3)
    scene.require_published([large], "a", source)
    scene.require_nothing([small])


@scenario
def host_down(scene):
    """A host that is down is named with its reason, at once; nothing was sent to the others."""
    keeper, nowhere = free_port()
    agents = scene.agents(2)
    source = scene.noise("a", MIB)
    answer = scene.send([*agents, nowhere], source).expect(1).within(5)
    ensure(f"{nowhere}: unreachable: cannot connect: Connection refused\n" in answer.err, str(answer))
    ensure("only 2 of 3 hosts can take it (needed: 3); nothing was sent" in answer.err, str(answer))
    scene.require_nothing(agents)
    answer = scene.send([nowhere], source, "--json").expect(1)
    ensure(answer.last["type"] == "error" and answer.last["reason"] == "unreachable", str(answer))
    keeper.close()


@scenario
def enough_hosts(scene):
    """One of three down: with --min-hosts 2, or 60%, the others get it and the exit code is 3."""
    keeper, nowhere = free_port()
    agents = scene.agents(2)
    source = scene.noise("a", MIB)
    for enough in ("2", "60%"):
        answer = scene.send([agents[0], nowhere, agents[1]], source, "--min-hosts", enough, "--json", "-f").expect(3)
        states = [line["state"] for line in answer.hosts.values()]
        state = "published" if enough == "2" else "unchanged"  # the second time they have it
        ensure(sorted(states) == sorted([state, state, "unreachable"]), str(answer))
        ensure(answer.last["type"] == "summary" and answer.last[state] == 2, str(answer))
    scene.require_published(agents, "a", source)
    scene.send([*agents, nowhere], source, "-f", "--min-hosts", "70%").expect(1)
    for wrong in ("0", "4", "101%", "x", "-1"):
        scene.send([*agents, nowhere], source, "--min-hosts", wrong).expect(2)
    keeper.close()


@scenario
def same_agent_twice(scene):
    """The same agent under two names is refused with exit 2 and both names; the same name twice is one host."""
    agent, = scene.agents(1)
    other = f"localhost:{agent.port}"
    source = scene.noise("a", 10)
    answer = scene.send([agent.address, other], source).expect(2)
    ensure("the same agent as" in answer.err and agent.address in answer.err and other in answer.err, str(answer))
    scene.require_nothing([agent])
    scene.send([agent, agent], source).expect(0, out="1 of 1 host")


@scenario
def no_hosts(scene):
    """Without hosts, and with hosts that cannot be read, it is a usage error."""
    source = scene.noise("a", 10)
    scene.run("send", source).expect(2)
    scene.run("send", "-w", "127.0.0.1:9", "-x", "127.0.0.1:9", source).expect(2)
    scene.run("send", "-w", "n[1-", source).expect(2)
    scene.run("send", "-w", "127.0.0.1:99999", source).expect(2)
    scene.run("send", "--hostfile", scene.path("none"), source).expect(2, err="No such file")


@scenario
def missing_source(scene):
    """A source that is missing, a directory or a device is exit 10, before anybody is dialled."""
    for source in (scene.path("none"), scene.path("home"), "/dev/null"):
        answer = scene.run("send", "-w", "127.0.0.1:9", source, "a").expect(10)
        ensure(answer.err.count("\n") == 1 and source in answer.err and not answer.out, str(answer))
    answer = scene.run("send", "-w", "127.0.0.1:9", scene.path("none"), "a", "--json").expect(10)
    ensure(answer.last["type"] == "error" and answer.last["exit"] == 10 and not answer.hosts, str(answer))


def change_while_sent(scene, agents, change):
    source = scene.crumbs("a", 12 * MIB)
    waiting = scene.start_wait(agents[0], "a")
    sender = scene.start_send(agents, source, "-C", "zstd:19", "-s", "64K", "--json")
    scene.under_way(sender, agents)
    change(source)
    answer = sender.finish(60).expect(10)
    ensure(answer.last["type"] == "error" and answer.last["reason"] == "source", str(answer))
    ensure(len(answer.hosts) == len(agents), str(answer))
    waiting.finish(10).expect(10)
    scene.require_nothing(agents, kept="a")


@scenario
def source_grows(scene):
    """A source that grows while it is sent is exit 10; nothing is published, and waiters are told."""
    def grow(source):
        with open(source, "ab") as file:
            file.write(b"more")
    change_while_sent(scene, scene.agents(2), grow)


@scenario
def source_changes(scene):
    """The same when a byte of it changes in place, and when it is cut short."""
    def edit(source):
        with open(source, "r+b") as file:
            file.seek(12 * MIB - 5)
            file.write(b"x")
    agents = scene.agents(2)
    change_while_sent(scene, agents, edit)
    change_while_sent(scene, agents, lambda source: os.truncate(source, 5 * MIB))


@scenario
def dry_run(scene):
    """A dry run asks every host and moves nothing; its exit code is that of the real one's first half."""
    agents = scene.agents(3, "--max-size", "1M")
    source = scene.noise("a", MIB)
    waiting = scene.start_wait(agents[0], "a")
    answer = scene.send(agents, source, "-n", "--json").expect(0)
    ensure([line["state"] for line in answer.hosts.values()] == ["ready"] * 3, str(answer))
    ensure(answer.last["ready"] == 3 and answer.last["sent"] == 0, str(answer))
    scene.send(agents, source, "-n").expect(0, out="3 of 3 hosts could take it; nothing was sent (dry run)")
    scene.send(agents, scene.noise("a", MIB + 1), "-n").expect(6)
    scene.require_nothing(agents)
    ensure(waiting.running(), f"a worker was told of a dry run: {waiting.err}")
    scene.send(agents, scene.noise("a", MIB)).expect(0)
    waiting.finish(10).expect(0)


@scenario
def deadline(scene):
    """A deadline ends the broadcast within 2 s with exit 7; agents forget it and waiters are told."""
    agents = scene.agents(2)
    source = scene.noise("a", 8 * MIB)  # 16 s at the sender's rate
    waiting = scene.start_wait(agents[0], "a")
    sender = scene.start_send(agents, source, "-C", "none", "-s", "64K", "--bwlimit", "512K", "-t", "3", "--json")
    scene.under_way(sender, agents)
    answer = sender.finish(60).expect(7)
    require_in_time(answer, 3)
    ensure({line["state"] for line in answer.hosts.values()} == {"aborted"}, str(answer))
    ensure(answer.last["reason"] == "deadline", str(answer))
    waiting.finish(10).expect(7, err="deadline")
    scene.require_nothing(agents, kept="a")
    scene.send(agents, source, "-t", "50").expect(0)


@scenario
def interrupted(scene):
    """Ctrl-C ends it at once with 130; temporary files go and the report names every host."""
    agents = scene.agents(3)
    source = scene.crumbs("a", 24 * MIB)
    sender = scene.start_send(agents, source, "-C", "zstd:19", "-s", "64K", "--json")
    scene.under_way(sender, agents)
    began = time.monotonic()
    sender.signal(signal.SIGINT)
    answer = sender.finish(20).expect(130)
    ensure(time.monotonic() - began < 5, "it took too long")
    ensure({line["state"] for line in answer.hosts.values()} == {"aborted"} and len(answer.hosts) == 3, str(answer))
    ensure(answer.last["type"] == "error" and answer.last["reason"] == "interrupted", str(answer))
    scene.require_nothing(agents)
    sender = scene.start_send(agents, source, "-C", "zstd:19", "-s", "64K")
    scene.under_way(sender, agents)
    sender.signal(signal.SIGTERM)
    answer = sender.finish(20)
    ensure(answer.code in (130, 143) and f"{agents[0].port}" in answer.err, str(answer))
    scene.require_nothing(agents)


MOUNT = """
mount --make-rprivate / && mount -t tmpfs -o size="$1",mode=700 tmpfs "$2" || exit 99
shift 2
exec "$@"
"""


class SmallHost(Process):
    """An agent with a tmpfs of its own, seen from outside below root."""

    def __init__(self, scene, size):
        if os.getuid() != 0:
            raise Skip("needs root to mount a small tmpfs")
        folder = scene.path("small")
        os.mkdir(folder)
        super().__init__(scene, ["unshare", "-m", "sh", "-c", MOUNT, "sh", size, folder, scene.treecast, "recv", "-d",
                                 folder + "/d", "-l", "127.0.0.1:0"])
        scene.processes.append(self)
        wait_for(self._ready, "the agent on a small tmpfs", timeout=20)
        self.address = self.out.split()[2].rstrip(",")
        self.root = f"/proc/{self.pid}/root{folder}/d"

    def _ready(self):
        if not self.running():
            raise Skip(f"no mount namespace here: {self.err.strip()}")
        return "listening on" in self.out

    def files(self):
        left, kept = temporary(self.root + "/.treecast", self.pid)
        return sorted(os.listdir(self.root)), left + kept


@scenario
def full_tmpfs(scene):
    """A host without space refuses before any byte, says what it needs and has, and keeps what it had."""
    small, roomy = SmallHost(scene, "3m"), scene.agent()
    source, fits = scene.noise("a", 4 * MIB), scene.noise("fits", 2 * MIB)
    answer = scene.send([small, roomy], source).expect(6)
    ensure(f"{small.address}: refused: no space (needs 4.1 MiB, has " in answer.err, str(answer))
    scene.require_nothing([roomy])
    ensure(small.files() == ([".treecast"], []), f"left-overs: {small.files()}")
    scene.send([small, roomy], fits).expect(0)
    scene.send([small, roomy], fits, "-f").expect(0, out="2 had it already")  # that takes no space
    other = scene.noise("other", 2 * MIB, seed=2)
    scene.run("send", "-w", small.address, "-f", other, "fits").expect(6, err="no space")
    ensure(small.files() == ([".treecast", "fits"], []), f"left-overs: {small.files()}")
    ensure(same_bytes(small.root + "/fits", fits), "the published array has changed")


@scenario
def filled_by_others(scene):
    """When others take the space meanwhile, that host fails with 'no space', lives and cleans up; the rest publish."""
    small, roomy = SmallHost(scene, "18m"), scene.agent()
    source = scene.crumbs("a", 16 * MIB)
    sender = scene.start_send([small, roomy], source, "-C", "zstd:19", "-s", "64K", "--json", "--min-hosts", "1")
    scene.under_way(sender, [roomy])
    with open(small.root + "/other", "wb") as other:
        try:
            while other.write(bytes(65536)):
                other.flush()
        except OSError:
            pass
    answer = sender.finish().expect(3)
    line = answer.hosts[small.address]
    ensure((line["state"], line["reason"]) == ("failed", "nospace"), str(answer))
    scene.require_published([roomy], "a", source)
    os.unlink(small.root + "/other")
    wait_for(lambda: small.files() == ([".treecast"], []), "the end of temporary files")
    scene.send([small], source).expect(0)
    ensure(same_bytes(small.root + "/a", source), "other bytes")


@scenario
def two_for_one_space(scene):
    """Of two broadcasts at once for which there is not space enough, one is refused before it begins."""
    small = SmallHost(scene, "34m")
    first, second = scene.crumbs("a", 24 * MIB), scene.noise("b", 16 * MIB)
    sender = scene.start_send([small], first, "-C", "zstd:19", "-s", "64K")
    wait_for(lambda: small.files()[1] or not sender.running(), "the first session")
    scene.send([small], second).expect(6, err="no space")
    sender.finish().expect(0)
    ensure(same_bytes(small.root + "/a", first), "other bytes")


if __name__ == "__main__":
    main()
