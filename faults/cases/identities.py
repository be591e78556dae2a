"""Recycled descriptor and process numbers, and an environment that belongs to another user."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.subject import ctx, fault, ours, promptly, start

MEBIBYTE = 1 << 20
NEWUSER, NEWPID, NEWNS = 0x10000000, 0x20000000, 0x00020000
MS_REC_PRIVATE = 0x4000 | 1 << 18
# A group that the starting user is not in.
SETGID, SOME_GROUP = 0o2755, 1


def open_at_all(numbers: list[int], open_one: Callable[[], int]) -> None:
    """Close every descriptor, as daemons do, and reopen all their numbers on one file."""
    os.closerange(3, 4096)
    fd = open_one()
    for number in numbers:
        if number != fd:
            os.dup2(fd, number)


def descriptors() -> list[int]:
    return [fd for fd in range(3, 1024) if os.path.exists(f"/proc/self/fd/{fd}")]


@fault("all descriptors are closed, and a data file gets their numbers: it stays as it is", extension=True)
def data_file_gets_the_numbers() -> None:
    box = ctx.Queue()
    for content in (os.urandom(MEBIBYTE), bytes(MEBIBYTE)):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "data")
            Path(path).write_bytes(content * 16)
            for _ in range(3):
                box.put(bytes(9 * MEBIBYTE))
            open_at_all(descriptors(), lambda path=path: os.open(path, os.O_RDWR))
            for _ in range(3):
                assert len(box.get(timeout=20)) == 9 * MEBIBYTE
            for size in (5000, 5 * MEBIBYTE, 20 * MEBIBYTE):
                box.put(b"x" * size)
                assert len(box.get(timeout=20)) == size
            process = start(box.put, "from a child")
            assert box.get(timeout=20) == "from a child"
            process.join()
            assert Path(path).read_bytes() == content * 16


@fault("all descriptors are closed, and a stranger's pidfd gets their numbers: no signal goes there")
def pidfd_gets_the_numbers() -> None:
    line = ctx.Queue()
    process = start(stay, line)
    assert line.get(timeout=20) == "there"
    with subprocess.Popen(["sleep", "60"]) as stranger:
        open_at_all(descriptors(), lambda: os.pidfd_open(stranger.pid))
        with promptly():
            assert process.is_alive() and process.exitcode is None
            process.terminate()
            process.join()
            assert not process.is_alive()
        assert stranger.poll() is None
        stranger.kill()


def stay(line: Any) -> None:
    line.put("there")
    time.sleep(60)


def sandboxed(work: Callable[..., None], *args: Any) -> None:
    """Run it as the first process of a PID namespace with its own /proc, where that is allowed."""
    libc = ctypes.CDLL(None)
    if libc.unshare(NEWPID | NEWNS | (0 if os.geteuid() == 0 else NEWUSER)) != 0:
        return
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None)
            assert libc.mount(b"proc", b"/proc", b"proc", 0, None) == 0
            work(*args)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 255)


def by_a_thread(make: Callable[[], Any]) -> Any:
    """Make an object in a thread that then ends."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(make()))
    thread.start()
    thread.join()
    return made[0]


def look_around(lock: Any, box: Any) -> None:
    assert not lock.acquire(timeout=0.3)
    for _ in range(10):
        ctx.Queue().put(b"x" * 5000)
    child = start(box.put, "from inside")
    child.join()
    assert child.exitcode == 0


@fault("a child in a PID namespace of its own looks for the dead: its parent is none of them")
def sandboxed_child() -> None:
    lock, box = by_a_thread(lambda: (ctx.Lock(), ctx.Queue()))
    lock.acquire()
    process = start(sandboxed, look_around, lock, box)
    while process.is_alive():
        other = start(time.sleep, 0)
        other.join()
    assert process.exitcode == 0
    lock.release()
    assert box.empty() or box.get(timeout=5) == "from inside"


def hold_and_vanish(lock: Any, box: Any) -> None:
    lock.acquire()
    box.put("held")
    os.kill(os.getpid(), signal.SIGKILL)


def sandbox_of(work: Callable[..., None], lock: Any, box: Any) -> None:
    sandboxed(start_inside, work, lock, box)
    box.put("refused")


def start_inside(work: Callable[..., None], lock: Any, box: Any) -> None:
    start(work, lock, box).join()


@fault("the holder of a Lock is killed in a PID namespace of its own", extension=True)
def sandboxed_holder_dies() -> None:
    lock, box = ctx.Lock(), ctx.Queue()
    process = start(sandbox_of, hold_and_vanish, lock, box)
    if box.get(timeout=20) == "held":
        with promptly():
            try:
                lock.acquire(timeout=20)
                raise AssertionError("no OwnerDied")
            except ours.OwnerDied:
                pass
    process.join()


@fault(
    "a Lock's holder, whose lock was made by a thread that has ended, becomes another program", extension=True
)
def exec_after_a_thread() -> None:
    told, tell = os.pipe()
    os.set_inheritable(tell, True)
    holder = os.fork()
    if holder == 0:
        hold_and_become(tell)
    os.close(tell)
    with open(told) as answer, promptly():
        assert answer.readline() == "OwnerDied\n"
    os.waitpid(holder, 0)


def hold_and_become(tell: int) -> None:
    lock = by_a_thread(ctx.Lock)
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        try:
            lock.acquire(timeout=15)
            os.write(tell, b"acquired\n")
        except ours.OwnerDied:
            os.write(tell, b"OwnerDied\n")
        os._exit(0)
    # It keeps its process number until the other process has ended.
    os.execv(sys.executable, [sys.executable, "-c", f"import os; os.waitpid({pid}, 0)"])


@fault("an interpreter with rights beyond its starter's finds the switch in its environment", extension=True)
def elevated_interpreter() -> None:
    if os.geteuid() != 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        python = os.path.join(folder, "python")
        shutil.copy(os.path.realpath(sys.executable), python)
        os.chown(python, 0, SOME_GROUP)
        os.chmod(python, SETGID)
        home = os.path.dirname(os.path.dirname(os.path.abspath(ours.__file__)))
        tell = (
            f"import os, sys; sys.path.insert(0, {home!r}); import _procession_alias; "
            "_procession_alias.look(); import multiprocessing; "
            "print(os.getgid() != os.getegid(), multiprocessing.__name__)"
        )
        environment = {**os.environ, "PROCESSION_INSTALL": "1", "PYTHONHOME": sys.base_prefix}
        run = subprocess.run([python, "-S", "-c", tell], capture_output=True, text=True, env=environment)
        # A file system mounted nosuid ignores the bit: the interpreter has its starter's rights only.
        assert run.stdout in ("True multiprocessing\n", "False procession\n"), run
