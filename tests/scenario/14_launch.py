#!/usr/bin/python3
"""Agents that send starts itself, and that go again whatever happens. Prints TAP.

Slurm, PBS, LSF, SGE and Flux are their documented environment with stand-ins for srun, ssh, blaunch, qrsh and flux, which
run here what they are to run there; tests/lab has the real Slurm."""

import os
import re
import signal
import socket

from agents import SLOW, ensure, main, read, same_bytes, scenario, unused_port, wait_for

# ssh: options, host, command. Notes how deep in the tree it is, which the real one would not know.
SSH = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
if [ "$1" = -G ]; then echo "user root"; echo "hostname ${2#alias-}"; exit; fi
host=${1#*@}
echo "$1" >>"$NOTES/targets"; shift
DEPTH=$((${DEPTH:-0} + 1)); export DEPTH
echo "$host $DEPTH" >>"$NOTES/ssh"
env >>"$NOTES/seen"; echo "$*" >>"$NOTES/seen"
case $host in
inside*) [ $DEPTH -eq 1 ] || { echo "Permission denied (publickey)." >&2; exit 255; };;
crowded*)
    tries=$(cat "$NOTES/tries.$host" 2>/dev/null || echo 0); echo $((tries + 1)) >"$NOTES/tries.$host"
    if [ $tries -lt 3 ]; then
        printf '*** Welcome ***\r\nkex_exchange_identification: Connection closed by remote host\r\n' >&2; exit 255
    fi;;
down*) echo "ssh: connect to host $host port 22: No route to host" >&2; exit 255;;
hung*) exec sleep 600;;
esac
exec sh -c "$*"
"""
# blaunch HOST COMMAND, qrsh -inherit HOST COMMAND, flux exec --rank=N COMMAND; and flux getattr hostlist.
ONE = """#!/bin/sh
echo "$(basename "$0") $*" >>"$NOTES/one"
case $1 in
-inherit) shift 2;;
getattr) echo "n[1-3]"; exit;;
exec) shift 2;;
*) shift;;
esac
exec "$@"
"""
# scontrol: a node whose name is no host's; it is reached at its BcastAddr.
SCONTROL = """#!/bin/sh
echo "NodeName=$3 NodeAddr=nowhere.invalid NodeHostName=$3 BcastAddr=127.0.0.1"
"""
# srun: a task for each node of --nodelist; standard input goes to all of them.
SRUN = r"""#!/usr/bin/python3
import os, re, subprocess, sys
words = sys.argv[1:]
options = [word for word in words if word.startswith("--")]
command = words[len(options):]
with open(os.environ["NOTES"] + "/srun", "a") as notes:
    print(" ".join(options), file=notes)
    print("asked for cpus" if "SLURM_CPUS_PER_TASK" in os.environ else "asked for nothing", file=notes)
first, last = re.search(r"--nodelist=n\[(\d+)-(\d+)\]", " ".join(options)).groups()
names = [f"n{i}" for i in range(int(first), int(last) + 1)]
tasks = [subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "SLURMD_NODENAME": name}) for name in names]
while data := os.read(0, 65536):
    for task in tasks:
        os.write(task.stdin.fileno(), data)
for task in tasks:
    task.stdin.close()
sys.exit(max(task.wait() for task in tasks))
"""


def equip(scene, **more):
    """Stand-ins first in PATH, a folder for each agent, all on loopback."""
    for folder in ("bin", "notes", "agents"):
        os.mkdir(scene.path(folder))
    for name, text in (("ssh", SSH), ("srun", SRUN), ("blaunch", ONE), ("qrsh", ONE), ("flux", ONE), ("scontrol", SCONTROL)):
        with open(scene.path("bin", name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(scene.path("bin", name), 0o755)
    return scene.environment(PATH=f"{scene.path('bin')}:{os.environ['PATH']}", NOTES=scene.path("notes"),
                             TREECAST_INTERFACE="lo", TREECAST_AGENT_DIR=scene.path("agents", "%h"), **more)


def published(scene, source):
    """Hosts whose agent has the source's bytes."""
    found = []
    for host in os.listdir(scene.path("agents")):
        there = scene.path("agents", host, os.path.basename(source))
        if os.path.exists(there):
            ensure(same_bytes(there, source), f"{host} has other bytes")
            found.append(host)
    return sorted(found)


