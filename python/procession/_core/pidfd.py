"""Descriptors of processes, or the reason why there are none."""

from __future__ import annotations

import errno
import os

__all__ = ["pidfd_open"]

# An old kernel, valgrind; a sandbox.
_REFUSED = (errno.ENOSYS, errno.EPERM)


def pidfd_open(pid: int) -> int:
    """As `os.pidfd_open`, saying what to do where the system refuses the call."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        what = (
            "this system refuses pidfd_open; Procession needs Linux 5.10 or later and a sandbox "
            "that allows the call"
        )
        raise OSError(error.errno, f"{os.strerror(error.errno)}: {what}") from None
