#!/usr/bin/python3
"""Broadcasts while hosts go wrong: the others complete, and the report names each host once, with what is true of it."""

import functools
import hashlib
import mmap
import os
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from cast import DIR, SOURCE, Cast, digest, random_bytes
from harm import Harm, await_part, broadcast, others, replans
from lab import Lab, wait_for, wait_process
from measure import one_copy
from tap import ensure, find_treecast, note, run_tests

MIB = 1 << 20
HOSTS, RATE, SIZE = 24, 100, 16 * MIB
RELAYS = (1, 4, 9)                                             # the first host of a tree, one below the other, one below that
QUARTER = (1, 4, 9, 12, 15, 22)
SILENCE = 5                                                    # seconds until a death that nobody is told of is noticed
NOISE = 1.5                                                    # seconds that a busy machine may take longer
THIRD = 1 / 3


@functools.cache
def stage():
    """One lab for all tests, what one copy of SIZE bytes takes there, and a folder. They go with this process."""
    place = tempfile.TemporaryDirectory(prefix="treecast-lab-")
    lab = Lab(hosts=HOSTS, rate_mbit=RATE)
    lab.start()
    return lab, one_copy(lab, SIZE), place


class Case:
    """A broadcast to all hosts while some go wrong, and what came of it."""

    def __init__(self, name, hosts, way, after=THIRD, lasts=None, size=SIZE, agents=(), options=()):
        self.name = name
        self.size = size
        self.options = options
        self.harm = Harm(hosts, way, after, rate=RATE / 10, lasts=lasts)
        self.lab, self.copy, place = stage()
        self.cast = Cast(self.lab, find_treecast(), place.name, options=agents)
        self.sent = None

    def __enter__(self):
        random_bytes(self.lab.path(0, SOURCE), self.size)
        self.digest = digest(self.lab.path(0, SOURCE))
        self.cast.__enter__()
        return self

    def __exit__(self, *_):
        self.cast.stop()

    def run(self, watch=None):
        enough = len(self.cast.hosts) - len(self.harm.hosts)
        self.sent = broadcast(self.cast, SOURCE, self.name, self.size, self.harm, "--min-hosts", str(enough),
                              *self.options, timeout=180, watch=watch)
        times = others(self.cast, self.sent, self.harm)
        note(f"{self.name}: exit {self.sent.code} after {self.sent.seconds:.1f} s, one copy of {SIZE >> 20} MiB "
             f"{self.copy:.1f} s; others whole after {times[0]:.1f} to {times[-1]:.1f} s; {replans(self.sent)}")
        self.last = times[-1]
        self.judge()
        return self

    def within(self, bound, silence=0):
        """The others need so many copies, and no more than a busy machine adds: less than a death costs that is noticed
        late."""
        copy = self.copy * self.size / SIZE
        limit = bound * copy + silence + NOISE
        ensure(self.last <= limit, f"the others needed {self.last:.1f} s, {self.last / copy:.2f} copies: {limit:.1f} s")
        return limit

    def over_within(self, bound):
        """And send has ended by then: it did not wait to see whether the dead are silent."""
        limit = self.within(bound)
        ensure(self.sent.seconds <= limit, f"send needed {self.sent.seconds:.1f} s, not {limit:.1f} s")

    def line(self, host):
        """What the report says of host at its end."""
        return next(line for line in self.sent.hosts if self.is_of(line, host))

    def state(self, host):
        return self.line(host)["state"]

    def is_of(self, line, host):
        return line["host"].partition(":")[0] == self.lab.address(host)

    def shows(self, host):
        """Whether host shows the array; it never shows a part of it."""
        path = self.cast.published(host, self.name)
        if not os.path.exists(path):
            return False
        ensure(digest(path) == self.digest, f"h{host} shows other bytes")
        return True

    def judge(self):
        """The report names every host once, counts right, and says nothing that is not so."""
        sent, states = self.sent, {}
        for host in self.cast.hosts:
            lines = [line for line in sent.hosts if self.is_of(line, host)]
            ensure(len(lines) == 1, f"h{host} has {len(lines)} lines")
            states[host] = lines[0]["state"]
            ensure(self.shows(host) or states[host] != "published", f"h{host} is published and shows nothing")
            ensure(host in self.harm.hosts or states[host] == "published", f"h{host} is {states[host]}")
        end = sent.lines[-1]
        for state in ("published", "lost", "failed", "aborted"):
            ensure(end[state] == list(states.values()).count(state), f"{state}: {end} {states}")
        ensure(len(sent.hosts) == len(states) == end["hosts"], f"{len(sent.hosts)} lines of hosts")
        ensure(sent.code == (0 if end["published"] == len(states) else 3), f"exit {sent.code}: {sent.errors}")

    def lost(self, *hosts):
        """These are reported lost, and their places were taken, those of the relays at least."""
        told = [line for line in self.sent.of_type("replan") if line["why"] == "lost"]
        for host in hosts:
            ensure(self.state(host) == "lost", f"h{host} is {self.state(host)}")
            ensure(any(self.is_of(line, host) for line in told), f"h{host}: {replans(self.sent)}")

    def settle(self, host):
        """An agent that lived through it: what it did, what it says and what its host shows are one and the same."""
        def idle():
            return not self.cast.status(host)["sessions"]
        wait_for(idle, f"the end of the session of h{host}", timeout=20)
        said = [line for line in self.cast.says(host).splitlines() if f"{self.name} from" in line]
        whole = said[-1].endswith(": done") or "published, but left early" in said[-1] if said else None
        ensure(len(said) == 1 and whole == self.shows(host), f"h{host} is {self.state(host)} and says {said}")
        ensure(self.shows(host) or self.state(host) != "published", f"h{host} was published, and is not")
        self.only_partial(host)

    def only_partial(self, host):
        """Besides what is published there is one partial at most."""
        seen = [name for name in os.listdir(self.lab.path(host, DIR)) if not name.startswith(".")]
        ensure(seen == [self.name] * self.shows(host), f"h{host} shows {seen}")
        hidden = [name for name in os.listdir(self.lab.path(host, f"{DIR}/.treecast")) if name.endswith((".part", ".tmp"))]
        ensure(len(hidden) <= (not self.shows(host)) and not any(name.endswith(".tmp") for name in hidden),
               f"h{host} keeps {hidden}")


