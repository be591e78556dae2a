"""Signals and pools: Ctrl-C in tasks, calls interrupted by an exception, and cleanup at a worker's end."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import util

LIMIT = 30.0

PACKAGE = os.path.dirname(os.path.abspath(procession.__file__))
HOME = os.path.dirname(PACKAGE)


class Interrupt(Exception):
    """What the tests' signal handler raises."""


def square(x: int) -> int:
    return x * x


def touch(path: str) -> None:
    Path(path).touch()


def sleep_at(path: Path) -> None:
    try:
        path.touch()
        time.sleep(600)
    finally:
        path.with_suffix(".over").touch()


def add_and_sleep(path: Path, _: int) -> None:
    sleep_at(path)


def wait_for(*paths: Path) -> None:
    limit = time.monotonic() + LIMIT
    while not all(path.exists() for path in paths):
        assert time.monotonic() < limit, f"{paths} did not appear"
        time.sleep(0.002)


def loop_over(results: Iterator[Any]) -> None:
    for _ in results:
        pass


@pytest.fixture
def interrupting() -> Iterator[None]:
    """SIGUSR1 raises Interrupt in the main thread."""

    def interrupt(signum: int, frame: Any) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


def interrupted_when(paths: list[Path], call: Callable[[], Any]) -> None:
    """Make a blocking call that Interrupt ends as soon as the paths are there."""
    main = threading.main_thread().ident or 0
    called = threading.Event()

    def watch() -> None:
        called.wait()
        wait_for(*paths)
        signal.pthread_kill(main, signal.SIGUSR1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(Interrupt):
            called.set()
            call()
    finally:
        watcher.join()


@pytest.mark.parametrize("how", ["map", "starmap", "apply", "imap", "imap_unordered", "fed imap"])
def test_an_interrupted_call_leaves_the_pool_free(
    ctx: Any, tmp_path: Path, interrupting: None, how: str
) -> None:
    """Its tasks are taken back or ended, so that the next call's run at once."""
    paths = [tmp_path / "0"] if how == "apply" else [tmp_path / "0", tmp_path / "1"]
    calls: dict[str, Callable[[], Any]] = {
        "map": lambda: pool.map(sleep_at, [*paths, tmp_path / "2"], 1),
        "starmap": lambda: pool.starmap(add_and_sleep, [(path, 0) for path in paths], 1),
        "apply": lambda: pool.apply(sleep_at, paths),
        "imap": lambda: list(pool.imap(sleep_at, paths)),
        "imap_unordered": lambda: loop_over(pool.imap_unordered(sleep_at, paths)),
        "fed imap": lambda: loop_over(pool.imap(sleep_at, iter(paths))),
    }
    with ctx.Pool(2) as pool:
        interrupted_when(paths, calls[how])
        assert pool.map_async(square, range(4)).get(LIMIT) == [0, 1, 4, 9]
        assert not pool._cache
        wait_for(*(path.with_suffix(".over") for path in paths))
    pool.join()
    assert not (tmp_path / "2").exists()


def test_a_timeout_withdraws_nothing(ctx: Any) -> None:
    """`get` and `next` may be tried again after their time was over."""
    with ctx.Pool(1) as pool, ctx.Manager() as manager:
        go = manager.Event()
        result = pool.apply_async(go.wait)
        with pytest.raises(procession.TimeoutError):
            result.get(0)
        results = pool.imap(square, [3])
        with pytest.raises(TimeoutError):
            results.next(0)
        go.set()
        assert result.get(LIMIT)
        assert results.next(LIMIT) == 9


def test_an_iterator_goes_on_after_an_exception_of_a_handler(
    ctx: Any, tmp_path: Path, interrupting: None
) -> None:
    """A program that bounds its waits by a signal gets the results all the same."""
    with ctx.Pool(1) as pool, ctx.Manager() as manager:
        go = manager.Event()
        results = pool.imap(wait_and_double, [(go, tmp_path / "begun", 4)])
        interrupted_when([tmp_path / "begun"], results.next)
        go.set()
        assert results.next(LIMIT) == 8


def wait_and_double(task: tuple[Any, Path, int]) -> int:
    go, begun, number = task
    begun.touch()
    go.wait()
    return number * 2


# A handler may raise in a callback of a weak reference, which can only be ignored.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["map", "imap", "apply", "apply_async"])
def test_a_pool_ends_in_order_after_any_interrupt(how: str) -> None:
    """Wherever a handler raises in a call, close and join come back."""

    def interrupt(signum: int, frame: Any) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    seeded = random.Random(how)
    pool = procession.get_context("fork").Pool(2)
    calls: dict[str, Callable[[], Any]] = {
        "map": lambda: pool.map(square, range(3), chunksize=1),
        "imap": lambda: list(pool.imap(square, iter(range(3)))),
        "apply": lambda: pool.apply(square, (3,)),
        "apply_async": lambda: [result.get() for result in [pool.apply_async(square, (3,))] * 3],
    }
    try:
        for _ in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, seeded.random() * 0.0004 + 1e-6)
                try:
                    calls[how]()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                time.sleep(0)
            except Interrupt:
                pass
        assert pool.map_async(square, range(4)).get(LIMIT) == [0, 1, 4, 9]
        pool.close()
        pool.join(LIMIT)
    finally:
        signal.signal(signal.SIGALRM, before)
        pool.terminate()


