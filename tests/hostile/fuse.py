"""A file system of one file whose server answers some readers late: FUSE's protocol (linux/fuse.h), without a library."""

import contextlib
import ctypes
import os
import struct
import threading

MNT_FORCE, MNT_DETACH = 1, 2
FORGET, BATCH_FORGET, INTERRUPT = 2, 42, 36
LOOKUP, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 1, 3, 14, 15, 18, 25, 26
DIRECT_IO = 1
ENOSYS = 38


class SlowFile:
    """PLACE/NAME holds data. Reads of threads for which slow(tid) is true are answered when let_go has been called."""

    def __init__(self, place, name, data, slow):
        self.name, self.data, self.slow = name, data, slow
        self.held, self.free, self.lock = [], False, threading.Lock()
        self.place = place
        self.device = os.open("/dev/fuse", os.O_RDWR)
        os.mkdir(place)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"treecast-test", place.encode(), b"fuse", 6, options) != 0:
            raise OSError(ctypes.get_errno(), "mount of a FUSE file system")
        self.libc = libc
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        self.path = os.path.join(place, name)

    def attributes(self, node):
        mode, size = (0o40755, 0) if node == 1 else (0o100444, len(self.data))
        return struct.pack("<6Q10I", node, size, (size + 511) // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def answer(self, unique, body=b"", error=0):
        with contextlib.suppress(OSError):  # whoever asked has gone
            os.write(self.device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)

    def read(self, unique, offset, size):
        self.answer(unique, self.data[offset:offset + size])

    def serve(self):
        while True:
            try:
                request = os.read(self.device, 1 << 20)
            except OSError:
                return
            _, what, unique, node, _, _, tid, _ = struct.unpack_from("<IIQQIIII", request)
            body = request[40:]
            if what == INIT:
                self.answer(unique, struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 17, 0, 12, 9, 1 << 17, 1, 0, 0, 0))
            elif what == LOOKUP and body.rstrip(b"\0").decode() == self.name:
                self.answer(unique, struct.pack("<QQQQII", 2, 0, 3600, 3600, 0, 0) + self.attributes(2))
            elif what == LOOKUP:
                self.answer(unique, error=2)
            elif what == GETATTR:
                self.answer(unique, struct.pack("<QII", 3600, 0, 0) + self.attributes(node))
            elif what == OPEN:
                self.answer(unique, struct.pack("<QII", 1, DIRECT_IO, 0))
            elif what == READ:
                _, offset, size = struct.unpack_from("<QQI", body)
                with self.lock:
                    late = not self.free and self.slow(tid)
                    if late:
                        self.held.append((unique, offset, size))
                if not late:
                    self.read(unique, offset, size)
            elif what in (RELEASE, FLUSH):
                self.answer(unique)
            elif what not in (FORGET, BATCH_FORGET, INTERRUPT):
                self.answer(unique, error=ENOSYS)

    def let_go(self):
        with self.lock:
            self.free = True
            held, self.held = self.held, []
        for request in held:
            self.read(*request)

    def close(self):
        self.let_go()
        self.libc.umount2(self.place.encode(), MNT_FORCE)
        self.libc.umount2(self.place.encode(), MNT_DETACH)
        os.close(self.device)
