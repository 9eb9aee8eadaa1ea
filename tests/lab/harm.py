"""What is done to hosts of the lab while a broadcast runs, and what it cost the others.

    harm = Harm([1, 4, 9], Harm.kill, after=1 / 3)
    sent = broadcast(cast, SOURCE, "array.bin", size, harm, "--min-hosts", "20")
    others(cast, sent, harm)        # seconds until each host that was not harmed was whole, ascending
"""

import signal
import threading
import time

from lab import LabError, wait_for


class Harm:
    """hosts go wrong in one way: before the broadcast (after None), or when so much of the array has left host 0."""

    def __init__(self, hosts, way, after=None, rate=10):
        self.hosts = list(hosts)
        self.way = way
        self.after = after
        self.rate = rate        # Mbit/s, of slow_link
        self._stop = threading.Event()
        self._threads = []

    def kill(self, _lab, cast, host):
        """The process dies; its kernel closes its connections."""
        cast.agents[host].send_signal(signal.SIGKILL)

    def freeze(self, _lab, cast, host):
        """The process stops; its connections stay."""
        cast.agents[host].send_signal(signal.SIGSTOP)

    def cut(self, lab, _cast, host):
        """No packet to or from the host arrives any more, as when its power or its cable goes."""
        lab.cut(host)

    def slow_link(self, lab, _cast, host):
        """The host's link becomes slower, both ways."""
        lab.set_rate(host, self.rate)

    def starve(self, _lab, cast, host):
        """The process gets a tenth of the time, 20 ms of 200."""
        agent = cast.agents[host]

        def run():
            while not self._stop.wait(0.02) and agent.poll() is None:
                agent.send_signal(signal.SIGSTOP)
                self._stop.wait(0.18)
                agent.send_signal(signal.SIGCONT)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

    def begin(self, lab, cast):
        for host in self.hosts:
            self.way(self, lab, cast, host)

    def end(self, lab, cast):
        """What was stopped goes on, so that it can be ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for host in self.hosts:
            if self.way is Harm.freeze:
                cast.agents[host].send_signal(signal.SIGCONT)
            elif self.way in (Harm.cut, Harm.slow_link):
                lab.mend(host)


def await_part(cast, process, before, wanted):
    """Until so many bytes have left host 0."""
    def condition():
        if process.poll() is not None:
            raise LabError(f"send ended early: {cast.says(0)}")
        return cast.lab.sent_bytes(0) - before >= wanted
    wait_for(condition, "the transfer to be under way", timeout=120)


def broadcast(cast, source, name, size, harm, *options, timeout=600):
    """One broadcast with harm done; returns the Sent."""
    before = cast.lab.sent_bytes(0)
    if harm.after is None:
        harm.begin(cast.lab, cast)
    started = time.monotonic()
    process = cast.start_send(source, name, *options)
    try:
        if harm.after is not None:
            await_part(cast, process, before, size * harm.after)
            harm.begin(cast.lab, cast)
        return cast.finish_send(process, started, timeout)
    finally:
        harm.end(cast.lab, cast)


def others(cast, sent, harm):
    """Seconds from the start of the transfer until each host that was not harmed was whole; LabError if one was not."""
    harmed = {cast.lab.address(host) for host in harm.hosts}
    lines = [line for line in sent.hosts if line["host"].partition(":")[0] not in harmed]
    bad = [f"{line['host']} {line['state']}" for line in lines if line["state"] != "published"]
    if bad or len(lines) != len(cast.hosts) - len(harm.hosts):
        raise LabError(f"hosts that were not harmed: {', '.join(bad) or len(lines)}; {sent.errors}")
    return sorted(line["seconds"] for line in lines)


def replans(sent):
    """What the report says was planned anew, in words."""
    lines = [f"{line['seconds']:.1f} s {line['host'].partition(':')[0]} {line['text']}" for line in sent.of_type("replan")]
    return "; ".join(lines) or "nothing was planned anew"
