"""Arrays that numpy wrote come out of a worker's numpy equal; what cannot be mapped is refused or sent raw."""

import io
import os
import struct
import warnings

import numpy

from agents import ensure, main, scenario

WORKER = """
import os, sys, numpy
env = os.environ
shape = tuple(int(n) for n in env["TREECAST_ARRAY_SHAPE"].split(",") if n)
dtype = numpy.lib.format.descr_to_dtype(eval(env["TREECAST_ARRAY_DTYPE"])) if env["TREECAST_ARRAY_DTYPE"][0] == "[" \\
    else numpy.dtype(env["TREECAST_ARRAY_DTYPE"])
offset, path, order = int(env["TREECAST_ARRAY_OFFSET"]), env["TREECAST_ARRAY_PATH"], env["TREECAST_ARRAY_ORDER"]
if 0 in shape:
    a = numpy.empty(shape, dtype, order)
else:
    a = numpy.memmap(path, dtype, "r", offset, shape or (1,), order).reshape(shape, order=order)
b = numpy.load(sys.argv[1])
assert a.dtype == b.dtype, (a.dtype, b.dtype)
assert a.shape == b.shape, (a.shape, b.shape)
assert a.flags.f_contiguous == b.flags.f_contiguous or a.size == 0, "order"
assert a.tobytes() == b.tobytes(), "elements"
print("equal", os.getpid())
"""

# numpy.load takes long headers only where it is told that it may.
LARGE = WORKER.replace("numpy.load(sys.argv[1])", "numpy.load(sys.argv[1], max_header_size=1000000)")


def save(scene, name, array, version=None):
    with open(scene.path(name), "wb") as file:
        numpy.lib.format.write_array(file, array, version)
    return scene.path(name)


def npy_text(header, data=b"", version=1, pad=64):
    """A .npy file with this text for a header."""
    size = 2 if version == 1 else 4
    text = header.encode("utf-8" if version == 3 else "latin-1")
    text += b" " * (-(8 + size + len(text) + 1) % pad) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def round_trip(scene, agent, arrays):
    """Send each, attach each in a worker; all workers run at the same time."""
    workers = []
    for name, path in arrays.items():
        scene.send([agent], path).expect(0)
        workers.append(scene.start("attach", "-d", agent.folder, name, "--", "/usr/bin/python3", "-c", WORKER, path))
    for name, worker in zip(arrays, workers):
        answer = worker.finish()
        ensure(answer.code == 0 and answer.out.startswith("equal"), f"{name}: {answer}")
    scene.require_published([agent], name, path)


@scenario
def versions_and_orders(scene):
    """All three header versions, C and Fortran order."""
    grid = numpy.random.default_rng(1).standard_normal((37, 113))
    arrays = {}
    for version in ((1, 0), (2, 0), (3, 0)):
        for order in "CF":
            name = f"v{version[0]}{order}.npy"
            arrays[name] = save(scene, name, numpy.asarray(grid, order=order), version)
    round_trip(scene, scene.agent(), arrays)


@scenario
def element_types(scene):
    """Integers, floats, complex, bool, both byte orders, texts, dates and structures."""
    made = {
        "i1": numpy.arange(100, dtype="i1"), "bigi4": numpy.arange(100, dtype=">i4"),
        "u8": numpy.arange(99, dtype="u8"),
        "f2": numpy.linspace(0, 1, 77, dtype="f2"), "bigf8": numpy.linspace(0, 1, 77, dtype=">f8"),
        "c16": numpy.linspace(0, 1j, 50), "bool": numpy.arange(9) % 2 == 0,
        "bytes": numpy.array([b"abc", b"d"]), "text": numpy.array(["abc", "\u00e4\u4e2d"]),
        "date": numpy.array(["2026-11-22", "1969-07-20"], "M8[D]"),
        "struct": numpy.array([(1, 2.5, b"x"), (3, 4.5, b"y")], [("a", "<i4"), ("b", ">f8"), ("c", "S3")]),
        "nested": numpy.zeros(5, [("at", [("x", "f4"), ("y", "f4")]), ("m", "i2", (2, 3))]),
        "aligned": numpy.zeros(5, numpy.dtype([("a", "i1"), ("b", "f8")], align=True)),
        "named": numpy.zeros(3, [("gr\u00f6\u00dfe", "f8")]),
    }
    round_trip(scene, scene.agent(), {f"{name}.npy": save(scene, f"{name}.npy", made[name]) for name in made})


@scenario
def shapes(scene):
    """A scalar, empty arrays, many dimensions, and one over several chunks."""
    made = {"scalar": numpy.array(3.25), "empty": numpy.zeros((0,)), "hollow": numpy.zeros((3, 0, 2), "i4"),
            "one": numpy.ones((1, 1)), "deep": numpy.arange(2 ** 8, dtype="f4").reshape((2,) * 8),
            "big": numpy.random.default_rng(2).standard_normal((1000, 500))}
    round_trip(scene, scene.agent(), {f"{name}.npy": save(scene, f"{name}.npy", made[name]) for name in made})


