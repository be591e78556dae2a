"""fork, spawn and forkserver: choosing one, and the guarantees of each."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import _native, forkserver, spawn


class Tattletale:
    """Travels in the preparation data and leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import sys; sys.tattled = True",)


# A flag in the kernel's table of Unix sockets.
ACCEPTS_CONNECTIONS = 1 << 16


def report(connection: Any, *names: str) -> None:
    connection.send([eval(name) for name in names])


def nothing() -> None:
    pass


def wait_for_release(ready: Any, release: Any) -> None:
    ready.set()
    release.wait()


def report_from_grandchild(connection: Any, method: str) -> None:
    child = procession.get_context(method).Process(target=report, args=(connection, "os.getppid()"))
    child.start()
    child.join()


@pytest.fixture
def undecided() -> Iterator[None]:
    """Nobody has chosen a start method yet."""
    default = multiprocessing.context._default_context
    before, default._actual_context = default._actual_context, None
    yield
    default._actual_context = before


@pytest.mark.usefixtures("undecided")
def test_the_default_is_that_of_the_running_python() -> None:
    """The first of the start methods, the same as the stdlib's."""
    assert procession.get_start_method(allow_none=True) is None
    assert procession.get_all_start_methods() == multiprocessing.get_all_start_methods()
    assert procession.get_start_method() == procession.get_all_start_methods()[0]
    assert multiprocessing.get_start_method(allow_none=True) == procession.get_start_method()


@pytest.mark.usefixtures("undecided")
def test_the_start_method_is_chosen_once(start_method: str) -> None:
    """A second choice needs force; the choice is one for both packages."""
    procession.set_start_method(start_method)
    assert procession.get_start_method() == multiprocessing.get_start_method() == start_method
    assert procession.get_context() is procession.get_context(start_method)
    assert procession.get_context().Process is procession.get_context(start_method).Process
    with pytest.raises(RuntimeError, match="already been set"):
        procession.set_start_method("spawn")
    procession.set_start_method("spawn", force=True)
    assert procession.get_start_method() == "spawn"
    procession.set_start_method(None, force=True)
    assert procession.get_start_method(allow_none=True) is None


@pytest.mark.usefixtures("undecided")
def test_an_unknown_start_method_is_refused() -> None:
    """It raises the stdlib's error, and chooses nothing."""
    for use in (procession.set_start_method, procession.get_context):
        with pytest.raises(ValueError, match="cannot find context for 'threads'"):
            use("threads")
    assert procession.get_start_method(allow_none=True) is None


def test_children_know_their_start_method(ctx: Any, start_method: str) -> None:
    """Both packages agree in the child, and grandchildren start the same way."""
    ours, theirs = ctx.Pipe()
    names = ("procession.get_start_method()", "multiprocessing.get_start_method()")
    process = ctx.Process(target=report, args=(theirs, *names))
    process.start()
    assert ours.recv() == [start_method, start_method]
    process.join()


def test_processes_start_processes(ctx: Any, start_method: str) -> None:
    """A child may start children of its own, by any start method."""
    ours, theirs = ctx.Pipe()
    for inner in procession.get_all_start_methods():
        process = ctx.Process(target=report_from_grandchild, args=(theirs, inner))
        process.start()
        (grandparent,) = ours.recv()
        process.join()
        assert process.exitcode == 0
        assert (grandparent == process.pid) == (inner != "forkserver")


