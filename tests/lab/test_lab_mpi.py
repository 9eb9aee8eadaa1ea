#!/usr/bin/python3
"""The MPI example across hosts of the lab: one copy on each host, whatever the number of its ranks.

Open MPI's; LAB_MPI=mpich tries MPICH. Over UCX that hangs now and then between namespaces of one machine, which look like
one host to it (in MPI_Init, as it seems), so it is no part of a check. tests/scenario/mpi.py runs both on one host.
"""

import math
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True

import numpy

from cast import DIR, Cast
from lab import Lab, Skip
from tap import ensure, find_treecast, folder, note, run_tests

TOP, BUILD = os.environ.get("top_srcdir", "."), os.environ.get("top_builddir", ".")
NAME = "a.npy"
RANKS = 2  # on each of two hosts

# Starts MPI's daemon on a host: SCRIPT [options] HOST COMMAND...
LAUNCHER = """#!/bin/sh
while case $1 in -*) true ;; *) false ;; esac; do shift; done
host=$1
shift
case $host in
%s
*) exit 1 ;;
esac
exec nsenter -t "$pid" -n -u -m -i -- sh -c "$*"
"""


def build(mpi, place):
    if not shutil.which(f"mpicc.{mpi}"):
        raise Skip(f"no mpicc.{mpi}")
    program = f"{place}/mpi_norm"
    subprocess.run([f"mpicc.{mpi}", "-O2", f"-I{TOP}/include", f"{TOP}/doc/examples/mpi_norm.c", f"-L{BUILD}/.libs",
                    "-ltreecast", "-lm", "-o", program], check=True)
    return program


def prepare(lab, place):
    """Names for the hosts, and a program that starts things on them."""
    with open(f"{place}/hosts", "w", encoding="ascii") as out:
        out.write("127.0.0.1 localhost\n" + "".join(f"{lab.address(i)} h{i}\n" for i in range(lab.hosts)))
    for i in range(lab.hosts):
        code, _, errors = lab.run(i, ["mount", "--bind", f"{place}/hosts", "/etc/hosts"])
        ensure(code == 0, errors.decode())
    pids = "\n".join(f"h{i}|{lab.address(i)}) pid={lab.holder(i)} ;;" for i in range(lab.hosts))
    with open(f"{place}/launch", "w", encoding="ascii") as out:
        out.write(LAUNCHER % pids)
    os.chmod(f"{place}/launch", 0o755)


def command(mpi, place, program):
    if mpi == "mpich":
        return ["mpiexec.mpich", "-launcher", "rsh", "-launcher-exec", f"{place}/launch", "-localhost", "h0",
                "-hosts", "h1,h2", "-ppn", str(RANKS), "-n", str(2 * RANKS), program, NAME, DIR]
    return ["mpiexec.openmpi", "--allow-run-as-root", "--mca", "plm_rsh_agent", f"{place}/launch", "--mca",
            "btl", "tcp,self,vader", "-x", "LD_LIBRARY_PATH", "--host", f"h1:{RANKS},h2:{RANKS}", "-n", str(2 * RANKS),
            program, NAME, DIR]


def run_once(mpi, array):
    """What the example says on two fresh hosts."""
    with folder() as place, Lab(hosts=3, rate_mbit=1000, shm_mb=256) as lab:
        program = build(mpi, place)
        prepare(lab, place)
        numpy.save(lab.path(0, f"/dev/shm/{NAME}"), array)
        with Cast(lab, find_treecast(), place) as cast:
            cast.send(f"/dev/shm/{NAME}", NAME).require_success()
            environment = {**os.environ, "LD_LIBRARY_PATH": f"{BUILD}/.libs", "TMPDIR": place, "UCX_TLS": "tcp,self"}
            code, output, errors = lab.run(0, command(mpi, place, program), timeout=30, env=environment)
        ensure(code == 0, f"exit {code}: {output.decode()}{errors.decode()}")
        return output.decode()


def two_hosts(mpi):
    def test():
        array = numpy.random.default_rng(1).standard_normal((1024, 512))
        said = run_once(mpi, array)
        note(said)
        lines = re.findall(r"^(h\d): (\d+) ranks, treecast \S+ MiB \((\S+) copies\), MPI_Bcast \S+ MiB \((\S+) cop",
                           said, re.M)
        ensure(sorted(line[0] for line in lines) == ["h1", "h2"], said)
        for _, ranks, ours, theirs in lines:
            ensure(int(ranks) == RANKS and 0.5 < float(ours) < 1.1, said)
            ensure(RANKS * 0.95 < float(theirs) < RANKS * 1.1, said)
        norm = re.search(r"norm (\S+), equal in all ranks and both ways", said)
        ensure(norm and math.isclose(float(norm[1]), numpy.linalg.norm(array), rel_tol=1e-9), said)

    test.__doc__ = f"{mpi}: ranks on two hosts compute one norm; each host holds one copy, with MPI_Bcast one a rank"
    return test


run_tests(two_hosts(os.environ.get("LAB_MPI") or "openmpi"))
