"""The hooks for PyInstaller, which finds them by the entry point `pyinstaller40`."""

from __future__ import annotations

import os

__all__ = ["get_hook_dirs"]


def get_hook_dirs() -> list[str]:
    """Return the folders with hooks."""
    return [os.path.join(os.path.dirname(__file__), "hooks")]
