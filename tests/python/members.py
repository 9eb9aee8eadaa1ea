#!/usr/bin/python3
"""Files of several arrays, and files of other formats by their path."""

import io
import json
import os
import subprocess
import sys

import world
from world import raises
from agents import Skip, ensure, main, scenario

import numpy

import treecast

EXAMPLES = os.path.join(world.HERE, "..", "..", "doc", "examples")


def sent(scene, agent, name, data):
    path = scene.path(name)
    with open(path, "wb") as file:
        file.write(data)
    return treecast.send(path, hosts=agent.address, dir=agent.folder, force=True)


@scenario
def npz(scene):
    """A .npz file with stored members is a mapping of arrays, none of them a copy; a compressed one is refused"""
    agent, made = scene.agent(), io.BytesIO()
    arrays = {"plain": numpy.arange(12.0).reshape(3, 4), "fortran": numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
              "text": numpy.array(["a", "\u00e4"]), "none": numpy.zeros((0, 3)), "scalar": numpy.array(7),
              "table": numpy.zeros(3, [("gr\u00f6\u00dfe", "<f8"), ("\u6570", "<i2")])}
    numpy.savez(made, **arrays)
    ref = sent(scene, agent, "several.npz", made.getvalue())
    found = ref.attach(10)
    ensure(list(found) == list(arrays) and len(found) == 6, f"{found!r}")
    for name, array in arrays.items():
        got = found[name]
        ensure(got.dtype == array.dtype and got.shape == array.shape and got.tobytes() == array.tobytes(), f"{name}: {got}")
        ensure(got.flags.f_contiguous == array.flags.f_contiguous and not got.flags.writeable, name)
    one, again = found["plain"], found["plain"]
    ensure(one.__array_interface__["data"] == again.__array_interface__["data"], "it is copied")
    raises(KeyError, found.__getitem__, "other")
    raw = treecast.attach("several.npz", agent.folder, raw=True)
    ensure(raw.tobytes() == made.getvalue(), "raw")
    made = io.BytesIO()
    numpy.savez_compressed(made, **arrays)
    ref = sent(scene, agent, "packed.npz", made.getvalue())
    raises(treecast.UsageError, ref.attach, 10, text="plain.npy is compressed")
    made = io.BytesIO()
    numpy.savez(made, objects=numpy.array([{}], object))
    raises(treecast.UsageError, sent(scene, agent, "objects.npz", made.getvalue()).attach, 10, text="Python objects")
    raises(treecast.UsageError, sent(scene, agent, "none.npz", b"PK nothing").attach, 10, text="no .npz file")


def safetensors(tensors, metadata=None, edit=lambda head: head, tail=b""):
    """A file by the format's rules, or with what edit makes of its header."""
    head, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (word, array) in tensors.items():
        head[name] = {"dtype": word, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(edit(head)).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data + tail


@scenario
def tensors(scene):
    """A .safetensors file is a mapping too, by its own rules; what it says of itself is there, and bfloat16 by its name"""
    agent = scene.agent()
    arrays = {"weight": ("F32", numpy.arange(6, dtype="<f4").reshape(2, 3)), "mask": ("BOOL", numpy.array([True, False])),
              "steps": ("I64", numpy.array(5)), "empty": ("F16", numpy.zeros((0, 4), "<f2")),
              "half": ("BF16", numpy.array([0x3f80, 0x4000], "<u2")), "small": ("F8_E4M3", numpy.array([1, 2], "u1"))}
    found = sent(scene, agent, "model.safetensors", safetensors(arrays, {"format": "pt"})).attach(10)
    ensure(set(found) == set(arrays) and found.metadata == {"format": "pt"}, f"{found!r}")
    for name, (word, array) in arrays.items():
        got = found[name]
        ensure(found.dtypes[name] == word and got.shape == array.shape and got.tobytes() == array.tobytes(), f"{name}: {got}")
    try:
        import ml_dtypes
        ensure(found["half"].dtype == ml_dtypes.bfloat16, f"{found['half'].dtype}")
    except ImportError:
        ensure(found["half"].dtype.metadata == {"safetensors": "BF16"}, f"{found['half'].dtype.metadata}")
    one = {"a": ("U8", numpy.zeros(4, "u1")), "b": ("U8", numpy.ones(4, "u1"))}

    def change(name, **members):
        return lambda head: {**head, name: {**head[name], **members}}

    for data, words in ((safetensors(one, edit=change("b", data_offsets=[2, 6])), "does not begin where"),
                        (safetensors(one, edit=change("b", data_offsets=[5, 9])), "does not begin where"),
                        (safetensors(one, edit=change("b", data_offsets=[4, 7])), "other bytes"),
                        (safetensors(one, edit=change("b", dtype="F4")), "not known"),
                        (safetensors(one, edit=change("b", shape=[-4])), "no shape"),
                        (safetensors(one, edit=change("b", shape="4")), "no shape"),
                        (safetensors(one, edit=lambda head: {**head, "c": 1}), "not described"),
                        (safetensors(one, edit=lambda head: [head]), "no .safetensors file"),
                        (safetensors(one, metadata={"a": 1}), "no texts"),
                        (safetensors(one, tail=b"x"), "9 bytes of data, of which the header describes 8"),
                        (safetensors(one).replace(b'"b"', b'"a"'), "there twice"),
                        (b"\xff" * 9, "longer than"), (b"\0" * 4, "longer than"), (b"\x02" + bytes(7) + b"no", "no .safe")):
        ref = sent(scene, agent, "bad.safetensors", data)
        raises(treecast.UsageError, ref.attach, 10, text=words)


@scenario
def other_formats(scene):
    """HDF5 and FITS files need only the path: the examples open them where they are published, without a copy"""
    agent = scene.agent()
    array = numpy.arange(600000.0).reshape(600, 1000)
    for module, name in (("h5py", "hdf5"), ("astropy.io.fits", "fits")):
        try:
            __import__(module)
        except ImportError:
            raise Skip(f"no {module} (package python3-{module.partition('.')[0]})") from None
        path = scene.path(f"table.{name}")
        if name == "hdf5":
            import h5py
            with h5py.File(path, "w") as file:
                file["table"] = array
        else:
            from astropy.io import fits
            fits.PrimaryHDU(array).writeto(path)
        treecast.send(path, hosts=agent.address)
        done = subprocess.run([sys.executable, os.path.join(EXAMPLES, f"{name}.py"), f"table.{name}", agent.folder],
                              capture_output=True, text=True, check=False, timeout=60,
                              env={**os.environ, "PYTHONPATH": world.PACKAGE})
        ensure(done.returncode == 0 and f"(600, 1000) {array.sum()} mapped" in done.stdout, done.stdout + done.stderr)


if __name__ == "__main__":
    main()
