#!/usr/bin/python3
"""Broadcasts across hosts of the lab, with key and TLS."""

import os
import sys

sys.dont_write_bytecode = True

from cast import DIR, SOURCE, Cast, digest, random_bytes, smooth_field
from lab import Lab
from measure import one_copy
from tap import SANITIZED, ensure, find_treecast, folder, note, run_tests

SIZE = 8 << 20
BOUND = 3 * 1.10  # three times what the benchmark allows on a quiet machine


def check_published(cast, name, source):
    expected = digest(cast.lab.path(0, source))
    for host in cast.hosts:
        path = cast.published(host, name)
        ensure(digest(path) == expected, f"h{host} has other bytes")
        mode = os.stat(path).st_mode & 0o777
        ensure(mode == 0o444, f"h{host} published with mode {mode:o}")


def check_report(sent, hosts):
    ensure(sent.code == 0, f"exit {sent.code}: {sent.errors}")
    ensure(all(line.get("schema") == 1 and "type" in line for line in sent.lines), "a line without schema or type")
    ensure(sent.lines[-1]["type"] == "summary", f"the last line is {sent.lines[-1]}")
    ensure(len(sent.hosts) == hosts, f"{len(sent.hosts)} host lines for {hosts} hosts")
    ensure(len({line["host"] for line in sent.hosts}) == hosts, "a host was named twice")
    ensure({line["state"] for line in sent.hosts} == {"published"}, "a host is not published")
    summary = sent.summary
    ensure(summary["hosts"] == summary["published"] == hosts, f"{summary['published']} of {summary['hosts']} published")
    ensure(summary["exit"] == 0, f"the summary's exit code is {summary['exit']}")
    ensure(0 < summary["total"] <= sent.seconds + 0.01, f"{summary['total']} s, {sent.seconds:.3f} by the clock")
    ensure(max(sent.completions) <= summary["total"] + 0.01, "a host was whole after the end")


def test_sixteen():
    """16 hosts get 8 MiB of any bytes over 100 Mbit/s links, whole and in a bounded number of plain copies."""
    with Lab(hosts=17, rate_mbit=100) as lab, folder() as place, Cast(lab, find_treecast(), place) as cast:
        random_bytes(lab.path(0, SOURCE), SIZE)
        copy = one_copy(lab, SIZE)
        sent = cast.send(SOURCE, "sixteen.bin", timeout=120)
        note(f"one copy {copy:.3f} s; sent in {sent.seconds:.3f} s, {sent.seconds / copy:.2f} copies")
        note(f"summary: {sent.summary}")
        check_report(sent, 16)
        ensure(sent.summary["size"] == SIZE, f"size: {sent.summary['size']}")
        ensure(sent.summary["sent"] >= SIZE, f"sent: {sent.summary['sent']}")
        check_published(cast, "sixteen.bin", SOURCE)
        if not SANITIZED:
            ensure(sent.seconds / copy <= BOUND, f"{sent.seconds / copy:.2f} copies, more than {BOUND:.2f}")


def test_each_tree():
    """A compressible .npy arrives byte for byte by every kind of tree, and nothing else stays beside it."""
    source = "/dev/shm/field.npy"
    with Lab(hosts=7, rate_mbit=100) as lab, folder() as place, Cast(lab, find_treecast(), place) as cast:
        smooth_field(lab.path(0, source), 2 << 20)
        for tree in ("binomial", "double", "chain", "kary:3"):
            name = f"{tree.replace(':', '-')}.npy"
            sent = cast.send(source, name, "--tree", tree, timeout=60)
            check_report(sent, 6)
            ensure(sent.summary["tree"] == tree, f"tree: {sent.summary['tree']}, not {tree}")
            check_published(cast, name, source)
        visible = sorted(entry for entry in os.listdir(lab.path(3, DIR)) if not entry.startswith("."))
        ensure(visible == ["binomial.npy", "chain.npy", "double.npy", "kary-3.npy"], f"in the directory: {visible}")


def test_wrong_key():
    """A sender with another key gets exit code 4 and publishes nothing; the agents stay and serve the right one."""
    with Lab(hosts=3, rate_mbit=100) as lab, folder() as place, Cast(lab, find_treecast(), place) as cast:
        random_bytes(lab.path(0, SOURCE), 1 << 20)
        right, cast.key = cast.key, cast.keygen("another-key")
        sent = cast.send(SOURCE, "secret.bin", timeout=60)
        ensure(sent.code == 4, f"exit {sent.code}: {sent.errors}")
        for host in cast.hosts:
            ensure(not os.path.exists(cast.published(host, "secret.bin")), f"h{host} has it")
        cast.key = right
        check_report(cast.send(SOURCE, "secret.bin", timeout=60), 2)
        check_published(cast, "secret.bin", SOURCE)


if __name__ == "__main__":
    run_tests(test_sixteen, test_each_tree, test_wrong_key)
