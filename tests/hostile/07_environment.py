#!/usr/bin/python3
"""Hooks and agents in surroundings that a job's user has set: variables, descriptors, signals, limits, mask, directory. And
what is left of root's rights when the agent serves."""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket

from hostile import SLOW, Skip, ensure, main, need_root, note, plain_only, scenario, status_of, wait_for
from hook_site import ALICE, SYSTEMS, TASKS, Site, alive

USER = "nobody"
JOB = 12345  # f4fr for a task of Flux

# Variables that libraries read, each the name of a file or folder in %s, or what makes them look there.
HOSTILE = {
    "OPENSSL_CONF": "%s/openssl.cnf", "OPENSSL_MODULES": "%s", "OPENSSL_ENGINES": "%s", "OPENSSL_CONF_INCLUDE": "%s",
    "SSL_CERT_FILE": "%s/cert", "SSL_CERT_DIR": "%s", "CTLOG_FILE": "%s/ctlog", "SSLKEYLOGFILE": "%s/keylog",
    "OPENSSL_TRACE": "TLS", "OPENSSL_ia32cap": ":~0x20000000", "RANDFILE": "%s/rnd",
    "LOCPATH": "%s", "LANG": "xx_XX.UTF-8", "LC_ALL": "xx_XX.UTF-8", "LANGUAGE": "xx", "NLSPATH": "%s/%%N",
    "GCONV_PATH": "%s", "CHARSET": "xx", "TEXTDOMAINDIR": "%s",
    "HOSTALIASES": "%s/hosts", "RES_OPTIONS": "debug", "LOCALDOMAIN": "invalid", "RESOLV_HOST_CONF": "%s/host.conf",
    "TZ": ":%s/zone", "TZDIR": "%s", "TMPDIR": "%s", "TMP": "%s", "HOME": "%s", "XDG_CONFIG_HOME": "%s",
    "MALLOC_TRACE": "%s/trace", "MALLOC_PERTURB_": "255", "MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "glibc.malloc.check=3",
    "GETCONF_DIR": "%s", "NIS_PATH": "%s", "EVENT_NOEPOLL": "1", "EVENT_SHOW_METHOD": "1",
    "JANSSON_X": "%s", "ZSTD_NBTHREADS": "9", "ENV": "%s/env", "BASH_ENV": "%s/env", "IFS": "/", "PATH": "%s",
    "TREECAST_BASE": "%s", "TREECAST_STRICT": "yes", "TREECAST_CLUSTER_KEY": "%s/key", "TREECAST_DIR": "%s",
}

# Makes itself the surroundings that nobody should start in, then becomes the rest of its command line.
START = r"""
import os, resource, signal, sys
held, folder, whose, key = sys.argv[1:5]
at = os.open(held, os.O_RDONLY)
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for fd in [*range(3, 200), 1023, 1024, 1025, 2000]:
    if fd != at:
        os.dup2(at, fd, inheritable=True)
os.set_inheritable(at, True)
if key:
    os.dup2(os.open(key, os.O_RDONLY), 250, inheritable=True)
signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
if whose == "agent":  # its user's own surroundings count but for these
    os.execv(sys.argv[5], sys.argv[5:])
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_REAL, 3600)
os.umask(0)
os.chdir(folder)
for which, soft in (("FSIZE", 100), ("CPU", 1000), ("NOFILE", 256), ("STACK", 1 << 20), ("CORE", -1), ("NPROC", 500)):
    number = getattr(resource, "RLIMIT_" + which)
    resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))
os.execv(sys.argv[5], sys.argv[5:])
"""


