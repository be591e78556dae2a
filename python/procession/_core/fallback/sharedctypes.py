"""The standard library's shared values and arrays; values have `add`."""

from __future__ import annotations

from .._typing import Any
from ..stdlib import forward_other_names, load

_std: Any = load("sharedctypes")

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

Array = _std.Array
RawArray = _std.RawArray
RawValue = _std.RawValue
copy = _std.copy


class Synchronized(_std.Synchronized):  # type: ignore[misc]
    """A value; each access holds the lock."""

    _obj: Any

    def add(self, amount: Any) -> Any:
        """Add `amount` to the value under the lock, as one step; return the new value."""
        with self:
            self._obj.value += amount
            return self._obj.value

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments = super().__reduce__()
        return synchronized, arguments


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return the object with a lock around it."""
    made = _std.synchronized(obj, lock, ctx)
    if type(made) is _std.Synchronized:
        made.__class__ = Synchronized
    return made


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Return a shared ctypes object, with a lock unless `lock` is false."""
    made = _std.Value(typecode_or_type, *args, lock=lock, ctx=ctx)
    if type(made) is _std.Synchronized:
        made.__class__ = Synchronized
    return made


forward_other_names(__name__, _std)
