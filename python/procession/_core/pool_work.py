"""What a worker process of a pool does.

Its signals are the program's where that has set any: a handler that the worker inherited, or that a hook
after the fork installed, stays, and so does an ignored SIGINT. Where it has not, Ctrl-C is for the running
task, which sees KeyboardInterrupt, and for nobody where none runs: the parent ends its workers. SIGTERM ends
a worker without a task in order, exit functions and all, and one with a task by way of an exception, so that
the task's `finally` blocks are executed. A task that is cleaning up after Ctrl-C gets some time for it first.
The pool kills what does not end within its grace time.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

from procession import _native
from procession.context import allow_daemons_children

from .diagnosis import show_crashes
from .handing import hand_over
from .hints import Any
from .pool_errors import describe, note_interrupt
from .stdlib import util

__all__ = ["FAILED_TO_START", "STARTED", "Post", "end_copy", "serve"]

# What a worker tells its pool outside of any task.
STARTED = 1
FAILED_TO_START = 2


class Post:
    """A worker's place at the pool's board; travels to the worker as an argument."""

    def __init__(self, handle: bytes, handles: Iterable[bytes]) -> None:
        self.handle = handle
        self.handles = list(handles)

    def __getstate__(self) -> tuple[bytes, list[bytes]]:
        return self.handle, [hand_over(handle, self) for handle in self.handles]

    def __setstate__(self, state: tuple[bytes, list[bytes]]) -> None:
        self.handle, self.handles = state


# So long a task may clean up after Ctrl-C when its worker is told to end, in seconds: half of the pool's
# grace.
CLEANING_UP = 0.25


class _Terminated(SystemExit):
    """Raised in the running task, or in a worker without one, by SIGTERM."""


def serve(
    post: Post,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    max_tasks: int | None,
    signal_mask: Iterable[int],
) -> None:
    """Run tasks until the pool has no more, or until `max_tasks` are done."""
    runner = _native.PoolWorker(post.handle)
    signals = _Signals(runner)
    signals.take_over()
    allow_daemons_children()
    show_crashes()
    # The thread that starts workers blocks all signals, and children inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, signal_mask)
    try:
        _initialize(runner, initializer, initargs)
        signals.is_ready = True
        done = runner.run(max_tasks)
        signals.is_leaving = True
        util.debug("worker exiting after %d tasks", done)
    except _Terminated:
        if not signals.is_leaving:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def end_copy(error: BaseException | None) -> None:
    """End a copy of a worker that came back from the task that forked it: the rest is the worker's."""
    try:
        if error is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        util._flush_std_streams()
        _native.mark_exit()
    finally:
        os._exit(0 if error is None else 1)


def _initialize(runner: Any, initializer: Callable[..., object] | None, initargs: Iterable[Any]) -> None:
    failure: BaseException | None = None
    if initializer is not None:
        try:
            initializer(*initargs)
        except SystemExit:
            raise
        except BaseException as error:
            failure = error
        if not runner.is_here():
            end_copy(failure)
    if failure is not None:
        runner.notify(FAILED_TO_START, describe(failure))
        raise SystemExit(1) from None
    runner.notify(STARTED, str(os.getpid()).encode())


class _Signals:
    """What SIGINT and SIGTERM do to a worker whose program has not said what they are to do.

    Handlers in Python and not SIG_IGN: programs that a worker starts would inherit that. Processes that a
    worker forks inherit these, and behave as if they had not.
    """

    # Set once tasks may come: until then the initializer runs.
    is_ready = False
    # Set when the worker ends in order, which SIGTERM is not to interrupt.
    is_leaving = False

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._worker = os.getpid()
        self._raised = False
        # The task that Ctrl-C interrupted, by number; the one of these that was told to end, and until when
        # it may clean up.
        self._interrupted = self._warned = -1
        self._cleans_up_until = 0.0

    def take_over(self) -> None:
        """Handle those signals that nobody handles."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_interrupt)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_terminate)

    def _on_interrupt(self, signum: int, frame: Any) -> None:
        if os.getpid() != self._worker:
            signal.default_int_handler(signum, frame)
        task = self._runner.task
        if task is not None and not self._raised:
            self._interrupted = task
            interrupt = KeyboardInterrupt()
            note_interrupt(interrupt)
            raise interrupt

    def _on_terminate(self, signum: int, frame: Any) -> None:
        if os.getpid() != self._worker:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        task = self._runner.task
        if self._raised or self.is_leaving:
            return
        if task is not None and task == self._interrupted:
            if task != self._warned:
                self._warned = task
                self._cleans_up_until = time.monotonic() + CLEANING_UP
                _thread.start_new_thread(self._insist, (signum,))
            if time.monotonic() < self._cleans_up_until:
                return
        # Once: `finally` blocks are not to be interrupted by a second one.
        self._raised = True
        self.is_leaving = self.is_ready and task is None
        raise _Terminated(128 + signum)

    def _insist(self, signum: int) -> None:
        time.sleep(max(0.0, self._cleans_up_until - time.monotonic()))
        os.kill(self._worker, signum)
