"""What tests of batch systems' hooks share: a site, and what each system says of a job."""

import functools
import os
import re
import socket

from agents import SLOW, Skip, ensure, root_configuration, wait_for

ALICE, BOB = 4000001, 4000002  # users need no name; nobody has these
EXPORT = re.compile(r"export (TREECAST_\w+)=(\S+)\n")

SYSTEMS = {
    "slurm": ((), {"SLURM_JOB_ID": "{id}", "SLURM_JOB_UID": "{uid}", "SLURM_CLUSTER_NAME": "big"}),
    "pbs": (("{id}[3].server", "{uid}", "{uid}"), {}),
    "torque": (("{id}.server", "{uid}", "{uid}", "a job", "nodes=2", "batch", "account"), {}),
    "lsf": ((), {"LSB_JOBID": "{id}", "LSB_JOBINDEX": "0", "LSFUSER": "{uid}"}),
    "sge": (("{id}", "{uid}"), {"SGE_TASK_ID": "undefined", "SGE_CELL": "default"}),
    "flux": ((), {"FLUX_JOB_ID": "{id}", "FLUX_JOB_USERID": "{uid}"}),
}
# What the same job sees of itself, in a task.
TASKS = {
    "slurm": {"SLURM_JOB_ID": "{id}", "SLURM_JOB_UID": "{uid}", "SLURM_CLUSTER_NAME": "big"},
    "pbs": {"PBS_JOBID": "{id}[3].server"},
    "torque": {"PBS_JOBID": "{id}.server"},
    "lsf": {"LSB_JOBID": "{id}", "LSB_JOBINDEX": "0"},
    "sge": {"JOB_ID": "{id}", "SGE_TASK_ID": "undefined", "SGE_CELL": "default"},
    "flux": {"FLUX_JOB_ID": "f4fr"},
}
FLUX_ID = 12345  # f4fr: 3 * 58 * 58 + 38 * 58 + 49 in digits of F58


def agents_of_nobody(test):
    """For a test in whose site root's configuration lets agents run as nobody, so that jobs believe them."""
    @functools.wraps(test)
    def configured(scene):
        with root_configuration(scene, "[hook]\nuser = nobody\n"):
            test(scene)
    return configured


class Site:
    """Hooks as a site sets them up: one base, one cluster key."""

    def __init__(self, scene):
        if os.geteuid() != 0:
            raise Skip("hooks run as root")
        os.chmod(scene.folder, 0o711)
        self.scene, self.base, self.key = scene, scene.path("jobs"), scene.key("cluster", "--group-only")

    def hook(self, phase, job=7, uid=ALICE, system="slurm", *options, code=0, err=None, env=None, timeout=60, **popen):
        """Run a hook as the system does, with no environment but the system's own."""
        operands, words = SYSTEMS[system]
        if phase == "task-prolog":
            operands, words = (), TASKS[system]
        fill = {"id": str(job), "uid": str(uid)}
        env = {name: value.format(**fill) for name, value in words.items()} if env is None else env
        done = self.scene.run("hook", f"--system={system}", *self.words(), *options, phase, *(word.format(**fill) for word in operands),
                              timeout=timeout, env=env or {"A": "b"}, **popen)
        return done.expect(code, err=err)

    def words(self):
        return ["--base", self.base, "--cluster-key", self.key, "--listen", "127.0.0.1"]

    def folder(self, job=7, uid=ALICE, system="slurm"):
        """The job's directory: of system, cluster, job and user."""
        names = [name for name in (os.listdir(self.base) if os.path.isdir(self.base) else [])
                 if name.startswith(f"{system}+") and re.split(r"[+._]", name)[2] == str(job)
                 and name.endswith(f"+{uid}")]
        return f"{self.base}/{names[0]}" if names else None

    def hooks(self, suffix, job=7, uid=ALICE, system="slurm"):
        """A file of the hooks about the job."""
        return f"{self.base}/.hooks/{os.path.basename(self.folder(job, uid, system))}.{suffix}"

    def ports(self, job=7, uid=ALICE, system="slurm"):
        """Where the agent listens, and then where others of the job may."""
        with open(f"{self.folder(job, uid, system)}/.treecast/ports", encoding="ascii") as file:
            return [int(word) for word in file.read().split(",")]

    def prolog(self, job=7, uid=ALICE, system="slurm", *options, **more):
        done = self.hook("prolog", job, uid, system, *options, **more)
        wait_for(lambda: self.ready(job, uid, system), f"the agent of job {job}: {done}", timeout=15 * SLOW)
        return done

    def task(self, job=7, uid=ALICE, system="slurm", gid=None):
        """What a task of the job is told."""
        said = self.hook("task-prolog", job, uid, system, user=uid, group=gid or uid, extra_groups=[])
        told = dict(EXPORT.findall(said.out))
        ensure(sorted(told) == ["TREECAST_DIR", "TREECAST_KEY_FILE", "TREECAST_PORT"], f"told {told}: {said}")
        ensure(said.out == "".join(f"export {name}={value}\n" for name, value in told.items()), f"more: {said}")
        return told

    def ready(self, job=7, uid=ALICE, system="slurm"):
        """Whether the agent answers at its local API."""
        folder = self.folder(job, uid, system)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(10)
            return folder is not None and probe.connect_ex(f"{folder}/.treecast/api") == 0

    def agent(self, job=7, uid=ALICE, system="slurm"):
        with open(self.hooks("agent", job, uid, system), encoding="ascii") as file:
            return int(file.read().split()[0])

    def require_nothing(self):
        left = [name for _, folders, files in os.walk(self.base) for name in (*folders, *files)]
        ensure(sorted(left) in ([], [".hooks", "trash"]), f"left: {left}")
        mine = [pid for pid in os.listdir("/proc") if pid.isdigit() and self.base.encode() in command_of(pid)]
        ensure(not mine, f"left: {[command_of(pid) for pid in mine]}")

    def as_user(self, uid, told, *words, **more):
        env = self.scene.environment(**{**told, "HOME": "/nowhere"})
        return self.scene.run(*words, env=env, user=uid, group=uid, extra_groups=[], **more)


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def alive(pid):
    return bool(command_of(pid))
