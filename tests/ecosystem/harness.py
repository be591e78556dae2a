"""Runs one program as a session of its own, with a hard limit, and checks what it leaves behind."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import procession

PROGRAMS = Path(__file__).parent / "programs"
# Set to 1, a library that is missing is a failure.
REQUIRE = "PROCESSION_ECOSYSTEM"
# What a program of ours learns about the run, see programs/proof.py.
MODE = "ECOSYSTEM_MODE"
METHOD = "ECOSYSTEM_METHOD"
# In the environment of every process of one run, and of no other.
MARKER = "ECOSYSTEM_RUN"
SHARED = Path("/dev/shm")
# Helper processes of libraries end when they notice that the program is gone.
GRACE = 15


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skip where one of the modules is missing, unless the environment asks for all."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    skip = bool(missing) and os.environ.get(REQUIRE) != "1"
    return pytest.mark.skipif(skip, reason=f"not installed: {', '.join(missing)}")


def command_line(command: Sequence[str], mode: str) -> list[str]:
    """What runs a program, or `-m` and a module, in a mode."""
    head, *rest = command
    if head.endswith(".py") and (PROGRAMS / head).exists():
        head = str(PROGRAMS / head)
    launcher = ["-m", "procession"] if mode == "launcher" else []
    return [sys.executable, *launcher, head, *rest]


def environment(mode: str, method: str | None, marker: str, extra: dict[str, str] | None) -> dict[str, str]:
    """The environment of a run."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PROCESSION_INSTALL", "COVERAGE_"))}
    env |= {MODE: mode, MARKER: marker, "PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"}
    # Several threads of linear algebra in each of several processes on a small machine.
    env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(PROGRAMS), str(Path(procession.__file__).parents[1])])
    if method is not None:
        env[METHOD] = method
    return env | (extra or {})


class Run:
    """One running program, and every process that came of it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        mode: str,
        cwd: Path,
        method: str | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.marker = uuid.uuid4().hex
        self.shared_before = set(os.listdir(SHARED))
        self._output = tempfile.TemporaryFile()
        self.arguments = command_line(command, mode)
        self.process = subprocess.Popen(
            self.arguments,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment(mode, method, self.marker, env),
            start_new_session=True,
        )

    def output(self) -> str:
        """What all its processes printed until now."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def wait(self, timeout: float) -> int:
        """The exit code; a program that takes longer prints its stacks, dies and fails the test."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            stacks = self._print_stacks()
            pytest.fail(f"{self.arguments} did not end in {timeout} s:\n{self.output()}\n{stacks}")

    def left_processes(self) -> list[str]:
        """The processes that outlive the program."""
        end = time.monotonic() + GRACE
        while (left := dict(marked(self.marker))) and time.monotonic() < end:
            time.sleep(0.05)
        return [f"{pid}: {command}" for pid, command in left.items()]

    def left_files(self) -> list[str]:
        """What is new in the directory of shared memory and stays there, used by no other program."""
        new = set(os.listdir(SHARED)) - self.shared_before
        end = time.monotonic() + GRACE
        while (
            left := [SHARED / name for name in new if (SHARED / name).exists()]
        ) and time.monotonic() < end:
            time.sleep(0.05)
        return sorted(path.name for path in left if not is_used(path))

    def kill(self) -> None:
        """End whatever is left."""
        for pid, _ in list(marked(self.marker)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()

    def _print_stacks(self) -> str:
        processes = list(marked(self.marker))
        for pid, _ in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        return "\n".join(f"{pid}: {command}" for pid, command in processes)


@contextlib.contextmanager
def running(command: Sequence[str], **options: object) -> Iterator[Run]:
    """A program that runs until the block ends, at the latest."""
    program = Run(command, **options)
    try:
        yield program
    finally:
        program.kill()


def finish(program: Run, timeout: float, exit_code: int = 0) -> str:
    """Wait for a program to end as it should, with nothing left behind; return what it printed."""
    code = program.wait(timeout)
    processes = program.left_processes()
    files = program.left_files()
    output = program.output()
    assert code == exit_code, f"{program.arguments} ended with {code}:\n{output}"
    assert not processes, f"processes left by {program.arguments}:\n{processes}\n{output}"
    assert not files, f"files left in {SHARED} by {program.arguments}: {files}\n{output}"
    return output


def run(command: Sequence[str], *, timeout: float = 60, exit_code: int = 0, **options: object) -> str:
    """Run a program to its end; return what it printed."""
    with running(command, **options) as program:
        return finish(program, timeout, exit_code)


def marked(marker: str) -> Iterator[tuple[int, str]]:
    """The living processes of one run, with their command lines."""
    needle = f"{MARKER}={marker}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            if needle in Path("/proc", entry, "environ").read_bytes():
                line = Path("/proc", entry, "cmdline").read_bytes()
                if line:
                    yield int(entry), line.replace(b"\0", b" ").decode(errors="replace")


def is_used(path: Path) -> bool:
    """Whether a living process has a file mapped or open, or its name contains that process's number."""
    needle = str(path).encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        if f"_{entry}_" in f"{path.name}_":
            return True
        with contextlib.suppress(OSError):
            if needle in Path("/proc", entry, "maps").read_bytes():
                return True
            for fd in os.listdir(f"/proc/{entry}/fd"):
                if os.readlink(f"/proc/{entry}/fd/{fd}").startswith(str(path)):
                    return True
    return False
