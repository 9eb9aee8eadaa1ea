#!/usr/bin/python3
"""The package treecast: a test for each of its promises, with real agents."""

import asyncio
import inspect
import os
import pickle
import re
import shutil
import subprocess
import sys

import world
from world import PACKAGE, Thread, raises
from agents import Process, Skip, ensure, hosts_of, main, scenario, scenarios, wait_for

import numpy

import treecast
from treecast import _trust, errors

MIB = 1 << 20
TOP = os.path.join(world.HERE, "..", "..")
SLOWLY = {"compress": "zstd:19", "chunk": "64K"}  # a few MiB of crumbs last for seconds


def promise(function):
    """A test that needs no agents."""
    scenarios.append(function)
    return function


def python(scene, code, arguments, popen=None, **more):
    """A fresh interpreter that runs code; the package is where every user can read it."""
    package = scene.path("package")
    if not os.path.exists(package):
        shutil.copytree(os.path.join(PACKAGE, "treecast"), os.path.join(package, "treecast"))
    environment = scene.environment(PYTHONPATH=package, TREECAST=scene.treecast, PYTHONDONTWRITEBYTECODE="1", **more)
    process = Process(scene, [sys.executable, "-c", code, *map(str, arguments)], env=environment, **popen or {})
    scene.processes.append(process)
    return process


def in_python(scene, code, *arguments, **options):
    """What code printed in a fresh interpreter."""
    return python(scene, code, arguments, **options).finish().expect(0).out.strip()


ARRAYS = {
    "plain": numpy.arange(12.0).reshape(3, 4),
    "big-endian": numpy.arange(7, dtype=">i4"),
    "fortran": numpy.asfortranarray(numpy.arange(24.0).reshape(2, 3, 4)),
    "scalar": numpy.array(2.5),
    "no-rows": numpy.empty((0, 5), "<i2"),
    "no-bytes": numpy.zeros(3, "V0"),
    "complex": numpy.array([1 + 2j, 3 - 4j]),
    "dates": numpy.array(["2009-09-01", "NaT"], "M8[D]"),
    "text": numpy.array(["böser", "wolf"]),
    "bools": numpy.array([True, False]),
    "structured": numpy.array([(1, 2.5, b"ab", [[1, 2], [3, 4]])],
                              [("a", ">u2"), ("b", "<f8"), ("c", "S4"), ("d", "<i4", (2, 2))]),
    "nested": numpy.zeros(3, [("p", [("x", "<f4"), ("y", ">f4")]), ("größe", "u1")]),
    "titled": numpy.zeros(2, [(("a title", "t"), "<i8")]),
    "aligned": numpy.zeros(4, numpy.dtype([("a", "u1"), ("b", "<f8")], align=True)),
}


def same(one, other):
    return (one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
            and (one.size == 0 or one.ndim < 2 or one.flags.f_contiguous == other.flags.f_contiguous))


@scenario
def every_kind(scene):
    """What send is given comes out of attach equal: dtype, shape, order and elements, as numpy.memmap"""
    agent = scene.agent()
    for name, array in ARRAYS.items():
        ref = treecast.send(array, f"{name}.npy", hosts=agent.address, dir=agent.folder)
        got = treecast.attach(f"{name}.npy", agent.folder, timeout=10)
        ensure(type(got) is numpy.memmap, f"{name}: {type(got)}")
        ensure(same(array, got), f"{name}: {got!r} is not {array!r}")
        ensure(same(array, ref.attach(10)), f"{name}: by its Ref")
        ensure(not got.flags.writeable, f"{name} can be written to")
        loaded = numpy.load(agent.path(f"{name}.npy"))  # a .npy file like any other
        ensure(same(array, loaded), f"{name}: numpy.load gives {loaded!r}")


@scenario
def header_as_numpy(scene):
    """The file that the hosts get is, byte for byte, what numpy.save writes"""
    agent = scene.agent()
    for name in ("plain", "fortran", "structured", "nested", "scalar", "no-rows", "big-endian"):
        numpy.save(scene.path(f"{name}.npy"), ARRAYS[name])
        treecast.send(ARRAYS[name], f"{name}.npy", hosts=agent.address)
        scene.require_published([agent], f"{name}.npy", scene.path(f"{name}.npy"))


