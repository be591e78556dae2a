"""Calls with large arguments: they are pickled when workers take them, and all else works as usual."""

from __future__ import annotations

import contextvars
import functools
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

import procession
from procession import ProcessError, TimeoutError, WorkerDied
from procession.pool import Pool

LIMIT = 60.0
SIZE = 4_000_000
MANY = 60
# Two for each of two workers and two more, if a task has two of them; and what is being written.
FEW = 15 * SIZE

go: Any
begun: Any


def prepare(of_go: Any, of_begun: Any) -> None:
    global go, begun
    go, begun = of_go, of_begun


class Workers:
    """A pool whose tasks say that they have begun, and wait until they may go on."""

    def __init__(self, size: int, method: str = "fork", **options: Any) -> None:
        ctx = procession.get_context(method)
        self.go, self.begun = ctx.Event(), ctx.Queue()
        self.pool = ctx.Pool(size, prepare, (self.go, self.begun), **options)

    def names(self) -> list[Any]:
        """The tasks that have begun since the last query."""
        found = []
        while not self.begun.empty():
            found.append(self.begun.get())
        return found


@pytest.fixture
def make() -> Iterator[Callable[..., Workers]]:
    made = []

    def make_workers(size: int, method: str = "fork", **options: Any) -> Workers:
        made.append(Workers(size, method, **options))
        return made[-1]

    yield make_workers
    for workers in made:
        workers.go.set()
        workers.pool.terminate()
        workers.pool.join()


def in_use() -> int:
    used = procession.memory_info()["in_use"]
    assert used is not None
    return used


def blobs(count: int = MANY, size: int = SIZE) -> list[bytes]:
    return [b"%9d" % n + bytes(size - 9) for n in range(count)]


def number(blob: bytes) -> int:
    return int(blob[:9])


def look(blob: bytes, _: Any = None) -> tuple[int, int]:
    begun.put(number(blob))
    assert go.wait(LIMIT)
    return number(blob), in_use()


def small(name: Any) -> Any:
    begun.put(name)
    return name


def applied(pool: Pool, items: list[bytes]) -> Any:
    results = [pool.apply_async(look, (item,)) for item in items]
    return lambda: [result.get(LIMIT) for result in results]


CALLS: dict[str, Callable[[Pool, list[bytes]], Any]] = {
    "map_async": lambda pool, items: functools.partial(pool.map_async(look, items).get, LIMIT),
    "map_async of single items": lambda pool, items: functools.partial(
        pool.map_async(look, items, 1).get, LIMIT
    ),
    "map_async of chunks": lambda pool, items: functools.partial(pool.map_async(look, items, 2).get, LIMIT),
    "map_async of a tuple": lambda pool, items: functools.partial(
        pool.map_async(look, tuple(items), 1).get, LIMIT
    ),
    "starmap_async": lambda pool, items: functools.partial(
        pool.starmap_async(look, [(item, 0) for item in items], 1).get, LIMIT
    ),
    "apply_async": applied,
    "imap": lambda pool, items: functools.partial(list, pool.imap(look, items)),
    "imap of chunks": lambda pool, items: functools.partial(list, pool.imap(look, items, 2)),
    "imap_unordered": lambda pool, items: functools.partial(sorted, pool.imap_unordered(look, items)),
}


@pytest.mark.parametrize("call", CALLS)
def test_shared_memory_does_not_hold_all_arguments(make: Callable[..., Workers], call: str) -> None:
    """At no time are more than a few of the arguments copied."""
    workers, items = make(2), blobs()
    before = in_use()
    results = CALLS[call](workers.pool, items)
    # By default an eighth of the items is a task, of which there is one for each worker, and one.
    bound = before + (2 * FEW if call == "map_async" else FEW)
    assert in_use() < bound < before + MANY * SIZE
    workers.go.set()
    found = results()
    assert [index for index, _ in found] == list(range(MANY))
    assert max(used for _, used in found) < bound


def test_arguments_that_are_not_large_alone_are_together(make: Callable[..., Workers]) -> None:
    """Short strings lie in shared memory as arrays do, and those that wait in the program's own."""
    workers = make(1)
    items = blobs(20_000, 10_000)
    before = in_use()
    results = [workers.pool.map_async(look, items, 1), workers.pool.map_async(look, items, 1)]
    assert in_use() < before + FEW
    assert workers.pool._taskqueue.qsize() < 20_000
    workers.go.set()
    for result in results:
        found = result.get(LIMIT)
        assert [index for index, _ in found] == list(range(20_000))
        assert max(used for _, used in found) < before + FEW


