"""Unmodified programs of real libraries, run on the package; a library that is not there skips its tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import run


@pytest.fixture(params=("launcher", "context"))
def mode(request: pytest.FixtureRequest) -> str:
    """Under `python -m procession`, and as a library that is handed a context of the package."""
    return request.param


@pytest.fixture
def run_program(tmp_path) -> Callable[..., str]:
    """Run one of the programs in an empty directory; return what it printed."""

    def run_here(*command: str, mode: str, **options: object) -> str:
        return run(command, mode=mode, cwd=tmp_path, **options)

    return run_here
