"""The Python package under test, beside the scenarios' agents."""

import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.join(HERE, "..", "..", "contrib", "python")
sys.dont_write_bytecode = True
sys.path[:0] = [PACKAGE, os.path.join(HERE, "..", "scenario"), os.path.join(HERE, "..", "lab")]

from agents import ensure, find_treecast  # noqa: E402

os.environ["TREECAST"] = find_treecast()


def raises(kind, function, *arguments, text="", **options):
    """The exception of this very kind that a call ends with."""
    try:
        value = function(*arguments, **options)
    except Exception as error:
        ensure(type(error) is kind, f"expected {kind.__name__}, not {type(error).__name__}: {error}")
        ensure(text in str(error), f"expected {text!r} in: {error}")
        return error
    ensure(False, f"expected {kind.__name__}, but it returned {value!r}")


class Thread(threading.Thread):
    """A call in a thread of its own; result() gives what it returned or raises what it raised."""

    def __init__(self, function, *arguments, **options):
        super().__init__(daemon=True)
        self.call = (function, arguments, options)
        self.value = self.error = None
        self.start()

    def run(self):
        function, arguments, options = self.call
        try:
            self.value = function(*arguments, **options)
        except BaseException as error:
            self.error = error

    def result(self, timeout=60):
        self.join(timeout)
        ensure(not self.is_alive(), f"{self.call[0].__name__} still runs after {timeout} s")
        if self.error:
            raise self.error
        return self.value
