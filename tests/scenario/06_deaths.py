"""Processes that die in the middle: the others get their array, and nobody ever sees a part of one."""

import re
import signal
import time

from agents import SLOW, ensure, free_port, hosts_of, main, same_bytes, scenario, wait_for

MIB = 1 << 20
SLOWLY = ("-C", "none", "-s", "64K", "--bwlimit", "4M", "--json")  # as slow on any machine, however busy
GENTLY = ("-C", "none", "-s", "64K", "--bwlimit", "512K")  # for what takes many looks
REPLANNED = re.compile(r"replanned after [\d.]+ s: (\S+): lost, others take its places; \d+ moved")


def lose_one(scene, agents, act, *options):
    """Broadcast to agents and do act to the second one in the middle; the others must publish."""
    source = scene.crumbs("a", 12 * MIB)
    sender = scene.start_send(agents, source, *SLOWLY, *options)
    scene.under_way(sender, agents, least=64 * 1024)
    act(agents[1])
    answer = sender.finish(60)
    scene.require_published(agents[:1] + agents[2:], "a", source)
    states = {host: line["state"] for host, line in answer.hosts.items()}
    ensure(len(states) == len(agents), str(answer))
    for agent in agents[:1] + agents[2:]:
        ensure(states[agent.address] == "published", str(answer))
    return answer, states[agents[1].address]


def places(scene, agent):
    """What `status --json` and `status --tree` tell of the agent's one session."""
    session, = scene.run("status", "--json", "-d", agent.folder).expect(0).last["sessions"]
    return session["plan"], scene.run("status", "--tree", "-d", agent.folder).expect(0).out


def ensure_orphan_knows(scene, agents):
    """The second of a chain is dead: the third says so, and who its parent is now; the fourth does not."""
    dead, (plan, text) = agents[1].address, places(scene, agents[2])
    replan, = (replan for replan in plan["replans"] if replan["why"] == f"{dead}: lost, others take its places")
    tree, = plan["trees"]
    ensure((plan["rank"], tree["parent"]["rank"], tree["parent"]["address"]) == (3, 1, agents[0].address), f"{plan}")
    ensure([child["rank"] for child in tree["children"]] == [4], f"{plan}")
    ensure(re.search(rf"^a +0 +1 {re.escape(agents[0].address)}( \(not yet\))? +4 ", text, re.MULTILINE), text)
    told = f"a: plan {replan['epoch']}: {replan['why']}"
    for words in (text, scene.run("status", "--trees", "-d", agents[2].folder).out):
        ensure(words.startswith("NAME ") and told in words.splitlines(), words)
    plan, text = places(scene, agents[3])
    ensure(plan["trees"][0]["parent"]["address"] == agents[2].address and f" 3 {agents[2].address} " in text, f"{plan}")
    ensure(dead not in text and dead not in f"{plan['replans']}", f"{plan} {text}")


def replans(answer):
    return [(line["host"], line["why"], line["moves"]) for line in answer.lines if line["type"] == "replan"]


@scenario
def agent_killed(scene):
    """kill -9 of one of eight agents: seven publish, report and status name the lost one, exit 3 with --min-hosts 7."""
    agents = scene.agents(8)

    def act(dead):
        dead.kill()
        wait_for(lambda: places(scene, agents[2])[0]["replans"], "another parent", timeout=20 * SLOW)
        ensure_orphan_knows(scene, agents)
    answer, state = lose_one(scene, agents, act, "--min-hosts", "7", "-F", "chain")
    answer.expect(3)
    ensure(state == "lost" and answer.last["lost"] == 1 and answer.last["type"] == "summary", str(answer))
    ensure(answer.hosts[agents[1].address]["reason"] == "lost", str(answer))
    ensure((agents[1].address, "lost", 1) in replans(answer), str(answer))
    # What the dead one left is not to be seen, and goes.
    ensure(agents[1].published() == [] and agents[1].partials() == ["a"], str(agents[1].partials()))
    scene.run("list", "-d", agents[1].folder).expect(0)
    scene.run("clean", "-d", agents[1].folder).expect(0, out="removed 2 files, ")  # its local API as well
    scene.require_nothing([agents[1]])


@scenario
def agent_killed_all_wanted(scene):
    """The same without --min-hosts: the others have it all the same, exit 1."""
    answer, state = lose_one(scene, scene.agents(8), lambda agent: agent.kill())
    answer.expect(1)
    ensure(state == "lost" and answer.last["type"] == "error", str(answer))


