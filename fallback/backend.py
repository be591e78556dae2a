"""Builds the wheel for systems that have no wheel of the engine: the package's own sources, without the
engine.

What does then is the package's own `_core/fallback`, as it is where the engine cannot run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

__all__ = ["build_wheel"]

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.join(os.path.dirname(HERE), "python", "procession")
ABOUT = ("pyproject.toml", "README.md", "LICENSE-APACHE", "LICENSE-MIT")


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """Write the wheel there, and return its name."""
    from flit_core import buildapi

    there, here = os.path.abspath(wheel_directory), os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        for name in ABOUT:
            shutil.copy(os.path.join(HERE, name), folder)
        without = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(SOURCES, os.path.join(folder, "procession"), ignore=without)
        os.chdir(folder)
        try:
            name: str = buildapi.build_wheel(there)
        finally:
            os.chdir(here)
    return name
