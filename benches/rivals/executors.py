"""Executors: the standard library's, loky's, and joblib on top of loky's."""

import concurrent.futures
import multiprocessing
from types import SimpleNamespace


class Pool:
    """An executor under the names of a pool."""

    def __init__(self, executor):
        self._executor = executor

    def map(self, function, items, chunksize=None):
        # The default is one item at a time.
        return list(self._executor.map(function, items, chunksize=chunksize or 1))

    def imap_unordered(self, function, items):
        futures = [self._executor.submit(function, item) for item in items]
        return (future.result() for future in concurrent.futures.as_completed(futures))

    def apply(self, function, args):
        return self._executor.submit(function, *args).result()

    def apply_async(self, function, args):
        return SimpleNamespace(get=self._executor.submit(function, *args).result)

    def close(self):
        pass

    def join(self):
        self._executor.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._executor.shutdown()


class JoblibPool:
    """joblib knows maps only; its workers stay between them."""

    def __init__(self, workers):
        import joblib

        self._parallel = joblib.Parallel(n_jobs=workers)
        self._delayed = joblib.delayed

    def map(self, function, items, chunksize=None):
        self._parallel.batch_size = "auto" if chunksize is None else chunksize
        return self._parallel(self._delayed(function)(item) for item in items)

    def __enter__(self):
        self._parallel.__enter__()
        return self

    def __exit__(self, *details):
        self._parallel.__exit__(*details)


def stdlib():
    fork = multiprocessing.get_context("fork")
    return SimpleNamespace(
        Pool=lambda workers: Pool(concurrent.futures.ProcessPoolExecutor(workers, mp_context=fork))
    )


def loky():
    import loky

    return SimpleNamespace(Pool=lambda workers: Pool(loky.ProcessPoolExecutor(workers)))


def joblib():
    return SimpleNamespace(Pool=JoblibPool)


MAPS = ("pool.map_default", "pool.map_chunksize_1", "pool.map_array_arguments", "pool.map_array_results")
ALL = (*MAPS, "pool.imap_unordered", "pool.apply", "pool.apply_async", "pool.whole")

CONTEXTS = {
    "ProcessPoolExecutor": dict.fromkeys(ALL, stdlib),
    "loky": dict.fromkeys(ALL, loky),
    "joblib": dict.fromkeys(MAPS, joblib),
}
