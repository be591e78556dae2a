"""Pools: what a task costs, and what a pool costs."""

from harness import clocked, row, steady
from rows.targets import identity

WORKERS = 2


def warm(context):
    pool = context.Pool(WORKERS)
    pool.map(identity, range(100))
    return pool


@row("Pool.map, default chunks", unit="tasks/s")
def map_default(mp, context):
    with warm(context) as pool:
        return steady(clocked(lambda n: pool.map(identity, range(n))))


@row("Pool.map, chunksize=1", unit="tasks/s")
def map_chunksize_1(mp, context):
    with warm(context) as pool:
        return steady(clocked(lambda n: pool.map(identity, range(n), chunksize=1)))


@row("Pool.imap_unordered", unit="tasks/s")
def imap_unordered(mp, context):
    def loop(n):
        for _ in pool.imap_unordered(identity, range(n)):
            pass

    with warm(context) as pool:
        return steady(clocked(loop))


@row("Pool.apply", unit="tasks/s")
def apply(mp, context):
    def loop(n):
        for _ in range(n):
            pool.apply(identity, (1,))

    with warm(context) as pool:
        return steady(clocked(loop))


@row("Pool.apply_async", unit="tasks/s")
def apply_async(mp, context):
    def loop(n):
        for result in [pool.apply_async(identity, (1,)) for _ in range(n)]:
            result.get()

    with warm(context) as pool:
        return steady(clocked(loop))


def length(array):
    return len(array)


def ones(count):
    import numpy

    return numpy.ones(count)


@row("Pool.map, 8 MB arrays as arguments", unit="MB/s")
def map_array_arguments(mp, context):
    array = ones(1_000_000)
    with warm(context) as pool:
        return steady(
            clocked(lambda n: pool.map(length, [array] * n, chunksize=1)),
            per_call=8.0,
            first=10,
        )


# Results that exist at the same time.
AT_A_TIME = 10


@row("Pool.map, 8 MB arrays as results", unit="MB/s")
def map_array_results(mp, context):
    def loop(n):
        for _ in range(0, n, AT_A_TIME):
            pool.map(ones, [1_000_000] * AT_A_TIME, chunksize=1)

    with warm(context) as pool:
        # New memory costs more than all the rest, and the same for both sides. So this measures a program
        # that reuses its memory, not one that grows.
        loop(2 * AT_A_TIME)
        return steady(clocked(loop), per_call=8.0, first=2 * AT_A_TIME)


@row("Pool(2): start, one task, stop", unit="pools/s")
def whole(mp, context):
    def loop(n):
        for _ in range(n):
            pool = context.Pool(WORKERS)
            pool.apply(identity, (1,))
            pool.close()
            pool.join()

    loop(1)
    return steady(clocked(loop), first=5)
