"""Programs of the Rust crate, built with its feature `python`."""

import functools
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def rust_program(name: str) -> str:
    """The path of an example of the crate; `make test-python` builds them beforehand."""
    for message in built():
        if message.get("executable") and message["target"]["name"] == name:
            return str(message["executable"])
    raise RuntimeError(f"cargo built no {name}")


def rust_library(name: str) -> str:
    """Like `rust_program`, for an example that is a library."""
    for message in built():
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == name:
            return next(file for file in message["filenames"] if file.endswith(".so"))
    raise RuntimeError(f"cargo built no {name}")


@functools.cache
def built() -> list[dict[str, Any]]:
    """Cargo's message about each artifact it built."""
    cargo = os.environ.get("CARGO") or "cargo"
    if shutil.which(cargo) is None:
        pytest.skip("cargo, which builds the Rust program, is not installed")
    command = [cargo, "build", "--locked", "--package", "procession", "--features", "python"]
    done = subprocess.run(
        [*command, "--examples", "--message-format=json-render-diagnostics"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def wait_for_end(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], 60)[0], f"process {pid} goes on"
    finally:
        os.close(process)
