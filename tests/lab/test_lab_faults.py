#!/usr/bin/python3
"""Broadcasts while hosts go wrong: the others complete, and the report names each host once."""

import os
import sys

sys.dont_write_bytecode = True

from cast import SOURCE, Cast, digest, random_bytes
from harm import Harm, broadcast, others, replans
from lab import Lab
from measure import one_copy
from tap import SANITIZED, ensure, find_treecast, folder, note, run_tests

SIZE = 16 << 20


def survivors_complete(cast, sent, name, lost):
    expected = digest(cast.lab.path(0, SOURCE))
    states = {line["host"].partition(":")[0]: line["state"] for line in sent.hosts}
    ensure(len(sent.hosts) == len(states) == len(cast.hosts), f"{len(sent.hosts)} host lines")
    for host in cast.hosts:
        state = states[cast.lab.address(host)]
        path = cast.published(host, name)
        if host not in lost:
            ensure(state == "published", f"h{host} is {state}")
        if state == "published":
            ensure(digest(path) == expected, f"h{host} has other bytes")
        elif os.path.exists(path):
            ensure(digest(path) == expected, f"h{host} shows half an array")


def broadcast_with(hosts, way, name, *options, after=1 / 3):
    """Broadcast to 7 hosts, do harm to some, and judge what comes of it. Returns the Sent and how many copies of the array
    the others needed."""
    harm = Harm(hosts, way, after, rate=5)
    with Lab(hosts=8, rate_mbit=50) as lab, folder() as place, Cast(lab, find_treecast(), place) as cast:
        random_bytes(lab.path(0, SOURCE), SIZE)
        copy = one_copy(lab, SIZE)
        sent = broadcast(cast, SOURCE, name, SIZE, harm, "--min-hosts", str(7 - len(hosts)), *options, timeout=180)
        times = others(cast, sent, harm)
        note(f"exit {sent.code} after {sent.seconds:.1f} s, one copy {copy:.1f} s; others whole after "
             f"{', '.join(f'{t:.1f}' for t in times)} s; {replans(sent)}")
        survivors_complete(cast, sent, name, harm.hosts)
        return sent, times[-1] / copy


def within(copies, bound, silence=0.0):
    """Three times what the benchmark allows on a quiet machine; nothing is said of a sanitizer's speed."""
    if not SANITIZED:
        ensure(copies <= 3 * bound + silence, f"the others needed {copies:.2f} copies")


def ensure_replanned(sent, why, count=1):
    lines = [line for line in sent.of_type("replan") if line["why"] in why]
    ensure(len({line["host"] for line in lines}) >= count, f"planned anew: {replans(sent)}")


def test_killed():
    """Agents that relay are killed: the others have the whole array, hardly later, and send says 3."""
    sent, copies = broadcast_with([1, 4], Harm.kill, "killed.bin")
    ensure(sent.code == 3, f"exit {sent.code}: {sent.errors}")
    ensure_replanned(sent, ["lost"], 2)
    within(copies, 1.6)


def test_cut():
    """A host that relays falls silent: the others have the whole array, and send says 3."""
    sent, copies = broadcast_with([1], Harm.cut, "cut.bin")
    ensure(sent.code == 3, f"exit {sent.code}: {sent.errors}")
    ensure_replanned(sent, ["lost", "slow"])  # all may be through before it counts as lost
    within(copies, 1.6, silence=5 / 1.4)


def test_frozen():
    """An agent that relays stops: the others have the whole array, and it is reported lost or done when it goes on."""
    sent, copies = broadcast_with([3], Harm.freeze, "frozen.bin")
    ensure(sent.code in (0, 3), f"exit {sent.code}: {sent.errors}")
    within(copies, 1.6, silence=5 / 1.4)


def test_slow():
    """The head of a tree is ten times slower: it is named, becomes a leaf, nobody waits for it, the deadline holds."""
    sent, copies = broadcast_with([1], Harm.slow_link, "slow.bin", "--deadline", "8", after=None)
    ensure(sent.code == 3, f"exit {sent.code}: {sent.errors}")
    ensure(sent.seconds <= 10.5, f"ended {sent.seconds:.1f} s after its start, its deadline was 8 s")
    ensure_replanned(sent, ["slow"])
    slow = [line for line in sent.hosts if line.get("slow")]
    ensure(len(slow) >= 1, "no host is called slow")
    within(copies, 1.5)


if __name__ == "__main__":
    run_tests(test_killed, test_cut, test_frozen, test_slow)
