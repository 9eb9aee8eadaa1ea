#!/usr/bin/python3
"""Bring an array to all engines of a cluster in several ways, on the client's host; the seconds of each as JSON.

    notebook_client.py CONNECTION ENGINES MIB REPETITIONS WAY ...

Ways: bcast_memmap; push (rc[:].push); broadcast (the broadcast view's); repaired (the users' notebook with what was
wrong in it mended: a .npy file is made on each host, from the client's push to one engine of it, and mapped as such).
"""

import json
import os
import sys
import time

import ipyparallel as ipp
import numpy as np

from treecast.ipyparallel import bcast_memmap, close, hosts


def array_to_file(array):
    """A temporary .npy file in memory."""
    import tempfile
    import numpy
    with tempfile.NamedTemporaryFile(suffix=".npy", dir="/dev/shm", delete=False) as file:
        numpy.save(file, array)
    return file.name


@ipp.interactive
def load_memmap(name, path):
    import numpy
    globals()[name] = numpy.load(path, mmap_mode="r")


def repaired(client, data, host_engines, here):
    """The notebook's bcast_memmap; the files go afterwards."""
    pushed = {host: client[engines[0]].apply_async(array_to_file, data) for host, engines in host_engines.items()
              if host != here}
    files = {here: array_to_file(data)} if here in host_engines else {}
    files.update((host, result.get()) for host, result in pushed.items())
    loaded = [client[engines].apply_async(load_memmap, "data", files[host]) for host, engines in host_engines.items()]
    for result in loaded:
        result.get()
    for host, engines in host_engines.items():
        client[engines[0]].apply_async(os.unlink, files[host])


def ways(client):
    host_engines, here = hosts(client), os.uname().nodename
    return {
        "bcast_memmap": lambda data: bcast_memmap(data, "data", client, block=True),
        "push": lambda data: client[:].push({"data": data}, block=True),
        "broadcast": lambda data: client.broadcast_view().push({"data": data}, block=True),
        "repaired": lambda data: repaired(client, data, host_engines, here),
    }


def check(client, data):
    """Every engine has these elements, as an array of this kind."""
    client[:].execute("import numpy; norm = float(numpy.linalg.norm(data)), data.dtype.str, data.shape", block=True)
    found = set(client[:]["norm"])
    if found != {(float(np.linalg.norm(data)), data.dtype.str, data.shape)}:
        raise SystemExit(f"the engines do not agree: {found}")


def main():
    connection, engines, size, repetitions, *names = sys.argv[1:]
    client = ipp.Client(connection, timeout=60)
    client.wait_for_engines(int(engines), timeout=120)
    known = ways(client)
    generator = np.random.default_rng(2009)
    small = generator.random(1000)
    began = time.monotonic()
    bcast_memmap(small, "data", client, block=True, small=0)
    first = time.monotonic() - began  # agents are started now
    seconds = {name: [] for name in names}
    for _ in range(int(repetitions)):
        for name in names:
            data = generator.random((int(size) << 20) // 8).reshape(-1, 1024)
            began = time.monotonic()
            known[name](data)
            seconds[name].append(time.monotonic() - began)
            check(client, data)
            client[:].execute("del data", block=True)
    found = {"hosts": hosts(client), "first": first, "seconds": seconds}
    close(client)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
