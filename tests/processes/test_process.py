"""`Process`: a function runs in a process of its own."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import platform
import select
import signal
import sys
import threading
import time
import types
from typing import Any

import pytest

import procession
from procession import _native, popen_fork


def tell(connection: Any, *values: Any, **named: Any) -> None:
    connection.send((values, named, os.getpid()))


def leave_with(how: str, value: Any) -> None:
    if how == "return":
        return
    if how == "sys.exit":
        sys.exit(value)
    if how == "os._exit":
        os._exit(value)
    if how == "raise":
        raise RuntimeError(value)
    os.kill(os.getpid(), value)


def wait_for_release(ready: Any, release: Any) -> None:
    ready.set()
    release.wait()


def tell_about_processes(connection: Any) -> None:
    parent = procession.parent_process()
    assert parent is not None
    me = procession.current_process()
    connection.send((me.name, me.daemon, parent.pid, parent.is_alive(), procession.active_children()))


def start_a_child(connection: Any) -> None:
    try:
        procession.Process(target=print).start()
    except AssertionError as error:
        connection.send(str(error))


def outlive_parent(ready: Any) -> None:
    parent = procession.parent_process()
    assert parent is not None
    ready.send("watching")
    parent.join()
    ready.send("parent gone")


def start_one_that_outlives(method: str, ready: Any) -> None:
    procession.get_context(method).Process(target=outlive_parent, args=(ready,)).start()


def fork_one_that_holds_everything(release: Any) -> None:
    if os.fork() == 0:
        release.wait()
    os._exit(0)


def finish_in_a_thread(connection: Any) -> None:
    threading.Thread(target=lambda: (threading.main_thread().join(), connection.send("thread done"))).start()


def tell_at_exit(connection: Any) -> None:
    atexit.register(connection.send, "at exit")


class Squarer(procession.get_context("spawn").Process):
    """A user's process class."""

    def __init__(self, number: int, connection: Any) -> None:
        super().__init__()
        self.number = number
        self.connection = connection

    def run(self) -> None:
        self.connection.send(self.number**2)


@pytest.fixture
def waiting(ctx: Any) -> Any:
    """A started process that waits until it is released or killed."""
    ready, release = ctx.Event(), ctx.Event()
    process = ctx.Process(target=wait_for_release, args=(ready, release))
    process.start()
    ready.wait()
    process.release = release.set
    yield process
    if not process._closed:
        process.kill()
        process.join()


def test_a_worker_runs_in_its_own_process_and_the_parent_goes_on(ctx: Any) -> None:
    """The target gets its arguments in another process; join waits for its end."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=tell, args=(theirs, 1, "two"), kwargs={"three": [3]})
    process.start()
    values, named, pid = ours.recv()
    process.join()
    assert (values, named) == ((1, "two"), {"three": [3]})
    assert pid == process.pid != os.getpid()
    assert process.exitcode == 0 and not process.is_alive()


@pytest.mark.parametrize(
    ("how", "value", "code"),
    [
        ("return", None, 0),
        ("sys.exit", None, 0),
        ("sys.exit", 7, 7),
        ("sys.exit", "a reason", 1),
        ("os._exit", 5, 5),
        ("raise", "an error", 1),
        ("signal", signal.SIGTERM, -signal.SIGTERM),
        ("signal", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_exit_codes_are_those_of_the_stdlib(
    ctx: Any, how: str, value: Any, code: int, fresh_server: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every way to end has the exit code that programs expect, and the right output on stderr."""
    process = ctx.Process(target=leave_with, args=(how, value))
    process.start()
    process.join()
    assert process.exitcode == code
    if isinstance(value, str):
        assert value in capfd.readouterr().err


