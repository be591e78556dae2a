"""`multiprocessing`, and every module below it, as another name of `procession`.

This file is next to the package and not in it: `procession.pth` runs it at the start of every interpreter
that has the switch in its environment, and no part of the package may be loaded before a program imports
`multiprocessing`. So it imports next to nothing.

An interpreter that ignores its environment (-E, -I) is not changed. One that runs with rights that its
starter may lack ignores all variables of the package.
"""

from __future__ import annotations

import _thread
import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SWITCH", "activate", "is_active", "is_elevated", "look", "turn_on", "variable"]

# With this variable in the environment, whatever its value, the alias is on from the start.
SWITCH = "PROCESSION_INSTALL"

_ALIAS = "multiprocessing"

# Of <elf.h>.
_AT_SECURE = 23
_PACKAGE = "procession"


class AliasFinder:
    """Answers imports of `multiprocessing.x` with the module `procession.x`, the same object."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Claim the names that the alias covers."""
        if fullname == _PACKAGE or fullname.startswith(_PACKAGE + "."):
            return _own_spec(fullname, path)
        if fullname != _ALIAS and not fullname.startswith(_ALIAS + "."):
            return None
        if not _is_main_interpreter():
            # There is one engine per process; subinterpreters keep the standard library's.
            return None
        own = _own_spec(_own_name(fullname), path)
        if own is None and fullname != _ALIAS:
            return None
        return _alias_spec(fullname, own)


def _is_main_interpreter() -> bool:
    # Python 3.11 cannot tell.
    ask = getattr(_thread, "_is_main_interpreter", None)
    return ask is None or ask()


def _own_name(name: str) -> str:
    """Return the name of a module in the package, given either of its names."""
    return _PACKAGE + name[len(_ALIAS) :] if name.partition(".")[0] == _ALIAS else name


def _own_spec(name: str, path: object) -> ModuleSpec | None:
    spec = PathFinder.find_spec(name, path)  # type: ignore[arg-type]
    if spec is not None and type(spec.loader) is SourceFileLoader:
        spec.loader.__class__ = PackageLoader
    return spec


def _alias_spec(name: str, own: ModuleSpec | None) -> ModuleSpec:
    """Return the spec of a module under its other name: the same file and the same code."""
    loader: Any = AliasLoader(None if own is None else own.loader)
    if own is None:
        return ModuleSpec(name, loader)
    spec = ModuleSpec(name, loader, origin=own.origin)
    spec.submodule_search_locations = own.submodule_search_locations
    spec.cached = own.cached
    spec.has_location = own.has_location
    return spec