@scenario
def modes(scene):
    """Mode "r" cannot be written to; mode "c" can, and neither the file nor others see it; there are no others"""
    agent = scene.agent()
    treecast.send(numpy.arange(1000), "a.npy", hosts=agent.address)
    before = treecast.attach("a.npy", agent.folder)
    raises(ValueError, before.__setitem__, 0, 5)
    own = treecast.attach("a.npy", agent.folder, mode="c")
    own[:] = 7
    ensure(own.sum() == 7000 and before[1] == 1, "copy-on-write")
    ensure(treecast.attach("a.npy", agent.folder)[999] == 999, "the file was changed")
    raises(treecast.UsageError, treecast.attach, "a.npy", agent.folder, mode="r+", text="'r' or 'c'")
    treecast.send(numpy.empty((0, 2)), "none.npy", hosts=agent.address)
    ensure(treecast.attach("none.npy", agent.folder, mode="c").flags.writeable, "an empty one, mode c")


@scenario
def plain_bytes(scene):
    """A file that is no array is sent by its path and attached as bytes; bytes are sent as an array of them"""
    agent = scene.agent()
    path = scene.noise("some.bin", 100001)
    ref = treecast.send(path, hosts=agent.address, dir=agent.folder)
    got = ref.attach(10)
    ensure(got.dtype == numpy.uint8 and got.shape == (100001,), f"{got.dtype} {got.shape}")
    with open(path, "rb") as file:
        ensure(got.tobytes() == file.read(), "other bytes")
    treecast.send(b"abc", "abc.npy", hosts=agent.address)
    ensure(treecast.attach("abc.npy", agent.folder, 10).tobytes() == b"abc", "bytes")
    open(scene.path("empty"), "wb").close()
    ensure(treecast.send(scene.path("empty"), hosts=agent.address, dir=agent.folder).attach(10).size == 0, "empty")


@scenario
def not_contiguous(scene):
    """A strided array is sent as what it shows; an array of objects is refused, and so is a nameless one"""
    agent = scene.agent()
    array = numpy.arange(100).reshape(10, 10)[::3, 1::2]
    treecast.send(array, "s.npy", hosts=agent.address)
    ensure((treecast.attach("s.npy", agent.folder) == array).all(), "elements")
    raises(treecast.UsageError, treecast.send, numpy.array([{}]), "o.npy", hosts=agent.address, text="pointers")
    raises(treecast.UsageError, treecast.send, array, hosts=agent.address, text="name")
    raises(treecast.UsageError, treecast.send, array, "a.dat", hosts=agent.address, text=".npy")


NO_COPY = """
import os, sys, numpy, treecast
def status(word):
    with open("/proc/self/status") as file:
        return int(next(line.split()[1] for line in file if line.startswith(word))) // 1024
a = numpy.random.default_rng(1).standard_normal(8 << 20)
treecast.send(numpy.arange(3), "first.npy", hosts=sys.argv[1])     # what is needed to send at all
written, create = [], os.memfd_create
os.memfd_create = lambda *words: written.append(words) or create(*words)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
treecast.send(a, "a.npy", hosts=sys.argv[1])
print(status("VmHWM") - before, len(written))
"""


@scenario
def no_second_copy(scene):
    """An array is read where it lies: sending 64 MiB takes less than 4 MiB more, and no file but for the header"""
    agent = scene.agent()
    more, files = map(int, in_python(scene, NO_COPY, agent.address).split())
    ensure(more < 4, f"{more} MiB more")
    ensure(files == 1, f"{files} files in memory")
    got = treecast.attach("a.npy", agent.folder, 10)
    ensure((got == numpy.random.default_rng(1).standard_normal(8 << 20)).all(), "elements")


@scenario
def without_proc(scene):
    """Where a process may not read its own memory through /proc, a copy in memory is sent, with the same result"""
    from treecast import _source
    agent = scene.agent()
    kept, _source.PROC_MEMORY = _source.PROC_MEMORY, "/nonexistent/mem"
    try:
        for name, array in ARRAYS.items():
            treecast.send(array, f"{name}.npy", hosts=agent.address)
            ensure(same(array, treecast.attach(f"{name}.npy", agent.folder, 10)), name)
    finally:
        _source.PROC_MEMORY = kept


