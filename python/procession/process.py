"""The stdlib's own module `multiprocessing.process`.

The current process, its children and its counters exist once per process and are rebound while it runs, and
libraries patch `BaseProcess` there. A second module would get out of step with the first.
"""

import sys

from ._core import TYPE_CHECKING
from ._core.stdlib import process

if TYPE_CHECKING:
    from multiprocessing.process import *  # noqa: F403

__all__ = process.__all__

sys.modules[__name__] = process
