#!/usr/bin/python3
"""An ipyparallel cluster for tests and measurements: a controller, and engines that are forked from one process.

Run as a program it is that process: importing IPython takes a core most of a second, sixteen times over.
"""

import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def engine_main(count, connection, profile):
    from ipyparallel.engine.app import IPEngine
    import numpy  # noqa: F401: what is loaded before the fork is loaded once

    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            log = os.open(os.path.join(profile, f"engine{number}.log"), os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["ipengine"]
            IPEngine.launch_instance(argv=[f"--file={connection}", f"--profile-dir={profile}",
                                           "--IPEngine.wait_for_url_file=60", "--timeout=60"])
            os._exit(0)
        children.append(pid)
    sys.stdin.read()  # until the test ends, however it does
    for pid in children:
        os.kill(pid, 15)
    for pid in children:
        os.waitpid(pid, 0)


class Cluster:
    """In a with block: controller and engines, with a profile in folder. popen(host, argv, **options) starts a process;
    hosts: where engines run, count on each."""

    def __init__(self, folder, engines=16, environment=None, popen=None, hosts=(0,), ip="127.0.0.1"):
        self.folder, self.engines, self.hosts, self.ip = folder, engines, list(hosts), ip
        self.profile = os.path.join(folder, "profile_default")
        self.environment = {**(os.environ if environment is None else environment), "IPYTHONDIR": folder,
                            "OPENBLAS_NUM_THREADS": "1"}
        self._popen = popen or (lambda host, argv, **options: subprocess.Popen(argv, **options))
        self.processes = []

    def __enter__(self):
        os.makedirs(self.profile, exist_ok=True)
        try:
            self._start(0, ["-m", "ipyparallel.controller", f"--ip={self.ip}", f"--profile-dir={self.profile}",
                            "--nodb", "--log-level=30", "--HeartMonitor.period=200",
                            "--HeartMonitor.max_heartmonitor_misses=300"], "controller")
            self.file = self._await("ipcontroller-client.json")
            connection = self._await("ipcontroller-engine.json")
            for host in self.hosts:
                self._start(host, [os.path.abspath(__file__), str(self.engines), connection, self.profile],
                            f"engines{host}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stdin.close()
            if process is self.processes[0]:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, host, words, name):
        with open(os.path.join(self.folder, f"{name}.log"), "wb") as log:
            self.processes.append(self._popen(host, [sys.executable, *words], stdin=subprocess.PIPE, stdout=log,
                                              stderr=log, env=self.environment))

    def _await(self, name, timeout=60):
        path = os.path.join(self.profile, "security", name)
        end = time.monotonic() + timeout
        while not os.path.exists(path):
            if time.monotonic() > end or self.processes[0].poll() is not None:
                with open(os.path.join(self.folder, "controller.log"), encoding="utf-8", errors="replace") as log:
                    raise RuntimeError(f"no controller: {log.read()[-2000:]}")
            time.sleep(0.02)
        return path

    def client(self, timeout=120):
        import ipyparallel
        client = ipyparallel.Client(self.file, timeout=30)
        client.wait_for_engines(self.engines * len(self.hosts), timeout=timeout)
        return client


if __name__ == "__main__":
    engine_main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
