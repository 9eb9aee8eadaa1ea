#!/usr/bin/python3
"""treecast.dask with Debian's distributed: two worker processes; one cluster for all tests. Not under sanitizers."""

import json
import os
import pickle
import subprocess
import sys
import tempfile

import world
from world import raises
from agents import Skip, ensure, run_tests, wait_for

# Before distributed is imported: workers inherit it.
os.environ["PYTHONPATH"] = world.PACKAGE
os.environ["OPENBLAS_NUM_THREADS"] = "1"

client = None


def modules():
    try:
        import distributed  # noqa: F401
        import numpy  # noqa: F401
    except ImportError as error:
        raise Skip(f"{error} (packages python3-distributed, python3-numpy)") from None


def needs_cluster(function):
    def test():
        modules()
        function()
    test.__doc__ = function.__doc__
    return test


def total(ref):
    array = ref.attach(30)
    return os.getpid(), type(array).__name__, float(array.sum())


def same_object(ref):
    return ref.attach(30) is ref.attach(30)


@needs_cluster
def in_tasks():
    """A Ref goes into submitted tasks; every worker process maps the array itself"""
    import numpy
    from treecast.dask import bcast
    array = numpy.random.default_rng(3).random((1000, 500))
    ref = bcast(array, client, "field")
    ensure(ref.name.startswith("field-") and len(pickle.dumps(ref)) < 300, f"{ref!r}")
    workers = list(client.scheduler_info()["workers"])
    found = client.gather([client.submit(total, ref, workers=[worker], pure=False) for worker in workers])
    ensure(len({pid for pid, _, _ in found}) == len(workers) == 2, f"{found}")
    ensure({(kind, value) for _, kind, value in found} == {("memmap", float(array.sum()))}, f"{found}")
    ensure(client.submit(same_object, ref).result(), "a process maps it more than once")


@needs_cluster
def in_graphs():
    """In delayed graphs a Ref stands for the array, and travels as a Ref: a graph stays small whatever the array"""
    import dask
    import numpy
    from treecast.dask import attach, bcast
    array = numpy.random.default_rng(4).random((2000, 1000))
    ref = bcast(array, client)
    norm = dask.delayed(numpy.linalg.norm)(ref)
    rows = [dask.delayed(lambda part, row: float(attach(part)[row].sum()))(ref, row) for row in range(10)]
    ensure(float(norm.compute()) == float(numpy.linalg.norm(array)), "norm")
    ensure(list(dask.compute(*rows)) == [float(array[row].sum()) for row in range(10)], "rows")
    ensure(len(pickle.dumps(norm.dask.to_dict())) < 2000, f"{len(pickle.dumps(norm.dask.to_dict()))} bytes of graph")


@needs_cluster
def by_content():
    """Refs hash by content: the same array sent twice makes the same keys, another array other ones"""
    import numpy
    from dask.base import tokenize
    from treecast.dask import bcast
    array = numpy.arange(5000.0)
    kept = set(os.listdir(bcast(array * 0, client).dir))
    one, again, other = bcast(array, client), bcast(array.copy(), client), bcast(array + 1, client)
    ensure(one.name == again.name and tokenize(one) == tokenize(again), "the same content")
    wait_for(lambda: len(set(os.listdir(one.dir)) - {".treecast"} - kept) == 2, "one file for each content")
    ensure(tokenize(one) != tokenize(other), "other content")
    first, second = client.submit(total, one), client.submit(total, again)
    ensure(first.key == second.key != client.submit(total, other).key, "keys of tasks")


@needs_cluster
def time_limits():
    """Ref.attach and numpy's use of a Ref end in time where there is no such array, with an error that names it"""
    import numpy
    import treecast
    from treecast import _ref
    ensure(_ref.Ref.attach.__defaults__[0] == _ref.ATTACH_SECONDS == 60, f"{_ref.Ref.attach.__defaults__}")
    kept, _ref.ATTACH_SECONDS = _ref.ATTACH_SECONDS, 0.05
    try:
        error = raises(treecast.DeadlineError, numpy.asarray, treecast.Ref("nobody.npy"), text="nobody.npy")
        ensure("0.05 s" in str(error), f"{error}")
    finally:
        _ref.ATTACH_SECONDS = kept


