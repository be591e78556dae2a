"""Programs that close every descriptor, as daemons do, go on to work and damage no file."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Run = Callable[..., "CompletedProcess[str]"]

DAEMON = """
    import ctypes, os
    import procession as mp

    METHOD, PARENT, RIGHTS, EARLIER = "{method}", "{parent}", "{rights}", {earlier}

    def work(box):
        box.put("from a child")

    def give_up_rights():
        # What is left is what the process of any user may do.
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None, use_errno=True).capset(header, none) == 0, ctypes.get_errno()

    def use(lock, value, old):
        ctx = mp.get_context(METHOD)
        with lock:
            value.value += 1
        print("kept", value.value, old.get(timeout=20))
        old.put(b"x" * 3_000_000)
        print("sent", len(old.get(timeout=20)))
        box = ctx.Queue()
        child = ctx.Process(target=work, args=(box,))
        child.start()
        print(box.get(timeout=20))
        child.join()
        with ctx.Pool(2) as pool:
            print(pool.map(abs, [-1, -2]))

    if __name__ == "__main__":
        lock, value, old = mp.Lock(), mp.Value("i", 6), mp.Queue()
        if EARLIER:
            # A server, sentinels and lines that the daemon is not to take for its own.
            earlier = mp.get_context(METHOD).Process(target=work, args=(old,), daemon=True)
            earlier.start()
            print(old.get(timeout=20))
            earlier.join()
        old.put("put before")
        if RIGHTS == "none":
            give_up_rights()
        until_parent_ends, parent_runs = os.pipe()
        pid = os.fork()
        if pid:
            if PARENT == "lives":
                os.waitpid(pid, 0)
            os._exit(0)
        os.setsid()
        os.close(parent_runs)
        if PARENT == "gone":
            os.read(until_parent_ends, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        try:
            use(lock, value, old)
        except Exception as error:
            print(f"{{type(error).__name__}}: {{error}}")
"""

KEPT = "kept 7 put before\nsent 3000000\n"
ALL_WORKS = KEPT + "from a child\n[1, 2]\n"


@pytest.mark.parametrize("parent, rights", [("lives", "all"), ("lives", "none"), ("gone", "all")])
def test_a_daemon_uses_what_it_had_and_makes_anew(
    run_script: Run, start_method: str, parent: str, rights: str
) -> None:
    """Locks, values and messages survive; new queues, processes and pools work."""
    ran = run_script(DAEMON.format(method=start_method, parent=parent, rights=rights, earlier=False))
    assert (ran.stdout, ran.stderr) == (ALL_WORKS, "")


def test_a_daemon_starts_processes_as_its_parent_did_before(run_script: Run, start_method: str) -> None:
    """The descriptors that its parent used for starts are closed, too."""
    ran = run_script(DAEMON.format(method=start_method, parent="lives", rights="all", earlier=True))
    assert (ran.stdout, ran.stderr) == ("from a child\n" + ALL_WORKS, "")


def test_a_daemon_alone_and_without_rights_forks(run_script: Run) -> None:
    """It cannot get the descriptor of the memory back; the existing mapping suffices."""
    ran = run_script(DAEMON.format(method="fork", parent="gone", rights="none", earlier=False))
    assert (ran.stdout, ran.stderr) == (ALL_WORKS, "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_daemon_alone_and_without_rights_is_told_why_it_cannot_start_programs(
    run_script: Run, method: str
) -> None:
    """Existing objects work on, and the error says what happened and what to do."""
    ran = run_script(DAEMON.format(method=method, parent="gone", rights="none", earlier=False))
    assert ran.stdout.startswith(
        f"{KEPT}RuntimeError: this process closed the descriptor of its shared memory"
    )
    assert "leave that descriptor open" in ran.stdout


REUSED = """
    import os, sys
    import procession as mp

    MIB = 1 << 20

    def open_at(number, path):
        # As a program does it that opens files until it has one with that number.
        first = os.open(path, os.O_RDWR)
        os.dup2(first, number)

    def check(path, size):
        assert os.stat(path).st_size == size, os.stat(path).st_size
        with open(path, "rb") as file:
            for number in range(size // MIB):
                assert file.read(MIB) == CONTENT, f"MiB {{number}} of the file is another"

    if __name__ == "__main__":
        CONTENT = {content}
        box = mp.Queue()
        for _ in range(8):
            box.put(bytes(9 * MIB))
        kept = [box.get() for _ in range(2)]
        theirs = [fd for fd in range(3, 1024) if os.path.exists(f"/proc/self/fd/{{fd}}")]
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        with open("mine", "wb") as file:
            for _ in range(16):
                file.write(CONTENT)
        for number in [*theirs, 600]:
            open_at(number, "mine")
        for _ in range(6):
            assert len(box.get(timeout=20)) == 9 * MIB
        for size in (1, 5000, 5 * MIB, 40 * MIB, 80 * MIB):
            box.put(b"z" * size)
            assert box.get(timeout=20) == b"z" * size
        arrays = mp.Queue()
        arrays.put(bytearray(MIB))
        array = arrays.get(timeout=20)
        child = mp.get_context("fork").Process(target=array.__setitem__, args=(0, 1))
        child.start()
        child.join()
        assert (child.exitcode, array[0]) == (0, 0)
        del box, arrays, kept
        check("mine", 16 * MIB)
        # None of the numbers was closed either.
        assert all(os.fstat(number).st_size == 16 * MIB for number in theirs)
        print("unharmed")
"""


@pytest.mark.parametrize("content", ["os.urandom(MIB)", "bytes(MIB)"])
def test_a_file_that_gets_the_number_of_the_shared_memory_is_not_touched(
    run_script: Run, content: str
) -> None:
    """Neither written to, nor punched, nor made longer, nor closed."""
    ran = run_script(REUSED.format(content=content))
    assert (ran.stdout, ran.stderr) == ("unharmed\n", "")


def test_a_socket_that_gets_the_number_of_a_pipe_is_not_touched(run_script: Run) -> None:
    """Nothing is sent to it, read from it or closed; the pipe ends when every message was received."""
    program = """
    import os, socket
    import procession as mp

    a, b = mp.Pipe()
    a.fileno(), b.fileno()
    b.send("before")
    theirs = [fd for fd in range(3, 1024) if os.path.exists(f"/proc/self/fd/{fd}")]
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    mine, peer = socket.socketpair()
    for number in theirs:
        if number not in (mine.fileno(), peer.fileno()):
            os.dup2(mine.fileno(), number)
    peer.send(b"for me")
    print(a.recv())
    a.send("after")
    b.send("after")
    for use in (a.recv, b.recv, a.recv, b.recv):
        try:
            print(use())
        except (EOFError, OSError) as error:
            print(type(error).__name__)
    a.close()
    b.close()
    del a, b
    child = mp.get_context("fork").Process(target=print, args=("a child",), daemon=True)
    child.start()
    child.join()
    print(mine.recv(100))
    peer.setblocking(False)
    try:
        print(peer.recv(100))
    except BlockingIOError:
        print("nothing was sent")
    mine.send(b"it is open")
    print(peer.recv(100), all(os.fstat(number) for number in theirs))
    """
    ran = run_script(program)
    said = ["before", "after", "after", "EOFError", "EOFError"]
    said += ["a child", "b'for me'", "nothing was sent", "b'it is open' True"]
    assert (ran.stdout.splitlines(), ran.stderr) == (said, "")


def test_daemons_started_before_all_was_closed_and_after(run_script: Run, start_method: str) -> None:
    """A closed lifeline is recreated; daemons do not depend on a file that took its number."""
    program = """
    import os
    import procession as mp

    def work(box):
        box.put("a daemon")

    if __name__ == "__main__":
        ctx = mp.get_context("{method}")
        box = ctx.Queue()
        def start():
            daemon = ctx.Process(target=work, args=(box,), daemon=True)
            daemon.start()
            print(box.get(timeout=20))
            daemon.join()
        start()
        numbers = [fd for fd in range(3, 1024) if os.path.exists(f"/proc/self/fd/{{fd}}")]
        if os.fork() == 0:
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            read, write = os.pipe()
            for number in numbers:
                if number not in (read, write):
                    os.dup2(read, number)
            mp.current_process()._config["semprefix"] = "/mp"
            start()
            os.write(write, b"x")
            print(os.read(read, 1))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    method = "fork" if start_method == "forkserver" else start_method
    ran = run_script(program.format(method=method))
    assert (ran.stdout.splitlines(), ran.stderr) == (["a daemon", "a daemon", "b'x'", "0"], "")


def test_shared_memory_never_gets_the_number_of_a_standard_stream(run_script: Run) -> None:
    """A program started without standard streams may have C code that writes to them."""
    program = """
    import os
    import procession as mp
    from procession import _native

    out = os.dup(1)
    for number in (0, 1, 2):
        os.close(number)
    queue, (a, b) = mp.Queue(), mp.Pipe()
    number = _native.arena_fd()
    os.dup2(out, 1)
    print(number > 2, number)
    """
    ran = run_script(program)
    assert ran.stdout.startswith("True"), ran


@pytest.mark.parametrize("other", ["nothing", "a file", "another process"])
def test_a_child_is_known_and_signalled_though_its_sentinel_was_closed(
    run_script: Run, start_method: str, other: str
) -> None:
    """Whatever took its number is neither waited for nor ended."""
    program = """
    import os, subprocess, sys, time
    import procession as mp

    METHOD, OTHER = sys.argv[1:]

    def stay(line):
        line.put("there")
        time.sleep(60)

    if __name__ == "__main__":
        ctx = mp.get_context(METHOD)
        line = ctx.Queue()
        child = ctx.Process(target=stay, args=(line,))
        child.start()
        print(line.get(timeout=20))
        stranger = subprocess.Popen(["sleep", "60"])
        theirs = [fd for fd in range(3, 1024) if os.path.exists(f"/proc/self/fd/{fd}")]
        assert child.sentinel in theirs
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        mine = None
        if OTHER == "a file":
            mine = os.open(__file__, os.O_RDONLY)
        elif OTHER == "another process":
            mine = os.pidfd_open(stranger.pid)
        for number in theirs:
            if mine not in (None, number):
                os.dup2(mine, number)
        print(child.is_alive(), child.exitcode, child.join(0.01))
        child.terminate()
        child.join()
        print(child.is_alive(), child.exitcode, stranger.poll())
        child.close()
        if mine is not None:
            assert all(os.fstat(number).st_ino == os.fstat(mine).st_ino for number in theirs)
        stranger.kill()
        stranger.wait()
    """
    ran = run_script(program, start_method, other)
    # No one reads the fork server's messages any more.
    code = {"forkserver": 255}.get(start_method, -15)
    said = ["there", "True None None", f"False {code} None"]
    assert (ran.stdout.splitlines(), ran.stderr) == (said, "")


BEATS = """
import os, sys, time
import procession as mp

def beat(beats, stop):
    while not stop.is_set():
        beats.value += 1
        time.sleep(0.01)

def become_a_daemon():
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)

def close_all():
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))

if __name__ == "__main__":
    ctx = mp.get_context({method!r})
    manager = ctx.Manager()
    plain, pickled = manager.dict(a=1), manager.list([object])
    beats, stop = ctx.RawValue("q", 0), ctx.Event()
    daemon = ctx.Process(target=beat, args=(beats, stop), daemon=True)
    daemon.start()
    for step in {steps}:
        step()
    seen = beats.value
    while beats.value < seen + 20:
        time.sleep(0.01)
    plain["b"] = 2
    print(dict(plain), len(pickled), flush=True)
    stop.set()
    os._exit(0)
"""


@pytest.mark.parametrize(
    "steps", ["close_all,", "become_a_daemon,", "become_a_daemon, close_all", "close_all, become_a_daemon"]
)
def test_what_a_program_started_goes_on_though_it_closes_all_or_becomes_a_daemon(
    run_script: Run, start_method: str, steps: str
) -> None:
    """Daemons and managers go on: a closed descriptor is not the end of a program."""
    ran = run_script(BEATS.format(method=start_method, steps=f"({steps})"))
    assert (ran.stdout.splitlines(), ran.stderr) == (["{'a': 1, 'b': 2} 1"], "")
