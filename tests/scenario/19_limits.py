#!/usr/bin/python3
"""Whoever stands still costs a bounded time: a process that holds a directory's lock, a reader that does not read."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time

from agents import ensure, main, read, scenario, wait_for

MIB = 1 << 20
LOCK_S = 5  # TC_LOCK_MS
HOLDER = "import fcntl, os, signal, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX); " \
         "os.kill(os.getpid(), signal.SIGSTOP); signal.pause()"


@contextlib.contextmanager
def held(agent):
    """A stopped process that holds the lock of agent's directory; its pid."""
    process = subprocess.Popen(["/usr/bin/python3", "-c", HOLDER, agent.path(".treecast/lock")], stdin=subprocess.DEVNULL)
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        ensure(os.WIFSTOPPED(status), f"the holder ended: {status}")
        yield process.pid
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def ask(agent, request, timeout=30):
    """The answer of agent's local API, and how long it took."""
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(agent.path(".treecast/api"))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as answer:
            return json.loads(answer.readline()), time.monotonic() - began


@scenario
def a_stopped_process_with_the_lock_costs_its_host_alone(scene):
    """Of three hosts one cannot publish: it says who holds its lock, the others have the array, and nothing is lost."""
    agents = scene.agents(3)
    source = scene.noise("a", 4 * MIB)
    with held(agents[1]) as holder:
        answer = scene.send(agents, source, "--json", "--min-hosts", "2").expect(3).within(2 * LOCK_S)
        refused = answer.hosts[agents[1].address]
        ensure(refused["state"] in ("refused", "failed") and refused["reason"] == "busy", str(refused))
        ensure(f"process {holder} (python3" in refused["text"] and "stopped)" in refused["text"] and
               ".treecast/lock" in refused["text"], str(refused))
        scene.require_published([agents[0], agents[2]], "a", source)
        ensure(agents[1].published() == [], str(agents[1].published()))
    answer = scene.send(agents, source, "--json").expect(0)
    ensure(answer.hosts[agents[1].address]["state"] == "published", str(answer))
    scene.require_published(agents, "a", source)


@scenario
def a_lock_that_is_taken_before_publishing_loses_nothing(scene):
    """The lock is taken while the array is under way: the host has every byte, cannot publish, and keeps them."""
    agents = scene.agents(3, "--bwlimit", "40M")
    source = scene.noise("a", 24 * MIB)
    sender = scene.start_send(agents, source, "--json", "--bwlimit", "20M", "-F", "chain")
    scene.under_way(sender, [agents[1]])
    with held(agents[1]):
        answer = sender.finish().expect(1)
        ensure(answer.hosts[agents[1].address]["state"] == "failed" and
               answer.hosts[agents[1].address]["reason"] == "busy", str(answer))
        scene.require_published([agents[0], agents[2]], "a", source)
    answer = scene.send(agents, source, "--json").expect(0)
    row = answer.hosts[agents[1].address]
    ensure(row["state"] == "published" and row["adopted"] == 24 * MIB, str(row))


@scenario
def everything_else_is_told_who_holds_the_lock(scene):
    """rm, clean and leases fail in time and name the holder; what needs no lock is answered meanwhile."""
    agent = scene.agent()
    source = scene.noise("a", MIB)
    scene.send([agent], source).expect(0)
    with held(agent) as holder:
        waiting = [scene.start("rm", "-d", agent.folder, "a"), scene.start("clean", "-d", agent.folder)]
        scene.run("list", "-d", agent.folder).expect(0, out="a").within(3)
        scene.run("verify", "-d", agent.folder, "a").expect(0)
        answer, seconds = ask(agent, {"op": "lease", "name": "a", "ttl": 60})
        ensure(not answer["ok"] and answer["reason"] == "busy" and str(holder) in answer["text"], str(answer))
        ensure(seconds < 2 * LOCK_S, f"{seconds} s")
        for process in waiting:
            answer = process.finish().expect(1, err=f"busy: process {holder}").within(2 * LOCK_S)
            ensure("stopped" in answer.err, str(answer))
    answer, _ = ask(agent, {"op": "lease", "name": "a", "ttl": 60})
    ensure(answer["ok"], str(answer))
    scene.run("rm", "-d", agent.folder, "a").expect(0)


