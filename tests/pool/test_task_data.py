"""The data of a pool's tasks: callables with data, objects that tasks share, and errors about them."""

from __future__ import annotations

import collections
import contextvars
import decimal
import functools
import itertools
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import procession
from procession import WorkerDied
from procession.pool import Pool

LIMIT = 30.0
LARGE = 300_000


@pytest.fixture
def pool() -> Iterator[Pool]:
    with procession.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


class Table:
    """Data that counts how often it was pickled, and unpickled in this process."""

    pickled = 0
    unpickled = 0

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers

    def __getstate__(self) -> dict[str, Any]:
        Table.pickled += 1
        return {"numbers": self.numbers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        Table.unpickled += 1

    def look_up(self, index: int) -> tuple[int, int, float]:
        return os.getpid(), Table.unpickled, float(self.numbers[index])

    def __call__(self, index: int) -> tuple[int, int, float]:
        return self.look_up(index)

    def add(self, left: int, right: int) -> tuple[int, int, float]:
        return self.look_up(left + right)


def look_up(table: Table, index: int) -> tuple[int, int, float]:
    return table.look_up(index)


ARRAY = np.arange(float(LARGE))

CALLABLES: dict[str, Callable[[Table], Any]] = {
    "partial": lambda table: functools.partial(look_up, table),
    "partial of a partial": lambda table: functools.partial(functools.partial(look_up), table),
    "bound method": lambda table: table.look_up,
    "callable object": lambda table: table,
}


def runs(pool: Pool, function: Any) -> Iterator[tuple[str, list[tuple[int, int, float]]]]:
    """A hundred items through every kind of call."""
    yield "map", pool.map(function, range(100))
    yield "map, chunks of 1", pool.map(function, range(100), 1)
    yield "imap", list(pool.imap(function, iter(range(100))))
    yield "imap, chunks of 7", list(pool.imap(function, range(100), 7))
    unordered = pool.imap_unordered(function, range(100), 3)
    yield "imap_unordered", sorted(unordered, key=lambda found: found[2])
    yield "map_async", pool.map_async(function, range(100)).get(LIMIT)


@pytest.mark.parametrize("numbers", [ARRAY, list(range(1000))], ids=["array", "list"])
@pytest.mark.parametrize("kind", CALLABLES)
def test_a_callable_with_data_is_unpickled_once_a_worker_and_job(pool: Pool, kind: str, numbers: Any) -> None:
    """It is pickled once, however many tasks the job has."""
    table = Table(numbers)
    before: collections.Counter[int] = collections.Counter()
    Table.pickled = 0
    for way, found in runs(pool, CALLABLES[kind](table)):
        pickled, Table.pickled = Table.pickled, 0
        assert pickled == 1, way
        assert [value for _, _, value in found] == list(range(100)), way
        latest = {pid: max(n for of, n, _ in found if of == pid) for pid in {pid for pid, _, _ in found}}
        assert all(count <= before[pid] + 1 for pid, count in latest.items()), way
        before.update({pid: count - before[pid] for pid, count in latest.items()})


def test_starmap_of_a_bound_method_unpickles_it_once(pool: Pool) -> None:
    """As map does."""
    found = pool.starmap(Table(ARRAY).add, [(n, 1) for n in range(100)], chunksize=1)
    assert [value for _, _, value in found] == list(range(1, 101))
    assert {count for _, count, _ in found} == {1}


class Careless:
    """Changes itself when it is called, in as many ways as there are methods."""

    def __init__(self) -> None:
        self.calls = 0
        self.items: list[int] = []
        self.nested: dict[str, dict[int, int]] = {"found": {}}
        self.array = np.zeros(LARGE)
        self.few = np.zeros(3)
        self.bytes = bytearray(3)
        self.kinds = {"a"}
        self.random = random.Random(3)
        self.queue = collections.deque([0])
        self.lists: Any = collections.defaultdict(list)

    def __call__(self, _: int) -> int:
        self.calls += 1
        return self.calls

    def append(self, item: int) -> int:
        self.items.append(item)
        return len(self.items)

    def replace(self, item: int) -> dict[int, int]:
        self.nested["found"] = self.nested["found"] | {len(self.nested["found"]): 0}
        return self.nested["found"]

    def write(self, _: int) -> float:
        self.array[LARGE // 2] += 1
        return float(self.array.sum())

    def write_few(self, _: int) -> float:
        self.few += 1
        return float(self.few.sum())

    def write_bytes(self, _: int) -> bytes:
        self.bytes[1] += 1
        return bytes(self.bytes)

    def add_kind(self, _: int) -> int:
        self.kinds.add(str(len(self.kinds)))
        return len(self.kinds)

    def draw(self, _: int) -> float:
        return self.random.random()

    def turn(self, _: int) -> int:
        self.queue.append(len(self.queue))
        return self.queue[-1]

    def gather(self, _: int) -> int:
        self.lists[len(self.lists)].append(1)
        return len(self.lists)

    def name(self, _: int) -> bool:
        known = hasattr(self, "named")
        self.named = None
        return known

    def shrink(self, _: int) -> tuple[int, ...]:
        self.array = self.array[1:]
        return self.array.shape


CARELESS: dict[str, Callable[[], Any]] = {
    name: functools.partial(getattr, Careless(), name)
    for name, value in vars(Careless).items()
    if callable(value) and name != "__init__"
} | {
    "partial": lambda: functools.partial(Careless.append, Careless()),
    "method of a list": lambda: [3, 2, 1].__iadd__,
    "method of a dict": lambda: dict.fromkeys(range(4)).pop,
}


@pytest.mark.parametrize("change", CARELESS)
def test_what_a_task_changes_in_its_callable_is_seen_in_its_chunk_only(pool: Pool, change: str) -> None:
    """The next chunk of the job finds the callable as it was sent, and so does the next job."""
    function = CARELESS[change]()
    items: list[Any] = [[n] for n in range(4)] if change == "method of a list" else list(range(4))
    chunk = pool.map(CARELESS[change](), items, 4)
    for _ in range(2):
        assert pool.map(function, items + items, 4) == chunk + chunk
        alone = [pool.apply(function, (item,)) for item in items]
        assert pool.map(function, items, 1) == alone
        assert list(pool.imap(function, iter(items))) == alone


def first_of(pair: tuple[Any, int]) -> float:
    array, index = pair
    value = float(array[index])
    array[index] = -1
    return value


def test_an_array_that_all_tasks_mention_is_each_tasks_own(pool: Pool) -> None:
    """It is written to memory once, and no task sees what another one writes."""
    array = np.arange(float(LARGE))
    for chunksize in (None, 1, 3):
        assert pool.map(first_of, [(array, 5)] * 1 + [(array, n) for n in range(20, 60)], chunksize)[0] == 5
        assert pool.map(first_of, [(array.copy(), 5) for _ in range(6)], 1) == [5] * 6
        assert pool.map(first_of, [(array, 5)] * 6, 1) == [5] * 6
    assert array[5] == 5


class Scratch:
    """An item that is pickled through memory shared with the others."""

    memory = np.zeros(LARGE)

    def __init__(self, value: float) -> None:
        self.value = value

    def __getstate__(self) -> np.ndarray:
        Scratch.memory[:] = self.value
        return Scratch.memory

    def __setstate__(self, state: np.ndarray) -> None:
        self.value = float(state[7])


def value_of(item: Scratch) -> float:
    return item.value


def test_memory_that_is_used_again_between_two_tasks_is_sent_as_it_was(pool: Pool) -> None:
    """The same memory is not the same content."""
    assert pool.map(value_of, [Scratch(n) for n in range(6)], 1) == list(range(6))
    assert list(pool.imap(value_of, (Scratch(n) for n in range(6)))) == list(range(6))


def memory_in_use() -> int:
    from procession import _native

    _native.reap_all()
    return _native.memory_stats()["blocks_in_use"]


def test_a_callables_data_goes_with_its_job(pool: Pool) -> None:
    """Neither the program nor its idle workers keep the data."""
    pool.map(abs, range(10))
    pool.map(functools.partial(look_up, Table(ARRAY)), range(10))
    before = memory_in_use()
    for _ in range(20):
        pool.map(functools.partial(look_up, Table(ARRAY.copy())), range(10), 1)
    limit = time.monotonic() + LIMIT
    while memory_in_use() > before + 4:
        assert time.monotonic() < limit
        time.sleep(0.01)


def die_at(bad: int, item: int) -> int:
    if item == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def sleep_at(bad: int, item: int) -> int:
    if item == bad:
        time.sleep(LIMIT)
    return item


def test_a_death_names_the_item(pool: Pool) -> None:
    """By its index in the iterable, however it was chunked."""
    die = functools.partial(die_at, 577)
    for chunksize in (None, 1, 100):
        with pytest.raises(WorkerDied, match=r"die_at.* on item 577;"):
            pool.map(die, range(1000), chunksize)
    with pytest.raises(WorkerDied, match="die_at on item 3;"):
        pool.starmap(die_at, [(7, n) for n in range(4, 30)])
    for chunksize in (1, 7):
        for results in (
            pool.imap(die, iter(range(600)), chunksize),
            pool.imap_unordered(die, list(range(600)), chunksize),
        ):
            with pytest.raises(WorkerDied, match="on item 577;"):
                list(results)
    with pytest.raises(WorkerDied, match="while it ran die_at;"):
        pool.apply(die_at, (1, 1))


def test_a_time_limit_names_the_item_the_limit_and_the_time(pool: Pool) -> None:
    """And it is a limit for each call, not for the chunk it is in."""
    with pytest.raises(procession.TimeoutError, match=r"on item 57 .* for 0\.\d+ s.* task_timeout is 0\.2 s"):
        pool.map(functools.partial(sleep_at, 57), range(100), task_timeout=0.2)
    with pytest.raises(procession.TimeoutError, match=r"sleep_at took too long: it ran for"):
        pool.apply(sleep_at, (1, 1), task_timeout=0.2)


def test_a_time_limit_is_for_each_item_of_a_chunk(pool: Pool) -> None:
    """A chunk of many short calls may take longer than the limit of one."""
    assert pool.map(time.sleep, [0.05] * 12, 12, task_timeout=0.4) == [None] * 12


def fail_at(bad: int, item: int) -> int:
    if item == bad:
        raise ValueError(item)
    return item


def note_and_fail_at_0(folder: str, item: int) -> int:
    if item == 0:
        raise ValueError(item)
    open(os.path.join(folder, str(item)), "w").close()
    return item


def test_a_job_can_end_with_its_first_failure(tmp_path: Any) -> None:
    """fail_fast takes back what has not begun; without it, everything runs as in the stdlib."""
    note = functools.partial(note_and_fail_at_0, str(tmp_path))
    with procession.get_context("fork").Pool(1) as pool:
        for way in (pool.map, pool.imap, pool.imap_unordered):
            with pytest.raises(ValueError, match="0"):
                list(way(note, range(5000), 1, fail_fast=True))
            with pytest.raises(ValueError, match="0"):
                list(way(note, iter(range(5000)), 1, fail_fast=True))
        assert len(list(tmp_path.iterdir())) < 4999
        with pytest.raises(ValueError, match="0"):
            pool.map(note, range(5000), 1)
        assert len(list(tmp_path.iterdir())) == 4999
        with pytest.raises(ValueError, match="7"):
            pool.starmap(fail_at, [(7, n) for n in range(100)], fail_fast=True)
        assert pool.map(fail_at_none, range(50), fail_fast=True) == list(range(50))
        failed = pool.map_async(note, range(50), fail_fast=True)
        failed.wait(LIMIT)
        assert failed.ready() and not failed.successful()
        pool.close()
        pool.join()


def fail_at_none(item: int) -> int:
    return item


def first_column(row: tuple[int]) -> int:
    return row[0]


DATABASES: list[sqlite3.Connection] = []


@pytest.fixture(autouse=True)
def closed_databases() -> Iterator[None]:
    yield
    while DATABASES:
        DATABASES.pop().close()


def rows(count: int) -> sqlite3.Cursor:
    db = sqlite3.connect(":memory:")
    DATABASES.append(db)
    db.execute("create table t (n int)")
    db.executemany("insert into t values (?)", [(n,) for n in range(count)])
    return db.execute("select n from t order by n")


def generated(count: int) -> Iterator[tuple[int]]:
    cursor = rows(count)

    def rows_of() -> Iterator[tuple[int]]:
        yield from cursor

    return rows_of()


SOURCES: dict[str, Callable[[int], Any]] = {
    "cursor": rows,
    "generator expression": lambda count: (row for row in rows(count)),
    "generator": generated,
    "enumerate": lambda count: ((row[0], at) for at, row in enumerate(rows(count))),
    "zip": lambda count: zip((row[0] for row in rows(count)), itertools.count()),
    "chain": lambda count: itertools.chain(rows(count), []),
}


@pytest.mark.parametrize("source", SOURCES)
def test_imap_over_a_database_cursor(pool: Pool, source: str) -> None:
    """Only the thread that made it may draw from it."""
    for count in (0, 50, 5000):
        numbers = list(range(count))
        assert list(pool.imap(first_column, SOURCES[source](count))) == numbers
        assert list(pool.imap(first_column, SOURCES[source](count), 7)) == numbers
        assert sorted(pool.imap_unordered(first_column, SOURCES[source](count), 3, buffersize=10)) == numbers


def test_imap_over_a_cursor_that_nobody_iterates_does_not_keep_the_pool() -> None:
    """What was not drawn is drawn when the pool is joined, in any thread."""
    with procession.get_context("fork").Pool(2) as pool:
        results = pool.imap(first_column, rows(5000))
        pool.close()
        pool.join(LIMIT)
        assert list(results) == list(range(5000))
    with procession.get_context("fork").Pool(2) as pool:
        pool.imap(first_column, rows(5000))
        pool.close()
        thread = threading.Thread(target=pool.join)
        thread.start()
        thread.join(LIMIT)
        assert not thread.is_alive()


VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE", default=0)


def test_a_generator_finds_the_context_of_its_caller(pool: Pool) -> None:
    """Its context variables, and the decimal context, which is one."""
    VARIABLE.set(5)
    with decimal.localcontext() as context:
        context.prec = 3
        found = pool.imap(abs, ((VARIABLE.get(), decimal.Decimal(1) / 3)[n] for n in (0, 1)))
        assert list(found) == [5, decimal.Decimal("0.333")]


def count_in(counter: Any) -> None:
    global done
    done = counter


def counted(data: bytes) -> int:
    with done:
        done.value += 1
    return len(data)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_large_arguments_are_generated_as_workers_take_them(method: str) -> None:
    """A program that streams files through a pool has no memory for all of them."""
    counter, ahead = procession.Value("i"), []

    def files() -> Iterator[bytes]:
        for drawn in range(200):
            ahead.append(drawn - counter.value)
            yield bytes(2_000_000)

    with procession.Pool(2, count_in, (counter,)) as pool:
        assert list(getattr(pool, method)(counted, files())) == [2_000_000] * 200
    # In a chunk of memory for them, or with two for each worker, and those whose results are on their way.
    assert max(ahead) < 30
