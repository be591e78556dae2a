"""Pools whose workers another library starts: the engine's table of processes has no entry for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest

from procession.pool import Pool

LIMIT = 30.0


def square(x: int) -> int:
    return x * x


def pid_of_task(_: int) -> int:
    return os.getpid()


def fail() -> None:
    raise ValueError("no start")


class StdlibProcesses(Pool):
    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        return multiprocessing.get_context("fork").Process(*args, **kwds)


@pytest.fixture(params=["fork", "spawn"])
def foreign(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.get_context(request.param)


def test_a_pool_of_the_stdlibs_processes_works_and_ends(foreign: Any) -> None:
    pool = Pool(2, context=foreign)
    try:
        workers = list(pool._pool)
        assert pool.map_async(square, range(6)).get(LIMIT) == [0, 1, 4, 9, 16, 25]
    finally:
        pool.terminate()
    pool.join(LIMIT)
    assert all(worker.exitcode is not None for worker in workers)


def test_a_with_statement_leaves_none_of_the_stdlibs_processes(foreign: Any) -> None:
    with Pool(2, context=foreign) as pool:
        workers = list(pool._pool)
        assert pool.apply_async(square, (3,)).get(LIMIT) == 9
        pool.apply_async(time.sleep, (600,))
    assert all(worker.exitcode is not None for worker in workers)


def test_the_stdlibs_processes_are_replaced_after_their_last_task(foreign: Any) -> None:
    with Pool(2, maxtasksperchild=1, context=foreign) as pool:
        pids = pool.map_async(pid_of_task, range(10), 1).get(LIMIT)
        assert len(set(pids)) == 10
        pool.close()
        pool.join(LIMIT)


def test_a_killed_process_of_the_stdlib_is_replaced(foreign: Any) -> None:
    with Pool(1, context=foreign) as pool:
        before = pool.apply_async(pid_of_task, (0,)).get(LIMIT)
        os.kill(before, signal.SIGKILL)
        assert pool.apply_async(pid_of_task, (0,)).get(LIMIT) != before


def test_a_pool_fails_its_tasks_when_no_process_of_the_stdlib_starts() -> None:
    with Pool(1, initializer=fail, context=multiprocessing.get_context("fork")) as pool:
        with pytest.raises(Exception, match="no worker of the pool could be started"):
            pool.apply_async(square, (3,)).get(LIMIT)


def test_an_override_may_make_processes_of_the_stdlib() -> None:
    with StdlibProcesses(2) as pool:
        workers = list(pool._pool)
        assert pool.map_async(square, range(4)).get(LIMIT) == [0, 1, 4, 9]
    pool.join(LIMIT)
    assert all(worker.exitcode is not None for worker in workers)
