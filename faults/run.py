"""Provoke faults, and report whether programs survive them, with this package and with the standard library.

    python -m faults.run                       every fault, every start method, 20 times; the stdlib once
    python -m faults.run --only lock --repeat 1 --method fork

Each run of a case is a program of its own. It survives if it ends by itself, finds nothing wrong, and leaves
no process and no file behind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults import catalogue

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("fork", "forkserver", "spawn")
OURS, STDLIB = "procession", "multiprocessing"

# A case that takes longer counts as hanging, in seconds.
LIMIT = {OURS: 30.0, STDLIB: 15.0}
LIMIT_OF_LONG_ONES = 240.0
# How long the processes of a case may take to end after it, in seconds.
CLEAN_WITHIN = 2.0

SURVIVED, HANGS, LEAVES = "survives", "hangs", "leaves processes"


def run_case(name: str, package: str, method: str) -> tuple[str, str]:
    """Run one case once; return the outcome and the details."""
    limit = LIMIT_OF_LONG_ONES if catalogue.FAULTS[name].once else LIMIT[package]
    folder = tempfile.mkdtemp(prefix="fault-")
    environment = {
        **os.environ,
        "FAULTS_PACKAGE": package,
        "FAULTS_METHOD": method,
        "TMPDIR": folder,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    try:
        with tempfile.TemporaryFile("w+") as output:
            case = subprocess.Popen(
                [sys.executable, "-m", "faults.one", name],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            code = _end_of(case, limit)
            left = list(_others_of_session(case.pid))
            if code is not None:
                left = _wait_for_end(case.pid)
            for pid in left:
                _kill(pid)
            output.seek(0)
            said = output.read()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if code is None:
        return HANGS, said
    if code != 0:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), f"exit code {code}")
        return f"fails: {last.strip()[:150]}", said
    return (LEAVES, said) if left else (SURVIVED, said)


def _end_of(case: subprocess.Popen[bytes], limit: float) -> int | None:
    try:
        return case.wait(limit)
    except subprocess.TimeoutExpired:
        # It prints its stacks for the report.
        _kill(case.pid, signal.SIGUSR1)
        time.sleep(0.2)
        case.kill()
        case.wait()
        return None


def _wait_for_end(session: int) -> list[int]:
    limit = time.monotonic() + CLEAN_WITHIN
    while left := list(_others_of_session(session)):
        if time.monotonic() > limit:
            break
        time.sleep(0.02)
    return left


def _others_of_session(session: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != session:
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                yield int(entry.name)


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Report:
    """The outcomes so far, counted by case, package and start method."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str, str], Counter[str]] = {}
        self._lock = threading.Lock()

    def add(self, key: tuple[str, str, str], outcome: str, details: str) -> None:
        with self._lock:
            self.seen.setdefault(key, Counter())[outcome] += 1
            if outcome != SURVIVED and key[1] == OURS:
                print(f"\n== {key[0]}, {key[2]}: {outcome}\n{details}", file=sys.stderr, flush=True)

    def table(self, methods: list[str]) -> str:
        rows = ["| fault | " + " | ".join(f"{m}: ours / stdlib" for m in methods) + " |"]
        rows.append("|---" * (len(methods) + 1) + "|")
        for name, fault in catalogue.FAULTS.items():
            if not any(key[0] == name for key in self.seen):
                continue
            cells = [f"{self._cell(name, OURS, m)} / {self._cell(name, STDLIB, m)}" for m in methods]
            rows.append(f"| {fault.group}: {fault.what} | {' | '.join(cells)} |")
        return "\n".join(rows)

    def _cell(self, name: str, package: str, method: str) -> str:
        outcomes = self.seen.get((name, package, method))
        if not outcomes:
            return "-"
        total = outcomes.total()
        if outcomes[SURVIVED] == total:
            return SURVIVED if total == 1 else f"{total} of {total}"
        worst = next(o for o in (HANGS, LEAVES, *outcomes) if outcomes[o])
        short = "fails" if worst.startswith("fails") else worst
        return f"**{short}**" if total == 1 else f"**{short}, {outcomes[worst]} of {total}**"

    def failures(self) -> int:
        ours = (outcomes for key, outcomes in self.seen.items() if key[1] == OURS)
        return sum(outcomes.total() - outcomes[SURVIVED] for outcomes in ours)

    def summary(self) -> str:
        lines = []
        for package in (OURS, STDLIB):
            of_it = {key: outcomes for key, outcomes in self.seen.items() if key[1] == package}
            runs = sum(outcomes.total() for outcomes in of_it.values())
            whole = sum(outcomes[SURVIVED] == outcomes.total() for outcomes in of_it.values())
            hangs = sum(outcomes[HANGS] for outcomes in of_it.values())
            if of_it:
                lines.append(f"{package}: {whole} of {len(of_it)} survived, {runs} runs, {hangs} hangs")
        return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for; the exit code is the number of our failed runs."""
    parser = argparse.ArgumentParser(description="Provoke faults and see what becomes of the program.")
    parser.add_argument("--only", action="append", help="cases whose name or group contains this")
    parser.add_argument("--method", action="append", choices=METHODS, help="start methods (default: all)")
    parser.add_argument("--repeat", type=int, default=20, help="runs of each case with this package")
    parser.add_argument("--no-stdlib", action="store_true", help="leave the standard library out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at a time")
    parser.add_argument("--json", type=Path, help="where to write what was seen")
    options = parser.parse_args()

    methods = options.method or list(METHODS)
    chosen = [
        fault
        for fault in catalogue.FAULTS.values()
        if not options.only or any(part in f"{fault.group} {fault.name}" for part in options.only)
    ]
    jobs = []
    for fault in chosen:
        for method in methods:
            jobs += [(fault.name, OURS, method)] * (1 if fault.once else options.repeat)
            if not options.no_stdlib and not fault.extension:
                jobs.append((fault.name, STDLIB, method))
    report = Report()
    # A shell starts background jobs with SIGINT ignored, and the cases would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shared_before = set(os.listdir("/dev/shm"))
    with ThreadPoolExecutor(options.jobs) as threads:
        for _ in threads.map(lambda key: report.add(key, *run_case(*key)), jobs):
            pass
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}\n")
    print(report.table(methods))
    print(f"\n{report.summary()}")
    if left := set(os.listdir("/dev/shm")) - shared_before:
        print(f"left in /dev/shm, by whichever package: {sorted(left)}")
    if options.json:
        seen = [[*key, dict(outcomes)] for key, outcomes in report.seen.items()]
        options.json.write_text(json.dumps(seen, indent=1))
    return min(report.failures(), 99)


if __name__ == "__main__":
    sys.exit(main())
