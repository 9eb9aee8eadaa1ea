#!/usr/bin/python3
"""treecast.ipyparallel with 16 real engines, the example notebook and its script; one cluster for all tests.

Python and its engines are not what the sanitizers look for, and sixteen engines take their time: not run under them.
"""

import glob
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time

import world
from world import raises
from agents import SLOW, Skip, ensure, find_treecast, note, run_tests, wait_for

EXAMPLES = os.path.join(world.PACKAGE, "examples")
ENGINES = 16
cluster = client = view = None


def modules():
    """What is tested, imported where it is there."""
    try:
        import ipyparallel  # noqa: F401
        import numpy  # noqa: F401
    except ImportError as error:
        raise Skip(f"{error} (packages python3-ipyparallel, python3-numpy)") from None


def needs_cluster(function):
    def test():
        modules()
        began = time.monotonic()
        function()
        note(f"{time.monotonic() - began:.1f} s")
    test.__doc__ = function.__doc__.splitlines()[0]
    return test


def own_folders():
    return glob.glob(f"/dev/shm/treecast-{os.geteuid()}-{session()}")


def session():
    from treecast import _fleet
    return _fleet._fleets[client].session


def child_agents(pids):
    """Agents among the children of these processes, with their command lines."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
            with open(path[:-4] + "cmdline", encoding="utf-8", errors="replace") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        if parent in pids and "recv" in words:
            found[int(path.split("/")[2])] = words
    return found


@needs_cluster
def variables():
    """bcast_memmap makes the array a read-only memmap in all 16 engines: dtype, shape, order, elements and norm"""
    import numpy
    from treecast.ipyparallel import bcast_memmap, hosts
    data = numpy.random.default_rng(7).random((256, 256))
    data = data.dot(data.T)
    result = bcast_memmap(data, "data", client)
    result.wait_interactive()
    ensure(len(result.get()) == ENGINES and result.progress == ENGINES, f"{result.get()}")
    view.execute("import numpy", block=True)
    view.execute("norm = numpy.linalg.norm(data, 2); kind = type(data).__name__; sealed = not data.flags.writeable",
                 block=True)
    ensure(set(view["kind"]) == {"memmap"} and set(view["sealed"]) == {True}, f"{view['kind']} {view['sealed']}")
    ensure(set(view["norm"]) == {numpy.linalg.norm(data, 2)}, f"norms: {set(view['norm'])}")
    ensure(list(hosts(client).values()) == [list(range(ENGINES))], f"hosts: {hosts(client)}")
    other = numpy.asfortranarray(numpy.zeros((3, 4), [("x", ">f8"), ("n", "<i2")]))
    bcast_memmap(other, "odd", client, block=True)
    told = view.apply_sync(lambda: (odd.dtype.descr, odd.shape, odd.flags.f_contiguous))  # noqa: F821
    ensure(told == [(other.dtype.descr, (3, 4), True)] * ENGINES, f"{told[0]}")


@needs_cluster
def one_copy():
    """All engines map the same file in memory, and it has no name any more: nothing is left to clean up"""
    import numpy
    from treecast.ipyparallel import bcast_memmap
    bcast_memmap(numpy.arange(100000), "data", client, block=True)

    def mapped():
        address = data.__array_interface__["data"][0]  # noqa: F821
        with open("/proc/self/maps") as maps:
            for line in maps:
                begin, end = (int(word, 16) for word in line.split()[0].split("-"))
                if begin <= address < end:
                    return line.split()[3:5], line.rstrip().endswith("(deleted)")

    places = view.apply_sync(mapped)
    ensure(all(place == places[0] and place[1] for place in places), f"{places}")
    wait_for(lambda: [os.listdir(folder) for folder in own_folders()] == [[".treecast"]], "an empty directory")


@needs_cluster
def agents_and_keys():
    """One engine of the host runs the agent; its key is in no argument, environment or file; nobody else may read"""
    pids = dict(enumerate(view.apply_sync(os.getpid)))
    agents = child_agents(set(pids.values()))
    ensure(len(agents) == 1, f"{agents}")
    with open(world_key(), encoding="ascii") as file:
        group = file.read().split()[4]
    ensure(len(group) == 64, "the key's format has changed")
    ensure(stat.S_IMODE(os.stat(world_key()).st_mode) == 0o600, "the key file's mode")
    ensure(stat.S_IMODE(os.stat(os.path.dirname(world_key())).st_mode) == 0o700, "the key folder's mode")
    for pid in [*agents, *pids.values()]:
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                ensure(group.encode() not in file.read(), f"the key is in the {name} of {pid}")
    for pid, words in agents.items():
        ensure(any(word.startswith("127.0.0.1:") for word in words), f"one host needs loopback only: {words}")


def world_key():
    from treecast import _fleet
    return _fleet._fleets[client].key_file


@needs_cluster
def several():
    """push_memmap brings several arrays to the engines of a view, and to no others; keep leaves them to be attached"""
    import numpy
    from treecast.ipyparallel import push_memmap
    arrays = {"one": numpy.arange(10), "two": numpy.ones((5, 5))}
    result = push_memmap(client[2:5], arrays, block=True, keep=True)
    ensure(len(result) == 3 and set(result.refs) == {"one", "two"}, f"{result.get()}")
    there = view.apply_sync(lambda: "two" in globals())
    ensure(there == [2 <= i < 5 for i in range(ENGINES)], f"{there}")
    for name, array in arrays.items():
        ensure((result.refs[name].attach(5) == array).all(), name)
    raises(__import__("treecast").UsageError, push_memmap, client.load_balanced_view(), arrays, text="direct view")
    raises(__import__("treecast").UsageError, push_memmap, view, {"no name": arrays["one"]}, text="variable")


@needs_cluster
def failures():
    """What goes wrong is told: a program that engines do not have, an array that cannot be sent"""
    import numpy
    import treecast
    from treecast.ipyparallel import bcast_memmap
    raises(treecast.UsageError, bcast_memmap, numpy.array([{}]), "data", client, text="pointers")
    raises(treecast.UsageError, bcast_memmap, numpy.arange(3), "data", client, tree="oak", text="oak")
    bcast_memmap(numpy.arange(3), "data", client, block=True)  # and the next one works


@needs_cluster
def dead_agent():
    """An agent that was killed is started again by the next broadcast; what engines had mapped stays"""
    import numpy
    from treecast.ipyparallel import bcast_memmap
    bcast_memmap(numpy.arange(1000), "before", client, block=True)
    pids = set(view.apply_sync(os.getpid))
    for pid in child_agents(pids):
        os.kill(pid, 9)
    wait_for(lambda: all(words == [""] for words in child_agents(pids).values()), "the agent's end")
    bcast_memmap(numpy.arange(2000), "after", client, block=True)
    sums = view.apply_sync(lambda: (int(before.sum()), int(after.sum())))  # noqa: F821
    ensure(set(sums) == {(499500, 1999000)}, f"{sums}")


@needs_cluster
def script():
    """The example script: the spectral norm of 1024 x 1024, and the cheap one of 4096 x 4096, equal on all engines"""
    words = [sys.executable, os.path.join(EXAMPLES, "broadcast.py"), "--file", cluster.file]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240 * SLOW, check=False,
                          env={**cluster.environment, "TREECAST": find_treecast()})
    ensure(done.returncode == 0, done.stdout + done.stderr)
    ensure("1024 x 1024: 16 engines agree" in done.stdout, done.stdout + done.stderr)
    ensure("4096 x 4096: 16 engines agree" in done.stdout, done.stdout + done.stderr)


@needs_cluster
def notebook():
    """The example notebook: every cell of it runs, and all engines answer with the same norm

    The script has computed 1024 x 1024 already, so a smaller one will do.
    """
    with open(os.path.join(EXAMPLES, "broadcast.ipynb"), encoding="utf-8") as file:
        cells = [cell for cell in json.load(file)["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    ensure(sum("sz = 1024" in source for source in sources) == 1, "the notebook's size has changed")
    sources = [source.replace("sz = 1024", "sz = 256") for source in sources]
    program = os.path.join(cluster.folder, "cells.py")
    with open(program, "w", encoding="utf-8") as file:
        file.write("import sys\nfrom IPython.core.interactiveshell import InteractiveShell\n"
                   "shell = InteractiveShell.instance()\n"
                   f"for cell in {sources!r}:\n"
                   "    shell.run_cell(cell).raise_error()\n"
                   "print('norms:', set(shell.user_ns['norms']))\n")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=240 * SLOW, check=False,
                          env={**cluster.environment, "TREECAST": find_treecast()})
    ensure(done.returncode == 0, done.stdout + done.stderr)
    said = [line for line in done.stdout.splitlines() if line.startswith("norms: {")]
    ensure(said and said[0].count(",") == 0, done.stdout[-2000:])


@needs_cluster
def cleans_up():
    """close ends agents and directories; what engines have mapped stays theirs; a broadcast after it begins anew"""
    import numpy
    from treecast.ipyparallel import bcast_memmap, close
    bcast_memmap(numpy.arange(1000), "data", client, keep=True, block=True)
    folders, key = own_folders(), os.path.dirname(world_key())
    ensure(folders, "no directory to clean up")
    pids = set(view.apply_sync(os.getpid))
    close(client)
    ensure(not child_agents(pids), f"{child_agents(pids)}")
    ensure(not any(map(os.path.exists, folders)) and not os.path.exists(key), "directories are left")
    ensure(set(view.apply_sync(lambda: int(data.sum()))) == {499500}, "what was mapped is gone")  # noqa: F821
    bcast_memmap(numpy.arange(10), "data", client, block=True)
    ensure(set(view.apply_sync(lambda: int(data.sum()))) == {45}, "after close")  # noqa: F821


@needs_cluster
def agents_that_are_there():
    """With key_file= the agents that run already in the default directories are used, and no other is started"""
    import numpy
    from treecast.ipyparallel import bcast_memmap, close
    close(client)
    key, pids = os.path.join(cluster.folder, "job.key"), set(view.apply_sync(os.getpid))
    program = find_treecast()
    subprocess.run([program, "keygen", key], check=True, capture_output=True)
    with subprocess.Popen([program, "recv", "-q", "-k", key, "-l", "127.0.0.1:0", "-d",
                           cluster.environment["TREECAST_DIR"]], stdout=subprocess.PIPE, text=True) as agent:
        try:
            address = agent.stdout.readline().split()[2].rstrip(",")
            result = bcast_memmap(numpy.arange(1000), "data", client, key_file=key, block=True)
            ensure([host["host"] for host in result.ref.report["hosts"]] == [address], f"{result.ref.report}")
            ensure(set(view.apply_sync(lambda: int(data.sum()))) == {499500}, "elements")  # noqa: F821
            ensure(not child_agents(pids), f"another agent: {child_agents(pids)}")
            close(client)
            ensure(agent.poll() is None, "somebody else's agent was ended")
        finally:
            agent.terminate()
    bcast_memmap(numpy.arange(10), "data", client, block=True)  # its own again


@needs_cluster
def killed_engines():
    """Engines that are killed take their agent with them, and the directory goes when the next session begins there"""
    from treecast import _fleet
    folder, pids = own_folders()[0], view.apply_sync(os.getpid)
    agents = list(child_agents(set(pids)))
    for pid in pids:
        os.kill(pid, 9)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in agents), "the agent's end", timeout=20)
    os.utime(folder, (1, 1))  # as if it were old
    _fleet._remove_left_overs()
    ensure(not os.path.exists(folder), "the directory is still there")


TESTS = [variables, one_copy, agents_and_keys, several, failures, dead_agent, script, notebook, cleans_up,
         agents_that_are_there, killed_engines]


def main():
    global cluster, client, view
    try:
        modules()
    except Skip:
        run_tests(*TESTS)
    from cluster import Cluster
    folder = tempfile.mkdtemp(prefix="treecast-engines-")
    environment = {name: value for name, value in os.environ.items()
                   if name in ("PATH", "TREECAST") or name.startswith("OPENBLAS_")}  # what numpy needs to be right here
    environment.update(HOME=folder, TREECAST_DIR=os.path.join(folder, "arrays"), PYTHONPATH=world.PACKAGE,
                       PYTHONDONTWRITEBYTECODE="1")
    try:
        with Cluster(folder, ENGINES, environment) as cluster:
            client = cluster.client(timeout=180)
            view = client[:]
            run_tests(*TESTS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
