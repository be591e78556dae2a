"""What a worker process of a pool does.

Its signals: Ctrl-C is the parent's business, so SIGINT does nothing here. SIGTERM ends the worker by way
of an exception, so that the `finally` blocks of the running task are executed; the pool kills what does
not end within its grace time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable

from procession import _engine
from procession.context import allow_daemons_children

from .diagnosis import show_crashes
from .handing import hand_over
from .hints import Any
from .pool_errors import describe
from .stdlib import util

__all__ = ["FAILED_TO_START", "STARTED", "Post", "serve"]

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


class _Terminated(SystemExit):
    """Raised in the running task by SIGTERM."""


def serve(
    post: Post,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    max_tasks: int | None,
    signal_mask: Iterable[int],
) -> None:
    """Run tasks until the pool has no more, or until `max_tasks` are done."""
    _take_over_signals()
    allow_daemons_children()
    show_crashes()
    # The thread that starts workers blocks all signals, and children inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, signal_mask)
    try:
        bench = _engine.PoolBench(post.handle)
        _initialize(bench, initializer, initargs)
        done = bench.work(max_tasks)
        # From here on nothing has to be finished: the plain deed will do.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        util.debug("worker exiting after %d tasks", done)
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _initialize(bench: Any, initializer: Callable[..., object] | None, initargs: Iterable[Any]) -> None:
    if initializer is not None:
        try:
            initializer(*initargs)
        except SystemExit:
            raise
        except BaseException as error:
            bench.notify(FAILED_TO_START, describe(error))
            raise SystemExit(1) from None
    bench.notify(STARTED, str(os.getpid()).encode())


def _take_over_signals() -> None:
    worker = os.getpid()

    # Handlers in Python and not SIG_IGN: programs that a worker starts would inherit that. Processes
    # that a worker forks inherit these, and behave as if they had not.
    def interrupted(signum: int, frame: Any) -> None:
        if os.getpid() != worker:
            signal.default_int_handler(signum, frame)

    def terminated(signum: int, frame: Any) -> None:
        if os.getpid() == worker:
            raise _Terminated(128 + signum)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, terminated)