class Alice(Site):
    """A site, and a user of it who has a folder, with a file in it that is held open, and sets what she can."""

    def __init__(self, scene):
        super().__init__(scene)
        self.own = scene.path("alice")
        os.mkdir(self.own)
        os.chown(self.own, ALICE, ALICE)
        for name in ("held", "openssl.cnf", "env"):
            with open(f"{self.own}/{name}", "w", encoding="ascii") as file:
                file.write("echo alice was here >&2\n" if name == "env" else "[nonsense\n")

    def environment(self, system, phase):
        hostile = {name: value % self.own if "%" in value else value for name, value in HOSTILE.items()}
        told = (TASKS[system] if phase == "task-prolog" else SYSTEMS[system][1]).items()
        return {**hostile, **{name: value.format(id=JOB, uid=ALICE) for name, value in told}}

    def command(self, system, phase):
        operands = SYSTEMS[system][0] if phase != "task-prolog" else ()
        return [self.scene.treecast, "hook", f"--system={system}", *self.words(), phase,
                *(word.format(id=JOB, uid=ALICE) for word in operands)]

    def start(self, system, phase):
        """The hook in alice's surroundings."""
        return self.scene.start_program("/usr/bin/python3", "-I", "-c", START, f"{self.own}/held", self.own, "hook", "",
                                        *self.command(system, phase), env=self.environment(system, phase))

    def await_agent(self, system):
        wait_for(lambda: self.ready(JOB, ALICE, system), f"the agent of {system}", timeout=15 * SLOW)
        return self.agent(JOB, ALICE, system)

    def require_untouched(self):
        found = sorted(os.listdir(self.own))
        ensure(found == ["env", "held", "openssl.cnf"], f"a hook or an agent made files at alice's wish: {found}")


def descriptors(pid):
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed by now
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return found


def limits(pid):
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        return {line[:26].strip(): line[26:].split()[:2] for line in file}


def require_nothing_of(folder, pid):
    held = [fd for fd, target in descriptors(pid).items() if target.startswith(folder)]
    ensure(not held, f"process {pid} has descriptors of the one who started it: {held[:5]}, {len(held)} in all")


@scenario
def surroundings(scene):
    """An agent that a hook made has no variable, descriptor, signal, limit, mask or directory of the job's, nor root's rights"""
    alice = Alice(scene)
    for system in SYSTEMS:
        alice.start(system, "prolog").finish().expect(0)
        pid = alice.await_agent(system)
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = [entry.partition(b"=")[0] for entry in file.read().split(b"\0") if entry]
        ensure(set(variables) <= {b"LISTEN_PID", b"LISTEN_FDS"}, f"{system}: its environment is {variables}")
        require_nothing_of(alice.own, pid)
        facts = status_of(pid)
        ensure(int(facts["Umask"], 8) == 0o022 and os.readlink(f"/proc/{pid}/cwd") == "/", f"{system}: {facts}")
        ignored = {number for number in signal.valid_signals() if int(facts["SigIgn"], 16) >> (number - 1) & 1}
        ensure(int(facts["SigBlk"], 16) == 0 and ignored == {signal.SIGPIPE}, f"{system}: {facts}")
        kept = limits(pid)
        ensure(kept["Max core file size"] == ["0", "0"] and kept["Max file size"][0] == kept["Max file size"][1] and
               kept["Max cpu time"][0] == kept["Max cpu time"][1] and int(kept["Max open files"][0]) > 256 and
               int(kept["Max stack size"][0]) >= 8 << 20, f"{system}: {kept}")
        require_no_rights(pid, system)
        alice.start(system, "epilog").finish().expect(0)
        alice.require_nothing()
    alice.require_untouched()


def opened(path, folder):
    """The lines of strace in which a file of the folder is named, and lines in all."""
    with open(path, encoding="ascii", errors="replace") as file:
        lines = [line for line in file if "execve(" not in line and "+++" not in line]
    return [line for line in lines if folder in line], len(lines)


STRACE = ("strace", "-f", "--seccomp-bpf", "-qq", "-s", "200", "-e", "trace=%file", "-o")


def trace(alice, system, phase, path, **popen):
    """The hook in alice's environment, under strace, which has to have its own."""
    if not shutil.which("strace"):
        raise Skip("no strace")
    if popen:  # strace writes as that user
        with open(path, "w", encoding="ascii"):
            os.chown(path, popen["user"], popen["group"])
    words = [word for name, value in alice.environment(system, phase).items() for word in ("-E", f"{name}={value}")]
    return alice.scene.start_program(*STRACE, path, *words, *alice.command(system, phase), env={"PATH": "/usr/bin:/bin"},
                                     **popen)


