"""The standard library's own `multiprocessing` modules, whatever that name means at the moment.

A program may run with `multiprocessing` as an alias of this package. This package builds on the stdlib's
modules all the same, and on a single copy of them: its modules take them from here and never import
`multiprocessing` themselves. The four that every process needs are names of this module; `load` returns the
others.

There is no module `__getattr__` that loads them: pickle, mock and others ask every module for names that it
does not have.
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

# The modules of this package that are the stdlib's own.
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
    """Return a submodule like `load`, but None if it is not loaded yet."""
    name = f"{_NAME}.{submodule}"
    return _genuine.get(name) or sys.modules.get(name)


def remember() -> list[str]:
    """Keep the modules that are loaded now, before others take their names; return the names."""
    with _loading:
        loaded = _named_so()
        for name, module in loaded.items():
            _genuine.setdefault(name, module)
        return list(loaded)


def unpatched(home: Any, qualified_name: str) -> Any:
    """Return the stdlib's own function of that name; None if a tool has replaced it."""
    found = home
    for name in qualified_name.split("."):
        found = getattr(found, name)
    code = getattr(found, "__code__", None)
    # A wrapper made by functools.wraps still has the globals of its own module.
    if getattr(found, "__globals__", None) is not vars(home) or code is None:
        return None
    return found if code.co_qualname == qualified_name else None


def _named_so() -> dict[str, ModuleType]:
    """Return the modules now loaded as `multiprocessing` and below it."""
    return {name: m for name, m in sys.modules.items() if name == _NAME or name.startswith(_NAME + ".")}


# No use of `contextlib` here: importing it would slow down every start of a process.
class _GenuineView:
    """A context in which `multiprocessing` is the standard library's; the alias is back afterwards."""

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
    """Enter the shared modules under their `multiprocessing` names, as if they had been imported so.

    Their classes name these modules, and some picklers look into `sys.modules` alone and treat a class whose
    module is not there as not importable. The alias does the same for the package's own modules.
    """
    package = sys.modules.get(_PACKAGE)
    for submodule in SHARED:
        module = loaded.get(f"{_NAME}.{submodule}")
        if module is not None:
            sys.modules.setdefault(f"{_NAME}.{submodule}", module)
            if package is not None:
                vars(package).setdefault(submodule, module)


class _SubprocessLater:
    """A context in which `subprocess` is a stub with the one function that `multiprocessing.util` imports.

    The function loads the real module when a process is started. Loading it earlier would take a tenth of the
    time that a started interpreter needs to become ready.
    """

    def __enter__(self) -> None:
        # Other threads could import the stub.
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
    """Return whether an import hook replaces `multiprocessing` by something that is not its file."""
    if getattr(finder, "__module__", "").startswith("_frozen_importlib"):
        # The interpreter's own finders look for files; asking them would cost a search.
        return False
    if type(finder).__module__ == "_procession_alias":
        return True
    find_spec = getattr(finder, "find_spec", None)
    spec = find_spec(_NAME, None) if find_spec is not None else None
    return spec is not None and not spec.has_location and "zipimport" not in type(spec.loader).__module__


def forward_other_names(module_name: str, target: ModuleType) -> None:
    """Make a module forward every name that it does not define to `target`, a module of the stdlib.

    Process-wide state (`spawn._python_exe`, `managers.listener_client` and so on) must exist once per
    process, and libraries patch it under either name. So the names are read, written and deleted in `target`,
    at the moment of use. To be called once all of the module's own names are defined.
    """
    own = sys.modules.get(module_name)
    if own is None:
        # `runpy` runs the code in another namespace, which is never imported.
        return
    others = [name for name in vars(target) if name not in vars(own) and not name.startswith("__")]
    own.__class__ = type(
        "ForwardingModule", (ModuleType,), {name: _forwarded(target, name) for name in others}
    )


def _forwarded(target: ModuleType, name: str) -> property:
    # Properties, because tools that patch and restore attributes look for them on the type.
    return property(
        lambda _: getattr(target, name),
        lambda _, value: setattr(target, name, value),
        lambda _: delattr(target, name),
    )


context = load("context")
process = load("process")
reduction = load("reduction")
util = load("util")
