"""The stdlib's `multiprocessing.process`, the very module.

The current process, its children and its counters exist once a process and are rebound as it goes on,
and other libraries patch `BaseProcess` here; a second module could only drift from the first.
"""

import sys

from ._core._typing import TYPE_CHECKING
from ._core.stdlib import process

if TYPE_CHECKING:
    from multiprocessing.process import *  # noqa: F403

__all__ = process.__all__

sys.modules[__name__] = process
