"""concurrent.futures.ProcessPoolExecutor: its whole life, with results beside a serial run's."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import proof

greeting = "nobody"


def square(n):
    return n * n


def fail(n):
    raise LookupError(n)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def initialize(text):
    global greeting
    greeting = text


def greet(n):
    return f"{greeting} {n}"


def pid():
    return os.getpid()


def executor(**options):
    return ProcessPoolExecutor(2, mp_context=proof.context(), **options)


def works():
    with executor() as pool:
        assert list(pool.map(square, range(100), chunksize=7)) == [n * n for n in range(100)]
        futures = {pool.submit(square, n): n for n in range(30)}
        assert all(future.result() == futures[future] ** 2 for future in as_completed(futures))
        large = bytes(300_000)
        assert list(pool.map(bytes.__add__, [large] * 3, [b"x"] * 3)) == [large + b"x"] * 3
        future = pool.submit(fail, 7)
        assert isinstance(future.exception(), LookupError) and future.exception().args == (7,)
        assert "in fail" in str(future.exception().__cause__)
        proof.check(pool.map(proof.home, range(10)))


def initializes():
    with executor(initializer=initialize, initargs=("hello",)) as pool:
        assert list(pool.map(greet, range(5))) == [f"hello {n}" for n in range(5)]


def refreshes():
    if proof.METHOD != "fork":
        # One worker and one task at a time: with more, the executor itself loses count of its idle workers.
        with ProcessPoolExecutor(1, mp_context=proof.context(), max_tasks_per_child=2) as pool:
            pids = [pool.submit(pid).result() for _ in range(6)]
            assert len(set(pids)) == 3 and pids[::2] == pids[1::2]


def breaks():
    pool = executor()
    # The first worker: the executor may not look at one that it starts later, while all are busy.
    assert isinstance(pool.submit(die).exception(), BrokenProcessPool)
    try:
        pool.submit(square, 1)
    except BrokenProcessPool:
        pool.shutdown()
    else:
        raise AssertionError("a broken pool took work")
    with executor(initializer=fail, initargs=(1,)) as pool:
        assert isinstance(pool.submit(square, 1).exception(), BrokenProcessPool)


def cancels():
    pool = executor()
    futures = [pool.submit(square, n) for n in range(200)]
    pool.shutdown(cancel_futures=True)
    assert all(future.cancelled() or future.result() == n * n for n, future in enumerate(futures))


if __name__ == "__main__":
    for step in (works, initializes, refreshes, breaks, cancels):
        step()
    print("done")