class Places:
    """What a host's agent says of its places in the trees while a broadcast runs."""

    def __init__(self, cast, host):
        self.cast = cast
        self.host = host
        self.plan = None    # the last

    def __call__(self, runs):
        while runs():
            for session in self.cast.status(self.host)["sessions"]:
                if session["plan"]["trees"]:
                    self.plan = session["plan"]
            time.sleep(0.25)

    def is_leaf(self):
        """It has a place in each tree, and no child in any."""
        return self.plan is not None and not any(tree["children"] for tree in self.plan["trees"])


def test_killed_one():
    """A relay is killed: the others have the whole array, hardly later, and send says 3."""
    with Case("one.bin", [3], Harm.kill) as case:
        case.run().lost(3)
        case.over_within(1.3)


def test_killed_quarter():
    """A quarter of all hosts is killed at once."""
    with Case("quarter.bin", QUARTER, Harm.kill) as case:
        case.run().lost(*QUARTER)
        case.over_within(1.6)


def test_killed_in_line():
    """A host, its parent and its grandparent, which is the head, are killed together."""
    with Case("line.bin", (), Harm.kill) as case:
        parents = case.cast.parents(SIZE)[0]
        line = [max(parents)]
        while parents[line[-1]] != 0:
            line.append(parents[line[-1]])
        case.harm.hosts = line[-3:]
        note(f"from the last host to the first: {line}")
        case.run().lost(*case.harm.hosts)
        case.over_within(1.6)


def test_silent():
    """Three relays go without a word: one loses its power, one its cable, one stops. It costs the others 5 s."""
    ways = dict(zip(RELAYS, (Harm.power_off, Harm.cut, Harm.freeze)))
    dark, cut, stopped = RELAYS
    with Case("silent.bin", RELAYS, lambda harm, lab, cast, host: ways[host](harm, lab, cast, host)) as case:
        case.run()
        for host in RELAYS:  # missed by their children before, which is no slowness
            line = case.line(host)
            ensure(line["state"] == "lost" and "slow" not in line, f"{line}")
        ensure(not case.shows(dark), f"h{dark} shows the array")
        case.settle(cut)  # it fails by itself; the other, when it goes on, fails or is whole
        case.settle(stopped)
        case.cast.start_agent(dark)
        case.cast.await_agent(dark)
        case.only_partial(dark)
        case.within(1.6, SILENCE)


def test_back_soon():
    """A relay is cut off for 2 s and comes back: it is whole, and so are the others."""
    with Case("soon.bin", [1], Harm.cut, lasts=2) as case:
        case.run()
        ensure(case.sent.code == 0 and case.state(1) == "published", f"h1 is {case.state(1)}: {case.sent.errors}")
        case.settle(1)


