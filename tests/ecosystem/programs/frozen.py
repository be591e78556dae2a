"""Processes, pools, queues, a manager and shared memory of a program that PyInstaller froze."""

from __future__ import annotations

import os
import sys

import procession as multiprocessing
from procession.shared_memory import SharedMemory


class Thing:
    def __init__(self, n):
        self.n = n


def double(thing):
    return Thing(2 * thing.n)


def put(queue, name):
    block = SharedMemory(name)
    queue.put((Thing(block.buf[0]), os.getpid()))
    block.close()


def use(method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    block = SharedMemory(create=True, size=10)
    block.buf[0] = 21
    process = context.Process(target=put, args=(queue, block.name))
    process.start()
    thing, pid = queue.get(timeout=60)
    process.join()
    block.close()
    block.unlink()
    assert type(thing) is Thing and pid == process.pid != os.getpid() and process.exitcode == 0
    with context.Pool(2) as pool:
        doubled = [each.n for each in pool.map(double, [Thing(1), Thing(2)])]
    with context.Manager() as manager:
        table = manager.dict(a=1)
        table["b"] = Thing(2)
        assert table["b"].n == 2
    print(method, thing.n, doubled)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    assert sys.frozen
    print("main part", sys.argv[1:])
    for method in multiprocessing.get_all_start_methods():
        use(method)
