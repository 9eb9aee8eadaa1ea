#!/usr/bin/python3
"""Racks behind shaped uplinks: with a topology every byte enters each rack about once, whatever the order of the list.
Needs root; prints TAP."""

import os
import random
import sys

sys.dont_write_bytecode = True

from cast import SOURCE, Cast, digest, random_bytes
from lab import Lab
from measure import one_copy
from tap import SANITIZED, ensure, find_treecast, folder, note, run_tests

SIZE = 4 << 20
HEADERS = 1.10  # of packets, of frames, and what control links say


def racks(size=SIZE):
    return Lab(hosts=16, rate_mbit=40, racks=4, uplink_mbit=60, shm_mb=64 + 2 * (size >> 20))


def shuffled(lab, hosts):
    addresses = [lab.address(host) for host in hosts]
    random.Random(7).shuffle(addresses)
    return ",".join(addresses)


def topology_file(lab, place):
    path = os.path.join(place, "topology.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(lab.topology())
    return path


def sent_over_uplinks(lab, cast, name, *options):
    """The broadcast, and for each rack the copies of the array that came in and went out meanwhile."""
    before = [lab.uplink_bytes(rack) for rack in range(lab.racks)]
    sent = cast.send(SOURCE, name, *options, timeout=120).require_success()
    copies = [tuple((now - then) / SIZE for now, then in zip(lab.uplink_bytes(rack), before[rack]))
              for rack in range(lab.racks)]
    note(f"{' '.join(options)}: {sent.seconds:.2f} s, copies in and out of each rack: "
         + ", ".join(f"{into:.2f}/{out:.2f}" for into, out in copies))
    return sent, copies


def test_topology():
    """A shuffled list and a topology.conf: each rack is entered once and left once at most."""
    with racks() as lab, folder() as place, Cast(lab, find_treecast(), place) as cast:
        random_bytes(lab.path(0, SOURCE), SIZE)
        expected = digest(lab.path(0, SOURCE))
        copy = one_copy(lab, SIZE)
        cast.listed = shuffled(lab, cast.hosts)
        sent, copies = sent_over_uplinks(lab, cast, "racks.bin", "--topology", topology_file(lab, place), "--tree", "double")
        for host in cast.hosts:
            ensure(digest(cast.published(host, "racks.bin")) == expected, f"h{host} has other bytes")
        for rack, (into, out) in enumerate(copies):
            bound = 0.2 if rack == 0 else HEADERS  # the sender's rack has it
            ensure(into <= bound, f"{into:.2f} copies came into rack{rack}")
            ensure(out <= HEADERS + 0.05, f"{out:.2f} copies left rack{rack}")
        groups = {line["host"]: line["group"] for line in sent.hosts}
        ensure(groups[lab.address(5)] == "spine.rack1", f"h5 hangs on {groups[lab.address(5)]}")
        note(f"one copy {copy:.2f} s, {sent.seconds / copy:.2f} copies")
        if not SANITIZED:
            ensure(not sent.of_type("replan"), f"replanned: {sent.of_type('replan')}")


def test_order():
    """No topology, and the list in order: neighbours keep together, half of what a heap sends over uplinks at most."""
    with racks() as lab, folder() as place, Cast(lab, find_treecast(), place) as cast:
        random_bytes(lab.path(0, SOURCE), SIZE)
        cast.listed = shuffled(lab, cast.hosts)
        _, blind = sent_over_uplinks(lab, cast, "blind.bin", "--tree", "double")
        cast.listed = None
        _, near = sent_over_uplinks(lab, cast, "near.bin", "--tree", "caterpillar")
        ensure(sum(into for into, _ in near) < 0.6 * sum(into for into, _ in blind), "the order of the list is no help")


if __name__ == "__main__":
    run_tests(test_topology, test_order)
