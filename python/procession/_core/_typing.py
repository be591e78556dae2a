"""The names of `typing` that annotations use, without importing it: that takes half as long as the package.

The package never evaluates its annotations.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import IO as IO
    from typing import Any as Any
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import TypeVar as TypeVar
else:
    IO = Any = NoReturn = Protocol = TypeVar = object

__all__ = ["IO", "TYPE_CHECKING", "Any", "NoReturn", "Protocol", "TypeVar"]
