"""Modules of this package and of the stdlib's that are loaded by name, so that PyInstaller sees no import."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_submodules


def _is_for_programs(name: str) -> bool:
    return not name.startswith("procession._pyinstaller") and not name.endswith("win32")


hiddenimports = [
    "_procession_alias",
    *collect_submodules("procession", filter=_is_for_programs),
    *collect_submodules("multiprocessing", filter=_is_for_programs),
]
