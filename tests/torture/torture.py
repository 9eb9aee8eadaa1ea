#!/usr/bin/python3
"""Each fallible call of a sender and of an agent fails once, the others do not: nothing crashes, leaks, or leaves half a
file, and what is said is the true reason. All of them with TORTURE_ALL=1 (make torture), else every so-manieth."""

import os
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))

from agents import SLOW, Agent, LabError, Process, ensure, main, note, same_bytes, scenario, wait_for  # noqa: E402

SAMPLES = 40
SIZE = 3 * 65536 + 17
KNOWN_EXITS = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
ALL = bool(os.environ.get("TORTURE_ALL"))


def tortured(scene):
    return os.path.join(os.environ.get("top_builddir") or os.path.dirname(scene.treecast), "tests", "torture",
                        "treecast-torture")


class Tally:
    def __init__(self):
        self.hit, self.tolerated, self.named, self.bad = 0, 0, 0, []

    def judge(self, number, code, said, well, clean):
        """What one run came to: the program's exit code, its words, whether the array is there in full, what is left."""
        fault = re.search(r"torture: (\w+): (.*)", said)
        if not fault:
            return  # fewer calls this time
        self.hit += 1
        words = re.sub(r"torture: .*\n", "", said)
        true = re.search(fault[2], words, re.I)
        wrong = []
        if code not in KNOWN_EXITS or "Sanitizer" in said or "runtime error" in said:
            wrong.append(f"exit {code}")
        if clean:
            wrong.append(f"left {clean}")
        if not well and not true:
            wrong.append("no true reason")
        self.tolerated += well
        self.named += bool(true)
        if wrong:
            self.bad.append(f"call {number} ({fault[0].strip()}): {', '.join(wrong)}; exit {code}: {words[-600:]}")

    def end(self, what, calls):
        note(f"{what}: {calls} calls, {self.hit} failed one by one: {self.tolerated} tolerated, {self.named} named, "
             f"{len(self.bad)} wrong")
        ensure(not self.bad, "\n".join(self.bad[:20]))


def numbers(calls):
    step = 1 if ALL else max(1, calls // SAMPLES)
    return range(1, calls + 1, step)


def each(tally, function, calls):
    with ThreadPoolExecutor(2 if SLOW > 1 else 4) as pool:
        for result in pool.map(function, numbers(calls)):
            tally.judge(*result)


def counted(scene, number, **more):
    return scene.environment(TORTURE=str(number), **more)


@scenario
def sender(scene):
    """Every call of a sender"""
    key, source = scene.key(), scene.noise("a", SIZE)
    agent = scene.agent("-k", key, "-qq")
    program, count = tortured(scene), scene.path("count")

    def send(number, name):
        words = [program, "send", "-k", key, "-w", agent.address, "-s", "64K", source, name]
        process = Process(scene, words, env=counted(scene, number, TORTURE_COUNT=count if number == 0 else ""))
        scene.processes.append(process)
        return process.finish(25)

    send(0, "all").expect(0)
    with open(count, encoding="ascii") as file:
        calls = int(file.read())

    def once(number):
        try:
            answer = send(number, f"a{number}")
        except LabError as error:
            return number, "hung", str(error), False, ""
        path = agent.path(f"a{number}")
        there = os.path.exists(path)
        whole = there and same_bytes(path, source)
        return number, answer.code, answer.err + answer.out, answer.code == 0 and whole, "half a file" * (there and not whole)

    tally = Tally()
    each(tally, once, calls)
    tally.end("sender", calls)
    scene.require_clean(agent)


@scenario
def agents(scene):
    """Every call of an agent"""
    key, source = scene.key(), scene.noise("a", SIZE)
    program = tortured(scene)

    said_by = {}

    def once(number):
        try:
            return try_once(number)
        except LabError as error:
            return number, "hung", f"{error}\n{said_by.get(number, lambda: '')()}", False, ""

    def try_once(number):
        folder = scene.path(f"agent{number}")
        process = TorturedAgent(scene, program, folder, key, counted(scene, number, TORTURE_COUNT="" if number else os.path.join(folder, "count")))
        scene.processes.append(process)
        said_by[number] = lambda: process.err
        ready = wait_for(process.ready, "an agent", timeout=20 * SLOW)
        sent = None
        if ready != "ended":
            sent = scene.run("send", "-k", key, "-w", ready, "-s", "64K", source, timeout=25)
            if process.running() and not process.ended_soon(sent):
                process.signal(signal.SIGTERM)
        answer = process.finish(15)
        path = os.path.join(folder, "a")
        there = os.path.exists(path)
        whole = there and same_bytes(path, source)
        state = os.path.join(folder, ".treecast")
        left = [name for name in os.listdir(state) if name.endswith((".part", ".tmp"))] if os.path.isdir(state) else []
        if len(left) == 1 and left[0].endswith(".part") and not whole:
            left = []  # kept for the next try on purpose
        well = sent is not None and sent.code == 0 and whole and answer.code == 0
        said = answer.err + (sent.err if sent else "")
        return number, answer.code, said, well, "half a file" if there and not whole else " ".join(left)

    number, code, said, well, left = once(0)
    ensure(well, f"exit {code}: {said}")
    with open(scene.path("agent0", "count"), encoding="ascii") as file:  # it may write there alone
        calls = int(file.read())
    tally = Tally()
    each(tally, once, calls)
    tally.end("agent", calls)


@scenario
def topology(scene):
    """Every call of a plan over a topology"""
    program, count, path = tortured(scene), scene.path("count"), scene.path("topology.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write("SwitchName=a Nodes=n[1-4]\nSwitchName=b Nodes=n[5-8]\nSwitchName=top Switches=a,b\n")

    def plan(number):
        words = [program, "plan", "-w", "n[1-9]", "--topology", path, "--json"]
        process = Process(scene, words, env=counted(scene, number, TORTURE_COUNT=count if number == 0 else ""))
        scene.processes.append(process)
        return process.finish(25)

    ensure('"unknown"' in plan(0).expect(0).out, "no groups")
    with open(count, encoding="ascii") as file:
        calls = int(file.read())

    def once(number):
        answer = plan(number)
        return number, answer.code, answer.err, answer.code == 0 and '"unknown"' in answer.out, ""

    tally = Tally()
    each(tally, once, calls)
    tally.end("plan", calls)


class TorturedAgent(Agent):
    def __init__(self, scene, program, folder, key, environment):  # Agent's own waits for a good start
        super(Agent, self).__init__(scene, [program, "recv", "-d", folder, "-l", "127.0.0.1:0", "-k", key, "--once"],
                                    env=environment)
        self.folder = self.address = folder

    def ready(self):
        found = re.search(r"listening on (\S+),", self.out)
        return found[1] if found else None if self.running() else "ended"

    def ended_soon(self, sent):
        """With --once it ends by itself after a session, 5 s later when its sender is lost; one that never came to an
        offer leaves it waiting."""
        lost = re.search("torture: (send|recv|sendmsg)", self.err)
        return self._ends_within((2 if sent.code == 0 else 8 if lost else 0.5) * SLOW)


if __name__ == "__main__":
    main()
