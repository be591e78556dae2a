"""Programs of the Rust crate, built with its feature `python`."""

import functools
import json
import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def rust_program(name: str) -> str:
    """The path of an example of the crate, which `make test-python` has built before."""
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
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return str(message["executable"])
    raise RuntimeError(f"cargo built no {name}")


def wait_for_end(pid: int) -> None:
    """Wait for the end of a process that is no child of this one."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], 60)[0], f"process {pid} goes on"
    finally:
        os.close(process)
