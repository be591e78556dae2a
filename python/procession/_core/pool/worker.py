"""What a worker process of a pool does.

Signal handlers of the program stay: a handler that the worker inherited, one that a hook after the fork
installed, and an ignored SIGINT. Without one, Ctrl-C raises KeyboardInterrupt in the running task, and does
nothing where no task runs: the parent ends its workers. SIGTERM ends a worker without a task in order, with
its exit functions, and raises an exception in one with a task, so that the task's `finally` blocks run. A
task that cleans up after Ctrl-C gets some time for that first. The pool kills a worker that does not exit
within `TERMINATE_TIMEOUT`.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

from procession import _native

from .._typing import Any
from ..debug.diagnosis import show_crashes
from ..stdlib import util
from ..transfer.handing import hand_over
from .errors import describe, note_interrupt

__all__ = ["WorkerEndpoint", "end_copy", "serve"]


class WorkerEndpoint:
    """What a worker needs to reach its pool's task queue; travels to the worker as an argument."""

    def __init__(self, handle: bytes, handles: Iterable[bytes]) -> None:
        self.handle = handle
        self.handles = list(handles)

    def __getstate__(self) -> tuple[bytes, list[bytes]]:
        return self.handle, [hand_over(handle, self) for handle in self.handles]

    def __setstate__(self, state: tuple[bytes, list[bytes]]) -> None:
        self.handle, self.handles = state


# How long a task may clean up after Ctrl-C once its worker gets SIGTERM, in seconds: half of the pool's
# `TERMINATE_TIMEOUT`.
CLEANUP_TIMEOUT = 0.25


class _Terminated(SystemExit):
    """Raised by SIGTERM, in the running task or in a worker without one."""


def serve(
    endpoint: WorkerEndpoint,
    prepare: Callable[[], None],
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    max_tasks: int | None,
    signal_mask: Iterable[int],
) -> None:
    """Run tasks until the pool has no more, or until `max_tasks` are done.

    `prepare` is called first, before the initializer.
    """
    worker = _native.PoolWorker(endpoint.handle)
    signals = _Signals(worker)
    signals.take_over()
    prepare()
    show_crashes()
    # The thread that starts workers blocks all signals, and children inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, signal_mask)
    try:
        _initialize(worker, initializer, initargs)
        signals.is_ready = True
        done = worker.run(max_tasks)
        signals.is_exiting = True
        util.debug("worker exiting after %d tasks", done)
    except _Terminated:
        if not signals.is_exiting:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def end_copy(error: BaseException | None) -> None:
    """End a process that a task forked and that returned from the task: the rest is for the worker."""
    try:
        if error is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        util._flush_std_streams()
        _native.mark_exit()
    finally:
        os._exit(0 if error is None else 1)


def _initialize(worker: Any, initializer: Callable[..., object] | None, initargs: Iterable[Any]) -> None:
    failure: BaseException | None = None
    if initializer is not None:
        try:
            initializer(*initargs)
        except SystemExit:
            raise
        except BaseException as error:
            failure = error
        if not worker.is_here():
            end_copy(failure)
    if failure is not None:
        worker.report_failed_initializer(describe(failure))
        raise SystemExit(1) from None
    worker.report_ready()


class _Signals:
    """The handlers of SIGINT and SIGTERM in a worker whose program has set none.

    They are Python functions and not SIG_IGN, which programs that a worker starts would inherit. Processes
    that a worker forks inherit the handlers, and behave as if they had not.
    """

    # True once tasks may come; until then the initializer runs.
    is_ready = False
    # True while the worker exits in order, which SIGTERM must not interrupt.
    is_exiting = False

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._pid = os.getpid()
        self._raised = False
        # The number of the task that Ctrl-C interrupted; of the one that SIGTERM met while it cleaned up, and
        # until when it may do so.
        self._interrupted = self._warned = -1
        self._cleanup_deadline = 0.0

    def take_over(self) -> None:
        """Install the handlers of the signals that have none."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_interrupt)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_terminate)

    def _on_interrupt(self, signum: int, frame: Any) -> None:
        if os.getpid() != self._pid:
            signal.default_int_handler(signum, frame)
        task = self._worker.task
        if task is not None and not self._raised:
            self._interrupted = task
            interrupt = KeyboardInterrupt()
            note_interrupt(interrupt)
            raise interrupt

    def _on_terminate(self, signum: int, frame: Any) -> None:
        if os.getpid() != self._pid:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        task = self._worker.task
        if self._raised or self.is_exiting:
            return
        if task is not None and task == self._interrupted:
            if task != self._warned:
                self._warned = task
                self._cleanup_deadline = time.monotonic() + CLEANUP_TIMEOUT
                _thread.start_new_thread(self._signal_again, (signum,))
            if time.monotonic() < self._cleanup_deadline:
                return
        # Only once: a second signal must not interrupt `finally` blocks.
        self._raised = True
        self.is_exiting = self.is_ready and task is None
        raise _Terminated(128 + signum)

    def _signal_again(self, signum: int) -> None:
        time.sleep(max(0.0, self._cleanup_deadline - time.monotonic()))
        os.kill(self._pid, signum)
