"""logging: workers log through a QueueHandler, one QueueListener of the program writes."""

from __future__ import annotations

import logging
import logging.handlers

import proof

RECORDS = 50


class Collect(logging.Handler):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


def work(queue, number):
    logger = logging.getLogger("work")
    logger.handlers[:] = [logging.handlers.QueueHandler(queue)]
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    for n in range(RECORDS):
        logger.info("%d of %s", n, number)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("failed in %s", proof.home())


if __name__ == "__main__":
    context = proof.context()
    queue = context.Queue(-1)
    collect = Collect()
    listener = logging.handlers.QueueListener(queue, collect)
    listener.start()
    workers = [context.Process(target=work, args=(queue, n), name=f"worker {n}") for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    listener.stop()
    for worker in workers:
        records = [record for record in collect.records if record.processName == worker.name]
        assert all(record.process == worker.pid for record in records)
        lines = [record.getMessage() for record in records]
        number = worker.name.partition(" ")[2]
        assert lines[:-1] == [f"{n} of {number}" for n in range(RECORDS)]
        assert "ZeroDivisionError" in lines[-1]
        proof.check([lines[-1].partition("\n")[0].removeprefix("failed in ")])
    queue.close()
    queue.join_thread()
    print("done")