@scenario
def relays_killed(scene):
    """Three of eight agents die one after another in a chain, the first among them: five publish."""
    agents = scene.agents(8)
    source = scene.crumbs("a", 16 * MIB)
    sender = scene.start_send(agents, source, *SLOWLY, "-F", "chain", "--min-hosts", "5")
    left = list(agents)
    for number, victim in enumerate((agents[0], agents[4], agents[1]), 1):
        scene.under_way(sender, left, least=64 * 1024)
        victim.kill()
        left.remove(victim)
        wait_for(lambda: sender.out.count('"type":"replan"') >= number, "another plan", timeout=20 * SLOW)
    answer = sender.finish(60).expect(3)
    scene.require_published(left, "a", source)
    ensure(answer.last["lost"] == 3 and answer.last["published"] == 5, str(answer))
    told = [host for host, why, moves in replans(answer) if (why, moves) == ("lost", 1)]
    ensure(told == [agents[number].address for number in (0, 4, 1)], str(answer))


@scenario
def most_killed(scene):
    """Twelve of fourteen die at once: the report in text tells ten re-plans, how many more, and who is lost."""
    agents = scene.agents(14)
    source = scene.crumbs("a", 6 * MIB)
    sender = scene.start_send(agents, source, "-C", "zstd:19", "-s", "64K", "-F", "double", "--min-hosts", "2")
    scene.under_way(sender, agents[-2:], least=64 * 1024)
    for agent in agents[:-2]:
        agent.signal(signal.SIGKILL)
    answer = sender.finish(60).expect(3, out="a: 6 MiB to 2 of 14 hosts in ")
    scene.require_published(agents[-2:], "a", source)
    lines, dead = answer.err.splitlines(), {agent.address for agent in agents[:-2]}
    lost = {match[1] for line in lines[:10] if (match := REPLANNED.fullmatch(line))}
    ensure(len(lost) >= 5 and lost < dead, str(answer))  # some others were kept apart, if it took a while
    ensure([line.startswith("replanned after ") for line in lines[:11]] == 10 * [True] + [False], str(answer))
    more = re.fullmatch(r"replanned (\d+) more times \(-v and --json tell all\)", lines[10])
    ensure(more and int(more[1]) >= 2, str(answer))
    ensure(scene.named(answer) == sorted((address, "lost") for address in dead), str(answer))


def broadcast_with_victims(scene, hosts, dead, stopped, source):
    """Three broadcasts at once, told in JSON, in text and in more text; dead and stopped end when all have begun."""
    words = ("-w", hosts_of(hosts), "-F", "chain", "--min-hosts", "3")
    senders = [scene.start("send", *words, *GENTLY, *options, source, name)
               for name, options in (("a", ["--json"]), ("b", []), ("c", ["-v"]))]
    for victim in (dead, stopped):
        wait_for(lambda: [session["state"] for session in victim.sessions()] == ["filling"] * 3, "three sessions",
                 timeout=20 * SLOW)
    dead.kill()
    stopped.signal(signal.SIGTERM)
    return [sender.finish(30).expect(3) for sender in senders]


