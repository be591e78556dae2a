"""Running a program and comparing what it prints with what it should print."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["START_METHODS", "Ran", "program", "run"]

EXAMPLES = Path(__file__).resolve().parent
START_METHODS = ("fork", "spawn", "forkserver")
SECONDS_TO_DUMP_STACKS = 5


@dataclass(frozen=True)
class Ran:
    """What a program printed and how it ended; `hung` when it had to be stopped."""

    output: str
    errors: str
    status: int
    hung: bool = False

    def problem(self, expected: str) -> str | None:
        """What is wrong with the run, or None."""
        if self.hung:
            return f"it hung; its stacks:\n{self.errors}"
        if self.status != 0:
            return f"exit status {self.status}\n{self.errors}"
        if self.output != expected:
            return f"expected {expected!r}"
        return None


def program(name: str, *arguments: str) -> list[str]:
    """The command line of one of the examples."""
    return [sys.executable, str(EXAMPLES / name), *arguments]


def run(command: Sequence[str], limit: float = 60.0, *, with_stacks: bool = True) -> Ran:
    """Run a program; after `limit` seconds it and its children dump their stacks and end."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        process_group=0,
    )
    try:
        output, errors = process.communicate(timeout=limit)
        return Ran(output, errors, process.returncode)
    except subprocess.TimeoutExpired:
        return _stop(process, signal.SIGABRT if with_stacks else signal.SIGKILL)


def _stop(process: subprocess.Popen[str], first: signal.Signals) -> Ran:
    """End the program and its children; faulthandler makes SIGABRT show where each stood."""
    for deadly in (first, signal.SIGKILL):
        os.killpg(process.pid, deadly)
        try:
            output, errors = process.communicate(timeout=SECONDS_TO_DUMP_STACKS)
            return Ran(output, errors, process.returncode, hung=True)
        except subprocess.TimeoutExpired:
            continue
    raise RuntimeError(f"process {process.pid} survived SIGKILL")
