#!/usr/bin/python3
"""Where hosts hang: --topology, Slurm's own word, and what is said of mistakes. Prints TAP."""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from agents import ensure, main, same_bytes, scenario  # noqa: E402

SCONTROL = """#!/bin/sh
case "$*" in
"show topology") cat "$FAKE_TOPOLOGY" ;;
*) exit 1 ;;
esac
"""


def written(scene, name, text, mode=0o600):
    path = scene.path(name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def in_slurm(scene, topology):
    """An environment in which scontrol says this."""
    folder = scene.path("bin")
    os.makedirs(folder, exist_ok=True)
    written(scene, "bin/scontrol", SCONTROL, 0o700)
    return {"SLURM_JOB_ID": "7", "PATH": f"{folder}:{os.environ['PATH']}", "SLURMD_NODENAME": "n1",
            "FAKE_TOPOLOGY": written(scene, "said", topology)}


def groups(answer):
    return {group["group"]: (group["hosts"], group["in"], group["out"])
            for group in json.loads(answer.out)["groups"]}


RACKS = "SwitchName=a Nodes=n[1-8]\nSwitchName=b Nodes=n[9-16]\nSwitchName=top Switches=a,b\n"


@scenario
def plan_draws_groups(scene):
    """plan shows what enters and leaves each rack, whatever the order of the list"""
    topology = written(scene, "racks", RACKS)
    hosts = "n9,n1,n10,n2,n11,n3,n12,n4,n13,n5,n14,n6,n15,n7,n16,n8"
    answer = scene.run("plan", "-w", hosts, "--topology", topology, "--size", "64M").expect(0)
    ensure("COPIES IN" in answer.out and "\n  a " in answer.out, answer)
    found = groups(scene.run("plan", "-w", hosts, "--topology", topology, "--json").expect(0))
    ensure(set(found) == {"top", "top.a", "top.b"}, found)
    ensure(all(hosts in (8, 16) and into == 1 and out <= 1 for hosts, into, out in found.values()), found)
    for tree in ("binomial", "chain", "kary:3"):
        found = groups(scene.run("plan", "-w", hosts, "--topology", topology, "--json", "-F", tree).expect(0))
        ensure(all(into == 1 for _, into, _ in found.values()), found)


@scenario
def plan_asks_slurm(scene):
    """inside a job Slurm is asked; --topology none does not; what Slurm does not know is no error"""
    env = in_slurm(scene, "SwitchName=a Level=0 LinkSpeed=1 Nodes=n[1-2]\nSwitchName=b Level=0 Nodes=n[3-4]\n"
                          "SwitchName=t Level=1 LinkSpeed=1 Nodes=n[1-4] Switches=a,b\n")
    words = ("plan", "-w", "n[1-4]", "--json")
    found = groups(scene.run(*words, env=scene.environment(**env)).expect(0))
    ensure(found["t.b"] == (2, 1, 0.0) and found["t.a"][:2] == (3, 0.0), found)  # n1 sends, and is listed too
    ensure("groups" not in scene.run(*words, "--topology", "none", env=scene.environment(**env)).expect(0).out, "none")
    for text in ("No topology information available\n", "nonsense=\n", ""):
        env = in_slurm(scene, text)
        ensure("groups" not in scene.run(*words, env=scene.environment(**env)).expect(0).out, text)


@scenario
def mistakes(scene):
    """a topology that is wrong is one line and exit 2, before any connection"""
    source = scene.noise("a", 1000)
    for text, why in (("SwitchName=s1\n", ":1: s1 has neither Nodes="), ("\nSwitchName=s1 Nodes=n[1\n", ":2: host list"),
                      ("nothing\n", ":1: 'nothing' is not KEY=VALUE"), ("", ":1: names no switch")):
        path = written(scene, "wrong", text)
        for words in (("plan", "-w", "n1"), ("send", "-w", "127.0.0.1:1", source)):
            answer = scene.run(*words, "--topology", path).expect(2)
            ensure(f"{path}{why}" in answer.err and answer.err.count("\n") == 1, answer.err)
    for path in (scene.path("absent"), scene.folder):
        ensure(path in scene.run("plan", "-w", "n1", "--topology", path).expect(2).err, path)


@scenario
def unknown_hosts(scene):
    """hosts on no switch become a group of their own, and are told in one line"""
    topology = written(scene, "racks", RACKS)
    answer = scene.run("plan", "-w", "n[1-4],x[1-3]", "--topology", topology, "--json").expect(0)
    ensure(answer.err.count("\n") == 1 and "no switch for x[1-3]" in answer.err, answer.err)
    ensure(groups(answer)["unknown"] == (3, 1, 0.0) or groups(answer)["unknown"][:2] == (3, 1), answer.out)
    answer = scene.run("plan", "-w", "x[1-3]", "--topology", topology, "--json").expect(0)
    ensure("names none of the hosts" in answer.err and "groups" not in answer.out, answer.err)


@scenario
def broadcast_by_groups(scene):
    """a broadcast goes by the groups, and says them"""
    key, source = scene.key(), scene.noise("a", 300000)
    agents = scene.agents(6, "-k", key)
    text = "".join(f"SwitchName=s{i} Nodes={agents[i].address},{agents[i + 3].address}\n" for i in range(3))
    answer = scene.run("send", "-k", key, "-w", ",".join(agent.address for agent in agents), "--json", "-F", "double",
                       "--topology", written(scene, "racks", text), source).expect(0)
    lines = [json.loads(line) for line in answer.out.splitlines()]
    found = {line["host"]: line["group"] for line in lines if line["type"] == "host"}
    ensure(found == {agent.address: f"s{i % 3}" for i, agent in enumerate(agents)}, found)
    for agent in agents:
        ensure(same_bytes(agent.path("a"), source), agent.address)


if __name__ == "__main__":
    main()
