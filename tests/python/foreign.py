#!/usr/bin/python3
"""Files that others have written: every one that numpy.load takes comes out of attach as numpy.load gives it."""

import io
import os
import struct
import sys
import warnings

import world
from world import raises
from agents import Skip, ensure, main, note, scenario

import numpy

import treecast

sys.path.insert(0, os.path.join(world.HERE, "foreign"))
from headers import REFUSED, WRITERS  # noqa: E402


def make(version, text, alignment):
    """A .npy file of six elements with this header."""
    raw = text.encode("utf-8" if version == 3 else "latin-1")
    before = 10 if version == 1 else 12
    if alignment:
        raw += b" " * (-(before + len(raw) + 1) % alignment) + b"\n"
    head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw)) + raw
    for size in range(0, 4096, 6):  # as many bytes as numpy wants for them
        data = bytes(i % 251 for i in range(size))
        try:
            numpy.load(io.BytesIO(head + data))
        except (ValueError, EOFError):
            continue
        if size:
            return head + data
    return head + bytes(48)


def same(got, expected, what):
    ensure(got.dtype == expected.dtype and got.shape == expected.shape, f"{what}: {got.dtype} {got.shape}")
    ensure(got.tobytes() == expected.tobytes(), f"{what}: elements")
    ensure(got.flags.f_contiguous == expected.flags.f_contiguous or got.size == 0, f"{what}: order")


@scenario
def writers(scene):
    """Headers of many writers, each in its manner, are read as numpy.load reads them"""
    ensure(len(WRITERS) >= 20, "too few")
    agent, path = scene.agent(), scene.path("foreign.npy")
    for who, version, text, alignment in WRITERS:
        with open(path, "wb") as file:
            file.write(make(version, text, alignment))
        try:
            expected = numpy.load(path)
            ref = treecast.send(path, hosts=agent.address, dir=agent.folder, force=True)
        except Exception as error:
            raise AssertionError(f"{who}: {error}") from error
        ensure(expected.size == 6, f"{who}: {expected.size} elements")
        same(ref.attach(10), expected, who)
        same(numpy.load(agent.path("foreign.npy")), expected, f"{who}, by its path")


@scenario
def refused(scene):
    """What numpy.load refuses is refused by the sender, with what is wrong"""
    path = scene.path("foreign.npy")
    for who, version, text, alignment, words in REFUSED:
        data = make(version, text, alignment)
        raises(ValueError, numpy.load, io.BytesIO(data)) if "list" not in who else None
        with open(path, "wb") as file:
            file.write(data)
        raises(treecast.UsageError, treecast.send, path, hosts="127.0.0.1:9", text=words)
    twice = io.BytesIO()
    numpy.save(twice, numpy.arange(3))
    numpy.save(twice, numpy.arange(4))
    with open(path, "wb") as file:
        file.write(twice.getvalue())
    raises(treecast.UsageError, treecast.send, path, hosts="127.0.0.1:9", text="a second array in the file?")


@scenario
def numpys_own(scene):
    """The arrays and files of numpy's own tests of the format come out as numpy.load gives them"""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from numpy.lib.tests import test_format
    except ImportError as error:
        raise Skip(f"numpy's tests are not installed: {error}") from None
    agent, path, count = scene.agent(), scene.path("own.npy"), 0
    for array in [*test_format.basic_arrays, *test_format.record_arrays]:
        if array.dtype.hasobject:
            continue
        numpy.save(path, array)
        ref = treecast.send(path, hosts=agent.address, dir=agent.folder, force=True)
        same(ref.attach(10), numpy.load(path), f"{array.dtype} {array.shape}")
        ref = treecast.send(array, "own.npy", hosts=agent.address, dir=agent.folder, force=True)
        same(numpy.asarray(ref.attach(10)), numpy.load(path), f"{array.dtype} {array.shape} from memory")
        count += 1
    data = os.path.join(os.path.dirname(test_format.__file__), "data")
    for name in sorted(os.listdir(data)):
        if not name.endswith(".npy"):
            continue
        if "objarr" in name:
            raises(treecast.UsageError, treecast.send, os.path.join(data, name), hosts=agent.address, text="pointers")
        else:
            ref = treecast.send(os.path.join(data, name), hosts=agent.address, dir=agent.folder)
            same(ref.attach(10), numpy.load(os.path.join(data, name)), name)
        count += 1
    note(f"{count} of them")
    ensure(count > 50, f"only {count}")


if __name__ == "__main__":
    main()
