"""Processes: start and join, under each start method."""

from harness import clocked, row, steady
from rows.targets import nothing


def start_and_join(context):
    def loop(n):
        for _ in range(n):
            process = context.Process(target=nothing)
            process.start()
            process.join()

    loop(2)
    return steady(clocked(loop), first=5)


@row("Process start + join, fork", unit="processes/s")
def fork(mp, context):
    return start_and_join(context)


@row("Process start + join, forkserver", unit="processes/s", start_method="forkserver")
def forkserver(mp, context):
    return start_and_join(context)


@row("Process start + join, spawn", unit="processes/s", start_method="spawn")
def spawn(mp, context):
    return start_and_join(context)