@scenario
def mixed_states(scene):
    """Hosts in six states: JSON, text and text with -v name each host once, and in the same state."""
    keeper, nowhere = free_port()
    full, = scene.agents(1, "--max-size", "100000")
    first, dead, second, stopped, third, had = scene.agents(6, first=1)
    source = scene.noise("source", 3 * MIB // 2)
    for name in "abc":
        scene.run("send", "-w", had.address, "-s", "64K", source, name).expect(0)
    hosts = [nowhere, first, dead, full, second, stopped, third, had]
    told, brief, wordy = broadcast_with_victims(scene, hosts, dead, stopped, source)
    states = {nowhere: "unreachable", first.address: "published", dead.address: "lost", full.address: "refused",
              second.address: "published", stopped.address: "failed", third.address: "published",
              had.address: "unchanged"}
    ensure({host: line["state"] for host, line in told.hosts.items()} == states, str(told))
    ensure(scene.named(wordy) == sorted(states.items()), str(wordy))
    good = ("published", "unchanged")
    ensure(scene.named(brief) == sorted(item for item in states.items() if item[1] not in good), str(brief))
    for answer in (brief, wordy):
        ensure("1.5 MiB to 4 of 8 hosts in " in answer.out and ", 1 had it already" in answer.out, str(answer))
        ensure(REPLANNED.findall(answer.err).count(dead.address) == 1, str(answer))
    for name in "abc":
        scene.require_published([first, second, third, had], name, source)
    keeper.close()


@scenario
def agent_stopped(scene):
    """SIGTERM of an agent in the middle: it leaves nothing, is named with its reason, and the others publish."""
    agents = scene.agents(4)
    answer, state = lose_one(scene, agents, lambda agent: agent.signal(signal.SIGTERM), "--min-hosts", "3")
    answer.expect(3)
    line = answer.hosts[agents[1].address]
    ensure(state == "failed" and "stopped" in line["text"], str(answer))
    agents[1].finish(10).expect(0)
    scene.require_nothing([agents[1]])


@scenario
def agent_frozen(scene):
    """An agent that is frozen is lost after 5 s, the others publish; thawed it serves the next session."""
    agents = scene.agents(4)
    began = time.monotonic()
    answer, state = lose_one(scene, agents, lambda agent: agent.signal(signal.SIGSTOP), "--min-hosts", "3")
    answer.expect(3)
    ensure(state == "lost" and time.monotonic() - began < 25 * SLOW, str(answer))
    agents[1].signal(signal.SIGCONT)
    scene.require_nothing([agents[1]], kept="a")
    scene.run("clean", "-d", agents[1].folder).expect(0, out="removed 1 file, ")
    source = scene.noise("b", MIB)
    scene.send(agents, source).expect(0)
    scene.require_published(agents, "b", source)


def one_is_whole(scene, agents, source):
    """A broadcast along a chain in which the first host has published and the others lack most; its sender."""
    sender = scene.start_send(agents, source, "-F", "chain", "-C", "none", "-s", "64K", "--json")
    wait_for(lambda: '"state":"published"' in sender.out, "the first host's end", timeout=20 * SLOW)
    ensure(agents[0].published() == ["b"] and sender.running(), f"{agents[0].published()} {sender.out}")
    return sender


@scenario
def coordinator_killed(scene):
    """kill -9 of two senders: hosts that get all of it from each other publish, the rest tell waiters exit 9 and stay."""
    agents = scene.agents(4)
    once, = scene.agents(1, "--once", first=4)
    source, other = scene.noise("a", 16 * MIB), scene.noise("b", MIB)
    chain = scene.agents(1, "--once", "--bwlimit", "512K", first=5) + scene.agents(3, "--once", first=6)
    lucky = [scene.start_wait(agent, "b") for agent in chain]
    waiting = [scene.start_wait(agent, "a") for agent in agents]
    sender = scene.start_send([*agents, once], source, *GENTLY)
    scene.under_way(sender, [*agents, once], least=64 * 1024)
    one_is_whole(scene, chain, other).kill()
    sender.kill()
    began = time.monotonic()
    ensure(all(0 < agent.under_way() < MIB // 2 for agent in chain[1:]), f"{[agent.under_way() for agent in chain]}")
    for worker, agent in zip(lucky, chain):
        worker.finish(20).expect(0, out=agent.path("b"))
    scene.require_published(chain, "b", other)
    for worker in waiting:
        worker.finish(20).expect(9, err="coordinator lost")
    once.finish(20).expect(9)
    ensure(time.monotonic() - began < 12 * SLOW, f"{time.monotonic() - began:.1f} s until all had given up")
    scene.require_nothing([*agents, once], kept="a")
    for agent in chain:  # they serve each other until nobody has asked for 5 s
        agent.finish(20).expect(0)
    small = scene.noise("a", MIB)
    scene.send(agents, small).expect(0)
    scene.require_published(agents, "a", small)


@scenario
def coordinator_frozen(scene):
    """SIGSTOP of the sender: its connections stay, and agents and waiters end at the deadline all the same."""
    agents = scene.agents(3)
    source = scene.noise("a", 16 * MIB)
    waiting = [scene.start_wait(agent, "a") for agent in agents]
    sender = scene.start_send(agents, source, *GENTLY, "--json", "-t", str(4 * SLOW))
    began = time.monotonic()
    scene.under_way(sender, agents, least=64 * 1024)
    sender.signal(signal.SIGSTOP)
    try:
        for worker in waiting:
            worker.finish(20 * SLOW).expect(7, err="deadline passed")
        ensure(time.monotonic() - began < (4 + 2.5) * SLOW, f"{time.monotonic() - began:.1f} s until all had ended")
    finally:
        sender.signal(signal.SIGCONT)
    sender.finish(10).expect(7)
    scene.require_nothing(agents, kept="a")


@scenario
def coordinator_paused(scene):
    """A sender that stands still for longer than silence kills blames nobody for it when it goes on: all publish."""
    agents = scene.agents(3)
    source = scene.crumbs("a", 12 * MIB)
    sender = scene.start_send(agents, source, *SLOWLY)
    scene.under_way(sender, agents, least=64 * 1024)
    sender.signal(signal.SIGSTOP)
    time.sleep(6)
    ensure(not any(agent.published() for agent in agents), "there is nothing left that the sender is needed for")
    sender.signal(signal.SIGCONT)
    answer = sender.finish(60).expect(0)
    scene.require_published(agents, "a", source)
    ensure(replans(answer) == [] and not any(line.get("slow") for line in answer.hosts.values()), str(answer))


@scenario
def coordinator_killed_at_the_end(scene):
    """kill -9 of the sender at any moment: on every host the whole array is there or nothing of it."""
    agents = scene.agents(4)
    sources = [scene.noise("a", 6 * MIB, seed=1), scene.noise("b", 6 * MIB, seed=2)]
    began = time.monotonic()
    scene.send(agents, sources[0]).expect(0)
    took = time.monotonic() - began
    for step, part in enumerate((0.3, 0.6, 0.8, 0.9, 1.0), 1):
        sender = scene.start("send", "-w", hosts_of(agents), "--force", sources[step % 2], "a")
        deadline = time.monotonic() + took * part
        wait_for(lambda: time.monotonic() > deadline or not sender.running(), "the moment", timeout=60)
        sender.kill()
        for agent in agents:
            ensure(agent.published() == ["a"], f"{agent.published()}")
            scene.run("verify", "-d", agent.folder, "a").expect(0)
            ensure(any(same_bytes(agent.path("a"), source) for source in sources), "other bytes")
    scene.run("send", "-w", hosts_of(agents), "--force", sources[0], "a").expect(0)
    scene.require_published(agents, "a", sources[0])


@scenario
def once(scene):
    """recv --once ends with its session's exit code: 0, 6 for one too large, 130 for an interrupted one."""
    agent, = scene.agents(1, "--once")
    scene.send([agent], scene.noise("a", 1000)).expect(0)
    agent.finish(10).expect(0)
    agent, = scene.agents(1, "--once", "--max-size", "10", first=1)
    scene.send([agent], scene.noise("a", 1000)).expect(6)
    agent.finish(10).expect(6)
    agent, = scene.agents(1, "--once", first=2)
    sender = scene.start_send([agent], scene.crumbs("a", 16 * MIB), *SLOWLY)
    scene.under_way(sender, [agent])
    sender.signal(signal.SIGINT)
    sender.finish(10).expect(130)
    agent.finish(10).expect(130)
    scene.require_nothing([agent])


@scenario
def restarted(scene):
    """An agent that was killed and started again has its arrays; workers find them with and without it."""
    agent = scene.agent()
    source = scene.noise("a", 100000)
    scene.send([agent], source).expect(0)
    agent.kill()
    scene.run("wait", "-d", agent.folder, "-t", "5", "a").expect(0, out=agent.path("a"))
    late = scene.start("wait", "-d", agent.folder, "-t", "30", "b")
    agent = scene.agent()
    shown = scene.run("status", "--json", "-d", agent.folder).expect(0).last
    ensure([array["name"] for array in shown["published"]] == ["a"], f"{shown}")
    scene.run("verify", "-d", agent.folder, "a").expect(0)
    scene.send([agent], scene.noise("b", 10)).expect(0)
    late.finish(10).expect(0, out=agent.path("b"))


@scenario
def waiter_survives(scene):
    """A worker waits on when its agent is killed, and is served by the agent that comes after it."""
    agent = scene.agent()
    source = scene.crumbs("a", 16 * MIB)
    waiting = scene.start_wait(agent, "a")
    sender = scene.start_send([agent], source, *SLOWLY)
    scene.under_way(sender, [agent])
    agent.kill()
    sender.finish(20).expect(1)
    ensure(waiting.running(), f"the worker gave up: {waiting.err}")
    agent = scene.agent()
    scene.send([agent], source).expect(0)
    waiting.finish(10).expect(0)
    scene.require_published([agent], "a", source)


if __name__ == "__main__":
    main()
