"""A program forks in the middle of other work."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import Any

from faults.subject import ctx, fault, start


def in_a_forked_child(run: Any) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@fault("a plain os.fork uses its parent's queue and lock")
def plain_fork() -> None:
    box, lock = ctx.Queue(), ctx.Lock()

    def use() -> None:
        with lock:
            box.put("from a fork")
        box.close()
        box.join_thread()

    assert in_a_forked_child(use) == 0
    assert box.get(timeout=5) == "from a fork"
    assert lock.acquire(timeout=5)


@fault("a received array is changed after a fork, on one side only")
def array_after_a_fork() -> None:
    body = bytearray(b"a" * 1_000_000)
    box = ctx.Queue()
    box.put(body)
    received = box.get(timeout=5)

    def change() -> None:
        received[:] = b"b" * len(received)
        assert received == b"b" * 1_000_000

    assert in_a_forked_child(change) == 0
    assert received == b"a" * 1_000_000
    received[:] = b"c" * len(received)
    assert in_a_forked_child(lambda: check(received)) == 0


def check(received: Any) -> None:
    assert received == b"c" * 1_000_000


@fault("a fork while another thread is inside of every lock there is")
def fork_beside_threads() -> None:
    stop = threading.Event()
    box = ctx.Queue()

    def churn() -> None:
        mine = ctx.Queue()
        lock = ctx.RLock()
        while not stop.is_set():
            with lock:
                mine.put(b"x" * 40_000)
                mine.get()
                ctx.Value("i", 0)

    threads = [threading.Thread(target=churn, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            assert in_a_forked_child(partial(put, box, number)) == 0
            assert box.get(timeout=5) == number
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def put(box: Any, item: Any) -> None:
    box.put(item)
    box.close()
    box.join_thread()


@fault("programs are started with preexec_fn, and with vfork, beside a pool")
def other_programs() -> None:
    with ctx.Pool(2) as pool:
        job = pool.map_async(double, range(200), 1)
        for _ in range(5):
            done = subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: None)
            assert done.returncode == 0
            assert subprocess.run(["true"]).returncode == 0
        assert job.get(10)[-1] == 398


def double(x: int) -> int:
    return 2 * x


@fault("a child starts children of its own, three deep")
def grandchildren() -> None:
    box = ctx.Queue()
    descend_from_here = start(descend, 3, box)
    assert sorted(box.get(timeout=20) for _ in range(4)) == [0, 1, 2, 3]
    descend_from_here.join()
    assert descend_from_here.exitcode == 0


def descend(depth: int, box: Any) -> None:
    box.put(depth)
    if depth:
        child = start(descend, depth - 1, box)
        child.join()
        assert child.exitcode == 0


def clone() -> int:
    """Fork a child without running the C library's fork handlers."""
    number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    arguments = (number, signal.SIGCHLD, 0, 0, 0, 0)
    pid: int = ctypes.CDLL(None).syscall(*map(ctypes.c_long, arguments))
    return pid


@fault("a raw clone comes to its first use of a queue when its parent has dropped it", extension=True)
def raw_clone() -> None:
    box, kept = ctx.Queue(), ctx.Queue()
    go = os.pipe()
    pid = clone()
    if pid == 0:
        os.read(go[0], 1)
        with suppress(RuntimeError):
            for _ in range(20):
                box.put("for nobody")
        with suppress(RuntimeError):
            box.get(timeout=20)
            kept.put("got something of somebody's")
        kept.put("done")
        os._exit(0)
    del box
    others = [ctx.Queue() for _ in range(20)]
    os.write(go[1], b"x")
    assert kept.get(timeout=20) == "done"
    assert os.waitpid(pid, 0)[1] == 0
    assert all(other.empty() for other in others)
