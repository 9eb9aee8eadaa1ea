"""The users' notebook: one array into every ipyparallel engine, by treecast.ipyparallel and as people did before.

One measurement serves all rows of a cluster, so that what is compared ran side by side.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "python"))

from cluster import Cluster
from lab import Lab, LabError
from measure import median, one_copy

MIB = 1 << 20
ENGINES, ENGINES_A_HOST = 16, 2  # on one host; on each of several
WAYS = ("bcast_memmap", "push", "broadcast", "repaired")
SLOW_WAYS = ("bcast_memmap",) * 3 + WAYS[1:]  # the others take a minute each across hosts
CLIENT = os.path.join(HERE, "notebook_client.py")


def environment(treecast, home):
    kept = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("OPENBLAS_")}
    package = os.path.join(HERE, "..", "..", "contrib", "python")
    return {**kept, "TREECAST": treecast, "HOME": home, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1"}


def client(cluster, engines, size, repetitions, ways):
    return [sys.executable, CLIENT, cluster.file, str(engines), str(size // MIB), str(repetitions), *ways]


@functools.lru_cache(maxsize=None)
def on_one_host(treecast, size, repetitions):
    """Seconds by way, of engines on this machine."""
    with tempfile.TemporaryDirectory(prefix="treecast-bench-") as folder:
        with Cluster(folder, ENGINES, environment(treecast, folder)) as cluster:
            done = subprocess.run(client(cluster, ENGINES, size, repetitions, WAYS), capture_output=True, text=True,
                                  timeout=900, env=cluster.environment, check=False)
    if done.returncode != 0:
        raise LabError(f"notebook_client.py: {done.stderr[-2000:]}")
    return {**json.loads(done.stdout), "engines": ENGINES}


@functools.lru_cache(maxsize=None)
def on_hosts(treecast, size, hosts, rate, cc):
    """Seconds by way, of engines on the hosts of a lab, the client on the first of them; and one copy."""
    with tempfile.TemporaryDirectory(prefix="treecast-bench-") as folder:
        with Lab(hosts=hosts, rate_mbit=rate, cc=cc, shm_mb=64 + 4 * size // MIB) as lab:
            copy = median([one_copy(lab, size) for _ in range(3)])
            engines = ENGINES_A_HOST * hosts
            with Cluster(folder, ENGINES_A_HOST, environment(treecast, folder), lab.popen, lab.all(),
                         lab.address(0)) as cluster:
                code, output, errors = lab.run(0, client(cluster, engines, size, 1, SLOW_WAYS), timeout=1800,
                                               env=cluster.environment)
    if code != 0:
        raise LabError(f"notebook_client.py: {errors.decode(errors='replace')[-2000:]}")
    return {**json.loads(output), "engines": engines, "copy": copy}


def fill(outcome, found, values):
    outcome.values = values
    outcome.facts = {name: value for name, value in found.items() if name != "hosts"}
    outcome.notes = [", ".join(f"{name} {median(times):.3f} s" for name, times in found["seconds"].items())
                     + f"; the first call, which starts agents, {found['first']:.3f} s"]
    return outcome


def pairs(found, way):
    return zip(found["seconds"]["bcast_memmap"], found["seconds"][way])


def faster_than_push(row, repetitions, treecast, outcome):
    """How many times faster than rc[:].push."""
    found = on_one_host(treecast, row.size, repetitions)
    return fill(outcome, found, [other / ours for ours, other in pairs(found, "push")])


def beside_repaired(row, repetitions, treecast, outcome):
    """Ours digests what it brings: the share of what it may take, 1.25 times the repaired notebook or 0.2 s more."""
    found = on_one_host(treecast, row.size, repetitions)
    return fill(outcome, found, [ours / max(1.25 * other, other + 0.2) for ours, other in pairs(found, "repaired")])


def across_hosts(row, _, treecast, outcome):
    """From the call until every engine of every host has the array, over one plain copy over one link."""
    found = on_hosts(treecast, row.size, row.hosts, row.rate, row.cc)
    outcome = fill(outcome, found, [ours / found["copy"] for ours in found["seconds"]["bcast_memmap"]])
    outcome.notes.insert(0, f"one copy {found['copy']:.3f} s")
    return outcome
