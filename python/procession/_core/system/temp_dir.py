"""Keeping socket paths short: with a long TMPDIR, sockets go to /tmp.

The kernel accepts at most 107 bytes for the path of a socket. Newer Pythons do the same themselves. Managers,
listeners and descriptors in messages use such sockets.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .._typing import Any
from ..stdlib import process, util

__all__ = ["keep_socket_paths_short"]

_LONGEST_PATH = 107
# The length of the stdlib's names for a folder and a socket in it: /pymp-12345678/listener-12345678
_LENGTH_OF_NAMES = 32
_FOLDERS = ("/tmp", "/var/tmp")


def keep_socket_paths_short() -> None:
    """Make the stdlib put its folder of sockets where paths are short enough, unless it does so itself."""
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
            # The stdlib reads it there, in this process and in its children.
            current._config["tempdir"] = made
        return self._original()


def _shorter_folder() -> str | None:
    """Return the folder to use instead; None if the usual one is short enough, or no other is writable."""
    import tempfile

    if len(os.fsencode(tempfile.gettempdir())) + _LENGTH_OF_NAMES <= _LONGEST_PATH:
        return None
    return next((folder for folder in _FOLDERS if os.access(folder, os.W_OK | os.X_OK)), None)