def test_a_fresh_interpreter_has_nothing_of_ours(pickling_ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """spawn and forkserver children get argv, path and directory, and no other state."""
    monkeypatch.setattr(sys, "argv", ["a program", "an argument"])
    monkeypatch.setattr(sys, "state_of_the_parent", True, raising=False)
    ours, theirs = pickling_ctx.Pipe()
    names = ("sys.argv", "sys.path", "os.getcwd()", "hasattr(sys, 'state_of_the_parent')")
    process = pickling_ctx.Process(target=report, args=(theirs, *names))
    process.start()
    assert ours.recv() == [sys.argv, sys.path, os.getcwd(), False]
    process.join()


def test_additions_to_the_preparation_data_arrive_first(
    pickling_ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library adds to the stdlib's preparation data is unpickled before the process object."""
    original = multiprocessing.spawn.get_preparation_data
    monkeypatch.setattr(
        multiprocessing.spawn, "get_preparation_data", lambda name: {**original(name), "more": Tattletale()}
    )
    ours, theirs = pickling_ctx.Pipe()
    process = pickling_ctx.Process(target=report, args=(theirs, "sys.tattled"))
    process.start()
    assert ours.recv() == [True]
    process.join()


def test_other_libraries_start_children_in_the_stdlibs_way() -> None:
    """With the stdlib's arguments the command line starts a child that reads what the stdlib's would."""
    from multiprocessing import context, reduction

    payload = io.BytesIO()
    process = procession.get_context("spawn").Process(target=sys.exit, args=(7,))
    context.set_spawning_popen(process._Popen)
    try:
        reduction.dump(spawn.get_preparation_data("a child"), payload)
        reduction.dump(process, payload)
    finally:
        context.set_spawning_popen(None)
    read_end, write_end = os.pipe()
    os.write(write_end, payload.getvalue())
    os.close(write_end)
    command = spawn.get_command_line(tracker_fd=None, pipe_handle=read_end)
    child = subprocess.run(command, pass_fds=[read_end])
    os.close(read_end)
    assert child.returncode == 7


def start_again_as_a_child(connection: Any) -> None:
    """Start this interpreter once more, with the same command line and whatever is inheritable."""
    command = [sys.executable, *sys.orig_argv[1:]]
    done = subprocess.run(command, close_fds=False, capture_output=True, text=True, timeout=60)
    connection.send((done.returncode, done.stderr))


def test_a_handshake_is_answered_once() -> None:
    """A program with a child's command line, which it may have from `ps`, does not join the tree."""
    here, there = procession.Pipe(duplex=False)
    process = procession.get_context("spawn").Process(target=start_again_as_a_child, args=(there,))
    process.start()
    there.close()
    code, errors = here.recv()
    process.join()
    assert code == 1
    assert "does not understand how it was started" in errors


def test_a_child_of_another_version_says_so() -> None:
    """The package was replaced while the program ran."""
    proc_id = _native.reserve_entry()
    text, descriptors = _native.offer_handshake(proc_id, False)
    form, _version, rest = text.split(":", 2)
    try:
        payload, parent = os.memfd_create("payload"), os.memfd_create("parent")
        descriptors += payload, parent
        command = spawn.get_command_line(pipe_handle=payload, handshake=f"{form}:0.0.1:{rest}", parent=parent)
        child = subprocess.run(command, pass_fds=descriptors, capture_output=True, text=True, timeout=60)
    finally:
        _native.release_entry(proc_id)
        for fd in descriptors:
            os.close(fd)
    assert child.returncode == 1
    assert "started by version 0.0.1 of Procession and has version" in child.stderr


def test_tools_replace_what_runs_a_child_that_is_started_in_the_stdlibs_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tracers put a function of theirs in the place of `spawn._main`."""
    monkeypatch.setattr(sys, "argv", ["a program", "--multiprocessing-fork"])
    monkeypatch.setattr(spawn, "_main", lambda pipe, parent: pipe)
    monkeypatch.setattr(multiprocessing.resource_tracker._resource_tracker, "_fd", None)
    read_end, write_end = os.pipe()
    with pytest.raises(SystemExit) as end:
        spawn.spawn_main(pipe_handle=read_end)
    assert end.value.code == read_end
    os.close(read_end)
    os.close(write_end)


def test_bootstrap_is_the_stdlibs_method(ctx: Any) -> None:
    """Patches of BaseProcess._bootstrap are what really runs in a child."""
    assert ctx.Process._bootstrap is multiprocessing.process.BaseProcess._bootstrap


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_interpreter_flags_and_the_packages_path_reach_the_child(run_script: Any, method: str) -> None:
    """Under -E -S -O a child has no site-packages and no PYTHONPATH; it starts all the same."""
    done = run_script(
        f"""
        import sys
        sys.path.append({os.path.dirname(os.path.dirname(procession.__file__))!r})
        import procession

        def report(connection):
            connection.send((sys.flags.ignore_environment, sys.flags.no_site, sys.flags.optimize))

        if __name__ == "__main__":
            context = procession.get_context({method!r})
            ours, theirs = context.Pipe()
            process = context.Process(target=report, args=(theirs,))
            process.start()
            print(ours.recv())
            process.join()
        """,
        flags=("-E", "-S", "-O"),
    )
    assert (done.stdout, done.stderr) == ("(1, 1, 1)\n", "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_main_script_without_a_guard_is_told(run_script: Any, method: str) -> None:
    """Starting processes while the main module is imported by a child is the stdlib's RuntimeError."""
    done = run_script(
        f"""
        import procession
        process = procession.get_context({method!r}).Process(target=print)
        process.start()
        process.join()
        print("exit code", process.exitcode)
        """
    )
    assert "exit code 1" in done.stdout
    assert "bootstrapping phase" in done.stderr and done.stderr.count("bootstrapping phase") == 1


def test_no_resource_tracker_is_started_for_our_objects(run_script: Any, start_method: str) -> None:
    """Locks, queues, values and processes need no tracker process."""
    done = run_script(
        f"""
        import procession

        def work(lock, queue, value):
            with lock:
                queue.put(value.value)

        if __name__ == "__main__":
            context = procession.get_context({start_method!r})
            queue = context.Queue()
            process = context.Process(target=work, args=(context.Lock(), queue, context.Value("i", 5)))
            process.start()
            print(queue.get())
            process.join()
            from procession import resource_tracker
            print(resource_tracker._resource_tracker._fd)
        """
    )
    assert (done.stdout, done.stderr) == ("5\nNone\n", "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_resource_tracker_that_nobody_needed_ended_well(run_script: Any, method: str) -> None:
    """A program that stops the tracker to detect leaks finds none."""
    done = run_script(
        """
        import sys
        import procession

        if __name__ == "__main__":
            process = procession.get_context(sys.argv[1]).Process(target=abs, args=(1,))
            process.start()
            process.join()
            tracker = procession.resource_tracker._resource_tracker
            tracker._stop()
            print(process.exitcode, getattr(tracker, "_exitcode", 0))
        """,
        method,
    )
    assert (done.stdout, done.stderr) == ("0 0\n", "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_resource_tracker_started_by_its_modules_function_is_that_of_the_children(
    run_script: Any, method: str
) -> None:
    """`resource_tracker.ensure_running()` starts the one that children have, and leaves no descriptor."""
    done = run_script(
        """
        import os
        import sys
        import procession

        def tell(go_on, told):
            go_on.wait()
            from multiprocessing import resource_tracker
            resource_tracker.ensure_running()
            told.put(os.fstat(resource_tracker._resource_tracker._fd).st_ino)

        if __name__ == "__main__":
            context = procession.get_context(sys.argv[1])
            go_on, told = context.Event(), context.Queue()
            process = context.Process(target=tell, args=(go_on, told))
            process.start()
            from multiprocessing import resource_tracker
            def open_pipes():
                links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
                return sum(os.path.exists(link) and "pipe:" in os.readlink(link) for link in links)
            before = open_pipes()
            resource_tracker.ensure_running()
            started = os.fstat(resource_tracker._resource_tracker._fd).st_ino
            go_on.set()
            print(told.get(timeout=30) == started, before - open_pipes())
            process.join()
        """,
        method,
    )
    assert (done.stdout, done.stderr) == ("True 2\n", "")


def test_a_missing_executable_is_an_exit_status_and_not_a_hang(pickling_ctx: Any) -> None:
    """The start fails in the child or in start, and promptly."""
    forkserver._forkserver._stop()
    before = spawn.get_executable()
    procession.set_executable("/nonexistent/python")
    try:
        process = pickling_ctx.Process(target=nothing)
        try:
            process.start()
        except EOFError as error:
            assert "fork server ended" in str(error)
        else:
            process.join()
            assert process.exitcode == 255
    finally:
        procession.set_executable(before)


def test_the_fork_server_may_be_killed(fresh_server: Any) -> None:
    """A child outlives it with an unknown exit status; the next start finds a new server."""
    context = procession.get_context("forkserver")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=wait_for_release, args=(ready, release))
    process.start()
    ready.wait()
    first = fresh_server._forkserver_pid
    os.kill(first, signal.SIGKILL)
    second = context.Process(target=nothing)
    second.start()
    second.join()
    assert second.exitcode == 0 and fresh_server._forkserver_pid != first
    assert process.is_alive()
    release.set()
    process.join()
    assert process.exitcode == 255


def test_ctrl_c_does_not_reach_the_fork_server(fresh_server: Any) -> None:
    """SIGINT goes to the whole terminal; the server ignores it and its children do not."""
    context = procession.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=report, args=(theirs, "signal.getsignal(signal.SIGINT).__name__"))
    process.start()
    assert ours.recv() == ["default_int_handler"]
    process.join()
    server = fresh_server._forkserver_pid
    os.kill(server, signal.SIGINT)
    process = context.Process(target=nothing)
    process.start()
    process.join()
    assert process.exitcode == 0 and fresh_server._forkserver_pid == server


def test_modules_may_be_preloaded(fresh_server: Any) -> None:
    """What is named is imported in the server, once for all children; what fails to import is passed over."""
    procession.set_forkserver_preload(["colorsys", "no_such_module_anywhere"])
    try:
        context = procession.get_context("forkserver")
        ours, theirs = context.Pipe()
        process = context.Process(target=report, args=(theirs, "'colorsys' in sys.modules"))
        process.start()
        assert ours.recv() == [True]
        process.join()
    finally:
        procession.set_forkserver_preload(["__main__"])
    with pytest.raises(TypeError, match="list of strings"):
        procession.set_forkserver_preload([1, 2])  # type: ignore[list-item]


def test_the_fork_server_ends_with_its_last_client(run_script: Any) -> None:
    """Nobody is left when the program has ended, even by SIGKILL."""
    done = run_script(
        """
        import os, signal, procession
        from procession import forkserver

        if __name__ == "__main__":
            process = procession.get_context("forkserver").Process(target=print, args=("child",))
            process.start()
            process.join()
            print(forkserver._forkserver._forkserver_pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    child, server = done.stdout.split()
    assert child == "child" and done.returncode == -signal.SIGKILL
    try:
        pidfd = os.pidfd_open(int(server))
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    assert poller.poll(60_000)
    os.close(pidfd)


def test_the_fork_server_has_no_address(fresh_server: Any) -> None:
    """Only its clients can ask it for processes: it does not listen, and its socket has no name."""
    child = procession.get_context("forkserver").Process(target=nothing)
    child.start()
    child.join()
    links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{fresh_server._forkserver_pid}/fd")]
    sockets = {link[len("socket:[") : -1] for link in links if link.startswith("socket:")}
    # Number, references, protocol, flags, type, state, inode and, if it has one, the name.
    unix = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    of_the_server = [fields for fields in unix if fields[6] in sockets]
    assert of_the_server
    for fields in of_the_server:
        assert len(fields) == 7
        assert not int(fields[3], 16) & ACCEPTS_CONNECTIONS
    for kind in ("tcp", "tcp6"):
        table = Path("/proc/net", kind)
        lines = table.read_text().splitlines()[1:] if table.exists() else []
        assert not sockets & {line.split()[9] for line in lines}


def test_more_descriptors_than_a_message_carries_are_refused(fresh_server: Any) -> None:
    """The kernel's limit is a ValueError, and the process table entry is released."""
    entries = _native.memory_stats()["processes"]
    many = [_Descriptor(0) for _ in range(300)]
    process = procession.get_context("forkserver").Process(target=nothing, args=(many,))
    with pytest.raises(ValueError, match="too many fds"):
        process.start()
    assert _native.memory_stats()["processes"] == entries


class _Descriptor:
    """Pickles as a descriptor that the child inherits."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _detach, (multiprocessing.reduction.DupFd(self.fd),)


def _detach(travelling: Any) -> int:
    return travelling.detach()


def read_line(fd: int, connection: Any) -> None:
    connection.send(os.read(fd, 100))


def test_descriptors_travel_to_a_child(pickling_ctx: Any) -> None:
    """DupFd gives the child a descriptor of the same open file."""
    read, write = os.pipe()
    ours, theirs = pickling_ctx.Pipe()
    process = pickling_ctx.Process(target=read_line, args=(_Descriptor(read), theirs))
    process.start()
    os.write(write, b"a line")
    assert ours.recv() == b"a line"
    process.join()
    os.close(read)
    os.close(write)


def test_a_default_timeout_for_sockets_does_not_disturb_the_fork_server(
    fresh_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """socket.setdefaulttimeout is about the program's own sockets."""
    socket.setdefaulttimeout(0.000001)
    try:
        process = procession.get_context("forkserver").Process(target=nothing)
        process.start()
        process.join()
    finally:
        socket.setdefaulttimeout(None)
    assert process.exitcode == 0


def test_a_program_may_have_a_long_command_line(ctx, monkeypatch):
    """Longer than one argument of a process may be: children get it all the same."""
    forkserver._forkserver._stop()
    monkeypatch.setattr(sys, "argv", ["a program", *["argument" * 10_000] * 5])
    here, there = ctx.Pipe()
    child = ctx.Process(target=send_argv, args=(there,))
    child.start()
    assert here.recv() == sys.argv
    child.join()
    forkserver._forkserver._stop()


def send_argv(end):
    end.send(sys.argv)


def test_threads_may_start_their_first_processes_at_the_same_time(start_method):
    """Modules for a start are loaded when first needed, and no thread gets a partial one."""
    program = f"""
import sys, threading
import procession

def start(gate):
    gate.wait()
    process = context.Process(target=print)
    process.start()
    process.join()
    codes.append(process.exitcode)

if __name__ == "__main__":
    sys.setswitchinterval(1e-6)
    context, codes, gate = procession.get_context({start_method!r}), [], threading.Barrier(6)
    threads = [threading.Thread(target=start, args=(gate,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 6, codes
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, stdout=subprocess.DEVNULL)


def exit_with_the_collectors_state() -> None:
    """Run in a child: 0 if garbage is collected there."""
    raise SystemExit(0 if gc.isenabled() else 1)


def test_garbage_is_collected_in_a_child(ctx: Any) -> None:
    """It is not while an interpreter starts, but it is when the program begins."""
    child = ctx.Process(target=exit_with_the_collectors_state)
    child.start()
    child.join()
    assert child.exitcode == 0


def test_subprocess_is_loaded_when_it_is_needed(run_script: Any) -> None:
    """Importing the package leaves it out; it is the real one whoever imports it then."""
    done = run_script(
        """
        import sys
        import procession
        from procession import util

        print("subprocess" in sys.modules)
        import subprocess
        print(subprocess.__file__ is not None, callable(subprocess.run))
        print(util._args_from_interpreter_flags() == subprocess._args_from_interpreter_flags())
        """,
        flags=("-W", "ignore", "-X", "dev"),
    )
    assert done.stdout.split() == ["False", "True", "True", "True"], done.stderr
