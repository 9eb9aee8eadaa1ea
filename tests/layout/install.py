#!/usr/bin/python3
"""What `make install` puts on a system: the right files, a library that exports its contract and nothing else, and a
treecast.pc with which a program builds, in C and C++, and runs. Prints TAP."""

import contextlib
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile

TOP = os.environ["top_srcdir"]
BUILD = os.environ["top_builddir"]
CC = os.environ.get("CC") or "cc"
# A sanitizer's library and the program must be of one compiler.
COMPILERS = [shlex.split(CC), shlex.split(os.environ.get("CXX") or ("clang++" if "clang" in CC else "c++"))]
PROGRAM = r"""
#include <stdio.h>
#include <treecast.h>

int main(void)
{
    tc_array_handle *handle = (tc_array_handle *)1;
    int status = tc_array_attach("no-such-array", "/nonexistent", 0.01, &handle);
    printf("%d %d %s\n", status < 0, handle == NULL, tc_array_error());
    return 0;
}
"""


def run(command, **more):
    """Its standard output; a failure carries everything it said."""
    environment = {**os.environ, **more}
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    if done.returncode:
        raise AssertionError(f"{shlex.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def declared():
    with open(f"{TOP}/include/treecast.h", encoding="utf-8") as header:
        return set(re.findall(r"\b(tc_array_\w+)\(", header.read()))


def installed(root):
    """Every file below root, as a path from there."""
    return [os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names]


def folder_of(root, name):
    """The absolute folder that holds the installed file name."""
    for path in installed(root):
        if os.path.basename(path) == name:
            return os.path.join(root, os.path.dirname(path))
    raise AssertionError(f"{name} is not installed")


def test_files(root):
    """make install puts program, library, header, treecast.pc and completions in place, and they are readable"""
    paths = installed(root)
    for pattern in (r"bin/treecast", r"lib\S*/libtreecast\.so", r"include/treecast\.h", r"pkgconfig/treecast\.pc",
                    r"bash-completion/completions/treecast", r"zsh/site-functions/_treecast",
                    r"bin/treecast-sbcast", r"treecast/slurm/prolog", r"treecast/pbs/treecast_hook\.py",
                    r"treecast/flux/treecast\.lua", r"treecast/systemd/treecast-recv@\.service"):
        assert any(re.search(f"(^|/){pattern}$", path) for path in paths), f"no {pattern} in:\n" + "\n".join(paths)
    assert not any("test" in os.path.basename(path) for path in paths), "tests were installed"


def test_exports(root):
    """libtreecast.so exports what treecast.h declares and nothing else"""
    lib = folder_of(root, "libtreecast.so")
    table = run(["nm", "-D", "--defined-only", f"{lib}/libtreecast.so"])
    exported = {line.split()[-1].split("@")[0] for line in table.splitlines() if re.search(r" [TDBRWVi] ", line)}
    exported -= {name for name in exported if name.startswith(("__", "_init", "_fini"))}
    assert exported == declared(), f"differ: {sorted(exported ^ declared())}"


def test_needed(root):
    """libtreecast.so carries neither libevent nor libssl"""
    lib = folder_of(root, "libtreecast.so")
    needed = [line for line in run(["readelf", "-d", f"{lib}/libtreecast.so"]).splitlines() if "NEEDED" in line]
    assert not [line for line in needed if "libevent" in line or "libssl" in line], "\n".join(needed)


def build(root, source, program):
    """Build a source, C or C++, with the installed treecast.pc alone."""
    lib, include, pc = (folder_of(root, name) for name in ("libtreecast.so", "treecast.h", "treecast.pc"))
    # The prefix is not where it will be, so the two folders are given; the rest comes from the file.
    flags = shlex.split(run(["pkg-config", "--cflags", "--libs", "--define-variable=libdir=" + lib,
                             "--define-variable=includedir=" + include, pc + "/treecast.pc"]))
    sanitizer = [f"-fsanitize={os.environ['TC_SANITIZER']}"] if os.environ.get("TC_SANITIZER") else []
    compiler = COMPILERS[source.endswith(".cc")]
    run([*compiler, *sanitizer, "-Wall", "-Wextra", "-Werror", source, "-o", program, *flags, "-lm"])


def test_program(root):
    """a program builds with treecast.pc alone, and runs"""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/program.c", "w", encoding="utf-8") as out:
            out.write(PROGRAM)
        build(root, f"{folder}/program.c", f"{folder}/program")
        said = run([f"{folder}/program"], LD_LIBRARY_PATH=folder_of(root, "libtreecast.so"))
    assert re.match(r"1 1 \S", said), f"the program said: {said!r}"


def test_python(root):
    """the Python package is installed whole, where Python looks below the prefix, and can be imported from there"""
    folder = folder_of(root, "_attach.py")
    there = {name for name in os.listdir(folder) if name != "__pycache__"}
    here = {name for name in os.listdir(f"{TOP}/contrib/python/treecast") if name != "__pycache__"}
    assert there == here, f"differ: {sorted(there ^ here)}"
    assert re.search(r"lib/python3[.0-9]*/(dist|site)-packages/treecast$", folder), folder
    said = run([sys.executable, "-c", "import treecast; print(treecast.__file__)"], PYTHONPATH=os.path.dirname(folder))
    assert said.strip() == f"{folder}/__init__.py", said


@contextlib.contextmanager
def agent(folder, source):
    """An agent that has published source as A.npy in folder."""
    program = os.environ["TREECAST"]
    with subprocess.Popen([program, "recv", "-q", "-l", "127.0.0.1:0", "-d", folder], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            address = process.stdout.readline().split()[2].rstrip(",")
            run([program, "send", "-q", "-w", address, "--dtype", "<f8", source, "A.npy"])
            yield
        finally:
            process.terminate()


def test_examples(root):
    """the examples of doc/examples build, in C and C++, and do with an array what they promise"""
    numbers = struct.pack("<3d", 1.0, 2.0, 2.0)
    said = {"attach.c": "3 elements, norm 3\n", "attach.cc": "3 elements, norm 3\n",
            "progress.c": "A.npy: <f8, 3, order C\n"}
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/numbers", "wb") as out:
            out.write(numbers)
        os.mkdir(f"{folder}/arrays")
        with agent(f"{folder}/arrays", f"{folder}/numbers"):
            for name, words in said.items():
                if name.endswith(".cc") and not shutil.which(COMPILERS[True][0]):
                    print(f"# {name}: not built, there is no C++ compiler")
                    continue
                build(root, f"{TOP}/doc/examples/{name}", f"{folder}/{name}.out")
                got = run([f"{folder}/{name}.out", "A.npy", f"{folder}/arrays"],
                          LD_LIBRARY_PATH=folder_of(root, "libtreecast.so"))
                assert got == words, f"{name} said: {got!r}"


def test_versioned(root):
    """the shared library is versioned: programs ask for its name with a number"""
    lib = folder_of(root, "libtreecast.so")
    said = run(["readelf", "-d", f"{lib}/libtreecast.so"])
    assert re.search(r"SONAME.*\[libtreecast\.so\.0\]", said), said
    assert os.path.islink(f"{lib}/libtreecast.so.0"), "there is no libtreecast.so.0"


def main():
    tests = [test_files, test_exports, test_needed, test_versioned, test_program, test_examples, test_python]
    print(f"1..{len(tests)}")
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        try:
            run(["make", "-s", "-C", BUILD, "install", f"DESTDIR={root}"])
        except AssertionError as error:
            print("# " + str(error).replace("\n", "\n# "))
        for number, test in enumerate(tests, 1):
            try:
                test(root)
                print(f"ok {number} - {test.__doc__}")
            except AssertionError as error:
                failed += 1
                print(f"not ok {number} - {test.__doc__}")
                print("# " + str(error).replace("\n", "\n# "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
