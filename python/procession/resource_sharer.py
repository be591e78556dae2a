"""The stdlib's own module `multiprocessing.resource_sharer`: one server of descriptors per process."""

import sys

from ._core import TYPE_CHECKING
from ._core.stdlib import load

if TYPE_CHECKING:
    from multiprocessing.resource_sharer import *  # noqa: F403

resource_sharer = load("resource_sharer")

__all__ = resource_sharer.__all__

sys.modules[__name__] = resource_sharer
