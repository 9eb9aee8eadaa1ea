"""How fast an agent's local API is, measured from outside: waits a second, and how soon many waiters are awake."""

import os
import select
import socket
import time


def connect(folder):
    api = socket.socket(socket.AF_UNIX)
    api.settimeout(60)
    api.connect(os.path.join(folder, ".treecast/api"))
    return api


def waits_per_second(folder, name, count):
    """Waits for a published array, one after the other and each over a connection of its own."""
    request = b'{"op":"wait","name":"%s"}\n' % name.encode()
    began = time.monotonic()
    for _ in range(count):
        with connect(folder) as api:
            api.sendall(request)
            answer = api.recv(65536)
        if b'"ok":true' not in answer:
            raise AssertionError(f"the local API said {answer}")
    return count / (time.monotonic() - began)


def wake_milliseconds(folder, name, waiters, publish):
    """From the moment that name is there (its change time, to a tick of the clock: 4 ms) until the last of waiters that
    wait for it has its answer; publish() has it published meanwhile."""
    apis = {}
    with select.epoll() as events:
        try:
            for _ in range(waiters):
                api = connect(folder)
                apis[api.fileno()] = api
                api.sendall(b'{"op":"wait","name":"%s"}\n' % name.encode())
                events.register(api, select.EPOLLIN)
            with connect(folder) as api:  # answered in turn, so all of them wait by then
                api.sendall(b'{"op":"ping"}\n')
                api.recv(4096)
            publish()
            left = set(apis)
            while left:
                for number, _ in events.poll(60) or [(None, None)]:
                    if number is None:
                        raise AssertionError(f"{len(left)} of {waiters} waiters were not woken")
                    if b'"ok":true' not in apis[number].recv(4096):
                        raise AssertionError("a waiter was told of a failure")
                    events.unregister(number)
                    left.discard(number)
            last = time.time()
        finally:
            for api in apis.values():
                api.close()
    return (last - os.stat(os.path.join(folder, name)).st_ctime_ns / 1e9) * 1e3
