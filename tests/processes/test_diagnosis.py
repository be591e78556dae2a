"""Diagnosis of a program that makes no progress."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import procession

LIMIT = 30.0


def report() -> str:
    out = io.StringIO()
    procession.debug_dump(out)
    return out.getvalue()


def wait_for_report(*parts: str) -> str:
    limit = time.monotonic() + LIMIT
    while not all(part in (text := report()) for part in parts):
        assert time.monotonic() < limit, f"no {parts} in\n{text}"
        time.sleep(0.01)
    return text


def hold(first: Any, line: Any) -> None:
    with first:
        line.send("held")
        line.recv()


def hold_both(first: Any, second: Any, barrier: Any) -> None:
    with first:
        barrier.wait()
        with second:
            pass


def run_out(process: Any) -> None:
    process.kill()
    process.join()


def test_a_dump_shows_who_holds_what_and_waits_for_what(ctx: Any) -> None:
    """Each process of the tree, with its locks and its waits, and the stacks of this one."""
    lock, other = ctx.Lock(), ctx.RLock()
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=hold, args=(lock, theirs))
    with other:
        process.start()
        assert ours.recv() == "held"
        text = wait_for_report("to receive from pipe")
    assert f"process {os.getpid()} (this one)" in text
    assert "holds recursive lock" in text
    block = text[text.index(f"process {process.pid}:") :]
    assert "holds lock" in block.splitlines()[1]
    assert "has waited for" in block.splitlines()[2]
    assert "test_a_dump_shows" in text
    ours.send("go")
    process.join()


def test_a_circle_of_locks_is_named() -> None:
    """The processes and locks of a deadlock."""
    a, b, barrier = procession.Lock(), procession.Lock(), procession.Barrier(2)
    one = procession.Process(target=hold_both, args=(a, b, barrier))
    two = procession.Process(target=hold_both, args=(b, a, barrier))
    one.start()
    two.start()
    text = wait_for_report("a circle of locks")
    line = next(line for line in text.splitlines() if "a circle of locks" in line)
    assert str(one.pid) in line
    assert str(two.pid) in line
    run_out(one)
    run_out(two)
    assert "a circle of locks" not in report()


def test_how_long_a_wait_lasts_is_counted_from_its_beginning() -> None:
    """The time counts from the first of the short sleeps that a wait consists of."""
    queue, lock = procession.Queue(), procession.Lock()
    waiting = procession.Process(target=queue.get, args=())
    waiting.start()
    try:
        wait_for_report("to receive from queue")
        begun = time.monotonic()
        seconds = 0.0
        # Longer than a short sleep of the engine and a switch interval of the interpreter together.
        while seconds < 1.2:
            (said,) = re.findall(r"has waited for ([0-9.]+) s to receive from queue", report())
            assert float(said) >= seconds, f"{said} s after {seconds} s"
            seconds = float(said)
            assert time.monotonic() < begun + LIMIT
    finally:
        run_out(waiting)
    assert lock.acquire(timeout=0)


LOOKED_INTO = """
import procession

def hold_both(first, second, barrier, name):
    with first:
        barrier.wait()
        with second:
            pass

if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    lock = context.Lock()
    other = context.RLock()
    barrier = context.Barrier(3)
    arguments = [(lock, other, barrier, "one"), (other, lock, barrier, "two")]
    processes = [
        context.Process(target=hold_both, args=args, name=args[-1], daemon=True) for args in arguments
    ]
    for process in processes:
        process.start()
    barrier.wait()
    print(processes[0].pid, processes[1].pid, flush=True)
    processes[0].join()
"""


def test_who_answers_a_signal_may_be_part_of_a_circle(tmp_path: Path, start_method: str) -> None:
    """The cycle is found with all names and places, although the process does not wait while it answers."""
    text = "import sys\n" + LOOKED_INTO
    program = start(tmp_path / "circle.py", text, start_method, PROCESSION_DEBUG_SIGNAL="USR2")
    try:
        first, second = program.stdout.readline().split()
        limit = time.monotonic() + LIMIT
        while True:
            os.kill(int(first), signal.SIGUSR2)
            said = "".join(lines_until(program, f"process {first} (this one): one, ")) + "".join(
                lines_until(program, "\n")
            )
            if "a circle of locks" in said:
                break
            assert time.monotonic() < limit, said
    finally:
        program.kill()
        program.communicate()
    assert re.search(rf"process {second}: two, ", said)
    assert re.search(r"holds lock \d+ \(made at \S*circle.py:13\)", said)
    holder = rf"held by process {second} \(two\)"
    assert re.search(rf"to acquire recursive lock \d+ \(made at \S*circle.py:14\), {holder}", said)


PROGRAM = """
import sys
import time
import procession

