"""Five gigabytes, where offsets no longer fit in 32 bits."""

import os
import shutil

from agents import Skip, ensure, main, scenario

GIB = 1 << 30
SIZE = 5 * GIB + 12345
MARKS = {0: b"first", 2 * GIB - 3: b"across 2 GiB", 4 * GIB - 6: b"below", 4 * GIB + 1: b"past 4 GiB",
         SIZE - 8: b"the last"}


@scenario
def five_gigabytes(scene):
    """A sparse file of 5 GiB with marks around 2 and 4 GiB arrives whole, and travels as nearly nothing."""
    free = shutil.disk_usage(scene.folder).free
    if free < SIZE + GIB // 2:
        raise Skip(f"needs {(SIZE + GIB // 2) >> 20} MiB in {os.path.dirname(scene.folder)}, has {free >> 20}")
    source = scene.path("big")
    with open(source, "wb") as file:
        file.truncate(SIZE)
        for offset, mark in MARKS.items():
            file.seek(offset)
            file.write(mark)
    agent = scene.agent()
    answer = scene.send([agent], source, "-C", "auto", "--json", timeout=120).expect(0)
    ensure(answer.last["sent"] < SIZE // 100, f"{answer.last['sent']} bytes were sent")
    status = os.stat(agent.path("big"))
    ensure(status.st_size == SIZE, f"{status.st_size} bytes")
    ensure(status.st_blocks * 512 >= SIZE, "the published file is sparse: a mapping could fail later")
    with open(agent.path("big"), "rb") as there, open(source, "rb") as here:
        for offset in [*MARKS, GIB, 3 * GIB + 1]:
            start = max(0, offset - 4096)
            there.seek(start)
            here.seek(start)
            bytes_there, bytes_here = there.read(8192), here.read(8192)
            ensure(MARKS.get(offset, b"\0") in bytes_here and bytes_there == bytes_here, f"other bytes around {offset}")
    scene.run("verify", "-d", agent.folder, "big", timeout=60).expect(0, out="5 GiB")
    shown = scene.run("list", "--json", "-d", agent.folder, "big").expect(0).last
    ensure(shown["size"] == SIZE, f"{shown}")


if __name__ == "__main__":
    main()
