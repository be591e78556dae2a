"""The stdlib's `multiprocessing.reduction`, the very module.

What libraries register with `ForkingPickler` counts for this package's messages as for the stdlib's.
"""

import sys

from ._core._typing import TYPE_CHECKING
from ._core.stdlib import reduction

if TYPE_CHECKING:
    from multiprocessing.reduction import *  # noqa: F403

__all__ = reduction.__all__

sys.modules[__name__] = reduction
