"""A cluster on one machine: every host is a set of namespaces.

    with Lab(hosts=32, rate_mbit=100, cc="bbr") as lab:
        lab.run(0, ["ping", "-c1", lab.address(5)])

Host i has its own network, mounts, host name (h<i>) and IPC, an empty tmpfs on /dev/shm, and one interface eth0 with
the address 10.0.x.y. All hosts meet in a hub that routes between them: /32 addresses and permanent neighbour entries,
because a bridge with many hosts overflows the machine-wide neighbour table. Each link is a veth shaped in both
directions; nothing leads out of the hub. With racks, the hosts of each meet in a router of their own, and the hub is the
spine between the routers: what a rack sends and gets passes one shaped link, whose bytes are counted. Names and addresses exist inside the namespaces only, so several labs can run
at once.

A holder process keeps each host's namespaces alive. It ends when the lab's process does, however that happens, ends
what still runs in its host, each by its process id, and the kernel then takes the namespaces down.

Needs root, iproute2 and the veth and tbf modules; Skip says what is missing. Linux 5.8 (setns with a pidfd).
"""

import atexit
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x40000000
NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV = 0x4000, 0x40000, 2, 4

GATEWAY = "10.255.255.254"  # the hub, or a rack's router: the first hop of its hosts
SPINE = "10.255.255.253"    # the hub to the routers
PER_SUBNET = 250

# A burst below one full segment of 64 KiB with its headers makes tbf split every segment, which trebles the CPU cost.
BURST = 75000

libc = ctypes.CDLL(None, use_errno=True)


class Skip(Exception):
    """A lab cannot be made here; the text says why."""


class LabError(RuntimeError):
    """Making or using a lab failed; the text says where."""


def check(result, what):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def wait_for(condition, what, timeout=30.0):
    """Return condition()'s first true value; LabError after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(0.005)


def wait_process(process, timeout=None):
    """Wait for a child; return (exit code, its resource usage). subprocess.TimeoutExpired after timeout seconds.

    Popen.wait with a timeout sleeps up to 50 ms between looks, too coarse for measurements, and keeps no usage.
    """
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(None if timeout is None else max(0, timeout * 1000)):
            raise subprocess.TimeoutExpired(process.args, timeout)
    finally:
        os.close(pidfd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def sysctl(name, value):
    """Set a value of the calling process's network namespace; a value this kernel does not have is left out."""
    path = "/proc/sys/net/" + name
    if os.path.exists(path):
        with open(path, "w", encoding="ascii") as file:
            file.write(str(value))


class Node:
    """One set of namespaces: its holder's pid, a pidfd of the holder, and the network namespace's identity."""

    def __init__(self, pid):
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.net = None


