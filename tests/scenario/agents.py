"""Real agents and senders on loopback, for the scenarios.

    @scenario
    def all_get_it(scene):
        "every host gets the bytes"
        agents = scene.agents(3)
        source = scene.noise("a.bin", 1 << 20)
        scene.send(agents, source).expect(0)
        scene.require_published(agents, "a.bin", source)

    if __name__ == "__main__":
        main()

A scenario gets a scene of its own: a folder in memory, a home without configuration, and an end in which every process
it started is gone. Processes write to files, so none can block on a reader.
"""

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import random
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))

from lab import LabError, Skip, wait_for  # noqa: E402, F401
from tap import SANITIZED, ensure, find_treecast, note, plain_only, run_tests  # noqa: E402, F401

READY = re.compile(r"listening on (\S+):(\d+), publishing in (\S+)\n")
SLOW = 4 if SANITIZED else 1  # what bounds on time are multiplied by
NAMED = re.compile(r"^(\S+): (published|unchanged|refused|unreachable|failed|aborted|lost)(?::|$)", re.MULTILINE)
BLOCK = 65536
CLONE_NEWNS = 0x20000
scenarios = []


def scenario(function):
    """Register a test that is called with a fresh scene."""
    @functools.wraps(function)
    def test():
        with Scene() as scene:
            try:
                function(scene)
            except AssertionError:
                scene.show_logs()
                raise
    scenarios.append(test)
    return test


def main():
    run_tests(*scenarios)


class Run:
    """What a finished run said, its exit code and how long it took."""

    def __init__(self, words, code, out, err, seconds):
        self.words, self.code, self.out, self.err, self.seconds = words, code, out, err, seconds

    def __str__(self):
        return f"{' '.join(self.words)}\nexit {self.code} after {self.seconds:.2f} s\nout: {self.out}\nerr: {self.err}"

    def expect(self, code, out=None, err=None):
        """Exit code, and texts that must be there."""
        ensure(self.code == code, f"expected exit {code}: {self}")
        ensure(out is None or out in self.out, f"expected on standard output {out!r}: {self}")
        ensure(err is None or err in self.err, f"expected on standard error {err!r}: {self}")
        return self

    def within(self, seconds):
        ensure(self.seconds < seconds * SLOW, f"expected less than {seconds} s: {self}")
        return self

    @property
    def lines(self):
        """The JSON Lines of standard output."""
        try:
            return [json.loads(line) for line in self.out.splitlines()]
        except ValueError as error:
            ensure(False, f"not JSON Lines ({error}): {self}")

    @property
    def hosts(self):
        """Host lines by host."""
        lines = [line for line in self.lines if line["type"] == "host"]
        found = {line["host"]: line for line in lines}
        ensure(len(found) == len(lines), f"a host is named twice: {self}")
        return found

    @property
    def last(self):
        return self.lines[-1]


class Process:
    """A treecast that runs; standard output and error go to files."""

    def __init__(self, scene, words, **options):
        self.words, self.began = words, time.monotonic()
        self.out_path, self.err_path = scene.unused("out"), scene.unused("err")
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(words, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=out, stderr=err,
                                          env=options.pop("env", None) or scene.environment(), cwd=scene.folder,
                                          **options)
        self.pid = self.popen.pid

    @property
    def out(self):
        return read(self.out_path)

    @property
    def err(self):
        return read(self.err_path)

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """End it hard, and have it gone."""
        self.popen.kill()
        self.popen.wait()

    def running(self):
        return self.popen.poll() is None

    def _ends_within(self, seconds):
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # has ended just now
            return True
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(pidfd)

    def finish(self, timeout=60):
        """Wait for its end; what it said."""
        ended = self.popen.poll() is not None or self._ends_within(timeout * SLOW)
        seconds = time.monotonic() - self.began
        if not ended:
            self.kill()
            raise LabError(f"still running after {timeout} s: {' '.join(self.words)}\n{self.out}{self.err}")
        return Run(self.words, self.popen.wait(), self.out, self.err, seconds)


