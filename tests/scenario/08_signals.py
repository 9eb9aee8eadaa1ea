"""Background agents, signals that ask, status, and where options may come from."""

import json
import os
import re
import signal

from agents import READY, ensure, free_port, main, scenario, wait_for

MIB = 1 << 20


def pid_of(folder):
    """The process that serves folder."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as words:
                if folder.encode() in words.read().split(b"\0"):
                    return int(number)
        except OSError:
            pass
    return None


@scenario
def detach(scene):
    """recv --detach returns when it accepts connections, and the agent outlives it until SIGTERM."""
    folder = scene.path("d")
    ready = READY.fullmatch(scene.run("recv", "-d", folder, "-l", "127.0.0.1:0", "--detach").expect(0).out)
    ensure(ready and ready[3] == folder, "no ready line")
    pid = pid_of(folder)
    ensure(pid, "no agent")
    try:
        source = scene.noise("a", 100000)
        scene.run("send", "-w", f"{ready[1]}:{ready[2]}", source).expect(0)
        scene.run("wait", "-d", folder, "a").expect(0)
        scene.run("recv", "-d", folder, "-l", "127.0.0.1:0", "--detach").expect(1, err="already serves")
        scene.run("recv", "-d", scene.path("e"), "-l", f"127.0.0.1:{ready[2]}", "--detach").expect(1, err="in use")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: pid_of(folder) is None, "the agent's end")
    scene.run("status", "-d", folder).expect(1)


@scenario
def detach_once(scene):
    """--detach with --once: a prologue's agent takes one array and goes by itself."""
    folder = scene.path("d")
    ready = READY.fullmatch(scene.run("recv", "-d", folder, "-l", "127.0.0.1:0", "--detach", "--once").expect(0).out)
    scene.run("send", "-w", f"{ready[1]}:{ready[2]}", scene.noise("a", 1000)).expect(0)
    wait_for(lambda: pid_of(folder) is None, "the agent's end")
    scene.run("attach", "-d", folder, "a").expect(0, out=os.path.join(folder, "a"))


@scenario
def status_under_way(scene):
    """status shows an array on its way with its bytes and links, and after that the published one."""
    agents = scene.agents(2)
    source = scene.crumbs("a", 12 * MIB)
    sender = scene.start_send(agents, source, "-C", "zstd:19", "-s", "64K")
    scene.under_way(sender, agents)
    shown = scene.run("status", "--json", "-d", agents[0].folder).expect(0).last
    session, = shown["sessions"]
    ensure(session["name"] == "a" and session["state"] == "filling" and session["size"] == 12 * MIB, f"{session}")
    ensure(0 < session["bytes"] <= 12 * MIB and len(session["links"]) >= 2, f"{session}")
    ensure(shown["published"] == [] and shown["schema"] == 1 and shown["type"] == "status", f"{shown}")
    told = scene.run("status", "-d", agents[0].folder, "a").expect(0, out=f"listening on {agents[0].address}")
    ensure(re.search(r"^a +filling +12 MiB", told.out, re.M), str(told))
    scene.run("list", "-d", agents[0].folder, "a").expect(1)
    sender.finish().expect(0)
    wait_for(lambda: not scene.run("status", "--json", "-d", agents[0].folder).last["sessions"], "the session's end")
    shown = scene.run("status", "--json", "-d", agents[0].folder, "a").expect(0).last
    ensure([(row["name"], row["size"]) for row in shown["published"]] == [("a", 12 * MIB)], f"{shown}")


