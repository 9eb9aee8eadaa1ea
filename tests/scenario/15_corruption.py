"""Hardware that gives wrong bytes: they are refused, fetched elsewhere and counted, the host is named, and nobody
publishes one."""

import os
import shlex
import subprocess

from agents import ensure, main, plain_only, scenario

MIB = 1 << 20
SIZE = 6 * MIB
SLOWLY = ("-C", "zstd:9", "-s", "64K")
OFTEN = 3  # every third large piece is wrong


def wrong(scene, what, every=OFTEN, most=None):
    """The environment of a process on hardware that lies (see wrong.c)."""
    library = scene.path("wrong.so")
    if not os.path.exists(library):
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrong.c")
        compiler = shlex.split(os.environ.get("CC") or "cc")
        built = subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library,
                                source], check=False, capture_output=True, text=True)
        ensure(built.returncode == 0, built.stderr)
    limit = {} if most is None else {"WRONG_MOST": str(most)}
    return scene.environment(LD_PRELOAD=library, WRONG=what, WRONG_EVERY=str(every), **limit)


def broadcast(scene, source, agents, *options):
    """The first of four agents gives to the last two; all that can have it, have it as it is."""
    return scene.send(agents, source, *SLOWLY, "--force", "-F", "kary:2", *options)


def replans(answer, agent):
    return {line["why"] for line in answer.lines if line["type"] == "replan" and line["host"] == agent.address}


def ensure_named(answer, bad):
    """Two children had wrong bytes from bad and said so; of the others nobody says it."""
    ensure(replans(answer, bad) == {"corrupt"}, str(answer))
    ensure(answer.last["corrupt"] == {bad.address: 2} and "corrupt_sender" not in answer.last, str(answer))


@scenario
@plain_only
def disk(scene):
    """A relay's disk gives back other bytes than were written: its children refuse them, it is named and a leaf"""
    bad, = scene.agents(1, env=wrong(scene, "disk"))
    good = scene.agents(3, first=1)
    source = scene.crumbs("a", SIZE)
    scene.send([bad], source, "--force").expect(0)
    with open(source, "r+b") as file:  # what stayed the same it gives from its disk, not as it came
        file.write(b"other")
    answer = broadcast(scene, source, [bad, *good], "--json").expect(0)
    ensure_named(answer, bad)
    scene.require_published([bad, *good], "a", source)


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


if __name__ == "__main__":
    main()
