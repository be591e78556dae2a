"""Internals of the standard library's pools that programs use, and faults that it does not report."""

from __future__ import annotations

import builtins
import logging
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import WorkerDied, pool, util
from procession.pool import Pool, ThreadPool

LIMIT = 30.0


def add(a: int, b: int) -> int:
    return a + b


def square(x: int) -> int:
    return x * x


def wait_for(event: Any) -> None:
    event.wait()


def starred_imap(self: Any, func: Any, iterable: Any, chunksize: int = 1) -> Iterator[Any]:
    """A patch that many programs contain, under various names."""
    self._check_running()
    batches = pool.Pool._get_tasks(func, iterable, chunksize)
    result = pool.IMapIterator(self)
    tasks = self._guarded_task_generation(result._job, pool.starmapstar, batches)
    self._taskqueue.put((tasks, result._set_length))
    return (item for chunk in result for item in chunk)


@pytest.fixture(params=["fork", "spawn", "forkserver", "threads"])
def make_pool(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Pools of each kind in turn."""
    if request.param == "threads":
        return ThreadPool
    return procession.get_context(request.param).Pool


@pytest.mark.parametrize("chunksize", [1, 2, 10])
def test_programs_submit_tasks_of_their_own(make_pool: Callable[..., Any], chunksize: int) -> None:
    """Through `_taskqueue`, with the stdlib's helpers."""
    with make_pool(2) as workers:
        pairs = [(1, 2), (3, 4), (5, 6)]
        assert list(starred_imap(workers, add, pairs, chunksize)) == [3, 7, 11]
        assert list(starred_imap(workers, add, iter(()), chunksize)) == []


def test_a_failing_generator_of_own_tasks_is_reported(make_pool: Callable[..., Any]) -> None:
    """The results before its exception come first, then the exception."""

    def pairs() -> Iterator[tuple[int, int]]:
        yield 1, 2
        raise KeyError("no more")

    with make_pool(1) as workers:
        results = starred_imap(workers, add, pairs())
        assert next(results) == 3
        with pytest.raises(KeyError, match="no more"):
            next(results)


def test_results_that_programs_make_themselves(make_pool: Callable[..., Any]) -> None:
    """ApplyResult and MapResult have the stdlib's constructors."""
    with make_pool(2) as workers:
        called: list[Any] = []
        single = pool.ApplyResult(workers, called.append, None)
        workers._taskqueue.put(([(single._job, 0, add, (1, 2), {})], None))
        assert single.get(LIMIT) == 3
        several = pool.MapResult(workers, 2, 5, None, None)
        batches = pool.Pool._get_tasks(square, range(5), 2)
        tasks = workers._guarded_task_generation(several._job, pool.mapstar, batches)
        workers._taskqueue.put((tasks, None))
        assert several.get(LIMIT) == [0, 1, 4, 9, 16]
        assert workers._map_async(square, [2, 3], pool.mapstar, 1).get(LIMIT) == [4, 9]
    assert called == [3]


def test_the_progress_of_a_map(ctx: Any) -> None:
    """_number_left counts chunks of _chunksize that are not done."""
    with ctx.Pool(2) as workers, ctx.Manager() as manager:
        go = manager.Event()
        result = workers.map_async(wait_for, [go] * 6, chunksize=2)
        assert (result._number_left, result._chunksize, result._value) == (3, 2, [None] * 6)
        assert workers._cache == {result._job: result}
        assert not result._event.is_set()
        go.set()
        assert result._event.wait(LIMIT)
        assert (result._number_left, result._success, result._value) == (0, True, [None] * 6)
        plain = workers.map_async(square, range(100))
        plain.wait()
        assert (plain._number_left, plain._chunksize) == (0, 13)
        assert plain._value == plain.get()


def test_all_that_an_object_lists_can_be_asked_for(ctx: Any) -> None:
    """As managers' servers, debuggers and mocks do, in any state of the pool."""
    with ctx.Pool(1) as workers, ctx.Manager() as manager:
        go = manager.Event()
        one, several = workers.apply_async(wait_for, [go]), workers.map_async(wait_for, [go])
        iterator = workers.imap(wait_for, [go])
        queues = (ctx.Queue(), ctx.JoinableQueue(), ctx.SimpleQueue())
        locks = (ctx.Lock(), ctx.RLock(), ctx.Semaphore(), ctx.Condition(), ctx.Event(), ctx.Barrier(1))
        shared = (ctx.Value("i"), ctx.Array("i", 2), *ctx.Pipe())
        for thing in (workers, one, several, iterator, *queues, *locks, *shared):
            for name in dir(thing):
                getattr(thing, name)
        with pytest.raises(AttributeError, match="'ApplyResult' object has no attribute '_value'"):
            print(one._value)
        go.set()
        one.wait()
        assert one._value is None


def test_a_manager_serves_results_that_are_not_ready(ctx: Any) -> None:
    """The calls to a pool in a manager's server."""
    with ctx.Manager() as manager:
        workers, go = manager.Pool(1), manager.Event()
        result = workers.apply_async(wait_for, (go,))
        go.set()
        assert result.get(LIMIT) is None
        workers.terminate()


def test_what_waits_in_a_pool(ctx: Any) -> None:
    """_inqueue says what no worker has begun, _taskqueue what does not even fit there."""
    with ctx.Pool(1) as workers, ctx.Manager() as manager:
        assert workers._taskqueue.empty()
        assert workers._inqueue.empty()
        go = manager.Event()
        results = [workers.apply_async(wait_for, (go,)) for _ in range(1500)]
        assert not workers._taskqueue.empty()
        assert workers._taskqueue.qsize() > 100
        assert workers._inqueue._reader.poll()
        go.set()
        for result in results:
            result.wait()
        assert (workers._taskqueue.qsize(), workers._inqueue.empty()) == (0, True)
        assert workers._outqueue.empty()
        assert workers._result_handler.is_alive()


def test_a_program_kills_its_pool_by_hand(ctx: Any) -> None:
    """With the state of _worker_handler set, workers that it kills are not replaced."""
    with ctx.Pool(2) as workers:
        workers.map(square, range(4))
        workers._state = pool.TERMINATE
        workers._worker_handler._state = pool.TERMINATE
        for worker in list(workers._pool):
            os.kill(worker.pid, signal.SIGKILL)
        limit = time.monotonic() + LIMIT
        while any(worker.is_alive() for worker in workers._pool):
            assert time.monotonic() < limit
        workers.terminate()


def first_above(limit: int) -> int:
    return next(number for number in range(5) if number > limit)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 5])
