#!/usr/bin/python3
"""A real Slurm that holds jobs to their memory (task/cgroup): what the prolog's agent holds in memory is the job's."""

import os
import sys

sys.dont_write_bytecode = True

from cast import read
from lab import Lab, Skip
from slurm import CGROUPS, USERS, Slurm
from tap import ensure, find_treecast, note, run_tests

MIB = 1 << 20
slurm = None


def job_group(job):
    return f"{CGROUPS}/memory/slurm_h0/uid_{USERS['alice']}/job_{job}"


def test_memory():
    """An array larger than the job's memory is refused, one that fits counts there; steps come and go; the job's end leaves
    neither agent nor cgroup, and the node is ready"""
    for name, size in (("small", 20), ("large", 300)):
        with open(slurm.path("alice", name), "wb") as file:
            file.write(os.urandom(1 << 20) * size)
    job = slurm.sbatch("alice", f"""
        group={CGROUPS}/memory/slurm_h0/uid_$(id -u)/job_$SLURM_JOB_ID
        echo "agent $(cat $group/treecast/cgroup.procs)"
        srun -n1 true
        before=$(cat $group/treecast/memory.usage_in_bytes)
        treecast send --local net -q -w h0 small
        echo "counted $(($(cat $group/treecast/memory.usage_in_bytes) - before))"
        treecast send --local net -q -w h0 large || echo "large ended with $?"
        srun -n1 true
        echo "still $(cat $group/treecast/cgroup.procs)"
        echo "limit $(cat $group/memory.limit_in_bytes)"
        """, "-N1", "--mem=200M")
    output = slurm.wait("alice", job)
    said = dict(line.split(" ", 1) for line in output.splitlines() if line.split(" ")[0] in ("agent", "counted", "still",
                                                                                           "large", "limit"))
    ensure(said["agent"] and said["agent"] == said["still"], f"the agent is not in the job's cgroup: {output}")
    ensure(int(said["limit"]) == 200 * MIB, output)
    ensure(int(said["counted"]) >= 20 * MIB, f"the array does not count as the job's: {output}")
    ensure(said["large"] == "ended with 6" and "no space" in output and "the memory cgroup has " in output, output)
    note(f"{int(said['counted']) / MIB:.1f} MiB of an array of 20 count in a job of 200 MiB, one of 300 is refused")
    slurm.settled()
    ensure(not slurm.reasons(), f"Slurm has taken the node away: {slurm.reasons()}")
    ensure(not os.path.exists(job_group(job)), f"left of the job: {job_group(job)}")
    log = read(slurm.path("slurmd-h0.log"))
    ensure("task/cgroup: _memcg_initialize: job: alloc=200MB" in log, f"Slurm has set no limit: {log[-2000:]}")


def main():
    global slurm
    try:
        with Lab(hosts=1) as lab, Slurm(lab, find_treecast(), memory=True) as slurm:
            run_tests(test_memory)
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")


if __name__ == "__main__":
    main()
