"""The one warning, given once in a tree of processes."""

from __future__ import annotations

import os
import sys
import warnings

__all__ = ["give_notice"]

# Whoever has this in the environment, whatever its value, knows already.
_KNOWN = "PROCESSION_FALLBACK"

_TEXT = (
    "procession has no engine for this system and is the standard library's multiprocessing here: no faster, "
    "no safer, OwnerDied and WorkerDied are never raised, task_timeout= and retries= are not there. "
    f"{_KNOWN}=quiet in the environment silences this warning"
)
_CAN_BUILD = "; with Rust installed, pip install --no-binary procession procession builds the engine"


def give_notice() -> None:
    """Warn, at the line that imports the package, unless this process or an ancestor did."""
    if _KNOWN in os.environ:
        return
    text = _TEXT + _CAN_BUILD if sys.platform == "linux" else _TEXT
    warnings.warn(text, RuntimeWarning, stacklevel=3)
    # Only now, so that where warnings are errors the import fails each time it is tried.
    os.environ[_KNOWN] = "quiet"
