"""The names of `typing` that annotations use, without importing it: that takes half as long as the package.

The package never evaluates its annotations.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator as BaseIterator
    from typing import Any as Any
    from typing import Generic as Generic
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol

    from typing_extensions import TypeVar as TypeVar
else:
    Any = NoReturn = Protocol = object


class Unsubscripted:
    """A class whose type parameters are for type checkers only: subscripted, it is the plain class."""

    def __init__(self, plain: type) -> None:
        self._plain = plain

    def __getitem__(self, parameters: object) -> type:
        return self._plain


if not TYPE_CHECKING:
    Generic = BaseIterator = Unsubscripted(object)

    def TypeVar(name, *constraints, **options):
        return object


__all__ = ["TYPE_CHECKING", "Any", "BaseIterator", "Generic", "NoReturn", "Protocol", "TypeVar"]
