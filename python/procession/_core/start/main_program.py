"""Sending the main program to children that are not forked from this process.

A child can import a script by its path and a module by its name: that is the stdlib's way, in the preparation
data. Other main programs cannot be imported: `python -c`, standard input, the `__main__.py` of a package or a
zip file, a file that was deleted or moved, a program that a profiler executes. These travel as a code object,
taken from the frame of the running program, next to the stdlib's data. A child runs the code

* at once, as it would have run the file, if it is a script or a module whose file is gone;
* when a name of it is first needed otherwise: a `__main__.py` or a text for `-c` seldom has a guard
  `if __name__ == "__main__"`, and most children need nothing of it.
"""

from __future__ import annotations

import os
import sys
import threading
from types import CodeType, ModuleType

from .._typing import Any
from ..stdlib import load, process
from .main_module import innermost_frame

__all__ = ["has_directory", "preparation_data", "prepare", "prepare_main"]

# The key of the `MainProgram` in the preparation data.
KEY = "procession_main"

_BY_NAME, _BY_PATH = "init_main_from_name", "init_main_from_path"
KEYS = (_BY_NAME, _BY_PATH, KEY)

# The program whose code this process has received.
_received: MainProgram | None = None

# The last code object that was sent, and its bytes.
_marshalled: tuple[CodeType | None, bytes] = (None, b"")


class MainProgram:
    """The code of a main program and what its module knows about itself."""

    def __init__(self, code: bytes, main: ModuleType, at_once: bool) -> None:
        spec = getattr(main, "__spec__", None)
        self.code = code
        # Code objects differ between versions of Python.
        self.version = sys.hexversion
        self.at_once = at_once
        self.file = _absolute(getattr(main, "__file__", None))
        self.package = getattr(main, "__package__", None)
        self.spec_name = getattr(spec, "name", None)
        self.has_run = False
        self.names = frozenset(name for name in vars(main) if not name.startswith("__"))

    def install(self) -> None:
        """Make this the main module of this process."""
        global _received
        if self.version != sys.hexversion or (_received is not None and self.code == _received.code):
            return
        _received = self
        self.has_run = False
        module = _LazyMain("__mp_main__")
        module.__package__ = self.package
        if self.file is not None:
            module.__file__ = self.file
        if self.spec_name is not None:
            from importlib.machinery import ModuleSpec

            module.__spec__ = ModuleSpec(self.spec_name, None, origin=self.file)
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        if self.at_once:
            self._execute_in(module)

    def run(self, module: ModuleType) -> None:
        """Run the program, once; if it fails, none of its names is defined."""
        if self.has_run:
            return
        before = dict(vars(module))
        try:
            self._execute_in(module)
        except (Exception, SystemExit) as error:
            self.has_run = False
            vars(module).clear()
            vars(module).update(before)
            # Not AttributeError, which pickle would replace with its own.
            raise ImportError(
                "this process had to run the main program, to find in it what it was sent; that ended in "
                f'{type(error).__name__}. The main part belongs below `if __name__ == "__main__":`'
            ) from error

    def _execute_in(self, module: ModuleType) -> None:
        import builtins
        import marshal

        # While it runs, names it has not defined yet do not start it again.
        self.has_run = True
        module.__builtins__ = builtins  # type: ignore[attr-defined]
        current: Any = process.current_process()
        was_inheriting = hasattr(current, "_inheriting")
        # Starting a process is an error here, as in a script that is imported.
        current._inheriting = True
        try:
            exec(marshal.loads(self.code), vars(module))
        finally:
            if not was_inheriting:
                del current._inheriting


class _LazyMain(ModuleType):
    """A main module that runs its program when a name which the parent's module has is first read."""

    def __getattr__(self, name: str) -> Any:
        program = _received
        if program is not None and name in program.names:
            with _running:
                program.run(self)
            if name in vars(self):
                return vars(self)[name]
        raise AttributeError(f"the main program has no {name!r}")


# Held by the thread that runs the program; reentrant, because the program may read names itself.
_running = threading.RLock()


def prepare(data: dict[str, Any]) -> None:
    """In a child: apply the parent's preparation data."""
    spawn = load("spawn")
    if KEY not in data:
        spawn.prepare(data)
        return
    spawn.prepare({key: value for key, value in data.items() if key not in (_BY_NAME, _BY_PATH)})
    prepare_main(data)


