"""Broadcasts on loopback in which random processes are killed with kill -9 at random moments.

At every moment each host shows, under each name, a whole array that was sent under it, or nothing. Every sender that
lives ends in bounded time and names every host once, with a state that is true. After the storm one broadcast without
a kill reaches every host, two agents are killed a last time, and `clean` leaves no process, socket or temporary file.
SEED and BROADCASTS are read from the environment; one seed makes the same plan of kills (not the same timing)."""

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))

from agents import SLOW, Agent, Scene, ensure, hosts_of, note, wait_for  # noqa: E402
from tap import run_tests  # noqa: E402

HOSTS = 5
NAMES = ("a", "b")
CHUNK = 65536
SEED = int(os.environ.get("SEED") or 1)
BROADCASTS = int(os.environ.get("BROADCASTS") or 20)
MOST_SECONDS = 60  # of one broadcast: an agent that dies without a word is noticed after 5
ORPHANS_SECONDS = 2  # then agents of a sender that was killed show whether they go on without it
NOT_TAKEN = ("refused", "unreachable", "failed", "aborted")  # a lost host may have it or not


class Wrong(AssertionError):
    pass


class Storm:
    def __init__(self, scene):
        self.scene, self.random, self.glances = scene, random.Random(SEED), random.Random()
        self.agents = scene.agents(HOSTS)
        self.sources = {name: self.versions(name) for name in NAMES}
        self.known = {name: {digest(path) for path in paths} for name, paths in self.sources.items()}
        self.took = 0.05
        self.orphans = {}  # by name and bytes: when a sender of these was killed
        self.kills = self.senders_killed = self.lived = self.shown = self.judged = 0

    def versions(self, name):
        """Files to send as name: some differ in a few chunks, some in all, some in length."""
        paths = []
        for i, chunks in enumerate((9, 9, 9, 14, 5)):
            source = self.scene.noise(f"{name}{i}", chunks * CHUNK + i, seed=f"{name}{i % 4}")
            if i == 1:
                with open(paths[0], "rb") as old, open(source, "wb") as new:
                    content = bytearray(old.read())
                    content[3 * CHUNK:3 * CHUNK + 9] = b"different"
                    new.write(content)
            paths.append(source)
        return paths

    def look_at(self, agent, name):
        """What the host shows under the name now."""
        found = shown(agent, name)
        if found is None:
            return
        self.shown += 1
        if found not in self.known[name]:
            raise Wrong(f"{agent.folder}/{name} holds bytes that were never sent under that name")

    def look(self):
        for agent in self.agents:
            for name in NAMES:
                self.look_at(agent, name)

    def wait(self, sender, until):
        """Look around until the time comes or the sender ends."""
        while sender.running() and time.monotonic() < until:
            self.look_at(self.glances.choice(self.agents), self.glances.choice(NAMES))
        return sender.running()

    def broadcast(self):
        name = self.random.choice(NAMES)
        source = self.random.choice(self.sources[name])
        options = ["--json", "--force", "-s", "64K", "-F", self.random.choice(("double", "chain", "binomial"))]
        if self.random.random() < 0.3:
            options += ["--min-hosts", "1"]
        victims = self.random.sample(range(HOSTS), self.random.choice((0, 0, 1, 1, 2, 3)))
        if self.random.random() < 0.4:
            victims.insert(self.random.randint(0, len(victims)), HOSTS)  # the sender
        moments = sorted(self.random.uniform(0, 1.1 * self.took) for _ in victims)
        before = [self.free_of(agent, name, digest(source)) for agent in self.agents]
        began = time.monotonic()
        sender = self.scene.start("send", "-w", hosts_of(self.agents), *options, source, name)
        for victim, moment in zip(victims, moments):
            self.wait(sender, began + moment)
            process = sender if victim == HOSTS else self.agents[victim]
            self.kills += process.running()
            process.kill()
            self.look()
        if self.wait(sender, began + MOST_SECONDS * SLOW):
            raise Wrong(f"{' '.join(sender.words)} is still running after {MOST_SECONDS} s")
        self.look()
        if HOSTS in victims and sender.popen.returncode == -signal.SIGKILL:
            self.senders_killed += 1
            self.orphans[name, digest(source)] = time.monotonic()
        else:
            self.check(sender.finish(5), name, digest(source), before)
        if not victims:
            self.took = 0.5 * self.took + 0.5 * (time.monotonic() - began)

    def free_of(self, agent, name, sent):
        """Whether only a broadcast that begins now can bring these bytes there: they are not to be seen, and the agent has
        no session left of a sender that was killed."""
        recent = time.monotonic() - self.orphans.get((name, sent), -math.inf) < ORPHANS_SECONDS * SLOW
        return not recent and shown(agent, name) != sent and all(row["name"] != name for row in agent.sessions())

    def check(self, answer, name, sent, before):
        """The report of a sender that lived: each host once; who is said to have it has it, and who is said not to has
        not, unless it had the same bytes before, or may have them from agents that went on without their sender."""
        self.lived += 1
        if set(answer.hosts) != {agent.address for agent in self.agents}:
            raise Wrong(f"hosts are not reported: {answer}")
        for agent, free in zip(self.agents, before):
            state = answer.hosts[agent.address]["state"]
            if state in ("published", "unchanged") and shown(agent, name) != sent:
                raise Wrong(f"{agent.address} is said to be {state}: {answer}")
            if state in NOT_TAKEN and free:
                self.judged += 1
                if shown(agent, name) == sent:
                    raise Wrong(f"{agent.address} has it and is said to be {state}: {answer}")
        good = sum(line["state"] in ("published", "unchanged") for line in answer.hosts.values())
        if (answer.code == 0) != (good == HOSTS):
            raise Wrong(f"exit {answer.code} with {good} hosts: {answer}")

    def restart(self):
        """Agents that were killed come back, with what is in their folders."""
        for i, agent in enumerate(self.agents):
            if not agent.running():
                self.scene.processes.remove(agent)
                self.agents[i] = Agent(self.scene, agent.folder, ())
                self.scene.processes.append(self.agents[i])
        self.scene.processes[:] = [process for process in self.scene.processes if process.running()]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).digest()


