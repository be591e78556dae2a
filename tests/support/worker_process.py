"""A worker process and everything it starts: its events, its stacks, and how all of it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

# Every process that descends from a worker has this in its environment, wherever it was adopted.
MARKER = "PROCESSION_TEST_RUN"
SWITCH = "PROCESSION_INSTALL"
SECONDS_TO_DIE = 5
SECONDS_TO_LEAVE = 5


class Overdue(Exception):
    """The worker reported nothing for too long."""


class Worker:
    """One run of a program that reports events; leaving the `with` block ends all that it has started."""

    def __init__(
        self, program: Path, scratch: Path, request: dict[str, Any], modules: list[Path], alias: bool
    ) -> None:
        self._folder = scratch / uuid.uuid4().hex[:8]
        self._folder.mkdir()
        self._log = self._folder / "log"
        work = self._folder / "w"
        work.mkdir()
        self._mark = uuid.uuid4().hex
        self._pipe, events = os.pipe()
        os.set_blocking(self._pipe, False)
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, program, json.dumps({"events": events, **request})],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=work,
                env=_environment(self._mark, work, modules, alias),
                pass_fds=[events],
                start_new_session=True,
            )
        os.close(events)
        self._handle = os.pidfd_open(self._process.pid)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._poll.register(self._handle, select.POLLIN)
        self._said = b""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        os.close(self._pipe)
        os.close(self._handle)
        shutil.rmtree(self._folder, ignore_errors=True)

    def next_event(self, limit: float) -> dict[str, Any] | None:
        """The worker's next event, or None when it has ended; Overdue after `limit` seconds of silence."""
        deadline = time.monotonic() + limit
        while b"\n" not in self._said:
            remaining = deadline - time.monotonic()
            ready = {fd for fd, _ in self._poll.poll(max(0.0, remaining * 1000))}
            # Read in any case: the last event may have come between the poll's checks of the two.
            if heard := self._hear():
                self._said += heard
            elif self._handle in ready:
                return None
            elif self._pipe in ready:
                self._poll.unregister(self._pipe)
            elif remaining <= 0:
                raise Overdue
        line, _, self._said = self._said.partition(b"\n")
        return json.loads(line)

    def _hear(self) -> bytes:
        try:
            return os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return b""

    def printed(self, since: int = 0) -> str:
        """What the worker and its children have printed since a position, at most the last 20 kB."""
        with open(self._log, "rb") as log:
            log.seek(max(since, self._log.stat().st_size - 20_000))
            return log.read().decode(errors="replace")

    def status(self) -> int:
        """The exit status of a worker that has ended."""
        return self._process.wait()

    def dump_stacks(self) -> None:
        """End the worker and its forked children, after each has printed where it is."""
        with open(self._log, "ab", buffering=0) as log:
            _dump(self._handle, self._process.pid)
            for handle, pid in self._descendants():
                log.write(f"\nits descendant {_command(pid)}\n".encode())
                _dump(handle, pid)

    def leftovers(self) -> list[str]:
        """The commands of the processes that outlive the worker's own end by some time."""
        deadline = time.monotonic() + SECONDS_TO_LEAVE
        while left := [_command(pid) for _, pid in self._descendants()]:
            if time.monotonic() > deadline:
                return left
            time.sleep(0.01)
        return []

    def kill(self) -> None:
        """End the worker and whatever it has started."""
        self._process.kill()
        self._process.wait()
        quiet = 0
        while quiet < 2:  # a process that is about to be replaced by exec has no environment for a moment
            quiet += 1
            for handle, _ in self._descendants():
                quiet = 0
                _send(handle, signal.SIGKILL)

    def _descendants(self) -> Iterator[tuple[int, int]]:
        """Handle and number of each living process that carries the mark, except the worker."""
        mark = f"{MARKER}={self._mark}".encode()
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == self._process.pid:
                continue
            try:
                handle = os.pidfd_open(int(entry))
            except OSError:
                continue
            try:
                if mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                    yield handle, int(entry)
            except OSError:
                pass  # gone, or another user's
            finally:
                os.close(handle)


def _environment(mark: str, folder: Path, modules: list[Path], alias: bool) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.pop(SWITCH, None)
    if alias:
        environment[SWITCH] = "1"
    # Scripts of the libraries that are installed for this interpreter.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # A module path, since a fork server that preloads a test module must find it as well.
    environment["PYTHONPATH"] = os.pathsep.join(map(str, modules))
    return {**environment, MARKER: mark, "TMPDIR": str(folder)}


def _dump(handle: int, pid: int) -> None:
    # The signal would kill a process without a handler before it printed anything.
    if _catches(pid, signal.SIGUSR2):
        _send(handle, signal.SIGUSR2)


def _send(handle: int, number: signal.Signals) -> None:
    """Send a fatal signal, and wait a while for the process to end."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    ended.poll(SECONDS_TO_DIE * 1000)


def _catches(pid: int, number: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _command(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        command = b"?"
    return f"{pid}: {command.decode(errors='replace').rstrip(chr(0)).replace(chr(0), ' ')[:160]}"
