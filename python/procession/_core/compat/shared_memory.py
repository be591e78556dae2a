"""Named shared memory with `track=False`, for the Pythons before 3.13.

The resource tracker unlinks at a program's end what the program registered, and opening a segment registers
it, even if it belongs to another program. `track=False` prevents that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import FunctionType

from .. import TYPE_CHECKING
from .._typing import Any, TypeVar, plain
from ..stdlib import load

_std = load("shared_memory")
if TYPE_CHECKING:
    from multiprocessing.shared_memory import ShareableList as _StdShareableList
    from multiprocessing.shared_memory import SharedMemory as _StdSharedMemory
    from typing import overload
else:
    _StdSharedMemory, _StdShareableList = _std.SharedMemory, plain(_std.ShareableList)

_Item = TypeVar("_Item", int, float, bool, str, bytes, None)

__all__ = ["ShareableList", "SharedMemory", "as_compat"]

_HOME = "procession.shared_memory"


class _NoTracker:
    @staticmethod
    def register(name: str, kind: str) -> None:
        """Do nothing."""

    unregister = register


def _untracked(method: Any) -> Callable[..., Any]:
    """Return the stdlib's method, with a tracker that does nothing.

    Unregistering the name afterwards would be wrong: the tracker has one entry for all handles.
    """
    names = {**vars(_std), "resource_tracker": _NoTracker}
    return FunctionType(method.__code__, names, method.__name__, method.__defaults__)


class SharedMemory(_StdSharedMemory):
    """A block of shared memory with a name, new or existing."""

    __module__ = _HOME
    _track = True

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        self._track = track
        self._method("__init__")(self, name, create, size)

    def unlink(self) -> None:
        """Remove the name; the memory is freed with its last handle."""
        self._method("unlink")(self)

    def _method(self, name: str) -> Callable[..., Any]:
        method = getattr(_std.SharedMemory, name)
        return method if self._track else _untracked(method)

    def __reduce__(self) -> tuple[Any, ...]:
        opener = type(self) if self._track else functools.partial(type(self), track=False)
        return opener, (self.name, False, self.size)


class ShareableList(_StdShareableList[_Item]):
    """A list of fixed length in shared memory."""

    __module__ = _HOME

    if TYPE_CHECKING:

        @overload
        def __init__(self, sequence: None = None, *, name: str | None = None) -> None: ...
        @overload
        def __init__(self, sequence: Iterable[_Item], *, name: str | None = None) -> None: ...

    def __init__(self, sequence: Any = None, *, name: str | None = None) -> None:
        super().__init__(sequence, name=name)
        as_compat(self.shm)


def as_compat(made_by_the_stdlib: Any) -> Any:
    """Turn an object of the stdlib's class into one of the class here; return it.

    Where `multiprocessing` stands for this package, a pickle cannot find the stdlib's class by its name.
    """
    if type(made_by_the_stdlib) is _std.SharedMemory:
        made_by_the_stdlib.__class__ = SharedMemory
    elif type(made_by_the_stdlib) is _std.ShareableList:
        made_by_the_stdlib.__class__ = ShareableList
        as_compat(made_by_the_stdlib.shm)
    return made_by_the_stdlib
