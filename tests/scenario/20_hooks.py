#!/usr/bin/python3
"""Hooks of batch systems: an agent a job, reached by its user alone, gone with the job, and never a failure of the
node. Slurm itself is in tests/lab; PBS, Torque, LSF, SGE and Flux are stood in for by what they document to say."""

import glob
import os
import pwd
import re
import signal
import socket
import subprocess
import time

from agents import SLOW, Skip, ensure, main, root_configuration, scenario, wait_for
from hook_site import ALICE, BOB, FLUX_ID, SYSTEMS, Site, alive, command_of


@scenario
def life_of_a_job(scene):
    """A prolog starts the job's agent within a second, once however often; the user sends and attaches; the epilog
    leaves nothing."""
    site = Site(scene)
    site.prolog().within(3)
    first = site.agent()
    ensure(os.getsid(first) == first, "the agent is in the hook's session")
    site.prolog()
    ensure(site.agent() == first, "a second prolog started a second agent")
    told = site.task()
    ensure(told["TREECAST_DIR"] == f"{site.base}/slurm+big+7+{ALICE}", f"{told}")
    ensure(told["TREECAST_PORT"] == ",".join(map(str, site.ports())), f"{told}")
    source = scene.noise("a.bin", 300000)
    os.chmod(source, 0o644)
    site.as_user(ALICE, told, "send", "-w", "127.0.0.1", source).expect(0)
    done = site.as_user(ALICE, told, "attach", "a.bin").expect(0)
    path = done.out.strip()
    facts = os.stat(path)
    ensure((facts.st_uid, facts.st_mode & 0o777) == (0, 0o444), f"{path}: uid {facts.st_uid}, {facts.st_mode:o}")
    for name in ("key", "key.origin"):
        facts = os.stat(f"{site.folder()}/.treecast/{name}")
        ensure((facts.st_uid, facts.st_mode & 0o777) == (ALICE, 0o400), f"{name}: {facts}")
    site.hook("epilog").within(4)
    ensure(not alive(first), "the agent outlived its job")
    site.require_nothing()
    site.hook("epilog")


@scenario
def nothing_to_stand_on(scene):
    """Hooks work with no environment but the job's, with closed standard descriptors, and ignore what users set."""
    site = Site(scene)
    command = [scene.treecast, "hook", "--system=pbs", *site.words()]
    job = ["7[3].server", str(ALICE), str(ALICE)]
    shell = 'exec "$@" <&- >&- 2>&-'
    subprocess.run(["/bin/sh", "-c", shell, "sh", *command, "prolog", *job], env={}, check=True, timeout=60)
    wait_for(lambda: site.ready(7, ALICE, "pbs"), "the agent", timeout=15 * SLOW)
    os.makedirs(scene.path("home", ".config", "treecast"))
    with open(scene.path("home", ".config", "treecast", "treecast.conf"), "w", encoding="ascii") as file:
        file.write("nonsense\n")
    subprocess.run([*command, "epilog", *job], check=True, timeout=60,
                   env={"HOME": scene.path("home"), "TREECAST_BASE": "/nowhere", "TREECAST_STRICT": "yes"})
    site.require_nothing()


@scenario
def two_jobs(scene):
    """Two jobs on a host see nothing of each other: directory, keys, agent; and end apart."""
    site = Site(scene)
    site.prolog(7, ALICE)
    site.prolog(8, BOB)
    alice, bob = site.task(7, ALICE), site.task(8, BOB)
    source = scene.noise("a.bin", 1000)
    os.chmod(source, 0o644)
    site.as_user(ALICE, alice, "send", "-w", "127.0.0.1", source).expect(0)
    site.as_user(BOB, {**bob, "TREECAST_DIR": alice["TREECAST_DIR"]}, "attach", "-t", "1", "a.bin").expect(6)
    site.as_user(BOB, {**bob, "TREECAST_PORT": alice["TREECAST_PORT"]}, "send", "-w", "127.0.0.1", source).expect(4)
    site.as_user(BOB, {**bob, "TREECAST_KEY_FILE": alice["TREECAST_KEY_FILE"]}, "send", "-w", "127.0.0.1",
                 source).expect(6)
    seen = subprocess.run(["/bin/ls", site.base], capture_output=True, check=False, user=BOB, group=BOB,
                          extra_groups=[], text=True)
    ensure(seen.stdout == "", f"bob sees {seen.stdout}")
    site.hook("epilog", 7)
    ensure(site.ready(8, BOB), "the other job's agent is gone")
    site.as_user(BOB, bob, "send", "-w", "127.0.0.1", source).expect(0)
    site.hook("epilog", 8, BOB)
    site.require_nothing()


