"""Checks the switch when an interpreter starts: called by `procession.start` since Python 3.15 (PEP 829).

Older Pythons use `procession.pth`, whose line does the same without a module.
"""

from __future__ import annotations

import os

__all__ = ["look"]


def look() -> None:
    """Turn the alias on if the environment says so; ignore errors of a damaged installation."""
    if "PROCESSION_INSTALL" in os.environ:
        try:
            import _procession_alias

            _procession_alias.look()
        except Exception:
            pass
