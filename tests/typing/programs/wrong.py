"""What type checkers refuse; each of these ignored errors must be one.

mypy and pyright warn of an ignored error that is none.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import ctypes

import procession
from procession.connection import Connection
from procession.managers import DictProxy, ListProxy, SyncManager
from procession.pool import AsyncResult, Pool
from procession.queues import Queue
from procession.synchronize import Lock


def length(text: str) -> int:
    return len(text)


def queues(numbers: Queue[int], texts: procession.SimpleQueue[str]) -> None:
    numbers.put("text")  # type: ignore[arg-type]
    text: str = numbers.get()  # type: ignore[assignment]
    numbers.put_many(["text"])  # type: ignore[list-item]
    numbers.task_done()  # type: ignore[attr-defined]
    texts.put(text.encode())  # type: ignore[arg-type]
    queues("no queue", texts)  # type: ignore[arg-type]


def pools(pool: Pool) -> None:
    pool.map(length, [1, 2])  # type: ignore[arg-type]
    pool.map(length, ["text"], timeout=5)  # type: ignore[call-arg]
    lengths: list[str] = pool.map(length, ["text"])  # type: ignore[arg-type]
    result: AsyncResult[str] = pool.apply_async(length, (lengths,))  # type: ignore[arg-type]
    pool.apply("length")  # type: ignore[arg-type]
    result.nothing()  # type: ignore[attr-defined]


def connections(texts: Connection[str, bytes]) -> None:
    texts.send(b"bytes")  # type: ignore[arg-type]
    received: str = texts.recv()  # type: ignore[assignment]
    texts.send(received)
    texts.send_bytes("text")  # type: ignore[arg-type]


def shared_values() -> None:
    procession.Value(ctypes.c_int, 1).value = "text"  # type: ignore[assignment]
    procession.Array(ctypes.c_double, 3)[0] = "text"  # type: ignore[call-overload]
    procession.Value(int, 1)  # type: ignore[arg-type]


def managers(manager: SyncManager) -> None:
    ages: DictProxy[str, int] = manager.dict()
    ages["Ann"] = "text"  # type: ignore[assignment]
    words: ListProxy[str] = manager.list()
    words.append(1)  # type: ignore[arg-type]


def contexts(lock: Lock) -> None:
    lock.acquire(on_owner_died="ignore")  # type: ignore[arg-type]
    procession.get_context("spawn", forkserver_main="hot")  # type: ignore[call-overload]
    procession.nothing()  # type: ignore[attr-defined]
    procession.Condition("no lock")  # type: ignore[arg-type]
