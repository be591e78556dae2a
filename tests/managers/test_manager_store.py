"""The dict and list of a manager, whose plain values lie in shared memory."""

from __future__ import annotations

import os
import pickle
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import procession
from procession import managers


@pytest.fixture(scope="module")
def manager() -> Iterator[Any]:
    """A manager for the tests that do not end it."""
    with procession.Manager() as manager:
        yield manager


def is_in_memory(proxy: Any) -> bool:
    """Whether the proxy reads its values without the server."""
    return proxy._store.is_attached


def reads_until_it_moves(shared: Any, key: int = 0) -> int:
    """Read until the values are in shared memory; return how often that was."""
    reads = 0
    while not is_in_memory(shared):
        assert shared[key] == key
        reads += 1
    return reads


class Odd:
    """An object that only pickle can send."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


def same(operation: Any, ours: Any, theirs: Any, *arguments: Any) -> None:
    """The operation changes both alike, or fails alike."""
    try:
        expected: Any = operation(theirs, *arguments)
    except Exception as error:
        with pytest.raises(type(error)) as raised:
            operation(ours, *arguments)
        assert str(raised.value) == str(error)
    else:
        assert operation(ours, *arguments) == expected


KEYS: list[Any] = [
    "a",
    "b",
    "",
    "ä",
    0,
    1,
    -1,
    2**70,
    b"a",
    b"",
    None,
    (),
    ("a", 1),
    (("a",), None),
    "a" * 300,
]
VALUES: list[Any] = [1, "text", b"bytes", [1, [2]], {"k": (1, 2.5)}, None, True, "long" * 2000, {1, 2}]


DICT_OPERATIONS: list[Any] = [
    lambda d, key, value: d.__setitem__(key, value),
    lambda d, key, value: d.__setitem__(key, value),
    lambda d, key, value: d[key],
    lambda d, key, value: d.__delitem__(key),
    lambda d, key, value: key in d,
    lambda d, key, value: d.get(key),
    lambda d, key, value: d.get(key, value),
    lambda d, key, value: d.pop(key),
    lambda d, key, value: d.pop(key, value),
    lambda d, key, value: d.setdefault(key, value),
    lambda d, key, value: d.setdefault(key),
    lambda d, key, value: d.update({key: value, "more": 1}),
    lambda d, key, value: d.update([(key, value)], name=value),
    lambda d, key, value: len(d),
    lambda d, key, value: list(d),
    lambda d, key, value: list(d.keys()),
    lambda d, key, value: list(d.values()),
    lambda d, key, value: list(d.items()),
    lambda d, key, value: d.copy(),
    lambda d, key, value: str(d),
]
LIST_OPERATIONS: list[Any] = [
    lambda x, index, value: x.append(value),
    lambda x, index, value: x.append(value),
    lambda x, index, value: x.extend([value, index]),
    lambda x, index, value: x.extend(iter((value,))),
    lambda x, index, value: x[index],
    lambda x, index, value: x.__setitem__(index, value),
    lambda x, index, value: x[index:],
    lambda x, index, value: x[::2],
    lambda x, index, value: x.pop(),
    lambda x, index, value: x.pop(-1),
    lambda x, index, value: x.index(value),
    lambda x, index, value: x.index(value, 2),
    lambda x, index, value: x.count(value),
    lambda x, index, value: value in x,
    lambda x, index, value: len(x),
    lambda x, index, value: x + [1],
    lambda x, index, value: x * 2,
    lambda x, index, value: x[True] if len(x) > 1 else None,
    lambda x, index, value: str(x),
    lambda x, index, value: [*x],
]


def test_a_dict_does_what_a_dict_does(manager: Any) -> None:
    """Thousands of operations, on keys of all plain types, with the same results and errors."""
    choose = random.Random(5)
    ours, theirs = manager.dict(), {}
    for _ in range(3000):
        key, value = choose.choice(KEYS), choose.choice(VALUES)
        same(choose.choice(DICT_OPERATIONS), ours, theirs, key, value)
        if choose.random() < 0.01:
            same(lambda d: d.popitem(), ours, theirs)
        if choose.random() < 0.003:
            ours.clear()
            theirs.clear()
    assert is_in_memory(ours)
    assert ours.copy() == theirs


def test_a_list_does_what_a_list_does(manager: Any) -> None:
    """Thousands of operations with the same results and errors."""
    choose = random.Random(6)
    ours, theirs = manager.list(), []
    for _ in range(3000):
        index, value = choose.randint(-12, 12), choose.choice(VALUES)
        same(choose.choice(LIST_OPERATIONS), ours, theirs, index, value)
        if choose.random() < 0.003:
            ours.clear()
            theirs.clear()
    assert is_in_memory(ours)
    ours += ["end"]
    assert ours[:] == [*theirs, "end"]


class Loud:
    """Cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("no comparing")

    __hash__ = None  # type: ignore[assignment]


