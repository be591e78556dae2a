"""Exceptions on their way from a worker to the process that reads the result.

An exception may be unpicklable, may refuse to be rebuilt from its `args`, or may belong to a class that the
reader cannot import. Each of these costs at most the one task. The reader gets the exception itself where
that is possible, else a substitute with its text, and the worker's traceback in any case.
"""

from __future__ import annotations

import pickle
import traceback

from ..stdlib import load, reduction

_std = load("pool")

__all__ = ["describe", "describe_unsendable", "note_interrupt", "rebuild"]

_interrupt: BaseException | None = None


def note_interrupt(error: BaseException) -> None:
    """Remember the exception raised for Ctrl-C: it is reported without the worker's traceback."""
    global _interrupt
    _interrupt = error


def describe(error: BaseException) -> bytes:
    """Encode an exception that a task raised."""
    if error is _interrupt:
        return _pack(error, None)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return _pack(error, f'\n"""\n{text}"""')


def describe_unsendable(error: BaseException, value: object) -> bytes:
    """Encode the error for a result that could not be pickled."""
    return _pack(_wrap(error, value), None)


def rebuild(data: bytes) -> BaseException:
    """Decode what `describe` or `describe_unsendable` returned."""
    whole, kind, args, state, text, remote = pickle.loads(data)
    error: BaseException
    try:
        error = pickle.loads(whole)
    except Exception as reason:
        error = _remake(kind, args, state) or _std.MaybeEncodingError(reason, text)
    if remote is not None:
        error.__cause__ = _std.RemoteTraceback(remote)
    return error


def _pack(error: BaseException, remote: str | None) -> bytes:
    try:
        whole = bytes(reduction.ForkingPickler.dumps(error))
    except Exception as reason:
        # The stdlib's type for this case, which can always be pickled: it holds two strings.
        wrapped = _wrap(reason, error)
        return pickle.dumps((pickle.dumps(wrapped), None, None, None, str(wrapped), remote))
    kind = _dumps_or_none(type(error))
    args = _dumps_or_none(error.args)
    state = _dumps_or_none(getattr(error, "__dict__", None))
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    return pickle.dumps((whole, kind, args, state, text, remote))


def _wrap(error: BaseException, value: object) -> _std.MaybeEncodingError:  # type: ignore[name-defined]
    try:
        return _std.MaybeEncodingError(error, value)
    except Exception:
        return _std.MaybeEncodingError(error, f"<{type(value).__name__} object whose repr failed>")


def _dumps_or_none(obj: object) -> bytes | None:
    try:
        return bytes(reduction.ForkingPickler.dumps(obj))
    except Exception:
        return None


def _remake(kind: bytes | None, args: bytes | None, state: bytes | None) -> BaseException | None:
    """Rebuild an exception without its constructor, which does not accept its `args`; None if that fails."""
    if kind is None or args is None:
        return None
    try:
        cls = pickle.loads(kind)
        error = cls.__new__(cls, *pickle.loads(args))
        error.args = pickle.loads(args)
        if state is not None:
            error.__dict__.update(pickle.loads(state) or {})
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None
