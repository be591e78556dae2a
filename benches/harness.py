"""The parts of every row: its description, its clock and its start gate.

A row is a function `(mp, context) -> Reading`. It runs in a process of its own, so that nothing that one
measurement leaves behind (a warm fork server, a grown heap) reaches the next.
"""

import os
import time
from collections import namedtuple

SECONDS = float(os.environ.get("BENCH_SECONDS", "0.5"))

Row = namedtuple("Row", "name title unit start_method lower_is_better measure")

# value: in the row's unit; cpu_us: microseconds of CPU that one operation took on all sides together;
# survives: whether a message arrived whose producer was killed right after `put`.
Reading = namedtuple("Reading", "value cpu_us survives", defaults=(None, None))

ROWS: dict[str, Row] = {}


def row(title, unit="1/s", start_method="fork", lower_is_better=False):
    """Registers the decorated function as a row named `<family>.<function>`."""

    def register(measure):
        name = f"{measure.__module__.rpartition('.')[2]}.{measure.__name__}"
        ROWS[name] = Row(name, title, unit, start_method, lower_is_better, measure)
        return measure

    return register


def steady(work, per_call=1.0, first=200):
    """The rate of `work(n)`, which does n operations and returns how many seconds they took.

    n grows until one run is long enough; only that run counts.
    """
    n = first
    while True:
        cpu = cpu_seconds()
        seconds = work(n)
        cpu = cpu_seconds() - cpu
        if seconds >= SECONDS:
            return Reading(n * per_call / seconds, cpu * 1e6 / n)
        n = int(n * min(50.0, max(1.3, 1.2 * SECONDS / max(seconds, 1e-6)))) + 1


def clocked(loop):
    """Makes a `work(n)` for `steady` of a function that merely does n operations."""

    def work(n):
        started = time.perf_counter()
        loop(n)
        return time.perf_counter() - started

    return work


def cpu_seconds():
    """CPU time of this process, of the children it has reaped, and of those that still run."""
    reaped = os.times()
    running = sum(map(_cpu_of, descendants()))
    return time.process_time() + reaped.children_user + reaped.children_system + running


def descendants():
    """The ids of all live processes below this one."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    parents[int(entry)] = int(stat.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
    family = {os.getpid()}
    while True:
        born = {pid for pid, parent in parents.items() if parent in family} - family
        if not born:
            return sorted(family - {os.getpid()})
        family |= born


def _cpu_of(pid):
    try:
        # The kernel's number for "the CPU clock of process pid", as clock_getcpuclockid(3) makes it.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


class StartGate:
    """Children wait here until the clock has started, without any queue or lock under test."""

    def __init__(self):
        self._arrived, self._arrive = os.pipe()
        self._opened, self._open = os.pipe()

    def arrive(self):
        """In a child: reports that it is ready, and waits for the start."""
        os.write(self._arrive, b".")
        os.read(self._opened, 1)

    def finish(self):
        """In a child: reports that it is done."""
        os.write(self._arrive, b".")

    def open(self, children):
        """Waits until all are ready, starts them, and returns the time of the start."""
        self.wait(children)
        started = time.perf_counter()
        os.write(self._open, b"." * children)
        return started

    def wait(self, children):
        """Waits for that many reports of children."""
        while children:
            children -= len(os.read(self._arrived, children))

    def close(self):
        for descriptor in (self._arrived, self._arrive, self._opened, self._open):
            os.close(descriptor)


def together(context, children, work):
    """Seconds that `work(gate)` takes here while children run the `(target, args)` pairs."""
    gate = StartGate()
    processes = [context.Process(target=target, args=(gate, *args)) for target, args in children]
    for process in processes:
        process.start()
    started = gate.open(len(processes))
    work(gate)
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    gate.close()
    return seconds