# Equal ones of several types, unequal ones whose bytes differ little.
SOUGHT: list[Any] = [
    *(0, 1, -1, 127, 128, 256, 1 << 40, 2**70, -(2**70), 1.0, 0.0, -0.0, 0.5, True, False, None),
    *("", "a", "b", "ä", "a" * 9, b"", b"a", b"b"),
    *((), (1,), (1.0,), (True,), ("a", (1, None)), ("a", (1, "")), ("a",) * 2),
    *([1], [1.0], {"k": 1}, {1}, {1.0}, bytearray(b"a"), frozenset({1}), "text" * 40, ("text" * 40,) * 2),
]  # fmt: skip


@pytest.mark.parametrize("length", [len(SOUGHT), 5000])
def test_what_is_sought_in_a_list_is_found_as_lists_find_it(manager: Any, length: int) -> None:
    """`in`, `count` and `index` find equal values of any type, between any bounds."""
    choose = random.Random(7)
    theirs = SOUGHT + choose.choices(SOUGHT, k=length - len(SOUGHT))
    choose.shuffle(theirs)
    ours = manager.list(theirs)
    while not is_in_memory(ours):
        assert len(ours) == length
    bounds = [0, 1, -1, 7, -7, length, -length, length + 1, 2**70, -(2**70)]
    for value in [*SOUGHT, "not there", 3, 2.5, float("nan"), Odd(1), [2]]:
        same(lambda x, value: value in x, ours, theirs, value)
        same(lambda x, value: x.count(value), ours, theirs, value)
        same(lambda x, value: x.index(value), ours, theirs, value)
        same(lambda x, *a: x.index(*a), ours, theirs, value, choose.choice(bounds), choose.choice(bounds))
    for wrong in ("1", 1.5, None):
        same(lambda x, wrong: x.index(1, wrong), ours, theirs, wrong)
    with pytest.raises(ArithmeticError):
        ours.count(Loud())
    assert is_in_memory(ours)


@pytest.mark.parametrize("length", [0, 1, 10, 20000])
def test_a_part_of_a_list_is_what_a_slice_of_it_is(manager: Any, length: int) -> None:
    """Forwards, backwards, beyond the ends."""
    theirs = list(range(length))
    ours = manager.list(theirs)
    while not is_in_memory(ours):
        assert len(ours) == length
    bounds = [None, 0, 1, 3, -1, -3, length, -length, length + 2, -length - 2, 2**70, -(2**70), True]
    for start in bounds:
        for stop in bounds:
            for step in (None, 1, 2, -1, -3, 2**62, -(2**63), 2**70, -(2**70)):
                part = slice(start, stop, step)
                assert ours[part] == theirs[part], part
    for wrong in (slice(None, None, 0), slice("a", None), slice(1.5), slice(None, None, "a")):
        same(lambda x, wrong: x[wrong], ours, theirs, wrong)
    assert is_in_memory(ours)


def turn_round(shared: Any, go_on: Any) -> None:
    """Rotates a list by popping one item and appending one."""
    while go_on.value:
        shared.append(shared.pop())
        shared[0], shared[1] = shared[0], shared[1]


