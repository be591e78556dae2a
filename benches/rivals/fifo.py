"""faster-fifo: a queue in a ring of shared memory, guarded by one process-shared mutex."""

import multiprocessing
from types import SimpleNamespace

import faster_fifo

FORK = multiprocessing.get_context("fork")
# Its default timeouts are short.
TIMEOUT = 100.0


class Queue(faster_fifo.Queue):
    def put(self, item):
        super().put(item, timeout=TIMEOUT)

    def get(self):
        return super().get(timeout=TIMEOUT)


def context(megabytes=1):
    def make(maxsize=0):
        return Queue(max_size_bytes=megabytes * 1_000_000)

    return SimpleNamespace(Queue=make, SimpleQueue=make, Process=FORK.Process)


SMALL = ("ints", "tuples", "dicts", "strings", "simple_dicts", "producers_4", "consumers_4")

CONTEXTS = {
    "faster-fifo": {
        **{f"queue.{name}": context for name in SMALL},
        "queue.arrays": lambda: context(megabytes=8),
    }
}
