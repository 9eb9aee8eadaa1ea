"""Rows on racks: hosts behind shaped uplinks, in copies and in bytes that cross the uplinks.

Four racks of eight hosts, the sender among them, 40 Mbit/s each. TREECAST_BESIDE names an older program: rows racks and
racks-order run it too, in the same lab, without a topology.
"""

import contextlib
import os
import random
import socket
import tempfile
import threading
import time
from dataclasses import dataclass

from cast import SOURCE, Cast, random_bytes
from harm import Harm, broadcast, others, replans
from lab import Lab
from measure import Steal, median, warm_memory
from rows import MIB, NAME, Outcome, Row, facts_of, measured_copy

RACKS = 4


@dataclass(frozen=True)
class RackRow(Row):
    uplink: float = 80      # Mbit/s
    shuffled: bool = True   # the host list
    known: bool = True      # --topology
    entries: float = None   # copies in and out of a rack at most


@contextlib.contextmanager
def racks_for(row):
    warm_memory((row.hosts + 2) * (row.size + (8 << 20)))
    with tempfile.TemporaryDirectory(prefix="treecast-bench-") as folder:
        with Lab(hosts=row.hosts, rate_mbit=row.rate, cc=row.cc, shm_mb=64 + 2 * row.size // MIB, racks=RACKS,
                 uplink_mbit=row.uplink) as lab:
            with open(os.path.join(folder, "topology.conf"), "w", encoding="ascii") as file:
                file.write(lab.topology())
            random_bytes(lab.path(0, SOURCE), row.size)
            yield lab, folder


def prepare(row, lab, cast, number):
    if row.shuffled:
        addresses = [lab.address(host) for host in cast.hosts]
        random.Random(number).shuffle(addresses)
        cast.listed = ",".join(addresses)


def options_of(row, folder):
    return [*row.options(), *(("--topology", os.path.join(folder, "topology.conf")) if row.known else ())]


class Uplinks:
    """Copies of the array that cross each rack's uplink from now on, in and out."""

    def __init__(self, lab, size):
        self.lab, self.size = lab, size
        self.before = [lab.uplink_bytes(rack) for rack in range(RACKS)]

    def copies(self):
        return [tuple((now - then) / self.size for now, then in zip(self.lab.uplink_bytes(rack), self.before[rack]))
                for rack in range(RACKS)]


def said(copies):
    return ", ".join(f"{into:.2f}/{out:.2f}" for into, out in copies)


def run_racks(row, repetitions, treecast):
    """Start to exit of send over one plain copy; a rack that is crossed too often fails the row."""
    outcome, beside, crossed = Outcome(), [], []
    old = os.environ.get("TREECAST_BESIDE") if row.name in ("racks", "racks-order") else None
    with racks_for(row) as (lab, folder):
        copy = measured_copy(lab, row.size)
        for number in range(repetitions):
            with Cast(lab, treecast, folder) as cast:
                prepare(row, lab, cast, number)
                uplinks = Uplinks(lab, row.size)
                sent = cast.send(SOURCE, NAME, *options_of(row, folder), timeout=600).require_success()
                crossed.append(uplinks.copies())
            outcome.values.append(sent.seconds / copy)
            outcome.notes.append(f"{sent.seconds / copy:.3f} copies, {sent.idle:.0f}% idle, tree {facts_of(sent)['tree']}, "
                                 f"in/out of racks {said(crossed[-1])}; {replans(sent)}")
            if old:
                with Cast(lab, old, folder) as cast:
                    prepare(row, lab, cast, number)
                    uplinks = Uplinks(lab, row.size)
                    sent = cast.send(SOURCE, NAME, timeout=600).require_success()
                    beside.append(sent.seconds / copy)
                    outcome.notes.append(f"  beside it {beside[-1]:.3f} copies, in/out {said(uplinks.copies())}; "
                                         f"{replans(sent)}")
    most = max(max(pair) for copies in crossed for pair in copies)
    outcome.notes.append(f"one copy {copy:.3f} s; a rack was crossed {most:.3f} times at most")
    outcome.facts = {"copy": copy, "crossed": crossed, "beside": beside}
    if row.entries is not None and most > row.entries:
        outcome.notes.append(f"MISSED: more than {row.entries:g} copies in or out of a rack")
        outcome.values = [max(value, row.bound + 1) for value in outcome.values]
    return outcome