def test_a_part_is_read_while_others_change_the_list(manager: Any) -> None:
    """Each read returns one consistent state."""
    items = [f"item {number:6}" for number in range(20000)]
    shared, go_on = manager.list(items), procession.Value("b", 1)
    changer = procession.Process(target=turn_round, args=(shared, go_on))
    changer.start()
    for start in range(0, 18000, 300):
        assert shared[start : start + 100] == items[start : start + 100]
        assert shared.index(items[start]) == start
        assert shared.count(items[start]) == 1
    go_on.value = 0
    changer.join()
    assert shared[:] == items


@pytest.mark.parametrize(
    "key, value", [(1.5, 1), (True, 1), (Odd(1), 1), ("key", Odd(2)), ((1.5,), 1), (frozenset(), 1)]
)
def test_what_is_not_plain_goes_to_the_server(manager: Any, key: Any, value: Any) -> None:
    """The dict keeps all its items and continues as the stdlib's."""
    shared = manager.dict({"first": 1})
    other = manager.list([shared])[0]
    assert other["first"] == shared["first"] == 1
    assert is_in_memory(shared)
    assert key not in shared
    assert is_in_memory(shared)
    shared[key] = value
    assert not is_in_memory(shared)
    assert other[key] == shared[key] == value
    other["last"] = 2
    assert list(shared.keys()) == ["first", key, "last"]
    del shared[key]
    assert shared.copy() == {"first": 1, "last": 2}


def test_equal_keys_are_one_key(manager: Any) -> None:
    """`1`, `1.0` and `True` are the same key, as in any dict."""
    shared = manager.dict({1: "one"})
    assert shared[1.0] == shared[True] == "one"
    shared[True] = "true"
    assert shared.copy() == {1: "true"}


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.sort(reverse=True),
        lambda x: x.insert(1, "new"),
        lambda x: x.remove(2),
        lambda x: x.reverse(),
        lambda x: x.pop(0),
        lambda x: x.__delitem__(1),
        lambda x: x.__setitem__(slice(0, 2), ["new"]),
        lambda x: x.append(Odd(1)),
        lambda x: x.__imul__(2) and None,
    ],
)
def test_a_list_that_is_rearranged_goes_to_the_server(manager: Any, change: Any) -> None:
    """The list keeps all its items and continues as the stdlib's."""
    ours, theirs = manager.list([1, 2, 3]), [1, 2, 3]
    assert ours[0] == 1
    assert is_in_memory(ours)
    same(change, ours, theirs)
    assert ours[:] == theirs
    ours.append("more")
    assert len(ours) == len(theirs) + 1


def test_a_dict_that_is_changed_while_iterated_over_says_so(manager: Any) -> None:
    """As an ordinary dict does."""
    shared = manager.dict({1: 1, 2: 2})
    with pytest.raises(RuntimeError, match="changed size during iteration"):
        for key in shared:
            shared[key + 10] = 0


def test_values_are_copies(manager: Any) -> None:
    """Changing what was read does not change what is there."""
    shared = manager.dict({"list": [1]})
    shared["list"].append(2)
    assert shared["list"] == [1]


def count_up(shared: Any, lock: Any, times: int) -> None:
    """Add to a counter, under a lock, and leave marks without one."""
    for number in range(times):
        with lock:
            shared["count"] += 1
        shared[os.getpid(), number % 50] = "x" * (number % 200)


