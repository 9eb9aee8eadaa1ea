"""Eight hosts: all trees and codecs, and what a broadcast says to people and to programs."""

import os
import socket

import numpy

from agents import ensure, hosts_of, main, same_bytes, scenario, unused_port

HOSTS = 8
MIB = 1 << 20
LINE_TYPES = ("plan", "progress", "replan", "host", "summary", "error")


def smooth(scene, name, size):
    """A smooth field as an instrument gives it, in steps of 2**-8: it compresses well."""
    x, y = numpy.meshgrid(numpy.arange(1024), numpy.arange(size // 8192))
    field = 280 + 9 * numpy.sin(y / 170) + (12 * numpy.sin(x / 90)) * (1 + 0.4 * numpy.cos(y / 60))
    (numpy.round(field * 256) / 256).tofile(scene.path(name))
    return scene.path(name)


def check_lines(run, agents, name, size):
    """The promises of --json, whatever happened."""
    for line in run.lines:
        ensure(line["schema"] == 1 and line["type"] in LINE_TYPES, f"{line}")
    ensure([line["type"] for line in run.lines].count("plan") == 1, "not one plan")
    ensure(run.last["type"] in ("summary", "error") and run.last["exit"] == run.code, f"{run.last}")
    ensure(set(run.hosts) == {agent.address for agent in agents}, f"other hosts: {sorted(run.hosts)}")
    for line in run.hosts.values():
        ensure(line["state"] == "published" and line["bytes"] == size and line["seconds"] >= 0, f"{line}")
    last = run.last
    ensure((last["name"], last["size"], last["hosts"], last["published"]) == (name, size, HOSTS, HOSTS), f"{last}")
    ensure(last["slowest"] in run.hosts and last["total"] >= last["transfer"] >= 0, f"{last}")
    ensure(sum(last[state] for state in ("unchanged", "refused", "unreachable", "failed", "aborted", "lost")) == 0,
           f"{last}")


@scenario
def trees_and_sizes(scene):
    """Every kind of tree brings every size to eight hosts, and says so line by line."""
    agents = scene.agents(HOSTS)
    for size in (0, 65537, 3 * MIB):
        source = scene.noise(f"s{size}", size)
        for tree in ("binomial", "double", "chain", "kary:3", "2"):
            sent = scene.send(agents, source, "-F", tree, "--json").expect(0)
            check_lines(sent, agents, f"s{size}", size)
            planned = {"2": "kary:2"}.get(tree, tree)
            ensure(sent.lines[0]["type"] == "plan" and sent.lines[0]["tree"] == planned, f"{sent.lines[0]}")
            scene.require_published(agents, f"s{size}", source)
            scene.forget(agents, f"s{size}")


@scenario
def codecs(scene):
    """none sends plain bytes, zstd:3 compressed ones, auto each where it pays; all arrive the same."""
    agents = scene.agents(HOSTS)
    size = 8 * MIB
    noise, field = scene.noise("noise", size), smooth(scene, "field", size)
    def sent(source, codec):
        run = scene.send(agents, source, "-C", codec, "--json").expect(0)
        scene.require_published(agents, os.path.basename(source), source)
        scene.forget(agents, os.path.basename(source))
        return run.last["sent"], run.last["encoded"]
    for source in (noise, field):
        counts = sent(source, "none")
        ensure(counts == (size, 0), f"none: {counts}")
    plain, encoded = sent(noise, "auto")
    ensure(size <= plain < 1.01 * size and encoded < 0.1 * size, f"auto on noise: {plain} with {encoded} encoded")
    for codec in ("auto", "zstd:3"):
        total, encoded = sent(field, codec)
        ensure(total < 0.6 * size and encoded > 0.5 * total, f"{codec} on a field: {total} with {encoded} encoded")
    ensure(sent(noise, "zstd:3")[0] <= 1.01 * size, "zstd:3 makes noise larger")


@scenario
def with_key(scene):
    """Eight hosts with a key, where every link is TLS."""
    key = scene.key()
    agents = scene.agents(HOSTS, "-k", key)
    source = scene.noise("a", 8 * MIB + 1)
    check_lines(scene.send(agents, source, "-k", key, "--json").expect(0), agents, "a", 8 * MIB + 1)
    scene.require_published(agents, "a", source)


@scenario
def sent_once(scene):
    """The sender's bytes leave it about once with the trees made for bandwidth."""
    agents = scene.agents(HOSTS)
    source = scene.noise("a", 4 * MIB)
    for tree in ("double", "chain"):
        last = scene.run("send", "-w", hosts_of(agents), "-F", tree, "-C", "none", "--json", source, tree).expect(0).last
        ensure(last["sent"] == 4 * MIB, f"{tree}: {last['sent']} bytes were sent")


@scenario
def what_people_see(scene):
    """One summary line and no progress without a terminal; -q says nothing, -v names hosts, JSON stays alone."""
    agents = scene.agents(HOSTS)
    source = scene.noise("a", MIB)
    plain = scene.send(agents, source).expect(0, out="a: 1 MiB to 8 of 8 hosts in ")
    ensure(plain.out.count("\n") == 1 and plain.err == "", str(plain))
    quiet = scene.send(agents, source, "-q").expect(0)
    ensure(quiet.out == quiet.err == "", str(quiet))
    scene.forget(agents, "a")
    told = scene.send(agents, source, "-v").expect(0, err="a: 1 MiB to 8 hosts, tree ")
    for agent in agents:
        ensure(f"{agent.address}: published\n" in told.err, str(told))
    ensure("\r" not in told.err and "\033" not in told.err, "control characters without a terminal")
    json = scene.send(agents, source, "-f", "--json").expect(0)
    ensure(json.err == "" and len(json.lines) >= HOSTS + 2, str(json))


@scenario
def folded(scene):
    """Hosts that fail alike are one line, folded, in the order of the list."""
    agents = scene.agents(3)
    source = scene.noise("a", 1000)
    scene.send(agents, source).expect(0)
    again = scene.send(agents, scene.noise("a", 1001)).expect(1)
    names = scene.run("hosts", hosts_of(agents)).out.strip()
    lines = again.err.splitlines()
    ensure(len(lines) == 4 and all("refused: a is already in" in line for line in lines[:3]), str(again))
    for agent in agents:
        agent.stop().expect(0)
    down = scene.send(agents, source).expect(1)
    lines = down.err.splitlines()
    ensure(lines[0] == f"{names}: unreachable: cannot connect: Connection refused" and len(lines) == 2, str(down))


@scenario
def two_at_once(scene):
    """Two broadcasts to the same agents at once, of different names, both arrive."""
    agents = scene.agents(HOSTS)
    sources = [scene.noise("a", 6 * MIB, seed=1), scene.noise("b", 5 * MIB, seed=2)]
    for sender in [scene.start_send(agents, source) for source in sources]:
        sender.finish().expect(0)
    for source in sources:
        scene.require_published(agents, os.path.basename(source), source)


@scenario
def host_lists(scene):
    """Hosts from brackets, a host file, standard input and WCOLL, less the excluded ones, each once."""
    agents = scene.agents(4)
    ports = [agent.port for agent in agents]
    source = scene.noise("a", 1000)
    bracket = "127.0.0.1:[" + ",".join(map(str, ports)) + "]"
    ensure(len(scene.run("send", "-w", bracket, "-w", bracket, source, "--json").expect(0).hosts) == 4, "bracket")
    with open(scene.path("list"), "w", encoding="ascii") as file:
        file.write("# hosts\n" + "".join(f"{agent.address} slots=4\n" for agent in agents))
    sent = scene.run("send", "--hostfile", scene.path("list"), "-x", agents[0].address, source, "b", "--json")
    ensure(set(sent.expect(0).hosts) == {agent.address for agent in agents[1:]}, str(sent))
    with open(scene.path("list"), encoding="ascii") as file:
        scene.run("send", "-w", "-", source, "c", stdin=file).expect(0, out="4 of 4 hosts")
    scene.run("send", source, "d", env=scene.environment(WCOLL=scene.path("list"))).expect(0, out="4 of 4 hosts")
    ensure(agents[0].published() == ["a", "c", "d"] and agents[1].published() == ["a", "b", "c", "d"], "who has what")


@scenario
def several_ports(scene):
    """--port with several ports: each host's agent is found at its own, with a key and without; a listed port stands"""
    key = scene.key("job")
    for turn, options in enumerate(((), ("-k", key))):
        first, other = (scene.agents(1, *options, "-l", f"127.0.0.{i}:0", first=2 * turn + i)[0] for i in (1, 2))
        with socket.socket() as silent:
            silent.bind(("127.0.0.2", first.port))  # on the other host nobody answers there
            silent.listen()
            free = unused_port()
            source = scene.noise(f"a{turn}", 100000)
            words = ["send", *options, "-p", f"{free},{first.port},{other.port}", source, "-w"]
            scene.run(*words, "127.0.0.1,127.0.0.2").expect(0)
            for agent in (first, other):
                ensure(same_bytes(agent.path(f"a{turn}"), source), "not what was sent")
            scene.run(*words, f"127.0.0.2:{free}").expect(1, err="refused")


if __name__ == "__main__":
    main()
