#!/usr/bin/python3
"""The lab itself: rates, latency, separation of hosts, and nothing left behind. Needs no treecast."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

from lab import Lab, Skip, net_of, processes_of, wait_for
from measure import one_copy
from tap import ensure, note, run_tests

HEADERS = 1514 / 1448  # wire bytes per byte of data in full segments with timestamps


def plain_copy(lab, size, source, target):
    """Seconds from connect to the last byte, by sockets of this process."""
    with lab.socket(target) as listener:
        listener.bind((lab.address(target), 0))
        listener.listen(1)
        sender = lab.socket(source)

        def send():
            with sender:
                sender.connect(listener.getsockname())
                sender.sendall(bytes(size))

        thread = threading.Thread(target=send)
        start = time.monotonic()
        thread.start()
        receiver, _ = listener.accept()
        buffer, left = bytearray(1 << 18), size
        with receiver:
            while left > 0:
                got = receiver.recv_into(buffer)
                ensure(got > 0, f"the stream ended {left} bytes early")
                left -= got
        seconds = time.monotonic() - start
        thread.join()
        return seconds


def congestion_controls(lab):
    """Names of the congestion control of both ends of a connection."""
    with lab.socket(1) as listener, lab.socket(0) as near:
        listener.bind((lab.address(1), 0))
        listener.listen(1)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        with far:
            return {end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
                    for end in (near, far)}


def echo(lab, count):
    """Round trips of small datagrams from host 0 to host 1, in seconds; None for one that got no answer in 0.3 s."""
    trips = []
    with lab.socket(1, socket.SOCK_DGRAM) as far, lab.socket(0, socket.SOCK_DGRAM) as near:
        far.bind((lab.address(1), 0))
        far.settimeout(0.3)
        near.settimeout(0.3)
        for _ in range(count):
            start = time.monotonic()
            near.sendto(b"?", far.getsockname())
            try:
                _, peer = far.recvfrom(16)
                far.sendto(b"!", peer)
                near.recv(16)
                trips.append(time.monotonic() - start)
            except TimeoutError:
                trips.append(None)
    return trips


def timed(what, copy, expected, most):
    """Check seconds of copy() against expected. A busy machine may slow it down, so the best of three tries counts;
    nothing may make it faster than its link."""
    for _ in range(3):
        seconds = copy()
        note(f"{what}: {seconds:.3f} s, {expected:.3f} s expected")
        ensure(seconds > 0.9 * expected, f"{what}: {seconds / expected:.2f} times the expected time")
        if seconds < most * expected:
            return
    ensure(False, f"{what}: {seconds / expected:.2f} times the expected time")


def plain_copies(lab, size, pairs):
    """Seconds until copies between all these pairs of hosts, begun together, have ended."""
    threads = [threading.Thread(target=plain_copy, args=(lab, size, *pair)) for pair in pairs]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - start


def test_rate():
    """A link carries its rate within 10%, with bbr and with cubic, to programs of their own and to plain sockets."""
    size = 12 << 20
    expected = size * HEADERS * 8 / 100e6
    for cc in ("bbr", "cubic"):
        with Lab(hosts=2, rate_mbit=100, cc=cc) as lab:
            controls = congestion_controls(lab)
            ensure(controls == {cc}, f"congestion control is {controls}, not {cc}")
            timed(f"{cc} programs", lambda: one_copy(lab, size), expected, 1.1)
            timed(f"{cc} sockets", lambda: plain_copy(lab, size, 0, 1), expected, 1.1)
            timed(f"{cc} backwards", lambda: plain_copy(lab, size, 1, 0), expected, 1.1)


def test_upload_and_download():
    """One host sends to two at its own rate, and two send to one at that one's rate."""
    size = 4 << 20
    expected = 2 * size * HEADERS * 8 / 100e6
    with Lab(hosts=3, rate_mbit=100) as lab:
        timed("one to two", lambda: plain_copies(lab, size, ((0, 1), (0, 2))), expected, 1.2)
        timed("two to one", lambda: plain_copies(lab, size, ((1, 0), (2, 0))), expected, 1.2)


def test_latency():
    """An idle link answers within 5 ms, a cut one not at all, a mended one again."""
    with Lab(hosts=2, rate_mbit=100) as lab:
        trips = sorted(echo(lab, 50))
        note(f"round trip: median {trips[25] * 1e6:.0f} us, longest {trips[-1] * 1e6:.0f} us")
        ensure(trips[25] < 0.005, f"median round trip {trips[25] * 1e3:.1f} ms")
        lab.cut(1)
        ensure(echo(lab, 3) == [None] * 3, "a cut host was reached")
        lab.mend(1)
        ensure(None not in echo(lab, 3), "a mended host was not reached")