class Agent(Process):
    """treecast recv on a port of its own choice, with a directory of its own."""

    def __init__(self, scene, folder, options, prefix=(), **popen):
        self.folder = folder  # prefix: a program that executes the rest of its command line in its own place
        super().__init__(scene, [*prefix, scene.treecast, "recv", "-d", folder, "-l", "127.0.0.1:0", *options], **popen)
        ready = wait_for(self._ready, f"the agent in {folder}", timeout=15 * SLOW)
        self.port = int(ready[2])
        self.address = f"{ready[1]}:{ready[2]}"

    def _ready(self):
        if not self.running():
            raise LabError(f"the agent in {self.folder} ended with {self.popen.returncode}: {self.err}")
        return READY.search(self.out)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def left_overs(self):
        """What a session that has ended must not leave: temporary files, and the one being filled."""
        return temporary(self.path(".treecast"), self.pid)[0]

    def partials(self):
        """What interrupted sessions left for the next one, by the names of their arrays."""
        return temporary(self.path(".treecast"), self.pid)[1]

    def under_way(self):
        """Bytes that the agent has of arrays which are not published."""
        return sum(session["bytes"] for session in self.sessions())

    def sessions(self):
        """What is on its way here, asked at the agent's local API as a local program would."""
        with socket.socket(socket.AF_UNIX) as api:
            api.settimeout(10 * SLOW)
            api.connect(self.path(".treecast/api"))
            api.sendall(b'{"op":"status"}\n')
            with api.makefile() as answer:
                return json.loads(answer.readline())["sessions"]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sockets(self):
        """Which ones it has open: what else it opens and closes meanwhile does not count."""
        found = set()
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed by now
                found.add(os.readlink(f"/proc/{self.pid}/fd/{name}"))
        return {target for target in found if target.startswith("socket:")}

    def published(self):
        return sorted(name for name in os.listdir(self.folder) if not name.startswith("."))

    def stop(self, timeout=10):
        """SIGTERM; what it said."""
        self.popen.terminate()
        return self.finish(timeout)


class Scene:
    """A folder and everything that runs in it."""

    def __enter__(self):
        self.treecast = find_treecast()
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix="treecast-scenario-", dir=place)
        self.processes = []
        self.count = 0
        os.mkdir(self.path("home"))
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.running():
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def show_logs(self):
        for process in self.processes:
            if isinstance(process, Agent) and process.err:
                note(f"{process.address}: {process.err[-1500:]}")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def unused(self, kind):
        self.count += 1
        return self.path(f".{kind}{self.count}")

    def environment(self, **more):
        """Nothing of the caller's but PATH and what sanitizers read."""
        kept = {name: value for name, value in os.environ.items() if name == "PATH" or name.endswith("SAN_OPTIONS")}
        return {**kept, "HOME": self.path("home"), "OPENBLAS_NUM_THREADS": "1", **more}

    def start(self, *words, **options):
        return self.start_program(self.treecast, *map(str, words), **options)

    def start_program(self, *words, **options):
        """Another program, which may become treecast."""
        process = Process(self, list(words), **options)
        self.processes.append(process)
        return process

    def run(self, *words, timeout=60, **options):
        return self.start(*words, **options).finish(timeout)

    def agents(self, count=1, *options, first=0, **popen):
        """Agents in folders host1, host2, ... that accept connections already."""
        made = []
        for i in range(first + 1, first + count + 1):
            made.append(Agent(self, self.path(f"host{i}"), options, **popen))
            self.processes.append(made[-1])
        return made

    def agent(self, *options, **popen):
        return self.agents(1, *options, **popen)[0]

    def start_send(self, agents, source, *options, **popen):
        return self.start("send", "-w", hosts_of(agents), *options, source, **popen)

    def send(self, agents, source, *options, timeout=60, **popen):
        return self.start_send(agents, source, *options, **popen).finish(timeout)

    def start_wait(self, agent, name, *options):
        """A worker that waits at agent's local API already."""
        before = agent.sockets()
        waiting = self.start("wait", "-d", agent.folder, "-t", "60", *options, name)
        wait_for(lambda: agent.sockets() - before or not waiting.running(), "a worker through the local API")
        return waiting

    def key(self, name="key", *options):
        self.run("keygen", *options, self.path(name)).expect(0)
        return self.path(name)

    def under_way(self, sender, agents, least=1):
        """Wait until each of agents holds least bytes of sender's array, and has not all of it."""
        def ready():
            ensure(sender.running(), f"the sender has ended too early: {sender.out}{sender.err}")
            return all(agent.under_way() >= least for agent in agents)
        wait_for(ready, "the first bytes", timeout=20 * SLOW)

    # Sources

    def noise(self, name, size, seed=1):
        """Bytes that do not compress."""
        generator = random.Random(f"{seed} {size}")
        with open(self.path(name), "wb") as file:
            for start in range(0, size, 1 << 24):
                file.write(generator.randbytes(min(1 << 24, size - start)))
        return self.path(name)

    def crumbs(self, name, size, seed=1):
        """Bytes that compress to about two thirds, and slowly: with -C zstd:19 a few megabytes last for seconds.
        Digests go out for 64 chunks at a time, so hosts have nothing before four of them (-s 64K)."""
        with open(self.path(name), "wb") as file:
            file.write(random.Random(seed).randbytes(size).translate(bytes(i % 40 for i in range(256))))
        return self.path(name)

    def named(self, answer):
        """Every host that a report in text names with its state, as often as it does, from lines that fold several."""
        return sorted((host, state) for folded, state in NAMED.findall(answer.err)
                      for host in self.run("hosts", "-e", folded).expect(0).out.split())

    def forget(self, agents, name):
        """The array is on none of agents any more: what is sent again moves again."""
        for agent in agents:
            self.run("rm", "-d", agent.folder, name).expect(0)

    # What must hold

    def require_published(self, agents, name, source):
        """All of agents have source's bytes as name, read-only, and nothing is left lying about."""
        for agent in agents:
            ensure(name in agent.published(), f"{agent.address}: {name} is not there, but {agent.published()}")
            ensure(same_bytes(agent.path(name), source), f"{agent.address}: {name} has other bytes")
            mode = os.stat(agent.path(name)).st_mode & 0o7777
            ensure(mode == 0o444, f"{agent.address}: {name} has mode {mode:04o}")
            self.require_clean(agent)

    def require_clean(self, agent, kept=None):
        """Nothing temporary is there, but a partial of the array kept. An agent may take a moment to end a session of
        which the sender has gone."""
        try:
            wait_for(lambda: not agent.left_overs(), "the end of temporary files", timeout=10 * SLOW)
        except LabError:
            ensure(False, f"{agent.address}: left {agent.left_overs()}")
        ensure(agent.partials() in ([], [kept]), f"{agent.address}: keeps parts of {agent.partials()}")

    def require_nothing(self, agents, *names, kept=None):
        for agent in agents:
            ensure(agent.published() == sorted(names), f"{agent.address}: has {agent.published()}")
            self.require_clean(agent, kept)


