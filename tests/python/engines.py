#!/usr/bin/python3
"""treecast.ipyparallel with 16 real engines, the example notebook and its script; one cluster for all tests.

Python and its engines are not what the sanitizers look for, and sixteen engines take their time: not run under them.
"""

import contextlib
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


def bcast_memmap(*words, small=0, **options):
    """By treecast, however small."""
    from treecast.ipyparallel import bcast_memmap as bcast
    return bcast(*words, small=small, **options)


def own_folders():
    return glob.glob(f"/dev/shm/treecast-{os.geteuid()}-{session()}")


def session():
    from treecast import _fleet
    return _fleet._fleets[client].session


def own_agents():
    """Agents of this client's session, with their command lines."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        if "recv" in words and any(word.endswith(f"-{session()}") for word in words):
            found[int(path.split("/")[2])] = words
    return found


@needs_cluster
def variables():
    """bcast_memmap makes the array a read-only memmap in all 16 engines: dtype, shape, order, elements and norm"""
    import numpy
    from treecast.ipyparallel import hosts
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
    bcast_memmap(numpy.arange(100000), "data", client, block=True)

    def mapped():
        address = data.__array_interface__["data"][0]  # noqa: F821
        with open("/proc/self/maps") as maps:
            for line in maps:
                begin, end = (int(word, 16) for word in line.split()[0].split("-"))
                if begin <= address < end:
                    return line.split()[3:5], line.rstrip().endswith("(deleted)")

    wait_for(lambda: [os.listdir(folder) for folder in own_folders()] == [[".treecast"]], "an empty directory")
    places = view.apply_sync(mapped)
    ensure(all(place == places[0] and place[1] for place in places), f"{places}")


@needs_cluster
def agents_and_keys():
    """One engine of the host runs the agent; its key is in no argument, environment or file; nobody else may read"""
    pids = dict(enumerate(view.apply_sync(os.getpid)))
    agents = own_agents()
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
    result = push_memmap(client[2:5], arrays, block=True, keep=True, small=0)
    ensure(len(result) == 3 and set(result.refs) == {"one", "two"}, f"{result.get()}")
    there = view.apply_sync(lambda: "two" in globals())
    ensure(there == [2 <= i < 5 for i in range(ENGINES)], f"{there}")
    for name, array in arrays.items():
        ensure((result.refs[name].attach(5) == array).all(), name)
    raises(__import__("treecast").UsageError, push_memmap, client.load_balanced_view(), arrays, text="direct view")
    raises(__import__("treecast").UsageError, push_memmap, view, {"no name": arrays["one"]}, text="variable")


def busy_until(path):
    import os
    import time
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)


@needs_cluster
def busy_engine():
    """One busy engine holds up nobody, whether it was there before or is new: its neighbours have the array, it later"""
    import numpy
    from treecast.ipyparallel import close
    for number, fresh in enumerate((True, False)):
        if fresh:
            close(client)
        gate, array = os.path.join(cluster.folder, f"gate{number}"), numpy.arange(1 << 18) + number
        busy = client[0].apply_async(busy_until, gate)
        result = bcast_memmap(array, "data", client)
        later = client[1:].apply_async(lambda: int(data[5]) if "data" in globals() else None)  # noqa: F821
        found = later.get(30)
        wait_for(lambda: set(client[1:].apply(lambda: int(data[5])).get(30)) == {5 + number},  # noqa: F821
                 f"the others' array ({found})", timeout=30)
        ensure(not result.ready() and not busy.ready(), "not busy any more")
        raises(__import__("ipyparallel").error.TimeoutError, result.get, 0.01)
        open(gate, "w", encoding="ascii").close()
        ensure(len(result.get(30)) == ENGINES and result.successful(), f"{result.get()}")
        ensure(client[0].apply_sync(lambda: int(data[5])) == 5 + number, "the busy one")  # noqa: F821
        wait_for(lambda: [os.listdir(folder) for folder in own_folders()] == [[".treecast"]], "an empty directory")


@needs_cluster
def at_once():
    """Without block it returns at once, in the order of calls all the same; a bar counts bytes"""
    import io
    import numpy
    arrays = [numpy.zeros(16 << 20), numpy.ones(16 << 20)]
    began = time.monotonic()
    results = [bcast_memmap(array, "data", client) for array in arrays]
    results.append(bcast_memmap(numpy.full(5, 7.0), "data", client, small=1000))
    returned = time.monotonic() - began
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        results[1].wait_interactive()
    for result in results:
        result.get(60)
    took = time.monotonic() - began
    note(f"returned after {returned:.3f} of {took:.3f} s")
    ensure(returned < took / 4, f"it has waited: {returned} of {took} s")
    ensure(set(view.apply_sync(lambda: (len(data), float(data[0])))) == {(5, 7.0)}, "order")  # noqa: F821
    ensure("128M/128M" in said.getvalue() and f"{ENGINES}/{ENGINES} engines" in said.getvalue(), said.getvalue()[-300:])
    ensure(results[0].elapsed > 0 and len(results[0].metadata) == ENGINES, "as an AsyncResult")


@needs_cluster
def small_ones():
    """Arrays below 1 MiB go by ipyparallel's push, the same values, and start no agent; larger beside them do not"""
    import numpy
    from treecast.ipyparallel import close, push_memmap
    close(client)
    arrays = {f"small{i}": numpy.arange(100 * (i + 1)) for i in range(50)}
    result = push_memmap(view, arrays, block=True)
    sums = view.apply_sync(lambda: [int(globals()[f"small{i}"].sum()) for i in range(50)])
    ensure(sums == [[int(array.sum()) for array in arrays.values()]] * ENGINES, "other values")
    ensure(result.ref is None and result.refs == {}, "a ref to nothing")
    result = push_memmap(view, {"tiny": numpy.arange(3), "large": numpy.arange(1 << 18)}, block=True)
    ensure(set(result.refs) == {"large"}, f"{result.refs}")
    ensure(set(view.apply_sync(lambda: (type(tiny).__name__, type(large).__name__))) ==  # noqa: F821
           {("ndarray", "memmap")}, "kinds")


