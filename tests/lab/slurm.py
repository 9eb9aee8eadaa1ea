"""A Slurm cluster in the lab: munged, slurmctld and a slurmd for each host, all of them the real ones.

    with Lab(hosts=8) as lab, Slurm(lab, treecast) as slurm:
        job = slurm.sbatch("alice", "srun hostname", "-N8")
        slurm.wait(job)

Host i of the lab is node h<i>; slurmctld runs on h0. Prolog, Epilog and TaskProlog are the scripts of contrib/slurm.
The users alice and bob exist on the hosts only: /etc/passwd, /etc/group and /etc/hosts are files of the cluster's own,
mounted over the machine's in the hosts' namespaces. Nothing of an installed Slurm or munge is used but its programs.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from cast import read
from lab import LabError, Skip, wait_for

USERS = {"alice": 3000001, "bob": 3000002}
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "squeue", "sinfo", "scontrol", "setpriv")
BASE = "/dev/shm/treecast"
KEY = "/dev/shm/cluster.key"  # in each host: one can be taken away
SHORT = 60
CGROUPS = "/sys/fs/cgroup"

CONF = """
ClusterName=treecastlab
SlurmctldHost=h0(10.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
TopologyPlugin=topology/tree
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=2
CompleteWait=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PlugStackConfig={folder}/plugstack.conf
Prolog={folder}/prolog
Epilog={folder}/epilog
TaskProlog={folder}/task-prolog
PrologFlags=Alloc
NodeName=h[0-{last}] NodeAddr=10.0.0.[1-{hosts}] CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP OverSubscribe=FORCE:4
"""


def missing():
    """The first program that is not here, or None."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return next((name for name in PROGRAMS if not shutil.which(name, path=path)), None)


def program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Slurm:
    """plugin: path of the SPANK plug-in, if there is one. memory: jobs have memory, which cgroups hold them to."""

    def __init__(self, lab, treecast, source=None, plugin=None, memory=False):
        if missing():
            raise Skip(f"no {missing()} (packages slurmctld, slurmd, slurm-client, munge)")
        self.lab, self.plugin, self.memory = lab, plugin, memory
        if memory and not all(os.path.isdir(f"{CGROUPS}/{name}") for name in ("memory", "freezer")):
            raise Skip("no memory and freezer controllers of cgroups version 1")
        self.source = source or os.environ.get("top_srcdir") or os.path.join(os.path.dirname(__file__), "..", "..")
        self.original = treecast
        self.daemons = []
        self.folder = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="treecast-slurm-", dir="/tmp")  # users must be able to reach it
        try:
            os.chmod(self.folder, 0o711)
            self._files()
            self._mounts()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for process in reversed(self.daemons):
            self.lab.end(process, grace=5.0)
        self.daemons = []
        # slurmstepds are no children of ours; the lab ends what is in its hosts.
        for pid in self.lab.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.memory:  # Slurm leaves the tops of its hierarchies
            for name in os.listdir(CGROUPS):
                for host in self.lab.all():
                    with contextlib.suppress(OSError):
                        os.rmdir(f"{CGROUPS}/{name}/slurm_h{host}")

    # -- setting up ---------------------------------------------------------------------------------------------

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)

    def _files(self):
        for name in ("munge", "state", "bin"):
            os.mkdir(self.path(name), 0o711)
        for host in self.lab.all():
            os.mkdir(self.path(f"spool-h{host}"), 0o755)
        for user, uid in USERS.items():
            os.mkdir(self.path(user), 0o755)
            os.chown(self.path(user), uid, uid)
        self.treecast = self.path("bin", "treecast")
        shutil.copy(self.original, self.treecast)
        os.chmod(self.treecast, 0o755)
        script = read(os.path.join(self.source, "contrib", "treecast-sbcast.in"))
        self.write("bin/treecast-sbcast", script.replace("@bindir@", self.path("bin")), 0o755)
        for name in ("prolog", "epilog", "task-prolog"):
            script = read(os.path.join(self.source, "contrib", "slurm", f"{name}.in"))
            script = script.replace("@bindir@", self.path("bin"))
            self.write(name, script.replace("--system=slurm", f"--cluster-key {KEY} --system=slurm"), 0o755)
        self.write("slurm.conf", self._conf())
        half = self.lab.hosts // 2  # two switches and one above them
        self.write("topology.conf", f"SwitchName=s1 Nodes=h[0-{max(0, half - 1)}]\n"
                                    f"SwitchName=s2 Nodes=h[{half}-{self.lab.hosts - 1}]\nSwitchName=top Switches=s[1-2]\n"
                   if half else "SwitchName=s1 Nodes=h0\n")
        place = CGROUPS if self.memory else self.path("state", "no-cgroups")
        self.write("cgroup.conf", f"CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint={place}\n"
                                  f"ConstrainRAMSpace={'yes' if self.memory else 'no'}\n")
        os.makedirs(place, exist_ok=True)
        if self.plugin:
            shutil.copy(self.plugin, self.path("bin"))
            os.chmod(self.path("bin", os.path.basename(self.plugin)), 0o755)
        self.write("plugstack.conf", f"optional {self.path('bin')}/{os.path.basename(self.plugin)} "
                                     f"program={self.treecast}\n" if self.plugin else "")
        self.write("hosts", "127.0.0.1 localhost\n" + "".join(f"{self.lab.address(i)} h{i}\n" for i in self.lab.all()))
        people = "".join(f"{user}:x:{uid}:{uid}::{self.path(user)}:/bin/sh\n" for user, uid in USERS.items())
        self.write("passwd", read("/etc/passwd") + people)
        self.write("group", read("/etc/group") + "".join(f"{user}:x:{uid}:\n" for user, uid in USERS.items()))
        with open(self.path("munge", "key"), "wb") as file:
            file.write(os.urandom(64))
        os.chmod(self.path("munge", "key"), 0o600)

    def _conf(self):
        text = CONF.format(folder=self.folder, hosts=self.lab.hosts, last=self.lab.hosts - 1)
        if self.memory:
            for old, new in (("proctrack/linuxproc", "proctrack/cgroup"), ("task/none", "task/cgroup"),
                             ("select/linear", "select/linear\nSelectTypeParameters=CR_Memory"),
                             ("CPUs=2", "CPUs=2 RealMemory=1000")):
                text = text.replace(old, new)
        return text

    def _mounts(self):
        code = subprocess.run([self.treecast, "keygen", "--group-only", self.path("cluster.key")], check=False,
                              capture_output=True).returncode
        if code:
            raise LabError(f"treecast keygen ended with {code}")
        script = "".join(f"mount --bind {self.path(name)} /etc/{name} && " for name in ("hosts", "passwd", "group"))
        for host in self.lab.all():
            code, _, errors = self.lab.run(host, ["sh", "-c",
                                                  f"{script} umask 077 && cp {self.path('cluster.key')} {KEY}"])
            if code:
                raise LabError(f"h{host}: {errors.decode()}")

    def _daemon(self, host, *words):
        with open(self.path(f"{os.path.basename(words[0])}-h{host}.out"), "wb") as output:
            self.daemons.append(self.lab.popen(host, words, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                               env=self.environment(), cwd="/"))

    def _start(self):
        munge = self.path("munge")
        self._daemon(0, program("munged"), "--foreground", "--force", f"--socket={munge}/socket",
                     f"--key-file={munge}/key", f"--pid-file={munge}/pid", f"--seed-file={munge}/seed",
                     f"--log-file={munge}/log")
        wait_for(lambda: os.path.exists(f"{munge}/socket"), "munged", timeout=SHORT)
        self._daemon(0, program("slurmctld"), "-D", "-c", "-f", self.path("slurm.conf"))
        for host in self.lab.all():
            self._daemon(host, program("slurmd"), "-D", "-N", f"h{host}", "-f", self.path("slurm.conf"))
        try:
            wait_for(lambda: set(self.states()) == {"idle"}, "all nodes", timeout=SHORT)
        except LabError as error:
            raise LabError(f"{error}: {self.states()}\n{self.logs()}") from None

    def environment(self):
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SLURM_CONF": self.path("slurm.conf"), "LC_ALL": "C.UTF-8",
                **{name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}}

    def logs(self):
        """What the daemons complain of."""
        found = []
        for name in sorted(name for name in os.listdir(self.folder) if name.endswith(".log")):
            lines = [line for line in read(self.path(name)).splitlines() if "error" in line or "fatal" in line]
            lines = [line for line in lines if "pmix" not in line and "differs from hardware" not in line]
            found += [f"{name}: {line}" for line in lines[-5:]]
        return "\n".join(found)

    # -- commands -----------------------------------------------------------------------------------------------

    def words(self, user, *words):
        """The command line that runs words as user."""
        uid = USERS.get(user, 0)
        change = [program("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        return [*change, "env", f"HOME={self.path(user) if uid else '/root'}", *map(str, words)]

    def popen(self, user, *words, host=0, **options):
        return self.lab.popen(host, self.words(user, *words), env=self.environment(),
                              cwd=self.path(user) if user in USERS else "/", **options)

    def run(self, user, *words, host=0, timeout=SHORT):
        """Exit code, standard output and standard error."""
        code, output, errors = self.lab.run(host, self.words(user, *words), timeout=timeout, env=self.environment(),
                                            cwd=self.path(user) if user in USERS else "/")
        return code, output.decode(errors="replace"), errors.decode(errors="replace")

    def states(self):
        """The state of each node."""
        return self.run("root", "sinfo", "-h", "-N", "-o", "%T")[1].split()

    def reasons(self):
        return self.run("root", "sinfo", "-h", "-R", "-o", "%E %n")[1].strip()

    def sbatch(self, user, script, *options):
        """A job that runs script; its id. What it prints is output(user, job)."""
        text = f"#!/bin/sh\nset -eu\nPATH={self.path('bin')}:$PATH\n{script}\necho the script has ended\n"
        name = f"{user}/script-{len(os.listdir(self.path(user)))}"
        self.write(name, text, 0o755)
        code, output, errors = self.run(user, "sbatch", "--parsable", "-o", self.path(user, "%j.out"), *options,
                                        self.path(name))
        if code:
            raise LabError(f"sbatch ended with {code}: {errors}\n{self.logs()}")
        return int(re.match(r"\d+", output)[0])

    def output(self, user, job):
        path = self.path(user, f"{job}.out")
        return read(path) if os.path.exists(path) else ""

    def jobs(self):
        return self.run("root", "squeue", "-h", "-o", "%i")[1].split()

    def wait(self, user, job, timeout=SHORT, expect="the script has ended"):
        """Wait for a job's end with its epilogs; what it printed."""
        asked = 0.0

        def over():
            """Asks Slurm twice a second at most: hundreds of squeues would take the CPUs from what they wait for."""
            nonlocal asked
            if "the script has ended" not in self.output(user, job) and time.monotonic() < asked + 0.5:
                return False
            asked = time.monotonic()
            return str(job) not in self.jobs()
        try:
            wait_for(over, f"the end of job {job}", timeout)
        except LabError as error:
            raise LabError(f"{error}\n{self.output(user, job)}\n{self.logs()}") from None
        output = self.output(user, job)
        if expect and expect not in output:
            raise LabError(f"job {job} did not get to its end: {output}\n{self.logs()}")
        return output

    # -- what must hold -----------------------------------------------------------------------------------------

    def agents(self):
        """Ids of the agents in all hosts."""
        found = []
        for pid in self.lab.pids():
            try:
                words = read(f"/proc/{pid}/cmdline").split("\0")
            except OSError:
                continue
            if words[:2] == ["treecast", "recv"]:
                found.append(pid)
        return found

    def directories(self):
        """(host, name) of each directory of a job, and of what hooks know of one."""
        found = []
        for host in self.lab.all():
            for folder in (BASE, f"{BASE}/.hooks", f"{BASE}/.hooks/trash"):
                base = self.lab.path(host, folder)
                found += [(host, name) for name in (os.listdir(base) if os.path.isdir(base) else [])
                          if name not in (".hooks", "trash")]
        return found

    @staticmethod
    def directory(user, job):
        """Where the job's arrays are on each of its hosts."""
        return f"{BASE}/slurm+treecastlab+{job}+{USERS[user]}"

    def settled(self):
        """Nothing of any job is left on any node, and every node is ready for the next."""
        def clean():
            return not self.agents() and not self.directories() and set(self.states()) == {"idle"}
        try:
            wait_for(clean, "nodes without a trace of the job", timeout=SHORT)
        except LabError as error:
            raise LabError(f"{error}: agents {self.agents()}, directories {self.directories()}, states "
                           f"{self.states()}, reasons {self.reasons()!r}\n{self.logs()}") from None
