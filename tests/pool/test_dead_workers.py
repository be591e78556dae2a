"""Pools whose workers die, hang, cannot start or are ended early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import ProcessError, WorkerDied
from procession.pool import MaybeEncodingError, Pool, RemoteTraceback, ThreadPool

LIMIT = 30.0

RunScript = Callable[..., "subprocess.CompletedProcess[str]"]


def square(x: int) -> int:
    return x * x


def die(how: str) -> None:
    match how:
        case "SIGKILL" | "SIGSEGV" | "SIGTERM":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), getattr(signal, how))
        case "os._exit":
            os._exit(7)
        case "sys.exit":
            sys.exit(7)
        case "exec":
            os.execv("/bin/true", ["true"])


def die_if_seven(x: int) -> int:
    if x == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def die_once(mark: Path) -> str:
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return "alive"


def sleep_forever(path: Path | None = None) -> None:
    if path is not None:
        path.touch()
    while True:
        time.sleep(60)


def leave_a_mark(path: Path) -> None:
    try:
        (path / "begun").touch()
        time.sleep(600)
    finally:
        (path / "cleaned").touch()


def wait_for(path: Path) -> None:
    limit = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < limit, f"{path} did not appear"
        time.sleep(0.002)


class Odd(Exception):
    """Cannot be made again from its args."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first}-{second}")
        self.first = first


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("cannot be sent")


class UnloadableResult:
    def __reduce__(self) -> Any:
        return explode, ()


def explode() -> None:
    raise RuntimeError("cannot be loaded")


def raise_odd() -> None:
    raise Odd("one", "two")


def raise_unpicklable() -> None:
    raise Unpicklable("the text")


def raise_interrupt() -> None:
    raise KeyboardInterrupt("in a task")


def return_unloadable() -> Any:
    return UnloadableResult()


def take(value: Any) -> Any:
    return value


def fail_to_initialize() -> None:
    raise ValueError("no database today")


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGTERM", "os._exit", "sys.exit", "exec"])
def test_a_dead_worker_fails_its_task_and_the_pool_goes_on(ctx: Any, how: str, nothing_left: None) -> None:
    """The task it held fails with WorkerDied, which says how it died; the others never notice."""
    with ctx.Pool(2) as pool:
        pool.map(square, range(4))
        lost = pool.apply_async(die, (how,))
        others = pool.map_async(square, range(50), chunksize=1)
        with pytest.raises(WorkerDied) as caught:
            lost.get(LIMIT)
        error = caught.value
        if how.startswith("SIG"):
            assert error.signal == getattr(signal, how)
            assert error.exitcode == -error.signal
        elif how != "exec":
            assert (error.exitcode, error.signal) == (7, None)
        assert error.pid not in [worker.pid for worker in pool._pool]
        assert "die" in str(error)
        assert others.get(LIMIT) == [square(n) for n in range(50)]
        assert pool.map(square, range(10), chunksize=1) == [square(n) for n in range(10)]
    pool.join()


def test_one_dead_worker_fails_one_item_of_an_imap() -> None:
    """Exactly the item whose worker died is missing from an iteration."""
    with procession.get_context("fork").Pool(2) as pool:
        results = pool.imap(die_if_seven, range(20))
        got: list[Any] = []
        while True:
            try:
                got.append(next(results))
            except StopIteration:
                break
            except WorkerDied as error:
                got.append(error.signal)
        assert got == [*range(7), signal.SIGKILL, *range(8, 20)]
    pool.join()


def test_a_worker_killed_between_tasks_is_replaced(ctx: Any) -> None:
    """Killing idle workers fails nothing."""
    with ctx.Pool(2) as pool:
        pool.map(square, range(10))
        for worker in list(pool._pool):
            os.kill(worker.pid, signal.SIGKILL)
        assert pool.map(square, range(10), chunksize=1) == [square(n) for n in range(10)]
    pool.join()


def test_lost_tasks_are_tried_again_if_asked(tmp_path: Path) -> None:
    """retries runs a task again whose worker died, and only so many times."""
    with procession.get_context("fork").Pool(1) as pool:
        assert pool.apply(die_once, (tmp_path / "once",), retries=1) == "alive"
        with pytest.raises(WorkerDied):
            pool.apply(die, ("os._exit",), retries=2)
        assert pool.map(die_once, [tmp_path / "a", tmp_path / "b"], 1, retries=1) == ["alive"] * 2
    pool.join()


