"""`procession.x` as another name of the module `multiprocessing.x`."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ["name_submodules"]


class _Finder:
    """Answers imports of `procession.x` with the standard library's module, the same object."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Claim what the standard library has; names with an underscore are this package's own."""
        package, _, name = fullname.partition(".")
        if package != "procession" or not name or name.startswith("_"):
            return None
        genuine = f"multiprocessing.{name}"
        return ModuleSpec(fullname, self, origin=genuine) if find_spec(genuine) is not None else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the standard library's module and take it as it is."""
        assert spec.origin is not None
        module = import_module(spec.origin)
        # The import system is about to overwrite what the module knows about itself.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module ran under its own name already: only give back what it knew about itself."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def name_submodules() -> None:
    """From now on, imports of the package's submodules find the standard library's."""
    # First, since a finder of files would load those of `procession.dummy` a second time.
    sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
