"""Tasks that fork: the forked copy of a worker returns from the task like its parent."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import procession

LIMIT = 30.0


def wait_for(path: Path) -> None:
    limit = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < limit, f"{path} did not appear"
        time.sleep(0.002)


def fork_and_tell(path: Path) -> bool:
    """Forks, and returns whether this is the copy, which writes its process number to a file."""
    if os.fork():
        wait_for(path)
        return False
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    return True


def wait_for_end_of_copy(path: Path) -> None:
    """Waits until the copy, whose number it wrote down, is gone; its parent does not collect it."""
    pid = int(path.read_text())
    limit = time.monotonic() + LIMIT
    while Path(f"/proc/{pid}").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < limit, f"the copy {pid} goes on"
        time.sleep(0.002)


def pid_after_a_moment(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def fork_and_come_back(path: Path) -> int:
    fork_and_tell(path)
    return os.getpid()


def test_a_task_that_forks_makes_no_second_worker(ctx: Any, tmp_path: Path) -> None:
    """The copy that returns from the task ends: the worker keeps the task's result and the other tasks."""
    path = tmp_path / "copy"
    with ctx.Pool(1) as pool:
        [worker] = pool._pool
        assert pool.apply(fork_and_come_back, (path,)) == worker.pid
        wait_for_end_of_copy(path)
        assert set(pool.map(pid_after_a_moment, range(20), 1)) == {worker.pid}


class ForksWhenPickled:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        fork_and_tell(self.path)
        return int, (os.getpid(),)


def test_a_result_that_forks_as_it_is_pickled_is_sent_once(ctx: Any, tmp_path: Path) -> None:
    """The worker sends it; the copy ends, and does no other task."""
    path = tmp_path / "copy"
    with ctx.Pool(1) as pool:
        [worker] = pool._pool
        assert pool.apply(ForksWhenPickled, (path,)) == worker.pid
        wait_for_end_of_copy(path)
        assert set(pool.map(pid_after_a_moment, range(20), 1)) == {worker.pid}


class FailsAndForksWhenPickled(Exception):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __reduce__(self) -> Any:
        fork_and_tell(self.path)
        return ValueError, (os.getpid(),)


def fail_and_fork(path: Path) -> None:
    raise FailsAndForksWhenPickled(path)


def test_an_exception_that_forks_as_it_is_pickled_is_sent_once(ctx: Any, tmp_path: Path) -> None:
    """The worker sends it, and goes on alone."""
    path = tmp_path / "copy"
    with ctx.Pool(1) as pool:
        [worker] = pool._pool
        with pytest.raises(ValueError, match=str(worker.pid)):
            pool.apply(fail_and_fork, (path,))
        wait_for_end_of_copy(path)
        assert set(pool.map(pid_after_a_moment, range(20), 1)) == {worker.pid}


def fork_at_one(path: Path, item: int) -> int:
    if item == 1:
        fork_and_tell(path)
    if item == 2:
        path.with_name(f"2-{os.getpid()}").touch()
        if os.getpid() != int(path.read_text()):
            wait_for_end_of_copy(path)
    return os.getpid()


def test_a_copy_does_not_go_on_with_the_items_of_its_chunk(tmp_path: Path) -> None:
    """An item that forks is the last that its copy runs."""
    path = tmp_path / "copy"
    with procession.get_context("fork").Pool(1) as pool:
        [worker] = pool._pool
        assert pool.starmap(fork_at_one, [(path, item) for item in range(3)], 3) == [worker.pid] * 3
    assert [file.name for file in tmp_path.glob("2-*")] == [f"2-{worker.pid}"]


def test_an_initializer_that_forks_makes_no_second_worker(ctx: Any, tmp_path: Path) -> None:
    """The copy that comes back from it ends."""
    path = tmp_path / "copy"
    with ctx.Pool(1, fork_and_come_back, (path,)) as pool:
        [worker] = pool._pool
        assert pool.apply(os.getpid) == worker.pid
        wait_for_end_of_copy(path)
        assert set(pool.map(pid_after_a_moment, range(20), 1)) == {worker.pid}


def fork_a_copy_that_waits(path: Path) -> None:
    if os.fork() == 0:
        path.with_suffix(".new").write_text(str(os.getpid()))
        path.with_suffix(".new").rename(path)
        time.sleep(600)


def test_a_copy_that_is_killed_takes_nothing_of_the_pools_with_it(ctx: Any, tmp_path: Path) -> None:
    """The copy holds no task: the pool ends in order."""
    path = tmp_path / "copy"
    with ctx.Pool(2) as pool:
        pool.apply(fork_a_copy_that_waits, (path,))
        wait_for(path)
        results = pool.map_async(pid_after_a_moment, range(20), 1)
        os.kill(int(path.read_text()), signal.SIGKILL)
        assert len(set(results.get(LIMIT))) <= 2
        pool.close()
        pool.join(LIMIT)


def copy_fails(path: Path) -> None:
    if os.fork() == 0:
        sys.stderr = path.open("a")
        raise ValueError("in the copy")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_copy_of_a_worker_says_what_it_failed_with(tmp_path: Path, method: str) -> None:
    """The copy's exception is printed and is no result."""
    printed = tmp_path / "printed"
    with procession.get_context(method).Pool(1) as pool:
        assert pool.apply(copy_fails, (printed,)) is None
        limit = time.monotonic() + LIMIT
        while not (printed.exists() and "ValueError: in the copy" in printed.read_text()):
            assert time.monotonic() < limit
            time.sleep(0.002)
