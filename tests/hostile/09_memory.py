#!/usr/bin/python3
"""What a job's agent holds in memory is the job's: it counts in the job's cgroup, or is bounded by the hook."""

import os
import signal
import subprocess

from hostile import MIB, SLOW, ensure, main, note, scenario, wait_for
from agents import plain_only
from hook_site import ALICE, Site, alive
from memory_cgroup import MemoryCgroup, memory_controller

SLURM = "ClusterName=big\nTaskPlugin=task/affinity,task/cgroup\n"


def job_path(job):
    """Where Slurm's daemon of one of several nodes would make the job's cgroup, in either version."""
    first = memory_controller()[1] == "memory.limit_in_bytes"
    return f"slurm_tc{os.getpid()}/uid_{ALICE}/job_{job}" if first else \
        f"system.slice/tc{os.getpid()}_slurmstepd.scope/job_{job}"


def array(scene, name, size):
    source = scene.noise(name, size)
    os.chmod(source, 0o644)
    return source


def told(scene, job):
    with open(scene.path("slurm.conf"), "w", encoding="ascii") as file:
        file.write(SLURM)
    return {"SLURM_JOB_ID": str(job), "SLURM_JOB_UID": str(ALICE), "SLURM_CLUSTER_NAME": "big",
            "SLURM_CONF": scene.path("slurm.conf")}


def send(site, words, source, code=0, err=None):
    return site.as_user(ALICE, words, "send", "-w", "127.0.0.1", "--local", "net", source).expect(code, err=err)


@scenario
@plain_only
def in_the_job(scene):
    """The cgroup is there before the prolog: what it has not is refused, what is sent counts there, and the job's end takes
    the leaf away"""
    site, job = Site(scene), os.getpid()
    with MemoryCgroup(scene, 48 * MIB, job_path(job)) as group:
        site.prolog(job, env=told(scene, job))
        agent = site.agent(job)
        ensure(group.processes("/treecast") == [agent], f"in the leaf: {group.processes('/treecast')}, not {agent}")
        words, before = site.task(job), group.used()
        send(site, words, array(scene, "small", 10 * MIB))
        counted = group.used() - before
        ensure(counted >= 10 * MIB, f"{counted} bytes count in the job")
        send(site, words, array(scene, "large", 60 * MIB), code=6, err="the memory cgroup has ")
        ensure(alive(agent), "the agent was killed")
        note(f"{counted / MIB:.1f} MiB of an array of 10 count in the job of 48 MiB; one of 60 is refused")
        site.hook("epilog", job, env=told(scene, job))
        ensure(not os.path.exists(group.folder), f"left of the job's cgroup: {group.folder}")
    site.require_nothing()


@scenario
@plain_only
def after_the_prolog(scene):
    """Slurm makes the cgroup with the first step: the agent joins then, before the step's first task begins"""
    site, job = Site(scene), os.getpid()
    site.prolog(job, env=told(scene, job))
    agent = site.agent(job)
    with MemoryCgroup(scene, 48 * MIB, job_path(job)) as group:
        words = site.task(job)
        ensure(group.processes("/treecast") == [agent], f"a task began before the agent had joined: {agent}")
        send(site, words, array(scene, "large", 60 * MIB), code=6, err="the memory cgroup has ")
        # A step's own end is nothing to the agent, and a step can have its own below the job's.
        os.mkdir(f"{group.folder}/step_0")
        with subprocess.Popen(["sleep", "60"]) as task:
            with open(f"{group.folder}/step_0/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(task.pid))
            for pid in [int(line) for line in open(f"{group.folder}/step_0/cgroup.procs", encoding="ascii")]:
                os.kill(pid, signal.SIGKILL)
            task.wait()
        wait_for(lambda: os.rmdir(f"{group.folder}/step_0") is None, "the end of the step", timeout=10 * SLOW)
        send(site, words, array(scene, "small", 10 * MIB))
        site.hook("epilog", job, env=told(scene, job))
        ensure(not os.path.exists(group.folder), f"left of the job's cgroup: {group.folder}")
    site.require_nothing()


@scenario
def without(scene):
    """No cgroup: --max-memory bounds all arrays of a job together, also those that are replaced; others do not matter"""
    site = Site(scene)
    for wrong in ("0%", "101%", "5%%", "x", "%"):
        site.hook("prolog", 7, ALICE, "slurm", "--max-memory", wrong, err="--max-memory")
    for wrong in ("/absolute/%j", "no-id", "up/../%j", ""):
        site.hook("prolog", 7, ALICE, "slurm", "--cgroup", wrong, err="--cgroup" if wrong else None)
        site.hook("epilog")
    site.prolog(7, ALICE, "slurm", "--max-memory", "10M", "--cgroup", "none")
    words = site.task()
    large, half = array(scene, "large", 12 * MIB), array(scene, "half", 6 * MIB)
    send(site, words, large, code=6, err="--max-memory has 10.0 MiB")
    send(site, words, half)
    with open(scene.path("half"), "r+b") as file:  # another version, which needs memory beside the old one
        file.write(b"other")
    site.as_user(ALICE, words, "send", "-f", "-w", "127.0.0.1", "--local", "net", half).expect(6, err="--max-memory has ")
    site.as_user(ALICE, words, "send", "-w", "127.0.0.1", "--local", "copy", half, "again").expect(6, err="--max-memory")
    folder = site.folder()
    taken = sum(os.stat(f"{folder}/{name}").st_blocks * 512 for name in os.listdir(folder) if name != ".treecast")
    ensure(6 * MIB <= taken <= 10 * MIB, f"{taken} bytes are there")
    site.hook("epilog")
    site.prolog(7, ALICE, "slurm", "--max-memory", "1%")
    send(site, site.task(), half)
    site.hook("epilog")
    site.require_nothing()


if __name__ == "__main__":
    main()
