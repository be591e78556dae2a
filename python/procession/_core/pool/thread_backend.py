"""The backend of a `ThreadPool`: threads of this process run the tasks, without pickling.

Threads cannot be killed: a task that runs when the pool is terminated, or its job cancelled, runs to its end.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from .._typing import Any
from ..errors import WorkerDied
from .backend import RUN, PoolBackend, remaining
from .feeder import TaskSource
from .stdlib_attributes import call_raw

__all__ = ["ThreadBackend"]

# Argument generators pause while this many tasks wait.
MAX_WAITING_TASKS = 1024

# Number of the job, number of the task, whether it has several items, function, arguments, keywords.
Task = tuple[int, int, bool, Callable[..., Any], Iterable[Any], Mapping[str, Any] | None]

# The function of many tasks, and whether each item is a tuple of arguments.
Function = tuple[Callable[..., Any], bool]


class ThreadBackend(PoolBackend):
    """Worker threads."""

    def __init__(
        self,
        ctx: Any,
        make_process: Callable[..., Any],
        size: int,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
    ) -> None:
        super().__init__(size)
        self._ctx = ctx
        self._make_process = make_process
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._room = threading.Event()
        self._feeder_waits = False

    def start(self) -> None:
        """Start all workers."""
        self.repopulate()

    def repopulate(self) -> None:
        while len(self.workers) < self.size:
            worker = self._make_process(self._ctx, target=self._work)
            worker.name = worker.name.replace("Process", "PoolWorker")
            worker.daemon = True
            worker.start()
            self.workers.append(worker)

    def stop_replacing(self) -> None:
        """Do nothing: threads are not replaced."""

    def function(
        self, function: Callable[..., Any], star: bool, timeout: float | None, retries: int
    ) -> Function:
        _refuse(timeout)
        return function, star

    def call(
        self, result: Any, function: Any, args: Any, kwds: Any, timeout: float | None, retries: int
    ) -> None:
        _refuse(timeout)
        result._create(1, result._is_delivered())
        task = (result._job, 0, False, function, args, kwds)
        result._handle.begin(result, self.cache, self._tasks.put, [task])

    def chunks(self, items: int, chunksize: int | None) -> int:
        return -(-items // self._chunksize(items, chunksize))

    def _chunksize(self, items: int, chunksize: int | None) -> int:
        # Four chunks per thread: nothing is copied, so larger chunks would save little.
        return chunksize or max(1, -(-items // (4 * self.size)))

    def spread(self, result: Any, function: Function, items: Sequence[Any], chunksize: int | None) -> None:
        size = self._chunksize(len(items), chunksize)
        starts = range(0, len(items), size)
        chunks = (items[start : start + size] for start in starts)
        tasks = [_task(result._job, index, function, chunk) for index, chunk in enumerate(chunks)]
        result._handle.begin(result, self.cache, self._tasks.put, tasks)

    def feed(self, source: TaskSource) -> tuple[int, bool]:
        limit = source.limit()
        while (limit is None or source.index < limit) and self._tasks.qsize() < MAX_WAITING_TASKS:
            chunk = list(itertools.islice(source.items, source.chunksize))
            if not chunk:
                return source.index, True
            self._tasks.put(_task(source.job.number, source.index, source.function, chunk))
            source.index += 1
        return source.index, False

    def wait_for_room(self, timeout: float) -> bool:
        self._room.clear()
        self._feeder_waits = True
        return self._tasks.qsize() < MAX_WAITING_TASKS or self._room.wait(timeout)

    def backlog(self) -> tuple[int, int]:
        return self._tasks.qsize(), 0

    def has_results(self) -> bool:
        return False

    def raw_function(self) -> Any:
        return self.function(call_raw, False, None, 0)

    def job_ended(self) -> None:
        self.tidy()
        if self.state != RUN and len(self.jobs) == 0:
            self._stop_threads()

    def _work(self) -> None:
        try:
            if self._initializer is not None:
                self._initializer(*self._initargs)
        except BaseException as cause:
            error = WorkerDied(f"a thread of the pool could not be started: {type(cause).__name__}: {cause}")
            error.__cause__ = cause
            self._fail_tasks(error)
            return
        perform, results = self.jobs.run_task, self.cache
        for task in iter(self._tasks.get, None):
            perform(results, *task)
            del task
            if self._feeder_waits and self._tasks.qsize() < MAX_WAITING_TASKS:
                self._feeder_waits = False
                self._room.set()
            if self.state != RUN:
                self.job_ended()

    def _fail_tasks(self, error: WorkerDied) -> None:
        for task in iter(self._tasks.get, None):
            number, index = task[:2]
            self.jobs.set_result(number, index, False, error)

    def _stop_threads(self) -> None:
        for _ in self.workers:
            self._tasks.put(None)

    def close(self) -> None:
        super().close()
        self.job_ended()

    def _stop_workers(self) -> None:
        try:
            while True:
                self._tasks.get_nowait()
        except queue.Empty:
            self._stop_threads()

    def _join_workers(self, limit: float | None) -> bool:
        others = [worker for worker in self.workers if worker is not threading.current_thread()]
        for worker in others:
            worker.join(remaining(limit))
        return not any(worker.is_alive() for worker in others)


def _task(number: int, index: int, function: Function, chunk: Sequence[Any]) -> Task:
    call, star = function
    if len(chunk) > 1:
        return number, index, True, _apply_to_each, (call, star, chunk), None
    if star:
        return number, index, False, _apply_apart, (call, chunk[0]), None
    return number, index, False, call, chunk, None


def _apply_to_each(function: Callable[..., Any], star: bool, items: Sequence[Any]) -> list[Any]:
    # Not by map(): a StopIteration raised by the function would end the list.
    return [function(*item) for item in items] if star else [function(item) for item in items]


def _apply_apart(function: Callable[..., Any], item: Iterable[Any]) -> Any:
    return function(*item)


def _refuse(timeout: float | None) -> None:
    if timeout is not None:
        raise ValueError("a thread cannot be stopped, so a ThreadPool takes no task_timeout")