def weigh(table: bytes, item: int) -> int:
    assert go.wait(LIMIT)
    return len(table) + item


def test_functions_that_bring_large_data_along_wait_as_well(make: Callable[..., Workers]) -> None:
    """Each call has a table of its own, as a partial function."""
    workers = make(2)
    tables = blobs(25)
    before = in_use()
    maps = [workers.pool.map_async(functools.partial(weigh, table), range(3)) for table in tables]
    calls = [workers.pool.apply_async(functools.partial(weigh, table), (7,)) for table in tables]
    imaps = [workers.pool.imap(functools.partial(weigh, table), iter(range(3))) for table in tables]
    assert in_use() < before + FEW < before + 3 * len(tables) * SIZE
    workers.go.set()
    for result in maps:
        assert result.get(LIMIT) == [SIZE, SIZE + 1, SIZE + 2]
    assert [result.get(LIMIT) for result in calls] == [SIZE + 7] * len(tables)
    for results in imaps:
        assert list(results) == [SIZE, SIZE + 1, SIZE + 2]


PROGRAM = """
    import resource
    import sys

    import procession


    def number(blob, *_):
        return int(blob[:9])


    if __name__ == "__main__":
        procession.set_start_method(sys.argv[1])
        with procession.Pool(2) as pool:
            pool.map(abs, range(10))
            items = [b"%9d" % n + bytes(4_000_000 - 9) for n in range(120)]
            with open("/proc/self/statm") as sizes:
                now = int(sizes.read().split()[0]) * resource.getpagesize()
            # Room for some of them, and for threads, but not for all 480 MB.
            limit = now + 300_000_000
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            numbers = list(range(120))
            assert pool.map(number, items, 1) == numbers
            assert pool.starmap(number, [(item, 1) for item in items], 1) == numbers
            assert list(pool.imap(number, items)) == numbers
            assert sorted(pool.imap_unordered(number, items)) == numbers
            assert [call.get() for call in [pool.apply_async(number, (item,)) for item in items]] == numbers
        print("done")
"""


def test_a_program_without_memory_for_its_arguments_twice(
    start_method: str, run_script: Callable[..., Any]
) -> None:
    """Under RLIMIT_AS there is no MemoryError."""
    done = run_script(PROGRAM, start_method)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_small_calls_do_not_overtake_large_ones(make: Callable[..., Workers]) -> None:
    """Tasks begin in the order of the calls."""
    workers = make(1)
    items = blobs(20)
    results = [
        workers.pool.map_async(look, items, 1),
        workers.pool.apply_async(small, ("call",)),
        workers.pool.map_async(small, ["map"]),
        workers.pool.apply_async(look, (items[7],)),
        workers.pool.apply_async(small, ("last",)),
    ]
    workers.go.set()
    for result in results:
        result.get(LIMIT)
    assert workers.names() == [*range(20), "call", "map", 7, "last"]


def test_small_calls_go_straight_to_workers_when_those_before_did(make: Callable[..., Workers]) -> None:
    """However much memory the running tasks take."""
    workers = make(2)
    blocked = workers.pool.apply_async(look, (blobs(1, 20 * SIZE)[0],))
    assert workers.begun.get(timeout=LIMIT) == 0
    threads = threading.active_count()
    assert workers.pool.apply(small, ("small",)) == "small"
    assert threading.active_count() == threads
    workers.go.set()
    blocked.get(LIMIT)


def test_large_calls_do_not_wait_for_generators(make: Callable[..., Workers]) -> None:
    """An imap may have arguments without an end, or such that come from other calls."""
    workers = make(2)
    workers.go.set()
    items = blobs(20)
    endless = workers.pool.imap(abs, itertools.count())
    assert [index for index, _ in workers.pool.map(look, items, 1)] == list(range(20))
    assert next(endless) == 0
    other = make(2)
    other.go.set()
    nested = other.pool.imap(abs, (other.pool.map(look, items, 1)[n][0] for n in range(3)))
    assert list(nested) == [0, 1, 2]