def prepare_main(data: dict[str, Any]) -> None:
    """Apply the part of the preparation data that concerns the main program."""
    spawn = load("spawn")
    program = data.get(KEY)
    if program is not None and not (program.at_once and _is_importable(data)):
        program.install()
    elif _BY_NAME in data:
        spawn._fixup_main_from_name(data[_BY_NAME])
    elif _BY_PATH in data:
        spawn._fixup_main_from_path(data[_BY_PATH])


def preparation_data(name: str) -> dict[str, Any]:
    """Return the stdlib's preparation data and the main program.

    Works without a main module and in a directory that was deleted, too.
    """
    main: Any = sys.modules.get("__main__")
    if hasattr(main, "__spec__"):
        data = _data_with_a_directory(name)
    else:
        # The program has removed it, and the stdlib needs one.
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            data = _data_with_a_directory(name)
        finally:
            if main is None:
                del sys.modules["__main__"]
            else:
                sys.modules["__main__"] = main
    if isinstance(main, ModuleType):
        program = _program_to_send(main, data)
        if program is not None:
            data[KEY] = program
    return data


def _data_with_a_directory(name: str) -> dict[str, Any]:
    spawn = load("spawn")
    try:
        return spawn.get_preparation_data(name)  # type: ignore[no-any-return]
    except (FileNotFoundError, SystemError):
        if has_directory():
            raise
    # The directory was deleted: a child that is started here is in the same one.
    spawn.os = _NoDirectory()
    try:
        data: dict[str, Any] = spawn.get_preparation_data(name)
    finally:
        spawn.os = os
    data.pop("dir", None)
    return data


def has_directory() -> bool:
    """Return whether the working directory exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


class _NoDirectory:
    """Stands for the module `os` where the working directory does not exist any more."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def getcwd(self) -> str:
        return os.curdir


def _program_to_send(main: ModuleType, data: dict[str, Any]) -> MainProgram | None:
    """Return the main program to send; None if a child can import it, or has it already."""
    if _received is not None and sys.modules.get("__mp_main__") is main:
        return _received
    name, path = data.get(_BY_NAME), data.get(_BY_PATH)
    is_module = name is not None and name != "__main__" and not name.endswith(".__main__")
    if (is_module or path is not None) and _is_importable(data):
        return None
    if main.__name__ != "__main__" or hasattr(sys, "ps1") or getattr(sys, "frozen", False):
        # A child's copy, an interactive session, or a frozen program.
        return None
    code = _code_of(main)
    if code is None:
        return None
    return MainProgram(code, main, at_once=is_module or (path is not None and not _is_text(path)))


def _is_importable(data: dict[str, Any]) -> bool:
    """Return whether the file that the stdlib would import exists."""
    if (path := data.get(_BY_PATH)) is not None:
        return os.path.exists(path)
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name == data.get(_BY_NAME):
        return spec.origin is not None and os.path.exists(spec.origin)
    from importlib.util import find_spec

    try:
        return find_spec(data[_BY_NAME]) is not None
    except (ImportError, AttributeError, ValueError):
        return False


def _is_text(path: str) -> bool:
    """Return whether it is no path but a name like `<stdin>`."""
    return os.path.basename(path).startswith("<")


def _absolute(file: Any) -> str | None:
    if not isinstance(file, str) or process.ORIGINAL_DIR is None or _is_text(file):
        return file if isinstance(file, str) else None
    return os.path.join(process.ORIGINAL_DIR, file)


def _code_of(main: ModuleType) -> bytes | None:
    """Return the code object of the main program as bytes; None if it is unknown."""
    global _marshalled
    import marshal

    code = _running_code(main) or _loaded_code(main)
    if code is None:
        return None
    if _marshalled[0] is not code:
        _marshalled = code, marshal.dumps(code)
    return _marshalled[1]


def _running_code(main: ModuleType) -> CodeType | None:
    """Find the code in the frame that executes it; a debugger may run its own code in the same module."""
    names = vars(main)
    file = os.path.basename(getattr(main, "__file__", None) or "")
    outermost = outermost_so_named = None
    frame = innermost_frame()
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            outermost = frame.f_code
            if os.path.basename(outermost.co_filename) == file:
                outermost_so_named = outermost
        frame = frame.f_back
    return outermost_so_named or outermost


def _loaded_code(main: ModuleType) -> CodeType | None:
    """Get the code from its loader, after the program has run to its end: of a zip file, of a package."""
    spec = getattr(main, "__spec__", None)
    get_code = getattr(getattr(spec, "loader", None), "get_code", None)
    if spec is None or get_code is None:
        return None
    try:
        code = get_code(spec.name)
    except (ImportError, OSError):
        return None
    return code if isinstance(code, CodeType) else None
