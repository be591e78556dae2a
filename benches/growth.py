"""What an operation costs against what is in use: each table at 1x, 10x and 100x.

    python benches/growth.py                 all tables
    python benches/growth.py start           those whose names begin so

A table is a function `name(n) -> seconds, or bytes`, in a process of its own for each n.
"""

import os
import subprocess
import sys
import time

import procession as mp

FORK = mp.get_context("fork")


def median(samples):
    return sorted(samples)[len(samples) // 2]


def seconds(work, times=11):
    """What it takes once, as a rule."""
    samples = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        samples.append(time.perf_counter() - begun)
    return median(samples)


def nothing():
    pass


def start_and_join():
    process = FORK.Process(target=nothing)
    process.start()
    process.join()


def plain_fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def start_with_objects(n):
    """Start and join of a process by fork, while the parent has n locks open."""
    _locks = [FORK.Lock() for _ in range(n)]
    start_and_join()
    return seconds(start_and_join)


def fork_with_objects(n):
    """A plain os.fork whose child ends at once, while the parent has n locks open."""
    _locks = [FORK.Lock() for _ in range(n)]
    plain_fork()
    return seconds(plain_fork)


def start_with_objects_and_20_holders(n):
    """Start and join, while the parent and 20 other processes have n locks open."""
    _locks = [FORK.Lock() for _ in range(n)]
    go = FORK.Event()
    others = [FORK.Process(target=go.wait) for _ in range(20)]
    for other in others:
        other.start()
    taken = seconds(start_and_join)
    go.set()
    for other in others:
        other.join()
    return taken


def memory_of_20_holders(n):
    """Bytes that 20 processes take more which have n locks open."""
    _locks = [FORK.Lock() for _ in range(n)]
    before = mp.memory_info()["in_use"]
    go = FORK.Event()
    others = [FORK.Process(target=go.wait) for _ in range(20)]
    for other in others:
        other.start()
    more = mp.memory_info()["in_use"] - before
    go.set()
    for other in others:
        other.join()
    return more


def fork_with_arrays(n):
    """A plain os.fork whose child ends at once, while the parent holds n received arrays of 40 kB."""
    import numpy as np

    box, arrays = mp.Queue(), []
    for _ in range(n):
        box.put(np.zeros(5000))
        arrays.append(box.get())
    return seconds(plain_fork, 1)


TABLES = [
    (start_with_objects, (0, 1_000, 10_000, 100_000)),
    (fork_with_objects, (0, 1_000, 10_000, 100_000)),
    (start_with_objects_and_20_holders, (0, 1_000, 10_000, 100_000)),
    (memory_of_20_holders, (1_000, 10_000, 100_000)),
    (fork_with_arrays, (100, 1_000, 10_000)),
]


def in_a_process_of_its_own(table, n):
    done = subprocess.run([sys.executable, __file__, table.__name__, str(n)], capture_output=True, check=True)
    return float(done.stdout)


def shown(table, value):
    return f"{value:,.0f} B" if table.__name__.startswith("memory") else f"{value * 1e3:.2f} ms"


def main():
    if len(sys.argv) > 2:
        (table,) = [table for table, _ in TABLES if table.__name__ == sys.argv[1]]
        print(table(int(sys.argv[2])))
        return
    prefix = sys.argv[1] if len(sys.argv) > 1 else ""
    for table, sizes in TABLES:
        if table.__name__.startswith(prefix):
            print(f"{table.__name__}: {table.__doc__}")
            for n in sizes:
                print(f"    {n:>9,}  {shown(table, in_a_process_of_its_own(table, n))}", flush=True)


if __name__ == "__main__":
    main()