def left(scene):
    """Command lines of processes that belong to the scene."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().replace(b"\0", b" ").decode(errors="replace")
            with open(f"/proc/{pid}/environ", "rb") as file:
                ours = scene.folder in words or f"NOTES={scene.path('notes')}".encode() in file.read()
        except OSError:
            continue
        if ours:
            found.append(f"{pid}: {words}")
    return found


def require_gone(scene, within=20):
    wait_for(lambda: not left(scene), "the end of everything that was launched", timeout=within)


def names(first, last):
    return sorted(f"n{i}" for i in range(first, last + 1))


@scenario
def a_command_starts_agents(scene):
    """--launch exec: runs the command for each host; the array is there, nothing else is left."""
    environment, source = equip(scene), scene.noise("a.bin", 3 << 20)
    scene.run("send", "--launch", "exec:env HOST=%h RANK=%n", "-w", "n[1-4]", source, env=environment).expect(
        0, out="4 of 4 hosts")
    ensure(published(scene, source) == names(1, 4), f"{published(scene, source)}")
    require_gone(scene)


@scenario
def own_host_is_handled_locally(scene):
    """The agent that is launched on the sender's own host takes the source itself; only the others get bytes."""
    environment, source, own = equip(scene), scene.noise("a.bin", 3 << 20), socket.gethostname()
    words = ("send", "--launch", "exec:env HOST=%h", "-w", f"{own},n[1-2]", "--json", source)
    for name, options, adopted in (("a", (), 3 << 20), ("b", ("--local", "net"), 0)):
        run = scene.run(*words, name, *options, env=environment).expect(0)
        ensure({host: line.get("adopted", 0) for host, line in run.hosts.items()} == {own: adopted, "n1": 0, "n2": 0},
               f"{run}")
        ensure(same_bytes(scene.path("agents", own, name), source), "other bytes")
    require_gone(scene)


@scenario
def ssh_goes_as_a_tree(scene):
    """A host that is up launches others: 256 hosts are two logins away, and each is logged in to once."""
    environment, source = equip(scene), scene.noise("a.bin", 1 << 20)
    count = 256 if SLOW == 1 else 48  # a sanitized agent takes ten times the memory
    scene.run("send", "--launch", "ssh", "-w", f"n[1-{count}]", source, env=environment, timeout=120).expect(0)
    ensure(published(scene, source) == names(1, count), f"{published(scene, source)}")
    logins = [line.split() for line in read(scene.path("notes", "ssh")).splitlines()]
    ensure(sorted(host for host, _ in logins) == names(1, count), f"{logins}")
    ensure(sorted({depth for _, depth in logins}) == ["1", "2"], f"{logins}")
    require_gone(scene)


@scenario
def users_go_to_ssh(scene):
    """user@host logs in as that user, also from a helper, and the host is called by its name alone"""
    environment, source = equip(scene), scene.noise("a.bin", 1 << 20)
    run = scene.run("send", "--launch", "ssh", "-w", "n1,alice@n[2-40],bob@n41", "--json", source, env=environment)
    ensure(sorted(run.expect(0).hosts) == names(1, 41), f"{run}")
    targets = read(scene.path("notes", "targets")).split()
    ensure(sorted(targets) == sorted(["n1", *(f"alice@n{i}" for i in range(2, 41)), "bob@n41"]), f"{targets}")
    require_gone(scene)


@scenario
def hosts_that_do_not_come_up_take_no_other_along(scene):
    """Hosts that are down or hang are reported, folded; those that hung below them come up."""
    environment, source = equip(scene), scene.noise("a.bin", 1 << 20)
    hosts = "down[1-2],n[1-20],hung1,n[21-30],down3"
    run = scene.run("send", "--launch", "ssh", "--join-time", str(12 * SLOW), "--min-hosts", "30", "-w", hosts, source,
                    env=environment)
    run.expect(3, err="hung1: unreachable: not up in time")
    for number in (1, 2, 3):
        ensure(f"down{number}: unreachable: ssh: connect to host down{number} port 22: No route to host" in run.err,
               f"{run}")
    ensure(published(scene, source) == names(1, 30), f"{published(scene, source)}")
    require_gone(scene)


