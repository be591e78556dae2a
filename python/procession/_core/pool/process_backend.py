"""The backend of a `Pool`: worker processes, and the thread that watches them.

The watcher sleeps in the engine, without the interpreter lock and with all signals blocked, until a worker
exits, reports something, or runs a task for too long. It does not handle results: the engine files them as
they arrive. It runs no user code except what starting a process runs.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from procession import _native

from .._typing import Any
from ..errors import TimeoutError, WorkerDied
from ..stdlib import context, util
from .backend import RUN, TERMINATE, PoolBackend, remaining, warn
from .errors import rebuild
from .feeder import TaskSource
from .stdlib_attributes import call_raw
from .worker import FAILED_TO_START, STARTED, WorkerEndpoint, serve

__all__ = ["ProcessBackend"]

# How often the watcher checks workers that have not reported that they work, in seconds.
CHECK_INTERVAL = 0.1
# The time between SIGTERM and SIGKILL, for the `finally` blocks of a task, in seconds.
TERMINATE_TIMEOUT = 0.5
# How often the watcher drops results that are not needed any more, in seconds.
CLEANUP_INTERVAL = 1.0
# The longest pause after a failed start of a worker, in seconds; it doubles up to this.
MAX_RESTART_DELAY = 1.0
# After this many failed starts in a row, with no worker working, the waiting tasks fail. Workers that are
# killed from outside get more tries: the cause may go away.
MAX_FAILED_STARTS = 3
MAX_KILLED_STARTS = 8


class ProcessBackend(PoolBackend):
    """Worker processes, which are replaced when they exit."""

    def __init__(
        self,
        ctx: Any,
        make_process: Callable[..., Any],
        size: int,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        max_tasks: int | None,
        prepare_worker: Callable[[], None],
    ) -> None:
        super().__init__(size)
        self.task_queue = _native.PoolTaskQueue(self.jobs, size)
        self._ctx = ctx
        self._make_process = make_process
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        endpoint = WorkerEndpoint(self.task_queue.handle, self.task_queue.handles)
        self._worker_args = (endpoint, prepare_worker, initializer, initargs, max_tasks, mask)
        self._populating = threading.RLock()
        # Workers that reported that they work; workers that will be killed, and when.
        self._started: set[int] = set()
        self._kill_deadlines: dict[int, float] = {}
        self._failed_starts = 0
        self._oom_kill_count = _oom_kill_count()
        self._next_start = 0.0
        self._broken = False
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Start all workers; if one cannot be started, end the others and raise."""
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
        # Its bytes take memory, like those of the arguments.
        waits = bool(self.deferred.sources) or self.task_queue.is_full()
        return _native.PoolFunction(function, star, timeout, retries, waits)

    def call(
        self, result: Any, function: Any, args: Any, kwds: Any, timeout: float | None, retries: int
    ) -> None:
        # Calls keep their order: this one comes after those whose arguments wait.
        if self.deferred.sources or not self.task_queue.submit_call(
            (result, self.cache), result._handle, function, args, kwds, timeout, retries
        ):
            items = iter([(function, args, kwds)])
            source = TaskSource(result._handle, _native.PoolFunction.of_calls(timeout, retries), items)
            self.deferred.add(result, source)
        elif self._broken:
            self.task_queue.wake_watcher()

    def chunks(self, items: int, chunksize: int | None) -> int:
        return self.task_queue.count_chunks(items, chunksize, self.size)

    def spread(self, result: Any, function: Any, items: Sequence[Any], chunksize: int | None) -> None:
        waits = bool(self.deferred.sources)
        job = result._handle
        rest = self.task_queue.submit_items((result, self.cache), job, function, items, chunksize, waits)
        if rest is not None:
            source = TaskSource(job, function, rest)
            source.index = rest.index
            self.deferred.resume(source)
        self._submitted()

    def feed(self, source: TaskSource) -> tuple[int, bool]:
        places = source.index, source.limit()
        fed = self.task_queue.submit_next(source.job, source.function, source.items, source.chunksize, places)
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

    def fail_job(self, number: int, error: BaseException) -> None:
        _, running = self.task_queue.cancel(number)
        super().fail_job(number, error)
        for _, proc_id in running:
            self._kill_for_task(proc_id)
        self.job_ended()

    def fail_all_jobs(self, error: BaseException) -> None:
        # No worker works, so all tasks are still waiting.
        self.task_queue.withdraw_all()
        super().fail_all_jobs(error)
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
                # The worker inherits the mask: until it has its own handler, Ctrl-C is for its parent.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                try:
                    worker.start()
                    self.workers.append(worker)
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                util.debug("added worker")

    def _kill_for_task(self, proc_id: int) -> None:
        """End the worker that runs a task which is cancelled or took too long."""
        for worker in self.workers:
            if _proc_id(worker) == proc_id:
                self._kill_deadlines[proc_id] = time.monotonic() + TERMINATE_TIMEOUT
                worker.terminate()

    def _watch(self) -> None:
        # Signals are for threads that run user code; here they would only cause delay.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while self._has_work():
                event = self.task_queue.next_event(self._worker_ids(), self._watch_timeout())
                if event is not None:
                    self._handle(*event)
                self._check_starting_workers()
                self._kill_expired()
                self.tidy()
                self._replace()
        except BaseException as error:
            # Whatever happened, no caller may wait for ever.
            self.state = TERMINATE
            failure = context.ProcessError(f"the pool cannot go on: {error!r}")
            failure.__cause__ = error
            self.fail_all_jobs(failure)
            raise
        finally:
            util.debug("pool watcher exiting")

    def _has_work(self) -> bool:
        if self.state == RUN:
            return True
        if self.state == TERMINATE:
            return False
        if len(self.jobs) == 0:
            self.task_queue.shutdown_workers()
            return bool(self.workers)
        return True

    def _worker_ids(self) -> list[int]:
        return [proc_id for proc_id in map(_proc_id, self.workers) if proc_id is not None]

    def _watch_timeout(self) -> float | None:
        if any(_proc_id(worker) not in self._started for worker in self.workers):
            return CHECK_INTERVAL
        if self._kill_deadlines or len(self.workers) < self.size and self._needs_workers():
            return CHECK_INTERVAL
        # A result that is not needed any more goes without waking this thread.
        return CLEANUP_INTERVAL if self.cache else None

    def _handle(self, kind: Any, *details: Any) -> None:
        match kind:
            case "gone":
                for worker in list(self.workers):
                    if _proc_id(worker) == details[0]:
                        self._on_worker_exit(worker)
            case "notice":
                self._on_notice(*details)
            case "overdue":
                job, index, item, (ran, limit), proc_id = details
                error = TimeoutError(
                    f"{self._name(job, item)} took too long: it ran for {ran:.3g} s, "
                    f"and its task_timeout is {limit:g} s"
                )
                warn("%s", error)
                self.jobs.set_result(job, index, False, error)
                self._kill_for_task(proc_id)
            case "refused":
                job, index, error = details
                self.jobs.set_result(job, index, False, error)
            case "abandoned":
                job, index = details
                error = context.ProcessError(f"{self._name(job, None)} was dropped by its worker")
                self.jobs.set_result(job, index, False, error)

    def _on_notice(self, proc_id: int, what: int, data: bytes) -> None:
        if what == STARTED:
            self._started.add(proc_id)
            self._failed_starts = 0
            self._broken = False
        elif what == FAILED_TO_START:
            self._count_failed_start(rebuild(data), "its initializer raised an exception")
            # Count it once, and not again when it exits.
            self._started.add(proc_id)

    def _on_worker_exit(self, worker: Any) -> None:
        """Handle the exit of a worker: fail or repeat its tasks, and count a failed start."""
        worker.join(TERMINATE_TIMEOUT)
        if worker.exitcode is None:
            # It called exec and lives on as another program.
            worker.kill()
            worker.join()
        with self._populating:
            self.workers.remove(worker)
        proc_id = _proc_id(worker)
        started = proc_id in self._started
        was_killed_for_task = proc_id in self._kill_deadlines
        if proc_id is not None:
            self._started.discard(proc_id)
            self._kill_deadlines.pop(proc_id, None)
            for job, index, item, repeated in self.task_queue.recover_tasks_of(proc_id):
                if not repeated:
                    error = self._worker_died(worker, self._name(job, item))
                    warn("%s", error)
                    self.jobs.set_result(job, index, False, error)
        if not started and not was_killed_for_task and self.state == RUN:
            self._count_failed_start(self._worker_died(worker, None), "it died before it could work")

    def _worker_died(self, worker: Any, task: str | None) -> WorkerDied:
        error = WorkerDied(pid=worker.pid, exitcode=worker.exitcode, task=task)
        if worker.exitcode == -signal.SIGKILL:
            times = _oom_kill_count()
            if times is None:
                error.add_note("The kernel sends SIGKILL when memory runs out: see dmesg.")
            elif times != self._oom_kill_count:
                error.add_note("The kernel has killed a process because memory ran out: see dmesg.")
            self._oom_kill_count = times
        return error

    def _name(self, job: int, item: int | None) -> str:
        """Name a task: its function, and the number of its item in the iterable."""
        result = self.cache.get(job)
        name = "a task" if result is None else result.name
        has_items = item is not None and (result is None or result.has_items)
        return f"{name} on item {item}" if has_items else name

    def _check_starting_workers(self) -> None:
        """Find workers that died before they registered with the engine, which reports only the others."""
        gone = [w for w in self.workers if _proc_id(w) not in self._started and w.exitcode is not None]
        if not gone:
            return
        # Their last notices say why they died.
        while (event := self.task_queue.next_event([], 0.0)) is not None:
            self._handle(*event)
        for worker in gone:
            if worker in self.workers:
                self._on_worker_exit(worker)

    def _kill_expired(self) -> None:
        now = time.monotonic()
        for worker in self.workers:
            if self._kill_deadlines.get(_proc_id(worker) or 0, now + 1) <= now:
                worker.kill()

    def _needs_workers(self) -> bool:
        if not self.replaces:
            return False
        if self.state == RUN and not self._broken:
            return True
        return self.task_queue.outstanding() > 0 or bool(self.deferred.sources)

    def _replace(self) -> None:
        if len(self.workers) == self.size or self.state == TERMINATE or not self._needs_workers():
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
        warn("a worker of the pool could not be started: %s: %s", what, _summary(cause))
        pause = min(MAX_RESTART_DELAY, 0.05 * 2 ** min(self._failed_starts - 1, 10))
        none_started = not any(_proc_id(worker) in self._started for worker in self.workers)
        killed = isinstance(cause, WorkerDied) and cause.signal == signal.SIGKILL
        tries = max(MAX_KILLED_STARTS if killed else MAX_FAILED_STARTS, self.size)
        if none_started and (self._broken or self._failed_starts >= tries):
            self._broken = True
            error = WorkerDied(f"no worker of the pool could be started: {what}: {_summary(cause)}")
            error.__cause__ = cause
            self.fail_all_jobs(error)
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
        # The signal first, so that a handler of the program's runs. A worker without one exits in order.
        for worker in running:
            worker.terminate()
        self.task_queue.release_workers(
            [proc_id for proc_id in map(_proc_id, running) if proc_id is not None]
        )
        limit = time.monotonic() + TERMINATE_TIMEOUT
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


def _proc_id(worker: Any) -> int | None:
    return getattr(getattr(worker, "_popen", None), "proc_id", None)


def _oom_kill_count() -> int | None:
    """Return how many processes the kernel has killed because memory ran out; None if it does not say."""
    try:
        with open("/proc/vmstat") as table:
            return next(int(line.split()[1]) for line in table if line.startswith("oom_kill "))
    except (OSError, StopIteration):
        return None


def _summary(cause: BaseException) -> str:
    return f"{type(cause).__name__}: {cause}"