@scenario
@plain_only
def no_file_of_the_environment(scene):
    """strace sees no hook and no agent look at any file that the environment names; keygen in the same environment does"""
    alice, most = Alice(scene), 0
    for system in SYSTEMS:
        traces = [scene.path(f"{system}-{phase}") for phase in ("prolog", "task-prolog", "epilog")]
        prolog = trace(alice, system, "prolog", traces[0])
        alice.await_agent(system)
        trace(alice, system, "task-prolog", traces[1], user=ALICE, group=ALICE, extra_groups=[]).finish().expect(0)
        trace(alice, system, "epilog", traces[2]).finish().expect(0)
        prolog.finish().expect(0)  # strace ends with the agent
        for path in traces:
            found, count = opened(path, alice.own)
            ensure(not found, f"{system}: {''.join(found[:5])}")
            ensure(count > 20, f"{system}: strace saw {count} calls only")
            most = max(most, count)
    control = scene.path("control")
    scene.start_program(*STRACE, control, scene.treecast, "keygen", scene.path("k"),
                        env={**alice.environment("lsf", "prolog"), "PATH": "/usr/bin:/bin"}).finish().expect(0)
    found, _ = opened(control, alice.own)
    ensure(any("openssl.cnf" in line for line in found), f"this test could not fail: {found}")
    note(f"{3 * len(SYSTEMS)} hooks with their agents, up to {most} calls with a file's name each, none with alice's; "
         f"keygen: {len(found)}")


# Executes its arguments with a variable that is there twice, as no shell and no Python would.
TWICE = """
import ctypes, sys
words = [word.encode() for word in sys.argv[1:]]
variables = [b"LSB_JOBID=7", b"LSB_JOBID=8", b"LSFUSER=4000001", None]
argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
ctypes.CDLL(None).execve(words[0], argv, (ctypes.c_char_p * 4)(*variables))
"""


@scenario
def ill_formed(scene):
    """Variables of the batch system's that have not their form are as good as missing; of two the first counts"""
    alice = Alice(scene)
    for value in ("7;x", "9" * 300, "-7", "", "7\n8"):
        done = scene.start_program(*alice.command("lsf", "prolog"), env={"LSB_JOBID": value, "LSFUSER": str(ALICE)}).finish()
        ensure(done.code == 0 and "LSB_JOBID (a number)" in done.err and done.err.count("\n") == 1, str(done))
    alice.require_nothing()
    scene.start_program("/usr/bin/python3", "-c", TWICE, *alice.command("lsf", "prolog")).finish().expect(0)
    ensure(alice.folder(7, ALICE, "lsf") and not alice.folder(8, ALICE, "lsf"), f"{os.listdir(alice.base)}")
    alice.hook("epilog", 7, ALICE, "lsf")
    alice.require_nothing()


# Agents.