def fill(queue):
    queue.put(1)
    queue.put(2)

if __name__ == "__main__":
    queue = procession.get_context(sys.argv[1]).Queue(1)
    process = procession.get_context(sys.argv[1]).Process(target=fill, args=(queue,))
    process.start()
    event = procession.Event()
    while not queue.full():
        time.sleep(0.01)
    print(process.pid, flush=True)
    event.wait()
"""


def start(script: Path, text: str, start_method: str, **env: str) -> Any:
    """A program of its own, whose output can be read."""
    script.write_text(text)
    home = os.path.dirname(os.path.dirname(os.path.abspath(procession.__file__)))
    return subprocess.Popen(
        [sys.executable, str(script), start_method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": home, **env},
    )


@pytest.fixture
def stuck(tmp_path: Path, start_method: str) -> Any:
    """A program that waits for ever, as its child does; it dumps on request."""
    program = start(tmp_path / "stuck.py", PROGRAM, start_method, PROCESSION_DEBUG_SIGNAL="USR2")
    assert program.stdout is not None
    child = int(program.stdout.readline())
    yield program, child
    program.kill()
    os.kill(child, signal.SIGKILL)
    program.communicate()


def lines_until(program: Any, last: str) -> list[str]:
    lines = []
    for line in program.stderr:
        lines.append(line)
        if line == last or last.strip() and last in line:
            return lines
    raise AssertionError("".join(lines))


def test_a_signal_asks_a_program_that_is_stuck(stuck: Any, start_method: str) -> None:
    """The dump names the queue that no process reads while the child waits."""
    program, child = stuck
    if start_method == "forkserver":
        pytest.skip("the server is a process that does not wait in this package")
    limit = time.monotonic() + LIMIT
    while True:
        os.kill(program.pid, signal.SIGUSR2)
        lines_until(program, "in this tree")
        text = "".join(lines_until(program, "\n"))
        if "is full and nobody receives from it" in text:
            break
        assert time.monotonic() < limit, text
    assert f"process {child}" in text
    assert "to put into queue" in text


def test_a_child_can_be_asked_too(stuck: Any) -> None:
    """A child of any start method shows its stack."""
    program, child = stuck
    os.kill(child, signal.SIGUSR2)
    assert "in fill" in "".join(lines_until(program, "in fill"))


def test_a_signal_that_is_none_is_refused(run_script: Callable[..., Any], monkeypatch: Any) -> None:
    """The message lists the allowed values."""
    monkeypatch.setenv("PROCESSION_DEBUG_SIGNAL", "nonsense")
    done = run_script("import procession")
    assert "must name a signal, such as USR2" in done.stderr


DEADLOCK = """
import sys
import procession

def hold_both(first, second, barrier):
    with first:
        barrier.wait()
        with second:
            pass

if __name__ == "__main__":
    ctx = procession.get_context(sys.argv[1])
    a, b, barrier = ctx.Lock(), ctx.Lock(), ctx.Barrier(2)
    processes = [ctx.Process(target=hold_both, args=(*locks, barrier)) for locks in ((a, b), (b, a))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
"""


def test_a_watched_program_says_by_itself_that_it_is_stuck(tmp_path: Path, start_method: str) -> None:
    """It names the cycle, which ends when one of its processes does."""
    with start(tmp_path / "deadlock.py", DEADLOCK, start_method, PROCESSION_DEBUG_WATCH="0.1") as program:
        lines = lines_until(program, "a circle of locks")
        one, *_ = [word for word in lines[-1].split() if word.rstrip(",:").isdigit()]
        os.kill(int(one.rstrip(",:")), signal.SIGKILL)
        assert program.stderr is not None
        rest = program.stderr.read()
    assert "a circle of locks" not in rest


def test_how_often_to_look_is_a_number(run_script: Callable[..., Any], monkeypatch: Any) -> None:
    """The message lists the allowed values."""
    monkeypatch.setenv("PROCESSION_DEBUG_WATCH", "often")
    done = run_script("import procession")
    assert "must be a number of seconds, such as 10" in done.stderr
    with pytest.raises(ValueError, match="positive"):
        procession.debug_watch(0)


def test_a_worker_that_crashes_shows_its_stack(run_script: Callable[..., Any], start_method: str) -> None:
    """The segmentation fault of a task is reported with its source line."""
    done = run_script(
        """
        import ctypes, sys, procession

        def crash():
            ctypes.string_at(0)

        if __name__ == "__main__":
            with procession.get_context(sys.argv[1]).Pool(1) as pool:
                try:
                    pool.apply(crash)
                except procession.WorkerDied:
                    print("told")
        """,
        start_method,
    )
    assert done.stdout == "told\n"
    assert "in crash" in done.stderr
