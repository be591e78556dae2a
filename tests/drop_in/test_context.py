"""Contexts: this package's objects, on the stdlib's base classes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import os
from typing import Any

import pytest

import procession
from procession import context


def send_name(connection: Any) -> None:
    connection.send(multiprocessing.current_process().name)


def set_and_wait(event: Any, barrier: Any, lock: Any) -> None:
    with lock:
        event.set()
    barrier.wait()


def test_contexts_and_processes_are_the_stdlibs_kind(ctx: Any, start_method: str) -> None:
    """isinstance checks of other libraries hold."""
    assert isinstance(ctx, multiprocessing.context.BaseContext)
    assert isinstance(ctx.Process(), multiprocessing.process.BaseProcess)
    assert ctx.get_start_method() == start_method == ctx.Process._start_method
    assert ctx.get_context() is ctx is procession.get_context(start_method)
    with pytest.raises(ValueError, match="cannot set start method"):
        ctx.set_start_method("spawn")
    with pytest.raises(ValueError, match="cannot find context for 'threads'"):
        ctx.get_context("threads")


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        ("Lock", ()),
        ("RLock", ()),
        ("Condition", ()),
        ("Semaphore", (2,)),
        ("BoundedSemaphore", (2,)),
        ("Event", ()),
        ("Barrier", (2,)),
        ("Queue", (3,)),
        ("JoinableQueue", ()),
        ("SimpleQueue", ()),
        ("Value", ("i", 1)),
        ("Array", ("i", 3)),
        ("Process", ()),
    ],
)
def test_every_factory_makes_this_packages_objects(
    ctx: Any, factory: str, arguments: tuple[Any, ...]
) -> None:
    """No factory hands out the stdlib's type."""
    made = getattr(ctx, factory)(*arguments)
    assert type(made).__module__.startswith("procession.")


def test_pipe_and_pool_are_this_packages(ctx: Any) -> None:
    """The two factories whose results need a cleanup."""
    ends = ctx.Pipe()
    assert {type(end).__module__ for end in ends} == {"procession.connection"}
    with ctx.Pool(1) as pool:
        assert type(pool).__module__ == "procession.pool"


def test_exceptions_are_the_stdlibs_own() -> None:
    """An except clause that names either package catches both."""
    for name in ("ProcessError", "TimeoutError", "AuthenticationError", "BufferTooShort"):
        theirs = getattr(multiprocessing, name)
        assert getattr(procession, name) is theirs is getattr(context.BaseContext, name)
    assert issubclass(procession.OwnerDied, multiprocessing.ProcessError)
    assert issubclass(procession.WorkerDied, multiprocessing.ProcessError)


def test_contexts_of_others_are_found_in_both_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries register their own start methods in the table of either package."""

    class OtherContext(procession.context.SpawnContext):
        _name = "other"

    theirs = multiprocessing.context._concrete_contexts
    monkeypatch.setitem(theirs, "other", OtherContext())
    assert procession.get_context("other") is theirs["other"]
    monkeypatch.delitem(theirs, "other")
    context._concrete_contexts["other"] = mine = OtherContext()
    try:
        assert multiprocessing.get_context("other") is mine
    finally:
        monkeypatch.setattr(multiprocessing.context, "_concrete_contexts", theirs)
        del theirs["other"]
    assert "other" not in context._concrete_contexts


def test_objects_of_one_context_serve_processes_of_another(ctx: Any) -> None:
    """Locks, events and barriers go to any process, whichever context made them."""
    maker = procession.get_context("fork")
    event, barrier, lock = maker.Event(), maker.Barrier(2), maker.Lock()
    process = ctx.Process(target=set_and_wait, args=(event, barrier, lock))
    process.start()
    barrier.wait()
    process.join()
    assert event.is_set() and process.exitcode == 0


def test_current_process_is_one_for_both_packages(ctx: Any) -> None:
    """logging and other users of the stdlib see our processes."""
    assert procession.current_process() is multiprocessing.current_process()
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=send_name, args=(theirs,), name="Bob")
    process.start()
    assert ours.recv() == "Bob"
    process.join()


def test_the_reducer_is_shared(ctx: Any) -> None:
    """The reducer of the stdlib's context is also that of ours."""
    assert ctx.reducer is multiprocessing.get_context("spawn").reducer is procession.reducer


def test_cpu_count_is_the_stdlibs() -> None:
    """`cpu_count` agrees with the stdlib and with `os`."""
    assert procession.cpu_count() == multiprocessing.cpu_count() == os.cpu_count()