@pytest.mark.parametrize(("how", "value", "exit_state"), [("sys.exit", 3, "left"), ("os._exit", 3, "died")])
def test_the_engine_tells_an_orderly_exit_from_a_death(
    ctx: Any, how: str, value: int, exit_state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that unwound to its end has exited; one that was cut short has died, whatever its status."""
    exit_states = []
    reap = _native.reap
    monkeypatch.setattr(_native, "reap", lambda entry: exit_states.append(reap(entry)))
    process = ctx.Process(target=leave_with, args=(how, value))
    process.start()
    process.join()
    assert (process.exitcode, exit_states) == (3, [exit_state])


@pytest.mark.parametrize(
    ("stop", "signum"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL), ("interrupt", None)]
)
def test_a_process_can_be_stopped(waiting: Any, stop: str, signum: int | None) -> None:
    """terminate, kill and interrupt reach a blocked process."""
    assert waiting.is_alive() and waiting.exitcode is None
    getattr(waiting, stop)()
    waiting.join()
    assert waiting.exitcode == (-signum if signum else 1) or (signum is None and waiting.exitcode == -2)
    getattr(waiting, stop)()


def test_join_with_a_timeout_returns_while_the_process_runs(waiting: Any) -> None:
    """A timeout that passes is not an error; the process is still there."""
    waiting.join(0.01)
    waiting.join(0)
    waiting.join(-1)
    assert waiting.is_alive()
    waiting.release()
    waiting.join(1e9)
    assert waiting.exitcode == 0


def test_the_sentinel_tells_of_a_sigkill(waiting: Any) -> None:
    """The sentinel is a descriptor that becomes readable when the process is gone, and only then."""
    poller = select.poll()
    poller.register(waiting.sentinel, select.POLLIN)
    assert poller.poll(0) == []
    os.kill(waiting.pid, signal.SIGKILL)
    assert poller.poll(60_000)
    assert waiting.exitcode == -signal.SIGKILL
    assert procession.connection.wait([waiting.sentinel], 0) == [waiting.sentinel]


def test_a_grandchild_that_inherited_everything_does_not_hide_the_end(ctx: Any) -> None:
    """join returns when the process ends, though a process it forked still holds its descriptors."""
    release = ctx.Event()
    process = ctx.Process(target=fork_one_that_holds_everything, args=(release,))
    process.start()
    process.join()
    assert process.exitcode == 0
    release.set()


def test_two_threads_may_join_the_same_process(waiting: Any) -> None:
    """Whichever thread reaps the child, both see its exit code."""
    codes: list[int | None] = []
    threads = [threading.Thread(target=lambda: codes.append(waiting._popen.wait())) for _ in range(4)]
    for thread in threads:
        thread.start()
    waiting.release()
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0, 0]


def test_a_status_that_somebody_else_took_does_not_hang_join() -> None:
    """A child reaped behind the package's back counts as ended, with an unknown status."""
    process = procession.get_context("fork").Process(target=leave_with, args=("return", None))
    process.start()
    os.waitpid(process.pid, 0)
    process.join()
    assert process.exitcode == popen_fork.UNKNOWN_STATUS and not process.is_alive()


def test_starting_twice_and_joining_too_early_are_refused(ctx: Any) -> None:
    """The misuses that the stdlib asserts against."""
    process = ctx.Process(target=leave_with, args=("return", None))
    with pytest.raises(AssertionError, match="can only join a started process"):
        process.join()
    assert not process.is_alive() and process.pid is None and process.exitcode is None
    with pytest.raises(ValueError, match="not started"):
        _ = process.sentinel
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    process.join()


def test_a_closed_process_answers_no_more(waiting: Any) -> None:
    """close gives the descriptors back, but not before the process has ended."""
    with pytest.raises(ValueError, match="still running"):
        waiting.close()
    waiting.release()
    waiting.join()
    waiting.close()
    waiting.close()
    for use in (waiting.join, waiting.is_alive, waiting.terminate, waiting.interrupt):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_child_knows_itself_and_its_parent(ctx: Any) -> None:
    """current_process and parent_process, seen from the child."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=tell_about_processes, args=(theirs,), name="Alice", daemon=True)
    process.start()
    assert ours.recv() == ("Alice", True, os.getpid(), True, [])
    process.join()


def test_active_children_are_those_that_run(waiting: Any) -> None:
    """A process is among them until its end is noticed."""
    assert waiting in procession.active_children()
    waiting.release()
    waiting.join()
    assert waiting not in procession.active_children()


def test_a_child_sees_its_parent_die(ctx: Any, start_method: str) -> None:
    """parent_process().join() returns when the parent is killed, be it with siblings alive."""
    ours, theirs = ctx.Pipe()
    parent = ctx.Process(target=start_one_that_outlives, args=(start_method, theirs))
    parent.start()
    assert ours.recv() == "watching"
    parent.kill()
    parent.join()
    assert ours.recv() == "parent gone"


def test_a_daemon_may_not_have_children(ctx: Any) -> None:
    """Daemons are killed without notice, so they may not be parents."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=start_a_child, args=(theirs,), daemon=True)
    process.start()
    assert "daemonic processes are not allowed to have children" in ours.recv()
    process.join()


def test_a_subclass_may_override_run() -> None:
    """The object-oriented way: the process object itself travels to the child."""
    ours, theirs = procession.Pipe()
    process = Squarer(12, theirs)
    process.start()
    assert ours.recv() == 144
    process.join()


def test_threads_of_a_child_finish_before_it_ends(ctx: Any) -> None:
    """A thread that is no daemon is waited for."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=finish_in_a_thread, args=(theirs,))
    process.start()
    assert ours.recv() == "thread done"
    process.join()
    assert process.exitcode == 0


@pytest.mark.skipif(sys.version_info < (3, 13), reason="before 3.13 forked children ran no exit handlers")
def test_exit_handlers_of_a_child_run(ctx: Any) -> None:
    """What the child registers with atexit runs when it ends."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=tell_at_exit, args=(theirs,))
    process.start()
    assert ours.recv() == "at exit"
    process.join()


@pytest.mark.usefixtures("nothing_left")
def test_what_cannot_be_pickled_is_refused_and_leaves_nothing(pickling_ctx: Any) -> None:
    """The pickler's own error comes out of start, with advice, and nothing is left behind."""
    lock = pickling_ctx.Lock()
    process = pickling_ctx.Process(target=print, args=(lock, threading.Lock()))
    with pytest.raises(TypeError, match="cannot pickle") as caught:
        process.start()
    assert any("could not be started" in note for note in caught.value.__notes__)
    assert process.pid is None and not process.is_alive()


def test_what_the_child_cannot_import_ends_it_with_advice(
    pickling_ctx: Any,
    fresh_server: Any,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A function whose module exists only in the parent: status 1, and a traceback that says what to do."""
    module = types.ModuleType("only_in_the_parent")
    exec("def function(): pass", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    process = pickling_ctx.Process(target=module.function)  # type: ignore[attr-defined]
    process.start()
    process.join()
    error = capfd.readouterr().err
    assert process.exitcode == 1
    assert "only_in_the_parent" in error and "must be importable" in error


@pytest.mark.usefixtures("nothing_left")
def test_processes_leave_nothing_behind(ctx: Any) -> None:
    """After many starts and ends there are as many descriptors and process table entries as before."""
    processes = [ctx.Process(target=leave_with, args=("return", None)) for _ in range(12)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        process.close()


def test_stdlib_objects_travel_to_our_processes(ctx: Any) -> None:
    """A stdlib Connection and a descriptor pickle as if a stdlib process were started."""
    ours, theirs = multiprocessing.Pipe()
    process = ctx.Process(target=tell, args=(theirs, "through a stdlib pipe"))
    process.start()
    assert ours.recv()[0] == ("through a stdlib pipe",)
    process.join()
    ours.close()
    theirs.close()


def test_daemons_end_with_the_program(run_script: Any) -> None:
    """At exit daemons are terminated and other children waited for."""
    done = run_script(
        """
        import os, procession
        from signal import pause

        if __name__ == "__main__":
            daemon = procession.Process(target=pause, daemon=True)
            daemon.start()
            worker = procession.Process(target=os.write, args=(1, b"worker done;"))
            worker.start()
            os.write(1, b"main done;")
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split(";")) == ["", "main done", "worker done"]


WAIT4 = {"x86_64": "61", "aarch64": "260"}


def set_once_it_is_waited_for(go_on: Any, thread: int) -> None:
    """Set the event when the thread sleeps in wait4."""
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        with open(f"/proc/self/task/{thread}/syscall") as call:
            if call.read().split()[0] == WAIT4[platform.machine()]:
                break
    go_on.set()


def join_under_a_handler(method: str, ask: Any) -> Any:
    """A child that was joined while SIGCHLD had a handler, which calls `ask` with the child."""
    context = procession.get_context(method)
    go_on = context.Event()
    child = context.Process(target=go_on.wait)
    before = signal.signal(signal.SIGCHLD, lambda signum, frame: ask(child))
    try:
        child.start()
        helper = threading.Thread(
            target=set_once_it_is_waited_for, args=(go_on, threading.get_native_id()), daemon=True
        )
        helper.start()
        child.join()
        helper.join()
    finally:
        signal.signal(signal.SIGCHLD, before)
    return child


reaping = pytest.mark.skipif(
    platform.machine() not in WAIT4, reason="knows no number of the system call here"
)


@reaping
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_handler_of_sigchld_meets_no_zombie_of_a_child_that_is_joined(method):
    """`join` reaps the child in the call it sleeps in: torch's handler takes zombies for crashed workers."""
    seen = []

    def look(child):
        try:
            seen.append(os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
        except ChildProcessError:
            seen.append("reaped")

    join_under_a_handler(method, look)
    assert seen == ["reaped"]


@reaping
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_handler_of_sigchld_may_ask_for_the_child_that_is_joined(method):
    """It runs after the reaping and before the recording: the child counts as alive, as with the stdlib."""
    seen = []

    def ask(child):
        child.join(timeout=60)
        seen.append((child.is_alive(), child.exitcode, procession.active_children() == [child]))

    child = join_under_a_handler(method, ask)
    assert seen == [(True, None, True)]
    assert child.exitcode == 0 and not child.is_alive() and procession.active_children() == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_that_lives_is_asked_for_by_one_call(method):
    """`is_alive`, `exitcode` and `active_children` make one system call a child; each start checks all."""
    context = procession.get_context(method)
    go_on = context.Event()
    children = [context.Process(target=go_on.wait) for _ in range(3)]
    for child in children:
        child.start()
    calls: list[str] = []

    def note(frame, event, function):
        if event == "c_call" and function.__module__ in ("posix", "select"):
            calls.append(function.__name__)

    sys.setprofile(note)
    try:
        answers = children[1].is_alive(), children[1].exitcode, set(procession.active_children())
    finally:
        sys.setprofile(None)
    go_on.set()
    for child in children:
        child.join()
    assert answers == (True, None, set(children))
    assert [call for call in calls if call != "getpid"] == ["waitid"] * 5


def test_a_status_that_somebody_else_took_is_unknown_to_who_asks():
    """A child that was reaped behind the package's back has ended, also without a join."""
    context = procession.get_context("fork")
    gone = context.Process(target=int)
    gone.start()
    os.waitpid(gone.pid, 0)
    assert not gone.is_alive() and gone.exitcode == popen_fork.UNKNOWN_STATUS
    assert gone not in procession.active_children()


def test_many_threads_join_one_child(ctx):
    """Each of them learns its exit code."""
    go_on = ctx.Event()
    child = ctx.Process(target=exit_when_told, args=(go_on, 7))
    child.start()
    codes = []

    def join():
        child.join()
        codes.append(child.exitcode)

    threads = [threading.Thread(target=join) for _ in range(6)]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert codes == [7] * 6


def exit_when_told(go_on, code):
    go_on.wait()
    sys.exit(code)
