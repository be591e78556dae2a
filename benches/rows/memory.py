"""What an idle worker takes of the machine's memory: its own pages, and its share of shared ones (PSS)."""

from harness import Reading, row
from rows.targets import identity

WORKERS = 2


def proportional_megabytes(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} does not say what it takes")


def idle_worker(context):
    with context.Pool(WORKERS) as pool:
        pool.map(identity, range(100))
        return Reading(sum(proportional_megabytes(worker.pid) for worker in pool._pool) / WORKERS)


@row("memory of an idle worker, fork", unit="MB", lower_is_better=True)
def fork(mp, context):
    return idle_worker(context)


@row("memory of an idle worker, forkserver", unit="MB", start_method="forkserver", lower_is_better=True)
def forkserver(mp, context):
    return idle_worker(context)


@row("memory of an idle worker, spawn", unit="MB", start_method="spawn", lower_is_better=True)
def spawn(mp, context):
    return idle_worker(context)
