"""What the crews of both kinds of pools have in common: open jobs, callbacks, argument generators.

A backend is everything of a pool but the pool object itself. The threads of a pool hold on to its backend only,
so that a pool nobody uses any more is collected; an open job keeps its pool, see `pool_results`.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from procession import _engine

from .._typing import Any
from ..errors import TimeoutError
from ..stdlib import context, util
from .feeder import Feeder, TaskSource
from .lazy_thread import LazyThread
from .results import report_failed_callback
from .stdlib_attributes import Handler

__all__ = ["CLOSE", "INIT", "RUN", "TERMINATE", "PoolBackend", "cancelled", "remaining", "warn"]

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

# How long `terminate` waits for code of the user's that it cannot end, in seconds.
SHUTDOWN_TIMEOUT = 1.0


class PoolBackend(ABC):
    """The workers of a pool and what they work on."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.state = RUN
        self.workers: list[Any] = []
        self.jobs = _engine.PoolLedger()
        self.cache: dict[int, Any] = {}
        self.feeder = Feeder(self, self.jobs, self.job_ended, "PoolFeeder")
        # Of arguments that are there, and have to wait.
        self.deferred = Feeder(self, self.jobs, self.job_ended, "PoolArguments")
        self.pid = os.getpid()
        self.replaces = True
        self._handlers: dict[str, Handler] = {}
        self._callback_thread = LazyThread("PoolCallbacks", self._deliver)

    @abstractmethod
    def function(self, function: Callable[..., Any], star: bool, timeout: float | None, retries: int) -> Any:
        """Prepare a function for many tasks; with `star` it takes items apart as its arguments."""

    @abstractmethod
    def call(
        self, result: Any, function: Any, args: Any, kwds: Any, timeout: float | None, retries: int
    ) -> None:
        """Open the job of a result and submit its only task."""

    @abstractmethod
    def chunks(self, items: int, chunksize: int | None) -> int:
        """Into how many tasks `spread` cuts so many items."""

    @abstractmethod
    def spread(self, result: Any, function: Any, items: Sequence[Any], chunksize: int | None) -> None:
        """Open the job of a result and submit the items of a sequence as its tasks."""

    @abstractmethod
    def feed(self, feed: TaskSource) -> tuple[int, bool]:
        """Submit tasks of a feed until it ends or there are plenty; the next index, and whether it ended."""

    @abstractmethod
    def wait_for_room(self, timeout: float) -> bool:
        """Wait until there are not plenty of tasks any more."""

    @abstractmethod
    def backlog(self) -> tuple[int, int]:
        """How many tasks no worker has begun: those that workers can reach, and those that wait behind."""

    @abstractmethod
    def has_results(self) -> bool:
        """Whether there are results that nobody has looked at."""

    @abstractmethod
    def raw_function(self) -> Any:
        """The function of tasks that are (function, args, kwds), prepared for `feed`."""

    def cancel(self, number: int) -> bool:
        """Give up a job; False if it is done."""
        if not self.jobs.is_open(number):
            return False
        result = self.cache.get(number)
        self.fail_job(number, cancelled())
        if result is not None:
            warn("%s was cancelled", result.name)
        return True

    def abandon(self, result: Any) -> None:
        """Give up a job for which nobody waits any more."""
        self.cancel(result._job)

    def is_here(self) -> bool:
        """Whether this process is the pool's, and not a forked copy of it."""
        return self.pid == os.getpid()

    def handler(self, name: str) -> Handler:
        """What stands for one of the stdlib's three threads."""
        if name not in self._handlers:
            self._handlers[name] = Handler(self, name)
        return self._handlers[name]

    @abstractmethod
    def repopulate(self) -> None:
        """Start the workers that are missing."""

    @abstractmethod
    def job_ended(self) -> None:
        """A job ended in a thread of the pool's own."""

    def stop_replacing(self) -> None:
        """Start no more workers: a program is about to end them itself."""
        self.replaces = False

    def wait_until_done(self, timeout: float | None) -> None:
        """Wait until a closed pool has done its tasks."""
        self._join_workers(None if timeout is None else time.monotonic() + timeout)

    def fail_job(self, number: int, error: BaseException) -> None:
        """Fail what is left of a job."""
        self.jobs.fail(number, error)

    def fail_all_jobs(self, error: BaseException) -> None:
        """Fail what is left of every job."""
        self.jobs.fail_all(error)

    def tidy(self) -> None:
        """Forget the jobs that are done."""
        self.jobs.tidy(self.cache)

    def start_callback_thread(self) -> None:
        """See to it that there is a thread that runs callbacks."""
        self._callback_thread.start()

    def _deliver(self) -> None:
        while True:
            number = self.jobs.next_delivery()
            if number is None:
                return
            result = self.cache.get(number)
            if result is None:
                continue
            try:
                result._deliver()
            except BaseException:
                report_failed_callback()
            # Between two deliveries nothing is kept alive.
            del result
            self.job_ended()

    def close(self) -> None:
        """Take no more jobs."""
        if self.state == RUN:
            self.state = CLOSE

    def terminate(self) -> None:
        """End everything now."""
        self.state = TERMINATE
        self.feeder.stop()
        self.deferred.stop()
        self._stop_workers()
        self.fail_all_jobs(context.ProcessError("the pool was terminated before this task was done"))
        self.jobs.stop_deliveries()
        self.feeder.join(SHUTDOWN_TIMEOUT)
        self.deferred.join(SHUTDOWN_TIMEOUT)
        self._callback_thread.join(SHUTDOWN_TIMEOUT)
        self.tidy()

    @abstractmethod
    def _stop_workers(self) -> None:
        """Part of `terminate`."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until all jobs are done and all workers gone."""
        self.feeder.lift_bounds()
        if not self._join_workers(None if timeout is None else time.monotonic() + timeout):
            raise TimeoutError(f"the pool's workers are still there after {timeout} s")
        self.feeder.stop()
        self.deferred.stop()
        self.jobs.stop_deliveries()
        limit = SHUTDOWN_TIMEOUT if self.state == TERMINATE else None
        self.feeder.join(limit)
        self.deferred.join(limit)
        self._callback_thread.join(limit)
        self.tidy()

    @abstractmethod
    def _join_workers(self, limit: float | None) -> bool:
        """Part of `join`; False if it is not done at that time."""


def remaining(limit: float | None) -> float | None:
    """How long to wait when that is the time to stop waiting."""
    return None if limit is None else max(0.0, limit - time.monotonic())


def warn(message: str, *details: Any) -> None:
    """Log what a program may want to know, as `multiprocessing` does: if it asked for the logger."""
    if util._logger:
        util._logger.warning(message, *details)


def cancelled() -> BaseException:
    """What a job fails with that was cancelled."""
    from concurrent.futures import CancelledError

    return CancelledError("this task was cancelled")