@scenario
def by_group(scene):
    """--access group: all of the job's group may read, others not."""
    site = Site(scene)
    env = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": str(ALICE), "SLURM_JOB_GID": "4000100",
           "SLURM_CLUSTER_NAME": "big"}
    site.prolog(7, ALICE, "slurm", "--access", "group", env=env)
    source = scene.noise("a.bin", 1000)
    os.chmod(source, 0o644)
    told = site.task(gid=4000100)
    done = scene.run("send", "-w", "127.0.0.1", source, user=ALICE, group=4000100, extra_groups=[],
                     env=scene.environment(**{**told, "HOME": "/nowhere"})).expect(0)
    path = f"{site.folder()}/a.bin"
    facts = os.stat(path)
    ensure((facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (0, 4000100, 0o440), f"{path}: {facts} {done}")
    for gid, code in ((4000100, 0), (BOB, 1)):
        seen = subprocess.run(["/bin/cat", path], capture_output=True, check=False, user=BOB, group=gid,
                              extra_groups=[])
        ensure(seen.returncode == code, f"group {gid}: {seen}")
    site.hook("epilog")
    site.require_nothing()


@scenario
def agents_of_nobody(scene):
    """--user: the agent is no longer root, arrays are its user's and the job's user cannot write them."""
    site = Site(scene)
    source = scene.noise("a.bin", 1000)
    os.chmod(source, 0o644)
    nobody = pwd.getpwnam("nobody").pw_uid
    # Jobs would not believe its directory: root has to say that they may.
    site.hook("prolog", 7, ALICE, "slurm", "--user", "nobody", err="write it as user into [hook] of /etc/treecast")
    ensure(not os.path.exists(site.base), "a prolog that refuses has made something")
    with root_configuration(scene, "[hook]\nuser = nobody\n"):
        believed_agents_of_nobody(scene, site, source, nobody)
    site.require_nothing()


def believed_agents_of_nobody(scene, site, source, nobody):
    site.prolog(7, ALICE, "slurm", "--user", "nobody")
    with open(f"/proc/{site.agent()}/status", encoding="ascii") as file:
        uids = re.search(r"Uid:(.*)", file.read())[1].split()
    ensure(set(uids) == {str(nobody)}, f"the agent has {uids}")
    told = site.task()
    site.as_user(ALICE, told, "send", "-w", "127.0.0.1", source).expect(0)
    facts = os.stat(f"{site.folder()}/a.bin")
    ensure((facts.st_uid, facts.st_mode & 0o777) == (nobody, 0o444), f"{facts}")
    site.as_user(ALICE, told, "attach", "a.bin").expect(0)
    site.as_user(BOB, told, "attach", "-t", "1", "a.bin").expect(6)
    site.hook("epilog", 7, ALICE, "slurm", "--user", "nobody")
    site.require_nothing()
    site.hook("prolog", 7, ALICE, "slurm", "--user", "no-such-user", err="no-such-user")
    site.require_nothing()


@scenario
def scripts(scene):
    """The scripts that are shipped exit with 0 when the program is missing, broken or killed, and else with its code."""
    top = os.environ.get("top_srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    names = sorted(glob.glob(f"{top}/contrib/*/*.in"))
    names = [name for name in names if not name.endswith((".py.in", ".lua.in", ".service.in"))]
    ensure(len(names) >= 11, f"{names}")
    program = scene.path("treecast")
    for name in names:
        with open(name, encoding="ascii") as file:
            text = file.read().replace("@bindir@", scene.folder)
        system, phase = re.search(r"--system=(\w+) ([a-z-]+)", text).groups()
        ensure((system, phase) == expected_of(name), f"{name}: {system} {phase}")
        for body, mode, code in ((None, 0, 0), ("", 0o644, 0), ("#!/nowhere\n", 0o755, 0), ("\0\0", 0o755, 0),
                                 ("#!/bin/sh\nkill -9 $$\n", 0o755, 0), ("#!/bin/sh\nexit 42\n", 0o755, 42)):
            if body is not None:
                with open(program, "w", encoding="ascii") as file:
                    file.write(body)
                os.chmod(program, mode)
            done = subprocess.run(["/bin/sh", "-c", text, "sh", "7"], env={}, check=False, capture_output=True)
            ensure(done.returncode == code, f"{name} with {body!r}: {done}")
        os.unlink(program)


def expected_of(name):
    """The system and the phase that a script's place stands for."""
    system, script = name.split("/")[-2:]
    phase = {"prologue": "prolog", "pre_exec": "prolog", "epilogue": "epilog", "post_exec": "epilog"}
    script = script[:-3]
    return "torque" if system == "pbs" else system, phase.get(script, script)


@scenario
def openpbs_hook(scene):
    """The OpenPBS hook starts and ends agents and sets the environment, under a stand-in for PBS's module."""
    top = os.environ.get("top_srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    with open(f"{top}/contrib/pbs/treecast_hook.py.in", encoding="ascii") as file:
        text = file.read().replace("@bindir@", scene.folder)
    with open(scene.path("treecast"), "w", encoding="ascii") as file:
        file.write('#!/bin/sh\necho "$@" >>' + scene.path("said") + '\n[ $3 != task-prolog ] || echo export A=b\n'
                   '[ $3 != prolog ] || exit 2\n')
    os.chmod(scene.path("treecast"), 0o755)
    with open(scene.path("pbs.py"), "w", encoding="ascii") as file:
        file.write('EXECJOB_BEGIN, EXECJOB_LAUNCH, EXECJOB_END, LOG_WARNING = 1, 2, 4, 8\n'
                   'import sys\nclass Event: pass\nclass Job: pass\n_e = Event()\n_e.type = int(sys.argv[1])\n'
                   '_e.env, _e.job = {}, Job()\n_e.job.id, _e.job.euser, _e.job.egroup = "7.s", "alice", "users"\n'
                   'def _reject(text, code):\n    print("rejected", code)\n    sys.exit(0)\n'
                   '_e.reject = _reject\n_e.accept = lambda: print("accepted", _e.env)\n'
                   'def event(): return _e\ndef logmsg(level, text): print("log", text)\n')
    with open(scene.path("hook.py"), "w", encoding="ascii") as file:
        file.write(text)
    for kind, out in ((1, "rejected 2"), (2, "accepted {'A': 'b'}"), (4, "accepted {}")):
        scene.start_program("/usr/bin/python3", scene.path("hook.py"), str(kind)).finish().expect(0, out=out)
    with open(scene.path("said"), encoding="ascii") as file:
        ensure(file.read() == "hook --system=pbs prolog 7.s alice users\nhook --system=pbs task-prolog 7.s alice users\n"
               "hook --system=pbs epilog 7.s alice users\n", "the program was called otherwise")
    os.unlink(scene.path("treecast"))
    scene.start_program("/usr/bin/python3", scene.path("hook.py"), "1").finish().expect(0, out="accepted")


@scenario
def every_system(scene):
    """PBS, Torque, LSF, SGE and Flux: the job by what they document to say, the same in prolog, task and epilog."""
    site = Site(scene)
    source = scene.noise("a.bin", 1000)
    os.chmod(source, 0o644)
    for system in SYSTEMS:
        site.prolog(FLUX_ID, ALICE, system)
        told = site.task(FLUX_ID, ALICE, system)
        site.as_user(ALICE, told, "send", "-w", "127.0.0.1", source).expect(0)
        site.hook("epilog", FLUX_ID, ALICE, system)
        site.require_nothing()


@scenario
def failures_drain_nothing(scene):
    """Whatever fails, a hook says why and exits 0; --strict exits with what keeps the job away and nothing more."""
    site = Site(scene)

    def fails(*options, err, phase="prolog", system="slurm", strict=1, **more):
        site.hook(phase, 7, ALICE, system, *options, err=err, **more)
        site.hook(phase, 7, ALICE, system, *options, "--strict", err=err, code=strict, **more)
        site.require_nothing()

    fails("--cluster-key", "/nonexistent/key", err="/nonexistent/key")
    fails("--cluster-key", "/nonexistent/key", err="/nonexistent/key", system="pbs", strict=2)
    fails("--cluster-key", "/nonexistent/key", err="/nonexistent/key", system="sge", strict=99)
    fails("--listen", "192.0.2.1", err="192.0.2.1")
    fails(env={"SLURM_JOB_ID": "7"}, err="whose job")
    fails(env={"X": "y"}, err="SLURM_JOB_ID")
    fails(env={"SLURM_JOB_ID": "../7", "SLURM_JOB_UID": "1"}, err="SLURM_JOB_ID (a number)")
    fails("--cluster-key", "key", err="not an absolute path")
    fails("--base", "relative", err="plain absolute path")
    fails("--ports", "9-1", err="LEAST-MOST")
    fails("--no-such-option", err="no-such-option", strict=2)
    fails("--system=moab", err="moab", strict=1)
    fails(err="must run as root", user=ALICE, group=ALICE, extra_groups=[])
    os.chmod(site.key, 0o644)
    fails(err="chmod 600")


@scenario
def places_of_others(scene):
    """A base that is a link, another's, or anybody's is refused, and what is there is left alone."""
    site = Site(scene)
    os.mkdir(scene.path("elsewhere"))
    os.symlink(scene.path("elsewhere"), site.base)
    site.hook("prolog", err="is a link")
    os.unlink(site.base)
    os.mkdir(site.base, 0o755)
    os.chown(site.base, ALICE, ALICE)
    site.hook("prolog", err="belongs to uid")
    os.chown(site.base, 0, 0)
    for mode in (0o1777, 0o757, 0o775, 0o1770):
        os.chmod(site.base, mode)
        site.hook("prolog", err="others may write")
        site.hook("epilog", err="others may write")
    os.chmod(site.base, 0o755)
    os.mkdir(f"{site.base}/deep")
    for uid, mode, err in ((0, 0o777, "others may write"), (0, 0o775, "others may write"), (ALICE, 0o755, "belongs to uid")):
        os.chown(f"{site.base}/deep", uid, 0)
        os.chmod(f"{site.base}/deep", mode)
        site.hook("prolog", 7, ALICE, "slurm", "--base", f"{site.base}/deep/jobs", err=err)
        ensure(os.listdir(f"{site.base}/deep") == [], "it was used")
    os.chown(f"{site.base}/deep", 0, 0)
    os.chmod(f"{site.base}/deep", 0o1777)  # as /dev/shm and /tmp are
    site.hook("prolog", 7, ALICE, "slurm", "--base", f"{site.base}/deep/jobs", err="")
    site.hook("epilog", 7, ALICE, "slurm", "--base", f"{site.base}/deep/jobs", err="")
    ensure(os.listdir(scene.path("elsewhere")) == [], "the link was followed")


@scenario
def deaths(scene):
    """An agent that died is started anew over a purged directory; a pid that is another process's by now is left
    alone; an agent that ignores SIGTERM is killed."""
    site = Site(scene)
    site.prolog()
    first = site.agent()
    with open(f"{site.folder()}/old", "wb"):
        pass
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not site.ready(), "the agent's death")
    site.prolog()
    ensure(site.agent() != first and not os.path.exists(f"{site.folder()}/old"), "the old life goes on")
    os.kill(site.agent(), signal.SIGSTOP)  # does not end by itself
    stopped = site.agent()
    site.hook("epilog")
    ensure(not alive(stopped), "a stopped agent lives on")
    site.require_nothing()

    site.prolog()
    os.kill(site.agent(), signal.SIGKILL)
    wait_for(lambda: not site.ready(), "the agent's death")
    with subprocess.Popen(["/bin/sleep", "60"]) as outsider:
        with open(site.hooks("agent"), "w", encoding="ascii") as file:
            file.write(f"{outsider.pid} 1 -\n")
        site.hook("epilog")
        ensure(outsider.poll() is None, "the epilog ended an outsider")
        outsider.kill()
    site.require_nothing()


@scenario
def lives(scene):
    """Where the batch system tells when a job began, a job that is run again has other keys and another agent, and the
    epilog of its first life ends nothing of the second."""
    site = Site(scene)

    def told(start):
        return {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": str(ALICE), "SLURM_CLUSTER_NAME": "big",
                "SLURM_JOB_START_TIME": start}

    def key():
        with open(f"{site.folder()}/.treecast/key", encoding="ascii") as file:
            return file.read()

    site.prolog(env=told("1700000000"))
    first, old = site.agent(), key()
    site.prolog(env=told("1700000000"))
    ensure(site.agent() == first, "the same start has a second agent")
    site.prolog(env=told("1700000099"))
    ensure(site.agent() != first and not alive(first) and key() != old, "the first life goes on")
    second = site.agent()
    site.hook("epilog", env=told("1700000000"))
    ensure(site.agent() == second and alive(second), "the first life's epilog has ended the second")
    site.hook("epilog", env=told("1700000099"))
    ensure(not alive(second), "the second life goes on")
    site.require_nothing()


@scenario
def at_the_same_time(scene):
    """Four prologs of one job at once start one agent; an epilog meanwhile leaves either all or nothing."""
    site = Site(scene)
    words = ["hook", "--system=slurm", *site.words()]
    env = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": str(ALICE), "SLURM_CLUSTER_NAME": "big"}
    for process in [scene.start(*words, "prolog", env=env) for _ in range(4)]:
        process.finish().expect(0)
    wait_for(site.ready, "the agent", timeout=15 * SLOW)
    mine = [pid for pid in os.listdir("/proc") if pid.isdigit() and f"recv\0--dir\0{site.base}".encode()
            in command_of(pid)]
    ensure(len(mine) == 1, f"{len(mine)} agents")
    for process in [scene.start(*words, phase, env=env) for phase in ("epilog", "prolog", "epilog", "epilog")]:
        process.finish().expect(0)
    site.hook("epilog")
    site.require_nothing()


@scenario
def private_memory(scene):
    """Where a job has a /dev/shm of its own, the task prolog says so and how to go on, once a host, and exits 0."""
    site = Site(scene)
    site.base = f"/dev/shm/treecast-hooks-{os.getpid()}-{time.monotonic_ns()}"
    script = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh"]
    words = [*script, scene.treecast, "hook", "--system=slurm", "--base", site.base, "task-prolog"]
    for local, text in (("0", "private to this job"), ("1", "")):
        done = subprocess.run(words, env={"SLURM_JOB_ID": "7", "SLURM_JOB_UID": "0", "SLURM_LOCALID": local, "PATH": "/usr/bin:/bin:/sbin"},
                              capture_output=True, text=True, check=False, timeout=60)
        if "unshare" in done.stderr or "mount:" in done.stderr:
            raise Skip(f"no namespaces: {done.stderr.strip()}")
        ensure((done.returncode, done.stdout) == (0, ""), f"{done}")
        ensure(text in done.stderr if text else not done.stderr, f"{done}")
    site.base = scene.path("jobs")
    os.mkdir(site.base)
    site.hook("task-prolog", err="no agent was started")


@scenario
def socket_activation(scene):
    """An agent takes the listening socket that a service manager hands over, key or loopback as ever."""
    def hand_over(address, words, count=1, pid=None):
        with socket.socket() as listening:
            listening.bind((address, 0))
            listening.listen()
            port = listening.getsockname()[1]
            script = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=sys.argv[2] or " \
                     "str(os.getpid()), LISTEN_FDS=sys.argv[3]); os.execv(sys.argv[4], sys.argv[4:])"
            process = scene.start_program("/usr/bin/python3", "-c", script, str(listening.fileno()), pid or "",
                                          str(count), scene.treecast, "recv", *words, pass_fds=[listening.fileno()])
        return process, port

    source = scene.noise("a.bin", 100000)
    process, port = hand_over("127.0.0.1", ["-d", scene.path("d"), "-l", "127.0.0.1:1", "--once"])
    scene.send([f"127.0.0.1:{port}"], source).expect(0)
    process.finish().expect(0, out=f"listening on 127.0.0.1:{port}, ")
    hand_over("0.0.0.0", ["-d", scene.path("d")])[0].finish().expect(2, err="without a key only loopback")
    hand_over("127.0.0.1", ["-d", scene.path("d")], count=2)[0].finish().expect(2, err="2 sockets")
    process, port = hand_over("127.0.0.1", ["-d", scene.path("e"), "-l", "127.0.0.1:0"], pid="1")  # not for us
    wait_for(lambda: "listening on" in process.out, "the agent", timeout=15 * SLOW)
    ensure(f":{port}," not in process.out, process.out)


if __name__ == "__main__":
    main()