class PackageLoader(SourceFileLoader):
    """The loader of a module of the package, which accepts both of its names."""

    def get_filename(self, fullname: str | None = None) -> str:
        """Return the path of the source file."""
        return super().get_filename(None if fullname is None else _own_name(fullname))

    def get_resource_reader(self, name: str) -> object:  # type: ignore[override]
        """Return the reader for `importlib.resources`."""
        return super().get_resource_reader(_own_name(name))

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; then give its classes and functions the module name `multiprocessing.x`."""
        super().exec_module(module)
        _rename_contents(module)
        _fill_in(module.__name__)


class AliasLoader:
    """Loads a module under the name `multiprocessing.x`: returns that of the package."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def get_code(self, name: str) -> object:
        """Return the code of the package's module. `multiprocessing.__main__` has none: it cannot be run."""
        if self._own is None or name == f"{_ALIAS}.__main__":
            raise ImportError(f"No module named {name!r}", name=name)
        return self._own.get_code(name)

    def __getattr__(self, name: str) -> object:
        # Source, resources and so on are those of the package's module.
        if self._own is None:
            raise AttributeError(name)
        return getattr(self._own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the package's module and return it unchanged."""
        name = _own_name(spec.name)
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ModuleNotFoundError(
                f"{SWITCH} is set, but this Python has no {_PACKAGE}: install it or unset the variable",
                name=name,
            ) from None
        # Some of the package's modules put another module in their place.
        module = sys.modules[name]
        # The import system is about to overwrite what the module knows about itself.
        spec.loader_state = (module.__spec__, module.__loader__)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec and loader: it ran under its own name already."""
        spec = module.__spec__
        assert spec is not None
        module.__spec__, module.__loader__ = spec.loader_state


def _fill_in(name: str) -> None:
    """Enter a public module of the package into `sys.modules` under its other name too.

    Its types name `multiprocessing.x` as their module, and some libraries look it up in `sys.modules` alone.
    """
    package, _, submodule = name.partition(".")
    if package == _PACKAGE and submodule and not submodule.startswith("_"):
        # Some of the package's modules put another module in their place.
        sys.modules.setdefault(f"{_ALIAS}.{submodule}", sys.modules[name])


def _rename_contents(module: ModuleType) -> None:
    """Set `__module__` of what a public module defines to the standard library's name.

    Libraries recognise queues, locks and processes by the `__module__` of their types.
    """
    package, _, name = module.__name__.partition(".")
    # The modules that replace public ones where the engine cannot run.
    name = name.removeprefix("_core.fallback.")
    if package != _PACKAGE or not name or name.startswith("_") or name == "choice":
        return
    for value in list(vars(module).values()):
        if isinstance(value, type):
            if value.__module__ == module.__name__ or value.__module__.startswith(f"{_PACKAGE}._core."):
                line = vars(value).get("__firstlineno__") if _is_written_in(value, module) else None
                value.__module__ = f"{_ALIAS}.{name}"
                if line is not None:
                    # Python 3.13 removes it when `__module__` changes; without it, the source is not found.
                    value.__firstlineno__ = line  # type: ignore[attr-defined]
                for member in list(vars(value).values()):
                    _rename_function(member, module.__name__)
        else:
            _rename_function(value, module.__name__)


def _is_written_in(kind: type, module: ModuleType) -> bool:
    """Return whether a class is written in the module's file, where tools look for its source."""
    if kind.__module__ != module.__name__:
        return False
    members = (getattr(member, "__func__", member) for member in vars(kind).values())
    functions = [member for member in members if isinstance(member, FunctionType)]
    # Other functions may have been added later, like the methods of managers.
    own = [function for function in functions if function.__qualname__.startswith(f"{kind.__qualname__}.")]
    return all(function.__code__.co_filename == module.__file__ for function in own)


def _rename_function(value: object, home: str) -> None:
    if isinstance(value, FunctionType) and value.__module__ == home:
        value.__module__ = _ALIAS + home[len(_PACKAGE) :]


def is_elevated() -> bool:
    """Return whether the interpreter has rights that its starter may lack, by the kernel's `AT_SECURE`."""
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return True
    try:
        with open("/proc/self/auxv", "rb") as file:
            words = memoryview(file.read()).cast("L")
    except PermissionError:
        # The kernel hides it from the user, like the memory of such processes.
        return True
    except OSError:
        return False
    return dict(zip(words[::2], words[1::2], strict=True)).get(_AT_SECURE, 0) != 0


def variable(name: str) -> str | None:
    """Return a variable of the environment; None if it is not set, or must not be trusted."""
    value = os.environ.get(name)
    return None if value is None or is_elevated() else value


def look() -> None:
    """Turn the alias on, at the start of an interpreter that has the switch in its environment."""
    if not sys.flags.ignore_environment and variable(SWITCH) is not None:
        activate()


def is_active() -> bool:
    """Return whether imports of `multiprocessing` find the package."""
    return any(isinstance(finder, AliasFinder) for finder in sys.meta_path)


def activate() -> None:
    """From now on, imports of `multiprocessing` find the package; modules imported already stay."""
    if is_active():
        return
    sys.meta_path.insert(0, AliasFinder())
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE and module.__name__ == name:
            if type(module.__loader__) is SourceFileLoader:
                module.__loader__.__class__ = PackageLoader
            _rename_contents(module)
            _fill_in(name)


def turn_on() -> None:
    """Like `activate`, here and in every process started from now on, by whatever means."""
    os.environ[SWITCH] = "1"
    activate()
