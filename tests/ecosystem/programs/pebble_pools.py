"""pebble: its ProcessPool with timeouts, dying workers and cancels, and functions that run as processes."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import CancelledError, TimeoutError

import proof
from pebble import ProcessExpired, ProcessPool, concurrent


def square(n):
    return n * n


def fail(n):
    raise LookupError(n)


def die(when):
    while not os.path.exists(when):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


@concurrent.process(context=proof.context())
def decorated(n):
    return n + 1, proof.home()


@concurrent.process(context=proof.context(), timeout=0.5)
def endless():
    time.sleep(3600)


def expect(error, future):
    try:
        future.result()
    except error:
        return
    raise AssertionError(f"not {error}")


if __name__ == "__main__":
    with ProcessPool(2, context=proof.context(), max_tasks=5) as pool:
        futures = [pool.schedule(square, args=(n,)) for n in range(30)]
        assert [future.result() for future in futures] == [n * n for n in range(30)]
        assert list(pool.map(square, range(20), chunksize=3).result()) == [n * n for n in range(20)]
        expect(LookupError, pool.schedule(fail, args=(1,)))
        expect(TimeoutError, pool.schedule(time.sleep, args=(3600,), timeout=0.5))
        killed = pool.schedule(die, args=("now",))
        # Until the pool knows who runs the task it can't say whose death it was.
        while not killed.running():
            time.sleep(0.01)
        open("now", "w").close()
        expect(ProcessExpired, killed)
        cancelled = pool.schedule(time.sleep, args=(3600,))
        assert cancelled.cancel()
        expect(CancelledError, cancelled)
        proof.check([pool.schedule(proof.home).result()])
    answer, home = decorated(1).result()
    assert answer == 2
    proof.check([home])
    expect(TimeoutError, endless())
    print("done")