@needs_cluster
def odd_calls():
    """A str is refused, so are keywords as variables; single engines and slices are views like any other"""
    import numpy
    import treecast
    from treecast.ipyparallel import push_memmap
    for name in ("class", "lambda", "None", "1st", "a b", 7):
        raises(treecast.UsageError, push_memmap, view, {name: numpy.arange(3)}, text="variable")
    for data in ("table.npy", __import__("pathlib").Path("table.npy")):
        raises(treecast.UsageError, bcast_memmap, data, "data", client, text="is no array")
    raises(treecast.UsageError, bcast_memmap, numpy.ma.masked_array([1.0], [1]), "data", client, text="mask")
    for part, engines in ((client[3], [3]), (client[::5], [0, 5, 10, 15]), (client[[1, 2]], [1, 2])):
        array = numpy.arange(100) * len(engines)
        bcast_memmap(array, "piece", part, block=True)
        found = view.apply_sync(lambda: int(piece[1]) if "piece" in globals() else 0)  # noqa: F821
        ensure([i for i in range(ENGINES) if found[i] == len(engines)] == engines, f"{engines}: {found}")


@needs_cluster
def failures():
    """What goes wrong is told: a program that engines do not have, an array that cannot be sent"""
    import numpy
    import treecast
    raises(treecast.UsageError, bcast_memmap, numpy.array([{}]), "data", client, text="pointers")
    raises(treecast.UsageError, bcast_memmap, numpy.arange(3), "data", client, tree="oak", block=True, text="oak")
    bcast_memmap(numpy.arange(3), "data", client, block=True)  # and the next one works


@needs_cluster
def dead_agent():
    """An agent that was killed is started again by the next broadcast; what engines had mapped stays"""
    import numpy
    bcast_memmap(numpy.arange(1000), "before", client, block=True)
    for pid in own_agents():
        os.kill(pid, 9)
    wait_for(lambda: not own_agents(), "the agent's end")
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
    from treecast.ipyparallel import close
    bcast_memmap(numpy.arange(1000), "data", client, keep=True, block=True)
    folders, key = own_folders(), os.path.dirname(world_key())
    ensure(folders, "no directory to clean up")
    agents = own_agents()
    ensure(agents, "no agent")
    close(client)
    ensure(not any(os.path.exists(f"/proc/{pid}") for pid in agents), f"{agents}")
    ensure(not any(map(os.path.exists, folders)) and not glob.glob(f"{folders[0]}*") and not os.path.exists(key), "directories are left")
    ensure(set(view.apply_sync(lambda: int(data.sum()))) == {499500}, "what was mapped is gone")  # noqa: F821
    bcast_memmap(numpy.arange(10), "data", client, block=True)
    ensure(set(view.apply_sync(lambda: int(data.sum()))) == {45}, "after close")  # noqa: F821


@needs_cluster
def agents_that_are_there():
    """With key_file= the agents that run already in the default directories are used, and no other is started"""
    import numpy
    from treecast.ipyparallel import close
    close(client)
    key = os.path.join(cluster.folder, "job.key")
    program = find_treecast()
    subprocess.run([program, "keygen", key], check=True, capture_output=True)
    with subprocess.Popen([program, "recv", "-q", "-k", key, "-l", "127.0.0.1:0", "-d",
                           cluster.environment["TREECAST_DIR"]], stdout=subprocess.PIPE, text=True) as agent:
        try:
            address = agent.stdout.readline().split()[2].rstrip(",")
            result = bcast_memmap(numpy.arange(1000), "data", client, key_file=key, block=True)
            ensure([host["host"] for host in result.ref.report["hosts"]] == [address], f"{result.ref.report}")
            ensure(set(view.apply_sync(lambda: int(data.sum()))) == {499500}, "elements")  # noqa: F821
            ensure(not own_agents(), f"another agent: {own_agents()}")
            close(client)
            ensure(agent.poll() is None, "somebody else's agent was ended")
        finally:
            agent.terminate()
    bcast_memmap(numpy.arange(10), "data", client, block=True)  # its own again