def peer_of(folder):
    """Whose agent it is that listens in the folder: one that went to the background is nobody's child here."""
    with socket.socket(socket.AF_UNIX) as api:
        api.settimeout(10 * SLOW)
        api.connect(f"{folder}/.treecast/api")
        return int.from_bytes(api.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")


def require_no_rights(pid, what, groups=()):
    """No capability in any set of any thread, no new privileges, no groups but those."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        facts = status_of(f"{pid}/task/{thread}")
        sets = {name: facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        ensure(all(int(value, 16) == 0 for value in sets.values()), f"{what}: thread {thread} has {sets}")
        ensure(facts["NoNewPrivs"] == "1", f"{what}: {facts}")
        ensure([int(group) for group in facts["Groups"].split()] == list(groups), f"{what}: groups {facts['Groups']}")


def low_port():
    for port in range(1023, 600, -7):
        with socket.socket() as probing:
            try:
                probing.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise Skip("no free port below 1024")


@scenario
def rights_of_agents(scene):
    """The table of treecast(1): whatever its options, an agent that was started as root serves without any capability"""
    need_root()
    user = pwd.getpwnam(USER)
    os.chmod(scene.folder, 0o711)
    daemon = 1
    rows = [
        ("no option", [], (), 0),
        ("port below 1024", ["-l", f"127.0.0.1:{low_port()}"], (), 0),
        ("--group", ["--group", "daemon", "--mode", "0440"], (daemon,), 0),
        ("--user", ["--user", USER], (user.pw_gid,), user.pw_uid),
        ("--user, --group", ["--user", USER, "--group", "daemon", "--mode", "0440"], (daemon, user.pw_gid), user.pw_uid),
        ("--user root", ["--user", "root"], (), 0),
        ("--no-sandbox", ["--no-sandbox"], (), 0),
        ("--owner", ["--owner", str(os.getpid())], (), 0),
        ("--detach", ["--detach"], (), 0),
        ("--dir below another's", ["--quiet"], (), 0),
    ]
    source, key = scene.noise("a", 200000), scene.key("k", "--group-only")
    for number, (what, options, groups, uid) in enumerate(rows):
        folder = scene.path(f"h{number}")
        if what.startswith("--dir"):
            os.mkdir(folder, 0o700)
            os.chown(folder, ALICE, ALICE)
            folder += "/h"
        os.mkdir(folder)
        os.chown(folder, uid, 0)
        listen = [] if "-l" in options else ["-l", "127.0.0.1:0"]
        process = scene.start("recv", "-k", key, "-d", folder, *listen, *options)
        ready = wait_for(lambda: re.search(r"listening on (\S+),", process.out) or process.popen.poll(), f"agent: {what}")
        ensure(hasattr(ready, "group"), f"{what}: {process.err}")
        pid = peer_of(folder)
        require_no_rights(pid, what, groups)
        ensure(status_of(pid)["Uid"].split() == [str(uid)] * 4, f"{what}: {status_of(pid)['Uid']}")
        # It can do its work: take the array, and a changed one over it, and lease.
        scene.run("send", "-k", key, "-w", ready.group(1), source).expect(0)
        facts = os.stat(f"{folder}/a")
        group = daemon if "--group" in options else (user.pw_gid if uid else 0)
        ensure((facts.st_uid, facts.st_gid) == (uid, group), f"{what}: {facts}")
        changed = scene.noise("b", 200000)
        scene.run("send", "-k", key, "--force", "-w", ready.group(1), changed, "a").expect(0)
        whose = {"user": uid, "group": uid, "extra_groups": [group]}
        scene.run("verify", "-d", folder, "a", **whose).expect(0)
        ask(folder, {"op": "lease", "name": "a", "ttl": 3600, "pid": os.getpid()})
        scene.run("rm", "-d", folder, "a", **whose).expect(0)
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda pid=pid: not alive(pid), f"the end of the agent: {what}")


def ask(folder, request):
    with socket.socket(socket.AF_UNIX) as api:
        api.settimeout(10 * SLOW)
        api.connect(f"{folder}/.treecast/api")
        api.sendall(json.dumps(request).encode() + b"\n")
        with api.makefile() as answer:
            said = json.loads(answer.readline())
    ensure(said["ok"], f"{request}: {said}")


@scenario
def descriptors_of_agents(scene):
    """No descriptor but those that options name survives into an agent, and the key's is closed once it is read"""
    need_root()
    os.chmod(scene.folder, 0o711)
    alice = Alice(scene)
    key = scene.key("k", "--group-only")
    for number, options in enumerate(([], ["--detach"], ["--user", USER], ["--detach", "--user", USER])):
        folder = scene.path(f"h{number}")
        os.mkdir(folder)
        os.chown(folder, pwd.getpwnam(USER).pw_uid if "--user" in options else 0, 0)
        process = scene.start_program("/usr/bin/python3", "-I", "-c", START, f"{alice.own}/held", alice.own, "agent", key,
                                      scene.treecast, "recv", "-d", folder, "-l", "127.0.0.1:0", "--key-fd", "250",
                                      *options)
        ready = wait_for(lambda: re.search(r"listening on (\S+),", process.out) or process.popen.poll(), f"{options}")
        ensure(hasattr(ready, "group"), f"{options}: {process.err}")
        pid = peer_of(folder)
        require_nothing_of(alice.own, pid)
        ensure(int(status_of(pid)["SigBlk"], 16) == 0, f"{options}: signals are blocked: {status_of(pid)['SigBlk']}")
        ensure(key not in descriptors(pid).values(), f"{options}: it holds its key's file open")
        source = scene.noise("a", 1000)
        scene.run("send", "-k", key, "-w", ready.group(1), source).expect(0)
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda pid=pid: not alive(pid), f"the end of the agent with {options}")
    alice.require_untouched()


if __name__ == "__main__":
    main()
