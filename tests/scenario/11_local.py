"""The sender's own host: its agent takes the source itself, and only digests cross a socket."""

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time

from agents import Agent, Skip, ensure, main, same_bytes, scenario

MIB = 1 << 20


def send(scene, agent, source, *options, host="127.0.0.1"):
    """Broadcast from where agent's directory is the default one; with no port of its own the host may be local."""
    environment = scene.environment(TREECAST_DIR=agent.folder)
    return scene.run("send", "--json", "-p", agent.port, "-w", host, *options, source, env=environment)


def received(agent, answer):
    """Bytes of the array that came over the network, by what the sender gave out."""
    ensure(answer.last["published"] >= 1, str(answer))
    return answer.last["sent"]


@scenario
def nothing_crosses_a_socket(scene):
    """By default the local agent copies from the source: no chunk is sent, every one is verified; replaced with -f too"""
    agent = scene.agent()
    for turn in range(2):
        source = scene.noise("a", 20 * MIB + 7, seed=turn)
        answer = send(scene, agent, source, "-f").expect(0)
        ensure(received(agent, answer) == 0 and answer.last["adopted"] == 20 * MIB + 7, str(answer))
        scene.require_published([agent], "a", source)
        scene.run("verify", "-d", agent.folder, "a").expect(0)
    again = send(scene, agent, source).expect(0)
    ensure(again.last["unchanged"] == 1, str(again))


@scenario
def when_not(scene):
    """--local net and a listed port mean the network; --local copy says why it cannot be"""
    agent = scene.agent()
    source = scene.noise("a", 3 * MIB)
    answer = send(scene, agent, source, "--local", "net").expect(0)
    ensure(received(agent, answer) == 3 * MIB, str(answer))
    answer = send(scene, agent, source, "-f", host=agent.address)
    ensure(answer.code == 0 and answer.last["unchanged"] == 1, str(answer))
    os.unlink(agent.path("a"))
    answer = send(scene, agent, source, host=agent.address).expect(0)
    ensure(received(agent, answer) == 3 * MIB, str(answer))
    send(scene, agent, source, "--local", "copy", host=agent.address).expect(2, out="listed with a port")
    send(scene, agent, source, "--local", "net", "--link").expect(2, err="contradict")
    agent.kill()
    send(scene, agent, source, "--local", "copy").expect(1, out="no agent serves")


@scenario
def the_api_of_another(scene):
    """An agent whose local API is here but which is not the one listed is left alone"""
    agent, other = scene.agents(2)
    source = scene.noise("a", MIB)
    environment = scene.environment(TREECAST_DIR=other.folder)
    answer = scene.run("send", "--json", "-p", agent.port, "-w", "127.0.0.1", source, env=environment).expect(0)
    ensure(received(agent, answer) == MIB, str(answer))
    scene.require_published([agent], "a", source)
    scene.require_nothing([other])


@scenario
def with_others(scene):
    """Beside a local one, hosts that are listed with ports get the array over the network, also from the local one"""
    local, *others = scene.agents(5)
    source = scene.noise("a", 6 * MIB)
    hosts = ",".join(["127.0.0.1", *(agent.address for agent in others)])
    answer = send(scene, local, source, host=hosts).expect(0)
    ensure(answer.last["published"] == 5 and answer.last["adopted"] == 6 * MIB, str(answer))
    # The local one is no first host of a tree, though listed first: those are the sender's only children, one copy in all.
    ensure(answer.last["sent"] <= 6 * MIB, str(answer))
    scene.require_published([local, *others], "a", source)