class Between:
    """Passes TCP connections on to an agent, numbered from 0. pump(source, sink, up, number) copies what goes one way
    until it ends; up is towards the agent. An agent whose key file names an origin is made after it, --reached-as its
    address, and given to be_for."""

    def __init__(self, agent=None):
        self.agent, self.threads = agent, []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        self.start(self.accept)

    def be_for(self, agent):
        self.agent = agent
        return agent

    def start(self, function, *args):
        self.threads.append(threading.Thread(target=function, args=args, daemon=True))
        self.threads[-1].start()

    def accept(self):
        number = 0
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.agent.port))
            self.start(self.run, client, server, True, number)
            self.start(self.run, server, client, False, number)
            number += 1

    def run(self, source, sink, up, number):
        try:
            self.pump(source, sink, up, number)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Let no further connection in."""
        self.listening.shutdown(socket.SHUT_RDWR)
        self.threads[0].join(60 * SLOW)
        self.listening.close()

    def end(self):
        """The same, and wait for the ends of those there are."""
        self.close()
        for thread in self.threads:
            thread.join(60 * SLOW)


def temporary(folder, pid):
    """Temporary files in .treecast: those that are in use or of no use, and the arrays of which a partial is kept."""
    held = set()
    for number in os.listdir(f"/proc/{pid}/fd") if os.path.exists(f"/proc/{pid}/fd") else ():
        try:
            held.add(os.path.basename(os.readlink(f"/proc/{pid}/fd/{number}")))
        except FileNotFoundError:
            pass
    names = [name for name in os.listdir(folder) if name.endswith((".part", ".tmp"))]
    kept = [name for name in names if name.endswith(".part") and name not in held]
    return [name for name in names if name not in kept], sorted(re.sub(r"\.[0-9a-f]{32}\.part$", "", name) for name in kept)


@contextlib.contextmanager
def root_configuration(scene, text):
    """Root's treecast.conf is text, for this process and those it starts: in a mount namespace of their own, with a copy of
    /etc."""
    if os.geteuid() != 0:
        raise Skip("needs root")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise Skip("no mount namespace here")
    etc = scene.path("etc")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    os.makedirs(os.path.join(etc, "treecast"), mode=0o755, exist_ok=True)
    with open(os.path.join(etc, "treecast", "treecast.conf"), "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
    subprocess.run(["mount", "--bind", etc, "/etc"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", "/etc"], check=True)


def inject(call, what):
    """A prefix with which the kernel does what to each call, in strace's words. The tracer stands aside, so the program has
    the process id that was started. Not for a sanitized build: a leak checker cannot work then."""
    if not shutil.which("strace"):
        raise Skip("no strace here")
    return ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}")


def require_in_time(answer, deadline):
    """A session ends by its deadline and 2 s, by its own clock: what a busy machine takes to start a program is not its
    part, but the whole of it may not take much longer either."""
    ensure(deadline <= answer.last["total"] <= deadline + 2 * SLOW, f"{answer.last['total']} s: {answer}")
    answer.within(deadline + 12)


def hosts_of(agents):
    return agents if isinstance(agents, str) else ",".join(
        agent if isinstance(agent, str) else agent.address for agent in agents)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def same_bytes(one, other):
    with open(one, "rb") as a, open(other, "rb") as b:
        while True:
            x, y = a.read(1 << 22), b.read(1 << 22)
            if x != y:
                return False
            if not x:
                return True


def content_digest(path):
    """SHA-256 over the SHA-256s of all blocks: what `list` shows, computed another way."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            whole.update(hashlib.sha256(block).digest())
    return whole.hexdigest()


def free_port():
    """An address at which nobody listens: bound without listening, so it stays refused while it is kept."""
    keeper = socket.socket()
    keeper.bind(("127.0.0.1", 0))
    return keeper, f"127.0.0.1:{keeper.getsockname()[1]}"


def unused_port():
    """A port to listen at later: below those that the kernel gives to whoever asks for any."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
