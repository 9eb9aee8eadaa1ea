"""Test Anything Protocol for the lab's tests: each test is a function whose first line of text says its invariant."""

import os
import sys
import tempfile
import traceback

from lab import LabError, Skip

SANITIZED = os.environ.get("TC_SANITIZER", "") not in ("", "no", "none")


class Failure(AssertionError):
    """An invariant does not hold."""


def ensure(holds, text):
    if not holds:
        raise Failure(text)


def note(text):
    print("\n".join("# " + line for line in str(text).splitlines()), flush=True)


def plain_only(test):
    """Marks a test that is no part of a sanitized build: what it does to the program is what sanitizers do not bear."""
    test.plain_only = True
    return test


def run_tests(*tests):
    """Run them in order and exit 0 if all passed. A test that cannot run here is skipped with its reason."""
    tests = [test for test in tests if not (SANITIZED and getattr(test, "plain_only", False))]
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for number, test in enumerate(tests, 1):
        name = test.__doc__.splitlines()[0].rstrip(".")
        try:
            test()
            print(f"ok {number} - {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception as error:
            failed += 1
            note(str(error) if isinstance(error, (Failure, LabError)) else traceback.format_exc())
            print(f"not ok {number} - {name}", flush=True)
    sys.exit(1 if failed else 0)


def folder():
    """A temporary directory, removed at the end of a with block."""
    return tempfile.TemporaryDirectory(prefix="treecast-lab-")


def find_treecast():
    """Path of the program under test: $TREECAST, else ./treecast of the build directory one stands in."""
    path = os.path.abspath(os.environ.get("TREECAST") or "treecast")
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        raise LabError(f"no program {path}: build it, or set TREECAST to its path")
    return path
