"""Measures cost against size: messages from a byte to a gibibyte, pools from one worker to sixteen.

    python benches/curves.py           measures, and writes benches/curves.json
    python benches/curves.py --draw    draws benches/curves.svg of it (needs matplotlib)

Each point is a process of its own (`once.py`); the two sides take turns.
"""

import json
import sys
from pathlib import Path
from statistics import median

import run
import table

HERE = Path(__file__).parent
SIDES = {"multiprocessing": "multiprocessing", "Procession": "procession"}
REPEAT, SECONDS = 3, 0.2


def measure():
    """Median readings of all points of all curves."""
    from rows import curves

    points = {}
    for family, values in curves.CURVES.items():
        points[family] = {side: [] for side in SIDES}
        for value in values:
            readings = {side: [] for side in SIDES}
            for turn in range(REPEAT):
                for side in sorted(SIDES, reverse=turn % 2):
                    name = f"curves.{family}_{value}"
                    readings[side].append(run.measure(SIDES[side], name, SECONDS)["value"])
            for side, taken in readings.items():
                points[family][side].append([value, median(taken)])
            print(family, value, {side: table.number(median(taken)) for side, taken in readings.items()})
    return {"machine": table.machine(), "points": points}


def draw(results):
    """One picture with a panel for each curve."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "curves"
    from matplotlib import pyplot

    from rows import curves

    figure, panels = pyplot.subplots(1, len(results["points"]), figsize=(15, 4.2), layout="constrained")
    for panel, (family, sides) in zip(panels, results["points"].items(), strict=True):
        for side, points in sides.items():
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=side)
        title, x, y = curves.LABELS[family]
        panel.set(title=title, xlabel=x, ylabel=y, xscale="log", yscale="log")
        panel.grid(alpha=0.3)
        panel.legend()
    about = results["machine"]
    figure.suptitle(
        f"{about['cpu']}, {about['cpus']} CPUs, Python {about['python']}, {about['date']}", fontsize=9
    )
    figure.savefig(HERE / "curves.svg", metadata={"Date": None})


def main():
    file = HERE / "curves.json"
    if "--draw" not in sys.argv:
        file.write_text(json.dumps(measure(), indent=1) + "\n")
    else:
        draw(json.loads(file.read_text()))


if __name__ == "__main__":
    main()