def test_separation():
    """Hosts have names, IPC and /dev/shm of their own, and no way out of the lab."""
    with Lab(hosts=3, rate_mbit=None, shm_mb=8) as lab:
        for host in lab.all():
            _, output, _ = lab.run(host, ["hostname"])
            ensure(output == b"h%d\n" % host, f"host {host} is called {output!r}")
            ensure(lab.run(host, ["sh", "-c", "echo $1 > /dev/shm/mark", "-", str(host)])[0] == 0, "no /dev/shm")
        for host in lab.all():
            with open(lab.path(host, "/dev/shm/mark"), encoding="ascii") as file:
                ensure(file.read() == f"{host}\n", f"host {host} sees another's /dev/shm")
        code, _, _ = lab.run(0, ["dd", "if=/dev/zero", "of=/dev/shm/full", "bs=1M", "count=9"])
        ensure(code != 0, "/dev/shm has no limit")
        for outside in ("10.0.0.200", "192.0.2.1"):
            with lab.socket(0) as attempt:
                attempt.settimeout(2)
                try:
                    attempt.connect((outside, 9))
                    ensure(False, f"{outside} was reached")
                except OSError as error:
                    ensure(not isinstance(error, ConnectionRefusedError), f"{outside} answered")


def test_size():
    """64 shaped hosts stand within 10 s, any two reach each other, and all are gone within 5 s."""
    start = time.monotonic()
    with Lab(hosts=64, rate_mbit=50) as lab:
        up = time.monotonic() - start
        for source, target in ((0, 63), (63, 31), (17, 18)):
            plain_copy(lab, 1000, source, target)
        holders = [node.pid for node in lab._nodes]
        start = time.monotonic()
    down = time.monotonic() - start
    note(f"64 hosts: up in {up:.2f} s, down in {down:.2f} s")
    ensure(up < 10, f"set up took {up:.1f} s")
    ensure(down < 5, f"taking down took {down:.1f} s")
    ensure(not any(net_of(pid) for pid in holders), "a holder is left")


def test_two_labs():
    """Two labs at once do not meet, although their addresses are the same."""
    with Lab(hosts=2, rate_mbit=None) as one, Lab(hosts=2, rate_mbit=None) as other:
        with one.socket(1) as listener:
            listener.bind((one.address(1), 0))
            listener.listen(1)
            with one.socket(0) as near:
                near.settimeout(5)
                near.connect(listener.getsockname())
            with other.socket(0) as far:
                far.settimeout(5)
                try:
                    far.connect(listener.getsockname())
                    ensure(False, "the other lab answered")
                except ConnectionRefusedError:
                    pass


def test_nothing_left():
    """After an exception no process of the lab runs, not even a daemon, and no interface or mount is left."""
    interfaces, mounts = os.listdir("/sys/class/net"), read("/proc/self/mounts")
    nets = []
    try:
        with Lab(hosts=4) as lab:
            lab.popen(1, ["sleep", "1000"])
            lab.run(2, ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &"])
            wait_for(lambda: lab.pids(2), "the daemon")
            nets = {node.net for node in lab._nodes}
            raise KeyError("on purpose")
    except KeyError:
        pass
    ensure(not processes_of(nets), f"left running: {processes_of(nets)}")
    ensure(os.listdir("/sys/class/net") == interfaces, "interfaces are left")
    ensure(read("/proc/self/mounts") == mounts, "mounts are left")


def require_lab():
    """Skip where no lab can be made."""
    with Lab(hosts=1):
        pass


CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from lab import Lab
with Lab(hosts=3) as lab:
    lab.popen(1, ["sleep", "1000"])
    lab.run(2, ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &"])
    print(*[node.net for node in lab._nodes], flush=True)
    time.sleep(1000)
"""


def test_signals():
    """A lab whose process is ended by SIGTERM, SIGINT or SIGKILL leaves nothing running."""
    require_lab()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen([sys.executable, "-c", CHILD, os.path.dirname(os.path.abspath(__file__))],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as child:
            nets = set(child.stdout.readline().decode().split())
            ensure(len(nets) == 4 and processes_of(nets), "the lab did not stand")
            child.send_signal(number)
            child.wait(20)
            wait_for(lambda: not processes_of(nets), f"the hosts to end after {number.name}")


def test_unknown_congestion_control():
    """A congestion control that the kernel does not have is a reason to skip, and leaves nothing."""
    require_lab()
    try:
        with Lab(hosts=2, cc="nosuchcc"):
            ensure(False, "it was accepted")
    except Skip as reason:
        ensure("nosuchcc" in str(reason), f"the reason does not name it: {reason}")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    run_tests(test_separation, test_latency, test_rate, test_upload_and_download, test_two_labs, test_size,
              test_nothing_left, test_signals, test_unknown_congestion_control)