def test_back_late():
    """A relay is cut off and another stopped for 7 s of a longer session: when back they fail, and are seen to fail."""
    def cut_or_freeze(harm, lab, cast, host):
        (Harm.cut if host == harm.hosts[0] else Harm.freeze)(harm, lab, cast, host)

    with Case("late.bin", [1, 4], cut_or_freeze, lasts=7, agents=["--once"], options=["--bwlimit", str(SIZE // 10)],
              after=1 / 5) as case:
        case.run()
        for host, agent in case.cast.agents.items():
            code, _ = wait_process(agent, 20)
            whole = case.state(host) == "published"
            ensure(whole == case.shows(host) == (code == 0), f"h{host} is {case.state(host)}, exit {code}")
            ensure(whole or case.cast.says(host).count(f"{case.name} from") == 1, f"h{host} says {case.cast.says(host)}")
            case.only_partial(host)
        case.lost(1, 4)
        for host in case.cast.hosts:
            case.cast.start_agent(host)
            case.cast.await_agent(host)
        again = case.cast.send(SOURCE, case.name).require_success().summary
        ensure((again["published"], again["unchanged"]) == (2, HOSTS - 3) and again["adopted"] > 0, f"{again}")


def given_up(case, strike, seconds):
    """strike(sender) ends the sender at a third: in so many seconds all agents give up, which show nothing, and tell who
    waits for the array."""
    before = case.lab.sent_bytes(0)
    words = [find_treecast(), "wait", "-d", DIR, "-t", "60", case.name]
    waiters = {host: case.lab.popen(host, words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for host in (1, HOSTS - 1)}
    sender = case.cast.start_send(SOURCE, case.name)
    await_part(case.cast, sender, before, SIZE * THIRD)
    began = time.monotonic()
    strike(sender)
    for host, process in (*waiters.items(), *case.cast.agents.items()):
        code, _ = wait_process(process, began + seconds - time.monotonic())
        ensure(code == 9, f"h{host}: exit {code} of {process.args[1]}: {case.cast.says(host)}")
    note(f"given up after {time.monotonic() - began:.1f} s")
    for host in case.cast.hosts:
        ensure(not case.shows(host), f"h{host} shows the array")
        case.only_partial(host)


def test_sender_killed():
    """The sender alone is killed: all agents give up soon after their last byte and tell their waiters."""
    with Case("orphans.bin", (), Harm.kill, agents=["--once"]) as case:
        given_up(case, case.lab.end, SILENCE + 4)


def test_sender_power_off():
    """The sender's host loses its power and nobody is told: all agents give up in bounded time, and show nothing."""
    def power_off(sender):
        case.lab.cut(0)
        case.lab.end(sender)

    with Case("sender.bin", (), Harm.kill, agents=["--once"]) as case:
        try:
            given_up(case, power_off, 16)
        finally:
            case.lab.mend(0)


def fetched(lines):
    """Bytes of the array that the network brought to the hosts of these lines."""
    return sum(line["bytes"] - line["adopted"] for line in lines)


def test_interrupted():
    """All are killed half-way: what is there is not sent again. One chunk changes: it moves alone, readers keep the old.
    The same array again moves nothing."""
    with Case("again.bin", (), Harm.kill, after=None) as case:
        cast, everybody = case.cast, len(case.cast.hosts) * SIZE
        before = case.lab.sent_bytes(0)
        sender = cast.start_send(SOURCE, case.name)
        await_part(cast, sender, before, SIZE * 0.64)  # by then the last have half of it
        for process in (sender, *cast.agents.values()):
            process.kill()
        for host, agent in cast.agents.items():
            agent.wait()
            ensure(not case.shows(host), f"h{host} shows a part")
            cast.start_agent(host)
        for host in cast.hosts:
            cast.await_agent(host)
        case.lab.end(sender)
        again = fetched(case.run().sent.hosts) / everybody
        note(f"{again:.1%} were sent again")
        ensure(again <= 0.51, f"{again:.1%} were sent again")
        with open(cast.published(HOSTS - 1, case.name), "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        old = case.digest
        with open(case.lab.path(0, SOURCE), "r+b") as file:
            file.seek(SIZE // 2)
            file.write(b"other bytes")
        case.digest, case.options = digest(case.lab.path(0, SOURCE)), ["--force"]
        changed = fetched(case.run().sent.hosts)
        ensure(changed == everybody // (SIZE // case.sent.summary["chunk_size"]), f"{changed} bytes were sent")
        ensure(hashlib.sha256(mapped).hexdigest() == old != case.digest, "the old file has other bytes")
        same = cast.send(SOURCE, case.name).require_success()
        ensure(same.summary["unchanged"] == len(cast.hosts) and fetched(same.hosts) == 0, f"{same.summary}")


def test_killed_again():
    """A relay is killed half-way, which its child can tell. Started again it gets the rest alone. What is removed there
    stays with who has it mapped."""
    def kill_half_way(harm, lab, cast, host):
        wait_for(lambda: any(2 * session["bytes"] >= SIZE for session in cast.status(host)["sessions"]), "half of it")
        Harm.kill(harm, lab, cast, host)

    with Case("half.bin", [3], kill_half_way) as case:
        cast = case.cast
        child = next(host for host, parent in cast.parents(SIZE)[0].items() if parent == 3)
        places = Places(cast, child)
        case.run(places).lost(3)
        told = [replan["why"] for replan in places.plan["replans"]]
        ensure(any(case.lab.address(3) in why and "lost" in why for why in told), f"h{child} tells {told}")
        cast.start_agent(3)
        cast.await_agent(3)
        sent = cast.send(SOURCE, case.name).require_success()
        again = fetched(sent.hosts) / SIZE
        note(f"{again:.1%} of its array were sent again")
        ensure(sent.summary["unchanged"] == len(cast.hosts) - 1 and 0 < again <= 0.51, f"{again:.1%}: {sent.summary}")
        with open(cast.published(3, case.name), "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        code, _, errors = case.lab.run(3, [find_treecast(), "rm", "-d", DIR, case.name])
        ensure(code == 0 and not case.shows(3), f"treecast rm ended with {code}: {errors}")
        ensure(hashlib.sha256(mapped).hexdigest() == case.digest, "what is mapped has other bytes")


def test_wrong_bytes():
    """A relay's memory is bad: its children refuse what it gives, have it elsewhere, and it is named with how often."""
    with Case("wrong.bin", [3], Harm.bad_memory, after=None) as case:
        end = case.run().sent.lines[-1]
        ensure(case.state(3) == "published", f"h3 is {case.state(3)}")
        ensure([case.is_of({"host": host}, 3) for host in end["corrupt"]] == [True] and "corrupt_sender" not in end,
               f"{end}")
        case.within(1.6)


def test_no_room():
    """A relay has no space: it is refused before any byte, the others have the array."""
    with Case("space.bin", [3], Harm.no_room, after=None) as case:
        sent = case.run().sent
        line = case.line(3)
        ensure((line["state"], line["reason"], line.get("bytes", 0)) == ("refused", "nospace", 0), f"{line}")
        case.within(1.3)


def slow_host(name, host, way, cause, seconds, size, states, bound=2, lasts=None):
    """One host is slow: it alone is called so, with its cause, and a leaf; by the deadline it is in one of these states."""
    with Case(name, [host], way, after=None, size=size, options=["--deadline", str(seconds)], lasts=lasts) as case:
        places, whole = Places(case.cast, host), "published" in states
        sent = case.run(places if whole else None).sent
        slow = [line for line in sent.hosts if line.get("slow")]
        ensure([case.is_of(line, host) for line in slow] == [True] and slow[0]["slow"] == cause and slow[0]["leaf"],
               f"called slow: {slow}; {replans(sent)}")
        ensure(any(line["why"] == "slow" for line in sent.of_type("replan")), f"planned anew: {replans(sent)}")
        ensure(case.state(host) in states, f"h{host} is {case.state(host)}: {sent.errors}")
        ensure(not whole or places.is_leaf(), f"h{host} at its end: {places.plan}")
        ensure(sent.seconds <= seconds + 2.5, f"ended {sent.seconds:.1f} s after its start, its deadline was {seconds} s")
        case.settle(host)
        case.within(bound)


def test_slow_link():
    """The first host of a tree is ten times slower: network in, a leaf, nobody waits for it, the deadline holds."""
    slow_host("link.bin", 1, Harm.slow_link, "network in", 9, 3 * SIZE, ["aborted"])


# What slow hosts cost the others to a tenth of a copy, the bench measures (slow-head, slow-long* and those after it).

def test_slow_out():
    """Only what leaves the first host of a tree is slow: network out, and as a leaf it is as fast as any."""
    slow_host("out.bin", 2, Harm.slow_out, "network out", 60, 4 * SIZE, ["published"])


def test_slow_disk():
    """A relay's disk is slow for 5 s: disk. It stays a leaf, and has the whole array too, later."""
    slow_host("disk.bin", 3, Harm.slow_disk, "disk", 60, 4 * SIZE, ["published"], lasts=5)


def test_starved():
    """A relay gets hardly any CPU: CPU. Those who help its children out are not slow.
    At the deadline it may well need more than the second that there is to say how it ended."""
    slow_host("cpu.bin", 3, Harm.starve, "CPU", 14, 4 * SIZE, ["aborted", "lost"])


if __name__ == "__main__":
    run_tests(test_killed_one, test_killed_quarter, test_killed_in_line, test_silent, test_back_soon, test_back_late,
              test_sender_killed, test_sender_power_off, test_interrupted, test_killed_again, test_wrong_bytes,
              test_no_room, test_slow_link, test_slow_out, test_slow_disk, test_starved)
