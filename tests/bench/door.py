"""How fast an agent's door is, measured from outside: waits a second, and how soon many waiters are awake."""

import os
import select
import socket
import time


def connect(folder):
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(60)
    door.connect(os.path.join(folder, ".treecast/door"))
    return door


def waits_per_second(folder, name, count):
    """Waits for a published array, one after the other and each over a connection of its own."""
    request = b'{"op":"wait","name":"%s"}\n' % name.encode()
    began = time.monotonic()
    for _ in range(count):
        with connect(folder) as door:
            door.sendall(request)
            answer = door.recv(65536)
        if b'"ok":true' not in answer:
            raise AssertionError(f"the door said {answer}")
    return count / (time.monotonic() - began)


def wake_milliseconds(folder, name, waiters, publish):
    """From the moment that name is there (its change time, to a tick of the clock: 4 ms) until the last of waiters that
    wait for it has its answer; publish() has it published meanwhile."""
    doors = {}
    with select.epoll() as events:
        try:
            for _ in range(waiters):
                door = connect(folder)
                doors[door.fileno()] = door
                door.sendall(b'{"op":"wait","name":"%s"}\n' % name.encode())
                events.register(door, select.EPOLLIN)
            with connect(folder) as door:  # answered in turn, so all of them wait by then
                door.sendall(b'{"op":"ping"}\n')
                door.recv(4096)
            publish()
            left = set(doors)
            while left:
                for number, _ in events.poll(60) or [(None, None)]:
                    if number is None:
                        raise AssertionError(f"{len(left)} of {waiters} waiters were not woken")
                    if b'"ok":true' not in doors[number].recv(4096):
                        raise AssertionError("a waiter was told of a failure")
                    events.unregister(number)
                    left.discard(number)
            last = time.time()
        finally:
            for door in doors.values():
                door.close()
    return (last - os.stat(os.path.join(folder, name)).st_ctime_ns / 1e9) * 1e3
