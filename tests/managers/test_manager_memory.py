"""A manager's server and its proxies keep only reachable objects."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import procession
from procession import managers


class Kept:
    """An object that only pickle can send; it counts its instances where it is unpickled."""

    alive = 0

    def __init__(self) -> None:
        self.data = "x" * 100

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        Kept.alive += 1

    def __del__(self) -> None:
        Kept.alive -= 1


class KeptCounter:
    """How many there are in the server."""

    def count(self) -> int:
        return Kept.alive


class Shop:
    """A class whose methods give out shared objects of its own kind."""

    def __init__(self, name: str = "root") -> None:
        self.name = name

    def branch(self, name: str) -> Shop:
        return Shop(name)

    def sign(self) -> str:
        return self.name


class Manager(managers.SyncManager):
    """A manager that counts."""


Manager.register("KeptCounter", KeptCounter)
Manager.register(
    "Branch", exposed=("sign", "branch"), method_to_typeid={"branch": "Branch"}, create_method=False
)
Manager.register("Shop", Shop, method_to_typeid={"branch": "Branch"})


@pytest.fixture
def manager(ctx: Any) -> Iterator[Any]:
    """A manager whose server collects no garbage, nor does this process."""
    manager = Manager(ctx=ctx)
    manager.start(gc.disable)
    gc.disable()
    try:
        yield manager
    finally:
        gc.enable()
        manager.shutdown()


SETTERS: dict[str, Any] = {
    "dict item": lambda table, items, value: table.__setitem__("x", value),
    "dict update": lambda table, items, value: table.update(x=value),
    "dict setdefault and pop": lambda table, items, value: (table.setdefault("y", value), table.pop("y")),
    "dict get": lambda table, items, value: table.get("no such key", value),
    "list item": lambda table, items, value: items.__setitem__(0, value),
    "list append and pop": lambda table, items, value: (items.append(value), items.pop()),
    "list extend and pop": lambda table, items, value: (items.extend([value]), items.pop()),
    "list count": lambda table, items, value: items.count(value),
}
if sys.version_info >= (3, 13):
    # Before, the stdlib's proxies keep what the server raised together with the frame that raised it.
    SETTERS["list that fails"] = lambda table, items, value: items.__setitem__(1000, value)


@pytest.mark.parametrize("name", SETTERS)
def test_a_managers_dict_and_list_keep_no_arguments(manager: Any, name: str) -> None:
    """Neither the program nor the server keeps what was given to a method and is not in the dict or list."""
    table, items, counter = manager.dict(), manager.list([None]), manager.KeptCounter()
    for _ in range(5):
        value = Kept()
        gone = weakref.ref(value)
        try:
            SETTERS[name](table, items, value)
        except IndexError:
            pass
        del value
        assert gone() is None
    # The server keeps the last call's arguments until the next call.
    len(table), len(items)
    assert counter.count() <= 1


def fill(holder: Any, manager: Any) -> None:
    holder.extend([manager.Lock(), manager.dict(n=1), manager.list(), manager.Queue()])


def test_what_was_removed_from_a_shared_object_is_let_go(manager: Any) -> None:
    """Nested shared objects are freed when they are replaced or removed, without the garbage collector."""
    table = manager.dict()
    table["inner"] = manager.dict(n=1)
    before = manager._number_of_objects()
    for _ in range(10):
        table["inner"] = manager.dict(n=2)
    assert manager._number_of_objects() == before
    holder = manager.list()
    fill(holder, manager)
    del holder[:]
    fill(holder, manager)
    del holder
    assert manager._number_of_objects() == before
    assert table["inner"]["n"] == 2


def visit(shop: Any, results: Any) -> None:
    branch = shop.branch("north")
    results.put((branch.sign(), branch.branch("further").sign()))


def test_methods_give_out_shared_objects_in_a_child_too(ctx: Any) -> None:
    """A proxy in a process that has no manager object makes the proxies that its methods return."""
    with Manager(ctx=ctx) as manager:
        shop, results = manager.Shop(), ctx.Queue()
        child = ctx.Process(target=visit, args=(shop, results))
        child.start()
        assert results.get() == ("north", "further")
        child.join()
        assert child.exitcode == 0


def use_pool(pool: Any, results: Any) -> None:
    results.put([pool.apply_async(abs, (-1,)).get(), list(pool.imap(abs, [-2, -3]))])


def test_a_managers_pool_is_used_in_a_child(ctx: Any) -> None:
    """Its results and iterators are shared objects that its methods return."""
    with procession.managers.SyncManager(ctx=ctx) as manager:
        pool, results = manager.Pool(1), ctx.Queue()
        child = ctx.Process(target=use_pool, args=(pool, results))
        child.start()
        assert results.get() == [1, [2, 3]]
        child.join()
