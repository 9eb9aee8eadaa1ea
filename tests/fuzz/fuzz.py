#!/usr/bin/python3
"""Fresh fuzzing: builds every target of targets.def with clang and libFuzzer, runs each for a while, prints TAP.

    fuzz.py [--seconds S] [--jobs N] [--build DIR] [--keep | --only-build] [TARGET ...]

Starts from tests/fuzz/corpus and from what earlier runs left in DIR/found. What ends a target lies in DIR/crashes and is
replayed by `tests/fuzz/replay TARGET FILE`. --keep adds what reaches new code to tests/fuzz/corpus, as few and small
files as that takes."""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

TOP = os.path.abspath(os.environ.get("top_srcdir") or os.path.join(os.path.dirname(__file__), "..", ".."))
HERE = os.path.join(TOP, "tests", "fuzz")
SANITIZE = "address,undefined"
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", '-DPACKAGE_VERSION="0"', "-O1", "-g", "-fno-omit-frame-pointer",
         "-fno-sanitize-recover=all", f"-I{TOP}/src", f"-I{TOP}/include"]
PACKAGES = ["libevent_core", "libevent_pthreads", "libssl", "libcrypto", "libzstd", "jansson", "inih", "smartcols", "libcap-ng"]
KEPT_MOST = 8192  # bytes of an input that is worth a place in the tree


def targets():
    with open(os.path.join(HERE, "targets.def"), encoding="ascii") as table:
        return {name: int(longest) for name, longest in re.findall(r"^TARGET\((\w+), (\d+)\)", table.read(), re.M)}


def packages(what):
    found = subprocess.run(["pkg-config", what, *PACKAGES], capture_output=True, text=True, check=True)
    return shlex.split(found.stdout)


def newer(path, than):
    return not os.path.exists(than) or os.path.getmtime(path) > os.path.getmtime(than)


def sources():
    """What all targets link: the product without its main, and the helpers."""
    found = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(TOP, "src"))
             for name in names if name.endswith(".c") and name != "main.c" and "/src/lib" not in folder]
    return sorted(found) + sorted(os.path.join(HERE, name) for name in os.listdir(HERE)
                                  if name.startswith("fuzz") and name.endswith(".c") and name != "fuzz_main.c")


def run(words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"Bail out! {' '.join(words)}\n{done.stderr}")


def build(options, wanted):
    """A program for each target; objects that are as new as all headers are kept."""
    headers = max(os.path.getmtime(os.path.join(folder, name)) for top in ("src", "include", "tests/fuzz")
                  for folder, _, names in os.walk(os.path.join(TOP, top)) for name in names
                  if name.endswith((".h", ".def")))
    objects = os.path.join(options.build, "objects")
    os.makedirs(objects, exist_ok=True)
    compile_flags = [*FLAGS, *packages("--cflags"), f"-fsanitize=fuzzer-no-link,{SANITIZE}"]
    made, work = [], []
    for source in sources():
        out = os.path.join(objects, os.path.relpath(source, TOP).replace("/", "-")[:-2] + ".o")
        made.append(out)
        if newer(source, out) or os.path.getmtime(out) < headers:
            work.append([options.compiler, *compile_flags, "-c", source, "-o", out])
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, work))
        libraries = packages("--libs")
        list(pool.map(run, ([options.compiler, *compile_flags, f"-fsanitize=fuzzer,{SANITIZE}",
                             f"-DTARGET_NAME=fuzz_{name}", os.path.join(HERE, "fuzz_main.c"), *made, *libraries,
                             "-lm", "-o", os.path.join(options.build, f"fuzz_{name}")] for name in wanted)))


def figures(log):
    """What libFuzzer said last of coverage, and how many inputs it tried."""
    cover = re.findall(r"cov: (\d+)", log)
    tried = re.findall(r"stat::number_of_executed_units:\s*(\d+)", log)
    return (f"{tried[-1] if tried else '?'} inputs", f"{cover[-1] if cover else '?'} edges")


def fuzz(options, name, longest):
    """Returns (ok, line, log)."""
    found, crashes = (os.path.join(options.build, what, name) for what in ("found", "crashes"))
    corpus = os.path.join(HERE, "corpus", name)
    os.makedirs(found, exist_ok=True)
    os.makedirs(crashes, exist_ok=True)
    words = [os.path.join(options.build, f"fuzz_{name}"), f"-max_total_time={options.seconds}", f"-max_len={longest}",
             "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-use_value_profile=1", "-detect_leaks=1",
             "-verbosity=1", f"-artifact_prefix={crashes}/", found, *([corpus] if os.path.isdir(corpus) else [])]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    tried, cover = figures(done.stderr)
    return done.returncode == 0, f"{name}: {options.seconds} s, {tried}, {cover}", done.stderr


def keep(options, name, longest):
    """Into the corpus of the tree: what reaches code that the files there do not."""
    corpus = os.path.join(HERE, "corpus", name)
    os.makedirs(corpus, exist_ok=True)
    merged = os.path.join(options.build, "merged", name)
    shutil.rmtree(merged, ignore_errors=True)
    os.makedirs(merged)
    run([os.path.join(options.build, f"fuzz_{name}"), "-merge=1", "-use_counters=0", f"-max_len={longest}", merged, corpus,
         os.path.join(options.build, "found", name)])
    for file in os.listdir(corpus):
        if not file.startswith(("crash-", "leak-")):  # what once broke something stays for good
            os.unlink(os.path.join(corpus, file))
    for file in os.listdir(merged):
        if os.path.getsize(os.path.join(merged, file)) <= KEPT_MOST:
            shutil.copy(os.path.join(merged, file), os.path.join(corpus, file[:12]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--build", default="fuzz-build")
    parser.add_argument("--compiler", default=shutil.which("clang") or "clang-14")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--only-build", action="store_true")
    parser.add_argument("names", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    table = targets()
    wanted = options.names or list(table)
    build(options, wanted)
    if options.only_build:
        return 0
    if options.keep:
        for name in wanted:
            keep(options, name, table[name])
        return 0
    print(f"1..{len(wanted)}", flush=True)
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(fuzz, options, name, table[name]) for name in wanted]
        for number, future in enumerate(runs, 1):
            good, line, log = future.result()
            failed += not good
            if not good:
                print("\n".join(f"# {text}" for text in log.splitlines()[-60:]))
            print(f"{'ok' if good else 'not ok'} {number} - {line}", flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
