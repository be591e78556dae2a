"""`__main__` and `__mp_main__`: the two names under which pickle finds what the main program defines.

The stdlib sets the second when it is imported, and children give that name to their copy of the main program.
But tools (this package's launcher, debuggers, profilers) import the stdlib first and become the program
later.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType, ModuleType

from .._typing import Any

__all__ = ["LaunchedMain", "innermost_frame", "sync_main_modules"]


def sync_main_modules(own_callers: int = 0) -> None:
    """Make both names stand for the program that runs; called before children or objects for them exist.

    `own_callers` counts the callers that are no code of the program.
    """
    main = sys.modules.get("__main__")
    if not isinstance(main, ModuleType):
        return
    if not own_callers or not _is_called_by(main, own_callers + 2):
        main = _executed_in(main)
    if sys.modules.get("__mp_main__") is not main:
        sys.modules["__main__"] = sys.modules["__mp_main__"] = main


def _is_called_by(main: ModuleType, depth: int) -> bool:
    """Return whether code of the main module calls the package, so that nothing needs to be searched.

    The search makes objects of all frames, and the next fork copies their memory.
    """
    try:
        frame = sys._getframe(depth)
    except ValueError:
        return False
    if frame.f_globals is main.__dict__:
        return True
    # The process class of the current start method calls that of the method itself.
    if frame.f_globals.get("__name__") != _MODULE_OF_START or frame.f_back is None:
        return False
    return frame.f_back.f_globals is main.__dict__


_MODULE_OF_START = f"{__package__}.startable_process"


def _executed_in(main: ModuleType) -> ModuleType:
    """Return the program that the main module, a tool, executes in another namespace; else `main` itself.

    cProfile (until 3.13), trace and others do so, and then no function or class of the program can be
    pickled. A program has a frame named `<module>`, which tells it from the functions of a tool.
    """
    names, running = vars(main), None
    frame = innermost_frame()
    while frame is not None:
        around = frame.f_globals
        if around is names:
            return main if running is None else _ExecutedMain(running, main)
        if running is None and frame.f_code.co_name == "<module>" and around.get("__name__") == "__main__":
            running = around
        frame = frame.f_back
    if isinstance(main, _ExecutedMain) and vars(main._procession_tool) is running:
        return main._procession_tool
    return main


def innermost_frame() -> FrameType | None:
    """Return the innermost frame of the main thread. Keeping it keeps all variables of its callers alive."""
    if threading.current_thread() is threading.main_thread():
        return sys._getframe(1)
    return sys._current_frames().get(threading.main_thread().ident or 0)


class LaunchedMain(ModuleType):
    """A main module made by this package's launcher, before it is known what will run in it."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            sync_main_modules()
            main = sys.modules.get("__main__")
            if main is not self:
                return getattr(main, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _ExecutedMain(ModuleType):
    """A namespace as a module; missing names are looked up in the tool's module."""

    _procession_names: dict[str, Any]
    _procession_tool: ModuleType

    def __init__(self, names: dict[str, Any], tool: ModuleType) -> None:
        # Not `ModuleType.__init__`, which would set names in the namespace.
        object.__setattr__(self, "_procession_names", names)
        object.__setattr__(self, "_procession_tool", tool)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return self._procession_names

    def __getattr__(self, name: str) -> Any:
        if name in self._procession_names:
            return self._procession_names[name]
        if name == "__spec__":
            return None
        if name.startswith("__"):
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        return object.__getattribute__(self._procession_tool, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._procession_names[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self._procession_names[name]
        except KeyError:
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from None
