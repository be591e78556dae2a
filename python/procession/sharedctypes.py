"""ctypes objects in shared memory, with or without a lock."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from types import GenericAlias

from . import _native, heap
from ._core import TYPE_CHECKING
from ._core._typing import Any, Generic, TypeVar, plain
from ._core.stdlib import reduction
from ._core.transfer.handing import assert_handing
from .synchronize import Lock, LockLike, RLock

if TYPE_CHECKING:
    from _ctypes import _CData, _SimpleCData
    from typing import Literal, SupportsIndex, overload

    from ._native import SynchronizedArrayBase as _ArrayBase
    from ._native import SynchronizedValueBase as _ValueBase

else:
    _CData = object
    _SimpleCData = plain(object)
    _ArrayBase = plain(_native.SynchronizedArrayBase)
    _ValueBase = plain(_native.SynchronizedValueBase)

_T = TypeVar("_T")
_Data = TypeVar("_Data", bound=_CData)

__all__ = ["RawValue", "RawArray", "Value", "Array", "copy", "synchronized"]

typecode_to_type: dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


def _ctype(typecode_or_type: Any) -> Any:
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    try:
        ctypes.sizeof(type_)
    except TypeError:
        known = " ".join(typecode_to_type)
        raise TypeError(
            # The first words are those of Python 3.15, the second of those before.
            f"bad typecode {typecode_or_type!r}, this type has no size: it is neither a ctypes type nor a "
            f"type code; the type codes are {known}"
        ) from None
    return type_


def _new(type_: Any) -> Any:
    return rebuild_ctype(type_, heap.BufferWrapper(ctypes.sizeof(type_)), None)


if TYPE_CHECKING:

    @overload
    def RawValue(typecode_or_type: type[_Data], *args: Any) -> _Data: ...
    @overload
    def RawValue(typecode_or_type: str, *args: Any) -> Any: ...


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """Return a ctypes object in shared memory, without a lock.

    Raises TypeError for an unknown type code.
    """
    value = _new(_ctype(typecode_or_type))
    value.__init__(*args)
    return value


if TYPE_CHECKING:

    @overload
    def RawArray(
        typecode_or_type: type[_Data], size_or_initializer: int | Sequence[Any]
    ) -> ctypes.Array[_Data]: ...
    @overload
    def RawArray(typecode_or_type: str, size_or_initializer: int | Sequence[Any]) -> Any: ...


def RawArray(typecode_or_type: Any, size_or_initializer: int | Sequence[Any]) -> Any:
    """Return a ctypes array in shared memory, without a lock: zeroed, or filled from a sequence."""
    type_ = _ctype(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new(type_ * size_or_initializer)
    array = _new(type_ * len(size_or_initializer))
    array.__init__(*size_or_initializer)
    return array


if TYPE_CHECKING:

    @overload
    def Value(typecode_or_type: type[_Data], *args: Any, lock: Literal[False], ctx: Any = None) -> _Data: ...
    @overload
    def Value(
        typecode_or_type: type[_SimpleCData[_T]],
        *args: Any,
        lock: Literal[True] | LockLike = True,
        ctx: Any = None,
    ) -> Synchronized[_T]: ...
    @overload
    def Value(
        typecode_or_type: type[_Data], *args: Any, lock: Literal[True] | LockLike = True, ctx: Any = None
    ) -> SynchronizedBase[_Data]: ...
    @overload
    def Value(
        typecode_or_type: str, *args: Any, lock: Literal[True] | LockLike = True, ctx: Any = None
    ) -> Synchronized[Any]: ...
    @overload
    def Value(
        typecode_or_type: str | type[_CData], *args: Any, lock: bool | LockLike = True, ctx: Any = None
    ) -> Any: ...


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Return a ctypes object in shared memory, with a lock: a new RLock, the one given, or none for False.

    Several processes may count with it::

        total = Value("q", 0)
        with total.get_lock():
            total.value += 1
        total.add(1)  # The same in one step.
    """
    return _with_lock(RawValue(typecode_or_type, *args), lock, ctx)


