"""`procession.install()`: turn the alias on in a running program."""

from __future__ import annotations

import sys
from importlib import import_module
from types import FunctionType, MethodType, ModuleType

from . import stdlib
from .fallback import choice

__all__ = ["install"]

_HOME = "multiprocessing"


def install(*, force: bool = False) -> None:
    """See `procession.install`."""
    if choice.reason is not None:
        # Without the engine, both names mean the standard library anyway.
        return
    import _procession_alias

    if _procession_alias.is_active():
        return
    holders = _holders()
    if holders and not force:
        raise RuntimeError(
            "these modules were imported before procession.install() and use the standard library's "
            f"multiprocessing: {', '.join(holders)}. Call install() before they are imported, run the "
            "program with `python -m procession`, or call install(force=True) to let them keep it"
        )
    replaced = stdlib.remember()
    _procession_alias.turn_on()
    for name in replaced:
        sys.modules.pop(name, None)
    for name in replaced:
        import_module(name)


def _holders() -> list[str]:
    """Return the modules that hold parts of the standard library's `multiprocessing`."""
    ours = (_HOME, __name__.partition(".")[0])
    return sorted(
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in ours
        and isinstance(module, ModuleType)
        and any(_is_theirs(value) for value in list(vars(module).values()))
    )


def _is_theirs(value: object) -> bool:
    if isinstance(value, ModuleType):
        home = value.__name__
    elif isinstance(value, (type, FunctionType, MethodType)):
        home = value.__module__
    else:
        return False
    if not isinstance(home, str) or home.partition(".")[0] != _HOME:
        return False
    if home == f"{_HOME}.context" and isinstance(value, type) and issubclass(value, Exception):
        return False
    return home.partition(".")[2] not in stdlib.SHARED