@contextlib.contextmanager
def interrupted_at(number: int) -> Iterator[list[int]]:
    """Raise Interrupt before the n-th bytecode of the package in this thread; return the remaining count."""
    left, thread = [number], threading.get_ident()

    def count(code: Any, *_: Any) -> None:
        if threading.get_ident() == thread and code.co_filename.startswith(PACKAGE + os.sep):
            left[0] -= 1
            if left[0] == 0:
                raise Interrupt

    def trace(frame: Any, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            count(frame.f_code)
        return trace

    if sys.version_info < (3, 12):
        sys.settrace(trace)
        try:
            yield left
        finally:
            sys.settrace(None)
        return
    monitoring, tool = sys.monitoring, sys.monitoring.DEBUGGER_ID
    monitoring.use_tool_id(tool, "interrupted_at")
    monitoring.register_callback(tool, monitoring.events.INSTRUCTION, count)
    monitoring.set_events(tool, monitoring.events.INSTRUCTION)
    try:
        yield left
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


CALLS: dict[str, Callable[[Any], Any]] = {
    "map": lambda pool: pool.map(square, range(3), chunksize=1),
    "starmap_async": lambda pool: pool.starmap_async(pow, [(1, 2), (2, 3)]).get(),
    "imap": lambda pool: list(pool.imap(square, iter(range(3)))),
    "imap of a list": lambda pool: list(pool.imap(square, [1, 2, 3])),
    "apply": lambda pool: pool.apply(square, (3,)),
    "apply_async": lambda pool: pool.apply_async(square, (3,)).get(),
    "callback": lambda pool: pool.apply_async(square, (3,), callback=square).wait(),
}


@pytest.mark.parametrize("threads", [False, True], ids=["processes", "threads"])
@pytest.mark.parametrize("how", CALLS)
def test_a_pool_goes_on_and_ends_in_order_wherever_a_call_was_interrupted(how: str, threads: bool) -> None:
    """An exception before any bytecode of a call leaves no job that runs on for ever."""
    pool = procession.pool.ThreadPool(2) if threads else procession.get_context("fork").Pool(2)
    # What the collector calls can only ignore an exception.
    gc.disable()
    try:
        CALLS[how](pool)
        for number in range(1, 5000):
            try:
                with interrupted_at(number) as left:
                    CALLS[how](pool)
            except Interrupt:
                pass
            assert pool.apply_async(square, (4,)).get(LIMIT) == 16
            if left[0] > 0:
                break
        assert number > 50
        pool.close()
        pool.join(LIMIT)
    finally:
        gc.enable()
        pool.terminate()


# A handler may raise in a callback of a weak reference, which can only be ignored.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("policy", [{}, {"retries": 1}], ids=["plain", "with a policy"])
@pytest.mark.parametrize("how", ["apply", "map", "starmap"])
def test_no_task_begins_after_its_call_was_interrupted(
    how: str, policy: dict[str, Any], tmp_path: Path
) -> None:
    """Wherever a handler raises in a call, its tasks are taken back: no one can ask for their results."""

    def interrupt(signum: int, frame: Any) -> None:
        raise Interrupt

    ctx = procession.get_context("fork")
    go, path, seeded = ctx.Event(), tmp_path / "begun", random.Random(how)
    before = signal.signal(signal.SIGALRM, interrupt)
    pool = ctx.Pool(1)
    calls: dict[str, Callable[[], Any]] = {
        "apply": lambda: pool.apply(touch, (str(path),), **policy),
        "map": lambda: pool.map(touch, [str(path)] * 3, 1, **policy),
        "starmap": lambda: pool.starmap(touch, [(str(path),)] * 3, 1, **policy),
    }
    try:
        # While the only worker is busy, no task of a call begins before the interrupt.
        blocker = pool.apply_async(go.wait)
        for _ in range(500):
            try:
                # A second signal ends the call if the first was ignored.
                signal.setitimer(signal.ITIMER_REAL, seeded.random() * 0.0002 + 1e-6, 0.5)
                try:
                    calls[how]()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                time.sleep(0)
            except Interrupt:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
        go.set()
        assert blocker.get(LIMIT)
        assert pool.apply_async(square, (4,)).get(LIMIT) == 16
        assert not path.exists()
        assert not pool._cache
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        pool.terminate()


PROGRAM = """
import pathlib, sys, time
import procession
def work(path):
    try:
        pathlib.Path(path).touch()
        time.sleep(600)
    except KeyboardInterrupt:
        # A clean-up that takes longer than the program needs to end its pool.
        time.sleep(0.1)
        pathlib.Path(path + ".interrupted").touch()
        raise
    finally:
        pathlib.Path(path + ".over").touch()
if __name__ == "__main__":
    procession.set_start_method(sys.argv[1])
    with procession.Pool(2) as pool:
        pool.map(work, sys.argv[2:], 1)
"""


def test_a_task_sees_ctrl_c_and_cleans_up(tmp_path: Path, start_method: str) -> None:
    """Ctrl-C is KeyboardInterrupt in running tasks; what they do about it is done before the program ends."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    paths = [tmp_path / "a", tmp_path / "b"]
    program = subprocess.Popen(
        [sys.executable, str(script), start_method, *map(str, paths)],
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env={**os.environ, "PYTHONPATH": HOME},
    )
    wait_for(*paths)
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=LIMIT)
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != "script.py")
    assert left == ["a", "a.interrupted", "a.over", "b", "b.interrupted", "b.over"]
    assert errors.count("Traceback") == 1, errors
    assert program.returncode == -signal.SIGINT


def interrupt_and_go_on(path: Path) -> str:
    try:
        path.touch()
        time.sleep(600)
    except KeyboardInterrupt:
        return "went on"
    return "was not interrupted"


STARTING = """
import os, pathlib, sys, time
import procession
here = pathlib.Path(sys.argv[1])
if __name__ != "__main__":
    (here / "worker").write_text(str(os.getpid()))
    (here / "starts").touch()
    while not (here / "go").exists():
        time.sleep(0.002)
def square(x):
    return x * x
if __name__ == "__main__":
    with procession.get_context("spawn").Pool(1) as pool:
        print(pool.map(square, [3]))
"""


def test_ctrl_c_is_nothing_to_a_worker_that_starts(tmp_path: Path) -> None:
    """It is told by its parent, and prints no traceback of its own."""
    script = tmp_path / "script.py"
    script.write_text(STARTING)
    command = [sys.executable, script, tmp_path]
    environment = {**os.environ, "PYTHONPATH": HOME}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        wait_for(tmp_path / "starts")
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGINT)
        (tmp_path / "go").touch()
        assert program.communicate(timeout=LIMIT) == ("[9]\n", "")


def test_a_task_may_take_ctrl_c_for_itself(ctx: Any, tmp_path: Path) -> None:
    """A task may catch KeyboardInterrupt and return a result; the worker goes on and, if idle, ignores it."""
    with ctx.Pool(1) as pool:
        [worker] = pool._pool
        pool.apply(square, (2,))
        os.kill(worker.pid, signal.SIGINT)
        result = pool.apply_async(interrupt_and_go_on, (tmp_path / "begun",))
        wait_for(tmp_path / "begun")
        os.kill(worker.pid, signal.SIGINT)
        assert result.get(LIMIT) == "went on"
        assert pool.apply(os.getpid) == worker.pid


def name_of_handler(signum: int) -> str:
    handler = signal.getsignal(signum)
    return getattr(handler, "__name__", None) or signal.Handlers(handler).name


def program_handler(signum: int, frame: Any) -> None:
    pass


def test_workers_keep_the_signal_handlers_of_the_program() -> None:
    """An ignored SIGINT stays ignored under fork, and a handler of the program's stays where it is."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    term = signal.signal(signal.SIGTERM, program_handler)
    try:
        pool = procession.get_context("fork").Pool(1)
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, term)
    assert pool.map(name_of_handler, [signal.SIGINT, signal.SIGTERM]) == ["SIG_IGN", "program_handler"]
    pool.close()
    pool.join()