def test_a_task_is_stopped_when_its_time_is_over() -> None:
    """task_timeout stops that task for good; it fails with TimeoutError and the others go on."""
    with procession.get_context("fork").Pool(2) as pool:
        stuck = pool.apply_async(sleep_forever, task_timeout=0.05)
        fine = pool.map_async(square, range(20), 1, task_timeout=LIMIT)
        with pytest.raises(procession.TimeoutError, match="sleep_forever"):
            stuck.get(LIMIT)
        assert fine.get(LIMIT) == [square(n) for n in range(20)]
        assert pool.map(square, range(4), 1) == [0, 1, 4, 9]
        for refused in (pool.apply, pool.map):
            with pytest.raises(ValueError, match="task_timeout"):
                refused(square, (1,), task_timeout=0)
        pool.close()
        pool.join()


def test_queued_and_running_tasks_can_be_cancelled(tmp_path: Path) -> None:
    """cancel takes back what waits, ends what runs, and is too late for what is done."""
    with procession.get_context("fork").Pool(1) as pool:
        running = pool.apply_async(sleep_forever, (tmp_path / "begun",))
        queued = pool.apply_async(square, (3,))
        wait_for(tmp_path / "begun")
        assert queued.cancel() and running.cancel()
        for result in (queued, running):
            with pytest.raises(CancelledError):
                result.get(LIMIT)
        done = pool.apply_async(square, (4,))
        assert done.get(LIMIT) == 16
        assert not done.cancel()
    pool.join()


def test_terminate_lets_finally_blocks_run(ctx: Any, tmp_path: Path) -> None:
    """A terminated task executes its finally blocks, and its result is an error instead of a hang."""
    pool = ctx.Pool(1)
    result = pool.apply_async(leave_a_mark, (tmp_path,))
    wait_for(tmp_path / "begun")
    pool.terminate()
    pool.join()
    assert (tmp_path / "cleaned").exists()
    with pytest.raises(ProcessError, match="terminated"):
        result.get(0)


def test_terminate_kills_what_does_not_listen(tmp_path: Path) -> None:
    """A worker that ignores SIGTERM is killed after its grace time."""
    pool = procession.get_context("fork").Pool(1)
    pool.apply_async(ignore_signals, (tmp_path / "begun",))
    wait_for(tmp_path / "begun")
    worker = pool._pool[0]
    pool.terminate()
    pool.join()
    assert worker.exitcode == -signal.SIGKILL


def ignore_signals(path: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep_forever(path)


def test_terminate_works_from_a_callback_and_from_any_thread() -> None:
    """Neither a callback nor another thread deadlocks the pool by ending it."""
    pool = procession.get_context("fork").Pool(2)
    ended = threading.Event()

    def end(_: Any) -> None:
        pool.terminate()
        ended.set()

    pool.apply_async(square, (1,), callback=end)
    assert ended.wait(LIMIT)
    pool.join()
    other = procession.get_context("fork").Pool(2)
    stuck = other.map_async(sleep_forever, [None] * 4, 1)
    thread = threading.Thread(target=other.terminate)
    thread.start()
    with pytest.raises(ProcessError, match="terminated"):
        stuck.get(LIMIT)
    thread.join()
    other.join()


def test_terminate_does_not_wait_for_a_stuck_generator() -> None:
    """A generator of arguments that blocks does not hold up the end of its pool."""
    release, entered = threading.Event(), threading.Event()

    def stuck() -> Any:
        entered.set()
        release.wait(LIMIT)
        yield 1

    pool = procession.get_context("fork").Pool(1)
    results = pool.imap(square, stuck())
    assert entered.wait(LIMIT)
    pool.terminate()
    with pytest.raises(ProcessError, match="terminated"):
        next(results)
    release.set()
    pool.join()


def test_a_failing_initializer_fails_the_tasks_with_its_cause(ctx: Any, nothing_left: None) -> None:
    """Instead of starting workers for ever, the pool says why none can be started."""
    with ctx.Pool(2, fail_to_initialize) as pool:
        with pytest.raises(WorkerDied, match="no database today") as caught:
            pool.map_async(square, range(10)).get(LIMIT)
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(WorkerDied, match="no database today"):
            pool.apply_async(square, (1,)).get(LIMIT)
    pool.join()


@pytest.mark.parametrize("how", ["os._exit", "SIGKILL", "sys.exit"])
def test_workers_that_die_in_their_initializer_fail_the_tasks(how: str) -> None:
    """A death before the first task is no reason to wait for ever either."""
    with procession.get_context("fork").Pool(2, die, (how,)) as pool:
        with pytest.raises(WorkerDied, match="could be started"):
            pool.apply_async(square, (1,)).get(LIMIT)
    pool.join()


def test_an_exception_with_an_odd_constructor_arrives() -> None:
    """An exception that cannot be made again from its args keeps type, text and attributes."""
    with procession.get_context("fork").Pool(1) as pool:
        with pytest.raises(Odd, match="one-two") as caught:
            pool.apply(raise_odd)
        assert caught.value.first == "one"
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert pool.apply(square, (3,)) == 9
    pool.join()


def test_what_cannot_travel_is_the_tasks_own_error() -> None:
    """Unpicklable exceptions, unloadable results and arguments, and BaseExceptions fail one task each."""
    with procession.get_context("fork").Pool(1) as pool:
        (worker,) = pool._pool
        with pytest.raises(MaybeEncodingError, match="the text") as caught:
            pool.apply(raise_unpicklable)
        assert "raise_unpicklable" in str(caught.value.__cause__)
        with pytest.raises(RuntimeError, match="cannot be loaded"):
            pool.apply(return_unloadable)
        with pytest.raises(RuntimeError, match="cannot be loaded"):
            pool.apply(take, (UnloadableResult(),))
        errors: list[BaseException] = []
        pool.apply_async(return_unloadable, error_callback=errors.append).wait(LIMIT)
        assert isinstance(errors[0], RuntimeError)
        with pytest.raises(KeyboardInterrupt, match="in a task"):
            pool.apply(raise_interrupt)
        assert pool._pool == [worker] and worker.is_alive()
    pool.join()


def test_a_thread_whose_initializer_fails_fails_the_tasks() -> None:
    """A thread pool does not wait for ever for threads that cannot start."""
    with ThreadPool(2, fail_to_initialize) as pool:
        with pytest.raises(WorkerDied, match="no database today"):
            pool.map_async(square, range(10), 1).get(LIMIT)
    pool.join()


def test_many_deaths_do_not_wear_a_pool_out() -> None:
    """Each of many killed workers costs one task."""
    with procession.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(die if n % 3 == 0 else str, ("SIGKILL",)) for n in range(30)]
        outcomes = []
        for result in results:
            try:
                outcomes.append(result.get(LIMIT))
            except WorkerDied:
                outcomes.append("died")
        assert outcomes == ["died", "SIGKILL", "SIGKILL"] * 10
    pool.join()


