"""Pipes: round trips, streams and large arrays."""

import os
import time

from harness import Reading, clocked, row, steady, together
from rows.queue import DICT


def echo(end):
    while (item := end.recv()) is not None:
        end.send(item)


def send_many(gate, end, item, count):
    send = end.send
    gate.arrive()
    for _ in range(count):
        send(item)


def send_bytes_many(gate, end, data, count):
    send_bytes = end.send_bytes
    gate.arrive()
    for _ in range(count):
        send_bytes(data)


def ping(end, item, count):
    send, recv = end.send, end.recv
    for _ in range(count):
        send(item)
        recv()


class Echo:
    """A child that sends back what it gets."""

    def __init__(self, context):
        self.end, other = context.Pipe()
        self._process = context.Process(target=echo, args=(other,))
        self._process.start()
        other.close()

    def __enter__(self):
        ping(self.end, 1, 10)
        return self.end

    def __exit__(self, *_):
        self.end.send(None)
        self._process.join()


@row("Pipe, ping-pong, int", unit="round trips/s")
def ping_pong(mp, context):
    with Echo(context) as end:
        return steady(clocked(lambda n: ping(end, 1, n)))


def asleep(context, cpus):
    """Round trips between two that both went to sleep before: only the trips are timed, not the pauses."""
    os.sched_setaffinity(0, cpus)
    with Echo(context) as end:
        trips = []
        for _ in range(400):
            time.sleep(0.001)
            started = time.perf_counter()
            ping(end, 1, 1)
            trips.append(time.perf_counter() - started)
    return Reading(len(trips) / sum(trips))


@row("Pipe, ping-pong, both asleep, one CPU", unit="round trips/s")
def ping_pong_asleep_1(mp, context):
    return asleep(context, sorted(os.sched_getaffinity(0))[:1])


@row("Pipe, ping-pong, both asleep, all CPUs", unit="round trips/s")
def ping_pong_asleep_n(mp, context):
    return asleep(context, os.sched_getaffinity(0))


@row("Pipe, stream of dicts of 4")
def stream(mp, context):
    def work(n):
        reader, writer = context.Pipe(duplex=False)

        def drain(gate):
            recv = reader.recv
            for _ in range(n):
                recv()

        return together(context, [(send_many, (writer, DICT, n))], drain)

    return steady(work)


@row("Pipe, send_bytes of 1 KiB")
def stream_bytes(mp, context):
    def work(n):
        reader, writer = context.Pipe(duplex=False)

        def drain(gate):
            recv_bytes = reader.recv_bytes
            for _ in range(n):
                recv_bytes()

        return together(context, [(send_bytes_many, (writer, b"x" * 1024, n))], drain)

    return steady(work)


@row("Pipe, 80 MB array there and back", unit="MB/s")
def arrays(mp, context):
    import numpy

    array = numpy.ones(10_000_000)
    with Echo(context) as end:
        ping(end, array, 1)
        return steady(clocked(lambda n: ping(end, array, n)), per_call=160.0, first=2)