if TYPE_CHECKING:

    @overload
    def Array(
        typecode_or_type: type[_Data],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[False],
        ctx: Any = None,
    ) -> ctypes.Array[_Data]: ...
    @overload
    def Array(
        typecode_or_type: type[ctypes.c_char],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | LockLike = True,
        ctx: Any = None,
    ) -> SynchronizedString: ...
    @overload
    def Array(
        typecode_or_type: type[_SimpleCData[_T]],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | LockLike = True,
        ctx: Any = None,
    ) -> SynchronizedArray[_T]: ...
    @overload
    def Array(
        typecode_or_type: str,
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | LockLike = True,
        ctx: Any = None,
    ) -> SynchronizedArray[Any]: ...
    @overload
    def Array(
        typecode_or_type: str | type[_CData],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: bool | LockLike = True,
        ctx: Any = None,
    ) -> Any: ...


def Array(
    typecode_or_type: Any, size_or_initializer: int | Sequence[Any], *, lock: Any = True, ctx: Any = None
) -> Any:
    """Return a ctypes array in shared memory, with a lock: a new RLock, the one given, or none for False."""
    return _with_lock(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _with_lock(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = _new_lock(ctx)
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'; pass a lock, True or False")
    return synchronized(obj, lock, ctx=ctx)


def _new_lock(ctx: Any) -> Any:
    if ctx is None:
        from .context import _default_context

        ctx = _default_context.get_context()
    return ctx.RLock()


def copy(obj: _Data) -> _Data:
    """Return a copy of a ctypes object in shared memory."""
    twin: _Data = _new(type(obj))
    ctypes.memmove(ctypes.addressof(twin), ctypes.addressof(obj), ctypes.sizeof(obj))
    return twin


if TYPE_CHECKING:

    @overload
    def synchronized(
        obj: _SimpleCData[_T], lock: LockLike | None = None, ctx: Any = None
    ) -> Synchronized[_T]: ...
    @overload
    def synchronized(
        obj: ctypes.Array[ctypes.c_char], lock: LockLike | None = None, ctx: Any = None
    ) -> SynchronizedString: ...
    @overload
    def synchronized(
        obj: ctypes.Array[_SimpleCData[_T]], lock: LockLike | None = None, ctx: Any = None
    ) -> SynchronizedArray[_T]: ...
    @overload
    def synchronized(
        obj: _Data, lock: LockLike | None = None, ctx: Any = None
    ) -> SynchronizedBase[_Data]: ...


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return a wrapper that holds the lock during every access to the ctypes object."""
    assert not isinstance(obj, SynchronizedBase), "object already synchronized"
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        kind = SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray
        return kind(obj, lock, ctx)
    if not isinstance(obj, (ctypes.Structure, ctypes.Union)):
        raise AttributeError(
            f"a {type(obj).__name__} has neither a value, nor items, nor fields that a wrapper could guard"
        )
    return _structure_wrapper(type(obj))(obj, lock, ctx)


def _structure_wrapper(type_: Any) -> Any:
    wrapper = class_cache.get(type_)
    if wrapper is None:
        fields = {field[0]: make_property(field[0]) for field in _all_fields(type_)}
        wrapper = type("Synchronized" + type_.__name__, (SynchronizedBase,), fields)
        class_cache[type_] = wrapper
    return wrapper


def _all_fields(type_: Any) -> list[Any]:
    """Return the fields of a Structure or Union, including those of its base classes."""
    return [field for base in reversed(type_.__mro__) for field in vars(base).get("_fields_", ())]


def reduce_ctype(obj: Any) -> tuple[Any, ...]:
    """Pickle a shared ctypes object for another process."""
    assert_handing(obj)
    wrapper = obj._wrapper
    if isinstance(obj, ctypes.Array):
        return rebuild_ctype, (obj._type_, wrapper, obj._length_)
    return rebuild_ctype, (type(obj), wrapper, None)


def rebuild_ctype(type_: Any, wrapper: heap.BufferWrapper, length: int | None) -> Any:
    """Make a ctypes object, or an array of `length` of them, over shared memory."""
    if length is not None:
        type_ = type_ * length
    reduction.ForkingPickler.register(type_, reduce_ctype)
    return wrapper.lay(type_)


def make_property(name: str) -> property:
    """Return a property that reads and writes an attribute of the wrapped object under the lock."""
    made = prop_cache.get(name)
    if made is None:

        def read(self: Any) -> Any:
            self.acquire()
            try:
                return getattr(self._obj, name)
            finally:
                self.release()

        def write(self: Any, value: Any) -> None:
            self.acquire()
            try:
                setattr(self._obj, name, value)
            finally:
                self.release()

        made = prop_cache[name] = property(read, write)
    return made


prop_cache: dict[str, property] = {}
class_cache: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class SynchronizedBase(Generic[_Data]):
    """A ctypes object and the lock that guards it."""

    acquire: Callable[..., bool]
    release: Callable[[], None]
    _obj: Any
    _lock: Any

    def __init__(self, obj: Any, lock: LockLike | None = None, ctx: Any = None) -> None:
        self._obj = obj
        self._lock = lock or _new_lock(ctx)
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> bool:
        return self._lock.__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *exc_info: object) -> None:
        return self._lock.__exit__(*exc_info)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        assert_handing(self)
        return synchronized, (self._obj, self._lock)

    def get_obj(self) -> _Data:
        """Return the ctypes object, to be used under the lock."""
        return self._obj  # type: ignore[no-any-return]

    def get_lock(self) -> LockLike:
        """Return the lock."""
        return self._lock  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj}>"

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)


def _block_and_code(obj: Any, lock: Any, item_type: Any) -> tuple[_native.Block, str] | None:
    """Return the block and type code of an object of numbers, if its memory and lock are engine objects."""
    wrapper = getattr(obj, "_wrapper", None)
    if type(lock) not in (RLock, Lock) or not isinstance(wrapper, heap.BufferWrapper):
        return None
    for code, known in typecode_to_type.items():
        if known is item_type:
            return wrapper._block, code
    return None


class Synchronized(SynchronizedBase[_SimpleCData[_T]], _ValueBase[_T], Generic[_T]):
    """A single value. `value` is read and written under the lock, for numbers without any Python code."""

    def __init__(self, obj: Any, lock: LockLike | None = None, ctx: Any = None) -> None:
        super().__init__(obj, lock, ctx)
        if plain := _block_and_code(obj, self._lock, type(obj)):
            self._guard(self._lock, *plain)

    def _get_value(self) -> Any:
        self.acquire()
        try:
            return self._obj.value
        finally:
            self.release()

    def _set_value(self, new: Any) -> None:
        self.acquire()
        try:
            self._obj.value = new
        finally:
            self.release()

    def add(self, amount: _T) -> _T:
        """Add `amount` to the value under the lock, as one step; return the new value."""
        with self:
            self._obj.value += amount
            return self._obj.value  # type: ignore[no-any-return]


class SynchronizedArray(SynchronizedBase[ctypes.Array[_SimpleCData[_T]]], _ArrayBase[_T], Generic[_T]):
    """An array; each access to an item or a slice holds the lock.

    It has the buffer of the array, so `memoryview` and `numpy.asarray` show the shared memory itself. Access
    through them does not hold the lock.
    """

    def __init__(self, obj: Any, lock: LockLike | None = None, ctx: Any = None) -> None:
        super().__init__(obj, lock, ctx)
        self._set_buffer(obj)
        item_type = type(obj)._type_
        if type(obj) is item_type * len(obj) and (plain := _block_and_code(obj, self._lock, item_type)):
            self._guard(self._lock, *plain, len(obj))

    def __len__(self) -> int:
        return self._obj._length_  # type: ignore[no-any-return]

    def _get_item(self, index: Any) -> Any:
        with self:
            return self._obj[index]

    def _set_item(self, index: Any, value: Any) -> None:
        with self:
            self._obj[index] = value


class SynchronizedString(SynchronizedArray[bytes]):
    """An array of characters, also as one bytes object."""

    if TYPE_CHECKING:
        value: bytes
        raw: bytes

        @overload  # type: ignore[override]
        def __getitem__(self, index: SupportsIndex, /) -> bytes: ...
        @overload
        def __getitem__(self, index: slice, /) -> bytes: ...
        def __getitem__(self, index: Any, /) -> Any: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        @overload  # type: ignore[override]
        def __setitem__(self, index: SupportsIndex, value: bytes, /) -> None: ...
        @overload
        def __setitem__(self, index: slice, value: bytes, /) -> None: ...
        def __setitem__(self, index: Any, value: Any, /) -> Any: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    else:
        value = make_property("value")
        raw = make_property("raw")
