"""One sender, one agent: every size, with and without a key, and what workers on the host are told."""

import os
import subprocess

from agents import BLOCK, SLOW, content_digest, ensure, main, scenario

SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 7 * BLOCK - 1, 64 * BLOCK, 64 * BLOCK + 1, 5 << 20]


def every_size(scene, agent, *options):
    for size in SIZES:
        name = f"s{size}.bin"
        source = scene.noise(name, size)
        scene.send([agent], source, *options).expect(0, out=" to 1 of 1 host in")
        scene.require_published([agent], name, source)
        scene.run("verify", "-d", agent.folder, name).expect(0, out=f"{name}: good")
        shown = scene.run("list", "--json", "-d", agent.folder, name).expect(0).last
        ensure(shown["size"] == size and shown["digest"] == content_digest(source), f"wrong description: {shown}")
    ensure(agent.running(), "the agent is gone")


@scenario
def sizes_without_key(scene):
    """Every size arrives byte for byte, read-only and rightly described, without a key."""
    every_size(scene, scene.agent())


@scenario
def sizes_with_key(scene):
    """The same over TLS with a key and an origin."""
    key = scene.key()
    every_size(scene, scene.agent("-k", key), "-k", key)


@scenario
def chunk_sizes(scene):
    """Chunks of every size make the same array and the same digest."""
    agent = scene.agent()
    source = scene.noise("a", (5 << 20) + 12345)
    for chunk in ("64K", "128K", "1M", "4M"):
        scene.send([agent], source, "-s", chunk).expect(0)
        scene.require_published([agent], "a", source)
        shown = scene.run("list", "--json", "-d", agent.folder, "a").last
        ensure(shown["digest"] == content_digest(source), f"chunk {chunk}: {shown}")
        scene.forget([agent], "a")


@scenario
def agent_mode(scene):
    """Published files have the agent's --mode, under another NAME if one is given."""
    agent = scene.agent("--mode", "0440")
    scene.start("send", "-w", agent.address, scene.noise("a", 1000), "other.name").finish().expect(0, out="other.name")
    ensure(agent.published() == ["other.name"], str(agent.published()))
    mode = os.stat(agent.path("other.name")).st_mode & 0o777
    ensure(mode == 0o440, f"{mode:o}")


@scenario
def attach_described(scene):
    """A raw file with --dtype and --shape is described as JSON, to a shell, and in a command's environment."""
    agent = scene.agent()
    source = scene.noise("a.raw", 8 * 6 * 1000)
    scene.send([agent], source, "--dtype", "float64", "--shape", "6,-1").expect(0)
    path = agent.path("a.raw")
    scene.run("attach", "-d", agent.folder, "a.raw").expect(0, out=path + "\n")
    shown = scene.run("attach", "-d", agent.folder, "a.raw", "--format", "json").expect(0).last
    wanted = {"schema": 1, "name": "a.raw", "path": path, "dtype": "<f8", "shape": [6, 1000], "order": "C", "offset": 0,
              "item_size": 8, "size": 48000}
    ensure(wanted.items() <= shown.items(), f"{shown}")
    lines = scene.run("attach", "-d", agent.folder, "a.raw", "--format", "sh").expect(0).out
    words = "|".join(f"$TREECAST_ARRAY_{name}" for name in ("PATH", "OFFSET", "DTYPE", "SHAPE", "ORDER"))
    told = f'echo "{words}"'
    right = f"{path}|0|<f8|6,1000|C\n"
    shell = subprocess.run(["sh", "-c", lines + told], capture_output=True, text=True, check=True)
    ensure(shell.stdout == right, shell.stdout)
    scene.run("attach", "-d", agent.folder, "a.raw", "--", "sh", "-c", told).expect(0, out=right)


@scenario
def attach_codes(scene):
    """attach -- COMMAND gives the command's exit code, 126 when it cannot run and 127 when it is not there."""
    agent = scene.agent()
    scene.send([agent], scene.noise("a", 10)).expect(0)
    scene.run("attach", "-d", agent.folder, "a", "--", "sh", "-c", "exit 41").expect(41)
    scene.run("attach", "-d", agent.folder, "a", "--", "/").expect(126)
    scene.run("attach", "-d", agent.folder, "a", "--", "no-such-command-here").expect(127)


@scenario
def wait_before_and_after(scene):
    """Those who waited before the broadcast, and those who come after it, are told the same path."""
    agent = scene.agent()
    early = [scene.start_wait(agent, "a") for _ in range(5)]
    attached = scene.start("attach", "-d", agent.folder, "a", "--", "sh", "-c", "wc -c <$TREECAST_ARRAY_PATH")
    scene.send([agent], scene.noise("a", 300000)).expect(0)
    for waiting in early + [scene.start("wait", "-d", agent.folder, "a")]:
        waiting.finish(10).expect(0, out=agent.path("a") + "\n")
    attached.finish(10).expect(0, out="300000")


@scenario
def wait_timeout(scene):
    """wait gives up in its time with exit 7, with an agent and without one."""
    agent = scene.agent()
    for folder in (agent.folder, scene.path("home")):
        for verb in ("wait", "attach"):
            answer = scene.run(verb, "-d", folder, "-t", "0.2", "nothing").expect(7, err="nothing")
            ensure(0.19 < answer.seconds < 2 * SLOW, str(answer))


@scenario
def wait_for_agent_to_come(scene):
    """A worker that was there before the agent, and even before its directory, is served."""
    waiting = scene.start("wait", "-d", scene.path("host1"), "-t", "20", "a")
    agent = scene.agent()
    scene.send([agent], scene.noise("a", 70000)).expect(0)
    waiting.finish(20).expect(0, out=agent.path("a"))


@scenario
def wait_for_failed(scene):
    """Waiters for a session that fails are told so, with its reason's exit code, and the next session works."""
    agent = scene.agent("--max-size", "1000")
    waiting = scene.start_wait(agent, "a")
    scene.send([agent], scene.noise("a", 2000)).expect(6)
    waiting.finish(10).expect(6, err="--max-size")
    small = scene.noise("small", 900)
    scene.send([agent], small).expect(0)
    scene.require_published([agent], "small", small)


@scenario
def remove(scene):
    """rm takes the array; a process that has it mapped keeps it; the name is free again."""
    agent = scene.agent()
    source = scene.noise("a", 100000)
    scene.send([agent], source).expect(0)
    with open(agent.path("a"), "rb") as held:
        scene.run("rm", "-d", agent.folder, "a").expect(0)
        ensure(agent.published() == [], "still there")
        scene.run("list", "-d", agent.folder, "a").expect(1, err="a is not published")
        with open(source, "rb") as file:
            ensure(held.read() == file.read(), "the removed file has changed")
    scene.send([agent], source).expect(0)
    scene.require_published([agent], "a", source)
    ensure(len([name for name in os.listdir(agent.path(".treecast")) if name.endswith(".json")]) == 1,
           "a removed array's description is left")


if __name__ == "__main__":
    main()
