"""The names of `typing` that annotations use, without it: loading it takes as long as half of the package.

No annotation of the package is ever evaluated.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any as Any
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import TypeVar as TypeVar
else:
    Any = NoReturn = Protocol = TypeVar = object

__all__ = ["TYPE_CHECKING", "Any", "NoReturn", "Protocol", "TypeVar"]
