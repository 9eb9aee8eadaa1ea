"""Keys: without one nothing leaves loopback, the wrong one opens nothing, and outsiders at the port do no harm."""

import os
import shutil
import socket
import ssl
import subprocess

from agents import SLOW, ensure, main, scenario, wait_for

ELSEWHERE = "192.0.2.1"  # an address for documentation: nobody has it


def usage_error(scene, *words):
    """Exit 2 with one line that says how to make a key, in 100 ms more than doing nothing takes on a busy machine."""
    nothing = max(scene.run("-V").seconds for _ in range(3))
    best = min(scene.run(*words).expect(2, err="keygen").seconds for _ in range(3))
    ensure(best < nothing + 0.1 * SLOW, f"{' '.join(words)}: {best:.3f} s")
    ensure(scene.run(*words).err.count("\n") == 1, "more than one line")
    if shutil.which("strace"):
        trace = subprocess.run(["strace", "-f", "-qq", "-e", "trace=socket", scene.treecast, *words], check=False,
                               capture_output=True, text=True, env=scene.environment())
        ensure("AF_INET" not in trace.stderr, trace.stderr)


@scenario
def no_key_no_network(scene):
    """Without a key recv listens, and send dials, on loopback only: exit 2 in 100 ms and no socket."""
    source = scene.noise("a", 10)
    for listen in ("0.0.0.0:0", ELSEWHERE, "[::]:0", f"{ELSEWHERE}:7117"):
        usage_error(scene, "recv", "-d", scene.path("d"), "-l", listen)
    for hosts in (ELSEWHERE, f"127.0.0.1:1,{ELSEWHERE}:7117", "[2001:db8::1]:7117", "node7"):
        usage_error(scene, "send", "-w", hosts, source)


@scenario
def loopback_forms(scene):
    """All of loopback may be used without a key: 127.x, ::1 and localhost."""
    source = scene.noise("a", 1000)
    agent = scene.agent()
    scene.send([f"localhost:{agent.port}"], source).expect(0)
    for number, listen in enumerate(("127.1.2.3:0", "[::1]:0", "localhost:0")):
        process = scene.start("recv", "-d", scene.path(f"d{number}"), "-l", listen)
        wait_for(lambda: "listening on" in process.out or not process.running(), f"an agent on {listen}")
        ensure(process.running(), f"{listen}: {process.err}")
        address = process.out.split()[2].rstrip(",")
        scene.send([address], source).expect(0)


def lines_of(agent):
    return agent.err.splitlines()


def refused(scene, agents, source, options, code):
    """A broadcast that an agent, and so the sender, must not take part in; the agents log a line each and stay."""
    before = [len(lines_of(agent)) for agent in agents]
    answer = scene.send(agents, source, *options)
    ensure(answer.code == code, f"expected exit {code}: {answer}")
    answer.within(8)
    for agent, count in zip(agents, before):
        wait_for(lambda: len(lines_of(agent)) > count, f"a line in the log of {agent.address}")
        new = lines_of(agent)[count:]
        ensure(len(new) == 1, f"one line was to be logged: {new}")
        ensure(agent.running(), "the agent is gone")
    scene.require_nothing(agents)
    return answer


@scenario
def wrong_key(scene):
    """With another key send exits 4; agents log one line, stay, also with --once, and serve who has the right one."""
    right, wrong = scene.key("right"), scene.key("wrong")
    agents = scene.agents(1, "-k", right, "--once") + scene.agents(1, "-k", right, first=1)
    source = scene.noise("a", 100000)
    answer = refused(scene, agents, source, ["-k", wrong], 4)
    ensure("same key" in answer.err, str(answer))
    scene.send(agents, source, "-k", right).expect(0)
    scene.require_published(agents, "a", source)
    agents[0].finish(10).expect(0)


@scenario
def key_on_one_side(scene):
    """An agent without a key and a sender with one, and the other way round, part in bounded time with exit 4."""
    key = scene.key()
    source = scene.noise("a", 1000)
    open_agent = scene.agent()
    keyed, = scene.agents(1, "-k", key, first=1)
    refused(scene, [open_agent], source, ["-k", key], 4)
    refused(scene, [keyed], source, [], 4)
    scene.send([open_agent], source).expect(0)
    scene.send([keyed], source, "-k", key).expect(0)


@scenario
def origin(scene):
    """An agent whose key names an origin takes arrays from its holder only; a member without it is refused, exit 4."""
    key = scene.key()
    agent = scene.agent("-k", key)
    source = scene.noise("a", 1000)
    os.rename(key + ".origin", scene.path("kept"))
    scene.send([agent], source, "-k", key).expect(4, err="--origin-key FILE")
    ensure(lines_of(agent) == [], f"it was dialled: {agent.err}")
    with open(key, encoding="ascii") as file, open(scene.path("stripped"), "w", encoding="ascii") as out:
        os.fchmod(out.fileno(), 0o600)
        out.writelines(file.readlines()[:2])
    answer = refused(scene, [agent], source, ["-k", scene.path("stripped")], 4)
    ensure(f"{agent.address}: refused: " in answer.err and "origin" in answer.err, str(answer))
    scene.send([agent], source, "-k", key, "--origin-key", scene.path("kept")).expect(0)
    other = scene.key("other")
    scene.send([agent], source, "-k", key, "--origin-key", other + ".origin", "-f").expect(2)
    group = scene.key("group", "--group-only")
    ensure(not os.path.exists(group + ".origin"), "--group-only made an origin")
    member, = scene.agents(1, "-k", group, first=1)
    scene.send([member], source, "-k", group).expect(0)


