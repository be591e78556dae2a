"""Cost against size and against the number of workers: the points of `curves.py`, not rows of the table."""

from harness import clocked, row, steady, together
from rows.pipe import Echo, ping
from rows.queue import get_many, put_many
from rows.targets import identity

SIZES = [1, 32, 1 << 10, 1 << 15, 1 << 20, 1 << 25, 1 << 30]
WORKERS = [1, 2, 4, 8, 16]
CURVES = {"queue": SIZES, "pipe": SIZES, "pool": WORKERS}
LABELS = {
    "queue": ("Queue, one way", "bytes a message", "MB/s"),
    "pipe": ("Pipe, there and back", "bytes a message", "round trips/s"),
    "pool": ("Pool.imap_unordered, trivial function", "workers", "tasks/s"),
}


def register(family, value, measure, unit):
    measure.__name__ = f"{family}_{value}"
    row(f"{family} {value}", unit=unit)(measure)


def through_queue(size):
    def measure(mp, context):
        data = bytes(size)

        def work(n):
            queue = context.Queue(8)
            return together(context, [(put_many, (queue, data, n))], lambda gate: get_many(queue, n))

        return steady(work, per_call=size / 1e6, first=1 if size >= 1 << 25 else 50)

    return measure


def through_pipe(size):
    def measure(mp, context):
        data = bytes(size)
        with Echo(context) as end:
            return steady(clocked(lambda n: ping(end, data, n)), first=1 if size >= 1 << 25 else 50)

    return measure


def with_workers(count):
    def measure(mp, context):
        def loop(n):
            for _ in pool.imap_unordered(identity, range(n)):
                pass

        with context.Pool(count) as pool:
            loop(200)
            return steady(clocked(loop))

    return measure


for size in SIZES:
    register("queue", size, through_queue(size), "MB/s")
    register("pipe", size, through_pipe(size), "round trips/s")
for count in WORKERS:
    register("pool", count, with_workers(count), "tasks/s")
