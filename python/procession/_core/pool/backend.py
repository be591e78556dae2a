"""What the backends of both kinds of pools share: open jobs, callbacks, argument generators.

A backend is everything in a pool except the pool object itself. The threads of a pool refer to its backend
only, so that an unused pool object is collected. An open job keeps its pool alive, see `results.py`.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from procession import _native

from .._typing import Any
from ..errors import TimeoutError
from ..stdlib import context, util
from .feeder import Feeder, TaskSource
from .lazy_thread import LazyThread
from .results import report_failed_callback
from .stdlib_attributes import Handler

__all__ = [
    "CLOSE",
    "INIT",
    "RUN",
    "TERMINATE",
    "PoolBackend",
    "cancelled",
    "remaining",
    "usable_processors",
    "warn",
]

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

# How long `terminate` waits for user code that it cannot stop, in seconds.
SHUTDOWN_TIMEOUT = 1.0


class PoolBackend(ABC):
    """The workers of a pool, its open jobs and its threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.state = RUN
        self.workers: list[Any] = []
        self.jobs = _native.PoolJobs()
        self.cache: dict[int, Any] = {}
        self.feeder = Feeder(self, self.jobs, self.job_ended, "PoolFeeder")
        # For arguments that exist already and wait for memory.
        self.deferred = Feeder(self, self.jobs, self.job_ended, "PoolArguments")
        self.pid = os.getpid()
        self._handlers: dict[str, Handler] = {}
        self._callback_thread = LazyThread("PoolCallbacks", self._deliver)

    @abstractmethod
    def function(self, function: Callable[..., Any], star: bool, timeout: float | None, retries: int) -> Any:
        """Prepare a function for many tasks; with `star`, each item is a tuple of arguments."""

    @abstractmethod
    def call(
        self, result: Any, function: Any, args: Any, kwds: Any, timeout: float | None, retries: int
    ) -> None:
        """Create and open the job of a result, and submit its single task."""

    @abstractmethod
    def chunks(self, items: int, chunksize: int | None) -> int:
        """Return how many tasks `spread` makes of this many items."""

    @abstractmethod
    def spread(self, result: Any, function: Any, items: Sequence[Any], chunksize: int | None) -> None:
        """Open the job of a result and submit the items of a sequence as its tasks."""

    @abstractmethod
    def feed(self, source: TaskSource) -> tuple[int, bool]:
        """Submit tasks of a source until it ends or enough tasks wait.

        Returns the index of the next task, and whether the source ended.
        """

    @abstractmethod
    def wait_for_room(self, timeout: float) -> bool:
        """Wait until fewer tasks wait than the limit; False after `timeout` seconds."""

    @abstractmethod
    def backlog(self) -> tuple[int, int]:
        """Return how many tasks no worker has begun: those that workers can reach, and those behind."""

    @abstractmethod
    def has_results(self) -> bool:
        """Return whether there are results that no thread has read yet."""

    @abstractmethod
    def raw_function(self) -> Any:
        """Return the function for tasks of the form (function, args, kwds), prepared for `feed`."""

    def cancel(self, number: int) -> bool:
        """Cancel a job; False if it is done already."""
        if not self.jobs.is_open(number):
            return False
        result = self.cache.get(number)
        self.fail_job(number, cancelled())
        if result is not None:
            warn("%s was cancelled", result.name)
        return True

    def abandon(self, result: Any) -> None:
        """Cancel a job whose result no thread waits for any more."""
        self.cancel(result._job)

    def is_here(self) -> bool:
        """Return False in a forked copy of the pool's process."""
        return self.pid == os.getpid()

    def handler(self, name: str) -> Handler:
        """Return the object that stands for one of the three threads of the stdlib's pool."""
        if name not in self._handlers:
            self._handlers[name] = Handler(self, name)
        return self._handlers[name]

    @abstractmethod
    def repopulate(self) -> None:
        """Start the workers that are missing."""

    @abstractmethod
    def job_ended(self) -> None:
        """Called when a job has ended in one of the pool's own threads."""

    @abstractmethod
    def stop_replacing(self) -> None:
        """Start no more workers: the program is about to end them itself."""

    def wait_until_done(self, timeout: float | None) -> None:
        """Wait until a closed pool has finished its tasks, for at most `timeout` seconds."""
        self._join_workers(None if timeout is None else time.monotonic() + timeout)

    def fail_job(self, number: int, error: BaseException) -> None:
        """Fail the unfinished tasks of a job with `error`."""
        self.jobs.fail(number, error)

    def fail_all_jobs(self, error: BaseException) -> None:
        """Fail the unfinished tasks of every job with `error`."""
        self.jobs.fail_all(error)

    def tidy(self) -> None:
        """Drop the jobs that are done."""
        self.jobs.forget_finished(self.cache)

    def start_callback_thread(self) -> None:
        """Start the thread that runs callbacks, if it does not run yet."""
        self._callback_thread.start()

    def _deliver(self) -> None:
        while True:
            number = self.jobs.next_callback()
            if number is None:
                return
            result = self.cache.get(number)
            if result is None:
                continue
            try:
                result._deliver()
            except BaseException:
                report_failed_callback()
            # Between two callbacks this thread keeps no result alive.
            del result
            self.job_ended()

    def close(self) -> None:
        """Accept no more jobs."""
        if self.state == RUN:
            self.state = CLOSE

    def terminate(self) -> None:
        """End all workers and fail all jobs now."""
        self.state = TERMINATE
        self.feeder.stop()
        self.deferred.stop()
        self._stop_workers()
        self.fail_all_jobs(context.ProcessError("the pool was terminated before this task was done"))
        self.jobs.stop_callbacks()
        self.feeder.join(SHUTDOWN_TIMEOUT)
        self.deferred.join(SHUTDOWN_TIMEOUT)
        self._callback_thread.join(SHUTDOWN_TIMEOUT)
        self.tidy()

    @abstractmethod
    def _stop_workers(self) -> None:
        """End the workers; a part of `terminate`."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until all jobs are done and all workers have exited.

        Raises TimeoutError if that takes longer than `timeout` seconds.
        """
        self.feeder.lift_bounds()
        if not self._join_workers(None if timeout is None else time.monotonic() + timeout):
            raise TimeoutError(f"the pool's workers still run after {timeout} s")
        self.feeder.stop()
        self.deferred.stop()
        self.jobs.stop_callbacks()
        limit = SHUTDOWN_TIMEOUT if self.state == TERMINATE else None
        self.feeder.join(limit)
        self.deferred.join(limit)
        self._callback_thread.join(limit)
        self.tidy()

    @abstractmethod
    def _join_workers(self, limit: float | None) -> bool:
        """Wait for the workers; a part of `join`. False if they still run at the time `limit`."""


def remaining(limit: float | None) -> float | None:
    """Return the seconds until the time `limit`, at least 0; None for no limit."""
    return None if limit is None else max(0.0, limit - time.monotonic())


def warn(message: str, *details: Any) -> None:
    """Log a warning, as `multiprocessing` does: only if the program asked for the logger."""
    if util._logger:
        util._logger.warning(message, *details)


def cancelled() -> BaseException:
    """Return the error of a cancelled job."""
    from concurrent.futures import CancelledError

    return CancelledError("this task was cancelled")


def usable_processors() -> int:
    """Return the number of processors that this process may use, as far as Python knows it."""
    count = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1