@scenario
def usr1(scene):
    """SIGUSR1 makes sender and agent print their state, and changes nothing else."""
    agents = scene.agents(2)
    source = scene.crumbs("a", 12 * MIB)
    sender = scene.start_send(agents, source, "-C", "zstd:19", "-s", "64K")
    scene.under_way(sender, agents)
    ensure(sender.err == "", sender.err)
    sender.signal(signal.SIGUSR1)
    wait_for(lambda: agents[1].address.rsplit(":")[1] in sender.err, "the sender's state")
    ensure(re.search(r"^a: .* of 12 MiB, .* 0 of 2 hosts", sender.err, re.M), sender.err)
    agents[0].signal(signal.SIGUSR1)
    wait_for(lambda: agents[0].err.endswith("}\n"), "the agent's state")
    state = json.loads(agents[0].err.splitlines()[-1])
    ensure(state["sessions"][0]["name"] == "a", f"{state}")
    sender.finish().expect(0)
    scene.require_published(agents, "a", source)


@scenario
def idle_agent_stops(scene):
    """SIGTERM and SIGINT end an idle agent at once with 0; its workers are not left hanging for the wrong reason."""
    for number in (signal.SIGTERM, signal.SIGINT):
        agent = scene.agent()
        scene.send([agent], scene.noise("a", 1000), "-f").expect(0)
        waiting = scene.start_wait(agent, "never", "-t", "1")
        agent.signal(number)
        agent.finish(5).expect(0)
        waiting.finish(10).expect(7)


@scenario
def two_agents_one_folder(scene):
    """A second agent for the same directory is refused, and the first goes on."""
    agent = scene.agent()
    scene.run("recv", "-d", agent.folder, "-l", "127.0.0.1:0").expect(1, err="already serves")
    scene.send([agent], scene.noise("a", 10)).expect(0)


@scenario
def taken_port(scene):
    """A port that is taken, and a directory that others may write, are refused in one line."""
    keeper, taken = free_port()
    answer = scene.run("recv", "-d", scene.path("d"), "-l", taken)
    ensure(answer.code == 1 and answer.err.count("\n") == 1 and "in use" in answer.err, str(answer))
    keeper.close()
    os.mkdir(scene.path("open"))
    os.chmod(scene.path("open"), 0o777)
    answer = scene.run("recv", "-d", scene.path("open"), "-l", "127.0.0.1:0")
    ensure(answer.code == 2 and answer.err.count("\n") == 1, str(answer))
    with open(scene.path("file"), "w", encoding="ascii"):
        pass
    ensure(scene.run("recv", "-d", scene.path("file"), "-l", "127.0.0.1:0").code not in (0, 1), "a file served as DIR")


@scenario
def options_from_elsewhere(scene):
    """Options of send and recv from the configuration and the environment do what the flags do."""
    os.makedirs(scene.path("home/.config/treecast"))
    key = scene.key()
    with open(scene.path("home/.config/treecast/treecast.conf"), "w", encoding="ascii") as file:
        file.write(f"[treecast]\nkey-file = {key}\n[recv]\nmax-size = 1M\n[send]\ncompress = none\nforce = yes\n"
                   "json = yes\n")
    agent = scene.agent()
    for seed in (1, 2, 3):  # the second needs force
        source = scene.crumbs("a", 100000, seed)
        if seed == 3:
            break
        last = scene.send([agent], source).expect(0).last
        ensure((last["sent"], last["encoded"]) == (100000, 0), f"{last}")
    scene.send([agent], scene.noise("b", 2 * MIB)).expect(6)
    last = scene.send([agent], source, env=scene.environment(TREECAST_COMPRESS="zstd:3")).expect(0).last
    ensure(last["encoded"] == last["sent"] < 100000, f"{last}")
    last = scene.run("send", source, env=scene.environment(TREECAST_HOSTS=agent.address, TREECAST_JSON="no"))
    last.expect(0, out="a: 97.7 KiB to 1 of 1 host")
    scene.run("wait", "a", env=scene.environment(TREECAST_DIR=agent.folder)).expect(0, out=agent.path("a"))
    answer = scene.run("send", "-w", agent.address, source, env=scene.environment(TREECAST_DEADLINE="soon"))
    answer.expect(2, err="TREECAST_DEADLINE")


if __name__ == "__main__":
    main()
