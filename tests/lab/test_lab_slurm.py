#!/usr/bin/python3
"""A real Slurm in the lab: its prologs start agents, jobs send and map arrays, its epilogs leave nothing, and nothing
that goes wrong with treecast takes a node out of service."""

import json
import os
import sys
import time

sys.dont_write_bytecode = True

from cast import smooth_field
from lab import Lab, LabError, Skip, wait_for
from slurm import BASE, KEY, SHORT, USERS, Slurm
from tap import ensure, find_treecast, note, run_tests

HOSTS = 8
WORKER = """
import os, socket, numpy
a = numpy.load(os.environ["TREECAST_ARRAY_PATH"], mmap_mode="r")
print("worker", socket.gethostname(), a.dtype, a.shape, float(a[:, 0].sum()), flush=True)
"""
slurm = None


def ensure_nothing_drained():
    ensure(not slurm.reasons(), f"Slurm has taken nodes away: {slurm.reasons()}")


def test_job():
    """sbatch: agents are there, the script sends a .npy, numpy workers on every node map it, and all is gone after."""
    smooth_field(slurm.path("alice", "field.npy"), 2 << 20)
    slurm.write("alice/worker.py", WORKER)
    job = slurm.sbatch("alice", f"""
        treecast send -q -w "$SLURM_JOB_NODELIST" field.npy
        srun -n {2 * HOSTS} treecast attach field.npy -- /usr/bin/python3 worker.py
        srun stat -c 'file %U %a %n' $TREECAST_DIR/field.npy
        """, f"-N{HOSTS}", "--ntasks-per-node=2")
    output = slurm.wait("alice", job)
    workers = [line.split(" ", 2) for line in output.splitlines() if line.startswith("worker ")]
    ensure(sorted(host for _, host, _ in workers) == sorted(2 * [f"h{i}" for i in range(HOSTS)]), output)
    ensure(len({said for _, _, said in workers}) == 1, f"workers saw different arrays: {output}")
    ensure("float64 (256, 1024)" in workers[0][2], output)
    files = {line for line in output.splitlines() if line.startswith("file ")}
    ensure(files == {f"file root 444 {slurm.directory('alice', job)}/field.npy"}, output)
    slurm.settled()
    ensure_nothing_drained()


