"""The standard library's own `multiprocessing` modules, whatever that name stands for at the moment.

A program may run with `multiprocessing` naming this package. The modules here build on the stdlib's all the
same, and on one copy of it: they take it from here and never import `multiprocessing` themselves. The four
that every process needs are names of this module; `load` has the others, and keeps them for good.

No `__getattr__` loads them: pickle, mock and others ask each module for names that it does not have.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from types import ModuleType

from ._typing import Any

__all__ = [
    "SHARED",
    "context",
    "forward_other_names",
    "load",
    "loaded",
    "process",
    "reduction",
    "remember",
    "unpatched",
    "util",
]

_NAME = "multiprocessing"
_PACKAGE = __name__.partition(".")[0]

# The modules that are the stdlib's under both names.
SHARED = ("process", "reduction", "resource_sharer", "resource_tracker", "util")

_genuine: dict[str, ModuleType] = {}
_loading = threading.RLock()


def load(submodule: str) -> Any:
    """Return a submodule of the standard library's `multiprocessing`, by its dotted name below it."""
    name = f"{_NAME}.{submodule}"
    if name not in _genuine:
        with _loading, _GenuineView(), _SubprocessLater():
            import_module(name)
            _genuine.update(_named_so())
    return _genuine[name]


def loaded(submodule: str) -> Any:
    """The same, but None if nobody has loaded it yet."""
    name = f"{_NAME}.{submodule}"
    return _genuine.get(name) or sys.modules.get(name)


def remember() -> list[str]:
    """Keep hold of what is loaded now, before another module takes the names; return the names."""
    with _loading:
        loaded = _named_so()
        for name, module in loaded.items():
            _genuine.setdefault(name, module)
        return list(loaded)


def unpatched(home: Any, qualified_name: str) -> Any:
    """The stdlib's own function of that name; None if something else has taken its place by now."""
    found = home
    for name in qualified_name.split("."):
        found = getattr(found, name)
    code = getattr(found, "__code__", None)
    # A wrapper that looks like what it wraps still has the names of its own module.
    if getattr(found, "__globals__", None) is not vars(home) or code is None:
        return None
    return found if code.co_qualname == qualified_name else None


def _named_so() -> dict[str, ModuleType]:
    """What `multiprocessing` and its submodules stand for now."""
    return {name: m for name, m in sys.modules.items() if name == _NAME or name.startswith(_NAME + ".")}


# No use of `contextlib` here: a process that starts has no other need for it.
class _GenuineView:
    """Within, `multiprocessing` is the standard library's, and what stood for it is back afterwards."""

    def __enter__(self) -> None:
        self._is_needed = _is_aliased()
        if self._is_needed:
            self._stand_ins, self._finders = _named_so(), sys.meta_path[:]
            _rename(self._stand_ins, _genuine)
            sys.meta_path[:] = [finder for finder in self._finders if not _claims_the_name(finder)]

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._is_needed:
            if error is None:
                _genuine.update(_named_so())
            sys.meta_path[:] = self._finders
            loaded = _named_so()
            _rename(loaded, self._stand_ins)
            _fill_in(loaded)


def _fill_in(loaded: dict[str, ModuleType]) -> None:
    """Name what is the stdlib's under both names, as if it had been imported by that name.

    Objects say that they are of these modules, and picklers that ask `sys.modules` for a module and find none
    take its classes for such as cannot be imported. The alias does the same for the package's own modules.
    """
    package = sys.modules.get(_PACKAGE)
    for submodule in SHARED:
        module = loaded.get(f"{_NAME}.{submodule}")
        if module is not None:
            sys.modules.setdefault(f"{_NAME}.{submodule}", module)
            if package is not None:
                vars(package).setdefault(submodule, module)


class _SubprocessLater:
    """Within, `subprocess` is a module with the one function that `multiprocessing.util` wants to have.

    It calls the real one when a process is started; loading that takes a tenth of the time in which an
    interpreter that is started as a child becomes ready.
    """

    def __enter__(self) -> None:
        # With other threads somebody could meet the stand-in.
        self._is_needed = "subprocess" not in sys.modules and threading.active_count() == 1
        if self._is_needed:
            self._stand_in = ModuleType("subprocess")
            vars(self._stand_in)["_args_from_interpreter_flags"] = _args_from_interpreter_flags
            sys.modules["subprocess"] = self._stand_in

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._is_needed and sys.modules.get("subprocess") is self._stand_in:
            del sys.modules["subprocess"]


def _args_from_interpreter_flags() -> list[str]:
    import subprocess

    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]


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
    if type(finder).__module__ == "_procession_alias":
        return True
    find_spec = getattr(finder, "find_spec", None)
    spec = find_spec(_NAME, None) if find_spec is not None else None
    return spec is not None and not spec.has_location and "zipimport" not in type(spec.loader).__module__


def forward_other_names(module_name: str, target: ModuleType) -> None:
    """Turn the module, once all its own names are defined, into a forwarding one."""
    own = sys.modules.get(module_name)
    if own is None:
        # `runpy` runs its code elsewhere, and nobody will import it.
        return
    others = [name for name in vars(target) if name not in vars(own) and not name.startswith("__")]
    own.__class__ = type(
        "ForwardingModule", (ModuleType,), {name: _forwarded(target, name) for name in others}
    )


def _forwarded(target: ModuleType, name: str) -> property:
    # Properties, since tools that patch and restore attributes ask whether there is one on the type.
    return property(
        lambda _: getattr(target, name),
        lambda _, value: setattr(target, name, value),
        lambda _: delattr(target, name),
    )


context = load("context")
process = load("process")
reduction = load("reduction")
util = load("util")