@pytest.mark.parametrize("call", ["map_async", "apply_async", "imap"])
def test_cancelled_calls_do_not_begin(make: Callable[..., Workers], call: str) -> None:
    """Neither submitted tasks nor waiting ones run."""
    workers = make(1)
    items = blobs(20)
    results: list[Any]
    if call == "apply_async":
        results = [workers.pool.apply_async(look, (item,)) for item in items]
    else:
        results = [getattr(workers.pool, call)(look, items, 1)]
    assert workers.begun.get(timeout=LIMIT) == 0
    # The last ones first: else the next begins with a new worker.
    for result in reversed(results):
        assert result.cancel()
        with pytest.raises(CancelledError):
            result.next() if call == "imap" else result.get(LIMIT)
    assert workers.pool.apply_async(small, ("after",)).get(LIMIT) == "after"
    assert workers.names() == ["after"]


def test_ctrl_c_in_a_map_takes_the_rest_back(make: Callable[..., Workers]) -> None:
    """Tasks that were not submitted yet are dropped."""

    class Interrupt(Exception):
        pass

    def interrupt(signum: int, frame: Any) -> None:
        raise Interrupt

    workers = make(1)
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    assert main is not None
    first: list[Any] = []

    def send() -> None:
        first.append(workers.begun.get(timeout=LIMIT))
        signal.pthread_kill(main, signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Interrupt):
            workers.pool.map(look, blobs(20), 1)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert workers.pool.apply(small, ("after",)) == "after"
    assert (first, workers.names()) == ([0], ["after"])


def test_fail_fast_ends_the_rest(make: Callable[..., Workers]) -> None:
    """The first failure is the result, and what was not submitted is not done."""
    workers = make(1)
    workers.go.set()
    items = blobs(20)
    items[1] = b"no number" + bytes(SIZE)
    with pytest.raises(ValueError, match="no number"):
        workers.pool.map_async(look, items, 1, fail_fast=True).get(LIMIT)
    assert workers.pool.apply(small, ("after",)) == "after"
    names = workers.names()
    assert names[0] == 0 and names[-1] == "after" and 19 not in names


def die_once(blob: bytes) -> int:
    if number(blob) == 7 and not go.is_set():
        go.set()
        os.kill(os.getpid(), signal.SIGKILL)
    return number(blob)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_worker_that_dies_costs_its_task_alone(make: Callable[..., Workers], retries: int) -> None:
    """The others are submitted all the same; with retries, it is done again."""
    workers = make(2)
    calls = [workers.pool.apply_async(die_once, (item,), retries=retries) for item in blobs(20)]
    for index, call in enumerate(calls):
        if index == 7 and not retries:
            with pytest.raises(WorkerDied):
                call.get(LIMIT)
        else:
            assert call.get(LIMIT) == index


def test_workers_are_replaced_after_so_many_large_tasks(make: Callable[..., Workers]) -> None:
    """A closed pool does all it was given, with workers for one task each."""
    workers = make(2, maxtasksperchild=1)
    workers.go.set()
    result = workers.pool.map_async(look, blobs(12), 1)
    workers.pool.close()
    workers.pool.join()
    assert [index for index, _ in result.get(0)] == list(range(12))


def test_a_limit_of_time_counts_from_the_beginning_of_a_task(make: Callable[..., Workers]) -> None:
    """Not while its arguments wait."""
    workers = make(1)
    items = blobs(12)
    first = workers.pool.map_async(look, items, 1)
    late = workers.pool.apply_async(look, (items[3],), task_timeout=LIMIT)
    stuck = workers.pool.apply_async(signal.pause, (), task_timeout=0.05)
    workers.go.set()
    assert len(first.get(LIMIT)) == 12
    assert late.get(LIMIT)[0] == 3
    with pytest.raises(TimeoutError):
        stuck.get(LIMIT)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ValueError("not to be pickled")


