"""What PyInstaller has to know of this package; it finds this by the entry point `pyinstaller40`."""

from __future__ import annotations

import os

__all__ = ["get_hook_dirs"]


def get_hook_dirs() -> list[str]:
    """The folders with hooks."""
    return [os.path.join(os.path.dirname(__file__), "hooks")]