@scenario
def key_descriptor(scene):
    """The key may come from a descriptor, for both sides; the environment may name the file."""
    key = scene.key("key", "--group-only")
    source = scene.noise("a", 1000)
    with open(key, "rb") as file:
        agent = scene.agent("--key-fd", str(file.fileno()), pass_fds=[file.fileno()])
    with open(key, "rb") as file:
        scene.send([agent], source, "--key-fd", str(file.fileno()), pass_fds=[file.fileno()]).expect(0)
    scene.send([agent], source, "-f", env=scene.environment(TREECAST_KEY_FILE=key)).expect(0)
    scene.send([agent], source, "-f", "--key-fd", "77").expect(6)


@scenario
def key_files(scene):
    """Keys are made 0600 and never replaced; a file others can read, a link, a FIFO or a wrong text is refused."""
    key = scene.key()
    for path in (key, key + ".origin"):
        ensure(os.stat(path).st_mode & 0o7777 == 0o600, f"{path}: {os.stat(path).st_mode:o}")
    with open(key, encoding="ascii") as file:
        text = file.read()
    scene.run("keygen", key).expect(1, err="exists")
    with open(key, encoding="ascii") as file:
        ensure(file.read() == text, "the key was replaced")
    source = scene.noise("a", 10)
    def tried(path, code=2):
        for words in (["recv", "-d", scene.path("d"), "-l", "127.0.0.1:0"], ["send", "-w", "127.0.0.1:9", source]):
            answer = scene.run(*words, "-k", path).expect(code, err=path)
            ensure(answer.err.count("\n") == 1, str(answer))
            ensure(text.split()[4] not in answer.err, "the key was printed")
    for mode in (0o640, 0o604, 0o660):
        os.chmod(key, mode)
        tried(key)
    os.chmod(key, 0o600)
    os.symlink(key, scene.path("link"))
    tried(scene.path("link"))
    os.mkfifo(scene.path("fifo"), 0o600)
    tried(scene.path("fifo"))
    tried(scene.path("none"), 1)
    for name, wrong in (("short", text[:-10]), ("long", text + "x\n"), ("empty", ""), ("upper", text.upper()),
                        ("zeros", "\0" * 90)):
        with open(scene.path(name), "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(wrong)
        tried(scene.path(name))


def say(agent, data):
    """Connect, say it, and wait until the agent hangs up; what it answered."""
    with socket.create_connection(("127.0.0.1", agent.port), timeout=10 * SLOW) as peer:
        answer = b""
        try:
            peer.sendall(data)
            while part := peer.recv(4096):
                answer += part
        except ConnectionError:
            pass
        return answer


def tls(agent, version, ciphers=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", agent.port), timeout=10 * SLOW) as peer:
        try:
            with context.wrap_socket(peer) as secured:
                return secured.version()
        except (ssl.SSLError, ConnectionError):
            return None


def one_line(agent, act):
    before = len(lines_of(agent))
    act()
    wait_for(lambda: len(lines_of(agent)) > before, f"a line in the log of {agent.address}")
    new = lines_of(agent)[before:]
    ensure(len(new) == 1 and len(new[0]) < 300 and new[0].isprintable(), f"one printable line was to be logged: {new}")
    ensure(agent.running(), "the agent is gone")


@scenario
def outsiders(scene):
    """HTTP, garbage, TLS 1.2 and TLS 1.3 without the key: one printable line each, nothing is told, the agent stays."""
    key = scene.key()
    agents = [scene.agent("-k", key), scene.agents(1, first=1)[0]]
    for agent in agents:
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256)) * 20, b"\xff" * 5000):
            def talk():
                answer = say(agent, data)
                ensure(len(answer) < 200 and b"a.npy" not in answer, f"it said {answer!r}")
            one_line(agent, talk)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            one_line(agent, lambda: ensure(tls(agent, version) is None, f"TLS {version} was let in"))
    source = scene.noise("a", 70000)
    scene.send([agents[0]], source, "-k", key).expect(0)
    scene.send([agents[1]], source).expect(0)
    scene.require_published(agents, "a", source)


@scenario
def openssl_client(scene):
    """openssl s_client with TLS 1.2, or with a PSK of its own, does not get in."""
    key = scene.key()
    agent = scene.agent("-k", key)
    if not shutil.which("openssl"):
        return
    for options in (["-tls1_2"], ["-tls1_3"], ["-tls1_3", "-psk", "00" * 32, "-psk_identity", "control"]):
        def connect():
            done = subprocess.run(["openssl", "s_client", "-connect", agent.address, *options], input="", text=True,
                                  capture_output=True, check=False, timeout=20 * SLOW)
            ensure("Verify return code: 0 (ok)" not in done.stdout or done.returncode != 0, f"{options}: {done.stdout}")
        one_line(agent, connect)


@scenario
def silent_outsiders(scene):
    """Connections that say nothing, or never end what they began, are dropped in seconds and hold nobody up."""
    key = scene.key()
    agents = [scene.agent("-k", key), scene.agents(1, first=1)[0]]
    source = scene.noise("a", 70000)
    silent = [socket.create_connection(("127.0.0.1", agent.port), timeout=15 * SLOW)
              for agent in agents * 20]
    for number, peer in enumerate(silent):
        peer.sendall((b"", b"\x16\x03\x01", b"\0", b"\0" * 4096)[number % 4])
    scene.send([agents[0]], source, "-k", key).expect(0).within(5)
    scene.send([agents[1]], source).expect(0).within(5)
    for peer in silent:
        try:
            while peer.recv(4096):
                pass
        except ConnectionError:
            pass
        peer.close()
    for agent in agents:
        ensure(agent.running(), "the agent is gone")
        wait_for(lambda: agent.descriptors() < 20, "closed descriptors")


if __name__ == "__main__":
    main()
