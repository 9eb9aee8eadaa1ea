"""Rows in which hosts go wrong: what it costs the others, in copies and against the undisturbed run.

Host 1 is the head of one tree and host 2 of the other; hosts with odd numbers relay in the first tree, those with even
ones in the second, the low numbers near the root.
"""

from dataclasses import dataclass

from cast import SOURCE, Cast, random_bytes
from harm import Harm, broadcast, others, replans
from measure import Steal, median
from rows import MIB, NAME, Outcome, Row, lab_for, measured_copy


@dataclass(frozen=True)
class FaultRow(Row):
    harmed: tuple = ()
    way: object = None
    after: object = None    # None: from the beginning; else the part of the array that is out by then
    patience: float = 0     # copies after which the broadcast ends without the slow ones; 0: it waits for them


def undisturbed(row, lab, folder, treecast):
    with Cast(lab, treecast, folder) as cast:
        sent = cast.send(SOURCE, NAME, *row.options(), timeout=600).require_success()
        return sent.completions[-1], replans(sent)


def harmed(row, lab, folder, treecast, copy):
    with Cast(lab, treecast, folder) as cast:
        harm = Harm(row.harmed, row.way, row.after)
        ends = ["--deadline", f"{row.patience * copy:.0f}"] if row.patience else []
        machine = Steal()
        sent = broadcast(cast, SOURCE, NAME, row.size, harm, "--min-hosts", str(row.hosts - 1 - len(row.harmed)),
                         *ends, *row.options())
        sent.idle = machine.idle_percent()
        return others(cast, sent, harm), sent


def run_harmed(row, repetitions, treecast):
    """Until the last host that was not harmed is whole, from the start of the transfer: in copies and in times of the
    undisturbed run just before; the row's unit says which of them is held to its bound ("x": the latter)."""
    outcome = Outcome()
    notes, base, last = [], [], []
    with lab_for(row) as (lab, folder):
        copy = measured_copy(lab, row.size)
        random_bytes(lab.path(0, SOURCE), row.size)
        for _ in range(repetitions):
            seconds, plain_replans = undisturbed(row, lab, folder, treecast)
            base.append(seconds)
            times, sent = harmed(row, lab, folder, treecast, copy)
            last.append(times[-1])
            notes.append(f"others whole after {median(times):.2f} s (median), {times[-1]:.2f} s (last), undisturbed "
                         f"{seconds:.2f} s ({plain_replans}); {sent.idle:.0f}% idle; {replans(sent)}")
    ratios = {"copies": [seconds / copy for seconds in last], "x": [a / b for a, b in zip(last, base)]}
    outcome.values = ratios[row.unit]
    outcome.facts = {"copy": copy, "undisturbed": base, "copies": ratios["copies"], "times_undisturbed": ratios["x"]}
    other = "copies" if row.unit == "x" else "x"
    outcome.notes = [f"one copy {copy:.3f} s; {BESIDE[other]}: median {median(ratios[other]):.3f} "
                     f"({' '.join(f'{value:.3g}' for value in ratios[other])})", *notes]
    return outcome


BESIDE = {"copies": "in copies", "x": "against the undisturbed run"}


def row(name, harmed_hosts, way, bound, about, size=64 * MIB, **more):
    return FaultRow(name, run_harmed, 24, 100, size, tree="double", bound=bound, about=about, harmed=harmed_hosts,
                    way=way, **more)


THIRD = 1 / 3
SILENCE = 5 / 5.6  # copies of 64 MiB that a silent death may cost until it is noticed

FAULT_ROWS = [
    row("dead-one", (3,), Harm.kill, 1.3, "a relay is killed at a third", after=THIRD),
    row("dead-three", (1, 4, 9), Harm.kill, 1.6, "three relays are killed, one the first host of a tree", after=THIRD),
    row("dead-quarter", (1, 4, 9, 12, 15, 22), Harm.kill, 1.6, "a quarter of all hosts is killed at once", after=THIRD),
    row("dead-silent", (1, 4, 9), Harm.cut, 1.6 + SILENCE, "the same three lose their links in silence", after=THIRD),
    row("frozen-three", (1, 4, 9), Harm.freeze, 1.6 + SILENCE, "the same three stop", after=THIRD),
    row("slow-head", (1,), Harm.slow_link, 1.5, "the first host of a tree has a tenth of the speed", size=48 * MIB),
    row("slow-relay", (5,), Harm.slow_link, 1.5, "a relay has a tenth of the speed", size=48 * MIB),
    row("slow-leaf", (23,), Harm.slow_link, 1.25, "a late host has a tenth of the speed", size=48 * MIB),
    *(row(name, (host,), way, 1.10, f"{about}, an array of 20 s", size=240 * MIB, unit="x", worst=1.25,
          patience=1.5)
      for name, host, way, about in [
          ("slow-long", 1, Harm.slow_link, "the first host of a tree has a tenth of the speed"),
          ("slow-long-relay", 5, Harm.slow_link, "a relay has a tenth of the speed"),
          ("slow-long-leaf", 23, Harm.slow_link, "a late host has a tenth of the speed"),
          ("slow-out", 2, Harm.slow_out, "what leaves the first host of a tree has a tenth of the speed"),
          ("slow-out-relay", 5, Harm.slow_out, "what leaves a relay has a tenth of the speed"),
          ("slow-disk", 1, Harm.slow_disk, "the first host of a tree has a slow disk"),
          ("slow-disk-relay", 3, Harm.slow_disk, "a relay has a slow disk"),
          ("slow-cpu", 3, Harm.starve, "a relay gets hardly any CPU"),
          ("slow-cpu-head", 1, Harm.starve, "the first host of a tree gets hardly any CPU"),
      ]),
]
