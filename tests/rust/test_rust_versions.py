"""A wheel and a crate of different versions do not meet in one process tree."""

import os
import struct
import subprocess
import sys
from importlib.metadata import version

import pytest

from procession import _native
from tests.support.rust_programs import rust_program


def started_by(
    which: str, arena: int, version: str, form: str = "3"
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Start a program as another version of the engine would; return its error message."""
    error_fd = os.memfd_create("error_fd")
    os.set_inheritable(arena, True)
    entry = _native.reserve_entry()
    try:
        file = os.fstat(arena)
        fields = [form, version, arena, file.st_dev, file.st_ino, entry, "", "", error_fd, "", "00"]
        handshake = ":".join(map(str, fields))
        command, variables = program(which, handshake)
        done = subprocess.run(
            command,
            env={**os.environ, **variables},
            pass_fds=[arena, error_fd],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, os.pread(error_fd, 10_000, 0).decode()
    finally:
        _native.release_entry(entry)
        os.close(error_fd)


def program(which: str, handshake: str) -> tuple[list[str], dict[str, str]]:
    """The command line of a program, and the variables it needs, to find its handshake."""
    if which == "rust":
        return [rust_program("partner")], {"PROCESSION_CHILD": handshake}
    return [sys.executable, "-c", f"from procession.rust import main; main(2, {handshake!r})"], {}


@pytest.mark.parametrize("which", ["rust", "python"])
def test_another_version_of_the_engine_is_told_apart(which: str) -> None:
    """The error names both versions, and what to do."""
    arena = os.dup(_native.arena_fd())
    try:
        done, message = started_by(which, arena, "0.0.1")
    finally:
        os.close(arena)
    assert "started by version 0.0.1 of Procession and has version" in message
    assert "use one version of Procession" in message
    assert done.returncode != 0


@pytest.mark.parametrize("which", ["rust", "python"])
def test_shared_memory_of_another_layout_is_told_apart(which: str) -> None:
    """Even if the versions were the same."""
    arena = os.memfd_create("arena")
    try:
        os.truncate(arena, 1 << 16)
        header = os.pread(_native.arena_fd(), 16, 0)
        magic, layout = struct.unpack_from("<QI", header)
        os.pwrite(arena, struct.pack("<QI", magic, layout + 1), 0)
        done, message = started_by(which, arena, version("procession"))
    finally:
        os.close(arena)
    assert f"has layout {layout + 1}, this engine speaks layout {layout}" in message
    assert done.returncode != 0


def test_python_that_was_started_in_another_form_says_so() -> None:
    """The crate that started it is older or newer."""
    arena = os.dup(_native.arena_fd())
    try:
        done, _ = started_by("python", arena, version("procession"), form="1")
    finally:
        os.close(arena)
    assert "does not understand how it was started; use one version of Procession" in done.stderr
    assert done.returncode == 1
