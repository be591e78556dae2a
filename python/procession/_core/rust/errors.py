"""The errors of a process that runs a Rust function, apart from its death."""

from __future__ import annotations

from .. import TYPE_CHECKING
from .._typing import Any

if TYPE_CHECKING:
    import multiprocessing.context as context
else:
    from ..stdlib import context

__all__ = ["Panic", "RustError"]

_HOME = "procession.rust"


class RustError(context.ProcessError):
    """A Rust function could not be called, or did not return; the text says why, and what to do."""

    __module__ = _HOME


class Panic(RustError):
    """A Rust function panicked.

    `message` is the panic's text. `location` is the file, line and column of the panic, or None. `backtrace`
    lists the calls that led there; it is None with RUST_BACKTRACE=0.
    """

    __module__ = _HOME

    def __init__(self, message: str, location: str | None = None, backtrace: str | None = None) -> None:
        self.message = message
        self.location = location
        self.backtrace = backtrace
        super().__init__(f"panicked at {location}: {message}" if location else f"panicked: {message}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.location, self.backtrace)
