#!/usr/bin/python3
"""A slow host among 23: it is named with what makes it slow, becomes a leaf, and the others hardly notice.

A tenth of the speed each time. What it costs the others over 20 s is measured by the bench (slow-long, slow-disk,
slow-cpu); here the array is shorter and the bound three times as wide.
"""

import os
import sys

sys.dont_write_bytecode = True

from cast import SOURCE, Cast, digest, random_bytes
from harm import Harm, broadcast, others, replans
from lab import Lab
from measure import one_copy
from tap import ensure, find_treecast, folder, note, run_tests

HOSTS, RATE, SIZE = 24, 100, 64 << 20
BOUND = 3 * 1.25


class Shared:
    """The lab of all tests, from the first one that needs it."""

    lab = None
    copy = 0.0

    @classmethod
    def get(cls):
        if cls.lab is None:
            lab = Lab(hosts=HOSTS, rate_mbit=RATE)
            lab.start()
            cls.lab = lab
            random_bytes(lab.path(0, SOURCE), SIZE)
            cls.copy = one_copy(lab, SIZE)
        return cls.lab, cls.copy


def slow_host(host, way, cause, *options):
    """Broadcast to 23 hosts with a slow one, which is named with its cause. Returns the Sent and the host's line."""
    harm = Harm([host], way)
    lab, copy = Shared.get()
    with folder() as place, Cast(lab, find_treecast(), place) as cast:
        sent = broadcast(cast, SOURCE, "a.bin", SIZE, harm, "--min-hosts", str(HOSTS - 2), *options, timeout=120)
        times = others(cast, sent, harm)
        note(f"exit {sent.code} after {sent.seconds:.1f} s, one copy {copy:.1f} s; others whole after "
             f"{times[len(times) // 2]:.1f} s (median), {times[-1]:.1f} s (last); {replans(sent)}")
        expected = digest(lab.path(0, SOURCE))
        for other in cast.hosts:
            path = cast.published(other, "a.bin")
            if other != host or os.path.exists(path):
                ensure(digest(path) == expected, f"h{other} has other bytes")
    lines = {line["host"].partition(":")[0]: line for line in sent.hosts}
    line = lines[lab.address(host)]
    ensure(len(sent.hosts) == len(lines) == HOSTS - 1, f"{len(sent.hosts)} host lines")
    ensure(line.get("slow") == cause and line.get("leaf"), f"{line}; {replans(sent)}")
    slow = {line["host"].partition(":")[0] for line in sent.hosts if line.get("slow")}
    ensure(slow == {lab.address(host)}, f"called slow: {slow}; {replans(sent)}")
    ensure(times[-1] <= BOUND * copy, f"the others needed {times[-1] / copy:.2f} copies")
    return sent, line


def ends_by_deadline(sent, line, seconds):
    ensure(sent.code == 3 and line["state"] == "aborted", f"exit {sent.code}, {line}")
    ensure(sent.seconds <= seconds + 2.5, f"ended {sent.seconds:.1f} s after its start, its deadline was {seconds} s")


def test_slow_out():
    """Only what leaves the head of a tree is slow: network out, and as a leaf it is as fast as any."""
    sent, line = slow_host(2, Harm.slow_out, "network out", "--deadline", "60")
    ensure(sent.code == 0 and line["state"] == "published", f"exit {sent.code}, {line}")


def test_slow_disk():
    """A relay's disk is slow: disk."""
    ends_by_deadline(*slow_host(3, Harm.slow_disk, "disk", "--deadline", "10"), 10)


def test_starved():
    """The head of a tree gets hardly any CPU: CPU."""
    ends_by_deadline(*slow_host(1, Harm.starve, "CPU", "--deadline", "14"), 14)


if __name__ == "__main__":
    try:
        run_tests(test_slow_out, test_slow_disk, test_starved)
    finally:
        if Shared.lab:
            Shared.lab.stop()
