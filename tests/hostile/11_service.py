#!/usr/bin/python3
"""systemd's unit for agents: systemd has nothing to say against it, and it forbids nothing that an agent does."""

import os
import pwd
import re
import shutil
import socket
import subprocess

from hostile import Skip, ensure, main, need_root, note, plain_only, scenario, wait_for

UNITS = os.path.join(os.environ.get("top_srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."),
                     "contrib", "systemd")
EXPOSURE = 2.0  # of 10, as systemd-analyze security counts
USER = "nobody"


def analyze(*words):
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False,
                          env={"PATH": "/usr/bin:/bin", "SYSTEMD_COLORS": "0", "LC_ALL": "C"})


def unit_text():
    with open(f"{UNITS}/treecast-recv@.service.in", encoding="ascii") as file:
        return file.read()


def install(scene):
    """The unit as make install would leave it; its path."""
    folder = scene.path("units")
    os.mkdir(folder)
    shutil.copy(f"{UNITS}/treecast-recv@.socket", folder)
    with open(f"{folder}/treecast-recv@.service", "w", encoding="ascii") as file:
        file.write(unit_text().replace("@bindir@", os.path.dirname(scene.treecast)))
    return f"{folder}/treecast-recv@"


@scenario
def verified(scene):
    """systemd-analyze verify finds nothing wrong with the units, and its measure of exposure is small"""
    unit = install(scene)
    done = analyze("verify", "--man=no", f"{unit}7117.service")
    ensure(done.returncode == 0 and "treecast" not in done.stderr, f"{done.stdout}{done.stderr}")
    done = analyze("security", "--offline=true", f"--threshold={int(EXPOSURE * 10)}", f"{unit}.service")
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    ensure(found and done.returncode == 0 and float(found[1]) <= EXPOSURE, f"{done.stdout}{done.stderr}")
    note(f"exposure {found[1]} of 10")


def calls_of(group):
    """All system calls of one of systemd's groups."""
    done = analyze("syscall-filter", group)
    ensure(done.returncode == 0, f"{group}: {done.stderr}")
    words = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ") and "#" not in line]
    return set().union(*(calls_of(word) if word.startswith("@") else {word} for word in words))


def allowed_calls():
    """What the unit's lines come to: each adds to what is allowed, or with ~ takes from it."""
    allowed = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit_text(), re.M):
        calls = set().union(*(calls_of(word) if word.startswith("@") else {word} for word in line.lstrip("~").split()))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


@scenario
@plain_only
def filtered(scene):
    """As the unit starts it (its socket, root's key on standard input, a user) an agent makes no call that it forbids"""
    need_root()
    if not shutil.which("strace"):
        raise Skip("no strace")
    allowed = allowed_calls()
    ensure("openat" in allowed and "chown" not in allowed and "mount" not in allowed, "the unit's filter is read wrongly")
    user, key, trace = pwd.getpwnam(USER), scene.key("key", "--group-only"), scene.path("trace")
    os.chmod(scene.folder, 0o711)
    os.mkdir(scene.path("host"))
    os.chown(scene.path("host"), user.pw_uid, user.pw_gid)
    with open(trace, "w", encoding="ascii"):
        os.chown(trace, user.pw_uid, user.pw_gid)
    words = re.search(r"^ExecStart=@bindir@/treecast (.*) --dir ", unit_text(), re.M)[1].split()
    with socket.create_server(("127.0.0.1", 0)) as server, open(key, "rb") as stdin:
        port = server.getsockname()[1]
        os.set_inheritable(server.fileno(), True)
        process = scene.start_program("strace", "-f", "-qq", "-o", trace, "-u", USER, "/bin/sh", "-c",
                                      f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{server.fileno()}', "sh", scene.treecast, *words, "--dir",
                                      scene.path("host"), stdin=stdin, pass_fds=(server.fileno(),))
    wait_for(lambda: "listening on" in process.out or not process.running(), "the agent")
    ensure(process.running(), process.err)
    source = scene.noise("a", 3 << 20)
    for options in ([], ["--force", "-C", "zstd"]):
        scene.run("send", "-k", key, "-w", f"127.0.0.1:{port}", *options, source, "a").expect(0)
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
        os.kill(int(file.read().split()[0]), 15)
    process.finish()
    with open(trace, encoding="ascii", errors="replace") as file:
        made = set(re.findall(r"^\d+ +(?:<\.\.\. )?([a-z0-9_]+)[( ]", file.read(), re.M))
    ensure({"accept4", "openat", "pwrite64"} <= made, f"strace saw only {sorted(made)}")
    ensure(made <= allowed, f"the unit forbids {sorted(made - allowed)}")
    note(f"{len(made)} system calls, {len(allowed)} allowed")


if __name__ == "__main__":
    main()
