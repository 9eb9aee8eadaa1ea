#!/usr/bin/python3
"""numpy's own reading of element types, and ours beside it: words, and the headers of .npy files made at random.

words.py --table prints tests/unit/numpy-words.txt, which the unit tests read: every scalar type in every spelling, as
this machine's numpy reads it. The rest of the check asks numpy itself, so many words and no more."""

import json
import os
import random
import struct
import subprocess
import sys
import warnings

import world  # noqa: F401: finds the modules below
from agents import ensure, run_tests

import numpy
from numpy.lib import format as npy

WORDS, HEADERS = 20000, 6000
TABLE = os.path.join(world.HERE, "..", "unit", "numpy-words.txt")
READER = os.path.join(os.environ.get("top_builddir", "."), "tests", "unit", "test_dtype")
ORDERS = ["", "<", ">", "=", "|"]
UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic", "\u03bcs"]


def meaning(word):
    """What numpy makes of a word: (text, bytes); None where that is nothing, or nothing that a file can be mapped as."""
    if "/" in word and word.rpartition("/")[2].strip("]").strip() in ("0", "+0", "-0", "00"):
        return None  # numpy divides by it and is killed
    if word.lstrip("<>=|")[:1].isdigit() or word.lstrip("<>=|")[:2] == "()":
        return None  # a list of types to numpy, although of one
    try:
        dtype = numpy.dtype(word)
        again = numpy.dtype(dtype.str)
    except (TypeError, ValueError, SyntaxError):
        return None
    if dtype.hasobject or dtype.itemsize < 0 or dtype.names is not None or dtype.subdtype is not None:
        return None
    digits = "".join(filter(str.isdigit, dtype.str.partition("[")[0]))
    if "/" in word and "[0" in dtype.str:
        return None  # read beyond the end of numpy's table
    if dtype.str != again.str or (dtype.kind in "SUV" and word[-1:].isdigit() and int(digits) % 2 ** 31 !=
                          int("".join(filter(str.isdigit, word)) or 0)):
        return None  # its own arithmetic has overflowed
    return dtype.str, dtype.itemsize


def spellings():
    kinds = [f"{kind}{width}" for kind in "biufcSUVaOmM" for width in (0, 1, 2, 3, 4, 8, 12, 16, 24, 32)]
    letters = list("?bBhHiIlLqQpPefdgFDGcSaUVOMmxyz")
    times = [f"{head}[{number}{unit}]" for head in ("M8", "m8", "datetime64", "timedelta64") for unit in UNITS
             for number in ("", "1", "25")]
    times += [f"M8[{unit}/{part}]" for unit in UNITS for part in (1, 2, 3, 5, 7, 10, 12, 24, 60)]
    ordered = [order + word for word in kinds + letters + times[:45] + ["datetime64", "timedelta64"]
               for order in ORDERS]
    named = sorted(name for name in numpy.core.numerictypes.sctypeDict if isinstance(name, str) and len(name) > 2)
    wrong = ["", "<", "f", "f8 ", " f8", "<float64", "f-8", "float65", "Float64", "Uint", "M8[", "M8[]", "M8s]", "M8[x]",
             "M8[s/7]", "M4", "S-1", "f8x", "3f8", "f8,i4", "(2,)f8", "()f8", "U536870912", "f8\t", "f+8", "f 8", "f08",
             "S2147483647", "S2147483648", "U536870911", "M8[ 3s]", "M8[0s]", "M8[-2s]", "M8[2147483648s]", "|S0"]
    return list(dict.fromkeys(ordered + times + named + wrong))


def table():
    print(f"# numpy {numpy.__version__}, {sys.byteorder}-endian, long double of {numpy.dtype('g').itemsize} bytes")
    for word in spellings():
        said = meaning(word)
        print(word.replace("\t", "\\t"), *(said or ("-",)), sep="\t")


def ours(lines):
    """What test_dtype says of hexadecimal lines, a kind before each: "TEXT<TAB>BYTES", or "-<TAB>why"."""
    asked = "".join(f"{kind} {text.hex()}\n" for kind, text in lines)
    done = subprocess.run([READER, "-"], input=asked, capture_output=True, text=True, check=False, timeout=120)
    ensure(done.returncode == 0, f"{READER}: {done.stderr}")
    answers = [line.split("\t") for line in done.stdout.splitlines()]
    ensure(len(answers) == len(lines), f"{len(answers)} answers to {len(lines)} questions")
    return answers


