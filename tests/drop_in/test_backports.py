"""Additions of newer Pythons to `multiprocessing` exist on every supported Python."""

from __future__ import annotations

import operator
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from typing import Any

import pytest

import procession
from procession import managers


@pytest.fixture(scope="module")
def manager() -> Iterator[Any]:
    """One manager for the tests that only use its proxies."""
    with procession.Manager() as running:
        yield running


def run(ctx: Any, target: Any, *args: Any) -> None:
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join(60)
    assert process.exitcode == 0


# Lists and dicts of a manager (3.13, 3.14).


def test_a_managers_list_is_copied_and_cleared(manager: Any) -> None:
    """copy() gives a plain list, clear() empties the shared one."""
    numbers = manager.list([1, 2])
    twin = numbers.copy()
    numbers.clear()
    assert twin == [1, 2] and type(twin) is list and len(numbers) == 0


def test_a_managers_dict_is_merged_with_others(manager: Any) -> None:
    """`|` from either side gives a plain dict, `|=` changes the shared one, also from pairs."""
    table = manager.dict(a=1)
    merged = table | {"a": 2, "b": 2}
    assert merged == {"a": 2, "b": 2} and type(merged) is dict
    assert {"a": 0, "c": 3} | table == {"a": 1, "c": 3}
    same = table
    table |= {"b": 2}
    table |= [("c", 3)]
    table |= manager.dict(d=4)
    assert same is table and table.copy() == {"a": 1, "b": 2, "c": 3, "d": 4}
    for wrong in (1, [1]):
        with pytest.raises(TypeError):
            table |= wrong
    with pytest.raises(TypeError):
        table | [("a", 1)]


def test_a_managers_dict_is_walked_backwards_and_makes_dicts_of_keys(manager: Any) -> None:
    """reversed() and fromkeys() are those of dict."""
    table = manager.dict(a=1, b=2)
    assert list(reversed(table)) == ["b", "a"] and list(table) == ["a", "b"]
    assert table.fromkeys("xy") == {"x": None, "y": None}
    assert table.fromkeys("x", 7) == {"x": 7} and table.copy() == {"a": 1, "b": 2}


def test_proxies_are_what_the_abstract_classes_call_them(manager: Any) -> None:
    """Lists and dicts of a manager, and the proxies' types can be subscripted in annotations."""
    assert isinstance(manager.list(), MutableSequence)
    assert isinstance(manager.dict(), MutableMapping)
    for proxy in (managers.ListProxy, managers.DictProxy):
        assert proxy[int].__origin__ is proxy and proxy[int].__args__ == (int,)


# Sets of a manager (3.14).


def test_a_managers_set_has_the_methods_of_set(manager: Any) -> None:
    """In-place methods change the shared set; methods that make a new set return a plain one."""
    shared, plain = manager.set([1, 2, 3]), {1, 2, 3}
    for change in (
        operator.methodcaller("add", 4),
        operator.methodcaller("discard", 9),
        operator.methodcaller("remove", 1),
        operator.methodcaller("update", [5], {6}),
        operator.methodcaller("difference_update", [2]),
        operator.methodcaller("intersection_update", [3, 4, 5]),
        operator.methodcaller("symmetric_difference_update", [3, 8]),
    ):
        assert change(shared) is None and change(plain) is None
        assert shared.copy() == plain and sorted(shared) == sorted(plain) and len(shared) == len(plain)
    assert 8 in shared and 3 not in shared
    for ask in ("union", "intersection", "difference", "symmetric_difference"):
        answer = getattr(shared, ask)([4, 7])
        assert answer == getattr(plain, ask)([4, 7]) and type(answer) is set
    assert shared.isdisjoint([0]) and shared.issubset(range(10)) and shared.issuperset([4])
    with pytest.raises(KeyError):
        shared.remove("not there")
    taken = {shared.pop(), shared.pop(), shared.pop()}
    assert taken == plain and len(shared) == 0
    shared.add(1)
    shared.clear()
    assert shared.copy() == set() and str(shared) == "set()"


def test_a_managers_set_has_the_operators_of_set(manager: Any) -> None:
    """The operators work from either side with plain sets; so do comparisons."""
    shared, other = manager.set([1, 2]), {2, 3}
    for operation in (operator.and_, operator.or_, operator.sub, operator.xor):
        assert operation(shared, other) == operation({1, 2}, other)
        assert operation(other, shared) == operation(other, {1, 2})
    assert shared <= {1, 2} and shared >= {1, 2} and shared < {1, 2, 3} and shared > {1}
    with pytest.raises(TypeError):
        shared | [1]


def test_a_managers_set_is_changed_in_place(manager: Any) -> None:
    """`|=` and its like change the shared set, and the name stays bound to the proxy."""
    shared = same = manager.set([1, 2])
    shared |= {3, 4}
    assert shared.copy() == {1, 2, 3, 4}
    shared &= {1, 2, 3}
    shared -= {1}
    shared ^= {3, 5}
    assert shared is same and shared.copy() == {2, 5}


def test_a_managers_set_can_be_made_from_anything_and_held_anywhere(manager: Any) -> None:
    """A set is made from nothing, an iterable or a mapping, or as an item of another shared object."""
    assert manager.set().copy() == set() and manager.set({"k": 1}).copy() == {"k"}
    table, inner = manager.dict(), manager.set([1])
    table["set"] = inner
    inner.add(2)
    table["set"].add(3)
    assert table["set"].copy() == inner.copy() == {1, 2, 3}
    assert type(table["set"]) is type(inner) is managers.SetProxy