def shown(agent, name):
    """The digest of what the host shows under the name; None: nothing."""
    try:
        return digest(agent.path(name))
    except FileNotFoundError:
        return None


def rest(folder):
    """What lies in .treecast apart from what belongs there: the lock, and a description for each published array."""
    inodes = {f"{os.stat(os.path.join(folder, name)).st_ino}.json" for name in os.listdir(folder) if name[0] != "."}
    return sorted(set(os.listdir(os.path.join(folder, ".treecast"))) - inodes - {"lock"})


def processes_of(folder):
    """Processes that have folder in their command line, as ps would show them."""
    shown = subprocess.run(["ps", "-eo", "pid,args"], check=True, capture_output=True, text=True).stdout
    return [line for line in shown.splitlines() if folder in line and "treecast" in line and "storm.py" not in line]


def everything_is_whole():
    """Whole arrays or nothing under every name at every moment, and every host in every report"""
    with Scene() as scene:
        storm = Storm(scene)
        try:
            for number in range(BROADCASTS):
                storm.broadcast()
                storm.restart()
                if number % 100 == 99:
                    note(f"{number + 1} broadcasts, {storm.kills} kills, {storm.shown} looks")
        except AssertionError:
            note(f"broadcast {number} of seed {SEED}: SEED={SEED} BROADCASTS={number + 1} make storm")
            scene.show_logs()
            raise
        note(f"seed {SEED}: {BROADCASTS} broadcasts, {storm.kills} processes killed, {storm.senders_killed} of them "
             f"senders; {storm.lived} reports, {storm.judged} hosts said to have nothing; {storm.shown} arrays looked "
             "at: none wrong, none partial, no host missing")
        a_clean_run_after_it(scene, storm)


def a_clean_run_after_it(scene, storm):
    """Then every host gets everything, and clean leaves nothing behind."""
    for name in NAMES:
        source = storm.sources[name][0]
        answer = scene.run("send", "-w", hosts_of(storm.agents), "--force", "--json", source, name).expect(0)
        ensure(len(answer.hosts) == HOSTS and answer.last["failed"] + answer.last["lost"] == 0, str(answer))
        for agent in storm.agents:
            ensure(digest(agent.path(name)) == digest(source), f"{agent.folder}: other bytes")
            scene.run("verify", "-d", agent.folder, name).expect(0)
    wait_for(lambda: not any(agent.left_overs() for agent in storm.agents), "the last orphans", timeout=80 * SLOW)
    for agent in storm.agents[:2]:
        agent.kill()
        ensure(os.path.exists(agent.path(".treecast/api")), f"{agent.folder}: no local API is left")
    for agent in storm.agents:
        if agent.running():
            agent.stop().expect(0)
        scene.run("clean", "-d", agent.folder).expect(0)
        ensure(rest(agent.folder) == [], f"{agent.folder}: left {rest(agent.folder)}")
    ensure(processes_of(scene.folder) == [], f"left {processes_of(scene.folder)}")
    note("after one clean run and clean: 0 processes, sockets or temporary files")


if __name__ == "__main__":
    run_tests(everything_is_whole)