@scenario
def a_hard_link(scene):
    """--link publishes the source itself: one file, one copy in memory; other owners and file systems are refused"""
    agent = scene.agent()
    source = scene.noise("a", 5 * MIB)
    answer = send(scene, agent, source, "--link").expect(0)
    ensure(received(agent, answer) == 0, str(answer))
    ensure(os.path.samefile(agent.path("a"), source), "two files")
    scene.run("verify", "-d", agent.folder, "a").expect(0)
    ensure(os.stat(source).st_mode & 0o777 == 0o444, "the mode is shared")
    scene.require_clean(agent)
    left = [name for name in os.listdir(agent.path(".treecast")) if name.endswith(".link")]
    ensure(not left, left)
    # What the name becomes later is nothing to the source, and the other way round.
    scene.run("rm", "-d", agent.folder, "a").expect(0)
    ensure(os.stat(source).st_nlink == 1 and os.stat(source).st_size == 5 * MIB, "the source stays")
    if os.geteuid() == 0:
        os.chown(source, 65533, 65533)
        send(scene, agent, source, "--link").expect(2, out="different owners")
        os.chown(source, 0, 0)
    with tempfile.NamedTemporaryFile(dir=os.environ.get("top_builddir")) as file:
        if os.stat(file.name).st_dev != os.stat(scene.folder).st_dev:
            send(scene, agent, file.name, "--link").expect(2, out="another file system")
    scene.require_nothing([agent])


def shared_bytes(path):
    """Bytes of a file whose blocks another file has too (FS_IOC_FIEMAP)."""
    head, extents = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII")
    buffer = bytearray(head.pack(0, 2**64 - 1, 0, 0, 64, 0) + bytes(64 * extents.size))
    with open(path, "rb") as file:
        fcntl.ioctl(file, 0xc020660b, buffer)
    found = [extents.unpack_from(buffer, head.size + i * extents.size) for i in range(head.unpack_from(buffer)[3])]
    return sum(extent[2] for extent in found if extent[5] & 0x2000)


@scenario
def shared_blocks(scene):
    """On a file system that can (XFS here) the local agent's file shares the source's blocks; each is verified"""
    if os.geteuid() != 0:
        raise Skip("needs root to mount")
    if not shutil.which("mkfs.xfs"):
        raise Skip("no mkfs.xfs (package xfsprogs)")
    image, place = scene.path("image"), scene.path("place")
    with open(image, "wb") as file:
        file.truncate(320 * MIB)
    os.mkdir(place)
    made = subprocess.run(["mkfs.xfs", "-q", image], capture_output=True, text=True, check=False)
    ensure(made.returncode == 0, made.stderr)
    script = 'mount --make-rprivate / && mount -o loop "$1" "$2" && mkdir -m 700 "$2/host" && shift 2 && exec "$@"'
    agent = Agent(scene, f"{place}/host", (), prefix=("unshare", "-m", "sh", "-c", script, "sh", image, place))
    scene.processes.append(agent)
    within = f"/proc/{agent.pid}/root{place}"
    with open(f"{within}/a", "wb") as file:
        file.write(os.urandom(20 * MIB + 7))
    answer = scene.start_program("nsenter", "-m", "-t", str(agent.pid), scene.treecast, "send", "--json", "-p",
                                 str(agent.port), "-w", "127.0.0.1", f"{place}/a",
                                 env=scene.environment(TREECAST_DIR=agent.folder)).finish().expect(0)
    ensure(received(agent, answer) == 0 and answer.last["adopted"] == 20 * MIB + 7, str(answer))
    ensure(same_bytes(f"{within}/host/a", f"{within}/a"), "other bytes")
    shared = shared_bytes(f"{within}/host/a")
    ensure(shared >= 20 * MIB, f"only {shared} bytes are shared")


@scenario
def the_source_changes(scene):
    """A source that changes while it is read, linked or not, is published nowhere"""
    agent = scene.agent()
    for options in ((), ("--link",)):
        source = scene.noise("a", 64 * MIB)
        environment = scene.environment(TREECAST_DIR=agent.folder)
        sender = scene.start("send", "-p", agent.port, "-w", "127.0.0.1", "-s", "64K", *options, source, env=environment)
        with open(source, "r+b") as file:
            while sender.running() and "a" not in agent.published():
                file.seek(40 * MIB)
                file.write(time.monotonic_ns().to_bytes(8, "big"))
                file.flush()
        answer = sender.finish()
        if answer.code == 0:  # it was faster than our first write
            scene.run("rm", "-d", agent.folder, "a").expect(0)
        else:
            answer.expect(10)
            ensure(agent.published() == [], agent.published())
        os.unlink(source)


if __name__ == "__main__":
    main()
