"""The two wheels: that of the engine, and the one for every other system.

PROCESSION_WHEELS names a folder with both, as `make wheels` fills it. Without it, the engine's wheel is the
one that was built for the tests, and the other is built here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tests.support.wheels import ROOT, one, run


@pytest.fixture(scope="session")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of `fallback/`."""
    if given := os.environ.get("PROCESSION_WHEELS"):
        return one(Path(given), "procession-*-py3-none-any.whl")
    if importlib.util.find_spec("flit_core") is None:
        pytest.skip("flit_core, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("pure")
    build = "import sys; from backend import build_wheel; build_wheel(sys.argv[1])"
    done = run(sys.executable, "-c", build, str(folder), cwd=ROOT / "fallback")
    assert done.returncode == 0, done.stderr
    return one(folder, "*")


@pytest.fixture(scope="session")
def engine_wheel() -> Path:
    """The wheel with the engine, for this machine."""
    if given := os.environ.get("PROCESSION_WHEELS"):
        return one(Path(given), "procession-*-abi3-*.whl")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    folder = target / "wheels-{}.{}".format(*sys.version_info)
    if not list(folder.glob("*.whl")):
        pytest.skip("no wheel with the engine was built for this Python")
    return one(folder, "*.whl")
