"""The backend of a `Pool`: worker processes, and the thread that watches them.

The engine's supervisor decides when workers are started, stopped, killed and replaced, and when to give up.
The watcher carries that out. It sleeps in the engine, without the interpreter lock and with all signals
blocked. It does not handle results: the engine files them as they arrive. It runs no user code except what
starting a process runs.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from procession import _native

from .._typing import Any
from ..errors import TimeoutError, WorkerDied
from ..stdlib import context, util
from .backend import TERMINATE, PoolBackend, remaining, warn
from .errors import rebuild
from .feeder import TaskSource
from .stdlib_attributes import call_raw
from .worker import WorkerEndpoint, serve

__all__ = ["ProcessBackend"]

# The time between SIGTERM and SIGKILL, for the `finally` blocks of a task, in seconds.
TERMINATE_TIMEOUT = 0.5


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
        self._supervisor = _native.PoolSupervisor(self.task_queue, size, TERMINATE_TIMEOUT)
        self._ctx = ctx
        self._make_process = make_process
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        endpoint = WorkerEndpoint(self.task_queue.handle, self.task_queue.handles)
        self._worker_args = (endpoint, prepare_worker, initializer, initargs, max_tasks, mask)
        self._populating = threading.RLock()
        # Workers without an entry in the engine's table of processes, of which the supervisor knows the exit.
        self._exited_unwatched: deque[Any] = deque()
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
        policy = timeout, retries, result._is_delivered()
        if self.deferred.sources or not self.task_queue.submit_call(
            result, self.cache, function, args, kwds, policy
        ):
            result._create(1, result._is_delivered())
            items = iter([(function, args, kwds)])
            source = TaskSource(result._handle, _native.PoolFunction.of_calls(timeout, retries), items)
            self.deferred.add(result, source)

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

    def feed(self, source: TaskSource) -> tuple[int, bool]:
        places = source.index, source.limit()
        return self.task_queue.submit_next(
            source.job, source.function, source.items, source.chunksize, places
        )

    def wait_for_room(self, timeout: float) -> bool:
        return self.task_queue.wait_for_room(timeout)

    def backlog(self) -> tuple[int, int]:
        return self.task_queue.backlog()

    def has_results(self) -> bool:
        return self.task_queue.has_results()

    def raw_function(self) -> Any:
        return _native.PoolFunction(call_raw)

    def fail_job(self, number: int, error: BaseException) -> None:
        self._supervisor.cancel(number)
        super().fail_job(number, error)
        self.job_ended()

    def fail_all_jobs(self, error: BaseException) -> None:
        # No worker works, so all tasks are still waiting.
        self.task_queue.withdraw_all()
        super().fail_all_jobs(error)
        self.job_ended()

    def job_ended(self) -> None:
        self._supervisor.wake()

    # Workers

    def repopulate(self) -> None:
        with self._populating:
            while self._supervisor.is_short():
                self._start_worker()

    def _start_worker(self) -> None:
        worker = self._make_process(self._ctx, target=serve, args=self._worker_args)
        worker.name = worker.name.replace("Process", "PoolWorker")
        worker.daemon = True
        # The worker inherits the mask: until it has its own handler, Ctrl-C is for its parent.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            worker.start()
            self.workers.append(worker)
            self._supervisor.started(_proc_id(worker))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        util.debug("added worker")

    def stop_replacing(self) -> None:
        self._supervisor.stop_replacing()

    def _watch(self) -> None:
        # Signals are for threads that run user code; here they would only cause delay.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while self.state != TERMINATE and (step := self._supervisor.next_step()) is not None:
                self._carry_out(*step)
                self.tidy()
        except BaseException as error:
            # Whatever happened, no caller may wait for ever.
            self.state = TERMINATE
            failure = context.ProcessError(f"the pool cannot go on: {error!r}")
            failure.__cause__ = error
            self.fail_all_jobs(failure)
            raise
        finally:
            util.debug("pool watcher exiting")

    def _carry_out(self, kind: Any, *details: Any) -> None:
        """Carry out a step of the supervisor."""
        match kind:
            case "start":
                self._replace()
            case "terminate" | "kill":
                worker = self._worker(details[0])
                if worker is not None:
                    getattr(worker, kind)()
            case "reap":
                self._reap(*details)
            case "removed":
                proc_id, lost, failed = details
                self._on_worker_exit(self._worker(proc_id), lost, failed)
            case "check_unwatched":
                self._check_unwatched()
            case "removed_unwatched":
                self._on_worker_exit(self._exited_unwatched.popleft(), [], *details)
            case "initializer_failed":
                reason, failed = details
                self._on_failed_start(rebuild(reason), "its initializer raised an exception", *failed)
            case "overdue":
                job, index, item, ran, limit = details
                error: BaseException = TimeoutError(
                    f"{self._name(job, item)} took too long: it ran for {ran:.3g} s, "
                    f"and its task_timeout is {limit:g} s"
                )
                warn("%s", error)
                self.jobs.set_result(job, index, False, error)
            case "refused":
                job, index, error = details
                self.jobs.set_result(job, index, False, error)
            case "woken":
                pass
            case "abandoned":
                job, index = details
                error = context.ProcessError(f"{self._name(job, None)} was dropped by its worker")
                self.jobs.set_result(job, index, False, error)

    def _worker(self, proc_id: int) -> Any:
        return next((worker for worker in self.workers if _proc_id(worker) == proc_id), None)

    def _replace(self) -> None:
        try:
            with self._populating:
                if self._supervisor.wants_start():
                    self._start_worker()
        except Exception as error:
            self._on_failed_start(error, "it could not be started", *self._supervisor.start_failed())

    def _reap(self, proc_id: int, seconds: float | None) -> None:
        worker = self._worker(proc_id)
        if worker is not None:
            worker.join(seconds)
            if worker.exitcode is None:
                self._supervisor.still_alive(proc_id)
                return
        self._supervisor.exited(proc_id, worker is not None and worker.exitcode == -signal.SIGKILL)

    def _unwatched(self) -> list[Any]:
        return [worker for worker in self.workers if _proc_id(worker) is None]

    def _check_unwatched(self) -> None:
        for worker in self._unwatched():
            if worker.exitcode is not None and worker not in self._exited_unwatched:
                self._exited_unwatched.append(worker)
                self._supervisor.exited_unwatched(worker.exitcode == -signal.SIGKILL)

    def _on_worker_exit(
        self, worker: Any, lost: list[tuple[int, int, int]], failed: tuple[int, bool] | None
    ) -> None:
        """Fail the tasks of a worker that has exited."""
        if worker is None or self.state == TERMINATE:
            return
        with self._populating:
            self.workers.remove(worker)
        for job, index, item in lost:
            error = self._worker_died(worker, self._name(job, item))
            warn("%s", error)
            self.jobs.set_result(job, index, False, error)
        if failed is not None:
            self._on_failed_start(self._worker_died(worker, None), "it died before it could work", *failed)

    def _worker_died(self, worker: Any, task: str | None) -> WorkerDied:
        error = WorkerDied(pid=worker.pid, exitcode=worker.exitcode, task=task)
        if worker.exitcode == -signal.SIGKILL:
            ran_out = self._supervisor.oom_hint()
            if ran_out is None:
                error.add_note("The kernel sends SIGKILL when memory runs out: see dmesg.")
            elif ran_out:
                error.add_note("The kernel has killed a process because memory ran out: see dmesg.")
        return error

    def _name(self, job: int, item: int | None) -> str:
        """Name a task: its function, and the number of its item in the iterable."""
        result = self.cache.get(job)
        name = "a task" if result is None else result.name
        has_items = item is not None and (result is None or result.has_items)
        return f"{name} on item {item}" if has_items else name

    def _on_failed_start(self, cause: BaseException, what: str, count: int, gives_up: bool) -> None:
        summary = f"{type(cause).__name__}: {cause}"
        warn("a worker of the pool could not be started: %s: %s", what, summary)
        if gives_up:
            error = WorkerDied(f"no worker of the pool could be started: {what}: {summary}")
            error.__cause__ = cause
            self.fail_all_jobs(error)

    # The end

    def close(self) -> None:
        super().close()
        self._supervisor.close()

    def _stop_workers(self) -> None:
        self._supervisor.wake()
        self._join_watcher()
        self._end_workers()

    def _end_workers(self) -> None:
        """Ask all workers to stop, and kill those that do not."""
        with self._populating:
            self._supervisor.terminate()
        unwatched = [worker for worker in self._unwatched() if worker.exitcode is None]
        kill_at = time.monotonic() + TERMINATE_TIMEOUT
        for worker in unwatched:
            worker.terminate()
        while (step := self._supervisor.next_step()) is not None:
            self._carry_out(*step)
        for worker in unwatched:
            worker.join(remaining(kill_at))
        for worker in unwatched:
            if worker.exitcode is None:
                worker.kill()
        for worker in unwatched:
            worker.join()
        self._supervisor.no_more_workers()

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
            self._supervisor.no_more_workers()
        return ended


def _proc_id(worker: Any) -> int | None:
    """Return the number of a worker's entry in the engine's table of processes."""
    return getattr(getattr(worker, "_popen", None), "proc_id", None)
