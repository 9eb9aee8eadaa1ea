#!/usr/bin/python3
"""More efficient broadcast of arrays with memmap: the notebook beside this file, as a script.

    broadcast.py [--file ipcontroller-client.json] [-n ENGINES] [--compare]

Without --file it starts a cluster of its own on this machine. Needs ipyparallel, numpy and treecast.
"""

import argparse
import contextlib
import time

import ipyparallel as ipp
import numpy as np

from treecast.ipyparallel import bcast_memmap, close, hosts


@contextlib.contextmanager
def cluster(options):
    """A client of the cluster that was named, or of a new one."""
    if options.file:
        client = ipp.Client(options.file)
        client.wait_for_engines(options.engines, timeout=120)
        yield client
    else:
        with ipp.Cluster(n=options.engines) as client:
            yield client


def timed(what, function):
    began = time.monotonic()
    value = function()
    print(f"  {what}: {time.monotonic() - began:.3f} s")
    return value


def push(client, data):
    """What everybody begins with: one copy over the wire, and in memory, for each engine."""
    client[:].push({"pushed": data}, block=True)
    client[:].execute("del pushed", block=True)


def bcast(client, data):
    """One copy for each host."""
    result = bcast_memmap(data, "data", client)
    result.wait_interactive()
    result.get()


def norms_of(client, order):
    client[:].execute("import numpy as np", block=True)
    client[:].execute(f"norm = float(np.linalg.norm(data, {order!r}))", block=True)
    return client[:]["norm"]


def run(client, data, order, compare):
    """Broadcast data, and have every engine compute its norm."""
    print(f"{data.shape[0]} x {data.shape[1]}, {data.nbytes / 2**20:g} MiB")
    if compare:
        timed("rc[:].push", lambda: push(client, data))
    timed("bcast_memmap", lambda: bcast(client, data))
    norms = timed("norms", lambda: norms_of(client, order))
    if set(norms) != {float(np.linalg.norm(data, order))}:
        raise SystemExit(f"the engines do not agree: {sorted(set(norms))}")
    print(f"{data.shape[0]} x {data.shape[1]}: {len(norms)} engines agree: {norms[0]!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", help="ipcontroller-client.json of a running cluster")
    parser.add_argument("-n", "--engines", type=int, default=16)
    parser.add_argument("--compare", action="store_true", help="push the large array too")
    options = parser.parse_args()
    with cluster(options) as client:
        for host, engines in hosts(client).items():
            print(f"{host}: {len(engines)} engines")
        data = np.random.random((1024, 1024))
        run(client, data.dot(data.T), 2, True)
        # The spectral norm of a larger one takes minutes with a plain BLAS; the Frobenius norm reads every element too.
        run(client, np.random.random((4096, 4096)), "fro", options.compare)
        close(client)


if __name__ == "__main__":
    main()