def run_dead(row, repetitions, treecast):
    """The last host that lives, when an entry host of a rack and a relay of another are killed at a third."""
    outcome = Outcome()
    with racks_for(row) as (lab, folder):
        copy = measured_copy(lab, row.size)
        for number in range(repetitions):
            with Cast(lab, treecast, folder) as cast:
                prepare(row, lab, cast, number)
                parents = planned(row, lab, cast, folder)
                entry = next(host for host in cast.hosts if lab.rack_of(host) == 1 and lab.rack_of(parents[0][host]) != 1)
                relay = next(host for host in cast.hosts if lab.rack_of(host) == 2 and host in parents[0].values()
                             and lab.rack_of(parents[0][host]) == 2)
                harm = Harm((entry, relay), Harm.kill, 1 / 3)
                uplinks = Uplinks(lab, row.size)
                sent = broadcast(cast, SOURCE, NAME, row.size, harm, "--min-hosts", str(row.hosts - 3),
                                 *options_of(row, folder))
                times = others(cast, sent, harm)
            outcome.values.append(times[-1] / copy)
            outcome.notes.append(f"h{entry} and h{relay} killed: others whole after {times[-1] / copy:.3f} copies, in/out "
                                 f"{said(uplinks.copies())}; {replans(sent)}")
    return outcome


def planned(row, lab, cast, folder):
    return cast.parents(row.size, *options_of(row, folder))


def run_uplink(row, repetitions, treecast):
    """The median of the other racks' hosts, when one rack's uplink has half of a host's rate."""
    outcome = Outcome()
    with racks_for(row) as (lab, folder):
        copy = measured_copy(lab, row.size)
        lab.set_uplink(2, row.rate / 2)
        for number in range(repetitions):
            with Cast(lab, treecast, folder) as cast:
                prepare(row, lab, cast, number)
                sent = cast.send(SOURCE, NAME, *options_of(row, folder), timeout=600).require_success()
                away = {lab.address(host) for host in lab.rack_hosts(2)}
                times = sorted(line["seconds"] for line in sent.hosts if line["host"] not in away)
                leaves = [line["host"] for line in sent.hosts if line.get("leaf")]
                named = [line["text"] for line in sent.of_type("replan") if line["why"] == "uplink"]
            outcome.values.append(median(times) / copy)
            outcome.notes.append(f"others {median(times) / copy:.3f} copies (median), {times[-1] / copy:.3f} (last), all "
                                 f"{sent.seconds / copy:.3f}; demoted: {' '.join(leaves) or 'nobody'}; {'; '.join(named)}")
    return outcome


def flood(lab, source, target, seconds):
    """A plain stream from source to target for so long: somebody else's traffic."""
    listener = lab.socket(target)
    listener.bind((lab.address(target), 0))
    listener.listen(1)
    stream = lab.socket(source)
    stream.connect(listener.getsockname())
    end, _ = listener.accept()

    def drain():
        while end.recv(1 << 16):
            pass

    drainer = threading.Thread(target=drain)
    drainer.start()
    deadline = time.monotonic() + seconds
    stream.settimeout(1.0)
    with contextlib.suppress(socket.timeout):
        while time.monotonic() < deadline:
            stream.sendall(bytes(1 << 15))
    stream.close()
    drainer.join()
    end.close()
    listener.close()


def run_spine(row, repetitions, treecast):
    """Hosts that are demoted while a foreign flow shares one uplink for 2 s."""
    outcome = Outcome()
    with racks_for(row) as (lab, folder):
        copy = measured_copy(lab, row.size)
        for number in range(repetitions):
            with Cast(lab, treecast, folder) as cast:
                prepare(row, lab, cast, number)
                machine, started = Steal(), time.monotonic()
                process = cast.start_send(SOURCE, NAME, *options_of(row, folder))
                time.sleep(copy / 3)
                flood(lab, lab.rack_hosts(1)[-1], lab.rack_hosts(3)[-1], 2.0)
                sent = cast.finish_send(process, started).require_success()
            leaves = [line["host"] for line in sent.hosts if line.get("leaf")]
            outcome.values.append(len(leaves))
            outcome.notes.append(f"{sent.seconds / copy:.3f} copies, {machine.idle_percent():.0f}% idle; {replans(sent)}")
    return outcome


def row(name, run, bound, about, **more):
    return RackRow(name, run, 32, 40, 24 * MIB, bound=bound, about=about, **more)


RACK_ROWS = [
    row("racks", run_racks, 1.10, "four racks, 4:1, a topology, the list shuffled", entries=1.08),
    row("racks-order", run_racks, 1.25, "the same without a topology, the list in order", shuffled=False, known=False),
    row("racks-tight", run_racks, 1.15, "8:1: an uplink carries what one host does", uplink=40, entries=1.08),
    row("racks-dead", run_dead, 1.35, "an entry host and a relay are killed at a third"),
    row("racks-uplink", run_uplink, 1.15, "one uplink at half of a host's rate: the others' median"),
    row("racks-spine", run_spine, 0, "a foreign flow for 2 s: hosts demoted", unit="hosts"),
]
