"""The standard library's own `multiprocessing` modules, whatever that name stands for at the moment.

A program may run with `multiprocessing` naming this package. The modules here build on the stdlib's all the
same, and on one copy of it: they take it from here (`from ._core.stdlib import util`) and never import
`multiprocessing` themselves. A module is loaded when it is first asked for, and is kept for good.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from .hints import Any

__all__: list[str] = []

_NAME = "multiprocessing"

_genuine: dict[str, ModuleType] = {}
_loading = threading.RLock()


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(name)


def load(submodule: str) -> Any:
    """Return a submodule of the standard library's `multiprocessing`, by its dotted name below it."""
    name = f"{_NAME}.{submodule}"
    if name not in _genuine:
        with _loading, _genuine_view():
            import_module(name)
            _genuine.update(_named_so())
    return _genuine[name]


def remember() -> list[str]:
    """Keep hold of what is loaded now, before another module takes the names; return the names."""
    with _loading:
        loaded = _named_so()
        for name, module in loaded.items():
            _genuine.setdefault(name, module)
        return list(loaded)


def _named_so() -> dict[str, ModuleType]:
    """What `multiprocessing` and its submodules stand for now."""
    return {name: m for name, m in sys.modules.items() if name == _NAME or name.startswith(_NAME + ".")}


@contextmanager
def _genuine_view() -> Iterator[None]:
    """Within, `multiprocessing` is the standard library's, and what stood for it is back afterwards."""
    if not _is_aliased():
        yield
        return
    stand_ins, finders = _named_so(), sys.meta_path[:]
    _rename(stand_ins, _genuine)
    sys.meta_path[:] = [finder for finder in finders if not _claims_the_name(finder)]
    try:
        yield
        _genuine.update(_named_so())
    finally:
        sys.meta_path[:] = finders
        _rename(_named_so(), stand_ins)


def _rename(old: dict[str, ModuleType], new: dict[str, ModuleType]) -> None:
    for name in old:
        del sys.modules[name]
    sys.modules.update(new)


def _is_aliased() -> bool:
    present = sys.modules.get(_NAME)
    if _genuine:
        return present is not _genuine[_NAME]
    if present is not None:
        return present.__name__ != _NAME
    return any(_claims_the_name(finder) for finder in sys.meta_path)


def _claims_the_name(finder: Any) -> bool:
    """Whether this import hook makes `multiprocessing` something that is not in a file of that name."""
    if getattr(finder, "__module__", "").startswith("_frozen_importlib"):
        # The interpreter's own, which looks for files: asking it would make it look.
        return False
    find_spec = getattr(finder, "find_spec", None)
    spec = find_spec(_NAME, None) if find_spec is not None else None
    return spec is not None and not spec.has_location and "zipimport" not in type(spec.loader).__module__
