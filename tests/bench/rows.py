"""The benchmark's rows: what each one sends, how often, what it measures, and the bound it is held to.

A row's run function takes (row, repetitions, treecast) and returns an Outcome. Agents are fresh in every repetition, so
that no run learns from the one before.
"""

import contextlib
import ctypes
import operator
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

import api
import notebook
from cast import DIR, PORT, SOURCE, Cast, random_bytes, smooth_field
from harm import await_part
from lab import Lab, LabError, wait_for
from names import fill
from measure import (PlainCopy, MemoryWatch, Steal, cpu_seconds, fine_cpu_seconds, median, one_copy,
                     warm_memory)
from slurm import Slurm

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
NAME = "bench.bin"
COPIES_MEASURED = 3


@dataclass
class Outcome:
    """values: one a repetition, in the row's unit. notes: lines to print below. facts: for the JSON file."""
    values: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    steal: float = 0.0


@dataclass(frozen=True)
class Row:
    name: str
    run: object
    hosts: int              # the sender among them
    rate: object            # Mbit/s of every link; None: unshaped
    size: int               # bytes
    unit: str = "copies"
    bound: object = None    # of the median; None: only reported
    worst: object = None    # the bound of each repetition; None: as it comes
    moved: object = None    # of an array that is partly there: the part that may move, besides one chunk
    at_least: bool = False  # the bound is a least value, not a most
    cc: str = "bbr"
    tree: str = "auto"
    once: bool = False      # one repetition is enough
    about: str = ""

    def options(self):
        return [] if self.tree == "auto" else ["--tree", self.tree]

    def holds(self, outcome):
        """Whether all bounds are met; None where there are none."""
        if self.bound is None:
            return None
        meets, values = operator.ge if self.at_least else operator.le, outcome.values
        return (meets(median(values), self.bound) and (self.worst is None or all(meets(v, self.worst) for v in values))
                and (self.moved is None or all(run["moved"] <= self.moved + run["chunk"] / self.size
                                               for run in outcome.facts["runs"])))