@scenario
def waits(scene):
    """attach and wait block until a name that nobody has begun to send is published; their time is kept"""
    agent = scene.agent()
    before = agent.sockets()
    raises(treecast.DeadlineError, treecast.attach, "a.npy", agent.folder, timeout=0.05, text="a.npy was not published")
    raises(treecast.DeadlineError, treecast.wait, "a.npy", agent.folder, timeout=0)
    waiting = [Thread(treecast.attach, "a.npy", agent.folder), Thread(treecast.wait, "a.npy", agent.folder, 60)]
    wait_for(lambda: len(agent.sockets() - before) >= 2, "both through the local API")
    treecast.send(numpy.arange(5), "a.npy", hosts=agent.address)
    ensure((waiting[0].result() == numpy.arange(5)).all(), "attach")
    ensure(waiting[1].result() == agent.path("a.npy"), "wait")
    for name in ("", "../x", ".hidden", "a/b", "x" * 129):
        raises(treecast.UsageError, treecast.wait, name, agent.folder, 0, text="not allowed")


@scenario
def without_agent(scene):
    """Where there is neither agent nor directory yet, waiting ends when they come; published arrays need no agent"""
    deep = scene.path("host1")
    waiting = Thread(treecast.wait, "a.npy", deep, 60)
    late = Thread(treecast.attach, "a.npy", deep, 60)
    agent = scene.agent()
    treecast.send(numpy.arange(3), "a.npy", hosts=agent.address)
    ensure(waiting.result() == agent.path("a.npy") and late.result().sum() == 3, "agent and array came")
    agent.kill()
    ensure(treecast.attach("a.npy", agent.folder, timeout=5).sum() == 3, "a killed agent's array")
    raises(treecast.DeadlineError, treecast.wait, "b.npy", agent.folder, timeout=0.05)


@scenario
def waits_in_asyncio(scene):
    """wait_async lets 200 tasks wait in one thread, wakes all, keeps time, and can be cancelled"""
    agent = scene.agent()
    descriptors = len(os.listdir("/proc/self/fd"))

    async def run():
        tasks = [asyncio.create_task(treecast.wait_async("a.npy", agent.folder, 60)) for _ in range(200)]
        never = asyncio.create_task(treecast.wait_async("never.npy", agent.folder))
        try:
            await treecast.wait_async("b.npy", agent.folder, 0.05)
            ensure(False, "no time-out")
        except treecast.DeadlineError:
            pass
        await asyncio.to_thread(treecast.send, numpy.arange(3), "a.npy", hosts=agent.address)
        paths = await asyncio.wait_for(asyncio.gather(*tasks), 30)
        ensure(set(paths) == {agent.path("a.npy")}, f"{set(paths)}")
        never.cancel()
        await asyncio.gather(never, return_exceptions=True)
        ensure(never.cancelled(), "cancel")
        ref = treecast.Ref("a.npy", agent.folder)
        ensure(await ref.wait_async(5) == agent.path("a.npy"), "by a Ref")

    asyncio.run(run())
    ensure(len(os.listdir("/proc/self/fd")) <= descriptors + 1, "descriptors were left open")


@scenario
def failures_reach_waiters(scene):
    """A worker that waits is told why the session failed, as the exception of that reason"""
    agent = scene.agent()
    before = agent.sockets()
    waiting = Thread(treecast.attach, "slow.bin", agent.folder)
    wait_for(lambda: agent.sockets() - before, "a worker through the local API")
    error = raises(treecast.DeadlineError, treecast.send, scene.noise("slow.bin", 24 * MIB), hosts=agent.address,
                   deadline=1, bwlimit="4M")
    ensure(error.exit_code == 7 and error.hosts[0]["state"] != "published", f"{error.exit_code} {error.hosts}")
    raises(treecast.DeadlineError, waiting.result, text="deadline")


