#!/usr/bin/python3
"""The figure of the notebook's measurements: figure.py RESULTS.json [...] FILE.svg FILE.png

Results are what bench.py -o has written of the rows notebook-push and notebook-hosts. Needs matplotlib.
make bench BENCH='notebook-* -o notebook.json' && tests/bench/figure.py notebook.json doc/notebook.svg doc/notebook.png
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "treecast"  # the same picture from the same numbers

import matplotlib.pyplot as plt

WAYS = [("push", "rc[:].push", "#b0b0b0"), ("broadcast", "broadcast view", "#8c8c8c"),
        ("repaired", "the notebook, repaired", "#6a8caf"), ("bcast_memmap", "treecast\nbcast_memmap", "#c44e52")]
MIB = 1 << 20


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def draw(axes, row, title):
    for place, (way, label, color) in enumerate(reversed(WAYS)):
        times = row["seconds"][way]
        value = median(times)
        axes.barh(place, value, color=color, height=0.7)
        axes.plot(times, [place] * len(times), "|", color="black", markersize=6)  # each repetition
        axes.text(max(times), place, f"  {value:.2f} s", va="center", fontsize=9)
    axes.set_yticks(range(len(WAYS)), [label for _, label, _ in reversed(WAYS)], fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("seconds until every engine has the array", fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.set_xlim(0, 1.18 * max(max(times) for times in row["seconds"].values()))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main():
    results = [path for path in sys.argv[1:] if path.endswith(".json")]
    files = sys.argv[1 + len(results):]
    if not results or not files:
        raise SystemExit(__doc__)
    rows = {}
    for path in results:
        with open(path, encoding="utf-8") as file:
            rows.update((row["name"], row) for row in json.load(file)["rows"])
    one, many = rows["notebook-push"], rows["notebook-hosts"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.9))
    draw(left, one, f"{one['bytes'] // MIB} MiB, {one['engines']} engines on one host")
    draw(right, many, f"{many['bytes'] // MIB} MiB, {many['engines']} engines on {many['hosts']} hosts, "
                      f"{many['rate_mbit']} Mbit/s")
    right.axvline(many["copy"], color="black", linewidth=0.8, linestyle=":")
    right.set_ylim(-0.95, len(WAYS) - 0.5)
    right.text(many["copy"], -0.9, " one plain copy over one link", fontsize=8, va="bottom")
    figure.tight_layout()
    for file in files:
        figure.savefig(file, dpi=110, metadata={"Date": None} if file.endswith(".svg") else None)


if __name__ == "__main__":
    main()
