"""tqdm: process_map, and a lock that the workers of a Pool share by its initializer."""

from __future__ import annotations

import io
import sys

import proof
from tqdm import tqdm
from tqdm.contrib.concurrent import process_map


def square(n):
    return n * n


def bar(n):
    """A bar of its own in a worker."""
    output = io.StringIO()
    total = sum(tqdm(range(n), file=output, position=1))
    assert f"{n}/{n}" in output.getvalue()
    return total, sys.modules[type(tqdm.get_lock()).__module__].__name__, proof.home()


if __name__ == "__main__":
    context = proof.context()
    if proof.MODE != "context":
        assert process_map(square, range(60), max_workers=2, chunksize=5) == [n * n for n in range(60)]
        proof.check(process_map(proof.home, range(4), max_workers=2, chunksize=1))
    lock = context.RLock()
    tqdm.set_lock(lock)
    with context.Pool(2, initializer=tqdm.set_lock, initargs=(lock,)) as pool:
        answers = list(tqdm(pool.imap(bar, range(1, 20)), total=19))
    assert [total for total, _, _ in answers] == [sum(range(n)) for n in range(1, 20)]
    assert {kind for _, kind, _ in answers} == {f"{proof.implementation().__name__}.synchronize"}
    proof.check(home for _, _, home in answers)
    print("done")
