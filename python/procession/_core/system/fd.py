"""The numbers of standard input, output and error, and anonymous files."""

from __future__ import annotations

import errno
import os

from .._typing import Any

__all__ = ["REFUSALS", "STANDARD_NUMBERS", "anonymous_file"]

# The errors of a kernel that lacks a system call, or of a filter that forbids it.
REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EACCES)

STANDARD_NUMBERS = range(3)


def anonymous_file(name: str, mode: str = "w+b") -> Any:
    """Return a new file without a name: in memory, or on disk where memfd_create is refused."""
    try:
        return os.fdopen(os.memfd_create(name), mode)
    except AttributeError:
        pass  # Not on Linux.
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
    import tempfile

    return tempfile.TemporaryFile(mode)