def test_what_cannot_be_pickled_fails_its_task_alone(make: Callable[..., Workers]) -> None:
    """The error is the result whenever it is found, and goes to error_callback."""
    workers = make(2)
    workers.go.set()
    items: list[Any] = blobs(20)
    items[15] = Unpicklable()
    results = workers.pool.imap(look, items)
    found = []
    for index in range(20):
        if index == 15:
            with pytest.raises(ValueError, match="not to be pickled"):
                next(results)
        else:
            found.append(next(results)[0])
    assert found == [*range(15), *range(16, 20)]
    with pytest.raises(ValueError, match="not to be pickled"):
        workers.pool.map(look, items, 1)
    workers.go.clear()
    failures: list[BaseException] = []
    values: list[Any] = []
    calls = [
        workers.pool.apply_async(look, (item,), callback=values.append, error_callback=failures.append)
        for item in items
    ]
    unknown = workers.pool.map_async(Unpicklable().__reduce__, items)
    workers.go.set()
    for call in calls:
        call.wait(LIMIT)
    assert [value[0] for value in sorted(values)] == found
    assert [str(failure) for failure in failures] == ["not to be pickled"]
    with pytest.raises(ValueError, match="not to be pickled"):
        unknown.get(LIMIT)


def test_a_list_may_be_changed_when_the_call_has_returned(make: Callable[..., Workers]) -> None:
    """The call uses the items as they were."""
    workers = make(2)
    items = blobs(20)
    result = workers.pool.map_async(look, items, 1)
    items.clear()
    workers.go.set()
    assert [index for index, _ in result.get(LIMIT)] == list(range(20))


VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE", default=0)


class Contextual:
    def __reduce__(self) -> Any:
        return int, (VARIABLE.get(),)


def test_arguments_are_pickled_in_the_context_of_the_call(make: Callable[..., Workers]) -> None:
    """Context variables are as they were when it was made."""
    workers = make(1)
    blocker = workers.pool.map_async(look, blobs(10), 1)
    calls = []
    for value in (5, 6):
        VARIABLE.set(value)
        calls.append(workers.pool.apply_async(abs, (Contextual(),)))
    VARIABLE.set(7)
    workers.go.set()
    assert [call.get(LIMIT) for call in calls] == [5, 6]
    blocker.get(LIMIT)


def test_calls_have_keyword_arguments_and_any_function(make: Callable[..., Workers]) -> None:
    """Also where the arguments wait."""
    workers = make(1)
    blocker = workers.pool.map_async(look, blobs(10), 1)
    pool = workers.pool
    calls = [
        pool.apply_async(int, ("11",), {"base": 3}),
        pool.apply_async(functools.partial(int, base=4), ["11"]),
        pool.apply_async("{}-{}".format, "ab"),
    ]
    workers.go.set()
    assert [call.get(LIMIT) for call in calls] == [4, 5, "a-b"]
    blocker.get(LIMIT)


def test_terminate_ends_what_waits(make: Callable[..., Workers]) -> None:
    """Results that are not there fail, and arguments are kept of no tasks but those that ran."""
    workers = make(2)
    before = in_use()
    results = [workers.pool.map_async(look, blobs(20), 1), workers.pool.apply_async(small, ("late",))]
    assert workers.begun.get(timeout=LIMIT) in (0, 1)
    workers.pool.terminate()
    workers.pool.join()
    for result in results:
        with pytest.raises(ProcessError, match="terminated"):
            result.get(LIMIT)
    del results, result
    assert in_use() < before + 3 * SIZE
    assert workers.pool._taskqueue.empty()


def test_the_insides_say_how_much_waits(make: Callable[..., Workers]) -> None:
    """Each call whose arguments wait counts as one task that no worker can reach."""
    workers = make(1)
    results = [workers.pool.map_async(look, blobs(20), 1)]
    results += [workers.pool.apply_async(small, (n,)) for n in range(3)]
    assert workers.pool._taskqueue.qsize() == 4
    workers.go.set()
    for result in results:
        result.get(LIMIT)
    assert workers.pool._taskqueue.empty()


@pytest.mark.parametrize("way", ["sys.exit()", "raise KeyError", "os._exit(0)", "pass"])
def test_a_program_ends_while_arguments_wait(way: str, run_script: Callable[..., Any]) -> None:
    """It neither waits for them nor hangs."""
    done = run_script(f"""
        import os, sys
        import time

        import procession

        if __name__ == "__main__":
            pool = procession.get_context("fork").Pool(1)
            items = [(600, bytes(4_000_000)) for _ in range(20)]
            results = [pool.starmap_async(lambda seconds, _: time.sleep(seconds), items, 1)]
            results += [pool.apply_async(time.sleep, (600,)) for _ in range(5)]
            print("submitted", flush=True)
            {way}
    """)
    assert done.stdout == "submitted\n"
    assert done.returncode == (1 if "raise" in way else 0)