SCRIPT = """
    import sys, time
    import procession

    def square(x):
        return x * x

    def sleep(_):
        time.sleep(600)

    if __name__ == "__main__":
        procession.set_start_method(sys.argv[2])
        {body}
"""


@pytest.mark.parametrize(
    "body",
    [
        "pool = procession.Pool(2); print(pool.map(square, range(3)))",
        "pool = procession.Pool(2); pool.map_async(sleep, range(9)); print([0, 1, 4])",
        "pool = procession.Pool(2); pool.imap(square, iter(range(99))); print([0, 1, 4])",
    ],
)
def test_a_program_ends_although_its_pool_was_never_closed(
    run_script: RunScript, start_method: str, body: str
) -> None:
    """Leaving the program ends the workers, busy or not."""
    done = run_script(SCRIPT.format(body=body), "-", start_method)
    assert (done.returncode, done.stdout) == (0, "[0, 1, 4]\n"), done.stderr


def test_ctrl_c_is_one_traceback(tmp_path: Path, start_method: str) -> None:
    """Ctrl-C raises KeyboardInterrupt in the program alone, and its workers are gone with it."""
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import pathlib, sys, time\n"
        "import procession\n"
        "def work(path):\n"
        "    pathlib.Path(path).touch()\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    procession.set_start_method(sys.argv[1])\n"
        "    with procession.Pool(2) as pool:\n"
        "        print([worker.pid for worker in pool._pool], flush=True)\n"
        "        pool.map(work, sys.argv[2:], 1)\n"
    )
    home = os.path.dirname(os.path.dirname(os.path.abspath(procession.__file__)))
    marks = [tmp_path / "a", tmp_path / "b"]
    program = subprocess.Popen(
        [sys.executable, str(script), start_method, *map(str, marks)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env={**os.environ, "PYTHONPATH": home},
    )
    for mark in marks:
        wait_for(mark)
    os.killpg(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=LIMIT)
    assert err.count("Traceback") == 1, err
    assert program.returncode == -signal.SIGINT
    for pid in map(int, out.strip("[]\n").split(",")):
        assert not os.path.exists(f"/proc/{pid}")


def test_pool_type_is_the_packages_own() -> None:
    """The context's Pool is this package's."""
    with procession.Pool(1) as pool:
        assert type(pool) is Pool
    pool.join()
