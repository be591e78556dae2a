"""Blocks of shared memory.

The engine allocates, so there is no heap to manage in Python. `BufferWrapper` is a block that a child
inherits while it starts; `Arena` and `Heap` are the stdlib's names for the same memory.
"""

from __future__ import annotations

import ctypes
import sys

from . import _native
from ._core._typing import Any
from ._core.transfer.handing import hand_over

__all__ = ["BufferWrapper"]


def _checked(size: int) -> int:
    if size < 0:
        raise ValueError(f"Size {size:n} out of range")
    if size >= sys.maxsize:
        raise OverflowError(f"Size {size:n} too large")
    return size


class BufferWrapper:
    """A zeroed block of shared memory that lives as long as this object and every view of it."""

    def __init__(self, size: int) -> None:
        self._size = _checked(size)
        self._block = _native.Block(max(size, 1))

    def __getstate__(self) -> tuple[Any, ...]:
        return (self._size, hand_over(self._block.handle, self))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._size, handle = state
        self._block = _native.Block.__new__(_native.Block)
        self._block._adopt(handle)

    def lay(self, type_: type[Any]) -> Any:
        """Return a ctypes object over the block's memory; it keeps the block alive.

        Raises ValueError if the type is larger than the block.
        """
        if ctypes.sizeof(type_) > self._size:
            raise ValueError(f"a {type_.__name__} does not fit into {self._size} bytes")
        # Views of it (memoryview, numpy, a field) refer to the object, and it refers to the block.
        obj = type_.from_address(self._block.address)
        obj._wrapper = self
        return obj

    def create_memoryview(self) -> memoryview:
        """Return the memory as a writable view of bytes."""
        return memoryview(self.lay(ctypes.c_ubyte * self._size)).cast("B")


class Arena:
    """An area of shared memory with a `buffer`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._wrapper = BufferWrapper(size)

    @property
    def buffer(self) -> memoryview:
        """The memory."""
        return self._wrapper.create_memoryview()


class Heap:
    """An allocator with the stdlib's interface: `malloc` returns (arena, start, stop)."""

    def __init__(self, size: int = 0) -> None:
        self._size = size

    def malloc(self, size: int) -> tuple[Arena, int, int]:
        """Return a block of `size` bytes as an arena of its own."""
        return Arena(_checked(size)), 0, size

    def free(self, block: tuple[Arena, int, int]) -> None:
        """Do nothing: a block is freed when nothing refers to it any more."""
