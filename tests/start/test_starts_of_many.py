"""Starts beside children that live or have ended, and starts that are interrupted."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.popen_fork
import multiprocessing.process
import os

import pytest

import procession
from procession import _native, popen_fork


def test_a_start_asks_no_child_that_lives(ctx):
    """So the thousandth start costs no more than the first one. A child that ended is forgotten."""
    go_on, leave = ctx.Event(), ctx.Event()
    children = [ctx.Process(target=go_on.wait) for _ in range(3)] + [ctx.Process(target=leave.wait)]
    for child in children:
        child.start()
    asked: list[int] = []
    poll = popen_fork.Popen.poll

    def note(popen, *flag):
        asked.append(popen.pid)
        return poll(popen, *flag)

    with pytest.MonkeyPatch.context() as patch:
        for popen in {type(child._popen) for child in children}:
            patch.setattr(popen, "poll", note)
        children.append(ctx.Process(target=go_on.wait))
        children[-1].start()
        assert asked == []
        leave.set()
        assert multiprocessing.connection.wait([children[3].sentinel], timeout=60)
        children.append(ctx.Process(target=go_on.wait))
        children[-1].start()
        assert sorted(asked) == sorted(child.pid for child in children[:5])
    assert children[3] not in multiprocessing.process._children
    go_on.set()
    for child in children:
        child.join()
        assert child.exitcode == 0


def test_a_start_looks_for_ended_children_whatever_starts_them():
    """Also where a process class brings the stdlib's `Popen`."""

    class Foreign(procession.get_context("fork").Process):
        @staticmethod
        def _Popen(process_obj):
            return multiprocessing.popen_fork.Popen(process_obj)

    first = Foreign(target=int)
    first.start()
    assert multiprocessing.connection.wait([first.sentinel], timeout=60)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    second = Foreign(target=int)
    second.start()
    assert first not in multiprocessing.process._children
    second.join()


def test_a_start_that_another_base_class_has_is_called():
    """The package's own start is in the place of the stdlib's, and of no other."""
    started = []

    class Counted(multiprocessing.process.BaseProcess):
        def start(self):
            started.append(self)
            super().start()

    class Both(procession.get_context("fork").Process, Counted):
        pass

    child = Both(target=int)
    child.start()
    child.join()
    assert (started, child.exitcode) == ([child], 0)


def test_an_exception_of_a_handler_in_a_start_does_not_wait_for_the_child():
    """A handler may raise what the system raises too, such as TimeoutError. The child is well, and runs."""
    context = procession.get_context("fork")
    go_on = context.Event()
    confirm = _native.confirm_fork
    pids = []

    def confirm_and_time_out(pid):
        pids.append(pid)
        confirm(pid)
        raise TimeoutError("of a handler")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(popen_fork._native, "confirm_fork", confirm_and_time_out)
        with pytest.raises(TimeoutError, match="of a handler"):
            context.Process(target=go_on.wait).start()
    assert os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOHANG) is None
    go_on.set()
    os.waitpid(pids[0], 0)
