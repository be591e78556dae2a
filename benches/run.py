"""The table: the standard library beside Procession, in the same run.

Each measurement is a process of its own. The two sides take turns, and the side that goes first alternates,
so that a machine that warms up or slows down affects both.

    python benches/run.py                           every row; writes benches/results.json
    python benches/run.py --only queue --repeat 9   the rows whose name has "queue" in it
    python benches/run.py --check --repeat 15        fails when a row misses its floor, or is surely slower
    python benches/run.py --rivals                  Procession beside the installed rivals
    python benches/run.py --list
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import median

import goals
import harness
import rivals
import rows
import table

HERE = Path(__file__).parent
STDLIB, OURS = "multiprocessing", "procession"
LIMIT_SECONDS = 60


def measure(package, name, seconds):
    """One reading in a fresh process, or a RuntimeError that says what went wrong."""
    process = subprocess.Popen(
        [sys.executable, HERE / "once.py", package, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "BENCH_SECONDS": str(seconds)},
    )
    try:
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise RuntimeError(f"still running after {LIMIT_SECONDS} s") from None
    if process.returncode:
        raise RuntimeError((err.strip().splitlines() or [f"exit status {process.returncode}"])[-1])
    return json.loads(out)


def measure_row(row, packages, repeat, seconds):
    """The readings of both sides, one record."""
    readings = {side: [] for side in packages}
    for turn in range(repeat):
        order = list(packages) if turn % 2 == 0 else list(reversed(packages))
        for side in order:
            readings[side].append(measure(packages[side], row.name, seconds))
    record = {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "lower_is_better": row.lower_is_better,
    }
    for side, taken in readings.items():
        kept = [reading["survives"] for reading in taken if reading["survives"] is not None]
        values = [reading["value"] for reading in taken]
        cpu = [reading["cpu_us"] for reading in taken if reading["cpu_us"] is not None]
        record[side] = {"median": median(values), "values": values, "cpu_us": median(cpu) if cpu else None}
        if kept:
            record[side]["survives"] = all(kept)
    if not row.lower_is_better:
        pairs = zip(record["ours"]["values"], record["stdlib"]["values"], strict=True)
        ratios = sorted(ours / stdlib for ours, stdlib in pairs)
        record["ratio"] = {"median": median(ratios), "low": ratios[0], "high": ratios[-1]}
    return record


def measure_rivals(row, package, repeat, seconds):
    """The readings of Procession and of every rival that has the row; one that fails has none."""
    sides = {"Procession": package}
    sides |= {rival: f"rival:{rival}" for rival in rivals.MODULES if row.name in rivals.contexts(rival)}
    if len(sides) == 1:
        return None
    readings = {side: [] for side in sides}
    for turn in range(repeat):
        for step in range(len(sides)):
            side = list(sides)[(turn + step) % len(sides)]
            try:
                readings[side].append(measure(sides[side], row.name, seconds)["value"])
            except RuntimeError as error:
                print(f"{side}: {error}", file=sys.stderr)
    medians = {side: median(taken) for side, taken in readings.items() if taken}
    return {"name": row.name, "title": row.title, "unit": row.unit, "rates": medians}


def main():
    parser = argparse.ArgumentParser(description="Measure Procession beside the standard library.")
    parser.add_argument("--only", action="append", help="rows whose name contains this (may be repeated)")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each side (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="least length of one (default 0.5)")
    parser.add_argument("--ours", default=OURS, help="the package to put beside the standard library")
    parser.add_argument("--json", type=Path, help="where to write (default: results.json, full runs only)")
    parser.add_argument("--check", action="store_true", help="fail when a row misses its goal (goals.py)")
    parser.add_argument("--rivals", action="store_true", help="measure the others that are installed")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    options = parser.parse_args()

    for family in rows.FAMILIES:
        importlib.import_module(f"rows.{family}")
    chosen = [
        row
        for row in harness.ROWS.values()
        if options.only is None or any(part in row.name for part in options.only)
    ]
    if options.list:
        print("\n".join(f"{row.name:28} {row.title}" for row in chosen))
        return 0
    if not chosen:
        parser.error("no row has such a name; see --list")

    machine, packages = table.machine(), {"stdlib": STDLIB, "ours": options.ours}
    records = []
    if options.rivals:
        for row in chosen:
            record = measure_rivals(row, options.ours, options.repeat, options.seconds)
            if record is not None:
                print(f"{row.title} ...", file=sys.stderr, flush=True)
                records.append(record)
        command = f"python benches/run.py --rivals --repeat {options.repeat} --seconds {options.seconds:g}"
        results = {"machine": machine, "command": command, "rows": records}
        print(table.render_rivals(results))
        if options.only is None:
            (HERE / "results-rivals.json").write_text(table.to_json(results))
        return 0
    for number, row in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {row.title} ...", file=sys.stderr, flush=True)
        try:
            record = measure_row(row, packages, options.repeat, options.seconds)
        except RuntimeError as error:
            record = {"name": row.name, "title": row.title, "unit": row.unit, "error": str(error)}
        records.append(record)
    command = f"python benches/run.py --repeat {options.repeat} --seconds {options.seconds:g}"
    results = {"machine": machine, "command": command, "rows": records}
    print(table.render(results))

    path = options.json or (HERE / "results.json" if options.only is None else None)
    if path:
        path.write_text(table.to_json(results))
    short = list(goals.shortfalls(records if options.check else [r for r in records if "error" in r]))
    print(*short, sep="\n", file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
