#!/usr/bin/python3
"""What a broadcast costs, on a cluster of network namespaces on this machine.

Prints one line a row: the median of the repetitions, its bound (and that of each one), the share of the machine's time
that was stolen meanwhile (above a few percent a result says more about the neighbours), whether the bounds hold, and all
values. The unit "copies" is the time of one plain TCP stream of the same bytes over one link of the same lab.

Exits 0 when every bound holds, 1 when one does not or a row failed, 2 on wrong use, 77 when there can be no lab here.
"""

import argparse
import datetime
import fnmatch
import json
import os
import platform
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lab"))

from lab import Lab, LabError, Skip
from measure import median
from rows import GIB, KIB, MIB, ROWS, run_row
from rows_faults import FAULT_ROWS
from rows_racks import RACK_ROWS

ALL = [*ROWS, *FAULT_ROWS, *RACK_ROWS]
LINE = "{:<18} {:>5} {:>6} {:>8} {:<8} {:<5} {:>8} {:<6} {:>13} {:>6}  {:<6} {}"


def arguments():
    parser = argparse.ArgumentParser(description="Measure treecast on a cluster of network namespaces.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names or patterns (main*); default: all")
    parser.add_argument("-r", "--repetitions", type=int, default=5, metavar="N", help="of each row (default 5)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write all results there as JSON")
    parser.add_argument("-t", "--treecast", metavar="PROGRAM", default=os.environ.get("TREECAST") or "treecast",
                        help="program to measure (default $TREECAST, else ./treecast)")
    parser.add_argument("-l", "--list", action="store_true", help="name the rows and stop")
    options = parser.parse_args()
    if options.repetitions < 1:
        parser.error("at least one repetition")
    options.chosen = [row for row in ALL if not options.rows
                      or any(fnmatch.fnmatchcase(row.name, pattern) for pattern in options.rows)]
    for pattern in options.rows:
        if not fnmatch.filter([row.name for row in ALL], pattern):
            parser.error(f"no row {pattern}; --list names them")
    return options


def size_text(size):
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return "-" if size == 0 else f"{size} B"


def bound_text(row):
    each = "" if row.worst is None else f" ({row.worst:g})"
    return "-" if row.bound is None else f"{'>=' if row.at_least else '<='} {row.bound:g}{each}"


def program(path):
    """The program's absolute path and version; LabError when it cannot be run."""
    path = os.path.abspath(path)
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        raise LabError(f"no program {path}: build it first (make), or give --treecast or TREECAST")
    said = subprocess.run([path, "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if said.returncode != 0:
        raise LabError(f"{path} -V ended with {said.returncode}: {said.stderr.strip()}")
    return path, said.stdout.splitlines()[0]


def measure(row, options, path):
    """Run a row, print it, return what goes into the JSON file."""
    record = {"name": row.name, "about": row.about, "hosts": row.hosts, "rate_mbit": row.rate, "bytes": row.size,
              "tree": row.tree, "cc": row.cc, "unit": row.unit, "bound": row.bound, "worst": row.worst,
              "moved": row.moved, "at_least": row.at_least}
    head = [row.name, row.hosts, row.rate or "-", size_text(row.size), row.tree, row.cc]
    try:
        outcome = run_row(row, options.repetitions, path)
    except (LabError, Skip, OSError) as error:
        print(LINE.format(*head, "-", row.unit, bound_text(row), "-", "FAILED", ""))
        print(f"    {error}", flush=True)
        return {**record, "verdict": "failed", "error": str(error)}
    value = median(outcome.values)
    verdict = {None: "-", True: "pass", False: "MISSED"}[row.holds(outcome)]
    values = " ".join(f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in outcome.values)
    print(LINE.format(*head, f"{value:.3f}" if value < 100 else f"{value:.0f}", row.unit, bound_text(row),
                      f"{outcome.steal:.1f}", verdict, values))
    for text in outcome.notes:
        print(f"    {text}")
    sys.stdout.flush()
    return {**record, "median": value, "values": outcome.values, "steal_percent": outcome.steal,
            "verdict": verdict.strip("-").lower() or "reported", **outcome.facts}


def write_results(options, version, records):
    results = {"schema": 1, "program": version, "date": datetime.datetime.now().astimezone().isoformat("T", "seconds"),
               "kernel": platform.release(), "cores": os.cpu_count(), "rows": records}
    with open(options.output, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


def main():
    options = arguments()
    if options.list:
        for row in options.chosen:
            print(f"{row.name:<18} {row.hosts:>3} hosts  {bound_text(row):>13} {row.unit:<7} {row.about}")
        return 0
    try:
        path, version = program(options.treecast)
        with Lab(hosts=1):
            pass
    except Skip as reason:
        print(f"bench: skipped: {reason}", file=sys.stderr)
        return 77
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(f"{version}, {os.cpu_count()} cores, Linux {platform.release()}, {options.repetitions} repetitions")
    print(LINE.format("row", "hosts", "Mbit/s", "size", "tree", "cc", "median", "unit", "bound", "steal%", "result",
                      "values"), flush=True)
    records = []
    for row in options.chosen:
        records.append(measure(row, options, path))
        if options.output:
            write_results(options, version, records)
    bad = [record["name"] for record in records if record["verdict"] in ("missed", "failed")]
    print(f"bounds missed or rows failed: {', '.join(bad)}" if bad else "every bound holds")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