@contextlib.contextmanager
def lab_for(row, more=0):
    """A lab with space for two arrays of the row on each host and more bytes, and a folder for keys and logs."""
    warm_memory((row.hosts + 2) * (row.size + (8 << 20)) + more)
    with tempfile.TemporaryDirectory(prefix="treecast-bench-") as folder:
        with Lab(hosts=row.hosts, rate_mbit=row.rate, cc=row.cc, shm_mb=64 + (2 * row.size + more) // MIB) as lab:
            yield lab, folder


def broadcast(row, lab, folder, treecast, source=SOURCE, watch=None):
    """One broadcast to fresh agents; watch(cast) may give a context to run it in."""
    with Cast(lab, treecast, folder) as cast:
        with watch(cast) if watch else contextlib.nullcontext():
            sent = cast.send(source, NAME, *row.options(), timeout=1800).require_success()
    return sent


def measured_copy(lab, size):
    return median([one_copy(lab, size) for _ in range(COPIES_MEASURED)])


# -- how a broadcast went, in words -----------------------------------------------------------------------------


def facts_of(sent):
    times = sent.completions
    return {
        "wall": sent.seconds, "sender_cpu": sent.cpu, "agents_cpu": sent.agents_cpu, "idle": sent.idle,
        "tree": sent.summary.get("tree"),
        "chunk": sent.summary.get("chunk_size"), "seconds": sent.phases,
        "host_median": median(times) if times else None, "host_last": times[-1] if times else None,
    }


def words_of(facts):
    phases = ", ".join(f"{name} {facts['seconds'][name]:.3f}" for name in ("preflight", "transfer", "publish")
                       if name in facts["seconds"])
    hosts = "no host times"
    if facts["host_last"] is not None:
        hosts = f"hosts whole after {facts['host_median']:.3f} s (median), {facts['host_last']:.3f} s (last)"
    return (f"{facts['wall']:.2f} s from start to exit: {phases}; {hosts}; tree {facts['tree']}, "
            f"chunk {facts['chunk']}; CPU {facts['sender_cpu']:.2f} s of the sender, {facts['agents_cpu']:.2f} s of all "
            f"agents; machine {facts['idle']:.0f}% idle")


def middle(outcome):
    """The facts of the repetition that gave the median (the upper one of two)."""
    order = sorted(range(len(outcome.values)), key=outcome.values.__getitem__)
    return outcome.facts["runs"][order[len(order) // 2]]


# -- broadcasts in units of one copy ----------------------------------------------------------------------------


def run_copies(row, repetitions, treecast):
    """Start to exit of send, over one plain copy of the same bytes in the same lab."""
    outcome = Outcome()
    with lab_for(row) as (lab, folder):
        copy = measured_copy(lab, row.size)
        random_bytes(lab.path(0, SOURCE), row.size)
        runs = [facts_of(broadcast(row, lab, folder, treecast)) for _ in range(repetitions)]
    outcome.values = [run["wall"] / copy for run in runs]
    outcome.facts = {"copy": copy, "runs": runs}
    outcome.notes = [f"one copy {copy:.3f} s ({copy * row.rate * 1e6 / 8 / row.size:.3f} times bytes over rate)",
                     words_of(middle(outcome))]
    return outcome


def run_small(row, repetitions, treecast):
    """Small arrays, where latency decides: milliseconds of the transfer itself, with no unit of copies."""
    outcome = Outcome()
    with lab_for(row) as (lab, folder):
        random_bytes(lab.path(0, SOURCE), row.size)
        runs = [facts_of(broadcast(row, lab, folder, treecast)) for _ in range(repetitions)]
    outcome.values = [run["seconds"]["transfer"] * 1e3 for run in runs]
    outcome.facts = {"runs": runs}
    outcome.notes = [words_of(middle(outcome))]
    return outcome


def compressed_size(path, chunk):
    """Bytes of a file when each chunk is compressed alone by libzstd, level 1, with no help from treecast."""
    zstd = ctypes.CDLL("libzstd.so.1")
    zstd.ZSTD_compress.restype = ctypes.c_size_t
    zstd.ZSTD_compress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    room = ctypes.create_string_buffer(2 * chunk)
    total = 0
    with open(path, "rb") as file:
        while piece := file.read(chunk):
            total += zstd.ZSTD_compress(room, len(room), piece, len(piece), 1)
    return total


def run_compressible(row, repetitions, treecast):
    """A smooth field: start to exit over one plain copy of its compressed bytes."""
    source = "/dev/shm/field.npy"
    outcome = Outcome()
    with lab_for(row) as (lab, folder):
        smooth_field(lab.path(0, source), row.size)
        before = lab.sent_bytes(0)
        runs = [facts_of(broadcast(row, lab, folder, treecast, source)) for _ in range(repetitions)]
        wire = (lab.sent_bytes(0) - before) / repetitions
        packed = compressed_size(lab.path(0, source), runs[0]["chunk"])
        copy = measured_copy(lab, packed)
    outcome.values = [run["wall"] / copy for run in runs]
    outcome.facts = {"copy": copy, "runs": runs, "compressed": packed, "wire": wire}
    outcome.notes = [f"compresses {row.size / packed:.2f} times; one copy of {packed / MIB:.1f} MiB {copy:.3f} s; the "
                     f"sender put {wire / MIB:.1f} MiB on the wire", words_of(middle(outcome))]
    return outcome


# -- one hop ----------------------------------------------------------------------------------------------------


def run_hop(row, repetitions, treecast):
    """From one host to another over an unshaped link into tmpfs: GB/s, and CPU seconds per GB of both sides."""
    outcome, gigabytes = Outcome(), row.size / 1e9
    runs = []
    with lab_for(row) as (lab, folder):
        random_bytes(lab.path(0, SOURCE), row.size)
        for _ in range(repetitions):
            plain = PlainCopy(lab, row.size)
            with Cast(lab, treecast, folder) as cast:
                agent = cast.agents[1].pid
                before = cpu_seconds(agent)
                sent = cast.send(SOURCE, NAME, *row.options()).require_success()
                facts = facts_of(sent)
                facts["receiver_cpu"] = cpu_seconds(agent) - before
            facts["plain"] = {"GB/s": plain.bytes_per_second / 1e9, "sender_cpu": plain.sender_cpu,
                               "receiver_cpu": plain.receiver_cpu}
            runs.append(facts)
    outcome.values = [gigabytes / run["wall"] for run in runs]
    outcome.facts = {"runs": runs}
    run = middle(outcome)
    plain = run["plain"]
    outcome.notes = [
        f"CPU s/GB: sender {run['sender_cpu'] / gigabytes:.2f}, receiver {run['receiver_cpu'] / gigabytes:.2f}; "
        f"transfer alone {gigabytes / run['seconds']['transfer']:.2f} GB/s",
        f"a plain copy beside it: {plain['GB/s']:.2f} GB/s, CPU s/GB: sender {plain['sender_cpu'] / gigabytes:.2f}, "
        f"receiver {plain['receiver_cpu'] / gigabytes:.2f}",
        words_of(run)]
    return outcome


# -- memory and idleness ----------------------------------------------------------------------------------------


def run_memory(row, repetitions, treecast):
    """Largest private memory of any agent, in MiB, while it receives (and relays)."""
    outcome = Outcome(facts={"runs": []})
    with lab_for(row) as (lab, folder):
        random_bytes(lab.path(0, SOURCE), row.size)
        for _ in range(repetitions):
            watched = []

            def watch(cast):
                watched.append(MemoryWatch([agent.pid for agent in cast.agents.values()], 0.02 * len(cast.agents)))
                return watched[0]

            sent = broadcast(row, lab, folder, treecast, watch=watch)
            anon, high = watched[0].anon.values(), watched[0].high.values()
            outcome.values.append(max(anon) / MIB)
            facts = facts_of(sent)
            facts.update(anon=sorted(anon), high=sorted(high), sender_max_rss=sent.max_rss)
            outcome.facts["runs"].append(facts)
            outcome.notes = [
                f"private memory (RssAnon, sampled) of an agent: median {median(list(anon)) / MIB:.1f}, largest "
                f"{max(anon) / MIB:.1f} MiB; VmHWM, mapped files included: {max(high) / MIB:.1f} MiB; "
                f"sender's largest resident set {sent.max_rss / MIB:.1f} MiB", words_of(facts)]
    return outcome


def run_idle(row, repetitions, treecast, seconds=60):
    """CPU milliseconds of an agent that waits for a minute."""
    outcome = Outcome()
    with lab_for(row) as (lab, folder), Cast(lab, treecast, folder) as cast:
        agent = cast.agents[1].pid
        for _ in range(repetitions):
            time.sleep(1)
            before = fine_cpu_seconds(agent)
            time.sleep(seconds)
            outcome.values.append((fine_cpu_seconds(agent) - before) * 1e3)
    return outcome


# -- the local API ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def local_agent(treecast):
    """An agent on loopback and a way to have it publish 1 MiB under a name."""
    with tempfile.TemporaryDirectory(prefix="treecast-bench-", dir="/dev/shm") as folder:
        random_bytes(f"{folder}/source", MIB)
        with subprocess.Popen([treecast, "recv", "-q", "-l", "127.0.0.1:0", "-d", f"{folder}/arrays"],
                              stdout=subprocess.PIPE, text=True) as agent:
            try:
                address = agent.stdout.readline().split()[2].rstrip(",")
                yield f"{folder}/arrays", lambda name: subprocess.Popen(
                    [treecast, "send", "-q", "-w", address, f"{folder}/source", name])
            finally:
                agent.terminate()


def run_waits(row, repetitions, treecast):
    """Waits a second that an agent answers, each over a connection of its own, from one client."""
    outcome = Outcome()
    with local_agent(treecast) as (folder, publish):
        publish(NAME).wait()
        outcome.values = [api.waits_per_second(folder, NAME, 20000) for _ in range(repetitions)]
    return outcome


def run_wake(row, repetitions, treecast):
    """Milliseconds from the moment an array is there until the last of 1,000 waiters has its answer."""
    outcome = Outcome()
    with local_agent(treecast) as (folder, publish):
        for i in range(repetitions):
            sends = []
            outcome.values.append(api.wake_milliseconds(folder, f"a{i}", 1000, lambda: sends.append(publish(f"a{i}"))))
            sends[0].wait()
    return outcome


# -- the sender's own host ---------------------------------------------------------------------------------------


def run_local(row, repetitions, treecast, *options):
    """Start to exit of a broadcast to this host alone, over the same with --local net, which goes through sockets."""
    outcome = Outcome(facts={"runs": []})
    warm_memory(4 * row.size)
    with tempfile.TemporaryDirectory(prefix="treecast-bench-", dir="/dev/shm") as folder:
        source = f"{folder}/source"
        random_bytes(source, row.size)
        environment = {**os.environ, "TREECAST_DIR": f"{folder}/arrays"}
        with subprocess.Popen([treecast, "recv", "-q", "-l", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True,
                              env=environment) as agent:
            try:
                port = agent.stdout.readline().split()[2].rstrip(",").rsplit(":", 1)[1]
                send = [treecast, "send", "-q", "-p", port, "-w", "127.0.0.1", source, NAME]
                for _ in range(repetitions):
                    seconds = {}
                    for way in (("--local", "net"), options):
                        began = time.monotonic()
                        subprocess.run([*send, *way], check=True, env=environment)
                        seconds[" ".join(way) or "default"] = time.monotonic() - began
                        subprocess.run([treecast, "rm", NAME], check=True, env=environment)
                    net, local = seconds.values()
                    outcome.values.append(local / net)
                    outcome.facts["runs"].append(seconds)
                    outcome.notes = [", ".join(f"{way}: {row.size / 1e9 / took:.2f} GB/s" for way, took in seconds.items())]
            finally:
                agent.terminate()
    return outcome


def run_link(row, repetitions, treecast):
    """The same with --link: nothing is copied, everything is digested on both sides."""
    return run_local(row, repetitions, treecast, "--link")


# -- outsiders ----------------------------------------------------------------------------------------------------


def under_way(folder):
    """Bytes in files that are being filled."""
    with contextlib.suppress(FileNotFoundError), os.scandir(f"{folder}/.treecast") as entries:
        return sum(512 * entry.stat().st_blocks for entry in entries if entry.name.endswith(".part"))
    return 0


def stall(lab, count, held):
    """Once host 1 receives, connections from four hosts that begin a TLS handshake there and never end it."""
    wait_for(lambda: under_way(lab.path(1, DIR)) > MIB, "the first bytes", 60)
    for number in range(count):
        peer = lab.socket(2 + number % 4)
        peer.setblocking(False)
        peer.connect_ex((lab.address(1), PORT))
        held.append(peer)
    for peer in held:
        with contextlib.suppress(OSError):
            peer.send(b"\x16\x03\x01\x02\x00\x01")


@contextlib.contextmanager
def crowd(lab, count):
    held = []
    thread = threading.Thread(target=stall, args=(lab, count, held))
    thread.start()
    yield
    thread.join()
    for peer in held:
        peer.close()


def run_stalled(row, repetitions, treecast, count=1000):
    """Start to exit of a broadcast while 1,000 connections stall at one agent, over one without them."""
    outcome = Outcome(facts={"runs": []})
    with lab_for(row) as (lab, folder):
        random_bytes(lab.path(0, SOURCE), row.size)
        for _ in range(repetitions):
            alone = broadcast(row, lab, folder, treecast).seconds
            beset = broadcast(row, lab, folder, treecast, watch=lambda cast: crowd(lab, count)).seconds
            outcome.values.append(beset / alone)
            outcome.facts["runs"].append([alone, beset])
            outcome.notes = [f"{alone:.2f} s alone, {beset:.2f} s with {count} stalled connections"]
    return outcome


# -- a crowd of every kind ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent_sessions(cast, count):
    """At host 1: control sessions of a member of the group, from the host itself, that greet and say nothing."""
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "hostile"))
    from hostile import compile_helper
    lab = cast.lab
    process = lab.popen(1, [compile_helper("insider"), "silent", cast.key, str(PORT), str(count)], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, env={**os.environ, "PEER_ADDRESS": lab.address(1)})
    try:
        if int(process.stdout.readline()) == 0:
            raise LabError("no silent session was let in")
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        lab.end(process)


@contextlib.contextmanager
def crowds(cast, names, connections, sessions):
    fill(cast.lab.path(1, DIR), names, size=0)
    with silent_sessions(cast, sessions), crowd(cast.lab, connections):
        yield


def run_crowded(row, repetitions, treecast, names=100000, connections=1000, sessions=64):
    """Start to exit of a broadcast while one agent has a crowd of every kind, over one without."""
    outcome = Outcome(facts={"runs": []})
    with lab_for(row, more=names * 5 * KIB) as (lab, folder):
        random_bytes(lab.path(0, SOURCE), row.size)
        for _ in range(repetitions):
            alone = broadcast(row, lab, folder, treecast).seconds
            beset = broadcast(row, lab, folder, treecast,
                              watch=lambda cast: crowds(cast, names, connections, sessions)).seconds
            outcome.values.append(beset / alone)
            outcome.facts["runs"].append([alone, beset])
            outcome.notes = [f"{alone:.2f} s alone, {beset:.2f} s with {connections} stalled connections, {sessions} silent "
                             f"sessions and {names} names at one agent"]
    return outcome


# -- beside Slurm's own -----------------------------------------------------------------------------------------


def run_sbcast(row, repetitions, treecast):
    """treecast send to prologs' agents, treecast-sbcast and Slurm's sbcast, one after the other in one job of a real
    Slurm: how many times as long sbcast takes. Its blocks are small, because it times out at its default of 8 MiB."""
    outcome = Outcome(facts={"runs": []})
    words = {"send": 'treecast send -q -w "$SLURM_JOB_NODELIST" source.bin',
             "treecast-sbcast": "treecast-sbcast -f source.bin /dev/shm/copy",
             "sbcast": "sbcast -f -s 512k source.bin /dev/shm/copy"}
    with lab_for(row) as (lab, _), Slurm(lab, treecast) as slurm:
        copy = measured_copy(lab, row.size)
        random_bytes(slurm.path("alice", "source.bin"), row.size)
        script = "".join(f"began=$(date +%s%N)\n{line}\necho took {name} $began $(date +%s%N)\n"
                         "srun rm -f /dev/shm/copy\n" for name, line in words.items())
        for _ in range(repetitions):
            job = slurm.sbatch("alice", script, f"-N{row.hosts}")
            lines = [line.split() for line in slurm.wait("alice", job, timeout=900).splitlines()]
            run = {name: (int(end) - int(began)) / 1e9 for word, name, began, end in
                   (line for line in lines if line[0] == "took")}
            slurm.settled()
            outcome.values.append(run["sbcast"] / run["send"])
            outcome.facts["runs"].append(run)
    outcome.facts["copy"] = copy
    outcome.notes = [f"one copy {copy:.3f} s; " + ", ".join(
        f"{name} {median([run[name] for run in outcome.facts['runs']]) / copy:.2f} copies" for name in words)]
    return outcome


# -- the same array again ----------------------------------------------------------------------------------------


def again(row, lab, folder, treecast, first, change):
    """first(cast) brings something to every host, change(lab) changes the source; what the next broadcast was like."""
    with Cast(lab, treecast, folder) as cast:
        first(cast)
        change(lab)
        sent = cast.send(SOURCE, NAME, "--force", *row.options()).require_success()
    moved = [(line["bytes"] - line["adopted"]) / row.size for line in sent.hosts]
    return {**facts_of(sent), "moved": sum(moved) / len(moved), "moved_most": max(moved)}


def run_again(row, repetitions, treecast, first, change):
    """Start to exit of a second broadcast, over that of one to hosts that have nothing."""
    outcome = Outcome()
    with lab_for(row) as (lab, folder):
        random_bytes(lab.path(0, SOURCE), row.size)
        fresh = median([broadcast(row, lab, folder, treecast).seconds for _ in range(repetitions)])
        runs = [again(row, lab, folder, treecast, lambda cast: first(row, cast), change)
                for _ in range(repetitions)]
    outcome.values = [run["wall"] / fresh for run in runs]
    outcome.facts = {"fresh": fresh, "runs": runs}
    run = middle(outcome)
    bound = "" if row.moved is None else f" (<= {row.moved:.0%} and a chunk)"
    moved = " ".join(f"{one['moved']:.2%}" for one in runs)
    outcome.notes = [f"a fresh broadcast {fresh:.3f} s; of the bytes moved{bound} {moved}; of the run of the median to "
                     f"the host that got most {run['moved_most']:.2%}", words_of(run)]
    return outcome


def all_of_it(row, cast):
    cast.send(SOURCE, NAME, *row.options()).require_success()


def half_of_it(row, cast):
    """kill -9 of the sender when the hosts have half of it: with headers and what is on its way more has left then."""
    before = cast.lab.sent_bytes(0)
    process = cast.start_send(SOURCE, NAME, *row.options())
    await_part(cast, process, before, 0.52 * row.size)
    process.kill()
    cast.lab.end(process)


def nothing(_):
    pass


def one_percent(lab):
    """One byte in each of 1% of the pieces of 64 KiB."""
    with open(lab.path(0, SOURCE), "r+b") as file:
        for place in range(0, os.path.getsize(lab.path(0, SOURCE)), 100 * 64 * KIB):
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))


