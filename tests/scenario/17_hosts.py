#!/usr/bin/python3
"""Host lists beside the tools that people have: what `treecast hosts` folds is read back the same by Slurm's scontrol,
ClusterShell's nodeset and pdsh; host files of other tools; the job's hosts without arguments."""

import os
import random
import re
import subprocess

from agents import ensure, main, scenario

ROUNDS = 25


def ask(argv, **variables):
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False,
                            env={**os.environ, **variables})
    ensure(answer.returncode == 0, f"{argv}: {answer.stderr}")
    return answer.stdout


def slurm_reader(scene):
    """scontrol show hostnames wants a configuration, and no daemon."""
    conf = f"{scene.folder}/slurm.conf"
    with open(conf, "w", encoding="ascii") as file:
        file.write("ClusterName=test\nSlurmctldHost=localhost\nNodeName=localhost\nPartitionName=p Nodes=localhost\n")
    return lambda folded: ask(["scontrol", "show", "hostnames", folded], SLURM_CONF=conf).split()


def read_pdsh(folded):
    return ask(["pdsh", "-Q", "-w", folded]).splitlines()[-1].split(",")


def random_hosts(chance):
    """A set as clusters have them: a few prefixes, one or two numbers, widths and gaps."""
    forms = ["n{0}", "node{0:03d}", "r{1}n{0:02d}", "login", "gpu{0}-ib", "x{1}c{0}s0", "u{0:02d}.site"]
    chosen, most = chance.sample(forms, chance.randint(1, 3)), chance.choice([5, 12, 120])
    hosts = {chance.choice(chosen).format(chance.randint(0, most), chance.randint(1, 3))
             for _ in range(chance.randint(1, 40))}
    return chance.sample(sorted(hosts), len(hosts))


@scenario
def folded_for_others(scene):
    """What is folded is the same set of hosts to scontrol, nodeset and pdsh, and what nodeset folds is one to us.

    Slurm's lists have no text behind the last bracket of a word: there scontrol says "Invalid hostlist" (and exits 0)."""
    chance = random.Random(17)
    readers = {"scontrol": slurm_reader(scene), "nodeset": lambda folded: ask(["nodeset", "-e", folded]).split(),
               "pdsh": read_pdsh}
    for _ in range(ROUNDS):
        hosts = random_hosts(chance)
        folded = scene.run("hosts", *hosts).expect(0).out.strip()
        for name, read in readers.items():
            words = re.findall(r"(?:[^,\[]|\[[^\]]*\])+", folded)
            if name == "scontrol" and any("[" in word and not word.endswith("]") for word in words):
                continue
            ensure(sorted(read(folded)) == sorted(hosts), f"{name} reads {folded} as {read(folded)}, not {hosts}")
        theirs = ask(["nodeset", "-f", *hosts]).strip()
        ours = scene.run("hosts", "-e", theirs).expect(0).out.split()
        ensure(sorted(ours) == sorted(hosts), f"{theirs}: {ours}")


@scenario
def steps(scene):
    """ClusterShell's steps are read as ClusterShell reads them."""
    for text in ("n[0-10/2]", "n[01-20/3,40]", "r[1-2]n[0-9/4]"):
        theirs = ask(["nodeset", "-e", text]).split()
        ensure(scene.run("hosts", "-e", text).expect(0).out.split() == theirs, text)


@scenario
def job_hosts(scene):
    """Without arguments: the hosts of the job; without a job a line that says what to do."""
    inside = {**scene.environment(), "SLURM_JOB_NODELIST": "node[1-3]"}
    scene.run("hosts", env=inside).expect(0, out="node[1-3]\n")
    scene.run("hosts", "-c", env=inside).expect(0, out="3\n")
    scene.run("hosts", "-c", "a,b", env=inside).expect(0, out="2\n")
    scene.run("hosts").expect(2, err="no hosts: name them with -w LIST")


@scenario
def host_files(scene):
    """--hostfile: Open MPI's settings with blanks are one host, pdsh's includes are read, MPICH's colon is named."""
    def plan(text, code, **expected):
        with open(f"{scene.folder}/hosts", "w", encoding="ascii") as file:
            file.write(text)
        return scene.run("plan", "--hostfile", f"{scene.folder}/hosts", "--size", "1G", "--json").expect(code, **expected)
    with open(f"{scene.folder}/more", "w", encoding="ascii") as file:
        file.write("n[2-3]\n")
    for text, count in (("node1 slots = 4\n", 1), ("u@n1 slots=2 // ours\n#include more\n", 3)):
        ensure(plan(text, 0).lines[-1].get("hosts") == count, str(plan(text, 0)))
    plan("a\nn1:4\n", 2, err="hosts:2: 'n1:4' looks like MPICH's host:processes")
    plan("a\n4\n", 2, err="hosts:2: host list: 4: a number is no host")
    plan("#include gone\n", 2, err="gone: No such file")


if __name__ == "__main__":
    main()
