"""mpire: a WorkerPool's methods, worker state, shared objects and errors, on one of its start methods."""

from __future__ import annotations

import proof
from mpire import WorkerPool


def square(n):
    return n * n


def scale(factor, n):
    return factor * n


def count(state, n):
    state["count"] = state.get("count", 0) + n
    return n


def total(state):
    return state.get("count", 0)


def fail(n):
    raise LookupError(n)


if __name__ == "__main__":
    with WorkerPool(n_jobs=2, start_method=proof.METHOD) as pool:
        assert pool.map(square, range(50)) == [n * n for n in range(50)]
        assert sorted(pool.imap_unordered(square, range(20))) == [n * n for n in range(20)]
        assert pool.apply(square, (7,)) == 49
        homes = pool.map(proof.home, range(6), chunk_size=1)
    if proof.METHOD == "threading":
        proof.check_alias(homes)
    else:
        proof.check(homes)
    with WorkerPool(n_jobs=2, start_method=proof.METHOD, shared_objects=10) as pool:
        assert pool.map(scale, range(10), progress_bar=True) == [10 * n for n in range(10)]
    with WorkerPool(n_jobs=2, start_method=proof.METHOD, use_worker_state=True) as pool:
        assert pool.map(count, range(20), worker_exit=total) == list(range(20))
        assert sum(pool.get_exit_results()) == sum(range(20))
    with WorkerPool(n_jobs=2, start_method=proof.METHOD, enable_insights=True) as pool:
        # With threads mpire loses a worker that comes to the end of its lifespan.
        pool.map(square, range(10), worker_lifespan=None if proof.METHOD == "threading" else 3)
        assert sum(pool.get_insights()["n_completed_tasks"]) == 10
    try:
        with WorkerPool(n_jobs=2, start_method=proof.METHOD) as pool:
            pool.map(fail, range(4))
    except LookupError:
        print("done")
