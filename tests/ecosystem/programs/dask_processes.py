"""dask: its multiprocessing scheduler, also on a pool that it is given."""

from __future__ import annotations

import dask
import dask.bag
import proof
from dask.delayed import delayed


@delayed
def increment(n):
    return n + 1


@delayed
def home():
    return proof.home()


if __name__ == "__main__":
    numbers = [increment(n) for n in range(20)]
    pools = [proof.context().Pool(2)]
    if proof.MODE != "context":
        pools.append(None)
    for pool in pools:
        options = {"scheduler": "processes", "num_workers": 2, "pool": pool}
        with dask.config.set({"multiprocessing.context": proof.METHOD}):
            assert dask.compute(numbers, **options) == ([n + 1 for n in range(20)],)
            bag = dask.bag.from_sequence(range(100), npartitions=4)
            assert bag.map(pow, 2).filter(lambda n: n % 2).sum().compute(**options) == sum(
                n * n for n in range(100) if n % 2
            )
            proof.check(dask.compute(home(), home(), **options))
        if pool is not None:
            pool.close()
            pool.join()
    print("done")
