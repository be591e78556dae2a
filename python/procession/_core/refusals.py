"""What a system says that refuses a call, and what does instead."""

from __future__ import annotations

import errno
import os

from .hints import Any

__all__ = ["REFUSALS", "anonymous_file"]

# What a kernel that does not know a call, or a filter that forbids it, says.
REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EACCES)


def anonymous_file(name: str, mode: str = "w+b") -> Any:
    """A file that is gone when nobody has it any more: in memory, or where that is refused on disk."""
    try:
        return os.fdopen(os.memfd_create(name), mode)
    except AttributeError:
        pass  # Not on Linux.
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
    import tempfile

    return tempfile.TemporaryFile(mode)
