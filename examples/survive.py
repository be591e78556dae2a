"""What the standard library cannot do, beside it: `python examples/survive.py`.

Each scenario runs twice, with `procession` and with `multiprocessing`, in a process of its own that is killed
with all its children when it takes longer than the limit. `python examples/survive.py lock multiprocessing`
runs one scenario here.
"""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy

from checked import Ran, program, run

__all__ = ["SCENARIOS", "Scenario", "main", "measure", "show_all"]

SECONDS_UNTIL_IT_HANGS = 3.0
SECONDS_FOR_ARRAYS = 10.0
GIGABYTE = 10**9
ARRAY_SIZE = 50_000_000


@dataclass(frozen=True)
class Scenario:
    """One program, what it must print with `procession`, and how long it may take."""

    title: str
    run: Callable[[Any], str]
    expected: str
    limit: float = SECONDS_UNTIL_IT_HANGS
    when_late: str = "hangs"


def killed_worker(multiprocessing: Any) -> str:
    """A worker is killed in the middle of a map; then the same pool runs another one."""
    with multiprocessing.Pool(2) as pool:
        try:
            pool.map(die_at_three, range(6), chunksize=1)
            told = "no error"
        except multiprocessing.ProcessError as error:
            told = type(error).__name__
        return f"{told}, then {pool.map(abs, [-1, -2])}"


def die_at_three(number: int) -> int:
    """A task that some inputs bring down."""
    if number == 3:
        die()
    return number


def killed_holder(multiprocessing: Any) -> str:
    """A process is killed while it holds a lock."""
    lock = multiprocessing.Lock()
    holder = multiprocessing.Process(target=take_and_die, args=(lock,))
    holder.start()
    holder.join()
    try:
        lock.acquire()
        told = "no error"
    except multiprocessing.ProcessError as error:
        told = type(error).__name__
    with lock:
        return f"{told}, then acquired"


def take_and_die(lock: Any) -> None:
    """Die with the lock in hand."""
    lock.acquire()
    die()


def killed_producer(multiprocessing: Any) -> str:
    """A process is killed right after `put`."""
    queue = multiprocessing.Queue()
    multiprocessing.Process(target=put_and_die, args=(queue,)).start()
    return queue.get()


def put_and_die(queue: Any) -> None:
    """Die as soon as `put` returns."""
    queue.put("the message is there")
    die()


def gigabyte(multiprocessing: Any) -> str:
    """1 GB of numpy arrays goes to another process and comes back."""
    here, there = multiprocessing.Pipe()
    echo = multiprocessing.Process(target=send_back, args=(there,))
    echo.start()
    array = numpy.ones(ARRAY_SIZE // 8)
    rounds = GIGABYTE // ARRAY_SIZE
    total = 0.0
    for _ in range(rounds):
        here.send(array)
        total += here.recv()[-1]
    here.send(None)
    echo.join()
    return f"{total:.0f} arrays of 50 MB"


def send_back(connection: Any) -> None:
    """Return each array."""
    while (array := connection.recv()) is not None:
        connection.send(array)


def die() -> None:
    """As the out-of-memory killer does it."""
    os.kill(os.getpid(), signal.SIGKILL)


SCENARIOS = {
    "worker": Scenario("a worker is killed in the middle of a map", killed_worker, "WorkerDied, then [1, 2]"),
    "lock": Scenario("a process is killed while it holds a lock", killed_holder, "OwnerDied, then acquired"),
    "queue": Scenario("a producer is killed right after put", killed_producer, "the message is there"),
    "arrays": Scenario(
        "1 GB of arrays goes there and back",
        gigabyte,
        "20 arrays of 50 MB",
        SECONDS_FOR_ARRAYS,
        when_late="is not done yet",
    ),
}


def measure(name: str, module: str) -> Ran:
    """Run a scenario in a process of its own."""
    return run(program("survive.py", name, module), SCENARIOS[name].limit, with_stacks=False)


def show_all() -> list[str]:
    """Print how each scenario ends with both modules; return what is wrong with `procession`."""
    with ThreadPoolExecutor() as threads:
        # The ones that hang do so at the same time; the one that is timed runs alone.
        hanging = {
            name: threads.submit(measure, name, "multiprocessing")
            for name, scenario in SCENARIOS.items()
            if scenario.when_late == "hangs"
        }
        wrong = []
        for name, scenario in SCENARIOS.items():
            ours = measure(name, "procession")
            theirs = hanging[name].result() if name in hanging else measure(name, "multiprocessing")
            print(f"{scenario.title}")
            print(f"  procession       {told(ours, scenario)}")
            print(f"  multiprocessing  {told(theirs, scenario)}", flush=True)
            if not ours.output.endswith(f" s: {scenario.expected}\n"):
                wrong.append(f"{scenario.title}: {ours.problem(scenario.expected)}")
        return wrong


def told(ran: Ran, scenario: Scenario) -> str:
    """How a run ended, in a line."""
    if ran.hung:
        return f"{scenario.when_late} (killed after {scenario.limit:g} s)"
    last_error = (ran.errors.splitlines() or [""])[-1]
    return ran.output.strip() or f"ends with status {ran.status}: {last_error}"


def run_here(name: str, module: str) -> None:
    """Run one scenario with one module; print its time and what came of it."""
    multiprocessing = importlib.import_module(module)
    started = time.perf_counter()
    outcome = SCENARIOS[name].run(multiprocessing)
    print(f"{time.perf_counter() - started:.2f} s: {outcome}")


def main() -> int:
    """All scenarios with both modules, or the one that the command line names."""
    if len(sys.argv) == 3:
        run_here(*sys.argv[1:])
        return 0
    wrong = show_all()
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