@scenario
def exit_codes(scene):
    """Each exit code of the program is an exception of its own, with its hosts and reason"""
    agent, small = scene.agents(2)[0], scene.agents(1, "--max-size", "1K", first=2)[0]
    array = numpy.arange(1000)
    both = hosts_of([agent, small])
    error = raises(treecast.PartialError, treecast.send, array, "a.npy", hosts=both, min_hosts=1, dir=agent.folder)
    ensure([host["host"] for host in error.hosts if host["state"] == "refused"] == [small.address], f"{error.hosts}")
    ensure((error.ref.attach(10) == array).all() and error.exit_code == 3, "the ref of a partial success")
    error = raises(treecast.ResourceError, treecast.send, array, "b.npy", hosts=small.address, text="max-size")
    ensure(error.reason == "limit" and isinstance(error, OSError), error.reason)
    error = raises(treecast.TreecastError, treecast.send, array + 1, "a.npy", hosts=agent.address)
    ensure((error.exit_code, error.reason) == (1, "exists"), f"{error.exit_code} {error.reason}")
    treecast.send(array + 1, "a.npy", hosts=agent.address, force=True)
    raises(treecast.UsageError, treecast.send, array, "a.npy", hosts=agent.address, tree="oak", text="oak")
    raises(treecast.UsageError, treecast.send, array, "a.npy", hosts="10.11.12.13", text="key")
    raises(treecast.SourceError, treecast.send, scene.path("nothing.npy"), hosts=agent.address, text="nothing.npy")
    raises(treecast.NotFoundError, treecast.send, array, "a.npy", hosts=agent.address, program="/no/such/program")
    keyed = scene.agents(1, "-k", scene.key(), first=3)[0]
    raises(treecast.AuthError, treecast.send, array, "a.npy", hosts=keyed.address, key_file=scene.key("other"))
    treecast.send(array, "a.npy", hosts=[keyed.address], key_file=scene.path("key"))


@promise
def reasons():
    """The package knows every reason of src/base/err.def with its exit code; errors survive pickling"""
    with open(os.path.join(TOP, "src/base/err.def"), encoding="utf-8") as table:
        rows = re.findall(r'TC_REASON\(\w+, "([\w-]+)", \d+, (\d+),', table.read())
    ensure(len(rows) > 20, "err.def was not read")
    for reason, code in rows:
        error = errors.of_reason(reason, "x")
        ensure(error.exit_code == int(code), f"{reason}: {error.exit_code}, not {code}")
        copy = pickle.loads(pickle.dumps(error))
        ensure(type(copy) is type(error) and copy.reason == reason and str(copy) == "x", f"{copy!r}")
    kinds = {type(errors.of_exit(code, "x")) for code in range(1, 11)}
    ensure(len(kinds) == 10, f"exit codes share exceptions: {kinds}")


@scenario
def progress(scene):
    """The progress callback sees the start, steps that never go back, and the end; what it raises ends the broadcast"""
    agent = scene.agent()
    seen = []
    path = scene.crumbs("slow.bin", 3 * MIB)
    ref = treecast.send(path, hosts=agent.address, progress=seen.append, dir=agent.folder, **SLOWLY)
    ensure(seen[0].bytes == 0 and seen[0].size == 3 * MIB and seen[0].hosts == 1, f"{seen[0]}")
    ensure(seen[-1].bytes == 3 * MIB and seen[-1].done == 1, f"{seen[-1]}")
    ensure([p.bytes for p in seen] == sorted(p.bytes for p in seen), f"{seen}")
    ensure(ref.report["exit"] == 0 and ref.report["hosts"][0]["state"] == "published", f"{ref.report}")

    def stop(_):
        raise KeyboardInterrupt()

    try:
        treecast.send(path, "other.bin", hosts=agent.address, progress=stop, **SLOWLY)
        ensure(False, "the broadcast went on")
    except KeyboardInterrupt:
        pass
    scene.require_nothing([agent], "slow.bin")


REF = """
import pickle, sys
ref = pickle.load(open(sys.argv[1], "rb"))
a = ref.attach(timeout=30)
print(a.shape, a.dtype.str, float(a.sum()), ref.attach() is a, ref.report)
"""


@scenario
def refs(scene):
    """A Ref pickles in under 300 bytes with the longest name, and attaches in a process of any host that has it"""
    agents = scene.agents(2)
    array, name = numpy.arange(1000.0).reshape(10, 100), "n" * 124 + ".npy"
    long = treecast.Ref(name, "/dev/shm/treecast-4294967294", "ab" * 32)
    ensure(len(pickle.dumps(long)) < 300, f"{len(pickle.dumps(long))} bytes")
    ensure(pickle.loads(pickle.dumps(long)) == long, "another Ref")
    ref = treecast.send(array, name, hosts=hosts_of(agents))
    ensure(len(ref.digest) == 64 and ref.dir is None and len(pickle.dumps(ref)) < 300, f"{ref!r}")
    with open(scene.path("ref"), "wb") as file:
        pickle.dump(ref, file)
    for agent in agents:  # two hosts, each with a default directory of its own
        said = in_python(scene, REF, scene.path("ref"), TREECAST_DIR=agent.folder)
        ensure(said == "(10, 100) <f8 499500.0 True None", said)


