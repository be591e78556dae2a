"""The names of `typing` that annotations use, without importing it: that takes half as long as the package.

The package never evaluates its annotations. Type parameters are for type checkers only: at run time, a base
class with type variables as parameters is the plain class.
"""

from __future__ import annotations

# Within this module only; others import that of `_core/__init__.py`.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator as BaseIterator
    from typing import IO as IO
    from typing import Any as Any
    from typing import Generic as Generic
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol

    from typing_extensions import TypeVar as TypeVar

    def plain(kind: Any) -> Any: ...

else:
    IO = Any = NoReturn = Protocol = object

    def TypeVar(name, *constraints, **options):
        return object

    def plain(kind):
        """Return what is `kind`, subscripted with one or two type variables."""
        return {object: kind, (object, object): kind}

    Generic = BaseIterator = plain(object)

__all__ = [
    "IO",
    "TYPE_CHECKING",
    "Any",
    "BaseIterator",
    "Generic",
    "NoReturn",
    "Protocol",
    "TypeVar",
    "plain",
]
