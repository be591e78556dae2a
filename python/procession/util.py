"""The stdlib's own module `multiprocessing.util`: finalizers and the logger exist once per process."""

import sys

from ._core import TYPE_CHECKING
from ._core.stdlib import util

if TYPE_CHECKING:
    from multiprocessing.util import *  # noqa: F403

__all__ = util.__all__

sys.modules[__name__] = util
