"""Rust functions as processes of a Python program.

The Rust program exports functions by name, with the crate `procession` and its feature `python`:

    fn square(n: i64) -> i64 {
        n * n
    }

    fn main() {
        procession::python::export!(square);
        procession::init();
    }

Python starts them:

    from procession.rust import Process

    process = Process("target/release/program", "square", args=(4,))
    process.start()
    assert process.result() == 16

Arguments and results are plain data: None, bool, int, float, str, bytes, lists, tuples, sets and dicts. What
Rust returns as a sequence or a set arrives as a list.
Arguments may also be, or contain, queues, events and locks of this package; a queue between the two carries
plain data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from ._core._typing import Any, NoReturn
from ._core.fallback import choice
from ._core.rust.errors import Panic, RustError
from .context import TimeoutError, _StartableProcess

__all__ = ["Panic", "Process", "RustError"]


class Process(_StartableProcess):
    """A process that runs a function of a Rust program."""

    _start_method = None

    def __init__(
        self,
        executable: str | os.PathLike[str],
        function: str,
        args: Iterable[Any] = (),
        *,
        name: str | None = None,
        daemon: bool | None = None,
        argv: Iterable[str] = (),
        env: Mapping[str, str | None] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        """Name a function that the executable exports, and what it is to be called with.

        The executable is a path, or a name that is looked for in PATH. `argv` are arguments of the program
        itself. `env` has what is to be different in its environment: None removes a variable. It starts in
        the directory `cwd`.
        """
        if choice.reason is not None:
            raise choice.needs_engine("procession.rust.Process")
        super().__init__(name=name, args=args, daemon=daemon)
        self._executable = os.fsdecode(executable)
        self._function = function
        self._argv = list(argv)
        self._env = dict(env or {})
        self._cwd = None if cwd is None else os.fsdecode(cwd)

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from ._core.rust.popen import Popen

        _register_classes()
        return Popen(process_obj)

    def _environment(self) -> Iterator[tuple[str, str]]:
        for name, value in {**os.environ, **self._env}.items():
            if value is not None:
                yield name, value

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the process to end, and return what its function returned.

        Panic if the function panicked; RustError if it could not be called, or not with these arguments;
        WorkerDied if the process ended before the function returned; TimeoutError if it still runs after
        `timeout` seconds.
        """
        self.join(timeout)
        if self._popen.poll() is None:
            raise TimeoutError(f"{self.name} has not ended yet")
        return self._popen.result()

    def run(self) -> None:
        """Refuse: what runs is a Rust function, in a process that `start` starts."""
        raise NotImplementedError("a Rust function runs in a process of its own: call start()")


def main(error_fd: int) -> NoReturn:
    """The whole life of an interpreter that a Rust program started: call one function and report.

    What cannot be reported as a response is written to the descriptor `error_fd`.
    """
    from ._core.rust.called import main

    _register_classes()
    main(error_fd)


def _register_classes() -> None:
    """Tell which classes Rust knows too; their modules are loaded when a process is started."""
    from . import queues, synchronize
    from ._core.rust import common_values

    common_values.register(
        Queue=queues.Queue, Event=synchronize.Event, Lock=synchronize.Lock, RLock=synchronize.RLock
    )