def test_stop_iteration_of_a_task_does_not_end_the_loop(
    make_pool: Callable[..., Any], method: str, chunksize: int
) -> None:
    """It comes as RuntimeError, as it does from a generator."""
    with (
        make_pool(1) as workers,
        pytest.raises(RuntimeError, match="first_above raised StopIteration") as caught,
    ):
        list(getattr(workers, method)(first_above, [0, 7, 1], chunksize))
    assert isinstance(caught.value.__cause__, StopIteration)


def test_stop_iteration_of_a_task_does_not_shorten_a_map(make_pool: Callable[..., Any]) -> None:
    """The map fails; without an error results would be missing."""
    with make_pool(1) as workers, pytest.raises(StopIteration):
        workers.map(first_above, [0, 7, 1], 3)


def test_timeout_errors_are_the_built_in_one_too(make_pool: Callable[..., Any]) -> None:
    """`except TimeoutError` catches what `except multiprocessing.TimeoutError` does."""
    with make_pool(1) as workers:
        event = procession.Event()
        try:
            result = workers.apply_async(time.sleep, (0.2,))
            with pytest.raises(builtins.TimeoutError) as caught:
                result.get(0)
            assert isinstance(caught.value, procession.TimeoutError)
            with pytest.raises(builtins.TimeoutError):
                workers.imap(time.sleep, [0.2]).next(0)
        finally:
            event.set()