class Mark:
    """Writes to a folder which process ran it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *_: Any) -> None:
        (self.folder / str(os.getpid())).touch()

    def and_exit(self, *_: Any) -> None:
        self()
        os._exit(0)


def at_exit_of_children_of_old(mark: Mark) -> None:
    if sys.version_info >= (3, 13):
        atexit.register(mark)
    else:
        util.Finalize(None, mark, exitpriority=1)


def by_finalizer(mark: Mark) -> None:
    util.Finalize(None, mark, exitpriority=1)


def by_handler(mark: Mark) -> None:
    signal.signal(signal.SIGTERM, mark.and_exit)


def by_exit_of_handler(mark: Mark) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    util.Finalize(None, mark, exitpriority=1)


@pytest.mark.parametrize(
    "initializer", [at_exit_of_children_of_old, by_finalizer, by_handler, by_exit_of_handler]
)
def test_what_is_to_run_at_an_idle_workers_end_runs_when_the_pool_is_terminated(
    ctx: Any, tmp_path: Path, initializer: Callable[[Mark], None]
) -> None:
    """Exit functions, finalizers and handlers of SIGTERM, as tracers and error reporters install them."""
    with ctx.Pool(2, initializer, (Mark(tmp_path),)) as pool:
        pool.map(square, range(4))
        # Both workers have run their initializer and begun a task.
        pids = set()
        while len(pids) < 2:
            pids.update(pool.map(pid_after_a_moment, range(2), 1))
    pool.join()
    assert {path.name for path in tmp_path.iterdir()} == {str(pid) for pid in pids}


def pid_after_a_moment(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()