def test_processes_change_it_together(ctx: Any) -> None:
    """No item is lost, whichever process makes it grow."""
    with ctx.Manager() as manager:
        shared, lock = manager.dict(count=0), ctx.Lock()
        children = [ctx.Process(target=count_up, args=(shared, lock, 500)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0, 0]
        assert shared["count"] == 1500
        assert is_in_memory(shared)
        assert len(shared) == 1 + 3 * 50
        for child in children:
            assert shared[child.pid, 49] == "x" * 99


def change_for_ever(shared: Any, started: Any) -> None:
    """Set and remove keys until the end."""
    number = 0
    while True:
        shared["changing", number % 10] = [number] * (number % 30)
        if number % 3 == 0:
            shared.pop(("changing", number % 7), None)
        number += 1
        if number == 100:
            started.set()


def test_processes_killed_while_they_change_it_leave_it_whole(ctx: Any) -> None:
    """The other processes go on, and find all items."""
    with ctx.Manager() as manager:
        shared = manager.dict(steady="value")
        for _ in range(5):
            started = ctx.Event()
            victim = ctx.Process(target=change_for_ever, args=(shared, started))
            victim.start()
            assert started.wait(60)
            victim.kill()
            victim.join()
            assert shared["steady"] == "value"
            for key, value in shared.items():
                assert key == "steady" or (key[0] == "changing" and len(set(value)) <= 1)
            shared["mine"] = 1
            assert shared.pop("mine") == 1
        assert is_in_memory(shared)


def test_it_ends_with_its_manager(ctx: Any) -> None:
    """After a shutdown, as after the death of the server, using it is an error."""
    manager = ctx.Manager()
    shared = manager.dict(a=1)
    assert shared["a"] == 1
    manager.shutdown()
    with pytest.raises((OSError, EOFError)):
        shared["a"]

    manager = managers.SyncManager(ctx=ctx)
    manager.start()
    shared = manager.dict(a=1)
    assert shared["a"] == 1
    os.kill(manager._process.pid, signal.SIGKILL)
    manager._process.join()
    with pytest.raises((OSError, EOFError)):
        shared["a"]
    manager.shutdown()


def test_a_large_value_makes_room(manager: Any) -> None:
    """Values of megabytes, again and again under one key."""
    shared = manager.dict()
    for number in range(12):
        shared["key"] = bytes([number]) * 3_000_000
        assert shared["key"] == bytes([number]) * 3_000_000
    assert is_in_memory(shared)


def test_without_memory_for_it_the_server_keeps_it() -> None:
    """A store that cannot grow is abandoned without losing an item."""
    from procession._core.managers.server_store import ServerDict

    kept: Any = ServerDict(a=1)
    assert kept._share()

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def grow(self, *room: int) -> None:
            raise MemoryError

    store, kept._store = kept._store, Full()
    kept._grow(1, 1000)
    assert kept._local == {"a": 1}
    kept["b"] = 2
    assert kept.copy() == {"a": 1, "b": 2}


def test_many_values_move_when_they_are_used_often(manager: Any) -> None:
    """Few values move at once. To move thousands for one read would cost more than the read."""
    assert reads_until_it_moves(manager.dict({1: 1}), 1) == 1
    values = range(2000)
    assert 200 <= reads_until_it_moves(manager.dict({n: n for n in values}), 7) < 220
    assert 200 <= reads_until_it_moves(manager.list(values), 7) < 220


def test_all_proxies_together_use_the_values_often(manager: Any) -> None:
    """Each proxy counts its own calls, and the server the calls of all."""
    first = manager.dict({n: n for n in range(1000)})
    second = pickle.loads(pickle.dumps(first))
    for _ in range(65):
        assert first[1] == second[1] == 1
    assert is_in_memory(first) and is_in_memory(second)
    assert first.copy() == {n: n for n in range(1000)}


def test_a_large_dict_is_iterated_in_order_before_and_after_it_moves(manager: Any) -> None:
    shared = manager.dict({n: n for n in range(500)})
    assert list(shared) == list(range(500)) and not is_in_memory(shared)
    reads_until_it_moves(shared, 3)
    assert list(shared) == list(range(500))


def test_values_move_although_the_first_calls_fail(manager: Any) -> None:
    """A call that raises counts like any other."""
    shared = manager.dict({n: n for n in range(50)})
    for _ in range(9):
        with pytest.raises(KeyError):
            shared["missing"]
    assert is_in_memory(shared)
