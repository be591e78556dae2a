"""A program that is frozen: its own interpreter, with the package in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import PROGRAMS, needs

RESULTS = ["main part ['a', 'b']", "fork 21 [2, 4]", "forkserver 21 [2, 4]", "spawn 21 [2, 4]"]


@needs("PyInstaller")
@pytest.mark.parametrize("kind", ["--onedir", "--onefile"])
def test_a_program_frozen_by_pyinstaller_starts_processes_by_every_method(tmp_path: Path, kind: str) -> None:
    """The hook in the package's wheel is all that PyInstaller needs; the main part runs once."""
    freeze = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level=WARN", kind]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PROCESSION_INSTALL"))}
    built = subprocess.run(
        [*freeze, str(PROGRAMS / "frozen.py")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=clean,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    program = tmp_path / "dist" / ("frozen" if kind == "--onefile" else "frozen/frozen")
    done = subprocess.run([program, "a", "b"], capture_output=True, text=True, timeout=120, env=clean)
    assert (sorted(done.stdout.splitlines()), done.returncode) == (sorted(RESULTS), 0), done.stderr