class Lab:
    """See the module's text. rate_mbit None leaves links unshaped; cc None keeps the kernel's congestion control. With
    racks, hosts are dealt to them in order, as evenly as can be, and uplink_mbit is the rate of each rack's uplink."""

    def __init__(self, hosts=32, rate_mbit=100, cc="bbr", shm_mb=1024, queue_kb=300, racks=0, uplink_mbit=None):
        self.hosts = hosts
        self.racks = racks
        self.uplink_mbit = uplink_mbit
        self.rate_mbit = rate_mbit
        self.cc = cc
        self.shm_mb = shm_mb
        self.limit = BURST + queue_kb * 1000
        self._owner = os.getpid()
        self._nodes = []          # hosts 0..n-1, then the hub, then the racks' routers
        self._processes = []
        self._alive = None        # write end of the pipe whose closing ends the holders
        self._old_handlers = {}

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self._require()
        self._catch_signals()
        atexit.register(self.stop)
        try:
            self._start_holders()
            self._wire()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """End all processes of all hosts and the hosts themselves. Harmless when repeated."""
        if os.getpid() != self._owner:
            return
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            self._end_processes()
            self._end_holders()
            self._restore_signals()
            atexit.unregister(self.stop)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def _require(self):
        if os.geteuid() != 0:
            raise Skip("network namespaces need root")
        for tool in ("ip", "tc"):
            if not self._tool(tool):
                raise Skip(f"no {tool} (package iproute2)")
        if not 1 <= self.hosts <= 4 * PER_SUBNET:
            raise LabError(f"a lab has 1 to {4 * PER_SUBNET} hosts, not {self.hosts}")

    @staticmethod
    def _tool(name):
        return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def _catch_signals(self):
        """SIGTERM and SIGHUP become an exception, so that the lab is left the usual way."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                self._old_handlers[number] = signal.signal(number, self._on_signal)

    @staticmethod
    def _on_signal(number, _frame):
        raise SystemExit(128 + number)

    def _restore_signals(self):
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}

    # -- holders ------------------------------------------------------------------------------------------------

    def _start_holders(self):
        alive_read, self._alive = os.pipe()
        ready_read, ready_write = os.pipe()
        try:
            for index in range(self.hosts + 1 + self.racks):
                pid = os.fork()
                if pid == 0:
                    self._hold(index, ready_write, alive_read)
                self._nodes.append(Node(pid))
            os.close(ready_write)
            ready_write = -1
            self._await_holders(ready_read)
        finally:
            for end in (alive_read, ready_read, ready_write):
                if end >= 0:
                    os.close(end)

    def _hold(self, index, ready, alive):
        """In the child: become a host, say so, stay until the lab's process closes its pipe."""
        try:
            os.close(self._alive)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.setsid()
            self._become(index)
            os.write(ready, b"ready\n")
            os.close(ready)
            null = os.open("/dev/null", os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            os.chdir("/")
            os.read(alive, 1)
            end_processes_of({net_of("self")}, besides={os.getpid()})
        except BaseException as error:  # reported by the parent, which has the terminal
            os.write(ready, f"h{index}: {error}\n".encode())
        finally:
            os._exit(0)

    def _become(self, index):
        check(libc.unshare(NAMESPACES), "unshare")
        check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "make mounts private")
        options = f"size={self.shm_mb}m,mode=1777".encode()
        check(libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", MS_NOSUID | MS_NODEV, options), "mount /dev/shm")
        name = b"h%d" % index if index < self.hosts else b"hub" if index == self.hosts else \
            b"rack%d" % (index - self.hosts - 1)
        check(libc.sethostname(name, len(name)), "sethostname")
        sysctl("ipv6/conf/all/disable_ipv6", 1)
        sysctl("ipv6/conf/default/disable_ipv6", 1)
        sysctl("ipv4/conf/all/rp_filter", 0)
        sysctl("ipv4/conf/default/rp_filter", 0)
        if index >= self.hosts:
            sysctl("ipv4/ip_forward", 1)
            return
        sysctl("ipv4/tcp_no_metrics_save", 1)  # or later connections learn from earlier ones

    def _await_holders(self, ready):
        text = b""
        while True:
            piece = os.read(ready, 65536)
            if not piece:
                break
            text += piece
        lines = text.decode(errors="replace").splitlines()
        bad = [line for line in lines if line != "ready"]
        if bad or len(lines) != len(self._nodes):
            why = bad[0] if bad else "a holder ended early"
            if "Operation not permitted" in why:
                raise Skip(f"namespaces are not permitted here ({why})")
            raise LabError(why)
        for node in self._nodes:
            node.net = os.readlink(f"/proc/{node.pid}/ns/net")

    def _end_holders(self):
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None
        for node in self._nodes:
            signal.pidfd_send_signal(node.pidfd, signal.SIGKILL)
        for node in self._nodes:
            os.waitpid(node.pid, 0)
            os.close(node.pidfd)
        self._nodes = []

    # -- the network --------------------------------------------------------------------------------------------

    def _wire(self):
        """Links are made from the hub's side, with their far end put straight into the host."""
        self._batch(self.hosts, "ip", self._hub_lines())
        for rack in range(self.racks):
            self._batch(self._router(rack), "ip", self._router_lines(rack))
            if self.uplink_mbit is not None:
                self.set_uplink(rack, self.uplink_mbit)
        if self.rate_mbit is not None:
            for node in {self._switch(i) for i in self.all()}:
                self._batch(node, "tc", [f"qdisc add dev h{i} {self._tbf(self.rate_mbit)}" for i in self.all()
                                         if self._switch(i) == node])
        running = [self._start_batch(i, "ip", self._host_lines(i)) for i in self.all()]
        if self.rate_mbit is not None:
            running += [self._start_batch(i, "tc", [f"qdisc add dev eth0 {self._tbf(self.rate_mbit)}"])
                        for i in self.all()]
        for process in running:
            self._end_batch(process)

    def _hub_lines(self):
        if not self.racks:
            return ["link set lo up", f"addr add {GATEWAY}/32 dev lo", *self._link_lines(self.all())]
        lines = ["link set lo up", f"addr add {SPINE}/32 dev lo"]
        for rack in range(self.racks):
            lines += [
                f"link add r{rack} address {self._mac(3, rack)} type veth "
                f"peer name uplink address {self._mac(2, rack)} netns {self._nodes[self._router(rack)].pid}",
                f"link set r{rack} up",
                f"neigh add {self._router_address(rack)} lladdr {self._mac(2, rack)} dev r{rack} nud permanent",
                *(f"route add {self.address(i)}/32 via {self._router_address(rack)} dev r{rack} onlink"
                  for i in self.rack_hosts(rack)),
            ]
        return lines

    def _router_lines(self, rack):
        return [
            "link set lo up",
            f"addr add {GATEWAY}/32 dev lo",
            "link set uplink up",
            f"addr add {self._router_address(rack)}/32 dev uplink",
            f"neigh add {SPINE} lladdr {self._mac(3, rack)} dev uplink nud permanent",
            f"route add 10.0.0.0/8 via {SPINE} dev uplink onlink",
            *self._link_lines(self.rack_hosts(rack)),
        ]

    def _link_lines(self, hosts):
        lines = []
        for i in hosts:
            lines += [
                f"link add h{i} address {self._mac(1, i)} type veth "
                f"peer name eth0 address {self._mac(0, i)} netns {self._nodes[i].pid}",
                f"link set h{i} up",
                f"neigh add {self.address(i)} lladdr {self._mac(0, i)} dev h{i} nud permanent",
                f"route add {self.address(i)}/32 dev h{i}",
            ]
        return lines

    def _host_lines(self, i):
        # Congestion control goes with the route: the sysctl of a namespace refuses what the machine's administrator
        # has not allowed to everybody.
        control = f" congctl {self.cc}" if self.cc else ""
        return [
            "link set lo up",
            "link set eth0 up",
            f"addr add {self.address(i)}/32 dev eth0",
            f"neigh add {GATEWAY} lladdr {self._mac(1, i)} dev eth0 nud permanent",
            f"route add 10.0.0.0/8 via {GATEWAY} dev eth0 onlink src {self.address(i)}{control}",
        ]

    @staticmethod
    def _mac(side, i):
        return f"02:00:00:{side:02x}:{i >> 8:02x}:{i & 255:02x}"

    def _tbf(self, rate_mbit):
        return f"root tbf rate {round(rate_mbit * 1000)}kbit burst {BURST} limit {self.limit}"

    def _start_batch(self, node, tool, lines):
        process = self.popen(node, [self._tool(tool), "-batch", "-"], stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        process.stdin.write("".join(line + "\n" for line in lines).encode())
        process.stdin.close()
        return process

    def _end_batch(self, process):
        text = process.stderr.read().decode(errors="replace").strip()
        process.stderr.close()
        if process.wait() != 0:
            if "congestion" in text:
                raise Skip(f"this kernel has no congestion control {self.cc}")
            raise LabError(f"{' '.join(process.args)}: {text}")
        self._processes.remove(process)

    def _batch(self, node, tool, lines):
        self._end_batch(self._start_batch(node, tool, lines))

    def _router(self, rack):
        return self.hosts + 1 + rack

    def _switch(self, host):
        """The node whose interface h<host> is the other end of host's link."""
        return self._router(self.rack_of(host)) if self.racks else self.hosts

    @staticmethod
    def _router_address(rack):
        return f"10.254.0.{rack + 1}"

    def set_uplink(self, rack, rate_mbit, ways=("in", "out")):
        """Shape one rack's uplink anew, both ways or only one."""
        if "in" in ways:
            self._batch(self.hosts, "tc", [f"qdisc replace dev r{rack} {self._tbf(rate_mbit)}"])
        if "out" in ways:
            self._batch(self._router(rack), "tc", [f"qdisc replace dev uplink {self._tbf(rate_mbit)}"])

    def set_rate(self, host, rate_mbit, ways=("in", "out")):
        """Shape one host's link anew, both ways or only one."""
        self._requeue(host, self._tbf(rate_mbit), ways)

    def cut(self, host):
        """Lose every packet to and from host, silently, as a pulled cable does."""
        self._requeue(host, "root pfifo limit 0")

    def mend(self, host):
        """Undo cut and set_rate."""
        if self.rate_mbit is None:
            self._batch(self._switch(host), "tc", [f"qdisc del dev h{host} root"])
            self._batch(host, "tc", ["qdisc del dev eth0 root"])
        else:
            self.set_rate(host, self.rate_mbit)

    def _requeue(self, host, qdisc, ways=("in", "out")):
        if "in" in ways:
            self._batch(self._switch(host), "tc", [f"qdisc replace dev h{host} {qdisc}"])
        if "out" in ways:
            self._batch(host, "tc", [f"qdisc replace dev eth0 {qdisc}"])

    # -- hosts --------------------------------------------------------------------------------------------------

    def all(self):
        return range(self.hosts)

    def rack_of(self, host):
        return host * self.racks // self.hosts

    def rack_hosts(self, rack):
        return [host for host in self.all() if self.rack_of(host) == rack]

    def uplink_bytes(self, rack):
        """Bytes that have come into the rack and left it since the lab began, headers included."""
        counters = self._counters(self._router(rack), "uplink")
        return int(counters[0]), int(counters[8])

    def topology(self):
        """The racks as Slurm's topology.conf, with the hosts' names and addresses."""
        lines = []
        for rack in range(self.racks):
            nodes = ",".join(f"h{host},{self.address(host)}" for host in self.rack_hosts(rack))
            lines.append(f"SwitchName=rack{rack} Nodes={nodes}\n")
        return "".join(lines) + f"SwitchName=spine Switches=rack[0-{self.racks - 1}]\n"

    def address(self, host):
        return f"10.0.{host // PER_SUBNET}.{host % PER_SUBNET + 1}"

    def hostlist(self, hosts):
        """Consecutive hosts as one list in brackets (10.0.0.[2-32]), others with commas between."""
        words = []
        for host in sorted(hosts):
            subnet, last = divmod(host, PER_SUBNET)
            if words and words[-1][0] == subnet and words[-1][2] == last:
                words[-1][2] = last + 1
            else:
                words.append([subnet, last + 1, last + 1])
        return ",".join(f"10.0.{s}.{a}" if a == b else f"10.0.{s}.[{a}-{b}]" for s, a, b in words)

    def path(self, host, path):
        """How a file of host (an absolute path there) is called outside of it."""
        return f"/proc/{self._nodes[host].pid}/root{path}"

    def holder(self, host):
        """A process that lives in host as long as the lab does: what nsenter asks for."""
        return self._nodes[host].pid

    def proc_net(self, host, name):
        """Text of /proc/net/<name> of host."""
        with open(f"/proc/{self._nodes[host].pid}/net/{name}", encoding="ascii") as file:
            return file.read()

    def sent_bytes(self, host):
        """Bytes that have left host on its link since the lab began, headers included."""
        return int(self._counters(host, "eth0")[8])

    def _counters(self, node, device):
        for line in self.proc_net(node, "dev").splitlines():
            name, _, counters = line.partition(":")
            if name.strip() == device:
                return counters.split()
        raise LabError(f"node {node} has no {device}")

    def listens(self, host, port):
        """Whether something listens on this TCP port of host."""
        for line in self.proc_net(host, "tcp").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                return True
        return False

    def popen(self, host, argv, cwd=None, **options):
        """subprocess.Popen in host, in a session of its own; ended with the lab at the latest."""
        pidfd = self._nodes[host].pidfd
        folder = cwd or os.getcwd()

        def enter():
            check(libc.setns(pidfd, NAMESPACES), "setns")
            os.chdir(folder)

        process = subprocess.Popen(argv, preexec_fn=enter, start_new_session=True, **options)
        self._processes.append(process)
        return process

    def socket(self, host, kind=socket.SOCK_STREAM):
        """An IPv4 socket of host, for this process: sockets stay where they were made, so a thread makes it there."""
        made = []

        def make():
            check(libc.setns(self._nodes[host].pidfd, CLONE_NEWNET), "setns")
            made.append(socket.socket(socket.AF_INET, kind))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            raise LabError(f"no socket in h{host}")
        return made[0]

    def run(self, host, argv, timeout=60, **options):
        """Run to the end; returns (exit code, standard output, standard error) as bytes."""
        process = self.popen(host, argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, **options)
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            self.end(process)
        return process.returncode, output, errors

    def end(self, process, grace=0.0):
        """End a process of popen by its id: SIGTERM, then SIGKILL after grace seconds. Returns its exit code."""
        if process.poll() is None and grace > 0:
            process.terminate()  # looks first and may find it ended by now
            try:
                if process.returncode is None:
                    wait_process(process, grace)
            except subprocess.TimeoutExpired:
                pass
        if process.returncode is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        if process in self._processes:
            self._processes.remove(process)
        return process.returncode

    def pids(self, host=None):
        """Processes in the lab's hosts (or in one) besides the holders."""
        nodes = self._nodes if host is None else [self._nodes[host]]
        return processes_of({node.net for node in nodes}, besides={node.pid for node in self._nodes})

    def _end_processes(self):
        for process in list(self._processes):
            self.end(process)
        end_processes_of({node.net for node in self._nodes}, besides={node.pid for node in self._nodes})


def net_of(pid):
    """Identity of a process's network namespace, None when the process is gone or a zombie."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def processes_of(nets, besides=()):
    """Ids of the processes that live in these network namespaces, except some."""
    return [int(entry) for entry in os.listdir("/proc")
            if entry.isdigit() and int(entry) not in besides and net_of(entry) in nets - {None}]


def end_processes_of(nets, besides):
    """Kill them, each by its id, until none is left: a process may start another one meanwhile."""
    deadline = time.monotonic() + 5.0
    pids = processes_of(nets, besides)
    while pids and time.monotonic() < deadline:
        for pid in pids:
            kill_if_in(nets, pid)
        time.sleep(0.005)
        pids = processes_of(nets, besides)


def kill_if_in(nets, pid):
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if net_of(pid) in nets:  # what the pidfd holds is still the process that was found
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