def same_table():
    """The table in the sources is what numpy says here"""
    with open(TABLE, encoding="utf-8") as file:
        head = file.readline()
    ensure(head.startswith("# numpy "), head)
    if f" {numpy.__version__}, {sys.byteorder}" not in head:
        return  # made with another numpy; the unit test reads it all the same
    done = subprocess.run([sys.executable, os.path.abspath(__file__), "--table"], capture_output=True, text=True,
                          check=True, timeout=60)
    with open(TABLE, encoding="utf-8") as file:
        ensure(file.read() == done.stdout, "words.py --table prints another one")


def random_words():
    """Words made at random mean what they mean to numpy, or are refused where it refuses them"""
    draw = random.Random(15)
    pieces = ["<", ">", "|", "=", "f", "i", "u", "c", "b", "S", "U", "V", "M", "m", "M8", "m8", "datetime64", "8", "4",
              "16", "2", "1", "0", "[", "]", "/", "12", "int", "float", "_", "bool", "64", "32", " ", "+", "O", "?", "d",
              "generic", "L", "q", "s", "ns", "D", "W", "Y"]
    stock = spellings()
    words = set()
    while len(words) < WORDS:
        if draw.random() < 0.5:
            words.add("".join(draw.choices(pieces, k=draw.randint(1, 6))))
        else:
            word = list(draw.choice(stock))
            for _ in range(draw.randint(1, 2)):
                place = draw.randrange(len(word) + 1)
                word[place:place + draw.randint(0, 1)] = draw.choice(pieces)
            words.add("".join(word))
    words = sorted(words)
    compare(words, [("w", word.encode()) for word in words], [meaning(word) for word in words])


def compare(shown, asked, numpys, tell_bytes=True):
    bad = []
    for word, answer, said in zip(shown, ours(asked), numpys):
        ok = answer[0] == "-" if said is None else answer[0] != "-" and (answer[0], int(answer[1])) == said
        if not ok:
            bad.append(f"{word!r}: numpy {said}, here {answer}")
    ensure(not bad, f"{len(bad)} of {len(shown)} differ: {bad[:10]}")


# -- descriptions of structures --------------------------------------------------------------------------------------


def random_descr(draw, depth=0):
    words = ["<f8", "f8", ">i2", "|i4", "b", "?", "U3", "S0", "S", "V4", "V", "M8[D/2]", "uint8", "d", "|O", "f7"]
    names = ["a", "b", "c", "", "gr\u00f6\u00dfe", "it's", 'q"', "\\", "x\n", "T"]
    if depth > 2 or (depth and draw.random() < 0.7):
        kind = draw.choices(words, [9] * (len(words) - 2) + [1, 1])[0]
    else:
        kind = []
        for _ in range(draw.randint(0, 4)):
            name = draw.choice(names)
            field = [(draw.choice(names), name) if draw.random() < 0.15 else name, random_descr(draw, depth + 1)]
            if draw.random() < 0.3:
                field.append(draw.choice([(), (2,), (2, 3), 3, 1, 0, [2], (0,), (1,)]))
            kind.append(tuple(field))
    # A shape of a shape of nothing is a width to numpy; here it is refused.
    if depth and draw.random() < 0.1 and isinstance(kind, str) and kind not in ("S0", "S", "V"):
        return kind, draw.choice([(2,), 2, (3, 1), ()])
    return kind


def random_headers():
    """Structures made at random are read as numpy reads them, field by field, or refused where it refuses them"""
    draw = random.Random(16)
    shown, asked, numpys = [], [], []
    for _ in range(HEADERS):
        descr = random_descr(draw)
        text = repr({"descr": descr, "fortran_order": False, "shape": (0,)}) + "\n"
        try:
            dtype = npy.descr_to_dtype(descr)
            said = None if "'|O'" in text or dtype.subdtype else dtype
        except (ValueError, TypeError, SyntaxError, IndexError):
            said = None
        shown.append(descr)
        asked.append(("h", b"\x93NUMPY\x03\x00" + struct.pack("<I", len(text.encode())) + text.encode()))
        numpys.append(said)
    from treecast._mapping import dtype_of
    bad = []
    for descr, answer, said in zip(shown, ours(asked), numpys):
        if answer[0] == "-" or said is None:
            ok = answer[0] == "-" and said is None
        else:
            back = dtype_of(json.loads(answer[0]) if answer[0][0] == "[" else answer[0])
            ok = back == said and int(answer[1]) == said.itemsize
        if not ok:
            bad.append(f"{descr!r}: numpy {said}, here {answer}")
    ensure(not bad, f"{len(bad)} of {len(shown)} differ: {bad[:6]}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # that numpy will read this or that otherwise one day
    if sys.argv[1:] == ["--table"]:
        table()
    else:
        run_tests(same_table, random_words, random_headers)
