"""Whose processes a program runs on: what a program asks here, it asserts.

In the mode "launcher" `multiprocessing` is the package everywhere; in the mode "context" it is the standard
library's, and the program hands a context of the package to the library under test.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterable
from typing import Any

MODE = os.environ.get("ECOSYSTEM_MODE", "stdlib")
METHOD = os.environ.get("ECOSYSTEM_METHOD", "fork")

EXPECTED = {
    "stdlib": "multiprocessing/multiprocessing",
    "launcher": "procession/procession",
    "context": "multiprocessing/procession",
}


def context(method: str = METHOD) -> Any:
    """A context of the implementation that the program is to run on."""
    if MODE == "context":
        import procession

        return procession.get_context(method)
    return multiprocessing.get_context(method)


def implementation() -> Any:
    """The module that a program of the mode would import as `multiprocessing`."""
    if MODE == "context":
        import procession

        return procession
    return multiprocessing


def home(*_: object) -> str:
    """What `multiprocessing` is here, and which package made this process."""
    # Under the alias its classes call themselves `multiprocessing`'s, and that names the package's modules.
    homes = (sys.modules[cls.__module__] for cls in type(multiprocessing.current_process()).__mro__)
    packages = (module.__name__.partition(".")[0] for module in homes)
    maker = next(name for name in packages if name in ("procession", "multiprocessing"))
    return f"{multiprocessing.__name__}/{maker}"


def check(homes: Iterable[str]) -> None:
    """Worker processes answered these from `home`."""
    homes = set(homes)
    assert homes == {EXPECTED[MODE]}, f"{homes} in mode {MODE}"


def check_alias(names: Iterable[str]) -> None:
    """Workers whose library makes its own kind of process answered these from `home`."""
    names = {name.partition("/")[0] for name in names}
    assert names == {EXPECTED[MODE].partition("/")[0]}, f"{names} in mode {MODE}"


def set_method(method: str = METHOD) -> None:
    """Choose the start method for a library that uses the default one."""
    multiprocessing.set_start_method(method)
