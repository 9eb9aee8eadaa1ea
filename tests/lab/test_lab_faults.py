#!/usr/bin/python3
"""Broadcasts while hosts go wrong: the others complete, and the report names each host once."""

import os
import signal
import sys
import time

sys.dont_write_bytecode = True

from cast import SOURCE, Cast, digest, random_bytes
from lab import Lab, wait_for
from tap import ensure, find_treecast, folder, note, run_tests

SIZE = 16 << 20


def survivors_complete(cast, sent, name, lost):
    expected = digest(cast.lab.path(0, SOURCE))
    states = {line["host"].partition(":")[0]: line["state"] for line in sent.hosts}
    ensure(len(sent.hosts) == len(states) == len(cast.hosts), f"{len(sent.hosts)} host lines")
    for host in cast.hosts:
        state = states[cast.lab.address(host)]
        path = cast.published(host, name)
        if host != lost:
            ensure(state == "published", f"h{host} is {state}")
        if state == "published":
            ensure(digest(path) == expected, f"h{host} has other bytes")
        elif os.path.exists(path):
            ensure(digest(path) == expected, f"h{host} shows half an array")


def await_under_way(cast, process, before):
    """Wait until hosts surely hold a part: as many bytes have left host 0 as an eighth of the array."""
    def condition():
        ensure(process.poll() is None, f"send ended early: {cast.says(0)}")
        return cast.lab.sent_bytes(0) - before > SIZE // 8
    wait_for(condition, "the transfer to be under way", timeout=60)


def broadcast_with(harm, name, *options):
    """Broadcast to 8 hosts and do harm(lab, cast) in the middle; returns what remains to be judged."""
    with Lab(hosts=9, rate_mbit=50) as lab, folder() as place, Cast(lab, find_treecast(), place) as cast:
        random_bytes(lab.path(0, SOURCE), SIZE)
        before = lab.sent_bytes(0)
        started = time.monotonic()
        process = cast.start_send(SOURCE, name, *options)
        await_under_way(cast, process, before)
        lost = harm(lab, cast)
        sent = cast.finish_send(process, started, timeout=120)
        note(f"exit {sent.code} after {sent.seconds:.1f} s; {sent.summary}")
        survivors_complete(cast, sent, name, lost)
        return sent


def kill_one(_lab, cast):
    cast.agents[1].send_signal(signal.SIGKILL)
    return 1


def cut_one(lab, _cast):
    lab.cut(1)
    return 1


def slow_one(lab, _cast):
    lab.set_rate(1, 5)
    return None


def test_killed():
    """An agent that relays is killed: the others have the whole array, and send says 3."""
    sent = broadcast_with(kill_one, "killed.bin", "--min-hosts", "7")
    ensure(sent.code == 3, f"exit {sent.code}: {sent.errors}")


def test_cut():
    """A host that relays falls silent: the others have the whole array, and send says 3."""
    sent = broadcast_with(cut_one, "cut.bin", "--min-hosts", "7")
    ensure(sent.code == 3, f"exit {sent.code}: {sent.errors}")


def test_slow():
    """The link of a host that relays becomes ten times slower: everybody completes all the same, at its pace."""
    sent = broadcast_with(slow_one, "slow.bin")
    ensure(sent.code == 0, f"exit {sent.code}: {sent.errors}")
    note(f"hosts were whole after {', '.join(f'{t:.1f}' for t in sent.completions)} s")


if __name__ == "__main__":
    run_tests(test_killed, test_cut, test_slow)
