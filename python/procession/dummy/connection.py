"""The stdlib's own module `multiprocessing.dummy.connection`: pipes between threads."""

import sys

from .._core import TYPE_CHECKING
from .._core.stdlib import load

connection = load("dummy.connection")

if TYPE_CHECKING:
    from multiprocessing.dummy.connection import *  # noqa: F403

__all__ = connection.__all__

sys.modules[__name__] = connection
