"""The stdlib's `multiprocessing.shared_memory`: named segments, open to any program.

From Python 3.13 on this is the stdlib's own module. Before, this module adds the argument `track`.
"""

from __future__ import annotations

import sys

from ._core import TYPE_CHECKING
from ._core.compat import shared_memory as compat_memory
from ._core.stdlib import forward_other_names, load

_std = load("shared_memory")

__all__ = ["ShareableList", "SharedMemory"]

if sys.version_info >= (3, 13):
    sys.modules[__name__] = _std
    if TYPE_CHECKING:
        from multiprocessing.shared_memory import ShareableList as ShareableList
        from multiprocessing.shared_memory import SharedMemory as SharedMemory
else:
    SharedMemory = compat_memory.SharedMemory
    ShareableList = compat_memory.ShareableList
    forward_other_names(__name__, _std)
