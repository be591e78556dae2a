"""The crew of a `Pool`: worker processes, and the thread that watches them.

The watcher sleeps in the engine, without the interpreter lock and deaf to signals, until a worker is gone,
speaks up, or runs a task for too long. Results do not concern it: the engine files them on the way.
It runs no code of the user's but what starting a process runs.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from procession import _native

from .errors import TimeoutError, WorkerDied
from .hints import Any
from .pool_crew import RUN, TERMINATE, Crew, remaining, warn
from .pool_errors import rebuild
from .pool_feeder import Feed
from .pool_insides import call_raw
from .pool_work import FAILED_TO_START, STARTED, Post, serve
from .stdlib import context, util

__all__ = ["ProcessCrew"]

# Workers that have not said that they work are looked after this often, in seconds.
LOOK = 0.1
# Between SIGTERM and SIGKILL: the time for the `finally` blocks of a task.
MERCY = 0.5
# How often the watcher looks for results to let go while there are any.
TIDY = 1.0
# The pause after a worker could not be started grows up to this.
LONGEST_PAUSE = 1.0
# So many workers in a row fail to start before the waiting tasks are failed, if no worker works. Workers
# that are killed from outside get more tries: whoever does that may stop doing it.
FEW_TRIES = 3
MANY_TRIES = 8


class ProcessCrew(Crew):
    """Worker processes, replaced as they go."""

    def __init__(
        self,
        ctx: Any,
        make_process: Callable[..., Any],
        size: int,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        max_tasks: int | None,
    ) -> None:
        super().__init__(size)
        self.task_queue = _native.PoolTaskQueue(self.jobs, size)
        self._ctx = ctx
        self._make_process = make_process
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        post = Post(self.task_queue.handle, self.task_queue.handles)
        self._worker_args = (post, initializer, initargs, max_tasks, mask)
        self._populating = threading.RLock()
        # Workers that said they work, and workers that are to be killed, with the time for it.
        self._started: set[int] = set()
        self._doomed: dict[int, float] = {}
        self._failed_starts = 0
        self._times_out_of_memory = _times_out_of_memory()
        self._next_start = 0.0
        self._broken = False
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Start all workers, or none and raise."""
        try:
            self.repopulate()
        except BaseException:
            for worker in self.workers:
                if worker.exitcode is None:
                    worker.terminate()
            for worker in self.workers:
                worker.join()
            raise
        self._watcher = threading.Thread(target=self._watch, name="PoolWatcher", daemon=True)
        self._watcher.start()

    # Jobs

    def function(self, function: Callable[..., Any], star: bool, timeout: float | None, retries: int) -> Any:
        # Its bytes take memory as well as the arguments'.
        waits = bool(self.late.feeds) or self.task_queue.is_full()
        return _native.PoolFunction(function, star, timeout, retries, waits)

    def call(
        self, result: Any, function: Any, args: Any, kwds: Any, timeout: float | None, retries: int
    ) -> None:
        # In the order of the calls: not before those whose arguments wait.
        if self.late.feeds or not self.task_queue.submit_call(
            (result, self.cache), result._handle, function, args, kwds, timeout, retries
        ):
            items = iter([(function, args, kwds)])
            feed = Feed(result._handle, _native.PoolFunction.of_calls(timeout, retries), items)
            self.late.add(result, feed)
        elif self._broken:
            self.task_queue.wake_watcher()

    def chunks(self, items: int, chunksize: int | None) -> int:
        return self.task_queue.count_chunks(items, chunksize, self.size)

    def spread(self, result: Any, function: Any, items: Sequence[Any], chunksize: int | None) -> None:
        waits = bool(self.late.feeds)
        job = result._handle
        rest = self.task_queue.submit_items((result, self.cache), job, function, items, chunksize, waits)
        if rest is not None:
            feed = Feed(job, function, rest)
            feed.index = rest.index
            self.late.go_on(feed)
        self._submitted()

    def feed(self, feed: Feed) -> tuple[int, bool]:
        places = feed.index, feed.limit()
        fed = self.task_queue.submit_next(feed.job, feed.function, feed.items, feed.chunksize, places)
        self._submitted()
        return fed

    def wait_for_room(self, timeout: float) -> bool:
        return self.task_queue.wait_for_room(timeout)

    def _submitted(self) -> None:
        if self._broken:
            self.task_queue.wake_watcher()

    def backlog(self) -> tuple[int, int]:
        return self.task_queue.backlog()

    def has_results(self) -> bool:
        return self.task_queue.has_results()

    def raw_function(self) -> Any:
        return _native.PoolFunction(call_raw)

    def give_up(self, number: int, error: BaseException) -> None:
        _, running = self.task_queue.cancel(number)
        super().give_up(number, error)
        for _, owner in running:
            self._doom(owner)
        self.job_ended()

    def give_up_all(self, error: BaseException) -> None:
        # No worker works: there is nothing but what waits.
        self.task_queue.withdraw_all()
        super().give_up_all(error)
        self.job_ended()

    def job_ended(self) -> None:
        self.task_queue.wake_watcher()

    # Workers

    def repopulate(self) -> None:
        with self._populating:
            while len(self.workers) < self.size and self.state != TERMINATE:
                worker = self._make_process(self._ctx, target=serve, args=self._worker_args)
                worker.name = worker.name.replace("Process", "PoolWorker")
                worker.daemon = True
                # It inherits that: until it can tell its task from itself, Ctrl-C is for its parent.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                try:
                    worker.start()
                    self.workers.append(worker)
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                util.debug("added worker")

    def _doom(self, owner: int) -> None:
        """End a worker for the sake of its task."""
        for worker in self.workers:
            if _seat(worker) == owner:
                self._doomed[owner] = time.monotonic() + MERCY
                worker.terminate()

    def _watch(self) -> None:
        # Signals are for threads that run the user's code; they would only delay the watcher.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while self._goes_on():
                event = self.task_queue.next_event(self._seats(), self._patience())
                if event is not None:
                    self._handle(*event)
                self._look_after_starters()
                self._kill_doomed()
                self.tidy()
                self._replace()
        except BaseException as error:
            # Whatever it is, nobody may wait for ever.
            self.state = TERMINATE
            failure = context.ProcessError(f"the pool cannot go on: {error!r}")
            failure.__cause__ = error
            self.give_up_all(failure)
            raise
        finally:
            util.debug("pool watcher exiting")

    def _goes_on(self) -> bool:
        if self.state == RUN:
            return True
        if self.state == TERMINATE:
            return False
        if len(self.jobs) == 0:
            self.task_queue.shutdown_workers()
            return bool(self.workers)
        return True

    def _seats(self) -> list[int]:
        return [seat for seat in map(_seat, self.workers) if seat is not None]

    def _patience(self) -> float | None:
        if any(_seat(worker) not in self._started for worker in self.workers):
            return LOOK
        if self._doomed or len(self.workers) < self.size and self._needed():
            return LOOK
        # A result that nobody waits for any more is let go without a ring, too.
        return TIDY if self.cache else None

    def _handle(self, kind: str, *details: Any) -> None:
        match kind:
            case "gone":
                for worker in list(self.workers):
                    if _seat(worker) == details[0]:
                        self._mourn(worker)
            case "notice":
                self._listen(*details)
            case "overdue":
                job, index, item, (ran, limit), owner = details
                error = TimeoutError(
                    f"{self._name(job, item)} took too long: it ran for {ran:.3g} s, "
                    f"and its task_timeout is {limit:g} s"
                )
                warn("%s", error)
                self.jobs.set_result(job, index, False, error)
                self._doom(owner)
            case "refused":
                job, index, error = details
                self.jobs.set_result(job, index, False, error)
            case "abandoned":
                job, index = details
                error = context.ProcessError(f"{self._name(job, None)} was dropped by its worker")
                self.jobs.set_result(job, index, False, error)

    def _listen(self, owner: int, what: int, data: bytes) -> None:
        if what == STARTED:
            self._started.add(owner)
            self._failed_starts = 0
            self._broken = False
        elif what == FAILED_TO_START:
            self._count_failed_start(rebuild(data), "its initializer raised an exception")
            # Counted once, not again when it is gone.
            self._started.add(owner)

    def _mourn(self, worker: Any) -> None:
        """A worker is gone: what did it hold, was that to be expected?"""
        worker.join(MERCY)
        if worker.exitcode is None:
            # It lives on as another program.
            worker.kill()
            worker.join()
        with self._populating:
            self.workers.remove(worker)
        owner = _seat(worker)
        started = owner in self._started
        killed_by_us = owner in self._doomed
        if owner is not None:
            self._started.discard(owner)
            self._doomed.pop(owner, None)
            for job, index, item, repeated in self.task_queue.recover_tasks_of(owner):
                if not repeated:
                    error = self._death(worker, self._name(job, item))
                    warn("%s", error)
                    self.jobs.set_result(job, index, False, error)
        if not started and not killed_by_us and self.state == RUN:
            self._count_failed_start(self._death(worker, None), "it died before it could work")

    def _death(self, worker: Any, task: str | None) -> WorkerDied:
        error = WorkerDied(pid=worker.pid, exitcode=worker.exitcode, task=task)
        if worker.exitcode == -signal.SIGKILL:
            times = _times_out_of_memory()
            if times is None:
                error.add_note("SIGKILL is what the kernel sends when memory runs out: see dmesg.")
            elif times != self._times_out_of_memory:
                error.add_note(
                    "The kernel has killed for want of memory since the pool looked last: see dmesg."
                )
            self._times_out_of_memory = times
        return error

    def _name(self, job: int, item: int | None) -> str:
        """What was being run: the function, and the number of the item in the iterable it was called for."""
        result = self.cache.get(job)
        name = "a task" if result is None else result.name
        has_items = item is not None and (result is None or result.has_items)
        return f"{name} on item {item}" if has_items else name

    def _look_after_starters(self) -> None:
        """The engine tells of deaths, but not of those who died before they had to do with it."""
        gone = [w for w in self.workers if _seat(w) not in self._started and w.exitcode is not None]
        if not gone:
            return
        # What they had to say before they died says why.
        while (event := self.task_queue.next_event([], 0.0)) is not None:
            self._handle(*event)
        for worker in gone:
            if worker in self.workers:
                self._mourn(worker)

    def _kill_doomed(self) -> None:
        now = time.monotonic()
        for worker in self.workers:
            if self._doomed.get(_seat(worker) or 0, now + 1) <= now:
                worker.kill()

    def _needed(self) -> bool:
        if not self.replaces:
            return False
        if self.state == RUN and not self._broken:
            return True
        return self.task_queue.outstanding() > 0 or bool(self.late.feeds)

    def _replace(self) -> None:
        if len(self.workers) == self.size or self.state == TERMINATE or not self._needed():
            return
        now = time.monotonic()
        if now < self._next_start:
            return
        try:
            self.repopulate()
        except Exception as error:
            self._count_failed_start(error, "it could not be started")

    def _count_failed_start(self, cause: BaseException, what: str) -> None:
        self._failed_starts += 1
        warn("a worker of the pool could not be started: %s: %s", what, _brief(cause))
        pause = min(LONGEST_PAUSE, 0.05 * 2 ** min(self._failed_starts - 1, 10))
        nobody_works = not any(_seat(worker) in self._started for worker in self.workers)
        killed = isinstance(cause, WorkerDied) and cause.signal == signal.SIGKILL
        tries = max(MANY_TRIES if killed else FEW_TRIES, self.size)
        if nobody_works and (self._broken or self._failed_starts >= tries):
            self._broken = True
            error = WorkerDied(f"no worker of the pool could be started: {what}: {_brief(cause)}")
            error.__cause__ = cause
            self.give_up_all(error)
        self._next_start = time.monotonic() + pause

    # The end

    def close(self) -> None:
        super().close()
        self.task_queue.no_more_jobs()

    def _stop_workers(self) -> None:
        self.task_queue.wake_watcher()
        self._join_watcher()
        with self._populating:
            workers = list(self.workers)
        running = [worker for worker in workers if worker.exitcode is None]
        # The signal first: a program's handler of it is to run. Who has none may leave in order.
        for worker in running:
            worker.terminate()
        self.task_queue.release_workers([seat for seat in map(_seat, running) if seat is not None])
        limit = time.monotonic() + MERCY
        for worker in running:
            worker.join(max(0.0, limit - time.monotonic()))
        for worker in running:
            if worker.exitcode is None:
                worker.kill()
        for worker in running:
            worker.join()
        self.task_queue.no_more_workers()

    def _join_watcher(self, limit: float | None = None) -> bool:
        watcher = self._watcher
        if watcher is None or watcher is threading.current_thread():
            return True
        watcher.join(remaining(limit))
        return not watcher.is_alive()

    def _join_workers(self, limit: float | None) -> bool:
        if not self._join_watcher(limit):
            return False
        workers = list(self.workers)
        for worker in workers:
            worker.join(remaining(limit))
        ended = all(worker.exitcode is not None for worker in workers)
        if ended:
            self.task_queue.no_more_workers()
        return ended


def _seat(worker: Any) -> int | None:
    return getattr(getattr(worker, "_popen", None), "seat", None)


def _times_out_of_memory() -> int | None:
    """How often the kernel killed a process of this machine for want of memory; None if it does not say."""
    try:
        with open("/proc/vmstat") as table:
            return next(int(line.split()[1]) for line in table if line.startswith("oom_kill "))
    except (OSError, StopIteration):
        return None


def _brief(cause: BaseException) -> str:
    return f"{type(cause).__name__}: {cause}"
