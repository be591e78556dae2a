"""What operations cost as more is in use.

    python benches/growth.py                    all tables, beside the standard library
    python benches/growth.py notify_all         one of them

Each size runs in a process of its own, five times; the least counts.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

SIZES = {}


def table(*sizes):
    """A table at these sizes."""

    def add(function):
        SIZES[function.__name__] = (function, sizes)
        return function

    return add


def _waiting(mp, count):
    """Threads that wait for a condition, and what is set when all of them went on."""
    cond, done, went_on = mp.Condition(), threading.Event(), []

    def wait():
        with cond:
            cond.wait()
            went_on.append(1)
            if len(went_on) == count:
                done.set()

    threading.stack_size(64 * 1024)
    for _ in range(count):
        threading.Thread(target=wait, daemon=True).start()
    while cond._sleeping_count.get_value() < count:
        time.sleep(0.01)
    return cond, done


@table(10, 100, 1000, 4000)
def notify_all(mp, count):
    """Seconds until so many waiting threads went on."""
    cond, done = _waiting(mp, count)
    begun = time.perf_counter()
    with cond:
        cond.notify_all()
    done.wait()
    return time.perf_counter() - begun


@table(10, 100, 1000, 4000)
def notify_one_of(mp, count):
    """Seconds to notify one of so many."""
    cond, _ = _waiting(mp, count)
    begun = time.perf_counter()
    with cond:
        cond.notify()
    return time.perf_counter() - begun


@table(10, 100, 300)
def notify_all_processes(mp, count):
    """Seconds until so many waiting processes went on."""
    context = mp.get_context("fork")
    cond, went_on = context.Condition(), context.Semaphore(0)

    def wait():
        with cond:
            cond.wait()
        went_on.release()

    processes = [context.Process(target=wait, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    while cond._sleeping_count.get_value() < count:
        time.sleep(0.01)
    begun = time.perf_counter()
    with cond:
        cond.notify_all()
    for _ in processes:
        went_on.acquire()
    return time.perf_counter() - begun


@table(10, 100, 1000)
def wakeups_of_waiting_threads(mp, count):
    """How often so many threads wake up in a second that wait for an event."""
    event = mp.Event()
    threading.stack_size(64 * 1024)
    for _ in range(count):
        threading.Thread(target=event.wait, daemon=True).start()
    time.sleep(2)
    before = _switches()
    time.sleep(4)
    return (_switches() - before) / 4


def _switches():
    count = 0
    for task in os.listdir("/proc/self/task"):
        status = Path("/proc/self/task", task, "status").read_text()
        count += sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
    return count


def _once(name, size, package):
    command = [sys.executable, __file__, name, str(size), package]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(names):
    """Prints the tables."""
    for name in names or SIZES:
        function, sizes = SIZES[name]
        print(f"{name}: {function.__doc__}")
        for size in sizes:
            ours, theirs = (
                min(_once(name, size, package) for _ in range(5))
                for package in ("procession", "multiprocessing")
            )
            print(f"  {size:8}  {ours:12.6f}  standard library {theirs:12.6f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        import importlib

        found, _ = SIZES[sys.argv[1]]
        print(found(importlib.import_module(sys.argv[3]), int(sys.argv[2])), flush=True)
        # What still waits is not waited for.
        os._exit(0)
    main(sys.argv[1:])
