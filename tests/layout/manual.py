#!/usr/bin/python3
"""Manual pages: every page in doc/ is installed, and mandoc finds nothing wrong with it. Prints TAP."""

import glob
import os
import re
import shutil
import subprocess
import sys


def complaints(page):
    command = ["mandoc", "-T", "lint", "-W", "warning", page]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.splitlines() if answer.returncode else []


def missing_tests(top):
    """What treecast-security(7) names as the test of a promise, and is not there."""
    with open(os.path.join(top, "doc", "treecast-security.7"), encoding="utf-8") as page:
        named = set(re.findall(r"\b(?:hostile|unit|scenario|lab)/\w+\.(?:py|c)\b", page.read()))
    absent = sorted(name for name in named if not os.path.exists(os.path.join(top, "tests", name)))
    return absent if named else ["no test is named at all"]


def main():
    top = os.environ.get("top_srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    pages = sorted(glob.glob(os.path.join(top, "doc", "*.[1-8]")))
    with open(os.path.join(top, "doc", "doc.mk"), encoding="utf-8") as fragment:
        listed = set(re.findall(r"doc/\S+\.[1-8]\b", fragment.read()))
    there = {f"doc/{os.path.basename(page)}" for page in pages}

    print(f"1..{2 + len(pages)}")
    wrong = sorted(listed ^ there)
    print("not ok" if wrong else "ok", "1 - doc/doc.mk lists exactly the pages that exist")
    for page in wrong:
        print("#", page, "is not listed" if page in there else "does not exist")

    absent = missing_tests(top)
    print("not ok" if absent else "ok", "2 - every test that treecast-security(7) names is there")
    for name in absent:
        print("#", name)

    failed = bool(wrong or absent)
    for number, page in enumerate(pages, 3):
        name = os.path.basename(page)
        if not shutil.which("mandoc"):
            print(f"ok {number} - {name} is well formed # SKIP no mandoc")
            continue
        said = complaints(page)
        failed |= bool(said)
        print("not ok" if said else "ok", f"{number} - {name} is well formed")
        for line in said:
            print("#", line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
