"""Managers whose server or client dies."""

from __future__ import annotations

import os
import time
from typing import Any

from faults.subject import ctx, fault, promptly, raises, start


@fault("the server of a manager is killed: its proxies raise")
def server_is_killed() -> None:
    manager = ctx.Manager()
    table, box = manager.dict(), manager.Queue()
    table["a"] = 1
    manager._process.kill()
    manager._process.join()
    with promptly(), raises(EOFError, OSError):
        for _ in range(3):
            box.put(1)
    manager.shutdown()


def use_and_die(table: Any, lock: Any) -> None:
    table["a"] = 1
    lock.acquire()
    os._exit(1)


@fault("a client dies that uses a manager's dict; others go on")
def client_dies() -> None:
    with ctx.Manager() as manager:
        table, lock = manager.dict(), manager.Lock()
        start(use_and_die, table, lock).join()
        assert table["a"] == 1
        table["b"] = 2
        assert dict(table) == {"a": 1, "b": 2}


def change_for_ever(line: Any, table: Any) -> None:
    line.send("there")
    while True:
        for number in range(100):
            table[number] = [number] * 10
        table.clear()


@fault("clients are killed in the middle of changing a manager's dict")
def clients_are_killed_changing() -> None:
    from faults.subject import package

    with ctx.Manager() as manager:
        table = manager.dict()
        for _ in range(5):
            line, theirs = package.Pipe()
            client = start(change_for_ever, theirs, table)
            line.recv()
            time.sleep(0.03)
            client.kill()
            client.join()
            with promptly():
                for number, value in table.copy().items():
                    assert value == [number] * 10
        table["last"] = 1
        assert table["last"] == 1
