"""Sockets with names under a long TMPDIR: the kernel takes 107 bytes of a path, so they go to /tmp then.

Newer Pythons do the same themselves. Managers, listeners and descriptors in messages have such sockets.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .._typing import Any
from ..stdlib import process, util

__all__ = ["keep_socket_paths_short"]

_LONGEST_PATH = 107
# Of the stdlib's names for a folder and a socket in it: /pymp-12345678/listener-12345678
_LENGTH_OF_NAMES = 32
_FOLDERS = ("/tmp", "/var/tmp")


def keep_socket_paths_short() -> None:
    """Teach the stdlib to make its folder of sockets where paths are short enough, unless it knows."""
    module: Any = util
    if not hasattr(module, "_get_base_temp_dir"):
        module.get_temp_dir = _ShortTempDir(module.get_temp_dir)


class _ShortTempDir:
    """`util.get_temp_dir`, for any length of TMPDIR."""

    def __init__(self, original: Callable[[], str]) -> None:
        self._original = original

    def __call__(self) -> str:
        current: Any = process.current_process()
        if current._config.get("tempdir") is None and (folder := _shorter_folder()) is not None:
            import shutil
            import tempfile

            made = tempfile.mkdtemp(prefix="pymp-", dir=folder)
            module: Any = util
            util.Finalize(None, module._remove_temp_dir, args=(shutil.rmtree, made), exitpriority=-100)
            # Where the stdlib keeps it, for this process and its children.
            current._config["tempdir"] = made
        return self._original()


def _shorter_folder() -> str | None:
    """Where to go instead; None if the usual place will do, or there is no other."""
    import tempfile

    if len(os.fsencode(tempfile.gettempdir())) + _LENGTH_OF_NAMES <= _LONGEST_PATH:
        return None
    return next((folder for folder in _FOLDERS if os.access(folder, os.W_OK | os.X_OK)), None)