class Job:
    """Whose methods are private."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __method(self, x: int) -> int:
        return self.factor * x

    @classmethod
    def __of_class(cls, x: int) -> str:
        return f"{cls.__name__} {x}"

    @staticmethod
    def __static(x: int) -> int:
        return x + 1

    def results(self, workers: Any) -> list[Any]:
        return [
            workers.map(self.__method, [1, 2]),
            workers.apply(self.__of_class, (3,)),
            workers.map(Job.__static, [1, 2]),
            workers.apply(self.__static, (5,)),
        ]


class _Derived(Job):
    """Whose base has the private methods."""


def test_private_methods_are_tasks(ctx: Any) -> None:
    """They travel by the names that their class has them under."""
    with ctx.Pool(1) as workers:
        assert Job(3).results(workers) == [[3, 6], "Job 3", [2, 3], 6]
        assert _Derived(4).results(workers) == [[4, 8], "_Derived 3", [2, 3], 6]


USES: dict[str, Callable[..., Any]] = {
    "map": lambda workers, *_: workers.map(square, [1]),
    "apply": lambda workers, *_: workers.apply(square, (1,)),
    "apply_async": lambda workers, *_: workers.apply_async(square, (1,)),
    "imap": lambda workers, *_: workers.imap(square, iter([1])),
    "starmap_async": lambda workers, *_: workers.starmap_async(add, [(1, 2)]),
    "with": lambda workers, *_: workers.__enter__(),
    "get": lambda workers, result, *_: result.get(),
    "wait": lambda workers, result, *_: result.wait(),
    "cancel": lambda workers, result, *_: result.cancel(),
    "next": lambda workers, result, results: results.next(),
}


@pytest.mark.parametrize("kind", [procession.get_context("fork").Pool, ThreadPool])
def test_a_pool_says_that_it_is_of_another_process(kind: Callable[..., Any], tmp_path: Path) -> None:
    """In a forked copy every use raises an error with advice and never waits; deleting it is allowed."""
    workers = kind(1)
    done = workers.apply_async(square, (3,))
    done.wait()
    path = tmp_path / "go"
    result, results = workers.apply_async(sleep_until, (path,)), workers.imap(sleep_until, [path])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            said = [how for how, use in USES.items() if not _is_refused(use, workers, result, results)]
            value = done.get()
            workers.close()
            if not _is_refused(lambda *_: workers.join()):
                said.append("join")
            workers.terminate()
            (tmp_path / "said").write_text(f"{said} {value}")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "said").read_text() == "[] 9"
    path.touch()
    assert result.get(LIMIT) is results.next(LIMIT) is None
    assert workers.map(square, [2]) == [4]
    workers.close()
    workers.join()


LARGE = 100_000


def large(kind: str) -> Any:
    if kind == "failure":
        raise ValueError("x" * LARGE)
    return {"bytes": b"x" * LARGE, "buffer": bytearray(b"x" * LARGE), "picture": Picture()}[kind]


class Picture:
    """Its pixels are sent out of band, so that the receiver uses them where they lie."""

    def __init__(self, pixels: Any = None) -> None:
        self.pixels = bytearray(b"x" * LARGE) if pixels is None else pixels

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Picture, (pickle.PickleBuffer(self.pixels),)


@pytest.mark.parametrize("kind", ["bytes", "buffer", "picture", "failure"])
@pytest.mark.parametrize("form", ["one", "chunk"])
def test_a_large_result_is_not_for_a_process_forked_since(kind: str, form: str, tmp_path: Path) -> None:
    """It lies in shared memory, which the parent uses again; the parent itself gets it as it was."""
    with procession.get_context("fork").Pool(1) as workers:
        if form == "one":
            result = workers.apply_async(large, (kind,))
        else:
            result = workers.map_async(large, [kind] * 2, chunksize=2)
        result.wait(LIMIT)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                try:
                    (tmp_path / "said").write_text(f"got {result.get(LIMIT)!r:.50}")
                except Exception as error:
                    (tmp_path / "said").write_text(f"{type(error).__name__}: {error!s:.100}")
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        said = "RuntimeError: a forked child cannot use a message that its parent received"
        assert (tmp_path / "said").read_text() == said
        if kind == "failure":
            with pytest.raises(ValueError, match="x" * LARGE):
                result.get(LIMIT)
        else:
            got = result.get(LIMIT)
            for value in [got] if form == "one" else got:
                assert bytes(getattr(value, "pixels", value)) == b"x" * LARGE


def sleep_until(path: Path) -> None:
    while not path.exists():
        time.sleep(0.002)


def _is_refused(use: Callable[..., Any], *arguments: Any) -> bool:
    try:
        use(*arguments)
    except RuntimeError as error:
        return "belongs to process" in str(error) and "post_fork" in str(error)
    return False


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The messages of multiprocessing's logger at WARNING and above, which other tests go without."""
    monkeypatch.setattr(util, "_logger", None)
    records: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logger, handler = util.get_logger(), Recorder(logging.WARNING)
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def exit_at_once(_: int) -> None:
    os._exit(5)


