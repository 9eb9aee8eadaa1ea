#!/usr/bin/python3
"""Arrays as people have them: what is more than its elements is refused, and a mapping stays what it is."""

import array
import copy
import gzip
import io
import mmap
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile

import world
from world import raises
from agents import Skip, ensure, main, plain_only, scenario

import numpy

import treecast

os.environ["PYTHONPATH"] = world.PACKAGE  # for the workers of joblib


class Labelled:
    """Anything with __array__ that says more than its elements."""

    def __array__(self, dtype=None, copy=None):
        return numpy.arange(3)


@scenario
def more_than_elements(scene):
    """What numpy.asarray would make another array of is refused by its name, before any host is dialled"""
    import scipy.sparse
    nowhere = {"hosts": "127.0.0.1:9"}
    masked = numpy.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0])
    for source, words in ((masked, "MaskedArray has a mask"), ([masked, masked], "MaskedArray has a mask"),
                          (numpy.ma.masked, "mask"), (numpy.matrix([[1, 2]]), "matrix may be more"),
                          (numpy.char.array(["a", "b"]), "chararray may be more"), (Labelled(), "Labelled may be more"),
                          ([[Labelled()]], "Labelled may be more"), (treecast.Ref("a.npy"), "Ref may be more"),
                          (scipy.sparse.csr_matrix((3, 3)), "csr_matrix is sparse"),
                          (scipy.sparse.coo_array((3, 3)), "coo_array is sparse"),
                          ({"a": 1}, "dict makes an array of Python objects"), (object(), "object makes"),
                          (numpy.zeros(2, [("a", "f8"), ("b", "O")]), "Python objects")):
        error = raises(treecast.UsageError, treecast.send, source, "a.npy", **nowhere, text=words)
        ensure(str(error).startswith("a.npy: "), f"{error}")
    overlapping = numpy.zeros(2, numpy.dtype({"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [0, 2]}))
    raises(treecast.UsageError, treecast.send, overlapping, "a.npy", **nowhere, text="cannot hold elements")
    for name, kind in (("pandas", "Series"), ("pint", "Quantity")):
        module = type(kind, (Labelled,), {"__module__": f"{name}.core"})
        raises(treecast.UsageError, treecast.send, module(), "a.npy", **nowhere, text=f"{kind} has")
    ensure(not os.path.exists(scene.path("host1")), "an agent was started")


@scenario
def all_of_these(scene):
    """Sequences, records, scalars, buffers, open files: what attach gives is what numpy makes of them"""
    agent = scene.agent()

    def round_trip(source, name="a.npy", **options):
        treecast.send(source, name, hosts=agent.address, force=True, **options)
        return treecast.attach(name, agent.folder, 10)

    records = numpy.rec.array([(1, 2.5), (3, 4.5)], dtype=[("a", "<i4"), ("b", "<f8")])
    for source in ([[1, 2], [3, 4]], (1.5, 2.5), 7, numpy.float32(3), records, array.array("d", [1, 2, 3]),
                   memoryview(numpy.arange(6, dtype="<i2").reshape(2, 3)), ["a", "bc"], b"", [], bytearray(b"xyz")):
        expected = numpy.frombuffer(source, "u1") if isinstance(source, (bytes, bytearray)) else numpy.asarray(source)
        got = round_trip(source)
        ensure(got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes(),
               f"{source!r}: {got!r}")
    for source in (b"some bytes", bytearray(b"some bytes"), memoryview(b"some bytes"), io.BytesIO(b"some bytes")):
        ensure(round_trip(source, "a.bin").tobytes() == b"some bytes", f"{source!r}")
    with mmap.mmap(-1, 4096) as memory:
        memory[:3] = b"abc"
        ensure(round_trip(memory, "a.bin").tobytes() == memory[:], "mmap")
    ensure(round_trip(b"\1\0\2\0", "a.raw", dtype="<i2").tolist() == [1, 2], "bytes with a dtype")
    ensure(round_trip(bytes(12), "a.npy", dtype=[("x", "<i2"), ("y", "<f4")], shape=2).dtype.names == ("x", "y"), "dtype")
    ensure(round_trip(bytes(48), "a.raw", dtype=numpy.float64, shape=(2, -1)).shape == (2, 3), "shape")


@scenario
def open_files(scene):
    """An open file is sent from where it is, whatever its descriptor holds; without a name it has its own"""
    agent = scene.agent()
    path = scene.path("table.npy")
    numpy.save(path, numpy.arange(5))
    with open(path, "rb") as file:
        ref = treecast.send(file, hosts=agent.address, dir=agent.folder)
        ensure(ref.name == "table.npy" and ref.attach(10).tolist() == [0, 1, 2, 3, 4], f"{ref}")
        file.seek(128)
        ensure(treecast.send(file, "rest.bin", hosts=agent.address, dir=agent.folder).attach(10).size == 40, "the rest")
    with gzip.open(scene.path("a.gz"), "wb") as file:
        file.write(b"plain" * 10)
    with gzip.open(scene.path("a.gz")) as file:
        got = treecast.send(file, "plain.bin", hosts=agent.address, dir=agent.folder).attach(10)
    ensure(got.tobytes() == b"plain" * 10, "what gzip has packed")
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"written")
        file.seek(0)
        got = treecast.send(file, "temporary.bin", hosts=agent.address, dir=agent.folder).attach(10)
    ensure(got.tobytes() == b"written", "a temporary file")
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    os.close(writer)
    with open(reader, "rb") as file:
        got = treecast.send(file, "pipe.bin", hosts=agent.address, dir=agent.folder).attach(10)
    ensure(got.tobytes() == b"piped", "a pipe")
    with open(path, encoding="latin-1") as file:
        raises(treecast.UsageError, treecast.send, file, "t.bin", hosts=agent.address, text="as text")


@scenario
def no_width(scene):
    """Texts without a letter, |S0 and <U0, stay that: numpy would make them S1"""
    agent = scene.agent()
    for kind in ("|S0", "<U0", ">U0", "|V0"):
        path = scene.path("none.npy")
        numpy.save(path, numpy.ndarray((3,), kind))
        for mode in "rc":
            ref = treecast.send(path, hosts=agent.address, dir=agent.folder, force=True)
            got = ref.attach(10, mode)
            ensure(got.dtype.str == kind and got.shape == (3,), f"{kind}: {got.dtype.str}")


@scenario
def headers_are_numpys(scene):
    """Headers are numpy's own in all three versions, and so is what is said where there is none"""
    from treecast import _source
    import warnings
    for dtype in ([("a", "<f8")], [(f"field{i}", "<f8") for i in range(4000)], [("\u6570", "<f8"), ("x", "<i2")]):
        made, file = numpy.zeros((3, 2), dtype), io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            numpy.save(file, made)
        head = _source.npy_header(made, "a.npy")
        ensure(file.getvalue() == head + made.tobytes(), f"{dtype[:2]}: {head[:80]}")


# -- options ---------------------------------------------------------------------------------------------------------


@scenario
def options(scene):
    """Options of the verb: a dry run publishes nothing, --bwlimit holds, wrong ones say so; a bar by tqdm"""
    agent = scene.agent()
    ref = treecast.send(numpy.arange(10), "a.npy", hosts=agent.address, dir=agent.folder, dry_run=True)
    ensure(not agent.published() and ref.report["hosts"][0]["state"] == "ready", f"{ref.report}")
    answer = treecast.send(bytes(1 << 20), "slow.bin", hosts=agent.address, bwlimit="4M", local="net", compress="none")
    ensure(answer.report["transfer"] > 0.1, f"{answer.report}")
    raises(treecast.UsageError, treecast.send, b"abc", "a.raw", hosts=agent.address, dtype="f8,i4", text="as fields")
    raises(treecast.UsageError, treecast.send, b"abc", "a.raw", hosts=agent.address, dtype="str", text="S10")
    raises(treecast.TreecastError, treecast.send, b"abc", "a.raw", hosts="127.0.0.2", launch="exec:false")
    code = ("import numpy, sys, treecast\n"
            "treecast.send(numpy.zeros(1 << 20), 'bar.npy', hosts=sys.argv[1], progress=True)")
    done = subprocess.run([sys.executable, "-c", code, agent.address], capture_output=True, text=True, check=False,
                          timeout=60)
    ensure(done.returncode == 0 and "bar.npy: 100%" in done.stderr and "1/1 hosts" in done.stderr, done.stderr)


LITTLE_MEMORY = """
import os, resource, sys, numpy, treecast
a = numpy.zeros((6000, 5000))[:, ::2]
first = treecast.attach("big.npy", sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (int(open("/proc/self/statm").read().split()[0]) * 4096 + (20 << 20),) * 2)
for call in (lambda: treecast.send(a, "strided.npy", hosts=sys.argv[2]), lambda: treecast.attach("big.npy", sys.argv[1])):
    try:
        call()
        sys.exit("done with too little memory")
    except treecast.ResourceError as error:
        print(error.reason, error)
"""


@scenario
@plain_only
def little_memory(scene):
    """Where memory is short (ulimit -v) attach and send raise ResourceError with the array's name"""
    agent = scene.agent()
    treecast.send(numpy.zeros(8 << 20), "big.npy", hosts=agent.address)
    done = subprocess.run([sys.executable, "-c", LITTLE_MEMORY, agent.folder, agent.address], capture_output=True,
                          text=True, check=False, timeout=60)
    lines = done.stdout.splitlines()
    ensure(done.returncode == 0 and len(lines) == 2, done.stdout + done.stderr)
    ensure(lines[0].startswith("nomem strided.npy: ") and lines[1].startswith("nomem big.npy: "), done.stdout)


@scenario
def where_the_program_is(scene):
    """The program is found in the package, on the PATH, and beside an interpreter whose environment is not active"""
    venv, package = scene.path("venv"), scene.path("venv/package")
    os.makedirs(f"{venv}/bin")
    os.makedirs(package)
    os.symlink(os.path.join(world.PACKAGE, "treecast"), f"{package}/treecast")
    with open(f"{venv}/pyvenv.cfg", "w", encoding="ascii") as file:
        file.write(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    os.symlink(os.path.realpath(sys.executable), f"{venv}/bin/python")
    code = "from treecast import _program; print(_program.find())"

    def found(**more):
        environment = {"PATH": scene.path("empty"), "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1", **more}
        return subprocess.run([f"{venv}/bin/python", "-c", code], capture_output=True, text=True, check=False,
                              env=environment)

    ensure("NotFoundError" in found().stderr or os.path.exists("/usr/local/bin/treecast"), f"{found()}")
    os.symlink(scene.treecast, f"{venv}/bin/treecast")
    ensure(found().stdout.strip() == f"{venv}/bin/treecast", f"{found()}")
    os.makedirs(scene.path("path"))
    os.symlink(scene.treecast, scene.path("path/treecast"))
    ensure(found(PATH=scene.path("path")).stdout.strip() == scene.path("path/treecast"), "PATH")
    ensure(found(PATH=scene.path("path"), TREECAST=scene.treecast).stdout.strip() == scene.treecast, "TREECAST")


# -- a mapping stays what it is --------------------------------------------------------------------------------------


def in_worker(part):
    """What a worker sees of an array that it was handed."""
    return int(part.sum()), type(part.base).__name__, os.getpid()


def gone(scene, agent):
    """The same name three ways: removed, replaced by a newer array, and there; each with the array before."""
    for what in ("there", "removed", "replaced"):
        array = numpy.arange(300000).reshape(300, 1000)
        ref = treecast.send(array, f"{what}.npy", hosts=agent.address, dir=agent.folder)
        mapped = ref.attach(10)
        if what == "removed":
            ref.remove()
        if what == "replaced":
            treecast.send(array * 0 + 5, f"{what}.npy", hosts=agent.address, force=True)
        yield what, array, mapped


@scenario
def in_joblib(scene):
    """joblib's workers (loky and multiprocessing) map the same bytes, of an array, its views and asarray, also when its
    name is gone or another array's; they share the memory"""
    try:
        import joblib
    except ImportError:
        raise Skip("no joblib (package python3-joblib)") from None
    agent = scene.agent()
    for what, array, mapped in gone(scene, agent):
        parts = [mapped, mapped[10:20], mapped[:, ::7], numpy.asarray(mapped), numpy.asarray(mapped)[5:], mapped.T]
        sums = [int(part.sum()) for part in (array, array[10:20], array[:, ::7], array, array[5:], array.T)]
        for backend in ("loky", "multiprocessing"):
            found = joblib.Parallel(2, backend=backend)(joblib.delayed(in_worker)(part) for part in parts)
            ensure([total for total, _, _ in found] == sums, f"{what}, {backend}: {found} is not {sums}")
            ensure(all(pid != os.getpid() for _, _, pid in found), "not in a worker")
            ensure(found[0][1] == "mmap", f"{what}, {backend}: a copy ({found[0][1]})")
    own = treecast.attach("there.npy", agent.folder, mode="c")
    own[:] = 1
    found = joblib.Parallel(2)(joblib.delayed(in_worker)(part) for part in (own, own[3:]))
    ensure([total for total, _, _ in found] == [300000, 297000], f"copy-on-write: {found}")


@scenario
def in_other_processes(scene):
    """multiprocessing, pickle and copy carry the same bytes; numpy.load of its filename reads them"""
    agent = scene.agent()
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            for what, array, mapped in gone(scene, agent):
                ensure(pool.map(numpy.sum, [mapped, mapped[3:]]) == [array.sum(), array[3:].sum()], f"{what}, {method}")
                for other in (pickle.loads(pickle.dumps(mapped)), copy.copy(mapped), copy.deepcopy(mapped)):
                    ensure((other == array).all(), f"{what}: a copy")
                ensure((numpy.load(mapped.filename) == array).all(), f"{what}: numpy.load")
                mapped.filename.partition("/")  # a str like any other
                treecast.remove(f"{what}.npy", agent.folder) if what != "removed" else None


@scenario
def never_another(scene):
    """Where the mapping is gone before its name is followed there is an error, not what has its number now"""
    agent = scene.agent()
    one = treecast.send(numpy.arange(5000), "one.npy", hosts=agent.address, dir=agent.folder)
    two = treecast.send(numpy.arange(5000) + 1, "two.npy", hosts=agent.address, dir=agent.folder)
    mapped = one.attach(10)
    name = str(mapped.filename)
    packed = pickle.dumps(mapped.filename)
    there = pickle.loads(packed)
    again = numpy.memmap(there, "<i8", "r", mapped.offset, (5000,))
    ensure((again == mapped).all() and again.filename != name, "followed while it is there")
    del mapped, there, again
    other = two.attach(10)
    ensure(str(other.filename) == name, "the number is not used again, so this shows nothing")
    ensure((numpy.memmap(pickle.loads(packed), "<i8", "r", 128, (5000,)) == numpy.arange(5000)).all(), "by its path")
    one.remove()
    raises(treecast.NotFoundError, pickle.loads, packed, text="no longer mapped")
    treecast.send(numpy.arange(5000) + 2, "one.npy", hosts=agent.address)
    raises(treecast.NotFoundError, pickle.loads, packed, text="one.npy")


@scenario
def dask_names(scene):
    """dask takes two mappings for the same only where they are: its keys change with the array behind the name"""
    try:
        from dask.base import tokenize
    except ImportError:
        raise Skip("no dask (package python3-dask)") from None
    agent = scene.agent()
    tokens = set()
    for number in range(3):
        treecast.send(numpy.arange(5000) + number, "a.npy", hosts=agent.address, force=True)
        tokens.add(tokenize(treecast.attach("a.npy", agent.folder)))
    ensure(len(tokens) == 3, f"{tokens}")


@scenario
def descriptors(scene):
    """What a mapping holds open goes with it"""
    agent = scene.agent()
    treecast.send(numpy.arange(5000), "a.npy", hosts=agent.address)
    before = len(os.listdir("/proc/self/fd"))
    for mode in "rc":
        kept = [treecast.attach("a.npy", agent.folder, mode=mode)[5:] for _ in range(10)]
        ensure(len(os.listdir("/proc/self/fd")) > before, "nothing is open")
        del kept
        ensure(len(os.listdir("/proc/self/fd")) == before, "left open")


if __name__ == "__main__":
    main()
