"""mpire's WorkerPool, over forked processes."""

from types import SimpleNamespace

from mpire import WorkerPool


class Pool:
    def __init__(self, workers):
        self._pool = WorkerPool(workers, start_method="fork", keep_alive=True)

    def map(self, function, items, chunksize=None):
        return self._pool.map(function, list(items), chunk_size=chunksize, concatenate_numpy_output=False)

    def apply(self, function, args):
        return self._pool.apply(function, args)

    def apply_async(self, function, args):
        return self._pool.apply_async(function, args)

    def close(self):
        self._pool.stop_and_join()

    def join(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.terminate()


def context():
    return SimpleNamespace(Pool=Pool)


ROWS = ("map_default", "map_chunksize_1", "apply", "apply_async", "whole")
LARGE = ("map_array_arguments", "map_array_results")

CONTEXTS = {"mpire": {f"pool.{name}": context for name in (*ROWS, *LARGE)}}
