#!/usr/bin/python3
"""The local source: whoever may talk to a root agent's local API cannot have it publish what he cannot read himself."""

import array
import json
import os
import pwd
import shutil
import socket
import subprocess

from hostile import SLOW, ensure, main, need_root, note, same_bytes, scenario, wait_for

USER = "nobody"


def as_user(user):
    def become():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    return become


def ground(scene):
    """A root agent whose local API lets the user in, a file that only root can read, and a folder of the user's."""
    need_root()
    user = pwd.getpwnam(USER)
    os.chmod(scene.folder, 0o755)
    secret = scene.noise("secret", 70000)
    os.chmod(secret, 0o600)
    os.mkdir(scene.path("theirs"))
    os.chown(scene.path("theirs"), user.pw_uid, user.pw_gid)
    key = scene.key("key", "--group-only")  # without one the user could not reach root's agent at all
    shutil.copy(key, scene.path("theirs", "key"))
    os.chmod(scene.path("theirs", "key"), 0o600)
    os.chown(scene.path("theirs", "key"), user.pw_uid, user.pw_gid)
    agent = scene.agent("-k", key, "--allow-user", USER, "-qq")
    return user, secret, agent


def send(scene, user, agent, source, *options, descriptor=None):
    words = [scene.treecast, "send", "-p", str(agent.port), "-w", "127.0.0.1", "--local", "copy", "-f", "-k",
             scene.path("theirs", "key"), *options]
    words += ["--source-fd", str(descriptor), "x"] if descriptor is not None else [source, "x"]
    return subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=as_user(user), timeout=60 * SLOW,
                          env=scene.environment(TREECAST_DIR=agent.folder), cwd="/",
                          pass_fds=[descriptor] if descriptor is not None else [])


def require_secret(agent, *secrets):
    for name in agent.published():
        for secret in secrets:
            ensure(not same_bytes(agent.path(name), secret), f"{name} is {secret}")


@scenario
def by_sending(scene):
    """By path, link, descriptor or race: send as a user never makes the root agent publish a root-only file"""
    user, secret, agent = ground(scene)
    theirs = scene.path("theirs")
    os.symlink(secret, os.path.join(theirs, "link"))
    os.link(secret, os.path.join(theirs, "hard"))
    os.symlink("/etc/shadow", os.path.join(theirs, "shadow"))
    tries = 0
    for path in (secret, "/etc/shadow", os.path.join(theirs, "link"), os.path.join(theirs, "hard"),
                 os.path.join(theirs, "shadow"), "/proc/self/root" + secret, f"/proc/{agent.pid}/root{secret}",
                 f"/proc/{agent.pid}/fd/0", f"/proc/{agent.pid}/mem", "/proc/kcore", "/dev/mem"):
        for options in ((), ("--link",)):
            done = send(scene, user, agent, path, *options)
            ensure(done.returncode != 0, f"{path}: {done}")
            require_secret(agent, secret, "/etc/shadow")
            tries += 1
    for path in (secret, "/etc/shadow"):
        for flags in (os.O_PATH, os.O_PATH | os.O_NOFOLLOW):
            descriptor = os.open(path, flags)
            done = send(scene, user, agent, None, descriptor=descriptor)
            os.close(descriptor)
            ensure(done.returncode != 0, f"O_PATH of {path}: {done}")
            require_secret(agent, secret, "/etc/shadow")
            tries += 1
    good, swap = scene.noise("theirs/good", 70000, seed=2), os.path.join(theirs, "swap")
    os.chmod(good, 0o644)
    for turn in range(20):
        racing = subprocess.Popen(["sh", "-c", f"while :; do ln -sfn {good} {swap}; ln -sfn {secret} {swap}; done"])
        try:
            send(scene, user, agent, swap)
        finally:
            racing.kill()
            racing.wait()
        require_secret(agent, secret, "/etc/shadow")
        tries += 1
    note(f"{tries} tries, 0 published")
    ensure(agent.running(), "the agent is gone")
    done = send(scene, user, agent, good)
    ensure(done.returncode == 0, f"this test could not fail: {done}")


def ask(agent, user, request, *descriptors):
    """What the local API answers to a line with descriptors, from the user's own process."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            as_user(user)()
            with socket.socket(socket.AF_UNIX) as api:
                api.settimeout(10 * SLOW)
                api.connect(agent.path(".treecast/api"))
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
                api.sendmsg([json.dumps(request).encode() + b"\n"], rights)
                os.write(write_end, api.recv(65536))
        except OSError as error:
            os.write(write_end, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end, "rb") as answer:
        return answer.read().decode()


@scenario
def at_the_api(scene):
    """Raw words through the local API: a path, an O_PATH descriptor, a directory, a FIFO, many at once: refused, or of no use"""
    user, secret, agent = ground(scene)
    session, before = "ab" * 16, agent.descriptors()
    os.mkfifo(scene.path("fifo"))
    descriptors = {name: os.open(path, flags) for name, path, flags in (
        ("O_PATH", secret, os.O_PATH), ("shadow", "/etc/shadow", os.O_PATH), ("directory", scene.folder, os.O_RDONLY),
        ("FIFO", scene.path("fifo"), os.O_RDWR), ("write only", scene.path("theirs"), os.O_PATH))}
    tries = 0
    for more in ({"path": secret}, {"file": "/etc/shadow"}, {"source": secret, "fd": 3}, {"session": "../../etc/shadow"},
                 {"session": secret}, {"session": 7}):
        answer = ask(agent, user, {"op": "source", "session": session, **more})
        ensure('"ok":false' in answer or "ok" not in answer, f"{more}: {answer}")
        tries += 1
    for name, descriptor in descriptors.items():
        for count in (1, 3, 60):
            answer = ask(agent, user, {"op": "source", "session": session}, *[descriptor] * count)
            ensure('"ok":false' in answer, f"{name} x {count}: {answer}")
            tries += 1
    for descriptor in descriptors.values():
        os.close(descriptor)
    require_secret(agent, secret, "/etc/shadow")
    ensure(agent.running() and agent.published() == [], "something was published")
    wait_for(lambda: agent.descriptors() <= before, "the end of what was passed", timeout=20 * SLOW)
    note(f"{tries} requests, 0 taken")


if __name__ == "__main__":
    main()
