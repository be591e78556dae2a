"""A Rust library with an engine of its own, in the process of a Python program that has one."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

import pytest

import procession
from tests.support.rust_programs import rust_library


@pytest.fixture(scope="module")
def guest() -> Any:
    """The library."""
    library = ctypes.CDLL(rust_library("guest"))
    library.guest_put.argtypes = [ctypes.c_uint64]
    library.guest_get.restype = ctypes.c_uint64
    library.guest_owner_died.restype = ctypes.c_bool
    return library


def double(number: int) -> int:
    return 2 * number


def get_both(queue: Any, guest: Any) -> None:
    assert (queue.get(), guest.guest_get()) == ("ours", 7)
    queue.put("answer")
    guest.guest_put(8)


def test_both_go_on_in_a_forked_child(guest: Any) -> None:
    queue = procession.Queue()
    queue.put("ours")
    guest.guest_put(7)
    process = procession.get_context("fork").Process(target=get_both, args=(queue, guest))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (queue.get(), guest.guest_get()) == ("answer", 8)


def hold_both(lock: Any, guest: Any) -> None:
    lock.acquire()
    guest.guest_lock()
    os.kill(os.getpid(), signal.SIGKILL)


def test_both_report_a_dead_holder(guest: Any) -> None:
    lock = procession.Lock()
    process = procession.get_context("fork").Process(target=hold_both, args=(lock, guest))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(procession.OwnerDied):
        lock.acquire()
    assert guest.guest_owner_died()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_work_beside_it(guest: Any, method: str) -> None:
    guest.guest_put(1)
    with procession.get_context(method).Pool(2) as pool:
        assert pool.map(double, range(10)) == [2 * number for number in range(10)]
    assert guest.guest_get() == 1