def run_unchanged(row, repetitions, treecast):
    return run_again(row, repetitions, treecast, all_of_it, nothing)


def run_delta(row, repetitions, treecast):
    return run_again(row, repetitions, treecast, all_of_it, one_percent)


def run_resume(row, repetitions, treecast):
    return run_again(row, repetitions, treecast, half_of_it, nothing)


# -- the users' notebook -----------------------------------------------------------------------------------------


def run_push(row, repetitions, treecast):
    return notebook.faster_than_push(row, repetitions, treecast, Outcome())


def run_repaired(row, repetitions, treecast):
    return notebook.beside_repaired(row, repetitions, treecast, Outcome())


def run_hosts(row, repetitions, treecast):
    return notebook.across_hosts(row, repetitions, treecast, Outcome())


# -- the table --------------------------------------------------------------------------------------------------


def small_rows():
    for size, word in ((64 * KIB, "64K"), (MIB, "1M")):
        for tree in ("binomial", "double", "auto"):
            yield Row(f"small-{word}-{tree}", run_small, 32, 1000, size, unit="ms", tree=tree,
                      about=f"transfer of a small array, {tree}")


ROWS = [
    Row("main32", run_copies, 32, 100, 64 * MIB, bound=1.10, about="the main job"),
    # Near 0% idle, main32 and main64 measure the machine that plays all hosts; these have half the load.
    Row("main16", run_copies, 16, 100, 64 * MIB, bound=1.10, about="half the hosts"),
    Row("main32-slow", run_copies, 32, 50, 32 * MIB, bound=1.10, about="half the rate and size"),
    Row("main32-cubic", run_copies, 32, 100, 64 * MIB, cc="cubic", about="the same under cubic"),
    Row("main64", run_copies, 64, 50, 64 * MIB, bound=1.15, about="twice the hosts"),
    Row("main32-binomial", run_copies, 32, 100, 64 * MIB, tree="binomial", about="one binomial tree, to compare"),
    Row("main32-chain", run_copies, 32, 100, 64 * MIB, tree="chain", about="a chain, to compare"),
    Row("main64-binomial", run_copies, 64, 50, 64 * MIB, tree="binomial", about="one binomial tree, to compare"),
    Row("main64-chain", run_copies, 64, 50, 64 * MIB, tree="chain", about="a chain, to compare"),
    *small_rows(),
    # At 25 Mbit/s one machine can decompress and digest for 31 hosts as fast as the links bring bytes.
    Row("compressible", run_compressible, 32, 25, 64 * MIB, bound=1.15, about="a float64 field, in copies compressed"),
    # Pacing makes bbr cut segments small, which doubles the CPU cost of an unshaped link.
    Row("hop", run_hop, 2, None, 2 * GIB, unit="GB/s", bound=0.5, at_least=True, cc="cubic", about="one hop, to tmpfs"),
    Row("hop-bbr", run_hop, 2, None, 2 * GIB, unit="GB/s", about="the same under bbr"),
    Row("memory-4G", run_memory, 2, None, 4 * GIB, unit="MiB", bound=64, once=True, about="agent's memory, 4 GiB"),
    Row("memory-64", run_memory, 64, 50, 64 * MIB, unit="MiB", bound=64, once=True, about="agent's memory, 64 hosts"),
    Row("api-waits", run_waits, 1, None, 0, unit="1/s", bound=10000, at_least=True, about="waits at one agent's local API"),
    Row("api-wake", run_wake, 1, None, 0, unit="ms", bound=50, about="1,000 waiters awake after publish"),
    Row("local-copy", run_local, 1, None, GIB, unit="of net", about="this host alone, by a local copy"),
    Row("local-link", run_link, 1, None, GIB, unit="of net", bound=0.8, about="this host alone, by --link"),
    Row("sbcast", run_sbcast, 32, 100, 64 * MIB, unit="times", bound=3, at_least=True, once=True,
        about="Slurm's sbcast beside it"),
    Row("unchanged", run_unchanged, 16, 100, 64 * MIB, unit="fresh", bound=0.25, moved=0,
        about="all hosts have it already"),
    Row("delta", run_delta, 16, 100, 64 * MIB, unit="fresh", bound=0.35, moved=0.01,
        about="1% of the chunks changed"),
    Row("resume", run_resume, 16, 100, 64 * MIB, unit="fresh", bound=0.7, moved=0.51,
        about="the sender was killed half way"),
    Row("stalled", run_stalled, 8, 100, 32 * MIB, unit="times", bound=1.2, about="while 1,000 connections stall"),
    Row("crowded", run_crowded, 32, 100, 64 * MIB, unit="times", bound=1.05,
        about="1,000 stalled, 64 silent, 100,000 names"),
    Row("idle", run_idle, 2, None, 0, unit="ms", bound=10, once=True, about="CPU of an agent in 60 idle seconds"),
    # 16 engines of ipyparallel: on this machine, and two on each of eight hosts.
    Row("notebook-push", run_push, 1, None, 128 * MIB, unit="times", bound=10, at_least=True,
        about="bcast_memmap, faster than push"),
    Row("notebook-repaired", run_repaired, 1, None, 128 * MIB, unit="allowed", bound=1,
        about="bcast_memmap, of 1.25 x the mended notebook or 0.2 s more"),
    Row("notebook-hosts", run_hosts, 8, 100, 32 * MIB, bound=1.2, once=True, about="bcast_memmap across hosts"),
]


def run_row(row, repetitions, treecast):
    steal = Steal()
    outcome = row.run(row, 1 if row.once else repetitions, treecast)
    outcome.steal = steal.percent()
    return outcome
