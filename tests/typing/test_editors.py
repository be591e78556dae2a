"""What an editor completes, by jedi: at least what it completes for the stdlib."""

from __future__ import annotations

import importlib

import pytest

jedi = pytest.importorskip("jedi")

MODULES = (
    "connection context dummy forkserver heap managers pool process queues reduction shared_memory "
    "sharedctypes spawn synchronize util"
).split()

BEFORE = """
import ctypes
import {package} as multiprocessing
{imports}

def function(number: int) -> str: ...

"""

EXPRESSIONS = [
    "multiprocessing.Queue()",
    "multiprocessing.JoinableQueue()",
    "multiprocessing.SimpleQueue()",
    "multiprocessing.Pool()",
    "multiprocessing.Pool().apply_async(function)",
    "multiprocessing.Pool().map_async(function, [1])",
    "multiprocessing.Pool().starmap_async(function, [(1,)])",
    "multiprocessing.Pool().imap(function, [1])",
    "multiprocessing.Pool().imap_unordered(function, [1])",
    "multiprocessing.pool.ThreadPool()",
    "multiprocessing.Process(target=function)",
    "multiprocessing.current_process()",
    "multiprocessing.active_children()[0]",
    "multiprocessing.Manager()",
    "multiprocessing.Manager().dict()",
    "multiprocessing.Manager().list()",
    "multiprocessing.Manager().Value('i', 1)",
    "multiprocessing.Manager().Queue()",
    "multiprocessing.Manager().Lock()",
    "multiprocessing.managers.SharedMemoryManager()",
    "multiprocessing.Lock()",
    "multiprocessing.RLock()",
    "multiprocessing.Semaphore()",
    "multiprocessing.BoundedSemaphore()",
    "multiprocessing.Condition()",
    "multiprocessing.Event()",
    "multiprocessing.Barrier(2)",
    "multiprocessing.Value('i', 0)",
    "multiprocessing.Value(ctypes.c_int, 0)",
    "multiprocessing.RawArray(ctypes.c_int, 3)",
    "multiprocessing.Pipe()[0]",
    "multiprocessing.connection.Listener()",
    "multiprocessing.connection.Listener().accept()",
    "multiprocessing.connection.Client('address')",
    "multiprocessing.shared_memory.SharedMemory()",
    "multiprocessing.shared_memory.ShareableList()",
    "multiprocessing.get_context()",
    "multiprocessing.get_context('spawn')",
    "multiprocessing.get_context('spawn').Queue()",
    "multiprocessing.get_context('fork').Process()",
    "multiprocessing.get_logger()",
    "multiprocessing.TimeoutError()",
]


def completed(package: str, expression: str) -> set[str]:
    """The public names that jedi completes behind an expression and a dot."""
    imports = "\n".join(f"import {package}.{module}" for module in MODULES)
    source = BEFORE.format(package=package, imports=imports) + f"{expression}."
    return {found.name for found in jedi.Script(source).complete() if not found.name.startswith("_")}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_editor_completes_what_it_does_for_the_stdlib(expression: str) -> None:
    """Every attribute of the objects that the package makes."""
    theirs = completed("multiprocessing", expression)
    assert theirs
    assert theirs - completed("procession", expression) == set()


@pytest.mark.parametrize("module", ["", *MODULES])
def test_an_editor_completes_the_names_of_a_module(module: str) -> None:
    """What the module exports; the stdlib's modules also complete what they happen to import."""
    exported = set(importlib.import_module(f"procession.{module}".rstrip(".")).__all__)
    theirs = completed("multiprocessing", f"multiprocessing.{module}".rstrip("."))
    assert (theirs & exported) - completed("procession", f"multiprocessing.{module}".rstrip(".")) == set()