@scenario
def others_are_answered_while_a_lease_waits(scene):
    """The agent's loop waits for nothing: status is answered and SIGTERM heard while a lease waits for the lock."""
    agent = scene.agent()
    scene.send([agent], scene.noise("a", MIB)).expect(0)
    with held(agent):
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(agent.path(".treecast/api"))
            waiting.sendall(b'{"op":"lease","name":"a","ttl":60}\n')
            for _ in range(3):
                _, seconds = ask(agent, {"op": "status"})
                ensure(seconds < 1, f"status took {seconds} s")
            ensure(agent.stop().within(2).code in (0, -signal.SIGTERM), "SIGTERM was not heard")


@scenario
def sigterm_is_heard_while_publishing_waits(scene):
    """An agent that is to end does not wait for the lock."""
    agents = scene.agents(2)
    source = scene.noise("a", MIB)
    lock = agents[0].path(".treecast/lock")
    with held(agents[0]):
        sender = scene.start_send(agents, source, "--json", "--min-hosts", "1")
        wait_for(lambda: opened(agents[0].pid, lock), "an agent that waits for its lock")
        began = time.monotonic()
        agents[0].stop()
        ensure(time.monotonic() - began < 2, f"{time.monotonic() - began} s")
        sender.finish().expect(3)
    scene.require_published([agents[1]], "a", source)


def full_pipe():
    """Both ends of a pipe that takes nothing more, and how much is in it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    inside = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            inside += os.write(writer, b"\n" * 4096)
    os.set_blocking(writer, True)
    return reader, writer, inside


def drain(reader):
    """All that is said until the last writer has gone."""
    with os.fdopen(reader, "rb") as file:
        return file.read().decode()


@scenario
def a_report_that_nobody_reads_holds_up_no_session(scene):
    """The hosts have the array and are let go while the sender's reader sleeps; later it reads every line."""
    agents = scene.agents(3, "--once")
    source = scene.noise("a", 8 * MIB)
    out, out_writer, inside = full_pipe()
    err, err_writer, _ = full_pipe()
    words = [scene.treecast, "send", "-v", "--json", "-w", ",".join(agent.address for agent in agents), source]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out_writer, stderr=err_writer,
                          env=scene.environment()) as sender:
        os.close(out_writer)
        os.close(err_writer)
        for agent in agents:
            ensure(agent.finish(20).code == 0, "an agent was not let go")
        scene.require_published(agents, "a", source)
        ensure(sender.poll() is None, "the sender does not wait for its reader in the end")
        lines = [json.loads(line) for line in drain(out)[inside:].splitlines()]
        drain(err)
        ensure(sender.wait(20) == 0, f"exit {sender.returncode}")
    ensure([line["type"] for line in lines if line["type"] != "progress"] == ["plan"] + ["host"] * 3 + ["summary"],
           str(lines))


@scenario
def a_report_that_nobody_reads_can_be_ended(scene):
    """SIGTERM ends a sender whose session is over and whose report has no reader."""
    agent = scene.agent("--once")
    reader, writer, _ = full_pipe()
    with subprocess.Popen([scene.treecast, "send", "-w", agent.address, scene.noise("a", MIB)], stdin=subprocess.DEVNULL,
                          stdout=writer, stderr=subprocess.DEVNULL, env=scene.environment()) as sender:
        os.close(writer)
        ensure(agent.finish(20).code == 0, "the agent was not let go")
        wait_for(lambda: {"Threads:\t1", "State:\tS (sleeping)"} <= set(read(f"/proc/{sender.pid}/status").splitlines()),
                 "a sender that waits for its reader")
        sender.terminate()
        ensure(sender.wait(5) == -signal.SIGTERM, f"exit {sender.returncode}")
    os.close(reader)


@scenario
def a_log_that_nobody_reads_holds_up_no_agent(scene):
    """An agent whose log goes to a full pipe receives, answers and ends; what was lost is counted when there is a reader."""
    source = scene.noise("a", MIB)
    reader, writer, inside = full_pipe()
    folder = scene.path("quiet")
    words = [scene.treecast, "recv", "-v", "-d", folder, "-l", "127.0.0.1:0"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=writer,
                          env=scene.environment()) as agent:
        os.close(writer)
        address = agent.stdout.readline().decode().split()[2].rstrip(",")
        scene.run("send", "-w", address, source).expect(0).within(10)
        ensure(len(os.read(reader, inside)) == inside, "the pipe was not full")
        scene.run("send", "-w", address, source).expect(0)
        agent.terminate()
        ensure(agent.wait(5) == 0, f"exit {agent.returncode}")
    said = drain(reader)
    ensure("lines of the log were not read)" in said and "a from" in said, said)


def opened(pid, path):
    """Whether the process has the file open."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{name}") == path:
                return True
    return False


if __name__ == "__main__":
    main()