@scenario
def large_descriptions(scene):
    """Tables of very many named columns: headers of 9 and of 64 KiB, in formats 1, 2 and 3, also to who waits already"""
    agent = scene.agent()
    made = {"columns": [(f"column_of_measurement_{i}", "<f8") for i in range(300)],
            "most": [(f"c{i:04}", "<i4", (2,)) for i in range(2490)],
            "format2": [(f"a_longer_name_{i:04}", "<i4") for i in range(2500)],
            "format3": [(f"gr\u00f6\u00dfe{i:04}", "<f4") for i in range(2600)]}
    arrays, waiting = {}, []
    for name, dtype in made.items():
        array = numpy.zeros(3, dtype)
        array[dtype[1][0]] = 7
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that old versions of numpy cannot read it
            arrays[f"{name}.npy"] = save(scene, f"{name}.npy", array)
        waiting.append(scene.start("attach", "-d", agent.folder, f"{name}.npy", "--format", "json"))
    sizes = [os.path.getsize(path) for path in arrays.values()]
    ensure(9000 < sizes[0] and 65000 < sizes[1] and min(sizes[2:]) > 70000, f"{sizes}")
    for name, path in arrays.items():
        scene.send([agent], path).expect(0)
    for (name, dtype), waiter in zip(made.items(), waiting):
        said = waiter.finish().expect(0).last["dtype"]
        ensure([field[0] for field in said] == [field[0] for field in dtype], f"{name}: {str(said)[:200]}")
    for name, path in arrays.items():
        done = scene.start("attach", "-d", agent.folder, name, "--", "/usr/bin/python3", "-c", LARGE, path).finish()
        done.expect(0, out="equal")


@scenario
def many_workers(scene):
    """Workers of three hosts that wait before the broadcast all get the same array, mapped."""
    agents = scene.agents(3)
    array = numpy.random.default_rng(3).standard_normal((256, 1024))
    path = save(scene, "a.npy", array)
    workers = [scene.start("attach", "-d", agent.folder, "a.npy", "--", "/usr/bin/python3", "-c", WORKER, path)
               for agent in agents for _ in range(2)]
    scene.send(agents, path).expect(0)
    for worker in workers:
        worker.finish().expect(0, out="equal")


def refused(scene, name, data, why):
    with open(scene.path(name), "wb") as file:
        file.write(data)
    answer = scene.send("127.0.0.1:9", scene.path(name))
    ensure(answer.code in (2, 10), f"{why}: {answer}")
    ensure(answer.err.count("\n") == 1 and name in answer.err and "--raw" in answer.err, f"{why}: {answer}")
    return scene.path(name)


@scenario
def refused_headers(scene):
    """Objects and broken headers are refused in one line that names the file and --raw, before anyone is dialled."""
    objects = io.BytesIO()
    numpy.save(objects, numpy.array([{}, None], object), allow_pickle=True)
    good = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"
    eight = bytes(16)
    whole = npy_text(good, eight)
    for name, data, why in (
            ("objects.npy", objects.getvalue(), "an object array"),
            ("inner.npy", npy_text(good.replace("'<f8'", "[('a', '|O')]"), eight), "objects in a structure"),
            ("empty.npy", b"", "an empty file"),
            ("text.npy", b"a,b,c\n1,2,3\n" * 20, "no .npy at all"),
            ("short.npy", whole[:40], "half a header"),
            ("long.npy", whole + b"x", "a byte too many"),
            ("cut.npy", whole[:-1], "a byte missing"),
            ("version.npy", whole[:6] + b"\x09" + whole[7:], "an unknown version"),
            ("huge.npy", npy_text(good.replace("(2,)", "(99999999999, 99999999999, 99999999999)"), eight), "overflow"),
            ("minus.npy", npy_text(good.replace("(2,)", "(-2,)"), eight), "a negative length"),
            ("code.npy", npy_text(good.replace("(2,)", "__import__('os')"), eight), "code"),
            ("keys.npy", npy_text("{'descr': '<f8', 'shape': (2,), }", eight), "a missing key"),
            ("twice.npy", npy_text(good[:-2] + "'shape': (2,), }", eight), "a key twice"),
            ("dtype.npy", npy_text(good.replace("<f8", "<f7"), eight), "no such type"),
            ("deep.npy", npy_text("{'descr': " + "[" * 5000, eight), "brackets without end")):
        refused(scene, name, data, why)


@scenario
def sent_raw(scene):
    """--raw takes any .npy as plain bytes, and --dtype describes it all the same."""
    agent = scene.agent()
    objects = scene.path("objects.npy")
    numpy.save(objects, numpy.array([{}, None], object), allow_pickle=True)
    scene.send([agent], objects, "--raw").expect(0)
    scene.require_published([agent], "objects.npy", objects)
    shown = scene.run("attach", "-d", agent.folder, "objects.npy", "--format", "json").expect(0).last
    ensure(shown["dtype"] is None and shown["offset"] in (0, None), f"{shown}")
    plain = scene.noise("plain.npy", 80)
    scene.send([agent], plain, "--raw", "--dtype", ">i2", "--shape", "2,20").expect(0)
    shown = scene.run("attach", "-d", agent.folder, "plain.npy", "--format", "json").expect(0).last
    ensure((shown["dtype"], shown["shape"], shown["offset"]) == (">i2", [2, 20], 0), f"{shown}")


@scenario
def raw_descriptions(scene):
    """--dtype and --shape must fit the bytes; else one line and exit 2."""
    source = scene.noise("a.raw", 800)
    for options, words in ((["--dtype", "f8", "--shape", "3,-1"], "3,-1"), (["--dtype", "f8", "--shape", "101"], "101"),
                           (["--dtype", "<f8", "--shape", "-1,-1"], "-1"), (["--dtype", "nonsense"], "nonsense"),
                           (["--dtype", "O"], "O"), (["--shape", "100"], "--dtype"),
                           (["--dtype", "f8", "--shape", "10,x"], "x")):
        answer = scene.send("127.0.0.1:9", source, *options).expect(2, err=words)
        ensure(answer.err.count("\n") == 1, str(answer))
    npy = save(scene, "a.npy", numpy.zeros(3))
    scene.send("127.0.0.1:9", npy, "--dtype", "f8").expect(2, err="--raw")
    ensure(not os.path.exists(scene.path("host1")), "an agent was started")


if __name__ == "__main__":
    main()