def fail_to_initialize() -> None:
    raise ValueError("no database today")


def test_what_goes_wrong_is_logged(ctx: Any, logged: list[str], tmp_path: Path) -> None:
    """A worker's death, a time limit, a cancellation and a failed start, with the task."""
    with ctx.Pool(1) as workers:
        with pytest.raises(WorkerDied):
            workers.apply(exit_at_once, (1,))
        assert any("exit_at_once" in line and "status 5" in line for line in logged)
        with pytest.raises(procession.TimeoutError):
            workers.apply(sleep_until, (tmp_path / "never",), task_timeout=0.05)
        assert any("sleep_until" in line for line in logged)
        logged.clear()
        assert workers.apply_async(sleep_until, (tmp_path / "never",)).cancel()
        assert any("sleep_until was cancelled" in line for line in logged)
    with ctx.Pool(1, fail_to_initialize) as workers, pytest.raises(WorkerDied):
        workers.apply(square, (1,))
    assert any("no database today" in line for line in logged)


def test_the_class_has_the_names_of_the_stdlibs() -> None:
    """Patches of the class look for them there."""
    for name in ("_get_tasks", "_guarded_task_generation", "_map_async", "_check_running", "_maintain_pool"):
        assert callable(getattr(Pool, name))


class StdlibApplyAsync(Pool):
    """Overrides what `apply` calls, with the parameters that it has in the stdlib."""

    def apply_async(  # type: ignore[override]
        self, func: Any, args: Any = (), kwds: Any = (), callback: Any = None, error_callback: Any = None
    ) -> Any:
        return super().apply_async(add, (func(*args), 1), dict(kwds), callback, error_callback)


class StdlibMapAsync(Pool):
    """Overrides what `map` and its kin call, with the parameters that it has in the stdlib."""

    def _map_async(  # type: ignore[override]
        self,
        func: Any,
        iterable: Any,
        mapper: Any,
        chunksize: Any = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Any:
        items = list(iterable)[1:]
        return super()._map_async(func, items, mapper, chunksize, callback, error_callback)


def test_apply_calls_an_override_with_the_stdlibs_parameters() -> None:
    with StdlibApplyAsync(1) as pool:
        assert pool.apply(square, (3,)) == 10
        with pytest.raises(TypeError, match="unexpected keyword"):
            pool.apply(square, (3,), retries=1)


def test_map_and_starmap_call_an_override_with_the_stdlibs_parameters() -> None:
    with StdlibMapAsync(1) as pool:
        assert pool.map(square, [1, 2, 3]) == [4, 9]
        assert pool.map_async(square, [1, 2, 3]).get(LIMIT) == [4, 9]
        assert pool.starmap(add, [(1, 2), (3, 4)]) == [7]
        assert pool.starmap_async(add, [(1, 2), (3, 4)]).get(LIMIT) == [7]
        with pytest.raises(TypeError, match="unexpected keyword"):
            pool.map(square, [1, 2, 3], fail_fast=True)
