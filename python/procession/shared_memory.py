"""The stdlib's `multiprocessing.shared_memory`, the very module: named segments, open to any program."""

import sys
from typing import TYPE_CHECKING

from ._core.stdlib import shared_memory

if TYPE_CHECKING:
    from multiprocessing.shared_memory import *  # noqa: F403

__all__ = shared_memory.__all__

sys.modules[__name__] = shared_memory
