"""The cost of waiting: CPU of all processes together while nothing happens."""

import time

from harness import Reading, cpu_seconds, row

SETTLE, WATCH = 0.5, 3.0


def percent_of_a_core():
    time.sleep(SETTLE)
    cpu, started = cpu_seconds(), time.perf_counter()
    time.sleep(WATCH)
    # Reading the clocks costs CPU too: subtract the cost of one reading.
    looked = cpu_seconds()
    look = cpu_seconds() - looked
    return Reading(max(0.0, looked - cpu - look) / (time.perf_counter() - started) * 100.0)


def get_one(queue):
    queue.get()


@row("CPU of an idle Pool(4)", unit="% of a core", lower_is_better=True)
def pool_waiting(mp, context):
    with context.Pool(4) as pool:
        pool.map(abs, range(100))
        return percent_of_a_core()


@row("CPU of a consumer blocked in get", unit="% of a core", lower_is_better=True)
def consumer_waiting(mp, context):
    queue = context.Queue()
    consumer = context.Process(target=get_one, args=(queue,))
    consumer.start()
    reading = percent_of_a_core()
    queue.put(None)
    consumer.join()
    return reading
