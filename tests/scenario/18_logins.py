#!/usr/bin/python3
"""--launch ssh through a real sshd on loopback, with the configurations that break launchers: few logins at once, a banner,
hosts that only ssh_config knows, a message of the day."""

import os
import pwd
import shutil
import subprocess

from agents import Skip, ensure, main, same_bytes, scenario, unused_port, wait_for

SSHD = "/usr/sbin/sshd"


class Server:
    """An sshd for this user, with keys of its own; every host name of the test is an alias of its port."""

    def __init__(self, scene, *settings):
        if not os.path.exists(SSHD) or not shutil.which("ssh"):
            raise Skip("no sshd")
        user, folder = pwd.getpwuid(os.geteuid()).pw_name, scene.path("ssh")
        os.mkdir(folder, 0o700)
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"], check=True)
        self.port = unused_port()
        self.client = f"{folder}/ssh_config"
        self.write(f"{folder}/sshd_config", f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host",
                   "PidFile none", "UsePAM no", "StrictModes no", "PasswordAuthentication no",
                   "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password",
                   f"AuthorizedKeysFile {folder}/user.pub", f"AllowUsers {user}", *settings)
        self.write(self.client, "Host *", f"Port {self.port}", "HostName 127.0.0.1", f"IdentityFile {folder}/user",
                   "IdentitiesOnly yes", "StrictHostKeyChecking no", f"UserKnownHostsFile {folder}/known", "LogLevel INFO")
        self.process = scene.start_program(SSHD, "-D", "-e", "-f", f"{folder}/sshd_config")
        wait_for(self.answers, "sshd")

    @staticmethod
    def write(path, *lines):
        with open(path, "w", encoding="ascii") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def answers(self):
        with open("/proc/net/tcp", encoding="ascii") as file:
            return any(line.split()[1].endswith(f":{self.port:04X}") and line.split()[3] == "0A"
                       for line in file.readlines()[1:])


def send(scene, server, hosts, source, *options):
    os.makedirs(scene.path("agents"), exist_ok=True)
    environment = scene.environment(TREECAST_AGENT_DIR=scene.path("agents", "%h"))
    return scene.run("send", "--launch", "ssh", "--ssh", f"ssh -F {server.client}", "-w", hosts, source, *options,
                     env=environment)


def require_published(scene, count, source):
    for number in range(1, count + 1):
        there = scene.path("agents", f"n{number}", os.path.basename(source))
        ensure(os.path.exists(there) and same_bytes(there, source), f"n{number}")


@scenario
def few_logins_at_once(scene):
    """MaxStartups 2:60:4: sixteen hosts behind one sshd that drops most logins at first come up, flat and as a tree"""
    server, source = Server(scene, "MaxStartups 2:60:4"), scene.noise("a.bin", 1 << 20)
    for options in (("--launch-fanout", "1"), (), ("--launch-fanout", "4")):
        send(scene, server, "n[1-16]", source, "-f", *options).expect(0)
        require_published(scene, 16, source)


@scenario
def banner(scene):
    """The reason of a login that fails is no line of the banner"""
    Server.write(scene.path("banner"), "*" * 40, "* Authorized users only! *", "*" * 40)
    server, source = Server(scene, f"Banner {scene.path('banner')}"), scene.noise("a.bin", 1000)
    send(scene, server, "n[1-2]", source).expect(0)
    run = send(scene, server, "nobody-there@n1", source, "b").expect(1)
    ensure("n1: unreachable: nobody-there@127.0.0.1: Permission denied (publickey)." in run.err, str(run))
    run = send(scene, server, "n1", source, "c", "--agent-program", "/nowhere/treecast").expect(1)
    ensure("n1: unreachable: " in run.err and "/nowhere/treecast" in run.err and "Authorized" not in run.err, str(run))


@scenario
def noisy_shell(scene):
    """What a login shell prints before the command is not taken for its words"""
    server, source = Server(scene, "SetEnv BASH_ENV=" + scene.path("noise")), scene.noise("a.bin", 1000)
    Server.write(scene.path("noise"), "echo welcome to this node")
    send(scene, server, "n[1-3]", source).expect(0)
    require_published(scene, 3, source)


if __name__ == "__main__":
    main()
