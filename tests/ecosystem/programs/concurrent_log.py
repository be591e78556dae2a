"""concurrent-log-handler: several processes write, and rotate, one file."""

from __future__ import annotations

import glob
import logging

import proof
from concurrent_log_handler import ConcurrentRotatingFileHandler

LINES = 100


def write(worker):
    logger = logging.getLogger("shared")
    handler = ConcurrentRotatingFileHandler("shared.log", maxBytes=1000, backupCount=50)
    handler.setFormatter(logging.Formatter("%(processName)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for n in range(LINES):
        logger.info("%s %s", worker, n)
    handler.close()
    if proof.home() != proof.EXPECTED[proof.MODE]:
        raise AssertionError(proof.home())


if __name__ == "__main__":
    workers = [proof.context().Process(target=write, args=(n,), name=f"writer{n}") for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    files = glob.glob("shared.log*")
    assert len(files) > 1
    lines = sorted(line for name in files for line in open(name).read().splitlines())
    assert lines == sorted(f"writer{w} {w} {n}" for w in range(2) for n in range(LINES))
    print("done")
