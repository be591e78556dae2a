"""Noticing that the import of a main program asks for values that each process should have for itself.

`LOG = f"log-{os.getpid()}"`, `ID = uuid.uuid4()`, `random.seed(7)`, `generator = default_rng()`:
imported once for all children, these would be the same in all of them. So the import is watched while the
program's own modules run. While a library is imported the watch is off, which keeps it cheap; values that a
library computes for itself are not noticed.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
import time as time  # A built-in module: no loader of files sees it being loaded.
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import cast

from .._typing import Any
from ..stdlib import process

__all__ = ["ImportWatch"]

# Functions whose results differ between processes or moments. The modules are not loaded here: a fork server
# that had loaded `random`, for example, would reseed it in every child.
_ASKED = {
    "os": ("getpid", "getppid", "urandom", "getrandom"),
    "time": (
        *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
        *("localtime", "gmtime", "ctime", "asctime", "strftime"),
    ),
    "datetime": ("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    "uuid": ("uuid1", "uuid4", "uuid6", "uuid7"),
    "secrets": ("token_bytes", "token_hex", "token_urlsafe", "randbelow", "randbits", "choice"),
    "threading": ("get_native_id",),
    "tempfile": ("mkdtemp", "mkstemp", "mktemp", "NamedTemporaryFile", "TemporaryDirectory.__init__"),
    "random": ("Random.__init__", "Random.seed", "SystemRandom.random", "SystemRandom.getrandbits"),
    process.__name__: ("current_process", "parent_process"),
}

# Modules with a hidden generator of random numbers, and generators that a program keeps.
_RANDOM = ("random", "numpy.random")
_GENERATORS = ("Random", "Generator", "RandomState", "BitGenerator")

_METHOD = "exec_module"

# The name under which a main program is imported.
_MAIN = "__mp_main__"

# Calls by the standard library are ignored: it asks for the time of a log record, or for a deadline.
_STDLIB = os.path.dirname(os.__file__) + os.sep
_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def _is_library(file: str) -> bool:
    return _is_basic(file) or any(part in file for part in _PACKAGES)


def _is_basic(file: str) -> bool:
    """Return whether a file belongs to the standard library, or to this package."""
    if file.startswith((_OURS, "<frozen")):
        return True
    return file.startswith(_STDLIB) and not any(part in file for part in _PACKAGES)


class ImportWatch:
    """A context in which the main program is imported; afterwards `noticed` says what it asked for."""

    def __init__(self) -> None:
        self.noticed: str | None = None
        self._states: dict[str, Any] = {}
        self._ready_ends: dict[Any, str] = {}
        self._known = set(sys.modules)

    def __enter__(self) -> ImportWatch:
        for name in _ASKED:
            self._learn(name)
        for name in _RANDOM:
            self._note_state(name)
        self._loader: Any = importlib.machinery.SourceFileLoader
        self._exec_module = self._loader.exec_module
        watch = self

        def exec_module(loader: Any, module: ModuleType) -> None:
            watch._execute(loader, module)

        setattr(self._loader, _METHOD, exec_module)
        # An active profiler keeps its place, and nothing is noticed.
        self._is_on = sys.getprofile() is None
        self._watch(True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._watch(False)
        delattr(self._loader, _METHOD)
        for name, before in self._states.items():
            if before != _state(name):
                self.noticed = f"the state of {name}"
        if self.noticed is None and any(self._generators()):
            self.noticed = "a generator of random numbers"

    def libraries(self) -> list[str]:
        """Return the libraries that were loaded in the context, in the order of loading."""
        return [
            name
            for name, module in list(sys.modules.items())
            if name not in self._known and (file := getattr(module, "__file__", None)) and _is_library(file)
        ]

    def _watch(self, on: bool) -> None:
        if self._is_on:
            sys.setprofile(self._look if on else None)

    def _execute(self, loader: Any, module: ModuleType) -> None:
        """Run a module, with the watch on if it belongs to the program."""
        was_on = sys.getprofile() == self._look
        self._watch(not _is_library(getattr(module, "__file__", None) or ""))
        try:
            self._exec_module(loader, module)
        finally:
            name = module.__name__
            if name in _ASKED:
                self._learn(name)
            self._note_state(name)
            self._watch(was_on)

    def _look(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            what, asker = self._ready_ends.get(argument), cast("FrameType | None", frame)
        elif event == "call":
            what, asker = self._ready_ends.get(frame.f_code), frame.f_back
        else:
            return
        if what is not None and asker is not None and not _is_basic(asker.f_code.co_filename):
            self.noticed = what

    def _learn(self, name: str) -> None:
        """Remember the functions of a module, to recognise calls of them."""
        if (module := sys.modules.get(name)) is None:
            return
        for path in _ASKED[name]:
            found: Any = module
            for part in path.split("."):
                found = getattr(found, part, None)
            # A Python function is recognised by its code object, a C function by itself.
            if found is not None:
                self._ready_ends[getattr(found, "__code__", found)] = f"{name}.{path}"

    def _note_state(self, name: str) -> None:
        if name in _RANDOM and name not in self._states and name in sys.modules:
            self._states[name] = _state(name)

    def _generators(self) -> Iterator[bool]:
        homes = [sys.modules.get(name) for name in _RANDOM]
        kinds = tuple(
            getattr(home, name) for home in homes if home for name in _GENERATORS if hasattr(home, name)
        )
        for name, module in list(sys.modules.items()):
            if name in self._known:
                continue
            if name != _MAIN and _is_library(getattr(module, "__file__", None) or "<frozen"):
                continue
            for value in list(vars(module).values()):
                yield isinstance(value, kinds)


def _state(name: str) -> Any:
    """The state of a module's hidden generator."""
    module: Any = sys.modules[name]
    if name == "random":
        return module.getstate()
    kind, key, *rest = module.get_state()
    return kind, bytes(key), *rest
