"""joblib: its multiprocessing and loky backends, with plain values and with arrays that become memmaps."""

from __future__ import annotations

import sys

import numpy as np
import proof
from joblib import Parallel, delayed, parallel_config


def square(n):
    return n * n


def column_sum(array, column):
    return type(array).__name__, float(array[:, column].sum())


def fail(n):
    raise LookupError(n)


def run(check, **backend):
    with Parallel(n_jobs=2, **backend) as parallel:
        assert parallel(delayed(square)(n) for n in range(50)) == [n * n for n in range(50)]
        array = np.arange(600_000, dtype=float).reshape(-1, 6)
        sums = parallel(delayed(column_sum)(array, n) for n in range(6))
        assert sums == [("memmap", float(array[:, n].sum())) for n in range(6)]
        doubled = parallel(delayed(np.multiply)(array, n) for n in range(2))
        assert all((doubled[n] == array * n).all() for n in range(2))
        check(parallel(delayed(proof.home)() for _ in range(4)))
    try:
        Parallel(n_jobs=2, **backend)(delayed(fail)(n) for n in range(4))
    except LookupError as error:
        assert error.args[0] in range(4)
    else:
        raise AssertionError("no error")


if __name__ == "__main__":
    backend = sys.argv[1]
    if backend == "context":
        run(proof.check, backend=proof.context())
    else:
        run(proof.check_alias if backend == "loky" else proof.check, backend=backend)
        with parallel_config(backend=backend, n_jobs=2):
            assert Parallel()(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]
    print("done")