def test_switches():
    """topology/tree: inside a job Slurm is asked for the switches, with no option at all, and the list's order is nothing."""
    smooth_field(slurm.path("alice", "racks.npy"), 1 << 20)
    nodes = ",".join(f"h{i // 2 + HOSTS // 2 * (i % 2)}" for i in range(HOSTS))  # one of each switch by turns
    job = slurm.sbatch("alice", f"""
        treecast plan -w {nodes} --json
        treecast send --json -w {nodes} -F double racks.npy
        """, f"-N{HOSTS}")
    lines = [json.loads(line) for line in slurm.wait("alice", job).splitlines() if line.startswith("{")]
    plan = next(line for line in lines if line["type"] == "plan" and "groups" in line)
    groups = {group["group"]: group for group in plan["groups"]}
    ensure(set(groups) == {"top", "top.s1", "top.s2"}, f"groups: {groups}")
    ensure(groups["top.s2"]["in"] == 1 and groups["top.s1"]["in"] == 0, f"groups: {groups}")
    found = {line["host"]: line["group"] for line in lines if line["type"] == "host"}
    ensure(found == {f"h{i}": "top.s1" if i < HOSTS // 2 else "top.s2" for i in range(HOSTS)}, f"hosts: {found}")
    slurm.settled()
    ensure_nothing_drained()


def test_failures():
    """A missing key, a full /dev/shm and a base that others may write drain no node, and jobs run there all the same."""
    nodes = ["h0", "h1", "h2"]
    os.rename(slurm.lab.path(0, KEY), slurm.lab.path(0, KEY + ".away"))
    full = slurm.lab.path(1, "/dev/shm/full")
    with open(full, "wb") as file:
        space = os.statvfs(slurm.lab.path(1, "/dev/shm"))
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)
    base = slurm.lab.path(2, BASE)
    os.makedirs(base, exist_ok=True)
    os.chmod(base, 0o775)
    try:
        job = slurm.sbatch("alice", "srun -l hostname; srun -l sh -c 'echo has $(ls $TREECAST_DIR/.treecast/key 2>&1)'",
                           "-w", ",".join(nodes), "-N3")
        output = slurm.wait("alice", job)
    finally:
        os.rename(slurm.lab.path(0, KEY + ".away"), slurm.lab.path(0, KEY))
        os.unlink(full)
        os.chmod(base, 0o711)
    ensure(all(f": {name}" in output for name in nodes), output)
    ensure(slurm.directory("alice", job) + "/" not in output, f"an agent where none can be: {output}")
    slurm.settled()
    ensure_nothing_drained()
    job = slurm.sbatch("alice", "test -r $TREECAST_KEY_FILE", "-w", nodes[0], "-N1")  # as before
    slurm.wait("alice", job)
    slurm.settled()


def test_two_users():
    """Two users' jobs on one node, at the same time: neither sees the other's arrays, keys or agent."""
    smooth_field(slurm.path("alice", "secret.npy"), 1 << 16)
    smooth_field(slurm.path("bob", "other.npy"), 1 << 16)
    ready, over = slurm.path("alice", "ready"), slurm.path("bob", "over")
    first = slurm.sbatch("alice", f"""
        treecast send -q -w h1 secret.npy
        echo $TREECAST_DIR $TREECAST_PORT >{ready}.new; mv {ready}.new {ready}
        until [ -e {over} ]; do sleep 0.1; done
        treecast list
        """, "-w", "h1", "-t", "2")
    try:
        second = slurm.sbatch("bob", f"""
            trap ': >{over}' EXIT
            until [ -e {ready} ]; do sleep 0.1; done
            read dir port <{ready}
            treecast send -q -w h1 other.npy
            treecast list
            ! ls $dir 2>/dev/null
            ! cat $dir/secret.npy 2>/dev/null
            ! cat $dir/.treecast/key 2>/dev/null
            ! treecast attach -t 1 -d $dir secret.npy 2>/dev/null
            code=0; treecast send -q -w h1 -p $port other.npy 2>/dev/null || code=$?
            echo with the wrong key $code
            """, "-w", "h1", "-t", "2")
        bob = slurm.wait("bob", second)
    finally:
        with open(over, "wb"):
            pass
    alice = slurm.wait("alice", first)
    ensure("with the wrong key 4" in bob and "other.npy" in bob and "secret.npy" not in bob, bob)
    ensure("secret.npy" in alice and "other.npy" not in alice, alice)
    slurm.settled()
    ensure_nothing_drained()


def test_cancelled():
    """scancel in the middle of a broadcast: sender, agents, half an array and directories are gone, nodes are idle."""
    with open(slurm.path("alice", "big.bin"), "wb") as file:
        file.write(os.urandom(1 << 20) * 48)
    job = slurm.sbatch("alice", 'treecast send -q -C none -w "$SLURM_JOB_NODELIST" big.bin', f"-N{HOSTS}")
    state = f"{slurm.directory('alice', job)}/.treecast"

    def under_way():
        ensure(str(job) in slurm.jobs(), f"the job has ended too early: {slurm.output('alice', job)}")
        folder = slurm.lab.path(1, state)
        return os.path.isdir(folder) and any(name.endswith(".part") and os.stat(f"{folder}/{name}").st_blocks > 0
                                             for name in os.listdir(folder))
    wait_for(under_way, "the first bytes", timeout=SHORT)
    code, _, errors = slurm.run("alice", "scancel", job)
    ensure(code == 0, errors)
    slurm.wait("alice", job, expect=None)
    slurm.settled()
    ensure_nothing_drained()


def plugin():
    """The SPANK plug-in of this build, where it was configured."""
    path = os.path.join(os.environ.get("top_builddir", "."), ".libs", "spank_treecast.so")
    return path if os.path.exists(path) else None


def test_launched():
    """A job without the prolog's key: send starts agents by srun on every node, beside a step that has every CPU, and
    they are gone with it, also when the job is cancelled."""
    smooth_field(slurm.path("alice", "field.npy"), 2 << 20)
    without = "unset TREECAST_KEY_FILE; export TREECAST_AGENT_DIR=/dev/shm/mine\n"  # TREECAST_DIR is the prolog's
    job = slurm.sbatch("alice", f"""{without}
        srun -n {2 * HOSTS} sleep 600 &
        treecast send field.npy mine.npy
        srun --overlap -N{HOSTS} -n{HOSTS} stat -c 'file %U %a %n' /dev/shm/mine/mine.npy
        srun --overlap -N{HOSTS} -n{HOSTS} rm -r /dev/shm/mine
        kill $!
        """, f"-N{HOSTS}", "--ntasks-per-node=2")
    output = slurm.wait("alice", job)
    ensure(f"{HOSTS} of {HOSTS} hosts" in output, output)
    files = [line for line in output.splitlines() if line.startswith("file ")]
    ensure(files == HOSTS * ["file alice 444 /dev/shm/mine/mine.npy"], output)
    slurm.settled()
    job = slurm.sbatch("alice", f"{without} treecast send --bwlimit 256K -C none field.npy slow.npy", f"-N{HOSTS}")
    wait_for(lambda: len(slurm.agents()) >= 2 * HOSTS, "the job's agents beside the prolog's", timeout=SHORT)
    slurm.run("alice", "scancel", str(job))
    slurm.wait("alice", job, expect=None)
    slurm.settled()
    ensure_nothing_drained()


def test_spank():
    """srun, sbatch and salloc --treecast=FILE:NAME: the array is on every node before a task begins, and sent once."""
    if not plugin():
        raise Skip("the plug-in was not built (libslurm-dev)")
    smooth_field(slurm.path("alice", "in.npy"), 1 << 20)
    inode = "stat -c 'inode %i' $TREECAST_DIR/as.npy"
    job = slurm.sbatch("alice", f"{inode}; srun -l {inode}; srun -N1 -n1 {inode}", f"-N{HOSTS}",
                       "--treecast=in.npy:as.npy")
    output = slurm.wait("alice", job)
    ensure(output.count("inode") == HOSTS + 2, output)
    first = [line.split()[-1] for line in output.splitlines() if "inode" in line and line.startswith(("inode", "0:"))]
    ensure(len(first) == 3 and len(set(first)) == 1, f"it was sent again: {output}")
    code, output, errors = slurm.run("alice", "srun", "-N3", "-l", "--treecast=in.npy", "sh", "-c",
                                     "cmp $TREECAST_DIR/in.npy in.npy && echo the same")
    ensure(code == 0 and output.count("the same") == 3, f"{code}: {output}{errors}")
    code, output, errors = slurm.run("alice", "salloc", "-N2", "--treecast=in.npy:x.npy", "srun", "-l", "sh", "-c",
                                     "cmp $TREECAST_DIR/x.npy in.npy && echo the same")
    ensure(code == 0 and output.count("the same") == 2, f"{code}: {output}{errors}")
    code, output, errors = slurm.run("alice", "srun", "-N2", "--treecast=nowhere.npy", "echo", "it ran")
    ensure(code != 0 and "it ran" not in output and "nowhere.npy" in errors, f"{code}: {output}{errors}")
    slurm.settled()
    ensure_nothing_drained()


def test_sbcast():
    """treecast-sbcast puts a program in place as sbcast does; without -f it refuses what is there already."""
    slurm.write("alice/prog", "#!/bin/sh\necho I run\n", 0o751)
    os.chown(slurm.path("alice", "prog"), USERS["alice"], USERS["alice"])
    os.utime(slurm.path("alice", "prog"), (1e9, 1.1e9))
    job = slurm.sbatch("alice", f"""
        treecast-sbcast -v prog /dev/shm/prog
        srun -l /dev/shm/prog
        srun -l stat -c 'mode %a %U' /dev/shm/prog
        code=0; treecast-sbcast prog /dev/shm/prog || code=$?; echo again $code
        treecast-sbcast -C -p -f -F 2 -s 100k -t 30 --send-libs=no prog /dev/shm/prog
        srun -l stat -c 'time %Y' /dev/shm/prog
        code=0; treecast-sbcast --send-libs prog /dev/shm/prog || code=$?; echo libraries $code
        code=0; treecast-sbcast prog /nowhere/prog || code=$?; echo nowhere $code
        srun -l sh -c 'rm /dev/shm/prog; echo left $(ls -A /dev/shm | grep sbcast)'
        """, f"-N{HOSTS}")
    output = slurm.wait("alice", job)
    for text, times in (("I run", HOSTS), ("mode 751 alice", HOSTS), ("time 1100000000", HOSTS),
                        (f"h[0-{HOSTS - 1}]: /dev/shm/prog is there already (use -f)", 1), ("again 1", 1),
                        ("libraries 2", 1), ("nowhere 1", 1)):
        ensure(output.count(text) == times, f"{text!r} {output.count(text)} times, not {times}: {output}")
    ensure(all(line.endswith("left") for line in output.splitlines() if ": left" in line), output)
    slurm.settled()
    ensure_nothing_drained()


def main():
    global slurm
    began = time.monotonic()
    tests = [test_job, test_switches, test_failures, test_two_users, test_cancelled, test_launched, test_spank, test_sbcast]
    try:
        with Lab(hosts=HOSTS, rate_mbit=100, shm_mb=128) as lab, \
                Slurm(lab, find_treecast(), plugin=plugin()) as slurm:
            note(f"{HOSTS} nodes were up after {time.monotonic() - began:.1f} s")
            run_tests(*tests)
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")


if __name__ == "__main__":
    main()
