"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import _native, forkserver, resource_tracker

START_METHODS = ("fork", "spawn", "forkserver")


def pytest_configure(config: pytest.Config) -> None:
    # pytest's faulthandler_timeout runs a watchdog thread; Python 3.12 and later warn about a fork beside it.
    config.addinivalue_line("filterwarnings", "ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    return request.param


@pytest.fixture
def ctx(start_method: str) -> Any:
    """The context of each start method in turn."""
    return procession.get_context(start_method)


@pytest.fixture(params=("spawn", "forkserver"))
def pickling_ctx(request: pytest.FixtureRequest) -> Any:
    """The context of each start method that pickles what the child is given."""
    return procession.get_context(request.param)


@pytest.fixture
def unswitched() -> Iterator[None]:
    """No thread switch happens while a thread does not wait."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(former)


@pytest.fixture
def fresh_server() -> Iterator[forkserver.ForkServer]:
    """No fork server runs, before and after."""
    server = forkserver._forkserver
    server._stop()
    yield server
    server._stop()


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail the test if it leaves descriptors, entries in the process table or zombies behind."""
    # What a process keeps once it has it: its shared memory, its lifeline, the resource tracker.
    _native.ensure_registered()
    _native.prepare_lifeline()
    resource_tracker.ensure_running()
    before = _in_use()
    yield
    assert not procession.active_children()
    assert _in_use() == before


def _in_use() -> tuple[set[str], int]:
    forkserver._forkserver._stop()
    gc.collect()
    _native.reap_all()
    return _descriptors(), _native.memory_stats()["processes"]


def _descriptors() -> set[str]:
    fds = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds.add(f"{fd}: {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            pass  # the descriptor that the listing itself used
    return fds


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program text as a script of its own, with the package importable; return what it printed."""

    def run(text: str, *arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(text))
        home = os.path.dirname(os.path.dirname(os.path.abspath(procession.__file__)))
        return subprocess.run(
            [sys.executable, *flags, str(script), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": home},
        )

    return run
