"""pathos and multiprocess, a copy of `multiprocessing` of its own, beside the package in one program."""

from __future__ import annotations

import multiprocess
import proof
from pathos.multiprocessing import ProcessPool


def on_ours(context, n):
    """A Pool of the package in a program that has the copy's loaded."""
    with context.Pool(2) as pool:
        proof.check(pool.map(proof.home, range(4)))
        return pool.map(abs, range(-n, 0))


if __name__ == "__main__":
    offset = 5
    with multiprocess.Pool(2) as pool:
        assert pool.map(lambda n: n + offset, range(30)) == list(range(5, 35))
    pool = ProcessPool(2)
    assert pool.map(lambda n: n * offset, range(30)) == [n * 5 for n in range(30)]
    pool.close()
    pool.join()
    pool.clear()
    queue = multiprocess.Queue()
    process = multiprocess.Process(target=queue.put, args=(lambda: offset,))
    process.start()
    assert queue.get()() == 5
    process.join()
    assert on_ours(proof.context(), 9) == list(range(9, 0, -1))
    print("done")
