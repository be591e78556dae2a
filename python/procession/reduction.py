"""The stdlib's own module `multiprocessing.reduction`.

Reducers that libraries register with `ForkingPickler` apply to this package's messages as to the stdlib's.
"""

import sys

from ._core import TYPE_CHECKING
from ._core.stdlib import reduction

if TYPE_CHECKING:
    from multiprocessing.reduction import *  # noqa: F403

__all__ = reduction.__all__

sys.modules[__name__] = reduction