def test_a_managers_set_is_a_mutable_set_here() -> None:
    """This package's SetProxy is a MutableSet; the type can be subscripted on every Python."""
    if managers.SetProxy.__module__ == "procession.managers":
        assert issubclass(managers.SetProxy, MutableSet)
    assert managers.SetProxy[int].__origin__ is managers.SetProxy


def change(numbers: Any, table: Any, names: Any) -> None:
    assert numbers.copy() == [1] and names.copy() == {"parent"}
    numbers.clear()
    table |= {"child": True}
    names |= {"child"}
    table["names"].add("nested")


def test_late_methods_work_in_a_child(ctx: Any) -> None:
    """The parent sees what the child does through its proxies."""
    with ctx.Manager() as manager:
        numbers, names = manager.list([1]), manager.set(["parent"])
        table = manager.dict(names=names)
        run(ctx, change, numbers, table, names)
        assert numbers.copy() == [] and table["child"] is True
        assert names.copy() == {"parent", "child", "nested"}


# locked() (3.14).

LOCKS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore")


def hold(lock: Any, held: Any, enough: Any) -> None:
    with lock:
        held.set()
        assert enough.wait(60)


@pytest.mark.parametrize("kind", LOCKS)
@pytest.mark.parametrize("shared_by", ["engine", "manager"])
def test_a_lock_says_whether_it_is_held(kind: str, shared_by: str, ctx: Any) -> None:
    """`locked` counts this process and every other."""
    with ctx.Manager() as manager:
        lock = getattr(ctx if shared_by == "engine" else manager, kind)()
        held, enough = ctx.Event(), ctx.Event()
        assert lock.locked() is False
        process = ctx.Process(target=hold, args=(lock, held, enough))
        process.start()
        assert held.wait(60) and lock.locked() is True
        enough.set()
        process.join(60)
        assert process.exitcode == 0 and lock.locked() is False
        with lock:
            assert lock.locked() is True


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
def test_a_managers_semaphore_is_locked_when_nothing_is_left(kind: str, manager: Any) -> None:
    """One of two units taken still leaves one."""
    semaphore = getattr(manager, kind)(2)
    assert semaphore.acquire() and not semaphore.locked()
    assert semaphore.acquire() and semaphore.locked()
    semaphore.release()
    assert not semaphore.locked()


def test_a_managers_recursive_lock_is_held_until_the_last_release(manager: Any) -> None:
    """Acquired twice, it takes two releases."""
    lock = manager.RLock()
    lock.acquire()
    lock.acquire()
    lock.release()
    assert lock.locked()
    lock.release()
    assert not lock.locked()


def test_a_managers_condition_says_whether_its_lock_is_held(manager: Any) -> None:
    """Its own lock, or one passed to the constructor."""
    lock = manager.Lock()
    for condition in (manager.Condition(), manager.Condition(lock)):
        assert not condition.locked()
        with condition:
            assert condition.locked()
            assert condition.wait(0) is False and condition.locked()
    with lock:
        assert condition.locked()


# Processes (3.14).


def wait_for_an_interrupt(started: Any, told: Any) -> None:
    try:
        started.send(None)
        started.poll(60)
    except KeyboardInterrupt:
        told.send("interrupted")


def test_a_process_is_interrupted_as_by_ctrl_c(ctx: Any) -> None:
    """interrupt() raises KeyboardInterrupt in the child, which may clean up."""
    (ours, theirs), (answers, told) = ctx.Pipe(), ctx.Pipe(duplex=False)
    process = ctx.Process(target=wait_for_an_interrupt, args=(theirs, told))
    process.start()
    assert ours.poll(60)
    ours.recv()
    process.interrupt()
    assert answers.poll(60) and answers.recv() == "interrupted"
    process.join(60)
    assert process.exitcode == 0


# Both worlds: `multiprocessing` is the stdlib's, or another name of the package.

BOTH_WORLDS = """
import sys
import procession
if "alias" in sys.argv:
    procession.install(force=True)
import multiprocessing.managers

def child(table, numbers, names, lock, condition, queue):
    for proxy in (table, numbers, names, lock, condition):
        queue.put(proxy)
    table["numbers"].clear()
    names.add(type(names).__name__)

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        ctx = procession.get_context(method)
        with ctx.Manager() as manager:
            table, numbers, names = manager.dict(), manager.list([1]), manager.set()
            lock, condition, queue = manager.Lock(), manager.Condition(), manager.Queue()
            table["numbers"] = numbers
            process = ctx.Process(target=child, args=(table, numbers, names, lock, condition, queue))
            process.start()
            process.join(60)
            assert process.exitcode == 0 and numbers.copy() == [] and names.copy() == {"SetProxy"}
            for sent in (table, numbers, names, lock, condition):
                back = queue.get(timeout=60)
                assert type(back) is type(sent) and back._token.id == sent._token.id
            assert type(table["numbers"]) is type(numbers) is procession.managers.ListProxy
            if "alias" in sys.argv:
                assert type(numbers) is multiprocessing.managers.ListProxy
            else:
                assert isinstance(numbers, multiprocessing.managers.ListProxy)
    print("done")
"""


@pytest.mark.parametrize("world", ["alias", "stdlib"])
def test_proxies_are_found_by_name_whatever_multiprocessing_means(world: str, run_script: Any) -> None:
    """A proxy keeps its type into a child, through a queue, and out of another shared object."""
    done = run_script(BOTH_WORLDS, world)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
