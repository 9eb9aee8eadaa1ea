"""The MPI example, built with MPICH and with Open MPI: every rank of a host maps one copy, MPI_Bcast makes one a rank."""

import math
import os
import re
import shutil
import subprocess

import numpy

from agents import SLOW, Skip, ensure, main, scenario

TOP, BUILD = os.environ.get("top_srcdir", "."), os.environ.get("top_builddir", ".")
RANKS = 4
MPIS = {"mpich": [], "openmpi": ["--allow-run-as-root", "--oversubscribe"]}


def missing(mpi):
    """Why the example cannot be built with this MPI, or None."""
    found = shutil.which(f"mpicc.{mpi}") and shutil.which(f"mpiexec.{mpi}")
    return None if found else f"no mpicc.{mpi} here (contrib/install-deps brings it)"


def build(scene, mpi):
    program = scene.path(f"mpi_norm.{mpi}")
    library = os.environ.get("TREECAST_LIB", f"{BUILD}/.libs")
    done = subprocess.run([f"mpicc.{mpi}", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{TOP}/include",
                           f"{TOP}/doc/examples/mpi_norm.c", f"-L{library}", "-ltreecast", "-lm", "-o", program],
                          capture_output=True, text=True, check=False)
    ensure(done.returncode == 0, done.stderr)
    return program, library


def compare(mpi):
    def both_ways(scene):
        why = missing(mpi)
        if why:
            raise Skip(why)
        program, library = build(scene, mpi)
        agent = scene.agent()
        array = numpy.random.default_rng(1).standard_normal((1024, 1024))
        numpy.save(scene.path("a.npy"), array)
        scene.send([agent], scene.path("a.npy")).expect(0)
        environment = scene.environment(LD_LIBRARY_PATH=library, TMPDIR=scene.folder)
        done = subprocess.run([f"mpiexec.{mpi}", *MPIS[mpi], "-n", str(RANKS), program, "a.npy", agent.folder],
                              capture_output=True, text=True, check=False, env=environment, timeout=60 * SLOW)
        ensure(done.returncode == 0, f"exit {done.returncode}: {done.stdout}{done.stderr}")
        host = re.search(r"(\d+) ranks, treecast \S+ MiB \((\S+) copies\), MPI_Bcast \S+ MiB \((\S+) copies\)",
                         done.stdout)
        ensure(host and int(host[1]) == RANKS, done.stdout)
        # One copy of the file however many ranks map it; who else reads it (the agent) may hold a share.
        ensure(0.5 < float(host[2]) < 1.1, done.stdout)
        ensure(RANKS * 0.95 < float(host[3]) < RANKS * 1.1, done.stdout)
        norm = re.search(r"norm (\S+), equal in all ranks and both ways", done.stdout)
        ensure(norm and math.isclose(float(norm[1]), numpy.linalg.norm(array), rel_tol=1e-9), done.stdout)
        print("# " + done.stdout.strip().replace("\n", "\n# "))

    both_ways.__doc__ = f"{mpi}: {RANKS} ranks compute one norm from one copy in memory; MPI_Bcast takes {RANKS} copies"
    return both_ways


for name in MPIS:
    scenario(compare(name))

if __name__ == "__main__":
    main()
