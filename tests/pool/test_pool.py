"""Worker pools as programs use them."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import pickle
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import procession
from procession import pool as pool_module
from procession.pool import AsyncResult, MaybeEncodingError, Pool, RemoteTraceback, ThreadPool

LIMIT = 30.0


def square(x: int) -> int:
    return x * x


def combine(a: int, b: int = 0, *, c: int = 0) -> tuple[int, int, int]:
    return a, b, c


def fail(message: Any) -> None:
    raise ValueError(message)


def fail_on_three(x: int) -> int:
    if x == 3:
        raise ValueError(x)
    return x


def identity(x: Any) -> Any:
    return x


def pid_of(_: Any = None) -> int:
    return os.getpid()


def remember(value: Any) -> None:
    globals()["remembered"] = value


def recall(_: Any = None) -> Any:
    return globals()["remembered"]


class Canary:
    """An object whose end can be observed."""


class Accumulator:
    """Counts its own calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: Any) -> int:
        self.calls += 1
        return self.calls


@pytest.fixture
def pool() -> Iterator[Pool]:
    with procession.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture(params=["processes", "threads"])
def any_pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with procession.get_context("fork").Pool(2) if request.param == "processes" else ThreadPool(2) as pool:
        yield pool
    pool.join()


def test_every_start_method_maps(ctx: Any, nothing_left: None) -> None:
    """The first lines of every tutorial work under each start method, and leave nothing behind."""
    with ctx.Pool(3) as pool:
        assert pool.map(square, [1, 2, 3, 4, 5]) == [1, 4, 9, 16, 25]
        assert pool.apply(combine, (1,), {"c": 3}) == (1, 0, 3)
    pool.join()


def test_apply_passes_arguments(any_pool: Pool) -> None:
    """Positional and keyword arguments arrive, whatever kind of iterable and mapping they come in."""
    assert any_pool.apply(combine, [1, 2], {"c": 3}) == (1, 2, 3)
    assert any_pool.apply(combine, iter((1,))) == (1, 0, 0) if isinstance(any_pool, ThreadPool) else True
    assert any_pool.apply_async(combine, (4,)).get(LIMIT) == (4, 0, 0)


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_map_keeps_the_order(any_pool: Pool, chunksize: int | None) -> None:
    """The results of map are in the order of the arguments for any chunk size and kind of iterable."""
    expected = [square(n) for n in range(500)]
    for items in (range(500), list(range(500)), tuple(range(500)), (n for n in range(500))):
        assert any_pool.map(square, items, chunksize) == expected


def test_starmap_unpacks(any_pool: Pool) -> None:
    """starmap takes each item as the arguments of one call."""
    pairs = list(zip(range(100), range(99, -1, -1), strict=True))
    expected = [(a, b, 0) for a, b in pairs]
    assert any_pool.starmap(combine, pairs) == expected
    assert any_pool.starmap(combine, [list(pair) for pair in pairs], chunksize=1) == expected
    assert any_pool.starmap_async(combine, iter(pairs), 30).get(LIMIT) == expected


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("lazy", [False, True])
def test_imap_yields_in_order(any_pool: Pool, chunksize: int, lazy: bool) -> None:
    """imap yields in the order of the arguments, imap_unordered each result once."""
    items = iter(range(100)) if lazy else range(100)
    assert list(any_pool.imap(square, items, chunksize)) == [square(n) for n in range(100)]
    items = iter(range(100)) if lazy else list(range(100))
    assert sorted(any_pool.imap_unordered(square, items, chunksize)) == [square(n) for n in range(100)]


def test_empty_iterables_have_empty_results(any_pool: Pool) -> None:
    """Nothing in, nothing out; a callback is not called for nothing."""
    called: list[Any] = []
    assert any_pool.map(square, []) == []
    assert any_pool.map_async(square, [], 1, called.append, called.append).get(LIMIT) == []
    assert list(any_pool.imap(square, [])) == list(any_pool.imap_unordered(square, iter([]))) == []
    assert not called


def test_an_error_comes_with_its_traceback(pool: Pool) -> None:
    """What a task raises is raised by get, with the worker's traceback as its cause."""
    with pytest.raises(ValueError, match="seven") as caught:
        pool.apply(fail, ("seven",))
    cause = caught.value.__cause__
    assert type(cause) is RemoteTraceback
    assert "raise ValueError(message)" in str(cause)
    assert RemoteTraceback is multiprocessing.pool.RemoteTraceback