@scenario
def refs_know_content(scene):
    """Equal content makes equal Refs; a Ref refuses another array of its name, and removes its own, mapped or not"""
    agent = scene.agent()
    array = numpy.arange(1000)
    one = treecast.send(array, "a.npy", hosts=agent.address, dir=agent.folder)
    two = treecast.send(array.copy(), "b.npy", hosts=agent.address, dir=agent.folder)
    ensure(one == two and hash(one) == hash(two) and one.__dask_tokenize__() == two.__dask_tokenize__(), "not equal")
    mapped = one.attach(10)
    ensure(numpy.asarray(one).sum() == array.sum(), "as an array")
    other = treecast.send(array + 1, "a.npy", hosts=agent.address, dir=agent.folder, force=True)
    ensure(other != one and other.attach(10)[0] == 1, "the new one")
    ensure(mapped[0] == 0, "what is mapped has changed")
    del mapped
    raises(treecast.IntegrityError, one.attach, 10, text="another array")
    kept = two.attach(10)
    two.remove()
    ensure(agent.published() == ["a.npy"] and (kept == array).all(), f"{agent.published()}")
    raises(treecast.NotFoundError, two.remove)


@scenario
def status(scene):
    """status tells what is published and how far the rest is, with an agent; without one what is published"""
    agent = scene.agent()
    treecast.send(numpy.arange(3), "a.npy", hosts=agent.address)
    sender = scene.start_send([agent], scene.crumbs("slow.bin", 8 * MIB), "-C", "zstd:19", "-s", "64K")
    scene.under_way(sender, [agent])
    found = treecast.status(dir=agent.folder)
    ensure(found.listen == agent.address and found.dir == agent.folder, f"{found}")
    ensure([one["name"] for one in found.published] == ["a.npy"], f"{found}")
    ensure(found.sessions[0]["name"] == "slow.bin" and found.sessions[0]["size"] == 8 * MIB, f"{found}")
    ensure(0 < found.sessions[0]["bytes"] <= 8 * MIB, f"{found}")
    ensure(treecast.status("a.npy", agent.folder).sessions == [], "of one name only")
    raises(treecast.NotFoundError, treecast.status, "b.npy", agent.folder)
    sender.kill()
    agent.kill()
    found = treecast.status(dir=agent.folder)
    ensure(found.listen is None and [one["name"] for one in found.published] == ["a.npy"], f"{found}")
    raises(treecast.NotFoundError, treecast.status, "b.npy", agent.folder)


@scenario
def on_this_host(scene):
    """To this host's own agent a file may be sent as a hard link, and to where there is none it is refused"""
    agent = scene.agent()
    path = scene.noise("linked.bin", MIB)
    kept = os.environ.get("TREECAST_DIR")
    os.environ["TREECAST_DIR"] = agent.folder
    try:
        ref = treecast.send(path, hosts="127.0.0.1", port=agent.port, link=True)
        ensure(os.stat(ref.wait(5)).st_ino == os.stat(path).st_ino, "not a link")
        treecast.send(path, "copied.bin", hosts="127.0.0.1", port=agent.port, local="copy")
        scene.require_published([agent], "copied.bin", path)
        os.environ["TREECAST_DIR"] = scene.path("nobody")
        raises(treecast.NotFoundError, treecast.send, path, "b.bin", hosts="127.0.0.1", port=agent.port, local="copy")
    finally:
        del os.environ["TREECAST_DIR"]
        if kept is not None:
            os.environ["TREECAST_DIR"] = kept


@scenario
def for_a_while(scene):
    """An array that is sent with a time to live goes by itself; who has it mapped keeps it"""
    agent = scene.agent()
    mapped = treecast.send(numpy.arange(10), "a.npy", hosts=agent.address, dir=agent.folder, ttl=4).attach(5)
    wait_for(lambda: not agent.published(), "the end of the array", timeout=20)
    ensure(mapped.sum() == 45, "what is mapped")


@scenario
def not_ours(scene):
    """A file that treecast did not publish, or whose size is not the described one, is refused"""
    agent = scene.agent()
    treecast.send(numpy.arange(3), "a.npy", hosts=agent.address)
    with open(agent.path("stray.npy"), "wb") as file:
        file.write(b"x")
    raises(treecast.UsageError, treecast.attach, "stray.npy", agent.folder, 5, text="no description")
    agent.kill()
    os.truncate(agent.path("a.npy"), 100)
    raises(treecast.IntegrityError, treecast.attach, "a.npy", agent.folder, 5, text="100 bytes")


