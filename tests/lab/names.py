"""A directory of many published arrays, made without an agent: as earlier ones would have left it."""

import json
import os


def fill(folder, count, size=1):
    """Arrays crowd0 ... of size bytes each. With 0 they take no memory but that of their descriptions."""
    described = json.dumps({"schema": 1, "name": "NAME", "size": size, "digest": "0" * 64, "session": "0" * 32,
                            "created": 1700000000, "array": None})
    arrays, state = (os.open(path, os.O_PATH) for path in (folder, os.path.join(folder, ".treecast")))
    try:
        for number in range(count):
            name = f"crowd{number}"
            file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o444, dir_fd=arrays)
            os.write(file, b"x" * size)
            inode = os.fstat(file).st_ino
            os.close(file)
            file = os.open(f"{inode}.json", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=state)
            os.write(file, described.replace("NAME", name).encode())
            os.close(file)
    finally:
        os.close(arrays)
        os.close(state)
