"""Looks for the switch when an interpreter starts: by `procession.start` since Python 3.15 (PEP 829).

Older Pythons have `procession.pth`, whose line does the same and needs no module for it.
"""

from __future__ import annotations

import os

__all__ = ["look"]


def look() -> None:
    """Make `multiprocessing` mean the package if the environment says so; a damaged one disturbs nobody."""
    if "PROCESSION_INSTALL" in os.environ:
        try:
            import _procession_alias

            _procession_alias.look()
        except Exception:
            pass
