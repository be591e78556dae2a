"""The stdlib's own module `multiprocessing.resource_tracker`.

Engine objects have no names that could be left behind, so they never start the tracker process; it serves
named shared memory and the stdlib's own semaphores. A tracker that never started has the exit code of one
that found nothing.
"""

import sys

from ._core import TYPE_CHECKING
from ._core.stdlib import load

if TYPE_CHECKING:
    from multiprocessing.resource_tracker import *  # noqa: F403

resource_tracker = load("resource_tracker")

__all__ = resource_tracker.__all__

if getattr(resource_tracker._resource_tracker, "_exitcode", 0) is None:
    resource_tracker._resource_tracker._exitcode = 0

sys.modules[__name__] = resource_tracker
