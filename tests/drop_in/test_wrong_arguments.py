"""Wrong arguments are refused at the call, by errors that name them; type hints resolve for tools."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import connection, pool

TEXT = "3"


def same(x: Any = None) -> Any:
    return x


@pytest.fixture(scope="module")
def workers() -> Iterator[pool.Pool]:
    """A pool whose workers never see a wrong argument."""
    with procession.get_context("fork").Pool(1) as made:
        yield made


OF_POOLS: list[tuple[str, type[Exception], Callable[[Any], Any]]] = [
    ("chunksize", TypeError, lambda p: p.map(same, [1], TEXT)),
    ("chunksize", TypeError, lambda p: p.map_async(same, [1], 2.5)),
    ("chunksize", TypeError, lambda p: p.imap(same, [1], TEXT)),
    ("buffersize", TypeError, lambda p: p.imap(same, [1], buffersize=2.5)),
    ("buffersize", ValueError, lambda p: p.imap_unordered(same, [1], buffersize=0)),
    ("func", TypeError, lambda p: p.map(5, [1])),
    ("func", TypeError, lambda p: p.imap([], [1])),
    ("func", TypeError, lambda p: p.apply_async(None)),
    ("iterable", TypeError, lambda p: p.map(same, 5)),
    ("iterable", TypeError, lambda p: p.starmap_async(same, 5)),
    ("args", TypeError, lambda p: p.apply(same, 1)),
    ("kwds", TypeError, lambda p: p.apply_async(same, (1,), 5)),
    ("callback", TypeError, lambda p: p.apply_async(same, (1,), callback=5)),
    ("error_callback", TypeError, lambda p: p.map_async(same, [1], error_callback=5)),
    ("task_timeout", TypeError, lambda p: p.map(same, [1], task_timeout=TEXT)),
    ("task_timeout", ValueError, lambda p: p.apply(same, (1,), task_timeout=-1)),
    ("task_timeout", ValueError, lambda p: p.imap(same, [1], task_timeout=float("nan"))),
    ("retries", ValueError, lambda p: p.map(same, [1], retries=-1)),
    ("retries", TypeError, lambda p: p.apply_async(same, (1,), retries=1.5)),
    ("retries", TypeError, lambda p: p.imap_unordered(same, [1], retries=TEXT)),
]


@pytest.mark.parametrize(("name", "kind", "call"), OF_POOLS)
def test_a_wrong_argument_of_a_pools_method(
    workers: pool.Pool, name: str, kind: type[Exception], call: Callable[[Any], Any]
) -> None:
    """The call raises an error that names the argument, and the pool goes on."""
    with pytest.raises(kind, match=rf"(?i)\b{name}\b"):
        call(workers)
    assert workers.apply(same, (1,)) == 1


CONTEXT = procession.get_context("fork")
OTHERS: list[tuple[str, type[Exception], Callable[[], Any]]] = [
    ("processes", TypeError, lambda: CONTEXT.Pool(2.5)),
    ("processes", TypeError, lambda: CONTEXT.Pool("4")),
    ("initializer", TypeError, lambda: CONTEXT.Pool(1, 5)),
    ("initargs", TypeError, lambda: CONTEXT.Pool(1, same, 5)),
    ("maxtasksperchild", ValueError, lambda: CONTEXT.Pool(1, maxtasksperchild=TEXT)),
    ("maxsize", TypeError, lambda: CONTEXT.Queue("5")),
    ("maxsize", TypeError, lambda: CONTEXT.JoinableQueue(2.5)),
    ("lock", TypeError, lambda: CONTEXT.Condition(5)),
    ("action", TypeError, lambda: CONTEXT.Barrier(2, 5)),
    ("timeout", TypeError, lambda: CONTEXT.Barrier(2, None, TEXT)),
    ("target", TypeError, lambda: CONTEXT.Process(target=5)),
    ("args", TypeError, lambda: CONTEXT.Process(target=same, args=5)),
    ("kwargs", TypeError, lambda: CONTEXT.Process(target=same, kwargs=5)),
    ("timeout", TypeError, lambda: connection.wait([], TEXT)),
    ("every", TypeError, lambda: procession.debug_watch("x")),
    ("number", TypeError, lambda: procession.debug_on_signal("x")),
    ("timeout", TypeError, lambda: CONTEXT.Queue().get(timeout=TEXT)),
    ("timeout", TypeError, lambda: CONTEXT.Lock().acquire(timeout=TEXT)),
    ("timeout", TypeError, lambda: CONTEXT.Event().wait(TEXT)),
    ("value", TypeError, lambda: CONTEXT.Semaphore(2.5)),
]


@pytest.mark.parametrize(("name", "kind", "call"), OTHERS)
def test_a_wrong_argument_of_anything_else(name: str, kind: type[Exception], call: Callable[[], Any]) -> None:
    """The message, or what a traceback shows below it, names the argument."""
    with pytest.raises(kind) as caught:
        call()
    said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert re.search(rf"\b{name}\b", said), said


def test_joining_with_a_wrong_timeout_names_it() -> None:
    """The process can be joined correctly afterwards."""
    process = CONTEXT.Process(target=same)
    process.start()
    with pytest.raises(TypeError, match="timeout"):
        process.join(TEXT)
    process.join()


MODULES = ["", "pool", "queues", "connection", "synchronize", "sharedctypes", "managers", "context"]
MODULES += ["shared_memory", "heap", "spawn", "forkserver", "rust"]


@pytest.mark.parametrize("name", MODULES)
def test_annotations_can_be_evaluated(name: str) -> None:
    """`typing.get_type_hints` resolves those of every public class and function."""
    module = importlib.import_module(f"procession.{name}".rstrip("."))
    classes = [v for v in vars(module).values() if inspect.isclass(v) and v.__module__ == module.__name__]
    for value in [getattr(module, exported) for exported in module.__all__] + classes:
        members = vars(value).values() if inspect.isclass(value) else []
        for thing in (value, *(member for member in members if inspect.isfunction(member))):
            if inspect.isroutine(thing) or inspect.isclass(thing):
                typing.get_type_hints(thing)


def test_the_version_is_that_of_the_project() -> None:
    """The package has `__version__`, and the launcher prints it."""
    manifest = (Path(__file__).resolve().parents[2] / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"', manifest, re.MULTILINE)
    assert version is not None and procession.__version__ == version[1]
    done = subprocess.run(
        [sys.executable, "-m", "procession", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"procession {version[1]}\n", "", 0)


TYPED = """
from procession import Pool, Queue
from procession.pool import AsyncResult, MapResult
from procession.queues import JoinableQueue, Queue as QueueType, SimpleQueue

def consume(q: QueueType[int], j: JoinableQueue[str], s: SimpleQueue[bytes]) -> None:
    number: int = q.get()
    text: str = j.get()
    data: bytes = s.get()
    many: list[int] = q.get_many()
    q.put("a text")  # an error

consume(Queue(), "no queue", SimpleQueue())  # an error
"""


def test_type_checkers_know_what_is_in_a_queue(tmp_path: Path) -> None:
    """`Queue[int]` is a type, in mypy's strict mode too."""
    pytest.importorskip("mypy")
    (tmp_path / "typed.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "typed.py"],
        capture_output=True,
        text=True,
        timeout=85,
        cwd=tmp_path,
    )
    wrong = [line.split(":")[1] for line in done.stdout.splitlines() if line.startswith("typed.py:")]
    right = [str(n) for n, line in enumerate(TYPED.splitlines(), 1) if line.endswith("# an error")]
    assert wrong == right, done.stdout + done.stderr
