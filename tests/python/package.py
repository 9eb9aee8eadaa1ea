#!/usr/bin/python3
"""The package by pip, and the wheel with the program inside. Offline: nothing is fetched."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

import world
from agents import Skip, ensure, find_treecast, plain_only, run_tests

ALONE = {name: value for name, value in os.environ.items() if name not in ("TREECAST", "PYTHONPATH")}


def tools(*names):
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise Skip(f"no {name} (packages python3-pip, python3-setuptools, python3-wheel)")


def run(words, **environment):
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
                          env={**ALONE, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment})
    ensure(done.returncode == 0, f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def pip(*words):
    return run([sys.executable, "-m", "pip", "-q", *words])


def version():
    return run([find_treecast(), "--version"]).split()[1]


def by_pip():
    """pip install of the folder: metadata with the program's version, type hints, every module"""
    tools("pip", "setuptools", "wheel")
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "python"), os.path.join(folder, "target")
        shutil.copytree(world.PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
        pip("install", "--no-deps", "--no-build-isolation", "--target", target, source)
        here = {name for name in os.listdir(os.path.join(world.PACKAGE, "treecast")) if name != "__pycache__"}
        there = set(os.listdir(os.path.join(target, "treecast"))) - {"__pycache__"}
        ensure(there == here and "py.typed" in there, f"{here ^ there}")
        code = "import importlib.metadata as m, treecast; print(m.version('treecast'), treecast.__version__)"
        said = run([sys.executable, "-c", code], PYTHONPATH=target).split()
        ensure(said == [version()] * 2, f"{said} is not {version()}")


@plain_only
def wheel():
    """make-wheel's wheel is for this kind of machine, has the program inside, which is found, and names what it needs"""
    tools("pip", "setuptools", "wheel")
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "target")
        maker = os.path.join(world.PACKAGE, "make-wheel")
        made, libraries = run([sys.executable, maker, os.path.realpath(find_treecast()), folder]).splitlines()
        ensure("-py3-none-linux_" in made and "libevent" in libraries and "libc.so" not in libraries, f"{made} {libraries}")
        with zipfile.ZipFile(made) as archive:
            ensure(archive.getinfo("treecast/bin/treecast").external_attr >> 16 & 0o111, "it cannot be run")
        pip("install", "--no-deps", "--target", target, made)
        code = "from treecast import _program; print(_program.find())"
        found = run([sys.executable, "-c", code], PYTHONPATH=target).strip()
        ensure(found == os.path.join(target, "treecast", "bin", "treecast"), found)
        said = run([os.path.join(target, "bin", "treecast"), "--version"], PYTHONPATH=target)
        ensure(said.split()[1] == version(), said)


if __name__ == "__main__":
    run_tests(by_pip, wheel)
