#!/usr/bin/python3
"""What an agent keeps of its rights: hardly any, and nothing of root's."""

import errno
import os
import pwd
import shutil
import socket
import stat
import subprocess

from hostile import (Skip, compile_helper, ensure, landlock, main, need_root, note, preloaded, scenario, status_of,
                     wait_for)

USER = "nobody"


def ground(scene):
    """The user may pass through the scene's folder; its agent has a directory there, a root-only file lies beside it, and
    a folder that anybody may write to. So does the key that only root can read."""
    need_root()
    user = pwd.getpwnam(USER)
    os.chmod(scene.folder, 0o711)
    os.mkdir(scene.path("host1"))
    os.chown(scene.path("host1"), user.pw_uid, user.pw_gid)
    os.mkdir(scene.path("open"))
    os.chmod(scene.path("open"), 0o777)
    with open(scene.path("secret"), "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write("root's own\n")
    return user


def probe(scene, tries, *options):
    """What each of tries came to in the agent: its errno."""
    library = compile_helper("probe", "-shared", "-fPIC")
    agent = scene.agent(*options, env=preloaded(scene, library, PROBE=" ".join(tries)))
    wait_for(lambda: "probe end" in agent.err, "the probe's end")
    found = {line.split()[1].rstrip(":"): int(line.split()[2]) for line in agent.err.splitlines()
             if line.startswith("probe ") and line != "probe end"}
    ensure(set(found) == set(tries), f"probed {found}")
    agent.stop().expect(0)
    return found


def denied(found, *words):
    for word in words:
        ensure(found[word] in (errno.EACCES, errno.EPERM), f"{word}: errno {found[word]} ({found})")


@scenario
def dropped(scene):
    """As root with --user the agent is that user: no capability, no new privileges, no core, nobody looks into it"""
    user = ground(scene)
    key = scene.key()
    agent = scene.agent("--user", USER, "-k", key, "--group", "daemon", "--mode", "0440")
    facts = status_of(agent.pid)
    ensure(set(facts["Uid"].split()) == {str(user.pw_uid)} and set(facts["Gid"].split()) == {str(user.pw_gid)}, facts)
    ensure(all(int(facts[name], 16) == 0 for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")), facts)
    ensure(facts["NoNewPrivs"] == "1", facts)
    ensure(set(facts["Groups"].split()) <= {str(user.pw_gid), "1"} and "0" not in facts["Groups"].split(), facts)
    with open(f"/proc/{agent.pid}/limits", encoding="ascii") as limits:
        ensure(any(line.split()[:6] == "Max core file size 0 0".split() for line in limits), "cores are on")
    ensure(os.stat(f"/proc/{agent.pid}/environ").st_uid == 0, "it is dumpable")
    source = scene.noise("a", 200000)
    scene.send([agent], source, "-k", key).expect(0)
    facts = os.stat(agent.path("a"))
    ensure((facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (user.pw_uid, 1, 0o440), facts)
    scene.run("verify", "-d", agent.folder, "a", user=user.pw_uid, group=user.pw_gid, extra_groups=[]).expect(0)
    for thread in os.listdir(f"/proc/{agent.pid}/task"):
        ensure(status_of(f"{agent.pid}/task/{thread}")["NoNewPrivs"] == "1", "a thread has kept its privileges")


@scenario
def low_port(scene):
    """It binds a port below 1024 before it drops"""
    ground(scene)
    for port in range(1023, 600, -7):
        with socket.socket() as probing:
            try:
                probing.bind(("127.0.0.1", port))
            except OSError:
                continue
        process = scene.start("recv", "-d", scene.path("host1"), "-l", f"127.0.0.1:{port}", "--user", USER)
        wait_for(lambda: "listening on" in process.out or not process.running(), "an agent")
        ensure(process.running(), process.err)
        ensure(status_of(process.pid)["Uid"].split()[0] != "0", "still root")
        return
    raise Skip("no free port below 1024")


@scenario
def dropped_can_do_nothing(scene):
    """The dropped agent cannot read a root-only file, write elsewhere, execute anything or become root again"""
    ground(scene)
    secret, elsewhere, inside = (scene.path(*words) for words in (("secret",), ("open", "x"), ("host1", "x")))
    tries = [f"r{secret}", "r/etc/shadow", f"w{elsewhere}", "w/tmp/treecast-probe", f"w{inside}", "x/bin/true",
             f"l{scene.path('open')}", "r/etc/resolv.conf", "r/etc/hosts", "s"]
    found = probe(scene, tries, "--user", USER)
    denied(found, f"r{secret}", "r/etc/shadow", "s")
    ensure(found[f"w{inside}"] == 0 and found["r/etc/hosts"] == 0, f"it cannot work either: {found}")
    if landlock() < 1:
        raise Skip("this kernel has no Landlock; all else holds")
    denied(found, f"w{elsewhere}", "w/tmp/treecast-probe", "x/bin/true", f"l{scene.path('open')}")
    note(f"Landlock {landlock()}: {len(tries)} tries, {sum(error != 0 for error in found.values())} denied")
    os.unlink(inside)
    found = probe(scene, tries, "--user", USER, "--no-sandbox")
    ensure(found[f"w{elsewhere}"] == 0 and found["x/bin/true"] == 0, f"this test could not fail: {found}")
    denied(found, f"r{secret}", "r/etc/shadow", "s")
    os.unlink("/tmp/treecast-probe")


@scenario
def root_is_confined(scene):
    """An agent that stays root cannot read /etc/shadow nor write outside its directory either"""
    need_root()
    if landlock() < 1:
        raise Skip("this kernel has no Landlock")
    os.mkdir(scene.path("open"))
    found = probe(scene, ["r/etc/shadow", "r/etc/passwd", f"w{scene.path('open', 'x')}", f"w{scene.path('host1', 'x')}",
                          "x/bin/true", "r/etc/hosts"])
    denied(found, "r/etc/shadow", "r/etc/passwd", f"w{scene.path('open', 'x')}", "x/bin/true")
    ensure(found[f"w{scene.path('host1', 'x')}"] == 0 and found["r/etc/hosts"] == 0, found)


@scenario
def refusals(scene):
    """A user that does not exist, one whom only root can become, a directory of another: one line, and no agent"""
    scene.run("recv", "-d", scene.path("d"), "-l", "127.0.0.1:0", "--user", "no-such-user").expect(1, err="no user")
    need_root()
    os.mkdir(scene.path("roots"))
    os.chmod(scene.folder, 0o711)
    answer = scene.run("recv", "-d", scene.path("roots"), "-l", "127.0.0.1:0", "--user", USER).expect(2)
    ensure("belongs to uid 0" in answer.err and answer.err.count("\n") == 1, str(answer))
    if not shutil.which("setpriv"):
        raise Skip("no setpriv")
    copy = subprocess.run(["setpriv", "--reuid", USER, "--clear-groups", "true"], check=False)
    ensure(copy.returncode == 0, "setpriv does not work")
    user = ["setpriv", "--reuid", USER, "--clear-groups", scene.treecast, "recv", "-d", "/dev/shm/treecast-none", "-l",
            "127.0.0.1:0", "--user", "daemon"]
    done = subprocess.run(user, capture_output=True, text=True, check=False, env=scene.environment())
    ensure(done.returncode == 6 and "only root" in done.stderr, f"{done}")


if __name__ == "__main__":
    main()