@scenario
def secrets_are_in_no_command_and_no_environment(scene):
    """What anyone on a host can see of a launch holds no key, neither one that was given nor one that was made."""
    environment, source, key = equip(scene), scene.noise("a.bin", 1 << 20), scene.key()
    scene.run("send", "--launch", "ssh", "-w", "n[1-3]", source, env=environment).expect(0)
    scene.run("send", "--launch", "ssh", "-k", key, "-w", "n[1-3]", source, "b", env=environment).expect(0)
    seen = read(scene.path("notes", "seen"))
    ensure("launch-helper" in seen, f"{seen}")
    ensure(not re.search("[0-9a-f]{32}", seen), f"{seen}")
    ensure(read(key).split()[4] not in seen, "the key was seen")


@scenario
def logins_that_fail_from_a_helper_are_made_by_the_sender(scene):
    """Where hosts cannot log in to each other, every host comes up all the same"""
    environment, source = equip(scene), scene.noise("a.bin", 1 << 20)
    scene.run("send", "--launch", "ssh", "--launch-fanout", "4", "-w", "inside[1-20]", source, env=environment).expect(0)
    ensure(len(published(scene, source)) == 20, f"{published(scene, source)}")
    require_gone(scene)


@scenario
def dropped_logins_are_tried_again(scene):
    """Logins that are dropped are tried again after pauses; one that is dropped for ever is told by its last line"""
    environment, source = equip(scene), scene.noise("a.bin", 1 << 20)
    scene.run("send", "--launch", "ssh", "-w", "crowded[1-6]", source, env=environment).expect(0)
    with open(scene.path("notes", "tries.crowded7"), "w", encoding="ascii") as file:
        file.write("-1000\n")
    run = scene.run("send", "--launch", "ssh", "--join-time", "4", "-w", "crowded7,n1", "--min-hosts", "1", source, "b",
                    env=environment).expect(3)
    ensure("crowded7: unreachable: kex_exchange_identification: Connection closed by remote host\n" in run.err, f"{run}")
    require_gone(scene)


@scenario
def fanout_of_one_is_flat(scene):
    """--launch-fanout 1: every login is the sender's"""
    environment, source = equip(scene), scene.noise("a.bin", 1 << 20)
    scene.run("send", "--launch", "ssh", "--launch-fanout", "1", "-w", "n[1-40]", source, env=environment).expect(0)
    logins = [line.split() for line in read(scene.path("notes", "ssh")).splitlines()]
    ensure(sorted(logins) == sorted([name, "1"] for name in names(1, 40)), f"{logins}")
    require_gone(scene)


@scenario
def aliases_of_ssh(scene):
    """A host that only ssh knows is told an address by what ssh calls it; one that nobody knows needs --interface"""
    environment, source = equip(scene), scene.noise("a.bin", 1 << 20)
    del environment["TREECAST_INTERFACE"]
    scene.run("send", "--launch", "ssh", "-w", "alias-127.0.0.1", source, env=environment).expect(0)
    scene.run("send", "--launch", "ssh", "-w", "nowhere.invalid", source, env=environment).expect(
        2, err="nowhere.invalid: no address is known for it here")
    require_gone(scene)


def under_way(scene, environment, *options):
    """A sender whose agents are up; one more never comes, so it waits."""
    source = scene.noise("a.bin", 1 << 20)
    sender = scene.start("send", *options, source, env=environment)

    def ready():
        ensure(sender.running(), f"{sender.out}{sender.err}")
        return all(os.path.isdir(scene.path("agents", name, ".treecast")) for name in names(1, 3))
    wait_for(ready, "three agents")
    return sender


@scenario
def a_sender_killed_hard_leaves_nothing(scene):
    """SIGKILL: agents, logins under way and the helper go by themselves."""
    sender = under_way(scene, equip(scene), "--launch", "ssh", "-w", "n[1-3],hung1")
    ensure(len(left(scene)) > 3, f"{left(scene)}")
    sender.kill()
    require_gone(scene, 40)


@scenario
def a_closed_terminal_leaves_nothing(scene):
    """SIGHUP, and SIGTERM with a clean report."""
    environment = equip(scene)
    sender = under_way(scene, environment, "--launch", "ssh", "-w", "n[1-3],hung1")
    sender.signal(signal.SIGHUP)
    sender.finish()
    require_gone(scene, 40)
    sender = scene.start("send", "--launch", "ssh", "-w", "n[4-6],hung2", scene.path("a.bin"), env=environment)
    wait_for(lambda: os.path.isdir(scene.path("agents", "n6", ".treecast")), "an agent")
    sender.signal(signal.SIGTERM)
    sender.finish().expect(130)
    require_gone(scene, 40)