@needs_cluster
def removes():
    """remove takes an array from every host; who has it mapped keeps it, and it can be sent again"""
    import numpy
    from treecast.dask import bcast, remove
    ref = bcast(numpy.arange(70000), client)
    mapped = ref.attach(5)
    remove(ref, client)
    ensure(ref.name not in os.listdir(ref.dir) and mapped[7] == 7, f"{os.listdir(ref.dir)}")
    remove(ref, client)
    again = bcast(numpy.arange(70000), client)
    ensure(again.name != ref.name and client.submit(total, again).result()[2] == float(mapped.sum()), "again")


@needs_cluster
def outlives_workers():
    """The agent outlives the worker that started it, killed or restarted, and arrays with it"""
    import numpy
    from treecast.dask import bcast
    ref = bcast(numpy.arange(80000), client)
    with open(f"{ref.dir}.keeper", encoding="ascii") as file:
        keeper = json.load(file)["pid"]
    for pid in client.run(os.getpid).values():
        os.kill(pid, 9)
    wait_for(lambda: len(client.scheduler_info()["workers"]) == 2 and keeper, "other workers", timeout=60)
    found = client.submit(total, ref, pure=False).result(timeout=60)
    ensure(found[2] == float(numpy.arange(80000).sum()), f"{found}")
    os.kill(keeper, 0)
    ensure(bcast(numpy.arange(80000), client).name == ref.name, "stored again")


@needs_cluster
def joins_later():
    """A worker that joins later on another host gets the arrays that were sent before it came"""
    import numpy
    from treecast.dask import bcast
    if os.geteuid() != 0:
        raise Skip("another host is a mount namespace, which needs root")
    refs = [bcast(numpy.arange(90000) + number, client, f"early{number}") for number in range(2)]
    script = ("mount --make-rprivate / && mount -t tmpfs tmpfs /dev/shm && "
              f"exec {sys.executable} -m distributed.cli.dask_worker {client.scheduler.address} --no-nanny "
              "--nthreads 1 --no-dashboard --name later")
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "wb") as log:
        worker = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], cwd=folder, stdout=log, stderr=log)
        try:
            wait_for(lambda: any(one["name"] == "later" for one in client.scheduler_info()["workers"].values()),
                     "the worker", timeout=60)
            place = next(address for address, one in client.scheduler_info()["workers"].items()
                         if one["name"] == "later")
            ensure(client.run(os.path.exists, refs[0].dir, workers=[place])[place] in (False, True), "it answers")
            for number, ref in enumerate(refs):
                pid, kind, value = client.submit(total, ref, workers=[place], pure=False).result(timeout=90)
                ensure(value == float((numpy.arange(90000) + number).sum()) and kind == "memmap", f"{value}")
            late = bcast(numpy.arange(100), client)
            ensure(client.submit(total, late, workers=[place], pure=False).result(timeout=60)[2] == 4950, "the next")
        finally:
            worker.terminate()
            worker.wait(30)
    wait_for(lambda: len(client.scheduler_info()["workers"]) == 2, "its end", timeout=60)


@needs_cluster
def cleans_up():
    """close ends the agent and removes what is published; without workers nothing is sent"""
    import numpy
    import treecast
    from treecast import _fleet
    from treecast.dask import bcast, close
    ref = bcast(numpy.arange(1000), client)
    kept = ref.attach(5)
    key = _fleet._fleets[client].key_file
    ensure(os.path.isdir(ref.dir) and os.path.exists(key), "nothing to clean up")
    close(client)
    ensure(not os.path.exists(ref.dir) and not os.path.exists(key), "left behind")
    ensure(kept.sum() == 499500, "what was mapped is gone")
    client.cluster.scale(0)
    wait_for(lambda: not client.scheduler_info()["workers"], "the workers' end", timeout=60)
    raises(treecast.UsageError, bcast, kept, client, text="no workers")


TESTS = [in_tasks, in_graphs, by_content, time_limits, removes, outlives_workers, joins_later, cleans_up]


def main():
    global client
    try:
        modules()
    except Skip:
        run_tests(*TESTS)
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            run_tests(*TESTS)


if __name__ == "__main__":
    main()
