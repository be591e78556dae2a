"""Tables: functions of a number that give seconds or bytes; each row is a process of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

OURS, STDLIB = "procession", "multiprocessing"
PACKAGE = "GROWTH_PACKAGE"
MIB = 1 << 20

# The package to measure.
mp: Any = importlib.import_module(os.environ.get(PACKAGE, OURS))
FORK: Any = mp.get_context("fork")


class Table(NamedTuple):
    """A function of a number: its meaning, its values, the unit, and whether to measure the stdlib too."""

    function: Callable[[int], float]
    what: str
    numbers: tuple[int, ...]
    unit: str
    beside: bool


TABLES: dict[str, Table] = {}


def table(
    what: str, numbers: tuple[int, ...], unit: str = "us", *, beside: bool = False
) -> Callable[..., Callable[[int], float]]:
    """Registers the decorated function as a table."""

    def add(function: Callable[[int], float]) -> Callable[[int], float]:
        TABLES[function.__name__] = Table(function, what, numbers, unit, beside)
        return function

    return add


def best(times: int, work: Callable[[], object]) -> float:
    """The shortest time: other programs can only make it longer."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def show(name: str) -> None:
    """Runs the rows of a table and prints them."""
    _, what, numbers, _, beside = TABLES[name]
    print(f"\n{name}: {(TABLES[name].function.__doc__ or '').rstrip('.')}, by {what}")
    for number in numbers:
        packages = (OURS, STDLIB) if beside else (OURS,)
        print(f"{number:>12,}", *(_row(name, number, package) for package in packages), flush=True)


def _row(name: str, number: int, package: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).parent), "--row", name, str(number)],
        env={**os.environ, PACKAGE: package},
        capture_output=True,
        text=True,
    )
    if ran.returncode and package == STDLIB:
        return f"{ran.stderr.splitlines()[-1]} (stdlib)"
    if ran.returncode:
        sys.exit(ran.stderr)
    value, unit = float(ran.stdout), TABLES[name].unit
    shown = value / MIB if unit == "MiB" else value * 1e6 if unit.startswith("us") else value
    return f"{shown:12.1f} {unit}" + (" (stdlib)" if package == STDLIB else "")
