#!/usr/bin/python3
"""The order of the modules in src/: nobody includes upward, and every header compiles alone. Prints TAP.

The tables below are the architecture; a change here is a change of it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

# What each module may include besides itself, from the lowest layer to the highest.
ROOMS = {
    "base": "",
    "data": "base",
    "file": "base data",
    "plan": "base",
    "session": "base data plan",
    "net": "base",
    "api": "base data",
    "site": "base plan",
    "node": "base data file plan session net api site",
    "lib": "base data file api",
    "cli": "base data file plan session net api site node lib",
}
# A file that may include more than its module, and headers that a module may not see although it may see theirs.
FILES_MAY = {"api/server": "net", "api/server_own": "net"}
ROOMS_MAY_NOT = {"lib": {"api/server.h"}}

# Who may see which library. A rule holds for every header whose name begins with the key; the longest key decides.
LIBRARIES = {
    "event2/": "net/loop",
    "event.h": "net/loop",
    "openssl/": "data/digest net/key net/tls",
    "openssl/ssl": "net/tls",
    "zstd": "data/codec",
    "cap-ng": "node/privilege",
    "ini.h": "cli base/trust",
    "libsmartcols": "cli",
    "check.h": "",
}
# Modules that are pure: no socket, no clock, no thread, no file.
PURE = {"plan", "session"}
IMPURE = re.compile(r"^(sys/(?!types\.h)|netinet/|(fcntl|netdb|poll|pthread|semaphore|signal|threads|time|unistd)\.h)")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def files(src, room, ends):
    folder = os.path.join(src, room)
    return sorted(f"{room}/{name}" for name in os.listdir(folder) if name.endswith(ends))


def wrong_own(room, stem, header):
    """Why this file may not include one of our own headers, or None."""
    parts = header.split("/")
    if header == "treecast.h":
        return None if room == "lib" else "only lib implements treecast.h"
    if len(parts) != 2:
        return 'write it as "module/file.h"'
    allowed = {room, *ROOMS[room].split(), *FILES_MAY.get(stem, "").split()}
    if parts[0] not in allowed:
        return f"{room} may use: {' '.join(sorted(allowed - {room})) or 'nothing'}"
    if header in ROOMS_MAY_NOT.get(room, ()):
        return f"{room} may not use it"
    family = header.removesuffix("_own.h")
    if family != header and stem != family and not stem.startswith(f"{family}_"):
        return f"only {family}.c and {family}_*.c share it"
    return None


def wrong_library(room, stem, header):
    """Why this file may not include a header from outside, or None."""
    if room in PURE and IMPURE.match(header):
        return f"{room} is pure"
    rule = max((key for key in LIBRARIES if header.startswith(key)), key=len, default=None)
    if rule is None or {room, stem} & set(LIBRARIES[rule].split()):
        return None
    return f"only {LIBRARIES[rule] or 'tests'} may use it"


def upward(src, room):
    """Lines that say which includes of a module break the order."""
    found = []
    for name in files(src, room, (".c", ".h", ".def")):
        with open(os.path.join(src, name), encoding="utf-8") as source:
            text = source.read()
        for match in INCLUDE.finditer(text):
            check = wrong_own if match[1] == '"' else wrong_library
            why = check(room, name.rsplit(".", 1)[0], match[2])
            if why:
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{name}:{line}: {match[1]}{match[2]}: {why}")
    return found


def compiles_alone(compiler, top, header, language):
    """What the compiler says to a header on its own; an empty list when it is content."""
    standard = "-std=gnu11" if language == "c" else "-std=c++11"
    command = [*compiler, "-x", language, standard, "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
               f"-I{top}/src", f"-I{top}/include", "-"]
    answer = subprocess.run(command, input=f'#include "{header}"\n', capture_output=True, text=True, check=False)
    return answer.stderr.splitlines() if answer.returncode else []


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def say(self, name, complaints=(), skip=None):
        self.count += 1
        self.failed += bool(complaints)
        print(f"{'not ok' if complaints else 'ok'} {self.count} - {name}" + (f" # SKIP {skip}" if skip else ""))
        for line in complaints:
            print(f"# {line}")

    def end(self):
        print(f"1..{self.count}")
        return 1 if self.failed else 0


BAD = {
    "base/up.c": ('#include "plan/tree.h"', "base may use: nothing"),
    "data/zip.c": ("#include <zstd.h>", "only data/codec"),
    "plan/clock.c": ("#include <time.h>", "plan is pure"),
    "session/wire.c": ("  # include <sys/socket.h>", "session is pure"),
    "session/link.h": ('#include "net/link.h"', "session may use: base data plan"),
    "net/link.c": ("#include <event2/event.h>", "only net/loop"),
    "net/key.c": ("#include <openssl/ssl.h>", "only net/tls"),
    "api/client.c": ('#include "net/loop.h"', "api may use: base data"),
    "lib/treecast.c": ('#include "api/server.h"', "lib may not use it"),
    "node/pool.c": ('#include "pool.h"', 'write it as "module/file.h"'),
    "site/launch.c": ("#include <check.h>", "only tests"),
    "session/store.c": ('#include "session/agent_own.h"', "only session/agent.c and session/agent_*.c share it"),
}
GOOD = {
    "data/codec.c": "#include <zstd.h>",
    "net/loop.c": "#include <event2/event.h>",
    "net/tls.c": '#include <openssl/ssl.h>\n#include "net/key.h"',
    "api/server.c": '#include "net/loop.h"\n#include "base/err.h"',
    "lib/treecast.c": '#include "treecast.h"\n#include "api/client.h"',
    "session/agent.c": '#include <sys/types.h>\n#include "plan/tree.h"\n#include "session/agent_own.h"',
    "session/agent_fill.c": '#include "session/agent_own.h"',
    "cli/main.c": '#include <ini.h>\n#include "node/send_node.h"',
}


def plant(src, tree):
    for room in ROOMS:
        os.makedirs(os.path.join(src, room), exist_ok=True)
    for name, text in tree.items():
        with open(os.path.join(src, name), "w", encoding="utf-8") as out:
            out.write(f"/* a tree to test the test with */\n{text}\n")


def self_test(tap, compiler):
    """These checks can fail: a tree with one fault of each kind, and one without."""
    with tempfile.TemporaryDirectory() as top:
        plant(f"{top}/src", {name: text for name, (text, _) in BAD.items()})
        said = [line for room in ROOMS for line in upward(f"{top}/src", room)]
        missed = [f"not refused: {name}: {text}" for name, (text, why) in BAD.items()
                  if not any(line.startswith(f"{name}:2: ") and why in line for line in said)]
        tap.say("an upward include is refused, one of each kind", missed or (said if len(said) != len(BAD) else []))
        plant(f"{top}/src", {"base/broken.h": "int tc_broken(size_t size);", "base/whole.h": "int tc_whole(int);"})
        wrong = [] if compiles_alone(compiler, top, "base/broken.h", "c") else ["base/broken.h was accepted"]
        tap.say("a header that does not compile alone is refused",
                wrong + compiles_alone(compiler, top, "base/whole.h", "c"))
    with tempfile.TemporaryDirectory() as top:
        plant(f"{top}/src", GOOD)
        tap.say("what is allowed passes", [line for room in ROOMS for line in upward(f"{top}/src", room)])


def main():
    top = os.environ.get("top_srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    src = os.path.join(top, "src")
    compiler = shlex.split(os.environ.get("CC") or "cc")
    tap = Tap()
    self_test(tap, compiler)

    present = sorted(room for room in os.listdir(src) if os.path.isdir(os.path.join(src, room)))
    tap.say("every folder of src/ is a module of the table",
            [f"src/{room} is not in the table" for room in present if room not in ROOMS])
    rooms = [room for room in ROOMS if room in present]
    for room in rooms:
        tap.say(f"src/{room} includes only what its row allows", upward(src, room))
    for header in [header for room in rooms for header in files(src, room, ".h")]:
        tap.say(f"{header} compiles alone", compiles_alone(compiler, top, header, "c"))

    tap.say("treecast.h compiles alone as C", compiles_alone(compiler, top, "treecast.h", "c"))
    plus = shlex.split(os.environ.get("CXX") or "c++")
    if shutil.which(plus[0]):
        tap.say("treecast.h compiles alone as C++", compiles_alone(plus, top, "treecast.h", "c++"))
    else:
        tap.say("treecast.h compiles alone as C++", skip="no C++ compiler (g++)")
    return tap.end()


if __name__ == "__main__":
    sys.exit(main())
