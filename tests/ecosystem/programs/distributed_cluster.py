"""distributed: a LocalCluster of two processes, with a worker that is killed."""

from __future__ import annotations

import os

import dask
import proof
from distributed import Client, LocalCluster


def square(n):
    return n * n


def leave(pid):
    os._exit(1) if os.getpid() == pid else None


if __name__ == "__main__":
    dask.config.set({"distributed.worker.multiprocessing-method": proof.METHOD})
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        assert client.gather(client.map(square, range(40))) == [n * n for n in range(40)]
        homes = client.run(proof.home)
        assert len(homes) == 2
        proof.check(homes.values())
        pids = list(client.run(os.getpid).values())
        assert os.getpid() not in pids
        client.run(leave, pids[0], on_error="ignore")
        client.wait_for_workers(2)
        assert client.submit(square, 12, pure=False).result() == 144
    print("done")
