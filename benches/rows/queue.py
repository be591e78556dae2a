"""Queues: small messages from producers to consumers."""

import os
import signal
import time

from harness import row, steady, together

INT = 7
TUPLE = (1, 2, 3, 4, 5)
DICT = {"id": 17, "name": "measurement", "value": 2.5, "ok": True}
STRING = "0" * 256
LEAVE = None

# A message that has not arrived after so many seconds is lost.
SURELY = 0.3


def put_many(gate, queue, item, count):
    put = queue.put
    gate.arrive()
    for _ in range(count):
        put(item)


def get_until_told(gate, queue):
    get = queue.get
    gate.arrive()
    while get() is not LEAVE:
        pass
    gate.finish()


def get_many(queue, count):
    get = queue.get
    for _ in range(count):
        get()


def put_and_be_killed(queue, item):
    queue.put(item)
    os.kill(os.getpid(), signal.SIGKILL)


def survives(context, make, item):
    """Whether a message arrives whose producer was killed after `put` returned.

    A side that keeps messages in the sender gains rate by it, and loses them."""
    queue = make()
    producer = context.Process(target=put_and_be_killed, args=(queue, item))
    producer.start()
    producer.join()
    deadline = time.monotonic() + SURELY
    while time.monotonic() < deadline:
        if not queue.empty():
            queue.get()
            return True
        time.sleep(0.01)
    return False


def from_producers(context, make, item, producers=1):
    def work(n):
        queue, share = make(), -(-n // producers)
        children = [(put_many, (queue, item, share))] * producers
        seconds = together(context, children, lambda gate: get_many(queue, share * producers))
        return seconds * n / (share * producers)

    return steady(work)._replace(survives=survives(context, make, item))


def to_consumers(context, make, item, consumers):
    def work(n):
        queue = make()

        def feed(gate):
            put = queue.put
            for _ in range(n):
                put(item)
            for _ in range(consumers):
                put(LEAVE)
            gate.wait(consumers)

        return together(context, [(get_until_told, (queue,))] * consumers, feed)

    return steady(work)._replace(survives=survives(context, make, item))


@row("Queue, int")
def ints(mp, context):
    return from_producers(context, context.Queue, INT)


@row("Queue, tuple of 5 ints")
def tuples(mp, context):
    return from_producers(context, context.Queue, TUPLE)


@row("Queue, dict of 4")
def dicts(mp, context):
    return from_producers(context, context.Queue, DICT)


@row("Queue, str of 256")
def strings(mp, context):
    return from_producers(context, context.Queue, STRING)


@row("SimpleQueue, dict of 4")
def simple_dicts(mp, context):
    return from_producers(context, context.SimpleQueue, DICT)


@row("Queue, int, 4 producers")
def producers_4(mp, context):
    return from_producers(context, context.Queue, INT, producers=4)


@row("Queue, int, 4 consumers")
def consumers_4(mp, context):
    return to_consumers(context, context.Queue, INT, consumers=4)


@row("Queue, 1 MB arrays", unit="MB/s")
def arrays(mp, context):
    import numpy

    array = numpy.ones(125_000)

    def work(n):
        queue = context.Queue(4)
        return together(context, [(put_many, (queue, array, n))], lambda gate: get_many(queue, n))

    kept = survives(context, context.Queue, array)
    return steady(work, per_call=1.0, first=20)._replace(survives=kept)
