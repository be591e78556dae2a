"""Helpers for the tests of the wheels: run commands, read and write files."""

from __future__ import annotations

import os
import subprocess
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]

Run = Callable[..., subprocess.CompletedProcess[str]]


def one(folder: Path, pattern: str) -> Path:
    """The only file in the folder that matches."""
    (found,) = folder.glob(pattern)
    return found


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command without the environment variables that change what Python or pip do."""
    theirs = ("PYTHON", "PROCESSION", "PIP_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    environment = {**clean, **options.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        **options,  # type: ignore[call-overload]
    )


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.stderr == "" and done.returncode == 0, done.stderr
    return done.stdout.splitlines()