def test_a_thread_pools_error_is_the_very_exception() -> None:
    """Threads share exceptions as they are."""
    error = KeyError("same")

    def raise_it() -> None:
        raise error

    with ThreadPool(1) as pool, pytest.raises(KeyError) as caught:
        pool.apply(raise_it)
    assert caught.value is error
    pool.join()


def test_map_raises_only_after_all_tasks_are_done(pool: Pool, tmp_path: Any) -> None:
    """A failing task does not cut the others short."""
    marks = [tmp_path / str(n) for n in range(20)]
    result = pool.map_async(fail_after_touching, marks, chunksize=1)
    with pytest.raises(ValueError, match="touched"):
        result.get(LIMIT)
    assert all(mark.exists() for mark in marks)


def fail_after_touching(path: Any) -> None:
    path.touch()
    raise ValueError("touched")


def test_imap_goes_on_after_an_error(any_pool: Pool) -> None:
    """A failed task is raised in its turn, and the results after it still come."""
    results = any_pool.imap(fail_on_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError):
        next(results)
    assert list(results) == [4, 5]


def broken_generator(good: int) -> Iterator[int]:
    yield from range(good)
    raise KeyError("generator")


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_error_of_the_argument_generator_is_raised_where_results_are_taken(
    any_pool: Pool, method: str
) -> None:
    """Results before the error are still delivered; map raises it at once."""
    for good, chunksize in ((0, 1), (3, 1), (200, 1), (200, 20)):
        results = getattr(any_pool, method)(square, broken_generator(good), chunksize)
        got = []
        with pytest.raises(KeyError, match="generator") as caught:
            for value in results:
                got.append(value)
        assert caught.value.__cause__ is None
        assert (got if method == "imap" else sorted(got)) == [n * n for n in range(good)]
        assert list(results) == []
    chunks = any_pool.imap(square, broken_generator(7), 4)
    assert [next(chunks) for _ in range(4)] == [0, 1, 4, 9]
    with pytest.raises(KeyError):
        next(chunks)
    with pytest.raises(KeyError):
        any_pool.map(square, broken_generator(3))


def test_callbacks_run_before_the_result_is_ready(any_pool: Pool) -> None:
    """Callbacks get the value or the error, in a thread of the pool, before wait returns."""
    seen: list[Any] = []

    def note(value: Any) -> None:
        seen.append((value, threading.current_thread() is threading.main_thread()))

    any_pool.apply_async(square, (3,), {}, note, note).wait(LIMIT)
    any_pool.map_async(square, [1, 2], None, note, note).wait(LIMIT)
    any_pool.apply_async(fail, ("x",), {}, note, note).wait(LIMIT)
    assert seen[:2] == [(9, False), ([1, 4], False)]
    assert isinstance(seen[2][0], ValueError)


