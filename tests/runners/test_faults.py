"""Every case in `faults/`, under fork and one other start method; `make faults` runs all combinations."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from faults import catalogue, fuzz, run

ROOT = Path(__file__).resolve().parents[2]

# `make faults` runs the long ones.
NAMES = [fault.name for fault in catalogue.FAULTS.values() if not fault.once]
CASES = [*((name, "fork") for name in NAMES), *zip(NAMES, itertools.cycle(("spawn", "forkserver")))]


@pytest.mark.parametrize(("name", "start_method"), CASES)
def test_a_program_survives(name: str, start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It continues or ends correctly, and leaves no process and no file behind."""
    # `make faults` measures how promptly survivors go on.
    monkeypatch.setenv("FAULTS_PROMPT", "20")
    outcome, said = run.run_case(name, run.OURS, start_method)
    assert outcome == run.SURVIVED, said


def run_program(name: str, *arguments: str) -> None:
    """Run one of the programs in `faults/`; show its output if it fails."""
    command = [sys.executable, "-m", f"faults.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Each part of a sample is a test of its own: a busy machine needs a minute for the whole.
PARTS = [(skipped, skipped + 20) for skipped in range(0, 100, 20)]


@pytest.mark.parametrize(("skipped", "first"), PARTS)
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_nonsense_is_an_error_and_no_more(target: str, skipped: int, first: int) -> None:
    """A sample of `make fuzz`, and every seed in the corpus."""
    run_program("fuzz", "--target", target, "--skip", f"{skipped}", "--first", f"{first}")


@pytest.mark.parametrize("part", ["queues", "locks", "pipes", "pools"])
def test_a_short_soak(part: str) -> None:
    """A short run of `make soak`."""
    run_program("soak", "--minutes", "0.05", "--part", part)