SHUT_OUT = """
import sys, treecast
try:
    open(sys.argv[1] + "/a.npy")
    sys.exit("the file's mode lets everybody in")
except PermissionError:
    print(treecast.attach("a.npy", sys.argv[1], timeout=10).sum())
"""


@scenario
def through_the_api(scene):
    """A user whom the agent allows attaches what the file's mode shut it out of; another one is refused"""
    if os.geteuid() != 0:
        raise Skip("other users need root")
    os.chmod(scene.folder, 0o755)
    allowed = scene.agent("--mode", "0400", "--allow-user", "nobody")
    strict = scene.agents(1, "--mode=0400", first=1)[0]
    treecast.send(numpy.arange(10), "a.npy", hosts=hosts_of([allowed, strict]))
    nobody = {"user": "nobody", "extra_groups": []}
    ensure(in_python(scene, SHUT_OUT, allowed.folder, popen=nobody) == "45", "not attached")
    run = python(scene, SHUT_OUT, [strict.folder], popen=nobody).finish()
    ensure(run.code != 0 and "ResourceError" in run.err, str(run))


@promise
def stands_alone():
    """Importing the package needs the standard library alone: numpy comes when an array is asked for"""
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import treecast\n"
            "treecast.Ref('a'); print([m for m in sys.modules if 'numpy' in m or 'dask' in m or 'IPython' in m])")
    said = subprocess.run([sys.executable, "-I", "-S", "-c", code, PACKAGE], capture_output=True, text=True,
                          check=False)
    ensure(said.stdout == "[]\n", said.stdout + said.stderr)


@promise
def trust():
    """Whom root's configuration names, the package reads as the program does (tests/unit/test_trust.c has the same words)"""
    for text, uid, named in (
            ("[treecast]\ntrust = 7\n", 7, True), ("[treecast]\ntrust: 7\n", 7, True),
            ("[treecast]\ntrust = nobody, 7 8\ntrust = 9\n", 7, True), ("[treecast]\ntrust = nobody, 7 8\ntrust = 9\n", 8, True),
            ("[treecast]\ntrust = nobody, 7 8\ntrust = 9\n", 9, True), ("[treecast]\ntrust = 6,\n  7\n", 7, True),
            ("[treecast]\ntrust = nobody ; the agents' user\n", 65534, True), ("[hook]\nuser = nobody\n", 65534, True),
            ("[treecast]\ntrust = 77\n", 7, False), ("[treecast]\ntrust = 6 ; 7\n", 7, False),
            ("[treecast]\ntrust = 7x, -7, +7, 0x7, 4294967295, no-such-user\n", 7, False),
            ("[treecast]\ntrust = 4294967303\n", 7, False), ("[recv]\ntrust = 7\nuser = 7\n", 7, False),
            ("[treecast]\nuser = 7\n#trust = 7\n; trust = 7\n", 7, False), ("trust = 7\n", 7, False),
            ("[treecast]\nkey-file = a\n  trust = 7\n", 7, False),
            ("[treecast]\ntrust = 7\nwhat is this\n", 7, False), ("\n", 7, False)):
        ensure(_trust.named(text, uid) == named, f"{text!r} {'names' if not named else 'does not name'} {uid}")


@promise
def documented():
    """Every public function has a docstring and type hints; parameters that callers choose are described"""
    for name in treecast.__all__:
        thing = getattr(treecast, name)
        ensure(inspect.ismodule(thing) or inspect.getdoc(thing), f"{name} has no docstring")
        if not inspect.isfunction(thing):
            continue
        for parameter in inspect.signature(thing).parameters.values():
            ensure(parameter.annotation is not parameter.empty, f"{name}({parameter.name}) has no type")
        ensure("return" in thing.__annotations__, f"{name} does not say what it returns")
    for function in (treecast.attach, treecast.send, treecast.status):
        text = inspect.getdoc(function)
        for parameter in inspect.signature(function).parameters:
            ensure(re.search(rf"\b{parameter}\b.*( : |\n)", text), f"{function.__name__}: {parameter} is not described")


if __name__ == "__main__":
    main()
