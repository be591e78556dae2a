"""`multiprocessing`, and every module below it, as another name of `procession`.

This file lies beside the package and not in it: `procession.pth` runs it at the start of every interpreter
that finds the switch in its environment, and nothing of the package may be loaded before a program asks for
`multiprocessing`. So it imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["SWITCH", "activate", "is_active", "turn_on"]

# Whoever has this in the environment, whatever its value, has the alias from the start.
SWITCH = "PROCESSION_INSTALL"

_ALIAS = "multiprocessing"
_PACKAGE = "procession"


class AliasFinder:
    """Answers imports of `multiprocessing.x` with the module `procession.x`, the same object."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Claim the names that the alias covers."""
        if fullname != _ALIAS and not fullname.startswith(_ALIAS + "."):
            return None
        return ModuleSpec(fullname, self, origin=f"alias of {_PACKAGE}", is_package=fullname == _ALIAS)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the package's module and take it as it is."""
        name = _PACKAGE + spec.name[len(_ALIAS) :]
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            if spec.name != _ALIAS:
                raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name) from None
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
        """The module ran under its own name already: only give back what it knew about itself."""
        spec = module.__spec__
        assert spec is not None
        module.__spec__, module.__loader__ = spec.loader_state


def is_active() -> bool:
    """Whether imports of `multiprocessing` find the package."""
    return any(isinstance(finder, AliasFinder) for finder in sys.meta_path)


def activate() -> None:
    """From now on, imports of `multiprocessing` find the package; what is imported already stays."""
    if not is_active():
        sys.meta_path.insert(0, AliasFinder())  # type: ignore[arg-type]


def turn_on() -> None:
    """As `activate`, and in every process that is started from here on, by whatever means."""
    os.environ[SWITCH] = "1"
    activate()