KILLED_CLIENT = """
import os, sys, numpy, ipyparallel
from treecast.ipyparallel import bcast_memmap
client = ipyparallel.Client(sys.argv[1], timeout=30)
result = bcast_memmap(numpy.arange(1 << 18), "orphan", client, keep=True, block=True)
print(result.ref.dir, flush=True)
sys.stdin.read()
"""


@needs_cluster
def killed_client():
    """An agent ends with its client, however that ends, and what was published goes; what is mapped stays"""
    with subprocess.Popen([sys.executable, "-c", KILLED_CLIENT, cluster.file], stdin=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE, env={**cluster.environment, "TREECAST": find_treecast()}) as process:
        folder = process.stdout.readline().strip()
        ensure(os.path.isdir(folder) and len(os.listdir(folder)) == 2, f"{folder!r} is not published in")
        process.kill()
    wait_for(lambda: not glob.glob(f"{folder}*"), "the end of the directory")
    ensure(set(view.apply_sync(lambda: int(orphan[7]))) == {7}, "what was mapped is gone")  # noqa: F821


@needs_cluster
def outsiders():
    """Who does not know the key neither holds nor ends an agent, however many they are, and keeps no client out"""
    import socket
    import numpy
    from treecast import _fleet, _keeper
    bcast_memmap(numpy.arange(10), "data", client, block=True)
    with open(f"{own_folders()[0]}.keeper", encoding="ascii") as file:
        address = json.load(file)["keeper"]
    with open(world_key(), encoding="ascii") as file:
        key = file.read()
    before = own_agents()
    place = (address.rpartition(":")[0], int(address.rpartition(":")[2]))
    silent = [socket.create_connection(place, 10) for _ in range(40)]
    for words in (b"\n", b"end\n", b"rm data\n", b"0" * 64 + b"\n", b"x" * 5000, b"\xff\n"):
        with socket.create_connection(place, 10) as peer:
            peer.sendall(words)
            said = b""
            with contextlib.suppress(ConnectionError):
                while piece := peer.recv(100):
                    said += piece
            ensure(b"ok" not in said, f"{words[:20]}: {said}")
    link = _keeper.Link(address, key)
    ensure(link.alive(), "the keeper has no time for who knows the key")
    link._socket.close()
    raises(__import__("treecast").AuthError, _keeper.Link, address, "another key")
    for peer in silent:
        peer.close()
    bcast_memmap(numpy.arange(20), "data", client, block=True)
    ensure(own_agents() == before and before, "the agent has ended")
    ensure(next(iter(_fleet._fleets[client].hosts.values())).link.alive(), "the client's own link")


@needs_cluster
def killed_engines():
    """Engines that are killed do not take the agent with them, also the one that had started it; others attach on"""
    import numpy
    result = bcast_memmap(numpy.arange(1000), "data", client, keep=True, block=True)
    before = own_agents()
    pids = view.apply_sync(os.getpid)
    for pid in pids[1:]:
        os.kill(pid, 9)
    wait_for(lambda: client.ids == [0], "the client to notice", timeout=60)
    ensure(own_agents() == before != {}, f"{own_agents()} is not {before}")
    ensure(client[0].apply_sync(lambda ref: int(ref.attach(5).sum()), result.ref) == 499500, "another engine")
    bcast_memmap(numpy.arange(2000), "data", client, block=True)
    ensure(own_agents() == before and client[0].pull("data", block=True).sum() == 1999000, "the next one")


@needs_cluster
def left_over():
    """A directory whose agent was killed together with its keeper goes when the next session begins there"""
    from treecast import _fleet
    folder = own_folders()[0]
    with open(f"{folder}.keeper", encoding="ascii") as file:
        keeper = json.load(file)["pid"]
    os.kill(keeper, 9)
    wait_for(lambda: not own_agents(), "the agent's end", timeout=20)
    os.makedirs(folder, exist_ok=True)
    os.utime(folder, (1, 1))  # as if it were old
    _fleet._remove_left_overs()
    ensure(not glob.glob(f"{folder}*"), "the directory is still there")


TESTS = [variables, one_copy, agents_and_keys, several, busy_engine, at_once, small_ones, odd_calls, failures, dead_agent,
         script, notebook, killed_client, outsiders, cleans_up, agents_that_are_there, killed_engines, left_over]


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