@scenario
def in_slurm_nothing_need_be_said(scene):
    """An allocation of three nodes: srun starts the agents in a step that takes nothing from the job."""
    environment = equip(scene, SLURM_JOB_ID="7", SLURM_JOB_NODELIST="n[1-3]", SLURM_CPUS_PER_TASK="16")
    source = scene.noise("a.bin", 2 << 20)
    scene.run("send", source, env=environment).expect(0, out="3 of 3 hosts")
    ensure(published(scene, source) == names(1, 3), f"{published(scene, source)}")
    said = read(scene.path("notes", "srun"))
    for option in ("--overlap", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--cpu-bind=none", "--mem=0",
                   "--kill-on-bad-exit=0", "--input=all"):
        ensure(option in said.split(), f"{option} is not in {said}")
    ensure("asked for nothing" in said, said)
    require_gone(scene)


@scenario
def in_other_systems_too(scene):
    """PBS by ssh, the own host without; LSF by blaunch; SGE by qrsh; Flux by flux exec."""
    environment, source = equip(scene), scene.noise("a.bin", 1 << 20)
    own = socket.gethostname()
    for name, text in (("pbs", f"n1\nn1\n{own}\nn2\n"), ("sge", "n1 4 q UNDEFINED\nn2 4 q UNDEFINED\n")):
        with open(scene.path(name), "w", encoding="utf-8") as file:
            file.write(text)
    systems = {"pbs": ({"PBS_NODEFILE": scene.path("pbs")}, 3, None),
               "lsf": ({"LSB_MCPU_HOSTS": "n1 4 n2 4"}, 2, "blaunch n1 "),
               "sge": ({"PE_HOSTFILE": scene.path("sge")}, 2, "qrsh -inherit n2 "),
               "flux": ({"FLUX_URI": "local:///nowhere"}, 3, "flux exec --rank=2 ")}
    for name, (variables, hosts, launched) in systems.items():
        run = scene.run("send", source, name, env={**environment, **variables})
        run.expect(0, out=f"{hosts} of {hosts} hosts")
        ensure(launched is None or launched in read(scene.path("notes", "one")), f"{name}: {launched}")
    logins = read(scene.path("notes", "ssh"))
    ensure("n1 1" in logins and own not in logins, logins)
    require_gone(scene)


@scenario
def with_a_key_the_prologues_agents_serve(scene):
    """In a job whose prologue left a key file the agents are up already: nothing is launched. Slurm says where they are."""
    key, source = scene.key(), scene.noise("a.bin", 1 << 20)
    environment = equip(scene, SLURM_JOB_NODELIST="node7", TREECAST_KEY_FILE=key)
    agent = scene.agent("-k", key)
    scene.run("send", "-p", agent.port, source, env=environment).expect(0)
    scene.require_published([agent], "a.bin", source)
    ensure(not os.path.exists(scene.path("notes", "srun")), "srun was called")


@scenario
def agents_may_stay(scene):
    """--stay leaves them to serve: the next broadcast finds them at the port, with the key."""
    environment, source, key = equip(scene), scene.noise("a.bin", 1 << 20), scene.key()
    port = unused_port()
    scene.run("send", "--launch", "exec:env X=1", "--stay", "-k", key, "-p", port, "-w", "n1", source,
              env=environment).expect(0)
    scene.run("send", "-k", key, "-w", f"127.0.0.1:{port}", source, "b", env=environment).expect(0)
    ensure(os.path.exists(scene.path("agents", "n1", "b")), "the agent has not got it")
    for line in left(scene):
        if " recv " in line:
            os.kill(int(line.split(":")[0]), signal.SIGTERM)
    require_gone(scene)


@scenario
def what_cannot_be_is_said_before_anything_starts(scene):
    """Usage errors."""
    environment, source = equip(scene), scene.noise("a.bin", 1)
    for words, said in ((["--launch", "rsh"], "none of auto, none, srun, ssh and exec:COMMAND"),
                        (["--launch", "exec:x %q"], "%h is the host"),
                        (["--launch", "ssh", "--stay"], "with a key file"),
                        (["--launch", "ssh", "-w", "n1:7117"], "leave it out"),
                        (["--launch", "ssh", "--interface", "no0"], "neither an address nor an interface")):
        scene.run("send", *words, "-w", "n2", source, env=environment).expect(2, err=said)
    scene.run("launch-helper", env=environment).expect(1, err="gone before it said what to do")
    ensure(not os.listdir(scene.path("notes")), "something was started")


if __name__ == "__main__":
    main()
