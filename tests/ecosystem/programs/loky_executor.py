"""loky: the reusable executor, closures, errors, and a worker that dies."""

from __future__ import annotations

import os
import signal

import proof
from loky import get_reusable_executor
from loky.process_executor import TerminatedWorkerError

if __name__ == "__main__":
    offset = 3
    with get_reusable_executor(max_workers=2) as executor:
        assert list(executor.map(lambda n: n + offset, range(40))) == list(range(3, 43))
        proof.check_alias(executor.map(proof.home, range(4)))
        error = executor.submit(os.kill, 0, "no signal").exception()
        assert isinstance(error, TypeError), error
        killed = executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert isinstance(killed.exception(), TerminatedWorkerError)
    with get_reusable_executor(max_workers=2) as executor:
        assert executor.submit(pow, 2, 5).result() == 32
    print("done")