def test_a_callback_that_raises_is_reported_and_harms_nobody(
    any_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception goes to threading.excepthook; the result and the other callbacks are there."""
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_type))
    seen: list[int] = []
    assert any_pool.apply_async(square, (2,), callback=fail).get(LIMIT) == 4
    assert any_pool.apply_async(square, (3,), callback=seen.append).get(LIMIT) == 9
    assert (reported, seen) == ([ValueError], [9])


def test_results_say_whether_they_are_ready(any_pool: Pool) -> None:
    """ready, successful, wait and get agree with each other."""
    gate = threading.Event()
    if isinstance(any_pool, ThreadPool):
        waiting = any_pool.apply_async(gate.wait)
        assert not waiting.ready()
        with pytest.raises(ValueError, match="not ready"):
            waiting.successful()
        with pytest.raises(procession.TimeoutError):
            waiting.get(0.01)
        gate.set()
        assert waiting.get(LIMIT)
    good, bad = any_pool.apply_async(square, (2,)), any_pool.apply_async(fail, ("x",))
    good.wait(LIMIT)
    bad.wait(LIMIT)
    assert good.ready() and good.successful() and not bad.successful()
    assert good.get() is good.get()


def test_iterators_time_out_and_go_on(pool: Pool) -> None:
    """next(timeout) raises TimeoutError and loses nothing."""
    lock = procession.get_context("fork").Lock()
    with lock, procession.get_context("fork").Pool(1, remember, (lock,)) as held:
        results = held.imap(wait_for_remembered, [5])
        with pytest.raises(procession.TimeoutError):
            results.next(timeout=0.01)
        lock.release()
        assert results.next(LIMIT) == 5
        with pytest.raises(StopIteration):
            results.next(LIMIT)
        lock.acquire()
    held.join()


def wait_for_remembered(value: Any) -> Any:
    with recall():
        return value


def test_an_initializer_prepares_each_worker(ctx: Any) -> None:
    """The initializer runs in every worker, with its arguments."""
    with ctx.Pool(2, remember, ("ready",)) as pool:
        assert pool.map(recall, range(10), 1) == ["ready"] * 10
    pool.join()


def test_workers_are_replaced_after_their_tasks(nothing_left: None) -> None:
    """With maxtasksperchild=1 every task has a process of its own."""
    with procession.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        pids = pool.map(pid_of, range(12), chunksize=1)
        assert len(set(pids)) == 12
    pool.join()


def test_closing_early_still_finishes_what_was_submitted() -> None:
    """After close and join all results are there, also when workers had to be replaced."""
    pool = procession.get_context("fork").Pool(3, maxtasksperchild=1)
    results = [pool.apply_async(square, (n,)) for n in range(8)]
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == [square(n) for n in range(8)]


def test_an_iterator_nobody_asks_does_not_hold_up_the_end(any_pool: Pool) -> None:
    """close and join return although the results of an imap were never taken, bounded or not."""
    any_pool.imap(square, iter(range(2000)))
    any_pool.imap_unordered(square, iter(range(2000)), buffersize=3)
    any_pool.close()
    any_pool.join()


def test_a_bounded_imap_runs_only_so_far_ahead(any_pool: Pool) -> None:
    """With buffersize, arguments are generated as results are taken."""
    drawn = itertools.count()
    ahead = []
    results = any_pool.imap(square, (next(drawn) for _ in range(50)), buffersize=5)
    for taken, _ in enumerate(results, 1):
        ahead.append(int(repr(drawn)[6:-1]) - taken)
    assert len(ahead) == 50
    assert max(ahead) <= 5


def test_an_endless_generator_is_not_swallowed(any_pool: Pool) -> None:
    """imap draws from an endless generator only as workers keep up, so the first results can be had."""
    results = any_pool.imap(square, itertools.count())
    assert list(itertools.islice(results, 20)) == [square(n) for n in range(20)]


def test_join_can_be_bounded(any_pool: Pool) -> None:
    """A longer wait raises TimeoutError; nothing is lost."""
    started, go_on = threading.Event(), threading.Event()

    def arguments() -> Iterator[int]:
        started.set()
        go_on.wait()
        yield 2

    result = any_pool.imap(square, arguments())
    started.wait()
    any_pool.close()
    with pytest.raises(procession.TimeoutError):
        any_pool.join(0.01)
    go_on.set()
    any_pool.join(LIMIT)
    assert list(result) == [4]


def test_closed_pools_refuse(any_pool: Pool) -> None:
    """A pool that is closed or terminated takes no tasks, and one that runs cannot be joined."""
    with pytest.raises(ValueError, match="still running"):
        any_pool.join()
    any_pool.close()
    for method in (any_pool.map, any_pool.imap, any_pool.imap_unordered, any_pool.map_async):
        with pytest.raises(ValueError, match="not running"):
            method(square, [1])
    with pytest.raises(ValueError, match="not running"):
        any_pool.apply(square, (1,))
    with pytest.raises(ValueError, match="not running"):
        any_pool.__enter__()


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_a_pool_needs_a_worker(kind: Any, number: int) -> None:
    """Pools of no workers are refused."""
    with pytest.raises(ValueError, match="at least 1"):
        kind(number)


def test_wrong_arguments_are_refused(pool: Pool) -> None:
    """Impossible arguments are refused at once, with the stdlib's exceptions."""
    for value in (0, -1, 0.5, "12"):
        with pytest.raises(ValueError, match="maxtasksperchild"):
            Pool(1, maxtasksperchild=value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        Pool(1, initializer=3)  # type: ignore[arg-type]
    for method in (pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="Chunksize"):
            method(square, [1], chunksize=0)
        with pytest.raises(ValueError, match="buffersize"):
            method(square, [1], buffersize=0)


def test_pools_are_not_picklable(any_pool: Pool) -> None:
    """A pool belongs to its process."""
    with pytest.raises(NotImplementedError):
        pickle.dumps(any_pool)


def test_a_pool_shows_its_state(pool: Pool) -> None:
    """repr names the class, the state and the size."""
    assert repr(pool) == "<procession.pool.Pool state=RUN pool_size=2>"
    assert (pool._state, pool._processes, len(pool._pool)) == ("RUN", 2, 2)


def test_a_forgotten_pool_warns_and_is_cleaned_up(nothing_left: None) -> None:
    """Dropping a running pool warns, as in the stdlib, and ends its workers."""
    pool = procession.get_context("fork").Pool(1)
    gone = weakref.ref(pool)
    with pytest.warns(ResourceWarning, match="unclosed running"):
        del pool
        gc.collect()
    assert gone() is None


def test_a_result_keeps_its_pool() -> None:
    """Keeping only the result of a map is enough to get it."""
    result = procession.get_context("fork").Pool(1).map_async(square, [1, 2, 3])
    pool = result._pool
    gc.collect()
    assert result.get(LIMIT) == [1, 4, 9]
    pool.terminate()
    pool.join()


def test_arguments_are_not_kept_alive(pool: Pool) -> None:
    """Once a map is done, neither its arguments nor its results are referred to by the pool."""

    items = [Canary() for _ in range(5)]
    watched = [weakref.ref(item) for item in items]
    results = pool.map(type, items)
    assert len(results) == 5
    del items
    gc.collect()
    assert {ref() for ref in watched} == {None}


def test_each_task_finds_a_callable_object_as_it_was_sent(pool: Pool) -> None:
    """State that a callable object collects in a worker does not leak into other tasks."""
    assert pool.map(Accumulator(), range(6), chunksize=1) == [1] * 6


def test_large_arguments_and_results_arrive(pool: Pool) -> None:
    """Megabytes travel both ways, as arguments, within functions and as results."""
    blob = os.urandom(3_000_000)
    assert pool.apply(identity, (blob,)) == blob
    assert pool.map(identity, [blob, blob], chunksize=1) == [blob, blob]


def test_more_tasks_than_fit_into_shared_memory(pool: Pool) -> None:
    """Tens of thousands of single tasks wait their turn."""
    assert pool.map(square, range(20_000), chunksize=1) == [square(n) for n in range(20_000)]


def test_what_cannot_be_pickled_fails_its_own_task(pool: Pool) -> None:
    """Functions, arguments and results that cannot be pickled are errors of get, and the pool goes on."""
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pool.apply(lambda: 1)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pool.map(lambda n: n, [1])
    with pytest.raises(TypeError):
        pool.map(identity, [threading.Lock()])
    with pytest.raises(MaybeEncodingError, match="lambda"):
        pool.apply(make_lambda)
    assert pool.map(square, [4]) == [16]


def make_lambda() -> Any:
    return lambda: 42


def test_results_are_generic_types() -> None:
    """AsyncResult can be subscripted in annotations."""
    assert AsyncResult[int].__origin__ is AsyncResult
    assert pool_module.ApplyResult is AsyncResult


def test_threads_of_several_callers_share_a_pool(any_pool: Pool) -> None:
    """A pool may be used from many threads at once."""
    results: dict[int, list[int]] = {}

    def use(number: int) -> None:
        results[number] = any_pool.map(square, range(number, number + 50), chunksize=3)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [square(n) for n in range(number, number + 50)] for number in range(8)}


def test_no_thread_outlives_its_pool() -> None:
    """After join the pool's own threads are gone."""
    before = threading.active_count()
    with procession.get_context("fork").Pool(1) as pool:
        pool.apply_async(square, (2,), callback=str).wait(LIMIT)
        list(pool.imap(square, iter([1])))
    pool.join()
    assert threading.active_count() == before


def test_an_idle_pool_uses_no_processor_time(pool: Pool) -> None:
    """Neither waiting workers nor the watcher use processor time."""
    pool.map(square, range(10))
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


class ClassicPool(Pool):
    """Replaces the queues, as joblib and torch do."""

    def _setup_queues(self) -> None:
        super_queues = self._ctx.SimpleQueue
        self._inqueue, self._outqueue = super_queues(), super_queues()
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv


class ChattyPool(ClassicPool):
    """A subclass of a subclass of Pool."""

    def __init__(self, *args: Any, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        self.chatty = True


@pytest.mark.parametrize("kind", [ClassicPool, ChattyPool])
def test_subclasses_with_queues_of_their_own_run_the_classic_way(kind: type[Pool]) -> None:
    """A subclass that replaces internals runs the stdlib's pool with its own queues."""
    with kind(2, context=procession.get_context("fork")) as pool:
        assert isinstance(pool, Pool)
        assert pool.map(square, range(10)) == [square(n) for n in range(10)]
        assert list(pool.imap_unordered(square, [3])) == [9]
        assert pool._inqueue is not None
    pool.join()
